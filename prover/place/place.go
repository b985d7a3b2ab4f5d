// Package place puts a finished tree of files on the disk in one step.
//
// Promises. At the target there is nothing, or the whole tree, at every moment and
// after a kill at any moment: it is written into a directory beside the target,
// synced, read back and renamed. What a killed run left beside it is overwritten and
// removed by the next one. Nothing that exists is ever changed; an empty directory
// at the target is taken. Modes do not depend on the umask. Calls block until done,
// end early with their context, and may come from any goroutine.
package place

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// File is a file of a tree. Directories come from the paths and have mode 0700.
type File struct {
	Path  string // relative, with slashes
	Mode  fs.FileMode
	Owner int // user and group; -1: who writes. Only root can give a file away.
	Data  []byte
}

// Kind sorts errors for exit codes. Its zero value is no kind.
type Kind string

// The kinds of errors.
const (
	KindUsage      Kind = "usage"       // the choice of target isn't valid
	KindExists     Kind = "exists"      // something is at the target already
	KindNotAllowed Kind = "not_allowed" // rights, or a read-only file system
	KindNoSpace    Kind = "no_space"    // disk or quota is full
	KindCancelled  Kind = "cancelled"   // the context ended
	KindUnexpected Kind = "unexpected"  // anything else
)

// Error says at which path what failed and what to do. It never holds file contents.
type Error struct {
	Kind   Kind
	Path   string
	Err    error
	Remedy string
}

// Error returns everything in one line.
func (e *Error) Error() string {
	s := e.Path + ": " + e.Err.Error()
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

const prefix = ".provost-place-"

var stageName = regexp.MustCompile(`^` + regexp.QuoteMeta(prefix) + `[0-9a-f]{16}$`)

const modeDir fs.FileMode = 0o700

// Check says whether a tree can be put at dir. It changes nothing. Errors are *Error.
func Check(dir string) error {
	_, err := check(dir)
	return err
}

// Alone waits until no other run of this program, in this process or another, is between Alone and its
// release for a directory in the same parent: what is checked among neighbours is still true when Put has
// put one more there. The parent is made if need be, and removed by release when nothing is in it. Where
// the file system knows no locks, nothing is waited for. Errors are *Error.
func Alone(ctx context.Context, dir string) (release func(), err error) {
	parent := filepath.Dir(dir)
	for {
		if err := ctx.Err(); err != nil {
			return nil, explain(dir, err)
		}
		ancestor, err := check(dir)
		if err != nil {
			return nil, err
		}
		made, err := parents(ancestor, parent)
		if errors.Is(err, fs.ErrNotExist) {
			continue // who made what is above it has removed that
		}
		if err != nil {
			return nil, err
		}
		f, err := os.Open(parent)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			dropParents(parent, made)
			return nil, explain(parent, err)
		}
		release := func() {
			dropParents(parent, made)
			_ = f.Close() // gives the lock back; nothing was written
		}
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
				break
			}
			select {
			case <-ctx.Done():
				release()
				return nil, explain(dir, ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
		was, err := f.Stat()
		if err != nil {
			release()
			return nil, explain(parent, err)
		}
		if is, err := os.Stat(parent); err == nil && os.SameFile(was, is) {
			return release, nil
		}
		_ = f.Close() // another directory stands there now
	}
}

// check finds the nearest directory above dir that exists.
func check(dir string) (ancestor string, err error) {
	refuse := func(kind Kind, path, cause, remedy string) (string, error) {
		return "", &Error{kind, path, errors.New(cause), remedy}
	}
	if !filepath.IsAbs(dir) || filepath.Dir(dir) == dir {
		return refuse(KindUsage, dir, "no tree can be put there", "name a directory to create")
	}
	if strings.HasPrefix(filepath.Base(dir), prefix) {
		return refuse(KindUsage, dir, "names that begin with "+prefix+" are for runs in progress", "choose another directory")
	}
	info, err := os.Lstat(dir)
	switch {
	case err == nil && info.Mode()&fs.ModeSymlink != 0:
		return refuse(KindUsage, dir, "it is a symbolic link", "name the directory itself, or remove the link")
	case err == nil && !info.IsDir():
		return refuse(KindExists, dir, "a file stands there", "choose another directory")
	case err == nil:
		d, err := os.Open(dir)
		if err != nil {
			return "", explain(dir, err)
		}
		names, _ := d.Readdirnames(1)
		_ = d.Close() // only read
		if len(names) > 0 {
			return refuse(KindExists, dir, fmt.Sprintf("it is not empty (%q)", names[0]), "choose a directory that doesn't exist or is empty; nothing is ever overwritten")
		}
		if here, err := os.Stat("."); err == nil && os.SameFile(here, info) {
			return refuse(KindUsage, dir, "it is the current directory, which can't be replaced in one step", "name a directory below it")
		}
		if up, err := os.Stat(filepath.Dir(dir)); err == nil && device(up) != device(info) {
			return refuse(KindUsage, dir, "it is a mount point, which can't be replaced in one step", "name a directory below it")
		}
	case errors.Is(err, unix.ENOTDIR):
		return refuse(KindUsage, dir, "a file stands where a directory belongs", "choose another directory")
	case !errors.Is(err, fs.ErrNotExist):
		return "", explain(dir, err)
	}
	at := filepath.Dir(dir)
	for {
		info, err := os.Stat(at)
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			if _, err := os.Lstat(at); err == nil {
				return refuse(KindUsage, at, "it is a symbolic link to nothing", "remove the link or choose another directory")
			}
			at = filepath.Dir(at)
			continue
		}
		if err != nil {
			return "", explain(at, err)
		}
		if !info.IsDir() {
			return refuse(KindUsage, at, "a file stands where a directory belongs", "choose another directory")
		}
		break
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		return "", explain(at, err)
	}
	return at, nil
}

// Put writes a tree and moves it to dir. On error nothing new is at dir and nothing
// is left beside it. Errors are *Error.
func Put(ctx context.Context, dir string, files []File) (err error) {
	ancestor, err := check(dir)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, f := range files {
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) || path.Clean(f.Path) != f.Path || seen[f.Path] {
			return &Error{KindUnexpected, dir, fmt.Errorf("%q is no path of a tree, or stands there twice", f.Path), ""}
		}
		seen[f.Path] = true
	}
	parent := filepath.Dir(dir)
	made, err := parents(ancestor, parent)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			dropParents(parent, made)
		}
	}()
	sweep(parent)
	stage, lock, err := open(parent)
	if err != nil {
		return explain(parent, err)
	}
	defer lock.Close() // the lock goes with it, also after the rename
	moved := false
	defer func() {
		if !moved {
			if wipeErr := wipe(stage); wipeErr != nil {
				err = errors.Join(err, explain(stage, wipeErr))
			}
		}
	}()
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return explain(dir, err)
		}
		if err := write(stage, f); err != nil {
			return explain(dir, err)
		}
	}
	if err := syncTree(stage); err != nil {
		return explain(dir, err)
	}
	for _, f := range files {
		if err := readBack(stage, f); err != nil {
			return &Error{KindUnexpected, dir, err, "the disk or the memory may be faulty; nothing was left behind"}
		}
	}
	if err := ctx.Err(); err != nil {
		return explain(dir, err)
	}
	// Not os.Rename: that refuses an empty directory at the target, which the system call replaces.
	if err := unix.Rename(stage, dir); err != nil {
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
			return &Error{KindExists, dir, errors.New("something was put there meanwhile"), "choose another directory; nothing was changed"}
		}
		return explain(dir, err)
	}
	moved = true
	if err := syncDir(parent); err != nil {
		made = "" // the tree is in it
		return &Error{KindUnexpected, dir, fmt.Errorf("the tree is in place, but the disk didn't confirm it: %w", err), "run sync"}
	}
	return nil
}

// parents makes the directories between ancestor and parent; made is the topmost new one.
func parents(ancestor, parent string) (made string, err error) {
	rest, err := filepath.Rel(ancestor, parent)
	if err != nil || rest == "." {
		return "", err
	}
	at := ancestor
	for step := range strings.SplitSeq(rest, string(filepath.Separator)) {
		above := at
		at = filepath.Join(at, step)
		err := makeDir(at)
		if errors.Is(err, fs.ErrExist) {
			continue // somebody else just made it
		}
		if err == nil && made == "" {
			made = at
		}
		if err == nil {
			err = syncDir(above)
		}
		if err != nil {
			dropParents(filepath.Dir(at), made)
			return "", explain(at, err)
		}
	}
	return made, nil
}

func dropParents(at, made string) {
	for made != "" {
		if os.Remove(at) != nil || at == made {
			return
		}
		at = filepath.Dir(at)
	}
}

// open makes a stage and locks it. A run that sweeps may take a new one for a dead
// one before it is locked: then another is made.
func open(parent string) (string, *os.File, error) {
	for range 16 {
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return "", nil, err
		}
		stage := filepath.Join(parent, prefix+hex.EncodeToString(id[:]))
		if err := makeDir(stage); err != nil {
			return "", nil, err
		}
		f, err := hold(stage)
		if err == nil {
			return stage, f, nil
		}
		_ = os.Remove(stage)
	}
	return "", nil, errors.New("no lock could be held")
}

// hold locks a stage of ours, and sees that it still has its name.
func hold(stage string) (*os.File, error) {
	f, err := os.OpenFile(stage, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		mine, e1 := f.Stat()
		named, e2 := os.Lstat(stage)
		if err = errors.Join(e1, e2); err == nil && !os.SameFile(mine, named) {
			err = errors.New("it was replaced")
		}
		if st, ok := mine.Sys().(*syscall.Stat_t); err == nil && (!ok || int(st.Uid) != os.Geteuid()) {
			err = errors.New("it is somebody else's")
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// sweep overwrites and removes what killed runs left in a directory. What it cannot
// remove stays for the next run.
func sweep(parent string) {
	d, err := os.Open(parent)
	if err != nil {
		return
	}
	names, _ := d.Readdirnames(-1)
	_ = d.Close() // only read
	for _, n := range names {
		if !stageName.MatchString(n) {
			continue
		}
		if f, err := hold(filepath.Join(parent, n)); err == nil {
			_ = wipe(filepath.Join(parent, n))
			_ = f.Close()
		}
	}
}

// wipe overwrites every file below dir with zeros and removes all. Links are removed, not followed.
func wipe(dir string) error {
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		return zero(p)
	})
	// Removing goes on even if a file could not be overwritten: gone is better than there.
	return errors.Join(err, os.RemoveAll(dir))
}

func zero(p string) error {
	if err := os.Chmod(p, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(p, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.Write(make([]byte, min(info.Size(), 1<<20))) // no file of a tree is larger
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func write(stage string, f File) error {
	at := stage
	dirs := strings.Split(path.Dir(f.Path), "/")
	for _, d := range dirs {
		if d == "." {
			continue
		}
		at = filepath.Join(at, d)
		if err := makeDir(at); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	w, err := os.OpenFile(filepath.Join(stage, filepath.FromSlash(f.Path)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(f.Data)
	if err == nil && f.Owner >= 0 && (f.Owner != os.Geteuid() || f.Owner != os.Getegid()) {
		err = w.Chown(f.Owner, f.Owner)
	}
	if err == nil {
		err = w.Chmod(f.Mode)
	}
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

func readBack(stage string, f File) error {
	raw, err := os.ReadFile(filepath.Join(stage, filepath.FromSlash(f.Path)))
	same := err == nil && bytes.Equal(raw, f.Data)
	clear(raw)
	if err != nil {
		return fmt.Errorf("read %s back: %w", f.Path, errors.Unwrap(err))
	}
	if !same {
		return fmt.Errorf("%s reads back otherwise than it was written", f.Path)
	}
	return nil
}

func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return syncDir(p)
	})
}

func makeDir(p string) error {
	if err := os.Mkdir(p, modeDir); err != nil {
		return err
	}
	return os.Chmod(p, modeDir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

func device(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev) //nolint:unconvert // the type differs between systems
	}
	return 0
}

// explain wraps an error of the file system or of a context.
func explain(at string, err error) error {
	var own *Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	e := &Error{Kind: KindUnexpected, Path: at, Err: err}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		e.Err = fmt.Errorf("%s: %w", pe.Op, pe.Err)
		if pe.Path != at && !strings.Contains(pe.Path, prefix) {
			e.Err = fmt.Errorf("%s %s: %w", pe.Op, pe.Path, pe.Err)
		}
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Remedy = KindCancelled, "nothing was left behind"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		e.Kind, e.Remedy = KindNoSpace, "free some space or choose another directory; nothing was left behind"
	case errors.Is(err, unix.EROFS):
		e.Kind, e.Remedy = KindNotAllowed, "the file system is read-only: choose another directory"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Remedy = KindNotAllowed, "choose a directory you may write to, or run as its owner"
	}
	return e
}
