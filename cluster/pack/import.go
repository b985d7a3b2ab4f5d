package pack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/aside"
	"app.provost/cluster/internal/fence"

	"filippo.io/age"
)

// ImportParams say what to unseal.
type ImportParams struct {
	File string
	Dir  string // the node's new directory: nothing may be there, or an empty directory
	// Check makes the whole import, checks the result, and removes it again; Dir may be empty then.
	Check bool
	Key   Key
}

// Imported is what Import made.
type Imported struct {
	Manifest Manifest
	Dir      string // absolute; "" for a check
	// Waits says why the first start waits; "" when it doesn't.
	Waits string
	Wiped []string // what killed runs had left
}

func (p ImportParams) look() (dir string, err error) {
	if p.File == "" {
		return "", problem("", "name the file that was exported", "no file is given")
	}
	info, err := os.Stat(p.File)
	if err != nil {
		return "", problem("", "name the file that was exported", "%v", err)
	}
	if !info.Mode().IsRegular() {
		return "", problem("", "name the file that was exported", "%s is not a regular file", p.File)
	}
	if err := p.Key.problem(); err != nil {
		return "", err
	}
	if p.Dir == "" {
		if p.Check {
			return "", nil
		}
		return "", problem("data-dir", "name the node's new directory", "no directory is given")
	}
	if dir, err = filepath.Abs(p.Dir); err != nil {
		return "", problem("data-dir", "", "%v", err)
	}
	if err := aside.Free(dir); err != nil {
		return "", targetError("data-dir", dir, err)
	}
	return dir, nil
}

// PlanImport checks file and target; the file stays sealed. It writes nothing. Errors are *Error.
func PlanImport(p ImportParams) (dir string, err error) { return p.look() }

// Import unseals a node. When it returns an error nothing new is at the target and nothing is left
// beside it. Errors are *Error.
func Import(ctx context.Context, p ImportParams, o Options) (out Imported, err error) {
	dir, err := p.look()
	if err != nil {
		return Imported{}, err
	}
	parent := filepath.Dir(dir)
	if dir == "" {
		parent = os.TempDir()
	}
	ids, err := p.Key.identities()
	if err != nil {
		return Imported{}, err
	}
	f, _, err := openFile(p.File)
	if err != nil {
		return Imported{}, &Error{Code: CodeUnread, Path: p.File, Err: plain(err)}
	}
	defer f.Close()
	o.say("opening the file")
	plainText, err := age.Decrypt(f, ids...)
	if err != nil {
		return Imported{}, sealError(p.File, err)
	}
	stage, err := aside.New(parent, "import")
	if err != nil {
		return Imported{}, targetError("data-dir", dir, err)
	}
	defer func() {
		if wipe := stage.Discard(); wipe != nil && err == nil {
			err = &Error{Code: CodeFailed, Path: stage.Dir, Err: fmt.Errorf("what was unsealed to check it was not removed: %w", wipe), Remedy: "remove it yourself: it holds keys"}
		}
	}()
	o.say("unpacking")
	m, err := readContainer(&stopping{ctx, plainText}, func(path string) (io.WriteCloser, error) { return createFile(stage.Dir, path) })
	if err != nil {
		if ctx.Err() != nil {
			return Imported{}, cancelled(ctx)
		}
		return Imported{}, unpackError(p.File, dir, err)
	}
	o.say("checking the node's files")
	if err := checkUnpacked(ctx, stage.Dir, m, o); err != nil {
		if ctx.Err() != nil {
			return Imported{}, cancelled(ctx)
		}
		return Imported{}, err
	}
	out = Imported{Manifest: m, Dir: dir, Wiped: stage.Wiped, Waits: m.waits(time.Now())}
	if out.Waits != "" {
		if err := fence.Write(stage.Dir, fence.Note{Kind: fence.Restored, At: time.Now().UTC().Truncate(time.Second), Copy: m.Made.UTC()}); err != nil {
			return Imported{}, targetError("data-dir", dir, err)
		}
	}
	if ctx.Err() != nil {
		return Imported{}, cancelled(ctx)
	}
	if p.Check {
		out.Dir = ""
		return out, nil
	}
	if err := stage.Commit(dir); err != nil {
		return Imported{}, targetError("data-dir", dir, err)
	}
	return out, nil
}

// waits says why a node from the archive must wait at its first start, "" when it need not.
func (m *Manifest) waits(now time.Time) string {
	age := now.Sub(m.Made)
	switch {
	case m.Kind != Move:
		return "it is a backup: what the node signed since isn't in it"
	case m.Waiting:
		return "the directory that was moved was itself restored from a copy, and never started since"
	case age > moveWindow:
		return fmt.Sprintf("it was exported more than %s ago: if it was imported before, what the node signed since isn't in it", moveWindow)
	case age < -time.Minute:
		return "by this machine's clock it was exported in the future, so its age isn't known"
	}
	return ""
}

// stopping ends a stream when its context does.
type stopping struct {
	ctx context.Context
	r   io.Reader
}

func (s *stopping) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// createFile makes a file of the archive. Its path is one of those that an archive may have, so it
// leads nowhere else; the directories on its way are ours.
func createFile(dir, path string) (io.WriteCloser, error) {
	at := filepath.Join(dir, filepath.FromSlash(path))
	if above := filepath.Dir(at); above != dir {
		if err := os.Mkdir(above, 0o700); err == nil {
			err = os.Chmod(above, 0o700) // whatever the umask is
			if err != nil {
				return nil, err
			}
		} else if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o600); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &synced{f}, nil
}

// synced is a file that is on disk once it is closed.
type synced struct{ *os.File }

func (s *synced) Close() error { return errors.Join(s.Sync(), s.File.Close()) }

func sealError(file string, err error) error {
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return &Error{Code: CodeNotForYou, Path: file, Err: errors.New("this identity or passphrase doesn't open it"), Remedy: "give the identity of the recipient that it was sealed for, or its passphrase"}
	}
	return &Error{Code: CodeArchive, Path: file, Err: fmt.Errorf("it is no sealed file, or it was changed: %w", err), Remedy: "take the file again from where it was exported"}
}

func unpackError(file, dir string, err error) error {
	var newer *schemaError
	if errors.As(err, &newer) {
		return &Error{Code: CodeNewer, Path: file, Err: err, Remedy: "use a newer version of this program"}
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return targetError("data-dir", dir, err)
	}
	return &Error{Code: CodeArchive, Path: file, Err: err, Remedy: "take the file again from where it was exported"}
}

// checkUnpacked makes every check of the directory that a running node relies on, and that it is the
// one that the manifest names.
func checkUnpacked(ctx context.Context, dir string, m Manifest, o Options) error {
	bad := func(path string, err error) error {
		return &Error{Code: CodeBroken, Path: path, Err: err, Remedy: "the archive is whole, but what was sealed doesn't stand the checks: export it again"}
	}
	lock, err := readLock(filepath.Join(dir, lockName))
	if err != nil {
		return bad(lockName, err)
	}
	index, err := whose(dir, lock)
	if err != nil {
		return bad(lockName, err)
	}
	if lock.LockHash != m.LockHash || index != m.Node || len(lock.Definition.Operators) != m.Nodes {
		return bad(manifestName, fmt.Errorf("it names node %d of the cluster %s, and the files are of node %d of %s", m.Node, m.LockHash, index, lock.LockHash))
	}
	if err := o.Verify(ctx, dir); err != nil {
		return bad("", err)
	}
	if !m.Protected {
		return nil
	}
	root, err := o.ReadProtection(filepath.Join(dir, ownName))
	if err != nil {
		return &Error{Code: CodeUnprotected, Path: guardPath, Err: err, Remedy: "export it again"}
	}
	raw, err := readBounded(filepath.Join(dir, filepath.FromSlash(statePath)), bound(statePath))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it ended between making the one and the other
	}
	var state struct {
		LockHash cluster.Root `json:"lock_hash"`
		Root     cluster.Root `json:"genesis_validators_root"`
	}
	if err == nil {
		err = json.Unmarshal(raw, &state)
	}
	if err == nil && (state.LockHash != m.LockHash || state.Root != root) {
		err = errors.New("it is of another cluster or chain than its slashing protection")
	}
	if err != nil {
		return bad(statePath, err)
	}
	return nil
}
