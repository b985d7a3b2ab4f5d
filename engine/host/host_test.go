package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/engine"
	"app.provost/prover"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tree writes files below a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		write(t, root, name, text)
	}
	return root
}

func write(t *testing.T, root, name, text string) {
	t.Helper()
	p := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// pool writes the files of one hugepage pool.
func pool(files map[string]string, dir string, kib, total, free, reserved, surplus int) {
	d := fmt.Sprintf("%s/hugepages-%dkB/", dir, kib)
	files[d+"nr_hugepages"] = fmt.Sprintln(total)
	files[d+"free_hugepages"] = fmt.Sprintln(free)
	files[d+"surplus_hugepages"] = fmt.Sprintln(surplus)
	if strings.Contains(dir, "kernel") { // the kernel keeps no reservation per node
		files[d+"resv_hugepages"] = fmt.Sprintln(reserved)
	}
}

const (
	kernelPools = "sys/kernel/mm/hugepages"
	node0       = "sys/devices/system/node/node0/hugepages"
	node1       = "sys/devices/system/node/node1/hugepages"
)

// prover2 is a prover machine: two NUMA nodes, 2 MiB and 1 GiB pages, control groups of version 2.
func prover2(t *testing.T) string {
	files := map[string]string{
		"proc/stat":    stat(1000, 9000) + "btime 1760000000\n",
		"proc/loadavg": "1.50 0.75 0.25 3/456 7890\n",
		"proc/meminfo": "MemTotal: 131072000 kB\nMemFree: 1024000 kB\nMemAvailable: 65536000 kB\nSwapTotal: 2048000 kB\nSwapFree: 2000000 kB\n",
		"proc/cpuinfo": "processor : 0\nmodel name : Test CPU\nflags : fpu hypervisor avx2\nphysical id : 0\ncore id : 0\ncpu cores : 1\n\n" +
			"processor : 1\nmodel name : Test CPU\nflags : fpu hypervisor avx2\nphysical id : 0\ncore id : 0\ncpu cores : 1\n\n",
		"proc/self/cgroup":    "0::/system.slice/provost.service\n",
		"proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
		"sys/fs/cgroup/system.slice/provost.service/memory.max": "max\n",
		"sys/fs/cgroup/system.slice/memory.max":                 "8589934592\n",
		"proc/sys/kernel/hostname":                              "rack7\n",
		"proc/1/stat":                                           "",
		"proc/42/stat":                                          "",
		"etc/os-release":                                        "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"sys/kernel/mm/transparent_hugepage/enabled":            "always [madvise] never\n",
		"sys/class/dmi/id/sys_vendor":                           "QEMU\n",
		"sys/devices/system/node/online":                        "0-1\n",
	}
	pool(files, kernelPools, 2048, 1024, 1000, 12, 4)
	pool(files, kernelPools, 1048576, 8, 3, 1, 0)
	pool(files, node0, 2048, 512, 500, 0, 4)
	pool(files, node1, 2048, 512, 500, 0, 0)
	pool(files, node0, 1048576, 8, 3, 0, 0)
	pool(files, node1, 1048576, 0, 0, 0, 0)
	return tree(t, files)
}

// stat is /proc/stat of two processors that each worked and idled so many ticks.
func stat(busy, idle int) string {
	one := fmt.Sprintf("%d 0 %d %d 0 0 0 %d 0 0", busy/2, busy/4, idle, busy-busy/2-busy/4)
	return fmt.Sprintf("cpu %s\ncpu0 %s\ncpu1 %s\n", one, one, one)
}

func host(t *testing.T, o Options) *Host {
	t.Helper()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.calls.adjtimex = func() (bool, time.Duration, error) { return true, 1500 * time.Microsecond, nil }
	h.calls.now = func() time.Time { return time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC) }
	return h
}

func ptr[T any](v T) *T { return &v }

func TestWrittenMachine(t *testing.T) {
	h := host(t, Options{Root: prover2(t), Paths: []Path{{t.TempDir(), "state"}}})
	row := h.ReadOnce(t.Context())
	for name, p := range map[string]string{"cpu": row.CPU.Problem, "memory": row.Memory.Problem, "disks": row.Disks.Problem,
		"clock": row.Clock.Problem, "hugepages": row.Hugepages.Problem, "system": row.System.Problem} {
		if p != "" {
			t.Errorf("%s: %s", name, p)
		}
	}
	if row.Hostname != "rack7" {
		t.Errorf("host name %q", row.Hostname)
	}
	if want := (engine.CPUStat{Model: "Test CPU", LogicalCPUs: 2, Cores: ptr(1), Load1: 1.5, Load5: 0.75, Load15: 0.25}); !cmp.Equal(*row.CPU.Value, want) {
		t.Errorf("cpu: %s", cmp.Diff(want, *row.CPU.Value))
	}
	if want := (engine.MemoryStat{TotalBytes: 131072000 << 10, AvailableBytes: 65536000 << 10, SwapTotalBytes: 2048000 << 10, SwapUsedBytes: 48000 << 10,
		THP: "madvise", LimitBytes: ptr(uint64(8 << 30))}); !cmp.Equal(*row.Memory.Value, want) {
		t.Errorf("memory: %s", cmp.Diff(want, *row.Memory.Value))
	}
	wantPools := []prover.HugePool{
		{PageKiB: 2048, Total: 1024, Free: 1000, Reserved: 12, Surplus: 4, NUMA: []prover.NUMAPool{{Node: 0, Total: 512, Free: 500, Surplus: 4}, {Node: 1, Total: 512, Free: 500}}},
		{PageKiB: 1048576, Total: 8, Free: 3, Reserved: 1, NUMA: []prover.NUMAPool{{Node: 0, Total: 8, Free: 3}, {Node: 1}}},
	}
	if !cmp.Equal(*row.Hugepages.Value, wantPools) {
		t.Errorf("hugepages: %s", cmp.Diff(wantPools, *row.Hugepages.Value))
	}
	if v := row.Clock.Value; v == nil || v.OffsetMS != nil || *v.ErrorMS != 1.5 || !*v.Synced || v.Source != "kernel (adjtimex)" {
		t.Errorf("clock %+v", v)
	}
	if v := row.System.Value; v == nil || v.OS != "Debian GNU/Linux 12 (bookworm)" || !v.BootedAt.Equal(time.Unix(1760000000, 0)) ||
		v.NUMANodes != 2 || *v.Processes != 2 || v.Virtual != "virtual machine (QEMU)" || v.Kernel == "" {
		t.Errorf("system %+v", v)
	}
	if d := *row.Disks.Value; len(d) != 1 || d[0].What != "state" || d[0].TotalBytes == 0 || d[0].FSType == "" {
		t.Errorf("disks %+v", d)
	}
	if want := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC); row.Memory.At == nil || !row.Memory.At.Equal(want) || row.Memory.PeriodS != 5 {
		t.Errorf("memory read at %v, every %v", row.Memory.At, row.Memory.PeriodS)
	}
}

func TestUseOfProcessors(t *testing.T) {
	root := prover2(t)
	h := host(t, Options{Root: root})
	r := h.reader()
	first, err := r.cpuTimes()
	if err != nil {
		t.Fatal(err)
	}
	r.lastCPU = first.byName
	// Each processor worked 100 ticks (25 of them stolen) and idled 300.
	write(t, root, "proc/stat", stat(1100, 9300)+"btime 1760000000\n")
	v, err := r.cpu(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if *v.UsePercent != 25 || *v.StealPercent != 6.25 || !slices.Equal(v.PerCPU, []float64{25, 25}) {
		t.Errorf("use %v steal %v each %v", *v.UsePercent, *v.StealPercent, v.PerCPU)
	}
	// The idle counter stepped back, as it may on a kernel without ticks.
	write(t, root, "proc/stat", stat(1200, 9299))
	if v, err = r.cpu(t.Context()); err != nil || *v.UsePercent != 100 {
		t.Errorf("use %v, %v", v.UsePercent, err)
	}
	// A processor came: there is no number for it yet, so none stands in its place.
	write(t, root, "proc/stat", stat(1300, 9400)+"cpu2 1 0 0 1 0 0 0 0 0 0\n")
	if v, err = r.cpu(t.Context()); err != nil || v.PerCPU != nil || v.UsePercent == nil {
		t.Errorf("%+v, %v", v, err)
	}
	// No tick has passed: not known, not zero.
	if v, err = r.cpu(t.Context()); err != nil || v.PerCPU != nil || v.UsePercent != nil {
		t.Errorf("%+v, %v", v, err)
	}
	write(t, root, "proc/stat", "")
	if _, err = r.cpu(t.Context()); err == nil {
		t.Error("an empty /proc/stat was read")
	}
}

func TestBrokenTrees(t *testing.T) {
	empty := host(t, Options{Root: t.TempDir(), Paths: []Path{{"/nonexistent-directory/below", "state"}}})
	row := empty.ReadOnce(t.Context())
	if row.CPU.Value != nil || row.CPU.Problem == "" || row.CPU.At != nil {
		t.Errorf("cpu %+v", row.CPU)
	}
	if row.Memory.Value != nil || row.Memory.Problem == "" {
		t.Errorf("memory %+v", row.Memory)
	}
	if row.System.Value != nil || row.System.Problem == "" {
		t.Errorf("system %+v", row.System)
	}
	// A kernel without hugepages has none: an answer, and no problem.
	if row.Hugepages.Value == nil || len(*row.Hugepages.Value) != 0 || row.Hugepages.Problem != "" {
		t.Errorf("hugepages %+v", row.Hugepages)
	}
	// A directory that is still to be made lies on the filesystem above it.
	if row.Disks.Value == nil || len(*row.Disks.Value) != 1 || (*row.Disks.Value)[0].Path != "/nonexistent-directory/below" {
		t.Errorf("disks %+v", row.Disks)
	}

	root := prover2(t)
	write(t, root, kernelPools+"/hugepages-2048kB/free_hugepages", "many\n")
	if err := os.Remove(filepath.Join(root, node1, "hugepages-1048576kB/free_hugepages")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, node0, "hugepages-1048576kB")); err != nil {
		t.Fatal(err)
	}
	write(t, root, kernelPools+"/hugepages-bigkB/nr_hugepages", "1\n")
	v, err := host(t, Options{Root: root}).reader().hugepages(t.Context())
	if err == nil || !strings.Contains(err.Error(), "2048 KiB") || !strings.Contains(err.Error(), "NUMA node 1") {
		t.Errorf("problem: %v", err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the problem has several lines: %q", err)
	}
	if v == nil || len(*v) != 1 || (*v)[0].PageKiB != 1048576 || len((*v)[0].NUMA) != 0 {
		t.Errorf("what can be read is %+v", v)
	}
}

func TestMemoryLimit(t *testing.T) {
	const none1 = "9223372036854771712\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  *uint64
	}{
		"no control groups": {map[string]string{}, nil},
		"version 1": {map[string]string{
			"proc/self/cgroup":                               "5:memory:/a/b\n4:cpu:/\n",
			"proc/self/mountinfo":                            "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "1000000\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "2000000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": none1}, ptr(uint64(1000000))},
		"version 1, the outer one is tighter": {map[string]string{
			"proc/self/cgroup":                               "5:cpu,memory:/a/b\n",
			"proc/self/mountinfo":                            "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpu,memory\n",
			"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "3000000\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "2000000\n"}, ptr(uint64(2000000))},
		"version 1, none": {map[string]string{
			"proc/self/cgroup":                             "5:memory:/a\n",
			"proc/self/mountinfo":                          "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": none1}, nil},
		"version 1 in a container that sees only its own group": {map[string]string{
			"proc/self/cgroup":                           "5:memory:/docker/abc\n",
			"proc/self/mountinfo":                        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "4000000\n"}, ptr(uint64(4000000))},
		"version 2": {map[string]string{
			"proc/self/cgroup":                            "0::/user.slice/x.scope\n",
			"proc/self/mountinfo":                         "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n",
			"sys/fs/cgroup/user.slice/x.scope/memory.max": "5000000\n"}, ptr(uint64(5000000))},
		"version 2 in a namespace": {map[string]string{
			"proc/self/cgroup":         "0::/\n",
			"proc/self/mountinfo":      "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
			"sys/fs/cgroup/memory.max": "6000000\n"}, ptr(uint64(6000000))},
		"both, memory in version 1": {map[string]string{
			"proc/self/cgroup":                             "5:memory:/a\n0::/\n",
			"proc/self/mountinfo":                          "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "7000000\n"}, ptr(uint64(7000000))},
	} {
		got, err := host(t, Options{Root: tree(t, c.files)}).memoryLimit()
		if err != nil || !cmp.Equal(got, c.want) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// spawner runs tasks for a test and waits for them.
type spawner struct {
	ctx  context.Context
	wg   sync.WaitGroup
	t    testing.TB
	stop context.CancelFunc
}

func newSpawner(t testing.TB) *spawner {
	s := &spawner{t: t}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

func (s *spawner) Go(name string, fn func(context.Context) error) {
	s.wg.Go(func() {
		if err := fn(s.ctx); err != nil {
			s.t.Errorf("%s: %v", name, err)
		}
	})
}

func (s *spawner) close() { s.stop(); s.wg.Wait() }

// TestStuckFilesystem hangs one filesystem, as a dead NFS server does.
func TestStuckFilesystem(t *testing.T) {
	root := prover2(t)
	synctest.Test(t, func(t *testing.T) {
		h := host(t, Options{Root: root, Paths: []Path{{"/good", "state"}, {"/dead", "runtime"}}, Periods: Periods{Disks: 10 * time.Second}})
		h.calls.now = time.Now
		var mu sync.Mutex
		hang := make(chan struct{})
		asked := map[string]int{}
		h.calls.statfs = func(_ context.Context, p Path) (engine.DiskStat, error) {
			mu.Lock()
			asked[p.Path]++
			wait := hang
			mu.Unlock()
			if p.Path == "/dead" && wait != nil {
				<-wait
			}
			return engine.DiskStat{Path: p.Path, What: p.What, TotalBytes: 1}, nil
		}
		var disks []engine.Reading[[]engine.DiskStat]
		heard := map[string]time.Time{}
		s := newSpawner(t)
		h.Run(s, func(f Facts) {
			mu.Lock()
			defer mu.Unlock()
			if f.Disks != nil {
				disks = append(disks, *f.Disks)
			}
			if f.Memory != nil {
				heard["memory"] = time.Now()
			}
		})
		time.Sleep(61 * time.Second)
		mu.Lock()
		last := disks[len(disks)-1]
		if asked["/dead"] != 1 || asked["/good"] < 6 {
			t.Errorf("asked %v: the dead one must be asked once, the good one at each period", asked)
		}
		if len(*last.Value) != 1 || (*last.Value)[0].Path != "/good" || time.Since(*last.At) > 11*time.Second {
			t.Errorf("the good filesystem is not fresh: %+v", last)
		}
		if !strings.Contains(last.Problem, "/dead") || !strings.Contains(last.Problem, "has not answered for") {
			t.Errorf("problem %q", last.Problem)
		}
		if time.Since(heard["memory"]) > 6*time.Second {
			t.Error("another reading waits for the dead filesystem")
		}
		// The server comes back.
		close(hang)
		hang = nil
		mu.Unlock()
		time.Sleep(20 * time.Second)
		mu.Lock()
		last = disks[len(disks)-1]
		if last.Problem != "" || len(*last.Value) != 2 {
			t.Errorf("after it is back: %+v", last)
		}
		mu.Unlock()
		s.close()
	})
}

func TestStuckReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := host(t, Options{Root: "/nonexistent"})
		h.calls.now = time.Now
		var mu sync.Mutex
		calls := 0
		hang := make(chan struct{})
		var told []engine.Reading[int]
		task := group(h, "test", time.Second, func(context.Context) (*int, error) {
			mu.Lock()
			calls++
			n := calls
			mu.Unlock()
			switch n {
			case 2:
				<-hang
			case 3:
				return nil, errors.New("no luck")
			case 4:
				panic("boom")
			}
			return &n, nil
		}, func(r *engine.Reading[int]) {
			mu.Lock()
			told = append(told, *r)
			mu.Unlock()
		})
		latest := func() (engine.Reading[int], int) {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return told[len(told)-1], calls
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		start := time.Now()
		go func() { done <- task(ctx) }()
		time.Sleep(10*time.Second + time.Millisecond)
		last, n := latest()
		if n != 2 {
			t.Errorf("%d calls: a hanging one must not be joined by others", n)
		}
		if last.Value == nil || !last.At.Equal(start) || last.Problem != "reading test has not come back for 9s" {
			t.Errorf("the value must grow old and say why: %+v", last)
		}
		close(hang)
		if last, _ = latest(); last.Problem != "" || time.Since(*last.At) > time.Second {
			t.Errorf("after it came back: %+v", last)
		}
		time.Sleep(time.Second)
		if last, _ = latest(); last.Problem != "no luck" || last.Value == nil {
			t.Errorf("a failure must keep the value: %+v", last)
		}
		time.Sleep(time.Second)
		if last, _ = latest(); !strings.HasPrefix(last.Problem, "the reading crashed: boom") {
			t.Errorf("a crash must be a problem: %+v", last)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestStopDoesNotWaitForAStuckCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := host(t, Options{Root: "/nonexistent"})
		hang := make(chan struct{})
		task := group(h, "test", time.Second, func(context.Context) (*int, error) { <-hang; return nil, nil }, func(*engine.Reading[int]) {})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- task(ctx) }()
		time.Sleep(time.Minute)
		cancel()
		begun := time.Now()
		<-done
		if d := time.Since(begun); d > time.Second {
			t.Errorf("the stop took %s", d)
		}
		close(hang)
	})
}

func TestClock(t *testing.T) {
	h := host(t, Options{Root: t.TempDir(), NTPServer: "time.test"})
	r := h.reader()
	h.calls.ntp = func(_ context.Context, server string) (time.Duration, time.Duration, error) {
		return 12 * time.Millisecond, 3 * time.Millisecond, nil
	}
	v, err := r.clock(t.Context())
	if err != nil || *v.OffsetMS != -12 || *v.ErrorMS != 3 || !*v.Synced || v.Source != "ntp time.test" {
		t.Errorf("%+v, %v", v, err)
	}
	h.calls.ntp = func(context.Context, string) (time.Duration, time.Duration, error) {
		return 0, 0, errors.New("no answer")
	}
	v, err = r.clock(t.Context())
	if v == nil || v.OffsetMS != nil || v.Source != "kernel (adjtimex)" || err == nil || !strings.Contains(err.Error(), "time.test") {
		t.Errorf("%+v, %v", v, err)
	}
	h.calls.adjtimex = func() (bool, time.Duration, error) { return false, 16 * time.Second, nil }
	h.o.NTPServer = ""
	v, err = r.clock(t.Context())
	if err != nil || *v.Synced || v.ErrorMS != nil || v.OffsetMS != nil {
		t.Errorf("%+v, %v", v, err)
	}
	h.calls.adjtimex = func() (bool, time.Duration, error) { return false, 0, errors.New("not permitted") }
	if v, err = r.clock(t.Context()); v != nil || err == nil {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestAskNTP asks a server of its own that is 250 ms ahead.
func TestAskNTP(t *testing.T) {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 512)
		for {
			n, from, err := c.ReadFromUDP(b)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			// RFC 5905, figure 8.
			out := make([]byte, 48)
			out[0], out[1], out[2], out[3] = 4<<3|4, 1, 6, 0xec
			copy(out[12:], "TEST")
			now := time.Now().Add(250 * time.Millisecond)
			stamp := func(at int, t time.Time) {
				binary.BigEndian.PutUint32(out[at:], uint32(t.Unix()+2208988800))
				binary.BigEndian.PutUint32(out[at+4:], uint32(uint64(t.Nanosecond())<<32/1e9))
			}
			stamp(16, now.Add(-time.Second))
			copy(out[24:32], b[40:48])
			stamp(32, now)
			stamp(40, now)
			c.WriteToUDP(out, from)
		}
	}()
	defer func() { c.Close(); <-done }()
	offset, bound, err := askNTP(t.Context(), c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	if offset < 150*time.Millisecond || offset > 350*time.Millisecond || bound < 0 {
		t.Errorf("offset %s, bound %s", offset, bound)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, _, err := askNTP(ctx, c.LocalAddr().String()); err == nil {
		t.Error("an ended context was not heeded")
	}
}

func TestProcSampler(t *testing.T) {
	line := func(name string, user, system, started, rss int) string {
		return fmt.Sprintf("7 (%s) S 1 7 7 0 -1 4194560 1 2 3 4 %d %d 0 0 20 0 1 0 %d 1000000 %d 18446744073709551615 1 1 0\n", name, user, system, started, rss)
	}
	root := tree(t, map[string]string{"proc/7/stat": line("a) R 1 (b", 100, 50, 5000, 10), "proc/8/stat": "8 broken"})
	s := NewProcSampler(root)
	now := time.Unix(1000, 0)
	s.now = func() time.Time { return now }
	got := s.Sample([]int{7, 8, 9})
	if len(got) != 1 || got[7].CPUPercent != nil || *got[7].RSSBytes != 10*uint64(os.Getpagesize()) {
		t.Fatalf("first sample %+v", got)
	}
	now = now.Add(2 * time.Second)
	write(t, root, "proc/7/stat", line("x", 200, 250, 5000, 20))
	if got = s.Sample([]int{7}); got[7].CPUPercent == nil || *got[7].CPUPercent != 150 {
		t.Errorf("second sample %+v: want 150 %% of one core", got[7])
	}
	// Too soon after the last one: not known, and the next stretch is measured whole.
	now = now.Add(time.Millisecond)
	if got = s.Sample([]int{7}); got[7].CPUPercent != nil {
		t.Errorf("a sample over a millisecond: %v", *got[7].CPUPercent)
	}
	now = now.Add(999 * time.Millisecond)
	write(t, root, "proc/7/stat", line("x", 250, 250, 5000, 20))
	if got = s.Sample([]int{7}); got[7].CPUPercent == nil || *got[7].CPUPercent != 50 {
		t.Errorf("third sample %+v", got[7])
	}
	// Another process has the number now.
	now = now.Add(time.Second)
	write(t, root, "proc/7/stat", line("y", 900, 0, 9000, 20))
	if got = s.Sample([]int{7}); got[7].CPUPercent != nil {
		t.Errorf("a new process got the old one's work: %v", *got[7].CPUPercent)
	}
	if s.Sample(nil); len(s.last) != 0 {
		t.Error("a process that is not asked for is remembered")
	}
}

func TestProcSamplerOnItself(t *testing.T) {
	s := NewProcSampler("")
	pid := os.Getpid()
	if _, ok := s.Sample([]int{pid})[pid]; !ok {
		t.Skip("no /proc here")
	}
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
	}
	got := s.Sample([]int{pid})[pid]
	if got.CPUPercent == nil || *got.CPUPercent <= 0 || got.RSSBytes == nil || *got.RSSBytes < 1<<20 {
		t.Errorf("got %+v", got)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (a) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 0 0 20 0 1 0 100 1000000 10 0"))
	f.Fuzz(func(t *testing.T, b []byte) { parseStat(b) })
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{Paths: []Path{{"relative", "state"}}}); err == nil {
		t.Error("a relative path was taken")
	}
	if _, err := New(Options{Periods: Periods{CPU: -1}}); err == nil {
		t.Error("a negative period was taken")
	}
}

func TestThisMachine(t *testing.T) {
	h, err := New(Options{Paths: []Path{{t.TempDir(), "state"}}})
	if err != nil {
		t.Fatal(err)
	}
	row := h.ReadOnce(t.Context())
	if row.CPU.Problem != "" || row.CPU.Value.LogicalCPUs < 1 || row.CPU.Value.UsePercent == nil {
		t.Errorf("cpu %+v", row.CPU)
	}
	if row.Memory.Problem != "" || row.Memory.Value.TotalBytes < row.Memory.Value.AvailableBytes {
		t.Errorf("memory %+v", row.Memory)
	}
	if row.Disks.Problem != "" || len(*row.Disks.Value) != 1 {
		t.Errorf("disks %+v", row.Disks)
	}
	if row.Hugepages.Problem != "" {
		t.Errorf("hugepages %+v", row.Hugepages)
	}
	if row.System.Problem != "" || row.System.Value.BootedAt.After(time.Now()) {
		t.Errorf("system %+v", row.System)
	}
	if name, _ := os.Hostname(); row.Hostname != name {
		t.Errorf("host name %q, want %q", row.Hostname, name)
	}
	t.Logf("cpu %+v\nmemory %+v\ndisks %+v\nclock %+v (%s)\nhugepages %+v\nsystem %+v", *row.CPU.Value, *row.Memory.Value, *row.Disks.Value, row.Clock.Value, row.Clock.Problem, *row.Hugepages.Value, *row.System.Value)
}

// TestPoolMoves changes the real pool of default-size pages and sees it.
func TestPoolMoves(t *testing.T) {
	const file = "/proc/sys/vm/nr_hugepages"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Skip("no hugepages here: ", err)
	}
	before, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	set := func(n int) error { return os.WriteFile(file, []byte(strconv.Itoa(n)), 0o644) }
	if err := set(before); err != nil {
		t.Skip("the pool cannot be set here (root needed): ", err)
	}
	t.Cleanup(func() {
		if err := set(before); err != nil {
			t.Errorf("put the pool back to %d pages: %v", before, err)
		}
	})
	h, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	size := defaultPage(t)
	read := func() prover.HugePool {
		v, err := h.reader().hugepages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(*v, func(p prover.HugePool) bool { return p.PageKiB == size })
		if i < 0 {
			t.Fatalf("no pool of %d KiB pages in %+v", size, *v)
		}
		return (*v)[i]
	}
	was := read()
	if err := set(before + 3); err != nil {
		t.Fatal(err)
	}
	now := read()
	if now.Total == was.Total {
		t.Skip("the kernel found no contiguous memory for more pages")
	}
	sum := uint64(0)
	for _, n := range now.NUMA {
		sum += n.Total
	}
	if now.Total != was.Total+3 || now.Free != was.Free+3 || len(now.NUMA) > 0 && sum != now.Total {
		t.Errorf("the pool was %+v and is %+v", was, now)
	}
	if err := set(before); err != nil {
		t.Fatal(err)
	}
	if back := read(); back.Total != was.Total {
		t.Errorf("the pool is %+v after it was put back to %+v", back, was)
	}
}

func defaultPage(t *testing.T) uint64 {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Hugepagesize:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Skip("the kernel names no default page size")
	return 0
}

// BenchmarkSample looks at as many processes as a large machine has workers.
func BenchmarkSample(b *testing.B) {
	var pids []int
	var kids []*exec.Cmd
	for range 64 {
		c := exec.Command("sleep", "60")
		if err := c.Start(); err != nil {
			b.Skip("no sleep here: ", err)
		}
		kids = append(kids, c)
		pids = append(pids, c.Process.Pid)
	}
	defer func() {
		for _, c := range kids {
			c.Process.Kill()
			c.Wait()
		}
	}()
	s := NewProcSampler("")
	for b.Loop() {
		s.Sample(pids)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(pids)), "ns/process")
}
