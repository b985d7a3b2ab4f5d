// Package beacon asks beacon nodes, over the standard Beacon API, for what a distributed validator
// needs, and hands them what was signed.
//
// Several nodes are asked at the same time and the first good answer wins; fallbacks are asked when
// all the others failed. Whatever is sent goes to all of them, and one acceptance is success. A node
// of another network is never asked for anything, and one that is syncing or optimistic is not asked
// for what gets signed: both are named errors. Every answer is bounded in size and checked to be an
// answer to the question; what a node says beyond that must be judged by the caller.
//
// All methods may be called from any goroutine. They block until an answer, the context's end or the
// timeout of one request (twice that, when fallbacks are asked). Nothing is retried here: Retryable
// says whether trying again before the duty's deadline may help.
//
// The object types are those of github.com/attestantio/go-eth2-client; its HTTP client isn't used,
// since it reads answers without a bound, follows one event stream only and never notices that it
// went silent.
package beacon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"app.provost/cluster"
)

// Options say which nodes are asked and how. Endpoints, Logger and Spawn are required.
type Options struct {
	Endpoints []string // base URLs, asked in parallel; a name and password in the URL are sent as basic auth
	Fallbacks []string // asked when all Endpoints failed

	Timeout       time.Duration // of one read; 2 s when 0
	SubmitTimeout time.Duration // of one submission; 4 s when 0
	PollEvery     time.Duration // between health checks of each node; 5 s when 0
	Headers       map[string]string

	// Fork is the genesis fork version of the lock. A node that has another one is refused.
	Fork cluster.ForkVersion
	// ValidatorsRoot is the genesis validators root the cluster has signed for before, or nil. Without
	// it the first node of the right fork version decides, and nodes that differ from it are refused.
	ValidatorsRoot *cluster.Root

	Logger *slog.Logger
	// Spawn runs fn until its context ends; the process's supervisor owns and awaits it.
	Spawn func(name string, fn func(ctx context.Context) error)

	// OnEndpoint is told every change of an endpoint's state, OnEvent what event streams bring. Both
	// are called from the client's own goroutines, several at once, and must return at once. May be nil.
	OnEndpoint func(Endpoint)
	OnEvent    func(Event)

	Transport http.RoundTripper // nil: one of the client's own
}

// Client talks to the beacon nodes of one cluster.
type Client struct {
	o         Options
	http      *http.Client
	primary   []*endpoint
	fallback  []*endpoint
	closing   context.Context
	close     context.CancelFunc
	inFlight  sync.WaitGroup
	transport *http.Transport // own one, or nil

	mu     sync.Mutex
	pin    *Genesis // the chain that was accepted
	chain  *Chain
	seen   recent // events that were already passed on
	open   int    // event streams that are up
	closed bool
}

// New checks the options and starts watching the nodes. It asks nothing itself and doesn't block:
// nodes that are down now may come up later.
func New(o Options) (*Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("start beacon client: no beacon node is named: give at least one endpoint")
	}
	if o.Logger == nil || o.Spawn == nil {
		return nil, errors.New("start beacon client: Logger and Spawn are required")
	}
	for d, def := range map[*time.Duration]time.Duration{&o.Timeout: 2 * time.Second, &o.SubmitTimeout: 4 * time.Second, &o.PollEvery: 5 * time.Second} {
		if *d < 0 {
			return nil, fmt.Errorf("start beacon client: a duration of %v is negative", *d)
		}
		if *d == 0 {
			*d = def
		}
	}
	o.Headers = maps.Clone(o.Headers)
	c := &Client{o: o}
	c.closing, c.close = context.WithCancel(context.Background())
	rt := o.Transport
	if rt == nil {
		c.transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: o.Timeout, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: o.Timeout,
			MaxIdleConnsPerHost: 16, MaxConnsPerHost: 64, IdleConnTimeout: 90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		}
		rt = c.transport
	}
	c.http = &http.Client{Transport: rt, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // headers and signatures go where the operator said
	}}
	names := map[string]bool{}
	for i, text := range append(append([]string(nil), o.Endpoints...), o.Fallbacks...) {
		e, err := newEndpoint(text, i >= len(o.Endpoints))
		if err != nil {
			c.close()
			return nil, err
		}
		if names[e.name] {
			e.name = fmt.Sprintf("%s#%d", e.name, i)
		}
		names[e.name] = true
		e.state.Name = e.name
		if e.fallback {
			c.fallback = append(c.fallback, e)
		} else {
			c.primary = append(c.primary, e)
		}
	}
	for _, e := range c.all() {
		o.Spawn("beacon.watch."+e.name, func(ctx context.Context) error { return c.watch(ctx, e) })
		o.Spawn("beacon.events."+e.name, func(ctx context.Context) error { return c.listen(ctx, e) })
	}
	return c, nil
}

// Close ends submissions that are still under way to slower nodes and waits for them. What Spawn runs
// ends with its own context.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.close()
	c.inFlight.Wait()
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

// Endpoints returns the state of each node, in the order of the options, fallbacks last.
func (c *Client) Endpoints() []Endpoint {
	var out []Endpoint
	for _, e := range c.all() {
		out = append(out, e.snapshot())
	}
	return out
}

func (c *Client) all() []*endpoint {
	return append(append([]*endpoint(nil), c.primary...), c.fallback...)
}

func newEndpoint(text string, fallback bool) (*endpoint, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("read beacon node endpoint: it is not a URL: give it as http://host:port") // the text may hold a password
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("read beacon node endpoint %q: give it as http://host:port or https://host", u.Redacted())
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.Fragment = ""
	e := &endpoint{base: u, fallback: fallback, checking: make(chan struct{}, 1)}
	e.name = u.Scheme + "://" + u.Host // paths and queries of hosted nodes hold keys
	e.state = Endpoint{Fallback: fallback, Status: StatusUnknown}
	return e, nil
}
