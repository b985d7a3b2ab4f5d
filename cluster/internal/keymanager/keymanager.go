// Package keymanager is a client of the Ethereum keymanager API (github.com/ethereum/keymanager-APIs):
// it hands key shares to a validator client, takes them back, and does nothing else.
//
// Servers are not trusted: answers are bounded and every status is looked at. No error carries a
// token, a password or a keystore, even when a server sends them back. Connections go straight to the
// address, past any proxy, and redirections are refused. Every call blocks until it is answered or its
// context ends, and may be made from any goroutine.
package keymanager

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"app.provost/cluster"
	"app.provost/cluster/internal/keystore"
)

// Limits on what is taken from elsewhere.
const (
	MaxTokenFileBytes = 1 << 20
	maxTokenBytes     = 4 << 10
	maxAnswerBytes    = 16 << 20
	checkTimeout      = 10 * time.Second
	importTimeout     = 30 * time.Second // and importPerKey for each
	importPerKey      = 5 * time.Second  // servers derive a key for each
	maxMessage        = 160
)

var errPrinted = errors.New("a token can't be encoded")

// ErrNoAnswer means that a request or its answer was lost, or that the server failed for the moment:
// asking again may help.
var ErrNoAnswer = errors.New("there was no answer")

// lost marks an error as ErrNoAnswer without changing its text.
type lost struct{ error }

func (l lost) Is(target error) bool { return target == ErrNoAnswer }
func (l lost) Unwrap() error        { return l.error }

// Token authorises at one server. Its zero value is none. It prints as [secret] and refuses to be
// encoded.
type Token struct {
	t *string // a pointer, since fmt prints unexported strings of foreign structs
}

// String returns "[secret]".
func (Token) String() string { return "[secret]" }

// GoString returns "[secret]".
func (Token) GoString() string { return "[secret]" }

// Format prints "[secret]" whatever the verb is.
func (Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// LogValue logs "[secret]".
func (Token) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalJSON always fails.
func (Token) MarshalJSON() ([]byte, error) { return nil, errPrinted }

// MarshalText always fails.
func (Token) MarshalText() ([]byte, error) { return nil, errPrinted }

// ParseTokens reads a file of tokens, one a line. Empty lines and lines that begin with # are not
// tokens. Errors name the line.
func ParseTokens(file []byte) ([]Token, error) {
	if len(file) > MaxTokenFileBytes {
		return nil, fmt.Errorf("the file has %d bytes, at most %d are allowed", len(file), MaxTokenFileBytes)
	}
	var out []Token
	n := 0
	for line := range strings.Lines(string(file)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "Bearer "); ok {
			line = strings.TrimSpace(rest)
		}
		if len(line) > maxTokenBytes || strings.ContainsFunc(line, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("line %d is not a token: want printable ASCII without spaces, at most %d characters", n, maxTokenBytes)
		}
		out = append(out, Token{&line})
	}
	return out, nil
}

// Client talks to one server. It is made by New.
type Client struct {
	base  *url.URL
	token Token
	http  *http.Client
}

// New checks an address, as in https://vc0.example:5062, and returns a client of it.
func New(address string, token Token) (*Client, error) {
	if token.t == nil {
		return nil, errors.New("there is no token")
	}
	u, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	c := &Client{base: u, token: token}
	c.http = &http.Client{
		Transport:     &http.Transport{TLSHandshakeTimeout: checkTimeout, DialContext: (&net.Dialer{Timeout: checkTimeout}).DialContext, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// ParseAddress checks the address of a server. Nothing secret may stand in it.
func ParseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || len(address) > 2048:
		return nil, errors.New("it is not a URL") // the parser's own text repeats the address, password included
	case u.User != nil:
		return nil, errors.New("it has a name or password in it; tokens belong into the tokens file")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, fmt.Errorf("%q is not an address: want a URL like https://host:5062", address)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q has more than a host and a path", address)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// Exposed tells whether what is sent to an address can be read on the way: plain HTTP to another
// machine.
func Exposed(u *url.URL) bool {
	if u.Scheme != "http" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Check asks for the list of keystores: it tells whether the server is there, speaks the API and takes
// the token.
func (c *Client) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var answer struct {
		Data *[]json.RawMessage `json:"data"`
	}
	if err := c.call(ctx, http.MethodGet, nil, nil, &answer); err != nil {
		return err
	}
	if answer.Data == nil {
		return errors.New("the answer has no list of keystores: is it the keymanager API of a validator client?")
	}
	return nil
}

// Item is one keystore with its password.
type Item struct {
	PubKey   cluster.PubKey
	Keystore []byte
	Password keystore.Password
}

// State is what became of one key.
type State string

// The states of the API. The zero value is none of them.
const (
	Imported  State = "imported"
	Duplicate State = "duplicate" // the server had the key already
	Failed    State = "error"
	Deleted   State = "deleted"
	NotActive State = "not_active"
	NotFound  State = "not_found"
)

// Status is the answer for one key, in the order of the question.
type Status struct {
	State   State
	Message string // of the server, shortened and cleaned
}

// Import hands keystores over, with the EIP-3076 history that belongs to them ("" for none). On an
// error the server may or may not have taken some of them.
func (c *Client) Import(ctx context.Context, items []Item, history string) ([]Status, error) {
	ctx, cancel := context.WithTimeout(ctx, importTimeout+time.Duration(len(items))*importPerKey)
	defer cancel()
	type order struct {
		Keystores []string `json:"keystores"`
		Passwords []string `json:"passwords"`
		History   string   `json:"slashing_protection,omitempty"`
	}
	var o order
	var secrets []string
	for _, it := range items {
		password := string(it.Password.Export())
		o.Keystores, o.Passwords = append(o.Keystores, string(it.Keystore)), append(o.Passwords, password)
		secrets = append(secrets, password)
	}
	o.History = history
	return c.statuses(ctx, http.MethodPost, o, secrets, len(items), Imported, Duplicate, Failed)
}

// Delete takes keys back.
func (c *Client) Delete(ctx context.Context, keys []cluster.PubKey) ([]Status, error) {
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	type order struct {
		PubKeys []string `json:"pubkeys"`
	}
	var o order
	for _, k := range keys {
		o.PubKeys = append(o.PubKeys, k.String())
	}
	return c.statuses(ctx, http.MethodDelete, o, nil, len(keys), Deleted, NotActive, NotFound, Failed)
}

func (c *Client) statuses(ctx context.Context, method string, order any, secrets []string, want int, known ...State) ([]Status, error) {
	body, err := json.Marshal(order)
	if err != nil {
		return nil, errors.New("the request could not be encoded")
	}
	defer clear(body)
	var answer struct {
		Data []struct {
			Status  State  `json:"status"`
			Message string `json:"message"`
		} `json:"data"`
	}
	if err := c.call(ctx, method, body, secrets, &answer); err != nil {
		return nil, err
	}
	if len(answer.Data) != want {
		return nil, fmt.Errorf("the answer has %d statuses for %d keys", len(answer.Data), want)
	}
	out := make([]Status, want)
	for i, d := range answer.Data {
		if !slices.Contains(known, d.Status) {
			return nil, fmt.Errorf("the answer has a status that isn't known: %s", c.clean(string(d.Status), secrets))
		}
		out[i] = Status{d.Status, c.clean(d.Message, secrets)}
	}
	return out, nil
}

func (c *Client) call(ctx context.Context, method string, body []byte, secrets []string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+"/eth/v1/keystores", bytes.NewReader(body))
	if err != nil {
		return errors.New("the request could not be made")
	}
	req.Header.Set("Authorization", "Bearer "+*c.token.t)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the address is named by the caller
		}
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return fmt.Errorf("%w (for a certificate of your own name its authority's file with the variable SSL_CERT_FILE)", err)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer in time: %w", err)
		}
		return lost{err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return lost{fmt.Errorf("read the answer: %w", err)}
	case len(raw) > maxAnswerBytes:
		return fmt.Errorf("the answer has more than %d MiB", maxAnswerBytes>>20)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("the server refuses the token (HTTP %d)", resp.StatusCode)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("the server sends elsewhere (HTTP %d), which isn't followed", resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		var told struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(raw, &told) // without a message the number has to do
		err := fmt.Errorf("the server answers HTTP %d", resp.StatusCode)
		if told.Message != "" {
			err = fmt.Errorf("the server answers HTTP %d: %s", resp.StatusCode, c.clean(told.Message, secrets))
		}
		if resp.StatusCode >= 500 {
			return lost{err}
		}
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return errors.New("the answer is not the JSON that the API says")
	}
	return nil
}

// clean makes foreign text fit to be told: no secret, no control characters, not long.
func (c *Client) clean(text string, secrets []string) string {
	for _, s := range append([]string{*c.token.t}, secrets...) {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[secret]")
		}
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > maxMessage {
		text = string(runes[:maxMessage]) + "…"
	}
	return text
}
