package tui

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"app.provost/engine"
	"app.provost/tui/page"
)

// bridge fetches what the engine publishes. It holds the newest snapshot and the
// journal entries since the screen last looked, bounded, and at most one wake. It
// never waits for the screen; the engine never waits for it.
type bridge struct {
	engine engine.Engine
	viewer string
	now    func() time.Time
	wake   chan struct{} // one place
	retune chan struct{} // one place: the rate changed, or a refresh was asked for

	mu      sync.Mutex
	every   time.Duration
	snap    *engine.Snapshot
	entries []engine.Entry
	after   uint64
	link    page.Link
	stopped bool
}

// maxEntries bounds the journal that a screen keeps; the oldest go first.
const maxEntries = 2000

func newBridge(o *Options, every time.Duration) *bridge {
	return &bridge{engine: o.Engine, viewer: o.Actor.String(), now: o.Now, every: every,
		wake: make(chan struct{}, 1), retune: make(chan struct{}, 1),
		link: page.Link{Connected: true, Since: o.Now()}}
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// setEvery changes the rate at which pictures are fetched.
func (b *bridge) setEvery(d time.Duration) {
	b.mu.Lock()
	same := b.every == d
	b.every = d
	b.mu.Unlock()
	if !same {
		poke(b.retune)
	}
}

// kick fetches again now.
func (b *bridge) kick() { poke(b.retune) }

// take gives what came since the last take.
func (b *bridge) take() (snap *engine.Snapshot, entries []engine.Entry, link page.Link, stopped bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	snap, entries = b.snap, b.entries
	b.entries = nil
	return snap, entries, b.link, b.stopped
}

func (b *bridge) put(u engine.Update) {
	b.mu.Lock()
	if u.Snapshot != nil {
		b.snap = u.Snapshot
	}
	for _, e := range u.Entries {
		if e.N > b.after {
			b.after = e.N
			b.entries = append(b.entries, e)
		}
	}
	if n := len(b.entries) - maxEntries; n > 0 {
		b.entries = append([]engine.Entry(nil), b.entries[n:]...)
	}
	if !b.link.Connected {
		b.link = page.Link{Connected: true, Since: b.now()}
	}
	b.mu.Unlock()
	poke(b.wake)
}

func (b *bridge) lost(err error) {
	b.mu.Lock()
	if b.link.Connected {
		b.link = page.Link{Since: b.now()}
	}
	b.link.Tries++
	b.link.Problem = err.Error()
	b.link.Next = b.now().Add(time.Second)
	b.mu.Unlock()
	poke(b.wake)
}

// run watches until ctx ends or the engine has stopped. A feed that breaks is
// opened again every second.
func (b *bridge) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := b.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, io.EOF) {
			b.mu.Lock()
			b.stopped = true
			b.mu.Unlock()
			poke(b.wake)
			return
		}
		if err != nil {
			b.lost(err)
			select {
			case <-ctx.Done():
			case <-b.retune:
			case <-time.After(time.Second):
			}
		}
	}
}

// watch follows one feed; nil means that the rate changed and another is wanted.
func (b *bridge) watch(ctx context.Context) error {
	b.mu.Lock()
	every, after := b.every, b.after
	b.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	feed, err := b.engine.Watch(ctx, engine.WatchOptions{Every: every, After: &after, Viewer: b.viewer})
	if err != nil {
		return err
	}
	defer feed.Close()
	retuned := make(chan struct{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		select {
		case <-b.retune:
			close(retuned)
			cancel()
		case <-stop:
		}
	}()
	defer wg.Wait()
	defer close(stop)
	for {
		u, err := feed.Next(ctx)
		select {
		case <-retuned:
			if err == nil {
				b.put(u)
			}
			return nil
		default:
		}
		if err != nil {
			return err
		}
		b.put(u)
	}
}
