package signdata

import (
	"bytes"
	"encoding/binary"
	"fmt"

	bitfield "github.com/OffchainLabs/go-bitfield"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"

	"app.provost/cluster"
)

// sszObject is what the generated types have in common.
type sszObject interface {
	MarshalSSZ() ([]byte, error)
	UnmarshalSSZ([]byte) error
}

// readSSZ reads an object and refuses any encoding but the one that would be written.
func readSSZ(b []byte, into sszObject) error {
	if err := into.UnmarshalSSZ(b); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	again, err := into.MarshalSSZ()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("%w: an encoding that nobody writes", ErrMalformed)
	}
	return nil
}

func rootOf(o interface{ HashTreeRoot() ([32]byte, error) }) (cluster.Root, error) {
	r, err := o.HashTreeRoot()
	if err != nil {
		return cluster.Root{}, fmt.Errorf("hash duty data: %w", err)
	}
	return r, nil
}

// AttesterDuty is one validator's place in the committees of a slot, as the leader's beacon node told it.
type AttesterDuty struct {
	PubKey             cluster.PubKey
	Slot               cluster.Slot
	ValidatorIndex     uint64
	CommitteeIndex     uint64
	CommitteeLength    uint64
	CommitteesAtSlot   uint64
	ValidatorCommittee uint64 // the validator's place in its committee
}

const attesterBytes = 8 + 128 + 96

// EncodeAttester returns the value of one validator in the set of an attester duty: 232 bytes.
func EncodeAttester(data *phase0.AttestationData, duty AttesterDuty) ([]byte, error) {
	if data == nil || data.Source == nil || data.Target == nil {
		return nil, fmt.Errorf("write attester data: %w: source or target is missing", ErrMalformed)
	}
	ssz, err := data.MarshalSSZ()
	if err != nil {
		return nil, fmt.Errorf("write attester data: %w", err)
	}
	out := make([]byte, 0, attesterBytes)
	out = binary.LittleEndian.AppendUint32(out, 8)
	out = binary.LittleEndian.AppendUint32(out, 136)
	out = append(out, ssz...)
	out = append(out, duty.PubKey[:]...)
	for _, v := range []uint64{uint64(duty.Slot), duty.ValidatorIndex, duty.CommitteeIndex, duty.CommitteeLength, duty.CommitteesAtSlot, duty.ValidatorCommittee} {
		out = binary.LittleEndian.AppendUint64(out, v)
	}
	return out, nil
}

// DecodeAttester reads the value of one validator in the set of an attester duty.
func DecodeAttester(b []byte) (*phase0.AttestationData, AttesterDuty, error) {
	fail := func(err error) (*phase0.AttestationData, AttesterDuty, error) {
		return nil, AttesterDuty{}, fmt.Errorf("read attester data: %w", err)
	}
	if len(b) != attesterBytes || binary.LittleEndian.Uint32(b) != 8 || binary.LittleEndian.Uint32(b[4:]) != 136 {
		return fail(fmt.Errorf("%w: want offsets 8 and 136 and %d bytes, found %d", ErrMalformed, attesterBytes, len(b)))
	}
	data := new(phase0.AttestationData)
	if err := readSSZ(b[8:136], data); err != nil {
		return fail(err)
	}
	d := AttesterDuty{PubKey: cluster.PubKey(b[136:184])}
	num := func(i int) uint64 { return binary.LittleEndian.Uint64(b[184+8*i:]) }
	d.Slot, d.ValidatorIndex, d.CommitteeIndex = cluster.Slot(num(0)), num(1), num(2)
	d.CommitteeLength, d.CommitteesAtSlot, d.ValidatorCommittee = num(3), num(4), num(5)
	return data, d, nil
}

// Attestation is one validator's attestation.
type Attestation struct {
	v *spec.VersionedAttestation
}

const (
	maxCommittee          = 2048 // MAX_VALIDATORS_PER_COMMITTEE
	maxCommitteesPerSlot  = 64   // MAX_COMMITTEES_PER_SLOT
	attestationFrame      = 20
	attestationFrameNoIdx = 12
)

// NewAttestation makes the attestation of one validator without a signature. From Electra on it
// has no aggregation bits, only its committee's: nodes and beacon nodes find the validator by its index.
func NewAttestation(shape Shape, data *phase0.AttestationData, duty AttesterDuty) (Attestation, error) {
	if shape == "" {
		return Attestation{}, fmt.Errorf("make attestation: %w", ErrShape)
	}
	if data == nil || data.Source == nil || data.Target == nil {
		return Attestation{}, fmt.Errorf("make attestation: %w: source or target is missing", ErrMalformed)
	}
	if cluster.Slot(data.Slot) != duty.Slot {
		return Attestation{}, fmt.Errorf("make attestation: %w: data of slot %d, committee of slot %d", ErrMisfit, data.Slot, duty.Slot)
	}
	if duty.CommitteeLength > maxCommittee || duty.ValidatorCommittee >= duty.CommitteeLength || duty.CommitteeIndex >= maxCommitteesPerSlot {
		return Attestation{}, fmt.Errorf("make attestation: %w: place %d of %d in committee %d", ErrMisfit, duty.ValidatorCommittee, duty.CommitteeLength, duty.CommitteeIndex)
	}
	index := phase0.ValidatorIndex(duty.ValidatorIndex)
	v := &spec.VersionedAttestation{Version: shape.Version(), ValidatorIndex: &index}
	if shape.atLeast(Electra) {
		if data.Index != 0 {
			return Attestation{}, fmt.Errorf("make attestation: %w: index %d in attestation data, where Electra has 0", ErrMisfit, data.Index)
		}
		bits := bitfield.NewBitvector64()
		bits.SetBitAt(duty.CommitteeIndex, true)
		setElectra(v, &electra.Attestation{AggregationBits: bitfield.NewBitlist(0), Data: data, CommitteeBits: bits})
		return Attestation{v}, nil
	}
	bits := bitfield.NewBitlist(duty.CommitteeLength)
	bits.SetBitAt(duty.ValidatorCommittee, true)
	setPhase0(v, &phase0.Attestation{AggregationBits: bits, Data: data})
	return Attestation{v}, nil
}

// AttestationOf takes an attestation as the library has it. The object isn't copied and must not change.
func AttestationOf(v *spec.VersionedAttestation) (Attestation, error) {
	if v == nil || ShapeOf(v.Version) == "" || v.IsEmpty() {
		return Attestation{}, fmt.Errorf("take attestation: %w", ErrMalformed)
	}
	d, err := v.Data()
	if err != nil || d == nil || d.Source == nil || d.Target == nil {
		return Attestation{}, fmt.Errorf("take attestation: %w: data is missing", ErrMalformed)
	}
	return Attestation{v}, nil
}

func phase0At(v *spec.VersionedAttestation) **phase0.Attestation {
	switch v.Version {
	case spec.DataVersionPhase0:
		return &v.Phase0
	case spec.DataVersionAltair:
		return &v.Altair
	case spec.DataVersionBellatrix:
		return &v.Bellatrix
	case spec.DataVersionCapella:
		return &v.Capella
	default:
		return &v.Deneb
	}
}

func electraAt(v *spec.VersionedAttestation) **electra.Attestation {
	if v.Version == spec.DataVersionElectra {
		return &v.Electra
	}
	return &v.Fulu
}

func setPhase0(v *spec.VersionedAttestation, a *phase0.Attestation)   { *phase0At(v) = a }
func setElectra(v *spec.VersionedAttestation, a *electra.Attestation) { *electraAt(v) = a }

func inner(v *spec.VersionedAttestation) sszObject {
	if ShapeOf(v.Version).atLeast(Electra) {
		return *electraAt(v)
	}
	return *phase0At(v)
}

func readAttestation(shape Shape, b []byte) (*spec.VersionedAttestation, error) {
	v := &spec.VersionedAttestation{Version: shape.Version()}
	if shape.atLeast(Electra) {
		setElectra(v, new(electra.Attestation))
	} else {
		setPhase0(v, new(phase0.Attestation))
	}
	return v, readSSZ(b, inner(v))
}

func parseAttestation(b []byte) (Signed, error) {
	if len(b) < attestationFrameNoIdx {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	shape, err := shapeOnWire(binary.LittleEndian.Uint64(b))
	if err != nil {
		return nil, err
	}
	// The older form has its offset where the newer one has the index. An index of 12 isn't mistaken for
	// it: the offset is followed by the one of the aggregation bits, the index by zeros.
	if binary.LittleEndian.Uint32(b[8:]) == attestationFrameNoIdx && len(b) >= 16 && binary.LittleEndian.Uint32(b[12:]) != 0 {
		v, err := readAttestation(shape, b[attestationFrameNoIdx:])
		if err != nil {
			return nil, err
		}
		return Attestation{v}, nil
	}
	if len(b) < attestationFrame || binary.LittleEndian.Uint32(b[16:]) != attestationFrame {
		return nil, fmt.Errorf("%w: the offset of the attestation is off", ErrMalformed)
	}
	v, err := readAttestation(shape, b[attestationFrame:])
	if err != nil {
		return nil, err
	}
	index := phase0.ValidatorIndex(binary.LittleEndian.Uint64(b[8:]))
	v.ValidatorIndex = &index
	return Attestation{v}, nil
}

// Encode writes the form without an index only for an attestation that came without one.
func (a Attestation) Encode() ([]byte, error) {
	ssz, err := inner(a.v).MarshalSSZ()
	if err != nil {
		return nil, fmt.Errorf("write attestation: %w", err)
	}
	out := binary.LittleEndian.AppendUint64(nil, a.Shape().wire())
	if a.v.ValidatorIndex == nil {
		out = binary.LittleEndian.AppendUint32(out, attestationFrameNoIdx)
		return append(out, ssz...), nil
	}
	out = binary.LittleEndian.AppendUint64(out, uint64(*a.v.ValidatorIndex))
	out = binary.LittleEndian.AppendUint32(out, attestationFrame)
	return append(out, ssz...), nil
}

func (a Attestation) data() *phase0.AttestationData {
	if ShapeOf(a.v.Version).atLeast(Electra) {
		return (*electraAt(a.v)).Data
	}
	return (*phase0At(a.v)).Data
}

// Shape is the fork whose form the attestation has.
func (a Attestation) Shape() Shape { return ShapeOf(a.v.Version) }

// Versioned returns the attestation as the library has it. It is shared and must not be changed.
func (a Attestation) Versioned() *spec.VersionedAttestation { return a.v }

// Data returns what is attested to. It is shared and must not be changed.
func (a Attestation) Data() *phase0.AttestationData { return a.data() }

// Single returns the attestation as validators submit it from Electra on. It fails for older shapes
// and for an attestation that came without the validator's index.
func (a Attestation) Single() (*electra.SingleAttestation, error) {
	if !a.Shape().atLeast(Electra) || a.v.ValidatorIndex == nil {
		return nil, fmt.Errorf("make single attestation: %w: shape %s, index known: %t", ErrMisfit, a.Shape(), a.v.ValidatorIndex != nil)
	}
	e := *electraAt(a.v)
	set := e.CommitteeBits.BitIndices()
	if len(set) != 1 {
		return nil, fmt.Errorf("make single attestation: %w: %d committees", ErrMisfit, len(set))
	}
	return &electra.SingleAttestation{CommitteeIndex: phase0.CommitteeIndex(set[0]), AttesterIndex: *a.v.ValidatorIndex, Data: e.Data, Signature: e.Signature}, nil
}

// ValidatorIndex is the validator's index; false when the attestation came without one.
func (a Attestation) ValidatorIndex() (uint64, bool) {
	if a.v.ValidatorIndex == nil {
		return 0, false
	}
	return uint64(*a.v.ValidatorIndex), true
}

func (Attestation) DutyType() cluster.DutyType { return cluster.DutyAttester }

func (a Attestation) Slot(uint64) cluster.Slot { return cluster.Slot(a.data().Slot) }

func (a Attestation) Signature() cluster.Signature {
	if a.Shape().atLeast(Electra) {
		return cluster.Signature((*electraAt(a.v)).Signature)
	}
	return cluster.Signature((*phase0At(a.v)).Signature)
}

func (a Attestation) WithSignature(sig cluster.Signature) Signed {
	v := *a.v
	if a.Shape().atLeast(Electra) {
		c := **electraAt(a.v)
		c.Signature = phase0.BLSSignature(sig)
		setElectra(&v, &c)
	} else {
		c := **phase0At(a.v)
		c.Signature = phase0.BLSSignature(sig)
		setPhase0(&v, &c)
	}
	return Attestation{&v}
}

func (a Attestation) MessageRoot() (cluster.Root, error) { return rootOf(a.data()) }

func (a Attestation) domain(c Chain) cluster.Root {
	return c.Domain(DomainAttester, cluster.Epoch(a.data().Target.Epoch))
}
