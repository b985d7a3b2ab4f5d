package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"app.provost/cluster"
	"app.provost/cluster/dv"
	"app.provost/engine"
	"app.provost/engine/state"
)

// viewEvery is how often a node's view is taken. No duty waits for it.
const viewEvery = 500 * time.Millisecond

// startDV runs the node directories of this engine, where beacon nodes are named.
// A directory that must not run ends the engine with the reason, unless it runs others too.
func (e *Engine) startDV(context.Context) error {
	c := e.o.Config
	if len(c.NodeDirs) == 0 || len(c.Beacons) == 0 {
		return nil
	}
	peers, err := parsePeers(c.Peers)
	if err != nil {
		return err
	}
	scope := e.scope("dv")
	for _, dir := range c.NodeDirs {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		n := &dvNode{e: e, dir: abs, peers: peers, started: time.Now().UTC(), validators: map[cluster.PubKey]*engine.ValidatorRow{},
			counts: map[cluster.DutyType]*engine.DutyCount{}, pings: map[cluster.PeerIndex]*pings{}}
		scope.Go("dv.node", n.run)
	}
	return nil
}

// parsePeers reads NODE=HOST:PORT. NODE is the node's number or "node" and its number.
func parsePeers(list []string) (map[cluster.PeerIndex][]string, error) {
	out := map[cluster.PeerIndex][]string{}
	for _, s := range list {
		name, addr, ok := strings.Cut(s, "=")
		i, err := strconv.Atoi(strings.TrimPrefix(name, "node"))
		_, _, aerr := net.SplitHostPort(addr)
		if !ok || err != nil || i < 0 || aerr != nil {
			return nil, engine.Problem{Code: engine.CodeConfigInvalid, Exit: engine.ExitUsage, Doing: "start node", Field: "p2p-peers",
				Cause: fmt.Sprintf("--p2p-peers: %q is no peer's address", s), Remedy: "write node1=10.0.0.2:3610"}.Because(nil)
		}
		out[cluster.PeerIndex(i)] = append(out[cluster.PeerIndex(i)], addr)
	}
	return out, nil
}

// dvNode runs one node directory and tells what there is to show of it.
type dvNode struct {
	e       *Engine
	dir     string
	peers   map[cluster.PeerIndex][]string
	started time.Time

	mu         sync.Mutex // guards the fields below; it is never held while anything is called
	attester   engine.DutyTotals
	proposer   engine.DutyTotals
	validators map[cluster.PubKey]*engine.ValidatorRow // totals only
	counts     map[cluster.DutyType]*engine.DutyCount

	refused *dv.Step  // the last signature that slashing protection kept from being made
	allowed time.Time // when it last let one be made

	raised *dv.Step // the refusal that is told; this and pings are of the view loop alone
	pings  map[cluster.PeerIndex]*pings
}

// pings are a peer's round trips, up to the answer of a moment.
type pings struct {
	seen time.Time
	took engine.Histogram
}

// Bounds of histograms, in seconds.
var (
	pingBounds  = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 1, 2.5, 5}
	delayBounds = []float64{0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 20, 30, 60}
)

func (n *dvNode) key() engine.Key {
	return engine.Key{Machine: n.e.machine, Node: filepath.Base(n.dir), ID: n.dir}
}

func (n *dvNode) run(ctx context.Context) error {
	c := n.e.o.Config
	row := engine.NodeRow{Key: n.key(), Dir: n.dir, State: "opening"}
	n.show(row)
	var listen []string
	if c.PeerListen != "" {
		listen = []string{c.PeerListen}
	}
	node, err := dv.Open(ctx, n.dir, dv.Options{
		BeaconNodes: c.Beacons, Listen: listen, Peers: n.peers, Nickname: filepath.Base(n.dir),
		AllowLooseModes: c.LooseModes, KeysNeverSigned: c.NeverSigned, Logger: n.e.log, OnReport: n.report, OnStep: n.step,
		Progress: func(done, all int) {
			r := row
			r.State = fmt.Sprintf("opening %d of %d keys", done, all)
			n.show(r)
		},
	})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return n.broken(row, err)
	}
	defer node.Close()
	viewed := make(chan struct{})
	watch, stop := context.WithCancel(ctx)
	go func() { // ends with this node; waited for below
		defer close(viewed)
		n.watch(watch, node)
	}()
	err = node.Run(ctx)
	stop()
	<-viewed
	if err != nil && ctx.Err() == nil {
		return n.broken(row, err)
	}
	return nil
}

// broken says why a node does not run. An engine that runs it alone ends with that.
func (n *dvNode) broken(row engine.NodeRow, err error) error {
	p := nodeProblem(err)
	row.State, row.Problem = "broken", p.Cause
	n.show(row)
	code := engine.FindNodeBroken
	if p.Code == engine.FindNodeMoved {
		code = p.Code
	}
	n.e.state.Tell(state.Raise{Raise: engine.Raise{Code: code, Key: n.key(), Target: "node/" + filepath.Base(n.dir),
		Facts: []engine.Fact{{Name: "why", Value: p.Cause}, {Name: "dir", Value: n.dir}}}})
	n.e.log.Error("node.broken", "node", n.dir, "err", p)
	if len(n.e.o.Config.NodeDirs) == 1 {
		n.e.end(p, false)
	}
	return nil
}

func nodeProblem(err error) *engine.Problem {
	p := engine.Problem{Code: engine.FindNodeBroken, Exit: engine.ExitRefused, Doing: "run node"}
	var e *dv.Error
	if !errors.As(err, &e) {
		return p.Because(err)
	}
	p.Cause, p.Remedy = strings.TrimPrefix(e.Err.Error(), p.Doing+": "), e.Remedy
	switch {
	case e.Code == dv.CodeKeyInUse:
		p.Code, p.Exit = engine.FindKeyInUse, engine.ExitNotAllowed
	case e.Code == dv.CodeMoved:
		p.Code, p.Exit = engine.FindNodeMoved, engine.ExitNotAllowed
	case strings.HasPrefix(string(e.Code), "guard"):
		p.Code = engine.FindGuardRefused
	case e.Code == dv.CodeOptions, e.Code == dv.CodeBeaconOptions, e.Code == dv.CodePeers:
		p.Code, p.Exit = engine.CodeConfigInvalid, engine.ExitUsage
	}
	return p.Because(err)
}

func (n *dvNode) show(row engine.NodeRow) {
	n.e.nodeRows.put(row, n.e.state.Tell)
}

// nodeRows keeps the rows of this engine's own node directories together, as the
// section is told whole.
type nodeRows struct {
	mu   sync.Mutex
	rows []engine.NodeRow
}

func (r *nodeRows) put(row engine.NodeRow, tell func(...state.Fact)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rows := append([]engine.NodeRow(nil), r.rows...) // what was told never changes
	found := false
	for i := range rows {
		if rows[i].Dir == row.Dir {
			rows[i], found = row, true
		}
	}
	if !found {
		rows = append(rows, row)
	}
	r.rows = rows
	tell(state.SetNodes{Rows: rows})
}

// report counts what came of a duty. It is called on the duty's way.
func (n *dvNode) report(v dv.DutyView) {
	n.count(v)
	if v.Duty.Type != cluster.DutyAttester && v.Duty.Type != cluster.DutyProposer {
		return
	}
	missed := map[cluster.PubKey]bool{}
	for _, k := range v.Missed {
		missed[k] = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	sum := &n.attester
	if v.Duty.Type == cluster.DutyProposer {
		sum = &n.proposer
	}
	for _, k := range v.Validators {
		row := n.validators[k]
		if row == nil {
			row = &engine.ValidatorRow{}
			n.validators[k] = row
		}
		own := &row.Attester
		if v.Duty.Type == cluster.DutyProposer {
			own = &row.Proposer
		}
		if missed[k] {
			sum.Missed++
			own.Missed++
		} else {
			sum.Done++
			own.Done++
		}
	}
}

// count counts a duty as a whole.
func (n *dvNode) count(v dv.DutyView) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.counts[v.Duty.Type]
	if c == nil {
		c = &engine.DutyCount{Type: v.Duty.Type.String(), Reasons: map[string]uint64{}, Signed: make([]uint64, len(v.Partials))}
		n.counts[v.Duty.Type] = c
	}
	if v.State == dv.DutyDone {
		c.Done++
	} else {
		c.Failed++
		c.Reasons[v.Reason]++
	}
	// A RANDAO reveal is not sent anywhere: it goes into the block.
	if len(v.Missed) < len(v.Validators) && v.Duty.Type != cluster.DutyRandao {
		c.Sent++
		if v.Delay != nil {
			if c.Delay == nil {
				h := engine.NewHistogram(delayBounds...)
				c.Delay = &h
			}
			c.Delay.Add(v.Delay.Seconds())
		}
	}
	if slices.Max(append([]int{0}, v.Partials...)) > 0 {
		c.Due += uint64(len(v.Validators))
		for i, n := range v.Partials {
			c.Signed[i] += uint64(n)
		}
	}
	if v.Round != nil && v.Leader != nil {
		c.Round, c.Leader = num[int64, int](v.Round), num[cluster.PeerIndex, int](v.Leader)
	}
}

// counted is a copy of the counts, by type.
func (n *dvNode) counted() []engine.DutyCount {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []engine.DutyCount
	for _, t := range slices.Sorted(maps.Keys(n.counts)) {
		c := *n.counts[t]
		c.Reasons, c.Signed = maps.Clone(c.Reasons), slices.Clone(c.Signed)
		if c.Delay != nil {
			c.Delay = c.Delay.Clone()
		}
		out = append(out, c)
	}
	return out
}

// pinged counts the answer to a peer's newest ping, and gives a copy of all.
func (n *dvNode) pinged(p dv.Peer) *engine.Histogram {
	h := n.pings[p.Index]
	if h == nil {
		h = &pings{took: engine.NewHistogram(pingBounds...)}
		n.pings[p.Index] = h
	}
	if p.Seen != nil && p.RTT != nil && p.Seen.After(h.seen) {
		h.seen = *p.Seen
		h.took.Add(p.RTT.Seconds())
	}
	return h.took.Clone()
}

// step hears of every step of a duty, on the duty's way.
func (n *dvNode) step(s dv.Step) {
	if s.Stage != dv.StageSign || s.Duty.Type != cluster.DutyAttester && s.Duty.Type != cluster.DutyProposer {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case dv.Refused(s.Err):
		n.refused = &s
	case s.Err == nil:
		n.allowed = s.At
	}
}

// refusalStays is how long a refusal is news, also when others were signed since.
const refusalStays = time.Minute

// tellRefusal raises that slashing protection refuses, and clears it once it lets sign again.
func (n *dvNode) tellRefusal(v dv.View) {
	n.mu.Lock()
	r := n.refused
	if r != nil && n.allowed.After(r.At) && time.Since(r.At) > refusalStays {
		n.refused, r = nil, nil
	}
	n.mu.Unlock()
	if r == n.raised {
		return
	}
	key := n.clusterKey(v)
	key.ID = n.dir
	if r == nil {
		n.e.state.Tell(state.Clear{Code: engine.FindGuardRefused, Key: key})
	} else {
		why, _, _ := strings.Cut(r.Err.Error(), "\n") // one line for each validator
		n.e.state.Tell(state.Raise{Raise: engine.Raise{Code: engine.FindGuardRefused, Key: key, Target: "node/" + key.Node,
			Facts: []engine.Fact{fact("duty", r.Duty.Type.String()), fact("slot", fmt.Sprint(uint64(r.Duty.Slot))), fact("why", why)}}})
	}
	n.raised = r
}

// watch takes the node's view every so often and tells it.
func (n *dvNode) watch(ctx context.Context, node *dv.Node) {
	tick := time.NewTicker(viewEvery)
	defer tick.Stop()
	for {
		v := node.View()
		n.show(n.nodeRow(v))
		n.e.state.Tell(n.nodeView(v))
		n.tellRefusal(v)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (n *dvNode) clusterKey(v dv.View) engine.Key {
	return engine.Key{Machine: n.e.machine, Cluster: v.LockHash.String()[:min(10, len(v.LockHash.String()))], Node: filepath.Base(n.dir)}
}

func (n *dvNode) nodeRow(v dv.View) engine.NodeRow {
	share := int(v.Self.Share())
	key := n.key()
	key.Cluster = n.clusterKey(v).Cluster
	row := engine.NodeRow{Key: key, Dir: n.dir, Name: v.Name, Network: v.Network, LockHash: v.LockHash.String(), ShareIndex: &share,
		Operators: v.Nodes, Threshold: int(v.Threshold), Validators: len(v.Validators), State: string(v.State), Problem: v.Problem}
	if v.State == dv.NodeRunning && v.Doubt != "" {
		row.Problem = v.Doubt
	}
	return row
}

// statusWord is a validator's state in the few words that tables, rules and filters know.
func statusWord(v dv.ValidatorView) string {
	switch {
	case !v.Known:
		return "unknown"
	case v.Slashed:
		return "slashed"
	case strings.HasPrefix(v.Status, "exited"), strings.HasPrefix(v.Status, "withdrawal"):
		return "exited"
	}
	switch v.Status {
	case "":
		return "not deposited"
	case "pending_initialized":
		return "pending"
	case "pending_queued":
		return "queued"
	case "active_ongoing":
		return "active"
	case "active_exiting":
		return "exiting"
	}
	return "unknown"
}

var readyWords = map[dv.Readiness]string{
	dv.ReadyUnknown: "unknown", dv.ReadyYes: "ready", dv.ReadyBeaconDown: "beacon_node_down", dv.ReadySyncing: "beacon_node_syncing",
	dv.ReadyFewPeers: "insufficient_peers", dv.ReadyBeaconAlone: "beacon_node_zero_peers", dv.ReadyBeaconFar: "beacon_node_far_behind",
}

func ms(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	v := float64(d.Microseconds()) / 1000
	return &v
}

func num[T, U ~uint64 | ~int | ~int64](v *T) *U {
	if v == nil {
		return nil
	}
	u := U(*v)
	return &u
}

// nodeView turns what a node knows into rows.
func (n *dvNode) nodeView(v dv.View) state.NodeView {
	key := n.clusterKey(v)
	at := v.At.UTC()
	out := state.NodeView{Key: key}
	c := engine.ClusterRow{Key: key, Name: v.Name, Network: v.Network, Practice: n.e.o.Config.Practice, Nodes: v.Nodes, Threshold: int(v.Threshold), Quorum: v.Quorum,
		Twins: v.Stale, Ready: readyWords[v.Ready], Why: v.Doubt, Since: n.started, Seen: &at}
	up := v.Connected
	c.PeersUp = &up
	if v.Clock != nil {
		slotS, per := v.Clock.SlotDuration.Seconds(), v.Clock.SlotsPerEpoch
		c.SlotS, c.SlotsPerEpoch = &slotS, &per
		if v.Slot != nil {
			slot, epoch, start := uint64(*v.Slot), uint64(v.Clock.Epoch(*v.Slot)), v.Clock.Start(*v.Slot).UTC()
			c.Slot, c.Epoch, c.SlotAt = &slot, &epoch, &start
		}
		ok := v.State == dv.NodeRunning && v.Doubt == "" && v.Connected >= max(v.Quorum, int(v.Threshold))
		c.SigningOK = &ok
		safe, forS := v.Restart.Safe, v.Restart.For.Seconds()
		c.Restart = engine.Restart{Safe: &safe, Why: v.Restart.Why}
		if v.Restart.For > 0 {
			c.Restart.ForS = &forS
		}
	} else {
		c.Restart = engine.Restart{Why: v.Restart.Why}
	}
	index := map[cluster.PubKey]string{}
	for _, val := range v.Validators {
		if val.Index != nil {
			index[val.PubKey] = fmt.Sprint(*val.Index)
		}
	}
	names := func(k cluster.PubKey) string {
		if s, ok := index[k]; ok {
			return s
		}
		return k.String()
	}
	n.mu.Lock()
	c.Attester, c.Proposer = n.attester, n.proposer
	totals := map[cluster.PubKey]engine.ValidatorRow{}
	for k, r := range n.validators {
		totals[k] = *r
	}
	n.mu.Unlock()
	c.Counts = n.counted()

	next := map[cluster.PubKey]*engine.NextDuty{}
	for _, d := range v.Duties {
		if d.Duty.Type != cluster.DutyAttester && d.Duty.Type != cluster.DutyProposer {
			continue
		}
		row := n.dutyRow(key, v, d, names)
		out.Duties = append(out.Duties, row)
		if d.State != dv.DutyComing {
			continue
		}
		one := engine.NextDuty{Type: row.Type, Slot: row.Slot, At: row.At, Count: len(d.Validators)}
		if len(row.Validators) > 0 {
			one.Validator = row.Validators[0]
		}
		if len(c.Next) < 8 {
			c.Next = append(c.Next, one)
		}
		for i, k := range d.Validators {
			if next[k] == nil {
				own := one
				own.Validator, own.Count = row.Validators[i], 1
				next[k] = &own
			}
		}
	}
	for _, val := range v.Validators {
		r := engine.ValidatorRow{Key: engine.Key{ID: val.PubKey.String()}, PubKey: val.PubKey.String(), Index: num[cluster.ValidatorIndex, uint64](val.Index), Status: statusWord(val), ChainStatus: val.Status,
			BalanceGwei: num[cluster.Gwei, uint64](val.Balance), ActivationEpoch: num[cluster.Epoch, uint64](val.Activation), ExitEpoch: num[cluster.Epoch, uint64](val.Exit),
			Attester: totals[val.PubKey].Attester, Proposer: totals[val.PubKey].Proposer, Next: next[val.PubKey]}
		if val.Words != r.Status {
			r.StatusWhy = val.Words
		}
		out.Validators = append(out.Validators, r)
	}
	n.peersOf(v, &out)
	for _, b := range v.Beacon {
		head, latency := uint64(b.HeadSlot), float64(b.Latency.Microseconds())/1000
		row := engine.BeaconRow{Key: engine.Key{ID: b.Name}, Address: b.Name, State: strings.ReplaceAll(string(b.Status), "_", " "), Version: b.Version, Problem: b.Reason}
		if b.Version != "" {
			row.HeadSlot = &head
			behind := b.SyncDistance
			row.Behind = &behind
			if c.Heads == nil || *c.Heads < head {
				c.Heads = &head
			}
		}
		if b.Latency > 0 {
			row.LatencyMS = &latency
		}
		row.Peers = num[int, uint64](b.Peers)
		out.Beacons = append(out.Beacons, row)
	}
	out.Cluster = c
	return out
}

// detail is an error in one line that fits a row: beacon nodes and peers put what they like into theirs.
func detail(s string) string {
	const most = 300
	line := strings.Join(strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }), "; ")
	if r := []rune(line); len(r) > most {
		line = string(r[:most]) + "…"
	}
	return line
}

func (n *dvNode) dutyRow(key engine.Key, v dv.View, d dv.DutyView, names func(cluster.PubKey) string) engine.DutyRow {
	row := engine.DutyRow{Key: engine.Key{ID: d.Duty.String()}, Type: d.Duty.Type.String(), Slot: uint64(d.Duty.Slot), At: d.Due.UTC(), Step: d.Step, Need: int(v.Threshold),
		DelayMS: ms(d.Delay), Reason: d.Reason, Why: d.Text, Detail: detail(d.Detail), Partials: []int{}}
	if v.Clock != nil {
		row.Epoch = uint64(v.Clock.Epoch(d.Duty.Slot))
	}
	if !d.Ends.IsZero() {
		ends := d.Ends.UTC()
		row.Deadline = &ends
	}
	for _, k := range d.Validators {
		row.Validators = append(row.Validators, names(k))
	}
	for i, count := range d.Partials {
		if count > 0 && count >= len(d.Validators) {
			row.Partials = append(row.Partials, int(cluster.PeerIndex(i).Share()))
		}
	}
	if d.Round != nil {
		r := int(*d.Round)
		row.Round = &r
	}
	switch d.State {
	case dv.DutyComing:
		row.State = engine.DutyKnown
	case dv.DutyRunning:
		row.State = engine.DutyAgreeing
		if d.Round != nil {
			row.State = engine.DutySigning
		}
	case dv.DutyDone:
		row.State = engine.DutySent
	default:
		row.State = engine.DutyMissed
		if d.State == dv.DutyPartly {
			row.Why = fmt.Sprintf("%d of %d missed: %s", len(d.Missed), len(d.Validators), row.Why)
		}
	}
	if row.State != engine.DutySent && row.State != engine.DutySigning && row.State != engine.DutyMissed {
		row.DelayMS = nil
	}
	return row
}

const runsTwice = "it runs more than once: stop all but one"

// twinCopies are the other programs with this node's key.
func twinCopies(twins []dv.Twin) (out []engine.PeerCopy) {
	for _, t := range twins {
		c := engine.PeerCopy{Address: t.Addr, StartedAt: t.StartedAt}
		for _, p := range t.By {
			c.SeenBy = append(c.SeenBy, fmt.Sprintf("node%d", p))
		}
		if t.Duty != nil {
			c.Note = fmt.Sprintf("a message about %s carries this node's signature, and this program did not make it", t.Duty)
		}
		out = append(out, c)
	}
	return out
}

func (n *dvNode) peersOf(v dv.View, out *state.NodeView) {
	host, _ := os.Hostname()
	self := engine.PeerRow{Key: engine.Key{ID: fmt.Sprintf("node%d", v.Self)}, Name: fmt.Sprintf("node%d", v.Self), Index: int(v.Self), Share: int(v.Self.Share()), Self: true,
		State: "up", Version: n.e.o.Version, Client: "provost", LockHash: v.LockHash.String(), Address: host, Nickname: filepath.Base(n.dir), StartedAt: &n.started}
	same := true
	self.LockSame = &same
	self.Copies = twinCopies(v.Twins)
	if len(self.Copies) > 0 {
		self.Problem = runsTwice
	}
	out.Peers = append(out.Peers, self)
	for _, p := range v.Peers {
		row := engine.PeerRow{Key: engine.Key{ID: fmt.Sprintf("node%d", p.Index)}, Name: fmt.Sprintf("node%d", p.Index), Index: int(p.Index), Share: int(p.Index.Share()), State: "down",
			Since: p.Since, RTTMS: ms(p.RTT), ClockMS: ms(p.ClockOffset), Version: p.Version, Client: p.Client, Address: p.Addr, Problem: p.DialError}
		row.Nickname, row.StartedAt, row.Pings = p.Nickname, p.StartedAt, n.pinged(p)
		if p.Told != nil {
			// All of Charon's first major version speaks the protocols that this node speaks.
			builder, supported := p.Builder, strings.HasPrefix(p.Version, "v1.")
			row.Builder, row.Supported = &builder, &supported
		}
		if p.Seen != nil {
			lost := p.LostPings
			row.LostPings = &lost
		}
		if p.Nickname != "" && p.Nickname != row.Name {
			row.Name += " " + p.Nickname
		}
		if p.Route != "" {
			row.State, row.Problem = "up", ""
			if p.LostPings > 2 || p.RTT != nil && *p.RTT > 200*time.Millisecond {
				row.State = "slow"
			}
		}
		switch p.Lock {
		case "same":
			row.LockSame, row.LockHash = &same, v.LockHash.String()
		case "different":
			other := false
			row.LockSame, row.Problem = &other, "it runs with another lock: put the same cluster-lock.json on all nodes"
		}
		for _, c := range p.Copies {
			row.Copies = append(row.Copies, engine.PeerCopy{Address: c.Addr, StartedAt: &c.StartedAt})
		}
		if len(row.Copies) > 0 {
			row.Problem = runsTwice
		}
		out.Peers = append(out.Peers, row)
	}
}
