package agree

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/qbft"
	"app.provost/cluster/internal/wirepb"
)

type msg = qbft.Msg[cluster.Root]

// instance is one duty's agreement. Its machine belongs to the goroutine of run.
type instance struct {
	c      *Consensus
	duty   cluster.Duty
	expiry *time.Timer
	over   chan struct{} // closed when the duty is dropped
	wake   chan struct{} // capacity 1: something came in

	// guarded by Consensus.mu
	started bool
	spent   map[cluster.PeerIndex]int
	made    map[cluster.Root]bool // what this node signed, by the hash that it signed

	mu       sync.Mutex // guards all below; taken after Consensus.mu
	inbox    map[cluster.PeerIndex][]msg
	values   map[cluster.Root]*value
	proposal cluster.Root
}

func newInstance(c *Consensus, duty cluster.Duty) *instance {
	return &instance{c: c, duty: duty, over: make(chan struct{}), wake: make(chan struct{}, 1), spent: map[cluster.PeerIndex]int{}, made: map[cluster.Root]bool{},
		inbox: map[cluster.PeerIndex][]msg{}, values: map[cluster.Root]*value{}}
}

// missing is the size of the values that aren't known yet.
func (i *instance) missing(values map[cluster.Root]*value) (n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for h, v := range values {
		if i.values[h] == nil {
			n += len(v.any.GetValue()) * 2 // once in bytes, once decoded
		}
	}
	return n
}

// enqueue keeps a checked message for run. The sender's oldest one goes when it has too many.
func (i *instance) enqueue(from cluster.PeerIndex, m msg, values map[cluster.Root]*value) {
	i.mu.Lock()
	for h, v := range values {
		if i.values[h] == nil {
			i.values[h] = v
		}
	}
	q := i.inbox[from]
	if len(q) >= maxQueued {
		q = append(q[:0], q[1:]...)
	}
	i.inbox[from] = append(q, m)
	i.mu.Unlock()
	i.nudge()
}

func (i *instance) nudge() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

func (i *instance) propose(hash cluster.Root, any *anypb.Any) error {
	v, _, err := openValue(any)
	if err != nil {
		return fmt.Errorf("propose for %s: %w: %w", i.duty, ErrValue, err)
	}
	i.mu.Lock()
	if i.proposal != (cluster.Root{}) && i.proposal != hash {
		i.mu.Unlock()
		return fmt.Errorf("propose for %s: %w", i.duty, ErrProposed)
	}
	i.proposal = hash
	if i.values[hash] == nil {
		i.values[hash] = v
	}
	i.mu.Unlock()
	i.nudge()
	return nil
}

// take empties the inbox, in turn by sender, and returns the own proposal.
func (i *instance) take() (in []msg, proposal cluster.Root) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for peer := range cluster.PeerIndex(i.c.o.Nodes) {
		in = append(in, i.inbox[peer]...)
	}
	clear(i.inbox)
	return in, i.proposal
}

func (i *instance) value(h cluster.Root) *value {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.values[h]
}

// same finds the value that was written in exactly these bytes.
func (i *instance) same(any *anypb.Any) (*value, cluster.Root) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for h, v := range i.values {
		if v.any.GetTypeUrl() == any.GetTypeUrl() && bytes.Equal(v.any.GetValue(), any.GetValue()) {
			return v, h
		}
	}
	return nil, cluster.Root{}
}

func (i *instance) leader(round int64) cluster.PeerIndex {
	return cluster.PeerIndex(qbft.Leader(uint64(i.duty.Slot), int64(i.duty.Type), round, i.c.o.Nodes))
}

// maxBehind is how many rounds may be made up for one by one, as all nodes do after a doubled round.
// A node that is further behind was frozen or late, and goes to the running round at once.
const maxBehind = 3

// run drives the machine until the duty's deadline.
func (i *instance) run(ctx context.Context) {
	began := time.Now()
	rounds := qbft.NewTimer(i.c.o.RoundsFrom(i.duty), i.duty.Type == cluster.DutyProposer)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	var machine *qbft.Instance[cluster.Root]
	machine = qbft.New(qbft.Config[cluster.Root]{
		Nodes: i.c.o.Nodes, Self: int(i.c.o.Self),
		Leader: func(round int64) int { return int(i.leader(round)) },
		Vote: func(h cluster.Root) bool {
			set, err := i.value(h).set.Noun()
			if err == nil {
				err = i.c.o.Vote(ctx, i.duty, set)
			}
			if err != nil {
				i.c.o.Log.Warn("not voting for a proposed value", "duty", i.duty.String(), "round", machine.Round(), "leader", int(i.leader(machine.Round())), "err", err)
			}
			return err == nil
		},
		Send: i.send,
		Arm:  func(round int64) { timer.Reset(max(time.Until(rounds.Arm(round)), 0)) },
		Decide: func(h cluster.Root, commits []msg) {
			timer.Stop()
			round := commits[0].Round
			i.c.o.Decided(Decision{Duty: i.duty, Round: round, Leader: i.leader(round), Took: time.Since(began)})
			i.tell(h)
		},
	})
	machine.Start()
	for {
		in, proposal := i.take()
		machine.Propose(proposal)
		for _, m := range in {
			if !machine.Receive(m) {
				i.c.o.Log.Debug("dropped a consensus message that isn't justified", "duty", i.duty.String(), "type", m.Type.String(), "peer", m.Source, "round", m.Round)
			}
		}
		select {
		case <-i.wake:
		case <-timer.C:
			round := machine.Round()
			i.c.o.Timeout(i.duty, round, i.leader(round))
			if running := rounds.Running(time.Now()); running > round+maxBehind {
				machine.TimeoutTo(running)
			} else {
				machine.Timeout(round)
			}
		case <-i.over:
			if !machine.Done() {
				i.c.o.Undecided(i.duty, machine.Round())
			}
			return
		case <-ctx.Done():
			i.c.drop(i)
			return
		}
	}
}

// tell calls who wants to hear of the decision, in a goroutine of its own: answering peers that are
// behind must not wait for signing.
func (i *instance) tell(h cluster.Root) {
	i.c.mu.Lock()
	fns := i.c.decided
	i.c.mu.Unlock()
	v := i.value(h)
	i.c.running.Add(1)
	i.c.o.Spawn("agree decided "+i.duty.String(), func(ctx context.Context) error {
		defer i.c.running.Done()
		for _, fn := range fns {
			set, err := v.set.Noun()
			if err != nil {
				return nil // checked when it came in
			}
			fn(ctx, i.duty, set)
		}
		return nil
	})
}

// send signs an own message and hands it to the peers, with the values of all its hashes.
func (i *instance) send(m msg) any {
	w := &wirepb.QBFTMsg{Type: int64(m.Type), Duty: wirepb.NewDuty(i.duty), PeerIdx: int64(m.Source), Round: m.Round,
		ValueHash: m.Value[:], PreparedRound: m.PreparedRound, PreparedValueHash: m.PreparedValue[:]}
	sign := func(hash [32]byte) (cluster.HexBytes, error) {
		i.c.mu.Lock()
		i.made[hash] = true // a few for each round, of which the deadline allows so many
		i.c.mu.Unlock()
		return i.c.o.Sign(hash)
	}
	if err := wirepb.SignQBFT(w, sign); err != nil {
		i.c.o.Log.Error("cannot sign a consensus message: this node's vote is missing", "duty", i.duty.String(), "err", err)
		return w
	}
	out := &wirepb.QBFTConsensusMsg{Msg: w}
	sent := map[cluster.Root]bool{{}: true}
	for _, x := range append([]msg{m}, m.Justification...) {
		for _, h := range []cluster.Root{x.Value, x.PreparedValue} {
			if sent[h] {
				continue
			}
			sent[h] = true
			if v := i.value(h); v != nil {
				out.Values = append(out.Values, v.any)
			}
		}
	}
	for _, j := range m.Justification {
		out.Justification = append(out.Justification, j.Wire.(*wirepb.QBFTMsg))
	}
	frame, err := wirepb.Encode(out)
	if err != nil {
		i.c.o.Log.Error("cannot encode a consensus message: this node's vote is missing", "duty", i.duty.String(), "err", err)
		return w
	}
	i.c.mu.Lock()
	i.c.sniffLocked(i.duty, out)
	i.c.mu.Unlock()
	i.c.fan.Send(frame)
	return w
}

// inbound is a checked message as the machine takes it. Its parts keep their wire form, so that they
// can be passed on as justifications.
func inbound(m *wirepb.QBFTConsensusMsg) msg {
	out := inboundOne(m.GetMsg())
	for _, j := range m.GetJustification() {
		out.Justification = append(out.Justification, inboundOne(j))
	}
	return out
}

func inboundOne(m *wirepb.QBFTMsg) msg {
	return msg{Type: qbft.MsgType(m.GetType()), Source: int(m.GetPeerIdx()), Round: m.GetRound(), Value: root(m.GetValueHash()),
		PreparedRound: m.GetPreparedRound(), PreparedValue: root(m.GetPreparedValueHash()), Wire: m}
}

// root reads a checked hash; none at all is the zero one.
func root(b []byte) (r cluster.Root) {
	copy(r[:], b)
	return r
}
