package create

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"app.provost/cluster"

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

// TestFullOnOtherPaths fills the disk while the archive or slashing protection is written: whatever
// fits, there is a whole cluster or nothing.
func TestFullOnOtherPaths(t *testing.T) {
	hoodi, _ := cluster.NetworkByName("hoodi")
	for name, change := range map[string]func(p *Params){
		"zipped": func(p *Params) { p.Zipped = true },
		"history": func(p *Params) {
			g := &fakeGuard{signed: map[cluster.PubKey]Signed{}, root: hoodi.ValidatorsRoot}
			p.SplitExistingKeys, p.SplitKeysDir, p.NoSlashingHistory, p.NumValidators, p.Guard = true, oldKeys(t, 3, charonStyle), NoHistoryPhrase, 0, g.door()
			p.SlashingHistory = filepath.Join(t.TempDir(), "h.json")
			put(t, p.SlashingHistory)([]byte("{}"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			whole, none := 0, 0
			for pages := 36; pages <= 60; pages += 3 {
				dir := mountTmpfs(t, fmt.Sprintf("size=%dk", 4*pages))
				p := testParams(filepath.Join(dir, "c"))
				change(&p)
				if _, err := Run(t.Context(), p, nil); err == nil {
					whole++
					continue
				} else if KindOf(err) != KindNoSpace {
					t.Errorf("%d pages: %s: %v", pages, KindOf(err), err)
				}
				none++
				if left := list(t, dir); len(left) != 0 {
					t.Errorf("%d pages: left behind: %q", pages, left)
				}
			}
			if whole == 0 || none == 0 {
				t.Errorf("%d whole, %d refused: the sizes don't show the edge", whole, none)
			}
		})
	}
	t.Run("definition", func(t *testing.T) {
		dir := mountTmpfs(t, "nr_inodes=1")
		p := testParams(filepath.Join(t.TempDir(), "c"))
		p.DefinitionOut = filepath.Join(dir, "def.json")
		_, err := Run(t.Context(), p, nil)
		if KindOf(err) != KindPartly || !strings.Contains(err.Error(), "no space") || !strings.Contains(err.Error(), "the cluster itself is made") {
			t.Errorf("%s: %v", KindOf(err), err)
		}
		if r := mustVerify(t, p.Dir); !r.OK() {
			t.Errorf("failed %v", failedIDs(r))
		}
	})
}

// TestTargetsOfOthers: an empty directory of another user is not taken over, and a parent that
// everybody may write to is warned of.
func TestTargetsOfOthers(t *testing.T) {
	base := t.TempDir()
	theirs := filepath.Join(base, "theirs")
	if err := os.Mkdir(theirs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(theirs, 12345, 12345); err != nil {
		t.Skipf("nothing can be given to another user here (%v): run as root", err)
	}
	_, err := Run(t.Context(), testParams(theirs), nil)
	if KindOf(err) != KindNotAllowed || !strings.Contains(err.Error(), "belongs to another user") {
		t.Errorf("%v", err)
	}
	open := filepath.Join(base, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	plan, err := Plan(t.Context(), testParams(filepath.Join(open, "c")))
	if err != nil || !slices.ContainsFunc(plan.Warnings, func(w string) bool { return strings.Contains(w, "chmod o-w "+open) }) {
		t.Errorf("%v, warnings %q", err, plan.Warnings)
	}
}
