package sched

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"app.provost/cluster"
)

// Duties are the assignments of an epoch of one type. They are void when the block root that they
// depend on changed; a zero root depends on nothing.
type Duties struct {
	DependentRoot cluster.Root
	Assignments   []cluster.Assignment
}

// Due is a duty that begins now.
type Due struct {
	Duty        cluster.Duty
	Assignments map[cluster.PubKey]cluster.Assignment
	Head        cluster.Root // the block that brought it forward; zero when the clock did
}

// Head is what a beacon node tells of its new head.
type Head struct {
	Slot       cluster.Slot
	Block      cluster.Root
	Optimistic bool
	// Previous is the dependent root of attesters of the slot's epoch, Current that of the next
	// epoch's and of the epoch's proposers; zero when not told.
	Previous, Current cluster.Root
}

// Options say who is scheduled. Table, the two questions and OnDue are required.
type Options struct {
	Table Table
	// Attesters and Proposers ask a beacon node for the duties of the cluster's validators in an
	// epoch, the current or the next one. They block no longer than their context.
	Attesters func(ctx context.Context, e cluster.Epoch) (Duties, error)
	Proposers func(ctx context.Context, e cluster.Epoch) (Duties, error)
	// OnDue is called once per duty, from the loop, in order of time. It must not block.
	OnDue func(Due)
	// OnTrouble is told that duties of an epoch could not be had, and nil when they could again.
	// It must not block. May be nil.
	OnTrouble func(e cluster.Epoch, err error)
	Logger    *slog.Logger
}

// Scheduler calls out duties. Use New and Run.
type Scheduler struct {
	o        Options
	heads    chan Head
	refresh  chan struct{}
	upcoming atomic.Pointer[[]Due]
	through  atomic.Uint64 // the last epoch whose duties are known, plus one; 0: none
}

// maxHeads bounds heads that the loop hasn't read yet; with more the oldest is dropped, since only
// the newest heads matter.
const maxHeads = 16

// resolveTimeout bounds one round of questions about an epoch.
const resolveTimeout = 10 * time.Second

// New checks that nothing is missing.
func New(o Options) (*Scheduler, error) {
	if o.Table.spec.Clock.SlotsPerEpoch == 0 || o.Attesters == nil || o.Proposers == nil || o.OnDue == nil {
		return nil, errors.New("make a scheduler: Table, Attesters, Proposers and OnDue are required")
	}
	if o.OnTrouble == nil {
		o.OnTrouble = func(cluster.Epoch, error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Scheduler{o: o, heads: make(chan Head, maxHeads), refresh: make(chan struct{}, 1)}
	s.upcoming.Store(new([]Due))
	return s, nil
}

// OnHead tells the scheduler a new head. It doesn't block.
func (s *Scheduler) OnHead(h Head) {
	for {
		select {
		case s.heads <- h:
			return
		default:
		}
		select {
		case <-s.heads:
		default:
		}
	}
}

// Refresh has the duties asked for again: a reorg was told, or heads may have been missed. It
// doesn't block.
func (s *Scheduler) Refresh() {
	select {
	case s.refresh <- struct{}{}:
	default: // it will be done anyway
	}
}

// Upcoming lists the known duties from this epoch on, by time. The slice must not be changed.
func (s *Scheduler) Upcoming() []Due { return *s.upcoming.Load() }

// KnownThrough is the last epoch whose duties are known; false when none is.
func (s *Scheduler) KnownThrough() (cluster.Epoch, bool) {
	n := s.through.Load()
	return cluster.Epoch(n - 1), n > 0
}

// epochDuties is what is known of an epoch.
type epochDuties struct {
	attesterRoot, proposerRoot cluster.Root
	duties                     map[cluster.Duty]map[cluster.PubKey]cluster.Assignment
	stale                      bool // a head contradicts it: nothing of it begins
	again                      bool // to be asked for once more
}

type answer struct {
	epoch  cluster.Epoch
	duties *epochDuties
	err    error
}

// loop is the scheduler's state. Run's goroutine is its only writer.
type loop struct {
	*Scheduler
	epochs   map[cluster.Epoch]*epochDuties
	begun    map[cluster.Duty]bool
	slot     cluster.Slot // the newest that began
	genesis  bool         // the chain runs
	head     Head         // of the current slot, when there is one
	answers  chan answer
	asking   bool
	failures int
	askAfter time.Time
	trouble  bool
}

// Run schedules until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	l := &loop{Scheduler: s, epochs: map[cluster.Epoch]*epochDuties{}, begun: map[cluster.Duty]bool{}, answers: make(chan answer, 1)}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		if l.asking {
			<-l.answers
		}
	}()
	for {
		now := time.Now()
		l.enter(now)
		l.begin(now)
		l.ask(ctx, now)
		timer := time.NewTimer(l.wake(now).Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case h := <-s.heads:
			l.onHead(h)
		case <-s.refresh:
			for _, e := range l.epochs {
				e.again = true
			}
			l.askAfter = time.Time{}
		case a := <-l.answers:
			l.onAnswer(a, time.Now())
		}
		timer.Stop()
	}
}

// enter notices that a new slot began.
func (l *loop) enter(now time.Time) {
	clock := l.o.Table.Clock()
	slot, ok := clock.At(now)
	if !ok || l.genesis && slot == l.slot {
		return
	}
	epoch := clock.Epoch(slot)
	switch have := l.epochs[epoch]; {
	case have == nil:
	case slot == clock.First(epoch):
		// What was asked for ahead may have been before the epoch's shuffling was certain.
		have.again = true
	}
	l.genesis, l.slot = true, slot
	l.askAfter = time.Time{} // each slot is another chance
	for e := range l.epochs {
		if e+1 < epoch || e > epoch+1 { // the latter when the clock was set back
			delete(l.epochs, e)
		}
	}
	for d := range l.begun {
		if clock.Epoch(d.Slot)+2 < epoch {
			delete(l.begun, d)
		}
	}
}

// begin calls out what is due in the current slot and didn't begin yet. Slots that were missed
// altogether are skipped.
func (l *loop) begin(now time.Time) {
	if !l.genesis {
		return
	}
	e := l.epochs[l.o.Table.Clock().Epoch(l.slot)]
	if e == nil || e.stale {
		return
	}
	for _, d := range l.duties(l.slot) {
		assignments := e.duties[d]
		if len(assignments) == 0 || l.begun[d] {
			continue
		}
		due := Due{Duty: d, Assignments: assignments}
		if l.o.Table.Due(d).After(now) {
			row, _ := rowOf(d.Type)
			if !row.OnHead || l.head.Slot != l.slot || l.head.Optimistic || l.head.Block == (cluster.Root{}) {
				continue
			}
			due.Head = l.head.Block
		}
		if end, ends := l.o.Table.Deadline(d); ends && !now.Before(end) {
			continue
		}
		l.begun[d] = true
		l.o.OnDue(due)
	}
}

// duties lists what may be due in a slot: the reveal comes before the block that needs it.
func (l *loop) duties(slot cluster.Slot) []cluster.Duty {
	return []cluster.Duty{{Slot: slot, Type: cluster.DutyRandao}, {Slot: slot, Type: cluster.DutyProposer}, {Slot: slot, Type: cluster.DutyAttester}}
}

// wanted is the epoch to ask for next; false when all is known.
func (l *loop) wanted() (cluster.Epoch, bool) {
	clock := l.o.Table.Clock()
	epoch := clock.Epoch(l.slot)
	need := func(e cluster.Epoch) bool { d := l.epochs[e]; return d == nil || d.stale || d.again }
	if need(epoch) {
		return epoch, true
	}
	// The next epoch's attesters are certain from its predecessor's start, but a node may need the
	// first slots to catch up with the boundary; half an epoch ahead is early enough.
	if uint64(l.slot-clock.First(epoch)) >= clock.SlotsPerEpoch/2 && need(epoch+1) {
		return epoch + 1, true
	}
	return 0, false
}

func (l *loop) ask(ctx context.Context, now time.Time) {
	epoch, any := l.wanted()
	if !any || l.asking || now.Before(l.askAfter) {
		return
	}
	l.asking = true
	go func() {
		ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
		defer cancel()
		d, err := l.resolve(ctx, epoch)
		l.answers <- answer{epoch, d, err} // has room: one asks at a time
	}()
}

func (s *Scheduler) resolve(ctx context.Context, epoch cluster.Epoch) (*epochDuties, error) {
	attesters, err := s.o.Attesters(ctx, epoch)
	if err != nil {
		return nil, fmt.Errorf("ask for the attesters of epoch %d: %w", epoch, err)
	}
	proposers, err := s.o.Proposers(ctx, epoch)
	if err != nil {
		return nil, fmt.Errorf("ask for the proposers of epoch %d: %w", epoch, err)
	}
	out := &epochDuties{attesterRoot: attesters.DependentRoot, proposerRoot: proposers.DependentRoot, duties: map[cluster.Duty]map[cluster.PubKey]cluster.Assignment{}}
	add := func(d cluster.Duty, a cluster.Assignment) {
		// An answer for another epoch than the one asked for must not slip in.
		if s.o.Table.Clock().Epoch(a.Slot) != epoch {
			return
		}
		if out.duties[d] == nil {
			out.duties[d] = map[cluster.PubKey]cluster.Assignment{}
		}
		out.duties[d][a.PubKey] = a
	}
	for _, a := range attesters.Assignments {
		add(cluster.Duty{Slot: a.Slot, Type: cluster.DutyAttester}, a)
	}
	for _, a := range proposers.Assignments {
		add(cluster.Duty{Slot: a.Slot, Type: cluster.DutyRandao}, a)
		add(cluster.Duty{Slot: a.Slot, Type: cluster.DutyProposer}, a)
	}
	return out, nil
}

// Waiting times between questions that failed.
const (
	firstWait = 250 * time.Millisecond
	maxWait   = 12 * time.Second
)

func (l *loop) onAnswer(a answer, now time.Time) {
	l.asking = false
	if a.err != nil {
		wait := float64(firstWait)
		for range min(l.failures, 20) {
			wait *= 1.6
		}
		wait = min(wait, float64(maxWait)) * (0.9 + 0.2*rand.Float64())
		l.failures++
		l.askAfter = now.Add(time.Duration(wait))
		l.trouble = true
		l.o.OnTrouble(a.epoch, a.err)
		return
	}
	l.failures, l.askAfter = 0, time.Time{}
	if l.trouble {
		l.trouble = false
		l.o.OnTrouble(a.epoch, nil)
	}
	l.epochs[a.epoch] = a.duties
	l.publish()
}

// onHead compares the head's dependent roots with those that the duties were made from.
func (l *loop) onHead(h Head) {
	clock := l.o.Table.Clock()
	epoch := clock.Epoch(h.Slot)
	differ := func(have, told cluster.Root) bool {
		return told != cluster.Root{} && have != cluster.Root{} && have != told
	}
	if e := l.epochs[epoch]; e != nil && (differ(e.attesterRoot, h.Previous) || differ(e.proposerRoot, h.Current)) {
		l.spoil(epoch, e)
	}
	if e := l.epochs[epoch+1]; e != nil && differ(e.attesterRoot, h.Current) {
		l.spoil(epoch+1, e)
	}
	if slot, ok := clock.At(time.Now()); ok && h.Slot == slot {
		l.enter(time.Now())
		l.head = h
	}
}

func (l *loop) spoil(epoch cluster.Epoch, e *epochDuties) {
	if !e.stale {
		l.o.Logger.Info("duties changed with the chain's head; asking for them again", "epoch", epoch)
	}
	e.stale = true
	l.askAfter = time.Time{}
}

func (l *loop) publish() {
	var out []Due
	for _, e := range l.epochs {
		for d, a := range e.duties {
			if d.Slot >= l.slot {
				out = append(out, Due{Duty: d, Assignments: maps.Clone(a)})
			}
		}
	}
	slices.SortFunc(out, func(a, b Due) int {
		if a.Duty.Slot != b.Duty.Slot {
			return int(int64(a.Duty.Slot) - int64(b.Duty.Slot))
		}
		return l.o.Table.Due(a.Duty).Compare(l.o.Table.Due(b.Duty))
	})
	l.upcoming.Store(&out)
	through := uint64(0)
	for e := range l.epochs {
		through = max(through, uint64(e)+1)
	}
	l.through.Store(through)
}

// wake is when the loop must look again at the latest.
func (l *loop) wake(now time.Time) time.Time {
	clock := l.o.Table.Clock()
	next := clock.Genesis
	if l.genesis {
		next = clock.Start(l.slot + 1)
	}
	// Long sleeps are cut, so that a clock that is set doesn't make them last.
	if most := now.Add(max(clock.SlotDuration, time.Second)); next.After(most) {
		next = most
	}
	sooner := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	if l.genesis {
		for _, d := range l.duties(l.slot) {
			if !l.begun[d] {
				sooner(l.o.Table.Due(d))
			}
		}
	}
	if _, any := l.wanted(); any && !l.asking {
		sooner(l.askAfter)
	}
	return next
}
