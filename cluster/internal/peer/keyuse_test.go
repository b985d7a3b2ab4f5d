package peer

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeyUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := keyFile(t)
		if err := KeyUse(key); err != nil {
			t.Errorf("nobody has it: %v", err)
		}
		writeLock(t, key, lockFile{Timestamp: time.Now().UTC().Format(time.RFC3339Nano), Command: "charon run"})
		var used *KeyInUse
		if err := KeyUse(key); !errors.As(err, &used) || used.Command != "charon run" || used.Wait != lockGrace {
			t.Errorf("another program's file, fresh: %v", err)
		}
		time.Sleep(lockGrace)
		if err := KeyUse(key); err != nil {
			t.Errorf("another program's file, old: %v", err)
		}
		l, err := AcquireKeyLock(KeyLockOptions{KeyFile: key, Command: "provost up", LockHash: lockA, Spawn: func(string, func(context.Context) error) {}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // nobody refreshes it here, and the kernel still knows
		if err := KeyUse(key); !errors.As(err, &used) || used.Command != "provost up" || !strings.Contains(err.Error(), "ends with provost down --workers") {
			t.Errorf("a process of ours has it: %v", err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
		if err := KeyUse(key); err != nil {
			t.Errorf("given back: %v", err)
		}
		if err := KeyUse(key + "x"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("no key: %v", err)
		}
	})
}
