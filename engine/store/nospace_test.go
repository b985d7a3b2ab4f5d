//go:build linux

package store

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"app.provost/engine"
)

// TestRealFullDisk fills a filesystem of its own.
func TestRealFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=0700"); err != nil {
		t.Skipf("a small filesystem cannot be mounted here (needs root): %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })

	// Not even room to begin: nothing is left behind.
	hog := filepath.Join(dir, "hog")
	if err := os.WriteFile(hog, make([]byte, 250<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Options{Dir: dir})
	wantCode(t, err, engine.CodeNoSpace)
	for _, name := range []string{fileName, fileName + ".new"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was left behind", name)
		}
	}
	os.Truncate(hog, 0)

	s := openTest(t, Options{Dir: dir})
	defer s.Close()
	var kept uint64
	text := strings.Repeat("x", 2000)
	for range 1000 {
		e, aerr := s.Append(engine.Entry{Text: text})
		if err = aerr; err != nil {
			break
		}
		kept = e[0].N
	}
	wantCode(t, err, engine.CodeNoSpace)
	if kept == 0 {
		t.Fatal("nothing fitted")
	}
	s.Close()
	s = openTest(t, Options{Dir: dir})
	defer s.Close()
	if entries, _, _, err := s.Entries(0, 1000); uint64(len(entries)) != kept || err != nil {
		t.Errorf("%d entries, %d acknowledged: %v", len(entries), kept, err)
	}
}
