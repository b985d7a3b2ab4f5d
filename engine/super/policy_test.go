package super

import (
	"testing"
	"time"

	"app.provost/engine"
)

func TestPolicy(t *testing.T) {
	t0 := time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC)
	p := Policy{First: time.Second, Max: 8 * time.Second, Stable: time.Minute, Deaths: 6, Window: 10 * time.Minute}
	type end struct {
		after, ran time.Duration // after t0
		asked      bool
		wish       engine.WorkerWish
	}
	type want struct {
		do   Next
		wait time.Duration
	}
	dies := func(after time.Duration) end { return end{after: after, wish: engine.WishRun} }
	for name, c := range map[string]struct {
		ends []end
		want []want
	}{
		"waits double up to the most, then it gives up": {
			[]end{dies(0), dies(10 * time.Second), dies(20 * time.Second), dies(30 * time.Second), dies(40 * time.Second), dies(50 * time.Second)},
			[]want{{NextStart, time.Second}, {NextStart, 2 * time.Second}, {NextStart, 4 * time.Second}, {NextStart, 8 * time.Second}, {NextStart, 8 * time.Second}, {NextGiveUp, 0}},
		},
		"a stable run begins anew": {
			[]end{dies(0), dies(time.Second), {after: 5 * time.Minute, ran: time.Minute, wish: engine.WishRun}, dies(6 * time.Minute)},
			[]want{{NextStart, time.Second}, {NextStart, 2 * time.Second}, {NextStart, time.Second}, {NextStart, 2 * time.Second}},
		},
		"deaths outside the window are forgotten, the streak is not": {
			[]end{dies(0), dies(1), dies(2), dies(3), dies(4), dies(10*time.Minute + 5)},
			[]want{{NextStart, time.Second}, {NextStart, 2 * time.Second}, {NextStart, 4 * time.Second}, {NextStart, 8 * time.Second}, {NextStart, 8 * time.Second}, {NextStart, 8 * time.Second}},
		},
		"an end on request is no death and wipes the sheet": {
			[]end{dies(0), dies(1), {after: 2, asked: true, wish: engine.WishRun}, dies(3)},
			[]want{{NextStart, time.Second}, {NextStart, 2 * time.Second}, {NextStart, 0}, {NextStart, time.Second}},
		},
		"no wish, no start": {
			[]end{{wish: engine.WishPaused}, {wish: engine.WishHeld}, {wish: engine.WishHeld, asked: true}},
			[]want{{NextStay, 0}, {NextStay, 0}, {NextStay, 0}},
		},
		"deaths while paused count": {
			[]end{{wish: engine.WishPaused}, {wish: engine.WishPaused}, dies(1)},
			[]want{{NextStay, 0}, {NextStay, 0}, {NextStart, 4 * time.Second}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var h History
			for i, e := range c.ends {
				at := t0.Add(e.after)
				var v Verdict
				v, h = p.After(h, Ending{At: at, Ran: e.ran, Asked: e.asked}, e.wish)
				if v.Do != c.want[i].do {
					t.Fatalf("ending %d: %s, want %s", i, v.Do, c.want[i].do)
				}
				if v.Do == NextStart && v.At.Sub(at) != c.want[i].wait {
					t.Fatalf("ending %d: waits %s, want %s", i, v.At.Sub(at), c.want[i].wait)
				}
				if (v.Why != "") != (v.Do == NextGiveUp) {
					t.Errorf("ending %d: %s because %q", i, v.Do, v.Why)
				}
				if len(h.Deaths) > p.Deaths {
					t.Errorf("ending %d: remembers %d deaths of %d that matter", i, len(h.Deaths), p.Deaths)
				}
			}
		})
	}
}

func TestPolicyNeverGivesUp(t *testing.T) {
	p := Policy{Deaths: -1}
	var h History
	for i := range 10_000 {
		var v Verdict
		v, h = p.After(h, Ending{At: time.Unix(int64(i), 0)}, engine.WishRun)
		if v.Do != NextStart || v.At.Sub(time.Unix(int64(i), 0)) > DefaultPolicy.Max {
			t.Fatalf("death %d: %+v", i, v)
		}
	}
	if len(h.Deaths) > 1 {
		t.Errorf("remembers %d deaths and needs none", len(h.Deaths))
	}
}

func TestPolicyDefaults(t *testing.T) {
	var h History
	v := Verdict{}
	at := time.Unix(0, 0)
	n := 0
	for v.Do != NextGiveUp {
		if n++; n > 20 {
			t.Fatal("the default policy never gives up on a process that always dies")
		}
		v, h = Policy{}.After(h, Ending{At: at}, engine.WishRun)
		at = v.At
	}
	if n != DefaultPolicy.Deaths {
		t.Errorf("gave up after %d deaths, want %d", n, DefaultPolicy.Deaths)
	}
}
