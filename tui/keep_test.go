package tui

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app.provost/engine"
	"app.provost/tui/page"
)

// realStage takes the practice mark off: nothing is kept of practice engines.

func realStage(t *testing.T, dir string, change ...func(*Options)) *stage {
	t.Helper()
	s := newStage(t, script(64), append([]func(*Options){func(o *Options) { o.KeepDir = dir }}, change...)...).pull()
	snap := *s.m.snap
	info := *snap.Engine
	info.Value.Practice, info.Value.ID = "", "e-1/../x"
	info.Version++
	snap.Engine = &info
	snap.Gen++
	s.m.recalled = false
	return s.show(engine.Update{Snapshot: &snap}).size(80, 24)
}

// TestKept: the next look begins where the last one ended.
func TestKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "screens")
	s := realStage(t, dir)
	s.keys("2", ">", "=", "c", "j", "j", "space", "esc").frame()
	by, reverse := s.m.page().(page.Table).Sorted()
	s.keys("q", "space").shows("[x] do not ask again").keys("enter")
	if !s.m.quitting {
		t.Fatal("enter did not leave")
	}
	if err := s.m.keep(); err != nil {
		t.Fatal(err)
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 1 || files[0].Name() != "e-1____x.json" {
		t.Fatalf("kept in %v", files)
	}
	if st, err := os.Stat(filepath.Join(dir, files[0].Name())); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	again := realStage(t, dir)
	again.shows("[2 Work]")
	if b, r := again.m.page().(page.Table).Sorted(); b != by || r != reverse {
		t.Errorf("sorted by %s %v, was %s %v", b, r, by, reverse)
	}
	if names := again.m.page().(page.Table).ColumnNames(); !again.m.page().(page.Table).Hidden(names[4]) {
		t.Errorf("column %s is shown again", names[4])
	}
	again.keys("q")
	if !again.m.quitting {
		t.Error("it asked again")
	}
	if err := again.m.keep(); err != nil {
		t.Fatal(err)
	}
	asks := realStage(t, dir)
	asks.keys(":").text("quit ask").keys("enter").shows("Leave the dashboard")
	// A view that was asked for comes before the kept one, and an engine in this
	// process stops with its screen: there it is always asked.
	realStage(t, dir, func(o *Options) { o.View = page.Hosts }).shows("[4 Host]")
	realStage(t, dir, func(o *Options) { o.Foreground = true }).keys("q").shows("Leave the dashboard").hides("do not ask again")
}

// TestKeptNothing: a look that changed nothing leaves no file, a practice engine never does.
func TestKeptNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "screens")
	for _, s := range []*stage{realStage(t, dir), newStage(t, script(64), func(o *Options) { o.KeepDir = dir }).pull().size(80, 24).keys("2")} {
		if err := s.m.keep(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("something was kept: %v", err)
	}
}

// TestKeptSample reads a file of this version, and leaves alone what it cannot read.
func TestKeptSample(t *testing.T) {
	sample, err := os.ReadFile("testdata/kept/screen-1.json")
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseKept(sample)
	if err != nil || k.View != page.Workers || !k.LeaveAtOnce || k.Tables[page.Workers].Sort != "cpu" || len(k.Tables[page.Workers].Hidden) != 1 {
		t.Fatalf("%+v, %v", k, err)
	}
	newer := `{"schema":"provost.screen/2","view":"workers"}`
	for _, bad := range []string{newer, "", "null", "{", strings.Repeat(" ", maxKept+1)} {
		dir := t.TempDir()
		path := filepath.Join(dir, "e-1____x.json")
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		s := realStage(t, dir).shows("[1 Over]").keys("2")
		if err := s.m.keep(); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != bad {
			t.Errorf("a file that cannot be read was written over: %q", bad)
		}
	}
}

// FuzzKept: no file makes the screen fail, and what is taken over can be kept again.
func FuzzKept(f *testing.F) {
	for _, s := range []string{`{"schema":"provost.screen/1"}`, `{"schema":"provost.screen/1","view":"workers","tables":{"workers":{"sort":"-cpu","hidden":["id","rst"]},"x":{}},"hidden_views":["gpus","overview"]}`, `{"schema":"provost.screen/1","view":"duties","tables":{"hosts":{"sort":"nosuch"}}}`} {
		f.Add([]byte(s))
	}
	e := script(7)
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := parseKept(raw)
		if err != nil {
			return
		}
		s := newStage(t, e).pull().size(80, 24)
		s.m.apply(k)
		s.frame()
		if again := s.m.remembered(); again.Schema != keptSchema || again.LeaveAtOnce != k.LeaveAtOnce {
			t.Errorf("%+v became %+v", k, again)
		}
	})
}

// TestExport: a table goes to a CSV file as it is shown, logs and the overview as text.
func TestExport(t *testing.T) {
	dir := t.TempDir()
	s := newStage(t, script(2048), func(o *Options) { o.ExportDir = dir }).pull().fillLogs().size(200, 50)
	s.keys("2", "/").text("state=paused").keys("enter", "e")
	path := filepath.Join(dir, "provost-workers-20260302T110440Z.csv")
	if !strings.Contains(s.m.say, "rows written to "+path) {
		t.Fatalf("said %q", s.m.say)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if shown := s.m.screen(t, "state=paused"); len(rows)-1 != shown || rows[0][0] != "id" || !strings.Contains(strings.Join(rows[0], " "), "rss_bytes") {
		t.Errorf("%d rows, %d shown, head %v", len(rows)-1, shown, rows[0])
	}
	s.keys("e").shows("20260302T110440Z-2.csv") // never over a file that is there
	s.keys("1").frame()
	s.keys("ctrl+s").shows("the screen written to")
	text, err := os.ReadFile(filepath.Join(dir, "provost-overview-20260302T110440Z.txt"))
	if err != nil || !strings.Contains(string(text), "PRACTICE") {
		t.Errorf("%v: %.80s", err, text)
	}
	s.keys("9", "e").shows("lines written to")
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	none := newStage(t, script(7)).pull().size(80, 24)
	none.keys("e").shows("no directory to write to")
	gone := newStage(t, script(7), func(o *Options) { o.ExportDir = filepath.Join(dir, "gone") }).pull().size(80, 24)
	gone.keys("e").shows("export to ", "no such file")
}

// screen counts the rows that the shown table has.
func (m *model) screen(t *testing.T, filter string) int {
	t.Helper()
	f := m.page().(page.Filterer)
	if f.Filter() != filter {
		t.Fatalf("the filter is %q", f.Filter())
	}
	n := 0
	for i := range m.snap.Workers.Rows {
		if m.snap.Workers.Rows[i].State == engine.WorkerPaused {
			n++
		}
	}
	return n
}

// TestDoctorOverlay: trouble first, with what was seen and what to do; o shows the rest.
func TestDoctorOverlay(t *testing.T) {
	s := newStage(t, script(2048)).pull().size(80, 24)
	s.keys("D").shows("Doctor", "crit", "SOURCES", "seen", "o all of them").hides("m01 memory")
	s.keys("o").shows("ENGINE", "o trouble only").keys("G").shows("NODES")
	s.keys("esc").hides("Doctor ")
	s.keys(":").text("doctor").keys("enter").shows("Doctor")
}

// TestLogsSince: T asks from when on, a wrong answer says how, esc takes it back.
func TestLogsSince(t *testing.T) {
	s := newStage(t, script(64)).pull().fillLogs().size(80, 24)
	logs := func() streamer { return s.m.page().(streamer) }
	s.keys("9", "T").text("soon").keys("enter").shows("is no time").keys("ctrl+u").text("10m").keys("enter").shows("since 10:54:40Z")
	if q, _ := logs().Query(); q.Since == nil || !q.Since.Equal(curtain.Add(-10*60e9)) {
		t.Errorf("asks since %v", q.Since)
	}
	s.keys("T").text("23:00").keys("enter").shows("since 23:00:00Z")
	s.keys("esc").hides("since 23")
	if q, _ := logs().Query(); q.Since != nil {
		t.Errorf("still asks since %v", q.Since)
	}
}
