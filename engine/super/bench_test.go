package super

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"app.provost/engine"
)

// BenchmarkStart is from the wish to the running child, stub and saved handle
// included; handles are files here, without sync.
func BenchmarkStart(b *testing.B) {
	r := newRig(b, b.TempDir())
	spec := childSpec(r.dir, idOf(b, "a"), "run")
	spec.Argv = []string{"/bin/sleep", "600"}
	var rssAnon uint64
	for b.Loop() {
		st := r.start(spec)
		b.StopTimer()
		rssAnon = anonKiB(b, st.StubPID)
		if err := r.Stop(b.Context(), spec.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(rssAnon), "stub-RssAnon-KiB")
}

// BenchmarkIdle64 is one second of supervising 64 processes that do nothing: CPU of
// this process and of all stubs.
func BenchmarkIdle64(b *testing.B) {
	const n = 64
	r := newRig(b, b.TempDir())
	var stubs []int
	for i := range n {
		spec := childSpec(r.dir, fmt.Sprintf("p%d-%d", i, os.Getpid()), "run")
		spec.Argv = []string{"/bin/sleep", "600"}
		if err := r.Start(b.Context(), spec); err != nil {
			b.Fatal(err)
		}
	}
	var anon uint64
	for _, st := range r.List() {
		st = r.await(st.ID, "runs", func(s Status) bool { return s.State == StateRunning })
		stubs = append(stubs, st.StubPID)
		anon += anonKiB(b, st.StubPID)
	}
	own, all := ownCPU(b), ticks(b, stubs)
	start := time.Now()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	took := time.Since(start).Seconds()
	b.ReportMetric((ownCPU(b)-own).Seconds()/took*100, "engine-cpu-%")
	b.ReportMetric((ticks(b, stubs)-all)/took*100, "stubs-cpu-%")
	b.ReportMetric(float64(anon)/n, "stub-RssAnon-KiB")
	b.StopTimer()
	for _, st := range r.List() {
		if err := r.Run(b.Context(), st.ID, engine.WishHeld); err != nil {
			b.Fatal(err)
		}
	}
	if err := r.StopAll(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func ownCPU(b *testing.B) time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// ticks is the CPU time of processes in seconds, by the kernel's nanosecond count.
func ticks(b *testing.B, pids []int) float64 {
	var sum float64
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			b.Fatal(err)
		}
		for _, t := range tasks {
			s, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, t.Name()))
			if err != nil {
				b.Skipf("no schedstat here: %v", err)
			}
			ns, err := strconv.ParseFloat(string(bytes.Fields(s)[0]), 64)
			if err != nil {
				b.Fatal(err)
			}
			sum += ns / 1e9
		}
	}
	return sum
}

func anonKiB(b *testing.B, pid int) uint64 {
	f, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range bytes.Lines(f) {
		if v, ok := bytes.CutPrefix(line, []byte("RssAnon:")); ok {
			n, err := strconv.ParseUint(string(bytes.Fields(v)[0]), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	return 0
}
