package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"app.provost/prover"
)

var tableNow = time.Date(2026, 3, 2, 11, 4, 40, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// tableWorkers makes n workers on machines of 64, some of them in trouble.
func tableWorkers(n int) []WorkerRow {
	rows := make([]WorkerRow, n)
	for i := range rows {
		r := WorkerRow{Key: Key{Machine: fmt.Sprintf("m%d", 1+i/64)}, ID: prover.WorkerFor(prover.Core(1 + i)), Core: prover.Core(1 + i),
			State: WorkerRun, Since: tableNow.Add(-time.Duration(i) * time.Second), CPUPercent: ptr(90.4), RSSBytes: ptr(uint64(1181116007)),
			Job: ptr(prover.JobID(fmt.Sprintf("j%026d", i))), Progress: ptr(0.5), JobsDone: uint64(i), PID: ptr(1000 + i)}
		r.Key.ID = string(r.ID)
		switch i % 97 {
		case 5:
			r.State, r.Job, r.Progress, r.CPUPercent, r.RSSBytes, r.PID = WorkerDown, nil, nil, nil, nil, nil
			r.Note, r.LastExit = "exit 137, killed", &ExitRecord{Code: ptr(137)}
		case 7:
			r.State, r.Job, r.Progress, r.CPUPercent = WorkerPaused, nil, nil, ptr(0.0)
			r.PauseUntil = ptr(tableNow.Add(37 * time.Minute))
		}
		rows[i] = r
	}
	return rows
}

func matching(t *testing.T, rows []WorkerRow, filter string) []string {
	t.Helper()
	f, err := CompileFilter(workersTable, filter)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for i := range rows {
		if f.Match(&rows[i], tableNow) {
			out = append(out, string(rows[i].ID))
		}
	}
	return out
}

func TestFilter(t *testing.T) {
	rows := tableWorkers(10) // w6 is down, w8 paused
	rows[0].Key.Machine = "m18"
	all := matching(t, rows, "")
	for filter, want := range map[string]string{
		"all":                         strings.Join(all, " "),
		"   ":                         strings.Join(all, " "),
		"host:m18":                    "w1",
		"HOST:M18":                    "w1",
		"host:m1":                     strings.Join(all[1:], " "),
		"host:m1*":                    strings.Join(all, " "),
		"host:m1* !host:m1":           "w1",
		"state!=run":                  "w6 w8",
		"state:down or state:paused":  "w6 w8",
		"state=down state=paused":     "",
		"state=down and note~killed":  "w6",
		`note~"exit 1.."`:             "w6",
		`note!~"exit 1.." state!=run`: "w8",
		`note="exit 137, killed"`:     "w6",
		"cpu>90":                      "w1 w2 w3 w4 w5 w7 w9 w10",
		"!cpu>90":                     "w8", // unknown is neither
		"cpu:?":                       "w6",
		"cpu!=?":                      "w1 w2 w3 w4 w5 w7 w8 w9 w10",
		"cpu=90":                      "w1 w2 w3 w4 w5 w7 w9 w10", // as it is shown
		"job:-":                       "w6 w8",
		"job!=-":                      "w1 w2 w3 w4 w5 w7 w9 w10",
		"age<5s":                      "w1 w2 w3 w4 w5",
		"age>=9":                      "w10",
		"rss>=1.1G rss<1.2GiB":        "w1 w2 w3 w4 w5 w7 w8 w9 w10",
		"rss_bytes>1000M":             "w1 w2 w3 w4 w5 w7 w8 w9 w10",
		"pause_left<40m":              "w8",
		"killed":                      "w6",
		"KILLED":                      "w6",
		`"exit 137"`:                  "w6",
		"1003":                        "w4", // its pid, whole
		"100":                         "",
		"!(state=run or killed)":      "w8",
		"! state = run  killed":       "w6",
		"id>w9":                       "w10", // natural order
		"id:w1 or id:w2 state=down":   "w1",  // and binds closer
	} {
		if got := strings.Join(matching(t, rows, filter), " "); got != want {
			t.Errorf("%s: got %q, want %q", filter, got, want)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	for filter, want := range map[string]string{
		"stat=run":     `at 1: workers have no column "stat"; did you mean "state"?`,
		"a  sttae=run": `at 4: workers have no column "sttae"; did you mean "state"?`,
		"frobnicate=1": "columns: id host",
		"é stat=run":   "at 3:",
		"cpu>high":     `at 5: cpu wants a number, not "high"`,
		"cpu>NaN":      "wants a number",
		"age<soon":     "at 5: age wants a length of time, as in 5m",
		"rss>x":        "wants a size",
		"cpu~9":        "cpu is a number: ~ is for texts",
		"note~(":       "a value is missing after note~",
		`note~"("`:     "at 6: bad regular expression",
		"(state=run":   `at 1: "(" is not closed`,
		"state=run)":   `at 10: ")" without "("`,
		"state=":       "at 7: a value is missing after state=",
		"=run":         "a column is missing before the operator",
		"a or":         "a condition is missing here",
		"or a":         "a condition is missing here",
		"a and":        "a condition is missing here",
		"!":            `missing after "!"`,
		"()":           "a condition is missing here",
		`"open`:        "the quote is not closed",
		"a!b":          `"!" inside a word`,
		"\xff":         "not valid UTF-8",
		strings.Repeat("(", 100) + "a" + strings.Repeat(")", 100): "inside each other",
		strings.Repeat("!", 100) + "a":                            "inside each other",
		strings.Repeat("a ", 3000):                                "at most 4096",
	} {
		_, err := CompileFilter(workersTable, filter)
		if err == nil {
			t.Errorf("%.40s was accepted", filter)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %s", filter, err, want)
		}
		if p := err.(*FilterError).Problem("get workers"); p.Exit != ExitUsage || p.Doing != "get workers" {
			t.Errorf("%.40s: %+v", filter, p)
		}
	}
}

func TestSelectWorkers(t *testing.T) {
	rows := tableWorkers(70) // w65 to w70 are on m2
	for sel, want := range map[Selector]string{
		"w1,w3-w5":           "w1 w3 w4 w5",
		" w5, w3 ":           "w3 w5",
		"m2/w65,m1/w1":       "w1 w65",
		"m2/w60-w66":         "w65 w66",
		"host:m2 state=run":  "w65 w66 w67 w68 w69 w70",
		"state:paused":       "w8",
		"id:w1 or note~kill": "w1 w6",
	} {
		got, err := SelectWorkers(rows, sel, tableNow)
		if err != nil {
			t.Errorf("%s: %v", sel, err)
			continue
		}
		var ids []string
		for _, r := range got {
			ids = append(ids, string(r.ID))
		}
		if s := strings.Join(ids, " "); s != want {
			t.Errorf("%s: got %q, want %q", sel, s, want)
		}
	}
	if got, err := SelectWorkers(rows, "all", tableNow); err != nil || len(got) != 70 {
		t.Errorf("all: %d, %v", len(got), err)
	}
	rows[1].ID = "w1"
	rows[1].Key.Machine = "m9"
	for sel, want := range map[Selector]string{
		"":          "an empty selector matches nothing",
		"  ":        "an empty selector matches nothing",
		"w99":       "there is no worker w99",
		"w5-w3":     "is no worker id",
		"m18":       "to choose by a column write it, as in host:m1",
		"w0":        "is no worker id",
		"w3,":       "is no worker id",
		"w1":        "write the machine too, as in m1/w1",
		"state:odd": `no worker matches "state:odd"`,
		"stat=run":  `did you mean "state"?`,
	} {
		_, err := SelectWorkers(rows, sel, tableNow)
		if err == nil || !strings.Contains(err.Error(), want) || ExitOf(err) != ExitUsage {
			t.Errorf("%q: got %v, want %s", sel, err, want)
		}
	}
}

func TestSelectJobs(t *testing.T) {
	rows := []JobRow{{ID: "abcdefgh1"}, {ID: "abcdefgh2", State: prover.JobQueued}, {ID: "bbcdefgh3"}}
	for sel, want := range map[Selector]int{"abcdefgh1": 1, "bbcdefgh": 1, "abcdefgh1,bbcdefgh3": 2, "state=queued": 1, "all": 3} {
		if got, err := SelectJobs(rows, sel, tableNow); err != nil || len(got) != want {
			t.Errorf("%s: %d, %v", sel, len(got), err)
		}
	}
	for _, sel := range []Selector{"", "abcdefgh", "bbc", "queued"} {
		if _, err := SelectJobs(rows, sel, tableNow); ExitOf(err) != ExitUsage {
			t.Errorf("%q: %v", sel, err)
		}
	}
}

func TestTablesAreWhole(t *testing.T) {
	for _, tab := range Tables {
		names := map[string]bool{}
		for _, c := range tab.Columns {
			if names[c.Name] || names[c.Key()] || c.Name == "" || c.Title == "" || c.Doc == "" || strings.ContainsAny(c.Name, " -,:=<>~!()\"") {
				t.Errorf("%s: column %q is doubled, without a name, title or line of help", tab.Name, c.Name)
			}
			names[c.Name], names[c.Key()] = true, true
			if v := c.Value(nil, tableNow); v.Known {
				t.Errorf("%s.%s knows something of a row of another kind", tab.Name, c.Name)
			}
		}
		if len(tab.Sort) == 0 || tab.Sort[0].Column == nil {
			t.Errorf("%s has no default order", tab.Name)
		}
		if got, ok := TableNamed(tab.One); !ok || got != tab {
			t.Errorf("%s is not found by %q", tab.Name, tab.One)
		}
		if !slices.Contains(SectionNames, tab.Section) {
			t.Errorf("%s shows no section", tab.Name)
		}
		if tab.Len(nil) != 0 || tab.Len(&Snapshot{}) != 0 {
			t.Errorf("%s has rows where there is no section", tab.Name)
		}
	}
}

// A zero row says "not known" for what was never read; only counters may be 0.
func TestUnknownIsNotZero(t *testing.T) {
	s := &Snapshot{Machines: &Section[MachineRow]{Rows: []MachineRow{{}}}, Workers: &Section[WorkerRow]{Rows: []WorkerRow{{}}},
		GPUs: &Section[GPURow]{Rows: []GPURow{{}}}}
	for table, columns := range map[TableName]string{
		TableHosts:   "load cpu mem huge huge_free clock gpus read cpus swap thp disk kernel up",
		TableWorkers: "cpu rss age heard lat numa nice version",
		TableGPUs:    "model util mem temp power clk ecc xid fan pcie throttle mig numa uuid",
	} {
		tab, _ := TableNamed(string(table))
		for _, name := range strings.Fields(columns) {
			c, ok := tab.Column(name)
			if !ok {
				t.Fatalf("no column %s", name)
			}
			if v := c.Value(tab.Row(s, 0), tableNow); v.Known || c.Text(v) != "?" {
				t.Errorf("%s.%s: %+v is shown as %s", table, name, v, c.Text(v))
			}
		}
	}
}

func TestCells(t *testing.T) {
	for _, c := range []struct {
		unit       Unit
		num, of    float64
		text, full string
	}{
		{UnitAge, 5, 0, "<1m", "5s"}, {UnitAge, 245, 0, "4m", "4m5s"}, {UnitAge, 6720, 0, "1h52m", "1h52m"}, {UnitAge, 9*3600 + 60, 0, "9h", "9h1m"},
		{UnitAge, 31 * 86400, 0, "31d", "31d"}, {UnitLeft, 41, 0, "41s", "41s"}, {UnitLeft, 2245, 0, "37m", "37m"},
		{UnitBytes, 0, 0, "0B", "0B"}, {UnitBytes, 1.1 * (1 << 30), 0, "1.1G", "1.1G"}, {UnitBytes, 310 << 20, 0, "310M", "310M"}, {UnitBytes, 1023 << 20, 0, "1.0G", "1.0G"},
		{UnitBytes, 22.1 * (1 << 30), 24 << 30, "22.1G/24.0G", "22.1G/24.0G"},
		{UnitMS, 2.34, 0, "2.3", "2.3"}, {UnitMS, 310.4, 0, "310", "310"}, {UnitPages, 14986, 15000, "14986/15000", "14986/15000"},
		{UnitPercent, 90.4, 0, "90", "90"}, {UnitCount, 0.25, 0, "0.25", "0.25"}, {UnitTime, 1772449480, 0, "2026-03-02T11:04:40Z", "2026-03-02T11:04:40Z"},
	} {
		col := &Column{Unit: c.unit}
		v := Value{Known: true, Num: c.num, Of: c.of}
		if got := col.Text(v); got != c.text {
			t.Errorf("%s %v: %q, want %q", c.unit, c.num, got, c.text)
		}
		if got := col.Full(v); got != c.full {
			t.Errorf("%s %v: %q, want %q", c.unit, c.num, got, c.full)
		}
	}
}

func TestSortRows(t *testing.T) {
	s := &Snapshot{Workers: &Section[WorkerRow]{Rows: tableWorkers(110)}}
	ids := func(by string) string {
		keys, err := workersTable.ParseSort(by)
		if err != nil {
			t.Fatal(err)
		}
		rows := workersTable.Rows(s)
		slices.Reverse(rows)
		workersTable.SortRows(rows, keys, tableNow)
		var out []string
		for _, r := range rows {
			out = append(out, workersTable.ID(r))
		}
		return strings.Join(out, " ")
	}
	if got := ids(""); !strings.HasPrefix(got, "w6 w103 w8 w105 w1 w2 w3") {
		t.Errorf("worst state first, then host and id: %s", got)
	}
	if got := ids("cpu"); !strings.HasPrefix(got, "w8 w105 w1 ") || !strings.HasSuffix(got, " w6 w103") {
		t.Errorf("unknown comes last: %s", got)
	}
	if got := ids("-cpu"); !strings.HasPrefix(got, "w1 ") || !strings.HasSuffix(got, " w6 w103") {
		t.Errorf("unknown comes last in reverse too: %s", got)
	}
	if _, err := workersTable.ParseSort("cpuu"); err == nil || !strings.Contains(err.Error(), `did you mean "cpu"?`) {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	s := &Snapshot{Workers: &Section[WorkerRow]{Rows: tableWorkers(3)}, GPUs: &Section[GPURow]{Rows: []GPURow{{Key: Key{Machine: "m1"}, GPU: prover.GPU{Index: 2, UUID: "GPU-12345678-aaaa"}}}}}
	s.Workers.Rows[2].ID, s.Workers.Rows[2].Key.Machine = "w1", "m2"
	for id, want := range map[string]string{"w2": "", "m1/w1": "", "w1": "names 2 of them; write one in full, as in m1/w1 or m2/w1", "w9": `there is no worker "w9"`} {
		_, err := workersTable.Find(s, id)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, id := range []string{"m1/2", "GPU-12345678", "GPU-12345678-aaaa"} {
		if r, err := gpusTable.Find(s, id); err != nil || gpusTable.ID(r) != "m1/2" {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"workers", "hosts", "gpus", "state"}
	for word, want := range map[string]string{"wrokers": "workers", "worker": "workers", "stat": "state", "host": "hosts", "xyzzy": "", "": "", "STATE": "state"} {
		if got := Nearest(word, words); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestMatchingDoesNotAllocate(t *testing.T) {
	rows := tableWorkers(500)
	// Regular expressions are left out: they take scratch space from a pool of their own.
	for _, filter := range []string{`state!=run cpu>90 age<5m host:m1*`, `killed or 1003`, `cpu=90 !(rss>2G)`} {
		f, err := CompileFilter(workersTable, filter)
		if err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(20, func() {
			for i := range rows {
				f.Match(&rows[i], tableNow)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations over %d rows", filter, n, len(rows))
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{"", "all", "host:m18", "state!=run cpu>90 age<5m", `note~"exit 1.."`, "!(a or b) c", "cpu:? job:-", "((", "a!b", "\"\\\"", "rss>1.5GiB"} {
		f.Add(s)
	}
	rows := tableWorkers(8)
	f.Fuzz(func(t *testing.T, s string) {
		flt, err := CompileFilter(workersTable, s)
		if err != nil {
			fe, ok := err.(*FilterError)
			if !ok || fe.At < 0 || fe.At > len(s) {
				t.Fatalf("%q: %v at a place outside", s, err)
			}
			return
		}
		again, err := CompileFilter(workersTable, "("+s+")")
		// A filter keeps its meaning inside parentheses, unless it is empty.
		if err != nil && !flt.All() && len(s)+2 <= maxFilter && !strings.Contains(err.Error(), "inside each other") {
			t.Fatalf("%q is a filter, (%q) is not: %v", s, s, err)
		}
		for i := range rows {
			got := flt.Match(&rows[i], tableNow)
			if err == nil && !flt.All() && got != again.Match(&rows[i], tableNow) {
				t.Fatalf("%q means another thing in parentheses", s)
			}
		}
	})
}

func FuzzNatural(f *testing.F) {
	f.Add("w2", "w10", "w010")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if CompareNatural(a, b) != -CompareNatural(b, a) {
			t.Fatalf("%q and %q have no order", a, b)
		}
		if CompareNatural(a, b) <= 0 && CompareNatural(b, c) <= 0 && CompareNatural(a, c) > 0 {
			t.Fatalf("%q %q %q go in a circle", a, b, c)
		}
	})
}

func TestParseUnitRefusesInfinity(t *testing.T) {
	for _, s := range []string{"Inf", "-inf", "NaN", "1e999"} {
		for _, u := range []Unit{UnitCount, UnitAge, UnitBytes, UnitPercent} {
			if n, _, ok := parseUnit(s, u); ok && (math.IsNaN(n) || math.IsInf(n, 0)) {
				t.Errorf("%s is read as %v", s, n)
			}
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	for _, n := range []int{2048, 20000} {
		rows := tableWorkers(n)
		for name, filter := range map[string]string{"columns": "state!=run cpu<90 age<5m", "word": "killed", "regexp": `note~"exit 1.."`} {
			f, err := CompileFilter(workersTable, filter)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/rows=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					for i := range rows {
						f.Match(&rows[i], tableNow)
					}
				}
			})
		}
		s := &Snapshot{Workers: &Section[WorkerRow]{Rows: rows}}
		b.Run(fmt.Sprintf("sort/rows=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				workersTable.SortRows(workersTable.Rows(s), nil, tableNow)
			}
		})
	}
}
