package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What show says of a cluster is what its files say: the same for the directory, a node, the lock
// and the archive; each node's record is that of its key; and no secret is needed or told.
func TestShowAndRecords(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	dir, zipped, definition := filepath.Join(p.dir, "c"), filepath.Join(p.dir, "z"), filepath.Join(p.dir, "cluster-definition.json")
	args := []string{"--name=x", "--network=hoodi", "--nodes=4", "--num-validators=2", "--withdrawal-addresses", wallet, "--fee-recipient-addresses", wallet, "--insecure-keys"}
	p.must(append([]string{"create", "cluster", "--cluster-dir", dir, "--definition-out", definition, "--lock-version=v1.11.0"}, args...)...)
	p.must(append([]string{"create", "cluster", "--cluster-dir", zipped, "--zipped"}, args...)...)
	type summary struct {
		Schema, Kind, Name, Version, Network string
		Threshold                            int
		LockHash                             *string `json:"lock_hash"`
		Nodes                                []struct {
			ENR    string
			PeerID string `json:"peer_id"`
		}
		Validators []struct{ Pubkey *string }
	}
	show := func(path string) summary {
		t.Helper()
		var s summary
		if out := p.must("show", "cluster", path, "-o", "json"); json.Unmarshal([]byte(out), &s) != nil || s.Schema != "provost.cluster/1" {
			t.Fatalf("show %s: %s", path, out)
		}
		return s
	}
	s := show(dir)
	v, code := p.verifyCluster(dir)
	if code != 0 || s.Kind != "lock" || s.Version != "v1.11.0" || s.Network != "hoodi" || s.Threshold != 3 || len(s.Nodes) != 4 || len(s.Validators) != 2 || s.LockHash == nil || v.Facts["lock hash"] != *s.LockHash {
		t.Errorf("exit %d, %+v, %v", code, s, v.Facts)
	}
	for _, path := range []string{filepath.Join(dir, "node2"), filepath.Join(dir, "node3/cluster-lock.json")} {
		if other := show(path); other.LockHash == nil || *other.LockHash != *s.LockHash {
			t.Errorf("%s: %+v", path, other)
		}
	}
	archives, err := filepath.Glob(filepath.Join(zipped, "*.tar.gz"))
	if err != nil || len(archives) != 1 {
		archives, err = filepath.Glob(zipped + "*.tar.gz")
	}
	if err != nil || len(archives) != 1 {
		t.Fatalf("archives %q, %v", archives, err)
	}
	if _, code := p.verifyCluster(archives[0]); code != 0 || show(archives[0]).Version != "v1.10.0" {
		t.Errorf("%s: exit %d", archives[0], code)
	}
	if _, code := p.verifyCluster(definition); code != 0 || show(definition).Kind != "definition" || show(definition).LockHash != nil {
		t.Errorf("%s: exit %d", definition, code)
	}
	for n, node := range s.Nodes {
		home := filepath.Join(dir, fmt.Sprintf("node%d", n))
		if out := p.must("enr", "--data-dir", home); out != node.ENR+"\n" {
			t.Errorf("node %d: enr says %s", n, out)
		}
		if out := p.must("enr", node.ENR); !strings.Contains(out, node.PeerID) {
			t.Errorf("node %d: %s lacks %s", n, out, node.PeerID)
		}
		secret := read(t, filepath.Join(home, "charon-enr-private-key"))
		for _, out := range []string{p.must("enr", "--data-dir", home, "-v"), p.must("enr", "--data-dir", home, "-o", "json"), p.must("show", "cluster", home, "-o", "wide")} {
			if strings.Contains(out, secret) {
				t.Errorf("node %d: the private key is told", n)
			}
		}
	}
	// Without a single file that holds a secret the same is shown.
	for n := range 4 {
		home := filepath.Join(dir, fmt.Sprintf("node%d", n))
		if err := os.RemoveAll(filepath.Join(home, "validator_keys")); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(home, "charon-enr-private-key")); err != nil {
			t.Fatal(err)
		}
	}
	if again := show(dir); again.LockHash == nil || *again.LockHash != *s.LockHash {
		t.Errorf("%+v", again)
	}
	for _, bad := range [][]string{{"show", "cluster", filepath.Join(p.dir, "none")}, {"enr", "--data-dir", filepath.Join(dir, "node0")}, {"enr", "enr:x"}} {
		if r := p.run(bad...); r.code != 2 || r.out != "" || !strings.HasPrefix(r.err, "provost: ") {
			t.Errorf("%q: exit %d: %s%s", bad, r.code, r.out, r.err)
		}
	}
}
