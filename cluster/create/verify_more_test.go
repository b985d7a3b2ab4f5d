package create

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"app.provost/cluster"

	"golang.org/x/sys/unix"
)

func statusOf(r Report, id string) Status {
	for _, c := range r.Checks {
		if c.ID == id {
			return c.Status
		}
	}
	return ""
}

// packTar makes a zipped cluster as create cluster --zipped does.
func packTar(t testing.TB, files memSource, more ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for name, raw := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(raw))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(raw); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range more {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestVerifyArchive(t *testing.T) {
	files := loadTree(t, ownSample)
	path := filepath.Join(t.TempDir(), "cluster.tar.gz")
	write := func(raw []byte) {
		t.Helper()
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(packTar(t, files, &tar.Header{Name: "node0/", Typeflag: tar.TypeDir, Mode: 0o700}))
	r := mustVerify(t, path)
	plain := mustVerify(t, ownSample)
	if !r.OK() || r.Scope != ScopeCluster || r.Passed != plain.Passed || r.Skipped != plain.Skipped {
		t.Errorf("%d passed and %d skipped, in the directory %d and %d; failed %v", r.Passed, r.Skipped, plain.Passed, plain.Skipped, failedIDs(r))
	}
	if slices.ContainsFunc(r.Findings, func(f Finding) bool { return strings.Contains(f.ID, "modes") }) {
		t.Errorf("findings %+v", r.Findings)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, path); !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.ID == "archive.modes" }) {
		t.Error("an archive that others may read is no finding")
	}

	write(packTar(t, files.with("node3/charon-enr-private-key", []byte("x"))))
	if r := mustVerify(t, path); !slices.Contains(failedIDs(r), "node3.enr_key") {
		t.Errorf("failed %v", failedIDs(r))
	}
	whole := packTar(t, files)
	for name, raw := range map[string][]byte{
		"link":       packTar(t, files, &tar.Header{Name: "node0/x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"escape":     packTar(t, files, &tar.Header{Name: "../x", Size: 1}),
		"absolute":   packTar(t, files, &tar.Header{Name: "/etc/x", Size: 1}),
		"twice":      packTar(t, files, &tar.Header{Name: "node0/./" + LockFileName, Size: 1}),
		"bomb":       packTar(t, files, &tar.Header{Name: "node0/x", Size: maxArchiveBytes}),
		"nothing":    packTar(t, memSource{"readme": nil}),
		"no archive": []byte("node0"),
		"cut":        packTar(t, files)[:5000],
		"end cut":    whole[:len(whole)-4],
		"checksum":   append(slices.Clone(whole[:len(whole)-8]), 0, 1, 2, 3, whole[len(whole)-4], whole[len(whole)-3], whole[len(whole)-2], whole[len(whole)-1]),
		"more":       append(slices.Clone(whole), "hello"...),
	} {
		write(raw)
		if r, err := Verify(t.Context(), path, Options{}); err == nil {
			t.Errorf("%s: no error, report %+v", name, r)
		} else if KindOf(err) != KindUsage || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDefinitionBesideTheLock(t *testing.T) {
	dir := copyTree(t, ownSample)
	lock, _, err := readLock(diskSource{dir}, "node1/"+LockFileName)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node1", DefinitionFileName)
	write := func() {
		t.Helper()
		raw, err := lock.Definition.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if r := mustVerify(t, dir); !r.OK() || statusOf(r, "node1.definition_file") != Passed {
		t.Errorf("failed %v", failedIDs(r))
	}
	lock.Definition.Operators[2].ENR = lock.Definition.Operators[1].ENR
	write()
	r := mustVerify(t, dir)
	if got := r.Failures(); len(got) != 1 || got[0].ID != "node1.definition_file" || got[0].Field != "operators[2].enr" || got[0].File != "node1/"+DefinitionFileName {
		t.Errorf("failures %+v", got)
	}
}

// A definition travels from operator to operator before all have joined.
func TestDefinitionBeforeAllJoined(t *testing.T) {
	raw := mustRead(t, filepath.Join(definitionSamples, "own-v1.10.0.json"))
	d := new(cluster.Definition)
	if err := json.Unmarshal(raw, d); err != nil {
		t.Fatal(err)
	}
	o := &d.Operators[3]
	o.ENR, o.ConfigSignature, o.ENRSignature = "", nil, nil
	var err error
	if d.DefinitionHash, err = d.ComputeDefinitionHash(); err != nil {
		t.Fatal(err)
	}
	raw, err = d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := verifyMem(t, memSource{DefinitionFileName: raw}, "")
	if !r.OK() || statusOf(r, "operator[3].enr") != Skipped || statusOf(r, "definition.wallet_signatures") != Skipped || statusOf(r, "operator[2].enr_signature") != Passed {
		t.Errorf("failed %v, report %+v", failedIDs(r), r)
	}
	// In a lock nobody may be missing.
	lock := lockOf(t, cluster.V1_10, true)
	lock.Definition = *d
	if lock.LockHash, err = lock.ComputeHash(); err != nil {
		t.Fatal(err)
	}
	raw, err = lock.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if r := verifyMem(t, memSource{LockFileName: raw}, LockFileName); statusOf(r, "operator[3].enr") != Failed || statusOf(r, "definition.wallet_signatures") != Failed {
		t.Errorf("failed %v", failedIDs(r))
	}
}

// Signatures of a wallet that is a contract can't be checked here, and that is said.
func TestContractWallet(t *testing.T) {
	lock := lockOf(t, cluster.V1_11, true)
	d := &lock.Definition
	d.Operators[1].ConfigSignature = append(slices.Clone(d.Operators[1].ConfigSignature), d.Operators[2].ConfigSignature...)
	var err error
	if d.DefinitionHash, err = d.ComputeDefinitionHash(); err != nil {
		t.Fatal(err)
	}
	raw, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := verifyMem(t, memSource{DefinitionFileName: raw}, "")
	i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.ID == "operator[1].config_signature" })
	if !r.OK() || i < 0 || r.Checks[i].Status != Skipped || !strings.HasPrefix(r.Checks[i].Problem, "not checked, it needs an execution client") {
		t.Errorf("failed %v, check %+v", failedIDs(r), r.Checks[i])
	}
	// Before v1.11.0 a field has room for one signature.
	d.Version = cluster.V1_10
	raw, err = d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if r := verifyMem(t, memSource{DefinitionFileName: raw}, ""); statusOf(r, "operator[1].config_signature") != Failed {
		t.Errorf("failed %v", failedIDs(r))
	}
}

// Before v1.8.0 a lock has room for one deposit at most, and the deposit files have more: each is
// held against keys and addresses by itself.
func TestOldLocksWithDepositFiles(t *testing.T) {
	for _, version := range []cluster.FormatVersion{cluster.V1_5, cluster.V1_6, cluster.V1_7} {
		files := loadTree(t, ownSample)
		lock := mustRead(t, filepath.Join(lockSamples, "own", string(version)+".json"))
		for n := range 4 {
			files = files.with(nodeDirName(n)+"/"+LockFileName, lock)
		}
		r := verifyMem(t, files, "")
		if !r.OK() || statusOf(r, "deposit[1eth][0].signature") != Passed || statusOf(r, "deposit[32eth][1].signature") != Passed || statusOf(r, "node2.deposit[1eth]") != Passed {
			t.Errorf("%s: failed %v", version, failedIDs(r))
		}
		bad := files
		for n := range 4 {
			name := nodeDirName(n) + "/deposit-data-1eth.json"
			bad = bad.with(name, bytes.Replace(files[name], []byte("dead"), []byte("beef"), 1))
		}
		if r := verifyMem(t, bad, ""); !slices.Contains(failedIDs(r), "deposit[1eth][0].withdrawal_credentials") {
			t.Errorf("%s: failed %v", version, failedIDs(r))
		}
		if r := verifyMem(t, files.with("node1/deposit-data-07eth.json", []byte("[]")), ""); !slices.Equal(failedIDs(r), []string{"node1.deposit.stray[deposit-data-07eth.json]"}) {
			t.Errorf("%s: failed %v", version, failedIDs(r))
		}
	}
	for name, want := range map[string]cluster.Gwei{"deposit-data.json": 32 * cluster.Ether, "deposit-data-1eth.json": cluster.Ether, "deposit-data-2048eth.json": 2048 * cluster.Ether, "deposit-data-1500000000gwei.json": 1_500_000_000} {
		if got, ok := parseDepositFileName(name); !ok || got != want || depositFileName(got) != name {
			t.Errorf("%s is of %v, %v", name, got, ok)
		}
	}
	for _, name := range []string{"deposit-data-32eth.json", "deposit-data-2049eth.json", "deposit-data-99999999999999999999eth.json", "deposit-data-1000000000gwei.json", "deposit.json", "deposit-data-1eth.json~"} {
		if got, ok := parseDepositFileName(name); ok {
			t.Errorf("%s was taken for a deposit file of %v", name, got)
		}
	}
}

// Files that never end or lead elsewhere are named and hold nobody up; links to good files are as good
// as these.
func TestVerifyStrangeFiles(t *testing.T) {
	dir := copyTree(t, ownSample)
	elsewhere := filepath.Join(t.TempDir(), "key")
	key := filepath.Join(dir, "node0/charon-enr-private-key")
	if err := errors.Join(os.Rename(key, elsewhere), os.Symlink(elsewhere, key)); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir); !r.OK() {
		t.Errorf("failed %v", failedIDs(r))
	}
	for file, id := range map[string]string{
		"node1/" + LockFileName: "node1.lock", "node2/charon-enr-private-key": "node2.enr_key", "node3/validator_keys/keystore-insecure-0.json": "node3.keystore[0]",
		"node3/validator_keys/keystore-insecure-1.txt": "node3.keystore[1]", "node2/deposit-data.json": "node2.deposit[32eth]",
	} {
		path := filepath.Join(dir, file)
		old := mustRead(t, path)
		for name, put := range map[string]func() error{
			"pipe":      func() error { return unix.Mkfifo(path, 0o600) },
			"directory": func() error { return os.Mkdir(path, 0o700) },
			"loop":      func() error { return os.Symlink(path, path) },
			"device":    func() error { return os.Symlink("/dev/zero", path) },
		} {
			if err := errors.Join(os.Remove(path), put()); err != nil {
				t.Fatal(err)
			}
			if r := mustVerify(t, dir); !slices.Contains(failedIDs(r), id) {
				t.Errorf("%s as %s: failed %v, want %s", file, name, failedIDs(r), id)
			}
		}
		if err := errors.Join(os.Remove(path), os.WriteFile(path, old, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// A hostile file can be large, but what is done with it is bounded: without bounds this would take
// hours, since each of the values that are tried in place of a changed one hashes everything.
func TestVerifyHugeFiles(t *testing.T) {
	d := cluster.Definition{Version: cluster.V1_10, Operators: make([]cluster.Operator, 5_000), Validators: make([]cluster.ValidatorAddresses, 66_000), NumValidators: 1, Threshold: 3}
	d.Extra = map[string]json.RawMessage{}
	for i := range 5000 {
		d.Extra[fmt.Sprint("k", i)] = json.RawMessage("1")
	}
	lock := &cluster.Lock{Definition: d, Validators: make([]cluster.Validator, 66_000)}
	inLock, alone := &sheet{def: defInLock}, &sheet{}
	if _, err := checkLock(t.Context(), inLock, lock, 1); err != nil {
		t.Fatal(err)
	}
	// What can be hashed is searched, up to the limit.
	d.Operators, d.Validators = d.Operators[:256], d.Validators[:65_536]
	checkDefinition(alone, &d)
	for _, s := range []*sheet{inLock, alone} {
		if len(s.checks) > 6_000 {
			t.Errorf("%d checks", len(s.checks))
		}
		for _, f := range s.free {
			if len(f.Fields) > 101 {
				t.Errorf("%d fields are listed", len(f.Fields))
			}
		}
	}
}

// FuzzVerifyDefinition holds whole foreign definition files against all checks.
func FuzzVerifyDefinition(f *testing.F) {
	paths, err := filepath.Glob(filepath.Join(definitionSamples, "*.json"))
	if err != nil || len(paths) == 0 {
		f.Fatal(err, paths)
	}
	for _, p := range paths {
		f.Add(mustRead(f, p))
	}
	f.Add([]byte(`{"version":"v1.11.0","operators":[{"config_signature":"0x00"},{}],"threshold":-1}`))
	f.Add([]byte(`{"version":"v1.5.0","operators":null,"validators":[{"fee_recipient_address":"0x"}],"config_hash":"0x"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := new(cluster.Definition)
		if json.Unmarshal(raw, d) != nil {
			return
		}
		s := &sheet{}
		checkDefinition(s, d)
		for _, c := range s.checks {
			if c.Status == "" || c.Status != Passed && c.Problem == "" || len(c.Problem) > 2000 {
				t.Fatalf("%+v", c)
			}
		}
	})
}

// FuzzArchive unpacks foreign archives.
func FuzzArchive(f *testing.F) {
	f.Add(packTar(f, loadTree(f, ownSample).node("node0")))
	f.Add(packTar(f, memSource{"a": []byte("b")}, &tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "a"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := unpackFrom(bytes.NewReader(raw))
		if err != nil {
			return
		}
		for name := range m {
			if !filepath.IsLocal(name) {
				t.Fatalf("%q leads out", name)
			}
		}
	})
}
