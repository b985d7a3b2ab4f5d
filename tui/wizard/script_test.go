package wizard

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/engine"
	"app.provost/engine/scripted"
	"app.provost/tui/page"
)

// TestThroughTheScript unlocks and pauses in an engine of 2,048 workers and watches
// the act until the pause is over.
func TestThroughTheScript(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		e := scripted.New(scripted.Options{Seed: 1})
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		f, err := e.Watch(ctx, engine.WatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		h := &host{waits: map[string]func(){}}
		h.look = page.Look{Link: page.Link{Connected: true}, Sum: &page.Summary{}}
		h.real = e
		step := func() {
			u, err := f.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			h.look.Snap, h.look.Now = u.Snapshot, time.Now()
			for _, o := range h.stack {
				o.Sync(h)
			}
		}
		step()
		w := New(engine.PauseWorkers{Workers: "host:m20", For: engine.Duration(time.Minute)})
		h.Open(w)
		h.keys("<enter><tab>fans<enter><enter>")
		h.want(t, "pause 64 workers for 1m", "scripted: nothing here is real", "LOCKED")
		h.keys("<enter>")
		h.want(t, "Unlock the screens")
		h.keys("<enter><enter>")
		step()
		h.want(t, "Pause workers", "enter is enough")
		h.keys("<enter>")
		if w.receipt == nil {
			t.Fatalf("not taken: %s", w.problem)
		}
		seen := map[engine.ActState]bool{}
		for begin := time.Now(); time.Since(begin) < 62*time.Second; {
			step()
			if w.act != nil {
				seen[w.act.State] = true
			}
		}
		if !seen[engine.ActRunning] || !seen[engine.ActHolding] || w.act.State != engine.ActDone || w.act.By.String() != "ana" {
			t.Errorf("seen %v, ended %+v", seen, w.act.State)
		}
		if all := strings.Join(h.frame(80, 24), "\n"); !strings.Contains(all, "64/64") || !strings.Contains(all, "done: over") {
			t.Errorf("at its end:\n%s", all)
		}
		cancel()
		<-ended
	})
}
