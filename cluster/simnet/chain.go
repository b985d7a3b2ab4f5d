package simnet

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sort"
	"time"

	"app.provost/cluster"

	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"
)

// How much is kept. Older slots are forgotten.
const (
	keepOffers   = 128 // blocks made but not yet published, per chain
	keepVotes    = 256 // votes per validator, for finding slashable ones
	keepEvidence = 256
	keepMisses   = 256
)

// chain is the practice chain's state.
type chain struct {
	slot      cluster.Slot // the last one that has begun
	begun     bool         // slot 0 has begun
	epochs    map[cluster.Epoch]*epoch
	blocks    map[cluster.Root]*block
	canonical []*block // ascending slots; the first is the oldest that is kept
	offers    []*block // made here, not yet published; the oldest goes first
	held      []held   // published, kept back by a fault
	proposals map[cluster.Slot]*proposal
	exits     map[valIndex]*phase0.SignedVoluntaryExit // accepted, not yet in a block
	exitAt    map[valIndex]cluster.Epoch
	fees      map[valIndex]cluster.ETHAddress

	justified, finalized checkpoint

	history map[valIndex][]vote // newest last
	faults  map[FaultKind]*Fault
	tally   tally
}

type checkpoint struct {
	epoch cluster.Epoch
	root  cluster.Root
}

// block is a block of the tree; what it points to never changes.
type block struct {
	slot     cluster.Slot
	proposer valIndex
	root     cluster.Root
	parent   cluster.Root
	state    cluster.Root
	header   *phase0.BeaconBlockHeader
	signed   *electra.SignedBeaconBlock // the signature is empty in an offer
	payload  cluster.Root               // hash tree root of the execution payload or its header
	hash     phase0.Hash32              // of the execution block
	number   uint64
}

type held struct {
	at    time.Time
	block *block
}

// epoch holds the duties of an epoch and what came of them, until its window has closed.
type epoch struct {
	duties   []duty                    // ascending slots; never changes
	of       map[valIndex]int          // place in duties
	source   checkpoint                // what votes of this epoch must name
	sourced  bool                      // the epoch has begun, source is known
	votes    map[valIndex]*ballot      // accepted ones
	trouble  map[valIndex]string       // why the last refused one was refused
	proposer map[cluster.Slot]valIndex // never changes
	judged   bool                      // the window has closed
}

type duty struct {
	slot                              cluster.Slot
	validator                         valIndex
	committee, place, length, perSlot uint64
}

// ballot is an accepted vote.
type ballot struct {
	vote
	who       valIndex
	signature cluster.Signature
	in        *block // canonical block that has it, nil when none
}

// vote is what of an attestation matters for slashing and for rewards.
type vote struct {
	data           cluster.Root // hash tree root of the attestation data
	slot           cluster.Slot
	source, target cluster.Epoch
	head           cluster.Root
	targetRoot     cluster.Root
	full           *phase0.AttestationData
}

// proposal is what became of a slot's block.
type proposal struct {
	validator valIndex
	due       bool
	in        *block
	seen      cluster.Root // signed block, for finding double proposals
	seenSet   bool
	trouble   string
	orphaned  bool
	judged    bool
}

func (n *Node) genesis() error {
	n.chain = chain{
		epochs: map[cluster.Epoch]*epoch{}, blocks: map[cluster.Root]*block{}, proposals: map[cluster.Slot]*proposal{},
		exits: map[valIndex]*phase0.SignedVoluntaryExit{}, exitAt: map[valIndex]cluster.Epoch{},
		fees: map[valIndex]cluster.ETHAddress{}, history: map[valIndex][]vote{}, faults: map[FaultKind]*Fault{},
		tally: newTally(len(n.o.Validators)),
	}
	b, err := n.buildBlock(nil, 0, 0, cluster.Signature{}, [32]byte{}, nil, nil, cluster.ETHAddress{})
	if err != nil {
		return fmt.Errorf("make genesis block: %w", err)
	}
	n.chain.blocks[b.root] = b
	n.chain.canonical = []*block{b}
	return nil
}

func (n *Node) head() *block { return n.chain.canonical[len(n.chain.canonical)-1] }

// blockAt is the canonical block at a slot or the last one before it.
func (n *Node) blockAt(s cluster.Slot) *block {
	c := n.chain.canonical
	i := sort.Search(len(c), func(i int) bool { return c[i].slot > s })
	return c[max(i-1, 0)]
}

// dependentRoot is the root of the last block before the epoch that is back epochs before e.
func (n *Node) dependentRoot(e cluster.Epoch, back uint64) cluster.Root {
	first := n.clock.First(cluster.Epoch(uint64(e) - min(uint64(e), back)))
	if first == 0 {
		return n.blockAt(0).root
	}
	return n.blockAt(first - 1).root
}

func (n *Node) active(i valIndex, e cluster.Epoch) bool {
	exit, leaves := n.chain.exitAt[i]
	return n.o.Validators[i].Activation <= e && (!leaves || e < exit)
}

// epochLocked returns an epoch's duties, which follow from its number and the active validators:
// every one attests once, and they propose in turn.
func (n *Node) epochLocked(e cluster.Epoch) *epoch {
	if ep := n.chain.epochs[e]; ep != nil {
		return ep
	}
	ep := &epoch{of: map[valIndex]int{}, votes: map[valIndex]*ballot{}, trouble: map[valIndex]string{}, proposer: map[cluster.Slot]valIndex{}}
	var active []valIndex
	for i := range n.o.Validators {
		if n.active(valIndex(i), e) {
			active = append(active, valIndex(i))
		}
	}
	n.chain.epochs[e] = ep
	if len(active) == 0 {
		return ep
	}
	first, spe := n.clock.First(e), n.clock.SlotsPerEpoch
	for s := range spe {
		slot := first + cluster.Slot(s)
		ep.proposer[slot] = active[uint64(slot)%uint64(len(active))]
	}
	order := append([]valIndex(nil), active...)
	seed := madeUp("shuffle", n.gvr[:], binary.LittleEndian.AppendUint64(nil, uint64(e)))
	rng := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])))
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	perSlot := min(max(uint64(len(order))/spe/128, 1), 64)
	parts := spe * perSlot
	for p := range parts {
		lo, hi := uint64(len(order))*p/parts, uint64(len(order))*(p+1)/parts
		for i := lo; i < hi; i++ {
			ep.of[order[i]] = len(ep.duties)
			ep.duties = append(ep.duties, duty{slot: first + cluster.Slot(p/perSlot), validator: order[i], committee: p % perSlot, place: i - lo, length: hi - lo, perSlot: perSlot})
		}
	}
	return ep
}

// advanceLocked brings the chain to a moment: slots begin, windows close, blocks that were held back
// arrive, faults end, old slots are forgotten.
func (n *Node) advanceLocked(now time.Time) {
	current, ok := n.clock.At(now)
	if !ok {
		return
	}
	for !n.chain.begun || n.chain.slot < current {
		next := n.chain.slot + 1
		if !n.chain.begun {
			next, n.chain.begun = 0, true
		}
		n.arriveLocked(n.clock.Start(next))
		n.beginSlotLocked(next)
	}
	n.arriveLocked(now)
}

func (n *Node) beginSlotLocked(s cluster.Slot) {
	c := &n.chain
	c.slot = s
	e := n.clock.Epoch(s)
	ep := n.epochLocked(e)
	if n.clock.First(e) == s {
		n.beginEpochLocked(e, ep)
	}
	c.tally.Slots++
	if s > 0 && len(ep.proposer) > 0 {
		p := n.proposalLocked(s)
		p.due = true
		c.tally.proposer.expected(p.validator)
	}
	i := sort.Search(len(ep.duties), func(i int) bool { return ep.duties[i].slot >= s })
	for ; i < len(ep.duties) && ep.duties[i].slot == s; i++ {
		c.tally.attester.expected(ep.duties[i].validator)
	}
	if s > 0 {
		n.judgeProposalLocked(s - 1)
	}
	n.faultsAtSlotLocked(s)
}

// proposalLocked returns the record of a slot's block; the slot's epoch must be known.
func (n *Node) proposalLocked(s cluster.Slot) *proposal {
	p := n.chain.proposals[s]
	if p == nil {
		p = &proposal{validator: n.epochLocked(n.clock.Epoch(s)).proposer[s]}
		n.chain.proposals[s] = p
	}
	return p
}

// beginEpochLocked justifies and finalises, judges the epoch whose window has closed, and forgets.
func (n *Node) beginEpochLocked(e cluster.Epoch, ep *epoch) {
	c := &n.chain
	for back := cluster.Epoch(2); back >= 1; back-- {
		if e < back || e-back <= c.justified.epoch || e-back == 0 {
			continue
		}
		p := e - back
		votes, size := 0, len(n.epochLocked(p).duties)
		target := n.blockAt(n.clock.First(p)).root
		for _, b := range c.epochs[p].votes {
			if b.in != nil && b.targetRoot == target {
				votes++
			}
		}
		if size > 0 && votes*3 >= size*2 {
			old := c.justified
			c.justified = checkpoint{p, target}
			if old.epoch+1 == p && old.epoch > 0 {
				c.finalized = old
				n.emit("finalized_checkpoint", map[string]any{"block": old.root, "state": madeUp("state", old.root[:]), "epoch": dec(uint64(old.epoch)), "execution_optimistic": false})
			}
		}
	}
	ep.source, ep.sourced = c.justified, true
	if e >= 2 {
		n.judgeEpochLocked(e - 2) // since Deneb votes are included until the end of the next epoch
	}
	if e >= 4 {
		delete(c.epochs, e-4)
	}
	oldest := n.clock.First(cluster.Epoch(uint64(e) - min(uint64(e), 8)))
	for len(c.canonical) > 1 && c.canonical[1].slot <= oldest {
		c.canonical = c.canonical[1:]
	}
	for root, b := range c.blocks {
		if b.slot < oldest && root != c.canonical[0].root {
			delete(c.blocks, root)
		}
	}
	for s := range c.proposals {
		if s < oldest {
			delete(c.proposals, s)
		}
	}
}

// judgeEpochLocked counts the attestations of an epoch that no block can take any more.
func (n *Node) judgeEpochLocked(e cluster.Epoch) {
	ep := n.chain.epochs[e]
	if ep == nil {
		return
	}
	ep.judged = true
	for _, d := range ep.duties {
		b := ep.votes[d.validator]
		if b != nil && b.in != nil {
			n.chain.tally.reward(b, n.blockAt(d.slot).root, n.blockAt(n.clock.First(e)).root, n.clock.SlotsPerEpoch)
			continue
		}
		reason := nothingCame["attester"]
		switch {
		case b != nil:
			reason = "accepted, but no block took it before its window closed"
		case ep.trouble[d.validator] != "":
			reason = "refused: " + ep.trouble[d.validator]
		}
		n.missedLocked("attester", d.slot, d.validator, reason)
	}
}

// judgeProposalLocked counts a slot's block when the next slot has begun: a block must arrive in its
// own slot, unless a fault holds it back. A reorg can still throw one out later.
func (n *Node) judgeProposalLocked(s cluster.Slot) {
	p := n.chain.proposals[s]
	if p == nil || !p.due || p.judged {
		return
	}
	for _, h := range n.chain.held {
		if h.block.slot == s {
			return // it is on its way; importing judges it
		}
	}
	p.judged = true
	if p.in != nil {
		return
	}
	reason := p.trouble
	switch {
	case p.orphaned:
		reason = "the block was thrown out by a reorg"
	case reason == "":
		reason = nothingCame["proposer"]
	default:
		reason = "refused: " + reason
	}
	n.missedLocked("proposer", s, p.validator, reason)
}

func (n *Node) missedLocked(kind string, s cluster.Slot, v valIndex, reason string) {
	t := &n.chain.tally
	if kind == "attester" {
		t.attester.missed(v)
	} else {
		t.proposer.missed(v)
	}
	t.miss(Miss{Duty: kind, Slot: uint64(s), Validator: uint64(v), PubKey: n.o.Validators[v].PubKey, Reason: reason})
	n.log.Info("duty missed", "duty", kind, "slot", uint64(s), "validator", uint64(v), "reason", reason)
}
