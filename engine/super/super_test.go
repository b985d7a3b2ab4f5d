package super

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"app.provost/engine"
	"app.provost/prover"
)

func TestStartAndStop(t *testing.T) {
	r := newRig(t, t.TempDir())
	id := idOf(t, "a")
	spec := childSpec(r.dir, id, "graceful")
	spec.Nice = 7
	spec.CPUs = []prover.CPU{0}
	st := r.start(spec)
	if !lives(st.PID) || !lives(st.StubPID) || st.PID == st.StubPID {
		t.Fatalf("child %d and stub %d should live", st.PID, st.StubPID)
	}
	for _, pid := range []int{st.PID, st.StubPID} {
		if got, err := CPUsOf(pid); err != nil || !slices.Equal(got, spec.CPUs) {
			t.Errorf("pid %d may run on %v (%v), want %v", pid, got, err, spec.CPUs)
		}
		if n := niceOf(t, pid); n != 7 {
			t.Errorf("pid %d has nice %d, want 7", pid, n)
		}
	}
	child, err := readStat(st.PID)
	if err != nil {
		t.Fatal(err)
	}
	if child.PGRP != st.PID || child.Session != st.StubPID || child.PPID != st.StubPID {
		t.Errorf("child is in group %d, session %d, below %d; want its own group in the stub's session", child.PGRP, child.Session, child.PPID)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", st.PID)); err != nil || strings.TrimSpace(string(b)) != "500" {
		t.Errorf("oom_score_adj of the child is %q (%v), want 500", b, err)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", st.PID)); err != nil || !strings.Contains(string(b), "Max core file size        0                    0") {
		t.Errorf("core dumps of the child are not forbidden (%v)", err)
	}
	for path, mode := range map[string]os.FileMode{spec.Dir: 0o700, spec.LogFile: 0o600, spec.Dir + "/spec.json": 0o600, spec.Dir + "/run.json": 0o600, spec.Dir + "/lock": 0o600} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: mode %v (%v), want %v", path, fi.Mode().Perm(), err, mode)
		}
	}

	r.said(spec, "child up")
	if err := r.Hold(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if lives(st.PID) || lives(st.StubPID) {
		t.Error("held, and still there")
	}
	held, _ := r.Status(id)
	if x := held.LastExit; held.State != StateHeld || x == nil || x.Code == nil || *x.Code != 0 || x.Cause != "stopped as asked" || !held.Asked {
		t.Errorf("held: %+v, exit %+v", held, x)
	}
	if held.Usage == nil || held.Usage.MaxRSSBytes == 0 {
		t.Errorf("usage %+v: want the memory that it took", held.Usage)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", st.StubPID)); !os.IsNotExist(err) {
		t.Errorf("the stub is a zombie: %v", err)
	}
	if err := r.Run(t.Context(), id, engine.WishRun); err != nil {
		t.Fatal(err)
	}
	again := r.running(id)
	if again.PID == st.PID || again.Restarts != 0 {
		t.Errorf("started again on request: pid %d, %d restarts by the policy", again.PID, again.Restarts)
	}
	if err := r.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, known := r.Status(id); known || lives(again.PID) {
		t.Error("stopped, and still known or there")
	}
	if m, err := (fileHandles{dir: r.dir + "/handles"}).LoadHandles(); err != nil || len(m) > 0 {
		t.Errorf("handles after Stop: %v (%v)", m, err)
	}
	if err := r.Run(t.Context(), id, engine.WishRun); !errors.Is(err, ErrUnknown) {
		t.Errorf("run after stop: %v", err)
	}
}

func niceOf(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	n, err := strconv.Atoi(f[16])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRestartAppliesTheNewSpec(t *testing.T) {
	r := newRig(t, t.TempDir())
	id := idOf(t, "a")
	spec := childSpec(r.dir, id, "run")
	first := r.start(spec)
	spec.Nice = 3
	if err := r.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if st, _ := r.Status(id); st.PID != first.PID || !st.Outdated || st.State != StateRunning {
		t.Fatalf("a new spec must not touch what runs: %+v", st)
	}
	if err := r.Restart(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	st := r.await(id, "runs anew", func(s Status) bool { return s.State == StateRunning && s.PID != first.PID })
	if st.Outdated || niceOf(t, st.PID) != 3 || st.Restarts != 0 {
		t.Errorf("after the restart: %+v, nice %d", st, niceOf(t, st.PID))
	}
	moved := spec
	moved.Dir += "-elsewhere"
	if err := r.Start(t.Context(), moved); err == nil {
		t.Error("a process was moved to another directory while it runs")
	}
	other := childSpec(r.dir, idOf(t, "b"), "run")
	other.Dir = spec.Dir
	if err := r.Start(t.Context(), other); err == nil {
		t.Error("two processes share a directory")
	}
}

func TestDeathsAreSeenAndAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		kill  func(Status) int
		cause string
	}{
		"child": {func(s Status) int { return s.PID }, "killed by SIGKILL"},
		"stub":  {func(s Status) int { return s.StubPID }, "its stub was killed by SIGKILL"},
	} {
		for _, pidfd := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s,pidfd=%v", name, pidfd), func(t *testing.T) {
				r := newRig(t, t.TempDir(), func(o *Options) { o.noPidfd = !pidfd })
				id := idOf(t, "a")
				first := r.start(childSpec(r.dir, id, "run"))
				unix.Kill(c.kill(first), unix.SIGKILL)
				st := r.await(id, "runs anew", func(s Status) bool { return s.State == StateRunning && s.PID != first.PID })
				if lives(first.PID) || lives(first.StubPID) {
					t.Error("the old one lives on")
				}
				if st.LastExit == nil || !strings.HasPrefix(st.LastExit.Cause, c.cause) || st.Restarts != 1 || st.Asked {
					t.Errorf("%+v, exit %+v", st, st.LastExit)
				}
				if _, err := os.Stat(fmt.Sprintf("/proc/%d", first.StubPID)); !os.IsNotExist(err) {
					t.Errorf("the stub is a zombie: %v", err)
				}
			})
		}
	}
}

func TestStubbornChildIsKilledAfterTheGrace(t *testing.T) {
	r := newRig(t, t.TempDir())
	id := idOf(t, "a")
	spec := childSpec(r.dir, id, "stubborn")
	spec.StopGrace = 100 * time.Millisecond
	st := r.start(spec)
	r.said(spec, "child up")
	if err := r.Hold(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	now, _ := r.Status(id)
	if lives(st.PID) || now.LastExit.Signal != "SIGKILL" || !strings.Contains(now.LastExit.Cause, "did not end within 100ms of SIGTERM") || !now.Asked {
		t.Errorf("%+v", now.LastExit)
	}
}

func TestHungStubIsEnded(t *testing.T) {
	r := newRig(t, t.TempDir())
	id := idOf(t, "a")
	spec := childSpec(r.dir, id, "run")
	spec.StopGrace = time.Millisecond
	st := r.start(spec)
	unix.Kill(st.StubPID, unix.SIGSTOP)
	if err := r.Hold(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if lives(st.PID) || lives(st.StubPID) {
		t.Error("a stub that hangs kept its child alive")
	}
}

func TestGrandchildrenGoToo(t *testing.T) {
	for name, end := range map[string]func(*rig, Status){
		"asked":       func(r *rig, s Status) { r.Hold(r.t.Context(), s.ID) },
		"child dies":  func(r *rig, s Status) { unix.Kill(s.PID, unix.SIGKILL) },
		"stub killed": func(r *rig, s Status) { unix.Kill(s.StubPID, unix.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir())
			id := idOf(t, "a")
			st := r.start(childSpec(r.dir, id, "parent"))
			var old []int
			eventually(t, func() bool {
				_, children := processesUnder(r.dir)
				old = children[id]
				return len(old) == 3
			}, text("child and two grandchildren"))
			if err := r.Run(t.Context(), id, engine.WishPaused); err != nil {
				t.Fatal(err)
			}
			end(r, st)
			r.await(id, "is held", func(s Status) bool { return s.State == StateHeld })
			// One of them had taken a session of its own, out of reach of a signal to the group.
			if err := r.Run(t.Context(), id, engine.WishRun); err != nil {
				t.Fatal(err)
			}
			r.running(id)
			for _, pid := range old {
				if lives(pid) {
					t.Errorf("pid %d of the old run lives beside the new one", pid)
				}
			}
		})
	}
}

func TestPauseStopsRestarts(t *testing.T) {
	r := newRig(t, t.TempDir())
	id := idOf(t, "a")
	st := r.start(childSpec(r.dir, id, "run"))
	if err := r.Run(t.Context(), id, engine.WishPaused); err != nil {
		t.Fatal(err)
	}
	if now, _ := r.Status(id); now.PID != st.PID || now.State != StateRunning {
		t.Fatalf("a pause ended the process: %+v", now)
	}
	unix.Kill(st.PID, unix.SIGKILL)
	now := r.await(id, "is held", func(s Status) bool { return s.State == StateHeld })
	if now.Problem == "" || now.LastExit.Signal != "SIGKILL" {
		t.Errorf("%+v", now)
	}
	if err := r.Run(t.Context(), id, engine.WishRun); err != nil {
		t.Fatal(err)
	}
	r.running(id)
}

func TestGivesUpAndSaysSo(t *testing.T) {
	r := newRig(t, t.TempDir(), func(o *Options) {
		o.Policy = Policy{First: time.Millisecond, Max: time.Millisecond, Deaths: 3}
	})
	id := idOf(t, "a")
	if err := r.Start(t.Context(), childSpec(r.dir, id, "exit", "3")); err != nil {
		t.Fatal(err)
	}
	st := r.await(id, "gave up", func(s Status) bool { return s.State == StateGivenUp })
	if want := "died 3 times within 10m; the last time: ended by itself with code 3"; st.Problem != want {
		t.Errorf("problem %q, want %q", st.Problem, want)
	}
	if st.Restarts != 2 || st.LastExit.Code == nil || *st.LastExit.Code != 3 {
		t.Errorf("%+v %+v", st, st.LastExit)
	}
	eventually(t, func() bool { return len(r.told(id, EventGivenUp)) == 1 }, text("it was told"))
	if n := len(r.told(id, EventExited)); n != 3 {
		t.Errorf("%d exits told, want 3", n)
	}

	// The next engine does not try again by itself, and Run does.
	r.leave()
	r2 := newRig(t, r.dir)
	if _, err := r2.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, _ := r2.Status(id); st.State != StateGivenUp || st.Problem == "" {
		t.Errorf("after adoption: %+v", st)
	}
	if err := r2.Start(t.Context(), childSpec(r.dir, id, "run")); err != nil {
		t.Fatal(err)
	}
	if st, _ := r2.Status(id); st.State != StateGivenUp {
		t.Errorf("a spec alone started it: %+v", st)
	}
	if err := r2.Run(t.Context(), id, engine.WishRun); err != nil {
		t.Fatal(err)
	}
	r2.running(id)
}

func TestStartThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no such binary": {func(s *Spec) { s.Argv = []string{"/no/such/binary"} }, "did not start: start /no/such/binary: "},
		"log in a file":  {func(s *Spec) { s.LogFile = filepath.Join(s.Dir, "spec.json", "x.log") }, "did not start: open log: "},
		"log is a link":  {func(s *Spec) { os.MkdirAll(filepath.Dir(s.LogFile), 0o700); os.Symlink("/dev/null", s.LogFile) }, "did not start: open log: "},
		"dir in a file":  {func(s *Spec) { s.Dir = "/dev/null/x" }, "did not start: mkdir /dev/null: not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, t.TempDir(), func(o *Options) { o.Policy = Policy{First: time.Hour, Max: time.Hour} })
			id := idOf(t, "a")
			spec := childSpec(r.dir, id, "run")
			c.change(&spec)
			if err := r.Start(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			st := r.await(id, "failed", func(s Status) bool { return s.State == StateBackoff && s.LastExit != nil })
			if !strings.HasPrefix(st.Problem, c.want) || st.RestartAt.IsZero() {
				t.Errorf("problem %q, want %q…; next %s", st.Problem, c.want, st.RestartAt)
			}
		})
	}
}

func TestSpecRefused(t *testing.T) {
	r := newRig(t, t.TempDir())
	for name, change := range map[string]func(*Spec){
		"id":        func(s *Spec) { s.ID = "../w1" },
		"no argv":   func(s *Spec) { s.Argv = nil },
		"dir":       func(s *Spec) { s.Dir = "relative" },
		"log":       func(s *Spec) { s.LogFile = "relative" },
		"nice":      func(s *Spec) { s.Nice = -1 },
		"cpu":       func(s *Spec) { s.CPUs = []prover.CPU{1, 1} },
		"cpu big":   func(s *Spec) { s.CPUs = []prover.CPU{1 << 20} },
		"secret":    func(s *Spec) { s.Env = []string{"API_TOKEN=x"} },
		"secret 2":  func(s *Spec) { s.EnvAllow = []string{"DB_PASSWORD"} },
		"not env":   func(s *Spec) { s.Env = []string{"x"} },
		"grace":     func(s *Spec) { s.StopGrace = -1 },
		"tiny log":  func(s *Spec) { s.LogMaxBytes = 1 },
		"oom score": func(s *Spec) { n := 1001; s.OOMScoreAdj = &n },
	} {
		spec := childSpec(r.dir, "a", "run")
		change(&spec)
		if err := r.Start(t.Context(), spec); err == nil {
			t.Errorf("%s was accepted", name)
		} else if strings.Contains(err.Error(), "=x") {
			t.Errorf("%s: the error shows the value: %v", name, err)
		}
	}
	if n := len(r.List()); n != 0 {
		t.Errorf("%d processes after nothing but refusals", n)
	}
}

func TestChildGetsNothingOfTheEngine(t *testing.T) {
	t.Setenv("CANARY_SECRET", "canary-51")
	t.Setenv("ALLOWED_HERE", "yes")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	// A descriptor that somebody forgot to mark close-on-exec.
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	leak, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)

	r := newRig(t, t.TempDir())
	id := idOf(t, "a")
	spec := childSpec(r.dir, id, "env")
	spec.EnvAllow = []string{"ALLOWED_HERE"}
	spec.Env = []string{"GIVEN=1"}
	st := r.start(spec)
	log := r.said(spec, "env end")
	for _, want := range []string{"env ALLOWED_HERE=yes", "env GIVEN=1", "env PATH=", "env " + runVar + "=" + id + "."} {
		if !strings.Contains(log, want) {
			t.Errorf("the environment lacks %q:\n%s", want, log)
		}
	}
	if strings.Contains(log, "canary-51") || strings.Contains(log, "socket:") {
		t.Errorf("the child got what is not its own:\n%s", log)
	}
	for _, what := range []string{"environ", "cmdline"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", st.StubPID, what))
		if err != nil || strings.Contains(string(b), "canary-51") {
			t.Errorf("%s of the stub: %q (%v)", what, b, err)
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", st.StubPID))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", st.StubPID, fd.Name())); strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "pipe:") {
			t.Errorf("the stub keeps %s open", to)
		}
	}
}

func TestAdoption(t *testing.T) {
	for _, pidfd := range []bool{true, false} {
		t.Run(fmt.Sprintf("pidfd=%v", pidfd), func(t *testing.T) {
			dir := t.TempDir()
			r := newRig(t, dir)
			lives1, dies, killed, held := idOf(t, "lives"), idOf(t, "dies"), idOf(t, "killed"), idOf(t, "held")
			a := r.start(childSpec(dir, lives1, "run"))
			b := r.start(childSpec(dir, dies, "run"))
			c := r.start(childSpec(dir, killed, "run"))
			r.start(childSpec(dir, held, "run"))
			if err := r.Hold(t.Context(), held); err != nil {
				t.Fatal(err)
			}
			r.leave()
			if !lives(a.PID) {
				t.Fatal("an orderly stop of the supervisor ended a process")
			}
			unix.Kill(b.PID, unix.SIGTERM)
			unix.Kill(c.StubPID, unix.SIGKILL)
			eventually(t, func() bool { return !lives(b.StubPID) && !lives(c.PID) }, text("both are dead"))

			r2 := newRig(t, dir, func(o *Options) { o.noPidfd = !pidfd })
			got, err := r2.Adopt(t.Context())
			if err != nil || len(got) != 4 {
				t.Fatalf("adopted %d (%v), want 4", len(got), err)
			}
			if st := r2.running(lives1); st.PID != a.PID || st.StubPID != a.StubPID || !st.StartedAt.Equal(a.StartedAt) {
				t.Errorf("adopted %+v, was %+v", st, a)
			}
			eventually(t, func() bool { return len(r2.told(lives1, EventAdopted)) == 1 }, text("the adoption was told"))
			if st := r2.running(dies); st.PID == b.PID || st.LastExit == nil || st.LastExit.Signal != "SIGTERM" || st.Restarts != 1 {
				t.Errorf("%+v, exit %+v", st, st.LastExit)
			}
			if st := r2.running(killed); st.PID == c.PID || st.LastExit == nil || st.LastExit.Cause != "ended while no engine watched, and its stub with it" {
				t.Errorf("%+v, exit %+v", st, st.LastExit)
			}
			if st, _ := r2.Status(held); st.State != StateHeld || st.Wish != engine.WishHeld {
				t.Errorf("held before, now %+v", st)
			}
			// What was adopted is watched and stopped like any other.
			unix.Kill(a.PID, unix.SIGKILL)
			st := r2.await(lives1, "runs anew", func(s Status) bool { return s.State == StateRunning && s.PID != a.PID })
			if st.LastExit.Signal != "SIGKILL" {
				t.Errorf("exit %+v", st.LastExit)
			}
			if err := r2.StopAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			stubs, children := processesUnder(dir)
			if len(stubs)+len(children) > 0 {
				t.Errorf("after StopAll: stubs %v, children %v", stubs, children)
			}
			r2.leave()

			// StopAll changed no wish.
			r3 := newRig(t, dir)
			if _, err := r3.Adopt(t.Context()); err != nil {
				t.Fatal(err)
			}
			r3.running(lives1)
			if st, _ := r3.Status(held); st.State != StateHeld {
				t.Errorf("held before, now %+v", st)
			}
		})
	}
}

// An engine may die at any moment around a start. Each state of the files that
// this can leave is made here, and the next engine must end with one process.
func TestCrashesAroundAStart(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, h *handle, dir string){
		"before the pids were saved": func(t *testing.T, h *handle, dir string) {
			h.StubPID, h.StubTicks, h.ChildPID, h.StartedAt = 0, 0, 0, time.Time{}
		},
		"handle is one run behind": func(t *testing.T, h *handle, dir string) {
			h.StubPID, h.Run, h.Counted = 0, "0000000000000000", true
		},
		"handle names a dead stub": func(t *testing.T, h *handle, dir string) { h.StubPID, h.Run = 1<<22-1, "0000000000000000" },
		"run.json is lost":         func(t *testing.T, h *handle, dir string) { os.Remove(filepath.Join(dir, runName)) },
		"the directory is lost":    func(t *testing.T, h *handle, dir string) { os.RemoveAll(dir) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := newRig(t, dir)
			id := idOf(t, "a")
			spec := childSpec(dir, id, "run")
			st := r.start(spec)
			r.leave()
			var h handle
			decode(t, filepath.Join(dir, "handles", id+".json"), &h)
			change(t, &h, spec.Dir)
			r2 := newRig(t, dir)
			p := &proc{s: r2.Supervisor, id: id, h: h}
			if err := p.save(); err != nil {
				t.Fatal(err)
			}
			if _, err := r2.Adopt(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := r2.Start(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			if got := r2.running(id); got.PID != st.PID {
				t.Errorf("pid %d, was %d", got.PID, st.PID)
			}
			if _, children := processesUnder(dir); len(children[id]) != 1 {
				t.Errorf("children %v, want one", children)
			}
		})
	}
	t.Run("no handle at all", func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, dir)
		id := idOf(t, "a")
		st := r.start(childSpec(dir, id, "run"))
		r.leave()
		os.RemoveAll(filepath.Join(dir, "handles"))
		r2 := newRig(t, dir)
		if got := r2.start(childSpec(dir, id, "run")); got.PID != st.PID {
			t.Errorf("pid %d, was %d", got.PID, st.PID)
		}
		eventually(t, func() bool { return len(r2.told(id, EventAdopted)) == 1 }, text("the adoption was told"))
	})
	t.Run("died before the stub was there", func(t *testing.T) {
		dir := t.TempDir()
		r := newRig(t, dir)
		id := idOf(t, "a")
		p := &proc{s: r.Supervisor, id: id, h: handle{Schema: handleSchema, ID: id, Dir: childSpec(dir, id).Dir, Run: "0000000000000000", Boot: bootID(), Wish: engine.WishRun}}
		if err := p.save(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Adopt(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st, _ := r.Status(id); st.LastExit != nil {
			t.Errorf("a start that never was counts as a death: %+v", st.LastExit)
		}
		r.start(childSpec(dir, id, "run"))
	})
}

func TestTwoEnginesStartOneProcess(t *testing.T) {
	dir := t.TempDir()
	id := idOf(t, "a")
	// Both see the lock free and start a stub; handles differ, as with a crash in between.
	a := newRig(t, dir)
	b := newRig(t, dir, func(o *Options) { o.Handles = fileHandles{dir: dir + "/other"} })
	spec := childSpec(dir, id, "run")
	done := make(chan error, 2)
	for _, r := range []*rig{a, b} {
		go func() { done <- r.Start(t.Context(), spec) }()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	x, y := a.running(id), b.running(id)
	eventually(t, func() bool {
		x, y = a.running(id), b.running(id)
		_, children := processesUnder(dir)
		return x.PID == y.PID && len(children[id]) == 1
	}, func() string { return fmt.Sprintf("one process for both: %d and %d", x.PID, y.PID) })
}

func TestReusedPidIsNeverTouched(t *testing.T) {
	dir := t.TempDir()
	id := idOf(t, "a")
	r := newRig(t, dir, func(o *Options) { o.Policy = Policy{First: time.Hour, Max: time.Hour} })
	st := r.start(childSpec(dir, id, "run"))
	r.leave()
	unix.Kill(st.StubPID, unix.SIGKILL)
	eventually(t, func() bool { return !lives(st.PID) }, text("the child is dead"))

	// A stranger that has "the same pid": handle and run.json name it, with the old start time.
	stranger := exec.Command("/bin/sleep", "300")
	if err := stranger.Start(); err != nil {
		t.Skipf("no /bin/sleep here: %v", err)
	}
	defer stranger.Wait()
	defer stranger.Process.Kill()
	var h handle
	decode(t, filepath.Join(dir, "handles", id+".json"), &h)
	var run running
	decode(t, filepath.Join(h.Dir, runName), &run)
	h.StubPID, h.ChildPID = stranger.Process.Pid, stranger.Process.Pid
	run.StubPID, run.ChildPID = stranger.Process.Pid, stranger.Process.Pid
	if err := writeJSON(h.Dir, runName, run, false); err != nil {
		t.Fatal(err)
	}
	r2 := newRig(t, dir, func(o *Options) { o.Policy = Policy{First: time.Hour, Max: time.Hour} })
	p := &proc{s: r2.Supervisor, id: id, h: h}
	if err := p.save(); err != nil {
		t.Fatal(err)
	}
	if _, err := r2.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, _ := r2.Status(id)
	if got.State != StateBackoff || got.PID != 0 || got.LastExit == nil {
		t.Errorf("%+v", got)
	}
	if err := r2.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if !lives(stranger.Process.Pid) {
		t.Error("a stranger was killed")
	}
	// The same from another boot.
	same := identity{PID: os.Getpid(), Boot: "another"}
	if s, err := readStat(os.Getpid()); err != nil || (identity{PID: os.Getpid(), Ticks: s.Ticks, Boot: "another"}).alive() || same.alive() {
		t.Errorf("a process of another boot counts as alive (%v)", err)
	}
}

// testEngine is a process that runs a Supervisor, to be killed.
type testEngine struct {
	cmd   *exec.Cmd
	lines chan string
}

func startEngine(t *testing.T, dir string, ids ...string) *testEngine {
	t.Helper()
	e := &testEngine{cmd: exec.Command(os.Args[0], append([]string{"test-engine", dir}, ids...)...), lines: make(chan string, 1000)}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	e.cmd.Stderr = os.Stderr
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(e.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			e.lines <- sc.Text()
		}
	}()
	return e
}

func (e *testEngine) expect(t *testing.T, prefix string) string {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case l, ok := <-e.lines:
			if !ok {
				t.Fatalf("the engine ended before it said %q", prefix)
			}
			if strings.HasPrefix(l, prefix) {
				return l
			}
		case <-timeout:
			t.Fatalf("the engine did not say %q", prefix)
		}
	}
}

func (e *testEngine) kill() {
	e.cmd.Process.Kill()
	for range e.lines { // until its end of the pipe is closed
	}
	e.cmd.Wait()
}

func TestEngineKilledAndNextAdopts(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/cores", 0o777); err != nil {
		t.Fatal(err)
	}
	defer killAllUnder(dir)
	id := idOf(t, "a")
	e1 := startEngine(t, dir, id)
	line := e1.expect(t, id+" started ")
	e1.kill()
	e2 := startEngine(t, dir, id)
	if got := e2.expect(t, id+" adopted "); strings.TrimPrefix(got, id+" adopted ") != strings.TrimPrefix(line, id+" started ") {
		t.Errorf("first %q, then %q", line, got)
	}
	e2.kill()
	if _, children := processesUnder(dir); len(children[id]) != 1 {
		t.Errorf("children %v, want one", children)
	}
}

// Kills children, stubs and engines at random; whatever happened, the last engine
// must end with exactly one process per id.
func TestStormOfKills(t *testing.T) {
	storm := 10 * time.Second
	if testing.Short() {
		storm = 2 * time.Second
	}
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/cores", 0o777); err != nil {
		t.Fatal(err)
	}
	defer killAllUnder(dir)
	var ids []string
	for i := range 4 {
		ids = append(ids, idOf(t, fmt.Sprintf("s%d", i)))
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	e := startEngine(t, dir, ids...)
	kills := map[string]int{}
	for end := time.Now().Add(storm); time.Now().Before(end); time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond) {
		stubs, children := processesUnder(dir)
		for id, pids := range children {
			// A child that was replaced may be seen just before its death is complete: look again.
			if len(pids) > 1 {
				time.Sleep(2 * time.Millisecond)
				if n := len(slices.DeleteFunc(pids, func(p int) bool { return !lives(p) })); n > 1 {
					t.Errorf("%s runs %d times: %v", id, n, pids)
				}
			}
		}
		victim := func(m map[string][]int) int {
			if p := m[ids[rnd.IntN(len(ids))]]; len(p) > 0 {
				return p[rnd.IntN(len(p))]
			}
			return 0
		}
		child, stub := victim(children), victim(stubs)
		switch rnd.IntN(8) {
		case 0, 1, 2:
			stub = 0
		case 3, 4:
			child = 0
		case 5, 6:
		default:
			child, stub = 0, 0
			e.kill()
			e = startEngine(t, dir, ids...)
			kills["engine"]++
		}
		if child > 0 {
			unix.Kill(child, unix.SIGKILL)
			kills["child"]++
		}
		if stub > 0 {
			unix.Kill(stub, unix.SIGKILL)
			kills["stub"]++
		}
	}
	t.Logf("killed %v", kills)
	defer e.kill()
	eventually(t, func() bool {
		stubs, children := processesUnder(dir)
		for _, id := range ids {
			if len(stubs[id]) != 1 || len(children[id]) != 1 {
				return false
			}
		}
		return true
	}, func() string {
		stubs, children := processesUnder(dir)
		return fmt.Sprintf("one process per id; stubs %v, children %v", stubs, children)
	})
}

func TestCoresAreReservedMachineWide(t *testing.T) {
	dir := t.TempDir()
	a := newRig(t, dir)
	id, other := idOf(t, "a"), idOf(t, "b")
	spec := childSpec(dir, id, "run")
	spec.CPUs = []prover.CPU{0}
	st := a.start(spec)
	taken, err := Reserved(a.o.CoreDir)
	if err != nil || len(taken) != 1 || taken[0].CPU != 0 || taken[0].Holder.ID != id || taken[0].Holder.PID != st.StubPID || taken[0].Holder.Owner != dir {
		t.Fatalf("reserved %+v (%v)", taken, err)
	}
	// Over an engine's restart.
	a.leave()
	if taken, err := Reserved(a.o.CoreDir); err != nil || len(taken) != 1 {
		t.Errorf("without an engine: %+v (%v)", taken, err)
	}
	// Another engine, on another state directory, on the same machine.
	dir2 := t.TempDir()
	b := newRig(t, dir2, func(o *Options) { o.CoreDir, o.Policy = a.o.CoreDir, Policy{First: time.Hour, Max: time.Hour} })
	spec2 := childSpec(dir2, other, "run")
	spec2.CPUs = []prover.CPU{0}
	if err := b.Start(t.Context(), spec2); err != nil {
		t.Fatal(err)
	}
	got := b.await(other, "was refused", func(s Status) bool { return s.LastExit != nil })
	if want := fmt.Sprintf("did not start: reserve CPU 0: taken by %s of %s (pid %d)", id, dir, st.StubPID); got.Problem != want {
		t.Errorf("problem %q, want %q", got.Problem, want)
	}
	spec2.ShareCPUs = true
	if err := b.Start(t.Context(), spec2); err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context(), other, engine.WishRun); err != nil {
		t.Fatal(err)
	}
	if got := b.running(other); !slices.Equal(got.Shared, []prover.CPU{0}) {
		t.Errorf("shared %v, want CPU 0", got.Shared)
	}
	// Free after any death.
	unix.Kill(st.StubPID, unix.SIGKILL)
	eventually(t, func() bool {
		taken, err := Reserved(a.o.CoreDir)
		return err == nil && len(taken) == 0
	}, text("CPU 0 is free"))
}

func TestLifeline(t *testing.T) {
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	r := newRig(t, t.TempDir(), func(o *Options) { o.Lifeline = pr })
	id := idOf(t, "a")
	spec := childSpec(r.dir, id, "env")
	st := r.start(spec)
	log := r.said(spec, "env end")
	if !strings.Contains(log, "env "+LifelineVar+"=4\n") || !strings.Contains(log, "fd 4 pipe:") {
		t.Errorf("the child was not given the lifeline:\n%s", log)
	}
	if err := r.Run(t.Context(), id, engine.WishPaused); err != nil {
		t.Fatal(err)
	}
	r.leave() // nobody watches
	pw.Close()
	eventually(t, func() bool { return !lives(st.PID) && !lives(st.StubPID) }, text("both end with the lifeline"))
	var x exited
	decode(t, filepath.Join(r.dir, "workers", id, exitName), &x)
	if x.Exit.Cause != "stopped because the process that keeps it was gone" || !x.StopAsked {
		t.Errorf("%+v", x)
	}
}

func TestMemoryCap(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for stub, want := range map[string]map[string]string{
		"internal-stub": {
			capCgroup:  "killed by the kernel: out of memory, its cap is 64.0 MiB",
			capPolling: "killed by its stub: it used ", // where no group can be made
		},
		"internal-stub-without-cgroups": {capPolling: "killed by its stub: it used "},
	} {
		t.Run(stub, func(t *testing.T) {
			r := newRig(t, t.TempDir(), func(o *Options) {
				o.Policy = Policy{First: time.Hour, Max: time.Hour}
				o.StubArgv = []string{os.Args[0], stub}
			})
			id := idOf(t, "a")
			spec := childSpec(r.dir, id, "alloc")
			spec.MemoryMaxBytes = 64 << 20
			if err := r.Start(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			st := r.await(id, "was killed", func(s Status) bool { return s.LastExit != nil })
			eventually(t, func() bool { return len(r.told(id, EventStarted)) == 1 }, text("the start was told"))
			capBy := r.told(id, EventStarted)[0].CapBy
			t.Logf("kept by %s: %s", capBy, st.LastExit.Cause)
			if want[capBy] == "" || !strings.HasPrefix(st.LastExit.Cause, want[capBy]) || st.LastExit.Signal != "SIGKILL" {
				t.Errorf("cap by %q: %+v, want %q", capBy, st.LastExit, want[capBy])
			}
		})
	}
}

func TestLogIsRotated(t *testing.T) {
	r := newRig(t, t.TempDir())
	id := idOf(t, "a")
	spec := childSpec(r.dir, id, "spam")
	spec.LogMaxBytes = 64 << 10
	st := r.start(spec)
	var first os.FileInfo
	eventually(t, func() bool {
		unix.Kill(st.StubPID, unix.SIGUSR1) // look at once instead of in two seconds
		var err error
		first, err = os.Stat(spec.LogFile + ".1")
		return err == nil
	}, text("the log was rotated"))
	eventually(t, func() bool {
		unix.Kill(st.StubPID, unix.SIGUSR1)
		now, err := os.Stat(spec.LogFile + ".1")
		return err == nil && !now.ModTime().Equal(first.ModTime())
	}, text("the log was rotated again"))
	if err := r.Hold(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(spec.LogFile + ".1"); err != nil || !strings.Contains(string(b), "\nn=") {
		t.Errorf("what was rotated away is not the child's (%v)", err)
	}
	b, err := os.ReadFile(spec.LogFile)
	if err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexByte(string(b), 0); i >= 0 {
		t.Errorf("the log has a hole at %d: the child does not append", i)
	}
	if old, err := os.Stat(spec.LogFile + ".1"); err != nil || old.Mode().Perm() != 0o600 {
		t.Errorf("%v (%v)", old, err)
	}
}

func TestConstructorRefusesHalf(t *testing.T) {
	_, err := New(Options{Spawner: newSpawner()})
	if err == nil || !strings.Contains(err.Error(), "Handles, OnChange") {
		t.Errorf("got %v", err)
	}
}

func TestAdoptReportsBadHandles(t *testing.T) {
	dir := t.TempDir()
	h := fileHandles{dir: dir + "/handles"}
	for id, s := range map[string]string{"bad": "{", "newer": `{"schema":"provost.handle/2"}`, "other": `{"schema":"provost.handle/1","id":"x"}`} {
		if err := h.SaveHandle(id, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, dir)
	_, err := r.Adopt(t.Context())
	for _, want := range []string{"handle of bad", `"provost.handle/2"`, `it is of "x"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

func TestSlowListenerDelaysNobody(t *testing.T) {
	block := make(chan struct{})
	r := newRig(t, t.TempDir(), func(o *Options) {
		was := o.OnChange
		o.OnChange = func(s Status) { <-block; was(s) }
	})
	id := idOf(t, "a")
	st := r.start(childSpec(r.dir, id, "run"))
	unix.Kill(st.PID, unix.SIGKILL)
	r.await(id, "runs anew", func(s Status) bool { return s.State == StateRunning && s.PID != st.PID })
	for range tellQueue + 10 {
		if err := r.Run(t.Context(), id, engine.WishRun); err != nil {
			t.Fatal(err)
		}
	}
	close(block)
	eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.hs) >= tellQueue
	}, text("what was kept was told"))
	r.mu.Lock()
	defer r.mu.Unlock()
	missed := 0
	for _, s := range r.hs {
		missed += s.Missed
	}
	if missed < 10 {
		t.Errorf("%d changes were said to be missed, want 10 or more", missed)
	}
}

func TestWaitsEndWithTheirContext(t *testing.T) {
	r := newRig(t, t.TempDir())
	id := idOf(t, "a")
	spec := childSpec(r.dir, id, "stubborn")
	spec.StopGrace = time.Hour
	r.start(spec)
	r.said(spec, "child up")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.StopAll(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), id) {
		t.Errorf("got %v, want the deadline and the name of the one that is left", err)
	}
}
