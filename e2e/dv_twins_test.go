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
	twin.stop()

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

	row, err := p.nodes[1].clusterRow()
	if want := 2*row.Threshold - row.Nodes; err != nil || row.Nodes != 4 || row.Threshold != 3 || row.Twins != want {
		t.Errorf("the cluster's row says that it takes %d such nodes, want %d of %+v (%v)", row.Twins, want, row, err)
	}
}
