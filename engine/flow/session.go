package flow

import (
	"context"
	"errors"
	"strings"

	"app.provost/engine"
)

// Session is what a front end gets to lead a person through a flow, up to the consent
// and not beyond: who began it carries the act out. The functions are called by one
// goroutine at a time; they may touch the disk and take a while.
type Session struct {
	Flow  Flow
	Facts Facts
	// Answers are known already, from flags, an answers file or a draft.
	Answers Answers
	// From says where an answer came from that needs no asking: "--nodes". It is shown
	// on the review and can be changed there.
	From map[Key]string
	// Step is where a draft left off, by its ID; "": begin with the first.
	Step string
	// Lean: ask only what is needed and has no default; the rest stays as it is.
	Lean bool
	// Preview builds the action of completed answers and asks the engine what it would
	// do. Its error is an *engine.Problem.
	Preview func(ctx context.Context, a Answers) (engine.Action, engine.Plan, error)
	// Draft keeps what was answered after each step, without secrets, and with the ID of
	// the step to go on with. Its error is worth a line and stops nothing. Nil: no drafts.
	Draft func(a Answers, step string) error
	// Save writes an answers file that was not there and gives its absolute path.
	Save func(path string, a Answers) (string, error)
	// Secret keeps what was typed for a SecretFile field in a private file until the
	// program ends, and gives its path, which is the answer.
	Secret func(k Key, text engine.Secret) (string, error)
	// Command is the equivalent command of a plan, without the paths that Secret gave.
	Command func(a engine.Action, p engine.Plan) string
}

// Outcome is what a person agreed to on the review.
type Outcome struct {
	Answers Answers // completed
	Action  engine.Action
	Plan    engine.Plan // the one that was shown
}

// Fault is a field whose answer is wrong or missing.
type Fault struct {
	Key Key
	Err error
	// Missing: there is no answer at all.
	Missing bool
}

// Faults judges every shown field, in order; none means that the answers are whole and
// right in form.
func (f Flow) Faults(facts Facts, a Answers) []Fault {
	full := f.Complete(facts, a)
	var out []Fault
	for _, s := range f.Shown(full) {
		for _, q := range s.Fields {
			if err := q.Problem(facts, full[q.Key], full); err != nil {
				out = append(out, Fault{q.Key, err, full[q.Key] == ""})
			}
		}
	}
	return out
}

// Missing lists the shown fields that nobody has answered and that have no value of
// their own: what a command without a person to ask cannot do without.
func (f Flow) Missing(facts Facts, a Answers) []Key {
	full := f.Complete(facts, a)
	var out []Key
	for _, s := range f.Shown(full) {
		for _, q := range s.Fields {
			if strings.TrimSpace(a[q.Key]) == "" && !q.Optional && q.Kind != Bool && (q.Default == nil || q.Offered) {
				out = append(out, q.Key)
			}
		}
	}
	return out
}

// Idle lists answers that were given and have no meaning beside the others, with the
// reason.
func (f Flow) Idle(facts Facts, a Answers) []Fault {
	full := f.Complete(facts, a)
	steps := f.Shown(full)
	var out []Fault
	for _, k := range f.Keys() {
		v := strings.TrimSpace(a[k])
		if _, _, shown := At(steps, k); shown || v == "" || v == "false" {
			continue
		}
		q, _ := f.Field(k)
		why := q.Idle
		if why == "" {
			why = "it has no meaning beside the other answers"
		}
		out = append(out, Fault{Key: k, Err: errors.New(why)})
	}
	return out
}

// Keys are all keys of the flow in order, also those that are hidden now.
func (f Flow) Keys() []Key {
	var out []Key
	seen := map[Key]bool{}
	for _, s := range f.Steps {
		for _, q := range s.Fields {
			if !seen[q.Key] {
				seen[q.Key] = true
				out = append(out, q.Key)
			}
		}
	}
	return out
}

// Field finds a field by its key, shown or not.
func (f Flow) Field(k Key) (Field, bool) {
	for _, s := range f.Steps {
		for _, q := range s.Fields {
			if q.Key == k {
				return q, true
			}
		}
	}
	return Field{}, false
}

// Name is how the command calls a key: "--nodes", or "DIRS" for an argument.
func (f Flow) Name(k Key) string {
	if q, _ := f.Field(k); q.Arg {
		return strings.ToUpper(string(k))
	}
	return "--" + string(k)
}

// BuildAt makes the action of completed answers. Their paths are made absolute by abs,
// which knows the working directory; addresses (https://…) stay as they are.
func (f Flow) BuildAt(a Answers, abs func(path string) (string, error)) (engine.Action, error) {
	a = a.Clone()
	for k, v := range a {
		q, _ := f.Field(k)
		switch q.Kind {
		case File, NewDir, SecretFile:
		default:
			continue
		}
		parts := []string{v}
		if q.Several {
			parts = a.Items(k)
		}
		for i, p := range parts {
			if strings.Contains(p, "://") {
				continue
			}
			var err error
			if parts[i], err = abs(p); err != nil {
				return nil, engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: string(f.ID), Field: string(k)}.Because(err)
			}
		}
		a[k] = strings.Join(parts, ",")
	}
	return f.Build(a)
}

// Command is the action's command line for a person to copy. Values in hide, which are
// paths of files that will be gone, are shown as FILE.
func Command(a engine.Action, hide map[string]bool) string {
	var words []string
	for _, w := range a.CommandLine() {
		for p := range hide {
			if len(w) > len(p) && w[len(w)-len(p)-1] == '=' && w[len(w)-len(p):] == p {
				w = w[:len(w)-len(p)] + "FILE"
			}
		}
		words = append(words, w)
	}
	return "provost " + engine.ShellLine(words)
}
