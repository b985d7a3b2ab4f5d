// Package aside makes a directory of secrets beside its target, to be put in place in one step or to
// vanish.
//
// A stage is named .provost-<what>-<16 hex digits>, mode 0700, and is held with flock as long as its
// run lives, whatever ends that. So a stage that nobody holds is what a killed run left; New
// overwrites and removes those of its own kind and user first. What is at the target is never
// overwritten. One user at a time; every call blocks on the disk.
package aside

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"golang.org/x/sys/unix"
)

// Stage is a directory that is not in place yet.
type Stage struct {
	Dir   string   // absolute
	Wiped []string // what killed runs had left
	held  *os.File
}

// New makes a stage in a directory that exists. what names the kind, in lower-case letters.
func New(parent, what string) (*Stage, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, err
	}
	s := &Stage{}
	if s.Wiped, err = sweep(parent, what); err != nil {
		return nil, err
	}
	for range 16 { // a run that sweeps may take a new one for a dead one
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return nil, err
		}
		s.Dir = filepath.Join(parent, ".provost-"+what+"-"+hex.EncodeToString(id[:]))
		if err := os.Mkdir(s.Dir, 0o700); err != nil {
			return nil, err
		}
		if s.held = hold(s.Dir); s.held != nil {
			return s, os.Chmod(s.Dir, 0o700) // whatever the umask is
		}
	}
	return nil, errors.New("no directory could be held: try again")
}

// hold takes a stage, nil when somebody else has it or it is gone.
func hold(dir string) *os.File {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		mine, err := f.Stat()
		named, nerr := os.Lstat(dir)
		if err == nil && nerr == nil && os.SameFile(mine, named) {
			return f
		}
	}
	f.Close()
	return nil
}

func sweep(parent, what string) (wiped []string, err error) {
	d, err := os.Open(parent)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close() // only read
	if err != nil {
		return nil, err
	}
	pattern := regexp.MustCompile(`^\.provost-` + regexp.QuoteMeta(what) + `-[0-9a-f]{16}$`)
	for _, name := range names {
		dir := filepath.Join(parent, name)
		if !pattern.MatchString(name) {
			continue
		}
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || !ours(info) {
			continue
		}
		f := hold(dir)
		if f == nil {
			continue // its run lives
		}
		err = wipe(dir)
		f.Close()
		if err != nil {
			return wiped, fmt.Errorf("remove what a killed run left: %w", err)
		}
		wiped = append(wiped, dir)
	}
	return wiped, nil
}

func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

// WriteFile writes a new file of the stage with exactly the mode, and syncs it.
func (s *Stage) WriteFile(name string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(filepath.Join(s.Dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
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

// Commit puts the stage at a target on the same file system, where nothing or an empty directory may
// be (fs.ErrExist otherwise), and confirms it to the disk.
func (s *Stage) Commit(target string) error {
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return syncDir(path)
		}
		return err
	})
	if err != nil {
		return err
	}
	// Not os.Rename: that refuses an empty directory at the target, which the system call replaces.
	// Neither replaces a directory with something in it, a file or a link.
	if err := unix.Rename(s.Dir, target); err != nil {
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
			err = fs.ErrExist
		}
		return &fs.PathError{Op: "put in place", Path: target, Err: err}
	}
	err = syncDir(filepath.Dir(target))
	s.held.Close()
	s.held = nil
	return err
}

// Discard overwrites and removes everything. After Commit it does nothing.
func (s *Stage) Discard() error {
	if s.held == nil {
		return nil
	}
	err := wipe(s.Dir)
	s.held.Close()
	s.held = nil
	return err
}

// wipe overwrites every file below dir with zeros and removes all. Disks that write elsewhere may
// keep old blocks; that can't be helped from here. Links are removed, not followed.
func wipe(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = wipeFile(path)
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir)) // gone is better than there
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

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Free says whether a stage could be put at a target: nothing may be there, or an empty directory
// that is no link. The directory above it must exist.
func Free(target string) error {
	info, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		above, err := os.Stat(filepath.Dir(target))
		if err == nil && !above.IsDir() {
			err = &fs.PathError{Op: "open", Path: filepath.Dir(target), Err: syscall.ENOTDIR}
		}
		return err
	case err != nil:
		return err
	case !info.IsDir():
		return &fs.PathError{Op: "put in place", Path: target, Err: fs.ErrExist}
	}
	d, err := os.Open(target)
	if err != nil {
		return err
	}
	defer d.Close()
	if names, _ := d.Readdirnames(1); len(names) > 0 {
		return &fs.PathError{Op: "put in place", Path: target, Err: fs.ErrExist}
	}
	return nil
}
