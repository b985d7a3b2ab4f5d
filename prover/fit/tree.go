package fit

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Kind says what kind of trouble an Error is.
type Kind string

const (
	KindUsage      Kind = "usage"       // the path cannot be what is meant
	KindExists     Kind = "exists"      // something is there already
	KindNotAllowed Kind = "not-allowed" // rights, a read-only disk, another run
	KindNoSpace    Kind = "no-space"
	KindNewer      Kind = "newer"   // written by a newer version
	KindDamaged    Kind = "damaged" // plan.yaml is not what it should be
	KindCancelled  Kind = "cancelled"
	KindUnexpected Kind = "unexpected"
)

// Error is a trouble with the directory.
type Error struct {
	Kind   Kind
	Doing  string // "write the plan to"
	Path   string
	Err    error
	Remedy string
}

// Error is one line.
func (e *Error) Error() string { return e.Doing + " " + e.Path + ": " + e.Err.Error() }

// Unwrap gives the error underneath.
func (e *Error) Unwrap() error { return e.Err }

func explain(doing, at string, err error) error {
	e := &Error{Kind: KindUnexpected, Doing: doing, Path: at, Err: err}
	var known *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Kind, e.Remedy = KindNotAllowed, "choose a directory that you may write to"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Kind, e.Remedy = KindNoSpace, "free some space and do it again; what was there is as it was, or is completed by the same command"
	case errors.Is(err, fs.ErrExist):
		e.Kind, e.Remedy = KindExists, "choose another directory"
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EXDEV):
		e.Kind, e.Remedy = KindUsage, "it is a mount point: name a directory below it"
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		e.Kind, e.Remedy = KindUsage, "choose another directory"
	}
	return e
}

// Existing is what lies in the directory of a plan.
type Existing struct {
	// State is the plan in force; nil when the directory is not there or empty.
	State *State
	// Edited are files that were changed by hand since they were written, and Missing those that are gone.
	Edited, Missing []string
}

// ReadTree looks at a directory and changes nothing. A directory with other content than a plan is an
// Error of KindExists; a symbolic link at its place too.
func ReadTree(dir string) (Existing, error) {
	const doing = "read the plan in"
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Existing{}, nil
	}
	if err != nil {
		return Existing{}, explain(doing, dir, err)
	}
	if !info.IsDir() {
		return Existing{}, &Error{KindExists, doing, dir, errors.New("it is no directory"), "choose another --dir; a link is not followed, name what it points to"}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Existing{}, explain(doing, dir, err)
	}
	defer root.Close()
	linked := func(name string, err error) error {
		if info, lerr := root.Lstat(filepath.FromSlash(name)); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return &Error{KindUsage, doing, filepath.Join(dir, name), errors.New("it is a symbolic link, and a plan follows none"), "put the file itself there, or remove the link: it is written anew"}
		}
		return explain(doing, filepath.Join(dir, name), err)
	}
	data, err := readFile(root, PlanFile, maxState)
	if errors.Is(err, fs.ErrNotExist) {
		d, err := root.Open(".")
		if err != nil {
			return Existing{}, explain(doing, dir, err)
		}
		names, err := d.Readdirnames(1)
		_ = d.Close() // only read
		if err != nil && !errors.Is(err, io.EOF) {
			return Existing{}, explain(doing, dir, err)
		}
		if len(names) > 0 {
			return Existing{}, &Error{KindExists, doing, dir, fmt.Errorf("something is there already (%s), and it is no plan of workers", clip(names[0])), "choose another --dir; nothing is overwritten"}
		}
		return Existing{}, nil
	}
	if err != nil {
		return Existing{}, linked(PlanFile, err)
	}
	s, err := ReadState(data)
	if err != nil {
		kind, remedy := KindDamaged, "restore it from the newest old/*/plan.yaml in this directory"
		if errors.Is(err, ErrNewer) {
			kind, remedy = KindNewer, "use the version of provost that wrote it, or a newer one"
		}
		return Existing{}, &Error{kind, doing, filepath.Join(dir, PlanFile), err, remedy}
	}
	out := Existing{State: &s}
	for name, sum := range s.Files {
		data, err := readFile(root, name, maxState)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			out.Missing = append(out.Missing, name)
		case err != nil:
			return Existing{}, linked(name, err)
		case File{Body: data}.Sum() != sum:
			out.Edited = append(out.Edited, name)
		}
	}
	slices.Sort(out.Missing)
	slices.Sort(out.Edited)
	return out, nil
}

func readFile(root *os.Root, name string, most int64) ([]byte, error) {
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("larger than %d MiB", most>>20)
	}
	return data, err
}

// stagePrefix begins the name of a directory in which a plan grows. It is locked as long as its run lives.
const stagePrefix = ".provost-workers-"

// WriteTree puts a new plan at dir, in one step: it grows beside it and is renamed. Something that is
// there, other than an empty directory, is never touched. stop is asked between files; its error ends
// the run with nothing left behind.
func WriteTree(dir string, files []File, stop func() error) (err error) {
	const doing = "write the plan to"
	parent := filepath.Dir(dir)
	made := parent // the topmost directory above dir that has to be made, or ""
	if _, err := os.Stat(parent); err == nil {
		made = ""
	}
	for made != "" && made != filepath.Dir(made) {
		if _, err := os.Stat(filepath.Dir(made)); err == nil {
			break
		}
		made = filepath.Dir(made)
	}
	defer func() {
		for at := parent; err != nil && made != "" && os.Remove(at) == nil && at != made; {
			at = filepath.Dir(at)
		}
	}()
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return explain(doing, dir, err)
	}
	clearStages(parent)
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return explain(doing, dir, err)
	}
	stage := filepath.Join(parent, stagePrefix+hex.EncodeToString(id[:]))
	if err := os.Mkdir(stage, modeDir); err != nil {
		return explain(doing, dir, err)
	}
	lock, err := lockDir(stage)
	if err != nil {
		_ = os.Remove(stage)
		return explain(doing, dir, err)
	}
	defer lock.Close()
	defer func() {
		if err != nil {
			_ = os.RemoveAll(stage) // what stays is removed by the next run
		}
	}()
	root, err := os.OpenRoot(stage)
	if err != nil {
		return explain(doing, dir, err)
	}
	defer root.Close()
	dirs := map[string]bool{".": true}
	for _, f := range files {
		if err := stop(); err != nil {
			return &Error{KindCancelled, doing, dir, err, ""}
		}
		if err := put(root, f, dirs); err != nil {
			return explain(doing, dir, err)
		}
	}
	if err := syncDirs(root, dirs); err != nil {
		return explain(doing, dir, err)
	}
	// Not os.Rename: that refuses an empty directory at the target, which the system call replaces.
	// Neither replaces a directory with something in it, a file or a link.
	if err := unix.Rename(stage, dir); err != nil {
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
			return &Error{KindExists, doing, dir, errors.New("something was put there meanwhile"), "choose another --dir; nothing was changed"}
		}
		return explain(doing, dir, err)
	}
	if err := syncPath(parent); err != nil {
		return &Error{KindUnexpected, doing, dir, fmt.Errorf("the plan is in place, but the disk didn't confirm it: %w", err), "run sync"}
	}
	return nil
}

// UpdateTree brings the directory of a plan from one revision to the next, file by file: the old version
// of each file that changes goes to old/NNNN first, then the new one is renamed over it; plan.yaml comes
// last. A run that is killed on the way leaves the plan of before with some new files, and the same
// command completes it. drop are files that the new plan has no more.
func UpdateTree(dir string, revision int, files []File, drop []string, stop func() error) error {
	const doing = "change the plan in"
	lock, err := lockDir(dir)
	if err != nil {
		return explain(doing, dir, err)
	}
	defer lock.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return explain(doing, dir, err)
	}
	defer root.Close()
	data, err := readFile(root, PlanFile, maxState)
	if err != nil {
		return explain(doing, dir, err)
	}
	if s, err := ReadState(data); err != nil || s.Revision != revision-1 {
		return &Error{KindNotAllowed, doing, dir, errors.New("another run has changed the plan meanwhile"), "look at it and do it again"}
	}
	old := fmt.Sprintf("old/%04d", revision-1)
	dirs := map[string]bool{".": true}
	clearTemps(root, files)
	var last *File
	for _, f := range files {
		if f.Path == PlanFile {
			last = &f
			continue
		}
		if err := stop(); err != nil {
			return &Error{KindCancelled, doing, dir, err, "the same command completes it"}
		}
		if err := replace(root, old, f, dirs); err != nil {
			return explain(doing, filepath.Join(dir, f.Path), err)
		}
	}
	for _, name := range drop {
		if err := keepOld(root, old, name, dirs); err != nil {
			return explain(doing, filepath.Join(dir, name), err)
		}
		if err := root.Remove(filepath.FromSlash(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explain(doing, filepath.Join(dir, name), err)
		}
		// Directories that are empty now go too; others stay.
		for d := path.Dir(name); d != "." && root.Remove(filepath.FromSlash(d)) == nil; d = path.Dir(d) {
			delete(dirs, d)
		}
	}
	if last == nil {
		return &Error{KindUnexpected, doing, dir, errors.New("there is no plan.yaml to write"), ""}
	}
	if err := syncDirs(root, dirs); err != nil {
		return explain(doing, dir, err)
	}
	if err := replace(root, old, *last, dirs); err != nil {
		return explain(doing, filepath.Join(dir, PlanFile), err)
	}
	return explain(doing, dir, syncDirs(root, dirs))
}

// replace writes f over what is there, and keeps that below old. The same content is left alone.
func replace(root *os.Root, old string, f File, dirs map[string]bool) error {
	now, err := readFile(root, f.Path, maxState)
	if err == nil && string(now) == string(f.Body) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		if err := keepOld(root, old, f.Path, dirs); err != nil {
			return err
		}
	}
	temp := f
	var id [4]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	temp.Path = path.Join(path.Dir(f.Path), tempPrefix+hex.EncodeToString(id[:]))
	if err := put(root, temp, dirs); err != nil {
		return err
	}
	if err := root.Rename(filepath.FromSlash(temp.Path), filepath.FromSlash(f.Path)); err != nil {
		_ = root.Remove(filepath.FromSlash(temp.Path))
		return err
	}
	return nil
}

// tempPrefix begins the names of files on their way to their place.
const tempPrefix = ".new-"

// clearTemps removes what a killed run left beside files.
func clearTemps(root *os.Root, files []File) {
	seen := map[string]bool{}
	for _, f := range files {
		dir := path.Dir(f.Path)
		if seen[dir] {
			continue
		}
		seen[dir] = true
		d, err := root.Open(filepath.FromSlash(dir))
		if err != nil {
			continue
		}
		names, _ := d.Readdirnames(-1) // what cannot be read is left
		_ = d.Close()
		for _, n := range names {
			if strings.HasPrefix(n, tempPrefix) {
				_ = root.Remove(filepath.FromSlash(path.Join(dir, n)))
			}
		}
	}
}

// keepOld gives a file a second name below old. One that is kept there already is the true one: a run
// before this had come so far.
func keepOld(root *os.Root, old, name string, dirs map[string]bool) error {
	to := path.Join(old, name)
	if err := makeDirs(root, path.Dir(to), dirs); err != nil {
		return err
	}
	err := root.Link(filepath.FromSlash(name), filepath.FromSlash(to))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func makeDirs(root *os.Root, dir string, dirs map[string]bool) error {
	if dir == "." || dirs[dir] {
		return nil
	}
	if err := makeDirs(root, path.Dir(dir), dirs); err != nil {
		return err
	}
	if err := root.Mkdir(filepath.FromSlash(dir), modeDir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dirs[dir] = true
	return nil
}

// put writes one file that must not be there, and syncs it.
func put(root *os.Root, f File, dirs map[string]bool) error {
	if err := makeDirs(root, path.Dir(f.Path), dirs); err != nil {
		return err
	}
	name := filepath.FromSlash(f.Path)
	w, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.Mode)
	if err != nil {
		return err
	}
	_, err = w.Write(f.Body)
	if err == nil {
		err = w.Chmod(f.Mode) // whatever the umask took away
	}
	if err == nil {
		err = w.Sync()
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = root.Remove(name)
	}
	return err
}

func syncDirs(root *os.Root, dirs map[string]bool) error {
	for d := range dirs {
		f, err := root.Open(filepath.FromSlash(d))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = f.Sync()
		_ = f.Close() // only synced
		if err != nil {
			return err
		}
	}
	return nil
}

func syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lockDir holds a directory for one run; the lock goes with the process, whatever ends it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, &Error{KindNotAllowed, "lock", dir, errors.New("another run works on it"), "wait until it has ended"}
	}
	return f, nil
}

// clearStages removes what killed runs left in dir: stages of our own user that nobody holds.
func clearStages(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	names, _ := d.Readdirnames(-1) // what cannot be read is left
	_ = d.Close()
	for _, name := range names {
		id, ok := strings.CutPrefix(name, stagePrefix)
		if !ok || len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
			continue
		}
		at := filepath.Join(dir, name)
		info, err := os.Lstat(at)
		if err != nil || !info.IsDir() {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue
		}
		lock, err := lockDir(at)
		if err != nil {
			continue // its run lives
		}
		_ = os.RemoveAll(at)
		_ = lock.Close()
	}
}
