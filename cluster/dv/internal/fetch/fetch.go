// Package fetch asks the beacon node what this node would propose for a duty, and refuses answers
// that belong to another duty.
//
// A Fetcher keeps nothing and may be used from any goroutine. Calls block for the beacon node, for
// the RANDAO reveal that a block needs, and, when a head brought an attestation forward, until the
// node that answers knows that head or the duty's time has come. Nothing is retried here.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"app.provost/cluster"
)

// Attestation is a beacon node's view of the chain for a slot.
type Attestation struct {
	Slot                         cluster.Slot
	Head, SourceRoot, TargetRoot cluster.Root
	Source, Target               cluster.Epoch
	// Encode returns the value of one validator, as it travels.
	Encode func(cluster.Assignment) ([]byte, error)
}

// Block is a block that a beacon node made.
type Block struct {
	Slot         cluster.Slot
	Proposer     cluster.ValidatorIndex
	FeeRecipient *cluster.ETHAddress // nil when the block doesn't say
	Encode       func() ([]byte, error)
}

// Errors of this package, wrapped with duty and cause.
var (
	ErrRandao = errors.New("the RANDAO reveal is missing")
	ErrAnswer = errors.New("the beacon node's answer doesn't belong to the duty: ask its operator, or use another")
	ErrNoData = errors.New("a duty of this type has nothing to fetch")
)

// Options say whom to ask. All but OnFee are required.
type Options struct {
	Clock cluster.SlotClock
	Due   func(cluster.Duty) time.Time
	// OneForAll tells whether all committees of a slot attest to the same data: from Electra on.
	OneForAll    func(cluster.Slot) bool
	Attestation  func(ctx context.Context, slot cluster.Slot, committee uint64) (Attestation, error)
	Block        func(ctx context.Context, slot cluster.Slot, proposer cluster.PubKey, randao cluster.Signature) (Block, error)
	Randao       func(ctx context.Context, slot cluster.Slot, key cluster.PubKey) (cluster.Signature, error)
	FeeRecipient func(cluster.PubKey) cluster.ETHAddress
	// OnFee is told a block whose fees go elsewhere than the lock says. It must not block.
	OnFee func(duty cluster.Duty, key cluster.PubKey, want, got cluster.ETHAddress)
}

// Fetcher asks for values to propose.
type Fetcher struct{ o Options }

// New checks that nothing is missing.
func New(o Options) (*Fetcher, error) {
	if o.Clock.SlotsPerEpoch == 0 || o.Due == nil || o.OneForAll == nil || o.Attestation == nil || o.Block == nil || o.Randao == nil || o.FeeRecipient == nil {
		return nil, errors.New("make a fetcher: all but OnFee is required")
	}
	if o.OnFee == nil {
		o.OnFee = func(cluster.Duty, cluster.PubKey, cluster.ETHAddress, cluster.ETHAddress) {}
	}
	return &Fetcher{o}, nil
}

// Fetch returns what this node would propose for the duty. head is the block that brought it
// forward, or zero. Errors wrap ErrRandao, ErrAnswer, ErrNoData or the beacon node's.
func (f *Fetcher) Fetch(ctx context.Context, duty cluster.Duty, assignments map[cluster.PubKey]cluster.Assignment, head cluster.Root) (cluster.UnsignedDataSet, error) {
	var set cluster.UnsignedDataSet
	var err error
	switch duty.Type {
	case cluster.DutyAttester:
		set, err = f.attester(ctx, duty, assignments, head)
	case cluster.DutyProposer:
		set, err = f.proposer(ctx, duty, assignments)
	default:
		err = ErrNoData
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", duty, err)
	}
	return set, nil
}

func (f *Fetcher) attester(ctx context.Context, duty cluster.Duty, assignments map[cluster.PubKey]cluster.Assignment, head cluster.Root) (cluster.UnsignedDataSet, error) {
	byCommittee := map[uint64]Attestation{}
	set := make(cluster.UnsignedDataSet, len(assignments))
	for key, a := range assignments {
		committee := a.Committee
		if f.o.OneForAll(duty.Slot) {
			committee = 0
		}
		data, ok := byCommittee[committee]
		if !ok {
			var err error
			if data, err = f.attestation(ctx, duty, committee, head); err != nil {
				return nil, err
			}
			byCommittee[committee] = data
		}
		value, err := data.Encode(a)
		if err != nil {
			return nil, err
		}
		set[key] = value
	}
	return set, nil
}

// headPoll is how often a node is asked again that doesn't know the head yet.
const headPoll = 100 * time.Millisecond

// attestation asks until the answer is about the head, or the duty is due by the clock: another
// node may have told the head than the one that answers.
func (f *Fetcher) attestation(ctx context.Context, duty cluster.Duty, committee uint64, head cluster.Root) (Attestation, error) {
	for {
		data, err := f.o.Attestation(ctx, duty.Slot, committee)
		due := f.o.Due(duty)
		waits := head != cluster.Root{} && time.Now().Before(due)
		if err != nil {
			return Attestation{}, err
		}
		if err := f.checkAttestation(duty, data); err != nil {
			return Attestation{}, err
		}
		if !waits || data.Head == head {
			return data, nil
		}
		timer := time.NewTimer(min(headPoll, time.Until(due)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Attestation{}, context.Cause(ctx)
		}
	}
}

func (f *Fetcher) checkAttestation(duty cluster.Duty, a Attestation) error {
	switch epoch := f.o.Clock.Epoch(duty.Slot); {
	case a.Slot != duty.Slot:
		return fmt.Errorf("%w: it is for slot %d", ErrAnswer, a.Slot)
	case a.Target != epoch:
		return fmt.Errorf("%w: its target is epoch %d, the slot's is %d", ErrAnswer, a.Target, epoch)
	case a.Source > a.Target || a.Source == a.Target && a.Target != 0:
		return fmt.Errorf("%w: its source is epoch %d, its target %d", ErrAnswer, a.Source, a.Target)
	}
	return nil
}

func (f *Fetcher) proposer(ctx context.Context, duty cluster.Duty, assignments map[cluster.PubKey]cluster.Assignment) (cluster.UnsignedDataSet, error) {
	set := make(cluster.UnsignedDataSet, len(assignments))
	for key, a := range assignments {
		randao, err := f.o.Randao(ctx, duty.Slot, key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRandao, err)
		}
		block, err := f.o.Block(ctx, duty.Slot, key, randao)
		if err != nil {
			return nil, err
		}
		switch {
		case block.Slot != duty.Slot:
			return nil, fmt.Errorf("%w: the block is for slot %d", ErrAnswer, block.Slot)
		case block.Proposer != a.Validator:
			return nil, fmt.Errorf("%w: the block is validator %d's, not %d's", ErrAnswer, block.Proposer, a.Validator)
		}
		if want := f.o.FeeRecipient(key); block.FeeRecipient != nil && *block.FeeRecipient != want {
			f.o.OnFee(duty, key, want, *block.FeeRecipient)
		}
		if set[key], err = block.Encode(); err != nil {
			return nil, err
		}
	}
	return set, nil
}
