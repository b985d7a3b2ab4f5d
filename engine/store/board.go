package store

import (
	"context"
	"errors"
	"fmt"

	"app.provost/prover"
	bolt "go.etcd.io/bbolt"
)

var (
	bTickets = []byte("tickets")
	bProofs  = []byte("proofs")
	bQueued  = []byte("queued")
	bOpen    = []byte("open")
	bEnded   = []byte("ended")
	bTotals  = []byte("totals")
	bWorkers = []byte("workers")
	bPauses  = []byte("pauses")

	boardBuckets = [][]byte{bTickets, bProofs, bQueued, bOpen, bEnded, bTotals, bWorkers, bPauses}

	kTotals = []byte("jobs")
)

// Board keeps jobs and pauses. What each method promises is said where the queue
// states what it needs; here they are durable before they return.
type Board struct{ s *Store }

// Board gives the job board of this store.
func (s *Store) Board() *Board { return &Board{s} }

// Apply makes the changes in order and in one commit; one outcome for each.
func (b *Board) Apply(ctx context.Context, changes []prover.Change) ([]prover.Outcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("change job board: %w", context.Cause(ctx))
	}
	if len(changes) == 0 {
		return nil, nil
	}
	var out []prover.Outcome
	err := b.s.update("change job board", func(tx *bolt.Tx) error {
		out = make([]prover.Outcome, 0, len(changes))
		w := newBoardTx(tx)
		for _, c := range changes {
			o, err := w.apply(c)
			if err != nil {
				return err
			}
			out = append(out, o)
		}
		return w.finish()
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// boardTx is the board inside one transaction.
type boardTx struct {
	root, tickets, proofs, queued, open, ended, totals, workers, pauses *bolt.Bucket

	sums    prover.JobTotals
	loaded  bool
	changed bool
}

func newBoardTx(tx *bolt.Tx) *boardTx {
	root := tx.Bucket(bBoard)
	return &boardTx{root: root, tickets: root.Bucket(bTickets), proofs: root.Bucket(bProofs),
		queued: root.Bucket(bQueued), open: root.Bucket(bOpen), ended: root.Bucket(bEnded), totals: root.Bucket(bTotals),
		workers: root.Bucket(bWorkers), pauses: root.Bucket(bPauses)}
}

// apply gives the outcome of one change. An error means that the store could not, and nothing of the transaction counts.
func (w *boardTx) apply(c prover.Change) (prover.Outcome, error) {
	switch c := c.(type) {
	case prover.AddJob:
		return w.add(c)
	case prover.SetPause:
		return w.setPause(c)
	case prover.ClearPause:
		return w.clearPause(c)
	case prover.LeaseJob:
		if c.Job == "" {
			k, v := w.queued.Cursor().First()
			if k == nil {
				return prover.Outcome{Err: prover.ErrNoneQueued}, nil
			}
			if err := read(k, v, &c.Job); err != nil {
				return prover.Outcome{}, err
			}
		}
		return w.advance(c)
	case prover.JobChange:
		return w.advance(c)
	}
	return prover.Outcome{Err: fmt.Errorf("change %T is not known here: %w", c, prover.ErrBadChange)}, nil
}

func (w *boardTx) add(c prover.AddJob) (prover.Outcome, error) {
	var old prover.Ticket
	if found, err := get(w.tickets, []byte(c.Job.ID), &old); err != nil {
		return prover.Outcome{}, err
	} else if found {
		if !old.Job.SameContent(c.Job) {
			return prover.Outcome{Ticket: old, Err: fmt.Errorf("add job %s: %w", c.Job.ID, prover.ErrJobDiffers)}, nil
		}
		return prover.Outcome{Ticket: old, Repeated: true}, nil
	}
	t, err := prover.NewTicket(c)
	if err != nil {
		return prover.Outcome{Err: err}, nil
	}
	if t.Seq, err = w.open.NextSequence(); err != nil {
		return prover.Outcome{}, err
	}
	return w.keep(prover.Ticket{}, t)
}

func (w *boardTx) advance(c prover.JobChange) (prover.Outcome, error) {
	var old prover.Ticket
	id := c.JobID()
	if id == "" {
		return prover.Outcome{Err: fmt.Errorf("change %T names no job: %w", c, prover.ErrBadChange)}, nil
	}
	if found, err := get(w.tickets, []byte(id), &old); err != nil {
		return prover.Outcome{}, err
	} else if !found {
		return prover.Outcome{Err: fmt.Errorf("job %s: %w", id, prover.ErrNoJob)}, nil
	}
	t, err := old.Advance(c)
	if err != nil {
		return prover.Outcome{Ticket: old.Brief(), Err: err}, nil
	}
	return w.keep(old, t)
}

// keep writes a ticket that changed, and all that is derived from it. A zero old means a new job.
func (w *boardTx) keep(old, t prover.Ticket) (prover.Outcome, error) {
	var err error
	if t.Rev, err = w.root.NextSequence(); err != nil {
		return prover.Outcome{}, err
	}
	id := []byte(t.Job.ID)
	var errs []error
	do := func(err error) { errs = append(errs, err) }

	switch {
	case t.Proof == nil:
		do(w.proofs.Delete(id))
	case len(t.Proof.ProofJSON) > 0 || len(t.Proof.PublicJSON) > 0:
		do(put(w.proofs, id, t.Proof)) // not the brief one that was read from tickets
	}
	if t.State == prover.JobQueued {
		do(put(w.queued, number(t.Seq), t.Job.ID))
	} else {
		do(w.queued.Delete(number(t.Seq)))
	}
	if t.State.Final() {
		do(w.open.Delete(number(t.Seq)))
		do(put(w.ended, number(t.Rev), t.Job.ID))
	} else if old.State == "" {
		do(put(w.open, number(t.Seq), t.Job.ID))
	}
	if t.State != old.State {
		do(w.count(old, t))
	}
	brief := t.Brief()
	do(put(w.tickets, id, brief))
	return prover.Outcome{Ticket: brief}, errors.Join(errs...)
}

func (w *boardTx) count(old, t prover.Ticket) error {
	if !w.loaded {
		if _, err := get(w.totals, kTotals, &w.sums); err != nil {
			return err
		}
		w.loaded = true
	}
	w.sums.Move(old.State, t.State)
	w.changed = true
	if t.State != prover.JobVerified || t.Proof == nil {
		return nil
	}
	n := prover.WorkerCount{Worker: t.Proof.Worker}
	if _, err := get(w.workers, []byte(n.Worker), &n); err != nil {
		return err
	}
	n.Verified++
	return put(w.workers, []byte(n.Worker), n)
}

// finish writes what is summed up over a whole batch.
func (w *boardTx) finish() error {
	if !w.changed {
		return nil
	}
	return put(w.totals, kTotals, w.sums)
}

func (w *boardTx) setPause(c prover.SetPause) (prover.Outcome, error) {
	p := c.Pause
	if p.Worker == "" {
		return prover.Outcome{Err: fmt.Errorf("set pause: no worker is named: %w", prover.ErrBadChange)}, nil
	}
	p.Since = p.Since.UTC().Round(0)
	if p.Until != nil {
		until := p.Until.UTC().Round(0)
		p.Until = &until
	}
	return prover.Outcome{}, put(w.pauses, []byte(p.Worker), p)
}

func (w *boardTx) clearPause(c prover.ClearPause) (prover.Outcome, error) {
	var old prover.Pause
	found, err := get(w.pauses, []byte(c.Worker), &old)
	if err != nil {
		return prover.Outcome{}, err
	}
	if !found || c.Act != "" && c.Act != old.Act {
		return prover.Outcome{Repeated: true}, nil
	}
	return prover.Outcome{}, w.pauses.Delete([]byte(c.Worker))
}

// Get gives one job with its proof.
func (b *Board) Get(ctx context.Context, id prover.JobID) (t prover.Ticket, err error) {
	found := false
	err = b.read(ctx, "read job", func(w *boardTx) (err error) {
		if found, err = get(w.tickets, []byte(id), &t); err == nil && t.Proof != nil {
			_, err = get(w.proofs, []byte(id), t.Proof)
		}
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("read job %s: %w", id, prover.ErrNoJob)
	}
	return t, err
}

// Open lists the jobs that have not ended, oldest first.
func (b *Board) Open(ctx context.Context) (out []prover.Ticket, err error) {
	err = b.read(ctx, "list jobs", func(w *boardTx) error {
		return w.open.ForEach(func(k, v []byte) error {
			t, err := w.listed(k, v)
			out = append(out, t)
			return err
		})
	})
	return out, err
}

// Finished lists up to limit jobs that have ended, newest first.
func (b *Board) Finished(ctx context.Context, limit int) (out []prover.Ticket, err error) {
	err = b.read(ctx, "list jobs", func(w *boardTx) error {
		c := w.ended.Cursor()
		for k, v := c.Last(); k != nil && len(out) < limit; k, v = c.Prev() {
			t, err := w.listed(k, v)
			if err != nil {
				return err
			}
			out = append(out, t)
		}
		return nil
	})
	return out, err
}

// listed gives the ticket that an entry of queued, open or ended leads to.
func (w *boardTx) listed(k, v []byte) (t prover.Ticket, err error) {
	var id prover.JobID
	if err := read(k, v, &id); err != nil {
		return t, err
	}
	found, err := get(w.tickets, []byte(id), &t)
	if err == nil && !found {
		err = damaged{fmt.Errorf("job %s is listed and not kept", id)}
	}
	return t, err
}

// Totals counts all jobs by state.
func (b *Board) Totals(ctx context.Context) (sums prover.JobTotals, err error) {
	err = b.read(ctx, "count jobs", func(w *boardTx) error {
		_, err := get(w.totals, kTotals, &sums)
		return err
	})
	return sums, err
}

// Pauses lists the pauses.
func (b *Board) Pauses(ctx context.Context) (out []prover.Pause, err error) {
	err = b.read(ctx, "list pauses", func(w *boardTx) error { return list(w.pauses, &out) })
	return out, err
}

// Counts lists how many jobs of each worker were verified.
func (b *Board) Counts(ctx context.Context) (out []prover.WorkerCount, err error) {
	err = b.read(ctx, "list workers' counts", func(w *boardTx) error { return list(w.workers, &out) })
	return out, err
}

func list[T any](b *bolt.Bucket, out *[]T) error {
	return b.ForEach(func(k, v []byte) error {
		var t T
		err := read(k, v, &t)
		*out = append(*out, t)
		return err
	})
}

func (b *Board) read(ctx context.Context, doing string, fn func(*boardTx) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	return b.s.view(doing, func(tx *bolt.Tx) error { return fn(newBoardTx(tx)) })
}

// tidyJobs drops the jobs that ended first, with their proofs, above the bound.
// Totals go on counting them.
func (s *Store) tidyJobs(tx *bolt.Tx) error {
	if s.o.EndedJobs <= 0 {
		return nil
	}
	w := newBoardTx(tx)
	extra := -s.o.EndedJobs
	c := w.ended.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		extra++
	}
	type job struct {
		key []byte
		id  prover.JobID
	}
	var drop []job
	for k, v := c.First(); k != nil && len(drop) < min(extra, tidyAtMost); k, v = c.Next() {
		j := job{key: append([]byte{}, k...)}
		if err := read(k, v, &j.id); err != nil {
			return err
		}
		drop = append(drop, j)
	}
	for _, j := range drop {
		id := []byte(j.id)
		if err := errors.Join(w.ended.Delete(j.key), w.tickets.Delete(id), w.proofs.Delete(id)); err != nil {
			return err
		}
	}
	return nil
}
