// Package flow holds the guided flows: the questions that lead to an action, as
// data. It is a part of the waist: the screen, the plain lines of the accessible
// mode, an answers file and the tests are four front ends of the same step list, so
// none can ask, check or allow what another does not.
//
// Promises. Nothing here reads a file, a clock or the network, starts a goroutine
// or keeps state: checks are pure and quick enough for every key stroke. What needs
// the disk, the machine or another host is found by Engine.Preview of the action
// that Build gives; its problems carry the key of the field at fault. A secret is
// never an answer: a field of kind SecretFile takes the path of a file that holds it.
// Keys are the names of the command's flags, or of its arguments (Field.Arg), so the
// equivalent command is the action's CommandLine and nothing else.
package flow

import (
	"app.provost/engine"
)

// ID names a flow, as in "create cluster": the words of its command.
type ID string

// Key is the name of an answer and of the command's flag: "withdrawal-addresses".
type Key string

// Answers are what was answered so far, as a flag would have it: lists by commas,
// booleans "true" or "false", rows one to a line. A key that is missing was not
// answered; fields hidden by When don't count. Front ends own their Answers and
// copy them before they change one that they handed out.
type Answers map[Key]string

// Kind says how a field is asked for.
type Kind string

const (
	Text       Kind = "text"
	Number     Kind = "number"
	Choice     Kind = "choice"      // one of Choices
	Many       Kind = "many"        // several of Choices, by commas
	Bool       Kind = "bool"        // yes or no; nothing dangerous has a default of yes
	List       Kind = "list"        // by commas
	Rows       Kind = "rows"        // one to a line, each checked by itself
	File       Kind = "file"        // a path that is there
	NewDir     Kind = "new dir"     // a path that will be made
	SecretFile Kind = "secret file" // a path of a file with secrets; what is in it is never shown
	Phrase     Kind = "phrase"      // words that have to be typed exactly; pasting is refused
	// Sentence is as Phrase, but what has to be typed is known to the engine only: it is the
	// Phrase of the problem of this field. The engine judges what was typed.
	Sentence Kind = "sentence"
)

// Option is one of the values of a Choice or Many field.
type Option struct {
	Value, Title string
	Note         string // in a few words: "test network", "48 GiB, in use by Xorg"
	// Why it can't be chosen; "" when it can.
	Refused string
}

// Facts are what a front end knows of this machine and its engine. Any may be nil: not known.
type Facts struct {
	Snapshot *engine.Snapshot
}

// Field is one question. Only Key, Title and Kind are always set.
type Field struct {
	Key   Key
	Title string // two or three words
	Help  string // one sentence: what it decides, and whether it can be changed later
	// Example is a value that would be right in form.
	Example string
	Kind    Kind
	// Optional fields may be left empty.
	Optional bool
	// Several: a File or SecretFile takes paths by commas.
	Several bool
	// Arg: it is an argument of the command and no flag; with Several, all that there are.
	Arg bool
	// Twice: a person types it two times, because a wrong value can't be mended later.
	Twice bool
	// Options of a Choice or Many field.
	Options func(f Facts, a Answers) []Option
	// Default is what an empty answer stands for; it is shown before it counts.
	Default func(f Facts, a Answers) string
	// Offered: the default is for a person who sees it. Where nobody is asked, as with an
	// answers file, the value has to be said.
	Offered bool
	// Check says what is wrong with a value in form, with the rule and an example. For
	// Rows it sees one row. Nil takes everything.
	Check func(value string, a Answers) error
	// Phrase is what has to be typed exactly in a Phrase field.
	Phrase func(a Answers) string
	// Secrets names the secrets of a SecretFile field, one to a line of its file, for who
	// types them: "token of node 0". Nil: one, called as the field.
	Secrets func(a Answers) []string
	// NewSecret: what is typed for a SecretFile is chosen now, so it is typed two times, and
	// has at least so many characters. 0: it is known already.
	NewSecret int
	// Once: the act reads the SecretFile once and its plan never does, so what was typed can
	// go through a pipe and touches no disk.
	Once bool
	// Prompted: the command asks for it by itself where somebody is; when nothing else is
	// missing there is no need of the flow.
	Prompted bool
	// Note says something useful beside a value that is right: "2 nodes may be down".
	Note func(value string, a Answers) string
	// When hides the field unless it holds; nil is always. It may look at fields before it only.
	When func(a Answers) bool
	// Idle says why an answer has no meaning while the field is hidden.
	Idle string
}

// Step is one page: a few fields that belong together.
type Step struct {
	ID    string // stable: "threshold"
	Title string // "how many must sign"
	Intro string // what is decided here
	// Table is a small table that helps to decide, header first; nil: none.
	Table  func(f Facts, a Answers) [][]string
	Fields []Field
	When   func(a Answers) bool
}

// Flow is a guided flow. After its own steps every front end adds the same three:
// the checks (Engine.Preview's problems and warnings), the review with the plan, its
// files, what can't be undone, the consent and the equivalent command, and the act.
type Flow struct {
	ID    ID
	Title string // "Create a cluster"
	// Needs, Makes and Takes are said first: what must be at hand, what is made and
	// whether anything leaves the machine, and how long it takes.
	Needs, Makes, Takes string
	Steps               []Step
	// Consent is what a person types on the review to agree, as in "create mycluster";
	// nil or "": what the plan asks for is enough. It is for guided flows only: a command with
	// all its flags asks what its plan asks.
	Consent func(a Answers) string
	// Given makes whole what flags and files say: an answer that another one implies. Nil:
	// there is none.
	Given func(a Answers) Answers
	// Build makes the action. Relative paths are those of the front end, which gives
	// absolute ones. Its error is an *engine.Problem with Field set.
	Build func(a Answers) (engine.Action, error)
}

// Shown lists the steps and fields that apply to the answers so far.
func (f Flow) Shown(a Answers) []Step {
	var out []Step
	for _, s := range f.Steps {
		if s.When != nil && !s.When(a) {
			continue
		}
		t := s
		t.Fields = nil
		for _, q := range s.Fields {
			if q.When == nil || q.When(a) {
				t.Fields = append(t.Fields, q)
			}
		}
		out = append(out, t)
	}
	return out
}

// Creations are the flows that make something new.
func Creations() []Flow { return []Flow{CreateCluster(), CreateWorkers(), CreateProver()} }

// Leavings are the flows that take a node, or the keys of a cluster, to another place.
func Leavings() []Flow { return []Flow{NodeExport(), NodeImport(), Combine()} }

// All lists the flows.
func All() []Flow { return append(Creations(), Leavings()...) }

// ByID finds the flow of a command.
func ByID(id ID) (Flow, bool) {
	for _, f := range All() {
		if f.ID == id {
			return f, true
		}
	}
	return Flow{}, false
}
