package wire

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"app.provost/engine"
	"app.provost/engine/config"
	"app.provost/engine/host"
	"app.provost/engine/state"
	"app.provost/prover"
	"app.provost/prover/gpu"
)

// rules say when a reading of this machine is a finding. Each tells changes only.
type rules struct {
	c       config.Config
	machine string
	tell    func(...state.Fact)

	mu sync.Mutex
	on map[string]bool // code and id of what is raised; guarded by mu
}

func (r *rules) raise(code engine.Code, id, target string, facts ...engine.Fact) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := string(code) + "/" + id
	if r.on[k] {
		return
	}
	r.on[k] = true
	r.tell(state.Raise{Raise: engine.Raise{Code: code, Key: engine.Key{Machine: r.machine, ID: id}, Target: target, Facts: facts}})
}

func (r *rules) clear(code engine.Code, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := string(code) + "/" + id
	if !r.on[k] {
		return
	}
	delete(r.on, k)
	r.tell(state.Clear{Code: code, Key: engine.Key{Machine: r.machine, ID: id}})
}

// set raises or clears.
func (r *rules) set(on bool, code engine.Code, id, target string, facts ...engine.Fact) {
	if on {
		r.raise(code, id, target, facts...)
	} else {
		r.clear(code, id)
	}
}

func fact(name, value string) engine.Fact { return engine.Fact{Name: name, Value: value} }

// host judges readings that are new. A reading without a value is not judged: it
// is old, and says so by itself.
func (r *rules) host(f host.Facts) {
	target := "host/" + r.machine
	if f.Memory != nil && f.Memory.Value != nil {
		m := f.Memory.Value
		r.set(memoryLow(*m, r.c.MemoryLow), engine.FindHostMemory, "", target, fact("available", engine.ByteSize(m.AvailableBytes)), fact("total", engine.ByteSize(m.TotalBytes)),
			fact("swap_used", engine.ByteSize(m.SwapUsedBytes)))
	}
	if f.Disks != nil && f.Disks.Value != nil {
		for _, d := range *f.Disks.Value {
			r.set(diskLow(d, r.c.DiskLow), engine.FindHostDisk, d.Path, target, fact("path", d.Path), fact("free", engine.ByteSize(d.FreeBytes)), fact("total", engine.ByteSize(d.TotalBytes)))
		}
	}
	if f.Clock != nil && f.Clock.Value != nil {
		off, facts := clockOff(*f.Clock.Value, r.c.ClockLimit)
		r.set(off, engine.FindHostClock, "", target, facts...)
	}
	if f.Hugepages != nil && f.Hugepages.Value != nil {
		for _, p := range *f.Hugepages.Value {
			size := engine.ByteSize(p.PageKiB * 1024)
			r.set(p.Total > 0 && p.Available() == 0, engine.FindHostHugepages, size, target, fact("used", fmt.Sprint(p.Used())), fact("total", fmt.Sprint(p.Total)),
				fact("reserved", fmt.Sprint(p.Reserved)), fact("size", size))
		}
	}
}

func memoryLow(m engine.MemoryStat, percent float64) bool {
	return m.TotalBytes > 0 && float64(m.AvailableBytes) < percent/100*float64(m.TotalBytes)
}

// diskLow: too few bytes, or too few inodes where the filesystem counts them.
func diskLow(d engine.DiskStat, percent float64) bool {
	if d.TotalBytes > 0 && float64(d.FreeBytes) < percent/100*float64(d.TotalBytes) {
		return true
	}
	return d.InodesTotal != nil && d.InodesFree != nil && *d.InodesTotal > 0 && float64(*d.InodesFree) < percent/100*float64(*d.InodesTotal)
}

// clockOff: the offset itself beyond the limit. A kernel that says "not synchronised"
// is judged only when it gives no offset to go by and somebody keeps the time here.
func clockOff(c engine.ClockStat, limit time.Duration) (bool, []engine.Fact) {
	facts := []engine.Fact{fact("source", c.Source)}
	if c.OffsetMS == nil {
		return false, facts
	}
	off := time.Duration(*c.OffsetMS * float64(time.Millisecond))
	facts = append(facts, fact("offset", off.Round(time.Millisecond).String()))
	if c.ErrorMS != nil {
		facts = append(facts, fact("error", fmt.Sprintf("%.0f ms", *c.ErrorMS)))
	}
	return off.Abs() > limit, facts
}

func (r *rules) gpus(g prover.GPUReading) {
	for _, d := range g.GPUs {
		target := fmt.Sprintf("gpu/%s/%d", r.machine, d.Index)
		r.set(d.Lost != "", engine.FindGPULost, d.UUID, target, fact("why", d.Lost), fact("model", d.Model))
		temp := "?"
		if d.TempC != nil {
			temp = fmt.Sprintf("%.0f °C", *d.TempC)
		}
		r.set(d.Lost == "" && gpu.Hot(d), engine.FindGPUHot, d.UUID, target, fact("temp", temp), fact("reasons", strings.Join(d.Throttle, ", ")))
		xid := d.XID != nil && *d.XID != 0
		var number string
		if xid {
			number = fmt.Sprint(*d.XID)
		}
		r.set(xid, engine.FindGPUXid, d.UUID, target, fact("xid", number))
	}
}
