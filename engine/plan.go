package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"app.provost/cluster"
)

// PlanSchema is the version of Plan's JSON.
const PlanSchema = "provost.plan/1"

// Digest names a plan by what it would do: 12 lower-case hex characters. A
// person may type a unique beginning of at least 6 (Fits).
type Digest string

// Fits tells whether typed names d: the same, or its first 6 or more characters.
func (d Digest) Fits(typed Digest) bool {
	t := strings.ToLower(string(typed))
	return len(t) >= 6 && strings.HasPrefix(string(d), t)
}

// Plan says what an action would do, before it is done.
type Plan struct {
	Schema   string        `json:"schema"`
	Digest   Digest        `json:"digest"`
	Title    string        `json:"title"`   // "pause 2 workers for 45m0s, then resume"
	Command  string        `json:"command"` // the same act without questions, without --confirm
	Steps    []Step        `json:"steps"`
	Targets  []string      `json:"targets,omitempty"` // "worker/w1"
	LeftOut  []LeftOut     `json:"left_out,omitempty"`
	Effects  []Effect      `json:"effects,omitempty"`
	Files    []PlannedFile `json:"files,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
	// Notes are good to know and call for nothing.
	Notes []string `json:"notes,omitempty"`
	// Table shows what is planned where it is best read in rows (CreateWorkers: a machine each). Not part of the digest.
	Table *PlanTable `json:"table,omitempty"`
	// Undo says how to take it back; Irreversible what cannot be taken back.
	Undo         string   `json:"undo,omitempty"`
	Irreversible []string `json:"irreversible,omitempty"`
	Consent      Consent  `json:"consent"`
	// ReadOnly acts need no consent and leave no act in the ledger.
	ReadOnly bool `json:"read_only,omitempty"`
	// MadeAt and Sections tell from what the plan was made. They are not part of the digest.
	MadeAt   time.Time              `json:"made_at"`
	Sections map[SectionName]uint64 `json:"sections,omitempty"`
}

// Step is one thing that will be done, in order.
type Step struct {
	Name string `json:"name"` // short: "drain", "hold", "resume"
	Text string `json:"text"`
}

// LeftOut is a target that was asked for and will not be touched.
type LeftOut struct {
	Target string `json:"target"`
	Why    string `json:"why"`
}

// Effect compares a number before, during and after. Texts, already with units.
// They move with the readings and are not part of the digest.
type Effect struct {
	What   string `json:"what"`
	Now    string `json:"now"`
	During string `json:"during,omitempty"`
	After  string `json:"after"`
}

// PlannedFile is a file that would be written. Mode as in "0400".
type PlannedFile struct {
	Path string `json:"path"`
	Mode string `json:"mode"`
}

// PlanTable is a table for reading: cells as they are shown.
type PlanTable struct {
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	// Marked are the rows, from 0, that call for a look.
	Marked []int `json:"marked,omitempty"`
}

// Consent says how much of it the act needs.
type Consent struct {
	// Level: "none" (read-only), "enter" (a yes is enough), "type" (Phrase must be typed).
	Level  string `json:"level"`
	Phrase string `json:"phrase,omitempty"`
	Why    string `json:"why,omitempty"`
}

// Seal fills in schema and digest. The digest covers the action and what would
// be done (steps, targets, files, consent, irreversible), not readings that move
// by themselves (effects, warnings, times).
func (p Plan) Seal(a Action) (Plan, error) {
	raw, err := MarshalAction(a)
	if err != nil {
		return Plan{}, err
	}
	core, err := json.Marshal(struct {
		Action       json.RawMessage
		Title        string
		Steps        []Step
		Targets      []string
		LeftOut      []LeftOut
		Files        []PlannedFile
		Irreversible []string
		Consent      Consent
	}{raw, p.Title, p.Steps, p.Targets, p.LeftOut, p.Files, p.Irreversible, p.Consent})
	if err != nil {
		return Plan{}, fmt.Errorf("seal plan: %w", err)
	}
	h := sha256.New()
	io.WriteString(h, PlanSchema)
	h.Write(core)
	p.Schema = PlanSchema
	p.Digest = Digest(hex.EncodeToString(h.Sum(nil))[:12])
	return p, nil
}

// Receipt says that an action was taken and what came of it so far.
type Receipt struct {
	Key    string    `json:"key"`
	Act    string    `json:"act,omitempty"` // id in the Acts section; "" for read-only acts
	Digest Digest    `json:"digest"`
	At     time.Time `json:"at"`
	Title  string    `json:"title"`
	// Done is false while the act goes on in the engine.
	Done bool `json:"done"`
	// Repeated is set when this key had been carried out before.
	Repeated bool     `json:"repeated,omitempty"`
	Targets  []string `json:"targets,omitempty"`
	Jobs     []string `json:"jobs,omitempty"` // ids of submitted jobs
	// Files were written by the act (CreateCluster).
	Files []PlannedFile `json:"files,omitempty"`
	// Notes are lines for the operator: warnings, the lock hash, how to go on.
	Notes []string `json:"notes,omitempty"`
	// Artifacts are what a read-only act brings (FetchJob): name and content.
	Artifacts []Artifact `json:"artifacts,omitempty"`
	// Checks are the findings of a check (VerifyCluster).
	Checks []Check `json:"checks,omitempty"`
	// Facts are further results by name, in order.
	Facts []Fact `json:"facts,omitempty"`
	// Cluster is what a lock or a definition says (ShowCluster).
	Cluster *cluster.Summary `json:"cluster,omitempty"`
	// Identity is what a node record says (ShowENR).
	Identity *cluster.Identity `json:"identity,omitempty"`
	// Table is that of the plan which was carried out, if it had one.
	Table *PlanTable `json:"table,omitempty"`
}

// Artifact is a small file that an act brings back.
type Artifact struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Check is one named check with its outcome.
type Check struct {
	Name   string `json:"name"`   // stable: "lock.hash", "node1.keystore[0]"
	Status string `json:"status"` // passed, warned, failed, skipped
	File   string `json:"file,omitempty"`
	Field  string `json:"field,omitempty"`
	Text   string `json:"text,omitempty"`   // what is wrong, or what was seen
	Remedy string `json:"remedy,omitempty"` // what to do
}

// ActState is where an act stands.
type ActState string

const (
	ActRunning   ActState = "running"
	ActHolding   ActState = "holding" // done its part, waits for its end (a pause)
	ActDone      ActState = "done"
	ActPartly    ActState = "partly" // some targets refused or failed
	ActFailed    ActState = "failed"
	ActCancelled ActState = "cancelled"
)

// Open tells whether the act is still under way.
func (s ActState) Open() bool { return s == ActRunning || s == ActHolding }

// ActRow is one act of the ledger. Acts live in the engine and go on when the
// terminal that ordered them is gone, and after a restart of the engine.
type ActRow struct {
	Key     Key        `json:"key"`
	ID      string     `json:"id"` // "a17"
	Kind    ActionKind `json:"kind"`
	Target  string     `json:"target"` // short: "w1-w4"
	By      Actor      `json:"by"`
	Reason  string     `json:"reason,omitempty"`
	Digest  Digest     `json:"digest"`
	Command string     `json:"command"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended"`
	Until   *time.Time `json:"until"` // end of a hold
	State   ActState   `json:"state"`
	Step    int        `json:"step"` // of Steps, from 1; 0 before the first
	Steps   []Step     `json:"steps"`
	Settled []Settled  `json:"settled,omitempty"`
	Text    string     `json:"text,omitempty"` // how it stands, in words
}

// Settled is one target of an act: sent is not done.
type Settled struct {
	Target string     `json:"target"`
	State  string     `json:"state"` // waiting, sent, done, refused, failed
	At     *time.Time `json:"at"`
	Why    string     `json:"why,omitempty"`
}
