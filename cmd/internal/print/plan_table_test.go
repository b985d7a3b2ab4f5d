package print

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"app.provost/engine"
)

// TestPlanTable: rows that call for a look are never among those that are left out, and no cell acts on a terminal.
func TestPlanTable(t *testing.T) {
	table := &engine.PlanTable{Columns: []string{"HOST", "WORKERS", "CHECK"}}
	for i := range 300 {
		table.Rows = append(table.Rows, []string{fmt.Sprintf("m%03d", i), "64", "ok"})
	}
	table.Rows[299] = []string{"m299\x1b[2J", "3", "64 need 120 GiB"}
	table.Marked = []int{299}
	var b bytes.Buffer
	if err := Plan(&b, engine.Plan{Digest: "0123456789ab", Title: "a test", Table: table, Warnings: []string{"w"}, Notes: []string{"n1", "n2"}}, Style{}); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	for _, want := range []string{"  HOST", "m000", "\n!  m299", "64 need 120 GiB", "and 236 more rows; -o json has them all", "  note      n1\n            n2\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("not said: %q\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") || strings.Contains(out, "m100") {
		t.Errorf("said: %q", out)
	}
	b.Reset()
	if err := Receipt(&b, engine.Receipt{Done: true, Title: "done", Table: &engine.PlanTable{Columns: table.Columns, Rows: table.Rows[:2]}}, Style{}); err != nil || !strings.Contains(b.String(), "m001") || strings.Contains(b.String(), "more rows") {
		t.Errorf("%v\n%s", err, b.String())
	}
}
