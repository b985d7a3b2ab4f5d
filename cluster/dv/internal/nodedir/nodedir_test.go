package nodedir

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app.provost/cluster"
	"app.provost/cluster/create"
	"app.provost/cluster/internal/enr"
)

// made makes a cluster of four nodes and two validators.
func made(t testing.TB, network string) string {
	t.Helper()
	p := create.Defaults()
	p.Dir = filepath.Join(t.TempDir(), "cluster")
	p.Nodes, p.NumValidators, p.Network = 4, 2, network
	if network == "mainnet" { // where keystores have their full cost
		p.Nodes, p.NumValidators = 3, 1
	}
	p.WithdrawalAddresses = []string{"0x000000000000000000000000000000000000bEEF"}
	p.FeeRecipientAddresses = p.WithdrawalAddresses
	p.InsecureKeys = network != "mainnet"
	if _, err := create.Run(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	return p.Dir
}

func TestOpen(t *testing.T) {
	dir := made(t, "hoodi")
	for n := range 4 {
		steps := 0
		d, err := Open(t.Context(), filepath.Join(dir, fmt.Sprintf("node%d", n)), Options{Progress: func(done, all int) {
			if steps++; done != steps || all != 2 {
				t.Errorf("progress %d of %d", done, all)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if d.Self != cluster.PeerIndex(n) || len(d.Shares) != 2 || len(d.NodeKeys) != 4 || !d.Insecure || len(d.Findings) != 0 {
			t.Errorf("node %d: %+v", n, d)
		}
		for i, v := range d.Lock.Validators {
			pub, err := d.Shares[v.PubKey].PubKey()
			if err != nil || pub != v.PublicShares[n] {
				t.Errorf("node %d holds another share of validator %d", n, i)
			}
		}
		d.Wipe()
		for _, k := range d.Shares {
			if _, err := k.PubKey(); err == nil {
				t.Error("a share was not wiped")
			}
		}
	}
}

// A node runs with a lock of every version of the format. The samples are of one set of keys.
func TestOpenEveryVersion(t *testing.T) {
	const sample = "../../../create/testdata/v1.10.0/node2"
	for _, version := range cluster.FormatVersions() {
		dir := filepath.Join(t.TempDir(), "node2")
		if err := os.CopyFS(dir, os.DirFS(sample)); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile("../../../testdata/locks/own/" + string(version) + ".json")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, create.LockFileName)
		if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, raw, 0o600)); err != nil {
			t.Fatal(err)
		}
		d, err := Open(t.Context(), dir, Options{})
		if err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		if d.Self != 2 || len(d.Shares) != 2 || d.Lock.Definition.Version != version {
			t.Errorf("%s: %+v", version, d)
		}
		d.Wipe()
		if !version.HasNodeSignatures() {
			continue
		}
		bad := bytes.Replace(raw, []byte(`"node_signatures": [`), []byte(`"node_signatures": ["0x00",`), 1)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), dir, Options{}); err == nil || !strings.Contains(err.Error(), "node_signatures") {
			t.Errorf("%s: a signature too many: %v", version, err)
		}
	}
}

// Directories that Charon made open as they are; their loose modes are noted.
func TestOpenCharonDirectories(t *testing.T) {
	root := "../../../../../shared/fixtures/charon-clusters"
	dirs, _ := filepath.Glob(filepath.Join(root, "*", "node*"))
	if len(dirs) == 0 {
		t.Skip("the fixtures of Charon's clusters are not here")
	}
	for _, dir := range dirs {
		d, err := Open(t.Context(), dir, Options{})
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		if want := strings.TrimPrefix(filepath.Base(dir), "node"); fmt.Sprint(int(d.Self)) != want || len(d.Shares) != len(d.Lock.Validators) {
			t.Errorf("%s is node %d with %d shares", dir, d.Self, len(d.Shares))
		}
		d.Wipe()
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(to)
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// editLock changes the lock of a node as a JSON tree.
func editLock(t *testing.T, node string, edit func(lock map[string]any)) {
	t.Helper()
	path := filepath.Join(node, LockName)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	edit(tree)
	if raw, err = json.Marshal(tree); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(path)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// rehash makes the hashes of a changed lock fit again, as a forger would.
func rehash(t *testing.T, node string) {
	t.Helper()
	path := filepath.Join(node, LockName)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lock := new(cluster.Lock)
	if err := json.Unmarshal(raw, lock); err != nil {
		t.Fatal(err)
	}
	for _, h := range []struct {
		into *cluster.Root
		fn   func() (cluster.Root, error)
	}{{&lock.Definition.ConfigHash, lock.Definition.ComputeConfigHash}, {&lock.Definition.DefinitionHash, lock.Definition.ComputeDefinitionHash}, {&lock.LockHash, lock.ComputeHash}} {
		if *h.into, err = h.fn(); err != nil {
			t.Fatal(err)
		}
	}
	if raw, err = lock.Encode(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Everything that is wrong with a directory has its code and a remedy, and no secret in its text.
func TestOpenRefuses(t *testing.T) {
	good, other := made(t, "hoodi"), made(t, "hoodi")
	keys := func(node string) string { return filepath.Join(node, KeysName) }
	validator := func(lock map[string]any, i int) map[string]any {
		return lock["distributed_validators"].([]any)[i].(map[string]any)
	}
	for name, x := range map[string]struct {
		code  Code
		spoil func(t *testing.T, node string)
	}{
		"no directory": {CodeMissing, func(t *testing.T, node string) { remove(t, node) }},
		"no lock":      {CodeLockMissing, func(t *testing.T, node string) { remove(t, filepath.Join(node, LockName)) }},
		"lock is no JSON": {CodeLockMalformed, func(t *testing.T, node string) {
			copyFile(t, filepath.Join(node, enr.KeyFileName), filepath.Join(node, LockName))
		}},
		"lock of a newer version": {CodeLockMalformed, func(t *testing.T, node string) {
			editLock(t, node, func(l map[string]any) { l["cluster_definition"].(map[string]any)["version"] = "v9.0.0" })
		}},
		"lock of another cluster": {CodeForeignLock, func(t *testing.T, node string) {
			copyFile(t, filepath.Join(other, "node1", LockName), filepath.Join(node, LockName))
		}},
		"key of another cluster": {CodeForeignLock, func(t *testing.T, node string) {
			copyFile(t, filepath.Join(other, "node1", enr.KeyFileName), filepath.Join(node, enr.KeyFileName))
		}},
		"key of another node": {CodeForeignShare, func(t *testing.T, node string) {
			copyFile(t, filepath.Join(good, "node2", enr.KeyFileName), filepath.Join(node, enr.KeyFileName))
		}},
		"no key": {CodeKeyMissing, func(t *testing.T, node string) { remove(t, filepath.Join(node, enr.KeyFileName)) }},
		"key is garbage": {CodeKeyMalformed, func(t *testing.T, node string) {
			copyFile(t, filepath.Join(keys(node), "keystore-insecure-0.txt"), filepath.Join(node, enr.KeyFileName))
		}},
		"threshold changed": {CodeLockTampered, func(t *testing.T, node string) {
			editLock(t, node, func(l map[string]any) { l["cluster_definition"].(map[string]any)["threshold"] = 2 })
		}},
		"threshold changed, hashes redone": {CodeLockTampered, func(t *testing.T, node string) {
			editLock(t, node, func(l map[string]any) { l["cluster_definition"].(map[string]any)["threshold"] = 2 })
			rehash(t, node)
		}},
		"fees changed, hashes redone": {CodeLockTampered, func(t *testing.T, node string) {
			thief := "0x00000000000000000000000000000000DeaDBeef"
			editLock(t, node, func(l map[string]any) {
				for i := range 2 {
					l["cluster_definition"].(map[string]any)["validators"].([]any)[i].(map[string]any)["fee_recipient_address"] = thief
					validator(l, i)["builder_registration"].(map[string]any)["message"].(map[string]any)["fee_recipient"] = thief
				}
			})
			rehash(t, node)
		}},
		"share exchanged": {CodeLockTampered, func(t *testing.T, node string) {
			editLock(t, node, func(l map[string]any) {
				s := validator(l, 0)["public_shares"].([]any)
				s[2], s[3] = s[3], s[2]
			})
			rehash(t, node)
		}},
		"a node did not sign": {CodeLockTampered, func(t *testing.T, node string) {
			editLock(t, node, func(l map[string]any) { s := l["node_signatures"].([]any); s[0] = s[1] })
		}},
		"signatures are missing": {CodeLockTampered, func(t *testing.T, node string) {
			editLock(t, node, func(l map[string]any) { l["node_signatures"] = []any{} })
		}},
		"no keystores":          {CodeShareMissing, func(t *testing.T, node string) { remove(t, keys(node)) }},
		"a keystore is missing": {CodeShareMissing, func(t *testing.T, node string) { remove(t, filepath.Join(keys(node), "keystore-insecure-1.json")) }},
		"a password is missing": {CodeShareUnreadable, func(t *testing.T, node string) { remove(t, filepath.Join(keys(node), "keystore-insecure-1.txt")) }},
		"the password is wrong": {CodeShareUnreadable, func(t *testing.T, node string) {
			copyFile(t, filepath.Join(keys(node), "keystore-insecure-0.txt"), filepath.Join(keys(node), "keystore-insecure-1.txt"))
		}},
		"a keystore is garbage": {CodeShareUnreadable, func(t *testing.T, node string) {
			copyFile(t, filepath.Join(node, LockName), filepath.Join(keys(node), "keystore-insecure-1.json"))
		}},
		"a keystore is a directory": {CodeShareUnreadable, func(t *testing.T, node string) {
			p := filepath.Join(keys(node), "keystore-insecure-1.json")
			remove(t, p)
			_ = os.Mkdir(p, 0o700)
		}},
		"share of another node": {CodeForeignShare, func(t *testing.T, node string) {
			for _, e := range []string{".json", ".txt"} {
				copyFile(t, filepath.Join(good, "node3", KeysName, "keystore-insecure-0"+e), filepath.Join(keys(node), "keystore-insecure-0"+e))
			}
		}},
		"share of another cluster": {CodeUnknownShare, func(t *testing.T, node string) {
			for _, e := range []string{".json", ".txt"} {
				copyFile(t, filepath.Join(other, "node1", KeysName, "keystore-insecure-0"+e), filepath.Join(keys(node), "keystore-insecure-0"+e))
			}
		}},
		"one share in two keystores": {CodeForeignShare, func(t *testing.T, node string) {
			for _, e := range []string{".json", ".txt"} {
				copyFile(t, filepath.Join(keys(node), "keystore-insecure-0"+e), filepath.Join(keys(node), "keystore-insecure-1"+e))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			node := filepath.Join(t.TempDir(), "node1")
			if err := os.CopyFS(node, os.DirFS(filepath.Join(good, "node1"))); err != nil {
				t.Fatal(err)
			}
			_ = filepath.WalkDir(node, func(path string, e fs.DirEntry, _ error) error {
				if e.IsDir() {
					return os.Chmod(path, 0o700)
				}
				return os.Chmod(path, 0o600)
			})
			x.spoil(t, node)
			d, err := Open(t.Context(), node, Options{})
			var e *Error
			if !errors.As(err, &e) || e.Code != x.code || d != nil {
				t.Fatalf("%v, want %s", err, x.code)
			}
			if e.Remedy == "" || e.Path == "" || !strings.HasPrefix(err.Error(), "open node directory: ") {
				t.Errorf("the error says too little: %v", err)
			}
			if raw, _ := os.ReadFile(filepath.Join(good, "node1", enr.KeyFileName)); len(raw) > 0 && strings.Contains(err.Error(), strings.TrimSpace(string(raw))) {
				t.Error("the error holds the key")
			}
		})
	}
}

func TestLooseModes(t *testing.T) {
	roots := map[string]string{"hoodi": made(t, "hoodi"), "mainnet": made(t, "mainnet")}
	for _, x := range []struct {
		network string
		allow   bool
		refused bool
	}{{"hoodi", false, false}, {"mainnet", false, true}, {"mainnet", true, false}} {
		dir := filepath.Join(roots[x.network], "node0")
		if err := os.Chmod(filepath.Join(dir, enr.KeyFileName), 0o644); err != nil {
			t.Fatal(err)
		}
		d, err := Open(t.Context(), dir, Options{AllowLooseModes: x.allow})
		var e *Error
		if x.refused {
			if !errors.As(err, &e) || e.Code != CodeLooseModes || !strings.Contains(e.Remedy, "chmod 0600 "+filepath.Join(dir, enr.KeyFileName)) {
				t.Errorf("%s: %v", x.network, err)
			}
			continue
		}
		if err != nil || len(d.Findings) != 1 || d.Findings[0].Code != CodeLooseModes {
			t.Errorf("%s, allowed %v: %v", x.network, x.allow, err)
		}
	}
}

func TestOpenEnds(t *testing.T) {
	dir := filepath.Join(made(t, "hoodi"), "node0")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the operator left")
	cancel(why)
	if _, err := Open(ctx, dir, Options{}); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

// The start of a node: a lock of that many validators is verified and the node's shares are opened,
// from keystores that cost nothing, so that what is measured is ours and not PBKDF2's.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{100, 1000} {
		p := create.Defaults()
		p.Dir = filepath.Join(b.TempDir(), "cluster")
		p.Nodes, p.NumValidators, p.Network, p.InsecureKeys = 4, n, "hoodi", true
		p.WithdrawalAddresses = []string{"0x000000000000000000000000000000000000bEEF"}
		p.FeeRecipientAddresses = p.WithdrawalAddresses
		if _, err := create.Run(b.Context(), p, nil); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for range b.N {
				d, err := Open(b.Context(), filepath.Join(p.Dir, "node0"), Options{})
				if err != nil {
					b.Fatal(err)
				}
				d.Wipe()
			}
		})
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"/a/b-0_c.d": "/a/b-0_c.d", "/a b": "'/a b'", "/it's": `'/it'\''s'`} {
		if got := quote(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
