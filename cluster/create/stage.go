package create

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A stage is the directory beside the target in which a cluster grows. Its name and that of its
// lock file are
//
//	.provost-create-<16 hex digits>        mode 0700
//	.provost-create-<16 hex digits>.lock   held with flock as long as the run lives
//
// The lock file is made and held before the directory is and goes after it. So a directory without
// a lock file, or whose lock nobody holds, belongs to a run that died, and its content is overwritten
// and removed by the next run beside it. The lock goes with its process, whatever kills it.
const tempPrefix = ".provost-create-"

var stageName = regexp.MustCompile(`^` + regexp.QuoteMeta(tempPrefix) + `[0-9a-f]{16}$`)

type stage struct {
	dir     string // absolute
	lock    *os.File
	created string // topmost directory above the target that was made for it, or ""
	parent  string
}

// newStage makes parents, lock and directory. On error nothing is left.
func newStage(t target) (_ *stage, err error) {
	s := &stage{parent: t.parent}
	if err := s.makeParents(t); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.dropParents()
		}
	}()
	// A cleaning run may grab a new lock file for a moment; then another name is tried.
	for range 16 {
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return nil, fmt.Errorf("draw a name: %w", err)
		}
		s.dir = filepath.Join(t.parent, tempPrefix+hex.EncodeToString(id[:]))
		f, err := os.OpenFile(s.dir+".lock", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, explain("create cluster in", t.parent, err)
		}
		if !holdLock(f) {
			_ = os.Remove(f.Name())
			_ = f.Close()
			continue
		}
		if _, err := fmt.Fprintf(f, "provost create cluster, process %d\n", os.Getpid()); err != nil {
			_ = os.Remove(f.Name())
			_ = f.Close()
			return nil, explain("create cluster in", t.parent, err)
		}
		if err := makeDir(s.dir); err != nil {
			_ = os.Remove(f.Name())
			_ = f.Close()
			return nil, explain("create cluster in", t.parent, err)
		}
		s.lock = f
		return s, nil
	}
	return nil, &Error{Kind: KindUnexpected, Action: "create cluster in", Path: t.parent, Err: errors.New("no lock could be held"), Remedy: "try again"}
}

// holdLock takes the lock of an open lock file, and says whether that file still has its name.
func holdLock(f *os.File) bool {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return false
	}
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(mine, named)
}

func (s *stage) makeParents(t target) error {
	rest, err := filepath.Rel(t.ancestor, t.parent)
	if err != nil {
		return explain("create cluster in", t.parent, err)
	}
	if rest == "." {
		return nil
	}
	at := t.ancestor
	for step := range strings.SplitSeq(rest, string(filepath.Separator)) {
		above := at
		at = filepath.Join(at, step)
		err := makeDir(at)
		if errors.Is(err, fs.ErrExist) {
			continue // somebody else just made it
		}
		if err == nil && s.created == "" {
			s.created = at
		}
		if err == nil {
			err = syncDir(above)
		}
		if err != nil {
			s.dropParents()
			return explain("create cluster in", at, err)
		}
	}
	return nil
}

// dropParents removes the parents that were made, as far as they are empty.
func (s *stage) dropParents() {
	if s.created == "" {
		return
	}
	for at := s.parent; ; at = filepath.Dir(at) {
		if os.Remove(at) != nil || at == s.created {
			return
		}
	}
}

// discard overwrites and removes everything. It is what a failed run ends with.
func (s *stage) discard() error {
	err := wipeTree(s.dir)
	if err == nil {
		s.release()
		s.dropParents()
	} else {
		_ = s.lock.Close() // the next run finds both and tries again
	}
	return err
}

// release gives up the lock and removes its file, in this order of effects: the name goes first.
func (s *stage) release() {
	_ = os.Remove(s.lock.Name()) // if it stays, the next run removes it
	_ = s.lock.Close()
}

// moveTo puts the stage at the target in one step. It fails when something is there by now.
func (s *stage) moveTo(t target) error {
	// Not os.Rename: that refuses an empty directory at the target, which the system call replaces.
	// Neither replaces a directory with something in it, a file or a link.
	if err := unix.Rename(s.dir, t.dir); err != nil {
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
			return &Error{Kind: KindExists, Action: "create cluster in", Path: t.dir, Err: errors.New("something was put there meanwhile"), Remedy: "choose another --cluster-dir; nothing was changed"}
		}
		return explain("create cluster in", t.dir, err)
	}
	if err := syncDir(t.parent); err != nil {
		s.release()
		return &Error{Kind: KindUnexpected, Action: "create cluster in", Path: t.dir, Err: fmt.Errorf("the cluster is in place, but the disk didn't confirm it: %w", err), Remedy: "run sync and then verify the cluster"}
	}
	s.release()
	return nil
}

// findLeftovers lists stages in dir whose runs died. It changes nothing.
func findLeftovers(dir string) ([]string, error) {
	return leftovers(dir, func(string, *os.File) error { return nil })
}

// cleanLeftovers overwrites and removes stages in dir whose runs died.
func cleanLeftovers(dir string) ([]string, error) {
	return leftovers(dir, func(stageDir string, lock *os.File) error {
		if err := wipeTree(stageDir); err != nil {
			return explain("remove what a killed run left in", stageDir, err)
		}
		if lock == nil {
			return nil
		}
		if err := os.Remove(lock.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explain("remove what a killed run left in", stageDir, err)
		}
		return nil
	})
}

// leftovers calls each with every dead stage in dir and, where there is one, its lock file, held.
// Only real directories and files of our own user count: in a shared directory a stranger could
// have put anything there.
func leftovers(dir string, each func(stageDir string, lock *os.File) error) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("look for killed runs in", dir, err)
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close() // only read
	if err != nil {
		return nil, explain("look for killed runs in", dir, err)
	}
	var found []string
	seen := map[string]bool{}
	for _, name := range names {
		name = strings.TrimSuffix(name, ".lock")
		if !stageName.MatchString(name) || seen[name] {
			continue
		}
		seen[name] = true
		dead, err := leftover(filepath.Join(dir, name), each)
		if dead {
			found = append(found, filepath.Join(dir, name))
		}
		if err != nil {
			return found, err
		}
	}
	return found, nil
}

func leftover(stageDir string, each func(string, *os.File) error) (dead bool, err error) {
	info, statErr := os.Lstat(stageDir)
	if statErr == nil && (!info.IsDir() || !ours(info)) {
		return false, nil
	}
	f, err := os.OpenFile(stageDir+".lock", os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if statErr != nil {
			return false, nil // its run just ended
		}
		return true, each(stageDir, nil)
	}
	if err != nil {
		return false, nil // not ours to open
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || !ours(info) || !holdLock(f) {
		return false, nil // its run lives
	}
	return true, each(stageDir, f)
}

func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

func deviceOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev) //nolint:unconvert // the type differs between systems
	}
	return 0
}

// wipeTree overwrites every file below dir with zeros and removes all. Disks that write elsewhere
// may keep old blocks; that can't be helped from here. Links are removed, not followed.
func wipeTree(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			return wipeFile(path)
		}
		return nil
	})
	// Removing goes on even if a file could not be overwritten: gone is better than there.
	return errors.Join(err, os.RemoveAll(dir))
}

func wipeFile(path string) error {
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		zeros := make([]byte, min(info.Size(), 64<<10))
		for left := info.Size(); left > 0 && err == nil; left -= int64(len(zeros)) {
			_, err = f.Write(zeros[:min(left, int64(len(zeros)))])
		}
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// writeFile writes a new file with exactly the mode, whatever the umask is, and syncs it.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// makeDir makes a new directory with exactly our mode, whatever the umask is.
func makeDir(path string) error {
	if err := os.Mkdir(path, modeDir); err != nil {
		return err
	}
	return os.Chmod(path, modeDir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
