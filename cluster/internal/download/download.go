// Package download fetches one small file from a URL: within a time, up to a size, over TLS unless it
// is this machine. What it returns is as untrusted as the network it came over.
package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Limits of one download.
const (
	Timeout  = 10 * time.Second
	MaxBytes = 16 << 20
	maxHops  = 3
)

// IsURL tells whether a name is a URL and not a path.
func IsURL(name string) bool {
	lower := strings.ToLower(name)
	return strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://")
}

// Plain tells whether a URL is not protected by TLS.
func Plain(name string) bool { return strings.HasPrefix(strings.ToLower(name), "http://") }

func allowed(u *url.URL) error {
	switch {
	case u.Hostname() == "":
		return errors.New("it names no host")
	case u.User != nil:
		return errors.New("it has a name or password in it")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return fmt.Errorf("the scheme %.20q isn't fetched", u.Scheme)
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return errors.New("over plain HTTP anybody on the way could change it")
}

// follow says whether a redirection is followed.
func follow(req *http.Request, via []*http.Request) error {
	if len(via) > maxHops {
		return fmt.Errorf("it was sent on more than %d times", maxHops)
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errors.New("it was sent on from https to plain HTTP")
	}
	return allowed(req.URL)
}

// Get returns the body of a URL.
func Get(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("it is not a URL")
	}
	if err := allowed(u); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: follow}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("it is not a URL")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no whole answer in time (at most %s): %w", Timeout, err)
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers HTTP %d", resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, MaxBytes+1))
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no whole answer in time (at most %s): %w", Timeout, err)
	}
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("it has more than %d MiB", MaxBytes>>20)
	}
	return raw, nil
}
