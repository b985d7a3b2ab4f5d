package create

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/keystore"
)

// Tests against a Charon binary, which CHARON_BIN names. What they show: what one program writes the
// other takes.

// charonDoes runs a Charon command that ends by itself.
func charonDoes(t *testing.T, charon string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, charon, args...)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("charon %s: %v\n%s", args[0], err, out)
	}
}

// TestCharonTakesOurClusters makes clusters in both versions that are written. Every node of them is
// loaded by charon run, and charon combine makes the validator keys of any three of the four
// directories.
func TestCharonTakesOurClusters(t *testing.T) {
	charon := needCharon(t)
	for _, version := range []cluster.FormatVersion{cluster.V1_10, cluster.V1_11} {
		t.Run(string(version), func(t *testing.T) {
			p := testParams(filepath.Join(t.TempDir(), "c"))
			p.LockVersion, p.NumValidators, p.DepositAmounts = string(version), 2, []uint64{8, 24}
			p.WithdrawalAddresses = []string{"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", burnAddress}
			res, err := Run(t.Context(), p, nil)
			if err != nil {
				t.Fatal(err)
			}
			lock, _, err := readLock(diskSource{res.Dir}, "node0/"+LockFileName)
			if err != nil || lock.Definition.Version != version {
				t.Fatalf("%v, version %s", err, lock.Definition.Version)
			}
			for n := range 4 {
				node := filepath.Join(res.Dir, nodeDirName(n))
				charonLoads(t, charon, filepath.Join(node, LockFileName), filepath.Join(node, enr.KeyFileName))
			}
			for missing := range 4 {
				three := copyTree(t, res.Dir)
				if err := os.RemoveAll(filepath.Join(three, nodeDirName(missing))); err != nil {
					t.Fatal(err)
				}
				out := filepath.Join(t.TempDir(), "combined")
				charonDoes(t, charon, "combine", "--cluster-dir", three, "--output-dir", out)
				var got []cluster.PubKey
				for v := range res.Validators {
					name := filepath.Join(out, keystore.FileName(v, keystore.Full))
					ks, err := keystore.Parse(mustRead(t, name))
					if err != nil {
						t.Fatal(err)
					}
					password, err := keystore.ParsePassword(mustRead(t, keystore.PasswordFileName(name)))
					if err != nil {
						t.Fatal(err)
					}
					key, err := ks.Decrypt(t.Context(), password) // it holds the key against the file's
					if err != nil {
						t.Fatal(err)
					}
					key.Wipe()
					got = append(got, ks.PubKey)
				}
				if !slices.Equal(got, res.Validators) {
					t.Errorf("without node %d charon combined %v, the validators are %v", missing, got, res.Validators)
				}
			}
		})
	}
}

// TestWeTakeCharonsClusters verifies and shows what charon create cluster makes.
func TestWeTakeCharonsClusters(t *testing.T) {
	charon := needCharon(t)
	const fee = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	base := []string{"--name", "theirs", "--withdrawal-addresses", burnAddress, "--fee-recipient-addresses", fee, "--insecure-keys"}
	for name, tt := range map[string]struct {
		args                         []string
		nodes, threshold, validators int
		network                      string
		zipped, compounding          bool
	}{
		"plain":       {[]string{"--nodes", "4", "--num-validators", "3", "--network", "hoodi"}, 4, 3, 3, "hoodi", false, false},
		"five of six": {[]string{"--nodes", "6", "--threshold", "5", "--num-validators", "1", "--network", "sepolia"}, 6, 5, 1, "sepolia", false, false},
		"compounding": {[]string{"--nodes", "3", "--num-validators", "1", "--network", "chiado", "--compounding", "--deposit-amounts", "8,256"}, 3, 2, 1, "chiado", false, true},
		"zipped":      {[]string{"--nodes", "4", "--num-validators", "1", "--network", "hoodi", "--zipped", "--target-gas-limit", "36000000"}, 4, 3, 1, "hoodi", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "c")
			charonDoes(t, charon, slices.Concat([]string{"create", "cluster", "--cluster-dir", dir}, base, tt.args)...)
			path := dir
			if tt.zipped {
				path = filepath.Join(dir, "cluster.tar.gz")
			}
			r := mustVerify(t, path)
			if !r.OK() || r.Skipped != 0 || r.Scope != ScopeCluster || *r.Nodes != tt.nodes || *r.Threshold != tt.threshold || *r.Validators != tt.validators || *r.Network != tt.network {
				t.Errorf("failed %v, report %+v", failedIDs(r), r)
			}
			s, err := Show(path)
			if err != nil {
				t.Fatal(err)
			}
			if s.Name != "theirs" || len(s.Nodes) != tt.nodes || s.Threshold != tt.threshold || len(s.Validators) != tt.validators || s.Compounding != tt.compounding ||
				s.Validators[0].FeeRecipient != fee || s.LockHash == nil || *s.LockHash != *r.LockHash || len(s.UnknownKeys) != 0 {
				t.Errorf("%+v", s)
			}
			if tt.zipped {
				return
			}
			for n := range tt.nodes {
				file := filepath.Join(dir, nodeDirName(n), enr.KeyFileName)
				id, _, err := NodeIdentity(file)
				if err != nil || id.ENR != s.Nodes[n].ENR || id.PeerID != *s.Nodes[n].PeerID {
					t.Errorf("node %d: %v, %s", n, err, id.ENR)
				}
				out, err := exec.CommandContext(t.Context(), charon, "enr", "--data-dir", filepath.Dir(file)).Output()
				if err != nil || strings.TrimSpace(string(out)) != id.ENR {
					t.Errorf("charon enr says %s (%v)", out, err)
				}
				lock := mustRead(t, filepath.Join(dir, nodeDirName(n), LockFileName))
				if again := canonicalLock(lock); string(again) != string(lock) {
					t.Errorf("node %d: the lock is written differently here", n)
				}
			}
		})
	}
}

// TestCharonMakesClustersOfOurDefinitions hands definitions of ours in every version to
// charon create cluster, and verifies what comes out.
func TestCharonMakesClustersOfOurDefinitions(t *testing.T) {
	charon := needCharon(t)
	for _, version := range cluster.FormatVersions() {
		t.Run(string(version), func(t *testing.T) {
			d := lockOf(t, version, false).Definition
			for i := range d.Operators {
				d.Operators[i] = cluster.Operator{}
			}
			for i := range d.Validators { // in a definition Charon takes addresses with their checksums only
				d.Validators[i] = cluster.ValidatorAddresses{FeeRecipient: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", Withdrawal: "0x000000000000000000000000000000000000dEaD"}
			}
			var err error
			if d.ConfigHash, err = d.ComputeConfigHash(); err != nil {
				t.Fatal(err)
			}
			if d.DefinitionHash, err = d.ComputeDefinitionHash(); err != nil {
				t.Fatal(err)
			}
			raw, err := d.Encode()
			if err != nil {
				t.Fatal(err)
			}
			file, dir := filepath.Join(t.TempDir(), DefinitionFileName), filepath.Join(t.TempDir(), "c")
			if err := os.WriteFile(file, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			charonDoes(t, charon, "create", "cluster", "--definition-file", file, "--cluster-dir", dir, "--insecure-keys")
			r := mustVerify(t, dir)
			// Deposit files are made whatever the lock has room for.
			for _, id := range []string{"deposit[1eth][0].signature", "deposit[32eth][1].signature", "node3.deposit[32eth]"} {
				if statusOf(r, id) != Passed {
					t.Errorf("%s didn't pass", id)
				}
			}
			assertUniqueIDs(t, r)
			if !r.OK() || r.Version != string(version) {
				t.Errorf("failed %v, version %s", failedIDs(r), r.Version)
			}
			lock := mustRead(t, filepath.Join(dir, "node0", LockFileName))
			if again := canonicalLock(lock); string(again) != string(lock) {
				t.Error("the lock is written differently here")
			}
			if *update { // samples in testdata are written once and never changed
				writeSample(t, filepath.Join(lockSamples, "charon", "solo-"+string(version)+".json"), func() ([]byte, error) { return lock, nil })
			}
		})
	}
}

// TestWeTakeCharonsDefinition verifies and shows what charon create dkg makes of our records.
func TestWeTakeCharonsDefinition(t *testing.T) {
	charon := needCharon(t)
	own, err := Show(ownSample)
	if err != nil {
		t.Fatal(err)
	}
	var records []string
	for _, n := range own.Nodes {
		records = append(records, n.ENR)
	}
	dir := t.TempDir()
	const fee = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	charonDoes(t, charon, "create", "dkg", "--name", "theirs", "--operator-enrs", strings.Join(records, ","), "--withdrawal-addresses", fee, "--fee-recipient-addresses", fee,
		"--network", "hoodi", "--num-validators", "2", "--output-dir", dir)
	if r := mustVerify(t, dir); !r.OK() || r.Scope != ScopeDefinition || r.Skipped != 0 || *r.Nodes != 4 || *r.Validators != 2 {
		t.Errorf("failed %v, report %+v", failedIDs(r), r)
	}
	s, err := Show(dir)
	if err != nil || s.Kind != "definition" || len(s.Nodes) != 4 || *s.Nodes[3].PeerID != *own.Nodes[3].PeerID || s.Validators[1].Withdrawal != fee {
		t.Errorf("%v %+v", err, s)
	}
}
