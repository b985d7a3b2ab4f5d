// Package provertest holds the suites that every implementation of a boundary of prover must pass. Imported by tests only.
package provertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"app.provost/prover"
)

// Board is queue.Board, written out so that this package needs nouns only; a test of prover/queue holds the two equal.
type Board interface {
	Apply(ctx context.Context, changes []prover.Change) ([]prover.Outcome, error)
	Get(ctx context.Context, id prover.JobID) (prover.Ticket, error)
	Open(ctx context.Context) ([]prover.Ticket, error)
	Finished(ctx context.Context, limit int) ([]prover.Ticket, error)
	Totals(ctx context.Context) (prover.JobTotals, error)
	Pauses(ctx context.Context) ([]prover.Pause, error)
	Counts(ctx context.Context) ([]prover.WorkerCount, error)
}

// Subject is a board under test.
type Subject struct {
	Board Board
	// Reopen closes the board and opens it again from what is on disk; nil for a board that is not durable.
	Reopen func(t *testing.T) Board
}

// Time zero of the suite. Boards read no clock, so any time does.
var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }

// Job is a job as tests submit it.
func Job(id prover.JobID, attempts int) prover.Job {
	return prover.Job{ID: id, Kind: prover.Groth16Zkey, Name: "job " + string(id), Zkey: prover.Blob{Digest: prover.Digest{1}, SizeBytes: 7},
		Witness: prover.Blob{Digest: prover.Digest{2}, SizeBytes: 9}, Constraints: 16, SubmittedAt: epoch, SubmittedBy: "ana", MaxAttempts: attempts}
}

// BoardSuite holds a board to what queue.Board promises. open gives an empty board each time.
func BoardSuite(t *testing.T, open func(t *testing.T) Subject) {
	t.Run("table", func(t *testing.T) { boardTable(t, open) })
	t.Run("empty", func(t *testing.T) { boardEmpty(t, open(t)) })
	t.Run("bodies", func(t *testing.T) { boardBodies(t, open(t)) })
	t.Run("cancelled context", func(t *testing.T) { boardContext(t, open(t)) })
	t.Run("times", func(t *testing.T) { boardTimes(t, open(t)) })
	t.Run("model", func(t *testing.T) {
		for seed := range uint64(4) {
			t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { boardModel(t, open(t), seed) })
		}
	})
}

func proofOf(w prover.WorkerID, attempt int) prover.Proof {
	return prover.Proof{ProofJSON: []byte(`{"pi_a":[]}`), PublicJSON: []byte(`["1"]`), Worker: w, Attempt: attempt, ProveTime: 3 * time.Second}
}

func again(code string) *prover.Failure {
	return &prover.Failure{Code: code, Text: "words", Retry: true}
}

// boardTable walks through each rule once: the changes before the last must succeed.
func boardTable(t *testing.T, open func(t *testing.T) Subject) {
	add := prover.AddJob{Job: Job("a", 2), At: at(0)}
	lease := prover.LeaseJob{Job: "a", Worker: "w1", At: at(1), Deadline: at(31)}
	proved := prover.StoreProof{Job: "a", Proof: proofOf("w1", 1), At: at(5)}
	other := add.Job
	other.Name = "other"
	resubmitted := add.Job
	resubmitted.SubmittedBy, resubmitted.SubmittedAt = "bob", at(9)

	for _, c := range []struct {
		name     string
		changes  []prover.Change
		err      error
		repeated bool
		state    prover.JobState
		check    func(prover.Ticket) bool
	}{
		{name: "add", changes: []prover.Change{add}, state: prover.JobQueued},
		{name: "add twice", changes: []prover.Change{add, prover.AddJob{Job: resubmitted, At: at(9)}}, repeated: true, state: prover.JobQueued,
			check: func(t prover.Ticket) bool { return t.Job.SubmittedBy == "ana" }},
		{name: "add after it was leased", changes: []prover.Change{add, lease, add}, repeated: true, state: prover.JobLeased},
		{name: "add other content", changes: []prover.Change{add, prover.AddJob{Job: other, At: at(1)}}, err: prover.ErrJobDiffers, state: prover.JobQueued},
		{name: "add without attempts", changes: []prover.Change{prover.AddJob{Job: Job("a", 0)}}, err: prover.ErrBadChange},
		{name: "lease named", changes: []prover.Change{add, lease}, state: prover.JobLeased,
			check: func(t prover.Ticket) bool {
				return t.Attempts == 1 && t.Worker == "w1" && t.Lease.Deadline.Equal(at(31)) && t.StartedAt.Equal(at(1))
			}},
		{name: "lease of none", changes: []prover.Change{prover.LeaseJob{Worker: "w1", At: at(1), Deadline: at(2)}}, err: prover.ErrNoneQueued},
		{name: "lease of unknown", changes: []prover.Change{lease}, err: prover.ErrNoJob},
		{name: "lease twice", changes: []prover.Change{add, lease, lease}, err: prover.ErrNotQueued, state: prover.JobLeased},
		{name: "lease without worker", changes: []prover.Change{add, prover.LeaseJob{Job: "a", At: at(1), Deadline: at(2)}}, err: prover.ErrBadChange, state: prover.JobQueued},
		{name: "lease into the past", changes: []prover.Change{add, prover.LeaseJob{Job: "a", Worker: "w1", At: at(2), Deadline: at(2)}}, err: prover.ErrBadChange, state: prover.JobQueued},
		{name: "lease oldest", changes: []prover.Change{add, prover.AddJob{Job: Job("b", 1), At: at(0)}, prover.LeaseJob{Worker: "w1", At: at(1), Deadline: at(2)}}, state: prover.JobLeased,
			check: func(t prover.Ticket) bool { return t.Job.ID == "a" }},
		{name: "lease oldest after it came back", changes: []prover.Change{add, lease, prover.AddJob{Job: Job("b", 1), At: at(0)},
			prover.ReleaseLease{Job: "a", Worker: "w1", Attempt: 1, Failure: again("worker-died"), At: at(2)}, prover.LeaseJob{Worker: "w2", At: at(3), Deadline: at(4)}}, state: prover.JobLeased,
			check: func(t prover.Ticket) bool {
				return t.Job.ID == "a" && t.Attempts == 2 && t.Failure.Code == "worker-died"
			}},
		{name: "extend", changes: []prover.Change{add, lease, prover.ExtendLease{Job: "a", Worker: "w1", Attempt: 1, Deadline: at(60)}}, state: prover.JobLeased,
			check: func(t prover.Ticket) bool { return t.Lease.Deadline.Equal(at(60)) && t.Lease.LeasedAt.Equal(at(1)) }},
		{name: "extend backward", changes: []prover.Change{add, lease, prover.ExtendLease{Job: "a", Worker: "w1", Attempt: 1, Deadline: at(2)}}, state: prover.JobLeased,
			check: func(t prover.Ticket) bool { return t.Lease.Deadline.Equal(at(31)) }},
		{name: "extend of another worker", changes: []prover.Change{add, lease, prover.ExtendLease{Job: "a", Worker: "w2", Attempt: 1, Deadline: at(60)}}, err: prover.ErrLate, state: prover.JobLeased},
		{name: "extend of another attempt", changes: []prover.Change{add, lease, prover.ExtendLease{Job: "a", Worker: "w1", Attempt: 2, Deadline: at(60)}}, err: prover.ErrLate, state: prover.JobLeased},
		{name: "give back", changes: []prover.Change{add, lease, prover.ReleaseLease{Job: "a", Worker: "w1", Attempt: 1, At: at(2)}}, state: prover.JobQueued,
			check: func(t prover.Ticket) bool {
				return t.Attempts == 1 && t.GivenBack == 1 && t.AttemptsLeft() == 2 && t.Lease == nil && t.Failure == nil
			}},
		{name: "release to retry", changes: []prover.Change{add, lease, prover.ReleaseLease{Job: "a", Worker: "w1", Attempt: 1, Failure: again("worker-died"), At: at(2)}}, state: prover.JobQueued,
			check: func(t prover.Ticket) bool { return t.AttemptsLeft() == 1 && t.FinishedAt == nil }},
		{name: "release for good", changes: []prover.Change{add, lease, prover.ReleaseLease{Job: "a", Worker: "w1", Attempt: 1, Failure: &prover.Failure{Code: "witness-mismatch"}, At: at(2)}}, state: prover.JobFailed,
			check: func(t prover.Ticket) bool { return t.FinishedAt.Equal(at(2)) && t.Worker == "w1" }},
		{name: "release of the last attempt", changes: []prover.Change{add, lease, prover.ReleaseLease{Job: "a", Worker: "w1", Attempt: 1, Failure: again("worker-died"), At: at(2)},
			prover.LeaseJob{Job: "a", Worker: "w1", At: at(3), Deadline: at(4)}, prover.ReleaseLease{Job: "a", Worker: "w1", Attempt: 2, Failure: again("worker-died"), At: at(4)}}, state: prover.JobFailed},
		{name: "release of another attempt", changes: []prover.Change{add, lease, prover.ReleaseLease{Job: "a", Worker: "w1", Attempt: 3, At: at(2)}}, err: prover.ErrLate, state: prover.JobLeased},
		{name: "expire", changes: []prover.Change{add, lease, prover.ExpireLease{Job: "a", Attempt: 1, At: at(31)}}, state: prover.JobQueued,
			check: func(t prover.Ticket) bool { return t.Failure.Code == prover.FailLeaseExpired }},
		{name: "expire too early", changes: []prover.Change{add, lease, prover.ExpireLease{Job: "a", Attempt: 1, At: at(30)}}, err: prover.ErrNotExpired, state: prover.JobLeased},
		{name: "expire of another attempt", changes: []prover.Change{add, lease, prover.ExpireLease{Job: "a", Attempt: 2, At: at(31)}}, err: prover.ErrLate, state: prover.JobLeased},
		{name: "prove", changes: []prover.Change{add, lease, proved}, state: prover.JobProved,
			check: func(t prover.Ticket) bool {
				return t.Lease == nil && t.ProvedAt.Equal(at(5)) && t.Proof.ProveTime == 3*time.Second
			}},
		{name: "prove twice", changes: []prover.Change{add, lease, proved, proved}, err: prover.ErrLate, state: prover.JobProved},
		{name: "prove after expiry", changes: []prover.Change{add, lease, prover.ExpireLease{Job: "a", Attempt: 1, At: at(31)}, proved}, err: prover.ErrLate, state: prover.JobQueued},
		{name: "prove for the next lease", changes: []prover.Change{add, lease, prover.ExpireLease{Job: "a", Attempt: 1, At: at(31)},
			prover.LeaseJob{Job: "a", Worker: "w1", At: at(32), Deadline: at(60)}, proved}, err: prover.ErrLate, state: prover.JobLeased},
		{name: "accept", changes: []prover.Change{add, lease, proved, prover.AcceptProof{Job: "a", Attempt: 1, At: at(6)}}, state: prover.JobVerified,
			check: func(t prover.Ticket) bool { return t.FinishedAt.Equal(at(6)) }},
		{name: "accept twice", changes: []prover.Change{add, lease, proved, prover.AcceptProof{Job: "a", Attempt: 1, At: at(6)}, prover.AcceptProof{Job: "a", Attempt: 1, At: at(7)}}, err: prover.ErrLate, state: prover.JobVerified},
		{name: "accept unproved", changes: []prover.Change{add, lease, prover.AcceptProof{Job: "a", Attempt: 1, At: at(6)}}, err: prover.ErrLate, state: prover.JobLeased},
		{name: "reject to retry", changes: []prover.Change{add, lease, proved, prover.RejectProof{Job: "a", Attempt: 1, Failure: again("proof-invalid"), At: at(6)}}, state: prover.JobQueued,
			check: func(t prover.Ticket) bool { return t.Proof == nil && t.Rejected == 1 && t.ProvedAt == nil }},
		{name: "reject for good", changes: []prover.Change{add, lease, proved, prover.RejectProof{Job: "a", Attempt: 1, Failure: &prover.Failure{Code: "proof-invalid"}, At: at(6)}}, state: prover.JobFailed},
		{name: "reject without a reason", changes: []prover.Change{add, lease, proved, prover.RejectProof{Job: "a", Attempt: 1, At: at(6)}}, err: prover.ErrBadChange, state: prover.JobProved},
		{name: "accept after rejection", changes: []prover.Change{add, lease, proved, prover.RejectProof{Job: "a", Attempt: 1, Failure: again("proof-invalid"), At: at(6)},
			prover.AcceptProof{Job: "a", Attempt: 1, At: at(7)}}, err: prover.ErrLate, state: prover.JobQueued},
		{name: "cancel queued", changes: []prover.Change{add, prover.CancelJob{Job: "a", Reason: "typo", At: at(2)}}, state: prover.JobCancelled,
			check: func(t prover.Ticket) bool {
				return t.Failure.Text == "typo" && t.Failure.Code == prover.FailCancelled && t.FinishedAt.Equal(at(2))
			}},
		{name: "cancel proved", changes: []prover.Change{add, lease, proved, prover.CancelJob{Job: "a", At: at(6)}}, state: prover.JobCancelled,
			check: func(t prover.Ticket) bool { return t.Proof == nil }},
		{name: "cancel twice", changes: []prover.Change{add, prover.CancelJob{Job: "a", At: at(2)}, prover.CancelJob{Job: "a", At: at(2)}}, err: prover.ErrFinal, state: prover.JobCancelled},
		{name: "lease cancelled", changes: []prover.Change{add, prover.CancelJob{Job: "a", At: at(2)}, lease}, err: prover.ErrFinal, state: prover.JobCancelled},
		{name: "prove cancelled", changes: []prover.Change{add, lease, prover.CancelJob{Job: "a", At: at(2)}, proved}, err: prover.ErrLate, state: prover.JobCancelled},
		{name: "pause nobody", changes: []prover.Change{prover.SetPause{}}, err: prover.ErrBadChange},
		{name: "resume nobody", changes: []prover.Change{prover.ClearPause{Worker: "w1"}}, repeated: true},
	} {
		// Once in one commit, once in a commit each: the outcome must be the same.
		for _, batch := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/batch=%v", c.name, batch), func(t *testing.T) {
				s := open(t)
				var out []prover.Outcome
				if batch {
					out = apply(t, s.Board, c.changes...)
				} else {
					for _, ch := range c.changes {
						out = append(out, apply(t, s.Board, ch)...)
					}
				}
				for i, o := range out[:len(out)-1] {
					if o.Err != nil {
						t.Fatalf("change %d %T: %v", i, c.changes[i], o.Err)
					}
				}
				last := out[len(out)-1]
				if !errors.Is(last.Err, c.err) || (c.err == nil) != (last.Err == nil) {
					t.Fatalf("got error %v, want %v", last.Err, c.err)
				}
				if last.Repeated != c.repeated {
					t.Errorf("repeated is %v", last.Repeated)
				}
				if s.Reopen != nil {
					s.Board = s.Reopen(t)
				}
				got, err := s.Board.Get(t.Context(), "a")
				if c.state == "" {
					if !errors.Is(err, prover.ErrNoJob) {
						t.Fatalf("got %v and error %v, want no job", got, err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got.State != c.state {
					t.Errorf("state %s, want %s", got.State, c.state)
				}
				if d := gocmp.Diff(last.Ticket, got.Brief()); d != "" && c.check == nil {
					t.Errorf("the outcome's ticket is not the one that is kept (-outcome +kept):\n%s", d)
				}
				if c.check != nil && !c.check(last.Ticket) {
					t.Errorf("ticket: %+v", last.Ticket)
				}
			})
		}
	}
}

func boardEmpty(t *testing.T, s Subject) {
	ctx := t.Context()
	if out, err := s.Board.Apply(ctx, nil); err != nil || len(out) != 0 {
		t.Errorf("no changes: %v, %v", out, err)
	}
	if l, err := s.Board.Open(ctx); err != nil || len(l) != 0 {
		t.Errorf("open: %v, %v", l, err)
	}
	if l, err := s.Board.Finished(ctx, 10); err != nil || len(l) != 0 {
		t.Errorf("finished: %v, %v", l, err)
	}
	if n, err := s.Board.Totals(ctx); err != nil || n != (prover.JobTotals{}) {
		t.Errorf("totals: %v, %v", n, err)
	}
	if l, err := s.Board.Pauses(ctx); err != nil || len(l) != 0 {
		t.Errorf("pauses: %v, %v", l, err)
	}
	if l, err := s.Board.Counts(ctx); err != nil || len(l) != 0 {
		t.Errorf("counts: %v, %v", l, err)
	}
	if _, err := s.Board.Get(ctx, "a"); !errors.Is(err, prover.ErrNoJob) {
		t.Errorf("get: %v", err)
	}
}

// boardBodies: proofs come byte for byte with Get, and not with lists or outcomes.
func boardBodies(t *testing.T, s Subject) {
	p := proofOf("w1", 1)
	p.PublicJSON = slices.Repeat([]byte("\xff\x00 0123"), 50_000)
	out := apply(t, s.Board, prover.AddJob{Job: Job("a", 1), At: at(0)}, prover.LeaseJob{Job: "a", Worker: "w1", At: at(1), Deadline: at(2)}, prover.StoreProof{Job: "a", Proof: p, At: at(2)})
	brief := func(where string, t2 prover.Ticket) {
		if t2.Proof == nil || t2.Proof.ProofJSON != nil || t2.Proof.PublicJSON != nil || t2.Proof.ProveTime != p.ProveTime || t2.Proof.Worker != "w1" {
			t.Errorf("%s: proof %+v", where, t2.Proof)
		}
	}
	brief("outcome", out[2].Ticket)
	list, _ := s.Board.Open(t.Context())
	brief("open", list[0])
	out = apply(t, s.Board, prover.AcceptProof{Job: "a", Attempt: 1, At: at(3)})
	brief("accepted", out[0].Ticket)
	if s.Reopen != nil {
		s.Board = s.Reopen(t)
	}
	list, _ = s.Board.Finished(t.Context(), 1)
	brief("finished", list[0])
	got, err := s.Board.Get(t.Context(), "a")
	if err != nil || got.Proof == nil || string(got.Proof.ProofJSON) != string(p.ProofJSON) || string(got.Proof.PublicJSON) != string(p.PublicJSON) {
		t.Errorf("the proof did not come back whole (%v)", err)
	}
}

func boardContext(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Board.Apply(ctx, []prover.Change{prover.AddJob{Job: Job("a", 1), At: at(0)}}); !errors.Is(err, context.Canceled) {
		t.Errorf("apply with an ended context: %v", err)
	}
	if _, err := s.Board.Get(t.Context(), "a"); !errors.Is(err, prover.ErrNoJob) {
		t.Errorf("a change was made after its context had ended: %v", err)
	}
}

// boardTimes: whatever zone or clock a time comes from, it is read back in UTC, to the nanosecond.
func boardTimes(t *testing.T, s Subject) {
	zone := at(0).Add(123456789).In(time.FixedZone("x", 3600))
	j := Job("a", 1)
	j.SubmittedAt = zone
	out := apply(t, s.Board, prover.AddJob{Job: j, At: zone}, prover.LeaseJob{Worker: "w1", At: zone, Deadline: time.Now().AddDate(10, 0, 0)})
	if s.Reopen != nil {
		s.Board = s.Reopen(t)
	}
	got, err := s.Board.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(out[1].Ticket, got); d != "" {
		t.Errorf("(-outcome +kept)\n%s", d)
	}
	for _, x := range []time.Time{got.Job.SubmittedAt, got.Lease.LeasedAt, got.Lease.Deadline, *got.StartedAt} {
		if x != x.UTC().Round(0) {
			t.Errorf("%v is not plain UTC", x)
		}
	}
}

func apply(t *testing.T, b Board, c ...prover.Change) []prover.Outcome {
	t.Helper()
	out, err := b.Apply(t.Context(), c)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	if len(out) != len(c) {
		t.Fatalf("%d outcomes for %d changes", len(out), len(c))
	}
	return out
}

// model is the smallest thing that could be a board: it keeps what each job went through and derives the rest.
type model struct {
	jobs    []*modelJob
	changes uint64
	pauses  map[prover.WorkerID]prover.Pause
}

type modelJob struct {
	id                 prover.JobID
	state              prover.JobState
	attempts, counted  int
	max                int
	worker             prover.WorkerID
	deadline           time.Time
	verified, finished uint64 // number of the change, 0: not
}

func (m *model) job(id prover.JobID) *modelJob {
	for _, j := range m.jobs {
		if j.id == id {
			return j
		}
	}
	return nil
}

func (m *model) end(j *modelJob, s prover.JobState) {
	j.state, j.finished = s, m.changes
}

func (m *model) retry(j *modelJob, again bool) {
	j.counted++
	if again && j.counted < j.max {
		j.state = prover.JobQueued
	} else {
		m.end(j, prover.JobFailed)
	}
}

// do makes a change and gives the error it is answered with.
func (m *model) do(c prover.Change) error {
	m.changes++
	holds := func(id prover.JobID, w prover.WorkerID, attempt int) (*modelJob, error) {
		switch j := m.job(id); {
		case j == nil:
			return nil, prover.ErrNoJob
		case j.state != prover.JobLeased || j.worker != w || j.attempts != attempt:
			return nil, prover.ErrLate
		default:
			return j, nil
		}
	}
	proved := func(id prover.JobID, attempt int) (*modelJob, error) {
		switch j := m.job(id); {
		case j == nil:
			return nil, prover.ErrNoJob
		case j.state != prover.JobProved || j.attempts != attempt:
			return nil, prover.ErrLate
		default:
			return j, nil
		}
	}
	switch c := c.(type) {
	case prover.AddJob:
		if m.job(c.Job.ID) == nil {
			m.jobs = append(m.jobs, &modelJob{id: c.Job.ID, state: prover.JobQueued, max: c.Job.MaxAttempts})
		}
	case prover.LeaseJob:
		var j *modelJob
		if c.Job != "" {
			if j = m.job(c.Job); j == nil {
				return prover.ErrNoJob
			}
		} else {
			i := slices.IndexFunc(m.jobs, func(j *modelJob) bool { return j.state == prover.JobQueued })
			if i < 0 {
				return prover.ErrNoneQueued
			}
			j = m.jobs[i]
		}
		if j.state.Final() {
			return prover.ErrFinal
		}
		if j.state != prover.JobQueued {
			return prover.ErrNotQueued
		}
		j.attempts++
		j.state, j.worker, j.deadline = prover.JobLeased, c.Worker, c.Deadline
	case prover.ExtendLease:
		j, err := holds(c.Job, c.Worker, c.Attempt)
		if err != nil {
			return err
		}
		if c.Deadline.After(j.deadline) {
			j.deadline = c.Deadline
		}
	case prover.ReleaseLease:
		j, err := holds(c.Job, c.Worker, c.Attempt)
		if err != nil {
			return err
		}
		if c.Failure == nil {
			j.state = prover.JobQueued
		} else {
			m.retry(j, c.Failure.Retry)
		}
	case prover.ExpireLease:
		j := m.job(c.Job)
		if j == nil {
			return prover.ErrNoJob
		}
		if j.state != prover.JobLeased || j.attempts != c.Attempt {
			return prover.ErrLate
		}
		if j.deadline.After(c.At) {
			return prover.ErrNotExpired
		}
		m.retry(j, true)
	case prover.StoreProof:
		j, err := holds(c.Job, c.Proof.Worker, c.Proof.Attempt)
		if err != nil {
			return err
		}
		j.state = prover.JobProved
	case prover.AcceptProof:
		j, err := proved(c.Job, c.Attempt)
		if err != nil {
			return err
		}
		j.verified = m.changes
		m.end(j, prover.JobVerified)
	case prover.RejectProof:
		j, err := proved(c.Job, c.Attempt)
		if err != nil {
			return err
		}
		m.retry(j, c.Failure.Retry)
	case prover.CancelJob:
		j := m.job(c.Job)
		if j == nil {
			return prover.ErrNoJob
		}
		if j.state.Final() {
			return prover.ErrFinal
		}
		m.end(j, prover.JobCancelled)
	case prover.SetPause:
		m.pauses[c.Pause.Worker] = c.Pause
	case prover.ClearPause:
		if p, ok := m.pauses[c.Worker]; ok && (c.Act == "" || c.Act == p.Act) {
			delete(m.pauses, c.Worker)
		}
	}
	return nil
}

// boardModel makes random changes in random batches, on the board and on the model, and compares all that can be read.
func boardModel(t *testing.T, s Subject, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	m := &model{pauses: map[prover.WorkerID]prover.Pause{}}
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for round := range rounds {
		var batch []prover.Change
		for range r.IntN(12) {
			batch = append(batch, randomChange(r, round, m))
		}
		out := apply(t, s.Board, batch...)
		for i, c := range batch {
			want := m.do(c)
			if !errors.Is(out[i].Err, want) || (want == nil) != (out[i].Err == nil) {
				t.Fatalf("round %d: %#v: got %v, want %v", round, c, out[i].Err, want)
			}
		}
		if s.Reopen != nil && r.IntN(6) == 0 {
			s.Board = s.Reopen(t)
		}
		compare(t, s.Board, m)
	}
}

func randomChange(r *rand.Rand, round int, m *model) prover.Change {
	now := at(10 * round)
	id := prover.JobID(fmt.Sprintf("j%02d", r.IntN(30)))
	worker := prover.WorkerFor(prover.Core(1 + r.IntN(3)))
	attempt := 1
	// Mostly speak of what is there, so that jobs get somewhere; the rest is late, wrong or unknown.
	if j := m.job(id); j != nil && r.IntN(4) > 0 {
		attempt = j.attempts
		if j.worker != "" {
			worker = j.worker
		}
	}
	failure := &prover.Failure{Code: prover.FailInternal, Text: "x", Retry: r.IntN(3) > 0}
	switch r.IntN(14) {
	case 0, 1:
		return prover.AddJob{Job: Job(id, 3), At: now}
	case 2, 3, 4:
		if r.IntN(2) == 0 {
			id = ""
		}
		return prover.LeaseJob{Job: id, Worker: worker, At: now, Deadline: now.Add(30 * time.Second)}
	case 5:
		return prover.ExtendLease{Job: id, Worker: worker, Attempt: attempt, Deadline: now.Add(time.Duration(r.IntN(60)) * time.Second)}
	case 6:
		if r.IntN(2) == 0 {
			failure = nil
		}
		return prover.ReleaseLease{Job: id, Worker: worker, Attempt: attempt, Failure: failure, At: now}
	case 7:
		return prover.ExpireLease{Job: id, Attempt: attempt, At: now}
	case 8, 9:
		return prover.StoreProof{Job: id, Proof: proofOf(worker, attempt), At: now}
	case 10:
		return prover.AcceptProof{Job: id, Attempt: attempt, At: now}
	case 11:
		return prover.RejectProof{Job: id, Attempt: attempt, Failure: failure, At: now}
	case 12:
		if r.IntN(3) > 0 {
			return prover.AddJob{Job: Job(id, 3), At: now}
		}
		return prover.CancelJob{Job: id, Reason: "r", At: now}
	default:
		if r.IntN(2) == 0 {
			until := now.Add(time.Hour)
			return prover.SetPause{Pause: prover.Pause{Worker: worker, Since: now, Until: &until, Reason: "disk", By: "ana", Act: fmt.Sprintf("a%d", r.IntN(3))}}
		}
		return prover.ClearPause{Worker: worker, Act: []string{"", "a0", "a1"}[r.IntN(3)]}
	}
}

// compare reads everything from the board and holds it against the model.
func compare(t *testing.T, b Board, m *model) {
	t.Helper()
	ctx := t.Context()
	var open []prover.JobID
	var done []*modelJob
	var totals prover.JobTotals
	counts := map[prover.WorkerID]uint64{}
	for _, j := range m.jobs {
		totals.Move("", j.state)
		if j.state.Final() {
			done = append(done, j)
		} else {
			open = append(open, j.id)
		}
		if j.verified > 0 {
			counts[j.worker]++
		}
		got, err := b.Get(ctx, j.id)
		if err != nil {
			t.Fatal(err)
		}
		if got.State != j.state || got.Attempts != j.attempts || got.State == prover.JobQueued && got.AttemptsLeft() != j.max-j.counted {
			t.Fatalf("job %s is %s, attempts %d, left %d; the model says %+v", j.id, got.State, got.Attempts, got.AttemptsLeft(), *j)
		}
		if got.State == prover.JobLeased && (got.Lease.Worker != j.worker || !got.Lease.Deadline.Equal(j.deadline) || got.Lease.Attempt != j.attempts) {
			t.Fatalf("job %s: lease %+v; the model says %+v", j.id, *got.Lease, *j)
		}
		if (got.State == prover.JobLeased) != (got.Lease != nil) || got.State.Final() != (got.FinishedAt != nil) {
			t.Fatalf("job %s: the parts do not fit its state: %+v", j.id, got)
		}
		if has := got.Proof != nil; has != (got.State == prover.JobProved || got.State == prover.JobVerified) {
			t.Fatalf("job %s is %s; has a proof: %v", j.id, got.State, has)
		}
	}
	slices.SortFunc(done, func(x, y *modelJob) int { return cmp.Compare(y.finished, x.finished) })

	gotOpen, err := b.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(open, ids(gotOpen), cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("open (-model +board):\n%s", d)
	}
	for _, limit := range []int{0, 3, 1000} {
		var want []prover.JobID
		for _, j := range done[:min(limit, len(done))] {
			want = append(want, j.id)
		}
		got, err := b.Finished(ctx, limit)
		if err != nil {
			t.Fatal(err)
		}
		if d := gocmp.Diff(want, ids(got), cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("finished, limit %d (-model +board):\n%s", limit, d)
		}
	}
	if got, err := b.Totals(ctx); err != nil || got != totals {
		t.Fatalf("totals %+v (%v), want %+v", got, err, totals)
	}
	pauses, err := b.Pauses(ctx)
	if err != nil {
		t.Fatal(err)
	}
	gotPauses := map[prover.WorkerID]prover.Pause{}
	for _, p := range pauses {
		gotPauses[p.Worker] = p
	}
	if d := gocmp.Diff(m.pauses, gotPauses); d != "" || len(pauses) != len(gotPauses) {
		t.Fatalf("pauses (-model +board):\n%s", d)
	}
	list, err := b.Counts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	gotCounts := map[prover.WorkerID]uint64{}
	for _, c := range list {
		if c.Verified > 0 {
			gotCounts[c.Worker] = c.Verified
		}
	}
	if d := gocmp.Diff(counts, gotCounts); d != "" {
		t.Fatalf("counts (-model +board):\n%s", d)
	}
}

func ids(l []prover.Ticket) []prover.JobID {
	var out []prover.JobID
	for _, t := range l {
		out = append(out, t.Job.ID)
	}
	return out
}
