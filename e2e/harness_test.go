// Package e2e runs the real binary as its users do: over terminals, sockets and
// signals. A test whose peer (tmux, sshd, node) is missing skips and says so.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"app.provost/assets"
	"app.provost/engine"
	"app.provost/engine/rpc"
	"app.provost/prover"
)

// provost is the path of the binary under test, built once for all tests.
var provost string

func TestMain(m *testing.M) {
	// Under nohup what is started here would ignore a closed terminal too: heard here, it is as
	// usual there.
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	// Most of what is tested here waits for processes: more of it goes on at once than there are cores.
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", "6")
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "provost-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		provost = filepath.Join(dir, "provost")
		build := exec.Command("go", "build", "-o", provost, "../cmd/provost")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build provost:", err)
			return 1
		}
		return m.Run()
	}())
}

// place is an installation of its own: nothing of the user who runs the tests is touched.
type place struct {
	t   testing.TB
	dir string
	env []string
}

func newPlace(t testing.TB) *place {
	t.Helper()
	// Socket paths are short on every system, t.TempDir is not.
	dir, err := os.MkdirTemp("", "pv")
	if err != nil {
		t.Fatal(err)
	}
	p := &place{t: t, dir: dir}
	p.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TERM=dumb", "LANG=C.UTF-8", "TMPDIR=" + dir,
		"XDG_STATE_HOME=" + dir + "/s", "XDG_RUNTIME_DIR=" + dir + "/r", "XDG_CONFIG_HOME=" + dir + "/c", "XDG_DATA_HOME=" + dir + "/d",
	}
	for _, sub := range []string{"s", "r", "c", "d", "demo"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := assets.WriteDemo(filepath.Join(dir, "demo")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range p.processes() {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		eventually(t, 10*time.Second, "the test's processes end", func() error {
			if left := p.processes(); len(left) > 0 {
				return fmt.Errorf("still there: %v", left)
			}
			return nil
		})
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(dir, "s/provost/*/logs/*.log"))
			for _, f := range logs {
				b, _ := os.ReadFile(f)
				if len(b) > 4000 {
					b = b[len(b)-4000:]
				}
				t.Logf("end of %s:\n%s", filepath.Base(f), b)
			}
		}
		os.RemoveAll(dir)
	})
	return p
}

func (p *place) cmd(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, provost, args...)
	c.Env = p.env
	c.Dir = p.dir
	c.WaitDelay = 5 * time.Second
	return c
}

type result struct {
	out, err string
	code     int
}

// run runs a command to its end, at most a minute.
func (p *place) run(args ...string) result {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := p.cmd(ctx, args...)
	var out, errb bytes.Buffer
	c.Stdout, c.Stderr = &out, &errb
	err := c.Run()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		p.t.Fatalf("provost %s: %v", strings.Join(args, " "), err)
	}
	return result{out.String(), errb.String(), c.ProcessState.ExitCode()}
}

// must runs a command that has to succeed, and gives its standard output.
func (p *place) must(args ...string) string {
	p.t.Helper()
	r := p.run(args...)
	if r.code != 0 {
		p.t.Fatalf("provost %s: exit %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// digest is that of an act's plan as it is now.
func (p *place) digest(args ...string) string {
	p.t.Helper()
	var plan struct{ Digest string }
	out := p.must(append(append([]string{"plan"}, args...), "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &plan); err != nil {
		p.t.Fatalf("plan %s: %v in %s", strings.Join(args, " "), err, out)
	}
	return plan.Digest
}

// confirmed looks at the plan of an act and carries out that plan, as a script does.
// A plan that is refused is the result.
func (p *place) confirmed(args ...string) result {
	p.t.Helper()
	if r := p.run(append([]string{"plan"}, args...)...); r.code != 0 {
		return r
	}
	return p.run(append(args, "--confirm", p.digest(args...))...)
}

// start starts a headless engine and waits until it answers.
func (p *place) start(args ...string) *exec.Cmd {
	p.t.Helper()
	c := exec.Command(provost, append([]string{"up", "--no-tui"}, args...)...)
	c.Env, c.Dir = p.env, p.dir
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	log, err := os.OpenFile(filepath.Join(p.dir, "up.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, 20*time.Second, "the engine is ready", func() error {
		b, _ := os.ReadFile(log.Name())
		if !bytes.Contains(b, []byte(fmt.Sprintf(`"engine.ready","pid":%d`, c.Process.Pid))) {
			return fmt.Errorf("%s", b)
		}
		return nil
	})
	return c
}

// answering waits until the engine of this place answers.
func (p *place) answering() {
	p.t.Helper()
	eventually(p.t, 20*time.Second, "the engine answers", func() error {
		if r := p.run("status", "--json"); r.code == 8 || r.code == 1 {
			b, _ := os.ReadFile(filepath.Join(p.dir, "up.log"))
			return fmt.Errorf("exit %d: %s\n%s", r.code, r.err, b)
		}
		return nil
	})
}

// rows gives what "provost get KIND -o json" lists.
func (p *place) rows(kind string) []map[string]any {
	p.t.Helper()
	var doc struct {
		Rows []map[string]any `json:"rows"`
	}
	out := p.must("get", kind, "-o", "json")
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		p.t.Fatalf("get %s: %v in %s", kind, err, out)
	}
	return doc.Rows
}

// look gives the newest snapshot of this place's engine.
func (p *place) look() (*engine.Snapshot, error) {
	s, _, err := p.watch(nil)
	return s, err
}

// journal gives all entries of the journal.
func (p *place) journal() []engine.Entry {
	p.t.Helper()
	var from uint64
	_, entries, err := p.watch(&from)
	if err != nil {
		p.t.Fatalf("read the journal: %v", err)
	}
	return entries
}

// entries counts the journal's entries by what happened and to whom: "job.verified 3f9c2d1a".
func (p *place) entries() map[string]int {
	p.t.Helper()
	out := map[string]int{}
	for _, e := range p.journal() {
		out[e.What+" "+e.Key.ID]++
	}
	return out
}

func (p *place) watch(after *uint64) (*engine.Snapshot, []engine.Entry, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := rpc.Dial(ctx, rpc.DialOptions{Socket: p.socket()})
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	feed, err := c.Watch(ctx, engine.WatchOptions{After: after})
	if err != nil {
		return nil, nil, err
	}
	defer feed.Close()
	var all []engine.Entry
	for {
		u, err := feed.Next(ctx)
		if err != nil {
			return nil, nil, err
		}
		if u.Gap != nil {
			return nil, nil, fmt.Errorf("journal entries are gone: %+v", *u.Gap)
		}
		all = append(all, u.Entries...)
		if len(u.Entries) == 0 {
			return u.Snapshot, all, nil
		}
	}
}

// workerPIDs are the data workers' processes by id.
func (p *place) workerPIDs() map[string]int {
	p.t.Helper()
	out := map[string]int{}
	eventually(p.t, 20*time.Second, "all workers have a process", func() error {
		s, err := p.look()
		if err != nil {
			return err
		}
		if len(s.Workers.List()) == 0 {
			return fmt.Errorf("no workers are listed")
		}
		for _, w := range s.Workers.List() {
			if w.PID == nil {
				return fmt.Errorf("%s is %s and has no process", w.ID, w.State)
			}
			out[string(w.ID)] = *w.PID
		}
		return nil
	})
	return out
}

// demoFile is the path of a file of the practice circuits.
func (p *place) demoFile(name string) string { return filepath.Join(p.dir, "demo", name) }

// submit hands in one job of the large circuit, n times, and gives the ids.
func (p *place) submit(n int, more ...string) []string {
	p.t.Helper()
	args := append([]string{"submit", "job", "-o", "json", "--zkey", p.demoFile("large.zkey")}, more...)
	for i := range n {
		args = append(args, "--witness", p.demoFile(fmt.Sprintf("large-%d.wtns", i%2+1)))
	}
	var r struct{ Jobs []string }
	out := p.must(args...)
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Jobs) != n {
		p.t.Fatalf("%v: %s", err, out)
	}
	return r.Jobs
}

// freeze stops (SIGSTOP) a worker in the middle of a job. It hands in jobs until it catches one.
func (p *place) freeze() (worker string, pid int, job string) {
	p.t.Helper()
	pids := p.workerPIDs()
	holding := func() (string, string) {
		if s, err := p.look(); err == nil {
			for _, w := range s.Workers.List() {
				if w.Job != nil {
					return string(w.ID), string(*w.Job)
				}
			}
		}
		return "", ""
	}
	eventually(p.t, 60*time.Second, "a worker is stopped in the middle of a job", func() error {
		p.submit(3)
		for range 20 {
			if worker, job = holding(); worker != "" {
				break
			}
		}
		if worker == "" {
			return fmt.Errorf("no worker has a job")
		}
		pid = pids[worker]
		syscall.Kill(pid, syscall.SIGSTOP)
		// What it had sent before it was stopped is in the snapshot by then.
		time.Sleep(time.Second)
		s, err := p.look()
		if err == nil {
			for _, j := range s.Jobs.List() {
				if string(j.ID) == job && j.State == prover.JobLeased && string(j.Worker) == worker {
					return nil
				}
			}
			err = fmt.Errorf("the job had ended before its worker was stopped")
		}
		syscall.Kill(pid, syscall.SIGCONT)
		return err
	})
	p.t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })
	return worker, pid, job
}

// allVerified waits until no job is open, and checks that each is verified.
func (p *place) allVerified(limit time.Duration) *engine.Snapshot {
	p.t.Helper()
	var last *engine.Snapshot
	eventually(p.t, limit, "all jobs are verified", func() error {
		s, err := p.look()
		if err != nil {
			return err
		}
		last = s
		t := s.Jobs.Totals
		if t.Failed > 0 || t.Cancelled > 0 {
			p.t.Fatalf("totals %+v", t)
		}
		if t.Verified != t.Submitted || t.Submitted == 0 {
			return fmt.Errorf("totals %+v", t)
		}
		return nil
	})
	return last
}

func jobRow(t testing.TB, s *engine.Snapshot, id string) engine.JobRow {
	t.Helper()
	for _, j := range s.Jobs.List() {
		if string(j.ID) == id {
			return j
		}
	}
	t.Fatalf("job %s is not listed", id)
	return engine.JobRow{}
}

// waitExit waits for a process that the test started, and gives its exit code.
func waitExit(t testing.TB, c *exec.Cmd, limit time.Duration) int {
	t.Helper()
	done := make(chan struct{})
	go func() { c.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
		c.Process.Signal(syscall.SIGQUIT)
		c.Process.Kill()
		<-done
		t.Fatalf("it had not ended after %s", limit)
	}
	return c.ProcessState.ExitCode()
}

// processes are all processes of the binary that carry this place in their
// arguments or environment.
func (p *place) processes() []int {
	return processesWith(p.dir)
}

func processesWith(mark string) []int {
	entries, _ := os.ReadDir("/proc")
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink("/proc/" + e.Name() + "/exe")
		if err != nil || strings.TrimSuffix(exe, " (deleted)") != provost {
			continue
		}
		args, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		if bytes.Contains(args, []byte(mark)) || bytes.Contains(env, []byte(mark)) {
			out = append(out, pid)
		}
	}
	return out
}

// byWord picks the processes whose first argument is a word.
func byWord(pids []int, word string) []int {
	var out []int
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if args := bytes.Split(b, []byte{0}); len(args) > 1 && string(args[1]) == word {
			out = append(out, pid)
		}
	}
	return out
}

// socket is the path of this place's engine socket.
func (p *place) socket() string {
	p.t.Helper()
	found, _ := filepath.Glob(filepath.Join(p.dir, "r/provost/*.sock"))
	for _, s := range found {
		if filepath.Ext(s[:len(s)-len(".sock")]) != ".workers" {
			return s
		}
	}
	p.t.Fatalf("no socket among %v", found)
	return ""
}

// eventually repeats a check until it passes; the limit is for a broken program, not a measure of a good one.
func eventually(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
