package signdata

import (
	"encoding/binary"
	"fmt"

	"github.com/attestantio/go-eth2-client/api"
	v1bellatrix "github.com/attestantio/go-eth2-client/api/v1/bellatrix"
	v1capella "github.com/attestantio/go-eth2-client/api/v1/capella"
	v1deneb "github.com/attestantio/go-eth2-client/api/v1/deneb"
	v1electra "github.com/attestantio/go-eth2-client/api/v1/electra"
	v1fulu "github.com/attestantio/go-eth2-client/api/v1/fulu"
	"github.com/attestantio/go-eth2-client/spec/altair"
	"github.com/attestantio/go-eth2-client/spec/bellatrix"
	"github.com/attestantio/go-eth2-client/spec/capella"
	"github.com/attestantio/go-eth2-client/spec/deneb"
	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"

	"app.provost/cluster"
)

// A proposal travels as u64 shape, one byte blinded, u32 offset 13, then the block. Full blocks from
// Deneb on come with proofs and blobs. Fulu's blinded block is Electra's.
const proposalFrame = 13

// form is a shape with or without blinding: what decides which type a proposal has.
type form struct {
	shape   Shape
	blinded bool
}

// unsignedBody returns the object of a proposal, made when fresh. It is nil for a form that doesn't
// exist or isn't there.
func unsignedBody(p *api.VersionedProposal, fresh bool) sszObject {
	switch (form{ShapeOf(p.Version), p.Blinded}) {
	case form{Phase0, false}:
		return field(&p.Phase0, fresh)
	case form{Altair, false}:
		return field(&p.Altair, fresh)
	case form{Bellatrix, false}:
		return field(&p.Bellatrix, fresh)
	case form{Capella, false}:
		return field(&p.Capella, fresh)
	case form{Deneb, false}:
		return field(&p.Deneb, fresh)
	case form{Electra, false}:
		return field(&p.Electra, fresh)
	case form{Fulu, false}:
		return field(&p.Fulu, fresh)
	case form{Bellatrix, true}:
		return field(&p.BellatrixBlinded, fresh)
	case form{Capella, true}:
		return field(&p.CapellaBlinded, fresh)
	case form{Deneb, true}:
		return field(&p.DenebBlinded, fresh)
	case form{Electra, true}:
		return field(&p.ElectraBlinded, fresh)
	case form{Fulu, true}:
		return field(&p.FuluBlinded, fresh)
	}
	return nil
}

// signedBody is the same for signed proposals.
func signedBody(p *api.VersionedSignedProposal, fresh bool) sszObject {
	switch (form{ShapeOf(p.Version), p.Blinded}) {
	case form{Phase0, false}:
		return field(&p.Phase0, fresh)
	case form{Altair, false}:
		return field(&p.Altair, fresh)
	case form{Bellatrix, false}:
		return field(&p.Bellatrix, fresh)
	case form{Capella, false}:
		return field(&p.Capella, fresh)
	case form{Deneb, false}:
		return field(&p.Deneb, fresh)
	case form{Electra, false}:
		return field(&p.Electra, fresh)
	case form{Fulu, false}:
		return field(&p.Fulu, fresh)
	case form{Bellatrix, true}:
		return field(&p.BellatrixBlinded, fresh)
	case form{Capella, true}:
		return field(&p.CapellaBlinded, fresh)
	case form{Deneb, true}:
		return field(&p.DenebBlinded, fresh)
	case form{Electra, true}:
		return field(&p.ElectraBlinded, fresh)
	case form{Fulu, true}:
		return field(&p.FuluBlinded, fresh)
	}
	return nil
}

// field makes a missing object when fresh; a missing one is a nil interface, never a nil pointer in it.
func field[T any, P interface {
	*T
	sszObject
}](at *P, fresh bool) sszObject {
	if *at == nil && fresh {
		*at = P(new(T))
	}
	if *at == nil {
		return nil
	}
	return *at
}

func proposalHeader(shape Shape, blinded bool) []byte {
	out := binary.LittleEndian.AppendUint64(nil, shape.wire())
	if blinded {
		out = append(out, 1)
	} else {
		out = append(out, 0)
	}
	return binary.LittleEndian.AppendUint32(out, proposalFrame)
}

func readProposalHeader(b []byte) (Shape, bool, error) {
	if len(b) < proposalFrame || b[8] > 1 || binary.LittleEndian.Uint32(b[9:]) != proposalFrame {
		return "", false, fmt.Errorf("%w: the frame of the proposal is off", ErrMalformed)
	}
	shape, err := shapeOnWire(binary.LittleEndian.Uint64(b))
	return shape, b[8] == 1, err
}

// EncodeProposal returns the value of a proposer duty.
func EncodeProposal(p *api.VersionedProposal) ([]byte, error) {
	if err := complete(p); err != nil {
		return nil, fmt.Errorf("write proposal: %w", err)
	}
	ssz, err := unsignedBody(p, false).MarshalSSZ()
	if err != nil {
		return nil, fmt.Errorf("write proposal: %w", err)
	}
	return append(proposalHeader(ShapeOf(p.Version), p.Blinded), ssz...), nil
}

// DecodeProposal reads the value of a proposer duty. Errors wrap ErrMalformed or ErrShape.
func DecodeProposal(b []byte) (*api.VersionedProposal, error) {
	if len(b) > maxData(cluster.DutyProposer) {
		return nil, fmt.Errorf("read proposal: %w: %d bytes", ErrMalformed, len(b))
	}
	shape, blinded, err := readProposalHeader(b)
	if err != nil {
		return nil, fmt.Errorf("read proposal: %w", err)
	}
	p := &api.VersionedProposal{Version: shape.Version(), Blinded: blinded}
	body := unsignedBody(p, true)
	if body == nil {
		return nil, fmt.Errorf("read proposal: %w: no blinded blocks in %s", ErrMalformed, shape)
	}
	if err := readSSZ(b[proposalFrame:], body); err != nil {
		return nil, fmt.Errorf("read proposal: %w", err)
	}
	return p, nil
}

// complete refuses a proposal that lacks its block or the block's body.
func complete(p *api.VersionedProposal) error {
	if p == nil || unsignedBody(p, false) == nil {
		return fmt.Errorf("%w: the block is missing", ErrMalformed)
	}
	if _, err := p.BodyRoot(); err != nil {
		return fmt.Errorf("%w: the body of the block is missing or malformed", ErrMalformed)
	}
	return nil
}

// Proposal is one block, full or blinded, with what travels beside it.
type Proposal struct {
	v *api.VersionedSignedProposal
}

// NewProposal makes a proposal without a signature. The block is shared and must not change.
func NewProposal(p *api.VersionedProposal) (Proposal, error) {
	if err := complete(p); err != nil {
		return Proposal{}, fmt.Errorf("make proposal: %w", err)
	}
	return Proposal{toSigned(p)}, nil
}

// ProposalOf takes a signed proposal as the library has it. It is shared and must not change.
func ProposalOf(v *api.VersionedSignedProposal) (Proposal, error) {
	if v == nil || signedBody(v, false) == nil {
		return Proposal{}, fmt.Errorf("take proposal: %w: the block is missing", ErrMalformed)
	}
	p := Proposal{v}
	u := p.unsigned()
	if u == nil || complete(u) != nil {
		return Proposal{}, fmt.Errorf("take proposal: %w: the block is missing", ErrMalformed)
	}
	return p, nil
}

func toSigned(p *api.VersionedProposal) *api.VersionedSignedProposal {
	s := &api.VersionedSignedProposal{Version: p.Version, Blinded: p.Blinded, ConsensusValue: p.ConsensusValue, ExecutionValue: p.ExecutionValue}
	switch (form{ShapeOf(p.Version), p.Blinded}) {
	case form{Phase0, false}:
		s.Phase0 = &phase0.SignedBeaconBlock{Message: p.Phase0}
	case form{Altair, false}:
		s.Altair = &altair.SignedBeaconBlock{Message: p.Altair}
	case form{Bellatrix, false}:
		s.Bellatrix = &bellatrix.SignedBeaconBlock{Message: p.Bellatrix}
	case form{Capella, false}:
		s.Capella = &capella.SignedBeaconBlock{Message: p.Capella}
	case form{Deneb, false}:
		s.Deneb = &v1deneb.SignedBlockContents{SignedBlock: &deneb.SignedBeaconBlock{Message: p.Deneb.Block}, KZGProofs: p.Deneb.KZGProofs, Blobs: p.Deneb.Blobs}
	case form{Electra, false}:
		s.Electra = &v1electra.SignedBlockContents{SignedBlock: &electra.SignedBeaconBlock{Message: p.Electra.Block}, KZGProofs: p.Electra.KZGProofs, Blobs: p.Electra.Blobs}
	case form{Fulu, false}:
		s.Fulu = &v1fulu.SignedBlockContents{SignedBlock: &electra.SignedBeaconBlock{Message: p.Fulu.Block}, KZGProofs: p.Fulu.KZGProofs, Blobs: p.Fulu.Blobs}
	case form{Bellatrix, true}:
		s.BellatrixBlinded = &v1bellatrix.SignedBlindedBeaconBlock{Message: p.BellatrixBlinded}
	case form{Capella, true}:
		s.CapellaBlinded = &v1capella.SignedBlindedBeaconBlock{Message: p.CapellaBlinded}
	case form{Deneb, true}:
		s.DenebBlinded = &v1deneb.SignedBlindedBeaconBlock{Message: p.DenebBlinded}
	case form{Electra, true}:
		s.ElectraBlinded = &v1electra.SignedBlindedBeaconBlock{Message: p.ElectraBlinded}
	case form{Fulu, true}:
		s.FuluBlinded = &v1electra.SignedBlindedBeaconBlock{Message: p.FuluBlinded}
	}
	return s
}

// signatureIn returns where the signature of a complete proposal stands.
func signatureIn(s *api.VersionedSignedProposal) *phase0.BLSSignature {
	switch (form{ShapeOf(s.Version), s.Blinded}) {
	case form{Phase0, false}:
		return &s.Phase0.Signature
	case form{Altair, false}:
		return &s.Altair.Signature
	case form{Bellatrix, false}:
		return &s.Bellatrix.Signature
	case form{Capella, false}:
		return &s.Capella.Signature
	case form{Deneb, false}:
		return &s.Deneb.SignedBlock.Signature
	case form{Electra, false}:
		return &s.Electra.SignedBlock.Signature
	case form{Fulu, false}:
		return &s.Fulu.SignedBlock.Signature
	case form{Bellatrix, true}:
		return &s.BellatrixBlinded.Signature
	case form{Capella, true}:
		return &s.CapellaBlinded.Signature
	case form{Deneb, true}:
		return &s.DenebBlinded.Signature
	case form{Electra, true}:
		return &s.ElectraBlinded.Signature
	default:
		return &s.FuluBlinded.Signature
	}
}

// unsigned returns the proposal without its signature, or nil when a part between is missing.
func (p Proposal) unsigned() *api.VersionedProposal {
	s := p.v
	u := &api.VersionedProposal{Version: s.Version, Blinded: s.Blinded, ConsensusValue: s.ConsensusValue, ExecutionValue: s.ExecutionValue}
	switch (form{ShapeOf(s.Version), s.Blinded}) {
	case form{Phase0, false}:
		u.Phase0 = s.Phase0.Message
	case form{Altair, false}:
		u.Altair = s.Altair.Message
	case form{Bellatrix, false}:
		u.Bellatrix = s.Bellatrix.Message
	case form{Capella, false}:
		u.Capella = s.Capella.Message
	case form{Deneb, false}:
		if s.Deneb.SignedBlock == nil {
			return nil
		}
		u.Deneb = &v1deneb.BlockContents{Block: s.Deneb.SignedBlock.Message, KZGProofs: s.Deneb.KZGProofs, Blobs: s.Deneb.Blobs}
	case form{Electra, false}:
		if s.Electra.SignedBlock == nil {
			return nil
		}
		u.Electra = &v1electra.BlockContents{Block: s.Electra.SignedBlock.Message, KZGProofs: s.Electra.KZGProofs, Blobs: s.Electra.Blobs}
	case form{Fulu, false}:
		if s.Fulu.SignedBlock == nil {
			return nil
		}
		u.Fulu = &v1fulu.BlockContents{Block: s.Fulu.SignedBlock.Message, KZGProofs: s.Fulu.KZGProofs, Blobs: s.Fulu.Blobs}
	case form{Bellatrix, true}:
		u.BellatrixBlinded = s.BellatrixBlinded.Message
	case form{Capella, true}:
		u.CapellaBlinded = s.CapellaBlinded.Message
	case form{Deneb, true}:
		u.DenebBlinded = s.DenebBlinded.Message
	case form{Electra, true}:
		u.ElectraBlinded = s.ElectraBlinded.Message
	case form{Fulu, true}:
		u.FuluBlinded = s.FuluBlinded.Message
	}
	return u
}

func parseProposal(b []byte) (Signed, error) {
	shape, blinded, err := readProposalHeader(b)
	if err != nil {
		return nil, err
	}
	v := &api.VersionedSignedProposal{Version: shape.Version(), Blinded: blinded}
	body := signedBody(v, true)
	if body == nil {
		return nil, fmt.Errorf("%w: no blinded blocks in %s", ErrMalformed, shape)
	}
	if err := readSSZ(b[proposalFrame:], body); err != nil {
		return nil, err
	}
	return Proposal{v}, nil
}

// Encode returns the bytes for ParSignedData.Data.
func (p Proposal) Encode() ([]byte, error) {
	ssz, err := signedBody(p.v, false).MarshalSSZ()
	if err != nil {
		return nil, fmt.Errorf("write signed proposal: %w", err)
	}
	return append(proposalHeader(p.Shape(), p.v.Blinded), ssz...), nil
}

// Shape is the fork whose form the block has.
func (p Proposal) Shape() Shape { return ShapeOf(p.v.Version) }

// Blinded tells whether the block names its payload by a header only.
func (p Proposal) Blinded() bool { return p.v.Blinded }

// Versioned returns the proposal as the library has it. It is shared and must not be changed.
func (p Proposal) Versioned() *api.VersionedSignedProposal { return p.v }

// VersionedBlinded returns a blinded proposal as the library submits it; nil for a full one.
func (p Proposal) VersionedBlinded() *api.VersionedSignedBlindedProposal {
	if !p.v.Blinded {
		return nil
	}
	return &api.VersionedSignedBlindedProposal{Version: p.v.Version, Bellatrix: p.v.BellatrixBlinded, Capella: p.v.CapellaBlinded,
		Deneb: p.v.DenebBlinded, Electra: p.v.ElectraBlinded, Fulu: p.v.FuluBlinded}
}

func (Proposal) DutyType() cluster.DutyType { return cluster.DutyProposer }

func (p Proposal) Slot(uint64) cluster.Slot {
	s, _ := p.unsigned().Slot() // complete since it was made
	return cluster.Slot(s)
}

// ProposerIndex is the index of the validator whose block it is.
func (p Proposal) ProposerIndex() uint64 {
	i, _ := p.unsigned().ProposerIndex()
	return uint64(i)
}

func (p Proposal) Signature() cluster.Signature { return cluster.Signature(*signatureIn(p.v)) }

func (p Proposal) WithSignature(sig cluster.Signature) Signed {
	s := toSigned(p.unsigned())
	*signatureIn(s) = phase0.BLSSignature(sig)
	return Proposal{s}
}

func (p Proposal) MessageRoot() (cluster.Root, error) {
	r, err := p.unsigned().Root()
	if err != nil {
		return cluster.Root{}, fmt.Errorf("hash block: %w", err)
	}
	return cluster.Root(r), nil
}

func (p Proposal) domain(c Chain) cluster.Root {
	return c.Domain(DomainProposer, c.epoch(p.Slot(c.SlotsPerEpoch)))
}
