//go:build linux && cgo

package gpu

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"app.provost/prover"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// retryAfter is how often an absent driver is looked for.
const retryAfter = 10 * time.Second

// library is the driver through NVML. One goroutine at a time uses it.
type library struct {
	nv  nvml.Interface
	sys string // "/sys", or a written tree

	open    bool
	tried   time.Time // when it was last tried to open
	why     string    // why it is not open
	version string
	cuda    string
	symbols map[string]bool

	known  map[string]*known // by UUID
	events nvml.EventSet     // nil: not supported, or not open
}

// known is what stays of a device from one look to the next.
type known struct {
	last  prover.GPU // the last row with an answer
	heard time.Time
	xid   *uint64 // nil: its errors are not told
}

func newDriver() driver { return newLibrary(nvml.New(), "/sys") }

func newLibrary(nv nvml.Interface, sys string) *library {
	return &library{nv: nv, sys: sys, known: map[string]*known{}}
}

func (l *library) look(now time.Time, note func(string)) prover.GPUReading {
	out := prover.GPUReading{At: now, GPUs: []prover.GPU{}}
	if !l.open {
		if l.tried.IsZero() || now.Sub(l.tried) >= retryAfter || now.Before(l.tried) {
			l.tried = now
			l.start(note)
		}
		if !l.open {
			out.Why = l.why
			out.GPUs = l.gone(nil, now, "the driver is gone: "+l.why)
			return out
		}
	}
	s := &scan{l: l, note: note, now: now}
	note("nvmlDeviceGetCount")
	n, ret := l.nv.DeviceGetCount()
	if ret != nvml.SUCCESS {
		l.stop(note, fmt.Sprintf("the driver does not list its devices: %s", words(ret)))
		out.Why = l.why
		out.GPUs = l.gone(nil, now, "the driver is gone: "+l.why)
		return out
	}
	l.drain(s)
	var rows []prover.GPU
	for i := range n {
		if g, ok := s.device(i); ok {
			rows = append(rows, g)
		}
		if s.closed {
			l.stop(note, "the driver was unloaded")
			out.Why = l.why
			out.GPUs = l.gone(nil, now, "the driver is gone: "+l.why)
			return out
		}
	}
	// A device that moved to another index must not also be taken for the one
	// that does not answer at its old index.
	for i, g := range rows {
		if g.Lost != "" && slices.ContainsFunc(rows, func(o prover.GPU) bool { return o.UUID == g.UUID && o.Lost == "" }) {
			rows[i] = prover.GPU{Index: g.Index, UUID: fmt.Sprintf("index-%d", g.Index), Model: "unknown", Lost: g.Lost}
		}
	}
	out.Driver, out.CUDA = l.version, l.cuda
	out.GPUs = l.gone(rows, now, "the driver does not list it any more; the machine may have to be restarted")
	return out
}

// start opens the library and asks for what does not change while it is open.
func (l *library) start(note func(string)) {
	note("nvmlInit")
	if ret := l.nv.Init(); ret != nvml.SUCCESS {
		l.why = l.absence(ret)
		return
	}
	l.open, l.why = true, ""
	l.symbols = map[string]bool{}
	l.version, l.cuda = "unknown", ""
	note("nvmlSystemGetDriverVersion")
	if v, ret := l.nv.SystemGetDriverVersion(); ret == nvml.SUCCESS && v != "" {
		l.version = v
	}
	if l.has("nvmlSystemGetCudaDriverVersion") {
		note("nvmlSystemGetCudaDriverVersion")
		if v, ret := l.nv.SystemGetCudaDriverVersion(); ret == nvml.SUCCESS && v > 0 {
			l.cuda = fmt.Sprintf("%d.%d", v/1000, v%1000/10)
		}
	}
	note("nvmlEventSetCreate")
	if set, ret := l.nv.EventSetCreate(); ret == nvml.SUCCESS {
		l.events = set
	}
	for _, k := range l.known {
		k.xid = nil // to be registered with the new set
	}
}

// stop gives a library back that has become useless; it is opened again later.
func (l *library) stop(note func(string), why string) {
	l.why = why
	if l.events != nil {
		note("nvmlEventSetFree")
		l.events.Free()
		l.events = nil
	}
	note("nvmlShutdown")
	l.nv.Shutdown()
	l.open = false
}

func (l *library) close() {
	if l.open {
		l.stop(func(string) {}, "closed")
		l.tried = time.Time{}
	}
}

// has tells whether the installed library knows a call. Calling one that it does
// not know would end the process: its symbols are bound late.
func (l *library) has(symbol string) bool {
	ok, seen := l.symbols[symbol]
	if !seen {
		ok = l.nv.Extensions().LookupSymbol(symbol) == nil
		l.symbols[symbol] = ok
	}
	return ok
}

// absence says in words why there is no usable driver, and what helps.
func (l *library) absence(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		if n := l.hardware(); n > 0 {
			return fmt.Sprintf("no NVIDIA driver: %d NVIDIA devices are there, the library libnvidia-ml.so.1 is not; install the driver", n)
		}
		return "no NVIDIA driver: the library libnvidia-ml.so.1 is not installed"
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "the NVIDIA driver is installed and not loaded; load it with modprobe nvidia"
	case nvml.ERROR_NO_PERMISSION:
		return "no permission to use the NVIDIA driver; see the modes of /dev/nvidia*"
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return "the NVIDIA library and the loaded kernel module are of different versions; restart the machine or reload the modules"
	case nvml.ERROR_IRQ_ISSUE:
		return "the NVIDIA driver finds an interrupt problem with a device"
	case nvml.ERROR_GPU_NOT_FOUND:
		return "the NVIDIA driver finds no device"
	case nvml.ERROR_OPERATING_SYSTEM:
		return "the operating system refused the NVIDIA library; in a container, give it the devices"
	}
	return "the NVIDIA driver cannot be used: " + words(ret)
}

// words names a return code without asking the library, which may be closed.
func words(ret nvml.Return) string {
	names := map[nvml.Return]string{
		nvml.ERROR_UNINITIALIZED: "not initialized", nvml.ERROR_NOT_SUPPORTED: "not supported", nvml.ERROR_NO_PERMISSION: "no permission",
		nvml.ERROR_INSUFFICIENT_POWER: "power cables are not attached properly", nvml.ERROR_DRIVER_NOT_LOADED: "driver not loaded",
		nvml.ERROR_TIMEOUT: "timed out", nvml.ERROR_IRQ_ISSUE: "interrupt problem", nvml.ERROR_CORRUPTED_INFOROM: "its information ROM is corrupted",
		nvml.ERROR_GPU_IS_LOST: "fallen off the bus", nvml.ERROR_RESET_REQUIRED: "needs a reset", nvml.ERROR_MEMORY: "out of memory",
		nvml.ERROR_INSUFFICIENT_RESOURCES: "insufficient resources", nvml.ERROR_GPU_NOT_FOUND: "no device found", nvml.ERROR_UNKNOWN: "unknown error of the driver",
	}
	if s, ok := names[ret]; ok {
		return fmt.Sprintf("%s (NVML %d)", s, int(ret))
	}
	return fmt.Sprintf("NVML error %d", int(ret))
}

// hardware counts NVIDIA display controllers on the PCI bus (vendor 10de, class 03).
func (l *library) hardware() int {
	devices, err := filepath.Glob(filepath.Join(l.sys, "bus/pci/devices/*"))
	if err != nil {
		return 0
	}
	n := 0
	for _, d := range devices {
		vendor, _ := os.ReadFile(filepath.Join(d, "vendor"))
		class, _ := os.ReadFile(filepath.Join(d, "class"))
		if strings.TrimSpace(string(vendor)) == "0x10de" && strings.HasPrefix(string(class), "0x03") {
			n++
		}
	}
	return n
}

// gone adds the rows of known devices that rows lacks, marked as lost, and puts
// all in the order of their index.
func (l *library) gone(rows []prover.GPU, now time.Time, why string) []prover.GPU {
	seen := map[string]bool{}
	for _, g := range rows {
		seen[g.UUID] = true
	}
	for uuid, k := range l.known {
		if !seen[uuid] {
			rows = append(rows, k.lost(why))
		}
	}
	slices.SortFunc(rows, func(a, b prover.GPU) int {
		if a.Index != b.Index {
			return a.Index - b.Index
		}
		return strings.Compare(a.UUID, b.UUID)
	})
	if rows == nil {
		rows = []prover.GPU{}
	}
	return rows
}

// lost is a device's row when it does not answer: what it is, not how it is.
func (k *known) lost(why string) prover.GPU {
	return prover.GPU{
		Index: k.last.Index, UUID: k.last.UUID, Model: k.last.Model, MemTotal: k.last.MemTotal, NUMA: k.last.NUMA, XID: k.xid,
		Lost: fmt.Sprintf("%s; last heard %s", why, k.heard.UTC().Format(time.RFC3339)),
	}
}

// drain takes the critical errors that the driver reported since the last look.
func (l *library) drain(s *scan) {
	if l.events == nil {
		return
	}
	for range 64 { // more than that waits for the next look
		s.note("nvmlEventSetWait")
		ev, ret := l.events.Wait(0)
		if ret != nvml.SUCCESS {
			return // ERROR_TIMEOUT: none is waiting
		}
		if ev.EventType&nvml.EventTypeXidCriticalError == 0 || ev.Device == nil {
			continue
		}
		s.note("nvmlDeviceGetUUID of an event")
		uuid, ret := ev.Device.GetUUID()
		if ret != nvml.SUCCESS {
			continue
		}
		if k := l.known[uuid]; k != nil {
			n := ev.EventData
			k.xid = &n
		}
	}
}

// scan is one look at the devices.
type scan struct {
	l      *library
	note   func(string)
	now    time.Time
	where  string      // the device that is asked, for note
	lost   nvml.Return // not SUCCESS: the device is gone, do not ask on
	closed bool        // the library is gone
}

// ask makes one call. What the device or the library does not support is nil.
func ask[T any](s *scan, symbol string, call func() (T, nvml.Return)) *T {
	if s.lost != nvml.SUCCESS || s.closed || !s.l.has(symbol) {
		return nil
	}
	s.note(symbol + " of " + s.where)
	v, ret := call()
	switch ret {
	case nvml.SUCCESS:
		return &v
	case nvml.ERROR_GPU_IS_LOST, nvml.ERROR_RESET_REQUIRED:
		s.lost = ret
	case nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED:
		s.closed = true
	}
	return nil
}

// device reads the device at an index; false when it is not ours to see.
func (s *scan) device(i int) (prover.GPU, bool) {
	s.lost, s.where = nvml.SUCCESS, fmt.Sprintf("device %d", i)
	s.note("nvmlDeviceGetHandleByIndex of " + s.where)
	d, ret := s.l.nv.DeviceGetHandleByIndex(i)
	switch ret {
	case nvml.SUCCESS:
	case nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED:
		s.closed = true
		return prover.GPU{}, false
	case nvml.ERROR_NO_PERMISSION:
		return prover.GPU{}, false // given to another container or user
	default:
		return s.broken(i, ret), true
	}
	uuid := ask(s, "nvmlDeviceGetUUID", d.GetUUID)
	if s.closed {
		return prover.GPU{}, false
	}
	if uuid == nil || *uuid == "" {
		if s.lost == nvml.SUCCESS {
			s.lost = nvml.ERROR_UNKNOWN
		}
		return s.broken(i, s.lost), true
	}
	s.where = *uuid
	g := prover.GPU{Index: i, UUID: *uuid}
	k := s.l.known[*uuid]
	if k == nil {
		k = &known{}
	}
	if v := ask(s, "nvmlDeviceGetName", d.GetName); v != nil {
		g.Model = *v
	}
	s.fill(&g, d)
	if s.closed {
		return prover.GPU{}, false
	}
	if s.lost != nvml.SUCCESS {
		if k.last.UUID == "" {
			k.last, k.heard = prover.GPU{Index: i, UUID: g.UUID, Model: g.Model}, s.now
			s.l.known[*uuid] = k
		}
		return k.lost(lostWords(s.lost)), true
	}
	s.register(k, d)
	g.XID = k.xid
	k.last, k.heard = g, s.now
	s.l.known[*uuid] = k
	return g, true
}

func lostWords(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_GPU_IS_LOST:
		return "the device fell off the bus; restart the machine"
	case nvml.ERROR_RESET_REQUIRED:
		return "the device needs a reset; stop what uses it, then nvidia-smi --gpu-reset"
	}
	return "the device does not answer: " + words(ret)
}

// broken is the row of a device that gives no handle or no UUID: the known device
// that had this index and was not seen otherwise, or one without a UUID.
func (s *scan) broken(i int, ret nvml.Return) prover.GPU {
	for _, k := range s.l.known {
		if k.last.Index == i {
			return k.lost(lostWords(ret))
		}
	}
	return prover.GPU{Index: i, UUID: fmt.Sprintf("index-%d", i), Model: "unknown", Lost: lostWords(ret)}
}

// register asks the driver to tell critical errors of a device, once.
func (s *scan) register(k *known, d nvml.Device) {
	if k.xid != nil || s.l.events == nil {
		return
	}
	types := ask(s, "nvmlDeviceGetSupportedEventTypes", d.GetSupportedEventTypes)
	if types == nil || *types&nvml.EventTypeXidCriticalError == 0 {
		return
	}
	if v := ask(s, "nvmlDeviceRegisterEvents", func() (bool, nvml.Return) {
		return true, d.RegisterEvents(nvml.EventTypeXidCriticalError, s.l.events)
	}); v != nil {
		none := uint64(0)
		k.xid = &none
	}
}

// fill asks for everything that moves. Units become ours: MiB, W, percent.
func (s *scan) fill(g *prover.GPU, d nvml.Device) {
	if v := ask(s, "nvmlDeviceGetUtilizationRates", d.GetUtilizationRates); v != nil {
		g.UtilPercent = number(v.Gpu)
	}
	if v := ask(s, "nvmlDeviceGetMemoryInfo_v2", d.GetMemoryInfo_v2); v != nil {
		g.MemUsed, g.MemTotal = mib(v.Used), mib(v.Total)
	} else if v := ask(s, "nvmlDeviceGetMemoryInfo", d.GetMemoryInfo); v != nil {
		g.MemUsed, g.MemTotal = mib(v.Used), mib(v.Total)
	}
	if v := ask(s, "nvmlDeviceGetTemperature", func() (uint32, nvml.Return) { return d.GetTemperature(nvml.TEMPERATURE_GPU) }); v != nil {
		g.TempC = number(*v)
	}
	if v := ask(s, "nvmlDeviceGetPowerUsage", d.GetPowerUsage); v != nil {
		g.PowerW = watts(*v)
	}
	if v := ask(s, "nvmlDeviceGetEnforcedPowerLimit", d.GetEnforcedPowerLimit); v != nil {
		g.PowerLimitW = watts(*v)
	}
	if v := ask(s, "nvmlDeviceGetClockInfo", func() (uint32, nvml.Return) { return d.GetClockInfo(nvml.CLOCK_SM) }); v != nil {
		g.ClockMHz = number(*v)
	}
	if v := ask(s, "nvmlDeviceGetFanSpeed", d.GetFanSpeed); v != nil {
		g.FanPercent = number(*v)
	}
	g.ECCErrors = ask(s, "nvmlDeviceGetTotalEccErrors", func() (uint64, nvml.Return) {
		return d.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
	})
	if v := ask(s, "nvmlDeviceGetCurrentClocksEventReasons", d.GetCurrentClocksEventReasons); v != nil {
		g.Throttle = throttleWords(*v)
	} else if v := ask(s, "nvmlDeviceGetCurrentClocksThrottleReasons", d.GetCurrentClocksThrottleReasons); v != nil {
		g.Throttle = throttleWords(*v) // the call's name before driver 535
	}
	g.PCIEGen = ask(s, "nvmlDeviceGetCurrPcieLinkGeneration", d.GetCurrPcieLinkGeneration)
	g.PCIEWidth = ask(s, "nvmlDeviceGetCurrPcieLinkWidth", d.GetCurrPcieLinkWidth)
	if v := ask(s, "nvmlDeviceGetMigMode", func() (bool, nvml.Return) {
		current, _, ret := d.GetMigMode()
		return current == nvml.DEVICE_MIG_ENABLE, ret
	}); v != nil {
		g.MIG = v
	}
	if v := ask(s, "nvmlDeviceGetCudaComputeCapability", func() (string, nvml.Return) {
		major, minor, ret := d.GetCudaComputeCapability()
		return fmt.Sprintf("%d.%d", major, minor), ret
	}); v != nil {
		g.Compute = v
	}
	if v := ask(s, "nvmlDeviceGetDisplayActive", func() (bool, nvml.Return) {
		active, ret := d.GetDisplayActive()
		return active == nvml.FEATURE_ENABLED, ret
	}); v != nil {
		g.Display = v
	}
	if v := ask(s, "nvmlDeviceGetPciInfo", d.GetPciInfo); v != nil {
		g.NUMA = s.l.numa(*v)
	}
	g.PIDs = s.processes(d)
}

// processes lists who computes or draws on the device; nil when not known.
func (s *scan) processes(d nvml.Device) []int {
	compute := ask(s, "nvmlDeviceGetComputeRunningProcesses", d.GetComputeRunningProcesses)
	graphics := ask(s, "nvmlDeviceGetGraphicsRunningProcesses", d.GetGraphicsRunningProcesses)
	if compute == nil && graphics == nil {
		return nil
	}
	out := []int{}
	for _, list := range []*[]nvml.ProcessInfo{compute, graphics} {
		if list == nil {
			continue
		}
		for _, p := range *list {
			out = append(out, int(p.Pid))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// numa is the node that the device's slot belongs to, as the kernel says.
func (l *library) numa(p nvml.PciInfo) *int {
	raw := p.BusId[:]
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		raw = raw[:i]
	}
	id := strings.ToLower(string(raw))
	// NVML writes the domain with eight digits, the kernel with four.
	if domain, rest, ok := strings.Cut(id, ":"); ok && len(domain) == 8 {
		id = strings.TrimPrefix(domain, "0000") + ":" + rest
	}
	if id == "" || strings.Contains(id, "/") {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(l.sys, "bus/pci/devices", id, "numa_node"))
	if err != nil {
		return nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < 0 { // -1: the firmware does not say
		return nil
	}
	return &n
}

func number[T uint32 | int](v T) *float64 { f := float64(v); return &f }

func watts(mw uint32) *float64 { f := float64(mw) / 1000; return &f }

func mib(b uint64) *prover.MiB { m := prover.MiB(b >> 20); return &m }
