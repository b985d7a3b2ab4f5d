package queue

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/prover"
)

var discard = slog.New(slog.DiscardHandler)

// fakeHub is a Hub without sockets. Orders go to the handler of the connection, each in turn.
type fakeHub struct {
	events chan prover.WorkerEvent
	mu     sync.Mutex
	next   uint64
	conns  map[prover.WorkerID]*fakeConn
}

type fakeConn struct {
	hub    *fakeHub
	peer   prover.Peer
	orders chan prover.Order
	gone   bool
}

func newFakeHub() *fakeHub {
	return &fakeHub{events: make(chan prover.WorkerEvent, 4096), conns: map[prover.WorkerID]*fakeConn{}}
}

func (h *fakeHub) Events() <-chan prover.WorkerEvent { return h.events }

func (h *fakeHub) Send(to prover.Peer, o prover.Order) error {
	if err := o.Check(); err != nil {
		panic(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conns[to.Worker]
	if c == nil || c.peer != to {
		return errors.New("gone")
	}
	select {
	case c.orders <- o:
		return nil
	default:
		return errors.New("full")
	}
}

// connect says hello.
func (h *fakeHub) connect(id prover.WorkerID, role prover.WorkerRole, pid int, started time.Time, holding *prover.Holding) *fakeConn {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	c := &fakeConn{hub: h, peer: prover.Peer{Worker: id, Conn: h.next}, orders: make(chan prover.Order, 64)}
	h.conns[id] = c
	c.tellLocked(prover.Report{Kind: prover.ReportHello, Holding: holding,
		Hello: &prover.WorkerHello{Role: role, PID: pid, Version: "test", StartedAt: started}})
	return c
}

func (c *fakeConn) tellLocked(r prover.Report) {
	if err := r.Check(); err != nil {
		panic(err)
	}
	c.hub.events <- prover.WorkerEvent{Peer: c.peer, At: time.Now(), Report: r}
}

func (c *fakeConn) tell(r prover.Report) {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if !c.gone {
		c.tellLocked(r)
	}
}

// close ends the connection.
func (c *fakeConn) close() {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if c.gone {
		return
	}
	c.gone = true
	if c.hub.conns[c.peer.Worker] == c {
		delete(c.hub.conns, c.peer.Worker)
	}
	c.tellLocked(prover.Report{Kind: prover.ReportGone})
}

func (c *fakeConn) prove(o prover.Order, text string) {
	c.tell(prover.Report{Kind: prover.ReportResult, Job: o.Job, Attempt: o.Attempt, Proof: &prover.Proof{ProofJSON: []byte(text), ProveTime: time.Second}})
}

func (c *fakeConn) judge(o prover.Order, v prover.Verdict) {
	c.tell(prover.Report{Kind: prover.ReportResult, Job: o.Job, Attempt: o.Attempt, Verdict: v, Why: "the pairing says no"})
}

func (c *fakeConn) beat(o prover.Order) {
	c.tell(prover.Report{Kind: prover.ReportBeat, Holding: &prover.Holding{Job: o.Job, Attempt: o.Attempt, Phase: prover.PhaseFFT, Progress: 0.5}})
}

// order is the next order; the bubble must be able to make one.
func (c *fakeConn) order(t *testing.T, want prover.OrderKind) prover.Order {
	t.Helper()
	synctest.Wait()
	select {
	case o := <-c.orders:
		if o.Kind != want {
			t.Fatalf("%s got order %s for %s, want %s", c.peer.Worker, o.Kind, o.Job, want)
		}
		return o
	default:
		t.Fatalf("%s got no order, want %s", c.peer.Worker, want)
	}
	return prover.Order{}
}

func (c *fakeConn) none(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case o := <-c.orders:
		t.Fatalf("%s got order %s for %s", c.peer.Worker, o.Kind, o.Job)
	default:
	}
}

// noFiles is a store of nothing, which counts holds.
type noFiles struct {
	mu      sync.Mutex
	refs    map[held]int
	least   int
	recheck int
}

func (f *noFiles) Path(k BlobKind, d prover.Digest) string {
	return "/blobs/" + d.String() + "." + string(k)
}
func (f *noFiles) add(k BlobKind, d prover.Digest, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refs == nil {
		f.refs = map[held]int{}
	}
	f.refs[held{k, d}] += n
	f.least = min(f.least, f.refs[held{k, d}])
}
func (f *noFiles) Hold(k BlobKind, d prover.Digest) { f.add(k, d, 1) }
func (f *noFiles) Drop(k BlobKind, d prover.Digest) { f.add(k, d, -1) }
func (f *noFiles) Recheck(BlobKind, prover.Digest)  { f.mu.Lock(); f.recheck++; f.mu.Unlock() }
func (f *noFiles) Sweep() error                     { return nil }
func (f *noFiles) sum() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.refs {
		n += r
	}
	return n
}

// badBoard refuses commits on demand and counts what is accepted.
type badBoard struct {
	Board
	mu       sync.Mutex
	fail     func() error
	accepted map[prover.JobID]int
}

func (b *badBoard) Apply(ctx context.Context, c []prover.Change) ([]prover.Outcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		if err := b.fail(); err != nil {
			return nil, err
		}
	}
	out, err := b.Board.Apply(ctx, c)
	for i, o := range out {
		if a, ok := c[i].(prover.AcceptProof); ok && o.Err == nil {
			b.accepted[a.Job]++
		}
	}
	return out, err
}

// rig is a queue that runs in a bubble.
type rig struct {
	t       *testing.T
	board   *badBoard
	hub     *fakeHub
	files   *noFiles
	q       *Queue
	stop    func()
	skew    atomic.Int64 // nanoseconds that the queue's clock is ahead
	mu      sync.Mutex
	events  []Event
	jobs    map[prover.JobID]JobView // as told by OnChange
	workers map[prover.WorkerID]WorkerView
	last    Update
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, board: &badBoard{Board: NewMemBoard(), accepted: map[prover.JobID]int{}}}
	r.startQueue()
	t.Cleanup(func() { r.stop() })
	return r
}

// startQueue begins an engine's life on the same board.
func (r *rig) startQueue() {
	r.hub, r.files = newFakeHub(), &noFiles{}
	q, err := New(Options{Board: r.board, Hub: r.hub, Files: r.files, Logger: discard, Lease: 30 * time.Second,
		Now:      func() time.Time { return time.Now().Add(time.Duration(r.skew.Load())) },
		JobLimit: func(prover.Job) time.Duration { return 10 * time.Minute },
		Record:   func(e Event) { r.mu.Lock(); r.events = append(r.events, e); r.mu.Unlock() },
		OnChange: r.changed})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := q.Run(ctx); err != nil {
			r.t.Errorf("run: %v", err)
		}
	}()
	r.q = q
	r.stop = func() { cancel(); <-done }
}

func (r *rig) changed(u Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.Full {
		r.jobs, r.workers = map[prover.JobID]JobView{}, map[prover.WorkerID]WorkerView{}
	}
	for _, j := range u.Jobs {
		r.jobs[j.Job.ID] = j
	}
	for _, w := range u.Workers {
		r.workers[w.ID] = w
	}
	u.Jobs, u.Workers = nil, nil
	r.last = u
}

func (r *rig) restartQueue() {
	r.stop()
	r.startQueue()
}

func (r *rig) submit(ids ...prover.JobID) {
	r.t.Helper()
	var jobs []prover.Job
	for _, id := range ids {
		jobs = append(jobs, testJob(id))
	}
	out, err := r.q.Submit(r.t.Context(), jobs)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, o := range out {
		if o.Err != nil {
			r.t.Fatal(o.Err)
		}
	}
}

func testJob(id prover.JobID) prover.Job {
	return prover.Job{ID: id, Kind: prover.Groth16Zkey, MaxAttempts: 3, Zkey: prover.Blob{Digest: prover.Digest{1}, SizeBytes: 1}, Witness: prover.Blob{Digest: prover.Digest{2}, SizeBytes: 1}}
}

func (r *rig) state(id prover.JobID, want prover.JobState) prover.Ticket {
	r.t.Helper()
	synctest.Wait()
	t, err := r.q.Get(r.t.Context(), id)
	if err != nil || t.State != want {
		r.t.Fatalf("job %s is %q (%v), want %s; failure %v", id, t.State, err, want, t.Failure)
	}
	return t
}

// worker connects a data worker that is older than everything.
func (r *rig) worker(id prover.WorkerID) *fakeConn {
	return r.hub.connect(id, prover.RoleProve, 100, time.Now().Add(-time.Hour), nil)
}

func (r *rig) verifier() *fakeConn {
	return r.hub.connect("verifier", prover.RoleVerify, 200, time.Now().Add(-time.Hour), nil)
}

func (r *rig) has(k EventKind) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == k {
			return true
		}
	}
	return false
}
