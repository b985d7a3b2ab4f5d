package dv

import (
	"context"
	"errors"
	"fmt"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/fetch"
	"app.provost/cluster/dv/internal/sched"
	"app.provost/cluster/dv/internal/sign"
	"app.provost/cluster/dv/internal/signdata"
	"app.provost/cluster/guard"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/internal/peer"

	"github.com/attestantio/go-eth2-client/api"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/phase0"
)

// The adapters between rooms that don't know each other: objects to be signed, questions to
// slashing protection, the beacon node's words.

// signingChain is what signatures are bound to.
func signingChain(c beacon.Chain) signdata.Chain {
	out := signdata.Chain{SlotsPerEpoch: c.Clock.SlotsPerEpoch, ValidatorsRoot: c.Genesis.ValidatorsRoot, Genesis: c.Genesis.Fork, Exit: c.Capella}
	for _, f := range c.Forks {
		shape, err := signdata.ShapeNamed(f.Name)
		if err != nil {
			shape = "" // a fork without a name here: its objects are refused where they come up
		}
		out.Forks = append(out.Forks, signdata.Fork{Epoch: f.Epoch, Version: f.Current, Shape: shape})
	}
	return out
}

// tableSpec is what the duty table needs of the chain's configuration.
func tableSpec(c beacon.Chain) sched.Spec {
	bps := func(b beacon.BasisPoints) sched.BasisPoints { return sched.BasisPoints(b) }
	s := sched.Spec{Clock: c.Clock, GloasEpoch: sched.Never,
		AttestationDue: bps(c.Before.Attestation), AggregateDue: bps(c.Before.Aggregate), SyncMessageDue: bps(c.Before.SyncMessage), ContributionDue: bps(c.Before.Contribution),
		GloasAttestationDue: bps(c.Gloas.Attestation), GloasAggregateDue: bps(c.Gloas.Aggregate), GloasSyncMessageDue: bps(c.Gloas.SyncMessage), GloasContributionDue: bps(c.Gloas.Contribution)}
	for _, f := range c.Forks {
		if f.Name == "gloas" {
			s.GloasEpoch = f.Epoch
		}
	}
	return s.WithDefaults()
}

// codec knows the objects of one chain.
type codec struct {
	chain signdata.Chain
	clock cluster.SlotClock
	share cluster.ShareIndex
}

// toSign makes what a validator signs. The data must be the validator's own.
func (c codec) toSign(duty cluster.Duty, key cluster.PubKey, data []byte) (sign.Object, error) {
	var s signdata.Signed
	var err error
	switch duty.Type {
	case cluster.DutyRandao:
		s = signdata.NewRandao(c.clock.Epoch(duty.Slot))
	case cluster.DutyAttester:
		var place signdata.AttesterDuty
		if _, place, err = signdata.DecodeAttester(data); err != nil {
			return sign.Object{}, err
		}
		if place.PubKey != key {
			return sign.Object{}, fmt.Errorf("%w: it names validator %s", signdata.ErrMisfit, place.PubKey)
		}
		s, err = signdata.ToSign(duty, data, c.chain)
	default:
		s, err = signdata.ToSign(duty, data, c.chain)
	}
	if err != nil {
		return sign.Object{}, err
	}
	facts, err := signdata.FactsOf(s, c.chain)
	if err != nil {
		return sign.Object{}, err
	}
	part := sign.Part{Root: facts.SigningRoot}
	switch facts.Kind {
	case signdata.KindAttestation:
		part.Vote = &sign.Vote{Validator: key, Kind: sign.Attestation, Source: facts.Source, Target: facts.Target, SigningRoot: facts.SigningRoot}
	case signdata.KindBlock:
		part.Vote = &sign.Vote{Validator: key, Kind: sign.Block, Slot: facts.Slot, SigningRoot: facts.SigningRoot}
	}
	// An attestation or a block that slashing protection doesn't hear of must not slip through.
	if part.Vote == nil && (duty.Type == cluster.DutyAttester || duty.Type == cluster.DutyProposer) {
		return sign.Object{}, fmt.Errorf("%w: slashing protection would not see it", signdata.ErrMisfit)
	}
	return sign.Object{Parts: []sign.Part{part}, With: func(sigs []cluster.Signature) (cluster.ParSignedData, error) {
		return signdata.Partial(s.WithSignature(sigs[0]), c.share)
	}}, nil
}

// signingRoot is what a partial of the duty signs. The object must belong to the duty.
func (c codec) signingRoot(duty cluster.Duty, _ cluster.PubKey, p cluster.ParSignedData) (cluster.Root, error) {
	s, err := signdata.Parse(duty.Type, p.Data)
	if err != nil {
		return cluster.Root{}, err
	}
	if err := signdata.Fits(s, duty, c.chain); err != nil {
		return cluster.Root{}, err
	}
	if s.Signature() != p.Signature {
		return cluster.Root{}, fmt.Errorf("%w: the signature beside the data isn't the one within", signdata.ErrMalformed)
	}
	return signdata.SigningRoot(s, c.chain)
}

// messageRoot is what partials must have in common.
func (c codec) messageRoot(duty cluster.Duty, _ cluster.PubKey, p cluster.ParSignedData) (cluster.Root, error) {
	s, err := signdata.Parse(duty.Type, p.Data)
	if err != nil {
		return cluster.Root{}, err
	}
	return s.MessageRoot()
}

// insert puts the group's signature into the object that says most: attestations of old peers lack
// the validator's index.
func (c codec) insert(duty cluster.Duty, partials []cluster.ParSignedData, sig cluster.Signature) ([]byte, error) {
	var best signdata.Signed
	for _, p := range partials {
		s, err := signdata.Parse(duty.Type, p.Data)
		if err != nil {
			return nil, err
		}
		if best == nil {
			best = s
		}
		if a, ok := s.(signdata.Attestation); ok {
			if _, indexed := a.ValidatorIndex(); indexed {
				best = s
				break
			}
		}
	}
	if best == nil {
		return nil, errors.New("there is no object")
	}
	return best.WithSignature(sig).Encode()
}

// protection asks slashing protection about votes.
func protection(ask func(context.Context, guard.Batch) (guard.Answers, error)) func(context.Context, []sign.Vote) ([]sign.Answer, error) {
	return func(ctx context.Context, votes []sign.Vote) ([]sign.Answer, error) {
		var batch guard.Batch
		for _, v := range votes {
			switch v.Kind {
			case sign.Attestation:
				batch.Attestations = append(batch.Attestations, guard.Attestation{Key: v.Validator, Source: v.Source, Target: v.Target, Root: v.SigningRoot})
			case sign.Block:
				batch.Blocks = append(batch.Blocks, guard.Block{Key: v.Validator, Slot: v.Slot, Root: v.SigningRoot})
			default:
				return nil, fmt.Errorf("slashing protection knows no %q", v.Kind)
			}
		}
		got, err := ask(ctx, batch)
		if err != nil {
			return nil, err
		}
		if len(got.Attestations) != len(batch.Attestations) || len(got.Blocks) != len(batch.Blocks) {
			return nil, errors.New("slashing protection gave another number of answers than it was asked")
		}
		out := make([]sign.Answer, len(votes))
		a, b := 0, 0
		for i, v := range votes {
			var answer guard.Answer
			if v.Kind == sign.Attestation {
				answer, a = got.Attestations[a], a+1
			} else {
				answer, b = got.Blocks[b], b+1
			}
			if err := answer.Err(); err != nil {
				out[i].Reason, out[i].From = err.Error(), answer.From
			} else {
				out[i].Allowed = answer.OK()
			}
		}
		return out, nil
	}
}

// beaconAPI is what a node asks of its beacon nodes.
type beaconAPI interface {
	Chain(ctx context.Context) (beacon.Chain, error)
	Validators(ctx context.Context, keys []cluster.PubKey) (map[cluster.PubKey]beacon.Validator, error)
	AttesterDuties(ctx context.Context, e cluster.Epoch, indices []phase0.ValidatorIndex) (beacon.AttesterDuties, error)
	ProposerDuties(ctx context.Context, e cluster.Epoch) (beacon.ProposerDuties, error)
	PrepareProposers(ctx context.Context, fees map[phase0.ValidatorIndex]cluster.ETHAddress) error
	AttestationData(ctx context.Context, slot cluster.Slot, committee uint64) (*phase0.AttestationData, error)
	Proposal(ctx context.Context, r beacon.ProposalRequest) (*api.VersionedProposal, error)
	SubmitAttestations(ctx context.Context, list []*spec.VersionedAttestation) error
	SubmitProposal(ctx context.Context, p *api.VersionedSignedProposal) error
	BlockRoot(ctx context.Context, id string) (cluster.Root, error)
	Endpoints() []beacon.Endpoint
}

// peers is what a node asks of its connections to the others.
type peers interface {
	Handle(id string, limit int, fn peer.Handler) error
	Send(ctx context.Context, to cluster.PeerIndex, id string, msg []byte) error
	Status() []peer.Status
	Twins() []peer.Twin
}

// fetchAttestation asks for a view of the chain.
func fetchAttestation(bn beaconAPI) func(context.Context, cluster.Slot, uint64) (fetch.Attestation, error) {
	return func(ctx context.Context, slot cluster.Slot, committee uint64) (fetch.Attestation, error) {
		d, err := bn.AttestationData(ctx, slot, committee)
		if err != nil {
			return fetch.Attestation{}, err
		}
		return fetch.Attestation{Slot: cluster.Slot(d.Slot), Head: cluster.Root(d.BeaconBlockRoot),
			Source: cluster.Epoch(d.Source.Epoch), SourceRoot: cluster.Root(d.Source.Root), Target: cluster.Epoch(d.Target.Epoch), TargetRoot: cluster.Root(d.Target.Root),
			Encode: func(a cluster.Assignment) ([]byte, error) {
				return signdata.EncodeAttester(d, signdata.AttesterDuty{PubKey: a.PubKey, Slot: a.Slot, ValidatorIndex: uint64(a.Validator), CommitteeIndex: a.Committee,
					CommitteeLength: a.CommitteeLength, CommitteesAtSlot: a.CommitteesAtSlot, ValidatorCommittee: a.Position})
			}}, nil
	}
}

// fetchBlock has a block made.
func fetchBlock(bn beaconAPI, graffiti string, boost uint64) func(context.Context, cluster.Slot, cluster.PubKey, cluster.Signature) (fetch.Block, error) {
	var words [32]byte
	copy(words[:], graffiti)
	return func(ctx context.Context, slot cluster.Slot, _ cluster.PubKey, randao cluster.Signature) (fetch.Block, error) {
		p, err := bn.Proposal(ctx, beacon.ProposalRequest{Slot: slot, RandaoReveal: randao, Graffiti: words, BuilderBoost: boost})
		if err != nil {
			return fetch.Block{}, err
		}
		at, err := p.Slot()
		if err != nil {
			return fetch.Block{}, fmt.Errorf("%w: %w", fetch.ErrAnswer, err)
		}
		proposer, err := p.ProposerIndex()
		if err != nil {
			return fetch.Block{}, fmt.Errorf("%w: %w", fetch.ErrAnswer, err)
		}
		out := fetch.Block{Slot: cluster.Slot(at), Proposer: cluster.ValidatorIndex(proposer), Encode: func() ([]byte, error) { return signdata.EncodeProposal(p) }}
		// A builder's block pays the builder first; only its payload says whom then.
		if !p.Blinded {
			if fee, err := p.FeeRecipient(); err == nil {
				to := cluster.ETHAddress(fee)
				out.FeeRecipient = &to
			}
		}
		return out, nil
	}
}

// submitAttestations sends group-signed attestations.
func submitAttestations(bn beaconAPI) func(context.Context, cluster.Duty, cluster.SignedDataSet) (map[cluster.PubKey]error, error) {
	return func(ctx context.Context, _ cluster.Duty, set cluster.SignedDataSet) (map[cluster.PubKey]error, error) {
		keys := make([]cluster.PubKey, 0, len(set))
		list := make([]*spec.VersionedAttestation, 0, len(set))
		for key, d := range set {
			s, err := signdata.Parse(cluster.DutyAttester, d.Data)
			if err != nil {
				return nil, err
			}
			keys, list = append(keys, key), append(list, s.(signdata.Attestation).Versioned())
		}
		err := bn.SubmitAttestations(ctx, list)
		var some *beacon.Error
		if errors.As(err, &some) && len(some.Failures) > 0 {
			refused := map[cluster.PubKey]error{}
			for _, f := range some.Failures {
				if f.Index < 0 || f.Index >= len(keys) {
					return nil, err // it speaks of something else
				}
				refused[keys[f.Index]] = fmt.Errorf("the beacon node refused it: %.200s", f.Message)
			}
			return refused, nil
		}
		return nil, err
	}
}

// submitProposal sends a group-signed block.
func submitProposal(bn beaconAPI) func(context.Context, cluster.Duty, cluster.PubKey, cluster.SignedData) error {
	return func(ctx context.Context, _ cluster.Duty, _ cluster.PubKey, d cluster.SignedData) error {
		s, err := signdata.Parse(cluster.DutyProposer, d.Data)
		if err != nil {
			return err
		}
		return bn.SubmitProposal(ctx, s.(signdata.Proposal).Versioned())
	}
}
