package aside

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestStageIsPutInPlaceOrVanishes(t *testing.T) {
	parent := t.TempDir()
	s, err := New(parent, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFile("secret", []byte("x"), 0o400); err != nil {
		t.Fatal(err)
	}
	other, err := New(parent, "test") // the first one lives: it is left alone
	if err != nil || len(other.Wiped) != 0 {
		t.Fatalf("%v, %v", other, err)
	}
	if err := other.Discard(); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(parent, "target")
	taken := filepath.Join(parent, "taken")
	os.MkdirAll(filepath.Join(taken, "x"), 0o700)
	os.Symlink(taken, filepath.Join(parent, "link"))
	os.WriteFile(filepath.Join(parent, "file"), nil, 0o600)
	for _, bad := range []string{taken, filepath.Join(parent, "link"), filepath.Join(parent, "file")} {
		if err := Free(bad); !errors.Is(err, fs.ErrExist) {
			t.Errorf("free %s: %v", bad, err)
		}
		if err := s.Commit(bad); !errors.Is(err, fs.ErrExist) {
			t.Errorf("commit over %s: %v", bad, err)
		}
	}
	if err := Free(filepath.Join(parent, "no/where")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing above: %v", err)
	}
	if err := Free(target); err != nil {
		t.Error(err)
	}
	os.Mkdir(target, 0o755)
	if err := Free(target); err != nil {
		t.Error(err)
	}
	if err := s.Commit(target); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(target, "secret")); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("%v, %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(parent, ".provost-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWhatAKilledRunLeftIsWiped(t *testing.T) {
	parent := t.TempDir()
	dead, err := New(parent, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.WriteFile("secret", []byte("canary"), 0o400); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(parent, "linked") // another name of the file shows that it was overwritten
	if err := os.Link(filepath.Join(dead.Dir, "secret"), link); err != nil {
		t.Fatal(err)
	}
	dead.held.Close() // as the system does when its process dies
	kind, err := New(parent, "other")
	if err != nil || len(kind.Wiped) != 0 {
		t.Errorf("another kind: %v, %v", kind.Wiped, err)
	}
	s, err := New(parent, "test")
	if err != nil || len(s.Wiped) != 1 || s.Wiped[0] != dead.Dir {
		t.Fatalf("%v, %v", s, err)
	}
	if b, _ := os.ReadFile(link); string(b) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("its content is %q", b)
	}
	for _, x := range []*Stage{kind, s} {
		if err := x.Discard(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(parent, ".provost-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
