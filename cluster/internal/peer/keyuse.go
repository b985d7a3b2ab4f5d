package peer

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// KeyUse returns *KeyInUse when a program runs with a node key now, or did so a moment ago, and nil
// when none does. It takes nothing, and needs only the right to read: a node that begins just after
// it was asked isn't seen.
func KeyUse(keyFile string) error {
	l := &KeyLock{path: keyFile + ".lock"}
	old, at, err := l.read()
	found := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := os.Open(keyFile)
	if err != nil {
		return err
	}
	defer key.Close() // and the kernel's lock with it
	if err := syscall.Flock(int(key.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return &KeyInUse{File: l.path, Command: printable(old.Command, 200)}
	}
	if age := max(time.Since(at), 0); found && age < lockGrace {
		return &KeyInUse{File: l.path, Command: printable(old.Command, 200), Wait: lockGrace - age}
	}
	return nil
}
