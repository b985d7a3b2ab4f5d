package act

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"app.provost/engine"
)

const (
	tellEvery = 100 * time.Millisecond // changes of a row are shown at most so often
	saveEvery = time.Second            // and kept on disk at most so often, but for steps and the end
)

var errCancelled = errors.New("the act was cancelled")

// Act is one act under way, in the hands of its verb. Its methods may be called
// from any goroutine of the verb, until Run returns.
type Act struct {
	Action engine.Action
	Actor  engine.Actor
	Key    string // the request's
	Plan   engine.Plan

	d        *Desk
	readOnly bool
	done     chan struct{}
	err      error // set before done is closed

	saveMu sync.Mutex // taken before mu: one save at a time, the last one by close

	mu        sync.Mutex // guards the fields below; nothing else is called under it
	row       engine.ActRow
	receipt   engine.Receipt
	ended     bool
	cancelled bool
	stop      context.CancelCauseFunc
	timer     *time.Timer
	saved     time.Time
}

func (d *Desk) newAct(r engine.Request, p engine.Plan, row engine.ActRow) *Act {
	row.Settled = slices.Clone(row.Settled)
	return &Act{Action: r.Action, Actor: r.Actor, Key: r.Key, Plan: p, d: d, row: row, done: make(chan struct{})}
}

// ID is the act's id in the ledger, "" for read-only acts.
func (a *Act) ID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.row.ID
}

// Row is the act as the ledger has it now: after Resume, what was settled before.
func (a *Act) Row() engine.ActRow {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rowLocked()
}

func (a *Act) rowLocked() engine.ActRow {
	r := a.row
	r.Settled = slices.Clone(r.Settled)
	return r
}

// Receipt is the receipt as it stands.
func (a *Act) Receipt() engine.Receipt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.receipt
}

// SetStep says that the act is at the step of that name; it is kept at once.
func (a *Act) SetStep(name string) {
	a.change(true, func(r *engine.ActRow) {
		if i := slices.IndexFunc(r.Steps, func(s engine.Step) bool { return s.Name == name }); i >= 0 {
			r.Step = i + 1
		}
		if r.State == engine.ActHolding {
			r.State, r.Until = engine.ActRunning, nil
		}
	})
}

// Settle says how one target stands: waiting, sent, done, refused or failed.
func (a *Act) Settle(target, state, why string) {
	now := time.Now().UTC()
	a.change(false, func(r *engine.ActRow) {
		s := engine.Settled{Target: target, State: state, At: &now, Why: why}
		if i := slices.IndexFunc(r.Settled, func(o engine.Settled) bool { return o.Target == target }); i >= 0 {
			r.Settled[i] = s
		} else {
			r.Settled = append(r.Settled, s)
		}
	})
}

// Hold says that the act has done its part and waits: for until, or with nil for somebody to end it.
func (a *Act) Hold(until *time.Time) {
	a.change(true, func(r *engine.ActRow) { r.State, r.Until = engine.ActHolding, until })
}

// Text says how the act stands, in words.
func (a *Act) Text(s string) { a.change(false, func(r *engine.ActRow) { r.Text = s }) }

// Result adds to the receipt: jobs, files, notes, artifacts, checks, facts.
func (a *Act) Result(fn func(r *engine.Receipt)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, key, digest := a.receipt.Act, a.receipt.Key, a.receipt.Digest
	fn(&a.receipt)
	a.receipt.Act, a.receipt.Key, a.receipt.Digest = id, key, digest
}

// Cancelled tells whether Run's ctx ended because the act was cancelled (and not because the engine stops).
func (a *Act) Cancelled() bool { return a.cancelAsked() }

func (a *Act) change(now bool, fn func(*engine.ActRow)) {
	if a.readOnly {
		return
	}
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		return
	}
	fn(&a.row)
	if now {
		a.mu.Unlock()
		a.flush(true)
		return
	}
	if a.timer == nil {
		a.timer = time.AfterFunc(tellEvery, func() { a.flush(false) })
	}
	a.mu.Unlock()
}

// flush shows the row, and keeps it if it was not kept for a while or must be now.
func (a *Act) flush(keep bool) {
	a.saveMu.Lock()
	defer a.saveMu.Unlock()
	a.mu.Lock()
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	if a.ended || a.row.ID == "" {
		a.mu.Unlock()
		return
	}
	row := a.rowLocked()
	keep = keep || time.Since(a.saved) >= saveEvery
	if keep {
		a.saved = time.Now()
	}
	a.mu.Unlock()
	a.d.o.Tell(row)
	if keep {
		if err := a.d.o.Store.SaveAct(row, nil, nil); err != nil {
			a.d.o.Logger.Warn("keep act", "act", row.ID, "err", err) // the next step tries again
		}
	}
}

// started hands over what ends Run; false when the act was cancelled before it began.
func (a *Act) started(stop context.CancelCauseFunc) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stop = stop
	return !a.cancelled
}

func (a *Act) cancel() {
	a.mu.Lock()
	a.cancelled = true
	stop := a.stop
	a.mu.Unlock()
	if stop != nil {
		stop(errCancelled)
	}
}

func (a *Act) cancelAsked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cancelled
}

// close works out how the act ended. No change comes after it.
func (a *Act) close(problem *engine.Problem) (engine.ActRow, engine.Receipt) {
	a.saveMu.Lock() // a flush under way ends first, none begins after
	defer a.saveMu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	a.ended = true
	now := time.Now().UTC()
	r := &a.row
	r.Ended, r.Until = &now, nil
	good, bad := 0, 0
	for _, s := range r.Settled {
		switch s.State {
		case "done":
			good++
		case "refused", "failed":
			bad++
			if problem == nil {
				note := s.Target + ": " + s.State
				if s.Why != "" {
					note += ": " + s.Why
				}
				a.receipt.Notes = append(slices.Clip(a.receipt.Notes), note)
			}
		}
	}
	switch {
	case a.cancelled:
		r.State, r.Text = engine.ActCancelled, "cancelled"
	case problem != nil && good > 0:
		r.State, r.Text = engine.ActPartly, problem.Error()
	case problem != nil:
		r.State, r.Text = engine.ActFailed, problem.Error()
	case bad > 0:
		r.State = engine.ActPartly
		a.receipt.Facts = append(slices.Clip(a.receipt.Facts), engine.Fact{Name: "state", Value: string(engine.ActPartly)})
	default:
		r.State = engine.ActDone
		r.Step = len(r.Steps)
	}
	a.receipt.Done = true
	return a.rowLocked(), a.receipt
}

// leave wakes those who wait for the end.
func (a *Act) leave(problem *engine.Problem) {
	if problem != nil {
		a.err = problem
	}
	close(a.done)
}
