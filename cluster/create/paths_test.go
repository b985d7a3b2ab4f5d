package create

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/keystore"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// golden compares with testdata/NAME.golden, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join(goldenDir, strings.ReplaceAll(name, " ", "-")+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

// document is what a path of creation wrote, without what is drawn anew each time: the tree with its
// modes, the definition and one deposit file of the first node, with random values replaced.
func document(t *testing.T, dir string) string {
	t.Helper()
	out := tree(t, dir)
	lock, err := lockAt(dir, "node0")
	if err != nil {
		return out
	}
	raw, err := json.MarshalIndent(lock.Definition, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, r := range []struct{ re, to string }{
		{`enr:[A-Za-z0-9_-]+`, "enr:…"}, {`"uuid": "[0-9A-F-]{36}"`, `"uuid": "…"`}, {`"timestamp": "[^"]+"`, `"timestamp": "…"`},
		{`"0x[0-9a-f]{64}"`, `"0x…"`}, {`"0x[0-9a-f]{130}"`, `"0x…"`},
	} {
		text = regexp.MustCompile(r.re).ReplaceAllString(text, r.to)
	}
	v := lock.Validators[0]
	return out + text + fmt.Sprintf("\nregistration gas limit %d, at genesis %t\n", v.Registration.Message.GasLimit,
		time.Unix(int64(v.Registration.Message.TimestampUnix), 0).Before(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
}

func lockAt(dir, node string) (*cluster.Lock, error) {
	raw, err := os.ReadFile(filepath.Join(dir, node, LockFileName))
	if err != nil {
		return nil, err
	}
	lock := new(cluster.Lock)
	return lock, json.Unmarshal(raw, lock)
}

func mustRun(t *testing.T, p Params) Result {
	t.Helper()
	plan, err := Plan(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	total := 0
	res, err := Run(t.Context(), p, func(done, of int, what string) {
		if done != last+1 || done > of || what == "" || total != 0 && total != of {
			t.Errorf("step %d of %d %q after %d", done, of, what, last)
		}
		last, total = done, of
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != total {
		t.Errorf("%d of %d steps were told", last, total)
	}
	// The plan names what was written.
	planned := []string{"drwx------ ."}
	for _, f := range plan.Files {
		planned = append(planned, fmt.Sprintf("%s %s", f.Mode, f.Path))
	}
	slices.Sort(planned)
	written := strings.Split(strings.TrimSpace(tree(t, res.Dir)), "\n")
	written = slices.DeleteFunc(written, func(s string) bool { return strings.HasSuffix(s, ".out.json") })
	slices.Sort(written)
	if !slices.Equal(planned, written) {
		t.Errorf("planned %q\nwritten %q", planned, written)
	}
	if names := list(t, filepath.Dir(res.Dir)); slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, tempPrefix) }) {
		t.Errorf("beside the target: %q", names)
	}
	return res
}

// anyThreshold checks that any threshold of the written shares gives each validator's key.
func anyThreshold(t *testing.T, res Result) {
	t.Helper()
	for v, want := range res.Validators {
		shares := privateShares(t, res.Dir, res.Nodes, v)
		for mask := range 1 << len(shares) {
			some := map[cluster.ShareIndex]bls.SecretKey{}
			for i, s := range shares {
				if mask>>i&1 == 1 {
					some[cluster.PeerIndex(i).Share()] = s
				}
			}
			if len(some) < 2 {
				continue
			}
			key, err := bls.RecoverSecret(some)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := key.PubKey(); (got == want) != (len(some) >= res.Threshold) {
				t.Errorf("validator %d: %d shares recover it: %v", v, len(some), got == want)
			}
		}
	}
}

const (
	addressA = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	addressB = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
)

// TestGoldenPaths makes a cluster by each path and compares the tree and what it says with a golden
// file.
func TestGoldenPaths(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, p *Params)
	}{
		{"plain", func(*testing.T, *Params) {}},
		{"compounding", func(_ *testing.T, p *Params) {
			p.Compounding, p.TargetGasLimit, p.ConsensusProtocol = true, 36_000_000, "qbft"
		}},
		{"amounts", func(_ *testing.T, p *Params) { p.DepositAmounts, p.Network = []uint64{8, 16, 8}, "sepolia" }},
		{"addresses", func(_ *testing.T, p *Params) {
			p.WithdrawalAddresses, p.FeeRecipientAddresses, p.Network = []string{addressA, addressB}, []string{addressB, addressA}, "chiado"
		}},
		{"testnet", func(_ *testing.T, p *Params) {
			p.Network, p.TestnetName, p.TestnetForkVersion, p.TestnetChainID, p.TestnetGenesisTimestamp = "", "my-devnet", "0x10000038", 3151908, 1750000000
		}},
		{"v1.11.0", func(_ *testing.T, p *Params) { p.LockVersion = "v1.11.0" }},
		{"zipped", func(_ *testing.T, p *Params) { p.Zipped = true }},
		{"definition file", func(t *testing.T, p *Params) { *p = fromDefinition(p.Dir, definitionFile(t, nil)) }},
		{"split", func(t *testing.T, p *Params) {
			p.SplitExistingKeys, p.SplitKeysDir, p.NoSlashingHistory, p.NumValidators = true, oldKeys(t, 2, charonStyle), NoHistoryPhrase, 0
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := testParams(filepath.Join(t.TempDir(), "c"))
			p.NumValidators = 2
			p.WithdrawalAddresses, p.FeeRecipientAddresses = []string{addressA}, []string{addressB}
			tt.change(t, &p)
			res := mustRun(t, p)
			golden(t, "path "+tt.name, document(t, res.Dir))
			if p.Zipped {
				unpackHere(t, res.Dir)
			}
			if r := mustVerify(t, res.Dir); !r.OK() {
				t.Errorf("failed %v", failedIDs(r))
			}
			anyThreshold(t, res)
		})
	}
}

// unpackHere puts what is in the archive beside it.
func unpackHere(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, archiveName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%04o %s\n", h.Mode, h.Name)
		at := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.Mkdir(at, os.FileMode(h.Mode))
		} else if raw, rerr := io.ReadAll(tr); rerr == nil {
			err = os.WriteFile(at, raw, os.FileMode(h.Mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "path zipped archive", all.String())
}

func fromDefinition(dir, file string) Params {
	return Params{Dir: dir, DefinitionFile: file, InsecureKeys: true}
}

// definitionFile writes a definition that no operator has signed; change may spoil it before or after
// the hashes are made.
func definitionFile(t *testing.T, change func(*cluster.Definition)) string {
	t.Helper()
	d := cluster.Definition{Name: "from a file", Operators: make([]cluster.Operator, 4), UUID: "0194FDC2-FA2F-4CC0-81D3-FF12045B73C8", Version: cluster.V1_10,
		Timestamp: "2026-11-20T10:00:00Z", NumValidators: 2, Threshold: 3, DKGAlgorithm: "default", ForkVersion: cluster.ForkVersion{0x10, 0, 0x09, 0x10},
		DepositAmounts: []cluster.Gwei{16 * cluster.Ether, 16 * cluster.Ether, 1_500_000_000}, TargetGasLimit: 36_000_000,
		Validators: []cluster.ValidatorAddresses{{FeeRecipient: addressB, Withdrawal: addressA}, {FeeRecipient: addressA, Withdrawal: addressB}}}
	rehash(t, &d)
	if change != nil {
		change(&d)
	}
	raw, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cluster-definition.json")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func rehash(t *testing.T, d *cluster.Definition) {
	t.Helper()
	var err error
	if d.ConfigHash, err = d.ComputeConfigHash(); err == nil {
		d.DefinitionHash, err = d.ComputeDefinitionHash()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// signCreator signs a definition as its creator.
func signCreator(t *testing.T, d *cluster.Definition, chainID uint64) {
	t.Helper()
	key := secp256k1.PrivKeyFromBytes(slices.Repeat([]byte{7}, 32))
	sum := enr.Keccak256(key.PubKey().SerializeUncompressed()[1:])
	d.Creator.Address = cluster.AddressText(cluster.ETHAddress(sum[12:]).Checksummed(enr.Keccak256))
	rehash(t, d)
	digest := enr.CreatorConfig.Digest(chainID, d.ConfigHash.String())
	compact := ecdsa.SignCompact(key, digest[:], false)
	d.Creator.ConfigSignature = append(slices.Clone(compact[1:]), compact[0]-27)
	rehash(t, d)
}

// TestDefinitionKept: what a definition says is what the cluster is, its config hash and its creator's
// signature included.
func TestDefinitionKept(t *testing.T) {
	file := definitionFile(t, func(d *cluster.Definition) { signCreator(t, d, 560048) })
	out := filepath.Join(t.TempDir(), "def.out.json")
	p := fromDefinition(filepath.Join(t.TempDir(), "c"), file)
	p.DefinitionOut = out
	res := mustRun(t, p)
	lock, err := lockAt(res.Dir, "node3")
	if err != nil {
		t.Fatal(err)
	}
	var want, wrote cluster.Definition
	for path, into := range map[string]*cluster.Definition{file: &want, out: &wrote} {
		raw, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if d := lock.Definition; d.ConfigHash != want.ConfigHash || !slices.Equal(d.Creator.ConfigSignature, want.Creator.ConfigSignature) || d.UUID != want.UUID || d.Name != want.Name || d.Timestamp != want.Timestamp {
		t.Errorf("definition %+v\nwant %+v", d, want)
	}
	if wrote.DefinitionHash != lock.Definition.DefinitionHash || wrote.Operators[2].ENR != lock.Definition.Operators[2].ENR {
		t.Error("the definition that was written is not the lock's")
	}
	if g := lock.Validators[0].Registration.Message.GasLimit; g != 36_000_000 {
		t.Errorf("gas limit %d", g)
	}
	if names := list(t, filepath.Join(res.Dir, "node0")); !slices.Contains(names, "deposit-data-1500000000gwei.json") || !slices.Contains(names, "deposit-data-16eth.json") {
		t.Errorf("deposit files %q", names)
	}
	// What was written out makes another cluster, with node keys of its own.
	again := mustRun(t, fromDefinition(filepath.Join(t.TempDir(), "d"), out))
	second, err := lockAt(again.Dir, "node0")
	if err != nil || second.Definition.ConfigHash != want.ConfigHash || second.Definition.Operators[0].ENR == wrote.Operators[0].ENR || len(again.Warnings) < 2 {
		t.Errorf("%v, warnings %q", err, again.Warnings)
	}
}

// TestDefinitionURL fetches one, and bounds what it fetches.
func TestDefinitionURL(t *testing.T) {
	good, err := os.ReadFile(definitionFile(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) })
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		for range maxDefinitionBytes>>20 + 1 {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	mux.HandleFunc("/html", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in</html>")) })
	s := httptest.NewServer(mux)
	defer s.Close()
	defer close(release)

	res := mustRun(t, fromDefinition(filepath.Join(t.TempDir(), "c"), s.URL+"/good"))
	golden(t, "path definition url", document(t, res.Dir))
	if !slices.ContainsFunc(res.Warnings, func(w string) bool { return strings.Contains(w, "plain HTTP") }) {
		t.Errorf("warnings %q", res.Warnings)
	}
	for path, want := range map[string]string{
		s.URL + "/big": "more than 16 MiB", s.URL + "/away": "plain HTTP", s.URL + "/html": "not a cluster definition", s.URL + "/none": "HTTP 404",
		"http://192.0.2.1/x": "plain HTTP", "https://user:secret@127.0.0.1:1/x": "name or password", "http://127.0.0.1:1/x": "refused",
	} {
		_, err := Plan(t.Context(), fromDefinition(filepath.Join(t.TempDir(), "c"), path))
		if KindOf(err) != KindUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Run(ctx, fromDefinition(filepath.Join(t.TempDir(), "c"), s.URL+"/slow"), nil); KindOf(err) != KindCancelled {
		t.Errorf("cancelled while waiting: %v", err)
	}
}

// TestBadDefinitions: each change that a hash, a signature or common sense must notice is named.
func TestBadDefinitions(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(d *cluster.Definition)
		params func(p *Params)
		want   string // part of the message
		field  string
	}{
		{"changed name", func(d *cluster.Definition) { d.Name = "x" }, nil, "config_hash", "definition-file"},
		{"changed address", func(d *cluster.Definition) { d.Validators[0].Withdrawal = addressB }, nil, "config_hash", "definition-file"},
		{"changed definition hash", func(d *cluster.Definition) { d.DefinitionHash[0] ^= 1 }, nil, "definition_hash", "definition-file"},
		{"creator of another chain", func(d *cluster.Definition) { signCreator(t, d, 1) }, nil, "creator.config_signature", "definition-file"},
		{"creator's signature gone", func(d *cluster.Definition) {
			signCreator(t, d, 560048)
			d.Creator.ConfigSignature = nil
			rehash(t, d)
		}, nil, "only one is there", "definition-file"},
		{"operators with wallets", func(d *cluster.Definition) { d.Operators[1].Address = addressA; rehash(t, d) }, nil, "operators[1]", "definition-file"},
		{"two operators", func(d *cluster.Definition) { d.Operators = d.Operators[:2]; rehash(t, d) }, nil, "2 operators", "definition-file"},
		{"counts differ", func(d *cluster.Definition) { d.NumValidators = 3; rehash(t, d) }, nil, "num_validators", "definition-file"},
		{"unknown network", func(d *cluster.Definition) { d.ForkVersion = cluster.ForkVersion{1, 2, 3, 4}; rehash(t, d) }, nil, "0x01020304", "definition-file"},
		{"goerli", func(d *cluster.Definition) { d.ForkVersion = cluster.ForkVersion{0, 0, 0x10, 0x20}; rehash(t, d) }, nil, "goerli is shut down", "definition-file"},
		{"insecure keys on mainnet", func(d *cluster.Definition) { d.ForkVersion = cluster.ForkVersion{}; rehash(t, d) }, nil, "money is at stake", "insecure-keys"},
		{"insecure keys on gnosis", func(d *cluster.Definition) { d.ForkVersion = cluster.ForkVersion{0, 0, 0, 0x64}; rehash(t, d) }, nil, "money is at stake", "insecure-keys"},
		{"nodes", nil, func(p *Params) { p.Nodes = 5 }, "--nodes is 5, the definition file says 4", "nodes"},
		{"threshold", nil, func(p *Params) { p.Threshold = 4 }, "--threshold is 4, the definition file says 3", "threshold"},
		{"validators", nil, func(p *Params) { p.NumValidators = 1 }, "--num-validators is 1, the definition file says 2", "num-validators"},
		{"network", nil, func(p *Params) { p.Network = "mainnet"; p.InsecureKeys = false }, "--network is mainnet (genesis fork version 0x00000000), the definition file says 0x10000910", "network"},
		{"name", nil, func(p *Params) { p.Name = "mine" }, "--name is mine, the definition file says from a file", "name"},
		{"withdrawal", nil, func(p *Params) { p.WithdrawalAddresses = []string{addressA} }, "--withdrawal-addresses is " + addressA + ", the definition file says " + addressB, "withdrawal-addresses"},
		{"fees", nil, func(p *Params) { p.FeeRecipientAddresses = []string{addressA, addressB} }, "--fee-recipient-addresses is " + addressA, "fee-recipient-addresses"},
		{"amounts", nil, func(p *Params) { p.DepositAmounts = []uint64{32} }, "--deposit-amounts is [32 ETH], the definition file says [16 ETH 16 ETH 1.5 ETH]", "deposit-amounts"},
		{"gas", nil, func(p *Params) { p.TargetGasLimit = 30_000_000 }, "--target-gas-limit is 30000000, the definition file says 36000000", "target-gas-limit"},
		{"compounding", nil, func(p *Params) { p.Compounding = true }, "--compounding is set, the definition file says false", "compounding"},
		{"protocol", nil, func(p *Params) { p.ConsensusProtocol = "qbft" }, "--consensus-protocol is qbft, the definition file says none", "consensus-protocol"},
		{"version", nil, func(p *Params) { p.LockVersion = "v1.11.0" }, "--lock-version is v1.11.0, the definition file says v1.10.0", "lock-version"},
		{"another than planned", nil, func(p *Params) { p.DefinitionHash = cluster.Root{1}.String() }, "changed since the plan was made", "definition-file"},
		{"same values", nil, func(p *Params) {
			p.Nodes, p.Threshold, p.NumValidators, p.Network, p.WithdrawalAddresses = 4, 3, 2, "hoodi", []string{strings.ToLower(addressA), addressB}
		}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := fromDefinition(filepath.Join(t.TempDir(), "c"), definitionFile(t, tt.change))
			if tt.params != nil {
				tt.params(&p)
			}
			_, err := Plan(t.Context(), p)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var pe *ProblemsError
			if !errors.As(err, &pe) || !strings.Contains(err.Error(), tt.want) || pe.Problems[0].Field != tt.field {
				t.Errorf("%v\nwant %q of field %s", err, tt.want, tt.field)
			}
			if _, err := Run(t.Context(), p, nil); KindOf(err) != KindUsage {
				t.Errorf("run: %v", err)
			}
			if left := list(t, filepath.Dir(p.Dir)); len(left) > 0 {
				t.Errorf("left behind %q", left)
			}
		})
	}
}

func TestTestnetProblems(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(p *Params)
		fields []string
	}{
		{"right", func(*Params) {}, nil},
		{"three of four", func(p *Params) { p.TestnetChainID = 0 }, []string{"testnet-chain-id"}},
		{"one of four", func(p *Params) { *p = testParams(p.Dir); p.Network, p.TestnetName = "", "x" }, []string{"testnet-fork-version"}},
		{"with network", func(p *Params) { p.Network = "hoodi" }, []string{"network"}},
		{"name taken", func(p *Params) { p.TestnetName = "sepolia" }, []string{"testnet-name"}},
		{"name taken, other letters", func(p *Params) { p.TestnetName = "Mainnet" }, []string{"testnet-name"}},
		{"name with spaces", func(p *Params) { p.TestnetName = "my net" }, []string{"testnet-name"}},
		{"mainnet's fork", func(p *Params) { p.TestnetForkVersion = "0x00000000" }, []string{"testnet-fork-version"}},
		{"short fork", func(p *Params) { p.TestnetForkVersion = "0x1000" }, []string{"testnet-fork-version"}},
		{"genesis in milliseconds", func(p *Params) { p.TestnetGenesisTimestamp = 1750000000000 }, []string{"testnet-genesis-timestamp"}},
		{"negative genesis", func(p *Params) { p.TestnetGenesisTimestamp = -1 }, []string{"testnet-genesis-timestamp"}},
	} {
		p := testParams(filepath.Join(t.TempDir(), "c"))
		p.Network, p.TestnetName, p.TestnetForkVersion, p.TestnetChainID, p.TestnetGenesisTimestamp = "", "my-devnet", "10000038", 3151908, 1750000000
		tt.change(&p)
		var fields []string
		for _, problem := range p.Problems() {
			fields = append(fields, problem.Field)
		}
		if !slices.Equal(fields, tt.fields) {
			t.Errorf("%s: fields %q, want %q", tt.name, fields, tt.fields)
		}
	}
}

// TestWrongClock: in a bubble it is the year 2000. A new cluster is warned of; registrations of existing
// validators would carry that time, so splitting is refused.
func TestWrongClock(t *testing.T) {
	keys := oldKeys(t, 1, charonStyle)
	base := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := testParams(filepath.Join(base, "c"))
		plan, err := Plan(t.Context(), p)
		if err != nil || !slices.ContainsFunc(plan.Warnings, func(w string) bool { return strings.Contains(w, "clock says 2000-01-01") }) {
			t.Errorf("%v, warnings %q", err, plan.Warnings)
		}
		p.SplitExistingKeys, p.SplitKeysDir, p.NoSlashingHistory, p.NumValidators = true, keys, NoHistoryPhrase, 0
		_, err = Run(t.Context(), p, nil)
		if KindOf(err) != KindUsage || !strings.Contains(err.Error(), "set the clock") {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Until(time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)))
		if _, err := Plan(t.Context(), p); KindOf(err) != KindUsage || !strings.Contains(err.Error(), "2050-01-01") {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Hour)
	})
	// A network that begins in the future has no validators to split.
	p := testParams(filepath.Join(base, "d"))
	p.Network, p.TestnetName, p.TestnetForkVersion, p.TestnetChainID = "", "later", "0x10000038", 1337
	p.TestnetGenesisTimestamp = time.Now().Add(1000 * time.Hour).Unix()
	if _, err := Plan(t.Context(), p); err != nil {
		t.Errorf("a network that begins later: %v", err)
	}
	p.SplitExistingKeys, p.SplitKeysDir, p.NoSlashingHistory, p.NumValidators = true, keys, NoHistoryPhrase, 0
	if _, err := Plan(t.Context(), p); KindOf(err) != KindUsage || !strings.Contains(err.Error(), "begins only at") {
		t.Errorf("%v", err)
	}
}

// Nothing of a definition's target is overwritten, and what can't be written is said before keys are
// made.
func TestDefinitionOutTargets(t *testing.T) {
	base := t.TempDir()
	// Nothing that lies beside it is in the way.
	if err := os.WriteFile(filepath.Join(base, "def.json.new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	beside := testParams(filepath.Join(base, "beside"))
	beside.DefinitionOut = filepath.Join(base, "def.json")
	if _, err := Run(t.Context(), beside, nil); err != nil {
		t.Error(err)
	}
	taken := filepath.Join(base, "taken.json")
	if err := os.WriteFile(taken, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		out  string
		want Kind
	}{{taken, KindExists}, {filepath.Join(base, "none", "d.json"), KindUsage}, {filepath.Join(taken, "d.json"), KindUnexpected + KindUsage},
		{filepath.Join(base, "c", "node0"), KindUsage}, {filepath.Join(base, "c"), KindUsage}, {filepath.Join(base, "c", "def.out.json"), ""}} {
		out, want := tt.out, tt.want
		p := testParams(filepath.Join(base, "c"))
		p.DefinitionOut = out
		_, err := Run(t.Context(), p, nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(string(want), string(KindOf(err)))) {
			t.Errorf("%s: %v, want %s", out, err, want)
		}
	}
	if raw, err := os.ReadFile(taken); err != nil || string(raw) != "mine" {
		t.Errorf("%q %v", raw, err)
	}
	if _, err := os.Stat(filepath.Join(base, "c", "def.out.json")); err != nil {
		t.Error(err)
	}
}

// style is how a client lays keystores and passwords out.
type style func(t *testing.T, dir string, i int, pub string, sealed []byte, password string)

func put(t *testing.T, parts ...string) func(data []byte) {
	t.Helper()
	return func(data []byte) {
		path := filepath.Join(parts...)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func charonStyle(t *testing.T, dir string, i int, _ string, sealed []byte, password string) {
	put(t, dir, fmt.Sprintf("keystore-%d.json", i))(sealed)
	put(t, dir, fmt.Sprintf("keystore-%d.txt", i))([]byte(password))
}

func depositStyle(t *testing.T, dir string, i int, _ string, sealed []byte, password string) {
	put(t, dir, fmt.Sprintf("keystore-m_12381_3600_%d_0_0-16%08d.json", i, 99-i))(sealed) // names sort the other way
	put(t, dir, "deposit_data-1600000000.json")([]byte(`[{"pubkey":"00"}]`))
	if i == 0 {
		put(t, dir, "my password.txt")([]byte(password + "\n"))
	}
}

func lighthouseStyle(t *testing.T, dir string, _ int, pub string, sealed []byte, password string) {
	put(t, dir, "validators", "0x"+pub, "voting-keystore.json")(sealed)
	put(t, dir, "validators", "slashing_protection.json")([]byte(`{"metadata":{}}`))
	put(t, dir, "secrets", "0x"+pub)([]byte(password))
}

func tekuStyle(t *testing.T, dir string, i int, _ string, sealed []byte, password string) {
	put(t, dir, "keys", fmt.Sprintf("validator_%d.json", i))(sealed)
	put(t, dir, "passwords", fmt.Sprintf("validator_%d.txt", i))([]byte(password))
}

func nimbusStyle(t *testing.T, dir string, _ int, pub string, sealed []byte, password string) {
	put(t, dir, "validators", "0x"+pub, "keystore.json")(sealed)
	put(t, dir, "secrets", "0x"+pub)([]byte(password))
}

// oldKeys makes count keystores in a layout. Key i is made of the byte i+1.
func oldKeys(t *testing.T, count int, layout style) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "old")
	password := "a shared pass phrase"
	for i := range count {
		key := oldKey(t, i)
		raw := sealOld(t, key, password, i)
		pub, err := key.PubKey()
		if err != nil {
			t.Fatal(err)
		}
		layout(t, dir, i, hex.EncodeToString(pub[:]), raw, password)
	}
	return dir
}

func oldKey(t *testing.T, i int) bls.SecretKey {
	t.Helper()
	key, err := bls.SecretKeyFromBytes(slices.Repeat([]byte{byte(i + 1)}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func oldPubKeys(t *testing.T, count int) []cluster.PubKey {
	t.Helper()
	var out []cluster.PubKey
	for i := range count {
		pub, err := oldKey(t, i).PubKey()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, pub)
	}
	return out
}

func sealOld(t *testing.T, key bls.SecretKey, password string, i int) []byte {
	t.Helper()
	pw, err := keystore.ParsePassword([]byte(password))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := keystore.Encrypt(key, pw, keystore.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.Replace(string(raw), "m/12381/3600/0/0/0", fmt.Sprintf("m/12381/3600/%d/0/0", i), 1))
}

func splitParams(t *testing.T, dir string) Params {
	t.Helper()
	p := testParams(filepath.Join(t.TempDir(), "c"))
	p.SplitExistingKeys, p.SplitKeysDir, p.NoSlashingHistory, p.NumValidators = true, dir, NoHistoryPhrase, 0
	return p
}

// TestSplitLayouts: keystores of each client are found and opened, and the order is kept.
func TestSplitLayouts(t *testing.T) {
	const n = 12 // so that sorting by name isn't sorting by number
	keys := oldPubKeys(t, n)
	byName := slices.Clone(keys)
	slices.SortFunc(byName, func(a, b cluster.PubKey) int { return strings.Compare(a.String(), b.String()) })
	for name, tt := range map[string]struct {
		layout style
		sub    string
		want   []cluster.PubKey
		rule   string
	}{
		"charon":      {charonStyle, "", keys, "the numbers in the keystores' names"},
		"deposit cli": {depositStyle, "", keys, "derivation paths"},
		"lighthouse":  {lighthouseStyle, "validators", keys, "derivation paths"},
		"lodestar":    {lighthouseStyle, "", keys, "derivation paths"},
		"teku":        {tekuStyle, "", keys, "derivation paths"},
		"nimbus":      {nimbusStyle, "validators", keys, "derivation paths"},
	} {
		t.Run(name, func(t *testing.T) {
			p := splitParams(t, filepath.Join(oldKeys(t, n, tt.layout), tt.sub))
			for i := range n {
				p.WithdrawalAddresses = append(p.WithdrawalAddresses[:min(i, len(p.WithdrawalAddresses))], fmt.Sprintf("0x%040x", i+1))
			}
			p.FeeRecipientAddresses = []string{addressA}
			p.Nodes, p.Threshold = 3, 2
			res := mustRun(t, p)
			if !slices.Equal(res.Validators, tt.want) {
				t.Errorf("order %v", res.Sources)
			}
			if !slices.ContainsFunc(res.Notes, func(s string) bool { return strings.Contains(s, tt.rule) }) {
				t.Errorf("notes %q", res.Notes)
			}
			for i, s := range res.Sources {
				if s.PubKey != res.Validators[i] || s.File == "" {
					t.Errorf("source %d: %+v", i, s)
				}
			}
			lock, err := lockAt(res.Dir, "node0")
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range lock.Validators {
				if !strings.EqualFold(string(lock.Definition.Validators[i].Withdrawal), fmt.Sprintf("0x%040x", i+1)) {
					t.Errorf("validator %d: withdrawals to %s", i, lock.Definition.Validators[i].Withdrawal)
				}
				if age := time.Since(time.Unix(int64(v.Registration.Message.TimestampUnix), 0)); age < -time.Second || age > time.Minute {
					t.Errorf("registration of %s ago", age)
				}
			}
			if r := mustVerify(t, res.Dir); !r.OK() {
				t.Errorf("failed %v", failedIDs(r))
			}
			if !slices.ContainsFunc(res.Warnings, func(s string) bool { return strings.Contains(s, "two finalized epochs") }) {
				t.Errorf("warnings %q", res.Warnings)
			}
		})
	}
}

// TestForeignCosts opens keystores of pbkdf2 and scrypt as the EIP's own examples have them.
func TestForeignCosts(t *testing.T) {
	dir := t.TempDir()
	samples, err := filepath.Glob("../internal/keystore/testdata/*.json")
	if err != nil || len(samples) == 0 {
		t.Skip("there are no samples of the EIP")
	}
	kinds := map[string]bool{}
	for _, s := range samples {
		raw, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		ks, err := keystore.Parse(raw)
		if err != nil || ks.Strength != keystore.Full {
			continue
		}
		kind := "pbkdf2"
		if strings.Contains(string(raw), "scrypt") {
			kind = "scrypt"
		}
		if kinds[kind] {
			continue
		}
		kinds[kind] = true
		put(t, dir, kind, "keystore.json")(raw)
	}
	if len(kinds) == 0 {
		t.Skip("no sample is whole")
	}
	// The EIP's test password, which has to be normalised.
	put(t, dir, "password.txt")([]byte("𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑"))
	found, err := findKeys(t.Context(), dir)
	if err != nil || len(found.wrong) > 0 {
		t.Fatal(err, found)
	}
	for _, k := range found.keys {
		k.passwords = found.passwordsOf(k)
		key, err := k.open(t.Context())
		if err != nil {
			t.Errorf("%s: %v", k.file, err)
			continue
		}
		if raw, _ := key.Export(); hex.EncodeToString(raw) != "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f" {
			t.Errorf("%s holds another key", k.file)
		}
	}
	if !kinds["scrypt"] || !kinds["pbkdf2"] {
		t.Errorf("only %v were tried", kinds)
	}
}

// TestBadKeys: everything that is wrong with a directory of keys is refused before anything is made.
func TestBadKeys(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, dir string, p *Params)
		want  string
		field string
	}{
		{"same key twice", func(t *testing.T, dir string, _ *Params) {
			charonStyle(t, dir, 7, "", sealOld(t, oldKey(t, 0), "x", 0), "x")
		}, "hold the same key", "split-keys-dir"},
		{"link to a keystore", func(t *testing.T, dir string, _ *Params) {
			if err := os.Symlink(filepath.Join(dir, "keystore-0.json"), filepath.Join(dir, "keystore-8.json")); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link", "split-keys-dir"},
		{"link to a directory", func(t *testing.T, dir string, _ *Params) {
			if err := os.Symlink(t.TempDir(), filepath.Join(dir, "more")); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link", "split-keys-dir"},
		{"linked itself", func(t *testing.T, dir string, p *Params) {
			p.SplitKeysDir = filepath.Join(t.TempDir(), "l")
			if err := os.Symlink(dir, p.SplitKeysDir); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link", "split-keys-dir"},
		{"huge", func(t *testing.T, dir string, _ *Params) { put(t, dir, "keystore-9.json")(make([]byte, 1<<20)) }, "more than 65536 bytes", "split-keys-dir"},
		{"hostile cost", func(t *testing.T, dir string, _ *Params) {
			raw := strings.Replace(string(sealOld(t, oldKey(t, 5), "x", 5)), `"c": 16`, `"c": 2000000000`, 1)
			put(t, dir, "keystore-5.json")([]byte(raw))
		}, "costs more", "split-keys-dir"},
		{"not a keystore", func(t *testing.T, dir string, _ *Params) { put(t, dir, "keystore-5.json")([]byte("{}")) }, "keystore-5.json", "split-keys-dir"},
		{"empty", func(t *testing.T, _ string, p *Params) { p.SplitKeysDir = t.TempDir() }, "no keystore was found", "split-keys-dir"},
		{"a file", func(_ *testing.T, dir string, p *Params) { p.SplitKeysDir = filepath.Join(dir, "keystore-0.json") }, "not a directory", "split-keys-dir"},
		{"not there", func(_ *testing.T, dir string, p *Params) { p.SplitKeysDir = dir + "x" }, "no such file", "split-keys-dir"},
		{"no directory given", func(_ *testing.T, _ string, p *Params) { p.SplitKeysDir = "" }, "is missing", "split-keys-dir"},
		{"directory without the flag", func(_ *testing.T, _ string, p *Params) {
			p.SplitExistingKeys, p.NumValidators, p.NoSlashingHistory = false, 1, ""
		}, "add --split-existing-keys", "split-keys-dir"},
		{"number of validators", func(_ *testing.T, _ string, p *Params) { p.NumValidators = 5 }, "--num-validators is 5, and 2 keystores were found", "split-keys-dir"},
		{"addresses", func(_ *testing.T, _ string, p *Params) {
			p.WithdrawalAddresses = []string{addressA, addressA, addressA}
		}, "3 addresses for 2 validators", "withdrawal-addresses"},
		{"no history", func(_ *testing.T, _ string, p *Params) { p.NoSlashingHistory = "" }, "what the old validators have signed is not known", "slashing-history"},
		{"wrong words", func(_ *testing.T, _ string, p *Params) { p.NoSlashingHistory = "yes" }, "type exactly", "no-slashing-history"},
		{"insecure on mainnet", func(_ *testing.T, _ string, p *Params) { p.Network = "mainnet" }, "money is at stake", "insecure-keys"},
		{"passwords file open to all", func(t *testing.T, dir string, p *Params) {
			p.SplitPasswordsFile = filepath.Join(t.TempDir(), "p")
			if err := os.WriteFile(p.SplitPasswordsFile, []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "chmod 600", "split-passwords-file"},
		{"three passwords", func(t *testing.T, dir string, p *Params) {
			p.SplitPasswordsFile = filepath.Join(t.TempDir(), "p")
			put(t, p.SplitPasswordsFile)([]byte("a\nb\nc\n"))
		}, "3 passwords for 2 keystores", "split-passwords-file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := oldKeys(t, 2, charonStyle)
			p := splitParams(t, dir)
			tt.spoil(t, dir, &p)
			_, err := Plan(t.Context(), p)
			var pe *ProblemsError
			if !errors.As(err, &pe) || !strings.Contains(err.Error(), tt.want) || !slices.ContainsFunc(pe.Problems, func(one Problem) bool { return one.Field == tt.field }) {
				t.Errorf("%v\nwant %q of field %s", err, tt.want, tt.field)
			}
			if _, err := Run(t.Context(), p, nil); KindOf(err) != KindUsage {
				t.Errorf("run: %v", err)
			}
			if left := list(t, filepath.Dir(p.Dir)); len(left) > 0 {
				t.Errorf("left behind %q", left)
			}
		})
	}
	t.Run("wrong passwords", func(t *testing.T) {
		dir := oldKeys(t, 3, charonStyle)
		put(t, dir, "keystore-1.txt")([]byte("wrong"))
		if err := os.Remove(filepath.Join(dir, "keystore-2.txt")); err != nil {
			t.Fatal(err)
		}
		put(t, dir, "keystore-0.txt")([]byte("wrong too"))
		p := splitParams(t, dir)
		_, err := Run(t.Context(), p, nil)
		if KindOf(err) != KindUsage || !strings.Contains(err.Error(), "3 of 3 didn't open") || !strings.Contains(err.Error(), "keystore-2.json") || strings.Contains(err.Error(), "wrong too") {
			t.Errorf("%v", err)
		}
		if left := list(t, filepath.Dir(p.Dir)); len(left) > 0 {
			t.Errorf("left behind %q", left)
		}
		p.SplitPasswordsFile = filepath.Join(t.TempDir(), "p")
		put(t, p.SplitPasswordsFile)([]byte("a shared pass phrase\n"))
		mustRun(t, p)
		p.Dir += "2"
		put(t, p.SplitPasswordsFile)([]byte("a shared pass phrase\nwrong\na shared pass phrase\n"))
		if _, err := Run(t.Context(), p, nil); err == nil || !strings.Contains(err.Error(), "keystore-1.json: the given password doesn't open it") {
			t.Errorf("%v", err)
		}
	})
}

// fakeGuard is a door that keeps what it was told.
type fakeGuard struct {
	signed map[cluster.PubKey]Signed
	root   cluster.Root
	seeds  map[string]Seed
	fail   error
}

func (f *fakeGuard) door() GuardDoor {
	f.seeds = map[string]Seed{}
	return GuardDoor{
		Read: func(_ []byte, root cluster.Root) (map[cluster.PubKey]Signed, cluster.Root, error) {
			if root != (cluster.Root{}) && root != f.root {
				return nil, root, errors.New("it is of another chain")
			}
			return f.signed, f.root, nil
		},
		Seed: func(_ context.Context, dir string, s Seed) error {
			if f.fail != nil {
				return f.fail
			}
			f.seeds[filepath.Base(filepath.Dir(dir))] = s
			return os.WriteFile(filepath.Join(dir, guardFileName), []byte("seeded"), 0o644)
		},
	}
}

// TestSlashingHistory: the history reaches every new node, and is held against network, keys and clock.
func TestSlashingHistory(t *testing.T) {
	hoodi, _ := cluster.NetworkByName("hoodi")
	keys := oldPubKeys(t, 3)
	signed := map[cluster.PubKey]Signed{}
	for i, k := range keys {
		signed[k] = Signed{HasAttestation: true, Source: 99, Target: cluster.Epoch(100 + i), HasBlock: i == 1, Slot: 3200}
	}
	file := filepath.Join(t.TempDir(), "history.json")
	put(t, file)([]byte("{}"))
	setup := func(t *testing.T) (Params, *fakeGuard) {
		g := &fakeGuard{signed: map[cluster.PubKey]Signed{}, root: hoodi.ValidatorsRoot}
		for k, v := range signed {
			g.signed[k] = v
		}
		p := splitParams(t, oldKeys(t, 3, charonStyle))
		p.SlashingHistory, p.NoSlashingHistory, p.Guard = file, "", g.door()
		return p, g
	}
	t.Run("whole", func(t *testing.T) {
		p, g := setup(t)
		res := mustRun(t, p)
		golden(t, "path split with history", document(t, res.Dir))
		if len(g.seeds) != 4 {
			t.Errorf("seeded %v", g.seeds)
		}
		for node, s := range g.seeds {
			if s.Network.Name != "hoodi" || s.ValidatorsRoot != hoodi.ValidatorsRoot || !slices.Equal(s.Keys, keys) || s.Signed[keys[1]] != signed[keys[1]] {
				t.Errorf("%s: %+v", node, s)
			}
		}
		if r := mustVerify(t, res.Dir); !r.OK() {
			t.Errorf("failed %v", failedIDs(r))
		}
	})
	t.Run("seeding fails", func(t *testing.T) {
		p, g := setup(t)
		g.fail = errors.New("no")
		if _, err := Run(t.Context(), p, nil); err == nil || !strings.Contains(err.Error(), "slashing history into node0") {
			t.Errorf("%v", err)
		}
		if left := list(t, filepath.Dir(p.Dir)); len(left) > 0 {
			t.Errorf("left behind %q", left)
		}
	})
	for name, tt := range map[string]struct {
		change func(p *Params, g *fakeGuard)
		want   string
	}{
		"another chain": {func(_ *Params, g *fakeGuard) { g.root[0] ^= 1 }, "another chain"},
		"a key missing": {func(_ *Params, g *fakeGuard) { delete(g.signed, keys[2]) }, "doesn't cover 1 of 3 validators: " + keys[2].String()},
		"in the future": {func(_ *Params, g *fakeGuard) { g.signed[keys[0]] = Signed{HasAttestation: true, Target: 1 << 40} }, "set this machine's clock"},
		"no file":       {func(p *Params, _ *fakeGuard) { p.SlashingHistory += "x" }, "no such file"},
		"no door":       {func(p *Params, _ *fakeGuard) { p.Guard = GuardDoor{} }, "no slashing protection"},
	} {
		t.Run(name, func(t *testing.T) {
			p, g := setup(t)
			tt.change(&p, g)
			if _, err := Plan(t.Context(), p); KindOf(err) != KindUsage || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	t.Run("a key missing, confirmed", func(t *testing.T) {
		p, g := setup(t)
		delete(g.signed, keys[2])
		p.NoSlashingHistory = NoHistoryPhrase
		res := mustRun(t, p)
		if !slices.ContainsFunc(res.Warnings, func(s string) bool { return strings.Contains(s, keys[2].String()) }) {
			t.Errorf("warnings %q", res.Warnings)
		}
	})
}

// manager is a validator client that serves the keymanager API. It opens each keystore, as a real one
// does.
type manager struct {
	t     *testing.T
	token string
	mu    sync.Mutex
	keys  map[string]bls.SecretKey
	posts int
	spoil func(n int, w http.ResponseWriter) bool // may answer the n-th POST instead
	told  []string                                // slashing protection that came along
	*httptest.Server
}

func newManager(t *testing.T, token string) *manager {
	m := &manager{t: t, token: token, keys: map[string]bls.SecretKey{}}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.URL.Path != "/eth/v1/keystores" {
		http.NotFound(w, r)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+m.token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	type status struct {
		Status  string `json:"status"`
		Message string `json:"message"`
	}
	var out struct {
		Data []any `json:"data"`
	}
	out.Data = []any{}
	switch r.Method {
	case http.MethodGet:
		for k := range m.keys {
			out.Data = append(out.Data, map[string]string{"validating_pubkey": k})
		}
	case http.MethodPost:
		m.posts++
		var in struct {
			Keystores []string `json:"keystores"`
			Passwords []string `json:"passwords"`
			History   string   `json:"slashing_protection"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		m.told = append(m.told, in.History)
		if m.spoil != nil && m.spoil(m.posts, w) {
			return
		}
		for i, text := range in.Keystores {
			ks, err := keystore.Parse([]byte(text))
			var key bls.SecretKey
			if err == nil {
				var pw keystore.Password
				if pw, err = keystore.ParsePassword([]byte(in.Passwords[i])); err == nil {
					key, err = ks.Decrypt(r.Context(), pw)
				}
			}
			switch {
			case err != nil:
				out.Data = append(out.Data, status{"error", err.Error()})
			case m.keys[ks.PubKey.String()] != (bls.SecretKey{}):
				out.Data = append(out.Data, status{"duplicate", ""})
			default:
				m.keys[ks.PubKey.String()] = key
				out.Data = append(out.Data, status{"imported", ""})
			}
		}
	case http.MethodDelete:
		var in struct {
			PubKeys []string `json:"pubkeys"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, k := range in.PubKeys {
			if _, ok := m.keys[k]; ok {
				delete(m.keys, k)
				out.Data = append(out.Data, status{"deleted", ""})
			} else {
				out.Data = append(out.Data, status{"not_found", ""})
			}
		}
	}
	_ = json.NewEncoder(w).Encode(out)
}

func managers(t *testing.T, n int) ([]*manager, Params) {
	t.Helper()
	p := testParams(filepath.Join(t.TempDir(), "c"))
	var all []*manager
	var file strings.Builder
	file.WriteString("# tokens\n")
	for i := range n {
		m := newManager(t, fmt.Sprintf("api-token-%d-%032d", i, i))
		all = append(all, m)
		p.KeymanagerAddresses = append(p.KeymanagerAddresses, m.URL)
		file.WriteString(m.token + "\n")
	}
	p.KeymanagerTokensFile = filepath.Join(t.TempDir(), "tokens")
	put(t, p.KeymanagerTokensFile)([]byte(file.String()))
	return all, p
}

// TestKeymanagers: every node's shares arrive at its own server, and none is written.
func TestKeymanagers(t *testing.T) {
	all, p := managers(t, 4)
	p.NumValidators = 20 // more than a request takes
	res := mustRun(t, p)
	golden(t, "path keymanager", document(t, res.Dir))
	lock, err := lockAt(res.Dir, "node0")
	if err != nil {
		t.Fatal(err)
	}
	for v, dv := range lock.Validators {
		some := map[cluster.ShareIndex]bls.SecretKey{}
		for n, m := range all {
			key, ok := m.keys[dv.PublicShares[n].String()]
			if !ok {
				t.Fatalf("node %d lacks the share of validator %d", n, v)
			}
			if n > 0 {
				some[cluster.PeerIndex(n).Share()] = key
			}
		}
		key, err := bls.RecoverSecret(some)
		if err != nil {
			t.Fatal(err)
		}
		if pub, _ := key.PubKey(); pub != dv.PubKey {
			t.Errorf("validator %d: the shares give another key", v)
		}
	}
	for n, m := range all {
		if len(m.keys) != 20 || m.posts != 2 {
			t.Errorf("node %d has %d keys after %d requests", n, len(m.keys), m.posts)
		}
	}
}

// With a history each server gets it under the keys of its own shares.
func TestKeymanagersHistory(t *testing.T) {
	hoodi, _ := cluster.NetworkByName("hoodi")
	all, p := managers(t, 3)
	g := &fakeGuard{root: hoodi.ValidatorsRoot, signed: map[cluster.PubKey]Signed{oldPubKeys(t, 1)[0]: {HasAttestation: true, Source: 7, Target: 8, HasBlock: true, Slot: 99}}}
	s := splitParams(t, oldKeys(t, 1, charonStyle))
	p.Nodes, p.NumValidators, p.SplitExistingKeys, p.SplitKeysDir, p.Guard = 3, 0, true, s.SplitKeysDir, g.door()
	p.SlashingHistory = filepath.Join(t.TempDir(), "h")
	put(t, p.SlashingHistory)([]byte("{}"))
	res := mustRun(t, p)
	lock, err := lockAt(res.Dir, "node0")
	if err != nil {
		t.Fatal(err)
	}
	for n, m := range all {
		want := fmt.Sprintf(`{"data":[{"pubkey":"%s","signed_blocks":[{"slot":"99"}],"signed_attestations":[{"source_epoch":"7","target_epoch":"8"}]}],"metadata":{"genesis_validators_root":"%s","interchange_format_version":"5"}}`,
			lock.Validators[0].PublicShares[n], hoodi.ValidatorsRoot)
		if len(m.told) != 1 || m.told[0] != want {
			t.Errorf("node %d was told %q, want %s", n, m.told, want)
		}
	}
}

// TestKeymanagersFail: when a server fails nothing stays anywhere, and the error says how each stands.
func TestKeymanagersFail(t *testing.T) {
	answer := func(code int, body string) func(int, http.ResponseWriter) bool {
		return func(_ int, w http.ResponseWriter) bool {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	for _, tt := range []struct {
		name  string
		spoil func(all []*manager, p *Params)
		want  []string
		kind  Kind
	}{
		{"not there", func(all []*manager, _ *Params) { all[2].Close() }, []string{"node 2", "connection refused", "nothing was sent"}, KindUsage},
		{"wrong token", func(all []*manager, _ *Params) { all[1].token = "another" }, []string{"node 1", "refuses the token"}, KindUsage},
		{"another service", func(_ []*manager, p *Params) { p.KeymanagerAddresses[3] += "/elsewhere" }, []string{"node 3", "HTTP 404"}, KindUsage},
		{"error for one key", func(all []*manager, _ *Params) {
			all[2].spoil = answer(200, `{"data":[{"status":"imported"},{"status":"error","message":"disk full"},{"status":"imported"}]}`)
		}, []string{"node 0 (", "3 key shares taken back", "node 2", "disk full", "node 3", "got nothing"}, KindUnexpected},
		{"fewer answers", func(all []*manager, _ *Params) { all[1].spoil = answer(200, `{"data":[{"status":"imported"}]}`) }, []string{"node 1", "1 statuses for 3 keys"}, KindUnexpected},
		{"unknown status", func(all []*manager, _ *Params) {
			all[0].spoil = answer(200, `{"data":[{"status":"ok"},{"status":"ok"},{"status":"ok"}]}`)
		}, []string{"status that isn't known: ok"}, KindUnexpected},
		{"has it already", func(all []*manager, _ *Params) {
			all[0].spoil = answer(200, `{"data":[{"status":"duplicate"},{"status":"imported"},{"status":"imported"}]}`)
		}, []string{"has this new key already"}, KindUnexpected},
		{"server error", func(all []*manager, _ *Params) { all[3].spoil = answer(500, `{"message":"boom"}`) }, []string{"node 3", "HTTP 500: boom", "node 1"}, KindUnexpected},
		{"not JSON", func(all []*manager, _ *Params) { all[3].spoil = answer(200, `<html>`) }, []string{"not the JSON"}, KindUnexpected},
		{"can't take back", func(all []*manager, _ *Params) {
			all[1].spoil = func(int, http.ResponseWriter) bool {
				go all[1].CloseClientConnections()
				all[0].token = "changed meanwhile"
				return true
			}
		}, []string{"could not be taken back", "delete them at node 0"}, KindPartly},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all, p := managers(t, 4)
			tt.spoil(all, &p)
			_, err := Run(t.Context(), p, nil)
			if KindOf(err) != tt.kind || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", KindOf(err), err)
			}
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
			for _, m := range all {
				if len(m.keys) > 0 && tt.kind != KindPartly {
					t.Errorf("%d keys stayed at a server", len(m.keys))
				}
				if err != nil && strings.Contains(err.Error(), m.token) && m.token != "another" {
					t.Errorf("a token was told: %v", err)
				}
			}
			if left := list(t, filepath.Dir(p.Dir)); len(left) > 0 {
				t.Errorf("left behind %q", left)
			}
		})
	}
	t.Run("one lost answer", func(t *testing.T) {
		all, p := managers(t, 4)
		all[1].spoil = func(n int, w http.ResponseWriter) bool {
			if n == 1 {
				w.WriteHeader(http.StatusBadGateway)
			}
			return n == 1
		}
		mustRun(t, p)
	})
	t.Run("cancelled", func(t *testing.T) {
		all, p := managers(t, 4)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Run(ctx, p, func(done, total int, what string) {
			if done == total-5 {
				cancel()
			}
		})
		cancel()
		if KindOf(err) != KindCancelled {
			t.Errorf("%v", err)
		}
		for n, m := range all {
			if len(m.keys) > 0 {
				t.Errorf("node %d kept %d keys", n, len(m.keys))
			}
		}
	})
}

func TestKeymanagerProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(p *Params)
		field  string
		want   string
	}{
		"three for four":    {func(p *Params) { p.KeymanagerAddresses = p.KeymanagerAddresses[:3] }, "keymanager-addresses", "3 addresses for 4 nodes"},
		"same twice":        {func(p *Params) { p.KeymanagerAddresses[1] = p.KeymanagerAddresses[0] + "/" }, "keymanager-addresses", "stands twice"},
		"no tokens":         {func(p *Params) { p.KeymanagerTokensFile = "" }, "keymanager-auth-tokens-file", "are missing"},
		"no addresses":      {func(p *Params) { p.KeymanagerAddresses = nil }, "keymanager-addresses", "are missing"},
		"not a URL":         {func(p *Params) { p.KeymanagerAddresses[2] = "vc2:5062" }, "keymanager-addresses", "not an address"},
		"password in it":    {func(p *Params) { p.KeymanagerAddresses[2] = "https://me:hunter2@vc2:5062" }, "keymanager-addresses", "name or password"},
		"tokens open":       {func(p *Params) { _ = os.Chmod(p.KeymanagerTokensFile, 0o640) }, "keymanager-auth-tokens-file", "chmod 600"},
		"tokens not there":  {func(p *Params) { p.KeymanagerTokensFile += "x" }, "keymanager-auth-tokens-file", "no such file"},
		"too few tokens":    {func(p *Params) { _ = os.WriteFile(p.KeymanagerTokensFile, []byte("one\n"), 0o600) }, "keymanager-auth-tokens-file", "1 tokens for 4 addresses"},
		"token with spaces": {func(p *Params) { _ = os.WriteFile(p.KeymanagerTokensFile, []byte("one two\n"), 0o600) }, "keymanager-auth-tokens-file", "line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, p := managers(t, 4)
			tt.change(&p)
			_, err := Plan(t.Context(), p)
			var pe *ProblemsError
			if !errors.As(err, &pe) || !slices.ContainsFunc(pe.Problems, func(one Problem) bool { return one.Field == tt.field }) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v, want %q of field %s", err, tt.want, tt.field)
			}
		})
	}
	_, p := managers(t, 4)
	p.KeymanagerAddresses[0] = "http://192.0.2.7:5062"
	if plan, err := Plan(t.Context(), p); err != nil || !slices.ContainsFunc(plan.Warnings, func(w string) bool { return strings.Contains(w, "http://192.0.2.7:5062 over plain HTTP") }) {
		t.Errorf("%v, warnings %q", err, plan.Warnings)
	}
}
