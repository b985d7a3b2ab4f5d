package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"app.provost/engine"

	"github.com/shirou/gopsutil/v3/disk"
	"golang.org/x/sys/unix"
)

// probe asks one filesystem. While a question is out, no other is asked.
type probe struct {
	path  Path
	out   <-chan answer[engine.DiskStat]
	begun time.Time
}

// disks asks all filesystems at once. One that does not answer in time is left
// out and named; the others are as fresh as ever.
func (r *reader) disks(ctx context.Context) (*[]engine.DiskStat, error) {
	patience := time.NewTimer(r.h.o.Deadline * 2 / 3)
	defer patience.Stop()
	for _, p := range r.probes {
		if p.out == nil {
			p.begun = time.Now()
			p.out = call(context.WithoutCancel(ctx), r.h.o.Deadline, func(ctx context.Context) (*engine.DiskStat, error) {
				d, err := r.h.calls.statfs(ctx, p.path)
				if err != nil {
					return nil, err
				}
				return &d, nil
			})
		}
	}
	list := []engine.DiskStat{}
	var problems []error
	over := false
	for _, p := range r.probes {
		var a answer[engine.DiskStat]
		got := false
		if !over {
			select {
			case a = <-p.out:
				got = true
			case <-patience.C:
				over = true
			}
		}
		if over && !got {
			select {
			case a = <-p.out:
				got = true
			default:
			}
		}
		if !got {
			problems = append(problems, fmt.Errorf("the filesystem of %s has not answered for %s", p.path.Path, time.Since(p.begun).Round(time.Second)))
			continue
		}
		p.out = nil
		if a.err != nil {
			problems = append(problems, a.err)
			continue
		}
		list = append(list, *a.v)
	}
	if len(list) == 0 && len(problems) > 0 {
		return nil, oneLine(problems)
	}
	return &list, oneLine(problems)
}

// oneLine joins errors with "; ": a reading's problem is shown on one line.
func oneLine(errs []error) error {
	var out error
	for _, err := range errs {
		if out == nil {
			out = err
		} else {
			out = fmt.Errorf("%w; %w", out, err)
		}
	}
	return out
}

func statfs(ctx context.Context, p Path) (engine.DiskStat, error) {
	// A directory that is still to be made lies on the filesystem of the nearest one above it.
	dir := p.Path
	for {
		_, err := os.Stat(dir)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	u, err := disk.UsageWithContext(ctx, dir)
	if err != nil {
		return engine.DiskStat{}, fmt.Errorf("read filesystem of %s: %w", p.Path, err)
	}
	kind := mountedType(dir)
	if kind == "" {
		kind = u.Fstype // from the magic number, which ext2 to ext4 share
	}
	out := engine.DiskStat{Path: p.Path, What: p.What, FSType: kind, TotalBytes: u.Total, FreeBytes: u.Free}
	if u.InodesTotal > 0 { // filesystems such as btrfs have no fixed number
		total, free := u.InodesTotal, u.InodesFree
		out.InodesTotal, out.InodesFree = &total, &free
	}
	return out, nil
}

// mountedType is the filesystem's type as the mount table names it for the device
// of dir, "" when it cannot be told (overlays and subvolumes have devices of their own).
func mountedType(dir string) string {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return ""
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	device := fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	for line := range strings.Lines(string(b)) {
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if ok && len(l) > 2 && len(r) > 0 && l[2] == device {
			return r[0]
		}
	}
	return ""
}
