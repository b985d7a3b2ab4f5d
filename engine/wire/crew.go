package wire

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"app.provost/engine"
	"app.provost/engine/state"
	"app.provost/engine/super"
	"app.provost/prover"
	"app.provost/prover/queue"
	"app.provost/prover/run"
)

const (
	verifierID = "verifier"
	staleAfter = 5 * time.Second // five heartbeats
	// startPatience is how long a process may run before it has to have said hello.
	startPatience = 10 * time.Second
)

// crew joins what is known of each worker process: super knows the process, the
// queue knows the worker, the host samples what it uses. It is the only teller of worker rows.
type crew struct {
	machine string
	tell    func(...state.Fact)
	now     func() time.Time
	born    time.Time // of this engine: workers that it took up dial again within seconds

	mu      sync.Mutex // guards the fields below; tell and close of changed are called under it, nothing else
	members map[string]*member
	changed chan struct{} // closed and replaced with every change
}

type member struct {
	id     string
	core   prover.Core
	cpu    *prover.CPU
	numa   *int
	nice   int
	proc   super.Status
	view   queue.WorkerView
	usage  processUse
	raised map[engine.Code]bool
}

// processUse is what a process uses now.
type processUse struct {
	pid        int
	cpuPercent *float64
	rssBytes   *uint64
}

func newCrew(machine string, tell func(...state.Fact)) *crew {
	return &crew{machine: machine, tell: tell, now: time.Now, born: time.Now(), members: map[string]*member{}, changed: make(chan struct{})}
}

func (c *crew) key(id string) engine.Key { return engine.Key{Machine: c.machine, ID: id} }

// add makes a member known before its process is.
func (c *crew) add(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.members[m.id]; old != nil {
		old.core, old.cpu, old.numa, old.nice = m.core, m.cpu, m.numa, m.nice
		c.showLocked(old)
		return
	}
	m.raised = map[engine.Code]bool{}
	c.members[m.id] = m
	c.showLocked(m)
}

func (c *crew) update(id string, change func(*member)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[id]
	if m == nil {
		return
	}
	change(m)
	c.showLocked(m)
}

// onViews takes what the queue says.
func (c *crew) onViews(views []queue.WorkerView) {
	for _, v := range views {
		c.update(string(v.ID), func(m *member) { m.view = v })
	}
}

// refresh looks again at what changes by time alone.
func (c *crew) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		c.showLocked(m)
	}
}

// pids lists the processes to sample.
func (c *crew) pids() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	for id, m := range c.members {
		if m.proc.PID > 0 {
			out[id] = m.proc.PID
		}
	}
	return out
}

// wait returns when until says yes, and looks again after every change. It gives ctx's error.
func (c *crew) wait(ctx context.Context, until func(get func(id string) (member, bool)) bool) error {
	for {
		c.mu.Lock()
		done := until(func(id string) (member, bool) {
			if m := c.members[id]; m != nil {
				return *m, true
			}
			return member{}, false
		})
		ch := c.changed
		c.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *crew) showLocked(m *member) {
	close(c.changed)
	c.changed = make(chan struct{})
	now := c.now()
	st, note := observe(m, now, c.born)
	c.judgeLocked(m, st, now)
	if m.id == verifierID {
		return // it counts and verifies; it is no data worker
	}
	row := engine.WorkerRow{Key: c.key(m.id), ID: prover.WorkerID(m.id), Core: m.core, CPU: m.cpu, NUMA: m.numa, State: st, Desired: engine.WishRun,
		Version: m.view.Version, Phase: m.view.Phase, Progress: m.view.Progress, HeardAt: m.view.HeardAt, LatencyMS: m.view.LatencyMS,
		JobsDone: m.view.Verified, Restarts: m.proc.Restarts, LastExit: m.proc.LastExit, Note: note, RSSBytes: m.view.RSSBytes}
	if m.view.Job != nil {
		job := *m.view.Job
		row.Job = &job
	}
	if m.proc.Wish == engine.WishHeld {
		row.Desired = engine.WishHeld
	}
	if p := m.view.Pause; p != nil {
		row.Desired, row.PauseUntil, row.PauseWhy = engine.WishPaused, p.Until, p.Reason
	}
	if m.proc.PID > 0 {
		pid, nice, at := m.proc.PID, m.nice, m.proc.StartedAt
		row.PID, row.Nice, row.StartedAt = &pid, &nice, &at
		if m.usage.pid == pid {
			row.CPUPercent = m.usage.cpuPercent
			if m.usage.rssBytes != nil {
				row.RSSBytes = m.usage.rssBytes
			}
		}
	}
	if !m.proc.RestartAt.IsZero() {
		at := m.proc.RestartAt
		row.RestartAt = &at
	}
	c.tell(state.PutWorker{Row: row})
}

// observe says in one word what a worker does, and why in a few more.
func observe(m *member, now, born time.Time) (engine.WorkerState, string) {
	p, v := m.proc, m.view
	switch p.State {
	case super.StateGivenUp:
		return engine.WorkerHeld, p.Problem
	case super.StateHeld, super.StateStopping:
		if v.Pause != nil {
			return engine.WorkerPaused, "process stopped"
		}
		return engine.WorkerHeld, "stopped on purpose"
	case super.StateBackoff:
		why := p.Problem
		if p.LastExit != nil && why == "" {
			why = p.LastExit.Cause
		}
		return engine.WorkerDown, why
	case super.StateStarting, "":
		return engine.WorkerStart, p.Problem
	}
	if !v.Connected {
		if now.Sub(p.StartedAt) < startPatience || now.Sub(born) < startPatience {
			return engine.WorkerStart, ""
		}
		return engine.WorkerStale, "the process runs and does not report"
	}
	if v.HeardAt != nil && now.Sub(*v.HeardAt) > staleAfter {
		return engine.WorkerStale, "heartbeat late"
	}
	note := ""
	if len(p.Shared) > 0 {
		note = fmt.Sprintf("shares CPU %d", p.Shared[0])
	}
	switch {
	case v.Pausing:
		return engine.WorkerPausing, note
	case v.Pause != nil:
		return engine.WorkerPaused, note
	case v.Job != nil:
		return engine.WorkerRun, note
	}
	return engine.WorkerIdle, note
}

// judgeLocked raises and clears the findings of one member.
func (c *crew) judgeLocked(m *member, st engine.WorkerState, now time.Time) {
	facts := []engine.Fact{{Name: "restarts", Value: fmt.Sprint(m.proc.Restarts)}}
	if x := m.proc.LastExit; x != nil && x.Cause != "" {
		facts = append(facts, engine.Fact{Name: "cause", Value: x.Cause})
	}
	if !m.proc.RestartAt.IsZero() {
		facts = append(facts, engine.Fact{Name: "restart_in", Value: engine.Span(max(m.proc.RestartAt.Sub(now), 0))})
	}
	down, dying := st == engine.WorkerDown, m.proc.State == super.StateGivenUp
	target := "worker/" + m.id
	if m.id == verifierID {
		target = "verifier"
		c.findingLocked(m, engine.FindVerifierDown, target, facts, down || dying || st == engine.WorkerStale)
		return
	}
	c.findingLocked(m, engine.FindWorkerDown, target, facts, down)
	c.findingLocked(m, engine.FindWorkerDying, target, facts, dying)
	stale := facts
	if m.view.HeardAt != nil {
		stale = append(slices.Clone(facts), engine.Fact{Name: "silent", Value: engine.Span(now.Sub(*m.view.HeardAt))})
	}
	c.findingLocked(m, engine.FindWorkerStale, target, stale, st == engine.WorkerStale)
	shared := facts
	if len(m.proc.Shared) > 0 {
		shared = append(slices.Clone(facts), engine.Fact{Name: "cpu", Value: fmt.Sprint(m.proc.Shared[0])})
	}
	c.findingLocked(m, engine.FindWorkerShared, target, shared, m.proc.PID > 0 && len(m.proc.Shared) > 0)
}

// findingLocked tells only changes: a finding that stays is not counted again.
func (c *crew) findingLocked(m *member, code engine.Code, target string, facts []engine.Fact, on bool) {
	if m.raised[code] == on {
		return
	}
	m.raised[code] = on
	if on {
		c.tell(state.Raise{Raise: engine.Raise{Code: code, Key: c.key(m.id), Target: target, Facts: facts}})
	} else {
		c.tell(state.Clear{Code: code, Key: c.key(m.id)})
	}
}

// workers is the configured number of data workers. One CPU is kept free for the
// engine where there is more than one.
func (e *Engine) workers() int {
	if n := e.o.Config.Workers; n >= 0 {
		return n
	}
	return max(1, len(allowedCPUs())-1)
}

// allowedCPUs are the CPUs this process may use, in the kernel's order.
func allowedCPUs() []prover.CPU {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var out []prover.CPU
	for i := 0; len(out) < set.Count(); i++ {
		if set.IsSet(i) {
			out = append(out, prover.CPU(i))
		}
	}
	return out
}

// place gives the CPU of a core: core 1 the second CPU, so that the first one stays
// free for the engine as long as there are fewer workers than CPUs.
func place(c prover.Core, cpus []prover.CPU) *prover.CPU {
	if len(cpus) == 0 {
		return nil
	}
	cpu := cpus[int(c)%len(cpus)]
	return &cpu
}

// numaOf reads the NUMA node of a CPU; nil when the machine does not say.
func numaOf(cpu *prover.CPU) *int {
	if cpu == nil {
		return nil
	}
	nodes, _ := filepath.Glob(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/node*", *cpu))
	for _, n := range nodes {
		var i int
		if _, err := fmt.Sscanf(filepath.Base(n), "node%d", &i); err == nil {
			return &i
		}
	}
	return nil
}

func (e *Engine) startSuper(ctx context.Context) error {
	e.crew = newCrew(e.machine, e.state.Tell)
	e.fleet = &fleet{machine: e.machine, tell: e.state.Tell}
	s, err := super.New(super.Options{Spawner: e.scope("super"), Handles: handles{e.store.Shelf("handles")}, OnChange: e.onProcess,
		Logger: e.log, Owner: e.o.Config.StateDir})
	if err != nil {
		return err
	}
	e.super = s
	cpus := allowedCPUs()
	for i := range e.workers() {
		core := prover.Core(i + 1)
		cpu := place(core, cpus)
		e.crew.add(&member{id: string(prover.WorkerFor(core)), core: core, cpu: cpu, numa: numaOf(cpu), nice: e.o.Config.WorkerNice})
	}
	if e.proves() {
		e.crew.add(&member{id: verifierID})
	}
	return nil
}

// onProcess hears of every change of a process, in order.
func (e *Engine) onProcess(st super.Status) {
	e.fleet.onProcess(st)
	before := 0
	e.crew.update(st.ID, func(m *member) { before, m.proc = m.proc.PID, st })
	note := func(what string, level engine.Level, text string) {
		e.state.Tell(state.Note{Entry: engine.Entry{What: what, Level: level, Key: e.crew.key(st.ID), Text: text}})
	}
	switch st.Event {
	case super.EventStarted:
		note("worker.start", engine.LevelNote, fmt.Sprintf("%s runs, pid %d", st.ID, st.PID))
	case super.EventAdopted:
		note("worker.adopted", engine.LevelNote, fmt.Sprintf("%s has been running since %s and was taken up, pid %d", st.ID, st.StartedAt.UTC().Format(time.RFC3339), st.PID))
	case super.EventExited:
		cause := "ended"
		if st.LastExit != nil && st.LastExit.Cause != "" {
			cause = st.LastExit.Cause
		}
		level := engine.LevelWarn
		if st.Asked {
			level = engine.LevelNote
		}
		note("worker.exit", level, st.ID+": "+cause)
		e.log.Warn("worker.exit", "worker", st.ID, "cause", cause, "asked", st.Asked)
		e.workerExited(st.ID, before)
	case super.EventGivenUp:
		note("worker.given-up", engine.LevelCrit, st.ID+": "+st.Problem)
	}
}

// workerExited frees the job of a process that ended, with the result that it may have left.
func (e *Engine) workerExited(id string, pid int) {
	if e.queue == nil {
		return // ended before this engine began to lease: its lease is judged when the queue starts
	}
	left, err := run.ReadResult(e.runDir(id))
	if err != nil {
		e.log.Warn("worker.result", "worker", id, "err", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.queue.WorkerExited(ctx, prover.WorkerID(id), pid, left); err != nil && !errors.Is(err, queue.ErrStopped) {
		e.log.Warn("queue.worker-exited", "worker", id, "err", err)
	}
}

// runDir is the worker's own directory: token, lock and undelivered result. The
// directory above is the supervisor's.
func (e *Engine) runDir(id string) string { return e.path("workers", id, "run") }

func (e *Engine) workerSocket() string {
	return e.o.Config.WorkerSocketPath()
}

// token gives the token of a worker, which was made with its directory.
func (e *Engine) token(id prover.WorkerID, _ prover.WorkerRole) (run.Token, error) {
	e.crew.mu.Lock()
	known := e.crew.members[string(id)] != nil
	e.crew.mu.Unlock()
	if !known {
		return run.Token{}, fmt.Errorf("there is no worker %q here", id)
	}
	return run.ReadToken(filepath.Join(e.runDir(string(id)), tokenFile))
}

// startWorkers takes up what runs and starts the rest.
func (e *Engine) startWorkers(ctx context.Context) error {
	adopted, err := e.super.Adopt(ctx)
	if err != nil {
		e.log.Warn("super.adopt", "err", err)
	}
	var want []string
	if e.proves() {
		want = append(want, verifierID)
	}
	for i := range e.workers() {
		want = append(want, string(prover.WorkerFor(prover.Core(i+1))))
	}
	for _, st := range adopted {
		e.crew.update(st.ID, func(m *member) { m.proc = st })
	}
	for _, st := range e.super.List() {
		if !slices.Contains(want, st.ID) && !e.isNode(st.ID) {
			e.log.Info("worker.remove", "worker", st.ID)
			id := st.ID
			e.scopes["super"].Go("super.remove", func(ctx context.Context) error { return e.super.Stop(ctx, id) })
		}
	}
	for _, id := range want {
		if err := e.startWorker(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// isNode tells whether a process is that of a configured node.
func (e *Engine) isNode(id string) bool {
	if e.o.Config.ClusterDir == "" {
		return false
	}
	dirs, err := nodeDirsOf(e.o.Config.ClusterDir)
	return err == nil && slices.ContainsFunc(dirs, func(d string) bool { return filepath.Base(d) == id })
}

func (e *Engine) startWorker(ctx context.Context, id string) error {
	dir := e.runDir(id)
	if err := privateDir(dir); err != nil {
		return err
	}
	tok := filepath.Join(dir, tokenFile)
	if _, err := os.Stat(tok); errors.Is(err, os.ErrNotExist) {
		if err := run.NewToken().WriteFile(tok); err != nil {
			return fmt.Errorf("start %s: write its token: %w", id, err)
		}
	}
	args := workerArgs{id: id, role: string(prover.RoleProve), socket: e.workerSocket(), dir: dir, blobs: e.path("blobs"), threads: 1}
	spec := super.Spec{ID: id, Dir: filepath.Dir(dir), LogFile: e.path("logs", id+".log"), Nice: e.o.Config.WorkerNice,
		MemoryMaxBytes: e.o.Config.WorkerMemory, StopGrace: e.o.Config.WorkerStop, ShareCPUs: true}
	if id == verifierID {
		args.role = string(prover.RoleVerify)
		spec.MemoryMaxBytes, spec.Nice = 0, 0
	} else {
		e.crew.mu.Lock()
		if m := e.crew.members[id]; m != nil && m.cpu != nil {
			spec.CPUs = []prover.CPU{*m.cpu}
		}
		e.crew.mu.Unlock()
	}
	spec.Argv = args.argv()
	if err := e.super.Start(ctx, spec); err != nil {
		return fmt.Errorf("start %s: %w", id, err)
	}
	return nil
}

// handles keeps process handles on a shelf of the store.
type handles struct {
	shelf interface {
		Put(id string, doc []byte) error
		Delete(id string) error
		All() (map[string][]byte, error)
	}
}

func (h handles) SaveHandle(id string, json []byte) error { return h.shelf.Put(id, json) }
func (h handles) LoadHandles() (map[string][]byte, error) { return h.shelf.All() }
func (h handles) DeleteHandle(id string) error            { return h.shelf.Delete(id) }
