package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"

	"app.provost/engine"
)

// maxPending bounds the journal entries that wait for Next. Beyond it the reader
// stops reading, so that the numbers stay without holes; the server then waits
// and at last drops the stream.
const maxPending = 8192

// rpcFeed is the dialling side of a watch. One goroutine reads events and merges
// them into one pending update; Next takes it.
type rpcFeed struct {
	in     *inflow
	mirror mirror
	wake   chan struct{} // capacity 1: something is pending
	room   chan struct{} // capacity 1: pending was taken
	gone   chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	pending *engine.Update
	err     error
	closed  bool
}

func (f *rpcFeed) read() {
	defer close(f.gone)
	err := f.events()
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
	f.poke()
}

func (f *rpcFeed) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *rpcFeed) events() error {
	var part engine.Update // journal entries of the update that is still coming
	for {
		ev, err := f.in.events.next()
		if err != nil {
			return f.in.failure(err)
		}
		switch ev.name {
		case eventJournal:
			var j journal
			if err := json.Unmarshal(ev.data, &j); err != nil {
				return unreadable(f.in.doing, err)
			}
			part.Entries = append(part.Entries, j.Entries...)
			part.Gap = joinGaps(part.Gap, j.Gap)
		case eventSnapshot:
			snap, changed, err := f.mirror.apply(ev.data)
			if err != nil {
				return unreadable(f.in.doing, err)
			}
			part.Snapshot, part.Changed = snap, changed
			if err := f.offer(part); err != nil {
				return err
			}
			part = engine.Update{}
		default:
			if err, done := f.in.stray(ev); done {
				return err
			}
		}
	}
}

// offer merges an update into the pending one: the newest snapshot, all entries.
func (f *rpcFeed) offer(u engine.Update) error {
	for {
		f.mu.Lock()
		if f.pending == nil || len(f.pending.Entries)+len(u.Entries) <= maxPending {
			f.pending = merge(f.pending, u)
			f.mu.Unlock()
			f.poke()
			return nil
		}
		f.mu.Unlock()
		select {
		case <-f.room:
		case <-f.in.ctx.Done():
			return f.in.failure(context.Cause(f.in.ctx))
		}
	}
}

// merge makes one update of two that follow each other.
func merge(old *engine.Update, u engine.Update) *engine.Update {
	if old == nil {
		return &u
	}
	out := engine.Update{
		Snapshot: u.Snapshot,
		Entries:  append(slices.Clip(old.Entries), u.Entries...),
		Gap:      joinGaps(old.Gap, u.Gap),
	}
	for _, n := range engine.SectionNames {
		if slices.Contains(old.Changed, n) || slices.Contains(u.Changed, n) {
			out.Changed = append(out.Changed, n)
		}
	}
	return &out
}

func joinGaps(a, b *engine.Gap) *engine.Gap {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	return &engine.Gap{From: min(a.From, b.From), To: max(a.To, b.To)}
}

// Next gives what came since the last call, as one update. After the link broke
// it returns a problem for which LinkLost is true, each time.
func (f *rpcFeed) Next(ctx context.Context) (engine.Update, error) {
	for {
		f.mu.Lock()
		if f.closed {
			f.mu.Unlock()
			return engine.Update{}, io.EOF
		}
		if u := f.pending; u != nil {
			f.pending = nil
			f.mu.Unlock()
			select {
			case f.room <- struct{}{}:
			default:
			}
			return *u, nil
		}
		err := f.err
		f.mu.Unlock()
		if err != nil {
			return engine.Update{}, err
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return engine.Update{}, ctx.Err()
		}
	}
}

// Close ends the feed and waits for its reader.
func (f *rpcFeed) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.in.close()
	<-f.gone
	f.poke()
	return nil
}

// logStream is the dialling side of a stream of log lines. Its reader holds 256
// lines; when Next is slow the server waits, and the engine counts what it drops.
type logStream struct {
	in    *inflow
	lines chan engine.LogLine
	gone  chan struct{}

	once sync.Once
	err  error // set before lines is closed
}

func (l *logStream) read() {
	defer close(l.gone)
	defer close(l.lines)
	for {
		ev, err := l.in.events.next()
		if err != nil {
			l.err = l.in.failure(err)
			return
		}
		if ev.name != eventLine {
			if err, done := l.in.stray(ev); done {
				l.err = err
				return
			}
			continue
		}
		var line engine.LogLine
		if err := json.Unmarshal(ev.data, &line); err != nil {
			l.err = unreadable(l.in.doing, err)
			return
		}
		select {
		case l.lines <- line:
		case <-l.in.ctx.Done():
			l.err = l.in.failure(errors.New("closed"))
			return
		}
	}
}

func (l *logStream) Next(ctx context.Context) (engine.LogLine, error) {
	select {
	case line, ok := <-l.lines:
		if ok {
			return line, nil
		}
		if context.Cause(l.in.ctx) == context.Canceled {
			return engine.LogLine{}, io.EOF // closed by us
		}
		return engine.LogLine{}, l.err
	case <-ctx.Done():
		return engine.LogLine{}, ctx.Err()
	}
}

// Close ends the stream and waits for its reader.
func (l *logStream) Close() error {
	l.once.Do(l.in.close)
	<-l.gone
	return nil
}
