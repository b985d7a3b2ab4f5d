package zkwasm

import (
	"errors"
	"fmt"
	"net/netip"
	neturl "net/url"
	"strconv"
	"strings"
)

// Server is the address of a hub.
type Server struct {
	URL    string
	Host   string
	Port   int
	Secure bool
}

// ParseServer reads the URL of a hub: http or https, a host, maybe a port and a path.
// A user name or password in it is refused: it would stand in files and logs.
func ParseServer(s string) (Server, error) {
	u, err := neturl.Parse(s)
	said := s // without what may hold a token
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		said = s[:i] + "…"
	}
	switch {
	case s == "":
		return Server{}, errors.New("it is empty")
	case len(s) > 2048:
		return Server{}, errors.New("it is too long")
	case err != nil:
		return Server{}, errors.New("it is no URL")
	case u.User != nil || u.Host == "" && strings.Contains(s, "@"): // the second: without https:// before them
		return Server{}, errors.New("it holds a user name or password")
	case u.Scheme != "http" && u.Scheme != "https":
		return Server{}, fmt.Errorf("%.60q does not begin with https:// or http://", said)
	case u.Hostname() == "" || strings.ContainsAny(u.Hostname(), " _%"):
		return Server{}, fmt.Errorf("%.60q names no host", said)
	case u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(s, "?") || strings.HasSuffix(s, "#"):
		return Server{}, fmt.Errorf("%.60q has a ? or # part", said)
	case strings.HasSuffix(u.Path, "/"):
		return Server{}, fmt.Errorf("%.60q ends with /: the node puts its own paths behind it", s)
	}
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || r == '"' || r == '\'' || r == '\\' || r == '$' || r == '`' {
			return Server{}, fmt.Errorf("%.60q holds a character that no URL of a hub needs", s)
		}
	}
	out := Server{URL: s, Host: u.Hostname(), Secure: u.Scheme == "https", Port: 80}
	if out.Secure {
		out.Port = 443
	}
	if p := u.Port(); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 65535 {
			return Server{}, fmt.Errorf("%.60q: port %s is not between 1 and 65535", s, p)
		}
		out.Port = n
	} else if strings.HasSuffix(u.Host, ":") {
		return Server{}, fmt.Errorf("%.60q: there is no port behind the colon", s)
	}
	return out, nil
}

// Local tells whether the host is this machine. The shipped files name such a place as a placeholder.
func (s Server) Local() bool {
	a, err := netip.ParseAddr(s.Host)
	return s.Host == "localhost" || err == nil && a.IsLoopback()
}
