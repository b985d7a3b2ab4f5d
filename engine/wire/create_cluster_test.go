package wire

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"app.provost/cluster"
	"app.provost/cluster/create"
	"app.provost/cluster/guard"
	"app.provost/engine"
)

func createAction(dir string) engine.CreateCluster {
	const address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	return engine.CreateCluster{Dir: dir, Nodes: 3, NumValidators: 1, Network: "hoodi", InsecureKeys: true,
		WithdrawalAddresses: []string{address}, FeeRecipientAddresses: []string{address}}
}

func oneShot(t *testing.T, progress func(string)) *OneShot {
	t.Helper()
	o, err := NewOneShot(progress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func doCreate(t *testing.T, o *OneShot, a engine.CreateCluster) (engine.Plan, engine.Receipt, error) {
	t.Helper()
	r := engine.Request{Key: engine.NewKey(), Action: a, Actor: engine.Actor{Via: engine.ViaCLI}}
	plan, err := o.Preview(t.Context(), r)
	if err != nil {
		return plan, engine.Receipt{}, err
	}
	receipt, err := o.Do(t.Context(), r, plan.Digest)
	return plan, receipt, err
}

// Each wrong value is a problem of the flag that it came from.
func TestCreateClusterProblems(t *testing.T) {
	o := oneShot(t, nil)
	for field, change := range map[string]func(a *engine.CreateCluster){
		"nodes":        func(a *engine.CreateCluster) { a.Nodes = 2 },
		"lock-version": func(a *engine.CreateCluster) { a.LockVersion = "v1" },
		"testnet-chain-id": func(a *engine.CreateCluster) {
			a.Network, a.TestnetName, a.TestnetForkVersion, a.TestnetGenesisTimestamp = "", "x", "0x01020304", 1_700_000_000
		},
		"definition-file": func(a *engine.CreateCluster) { a.DefinitionFile = "/nowhere" },
		"split-keys-dir": func(a *engine.CreateCluster) {
			a.SplitExistingKeys, a.NumValidators, a.NoSlashingHistory = true, 0, create.NoHistoryPhrase
		},
		"slashing-history": func(a *engine.CreateCluster) {
			a.SplitExistingKeys, a.SplitKeysDir, a.NumValidators = true, t.TempDir(), 0
		},
		"no-slashing-history":  func(a *engine.CreateCluster) { a.NoSlashingHistory = "x" },
		"split-passwords-file": func(a *engine.CreateCluster) { a.SplitPasswordsFile = "x" },
		"keymanager-addresses": func(a *engine.CreateCluster) {
			a.KeymanagerAddresses, a.KeymanagerTokensFile = []string{"x"}, "/nowhere"
		},
		"keymanager-auth-tokens-file": func(a *engine.CreateCluster) { a.KeymanagerAddresses = []string{"https://a", "https://b", "https://c"} },
		"insecure-keys":               func(a *engine.CreateCluster) { a.Network = "gnosis" },
	} {
		a := createAction(filepath.Join(t.TempDir(), "c"))
		change(&a)
		_, _, err := doCreate(t, o, a)
		var p *engine.Problem
		if !errors.As(err, &p) || p.Exit != engine.ExitUsage || p.Doing != "create cluster" {
			t.Errorf("%s: %v", field, err)
			continue
		}
		all := append([]engine.Problem{*p}, p.More...)
		if !slices.ContainsFunc(all, func(one engine.Problem) bool { return one.Field == field && one.Cause != "" && one.Remedy != "" }) {
			t.Errorf("%s: no problem of this field in %+v", field, all)
		}
	}
}

// What old validators signed is in each new node's slashing protection, which the node then runs with.
func TestSplitSeedsTheGuard(t *testing.T) {
	o := oneShot(t, nil)
	base := t.TempDir()
	first := createAction(filepath.Join(base, "first"))
	first.NumValidators = 2
	_, made, err := doCreate(t, o, first)
	if err != nil {
		t.Fatal(err)
	}
	if !made.Done || made.Facts[1].Name != "lock hash" {
		t.Errorf("receipt %+v", made)
	}
	// Shares are keys like any other.
	split := createAction(filepath.Join(base, "split"))
	split.NumValidators, split.SplitExistingKeys, split.SplitKeysDir = 0, true, filepath.Join(first.Dir, "node0", "validator_keys")
	split.NoSlashingHistory = create.NoHistoryPhrase
	plan, err := o.Preview(t.Context(), engine.Request{Key: engine.NewKey(), Action: split})
	if err != nil {
		t.Fatal(err)
	}
	var keys []cluster.PubKey
	for _, e := range plan.Effects {
		var k cluster.PubKey
		if err := k.UnmarshalText([]byte(e.After)); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	hoodi, _ := cluster.NetworkByName("hoodi")
	split.SlashingHistory, split.NoSlashingHistory = filepath.Join(base, "history.json"), ""
	const votes = `{"pubkey":"%s","signed_blocks":[{"slot":"5"}],"signed_attestations":[{"source_epoch":"6","target_epoch":"7"}]}`
	history := fmt.Sprintf(`{"metadata":{"interchange_format_version":"5","genesis_validators_root":"%s"},"data":[`+votes+`,`+votes+`]}`, hoodi.ValidatorsRoot, keys[0], keys[1])
	if err := os.WriteFile(split.SlashingHistory, []byte(history), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := doCreate(t, o, split); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(split.Dir, "node2", "provost")
	g, err := guard.Open(guard.Options{Dir: dir, GenesisValidatorsRoot: hoodi.ValidatorsRoot, Clock: hoodi.Clock(), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	// Not even a node that is told that its keys never signed forgets it.
	if err := g.Register(t.Context(), keys, guard.Unused); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		m, known, err := g.Marks(t.Context(), k)
		if err != nil || !known || m.Source != 6 || m.Target <= 7 || !m.HasBlock || m.Slot <= 5 {
			t.Errorf("%+v %v %v: want what was signed, and the fence above it", m, known, err)
		}
	}

	// On a test network nobody knows how long slots are: the records count, and there is no fence.
	split.Dir, split.Network = filepath.Join(base, "devnet"), ""
	split.TestnetName, split.TestnetForkVersion, split.TestnetChainID, split.TestnetGenesisTimestamp = "devnet", "0x10000038", 1337, 1_750_000_000
	if _, _, err := doCreate(t, o, split); err != nil {
		t.Fatal(err)
	}
	clock := cluster.SlotClock{Genesis: hoodi.Clock().Genesis, SlotDuration: hoodi.Clock().SlotDuration, SlotsPerEpoch: 8}
	d, err := guard.Open(guard.Options{Dir: filepath.Join(split.Dir, "node0", "provost"), GenesisValidatorsRoot: hoodi.ValidatorsRoot, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if m, known, err := d.Marks(t.Context(), keys[1]); err != nil || !known || m.Target != 7 || m.Slot != 5 {
		t.Errorf("%+v %v %v", m, known, err)
	}

	// A history of another chain is refused.
	split.Network, split.TestnetName, split.TestnetForkVersion, split.TestnetChainID, split.TestnetGenesisTimestamp = "sepolia", "", "", 0, 0
	split.Dir = filepath.Join(base, "no")
	if _, _, err := doCreate(t, o, split); err == nil || !strings.Contains(err.Error(), "genesis validators root") {
		t.Errorf("%v", err)
	}
}

// A server that shows one definition for the plan and another for the deed makes no cluster.
func TestDefinitionSwapped(t *testing.T) {
	o := oneShot(t, nil)
	base := t.TempDir()
	var files [2]string
	for i := range files {
		a := createAction(filepath.Join(base, fmt.Sprint(i)))
		a.DefinitionOut, a.Name = filepath.Join(base, fmt.Sprintf("%d.json", i)), fmt.Sprint(i)
		if _, _, err := doCreate(t, o, a); err != nil {
			t.Fatal(err)
		}
		files[i] = a.DefinitionOut
	}
	var asked atomic.Int32
	var swapAt int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		which := files[0]
		if asked.Add(1) >= swapAt {
			which = files[1]
		}
		http.ServeFile(w, r, which)
	}))
	defer s.Close()
	for at, want := range map[int32]string{2: "", 3: "changed since the plan was made"} {
		asked.Store(0)
		swapAt = at
		a := engine.CreateCluster{Dir: filepath.Join(base, "c"), DefinitionFile: s.URL, InsecureKeys: true}
		_, _, err := doCreate(t, o, a)
		var p *engine.Problem
		if !errors.As(err, &p) || want == "" && p.Code != engine.CodePlanChanged || !strings.Contains(err.Error(), want) {
			t.Errorf("swapped at request %d: %v", at, err)
		}
		if _, err := os.Lstat(a.Dir); err == nil {
			t.Fatal("a cluster was made")
		}
	}
}
