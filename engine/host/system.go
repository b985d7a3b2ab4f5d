package host

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"app.provost/engine"

	"golang.org/x/sys/unix"
)

func (h *Host) hostname() (string, error) {
	b, err := h.read("proc/sys/kernel/hostname")
	if err != nil {
		return "", fmt.Errorf("read host name: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (r *reader) system(context.Context) (*engine.SystemStat, error) {
	h := r.h
	out := engine.SystemStat{OS: runtime.GOOS, Arch: runtime.GOARCH}
	var problems []error
	if b, err := h.read("etc/os-release"); err == nil {
		if name := osName(string(b)); name != "" {
			out.OS = name
		}
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		problems = append(problems, fmt.Errorf("ask for the kernel's version: %w", err))
	} else {
		out.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	at, err := h.bootedAt()
	if err != nil {
		return nil, err
	}
	out.BootedAt = at
	nodes, err := h.numaNodes()
	if err != nil {
		problems = append(problems, err)
	}
	out.NUMANodes = max(1, len(nodes)) // a kernel without NUMA sees one node
	out.Virtual = h.virtual()
	if n, err := h.processes(); err != nil {
		problems = append(problems, err)
	} else {
		out.Processes = &n
	}
	return &out, oneLine(problems)
}

// osName reads PRETTY_NAME of os-release(5).
func osName(s string) string {
	for line := range strings.Lines(s) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			if q, err := strconv.Unquote(v); err == nil {
				return q
			}
			return strings.Trim(v, `'"`)
		}
	}
	return ""
}

func (h *Host) bootedAt() (time.Time, error) {
	b, err := h.read("proc/stat")
	if err != nil {
		return time.Time{}, fmt.Errorf("read boot time: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "btime "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			if err != nil {
				return time.Time{}, fmt.Errorf("read boot time: /proc/stat says btime %q", strings.TrimSpace(v))
			}
			return time.Unix(n, 0).UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("read boot time: /proc/stat has no btime")
}

// virtual says in words in what this system runs, "" for a bare machine.
func (h *Host) virtual() string {
	var in []string
	for file, name := range map[string]string{".dockerenv": "docker", "run/.containerenv": "podman"} {
		if _, err := os.Stat(h.path(file)); err == nil {
			in = append(in, name)
		}
	}
	if b, err := h.read("proc/cpuinfo"); err == nil && hypervisor(string(b)) {
		vm := "virtual machine"
		if v, err := h.read("sys/class/dmi/id/sys_vendor"); err == nil && len(strings.TrimSpace(string(v))) > 0 {
			vm += " (" + strings.TrimSpace(string(v)) + ")"
		}
		in = append(in, vm)
	}
	return strings.Join(in, " in ")
}

// hypervisor looks for the flag that x86 processors show under one.
func hypervisor(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "flags" {
			return strings.Contains(" "+strings.TrimSpace(flags)+" ", " hypervisor ")
		}
	}
	return false
}

func (h *Host) processes() (uint64, error) {
	d, err := os.Open(h.path("proc"))
	if err != nil {
		return 0, fmt.Errorf("count processes: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0, fmt.Errorf("count processes: %w", err)
	}
	var n uint64
	for _, name := range names {
		if _, err := strconv.Atoi(name); err == nil {
			n++
		}
	}
	return n, nil
}
