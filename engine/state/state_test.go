package state_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/engine"
	"app.provost/engine/catalog"
	"app.provost/engine/enginetest"
	"app.provost/engine/state"
	"app.provost/prover"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var allParts = []engine.SectionName{engine.SecMachines, engine.SecWorkers, engine.SecGPUs, engine.SecJobs, engine.SecNodes}

func options(store *enginetest.Store) state.Options {
	return state.Options{Info: engine.Info{ID: "e1", Machine: "m1", StartedAt: time.Now().UTC()}, Journal: store, Marks: store, Catalog: catalog.Fill, Parts: allParts}
}

// run starts a state that ends with the test; stop ends it earlier.
func run(t testing.TB, o state.Options) (s *state.State, stop func()) {
	t.Helper()
	s, err := state.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return s, stop
}

// bubble runs a test with a running state in a bubble.
func bubble(t *testing.T, test func(t *testing.T, s *state.State, store *enginetest.Store)) {
	synctest.Test(t, func(t *testing.T) {
		store := enginetest.NewStore()
		s, _ := run(t, options(store))
		test(t, s, store)
	})
}

// settle lets everything told be folded and published.
func settle() { time.Sleep(time.Second) }

func said(t *testing.T, store *enginetest.Store) (out []string) {
	t.Helper()
	es, _, _, err := store.Entries(0, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		out = append(out, e.What)
	}
	return out
}

func TestAtMostFourSnapshotsASecond(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		settle()
		before := s.Stats()
		for i := range 10_000 { // ten seconds
			s.Tell(state.PutWorker{Row: enginetest.Worker(1, uint64(i))}, state.PutWorker{Row: enginetest.Worker(2, uint64(i))})
			time.Sleep(time.Millisecond)
		}
		settle()
		st := s.Stats()
		if n := st.Published - before.Published; n < 38 || n > 42 {
			t.Errorf("%d snapshots in ten seconds", n)
		}
		if rows := s.Snapshot().Workers.List(); len(rows) != 2 || rows[0].JobsDone != 9999 {
			t.Errorf("%+v", rows)
		}
		if st.Dropped != 0 {
			t.Errorf("%d dropped", st.Dropped)
		}
		// Nothing changes: nothing is published, not even by told rows that are the same.
		before = s.Stats()
		for range 600 {
			s.Tell(state.PutWorker{Row: enginetest.Worker(1, 9999)})
			time.Sleep(time.Second)
		}
		if n := s.Stats().Published - before.Published; n != 0 {
			t.Errorf("%d snapshots without a change", n)
		}
	})
}

func TestObservationsMerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := state.New(options(enginetest.NewStore()))
		if err != nil {
			t.Fatal(err)
		}
		// Nobody folds yet: a storm of rows takes one place each.
		for i := range 100_000 {
			s.Tell(state.PutWorker{Row: enginetest.Worker(prover.Core(i%10+1), uint64(i))})
		}
		if st := s.Stats(); st.Waiting != 10 || st.Merged != 99_990 || st.Dropped != 0 {
			t.Errorf("%+v", st)
		}
		for i := range 5000 {
			s.Tell(state.Note{Entry: engine.Entry{What: "x", Text: fmt.Sprint(i)}})
		}
		if st := s.Stats(); st.Dropped != 5000-4096 {
			t.Errorf("%+v", st)
		}
		if _, err := s.Record(t.Context(), engine.Entry{}); engine.AsProblem("", err).Code != engine.CodeBusy {
			t.Errorf("a record beyond the bound: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		settle()
		if rows := s.Snapshot().Workers.List(); len(rows) != 10 || rows[9].JobsDone != 99_999 {
			t.Errorf("%d rows", len(rows))
		}
		if _, err := s.Record(t.Context(), engine.Entry{What: "y"}); err != nil {
			t.Errorf("with room again: %v", err)
		}
		cancel()
		<-done
	})
}

func TestSectionsAreSharedAndVersionsOnlyGrow(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, store *enginetest.Store) {
		s.Tell(state.PutWorker{Row: enginetest.Worker(1, 1)})
		settle()
		a := s.Snapshot()
		if v := a.Version(engine.SecWorkers); v < uint64(time.Now().Add(-time.Hour).UnixMicro()) {
			t.Errorf("version %d does not start from the clock", v)
		}
		s.Tell(state.PutSource{Row: engine.SourceRow{Key: engine.Key{Machine: "m1", ID: "cpu"}, Name: "cpu"}})
		settle()
		b := s.Snapshot()
		if a == b || a.Workers != b.Workers || a.Sources == b.Sources || b.Gen <= a.Gen {
			t.Error("an unchanged section is not shared, or a changed one is")
		}
		time.Sleep(time.Millisecond)
		again, err := state.New(options(store))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range engine.SectionNames {
			if v := again.Snapshot().Version(n); v != 0 && v <= b.Version(n) {
				t.Errorf("%s: version %d after a restart, %d before", n, v, b.Version(n))
			}
		}
	})
}

func TestPartsThatAreNotConfiguredAreNil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(enginetest.NewStore())
		o.Parts = []engine.SectionName{engine.SecMachines}
		s, _ := run(t, o)
		s.Tell(state.PutWorker{Row: enginetest.Worker(1, 1)}, state.PutJob{Row: engine.JobRow{Key: engine.Key{ID: "j"}}},
			state.SetGPUs{Machine: "m1", Rows: []engine.GPURow{{Key: engine.Key{Machine: "m1", ID: "g"}}}}, state.SetNodes{}, state.SetJobTotals{})
		settle()
		n := s.Snapshot()
		if n.Workers != nil || n.GPUs != nil || n.Jobs != nil || n.Nodes != nil || n.Machines == nil || n.Acts == nil || n.Alerts == nil || n.Sources == nil || n.Trends == nil {
			t.Errorf("%+v", n)
		}
		if n.Machines.Rows == nil || len(n.Machines.Rows) != 0 {
			t.Error("a configured part without rows is an empty list")
		}
		s.Tell(state.SetPart{Part: engine.SecGPUs, On: true})
		s.Tell(state.SetGPUs{Machine: "m1", Rows: []engine.GPURow{{Key: engine.Key{Machine: "m1", ID: "g"}}}})
		settle()
		if len(s.Snapshot().GPUs.List()) != 1 {
			t.Error("a part that was configured later shows nothing")
		}
	})
	o := options(enginetest.NewStore())
	o.Parts = []engine.SectionName{engine.SecAlerts}
	if _, err := state.New(o); err == nil {
		t.Error("alerts cannot be left out")
	}
}

func reading[T any](v T, at time.Time) *engine.Reading[T] {
	return &engine.Reading[T]{Value: &v, At: &at, PeriodS: 1}
}

func TestMachineGroupsMerge(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		k := engine.Key{Machine: "m1", ID: "m1"}
		at := time.Now()
		// Told before anything is folded, and after.
		s.Tell(state.Machine{Key: k, Hostname: "box", CPU: reading(engine.CPUStat{Load1: 1}, at)},
			state.Machine{Key: k, Memory: reading(engine.MemoryStat{TotalBytes: 5}, at)},
			state.Machine{Key: k, CPU: reading(engine.CPUStat{Load1: 2}, at)})
		settle()
		s.Tell(state.Machine{Key: k, Disks: reading([]engine.DiskStat{{Path: "/"}}, at)})
		settle()
		r := s.Snapshot().Machines.List()[0]
		if r.Hostname != "box" || r.CPU.Value.Load1 != 2 || r.Memory.Value.TotalBytes != 5 || len(*r.Disks.Value) != 1 || r.Clock.Value != nil {
			t.Errorf("%+v", r)
		}
		// A reading that failed keeps the last value and its time, and says why.
		s.Tell(state.Machine{Key: k, CPU: &engine.Reading[engine.CPUStat]{PeriodS: 1, Problem: "permission denied"}})
		settle()
		if c := s.Snapshot().Machines.List()[0].CPU; c.Value == nil || c.Value.Load1 != 2 || !c.At.Equal(at) || c.Problem == "" {
			t.Errorf("%+v", c)
		}
	})
}

func TestWorkers(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		for _, c := range []prover.Core{10, 2, 1} {
			s.Tell(state.PutWorker{Row: enginetest.Worker(c, 0)})
		}
		key := engine.Key{Machine: "m1", ID: "w2"}
		settle()
		// Two rooms tell parts of a row.
		rss := uint64(7)
		s.Tell(state.PatchWorker{Key: key, From: "host", Patch: func(r *engine.WorkerRow) { r.RSSBytes = &rss }},
			state.PatchWorker{Key: key, From: "queue", Patch: func(r *engine.WorkerRow) { r.State = engine.WorkerRun }},
			state.PatchWorker{Key: engine.Key{ID: "nobody"}, From: "queue", Patch: func(r *engine.WorkerRow) { t.Error("patched a row that is not there") }})
		at := time.Now()
		settle()
		rows := s.Snapshot().Workers.List()
		if len(rows) != 3 || rows[0].Core != 1 || rows[1].Core != 2 || rows[2].Core != 10 {
			t.Fatalf("%+v", rows)
		}
		if r := rows[1]; r.State != engine.WorkerRun || *r.RSSBytes != 7 || r.Since.Before(at) {
			t.Errorf("%+v", r)
		}
		since := rows[1].Since
		s.Tell(state.PatchWorker{Key: key, From: "queue", Patch: func(r *engine.WorkerRow) { r.JobsDone = 3 }})
		settle()
		if r := s.Snapshot().Workers.List()[1]; !r.Since.Equal(since) || r.JobsDone != 3 {
			t.Errorf("%+v", r)
		}
		s.Tell(state.RemoveWorker{Key: key})
		s.Tell(state.RemoveWorker{Key: key})
		settle()
		if len(s.Snapshot().Workers.List()) != 2 {
			t.Error("the row is still there")
		}
		s.Tell(state.PatchWorker{Key: engine.Key{Machine: "m1", ID: "w10"}, From: "x", Patch: func(r *engine.WorkerRow) { r.JobsDone = 9 }})
		settle()
		if s.Snapshot().Workers.List()[1].JobsDone != 9 {
			t.Error("after a removal rows are mixed up")
		}
	})
}

func TestGPUsAndNodesAreReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		gpu := func(m, id string, index int) engine.GPURow {
			return engine.GPURow{Key: engine.Key{Machine: m, ID: id}, GPU: prover.GPU{Index: index, UUID: id}}
		}
		s.Tell(state.SetGPUs{Machine: "m1", Rows: []engine.GPURow{gpu("m1", "b", 1), gpu("m1", "a", 0), gpu("m2", "x", 0)}},
			state.SetGPUs{Machine: "m2", Rows: []engine.GPURow{gpu("m2", "c", 0)}})
		settle()
		ids := func() (out []string) {
			for _, r := range s.Snapshot().GPUs.List() {
				out = append(out, r.Key.ID)
			}
			return out
		}
		if got := ids(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("%v", got)
		}
		v := s.Snapshot().Version(engine.SecGPUs)
		s.Tell(state.SetGPUs{Machine: "m2", Rows: []engine.GPURow{gpu("m2", "c", 0)}})
		settle()
		if s.Snapshot().Version(engine.SecGPUs) != v {
			t.Error("the same again is a new version")
		}
		s.Tell(state.SetGPUs{Machine: "m1"})
		s.Tell(state.SetNodes{Rows: []engine.NodeRow{{Key: engine.Key{Node: "node1"}}, {Key: engine.Key{Node: "node0"}}}})
		settle()
		if got := ids(); !slices.Equal(got, []string{"c"}) {
			t.Errorf("%v", got)
		}
		if n := s.Snapshot().Nodes.List(); len(n) != 2 || n[0].Key.Node != "node0" {
			t.Errorf("%+v", n)
		}
		s.Tell(state.SetNodes{})
		settle()
		if n := s.Snapshot().Nodes; n == nil || len(n.Rows) != 0 {
			t.Errorf("%+v", n)
		}
	})
}

func TestJobsAreBoundedAndCounted(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		at := time.Now()
		job := func(i int, st prover.JobState) state.Fact {
			end := at.Add(time.Duration(i) * time.Second)
			r := engine.JobRow{Key: engine.Key{Machine: "m1", ID: fmt.Sprint("j", i)}, ID: prover.JobID(fmt.Sprint("j", i)), State: st, SubmittedAt: end}
			if st.Final() {
				r.FinishedAt = &end
			}
			return state.PutJob{Row: r}
		}
		for i := range 1500 {
			s.Tell(job(i, prover.JobVerified))
		}
		for i := range 1200 {
			s.Tell(job(2000+i, prover.JobQueued))
		}
		s.Tell(state.SetJobTotals{Totals: engine.JobTotals{Submitted: 3000, Verified: 1790, Failed: 10, Queued: 1200}})
		settle()
		j := s.Snapshot().Jobs
		if len(j.Rows) != 2200 || j.Hidden != 800 || j.Rows[0].ID != "j2000" || j.Rows[1199].ID != "j3199" || j.Rows[1200].ID != "j1499" || j.Rows[2199].ID != "j500" {
			t.Errorf("%d rows, %d hidden, %s %s %s", len(j.Rows), j.Hidden, j.Rows[0].ID, j.Rows[1200].ID, j.Rows[len(j.Rows)-1].ID)
		}
		if j.Totals.PerMinute != nil {
			t.Error("a rate before a minute has passed")
		}
		s.Tell(job(2000, prover.JobVerified), state.SetJobTotals{Totals: engine.JobTotals{Submitted: 3000, Verified: 1791, Failed: 10, Queued: 1199}})
		time.Sleep(59 * time.Second)
		settle()
		j = s.Snapshot().Jobs
		if j.Totals.PerMinute == nil || *j.Totals.PerMinute != 1 || j.Rows[1199].ID != "j2000" {
			t.Errorf("%+v, newest finished %s", j.Totals, j.Rows[1199].ID)
		}
		for i := range uint64(120) { // two a second
			s.Tell(state.SetJobTotals{Totals: engine.JobTotals{Submitted: 3000, Verified: 1791 + 2*i}})
			time.Sleep(time.Second)
		}
		if p := s.Snapshot().Jobs.Totals.PerMinute; p == nil || *p < 116 || *p > 124 {
			t.Errorf("per minute %v, want about 120", *p)
		}
		time.Sleep(2 * time.Minute)
		if p := s.Snapshot().Jobs.Totals.PerMinute; p == nil || *p != 0 {
			t.Errorf("at rest per minute is %v", *p)
		}
		s.Tell(state.RemoveJob{Key: engine.Key{Machine: "m1", ID: "j2001"}})
		settle()
		if slices.ContainsFunc(s.Snapshot().Jobs.Rows, func(r engine.JobRow) bool { return r.ID == "j2001" }) {
			t.Error("a removed job is listed")
		}
	})
}

func TestActsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		for i := 1; i <= 500; i++ {
			st := engine.ActDone
			if i%100 == 1 {
				st = engine.ActHolding
			}
			id := fmt.Sprint("a", i)
			s.Tell(state.PutAct{Row: engine.ActRow{Key: engine.Key{Machine: "m1", ID: id}, ID: id, State: st}})
		}
		settle()
		rows := s.Snapshot().Acts.List()
		if len(rows) != 205 || rows[0].ID != "a500" || rows[204].ID != "a1" || rows[203].ID != "a101" {
			t.Errorf("%d acts, %s … %s", len(rows), rows[0].ID, rows[len(rows)-1].ID)
		}
	})
}

func TestTrends(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		k := engine.Key{Machine: "m1"}
		for i := range 20 {
			v := float64(i)
			s.Tell(state.Sample{Key: k, Name: "cpu", Unit: "percent", Value: &v})
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Second)
		tr := s.Snapshot().Trends.List()
		if len(tr) != 1 || tr[0].StepS != 5 || tr[0].Name != "cpu" {
			t.Fatalf("%+v", tr)
		}
		var got []string
		for _, v := range tr[0].Values {
			if v == nil {
				got = append(got, "-")
			} else {
				got = append(got, fmt.Sprint(*v))
			}
		}
		if s := strings.Join(got, " "); s != "4 9 14 19 -" && s != "4 9 14 19 - -" {
			t.Errorf("values %s", s)
		}
		old := tr[0].Values
		first := *old[0]
		for i := range 1000 {
			v := 1000 + float64(i)
			s.Tell(state.Sample{Key: k, Name: "cpu", Unit: "percent", Value: &v})
			time.Sleep(5 * time.Second)
		}
		if n := len(s.Snapshot().Trends.List()[0].Values); n != 120 {
			t.Errorf("%d values", n)
		}
		if *old[0] != first {
			t.Error("an old snapshot's trend changed")
		}
		time.Sleep(11 * time.Minute)
		if n := len(s.Snapshot().Trends.List()); n != 0 {
			t.Errorf("%d trends after ten silent minutes", n)
		}
	})
}

func TestUnlockEndsByItself(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, store *enginetest.Store) {
		s.Tell(state.PatchInfo{From: "life", Patch: func(i *engine.Info) { i.Version = "1.2.3"; i.Viewers = []string{"nobody"} }})
		if err := s.TellWait(t.Context(), state.SetUnlocked{Unlocked: &engine.Unlocked{Until: time.Now().Add(15 * time.Minute), By: "ana"}}); err != nil {
			t.Fatal(err)
		}
		i := s.Snapshot().Engine.Value
		if i.Unlocked == nil || i.Version != "1.2.3" || len(i.Viewers) != 0 {
			t.Errorf("%+v", i)
		}
		time.Sleep(16 * time.Minute)
		if s.Snapshot().Engine.Value.Unlocked != nil {
			t.Error("still unlocked")
		}
		if got := said(t, store); !slices.Equal(got, []string{"lock.closed"}) {
			t.Errorf("journal %v", got)
		}
	})
}

func TestFeedKeepsItsPace(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		f, err := s.Watch(t.Context(), engine.WatchOptions{Every: 3 * time.Second, Sections: []engine.SectionName{engine.SecWorkers}})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		start := time.Now()
		if _, err := f.Next(t.Context()); err != nil || time.Since(start) != 0 {
			t.Fatalf("the first update took %s: %v", time.Since(start), err)
		}
		stop := make(chan struct{})
		var teller sync.WaitGroup
		teller.Go(func() {
			for i := uint64(0); ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
					s.Tell(state.PutWorker{Row: enginetest.Worker(1, i)})
				}
			}
		})
		for range 5 {
			before := time.Now()
			u, err := f.Next(t.Context())
			if took := time.Since(before); err != nil || took != 3*time.Second {
				t.Errorf("an update after %s: %v", took, err)
			}
			if age := time.Since(u.Snapshot.At); age > 250*time.Millisecond {
				t.Errorf("it is %s old: not the newest", age)
			}
		}
		close(stop)
		teller.Wait()
	})
}

func TestFeedEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, store *enginetest.Store) {
		ctx, cancel := context.WithCancel(t.Context())
		f, err := s.Watch(ctx, engine.WatchOptions{Viewer: "ana@bastion"})
		if err != nil {
			t.Fatal(err)
		}
		settle()
		if v := s.Snapshot().Engine.Value.Viewers; !slices.Equal(v, []string{"ana@bastion"}) {
			t.Errorf("viewers %v", v)
		}
		cancel()
		settle()
		if _, err := f.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("next gave %v", err)
		}
		if v := s.Snapshot().Engine.Value.Viewers; len(v) != 0 {
			t.Errorf("viewers %v", v)
		}
		f.Close()
		if got := said(t, store); !slices.Equal(got, []string{"screen.attached", "screen.lost"}) {
			t.Errorf("journal %v", got)
		}
	})
}

func TestLastWordsAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := enginetest.NewStore()
		s, stop := run(t, options(store))
		after := uint64(0)
		f, err := s.Watch(t.Context(), engine.WatchOptions{After: &after, Every: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Tell(state.SetStopping{Step: "state"}, state.Note{Entry: engine.Entry{What: "engine.stop", Text: "bye"}})
		stop()
		u, err := f.Next(t.Context())
		if err != nil || u.Snapshot.Engine.Value.Stopping != "state" || len(u.Entries) != 1 || u.Entries[0].Text != "bye" {
			t.Errorf("%+v %v", u, err)
		}
		if _, err := f.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("then %v", err)
		}
		if _, err := s.Record(t.Context(), engine.Entry{}); engine.AsProblem("", err).Code != engine.CodeStopping {
			t.Errorf("an entry after the stop: %v", err)
		}
		if err := s.TellWait(t.Context(), state.SetStopping{}); engine.AsProblem("", err).Code != engine.CodeStopping {
			t.Errorf("a fact after the stop: %v", err)
		}
		s.Tell(state.SetStopping{})
	})
}

func TestJournalGoesOnAfterAFullDisk(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, store *enginetest.Store) {
		full := errors.New("no space")
		store.Break(full)
		s.Tell(state.Note{Entry: engine.Entry{What: "worker.exit", Text: "one"}})
		if _, err := s.Record(t.Context(), engine.Entry{What: "act.asked"}); !errors.Is(err, full) {
			t.Errorf("whoever waits is told: %v", err)
		}
		s.Tell(state.Note{Entry: engine.Entry{What: "worker.start", Text: "two"}})
		settle()
		if !s.Stats().JournalFailing {
			t.Error("the failure is not shown")
		}
		for range 10_000 {
			s.Tell(state.Note{Entry: engine.Entry{What: "flood"}})
		}
		if st := s.Stats(); st.Dropped == 0 {
			t.Error("nothing bounds what waits")
		}
		store.Break(nil)
		time.Sleep(3 * time.Second)
		got := said(t, store)
		if len(got) != 4096 || got[0] != "worker.exit" || got[1] != "worker.start" || slices.Contains(got, "act.asked") || s.Stats().JournalFailing {
			t.Errorf("%d entries: %v", len(got), got[:min(3, len(got))])
		}
	})
}

func TestFeedReadsOldEntriesFromTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := enginetest.NewStore()
		for i := range 2500 {
			store.Append(engine.Entry{What: "old", Text: fmt.Sprint(i)})
		}
		store.Trim(101)
		s, _ := run(t, options(store))
		if _, err := s.Record(t.Context(), engine.Entry{What: "new"}); err != nil {
			t.Fatal(err)
		}
		settle()
		after := uint64(0)
		f, err := s.Watch(t.Context(), engine.WatchOptions{After: &after})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var ns []uint64
		for len(ns) < 2401 {
			u, err := f.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if (u.Gap != nil) != (len(ns) == 0) || u.Gap != nil && *u.Gap != (engine.Gap{From: 1, To: 100}) {
				t.Errorf("gap %+v at %d", u.Gap, len(ns))
			}
			if len(u.Entries) > 1000 {
				t.Errorf("%d entries at once", len(u.Entries))
			}
			for _, e := range u.Entries {
				ns = append(ns, e.N)
			}
		}
		for i, n := range ns {
			if n != uint64(101+i) {
				t.Fatalf("entry %d is number %d", i, n)
			}
		}
	})
}

// TestCrowd is for the race detector: many tellers and readers at once, and no update lost at the end.
func TestCrowd(t *testing.T) {
	store := enginetest.NewStore()
	s, stop := run(t, options(store))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 300 {
				core := prover.Core(w + 1)
				s.Tell(state.PutWorker{Row: enginetest.Worker(core, uint64(i))}, state.Note{Entry: engine.Entry{What: "x"}},
					state.PatchWorker{Key: enginetest.Worker(core, 0).Key, From: "p", Patch: func(r *engine.WorkerRow) { r.Note = "n" }},
					state.Sample{Key: engine.Key{Machine: "m1"}, Name: fmt.Sprint(w)})
				if rand.IntN(20) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			after := uint64(0)
			f, err := s.Watch(context.Background(), engine.WatchOptions{After: &after, Viewer: "v"})
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			seen := uint64(0)
			for {
				u, err := f.Next(context.Background())
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Error(err)
					}
					return
				}
				for _, e := range u.Entries {
					if e.N != seen+1 {
						t.Errorf("entry %d after %d", e.N, seen)
					}
					seen = e.N
				}
				for _, r := range u.Snapshot.Workers.List() {
					_ = r.Note
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	stop()
	wg.Wait()
	rows := s.Snapshot().Workers.List()
	if len(rows) != 8 {
		t.Fatalf("%d rows", len(rows))
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{2048, 20_000} {
		for _, moved := range []int{1, n} {
			b.Run(fmt.Sprintf("workers=%d/changed=%d", n, moved), func(b *testing.B) {
				state.BenchPublish(b, n, moved)
			})
		}
	}
}

func BenchmarkTell(b *testing.B) {
	s, err := state.New(options(enginetest.NewStore()))
	if err != nil {
		b.Fatal(err)
	}
	rows := make([]state.Fact, 2048)
	for i := range rows {
		rows[i] = state.PutWorker{Row: enginetest.Worker(prover.Core(i+1), 0)}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Tell(rows[i%len(rows)])
	}
}
