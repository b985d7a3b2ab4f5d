package create

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/keystore"
)

// The derivation of EIP-2333, as the deposit tools make the keys that are split here. No key of a new
// cluster is derived: each is drawn by itself.

var groupOrder, _ = new(big.Int).SetString("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001", 16)

func hkdfModR(t *testing.T, ikm []byte) *big.Int {
	t.Helper()
	salt := []byte("BLS-SIG-KEYGEN-SALT-")
	for sk := new(big.Int); ; {
		sum := sha256.Sum256(salt)
		salt = sum[:]
		okm, err := hkdf.Key(sha256.New, append(append([]byte{}, ikm...), 0), salt, string([]byte{0, 48}), 48)
		if err != nil {
			t.Fatal(err)
		}
		if sk.Mod(sk.SetBytes(okm), groupOrder); sk.Sign() != 0 {
			return sk
		}
	}
}

func childKey(t *testing.T, parent *big.Int, index uint32) *big.Int {
	t.Helper()
	salt := binary.BigEndian.AppendUint32(nil, index)
	ikm := parent.FillBytes(make([]byte, 32))
	inverse := make([]byte, 32)
	for i := range ikm {
		inverse[i] = ^ikm[i]
	}
	var all []byte
	for _, in := range [][]byte{ikm, inverse} {
		chunks, err := hkdf.Key(sha256.New, in, salt, "", 255*32)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 255 {
			sum := sha256.Sum256(chunks[32*i : 32*i+32])
			all = append(all, sum[:]...)
		}
	}
	compressed := sha256.Sum256(all)
	return hkdfModR(t, compressed[:])
}

// TestSplitDerivedKeys checks the derivation with the vectors of EIP-2333, derives validator keys of
// EIP-2334 from their first seed, and splits them: the cluster's validators are those keys, in their
// order, and any threshold of shares gives the derived secret itself.
func TestSplitDerivedKeys(t *testing.T) {
	raw, err := os.ReadFile("../../../shared/fixtures/validator-client/eip2333/tree_kdf.json")
	if err != nil {
		t.Skipf("the vectors of EIP-2333 are missing (%v): put them beside the checkout as shared/fixtures/validator-client", err)
	}
	var vectors struct {
		Tests []struct {
			Seed   string   `json:"seed"`
			Master *big.Int `json:"master_SK"`
			Index  uint32   `json:"child_index"`
			Child  *big.Int `json:"child_SK"`
		} `json:"kdf_tests"`
	}
	if err := json.Unmarshal(raw, &vectors); err != nil || len(vectors.Tests) < 4 {
		t.Fatal(err)
	}
	for _, v := range vectors.Tests {
		seed, err := hex.DecodeString(v.Seed)
		if err != nil {
			t.Fatal(err)
		}
		master := hkdfModR(t, seed)
		if child := childKey(t, master, v.Index); master.Cmp(v.Master) != 0 || child.Cmp(v.Child) != 0 {
			t.Errorf("seed %.8s…: %v, %v", v.Seed, master, child)
		}
	}

	account := vectors.Tests[0].Master
	for _, i := range []uint32{12381, 3600} {
		account = childKey(t, account, i)
	}
	dir := filepath.Join(t.TempDir(), "old")
	var want []bls.SecretKey
	for i := range 3 {
		sk := childKey(t, childKey(t, childKey(t, account, uint32(i)), 0), 0)
		key, err := bls.SecretKeyFromBytes(sk.FillBytes(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, key)
		depositStyle(t, dir, i, "", sealOld(t, key, "pw of all", i), "pw of all")
	}
	res := mustRun(t, splitParams(t, dir))
	for v, key := range want {
		if pub, _ := key.PubKey(); res.Validators[v] != pub {
			t.Errorf("validator %d is %s, want %s", v, res.Validators[v], pub)
		}
		shares := privateShares(t, res.Dir, 4, v)
		for _, three := range [][3]int{{0, 1, 2}, {0, 1, 3}, {0, 2, 3}, {1, 2, 3}} {
			some := map[cluster.ShareIndex]bls.SecretKey{}
			for _, n := range three {
				some[cluster.PeerIndex(n).Share()] = shares[n]
			}
			if back, err := bls.RecoverSecret(some); err != nil || !back.Equal(key) {
				t.Errorf("validator %d from nodes %v: %v", v, three, err)
			}
		}
	}
}

// TestCharonTakesOurDefinition: what --definition-out writes makes a cluster of Charon's, and the other
// way round: what Charon made verifies here, and its definition makes a cluster of ours.
func TestCharonTakesOurDefinition(t *testing.T) {
	charon := needCharon(t)
	p := testParams(filepath.Join(t.TempDir(), "c"))
	p.DefinitionOut = filepath.Join(t.TempDir(), "def.out.json")
	p.Compounding, p.WithdrawalAddresses = true, []string{addressA, addressB, addressA}
	mustRun(t, p)
	theirs := filepath.Join(t.TempDir(), "theirs")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if raw, err := exec.CommandContext(ctx, charon, "create", "cluster", "--cluster-dir", theirs, "--definition-file", p.DefinitionOut, "--insecure-keys").CombinedOutput(); err != nil {
		t.Fatalf("charon create cluster: %v\n%s", err, raw)
	}
	if r := mustVerify(t, theirs); !r.OK() {
		t.Errorf("failed %v", failedIDs(r))
	}
	lock, err := lockAt(theirs, "node0")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.MarshalIndent(lock.Definition, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(t.TempDir(), "theirs.json")
	if err := os.WriteFile(back, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	res := mustRun(t, fromDefinition(filepath.Join(t.TempDir(), "d"), back))
	if ours, err := lockAt(res.Dir, "node0"); err != nil || ours.Definition.ConfigHash != lock.Definition.ConfigHash {
		t.Errorf("%v", err)
	}
}

// TestCharonCombinesEachPath hands a cluster of each path to a Charon binary, which checks its locks and
// gets the validator keys back from the shares.
func TestCharonCombinesEachPath(t *testing.T) {
	charon := needCharon(t)
	for name, change := range map[string]func(p *Params){
		"compounding": func(p *Params) { p.Compounding = true },
		"addresses":   func(p *Params) { p.WithdrawalAddresses = []string{addressA, addressB, addressA} },
		"v1.11.0":     func(p *Params) { p.LockVersion = "v1.11.0" },
		"definition":  func(p *Params) { *p = fromDefinition(p.Dir, definitionFile(t, nil)) },
		"signed definition": func(p *Params) {
			*p = fromDefinition(p.Dir, definitionFile(t, func(d *cluster.Definition) { signCreator(t, d, 560048) }))
		},
		"split": func(p *Params) {
			p.SplitExistingKeys, p.SplitKeysDir, p.NoSlashingHistory, p.NumValidators = true, oldKeys(t, 3, charonStyle), NoHistoryPhrase, 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := testParams(filepath.Join(t.TempDir(), "c"))
			change(&p)
			res := mustRun(t, p)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out := filepath.Join(t.TempDir(), "combined")
			if raw, err := exec.CommandContext(ctx, charon, "combine", "--cluster-dir", res.Dir, "--output-dir", out).CombinedOutput(); err != nil {
				t.Fatalf("charon combine: %v\n%s", err, raw)
			}
			for v, want := range res.Validators {
				raw, err := os.ReadFile(filepath.Join(out, keystore.FileName(v, keystore.Full)))
				if err != nil {
					t.Fatal(err)
				}
				ks, err := keystore.Parse(raw)
				if err != nil || ks.PubKey != want {
					t.Errorf("validator %d: %v", v, err)
				}
			}
		})
	}
}
