package simnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"

	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"
)

// attestationData is what to vote for in a slot, as fork choice has it now.
func (n *Node) attestationData(s cluster.Slot) (*phase0.AttestationData, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s > n.chain.slot+1 || !n.chain.begun {
		return nil, fmt.Errorf("slot %d lies in the future, it is slot %d", s, n.chain.slot)
	}
	e := n.clock.Epoch(s)
	ep := n.chain.epochs[e]
	if ep == nil && e < n.clock.Epoch(n.chain.slot) {
		return nil, fmt.Errorf("slot %d is too old", s)
	}
	source := n.chain.justified
	if ep != nil && ep.sourced {
		source = ep.source
	}
	d := &phase0.AttestationData{
		Slot: phase0.Slot(s), BeaconBlockRoot: phase0.Root(n.blockAt(s).root),
		Source: &phase0.Checkpoint{Epoch: phase0.Epoch(source.epoch), Root: phase0.Root(source.root)},
		Target: &phase0.Checkpoint{Epoch: phase0.Epoch(e), Root: phase0.Root(n.blockAt(n.clock.First(e)).root)},
	}
	if n.chain.faults[Lying] != nil {
		d.BeaconBlockRoot = phase0.Root(madeUp("lie", d.BeaconBlockRoot[:]))
	}
	return d, nil
}

// early is how far ahead of its time a message may be, by the gossip rules or a quarter of a short slot.
func (n *Node) early() time.Duration { return min(500*time.Millisecond, n.o.SlotDuration/4) }

type arrived struct {
	place int // in the request
	att   *electra.SingleAttestation
	index valIndex
	vote  vote
	point bls.SignaturePoint
}

// takeAttestations checks a request's attestations and returns the failures by their places.
func (n *Node) takeAttestations(ctx context.Context, list []*electra.SingleAttestation) (map[int]error, error) {
	failures := map[int]error{}
	groups := map[cluster.Root][]*arrived{}
	var order []cluster.Root
	for i, a := range list {
		if a == nil { // couldn't be read
			continue
		}
		x, err := n.readAttestation(i, a)
		if err != nil {
			failures[i] = err
			continue
		}
		if n.repeated(x) {
			continue
		}
		if x.point, err = bls.ParseSignature(cluster.Signature(a.Signature)); err != nil {
			failures[i] = n.refuse(x, fmt.Errorf("the signature is no signature: %w", err))
			continue
		}
		if groups[x.vote.data] == nil {
			order = append(order, x.vote.data)
		}
		groups[x.vote.data] = append(groups[x.vote.data], x)
	}
	for _, data := range order {
		group := groups[data]
		root := n.signingRoot(domainAttester, data)
		valid, err := n.check(ctx, group, root)
		if err != nil {
			return failures, err
		}
		for i, x := range group {
			if !valid[i] {
				failures[x.place] = n.refuse(x, fmt.Errorf("invalid signature: validator %d did not sign root %v", x.index, root))
				continue
			}
			if err := n.cast(x); err != nil {
				failures[x.place] = err
			}
		}
	}
	return failures, nil
}

func (n *Node) readAttestation(place int, a *electra.SingleAttestation) (*arrived, error) {
	if a.Data == nil || a.Data.Source == nil || a.Data.Target == nil {
		return nil, errors.New("the attestation has no data")
	}
	if uint64(a.AttesterIndex) >= uint64(len(n.keys)) {
		return nil, fmt.Errorf("validator %d isn't on this chain", a.AttesterIndex)
	}
	root, err := a.Data.HashTreeRoot()
	if err != nil {
		return nil, fmt.Errorf("hash attestation data: %w", err)
	}
	d := a.Data
	return &arrived{place: place, att: a, index: valIndex(a.AttesterIndex), vote: vote{
		data: root, slot: cluster.Slot(d.Slot), source: cluster.Epoch(d.Source.Epoch), target: cluster.Epoch(d.Target.Epoch),
		head: cluster.Root(d.BeaconBlockRoot), targetRoot: cluster.Root(d.Target.Root), full: d,
	}}, nil
}

// repeated tells whether the very same attestation was accepted before: every node of a cluster sends
// each one.
func (n *Node) repeated(x *arrived) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	ep := n.chain.epochs[x.vote.target]
	if ep == nil || ep.votes[x.index] == nil {
		return false
	}
	b := ep.votes[x.index]
	i, ok := ep.of[x.index]
	return ok && b.data == x.vote.data && b.signature == cluster.Signature(x.att.Signature) && ep.duties[i].committee == uint64(x.att.CommitteeIndex)
}

// check verifies signatures over one root, all in one when they are good.
func (n *Node) check(ctx context.Context, group []*arrived, root cluster.Root) ([]bool, error) {
	select {
	case n.verify <- struct{}{}:
		defer func() { <-n.verify }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out := make([]bool, len(group))
	keys, points := make([]bls.PublicKey, len(group)), make([]bls.SignaturePoint, len(group))
	for i, x := range group {
		keys[i], points[i] = n.keys[x.index], x.point
	}
	all := len(group) > 1 && bls.VerifyBatch(keys, root[:], points) == nil
	for i := range group {
		if i%32 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		out[i] = all || points[i].Verify(keys[i], root[:]) == nil
	}
	return out, nil
}

func (n *Node) verifyOne(ctx context.Context, i valIndex, root cluster.Root, sig cluster.Signature) error {
	select {
	case n.verify <- struct{}{}:
		defer func() { <-n.verify }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := n.keys[i].Verify(root[:], sig); err != nil {
		return fmt.Errorf("invalid signature: validator %d did not sign root %v", i, root)
	}
	return nil
}

// refuse notes why a validator's attestation wasn't accepted.
func (n *Node) refuse(x *arrived, err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.refuseLocked(x, err)
}

func (n *Node) refuseLocked(x *arrived, err error) error {
	n.chain.tally.refused("attester", err)
	// A duty is named by the slot; a message for a slot of another epoch is nobody's duty there.
	if ep := n.chain.epochs[n.clock.Epoch(x.vote.slot)]; ep != nil {
		if i, ok := ep.of[x.index]; ok && ep.duties[i].slot == x.vote.slot {
			ep.trouble[x.index] = err.Error()
			if ep.judged {
				n.chain.tally.amend("attester", x.vote.slot, x.index, err.Error())
			}
		}
	}
	return err
}

// cast takes a vote whose signature is good. Slashable ones are found before any other rule is asked:
// a signature counts as soon as it exists.
func (n *Node) cast(x *arrived) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.advanceLocked(now)
	if err := n.witnessLocked(x); err != nil {
		return n.refuseLocked(x, err)
	}
	v := x.vote
	switch {
	case v.full.Index != 0:
		return n.refuseLocked(x, fmt.Errorf("the data's index is %d, from Electra on it is 0", v.full.Index))
	case now.Before(n.clock.Start(v.slot).Add(-n.early())):
		return n.refuseLocked(x, fmt.Errorf("slot %d lies in the future, it is slot %d", v.slot, n.chain.slot))
	case n.clock.Epoch(v.slot) != v.target:
		return n.refuseLocked(x, fmt.Errorf("the target is epoch %d, slot %d lies in epoch %d", v.target, v.slot, n.clock.Epoch(v.slot)))
	case v.target+1 < n.clock.Epoch(n.chain.slot):
		return n.refuseLocked(x, fmt.Errorf("late: slot %d could be included until the end of epoch %d, it is epoch %d", v.slot, v.target+1, n.clock.Epoch(n.chain.slot)))
	}
	ep := n.epochLocked(v.target)
	i, ok := ep.of[x.index]
	if !ok || ep.duties[i].slot != v.slot {
		return n.refuseLocked(x, fmt.Errorf("validator %d doesn't attest in slot %d", x.index, v.slot))
	}
	if d := ep.duties[i]; d.committee != uint64(x.att.CommitteeIndex) {
		return n.refuseLocked(x, fmt.Errorf("wrong committee: validator %d sits in committee %d of slot %d, not in %d", x.index, d.committee, v.slot, x.att.CommitteeIndex))
	}
	if !ep.sourced || v.source != ep.source.epoch || cluster.Root(v.full.Source.Root) != ep.source.root {
		return n.refuseLocked(x, fmt.Errorf("wrong source: epoch %d was justified, the vote names epoch %d", ep.source.epoch, v.source))
	}
	if h := n.chain.blocks[v.head]; h == nil || h.slot > v.slot {
		return n.refuseLocked(x, fmt.Errorf("unknown head block %v", v.head))
	}
	if t := n.chain.blocks[v.targetRoot]; t == nil || t.slot > n.clock.First(v.target) {
		return n.refuseLocked(x, fmt.Errorf("unknown target block %v", v.targetRoot))
	}
	delete(ep.trouble, x.index)
	if ep.votes[x.index] != nil {
		return nil // the same one, by the test for slashable votes
	}
	ep.votes[x.index] = &ballot{vote: v, who: x.index, signature: cluster.Signature(x.att.Signature)}
	return nil
}

// witnessLocked compares a vote with all earlier ones of the validator and remembers it. The earlier
// one of a slashable pair stands; the later one is refused however often it comes.
func (n *Node) witnessLocked(x *arrived) error {
	v := x.vote
	if ep := n.chain.epochs[v.target]; ep != nil && ep.votes[x.index] != nil && ep.votes[x.index].data == v.data {
		return nil
	}
	past := n.chain.history[x.index]
	seen := slices.ContainsFunc(past, func(o vote) bool { return o.data == v.data })
	for _, old := range past {
		kind, why := "", ""
		switch {
		case old.data == v.data:
		case old.target == v.target:
			kind, why = "double_vote", fmt.Sprintf("slashable: validator %d voted for target epoch %d before, with other data", x.index, v.target)
		case old.source < v.source && v.target < old.target, v.source < old.source && old.target < v.target:
			kind, why = "surround_vote", fmt.Sprintf("slashable: the votes %d→%d and %d→%d of validator %d surround each other", old.source, old.target, v.source, v.target, x.index)
		}
		if kind == "" {
			continue
		}
		if !seen {
			n.slashableLocked(Evidence{Kind: kind, Validator: uint64(x.index), PubKey: n.o.Validators[x.index].PubKey, At: time.Now().UTC(), First: voteText(old), Second: voteText(v)})
			n.rememberLocked(x)
		}
		return errors.New(why)
	}
	n.rememberLocked(x)
	return nil
}

func (n *Node) rememberLocked(x *arrived) {
	past := n.chain.history[x.index]
	if slices.ContainsFunc(past, func(o vote) bool { return o.data == x.vote.data }) {
		return
	}
	if len(past) >= keepVotes {
		past = slices.Delete(past, 0, 1)
	}
	n.chain.history[x.index] = append(past, x.vote)
}

func voteText(v vote) string {
	return fmt.Sprintf("slot %d, %d→%d, head %v, target %v", v.slot, v.source, v.target, v.head, v.targetRoot)
}

func (n *Node) slashableLocked(e Evidence) {
	n.chain.tally.slashable(e)
	n.log.Error("slashable message", "kind", e.Kind, "validator", e.Validator, "first", e.First, "second", e.Second)
}

// poolLocked collects the attestations for a block of a slot on the head: votes of the window that no
// block has yet, per data.
func (n *Node) poolLocked(s cluster.Slot) []unsummed {
	e := n.clock.Epoch(s)
	type sum struct {
		slot  cluster.Slot
		data  *phase0.AttestationData
		ep    *epoch
		votes map[valIndex]*ballot
	}
	sums := map[cluster.Root]*sum{}
	for back := cluster.Epoch(0); back <= min(e, 1); back++ {
		ep := n.chain.epochs[e-back]
		if ep == nil {
			continue
		}
		for i, b := range ep.votes {
			if b.in != nil || b.slot >= s {
				continue
			}
			if sums[b.data] == nil {
				sums[b.data] = &sum{b.slot, b.full, ep, map[valIndex]*ballot{}}
			}
			sums[b.data].votes[i] = b
		}
	}
	list := make([]*sum, 0, len(sums))
	for _, x := range sums {
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b *sum) int { // newest and largest first: they earn most
		if a.slot != b.slot {
			return int(int64(b.slot) - int64(a.slot))
		}
		return len(b.votes) - len(a.votes)
	})
	var out []unsummed
	for _, x := range list[:min(len(list), 8)] {
		out = append(out, gather(x.data, x.ep, x.slot, x.votes))
	}
	return out
}

// unsummed is an attestation whose signatures aren't added up yet.
type unsummed struct {
	att  *electra.Attestation
	sigs []cluster.Signature
}

// gather collects votes of one slot: bits run over the members of all committees that are named.
func gather(data *phase0.AttestationData, ep *epoch, s cluster.Slot, votes map[valIndex]*ballot) unsummed {
	var sigs []cluster.Signature
	var committees uint64
	for _, d := range ep.duties {
		if d.slot == s && votes[d.validator] != nil {
			committees |= 1 << d.committee
		}
	}
	var bits []bool
	for _, d := range ep.duties { // ascending committees and places
		if d.slot != s || committees&(1<<d.committee) == 0 {
			continue
		}
		b := votes[d.validator]
		bits = append(bits, b != nil)
		if b != nil {
			sigs = append(sigs, b.signature)
		}
	}
	list := make([]byte, len(bits)/8+1)
	for i, set := range bits {
		if set {
			list[i/8] |= 1 << (i % 8)
		}
	}
	list[len(bits)/8] |= 1 << (len(bits) % 8) // the bit after the last marks the length
	named := make([]byte, 8)
	for i := range 64 {
		if committees&(1<<i) != 0 {
			named[i/8] |= 1 << (i % 8)
		}
	}
	return unsummed{&electra.Attestation{AggregationBits: list, Data: data, CommitteeBits: named}, sigs}
}

// sums remembers sums of signatures: every node of a cluster asks for the same block. A validator has
// one signature per data, so that data and bits say all.
type sums struct {
	mu   sync.Mutex
	list map[string]phase0.BLSSignature
}

const keepSums = 64

func (m *sums) add(x unsummed) (*electra.Attestation, error) {
	data, err := x.att.Data.HashTreeRoot()
	if err != nil {
		return nil, fmt.Errorf("hash attestation data: %w", err)
	}
	key := string(data[:]) + string(x.att.CommitteeBits) + string(x.att.AggregationBits)
	m.mu.Lock()
	defer m.mu.Unlock()
	sum, ok := m.list[key]
	if !ok {
		total, err := bls.Aggregate(x.sigs)
		if err != nil {
			return nil, fmt.Errorf("add up %d attestations: %w", len(x.sigs), err)
		}
		sum = phase0.BLSSignature(total)
		if len(m.list) >= keepSums {
			clear(m.list)
		}
		if m.list == nil {
			m.list = map[string]phase0.BLSSignature{}
		}
		m.list[key] = sum
	}
	x.att.Signature = sum
	return x.att, nil
}

// ballotsLocked are the votes that an attestation of a block made here stands for.
func (n *Node) ballotsLocked(a *electra.Attestation) []*ballot {
	data, err := a.Data.HashTreeRoot()
	if err != nil {
		return nil
	}
	ep := n.chain.epochs[cluster.Epoch(a.Data.Target.Epoch)]
	if ep == nil {
		return nil
	}
	var out []*ballot
	place := 0
	for _, d := range ep.duties {
		if d.slot != cluster.Slot(a.Data.Slot) || a.CommitteeBits[d.committee/8]&(1<<(d.committee%8)) == 0 {
			continue
		}
		if place/8 < len(a.AggregationBits) && a.AggregationBits[place/8]&(1<<(place%8)) != 0 {
			if b := ep.votes[d.validator]; b != nil && b.data == data {
				out = append(out, b)
			}
		}
		place++
	}
	return out
}
