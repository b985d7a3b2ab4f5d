package create

import (
	"path/filepath"
	"strings"
	"testing"

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

func TestReadOnlyAndFull(t *testing.T) {
	for _, options := range []string{"size=4k", "size=32k", "size=80k", "size=140k", "nr_inodes=3", "nr_inodes=12", "nr_inodes=40"} {
		t.Run(options, func(t *testing.T) {
			dir := mountTmpfs(t, options)
			_, err := Run(t.Context(), testParams(filepath.Join(dir, "c")), nil)
			if KindOf(err) != KindNoSpace || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", KindOf(err), err)
			}
			if left := list(t, dir); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	t.Run("read-only", func(t *testing.T) {
		dir := mountTmpfs(t, "")
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Skipf("can't remount: %v", err)
		}
		_, err := Run(t.Context(), testParams(filepath.Join(dir, "c")), nil)
		if KindOf(err) != KindNotAllowed || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("%s: %v", KindOf(err), err)
		}
	})
	t.Run("mount point", func(t *testing.T) {
		dir := mountTmpfs(t, "")
		_, err := Run(t.Context(), testParams(dir), nil)
		if KindOf(err) != KindUsage || !strings.Contains(err.Error(), "mount point") {
			t.Errorf("%s: %v", KindOf(err), err)
		}
	})
}
