package act_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/engine"
	"app.provost/engine/act"
	"app.provost/engine/enginetest"
	"app.provost/prover"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	cli    = engine.Actor{Name: "ana", Via: engine.ViaCLI}
	screen = engine.Actor{Name: "ana", Via: engine.ViaScreen}
	rule   = engine.Actor{Name: "provost", Via: engine.ViaRule}
)

func ask(a engine.Action) engine.Request {
	return engine.Request{Key: engine.NewKey(), Action: a, Actor: cli}
}

// bubble runs a test in a bubble with an engine in memory.
func bubble(t *testing.T, o enginetest.MemoryOptions, test func(t *testing.T, m *enginetest.Memory)) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMemory(t, o)
		test(t, m)
	})
}

func do(t *testing.T, m *enginetest.Memory, r engine.Request) (engine.Receipt, error) {
	t.Helper()
	p, err := m.Preview(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return m.Do(t.Context(), r, p.Digest)
}

func wantCode(t *testing.T, err error, code engine.Code) *engine.Problem {
	t.Helper()
	var p *engine.Problem
	if !errors.As(err, &p) || p.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	if p.Remedy == "" || p.Exit == 0 {
		t.Errorf("%v lacks remedy or exit code", p)
	}
	return p
}

func rowOf(t *testing.T, m *enginetest.Memory, id string) engine.ActRow {
	t.Helper()
	synctest.Wait()
	time.Sleep(time.Second) // a publication
	for _, r := range m.State.Snapshot().Acts.List() {
		if r.ID == id {
			return r
		}
	}
	t.Fatalf("no act %q in the snapshot", id)
	return engine.ActRow{}
}

func said(t *testing.T, m *enginetest.Memory) (out []string) {
	t.Helper()
	es, _, _, err := m.Store.Entries(0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if strings.HasPrefix(e.What, "act.") {
			out = append(out, e.What)
		}
	}
	return out
}

// verb makes one for LockScreens whose Run is given.
func verb(run func(context.Context, *act.Act) error) act.Verb {
	return act.Verb{Run: run, Plan: func(context.Context, act.Ask) (engine.Plan, error) {
		return engine.Plan{Title: "try", Steps: []engine.Step{{Name: "one"}, {Name: "two"}}, Targets: []string{"worker/w1", "worker/w2"}}, nil
	}}
}

func with(v act.Verb) enginetest.MemoryOptions {
	return enginetest.MemoryOptions{Verbs: map[engine.ActionKind]act.Verb{engine.KindLockScreens: v}}
}

func addWorkers(m *enginetest.Memory, n prover.Core) {
	for i := prover.Core(1); i <= n; i++ {
		m.PutWorker(enginetest.Worker(i, 0))
	}
	time.Sleep(time.Second)
}

func worker(m *enginetest.Memory, i int) engine.WorkerRow {
	return m.State.Snapshot().Workers.List()[i]
}

func TestLongActGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMemory(t, enginetest.MemoryOptions{})
		addWorkers(m, 2)
		r := ask(engine.PauseWorkers{Workers: "all", For: engine.Duration(45 * time.Minute), Reason: "disk swap"})
		start := time.Now()
		receipt, err := do(t, m, r)
		if err != nil || receipt.Done || receipt.Act != "a1" {
			t.Fatalf("%+v %v", receipt, err)
		}
		row := rowOf(t, m, "a1")
		if row.State != engine.ActHolding || row.Until == nil || !row.Until.Equal(start.Add(45*time.Minute)) || row.Step != 2 || row.Target != "w1, w2" || row.Reason != "disk swap" {
			t.Fatalf("%+v", row)
		}
		time.Sleep(20 * time.Minute)
		m.Stop()
		if rows, _, _ := m.Store.Acts(); rows[0].State != engine.ActHolding {
			t.Fatalf("after the stop the act is %s", rows[0].State)
		}

		time.Sleep(5 * time.Minute)
		m2 := enginetest.NewMemory(t, enginetest.MemoryOptions{Store: m.Store})
		addWorkers(m2, 2)
		if row := rowOf(t, m2, "a1"); row.State != engine.ActHolding {
			t.Fatalf("the next engine has %+v", row)
		}
		again, err := m2.Do(t.Context(), r, receipt.Digest)
		if err != nil || !again.Repeated || again.Act != "a1" || again.Done {
			t.Errorf("same key at the next engine: %+v %v", again, err)
		}
		time.Sleep(time.Until(start.Add(45*time.Minute + time.Second)))
		row = rowOf(t, m2, "a1")
		if row.State != engine.ActDone || row.Ended == nil || row.Ended.Before(start.Add(45*time.Minute)) || row.Step != 3 {
			t.Errorf("%+v", row)
		}
		if w := worker(m2, 0); w.Desired != engine.WishRun {
			t.Errorf("worker is wished to %s", w.Desired)
		}
		if got := said(t, m2); !slices.Equal(got, []string{"act.asked", "act.done"}) {
			t.Errorf("journal %v", got)
		}
		if again, err := m2.Do(t.Context(), r, ""); err != nil || !again.Repeated || !again.Done {
			t.Errorf("%+v %v", again, err)
		}
	})
}

func TestActThatCannotBeResumedIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := verb(func(ctx context.Context, a *act.Act) error { <-ctx.Done(); return ctx.Err() })
		v.Long = true
		m := enginetest.NewMemory(t, with(v))
		r := ask(engine.LockScreens{})
		if _, err := do(t, m, r); err != nil {
			t.Fatal(err)
		}
		m.Stop()
		o := with(v)
		o.Store = m.Store
		m2 := enginetest.NewMemory(t, o)
		if row := rowOf(t, m2, "a1"); row.State != engine.ActFailed || !strings.Contains(row.Text, "ended in the middle") {
			t.Errorf("%+v", row)
		}
		if got := said(t, m2); !slices.Equal(got, []string{"act.asked", "act.failed"}) {
			t.Errorf("journal %v", got)
		}
		_, err := m2.Do(t.Context(), r, "")
		wantCode(t, err, engine.CodeUnexpected)
	})
}

// A short act that an engine's end has cut off is done by the next engine, and who asks
// again with its key gets that receipt.
func TestShortActGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := verb(func(ctx context.Context, a *act.Act) error { <-ctx.Done(); return ctx.Err() })
		m := enginetest.NewMemory(t, with(v))
		r := ask(engine.LockScreens{})
		p, err := m.Preview(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		cut := make(chan error, 1)
		go func() {
			_, err := m.Do(t.Context(), r, p.Digest)
			cut <- err
		}()
		synctest.Wait()
		m.Stop()
		wantCode(t, <-cut, engine.CodeStopping)
		v.Resume = func(ctx context.Context, a *act.Act) error {
			time.Sleep(time.Minute)
			a.Result(func(r *engine.Receipt) { r.Jobs = []string{"j1"} })
			return nil
		}
		o := with(v)
		o.Store = m.Store
		m2 := enginetest.NewMemory(t, o)
		got, err := m2.Do(t.Context(), r, p.Digest)
		if err != nil || !got.Repeated || !got.Done || !slices.Equal(got.Jobs, []string{"j1"}) {
			t.Errorf("%+v %v", got, err)
		}
	})
}

func TestCancelAct(t *testing.T) {
	bubble(t, enginetest.MemoryOptions{}, func(t *testing.T, m *enginetest.Memory) {
		addWorkers(m, 1)
		receipt, err := do(t, m, ask(engine.PauseWorkers{Workers: "w1", For: engine.Duration(time.Hour), Reason: "r"}))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if w := worker(m, 0); w.Desired != engine.WishPaused {
			t.Fatalf("worker is wished to %s", w.Desired)
		}
		cancelled, err := do(t, m, ask(engine.CancelAct{ID: receipt.Act}))
		if err != nil || !cancelled.Done {
			t.Fatalf("%+v %v", cancelled, err)
		}
		if row := rowOf(t, m, receipt.Act); row.State != engine.ActCancelled || row.Ended == nil {
			t.Errorf("%+v", row)
		}
		if w := worker(m, 0); w.Desired != engine.WishRun {
			t.Errorf("worker is wished to %s", w.Desired)
		}
		_, err = m.Preview(t.Context(), ask(engine.CancelAct{ID: receipt.Act}))
		wantCode(t, err, engine.CodeNotFound)
	})
}

func TestCallerLeavesAndActGoesOn(t *testing.T) {
	var runs atomic.Int32
	release := make(chan struct{})
	v := verb(func(ctx context.Context, a *act.Act) error {
		runs.Add(1)
		select {
		case <-release:
			a.Result(func(r *engine.Receipt) { r.Notes = []string{"note"} })
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		m := enginetest.NewMemory(t, with(v))
		r := ask(engine.LockScreens{})
		p, err := m.Preview(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = m.Do(ctx, r, p.Digest)
		if q := wantCode(t, err, engine.CodeBusy); q.Exit != engine.ExitTimeout || !strings.Contains(q.Cause, "a1") {
			t.Errorf("%v", q)
		}
		// Asked again while it goes on: the same act, and its receipt when it has ended. Who does not wait is told so.
		ctx2, cancel2 := context.WithTimeout(t.Context(), time.Second)
		defer cancel2()
		_, err = m.Do(ctx2, r, p.Digest)
		wantCode(t, err, engine.CodeBusy)
		other := r
		other.Action = engine.UnlockScreens{For: engine.Duration(time.Hour), Reason: "r"}
		if _, err := m.Do(t.Context(), other, ""); err == nil {
			t.Error("a key that names another act was taken")
		}
		time.AfterFunc(time.Minute, func() { close(release) })
		if again, err := m.Do(t.Context(), r, p.Digest); err != nil || !again.Repeated || !again.Done || again.Act != "a1" || len(again.Notes) != 1 {
			t.Errorf("%+v %v", again, err)
		}
		if row := rowOf(t, m, "a1"); row.State != engine.ActDone {
			t.Errorf("%+v", row)
		}
		again, err := m.Do(t.Context(), r, p.Digest)
		if err != nil || !again.Done || !again.Repeated || len(again.Notes) != 1 || runs.Load() != 1 {
			t.Errorf("%+v %v, %d runs", again, err, runs.Load())
		}
	})
}

func TestOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		run   func(context.Context, *act.Act) error
		state engine.ActState
		code  engine.Code
		what  string
	}{
		"done": {func(_ context.Context, a *act.Act) error { a.Settle("worker/w1", "done", ""); return nil }, engine.ActDone, "", "act.done"},
		"problem": {func(context.Context, *act.Act) error {
			return &engine.Problem{Code: engine.CodeNoMatch, Exit: engine.ExitUsage, Cause: "c", Remedy: "r"}
		}, engine.ActFailed, engine.CodeNoMatch, "act.failed"},
		"error": {func(context.Context, *act.Act) error { return errors.New("disk on fire") }, engine.ActFailed, engine.CodeUnexpected, "act.failed"},
		"panic": {func(context.Context, *act.Act) error { panic("oops") }, engine.ActFailed, engine.CodeUnexpected, "act.failed"},
		"some failed": {func(_ context.Context, a *act.Act) error {
			a.Settle("worker/w1", "sent", "")
			a.Settle("worker/w1", "done", "")
			a.Settle("worker/w2", "refused", "not active")
			return nil
		}, engine.ActPartly, "", "act.failed"},
		"failed after some": {func(_ context.Context, a *act.Act) error {
			a.Settle("worker/w1", "done", "")
			return errors.New("then it broke")
		}, engine.ActPartly, engine.CodeUnexpected, "act.failed"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, with(verb(c.run)), func(t *testing.T, m *enginetest.Memory) {
				r := ask(engine.LockScreens{})
				receipt, err := do(t, m, r)
				if c.code != "" {
					p := engine.AsProblem("", err)
					if err == nil || p.Code != c.code {
						t.Errorf("got %v, want %s", err, c.code)
					}
				} else if err != nil {
					t.Error(err)
				}
				if !receipt.Done || receipt.Act != "a1" {
					t.Errorf("receipt %+v", receipt)
				}
				row := rowOf(t, m, "a1")
				if row.State != c.state || row.Ended == nil || err != nil && row.Text == "" {
					t.Errorf("%+v", row)
				}
				if c.state == engine.ActPartly && err == nil && (len(receipt.Notes) != 1 || !strings.Contains(receipt.Notes[0], "worker/w2: refused: not active")) {
					t.Errorf("notes %q", receipt.Notes)
				}
				if got := said(t, m); !slices.Equal(got, []string{"act.asked", c.what}) {
					t.Errorf("journal %v", got)
				}
				again, err2 := m.Do(t.Context(), r, "")
				if !again.Repeated || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
					t.Errorf("repeated: %+v, %v; first was %v", again, err2, err)
				}
			})
		})
	}
}

func TestOpenActsAreBounded(t *testing.T) {
	bubble(t, enginetest.MemoryOptions{}, func(t *testing.T, m *enginetest.Memory) {
		addWorkers(m, 1)
		pause := func() (engine.Receipt, error) {
			return do(t, m, ask(engine.PauseWorkers{Workers: "w1", For: engine.Duration(time.Hour)}))
		}
		var first engine.Receipt
		for i := range 64 {
			r, err := pause()
			if err != nil {
				t.Fatal(i, err)
			}
			if i == 0 {
				first = r
			}
		}
		_, err := pause()
		wantCode(t, err, engine.CodeBusy)
		if _, err := do(t, m, ask(engine.CancelAct{ID: first.Act})); err != nil {
			t.Fatal(err)
		}
		if _, err := pause(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestStoppingEngineTakesNoActs(t *testing.T) {
	bubble(t, enginetest.MemoryOptions{}, func(t *testing.T, m *enginetest.Memory) {
		done := ask(engine.LockScreens{})
		if _, err := do(t, m, done); err != nil {
			t.Fatal(err)
		}
		if _, err := do(t, m, ask(engine.StopEngine{})); err != nil {
			t.Fatal(err)
		}
		<-m.StopAsked()
		_, err := do(t, m, ask(engine.LockScreens{}))
		wantCode(t, err, engine.CodeStopping)
		if r, err := m.Do(t.Context(), done, ""); err != nil || !r.Repeated {
			t.Errorf("an old receipt: %+v %v", r, err)
		}
	})
}

func TestWhoMayAsk(t *testing.T) {
	bubble(t, enginetest.MemoryOptions{}, func(t *testing.T, m *enginetest.Memory) {
		r := ask(engine.StopEngine{})
		r.Actor = screen
		_, err := do(t, m, r)
		wantCode(t, err, engine.CodeLocked)
		r.Actor = engine.Actor{Name: "x"}
		_, err = do(t, m, r)
		wantCode(t, err, engine.CodeDenied)

		// A rule of the engine names no plan.
		r = ask(engine.LockScreens{})
		r.Actor = rule
		if receipt, err := m.Do(t.Context(), r, ""); err != nil || !receipt.Done {
			t.Errorf("%+v %v", receipt, err)
		}
		if _, err := do(t, m, ask(engine.UnlockScreens{For: engine.Duration(15 * time.Minute), Reason: "r"})); err != nil {
			t.Fatal(err)
		}
		c := ask(engine.CancelAct{ID: "a99"})
		c.Actor = screen
		_, err = m.Do(t.Context(), c, "x")
		wantCode(t, err, engine.CodeNotFound)
		time.Sleep(15 * time.Minute)
		_, err = m.Do(t.Context(), c, "x")
		wantCode(t, err, engine.CodeLocked)
		_, err = m.Do(t.Context(), ask(engine.SubmitJob{}), "x")
		wantCode(t, err, engine.CodeNotConfigured)
	})
}

func TestReadOnlyVerb(t *testing.T) {
	var runs atomic.Int32
	block := make(chan struct{})
	v := verb(func(ctx context.Context, a *act.Act) error {
		runs.Add(1)
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
		a.SetStep("one")
		a.Settle("worker/w1", "done", "")
		a.Result(func(r *engine.Receipt) { r.Artifacts = []engine.Artifact{{Name: "proof.json", Data: []byte("{}")}} })
		return nil
	})
	v.ReadOnly = true
	synctest.Test(t, func(t *testing.T) {
		block = make(chan struct{})
		m := enginetest.NewMemory(t, with(v))
		r := ask(engine.LockScreens{})
		r.Actor = screen // locked, and yet allowed
		p, err := m.Preview(t.Context(), r)
		if err != nil || !p.ReadOnly || p.Consent.Level != "none" {
			t.Fatalf("%+v %v", p, err)
		}
		// The first caller gives up: it is cut off with him, and the second tries himself.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := m.Do(ctx, r, "")
			if p := (*engine.Problem)(nil); !errors.As(err, &p) || p.Exit != engine.ExitTimeout {
				t.Errorf("first: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			receipt, err := m.Do(t.Context(), r, "")
			if err != nil || receipt.Repeated || !receipt.Done || len(receipt.Artifacts) != 1 || receipt.Act != "" {
				t.Errorf("second: %+v %v", receipt, err)
			}
		})
		time.Sleep(2 * time.Second)
		close(block)
		wg.Wait()
		again, err := m.Do(t.Context(), r, "")
		if err != nil || !again.Repeated || len(again.Artifacts) != 1 || runs.Load() != 2 {
			t.Errorf("again: %+v %v, %d runs", again, err, runs.Load())
		}
		other := r
		other.Action = engine.StopEngine{}
		other.Actor = cli
		_, err = m.Do(t.Context(), other, "")
		wantCode(t, err, engine.CodeUsage)
		if rows, _, _ := m.Store.Acts(); len(rows) != 0 || len(said(t, m)) != 0 {
			t.Errorf("it left %d acts and %v", len(rows), said(t, m))
		}
	})
}

func TestNothingIsDoneWithoutLedgerAndJournal(t *testing.T) {
	broken := errors.New("no space")
	bubble(t, with(verb(func(context.Context, *act.Act) error { t.Error("it was run"); return nil })), func(t *testing.T, m *enginetest.Memory) {
		r := ask(engine.LockScreens{})
		p, err := m.Preview(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		m.Store.Break(broken)
		if _, err := m.Do(t.Context(), r, p.Digest); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		m.Store.Break(nil)
	})
	// The ledger takes it and the journal does not.
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMemory(t, enginetest.MemoryOptions{})
		store := enginetest.NewStore()
		tasks := enginetest.NewTasks()
		defer tasks.Stop()
		d, err := act.New(act.Options{Store: store, Spawner: tasks, Snapshot: m.State.Snapshot, Tell: func(engine.ActRow) {},
			Record: func(context.Context, ...engine.Entry) ([]engine.Entry, error) { return nil, broken },
			Verbs: map[engine.ActionKind]act.Verb{engine.KindLockScreens: verb(func(context.Context, *act.Act) error {
				t.Error("it was run")
				return nil
			})}})
		if err != nil {
			t.Fatal(err)
		}
		r := ask(engine.LockScreens{})
		p, err := d.Preview(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Do(t.Context(), r, p.Digest); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		if rows, _, _ := store.Acts(); len(rows) != 1 || rows[0].State != engine.ActFailed {
			t.Errorf("ledger %+v", rows)
		}
	})
}

func TestManyTargetsAreToldInFewRows(t *testing.T) {
	const n = 2048
	v := verb(func(ctx context.Context, a *act.Act) error {
		a.SetStep("one")
		for i := range n {
			a.Settle(fmt.Sprintf("worker/w%d", i+1), "done", "")
			if i%100 == 0 {
				time.Sleep(50 * time.Millisecond)
			}
		}
		return nil
	})
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMemory(t, enginetest.MemoryOptions{})
		var told atomic.Int32
		var last engine.ActRow
		store, tasks := enginetest.NewStore(), enginetest.NewTasks()
		defer tasks.Stop()
		d, err := act.New(act.Options{Store: store, Spawner: tasks, Snapshot: m.State.Snapshot, Record: m.State.Record,
			Tell:  func(r engine.ActRow) { told.Add(1); last = r },
			Verbs: map[engine.ActionKind]act.Verb{engine.KindLockScreens: v}})
		if err != nil {
			t.Fatal(err)
		}
		r := ask(engine.LockScreens{})
		p, _ := d.Preview(t.Context(), r)
		if _, err := d.Do(t.Context(), r, p.Digest); err != nil {
			t.Fatal(err)
		}
		if len(last.Settled) != n || last.State != engine.ActDone || told.Load() > 30 {
			t.Errorf("%d settled, %s, told %d times", len(last.Settled), last.State, told.Load())
		}
	})
}

func TestHalfBuiltDesk(t *testing.T) {
	if _, err := act.New(act.Options{}); err == nil {
		t.Error("a desk without anything was made")
	}
}

// A plan that takes too long is called that, and not an interruption; how long is too long a verb may say.
func TestSlowPlan(t *testing.T) {
	for _, limit := range []time.Duration{0, time.Minute} {
		v := verb(func(context.Context, *act.Act) error { return nil })
		v.PlanTime = limit
		v.Plan = func(ctx context.Context, _ act.Ask) (engine.Plan, error) {
			select {
			case <-ctx.Done():
				return engine.Plan{}, engine.Problem{Exit: engine.ExitInterrupt, Cause: "ended"}.Because(ctx.Err())
			case <-time.After(30 * time.Second):
				return engine.Plan{Title: "try"}, nil
			}
		}
		bubble(t, with(v), func(t *testing.T, m *enginetest.Memory) {
			_, err := m.Preview(t.Context(), ask(engine.LockScreens{}))
			if limit != 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if p := wantCode(t, err, engine.CodeUnexpected); p.Exit != engine.ExitTimeout || !strings.Contains(p.Cause, "within 10s") {
				t.Errorf("exit %d, %v", p.Exit, p)
			}
		})
	}
}
