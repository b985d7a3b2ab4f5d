package queue

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"sync"

	"app.provost/prover"
)

// MemBoard is a Board that lives as long as the process: for tests and for engines that keep no state. Nothing of it
// is on disk.
type MemBoard struct {
	mu       sync.Mutex // guards all below; nothing else is called while it is held
	rev, seq uint64
	tickets  map[prover.JobID]*prover.Ticket
	queued   seqHeap // candidates for a lease; an entry whose ticket is not queued any more is skipped when met
	open     map[prover.JobID]struct{}
	finished []prover.JobID // in the order of finishing
	totals   prover.JobTotals
	pauses   map[prover.WorkerID]prover.Pause
	counts   map[prover.WorkerID]uint64
}

// NewMemBoard makes an empty board.
func NewMemBoard() *MemBoard {
	return &MemBoard{
		tickets: map[prover.JobID]*prover.Ticket{},
		open:    map[prover.JobID]struct{}{},
		pauses:  map[prover.WorkerID]prover.Pause{},
		counts:  map[prover.WorkerID]uint64{},
	}
}

var _ Board = (*MemBoard)(nil)

// Apply makes the changes.
func (b *MemBoard) Apply(ctx context.Context, changes []prover.Change) ([]prover.Outcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("change the board: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]prover.Outcome, len(changes))
	for i, c := range changes {
		out[i] = b.applyLocked(c)
	}
	return out, nil
}

func (b *MemBoard) applyLocked(c prover.Change) prover.Outcome {
	switch c := c.(type) {
	case prover.AddJob:
		if old, ok := b.tickets[c.Job.ID]; ok {
			if !old.Job.SameContent(c.Job) {
				return prover.Outcome{Ticket: old.Brief(), Err: fmt.Errorf("add job %s: %w", c.Job.ID, prover.ErrJobDiffers)}
			}
			return prover.Outcome{Ticket: old.Brief(), Repeated: true}
		}
		t, err := prover.NewTicket(c)
		if err != nil {
			return prover.Outcome{Err: err}
		}
		b.seq++
		t.Seq = b.seq
		return b.saveLocked("", t)
	case prover.LeaseJob:
		if c.Job == "" {
			t := b.oldestLocked()
			if t == nil {
				return prover.Outcome{Err: fmt.Errorf("lease: %w", prover.ErrNoneQueued)}
			}
			c.Job = t.Job.ID
		}
		return b.advanceLocked(c)
	case prover.SetPause:
		if c.Pause.Worker == "" {
			return prover.Outcome{Err: fmt.Errorf("pause: no worker: %w", prover.ErrBadChange)}
		}
		b.pauses[c.Pause.Worker] = c.Pause
		return prover.Outcome{}
	case prover.ClearPause:
		p, ok := b.pauses[c.Worker]
		if !ok || c.Act != "" && c.Act != p.Act {
			return prover.Outcome{Repeated: true}
		}
		delete(b.pauses, c.Worker)
		return prover.Outcome{}
	case prover.JobChange:
		return b.advanceLocked(c)
	}
	return prover.Outcome{Err: fmt.Errorf("%T: %w", c, prover.ErrBadChange)}
}

func (b *MemBoard) advanceLocked(c prover.JobChange) prover.Outcome {
	old, ok := b.tickets[c.JobID()]
	if !ok {
		return prover.Outcome{Err: fmt.Errorf("job %s: %w", c.JobID(), prover.ErrNoJob)}
	}
	t, err := old.Advance(c)
	if err != nil {
		return prover.Outcome{Ticket: old.Brief(), Err: err}
	}
	return b.saveLocked(old.State, t)
}

func (b *MemBoard) saveLocked(from prover.JobState, t prover.Ticket) prover.Outcome {
	b.rev++
	t.Rev = b.rev
	b.tickets[t.Job.ID] = &t
	if from != t.State {
		b.totals.Move(from, t.State)
		switch {
		case t.State.Final():
			delete(b.open, t.Job.ID)
			b.finished = append(b.finished, t.Job.ID)
		case t.State == prover.JobQueued:
			heap.Push(&b.queued, seqEntry{t.Seq, t.Job.ID})
		}
		if from == "" {
			b.open[t.Job.ID] = struct{}{}
		}
		if t.State == prover.JobVerified {
			b.counts[t.Proof.Worker]++
		}
	}
	return prover.Outcome{Ticket: t.Brief()}
}

func (b *MemBoard) oldestLocked() *prover.Ticket {
	for len(b.queued) > 0 {
		if t := b.tickets[b.queued[0].id]; t.State == prover.JobQueued {
			return t
		}
		heap.Pop(&b.queued)
	}
	return nil
}

// Get gives one job.
func (b *MemBoard) Get(_ context.Context, id prover.JobID) (prover.Ticket, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.tickets[id]
	if !ok {
		return prover.Ticket{}, fmt.Errorf("job %s: %w", id, prover.ErrNoJob)
	}
	return *t, nil
}

// Open lists the open jobs.
func (b *MemBoard) Open(context.Context) ([]prover.Ticket, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]prover.Ticket, 0, len(b.open))
	for id := range b.open {
		out = append(out, b.tickets[id].Brief())
	}
	slices.SortFunc(out, func(x, y prover.Ticket) int { return cmp.Compare(x.Seq, y.Seq) })
	return out, nil
}

// Finished lists the newest ended jobs.
func (b *MemBoard) Finished(_ context.Context, limit int) ([]prover.Ticket, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(max(limit, 0), len(b.finished))
	out := make([]prover.Ticket, 0, n)
	for i := range n {
		out = append(out, b.tickets[b.finished[len(b.finished)-1-i]].Brief())
	}
	return out, nil
}

// Totals counts the jobs.
func (b *MemBoard) Totals(context.Context) (prover.JobTotals, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.totals, nil
}

// Pauses lists the pauses.
func (b *MemBoard) Pauses(context.Context) ([]prover.Pause, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]prover.Pause, 0, len(b.pauses))
	for _, p := range b.pauses {
		out = append(out, p)
	}
	return out, nil
}

// Counts lists what was verified of each worker.
func (b *MemBoard) Counts(context.Context) ([]prover.WorkerCount, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]prover.WorkerCount, 0, len(b.counts))
	for w, n := range b.counts {
		out = append(out, prover.WorkerCount{Worker: w, Verified: n})
	}
	return out, nil
}

type seqEntry struct {
	seq uint64
	id  prover.JobID
}

// seqHeap has the lowest Seq first.
type seqHeap []seqEntry

func (h seqHeap) Len() int           { return len(h) }
func (h seqHeap) Less(i, j int) bool { return h[i].seq < h[j].seq }
func (h seqHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *seqHeap) Push(x any)        { *h = append(*h, x.(seqEntry)) }
func (h *seqHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
