package fit

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a small file system cannot be mounted here (%v): run as root", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// TestFullAndReadOnly: a disk that is full, at whatever file, leaves nothing of a new plan, and of a plan
// that changes one that the same command completes.
func TestFullAndReadOnly(t *testing.T) {
	l := must(t, nil, Params{Profile: remote(HolesBorne), Machines: boxes(8, 8, 64)})
	files := made(t, &l, nodeAdapter("/usr/bin/node"))
	for _, options := range []string{"size=4k", "size=48k", "size=160k", "nr_inodes=3", "nr_inodes=20", "nr_inodes=60"} {
		dir := smallDisk(t, options)
		if err := WriteTree(filepath.Join(dir, "a/farm"), files, goOn); kindOf(err) != KindNoSpace {
			t.Errorf("%s: %v", options, err)
		}
		if names, _ := os.ReadDir(dir); len(names) != 0 {
			t.Errorf("%s: left behind: %v", options, names)
		}
	}
	before, after, _, drop, revision := change(t)
	for _, inodes := range []string{"nr_inodes=40", "nr_inodes=42", "nr_inodes=44", "nr_inodes=46", "nr_inodes=48", "nr_inodes=50", "nr_inodes=52"} {
		disk := smallDisk(t, inodes)
		dir := filepath.Join(disk, "farm")
		if err := WriteTree(dir, before, goOn); err != nil {
			t.Fatalf("%s: %v", inodes, err)
		}
		was := content(t, dir)
		err := UpdateTree(dir, revision, after, drop, goOn)
		if kindOf(err) != KindNoSpace {
			t.Errorf("%s: %v", inodes, err)
		}
		if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "nr_inodes=1000"); err != nil {
			t.Skipf("cannot remount: %v", err)
		}
		if found, err := ReadTree(dir); err != nil || found.State.Revision != 1 {
			t.Errorf("%s: %+v, %v", inodes, found, err)
		}
		if err := UpdateTree(dir, revision, after, drop, goOn); err != nil {
			t.Errorf("%s: %v", inodes, err)
		}
		checkUpdated(t, dir, before, after, drop, was)
	}
	dir := smallDisk(t, "")
	if err := WriteTree(dir, files, goOn); kindOf(err) != KindUsage {
		t.Errorf("a mount point: %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("cannot remount: %v", err)
	}
	if err := WriteTree(filepath.Join(dir, "farm"), files, goOn); kindOf(err) != KindNotAllowed {
		t.Errorf("read-only: %v", err)
	}
}
