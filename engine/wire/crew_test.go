package wire

import (
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/config"
	"app.provost/engine/host"
	"app.provost/engine/state"
	"app.provost/engine/super"
	"app.provost/prover"
	"app.provost/prover/queue"
)

func TestWhatAWorkerDoes(t *testing.T) {
	now := time.Unix(10_000, 0)
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	job := prover.JobID("j1")
	running := super.Status{State: super.StateRunning, PID: 7, StartedAt: *ago(time.Minute)}
	heard := queue.WorkerView{Connected: true, HeardAt: ago(time.Second)}
	with := func(v queue.WorkerView, change func(*queue.WorkerView)) queue.WorkerView { change(&v); return v }
	for name, c := range map[string]struct {
		proc super.Status
		view queue.WorkerView
		born time.Time
		want engine.WorkerState
	}{
		"not started yet":         {super.Status{}, queue.WorkerView{}, now, engine.WorkerStart},
		"stub is there":           {super.Status{State: super.StateStarting}, queue.WorkerView{}, now, engine.WorkerStart},
		"just started":            {super.Status{State: super.StateRunning, StartedAt: *ago(time.Second)}, queue.WorkerView{}, *ago(time.Hour), engine.WorkerStart},
		"taken up, not dialled":   {running, queue.WorkerView{}, *ago(time.Second), engine.WorkerStart},
		"never reports":           {running, queue.WorkerView{}, *ago(time.Hour), engine.WorkerStale},
		"heartbeat late":          {running, with(heard, func(v *queue.WorkerView) { v.HeardAt = ago(time.Minute) }), *ago(time.Hour), engine.WorkerStale},
		"ready":                   {running, heard, *ago(time.Hour), engine.WorkerIdle},
		"proves":                  {running, with(heard, func(v *queue.WorkerView) { v.Job = &job }), *ago(time.Hour), engine.WorkerRun},
		"drains":                  {running, with(heard, func(v *queue.WorkerView) { v.Job, v.Pausing, v.Pause = &job, true, &prover.Pause{} }), *ago(time.Hour), engine.WorkerPausing},
		"paused":                  {running, with(heard, func(v *queue.WorkerView) { v.Pause = &prover.Pause{} }), *ago(time.Hour), engine.WorkerPaused},
		"paused, process stopped": {super.Status{State: super.StateHeld}, with(heard, func(v *queue.WorkerView) { v.Pause = &prover.Pause{} }), *ago(time.Hour), engine.WorkerPaused},
		"died":                    {super.Status{State: super.StateBackoff}, heard, *ago(time.Hour), engine.WorkerDown},
		"given up":                {super.Status{State: super.StateGivenUp}, heard, *ago(time.Hour), engine.WorkerHeld},
		"stopped":                 {super.Status{State: super.StateHeld}, queue.WorkerView{}, *ago(time.Hour), engine.WorkerHeld},
	} {
		if got, _ := observe(&member{proc: c.proc, view: c.view}, now, c.born); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestPlacement(t *testing.T) {
	cpus := []prover.CPU{0, 2, 4, 6}
	for core, want := range map[prover.Core]prover.CPU{1: 2, 2: 4, 3: 6, 4: 0, 5: 2} {
		if got := place(core, cpus); got == nil || *got != want {
			t.Errorf("core %d goes to %v, want CPU %d: the first CPU is the last to be used", core, got, want)
		}
	}
	if place(1, nil) != nil {
		t.Error("without CPUs nothing is pinned")
	}
}

func TestRulesTellChangesOnly(t *testing.T) {
	var told []state.Fact
	r := &rules{c: config.Default(), machine: "m1", on: map[string]bool{}, tell: func(f ...state.Fact) { told = append(told, f...) }}
	memory := func(free uint64) host.Facts {
		return host.Facts{Memory: &engine.Reading[engine.MemoryStat]{Value: &engine.MemoryStat{TotalBytes: 100, AvailableBytes: free}}}
	}
	for _, free := range []uint64{50, 4, 3, 50, 60, 1} {
		r.host(memory(free))
	}
	r.host(host.Facts{Memory: &engine.Reading[engine.MemoryStat]{Problem: "not read"}}) // judged by nobody
	var got []string
	for _, f := range told {
		switch f := f.(type) {
		case state.Raise:
			got = append(got, "raise "+string(f.Code))
		case state.Clear:
			got = append(got, "clear "+string(f.Code))
		}
	}
	want := []string{"raise host.memory-low", "clear host.memory-low", "raise host.memory-low"}
	if len(got) != len(want) {
		t.Fatalf("told %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("told %v, want %v", got, want)
		}
	}
}

func TestJudgements(t *testing.T) {
	inodes, few := uint64(1000), uint64(3)
	for name, c := range map[string]struct {
		disk engine.DiskStat
		low  bool
	}{
		"plenty":     {engine.DiskStat{TotalBytes: 100, FreeBytes: 50, InodesTotal: &inodes, InodesFree: &inodes}, false},
		"few bytes":  {engine.DiskStat{TotalBytes: 100, FreeBytes: 4}, true},
		"few inodes": {engine.DiskStat{TotalBytes: 100, FreeBytes: 50, InodesTotal: &inodes, InodesFree: &few}, true},
		"not known":  {engine.DiskStat{}, false},
	} {
		if got := diskLow(c.disk, 5); got != c.low {
			t.Errorf("disk with %s: low %v", name, got)
		}
	}
	ms := func(v float64) *float64 { return &v }
	for _, c := range []struct {
		offset *float64
		off    bool
	}{{nil, false}, {ms(20), false}, {ms(-20), false}, {ms(900), true}, {ms(-900), true}} {
		if got, _ := clockOff(engine.ClockStat{OffsetMS: c.offset}, 500*time.Millisecond); got != c.off {
			t.Errorf("clock %v: off %v", c.offset, got)
		}
	}
}
