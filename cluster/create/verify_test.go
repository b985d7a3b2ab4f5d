package create

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
)

var update = flag.Bool("update", false, "write golden files and samples")

const fixtures = "../../../shared/fixtures/charon-clusters"

func needFixtures(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(fixtures); err != nil {
		t.Skipf("clusters made by Charon are missing (%v): put them beside the checkout as shared/fixtures/charon-clusters", err)
	}
}

func mustVerify(t testing.TB, path string) Report {
	t.Helper()
	r, err := Verify(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func failedIDs(r Report) []string {
	var ids []string
	for _, c := range r.Failures() {
		ids = append(ids, c.ID)
	}
	return ids
}

func TestVerifyClustersOfCharon(t *testing.T) {
	needFixtures(t)
	for dir, want := range map[string]struct {
		network                      string
		nodes, threshold, validators int
	}{
		"hoodi-n4-t3-v2":             {"hoodi", 4, 3, 2},
		"sepolia-n6-t5-v3":           {"sepolia", 6, 5, 3},
		"hoodi-n4-t3-v1-compounding": {"hoodi", 4, 3, 1},
	} {
		t.Run(dir, func(t *testing.T) {
			r := mustVerify(t, filepath.Join(fixtures, dir))
			for _, c := range r.Failures() {
				t.Errorf("%s: %s (%s %s)", c.ID, c.Problem, c.File, c.Field)
			}
			if !r.OK() || r.Scope != ScopeCluster || *r.Network != want.network || *r.Nodes != want.nodes || *r.Threshold != want.threshold || *r.Validators != want.validators {
				t.Errorf("report %+v", r)
			}
			for _, id := range []string{"definition.config_hash", "definition.definition_hash", "lock.hash", "lock.signature_aggregate", "lock.node_signature[2]",
				"operator[1].enr", "validator[0].shares", "validator[0].registration", "validator[0].recovery", "node1.keystore[0]", "node1.share[0]", "node1.enr_key", "node2.lock", "cluster.nodes"} {
				if !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.ID == id && c.Status == Passed }) {
					t.Errorf("%s didn't pass", id)
				}
			}
			assertUniqueIDs(t, r)
			for i := range want.nodes {
				nr := mustVerify(t, filepath.Join(fixtures, dir, nodeDirName(i)))
				if !nr.OK() || nr.Scope != ScopeNode {
					t.Errorf("node %d alone: failed %v", i, failedIDs(nr))
				}
			}
		})
	}
}

func assertUniqueIDs(t *testing.T, r Report) {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range r.Checks {
		if seen[c.ID] {
			t.Errorf("two checks have the id %s", c.ID)
		}
		seen[c.ID] = true
		if c.What == "" || c.Status == "" || (c.Status != Passed && c.Problem == "") || (c.Status == Failed && c.Remedy == "") {
			t.Errorf("incomplete check %+v", c)
		}
	}
	if len(r.Checks) != r.Passed+r.Failed+r.Skipped {
		t.Errorf("%d checks, %d passed, %d failed, %d skipped", len(r.Checks), r.Passed, r.Failed, r.Skipped)
	}
}

func TestVerifySignedLocks(t *testing.T) {
	needFixtures(t)
	for _, v := range []string{"v1.8.0", "v1.9.0", "v1.10.0", "v1.11.0"} {
		t.Run(v, func(t *testing.T) {
			r := mustVerify(t, filepath.Join(fixtures, "signed-locks", "cluster-lock-"+v+".json"))
			if !r.OK() || r.Scope != ScopeLock || r.Version != v {
				t.Errorf("failed %v, report %+v", failedIDs(r), r)
			}
			for _, id := range []string{"definition.creator_signature", "operator[3].config_signature", "operator[3].enr_signature"} {
				if !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.ID == id && c.Status == Passed }) {
					t.Errorf("%s didn't pass", id)
				}
			}
			assertUniqueIDs(t, r)
		})
	}
}

// The sample in testdata was written by this package with throw-away keys. It stays for ever.
func TestVerifyOwnSample(t *testing.T) {
	const dir = "testdata/v1.10.0"
	if *update {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			p := sampleParams(dir)
			if _, err := Run(t.Context(), p, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	steps := 0
	r, err := Verify(t.Context(), dir, Options{Progress: func(done, total int, _ string) {
		if steps++; done != steps || total != 4*2 {
			t.Errorf("step %d of %d after %d", done, total, steps-1)
		}
	}})
	if err != nil || !r.OK() || steps != 4*2 {
		t.Errorf("%v, failed %v after %d steps", err, failedIDs(r), steps)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "node0", LockFileName))
	if err != nil {
		t.Fatal(err)
	}
	var lock cluster.Lock
	if err := json.Unmarshal(raw, &lock); err != nil {
		t.Fatal(err)
	}
	if again, err := lock.Encode(); err != nil || !bytes.Equal(again, raw) {
		t.Errorf("the sample is written differently today (%v)", err)
	}
	if r.ShareIndex != nil {
		t.Errorf("a cluster holds all shares, found %d", *r.ShareIndex)
	}
	if n, err := Verify(t.Context(), filepath.Join(dir, "node2"), Options{}); err != nil || !n.OK() || n.ShareIndex == nil || *n.ShareIndex != 3 {
		t.Errorf("node2 holds share 3, found %v (%v, failed %v)", n.ShareIndex, err, failedIDs(n))
	}
}

func sampleParams(dir string) Params {
	p := Defaults()
	p.Name, p.Dir, p.Nodes, p.NumValidators = "sample", dir, 4, 2
	p.Network, p.InsecureKeys = "hoodi", true
	p.WithdrawalAddresses = []string{"0x000000000000000000000000000000000000dEaD"}
	p.FeeRecipientAddresses = []string{"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"}
	return p
}

// copyTree copies a cluster so that it can be damaged.
func copyTree(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "cluster")
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), raw, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestChangedFilesAreNamed changes files of one node of a cluster: the node or the file must be
// named, and no other.
func TestChangedFilesAreNamed(t *testing.T) {
	dir := copyTree(t, "testdata/v1.10.0")
	tests := []struct {
		file   string
		change func([]byte) []byte
		want   string
	}{
		{"node1/charon-enr-private-key", swap(3), "node1.enr_key"},
		{"node1/charon-enr-private-key", empty, "node1.enr_key"},
		{"node1/charon-enr-private-key", from(dir, "node2/charon-enr-private-key"), "node1.enr_key"},
		{"node2/cluster-lock.json", replace(`"gas_limit": 6`, `"gas_limit": 7`), "node2.lock"},
		{"node2/cluster-lock.json", replace(`"gas_limit": 6`, `"gas_limit": 7`), "node2.validator[0].registration"},
		{"node2/cluster-lock.json", replace(`{`, `[`), "node2.lock"},
		{"node0/cluster-lock.json", replace(`"threshold": 3`, `"threshold": 4`), "node0.lock"},
		{"node0/cluster-lock.json", replace(`"threshold": 3`, `"threshold": 4`), "node0.definition.config_hash"},
		{"node3/validator_keys/keystore-insecure-1.txt", swap(0), "node3.keystore[1]"},
		{"node3/validator_keys/keystore-insecure-1.txt", empty, "node3.keystore[1]"},
		{"node3/validator_keys/keystore-insecure-0.json", replace(`"c": 16`, `"c": 17`), "node3.keystore[0]"},
		{"node3/validator_keys/keystore-insecure-0.json", replace(`"c": 16`, `"c": 1600000000`), "node3.keystore[0]"},
		{"node3/validator_keys/keystore-insecure-0.json", replace(`aes-128-ctr`, `aes-128-cbc`), "node3.keystore[0]"},
		{"node3/validator_keys/keystore-insecure-0.json", replace(`"salt": "`, `"salt": "00`), "node3.keystore[0]"},
		{"node3/validator_keys/keystore-insecure-0.json", replace(`"version": 4`, `"version": 5`), "node3.keystore[0]"},
		{"node1/deposit-data-1eth.json", replace(`"amount": 1000000000`, `"amount": 2000000000`), "node1.deposit[1eth]"},
		{"node0/deposit-data.json", replace(`"fork_version": "1`, `"fork_version": "2`), "node0.deposit[32eth]"},
	}
	for _, tt := range tests {
		t.Run(tt.file+" "+tt.want, func(t *testing.T) {
			path := filepath.Join(dir, tt.file)
			old, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			bad := tt.change(old)
			if bytes.Equal(bad, old) {
				t.Fatal("nothing was changed")
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(path, old, 0o600)
			ids := failedIDs(mustVerify(t, dir))
			if !slices.Contains(ids, tt.want) {
				t.Errorf("failed %v, want %s", ids, tt.want)
			}
			if slices.ContainsFunc(ids, func(id string) bool { return !strings.HasPrefix(id, tt.want[:5]) }) {
				t.Errorf("failed %v: others than the node are accused", ids)
			}
		})
	}
}

func swap(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b = bytes.Clone(b)
		if b[at] == '1' {
			b[at] = '2'
		} else {
			b[at] = '1'
		}
		return b
	}
}

func empty([]byte) []byte { return nil }

func from(dir, file string) func([]byte) []byte {
	return func([]byte) []byte {
		raw, _ := os.ReadFile(filepath.Join(dir, file))
		return raw
	}
}

func replace(old, with string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(with), 1) }
}

func TestMissingAndMixedUp(t *testing.T) {
	const keys = "node1/validator_keys/"
	tests := []struct {
		name, want string
		do         func(dir string) error
	}{
		{"node missing", "cluster.nodes", func(d string) error { return os.RemoveAll(filepath.Join(d, "node3")) }},
		{"lock missing", "node0.lock", func(d string) error { return os.Remove(filepath.Join(d, "node0", LockFileName)) }},
		{"key missing", "node1.enr_key", func(d string) error { return os.Remove(filepath.Join(d, "node1", enr.KeyFileName)) }},
		{"keys missing", "node1.keystores", func(d string) error { return os.RemoveAll(filepath.Join(d, keys)) }},
		{"keystore missing", "node1.keystores", func(d string) error { return os.Remove(filepath.Join(d, keys+"keystore-insecure-0.json")) }},
		{"password missing", "node1.keystore[0]", func(d string) error { return os.Remove(filepath.Join(d, keys+"keystore-insecure-0.txt")) }},
		{"two for one", "node1.keystores", func(d string) error {
			raw, err := os.ReadFile(filepath.Join(d, keys+"keystore-insecure-0.json"))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(d, keys+"keystore-0.json"), raw, 0o600)
		}},
		{"deposit missing", "node2.deposit[1eth]", func(d string) error { return os.Remove(filepath.Join(d, "node2/deposit-data-1eth.json")) }},
		{"foreign deposit", "node2.deposit.stray[deposit-data-2eth.json]", func(d string) error {
			return os.WriteFile(filepath.Join(d, "node2/deposit-data-2eth.json"), []byte("[]"), 0o600)
		}},
		{"key directories swapped", "node1.share[1]", func(d string) error {
			a, b, tmp := filepath.Join(d, "node1/validator_keys"), filepath.Join(d, "node2/validator_keys"), filepath.Join(d, "tmp")
			return errors.Join(os.Rename(a, tmp), os.Rename(b, a), os.Rename(tmp, b))
		}},
		{"node directories swapped", "node1.enr_key", func(d string) error {
			a, b, tmp := filepath.Join(d, "node1"), filepath.Join(d, "node2"), filepath.Join(d, "tmp")
			return errors.Join(os.Rename(a, tmp), os.Rename(b, a), os.Rename(tmp, b))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := copyTree(t, "testdata/v1.10.0")
			if err := tt.do(dir); err != nil {
				t.Fatal(err)
			}
			r := mustVerify(t, dir)
			if !slices.Contains(failedIDs(r), tt.want) {
				t.Errorf("failed %v, want %s", failedIDs(r), tt.want)
			}
			assertUniqueIDs(t, r)
		})
	}
}

func TestLooseModesAreFindings(t *testing.T) {
	dir := copyTree(t, "testdata/v1.10.0")
	if r := mustVerify(t, dir); slices.ContainsFunc(r.Findings, func(f Finding) bool { return strings.Contains(f.ID, "modes") }) {
		t.Errorf("findings %v", r.Findings)
	}
	loose := filepath.Join(dir, "node2", enr.KeyFileName)
	if err := errors.Join(os.Chmod(loose, 0o640), os.Chmod(filepath.Join(dir, "node3/validator_keys/keystore-insecure-0.txt"), 0o604), os.Chmod(filepath.Join(dir, "node3/validator_keys/keystore-insecure-1.json"), 0o644)); err != nil {
		t.Fatal(err)
	}
	r := mustVerify(t, dir)
	if !r.OK() {
		t.Errorf("modes made checks fail: %v", failedIDs(r))
	}
	for id, remedy := range map[string]string{"node2.modes.enr_key": "chmod 0600 " + loose, "node3.modes.keystores": "chmod 0400 " + filepath.Join(dir, "node3/validator_keys") + "/keystore-*"} {
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == id && f.Remedy == remedy }) {
			t.Errorf("no finding %s with %q in %v", id, remedy, r.Findings)
		}
	}
}

func TestVerifyNothing(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir(), "/dev/null"} {
		if _, err := Verify(t.Context(), path, Options{}); err == nil || KindOf(err) == "" || len(strings.Split(err.Error(), "\n")) != 1 {
			t.Errorf("%s: %v", path, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(cancelled, "testdata/v1.10.0", Options{}); KindOf(err) != KindCancelled {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzDeposits(f *testing.F) {
	raw, err := os.ReadFile("testdata/v1.10.0/node0/deposit-data-1eth.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`[{"amount":1}]`))
	lockRaw, err := os.ReadFile("testdata/v1.10.0/node0/" + LockFileName)
	if err != nil {
		f.Fatal(err)
	}
	lock := new(cluster.Lock)
	if err := json.Unmarshal(lockRaw, lock); err != nil {
		f.Fatal(err)
	}
	want, err := parseDeposits(raw)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		v := &verifier{workers: 1}
		s := &sheet{}
		if err := v.checkDepositFile(t.Context(), s, raw, lock, cluster.Ether, nil); err != nil {
			t.Fatal(err)
		}
		ok := len(s.checks) > 0
		for _, c := range s.checks {
			ok = ok && c.Status == Passed
		}
		if !ok {
			return
		}
		// What passes says the same as the honest file, up to order, hex case and the tool's version.
		got, err := parseDeposits(raw)
		if err != nil || len(got) != len(want) {
			t.Fatalf("passed: %s", raw)
		}
		for _, g := range got {
			if !slices.ContainsFunc(want, func(w depositEntry) bool {
				return strings.EqualFold(w.Signature, strings.TrimPrefix(g.Signature, "0x")) && w.Amount == g.Amount
			}) {
				t.Fatalf("passed: %+v", g)
			}
		}
	})
}

// FuzzVerifyLock holds whole foreign lock files against all checks.
func FuzzVerifyLock(f *testing.F) {
	raw, err := os.ReadFile("testdata/v1.10.0/node0/" + LockFileName)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	paths, err := filepath.Glob(filepath.Join(lockSamples, "*", "*.json"))
	if err != nil || len(paths) == 0 {
		f.Fatal(err, paths)
	}
	for _, p := range paths {
		f.Add(mustRead(f, p))
	}
	f.Add([]byte(`{"cluster_definition":{"version":"v1.11.0","operators":[{},{}],"threshold":2},"distributed_validators":[{"public_shares":[]}],"node_signatures":["0x"]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		lock := new(cluster.Lock)
		if json.Unmarshal(raw, lock) != nil || len(lock.Validators) > 16 {
			return
		}
		if _, err := checkLock(t.Context(), &sheet{}, lock, 1); err != nil {
			t.Fatal(err)
		}
	})
}
