package peer

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"app.provost/cluster"
)

// Ages of a lock file up to which whoever wrote it may still sign. One of another lock keeps its key
// for two epochs of mainnet: its duties may still be under way.
const (
	lockRefresh    = time.Second
	lockGrace      = 5 * time.Second
	lockGraceOther = 768 * time.Second
	lockMaxBytes   = 64 << 10
)

// ownCommand is what nodes of this program say of themselves.
const ownCommand = "provost up"

// KeyInUse means that another program runs with the same node key: two of them would vote and sign
// against each other.
type KeyInUse struct {
	File    string
	Command string        // what the other one says of itself; may be empty
	Wait    time.Duration // after which the key is free if the other one is gone; 0: when it ends
	Other   bool          // it ran with another lock
}

// Error says what to do.
func (e *KeyInUse) Error() string {
	who := "another program"
	if e.Command != "" {
		who = fmt.Sprintf("%q", e.Command)
	}
	msg := fmt.Sprintf("the node key is in use by %s (%s): stop it first; two programs with one key can get validators slashed", who, e.File)
	switch {
	case e.Other:
		msg = fmt.Sprintf("the node key was used with another cluster lock by %s (%s): stop that first", who, e.File)
	case e.Wait == 0:
		if e.Command == ownCommand {
			msg += "; a node goes on when its engine is stopped, and ends with provost down --workers (after provost up, if no engine runs)"
		}
		return msg
	}
	return msg + fmt.Sprintf("; if it is stopped, the key is free in %s", e.Wait.Round(time.Second))
}

// KeyLockOptions says which key is locked and for whom. All but Logger are needed.
type KeyLockOptions struct {
	KeyFile  string // the lock is KeyFile + ".lock"
	Command  string // shown to whoever finds the key locked; no secrets
	LockHash cluster.Root
	Logger   *slog.Logger
	// Spawn runs the loop that refreshes the lock; it ends with an error when somebody else took the
	// key, and then nothing may be signed any more.
	Spawn func(name string, fn func(ctx context.Context) error)
}

// KeyLock keeps a node key for this process.
type KeyLock struct {
	o    KeyLockOptions
	path string
	key  *os.File // holds the kernel's lock
	hash string   // as written

	mu   sync.Mutex
	last []byte // what we wrote last
	gone bool
}

type lockFile struct {
	Timestamp string `json:"timestamp"`
	Command   string `json:"command"`
	LockHash  string `json:"cluster_lock_hash"`
}

// AcquireKeyLock takes the key or returns *KeyInUse. Against programs that write a lock file beside
// the key, as Charon does on request, the file's age decides; against another process of ours also
// the kernel's lock on the key file, which ends with its holder.
func AcquireKeyLock(o KeyLockOptions) (*KeyLock, error) {
	if o.KeyFile == "" || o.Command == "" || o.Spawn == nil {
		return nil, errors.New("lock node key: the key file, the command and Spawn are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &KeyLock{o: o, path: o.KeyFile + ".lock", hash: hex.EncodeToString(o.LockHash[:])}
	key, err := os.Open(o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("lock node key: %w", err)
	}
	if err := syscall.Flock(int(key.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		key.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			old, _, _ := l.read() // only for the message
			return nil, &KeyInUse{File: l.path, Command: printable(old.Command, 200)}
		}
		return nil, fmt.Errorf("lock node key %s: %w", o.KeyFile, err)
	}
	l.key = key
	if err := l.take(); err != nil {
		key.Close()
		return nil, err
	}
	o.Spawn("peer.keylock", l.refresh)
	return l, nil
}

func (l *KeyLock) take() error {
	old, at, err := l.read()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return l.write(true)
	case err != nil:
		return fmt.Errorf("lock node key: %w", err)
	}
	same := old.LockHash == "" || equalHash(old.LockHash, l.o.LockHash)
	grace := lockGrace
	if !same {
		grace = lockGraceOther
	}
	// A time ahead of ours is as good as now: which clock is wrong cannot be told.
	if age := max(time.Since(at), 0); age < grace {
		return &KeyInUse{File: l.path, Command: printable(old.Command, 200), Wait: grace - age, Other: !same}
	}
	if same && old.LockHash != "" {
		l.hash = old.LockHash // keep its spelling, so that its writer knows it again
	}
	return l.write(true)
}

// read returns the lock file and its time. One that cannot be parsed is being written, or was cut
// off: then its modification time counts.
func (l *KeyLock) read() (lockFile, time.Time, error) {
	raw, mtime, err := readLock(l.path)
	if err != nil {
		return lockFile{}, time.Time{}, err
	}
	var f lockFile
	if json.Unmarshal(raw, &f) != nil {
		return lockFile{}, mtime, nil
	}
	at, err := time.Parse(time.RFC3339Nano, f.Timestamp)
	if err != nil {
		at = mtime
	}
	return f, at, nil
}

func readLock(path string) ([]byte, time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, lockMaxBytes))
	return raw, st.ModTime(), err
}

// equalHash takes hex with and without 0x, and base64.
func equalHash(text string, hash cluster.Root) bool {
	if raw, err := hex.DecodeString(strings.TrimPrefix(text, "0x")); err == nil {
		return bytes.Equal(raw, hash[:])
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	return err == nil && bytes.Equal(raw, hash[:])
}

// write overwrites in place: the text has always the same length, so a full disk cannot stop it and
// no reader finds half a file.
func (l *KeyLock) write(first bool) error {
	raw, err := json.Marshal(lockFile{Timestamp: time.Now().UTC().Format("2006-01-02T15:04:05.000000000Z07:00"), Command: l.o.Command, LockHash: l.hash})
	if err != nil {
		return fmt.Errorf("write key lock: %w", err)
	}
	flags := os.O_WRONLY
	if first {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(l.path, flags, 0o600)
	if err != nil {
		return fmt.Errorf("write key lock: %w", err)
	}
	_, err = f.WriteAt(raw, 0)
	if err == nil {
		err = f.Truncate(int64(len(raw)))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write key lock: %w", err)
	}
	l.last = raw
	return nil
}

func (l *KeyLock) refresh(ctx context.Context) error {
	tick := time.NewTicker(lockRefresh)
	defer tick.Stop()
	ailing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		done, err := l.refreshOnce()
		if done {
			return err
		}
		if (err != nil) != ailing {
			if ailing = err != nil; ailing {
				l.o.Logger.Error("refresh the lock of the node key, trying on: another program could take the key", "file", l.path, "err", err)
			} else {
				l.o.Logger.Info("the lock of the node key is refreshed again", "file", l.path)
			}
		}
	}
}

func (l *KeyLock) refreshOnce() (done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return true, nil
	}
	raw, _, err := readLock(l.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return false, l.write(true) // somebody tidied up
	case err != nil:
		return false, err
	case !bytes.Equal(raw, l.last):
		var f lockFile
		if json.Unmarshal(raw, &f) != nil {
			f = lockFile{}
		}
		return true, fmt.Errorf("keep node key: %w", &KeyInUse{File: l.path, Command: printable(f.Command, 200), Other: f.LockHash != "" && !equalHash(f.LockHash, l.o.LockHash)})
	}
	return false, l.write(false)
}

// Release gives the key back and removes the lock file, if it is still ours.
func (l *KeyLock) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return nil
	}
	l.gone = true
	defer l.key.Close()
	raw, _, err := readLock(l.path)
	if err == nil && bytes.Equal(raw, l.last) {
		err = os.Remove(l.path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("release node key: %w", err)
	}
	return nil
}
