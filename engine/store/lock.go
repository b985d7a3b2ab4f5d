package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"app.provost/engine"
)

const lockName = "engine.lock"

// LockInfo is what engine.lock tells about the engine that holds a state directory.
type LockInfo struct {
	Schema    string    `json:"schema"` // LockSchema
	PID       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	Socket    string    `json:"socket,omitempty"`
	Version   string    `json:"version,omitempty"`
}

// LockSchema is the version of LockInfo's JSON.
const LockSchema = "provost.lock/1"

// takeLock holds engine.lock with flock for as long as the store is open. The
// kernel lets go of it however the process ends, so a lock is never left behind;
// the text inside is for people.
func takeLock(o Options) (*os.File, error) {
	const doing = "take state directory"
	path := filepath.Join(o.Dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, (&Store{o: o}).problem(doing, err)
	}
	// An engine that was just told to stop may need a moment.
	for try := 0; ; try++ {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, (&Store{o: o}).problem(doing, fmt.Errorf("lock %s: %w", path, err))
		}
		if try == 4 {
			f.Close()
			return nil, taken(doing, o.Dir, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	raw, err := json.Marshal(LockInfo{Schema: LockSchema, PID: os.Getpid(), StartedAt: time.Now().UTC().Truncate(time.Second), Socket: o.Socket, Version: o.Version})
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(append(raw, '\n'), 0)
	}
	if err != nil {
		f.Close()
		return nil, (&Store{o: o}).problem(doing, err)
	}
	return f, nil
}

// dropLock leaves the file, emptied: removing it would let two engines lock two files of one name.
func dropLock(f *os.File) {
	_ = f.Truncate(0) // only a text for people
	f.Close()
}

func taken(doing, dir string, err error) error {
	who := "another engine"
	remedy := "end it, or use another state directory (--state-dir)"
	if info, ok := ReadLock(dir); ok {
		who = fmt.Sprintf("another engine (pid %d, since %s)", info.PID, info.StartedAt.Format(time.RFC3339))
		remedy = "attach to it with provost attach, stop it with provost down, or use another state directory (--state-dir)"
	}
	return engine.Problem{Code: engine.CodeStateLocked, Exit: engine.ExitNotAllowed, Doing: doing,
		Cause: who + " runs on " + dir, Remedy: remedy}.Because(err)
}

// ReadLock tells what the engine on dir has written about itself; false when
// nobody has, or it cannot be read. It does not tell whether that engine still runs.
func ReadLock(dir string) (LockInfo, bool) {
	raw, err := os.ReadFile(filepath.Join(dir, lockName))
	var info LockInfo
	if err != nil || json.Unmarshal(raw, &info) != nil || info.PID < 1 {
		return LockInfo{}, false
	}
	return info, true
}
