package dv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/fetch"
	"app.provost/cluster/dv/internal/sched"
	"app.provost/cluster/dv/internal/sign"
	"app.provost/cluster/dv/internal/signdata"
	"app.provost/cluster/dv/internal/track"
	"app.provost/cluster/internal/beacon"
)

// What keeps a node from voting for a value or from signing it.

// Errors of doubts. They pass by themselves, and are asked again until the duty's deadline.
var (
	errClock  = errors.New("this machine's clock differs from most peers': set it by NTP")
	errUntold = errors.New("no peer has told its time yet, so this machine's clock is not compared")
	errFuture = errors.New("the duty's slot has not begun by this machine's clock")
	errBeacon = errors.New("no beacon node is in step with the chain")
)

// doubt returns why nothing may be signed now.
func (c *core) doubt(_ context.Context, duty cluster.Duty) error {
	now := time.Now()
	if start := c.chain.Clock.Start(duty.Slot); start.Sub(now) > maxClockOffset {
		return fmt.Errorf("%w: it begins in %s", errFuture, start.Sub(now).Round(time.Millisecond))
	}
	if err := clockDoubt(c.net.Status(), now, c.o.MaxClockOffset); err != nil {
		return err
	}
	return beaconDoubt(c.bn.Endpoints())
}

// staleOffset is how old a peer's word about its clock may be: it is asked once a minute.
const staleOffset = 3 * time.Minute

// tellTime is how long peers that were just met are waited for: they are asked for their time at once.
const tellTime = 10 * time.Second

// clockDoubt compares the clock with the peers': when more than half of those that are known are
// off by more than most, the fault is here. Before the first has told there is nothing to compare
// with; that is waited for while it can be expected.
func clockDoubt(peers []Peer, now time.Time, most time.Duration) error {
	known, off, coming := 0, 0, false
	var worst time.Duration
	for _, p := range peers {
		if p.ClockOffset == nil || p.Told == nil || now.Sub(*p.Told) > staleOffset {
			coming = coming || p.Route != "" && p.Since != nil && now.Sub(*p.Since) < tellTime
			continue
		}
		known++
		if p.ClockOffset.Abs() > most {
			off++
			if p.ClockOffset.Abs() > worst.Abs() {
				worst = *p.ClockOffset
			}
		}
	}
	if 2*off > known {
		return fmt.Errorf("%w: %d of %d peers are off by more than %s, up to %s", errClock, off, known, most, worst.Round(time.Millisecond))
	}
	if known == 0 && coming {
		return errUntold
	}
	return nil
}

// beaconDoubt is nil when a beacon node is up: synced, not optimistic, of our chain.
func beaconDoubt(nodes []BeaconNode) error {
	why := ""
	for _, n := range nodes {
		if n.Status == beacon.StatusUp {
			return nil
		}
		if why != "" {
			why += ", "
		}
		why += n.Name + " is " + string(n.Status)
	}
	return fmt.Errorf("%w: %s", errBeacon, why)
}

// Errors of votes, for the log: the node waits for another leader's value.
var (
	errAssignments = errors.New("the value is not for the validators that have the duty by this node's beacon node")
	errSource      = errors.New("the value's source checkpoint is another than this node's beacon node has")
	errUnknown     = errors.New("this node's beacon node does not know a block that the value votes for")
)

// voteWait is how long a vote waits for the own beacon node to know what a leader's knows: long
// enough for a block to spread, short beside a round.
const voteWait = 300 * time.Millisecond

// vote returns nil when this node votes for a value. It must be well formed, signable, for exactly
// the validators and places that the own beacon node has for the duty, and about blocks that it
// knows. What can't be known because the own beacon node is away is not held against the leader:
// slashing protection stands behind it.
func (c *core) vote(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) error {
	if err := c.signer.Vote(ctx, duty, set); err != nil {
		var wait *sign.WaitError
		if errors.As(err, &wait) {
			c.observe(track.Event{Duty: duty, Step: track.Agreed, Err: &track.WaitError{From: wait.From}, At: time.Now()})
		}
		return err
	}
	if err := c.voteAssignments(duty, set); err != nil {
		return err
	}
	if duty.Type == cluster.DutyAttester {
		return c.voteView(ctx, duty, set)
	}
	return nil
}

// assignmentsOf are the duty's by the own beacon node; nil when it isn't known yet.
func (c *core) assignmentsOf(duty cluster.Duty) map[cluster.PubKey]cluster.Assignment {
	c.mu.Lock()
	if l := c.alive[duty]; l != nil && l.assignments != nil {
		defer c.mu.Unlock()
		return l.assignments
	}
	c.mu.Unlock()
	for _, d := range c.sched.Upcoming() {
		if d.Duty == duty {
			return d.Assignments
		}
	}
	return nil
}

func (c *core) voteAssignments(duty cluster.Duty, set cluster.UnsignedDataSet) error {
	own := c.assignmentsOf(duty)
	if own == nil {
		return nil
	}
	if len(own) != len(set) {
		return fmt.Errorf("%w: it covers %d, %d have it", errAssignments, len(set), len(own))
	}
	for key, data := range set {
		a, ok := own[key]
		if !ok {
			return fmt.Errorf("%w: %s has it not", errAssignments, key)
		}
		switch duty.Type {
		case cluster.DutyAttester:
			_, place, err := signdata.DecodeAttester(data)
			if err != nil {
				return err
			}
			if place.ValidatorIndex != uint64(a.Validator) || place.CommitteeIndex != a.Committee || place.CommitteeLength != a.CommitteeLength || place.ValidatorCommittee != a.Position {
				return fmt.Errorf("%w: %s sits elsewhere", errAssignments, key)
			}
		case cluster.DutyProposer:
			p, err := signdata.DecodeProposal(data)
			if err != nil {
				return err
			}
			if proposer, err := p.ProposerIndex(); err != nil || uint64(proposer) != uint64(a.Validator) {
				return fmt.Errorf("%w: the block is validator %d's", errAssignments, proposer)
			}
		}
	}
	return nil
}

// voteView compares an attestation with what the own beacon node thinks of the chain.
func (c *core) voteView(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) error {
	ctx, cancel := context.WithTimeout(ctx, voteWait)
	defer cancel()
	mine := c.ownValue(ctx, duty)
	checked := map[cluster.Root]bool{}
	for key, data := range set {
		theirs, _, err := signdata.DecodeAttester(data)
		if err != nil {
			return err
		}
		if raw, ok := mine[key]; ok { // otherwise the own beacon node gave nothing in time
			own, _, err := signdata.DecodeAttester(raw)
			if err != nil {
				return err
			}
			// A source that isn't ours would be signed once and forbid the right one ever after.
			if own.Source == nil || theirs.Source == nil || *own.Source != *theirs.Source {
				return errSource
			}
			// Ours was looked at when it was fetched.
			checked[cluster.Root(own.Target.Root)], checked[cluster.Root(own.BeaconBlockRoot)] = true, true
		}
		for _, r := range []cluster.Root{cluster.Root(theirs.Target.Root), cluster.Root(theirs.BeaconBlockRoot)} {
			if checked[r] {
				continue
			}
			if err := c.knows(ctx, r); err != nil {
				return err
			}
			checked[r] = true
		}
	}
	return nil
}

// fetchKnown fetches attestation data and refuses it when it names a head that the beacon node
// doesn't know itself. A head that the beacon node has told of costs no question.
func (c *core) fetchKnown(fetchFrom func(context.Context, cluster.Slot, uint64) (fetch.Attestation, error)) func(context.Context, cluster.Slot, uint64) (fetch.Attestation, error) {
	return func(ctx context.Context, slot cluster.Slot, committee uint64) (fetch.Attestation, error) {
		a, err := fetchFrom(ctx, slot, committee)
		if err != nil {
			return a, err
		}
		wait, cancel := context.WithTimeout(ctx, voteWait)
		defer cancel()
		if c.knows(wait, a.Head) != nil {
			return fetch.Attestation{}, fmt.Errorf("%w: it names a head that it doesn't know itself: %s", fetch.ErrAnswer, a.Head)
		}
		return a, nil
	}
}

// ownValue waits until the own beacon node gave a value or failed to; nil when it didn't in time.
func (c *core) ownValue(ctx context.Context, duty cluster.Duty) cluster.UnsignedDataSet {
	c.mu.Lock()
	l := c.alive[duty]
	c.mu.Unlock()
	if l == nil {
		return nil
	}
	select {
	case <-l.fetched:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return l.own
}

// knows waits until the own beacon node knows a block. A node that can't be asked is not held
// against the leader.
func (c *core) knows(ctx context.Context, root cluster.Root) error {
	c.mu.Lock()
	told := slices.Contains(c.heads[:], root)
	c.mu.Unlock()
	if told {
		return nil
	}
	for {
		_, err := c.bn.BlockRoot(ctx, root.String())
		if err == nil || beacon.KindOf(err) != beacon.KindNotFound {
			return nil
		}
		timer := time.NewTimer(voteWait / 6)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w: %s", errUnknown, root)
		}
	}
}

// onEvent takes what beacon nodes tell unasked.
func (c *core) onEvent(e beacon.Event) {
	switch e.Kind {
	case beacon.EventHead:
		if !e.Optimistic {
			c.mu.Lock()
			copy(c.heads[1:], c.heads[:])
			c.heads[0] = e.Block
			c.mu.Unlock()
		}
		c.sched.OnHead(sched.Head{Slot: e.Slot, Block: e.Block, Optimistic: e.Optimistic, Previous: e.PreviousDependent, Current: e.CurrentDependent})
	case beacon.EventReorg, beacon.EventStreamUp:
		c.sched.Refresh()
	}
}
