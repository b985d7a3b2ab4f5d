package state

import (
	"reflect"
	"slices"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

// Machine tells readings of a machine: those that are not nil take the place of
// what was known. So each group can be told at its own pace.
type Machine struct {
	Key       engine.Key
	Hostname  string        // empty: as it was
	Roles     []engine.Role // nil: as they were
	CPU       *engine.Reading[engine.CPUStat]
	Memory    *engine.Reading[engine.MemoryStat]
	Disks     *engine.Reading[[]engine.DiskStat]
	Clock     *engine.Reading[engine.ClockStat]
	Hugepages *engine.Reading[[]prover.HugePool]
	GPUDriver *engine.Reading[engine.GPUDriver]
	System    *engine.Reading[engine.SystemStat]
}

func (f Machine) slot() slot { return slot{kind: "machine", key: f.Key} }

// after keeps groups of the older fact that this one does not tell.
func (f Machine) after(older Fact) Fact {
	o := older.(Machine)
	if f.Hostname == "" {
		f.Hostname = o.Hostname
	}
	if f.Roles == nil {
		f.Roles = o.Roles
	}
	if f.CPU == nil {
		f.CPU = o.CPU
	}
	if f.Memory == nil {
		f.Memory = o.Memory
	}
	if f.Disks == nil {
		f.Disks = o.Disks
	}
	if f.Clock == nil {
		f.Clock = o.Clock
	}
	if f.Hugepages == nil {
		f.Hugepages = o.Hugepages
	}
	if f.GPUDriver == nil {
		f.GPUDriver = o.GPUDriver
	}
	if f.System == nil {
		f.System = o.System
	}
	return f
}

func (f Machine) fold(m *model, _ time.Time) {
	if !m.on[engine.SecMachines] {
		return
	}
	row := engine.MachineRow{Key: f.Key}
	if old := m.machines.get(f.Key); old != nil {
		row = *old
	}
	if f.Hostname != "" {
		row.Hostname = f.Hostname
	}
	if f.Roles != nil {
		row.Roles = f.Roles
	}
	take(&row.CPU, f.CPU)
	take(&row.Memory, f.Memory)
	take(&row.Disks, f.Disks)
	take(&row.Clock, f.Clock)
	take(&row.Hugepages, f.Hugepages)
	take(&row.GPUDriver, f.GPUDriver)
	take(&row.System, f.System)
	m.machines.put(row)
}

// take keeps the last value of a reading that failed: its age tells the rest.
func take[T any](into *engine.Reading[T], r *engine.Reading[T]) {
	if r == nil {
		return
	}
	v := *r
	if v.Value == nil && v.Problem != "" && into.Value != nil {
		v.Value, v.At = into.Value, into.At
	}
	*into = v
}

// SetGPUs replaces the GPUs of a machine.
type SetGPUs struct {
	Machine string
	Rows    []engine.GPURow
}

func (f SetGPUs) slot() slot { return slot{kind: "gpus", key: engine.Key{Machine: f.Machine}} }
func (f SetGPUs) fold(m *model, _ time.Time) {
	if !m.on[engine.SecGPUs] {
		return
	}
	m.gpus.keep(func(r *engine.GPURow) bool {
		return r.Key.Machine != f.Machine || slices.ContainsFunc(f.Rows, func(n engine.GPURow) bool { return n.Key == r.Key })
	})
	for _, r := range f.Rows {
		if r.Key.Machine != f.Machine {
			continue // not this teller's to say
		}
		if old := m.gpus.get(r.Key); old == nil || !reflect.DeepEqual(*old, r) {
			m.gpus.put(r)
		}
	}
}

func byGPU(a, b *engine.GPURow) int {
	if c := byPlace(a.Key, b.Key); c != 0 {
		return c
	}
	if a.GPU.Index != b.GPU.Index {
		return a.GPU.Index - b.GPU.Index
	}
	return natural(a.Key.ID, b.Key.ID)
}

// SetNodes replaces all node directories.
type SetNodes struct{ Rows []engine.NodeRow }

func (SetNodes) slot() slot { return slot{kind: "nodes"} }
func (f SetNodes) fold(m *model, _ time.Time) {
	if !m.on[engine.SecNodes] {
		return
	}
	m.nodes.keep(func(*engine.NodeRow) bool { return false })
	m.nodes.dirty = true
	for _, r := range f.Rows {
		m.nodes.put(r)
	}
}
