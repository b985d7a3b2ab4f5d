package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

type demoReport struct {
	Schema    string
	Cluster   any
	Slots     any
	Duties    any
	Slashable any
	Jobs      struct{ Submitted, Verified, Failed int }
	Workers   struct{ Running, Restarts int }
}

func TestDemoWithoutAScreen(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := p.cmd(ctx, "demo", "--no-tui", "--for", "6s", "--json")
	var out, errb bytes.Buffer
	c.Stdout, c.Stderr = &out, &errb
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errb.String())
	}
	var rep demoReport
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if rep.Schema != "provost.demo/1" || rep.Jobs.Verified == 0 || rep.Jobs.Verified != rep.Jobs.Submitted || rep.Jobs.Failed != 0 || rep.Workers.Running != 2 {
		t.Errorf("report %s", out.String())
	}
	if rep.Cluster != nil || rep.Slots != nil || rep.Duties != nil || rep.Slashable != nil {
		t.Errorf("a part that is not there must be null: %s", out.String())
	}
	p.nothingLeft()
}

// nothingLeft waits until no process and no directory of a demo is there.
func (p *place) nothingLeft() {
	p.t.Helper()
	eventually(p.t, 15*time.Second, "the demo is gone", func() error {
		if left := p.processes(); len(left) > 0 {
			return fmt.Errorf("processes %v", left)
		}
		if dirs, _ := filepath.Glob(filepath.Join(p.dir, "provost-demo-*")); len(dirs) > 0 {
			return fmt.Errorf("directories %v", dirs)
		}
		return nil
	})
}

func TestDemoLeavesNothingAfterSIGKILL(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := exec.Command(provost, "demo", "--no-tui")
	c.Env, c.Dir = p.env, p.dir
	var log bytes.Buffer
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	socket := ""
	eventually(t, 20*time.Second, "workers of the demo prove", func() error {
		if found, _ := filepath.Glob(filepath.Join(p.dir, "provost-demo-*/run/engine.sock")); len(found) == 1 {
			socket = found[0]
		} else {
			return fmt.Errorf("no socket yet")
		}
		if r := p.run("get", "jobs", "state=verified", "--socket", socket, "-o", "name"); r.code != 0 || r.out == "" {
			return fmt.Errorf("exit %d %s", r.code, r.err)
		}
		return nil
	})
	if n := len(p.processes()); n < 7 { // supervisor, keeper, engine, three stubs and their children
		t.Errorf("%d processes, want a supervisor, a keeper, an engine, and stubs with workers", n)
	}
	c.Process.Signal(syscall.SIGKILL)
	c.Wait()
	p.nothingLeft()
}

// What dies in the demo is started again, and the jobs go on.
func TestDemoRestartsWhatDies(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := p.cmd(ctx, "demo", "--no-tui", "--for", "12s", "--json")
	var out, errb bytes.Buffer
	c.Stdout, c.Stderr = &out, &errb
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func(what string, match func(args [][]byte) bool) {
		eventually(t, 20*time.Second, "find the "+what, func() error {
			for _, pid := range p.processes() {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				if args := bytes.Split(b, []byte{0}); len(args) > 1 && match(args) {
					return syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			return fmt.Errorf("none")
		})
	}
	word := func(w string) func([][]byte) bool { return func(a [][]byte) bool { return string(a[1]) == w } }
	kill("data worker", func(a [][]byte) bool {
		return string(a[1]) == "internal-worker" && bytes.Contains(bytes.Join(a, []byte(" ")), []byte("--role prove"))
	})
	time.Sleep(1500 * time.Millisecond)
	kill("engine", word("up"))
	time.Sleep(1500 * time.Millisecond)
	kill("keeper", word("internal-keeper"))
	if err := c.Wait(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errb.String())
	}
	var rep demoReport
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	if rep.Jobs.Verified == 0 || rep.Jobs.Verified != rep.Jobs.Submitted || rep.Workers.Restarts == 0 {
		t.Errorf("report %s", out.String())
	}
	p.nothingLeft()
}
