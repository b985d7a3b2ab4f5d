package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A cluster of three nodes of ours and one of Charon's, which is then needed for every
// signature: what the chain includes, both programs agreed on and signed.
func TestMixedWithCharon(t *testing.T) {
	charon := os.Getenv("CHARON_BIN")
	if charon == "" {
		t.Skip("needs a Charon binary: set CHARON_BIN to one")
	}
	t.Parallel()
	p := newCluster(t, 4, 4)
	p.startChain("--slot-duration", "6s", "--slots-per-epoch", "4", "--genesis-in", "20s")
	theirs := p.nodes[3]
	for _, n := range p.nodes[:3] {
		n.start()
	}
	// Charon has no flag for addresses of peers: ours dial it. Everything stays on loopback.
	c := exec.Command(charon, "run", "--lock-file", filepath.Join(theirs.dir, "cluster-lock.json"), "--private-key-file", filepath.Join(theirs.dir, "charon-enr-private-key"),
		"--p2p-tcp-address", theirs.listen, "--p2p-relays", "", "--beacon-node-endpoints", "http://"+p.chain,
		"--validator-api-address", fmt.Sprintf("127.0.0.1:%d", freePort(t)), "--monitoring-address", fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		"--simnet-validator-mock", "--simnet-validator-keys-dir", filepath.Join(theirs.dir, "validator_keys"))
	c.Env = p.env
	ended := p.background(c, "charon.log")
	t.Cleanup(func() {
		c.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("charon: %s", read(t, filepath.Join(p.dir, "charon.log")))
		}
	})
	eventually(t, 90*time.Second, "Charon is a peer of ours", func() error {
		row, err := p.nodes[0].clusterRow()
		if err == nil && (row.PeersUp == nil || *row.PeersUp != 4) {
			err = fmt.Errorf("%+v", row)
		}
		return err
	})
	p.slots(2)
	p.nodes[2].stop()
	from := p.mustAccount()
	p.slots(9)
	st := p.nothingSlashable()
	if got := st.Duties.Proposer.Included - from.Duties.Proposer.Included; got < 4 {
		t.Errorf("%d blocks in nine slots that need Charon's share, missed: %v", got, st.Misses)
	}
	if got := st.Duties.Attester.Included - from.Duties.Attester.Included; got < 4 {
		t.Errorf("%d attestations in nine slots that need Charon's share, missed: %v", got, st.Misses)
	}
	rows, err := p.nodes[0].duties()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(rows, func(d dutyRow) bool { return *from.Slot < d.Slot && slices.Contains(d.Partials, 4) }) {
		t.Errorf("no duty after slot %d has Charon's partial signature", *from.Slot)
	}
}
