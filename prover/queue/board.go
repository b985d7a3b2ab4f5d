package queue

import (
	"context"

	"app.provost/prover"
)

// Board keeps the jobs: the durable half of the queue. engine/store keeps one in bbolt, NewMemBoard in memory;
// provertest.BoardSuite holds all of them to the same behaviour. Signatures use nouns only, so that a board need not
// import this package.
//
// Leases are as JetStream has them: a job is delivered at least once, and its id makes it one job. A report that
// names a lease which has ended is refused (prover.ErrLate) and changes nothing.
//
// A board may be called from any goroutine. It starts none and reads no clock: times come with the changes.
type Board interface {
	// Apply makes the changes in their order, each seeing those before it, in one commit. When it returns nil, all
	// that were made are on disk, and there is one outcome for each change: some may have been refused
	// (Outcome.Err), which does not touch the others. When it returns an error (no space, damaged store, ctx done
	// before the commit), none was made. A job moves as prover.Ticket.Advance says, a new one begins as
	// prover.NewTicket says.
	Apply(ctx context.Context, changes []prover.Change) ([]prover.Outcome, error)
	// Get gives one job with its proof; prover.ErrNoJob if there is none.
	Get(ctx context.Context, id prover.JobID) (prover.Ticket, error)
	// Open lists the jobs that have not ended, oldest first (Seq), each as Ticket.Brief.
	Open(ctx context.Context) ([]prover.Ticket, error)
	// Finished lists up to limit jobs that have ended, newest first (Rev), each as Ticket.Brief.
	Finished(ctx context.Context, limit int) ([]prover.Ticket, error)
	// Totals counts all jobs by state.
	Totals(ctx context.Context) (prover.JobTotals, error)
	// Pauses lists the pauses, by worker in no stated order. The board does not end them at Until: the queue does.
	Pauses(ctx context.Context) ([]prover.Pause, error)
	// Counts lists how many jobs of each worker were verified, in no stated order.
	Counts(ctx context.Context) ([]prover.WorkerCount, error)
}
