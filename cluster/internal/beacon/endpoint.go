package beacon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"app.provost/cluster"
)

// Status says whether a beacon node can be used.
type Status string

// The states of an endpoint.
const (
	StatusUnknown      Status = "unknown" // not asked yet
	StatusUp           Status = "up"
	StatusSyncing      Status = "syncing"
	StatusOptimistic   Status = "optimistic" // or its execution node is offline
	StatusWrongNetwork Status = "wrong_network"
	StatusDown         Status = "down"
)

// Endpoint is what is known of one beacon node.
type Endpoint struct {
	Name         string // scheme and host, no secrets
	Fallback     bool
	Status       Status
	Reason       string    // why it isn't up, "" when it is
	Since        time.Time // of the status
	Version      string    // as the node names itself, "" when unknown
	HeadSlot     cluster.Slot
	SyncDistance uint64
	Peers        *int          // connected to the node, nil when unknown
	Latency      time.Duration // of a small request, smoothed; 0 when unknown
	Streaming    bool          // its event stream is open
	Failed       uint64        // requests without a good answer
}

type endpoint struct {
	base     *url.URL
	name     string
	fallback bool
	checking chan struct{} // holds one token while the node is being checked

	mu       sync.Mutex // guards what follows; held for no call
	state    Endpoint
	jsonOnly map[string]bool // requests whose SSZ the node refused
}

func (e *endpoint) snapshot() Endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

func (c *Client) update(e *endpoint, change func(*Endpoint)) {
	e.mu.Lock()
	old := e.state
	change(&e.state)
	if e.state.Status != old.Status {
		e.state.Since = time.Now()
	}
	now := e.state
	e.mu.Unlock()
	if now.Status != old.Status {
		level := c.o.Logger.Info
		if now.Status != StatusUp {
			level = c.o.Logger.Warn
		}
		level("beacon node is "+strings.ReplaceAll(string(now.Status), "_", " "), "endpoint", now.Name, "reason", now.Reason)
	}
	if c.o.OnEndpoint != nil && now != old {
		c.o.OnEndpoint(now)
	}
}

// watch keeps an endpoint's state until ctx ends.
func (c *Client) watch(ctx context.Context, e *endpoint) error {
	tick := time.NewTicker(c.o.PollEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		if err := c.check(ctx, e); err == nil && n%12 == 0 {
			c.introduce(ctx, e)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// check asks an endpoint for its network and its health, and writes down what it finds. One check
// runs at a time; who comes second waits for it.
func (c *Client) check(ctx context.Context, e *endpoint) *Error {
	select {
	case e.checking <- struct{}{}:
		defer func() { <-e.checking }()
	case <-ctx.Done():
		return &Error{Op: "health", Endpoint: e.name, Kind: transportKind(ctx.Err()), cause: ctx.Err()}
	}
	status, err := c.diagnose(ctx, e)
	if err != nil && err.Kind == KindCanceled {
		return err
	}
	c.update(e, func(s *Endpoint) {
		s.Status, s.Reason = status, ""
		if err != nil {
			s.Reason = err.Error()
		}
	})
	return err
}

func (c *Client) diagnose(ctx context.Context, e *endpoint) (Status, *Error) {
	g, err := c.genesis(ctx, e)
	if err != nil {
		return StatusDown, err
	}
	if cause := c.accept(g); cause != nil {
		return StatusWrongNetwork, &Error{Op: "genesis", Endpoint: e.name, Kind: KindWrongNetwork, cause: cause}
	}
	start := time.Now()
	s, err := c.syncing(ctx, e)
	if err != nil {
		if err.Kind == KindSyncing {
			return StatusSyncing, err
		}
		return StatusDown, err
	}
	took := time.Since(start)
	c.update(e, func(st *Endpoint) {
		st.HeadSlot, st.SyncDistance = cluster.Slot(s.HeadSlot), uint64(s.SyncDistance)
		if st.Latency == 0 {
			st.Latency = took
		}
		st.Latency += (took - st.Latency) / 4
	})
	switch {
	case s.Syncing:
		return StatusSyncing, &Error{Op: "health", Endpoint: e.name, Kind: KindSyncing, cause: fmt.Errorf("the node is %d slots behind: wait for it or name another", s.SyncDistance)}
	case s.Optimistic:
		return StatusOptimistic, &Error{Op: "health", Endpoint: e.name, Kind: KindOptimistic, cause: errors.New("the node hasn't executed the blocks it follows: look at its execution node")}
	case s.ELOffline:
		return StatusOptimistic, &Error{Op: "health", Endpoint: e.name, Kind: KindOptimistic, cause: errors.New("the node's execution node is offline")}
	}
	return StatusUp, nil
}

// accept compares a node's genesis with the lock's network and the chain accepted before.
func (c *Client) accept(g Genesis) error {
	if g.Fork != c.o.Fork {
		return fmt.Errorf("the node has genesis fork version %v%s, the lock %v%s: name a beacon node of the lock's network", g.Fork, networkName(g.Fork), c.o.Fork, networkName(c.o.Fork))
	}
	if want := c.o.ValidatorsRoot; want != nil && *want != g.ValidatorsRoot {
		return fmt.Errorf("the node has genesis validators root %v, this cluster signed for %v before: name a beacon node of the same chain", g.ValidatorsRoot, *want)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pin == nil {
		c.pin = &g
	}
	if c.pin.ValidatorsRoot != g.ValidatorsRoot || !c.pin.Time.Equal(g.Time) {
		return fmt.Errorf("the node has genesis validators root %v at %s, another beacon node of this cluster %v at %s: one of them follows another chain",
			g.ValidatorsRoot, g.Time.Format(time.RFC3339), c.pin.ValidatorsRoot, c.pin.Time.Format(time.RFC3339))
	}
	return nil
}

func networkName(f cluster.ForkVersion) string {
	if n, ok := cluster.NetworkByFork(f); ok {
		return " (" + n.Name + ")"
	}
	return ""
}

// introduce asks for what is only shown.
func (c *Client) introduce(ctx context.Context, e *endpoint) {
	var v struct {
		Version string `json:"version"`
	}
	if err := c.getJSON(ctx, e, "version", "/eth/v1/node/version", nil, &v); err == nil {
		c.update(e, func(s *Endpoint) { s.Version = printable(v.Version, 120) })
	}
	var p struct {
		Connected num `json:"connected"`
	}
	if err := c.getJSON(ctx, e, "peer count", "/eth/v1/node/peer_count", nil, &p); err == nil && p.Connected < 1<<31 {
		n := int(p.Connected)
		c.update(e, func(s *Endpoint) {
			if s.Peers == nil || *s.Peers != n {
				s.Peers = &n
			}
		})
	}
}

type syncState struct {
	HeadSlot     num  `json:"head_slot"`
	SyncDistance num  `json:"sync_distance"`
	Syncing      bool `json:"is_syncing"`
	Optimistic   bool `json:"is_optimistic"`
	ELOffline    bool `json:"el_offline"`
}

func (c *Client) syncing(ctx context.Context, e *endpoint) (s syncState, err *Error) {
	err = c.getJSON(ctx, e, "health", "/eth/v1/node/syncing", nil, &s)
	return s, err
}

// num is a uint64, which travels as a quoted decimal.
type num uint64

// UnmarshalJSON reads "7".
func (n *num) UnmarshalJSON(b []byte) error {
	text := string(b)
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		text = string(b[1 : len(b)-1])
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("read number %q", printable(text, 40))
	}
	*n = num(v)
	return nil
}

// Bounds of answers, in bytes.
const (
	maxSmall = 1 << 20
	maxBlock = 64 << 20 // 21 blobs in hex are 6 MiB
	maxError = 64 << 10
)

type request struct {
	op     string
	method string
	path   string
	query  url.Values
	body   []byte
	kind   string // media type of the body
	header map[string]string
	ssz    bool // SSZ is understood in the answer
	limit  int64
	submit bool
}

type answer struct {
	status int
	header http.Header
	ssz    bool
	body   []byte
}

const (
	mediaJSON = "application/json"
	mediaSSZ  = "application/octet-stream"
)

// do makes one request of one endpoint. Nothing of the URL but scheme and host gets into the error.
func (c *Client) do(ctx context.Context, e *endpoint, r request) (*answer, *Error) {
	timeout := c.o.Timeout
	if r.submit {
		timeout = c.o.SubmitTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	fail := func(kind Kind, status int, cause error) *Error {
		if kind != KindCanceled {
			e.mu.Lock()
			e.state.Failed++
			e.mu.Unlock()
		}
		return &Error{Op: r.op, Endpoint: e.name, Kind: kind, Status: status, cause: cause}
	}
	req, err := c.newRequest(ctx, e, r)
	if err != nil {
		return nil, fail(KindRefused, 0, err)
	}
	kind := func(err error) Kind {
		if ended := ctx.Err(); ended != nil { // all that err may tell is the cause that the caller gave
			return transportKind(ended)
		}
		return transportKind(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(e, fail(kind(err), 0, cause(err)))
	}
	defer resp.Body.Close()
	limit := r.limit
	if limit == 0 {
		limit = maxSmall
	}
	good := resp.StatusCode >= 200 && resp.StatusCode < 300
	if !good {
		limit = maxError
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil && good {
		return nil, fail(kind(err), resp.StatusCode, cause(err))
	}
	if int64(len(body)) > limit {
		if good {
			return nil, fail(KindTooLarge, resp.StatusCode, fmt.Errorf("the answer is longer than %d bytes", limit))
		}
		body = body[:limit]
	}
	if good {
		media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
		return &answer{status: resp.StatusCode, header: resp.Header, body: body, ssz: strings.EqualFold(strings.TrimSpace(media), mediaSSZ)}, nil
	}
	out := fail(statusKind(resp.StatusCode), resp.StatusCode, nil)
	out.describe(body)
	return nil, out
}

func (c *Client) newRequest(ctx context.Context, e *endpoint, r request) (*http.Request, error) {
	u := *e.base
	u.User = nil
	u.Path += r.path
	if len(r.query) > 0 {
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += r.query.Encode()
	}
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, errors.New("the endpoint makes no request")
	}
	req.Header.Set("User-Agent", "provost")
	req.Header.Set("Accept", mediaJSON)
	if r.ssz {
		req.Header.Set("Accept", mediaSSZ+";q=1,"+mediaJSON+";q=0.9")
	}
	if r.body != nil {
		req.Header.Set("Content-Type", r.kind)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	for k, v := range c.o.Headers {
		req.Header.Set(k, v)
	}
	if e.base.User != nil && req.Header.Get("Authorization") == "" {
		pass, _ := e.base.User.Password()
		req.SetBasicAuth(e.base.User.Username(), pass)
	}
	return req, nil
}

// unreachable notes at once that a node is gone; the next check says when it is back.
func (c *Client) unreachable(e *endpoint, err *Error) *Error {
	if err.Kind == KindUnreachable {
		c.update(e, func(s *Endpoint) {
			if s.Status != StatusWrongNetwork {
				s.Status, s.Reason = StatusDown, err.Error()
			}
		})
	}
	return err
}

func statusKind(status int) Kind {
	switch {
	case status == http.StatusServiceUnavailable:
		return KindSyncing
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusNotImplemented:
		return KindNotFound
	case status == http.StatusTooManyRequests, status >= 500:
		return KindServer
	}
	return KindRefused
}

// cause drops the URL that net/http writes into its errors: it may hold a key.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// describe takes the node's words and the list of refused items out of the body of a failure.
func (e *Error) describe(body []byte) {
	var m struct {
		Message  string `json:"message"`
		Failures []struct {
			Index   num    `json:"index"`
			Message string `json:"message"`
		} `json:"failures"`
	}
	if json.Unmarshal(body, &m) != nil {
		m.Message, m.Failures = string(body[:min(len(body), 200)]), nil
	}
	if text := printable(m.Message, 200); text != "" {
		e.cause = fmt.Errorf("the node says %q", text)
	}
	for _, f := range m.Failures {
		if f.Index < 1<<20 {
			e.Failures = append(e.Failures, ItemError{int(f.Index), printable(f.Message, 200)})
		}
	}
}

// printable makes foreign text fit to be shown on one line.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > limit {
		s = string(runes[:limit]) + "…"
	}
	return strings.TrimSpace(s)
}

// envelope is what most answers come in.
type envelope struct {
	Data          json.RawMessage `json:"data"`
	DependentRoot cluster.Root    `json:"dependent_root"`
	Optimistic    bool            `json:"execution_optimistic"`
}

func (e *endpoint) malformed(op string, err error) *Error {
	return &Error{Op: op, Endpoint: e.name, Kind: KindMalformed, cause: err}
}

func (a *answer) open(e *endpoint, op string, into any) (envelope, *Error) {
	var env envelope
	if a.ssz {
		return env, e.malformed(op, errors.New("the answer is SSZ, JSON was asked for"))
	}
	if err := json.Unmarshal(a.body, &env); err != nil {
		return env, e.malformed(op, err)
	}
	if len(env.Data) == 0 || bytes.Equal(env.Data, []byte("null")) {
		return env, e.malformed(op, errors.New("the answer holds no data"))
	}
	if err := json.Unmarshal(env.Data, into); err != nil {
		return env, e.malformed(op, err)
	}
	return env, nil
}

func (c *Client) getJSON(ctx context.Context, e *endpoint, op, path string, query url.Values, into any) *Error {
	a, err := c.do(ctx, e, request{op: op, method: http.MethodGet, path: path, query: query})
	if err != nil {
		return err
	}
	_, err = a.open(e, op, into)
	return err
}

// need says how good a node must be for a request.
type need int

const (
	needChain need = iota + 1 // the right network
	needHead                  // also in step with its chain, since the answer gets signed
)

// usable checks an endpoint against a need, asking it for its health when that isn't known.
func (c *Client) usable(ctx context.Context, e *endpoint, op string, n need) *Error {
	s := e.snapshot()
	if s.Status == StatusUnknown || s.Status == StatusDown {
		cctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
		err := c.check(cctx, e)
		cancel()
		s = e.snapshot()
		if s.Status == StatusUnknown || s.Status == StatusDown {
			if err == nil {
				err = &Error{Endpoint: e.name, Kind: KindUnreachable}
			}
			return &Error{Op: op, Endpoint: e.name, Kind: err.Kind, Status: err.Status, cause: err.cause}
		}
	}
	kind := map[Status]Kind{StatusWrongNetwork: KindWrongNetwork, StatusSyncing: KindSyncing, StatusOptimistic: KindOptimistic}[s.Status]
	if kind == "" || kind != KindWrongNetwork && n == needChain {
		return nil
	}
	return &Error{Op: op, Endpoint: e.name, Kind: kind, cause: errors.New(s.Reason)}
}

// first asks all nodes at the same time and returns the first good answer. The requests that lost
// are ended and awaited by Close.
func first[T any](ctx context.Context, c *Client, op string, n need, ask func(context.Context, *endpoint) (T, *Error)) (T, error) {
	var zero T
	failed := &AllFailed{Op: op}
	for _, tier := range [][]*endpoint{c.primary, c.fallback} {
		type result struct {
			v   T
			err *Error
		}
		results := make(chan result, len(tier))
		tctx, cancel := context.WithCancel(ctx)
		for _, e := range tier {
			if !c.enter() {
				cancel()
				return zero, errors.New(op + ": the beacon client is closed")
			}
			go func() {
				defer c.inFlight.Done()
				err := c.usable(tctx, e, op, n)
				var v T
				if err == nil {
					v, err = ask(tctx, e)
				}
				results <- result{v, err}
			}()
		}
		for range tier {
			r := <-results
			if r.err == nil {
				cancel()
				return r.v, nil
			}
			failed.Errs = append(failed.Errs, r.err)
		}
		cancel()
		if ctx.Err() != nil {
			break
		}
	}
	return zero, failed
}

// every sends to all nodes and returns at the first acceptance; the others are told in the background.
func every(ctx context.Context, c *Client, op string, send func(context.Context, *endpoint) *Error) error {
	failed := &AllFailed{Op: op}
	for _, tier := range [][]*endpoint{c.primary, c.fallback} {
		results := make(chan *Error, len(tier))
		for _, e := range tier {
			if !c.enter() {
				return errors.New(op + ": the beacon client is closed")
			}
			go func() {
				defer c.inFlight.Done()
				// The first acceptance ends the caller's wait, not the other submissions.
				sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*c.o.SubmitTimeout)
				defer cancel()
				defer context.AfterFunc(c.closing, cancel)()
				err := c.usable(sctx, e, op, needChain)
				if err == nil {
					err = send(sctx, e)
				}
				if err != nil && err.Kind != KindCanceled {
					c.o.Logger.Debug("submission not accepted", "op", op, "endpoint", e.name, "err", err)
				}
				results <- err
			}()
		}
		for range tier {
			select {
			case err := <-results:
				if err == nil {
					return nil
				}
				failed.Errs = append(failed.Errs, err)
			case <-ctx.Done():
				failed.Errs = append(failed.Errs, &Error{Op: op, Endpoint: "any", Kind: transportKind(ctx.Err()), cause: ctx.Err()})
				return failed
			}
		}
	}
	return failed
}

// enter counts a request that Close must wait for; false when the client is closed.
func (c *Client) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.inFlight.Add(1)
	return true
}
