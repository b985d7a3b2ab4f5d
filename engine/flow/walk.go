package flow

import (
	"slices"
	"strings"
)

// Walk goes through a flow one question at a time, for front ends that show one at a
// time. It belongs to one goroutine. A wrong answer holds it where it is; back always
// works, whatever was typed.
type Walk struct {
	flow    Flow
	facts   Facts
	answers Answers
	from    map[Key]string
	lean    bool
	at      Key
	trail   []Key  // asked before, in order
	within  string // the step that was gone to: all of it is asked, then what is wrong
}

// NewWalk begins at the first question that has to be asked.
func NewWalk(s Session) *Walk {
	w := &Walk{flow: s.Flow, facts: s.Facts, answers: s.Answers.Clone(), from: s.From, lean: s.Lean}
	w.at = w.next("")
	return w
}

// Answers are all answers so far, also those that are hidden now.
func (w *Walk) Answers() Answers { return w.answers.Clone() }

// Complete are the answers that count.
func (w *Walk) Complete() Answers { return w.flow.Complete(w.facts, w.answers) }

// Steps are the steps that apply to the answers so far.
func (w *Walk) Steps() []Step { return w.flow.Shown(w.Complete()) }

// Question is what is asked now: the step, from 0, and its field. It is not ok when
// every question has its answer.
func (w *Walk) Question() (step int, q Field, ok bool) {
	if w.at == "" {
		return 0, Field{}, false
	}
	steps := w.Steps()
	i, j, ok := At(steps, w.at)
	if !ok {
		return 0, Field{}, false
	}
	return i, steps[i].Fields[j], true
}

// Value is what stands for the question now: its answer, or its default.
func (w *Walk) Value() string { return w.Complete()[w.at] }

// Answer takes a value for the question and goes on. An empty one stands for the
// default. Its error says what is wrong; the walk stays there then.
func (w *Walk) Answer(value string) error {
	i, q, ok := w.Question()
	if !ok {
		return nil
	}
	before := w.Complete()[q.Key]
	a := w.answers.Clone()
	a[q.Key] = value
	full := w.flow.Complete(w.facts, a)
	if err := q.Problem(w.facts, full[q.Key], full); err != nil {
		return err
	}
	if w.within == nowhere && full[q.Key] == before {
		w.within = w.Steps()[i].ID // what is at fault may stand in another field of the step
	}
	w.answers = a
	w.trail = append(w.trail, q.Key)
	w.at = w.next(q.Key)
	return nil
}

// Check says what is wrong with a value for the question, and changes nothing.
func (w *Walk) Check(value string) error {
	_, q, ok := w.Question()
	if !ok {
		return nil
	}
	a := w.answers.Clone()
	a[q.Key] = value
	full := w.flow.Complete(w.facts, a)
	return q.Problem(w.facts, full[q.Key], full)
}

// Back goes to the question before. It is false at the first.
func (w *Walk) Back() bool {
	steps := w.Steps()
	for len(w.trail) > 0 {
		k := w.trail[len(w.trail)-1]
		w.trail = w.trail[:len(w.trail)-1]
		if _, _, ok := At(steps, k); ok && k != w.at {
			w.at, w.within = k, ""
			return true
		}
	}
	// What was given or left to its default can be changed too.
	i, j, ok := At(steps, w.at)
	if !ok {
		i, j = len(steps), 0
	}
	for {
		for j > 0 {
			j--
			w.at, w.within = steps[i].Fields[j].Key, ""
			return true
		}
		if i == 0 {
			return false
		}
		i--
		j = len(steps[i].Fields)
	}
}

// Goto asks a step again, from 0; after it only what has become wrong is asked.
func (w *Walk) Goto(step int) bool {
	steps := w.Steps()
	if step < 0 || step >= len(steps) || len(steps[step].Fields) == 0 {
		return false
	}
	if w.at != "" {
		w.trail = append(w.trail, w.at)
	}
	w.at, w.within = steps[step].Fields[0].Key, steps[step].ID
	return true
}

// Resume goes on at the step with this id, as if all before it had been asked just now;
// behind the last step if there is none with it. What is wrong before it is asked first.
func (w *Walk) Resume(id string) {
	w.trail, w.at = nil, ""
	for _, s := range w.Steps() {
		if s.ID == id && len(s.Fields) > 0 {
			w.at = s.Fields[0].Key
			break
		}
		for _, q := range s.Fields {
			w.trail = append(w.trail, q.Key)
		}
	}
	faults := w.flow.Faults(w.facts, w.answers)
	if len(faults) == 0 {
		return
	}
	first := faults[0].Key
	if i := slices.Index(w.trail, first); i >= 0 {
		w.at, w.trail = first, w.trail[:i]
	}
}

// Point goes to the question of a key, as when a check has found its answer wrong; after
// it only what has become wrong is asked, or the rest of its step when it stays as it is.
func (w *Walk) Point(k Key) bool {
	_, _, ok := At(w.Steps(), k)
	if ok {
		if w.at != "" {
			w.trail = append(w.trail, w.at)
		}
		w.at, w.within = k, nowhere
	}
	return ok
}

// nowhere is the ID of no step.
const nowhere = "\x00"

// next is the first question after a key that has to be asked, "" for none.
func (w *Walk) next(after Key) Key {
	faults := map[Key]bool{}
	for _, f := range w.flow.Faults(w.facts, w.answers) {
		faults[f.Key] = true
	}
	missing := map[Key]bool{}
	for _, k := range w.flow.Missing(w.facts, w.answers) {
		missing[k] = true
	}
	passed := after == ""
	for _, s := range w.Steps() {
		for _, q := range s.Fields {
			if !passed {
				passed = q.Key == after
				continue
			}
			switch {
			case faults[q.Key] || missing[q.Key]:
				return q.Key
			case w.within != "":
				if s.ID == w.within {
					return q.Key
				}
			case w.from[q.Key] != "" && strings.TrimSpace(w.answers[q.Key]) != "", w.lean:
			default:
				return q.Key
			}
		}
	}
	// An answer may have made an earlier one wrong.
	if f := w.flow.Faults(w.facts, w.answers); len(f) > 0 {
		return f[0].Key
	}
	w.within = ""
	return ""
}
