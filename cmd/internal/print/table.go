package print

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"app.provost/engine"
)

// Format is how rows are written.
type Format string

const (
	Text  Format = "table" // columns for people
	Wide  Format = "wide"  // all columns
	AJSON Format = "json"  // one object: schema, at, rows
	JSONL Format = "jsonl" // one object per row
	CSV   Format = "csv"   // heads with units, raw numbers
	Name  Format = "name"  // worker/w7, one per line
)

// Formats lists them in the order of the help.
var Formats = []Format{Text, Wide, AJSON, JSONL, CSV, Name}

// Rows are chosen and sorted rows of one table at one moment. Columns is nil for
// the default ones.
type Rows struct {
	Table    *engine.Table
	Snapshot *engine.Snapshot
	Rows     []engine.Row
	Columns  []*engine.Column
	Now      time.Time // ages are counted up to it
}

// Schema is the version of a table's JSON: "provost.workers/1".
func Schema(t *engine.Table) string { return "provost." + string(t.Name) + "/1" }

// Write writes rows in a format.
func (r Rows) Write(w io.Writer, f Format, st Style) error {
	switch f {
	case AJSON:
		return JSON(w, r.object())
	case JSONL:
		for _, row := range r.Rows {
			if err := JSONLine(w, r.Line(row)); err != nil {
				return err
			}
		}
		return nil
	case CSV:
		return r.csv(w)
	case Name:
		for _, row := range r.Rows {
			if _, err := fmt.Fprintf(w, "%s/%s\n", r.Table.One, Clean(r.Table.ID(row))); err != nil {
				return err
			}
		}
		return nil
	}
	return r.text(w, st, r.columns(f == Wide))
}

func (r Rows) columns(wide bool) []*engine.Column {
	if r.Columns != nil {
		return r.Columns
	}
	return r.Table.Default(wide)
}

func (r Rows) text(w io.Writer, st Style, cols []*engine.Column) error {
	rows, words := [][]string{make([]string, len(cols))}, [][]string{make([]string, len(cols))}
	right := make([]bool, len(cols))
	for i, c := range cols {
		rows[0][i], words[0][i], right[i] = c.Title, "head", c.Align == engine.AlignRight
	}
	for _, row := range r.Rows {
		cells, marks := make([]string, len(cols)), make([]string, len(cols))
		for i, c := range cols {
			v := c.Value(row, r.Now)
			cells[i] = st.clean(c.Full(v))
			if v.Known && v.Fresh != engine.Fresh {
				cells[i] += "~"
			}
			if c.Name == "state" || c.Name == "level" || !v.Known {
				marks[i] = cells[i]
			}
		}
		rows, words = append(rows, cells), append(words, marks)
	}
	return grid(w, st, rows, right, words)
}

func (r Rows) csv(w io.Writer) error {
	return engine.WriteCSV(w, r.columns(true), r.Rows, r.Now, Clean)
}

// rowsObject is the JSON of a table.
type rowsObject struct {
	Schema string            `json:"schema"`
	At     *time.Time        `json:"at"` // of the snapshot
	Rows   []engine.Row      `json:"rows"`
	Totals *engine.JobTotals `json:"totals,omitempty"` // jobs: over everything the store knows
	Hidden *int              `json:"hidden,omitempty"` // jobs: finished ones that are not listed
}

func (r Rows) object() rowsObject {
	o := rowsObject{Schema: Schema(r.Table), Rows: r.Rows}
	if o.Rows == nil {
		o.Rows = []engine.Row{}
	}
	if r.Snapshot != nil {
		at := r.Snapshot.At.UTC()
		o.At = &at
		if r.Table.Name == engine.TableJobs && r.Snapshot.Jobs != nil {
			o.Totals, o.Hidden = &r.Snapshot.Jobs.Totals, &r.Snapshot.Jobs.Hidden
		}
	}
	return o
}

// Object is the JSON object of all rows, for JSONLine.
func (r Rows) Object() any { return r.object() }

// Line is the JSON object of one row.
func (r Rows) Line(row engine.Row) any {
	var at *time.Time
	if r.Snapshot != nil {
		t := r.Snapshot.At.UTC()
		at = &t
	}
	return struct {
		Schema string     `json:"schema"`
		At     *time.Time `json:"at"`
		Row    engine.Row `json:"row"`
	}{Schema(r.Table), at, row}
}

// Describe writes one row with everything that is known of it; with docs also what each line means.
func (r Rows) Describe(w io.Writer, row engine.Row, f Format, docs bool, st Style) error {
	if f == AJSON || f == JSONL {
		if f == JSONL {
			return JSONLine(w, r.Line(row))
		}
		return JSON(w, r.Line(row))
	}
	lines := [][]string{{r.Table.One, st.clean(r.Table.ID(row))}}
	words := [][]string{nil}
	for _, c := range r.Table.Columns {
		v := c.Value(row, r.Now)
		text := st.clean(c.Full(v)) + unitWord(c, v)
		if v.Known && v.Fresh != engine.Fresh && v.Fresh != engine.NeverRead {
			text += "~ (read " + engine.Span(v.Age) + " ago)"
		}
		word := ""
		if c.Name == "state" || c.Name == "level" {
			word = text
		}
		line, marks := []string{c.Name, text}, []string{"", word}
		if docs {
			line, marks = append(line, c.Doc), append(marks, "head")
		}
		lines, words = append(lines, line), append(words, marks)
	}
	more := func(name, value string) {
		if value != "" {
			lines, words = append(lines, []string{name, st.clean(value)}), append(words, nil)
		}
	}
	switch x := row.(type) {
	case *engine.Finding:
		more("text", x.Text)
		for _, f := range x.Facts {
			more("fact", f.Name+" "+f.Value)
		}
		for _, n := range x.Next {
			more("do", nextWords(n))
		}
	case *engine.ActRow:
		for i, s := range x.Steps {
			more("step", fmt.Sprintf("%d %s  %s", i+1, s.Name, s.Text))
		}
		for _, s := range x.Settled {
			more("target", s.Target+" "+s.State+" "+s.Why)
		}
	case *engine.MachineRow:
		if x.Hugepages.Value != nil {
			for _, p := range *x.Hugepages.Value {
				more("pool", PoolWords(p))
			}
		}
		if x.Disks.Value != nil {
			for _, d := range *x.Disks.Value {
				more("disk", fmt.Sprintf("%s %s: %s free of %s (%s)", d.What, d.Path, engine.ByteSize(d.FreeBytes), engine.ByteSize(d.TotalBytes), d.FSType))
			}
		}
		for _, problem := range []string{x.CPU.Problem, x.Memory.Problem, x.Disks.Problem, x.Clock.Problem, x.Hugepages.Problem, x.GPUDriver.Problem, x.System.Problem} {
			more("problem", problem)
		}
		if g := x.GPUDriver.Value; g != nil {
			more("driver", g.Why)
		}
	}
	return grid(w, st, lines, nil, words)
}

func nextWords(n engine.NextKey) string {
	s := n.Text
	if n.Command != "" {
		s = n.Command + "  " + s
	}
	return s
}

func unitWord(c *engine.Column, v engine.Value) string {
	if !v.Known || v.None {
		return ""
	}
	switch c.Unit {
	case engine.UnitPercent:
		return "%"
	case engine.UnitMS:
		return " ms"
	case engine.UnitCelsius:
		return " °C"
	case engine.UnitWatt:
		return " W"
	case engine.UnitMHz:
		return " MHz"
	}
	return ""
}

// Same tells whether two rows are the same JSON; for watching changes.
func Same(a, b engine.Row) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}
