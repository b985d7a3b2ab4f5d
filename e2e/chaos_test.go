package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/rpc"
)

// Workers, stubs, the verifier and the engine are killed at random under load
// for a minute. Every job that was submitted is verified, exactly once.
func TestEveryJobIsVerifiedExactlyOnce(t *testing.T) {
	t.Parallel()
	length := time.Minute
	if testing.Short() {
		length = 12 * time.Second
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	p := newPlace(t)
	eng := p.start("--workers", "2")
	socket := p.socket()

	ctx, cancel := context.WithTimeout(t.Context(), length+6*time.Minute)
	defer cancel()
	// One client, as a person's script would be: it repeats a request with its key
	// until it is answered, however often the engine dies meanwhile.
	do := func(a engine.Action) engine.Receipt {
		r := engine.Request{Key: engine.NewKey(), Action: a, Actor: engine.Actor{Via: engine.ViaCLI}}
		var rec engine.Receipt
		var last error
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end) && ctx.Err() == nil; {
			last = func() error {
				call, done := context.WithTimeout(ctx, 5*time.Second)
				defer done()
				e, err := rpc.Dial(call, rpc.DialOptions{Socket: socket})
				if err != nil {
					return err
				}
				defer e.Close()
				plan, err := e.Preview(call, r)
				if err != nil {
					return err
				}
				rec, err = e.Do(call, r, plan.Digest)
				return err
			}()
			if last == nil {
				return rec
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("no answer: %v", last)
		return engine.Receipt{}
	}

	var wg sync.WaitGroup
	stop := make(chan struct{})
	submitted := map[string]bool{}
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(600 * time.Millisecond):
			}
			circuit := []string{"small", "small", "medium"}[i%3]
			rec := do(engine.SubmitJob{
				Zkey:      filepath.Join(p.dir, "demo", circuit+".zkey"),
				Witnesses: []string{filepath.Join(p.dir, "demo", circuit+"-1.wtns"), filepath.Join(p.dir, "demo", circuit+"-2.wtns")},
				// Deaths are not the job's fault; many of them fall on one job here.
				MaxAttempts: 100,
			})
			if len(rec.Jobs) != 2 {
				t.Errorf("two witnesses were handed in, the receipt names jobs %v", rec.Jobs)
			}
			for _, id := range rec.Jobs {
				if submitted[id] {
					t.Errorf("job %s was given out for two requests", id)
				}
				submitted[id] = true
			}
		}
	}()

	// Who dies often is started ever later, and given up in the end. An operator does
	// not wait for that; here the test is the operator.
	revive := func() {
		s, err := p.look()
		if err != nil {
			return
		}
		for _, w := range s.Workers.List() {
			if w.State == engine.WorkerHeld || w.State == engine.WorkerDown {
				p.confirmed("restart", "worker", string(w.ID), "--detach")
			}
		}
	}
	kills := map[string]int{}
	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(time.Duration(300+dice.IntN(1200)) * time.Millisecond)
		kind := []string{"internal-worker", "internal-worker", "internal-stub", "up"}[dice.IntN(4)]
		victims := byWord(p.processes(), kind)
		if len(victims) == 0 {
			continue
		}
		victim := victims[dice.IntN(len(victims))]
		if args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", victim)); bytes.Contains(args, []byte("verif")) {
			if kills["verifier"] == 3 {
				continue // nobody can start it before its time, and without it nothing counts
			}
			kills["verifier"]++
		}
		syscall.Kill(victim, syscall.SIGKILL)
		kills[kind]++
		if dice.IntN(3) == 0 {
			revive()
		}
		if kind == "up" {
			eng.Wait()
			eng = p.start("--workers", "2")
		}
	}
	calm := time.Now()
	close(stop)
	wg.Wait()
	t.Logf("%d jobs, kills %v", len(submitted), kills)
	if len(submitted) == 0 || kills["internal-worker"] == 0 {
		t.Fatal("nothing was tried")
	}

	verified := map[string]int{}
	eventually(t, 4*time.Minute, "all jobs are verified", func() error {
		revive()
		e, err := rpc.Dial(ctx, rpc.DialOptions{Socket: socket})
		if err != nil {
			return err
		}
		defer e.Close()
		from := uint64(0)
		feed, err := e.Watch(ctx, engine.WatchOptions{After: &from})
		if err != nil {
			return err
		}
		defer feed.Close()
		clear(verified)
		for {
			next, done := context.WithTimeout(ctx, 2*time.Second)
			u, err := feed.Next(next)
			done()
			if err != nil {
				return fmt.Errorf("%d of %d verified; %s", len(verified), len(submitted), p.standing())
			}
			if u.Gap != nil {
				t.Fatalf("journal entries are gone: %+v", u.Gap)
			}
			for _, entry := range u.Entries {
				if entry.What == "job.verified" {
					verified[entry.Key.ID]++
				}
			}
			if len(verified) >= len(submitted) {
				return nil
			}
		}
	})
	t.Logf("all were verified %s after the last kill", time.Since(calm).Round(time.Second))
	for id := range submitted {
		if verified[id] != 1 {
			t.Errorf("job %s was verified %d times", id, verified[id])
		}
	}
	if len(verified) != len(submitted) {
		t.Errorf("%d verified, %d submitted", len(verified), len(submitted))
	}
}

// standing says in a few words how workers and jobs stand, for the message of a failed test.
func (p *place) standing() string {
	s, err := p.look()
	if err != nil {
		return err.Error()
	}
	out := fmt.Sprintf("%+v", s.Jobs.Totals)
	for _, w := range s.Workers.List() {
		out += fmt.Sprintf("; %s %s, wished to %s (%s)", w.ID, w.State, w.Desired, w.Note)
	}
	for _, j := range s.Jobs.List() {
		if !j.State.Final() && j.Attempts > 0 {
			out += fmt.Sprintf("; job %s %s of %s, attempt %d", j.ID, j.State, j.Worker, j.Attempts)
		}
	}
	for _, a := range s.Acts.List() {
		if a.State.Open() {
			out += fmt.Sprintf("; act %s %s of %s: %s at step %d, %s %v", a.ID, a.Kind, a.Target, a.State, a.Step, a.Text, a.Settled)
		}
	}
	return out
}
