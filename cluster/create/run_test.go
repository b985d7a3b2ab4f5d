package create

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/keystore"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary create a cluster in the directory it names and then end, so that
// it can be killed on the way.
const childEnv = "PROVOST_TEST_CREATE_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		_, err := Run(context.Background(), testParams(dir), func(done, total int, what string) {
			fmt.Printf("%d/%d %s\n", done, total, what)
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const burnAddress = "0x000000000000000000000000000000000000dead"

func testParams(dir string) Params {
	p := Defaults()
	p.Name, p.Dir, p.Nodes, p.NumValidators = "mycluster", dir, 4, 3
	p.Network, p.InsecureKeys = "hoodi", true
	p.WithdrawalAddresses, p.FeeRecipientAddresses = []string{burnAddress}, []string{burnAddress}
	return p
}

// tree lists what is below dir with modes.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s %s\n", info.Mode(), filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGuideCluster makes the cluster of the guide: six nodes, threshold five, full-strength
// keystores on mainnet, and everything else by default.
func TestGuideCluster(t *testing.T) {
	p := Defaults()
	p.Name, p.Nodes, p.Threshold = "mycluster", 6, 5
	p.WithdrawalAddresses, p.FeeRecipientAddresses = []string{burnAddress}, []string{burnAddress}
	t.Chdir(t.TempDir())
	old := unix.Umask(0o277) // the modes must not depend on it
	defer unix.Umask(old)

	plan, err := Plan(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], burnAddress) {
		t.Errorf("warnings %q, want one line on burn addresses", plan.Warnings)
	}
	if plan.Threshold != 5 || plan.MayBeDown != 1 || len(plan.Irreversible) == 0 {
		t.Errorf("plan %+v", plan)
	}
	if _, err := os.Lstat(".charon"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a plan left something behind")
	}
	last := 0
	res, err := Run(t.Context(), p, func(done, total int, what string) {
		if done != last+1 || done > total || what == "" {
			t.Errorf("step %d of %d %q after %d", done, total, what, last)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	unix.Umask(old)
	if last != 6+3 {
		t.Errorf("%d steps were told", last)
	}
	want, err := filepath.Abs(".charon/cluster")
	if err != nil || res.Dir != want || len(res.Validators) != 1 || res.LockHash == (cluster.Root{}) {
		t.Errorf("result %+v", res)
	}
	got := tree(t, res.Dir)
	golden := filepath.Join(goldenDir, "tree.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wantTree, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(wantTree) {
		t.Errorf("tree:\n%s\nwant:\n%s", got, wantTree)
	}
	// The plan named the same files with the same modes.
	planned := []string{"drwx------ ."}
	for _, f := range plan.Files {
		planned = append(planned, fmt.Sprintf("%s %s", f.Mode, f.Path))
	}
	slices.Sort(planned)
	written := strings.Split(strings.TrimSpace(got), "\n")
	slices.Sort(written)
	if !slices.Equal(planned, written) {
		t.Errorf("planned %q\nwritten %q", planned, written)
	}
	if names := list(t, ".charon"); !slices.Equal(names, []string{"cluster"}) {
		t.Errorf("beside the target: %q", names)
	}
	r := mustVerify(t, res.Dir)
	if !r.OK() || len(r.Findings) != 0 || r.Skipped != 0 {
		t.Errorf("failed %v, findings %v, skipped %d", failedIDs(r), r.Findings, r.Skipped)
	}
	for _, id := range []string{"deposit[1eth][0].signature", "deposit[32eth][0].deposit_data_root", "node5.deposit[32eth]"} {
		if !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.ID == id }) {
			t.Errorf("there is no check %s", id)
		}
	}
	// A second run refuses and touches nothing.
	if _, err := Run(t.Context(), p, nil); KindOf(err) != KindExists {
		t.Errorf("second run: %v", err)
	}
	if again := tree(t, res.Dir); again != got {
		t.Error("a refused run changed the cluster")
	}
}

var goldenDir = func() string {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		panic(err)
	}
	return dir
}()

func list(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestVariants(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*Params)
		amounts []string
	}{
		{"compounding defaults", func(p *Params) { p.Compounding = true }, []string{"-1eth", "-256eth", "-8eth", ""}},
		{"own amounts, repeated", func(p *Params) { p.DepositAmounts = []uint64{8, 16, 8} }, []string{"-16eth", "-8eth"}},
		{"qbft, gas limit, no name", func(p *Params) { p.ConsensusProtocol, p.TargetGasLimit, p.Name = "qbft", 36000000, "" }, []string{"-1eth", ""}},
		{"address each", func(p *Params) {
			p.NumValidators = 2
			p.WithdrawalAddresses = []string{burnAddress, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}
		}, []string{"-1eth", ""}},
		{"low threshold", func(p *Params) { p.Threshold, p.AllowLowThreshold = 2, true }, []string{"-1eth", ""}},
		{"name with odd letters", func(p *Params) { p.Name = `<a href="x">&'☃` }, []string{"-1eth", ""}},
		{"chiado", func(p *Params) { p.Network = "chiado" }, []string{"-1eth", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := testParams(filepath.Join(t.TempDir(), "a", "b"))
			tt.change(&p)
			res, err := Run(t.Context(), p, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, name := range list(t, filepath.Join(res.Dir, "node0")) {
				if rest, ok := strings.CutPrefix(name, "deposit-data"); ok {
					got = append(got, strings.TrimSuffix(rest, ".json"))
				}
			}
			if !slices.Equal(got, tt.amounts) {
				t.Errorf("deposit files %q, want %q", got, tt.amounts)
			}
			if r := mustVerify(t, res.Dir); !r.OK() {
				t.Errorf("failed %v", failedIDs(r))
			}
		})
	}
}

func TestProblems(t *testing.T) {
	many := make([]string, 3)
	for i := range many {
		many[i] = burnAddress
	}
	tests := []struct {
		name   string
		change func(*Params)
		fields []string
	}{
		{"none", func(*Params) {}, nil},
		{"everything missing", func(p *Params) { *p = Params{} }, []string{"cluster-dir", "nodes", "num-validators", "withdrawal-addresses", "fee-recipient-addresses", "network"}},
		{"two nodes", func(p *Params) { p.Nodes = 2 }, []string{"nodes"}},
		{"negative nodes", func(p *Params) { p.Nodes = -1 }, []string{"nodes"}},
		{"too many nodes", func(p *Params) { p.Nodes = 257 }, []string{"nodes"}},
		{"threshold 1", func(p *Params) { p.Threshold, p.AllowLowThreshold = 1, true }, []string{"threshold"}},
		{"threshold negative", func(p *Params) { p.Threshold = -2 }, []string{"threshold"}},
		{"threshold above n", func(p *Params) { p.Threshold = 5 }, []string{"threshold"}},
		{"low threshold", func(p *Params) { p.Threshold = 2 }, []string{"threshold"}},
		{"no validators", func(p *Params) { p.NumValidators = 0 }, []string{"num-validators"}},
		{"lock too large", func(p *Params) { p.NumValidators, p.Nodes = 65536, 10 }, []string{"num-validators"}},
		{"addresses of two", func(p *Params) { p.NumValidators, p.WithdrawalAddresses = 2, many }, []string{"withdrawal-addresses"}},
		{"bad address", func(p *Params) { p.FeeRecipientAddresses = []string{"0x1234"} }, []string{"fee-recipient-addresses"}},
		{"bad checksum", func(p *Params) { p.WithdrawalAddresses = []string{"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed"} }, []string{"withdrawal-addresses"}},
		{"empty address", func(p *Params) { p.WithdrawalAddresses = []string{""} }, []string{"withdrawal-addresses"}},
		{"holesky", func(p *Params) { p.Network = "holesky" }, []string{"network"}},
		{"goerli", func(p *Params) { p.Network = "goerli" }, []string{"network"}},
		{"insecure on mainnet", func(p *Params) { p.Network = "mainnet" }, []string{"insecure-keys"}},
		{"insecure on gnosis", func(p *Params) { p.Network = "gnosis" }, []string{"insecure-keys"}},
		{"long name", func(p *Params) { p.Name = strings.Repeat("x", 257) }, []string{"name"}},
		{"name with escapes", func(p *Params) { p.Name = "a\x1b[2Jb" }, []string{"name"}},
		{"amount 0", func(p *Params) { p.DepositAmounts = []uint64{0, 32} }, []string{"deposit-amounts"}},
		{"amount 33", func(p *Params) { p.DepositAmounts = []uint64{33} }, []string{"deposit-amounts"}},
		{"amount huge", func(p *Params) { p.DepositAmounts, p.Compounding = []uint64{1 << 63}, true }, []string{"deposit-amounts"}},
		{"amounts too small", func(p *Params) { p.DepositAmounts = []uint64{16, 8} }, []string{"deposit-amounts"}},
		{"protocol", func(p *Params) { p.ConsensusProtocol = "raft" }, []string{"consensus-protocol"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := testParams(filepath.Join(t.TempDir(), "c"))
			tt.change(&p)
			var fields []string
			for _, problem := range p.Problems() {
				fields = append(fields, problem.Field)
				if problem.Cause == "" || problem.Remedy == "" || strings.Contains(problem.String(), "\n") || len(problem.String()) > 300 {
					t.Errorf("problem %+v", problem)
				}
			}
			if !slices.Equal(fields, tt.fields) {
				t.Errorf("fields %q, want %q", fields, tt.fields)
			}
			if len(tt.fields) > 0 {
				if _, err := Run(t.Context(), p, nil); KindOf(err) != KindUsage {
					t.Errorf("run: %v", err)
				}
				if _, err := Plan(t.Context(), p); KindOf(err) != KindUsage {
					t.Errorf("plan: %v", err)
				}
			}
		})
	}
}

func TestTargets(t *testing.T) {
	base := t.TempDir()
	join := func(parts ...string) string { return filepath.Join(append([]string{base}, parts...)...) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(join("empty"), 0o755))
	must(os.MkdirAll(join("full", "x"), 0o755))
	must(os.MkdirAll(join("cluster", "node0"), 0o755))
	must(os.WriteFile(join("cluster", "node0", LockFileName), nil, 0o600))
	must(os.WriteFile(join("file"), nil, 0o600))
	must(os.Symlink(join("empty"), join("link")))
	must(os.Symlink(join("nowhere"), join("dangling")))
	for _, tt := range []struct {
		dir  string
		want Kind
		text string
	}{
		{join("full"), KindExists, "not empty"},
		{join("cluster"), KindExists, "holds a cluster already"},
		{join("file"), KindExists, "a file stands there"},
		{join("file", "below"), KindUsage, "a file stands where"},
		{join("link"), KindUsage, "symbolic link"},
		{join("dangling"), KindUsage, "symbolic link"},
		{join("dangling", "below"), KindUsage, "symbolic link"},
		{"/", KindUsage, "root directory"},
		{join(tempPrefix + "0123456789abcdef"), KindUsage, "runs in progress"},
		{"/proc/provost-test", KindNotAllowed + "|" + KindUnexpected + "|" + KindUsage, ""},
	} {
		for name, err := range map[string]error{"plan": func() error { _, err := Plan(t.Context(), testParams(tt.dir)); return err }(), "run": func() error { _, err := Run(t.Context(), testParams(tt.dir), nil); return err }()} {
			if name == "plan" && strings.HasPrefix(tt.dir, "/proc") {
				continue // only trying tells
			}
			if err == nil || !strings.Contains(string(tt.want), string(KindOf(err))) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %s: %s %v, want %s %q", name, tt.dir, KindOf(err), err, tt.want, tt.text)
			}
		}
	}
	if got := list(t, base); !slices.Equal(got, []string{"cluster", "dangling", "empty", "file", "full", "link"}) {
		t.Errorf("left behind: %q", got)
	}
	// An empty directory is fine, and so is one below a link.
	for _, dir := range []string{join("empty"), join("link2", "x")} {
		if strings.Contains(dir, "link2") {
			must(os.Symlink(join("full"), join("link2")))
			must(os.RemoveAll(join("full", "x")))
		}
		if _, err := Run(t.Context(), testParams(dir), nil); err != nil {
			t.Errorf("%s: %v", dir, err)
		} else if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v", dir, info.Mode())
		}
	}
	t.Chdir(t.TempDir())
	if _, err := Run(t.Context(), testParams("."), nil); KindOf(err) != KindUsage || !strings.Contains(err.Error(), "current directory") {
		t.Errorf("current directory: %v", err)
	}
}

func TestUnwritable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; TestReadOnlyAndFull covers a read-only file system")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), testParams(filepath.Join(dir, "c")), nil)
	if KindOf(err) != KindNotAllowed {
		t.Errorf("%v", err)
	}
}

// A cancelled run leaves nothing, at whatever step it was.
func TestCancel(t *testing.T) {
	total := 4*3 + 3
	for stop := range total {
		base := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		if stop == 0 {
			cancel()
		}
		_, err := Run(ctx, testParams(filepath.Join(base, "new", "c")), func(done, _ int, _ string) {
			if done == stop {
				cancel()
			}
		})
		cancel()
		if err == nil && stop < total-1 {
			t.Errorf("step %d: no error", stop)
		}
		if err != nil && KindOf(err) != KindCancelled {
			t.Errorf("step %d: %v", stop, err)
		}
		if left := list(t, base); err != nil && len(left) != 0 {
			t.Errorf("step %d: left behind %q", stop, left)
		}
	}
}

// TestKilled kills a run at random moments. At the target there is nothing or a whole cluster, and
// the next run succeeds and removes what was left.
func TestKilled(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	base := t.TempDir()
	whole, nothing, leftBehind := 0, 0, 0
	for round := range 30 {
		dir := filepath.Join(base, fmt.Sprint(round), "c")
		if err := os.Mkdir(filepath.Dir(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		steps, wait := rng.IntN(4*3+3), 3000
		if round%3 == 2 {
			steps, wait = 4*3+2, 5000 // around the rename
		}
		lines := bufio.NewScanner(out)
		for range steps {
			if !lines.Scan() {
				break
			}
		}
		time.Sleep(time.Duration(rng.IntN(wait)) * time.Microsecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		parent := filepath.Dir(dir)
		for _, name := range list(t, parent) {
			if name != "c" && !strings.HasPrefix(name, tempPrefix) {
				t.Errorf("round %d: %q", round, name)
			}
			if name != "c" {
				leftBehind++
			}
		}
		if _, err := os.Lstat(dir); err == nil {
			whole++
			if r := mustVerify(t, dir); !r.OK() {
				t.Errorf("round %d: a cluster is at the target that doesn't verify: %v", round, failedIDs(r))
			}
		} else {
			nothing++
		}
		again := testParams(filepath.Join(parent, "d"))
		if _, err := Run(t.Context(), again, nil); err != nil {
			t.Errorf("round %d: the next run: %v", round, err)
		}
		for _, name := range list(t, parent) {
			if strings.HasPrefix(name, tempPrefix) {
				t.Errorf("round %d: the next run left %q", round, name)
			}
		}
	}
	t.Logf("after 30 kills: %d whole clusters, %d times nothing, %d leftovers", whole, nothing, leftBehind)
	if nothing == 0 || leftBehind == 0 {
		t.Error("no run was killed on the way: the test shows nothing")
	}
}

// A run must not touch what another live run beside it is writing.
func TestLiveRunIsLeftAlone(t *testing.T) {
	base := t.TempDir()
	target, err := checkTarget(filepath.Join(base, "a"))
	if err != nil {
		t.Fatal(err)
	}
	live, err := newStage(target)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(live.dir, "key"), []byte("secret"), 0o400); err != nil {
		t.Fatal(err)
	}
	// What is not ours or no directory of ours is left alone as well.
	if err := os.Symlink("/etc", filepath.Join(base, tempPrefix+"0000000000000000")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(base, tempPrefix+"mine"), 0o700); err != nil {
		t.Fatal(err)
	}
	res, err := Run(t.Context(), testParams(filepath.Join(base, "b")), nil)
	if err != nil || len(res.Wiped) != 0 {
		t.Fatal(err, res.Wiped)
	}
	if _, err := os.Stat(filepath.Join(live.dir, "key")); err != nil {
		t.Error(err)
	}
	if len(list(t, base)) != 5 {
		t.Errorf("found %q", list(t, base))
	}
	// Its process dies: the lock goes, and the next run wipes.
	_ = live.lock.Close()
	plan, err := Plan(t.Context(), testParams(filepath.Join(base, "c")))
	if err != nil || !slices.Equal(plan.Leftovers, []string{live.dir}) {
		t.Errorf("plan: %v %v", plan.Leftovers, err)
	}
	linked := filepath.Join(base, "other-name")
	if err := os.Link(filepath.Join(live.dir, "key"), linked); err != nil {
		t.Fatal(err)
	}
	res, err = Run(t.Context(), testParams(filepath.Join(base, "c")), nil)
	if err != nil || !slices.Equal(res.Wiped, []string{live.dir}) {
		t.Errorf("%v %v", res.Wiped, err)
	}
	if raw, err := os.ReadFile(linked); err != nil || !bytes.Equal(raw, make([]byte, 6)) {
		t.Errorf("the secret was removed but not overwritten: %q %v", raw, err)
	}
}

// Two runs to one target: exactly one wins.
func TestRace(t *testing.T) {
	base := t.TempDir()
	errs := make(chan error)
	for range 4 {
		go func() {
			_, err := Run(t.Context(), testParams(filepath.Join(base, "c")), nil)
			errs <- err
		}()
	}
	won := 0
	for range 4 {
		if err := <-errs; err == nil {
			won++
		} else if KindOf(err) != KindExists {
			t.Errorf("%v", err)
		}
	}
	if won != 1 || !slices.Equal(list(t, base), []string{"c"}) {
		t.Errorf("%d runs won, found %q", won, list(t, base))
	}
	if r := mustVerify(t, filepath.Join(base, "c")); !r.OK() {
		t.Errorf("failed %v", failedIDs(r))
	}
}

// privateShares opens all keystores of a validator.
func privateShares(t *testing.T, dir string, nodes, validator int) []bls.SecretKey {
	t.Helper()
	var out []bls.SecretKey
	for n := range nodes {
		name := filepath.Join(dir, nodeDirName(n), keysDirName, keystore.FileName(validator, keystore.Insecure))
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		ks, err := keystore.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		raw, err = os.ReadFile(keystore.PasswordFileName(name))
		if err != nil {
			t.Fatal(err)
		}
		password, err := keystore.ParsePassword(raw)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ks.Decrypt(t.Context(), password)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, key)
	}
	return out
}

// Any threshold of the written shares gives the validator key, one less never does.
func TestAnyThresholdOfWrittenShares(t *testing.T) {
	p := testParams(filepath.Join(t.TempDir(), "c"))
	p.Nodes, p.Threshold = 5, 4
	res, err := Run(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	for v, want := range res.Validators {
		shares := privateShares(t, res.Dir, 5, v)
		for mask := range 1 << 5 {
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
			if got, _ := key.PubKey(); (got == want) != (len(some) >= 4) {
				t.Errorf("validator %d: %d shares (%05b) recover: %v", v, len(some), mask, got == want)
			}
		}
	}
}

// No secret may be in anything that is told.
func TestNoSecretIsTold(t *testing.T) {
	p := testParams(filepath.Join(t.TempDir(), "c"))
	var told bytes.Buffer
	plan, err := Plan(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	res, err := Run(t.Context(), p, func(done, total int, what string) { fmt.Fprintln(&told, done, total, what) })
	if err != nil {
		t.Fatal(err)
	}
	var secrets []string
	for n := range 4 {
		raw, err := os.ReadFile(filepath.Join(res.Dir, nodeDirName(n), enr.KeyFileName))
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, string(raw))
	}
	for v := range 3 {
		shares := privateShares(t, res.Dir, 4, v)
		whole, err := bls.RecoverSecret(map[cluster.ShareIndex]bls.SecretKey{1: shares[0], 2: shares[1], 3: shares[2]})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range append(shares, whole) {
			raw, err := k.Export()
			if err != nil {
				t.Fatal(err)
			}
			secrets = append(secrets, hex.EncodeToString(raw))
		}
		raw, err := os.ReadFile(filepath.Join(res.Dir, "node1", keysDirName, fmt.Sprintf("keystore-insecure-%d.txt", v)))
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, string(raw))
	}
	report := mustVerify(t, res.Dir)
	// Mixed-up secrets make errors; they must not repeat them.
	damaged := copyTree(t, res.Dir)
	for _, swap := range [][2]string{{"node1/validator_keys/keystore-insecure-0.txt", "node2/validator_keys/keystore-insecure-0.txt"}, {"node1/" + enr.KeyFileName, "node2/validator_keys/keystore-insecure-1.txt"}} {
		raw, err := os.ReadFile(filepath.Join(damaged, swap[1]))
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, string(raw))
		if err := os.WriteFile(filepath.Join(damaged, swap[0]), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bad := mustVerify(t, damaged)
	if bad.OK() {
		t.Error("the damage wasn't noticed")
	}
	for _, x := range []any{plan, res, report, bad} {
		raw, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		told.Write(raw)
		fmt.Fprintf(&told, "%v %+v %#v", x, x, x)
	}
	for _, s := range secrets {
		if len(s) < 32 {
			t.Fatalf("a secret of %d characters", len(s))
		}
		if strings.Contains(told.String(), s) || strings.Contains(told.String(), strings.ToUpper(s)) {
			t.Error("a secret was told")
		}
	}
	if len(secrets) < 20 {
		t.Errorf("only %d secrets were looked for", len(secrets))
	}
}

func TestReportJSON(t *testing.T) {
	raw, err := json.Marshal(mustVerify(t, "testdata/v1.10.0"))
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Schema     string  `json:"schema"`
		LockHash   string  `json:"lock_hash"`
		Network    *string `json:"network"`
		Validators *int    `json:"validators"`
	}
	if err := json.Unmarshal(raw, &r); err != nil || r.Schema != "provost.verify/1" || !strings.HasPrefix(r.LockHash, "0x") || *r.Network != "hoodi" || *r.Validators != 2 {
		t.Errorf("%+v %v", r, err)
	}
	path := filepath.Join(t.TempDir(), "lock.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := mustVerify(t, path)
	raw, err = json.Marshal(bad)
	if err != nil || bad.OK() || !bytes.Contains(raw, []byte(`"lock_hash":null`)) || !bytes.Contains(raw, []byte(`"nodes":null`)) {
		t.Errorf("%s %v", raw, err)
	}
}

func BenchmarkRunInsecure(b *testing.B) {
	p := testParams("")
	p.NumValidators = 50
	base := b.TempDir()
	for i := 0; b.Loop(); i++ {
		p.Dir = filepath.Join(base, fmt.Sprint(i))
		if _, err := Run(b.Context(), p, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyLock(b *testing.B) {
	p := testParams(filepath.Join(b.TempDir(), "c"))
	p.NumValidators = 100
	res, err := Run(b.Context(), p, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(p.NumValidators), "validators/op")
	for b.Loop() {
		r, err := Verify(b.Context(), filepath.Join(res.Dir, "node0", LockFileName), Options{})
		if err != nil || !r.OK() {
			b.Fatal(err, failedIDs(r))
		}
	}
}
