package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A node moves from one directory to another and signs on; its backup, which is older than what it
// signed, waits two epochs; its old place refuses; and whoever leaves the cluster gets keys with the
// history of all of it. Nothing slashable comes of any of it.
func TestMovedAndRestoredNodes(t *testing.T) {
	t.Parallel()
	const perEpoch = 4
	p := newCluster(t, 4, 8)
	p.startChain("--slot-duration", "2s", "--slots-per-epoch", fmt.Sprint(perEpoch), "--genesis-in", "8s")
	for _, n := range p.nodes {
		n.start()
	}
	victim := p.nodes[0]
	secret, backup, sealed := filepath.Join(p.dir, "passphrase"), filepath.Join(p.dir, "backup.age"), filepath.Join(p.dir, "node0.age")
	if err := os.WriteFile(secret, []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.signing(60 * time.Second)
	p.signs(p.nodes[1], 1, currentSlot(p.mustAccount()))

	// While it runs it can be copied, and not moved.
	if r := p.run("node", "export", victim.dir, "--out", sealed, "--passphrase-file", secret); r.code != 3 || !strings.Contains(r.err, "--backup") {
		t.Errorf("export of a running node: exit %d: %s", r.code, r.err)
	}
	p.must("node", "export", victim.dir, "--out", backup, "--backup", "--passphrase-file", secret)
	p.slots(perEpoch + 2) // which the backup doesn't know

	victim.stop()
	p.must("node", "export", victim.dir, "--out", sealed, "--passphrase-file", secret)
	if code, said := victim.refused(); code != 3 || !strings.Contains(said, "this node was exported at") || !strings.Contains(said, "run it where it was imported, or import "+sealed) {
		t.Errorf("the old place: exit %d: %s", code, said)
	}
	if r := p.run("combine", "--cluster-dir", p.cluster, "--output-dir", filepath.Join(p.dir, "no")); r.code != 3 {
		t.Errorf("combine while nodes run: exit %d: %s", r.code, r.err)
	}
	moved := *victim
	moved.name, moved.dir = "moved", filepath.Join(p.dir, "moved")
	p.must("node", "import", sealed, "--data-dir", moved.dir, "--passphrase-file", secret)
	if exists(filepath.Join(moved.dir, "provost/fence.json")) {
		t.Error("a node that was just moved would wait")
	}
	from := currentSlot(p.mustAccount())
	moved.start()
	p.signs(p.nodes[1], 1, from)
	p.slots(2)

	// It is lost, and its backup is put in its place.
	moved.signal(syscall.SIGKILL)
	moved.wait(20 * time.Second)
	restored := *victim
	restored.name, restored.dir = "restored", filepath.Join(p.dir, "restored")
	if out := p.must("node", "import", backup, "--data-dir", restored.dir, "--passphrase-file", secret); !strings.Contains(out, "until two epochs have begun") {
		t.Errorf("import of a backup says %s", out)
	}
	p.slots(1)
	begin := currentSlot(p.mustAccount())
	restored.start()
	p.signs(p.nodes[1], 1, begin)
	rows, err := p.nodes[1].duties()
	if err != nil {
		t.Fatal(err)
	}
	first := (begin/perEpoch + 2) * perEpoch
	for _, d := range rows {
		if d.Slot > begin && d.Slot < first && slices.Contains(d.Partials, 1) && (d.Type == "attester" || d.Type == "proposer") {
			t.Errorf("the restored node signed a %s duty of slot %d; it began in slot %d and may sign from slot %d on", d.Type, d.Slot, begin, first)
		}
	}
	if exists(filepath.Join(restored.dir, "provost/fence.json")) {
		t.Error("the note of the restored copy is still there")
	}
	st := p.nothingSlashable()
	t.Logf("moved in slot %d, restored in slot %d: %d votes and %d blocks included, %d slashable", from, begin, st.Duties.Attester.Included, st.Duties.Proposer.Included, st.SlashableTotal)

	// All leave.
	dirs := []string{restored.dir}
	restored.stop()
	for _, n := range p.nodes[1:] {
		n.stop()
		dirs = append(dirs, n.dir)
	}
	if r := p.run("combine", "--cluster-dir", p.cluster, "--output-dir", filepath.Join(p.dir, "no")); r.code != 3 || !strings.Contains(r.err, "was exported at") {
		t.Errorf("combine with the old place: exit %d: %s", r.code, r.err)
	}
	keys := filepath.Join(p.dir, "keys")
	p.must(append(append([]string{"combine"}, dirs...), "--output-dir", keys)...)
	var history struct {
		Data []struct {
			Votes []struct {
				Target string `json:"target_epoch"`
			} `json:"signed_attestations"`
		}
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(keys, "slashing-protection.json"))), &history); err != nil {
		t.Fatal(err)
	}
	for _, d := range history.Data {
		if len(d.Votes) != 1 || d.Votes[0].Target == "0" {
			t.Errorf("the history has %+v", d)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(keys, "keystore-*.json")); len(names) != 8 || len(history.Data) != 8 {
		t.Errorf("%d keys and the history of %d", len(names), len(history.Data))
	}
}
