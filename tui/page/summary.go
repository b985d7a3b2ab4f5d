package page

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/prover"
	"app.provost/tui/theme"
)

// States of a worker in the order in which an operator wants to see them: worst first.
var workerStates = [...]engine.WorkerState{
	engine.WorkerDown, engine.WorkerGone, engine.WorkerStale, engine.WorkerUnknown, engine.WorkerHeld, engine.WorkerStart,
	engine.WorkerPausing, engine.WorkerPaused, engine.WorkerIdle, engine.WorkerRun,
}

const stateUnknown = 3

// stateRank is the place of a state in workerStates; what this side does not know counts as unknown.
func stateRank(s engine.WorkerState) int {
	for i := len(workerStates) - 1; i >= 0; i-- {
		if workerStates[i] == s {
			return i
		}
	}
	return stateUnknown
}

// HostSum is one machine's workers.
type HostSum struct {
	Name  string
	Marks []uint8 // one state (index into workerStates) per worker, in the snapshot's order
	Worst uint8
}

// Summary counts over a snapshot, made once per update.
type Summary struct {
	Workers int
	ByState [len(workerStates)]int
	Hosts   []HostSum
	byHost  map[string]int
	// CPU is the mean of the known workers' use of their core; RSS the sum of the known.
	CPUSum            float64
	CPUKnown          int
	RSS               uint64
	RSSKnown          int
	Paused            []prover.WorkerID // up to 8
	PausedMore        int
	NextResume        *time.Time
	GPUs, GPUUp       int
	GPUHot, GPULost   int
	GPUXid            int
	UtilSum           float64
	UtilKnown         int
	MemUsed, MemTotal prover.MiB
	Power, PowerLimit float64
	PowerKnown        int
	Crit, Warn        int // open findings, not muted; acknowledged ones are left out
	Open, Acked       int
	ActsOpen          int
	// Short lists machines (places in the snapshot), the least free hugepages first,
	// those that were not read after them, those without at the end.
	Short []int
	// Nodes are runs of node rows that belong to one cluster.
	Nodes []NodeRun
}

// NodeRun is a run of rows of the nodes' section: From up to and without To.
type NodeRun struct{ From, To int }

// Summarize counts again, keeping the memory of s.
func (s *Summary) Summarize(snap *engine.Snapshot, now time.Time) {
	hosts, byHost, paused, shorts, nodes := s.Hosts[:0], s.byHost, s.Paused[:0], s.Short[:0], s.Nodes[:0]
	if byHost == nil {
		byHost = map[string]int{}
	}
	clear(byHost)
	*s = Summary{Paused: paused, byHost: byHost, Short: shorts, Nodes: nodes}
	rows := snap.Workers.List()
	s.Workers = len(rows)
	last, lastAt := "", -1
	for i := range rows {
		w := &rows[i]
		rank := stateRank(w.State)
		s.ByState[rank]++
		if w.CPUPercent != nil {
			s.CPUSum += *w.CPUPercent
			s.CPUKnown++
		}
		if w.RSSBytes != nil {
			s.RSS += *w.RSSBytes
			s.RSSKnown++
		}
		if w.State == engine.WorkerPaused || w.State == engine.WorkerPausing {
			if len(s.Paused) < 8 {
				s.Paused = append(s.Paused, w.ID)
			} else {
				s.PausedMore++
			}
			if w.PauseUntil != nil && (s.NextResume == nil || w.PauseUntil.Before(*s.NextResume)) {
				s.NextResume = w.PauseUntil
			}
		}
		at := lastAt
		if at < 0 || w.Key.Machine != last {
			var ok bool
			if at, ok = byHost[w.Key.Machine]; !ok {
				at = len(hosts)
				byHost[w.Key.Machine] = at
				if at < cap(hosts) {
					hosts = hosts[:at+1]
					hosts[at].Marks = hosts[at].Marks[:0]
				} else {
					hosts = append(hosts, HostSum{})
				}
				hosts[at].Name, hosts[at].Worst = w.Key.Machine, uint8(len(workerStates)-1)
			}
			last, lastAt = w.Key.Machine, at
		}
		h := &hosts[at]
		h.Marks = append(h.Marks, uint8(rank))
		h.Worst = min(h.Worst, uint8(rank))
	}
	slices.SortFunc(hosts, func(a, b HostSum) int { return strings.Compare(a.Name, b.Name) })
	s.Hosts = hosts
	free := func(i int) float64 {
		h := snap.Machines.Rows[i].Hugepages.Value
		if h == nil {
			return 2
		}
		p, ok := engine.MainPool(*h)
		if !ok || p.Total == 0 {
			return 3
		}
		return float64(p.Available()) / float64(p.Total)
	}
	for i := range snap.Machines.List() {
		s.Short = append(s.Short, i)
	}
	slices.SortStableFunc(s.Short, func(a, b int) int { return cmp.Compare(free(a), free(b)) })
	for i := range snap.Nodes.List() {
		n := &snap.Nodes.Rows[i]
		if k := len(s.Nodes) - 1; k >= 0 && n.OK() {
			if p := &snap.Nodes.Rows[i-1]; p.State == n.State && p.LockHash == n.LockHash && p.Name == n.Name {
				s.Nodes[k].To++
				continue
			}
		}
		s.Nodes = append(s.Nodes, NodeRun{i, i + 1})
	}
	for i := range snap.GPUs.List() {
		g := &snap.GPUs.Rows[i]
		s.GPUs++
		switch g.State {
		case "lost":
			s.GPULost++
		case "hot":
			s.GPUHot++
			s.GPUUp++
		case "run", "idle":
			s.GPUUp++
		}
		if v := g.GPU.UtilPercent; v != nil {
			s.UtilSum += *v
			s.UtilKnown++
		}
		if g.GPU.MemUsed != nil && g.GPU.MemTotal != nil {
			s.MemUsed += *g.GPU.MemUsed
			s.MemTotal += *g.GPU.MemTotal
		}
		if g.GPU.PowerW != nil {
			s.Power += *g.GPU.PowerW
			s.PowerKnown++
			if g.GPU.PowerLimitW != nil {
				s.PowerLimit += *g.GPU.PowerLimitW
			}
		}
		if g.GPU.XID != nil && *g.GPU.XID != 0 {
			s.GPUXid++
		}
	}
	for i := range snap.Alerts.List() {
		f := &snap.Alerts.Rows[i]
		if f.ClosedAt != nil {
			continue
		}
		s.Open++
		if f.AckBy != "" {
			s.Acked++
			continue
		}
		if f.MuteUntil != nil && f.MuteUntil.After(now) {
			continue
		}
		switch f.Level {
		case engine.LevelCrit:
			s.Crit++
		case engine.LevelWarn:
			s.Warn++
		}
	}
	for i := range snap.Acts.List() {
		if snap.Acts.Rows[i].State.Open() {
			s.ActsOpen++
		}
	}
}

// State counts workers in a state.
func (s *Summary) State(w engine.WorkerState) int { return s.ByState[stateRank(w)] }

// stateRole is the role of a state by its rank.
func stateRole(rank uint8) theme.Role { return theme.OfWorker(workerStates[rank]) }
