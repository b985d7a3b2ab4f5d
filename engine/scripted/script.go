package scripted

import (
	"fmt"
	"math"
	"slices"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

const (
	never   = time.Duration(math.MaxInt64)
	period  = 10 * time.Second // between two readings of a worker
	cycle   = 10 * time.Minute // the trouble comes again, elsewhere
	second  = time.Second
	minute  = time.Minute
	hour    = time.Hour
	reading = 2 * time.Second // between two readings of machines and GPUs
)

// script is everything that is played. One goroutine at a time has it (Engine.mu).
// All moments are counted from its start, on the grid of beat; what happened
// before has a negative moment.
type script struct {
	seed  uint64
	start time.Time
	speed float64
	still bool

	at     time.Duration // the moment that is played
	pub    uint64        // number of the publication, grows with the moment
	dirty  bool          // somebody acted, or came
	cycles int           // written so far
	lastAt map[engine.SectionName]uint64

	hosts      []host
	workers    []worker
	gpus       []device
	validators int
	pubKeys    []string
	trouble    []*trouble
	acts       []*act
	actN       int
	userActs   int
	jobs       []*asked // submitted by hand
	viewers    []string
	acked      map[string]mark
	open       *engine.Unlocked

	journal []engine.Entry
	number  uint64
	coming  []coming

	// beside is what stands in the snapshots and logs without being in the script: tests put it there.
	beside struct {
		workers []engine.WorkerRow
		lines   []engine.LogLine
	}

	touched map[engine.SectionName]uint64
	snap    *engine.Snapshot // the last published
	trends  trendCache
}

type host struct {
	name  string
	roles []engine.Role
	from  int // its workers: from up to and without to
	to    int
	fixed engine.SystemStat
	// silent are the moments between which nothing of its GPUs and hugepages is heard.
	silent []window
}

type window struct{ from, to time.Duration }

func (w window) has(at time.Duration) bool { return w.from <= at && at < w.to }

// mark is what somebody did with a finding.
type mark struct {
	by    string
	at    time.Time
	muted *time.Time
	until time.Duration // of muted
}

// outKind is why a worker does not prove.
type outKind byte

const (
	outPaused  outKind = iota + 1 // finishes its job, then holds
	outRestart                    // finishes its job, then starts anew
	outDown                       // its process died
	outStale                      // proves, but is not heard
	outGone
	outHeld
	outUnknown
	outStart
)

// outage is a time in which a worker does something else than prove.
type outage struct {
	kind outKind
	from time.Duration
	// then is when the second part begins: drained (paused, restart), started again (down).
	then    time.Duration
	to      time.Duration
	stop    bool // its process ended too
	why     string
	act     string
	exit    *engine.ExitRecord
	trouble *trouble
}

// stopsAt is when the work in hand stops; never for a worker that goes on.
func (o *outage) stopsAt() time.Duration {
	switch o.kind {
	case outPaused, outRestart:
		return o.then
	case outStale:
		return never
	}
	return o.from
}

// newProcess tells whether the worker has another process afterwards.
func (o *outage) newProcess() bool {
	return o.stop || o.kind == outRestart || o.kind == outDown || o.kind == outHeld
}

type worker struct {
	id    prover.WorkerID
	host  int
	core  prover.Core
	cpu   prover.CPU
	numa  int
	pid   int
	since time.Duration // of its process, before the script began
	phase time.Duration // 0 to period: when it is read
	take  time.Duration // for one job
	off   time.Duration // when its job 0 began
	base  uint64        // jobs done before that
	lazy  bool          // waits a little after each job
	outs  []outage      // in order
	made  made
	hand  engine.JobRow // its job, as last published
	last  engine.JobRow // the one before
	lastN int64         // number of last, 0: none
}

// made is what a worker's row was last made from.
type made struct {
	read  time.Duration
	state engine.WorkerState
	out   int
	lent  *asked
	rev   int // of outs
}

// read is the last moment at which the worker was read.
func (w *worker) read(at time.Duration) time.Duration {
	return floor(at-w.phase, period) + w.phase
}

func floor(at, step time.Duration) time.Duration {
	r := at % step
	if r < 0 {
		r += step
	}
	return at - r
}

func ceil(at, step time.Duration) time.Duration { return -floor(-at, step) }

// job is the number of the job in hand and the part that is done, at a moment of its work.
func (w *worker) job(work time.Duration) (n int64, part float64) {
	work -= w.off
	n = int64(floor(work, w.take) / w.take)
	return n, float64(work-time.Duration(n)*w.take) / float64(w.take)
}

// work is how far the worker has come with its work: time in which it did none is
// taken out. frozen: it does none now.
func (w *worker) work(at time.Duration) (work time.Duration, frozen bool) {
	var lost time.Duration
	least := time.Duration(math.MinInt64)
	for i := range w.outs {
		o := &w.outs[i]
		stop := o.stopsAt()
		if at < o.from || stop >= o.to {
			continue
		}
		// A worker that dies loses its job, one that drains finishes it and takes no other.
		was := floor(o.from-lost-w.off, w.take) + w.off
		if o.kind == outPaused || o.kind == outRestart {
			was += w.take
			if at < stop {
				return min(max(w.read(at)-lost, least), was-period), false
			}
		}
		if at < o.to {
			return was, true
		}
		lost, least = ceil(o.to-w.phase, period)+w.phase-was, was
	}
	return max(w.read(at)-lost, least), false
}

// out finds what the worker is in, -1 for nothing.
func (w *worker) out(at time.Duration) int {
	for i := len(w.outs) - 1; i >= 0; i-- {
		if o := &w.outs[i]; o.from <= at && at < o.to {
			return i
		}
	}
	return -1
}

// state is what the worker is seen to do.
func (w *worker) state(at time.Duration) (engine.WorkerState, int) {
	i := w.out(at)
	if i < 0 {
		if w.lazy {
			if work, _ := w.work(at); floor(work-w.off, w.take)+w.off+w.take-work <= period {
				return engine.WorkerIdle, -1
			}
		}
		return engine.WorkerRun, -1
	}
	o := &w.outs[i]
	first := at < o.then
	switch o.kind {
	case outPaused:
		switch {
		case first:
			return engine.WorkerPausing, i
		case o.stop && o.to != never && at >= o.to-3*second:
			return engine.WorkerStart, i
		}
		return engine.WorkerPaused, i
	case outRestart:
		if first {
			return engine.WorkerPausing, i
		}
		return engine.WorkerStart, i
	case outDown:
		if first {
			return engine.WorkerDown, i
		}
		return engine.WorkerStart, i
	case outStale:
		return engine.WorkerStale, i
	case outGone:
		return engine.WorkerGone, i
	case outHeld:
		return engine.WorkerHeld, i
	case outStart:
		return engine.WorkerStart, i
	}
	return engine.WorkerUnknown, i
}

// trouble becomes a finding while it lasts, and stays as a closed one for ten minutes.
type trouble struct {
	from, to time.Duration
	every    time.Duration // repeats; 0: once
	f        engine.Finding
}

// hash is the script's only source of variety: the same numbers give the same.
func (s *script) hash(kind byte, a, b int64) uint64 {
	x := s.seed ^ uint64(kind)<<56 ^ uint64(a)*0x9e3779b97f4a7c15 ^ uint64(b)*0xbf58476d1ce4e5b9
	for range 2 {
		x ^= x >> 30
		x *= 0xbf58476d1ce4e5b9
		x ^= x >> 27
		x *= 0x94d049bb133111eb
		x ^= x >> 31
	}
	return x
}

// part is hash as a number from 0 up to 1.
func (s *script) part(kind byte, a, b int64) float64 {
	return float64(s.hash(kind, a, b)>>11) / (1 << 53)
}

// special maps a worker of the story, written for 2,048, to one that exists.
func (s *script) special(n int) (int, bool) {
	i := (n - 1) * len(s.workers) / 2048
	return i, i < len(s.workers)
}

func newScript(o Options) *script {
	s := &script{
		seed: o.Seed, start: o.Start, speed: o.Speed, still: o.Still != nil, at: math.MinInt64,
		touched: map[engine.SectionName]uint64{}, acked: map[string]mark{}, lastAt: map[engine.SectionName]uint64{},
		viewers: []string{}, actN: 28, validators: o.Validators,
	}
	for h := range o.Hosts {
		roles := []engine.Role{engine.RoleMachine, engine.RoleWorkers}
		if h == 0 {
			roles = []engine.Role{engine.RoleMachine, engine.RoleControl, engine.RoleWorkers}
		}
		s.hosts = append(s.hosts, host{
			name: fmt.Sprintf("m%02d", h+1), roles: roles, from: (h*o.Workers + o.Hosts - 1) / o.Hosts, to: ((h+1)*o.Workers + o.Hosts - 1) / o.Hosts,
			fixed: engine.SystemStat{OS: "Debian GNU/Linux 13 (trixie)", Kernel: "6.12.48+deb13-amd64", Arch: "amd64",
				BootedAt: s.wall(-time.Duration(12+s.hash('b', int64(h), 0)%40) * 24 * hour), NUMANodes: 2},
		})
	}
	s.workers = make([]worker, o.Workers)
	for h := range s.hosts {
		for i := s.hosts[h].from; i < s.hosts[h].to; i++ {
			core := i - s.hosts[h].from + 1
			take := time.Duration(8+s.hash('t', int64(i), 0)%5) * period // 80 s to 120 s
			s.workers[i] = worker{
				id: prover.WorkerFor(prover.Core(i + 1)), host: h, core: prover.Core(core), cpu: prover.CPU(core), numa: (core - 1) / 32 % 2, pid: 20000 + i*3,
				since: -time.Duration(s.hash('u', int64(i), 0)%uint64(31*24*hour)) - hour,
				phase: time.Duration(i%40) * beat, take: take, base: 4000 + s.hash('d', int64(i), 0)%2000,
				lazy: s.hash('l', int64(i), 0)%40 == 0,
			}
			w := &s.workers[i]
			w.since = w.since.Truncate(second)
			w.off = w.phase - 10*take - time.Duration(s.hash('o', int64(i), 0)%uint64(take/period))*period
		}
	}
	s.devices(o.GPUs)
	s.past()
	return s
}

// advance plays the script up to a moment and tells whether there is something to
// publish. A clock that was set back holds the script where it is.
func (s *script) advance(to time.Duration) bool {
	to = max(to, 0)
	moved := to > s.at
	if moved {
		s.at = to
	}
	for time.Duration(s.cycles)*cycle <= s.at+cycle {
		s.write(s.cycles)
		s.cycles++
	}
	s.flush()
	s.forget()
	if s.open != nil && !s.wall(s.at).Before(s.open.Until) {
		s.log(engine.Entry{At: s.wall(s.at), Level: engine.LevelNote, What: "lock.closed", Key: s.here(""), Text: "screens are locked again"})
		s.open = nil
		s.touch(engine.SecEngine)
	}
	return moved && !s.still || s.dirty || s.snap == nil
}

// forget drops what nobody can see any more.
func (s *script) forget() {
	old := s.at - cycle - minute
	if len(s.trouble) > 200 {
		s.trouble = slices.DeleteFunc(s.trouble, func(t *trouble) bool { return t.to < old })
	}
	if over := len(s.acts) - keepActs - 64; over > 0 {
		s.acts = slices.DeleteFunc(s.acts, func(a *act) bool {
			if over > 0 && a.end() < s.at {
				over--
				return true
			}
			return false
		})
	}
}

// here is a key on the engine's own machine.
func (s *script) here(id string) engine.Key { return engine.Key{Machine: s.hosts[0].name, ID: id} }

func (s *script) workerKey(i int) engine.Key {
	return engine.Key{Machine: s.hosts[s.workers[i].host].name, ID: string(s.workers[i].id)}
}

func intp(n int) *int { return &n }

// happen puts a worker out and says so in journal and findings.
func (s *script) happen(i int, o outage, t *trouble) {
	w := &s.workers[i]
	if t != nil {
		t.f.Key, t.f.Target = s.workerKey(i), "worker/"+string(w.id)
		s.raise(t)
		o.trouble = t
	}
	w.outs = append(w.outs, o)
	slices.SortStableFunc(w.outs, func(a, b outage) int {
		switch {
		case a.from < b.from:
			return -1
		case a.from > b.from:
			return 1
		}
		return 0
	})
	w.made.rev = -1
}

func (s *script) raise(t *trouble) {
	t.f.ID = string(t.f.Code) + ":" + t.f.Target
	s.trouble = append(s.trouble, t)
	s.plan(t.from, "", engine.Entry{Level: t.f.Level, What: "alert.raised", Key: t.f.Key, Code: t.f.Code, Text: t.f.Title})
	if t.to != never {
		s.plan(t.to, "", engine.Entry{Level: engine.LevelOK, What: "alert.closed", Key: t.f.Key, Code: t.f.Code, Text: t.f.Target + ": over"})
	}
}

// free tells whether nothing is written for a worker around a time.
func (s *script) free(i int, from, to time.Duration) bool {
	return !slices.ContainsFunc(s.workers[i].outs, func(o outage) bool { return o.from < to+minute && from < o.to+minute || o.to == never })
}

func (s *script) die(i int, from, again, back time.Duration) {
	w := &s.workers[i]
	code := 137
	exit := &engine.ExitRecord{At: s.wall(from), Code: &code, Signal: "SIGKILL", Cause: "exit 137, killed by the kernel: out of memory"}
	name, host := string(w.id), s.hosts[w.host].name
	s.happen(i, outage{kind: outDown, from: from, then: again, to: back, exit: exit}, &trouble{from: from, to: back, f: engine.Finding{
		Code: engine.FindWorkerDown, Level: engine.LevelCrit, Title: name + " on " + host + " is down: killed by the kernel, out of memory",
		Text:   "Its process ended with code 137 (SIGKILL). The kernel's log names it in an out-of-memory kill.",
		Effect: "its job goes back to the queue and is proved by another worker",
		Next: []engine.NextKey{
			{Key: "p", Command: "provost pause worker " + name + " --for=45m --reason=...", Text: "pause it until the memory is found"},
			{Key: "s", Command: "provost restart worker " + name, Text: "restart it now; the policy does so by itself"},
			{Key: "l", Command: "provost logs " + name, Text: "its last lines"},
		},
		Facts: []engine.Fact{{Name: "exit", Value: "137"}, {Name: "rss", Value: "1.2 GiB"}, {Name: "restart_at", Value: s.wall(again).Format(time.RFC3339)}},
	}})
	s.plan(from, "", engine.Entry{Level: engine.LevelCrit, What: "worker.exit", Key: s.workerKey(i), Code: engine.FindWorkerDown, Text: name + " ended: exit 137, killed by the kernel: out of memory",
		Facts: []engine.Fact{{Name: "code", Value: "137"}, {Name: "signal", Value: "SIGKILL"}}})
	s.plan(again, "", engine.Entry{Level: engine.LevelNote, What: "worker.start", Key: s.workerKey(i), Text: name + " is started again by the policy"})
}

func (s *script) late(i int, from, to time.Duration) {
	name := string(s.workers[i].id)
	s.happen(i, outage{kind: outStale, from: from, to: to}, &trouble{from: from + 30*second, to: to, f: engine.Finding{
		Code: engine.FindWorkerStale, Level: engine.LevelWarn, Title: name + " on " + s.hosts[s.workers[i].host].name + " is not heard",
		Text: "Its process is there and its heartbeat is late.", Effect: "its job goes to another worker when the lease ends",
		Next: []engine.NextKey{{Key: "l", Command: "provost logs " + name, Text: "its last lines"}, {Key: "s", Command: "provost restart worker " + name, Text: "restart it"}},
	}})
}

// past writes what was there before the script began.
func (s *script) past() {
	ana, ops := engine.Actor{Name: "ana", UID: intp(1000), Host: "bastion", Via: engine.ViaCLI}, engine.Actor{Name: "ops", UID: intp(1001), Via: engine.ViaScreen}
	s.plan(-31*minute, "", engine.Entry{Level: engine.LevelNote, What: "engine.start", Key: s.here(""), Text: "the engine started; workers were taken over"})
	each := func(ns []int, fn func(i int)) (idx []int) {
		for _, n := range ns {
			if i, ok := s.special(n); ok && !slices.Contains(idx, i) && s.free(i, -hour, never-hour) {
				idx = append(idx, i)
				fn(i)
			}
		}
		return idx
	}
	pause := func(ns []int, from, drain, to time.Duration, by engine.Actor, why string) {
		a := &act{id: s.actID(), kind: engine.KindPauseWorkers, by: by, reason: why, asked: from, hold: to, steps: pauseSteps(false)}
		each(ns, func(i int) {
			s.happen(i, outage{kind: outPaused, from: from, then: from + drain, to: to, why: why, act: a.id}, nil)
			a.targets = append(a.targets, target{name: "worker/" + string(s.workers[i].id), worker: i, at: from + drain})
		})
		if len(a.targets) > 0 {
			s.take(a, engine.PauseWorkers{Workers: selector(s, a), For: engine.Duration(to - from), Reason: why})
		}
	}
	restart := func(n int, from time.Duration, by engine.Actor, refused string) {
		a := &act{id: s.actID(), kind: engine.KindRestartWorkers, by: by, reason: "new version", asked: from, steps: restartSteps}
		each([]int{n, n + 1}, func(i int) {
			a.targets = append(a.targets, target{name: "worker/" + string(s.workers[i].id), worker: i, at: from + 20*second})
		})
		if len(a.targets) == 0 {
			return
		}
		a.targets[len(a.targets)-1].refused = refused
		s.take(a, engine.RestartWorkers{Workers: selector(s, a), Reason: "new version"})
	}
	restart(200, -29*minute, ops, "")
	restart(300, -27*minute, ops, "it did not end within 30 s and was left alone")
	pause([]int{1101, 1102, 1103, 1104}, -23*minute, 8*second, 37*minute, ana, "disk swap m18")
	pause([]int{1460, 1461}, -6*second, 18*second, 150*second, ana, "kernel log check")

	each([]int{1066}, func(i int) { s.die(i, -249*second, 41*second, 45*second) })
	each([]int{1873}, func(i int) { s.late(i, -2*minute, 95*second) })
	each([]int{640}, func(i int) {
		name := string(s.workers[i].id)
		code := 2
		s.happen(i, outage{kind: outHeld, from: -3 * hour, to: never, why: "given up after 5 deaths in an hour", exit: &engine.ExitRecord{At: s.wall(-3 * hour), Code: &code}},
			&trouble{from: -3 * hour, to: never, f: engine.Finding{Code: engine.FindWorkerDying, Level: engine.LevelWarn, Count: 5, Title: name + " keeps dying: given up after 5 deaths in an hour",
				Text: "Each time it ended with code 2 within 4 s of its start.", Effect: "one core proves nothing", Facts: []engine.Fact{{Name: "exit", Value: "2"}, {Name: "deaths", Value: "5"}},
				Next: []engine.NextKey{{Key: "l", Command: "provost logs " + name, Text: "its last lines"}, {Key: "s", Command: "provost restart worker " + name, Text: "try again"}}}})
	})
	each([]int{777}, func(i int) {
		s.happen(i, outage{kind: outGone, from: -40 * minute, to: never, why: "its machine took the core away"}, nil)
	})
	each([]int{2047}, func(i int) {
		s.happen(i, outage{kind: outUnknown, from: -31 * minute, to: never, why: "never heard since the engine started"}, nil)
	})
	each([]int{2048}, func(i int) { s.happen(i, outage{kind: outStart, from: -4 * second, to: 14 * second}, nil) })

	if h := 16; h < len(s.hosts) {
		s.raise(&trouble{from: -8 * minute, to: never, every: 5 * minute, f: engine.Finding{
			Code: engine.FindHostMemory, Level: engine.LevelWarn, Key: engine.Key{Machine: s.hosts[h].name}, Target: "host/" + s.hosts[h].name, Title: s.hosts[h].name + " has 1.0 of 64 GiB memory left",
			Text: "Its workers need more than the machine has.", Effect: "the kernel kills workers when it is used up",
			Next:  []engine.NextKey{{Key: "2", Text: "its workers"}, {Key: "p", Command: "provost pause worker host:" + s.hosts[h].name + " --for=45m --reason=...", Text: "pause some of them"}},
			Facts: []engine.Fact{{Name: "available", Value: "1.0 GiB"}, {Name: "total", Value: "64 GiB"}}}})
	}
	if h := 3; h < len(s.hosts) {
		s.raise(&trouble{from: -55 * minute, to: never, f: engine.Finding{
			Code: engine.FindHostHugepages, Level: engine.LevelNote, Key: engine.Key{Machine: s.hosts[h].name}, Target: "host/" + s.hosts[h].name, Title: s.hosts[h].name + " has no free hugepage: 15000 of 15000 used",
			Effect: "no further prover starts there", Next: []engine.NextKey{{Key: "4", Text: "hugepages per NUMA node"}}}})
	}
	s.missing(missedSlot(slotAt(-beat)))
	s.plan(-15*minute, "", engine.Entry{Level: engine.LevelOK, What: "alert.closed", Key: s.here(""), Code: engine.FindJobsWaiting, Text: "jobs are no longer waiting"})
	if len(s.workers) > 0 {
		s.raise(&trouble{from: -11 * minute, to: 5 * minute, f: engine.Finding{
			Code: engine.FindJobFailed, Level: engine.LevelWarn, Key: s.here(string(s.badJob())), Target: "job/" + string(s.badJob()), Title: "job " + string(s.badJob())[:9] + " (night-run 17) failed: the witness belongs to another circuit",
			Effect: "there is no proof of it; the others go on", Next: []engine.NextKey{{Key: "J", Text: "the job"}, {Command: "provost submit job --zkey=... --witness=...", Text: "submit it again with the right witness"}}}})
	}
}

// write writes one cycle of ten minutes. Each begins where the one before ends.
func (s *script) write(c int) {
	b := time.Duration(c) * cycle
	pick := func(kind byte, from, to time.Duration) (int, bool) {
		for try := range int64(20) {
			if len(s.workers) == 0 {
				break
			}
			i := int(s.hash(kind, int64(c), try) % uint64(len(s.workers)))
			if s.free(i, from, to) {
				return i, true
			}
		}
		return 0, false
	}
	if c > 0 {
		if i, ok := pick('D', b+20*second, b+75*second); ok {
			s.die(i, b+20*second, b+70*second, b+75*second)
		}
	}
	if i, ok := pick('S', b+200*second, b+290*second); ok {
		s.late(i, b+200*second, b+290*second)
	}
	// The hot GPU cools down for a while in the middle of each cycle.
	if len(s.gpus) > 2 {
		from, to := b-cycle+400*second, b+240*second
		if c == 0 {
			from = -11 * minute
		}
		s.gpus[2].hot = append(s.gpus[2].hot, window{from, to})
		name := s.gpuName(2)
		s.raise(&trouble{from: from, to: to, every: 4 * minute, f: engine.Finding{
			Code: engine.FindGPUHot, Level: engine.LevelWarn, Key: s.gpuKey(2), Target: "gpu/" + name, Title: "GPU " + name + " is held back by heat: 84 °C",
			Effect: "its clocks are down by a quarter, so jobs on it take longer",
			Next:   []engine.NextKey{{Key: "3", Text: "the GPU"}, {Key: "4", Text: "its machine"}}, Facts: []engine.Fact{{Name: "temp", Value: "84 °C"}, {Name: "throttle", Value: "thermal"}}}})
	}
	if h := 8; h < len(s.hosts) {
		from, to := b+cycle-90*second, b+cycle+30*second
		if c == 0 { // and once at the beginning
			s.silent(h, -61*second, 200*second)
		}
		s.silent(h, from, to)
	}
	if len(s.gpus) > 8 && c == 0 {
		name := s.gpuName(8)
		s.raise(&trouble{from: -172 * minute, to: never, f: engine.Finding{Code: engine.FindGPULost, Level: engine.LevelCrit, Key: s.gpuKey(8), Target: "gpu/" + name, Title: "GPU " + name + " is lost: XID 79, it fell off the bus",
			Text: "The driver answered for it until then.", Effect: "one prover less", Facts: []engine.Fact{{Name: "xid", Value: "79"}},
			Next: []engine.NextKey{{Text: "reboot the machine, or reseat the card"}, {Key: "4", Text: "its machine"}}}})
		s.raise(&trouble{from: -172 * minute, to: never, f: engine.Finding{Code: engine.FindGPUXid, Level: engine.LevelWarn, Key: s.gpuKey(8), Target: "gpu/" + name, Title: "GPU " + name + ": the driver reported XID 79",
			DependsOn: []engine.Code{engine.FindGPULost}, Effect: "see the lost GPU"}})
	}
	for m := missedSlot(slotAt(b + cycle + 4*second - beat)); away(m).from >= b; m -= missEvery {
		s.missing(m)
	}
	// A pause by hand, which ends by itself.
	ana := engine.Actor{Name: "ana", UID: intp(1000), Host: "bastion", Via: engine.ViaScreen}
	from, to := b+330*second, b+450*second
	a := &act{id: fmt.Sprintf("a%d", 33+2*c), kind: engine.KindPauseWorkers, by: ana, reason: "look at the fans", asked: from, hold: to, steps: pauseSteps(false)}
	if i, ok := pick('P', from, to); ok {
		s.happen(i, outage{kind: outPaused, from: from, then: from + 6*second, to: to, why: a.reason, act: a.id}, nil)
		a.targets = []target{{name: "worker/" + string(s.workers[i].id), worker: i, at: from + 6*second}}
		s.take(a, engine.PauseWorkers{Workers: selector(s, a), For: engine.Duration(to - from), Reason: a.reason})
	}
	// A restart of four workers, one after the other.
	from = b + 500*second
	a = &act{id: fmt.Sprintf("a%d", 34+2*c), kind: engine.KindRestartWorkers, by: ana, reason: "new version", asked: from, steps: restartSteps}
	for n := range 4 {
		at := from + time.Duration(n)*5*second
		if i, ok := pick('R'+byte(n), at, at+12*second); ok {
			s.happen(i, outage{kind: outRestart, from: at, then: at + 5*second, to: at + 9*second, why: a.reason, act: a.id}, nil)
			a.targets = append(a.targets, target{name: "worker/" + string(s.workers[i].id), worker: i, at: at + 9*second})
		}
	}
	if len(a.targets) > 0 {
		s.take(a, engine.RestartWorkers{Workers: selector(s, a), Reason: a.reason})
	}
	for n := range 20 {
		at := b + time.Duration(n)*30*second + 7*second
		if len(s.workers) == 0 {
			break
		}
		i := int(s.hash('v', int64(c), int64(n)) % uint64(len(s.workers)))
		id := prover.JobIDFor(fmt.Sprintf("scripted/%d/named", s.seed), c*20+n)
		s.plan(at, "", engine.Entry{Level: engine.LevelNote, What: "job.verified", Key: s.here(string(id)),
			Text: fmt.Sprintf("job %s (night-run %d) verified, proved by %s", id[:9], 18+c*20+n, s.workers[i].id)})
	}
}

// silent: the agent of a machine does not answer for its GPUs and hugepages.
func (s *script) silent(h int, from, to time.Duration) {
	name := s.hosts[h].name
	s.hosts[h].silent = append(s.hosts[h].silent, window{from, to})
	s.raise(&trouble{from: from + 10*second, to: to, f: engine.Finding{
		Code: engine.FindHostSilent, Level: engine.LevelWarn, Key: engine.Key{Machine: name}, Target: "host/" + name, Title: name + " is silent: its readings are old",
		Text: "The last answer came in time; the ones after it did not come within 2 s.", Effect: "what is shown of it may be wrong", Next: []engine.NextKey{{Key: "4", Text: "the machine"}}}})
}
