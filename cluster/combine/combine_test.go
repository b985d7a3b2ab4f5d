package combine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/create"
	"app.provost/cluster/guard"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/fence"
	"app.provost/cluster/internal/keystore"
)

const fixtures = "../../../shared/fixtures/charon-clusters"

var gvr = cluster.Root{0x21, 0x22}

// doors are those of the hall.
func doors() Options {
	return Options{
		VerifyLock: func(ctx context.Context, path string) error {
			r, err := create.Verify(ctx, path, create.Options{})
			if err == nil && !r.OK() {
				err = fmt.Errorf("%s: %s", r.Failures()[0].ID, r.Failures()[0].Problem)
			}
			return err
		},
		History: func(dir string) (*History, error) {
			c, err := guard.Read(filepath.Join(dir, "provost"))
			var e *guard.Error
			switch {
			case errors.As(err, &e) && e.Code == guard.CodeMissing:
				return nil, nil
			case errors.As(err, &e) && e.Code == guard.CodeLocked:
				return nil, fmt.Errorf("%w: %w", ErrInUse, err)
			case err != nil:
				return nil, err
			}
			h := &History{GenesisValidatorsRoot: c.GenesisValidatorsRoot, Marks: map[cluster.PubKey]Marks{}}
			for k, m := range c.Marks {
				h.Marks[k] = Marks(m)
			}
			return h, nil
		},
		WriteHistory: func(to io.Writer, h History) error {
			m := map[cluster.PubKey]guard.Marks{}
			for k, v := range h.Marks {
				m[k] = guard.Marks(v)
			}
			return guard.WriteMarks(to, h.GenesisValidatorsRoot, m)
		},
	}
}

func makeCluster(t testing.TB, nodes, threshold, validators int) create.Result {
	t.Helper()
	p := create.Defaults()
	p.Dir, p.Nodes, p.Threshold, p.NumValidators = filepath.Join(t.TempDir(), "c"), nodes, threshold, validators
	p.Network, p.InsecureKeys, p.AllowLowThreshold = "hoodi", true, true
	p.WithdrawalAddresses = []string{"0x000000000000000000000000000000000000dead"}
	p.FeeRecipientAddresses = p.WithdrawalAddresses
	res, err := create.Run(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func nodeDir(c create.Result, i int) string { return filepath.Join(c.Dir, fmt.Sprintf("node%d", i)) }

// signed gives a node slashing protection with marks.
func signed(t testing.TB, dir string, root cluster.Root, marks map[cluster.PubKey]guard.Marks) {
	t.Helper()
	g := openGuard(t, dir, root, true)
	if err := g.Raise(t.Context(), marks); err != nil {
		t.Fatal(err)
	}
	g.Close()
}

func openGuard(t testing.TB, dir string, root cluster.Root, make bool) *guard.Guard {
	t.Helper()
	g, err := guard.Open(guard.Options{Dir: filepath.Join(dir, "provost"), GenesisValidatorsRoot: root, Create: make,
		Clock: cluster.SlotClock{Genesis: time.Unix(1700000000, 0), SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func vote(s, t cluster.Epoch, slot cluster.Slot) guard.Marks {
	return guard.Marks{HasAttestation: true, Source: s, Target: t, HasBlock: slot > 0, Slot: slot}
}

// ran is a cluster of four of whose nodes each knows something that no other does.
func ran(t testing.TB) create.Result {
	c := makeCluster(t, 4, 3, 2)
	a, b := c.Validators[0], c.Validators[1]
	for i, m := range []map[cluster.PubKey]guard.Marks{
		{a: vote(10, 11, 0), b: vote(9, 10, 333)},
		{a: vote(9, 12, 350), b: vote(8, 9, 0)},
		{a: vote(11, 12, 349), b: vote(10, 11, 0)},
		{a: vote(5, 13, 0), b: vote(5, 6, 340)},
	} {
		signed(t, nodeDir(c, i), gvr, m)
	}
	return c
}

// keys opens what was written, and checks it against the lock.
func keys(t testing.TB, out string, want []cluster.PubKey) {
	t.Helper()
	for v, pub := range want {
		name := filepath.Join(out, fmt.Sprintf("keystore-%d", v))
		raw, err := os.ReadFile(name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		ks, err := keystore.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(name + ".txt")
		password, err := keystore.ParsePassword(text)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ks.Decrypt(t.Context(), password)
		if err != nil || ks.PubKey != pub || ks.Strength != keystore.Full {
			t.Fatalf("validator %d: %v, key of %s, %s", v, err, ks.PubKey, ks.Strength)
		}
		sig, err := key.Sign([]byte("x"))
		if err != nil || bls.Verify(pub, []byte("x"), sig) != nil {
			t.Errorf("validator %d: the key signs wrongly", v)
		}
	}
}

func TestEveryThreeOfFourNodes(t *testing.T) {
	c := ran(t)
	max4 := map[cluster.PubKey]guard.Marks{c.Validators[0]: vote(11, 13, 350), c.Validators[1]: vote(10, 11, 340)}
	for _, set := range []struct {
		nodes []int
		want  map[cluster.PubKey]guard.Marks
	}{
		{[]int{0, 1, 2}, map[cluster.PubKey]guard.Marks{c.Validators[0]: vote(11, 12, 350), c.Validators[1]: vote(10, 11, 333)}},
		{[]int{3, 1, 0}, map[cluster.PubKey]guard.Marks{c.Validators[0]: vote(10, 13, 350), c.Validators[1]: vote(9, 10, 340)}},
		{[]int{0, 2, 3}, map[cluster.PubKey]guard.Marks{c.Validators[0]: vote(11, 13, 349), c.Validators[1]: vote(10, 11, 340)}},
		{[]int{1, 2, 3}, map[cluster.PubKey]guard.Marks{c.Validators[0]: vote(11, 13, 350), c.Validators[1]: vote(10, 11, 340)}},
		{[]int{0, 1, 2, 3}, max4},
	} {
		t.Run(fmt.Sprint(set.nodes), func(t *testing.T) {
			t.Parallel()
			p := Params{OutputDir: filepath.Join(t.TempDir(), "keys")}
			for _, i := range set.nodes {
				p.Dirs = append(p.Dirs, nodeDir(c, i))
			}
			if len(set.nodes) == 4 {
				p.Dirs, p.ClusterDir = p.Dirs[:1], c.Dir // the same twice counts once
			}
			plan, err := Plan(t.Context(), p, doors())
			if err != nil {
				t.Fatal(err)
			}
			o := doors()
			last := 0
			o.Progress = func(done, total int, _ string) {
				if last++; done != last || total != 2*(len(set.nodes)+1) {
					t.Errorf("step %d of %d after %d", done, total, last-1)
				}
			}
			out, err := Run(t.Context(), p, o)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(out) != fmt.Sprint(plan) && (len(out.Gaps) > 0 || len(out.Files) != len(plan.Files)) {
				t.Errorf("done:    %+v\nplanned: %+v", out, plan)
			}
			keys(t, out.Dir, c.Validators)
			var got []string
			for _, f := range out.Files {
				info, err := os.Stat(filepath.Join(out.Dir, f.Name))
				if err != nil || info.Mode() != f.Mode {
					t.Errorf("%s: %v, %v", f.Name, info.Mode(), err)
				}
				got = append(got, f.Name)
			}
			if want := []string{"keystore-0.json", "keystore-0.txt", "keystore-1.json", "keystore-1.txt", "slashing-protection.json"}; !slices.Equal(got, want) {
				t.Errorf("files %v", got)
			}
			if all, _ := os.ReadDir(out.Dir); len(all) != len(got) {
				t.Errorf("there are %d files", len(all))
			}
			history(t, filepath.Join(out.Dir, HistoryName), set.want)
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out.Dir), ".provost-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// history imports a file as a validator client does, and sees that it knows the highest marks and
// refuses what they forbid.
func history(t *testing.T, path string, want map[cluster.PubKey]guard.Marks) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Metadata struct {
			Version string       `json:"interchange_format_version"`
			Root    cluster.Root `json:"genesis_validators_root"`
		} `json:"metadata"`
		Data []struct {
			Key    cluster.PubKey      `json:"pubkey"`
			Blocks []map[string]string `json:"signed_blocks"`
			Votes  []map[string]string `json:"signed_attestations"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &file); err != nil || file.Metadata.Version != "5" || file.Metadata.Root != gvr || len(file.Data) != len(want) {
		t.Fatalf("%v\n%s", err, raw)
	}
	g := openGuard(t, t.TempDir(), gvr, true)
	if _, err := g.Import(t.Context(), bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	for k, m := range want {
		if got, known, _ := g.Marks(t.Context(), k); !known || got != m {
			t.Errorf("%s: %+v, want %+v", k, got, m)
		}
		for _, a := range []guard.Attestation{{Key: k, Source: m.Source, Target: m.Target, Root: cluster.Root{1}}, {Key: k, Source: m.Source - 1, Target: m.Target + 1, Root: cluster.Root{1}}} {
			if out, err := g.Check(t.Context(), guard.Batch{Attestations: []guard.Attestation{a}}); err != nil || out.Attestations[0].OK() {
				t.Errorf("%+v would be signed: %v", a, err)
			}
		}
		next := guard.Batch{Attestations: []guard.Attestation{{Key: k, Source: m.Source, Target: m.Target + 1, Root: cluster.Root{1}}}, Blocks: []guard.Block{{Key: k, Slot: m.Slot, Root: cluster.Root{1}}}}
		if out, err := g.Check(t.Context(), next); err != nil || !out.Attestations[0].OK() || out.Blocks[0].OK() == m.HasBlock {
			t.Errorf("%+v, %v", out, err)
		}
	}
}

func code(t *testing.T, err error, want Code, says ...string) {
	t.Helper()
	if CodeOf(err) != want {
		t.Fatalf("%v, want %s", err, want)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

func TestRefusals(t *testing.T) {
	c := ran(t)
	other := ran(t)
	dirs := func(list ...int) (out []string) {
		for _, i := range list {
			out = append(out, nodeDir(c, i))
		}
		return out
	}
	// broken is a copy of a node with one change.
	broken := func(t *testing.T, i int, change func(dir string)) string {
		dir := filepath.Join(t.TempDir(), "node")
		if err := os.CopyFS(dir, os.DirFS(nodeDir(c, i))); err != nil {
			t.Fatal(err)
		}
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, _ error) error {
			if !d.IsDir() {
				os.Chmod(path, 0o600)
			}
			return nil
		})
		change(dir)
		return dir
	}
	write := func(t *testing.T, path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	edit := func(t *testing.T, path, from, to string) {
		raw, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(raw), from) {
			t.Fatal(err)
		}
		write(t, path, strings.Replace(string(raw), from, to, 1))
	}
	swap := func(t *testing.T, a, b string) {
		x, _ := os.ReadFile(a)
		y, _ := os.ReadFile(b)
		write(t, a, string(y))
		write(t, b, string(x))
	}
	for name, tc := range map[string]struct {
		dirs func(t *testing.T) []string
		code Code
		says []string
	}{
		"two nodes": {func(*testing.T) []string { return dirs(0, 2) }, CodeFew, []string{"2 nodes are given, and 3 of 4 are needed", "ask 1 more of the operators"}},
		"one node":  {func(*testing.T) []string { return dirs(0) }, CodeFew, []string{"1 node is given", "ask 2 more"}},
		"one node three times": {func(t *testing.T) []string {
			return append(dirs(0, 0, 0), broken(t, 0, func(string) {}))
		}, CodeForeign, []string{"same node 0"}},
		"another cluster's": {func(*testing.T) []string { return append(dirs(0, 1), nodeDir(other, 2)) }, CodeForeign, []string{"different clusters"}},
		"no such directory": {func(*testing.T) []string { return append(dirs(0, 1), "/nowhere") }, CodeParams, []string{"/nowhere"}},
		"no node":           {func(t *testing.T) []string { return append(dirs(0, 1), t.TempDir()) }, CodeUnread, []string{"cluster-lock.json"}},
		"lock changed": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) { edit(t, filepath.Join(d, lockName), `"threshold": 3`, `"threshold": 2`) }))
		}, CodeBroken, []string{"lock_hash"}},
		"share missing": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) { os.Remove(filepath.Join(d, keysName, "keystore-insecure-1.json")) }))
		}, CodeBroken, []string{"share of validator 1", "is missing"}},
		"share of another node": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) {
				for _, end := range []string{".json", ".txt"} {
					raw, _ := os.ReadFile(filepath.Join(nodeDir(c, 3), keysName, "keystore-insecure-1"+end))
					write(t, filepath.Join(d, keysName, "keystore-insecure-1"+end), string(raw))
				}
			}))
		}, CodeBroken, []string{"share of node 3", "node 2"}},
		"wrong password, named among four": {func(t *testing.T) []string {
			return append(dirs(0, 1, 3), broken(t, 2, func(d string) { write(t, filepath.Join(d, keysName, "keystore-insecure-0.txt"), "wrong") }))
		}, CodeBroken, []string{"node/validator_keys/keystore-insecure-0.json", "leave this directory out"}},
		"keystore says another share": {func(t *testing.T) []string {
			return append(dirs(0, 1, 3), broken(t, 2, func(d string) {
				k := filepath.Join(d, keysName, "keystore-insecure-0")
				l := filepath.Join(d, keysName, "keystore-insecure-1")
				swap(t, k+".txt", l+".txt")
			}))
		}, CodeBroken, []string{"keystore-insecure-"}},
		"running": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) {
				write(t, filepath.Join(d, "charon-enr-private-key.lock"), fmt.Sprintf(`{"timestamp":%q,"command":"charon run","cluster_lock_hash":"x"}`, time.Now().Format(time.RFC3339Nano)))
			}))
		}, CodeRunning, []string{"charon run", "stop it first"}},
		"its protection is open": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) { openGuard(t, d, gvr, false) }))
		}, CodeRunning, []string{"stop the node"}},
		"moved away": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) { fence.Write(d, fence.Note{Kind: fence.Moved, Finished: true}) }))
		}, CodeMoved, []string{"node 2", "ran last"}},
		"no history": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) { os.RemoveAll(filepath.Join(d, "provost")) }))
		}, CodeHistory, []string{"node 2", "as in a directory that Charon runs", `--no-slashing-history="` + Phrase(c.LockHash)}},
		"no history, and the others are enough": {func(t *testing.T) []string {
			return append(dirs(0, 1, 3), broken(t, 2, func(d string) { os.RemoveAll(filepath.Join(d, "provost")) }))
		}, CodeHistory, []string{"leave out /", "the others are enough"}},
		"history damaged": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) { write(t, filepath.Join(d, "provost/guard.db"), strings.Repeat("x", 9000)) }))
		}, CodeHistory, []string{"node 2"}},
		"a copy that was never started": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) { fence.Write(d, fence.Note{Kind: fence.Restored, Copy: time.Unix(1790000000, 0)}) }))
		}, CodeHistory, []string{"copy of 2026-"}},
		"history of another chain": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) {
				os.RemoveAll(filepath.Join(d, "provost"))
				signed(t, d, cluster.Root{9}, map[cluster.PubKey]guard.Marks{c.Validators[0]: {}, c.Validators[1]: {}})
			}))
		}, CodeForeign, []string{"genesis validators root"}},
		"history of other keys": {func(t *testing.T) []string {
			return append(dirs(0, 1), broken(t, 2, func(d string) {
				os.RemoveAll(filepath.Join(d, "provost"))
				signed(t, d, gvr, map[cluster.PubKey]guard.Marks{c.Validators[0]: {}})
			}))
		}, CodeHistory, []string{"doesn't know validator " + c.Validators[1].String()}},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			p := Params{Dirs: tc.dirs(t), OutputDir: filepath.Join(parent, "keys")}
			_, err := Run(t.Context(), p, doors())
			code(t, err, tc.code, tc.says...)
			if left, _ := os.ReadDir(parent); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	t.Run("target taken", func(t *testing.T) {
		p := Params{Dirs: dirs(0, 1, 2), OutputDir: t.TempDir()}
		write(t, filepath.Join(p.OutputDir, "keystore-0.json"), "mine")
		_, err := Run(t.Context(), p, doors())
		code(t, err, CodeExists, "never overwritten")
		if b, _ := os.ReadFile(filepath.Join(p.OutputDir, "keystore-0.json")); string(b) != "mine" {
			t.Error("it was overwritten")
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		parent := t.TempDir()
		ctx, stop := context.WithCancel(t.Context())
		o := doors()
		o.Progress = func(done, _ int, _ string) {
			if done == 4 {
				stop()
			}
		}
		_, err := Run(ctx, Params{Dirs: dirs(0, 1, 2), OutputDir: filepath.Join(parent, "keys")}, o)
		code(t, err, CodeCancelled)
		if left, _ := os.ReadDir(parent); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("started meanwhile", func(t *testing.T) {
		dir := broken(t, 2, func(string) {})
		o := doors()
		o.Progress = func(done, total int, _ string) {
			if done == total {
				signed(t, dir, gvr, map[cluster.PubKey]guard.Marks{c.Validators[0]: vote(20, 21, 0)})
			}
		}
		_, err := Run(t.Context(), Params{Dirs: append(dirs(0, 1), dir), OutputDir: filepath.Join(t.TempDir(), "keys")}, o)
		code(t, err, CodeRunning, "signed while its keys were combined")
	})
}

// With a low threshold the nodes that sign need not be those whose history is given.
func TestLowThresholdNeedsMoreHistories(t *testing.T) {
	c := makeCluster(t, 4, 2, 1)
	for i := range 4 {
		signed(t, nodeDir(c, i), gvr, map[cluster.PubKey]guard.Marks{c.Validators[0]: vote(1, cluster.Epoch(i+2), 0)})
	}
	p := Params{Dirs: []string{nodeDir(c, 0), nodeDir(c, 1)}, OutputDir: filepath.Join(t.TempDir(), "keys")}
	_, err := Run(t.Context(), p, doors())
	code(t, err, CodeHistory, "histories of 3 of 4 nodes are needed")
	p.Dirs = append(p.Dirs, nodeDir(c, 3))
	if _, err := Run(t.Context(), p, doors()); err != nil {
		t.Fatal(err)
	}
	history(t, filepath.Join(p.OutputDir, HistoryName), map[cluster.PubKey]guard.Marks{c.Validators[0]: vote(1, 5, 0)})
}

// Only the very sentence makes keys without their history; what is known comes along under a name
// that doesn't promise more.
func TestTypedOut(t *testing.T) {
	c := makeCluster(t, 4, 3, 1)
	p := Params{ClusterDir: c.Dir, OutputDir: filepath.Join(t.TempDir(), "keys"), WithoutHistory: "yes"}
	_, err := Run(t.Context(), p, doors())
	code(t, err, CodeParams, `"yes" is not the sentence`, Phrase(c.LockHash))
	p.WithoutHistory = Phrase(cluster.Root{})
	_, err = Run(t.Context(), p, doors())
	code(t, err, CodeParams)
	p.WithoutHistory = Phrase(c.LockHash)
	out, err := Run(t.Context(), p, doors())
	if err != nil || len(out.Gaps) == 0 || out.History != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	keys(t, p.OutputDir, c.Validators)
	if all, _ := os.ReadDir(p.OutputDir); len(all) != 2 {
		t.Errorf("%v", all)
	}
	signed(t, nodeDir(c, 1), gvr, map[cluster.PubKey]guard.Marks{c.Validators[0]: vote(3, 4, 0)})
	p.OutputDir = filepath.Join(t.TempDir(), "keys")
	if out, err = Run(t.Context(), p, doors()); err != nil || len(out.Gaps) == 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	history(t, filepath.Join(p.OutputDir, PartHistoryName), map[cluster.PubKey]guard.Marks{c.Validators[0]: vote(3, 4, 0)})
	if _, err := os.Stat(filepath.Join(p.OutputDir, HistoryName)); err == nil {
		t.Error("an incomplete history has the name of a complete one")
	}
}

// Clusters that Charon made come out as their keys are, and as Charon itself combines them.
func TestDirectoriesOfCharon(t *testing.T) {
	for _, name := range []string{"hoodi-n4-t3-v2", "sepolia-n6-t5-v3", "hoodi-n4-t3-v1-compounding"} {
		t.Run(name, func(t *testing.T) {
			from := filepath.Join(fixtures, name)
			if _, err := os.Stat(from); err != nil {
				t.Skipf("clusters made by Charon are missing (%v): put them beside the checkout as shared/fixtures/charon-clusters", err)
			}
			raw, err := os.ReadFile(filepath.Join(from, "node0", lockName))
			if err != nil {
				t.Fatal(err)
			}
			var lock cluster.Lock
			if err := json.Unmarshal(raw, &lock); err != nil {
				t.Fatal(err)
			}
			p := Params{OutputDir: filepath.Join(t.TempDir(), "keys")}
			for i := range int(lock.Definition.Threshold) {
				p.Dirs = append(p.Dirs, filepath.Join(from, fmt.Sprintf("node%d", i+1)))
			}
			_, err = Run(t.Context(), p, doors())
			code(t, err, CodeHistory, "as in a directory that Charon runs")
			p.WithoutHistory = Phrase(lock.LockHash)
			if _, err := Run(t.Context(), p, doors()); err != nil {
				t.Fatal(err)
			}
			var want []cluster.PubKey
			for _, v := range lock.Validators {
				want = append(want, v.PubKey)
			}
			keys(t, p.OutputDir, want)
			sameAsCharon(t, from, p.OutputDir)
		})
	}
}

// sameAsCharon lets Charon combine the same nodes and compares the secrets.
func sameAsCharon(t *testing.T, from, ours string) {
	charon := os.Getenv("CHARON_BIN")
	if charon == "" {
		t.Log("not compared with Charon's own result: CHARON_BIN doesn't name a charon binary")
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	theirs := filepath.Join(t.TempDir(), "theirs")
	work := filepath.Join(t.TempDir(), "c")
	if err := os.CopyFS(work, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if raw, err := exec.CommandContext(ctx, charon, "combine", "--cluster-dir", work, "--output-dir", theirs).CombinedOutput(); err != nil {
		t.Fatalf("charon combine: %v\n%s", err, raw)
	}
	mine, err := os.ReadDir(ours)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range mine {
		if filepath.Ext(f.Name()) != ".json" {
			continue
		}
		a, b := secret(t, filepath.Join(ours, f.Name())), secret(t, filepath.Join(theirs, f.Name()))
		if !a.Equal(b) {
			t.Errorf("%s holds another key than Charon's", f.Name())
		}
	}
}

func secret(t *testing.T, path string) bls.SecretKey {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ks, err := keystore.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	k, err := openShare(t.Context(), path, ks.PubKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
