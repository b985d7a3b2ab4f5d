// Package host reads this machine: processors, memory, disks, clock, hugepages,
// system, and what worker processes use.
//
// Promises. Each group of readings has its own period and its own task; a reading
// that hangs (a dead network filesystem, say) makes only itself old, with the
// reason in words: it is not started a second time while the first call has not
// come back, so nothing piles up. A value that cannot be read is null and the
// reading says why; the last good value stays, with its age. Nothing here writes
// to the machine, and nothing asks a server outside unless one is configured.
//
// gopsutil reads what it reads well; hugepages, control groups, the clock and
// process samples are read from their files and system calls directly. All files
// are reached through Options.Root, so that machines which are not at hand are
// tested as written trees.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"app.provost/engine"
	"app.provost/prover"

	"github.com/shirou/gopsutil/v3/common"
)

// Path is a directory whose filesystem is watched.
type Path struct {
	Path string
	What string // "state", "runtime"
}

// Periods of the groups. Zero takes the default.
type Periods struct {
	CPU       time.Duration // 2s
	Memory    time.Duration // 5s
	Disks     time.Duration // 15s
	Clock     time.Duration // 30s; 64s with an NTP server
	Hugepages time.Duration // 5s
	System    time.Duration // 60s
}

// Options say what to read. All have defaults; Log may be nil.
type Options struct {
	// Root is where the machine's file tree begins: "" or "/" for this machine.
	Root  string
	Paths []Path
	// NTPServer is asked for the clock's offset; empty (the default) asks nobody
	// and takes the kernel's word. A name or address, with or without a port.
	NTPServer string
	Periods   Periods
	// Deadline is when a call that has not come back counts as stuck (3s).
	Deadline time.Duration
	Log      *slog.Logger
}

// Facts are readings that are new: those that are not nil.
type Facts struct {
	Hostname  string
	CPU       *engine.Reading[engine.CPUStat]
	Memory    *engine.Reading[engine.MemoryStat]
	Disks     *engine.Reading[[]engine.DiskStat]
	Clock     *engine.Reading[engine.ClockStat]
	Hugepages *engine.Reading[[]prover.HugePool]
	System    *engine.Reading[engine.SystemStat]
}

// Host reads one machine. Safe for concurrent use.
type Host struct {
	o     Options
	calls calls
}

// calls are the system calls that a written tree cannot stand for.
type calls struct {
	adjtimex func() (synced bool, maxError time.Duration, err error)
	statfs   func(ctx context.Context, p Path) (engine.DiskStat, error)
	ntp      func(ctx context.Context, server string) (offset, bound time.Duration, err error)
	now      func() time.Time
}

// New makes a Host. It reads nothing yet.
func New(o Options) (*Host, error) {
	if o.Root == "" {
		o.Root = "/"
	}
	for _, p := range o.Paths {
		if !filepath.IsAbs(p.Path) {
			return nil, fmt.Errorf("watch filesystem of %q: the path must be absolute", p.Path)
		}
	}
	clock := 30 * time.Second
	if o.NTPServer != "" {
		clock = 64 * time.Second // what NTP's good manners ask for
	}
	for _, d := range []struct {
		at *time.Duration
		v  time.Duration
	}{
		{&o.Periods.CPU, 2 * time.Second}, {&o.Periods.Memory, 5 * time.Second}, {&o.Periods.Disks, 15 * time.Second},
		{&o.Periods.Clock, clock}, {&o.Periods.Hugepages, 5 * time.Second}, {&o.Periods.System, time.Minute},
		{&o.Deadline, 3 * time.Second},
	} {
		if *d.at < 0 {
			return nil, errors.New("read this machine: a period is negative")
		}
		if *d.at == 0 {
			*d.at = d.v
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Host{o: o, calls: calls{adjtimex: adjtimex, statfs: statfs, ntp: askNTP, now: time.Now}}, nil
}

// Run starts one task per group. tell is called from these tasks, each time with
// what is new; what it is given never changes afterwards.
func (h *Host) Run(spawn engine.Spawner, tell func(Facts)) {
	r := h.reader()
	start := func(name string, run func(context.Context) error) { spawn.Go("host."+name, run) }
	start("cpu", group(h, "cpu", h.o.Periods.CPU, r.cpu, func(v *engine.Reading[engine.CPUStat]) {
		tell(Facts{CPU: v})
	}))
	start("memory", group(h, "memory", h.o.Periods.Memory, r.memory, func(v *engine.Reading[engine.MemoryStat]) {
		tell(Facts{Memory: v})
	}))
	start("disks", group(h, "disks", h.o.Periods.Disks, r.disks, func(v *engine.Reading[[]engine.DiskStat]) {
		tell(Facts{Disks: v})
	}))
	start("clock", group(h, "clock", h.o.Periods.Clock, r.clock, func(v *engine.Reading[engine.ClockStat]) {
		tell(Facts{Clock: v})
	}))
	start("hugepages", group(h, "hugepages", h.o.Periods.Hugepages, r.hugepages, func(v *engine.Reading[[]prover.HugePool]) {
		tell(Facts{Hugepages: v})
	}))
	start("system", group(h, "system", h.o.Periods.System, r.system, func(v *engine.Reading[engine.SystemStat]) {
		name, _ := h.hostname() // "" leaves it as it was
		tell(Facts{Hostname: name, System: v})
	}))
}

// ReadOnce reads everything once, for commands that run without an engine. It
// takes as long as the slowest group (the use of the processors needs a quarter
// of a second), at most until ctx ends or Deadline has passed. Key and Roles are
// the caller's to fill in.
func (h *Host) ReadOnce(ctx context.Context) engine.MachineRow {
	ctx, cancel := context.WithTimeout(ctx, h.o.Deadline+time.Second)
	defer cancel()
	r := h.reader()
	var row engine.MachineRow
	row.Hostname, _ = h.hostname()
	var all sync.WaitGroup
	all.Go(func() { once(ctx, h, "cpu", h.o.Periods.CPU, r.cpu, &row.CPU) })
	all.Go(func() { once(ctx, h, "memory", h.o.Periods.Memory, r.memory, &row.Memory) })
	all.Go(func() { once(ctx, h, "disks", h.o.Periods.Disks, r.disks, &row.Disks) })
	all.Go(func() { once(ctx, h, "clock", h.o.Periods.Clock, r.clock, &row.Clock) })
	all.Go(func() { once(ctx, h, "hugepages", h.o.Periods.Hugepages, r.hugepages, &row.Hugepages) })
	all.Go(func() { once(ctx, h, "system", h.o.Periods.System, r.system, &row.System) })
	all.Wait()
	return row
}

// reader holds what readings remember from one time to the next. Each of its
// methods is called by one goroutine at a time.
type reader struct {
	h       *Host
	ctx     context.Context // carries the root to gopsutil
	lastCPU map[string]cpuTimes
	model   cpuModel
	probes  []*probe
}

func (h *Host) reader() *reader {
	at := func(dir string) string { return filepath.Join(h.o.Root, dir) }
	r := &reader{h: h, ctx: context.WithValue(context.Background(), common.EnvKey, common.EnvMap{
		common.HostProcEnvKey: at("proc"), common.HostSysEnvKey: at("sys"), common.HostEtcEnvKey: at("etc"),
		common.HostVarEnvKey: at("var"), common.HostRunEnvKey: at("run"), common.HostDevEnvKey: at("dev"), common.HostRootEnvKey: at(""),
	})}
	for _, p := range h.o.Paths {
		r.probes = append(r.probes, &probe{path: p})
	}
	return r
}

func (h *Host) path(elem ...string) string {
	return filepath.Join(append([]string{h.o.Root}, elem...)...)
}

func (h *Host) read(elem ...string) ([]byte, error) { return os.ReadFile(h.path(elem...)) }

// answer is what a call brought: a value, a value and why it is not whole, or only why not.
type answer[T any] struct {
	v   *T
	err error
}

// call runs read in a goroutine of its own, which may outlive its caller: a
// system call that hangs cannot be ended. The channel takes the answer in any case.
func call[T any](ctx context.Context, deadline time.Duration, read func(context.Context) (*T, error)) <-chan answer[T] {
	out := make(chan answer[T], 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				out <- answer[T]{nil, fmt.Errorf("the reading crashed: %v\n%s", v, debug.Stack())}
			}
		}()
		ctx, cancel := context.WithTimeout(ctx, deadline)
		defer cancel()
		v, err := read(ctx)
		out <- answer[T]{v, err}
	}()
	return out
}

// group gives the task of one group of readings.
func group[T any](h *Host, name string, period time.Duration, read func(context.Context) (*T, error), tell func(*engine.Reading[T])) func(context.Context) error {
	return func(ctx context.Context) error {
		last := engine.Reading[T]{PeriodS: period.Seconds()}
		tick := time.NewTicker(period)
		defer tick.Stop()
		begun := time.Now()
		pending := call(ctx, h.o.Deadline, read)
		late := time.NewTimer(h.o.Deadline)
		defer late.Stop()
		for {
			select {
			case <-ctx.Done():
				if pending != nil {
					leave(pending, h.o.Deadline)
				}
				return nil
			case a := <-pending:
				pending = nil
				late.Stop()
				h.log(name, last.Problem, a.err)
				last = take(last, a, h.calls.now())
				told := last
				tell(&told)
			case <-late.C:
				// The call has not come back: say so now, and again at each tick.
				last.Problem = stuck(name, time.Since(begun))
				h.o.Log.Warn("a reading is stuck", "reading", name, "since", begun.UTC().Format(time.RFC3339))
				told := last
				tell(&told)
			case <-tick.C:
				if pending == nil {
					begun = time.Now()
					pending = call(ctx, h.o.Deadline, read)
					late.Reset(h.o.Deadline)
					continue
				}
				if age := time.Since(begun); age > h.o.Deadline {
					last.Problem = stuck(name, age)
					told := last
					tell(&told)
				}
			}
		}
	}
}

// leave waits for a call that is under way, but not for one that hangs.
func leave[T any](pending <-chan answer[T], patience time.Duration) {
	t := time.NewTimer(min(patience, time.Second))
	defer t.Stop()
	select {
	case <-pending:
	case <-t.C:
	}
}

func stuck(name string, age time.Duration) string {
	return fmt.Sprintf("reading %s has not come back for %s", name, age.Round(time.Second))
}

// take makes the next reading of an answer: a failed one keeps the last value and its age.
func take[T any](last engine.Reading[T], a answer[T], now time.Time) engine.Reading[T] {
	next := engine.Reading[T]{Value: last.Value, At: last.At, PeriodS: last.PeriodS}
	if a.v != nil {
		at := now.UTC()
		next.Value, next.At = a.v, &at
	}
	if a.err != nil {
		next.Problem = a.err.Error()
	}
	return next
}

// log says once that a reading fails, and once that it works again.
func (h *Host) log(name, before string, err error) {
	switch {
	case err != nil && err.Error() != before:
		h.o.Log.Warn("a reading failed", "reading", name, "err", err)
	case err == nil && before != "":
		h.o.Log.Info("a reading works again", "reading", name)
	}
}

func once[T any](ctx context.Context, h *Host, name string, period time.Duration, read func(context.Context) (*T, error), into *engine.Reading[T]) {
	*into = engine.Reading[T]{PeriodS: period.Seconds()}
	begun := time.Now()
	select {
	case a := <-call(ctx, h.o.Deadline, read):
		*into = take(*into, a, h.calls.now())
	case <-ctx.Done():
		into.Problem = stuck(name, time.Since(begun))
	}
}
