package super

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Locks are open-file-description locks (fcntl F_OFD_SETLK): they belong to the
// open file, so a child that inherits it holds the lock too, the kernel frees it
// at the last holder's death, and F_OFD_GETLK tells whether it is held without
// taking it, so that asking never disturbs a start.

var errHeld = errors.New("held by another process")

// lockFile takes the whole-file lock or returns errHeld at once.
func lockFile(f *os.File) error {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errHeld
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// heldFile tells whether another open file holds the lock.
func heldFile(f *os.File) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, fmt.Errorf("ask for the lock of %s: %w", f.Name(), err)
	}
	return l.Type != unix.F_UNLCK, nil
}

// heldPath tells whether the lock of a file is held; a missing file is not.
func heldPath(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return heldFile(f)
}
