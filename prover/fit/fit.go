// Package fit works out what fits on which machine: how many workers, under which numbers and ports,
// and what every machine is given to run them.
//
// Promises. Planning is pure: the same inventory, profile and earlier plan give the same plan, in the
// same bytes; nothing is measured, dialled or written by it. What must be measured is handed in as a
// function and only ever adds warnings (Probe). A plan never gives two workers one number or one port
// of a machine, and a later plan leaves the numbers and ports of workers that stay as they were, unless
// it is asked to renumber. WriteTree and UpdateTree are the only functions that touch the disk: they
// write aside, sync and rename, and keep the version before.
//
// The tree that is written:
//
//	plan.yaml                        the plan itself, with a schema and a revision: what later changes start from
//	README.txt                       order of starting and stopping, keys of each machine
//	changes/0002.txt                 what a revision changed, machine by machine
//	machines/NAME/README.txt         what this machine runs and needs
//	machines/NAME/start.sh           starts it without a service manager
//	machines/NAME/units/             systemd units
//	machines/NAME/firewall/          rules for ufw and nftables, and the same in words
//	machines/NAME/sysctl.conf        where ports have to be kept from the kernel's own use
//	machines/NAME/config/            what the adapter of the profile adds
//	old/0001/…                       every file that revision 2 replaced, as revision 1 had it
package fit

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxMachines bounds an inventory.
	MaxMachines = 4096
	// MaxWorkers bounds a plan, parked numbers included.
	MaxWorkers = 65536
)

// Bytes is an amount of memory or disk.
type Bytes uint64

// GiB is 1024³ bytes.
const GiB Bytes = 1 << 30

// String gives the amount in the largest binary unit that keeps it readable: "64 GiB", "1.5 TiB".
func (b Bytes) String() string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(b), 0
	for v >= 1024 && i < len(units)-1 && (v >= 10240 || math.Mod(v, 1024) == 0 || i < 3) {
		v, i = v/1024, i+1
	}
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) + " " + units[i]
}

// MarshalText writes the amount so that ParseBytes reads back the same.
func (b Bytes) MarshalText() ([]byte, error) {
	for _, u := range sizeUnits {
		if b != 0 && b%u.n == 0 && len(u.name) == 3 {
			return []byte(strconv.FormatUint(uint64(b/u.n), 10) + u.name), nil
		}
	}
	return []byte(strconv.FormatUint(uint64(b), 10) + "B"), nil
}

// UnmarshalText reads what ParseBytes reads.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = v
	return nil
}

var sizeUnits = []struct {
	name string
	n    Bytes
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"kB", 1e3},
	{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"B", 1},
}

// maxBytes is more than any machine has; beyond it a unit was mistaken.
const maxBytes Bytes = 1 << 50

// ParseBytes reads an amount with its unit: 128GiB, 1.5TiB, 500GB, 64G (binary). A number alone is
// refused: nobody can tell what it counts.
func ParseBytes(s string) (Bytes, error) {
	t := strings.ReplaceAll(strings.TrimSpace(s), " ", "")
	for _, u := range sizeUnits {
		num, ok := strings.CutSuffix(t, u.name)
		if !ok {
			continue
		}
		if num == "" || strings.Trim(num, "0123456789.") != "" {
			return 0, fmt.Errorf("%q: want an amount with its unit, as in 128GiB", s)
		}
		if n, err := strconv.ParseUint(num, 10, 64); err == nil {
			if n > uint64(maxBytes/u.n) {
				return 0, fmt.Errorf("%q is more than any machine has", s)
			}
			return Bytes(n) * u.n, nil
		}
		v, err := strconv.ParseFloat(num, 64)
		if err != nil {
			return 0, fmt.Errorf("%q: want an amount with its unit, as in 128GiB", s)
		}
		if v *= float64(u.n); v > float64(maxBytes) {
			return 0, fmt.Errorf("%q is more than any machine has", s)
		}
		return Bytes(v), nil
	}
	if v, err := strconv.ParseFloat(t, 64); err == nil {
		if v >= 1<<20 { // nobody means so many GiB
			return 0, fmt.Errorf("%q has no unit: write %sB if bytes are meant", s, t)
		}
		return 0, fmt.Errorf("%q has no unit: write %sGiB if you mean that", s, t)
	}
	return 0, fmt.Errorf("%q: want an amount with its unit, as in 128GiB", s)
}

// Problem is one thing that is wrong with what was asked for.
type Problem struct {
	Field  string // the flag's name without dashes: "inventory", "keep-free"
	Cause  string
	Remedy string
}

// ProblemsError holds everything that is wrong, so that all is told at once.
type ProblemsError struct{ Problems []Problem }

// Error joins the causes.
func (e *ProblemsError) Error() string {
	var out []string
	for _, p := range e.Problems {
		out = append(out, p.Cause)
	}
	return strings.Join(out, "; ")
}

// maxProblems is how many problems are told; a broken inventory of thousands of lines has one cause.
const maxProblems = 24

// faults gathers problems.
type faults struct {
	list []Problem
	more int
}

func (f *faults) add(field, remedy, format string, args ...any) {
	if len(f.list) == maxProblems {
		f.more++
		return
	}
	f.list = append(f.list, Problem{Field: field, Cause: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (f *faults) err() error {
	if len(f.list) == 0 {
		return nil
	}
	if f.more > 0 {
		f.list[len(f.list)-1].Cause += fmt.Sprintf(" (and %d more of these)", f.more)
	}
	return &ProblemsError{slices.Clone(f.list)}
}

// plural is "1 worker", "2 workers".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

// thousands is 2048 as "2,048".
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
