package print

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"app.provost/engine"
	"app.provost/prover"
)

// shown bounds how many targets a plan lists in text; JSON has them all.
const shown = 12

// Plan writes what an action would do.
func Plan(w io.Writer, p engine.Plan, st Style) error {
	var b strings.Builder
	fmt.Fprintf(&b, "plan %s: %s\n", short(p.Digest), st.clean(p.Title))
	line := func(name, text string) { fmt.Fprintf(&b, "  %s %s\n", pad(name, 9, false), text) }
	for i, s := range p.Steps {
		line(label("steps", i), fmt.Sprintf("%d %s: %s", i+1, st.clean(s.Name), st.clean(s.Text)))
	}
	if err := planTable(&b, p.Table, st); err != nil {
		return err
	}
	if n := len(p.Targets); n > 0 {
		line("touches", list(p.Targets, st))
	}
	for i, l := range p.LeftOut {
		if i == shown {
			line("", fmt.Sprintf("%d more", len(p.LeftOut)-shown))
			break
		}
		line(label("left out", i), st.clean(l.Target)+": "+st.clean(l.Why))
	}
	for i, e := range p.Effects {
		line(label("effect", i), st.clean(effect(e)))
	}
	for i, f := range p.Files {
		if i == shown {
			line("", fmt.Sprintf("%d more files", len(p.Files)-shown))
			break
		}
		line(label("writes", i), fmt.Sprintf("%s (%s)", st.clean(f.Path), st.clean(f.Mode)))
	}
	for _, s := range p.Warnings {
		line(st.paint("warn", "warning "), st.clean(s))
	}
	for i, s := range p.Notes {
		line(label("note", i), st.clean(s))
	}
	if p.Undo != "" {
		line("undo", st.clean(p.Undo))
	}
	for _, s := range p.Irreversible {
		line("no undo", st.clean(s))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tableRows is how many rows of a plan's table are written as text; those that call for a look are among them.
const tableRows = 64

// planTable writes a plan's table, indented; JSON has every row of it.
func planTable(b *strings.Builder, t *engine.PlanTable, st Style) error {
	if t == nil || len(t.Rows) == 0 {
		return nil
	}
	n := len(t.Columns)
	rows, words := [][]string{append([]string{""}, t.Columns...)}, [][]string{append([]string{""}, t.Columns...)}
	for i := range words[0] {
		words[0][i] = "head"
	}
	left := max(tableRows-len(t.Marked), 8)
	skipped := 0
	for i, r := range t.Rows {
		marked := slices.Contains(t.Marked, i)
		if !marked {
			if left--; left < 0 {
				skipped++
				continue
			}
		} else if len(rows) > 2*tableRows {
			skipped++
			continue
		}
		cells, marks := make([]string, n+1), make([]string, n+1)
		for j := range min(n, len(r)) {
			cells[j+1] = st.clean(r[j])
		}
		if marked {
			cells[0], marks[0], marks[n] = "!", "warn", "warn"
		}
		rows, words = append(rows, cells), append(words, marks)
	}
	if err := grid(b, st, rows, nil, words); err != nil {
		return err
	}
	if skipped > 0 {
		fmt.Fprintf(b, "   and %d more rows; -o json has them all\n", skipped)
	}
	return nil
}

func label(name string, i int) string {
	if i > 0 {
		return ""
	}
	return name
}

// short is the beginning of a digest that is enough for --confirm.
func short(d engine.Digest) string { return string(d[:min(len(d), 6)]) }

func list(all []string, st Style) string {
	out := make([]string, 0, shown)
	for _, s := range all[:min(len(all), shown)] {
		out = append(out, st.clean(s))
	}
	s := strings.Join(out, " ")
	if len(all) > shown {
		s += fmt.Sprintf(" and %d more", len(all)-shown)
	}
	return s
}

func effect(e engine.Effect) string {
	s := e.What + ": " + e.Now
	if e.During != "" {
		s += " -> " + e.During
	}
	return s + " -> " + e.After
}

// PlanFile is a plan with the action it came from: what "plan" writes and "apply" reads.
type PlanFile struct {
	engine.Plan
	Action json.RawMessage `json:"action"` // as engine.MarshalAction writes it
}

// NewPlanFile joins the two.
func NewPlanFile(p engine.Plan, a engine.Action) (PlanFile, error) {
	raw, err := engine.MarshalAction(a)
	return PlanFile{p, raw}, err
}

// ReceiptSchema is the version of a receipt's JSON.
const ReceiptSchema = "provost.receipt/1"

// ReceiptObject is the JSON of a receipt.
func ReceiptObject(r engine.Receipt) any {
	return struct {
		Schema string `json:"schema"`
		engine.Receipt
	}{ReceiptSchema, r}
}

// Receipt writes what came of an action.
func Receipt(w io.Writer, r engine.Receipt, st Style) error {
	var b strings.Builder
	head := "done"
	if !r.Done {
		head = "under way"
	}
	if r.Repeated {
		head = "done before"
	}
	fmt.Fprintf(&b, "%s: %s", st.paint("done", head), st.clean(r.Title))
	if r.Act != "" {
		fmt.Fprintf(&b, "  (act %s)", st.clean(r.Act))
	}
	b.WriteByte('\n')
	for _, id := range r.Jobs {
		fmt.Fprintf(&b, "job/%s\n", st.clean(id))
	}
	for i, f := range r.Files {
		if i == shown {
			fmt.Fprintf(&b, "  and %d more files\n", len(r.Files)-shown)
			break
		}
		fmt.Fprintf(&b, "  %s %s\n", st.clean(f.Mode), st.clean(f.Path))
	}
	if err := planTable(&b, r.Table, st); err != nil {
		return err
	}
	for _, f := range r.Facts {
		fmt.Fprintf(&b, "  %s: %s\n", st.clean(f.Name), st.clean(f.Value))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "%s\n", st.clean(n))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// ChecksSchema is the version of the JSON of checks.
const ChecksSchema = "provost.checks/1"

// CheckCounts counts checks by status.
type CheckCounts struct {
	Passed  int `json:"passed"`
	Warned  int `json:"warned"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
}

// CountChecks counts checks; a status that is not known counts as failed.
func CountChecks(all []engine.Check) (n CheckCounts) {
	for _, c := range all {
		switch c.Status {
		case "passed":
			n.Passed++
		case "warned":
			n.Warned++
		case "skipped":
			n.Skipped++
		default:
			n.Failed++
		}
	}
	return
}

// ChecksObject is the JSON of checks: what was checked, counts, each check, facts.
func ChecksObject(what string, r engine.Receipt) any {
	facts := map[string]string{}
	for _, f := range r.Facts {
		facts[f.Name] = f.Value
	}
	return struct {
		Schema string            `json:"schema"`
		What   string            `json:"what"`
		Counts CheckCounts       `json:"counts"`
		Facts  map[string]string `json:"facts"`
		Checks []engine.Check    `json:"checks"`
		Notes  []string          `json:"notes"`
	}{ChecksSchema, what, CountChecks(r.Checks), facts, append([]engine.Check{}, r.Checks...), append([]string{}, r.Notes...)}
}

// Checks writes each check with its outcome; passed ones only when all is set.
func Checks(w io.Writer, r engine.Receipt, all bool, st Style) error {
	var rows, words [][]string
	for _, c := range r.Checks {
		if c.Status == "passed" && !all {
			continue
		}
		text := c.Text
		if c.Field != "" {
			text = c.Field + ": " + text
		}
		if c.File != "" {
			text = c.File + ": " + text
		}
		if c.Remedy != "" {
			text += "; " + c.Remedy
		}
		rows = append(rows, []string{c.Status, st.clean(c.Name), st.clean(text)})
		words = append(words, []string{c.Status, "", ""})
	}
	if err := grid(w, st, rows, nil, words); err != nil {
		return err
	}
	for _, f := range r.Facts {
		if _, err := fmt.Fprintf(w, "%s: %s\n", st.clean(f.Name), st.clean(f.Value)); err != nil {
			return err
		}
	}
	for _, note := range r.Notes {
		if _, err := fmt.Fprintln(w, st.clean(note)); err != nil {
			return err
		}
	}
	n := CountChecks(r.Checks)
	word := "passed"
	if n.Failed > 0 {
		word = "failed"
	}
	_, err := fmt.Fprintf(w, "%s: %d passed, %d warned, %d failed, %d skipped\n", st.paint(word, word), n.Passed, n.Warned, n.Failed, n.Skipped)
	return err
}

// Problem writes an error for a person: every problem on a line of its own, with its code.
func Problem(w io.Writer, err error, st Style) {
	var p *engine.Problem
	if !errors.As(err, &p) {
		fmt.Fprintf(w, "provost: %s\n", st.clean(err.Error()))
		return
	}
	fmt.Fprintf(w, "provost: %s", st.clean(p.Error()))
	if p.Code != "" && p.Code != engine.CodeUsage {
		fmt.Fprintf(w, " [%s]", st.clean(string(p.Code)))
	}
	fmt.Fprintln(w)
	for _, m := range p.More {
		fmt.Fprintf(w, "provost: %s\n", st.clean(m.Error()))
	}
}

// ProblemSchema is the version of a problem's JSON.
const ProblemSchema = "provost.problem/1"

// ProblemObject is the JSON of an error.
func ProblemObject(err error) any {
	return struct {
		Schema string `json:"schema"`
		*engine.Problem
	}{ProblemSchema, engine.AsProblem("", err)}
}

// Act writes how an act stands, in one line: "a35 pause_workers w1-w4: 3/4 hold, 4 done, holding, 37m left".
func ActLine(a engine.ActRow, st Style) string {
	var parts []string
	if len(a.Steps) > 0 {
		step := fmt.Sprintf("%d/%d", a.Step, len(a.Steps))
		if a.Step >= 1 && a.Step <= len(a.Steps) {
			step += " " + a.Steps[a.Step-1].Name
		}
		parts = append(parts, step)
	}
	counts := map[string]int{}
	for _, s := range a.Settled {
		counts[s.State]++
	}
	for _, state := range []string{"waiting", "sent", "done", "refused", "failed"} {
		if n := counts[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	parts = append(parts, string(a.State))
	if a.Text != "" {
		parts = append(parts, a.Text)
	}
	return st.clean(fmt.Sprintf("%s %s %s: %s", a.ID, a.Kind, a.Target, strings.Join(parts, ", ")))
}

// Unsettled lists the targets of an act that refused or failed, one per line.
func Unsettled(w io.Writer, a engine.ActRow, st Style) {
	for _, s := range a.Settled {
		if s.State == "refused" || s.State == "failed" {
			fmt.Fprintf(w, "%s\t%s\t%s\n", st.clean(s.Target), st.clean(s.State), st.clean(s.Why))
		}
	}
}

// PoolWords is one hugepage pool in a line.
func PoolWords(p prover.HugePool) string {
	s := fmt.Sprintf("%s pages: %d of %d used, %d free, %d reserved", engine.ByteSize(p.PageKiB*1024), p.Used(), p.Total, p.Free, p.Reserved)
	for _, n := range p.NUMA {
		s += fmt.Sprintf("; node %d: %d free of %d", n.Node, n.Free, n.Total)
	}
	return s
}
