// Package catalog says in the operator's words what every code means: problems
// that a request is answered with, and findings that the engine raises by itself.
//
// Promise: every code of engine.Codes has exactly one entry, and docs/findings.md
// shows them all. The catalogue is fixed: nothing in it changes while the engine runs.
package catalog

import (
	"strings"
	"time"

	"app.provost/engine"
)

// Kind tells problems from findings.
type Kind string

const (
	Problem Kind = "problem" // what a request or a start is answered with
	Finding Kind = "finding" // what the engine raises by itself
)

// Entry is one thing that an operator can meet.
//
// Title, and the texts of Next, are templates: {target} is the raise's target
// ("worker/w7"), {name} its part after the slash, any other {word} a fact of that
// name. A part in square brackets is left out when one of its facts is not there;
// outside of brackets such a fact is "?".
type Entry struct {
	Code  engine.Code
	Kind  Kind
	Level engine.Level
	Title string
	// Text says what is behind it, in two or three sentences.
	Text string
	// Effect says what it does to the operator's work.
	Effect string
	Next   []engine.NextKey
	// Facts are the names that a raise should bring, in their order.
	Facts []string
	// DependsOn: while one of these is open at the same machine, this is its consequence and not a trouble of its own.
	DependsOn []engine.Code
	// ShowAfter is how long it must last before it is shown.
	ShowAfter time.Duration
	// Exit is what a command ends with that meets the problem.
	Exit engine.ExitCode
}

var byCode = func() map[engine.Code]*Entry {
	m := make(map[engine.Code]*Entry, len(entries))
	for i := range entries {
		m[entries[i].Code] = &entries[i]
	}
	return m
}()

// Find gives the entry of a code; false for a code that nobody knows.
func Find(c engine.Code) (Entry, bool) {
	e, ok := byCode[c]
	if !ok {
		return Entry{}, false
	}
	return *e, true
}

// All lists the entries: problems first, in the order of engine.Codes.
func All() []Entry { return append([]Entry(nil), entries...) }

// ShowAfter is how long a finding must last before it is shown.
func ShowAfter(c engine.Code) time.Duration {
	e, _ := Find(c)
	return e.ShowAfter
}

// Fill makes the finding of a raise. A code that is not in the catalogue (a fault
// of ours) still gives a finding, at warn, that says so.
func Fill(r engine.Raise, now time.Time) engine.Finding {
	e, ok := Find(r.Code)
	if !ok {
		e = Entry{Code: r.Code, Level: engine.LevelWarn, Title: "{target}: " + string(r.Code) + " (not in the catalogue)"}
	}
	f := engine.Finding{
		ID: string(r.Code) + "/" + r.Key.String(), Code: r.Code, Level: e.Level, Key: r.Key, Target: r.Target,
		Title: fill(e.Title, r), Text: e.Text, Effect: fill(e.Effect, r), Facts: append([]engine.Fact(nil), r.Facts...),
		Since: now, Last: now, Count: 1, DependsOn: append([]engine.Code(nil), e.DependsOn...),
	}
	for _, n := range e.Next {
		f.Next = append(f.Next, engine.NextKey{Key: n.Key, Command: fill(n.Command, r), Text: fill(n.Text, r)})
	}
	return f
}

// fill puts facts into a template.
func fill(t string, r engine.Raise) string {
	var out strings.Builder
	for t != "" {
		open := strings.IndexByte(t, '[')
		if open < 0 {
			s, _ := words(t, r)
			out.WriteString(s)
			break
		}
		s, _ := words(t[:open], r)
		out.WriteString(s)
		shut := strings.IndexByte(t[open:], ']')
		if shut < 0 {
			out.WriteString(t[open:])
			break
		}
		if s, all := words(t[open+1:open+shut], r); all {
			out.WriteString(s)
		}
		t = t[open+shut+1:]
	}
	return out.String()
}

// words fills the {words} of t; all is false when one was not there.
func words(t string, r engine.Raise) (s string, all bool) {
	all = true
	var out strings.Builder
	for {
		open := strings.IndexByte(t, '{')
		shut := -1
		if open >= 0 {
			shut = strings.IndexByte(t[open:], '}')
		}
		if shut < 0 {
			out.WriteString(t)
			return out.String(), all
		}
		out.WriteString(t[:open])
		v, ok := fact(t[open+1:open+shut], r)
		if !ok {
			v, all = "?", false
		}
		out.WriteString(v)
		t = t[open+shut+1:]
	}
}

func fact(name string, r engine.Raise) (string, bool) {
	switch name {
	case "target":
		return r.Target, r.Target != ""
	case "name":
		_, after, ok := strings.Cut(r.Target, "/")
		if !ok {
			after = r.Target
		}
		return after, after != ""
	}
	for _, f := range r.Facts {
		if f.Name == name {
			return f.Value, f.Value != ""
		}
	}
	return "", false
}
