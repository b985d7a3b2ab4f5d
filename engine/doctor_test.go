package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"app.provost/prover"
)

func doctorScene(now time.Time) *Snapshot {
	at := func(d time.Duration) *time.Time { t := now.Add(-d); return &t }
	pools := []prover.HugePool{{PageKiB: 2048, Total: 100, Free: 14, Reserved: 4}}
	return &Snapshot{At: now, Engine: &One[Info]{Value: Info{Name: "e", PID: 7, StartedAt: now.Add(-time.Hour)}},
		Sources: &Section[SourceRow]{Rows: []SourceRow{{Name: "host", At: at(time.Second), PeriodS: 1}, {Name: "gpu", At: at(7 * time.Second), PeriodS: 1},
			{Name: "clock", At: at(time.Minute), PeriodS: 1, Problem: "no answer"}, {Name: "peers", PeriodS: 1, Problem: "not reachable"}}},
		Machines: &Section[MachineRow]{Rows: []MachineRow{{Key: Key{Machine: "m1"},
			Hugepages: Reading[[]prover.HugePool]{Value: &pools, At: at(time.Second), PeriodS: 5},
			Memory:    Reading[MemoryStat]{Problem: "open /proc/meminfo: permission denied"},
			GPUDriver: Reading[GPUDriver]{Value: &GPUDriver{Why: "libnvidia-ml.so.1 is not installed"}, At: at(time.Second), PeriodS: 5}}}},
		Workers: &Section[WorkerRow]{Rows: []WorkerRow{{ID: "w1", State: WorkerRun}, {ID: "w2", State: WorkerUnknown}}},
		Jobs:    &Jobs{Totals: JobTotals{Queued: 3}},
		Nodes:   &Section[NodeRow]{Rows: []NodeRow{{Dir: "/n0", State: "broken", Problem: "no lock"}}},
		Alerts: &Section[Finding]{Rows: []Finding{{Code: FindWorkerDown, Level: LevelCrit, Target: "worker/w3", Title: "w3 is down", Facts: []Fact{{"exit", "137"}}, Next: []NextKey{{Key: "s", Text: "start it"}}},
			{Code: FindWorkerDown, Level: LevelCrit, Target: "worker/w4", Title: "w4 was down", ClosedAt: at(time.Minute)}}},
	}
}

func TestDoctor(t *testing.T) {
	now := time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC)
	checks := Doctor(doctorScene(now), now)
	get := func(target, title string) Diagnosis {
		t.Helper()
		for _, c := range checks {
			if c.Target == target && strings.Contains(c.Title, title) {
				return c
			}
		}
		t.Fatalf("no check of %s with %q in %+v", target, title, checks)
		return Diagnosis{}
	}
	for _, x := range []struct {
		target, title string
		state         Health
	}{
		{"engine", "e answers", HealthOK}, {"source/host", "read 1s ago", HealthOK}, {"source/gpu", "is old", HealthWarn}, {"source/clock", "is silent", HealthCrit},
		{"source/peers", "never read", HealthUnknown}, {"host/m1", "14", HealthOK}, {"host/m1", "permission denied", HealthUnknown}, {"host/m1", "cpu: not read", HealthUnknown},
		{"host/m1", "has no GPU driver", HealthOK}, {"worker/w3", "w3 is down", HealthCrit}, {"workers", "1 of 2 were never heard", HealthUnknown}, {"jobs", "3 queued", HealthOK}, {"node/", "no lock", HealthWarn},
	} {
		if x.title == "14" {
			x.title = "hugepages: 10 of 100 free"
		}
		if c := get(x.target, x.title); c.State != x.state {
			t.Errorf("%s %q is %s, want %s", x.target, c.Title, c.State, x.state)
		}
	}
	if c := get("worker/w3", ""); len(c.Facts) != 1 || len(c.Fix) != 1 || c.Code != FindWorkerDown {
		t.Errorf("the finding lost its evidence: %+v", c)
	}
	last := 0
	for _, c := range checks {
		if strings.Contains(c.Title, "w4") {
			t.Error("a closed finding is listed")
		}
		at := slices.Index(Areas, c.Area)
		if at < last {
			t.Errorf("%s stands after %s", c.Area, Areas[last])
		}
		last = at
		if c.State != HealthOK && c.State != HealthNote && c.Looked == "" && len(c.Facts) == 0 && len(c.Fix) == 0 {
			t.Errorf("%s says neither what it saw nor what to do: %+v", c.Target, c)
		}
	}
	if w := WorstHealth(checks); w != HealthCrit {
		t.Errorf("all of it is %s", w)
	}
}

func TestDoctorOfNothing(t *testing.T) {
	now := time.Now()
	for _, s := range []*Snapshot{nil, {}} {
		if c := Doctor(s, now); len(c) != 1 || c[0].State != HealthUnknown || WorstHealth(c) != HealthUnknown {
			t.Errorf("%+v", c)
		}
	}
	if w := WorstHealth(nil); w != HealthUnknown {
		t.Errorf("no check at all is %s", w)
	}
	if w := WorstHealth([]Diagnosis{{State: HealthNote}, {State: HealthOK}}); w != HealthOK {
		t.Errorf("a note makes it %s", w)
	}
	if w := WorstHealth([]Diagnosis{{State: "new word"}, {State: HealthOK}}); w != HealthUnknown {
		t.Errorf("a state of a newer version makes it %s", w)
	}
}
