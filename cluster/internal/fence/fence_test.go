package fence

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the samples again")

var samples = map[string]Note{
	"moved-1.json": {Kind: Moved, At: time.Unix(1795000000, 0).UTC(), Copy: time.Unix(1795000000, 0).UTC(), Archive: "/media/node0.age",
		SHA256: "0000000000000000000000000000000000000000000000000000000000000000", Finished: true},
	"restored-1.json": {Kind: Restored, At: time.Unix(1795000600, 0).UTC(), Copy: time.Unix(1795000000, 0).UTC()},
}

// The samples are kept for ever: what a version wrote, every later one reads.
func TestSamples(t *testing.T) {
	for name, want := range samples {
		dir, path := t.TempDir(), filepath.Join("testdata", name)
		if *update {
			if err := Write(dir, want); err != nil {
				t.Fatal(err)
			}
			raw, _ := os.ReadFile(Path(dir))
			if err := os.WriteFile(path, raw, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(Path(dir)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(Path(dir), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(dir); err != nil || *got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestWriteReadRemove(t *testing.T) {
	dir := t.TempDir()
	if n, err := Read(dir); n != nil || err != nil {
		t.Fatalf("no note: %+v, %v", n, err)
	}
	if err := Remove(dir); err != nil {
		t.Errorf("remove none: %v", err)
	}
	for _, want := range samples {
		if err := Write(dir, want); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(dir); err != nil || *got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	info, err := os.Stat(Path(dir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	if n, err := Read(dir); n != nil || err != nil {
		t.Errorf("removed: %+v, %v", n, err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, Dir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What cannot be read must not be taken for no note.
func TestUnreadableIsAnError(t *testing.T) {
	for _, text := range []string{"", "{", "null", "{}", `{"schema":"provost.fence/1"}`, `{"schema":"provost.fence/2","kind":"moved"}`,
		`{"schema":"provost.fence/1","kind":"other"}`, `{"schema":"provost.fence/1","kind":"moved","more":1}`} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Dir(Path(dir)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(Path(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := Read(dir); err == nil {
			t.Errorf("%q was taken for %+v", text, n)
		}
	}
}
