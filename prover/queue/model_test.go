package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/prover"
)

// TestEveryJobVerifiedOnce lets workers, verifiers, connections, the board and the engine fail at random, and holds the
// queue to its promise: every good job verified exactly once, every bad one failed with the reason, nothing stuck.
func TestEveryJobVerifiedOnce(t *testing.T) {
	seeds := uint64(25)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { storm(t, seed) })
		})
	}
}

// world is what the processes of a storm share.
type world struct {
	t    *testing.T
	rig  *rig
	ctx  context.Context
	mu   sync.Mutex
	rand *rand.Rand
	calm bool
}

// chance is true once in n times, and never once the storm is over.
func (w *world) chance(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.calm && w.rand.IntN(n) == 0
}

func (w *world) some(d time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rand.Int64N(int64(d)))
}

// engine gives the hub and the queue of now.
func (w *world) engine() (*fakeHub, *Queue) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rig.hub, w.rig.q
}

func (w *world) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-w.ctx.Done():
		return false
	}
}

// process is one worker or verifier: what it has in hand outlives connections; what it saved outlives the process.
type process struct {
	*world
	id      prover.WorkerID
	role    prover.WorkerRole
	pid     int
	started time.Time
	hand    *prover.Order
	doneAt  time.Time
	result  *prover.Report
	saved   bool
}

func (p *process) begin() {
	p.pid++
	p.started = time.Now()
	if p.result == nil || !p.saved {
		p.hand, p.result = nil, nil
	}
}

func (p *process) holding() *prover.Holding {
	if p.hand == nil {
		return nil
	}
	return &prover.Holding{Job: p.hand.Job, Attempt: p.hand.Attempt, Done: p.result != nil}
}

func (p *process) run() {
	p.begin()
	for p.ctx.Err() == nil {
		hub, q := p.engine()
		c := hub.connect(p.id, p.role, p.pid, p.started, p.holding())
		if p.result != nil {
			c.tell(*p.result)
		}
		died := p.connected(c, hub)
		c.close()
		if died {
			var left *prover.Report
			if p.saved {
				left = p.result
			}
			if !p.chance(3) { // else the news never come
				ctx, cancel := context.WithTimeout(p.ctx, time.Second)
				q.WorkerExited(ctx, p.id, p.pid, left)
				cancel()
			}
			p.begin()
		}
		p.pause(p.some(3 * time.Second))
	}
}

// connected is the life of one connection; it says whether the process died.
func (p *process) connected(c *fakeConn, hub *fakeHub) bool {
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	sent := time.Now()
	for {
		var done <-chan time.Time
		if p.hand != nil && p.result == nil {
			done = time.After(time.Until(p.doneAt))
		}
		select {
		case <-p.ctx.Done():
			return false
		case <-beat.C:
			if now, _ := p.engine(); now != hub || p.chance(150) {
				return false // the engine is another, or the line broke
			}
			if p.chance(120) {
				return true
			}
			if p.chance(200) && !p.pause(time.Minute+p.some(time.Minute)) { // stopped for longer than a lease
				return false
			}
			c.tell(prover.Report{Kind: prover.ReportBeat, Holding: p.holding()})
			if p.result != nil && time.Since(sent) > 5*time.Second {
				sent = time.Now()
				c.tell(*p.result)
			}
		case o := <-c.orders:
			p.obey(c, o)
		case <-done:
			p.finish()
			if p.chance(30) {
				return true
			}
			sent = time.Now()
			c.tell(*p.result)
			if p.chance(10) {
				c.tell(*p.result)
			}
		}
	}
}

func (p *process) obey(c *fakeConn, o prover.Order) {
	mine := p.hand != nil && p.hand.Job == o.Job && p.hand.Attempt == o.Attempt
	switch o.Kind {
	case prover.OrderAck:
		if mine && p.result != nil {
			p.hand, p.result, p.saved = nil, nil, false
		}
	case prover.OrderCancel:
		if !mine {
			c.tell(prover.Report{Kind: prover.ReportRefused, Job: o.Job, Attempt: o.Attempt, Why: "not in hand"})
		} else if p.result == nil {
			p.result = &prover.Report{Kind: prover.ReportResult, Job: o.Job, Attempt: o.Attempt, Failure: &prover.Failure{Code: prover.FailCancelled, Text: "x"}}
			c.tell(*p.result)
		}
	case prover.OrderProve, prover.OrderVerify:
		if mine {
			return
		}
		if p.hand != nil || p.chance(40) {
			c.tell(prover.Report{Kind: prover.ReportRefused, Job: o.Job, Attempt: o.Attempt, Why: "not now"})
			return
		}
		p.hand = &o
		p.doneAt = time.Now().Add(p.some(8 * time.Second))
		if p.role == prover.RoleVerify {
			p.doneAt = time.Now().Add(p.some(50 * time.Millisecond))
		}
	}
}

func (p *process) finish() {
	o := p.hand
	r := &prover.Report{Kind: prover.ReportResult, Job: o.Job, Attempt: o.Attempt}
	switch {
	case p.role == prover.RoleVerify && p.chance(30):
		r.Failure = &prover.Failure{Code: prover.FailInternal, Text: "no memory", Retry: true}
	case p.role == prover.RoleVerify && string(o.Proof.ProofJSON) == "good":
		r.Verdict = prover.VerdictValid
	case p.role == prover.RoleVerify:
		r.Verdict, r.Why = prover.VerdictInvalid, "the pairing says no"
	case p.chance(15):
		r.Failure = &prover.Failure{Code: prover.FailInternal, Text: "no memory", Retry: true}
	case o.Job[0] == 'b':
		r.Proof = &prover.Proof{ProofJSON: []byte("bad")}
	default:
		r.Proof = &prover.Proof{ProofJSON: []byte("good")}
	}
	p.result, p.saved = r, p.role == prover.RoleProve
}

func storm(t *testing.T, seed uint64) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{t: t, rig: r, ctx: ctx, rand: rand.New(rand.NewPCG(seed, 3))}
	broken := errors.New("no space left on device")
	r.board.fail = func() error {
		if w.chance(60) {
			return broken
		}
		return nil
	}
	var procs sync.WaitGroup
	for n := range 5 {
		id, role := prover.WorkerFor(prover.Core(n+1)), prover.RoleProve
		if n >= 3 {
			id, role = prover.WorkerID(fmt.Sprint("verifier", n)), prover.RoleVerify
		}
		p := &process{world: w, id: id, role: role, pid: 1000 * (n + 1)}
		procs.Go(p.run)
	}

	// Submit in bursts, always twice, and pause, cancel and restart in between.
	var want = map[prover.JobID]prover.JobState{}
	again := func(do func(*Queue) error) {
		for do != nil {
			_, q := w.engine()
			err := do(q)
			if err == nil {
				return
			}
			if !errors.Is(err, broken) && !errors.Is(err, ErrStopped) {
				t.Errorf("got %v", err)
			}
			time.Sleep(time.Second)
		}
	}
	for burst := range 12 {
		var jobs []prover.Job
		for n := range 6 {
			id, state := prover.JobID(fmt.Sprintf("good-%d-%d", burst, n)), prover.JobVerified
			if n == 5 {
				id, state = prover.JobID(fmt.Sprintf("bad-%d", burst)), prover.JobFailed
			}
			j := testJob(id)
			j.MaxAttempts = 1000
			jobs = append(jobs, j)
			want[id] = state
		}
		for range 2 {
			again(func(q *Queue) error { _, err := q.Submit(ctx, jobs); return err })
		}
		if burst%4 == 1 {
			id := jobs[4].ID
			again(func(q *Queue) error {
				out, err := q.Cancel(ctx, []prover.JobID{id}, "typo")
				if err == nil && out[0].Err == nil {
					want[id] = prover.JobCancelled
				} else if err == nil && errors.Is(out[0].Err, prover.ErrFinal) && out[0].Ticket.State == prover.JobCancelled {
					want[id] = prover.JobCancelled // the first try was made after all
				}
				return err
			})
		}
		if burst%3 == 2 {
			until := time.Now().Add(20 * time.Second)
			again(func(q *Queue) error {
				return q.Pause(ctx, []prover.WorkerID{"w1", "w2"}, prover.Pause{Until: &until})
			})
		}
		time.Sleep(w.some(20 * time.Second))
		if burst%3 == 1 {
			r.stop()
			time.Sleep(w.some(90 * time.Second))
			w.mu.Lock()
			r.startQueue()
			w.mu.Unlock()
		}
	}
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	for waited := 0; ; waited++ {
		open, _ := r.board.Open(ctx)
		if len(open) == 0 {
			break
		}
		if waited > 60 {
			t.Fatalf("%d jobs are stuck, the first is %s in state %s, attempt %d", len(open), open[0].Job.ID, open[0].State, open[0].Attempts)
		}
		time.Sleep(10 * time.Second)
	}
	time.Sleep(10 * time.Second)
	synctest.Wait()

	for id, state := range want {
		tk, err := r.board.Get(ctx, id)
		if err != nil || tk.State != state {
			t.Errorf("job %s is %s (%v), want %s; failure %v", id, tk.State, err, state, tk.Failure)
			continue
		}
		accepted := r.board.accepted[id]
		switch state {
		case prover.JobVerified:
			if accepted != 1 || string(tk.Proof.ProofJSON) != "good" {
				t.Errorf("job %s was accepted %d times, proof %q", id, accepted, tk.Proof.ProofJSON)
			}
		case prover.JobFailed:
			if accepted != 0 || tk.Failure.Code != prover.FailProofInvalid && tk.Failure.Code != prover.FailInternal && tk.Failure.Code != prover.FailWorkerDied {
				t.Errorf("job %s was accepted %d times, failure %v", id, accepted, tk.Failure)
			}
		}
	}
	// What was told is what is.
	r.mu.Lock()
	for id, j := range r.jobs {
		if tk, _ := r.board.Get(ctx, id); tk.State != j.State || tk.Rev != j.Rev {
			t.Errorf("told that %s is %s (%d), it is %s (%d)", id, j.State, j.Rev, tk.State, tk.Rev)
		}
	}
	totals, _ := r.board.Totals(ctx)
	if r.last.Totals != totals || totals.Submitted != uint64(len(want)) {
		t.Errorf("told %+v, it is %+v", r.last.Totals, totals)
	}
	counts, _ := r.board.Counts(ctx)
	for _, c := range counts {
		if r.workers[c.Worker].Verified != c.Verified {
			t.Errorf("told that %s has %d, it has %d", c.Worker, r.workers[c.Worker].Verified, c.Verified)
		}
	}
	r.mu.Unlock()
	if r.files.sum() != 0 || r.files.least < 0 {
		t.Errorf("%d holds are left, least %d", r.files.sum(), r.files.least)
	}
	cancel()
	procs.Wait()
}
