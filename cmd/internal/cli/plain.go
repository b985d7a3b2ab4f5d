package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"app.provost/cmd/internal/print"
	"app.provost/engine"
	"app.provost/engine/flow"
)

// plain leads a person through a flow line by line: no cursor movement, no drawing,
// each change on a line of its own, lists numbered. All answers come from the one
// reader of standard input. The end of input is never an answer.
type plain struct {
	*guide
	ctx   context.Context
	s     flow.Session
	w     *flow.Walk
	step  string              // the step that was announced
	table string              // the table that was shown last
	draft bool                // drafts can't be kept, and it was said
	wants map[flow.Key]string // sentences that a refusal named
}

// errBack is the wish to go back.
var errBack = errors.New("back")

// lead asks all questions, shows checks and review, and returns what was agreed to.
func (g *guide) lead(ctx context.Context, s flow.Session) (flow.Outcome, error) {
	p := &plain{guide: g, ctx: ctx, s: s, wants: map[flow.Key]string{}}
	out, err := p.run()
	var e *engine.Problem
	if errors.As(err, &e) && e.Exit == engine.ExitDeclined {
		p.line("Nothing was written.")
		if s.Draft != nil && !p.draft && g.hasDraft() {
			p.line("Draft kept: provost %s offers it again.", words(g.cmd))
		}
	}
	return out, err
}

func (p *plain) run() (flow.Outcome, error) {
	p.line("%s.", p.s.Flow.Title)
	p.line("Needs: %s.", p.s.Flow.Needs)
	p.line("Makes: %s.", p.s.Flow.Makes)
	p.line("Takes: %s.", p.s.Flow.Takes)
	p.line(`At every question "b" goes back, "?" explains and "q" stops. An empty line takes what stands in brackets.`)
	p.w = flow.NewWalk(p.s)
	if p.s.Step != "" {
		p.w.Resume(p.s.Step)
	}
	for {
		if err := p.questions(); err != nil {
			return flow.Outcome{}, err
		}
		out, err := p.checks()
		if err == nil {
			err = p.review(out)
		}
		switch {
		case err == nil:
			return out, nil
		case errors.Is(err, errBack):
		default:
			return flow.Outcome{}, err
		}
	}
}

// questions asks until every question has its answer.
func (p *plain) questions() error {
	for {
		i, q, ok := p.w.Question()
		if !ok {
			p.step = ""
			p.keep("checks")
			return nil
		}
		steps := p.w.Steps()
		if id := steps[i].ID; id != p.step {
			if p.step != "" {
				p.keep(id)
			}
			p.step, p.table = id, ""
			p.line("Step %d of %d: %s. %s", i+1, len(steps)+2, steps[i].Title, steps[i].Intro)
		}
		p.showTable(steps[i])
		err := p.question(q)
		if errors.Is(err, errBack) {
			if !p.w.Back() {
				p.line("This is the first question.")
			}
			continue
		}
		if err != nil {
			return err
		}
	}
}

// keep writes the draft.
func (p *plain) keep(step string) {
	if p.s.Draft == nil || p.draft {
		return
	}
	if err := p.s.Draft(p.w.Answers(), step); err != nil {
		p.draft = true
		p.line("no draft: %s", cause(err))
	}
}

// showTable says a table line by line, once as long as it stays the same.
func (p *plain) showTable(s flow.Step) {
	if s.Table == nil {
		return
	}
	rows := s.Table(p.s.Facts, p.w.Complete())
	text := fmt.Sprint(rows)
	if len(rows) == 0 || text == p.table {
		return
	}
	p.table = text
	p.rowsAsLines(rows)
}

// rowsAsLines says a table for who cannot see columns, header first.
func (p *plain) rowsAsLines(rows [][]string) {
	for _, r := range rows[1:] {
		var parts []string
		mark := ""
		for i, cell := range r[:min(len(r), len(rows[0]))] {
			switch {
			case rows[0][i] == "" && cell != "":
				mark = " (this one)"
			case rows[0][i] == "NOTE" && cell != "":
				mark = ": " + cell + mark
			case cell != "":
				parts = append(parts, strings.ToLower(rows[0][i])+" "+cell)
			}
		}
		p.line("  %s%s", strings.Join(parts, ", "), mark)
	}
}

// question asks one field until it has a right answer. errBack is the wish to go back.
func (p *plain) question(q flow.Field) error {
	var options []flow.Option
	if q.Options != nil {
		options = q.Options(p.s.Facts, p.w.Complete())
		p.line("%s:", q.Title)
		for i, o := range options {
			text := o.Title
			if o.Note != "" {
				text += ", " + o.Note
			}
			if o.Refused != "" {
				text += "; can't be chosen: " + o.Refused
			}
			p.line("  %d. %s", i+1, text)
		}
	}
	for {
		value, err := p.value(q, options)
		if err != nil {
			return err
		}
		if q.Kind != flow.Phrase {
			if err := p.w.Check(value); err != nil {
				p.line("  %s: %s", q.Title, err)
				continue
			}
		} else if err := p.w.Check(value); err != nil {
			p.line("  That does not match. Wanted: %s. You typed: %s.", q.Phrase(p.w.Complete()), value)
			continue
		}
		if q.Twice && value != "" && value != p.w.Answers()[q.Key] {
			again, err := p.read(fmt.Sprintf("%s again, to be sure: ", q.Title), q)
			if errors.Is(err, errBack) {
				continue
			}
			if err != nil {
				return err
			}
			if again != value {
				p.line("  The two differ%s: nothing was taken. Type it again.", differAt(value, again))
				continue
			}
		}
		if err := p.w.Answer(value); err != nil {
			p.line("  %s: %s", q.Title, err)
			continue
		}
		full := p.w.Complete()
		if q.Note != nil && full[q.Key] != "" {
			if n := q.Note(full[q.Key], full); n != "" {
				p.line("  %s: %s", q.Title, n)
			}
		}
		return nil
	}
}

func differAt(a, b string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf(" at character %d", i+1)
		}
	}
	return " in length"
}

// value reads one answer as the flow has it.
func (p *plain) value(q flow.Field, options []flow.Option) (string, error) {
	now := p.w.Value()
	shown := now
	if q.Kind == flow.SecretFile && p.hide[now] {
		shown = "what was typed"
	}
	bracket := ""
	switch {
	case q.Kind == flow.Bool && now != "":
		bracket = " [" + yesOrNo(now) + "]"
	case q.Kind == flow.Rows && now != "":
		bracket = fmt.Sprintf(" [the %s there is]", lines(now))
	case now != "":
		bracket = " [" + shown + "]"
	case q.Optional:
		bracket = " (may be left empty)"
	}
	if q.Optional && now != "" {
		bracket += " (- empties it)"
	}
	switch q.Kind {
	case flow.Rows:
		return p.rows(q, now, bracket)
	case flow.SecretFile:
		return p.secret(q, bracket)
	}
	hint := ""
	switch {
	case q.Kind == flow.Bool:
		hint = ", y or n"
	case q.Kind == flow.Choice:
		hint = ", a number or a name"
	case q.Kind == flow.Many:
		hint = ", numbers or names by commas"
	case q.Kind == flow.Sentence && p.wants[q.Key] != "":
		hint = fmt.Sprintf(", type exactly %q", p.wants[q.Key])
	case q.Kind == flow.Phrase:
		return p.read(fmt.Sprintf("Type exactly %q: ", q.Phrase(p.w.Complete())), q)
	}
	got, err := p.read(q.Title+hint+bracket+": ", q)
	switch {
	case err != nil:
		return "", err
	case got == "" && q.Kind == flow.Bool && now != "":
		return now, nil
	case got == "":
		return now, nil // its answer so far, or the default that was shown
	case got == "-" && q.Optional:
		return "", nil
	case q.Kind == flow.Bool:
		switch strings.ToLower(got) {
		case "y", "yes", "true":
			return "true", nil
		case "n", "no", "false":
			return "false", nil
		}
	case q.Kind == flow.Choice:
		return chosen(got, options), nil
	case q.Kind == flow.Many:
		var all []string
		for s := range strings.SplitSeq(got, ",") {
			all = append(all, chosen(strings.TrimSpace(s), options))
		}
		return strings.Join(all, ","), nil
	}
	return got, nil
}

// chosen is an option by its number, or the word itself.
func chosen(s string, options []flow.Option) string {
	if n, err := strconv.Atoi(s); err == nil && n >= 1 && n <= len(options) {
		for _, o := range options {
			if o.Value == s {
				return s // a value that looks like a number is meant as it is
			}
		}
		return options[n-1].Value
	}
	return s
}

func yesOrNo(v string) string {
	if v == "true" {
		return "y"
	}
	return "n"
}

// maxRows bounds what is typed in lines.
const maxRows = 4096

// maxTable is how many rows of a plan's table are read out.
const maxTable = 64

func lines(v string) string {
	n := strings.Count(v, "\n") + 1
	if n == 1 {
		return "1 line"
	}
	return fmt.Sprintf("%d lines", n)
}

// rows reads lines until an empty one.
func (p *plain) rows(q flow.Field, now, bracket string) (string, error) {
	p.line("%s: one to a line, an empty line ends%s.", q.Title, bracket)
	var all []string
	for len(all) < maxRows {
		got, err := p.read(fmt.Sprintf("  line %d: ", len(all)+1), q)
		switch {
		case errors.Is(err, errBack) && len(all) > 0:
			p.line("  line %d is dropped.", len(all))
			all = all[:len(all)-1]
			continue
		case err != nil:
			return "", err
		case got == "" && len(all) == 0:
			return now, nil
		case got == "":
			return strings.Join(all, "\n"), nil
		case got == "-" && q.Optional && len(all) == 0:
			return "", nil
		}
		if q.Check != nil {
			if err := q.Check(got, p.w.Complete()); err != nil {
				p.line("  %s", err)
				continue
			}
		}
		all = append(all, got)
	}
	return strings.Join(all, "\n"), nil
}

// secret reads the path of a file, or what belongs in it without showing it.
func (p *plain) secret(q flow.Field, bracket string) (string, error) {
	got, err := p.read(fmt.Sprintf(`%s, a file, or "type" to enter it unseen%s: `, q.Title, bracket), q)
	switch {
	case err != nil:
		return "", err
	case got == "":
		return p.w.Value(), nil
	case got == "-" && q.Optional:
		return "", nil
	case got != "type":
		return got, nil
	}
	names := []string{q.Title}
	if q.Secrets != nil {
		names = q.Secrets(p.w.Complete())
	}
	var all []string
	for _, name := range names {
		for {
			one, err := p.askHidden(p.ctx, print.Clean(name)+", not shown: ")
			if errors.Is(err, errNotHidden) {
				p.line("  What is typed can't be hidden here: give the path of a file.")
				return p.secret(q, bracket)
			}
			if err != nil {
				return "", err
			}
			if one.IsZero() {
				p.line("  %s: nothing was typed.", name)
				continue
			}
			if n := len([]rune(one.Reveal())); n < q.NewSecret {
				p.line("  %s", tooShort(n, q.NewSecret))
				continue
			}
			if q.NewSecret > 0 {
				two, err := p.askHidden(p.ctx, print.Clean(name)+" again, not shown: ")
				if err != nil {
					return "", err
				}
				if one != two {
					p.line("  The two differ: nothing was taken. Type it again.")
					continue
				}
			}
			p.line("  taken, %d characters.", len([]rune(one.Reveal())))
			all = append(all, one.Reveal())
			break
		}
	}
	return p.s.Secret(q.Key, engine.NewSecret(strings.Join(all, "\n")))
}

func tooShort(n, least int) string {
	return fmt.Sprintf("It has %s and needs %d: take several words that nobody could guess together.", plural(n, "character"), least)
}

// read reads one line and answers the words that every question has. "=b" is the
// letter b itself.
func (p *plain) read(question string, q flow.Field) (string, error) {
	for {
		got, err := p.app.ask(p.ctx, print.Clean(question))
		if err != nil {
			return "", err
		}
		switch got {
		case "b":
			return "", errBack
		case "q":
			return "", declined("stopped")
		case "?":
			p.line("  %s", q.Help)
			if q.Example != "" {
				p.line("  For example: %s", q.Example)
			}
			if q.Twice {
				p.line("  It is asked for twice, because it can't be mended later.")
			}
			p.line(`  "=b" is the letter b itself.`)
			continue
		case "=b", "=q", "=?", "=-":
			return got[1:], nil
		}
		return got, nil
	}
}

// checks asks the engine what it would do. Problems lead back to their questions.
func (p *plain) checks() (flow.Outcome, error) {
	steps := p.w.Steps()
	p.line("Step %d of %d: checks.", len(steps)+1, len(steps)+2)
	p.line("  passed: every answer is right in form")
	full := p.w.Complete()
	act, plan, err := p.s.Preview(p.ctx, full)
	if err != nil {
		if p.ctx.Err() != nil {
			return flow.Outcome{}, declined("interrupted")
		}
		point := flow.Key("")
		for _, e := range flow.Problems(err) {
			text := e.Cause
			if e.Remedy != "" {
				text += "; " + e.Remedy
			}
			p.line("  failed: %s", text)
			if _, _, ok := flow.At(steps, flow.Key(e.Field)); ok && point == "" {
				point = flow.Key(e.Field)
				p.wants[point] = e.Phrase
			}
		}
		if point == "" {
			got, err := p.read(`Type "r" to check again, a step's number to change it, "b" back or "q" to stop: `, flow.Field{Help: "Something stands in the way that no answer names."})
			if err == nil {
				if n, nerr := strconv.Atoi(got); nerr == nil && p.w.Goto(n-1) {
					p.step = ""
				}
				return flow.Outcome{}, errBack
			}
			if errors.Is(err, errBack) {
				p.w.Back()
			}
			return flow.Outcome{}, err
		}
		p.w.Point(point)
		p.step = ""
		return flow.Outcome{}, errBack
	}
	p.line("  passed: the plan can be carried out as things are now")
	for _, n := range plan.Notes {
		p.line("  note: %s", n)
	}
	for _, w := range plan.Warnings {
		p.line("  warning: %s", w)
	}
	if len(plan.Warnings) > 0 {
		for {
			got, err := p.read(`Type "seen" to go on: `, flow.Field{Help: "A warning stops nothing. Go back with \"b\" to change what it is about."})
			if errors.Is(err, errBack) {
				p.w.Back()
			}
			if err != nil {
				return flow.Outcome{}, err
			}
			if got == "seen" {
				break
			}
		}
	}
	return flow.Outcome{Answers: full, Action: act, Plan: plan}, nil
}

// review shows everything and asks for the consent.
func (p *plain) review(o flow.Outcome) error {
	steps := p.w.Steps()
	digest := string(o.Plan.Digest[:min(len(o.Plan.Digest), 6)])
	p.line("Step %d of %d: review. Plan %s: %s.", len(steps)+2, len(steps)+2, digest, o.Plan.Title)
	for i, s := range steps {
		p.line("  %d. %s", i+1, s.Title)
		for _, q := range s.Fields {
			v := o.Answers[q.Key]
			switch {
			case v == "" && q.Kind != flow.Bool:
				v = "-"
			case p.hide[v]:
				v = "what was typed, not shown"
			case q.Kind == flow.Bool:
				v = map[bool]string{true: "yes", false: "no"}[v == "true"]
			case q.Kind == flow.Rows:
				p.line("     %s: %s", q.Title, lines(v))
				for row := range strings.SplitSeq(v, "\n") {
					p.line("       %s", row)
				}
				continue
			}
			if f := p.s.From[q.Key]; f != "" && v == p.s.Answers[q.Key] {
				v += " (" + f + ")"
			}
			p.line("     %s: %s", q.Title, v)
		}
	}
	if t := o.Plan.Table; t != nil && len(t.Rows) > 0 {
		p.rowsAsLines(append([][]string{t.Columns}, t.Rows[:min(len(t.Rows), maxTable)]...))
		if n := len(t.Rows) - maxTable; n > 0 {
			p.line("  and %d more; -o json of the plan has them all", n)
		}
	}
	for _, f := range p.s.Flow.Idle(p.s.Facts, p.w.Answers()) {
		if p.s.From[f.Key] != "" {
			p.line("  Left out: %s, because %s.", p.s.Flow.Name(f.Key), f.Err)
		}
	}
	if n := len(o.Plan.Files); n > 0 {
		where := ""
		if len(o.Plan.Targets) > 0 {
			where = " below " + strings.Join(o.Plan.Targets, ", ")
		}
		p.line("  Writes %s%s.", plural(n, "file"), where)
	}
	for _, w := range o.Plan.Warnings {
		p.line("  Warning: %s.", strings.TrimSuffix(w, "."))
	}
	for _, s := range o.Plan.Irreversible {
		p.line("  Can't be undone: %s.", strings.TrimSuffix(s, "."))
	}
	p.line("  The same without questions: %s", p.s.Command(o.Action, o.Plan))
	phrase := ""
	if p.s.Flow.Consent != nil {
		phrase = p.s.Flow.Consent(o.Answers)
	}
	switch {
	case phrase != "":
	case o.Plan.Consent.Level == "type":
		phrase = o.Plan.Consent.Phrase
	default:
		phrase = "yes"
	}
	p.line(`A step's number changes it, "d" shows the whole plan and does nothing, "s FILE" keeps the answers, "b" goes back, "q" stops.`)
	for {
		got, err := p.read(fmt.Sprintf("Type exactly %q to go on: ", phrase), flow.Field{Help: "Nothing is written before you type these words."})
		if errors.Is(err, errBack) {
			p.w.Back()
			p.step = ""
			return errBack
		}
		if err != nil {
			return err
		}
		name, save := strings.CutPrefix(got+" ", "s ")
		n, nerr := strconv.Atoi(got)
		switch {
		case got == phrase:
			return nil
		case got == "":
		case got == "d":
			if err := print.Plan(p.Stderr, o.Plan, print.Style{ASCII: p.g.ascii}); err != nil {
				return err
			}
			p.line("A dry run: nothing was done.")
		case save:
			path, err := p.s.Save(strings.TrimSpace(name), o.Answers)
			if err != nil {
				p.line("  %s", err)
				continue
			}
			p.line("  answers kept: %s", path)
		case nerr == nil:
			if !p.w.Goto(n - 1) {
				p.line("  There is no step %d to change.", n)
				continue
			}
			p.step = ""
			return errBack
		default:
			p.line("That does not match. Wanted: %s. You typed: %s.", phrase, got)
		}
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// line writes one line; nothing in it acts on a terminal.
func (p *plain) line(format string, args ...any) {
	fmt.Fprintln(p.Stderr, print.Clean(fmt.Sprintf(format, args...)))
}
