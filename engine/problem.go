package engine

import (
	"errors"
	"fmt"
)

// ExitCode is what a command ends with; scripts rely on it.
type ExitCode int

const (
	ExitOK         ExitCode = 0   // done, or healthy
	ExitUnexpected ExitCode = 1   // unexpected error
	ExitUsage      ExitCode = 2   // usage, configuration or answers not valid
	ExitNotAllowed ExitCode = 3   // locked, read-only, rights, another engine holds the lock
	ExitRefused    ExitCode = 4   // refused by a safety rule: old facts, pause limit, digest mismatch, signing guard
	ExitDeclined   ExitCode = 5   // not confirmed: declined, end of input, ctrl+c in a question
	ExitPartly     ExitCode = 6   // partly done; the list is on stdout
	ExitTimeout    ExitCode = 7   // timed out; the act goes on, its id was printed
	ExitNoEngine   ExitCode = 8   // no engine to talk to
	ExitPending    ExitCode = 10  // plan --exit-code: changes pending
	ExitInterrupt  ExitCode = 130 // ended by SIGINT
	ExitTerminated ExitCode = 143 // ended by SIGTERM, or by SIGHUP when its terminal was closed
)

// Problem is an error that an operator can meet. It says the action, the cause
// and what to do next; Code leads to the catalogue.
type Problem struct {
	Code   Code     `json:"code"`
	Exit   ExitCode `json:"exit"`
	Doing  string   `json:"doing"`            // "submit job", "create cluster"
	Cause  string   `json:"cause"`            // what is wrong, with the value that is wrong
	Remedy string   `json:"remedy,omitempty"` // what to do next
	Field  string   `json:"field,omitempty"`  // the flag or field at fault, as in "threshold"
	// Phrase is what, given as the field's value, lets it be done all the same; "" when nothing does.
	Phrase string `json:"phrase,omitempty"`
	// Plan is the plan as it would be now, when the given digest does not fit any more.
	Plan *Plan `json:"plan,omitempty"`
	// More holds further problems of the same request, so that all are told at once.
	More []Problem `json:"more,omitempty"`

	err error // kept for errors.Is in the same process
}

// Error is one line: action, cause, remedy.
func (p *Problem) Error() string {
	s := p.Cause
	if p.Doing != "" {
		s = p.Doing + ": " + s
	}
	if p.Remedy != "" {
		s += "; " + p.Remedy
	}
	return s
}

// Unwrap gives the error underneath, when it happened in this process.
func (p *Problem) Unwrap() error { return p.err }

// Because returns a copy of p that wraps err and, if p has no cause yet, tells err's text.
func (p Problem) Because(err error) *Problem {
	p.err = err
	if p.Cause == "" && err != nil {
		p.Cause = err.Error()
	}
	return &p
}

// AsProblem finds a *Problem in err, or makes one of code CodeUnexpected from it.
func AsProblem(doing string, err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return Problem{Code: CodeUnexpected, Exit: ExitUnexpected, Doing: doing}.Because(err)
}

// ExitOf is the exit code for an error; nil is 0.
func ExitOf(err error) ExitCode {
	if err == nil {
		return ExitOK
	}
	var p *Problem
	if errors.As(err, &p) && p.Exit != 0 {
		return p.Exit
	}
	return ExitUnexpected
}

// Secret holds a text that must not be seen: it prints and encodes as a mark.
// Get it out with Reveal only where it is used.
type Secret struct{ s string }

// NewSecret wraps a secret.
func NewSecret(s string) Secret { return Secret{s} }

// Reveal gives the text. Never log, print or encode what it returns.
func (s Secret) Reveal() string { return s.s }

// IsZero tells whether there is nothing inside.
func (s Secret) IsZero() bool { return s.s == "" }

// String hides the text.
func (s Secret) String() string { return "[secret]" }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return "[secret]" }

// Format hides the text from every verb, %x and %q too.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[secret]") }

// MarshalJSON refuses: a secret never enters a value that travels.
func (s Secret) MarshalJSON() ([]byte, error) {
	return nil, errors.New("encode secret: a secret must not be written to JSON")
}

// MarshalText refuses as MarshalJSON does.
func (s Secret) MarshalText() ([]byte, error) {
	return nil, errors.New("encode secret: a secret must not be written as text")
}
