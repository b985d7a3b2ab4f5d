// Package signdata reads and writes what validators sign, byte for byte as the nodes of a cluster
// exchange it: the unsigned data that they agree on (cluster.UnsignedDataSet) and the objects with a
// partial or whole signature (cluster.ParSignedData.Data). It knows their signing roots and what
// slashing protection must know of them.
//
// It promises that foreign bytes are parsed strictly: bounded in size, complete, and in the one
// encoding that this package would write. Objects are values that never change: WithSignature
// returns another one. All functions are pure and may be called from any goroutine.
//
// Shapes and roots are those of the consensus and builder specifications, through the types of
// go-eth2-client. Objects are numbered on the wire by Shape: phase0 0, altair 1, … fulu 6.
package signdata

import (
	"errors"
	"fmt"
	"slices"

	"github.com/attestantio/go-eth2-client/spec"

	"app.provost/cluster"
)

// Errors that are wrapped.
var (
	// ErrMalformed: the bytes are no object of the duty.
	ErrMalformed = errors.New("malformed duty data")
	// ErrDuty: the duty has no such object.
	ErrDuty = errors.New("no such data for this duty type")
	// ErrShape: the object is of a fork that this version of the program doesn't know.
	ErrShape = errors.New("unknown fork: update the program")
	// ErrMisfit: the object is well formed and belongs to another duty.
	ErrMisfit = errors.New("the data doesn't belong to the duty")
)

// Shape names the fork whose form an object has. The zero value is none.
type Shape string

// The known shapes, oldest first.
const (
	Phase0    Shape = "phase0"
	Altair    Shape = "altair"
	Bellatrix Shape = "bellatrix"
	Capella   Shape = "capella"
	Deneb     Shape = "deneb"
	Electra   Shape = "electra"
	Fulu      Shape = "fulu"
)

// shapes stand at their number on the wire.
var shapes = []Shape{Phase0, Altair, Bellatrix, Capella, Deneb, Electra, Fulu}

// ShapeNamed finds a shape by its fork's name, as in "electra".
func ShapeNamed(name string) (Shape, error) {
	if slices.Contains(shapes, Shape(name)) {
		return Shape(name), nil
	}
	return "", fmt.Errorf("%w (%.32q)", ErrShape, name)
}

func shapeOnWire(n uint64) (Shape, error) {
	if n >= uint64(len(shapes)) {
		return "", fmt.Errorf("%w (number %d)", ErrShape, n)
	}
	return shapes[n], nil
}

func (s Shape) wire() uint64 { return uint64(slices.Index(shapes, s)) }

// Version is the library's number of the shape.
func (s Shape) Version() spec.DataVersion { return spec.DataVersion(slices.Index(shapes, s) + 1) }

// ShapeOf is the shape of a library's version; "" when unknown.
func ShapeOf(v spec.DataVersion) Shape {
	if v < spec.DataVersionPhase0 || int(v) > len(shapes) {
		return ""
	}
	return shapes[v-1]
}

func (s Shape) atLeast(o Shape) bool { return slices.Index(shapes, s) >= slices.Index(shapes, o) }

// Fork is one entry of a chain's fork schedule.
type Fork struct {
	Epoch   cluster.Epoch
	Version cluster.ForkVersion
	Shape   Shape // "" when the fork has no name here
}

// Chain is what signatures are bound to. It is a value and never changes.
type Chain struct {
	SlotsPerEpoch  uint64
	ValidatorsRoot cluster.Root        // genesis_validators_root
	Genesis        cluster.ForkVersion // for registrations, which are valid on every fork
	Exit           cluster.ForkVersion // Capella's, for voluntary exits since Deneb (EIP-7044)
	Forks          []Fork              // by epoch, from config/fork_schedule
}

// ForkAt is the fork of an epoch.
func (c Chain) ForkAt(e cluster.Epoch) Fork {
	out := Fork{Version: c.Genesis}
	for _, f := range c.Forks {
		if f.Epoch <= e {
			out = f
		}
	}
	return out
}

func (c Chain) epoch(s cluster.Slot) cluster.Epoch {
	return cluster.Epoch(uint64(s) / max(c.SlotsPerEpoch, 1))
}

// Domain is the signature domain of an epoch; for exits and registrations see the objects.
func (c Chain) Domain(kind cluster.DomainType, e cluster.Epoch) cluster.Root {
	return cluster.Domain(kind, c.ForkAt(e).Version, c.ValidatorsRoot)
}

// Domain types of the consensus specification.
var (
	DomainProposer          = cluster.DomainType{0}
	DomainAttester          = cluster.DomainType{1}
	DomainRandao            = cluster.DomainType{2}
	DomainExit              = cluster.DomainType{4}
	DomainSelection         = cluster.DomainType{5}
	DomainAggregateAndProof = cluster.DomainType{6}
	DomainSyncMessage       = cluster.DomainType{7}
	DomainSyncSelection     = cluster.DomainType{8}
	DomainContribution      = cluster.DomainType{9}
)

// Signed is an object with a place for its signature. Its types are Attestation, Proposal, Randao,
// Exit, Selection, Aggregate, SyncMessage, SyncSelection, Contribution and Registration.
type Signed interface {
	// DutyType says which duty the object is for.
	DutyType() cluster.DutyType
	// Slot is the slot of the duty that the object is for.
	Slot(slotsPerEpoch uint64) cluster.Slot
	// Signature is the signature within; zero when there is none yet.
	Signature() cluster.Signature
	// WithSignature returns a copy that carries another signature.
	WithSignature(cluster.Signature) Signed
	// MessageRoot is the hash tree root of what is signed. Partial signatures are combined when it is equal.
	MessageRoot() (cluster.Root, error)
	// Encode returns the bytes for ParSignedData.Data.
	Encode() ([]byte, error)

	domain(Chain) cluster.Root
}

// maxData bounds the bytes of one validator's object: blocks carry blobs, the others are small.
func maxData(t cluster.DutyType) int {
	if t == cluster.DutyProposer {
		return 32 << 20
	}
	return 256 << 10
}

// Parse reads one object from a peer's or from own bytes. Errors wrap ErrMalformed, ErrDuty or ErrShape.
func Parse(t cluster.DutyType, data []byte) (Signed, error) {
	if len(data) > maxData(t) {
		return nil, fmt.Errorf("read %s: %w: %d bytes, limit %d", t, ErrMalformed, len(data), maxData(t))
	}
	var s Signed
	var err error
	switch t {
	case cluster.DutyAttester:
		s, err = parseAttestation(data)
	case cluster.DutyProposer:
		s, err = parseProposal(data)
	case cluster.DutyRandao:
		s, err = parseRandao(data)
	case cluster.DutyExit:
		s, err = parseExit(data)
	case cluster.DutyPrepareAggregator:
		s, err = parseSelection(data)
	case cluster.DutyAggregator:
		s, err = parseAggregate(data)
	case cluster.DutySyncMessage:
		s, err = parseSyncMessage(data)
	case cluster.DutyPrepareSyncContribution:
		s, err = parseSyncSelection(data)
	case cluster.DutySyncContribution:
		s, err = parseContribution(data)
	case cluster.DutyBuilderRegistration:
		s, err = parseRegistration(data)
	default:
		err = ErrDuty
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t, err)
	}
	return s, nil
}

// SignatureOf returns the signature within the bytes of one object.
func SignatureOf(t cluster.DutyType, data []byte) (cluster.Signature, error) {
	s, err := Parse(t, data)
	if err != nil {
		return cluster.Signature{}, err
	}
	return s.Signature(), nil
}

// Partial returns an object as one node's part.
func Partial(s Signed, share cluster.ShareIndex) (cluster.ParSignedData, error) {
	data, err := s.Encode()
	if err != nil {
		return cluster.ParSignedData{}, err
	}
	return cluster.ParSignedData{Data: data, Signature: s.Signature(), Share: share}, nil
}

// SigningRoot is what the key signs: the message root in its domain.
func SigningRoot(s Signed, c Chain) (cluster.Root, error) {
	r, err := s.MessageRoot()
	if err != nil {
		return cluster.Root{}, err
	}
	return cluster.SigningRoot(r, s.domain(c)), nil
}

// Kind says what kind of slashing an object could lead to. The zero value is none.
type Kind string

// The kinds of objects that slashing protection must see.
const (
	KindAttestation Kind = "attestation"
	KindBlock       Kind = "block"
)

// Facts are what slashing protection must know of an object before it is signed.
type Facts struct {
	Kind        Kind          // "" for objects that cannot be slashed for
	Source      cluster.Epoch // attestations
	Target      cluster.Epoch // attestations
	Slot        cluster.Slot  // blocks
	SigningRoot cluster.Root
}

// FactsOf returns the facts of an object.
func FactsOf(s Signed, c Chain) (Facts, error) {
	root, err := SigningRoot(s, c)
	if err != nil {
		return Facts{}, err
	}
	f := Facts{SigningRoot: root}
	switch o := s.(type) {
	case Attestation:
		d := o.data()
		f.Kind, f.Source, f.Target = KindAttestation, cluster.Epoch(d.Source.Epoch), cluster.Epoch(d.Target.Epoch)
	case Proposal:
		f.Kind, f.Slot = KindBlock, o.Slot(c.SlotsPerEpoch)
	}
	return f, nil
}

// Fits returns nil only when the object is for the duty: its type and slot, the shape of the fork at
// that slot, and for attestations epochs that belong together. Errors wrap ErrMisfit.
func Fits(s Signed, duty cluster.Duty, c Chain) error {
	if s.DutyType() != duty.Type {
		return fmt.Errorf("%w: %s data for %s", ErrMisfit, s.DutyType(), duty)
	}
	at := s.Slot(c.SlotsPerEpoch)
	switch s.(type) {
	case Registration: // has no slot
		at = duty.Slot
	case Randao: // has only an epoch
		if c.epoch(at) == c.epoch(duty.Slot) {
			at = duty.Slot
		}
	}
	if at != duty.Slot {
		return fmt.Errorf("%w: data of slot %d for %s", ErrMisfit, at, duty)
	}
	want := c.ForkAt(c.epoch(duty.Slot)).Shape
	switch o := s.(type) {
	case Attestation:
		d := o.data()
		if cluster.Epoch(d.Target.Epoch) != c.epoch(duty.Slot) || d.Source.Epoch > d.Target.Epoch {
			return fmt.Errorf("%w: epochs %d to %d for %s in epoch %d", ErrMisfit, d.Source.Epoch, d.Target.Epoch, duty, c.epoch(duty.Slot))
		}
		// What is signed is the same in all forks: only the container changed, in Electra.
		if o.Shape().atLeast(Electra) != want.atLeast(Electra) {
			return fmt.Errorf("%w: %s data for %s, whose epoch is in %s", ErrMisfit, o.Shape(), duty, want)
		}
	case Proposal:
		if o.Shape() != want {
			return fmt.Errorf("%w: %s data for %s, whose epoch is in %s", ErrMisfit, o.Shape(), duty, want)
		}
	case Aggregate:
		if o.Shape().atLeast(Electra) != want.atLeast(Electra) {
			return fmt.Errorf("%w: %s data for %s, whose epoch is in %s", ErrMisfit, o.Shape(), duty, want)
		}
	}
	return nil
}

// ToSign makes the object that a validator signs from what the nodes agreed on, without a signature.
// The data must fit the duty. Attester and proposer duties only.
func ToSign(duty cluster.Duty, unsigned []byte, c Chain) (Signed, error) {
	var s Signed
	switch duty.Type {
	case cluster.DutyAttester:
		data, own, err := DecodeAttester(unsigned)
		if err != nil {
			return nil, err
		}
		shape := c.ForkAt(c.epoch(duty.Slot)).Shape
		if s, err = NewAttestation(shape, data, own); err != nil {
			return nil, err
		}
	case cluster.DutyProposer:
		p, err := DecodeProposal(unsigned)
		if err != nil {
			return nil, err
		}
		if s, err = NewProposal(p); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%w: %s isn't signed as it was agreed on", ErrDuty, duty)
	}
	if err := Fits(s, duty, c); err != nil {
		return nil, err
	}
	return s, nil
}
