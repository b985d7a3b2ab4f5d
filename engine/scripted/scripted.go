package scripted

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"app.provost/engine"
)

// Practice is what every snapshot says of itself.
const Practice = "scripted: nothing here is real"

const (
	beat        = 250 * time.Millisecond // the script's grid; publications come no faster
	keepEntries = 4096                   // journal entries kept for feeds
	keepActs    = 100                    // acts that have ended, kept in the ledger
	keepKeys    = 4096                   // request keys remembered
	atOnce      = 1000                   // journal entries of one update
	maxRows     = 100_000
)

// Options says how large the script is and which moment of it is played. The zero
// value is 2,048 workers on 32 machines with 9 GPUs, from now on.
type Options struct {
	Seed    uint64
	Workers int // 0: 2,048; negative: none; at most 100,000
	Hosts   int // 0: 32; at most 1,000
	GPUs    int // 0: 9; negative: none; at most 1,000
	// Validators are those of a cluster of four nodes: 0: 128; negative: no cluster; at most 10,000.
	Validators int
	// Start is when the script began; zero: when New was called.
	Start time.Time
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Speed is how much faster than written the script is played, 1 to 100; 0: 1.
	// Pauses that are asked for keep their length.
	Speed float64
	// Still holds the script at this moment after Start, for pictures. Acts are taken
	// and change what is seen at that moment.
	Still *time.Duration
}

func (o *Options) complete() {
	size := func(n *int, def, most int) {
		switch {
		case *n == 0:
			*n = def
		case *n < 0:
			*n = 0
		}
		*n = min(*n, most)
	}
	size(&o.Workers, 2048, maxRows)
	size(&o.Hosts, 32, 1000)
	o.Hosts = max(o.Hosts, 1)
	size(&o.GPUs, 9, 1000)
	size(&o.Validators, 128, 10_000)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Start.IsZero() {
		o.Start = o.Now()
	}
	o.Start = o.Start.UTC().Truncate(time.Millisecond)
	if !(o.Speed >= 1) {
		o.Speed = 1
	}
	o.Speed = min(o.Speed, 100)
}

// Engine plays the script. See the package comment for what it promises.
type Engine struct {
	o    Options
	pub  atomic.Pointer[publication]
	ran  atomic.Bool
	done chan struct{} // closed when Run has ended

	mu      sync.Mutex // guards the fields below; nothing that blocks is called under it
	s       *script
	viewers map[string]int
	keys    map[string]answer // receipts by request key
	keyAge  []string          // oldest first
	over    bool
}

var _ engine.Engine = (*Engine)(nil)

// answer is what a request key was answered with.
type answer struct {
	action  []byte
	receipt engine.Receipt
}

// publication is one published state. next is closed when a newer one is there.
type publication struct {
	snap  *engine.Snapshot
	tail  []engine.Entry // the newest entries; only ever appended to
	last  uint64         // number of the newest entry
	final bool
	next  chan struct{}
}

// New makes the engine and its first snapshot. Nothing moves before Run.
func New(o Options) *Engine {
	o.complete()
	e := &Engine{o: o, done: make(chan struct{}), viewers: map[string]int{}, keys: map[string]answer{}}
	e.s = newScript(o)
	e.s.advance(e.moment())
	e.publishLocked(false)
	return e
}

// moment is how far the script is, on its grid.
func (e *Engine) moment() time.Duration {
	if e.o.Still != nil {
		return e.o.Still.Truncate(beat)
	}
	return time.Duration(float64(e.o.Now().Sub(e.o.Start)) * e.o.Speed).Truncate(beat)
}

// Run plays the script until ctx ends; feeds then end too. It may be called once.
func (e *Engine) Run(ctx context.Context) error {
	if !e.ran.CompareAndSwap(false, true) {
		return errors.New("run script: it runs already, or has ended")
	}
	defer close(e.done)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			e.mu.Lock()
			e.over = true
			e.publishLocked(true)
			e.mu.Unlock()
			return nil
		case <-tick.C:
			e.mu.Lock()
			if e.s.advance(e.moment()) {
				e.publishLocked(false)
			}
			e.mu.Unlock()
		}
	}
}

func (e *Engine) publishLocked(final bool) {
	old := e.pub.Load()
	p := &publication{final: final, next: make(chan struct{})}
	if final && old != nil {
		p.snap = old.snap
	} else {
		p.snap = e.s.snapshot()
	}
	p.tail = e.s.journal
	if n := len(p.tail); n > 0 {
		p.last = p.tail[n-1].N
	}
	e.pub.Store(p)
	if old != nil {
		close(old.next)
	}
}

// Watch opens a feed. It ends with Close, with ctx, or after Run has ended.
func (e *Engine) Watch(ctx context.Context, o engine.WatchOptions) (engine.Feed, error) {
	for _, n := range o.Sections {
		if !slices.Contains(engine.SectionNames, n) {
			return nil, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "watch", Field: "sections",
				Cause: "there is no section " + string(n), Remedy: "leave it out"}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f := &feed{e: e, o: o, closed: make(chan struct{})}
	f.o.Sections = slices.Clone(o.Sections)
	if o.After != nil {
		f.after = *o.After
	}
	e.attach(o.Viewer, 1)
	f.unhook = context.AfterFunc(ctx, f.close)
	return f, nil
}

func (e *Engine) attach(viewer string, n int) {
	if viewer == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.viewers[viewer] += n
	if e.viewers[viewer] <= 0 {
		delete(e.viewers, viewer)
	}
	names := make([]string, 0, len(e.viewers))
	for v := range e.viewers {
		names = append(names, v)
	}
	slices.Sort(names)
	e.s.viewers = names
	e.s.touch(engine.SecEngine)
}

// feed is one viewer's place. It holds no backlog.
type feed struct {
	e       *Engine
	o       engine.WatchOptions
	after   uint64
	last    *engine.Snapshot
	at      time.Time
	closed  chan struct{}
	closing sync.Once
	unhook  func() bool
}

// Close ends the feed.
func (f *feed) Close() error {
	f.unhook()
	f.close()
	return nil
}

func (f *feed) close() {
	f.closing.Do(func() {
		close(f.closed)
		f.e.attach(f.o.Viewer, -1)
	})
}

// Next waits for something newer than what was delivered last.
func (f *feed) Next(ctx context.Context) (engine.Update, error) {
	for {
		select {
		case <-f.closed:
			return engine.Update{}, io.EOF
		default:
		}
		if err := ctx.Err(); err != nil {
			return engine.Update{}, err
		}
		pub := f.e.pub.Load()
		changed, news := f.news(pub)
		next := pub.next
		var wait <-chan time.Time
		switch {
		case news:
			left := f.o.Every - time.Since(f.at)
			if f.last == nil || left <= 0 || pub.final {
				return f.deliver(pub, changed), nil
			}
			timer := time.NewTimer(left)
			defer timer.Stop() // at most one for each delivery
			wait = timer.C
			next = nil
		case pub.final:
			return engine.Update{}, io.EOF
		}
		select {
		case <-next:
		case <-wait:
		case <-f.e.done:
		case <-f.closed:
		case <-ctx.Done():
			return engine.Update{}, ctx.Err()
		}
	}
}

func (f *feed) news(pub *publication) ([]engine.SectionName, bool) {
	changed := engine.Changed(f.last, pub.snap)
	if f.last == nil || f.o.After != nil && pub.last > f.after {
		return changed, true
	}
	if len(f.o.Sections) == 0 {
		return changed, len(changed) > 0
	}
	return changed, slices.ContainsFunc(changed, func(n engine.SectionName) bool { return slices.Contains(f.o.Sections, n) })
}

func (f *feed) deliver(pub *publication, changed []engine.SectionName) engine.Update {
	u := engine.Update{Snapshot: pub.snap, Changed: changed}
	if f.o.After != nil && pub.last > f.after {
		t := pub.tail
		if first := t[0].N; first > f.after+1 {
			u.Gap = &engine.Gap{From: f.after + 1, To: first - 1}
			f.after = first - 1
		}
		t = t[f.after+1-t[0].N:]
		n := min(len(t), atOnce)
		u.Entries = t[:n:n]
		f.after = t[n-1].N
	}
	f.last, f.at = pub.snap, time.Now()
	return u
}

// touch makes a section new with the next publication.
func (s *script) touch(names ...engine.SectionName) {
	for _, n := range names {
		s.touched[n] = s.pub + 1
	}
	s.dirty = true
}

// wall is the time of day at a moment of the script.
func (s *script) wall(at time.Duration) time.Time {
	return s.start.Add(time.Duration(float64(at) / s.speed))
}

func (s *script) wallp(at time.Duration) *time.Time {
	t := s.wall(at)
	return &t
}

// log adds a journal entry at the moment that is played.
func (s *script) log(en engine.Entry) {
	s.number++
	en.N = s.number
	if len(s.journal) >= 2*keepEntries {
		s.journal = slices.Clone(s.journal[len(s.journal)-keepEntries:])
	}
	s.journal = append(s.journal, en)
}

// coming is a journal entry that the script has written ahead.
type coming struct {
	at    time.Duration
	act   string // dropped when this act is cancelled
	entry engine.Entry
}

func (s *script) plan(at time.Duration, act string, en engine.Entry) {
	i, _ := slices.BinarySearchFunc(s.coming, at, func(c coming, at time.Duration) int {
		if c.at == at {
			return -1 // after those of the same moment
		}
		return cmp.Compare(c.at, at)
	})
	s.coming = slices.Insert(s.coming, i, coming{at, act, en})
}

// flush writes what the script has come to.
func (s *script) flush() {
	n := 0
	for n < len(s.coming) && s.coming[n].at <= s.at {
		en := s.coming[n].entry
		en.At = s.wall(s.coming[n].at)
		s.log(en)
		n++
	}
	s.coming = slices.Delete(s.coming, 0, n)
}
