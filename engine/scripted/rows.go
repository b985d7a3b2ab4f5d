package scripted

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

const (
	version   = "scripted"
	gib       = uint64(1) << 30
	mib       = uint64(1) << 20
	finished  = 200              // jobs that have ended, listed
	ended     = 10 * time.Second // how far back they are looked for
	trendStep = 5 * time.Second
	trendLen  = 120
)

// snapshot makes what is published at this moment. Sections that did not change
// are those of the last one, and rows that did not change keep what they point to.
func (s *script) snapshot() *engine.Snapshot {
	// Numbers follow from the moment alone, so that the same moment gives the same
	// snapshot however it was reached; acts add to them.
	s.pub = max(uint64(s.at/beat)+1, s.pub)
	if s.dirty && s.snap != nil && s.pub == s.snap.Gen {
		s.pub++
	}
	s.dirty = false
	old := s.snap
	if old == nil {
		old = &engine.Snapshot{}
	}
	n := &engine.Snapshot{Schema: engine.SnapshotSchema, Gen: s.pub, At: s.wall(s.at)}
	slow := floor(s.at, reading) // what is read slowly shows the moment at which it was read
	n.Engine = one(s, old.Engine, engine.SecEngine, math.MinInt64, s.info)
	n.Machines = section(s, old.Machines, engine.SecMachines, slow, func([]engine.MachineRow) []engine.MachineRow { return s.machineRows(slow) })
	n.Workers = section(s, old.Workers, engine.SecWorkers, s.at, s.workerRows)
	n.GPUs = section(s, old.GPUs, engine.SecGPUs, slow, func([]engine.GPURow) []engine.GPURow { return s.gpuRows(slow) })
	if v, _, news := s.version(engine.SecJobs, s.at); news || old.Jobs == nil {
		n.Jobs = s.jobSection(v, n.Workers.Rows)
	} else {
		n.Jobs = old.Jobs
	}
	n.Nodes = section(s, old.Nodes, engine.SecNodes, math.MinInt64, func([]engine.NodeRow) []engine.NodeRow { return s.nodeRows() })
	n.Acts = section(s, old.Acts, engine.SecActs, s.lastAct(), func([]engine.ActRow) []engine.ActRow { return s.actRows() })
	alerts := s.lastTrouble()
	n.Alerts = section(s, old.Alerts, engine.SecAlerts, alerts, func([]engine.Finding) []engine.Finding { return s.findings() })
	moved := max(alerts, s.lastAct())
	if s.validators > 0 {
		heard := told(s.at)
		n.Clusters = section(s, old.Clusters, engine.SecClusters, heard, func([]engine.ClusterRow) []engine.ClusterRow { return s.clusterRows(heard) })
		n.Duties = section(s, old.Duties, engine.SecDuties, heard, func([]engine.DutyRow) []engine.DutyRow { return s.dutyRows(heard) })
		n.Validators = section(s, old.Validators, engine.SecValidators, heard, func([]engine.ValidatorRow) []engine.ValidatorRow { return s.validatorRows(heard) })
		n.Peers = section(s, old.Peers, engine.SecPeers, heard, func([]engine.PeerRow) []engine.PeerRow { return s.peerRows(heard) })
		n.Beacons = section(s, old.Beacons, engine.SecBeacons, heard, func([]engine.BeaconRow) []engine.BeaconRow { return s.beaconRows(heard) })
		moved = max(moved, heard)
	}
	n.Verdict = one(s, old.Verdict, engine.SecVerdict, moved, func() engine.Verdict {
		return s.verdict(n.Alerts.Rows, n.Clusters.List(), s.since(engine.SecVerdict, moved))
	})
	n.Sources = section(s, old.Sources, engine.SecSources, slow, func([]engine.SourceRow) []engine.SourceRow { return s.sourceRows(slow) })
	n.Trends = section(s, old.Trends, engine.SecTrends, floor(s.at, trendStep), func([]engine.Trend) []engine.Trend { return s.trendRows(floor(s.at, trendStep)) })
	s.snap = n
	return n
}

// version is a section's number and time when the script last changed it at a moment,
// and whether it is another one than published.
func (s *script) version(name engine.SectionName, last time.Duration) (uint64, time.Time, bool) {
	v := max(uint64(max(ceil(min(max(last, 0), s.at), beat), 0)/beat)+1, s.touched[name])
	v = min(v, s.pub)
	v = max(v, s.lastAt[name])
	news := v != s.lastAt[name]
	s.lastAt[name] = v
	return uint64(s.start.UnixMilli()) + v, s.wall(min(time.Duration(v-1)*beat, s.at)), news
}

// since is the time that version gives a section.
func (s *script) since(name engine.SectionName, last time.Duration) time.Time {
	v := min(max(uint64(max(ceil(min(max(last, 0), s.at), beat), 0)/beat)+1, s.touched[name]), s.pub)
	return s.wall(min(time.Duration(v-1)*beat, s.at))
}

func section[T any](s *script, old *engine.Section[T], name engine.SectionName, last time.Duration, rows func([]T) []T) *engine.Section[T] {
	v, at, news := s.version(name, last)
	if !news && old != nil {
		return old
	}
	out := rows(old.List())
	if out == nil {
		out = []T{}
	}
	return &engine.Section[T]{Version: v, At: at, Rows: out}
}

func one[T any](s *script, old *engine.One[T], name engine.SectionName, last time.Duration, value func() T) *engine.One[T] {
	v, at, news := s.version(name, last)
	if !news && old != nil {
		return old
	}
	return &engine.One[T]{Version: v, At: at, Value: value()}
}

func ref[T any](v T) *T { return &v }

func (s *script) info() engine.Info {
	roles := []engine.Role{engine.RoleMachine, engine.RoleControl, engine.RoleWorkers, engine.RoleDV}
	return engine.Info{ID: fmt.Sprintf("scripted-%d", s.seed), Name: "scripted", Machine: s.hosts[0].name, StateDir: "(none)", PID: 4121, Version: version,
		StartedAt: s.wall(-31 * minute), Roles: roles, Viewers: s.viewers, Unlocked: s.open, Practice: Practice, RSSBytes: ref(212 * mib)}
}

// values keeps what a worker's row points to together: one piece of memory a row.
type values struct {
	cpu              prover.CPU
	numa, nice, pid  int
	job              prover.JobID
	progress, use    float64
	latency          float64
	rss              uint64
	heard, start, to time.Time
	restart          time.Time
}

// workerRows changes only the rows that were read, or whose state changed, since the last publication.
func (s *script) workerRows(old []engine.WorkerRow) []engine.WorkerRow {
	rows := make([]engine.WorkerRow, len(s.workers))
	copy(rows, old)
	for i := range s.workers {
		w := &s.workers[i]
		now := made{read: w.read(s.at), rev: len(w.outs)}
		now.state, now.out = w.state(s.at)
		if len(s.jobs) > 0 {
			now.lent = s.lent(i)
		}
		if now == w.made && len(old) > 0 {
			continue
		}
		w.made = now
		rows[i] = s.workerRow(i, now)
	}
	return append(rows, s.beside.workers...)
}

func (s *script) workerRow(i int, m made) engine.WorkerRow {
	w := &s.workers[i]
	work, frozen := w.work(s.at)
	n, part := w.job(work)
	v := &values{cpu: w.cpu, numa: w.numa, nice: 10, pid: w.pid}
	r := engine.WorkerRow{Key: s.workerKey(i), ID: w.id, Core: w.core, CPU: &v.cpu, NUMA: &v.numa, State: m.state, Desired: engine.WishRun, Nice: &v.nice,
		Version: version, JobsDone: w.base + uint64(max(n, 0))}
	began, since := w.since, w.since
	for j := range w.outs {
		o := &w.outs[j]
		if o.from > s.at {
			break
		}
		if o.exit != nil {
			r.LastExit = o.exit
		}
		if o.kind == outDown || o.kind == outHeld {
			r.Restarts++
		}
		if o.to <= s.at {
			since = o.to
			if o.newProcess() {
				v.pid += 7
				began = o.to
			}
		}
	}
	alive := true
	if m.out >= 0 {
		o := &w.outs[m.out]
		since = o.from
		r.Note = o.why
		switch o.kind {
		case outPaused:
			r.Desired, r.PauseWhy, r.Note = engine.WishPaused, o.why, ""
			if o.to != never {
				v.to = s.wall(o.to)
				r.PauseUntil = &v.to
			}
			if m.state != engine.WorkerPausing {
				since = o.then
				alive = !o.stop
			}
			if m.state == engine.WorkerStart {
				since, alive, r.Desired = o.to-3*second, true, engine.WishRun
			}
		case outRestart:
			if m.state == engine.WorkerStart {
				since, began = o.then, o.then
				v.pid += 7
			}
		case outDown:
			if alive = m.state == engine.WorkerStart; alive {
				since, began = o.then, o.then
				v.pid += 7
			} else {
				v.restart = s.wall(o.then)
				r.RestartAt = &v.restart
			}
		case outHeld:
			alive = false
			r.Desired = engine.WishHeld
			r.Restarts += 4
		case outGone:
			alive = false
		case outStart:
			began = o.from
		}
	}
	if m.state == engine.WorkerIdle {
		since = w.read(s.at)
		r.Note = "waits for a job"
	}
	r.Since = s.wall(since)
	heard := m.read
	if m.out >= 0 && (m.state == engine.WorkerStale || !alive || m.state == engine.WorkerUnknown) {
		heard = min(heard, w.outs[m.out].from)
	}
	if m.state != engine.WorkerUnknown {
		v.heard = s.wall(heard)
		r.HeardAt = &v.heard
	}
	if !alive || m.state == engine.WorkerUnknown {
		if m.state == engine.WorkerUnknown {
			r.Version = ""
		}
		return r
	}
	v.start = s.wall(began)
	r.PID, r.StartedAt = &v.pid, &v.start
	tick := int64(heard / second)
	v.latency = 1.5 + 3*s.part('L', int64(i), tick)
	v.use, v.rss = 0, 310*mib
	r.CPUPercent, r.RSSBytes, r.LatencyMS = &v.use, &v.rss, &v.latency
	if m.state == engine.WorkerStale {
		v.latency = 310
	}
	if s.hosts[w.host].name == "m17" {
		v.rss = 1000*mib + uint64(s.part('M', int64(i), tick)*float64(200*mib))
	}
	switch m.state {
	case engine.WorkerRun, engine.WorkerPausing, engine.WorkerStale:
	default:
		return r
	}
	if frozen && m.state == engine.WorkerRun {
		return r
	}
	v.job, v.progress = s.jobID(i, n), part
	if m.lent != nil {
		v.job, v.progress = m.lent.id, m.lent.part(s.at)
	}
	r.Job, r.Progress, r.Phase = &v.job, &v.progress, phase(v.progress)
	v.use = 93 + 6*s.part('U', int64(i), tick)
	if v.rss < 512*mib {
		v.rss = 380*mib + uint64(part*float64(120*mib)) + s.hash('m', int64(i), tick)%(8*mib)
	}
	return r
}

func (s *script) jobID(worker int, n int64) prover.JobID {
	return prover.JobIDFor("scripted/"+strconv.FormatUint(s.seed, 10)+"/"+strconv.Itoa(worker), int(n))
}

func (s *script) badJob() prover.JobID {
	return prover.JobIDFor("scripted/"+strconv.FormatUint(s.seed, 10)+"/bad", 17)
}

var phases = []prover.Phase{prover.PhaseLoad, prover.PhaseABC, prover.PhaseFFT, prover.PhaseA, prover.PhaseB1, prover.PhaseB2, prover.PhaseC, prover.PhaseH}

func phase(part float64) prover.Phase {
	return phases[min(max(int(part*float64(len(phases))), 0), len(phases)-1)]
}

const constraints = 1 << 20

// jobSection lists a job for each worker that has one, those asked for by hand,
// and the newest that have ended. Rows of workers that were not read since are kept.
func (s *script) jobSection(v uint64, workers []engine.WorkerRow) *engine.Jobs {
	out := &engine.Jobs{Version: v, At: s.wall(s.at)}
	rows := make([]engine.JobRow, 0, len(s.workers)+finished+len(s.jobs)+1)
	t := &out.Totals
	type end struct {
		at     time.Duration
		worker int
	}
	var ends []end
	lastMinute := 0
	for i := range s.workers {
		r, w := &workers[i], &s.workers[i]
		t.Verified += r.JobsDone
		if r.Job == nil && r.State != engine.WorkerIdle {
			continue
		}
		work, _ := w.work(s.at)
		n, part := w.job(work)
		began := w.read(s.at) - time.Duration(part*float64(w.take)).Round(beat)
		if r.Job != nil && w.made.lent == nil { // a job asked for by hand is listed with those
			if w.hand.Progress != r.Progress {
				w.hand = engine.JobRow{Key: s.here(string(*r.Job)), ID: *r.Job, Kind: prover.Groth16Zkey, Constraints: constraints, State: prover.JobLeased, Attempts: 1,
					Worker: w.id, Phase: r.Phase, Progress: r.Progress, SubmittedAt: s.wall(began - 3*second), SubmittedBy: "feeder", StartedAt: s.wallp(began)}
			}
			rows = append(rows, w.hand)
			t.Leased++
		}
		if n > 0 && s.at-began < minute {
			lastMinute++ // one at most: each takes longer
			if s.at-began < ended && len(w.outs) == 0 {
				if w.lastN != n-1 {
					id := s.jobID(i, n-1)
					w.lastN, w.last = n-1, engine.JobRow{Key: s.here(string(id)), ID: id, Kind: prover.Groth16Zkey, Constraints: constraints, State: prover.JobVerified, Attempts: 1, Worker: w.id,
						SubmittedAt: s.wall(began - w.take - 3*second), SubmittedBy: "feeder", StartedAt: s.wallp(began - w.take), FinishedAt: s.wallp(began + second), ProveMS: ref(float64(w.take.Milliseconds() - 900))}
				}
				ends = append(ends, end{began, i})
			}
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(a.worker, b.worker)) })
	for _, e := range ends[:min(len(ends), finished)] {
		r := s.workers[e.worker].last
		if s.at-e.at < second { // the verifier has it
			r.State, r.Phase, r.FinishedAt = prover.JobProved, prover.PhaseVerify, nil
			t.Proved++
			t.Verified--
		}
		rows = append(rows, r)
	}
	if len(s.workers) > 0 {
		id := s.badJob()
		rows = append(rows, engine.JobRow{Key: s.here(string(id)), ID: id, Kind: prover.Groth16Zkey, Name: "night-run 17", Constraints: constraints, State: prover.JobFailed, Attempts: 1, Worker: s.workers[0].id,
			SubmittedAt: s.wall(-12 * minute), SubmittedBy: "ana", StartedAt: s.wallp(-12*minute + second), FinishedAt: s.wallp(-11 * minute),
			Failure: &prover.Failure{Code: prover.FailWitnessMismatch, Text: "the witness has 2,096 values, the key wants 1,048,577: it belongs to another circuit"}})
		t.Failed++
		t.PerMinute = ref(float64(lastMinute))
	}
	for _, a := range s.jobs {
		r := a.row(s)
		switch r.State {
		case prover.JobQueued:
			t.Queued++
		case prover.JobLeased:
			t.Leased++
		case prover.JobProved:
			t.Proved++
		case prover.JobVerified:
			t.Verified++
		case prover.JobCancelled:
			t.Cancelled++
		}
		rows = append(rows, r)
	}
	t.Submitted = t.Queued + t.Leased + t.Proved + t.Verified + t.Failed + t.Cancelled
	listed := 0
	for i := range rows {
		if rows[i].State.Final() {
			listed++
		}
	}
	out.Rows = rows
	out.Hidden = int(t.Verified+t.Failed+t.Cancelled) - listed
	return out
}

func read[T any](s *script, at time.Duration, every time.Duration, v T) engine.Reading[T] {
	return engine.Reading[T]{Value: &v, At: s.wallp(floor(at, every)), PeriodS: every.Seconds()}
}

func (s *script) machineRows(now time.Duration) []engine.MachineRow {
	rows := make([]engine.MachineRow, len(s.hosts))
	for h := range s.hosts {
		x := &s.hosts[h]
		heard := now
		for _, w := range x.silent {
			if w.has(now) {
				heard = w.from
			}
		}
		n := int64(h)
		tick := int64(now / reading)
		busy := float64(x.to - x.from)
		for i := x.from; i < x.to; i++ {
			if o := s.workers[i].out(now); o >= 0 && s.workers[i].outs[o].kind != outStale {
				busy--
			}
		}
		cpus := max(x.to-x.from+16, 16) / 16 * 16
		per := make([]float64, cpus)
		sum := 0.0
		for i := range per {
			per[i] = math.Round(4 * s.part('p', n*1000+int64(i), tick/5))
			if i > 0 && float64(i) <= busy {
				per[i] += 95
			}
			sum += per[i]
		}
		load := busy + 2*s.part('c', n, tick)
		total, left := 256*gib, 150*gib+s.hash('a', n, tick/3)%(4*gib)
		if x.name == "m17" {
			total, left = 64*gib, gib+s.hash('a', n, tick/3)%(64*mib)
		}
		r := engine.MachineRow{Key: engine.Key{Machine: x.name}, Hostname: x.name + ".practice", Roles: s.roles(h)}
		r.CPU = read(s, now, reading, engine.CPUStat{Model: "AMD EPYC 9354 (scripted)", LogicalCPUs: cpus, Cores: ref(cpus / 2), Load1: load, Load5: load - 0.4, Load15: busy,
			UsePercent: ref(sum / float64(cpus)), PerCPU: per, StealPercent: ref(0.0)})
		r.Memory = read(s, now, reading, engine.MemoryStat{TotalBytes: total, AvailableBytes: left, SwapTotalBytes: 8 * gib, SwapUsedBytes: 12 * mib, THP: "madvise"})
		full := 0.35 + 0.4*s.part('k', n, 0)
		if x.name == "m22" {
			full = 0.81
		}
		size := 1800 * gib
		free := uint64(float64(size)*(1-full)) - uint64(floor(now, 30*second)/minute)*mib
		r.Disks = read(s, now, 30*second, []engine.DiskStat{{Path: "/var/lib/provost", What: "state", FSType: "ext4", TotalBytes: size, FreeBytes: free, InodesTotal: ref(uint64(120_000_000)), InodesFree: ref(uint64(118_000_000))}})
		r.Clock = read(s, now, minute, engine.ClockStat{OffsetMS: ref(math.Round((s.part('C', n, int64(now/minute))-0.5)*60) / 10), ErrorMS: ref(0.8), Synced: ref(true), Source: "kernel (adjtimex)"})
		r.System = read(s, now, hour, x.fixed)
		r.Hugepages = read(s, heard, reading, s.pools(h))
		r.GPUDriver = read(s, heard, minute, engine.GPUDriver{Why: "no NVIDIA driver", TookMS: 0.1})
		if g := s.gpusOf(h); g > 0 {
			r.GPUDriver = read(s, heard, minute, engine.GPUDriver{Version: "570.86.15", CUDA: "12.8", Count: g, TookMS: 3 + 6*s.part('g', n, int64(heard/minute))})
		}
		if heard != now {
			r.Hugepages.Problem = "did not answer within 2 s"
			r.GPUDriver.Problem = r.Hugepages.Problem
		}
		rows[h] = r
	}
	return rows
}

func (s *script) roles(h int) []engine.Role {
	if s.gpusOf(h) > 0 {
		return append(slices.Clip(s.hosts[h].roles), engine.RoleProver)
	}
	return s.hosts[h].roles
}

// pools gives a machine's hugepages: 2 MiB pages on two NUMA nodes.
func (s *script) pools(h int) []prover.HugePool {
	total, free := uint64(512), uint64(500)
	reserved := uint64(0)
	if s.gpusOf(h) > 0 {
		switch h % 4 {
		case 3:
			total, free = 15000, 0
		case 2:
			total, free, reserved = 15000, 14, 8
		case 0:
			total, free = 15000, 14
		}
		if s.hosts[h].name == "m07" {
			total, free = 30000, 15014
		}
	}
	a, b := free-free/2, free/2
	if free == 14 {
		a, b = 14, 0
	}
	return []prover.HugePool{
		{PageKiB: 2048, Total: total, Free: free, Reserved: reserved, NUMA: []prover.NUMAPool{{Node: 0, Total: total / 2, Free: a}, {Node: 1, Total: total - total/2, Free: b}}},
		{PageKiB: 1 << 20, NUMA: []prover.NUMAPool{{Node: 0}, {Node: 1}}},
	}
}

// device is a GPU of the script.
type device struct {
	host, index int
	model       string
	memory      prover.MiB
	limit       float64
	hot         []window
	idle, lost  bool
}

// devices places GPUs on machines.
func (s *script) devices(n int) {
	places := [][2]int{{2, 0}, {2, 1}, {2, 2}, {2, 3}, {3, 0}, {3, 1}, {6, 0}, {8, 0}, {10, 0}}
	for i := range n {
		d := device{model: "NVIDIA GeForce RTX 4090", memory: 24564, limit: 450, idle: i == 5, lost: i == 8}
		if i < len(places) {
			d.host, d.index = places[i][0], places[i][1]
		} else {
			d.host, d.index = 11+(i-len(places))/8, (i-len(places))%8
		}
		d.host %= len(s.hosts)
		if i == 6 {
			d.model, d.memory, d.limit = "NVIDIA H200", 143771, 700
		}
		d.index = 0
		for j := range s.gpus {
			if s.gpus[j].host == d.host {
				d.index++
			}
		}
		s.gpus = append(s.gpus, d)
	}
}

func (s *script) gpusOf(h int) int {
	n := 0
	for i := range s.gpus {
		if s.gpus[i].host == h {
			n++
		}
	}
	return n
}

func (s *script) gpuName(i int) string {
	return s.hosts[s.gpus[i].host].name + "/" + strconv.Itoa(s.gpus[i].index)
}

func (s *script) gpuKey(i int) engine.Key {
	x := s.hash('G', int64(i), 0)
	return engine.Key{Machine: s.hosts[s.gpus[i].host].name, ID: fmt.Sprintf("GPU-%08x-%04x-4000-8000-%012x", uint32(x), uint16(x>>32), x&0xffffffffffff)}
}

func (s *script) gpuHot(i int, at time.Duration) bool {
	return slices.ContainsFunc(s.gpus[i].hot, func(w window) bool { return w.has(at) })
}

// gpuUse is a GPU's use and temperature at a moment.
func (s *script) gpuUse(i int, at time.Duration) (use, temp float64) {
	d, tick := &s.gpus[i], int64(floor(at, reading)/reading)
	use, temp = 94+math.Round(5*s.part('q', int64(i), tick)), 69+math.Round(3*s.part('r', int64(i), tick/8))
	switch {
	case d.idle:
		return 0, 38
	case s.gpuHot(i, at):
		return use - 2, 84
	case d.limit > 450:
		return use - 8, temp - 9
	}
	return use, temp
}

func (s *script) gpuRows(now time.Duration) []engine.GPURow {
	rows := make([]engine.GPURow, len(s.gpus))
	for i := range s.gpus {
		d := &s.gpus[i]
		at := now
		for _, w := range s.hosts[d.host].silent {
			if w.has(now) {
				at = w.from
			}
		}
		key := s.gpuKey(i)
		g := prover.GPU{Index: d.index, UUID: key.ID, Model: d.model}
		r := engine.GPURow{Key: key, At: s.wall(at), PeriodS: reading.Seconds(), State: "run"}
		if d.lost {
			r.State = "lost"
			g.Lost, g.XID = "XID 79: it fell off the bus at "+s.wall(-172*minute).Format("15:04:05Z")+"; reboot the machine or reseat the card", ref(uint64(79))
			r.GPU = g
			rows[i] = r
			continue
		}
		use, temp := s.gpuUse(i, at)
		tick := int64(at / reading)
		used := prover.MiB(float64(d.memory)*0.92) + prover.MiB(s.hash('w', int64(i), tick)%64)
		power, clock, fan := d.limit*0.9+math.Round(9*s.part('W', int64(i), tick)), 2520.0, 68.0
		g.Throttle = []string{}
		switch {
		case d.idle:
			r.State, used, power, clock, fan = "idle", 412, 22, 210, 0
		case s.gpuHot(i, at):
			r.State, power, clock, fan = "hot", power-14, 1905, 100
			g.Throttle = []string{"thermal (software)"}
		}
		if d.limit > 450 {
			used, power, clock = prover.MiB(98304)+prover.MiB(s.hash('w', int64(i), tick)%64), 540+math.Round(9*s.part('W', int64(i), tick)), 1785
			g.ECCErrors, g.MIG = ref(uint64(0)), ref(false)
		} else {
			g.FanPercent = &fan
		}
		g.UtilPercent, g.MemUsed, g.MemTotal, g.TempC, g.PowerW, g.PowerLimitW, g.ClockMHz = &use, &used, &d.memory, &temp, &power, &d.limit, &clock
		g.XID, g.PCIEGen, g.PCIEWidth, g.NUMA = ref(uint64(0)), ref(4), ref(16), ref(d.index/2%2)
		g.PIDs = []int{}
		if !d.idle {
			job := prover.JobIDFor("scripted/gpu/"+strconv.Itoa(i), int(at/(20*minute)))
			r.Job, g.PIDs = &job, []int{9000 + i}
		}
		r.GPU = g
		rows[i] = r
	}
	return rows
}

func (s *script) nodeRows() []engine.NodeRow {
	if s.validators == 0 {
		return nil
	}
	rows := make([]engine.NodeRow, dvNodes)
	for i := range rows {
		name := fmt.Sprintf("node%d", i)
		rows[i] = engine.NodeRow{Key: s.nodeKey(i, name), Dir: "/srv/practice/" + name, Name: "practice", Network: "hoodi",
			LockHash: s.lockHash(), ShareIndex: ref(i + 1), Operators: dvNodes, Threshold: dvThreshold, Validators: s.validators, State: "read"}
	}
	return rows
}

func (s *script) sourceRows(now time.Duration) []engine.SourceRow {
	heard := 0
	for i := range s.workers {
		o := s.workers[i].out(now)
		if o < 0 || s.workers[i].outs[o].kind == outPaused || s.workers[i].outs[o].kind == outRestart {
			heard++
		}
	}
	row := func(name string, at time.Duration, every time.Duration, problem, detail string) engine.SourceRow {
		return engine.SourceRow{Key: s.here(name), Name: name, At: s.wallp(at), PeriodS: every.Seconds(), Problem: problem, Detail: detail}
	}
	rows := []engine.SourceRow{
		row("host", now, reading, "", fmt.Sprintf("%d machines", len(s.hosts))),
		row("workers", now, reading, "", fmt.Sprintf("%d of %d heard", heard, len(s.workers))),
	}
	seen := map[int]bool{}
	for i := range s.gpus {
		h := s.gpus[i].host
		if seen[h] {
			continue
		}
		seen[h] = true
		at, problem := now, ""
		for _, w := range s.hosts[h].silent {
			if w.has(now) {
				at, problem = w.from, "did not answer within 2 s"
			}
		}
		rows = append(rows, row("gpu/"+s.hosts[h].name, at, reading, problem, fmt.Sprintf("%d devices", s.gpusOf(h))))
	}
	return append(rows, row("clock", floor(now, minute), minute, "", "kernel"))
}

// lastTrouble is when the findings last changed.
func (s *script) lastTrouble() time.Duration {
	last := time.Duration(0)
	see := func(at time.Duration) {
		if at <= s.at {
			last = max(last, at)
		}
	}
	for _, m := range s.acked {
		if m.muted != nil {
			see(m.until)
		}
	}
	for _, t := range s.trouble {
		see(t.from)
		if t.to != never {
			see(t.to)
			see(t.to + cycle)
		}
		if t.every > 0 && t.from <= s.at {
			see(t.from + floor(min(s.at, t.to-1)-t.from, t.every))
		}
	}
	return last
}

func (s *script) findings() []engine.Finding {
	var rows []engine.Finding
	for _, t := range s.trouble {
		if t.from > s.at || t.to <= s.at-cycle {
			continue
		}
		f := t.f
		f.Since, f.Last = s.wall(t.from), s.wall(t.from)
		f.Count = max(f.Count, 1)
		if t.every > 0 {
			n := (min(s.at, t.to-1) - t.from) / t.every
			f.Count += int(n)
			f.Last = s.wall(t.from + n*t.every)
		}
		if t.to <= s.at {
			f.ClosedAt = s.wallp(t.to)
		}
		if m, ok := s.acked[f.ID]; ok {
			if m.by != "" {
				f.AckBy, f.AckAt = m.by, ref(m.at)
			}
			if m.muted != nil && m.until > s.at {
				f.MuteUntil = m.muted
			}
		}
		rows = append(rows, f)
	}
	slices.SortStableFunc(rows, func(a, b engine.Finding) int {
		switch {
		case (a.ClosedAt == nil) != (b.ClosedAt == nil):
			if a.ClosedAt == nil {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Level.Rank(), a.Level.Rank()), b.Since.Compare(a.Since), cmp.Compare(a.ID, b.ID))
	})
	return rows
}

func (s *script) verdict(findings []engine.Finding, clusters []engine.ClusterRow, now time.Time) engine.Verdict {
	v := engine.Verdict{Word: engine.VerdictOK, Reasons: []engine.VerdictReason{}, Since: s.wall(-31 * minute)}
	var muted []engine.VerdictReason
	for i := range findings {
		f := &findings[i]
		if f.ClosedAt != nil || f.Level.Rank() < engine.LevelWarn.Rank() {
			continue
		}
		if slices.ContainsFunc(findings, func(o engine.Finding) bool {
			return o.ClosedAt == nil && o.Key.Machine == f.Key.Machine && slices.Contains(f.DependsOn, o.Code)
		}) {
			continue
		}
		word := engine.VerdictDegraded
		if f.Level == engine.LevelCrit {
			word = engine.VerdictCritical
		}
		if v.Word == engine.VerdictOK || word == engine.VerdictCritical && v.Word != word {
			v.Word, v.Since = word, f.Since
		} else if word == v.Word && f.Since.Before(v.Since) {
			v.Since = f.Since
		}
		r := engine.VerdictReason{Level: f.Level, Rule: f.Code, Target: f.Target, Since: f.Since, Text: f.Title, Effect: f.Effect}
		if f.MuteUntil != nil {
			muted = append(muted, r)
		} else {
			v.Reasons = append(v.Reasons, r)
		}
	}
	v.Reasons = append(v.Reasons, muted...)
	open := 0
	for _, a := range s.acts {
		if a.asked <= s.at && a.end() > s.at {
			open++
		}
	}
	v.Restart = engine.Restart{Safe: ref(true), Why: "jobs being proved go on in their workers"}
	if open > 0 {
		v.Restart.Why += fmt.Sprintf("; %d acts under way are taken up again", open)
	}
	if len(clusters) > 0 {
		work := v.Restart.Why
		if v.Restart = engine.JoinRestart(clusters, now); v.Restart.Safe != nil && *v.Restart.Safe {
			v.Restart.Why += "; " + work
		}
	}
	return v
}

// trendCache keeps the marks of the last publication, so that only new ones are worked out.
type trendCache struct {
	newest int64
	rows   []engine.Trend
}

func (s *script) trendRows(now time.Duration) []engine.Trend {
	newest := int64(now / trendStep)
	type line struct {
		key        engine.Key
		name, unit string
		value      func(at time.Duration, n int64) *float64
	}
	lines := []line{
		{s.here(""), "cpu", "percent", func(_ time.Duration, n int64) *float64 { return ref(91 + math.Round(5*s.part('x', 0, n))) }},
		{s.here(""), "jobs_verified", "count", func(at time.Duration, n int64) *float64 {
			off := 0
			for i := range s.workers {
				if len(s.workers[i].outs) > 0 {
					if o := s.workers[i].out(at); o >= 0 && s.workers[i].outs[o].kind != outStale {
						off++
					}
				}
			}
			return ref(math.Round(float64(len(s.workers)-off) / 20 * (0.9 + 0.2*s.part('y', 0, n))))
		}},
	}
	for i := range s.gpus {
		if s.gpus[i].lost {
			continue
		}
		silent := s.hosts[s.gpus[i].host].silent
		known := func(at time.Duration) bool {
			return !slices.ContainsFunc(silent, func(w window) bool { return w.has(at) })
		}
		lines = append(lines,
			line{s.gpuKey(i), "gpu_util", "percent", func(at time.Duration, _ int64) *float64 {
				if use, _ := s.gpuUse(i, at); known(at) {
					return &use
				}
				return nil
			}},
			line{s.gpuKey(i), "gpu_temp", "celsius", func(at time.Duration, _ int64) *float64 {
				if _, temp := s.gpuUse(i, at); known(at) {
					return &temp
				}
				return nil
			}})
	}
	for _, n := range []int{1, 1066, 1101, 1873} {
		i, ok := s.special(n)
		if !ok || n != 1 && i == 0 {
			continue
		}
		lines = append(lines, line{s.workerKey(i), "worker_cpu", "percent", func(at time.Duration, n int64) *float64 {
			w := &s.workers[i]
			if o := w.out(at); o >= 0 {
				switch o := &w.outs[o]; {
				case o.kind == outStale:
					return nil
				case at >= o.stopsAt():
					return ref(0.0)
				}
			}
			return ref(93 + math.Round(6*s.part('z', int64(i), n)))
		}})
	}
	old := s.trends.rows
	keep := 0
	if len(old) == len(lines) {
		keep = max(trendLen-int(newest-s.trends.newest), 0)
	}
	rows := make([]engine.Trend, len(lines))
	for i, l := range lines {
		vals := make([]*float64, trendLen)
		if keep > 0 {
			copy(vals, old[i].Values[trendLen-keep:])
		}
		for j := keep; j < trendLen; j++ {
			n := newest - trendLen + 1 + int64(j)
			vals[j] = l.value(time.Duration(n)*trendStep, n)
		}
		rows[i] = engine.Trend{Key: l.key, Name: l.name, Unit: l.unit, StepS: trendStep.Seconds(), Last: s.wall(time.Duration(newest) * trendStep), Values: vals}
	}
	s.trends = trendCache{newest, rows}
	return rows
}
