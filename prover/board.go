package prover

import (
	"errors"
	"fmt"
	"time"
)

// Codes of failures. Stable: receipts, journals and scripts carry them.
const (
	FailWitnessMismatch = "witness-mismatch" // the witness belongs to another circuit
	FailWitnessDamaged  = "witness-damaged"
	FailZkeyDamaged     = "zkey-damaged"
	FailZkeyUnfit       = "zkey-unfit"    // another curve or protocol
	FailProofInvalid    = "proof-invalid" // the verifier refused the proof
	FailWorkerDied      = "worker-died"   // its process ended in the middle of the job
	FailLeaseExpired    = "lease-expired" // the worker was not heard of until the deadline
	FailTimeout         = "timeout"
	FailBlobMissing     = "blob-missing" // key or witness is not (or no longer) what was submitted
	FailCancelled       = "cancelled"
	FailInternal        = "internal"
)

// What a board answers to a change that it does not make. Match with errors.Is.
var (
	// ErrNoJob: the board knows no such job.
	ErrNoJob = errors.New("no such job")
	// ErrNoneQueued: there is nothing to lease.
	ErrNoneQueued = errors.New("no job is queued")
	// ErrJobDiffers: the id is taken by a job with other content.
	ErrJobDiffers = errors.New("the id belongs to another job")
	// ErrLate: the report names a lease that has ended (another worker, another attempt, a final job).
	ErrLate = errors.New("the report is late")
	// ErrFinal: the job has ended and cannot change.
	ErrFinal = errors.New("the job has ended")
	// ErrNotQueued: only a queued job can be leased.
	ErrNotQueued = errors.New("the job is not queued")
	// ErrNotExpired: the lease still runs.
	ErrNotExpired = errors.New("the lease still runs")
	// ErrBadChange: the change lacks something; a fault of the caller.
	ErrBadChange = errors.New("the change is incomplete")
)

// Change is one step that a board is asked to make: a JobChange, AddJob, LeaseJob, SetPause or ClearPause.
// The set is closed. Times in it come from the caller: a board reads no clock.
type Change interface{ change() }

// JobChange is a change of one job that the board knows. Ticket.Advance says what it does.
type JobChange interface {
	Change
	JobID() JobID
}

// AddJob submits a job. The same job again (by ID) changes nothing and is answered as repeated; another job
// under the same ID is ErrJobDiffers. Who submitted it and when do not count as content.
type AddJob struct {
	Job Job
	At  time.Time
}

// LeaseJob gives a queued job to a worker until Deadline and counts an attempt. An empty Job means the oldest
// queued one (lowest Seq); ErrNoneQueued if there is none. A named job that is not queued is ErrNotQueued.
type LeaseJob struct {
	Job      JobID
	Worker   WorkerID
	At       time.Time
	Deadline time.Time
}

// ExtendLease moves the deadline of a lease forward; an earlier deadline than the lease's leaves it.
type ExtendLease struct {
	Job      JobID
	Worker   WorkerID
	Attempt  int
	Deadline time.Time
}

// ReleaseLease ends a lease without a proof. The job is queued again, or failed when the failure cannot be
// retried or the attempts are used up. A nil Failure says that no work was done: the attempt does not count.
type ReleaseLease struct {
	Job     JobID
	Worker  WorkerID
	Attempt int
	Failure *Failure
	At      time.Time
}

// ExpireLease ends a lease whose deadline is not after At, as ReleaseLease does with FailLeaseExpired;
// ErrNotExpired while it still runs.
type ExpireLease struct {
	Job     JobID
	Attempt int
	At      time.Time
}

// StoreProof ends a lease with a proof: the job is proved and waits for verification. Proof.Worker and
// Proof.Attempt name the lease.
type StoreProof struct {
	Job   JobID
	Proof Proof
	At    time.Time
}

// AcceptProof says that another process found the proof of this attempt right: the job is verified, and counted
// for the worker that made the proof.
type AcceptProof struct {
	Job     JobID
	Attempt int
	At      time.Time
}

// RejectProof says that another process found the proof of this attempt wrong. The proof is dropped; the job is
// queued again or failed as with ReleaseLease. Failure must not be nil.
type RejectProof struct {
	Job     JobID
	Attempt int
	Failure *Failure
	At      time.Time
}

// CancelJob withdraws a job that has not ended; ErrFinal if it has.
type CancelJob struct {
	Job    JobID
	Reason string
	At     time.Time
}

// SetPause records that a worker shall take no job; it replaces an earlier pause of the worker.
type SetPause struct{ Pause Pause }

// ClearPause ends a worker's pause. With an Act it ends only the pause of that act, so that an older act cannot
// end a newer pause. Clearing what is not there is no error and is answered as repeated.
type ClearPause struct {
	Worker WorkerID
	Act    string
}

func (AddJob) change()       {}
func (LeaseJob) change()     {}
func (ExtendLease) change()  {}
func (ReleaseLease) change() {}
func (ExpireLease) change()  {}
func (StoreProof) change()   {}
func (AcceptProof) change()  {}
func (RejectProof) change()  {}
func (CancelJob) change()    {}
func (SetPause) change()     {}
func (ClearPause) change()   {}

// JobID is the job that the change is for; "" for the oldest queued one.
func (c LeaseJob) JobID() JobID     { return c.Job }
func (c ExtendLease) JobID() JobID  { return c.Job }
func (c ReleaseLease) JobID() JobID { return c.Job }
func (c ExpireLease) JobID() JobID  { return c.Job }
func (c StoreProof) JobID() JobID   { return c.Job }
func (c AcceptProof) JobID() JobID  { return c.Job }
func (c RejectProof) JobID() JobID  { return c.Job }
func (c CancelJob) JobID() JobID    { return c.Job }

// Outcome is a board's answer to one change.
type Outcome struct {
	// Ticket is the job after the change, without the bodies of its proof (Brief). After a refused change it is
	// the job as it stands, zero when there is none. Pauses have no ticket.
	Ticket Ticket
	// Repeated is set when everything was already so.
	Repeated bool
	// Err says why the change was not made: one of the errors above, in words.
	Err error
}

// Pause keeps a worker from taking jobs. It outlives the engine.
type Pause struct {
	Worker WorkerID   `json:"worker"`
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until"` // null: until somebody resumes it
	Reason string     `json:"reason,omitempty"`
	By     string     `json:"by,omitempty"`
	Act    string     `json:"act,omitempty"` // the act that ordered it
}

// JobTotals counts all jobs that a board knows, by state.
type JobTotals struct {
	Submitted uint64 `json:"submitted"` // the sum of the others
	Queued    uint64 `json:"queued"`
	Leased    uint64 `json:"leased"`
	Proved    uint64 `json:"proved"`
	Verified  uint64 `json:"verified"`
	Failed    uint64 `json:"failed"`
	Cancelled uint64 `json:"cancelled"`
}

// Move counts a job that went from one state to another; an empty from means that it is new.
func (t *JobTotals) Move(from, to JobState) {
	if n := t.of(from); n != nil {
		*n--
	} else {
		t.Submitted++
	}
	if n := t.of(to); n != nil {
		*n++
	}
}

func (t *JobTotals) of(s JobState) *uint64 {
	switch s {
	case JobQueued:
		return &t.Queued
	case JobLeased:
		return &t.Leased
	case JobProved:
		return &t.Proved
	case JobVerified:
		return &t.Verified
	case JobFailed:
		return &t.Failed
	case JobCancelled:
		return &t.Cancelled
	}
	return nil
}

// WorkerCount is what a worker has done since it first started.
type WorkerCount struct {
	Worker   WorkerID `json:"worker"`
	Verified uint64   `json:"verified"`
}

// SameContent tells whether two jobs ask for the same: everything but who submitted it and when.
func (j Job) SameContent(o Job) bool {
	j.SubmittedAt, j.SubmittedBy = o.SubmittedAt, o.SubmittedBy
	return j == o
}

// NewTicket is the ticket of a job that was just added. The board sets Seq and Rev.
func NewTicket(c AddJob) (Ticket, error) {
	if c.Job.ID == "" || c.Job.Kind == "" || c.Job.MaxAttempts < 1 {
		return Ticket{}, fmt.Errorf("add job %q: want an id, a kind and at least one attempt: %w", c.Job.ID, ErrBadChange)
	}
	j := c.Job
	if j.SubmittedAt.IsZero() {
		j.SubmittedAt = c.At
	}
	j.SubmittedAt = instant(j.SubmittedAt)
	return Ticket{Job: j, State: JobQueued}, nil
}

// Brief is the ticket without the bodies of its proof, as lists carry it.
func (t Ticket) Brief() Ticket {
	if t.Proof != nil {
		p := *t.Proof
		p.ProofJSON, p.PublicJSON = nil, nil
		t.Proof = &p
	}
	return t
}

// AttemptsLeft is how often the job may still be handed out.
func (t Ticket) AttemptsLeft() int {
	return max(t.Job.MaxAttempts-(t.Attempts-t.GivenBack), 0)
}

// Advance is the whole rule of how a job moves: it gives the ticket after the change, or the ticket as it stands and
// one of the errors above. It changes nothing that t points to. Every board uses it, so no two can differ.
func (t Ticket) Advance(c JobChange) (Ticket, error) {
	switch c := c.(type) {
	case LeaseJob:
		switch {
		case c.Worker == "" || !c.Deadline.After(c.At):
			return t, t.refuse("lease", ErrBadChange)
		case t.State.Final():
			return t, t.refuse("lease", ErrFinal)
		case t.State != JobQueued:
			return t, t.refuse("lease", ErrNotQueued)
		}
		t.Attempts++
		t.State, t.Worker = JobLeased, c.Worker
		t.Lease = &Lease{Worker: c.Worker, Attempt: t.Attempts, LeasedAt: instant(c.At), Deadline: instant(c.Deadline)}
		if t.StartedAt == nil {
			t.StartedAt = moment(c.At)
		}
		return t, nil
	case ExtendLease:
		if !t.holds(c.Worker, c.Attempt) {
			return t, t.refuse("extend lease", ErrLate)
		}
		if c.Deadline.After(t.Lease.Deadline) {
			l := *t.Lease
			l.Deadline = instant(c.Deadline)
			t.Lease = &l
		}
		return t, nil
	case ReleaseLease:
		if !t.holds(c.Worker, c.Attempt) {
			return t, t.refuse("release lease", ErrLate)
		}
		if c.Failure == nil {
			t.State, t.Lease = JobQueued, nil
			t.GivenBack++
			return t, nil
		}
		return t.fail(*c.Failure, c.At), nil
	case ExpireLease:
		switch {
		case t.State != JobLeased || t.Lease.Attempt != c.Attempt:
			return t, t.refuse("expire lease", ErrLate)
		case t.Lease.Deadline.After(c.At):
			return t, t.refuse("expire lease", ErrNotExpired)
		}
		return t.fail(Failure{Code: FailLeaseExpired, Retry: true,
			Text: fmt.Sprintf("worker %s was silent, or did not finish, until its lease ended (attempt %d)", t.Lease.Worker, c.Attempt)}, c.At), nil
	case StoreProof:
		if !t.holds(c.Proof.Worker, c.Proof.Attempt) {
			return t, t.refuse("store proof", ErrLate)
		}
		p := c.Proof
		t.State, t.Lease, t.Proof, t.ProvedAt = JobProved, nil, &p, moment(c.At)
		return t, nil
	case AcceptProof:
		if t.State != JobProved || t.Proof.Attempt != c.Attempt {
			return t, t.refuse("accept proof", ErrLate)
		}
		t.State, t.FinishedAt = JobVerified, moment(c.At)
		return t, nil
	case RejectProof:
		switch {
		case t.State != JobProved || t.Proof.Attempt != c.Attempt:
			return t, t.refuse("reject proof", ErrLate)
		case c.Failure == nil:
			return t, t.refuse("reject proof", ErrBadChange)
		}
		t.Proof, t.ProvedAt = nil, nil
		t.Rejected++
		return t.fail(*c.Failure, c.At), nil
	case CancelJob:
		if t.State.Final() {
			return t, t.refuse("cancel", ErrFinal)
		}
		t.State, t.Lease, t.Proof, t.ProvedAt, t.FinishedAt = JobCancelled, nil, nil, nil, moment(c.At)
		t.Failure = &Failure{Code: FailCancelled, Text: c.Reason}
		return t, nil
	}
	return t, t.refuse(fmt.Sprintf("%T", c), ErrBadChange)
}

// holds tells whether this attempt of this worker is the lease in force.
func (t Ticket) holds(w WorkerID, attempt int) bool {
	return t.State == JobLeased && t.Lease.Worker == w && t.Lease.Attempt == attempt
}

func (t Ticket) fail(f Failure, at time.Time) Ticket {
	t.Failure, t.Lease = &f, nil
	if f.Retry && t.AttemptsLeft() > 0 {
		t.State = JobQueued
	} else {
		t.State, t.FinishedAt = JobFailed, moment(at)
	}
	return t
}

func (t Ticket) refuse(doing string, why error) error {
	return fmt.Errorf("%s: job %s is %s, attempt %d: %w", doing, t.Job.ID, t.State, t.Attempts, why)
}

// instant is the time as it will be read back: UTC, without a monotonic part.
func instant(t time.Time) time.Time { return t.UTC().Round(0) }

func moment(t time.Time) *time.Time {
	t = instant(t)
	return &t
}
