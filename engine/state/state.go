// Package state is the one goroutine that knows: facts go in, immutable
// snapshots and a numbered journal come out.
//
// Promises. Tell never blocks. Observations (a row, a reading) merge by key: of
// several that wait, the newest counts. Records (a raised finding, a journal
// entry) all count and wait in order; when 4,096 wait, further ones are dropped
// and counted in Stats. Snapshots are published at most four times a second and
// only when something changed; what was published never changes. A journal entry
// is on disk before any feed shows it. A feed holds the newest state and never a
// backlog, needs no goroutine, and nothing here waits for a feed.
//
// Rows and values told must not be changed afterwards, nor what they point to.
package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"app.provost/engine"
)

const (
	publishEvery = 250 * time.Millisecond // at most four snapshots a second
	tickEvery    = time.Second            // what changes by time alone: mutes, trends, ages
	maxRecords   = 4096                   // records that wait, in the inbox and for the disk
	maxSlots     = 262_144                // observations that wait: far above what one engine has things
	retryJournal = time.Second            // after the disk refused entries
)

// Journal keeps entries: Append numbers them and returns when they are on disk;
// Entries gives up to limit of those after a number, and the bounds of what is kept.
type Journal interface {
	Append(entries ...engine.Entry) ([]engine.Entry, error)
	Entries(after uint64, limit int) (entries []engine.Entry, first, last uint64, err error)
}

// Marks keeps acknowledgements and mutes of findings over a restart, by finding id.
type Marks interface {
	Put(id string, doc []byte) error
	Delete(id string) error
	All() (map[string][]byte, error)
}

// Options is what a State needs. Info, Journal and Catalog are required.
type Options struct {
	Info    engine.Info
	Journal Journal
	// Catalog turns what a room raised into a finding: id, level, title, text, effect, next keys, depends-on.
	Catalog func(r engine.Raise, now time.Time) engine.Finding
	// ShowAfter is how long a finding must be open before it is shown; nil: at once.
	ShowAfter func(engine.Code) time.Duration
	Marks     Marks // nil: acknowledgements end with the process
	// Parts are the configured ones of machines, workers, gpus, jobs, nodes and clusters
	// (which stands for duties, validators, peers and beacon nodes too): the
	// others stay nil in snapshots, and facts for them are ignored.
	Parts []engine.SectionName
	// TailEntries (default 4,096) is how many of the newest journal entries are kept in
	// memory for feeds; older ones are read from the journal.
	TailEntries int
	Logger      *slog.Logger
}

// State knows. Run must be running for anything told to be seen.
type State struct {
	o    Options
	m    *model // Run's; New's before
	in   inbox
	pub  atomic.Pointer[publication]
	done chan struct{} // closed when Run has ended

	viewersMu sync.Mutex // guards viewers; nothing else is called under it
	viewers   map[string]int

	journalErr atomic.Bool // the last append failed
	published  atomic.Uint64
}

// publication is one moment, with the way to the next.
type publication struct {
	snap  *engine.Snapshot
	tail  []engine.Entry // newest entries, without gaps; shared between publications and only ever appended to
	last  uint64         // number of the newest entry
	final bool           // nothing follows
	next  chan struct{}  // closed when the next one is there
}

// New makes a State and its first snapshot. It reads the marks.
func New(o Options) (*State, error) {
	if o.Journal == nil || o.Catalog == nil || o.Info.ID == "" {
		return nil, errors.New("make state: want Info.ID, Journal and Catalog")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.TailEntries < 1 {
		o.TailEntries = 4096
	}
	for _, p := range o.Parts {
		if !slices.Contains([]engine.SectionName{engine.SecMachines, engine.SecWorkers, engine.SecGPUs, engine.SecJobs, engine.SecNodes, engine.SecClusters}, p) {
			return nil, fmt.Errorf("make state: %q is not a part that can be configured", p)
		}
	}
	s := &State{o: o, done: make(chan struct{}), viewers: map[string]int{}}
	s.in.init()
	_, _, last, err := o.Journal.Entries(0, 0)
	if err != nil {
		return nil, err
	}
	m, err := newModel(o)
	if err != nil {
		return nil, err
	}
	s.m = m
	m.viewers = s.viewerNames
	now := time.Now()
	m.tick(now)
	s.pub.Store(&publication{snap: m.publish(now), last: last, next: make(chan struct{})})
	return s, nil
}

// Tell hands in facts. It never blocks. Facts told by one goroutine are folded in
// their order, except that a newer observation takes the place of an older one of
// the same thing that still waits.
func (s *State) Tell(facts ...Fact) { s.in.put(facts) }

// TellWait tells facts and waits until a snapshot with them is published (up to a quarter of a second).
func (s *State) TellWait(ctx context.Context, facts ...Fact) error {
	seen := make(chan struct{})
	if !s.in.put(append(slices.Clone(facts), barrier{seen})) {
		if s.in.isClosed() {
			return stopping("tell state")
		}
		return &engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitUnexpected, Doing: "tell state",
			Cause: fmt.Sprintf("%d records wait", maxRecords), Remedy: "look at the disk of the state directory; try again"}
	}
	return s.wait(ctx, seen)
}

func (s *State) wait(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.done:
		select {
		case <-ch:
			return nil
		default:
			return stopping("tell state")
		}
	}
}

func stopping(doing string) *engine.Problem {
	return &engine.Problem{Code: engine.CodeStopping, Exit: engine.ExitNotAllowed, Doing: doing,
		Cause: "the engine is stopping", Remedy: "try again when it is up"}
}

// Record writes entries to the journal and returns them, numbered, when they are
// on disk; all or none. It waits for the disk, at most as long as ctx lasts; after
// that the entries may still be written.
func (s *State) Record(ctx context.Context, entries ...engine.Entry) ([]engine.Entry, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	reply := make(chan struct{})
	r := &record{entries: slices.Clone(entries), done: reply}
	if !s.in.put([]Fact{r}) {
		if s.in.isClosed() {
			return nil, stopping("write journal")
		}
		return nil, &engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitUnexpected, Doing: "write journal",
			Cause: fmt.Sprintf("%d entries wait for the disk", maxRecords), Remedy: "look at the disk of the state directory; try again"}
	}
	if err := s.wait(ctx, reply); err != nil {
		return nil, err
	}
	return r.entries, r.err
}

// Snapshot is the newest one; never nil.
func (s *State) Snapshot() *engine.Snapshot { return s.pub.Load().snap }

// Stats says how the inbox does.
type Stats struct {
	Waiting   int    // facts that wait
	Merged    uint64 // observations that a newer one replaced before they were folded
	Dropped   uint64 // records lost because too many waited
	Published uint64 // snapshots
	// JournalFailing is set while entries wait because the disk does not take them.
	JournalFailing bool
}

// Stats says how the inbox does.
func (s *State) Stats() Stats {
	w, m, d := s.in.stats()
	return Stats{Waiting: w, Merged: m, Dropped: d, Published: s.published.Load(), JournalFailing: s.journalErr.Load()}
}

// Run folds and publishes until ctx ends; then it folds what waits, writes the
// last entries and publishes once more. It is called once.
func (s *State) Run(ctx context.Context) error {
	m := s.m
	toDisk, fromDisk := make(chan batch), make(chan batch)
	var writer sync.WaitGroup
	writer.Go(func() { s.write(toDisk, fromDisk) })

	var (
		tick    = time.NewTicker(tickEvery)
		due     = time.NewTimer(0) // publication; stopped while nothing changed
		retry   = time.NewTimer(0)
		lastPub time.Time
		writing bool
		held    bool // the disk refused entries: wait a little
		seen    []chan struct{}
	)
	defer tick.Stop()
	defer due.Stop()
	defer retry.Stop()
	due.Stop()
	retry.Stop()
	armed := false

	fold := func() {
		now := time.Now()
		for _, f := range s.in.take() {
			f.fold(m, now)
		}
		seen = append(seen, m.seen...)
		m.seen = nil
	}
	publish := func(final bool) {
		now := time.Now()
		s.publish(m, now, final)
		lastPub, armed = now, false
		for _, ch := range seen {
			close(ch)
		}
		seen = nil
	}
	arm := func() {
		if (m.changed() || len(seen) > 0) && !armed {
			due.Reset(max(0, time.Until(lastPub.Add(publishEvery))))
			armed = true
		}
	}
	back := func(b batch) {
		writing = false
		s.written(m, b)
		if b.err != nil {
			held = true
			retry.Reset(retryJournal)
		}
	}
	for ctx.Err() == nil {
		var out chan batch
		var next batch
		if !writing && !held && m.hasWork() {
			out, next = toDisk, m.nextBatch()
		}
		select {
		case <-ctx.Done():
		case <-s.in.wake:
			fold()
		case <-tick.C:
			m.tick(time.Now())
		case <-due.C:
			armed = false
			publish(false)
		case <-retry.C:
			held = false
		case out <- next:
			writing = true
			m.took(next)
		case b := <-fromDisk:
			back(b)
		}
		arm()
	}

	// The last words: whatever was told before the stop is folded, written and shown.
	s.in.close()
	fold()
	if writing {
		back(<-fromDisk)
	}
	if m.hasWork() {
		next := m.nextBatch()
		m.took(next)
		toDisk <- next
		back(<-fromDisk)
	}
	close(toDisk)
	writer.Wait()
	if n := m.waitingEntries(); n > 0 {
		s.o.Logger.Error("journal entries are lost: the disk did not take them before the stop", "entries", n)
	}
	m.failRecords(stopping("write journal"))
	publish(true)
	close(s.done)
	return nil
}

func (s *State) publish(m *model, now time.Time, final bool) {
	if !final && !m.changed() {
		return
	}
	old := s.pub.Load()
	next := &publication{snap: old.snap, tail: m.tail, last: max(old.last, m.last), final: final, next: make(chan struct{})}
	if m.sectionsChanged() {
		next.snap = m.publish(now)
		s.published.Add(1)
	}
	m.entriesNew = false
	s.pub.Store(next)
	close(old.next)
}
