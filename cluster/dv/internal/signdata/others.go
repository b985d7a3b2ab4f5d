package signdata

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/attestantio/go-eth2-client/api"
	apiv1 "github.com/attestantio/go-eth2-client/api/v1"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/altair"
	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"

	"app.provost/cluster"
)

// decimal is a number written as a JSON string.
type decimal uint64

func (d decimal) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(d), 10), nil }

func (d *decimal) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 10, 64)
	*d = decimal(v)
	return err
}

// readJSON refuses unknown keys, missing keys and anything after the object: what comes from a peer
// must be what it would be after writing it again.
func readJSON(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if dec.More() {
		return fmt.Errorf("%w: something follows the object", ErrMalformed)
	}
	again, err := json.Marshal(into)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var flat bytes.Buffer
	if err := json.Compact(&flat, b); err != nil || !bytes.EqualFold(flat.Bytes(), again) {
		return fmt.Errorf("%w: keys are missing, repeated or in another order", ErrMalformed)
	}
	return nil
}

func writeJSON(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write duty data: %w", err)
	}
	return b, nil
}

func uintRoot(v uint64) (r cluster.Root) {
	binary.LittleEndian.PutUint64(r[:], v)
	return r
}

// Randao is a validator's share in the randomness of its block: the signed number of the epoch.
type Randao struct {
	Epoch cluster.Epoch
	sig   cluster.Signature
}

// NewRandao makes the reveal for proposals of an epoch without a signature.
func NewRandao(epoch cluster.Epoch) Randao { return Randao{Epoch: epoch} }

type randaoJSON struct {
	Epoch     decimal           `json:"epoch"`
	Signature cluster.Signature `json:"signature"`
}

func parseRandao(b []byte) (Signed, error) {
	var j randaoJSON
	if err := readJSON(b, &j); err != nil {
		return nil, err
	}
	return Randao{Epoch: cluster.Epoch(j.Epoch), sig: j.Signature}, nil
}

func (r Randao) Encode() ([]byte, error)      { return writeJSON(randaoJSON{decimal(r.Epoch), r.sig}) }
func (Randao) DutyType() cluster.DutyType     { return cluster.DutyRandao }
func (r Randao) Signature() cluster.Signature { return r.sig }

// Slot is the first of the epoch: the slot of the proposal doesn't travel.
func (r Randao) Slot(slotsPerEpoch uint64) cluster.Slot {
	return cluster.Slot(uint64(r.Epoch) * max(slotsPerEpoch, 1))
}

func (r Randao) WithSignature(sig cluster.Signature) Signed { r.sig = sig; return r }
func (r Randao) MessageRoot() (cluster.Root, error)         { return uintRoot(uint64(r.Epoch)), nil }
func (r Randao) domain(c Chain) cluster.Root                { return c.Domain(DomainRandao, r.Epoch) }

// Exit is a voluntary exit.
type Exit struct {
	Epoch          cluster.Epoch
	ValidatorIndex uint64
	sig            cluster.Signature
}

// NewExit makes an exit without a signature.
func NewExit(epoch cluster.Epoch, validatorIndex uint64) Exit {
	return Exit{Epoch: epoch, ValidatorIndex: validatorIndex}
}

type exitJSON struct {
	Message struct {
		Epoch          decimal `json:"epoch"`
		ValidatorIndex decimal `json:"validator_index"`
	} `json:"message"`
	Signature cluster.Signature `json:"signature"`
}

func parseExit(b []byte) (Signed, error) {
	var j exitJSON
	if err := readJSON(b, &j); err != nil {
		return nil, err
	}
	return Exit{cluster.Epoch(j.Message.Epoch), uint64(j.Message.ValidatorIndex), j.Signature}, nil
}

// Encode returns the JSON that the Beacon API takes too.
func (e Exit) Encode() ([]byte, error) {
	var j exitJSON
	j.Message.Epoch, j.Message.ValidatorIndex, j.Signature = decimal(e.Epoch), decimal(e.ValidatorIndex), e.sig
	return writeJSON(j)
}

// Voluntary returns the exit as the library has it.
func (e Exit) Voluntary() *phase0.SignedVoluntaryExit {
	return &phase0.SignedVoluntaryExit{Message: e.message(), Signature: phase0.BLSSignature(e.sig)}
}

func (e Exit) message() *phase0.VoluntaryExit {
	return &phase0.VoluntaryExit{Epoch: phase0.Epoch(e.Epoch), ValidatorIndex: phase0.ValidatorIndex(e.ValidatorIndex)}
}

func (Exit) DutyType() cluster.DutyType                   { return cluster.DutyExit }
func (e Exit) Signature() cluster.Signature               { return e.sig }
func (e Exit) WithSignature(sig cluster.Signature) Signed { e.sig = sig; return e }
func (e Exit) MessageRoot() (cluster.Root, error)         { return rootOf(e.message()) }

// Slot is the first of the exit's epoch.
func (e Exit) Slot(slotsPerEpoch uint64) cluster.Slot {
	return cluster.Slot(uint64(e.Epoch) * max(slotsPerEpoch, 1))
}

func (Exit) domain(c Chain) cluster.Root { return cluster.Domain(DomainExit, c.Exit, c.ValidatorsRoot) }

// Selection proves whether a validator is an aggregator of its committee: the signed number of the slot.
type Selection struct {
	ValidatorIndex uint64
	At             cluster.Slot
	sig            cluster.Signature
}

// NewSelection makes a selection without a proof.
func NewSelection(validatorIndex uint64, slot cluster.Slot) Selection {
	return Selection{ValidatorIndex: validatorIndex, At: slot}
}

type selectionJSON struct {
	ValidatorIndex decimal           `json:"validator_index"`
	Slot           decimal           `json:"slot"`
	Proof          cluster.Signature `json:"selection_proof"`
}

func parseSelection(b []byte) (Signed, error) {
	var j selectionJSON
	if err := readJSON(b, &j); err != nil {
		return nil, err
	}
	return Selection{uint64(j.ValidatorIndex), cluster.Slot(j.Slot), j.Proof}, nil
}

func (s Selection) Encode() ([]byte, error) {
	return writeJSON(selectionJSON{decimal(s.ValidatorIndex), decimal(s.At), s.sig})
}
func (Selection) DutyType() cluster.DutyType                   { return cluster.DutyPrepareAggregator }
func (s Selection) Slot(uint64) cluster.Slot                   { return s.At }
func (s Selection) Signature() cluster.Signature               { return s.sig }
func (s Selection) WithSignature(sig cluster.Signature) Signed { s.sig = sig; return s }
func (s Selection) MessageRoot() (cluster.Root, error)         { return uintRoot(uint64(s.At)), nil }
func (s Selection) domain(c Chain) cluster.Root                { return c.Domain(DomainSelection, c.epoch(s.At)) }

// SyncSelection proves whether a validator aggregates for a subcommittee of the sync committee.
type SyncSelection struct {
	ValidatorIndex    uint64
	At                cluster.Slot
	SubcommitteeIndex uint64
	sig               cluster.Signature
}

// NewSyncSelection makes a selection without a proof.
func NewSyncSelection(validatorIndex uint64, slot cluster.Slot, subcommittee uint64) SyncSelection {
	return SyncSelection{ValidatorIndex: validatorIndex, At: slot, SubcommitteeIndex: subcommittee}
}

type syncSelectionJSON struct {
	ValidatorIndex decimal           `json:"validator_index"`
	Slot           decimal           `json:"slot"`
	Subcommittee   decimal           `json:"subcommittee_index"`
	Proof          cluster.Signature `json:"selection_proof"`
}

func parseSyncSelection(b []byte) (Signed, error) {
	var j syncSelectionJSON
	if err := readJSON(b, &j); err != nil {
		return nil, err
	}
	return SyncSelection{uint64(j.ValidatorIndex), cluster.Slot(j.Slot), uint64(j.Subcommittee), j.Proof}, nil
}

func (s SyncSelection) Encode() ([]byte, error) {
	return writeJSON(syncSelectionJSON{decimal(s.ValidatorIndex), decimal(s.At), decimal(s.SubcommitteeIndex), s.sig})
}
func (SyncSelection) DutyType() cluster.DutyType                   { return cluster.DutyPrepareSyncContribution }
func (s SyncSelection) Slot(uint64) cluster.Slot                   { return s.At }
func (s SyncSelection) Signature() cluster.Signature               { return s.sig }
func (s SyncSelection) WithSignature(sig cluster.Signature) Signed { s.sig = sig; return s }
func (s SyncSelection) MessageRoot() (cluster.Root, error) {
	return rootOf(&altair.SyncAggregatorSelectionData{Slot: phase0.Slot(s.At), SubcommitteeIndex: s.SubcommitteeIndex})
}
func (s SyncSelection) domain(c Chain) cluster.Root {
	return c.Domain(DomainSyncSelection, c.epoch(s.At))
}

// SyncMessage is a sync committee member's vote for a head.
type SyncMessage struct {
	m altair.SyncCommitteeMessage
}

// NewSyncMessage makes a message without a signature.
func NewSyncMessage(slot cluster.Slot, head cluster.Root, validatorIndex uint64) SyncMessage {
	return SyncMessage{altair.SyncCommitteeMessage{Slot: phase0.Slot(slot), BeaconBlockRoot: phase0.Root(head), ValidatorIndex: phase0.ValidatorIndex(validatorIndex)}}
}

func parseSyncMessage(b []byte) (Signed, error) {
	var s SyncMessage
	if err := readSSZ(b, &s.m); err != nil {
		return nil, err
	}
	return s, nil
}

// Message returns a copy as the library has it.
func (s SyncMessage) Message() *altair.SyncCommitteeMessage { return &s.m }
func (s SyncMessage) Encode() ([]byte, error)               { return s.m.MarshalSSZ() }
func (SyncMessage) DutyType() cluster.DutyType              { return cluster.DutySyncMessage }
func (s SyncMessage) Slot(uint64) cluster.Slot              { return cluster.Slot(s.m.Slot) }
func (s SyncMessage) Signature() cluster.Signature          { return cluster.Signature(s.m.Signature) }
func (s SyncMessage) MessageRoot() (cluster.Root, error) {
	return cluster.Root(s.m.BeaconBlockRoot), nil
}
func (s SyncMessage) domain(c Chain) cluster.Root {
	return c.Domain(DomainSyncMessage, c.epoch(cluster.Slot(s.m.Slot)))
}
func (s SyncMessage) WithSignature(sig cluster.Signature) Signed {
	s.m.Signature = phase0.BLSSignature(sig)
	return s
}

// Contribution is a sync committee aggregator's signed contribution.
type Contribution struct {
	m *altair.SignedContributionAndProof
}

// NewContribution makes one without a signature. The contribution is shared and must not change.
func NewContribution(aggregator uint64, proof cluster.Signature, c *altair.SyncCommitteeContribution) (Contribution, error) {
	if c == nil || len(c.AggregationBits) != 16 {
		return Contribution{}, fmt.Errorf("make contribution: %w: it is missing or isn't of the mainnet preset", ErrMalformed)
	}
	return Contribution{&altair.SignedContributionAndProof{Message: &altair.ContributionAndProof{
		AggregatorIndex: phase0.ValidatorIndex(aggregator), Contribution: c, SelectionProof: phase0.BLSSignature(proof)}}}, nil
}

func parseContribution(b []byte) (Signed, error) {
	c := Contribution{new(altair.SignedContributionAndProof)}
	if err := readSSZ(b, c.m); err != nil {
		return nil, err
	}
	return c, nil
}

// Signed returns the contribution as the library has it. It is shared and must not be changed.
func (c Contribution) Signed() *altair.SignedContributionAndProof { return c.m }
func (c Contribution) Encode() ([]byte, error)                    { return c.m.MarshalSSZ() }
func (Contribution) DutyType() cluster.DutyType                   { return cluster.DutySyncContribution }
func (c Contribution) Slot(uint64) cluster.Slot                   { return cluster.Slot(c.m.Message.Contribution.Slot) }
func (c Contribution) Signature() cluster.Signature               { return cluster.Signature(c.m.Signature) }
func (c Contribution) MessageRoot() (cluster.Root, error)         { return rootOf(c.m.Message) }
func (c Contribution) domain(ch Chain) cluster.Root {
	return ch.Domain(DomainContribution, ch.epoch(c.Slot(0)))
}
func (c Contribution) WithSignature(sig cluster.Signature) Signed {
	m := *c.m
	m.Signature = phase0.BLSSignature(sig)
	return Contribution{&m}
}

// EncodeContributions returns the value of a sync contribution duty: SSZ for a single contribution,
// a JSON array for several, which nodes before v1.11 of the protocol don't read.
func EncodeContributions(cs []*altair.SyncCommitteeContribution) ([]byte, error) {
	for _, c := range cs {
		if c == nil {
			return nil, fmt.Errorf("write contributions: %w", ErrMalformed)
		}
	}
	switch len(cs) {
	case 0:
		return nil, fmt.Errorf("write contributions: %w: there are none", ErrMalformed)
	case 1:
		return cs[0].MarshalSSZ()
	}
	return writeJSON(cs)
}

// DecodeContributions reads the value of a sync contribution duty in both forms.
func DecodeContributions(b []byte) ([]*altair.SyncCommitteeContribution, error) {
	if len(b) > maxData(cluster.DutySyncContribution) {
		return nil, fmt.Errorf("read contributions: %w: %d bytes", ErrMalformed, len(b))
	}
	if len(b) == 160 && b[0] != '[' || len(b) == 160 && !json.Valid(b) {
		c := new(altair.SyncCommitteeContribution)
		if err := readSSZ(b, c); err != nil {
			return nil, fmt.Errorf("read contributions: %w", err)
		}
		return []*altair.SyncCommitteeContribution{c}, nil
	}
	var cs []*altair.SyncCommitteeContribution
	if err := readJSON(b, &cs); err != nil {
		return nil, fmt.Errorf("read contributions: %w", err)
	}
	if len(cs) == 0 {
		return nil, fmt.Errorf("read contributions: %w: there are none", ErrMalformed)
	}
	for _, c := range cs {
		if c == nil {
			return nil, fmt.Errorf("read contributions: %w: null in the list", ErrMalformed)
		}
	}
	return cs, nil
}

// Aggregate is an aggregator's signed aggregate.
type Aggregate struct {
	v    *spec.VersionedSignedAggregateAndProof
	bare bool // came without a frame, as phase0 objects of old nodes do
}

const aggregateFrame = 12

// EncodeAggregate returns the value of an aggregator duty.
func EncodeAggregate(v *spec.VersionedAttestation) ([]byte, error) {
	a, err := AttestationOf(v)
	if err != nil {
		return nil, err
	}
	ssz, err := inner(v).MarshalSSZ()
	if err != nil {
		return nil, fmt.Errorf("write aggregate: %w", err)
	}
	out := binary.LittleEndian.AppendUint64(nil, a.Shape().wire())
	return append(binary.LittleEndian.AppendUint32(out, aggregateFrame), ssz...), nil
}

// DecodeAggregate reads the value of an aggregator duty, framed or a bare phase0 attestation.
func DecodeAggregate(b []byte) (*spec.VersionedAttestation, error) {
	shape, body, err := openFrame(b)
	if err != nil {
		return nil, fmt.Errorf("read aggregate: %w", err)
	}
	v, err := readAttestation(shape, body)
	if err != nil {
		return nil, fmt.Errorf("read aggregate: %w", err)
	}
	return v, nil
}

// openFrame returns the object behind u64 shape and u32 offset 12; all of b as phase0 when there is no such frame.
func openFrame(b []byte) (Shape, []byte, error) {
	if len(b) > maxData(cluster.DutyAggregator) || len(b) < aggregateFrame {
		return "", nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	if binary.LittleEndian.Uint32(b[8:]) != aggregateFrame || binary.LittleEndian.Uint64(b) >= 100 {
		return Phase0, b, nil // bare objects begin with offsets of 100 and more
	}
	shape, err := shapeOnWire(binary.LittleEndian.Uint64(b))
	return shape, b[aggregateFrame:], err
}

// NewAggregate makes one without a signature. The attestation is shared and must not change.
func NewAggregate(aggregator uint64, proof cluster.Signature, a *spec.VersionedAttestation) (Aggregate, error) {
	if _, err := AttestationOf(a); err != nil {
		return Aggregate{}, err
	}
	v := &spec.VersionedSignedAggregateAndProof{Version: a.Version}
	if ShapeOf(a.Version).atLeast(Electra) {
		*electraProofAt(v) = &electra.SignedAggregateAndProof{Message: &electra.AggregateAndProof{
			AggregatorIndex: phase0.ValidatorIndex(aggregator), Aggregate: *electraAt(a), SelectionProof: phase0.BLSSignature(proof)}}
	} else {
		*phase0ProofAt(v) = &phase0.SignedAggregateAndProof{Message: &phase0.AggregateAndProof{
			AggregatorIndex: phase0.ValidatorIndex(aggregator), Aggregate: *phase0At(a), SelectionProof: phase0.BLSSignature(proof)}}
	}
	return Aggregate{v: v}, nil
}

func phase0ProofAt(v *spec.VersionedSignedAggregateAndProof) **phase0.SignedAggregateAndProof {
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

func electraProofAt(v *spec.VersionedSignedAggregateAndProof) **electra.SignedAggregateAndProof {
	if v.Version == spec.DataVersionElectra {
		return &v.Electra
	}
	return &v.Fulu
}

func (a Aggregate) electra() bool { return a.Shape().atLeast(Electra) }

func (a Aggregate) body() sszObject {
	if a.electra() {
		return *electraProofAt(a.v)
	}
	return *phase0ProofAt(a.v)
}

func parseAggregate(b []byte) (Signed, error) {
	shape, body, err := openFrame(b)
	if err != nil {
		return nil, err
	}
	a := Aggregate{&spec.VersionedSignedAggregateAndProof{Version: shape.Version()}, len(body) == len(b)}
	if a.electra() {
		*electraProofAt(a.v) = new(electra.SignedAggregateAndProof)
	} else {
		*phase0ProofAt(a.v) = new(phase0.SignedAggregateAndProof)
	}
	if err := readSSZ(body, a.body()); err != nil {
		return nil, err
	}
	return a, nil
}

// Encode writes a frame unless the object came without one.
func (a Aggregate) Encode() ([]byte, error) {
	ssz, err := a.body().MarshalSSZ()
	if err != nil || a.bare {
		return ssz, err
	}
	out := binary.LittleEndian.AppendUint64(nil, a.Shape().wire())
	return append(binary.LittleEndian.AppendUint32(out, aggregateFrame), ssz...), nil
}

// Shape is the fork whose form the aggregate has.
func (a Aggregate) Shape() Shape { return ShapeOf(a.v.Version) }

// Versioned returns the aggregate as the library has it. It is shared and must not be changed.
func (a Aggregate) Versioned() *spec.VersionedSignedAggregateAndProof { return a.v }

func (Aggregate) DutyType() cluster.DutyType { return cluster.DutyAggregator }

func (a Aggregate) Slot(uint64) cluster.Slot {
	if a.electra() {
		return cluster.Slot((*electraProofAt(a.v)).Message.Aggregate.Data.Slot)
	}
	return cluster.Slot((*phase0ProofAt(a.v)).Message.Aggregate.Data.Slot)
}

func (a Aggregate) Signature() cluster.Signature {
	if a.electra() {
		return cluster.Signature((*electraProofAt(a.v)).Signature)
	}
	return cluster.Signature((*phase0ProofAt(a.v)).Signature)
}

func (a Aggregate) WithSignature(sig cluster.Signature) Signed {
	v := *a.v
	if a.electra() {
		c := **electraProofAt(a.v)
		c.Signature = phase0.BLSSignature(sig)
		*electraProofAt(&v) = &c
	} else {
		c := **phase0ProofAt(a.v)
		c.Signature = phase0.BLSSignature(sig)
		*phase0ProofAt(&v) = &c
	}
	return Aggregate{&v, a.bare}
}

func (a Aggregate) MessageRoot() (cluster.Root, error) {
	if a.electra() {
		return rootOf((*electraProofAt(a.v)).Message)
	}
	return rootOf((*phase0ProofAt(a.v)).Message)
}

func (a Aggregate) domain(c Chain) cluster.Root {
	return c.Domain(DomainAggregateAndProof, c.epoch(a.Slot(0)))
}

// Registration tells block builders where a validator's fees go.
type Registration struct {
	r *apiv1.SignedValidatorRegistration
}

type registrationJSON struct {
	Version      uint64                             `json:"version"` // 0 is the only one
	Registration *apiv1.SignedValidatorRegistration `json:"registration"`
}

func parseRegistration(b []byte) (Signed, error) {
	var j registrationJSON
	if err := readJSON(b, &j); err != nil {
		return nil, err
	}
	if j.Version != 0 || j.Registration == nil || j.Registration.Message == nil {
		return nil, fmt.Errorf("%w: registration of version %d", ErrMalformed, j.Version)
	}
	return Registration{j.Registration}, nil
}

// RegistrationOf takes a registration as the library has it. It is shared and must not change.
func RegistrationOf(r *apiv1.SignedValidatorRegistration) (Registration, error) {
	if r == nil || r.Message == nil {
		return Registration{}, fmt.Errorf("take registration: %w", ErrMalformed)
	}
	return Registration{r}, nil
}

// Versioned returns the registration as the library submits it.
func (r Registration) Versioned() *api.VersionedSignedValidatorRegistration {
	return &api.VersionedSignedValidatorRegistration{Version: spec.BuilderVersionV1, V1: r.r}
}

func (r Registration) Encode() ([]byte, error) {
	return writeJSON(registrationJSON{Registration: r.r})
}
func (Registration) DutyType() cluster.DutyType           { return cluster.DutyBuilderRegistration }
func (Registration) Slot(uint64) cluster.Slot             { return 0 }
func (r Registration) Signature() cluster.Signature       { return cluster.Signature(r.r.Signature) }
func (r Registration) MessageRoot() (cluster.Root, error) { return rootOf(r.r.Message) }
func (r Registration) WithSignature(sig cluster.Signature) Signed {
	c := *r.r
	c.Signature = phase0.BLSSignature(sig)
	return Registration{&c}
}
func (Registration) domain(c Chain) cluster.Root {
	return cluster.Domain(cluster.DomainApplicationBuilder, c.Genesis, cluster.Root{})
}
