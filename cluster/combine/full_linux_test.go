package combine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// On a disk that is full or read-only no key is left.
func TestFullAndReadOnlyDisks(t *testing.T) {
	c := ran(t)
	for _, x := range []struct {
		options  string
		readOnly bool
		want     Code
	}{{"size=4k", false, CodeNoSpace}, {"size=12k", false, CodeNoSpace}, {"nr_inodes=3", false, CodeNoSpace}, {"", true, CodeRights}} {
		t.Run(x.options, func(t *testing.T) {
			at := t.TempDir()
			if err := unix.Mount("tmpfs", at, "tmpfs", 0, x.options); err != nil {
				t.Skipf("a small file system can't be mounted here (%v): run as root", err)
			}
			t.Cleanup(func() { unix.Unmount(at, 0) })
			if x.readOnly {
				if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
					t.Skipf("can't remount: %v", err)
				}
			}
			_, err := Run(t.Context(), Params{ClusterDir: c.Dir, OutputDir: filepath.Join(at, "keys")}, doors())
			if CodeOf(err) != x.want || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			if left, _ := os.ReadDir(at); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
