package dv

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/agree"
	"app.provost/cluster/dv/internal/track"
	"app.provost/cluster/guard"
	"app.provost/cluster/internal/beacon"
)

// DutyState says how a duty stands. The zero value is nothing.
type DutyState string

// The states.
const (
	DutyComing  DutyState = "coming"
	DutyRunning DutyState = "running"
	DutyDone    DutyState = "done"
	DutyPartly  DutyState = "partly" // done for some validators, missed for others
	DutyMissed  DutyState = "missed"
)

// DutyView is one duty as it is shown. It is a copy and never changes.
type DutyView struct {
	Duty       cluster.Duty
	Due        time.Time
	Ends       time.Time
	State      DutyState
	Validators []cluster.PubKey
	Missed     []cluster.PubKey
	Step       string // the furthest that all got to: "signed"; "" when none
	// Partials counts, for each node, the validators that its share signed for.
	Partials []int
	Delay    *time.Duration // from due until the last step; nil when nothing happened yet
	Round    *int64         // that decided; nil when nothing was decided
	Leader   *cluster.PeerIndex
	Reason   string // a code of Charon's tracker, for what was missed
	Text     string // the reason in words
	Detail   string // the last error behind it
}

func (v *DutyView) decision(d agree.Decision) {
	v.Round, v.Leader = &d.Round, &d.Leader
}

// ValidatorView is one validator as the chain has it.
type ValidatorView struct {
	PubKey     cluster.PubKey
	Index      *cluster.ValidatorIndex // nil while the chain doesn't know it
	Status     string                  // the Beacon API's word, "" while the chain doesn't know it
	Words      string                  // the same for people
	Known      bool                    // the beacon node was asked
	Active     bool
	Slashed    bool
	Balance    *cluster.Gwei
	Activation *cluster.Epoch
	Exit       *cluster.Epoch
}

// NodeState says how far a node is. The zero value is not started.
type NodeState string

// The states.
const (
	NodeStarting NodeState = "starting"
	NodeWaiting  NodeState = "waiting for a beacon node"
	NodeGenesis  NodeState = "waiting for genesis"
	NodeRunning  NodeState = "running"
	NodeStopped  NodeState = "stopped"
)

// Twin is another program that runs with this node's key.
type Twin struct {
	StartedAt *time.Time // in its own words; nil when only a message of it was met
	Addr      string     // multiaddr that peers see it at, "" when not known
	By        []cluster.PeerIndex
	Told      time.Time
	// Duty is one about which a message with this node's signature came that this node did not make;
	// nil when peers said that the twin runs.
	Duty *cluster.Duty
}

// Readiness is Charon's number and words for /readyz.
type Readiness int

// The values.
const (
	ReadyUnknown     Readiness = 0
	ReadyYes         Readiness = 1
	ReadyBeaconDown  Readiness = 2
	ReadySyncing     Readiness = 3
	ReadyFewPeers    Readiness = 4
	ReadyBeaconAlone Readiness = 7
	ReadyBeaconFar   Readiness = 8
)

var readyText = map[Readiness]string{
	ReadyUnknown: "not yet known", ReadyYes: "ready", ReadyBeaconDown: "beacon node down", ReadySyncing: "beacon node syncing",
	ReadyFewPeers: "quorum peers not connected", ReadyBeaconAlone: "beacon node has zero peers", ReadyBeaconFar: "beacon node head too far behind",
}

// String says the readiness in words.
func (r Readiness) String() string { return readyText[r] }

// View is a node as it is shown. It is a copy and never changes.
type View struct {
	At        time.Time
	Dir       string
	Name      string // of the cluster
	LockHash  cluster.Root
	Fork      cluster.ForkVersion
	Network   string // "" when it is none of the known ones
	Self      cluster.PeerIndex
	Nodes     int
	Threshold cluster.Threshold
	// Stale is how many nodes with a stale or second copy of their store it takes to bring about a
	// slashable signature: 2t-n.
	Stale    int
	State    NodeState
	Problem  string // what keeps it from running, "" when nothing
	Ready    Readiness
	Doubt    string // why nothing would be signed now, "" when nothing stands against it
	Findings []Finding

	Clock *cluster.SlotClock // nil until a beacon node told
	Slot  *cluster.Slot      // nil before genesis

	Beacon []BeaconNode
	Peers  []Peer // the others
	Twins  []Twin // other programs with this node's key, as far as peers and messages show
	// Connected counts the nodes that are up, this one too; Quorum is how many agreement needs.
	Connected, Quorum int

	Duties     []DutyView // by slot; finished ones, running ones, coming ones
	Validators []ValidatorView
	Guard      *guard.Stats
	Restart    Restart
}

// restartTakes is how long a restart keeps a node away: its start, dialling and the next slot.
const restartTakes = 15 * time.Second

// View returns what there is to show. It doesn't block but for short locks; no duty waits for it.
func (n *Node) View() View {
	d := n.dir.Lock.Definition
	n.mu.Lock()
	v := View{At: time.Now(), Dir: n.dir.Path, Name: d.Name, LockHash: n.dir.Lock.LockHash, Fork: d.ForkVersion, Self: n.dir.Self,
		Nodes: len(d.Operators), Threshold: d.Threshold, Stale: max(2*int(d.Threshold)-len(d.Operators), 0), State: n.state, Problem: n.problem,
		Quorum: cluster.Quorum(len(d.Operators)), Connected: 1}
	core, net, bn, g, from := n.core, n.net, n.bn, n.guard, n.from
	n.mu.Unlock()
	if network, ok := cluster.NetworkByFork(d.ForkVersion); ok {
		v.Network = network.Name
	}
	for _, f := range n.dir.Findings {
		v.Findings = append(v.Findings, Finding{string(f.Code), f.Problem, f.Remedy})
	}
	if net != nil {
		v.Peers = net.Status()
		for _, p := range v.Peers {
			if p.Route != "" {
				v.Connected++
			}
		}
	}
	v.Twins = twins(core, net, v.At)
	if bn != nil {
		v.Beacon = bn.Endpoints()
	}
	v.Ready = readiness(v)
	if g != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if s, err := g.Stats(ctx); err == nil {
			v.Guard = &s
		}
		cancel()
	}
	v.Validators = n.validatorViews(core)
	if core == nil {
		v.Restart = Restart{Why: "the node is not running"}
		return v
	}
	clock := core.chain.Clock
	v.Clock = &clock
	if slot, ok := clock.At(v.At); ok {
		v.Slot = &slot
	}
	slot, _ := clock.At(v.At)
	if err := core.doubt(context.Background(), cluster.Duty{Slot: slot, Type: cluster.DutyAttester}); err != nil {
		v.Doubt = err.Error()
	} else if v.Slot != nil && clock.Epoch(*v.Slot) < from {
		v.Doubt = fmt.Sprintf("this node came to its validators just now and waits until epoch %d, since it does not know what was signed before (keys that never signed need no wait: --keys-never-signed)", from)
	}
	v.Duties = core.dutyViews(v.At)
	v.Restart = RestartWindow(core.restartInput(v))
	return v
}

// twins are what is known of other programs with the node's key. Peers see them come and go; a
// message of one says less, and counts where no peer can tell.
func twins(c *core, net peers, now time.Time) (out []Twin) {
	if net != nil {
		for _, t := range net.Twins() {
			out = append(out, Twin{StartedAt: &t.StartedAt, Addr: t.Addr, By: t.By, Told: t.Told})
		}
	}
	if c == nil {
		return out
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(out) > 0 {
		c.told = now
	}
	if a := c.alien; a != nil && now.Sub(a.at) <= alienStays && now.Sub(c.told) > 2*alienStays {
		duty := a.duty
		out = append(out, Twin{By: []cluster.PeerIndex{a.from}, Told: a.at, Duty: &duty})
	}
	return out
}

// practiceNode begins the version of a practice chain, which is alone by nature.
const practiceNode = "provost-simnet/"

// readiness is Charon's order of reasons.
func readiness(v View) Readiness {
	if len(v.Beacon) == 0 || v.State == NodeStarting || v.State == "" {
		return ReadyUnknown
	}
	best := ReadyBeaconDown
	for _, b := range v.Beacon {
		r := ReadyYes
		switch {
		case b.Status == beacon.StatusUnknown:
			r = ReadyUnknown
		case b.Status == beacon.StatusSyncing && b.SyncDistance > 320:
			r = ReadyBeaconFar
		case b.Status == beacon.StatusSyncing, b.Status == beacon.StatusOptimistic:
			r = ReadySyncing
		case b.Status != beacon.StatusUp:
			r = ReadyBeaconDown
		case b.Peers != nil && *b.Peers == 0 && !strings.HasPrefix(b.Version, practiceNode):
			r = ReadyBeaconAlone
		}
		if r == ReadyYes {
			best = ReadyYes
			break
		}
		if best == ReadyBeaconDown {
			best = r
		}
	}
	if best == ReadyYes && v.Connected < v.Quorum {
		return ReadyFewPeers
	}
	return best
}

func (n *Node) validatorViews(c *core) []ValidatorView {
	var states map[cluster.PubKey]beacon.Validator
	known := false
	if c != nil {
		c.mu.Lock()
		states, known = c.states, !c.asked.IsZero()
		c.mu.Unlock()
	}
	out := make([]ValidatorView, len(n.dir.Lock.Validators))
	for i, v := range n.dir.Lock.Validators {
		out[i] = ValidatorView{PubKey: v.PubKey, Known: known, Words: "not known yet"}
		if !known {
			continue
		}
		out[i].Words = beacon.StatusWords("")
		if s, ok := states[v.PubKey]; ok {
			index, balance := cluster.ValidatorIndex(s.Index), s.Balance
			out[i].Index, out[i].Balance = &index, &balance
			out[i].Status, out[i].Words, out[i].Active, out[i].Slashed = s.Status, s.Words(), s.Active(), s.Slashed
			out[i].Activation, out[i].Exit = s.Activation, s.Exit
		}
	}
	return out
}

// dutyView makes the view of a duty from what the tracker saw.
func (c *core) dutyView(duty cluster.Duty, l *life, r track.Report, over bool) DutyView {
	v := DutyView{Duty: duty, Due: c.table.Due(duty), Validators: r.Keys, State: DutyRunning, Partials: make([]int, len(c.dir.NodeKeys))}
	if l != nil {
		v.Ends = l.ends
	}
	for share, n := range r.Partials {
		if p := int(share.Peer()); p >= 0 && p < len(v.Partials) {
			v.Partials[p] = n
		}
	}
	if !r.Last.IsZero() {
		delay := max(r.Last.Sub(v.Due), 0)
		v.Delay = &delay
	}
	worst, failed := r.Worst()
	switch {
	case !failed:
		v.State, v.Step = DutyDone, track.Sent.String()
		return v
	case !over:
		v.Step = worst.Step.String()
		return v
	case len(r.Failed) < len(r.Keys):
		v.State = DutyPartly
	default:
		v.State = DutyMissed
	}
	v.Step, v.Reason, v.Text, v.Detail = worst.Step.String(), string(worst.Reason), worst.Text(), worst.Detail
	if v.Detail == "" && (worst.Reason == track.NoPeerSignatures || worst.Reason == track.InsufficientPeerSignatures) {
		v.Detail = "no partial signature of " + nodeNames(worst.Missing)
	}
	v.Missed = slices.SortedFunc(maps.Keys(r.Failed), func(a, b cluster.PubKey) int { return slices.Compare(a[:], b[:]) })
	return v
}

// nodeNames is "node1, node3".
func nodeNames(shares []cluster.ShareIndex) string {
	var out []string
	for _, s := range shares {
		out = append(out, fmt.Sprintf("node%d", s.Peer()))
	}
	return strings.Join(out, ", ")
}

// dutyViews lists finished, running and coming duties by slot.
func (c *core) dutyViews(now time.Time) []DutyView {
	c.mu.Lock()
	out := slices.Clone(c.ring)
	alive := maps.Clone(c.alive)
	rounds := maps.Clone(c.rounds)
	c.mu.Unlock()
	seen := map[cluster.Duty]bool{}
	for duty, l := range alive {
		r := c.tracker.Look(duty)
		if !r.Scheduled {
			continue
		}
		seen[duty] = true
		v := c.dutyView(duty, l, r, false)
		if d, ok := rounds[duty]; ok {
			v.decision(d)
		}
		out = append(out, v)
	}
	for _, d := range c.sched.Upcoming() {
		due := c.table.Due(d.Duty)
		if seen[d.Duty] || due.Before(now) {
			continue
		}
		keys := keysOf(d.Assignments)
		slices.SortFunc(keys, func(a, b cluster.PubKey) int { return slices.Compare(a[:], b[:]) })
		out = append(out, DutyView{Duty: d.Duty, Due: due, Ends: c.deadline(d.Duty), State: DutyComing, Validators: keys, Partials: make([]int, len(c.dir.NodeKeys))})
	}
	slices.SortStableFunc(out, func(a, b DutyView) int {
		if a.Duty.Slot != b.Duty.Slot {
			return int(int64(a.Duty.Slot) - int64(b.Duty.Slot))
		}
		return a.Due.Compare(b.Due)
	})
	return out
}

// restartInput gathers what the restart window depends on.
func (c *core) restartInput(v View) RestartInput {
	clock := c.chain.Clock
	in := RestartInput{Now: v.At, Takes: restartTakes, OthersUp: v.Connected - 1, Needed: max(v.Quorum, int(v.Threshold)), KnownUntil: v.At}
	for _, d := range v.Duties {
		if d.State != DutyRunning && d.State != DutyComing {
			continue
		}
		// A duty that isn't done by the end of its slot is not lost by a restart any more than it is already.
		ends := clock.Start(d.Duty.Slot + 1)
		if d.Ends.Before(ends) {
			ends = d.Ends
		}
		in.Coming = append(in.Coming, Coming{d.Duty, d.Due, ends})
	}
	if v.Slot != nil {
		if epoch, known := c.sched.KnownThrough(); known {
			in.KnownUntil = clock.Start(clock.First(epoch + 1))
		}
	}
	return in
}
