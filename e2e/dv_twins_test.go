package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A node that runs twice, or with an old copy of what it signed, cannot bring about a slashable
// signature of the group: that takes as many of them as the cluster's row says.
func TestOneStaleOrDoubledNodeIsHarmless(t *testing.T) {
	t.Parallel()
	p := newCluster(t, 4, 8)
	victim := p.nodes[0]
	twin := &node{p: p, name: "twin", listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t))), peers: victim.peers, dir: filepath.Join(p.dir, "t/node0")}
	copyDir(t, victim.dir, twin.dir)
	p.startChain("--slot-duration", "2s", "--slots-per-epoch", "4", "--genesis-in", "8s")
	for _, n := range p.nodes {
		n.start()
	}
	p.signing(60 * time.Second)
	p.slots(1)

	// On one directory only one runs.
	second := &node{p: p, name: "second", listen: twin.listen, peers: victim.peers, dir: victim.dir}
	code, said := second.refused()
	if code != 3 || !strings.Contains(said, "the node key is in use by") || !strings.Contains(said, "stop it first; two programs with one key can get validators slashed") {
		t.Errorf("a second node on one directory: exit %d: %s", code, said)
	}

	for _, n := range p.nodes {
		if a, err := n.twice(); err != nil || len(a) > 0 {
			t.Errorf("%s: a node runs twice before one does: %v %v", n.name, a, err)
		}
	}

	// A copy elsewhere does run: nobody can forbid it. It takes part with the same key and shares.
	twin.start()
	p.signing(60*time.Second, twin)
	from := p.mustAccount()
	p.slots(5)
	eventually(t, 60*time.Second, "both copies sign", func() error {
		for _, n := range []*node{victim, twin} {
			rows, err := n.duties()
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(rows, func(d dutyRow) bool { return d.Slot > currentSlot(from) && slices.Contains(d.Partials, 1) }) {
				return fmt.Errorf("%s has no partial signature of its own", n.name)
			}
		}
		return nil
	})
	st := p.nothingSlashable()
	t.Logf("two copies of node0 for %d slots: %d votes and %d blocks included, %d slashable", st.Slots-from.Slots,
		st.Duties.Attester.Included-from.Duties.Attester.Included, st.Duties.Proposer.Included-from.Duties.Proposer.Included, st.SlashableTotal)
	if st.Duties.Attester.Included == from.Duties.Attester.Included {
		t.Error("nothing was signed while a node ran twice")
	}
	// Everybody names it, also the two that run, with a remedy and where they are.
	for _, n := range append([]*node{twin}, p.nodes...) {
		eventually(t, 2*time.Minute, n.name+" names the node that runs twice", func() error {
			alerts, err := n.twice()
			if err != nil || len(alerts) != 1 {
				return fmt.Errorf("%v %v", alerts, err)
			}
			a, where := alerts[0], alerts[0].fact("where")
			want := 2 // places: the peers see both, each of the two the other
			if n == victim || n == twin {
				want = 1
			}
			if !strings.HasPrefix(a.Title, "node0 runs twice: ") || len(strings.Fields(where)) != want || strings.Count(where, "/ip4/127.0.0.1/tcp/") != want ||
				!slices.ContainsFunc(a.Next, func(x struct{ Text, Command string }) bool {
					return strings.Contains(x.Text, "stop all but the one that belongs there")
				}) {
				return fmt.Errorf("%s", a)
			}
			return nil
		})
	}
	for _, n := range []*node{victim, p.nodes[1]} {
		a, err := n.twice()
		t.Logf("%s says: %v %v", n.name, a, err)
	}
	twin.stop()
	for _, n := range p.nodes {
		eventually(t, 3*time.Minute, n.name+" sees that it is over", func() error {
			if a, err := n.twice(); err != nil || len(a) > 0 {
				return fmt.Errorf("%v %v", a, err)
			}
			return nil
		})
	}

	// What it signed in more than an epoch is forgotten.
	victim.stop()
	store, old := filepath.Join(victim.dir, "provost"), filepath.Join(p.dir, "old")
	copyDir(t, store, old)
	victim.start()
	comesBack(t, victim)
	p.slots(5)
	victim.signal(syscall.SIGKILL)
	victim.wait(20 * time.Second)
	if err := os.RemoveAll(store); err != nil {
		t.Fatal(err)
	}
	copyDir(t, old, store)
	from = p.mustAccount()
	victim.start()
	comesBack(t, victim)
	p.slots(4)
	eventually(t, 60*time.Second, "the node with the old store signs", func() error {
		rows, err := p.nodes[1].duties()
		if err == nil && !slices.ContainsFunc(rows, func(d dutyRow) bool { return d.Slot > currentSlot(from) && slices.Contains(d.Partials, 1) }) {
			err = fmt.Errorf("no partial signature of its share since slot %d", currentSlot(from))
		}
		return err
	})
	st = p.nothingSlashable()
	t.Logf("node0 with an old store for %d slots: %d votes and %d blocks included, %d slashable", st.Slots-from.Slots,
		st.Duties.Attester.Included-from.Duties.Attester.Included, st.Duties.Proposer.Included-from.Duties.Proposer.Included, st.SlashableTotal)

	for _, n := range p.nodes {
		if a, err := n.twice(); err != nil || len(a) > 0 {
			t.Errorf("%s: two restarts are a second copy: %v %v", n.name, a, err)
		}
	}
	row, err := p.nodes[1].clusterRow()
	if want := 2*row.Threshold - row.Nodes; err != nil || row.Nodes != 4 || row.Threshold != 3 || row.Twins != want {
		t.Errorf("the cluster's row says that it takes %d such nodes, want %d of %+v (%v)", row.Twins, want, row, err)
	}
}

// twice are the open findings that a node runs more than once.
func (n *node) twice() ([]alertRow, error) {
	alerts, err := n.alerts()
	return slices.DeleteFunc(alerts, func(a alertRow) bool { return a.Code != "dv.key-in-use" }), err
}

// fact is a finding's fact, "" when it lacks it.
func (a alertRow) fact(name string) string {
	for _, f := range a.Facts {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}
