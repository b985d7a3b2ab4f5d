package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

const (
	patience = 10 * time.Second
	quiet    = 700 * time.Millisecond // longer than two publications
)

func deadline(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func watch(t *testing.T, e engine.Engine, o engine.WatchOptions) engine.Feed {
	t.Helper()
	f, err := e.Watch(t.Context(), o)
	if err != nil {
		t.Fatalf("watch: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func next(t *testing.T, f engine.Feed) engine.Update {
	t.Helper()
	u, err := f.Next(within(t))
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	if u.Snapshot == nil {
		t.Fatal("an update without a snapshot")
	}
	return u
}

// until reads updates up to one that is wanted.
func until(t *testing.T, f engine.Feed, what string, want func(u engine.Update) bool) engine.Update {
	t.Helper()
	ctx := within(t)
	for {
		u, err := f.Next(ctx)
		if err != nil {
			t.Fatalf("wait until %s: %v", what, err)
		}
		if want(u) {
			return u
		}
	}
}

func nothing(t *testing.T, f engine.Feed) {
	t.Helper()
	if u, err := f.Next(short(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("next gave %v, changed %v, %d entries: want nothing", err, u.Changed, len(u.Entries))
	}
}

// Worker is a row as tests tell it.
func Worker(core prover.Core, done uint64) engine.WorkerRow {
	id := prover.WorkerFor(core)
	return engine.WorkerRow{Key: engine.Key{Machine: "m1", ID: string(id)}, ID: id, Core: core, State: engine.WorkerIdle,
		Since: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Desired: engine.WishRun, JobsDone: done}
}

func workerDone(u engine.Update, core prover.Core) (uint64, bool) {
	for _, r := range u.Snapshot.Workers.List() {
		if r.Core == core {
			return r.JobsDone, true
		}
	}
	return 0, false
}

var lostGPU = engine.Raise{Code: engine.FindGPULost, Key: engine.Key{Machine: "m1", ID: "GPU-1"}, Target: "gpu/GPU-1"}

func openAlerts(u engine.Update) (ids []string) {
	for _, f := range u.Snapshot.Alerts.List() {
		if f.ClosedAt == nil {
			ids = append(ids, f.ID)
		}
	}
	return ids
}

func firstNext(t *testing.T, e engine.Engine, d Driver) {
	for _, o := range []engine.WatchOptions{{}, {Every: time.Hour}, {Sections: []engine.SectionName{engine.SecTrends}}} {
		u := next(t, watch(t, e, o))
		s := u.Snapshot
		if s.Schema != engine.SnapshotSchema || s.Engine == nil || s.Verdict == nil || s.Gen == 0 || s.At.IsZero() || s.Engine.Value.ID == "" {
			t.Errorf("%+v: the first snapshot is not whole: %+v", o, s)
		}
		for _, n := range engine.SectionNames {
			if slices.Contains(u.Changed, n) != (s.Version(n) != 0) {
				t.Errorf("%+v: section %s has version %d, changed says %v", o, n, s.Version(n), u.Changed)
			}
		}
		if u.Entries != nil || u.Gap != nil {
			t.Error("entries came and were not asked for")
		}
	}
}

func immutable(t *testing.T, e engine.Engine, d Driver) {
	f := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecWorkers, engine.SecAlerts}})
	for i := prover.Core(1); i <= 3; i++ {
		d.PutWorker(Worker(i, 1))
	}
	d.Raise(lostGPU)
	u := until(t, f, "three workers and an alert are there", func(u engine.Update) bool {
		return len(u.Snapshot.Workers.List()) == 3 && len(openAlerts(u)) == 1
	})
	before, err := json.Marshal(u.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	for i := prover.Core(3); i >= 1; i-- {
		d.PutWorker(Worker(i, 2))
	}
	d.Raise(lostGPU)
	d.Clear(lostGPU.Code, lostGPU.Key)
	until(t, f, "they changed", func(u engine.Update) bool {
		n, _ := workerDone(u, 1)
		return n == 2 && len(openAlerts(u)) == 0
	})
	if after, _ := json.Marshal(u.Snapshot); string(after) != string(before) {
		t.Errorf("a snapshot changed after it was handed out:\n%s\n%s", before, after)
	}
}

func newestWins(t *testing.T, e engine.Engine, d Driver) {
	slow := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecWorkers}})
	quick := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecWorkers}})
	first := next(t, slow)
	// Several publications, seen by the quick reader and not by the slow one.
	const last = 4
	for i := uint64(1); i <= last; i++ {
		d.PutWorker(Worker(1, i))
		until(t, quick, fmt.Sprintf("the worker has done %d", i), func(u engine.Update) bool { n, ok := workerDone(u, 1); return ok && n == i })
	}
	u := until(t, slow, "the newest is there", func(u engine.Update) bool { n, _ := workerDone(u, 1); return n == last })
	if u.Snapshot.Gen <= first.Snapshot.Gen {
		t.Errorf("generation %d after %d", u.Snapshot.Gen, first.Snapshot.Gen)
	}
	nothing(t, slow)
}

func sectionsWake(t *testing.T, e engine.Engine, d Driver) {
	f := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecAlerts}})
	all := watch(t, e, engine.WatchOptions{})
	next(t, f)
	d.PutWorker(Worker(1, 7))
	until(t, all, "the worker is there", func(u engine.Update) bool { _, ok := workerDone(u, 1); return ok })
	nothing(t, f)
	d.Raise(lostGPU)
	u := next(t, f)
	if !slices.Contains(u.Changed, engine.SecAlerts) || len(openAlerts(u)) != 1 {
		t.Errorf("changed %v, alerts %v", u.Changed, openAlerts(u))
	}
	if n, _ := workerDone(u, 1); n != 7 || !slices.Contains(u.Changed, engine.SecWorkers) {
		t.Errorf("the snapshot is not whole: worker has done %d, changed %v", n, u.Changed)
	}
	if _, err := e.Watch(t.Context(), engine.WatchOptions{Sections: []engine.SectionName{"no-such"}}); err == nil {
		t.Error("a section that does not exist was accepted")
	}
}

func changedIsRight(t *testing.T, e engine.Engine, d Driver) {
	f := watch(t, e, engine.WatchOptions{})
	last := next(t, f).Snapshot
	for i := uint64(1); i <= 3; i++ {
		d.PutWorker(Worker(1, i))
		until(t, f, "the worker moved", func(u engine.Update) bool {
			if want := engine.Changed(last, u.Snapshot); !slices.Equal(u.Changed, want) {
				t.Fatalf("changed %v, the versions say %v", u.Changed, want)
			}
			for _, n := range engine.SectionNames {
				if u.Snapshot.Version(n) < last.Version(n) && u.Snapshot.Version(n) != 0 {
					t.Fatalf("the version of %s went back", n)
				}
			}
			if u.Snapshot.Gen < last.Gen {
				t.Fatal("the generation went back")
			}
			last = u.Snapshot
			n, _ := workerDone(u, 1)
			return n == i
		})
	}
}

func viewers(t *testing.T, e engine.Engine, d Driver) {
	f := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecEngine}})
	a, b := watch(t, e, engine.WatchOptions{Viewer: "ana@bastion"}), watch(t, e, engine.WatchOptions{Viewer: "bob"})
	next(t, a)
	next(t, b)
	until(t, f, "both are counted", func(u engine.Update) bool {
		return slices.Equal(u.Snapshot.Engine.Value.Viewers, []string{"ana@bastion", "bob"})
	})
	a.Close()
	until(t, f, "one has left", func(u engine.Update) bool { return slices.Equal(u.Snapshot.Engine.Value.Viewers, []string{"bob"}) })
	b.Close()
	until(t, f, "all have left", func(u engine.Update) bool { return len(u.Snapshot.Engine.Value.Viewers) == 0 })
}

func nextContext(t *testing.T, e engine.Engine, d Driver) {
	f := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecNodes}})
	next(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("next gave %v, want the context's error", err)
	}
	nothing(t, f)
	// The feed is as it was: a cancelled Next takes nothing away.
	d.Raise(lostGPU)
	g := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecAlerts}})
	until(t, g, "the alert is there", func(u engine.Update) bool { return len(openAlerts(u)) == 1 })
}

func closeEnds(t *testing.T, e engine.Engine, d Driver) {
	f := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecNodes}})
	next(t, f)
	if err := f.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	f.Close()
	if _, err := f.Next(within(t)); !errors.Is(err, io.EOF) {
		t.Errorf("next after Close gave %v, want io.EOF", err)
	}
}

func stopEnds(t *testing.T, e engine.Engine, d Driver) {
	waiting, late := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecNodes}}), watch(t, e, engine.WatchOptions{Every: time.Hour})
	next(t, waiting)
	next(t, late)
	ended := make(chan error, 1)
	ctx := within(t)
	go func() { ended <- drain(ctx, waiting) }()
	d.PutWorker(Worker(1, 1))
	d.Stop()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("a waiting Next ended with %v, want io.EOF", err)
	}
	if err := drain(ctx, late); !errors.Is(err, io.EOF) {
		t.Errorf("a later Next ended with %v, want io.EOF", err)
	}
	_, err := e.Do(ctx, engine.Request{Key: engine.NewKey(), Action: engine.LockScreens{}, Actor: cli}, "")
	if p := (*engine.Problem)(nil); !errors.As(err, &p) {
		t.Errorf("an act after the stop: %v, want a problem", err)
	}
}

func drain(ctx context.Context, f engine.Feed) error {
	for {
		if _, err := f.Next(ctx); err != nil {
			return err
		}
	}
}

func ptr[T any](v T) *T { return &v }

// entries reads journal entries above after up to one with this text.
func entries(t *testing.T, e engine.Engine, after uint64, last string) (out []engine.Entry, gap *engine.Gap) {
	t.Helper()
	f := watch(t, e, engine.WatchOptions{After: &after, Sections: []engine.SectionName{engine.SecNodes}})
	defer f.Close()
	until(t, f, "entry "+last+" is there", func(u engine.Update) bool {
		if u.Gap != nil {
			gap = u.Gap
		}
		out = append(out, u.Entries...)
		return slices.ContainsFunc(u.Entries, func(e engine.Entry) bool { return e.Text == last })
	})
	return out, gap
}

func record(d Driver, texts ...string) {
	for _, s := range texts {
		d.Record(engine.Entry{Level: engine.LevelNote, What: "job.verified", Key: engine.Key{Machine: "m1", ID: s}, Text: s})
	}
}

func journalNumbers(t *testing.T, e engine.Engine, d Driver) {
	f := watch(t, e, engine.WatchOptions{After: ptr(uint64(0)), Sections: []engine.SectionName{engine.SecNodes}})
	var got []engine.Entry
	read := func(last string) {
		t.Helper()
		if slices.ContainsFunc(got, func(e engine.Entry) bool { return e.Text == last }) {
			return
		}
		until(t, f, "entry "+last+" is there", func(u engine.Update) bool {
			got = append(got, u.Entries...)
			return slices.ContainsFunc(u.Entries, func(e engine.Entry) bool { return e.Text == last })
		})
	}
	record(d, "one")
	read("one")
	record(d, "two", "three")
	read("three")
	var ours []string
	for i, en := range got {
		if en.N != uint64(i+1) {
			t.Fatalf("entry %d is numbered %d", i+1, en.N)
		}
		if en.At.IsZero() || en.What == "" {
			t.Errorf("entry %d has no time or says nothing: %+v", en.N, en)
		}
		if en.What == "job.verified" {
			ours = append(ours, en.Text)
		}
	}
	if !slices.Equal(ours, []string{"one", "two", "three"}) {
		t.Errorf("entries %v", ours)
	}
	again, gap := entries(t, e, 0, "three")
	if len(again) < len(got) || again[0].N != 1 || gap != nil {
		t.Errorf("a second reader gets %d of %d entries, gap %v", len(again), len(got), gap)
	}
}

func journalAfter(t *testing.T, e engine.Engine, d Driver) {
	record(d, "one", "two", "three")
	all, _ := entries(t, e, 0, "three")
	var two uint64
	for _, en := range all {
		if en.Text == "two" {
			two = en.N
		}
	}
	got, gap := entries(t, e, two, "three")
	if got[0].N != two+1 || gap != nil {
		t.Errorf("after %d came %d, gap %v", two, got[0].N, gap)
	}
	none := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecNodes}})
	next(t, none)
	record(d, "four")
	nothing(t, none)
}

func journalGap(t *testing.T, e engine.Engine, d Driver) {
	record(d, "one", "two", "three", "four")
	all, _ := entries(t, e, 0, "four")
	first := uint64(0)
	for _, en := range all {
		if en.Text == "three" {
			first = en.N
		}
	}
	if !d.TrimJournal(first) {
		t.Skip("this engine's journal cannot be trimmed by the driver")
	}
	got, gap := entries(t, e, 0, "four")
	if gap == nil || *gap != (engine.Gap{From: 1, To: first - 1}) || got[0].N != first {
		t.Errorf("gap %+v, first entry %d; want 1 to %d", gap, got[0].N, first-1)
	}
	if got, gap := entries(t, e, first-1, "four"); gap != nil || got[0].N != first {
		t.Errorf("asked for what is kept: gap %v, first entry %d", gap, got[0].N)
	}
}

var (
	cli    = engine.Actor{Name: "ana", Via: engine.ViaCLI}
	screen = engine.Actor{Name: "ana", Host: "bastion", Via: engine.ViaScreen}
)

func ask(a engine.Action, by engine.Actor) engine.Request {
	return engine.Request{Key: engine.NewKey(), Action: a, Actor: by}
}

func unlock(reason string) engine.Action {
	return engine.UnlockScreens{For: engine.Duration(15 * time.Minute), Reason: reason}
}

// do previews and does.
func do(t *testing.T, e engine.Engine, r engine.Request) engine.Receipt {
	t.Helper()
	p, err := e.Preview(within(t), r)
	if err != nil {
		t.Fatalf("preview: %v", err)
	}
	receipt, err := e.Do(within(t), r, p.Digest)
	if err != nil {
		t.Fatalf("do: %v", err)
	}
	return receipt
}

func problem(t *testing.T, err error, codes ...engine.Code) *engine.Problem {
	t.Helper()
	var p *engine.Problem
	if !errors.As(err, &p) || !slices.Contains(codes, p.Code) {
		t.Fatalf("got %v, want a problem of %v", err, codes)
	}
	if p.Exit == engine.ExitOK || p.Doing == "" || p.Cause == "" || p.Remedy == "" {
		t.Errorf("problem %s lacks exit code, action, cause or remedy: %+v", p.Code, p)
	}
	return p
}

func acts(t *testing.T, e engine.Engine) []engine.ActRow {
	t.Helper()
	f := watch(t, e, engine.WatchOptions{})
	defer f.Close()
	return next(t, f).Snapshot.Acts.List()
}

func previewOnly(t *testing.T, e engine.Engine, d Driver) {
	r := ask(unlock("look"), cli)
	f := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecActs}})
	next(t, f)
	p, err := e.Preview(within(t), r)
	if err != nil {
		t.Fatal(err)
	}
	if p.Schema != engine.PlanSchema || len(p.Digest) != 12 || p.Title == "" || len(p.Steps) == 0 || p.Consent.Level == "" || p.MadeAt.IsZero() || p.ReadOnly {
		t.Errorf("plan is not whole: %+v", p)
	}
	if want := "provost " + engine.ShellLine(r.Action.CommandLine()); p.Command != want {
		t.Errorf("command %q, want %q", p.Command, want)
	}
	again, err := e.Preview(within(t), ask(unlock("look"), cli))
	if err != nil || again.Digest != p.Digest {
		t.Errorf("the same action has digests %s and %s: %v", p.Digest, again.Digest, err)
	}
	if _, err := e.Preview(within(t), ask(unlock("look"), screen)); err != nil {
		t.Errorf("a locked screen may not even preview: %v", err)
	}
	nothing(t, f)
	if u := next(t, watch(t, e, engine.WatchOptions{})); u.Snapshot.Engine.Value.Unlocked != nil {
		t.Error("a preview opened the lock")
	}
}

func digests(t *testing.T, e engine.Engine, d Driver) {
	r := ask(unlock("r"), cli)
	p, err := e.Preview(within(t), r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Do(within(t), r, "")
	if q := problem(t, err, engine.CodePlanNeeded); q.Plan == nil || q.Plan.Digest != p.Digest {
		t.Errorf("the answer carries the plan %+v", q.Plan)
	}
	wrong := engine.Digest("000000000000")
	_, err = e.Do(within(t), r, wrong)
	if q := problem(t, err, engine.CodePlanChanged); q.Plan == nil || q.Plan.Digest != p.Digest || q.Exit != engine.ExitRefused {
		t.Errorf("the answer carries the plan %+v, exit %d", q.Plan, q.Exit)
	}
	_, err = e.Do(within(t), r, p.Digest[:5])
	problem(t, err, engine.CodePlanChanged)
	// What was refused has used up nothing: the key is still free.
	receipt, err := e.Do(within(t), r, engine.Digest(strings.ToUpper(string(p.Digest[:6]))))
	if err != nil || receipt.Repeated || receipt.Digest != p.Digest || receipt.Key != r.Key || receipt.Act == "" {
		t.Errorf("receipt %+v: %v", receipt, err)
	}
}

func planChanged(t *testing.T, e engine.Engine, d Driver) {
	f := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecAlerts}})
	d.Raise(lostGPU)
	until(t, f, "one alert is open", func(u engine.Update) bool { return len(openAlerts(u)) == 1 })
	r := ask(engine.AckAlerts{IDs: []string{"all"}}, cli)
	p, err := e.Preview(within(t), r)
	if err != nil {
		t.Fatal(err)
	}
	other := lostGPU
	other.Key.ID, other.Target = "GPU-2", "gpu/GPU-2"
	d.Raise(other)
	until(t, f, "two alerts are open", func(u engine.Update) bool { return len(openAlerts(u)) == 2 })
	_, err = e.Do(within(t), r, p.Digest)
	q := problem(t, err, engine.CodePlanChanged)
	if q.Plan == nil || len(q.Plan.Targets) != 2 {
		t.Fatalf("the new plan is %+v", q.Plan)
	}
	if _, err := e.Do(within(t), r, q.Plan.Digest); err != nil {
		t.Fatal(err)
	}
	until(t, f, "both are acknowledged", func(u engine.Update) bool {
		n := 0
		for _, a := range u.Snapshot.Alerts.List() {
			if a.AckBy != "" && a.AckAt != nil {
				n++
			}
		}
		return n == 2
	})
}

func once(t *testing.T, e engine.Engine, d Driver) {
	r := ask(unlock("once"), cli)
	first := do(t, e, r)
	if first.Repeated || first.Act == "" || first.At.IsZero() || first.Title == "" {
		t.Errorf("first receipt %+v", first)
	}
	// Also with another digest, or none: the key was carried out, and that is that.
	for _, digest := range []engine.Digest{first.Digest, "", "ffffffffffff"} {
		again, err := e.Do(within(t), r, digest)
		if err != nil || !again.Repeated || again.Act != first.Act || again.Digest != first.Digest || !again.At.Equal(first.At) {
			t.Errorf("repeated with %q: %+v, %v; want that of %s", digest, again, err, first.Act)
		}
	}
	record(d, "end")
	got, _ := entries(t, e, 0, "end")
	if n := countWhat(got, "act.asked"); n != 1 {
		t.Errorf("it was asked %d times by the journal", n)
	}
}

func countWhat(es []engine.Entry, what string) (n int) {
	for _, e := range es {
		if e.What == what {
			n++
		}
	}
	return n
}

func onceConcurrent(t *testing.T, e engine.Engine, d Driver) {
	r := ask(unlock("crowd"), cli)
	p, err := e.Preview(within(t), r)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	ids := map[string]int{}
	firsts := 0
	var wg sync.WaitGroup
	ctx := within(t)
	for range 12 {
		wg.Go(func() {
			receipt, err := e.Do(ctx, r, p.Digest)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("do: %v", err)
				return
			}
			ids[receipt.Act]++
			if !receipt.Repeated {
				firsts++
			}
		})
	}
	wg.Wait()
	if len(ids) != 1 || firsts != 1 {
		t.Errorf("%d firsts, acts %v", firsts, ids)
	}
	record(d, "end")
	got, _ := entries(t, e, 0, "end")
	if a, b := countWhat(got, "act.asked"), countWhat(got, "act.done"); a != 1 || b != 1 {
		t.Errorf("asked %d times, done %d times", a, b)
	}
}

func keyOtherAction(t *testing.T, e engine.Engine, d Driver) {
	r := ask(unlock("one"), cli)
	do(t, e, r)
	r.Action = engine.LockScreens{}
	_, err := e.Do(within(t), r, "")
	problem(t, err, engine.CodeUsage)
}

func actIsKept(t *testing.T, e engine.Engine, d Driver) {
	r := ask(unlock("disk swap m18"), cli)
	receipt := do(t, e, r)
	f := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecActs}})
	u := until(t, f, "the act is done", func(u engine.Update) bool {
		return slices.ContainsFunc(u.Snapshot.Acts.List(), func(a engine.ActRow) bool { return a.ID == receipt.Act && !a.State.Open() })
	})
	for _, a := range u.Snapshot.Acts.List() {
		if a.ID != receipt.Act {
			continue
		}
		if a.State != engine.ActDone || a.Kind != engine.KindUnlockScreens || a.By.Name == "" || a.By.Via != engine.ViaCLI || a.Reason != "disk swap m18" ||
			a.Digest != receipt.Digest || a.Ended == nil || a.Started.IsZero() || !strings.HasPrefix(a.Command, "provost unlock") {
			t.Errorf("row %+v", a)
		}
	}
	record(d, "end")
	got, _ := entries(t, e, 0, "end")
	asked, done := -1, -1
	for i, en := range got {
		switch en.What {
		case "act.asked":
			asked = i
		case "act.done":
			done = i
		default:
			continue
		}
		if en.Actor == nil || en.Actor.Name == "" || en.Key.ID != receipt.Act {
			t.Errorf("entry %d does not name actor and act: %+v", en.N, en)
		}
	}
	if asked < 0 || done < asked {
		t.Errorf("asked at %d, done at %d", asked, done)
	}
}

func failsAgain(t *testing.T, e engine.Engine, d Driver) {
	r := ask(engine.AckAlerts{IDs: []string{"no.such/m1/-/-/x"}}, cli)
	_, err := e.Preview(within(t), r)
	problem(t, err, engine.CodeNotFound, engine.CodeNoMatch)
	_, err = e.Do(within(t), r, "000000000000")
	problem(t, err, engine.CodeNotFound, engine.CodeNoMatch)
	if rows := acts(t, e); len(rows) != 0 {
		t.Errorf("a request that cannot be planned is in the ledger: %+v", rows)
	}
}

func locked(t *testing.T, e engine.Engine, d Driver) {
	gone := engine.CancelAct{ID: "a999999"}
	_, err := e.Do(within(t), ask(gone, screen), "000000000000")
	if p := problem(t, err, engine.CodeLocked); p.Exit != engine.ExitNotAllowed {
		t.Errorf("exit %d", p.Exit)
	}
	// From a shell it is not the lock that is in the way.
	_, err = e.Do(within(t), ask(gone, cli), "000000000000")
	problem(t, err, engine.CodeNotFound)
	do(t, e, ask(unlock("look closer"), screen))
	f := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecEngine}})
	u := until(t, f, "screens are unlocked", func(u engine.Update) bool { return u.Snapshot.Engine.Value.Unlocked != nil })
	if o := u.Snapshot.Engine.Value.Unlocked; o.Reason != "look closer" || o.By == "" || time.Until(o.Until) > 15*time.Minute {
		t.Errorf("unlocked %+v", o)
	}
	_, err = e.Do(within(t), ask(gone, screen), "000000000000")
	problem(t, err, engine.CodeNotFound)
	do(t, e, ask(engine.LockScreens{}, screen))
	until(t, f, "screens are locked", func(u engine.Update) bool { return u.Snapshot.Engine.Value.Unlocked == nil })
	_, err = e.Do(within(t), ask(gone, screen), "000000000000")
	problem(t, err, engine.CodeLocked)
	// Allowed while locked: acknowledging what is open.
	d.Raise(lostGPU)
	g := watch(t, e, engine.WatchOptions{Sections: []engine.SectionName{engine.SecAlerts}})
	u = until(t, g, "an alert is open", func(u engine.Update) bool { return len(openAlerts(u)) == 1 })
	do(t, e, ask(engine.AckAlerts{IDs: openAlerts(u)}, screen))
}

func badRequests(t *testing.T, e engine.Engine, d Driver) {
	_, err := e.Preview(within(t), engine.Request{Key: engine.NewKey(), Actor: cli})
	problem(t, err, engine.CodeUsage)
	_, err = e.Do(within(t), engine.Request{Key: "", Action: engine.LockScreens{}, Actor: cli}, "000000000000")
	problem(t, err, engine.CodeUsage)
	_, err = e.Do(within(t), engine.Request{Key: strings.Repeat("k", 4000), Action: engine.LockScreens{}, Actor: cli}, "000000000000")
	problem(t, err, engine.CodeUsage)
	_, err = e.Logs(within(t), engine.LogQuery{Grep: "("})
	problem(t, err, engine.CodeUsage)
}

func logLines(t *testing.T, s engine.LogStream, n int) (texts []string) {
	t.Helper()
	ctx := within(t)
	for len(texts) < n {
		l, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("log line %d: %v", len(texts)+1, err)
		}
		texts = append(texts, l.Text)
	}
	return texts
}

func logStream(t *testing.T, e engine.Engine, q engine.LogQuery) engine.LogStream {
	t.Helper()
	s, err := e.Logs(t.Context(), q)
	if err != nil {
		t.Fatalf("logs: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func logs(t *testing.T, e engine.Engine, d Driver) {
	at := time.Now().UTC().Truncate(time.Millisecond)
	for i, l := range []engine.LogLine{
		{Source: "w1", Level: engine.LevelNote, Text: "suite one"}, {Source: "w2", Level: engine.LevelWarn, Text: "suite two"},
		{Source: "w1", Level: engine.LevelWarn, Text: "suite three"}, {Source: "w1", Level: engine.LevelDebug, Text: "suite four"},
	} {
		l.At = ptr(at.Add(time.Duration(i) * time.Millisecond))
		d.Log(l)
	}
	for _, c := range []struct {
		q    engine.LogQuery
		want []string
	}{
		{engine.LogQuery{Grep: "^suite "}, []string{"suite one", "suite two", "suite three", "suite four"}},
		{engine.LogQuery{Grep: "^suite ", Sources: []string{"w1"}}, []string{"suite one", "suite three", "suite four"}},
		{engine.LogQuery{Grep: "^suite ", Level: engine.LevelWarn}, []string{"suite two", "suite three"}},
		{engine.LogQuery{Grep: "^suite ", Sources: []string{"w1"}, Tail: 2}, []string{"suite three", "suite four"}},
		{engine.LogQuery{Grep: "^suite t"}, []string{"suite two", "suite three"}},
	} {
		s := logStream(t, e, c.q)
		if got := logLines(t, s, len(c.want)); !slices.Equal(got, c.want) {
			t.Errorf("%+v: lines %v, want %v", c.q, got, c.want)
		}
		if _, err := s.Next(within(t)); !errors.Is(err, io.EOF) {
			t.Errorf("%+v: the end is %v, want io.EOF", c.q, err)
		}
	}
}

func logsFollow(t *testing.T, e engine.Engine, d Driver) {
	d.Log(engine.LogLine{Source: "w1", Level: engine.LevelNote, Text: "suite old"})
	s := logStream(t, e, engine.LogQuery{Grep: "^suite ", Follow: true})
	if got := logLines(t, s, 1); got[0] != "suite old" {
		t.Errorf("first line %q", got[0])
	}
	d.Log(engine.LogLine{Source: "w1", Level: engine.LevelNote, Text: "suite new"})
	if got := logLines(t, s, 1); got[0] != "suite new" {
		t.Errorf("followed line %q", got[0])
	}
	if _, err := s.Next(short(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a line next gave %v, want the context's error", err)
	}
	s.Close()
	if _, err := s.Next(within(t)); !errors.Is(err, io.EOF) {
		t.Errorf("after Close next gave %v, want io.EOF", err)
	}
}
