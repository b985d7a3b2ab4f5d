// Package queue is the control side of proving: it hands jobs to connected workers, has every proof verified by another
// process before it counts, takes jobs back from workers that died, and drains workers that are paused.
//
// # Promises
//
// One goroutine, Run, owns all state and is the only writer of its Board. What it tells anyone (an order to a worker, an
// acknowledgement, the answer of a method, an event) it tells after the board has committed what it rests on. Changes
// that come while a commit is under way go together into the next one.
//
// A job is delivered at least once and verified exactly once: only a report that names the lease in force counts, and
// only a verifier's verdict on the proof that is kept makes a job verified. A worker keeps its lease as long as it is
// heard of and its time limit has not passed. The lease outlives the queue: a worker that comes back to the next Run with
// its job in hand goes on, and leases run anew from the start of Run.
//
// The oldest queued job goes first, to the worker that has waited longest. A job whose proof was refused goes to another
// worker if there is one.
//
// Methods may be called from any goroutine and wait for Run to take them up; they give the context's error when that
// ends first (the change may still happen) and ErrStopped when Run has ended. OnChange and Record are called from Run
// and must not wait for the queue.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"app.provost/prover"
)

// Hub is the way to the workers: run.Hub over sockets.
type Hub interface {
	// Events are what workers report, in order for each worker.
	Events() <-chan prover.WorkerEvent
	// Send hands an order to a connection without waiting; an error says that it has ended.
	Send(to prover.Peer, o prover.Order) error
}

// Files is the store of keys and witnesses: *Blobs.
type Files interface {
	Path(BlobKind, prover.Digest) string
	// Hold keeps a file until the same number of Drops.
	Hold(BlobKind, prover.Digest)
	Drop(BlobKind, prover.Digest)
	// Recheck reads a file again and removes it if its content is not what its name says.
	Recheck(BlobKind, prover.Digest)
	// Sweep removes what nobody holds and was left by an earlier process. Called once everything that is needed is held.
	Sweep() error
}

var (
	// ErrStopped: Run has ended.
	ErrStopped = errors.New("the job queue has stopped")
	// ErrFull: as many jobs are open as are allowed; submit again when some have ended.
	ErrFull = errors.New("the job queue is full")
	// ErrNotPaused: the worker is not, or no longer, paused.
	ErrNotPaused = errors.New("the worker is not paused")
	// ErrNotConnected: the worker's process is not connected.
	ErrNotConnected = errors.New("the worker is not connected")
)

// Options are what a queue needs. Board, Hub, Files and Logger are required.
type Options struct {
	Board  Board
	Hub    Hub
	Files  Files
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
	// Lease is how long a worker may be silent before its job is given to another (60 s). Much longer than a heartbeat.
	Lease time.Duration
	// JobLimit bounds one attempt at a job (default: an hour), VerifyLimit one verification (10 min).
	JobLimit    func(prover.Job) time.Duration
	VerifyLimit time.Duration
	// MaxOpen bounds the jobs that have not ended (100,000): more are refused with ErrFull.
	MaxOpen int
	// Recent is how many ended jobs a full update carries (200).
	Recent int
	// PublishEvery is the least time between two calls of OnChange (100 ms).
	PublishEvery time.Duration
	// OnChange is told what has changed; the first update after a start, or after trouble with the board, is full. May be nil.
	OnChange func(Update)
	// Record is told what belongs into a journal. May be nil.
	Record func(Event)
}

// Event is something that happened, for the journal.
type Event struct {
	At     time.Time
	Kind   EventKind
	Level  Level
	Job    prover.JobID
	Worker prover.WorkerID
	Text   string // in words
}

// Level grades events: note, warn, crit as in the journal; ok ends trouble.
type Level string

const (
	LevelNote Level = "note"
	LevelWarn Level = "warn"
	LevelCrit Level = "crit"
	LevelOK   Level = "ok"
)

// EventKind is stable.
type EventKind string

const (
	EventSubmitted EventKind = "job.submitted"
	EventRetry     EventKind = "job.retry" // an attempt ended without a proof that counts
	EventVerified  EventKind = "job.verified"
	EventFailed    EventKind = "job.failed"
	EventCancelled EventKind = "job.cancelled"
	EventLate      EventKind = "job.late-result"
	EventPaused    EventKind = "worker.paused"
	EventResumed   EventKind = "worker.resumed" // by hand, or because the time was up
	EventBoardBad  EventKind = "board.refuses"  // nothing moves until EventBoardGood
	EventBoardGood EventKind = "board.takes"
)

// Update is what changed since the last one; rows are complete. A full update has everything: what is not in it is gone.
type Update struct {
	At      time.Time
	Full    bool
	Jobs    []JobView
	Workers []WorkerView
	Totals  prover.JobTotals
	// PerMinute is the number of jobs verified in the last minute; nil in the first minute of Run.
	PerMinute *float64
	// Problem says why the board takes no changes; "" when it does.
	Problem string
}

// JobView is a job as it stands, without the bodies of its proof.
type JobView struct {
	prover.Ticket
	Phase    prover.Phase
	Progress *float64 // 0 to 1; nil: not being worked on
}

// WorkerView is a worker or verifier as the queue sees it.
type WorkerView struct {
	ID        prover.WorkerID
	Role      prover.WorkerRole // "" until it first connected
	Connected bool
	Since     time.Time // of Connected
	PID       int
	Version   string
	StartedAt *time.Time
	HeardAt   *time.Time
	LatencyMS *float64
	RSSBytes  *uint64
	Job       *prover.JobID // leased to it, or being verified by it
	Attempt   int
	Phase     prover.Phase
	Progress  *float64
	Pause     *prover.Pause
	Pausing   bool   // paused, and not drained yet
	Verified  uint64 // its jobs that were verified
}

// Queue hands out jobs. Make it with New, then call Run.
type Queue struct {
	o       Options
	calls   chan call
	stopped chan struct{}
	once    sync.Once
}

type call struct {
	fn func(*loop)
}

// New checks the options. The queue does nothing before Run.
func New(o Options) (*Queue, error) {
	if o.Board == nil || o.Hub == nil || o.Files == nil || o.Logger == nil {
		return nil, errors.New("new job queue: options are incomplete")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Lease <= 0 {
		o.Lease = time.Minute
	}
	if o.JobLimit == nil {
		o.JobLimit = func(prover.Job) time.Duration { return time.Hour }
	}
	if o.VerifyLimit <= 0 {
		o.VerifyLimit = 10 * time.Minute
	}
	if o.MaxOpen <= 0 {
		o.MaxOpen = 100_000
	}
	if o.Recent <= 0 {
		o.Recent = 200
	}
	if o.PublishEvery <= 0 {
		o.PublishEvery = 100 * time.Millisecond
	}
	if o.OnChange == nil {
		o.OnChange = func(Update) {}
	}
	if o.Record == nil {
		o.Record = func(Event) {}
	}
	return &Queue{o: o, calls: make(chan call, 64), stopped: make(chan struct{})}, nil
}

// Run owns the queue until ctx ends. It may be called once. It fails only if the board cannot be read at the start.
func (q *Queue) Run(ctx context.Context) error {
	ran := false
	q.once.Do(func() { ran = true })
	if !ran {
		return errors.New("run job queue: it has run before")
	}
	defer close(q.stopped)
	l, err := newLoop(ctx, q.o)
	if err != nil {
		return fmt.Errorf("run job queue: %w", err)
	}
	l.run(ctx, q.calls)
	return nil
}

// ask runs fn in the loop; fn calls the function that it is given when the answer is there.
func ask[T any](ctx context.Context, q *Queue, fn func(l *loop, reply func(T, error))) (T, error) {
	type answer struct {
		v   T
		err error
	}
	ch := make(chan answer, 1)
	var none T
	c := call{func(l *loop) {
		if ctx.Err() != nil {
			return // nobody waits any more, and nothing was done yet
		}
		fn(l, func(v T, err error) { ch <- answer{v, err} })
	}}
	select {
	case q.calls <- c:
	case <-ctx.Done():
		return none, ctx.Err()
	case <-q.stopped:
		return none, ErrStopped
	}
	select {
	case a := <-ch:
		return a.v, a.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-q.stopped:
		select {
		case a := <-ch:
			return a.v, a.err
		default:
			return none, ErrStopped
		}
	}
}

// Submit adds jobs; when it returns they are on the board. Their files must be in Files and held by the caller until
// then. A job that is there already is answered as repeated, an id that belongs to another job with ErrJobDiffers in
// its outcome. All are refused with ErrFull if they would not all find room.
func (q *Queue) Submit(ctx context.Context, jobs []prover.Job) ([]prover.Outcome, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	return ask(ctx, q, func(l *loop, reply func([]prover.Outcome, error)) { l.submit(jobs, reply) })
}

// Cancel withdraws jobs; one outcome each (prover.ErrNoJob, prover.ErrFinal). Workers stop working on them.
func (q *Queue) Cancel(ctx context.Context, ids []prover.JobID, reason string) ([]prover.Outcome, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	return ask(ctx, q, func(l *loop, reply func([]prover.Outcome, error)) { l.cancel(ids, reason, reply) })
}

// Get gives a job with its proof, from the board; prover.ErrNoJob if there is none.
func (q *Queue) Get(ctx context.Context, id prover.JobID) (prover.Ticket, error) {
	return q.o.Board.Get(ctx, id)
}

// Pause lets workers finish what they have in hand and take nothing more, until p.Until if that is set. p.Worker is
// ignored. It returns when the pauses are on the board; Drained tells when a worker has nothing in hand any more.
func (q *Queue) Pause(ctx context.Context, ids []prover.WorkerID, p prover.Pause) error {
	_, err := ask(ctx, q, func(l *loop, reply func(struct{}, error)) { l.pause(ids, p, reply) })
	return err
}

// Resume ends pauses; with an act only those of that act.
func (q *Queue) Resume(ctx context.Context, ids []prover.WorkerID, act string) error {
	_, err := ask(ctx, q, func(l *loop, reply func(struct{}, error)) { l.resume(ids, act, reply) })
	return err
}

// Drained waits until a paused worker has nothing in hand; ErrNotPaused when it is not, or no longer, paused.
func (q *Queue) Drained(ctx context.Context, id prover.WorkerID) error {
	_, err := ask(ctx, q, func(l *loop, reply func(struct{}, error)) {
		l.waiters = append(l.waiters, waiter{id, ctx, func(err error) { reply(struct{}{}, err) }})
	})
	return err
}

// Retire asks a worker's process to end when it has delivered what it has in hand.
func (q *Queue) Retire(ctx context.Context, id prover.WorkerID, why string) error {
	_, err := ask(ctx, q, func(l *loop, reply func(struct{}, error)) {
		w := l.workers[id]
		if w == nil || !w.connected {
			reply(struct{}{}, fmt.Errorf("retire %s: %w", id, ErrNotConnected))
			return
		}
		reply(struct{}{}, l.o.Hub.Send(w.peer, prover.Order{Kind: prover.OrderDrain, Why: why}))
	})
	return err
}

// WorkerExited says that the process of a worker has ended: its job is free at once. pid is that of the process (0: not
// known), so that news of an old process do not harm its successor. left is the result that it saved and could not
// deliver (run.ReadResult), nil if none: it counts as delivered.
func (q *Queue) WorkerExited(ctx context.Context, id prover.WorkerID, pid int, left *prover.Report) error {
	_, err := ask(ctx, q, func(l *loop, reply func(struct{}, error)) {
		l.exited(id, pid, left)
		reply(struct{}{}, nil)
	})
	return err
}

// Snapshot is a full update of now.
func (q *Queue) Snapshot(ctx context.Context) (Update, error) {
	return ask(ctx, q, func(l *loop, reply func(Update, error)) { reply(l.full(), nil) })
}
