package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"app.provost/engine"

	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/load"
)

// cpuTimes are seconds that a CPU spent since boot. Guest time is inside user
// time, and waiting for a disk is idleness.
type cpuTimes struct{ busy, idle, steal float64 }

func (t cpuTimes) total() float64 { return t.busy + t.idle }

// cpuModel rarely changes (a CPU taken off line), and reading it is slow on large machines.
type cpuModel struct {
	at      time.Time
	name    string
	logical int
	cores   *int
}

// cpu gives the use since the call before; the first one waits for a quarter of a second.
func (r *reader) cpu(ctx context.Context) (*engine.CPUStat, error) {
	if r.lastCPU == nil {
		times, err := r.cpuTimes()
		if err != nil {
			return nil, err
		}
		r.lastCPU = times.byName
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	now := r.h.calls.now()
	if r.model.at.IsZero() || now.Sub(r.model.at) > 10*time.Minute || now.Before(r.model.at) {
		r.model = r.readModel(now)
	}
	out := engine.CPUStat{Model: r.model.name, Cores: r.model.cores, LogicalCPUs: r.model.logical}
	avg, err := load.AvgWithContext(r.ctx)
	if err != nil {
		return nil, fmt.Errorf("read load: %w", err)
	}
	out.Load1, out.Load5, out.Load15 = avg.Load1, avg.Load5, avg.Load15

	times, err := r.cpuTimes()
	if err != nil {
		return nil, err
	}
	if out.LogicalCPUs == 0 {
		out.LogicalCPUs = len(times.order)
	}
	var sum cpuTimes
	for _, name := range times.order {
		n := times.byName[name]
		old, ok := r.lastCPU[name]
		if !ok {
			continue
		}
		d := delta(old, n)
		if d.total() > 0 {
			out.PerCPU = append(out.PerCPU, percent(d.busy, d.total()))
		} else {
			out.PerCPU = append(out.PerCPU, 0) // no tick has passed
		}
		sum.busy, sum.idle, sum.steal = sum.busy+d.busy, sum.idle+d.idle, sum.steal+d.steal
	}
	if len(out.PerCPU) != len(times.order) {
		out.PerCPU = nil // a processor came or went: numbers would stand in the wrong place
	}
	if sum.total() > 0 {
		use, steal := percent(sum.busy, sum.total()), percent(sum.steal, sum.total())
		out.UsePercent, out.StealPercent = &use, &steal
	} else {
		out.PerCPU = nil
	}
	r.lastCPU = times.byName
	return &out, nil
}

type allTimes struct {
	order  []string
	byName map[string]cpuTimes
}

func (r *reader) cpuTimes() (allTimes, error) {
	list, err := cpu.TimesWithContext(r.ctx, true)
	if err != nil {
		return allTimes{}, fmt.Errorf("read processor times: %w", err)
	}
	if len(list) == 0 {
		return allTimes{}, errors.New("read processor times: /proc/stat lists no processor")
	}
	out := allTimes{byName: make(map[string]cpuTimes, len(list))}
	for _, t := range list {
		out.order = append(out.order, t.CPU)
		out.byName[t.CPU] = cpuTimes{busy: t.User + t.Nice + t.System + t.Irq + t.Softirq + t.Steal, idle: t.Idle + t.Iowait, steal: t.Steal}
	}
	return out, nil
}

// delta is what passed between two readings. The kernel's idle counter may step
// back a little; that counts as nothing.
func delta(old, now cpuTimes) cpuTimes {
	return cpuTimes{busy: max(0, now.busy-old.busy), idle: max(0, now.idle-old.idle), steal: max(0, now.steal-old.steal)}
}

func percent(part, whole float64) float64 {
	return min(100, max(0, 100*part/whole))
}

func (r *reader) readModel(now time.Time) cpuModel {
	m := cpuModel{at: now}
	if info, err := cpu.InfoWithContext(r.ctx); err == nil && len(info) > 0 {
		m.name = info[0].ModelName
	}
	if n, err := cpu.CountsWithContext(r.ctx, true); err == nil {
		m.logical = n
	}
	if n, err := cpu.CountsWithContext(r.ctx, false); err == nil && n > 0 {
		m.cores = &n
	}
	return m
}
