package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/create"
	"app.provost/cluster/guard"
	"app.provost/cluster/internal/fence"
	"app.provost/cluster/internal/peer"

	"filippo.io/age"
)

var update = flag.Bool("update", false, "write the samples again")

var gvr = cluster.Root{0x21, 0x22}

// doors are those of the hall.
func doors() Options {
	return Options{
		Verify: func(ctx context.Context, dir string) error {
			r, err := create.Verify(ctx, dir, create.Options{})
			if err == nil && !r.OK() {
				err = fmt.Errorf("%s: %s", r.Failures()[0].ID, r.Failures()[0].Problem)
			}
			return err
		},
		CopyProtection: func(ctx context.Context, from, to string) error {
			err := guard.Copy(ctx, from, to)
			var e *guard.Error
			if errors.As(err, &e) && e.Code == guard.CodeMissing {
				return fmt.Errorf("%w: %w", ErrNoProtection, err)
			}
			return err
		},
		ReadProtection: func(dir string) (cluster.Root, error) {
			c, err := guard.Read(dir)
			return c.GenesisValidatorsRoot, err
		},
		Program: "provost test",
	}
}

func makeCluster(t testing.TB, dir string) create.Result {
	t.Helper()
	p := create.Defaults()
	p.Name, p.Dir, p.Nodes, p.NumValidators, p.Network, p.InsecureKeys = "mycluster", dir, 4, 2, "hoodi", true
	p.WithdrawalAddresses = []string{"0x000000000000000000000000000000000000dead"}
	p.FeeRecipientAddresses = p.WithdrawalAddresses
	res, err := create.Run(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// ran is the directory of a node that signed.
func ran(t testing.TB) (dir string, c create.Result) {
	t.Helper()
	c = makeCluster(t, filepath.Join(t.TempDir(), "c"))
	dir = filepath.Join(c.Dir, "node1")
	g := protect(t, dir, c)
	if _, err := g.CheckAndRecord(t.Context(), guard.Batch{Attestations: []guard.Attestation{{Key: c.Validators[0], Source: 4, Target: 5, Root: cluster.Root{1}}}}); err != nil {
		t.Fatal(err)
	}
	g.Close()
	return dir, c
}

func protect(t testing.TB, dir string, c create.Result) *guard.Guard {
	t.Helper()
	g, err := guard.Open(guard.Options{Dir: filepath.Join(dir, "provost"), GenesisValidatorsRoot: gvr, Create: true,
		Clock: cluster.SlotClock{Genesis: time.Unix(1700000000, 0), SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	if err := g.Register(t.Context(), c.Validators, guard.Unused); err != nil {
		t.Fatal(err)
	}
	state := fmt.Sprintf(`{"schema":"provost.node/1","lock_hash":%q,"share_index":2,"genesis_validators_root":%q,"created":"2026-11-20T00:00:00Z"}`, c.LockHash, gvr)
	if err := os.WriteFile(filepath.Join(dir, "provost/node.json"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// someone is a recipient with his identity file.
func someone(t testing.TB) (recipient, identityFile string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identityFile = filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(identityFile, []byte("# a test\n"+id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String(), identityFile
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

// content is all files below a directory; those that only this place has are left out.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if filepath.Base(path) != fence.FileName {
			b, err := os.ReadFile(path)
			out[rel] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func leftovers(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if left, _ := filepath.Glob(filepath.Join(dir, ".provost-*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestMove(t *testing.T) {
	dir, c := ran(t)
	os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("mine"), 0o600)
	os.WriteFile(filepath.Join(dir, "charon-enr-private-key.lock"), []byte("{}"), 0o600)
	old := time.Now().Add(-time.Hour)
	os.Chtimes(filepath.Join(dir, "charon-enr-private-key.lock"), old, old)
	recipient, identity := someone(t)
	p := ExportParams{Dir: dir, Out: filepath.Join(t.TempDir(), "node1.age"), Seal: Seal{Recipients: []string{recipient}}}
	plan, err := PlanExport(p)
	if err != nil || plan.Manifest.Kind != Move || plan.Manifest.Node != 1 || !plan.Manifest.Protected || !slices.Equal(plan.LeftOut, []string{"notes.txt"}) {
		t.Fatalf("%+v, %v", plan, err)
	}
	if _, err := os.Lstat(p.Out); err == nil {
		t.Error("planning wrote the file")
	}
	before := content(t, dir)
	made, err := Export(t.Context(), p, doors())
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(p.Out)
	if err != nil || info.Mode() != 0o600 || info.Size() != made.Bytes {
		t.Errorf("%v, %v, %d bytes", info.Mode(), err, made.Bytes)
	}
	sealed, _ := os.ReadFile(p.Out)
	if sum := fmt.Sprintf("%x", sha256.Sum256(sealed)); sum != made.SHA256 {
		t.Errorf("sha256 %s, told %s", sum, made.SHA256)
	}
	key := before["charon-enr-private-key"]
	for _, secret := range []string{key, before["validator_keys/keystore-insecure-0.txt"], "mycluster"} {
		if len(secret) < 8 || bytes.Contains(sealed, []byte(secret)) {
			t.Errorf("the file shows a secret, or there is none to look for")
		}
	}
	note, err := fence.Read(dir)
	if err != nil || note == nil || note.Kind != fence.Moved || !note.Finished || note.Archive != p.Out || note.SHA256 != made.SHA256 {
		t.Errorf("the note is %+v, %v", note, err)
	}
	leftovers(t, dir, filepath.Dir(p.Out))
	if _, err := os.Stat(filepath.Join(dir, "charon-enr-private-key.lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock of the key is still there: %v", err)
	}
	// A second export, also as a backup, would be of a state that is not the newest.
	for _, backup := range []bool{false, true} {
		q := p
		q.Out, q.Backup = p.Out+"2", backup
		_, err = Export(t.Context(), q, doors())
		code(t, err, CodeMoved, p.Out)
	}

	// A restore test leaves nothing.
	in := ImportParams{File: p.Out, Check: true, Key: Key{IdentityFile: identity}}
	got, err := Import(t.Context(), in, doors())
	if err != nil || got.Dir != "" || got.Manifest.LockHash != c.LockHash {
		t.Fatalf("%+v, %v", got, err)
	}
	leftovers(t, os.TempDir())

	parent := t.TempDir()
	in.Check, in.Dir = false, filepath.Join(parent, "node1")
	if got, err = Import(t.Context(), in, doors()); err != nil || got.Waits != "" || got.Dir != in.Dir {
		t.Fatalf("%+v, %v", got, err)
	}
	if note, err := fence.Read(in.Dir); note != nil || err != nil {
		t.Errorf("it would wait: %+v, %v", note, err)
	}
	delete(before, "notes.txt")
	delete(before, "charon-enr-private-key.lock")
	after := content(t, in.Dir)
	for path, b := range before {
		if after[path] != b {
			t.Errorf("%s is another", path)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files went in, %d came out", len(before), len(after))
	}
	filepath.WalkDir(in.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Error(err)
			return nil
		}
		info, err := d.Info()
		if want := fs.FileMode(0o600); err != nil || !d.IsDir() && info.Mode() != want || d.IsDir() && info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	m, err := guard.Read(filepath.Join(in.Dir, "provost"))
	if err != nil || m.Marks[c.Validators[0]] != (guard.Marks{HasAttestation: true, Source: 4, Target: 5}) {
		t.Errorf("%+v, %v", m, err)
	}
	leftovers(t, parent)
	_, err = Import(t.Context(), in, doors())
	code(t, err, CodeExists, "nothing is overwritten")
}

// A node that runs is copied as it goes on, and its copy waits.
func TestBackupOfARunningNode(t *testing.T) {
	dir, c := ran(t)
	g := protect(t, dir, c)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	key, err := peer.AcquireKeyLock(peer.KeyLockOptions{KeyFile: filepath.Join(dir, "charon-enr-private-key"), Command: "provost up", LockHash: c.LockHash,
		Spawn: func(_ string, fn func(context.Context) error) { wg.Go(func() { fn(ctx) }) }})
	if err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		for e := cluster.Epoch(6); ctx.Err() == nil; e++ {
			b := guard.Batch{}
			for _, k := range c.Validators {
				b.Attestations = append(b.Attestations, guard.Attestation{Key: k, Source: e - 1, Target: e, Root: cluster.Root{1}})
			}
			g.CheckAndRecord(ctx, b)
			time.Sleep(20 * time.Millisecond)
		}
	})
	defer wg.Wait()
	defer stop()
	defer key.Release()
	recipient, identity := someone(t)
	p := ExportParams{Dir: dir, Out: filepath.Join(t.TempDir(), "x.age"), Seal: Seal{Recipients: []string{recipient}}}
	_, err = PlanExport(p)
	code(t, err, CodeRunning, `"provost up"`, "--backup")
	_, err = Export(t.Context(), p, doors())
	code(t, err, CodeRunning, "stop it first", "--backup")
	p.Backup = true
	begin, _, _ := g.Marks(t.Context(), c.Validators[0])
	made, err := Export(t.Context(), p, doors())
	if err != nil || made.Manifest.Kind != Backup {
		t.Fatalf("%+v, %v", made, err)
	}
	end, _, _ := g.Marks(t.Context(), c.Validators[0])
	if note, err := fence.Read(dir); note != nil || err != nil {
		t.Errorf("the node that goes on got a note: %+v, %v", note, err)
	}
	in := ImportParams{File: p.Out, Dir: filepath.Join(t.TempDir(), "restored"), Key: Key{IdentityFile: identity}}
	got, err := Import(t.Context(), in, doors())
	if err != nil || !strings.Contains(got.Waits, "backup") {
		t.Fatalf("%+v, %v", got, err)
	}
	note, err := fence.Read(in.Dir)
	if err != nil || note == nil || note.Kind != fence.Restored || !note.Copy.Equal(made.Manifest.Made) {
		t.Errorf("%+v, %v", note, err)
	}
	m, err := guard.Read(filepath.Join(in.Dir, "provost"))
	if a, b := m.Marks[c.Validators[0]], m.Marks[c.Validators[1]]; err != nil || a.Target < begin.Target || a.Target > end.Target || a.Target > 5 && a != b {
		t.Errorf("%+v and %+v between %+v and %+v: %v", a, b, begin, end, err)
	}
	// Moved on before it was ever started, it still waits.
	p = ExportParams{Dir: in.Dir, Out: filepath.Join(t.TempDir(), "y.age"), Seal: p.Seal}
	if _, err := Export(t.Context(), p, doors()); err != nil {
		t.Fatal(err)
	}
	in = ImportParams{File: p.Out, Dir: filepath.Join(t.TempDir(), "again"), Key: in.Key}
	if got, err := Import(t.Context(), in, doors()); err != nil || !strings.Contains(got.Waits, "itself restored") {
		t.Errorf("%+v, %v", got, err)
	}
	if note, err := fence.Read(in.Dir); err != nil || note == nil || note.Kind != fence.Restored {
		t.Errorf("%+v, %v", note, err)
	}
}

func TestWhenAnImportWaits(t *testing.T) {
	now := time.Unix(1795000000, 0)
	for _, c := range []struct {
		m    Manifest
		want string
	}{
		{Manifest{Kind: Move, Made: now}, ""},
		{Manifest{Kind: Move, Made: now.Add(-moveWindow)}, ""},
		{Manifest{Kind: Move, Made: now.Add(30 * time.Second)}, ""},
		{Manifest{Kind: Move, Made: now.Add(-moveWindow - time.Second)}, "if it was imported before"},
		{Manifest{Kind: Move, Made: now.Add(2 * time.Minute)}, "in the future"},
		{Manifest{Kind: Move, Made: now, Waiting: true}, "itself restored"},
		{Manifest{Kind: Backup, Made: now}, "backup"},
		{Manifest{}, "backup"},
	} {
		if got := c.m.waits(now); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.m, got, c.want)
		}
	}
}

// A node whose directory was just made travels without protection, since there is none yet.
func TestNodeThatNeverRan(t *testing.T) {
	c := makeCluster(t, filepath.Join(t.TempDir(), "c"))
	secret := filepath.Join(t.TempDir(), "pass")
	os.WriteFile(secret, []byte("correct horse battery\n"), 0o600)
	p := ExportParams{Dir: filepath.Join(c.Dir, "node3"), Out: filepath.Join(t.TempDir(), "n.age"), Seal: Seal{PassphraseFile: secret}}
	made, err := Export(t.Context(), p, doors())
	if err != nil || made.Manifest.Protected {
		t.Fatalf("%+v, %v", made, err)
	}
	in := ImportParams{File: p.Out, Dir: filepath.Join(t.TempDir(), "n"), Key: Key{PassphraseFile: secret}}
	if _, err := Import(t.Context(), in, doors()); err != nil {
		t.Fatal(err)
	}
	if r, err := create.Verify(t.Context(), in.Dir, create.Options{}); err != nil || !r.OK() {
		t.Errorf("%v, %+v", err, r.Failures())
	}
	os.WriteFile(secret, []byte("correct horse batterx\n"), 0o600)
	in.Dir += "2"
	_, err = Import(t.Context(), in, doors())
	code(t, err, CodeNotForYou, "passphrase doesn't open it")
	_, identity := someone(t)
	in.Key = Key{IdentityFile: identity}
	_, err = Import(t.Context(), in, doors())
	code(t, err, CodeNotForYou)
}

func TestSSHRecipients(t *testing.T) {
	dir, _ := ran(t)
	p := ExportParams{Dir: dir, Out: filepath.Join(t.TempDir(), "n.age"), Backup: true,
		Seal: Seal{Recipients: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN alice@rust"}}}
	if _, err := Export(t.Context(), p, doors()); err != nil {
		t.Fatal(err)
	}
	identity := filepath.Join(t.TempDir(), "id_ed25519") // of age's own tests
	os.WriteFile(identity, []byte(`-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACB7Ci6nqZYaVvrjm8+XbzII89TsXzP111AflR7WeorBjQAAAJCfEwtqnxML
agAAAAtzc2gtZWQyNTUxOQAAACB7Ci6nqZYaVvrjm8+XbzII89TsXzP111AflR7WeorBjQ
AAAEADBJvjZT8X6JRJI8xVq/1aU8nMVgOtVnmdwqWwrSlXG3sKLqeplhpW+uObz5dvMgjz
1OxfM/XXUB+VHtZ6isGNAAAADHN0cjRkQGNhcmJvbgE=
-----END OPENSSH PRIVATE KEY-----
`), 0o600)
	if _, err := Import(t.Context(), ImportParams{File: p.Out, Check: true, Key: Key{IdentityFile: identity}}, doors()); err != nil {
		t.Fatal(err)
	}
}

func TestExportRefuses(t *testing.T) {
	recipient, _ := someone(t)
	for name, c := range map[string]struct {
		change func(dir string, p *ExportParams)
		code   Code
		says   []string
	}{
		"no recipient":    {func(_ string, p *ExportParams) { p.Seal = Seal{} }, CodeParams, []string{"--recipient"}},
		"both":            {func(_ string, p *ExportParams) { p.Seal.PassphraseFile = "/x" }, CodeParams, nil},
		"wrong recipient": {func(_ string, p *ExportParams) { p.Seal.Recipients = []string{"age1x"} }, CodeParams, []string{`"age1x" is no recipient`}},
		"a secret key": {func(_ string, p *ExportParams) {
			id, _ := age.GenerateX25519Identity()
			p.Seal.Recipients = []string{id.String()}
		}, CodeParams, []string{"a secret key was given"}},
		"two recipients in one": {func(_ string, p *ExportParams) { p.Seal.Recipients = []string{recipient + "\n" + recipient} }, CodeParams, nil},
		"wrong ssh key":         {func(_ string, p *ExportParams) { p.Seal.Recipients = []string{"ssh-ed25519 AAAA"} }, CodeParams, nil},
		"no passphrase file":    {func(_ string, p *ExportParams) { p.Seal = Seal{PassphraseFile: "/nowhere"} }, CodeParams, nil},
		"passphrase for all": {func(_ string, p *ExportParams) {
			f := filepath.Join(filepath.Dir(p.Out), "open")
			os.WriteFile(f, []byte("correct horse battery\n"), 0o644)
			p.Seal = Seal{PassphraseFile: f}
		}, CodeParams, []string{"others may read it (mode 0644)", "chmod 600"}},
		"short passphrase": {func(dir string, p *ExportParams) {
			f := filepath.Join(filepath.Dir(p.Out), "short")
			os.WriteFile(f, []byte("hunter2\n"), 0o600)
			p.Seal = Seal{PassphraseFile: f}
		}, CodeParams, []string{"7 characters, at least 12"}},
		"no directory":     {func(_ string, p *ExportParams) { p.Dir = "" }, CodeParams, nil},
		"no node":          {func(_ string, p *ExportParams) { p.Dir = filepath.Dir(p.Dir) }, CodeUnread, []string{"cluster-lock.json"}},
		"no file":          {func(_ string, p *ExportParams) { p.Out = "" }, CodeParams, nil},
		"file exists":      {func(_ string, p *ExportParams) { os.WriteFile(p.Out, nil, 0o600) }, CodeExists, nil},
		"link at the file": {func(_ string, p *ExportParams) { os.Symlink("/nowhere", p.Out) }, CodeExists, nil},
		"nowhere":          {func(_ string, p *ExportParams) { p.Out = "/no/where/x" }, CodeParams, nil},
		"protection lost":  {func(dir string, _ *ExportParams) { os.Remove(filepath.Join(dir, guardPath)) }, CodeUnprotected, []string{"must not travel without what it signed"}},
		"protection damaged": {func(dir string, _ *ExportParams) {
			os.WriteFile(filepath.Join(dir, guardPath), bytes.Repeat([]byte("x"), 9000), 0o600)
		}, CodeUnprotected, nil},
		"keystore damaged": {func(dir string, _ *ExportParams) {
			f := filepath.Join(dir, "validator_keys/keystore-insecure-0.txt")
			os.Chmod(f, 0o600)
			os.WriteFile(f, []byte("wrong"), 0o600)
		}, CodeBroken, []string{"provost verify cluster"}},
		"another's key": {func(dir string, _ *ExportParams) {
			b, _ := os.ReadFile(filepath.Join(dir, "../node2/charon-enr-private-key"))
			os.WriteFile(filepath.Join(dir, "charon-enr-private-key"), b, 0o600)
		}, CodeBroken, nil},
		"note damaged": {func(dir string, _ *ExportParams) { os.WriteFile(fence.Path(dir), []byte("{"), 0o600) }, CodeUnread, []string{"don't remove it"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := ran(t)
			p := ExportParams{Dir: dir, Out: filepath.Join(t.TempDir(), "x.age"), Seal: Seal{Recipients: []string{recipient}}}
			c.change(dir, &p)
			_, err := Export(t.Context(), p, doors())
			code(t, err, c.code, c.says...)
			if note, _ := fence.Read(dir); note != nil {
				t.Errorf("the node got a note: %+v", note)
			}
			leftovers(t, dir, filepath.Dir(p.Out))
		})
	}
}

// Whatever ends an export, either there is no archive and the node may run, or it may not.
func TestExportThatEndsEarly(t *testing.T) {
	recipient, identity := someone(t)
	dir, c := ran(t)
	p := ExportParams{Dir: dir, Out: filepath.Join(t.TempDir(), "x.age"), Seal: Seal{Recipients: []string{recipient}}}
	ctx, stop := context.WithCancel(t.Context())
	o := doors()
	o.Progress = func(what string) {
		if what == "sealing" {
			stop()
		}
	}
	_, err := Export(ctx, p, o)
	code(t, err, CodeCancelled)
	o = doors()
	o.Progress = func(what string) {
		if what == "sealing" {
			os.WriteFile(p.Out, []byte("another's"), 0o600)
		}
	}
	_, err = Export(t.Context(), p, o)
	code(t, err, CodeExists)
	if b, _ := os.ReadFile(p.Out); string(b) != "another's" {
		t.Error("it was overwritten")
	}
	if note, err := fence.Read(dir); note != nil || err != nil {
		t.Fatalf("there is no archive, and the node got a note: %+v, %v", note, err)
	}
	os.Remove(p.Out)
	// Another program takes the key while the node is sealed.
	o.Progress = func(what string) {
		if what == "sealing" {
			raw, _ := json.Marshal(map[string]string{"timestamp": time.Now().Format(time.RFC3339Nano), "command": "charon run", "cluster_lock_hash": c.LockHash.String()})
			os.WriteFile(filepath.Join(dir, "charon-enr-private-key.lock"), raw, 0o600)
			time.Sleep(2500 * time.Millisecond)
		}
	}
	_, err = Export(t.Context(), p, o)
	code(t, err, CodeCancelled, "charon run")
	if note, _ := fence.Read(dir); note != nil {
		t.Errorf("%+v", note)
	}
	os.Remove(filepath.Join(dir, "charon-enr-private-key.lock"))
	// A kill between note and archive: the export may be made again, and is as good as the first.
	if err := fence.Write(dir, fence.Note{Kind: fence.Moved, At: time.Now(), Archive: p.Out, Waiting: true}); err != nil {
		t.Fatal(err)
	}
	made, err := Export(t.Context(), p, doors())
	if err != nil || !made.Again {
		t.Fatalf("%+v, %v", made, err)
	}
	if note, _ := fence.Read(dir); note == nil || !note.Finished {
		t.Errorf("%+v", note)
	}
	got, err := Import(t.Context(), ImportParams{File: p.Out, Check: true, Key: Key{IdentityFile: identity}}, doors())
	if err != nil || got.Waits == "" {
		t.Errorf("what waited before doesn't any more: %+v, %v", got, err)
	}
	leftovers(t, dir, filepath.Dir(p.Out))
}

func TestImportRefuses(t *testing.T) {
	recipient, identity := someone(t)
	_, stranger := someone(t)
	dir, _ := ran(t)
	whole := filepath.Join(t.TempDir(), "whole.age")
	if _, err := Export(t.Context(), ExportParams{Dir: dir, Out: whole, Backup: true, Seal: Seal{Recipients: []string{recipient}}}, doors()); err != nil {
		t.Fatal(err)
	}
	sealed, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		bytes  func([]byte) []byte
		change func(p *ImportParams)
		code   Code
		says   []string
	}{
		"stranger":    {change: func(p *ImportParams) { p.Key.IdentityFile = stranger }, code: CodeNotForYou},
		"no key":      {change: func(p *ImportParams) { p.Key = Key{} }, code: CodeParams, says: []string{"--identity-file"}},
		"both keys":   {change: func(p *ImportParams) { p.Key.PassphraseFile = "/x" }, code: CodeParams},
		"no identity": {change: func(p *ImportParams) { p.Key.IdentityFile = "/nowhere" }, code: CodeParams},
		"identity that is none": {change: func(p *ImportParams) {
			p.Key.IdentityFile = filepath.Join(filepath.Dir(p.File), "junk")
			os.WriteFile(p.Key.IdentityFile, []byte("AGE-SECRET-KEY-CANARY"), 0o600)
		}, code: CodeParams, says: []string{"is no identity file"}},
		"no file":             {change: func(p *ImportParams) { p.File = "/nowhere" }, code: CodeParams},
		"no target":           {change: func(p *ImportParams) { p.Dir = "" }, code: CodeParams, says: []string{"no directory is given"}},
		"target taken":        {change: func(p *ImportParams) { os.MkdirAll(filepath.Join(p.Dir, "x"), 0o700) }, code: CodeExists},
		"target a link":       {change: func(p *ImportParams) { os.Symlink(t.TempDir(), p.Dir) }, code: CodeExists},
		"nowhere":             {change: func(p *ImportParams) { p.Dir = "/no/where/x" }, code: CodeParams},
		"empty":               {bytes: func([]byte) []byte { return nil }, code: CodeArchive},
		"text":                {bytes: func([]byte) []byte { return []byte("hello\nworld\n") }, code: CodeArchive},
		"cut in the head":     {bytes: func(b []byte) []byte { return b[:100] }, code: CodeArchive},
		"cut in the middle":   {bytes: func(b []byte) []byte { return b[:len(b)/2] }, code: CodeArchive},
		"cut by a byte":       {bytes: func(b []byte) []byte { return b[:len(b)-1] }, code: CodeArchive},
		"changed at the end":  {bytes: func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, code: CodeArchive},
		"changed in the head": {bytes: func(b []byte) []byte { b[60] ^= 1; return b }, code: CodeArchive},
		"something behind":    {bytes: func(b []byte) []byte { return append(b, 0) }, code: CodeArchive},
	} {
		t.Run(name, func(t *testing.T) {
			work := t.TempDir()
			parent := filepath.Join(work, "parent")
			os.Mkdir(parent, 0o700)
			p := ImportParams{File: filepath.Join(work, "f.age"), Dir: filepath.Join(parent, "node"), Key: Key{IdentityFile: identity}}
			b := bytes.Clone(sealed)
			if c.bytes != nil {
				b = c.bytes(b)
			}
			if err := os.WriteFile(p.File, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(&p)
			}
			before, _ := os.ReadDir(parent)
			_, err := Import(t.Context(), p, doors())
			if CodeOf(err) != c.code && !(c.code == CodeArchive && CodeOf(err) == CodeNotForYou) {
				t.Fatalf("%v, want %s", err, c.code)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if strings.Contains(err.Error(), "CANARY") {
				t.Errorf("a secret in an error: %v", err)
			}
			if after, _ := os.ReadDir(parent); len(after) != len(before) {
				t.Errorf("left behind: %v", after)
			}
		})
	}
}

// An archive that was sealed rightly, with content that no export writes.
func TestHostileArchives(t *testing.T) {
	recipient, identity := someone(t)
	dir, _ := ran(t)
	var m Manifest
	files := map[string][]byte{}
	whole := filepath.Join(t.TempDir(), "whole.age")
	if _, err := Export(t.Context(), ExportParams{Dir: dir, Out: whole, Backup: true, Seal: Seal{Recipients: []string{recipient}}}, doors()); err != nil {
		t.Fatal(err)
	}
	ids, err := Key{IdentityFile: identity}.identities()
	if err != nil {
		t.Fatal(err)
	}
	f, _ := os.Open(whole)
	defer f.Close()
	r, err := age.Decrypt(f, ids...)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = readContainer(r, func(path string) (io.WriteCloser, error) { return &keep{to: files, path: path}, nil }); err != nil {
		t.Fatal(err)
	}
	type entry struct {
		name string
		kind byte
		data []byte
		link string
	}
	// entries are those of the archive, with its manifest as it is now.
	entries := func(m Manifest) []entry {
		raw, _ := json.Marshal(m)
		out := []entry{{name: manifestName, kind: tar.TypeReg, data: raw}}
		for _, f := range m.Files {
			out = append(out, entry{name: f.Path, kind: tar.TypeReg, data: files[f.Path]})
		}
		return out
	}
	with := func(path string, data []byte) []entry { // as a sealer who means harm would
		n := m
		n.Files = slices.Clone(m.Files)
		files[path] = data
		i := slices.IndexFunc(n.Files, func(f ManifestFile) bool { return f.Path == path })
		if i < 0 {
			n.Files = append(n.Files, ManifestFile{Path: path})
			i = len(n.Files) - 1
		}
		n.Files[i].Size, n.Files[i].SHA256 = int64(len(data)), sha256.Sum256(data)
		return entries(n)
	}
	without := func(path string, change func(*Manifest)) []entry {
		n := m
		n.Files = slices.DeleteFunc(slices.Clone(m.Files), func(f ManifestFile) bool { return f.Path == path })
		if change != nil {
			change(&n)
		}
		return entries(n)
	}
	changed := func(change func(*Manifest)) []entry { return without("", change) }
	honest := entries(m)
	lock := files[lockName]
	keyFile := files["charon-enr-private-key"]
	for name, c := range map[string]struct {
		entries []entry
		code    Code
	}{
		"honest":              {honest, ""},
		"above":               {with("../evil", []byte("x")), CodeArchive},
		"absolute":            {with("/tmp/evil", []byte("x")), CodeArchive},
		"hidden above":        {with("validator_keys/../../evil", []byte("x")), CodeArchive},
		"note of its own":     {with("provost/fence.json", []byte("{}")), CodeArchive},
		"unknown file":        {with("run.sh", []byte("x")), CodeArchive},
		"twice":               {changed(func(n *Manifest) { n.Files = append(n.Files, n.Files[0]) }), CodeArchive},
		"not in manifest":     {append(slices.Clone(honest), entry{name: "evil", kind: tar.TypeReg}), CodeArchive},
		"missing":             {honest[:len(honest)-1], CodeArchive},
		"no manifest":         {honest[1:], CodeArchive},
		"nothing":             {nil, CodeArchive},
		"other order":         {append([]entry{honest[0]}, append(slices.Clone(honest[2:]), honest[1])...), CodeArchive},
		"link":                {append([]entry{honest[0], {name: honest[1].name, kind: tar.TypeSymlink, link: "/etc/passwd"}}, honest[2:]...), CodeArchive},
		"hard link":           {append([]entry{honest[0], {name: honest[1].name, kind: tar.TypeLink, link: "/etc/passwd"}}, honest[2:]...), CodeArchive},
		"directory":           {append([]entry{honest[0], {name: honest[1].name, kind: tar.TypeDir}}, honest[2:]...), CodeArchive},
		"pipe":                {append([]entry{honest[0], {name: honest[1].name, kind: tar.TypeFifo}}, honest[2:]...), CodeArchive},
		"other content":       {append([]entry{honest[0], {name: honest[1].name, kind: tar.TypeReg, data: append([]byte{1}, honest[1].data[1:]...)}}, honest[2:]...), CodeArchive},
		"size":                {changed(func(n *Manifest) { n.Files[0].Size++ }), CodeArchive},
		"negative size":       {changed(func(n *Manifest) { n.Files[0].Size = -1 }), CodeArchive},
		"huge":                {changed(func(n *Manifest) { n.Files[0].Size = 1 << 60 }), CodeArchive},
		"keystore too large":  {with("validator_keys/keystore-9.json", make([]byte, 70<<10)), CodeArchive},
		"newer":               {changed(func(n *Manifest) { n.Schema = "provost.node-archive/2" }), CodeNewer},
		"other schema":        {changed(func(n *Manifest) { n.Schema = "x" }), CodeArchive},
		"no kind":             {changed(func(n *Manifest) { n.Kind = "" }), CodeArchive},
		"no time":             {changed(func(n *Manifest) { n.Made = time.Time{} }), CodeArchive},
		"protection withheld": {without(guardPath, nil), CodeArchive},
		"protection denied":   {without(guardPath, func(n *Manifest) { n.Protected = false }), CodeArchive}, // node.json says that it ran
		"no key":              {without("charon-enr-private-key", nil), CodeArchive},
		"other node":          {changed(func(n *Manifest) { n.Node = 2 }), CodeBroken},
		"other cluster":       {changed(func(n *Manifest) { n.LockHash[0] ^= 1 }), CodeBroken},
		"lock damaged":        {with(lockName, bytes.Replace(lock, []byte(`"threshold": 3`), []byte(`"threshold": 2`), 1)), CodeBroken},
		"lock restored":       {with(lockName, lock), ""},
		"other key":           {with("charon-enr-private-key", bytes.Repeat([]byte("1"), 64)), CodeBroken},
		"key restored":        {with("charon-enr-private-key", keyFile), ""},
		"protection is junk":  {with(guardPath, bytes.Repeat([]byte("x"), 9000)), CodeUnprotected},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasSuffix(name, "restored") || c.code == "" {
				files[lockName], files["charon-enr-private-key"] = lock, keyFile
			}
			work := t.TempDir()
			sealed := filepath.Join(work, "x.age")
			out, _ := os.Create(sealed)
			rec, _ := Seal{Recipients: []string{recipient}}.parse()
			w, err := age.Encrypt(out, rec...)
			if err != nil {
				t.Fatal(err)
			}
			tw := tar.NewWriter(w)
			for _, e := range c.entries {
				h := &tar.Header{Name: e.name, Typeflag: e.kind, Size: int64(len(e.data)), Linkname: e.link, Mode: 0o777}
				if err := tw.WriteHeader(h); err != nil {
					t.Fatal(err)
				}
				tw.Write(e.data)
			}
			tw.Close()
			w.Close()
			out.Close()
			parent := filepath.Join(work, "parent")
			os.Mkdir(parent, 0o700)
			_, err = Import(t.Context(), ImportParams{File: sealed, Dir: filepath.Join(parent, "n"), Key: Key{IdentityFile: identity}}, doors())
			code(t, err, c.code)
			left, _ := os.ReadDir(parent)
			if want := map[bool]int{true: 1}[err == nil]; len(left) != want {
				t.Errorf("left behind: %v", left)
			}
			for _, evil := range []string{filepath.Join(work, "evil"), "/tmp/evil", filepath.Join(parent, "evil")} {
				if _, err := os.Lstat(evil); err == nil {
					t.Errorf("%s was written", evil)
				}
			}
		})
	}
}

type keep struct {
	bytes.Buffer
	to   map[string][]byte
	path string
}

func (k *keep) Close() error { k.to[k.path] = bytes.Clone(k.Bytes()); return nil }

const sampleDir = "testdata/format1"

// The sample is kept for ever: what a version sealed, every later one unseals.
func TestSample(t *testing.T) {
	file, identity := filepath.Join(sampleDir, "node1.age"), filepath.Join(sampleDir, "identity-of-this-test.txt")
	if *update {
		if err := os.RemoveAll(sampleDir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(sampleDir, 0o755); err != nil {
			t.Fatal(err)
		}
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		text := "# Opens the sample beside it and nothing else: throwaway keys on a test network.\n" + id.String() + "\n"
		if err := os.WriteFile(identity, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		dir, _ := ran(t)
		if _, err := Export(t.Context(), ExportParams{Dir: dir, Out: file, Seal: Seal{Recipients: []string{id.Recipient().String()}}}, doors()); err != nil {
			t.Fatal(err)
		}
		os.Chmod(file, 0o644)
	}
	in := ImportParams{File: file, Dir: filepath.Join(t.TempDir(), "n"), Key: Key{IdentityFile: identity}}
	got, err := Import(t.Context(), in, doors())
	if err != nil {
		t.Fatal(err)
	}
	m := got.Manifest
	if m.Kind != Move || m.Cluster != "mycluster" || m.Node != 1 || m.Nodes != 4 || m.Threshold != 3 || m.Validators != 2 || !m.Protected || len(m.Files) != 10 {
		t.Errorf("%+v", m)
	}
	c, err := guard.Read(filepath.Join(in.Dir, "provost"))
	if err != nil || c.GenesisValidatorsRoot != gvr || len(c.Marks) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	// Once the sample is older than an hour it waits, as it might be the second time.
	if note, err := fence.Read(in.Dir); err != nil || (note != nil) != (got.Waits != "") || time.Since(m.Made) > 2*moveWindow && note == nil {
		t.Errorf("%+v, %v, %q", note, err, got.Waits)
	}
}

type nowhere struct{ io.Writer }

func (nowhere) Close() error { return nil }

// FuzzContainer reads what stands in a sealed file. Whatever it is, nothing is created but what an
// archive may have, in bounded size, and what is accepted is what the manifest says.
func FuzzContainer(f *testing.F) {
	pair := func(m Manifest, files map[string]string) []byte {
		for path, text := range files {
			m.Files = append(m.Files, ManifestFile{Path: path, Size: int64(len(text)), SHA256: sha256.Sum256([]byte(text))})
		}
		var out bytes.Buffer
		if err := writeContainer(&out, m, func(path string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(files[path])), nil }); err != nil {
			f.Fatal(err)
		}
		return out.Bytes()
	}
	m := Manifest{Schema: Schema, Kind: Backup, Made: time.Unix(1795000000, 0).UTC(), Nodes: 4, Threshold: 3, Validators: 1}
	small := pair(m, map[string]string{lockName: "{}", "charon-enr-private-key": "x"})
	f.Add(small)
	f.Add(small[:len(small)-1024])
	f.Add(append(bytes.Clone(small), small...))
	f.Add(pair(m, map[string]string{lockName: "{}", "charon-enr-private-key": "x", "../evil": "x"}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := map[string]*bytes.Buffer{}
		m, err := readContainer(bytes.NewReader(raw), func(path string) (io.WriteCloser, error) {
			if bound(path) == 0 || !fs.ValidPath(path) {
				t.Fatalf("created %q", path)
			}
			if got[path] != nil {
				t.Fatalf("created %q twice", path)
			}
			got[path] = new(bytes.Buffer)
			return nowhere{got[path]}, nil
		})
		if err != nil {
			return
		}
		if len(got) != len(m.Files) || got[lockName] == nil {
			t.Fatalf("%d files, the manifest has %d", len(got), len(m.Files))
		}
		for _, x := range m.Files {
			if b := got[x.Path]; b == nil || int64(b.Len()) != x.Size || sha256.Sum256(b.Bytes()) != [32]byte(x.SHA256) {
				t.Fatalf("%s is not what the manifest says", x.Path)
			}
		}
	})
}
