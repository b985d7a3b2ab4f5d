package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A new cluster on the screen of a real terminal: forward to the end, which makes it; the answers
// are kept, and the command that was shown makes the same again without a question.
func TestGuideMakesACluster(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	w := newPane(t, p, 80, 24, "create", "cluster")
	if out, err := w.tmux("set-option", "-g", "remain-on-exit", "on"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.still("the first page", "what it is about", "Needs", "Nothing is written before the last step")
	w.keys("Enter")
	w.still("the network", "Network", "hoodi")
	w.keys("Tab", "Right", "Right", "Tab", "mycluster", "Enter")
	w.still("the nodes", "Nodes", "Threshold")
	w.keys("2", "Enter")
	w.still("two are too few", "want at least 3")
	w.keys("BSpace", "4")
	w.still("the table", "MAY BE DOWN", "two thirds, rounded up")
	w.keys("Enter")
	w.still("the validators", "Split existing keys")
	w.keys("BTab")
	w.still("back", "Threshold")
	w.keys("Enter", "Enter")
	w.still("the addresses", "Withdrawal address", "again")
	w.keys("0x000000000000000000000000000000000000dead", "Tab", "0x000000000000000000000000000000000000deaf")
	w.still("a slip", "the two are not the same")
	w.keys("BSpace", "d", "Enter")
	w.still("where to", "empty: .charon/cluster")
	w.keys("made", "Enter")
	w.still("what is rarely changed", "Insecure keys")
	w.keys("Tab", "Tab", "Tab", "y", "Enter")
	w.still("the checks", "nobody holds the key", "0 block, 2 warn")
	if _, err := os.Stat(filepath.Join(p.dir, "made")); !os.IsNotExist(err) {
		t.Fatalf("something was written before the end: %v", err)
	}
	w.keys("Enter")
	w.still("the review", "create a cluster of 4 nodes", "cannot be undone", "Type create mycluster to agree")
	w.keys("NPage")
	w.still("the command", "SAME THING WITHOUT THE WIZARD", "--nodes=4")
	w.keys("S")
	w.still("the answers", "answers saved to")
	w.keys("create mycluster", "Enter")
	w.still("the end", "lock hash: 0x", "repeat without questions:")
	p.must("verify", "cluster", "made")
	p.must("create", "cluster", "--answers", "mycluster.yaml", "--cluster-dir", "again")
	p.must("verify", "cluster", "again")
}

// ended waits until the program has ended with a status. It needs remain-on-exit.
func (w *pane) ended(status int) {
	w.t.Helper()
	want := fmt.Sprintf("1 %d", status)
	eventually(w.t, 20*time.Second, "the program ends", func() error {
		out, err := w.tmux("display-message", "-p", "#{pane_dead} #{pane_dead_status}")
		if err == nil && strings.TrimSpace(out) == "1" {
			// tmux 3.3 overlooks now and then that its child has died. Told again, it looks.
			if server, err := w.tmux("display-message", "-p", "#{pid}"); err == nil {
				if pid, err := strconv.Atoi(strings.TrimSpace(server)); err == nil {
					syscall.Kill(pid, syscall.SIGCHLD)
				}
			}
		}
		if err == nil && strings.TrimSpace(out) != want {
			err = fmt.Errorf("dead and status are %q, want %q:\n%s", strings.TrimSpace(out), want, w.picture())
		}
		return err
	})
}

// Left on a page in the middle, after a question if something was typed, nothing is made.
func TestGuideIsLeft(t *testing.T) {
	t.Parallel()
	for _, left := range []struct {
		kind, steps string
		keys        []string
	}{{"cluster", "of 9", []string{"C-c", "C-c"}}, {"cluster", "of 9", []string{"Escape"}}, {"workers", "of 8", []string{"Escape"}}, {"prover", "of 6", []string{"Escape"}}} {
		t.Run(left.kind+left.keys[0], func(t *testing.T) {
			p := newPlace(t)
			w := newPane(t, p, 80, 24, "create", left.kind)
			if out, err := w.tmux("set-option", "-g", "remain-on-exit", "on"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			w.still("a page", "step 1 "+left.steps, "esc leave")
			w.keys("Enter")
			w.still("the next", "step 2 ")
			w.keys("Tab", "Tab", "x")
			w.keys(left.keys...)
			if left.keys[0] == "Escape" {
				w.still("the question", "Leave? Nothing was made")
				w.keys("Escape")
				w.still("stayed", "step 2 ")
				w.keys("Escape")
				w.still("the question again", "Leave?")
				w.keys("Enter")
			}
			w.ended(5)
			if end := w.picture(); strings.Contains(end, "│") {
				t.Errorf("the screen is not whole:\n%s", end)
			}
			names, err := os.ReadDir(p.dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				if !slices.Contains([]string{"s", "r", "c", "d", "demo", "tmux"}, n.Name()) {
					t.Errorf("%s was made", n.Name())
				}
			}
		})
	}
}

// Workers of this machine, planned on the screen; then the same plan is changed by a command.
func TestGuidePlansWorkers(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	w := newPane(t, p, 100, 30, "create", "workers")
	if out, err := w.tmux("set-option", "-g", "remain-on-exit", "on"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.still("the first page", "what it is about", "nothing is installed or")
	w.keys("Enter")
	w.still("the plan", "Directory", "Profile")
	w.keys("./farm", "Tab", "nativ", "Enter")
	w.still("no such profile", "want native, or quil-")
	w.keys("e", "Enter")
	w.still("the machines", "Inventory")
	w.keys("Tab", "y", "BTab")
	w.still("back", "Profile", "native")
	w.keys("Enter", "Tab", "Tab", "name=m07,address=10.1.2.3,threads=8,ram=64GiB,disk=1TiB", "Enter")
	w.still("the layout", "Control process on")
	w.keys("Enter", "Enter")
	w.still("the checks", "0 block", "10.1.2.3", "WORKERS")
	if _, err := os.Stat(filepath.Join(p.dir, "farm")); !os.IsNotExist(err) {
		t.Fatalf("something was written before the end: %v", err)
	}
	w.keys("Enter")
	w.still("the review", "Type create farm to agree")
	w.keys("create farm", "Enter")
	w.still("the end", "begin with", "repeat without questions:")
	if plan := p.must("plan", "create", "workers", "--dir", "farm", "--remove-machine", "m07"); !strings.Contains(plan, "m07") {
		t.Errorf("the plan does not say that m07 leaves:\n%s", plan)
	}
}

// A GPU prover for a machine that is written down. Its key is typed, and is seen nowhere.
func TestGuideCreatesAProver(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const gpu = "GPU-5d1b7a2e-0000-4000-8000-000000000001"
	const key = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318" // of a published example, worth nothing
	host := `{"schema": "provost.prover-host/1", "hostname": "m03", "gpu": {"driver": "550.54.15", "cuda": "12.4", "gpus": [
		{"index": 0, "uuid": "` + gpu + `", "model": "NVIDIA GeForce RTX 4090", "mem_total_mib": 24564, "compute": "8.9", "numa": 0}]},
		"mem_total_mib": 131072, "mem_available_mib": 98304, "hugepages": [{"page_kib": 2048, "total": 15000, "free": 15000}],
		"docker": {"version": "28.2.2", "compose": "2.36.0", "toolkit": "1.14.3"}, "disk": {"path": "/var/lib/docker", "free_mib": 200000}}`
	if err := os.WriteFile(filepath.Join(p.dir, "m03.json"), []byte(host), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newPane(t, p, 80, 24, "create", "prover")
	if out, err := w.tmux("set-option", "-g", "remain-on-exit", "on"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.still("the first page", "what it is about")
	w.keys("Enter")
	w.still("the place", "Directory", "Hub")
	w.keys("Tab", "./provers", "Tab", "Tab", "http://127.0.0.1:1", "Enter")
	w.still("the GPUs", "Another machine")
	w.keys("m03.json", "Tab")
	w.keys(gpu, "Enter")
	w.still("the keys", "Private keys", "ctrl+t type it")
	w.keys("C-t")
	w.keys(key)
	if seen := w.still("typing", "64 characters"); strings.Contains(seen, key[:8]) {
		t.Fatalf("the key is on the screen:\n%s", seen)
	}
	w.keys("Enter")
	w.still("the key is kept", "Private keys", "ok")
	w.keys("Enter")
	w.still("the checks", "files and directories can be written", "nothing was measured")
	w.keys("Enter")
	w.still("the review", "Type create provers to agree")
	w.keys("BTab", "BTab")
	w.still("back", "Private keys")
	w.keys("Enter")
	w.still("the checks again", "nothing was measured")
	w.keys("Enter")
	w.still("the review again", "Type create provers to agree")
	w.keys("create provers", "Enter")
	w.still("the end", "nothing is started", "repeat without questions:")
	all, err := w.tmux("capture-pane", "-p", "-S", "-200")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	err = filepath.WalkDir(p.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), key) {
			found++
			if !strings.Contains(path, "/provers/") {
				t.Errorf("%s holds the key", path)
			}
			if info, err := d.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s holds the key and is readable by others: %v", path, info.Mode())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 || strings.Contains(all, key[:8]) {
		t.Errorf("the key is in %d files; on the screen: %v", found, strings.Contains(all, key[:8]))
	}
}
