package pack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/aside"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/fence"
	"app.provost/cluster/internal/peer"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// ExportParams say what to seal.
type ExportParams struct {
	Dir    string // of the node
	Out    string // the file; nothing may be there
	Backup bool   // a copy to keep; the node may run and goes on
	Seal   Seal
}

// Exported is what Export would write, or wrote.
type Exported struct {
	Manifest Manifest
	Dir, Out string   // absolute
	LeftOut  []string // in the node's directory and not taken, relative to it
	Again    bool     // an export that ended early is made again
	Network  string
	SHA256   string // of the file, hex; "" before it is written
	Bytes    int64
}

// PlanExport says what Export would do, without reading keys. It writes nothing. Errors are *Error.
func PlanExport(p ExportParams) (Exported, error) {
	e, err := p.look()
	if err != nil {
		return Exported{}, err
	}
	if !p.Backup {
		if err := keyUse(e.Dir); err != nil {
			return Exported{}, err
		}
	}
	return e.Exported, nil
}

// exporting is one export.
type exporting struct {
	Exported
	has   bool        // slashing protection
	prior *fence.Note // in the directory
}

func (p ExportParams) look() (*exporting, error) {
	if p.Dir == "" {
		return nil, problem("", "name the directory of a node", "no node directory is given")
	}
	if p.Out == "" {
		return nil, problem("out", "name a file to write", "no file is given")
	}
	if err := p.Seal.problem(); err != nil {
		return nil, err
	}
	e := &exporting{}
	var err error
	if e.Dir, err = filepath.Abs(p.Dir); err == nil {
		e.Out, err = filepath.Abs(p.Out)
	}
	if err != nil {
		return nil, problem("out", "", "%v", err)
	}
	if _, err := os.Lstat(e.Out); err == nil {
		return nil, &Error{Code: CodeExists, Field: "out", Path: e.Out, Err: errors.New("something is there already"), Remedy: "name another file"}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, targetError("out", e.Out, err)
	}
	if info, err := os.Stat(filepath.Dir(e.Out)); err != nil || !info.IsDir() {
		return nil, problem("out", "make it first", "%s: there is no directory %s", e.Out, filepath.Dir(e.Out))
	}
	m := &e.Manifest
	m.Schema, m.Kind = Schema, Move
	if p.Backup {
		m.Kind = Backup
	}
	lock, err := readLock(filepath.Join(e.Dir, lockName))
	if err != nil {
		return nil, err
	}
	m.Cluster, m.LockHash = lock.Definition.Name, lock.LockHash
	m.Nodes, m.Threshold, m.Validators = len(lock.Definition.Operators), int(lock.Definition.Threshold), len(lock.Validators)
	e.Network = networkOf(lock)
	if m.Node, err = whose(e.Dir, lock); err != nil {
		return nil, err
	}
	note, err := fence.Read(e.Dir)
	e.prior = note
	switch {
	case err != nil:
		return nil, &Error{Code: CodeUnread, Path: e.Dir, Err: err, Remedy: "take the file from a backup; don't remove it"}
	case note == nil:
	case note.Kind == fence.Restored:
		m.Waiting = true
	case note.Finished || p.Backup:
		return nil, &Error{Code: CodeMoved, Path: e.Dir, Err: fmt.Errorf("this node was exported at %s to run elsewhere: its newest state is not here", note.At.UTC().Format(time.RFC3339)),
			Remedy: fmt.Sprintf("export it from where it runs; its last export was put at %s", note.Archive)}
	default:
		e.Again, m.Waiting = true, note.Waiting
	}
	return e, e.list()
}

func networkOf(lock *cluster.Lock) string {
	if n, ok := cluster.NetworkByFork(lock.Definition.ForkVersion); ok {
		return n.Name
	}
	return "network " + lock.Definition.ForkVersion.String()
}

func readLock(path string) (*cluster.Lock, error) {
	raw, err := readBounded(path, bound(lockName))
	if err != nil {
		return nil, &Error{Code: CodeUnread, Path: path, Err: plain(err), Remedy: "name the directory of a node, such as node0 of a cluster"}
	}
	lock := new(cluster.Lock)
	err = json.Unmarshal(raw, lock)
	if err == nil {
		err = lock.Definition.Version.Supported()
	}
	if err != nil {
		return nil, &Error{Code: CodeBroken, Path: path, Err: err, Remedy: "take the lock of another node"}
	}
	return lock, nil
}

// whose is the node whose key lies in a directory.
func whose(dir string, lock *cluster.Lock) (int, error) {
	path := filepath.Join(dir, enr.KeyFileName)
	raw, err := readBounded(path, bound(enr.KeyFileName))
	defer clear(raw)
	if err != nil {
		return 0, &Error{Code: CodeUnread, Path: path, Err: plain(err), Remedy: "name the directory of a node, as its owner"}
	}
	key, err := enr.ParseKeyFile(raw)
	if err != nil {
		return 0, &Error{Code: CodeBroken, Path: path, Err: err, Remedy: "put back the key file as it was made"}
	}
	defer key.Wipe()
	for i, op := range lock.Definition.Operators {
		if rec, err := enr.Parse(op.ENR); err == nil && rec.PubKey == key.PubKey() {
			return i, nil
		}
	}
	return 0, &Error{Code: CodeBroken, Path: path, Err: errors.New("the node key belongs to no operator of the lock"), Remedy: "put the lock and the key of one node into one directory"}
}

// list says which files are taken, in the order of their names.
func (e *exporting) list() error {
	ran := false
	for _, below := range []string{"", keysName, ownName} {
		entries, err := os.ReadDir(filepath.Join(e.Dir, below))
		if errors.Is(err, fs.ErrNotExist) && below == ownName {
			continue
		}
		if err != nil {
			return &Error{Code: CodeUnread, Path: filepath.Join(e.Dir, below), Err: plain(err), Remedy: "name the directory of a node, as its owner"}
		}
		for _, entry := range entries {
			path := entry.Name()
			if below != "" {
				path = below + "/" + path
			}
			switch {
			case bound(path) > 0:
				e.Manifest.Files = append(e.Manifest.Files, ManifestFile{Path: path})
				ran = ran || path == statePath
				e.has = e.has || path == guardPath
			case below == "" && (path == keysName || path == ownName), path == enr.KeyFileName+".lock", path == ownName+"/"+fence.FileName:
			default:
				e.LeftOut = append(e.LeftOut, path)
			}
		}
	}
	slices.SortFunc(e.Manifest.Files, func(a, b ManifestFile) int { return strings.Compare(a.Path, b.Path) })
	e.Manifest.Protected = e.has
	if ran && !e.has {
		return &Error{Code: CodeUnprotected, Path: filepath.Join(e.Dir, guardPath), Err: errors.New("this node ran and its slashing protection is missing"), Remedy: "put it back; a node must not travel without what it signed"}
	}
	return nil
}

func keyUse(dir string) error {
	err := peer.KeyUse(filepath.Join(dir, enr.KeyFileName))
	var used *peer.KeyInUse
	if errors.As(err, &used) {
		return running(dir, err)
	}
	if err != nil {
		return &Error{Code: CodeUnread, Path: dir, Err: plain(err)}
	}
	return nil
}

func running(dir string, err error) error {
	return &Error{Code: CodeRunning, Path: dir, Err: err, Remedy: "or, to keep a copy of a node that goes on, use --backup"}
}

// Export seals a node. When it returns an error there is no file, and no note that was not there
// before, but for what the error says. Errors are *Error.
func Export(ctx context.Context, p ExportParams, o Options) (out Exported, err error) {
	e, err := p.look()
	if err != nil {
		return Exported{}, err
	}
	to, err := p.Seal.recipients()
	if err != nil {
		return Exported{}, err
	}
	if !p.Backup {
		var release func() error
		if ctx, release, err = takeKey(ctx, e.Dir, e.Manifest.LockHash); err != nil {
			return Exported{}, err
		}
		defer func() {
			if rel := release(); rel != nil && err == nil {
				err = &Error{Code: CodeFailed, Path: e.Dir, Err: fmt.Errorf("the export is whole, but the lock of the node key was not removed: %w", rel)}
			}
		}()
		// What was looked at before the key was held may have changed.
		if e, err = p.look(); err != nil {
			return Exported{}, err
		}
	}
	e.Manifest.Program = o.Program
	o.say("checking the node's files")
	if err := o.Verify(ctx, e.Dir); err != nil {
		if ctx.Err() != nil {
			return Exported{}, cancelled(ctx)
		}
		return Exported{}, &Error{Code: CodeBroken, Path: e.Dir, Err: err, Remedy: "mend it first: see provost verify cluster"}
	}
	stage, err := aside.New(filepath.Dir(e.Out), "export")
	if err != nil {
		return Exported{}, targetError("out", e.Out, err)
	}
	defer func() {
		if wipe := stage.Discard(); wipe != nil && err == nil {
			err = &Error{Code: CodeFailed, Path: stage.Dir, Err: fmt.Errorf("the export is whole, but the unfinished one beside it was not removed: %w", wipe)}
		}
	}()
	if err := e.snapshot(ctx, stage, o); err != nil {
		return Exported{}, err
	}
	o.say("sealing")
	temp := filepath.Join(stage.Dir, "archive")
	if err := e.seal(ctx, stage, temp, to); err != nil {
		if ctx.Err() != nil {
			return Exported{}, cancelled(ctx)
		}
		var own *Error
		if errors.As(err, &own) {
			return Exported{}, err
		}
		return Exported{}, targetError("out", e.Out, err)
	}
	if ctx.Err() != nil {
		return Exported{}, cancelled(ctx)
	}
	if p.Backup {
		if err := place(temp, e.Out); err != nil {
			return Exported{}, targetError("out", e.Out, err)
		}
	} else if err := e.move(temp); err != nil {
		return Exported{}, err
	}
	if err := syncDir(filepath.Dir(e.Out)); err != nil {
		return e.Exported, &Error{Code: CodeFailed, Path: e.Out, Err: fmt.Errorf("the export is in place, but the disk didn't confirm it: %w", plain(err)), Remedy: "run sync"}
	}
	return e.Exported, nil
}

func cancelled(ctx context.Context) error {
	return &Error{Code: CodeCancelled, Err: context.Cause(ctx), Remedy: "nothing was left behind"}
}

// takeKey keeps every program of ours from running with the node's key until release. The context
// that it returns ends when somebody else took the key all the same.
func takeKey(parent context.Context, dir string, hash cluster.Root) (ctx context.Context, release func() error, err error) {
	ctx, stop := context.WithCancelCause(parent)
	var loop sync.WaitGroup
	lock, err := peer.AcquireKeyLock(peer.KeyLockOptions{KeyFile: filepath.Join(dir, enr.KeyFileName), Command: "provost node export", LockHash: hash,
		Spawn: func(_ string, fn func(context.Context) error) {
			loop.Go(func() {
				if err := fn(ctx); err != nil {
					stop(err)
				}
			})
		}})
	if err != nil {
		stop(nil)
		loop.Wait()
		var used *peer.KeyInUse
		if errors.As(err, &used) {
			return nil, nil, running(dir, err)
		}
		return nil, nil, &Error{Code: CodeRights, Path: dir, Err: plain(err), Remedy: "run this as the owner of the node's directory: a note is put there that the node was moved"}
	}
	return ctx, func() error {
		stop(nil)
		loop.Wait()
		return lock.Release()
	}, nil
}

// snapshot copies slashing protection into the stage and takes sizes and hashes of all files.
func (e *exporting) snapshot(ctx context.Context, stage *aside.Stage, o Options) error {
	if e.has {
		o.say("copying slashing protection")
		if err := os.Mkdir(filepath.Join(stage.Dir, ownName), 0o700); err != nil {
			return targetError("out", e.Out, err)
		}
		if err := o.CopyProtection(ctx, filepath.Join(e.Dir, ownName), filepath.Join(stage.Dir, ownName)); err != nil {
			if ctx.Err() != nil {
				return cancelled(ctx)
			}
			if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) { // of the copy
				return targetError("out", e.Out, err)
			}
			return &Error{Code: CodeUnprotected, Path: filepath.Join(e.Dir, guardPath), Err: err, Remedy: "a node must not travel without what it signed"}
		}
	}
	e.Manifest.Made = time.Now().UTC().Truncate(time.Second)
	for i := range e.Manifest.Files {
		f := &e.Manifest.Files[i]
		in, err := e.open(stage, f.Path)
		if err != nil {
			return &Error{Code: CodeUnread, Path: filepath.Join(e.Dir, f.Path), Err: plain(err), Remedy: "run this as the owner of the files"}
		}
		sum := sha256.New()
		f.Size, err = io.Copy(sum, io.LimitReader(in, bound(f.Path)+1))
		in.Close()
		if err == nil && f.Size > bound(f.Path) {
			err = fmt.Errorf("it has more than %d bytes", bound(f.Path))
		}
		if err != nil {
			return &Error{Code: CodeUnread, Path: filepath.Join(e.Dir, f.Path), Err: plain(err)}
		}
		f.SHA256 = cluster.Root(sum.Sum(nil))
	}
	return e.Manifest.check()
}

func (e *exporting) open(stage *aside.Stage, path string) (io.ReadCloser, error) {
	at := filepath.Join(e.Dir, filepath.FromSlash(path))
	if path == guardPath {
		at = filepath.Join(stage.Dir, filepath.FromSlash(path))
	}
	f, _, err := openFile(at)
	return f, err
}

// seal writes the archive, and reads it back from the disk to see that it is what was written.
func (e *exporting) seal(ctx context.Context, stage *aside.Stage, path string, to []age.Recipient) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	w, err := age.Encrypt(io.MultiWriter(f, sum), to...)
	if err != nil {
		return err
	}
	err = writeContainer(w, e.Manifest, func(path string) (io.ReadCloser, error) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return e.open(stage, path)
	})
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return err
	}
	again := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if e.Bytes, err = io.Copy(again, f); err != nil {
		return err
	}
	e.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if hex.EncodeToString(again.Sum(nil)) != e.SHA256 {
		return &Error{Code: CodeFailed, Path: e.Out, Err: errors.New("what was written doesn't read back the same"), Remedy: "the disk may be faulty: choose another"}
	}
	return nil
}

// move puts the note into the directory before the archive in place, so that at no moment both could
// run.
func (e *exporting) move(temp string) error {
	note := fence.Note{Kind: fence.Moved, At: time.Now().UTC().Truncate(time.Second), Copy: e.Manifest.Made, Archive: e.Out, SHA256: e.SHA256, Waiting: e.Manifest.Waiting}
	if err := fence.Write(e.Dir, note); err != nil {
		return &Error{Code: CodeRights, Path: fence.Path(e.Dir), Err: plain(err), Remedy: "run this as the owner of the node's directory: a note is put there that the node was moved"}
	}
	if err := place(temp, e.Out); err != nil {
		// The archive never had its name, so what the note said before holds again.
		back := fence.Remove
		if e.prior != nil {
			back = func(dir string) error { return fence.Write(dir, *e.prior) }
		}
		if rm := back(e.Dir); rm != nil {
			err = errors.Join(err, fmt.Errorf("the note in %s was not taken back: %w", fence.Path(e.Dir), rm))
		}
		return targetError("out", e.Out, err)
	}
	note.Finished = true
	if err := fence.Write(e.Dir, note); err != nil {
		return &Error{Code: CodeFailed, Path: fence.Path(e.Dir), Err: fmt.Errorf("the export is whole and the node will not run here, but the note says that it ended early: %w", plain(err))}
	}
	return nil
}

// place gives the archive its name, where nothing may be. Not every file system of a stick knows
// links.
func place(temp, out string) error {
	err := os.Link(temp, out)
	switch {
	case errors.Is(err, fs.ErrExist):
		return err
	case err != nil:
		if _, there := os.Lstat(out); !errors.Is(there, fs.ErrNotExist) {
			return errors.Join(fs.ErrExist, there)
		}
		if err := os.Rename(temp, out); err != nil {
			return err
		}
	default:
		if err := os.Remove(temp); err != nil { // two names, of which one would be wiped
			return errors.Join(err, os.Remove(out))
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func targetError(field, target string, err error) error {
	e := &Error{Code: CodeFailed, Field: field, Path: target, Err: plain(err)}
	switch {
	case errors.Is(err, fs.ErrExist):
		e.Code, e.Err, e.Remedy = CodeExists, errors.New("something is there already"), "name another place: nothing is overwritten"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		e.Code, e.Remedy = CodeParams, "make the directory above it first"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		e.Code, e.Remedy = CodeRights, "name a place that you may write to"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Code, e.Remedy = CodeNoSpace, "free some space, or name another place; nothing was left behind"
	}
	return e
}

// plain drops the path from an error of the file system: it stands in front already.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	return err
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, _, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return raw, err
}
