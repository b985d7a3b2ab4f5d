package rpc

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"app.provost/engine"
)

// Link is the state of a redialling connection.
type Link struct {
	Connected bool
	// Since is when it was connected, or when it was lost.
	Since time.Time
	// Tries counts the attempts since it was lost; Next is when the next one starts.
	Tries int
	Next  time.Time
	// Why it was lost, or why the last attempt failed, in words.
	Why string
	// Stopped tells that the engine said it stops: the link was not cut.
	Stopped bool
}

// RedialOptions says whom to call again and again.
type RedialOptions struct {
	Dial DialOptions
	// OnLink is told of each change, from the goroutine that saw it; it must not block.
	OnLink func(Link)
	// First and Longest bound the pause between attempts (100ms, 2s). It doubles, with jitter.
	First, Longest time.Duration
}

// Redialer is one engine.Engine over a link that may break: a feed survives the
// loss and goes on after the last journal entry that it gave, Do is sent again
// with the same key. It owns no goroutine: whoever waits for an answer dials,
// one at a time. Safe for concurrent use.
type Redialer struct {
	o    RedialOptions
	turn chan struct{} // capacity 1: held by who dials

	mu     sync.Mutex
	client *Client // nil while the link is lost
	link   Link
	pause  time.Duration // before the next attempt; 0 after a link that held
	closed bool
}

var _ engine.Engine = (*Redialer)(nil)

// Redial dials once, so that a missing engine is told at once, and from then on
// dials again whenever the link is lost.
func Redial(ctx context.Context, o RedialOptions) (*Redialer, error) {
	if o.First <= 0 {
		o.First = 100 * time.Millisecond
	}
	if o.Longest < o.First {
		o.Longest = max(2*time.Second, o.First)
	}
	c, err := Dial(ctx, o.Dial)
	if err != nil {
		return nil, err
	}
	r := &Redialer{o: o, turn: make(chan struct{}, 1), client: c, link: Link{Connected: true, Since: time.Now()}}
	return r, nil
}

// Link tells how the connection stands.
func (r *Redialer) Link() Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.link
}

// Hello is what the engine said when it was last dialled.
func (r *Redialer) Hello() Hello {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client == nil {
		return Hello{}
	}
	return r.client.Hello()
}

// Close frees the connection. Feeds have their own Close.
func (r *Redialer) Close() error {
	r.mu.Lock()
	c := r.client
	r.client, r.closed = nil, true
	r.mu.Unlock()
	if c != nil {
		return c.Close()
	}
	return nil
}

func (r *Redialer) set(change func(*Link)) {
	r.mu.Lock()
	change(&r.link)
	l := r.link
	r.mu.Unlock()
	if r.o.OnLink != nil {
		r.o.OnLink(l)
	}
}

// lose marks that a call over c failed. Only the first to see it changes the state.
func (r *Redialer) lose(c *Client, err error) {
	r.mu.Lock()
	if r.client != c || r.closed {
		r.mu.Unlock()
		return
	}
	r.client = nil
	// A link that breaks as soon as it is made must not be made in a tight loop.
	if time.Since(r.link.Since) > 5*time.Second {
		r.pause = 0
	} else {
		r.pause = r.longerLocked()
	}
	r.mu.Unlock()
	c.Close()
	stopped := errors.Is(err, io.EOF)
	why := "the engine stopped"
	if !stopped {
		why = engine.AsProblem("", err).Cause
	}
	r.set(func(l *Link) { *l = Link{Since: time.Now(), Why: why, Stopped: stopped} })
}

func (r *Redialer) longerLocked() time.Duration {
	return max(r.o.First, min(2*r.pause, r.o.Longest))
}

// get gives the client, dialling until ctx ends if the link is lost.
func (r *Redialer) get(ctx context.Context) (*Client, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		r.mu.Lock()
		c, closed, pause := r.client, r.closed, r.pause
		r.mu.Unlock()
		if closed {
			return nil, io.EOF
		}
		if c != nil {
			return c, nil
		}
		if pause > 0 {
			wait := pause/2 + rand.N(pause/2+1)
			r.set(func(l *Link) { l.Next = time.Now().Add(wait) })
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return nil, ctx.Err()
			}
		}
		c, err := Dial(ctx, r.o.Dial)
		if err == nil {
			r.mu.Lock()
			closed := r.closed
			if !closed {
				r.client = c
			}
			r.mu.Unlock()
			if closed {
				c.Close()
				return nil, io.EOF
			}
			r.set(func(l *Link) { *l = Link{Connected: true, Since: time.Now()} })
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !again(err) {
			return nil, err
		}
		why := engine.AsProblem("", err).Cause
		r.mu.Lock()
		r.pause = r.longerLocked()
		r.mu.Unlock()
		r.set(func(l *Link) { l.Tries++; l.Why = why })
	}
}

// again tells whether dialling once more may help: another protocol or a refused
// user stays what it is, a silent or starting engine does not.
func again(err error) bool {
	p := engine.AsProblem("", err)
	return LinkLost(err) || p.Code == engine.CodeBusy || p.Code == engine.CodeStopping
}

// over runs fn over the link, again after each loss, until it has an answer.
func over[T any](ctx context.Context, r *Redialer, fn func(*Client) (T, error)) (T, *Client, error) {
	for {
		c, err := r.get(ctx)
		if err != nil {
			var none T
			return none, nil, err
		}
		v, err := fn(c)
		if err == nil || !LinkLost(err) {
			return v, c, err
		}
		r.lose(c, err)
	}
}

// Preview waits for the link, up to ctx's deadline.
func (r *Redialer) Preview(ctx context.Context, q engine.Request) (engine.Plan, error) {
	ctx, cancel := bounded(ctx, 30*time.Second)
	defer cancel()
	p, _, err := over(ctx, r, func(c *Client) (engine.Plan, error) { return c.Preview(ctx, q) })
	return p, waited(q, err)
}

// Do waits for the link, up to ctx's deadline, and sends the request again with
// the same key when the link broke before the answer. Without a key it gets one.
func (r *Redialer) Do(ctx context.Context, q engine.Request, digest engine.Digest) (engine.Receipt, error) {
	ctx, cancel := bounded(ctx, 10*time.Minute)
	defer cancel()
	if q.Key == "" {
		q.Key = engine.NewKey()
	}
	rec, _, err := over(ctx, r, func(c *Client) (engine.Receipt, error) { return c.Do(ctx, q, digest) })
	return rec, waited(q, err)
}

// waited says in words that the deadline ended while the link was lost.
func waited(q engine.Request, err error) error {
	var p *engine.Problem
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &p) || q.Action == nil {
		return err
	}
	return engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitTimeout, Doing: q.Action.Doing(),
		Cause: "the link to the engine did not come back in time", Remedy: "look with provost status; repeat with the same key if you are not sure"}.Because(err)
}

// Logs opens a stream over the link as it is now. A lost link ends it with a
// problem for which LinkLost is true; the caller opens another from where it was.
func (r *Redialer) Logs(ctx context.Context, q engine.LogQuery) (engine.LogStream, error) {
	ctx, cancel := bounded(ctx, 30*time.Second)
	defer cancel()
	l, _, err := over(ctx, r, func(c *Client) (engine.LogStream, error) { return c.Logs(ctx, q) })
	return l, err
}

// Watch opens a feed that outlives losses of the link, and restarts of the
// engine: its Next waits until the engine is back. Only Close ends it.
func (r *Redialer) Watch(ctx context.Context, o engine.WatchOptions) (engine.Feed, error) {
	ctx, cancel := bounded(ctx, 30*time.Second)
	defer cancel()
	f := &redialFeed{r: r, o: o}
	f.life, f.end = context.WithCancel(context.Background())
	if err := f.open(ctx); err != nil {
		f.end()
		return nil, err
	}
	return f, nil
}

type redialFeed struct {
	r    *Redialer
	life context.Context // ends with Close, which may come while Next waits
	end  context.CancelFunc

	mu     sync.Mutex
	o      engine.WatchOptions
	in     engine.Feed // nil while the link is lost
	over   *Client
	closed bool
}

func (f *redialFeed) open(ctx context.Context) error {
	in, c, err := over(ctx, f.r, func(c *Client) (engine.Feed, error) { return c.Watch(ctx, f.o) })
	if err != nil {
		return err
	}
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		in.Close()
		return io.EOF
	}
	f.in, f.over = in, c
	f.mu.Unlock()
	return nil
}

func (f *redialFeed) Next(ctx context.Context) (engine.Update, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.life, cancel)()
	u, err := f.next(ctx)
	if err != nil && f.life.Err() != nil {
		return engine.Update{}, io.EOF
	}
	return u, err
}

func (f *redialFeed) next(ctx context.Context) (engine.Update, error) {
	for {
		f.mu.Lock()
		in, c := f.in, f.over
		f.mu.Unlock()
		if in == nil {
			if err := f.open(ctx); err != nil {
				return engine.Update{}, err
			}
			continue
		}
		u, err := in.Next(ctx)
		if err == nil {
			f.remember(u)
			return u, nil
		}
		if f.life.Err() != nil || !LinkLost(err) && !errors.Is(err, io.EOF) {
			return engine.Update{}, err
		}
		in.Close()
		f.mu.Lock()
		f.in = nil
		f.mu.Unlock()
		f.r.lose(c, err)
	}
}

// remember moves After on, so that the next dial continues where this one was.
func (f *redialFeed) remember(u engine.Update) {
	if f.o.After == nil {
		return
	}
	last := *f.o.After
	if u.Gap != nil {
		last = max(last, u.Gap.To)
	}
	if n := len(u.Entries); n > 0 {
		last = max(last, u.Entries[n-1].N)
	}
	f.o.After = &last
}

func (f *redialFeed) Close() error {
	f.mu.Lock()
	f.closed = true
	in := f.in
	f.in = nil
	f.mu.Unlock()
	f.end()
	if in != nil {
		return in.Close()
	}
	return nil
}
