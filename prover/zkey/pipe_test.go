//go:build unix

package zkey

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A named pipe in place of a file is refused at once; opening it must not wait for a writer.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no named pipes here: %v", err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("key: %v", err)
	}
	if _, err := OpenWitness(path); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("witness: %v", err)
	}
}
