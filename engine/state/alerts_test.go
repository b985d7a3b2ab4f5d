package state_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/engine"
	"app.provost/engine/enginetest"
	"app.provost/engine/state"
)

var down = engine.Raise{Code: engine.FindWorkerDown, Key: engine.Key{Machine: "m1", ID: "w7"}, Target: "worker/w7", Facts: []engine.Fact{{Name: "cause", Value: "SIGKILL"}}}

const downID = "worker.down/m1/-/-/w7"

func raise(s *state.State, r engine.Raise) { s.Tell(state.Raise{Raise: r}) }
func over(s *state.State, r engine.Raise)  { s.Tell(state.Clear{Code: r.Code, Key: r.Key}) }

func alertsOf(s *state.State) (open, closed []engine.Finding) {
	for _, f := range s.Snapshot().Alerts.List() {
		if f.ClosedAt == nil {
			open = append(open, f)
		} else {
			closed = append(closed, f)
		}
	}
	return open, closed
}

func TestAlertLives(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, store *enginetest.Store) {
		start := time.Now()
		over(s, down) // nothing is open: nothing happens
		raise(s, down)
		time.Sleep(time.Minute)
		again := down
		again.Facts = []engine.Fact{{Name: "cause", Value: "SIGSEGV"}}
		raise(s, again)
		settle()
		open, closed := alertsOf(s)
		if len(open) != 1 || len(closed) != 0 {
			t.Fatalf("%+v %+v", open, closed)
		}
		f := open[0]
		if f.ID != downID || f.Count != 2 || !f.Since.Equal(start) || !f.Last.Equal(start.Add(time.Minute)) || f.Title != "worker w7 died: SIGSEGV" || f.Effect == "" || len(f.Next) == 0 {
			t.Errorf("%+v", f)
		}
		over(s, down)
		settle()
		open, closed = alertsOf(s)
		if len(open) != 0 || len(closed) != 1 || closed[0].Count != 2 || closed[0].ClosedAt == nil {
			t.Errorf("%+v %+v", open, closed)
		}
		if got := said(t, store); !slices.Equal(got, []string{"alert.raised", "alert.closed"}) {
			t.Errorf("journal %v", got)
		}
		// Much later it is a new one.
		time.Sleep(time.Hour)
		raise(s, down)
		settle()
		open, closed = alertsOf(s)
		if len(open) != 1 || len(closed) != 1 || open[0].Count != 1 || !open[0].Since.After(start.Add(time.Hour)) {
			t.Errorf("%+v %+v", open, closed)
		}
	})
}

func TestFlappingIsOneAlert(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, store *enginetest.Store) {
		start := time.Now()
		for range 20 {
			raise(s, down)
			time.Sleep(10 * time.Second)
			over(s, down)
			time.Sleep(10 * time.Second)
		}
		settle()
		open, closed := alertsOf(s)
		if len(open) != 1 || len(closed) != 0 {
			t.Fatalf("%d open, %d closed", len(open), len(closed))
		}
		f := open[0]
		if !strings.HasSuffix(f.Title, "(flaps)") || strings.Count(f.Title, "flaps") != 1 || f.Count != 20 || !f.Since.Equal(start) {
			t.Errorf("%+v", f)
		}
		if last := f.Facts[len(f.Facts)-1]; last.Name != "flaps" || last.Value != "40 changes in 10 minutes" {
			t.Errorf("facts %+v", f.Facts)
		}
		// Raised, closed, raised again and flaps: then silence, however often it changes.
		if got := said(t, store); len(got) != 3 {
			t.Errorf("journal %v", got)
		}
		// Quiet for ten minutes: it is over.
		time.Sleep(10*time.Minute + time.Second)
		open, closed = alertsOf(s)
		if len(open) != 0 || len(closed) != 1 || strings.Contains(closed[0].Title, "flaps") {
			t.Errorf("%+v %+v", open, closed)
		}
		if got := said(t, store); got[len(got)-1] != "alert.closed" || len(got) != 4 {
			t.Errorf("journal %v", got)
		}
	})
	// Flaps, and then stays.
	bubble(t, func(t *testing.T, s *state.State, store *enginetest.Store) {
		for range 3 {
			raise(s, down)
			time.Sleep(time.Second)
			over(s, down)
			time.Sleep(time.Second)
		}
		raise(s, down)
		time.Sleep(11 * time.Minute)
		open, closed := alertsOf(s)
		if len(open) != 1 || len(closed) != 0 || strings.Contains(open[0].Title, "flaps") {
			t.Errorf("%+v %+v", open, closed)
		}
	})
	// Two changes are not three.
	bubble(t, func(t *testing.T, s *state.State, store *enginetest.Store) {
		raise(s, down)
		time.Sleep(time.Minute)
		over(s, down)
		time.Sleep(9*time.Minute + time.Second)
		raise(s, down)
		settle()
		if open, closed := alertsOf(s); len(open) != 1 || len(closed) != 1 || strings.Contains(open[0].Title, "flaps") {
			t.Errorf("%+v %+v", open, closed)
		}
	})
}

func TestAlertIsShownAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := enginetest.NewStore()
		o := options(store)
		o.ShowAfter = func(engine.Code) time.Duration { return 30 * time.Second }
		s, _ := run(t, o)
		raise(s, down)
		time.Sleep(20 * time.Second)
		over(s, down)
		time.Sleep(time.Minute)
		if open, closed := alertsOf(s); len(open)+len(closed) != 0 || len(said(t, store)) != 0 {
			t.Errorf("what was over in time is shown: %+v %+v", open, closed)
		}
		time.Sleep(20 * time.Minute)
		start := time.Now()
		raise(s, down)
		time.Sleep(29 * time.Second)
		if open, _ := alertsOf(s); len(open) != 0 {
			t.Error("shown too early")
		}
		time.Sleep(3 * time.Second)
		if open, _ := alertsOf(s); len(open) != 1 || !open[0].Since.Equal(start) {
			t.Errorf("%+v", open)
		}
	})
}

func TestAckAndMuteLastOverARestart(t *testing.T) {
	ana := engine.Actor{Name: "ana", Host: "bastion", Via: engine.ViaCLI}
	synctest.Test(t, func(t *testing.T) {
		store := enginetest.NewStore()
		s, stop := run(t, options(store))
		other := down
		other.Key.ID, other.Target = "w8", "worker/w8"
		raise(s, down)
		raise(s, other)
		if _, err := s.AckAlerts(t.Context(), []string{downID, "no.such"}, ana); engine.AsProblem("", err).Code != engine.CodeNotFound {
			t.Errorf("an unknown id: %v", err)
		}
		settle()
		if open, _ := alertsOf(s); len(open) != 2 || open[0].AckBy+open[1].AckBy != "" {
			t.Errorf("half of a refused request was done: %+v", open)
		}
		if ids, err := s.AckAlerts(t.Context(), []string{downID}, ana); err != nil || !slices.Equal(ids, []string{downID}) {
			t.Fatal(ids, err)
		}
		if ids, err := s.MuteAlerts(t.Context(), []string{"all"}, time.Now().Add(time.Hour), ana); err != nil || len(ids) != 2 {
			t.Fatal(ids, err)
		}
		open, _ := alertsOf(s) // no settle: it is in the snapshot when the call returns
		if f := open[0]; f.AckBy != "ana@bastion" || f.AckAt == nil || f.MuteUntil == nil {
			t.Errorf("%+v", f)
		}
		stop()

		time.Sleep(time.Minute)
		s, stop = run(t, options(store))
		raise(s, down)
		raise(s, other)
		settle()
		open, _ = alertsOf(s)
		if len(open) != 2 || open[0].AckBy != "ana@bastion" || open[0].MuteUntil == nil || open[1].AckBy != "" || open[1].MuteUntil == nil {
			t.Errorf("after a restart %+v", open)
		}
		time.Sleep(time.Hour)
		if open, _ = alertsOf(s); open[0].MuteUntil != nil || open[0].AckBy == "" {
			t.Errorf("after an hour %+v", open[0])
		}
		over(s, down)
		settle()
		docs, _ := store.All()
		if _, kept := docs[downID]; kept || len(docs) != 1 {
			t.Errorf("marks that are kept: %q", docs)
		}
		// What comes back is a new trouble, and nobody has seen it.
		time.Sleep(time.Hour)
		raise(s, down)
		settle()
		if open, _ = alertsOf(s); len(open) != 2 || open[1].ID != downID || open[1].AckBy != "" {
			t.Errorf("%+v", open)
		}
		stop()

		time.Sleep(31 * 24 * time.Hour)
		store.Put("junk", []byte(`[]`))
		if _, err := state.New(options(store)); err != nil {
			t.Fatal(err)
		}
		if docs, _ := store.All(); len(docs) != 0 {
			t.Errorf("old marks are kept for ever: %q", docs)
		}
	})
}

func TestAckThatIsNotKeptIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, store *enginetest.Store) {
		raise(s, down)
		settle()
		full := errors.New("no space")
		store.Break(full)
		if _, err := s.AckAlerts(t.Context(), []string{"all"}, engine.Actor{Name: "ana"}); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
		store.Break(nil)
	})
}

func TestClosedAlertsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		for i := range 500 {
			r := down
			r.Key.ID = fmt.Sprint("w", i)
			raise(s, r)
			over(s, r)
			time.Sleep(time.Second)
		}
		open, closed := alertsOf(s)
		if len(open) != 0 || len(closed) != 200 || closed[0].Key.ID != "w499" {
			t.Errorf("%d open, %d closed", len(open), len(closed))
		}
	})
}

func TestVerdict(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		is := func(word engine.VerdictWord, rules ...engine.Code) engine.Verdict {
			t.Helper()
			settle()
			v := s.Snapshot().Verdict.Value
			var got []engine.Code
			for _, r := range v.Reasons {
				got = append(got, r.Rule)
			}
			if v.Word != word || !slices.Equal(got, rules) {
				t.Fatalf("verdict %s because of %v, want %s because of %v", v.Word, got, word, rules)
			}
			return v
		}
		source := func(period float64, at *time.Time, problem string) {
			s.Tell(state.PutSource{Row: engine.SourceRow{Key: engine.Key{Machine: "m1", ID: "cpu"}, Name: "cpu", At: at, PeriodS: period, Problem: problem}})
		}
		is(engine.VerdictUnknown, engine.FindHostSilent) // nothing was read yet: not ok
		source(60, nil, "")
		is(engine.VerdictUnknown, engine.FindHostSilent)
		now := time.Now()
		source(60, &now, "")
		since := is(engine.VerdictOK).Since
		time.Sleep(4 * time.Minute)
		if v := is(engine.VerdictOK); !v.Since.Equal(since) {
			t.Error("since moved without a change")
		}
		// Nothing is told any more: by time alone it is not ok.
		time.Sleep(2 * time.Minute)
		v := is(engine.VerdictUnknown, engine.FindHostSilent)
		if v.Reasons[0].Target != "source/cpu" || !strings.Contains(v.Reasons[0].Text, "was last read") {
			t.Errorf("%+v", v.Reasons)
		}
		at := time.Now()
		source(3600, &at, "permission denied")
		is(engine.VerdictUnknown, engine.FindHostSilent)
		source(3600, &at, "")
		is(engine.VerdictOK)

		note := engine.Raise{Code: engine.FindWorkerShared, Key: engine.Key{Machine: "m1", ID: "w1"}, Target: "worker/w1"}
		raise(s, note)
		is(engine.VerdictOK)
		raise(s, down)
		v = is(engine.VerdictDegraded, engine.FindWorkerDown)
		if r := v.Reasons[0]; r.Target != "worker/w7" || r.Text != "worker w7 died: SIGKILL" || r.Effect == "" {
			t.Errorf("%+v", r)
		}
		// jobs.waiting follows from worker.down at the same machine, and only there.
		waiting := engine.Raise{Code: engine.FindJobsWaiting, Key: engine.Key{Machine: "m1"}, Target: "jobs"}
		raise(s, waiting)
		is(engine.VerdictDegraded, engine.FindWorkerDown)
		elsewhere := waiting
		elsewhere.Key.Machine = "m2"
		raise(s, elsewhere)
		is(engine.VerdictDegraded, engine.FindWorkerDown, engine.FindJobsWaiting)
		over(s, elsewhere)
		raise(s, engine.Raise{Code: engine.FindVerifierDown, Key: engine.Key{Machine: "m1"}, Target: "verifier"})
		is(engine.VerdictCritical, engine.FindVerifierDown, engine.FindWorkerDown)
		// A muted one counts, after the others.
		if _, err := s.MuteAlerts(t.Context(), []string{"verifier.down/m1/-/-/-"}, time.Now().Add(time.Hour), engine.Actor{}); err != nil {
			t.Fatal(err)
		}
		is(engine.VerdictCritical, engine.FindWorkerDown, engine.FindVerifierDown)
	})
}

func TestRestartSentence(t *testing.T) {
	bubble(t, func(t *testing.T, s *state.State, _ *enginetest.Store) {
		is := func(safe any, words ...string) {
			t.Helper()
			settle()
			r := s.Snapshot().Verdict.Value.Restart
			var got any
			if r.Safe != nil {
				got = *r.Safe
			}
			if got != safe || r.ForS != nil {
				t.Errorf("safe %v, want %v: %s", got, safe, r.Why)
			}
			for _, w := range words {
				if !strings.Contains(r.Why, w) {
					t.Errorf("%q lacks %q", r.Why, w)
				}
			}
		}
		is(nil, "not known yet")
		w := enginetest.Worker(1, 0)
		s.Tell(state.PutWorker{Row: w}, state.SetJobTotals{})
		is(true, "verifying and handing out pause")
		job := w
		jobID := engine.JobRow{ID: "j1"}.ID
		job.Job, job.State = &jobID, engine.WorkerRun
		s.Tell(state.PutWorker{Row: job}, state.SetJobTotals{Totals: engine.JobTotals{Leased: 1, Proved: 2}},
			state.PutAct{Row: engine.ActRow{Key: engine.Key{ID: "a1"}, ID: "a1", State: engine.ActHolding}})
		is(true, "1 job goes on in the workers", "2 proofs wait", "1 act resumes")
		job.State = engine.WorkerUnknown
		s.Tell(state.PutWorker{Row: job})
		is(nil, "1 worker is in an unknown state")
		s.Tell(state.SetStopping{Step: "act"})
		is(false, "stopping already (act)")
	})
	synctest.Test(t, func(t *testing.T) {
		o := options(enginetest.NewStore())
		o.Parts = []engine.SectionName{engine.SecMachines}
		s, _ := run(t, o)
		settle()
		if r := s.Snapshot().Verdict.Value.Restart; r.Safe == nil || !*r.Safe || r.Why != "nothing runs that a restart would disturb" {
			t.Errorf("%+v", r)
		}
	})
}
