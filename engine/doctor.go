package engine

import (
	"fmt"
	"strings"
	"time"

	"app.provost/prover"
)

// Areas of checks, in the order in which Doctor lists them.
const (
	AreaEngine  = "engine"
	AreaSources = "sources"
	AreaHosts   = "hosts"
	AreaGPUs    = "gpus"
	AreaWorkers = "workers"
	AreaJobs    = "jobs"
	AreaNodes   = "nodes"
)

// Areas lists all areas, in order.
var Areas = []string{AreaEngine, AreaSources, AreaHosts, AreaGPUs, AreaWorkers, AreaJobs, AreaNodes}

// Health is what came of looking. The zero value means that it is not known.
type Health string

const (
	HealthUnknown Health = "unknown" // not read: neither good nor bad
	HealthOK      Health = "ok"
	HealthNote    Health = "note" // nothing to mend, worth knowing
	HealthWarn    Health = "warn"
	HealthCrit    Health = "crit"
)

// rank orders states, the worst highest.
func (c Health) rank() int {
	switch c {
	case HealthCrit:
		return 4
	case HealthWarn:
		return 3
	case HealthOK:
		return 0
	case HealthNote:
		return 1
	}
	return 2
}

// Diagnosis is one thing that was looked at: what came of it, on what evidence, and
// what to do about it.
type Diagnosis struct {
	Area   string `json:"area"`
	Target string `json:"target"` // "source/gpu", "host/m1", "worker/w7"
	State  Health `json:"state"`
	Title  string `json:"title"` // one line
	// Code is the finding's, when the check is one.
	Code   Code   `json:"code,omitempty"`
	Effect string `json:"effect,omitempty"`
	// Looked says what was looked for and where, when nothing was found.
	Looked string     `json:"looked,omitempty"`
	Facts  []Fact     `json:"facts,omitempty"`
	Fix    []NextKey  `json:"fix,omitempty"`
	At     *time.Time `json:"at"` // of the newest evidence; null: none
}

// WorstHealth is the state that a list of checks has as a whole: the worst of
// them, and unknown for an empty list. Notes count as ok.
func WorstHealth(all []Diagnosis) Health {
	if len(all) == 0 {
		return HealthUnknown
	}
	worst := HealthOK
	for _, c := range all {
		if c.State.rank() > worst.rank() {
			worst = c.State
		}
	}
	if worst == HealthNote {
		return HealthOK
	}
	if worst.rank() == HealthUnknown.rank() {
		return HealthUnknown
	}
	return worst
}

// Doctor goes through a snapshot: the engine, the age of each source, what each
// machine's readings say or why there are none, workers, jobs, nodes, and every
// open finding with its facts. It judges no number anew: limits belong to the
// rules that raise findings. It changes nothing and asks nobody.
//
// Checks come area by area, findings before readings, in the snapshot's order.
func Doctor(s *Snapshot, now time.Time) []Diagnosis {
	if s == nil || s.Engine == nil {
		return []Diagnosis{{Area: AreaEngine, Target: "engine", State: HealthUnknown, Title: "nothing has been read yet",
			Looked: "the engine's first snapshot", Fix: []NextKey{{Command: "provost logs engine --tail 50", Text: "read what the engine logged"}}}}
	}
	d := doctor{s: s, now: now}
	d.engine()
	d.findings(AreaSources)
	d.sources()
	d.findings(AreaHosts)
	d.hosts()
	d.findings(AreaGPUs)
	d.gpus()
	d.findings(AreaWorkers)
	d.workers()
	d.findings(AreaJobs)
	d.jobs()
	d.findings(AreaNodes)
	d.nodes()
	return d.out
}

type doctor struct {
	s   *Snapshot
	now time.Time
	out []Diagnosis
}

func (d *doctor) add(c Diagnosis) { d.out = append(d.out, c) }

// areaOf is where a finding belongs.
func areaOf(c Code) string {
	word, _, _ := strings.Cut(string(c), ".")
	switch word {
	case "worker":
		return AreaWorkers
	case "job", "jobs", "verifier":
		return AreaJobs
	case "host":
		if c == FindHostSilent {
			return AreaSources
		}
		return AreaHosts
	case "gpu":
		return AreaGPUs
	case "node", "cluster", "duty", "duties", "validator", "peer", "beacon":
		return AreaNodes
	}
	return AreaEngine
}

func (d *doctor) findings(area string) {
	for i := range d.s.Alerts.List() {
		f := &d.s.Alerts.Rows[i]
		if f.ClosedAt != nil || areaOf(f.Code) != area {
			continue
		}
		c := Diagnosis{Area: area, Target: f.Target, State: HealthNote, Title: f.Title, Code: f.Code, Effect: f.Effect, Facts: f.Facts, Fix: f.Next, At: &f.Last}
		switch f.Level {
		case LevelCrit:
			c.State = HealthCrit
		case LevelWarn:
			c.State = HealthWarn
		}
		d.add(c)
	}
}

func fact(name, format string, args ...any) Fact {
	return Fact{Name: name, Value: fmt.Sprintf(format, args...)}
}

func (d *doctor) engine() {
	e, at := &d.s.Engine.Value, d.s.At
	c := Diagnosis{Area: AreaEngine, Target: "engine", State: HealthOK, Title: fmt.Sprintf("%s answers, pid %d", e.Name, e.PID), At: &at,
		Facts: []Fact{fact("version", "%s", e.Version), fact("up", "%s", Span(d.now.Sub(e.StartedAt))), fact("state", "%s", e.StateDir), fact("socket", "%s", e.Socket)}}
	if e.RSSBytes != nil {
		c.Facts = append(c.Facts, fact("memory", "%s", ByteSize(*e.RSSBytes)))
	}
	switch {
	case e.Stopping != "":
		c.State, c.Title = HealthWarn, "the engine is stopping: "+e.Stopping
		c.Fix = []NextKey{{Command: "provost up", Text: "start it again when it has stopped"}}
	case e.Practice != "":
		c.State, c.Title = HealthNote, c.Title+"; "+e.Practice
	}
	d.add(c)
	d.findings(AreaEngine)
}

func (d *doctor) sources() {
	rows := d.s.Sources.List()
	if len(rows) == 0 {
		d.add(Diagnosis{Area: AreaSources, Target: "sources", State: HealthUnknown, Title: "no source has reported", Looked: "readings of this machine, workers, GPUs and clock",
			Fix: []NextKey{{Command: "provost logs engine --level warn --tail 50", Text: "read what the engine logged"}}})
	}
	for i := range rows {
		s := &rows[i]
		period := time.Duration(s.PeriodS * float64(time.Second))
		c := Diagnosis{Area: AreaSources, Target: "source/" + s.Name, At: s.At, Facts: []Fact{fact("period", "%s", Span(period))}}
		if s.Detail != "" {
			c.Facts = append(c.Facts, fact("detail", "%s", s.Detail))
		}
		if s.Problem != "" {
			c.Facts = append(c.Facts, fact("because", "%s", s.Problem))
		}
		switch fresh := FreshnessOf(d.now, s.At, period); {
		case fresh == NeverRead:
			c.State, c.Title = HealthUnknown, s.Name+" was never read"
		case fresh == Fresh, fresh == Aging:
			c.State, c.Title = HealthOK, fmt.Sprintf("%s was read %s ago", s.Name, Span(max(d.now.Sub(*s.At), 0)))
		case fresh == Old:
			c.State, c.Title = HealthWarn, fmt.Sprintf("%s is old: read %s ago", s.Name, Span(d.now.Sub(*s.At)))
		default:
			c.State, c.Title = HealthCrit, fmt.Sprintf("%s is silent: read %s ago", s.Name, Span(d.now.Sub(*s.At)))
		}
		if c.State == HealthOK && s.Problem != "" {
			c.State, c.Title = HealthWarn, s.Name+" cannot be read any more"
		}
		if c.State != HealthOK {
			c.Fix = []NextKey{{Key: "9", Command: "provost logs engine --level warn --tail 50", Text: "read why"}}
		}
		d.add(c)
	}
}

// reading adds what a reading says, or why it says nothing.
func reading[T any](d *doctor, host, what, looked string, r *Reading[T], tell func(*T) (string, []Fact)) {
	c := Diagnosis{Area: AreaHosts, Target: "host/" + host, At: r.At, State: HealthOK}
	switch {
	case r.Value == nil && r.Problem != "":
		c.State, c.Title, c.Looked = HealthUnknown, host+" "+what+": "+r.Problem, looked
	case r.Value == nil:
		c.State, c.Title, c.Looked = HealthUnknown, host+" "+what+": not read", looked
	default:
		var text string
		text, c.Facts = tell(r.Value)
		c.Title = host + " " + what + ": " + text
		if f := r.Freshness(d.now); f == Old || f == Lost {
			c.State = HealthWarn
			c.Facts = append(c.Facts, fact("read", "%s ago", Span(d.now.Sub(*r.At))))
			if r.Problem != "" {
				c.Facts = append(c.Facts, fact("because", "%s", r.Problem))
			}
		}
	}
	d.add(c)
}

func (d *doctor) hosts() {
	for i := range d.s.Machines.List() {
		m := &d.s.Machines.Rows[i]
		host := HostName(m)
		reading(d, host, "cpu", "/proc/stat and /proc/loadavg", &m.CPU, func(v *CPUStat) (string, []Fact) {
			return fmt.Sprintf("load %.1f on %d cpus", v.Load1, v.LogicalCPUs), nil
		})
		reading(d, host, "memory", "/proc/meminfo", &m.Memory, func(v *MemoryStat) (string, []Fact) {
			var facts []Fact
			if v.LimitBytes != nil {
				facts = append(facts, fact("limit", "%s", ByteSize(*v.LimitBytes)))
			}
			return ByteSize(v.AvailableBytes) + " of " + ByteSize(v.TotalBytes) + " free", facts
		})
		reading(d, host, "hugepages", "/sys/kernel/mm/hugepages", &m.Hugepages, func(v *[]prover.HugePool) (string, []Fact) {
			var facts []Fact
			for _, p := range *v {
				if p.Total > 0 {
					facts = append(facts, fact("pages of "+ByteSize(p.PageKiB<<10), "%d total, %d free, %d reserved", p.Total, p.Free, p.Reserved))
				}
			}
			p, ok := MainPool(*v)
			if !ok || p.Total == 0 {
				return "none set aside", facts
			}
			return fmt.Sprintf("%d of %d free", p.Available(), p.Total), facts
		})
		reading(d, host, "clock", "the kernel's clock state, and a time server where one is configured", &m.Clock, func(v *ClockStat) (string, []Fact) {
			var facts []Fact
			if v.Source != "" {
				facts = append(facts, fact("source", "%s", v.Source))
			}
			if v.Synced != nil {
				facts = append(facts, fact("synchronized", "%s", yesNo(*v.Synced)))
			}
			if v.OffsetMS == nil {
				return "offset not known", facts
			}
			return fmt.Sprintf("%+.0f ms off", *v.OffsetMS), facts
		})
		reading(d, host, "disks", "the file systems that Provost writes to", &m.Disks, func(v *[]DiskStat) (string, []Fact) {
			var facts []Fact
			for _, k := range *v {
				facts = append(facts, fact(k.What, "%s: %s of %s free (%s)", k.Path, ByteSize(k.FreeBytes), ByteSize(k.TotalBytes), k.FSType))
			}
			return fmt.Sprintf("%d written to", len(*v)), facts
		})
	}
}

func (d *doctor) gpus() {
	for i := range d.s.Machines.List() {
		m := &d.s.Machines.Rows[i]
		host, r := HostName(m), &m.GPUDriver
		c := Diagnosis{Area: AreaGPUs, Target: "host/" + host, At: r.At, State: HealthOK}
		const looked = "the NVML library (libnvidia-ml.so.1), as the driver installs it"
		switch v := r.Value; {
		case v == nil && r.Problem != "":
			c.State, c.Title, c.Looked = HealthUnknown, host+" driver: "+r.Problem, looked
		case v == nil:
			c.State, c.Title, c.Looked = HealthUnknown, host+" driver: not read", looked
		case v.Version == "":
			// A machine without GPUs is nothing to mend.
			c.Title, c.Looked = host+" has no GPU driver", looked
			if v.Why != "" {
				c.Facts = []Fact{fact("because", "%s", v.Why)}
			}
			c.Fix = []NextKey{{Text: "nothing, unless it has NVIDIA GPUs: then install the driver, and let this user read the library"}}
		default:
			c.Title = fmt.Sprintf("%s driver %s, %d GPUs", host, v.Version, v.Count)
			c.Facts = []Fact{fact("answers in", "%.0f ms", v.TookMS)}
			if f := r.Freshness(d.now); f == Old || f == Lost {
				c.State = HealthWarn
				c.Facts = append(c.Facts, fact("read", "%s ago", Span(d.now.Sub(*r.At))))
			}
		}
		d.add(c)
	}
}

func (d *doctor) workers() {
	if d.s.Workers == nil {
		return
	}
	counts := map[WorkerState]int{}
	for i := range d.s.Workers.Rows {
		counts[d.s.Workers.Rows[i].State]++
	}
	n := len(d.s.Workers.Rows)
	c := Diagnosis{Area: AreaWorkers, Target: "workers", State: HealthOK, At: &d.s.Workers.At,
		Title: fmt.Sprintf("%d of %d run or wait for a job", counts[WorkerRun]+counts[WorkerIdle], n)}
	for _, st := range []WorkerState{WorkerRun, WorkerIdle, WorkerStart, WorkerPausing, WorkerPaused, WorkerStale, WorkerDown, WorkerGone, WorkerHeld, WorkerUnknown} {
		if counts[st] > 0 {
			c.Facts = append(c.Facts, fact(string(st), "%d", counts[st]))
		}
	}
	switch {
	case n == 0:
		c.State, c.Title = HealthNote, "no worker is configured"
		c.Fix = []NextKey{{Command: "provost up --workers 2", Text: "start the engine with some"}}
	case counts[WorkerUnknown] > 0:
		c.State = HealthUnknown
		c.Title = fmt.Sprintf("%d of %d were never heard", counts[WorkerUnknown], n)
		c.Fix = []NextKey{{Key: "2", Command: "provost get workers state=unknown", Text: "see which"}}
	}
	d.add(c)
}

func (d *doctor) jobs() {
	if d.s.Jobs == nil {
		return
	}
	t := &d.s.Jobs.Totals
	d.add(Diagnosis{Area: AreaJobs, Target: "jobs", State: HealthOK, At: &d.s.Jobs.At, Title: fmt.Sprintf("%d queued, %d in work, %d verified", t.Queued, t.Leased+t.Proved, t.Verified),
		Facts: []Fact{fact("failed", "%d", t.Failed), fact("cancelled", "%d", t.Cancelled)}})
}

func (d *doctor) nodes() {
	for i := range d.s.Nodes.List() {
		n := &d.s.Nodes.Rows[i]
		c := Diagnosis{Area: AreaNodes, Target: "node/" + n.Key.Node, State: HealthOK, At: &d.s.Nodes.At, Facts: []Fact{fact("directory", "%s", n.Dir)}}
		if !n.Bad() {
			c.Title = fmt.Sprintf("%s of %s on %s: %d of %d sign", n.Key.Node, n.Name, n.Network, n.Threshold, n.Operators)
			if !n.OK() {
				c.State, c.Title = HealthUnknown, n.Key.Node+": "+n.State
			}
		} else {
			c.State, c.Title = HealthWarn, n.Dir+" cannot be used: "+n.Problem
			c.Fix = []NextKey{{Command: "provost verify cluster " + n.Dir, Text: "see every check of it"}}
		}
		d.add(c)
	}
}
