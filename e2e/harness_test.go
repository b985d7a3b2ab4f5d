// Package e2e runs the real binary as its users do: over terminals, sockets and
// signals. A test whose peer (tmux, sshd, node) is missing skips and says so.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"app.provost/assets"
)

// provost is the path of the binary under test, built once for all tests.
var provost string

func TestMain(m *testing.M) {
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
	t    *testing.T
	dir  string
	env  []string
	args []string // global flags that lead every command to this engine
}

func newPlace(t *testing.T) *place {
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

// confirmed looks at the plan of an act and carries out that plan, as a script does.
func (p *place) confirmed(args ...string) result {
	p.t.Helper()
	r := p.run(append(append([]string{"plan"}, args...), "-o", "json")...)
	if r.code != 0 {
		return r
	}
	var plan struct{ Digest string }
	if err := json.Unmarshal([]byte(r.out), &plan); err != nil {
		p.t.Fatalf("plan %s: %v in %s", strings.Join(args, " "), err, r.out)
	}
	return p.run(append(args, "--confirm", plan.Digest)...)
}

// engine starts a headless engine and waits until it answers.
func (p *place) engine(args ...string) *exec.Cmd {
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
	p.answering()
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
func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
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

func read(t *testing.T, path string) string {
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
