// Package enginetest holds what every Engine must do, as one suite (Run), and a
// whole engine in memory (NewMemory) for tests of faces. Imported by tests only.
//
// The suite waits for things to happen and never for time to pass; it gives each
// wait ten seconds. It runs against an engine in process and over a socket alike.
package enginetest

import (
	"context"
	"testing"

	"app.provost/engine"
)

// Driver causes things in the engine under test. Calls return when the engine has
// taken the fact; it is seen in a snapshot soon after. Every part (workers, jobs …)
// that a driver tells of must be configured.
type Driver interface {
	PutWorker(row engine.WorkerRow)
	Raise(r engine.Raise)
	Clear(code engine.Code, key engine.Key)
	// Record writes journal entries and returns when they are kept.
	Record(entries ...engine.Entry)
	// TrimJournal drops entries numbered below first; false: this engine cannot be made to.
	TrimJournal(first uint64) bool
	// Log adds a line to the logs.
	Log(l engine.LogLine)
	// Stop stops the engine and returns when it has stopped.
	Stop()
}

// Run holds an engine to the waist's promises. open gives a fresh, running engine
// with screens locked, no workers and no alerts; it cleans up through t.
func Run(t *testing.T, open func(t *testing.T) (engine.Engine, Driver)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, e engine.Engine, d Driver)
	}{
		{"the first Next answers at once", firstNext},
		{"a snapshot never changes", immutable},
		{"a slow reader gets the newest", newestWins},
		{"sections decide what wakes", sectionsWake},
		{"Changed names what moved", changedIsRight},
		{"viewers are counted", viewers},
		{"Next ends with its context", nextContext},
		{"Close ends a feed", closeEnds},
		{"a stop ends feeds", stopEnds},
		{"the journal is numbered", journalNumbers},
		{"After chooses entries", journalAfter},
		{"a Gap says what is gone", journalGap},
		{"Preview changes nothing", previewOnly},
		{"Do wants the digest", digests},
		{"Do refuses a changed plan", planChanged},
		{"Do is done once for a key", once},
		{"Do is done once, asked at once", onceConcurrent},
		{"a key is for one action", keyOtherAction},
		{"an act is in ledger and journal", actIsKept},
		{"a failed act fails again", failsAgain},
		{"locked screens may not act", locked},
		{"bad requests are problems", badRequests},
		{"logs stream", logs},
		{"logs follow", logsFollow},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			e, d := open(t)
			c.test(t, e, d)
		})
	}
}

// short is for waits that are expected to end without anything; within for all others.
func short(t *testing.T) context.Context  { return deadline(t, quiet) }
func within(t *testing.T) context.Context { return deadline(t, patience) }
