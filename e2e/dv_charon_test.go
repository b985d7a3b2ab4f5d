package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
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
	theirs.runCharon(charon, "--simnet-validator-mock", "--simnet-validator-keys-dir", filepath.Join(theirs.dir, "validator_keys"))
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

// runCharon runs Charon on the node's directory and gives its process and what is closed at its end.
// Charon has no flag for addresses of peers: ours dial it. Everything stays on loopback.
func (n *node) runCharon(charon string, flags ...string) (*exec.Cmd, chan struct{}) {
	n.p.t.Helper()
	c := exec.Command(charon, append([]string{"run", "--lock-file", filepath.Join(n.dir, "cluster-lock.json"), "--private-key-file", filepath.Join(n.dir, "charon-enr-private-key"),
		"--p2p-tcp-address", n.listen, "--p2p-relays", "", "--beacon-node-endpoints", "http://" + n.p.chain,
		"--validator-api-address", fmt.Sprintf("127.0.0.1:%d", freePort(n.p.t)), "--monitoring-address", fmt.Sprintf("127.0.0.1:%d", freePort(n.p.t))}, flags...)...)
	ended := n.p.background(c, "charon.log")
	n.p.t.Cleanup(func() {
		c.Process.Kill()
		<-ended
		if n.p.t.Failed() {
			n.p.t.Logf("charon: %s", read(n.p.t, filepath.Join(n.p.dir, "charon.log")))
		}
	})
	return c, ended
}

// Of the two programs only one runs on a directory, whichever came first.
func TestOneProgramOnADirectoryWithCharon(t *testing.T) {
	charon := os.Getenv("CHARON_BIN")
	if charon == "" {
		t.Skip("needs a Charon binary: set CHARON_BIN to one")
	}
	t.Parallel()
	p := newCluster(t, 4, 1)
	p.startChain("--slot-duration", "6s", "--slots-per-epoch", "4", "--genesis-in", "20s")
	n := p.nodes[0]
	c, ended := n.runCharon(charon, "--private-key-file-lock")
	eventually(t, 30*time.Second, "Charon holds the key", func() error {
		_, err := os.Stat(filepath.Join(n.dir, "charon-enr-private-key.lock"))
		return err
	})
	if code, said := n.refused(); code != 3 || !strings.Contains(said, `the node key is in use by \"charon run\"`) || !strings.Contains(said, "stop it first") {
		t.Errorf("beside Charon: exit %d: %s", code, said)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("Charon had not ended after 30s")
	}

	eventually(t, 30*time.Second, "the key is free", func() error {
		st, err := os.Stat(filepath.Join(n.dir, "charon-enr-private-key.lock"))
		if err == nil && time.Since(st.ModTime()) < 6*time.Second {
			return fmt.Errorf("its lock was refreshed %s ago", time.Since(st.ModTime()))
		}
		return nil
	})
	n.start()
	eventually(t, 30*time.Second, "our node holds the key", func() error {
		_, err := n.clusterRow()
		return err
	})
	_, ended = n.runCharon(charon, "--private-key-file-lock")
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("Charon runs beside our node")
	}
	said := read(t, filepath.Join(p.dir, "charon.log"))
	if !strings.Contains(said, "private key lock file is recently updated") || !strings.Contains(said, `"command": "provost up"`) {
		t.Errorf("Charon beside our node said: %s", said)
	}
	n.stop()
}

// A copy of Charon's directory that runs elsewhere is named by our nodes, with both places; Charon,
// which is told so in a field that it does not know, goes on as before.
func TestTwinOfCharon(t *testing.T) {
	charon := os.Getenv("CHARON_BIN")
	if charon == "" {
		t.Skip("needs a Charon binary: set CHARON_BIN to one")
	}
	t.Parallel()
	p := newCluster(t, 4, 2)
	p.startChain("--slot-duration", "6s", "--slots-per-epoch", "4", "--genesis-in", "20s")
	theirs := p.nodes[3]
	twin := p.copyOf(theirs, "twin")
	theirs.runCharon(charon, "--simnet-validator-mock", "--simnet-validator-keys-dir", filepath.Join(theirs.dir, "validator_keys"))
	for _, n := range p.nodes[:3] {
		n.start()
	}
	eventually(t, 90*time.Second, "Charon is a peer of ours", func() error {
		row, err := p.nodes[0].clusterRow()
		if err == nil && (row.PeersUp == nil || *row.PeersUp != 4) {
			err = fmt.Errorf("%+v", row)
		}
		return err
	})
	log := filepath.Join(p.dir, "charon.log")
	twin.start()
	for _, n := range []*node{p.nodes[0], p.nodes[1], p.nodes[2], twin} {
		eventually(t, 2*time.Minute, n.name+" names the node that runs twice", func() error {
			alerts, err := n.twice()
			if err == nil && (len(alerts) != 1 || !strings.HasPrefix(alerts[0].Title, "node3 runs twice: ")) {
				err = fmt.Errorf("%v", alerts)
			}
			return err
		})
	}
	before := read(t, log)
	time.Sleep(70 * time.Second) // Charon asks every minute
	after := strings.TrimPrefix(read(t, log), before)
	for line := range strings.Lines(after) {
		if strings.Contains(strings.ToLower(line), "peerinfo") && (strings.Contains(line, "WARN") || strings.Contains(line, "ERRO")) {
			t.Errorf("Charon says: %s", line)
		}
	}
	if !strings.Contains(after, "slot") {
		t.Errorf("Charon fell silent: %s", after)
	}
	for _, n := range p.nodes[:3] {
		if alerts, err := n.twice(); err != nil || len(alerts) != 1 {
			t.Errorf("%s, a minute later: %v %v", n.name, alerts, err)
		}
	}
	p.nothingSlashable()
}
