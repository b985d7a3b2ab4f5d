package simnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"app.provost/cluster"

	"github.com/attestantio/go-eth2-client/api"
	apiv1electra "github.com/attestantio/go-eth2-client/api/v1/electra"
	apiv1fulu "github.com/attestantio/go-eth2-client/api/v1/fulu"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/altair"
	"github.com/attestantio/go-eth2-client/spec/bellatrix"
	"github.com/attestantio/go-eth2-client/spec/capella"
	"github.com/attestantio/go-eth2-client/spec/deneb"
	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"
	"github.com/holiman/uint256"
)

const gasLimit = 36_000_000

// Values that the practice node and its practice builder offer for a block, in wei.
const (
	localValue   = "10000000000000000"
	builderValue = "20000000000000000"
)

// buildBlock makes a block; parent is nil for genesis. It needs no lock.
func (n *Node) buildBlock(parent *block, s cluster.Slot, proposer valIndex, reveal cluster.Signature, graffiti [32]byte,
	atts []*electra.Attestation, exits []*phase0.SignedVoluntaryExit, fee cluster.ETHAddress) (*block, error) {
	if parent == nil {
		parent = &block{}
	}
	slot := binary.LittleEndian.AppendUint64(nil, uint64(s))
	payload := &deneb.ExecutionPayload{
		ParentHash: parent.hash, FeeRecipient: bellatrix.ExecutionAddress(fee), StateRoot: phase0.Root(madeUp("execution state", parent.hash[:], slot)),
		ReceiptsRoot: phase0.Root(madeUp("receipts")), PrevRandao: madeUp("randao", parent.root[:], reveal[:]), BlockNumber: parent.number + 1,
		GasLimit: gasLimit, Timestamp: uint64(n.clock.Start(s).Unix()), BaseFeePerGas: uint256.NewInt(7), ExtraData: []byte("provost-simnet"),
		Transactions: []bellatrix.Transaction{}, Withdrawals: []*capella.Withdrawal{},
	}
	payload.BlockHash = phase0.Hash32(madeUp("execution block", n.gvr[:], parent.hash[:], slot, payload.PrevRandao[:], fee[:]))
	// No sync committee: no bits, and the signature that stands for nobody.
	sync := &altair.SyncAggregate{SyncCommitteeBits: make([]byte, 64), SyncCommitteeSignature: phase0.BLSSignature{0: 0xc0}}
	body := &electra.BeaconBlockBody{
		RANDAOReveal: phase0.BLSSignature(reveal), Graffiti: graffiti, SyncAggregate: sync, ExecutionPayload: payload,
		ETH1Data:          &phase0.ETH1Data{DepositCount: uint64(len(n.o.Validators)), BlockHash: make([]byte, 32)},
		ProposerSlashings: []*phase0.ProposerSlashing{}, AttesterSlashings: []*electra.AttesterSlashing{}, Attestations: atts, Deposits: []*phase0.Deposit{},
		VoluntaryExits: exits, BLSToExecutionChanges: []*capella.SignedBLSToExecutionChange{}, BlobKZGCommitments: []deneb.KZGCommitment{},
		ExecutionRequests: &electra.ExecutionRequests{Deposits: []*electra.DepositRequest{}, Withdrawals: []*electra.WithdrawalRequest{}, Consolidations: []*electra.ConsolidationRequest{}},
	}
	if atts == nil {
		body.Attestations = []*electra.Attestation{}
	}
	if exits == nil {
		body.VoluntaryExits = []*phase0.SignedVoluntaryExit{}
	}
	b := &electra.BeaconBlock{Slot: phase0.Slot(s), ProposerIndex: phase0.ValidatorIndex(proposer), ParentRoot: phase0.Root(parent.root),
		StateRoot: phase0.Root(madeUp("state", n.gvr[:], parent.root[:], slot)), Body: body}
	root, err := b.HashTreeRoot()
	if err != nil {
		return nil, fmt.Errorf("hash block: %w", err)
	}
	bodyRoot, err := body.HashTreeRoot()
	if err != nil {
		return nil, fmt.Errorf("hash block body: %w", err)
	}
	payloadRoot, err := payload.HashTreeRoot()
	if err != nil {
		return nil, fmt.Errorf("hash payload: %w", err)
	}
	return &block{
		slot: s, proposer: proposer, root: root, parent: parent.root, state: cluster.Root(b.StateRoot), payload: payloadRoot, hash: payload.BlockHash, number: payload.BlockNumber,
		header: &phase0.BeaconBlockHeader{Slot: b.Slot, ProposerIndex: b.ProposerIndex, ParentRoot: b.ParentRoot, StateRoot: b.StateRoot, BodyRoot: bodyRoot},
		signed: &electra.SignedBeaconBlock{Message: b},
	}, nil
}

// offer makes a block for a slot, on the head, with the votes that no block has yet.
func (n *Node) offer(ctx context.Context, s cluster.Slot, reveal cluster.Signature, graffiti [32]byte) (*block, error) {
	n.mu.Lock()
	n.advanceLocked(time.Now())
	current, begun := n.chain.slot, n.chain.begun
	var proposer valIndex
	due := false
	if begun && s > 0 && s >= current && s <= current+1 {
		proposer, due = n.epochLocked(n.clock.Epoch(s)).proposer[s]
	}
	n.mu.Unlock()
	if !due {
		return nil, fmt.Errorf("no block is made for slot %d: it is slot %d", s, current)
	}
	root := n.signingRoot(domainRandao, uintRoot(uint64(n.clock.Epoch(s))))
	if err := n.verifyOne(ctx, proposer, root, reveal); err != nil {
		err = fmt.Errorf("the RANDAO reveal for epoch %d has an %w", n.clock.Epoch(s), err)
		n.mu.Lock()
		n.proposalLocked(s).trouble = err.Error()
		n.chain.tally.refused("proposer", err)
		n.mu.Unlock()
		return nil, err
	}
	n.mu.Lock()
	parent, waiting := n.head(), n.poolLocked(s)
	n.mu.Unlock()
	if parent.slot >= s {
		return nil, fmt.Errorf("the chain has a block of slot %d already", parent.slot)
	}
	var atts []*electra.Attestation
	for _, x := range waiting {
		a, err := n.sums.add(x)
		if err != nil {
			return nil, err
		}
		atts = append(atts, a)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.head() != parent {
		return nil, errors.New("the head changed while the block was made (retryable)")
	}
	var exits []*phase0.SignedVoluntaryExit
	for _, x := range n.chain.exits {
		exits = append(exits, x)
	}
	slices.SortFunc(exits, func(a, b *phase0.SignedVoluntaryExit) int {
		return int(int64(a.Message.ValidatorIndex) - int64(b.Message.ValidatorIndex))
	})
	fee, ok := n.chain.fees[proposer]
	if !ok {
		fee = n.o.Validators[proposer].FeeRecipient
	}
	b, err := n.buildBlock(parent, s, proposer, reveal, graffiti, atts, exits[:min(len(exits), 16)], fee)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(n.chain.offers, func(o *block) bool { return o.root == b.root }) {
		if len(n.chain.offers) >= keepOffers {
			n.chain.offers = slices.Delete(n.chain.offers, 0, 1)
		}
		n.chain.offers = append(n.chain.offers, b)
	}
	return b, nil
}

// blinded is the block with its payload replaced by the payload's header; both have one root.
func blinded(b *block) (*apiv1electra.BlindedBeaconBlock, error) {
	m := b.signed.Message
	p := m.Body.ExecutionPayload
	if len(p.Transactions) != 0 || len(p.Withdrawals) != 0 {
		return nil, errors.New("the payload isn't empty")
	}
	out := &apiv1electra.BlindedBeaconBlock{Slot: m.Slot, ProposerIndex: m.ProposerIndex, ParentRoot: m.ParentRoot, StateRoot: m.StateRoot,
		Body: &apiv1electra.BlindedBeaconBlockBody{
			RANDAOReveal: m.Body.RANDAOReveal, ETH1Data: m.Body.ETH1Data, Graffiti: m.Body.Graffiti, ProposerSlashings: m.Body.ProposerSlashings,
			AttesterSlashings: m.Body.AttesterSlashings, Attestations: m.Body.Attestations, Deposits: m.Body.Deposits, VoluntaryExits: m.Body.VoluntaryExits,
			SyncAggregate: m.Body.SyncAggregate, BLSToExecutionChanges: m.Body.BLSToExecutionChanges, BlobKZGCommitments: m.Body.BlobKZGCommitments,
			ExecutionRequests: m.Body.ExecutionRequests,
			ExecutionPayloadHeader: &deneb.ExecutionPayloadHeader{
				ParentHash: p.ParentHash, FeeRecipient: p.FeeRecipient, StateRoot: p.StateRoot, ReceiptsRoot: p.ReceiptsRoot, LogsBloom: p.LogsBloom,
				PrevRandao: p.PrevRandao, BlockNumber: p.BlockNumber, GasLimit: p.GasLimit, GasUsed: p.GasUsed, Timestamp: p.Timestamp, ExtraData: p.ExtraData,
				BaseFeePerGas: p.BaseFeePerGas, BlockHash: p.BlockHash, BlobGasUsed: p.BlobGasUsed, ExcessBlobGas: p.ExcessBlobGas,
				TransactionsRoot: phase0.Root(listRoot(nil, 20)), WithdrawalsRoot: phase0.Root(listRoot(nil, 4)),
			},
		}}
	root, err := out.HashTreeRoot()
	if err != nil {
		return nil, fmt.Errorf("hash blinded block: %w", err)
	}
	if cluster.Root(root) != b.root {
		return nil, errors.New("blinded and full block differ in their roots")
	}
	return out, nil
}

// contents puts a full block into the object of its fork.
func (n *Node) contents(b *block) *api.VersionedProposal {
	m := b.signed.Message
	if n.o.Fork == Electra {
		return &api.VersionedProposal{Version: spec.DataVersionElectra, Electra: &apiv1electra.BlockContents{Block: m, KZGProofs: []deneb.KZGProof{}, Blobs: []deneb.Blob{}}}
	}
	return &api.VersionedProposal{Version: spec.DataVersionFulu, Fulu: &apiv1fulu.BlockContents{Block: m, KZGProofs: []deneb.KZGProof{}, Blobs: []deneb.Blob{}}}
}

// publication is a signed block as it came in, full or blinded.
type publication struct {
	root      cluster.Root
	slot      cluster.Slot
	proposer  uint64
	signature cluster.Signature
}

// publish takes a signed block. As with votes, a signature counts as soon as it exists: double
// proposals are found before any other rule is asked.
func (n *Node) publish(ctx context.Context, p publication) error {
	if p.proposer >= uint64(len(n.keys)) {
		return fmt.Errorf("validator %d isn't on this chain", p.proposer)
	}
	who := valIndex(p.proposer)
	if err := n.verifyOne(ctx, who, n.signingRoot(domainProposer, p.root), p.signature); err != nil {
		if ctx.Err() != nil {
			return err
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.refuseBlockLocked(p, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.advanceLocked(now)
	switch {
	case n.clock.Epoch(p.slot) > n.clock.Epoch(n.chain.slot)+1 || now.Before(n.clock.Start(p.slot).Add(-n.early())):
		return n.refuseBlockLocked(p, fmt.Errorf("slot %d lies in the future, it is slot %d", p.slot, n.chain.slot))
	case p.slot == 0 || p.slot < n.chain.slot && n.chain.epochs[n.clock.Epoch(p.slot)] == nil: // forgotten
		return n.refuseBlockLocked(p, fmt.Errorf("late: the block of slot %d arrived in slot %d", p.slot, n.chain.slot))
	}
	rec := n.proposalLocked(p.slot)
	if proposer, ok := n.epochLocked(n.clock.Epoch(p.slot)).proposer[p.slot]; !ok || proposer != who {
		return n.refuseBlockLocked(p, fmt.Errorf("validator %d doesn't propose in slot %d", who, p.slot))
	}
	if rec.seenSet && rec.seen != p.root {
		key := fmt.Sprintf("slot %d, block %v", p.slot, p.root)
		if !n.chain.tally.known(key) {
			n.slashableLocked(Evidence{Kind: "double_proposal", Validator: uint64(who), PubKey: n.o.Validators[who].PubKey, At: time.Now().UTC(),
				First: fmt.Sprintf("slot %d, block %v", p.slot, rec.seen), Second: key})
		}
		err := fmt.Errorf("slashable: validator %d signed another block of slot %d before", who, p.slot)
		n.chain.tally.refused("proposer", err)
		return err
	}
	rec.seen, rec.seenSet = p.root, true
	if rec.in != nil || rec.orphaned || n.chain.blocks[p.root] != nil {
		return nil // the same block again: every node of a cluster sends it
	}
	if slices.ContainsFunc(n.chain.held, func(h held) bool { return h.block.root == p.root }) {
		return nil
	}
	i := slices.IndexFunc(n.chain.offers, func(b *block) bool { return b.root == p.root })
	if i < 0 {
		return n.refuseBlockLocked(p, fmt.Errorf("block %v wasn't made by this node: ask it for the block to sign", p.root))
	}
	if n.chain.slot > p.slot {
		return n.refuseBlockLocked(p, fmt.Errorf("late: the block of slot %d arrived in slot %d", p.slot, n.chain.slot))
	}
	b := *n.chain.offers[i]
	m := *b.signed
	m.Signature = phase0.BLSSignature(p.signature)
	b.signed = &m
	if f := n.chain.faults[LateBlock]; f != nil {
		at := n.clock.Start(p.slot).Add(time.Duration(f.DelayMS) * time.Millisecond)
		if at.After(now) {
			n.chain.held = append(n.chain.held, held{at, &b})
			select {
			case n.nudge <- struct{}{}:
			default:
			}
			return nil
		}
	}
	return n.importLocked(&b)
}

func (n *Node) refuseBlockLocked(p publication, err error) error {
	n.chain.tally.refused("proposer", err)
	if rec := n.chain.proposals[p.slot]; rec != nil && uint64(rec.validator) == p.proposer {
		rec.trouble = err.Error()
		if rec.judged {
			n.chain.tally.amend("proposer", p.slot, rec.validator, err.Error())
		}
	}
	return err
}

// importLocked makes a block the head.
func (n *Node) importLocked(b *block) error {
	rec := n.proposalLocked(b.slot)
	old := n.head()
	if b.parent != old.root || b.slot <= old.slot {
		err := fmt.Errorf("the block of slot %d doesn't build on the head, which is of slot %d", b.slot, old.slot)
		rec.trouble = err.Error()
		n.chain.tally.refused("proposer", err)
		return err
	}
	n.chain.blocks[b.root] = b
	n.chain.canonical = append(n.chain.canonical, b)
	n.chain.tally.Blocks++
	rec.in = b
	n.chain.tally.proposer.included(rec.validator, 1)
	for _, a := range b.signed.Message.Body.Attestations {
		ep := n.chain.epochs[cluster.Epoch(a.Data.Target.Epoch)]
		if ep == nil || ep.judged {
			continue
		}
		for _, x := range n.ballotsLocked(a) {
			if x.in == nil {
				x.in = b
				n.chain.tally.attester.included(x.who, 1)
			}
		}
	}
	for _, x := range b.signed.Message.Body.VoluntaryExits {
		i := valIndex(x.Message.ValidatorIndex)
		delete(n.chain.exits, i)
		if _, done := n.chain.exitAt[i]; !done {
			n.chain.exitAt[i] = n.clock.Epoch(b.slot) + 5 // MAX_SEED_LOOKAHEAD and one
			n.chain.tally.Exits++
		}
	}
	n.chain.offers = slices.DeleteFunc(n.chain.offers, func(o *block) bool { return o.slot < b.slot })
	optimistic := n.chain.faults[Optimistic] != nil
	n.emit("block", map[string]any{"slot": dec(uint64(b.slot)), "block": b.root, "execution_optimistic": optimistic})
	n.emitHead(b, n.clock.Epoch(old.slot) != n.clock.Epoch(b.slot), optimistic)
	return nil
}

func (n *Node) emitHead(b *block, newEpoch, optimistic bool) {
	e := n.clock.Epoch(b.slot)
	n.emit("head", map[string]any{"slot": dec(uint64(b.slot)), "block": b.root, "state": b.state, "epoch_transition": newEpoch,
		"previous_duty_dependent_root": n.dependentRoot(e, 1), "current_duty_dependent_root": n.dependentRoot(e, 0), "execution_optimistic": optimistic})
}

// arriveLocked imports blocks that were held back until now.
func (n *Node) arriveLocked(now time.Time) {
	due := slices.Clone(n.chain.held)
	n.chain.held = slices.DeleteFunc(n.chain.held, func(h held) bool { return !h.at.After(now) })
	for _, h := range due {
		if h.at.After(now) {
			continue
		}
		if err := n.importLocked(h.block); err != nil {
			n.log.Info("late block not taken", "slot", uint64(h.block.slot), "err", err)
		}
		if h.block.slot < n.chain.slot {
			n.judgeProposalLocked(h.block.slot)
		}
	}
}

// reorgLocked throws the newest blocks out; what was in them waits for a block again.
func (n *Node) reorgLocked(depth uint64) {
	old := n.head()
	kept := len(n.chain.canonical) - int(min(depth, uint64(len(n.chain.canonical)-1)))
	gone := slices.Clone(n.chain.canonical[kept:])
	if len(gone) == 0 {
		return
	}
	n.chain.canonical = n.chain.canonical[:kept]
	lost := map[*block]bool{}
	for _, b := range gone {
		lost[b] = true
		n.chain.tally.Orphaned++
		rec := n.proposalLocked(b.slot)
		rec.in, rec.orphaned = nil, true
		n.chain.tally.proposer.included(rec.validator, -1)
		if rec.judged {
			rec.judged = false
			n.judgeProposalLocked(b.slot)
		}
	}
	for _, ep := range n.chain.epochs {
		for _, b := range ep.votes {
			if b.in != nil && lost[b.in] && !ep.judged {
				b.in = nil
				n.chain.tally.attester.included(b.who, -1)
			}
		}
	}
	n.chain.offers = nil
	now := n.head()
	n.emit("chain_reorg", map[string]any{"slot": dec(uint64(n.chain.slot)), "depth": dec(uint64(old.slot - now.slot)), "old_head_block": old.root, "new_head_block": now.root,
		"old_head_state": old.state, "new_head_state": now.state, "epoch": dec(uint64(n.clock.Epoch(n.chain.slot))), "execution_optimistic": false})
	n.emitHead(now, false, false)
}

// takeExit checks a signed exit and keeps it for the next block.
func (n *Node) takeExit(ctx context.Context, x *phase0.SignedVoluntaryExit) error {
	m := x.Message
	if m == nil || uint64(m.ValidatorIndex) >= uint64(len(n.keys)) {
		return errors.New("the exit names no validator of this chain")
	}
	root, err := m.HashTreeRoot()
	if err != nil {
		return fmt.Errorf("hash exit: %w", err)
	}
	i := valIndex(m.ValidatorIndex)
	if err := n.verifyOne(ctx, i, n.signingRoot(domainExit, root), cluster.Signature(x.Signature)); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.advanceLocked(time.Now())
	e := n.clock.Epoch(n.chain.slot)
	if _, leaves := n.chain.exitAt[i]; leaves {
		return fmt.Errorf("validator %d is leaving already", i)
	}
	if !n.active(i, e) {
		return fmt.Errorf("validator %d isn't active", i)
	}
	if cluster.Epoch(m.Epoch) > e {
		return fmt.Errorf("the exit holds from epoch %d, it is epoch %d: send it again in the future", m.Epoch, e)
	}
	n.chain.exits[i] = x
	return nil
}

// readPublication reads a signed block and hashes it.
func readPublication(raw []byte, ssz, blind bool, fork Fork) (publication, error) {
	type object interface {
		UnmarshalSSZ([]byte) error
		UnmarshalJSON([]byte) error
	}
	full := new(apiv1electra.SignedBlockContents)
	hidden := new(apiv1electra.SignedBlindedBeaconBlock)
	fulu := new(apiv1fulu.SignedBlockContents)
	var into object = full
	switch {
	case blind:
		into = hidden
	case fork == Fulu:
		into = fulu
	}
	read := into.UnmarshalJSON
	if ssz {
		read = into.UnmarshalSSZ
	}
	if err := read(raw); err != nil {
		return publication{}, fmt.Errorf("not a signed %s block: %w", fork, err)
	}
	if blind {
		m := hidden.Message
		if m == nil || m.Body == nil || m.Body.ExecutionPayloadHeader == nil {
			return publication{}, errors.New("the block has no body")
		}
		root, err := m.HashTreeRoot()
		if err != nil {
			return publication{}, fmt.Errorf("hash block: %w", err)
		}
		return publication{root, cluster.Slot(m.Slot), uint64(m.ProposerIndex), cluster.Signature(hidden.Signature)}, nil
	}
	signed := full.SignedBlock
	if fork == Fulu {
		signed = fulu.SignedBlock
	}
	if signed == nil || signed.Message == nil || signed.Message.Body == nil || signed.Message.Body.ExecutionPayload == nil {
		return publication{}, errors.New("the block has no body")
	}
	m := signed.Message
	root, err := m.HashTreeRoot()
	if err != nil {
		return publication{}, fmt.Errorf("hash block: %w", err)
	}
	return publication{root, cluster.Slot(m.Slot), uint64(m.ProposerIndex), cluster.Signature(signed.Signature)}, nil
}
