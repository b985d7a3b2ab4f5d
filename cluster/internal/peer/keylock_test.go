package peer

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
)

var lockA = cluster.Root{0xaa, 1}

func keyFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "charon-enr-private-key")
	if err := os.WriteFile(path, []byte("key"), 0o400); err != nil {
		t.Fatal(err)
	}
	return path
}

func noSpawn(string, func(context.Context) error) {}

func writeLock(t *testing.T, key string, f lockFile) {
	t.Helper()
	raw, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key+".lock", raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestKeyLockAges(t *testing.T) {
	ours := strings.TrimPrefix(lockA.String(), "0x")
	for name, c := range map[string]struct {
		age  time.Duration
		hash string
		raw  string
		free bool
		wait time.Duration
	}{
		"fresh":               {age: 4900 * time.Millisecond, hash: ours, wait: 100 * time.Millisecond},
		"fresh with 0x":       {age: time.Second, hash: "0x" + ours, wait: 4 * time.Second},
		"old":                 {age: 5 * time.Second, hash: ours, free: true},
		"no hash":             {age: 6 * time.Second, free: true},
		"other lock":          {age: 767 * time.Second, hash: strings.Repeat("bb", 32), wait: time.Second},
		"other lock, old":     {age: 768 * time.Second, hash: strings.Repeat("bb", 32), free: true},
		"clock went back":     {age: -time.Hour, hash: ours, wait: 5 * time.Second},
		"half written, fresh": {raw: `{"timest`, wait: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := keyFile(t)
				if c.raw != "" {
					if err := os.WriteFile(key+".lock", []byte(c.raw), 0o600); err != nil {
						t.Fatal(err)
					}
					if err := os.Chtimes(key+".lock", time.Now(), time.Now()); err != nil {
						t.Fatal(err)
					}
				} else {
					writeLock(t, key, lockFile{Timestamp: time.Now().Add(-c.age).Format(time.RFC3339Nano), Command: "charon run\x1b[2J", LockHash: c.hash})
				}
				l, err := AcquireKeyLock(KeyLockOptions{KeyFile: key, Command: "provost up", LockHash: lockA, Spawn: noSpawn})
				if c.free {
					if err != nil {
						t.Fatal(err)
					}
					if err := l.Release(); err != nil {
						t.Fatal(err)
					}
					return
				}
				var used *KeyInUse
				if !errors.As(err, &used) || used.Wait != c.wait {
					t.Fatalf("got %+v (%v), want a wait of %v", used, err, c.wait)
				}
				if strings.Contains(err.Error(), "\x1b") || c.raw == "" && !strings.Contains(err.Error(), "charon run") {
					t.Errorf("message %q", err)
				}
			})
		})
	}
}

func TestKeyLockKeepsRefreshingAndNoticesAThief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := keyFile(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		spawn := func(_ string, fn func(context.Context) error) { go func() { ended <- fn(ctx) }() }
		l, err := AcquireKeyLock(KeyLockOptions{KeyFile: key, Command: "provost up", LockHash: lockA, Spawn: spawn})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := AcquireKeyLock(KeyLockOptions{KeyFile: key, Command: "provost up", LockHash: lockA, Spawn: noSpawn}); !errors.As(err, new(*KeyInUse)) {
			t.Fatalf("a second process got the key: %v", err)
		}
		for range 3 {
			time.Sleep(10*lockRefresh + time.Millisecond)
			f, at, err := l.read()
			if err != nil || time.Since(at) > lockRefresh || f.Command != "provost up" {
				t.Fatalf("%+v is %v old: %v", f, time.Since(at), err)
			}
		}
		if err := os.Remove(key + ".lock"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lockRefresh)
		synctest.Wait()
		if _, err := os.Stat(key + ".lock"); err != nil {
			t.Fatalf("the lock was not written again: %v", err)
		}
		writeLock(t, key, lockFile{Timestamp: time.Now().Format(time.RFC3339Nano), Command: "charon run"})
		time.Sleep(2 * lockRefresh)
		var used *KeyInUse
		if err := <-ended; !errors.As(err, &used) || used.Command != "charon run" {
			t.Fatalf("the loop ended with %v", err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(key + ".lock"); err != nil {
			t.Errorf("a foreign lock was removed: %v", err)
		}
	})
}

func TestKeyLockIsGoneAfterRelease(t *testing.T) {
	key := keyFile(t)
	l, err := AcquireKeyLock(KeyLockOptions{KeyFile: key, Command: "provost up", LockHash: lockA, Spawn: noSpawn})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(key + ".lock"); err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", st, err)
	}
	if err := errors.Join(l.Release(), l.Release()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(key + ".lock"); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if _, err := AcquireKeyLock(KeyLockOptions{KeyFile: key, Command: "provost up", LockHash: lockA, Spawn: noSpawn}); err != nil {
		t.Fatal(err)
	}
}
