package create

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/keystore"
)

// secrets are all keys of a practice cluster in testdata.
type secrets struct {
	shares  [][]bls.SecretKey // by validator and node
	nodes   []enr.Key
	creator enr.Key
	wallets []enr.Key // of the operators
}

// readSecrets opens every keystore of a cluster directory.
func readSecrets(t testing.TB, dir string) secrets {
	t.Helper()
	lock, _, err := readLock(diskSource{dir}, "node0/"+LockFileName)
	if err != nil {
		t.Fatal(err)
	}
	var s secrets
	s.shares = make([][]bls.SecretKey, len(lock.Validators))
	for n := range lock.Definition.Operators {
		node := filepath.Join(dir, nodeDirName(n))
		s.nodes = append(s.nodes, nodeKey(t, mustRead(t, filepath.Join(node, enr.KeyFileName))))
		for v := range lock.Validators {
			name := keystore.FileName(v, keystore.Insecure)
			ks, err := keystore.Parse(mustRead(t, filepath.Join(node, keysDirName, name)))
			if err != nil {
				t.Fatal(err)
			}
			password, err := keystore.ParsePassword(mustRead(t, filepath.Join(node, keysDirName, keystore.PasswordFileName(name))))
			if err != nil {
				t.Fatal(err)
			}
			key, err := ks.Decrypt(t.Context(), password)
			if err != nil {
				t.Fatal(err)
			}
			s.shares[v] = append(s.shares[v], key)
		}
		// Wallets as in the locks that Charon's test helper made: 32 equal bytes.
		s.wallets = append(s.wallets, nodeKey(t, []byte(strings.Repeat(fmt.Sprintf("%02x", n+2), 32))))
	}
	s.creator = nodeKey(t, []byte(strings.Repeat("0a", 32)))
	return s
}

func nodeKey(t testing.TB, file []byte) enr.Key {
	t.Helper()
	key, err := enr.ParseKeyFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func walletAddress(t testing.TB, key enr.Key) cluster.AddressText {
	t.Helper()
	var hash [32]byte
	sig, err := key.SignHash(hash)
	if err != nil {
		t.Fatal(err)
	}
	a, err := enr.RecoverAddress(hash, sig)
	if err != nil {
		t.Fatal(err)
	}
	return cluster.AddressText(a.Checksummed(enr.Keccak256))
}

// seal makes every hash and signature of a lock new. With wallets the creator and the operators sign
// the definition too.
func (s secrets) seal(t testing.TB, lock *cluster.Lock, wallets bool) {
	t.Helper()
	d := &lock.Definition
	network, ok := cluster.NetworkByFork(d.ForkVersion)
	if !ok {
		t.Fatal("unknown network")
	}
	if wallets {
		d.Creator.Address = walletAddress(t, s.creator)
		for i := range d.Operators {
			d.Operators[i].Address = walletAddress(t, s.wallets[i])
		}
	}
	var err error
	must := func(e error) {
		t.Helper()
		if e != nil {
			t.Fatal(e)
		}
	}
	d.ConfigHash, err = d.ComputeConfigHash()
	must(err)
	if wallets {
		d.Creator.ConfigSignature, err = s.creator.SignHash(enr.CreatorConfig.Digest(network.ChainID, d.ConfigHash.String()))
		must(err)
		for i := range d.Operators {
			o := &d.Operators[i]
			o.ConfigSignature, err = s.wallets[i].SignHash(enr.OperatorConfig.Digest(network.ChainID, d.ConfigHash.String()))
			must(err)
			o.ENRSignature, err = s.wallets[i].SignHash(enr.OperatorENR.Digest(network.ChainID, o.ENR))
			must(err)
		}
	}
	d.DefinitionHash, err = d.ComputeDefinitionHash()
	must(err)
	lock.LockHash, err = lock.ComputeHash()
	must(err)
	var sum bls.KeySum
	for _, shares := range s.shares {
		for _, share := range shares {
			must(sum.Add(share))
		}
	}
	lock.SignatureAggregate, err = sum.Sign(lock.LockHash[:])
	must(err)
	lock.NodeSignatures = nil
	if !d.Version.HasNodeSignatures() {
		return
	}
	for _, key := range s.nodes {
		sig, err := key.SignHash(lock.LockHash)
		must(err)
		lock.NodeSignatures = append(lock.NodeSignatures, sig)
	}
}

const ownSample = "testdata/v1.10.0"

// lockOf is the lock of the sample cluster as a version of the format has it, sealed anew.
func lockOf(t testing.TB, version cluster.FormatVersion, wallets bool) *cluster.Lock {
	t.Helper()
	lock, _, err := readLock(diskSource{ownSample}, "node0/"+LockFileName)
	if err != nil {
		t.Fatal(err)
	}
	lock.Definition.Version = version
	old := version == cluster.V1_5 || version == cluster.V1_6 || version == cluster.V1_7
	for v := range lock.Validators {
		dv := &lock.Validators[v]
		if old {
			dv.Deposits = dv.Deposits[len(dv.Deposits)-1:] // the one of 32 ETH
		}
		switch version {
		case cluster.V1_5:
			dv.Deposits, dv.Registration = nil, cluster.Registration{}
		case cluster.V1_6:
			dv.Registration = cluster.Registration{}
		}
	}
	readSecrets(t, ownSample).seal(t, lock, wallets)
	return lock
}

// charonLoads runs a Charon node on a lock until it says that it loaded the lock, or gives up.
func charonLoads(t *testing.T, charon, lockFile, keyFile string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, charon, "run", "--lock-file", lockFile, "--private-key-file", keyFile, "--simnet-beacon-mock", "--p2p-relays=",
		"--p2p-tcp-address=127.0.0.1:0", "--validator-api-address=127.0.0.1:0", "--monitoring-address=127.0.0.1:0", "--log-color=disable")
	cmd.Dir = t.TempDir()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	loaded, last := false, ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		if strings.Contains(last, "Lock file loaded") {
			loaded = true
			break
		}
	}
	cancel()
	_ = cmd.Wait() // it was killed
	if !loaded {
		t.Errorf("charon didn't load the lock: %s", last)
	}
}

func needCharon(t testing.TB) string {
	t.Helper()
	charon := os.Getenv("CHARON_BIN")
	if charon == "" {
		t.Skip("CHARON_BIN doesn't name a charon binary")
	}
	return charon
}

// TestCharonLoadsEveryVersion hands locks of ours in every version to a Charon node.
func TestCharonLoadsEveryVersion(t *testing.T) {
	charon := needCharon(t)
	keyFile, err := filepath.Abs(filepath.Join(ownSample, "node1", enr.KeyFileName))
	if err != nil {
		t.Fatal(err)
	}
	s := readSecrets(t, ownSample)
	for _, version := range cluster.FormatVersions() {
		for name, lock := range map[string]*cluster.Lock{"solo": lockOf(t, version, false), "wallets": lockOf(t, version, true), "no deposits": lockOf(t, version, true)} {
			t.Run(fmt.Sprintf("%s %s", version, name), func(t *testing.T) {
				if name == "no deposits" {
					for i := range lock.Validators {
						lock.Validators[i].Deposits = nil
					}
					s.seal(t, lock, true)
				}
				raw, err := lock.Encode()
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(t.TempDir(), LockFileName)
				if err := os.WriteFile(path, raw, 0o600); err != nil {
					t.Fatal(err)
				}
				if r := mustVerify(t, path); !r.OK() {
					t.Errorf("failed %v", failedIDs(r))
				}
				charonLoads(t, charon, path, keyFile)
			})
		}
	}
}

const (
	lockSamples       = "../testdata/locks"
	definitionSamples = "../testdata/definitions"
)

// TestSamplesOfEveryVersion verifies the samples that lie in cluster/testdata for ever. With -update
// it writes those of ours that are missing, and never changes one.
func TestSamplesOfEveryVersion(t *testing.T) {
	if *update {
		for _, version := range cluster.FormatVersions() {
			solo := version == cluster.V1_10 || version == cluster.V1_11
			lock := lockOf(t, version, !solo)
			writeSample(t, filepath.Join(lockSamples, "own", string(version)+".json"), lock.Encode)
			writeSample(t, filepath.Join(definitionSamples, "own-"+string(version)+".json"), lockOf(t, version, true).Definition.Encode)
		}
	}
	seen := map[string]bool{}
	paths, err := filepath.Glob(filepath.Join(lockSamples, "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		r := mustVerify(t, path)
		if !r.OK() {
			t.Errorf("%s: failed %v", path, failedIDs(r))
		}
		assertUniqueIDs(t, r)
		seen[r.Version] = true
		mustCheckWallets(t, path, r)
	}
	definitions, err := filepath.Glob(filepath.Join(definitionSamples, "*.json"))
	if err != nil || len(definitions) != len(cluster.FormatVersions()) {
		t.Errorf("%d definitions, %v", len(definitions), err)
	}
	for _, path := range definitions {
		r := mustVerify(t, path)
		if !r.OK() || r.Scope != ScopeDefinition || r.Skipped != 0 {
			t.Errorf("%s: failed %v, report %+v", path, failedIDs(r), r)
		}
		assertUniqueIDs(t, r)
		mustCheckWallets(t, path, r)
	}
	for _, v := range cluster.FormatVersions() {
		if !seen[string(v)] {
			t.Errorf("there is no sample of %s", v)
		}
	}
}

// mustCheckWallets holds that the typed signatures of creator and operators were checked where the
// file has them.
func mustCheckWallets(t *testing.T, path string, r Report) {
	t.Helper()
	s, err := Show(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Status("") // a cluster that one process made has none
	if s.Creator.Signed {
		want = Passed
	}
	for _, id := range []string{"definition.creator_signature", "operator[0].config_signature", "operator[3].config_signature", "operator[3].enr_signature"} {
		if got := statusOf(r, id); got != want {
			t.Errorf("%s: %s is %q, want %q", path, id, got, want)
		}
	}
}

func writeSample(t *testing.T, path string, encode func() ([]byte, error)) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	}
	raw, err := encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}
