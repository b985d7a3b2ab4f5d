//go:build linux && cgo

package gpu

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"app.provost/prover"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/google/go-cmp/cmp"
)

// machine is a mocked driver with devices that can be broken.
type machine struct {
	*dgxa100.Server
	devices []*dgxa100.Device
	count   int
	events  []nvml.EventData
	inits   int
	symbols map[string]bool // those that the library lacks
}

// newMachine gives a machine with n devices that answer everything.
func newMachine(n int) *machine {
	m := &machine{Server: dgxa100.New(), count: n, symbols: map[string]bool{}}
	m.InitFunc = func() nvml.Return { m.inits++; return nvml.SUCCESS }
	m.DeviceGetCountFunc = func() (int, nvml.Return) { return m.count, nvml.SUCCESS }
	m.LookupSymbolFunc = func(s string) error {
		if m.symbols[s] {
			return errors.New("undefined symbol")
		}
		return nil
	}
	m.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		return &mock.EventSet{
			WaitFunc: func(uint32) (nvml.EventData, nvml.Return) {
				if len(m.events) == 0 {
					return nvml.EventData{}, nvml.ERROR_TIMEOUT
				}
				e := m.events[0]
				m.events = m.events[1:]
				return e, nvml.SUCCESS
			},
			FreeFunc: func() nvml.Return { return nvml.SUCCESS },
		}, nvml.SUCCESS
	}
	for i := range n {
		d := m.Devices[i].(*dgxa100.Device)
		d.UUID = fmt.Sprintf("GPU-%04d", i)
		d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
			return nvml.Utilization{Gpu: uint32(90 + i), Memory: 50}, nvml.SUCCESS
		}
		d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) {
			return nvml.Memory_v2{Total: 40 << 30, Used: 3 << 30, Reserved: 1 << 30}, nvml.SUCCESS
		}
		d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 61, nvml.SUCCESS }
		d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 312500, nvml.SUCCESS }
		d.GetEnforcedPowerLimitFunc = func() (uint32, nvml.Return) { return 400000, nvml.SUCCESS }
		d.GetClockInfoFunc = func(nvml.ClockType) (uint32, nvml.Return) { return 1410, nvml.SUCCESS }
		d.GetFanSpeedFunc = func() (uint32, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
		d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 0, nvml.SUCCESS }
		d.GetCurrentClocksEventReasonsFunc = func() (uint64, nvml.Return) { return 0x4 | 0x40, nvml.SUCCESS }
		d.GetCurrentClocksThrottleReasonsFunc = func() (uint64, nvml.Return) { return 0x20, nvml.SUCCESS }
		d.GetCurrPcieLinkGenerationFunc = func() (int, nvml.Return) { return 4, nvml.SUCCESS }
		d.GetCurrPcieLinkWidthFunc = func() (int, nvml.Return) { return 16, nvml.SUCCESS }
		d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: 20}, {Pid: 10}}, nvml.SUCCESS
		}
		d.GetGraphicsRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: 10}}, nvml.SUCCESS
		}
		d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) {
			var p nvml.PciInfo
			copy(p.BusId[:], fmt.Sprintf("00000000:%02X:00.0", 0xa0+i))
			return p, nvml.SUCCESS
		}
		d.GetDisplayActiveFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_DISABLED, nvml.SUCCESS }
		d.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return nvml.EventTypeXidCriticalError, nvml.SUCCESS }
		d.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS }
		m.devices = append(m.devices, d)
	}
	return m
}

// answer makes a device answer with ret from its first reading on.
func (m *machine) answer(i int, ret nvml.Return) {
	d := m.devices[i]
	d.GetUUIDFunc = func() (string, nvml.Return) { return d.UUID, nvml.SUCCESS }
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, ret }
}

var clock = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func quiet(string) {}

func ptr[T any](v T) *T { return &v }

func TestSeveralGPUs(t *testing.T) {
	sys := t.TempDir()
	for dir, node := range map[string]string{"0000:a0:00.0": "0", "0000:a1:00.0": "1", "0000:a2:00.0": "-1"} {
		p := filepath.Join(sys, "bus/pci/devices", dir)
		if err := errors.Join(os.MkdirAll(p, 0o755), os.WriteFile(filepath.Join(p, "numa_node"), []byte(node+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(4)
	m.devices[0].GetDisplayActiveFunc = func() (nvml.EnableState, nvml.Return) { return nvml.FEATURE_ENABLED, nvml.SUCCESS }
	l := newLibrary(m, sys)
	r := l.look(clock, quiet)
	if r.Driver != "550.54.15" || r.CUDA != "12.4" || r.Why != "" || !r.At.Equal(clock) || len(r.GPUs) != 4 {
		t.Fatalf("got %+v", r)
	}
	want := prover.GPU{
		Index: 1, UUID: "GPU-0001", Model: "Mock NVIDIA A100-SXM4-40GB", UtilPercent: ptr(91.0), MemUsed: ptr(prover.MiB(3072)), MemTotal: ptr(prover.MiB(40960)),
		TempC: ptr(61.0), PowerW: ptr(312.5), PowerLimitW: ptr(400.0), ClockMHz: ptr(1410.0), ECCErrors: ptr(uint64(0)), XID: ptr(uint64(0)),
		Throttle: []string{ThrottleHardThermal, ThrottlePowerCap}, PCIEGen: ptr(4), PCIEWidth: ptr(16), NUMA: ptr(1), MIG: ptr(false), Compute: ptr("8.0"), Display: ptr(false), PIDs: []int{10, 20},
	}
	if d := cmp.Diff(want, r.GPUs[1]); d != "" {
		t.Error(d)
	}
	if r.GPUs[2].NUMA != nil || r.GPUs[3].NUMA != nil || !Hot(r.GPUs[0]) || !*r.GPUs[0].Display {
		t.Errorf("got %+v", r.GPUs)
	}
	// A second look does not open or register again.
	l.look(clock.Add(time.Second), quiet)
	if n := len(m.devices[0].RegisterEventsCalls()); n != 1 || m.inits != 1 {
		t.Errorf("opened %d times, registered %d times", m.inits, n)
	}
}

func TestUnsupportedIsNil(t *testing.T) {
	m := newMachine(1)
	d := m.devices[0]
	const no = nvml.ERROR_NOT_SUPPORTED
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, no }
	d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) { return nvml.Memory_v2{}, no }
	d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, no }
	d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 0, no }
	d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 0, no }
	d.GetEnforcedPowerLimitFunc = func() (uint32, nvml.Return) { return 0, no }
	d.GetClockInfoFunc = func(nvml.ClockType) (uint32, nvml.Return) { return 0, no }
	d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 0, no }
	d.GetCurrentClocksEventReasonsFunc = func() (uint64, nvml.Return) { return 0, no }
	d.GetCurrentClocksThrottleReasonsFunc = func() (uint64, nvml.Return) { return 0, no }
	d.GetCurrPcieLinkGenerationFunc = func() (int, nvml.Return) { return 0, no }
	d.GetCurrPcieLinkWidthFunc = func() (int, nvml.Return) { return 0, no }
	d.GetMigModeFunc = func() (int, int, nvml.Return) { return 0, 0, no }
	d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) { return nvml.PciInfo{}, no }
	d.GetCudaComputeCapabilityFunc = func() (int, int, nvml.Return) { return 0, 0, no }
	d.GetDisplayActiveFunc = func() (nvml.EnableState, nvml.Return) { return 0, no }
	d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, no }
	d.GetGraphicsRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) { return nil, no }
	d.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return 0, no }
	got := newLibrary(m, t.TempDir()).look(clock, quiet).GPUs
	if d := cmp.Diff([]prover.GPU{{UUID: "GPU-0000", Model: "Mock NVIDIA A100-SXM4-40GB"}}, got); d != "" {
		t.Error(d)
	}
}

// TestOldLibrary has none of the newer calls: calling one would end the process.
func TestOldLibrary(t *testing.T) {
	m := newMachine(1)
	for _, s := range []string{"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetMigMode", "nvmlSystemGetCudaDriverVersion"} {
		m.symbols[s] = true
	}
	d := m.devices[0]
	d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 8 << 30, Used: 1 << 30}, nvml.SUCCESS }
	r := newLibrary(m, t.TempDir()).look(clock, quiet)
	g := r.GPUs[0]
	if r.CUDA != "" || *g.MemTotal != 8192 || g.MIG != nil || !slices.Equal(g.Throttle, []string{ThrottleSoftThermal}) {
		t.Errorf("got %+v", r)
	}
	if n := len(d.GetMemoryInfo_v2Calls()) + len(d.GetMigModeCalls()) + len(d.GetCurrentClocksEventReasonsCalls()) + len(m.SystemGetCudaDriverVersionCalls()); n != 0 {
		t.Errorf("%d calls into symbols that are not there", n)
	}
}

func TestNoDriver(t *testing.T) {
	sys := t.TempDir()
	m := newMachine(0)
	var ret nvml.Return
	m.InitFunc = func() nvml.Return { m.inits++; return ret }
	seen := map[string]nvml.Return{}
	for r, words := range map[nvml.Return]string{
		nvml.ERROR_LIBRARY_NOT_FOUND:       "is not installed",
		nvml.ERROR_DRIVER_NOT_LOADED:       "not loaded",
		nvml.ERROR_NO_PERMISSION:           "no permission",
		nvml.ERROR_LIB_RM_VERSION_MISMATCH: "different versions",
		nvml.ERROR_IRQ_ISSUE:               "interrupt",
		nvml.ERROR_GPU_NOT_FOUND:           "no device",
		nvml.ERROR_OPERATING_SYSTEM:        "container",
		nvml.ERROR_UNKNOWN:                 "unknown error",
		nvml.Return(777):                   "777",
	} {
		ret = r
		got := newLibrary(m, sys).look(clock, quiet)
		if got.Driver != "" || got.GPUs == nil || !strings.Contains(got.Why, words) {
			t.Errorf("%d: %+v", r, got)
		}
		if o, ok := seen[got.Why]; ok {
			t.Errorf("%d and %d say the same: %s", r, o, got.Why)
		}
		seen[got.Why] = r
	}
	// Hardware without a driver is worth a hint.
	for i, class := range []string{"0x030200", "0x040300"} {
		p := filepath.Join(sys, "bus/pci/devices", strconv.Itoa(i))
		if err := errors.Join(os.MkdirAll(p, 0o755), os.WriteFile(filepath.Join(p, "vendor"), []byte("0x10de\n"), 0o644), os.WriteFile(filepath.Join(p, "class"), []byte(class+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	ret = nvml.ERROR_LIBRARY_NOT_FOUND
	l := newLibrary(m, sys)
	if got := l.look(clock, quiet); !strings.Contains(got.Why, "1 NVIDIA devices are there") {
		t.Error(got.Why)
	}
	// It is tried again, but not at every look; then it is there.
	m.inits = 0
	l.look(clock.Add(2*time.Second), quiet)
	if m.inits != 0 {
		t.Error("tried again at once")
	}
	ret = nvml.SUCCESS
	if got := l.look(clock.Add(retryAfter), quiet); got.Driver == "" || got.Why != "" {
		t.Errorf("after the driver came: %+v", got)
	}
}

func TestLostDevice(t *testing.T) {
	for name, c := range map[string]struct {
		ret   nvml.Return
		words string
	}{
		"fell off":    {nvml.ERROR_GPU_IS_LOST, "fell off the bus"},
		"needs reset": {nvml.ERROR_RESET_REQUIRED, "needs a reset"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(3)
			l := newLibrary(m, t.TempDir())
			before := l.look(clock, quiet)
			m.answer(1, c.ret)
			r := l.look(clock.Add(2*time.Second), quiet)
			g := r.GPUs[1]
			if len(r.GPUs) != 3 || g.UUID != "GPU-0001" || g.Model != before.GPUs[1].Model || !strings.Contains(g.Lost, c.words) || !strings.Contains(g.Lost, "2026-01-31T12:00:00Z") {
				t.Errorf("got %+v", g)
			}
			if g.UtilPercent != nil || g.TempC != nil || g.PIDs != nil {
				t.Errorf("a lost device shows old values: %+v", g)
			}
			if r.GPUs[0].Lost != "" || r.GPUs[2].Lost != "" || r.GPUs[2].UtilPercent == nil {
				t.Error("others suffer")
			}
		})
	}
}

func TestDeviceVanishes(t *testing.T) {
	m := newMachine(3)
	l := newLibrary(m, t.TempDir())
	l.look(clock, quiet)
	// The driver renumbers: device 2 is now at index 1.
	m.count = 2
	m.Devices[1] = m.devices[2]
	r := l.look(clock.Add(time.Second), quiet)
	lost := slices.IndexFunc(r.GPUs, func(g prover.GPU) bool { return g.UUID == "GPU-0001" })
	moved := slices.IndexFunc(r.GPUs, func(g prover.GPU) bool { return g.UUID == "GPU-0002" })
	if len(r.GPUs) != 3 || r.GPUs[lost].Lost == "" || r.GPUs[moved].Lost != "" || r.GPUs[moved].Index != 1 {
		t.Errorf("got %+v", r.GPUs)
	}
	// It comes back.
	m.count = 3
	m.Devices[1], m.Devices[2] = m.devices[1], m.devices[2]
	if r = l.look(clock.Add(2*time.Second), quiet); len(r.GPUs) != 3 || r.GPUs[1].Lost != "" {
		t.Errorf("got %+v", r.GPUs)
	}
	// No handle at all for index 0, where GPU-0000 was.
	m.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 0 {
			return nil, nvml.ERROR_UNKNOWN
		}
		return m.Devices[i], nvml.SUCCESS
	}
	if r = l.look(clock.Add(3*time.Second), quiet); len(r.GPUs) != 3 || r.GPUs[0].UUID != "GPU-0000" || r.GPUs[0].Lost == "" {
		t.Errorf("got %+v", r.GPUs)
	}
	// A device that never answered has no name; one that is another's is not shown.
	m.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		return nil, []nvml.Return{nvml.ERROR_GPU_IS_LOST, nvml.ERROR_NO_PERMISSION, nvml.ERROR_NO_PERMISSION}[i]
	}
	if r = newLibrary(m, t.TempDir()).look(clock, quiet); len(r.GPUs) != 1 || r.GPUs[0].UUID != "index-0" || r.GPUs[0].Lost == "" {
		t.Errorf("got %+v", r.GPUs)
	}
}

func TestNoRowTwice(t *testing.T) {
	m := newMachine(2)
	l := newLibrary(m, t.TempDir())
	l.look(clock, quiet)
	// GPU-0001 moves to index 0, and index 1 answers nothing.
	m.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 1 {
			return nil, nvml.ERROR_UNKNOWN
		}
		return m.devices[1], nvml.SUCCESS
	}
	r := l.look(clock.Add(time.Second), quiet)
	seen := map[string]int{}
	for _, g := range r.GPUs {
		seen[g.UUID]++
	}
	if len(r.GPUs) != 3 || seen["GPU-0000"] != 1 || seen["GPU-0001"] != 1 || seen["index-1"] != 1 {
		t.Errorf("got %+v", seen)
	}
}

func TestXID(t *testing.T) {
	m := newMachine(2)
	l := newLibrary(m, t.TempDir())
	l.look(clock, quiet)
	m.events = []nvml.EventData{
		{Device: m.devices[1], EventType: nvml.EventTypeXidCriticalError, EventData: 31},
		{Device: m.devices[1], EventType: nvml.EventTypeXidCriticalError, EventData: 79},
		{Device: m.devices[0], EventType: 1, EventData: 5},
	}
	r := l.look(clock.Add(time.Second), quiet)
	if *r.GPUs[0].XID != 0 || *r.GPUs[1].XID != 79 {
		t.Errorf("xid %d and %d", *r.GPUs[0].XID, *r.GPUs[1].XID)
	}
	// The last one stays, also when the device is lost after it.
	m.answer(1, nvml.ERROR_GPU_IS_LOST)
	r = l.look(clock.Add(2*time.Second), quiet)
	if r.GPUs[1].Lost == "" || *r.GPUs[1].XID != 79 {
		t.Errorf("got %+v", r.GPUs[1])
	}
}

func TestDriverUnloaded(t *testing.T) {
	for name, breakIt := range map[string]func(*machine){
		"at the count": func(m *machine) {
			m.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_UNINITIALIZED }
		},
		"at the handle": func(m *machine) {
			m.DeviceGetHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_UNINITIALIZED }
		},
		"at a device": func(m *machine) { m.answer(0, nvml.ERROR_DRIVER_NOT_LOADED) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(2)
			l := newLibrary(m, t.TempDir())
			l.look(clock, quiet)
			count, handle, util := m.DeviceGetCountFunc, m.DeviceGetHandleByIndexFunc, m.devices[0].GetUtilizationRatesFunc
			breakIt(m)
			r := l.look(clock.Add(20*time.Second), quiet)
			if r.Driver != "" || r.Why == "" || len(r.GPUs) != 2 || r.GPUs[0].Lost == "" || r.GPUs[1].Lost == "" {
				t.Fatalf("got %+v", r)
			}
			if len(m.ShutdownCalls()) != 1 {
				t.Error("the library was not given back")
			}
			m.DeviceGetCountFunc, m.DeviceGetHandleByIndexFunc, m.devices[0].GetUtilizationRatesFunc = count, handle, util
			r = l.look(clock.Add(40*time.Second), quiet)
			if r.Driver == "" || len(r.GPUs) != 2 || r.GPUs[0].Lost != "" || *r.GPUs[0].XID != 0 {
				t.Errorf("after it came back: %+v", r)
			}
			if n := len(m.devices[1].RegisterEventsCalls()); n != 2 {
				t.Errorf("registered %d times over two openings", n)
			}
		})
	}
}

func TestMIG(t *testing.T) {
	m := newMachine(1)
	m.devices[0].MigMode = nvml.DEVICE_MIG_ENABLE
	if g := newLibrary(m, t.TempDir()).look(clock, quiet).GPUs[0]; !*g.MIG {
		t.Error("MIG is not seen")
	}
}

// TestReal reads the devices of this machine, if it has any, and holds them
// against nvidia-smi. With -wantgpu it fails instead of skipping.
var wantGPU = flag.Bool("wantgpu", false, "fail when there is no NVIDIA driver")

func TestReal(t *testing.T) {
	r := New(Options{Deadline: 30 * time.Second}).ReadOnce(t.Context())
	if r.Driver == "" {
		if r.Why == "" {
			t.Error("no driver, and no word why")
		}
		if *wantGPU {
			t.Fatal(r.Why)
		}
		t.Skip(r.Why)
	}
	t.Logf("driver %s, CUDA %s, %d devices, took %s", r.Driver, r.CUDA, len(r.GPUs), r.Took)
	for _, g := range r.GPUs {
		t.Logf("%+v", show(g))
		if !strings.HasPrefix(g.UUID, "GPU-") || g.Model == "" || g.Lost != "" {
			t.Errorf("device %d: %+v", g.Index, g)
		}
		if g.MemTotal != nil && g.MemUsed != nil && *g.MemUsed > *g.MemTotal {
			t.Errorf("%d of %d MiB used", *g.MemUsed, *g.MemTotal)
		}
		if g.TempC != nil && (*g.TempC < 1 || *g.TempC > 120) || g.PowerW != nil && (*g.PowerW < 1 || *g.PowerW > 2000) {
			t.Errorf("temperature %v, power %v", *g.TempC, *g.PowerW)
		}
	}
	out, err := exec.Command("nvidia-smi", "--query-gpu=uuid,name,memory.total,power.limit,pcie.link.width.current,driver_version", "--format=csv,noheader,nounits").Output()
	if err != nil {
		t.Logf("no nvidia-smi to compare with: %v", err)
		return
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(r.GPUs) {
		t.Fatalf("nvidia-smi lists %d devices, we %d", len(lines), len(r.GPUs))
	}
	for i, line := range lines {
		f := strings.Split(line, ", ")
		g := r.GPUs[i]
		if len(f) != 6 || f[0] != g.UUID || f[1] != g.Model || f[5] != r.Driver {
			t.Errorf("nvidia-smi says %q, we %s", line, show(g))
		}
		if n, err := strconv.ParseUint(f[2], 10, 64); err == nil && (g.MemTotal == nil || uint64(*g.MemTotal) != n) {
			t.Errorf("nvidia-smi says %d MiB, we %s", n, show(g))
		}
		if w, err := strconv.ParseFloat(f[3], 64); err == nil && (g.PowerLimitW == nil || *g.PowerLimitW-w > 1 || w-*g.PowerLimitW > 1) {
			t.Errorf("nvidia-smi says %f W, we %s", w, show(g))
		}
	}
}

func show(g prover.GPU) string {
	v := func(p *float64) string {
		if p == nil {
			return "-"
		}
		return strconv.FormatFloat(*p, 'f', -1, 64)
	}
	any := func(p any) string { return strings.TrimPrefix(fmt.Sprintf("%v", deref(p)), "<nil>") }
	return fmt.Sprintf("%d %s %s util=%s%% mem=%s/%s MiB temp=%sC power=%s/%s W clock=%s MHz fan=%s%% ecc=%s xid=%s throttle=%q pcie=gen%s x%s numa=%s mig=%s pids=%v",
		g.Index, g.UUID, g.Model, v(g.UtilPercent), any(g.MemUsed), any(g.MemTotal), v(g.TempC), v(g.PowerW), v(g.PowerLimitW), v(g.ClockMHz), v(g.FanPercent),
		any(g.ECCErrors), any(g.XID), g.Throttle, any(g.PCIEGen), any(g.PCIEWidth), any(g.NUMA), any(g.MIG), g.PIDs)
}

func deref(p any) any {
	switch v := p.(type) {
	case *prover.MiB:
		if v != nil {
			return *v
		}
	case *uint64:
		if v != nil {
			return *v
		}
	case *int:
		if v != nil {
			return *v
		}
	case *bool:
		if v != nil {
			return *v
		}
	}
	return "-"
}

// BenchmarkLook is one look at the real devices of this machine.
func BenchmarkLook(b *testing.B) {
	l := newLibrary(nvml.New(), "/sys")
	if r := l.look(time.Now(), quiet); r.Driver == "" {
		b.Skip(r.Why)
	}
	defer l.close()
	for b.Loop() {
		l.look(time.Now(), quiet)
	}
}
