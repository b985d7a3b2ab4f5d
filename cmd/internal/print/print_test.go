package print

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"app.provost/engine"
	"app.provost/prover"

	"github.com/charmbracelet/x/ansi"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = time.Date(2026, 3, 2, 11, 4, 40, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

const hostile = "evil\x1b[2J\x1b]0;owned\x07\u202e\nnext\u009b31m\xff"

// golden compares with a file under testdata and writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (write it anew with -update):\n%s\nwant\n%s", name, got, want)
	}
}

func sample() *engine.Snapshot {
	node0 := engine.Key{Machine: "m1", Cluster: "c1", Node: "node0"}
	sub := func(id string) engine.Key { k := node0; k.ID = id; return k }
	at := func(d time.Duration) *time.Time { t := now.Add(-d); return &t }
	pools := []prover.HugePool{{PageKiB: 2048, Total: 15000, Free: 14, Reserved: 4, NUMA: []prover.NUMAPool{{Node: 0, Total: 7500, Free: 14}, {Node: 1, Total: 7500}}}, {PageKiB: 1 << 20}}
	return &engine.Snapshot{
		Schema: engine.SnapshotSchema, Gen: 7, At: now.Add(-time.Second),
		Engine: &engine.One[engine.Info]{Version: 1, Value: engine.Info{ID: "e1", Name: "default", PID: 4121, Version: "v0.1.0", StartedAt: now.Add(-26 * time.Hour), Practice: "simnet", Stopping: "workers",
			Unlocked: &engine.Unlocked{Until: now.Add(time.Minute), By: "ana", Reason: "swap"}}},
		Verdict: &engine.One[engine.Verdict]{Version: 1, Value: engine.Verdict{Word: engine.VerdictCritical, Since: now.Add(-4 * time.Minute), Restart: engine.Restart{Safe: ptr(false), Why: "a proof is under way"},
			Reasons: []engine.VerdictReason{{Level: engine.LevelCrit, Rule: engine.FindWorkerDown, Target: "worker/w2", Since: now.Add(-4 * time.Minute), Text: hostile + "|a=1", Effect: "one core proves nothing"}}}},
		Machines: &engine.Section[engine.MachineRow]{Version: 1, Rows: []engine.MachineRow{
			{Key: engine.Key{Machine: "m1"}, Hostname: "m1.example", Roles: []engine.Role{engine.RoleMachine}, Hugepages: engine.Reading[[]prover.HugePool]{Value: &pools, At: at(30 * time.Second), PeriodS: 5},
				Memory: engine.Reading[engine.MemoryStat]{Value: &engine.MemoryStat{TotalBytes: 64 << 30, AvailableBytes: 31 << 30, THP: "madvise"}, At: at(time.Second), PeriodS: 1}},
			{Key: engine.Key{Machine: "m2"}, Hugepages: engine.Reading[[]prover.HugePool]{Problem: "no such file"}}}},
		Workers: &engine.Section[engine.WorkerRow]{Version: 1, Rows: []engine.WorkerRow{
			{Key: engine.Key{Machine: "m1", ID: "w1"}, ID: "w1", Core: 1, State: engine.WorkerRun, Since: now.Add(-time.Hour), CPUPercent: ptr(96.2), RSSBytes: ptr(uint64(310 << 20)), Note: "全角 note"},
			{Key: engine.Key{Machine: "m1", ID: "w2"}, ID: "w2", Core: 2, State: engine.WorkerDown, Since: now.Add(-time.Minute), Note: hostile, LastExit: &engine.ExitRecord{At: now, Signal: "SIGKILL"}}}},
		GPUs: &engine.Section[engine.GPURow]{Version: 1, Rows: []engine.GPURow{{Key: engine.Key{Machine: "m1", ID: "GPU-1"}, State: "lost", At: now.Add(-time.Minute), PeriodS: 1, GPU: prover.GPU{Index: 2, UUID: "GPU-1", Model: "H200", TempC: ptr(61.0), MemUsed: ptr(prover.MiB(98304)), MemTotal: ptr(prover.MiB(142336)), Lost: "fell off the bus"}}}},
		Jobs: &engine.Jobs{Version: 1, Totals: engine.JobTotals{Submitted: 2, Verified: 1, Failed: 1, PerMinute: ptr(1.5)}, Hidden: 3, Rows: []engine.JobRow{
			{Key: engine.Key{ID: "j1"}, ID: "j1", Name: "=HYPERLINK()", State: prover.JobFailed, SubmittedAt: now.Add(-time.Hour), Failure: &prover.Failure{Code: "proof-invalid", Text: hostile}}}},
		Acts:   &engine.Section[engine.ActRow]{Version: 1, Rows: []engine.ActRow{{Key: engine.Key{ID: "a1"}, ID: "a1", Kind: engine.KindRestartWorkers, Target: "w1", Started: now, State: engine.ActRunning}}},
		Alerts: &engine.Section[engine.Finding]{Version: 1, Rows: []engine.Finding{{ID: "x", Level: engine.LevelCrit, Title: "t", Since: now, AckBy: "ana"}, {ID: "y", Level: engine.LevelNote, ClosedAt: &now}}},
		Nodes:  &engine.Section[engine.NodeRow]{Version: 1, Rows: []engine.NodeRow{{Name: "a"}, {Name: "b"}}},
		Clusters: &engine.Section[engine.ClusterRow]{Version: 1, Rows: []engine.ClusterRow{
			{Key: node0, Name: "a", Network: "hoodi", Slot: ptr(uint64(13802121)), Epoch: ptr(uint64(431316)), SlotAt: at(5 * time.Second), SlotS: ptr(12.0), SlotsPerEpoch: ptr(uint64(32)), Nodes: 4, Threshold: 3, Quorum: 3,
				PeersUp: ptr(4), Twins: 2, Ready: "ready", SigningOK: ptr(true), Attester: engine.DutyTotals{Done: 998, Missed: 2, Late: 5}, Proposer: engine.DutyTotals{Done: 3, Included: ptr(uint64(3))},
				Next:    []engine.NextDuty{{Type: "attester", Slot: 13802122, At: now.Add(7 * time.Second), Validator: "812201", Count: 4}, {Type: "proposer", Slot: 13802158, At: now.Add(439 * time.Second), Validator: "812204", Count: 1}},
				Restart: engine.Restart{Safe: ptr(true), ForS: ptr(419.0), Why: "the others reach quorum without it", Until: "proposal slot 13802158"}, Heads: ptr(uint64(13802121)), Since: now.Add(-24 * time.Hour), Seen: at(2 * time.Second)},
			{Key: engine.Key{Machine: "m1", Cluster: "c1", Node: "node1"}, Name: "a", Nodes: 4, Threshold: 3, Quorum: 3, Why: hostile, Seen: at(10 * time.Minute)}}},
		Duties: &engine.Section[engine.DutyRow]{Version: 1, Rows: []engine.DutyRow{
			{Key: sub("attester/13801957"), Type: "attester", Slot: 13801957, Epoch: 431311, At: now.Add(-33 * time.Minute), Deadline: at(32 * time.Minute), Validators: []string{"812140", "812141"}, State: engine.DutyMissed,
				Step: "parsig_ex", Partials: []int{1, 2}, Need: 3, Round: ptr(1), Reason: "insufficient_peer_signatures", Why: hostile},
			{Key: sub("proposer/13802158"), Type: "proposer", Slot: 13802158, At: now.Add(439 * time.Second), Validators: []string{"812204"}, State: engine.DutyKnown, Need: 3}}},
		Validators: &engine.Section[engine.ValidatorRow]{Version: 1, Rows: []engine.ValidatorRow{
			{Key: sub("0x8f2c41aa"), PubKey: "0x8f2c41aa", Index: ptr(uint64(812140)), Status: "active", BalanceGwei: ptr(uint64(32_011_400_000)), ActivationEpoch: ptr(uint64(400_000)), Attester: engine.DutyTotals{Done: 30, Missed: 1},
				Next: &engine.NextDuty{Type: "attester", Slot: 13802122, At: now.Add(7 * time.Second), Count: 1}, GuardTarget: ptr(uint64(431_315))},
			{Key: sub("0xac9077b0"), PubKey: "0xac9077b0", Status: "not deposited", StatusWhy: "no deposit is on the chain"}}},
		Peers: &engine.Section[engine.PeerRow]{Version: 1, Rows: []engine.PeerRow{
			{Key: sub("node0"), Name: "node0", Share: 1, Self: true, State: "up", PartialsPct: ptr(100.0), Late: ptr(uint64(0)), LockHash: "0x7b2e", LockSame: ptr(true)},
			{Key: sub("node3"), Name: "node3", Index: 3, Share: 4, State: "down", Since: at(time.Minute), Problem: hostile}}},
		Beacons: &engine.Section[engine.BeaconRow]{Version: 1, Rows: []engine.BeaconRow{{Key: sub("http://bn0:5052"), Address: "http://bn0:5052", State: "syncing", HeadSlot: ptr(uint64(13802000)), Behind: ptr(uint64(121)), Problem: hostile}}},
		Sources: &engine.Section[engine.SourceRow]{Version: 1, Rows: []engine.SourceRow{{Name: "gpu", At: at(61 * time.Second), PeriodS: 1, Problem: hostile}, {Name: "disk"}}},
	}
}

var plan = engine.Plan{Digest: "5d11e07a12bc", Title: "pause 60 workers on m18 for 45m, then resume", Targets: strings.Fields(strings.Repeat("worker/w ", 60)),
	Steps: []engine.Step{{Name: "drain", Text: "let each finish its job"}, {Name: "hold", Text: "until 11:51"}}, LeftOut: []engine.LeftOut{{Target: "worker/w4", Why: "paused already"}},
	Effects: []engine.Effect{{What: "workers up", Now: "2041", During: "1981", After: "2041"}}, Files: []engine.PlannedFile{{Path: "/d/node0/cluster-lock.json", Mode: "0400"}},
	Warnings: []string{hostile}, Undo: "provost resume worker host:m18", Irreversible: []string{"deposits"}, MadeAt: now}

var receipt = engine.Receipt{Key: "k", Act: "a18", Digest: "5d11e07a12bc", At: now, Title: "pause 60 workers", Jobs: []string{"j1", "j2"}, Files: []engine.PlannedFile{{Path: "/d/x", Mode: "0600"}},
	Facts: []engine.Fact{{Name: "lock hash", Value: "0x7b2e"}}, Notes: []string{hostile},
	Checks: []engine.Check{{Name: "lock.hash", Status: "passed"}, {Name: "node1.enr", Status: "failed", File: "node1/charon-enr-private-key", Field: "key", Text: hostile, Remedy: "restore it"}, {Name: "x", Status: "odd"}, {Name: "y", Status: "skipped"}, {Name: "z", Status: "warned", Text: "readable by others"}}}

// text writes everything that has a form for people.
func text(st Style) []byte {
	var b bytes.Buffer
	s := sample()
	head := func(name string) { fmt.Fprintf(&b, "== %s\n", name) }
	for _, t := range engine.Tables {
		r := Rows{Table: t, Snapshot: s, Rows: t.Rows(s), Now: now}
		head("get " + string(t.Name))
		r.Write(&b, Text, st)
		r.Write(&b, Name, st)
		head("describe " + t.One)
		if len(r.Rows) > 0 {
			r.Describe(&b, r.Rows[0], Text, true, st)
		}
	}
	head("plan")
	Plan(&b, plan, st)
	head("receipt")
	Receipt(&b, receipt, st)
	head("checks")
	Checks(&b, receipt, false, st)
	head("act")
	fmt.Fprintln(&b, ActLine(s.Acts.Rows[0], st))
	Unsettled(&b, engine.ActRow{Settled: []engine.Settled{{Target: "worker/w1", State: "done"}, {Target: "worker/w2", State: "refused", Why: hostile}}}, st)
	head("problem")
	Problem(&b, &engine.Problem{Code: engine.CodeNoSpace, Doing: "submit job", Cause: hostile, Remedy: "free some", More: []engine.Problem{{Cause: "and this"}}}, st)
	Problem(&b, errors.New(hostile), st)
	head("status")
	StatusText(&b, s, now, st)
	fmt.Fprintln(&b, StatusLine(s, now, st))
	line, code := Nagios(s, now)
	fmt.Fprintln(&b, code, line)
	head("journal and logs")
	fmt.Fprintln(&b, EntryLine(engine.Entry{N: 1, At: now, Level: engine.LevelWarn, What: "worker.exit", Actor: &engine.Actor{Name: "an a"}, Text: hostile, Facts: []engine.Fact{{Name: "why", Value: hostile}, {Name: "empty"}}}, st))
	fmt.Fprintln(&b, LogLine(engine.LogLine{At: &now, Source: "w1", Level: engine.LevelCrit, Text: hostile, Fields: "a=1", Dropped: 3}, st))
	fmt.Fprintln(&b, LogLine(engine.LogLine{Source: hostile, Text: "no time"}, st))
	head("hugepages")
	Hugepages(&b, s, now, st)
	return b.Bytes()
}

func TestText(t *testing.T) { golden(t, "text.golden", text(Style{})) }

func TestASCII(t *testing.T) {
	if i := bytes.IndexFunc(text(Style{ASCII: true}), func(r rune) bool { return r >= 0x80 && r != '°' }); i >= 0 {
		t.Errorf("not ASCII: %q", text(Style{ASCII: true})[max(0, i-30):i+10])
	}
}

// Colour repeats what the words say: without it the text is the same.
func TestColourOnlyRepeats(t *testing.T) {
	plain, coloured := text(Style{}), text(Style{Color: true})
	if bytes.Equal(plain, coloured) {
		t.Error("no colour at all")
	}
	if got := ansi.Strip(string(coloured)); got != string(plain) {
		a, b := strings.Split(got, "\n"), strings.Split(string(plain), "\n")
		for i := range min(len(a), len(b)) {
			if strings.TrimRight(a[i], " ") != b[i] {
				t.Errorf("line %d: %q, plain %q", i, a[i], b[i])
			}
		}
	}
}

func TestNothingActsOnATerminal(t *testing.T) {
	for i, r := range string(text(Style{})) {
		if hidden(r) && r != '\n' && r != '\t' {
			t.Fatalf("%U at %d", r, i)
		}
	}
}

// Every JSON object has a sample in testdata: what is read here keeps its meaning.
func TestJSON(t *testing.T) {
	s := sample()
	pf, err := NewPlanFile(plan, engine.RestartWorkers{Workers: "w1"})
	if err != nil {
		t.Fatal(err)
	}
	pf.Schema = engine.PlanSchema
	objects := map[string]any{"plan": pf, "receipt": ReceiptObject(receipt), "checks": ChecksObject("/d", receipt), "status": StatusOf(s, now), "problem": ProblemObject(&engine.Problem{Code: engine.CodeUsage, Exit: 2, Cause: "x"}),
		"entry": EntryObject(engine.Entry{N: 1, At: now, What: "act.done", Text: hostile}), "log": LogObject(engine.LogLine{Source: "w1", Text: "x"}), "hugepages": HugepagesObject(s)}
	for _, tab := range engine.Tables {
		objects[string(tab.Name)] = Rows{Table: tab, Snapshot: s, Rows: tab.Rows(s), Now: now}.Object()
	}
	for name, v := range objects {
		var b bytes.Buffer
		if err := JSON(&b, v); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".json", b.Bytes())
		var back struct {
			Schema string `json:"schema"`
		}
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || back.Schema != "provost."+name+"/1" {
			t.Errorf("%s: schema %q, %v", name, back.Schema, err)
		}
		var line bytes.Buffer
		if err := JSONLine(&line, v); err != nil || bytes.Count(line.Bytes(), []byte("\n")) != 1 {
			t.Errorf("%s is not one line: %v", name, err)
		}
	}
}

func TestSecretsAreNotEncoded(t *testing.T) {
	var b bytes.Buffer
	if err := JSON(&b, struct{ S engine.Secret }{engine.NewSecret("canary")}); err == nil || strings.Contains(b.String(), "canary") {
		t.Errorf("%v %s", err, b.String())
	}
}

func TestCSV(t *testing.T) {
	s := sample()
	for _, tab := range engine.Tables {
		var b bytes.Buffer
		if err := (Rows{Table: tab, Snapshot: s, Rows: tab.Rows(s), Now: now}).Write(&b, CSV, Style{}); err != nil {
			t.Fatal(err)
		}
		all, err := csv.NewReader(&b).ReadAll()
		if err != nil || len(all) != 1+tab.Len(s) || len(all[0]) != len(tab.Columns) {
			t.Errorf("%s: %d lines, %v", tab.Name, len(all), err)
		}
		for _, line := range all[1:] {
			for i, cell := range line {
				if strings.HasPrefix(cell, "=") || strings.ContainsAny(cell, "\x1b\n") || tab.Columns[i].Unit.Numeric() && strings.ContainsAny(cell, "?~%") {
					t.Errorf("%s.%s: %q", tab.Name, all[0][i], cell)
				}
			}
		}
	}
}

func TestEmptySnapshotIsUnknownNotZero(t *testing.T) {
	s := &engine.Snapshot{At: now}
	if line, code := Nagios(s, now); code != NagiosUnknown || line != "PROVOST UNKNOWN - readings are missing" {
		t.Errorf("%d %s", code, line)
	}
	if got := StatusLine(s, now, Style{}); !strings.HasSuffix(got, "status verdict=unknown") {
		t.Error(got)
	}
	if err := StatusText(io.Discard, s, now, Style{}); err != nil {
		t.Error(err)
	}
}

func TestNagiosCodes(t *testing.T) {
	for word, want := range map[engine.VerdictWord]int{engine.VerdictOK: 0, engine.VerdictDegraded: 1, engine.VerdictCritical: 2, engine.VerdictUnknown: 3, "new": 3} {
		s := &engine.Snapshot{Verdict: &engine.One[engine.Verdict]{Value: engine.Verdict{Word: word}}}
		if _, code := Nagios(s, now); code != want {
			t.Errorf("%s: %d, want %d", word, code, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add(hostile)
	f.Add("é漢\t\r\n\\x1b")
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if !utf8.ValidString(got) || strings.IndexFunc(got, hidden) >= 0 || Clean(got) != got {
			t.Fatalf("%q comes out as %q", s, got)
		}
		if ansi.Strip(got) != got {
			t.Fatalf("%q still has an escape sequence: %q", s, got)
		}
	})
}

func FuzzJSONText(f *testing.F) {
	f.Add(hostile)
	f.Add("\U000e0041\u2028")
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "")
		var b bytes.Buffer
		if err := JSON(&b, s); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(strings.TrimSuffix(b.String(), "\n"), hidden); i >= 0 {
			t.Fatalf("%q holds a character that acts: %q", s, b.String())
		}
		var back string
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || back != s {
			t.Fatalf("%q reads back as %q, %v", s, back, err)
		}
	})
}

func BenchmarkTable(b *testing.B) {
	rows := make([]engine.WorkerRow, 2048)
	for i := range rows {
		rows[i] = engine.WorkerRow{Key: engine.Key{Machine: "m1"}, ID: prover.WorkerFor(prover.Core(i + 1)), State: engine.WorkerRun, Since: now, CPUPercent: ptr(96.2), RSSBytes: ptr(uint64(310 << 20))}
	}
	s := &engine.Snapshot{Workers: &engine.Section[engine.WorkerRow]{Rows: rows}}
	tab, _ := engine.TableNamed("workers")
	r := Rows{Table: tab, Snapshot: s, Rows: tab.Rows(s), Now: now}
	b.ReportAllocs()
	for b.Loop() {
		r.Write(io.Discard, Text, Style{})
	}
}
