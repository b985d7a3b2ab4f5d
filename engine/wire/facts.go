package wire

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"app.provost/cluster/create"
	"app.provost/engine"
	"app.provost/engine/host"
	"app.provost/engine/state"
	"app.provost/prover"
	"app.provost/prover/gpu"
)

const (
	sampleEvery = 2 * time.Second
	gpuPeriod   = 2 * time.Second
)

// startHost starts the readings of this machine.
func (e *Engine) startHost(context.Context) error {
	c := e.o.Config
	h, err := host.New(host.Options{NTPServer: c.NTPServer, Log: e.log, Paths: []host.Path{{Path: c.StateDir, What: "state"}, {Path: c.RuntimeDir, What: "runtime"}}})
	if err != nil {
		return err
	}
	scope := e.scope("host")
	key := engine.Key{Machine: e.machine, ID: e.machine}
	e.state.Tell(state.Machine{Key: key, Roles: e.roles(), Hostname: e.machine})
	r := &rules{c: c, machine: e.machine, tell: e.state.Tell, on: map[string]bool{}}
	h.Run(scope, func(f host.Facts) {
		e.state.Tell(state.Machine{Key: key, Hostname: f.Hostname, CPU: f.CPU, Memory: f.Memory, Disks: f.Disks, Clock: f.Clock, Hugepages: f.Hugepages, System: f.System})
		e.source("host", 0, hostSource(f))
		r.host(f)
		if f.CPU != nil && f.CPU.Value != nil && f.CPU.Value.UsePercent != nil {
			e.state.Tell(state.Sample{Key: key, Name: "cpu", Unit: "%", Value: f.CPU.Value.UsePercent})
		}
	})
	e.startGPU(r)
	scope.Go("host.processes", e.sample)
	return nil
}

// reading is what a source last said.
type reading struct {
	at      *time.Time
	periodS float64
	problem string
}

func hostSource(f host.Facts) reading {
	if f.CPU != nil {
		return reading{f.CPU.At, f.CPU.PeriodS, f.CPU.Problem}
	}
	return reading{}
}

// source tells when a source was last read; one without a time is left alone.
func (e *Engine) source(name string, detail int, r reading) {
	if r.at == nil {
		return
	}
	row := engine.SourceRow{Key: engine.Key{Machine: e.machine, ID: name}, Name: name, At: r.at, PeriodS: r.periodS, Problem: r.problem}
	if detail > 0 {
		row.Detail = fmt.Sprint(detail)
	}
	e.state.Tell(state.PutSource{Row: row})
}

func (e *Engine) startGPU(r *rules) {
	key := engine.Key{Machine: e.machine, ID: e.machine}
	gpu.New(gpu.Options{Period: gpuPeriod, Log: e.log}).Run(e.scopes["host"].Go, gpu.Tell{
		Reading: func(g prover.GPUReading) {
			at := g.At
			e.state.Tell(state.SetGPUs{Machine: e.machine, Rows: gpuRows(e.machine, g)},
				state.Machine{Key: key, GPUDriver: &engine.Reading[engine.GPUDriver]{At: &at, PeriodS: gpuPeriod.Seconds(), Problem: g.Why,
					Value: &engine.GPUDriver{Version: g.Driver, CUDA: g.CUDA, Why: g.Why, Count: len(g.GPUs), TookMS: float64(g.Took.Microseconds()) / 1000}}})
			if g.Driver != "" {
				e.source("gpu", len(g.GPUs), reading{&at, gpuPeriod.Seconds(), ""})
			}
			r.gpus(g)
		},
		Stuck: func(s gpu.Stuck) {
			if s.Call == "" {
				r.clear(engine.FindGPUSilent, "")
				return
			}
			r.raise(engine.FindGPUSilent, "", "host/"+e.machine, engine.Fact{Name: "age", Value: engine.Span(time.Since(s.Since))}, engine.Fact{Name: "call", Value: s.Call})
		},
	})
}

// gpuRows says in one word what each device does. What is not known is not judged.
func gpuRows(machine string, g prover.GPUReading) []engine.GPURow {
	var rows []engine.GPURow
	for _, d := range g.GPUs {
		row := engine.GPURow{Key: engine.Key{Machine: machine, ID: d.UUID}, GPU: d, At: g.At, PeriodS: gpuPeriod.Seconds(), State: "idle"}
		switch {
		case d.Lost != "":
			row.State = "lost"
		case gpu.Hot(d):
			row.State = "hot"
		case len(d.PIDs) > 0 || d.UtilPercent != nil && *d.UtilPercent >= 1:
			row.State = "run"
		}
		rows = append(rows, row)
	}
	return rows
}

// sample looks at worker processes and at the engine's own memory.
func (e *Engine) sample(ctx context.Context) error {
	sampler := host.NewProcSampler("")
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		pids := e.crew.pids()
		all := []int{os.Getpid()}
		for _, pid := range pids {
			all = append(all, pid)
		}
		got := sampler.Sample(all)
		for id, pid := range pids {
			if s, ok := got[pid]; ok {
				e.crew.update(id, func(m *member) { m.usage = processUse{pid, s.CPUPercent, s.RSSBytes} })
			}
		}
		if self, ok := got[os.Getpid()]; ok {
			e.state.Tell(state.PatchInfo{From: "memory", Patch: func(i *engine.Info) { i.RSSBytes = self.RSSBytes }})
		}
		now := time.Now().UTC()
		e.crew.refresh()
		if e.jobs != nil {
			e.jobs.tick(now)
		}
		if n := e.workers(); n > 0 {
			heard := 0
			for _, w := range e.state.Snapshot().Workers.List() {
				if w.HeardAt != nil && now.Sub(*w.HeardAt) <= staleAfter {
					heard++
				}
			}
			e.state.Tell(state.PutSource{Row: engine.SourceRow{Key: engine.Key{Machine: e.machine, ID: "workers"}, Name: "workers", At: &now, PeriodS: sampleEvery.Seconds(), Detail: fmt.Sprintf("%d of %d heard", heard, n)}})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// startNodes reads the node directories that the engine was given, in the
// background: opening keystores at full strength takes seconds.
func (e *Engine) startNodes(context.Context) error {
	if len(e.o.Config.NodeDirs) == 0 || len(e.o.Config.Beacons) > 0 {
		return nil // with a beacon node they are run, not just read
	}
	var rows []engine.NodeRow
	for _, dir := range e.o.Config.NodeDirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		rows = append(rows, engine.NodeRow{Key: engine.Key{Machine: e.machine, Node: filepath.Base(abs), ID: abs}, Dir: abs, State: "reading"})
	}
	e.state.Tell(state.SetNodes{Rows: rows})
	e.scopes["host"].Go("nodes.read", func(ctx context.Context) error {
		for i := range rows {
			rep, err := create.Verify(ctx, rows[i].Dir, create.Options{Workers: 1})
			if ctx.Err() != nil {
				return nil
			}
			rows = append(rows[:0:0], rows...) // what was told never changes
			rows[i] = nodeRow(rows[i], rep, err)
			e.state.Tell(state.SetNodes{Rows: rows})
			e.judgeNode(rows[i], rep)
		}
		return nil
	})
	return nil
}

func nodeRow(row engine.NodeRow, rep create.Report, err error) engine.NodeRow {
	if err != nil {
		row.State, row.Problem = "broken", err.Error()
		return row
	}
	row.State, row.Name = "read", rep.Name
	if rep.Network != nil {
		row.Network = *rep.Network
	}
	if rep.LockHash != nil {
		row.LockHash = rep.LockHash.String()
		row.Key.Cluster = row.LockHash[:min(10, len(row.LockHash))]
	}
	if rep.ShareIndex != nil {
		i := int(*rep.ShareIndex)
		row.ShareIndex = &i
	}
	for _, n := range []struct {
		from *int
		to   *int
	}{{rep.Nodes, &row.Operators}, {rep.Threshold, &row.Threshold}, {rep.Validators, &row.Validators}} {
		if n.from != nil {
			*n.to = *n.from
		}
	}
	if bad := rep.Failures(); len(bad) > 0 {
		row.State, row.Problem = "broken", fmt.Sprintf("%s: %s", bad[0].ID, bad[0].Problem)
	}
	return row
}

func (e *Engine) judgeNode(row engine.NodeRow, rep create.Report) {
	target := "node/" + row.Key.Node
	raise := func(code engine.Code, facts ...engine.Fact) {
		e.state.Tell(state.Raise{Raise: engine.Raise{Code: code, Key: row.Key, Target: target, Facts: append(facts, engine.Fact{Name: "dir", Value: row.Dir})}})
	}
	if row.State == "broken" {
		raise(engine.FindNodeBroken, engine.Fact{Name: "why", Value: row.Problem})
		return
	}
	for _, f := range rep.Findings { // of other kinds are weak keystores, which are meant so
		if !strings.Contains(f.ID, "modes") {
			continue
		}
		raise(engine.FindNodeLoose, engine.Fact{Name: "file", Value: f.File}, engine.Fact{Name: "why", Value: f.Problem})
		break
	}
	raise(engine.FindNodeNotSigning)
}
