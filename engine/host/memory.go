package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"app.provost/engine"

	"github.com/shirou/gopsutil/v3/mem"
)

func (r *reader) memory(context.Context) (*engine.MemoryStat, error) {
	vm, err := mem.VirtualMemoryWithContext(r.ctx)
	if err != nil {
		return nil, fmt.Errorf("read memory: %w", err)
	}
	if vm.Total == 0 {
		return nil, errors.New("read memory: /proc/meminfo names no total")
	}
	out := engine.MemoryStat{
		TotalBytes: vm.Total, AvailableBytes: vm.Available,
		SwapTotalBytes: vm.SwapTotal, SwapUsedBytes: vm.SwapTotal - min(vm.SwapTotal, vm.SwapFree),
	}
	if b, err := r.h.read("sys/kernel/mm/transparent_hugepage/enabled"); err == nil {
		out.THP = chosen(string(b))
	}
	limit, err := r.h.memoryLimit()
	out.LimitBytes = limit
	return &out, err
}

// chosen finds the word in brackets: "always [madvise] never".
func chosen(s string) string {
	_, rest, ok := strings.Cut(s, "[")
	word, _, closed := strings.Cut(rest, "]")
	if !ok || !closed {
		return ""
	}
	return word
}

// memoryLimit is the tightest memory limit of the control groups that this
// process is in, nil for none. Limits of outer groups hold too.
func (h *Host) memoryLimit() (*uint64, error) {
	b, err := h.read("proc/self/cgroup")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a kernel without control groups
	}
	if err != nil {
		return nil, fmt.Errorf("read control groups: %w", err)
	}
	groups := memoryGroups(b)
	mounts, err := h.cgroupMounts()
	if err != nil {
		return nil, err
	}
	var tightest *uint64
	for _, m := range mounts {
		group, ok := groups[m.version]
		if !ok {
			continue
		}
		file := "memory.max"
		if m.version == 1 {
			file = "memory.limit_in_bytes"
		}
		// In a container the group's path may be the host's and lie above what is mounted.
		dir := strings.TrimPrefix(group, strings.TrimSuffix(m.root, "/"))
		for {
			b, err := h.read(m.at, dir, file)
			if err == nil {
				if n, ok := parseLimit(b); ok && (tightest == nil || n < *tightest) {
					tightest = &n
				}
			}
			if dir == "" || dir == "/" || dir == "." {
				break
			}
			dir = path.Dir(dir)
		}
	}
	return tightest, nil
}

// memoryGroups finds this process' group for memory in /proc/self/cgroup, by version of the hierarchy.
func memoryGroups(b []byte) map[int]string {
	out := map[int]string{}
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[0] == "0" && parts[1] == "" {
			out[2] = parts[2]
		}
		for name := range strings.SplitSeq(parts[1], ",") {
			if name == "memory" {
				out[1] = parts[2]
			}
		}
	}
	return out
}

type cgroupMount struct {
	version int
	root    string // the group that is seen at the mount point
	at      string
}

// cgroupMounts reads where the memory hierarchies are mounted (proc(5), mountinfo).
func (h *Host) cgroupMounts() ([]cgroupMount, error) {
	b, err := h.read("proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var out []cgroupMount
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		switch {
		case r[0] == "cgroup2":
			out = append(out, cgroupMount{2, l[3], l[4]})
		case r[0] == "cgroup" && strings.Contains(","+r[2]+",", ",memory,"):
			out = append(out, cgroupMount{1, l[3], l[4]})
		}
	}
	return out, sc.Err()
}

// parseLimit reads a limit. "max", and version 1's number close to 2^63, mean none.
func parseLimit(b []byte) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n >= 1<<62 {
		return 0, false
	}
	return n, true
}
