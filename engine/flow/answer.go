package flow

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"app.provost/engine"
)

// Clone is a copy that its owner may change.
func (a Answers) Clone() Answers {
	if a == nil {
		return Answers{}
	}
	return maps.Clone(a)
}

// Items are the entries of a list, without the spaces around them.
func (a Answers) Items(k Key) []string {
	var out []string
	for s := range strings.SplitSeq(a[k], ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// Yes tells whether a Bool was answered with yes.
func (a Answers) Yes(k Key) bool { return a[k] == "true" }

// Complete gives the answers that count: what is shown, with defaults for what was left
// empty. The input stays as it is. Fields are completed in their order, so that a default
// may depend on the answers before it.
func (f Flow) Complete(facts Facts, a Answers) Answers {
	in, out := a.Clone(), Answers{}
	for _, s := range f.Steps {
		if s.When != nil && !s.When(out) {
			continue
		}
		for _, q := range s.Fields {
			if q.When != nil && !q.When(out) {
				continue
			}
			v := q.tidy(in[q.Key])
			if v == "" && q.Default != nil {
				v = q.Default(facts, out)
			}
			if v != "" {
				out[q.Key] = v
			}
		}
	}
	return out
}

// list tells whether commas part the value.
func (q Field) list() bool { return q.Kind == List || q.Kind == Many || q.Several }

// tidy takes out the spaces that mean nothing.
func (q Field) tidy(v string) string {
	v = strings.TrimSpace(v)
	switch {
	case q.list():
		parts := strings.Split(v, ",")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		return strings.Join(parts, ",")
	case q.Kind == Rows:
		var rows []string
		for row := range strings.SplitSeq(v, "\n") {
			if row = strings.TrimSpace(row); row != "" {
				rows = append(rows, row)
			}
		}
		return strings.Join(rows, "\n")
	}
	return v
}

// Problem says what is wrong with the value of a field, nil for nothing. a are the
// completed answers around it; an empty value is a problem unless the field is optional.
func (q Field) Problem(facts Facts, value string, a Answers) error {
	if q.Kind != Rows {
		value = strings.TrimSpace(value)
	}
	if strings.TrimSpace(value) == "" {
		if q.Optional || q.Kind == Bool {
			return nil
		}
		return errors.New(q.need())
	}
	if i := strings.IndexFunc(value, func(r rune) bool { return r < ' ' && (r != '\n' || q.Kind != Rows) || r == 0x7f }); i >= 0 {
		return errors.New("there is a control character in it: type it anew")
	}
	var options []Option
	if q.Options != nil {
		options = q.Options(facts, a)
	}
	pick := func(v string) error {
		if len(options) == 0 {
			return nil // what there is to choose from is not known here; the engine judges
		}
		i := slices.IndexFunc(options, func(o Option) bool { return o.Value == v })
		switch {
		case i < 0:
			var names []string
			for _, o := range options {
				if o.Refused == "" {
					names = append(names, o.Value)
				}
			}
			return fmt.Errorf("%q is none of %s", v, strings.Join(names, ", "))
		case options[i].Refused != "":
			return fmt.Errorf("%s: %s", v, options[i].Refused)
		}
		return nil
	}
	switch q.Kind {
	case Phrase:
		if want := q.Phrase(a); value != want {
			return fmt.Errorf("type exactly %q", want)
		}
	case Number:
		if strings.IndexFunc(value, func(r rune) bool { return r < '0' || r > '9' }) >= 0 {
			return fmt.Errorf("%q: %s", value, q.need())
		}
	}
	if q.list() && slices.ContainsFunc(strings.Split(value, ","), func(s string) bool { return strings.TrimSpace(s) == "" }) {
		return errors.New("there is an empty entry between the commas")
	}
	switch q.Kind {
	case Bool:
		if value != "true" && value != "false" {
			return errors.New("answer yes or no")
		}
	case Choice:
		if err := pick(value); err != nil {
			return err
		}
	case Many:
		for _, v := range (Answers{q.Key: value}).Items(q.Key) {
			if err := pick(v); err != nil {
				return err
			}
		}
	case Rows:
		n := 0
		for row := range strings.Lines(value) {
			row = strings.TrimSpace(row)
			n++
			if row == "" || q.Check == nil {
				continue
			}
			if err := q.Check(row, a); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
		return nil
	}
	if q.Check != nil {
		return q.Check(value, a)
	}
	return nil
}

func (q Field) need() string {
	s := "an answer is needed"
	switch q.Kind {
	case Choice:
		s = "choose one"
	case Many:
		s = "name one or more"
	case Number:
		s = "a number is needed"
	}
	if q.Example != "" {
		s += ", as in " + q.Example
	}
	return s
}

// At finds the step and the field of a key among what is shown, both from 0.
func At(steps []Step, k Key) (step, field int, ok bool) {
	for i, s := range steps {
		for j, q := range s.Fields {
			if q.Key == k {
				return i, j, true
			}
		}
	}
	return 0, 0, false
}

// Problems are the single problems of an error of Build or Preview, in their order.
func Problems(err error) []engine.Problem {
	if err == nil {
		return nil
	}
	p := engine.AsProblem("", err)
	out := []engine.Problem{*p}
	out[0].More = nil
	return append(out, p.More...)
}
