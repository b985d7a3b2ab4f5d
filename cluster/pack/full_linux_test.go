package pack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app.provost/cluster/internal/fence"

	"golang.org/x/sys/unix"
)

// mountTmpfs mounts a small file system, or skips.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a small file system can't be mounted here (%v): run as root", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// On a disk that is full or read-only nothing is left, and a node that was not sealed may run on.
func TestFullAndReadOnlyDisks(t *testing.T) {
	recipient, identity := someone(t)
	dir, _ := ran(t)
	whole := filepath.Join(t.TempDir(), "whole.age")
	if _, err := Export(t.Context(), ExportParams{Dir: dir, Out: whole, Backup: true, Seal: Seal{Recipients: []string{recipient}}}, doors()); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, at string, want Code) {
		t.Helper()
		_, err := Export(t.Context(), ExportParams{Dir: dir, Out: filepath.Join(at, "x.age"), Seal: Seal{Recipients: []string{recipient}}}, doors())
		if CodeOf(err) != want {
			t.Errorf("export: %v", err)
		}
		_, err = Import(t.Context(), ImportParams{File: whole, Dir: filepath.Join(at, "n"), Key: Key{IdentityFile: identity}}, doors())
		if CodeOf(err) != want || strings.Contains(err.Error(), "\n") {
			t.Errorf("import: %v", err)
		}
		if left, _ := os.ReadDir(at); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		if note, err := fence.Read(dir); note != nil || err != nil {
			t.Errorf("the node got a note: %+v, %v", note, err)
		}
	}
	for _, options := range []string{"size=4k", "size=40k", "nr_inodes=2"} {
		t.Run(options, func(t *testing.T) { check(t, mountTmpfs(t, options), CodeNoSpace) })
	}
	t.Run("read-only", func(t *testing.T) {
		at := mountTmpfs(t, "")
		if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Skipf("can't remount: %v", err)
		}
		check(t, at, CodeRights)
	})
}
