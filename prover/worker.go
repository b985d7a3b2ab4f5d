package prover

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// WorkerRole says what a worker process is for. The control side trusts a verdict only from a verifier.
type WorkerRole string

const (
	RoleProve  WorkerRole = "prove"
	RoleVerify WorkerRole = "verify"
)

// JobIDFor is the id of the nth job (from 0) submitted under an idempotency key: "j" and 20 characters. The same
// submission gives the same ids, so sending it twice makes each job once.
func JobIDFor(key string, n int) JobID {
	h := sha256.Sum256([]byte("provost.job/1\x00" + key + "\x00" + strconv.Itoa(n)))
	return JobID("j" + strings.ToLower(base32.StdEncoding.EncodeToString(h[:])[:20]))
}

// Peer is one connection of one worker process. Conn is never used twice, also not by the same worker.
type Peer struct {
	Worker WorkerID
	Conn   uint64
}

// BlobFile is a blob and the file that holds it on the machine of the worker.
type BlobFile struct {
	Blob
	Path string `json:"path"` // absolute
}

// OrderKind says what an order asks of a worker.
type OrderKind string

const (
	OrderProve  OrderKind = "prove"  // make a proof of Zkey and Witness
	OrderVerify OrderKind = "verify" // say whether Proof holds for Zkey
	OrderCancel OrderKind = "cancel" // give this attempt up
	OrderAck    OrderKind = "ack"    // the result of this attempt is safe: forget it
	OrderDrain  OrderKind = "drain"  // deliver what is in hand, then end the process
)

// Order is what the control side sends to a worker.
type Order struct {
	Kind    OrderKind `json:"kind"`
	Job     JobID     `json:"job,omitempty"`
	Attempt int       `json:"attempt,omitempty"`
	JobKind JobKind   `json:"job_kind,omitempty"`
	Zkey    *BlobFile `json:"zkey,omitempty"`
	Witness *BlobFile `json:"witness,omitempty"`
	Proof   *Proof    `json:"proof,omitempty"`
	// LimitMS bounds the work on this attempt: the worker gives up with FailTimeout. 0: no bound.
	LimitMS int64  `json:"limit_ms,omitempty"`
	Why     string `json:"why,omitempty"`
}

const maxLimitMS = 366 * 24 * 3600 * 1000

// Check tells whether the order is complete for its kind.
func (o Order) Check() error {
	files := o.JobKind != EmptyJob
	switch {
	case o.Kind == OrderDrain:
		return nil
	case o.Job == "" || o.Attempt < 1:
		return fmt.Errorf("order %q: no job or no attempt", o.Kind)
	case o.Kind == OrderCancel || o.Kind == OrderAck:
		return nil
	case o.Kind != OrderProve && o.Kind != OrderVerify:
		return fmt.Errorf("order %q: not known", o.Kind)
	case o.JobKind == "" || o.LimitMS < 0 || o.LimitMS > maxLimitMS:
		return fmt.Errorf("order %q: no kind of job, or no limit that can be kept", o.Kind)
	case files && (o.Zkey == nil || o.Zkey.Digest.IsZero() || o.Zkey.Path == ""):
		return fmt.Errorf("order %q: no key", o.Kind)
	case o.Kind == OrderProve && files && (o.Witness == nil || o.Witness.Digest.IsZero() || o.Witness.Path == ""):
		return errors.New("order prove: no witness")
	case o.Kind == OrderVerify && o.Proof == nil:
		return errors.New("order verify: no proof")
	}
	return nil
}

// Holding is what a worker has in hand: a job that it works on, or one whose result it could not deliver yet.
type Holding struct {
	Job     JobID `json:"job"`
	Attempt int   `json:"attempt"`
	Phase   Phase `json:"phase,omitempty"`
	// Progress is the part of the work that is done, 0 to 1.
	Progress float64 `json:"progress"`
	// Done is set when only the delivery of the result is left.
	Done bool `json:"done,omitempty"`
}

// Verdict is a verifier's answer. The zero value is no answer.
type Verdict string

const (
	VerdictValid   Verdict = "valid"
	VerdictInvalid Verdict = "invalid" // the proof was judged and is wrong
)

// ReportKind says what a report tells.
type ReportKind string

const (
	ReportHello   ReportKind = "hello"   // connected: Hello and Holding
	ReportBeat    ReportKind = "beat"    // alive: Holding (null: nothing in hand), RSSBytes
	ReportResult  ReportKind = "result"  // Job, Attempt and one of Proof, Verdict, Failure
	ReportRefused ReportKind = "refused" // an order was not taken; no work was done on it
	ReportBye     ReportKind = "bye"     // the process ends on purpose; what it holds unfinished (Holding) is given back
	ReportGone    ReportKind = "gone"    // the connection ended; made by the control side, never sent
)

// WorkerHello is what a worker process says of itself.
type WorkerHello struct {
	Role      WorkerRole `json:"role"`
	PID       int        `json:"pid"`
	Version   string     `json:"version"`
	StartedAt time.Time  `json:"started_at"` // of the process
}

// Report is what the control side hears from a worker.
type Report struct {
	Kind     ReportKind   `json:"kind"`
	Hello    *WorkerHello `json:"hello,omitempty"`
	Holding  *Holding     `json:"holding,omitempty"`
	RSSBytes *uint64      `json:"rss_bytes,omitempty"`
	Job      JobID        `json:"job,omitempty"`
	Attempt  int          `json:"attempt,omitempty"`
	Proof    *Proof       `json:"proof,omitempty"`
	Verdict  Verdict      `json:"verdict,omitempty"`
	Failure  *Failure     `json:"failure,omitempty"`
	// Why is in words: of a refusal, of an end, of VerdictInvalid.
	Why string `json:"why,omitempty"`
}

// Check tells whether the report is complete for its kind.
func (r Report) Check() error {
	if h := r.Holding; h != nil && (h.Job == "" || h.Attempt < 1 || !(h.Progress >= 0 && h.Progress <= 1)) {
		return fmt.Errorf("report %q: what it holds is incomplete", r.Kind)
	}
	switch r.Kind {
	case ReportHello:
		if r.Hello == nil || r.Hello.Role != RoleProve && r.Hello.Role != RoleVerify || r.Hello.PID < 1 {
			return errors.New("report hello: no role or no process id")
		}
	case ReportBeat, ReportBye, ReportGone:
	case ReportRefused:
		if r.Job == "" || r.Attempt < 1 {
			return errors.New("report refused: no job or no attempt")
		}
	case ReportResult:
		if r.Job == "" || r.Attempt < 1 {
			return errors.New("report result: no job or no attempt")
		}
		n := 0
		if r.Proof != nil {
			n++
		}
		if r.Failure != nil {
			n++
		}
		if r.Verdict == VerdictValid || r.Verdict == VerdictInvalid {
			n++
		}
		if n != 1 {
			return errors.New("report result: want one of proof, verdict and failure")
		}
	default:
		return fmt.Errorf("report %q: not known", r.Kind)
	}
	return nil
}

// WorkerEvent is a report with the connection that it came over. Events of one worker come in order; a connection
// begins with ReportHello and ends with ReportGone, before the next one of the same worker begins.
type WorkerEvent struct {
	Peer   Peer
	At     time.Time
	Report Report
	// Latency is the last measured time of a round trip to the worker; 0: not measured yet.
	Latency time.Duration
}
