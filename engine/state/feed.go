package state

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"app.provost/engine"
)

// entriesAtOnce bounds the journal entries of one update; the next ones follow.
const entriesAtOnce = 1000

// feed is one viewer's place in the stream of publications. It holds no backlog:
// each Next looks at what is newest then.
type feed struct {
	s       *State
	o       engine.WatchOptions
	after   uint64
	last    *engine.Snapshot // delivered
	at      time.Time        // of the delivery
	closed  chan struct{}
	closing sync.Once
	unhook  func() bool
}

// Watch opens a feed. It ends with Close, with ctx, or after the engine has stopped.
func (s *State) Watch(ctx context.Context, o engine.WatchOptions) (engine.Feed, error) {
	for _, n := range o.Sections {
		if !slices.Contains(engine.SectionNames, n) {
			return nil, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "watch", Field: "sections",
				Cause: "there is no section " + string(n), Remedy: "leave it out"}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f := &feed{s: s, o: o, closed: make(chan struct{})}
	f.o.Sections = slices.Clone(o.Sections)
	if o.After != nil {
		f.after = *o.After
	}
	if o.Viewer != "" {
		s.attach(o.Viewer, 1)
	}
	f.unhook = context.AfterFunc(ctx, f.close)
	return f, nil
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
		if f.o.Viewer != "" {
			f.s.attach(f.o.Viewer, -1)
		}
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
		pub := f.s.pub.Load()
		changed, news := f.news(pub)
		var wait <-chan time.Time
		if news {
			left := f.o.Every - time.Since(f.at)
			if f.last == nil || left <= 0 || pub.final {
				return f.deliver(pub, changed)
			}
			timer := time.NewTimer(left)
			defer timer.Stop() // at most one for each wake within Every
			wait = timer.C
		} else if pub.final {
			return engine.Update{}, io.EOF
		}
		next := pub.next
		if news {
			next = nil // it is only time that is missing; then the newest is taken
		}
		select {
		case <-next:
		case <-wait:
		case <-f.closed:
		case <-ctx.Done():
			return engine.Update{}, ctx.Err()
		}
	}
}

// news tells what changed and whether the viewer wants to know.
func (f *feed) news(pub *publication) ([]engine.SectionName, bool) {
	if f.last == nil {
		return engine.Changed(nil, pub.snap), true
	}
	changed := engine.Changed(f.last, pub.snap)
	if f.o.After != nil && pub.last > f.after {
		return changed, true
	}
	for _, n := range changed {
		if len(f.o.Sections) == 0 || slices.Contains(f.o.Sections, n) {
			return changed, true
		}
	}
	return changed, false
}

func (f *feed) deliver(pub *publication, changed []engine.SectionName) (engine.Update, error) {
	u := engine.Update{Snapshot: pub.snap, Changed: changed}
	if f.o.After != nil && pub.last > f.after {
		if err := f.entries(pub, &u); err != nil {
			return engine.Update{}, err
		}
	}
	f.last, f.at = pub.snap, time.Now()
	return u, nil
}

// entries adds those above the last delivered one: from memory if they are there, else from the journal.
func (f *feed) entries(pub *publication, u *engine.Update) error {
	if t := pub.tail; len(t) > 0 && t[0].N <= f.after+1 {
		t = t[f.after+1-t[0].N:]
		u.Entries = t[:min(len(t), entriesAtOnce):min(len(t), entriesAtOnce)]
	} else {
		entries, first, last, err := f.s.o.Journal.Entries(f.after, entriesAtOnce)
		if err != nil {
			return engine.AsProblem("read journal", err)
		}
		u.Entries = entries
		if first > f.after+1 {
			u.Gap = &engine.Gap{From: f.after + 1, To: min(first-1, last)}
			f.after = u.Gap.To
		}
	}
	if n := len(u.Entries); n > 0 {
		f.after = u.Entries[n-1].N
	}
	return nil
}
