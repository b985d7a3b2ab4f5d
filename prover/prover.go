// Package prover holds the nouns of proving: jobs, leases, proofs, workers as
// provers see them, GPUs and hugepages. Values and pure functions only: nothing
// here runs, reads a file or knows an engine, and nothing of ours is imported.
//
// Confusable numbers have their own types: a core counts from 1 (core 1 is the
// first core that a data worker may use), a CPU is the kernel's number from 0.
package prover

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Core numbers the cores given to data workers, from 1. Zero means "no core".
// It is not the kernel's CPU number: see CPU.
type Core int

// CPU is the kernel's number of a logical processor, from 0, as in
// /sys/devices/system/cpu/cpuN. Placement turns a Core into a CPU.
type CPU int

// WorkerID names one data worker inside its engine: "w" and its core, as in "w7".
// It is stable over restarts of the worker and of the engine.
type WorkerID string

// WorkerFor is the id of the data worker on a core.
func WorkerFor(c Core) WorkerID { return WorkerID("w" + strconv.Itoa(int(c))) }

// ParseWorkerID reads "w7"; it refuses everything else.
func ParseWorkerID(s string) (WorkerID, Core, error) {
	rest, ok := strings.CutPrefix(s, "w")
	n, err := strconv.Atoi(rest)
	if !ok || err != nil || n < 1 || rest[0] == '+' || rest[0] == '0' {
		return "", 0, fmt.Errorf("read worker id %q: want w and a core number from 1, as in w7", s)
	}
	return WorkerID(s), Core(n), nil
}

// Digest is a SHA-256 over the whole of a file. The zero value means "not known".
type Digest [32]byte

// IsZero tells whether the digest is not known.
func (d Digest) IsZero() bool { return d == Digest{} }

// String is 64 lower-case hex characters, or "" when not known.
func (d Digest) String() string {
	if d.IsZero() {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// MarshalText writes the digest as String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 hex characters, or nothing for "not known".
func (d *Digest) UnmarshalText(b []byte) error {
	*d = Digest{}
	if len(b) == 0 {
		return nil
	}
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(d) {
		return errors.New("read digest: want 64 hex characters (SHA-256)")
	}
	copy(d[:], raw)
	return nil
}

// Blob is a file known by its content.
type Blob struct {
	Digest    Digest `json:"sha256"`
	SizeBytes int64  `json:"size_bytes"`
}

// JobID names a job for ever. The submitter's idempotency key decides it, so a
// repeated submission is the same job.
type JobID string

// JobKind says which prover a job is for.
type JobKind string

const (
	// Groth16Zkey proves a snarkjs .zkey with a .wtns: Groth16 over BN254.
	Groth16Zkey JobKind = "groth16-zkey"
	// EmptyJob carries no work: it measures what a job costs around its proof.
	EmptyJob JobKind = "empty"
)

// Job is one proof to make. It never changes after it was submitted.
type Job struct {
	ID          JobID     `json:"id"`
	Kind        JobKind   `json:"kind"`
	Name        string    `json:"name,omitempty"`
	Zkey        Blob      `json:"zkey"`
	Witness     Blob      `json:"witness"`
	Constraints uint64    `json:"constraints,omitempty"` // domain size of the circuit, for estimates
	SubmittedAt time.Time `json:"submitted_at"`
	SubmittedBy string    `json:"submitted_by,omitempty"`
	// MaxAttempts bounds how often the job is handed out before it is failed.
	MaxAttempts int `json:"max_attempts"`
}

// JobState is where a job stands. It only ever moves forward, but for
// leased → queued when a lease ends without a proof.
type JobState string

const (
	JobQueued    JobState = "queued"    // waits for a worker
	JobLeased    JobState = "leased"    // a worker proves it
	JobProved    JobState = "proved"    // a proof is there, not verified yet
	JobVerified  JobState = "verified"  // another process found the proof right: this is the only success
	JobFailed    JobState = "failed"    // no proof, or a wrong one, after the last attempt
	JobCancelled JobState = "cancelled" // withdrawn by an operator before it was verified
)

// Final tells whether the state can no longer change.
func (s JobState) Final() bool {
	return s == JobVerified || s == JobFailed || s == JobCancelled
}

// Lease gives one job to one worker until a deadline. Attempt counts from 1 and
// tells this lease from an earlier one of the same job: a report that names
// another attempt is late and changes nothing.
type Lease struct {
	Worker   WorkerID  `json:"worker"`
	Attempt  int       `json:"attempt"`
	LeasedAt time.Time `json:"leased_at"`
	Deadline time.Time `json:"deadline"`
}

// Phase is a step of making a proof, in order.
type Phase string

const (
	PhaseLoad   Phase = "load"
	PhaseABC    Phase = "abc"
	PhaseFFT    Phase = "fft"
	PhaseA      Phase = "msm-a"
	PhaseB1     Phase = "msm-b1"
	PhaseB2     Phase = "msm-b2"
	PhaseC      Phase = "msm-c"
	PhaseH      Phase = "msm-h"
	PhaseVerify Phase = "verify"
)

// Proof is what a worker made: snarkjs' proof.json and public.json, byte for byte.
type Proof struct {
	ProofJSON  []byte   `json:"proof_json"`
	PublicJSON []byte   `json:"public_json"`
	Worker     WorkerID `json:"worker"`
	Attempt    int      `json:"attempt"`
	// ProveTime is how long the proof took in the worker, loading included.
	ProveTime time.Duration `json:"prove_ns"`
}

// Failure says why an attempt or a job failed, in words an operator can act on.
type Failure struct {
	// Code is stable: one of the Fail constants.
	Code string `json:"code"`
	Text string `json:"text"`
	// Retry tells whether another attempt can end differently. A wrong witness cannot; a dead worker can.
	Retry bool `json:"retry"`
}

// Error makes a Failure usable as an error.
func (f Failure) Error() string { return f.Text }

// Ticket is a job with everything that happened to it: the unit a board keeps.
type Ticket struct {
	Job        Job        `json:"job"`
	State      JobState   `json:"state"`
	Attempts   int        `json:"attempts"` // leases given so far
	Lease      *Lease     `json:"lease,omitempty"`
	Failure    *Failure   `json:"failure,omitempty"`    // the last one, kept for the record after a later success
	StartedAt  *time.Time `json:"started_at,omitempty"` // first lease
	ProvedAt   *time.Time `json:"proved_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"` // entered a final state
	Proof      *Proof     `json:"proof,omitempty"`

	// Seq numbers the jobs of a board in the order of their submission, from 1. Rev numbers all changes of
	// a board; a ticket carries that of its last one, so finished tickets sorted by Rev are in the order of
	// finishing. The board sets both.
	Seq uint64 `json:"seq,omitempty"`
	Rev uint64 `json:"rev,omitempty"`
	// Worker holds the lease or held the last one.
	Worker WorkerID `json:"worker,omitempty"`
	// GivenBack counts leases that ended before any work was done: they do not count against MaxAttempts.
	GivenBack int `json:"given_back,omitempty"`
	// Rejected counts proofs of this job that another process found wrong.
	Rejected int `json:"rejected,omitempty"`
}
