package place

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var tree = []File{
	{Path: "a/key.json", Mode: 0o600, Owner: -1, Data: []byte("canary-5f3b")},
	{Path: "a/b/note", Mode: 0o644, Owner: -1, Data: []byte("x")},
	{Path: "README.md", Mode: 0o644, Owner: -1},
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestPut(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	base := t.TempDir()
	dir := filepath.Join(base, "x", "y", "provers")
	if err := Put(t.Context(), dir, tree); err != nil {
		t.Fatal(err)
	}
	for p, mode := range map[string]fs.FileMode{"": 0o700, "a": 0o700, "a/b": 0o700, "a/key.json": 0o600, "a/b/note": 0o644, "README.md": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, p)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v %v", p, info, err)
		}
	}
	if got := names(t, filepath.Dir(dir)); len(got) != 1 {
		t.Errorf("beside it: %q", got)
	}
	// An empty directory is taken, a full one never.
	empty := filepath.Join(base, "empty")
	if err := errors.Join(os.Mkdir(empty, 0o755), Put(t.Context(), empty, tree)); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if err := Put(t.Context(), empty, tree); !errors.As(err, &e) || e.Kind != KindExists {
		t.Error(err)
	}
}

func TestPutRefuses(t *testing.T) {
	base := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(base, "file")
	must(os.WriteFile(file, nil, 0o600))
	must(os.Symlink(base, filepath.Join(base, "link")))
	must(os.Symlink(filepath.Join(base, "gone"), filepath.Join(base, "dangling")))
	before := names(t, base)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx   context.Context
		dir   string
		files []File
		kind  Kind
	}{
		"a file":            {t.Context(), file, tree, KindExists},
		"below a file":      {t.Context(), filepath.Join(file, "x"), tree, KindUsage},
		"a link":            {t.Context(), filepath.Join(base, "link"), tree, KindUsage},
		"below a dead link": {t.Context(), filepath.Join(base, "dangling", "x"), tree, KindUsage},
		"relative":          {t.Context(), "x", tree, KindUsage},
		"root":              {t.Context(), "/", tree, KindUsage},
		"a stage's name":    {t.Context(), filepath.Join(base, prefix+"0123456789abcdef"), tree, KindUsage},
		"cancelled":         {ended, filepath.Join(base, "deep", "x"), tree, KindCancelled},
		"out of the tree":   {t.Context(), filepath.Join(base, "x"), []File{{Path: "../evil", Mode: 0o600, Owner: -1}}, KindUnexpected},
		"twice":             {t.Context(), filepath.Join(base, "x"), []File{{Path: "a", Owner: -1}, {Path: "a", Owner: -1}}, KindUnexpected},
		"file and dir":      {t.Context(), filepath.Join(base, "deep", "x"), []File{{Path: "a", Owner: -1}, {Path: "a/b", Owner: -1}}, KindUnexpected},
	} {
		var e *Error
		if err := Put(tt.ctx, tt.dir, tt.files); !errors.As(err, &e) || e.Kind != tt.kind {
			t.Errorf("%s: %v", name, err)
		}
		if got := names(t, base); strings.Join(got, " ") != strings.Join(before, " ") {
			t.Fatalf("%s left %q", name, got)
		}
	}
}

// TestFullAndReadOnly uses file systems of their own, which needs the right to mount.
func TestFullAndReadOnly(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("mounting small file systems needs root on Linux")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	var e *Error
	big := append([]File{{Path: "big", Mode: 0o600, Owner: -1, Data: make([]byte, 1<<20)}}, tree...)
	if err := Put(t.Context(), filepath.Join(dir, "x"), big); !errors.As(err, &e) || e.Kind != KindNoSpace {
		t.Error(err)
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("a full disk keeps %q", got)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("no read-only file system here: %v", err)
	}
	if err := Put(t.Context(), filepath.Join(dir, "x"), tree); !errors.As(err, &e) || e.Kind != KindNotAllowed {
		t.Error(err)
	}
}

// TestKilled kills a run between writing and renaming: the next run wipes what it left.
func TestKilled(t *testing.T) {
	dir := os.Getenv("PLACE_DIR")
	if dir != "" { // the child
		files := append([]File{}, tree...)
		for range 200_000 {
			files = append(files, File{Path: "n" + strings.Repeat("x", len(files)%100) + "/" + time.Now().Format("150405.000000000"), Mode: 0o600, Owner: -1})
		}
		_ = Put(context.Background(), dir, files)
		os.Exit(0)
	}
	if testing.Short() {
		t.Skip("it starts a process")
	}
	base := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "PLACE_DIR="+filepath.Join(base, "x"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stage := ""
	for stage == "" {
		time.Sleep(2 * time.Millisecond)
		for _, n := range names(t, base) {
			if _, err := os.Stat(filepath.Join(base, n, "a/b/note")); err == nil {
				stage = n
			}
		}
	}
	// While it lives it is left alone.
	if err := Put(t.Context(), filepath.Join(base, "other"), tree); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(base, stage)); err != nil {
		t.Errorf("a living run lost its stage: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if got := names(t, base); len(got) != 2 || got[0] != stage {
		t.Fatalf("after the kill: %q", got)
	}
	if err := Put(t.Context(), filepath.Join(base, "x"), tree); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names(t, base), " "); got != "other x" {
		t.Errorf("the next run left %q", got)
	}
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	dir := filepath.Join(t.TempDir(), "x")
	if err := Put(t.Context(), dir, []File{{Path: "k", Mode: 0o600, Owner: 1001, Data: []byte("s")}}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "k"))
	if st := info.Sys().(*syscall.Stat_t); err != nil || st.Uid != 1001 || st.Gid != 1001 || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
}

// TestAlone: one holds the parent at a time, and a parent that was made for that goes with an empty end.
func TestAlone(t *testing.T) {
	at := t.TempDir()
	dir := filepath.Join(at, "a", "b", "target")
	release, err := Alone(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var e *Error
	if _, err := Alone(ctx, filepath.Join(at, "a", "b", "other")); !errors.As(err, &e) || e.Kind != KindCancelled {
		t.Errorf("a second one was let in: %v", err)
	}
	next := make(chan error, 1)
	go func() {
		again, err := Alone(t.Context(), filepath.Join(at, "a", "b", "other"))
		if err == nil {
			again()
		}
		next <- err
	}()
	release()
	if err := <-next; err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(at); err != nil || len(names) > 0 {
		t.Errorf("%v is left, %v", names, err)
	}
	if release, err = Alone(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if err := Put(t.Context(), dir, []File{{Path: "x", Mode: 0o600, Owner: -1}}); err != nil {
		t.Error(err)
	}
	release()
	if _, err := os.Stat(filepath.Join(dir, "x")); err != nil {
		t.Error(err)
	}
}
