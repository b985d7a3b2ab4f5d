package scripted

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

var day = time.Date(2026, 3, 2, 11, 4, 40, 0, time.UTC)

// clock is a time that a test sets.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func still(t *testing.T, o Options, at time.Duration) *engine.Snapshot {
	t.Helper()
	o.Start, o.Still = day, &at
	return New(o).pub.Load().snap
}

// to plays an engine up to a moment, as Run does, in steps.
func to(e *Engine, c *clock, at, step time.Duration) *engine.Snapshot {
	for c.t.Sub(e.o.Start) < at {
		c.t = c.t.Add(min(step, at-c.t.Sub(e.o.Start)))
		e.mu.Lock()
		if e.s.advance(e.moment()) {
			e.publishLocked(false)
		}
		e.mu.Unlock()
	}
	return e.pub.Load().snap
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// same compares two values and names the first line that differs.
func same(t *testing.T, what string, a, b any) {
	t.Helper()
	x, y := strings.Split(asJSON(t, a), "\n"), strings.Split(asJSON(t, b), "\n")
	for i := range x {
		if i >= len(y) || x[i] != y[i] {
			t.Fatalf("%s: line %d: %q, then %q\nafter %s", what, i, x[i], y[min(i, len(y)-1)], strings.Join(x[max(i-6, 0):i], "\n"))
		}
	}
}

func TestSameMomentSameSnapshot(t *testing.T) {
	for _, at := range []time.Duration{0, 250 * time.Millisecond, 47 * time.Second, 12*time.Minute + 3*time.Second + 500*time.Millisecond} {
		o := Options{Seed: 7, Workers: 300}
		jump := still(t, o, at)
		for _, step := range []time.Duration{250 * time.Millisecond, 1750 * time.Millisecond} {
			c := &clock{day}
			o.Start, o.Now = day, c.now
			same(t, fmt.Sprintf("%s in steps of %s", at, step), jump, to(New(o), c, at, step))
		}
	}
	a, b := still(t, Options{Seed: 1}, time.Minute), still(t, Options{Seed: 2}, time.Minute)
	if reflect.DeepEqual(a.Workers, b.Workers) {
		t.Error("another seed gives the same workers")
	}
	if a.Gen != 241 || a.At != day.Add(time.Minute) {
		t.Errorf("gen %d at %s", a.Gen, a.At)
	}
}

func TestEverythingIsThere(t *testing.T) {
	s := still(t, Options{Seed: 1}, 0)
	if len(s.Workers.Rows) != 2048 || len(s.Machines.Rows) != 32 || len(s.GPUs.Rows) != 9 || len(s.Nodes.Rows) != 4 {
		t.Fatalf("%d workers, %d machines, %d gpus, %d nodes", len(s.Workers.Rows), len(s.Machines.Rows), len(s.GPUs.Rows), len(s.Nodes.Rows))
	}
	states := map[engine.WorkerState]int{}
	for _, w := range s.Workers.Rows {
		states[w.State]++
		if (w.State == engine.WorkerRun) != (w.Job != nil) && w.State != engine.WorkerPausing && w.State != engine.WorkerStale {
			t.Errorf("%s is %s with job %v", w.ID, w.State, w.Job)
		}
		if w.Since.After(s.At) || w.HeardAt != nil && w.HeardAt.After(s.At) {
			t.Errorf("%s: since %s heard %s", w.ID, w.Since, w.HeardAt)
		}
	}
	for _, st := range []engine.WorkerState{engine.WorkerRun, engine.WorkerIdle, engine.WorkerStart, engine.WorkerPausing, engine.WorkerPaused, engine.WorkerStale, engine.WorkerDown, engine.WorkerGone, engine.WorkerHeld, engine.WorkerUnknown} {
		if states[st] == 0 {
			t.Errorf("no worker is %s: %v", st, states)
		}
	}
	gpus := map[string]int{}
	for _, g := range s.GPUs.Rows {
		gpus[g.State]++
		gpus[g.GPU.Model]++
	}
	for _, want := range []string{"run", "idle", "hot", "lost", "NVIDIA H200"} {
		if gpus[want] == 0 {
			t.Errorf("no GPU is %s: %v", want, gpus)
		}
	}
	old := 0
	for _, g := range s.GPUs.Rows {
		if f := engine.FreshnessOf(s.At, &g.At, time.Duration(g.PeriodS*1e9)); f == engine.Old || f == engine.Lost {
			old++
		}
	}
	if old != 1 {
		t.Errorf("%d GPUs have an old reading", old)
	}
	short, stale := 0, 0
	for _, m := range s.Machines.Rows {
		if v := m.Memory.Value; v.AvailableBytes*20 < v.TotalBytes {
			short++
		}
		if f := m.Hugepages.Freshness(s.At); f == engine.Old || f == engine.Lost {
			stale++
		}
		for _, p := range *m.Hugepages.Value {
			free := uint64(0)
			for _, n := range p.NUMA {
				free += n.Free
			}
			if free != p.Free {
				t.Errorf("%s: %d pages free on the nodes, %d in all", m.Key.Machine, free, p.Free)
			}
		}
	}
	if short != 1 || stale != 1 {
		t.Errorf("%d machines are short of memory, %d have old pages", short, stale)
	}
	if s.Engine.Value.Practice == "" || s.Verdict.Value.Word != engine.VerdictCritical || len(s.Verdict.Value.Reasons) < 4 {
		t.Errorf("%+v %+v", s.Engine.Value, s.Verdict.Value)
	}
	holding := 0
	for _, a := range s.Acts.Rows {
		if a.State == engine.ActHolding && a.Until != nil {
			holding++
		}
	}
	if holding == 0 || len(s.Alerts.Rows) < 6 {
		t.Errorf("%d acts hold, %d findings", holding, len(s.Alerts.Rows))
	}
	for _, f := range s.Alerts.Rows {
		if f.Title == "" || f.ID == "" || f.Effect == "" || f.Count < 1 {
			t.Errorf("%+v", f)
		}
	}
	for _, tr := range s.Trends.Rows {
		if len(tr.Values)*int(tr.StepS) != 600 {
			t.Errorf("%s has %d marks", tr.Name, len(tr.Values))
		}
	}
	j := s.Jobs.Totals
	if j.Verified == 0 || j.Leased < 2000 || j.PerMinute == nil || *j.PerMinute < 1000 || j.Submitted != j.Queued+j.Leased+j.Proved+j.Verified+j.Failed+j.Cancelled {
		t.Errorf("%+v", j)
	}
}

// TestWalk plays 25 minutes and holds what must hold at every moment.
func TestWalk(t *testing.T) {
	c := &clock{day}
	e := New(Options{Seed: 3, Workers: 512, Start: day, Now: c.now})
	old := e.pub.Load().snap
	done := map[prover.WorkerID]uint64{}
	states := map[string]bool{}
	verified := old.Jobs.Totals.Verified
	for at := 2 * time.Second; at < 25*time.Minute; at += 2 * time.Second {
		s := to(e, c, at, 2*time.Second)
		if s.Gen <= old.Gen {
			t.Fatalf("%s: generation %d after %d", at, s.Gen, old.Gen)
		}
		for _, n := range engine.SectionNames {
			if s.Version(n) < old.Version(n) {
				t.Fatalf("%s: %s has version %d after %d", at, n, s.Version(n), old.Version(n))
			}
		}
		if s.Alerts.Version == old.Alerts.Version && !reflect.DeepEqual(s.Alerts, old.Alerts) || s.Nodes != old.Nodes {
			t.Fatalf("%s: a section changed and kept its version", at)
		}
		ids := map[prover.JobID]bool{}
		for _, j := range s.Jobs.Rows {
			if ids[j.ID] {
				t.Fatalf("%s: job %s is listed twice", at, j.ID)
			}
			ids[j.ID] = true
		}
		for _, w := range s.Workers.Rows {
			if w.JobsDone < done[w.ID] {
				t.Fatalf("%s: %s had done %d jobs, now %d", at, w.ID, done[w.ID], w.JobsDone)
			}
			done[w.ID] = w.JobsDone
			states[string(w.State)] = true
			if w.Progress != nil && (*w.Progress < 0 || *w.Progress > 1) {
				t.Fatalf("%s: %s is at %v", at, w.ID, *w.Progress)
			}
		}
		if now := s.Jobs.Totals.Verified; now+60 < verified {
			t.Fatalf("%s: %d jobs verified, then %d", at, verified, now)
		} else {
			verified = max(verified, now)
		}
		for _, g := range s.GPUs.Rows {
			states["gpu "+g.State] = true
		}
		old = s
	}
	what := map[string]int{}
	for i, en := range e.s.journal {
		what[en.What]++
		if en.N != uint64(i+1) || i > 0 && en.At.Before(e.s.journal[i-1].At) {
			t.Fatalf("entry %d has number %d at %s", i, en.N, en.At)
		}
	}
	for _, want := range []string{"alert.raised", "alert.closed", "worker.exit", "worker.start", "job.verified", "act.asked", "act.done"} {
		if what[want] < 2 {
			t.Errorf("%s: %d entries", want, what[want])
		}
	}
	for _, a := range old.Acts.Rows {
		if a.State == engine.ActDone && a.Kind == engine.KindPauseWorkers {
			return
		}
	}
	t.Error("no pause has ended in 25 minutes")
}

func TestUnchangedRowsAreShared(t *testing.T) {
	c := &clock{day}
	e := New(Options{Start: day, Now: c.now})
	a := to(e, c, 250*time.Millisecond, 250*time.Millisecond)
	b := to(e, c, 500*time.Millisecond, 250*time.Millisecond)
	other := 0
	for i := range a.Workers.Rows {
		if a.Workers.Rows[i].Progress != b.Workers.Rows[i].Progress {
			other++
		}
	}
	if other == 0 || other > 2048/20 {
		t.Errorf("%d of 2048 rows were made anew in a quarter of a second", other)
	}
	if a.Machines != b.Machines || a.Alerts != b.Alerts || a.Nodes != b.Nodes || a.Trends != b.Trends {
		t.Error("a section that did not change is another one")
	}
}

func order(t *testing.T, e *Engine, via engine.Via, a engine.Action) (engine.Receipt, error) {
	t.Helper()
	r := engine.Request{Key: engine.NewKey(), Action: a, Actor: engine.Actor{Name: "bo", Via: via}}
	p, err := e.Preview(t.Context(), r)
	if err != nil {
		return engine.Receipt{}, err
	}
	return e.Do(t.Context(), r, p.Digest)
}

func code(err error) engine.Code {
	var p *engine.Problem
	if !errors.As(err, &p) {
		return ""
	}
	return p.Code
}

func worker1(s *engine.Snapshot, id string) engine.WorkerRow {
	i := slices.IndexFunc(s.Workers.Rows, func(w engine.WorkerRow) bool { return string(w.ID) == id })
	return s.Workers.Rows[i]
}

func TestPauseByHand(t *testing.T) {
	c := &clock{day}
	e := New(Options{Workers: 100, Start: day, Now: c.now})
	pause := engine.PauseWorkers{Workers: "w20-w24", For: engine.Duration(2 * time.Minute), Reason: "look"}
	if _, err := order(t, e, engine.ViaScreen, pause); code(err) != engine.CodeLocked {
		t.Fatalf("a locked screen: %v", err)
	}
	if _, err := order(t, e, engine.ViaScreen, engine.UnlockScreens{For: engine.Duration(time.Minute), Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	r := engine.Request{Key: "k1", Action: pause, Actor: engine.Actor{Name: "bo", Via: engine.ViaScreen}}
	p, err := e.Preview(t.Context(), r)
	if err != nil || len(p.Targets) != 5 || len(p.Effects) == 0 || p.Undo == "" || p.Consent.Level != "enter" {
		t.Fatalf("%+v %v", p, err)
	}
	if _, err := e.Do(t.Context(), r, ""); code(err) != engine.CodePlanNeeded {
		t.Errorf("no digest: %v", err)
	}
	if _, err := e.Do(t.Context(), r, "000000000000"); code(err) != engine.CodePlanChanged {
		t.Errorf("another digest: %v", err)
	}
	first, err := e.Do(t.Context(), r, p.Digest)
	if err != nil || first.Done || first.Act == "" {
		t.Fatalf("%+v %v", first, err)
	}
	again, err := e.Do(t.Context(), r, p.Digest)
	if err != nil || !again.Repeated || again.Act != first.Act {
		t.Fatalf("the same key: %+v %v", again, err)
	}
	other := r
	other.Action = engine.LockScreens{}
	if _, err := e.Do(t.Context(), other, p.Digest); code(err) != engine.CodeUsage {
		t.Errorf("the same key for something else: %v", err)
	}
	s := to(e, c, 250*time.Millisecond, 250*time.Millisecond)
	if w := worker1(s, "w20"); w.State != engine.WorkerPausing || w.Desired != engine.WishPaused || w.PauseUntil == nil {
		t.Errorf("%+v", w)
	}
	if a := s.Acts.Rows[0]; a.ID != first.Act || a.State != engine.ActRunning || a.Reason != "look" {
		t.Errorf("%+v", a)
	}
	if _, err := order(t, e, engine.ViaCLI, pause); code(err) != engine.CodeNoMatch {
		t.Errorf("paused twice: %v", err)
	}
	s = to(e, c, 30*time.Second, 250*time.Millisecond)
	w := worker1(s, "w22")
	if w.State != engine.WorkerPaused || w.Job != nil {
		t.Errorf("%+v", w)
	}
	if a := s.Acts.Rows[slices.IndexFunc(s.Acts.Rows, func(a engine.ActRow) bool { return a.ID == first.Act })]; a.State != engine.ActHolding || a.Until == nil || !a.Until.Equal(day.Add(2*time.Minute)) {
		t.Errorf("%+v", a)
	}
	if s.Engine.Value.Unlocked == nil {
		t.Error("locked too early")
	}
	done := w.JobsDone
	s = to(e, c, 119*time.Second, 250*time.Millisecond)
	if w := worker1(s, "w22"); w.JobsDone != done || w.State != engine.WorkerPaused || s.Engine.Value.Unlocked != nil {
		t.Errorf("%+v, unlocked %v", w, s.Engine.Value.Unlocked)
	}
	s = to(e, c, 121*time.Second, 250*time.Millisecond)
	if w := worker1(s, "w22"); w.State != engine.WorkerRun && w.State != engine.WorkerIdle {
		t.Errorf("it goes on by itself: %+v", w)
	}

	// Resumed early, the act is over.
	r2, err := order(t, e, engine.ViaCLI, pause)
	if err != nil {
		t.Fatal(err)
	}
	to(e, c, 150*time.Second, time.Second)
	if _, err := order(t, e, engine.ViaCLI, engine.ResumeWorkers{Workers: "w20-w24"}); err != nil {
		t.Fatal(err)
	}
	s = to(e, c, 151*time.Second, time.Second)
	a := s.Acts.Rows[slices.IndexFunc(s.Acts.Rows, func(a engine.ActRow) bool { return a.ID == r2.Act })]
	if a.State != engine.ActDone || a.Ended == nil || !strings.Contains(a.Text, "resumed by bo") {
		t.Errorf("%+v", a)
	}

	// Cancelled, its workers go on.
	r3, err := order(t, e, engine.ViaCLI, pause)
	if err != nil {
		t.Fatal(err)
	}
	to(e, c, 180*time.Second, time.Second)
	if _, err := order(t, e, engine.ViaCLI, engine.CancelAct{ID: r3.Act}); err != nil {
		t.Fatal(err)
	}
	s = to(e, c, 181*time.Second, time.Second)
	if w := worker1(s, "w21"); w.State == engine.WorkerPaused || w.Desired != engine.WishRun {
		t.Errorf("%+v", w)
	}
	if a := s.Acts.Rows[slices.IndexFunc(s.Acts.Rows, func(a engine.ActRow) bool { return a.ID == r3.Act })]; a.State != engine.ActCancelled {
		t.Errorf("%+v", a)
	}
	for i, en := range e.s.journal {
		if en.N != uint64(i+1) {
			t.Fatalf("entry %d has number %d", i, en.N)
		}
	}
}

func TestOtherActs(t *testing.T) {
	c := &clock{day}
	e := New(Options{Start: day, Now: c.now})
	if p, err := e.Preview(t.Context(), engine.Request{Action: engine.PauseWorkers{Workers: "all", For: engine.Duration(time.Minute), Reason: "x"}}); err != nil || p.Consent.Level != "type" || p.Consent.Phrase != fmt.Sprint(len(p.Targets)) {
		t.Errorf("%+v %v", p.Consent, err)
	}
	// A worker that was given up starts again and its alert closes.
	if w := worker1(e.pub.Load().snap, "w640"); w.State != engine.WorkerHeld {
		t.Fatalf("%+v", w)
	}
	if _, err := order(t, e, engine.ViaCLI, engine.RestartWorkers{Workers: "w640", Reason: "again"}); err != nil {
		t.Fatal(err)
	}
	s := to(e, c, 30*time.Second, time.Second)
	if w := worker1(s, "w640"); w.State != engine.WorkerRun || w.PID == nil {
		t.Errorf("%+v", w)
	}
	for _, f := range s.Alerts.Rows {
		if f.Target == "worker/w640" && f.ClosedAt == nil {
			t.Errorf("still open: %+v", f)
		}
	}
	id := s.Alerts.Rows[0].ID
	if _, err := order(t, e, engine.ViaCLI, engine.AckAlerts{IDs: []string{id}}); err != nil {
		t.Fatal(err)
	}
	if _, err := order(t, e, engine.ViaCLI, engine.MuteAlerts{IDs: []string{id}, For: engine.Duration(time.Second)}); err != nil {
		t.Fatal(err)
	}
	s = to(e, c, 30500*time.Millisecond, 250*time.Millisecond)
	if f := s.Alerts.Rows[0]; f.ID != id || f.AckBy != "bo" || f.MuteUntil == nil {
		t.Errorf("%+v", f)
	}
	s = to(e, c, 32*time.Second, 250*time.Millisecond)
	if f := s.Alerts.Rows[0]; f.AckBy != "bo" || f.MuteUntil != nil {
		t.Errorf("%+v", f)
	}
	if _, err := order(t, e, engine.ViaCLI, engine.AckAlerts{IDs: []string{"none"}}); code(err) != engine.CodeNotFound {
		t.Error(err)
	}
	rec, err := order(t, e, engine.ViaHTTP, engine.SubmitJob{Zkey: "/k.zkey", Witnesses: []string{"/a.wtns", "/b.wtns"}, Name: "mine"})
	if err != nil || len(rec.Jobs) != 2 {
		t.Fatalf("%+v %v", rec, err)
	}
	job := func(s *engine.Snapshot, id string) engine.JobRow {
		i := slices.IndexFunc(s.Jobs.Rows, func(j engine.JobRow) bool { return string(j.ID) == id })
		return s.Jobs.Rows[i]
	}
	seen := map[prover.JobState]bool{}
	for at := 32250 * time.Millisecond; at < 52*time.Second; at += 250 * time.Millisecond {
		s = to(e, c, at, 250*time.Millisecond)
		seen[job(s, rec.Jobs[0]).State] = true
	}
	for _, st := range []prover.JobState{prover.JobQueued, prover.JobLeased, prover.JobProved, prover.JobVerified} {
		if !seen[st] {
			t.Errorf("the job was never %s: %v", st, seen)
		}
	}
	rec, err = order(t, e, engine.ViaHTTP, engine.SubmitJob{Zkey: "/k.zkey", Witnesses: []string{"/a.wtns"}})
	if err != nil {
		t.Fatal(err)
	}
	to(e, c, 53*time.Second, 250*time.Millisecond)
	if _, err := order(t, e, engine.ViaCLI, engine.CancelJobs{Jobs: engine.Selector(rec.Jobs[0])}); err != nil {
		t.Fatal(err)
	}
	s = to(e, c, 80*time.Second, time.Second)
	if j := job(s, rec.Jobs[0]); j.State != prover.JobCancelled {
		t.Errorf("%+v", j)
	}
	for _, a := range []engine.Action{engine.StopEngine{}, engine.FetchJob{Job: "x"}, engine.VerifyCluster{Dir: "/d"}, engine.CreateCluster{Dir: "/d"}} {
		if _, err := order(t, e, engine.ViaCLI, a); code(err) != engine.CodeNotConfigured || !strings.Contains(err.Error(), "script") {
			t.Errorf("%s: %v", a.Kind(), err)
		}
	}
	for _, a := range []engine.Action{engine.PauseWorkers{Workers: "w1", Reason: "r"}, engine.PauseWorkers{Workers: "w1", For: 1}, engine.SubmitJob{Zkey: "k"}, engine.UnlockScreens{}, nil} {
		if _, err := e.Preview(t.Context(), engine.Request{Action: a}); code(err) != engine.CodeUsage {
			t.Errorf("%#v: %v", a, err)
		}
	}
}

func TestFeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		e := New(Options{Workers: 64})
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		zero := uint64(0)
		fast, err := e.Watch(ctx, engine.WatchOptions{After: &zero, Viewer: "ana@bastion"})
		if err != nil {
			t.Fatal(err)
		}
		slow, err := e.Watch(ctx, engine.WatchOptions{Every: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		nodes, err := e.Watch(ctx, engine.WatchOptions{Sections: []engine.SectionName{engine.SecNodes}})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		u, err := fast.Next(ctx)
		if err != nil || time.Since(begin) != 0 || len(u.Entries) == 0 || u.Entries[0].N != 1 {
			t.Fatalf("%v after %s, %d entries", err, time.Since(begin), len(u.Entries))
		}
		seen := u.Entries[len(u.Entries)-1].N
		count := 0
		for time.Since(begin) < 60*time.Second {
			u, err := fast.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			count++
			for _, en := range u.Entries {
				if en.N != seen+1 {
					t.Fatalf("entry %d after %d", en.N, seen)
				}
				seen = en.N
			}
			if count == 2 && !slices.Equal(u.Snapshot.Engine.Value.Viewers, []string{"ana@bastion"}) {
				t.Errorf("viewers %v", u.Snapshot.Engine.Value.Viewers)
			}
		}
		if count > 241 || count < 235 {
			t.Errorf("%d updates in a minute", count)
		}
		first, _ := slow.Next(ctx)
		at := time.Now()
		for range 3 {
			if _, err := slow.Next(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(at); d < 6*time.Second || d > 7*time.Second || first.Snapshot.Gen < 200 {
			t.Errorf("three updates at 2 s each took %s, the first had generation %d", d, first.Snapshot.Gen)
		}
		if _, err := nodes.Next(ctx); err != nil {
			t.Fatal(err)
		}
		short, stop := context.WithTimeout(ctx, time.Minute)
		if _, err := nodes.Next(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nodes changed: %v", err)
		}
		stop()
		logs, err := e.Logs(ctx, engine.LogQuery{Follow: true, Tail: 3, Sources: []string{"engine", "w7"}})
		if err != nil {
			t.Fatal(err)
		}
		var last time.Time
		for range 40 {
			line, err := logs.Next(ctx)
			if err != nil || line.At.Before(last) || line.Source != "engine" && line.Source != "w7" {
				t.Fatalf("%+v %v", line, err)
			}
			last = *line.At
		}
		nodes.Close()
		if _, err := nodes.Next(ctx); err != io.EOF {
			t.Errorf("after Close: %v", err)
		}
		alone := context.WithoutCancel(ctx)
		left, err := e.Watch(alone, engine.WatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		left.Next(alone)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for range 3 {
			if _, err = left.Next(alone); err != nil {
				break
			}
		}
		if err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		synctest.Wait()
		if _, err := fast.Next(alone); err != io.EOF {
			t.Errorf("a feed whose context ended: %v", err)
		}
		if _, err := order(t, e, engine.ViaCLI, engine.LockScreens{}); code(err) != engine.CodeStopping {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestGap(t *testing.T) {
	c := &clock{day}
	e := New(Options{Workers: 10, Start: day, Now: c.now})
	for range 3 * keepEntries {
		e.s.log(engine.Entry{At: c.t, What: "engine.start"})
	}
	e.s.dirty = true
	to(e, c, time.Second, time.Second)
	five := uint64(5)
	f, _ := e.Watch(t.Context(), engine.WatchOptions{After: &five})
	u, err := f.Next(t.Context())
	if err != nil || u.Gap == nil || u.Gap.From != 6 || len(u.Entries) == 0 || u.Entries[0].N != u.Gap.To+1 {
		t.Fatalf("%+v %v", u.Gap, err)
	}
}

func TestLogs(t *testing.T) {
	at := 10 * time.Minute
	e := New(Options{Start: day, Still: &at})
	all := func(q engine.LogQuery) (out []engine.LogLine) {
		t.Helper()
		s, err := e.Logs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for {
			l, err := s.Next(t.Context())
			if err == io.EOF {
				return out
			}
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, l)
		}
	}
	if n := len(all(engine.LogQuery{})); n < 10_000 {
		t.Errorf("%d lines of everybody in a minute", n)
	}
	if n := len(all(engine.LogQuery{Tail: 7, Sources: []string{"w3"}})); n > 7 || n < 5 {
		t.Errorf("%d lines of w3", n)
	}
	for _, l := range all(engine.LogQuery{Sources: []string{"engine"}, Level: engine.LevelWarn, Grep: "raised"}) {
		if !strings.Contains(l.Text, "raised") || l.Level.Rank() < engine.LevelWarn.Rank() {
			t.Errorf("%+v", l)
		}
	}
	for q, want := range map[string]engine.LogQuery{"grep": {Grep: "("}, "sources": {Sources: []string{"nobody"}}, "tail": {Tail: -1}} {
		_, err := e.Logs(t.Context(), want)
		var p *engine.Problem
		if !errors.As(err, &p) || p.Field != q {
			t.Errorf("%s: %v", q, err)
		}
	}
}

func TestSmallAndNone(t *testing.T) {
	for _, o := range []Options{{Workers: -1, GPUs: -1, Hosts: 1}, {Workers: 1, Hosts: 1, GPUs: 1}, {Workers: 7, Hosts: 3}, {Workers: 7, Hosts: 40, GPUs: 100}} {
		c := &clock{day}
		o.Start, o.Now, o.Speed = day, c.now, 100
		e := New(o)
		s := to(e, c, time.Minute, time.Second)
		if s.Workers == nil || len(s.Workers.Rows) != len(e.s.workers) || s.Engine.Value.Practice == "" {
			t.Errorf("%+v: %+v", o, s)
		}
		c.t = c.t.Add(-time.Hour) // a clock that was set back holds the script
		e.mu.Lock()
		moved := e.s.advance(e.moment())
		e.mu.Unlock()
		if moved {
			t.Error("the script went back")
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{2048, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := &clock{day}
			e := New(Options{Workers: n, Start: day, Now: c.now})
			to(e, c, 20*time.Second, 250*time.Millisecond)
			b.ReportAllocs()
			for b.Loop() {
				c.t = c.t.Add(250 * time.Millisecond)
				e.s.advance(e.moment())
				e.publishLocked(false)
			}
		})
	}

}
