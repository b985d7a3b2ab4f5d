package queue

import (
	"fmt"
	"time"

	"app.provost/prover"
)

// event takes in what a worker has said.
func (l *loop) event(e prover.WorkerEvent) {
	r := e.Report
	if err := r.Check(); err != nil {
		l.o.Logger.Warn("a report is not understood", "worker", e.Peer.Worker, "error", err)
		return
	}
	w := l.worker(e.Peer.Worker)
	if r.Kind == prover.ReportHello {
		l.hello(w, e)
		return
	}
	if w.peer != e.Peer {
		return // of an earlier connection
	}
	w.heardAt = e.At.UTC().Round(0)
	if e.Latency > 0 {
		w.latency = e.Latency
	}
	l.touch(w)
	switch r.Kind {
	case prover.ReportBeat:
		w.rss = r.RSSBytes
		l.beat(w, r.Holding)
	case prover.ReportResult:
		if w.hello.Role == prover.RoleVerify {
			l.verdict(w, r)
		} else {
			l.result(w, r, true)
		}
	case prover.ReportRefused:
		l.refused(w, r)
	case prover.ReportBye:
		l.bye(w, r)
	case prover.ReportGone:
		l.gone(w)
	}
}

// hello begins a connection: what the worker says that it has in hand is held against what the board says.
func (l *loop) hello(w *worker, e prover.WorkerEvent) {
	h := e.Report.Hello
	w.peer, w.hello, w.connected, w.since = e.Peer, *h, true, l.now()
	w.hello.StartedAt = w.hello.StartedAt.UTC().Round(0)
	w.heardAt = e.At.UTC().Round(0)
	w.busy, w.delivered, w.restUntil = work{}, work{}, time.Time{}
	w.phase, w.progress = "", nil
	var holds work
	if r := e.Report.Holding; r != nil {
		holds = work{r.Job, r.Attempt}
		w.busy = holds
	}
	l.touch(w)
	l.list(w)
	if w.verifying != (work{}) {
		l.unverify(w, nil) // its last connection ended without a word
	}
	switch lease := w.lease; {
	case lease != (work{}) && lease == holds:
		l.extend(w, true)
		l.progress(w, e.Report.Holding)
	case lease != (work{}):
		// It was given a job and has it no more. A process that is older than the lease never got the order; a younger
		// one is the successor of the process that had the job.
		j := l.jobs[lease.job]
		if h.StartedAt.Before(j.ticket.Lease.LeasedAt) {
			l.release(w, nil)
		} else {
			l.release(w, died(w.id))
		}
	}
	if holds != (work{}) && (holds != w.lease || h.Role == prover.RoleVerify) && !e.Report.Holding.Done {
		l.withdraw(w.id, holds, "the job was given to another")
	}
}

func died(id prover.WorkerID) *prover.Failure {
	return &prover.Failure{Code: prover.FailWorkerDied, Retry: true, Text: fmt.Sprintf("the process of worker %s ended in the middle of the job", id)}
}

func (l *loop) beat(w *worker, h *prover.Holding) {
	if h == nil {
		return // an order may be on its way; it is answered by a result or a refusal
	}
	holds := work{h.Job, h.Attempt}
	switch holds {
	case w.delivered:
		return // its acknowledgement is on the way
	case w.lease, w.verifying:
		w.busy = holds
		l.progress(w, h)
		l.extend(w, false)
	default:
		w.busy = holds
		if !h.Done {
			l.withdraw(w.id, holds, "the lease has ended")
		}
	}
}

func (l *loop) progress(w *worker, h *prover.Holding) {
	part := h.Progress
	w.phase, w.progress = h.Phase, &part
	if j := l.jobs[h.Job]; j != nil {
		j.phase, j.progress = h.Phase, &part
		l.dirtyJobs[h.Job] = struct{}{}
	}
}

// extend moves the lease of a worker that was heard of forward, once a third of it has passed, and never beyond the
// time limit of the job: a prover that hangs does not keep its job by being alive.
func (l *loop) extend(w *worker, now bool) {
	j := l.jobs[w.lease.job]
	if j == nil || j.ticket.Lease == nil {
		return
	}
	lease := j.ticket.Lease
	t := l.now()
	if !now && lease.Deadline.Sub(t) > l.o.Lease*2/3 {
		return
	}
	deadline := t.Add(l.o.Lease)
	if last := lease.LeasedAt.Add(l.o.JobLimit(j.ticket.Job) + limitGrace); deadline.After(last) {
		deadline = last
	}
	if deadline.After(lease.Deadline) {
		l.change(prover.ExtendLease{Job: w.lease.job, Worker: w.id, Attempt: w.lease.attempt, Deadline: deadline}, nil)
	}
}

// result takes in the end of an attempt. It is acknowledged when it is on the board, or when it is late: then it is of
// no use to anybody.
func (l *loop) result(w *worker, r prover.Report, connected bool) {
	what := work{r.Job, r.Attempt}
	if connected {
		w.delivered = what
		if w.busy == what {
			w.busy, w.phase, w.progress = work{}, "", nil
			l.list(w)
		}
	}
	var c prover.JobChange
	switch {
	case r.Proof != nil:
		p := *r.Proof
		p.Worker, p.Attempt = w.id, r.Attempt // the connection says who it is, not the message
		c = prover.StoreProof{Job: r.Job, Proof: p, At: l.now()}
	case r.Failure != nil && r.Failure.Code == prover.FailCancelled:
		c = prover.ReleaseLease{Job: r.Job, Worker: w.id, Attempt: r.Attempt, At: l.now()}
	case r.Failure != nil:
		f := *r.Failure
		c = prover.ReleaseLease{Job: r.Job, Worker: w.id, Attempt: r.Attempt, Failure: &f, At: l.now()}
	default:
		l.o.Logger.Warn("a data worker sent a verdict; only a verifier's counts", "worker", w.id, "job", r.Job)
		return
	}
	refused := l.change(c, func(o prover.Outcome, err error) {
		if err != nil {
			return // not acknowledged: it comes again
		}
		l.ack(w, what)
		if r.Proof != nil {
			l.verify = append(l.verify, r.Job)
			l.poke = true
		} else if r.Failure.Code != prover.FailCancelled {
			l.attemptEnded(o.Ticket)
		}
	})
	if refused != nil {
		// The mirror may refuse what it has itself just put into the batch, so the acknowledgement waits for that too.
		l.after(func(err error) {
			if err != nil {
				return
			}
			l.ack(w, what)
			if r.Proof != nil {
				l.o.Logger.Info("a late proof is not used", "worker", w.id, "job", r.Job, "attempt", r.Attempt, "reason", refused)
			}
		})
	}
}

func (l *loop) ack(w *worker, what work) {
	if w.connected {
		l.o.Hub.Send(w.peer, prover.Order{Kind: prover.OrderAck, Job: what.job, Attempt: what.attempt}) // gone: it asks again
	}
}

// verdict takes in what a verifier says of a proof.
func (l *loop) verdict(w *worker, r prover.Report) {
	what := work{r.Job, r.Attempt}
	w.delivered = what
	if w.busy == what {
		w.busy = work{}
	}
	asked := w.verifying == what
	j := l.jobs[r.Job]
	current := j != nil && j.ticket.State == prover.JobProved && j.ticket.Proof.Attempt == r.Attempt
	switch {
	case !current || r.Proof != nil:
		if asked {
			l.unverify(w, nil)
		}
	case r.Verdict == prover.VerdictValid:
		l.change(prover.AcceptProof{Job: r.Job, Attempt: r.Attempt, At: l.now()}, func(o prover.Outcome, err error) {
			if err == nil {
				l.ended(o.Ticket)
			}
		})
	case r.Verdict == prover.VerdictInvalid:
		// Once more on another core tells a bad core from bad files.
		p := j.ticket.Proof
		j.avoid = p.Worker
		f := prover.Failure{Code: prover.FailProofInvalid, Retry: j.ticket.Rejected == 0}
		if f.Retry {
			f.Text = fmt.Sprintf("the proof that %s made does not hold (%s)", p.Worker, r.Why)
		} else {
			f.Text = fmt.Sprintf("two proofs were made and neither holds (%s): the witness does not satisfy the constraints, or the key is damaged; "+
				"compute the witness again, and compare the key with where it came from", r.Why)
		}
		l.reject(j, f)
	default:
		if r.Failure.Code == prover.FailCancelled {
			if asked {
				l.unverify(w, nil)
			}
		} else if asked {
			l.unverify(w, *r.Failure)
		}
	}
	if asked {
		w.verifying = work{}
		if j != nil && j.verifier == w.id {
			j.verifier = ""
		}
	}
	l.list(w)
	l.after(func(err error) {
		if err == nil {
			l.ack(w, what)
		}
	})
}

// refused puts back what a worker did not take.
func (l *loop) refused(w *worker, r prover.Report) {
	what := work{r.Job, r.Attempt}
	if w.busy == what {
		w.busy = work{}
	}
	if w.lease == what || w.verifying == what {
		l.o.Logger.Info("a worker refused an order", "worker", w.id, "job", r.Job, "reason", r.Why)
		w.restUntil = l.now().Add(refusalRest)
	}
	if w.lease == what {
		l.release(w, nil)
	}
	if w.verifying == what {
		l.unverify(w, nil)
	}
	l.list(w)
}

// bye: the process ends on purpose; what it did not finish goes back without counting.
func (l *loop) bye(w *worker, r prover.Report) {
	if h := r.Holding; h == nil || !h.Done {
		l.release(w, nil)
	}
	if w.verifying != (work{}) {
		l.unverify(w, nil)
	}
	l.disconnect(w)
}

func (l *loop) gone(w *worker) {
	if w.verifying != (work{}) {
		l.unverify(w, prover.Failure{Code: prover.FailWorkerDied, Text: "the verifier went away in the middle of it", Retry: true})
	}
	l.disconnect(w)
}

// disconnect leaves the lease: the process may be alive and come back with its job.
func (l *loop) disconnect(w *worker) {
	if w.connected {
		w.connected, w.since = false, l.now()
	}
	w.busy, w.delivered = work{}, work{}
	l.touch(w)
	l.poke = true
}

// exited: the process is known to have ended.
func (l *loop) exited(id prover.WorkerID, pid int, left *prover.Report) {
	w := l.worker(id)
	if w.connected && pid != 0 && w.hello.PID != pid {
		return // its successor is here already, and its hello told
	}
	if left != nil && w.lease == (work{left.Job, left.Attempt}) && left.Kind == prover.ReportResult && left.Check() == nil {
		l.result(w, *left, false)
	}
	l.release(w, died(id))
	if w.verifying != (work{}) {
		l.unverify(w, prover.Failure{Code: prover.FailWorkerDied, Text: "the verifier died in the middle of it", Retry: true})
	}
	l.disconnect(w)
}
