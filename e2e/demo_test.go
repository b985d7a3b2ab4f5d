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
	Schema  string
	Cluster *struct{ Nodes, Threshold, Validators int }
	Slots   *int
	Duties  *struct {
		Attester, Proposer struct{ Expected, Included, Missed int }
	}
	Slashable *int
	Jobs      *struct{ Submitted, Verified, Failed int }
	Workers   *struct{ Running, Restarts int }
}

// report runs a headless demo to its end and gives its report and exit code. What
// must hold of every demo is held here.
func (p *place) report(length string, during func()) demoReport {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Minute)
	defer cancel()
	c := p.cmd(ctx, "demo", "--no-tui", "--for", length, "--json")
	var out, errb bytes.Buffer
	c.Stdout, c.Stderr = &out, &errb
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	if during != nil {
		during()
	}
	c.Wait()
	code := c.ProcessState.ExitCode()
	var rep demoReport
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil || rep.Schema != "provost.demo/1" {
		p.t.Fatalf("exit %d: %v in %q\n%s", code, err, out.String(), errb.String())
	}
	p.t.Logf("%s", bytes.TrimSpace(out.Bytes()))
	if rep.Jobs == nil || rep.Jobs.Verified == 0 || rep.Jobs.Verified != rep.Jobs.Submitted || rep.Jobs.Failed != 0 {
		p.t.Errorf("jobs %+v", rep.Jobs)
	}
	if rep.Cluster == nil || rep.Cluster.Nodes != 4 || rep.Cluster.Threshold != 3 || rep.Cluster.Validators != 8 {
		p.t.Errorf("cluster %+v", rep.Cluster)
	}
	if rep.Slashable == nil || *rep.Slashable != 0 {
		p.t.Errorf("slashable %v", rep.Slashable)
	}
	if rep.Duties == nil || rep.Slots == nil || rep.Workers == nil || rep.Workers.Running != 2 {
		p.t.Fatalf("a part is missing, or workers: %s", out.String())
	}
	for _, d := range []struct{ Expected, Included, Missed int }{rep.Duties.Attester, rep.Duties.Proposer} {
		if d.Expected != d.Included+d.Missed {
			p.t.Errorf("duties %+v do not add up", d)
		}
	}
	want := 0
	if rep.Duties.Attester.Missed > 0 || rep.Duties.Proposer.Missed > 0 {
		want = 6 // a machine that is too busy, or what a test has killed
	}
	if code != want {
		p.t.Errorf("exit %d, want %d for %s", code, want, out.String())
	}
	return rep
}

func TestDemoWithoutAScreen(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	rep := p.report("28s", nil)
	if *rep.Slots == 0 || rep.Duties.Attester.Included == 0 || rep.Duties.Proposer.Included == 0 {
		t.Errorf("no duty was done in %d slots: %+v", *rep.Slots, *rep.Duties)
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

// However early the demo is killed, it leaves neither a process nor a file.
func TestDemoLeavesNothingHoweverEarly(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i := range 6 {
		c := exec.Command(provost, "demo", "--no-tui")
		c.Env, c.Dir = p.env, p.dir
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the keeper runs", func() error {
			if len(byWord(p.processes(), "internal-keeper")) == 0 {
				return fmt.Errorf("it does not")
			}
			return nil
		})
		time.Sleep(time.Duration(i*i) * 40 * time.Millisecond)
		c.Process.Kill()
		c.Wait()
		p.nothingLeft()
	}
}

// What dies in the demo is started again, and the jobs go on.
func TestDemoRestartsWhatDies(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	rep := p.report("16s", func() {
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
		time.Sleep(3 * time.Second)
		kill("engine", word("up"))
		time.Sleep(1500 * time.Millisecond)
		kill("keeper", word("internal-keeper"))
	})
	if rep.Workers.Restarts == 0 {
		t.Error("a worker was killed, and no restart is counted")
	}
	p.nothingLeft()
}
