package engine

import "time"

// Level grades findings, journal entries and log lines.
type Level string

const (
	LevelDebug Level = "debug" // logs only
	LevelNote  Level = "note"  // something changed
	LevelWarn  Level = "warn"  // will become critical, or a spare is gone
	LevelCrit  Level = "crit"  // duty or work is being lost now, or money is at risk
	LevelOK    Level = "ok"    // came back: closes an alert
)

// Rank orders levels: crit is highest. An unknown level ranks lowest.
func (l Level) Rank() int {
	switch l {
	case LevelCrit:
		return 4
	case LevelWarn:
		return 3
	case LevelNote:
		return 2
	case LevelOK:
		return 1
	}
	return 0
}

// Code names a catalogue entry: "area.thing". It never changes its meaning.
type Code string

// Finding is something an operator should know: raised by a rule, closed when it
// is over. Repeats add to Count. Title, Effect and Next come from the catalogue.
type Finding struct {
	ID     string    `json:"id"` // code and key: the same trouble at the same place is the same finding
	Code   Code      `json:"code"`
	Level  Level     `json:"level"`
	Key    Key       `json:"key"`
	Target string    `json:"target"` // "worker/w7", "host/m1"
	Title  string    `json:"title"`  // one line, facts filled in
	Text   string    `json:"text,omitempty"`
	Effect string    `json:"effect,omitempty"` // in the operator's terms
	Next   []NextKey `json:"next,omitempty"`
	Facts  []Fact    `json:"facts,omitempty"`
	Since  time.Time `json:"since"`
	Last   time.Time `json:"last"` // newest repeat
	Count  int       `json:"count"`
	// DependsOn hides this finding from the first line while that one is open for the same machine.
	DependsOn []Code     `json:"depends_on,omitempty"`
	AckBy     string     `json:"ack_by,omitempty"`
	AckAt     *time.Time `json:"ack_at"`
	MuteUntil *time.Time `json:"mute_until"`
	ClosedAt  *time.Time `json:"closed_at"` // null: open
}

// NextKey is what to press or type next.
type NextKey struct {
	Key     string `json:"key,omitempty"`     // "p"
	Command string `json:"command,omitempty"` // "provost pause worker w7 --for 45m"
	Text    string `json:"text"`
}

// Fact is evidence: a name and a value as text, in a fixed order.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Raise is what a room says when a rule fires: the catalogue turns it into a Finding.
type Raise struct {
	Code   Code
	Key    Key
	Target string
	Facts  []Fact
}

// Entry is one line of the journal: what happened, in order, numbered from 1
// without gaps, durable before it is shown.
type Entry struct {
	N     uint64    `json:"n"`
	At    time.Time `json:"at"`
	Level Level     `json:"level"`
	// What happened, stable: "act.asked", "act.done", "act.failed", "alert.raised", "alert.closed",
	// "alert.acked", "worker.exit", "worker.start", "worker.adopted", "job.verified", "job.failed",
	// "engine.start", "engine.stop", "screen.attached", "screen.lost", "lock.opened", "lock.closed".
	What  string `json:"what"`
	Key   Key    `json:"key"`
	Actor *Actor `json:"actor"`
	Code  Code   `json:"code,omitempty"`
	Text  string `json:"text"`
	Facts []Fact `json:"facts,omitempty"`
}
