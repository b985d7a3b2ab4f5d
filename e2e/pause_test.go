package e2e

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/rpc"
	"app.provost/prover"
)

// worker waits until a worker's row is as wanted.
func (p *place) worker(id, what string, want func(engine.WorkerRow) bool) engine.WorkerRow {
	p.t.Helper()
	var row engine.WorkerRow
	eventually(p.t, 40*time.Second, id+" "+what, func() error {
		s, err := p.look()
		if err != nil {
			return err
		}
		for _, w := range s.Workers.List() {
			if string(w.ID) == id {
				if row = w; want(w) {
					return nil
				}
				return fmt.Errorf("it is %s, wished to %s, job %v", w.State, w.Desired, w.Job)
			}
		}
		return fmt.Errorf("it is not listed")
	})
	return row
}

func inState(st engine.WorkerState) func(engine.WorkerRow) bool {
	return func(w engine.WorkerRow) bool { return w.State == st }
}

func works(w engine.WorkerRow) bool {
	return w.Desired == engine.WishRun && (w.State == engine.WorkerIdle || w.State == engine.WorkerRun)
}

// act gives the newest act of a kind.
func (p *place) act(kind engine.ActionKind) engine.ActRow {
	p.t.Helper()
	s, err := p.look()
	if err != nil {
		p.t.Fatal(err)
	}
	var got engine.ActRow
	for _, a := range s.Acts.List() {
		if a.Kind == kind && (got.ID == "" || a.Started.After(got.Started)) {
			got = a
		}
	}
	if got.ID == "" {
		p.t.Fatalf("no act of kind %s", kind)
	}
	return got
}

// A pause lets the job in hand end, lasts over every kind of restart with the same
// end, and is over when somebody says so.
func TestPauseDrainsAndOutlivesRestarts(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	eng := p.start("--workers", "2")
	worker, pid, job := p.freeze()
	if r := p.confirmed("pause", "worker", worker, "--for", "1h", "--reason", "disk swap", "--detach"); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	first := p.worker(worker, "drains", inState(engine.WorkerPausing))
	syscall.Kill(pid, syscall.SIGCONT)
	p.worker(worker, "is paused", inState(engine.WorkerPaused))
	s := p.allVerified(60 * time.Second)
	if row := jobRow(t, s, job); row.Attempts != 1 || string(row.Worker) != worker {
		t.Errorf("the job in hand was proved by %s in %d attempts, want %s in 1", row.Worker, row.Attempts, worker)
	}
	for _, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		eng.Process.Signal(end)
		waitExit(t, eng, 15*time.Second)
		eng = p.start("--workers", "2")
		row := p.worker(worker, "is paused after "+end.String(), inState(engine.WorkerPaused))
		if row.PauseUntil == nil || first.PauseUntil == nil || !row.PauseUntil.Equal(*first.PauseUntil) || row.PauseWhy != "disk swap" {
			t.Errorf("pause until %v for %q, it was until %v", row.PauseUntil, row.PauseWhy, first.PauseUntil)
		}
		if row.PID == nil || *row.PID != pid {
			t.Errorf("the process changed: %v, was %d", row.PID, pid)
		}
		// With the other worker stopped, nobody takes a job.
		other := "w1"
		if worker == "w1" {
			other = "w2"
		}
		otherPID := p.workerPIDs()[other]
		syscall.Kill(otherPID, syscall.SIGSTOP)
		ids := p.submit(1)
		time.Sleep(time.Second)
		now, err := p.look()
		syscall.Kill(otherPID, syscall.SIGCONT)
		if err != nil {
			t.Fatal(err)
		}
		if row := jobRow(t, now, ids[0]); string(row.Worker) == worker {
			t.Errorf("a paused worker took a job")
		}
		p.allVerified(60 * time.Second)
	}
	if a := p.act(engine.KindPauseWorkers); a.State != engine.ActHolding {
		t.Errorf("the act is %s: %s", a.State, a.Text)
	}
	if r := p.confirmed("resume", "worker", worker); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	p.worker(worker, "works again", works)
	eventually(t, 10*time.Second, "the act of the pause has ended", func() error {
		if a := p.act(engine.KindPauseWorkers); a.State != engine.ActDone {
			return fmt.Errorf("it is %s: %s", a.State, a.Text)
		}
		return nil
	})
}

// A pause ends by itself, whether an engine was there the whole time or not.
func TestPauseEndsByItself(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		down          time.Duration // how long no engine runs
		stop, killing bool
	}{
		{name: "engine runs"},
		{name: "engine is killed meanwhile", killing: true},
		{name: "pause is over when the engine comes back", killing: true, down: 4 * time.Second},
		{name: "processes were stopped too", stop: true, killing: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			eng := p.start("--workers", "1")
			pid := p.workerPIDs()["w1"]
			args := []string{"pause", "worker", "all", "--for", "3s", "--reason", "test", "--wait"}
			if c.stop {
				args = append(args, "--stop")
			}
			if r := p.confirmed(args...); r.code != 0 {
				t.Fatalf("exit %d: %s%s", r.code, r.out, r.err)
			}
			row := p.worker("w1", "is paused", func(w engine.WorkerRow) bool { return w.Desired == engine.WishPaused || works(w) })
			if c.stop && row.Desired == engine.WishPaused && row.PID != nil && *row.PID == pid {
				t.Errorf("--stop left the process: %+v", row)
			}
			if c.killing {
				eng.Process.Kill()
				waitExit(t, eng, 10*time.Second)
				time.Sleep(c.down)
				p.start("--workers", "1")
			}
			p.worker("w1", "works again", works)
			now := p.workerPIDs()["w1"]
			if (now == pid) == c.stop {
				t.Errorf("process %d was %d", now, pid)
			}
			eventually(t, 10*time.Second, "the act has ended", func() error {
				if a := p.act(engine.KindPauseWorkers); a.State != engine.ActDone || a.Ended == nil {
					return fmt.Errorf("it is %s: %s %v", a.State, a.Text, a.Settled)
				}
				return nil
			})
			p.submit(1)
			p.allVerified(60 * time.Second)
		})
	}
}

// What an act needs is asked before anything is done; without somebody to ask it is
// listed, with the exit code that scripts rely on.
func TestPauseNeedsConsent(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start("--workers", "2")
	p.workerPIDs()
	both := p.digest("pause", "worker", "all", "--for", "1h", "--reason", "test")
	for _, c := range []struct {
		name string
		args []string
		code int
		said []string
	}{
		{"nothing is said", []string{"pause", "worker", "w1"}, 2, []string{"missing: --for, --reason, --confirm"}},
		{"no consent", []string{"pause", "worker", "w1", "--for", "1h", "--reason", "test"}, 2, []string{"missing: --confirm", "--confirm="}},
		{"another plan", []string{"pause", "worker", "w1", "--for", "1h", "--reason", "test", "--confirm", both}, 4, []string{both, "another plan"}},
		{"no digest", []string{"pause", "worker", "w1", "--for", "1h", "--reason", "test", "--confirm", "yes"}, 4, []string{"another plan"}},
		{"no worker of that name", []string{"pause", "worker", "w9", "--for", "1h", "--reason", "test"}, 2, []string{"w9"}},
		{"nobody", []string{"pause", "worker", "", "--for", "1h", "--reason", "test"}, 2, nil},
		{"no selector", []string{"pause", "worker"}, 2, nil},
		{"unknown column", []string{"pause", "worker", "colour:red", "--for", "1h", "--reason", "test"}, 2, []string{"colour"}},
		{"no time", []string{"pause", "worker", "w1", "--for", "0s", "--reason", "test"}, 2, []string{"0s"}},
		{"time backwards", []string{"pause", "worker", "w1", "--for", "-1h", "--reason", "test"}, 2, []string{"-1h"}},
		{"time in words", []string{"pause", "worker", "w1", "--for", "soon", "--reason", "test"}, 2, []string{"soon", "45m"}},
		{"too long", []string{"pause", "worker", "w1", "--for", "1000h", "--reason", "test"}, 2, []string{"1000h", "720h"}},
		{"read only", []string{"pause", "worker", "all", "--for", "1h", "--reason", "test", "--confirm", both, "--read-only"}, 3, []string{"--read-only"}},
		{"two ways at once", []string{"pause", "worker", "all", "--for", "1h", "--reason", "test", "--confirm", both, "--wait", "--detach"}, 2, []string{"--wait"}},
		{"not paused", []string{"resume", "worker", "w1"}, 2, []string{"not paused"}},
	} {
		r := p.run(c.args...)
		if r.code != c.code {
			t.Errorf("%s: exit %d, want %d: %s", c.name, r.code, c.code, r.err)
		}
		head, _, _ := strings.Cut(r.err, "\n")
		if !strings.HasPrefix(head, "provost: ") || !strings.Contains(head, "; ") {
			t.Errorf("%s: want one line with what, why and what to do, got %q", c.name, head)
		}
		for _, m := range c.said {
			if !strings.Contains(head, m) {
				t.Errorf("%s: %q is not said in %q", c.name, m, head)
			}
		}
	}
	if rows := p.rows("acts"); len(rows) != 0 {
		t.Errorf("refused acts are in the ledger: %v", rows)
	}

	// A plan that was looked at before somebody else acted is not the plan any more.
	if r := p.confirmed("pause", "worker", "w1", "--for", "1h", "--reason", "test"); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	p.worker("w1", "is paused", inState(engine.WorkerPaused))
	r := p.run("pause", "worker", "all", "--for", "1h", "--reason", "test", "--confirm", both)
	if r.code != 4 || !strings.Contains(r.err, "worker/w1") {
		t.Errorf("exit %d, want 4 and the plan as it is now: %s", r.code, r.err)
	}
	// The act can be taken back by its id, too.
	if r := p.confirmed("acts", "cancel", p.act(engine.KindPauseWorkers).ID); r.code != 0 {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	p.worker("w1", "works again", works)

	// Waiting ends at its limit, and the act goes on.
	pid := p.workerPIDs()["w1"]
	syscall.Kill(pid, syscall.SIGSTOP)
	defer syscall.Kill(pid, syscall.SIGCONT)
	p.submit(2)
	p.worker("w1", "has a job", func(w engine.WorkerRow) bool { return w.Job != nil })
	r = p.confirmed("pause", "worker", "w1", "--for", "1h", "--reason", "test", "--wait", "--timeout", "1s")
	if r.code != 7 || !strings.Contains(r.out, "a") || !strings.Contains(r.err, "the act goes on") {
		t.Errorf("exit %d, want 7: %q %q", r.code, r.out, r.err)
	}
}

// Screens may only look until somebody unlocks them, with a reason and for a while.
func TestLockedScreens(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start("--workers", "1")
	p.workerPIDs()
	pause := engine.PauseWorkers{Workers: "w1", For: engine.Duration(time.Hour), Reason: "test"}
	asScreen := func(a engine.Action) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c, err := rpc.Dial(ctx, rpc.DialOptions{Socket: p.socket(), Via: engine.ViaScreen})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r := engine.Request{Key: engine.NewKey(), Action: a, Actor: engine.Actor{Via: engine.ViaScreen}}
		plan, err := c.Preview(ctx, r)
		if err != nil {
			return err
		}
		_, err = c.Do(ctx, r, plan.Digest)
		return err
	}
	locked := func(err error) bool {
		q := engine.AsProblem("", err)
		return err != nil && q.Code == engine.CodeLocked && q.Exit == engine.ExitNotAllowed && strings.Contains(q.Remedy, "unlock")
	}
	if err := asScreen(pause); !locked(err) {
		t.Errorf("a locked screen may act: %v", err)
	}
	for _, bad := range [][]string{{"unlock"}, {"unlock", "--for", "15m"}, {"unlock", "--for", "10s", "--reason", "r"}, {"unlock", "--for", "9h", "--reason", "r"}} {
		if r := p.run(bad...); r.code != 2 {
			t.Errorf("%v: exit %d: %s", bad, r.code, r.err)
		}
	}
	p.must("unlock", "--for", "15m", "--reason", "disk swap")
	if err := asScreen(pause); err != nil {
		t.Errorf("an unlocked screen may not act: %v", err)
	}
	p.worker("w1", "is paused", inState(engine.WorkerPaused))
	p.must("lock")
	if err := asScreen(engine.ResumeWorkers{Workers: "w1"}); !locked(err) {
		t.Errorf("a screen that was locked again may act: %v", err)
	}
	var who []string
	for _, e := range p.journal() {
		if strings.HasPrefix(e.What, "lock.") {
			if e.Actor == nil || e.Actor.Name == "" {
				t.Errorf("nobody is named in %+v", e)
			}
			who = append(who, e.What)
		}
	}
	if strings.Join(who, " ") != "lock.opened lock.closed" {
		t.Errorf("journal of the lock: %v", who)
	}
	// Who holds the socket and says that it is a command line gives its consent by the plan's digest.
	if r := p.confirmed("resume", "worker", string(prover.WorkerFor(1))); r.code != 0 {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}
