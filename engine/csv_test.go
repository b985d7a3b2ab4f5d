package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"app.provost/prover"
)

func TestWriteCSV(t *testing.T) {
	now := time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC)
	table, _ := TableNamed("workers")
	cols, err := table.ParseColumns("id,state,cpu,rss,note")
	if err != nil {
		t.Fatal(err)
	}
	cpu, rss := 41.25, uint64(310<<20)
	rows := []Row{&WorkerRow{ID: prover.WorkerID("w1"), State: WorkerRun, CPUPercent: &cpu, RSSBytes: &rss, Note: "=cmd, \"x\""}, &WorkerRow{ID: "w2", State: WorkerDown}}
	var b bytes.Buffer
	if err := WriteCSV(&b, cols, rows, now, strings.ToLower); err != nil {
		t.Fatal(err)
	}
	if want := "id,state,cpu_percent,rss_bytes,note\nw1,run,41.25,325058560,\"'=cmd, \"\"x\"\"\"\nw2,down,,,\n"; b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
