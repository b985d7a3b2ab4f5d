package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Four nodes, each a process of its own, sign everything that is due, and leave nothing behind.
func TestFourNodesSignAllDuties(t *testing.T) {
	for _, fork := range []string{"electra", "fulu"} {
		t.Run(fork, func(t *testing.T) {
			t.Parallel()
			p := newCluster(t, 4, 8)
			p.startChain("--slot-duration", "2s", "--slots-per-epoch", "4", "--fork", fork, "--genesis-in", "8s")
			for _, n := range p.nodes {
				n.start()
			}
			p.signing(60 * time.Second)
			p.wholeEpochs(2, 120*time.Second)
			rejoins(t, p)
			for _, n := range p.nodes {
				n.stop()
				if lock := filepath.Join(n.dir, "charon-enr-private-key.lock"); exists(lock) {
					t.Errorf("%s is still there after an orderly stop", lock)
				}
			}
			st := p.nothingSlashable()
			if st.Fork != fork || st.FinalizedEpoch == 0 {
				t.Errorf("the chain is of %s and finalized epoch %d", st.Fork, st.FinalizedEpoch)
			}
		})
	}
}

// rejoins stops a node in order, starts it again, and sees its share in the others' duties.
func rejoins(t *testing.T, p *practice) {
	t.Helper()
	n := p.nodes[2]
	n.stop()
	p.slots(2)
	from := p.mustAccount().Slots
	n.start()
	p.signing(60*time.Second, n)
	eventually(t, 60*time.Second, "another node has partial signatures of the one that came back", func() error {
		rows, err := p.nodes[0].duties()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(rows, func(d dutyRow) bool { return d.Slot > from && slices.Contains(d.Partials, 3) }) {
			return fmt.Errorf("none among %d duties", len(rows))
		}
		return nil
	})
	row, err := n.clusterRow()
	if err != nil || row.PeersUp == nil || *row.PeersUp != 4 {
		t.Errorf("the node that came back sees %+v, %v", row, err)
	}
}

// engines are the pids of the nodes' engines by node.
func (p *place) engines(dir string) map[string]int {
	out := map[string]int{}
	for _, pid := range byWord(p.processes(), "up") {
		args := strings.Split(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)))), "\x00")
		if i := slices.Index(args, "--data-dir"); i >= 0 && strings.HasPrefix(args[i+1], dir) {
			out[filepath.Base(args[i+1])] = pid
		}
	}
	return out
}

func must[T any](v T, _ error) T { return v }

// The engine that shows a cluster may die: its nodes go on signing, and it finds them again.
func TestNodesOutliveTheirDashboard(t *testing.T) {
	t.Parallel()
	p := newCluster(t, 4, 8)
	p.startChain("--slot-duration", "2s", "--slots-per-epoch", "4", "--genesis-in", "8s")
	up := []string{"--workers", "0", "--cluster-dir", p.cluster, "--beacon-node-endpoints", "http://" + p.chain, "--keys-never-signed=true"}
	control := p.start(up...)
	running := func() {
		t.Helper()
		eventually(t, 60*time.Second, "the dashboard shows four running nodes", func() error {
			s, err := p.look()
			if err != nil {
				return err
			}
			good := 0
			for _, n := range s.Nodes.List() {
				if n.State == "running" {
					good++
				}
			}
			if c := s.Clusters.List(); good != 4 || len(c) == 0 || c[0].PeersUp == nil || *c[0].PeersUp != 4 {
				return fmt.Errorf("nodes %+v, clusters %+v", s.Nodes.List(), c)
			}
			return nil
		})
	}
	running()
	p.wholeEpochs(1, 60*time.Second)
	before := p.engines(p.cluster)
	if len(before) != 4 {
		t.Fatalf("the nodes' processes are %v", before)
	}
	control.Process.Signal(syscall.SIGKILL)
	control.Wait()
	p.wholeEpochs(1, 60*time.Second)
	control = p.start(up...)
	running()
	if after := p.engines(p.cluster); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("nodes' processes were %v, are %v", before, after)
	}
	// An orderly stop of it alone leaves them too; a stop of all ends them in order.
	if r := p.confirmed("down", "--workers"); r.code != 0 {
		t.Fatalf("down: exit %d: %s%s", r.code, r.out, r.err)
	}
	waitExit(t, control, 40*time.Second)
	eventually(t, 20*time.Second, "the nodes have ended", func() error {
		if left := p.engines(p.cluster); len(left) > 0 {
			return fmt.Errorf("still there: %v", left)
		}
		return nil
	})
	for i := range 4 {
		if lock := filepath.Join(p.cluster, fmt.Sprintf("node%d/charon-enr-private-key.lock", i)); exists(lock) {
			t.Errorf("%s is still there after an orderly stop", lock)
		}
	}
	p.nothingSlashable()
}

const charonClusters = "../../shared/fixtures/charon-clusters"

// Directories that Charon made run as they are.
func TestCharonDirectoriesRunUnchanged(t *testing.T) {
	for _, c := range []struct {
		name string
		long bool
	}{{"hoodi-n4-t3-v2", false}, {"hoodi-n4-t3-v1-compounding", true}, {"sepolia-n6-t5-v3", true}} {
		t.Run(c.name, func(t *testing.T) {
			from := filepath.Join(charonClusters, c.name)
			if !exists(from) {
				t.Skip("the directories that Charon made are not here: " + from)
			}
			if c.long && testing.Short() {
				t.Skip("one of the three is run with -short")
			}
			t.Parallel()
			p := &practice{place: newPlace(t)}
			p.cluster = filepath.Join(p.dir, "c")
			copyDir(t, from, p.cluster)
			dirs, _ := filepath.Glob(filepath.Join(p.cluster, "node*"))
			p.addNodes(len(dirs), "127.0.0.1")
			sum := func() map[string]string {
				out := map[string]string{}
				for _, d := range dirs {
					files, _ := filepath.Glob(filepath.Join(d, "*"))
					keys, _ := filepath.Glob(filepath.Join(d, "validator_keys/*"))
					for _, f := range append(files, keys...) {
						if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() && filepath.Ext(f) != ".lock" {
							out[f] = read(t, f)
						}
					}
				}
				return out
			}
			before := sum()
			p.startChain("--slot-duration", "2s", "--slots-per-epoch", "4", "--genesis-in", "8s")
			for _, n := range p.nodes {
				n.start()
			}
			p.signing(90 * time.Second)
			p.wholeEpochs(2, 120*time.Second)
			for _, n := range p.nodes {
				n.stop()
			}
			p.nothingSlashable()
			after := sum()
			for f, b := range after {
				if before[f] != b {
					t.Errorf("%s was changed", f)
				}
			}
			if len(after) != len(before) {
				t.Errorf("there were %d files, there are %d", len(before), len(after))
			}
		})
	}
}
