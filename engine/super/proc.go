package super

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxCPUs bounds CPU numbers; the kernel's own limit is 8192, unix.CPUSet holds 1024.
const maxCPUs = 1024

// identity tells a process from every other that ever had or will have its pid.
type identity struct {
	PID   int
	Ticks uint64 // start time in clock ticks since boot, field 22 of /proc/PID/stat
	Boot  string // boot id
}

// stat is what we use of /proc/PID/stat.
type stat struct {
	State   byte
	PPID    int
	PGRP    int
	Session int
	Ticks   uint64
}

// readStat reads /proc/PID/stat.
func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// parseStat reads a stat line. The name in brackets may hold anything, brackets and spaces too.
func parseStat(b []byte) (stat, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, errors.New("read process state: no closing bracket")
	}
	f := bytes.Fields(b[i+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return stat{}, errors.New("read process state: too few fields")
	}
	s := stat{State: f[0][0]}
	var err error
	for _, x := range []struct {
		at   int
		into *int
	}{{1, &s.PPID}, {2, &s.PGRP}, {3, &s.Session}} {
		if *x.into, err = strconv.Atoi(string(f[x.at])); err != nil {
			return stat{}, fmt.Errorf("read process state: %w", err)
		}
	}
	if s.Ticks, err = strconv.ParseUint(string(f[19]), 10, 64); err != nil {
		return stat{}, fmt.Errorf("read process state: %w", err)
	}
	return s, nil
}

// bootID is this boot's id; "" where the kernel does not tell it.
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// me is this process.
func me() (identity, error) {
	s, err := readStat(os.Getpid())
	if err != nil {
		return identity{}, err
	}
	return identity{PID: os.Getpid(), Ticks: s.Ticks, Boot: bootID()}, nil
}

// alive tells whether exactly this process lives. A zombie is dead.
func (id identity) alive() bool {
	if id.PID <= 0 || id.Boot != bootID() {
		return false
	}
	s, err := readStat(id.PID)
	return err == nil && s.Ticks == id.Ticks && s.State != 'Z' && s.State != 'X'
}

// open gives a pidfd that is certain to mean this process, or -1 when it is dead.
// errNoPidfd: the kernel has none.
func (id identity) open() (int, error) {
	if id.PID <= 0 || id.Boot != bootID() {
		return -1, nil
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return -1, nil
	case err != nil:
		return -1, errNoPidfd
	}
	unix.CloseOnExec(fd)
	// Compared after it was opened: the pid cannot have changed hands in between.
	if !id.alive() {
		unix.Close(fd)
		return -1, nil
	}
	return fd, nil
}

var errNoPidfd = errors.New("the kernel has no pidfd")

// kill sends a signal to exactly this process; a dead one is no error.
func (id identity) kill(sig unix.Signal) error {
	fd, err := id.open()
	if errors.Is(err, errNoPidfd) {
		if !id.alive() {
			return nil
		}
		err = unix.Kill(id.PID, sig)
	} else if fd >= 0 {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
		unix.Close(fd)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// exitedFD tells whether the process of a pidfd has ended.
func exitedFD(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1
}

// marked lists living processes whose environment carries a mark of ours, by mark.
// It looks at every process of the machine, so it is for ends and starts only.
func marked(mark string) []identity {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return nil
	}
	var out []identity
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		if err != nil || s.State == 'Z' {
			continue
		}
		env, err := os.ReadFile("/proc/" + n + "/environ")
		if err != nil || envValue(env, runVar) != mark {
			continue
		}
		out = append(out, identity{PID: pid, Ticks: s.Ticks, Boot: bootID()})
	}
	return out
}

// signalName gives "SIGKILL", or "signal 40" for one without a name.
func signalName(s unix.Signal) string {
	if n := unix.SignalName(s); n != "" {
		return n
	}
	return fmt.Sprintf("signal %d", int(s))
}
