package create

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
)

func TestShow(t *testing.T) {
	s, err := Show(ownSample)
	if err != nil {
		t.Fatal(err)
	}
	if s.Kind != "lock" || s.Name != "sample" || *s.Network != "hoodi" || *s.ChainID != 560048 || len(s.Nodes) != 4 || s.Threshold != 3 || s.MayBeDown != 1 ||
		s.NumValidators != 2 || len(s.Validators) != 2 || s.LockHash == nil || !s.Aggregate || len(s.Notes) != 0 || !strings.HasSuffix(s.Path, "v1.10.0/node0/"+LockFileName) {
		t.Errorf("%+v", s)
	}
	for i, n := range s.Nodes {
		if n.PeerID == nil || !strings.HasPrefix(*n.PeerID, "16Uiu2") || int(n.Node) != i || int(n.ShareIndex) != i+1 || !n.LockSigned || n.Operator.Signed {
			t.Errorf("node %d: %+v", i, n)
		}
	}
	v := s.Validators[1]
	if v.PubKey == nil || len(v.PublicShares) != 4 || len(v.DepositGwei) != 2 || v.DepositGwei[1] != 32*cluster.Ether || !strings.HasPrefix(v.FeeRecipient, "0xfB6916") || v.GasLimit == nil || *v.GasLimit != 60_000_000 || v.RegisteredUnix == nil {
		t.Errorf("%+v", v)
	}
	lockFile, err := Show(filepath.Join(ownSample, "node0", LockFileName))
	if err != nil || !reflect.DeepEqual(lockFile, s) {
		t.Errorf("the lock alone says something else (%v): %+v", err, lockFile)
	}
	// A node directory, and an archive.
	if n, err := Show(filepath.Join(ownSample, "node3")); err != nil || *n.LockHash != *s.LockHash {
		t.Errorf("a node: %v", err)
	}
	zip := filepath.Join(t.TempDir(), "c.tar.gz")
	if err := os.WriteFile(zip, packTar(t, loadTree(t, ownSample)), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := Show(zip); err != nil || *n.LockHash != *s.LockHash || n.Path != zip {
		t.Errorf("an archive: %v", err)
	}
}

// What is shown comes from locks alone: without a single secret in the directory it is the same.
func TestShowReadsNoSecret(t *testing.T) {
	dir := copyTree(t, ownSample)
	for file := range loadTree(t, dir) {
		if filepath.Base(file) != LockFileName {
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	want, err := Show(ownSample)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Show(dir)
	if err != nil {
		t.Fatal(err)
	}
	got.Path = want.Path
	if !reflect.DeepEqual(got, want) {
		t.Errorf("without the secrets %+v is shown", got)
	}
}

func TestShowEveryVersion(t *testing.T) {
	for _, pattern := range []string{filepath.Join(lockSamples, "*", "*.json"), filepath.Join(definitionSamples, "*.json")} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatal(err)
		}
		for _, p := range paths {
			s, err := Show(p)
			if err != nil {
				t.Errorf("%s: %v", p, err)
				continue
			}
			definition := strings.Contains(pattern, "definitions")
			if (s.Kind == "definition") != definition || (s.LockHash == nil) != definition || len(s.Nodes) != 4 || len(s.Validators) != s.NumValidators || s.Network == nil {
				t.Errorf("%s: %+v", p, s)
			}
			if s.Creator.Signed && (s.Creator.Address == "" || !s.Nodes[0].Operator.Signed || !s.Nodes[0].RecordSigned) {
				t.Errorf("%s: %+v", p, s)
			}
			raw, err := json.Marshal(s)
			if err != nil || strings.Contains(string(raw), `:null,"public_shares":null`) {
				t.Errorf("%s: %v", p, err)
			}
		}
	}
}

func TestShowDamaged(t *testing.T) {
	dir := copyTree(t, ownSample)
	path := filepath.Join(dir, "node1", LockFileName)
	raw := mustRead(t, path)
	if err := os.WriteFile(path, []byte(strings.Replace(string(raw), `"threshold": 3`, `"threshold": 4`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node2", LockFileName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Show(dir)
	if err != nil || s.Threshold != 3 || len(s.Notes) != 2 || !strings.Contains(s.Notes[0], "node1") || !strings.Contains(s.Notes[1], "node2") {
		t.Errorf("%v %q", err, s.Notes)
	}
	for _, bad := range []string{filepath.Join(dir, "node2"), filepath.Join(dir, "node2", LockFileName), t.TempDir(), filepath.Join(dir, "none")} {
		if _, err := Show(bad); err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "show ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestNodeIdentity(t *testing.T) {
	for n := range 4 {
		file := filepath.Join(ownSample, nodeDirName(n), enr.KeyFileName)
		id, finding, err := NodeIdentity(file)
		if err != nil || finding != nil && finding.Remedy == "" {
			t.Fatal(err)
		}
		lock, _, err := readLock(diskSource{ownSample}, "node0/"+LockFileName)
		if err != nil {
			t.Fatal(err)
		}
		if id.ENR != lock.Definition.Operators[n].ENR {
			t.Errorf("node %d: %s, the lock says %s", n, id.ENR, lock.Definition.Operators[n].ENR)
		}
		again, err := DecodeRecord(id.ENR)
		if err != nil || again.PeerID != id.PeerID || again.File != "" {
			t.Errorf("%v %+v", err, again)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, enr.KeyFileName)
	secret := strings.Repeat("5a", 32)
	if err := os.WriteFile(file, []byte(secret), 0o644); err != nil {
		t.Fatal(err)
	}
	id, finding, err := NodeIdentity(file)
	if err != nil || finding == nil || !strings.HasPrefix(finding.Remedy, "chmod 0600 ") {
		t.Errorf("%v %+v", err, id)
	}
	if err := os.WriteFile(file, []byte(secret+"5a"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{file, dir, filepath.Join(dir, "none")} {
		if _, _, err := NodeIdentity(bad); KindOf(err) != KindUsage || strings.Contains(err.Error(), secret[:8]) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "enr:", "enr:-x", id.ENR[:len(id.ENR)-2]} {
		if _, err := DecodeRecord(bad); KindOf(err) != KindUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The example record of EIP-778 (CC0) has an address and a port.
func TestDecodeRecord(t *testing.T) {
	id, err := DecodeRecord("enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZntXNFrdvJjX04jRzjzCBOonrkTfj499SZuOh8R33Ls8RRcy5wBgmlkgnY0gmlwhH8AAAGJc2VjcDI1NmsxoQPKY0yuDUmstAHYpMa2_oxVtw0RW_QAdpzBQA8yWM0xOIN1ZHCCdl8")
	if err != nil {
		t.Fatal(err)
	}
	want := []cluster.IdentityPair{{Key: "id", Value: "v4"}, {Key: "ip", Value: "127.0.0.1"}, {Key: "secp256k1", Value: "0x03ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd3138"}, {Key: "udp", Value: "30303"}}
	if id.Seq != 1 || !reflect.DeepEqual(id.Pairs, want) || id.NodeID != "0xa448f24c6d18e575453db13171562b71999873db5b286df957af199ec94617f7" {
		t.Errorf("%+v", id)
	}
}
