package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"app.provost/prover"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) { f(t, newRig(t)) })
}

func TestOneJob(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w, v := r.worker("w1"), r.verifier()
		r.submit("a")
		o := w.order(t, prover.OrderProve)
		if o.Zkey.Path != "/blobs/"+o.Zkey.Digest.String()+".zkey" || o.Witness.Digest != (prover.Digest{2}) || o.Attempt != 1 || o.LimitMS != 600_000 {
			t.Errorf("order %+v", o)
		}
		v.none(t)
		w.beat(o)
		w.prove(o, "p")
		w.order(t, prover.OrderAck)
		r.state("a", prover.JobProved)
		vo := v.order(t, prover.OrderVerify)
		if string(vo.Proof.ProofJSON) != "p" || vo.Proof.Worker != "w1" || vo.Witness != nil {
			t.Errorf("order %+v", vo)
		}
		v.judge(vo, prover.VerdictValid)
		v.order(t, prover.OrderAck)
		r.state("a", prover.JobVerified)
		time.Sleep(time.Second)
		synctest.Wait()
		if r.files.sum() != 0 {
			t.Error("files are still held")
		}
		if j := r.jobs["a"]; j.State != prover.JobVerified || j.Rev == 0 {
			t.Errorf("told: %+v", j)
		}
		if w := r.workers["w1"]; w.Verified != 1 || w.Job != nil || !w.Connected {
			t.Errorf("told: %+v", w)
		}
		if r.last.Totals != (prover.JobTotals{Submitted: 1, Verified: 1}) {
			t.Errorf("told: %+v", r.last.Totals)
		}
	})
}

func TestOldestFirstToTheLongestWaiting(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w1, w2 := r.worker("w1"), r.worker("w2")
		r.submit("a", "b", "c")
		a, b := w1.order(t, prover.OrderProve), w2.order(t, prover.OrderProve)
		if a.Job != "a" || b.Job != "b" {
			t.Errorf("got %s and %s", a.Job, b.Job)
		}
		w2.prove(b, "p")
		if w2.order(t, prover.OrderAck); w2.order(t, prover.OrderProve).Job != "c" {
			t.Error("not the oldest that is left")
		}
		w1.tell(prover.Report{Kind: prover.ReportResult, Job: "a", Attempt: 1, Failure: &prover.Failure{Code: "internal", Text: "x", Retry: true}})
		w1.order(t, prover.OrderAck)
		if o := w1.order(t, prover.OrderProve); o.Job != "a" || o.Attempt != 2 {
			t.Errorf("the job that came back is the oldest: %+v", o)
		}
	})
}

func TestSilentWorkerLosesItsLease(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w1 := r.worker("w1")
		r.submit("a")
		o := w1.order(t, prover.OrderProve)
		for range 100 { // alive: keeps it far beyond the lease
			time.Sleep(time.Second)
			w1.beat(o)
		}
		r.state("a", prover.JobLeased)
		time.Sleep(31 * time.Second)
		w1.order(t, prover.OrderCancel)
		tk := r.state("a", prover.JobQueued)
		if tk.Failure.Code != prover.FailLeaseExpired || tk.Attempts != 1 {
			t.Errorf("ticket %+v", tk)
		}
		w1.prove(o, "late")
		w1.order(t, prover.OrderAck) // so that it forgets it
		if o := w1.order(t, prover.OrderProve); o.Attempt != 2 {
			t.Errorf("order %+v", o)
		}
		r.state("a", prover.JobLeased)
	})
}

// A clock that is set, or a machine that slept, is not the silence of a worker.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{5 * time.Minute, -5 * time.Minute} {
		bubble(t, func(t *testing.T, r *rig) {
			w1 := r.worker("w1")
			r.submit("a")
			o := w1.order(t, prover.OrderProve)
			r.skew.Store(int64(jump))
			time.Sleep(10 * time.Second)
			w1.beat(o)
			r.state("a", prover.JobLeased)
			w1.none(t)
			w1.prove(o, "p")
			r.state("a", prover.JobProved)
		})
	}
}

// A prover that hangs and whose heart beats on does not keep its job for ever.
func TestHangingProverLosesItsLease(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w1 := r.worker("w1")
		r.submit("a")
		o := w1.order(t, prover.OrderProve)
		for range 10*60 + 40 {
			time.Sleep(time.Second)
			w1.beat(o)
		}
		r.state("a", prover.JobQueued)
		w1.order(t, prover.OrderCancel)
	})
}

func TestWorkerExit(t *testing.T) {
	for _, c := range []struct {
		name  string
		pid   int
		left  *prover.Report
		state prover.JobState
	}{
		{"releases", 100, nil, prover.JobQueued},
		{"pid not known", 0, nil, prover.JobQueued},
		{"of an older process", 99, nil, prover.JobLeased},
		{"left a proof", 100, &prover.Report{Kind: prover.ReportResult, Job: "a", Attempt: 1, Proof: &prover.Proof{ProofJSON: []byte("p")}}, prover.JobProved},
		{"left an older proof", 100, &prover.Report{Kind: prover.ReportResult, Job: "z", Attempt: 1, Proof: &prover.Proof{}}, prover.JobQueued},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				w := r.worker("w1")
				r.submit("a")
				w.order(t, prover.OrderProve)
				if err := r.q.WorkerExited(t.Context(), "w1", c.pid, c.left); err != nil {
					t.Fatal(err)
				}
				tk := r.state("a", c.state)
				if c.state == prover.JobQueued && (tk.Failure.Code != prover.FailWorkerDied || tk.AttemptsLeft() != 2) {
					t.Errorf("ticket %+v", tk)
				}
				w.none(t)
				w.close()
			})
		})
	}
}

func TestHelloTellsWhatBecameOfALease(t *testing.T) {
	for _, c := range []struct {
		name    string
		holding *prover.Holding
		young   bool
		state   prover.JobState
		attempt int
		left    int
		cancel  bool
	}{
		{"still at it", &prover.Holding{Job: "a", Attempt: 1}, false, prover.JobLeased, 1, 2, false},
		{"has the result", &prover.Holding{Job: "a", Attempt: 1, Done: true}, true, prover.JobLeased, 1, 2, false},
		{"never got the order", nil, false, prover.JobLeased, 2, 2, false},
		{"a new process", nil, true, prover.JobLeased, 2, 1, false},
		{"at something else", &prover.Holding{Job: "x", Attempt: 4}, true, prover.JobQueued, 1, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				started := time.Now().Add(-time.Hour)
				w := r.hub.connect("w1", prover.RoleProve, 1, started, nil)
				r.submit("a")
				w.order(t, prover.OrderProve)
				w.close()
				time.Sleep(5 * time.Second)
				if c.young {
					started = time.Now()
				}
				w = r.hub.connect("w1", prover.RoleProve, 1, started, c.holding)
				tk := r.state("a", c.state)
				if tk.Attempts != c.attempt || tk.AttemptsLeft() != c.left {
					t.Errorf("attempts %d, left %d", tk.Attempts, tk.AttemptsLeft())
				}
				switch {
				case c.cancel:
					if o := w.order(t, prover.OrderCancel); o.Job != "x" || o.Attempt != 4 {
						t.Errorf("order %+v", o)
					}
				case c.attempt == 2:
					w.order(t, prover.OrderProve)
				}
				w.none(t)
			})
		})
	}
}

func TestRestartDoesNotDisturb(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w := r.worker("w1")
		r.submit("a", "b")
		o := w.order(t, prover.OrderProve)
		r.stop()
		time.Sleep(5 * time.Minute) // far beyond the lease
		r.startQueue()
		if r.files.sum(); r.state("a", prover.JobLeased).Lease.Attempt != 1 {
			t.Error("the lease did not outlive the engine")
		}
		time.Sleep(20 * time.Second)
		w = r.hub.connect("w1", prover.RoleProve, 100, time.Now().Add(-time.Hour), &prover.Holding{Job: "a", Attempt: 1, Progress: 0.9})
		w.none(t)
		time.Sleep(25 * time.Second)
		r.state("a", prover.JobLeased) // adopted: its hello began the lease anew
		w.prove(o, "p")
		w.order(t, prover.OrderAck)
		v := r.verifier()
		v.judge(v.order(t, prover.OrderVerify), prover.VerdictValid)
		if tk := r.state("a", prover.JobVerified); tk.Attempts != 1 {
			t.Errorf("%d attempts", tk.Attempts)
		}
		if r.files.sum() == 0 {
			t.Error("the files of b are not held")
		}
	})
}

func TestRestartWithoutTheWorker(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.worker("w1")
		r.submit("a")
		r.state("a", prover.JobLeased)
		r.restartQueue()
		time.Sleep(29 * time.Second)
		r.state("a", prover.JobLeased)
		time.Sleep(2 * time.Second)
		r.state("a", prover.JobQueued)
	})
}

func TestInvalidProof(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w1, w2, v := r.worker("w1"), r.worker("w2"), r.verifier()
		r.submit("a")
		w1.prove(w1.order(t, prover.OrderProve), "bad")
		w1.order(t, prover.OrderAck)
		v.judge(v.order(t, prover.OrderVerify), prover.VerdictInvalid)
		v.order(t, prover.OrderAck)
		w1.none(t) // another core
		w2.prove(w2.order(t, prover.OrderProve), "bad too")
		w2.order(t, prover.OrderAck)
		v.judge(v.order(t, prover.OrderVerify), prover.VerdictInvalid)
		tk := r.state("a", prover.JobFailed)
		if tk.Failure.Code != prover.FailProofInvalid || !strings.Contains(tk.Failure.Text, "witness does not satisfy") || tk.Attempts != 2 {
			t.Errorf("ticket %+v, %v", tk, tk.Failure)
		}
		if !r.has(EventFailed) || !r.has(EventRetry) {
			t.Error("not recorded")
		}
	})
}

// With one worker only, a refused proof is tried again there.
func TestInvalidProofOneWorker(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w, v := r.worker("w1"), r.verifier()
		r.submit("a")
		w.prove(w.order(t, prover.OrderProve), "bad")
		w.order(t, prover.OrderAck)
		v.judge(v.order(t, prover.OrderVerify), prover.VerdictInvalid)
		w.prove(w.order(t, prover.OrderProve), "good")
		w.order(t, prover.OrderAck)
		v.order(t, prover.OrderAck)
		v.judge(v.order(t, prover.OrderVerify), prover.VerdictValid)
		r.state("a", prover.JobVerified)
	})
}

func TestVerifierDies(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w := r.worker("w1")
		r.submit("a", "b")
		w.prove(w.order(t, prover.OrderProve), "p")
		w.order(t, prover.OrderAck)
		w.prove(w.order(t, prover.OrderProve), "p")
		v := r.verifier()
		if o := v.order(t, prover.OrderVerify); o.Job != "a" {
			t.Errorf("order %+v", o)
		}
		v.close()
		v = r.verifier()
		o := v.order(t, prover.OrderVerify)
		if o.Job != "a" {
			t.Errorf("order %+v", o)
		}
		v.judge(o, prover.VerdictValid)
		v.order(t, prover.OrderAck)
		r.state("a", prover.JobVerified)
		// A proof that ends every verifier is given up.
		for range verifyTries {
			if o := v.order(t, prover.OrderVerify); o.Job != "b" {
				t.Errorf("order %+v", o)
			}
			r.q.WorkerExited(t.Context(), "verifier", 200, nil)
			v = r.verifier()
		}
		if tk := r.state("b", prover.JobFailed); tk.Failure.Code != prover.FailWorkerDied {
			t.Errorf("failure %v", tk.Failure)
		}
	})
}

func TestVerifierCannotJudge(t *testing.T) {
	for _, retry := range []bool{true, false} {
		bubble(t, func(t *testing.T, r *rig) {
			w, v := r.worker("w1"), r.verifier()
			r.submit("a")
			w.prove(w.order(t, prover.OrderProve), "p")
			n := 0
			for r.state("a", r.peek("a")).State == prover.JobProved {
				o := v.order(t, prover.OrderVerify)
				v.tell(prover.Report{Kind: prover.ReportResult, Job: o.Job, Attempt: o.Attempt, Failure: &prover.Failure{Code: prover.FailBlobMissing, Text: "the key is gone", Retry: retry}})
				v.order(t, prover.OrderAck)
				n++
			}
			if tk := r.state("a", prover.JobFailed); tk.Failure.Code != prover.FailBlobMissing || retry != (n == verifyTries) {
				t.Errorf("after %d tries: %v", n, tk.Failure)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if r.files.recheck == 0 {
				t.Error("the files were not looked at")
			}
		})
	}
}

func (r *rig) peek(id prover.JobID) prover.JobState {
	synctest.Wait()
	t, _ := r.q.Get(r.t.Context(), id)
	return t.State
}

// Only a verifier's verdict counts.
func TestDataWorkerCannotVerify(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w := r.worker("w1")
		r.submit("a")
		o := w.order(t, prover.OrderProve)
		w.judge(o, prover.VerdictValid)
		r.state("a", prover.JobLeased)
		w.prove(o, "p")
		w.judge(o, prover.VerdictValid)
		r.state("a", prover.JobProved)
		// And nobody proves for another.
		w.close()
		w2 := r.worker("w2")
		r.submit("b")
		b := w2.order(t, prover.OrderProve)
		r.worker("w3").prove(b, "p")
		r.state("b", prover.JobLeased)
	})
}

func TestPause(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w := r.worker("w1")
		r.submit("a", "b")
		o := w.order(t, prover.OrderProve)
		until := time.Now().Add(45 * time.Minute)
		if err := r.q.Pause(t.Context(), []prover.WorkerID{"w1", "w2"}, prover.Pause{Until: &until, Reason: "disk swap", By: "ana", Act: "a1"}); err != nil {
			t.Fatal(err)
		}
		drained := make(chan error, 1)
		go func() { drained <- r.q.Drained(t.Context(), "w1") }()
		time.Sleep(time.Second)
		synctest.Wait()
		if len(drained) != 0 || !r.workers["w1"].Pausing {
			t.Error("drained with a job in hand")
		}
		w.prove(o, "p")
		w.order(t, prover.OrderAck)
		w.none(t)
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if err := r.q.Drained(t.Context(), "w2"); err != nil {
			t.Error("a worker that is not there has nothing in hand:", err)
		}

		r.restartQueue()
		w = r.worker("w1")
		w.none(t)
		w3 := r.worker("w3")
		if o := w3.order(t, prover.OrderProve); o.Job != "b" {
			t.Errorf("order %+v", o)
		}
		r.submit("c")
		time.Sleep(45 * time.Minute)
		if o := w.order(t, prover.OrderProve); o.Job != "b" && o.Job != "c" {
			t.Errorf("order %+v", o)
		}
		if p, _ := r.board.Pauses(t.Context()); len(p) != 0 {
			t.Errorf("pauses %v", p)
		}
		if err := r.q.Drained(t.Context(), "w1"); !errors.Is(err, ErrNotPaused) {
			t.Error(err)
		}
		if !r.has(EventPaused) || !r.has(EventResumed) {
			t.Error("not recorded")
		}
	})
}

func TestResume(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w := r.worker("w1")
		ids := []prover.WorkerID{"w1"}
		if err := r.q.Pause(t.Context(), ids, prover.Pause{Act: "a2"}); err != nil {
			t.Fatal(err)
		}
		r.submit("a")
		w.none(t)
		drained := make(chan error, 1)
		r.submit("b")
		if err := r.q.Resume(t.Context(), ids, "a1"); err != nil {
			t.Fatal(err)
		}
		w.none(t) // the pause belongs to another act
		if err := r.q.Resume(t.Context(), ids, ""); err != nil {
			t.Fatal(err)
		}
		w.order(t, prover.OrderProve)
		r.q.Pause(t.Context(), ids, prover.Pause{})
		go func() { drained <- r.q.Drained(t.Context(), "w1") }()
		synctest.Wait()
		r.q.Resume(t.Context(), ids, "")
		if err := <-drained; !errors.Is(err, ErrNotPaused) {
			t.Errorf("got %v", err)
		}
	})
}

func TestCancel(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w := r.worker("w1")
		r.submit("a", "b")
		o := w.order(t, prover.OrderProve)
		out, err := r.q.Cancel(t.Context(), []prover.JobID{"a", "b", "x", "a"}, "typo")
		if err != nil {
			t.Fatal(err)
		}
		if out[0].Err != nil || out[1].Err != nil || !errors.Is(out[2].Err, prover.ErrNoJob) || !errors.Is(out[3].Err, prover.ErrFinal) {
			t.Errorf("outcomes %v", out)
		}
		w.order(t, prover.OrderCancel)
		r.submit("c")
		w.none(t) // it has not let go of a yet
		w.tell(prover.Report{Kind: prover.ReportResult, Job: o.Job, Attempt: o.Attempt, Failure: &prover.Failure{Code: prover.FailCancelled, Text: "x"}})
		w.order(t, prover.OrderAck)
		if o := w.order(t, prover.OrderProve); o.Job != "c" {
			t.Errorf("order %+v", o)
		}
		r.state("a", prover.JobCancelled)
	})
}

func TestSubmit(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.submit("a")
		r.submit("a")
		other := testJob("a")
		other.Name = "other"
		out, err := r.q.Submit(t.Context(), []prover.Job{testJob("b"), other, testJob("b")})
		if err != nil || out[0].Err != nil || !errors.Is(out[1].Err, prover.ErrJobDiffers) || !out[2].Repeated {
			t.Errorf("outcomes %v, %v", out, err)
		}
		if n := r.files.sum(); n != 4 {
			t.Errorf("%d holds for two jobs with two files each", n)
		}
	})
}

func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, board: &badBoard{Board: NewMemBoard(), accepted: map[prover.JobID]int{}}, hub: newFakeHub(), files: &noFiles{}}
		q, err := New(Options{Board: r.board, Hub: r.hub, Files: r.files, Logger: discard, MaxOpen: 2})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- q.Run(ctx) }()
		if _, err := q.Submit(ctx, []prover.Job{testJob("a"), testJob("b"), testJob("c")}); !errors.Is(err, ErrFull) {
			t.Errorf("got %v", err)
		}
		if _, err := q.Submit(ctx, []prover.Job{testJob("a"), testJob("b")}); err != nil {
			t.Error(err)
		}
		if _, err := q.Submit(ctx, []prover.Job{testJob("c")}); !errors.Is(err, ErrFull) {
			t.Errorf("got %v", err)
		}
		cancel()
		<-done
		if _, err := q.Submit(t.Context(), []prover.Job{testJob("c")}); !errors.Is(err, ErrStopped) {
			t.Errorf("got %v", err)
		}
		if err := q.Run(t.Context()); err == nil {
			t.Error("ran twice")
		}
	})
}

// Nothing is told before it is on the board, and nothing is lost while the board takes nothing.
func TestBoardRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w, v := r.worker("w1"), r.verifier()
		r.submit("a", "b")
		o := w.order(t, prover.OrderProve)
		full := errors.New("no space left on device")
		fail := func(err error) {
			r.board.mu.Lock()
			r.board.fail = func() error { return err }
			r.board.mu.Unlock()
		}
		fail(full)
		w.prove(o, "p")
		time.Sleep(3 * time.Second)
		w.none(t)
		if _, err := r.q.Submit(t.Context(), []prover.Job{testJob("c")}); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
		if err := r.q.Pause(t.Context(), []prover.WorkerID{"w1"}, prover.Pause{}); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
		if _, err := r.q.Cancel(t.Context(), []prover.JobID{"b"}, ""); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if r.last.Problem == "" || !r.has(EventBoardBad) {
			t.Error("nobody was told")
		}
		if n := r.files.sum(); n != 4 {
			t.Errorf("%d holds for two jobs", n)
		}
		fail(nil)
		time.Sleep(2 * time.Second)
		w.prove(o, "p") // it was not acknowledged, so it comes again
		w.order(t, prover.OrderAck)
		w.order(t, prover.OrderProve)
		fail(full)
		vo := v.order(t, prover.OrderVerify)
		v.judge(vo, prover.VerdictValid)
		time.Sleep(2 * time.Second)
		r.state("a", prover.JobProved)
		fail(nil)
		v.judge(vo, prover.VerdictValid)
		r.settle("a")
		if !r.has(EventBoardGood) || r.last.Problem != "" {
			t.Error("nobody was told that it works again")
		}
		if r.board.accepted["a"] != 1 {
			t.Errorf("accepted %d times", r.board.accepted["a"])
		}
	})
}

// A result that comes twice into one commit is not acknowledged if that commit fails.
func TestTwiceInARefusedCommit(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w := r.worker("w1")
		r.submit("a")
		o := w.order(t, prover.OrderProve)
		fail := true
		r.board.mu.Lock()
		r.board.fail = func() error {
			if fail {
				return errors.New("no space left on device")
			}
			return nil
		}
		w.prove(o, "p")
		w.prove(o, "p")
		r.board.mu.Unlock()
		w.none(t)
		r.board.mu.Lock()
		fail = false
		r.board.mu.Unlock()
		time.Sleep(2 * time.Second)
		w.prove(o, "p")
		w.order(t, prover.OrderAck)
		r.state("a", prover.JobProved)
	})
}

// settle waits for a job to be verified.
func (r *rig) settle(id prover.JobID) {
	r.t.Helper()
	time.Sleep(5 * time.Second)
	r.state(id, prover.JobVerified)
}

func TestOrderCannotBeSent(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w := r.worker("w1")
		synctest.Wait()
		r.hub.mu.Lock()
		delete(r.hub.conns, "w1") // the queue has not heard yet
		r.hub.mu.Unlock()
		r.submit("a")
		tk := r.state("a", prover.JobQueued)
		if tk.AttemptsLeft() != 3 || tk.GivenBack == 0 {
			t.Errorf("an order that never left counts: %+v", tk)
		}
		time.Sleep(5 * time.Second)
		if tk := r.state("a", prover.JobQueued); tk.GivenBack > 7 {
			t.Errorf("given back %d times in 5 seconds", tk.GivenBack)
		}
		w.close()
		w = r.worker("w1")
		w.order(t, prover.OrderProve)
	})
}

func TestRefusal(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w := r.worker("w1")
		r.submit("a")
		o := w.order(t, prover.OrderProve)
		w.tell(prover.Report{Kind: prover.ReportRefused, Job: o.Job, Attempt: o.Attempt, Why: "busy"})
		w.none(t)
		if r.state("a", prover.JobQueued).AttemptsLeft() != 3 {
			t.Error("it counts")
		}
		time.Sleep(2 * time.Second)
		o = w.order(t, prover.OrderProve)
		w.tell(prover.Report{Kind: prover.ReportBye, Holding: &prover.Holding{Job: o.Job, Attempt: o.Attempt, Progress: 0.3}})
		if r.state("a", prover.JobQueued).AttemptsLeft() != 3 {
			t.Error("it counts")
		}
		w.none(t)
	})
}

func TestRetire(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		if err := r.q.Retire(t.Context(), "w1", "x"); !errors.Is(err, ErrNotConnected) {
			t.Error(err)
		}
		w := r.worker("w1")
		if err := r.q.Retire(t.Context(), "w1", "x"); err != nil {
			t.Error(err)
		}
		w.order(t, prover.OrderDrain)
	})
}

func TestPerMinute(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		w, v := r.worker("w1"), r.verifier()
		one := func(id prover.JobID) {
			r.submit(id)
			w.prove(w.order(t, prover.OrderProve), "p")
			w.order(t, prover.OrderAck)
			v.judge(v.order(t, prover.OrderVerify), prover.VerdictValid)
			v.order(t, prover.OrderAck)
		}
		rate := func() *float64 {
			u, err := r.q.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return u.PerMinute
		}
		one("a")
		if rate() != nil {
			t.Error("a rate before there was a minute")
		}
		time.Sleep(40 * time.Second)
		one("b")
		time.Sleep(25 * time.Second)
		if n := rate(); n == nil || *n != 1 {
			t.Errorf("rate %v, want 1", n)
		}
		time.Sleep(time.Minute)
		if n := rate(); n == nil || *n != 0 {
			t.Errorf("rate %v, want 0", n)
		}
		synctest.Wait()
		if r.last.PerMinute == nil || *r.last.PerMinute != 0 {
			t.Errorf("told %v", r.last.PerMinute)
		}
	})
}
