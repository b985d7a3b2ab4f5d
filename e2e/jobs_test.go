package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A worker that is killed in the middle of a job loses nothing: the same job is
// proved by another attempt and verified once.
func TestKilledWorkerLosesNoJob(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start("--workers", "2")
	worker, pid, job := p.freeze()
	syscall.Kill(pid, syscall.SIGKILL)
	s := p.allVerified(90 * time.Second)
	if row := jobRow(t, s, job); row.Attempts != 2 {
		t.Errorf("%d attempts, want 2: one was killed, one was verified", row.Attempts)
	}
	in := p.entries()
	if n := in["job.verified "+job]; n != 1 {
		t.Errorf("job %s was verified %d times", job, n)
	}
	if in["worker.exit "+worker] == 0 {
		t.Errorf("the journal does not say that %s ended: %v", worker, in)
	}
	eventually(t, 30*time.Second, "the worker is started again", func() error {
		if now := p.workerPIDs()[worker]; now == pid {
			return fmt.Errorf("still pid %d", pid)
		}
		return nil
	})
}

// An engine that is killed in the middle of a job finds it still being proved: same
// process, same attempt.
func TestRestartedEngineTakesUpItsWorkers(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			eng := p.start("--workers", "1")
			worker, pid, job := p.freeze()
			eng.Process.Signal(end)
			code := waitExit(t, eng, 15*time.Second)
			if want := map[syscall.Signal]int{syscall.SIGKILL: -1, syscall.SIGTERM: 143}[end]; code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			p.start("--workers", "1")
			if now := p.workerPIDs()[worker]; now != pid {
				t.Errorf("%s had pid %d, and has %d", worker, pid, now)
			}
			syscall.Kill(pid, syscall.SIGCONT)
			s := p.allVerified(60 * time.Second)
			if row := jobRow(t, s, job); row.Attempts != 1 {
				t.Errorf("%d attempts, want 1: nothing had to be proved again", row.Attempts)
			}
			in := p.entries()
			if in["worker.adopted "+worker] != 1 || in["worker.exit "+worker] != 0 || in["job.verified "+job] != 1 {
				t.Errorf("journal %v", in)
			}
			if now := p.workerPIDs()[worker]; now != pid {
				t.Errorf("%s had pid %d, and has %d", worker, pid, now)
			}
		})
	}
}

// An orderly stop leaves the workers to finish; the next engine takes the results.
// With --workers nothing is left.
func TestStopLeavesOrEndsWorkers(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	eng := p.start("--workers", "2")
	pids := p.workerPIDs()
	p.submit(4)
	if out := p.must("down"); !strings.Contains(out, "stop the engine") {
		t.Errorf("down says %q", out)
	}
	if code := waitExit(t, eng, 15*time.Second); code != 0 {
		t.Errorf("an engine that was asked to stop ended with %d", code)
	}
	if r := p.run("status"); r.code != 8 {
		t.Errorf("status without an engine: exit %d", r.code)
	}
	for id, pid := range pids {
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("%s did not go on: %v", id, err)
		}
	}
	// Results that were made while nobody listened arrive now, and no job was given out twice.
	eng = p.start("--workers", "2")
	s := p.allVerified(60 * time.Second)
	for _, j := range s.Jobs.List() {
		if j.Attempts != 1 {
			t.Errorf("job %s took %d attempts", j.ID, j.Attempts)
		}
	}
	p.submit(4)
	p.must("down", "--workers")
	if code := waitExit(t, eng, 15*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	eventually(t, 5*time.Second, "no process is left", func() error {
		if left := p.processes(); len(left) > 0 {
			return fmt.Errorf("processes %v", left)
		}
		return nil
	})
	// Jobs that were in hand are proved by the next workers.
	p.start("--workers", "2")
	if s := p.allVerified(60 * time.Second); s.Jobs.Totals.Verified != 8 {
		t.Errorf("totals %+v", s.Jobs.Totals)
	}
}

// Nobody reads the engine's socket for a while: commands say so within their limit,
// the worker proves on, and nothing is done twice.
func TestEngineThatStandsStill(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	eng := p.start("--workers", "1")
	ids := p.submit(3)
	eng.Process.Signal(syscall.SIGSTOP)
	r := p.run("status")
	eng.Process.Signal(syscall.SIGCONT)
	if r.code != 7 || !strings.Contains(r.err, "answer") {
		t.Errorf("status of an engine that stands still: exit %d: %s", r.code, r.err)
	}
	oneLine(t, r)
	s := p.allVerified(60 * time.Second)
	in := p.entries()
	for _, id := range ids {
		if jobRow(t, s, id).Attempts != 1 || in["job.verified "+id] != 1 {
			t.Errorf("job %s: %d attempts, verified %d times", id, jobRow(t, s, id).Attempts, in["job.verified "+id])
		}
	}
	if r := p.run("status"); r.code != 0 {
		t.Errorf("status afterwards: exit %d: %s", r.code, r.err)
	}
}

// The proof that fetch writes is what snarkjs calls a proof.
func TestFetchedProofHolds(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start("--workers", "1")
	r := p.run("submit", "job", "--zkey", "demo/medium.zkey", "--witness", "demo/medium-1.wtns", "--wait", "-o", "json")
	if r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	var receipt struct{ Jobs []string }
	if err := json.Unmarshal([]byte(r.out), &receipt); err != nil || len(receipt.Jobs) != 1 {
		t.Fatalf("%v: %s", err, r.out)
	}
	id := receipt.Jobs[0]
	p.must("fetch", "job", id[:8], "--out", "proofs/a")
	dir := filepath.Join(p.dir, "proofs/a")
	if err := verify(t, p.demoFile("medium.vk.json"), dir); err != nil {
		t.Errorf("the proof does not hold: %v", err)
	}
	if r := p.run("fetch", "job", id, "--out", "proofs/a"); r.code != 2 || !strings.Contains(r.err, "--force") {
		t.Errorf("fetch over files that are there: exit %d: %s", r.code, r.err)
	}
	p.must("fetch", "job", id, "--out", "proofs/a", "--force")
	var whole struct {
		Schema        string
		Proof, Public json.RawMessage
	}
	if err := json.Unmarshal([]byte(p.must("fetch", "job", id, "--out", "-")), &whole); err != nil || whole.Schema != "provost.proof/1" || len(whole.Public) < 2 {
		t.Errorf("%v: %+v", err, whole)
	}
	t.Run("snarkjs", func(t *testing.T) {
		requireSnarkjs(t).mustAcceptProof(t, p.demoFile("medium.zkey"), dir)
	})
}

// What cannot end in a proof is refused with one line that says why; what only the
// proof can show ends the job with the reason.
func TestJobsThatCannotBe(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start("--workers", "1")
	file := func(name string, data []byte) string {
		path := filepath.Join(p.dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	load := func(name string) []byte { return []byte(read(t, p.demoFile(name))) }
	key, wit := p.demoFile("small.zkey"), p.demoFile("small-1.wtns")
	flipped := load("small.zkey")
	flipped[2] ^= 0xff
	for _, c := range []struct {
		name      string
		key, wit  string
		flags     []string
		code      int
		mentioned []string
	}{
		{"key is cut off", file("cut.zkey", load("small.zkey")[:50_000]), wit, nil, 2, []string{"cut.zkey", "damaged", "job.zkey-damaged"}},
		{"key has another beginning", file("flip.zkey", flipped), wit, nil, 2, []string{"flip.zkey", "zkey"}},
		{"key is empty", file("empty.zkey", nil), wit, nil, 2, []string{"empty.zkey"}},
		{"key is a witness", wit, wit, nil, 2, []string{"not a snarkjs proving key"}},
		{"key is missing", "none.zkey", wit, nil, 2, []string{"none.zkey", "no such file"}},
		{"key is a directory", p.dir, wit, nil, 2, []string{p.dir, "no regular file"}},
		{"witness of another circuit", key, p.demoFile("medium-1.wtns"), nil, 2, []string{"another circuit", "job.witness-other-circuit"}},
		{"witness is cut off", key, file("cut.wtns", load("small-1.wtns")[:1000]), nil, 2, []string{"cut.wtns", "damaged"}},
		{"witness is a key", key, key, nil, 2, []string{"not a snarkjs witness"}},
		{"witness is missing", key, "none.wtns", nil, 2, []string{"none.wtns", "no such file"}},
		{"no witness", key, "", nil, 2, []string{"--witness"}},
		{"too many attempts", key, wit, []string{"--max-attempts", "101"}, 2, []string{"--max-attempts 101"}},
		{"attempts are no number", key, wit, []string{"--max-attempts", "many"}, 2, []string{"many"}},
		{"name with a line break", key, wit, []string{"--name", "a\nb"}, 2, []string{"name"}},
		{"unknown flag", key, wit, []string{"--witnes", "x"}, 2, []string{"--witness"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"submit", "job", "--zkey", c.key}, c.flags...)
			if c.wit != "" {
				args = append(args, "--witness", c.wit)
			}
			r := p.run(args...)
			if r.code != c.code || r.out != "" {
				t.Errorf("exit %d, want %d; output %q", r.code, c.code, r.out)
			}
			oneLine(t, r)
			for _, m := range c.mentioned {
				if !strings.Contains(r.err, m) {
					t.Errorf("%q is not said in %q", m, r.err)
				}
			}
		})
	}
	if jobs := p.rows("jobs"); len(jobs) != 0 {
		t.Errorf("jobs were made of refused files: %v", jobs)
	}

	t.Run("witness that does not satisfy the constraints", func(t *testing.T) {
		bad := file("wrong.wtns", changeWitness(t, load("small-1.wtns")))
		r := p.run("submit", "job", "--zkey", key, "--witness", wit, "--witness", bad, "--wait")
		if r.code != 6 || !strings.Contains(r.out, "constraints") {
			t.Errorf("exit %d, want 6\n%s%s", r.code, r.out, r.err)
		}
		states := map[string]string{}
		var failed string
		for _, j := range p.rows("jobs") {
			states[fmt.Sprint(j["name"])] = fmt.Sprint(j["state"])
			if j["state"] == "failed" {
				failed = fmt.Sprint(j["id"])
			}
		}
		if states["small-1"] != "verified" || states["wrong"] != "failed" {
			t.Errorf("states %v", states)
		}
		if r := p.run("fetch", "job", failed); r.code != 4 || !strings.Contains(r.err, "constraints") {
			t.Errorf("fetch of a failed job: exit %d: %s", r.code, r.err)
		} else {
			oneLine(t, r)
		}
	})
	t.Run("fetch of a job that is not there", func(t *testing.T) {
		r := p.run("fetch", "job", "zzzzzzzzzzzzzzzz")
		if r.code != 2 {
			t.Errorf("exit %d: %s", r.code, r.err)
		}
		oneLine(t, r)
	})
	t.Run("wait longer than allowed", func(t *testing.T) {
		pid := p.workerPIDs()["w1"]
		syscall.Kill(pid, syscall.SIGSTOP)
		defer syscall.Kill(pid, syscall.SIGCONT)
		r := p.run("submit", "job", "--zkey", key, "--witness", wit, "--wait", "--timeout", "1s")
		if r.code != 7 || !strings.Contains(r.err, "the jobs go on") {
			t.Errorf("exit %d, want 7: %s", r.code, r.err)
		}
	})
	t.Run("waiting is interrupted", func(t *testing.T) {
		pid := p.workerPIDs()["w1"]
		syscall.Kill(pid, syscall.SIGSTOP)
		defer syscall.Kill(pid, syscall.SIGCONT)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c := p.cmd(ctx, "submit", "job", "--zkey", key, "--witness", wit, "--wait", "--key", "interrupted")
		var errb bytes.Buffer
		c.Stderr = &errb
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the job is there", func() error {
			if n := len(p.rows("jobs")); n < 4 {
				return fmt.Errorf("%d jobs", n)
			}
			return nil
		})
		c.Process.Signal(os.Interrupt)
		if code := waitExit(t, c, 10*time.Second); code != 130 || !strings.Contains(errb.String(), "the jobs go on") {
			t.Errorf("exit %d: %s", code, errb.String())
		}
		// The same key again is the same order.
		n := len(p.rows("jobs"))
		p.must("submit", "job", "--zkey", key, "--witness", wit, "--key", "interrupted")
		if now := len(p.rows("jobs")); now != n {
			t.Errorf("a repeated key made %d more jobs", now-n)
		}
	})
}

// oneLine holds what a command says of its failure to one line that names a remedy.
func oneLine(t testing.TB, r result) {
	t.Helper()
	said := strings.TrimRight(r.err, "\n")
	if said == "" || strings.Contains(said, "\n") {
		t.Errorf("want one line, got %q", r.err)
	}
	if !strings.HasPrefix(said, "provost: ") || !strings.Contains(said, "; ") {
		t.Errorf("want \"provost: what: why; what to do\", got %q", said)
	}
}

// changeWitness adds one to the last value of a .wtns file: the file stays well
// formed, and the constraints do not hold any more.
func changeWitness(t *testing.T, b []byte) []byte {
	t.Helper()
	if string(b[:4]) != "wtns" {
		t.Fatal("not a witness")
	}
	last := b[len(b)-32:]
	n := binary.LittleEndian.Uint64(last)
	binary.LittleEndian.PutUint64(last, n^1)
	return b
}
