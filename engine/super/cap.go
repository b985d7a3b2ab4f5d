package super

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A cap on memory is kept by a control group below the one that the stub runs in
// (v1: memory.limit_in_bytes; v2: memory.max, where the memory controller is
// handed down), so that limits set from above go on to hold. Where no group can
// be made the stub looks at the child's resident memory itself: only the child's
// own, four times a second, so it can overshoot between two looks.

const pollCap = 250 * time.Millisecond

// group is a memory control group of one run.
type group struct {
	dir string
	v2  bool
}

// cgroupFS says where control groups are found; tests give written trees.
type cgroupFS struct {
	mounts string // /proc/self/mounts
	self   string // /proc/self/cgroup
}

var systemCgroups = cgroupFS{mounts: "/proc/self/mounts", self: "/proc/self/cgroup"}

// memoryGroup finds the directory of the memory control group that we are in.
func (c cgroupFS) memoryGroup() (dir string, v2 bool, err error) {
	mounts, err := os.ReadFile(c.mounts)
	if err != nil {
		return "", false, err
	}
	self, err := os.ReadFile(c.self)
	if err != nil {
		return "", false, err
	}
	return findMemoryGroup(mounts, self)
}

func findMemoryGroup(mounts, self []byte) (dir string, v2 bool, err error) {
	var v1At, v2At string
	for line := range bytes.Lines(mounts) {
		f := strings.Fields(string(line))
		if len(f) < 4 {
			continue
		}
		switch {
		case f[2] == "cgroup2":
			v2At = unescapeMount(f[1])
		case f[2] == "cgroup" && hasWord(f[3], "memory"):
			v1At = unescapeMount(f[1])
		}
	}
	for line := range bytes.Lines(self) {
		f := strings.SplitN(strings.TrimRight(string(line), "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		if v1At != "" && hasWord(f[1], "memory") {
			return filepath.Join(v1At, f[2]), false, nil
		}
		if v1At == "" && v2At != "" && f[0] == "0" && f[1] == "" {
			return filepath.Join(v2At, f[2]), true, nil
		}
	}
	return "", false, errors.New("no memory control group")
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// unescapeMount undoes the octal escapes of /proc/mounts.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// make makes the group of one run with its limit.
func (c cgroupFS) make(name string, limit uint64) (*group, error) {
	parent, v2, err := c.memoryGroup()
	if err != nil {
		return nil, err
	}
	g := &group{dir: filepath.Join(parent, name), v2: v2}
	// Groups of earlier runs of this id stay behind when a stub is killed; an empty one can go.
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		old, _ := filepath.Glob(filepath.Join(parent, name[:i]+".*"))
		for _, d := range old {
			os.Remove(d)
		}
	}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, err
	}
	n := []byte(strconv.FormatUint(limit, 10))
	if v2 {
		err = writeCgroup(g.dir, "memory.max", n)
		if err == nil {
			// Swap would let it grow past the cap; absent without swap accounting.
			_ = writeCgroup(g.dir, "memory.swap.max", []byte("0"))
		}
	} else {
		err = writeCgroup(g.dir, "memory.limit_in_bytes", n)
		if err == nil {
			_ = writeCgroup(g.dir, "memory.memsw.limit_in_bytes", n)
		}
	}
	if err != nil {
		os.Remove(g.dir)
		return nil, err
	}
	return g, nil
}

// writeCgroup writes to a control file that must exist: creating one would mean
// that this is no control group at all.
func writeCgroup(dir, name string, b []byte) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// add moves a process into the group.
func (g *group) add(pid int) error {
	return writeCgroup(g.dir, "cgroup.procs", []byte(strconv.Itoa(pid)))
}

// kills counts how often the kernel killed for memory in the group; nil: not known.
func (g *group) kills() *uint64 {
	name := "memory.oom_control"
	if g.v2 {
		name = "memory.events"
	}
	return counter(filepath.Join(g.dir, name), "oom_kill")
}

// remove takes the group away; what still runs in it keeps it.
func (g *group) remove() {
	for range 20 {
		err := os.Remove(g.dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
		// The kernel needs a moment after the last process has gone.
		time.Sleep(5 * time.Millisecond)
	}
}

// machineOOMKills is the kernel's count of kills for lack of memory since boot, in any group; nil: not known.
func machineOOMKills() *uint64 { return counter("/proc/vmstat", "oom_kill") }

// counter finds "name N" in a file of such lines.
func counter(path, name string) *uint64 {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		k, v, ok := strings.Cut(sc.Text(), " ")
		if !ok || k != name {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
		if err != nil {
			return nil
		}
		return &n
	}
	return nil
}

// rss is the resident memory of a process in bytes; 0 when it is gone.
func rss(pid int) uint64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	n, err := strconv.ParseUint(string(f[1]), 10, 64)
	if err != nil {
		return 0
	}
	return n * uint64(os.Getpagesize())
}

// ending is everything known about how a child ended, for its words.
type ending struct {
	code      int
	signal    unix.Signal // 0: none
	core      bool
	stopAsked bool
	overGrace time.Duration // not 0: it was killed after this grace
	lifeline  bool
	limit     uint64
	overRSS   uint64  // not 0: the stub ended it for this
	groupOOM  *uint64 // kills in its own control group; nil: it had none
	// Kernel's count for the whole machine before and after; nil: not known.
	oomBefore, oomAfter *uint64
}

// oom tells whether memory ended it for certain.
func (e ending) oom() bool {
	return e.overRSS > 0 || e.signal == unix.SIGKILL && e.groupOOM != nil && *e.groupOOM > 0
}

// cause says in words how the child ended.
func (e ending) cause() string {
	asked := "stopped as asked"
	if e.lifeline {
		asked = "stopped because the process that keeps it was gone"
	}
	switch {
	case e.overRSS > 0:
		return fmt.Sprintf("killed by its stub: it used %s of memory and its cap is %s", mib(e.overRSS), mib(e.limit))
	case e.oom():
		return fmt.Sprintf("killed by the kernel: out of memory, its cap is %s", mib(e.limit))
	case e.overGrace > 0 && e.signal == unix.SIGKILL:
		return fmt.Sprintf("%s, but by SIGKILL: it did not end within %s of SIGTERM", asked, e.overGrace)
	case e.stopAsked && e.signal == unix.SIGTERM, e.stopAsked && e.signal == 0 && e.code == 0:
		return asked
	case e.stopAsked && e.signal == 0:
		return fmt.Sprintf("%s, with code %d", asked, e.code)
	case e.signal == unix.SIGKILL:
		switch {
		case e.oomBefore == nil || e.oomAfter == nil:
			return "killed by SIGKILL (by the kernel's out-of-memory killer or by hand)"
		case *e.oomAfter > *e.oomBefore:
			return "killed by SIGKILL, probably by the kernel: out of memory (its count of such kills on this machine rose meanwhile)"
		}
		return "killed by SIGKILL by hand: the kernel's count of out-of-memory kills did not rise"
	case e.signal != 0 && e.core:
		return fmt.Sprintf("killed by %s, with a core dump", signalName(e.signal))
	case e.signal != 0:
		return "killed by " + signalName(e.signal)
	case e.code == 0:
		return "ended by itself with code 0, and nobody had asked it to"
	}
	return fmt.Sprintf("ended by itself with code %d", e.code)
}

func mib(n uint64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
