package super

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"app.provost/prover"
)

// Reservation is one CPU that a process has taken, machine-wide.
type Reservation struct {
	CPU prover.CPU
	// Holder is what the holder wrote; its fields are empty when it wrote nothing readable.
	Holder Holder
}

// Holder says who has taken a CPU. Any user of the machine can write such a
// file, so it informs and decides nothing: the lock decides.
type Holder struct {
	Schema string    `json:"schema"`
	ID     string    `json:"id"`    // process id as in Spec.ID
	Owner  string    `json:"owner"` // as in Options.Owner: the engine's state directory
	UID    int       `json:"uid"`
	PID    int       `json:"pid"` // of the stub
	At     time.Time `json:"at"`
}

// String is `w1 of /var/lib/provost (pid 812)`.
func (h Holder) String() string {
	if h.ID == "" {
		return "a process that left no name"
	}
	return fmt.Sprintf("%s of %s (pid %d)", h.ID, h.Owner, h.PID)
}

// ReservationDir gives the machine-wide directory of core reservations:
// /run/lock/provost where that can be made or is there, else a directory below
// the system's temporary one. All users of the machine share it (mode 1777).
func ReservationDir() (string, error) {
	var first error
	for _, dir := range []string{"/run/lock/provost", filepath.Join(os.TempDir(), "provost-cores")} {
		err := makeShared(dir)
		if err == nil {
			return dir, nil
		}
		if first == nil {
			first = err
		}
	}
	return "", fmt.Errorf("find a directory for core reservations: %w; make /run/lock/provost with mode 1777", first)
}

func makeShared(dir string) error {
	switch err := os.Mkdir(dir, 0o777); {
	case err == nil:
		// Mkdir's mode is cut by the umask.
		if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	return unix.Access(dir, unix.W_OK|unix.X_OK)
}

func coreFile(dir string, c prover.CPU) string {
	return filepath.Join(dir, "cpu-"+strconv.Itoa(int(c))+".lock")
}

// Reserved lists the CPUs that are taken, in order. It takes no lock itself.
func Reserved(dir string) ([]Reservation, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list core reservations: %w", err)
	}
	var out []Reservation
	for _, e := range entries {
		s, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ".lock"), "cpu-")
		n, err := strconv.Atoi(s)
		if !ok || err != nil || n < 0 || n >= maxCPUs || coreFile(dir, prover.CPU(n)) != filepath.Join(dir, e.Name()) {
			continue
		}
		f, err := openShared(coreFile(dir, prover.CPU(n)))
		if err != nil {
			continue // somebody else's, unreadable: it reserves nothing that we can see
		}
		held, err := heldFile(f)
		if err == nil && held {
			out = append(out, Reservation{CPU: prover.CPU(n), Holder: readHolder(f)})
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b Reservation) int { return int(a.CPU - b.CPU) })
	return out, nil
}

// openShared opens a reservation file that may belong to another user. It is
// opened without creating first: in a sticky directory the kernel may refuse to
// "create" a file of somebody else (fs.protected_regular).
func openShared(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return f, nil
}

func readHolder(f *os.File) Holder {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	if err != nil {
		return Holder{}
	}
	return parseHolder(b)
}

// parseHolder reads foreign bytes: whatever is not clearly a holder is none.
func parseHolder(b []byte) Holder {
	var h Holder
	if json.Unmarshal(b, &h) != nil || h.Schema != coreSchema || !idForm.MatchString(h.ID) || len(h.Owner) > 1024 {
		return Holder{}
	}
	h.Owner = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, h.Owner)
	return h
}

// reserve takes one CPU until the file, and every copy of it that a child
// inherited, is closed. errHeld with the holder when somebody else has it.
func reserve(dir string, c prover.CPU, h Holder) (*os.File, Holder, error) {
	path := coreFile(dir, c)
	f, err := openShared(path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o666)
		if err == nil {
			// The umask must not keep other users' engines from asking.
			err = f.Chmod(0o666)
		} else if errors.Is(err, fs.ErrExist) {
			f, err = openShared(path)
		}
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, Holder{}, fmt.Errorf("reserve CPU %d: %w", c, err)
	}
	if err := lockFile(f); err != nil {
		who := readHolder(f)
		f.Close()
		return nil, who, err
	}
	h.Schema = coreSchema
	b, err := json.Marshal(h)
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(append(b, '\n'), 0)
		}
	}
	if err != nil {
		f.Close()
		return nil, Holder{}, fmt.Errorf("reserve CPU %d: %w", c, err)
	}
	return f, Holder{}, nil
}
