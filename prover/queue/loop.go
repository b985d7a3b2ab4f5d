package queue

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"app.provost/prover"
)

const (
	sweepEvery  = 500 * time.Millisecond
	sweepGap    = 10 * time.Second // between two sweeps: longer means that nobody was heard for other reasons than death
	maxBatch    = 1024             // events and calls that go into one commit
	boardRetry  = time.Second      // pause after the board has refused a commit
	refusalRest = time.Second      // a worker that refused an order gets none for so long
	limitGrace  = 30 * time.Second // beyond its limit, for a worker to say so itself
	verifyTries = 5                // verifications that end without a verdict, for one proof
)

// loop is the state of Run. Its mirror of the board runs ahead of it by the batch that is being collected: every change
// of an open job is decided on the mirror by the same rule as on the board, and what shall happen because of it happens
// after the commit. If the commit fails, the mirror is thrown away and read anew.
type loop struct {
	o     Options
	ctx   context.Context
	start time.Time
	swept time.Time

	jobs    map[prover.JobID]*job // open ones
	leases  map[prover.JobID]struct{}
	queued  seqHeap
	verify  []prover.JobID // proved and committed, waiting for a verifier
	workers map[prover.WorkerID]*worker
	free    []prover.WorkerID // candidates for work, longest waiting first
	recent  []prover.Ticket   // ended, oldest first
	totals  prover.JobTotals
	waiters []waiter

	batch  []pending
	poke   bool // something changed that dispatch or the waiters want to see
	reread bool // mirror and board differ

	dirtyJobs    map[prover.JobID]struct{}
	dirtyWorkers map[prover.WorkerID]struct{}
	dirtyEnded   map[prover.JobID]prover.Ticket
	changed      bool // totals or problem
	sayAll       bool
	published    time.Time
	verifiedIn   [60]uint64 // by second of the minute
	secondAt     int64

	problem string
	adding  int // jobs that the batch submits
	holds   map[prover.JobID]prover.Job
	chores  []chore // handed to the janitor
	janitor chan []chore
}

// chore is work on files, which may take a while.
type chore struct {
	file    held
	recheck bool // else: drop
}

type job struct {
	ticket   prover.Ticket
	heaped   bool // has an entry in loop.queued
	avoid    prover.WorkerID
	tries    int // verifications without a verdict of the proof at hand
	verifier prover.WorkerID
	phase    prover.Phase
	progress *float64
}

// work names one attempt.
type work struct {
	job     prover.JobID
	attempt int
}

type worker struct {
	id        prover.WorkerID
	peer      prover.Peer
	connected bool
	since     time.Time
	hello     prover.WorkerHello
	heardAt   time.Time
	latency   time.Duration
	rss       *uint64
	pause     *prover.Pause
	verified  uint64

	lease     work // of the mirror; zero: none
	verifying work // sent to a verifier
	verifyAt  time.Time
	busy      work // what its process has in hand, as far as was said; ends with a result, a refusal or the connection
	delivered work // its last result: heartbeats may still name it
	restUntil time.Time
	listed    bool // has an entry in loop.free
	phase     prover.Phase
	progress  *float64
}

type waiter struct {
	id    prover.WorkerID
	ctx   context.Context
	reply func(error)
}

// pending is a change that waits for the commit, or (without one) something to do after it.
type pending struct {
	change prover.Change
	mirror bool // the mirror has made it
	then   func(prover.Outcome, error)
}

func newLoop(ctx context.Context, o Options) (*loop, error) {
	l := &loop{o: o, ctx: context.WithoutCancel(ctx), workers: map[prover.WorkerID]*worker{}, janitor: make(chan []chore, 1),
		holds: map[prover.JobID]prover.Job{}, dirtyJobs: map[prover.JobID]struct{}{}, dirtyWorkers: map[prover.WorkerID]struct{}{},
		dirtyEnded: map[prover.JobID]prover.Ticket{}}
	l.start = l.now()
	if err := l.read(); err != nil {
		return nil, err
	}
	l.swept = l.start
	l.renew(l.start)
	return l, nil
}

// renew begins all leases anew after a time in which nobody could extend them: workers get the time of one to be heard.
func (l *loop) renew(now time.Time) {
	for id := range l.leases {
		lease := l.jobs[id].ticket.Lease
		l.change(prover.ExtendLease{Job: id, Worker: lease.Worker, Attempt: lease.Attempt, Deadline: now.Add(l.o.Lease)}, nil)
	}
}

func (l *loop) now() time.Time { return l.o.Now().UTC().Round(0) }

// read fills the mirror from the board. Files of open jobs are held.
func (l *loop) read() error {
	open, err := l.o.Board.Open(l.ctx)
	if err != nil {
		return err
	}
	recent, err := l.o.Board.Finished(l.ctx, l.o.Recent)
	if err != nil {
		return err
	}
	totals, err := l.o.Board.Totals(l.ctx)
	if err != nil {
		return err
	}
	pauses, err := l.o.Board.Pauses(l.ctx)
	if err != nil {
		return err
	}
	counts, err := l.o.Board.Counts(l.ctx)
	if err != nil {
		return err
	}
	old := l.jobs
	l.jobs, l.leases, l.queued, l.verify, l.totals = map[prover.JobID]*job{}, map[prover.JobID]struct{}{}, nil, nil, totals
	slices.Reverse(recent)
	l.recent = recent
	for _, w := range l.workers {
		w.pause, w.lease, w.verifying, w.delivered, w.verified = nil, work{}, work{}, work{}, 0
	}
	for _, t := range open {
		j := &job{ticket: t}
		if was := old[t.Job.ID]; was != nil {
			j.avoid, j.tries = was.avoid, was.tries
		}
		l.hold(t.Job)
		l.jobs[t.Job.ID] = j
		switch t.State {
		case prover.JobQueued:
			l.enqueue(j)
		case prover.JobLeased:
			l.worker(t.Lease.Worker).lease = work{t.Job.ID, t.Lease.Attempt}
			l.leases[t.Job.ID] = struct{}{}
		case prover.JobProved:
			l.verify = append(l.verify, t.Job.ID)
		}
	}
	for id, j := range l.holds {
		if l.jobs[id] == nil {
			l.drop(j)
		}
	}
	for _, p := range pauses {
		l.worker(p.Worker).pause = &p
	}
	for _, c := range counts {
		l.worker(c.Worker).verified = c.Verified
	}
	for _, w := range l.workers {
		l.list(w)
	}
	l.sayAll, l.poke, l.reread = true, true, false
	return nil
}

func (l *loop) run(ctx context.Context, calls <-chan call) {
	var janitor sync.WaitGroup
	janitor.Go(func() {
		if err := l.o.Files.Sweep(); err != nil {
			l.o.Logger.Warn("files that no job needs could not be removed", "error", err)
		}
		for chores := range l.janitor {
			for _, c := range chores {
				if c.recheck {
					l.o.Files.Recheck(c.file.kind, c.file.digest)
				} else {
					l.o.Files.Drop(c.file.kind, c.file.digest)
				}
			}
		}
	})
	defer janitor.Wait()
	defer func() {
		l.janitor <- l.chores
		close(l.janitor)
	}()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	publish := time.NewTimer(0)
	defer publish.Stop()
	events := l.o.Hub.Events()

	for {
		// One wait, then whatever else is there: it goes into the same commit.
		if len(l.batch) == 0 && !l.poke {
			select {
			case <-ctx.Done():
				return
			case e := <-events:
				l.event(e)
			case c := <-calls:
				c.fn(l)
			case <-sweep.C:
				l.sweep()
			case <-publish.C:
			}
		}
		l.poke = false
	more:
		for range maxBatch {
			select {
			case <-ctx.Done():
				// What was decided is still committed, and told.
				l.commit()
				return
			case e := <-events:
				l.event(e)
			case c := <-calls:
				c.fn(l)
			default:
				break more
			}
		}
		l.dispatch()
		if !l.commit() {
			// No space, most likely. Results are not acknowledged and come again, so waiting loses nothing.
			select {
			case <-ctx.Done():
				return
			case <-time.After(boardRetry):
			}
		}
		l.answerWaiters()
		if l.dirty() && len(l.batch) == 0 {
			if wait := l.published.Add(l.o.PublishEvery).Sub(l.now()); wait > 0 && wait <= l.o.PublishEvery {
				publish.Reset(wait)
			} else {
				l.publish()
			}
		}
		if len(l.chores) > 0 {
			select {
			case l.janitor <- l.chores:
				l.chores = nil
			default: // it is at work; they wait for the next round
			}
		}
	}
}

// change makes a change on the mirror and puts it into the batch; then is called after the commit, or with its error. A
// change that the rule refuses is not put there: its error comes back at once.
func (l *loop) change(c prover.JobChange, then func(prover.Outcome, error)) error {
	j := l.jobs[c.JobID()]
	if j == nil {
		return fmt.Errorf("job %s: %w", c.JobID(), prover.ErrLate)
	}
	t, err := j.ticket.Advance(c)
	if err != nil {
		return err
	}
	old := j.ticket
	j.ticket = t.Brief()
	l.batch = append(l.batch, pending{c, true, then})
	if old.State != t.State {
		l.moved(j, old)
	}
	l.dirtyJobs[t.Job.ID] = struct{}{}
	return nil
}

// after calls fn once what the batch has so far is committed, or with the error.
func (l *loop) after(fn func(error)) {
	l.batch = append(l.batch, pending{then: func(_ prover.Outcome, err error) { fn(err) }})
}

// moved keeps the indices of the mirror when a job has changed its state.
func (l *loop) moved(j *job, old prover.Ticket) {
	t := &j.ticket
	l.totals.Move(old.State, t.State)
	l.changed, l.poke = true, true
	if old.Lease != nil {
		delete(l.leases, t.Job.ID)
		w := l.worker(old.Lease.Worker)
		if w.lease.job == t.Job.ID {
			w.lease, w.phase, w.progress = work{}, "", nil
		}
		j.phase, j.progress = "", nil
		l.list(w)
		l.touch(w)
	}
	switch {
	case t.State == prover.JobQueued:
		l.enqueue(j)
	case t.State == prover.JobLeased:
		w := l.worker(t.Lease.Worker)
		w.lease = work{t.Job.ID, t.Lease.Attempt}
		l.leases[t.Job.ID] = struct{}{}
		l.touch(w)
	case t.State == prover.JobProved:
		j.tries, j.verifier = 0, ""
	case t.State.Final():
		delete(l.jobs, t.Job.ID)
		l.recent = append(l.recent, *t)
		l.dirtyEnded[t.Job.ID] = *t
		if over := len(l.recent) - l.o.Recent; over > 0 {
			l.recent = slices.Delete(l.recent, 0, over)
		}
	}
}

// commit writes the batch and tells who waits for it. It says false when the board did not take it.
func (l *loop) commit() bool {
	batch := l.batch
	l.batch, l.adding = nil, 0
	if len(batch) == 0 {
		return true
	}
	changes := make([]prover.Change, 0, len(batch))
	for _, p := range batch {
		if p.change != nil {
			changes = append(changes, p.change)
		}
	}
	var out []prover.Outcome
	var err error
	if len(changes) > 0 {
		out, err = l.o.Board.Apply(l.ctx, changes)
		if err == nil && len(out) != len(changes) {
			err = fmt.Errorf("the board answered %d of %d changes", len(out), len(changes))
		}
	}
	l.troubled(err)
	if err != nil {
		l.reread = true
	}
	for i, n := 0, 0; i < len(batch); i++ {
		p, o, failed := batch[i], prover.Outcome{}, err
		if p.change != nil && err == nil {
			o = out[n]
			n++
			if p.mirror && o.Err != nil {
				// The rule is the same on both sides, so somebody else has written.
				l.o.Logger.Error("the board and the queue disagree; reading the board anew", "error", o.Err)
				l.reread, failed = true, o.Err
			} else if p.mirror {
				if j := l.jobs[o.Ticket.Job.ID]; j != nil {
					j.ticket.Rev = o.Ticket.Rev
				}
				if _, ok := l.dirtyEnded[o.Ticket.Job.ID]; ok && o.Ticket.State.Final() {
					l.dirtyEnded[o.Ticket.Job.ID] = o.Ticket
				}
			}
		}
		if p.then != nil {
			p.then(o, failed)
		}
	}
	for i := len(l.recent) - 1; i >= 0 && l.recent[i].Rev < l.dirtyEnded[l.recent[i].Job.ID].Rev; i-- {
		l.recent[i] = l.dirtyEnded[l.recent[i].Job.ID]
	}
	if l.reread {
		clear(l.dirtyEnded)
		if rerr := l.read(); rerr != nil {
			l.troubled(rerr)
			err = rerr
		}
	}
	return err == nil
}

// troubled notes whether the board works, and says so when that changes.
func (l *loop) troubled(err error) {
	was := l.problem
	l.problem = ""
	if err != nil {
		l.problem = err.Error()
	}
	switch {
	case was == l.problem:
		return
	case err != nil && was == "":
		l.record(EventBoardBad, LevelCrit, "", "", "jobs cannot be recorded, so none is handed out or counted: "+l.problem)
	case err == nil:
		l.record(EventBoardGood, LevelOK, "", "", "jobs are recorded again")
	}
	l.changed = true
}

func (l *loop) record(k EventKind, level Level, j prover.JobID, w prover.WorkerID, text string) {
	l.o.Record(Event{At: l.now(), Kind: k, Level: level, Job: j, Worker: w, Text: text})
}

func (l *loop) worker(id prover.WorkerID) *worker {
	w := l.workers[id]
	if w == nil {
		w = &worker{id: id}
		l.workers[id] = w
	}
	return w
}

func (l *loop) touch(w *worker) { l.dirtyWorkers[w.id] = struct{}{} }

// list makes a worker a candidate for work; dispatch finds out whether it can take any.
func (l *loop) list(w *worker) {
	if !w.listed {
		w.listed = true
		l.free = append(l.free, w.id)
	}
	l.poke = true
}

func (l *loop) enqueue(j *job) {
	if !j.heaped {
		j.heaped = true
		heap.Push(&l.queued, seqEntry{j.ticket.Seq, j.ticket.Job.ID})
	}
}

// hold keeps the files of an open job, once.
func (l *loop) hold(j prover.Job) {
	if _, ok := l.holds[j.ID]; ok {
		return
	}
	l.holds[j.ID] = j
	for _, h := range filesOf(j) {
		l.o.Files.Hold(h.kind, h.digest)
	}
}

func (l *loop) drop(j prover.Job) {
	if _, ok := l.holds[j.ID]; !ok {
		return
	}
	delete(l.holds, j.ID)
	for _, h := range filesOf(j) {
		l.chores = append(l.chores, chore{file: h})
	}
}

func filesOf(j prover.Job) []held {
	if j.Kind == prover.EmptyJob {
		return nil
	}
	return []held{{KeyFile, j.Zkey.Digest}, {WitnessFile, j.Witness.Digest}}
}

// submit adds jobs; the mirror learns of them when they are on the board, which knows those that have ended too.
func (l *loop) submit(jobs []prover.Job, reply func([]prover.Outcome, error)) {
	if len(l.jobs)+l.adding+len(jobs) > l.o.MaxOpen {
		reply(nil, fmt.Errorf("submit %d jobs: %w: %d are open, %d are allowed", len(jobs), ErrFull, len(l.jobs)+l.adding, l.o.MaxOpen))
		return
	}
	l.adding += len(jobs)
	now := l.now()
	out := make([]prover.Outcome, 0, len(jobs))
	for _, j := range jobs {
		l.batch = append(l.batch, pending{change: prover.AddJob{Job: j, At: now}, then: func(o prover.Outcome, err error) {
			out = append(out, o)
			if err == nil && o.Err == nil && !o.Repeated && l.jobs[j.ID] == nil {
				nj := &job{ticket: o.Ticket}
				l.jobs[j.ID] = nj
				l.hold(j)
				l.totals.Move("", prover.JobQueued)
				l.enqueue(nj)
				l.dirtyJobs[j.ID] = struct{}{}
				l.changed, l.poke = true, true
				l.record(EventSubmitted, LevelNote, j.ID, "", "submitted")
			}
			if len(out) == len(jobs) {
				if err != nil {
					reply(nil, err)
				} else {
					reply(out, nil)
				}
			}
		}})
	}
}

func (l *loop) cancel(ids []prover.JobID, reason string, reply func([]prover.Outcome, error)) {
	now := l.now()
	out := make([]prover.Outcome, 0, len(ids))
	for _, id := range ids {
		c := prover.CancelJob{Job: id, Reason: reason, At: now}
		var lease *prover.Lease
		if j := l.jobs[id]; j != nil {
			lease = j.ticket.Lease
		}
		then := func(o prover.Outcome, err error) {
			out = append(out, o)
			if err == nil && o.Err == nil {
				if l.jobs[id] != nil {
					l.reread = true // submitted in the same batch: the mirror has it as queued
				}
				l.ended(o.Ticket)
				if lease != nil {
					l.withdraw(lease.Worker, work{id, lease.Attempt}, "the job was cancelled")
				}
			}
			if len(out) == len(ids) {
				if err != nil && errors.Is(err, o.Err) {
					err = nil // a refusal of one change is in its outcome
				}
				if err != nil {
					out = nil
				}
				reply(out, err)
			}
		}
		if l.change(c, then) != nil {
			// Not open: the board knows whether it has ended or never was.
			l.batch = append(l.batch, pending{change: c, then: then})
		}
	}
}

// ended tells of a job that has reached its end, and lets go of its files.
func (l *loop) ended(t prover.Ticket) {
	l.drop(t.Job)
	if t.Failure != nil && t.Failure.Code == prover.FailBlobMissing {
		// A file that went bad must not be taken for the good one when the job is submitted again.
		for _, h := range filesOf(t.Job) {
			l.chores = append(l.chores, chore{h, true})
		}
	}
	switch t.State {
	case prover.JobVerified:
		w := l.worker(t.Proof.Worker)
		w.verified++
		l.touch(w)
		l.countVerified()
		l.record(EventVerified, LevelNote, t.Job.ID, t.Proof.Worker, fmt.Sprintf("verified, proved in %s", t.Proof.ProveTime.Round(time.Millisecond)))
	case prover.JobFailed:
		l.record(EventFailed, LevelCrit, t.Job.ID, t.Worker, fmt.Sprintf("failed after %d attempts: %s", t.Attempts, t.Failure.Text))
	case prover.JobCancelled:
		l.record(EventCancelled, LevelNote, t.Job.ID, t.Worker, "cancelled: "+t.Failure.Text)
	}
}

// withdraw tells a worker to give up what it may still work on.
func (l *loop) withdraw(id prover.WorkerID, what work, why string) {
	if w := l.worker(id); w.connected && w.busy == what {
		l.o.Hub.Send(w.peer, prover.Order{Kind: prover.OrderCancel, Job: what.job, Attempt: what.attempt, Why: why}) // gone: then it is over anyway
	}
}

func (l *loop) pause(ids []prover.WorkerID, p prover.Pause, reply func(struct{}, error)) {
	if p.Since.IsZero() {
		p.Since = l.now()
	}
	p.Since = p.Since.UTC().Round(0)
	if p.Until != nil {
		u := p.Until.UTC().Round(0)
		p.Until = &u
	}
	for _, id := range ids {
		p.Worker = id
		mine := p
		w := l.worker(id)
		w.pause = &mine
		l.touch(w)
		l.batch = append(l.batch, pending{change: prover.SetPause{Pause: p}, then: func(_ prover.Outcome, err error) {
			if err == nil {
				l.record(EventPaused, LevelNote, "", id, pauseText(mine))
			}
		}})
	}
	l.poke = true
	l.after(func(err error) { reply(struct{}{}, err) })
}

func pauseText(p prover.Pause) string {
	s := "paused"
	if p.Until != nil {
		s += " until " + p.Until.Format(time.RFC3339)
	}
	if p.By != "" {
		s += " by " + p.By
	}
	if p.Reason != "" {
		s += ": " + p.Reason
	}
	return s
}

func (l *loop) resume(ids []prover.WorkerID, act string, reply func(struct{}, error)) {
	for _, id := range ids {
		if w := l.workers[id]; w != nil && w.pause != nil && (act == "" || w.pause.Act == act) {
			l.unpause(w, "resumed")
		}
	}
	l.after(func(err error) { reply(struct{}{}, err) })
}

func (l *loop) unpause(w *worker, text string) {
	act := w.pause.Act
	w.pause = nil
	l.touch(w)
	l.list(w)
	l.batch = append(l.batch, pending{change: prover.ClearPause{Worker: w.id, Act: act}, then: func(_ prover.Outcome, err error) {
		if err == nil {
			l.record(EventResumed, LevelNote, "", w.id, text)
		}
	}})
}

// drained tells whether a worker has nothing in hand.
func (w *worker) drained() bool {
	return w.lease == work{} && w.verifying == work{} && (!w.connected || w.busy == work{})
}

func (l *loop) answerWaiters() {
	l.waiters = slices.DeleteFunc(l.waiters, func(wt waiter) bool {
		w := l.workers[wt.id]
		switch {
		case wt.ctx.Err() != nil:
		case w == nil || w.pause == nil:
			wt.reply(fmt.Errorf("wait for %s to drain: %w", wt.id, ErrNotPaused))
		case w.drained() && len(l.batch) == 0:
			wt.reply(nil)
		default:
			return false
		}
		return true
	})
}

// sweep looks for what time alone has changed.
func (l *loop) sweep() {
	now := l.now()
	if now.Sub(l.swept) > sweepGap {
		l.o.Logger.Info("the clock jumped, or this machine or process stood still; leases begin anew", "gap", now.Sub(l.swept))
		l.renew(now)
	}
	l.swept = now
	for _, w := range l.workers {
		if w.pause != nil && w.pause.Until != nil && !w.pause.Until.After(now) {
			l.unpause(w, "resumed: the time of its pause is up")
		}
		if w.verifying.job != "" && now.Sub(w.verifyAt) > l.o.VerifyLimit+limitGrace {
			what := w.verifying
			l.withdraw(w.id, what, "the verification takes too long")
			l.unverify(w, prover.Failure{Code: prover.FailTimeout, Text: "the verification took too long", Retry: true})
		}
		if !w.restUntil.IsZero() && !w.restUntil.After(now) {
			w.restUntil = time.Time{}
			l.list(w)
		}
	}
	for id := range l.leases {
		if j := l.jobs[id]; !j.ticket.Lease.Deadline.After(now) {
			l.expire(j, now)
		}
	}
	l.poke = true // verifications that could not be read, waiters whose context has ended
	l.changed = l.changed || l.perMinuteMoves(now)
}

func (l *loop) expire(j *job, now time.Time) {
	lease := *j.ticket.Lease
	id := j.ticket.Job.ID
	l.change(prover.ExpireLease{Job: id, Attempt: lease.Attempt, At: now}, func(o prover.Outcome, err error) {
		if err != nil {
			return
		}
		l.withdraw(lease.Worker, work{id, lease.Attempt}, "the lease has expired")
		l.attemptEnded(o.Ticket)
	})
}

// attemptEnded tells of an attempt without a proof that counts.
func (l *loop) attemptEnded(t prover.Ticket) {
	if t.State.Final() {
		l.ended(t)
		return
	}
	if t.Failure != nil {
		l.record(EventRetry, LevelWarn, t.Job.ID, t.Worker, fmt.Sprintf("attempt %d ended, queued again: %s", t.Attempts, t.Failure.Text))
	}
}

// release ends the lease of a worker without a proof. A nil failure gives the job back untouched.
func (l *loop) release(w *worker, f *prover.Failure) {
	if w.lease.job == "" {
		return
	}
	l.change(prover.ReleaseLease{Job: w.lease.job, Worker: w.id, Attempt: w.lease.attempt, Failure: f, At: l.now()}, func(o prover.Outcome, err error) {
		if err == nil && f != nil {
			l.attemptEnded(o.Ticket)
		}
	})
}

// dispatch gives work to whoever can take some.
func (l *loop) dispatch() {
	if len(l.queued) == 0 && len(l.verify) == 0 {
		return
	}
	now := l.now()
	list := l.free
	l.free = nil
	for _, id := range list {
		w := l.workers[id]
		w.listed = false
		if !w.connected || w.pause != nil || w.busy != (work{}) || w.lease != (work{}) || w.verifying != (work{}) || w.restUntil.After(now) {
			continue // it is listed again by what changes that
		}
		took := false
		switch w.hello.Role {
		case prover.RoleProve:
			took = l.giveJob(w, now)
		case prover.RoleVerify:
			took = l.giveProof(w, now)
		}
		if !took {
			w.listed = true
			l.free = append(l.free, id)
		}
	}
}

// giveJob leases the oldest job that suits the worker.
func (l *loop) giveJob(w *worker, now time.Time) bool {
	var aside []seqEntry
	defer func() {
		for _, e := range aside {
			heap.Push(&l.queued, e)
		}
	}()
	for len(l.queued) > 0 {
		e := heap.Pop(&l.queued).(seqEntry)
		j := l.jobs[e.id]
		if j == nil {
			continue
		}
		if j.ticket.State != prover.JobQueued {
			j.heaped = false
			continue
		}
		if j.avoid == w.id && l.otherThan(w) {
			aside = append(aside, e)
			continue
		}
		j.heaped = false
		c := prover.LeaseJob{Job: e.id, Worker: w.id, At: now, Deadline: now.Add(l.o.Lease)}
		if err := l.change(c, func(o prover.Outcome, err error) { l.leased(w, o.Ticket, err) }); err != nil {
			l.o.Logger.Error("a queued job could not be leased", "job", e.id, "error", err)
			continue
		}
		return true
	}
	return false
}

// otherThan tells whether another worker could take a job sooner or later.
func (l *loop) otherThan(w *worker) bool {
	for _, o := range l.workers {
		if o != w && o.connected && o.hello.Role == prover.RoleProve && o.pause == nil {
			return true
		}
	}
	return false
}

// leased sends the order for a lease that is on the board.
func (l *loop) leased(w *worker, t prover.Ticket, err error) {
	if err != nil || t.Lease == nil {
		return
	}
	what := work{t.Job.ID, t.Lease.Attempt}
	if w.lease != what {
		return // ended by another change of the same batch
	}
	limit := l.o.JobLimit(t.Job)
	o := prover.Order{Kind: prover.OrderProve, Job: what.job, Attempt: what.attempt, JobKind: t.Job.Kind, LimitMS: limit.Milliseconds()}
	if t.Job.Kind != prover.EmptyJob {
		o.Zkey = &prover.BlobFile{Blob: t.Job.Zkey, Path: l.o.Files.Path(KeyFile, t.Job.Zkey.Digest)}
		o.Witness = &prover.BlobFile{Blob: t.Job.Witness, Path: l.o.Files.Path(WitnessFile, t.Job.Witness.Digest)}
	}
	if err := l.o.Hub.Send(w.peer, o); err != nil {
		l.o.Logger.Info("an order could not be sent; the job is given back", "worker", w.id, "job", what.job, "error", err)
		w.restUntil = l.now().Add(refusalRest)
		l.release(w, nil)
		return
	}
	w.busy, w.phase, w.progress = what, prover.PhaseLoad, nil
	if j := l.jobs[what.job]; j != nil {
		j.phase = prover.PhaseLoad
	}
}

// giveProof sends the proof that has waited longest to a verifier.
func (l *loop) giveProof(w *worker, now time.Time) bool {
	for len(l.verify) > 0 {
		id := l.verify[0]
		j := l.jobs[id]
		if j == nil || j.ticket.State != prover.JobProved || j.verifier != "" {
			l.verify = l.verify[1:]
			continue
		}
		t, err := l.o.Board.Get(l.ctx, id)
		if err == nil && t.Proof == nil {
			l.verify = l.verify[1:] // a newer proof is not committed yet, and is listed when it is
			continue
		}
		if err != nil {
			l.o.Logger.Error("a proof could not be read from the board", "job", id, "error", err)
			return false // the next sweep tries again
		}
		l.verify = l.verify[1:]
		o := prover.Order{Kind: prover.OrderVerify, Job: id, Attempt: t.Proof.Attempt, JobKind: t.Job.Kind, Proof: t.Proof, LimitMS: l.o.VerifyLimit.Milliseconds()}
		if t.Job.Kind != prover.EmptyJob {
			o.Zkey = &prover.BlobFile{Blob: t.Job.Zkey, Path: l.o.Files.Path(KeyFile, t.Job.Zkey.Digest)}
		}
		what := work{id, t.Proof.Attempt}
		w.verifying, w.busy, w.verifyAt = what, what, now
		j.verifier = w.id
		j.phase = prover.PhaseVerify
		l.dirtyJobs[id] = struct{}{}
		l.touch(w)
		// Not before the acknowledgement of its last verdict, which waits for the commit.
		l.after(func(err error) {
			if w.verifying != what {
				return
			}
			if err == nil {
				err = l.o.Hub.Send(w.peer, o)
			}
			if err != nil {
				w.busy, w.restUntil = work{}, l.now().Add(refusalRest)
				l.unverify(w, nil)
			}
		})
		return true
	}
	return false
}

// unverify puts the proof back that a verifier had; f says what happened, nil: nothing that counts.
func (l *loop) unverify(w *worker, f error) {
	what := w.verifying
	w.verifying = work{}
	l.touch(w)
	l.list(w)
	j := l.jobs[what.job]
	if j == nil || j.ticket.State != prover.JobProved || j.ticket.Proof.Attempt != what.attempt || j.verifier != w.id {
		return
	}
	j.verifier, j.phase = "", ""
	l.dirtyJobs[what.job] = struct{}{}
	var failure prover.Failure
	if errors.As(f, &failure) {
		j.tries++
		if !failure.Retry || j.tries >= verifyTries {
			failure.Retry = false
			failure.Text = fmt.Sprintf("the proof could not be verified (%d tries): %s", j.tries, failure.Text)
			l.reject(j, failure)
			return
		}
	}
	l.verify = slices.Insert(l.verify, 0, what.job)
}

func (l *loop) reject(j *job, f prover.Failure) {
	l.change(prover.RejectProof{Job: j.ticket.Job.ID, Attempt: j.ticket.Proof.Attempt, Failure: &f, At: l.now()}, func(o prover.Outcome, err error) {
		if err == nil {
			l.attemptEnded(o.Ticket)
		}
	})
}

// dirty tells whether there is something to publish.
func (l *loop) dirty() bool {
	return l.sayAll || l.changed || len(l.dirtyJobs) > 0 || len(l.dirtyWorkers) > 0 || len(l.dirtyEnded) > 0
}

func (l *loop) publish() {
	var u Update
	if l.sayAll {
		u = l.full()
	} else {
		u = l.head()
		for id := range l.dirtyJobs {
			if j := l.jobs[id]; j != nil {
				u.Jobs = append(u.Jobs, j.view())
			}
		}
		for _, t := range l.dirtyEnded {
			u.Jobs = append(u.Jobs, JobView{Ticket: t})
		}
		for id := range l.dirtyWorkers {
			u.Workers = append(u.Workers, l.workers[id].view())
		}
		sortUpdate(&u)
	}
	clear(l.dirtyJobs)
	clear(l.dirtyWorkers)
	clear(l.dirtyEnded)
	l.sayAll, l.changed = false, false
	l.published = u.At
	l.o.OnChange(u)
}

func (l *loop) head() Update {
	now := l.now()
	return Update{At: now, Totals: l.totals, Problem: l.problem, PerMinute: l.perMinute(now)}
}

func (l *loop) full() Update {
	u := l.head()
	u.Full = true
	for _, t := range l.recent {
		u.Jobs = append(u.Jobs, JobView{Ticket: t})
	}
	for _, j := range l.jobs {
		u.Jobs = append(u.Jobs, j.view())
	}
	for w := range maps.Values(l.workers) {
		u.Workers = append(u.Workers, w.view())
	}
	sortUpdate(&u)
	return u
}

func sortUpdate(u *Update) {
	slices.SortFunc(u.Jobs, func(a, b JobView) int { return cmp.Compare(a.Seq, b.Seq) })
	slices.SortFunc(u.Workers, func(a, b WorkerView) int { return cmp.Compare(a.ID, b.ID) })
}

func (j *job) view() JobView {
	return JobView{Ticket: j.ticket, Phase: j.phase, Progress: j.progress}
}

func (w *worker) view() WorkerView {
	v := WorkerView{ID: w.id, Role: w.hello.Role, Connected: w.connected, Since: w.since, RSSBytes: w.rss, Pause: w.pause,
		Pausing: w.pause != nil && !w.drained(), Verified: w.verified, PID: w.hello.PID, Version: w.hello.Version}
	if !w.hello.StartedAt.IsZero() {
		started := w.hello.StartedAt
		v.StartedAt = &started
	}
	if !w.heardAt.IsZero() {
		heard := w.heardAt
		v.HeardAt = &heard
	}
	if w.latency > 0 {
		ms := float64(w.latency) / float64(time.Millisecond)
		v.LatencyMS = &ms
	}
	what := w.lease
	if what.job == "" {
		what = w.verifying
	}
	if what.job != "" {
		v.Job, v.Attempt = &what.job, what.attempt
		v.Phase, v.Progress = w.phase, w.progress
	}
	return v
}

// countVerified adds one to the second of now.
func (l *loop) countVerified() {
	l.advanceSeconds(l.now())
	l.verifiedIn[l.secondAt%60]++
}

func (l *loop) advanceSeconds(now time.Time) {
	s := now.Unix()
	for n := 0; l.secondAt < s && n < 60; n++ {
		l.secondAt++
		l.verifiedIn[l.secondAt%60] = 0
	}
	l.secondAt = max(l.secondAt, s)
}

func (l *loop) perMinute(now time.Time) *float64 {
	if now.Sub(l.start) < time.Minute {
		return nil
	}
	l.advanceSeconds(now)
	var n uint64
	for _, c := range l.verifiedIn {
		n += c
	}
	f := float64(n)
	return &f
}

// perMinuteMoves tells whether the rate is something that time changes.
func (l *loop) perMinuteMoves(now time.Time) bool {
	return l.verifiedIn != [60]uint64{} && now.Unix() != l.secondAt
}
