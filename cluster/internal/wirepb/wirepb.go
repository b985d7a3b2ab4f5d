// Package wirepb holds the messages that the nodes of a cluster exchange, their deterministic
// encoding, the hash over it and the node signatures in them.
//
// It promises that Read takes foreign bytes without trusting them: size and number of parts are
// bounded before anything is allocated for them, and a message in which a required message field is
// missing is refused. Everything here is a pure function and may be called from any goroutine;
// nothing blocks. Unknown fields are kept, since hashes and signatures of other implementations
// cover them.
//
// The messages are made by: protoc -I.. --go_out=.. --go_opt=paths=source_relative ../wirepb/*.proto
// with protoc 3.21.12 and protoc-gen-go v1.36.12. Proto packages and names are those of the protocol,
// so that type URLs in Any fit.
package wirepb

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"app.provost/cluster"
)

//go:generate protoc -I.. --go_out=.. --go_opt=paths=source_relative ../wirepb/core.proto ../wirepb/consensus.proto ../wirepb/priority.proto ../wirepb/peerinfo.proto

// The protocols of a running node, as they are named when a stream is opened.
const (
	ProtocolQBFT           = "/charon/consensus/qbft/2.0.0"
	ProtocolParSigEx       = "/charon/parsigex/2.0.0"
	ProtocolPeerInfo       = "/charon/peerinfo/2.0.0"
	ProtocolPriority       = "/charon/priority/2.0.0"
	ProtocolPriorityOld    = "charon/priority/2.0.0" // without a slash: every release before v1.11
	MaxQBFTBytes           = 32 << 20
	MaxParSigExBytes       = 128 << 20
	MaxPeerInfoBytes       = 1 << 20
	MaxPriorityBytes       = 128 << 20
	maxParts               = 2*cluster.MaxValidators + 16 // a set of all validators, two parts each
	maxJustifications      = 2 * cluster.MaxOperators
	maxConsensusParts      = 2 + 2*maxJustifications + 2*(maxJustifications+1)
	unsignedDataSetURL     = "type.googleapis.com/core.corepb.v1.UnsignedDataSet"
	signatureFieldQBFT     = protoreflect.FieldNumber(8)
	signatureFieldPriority = protoreflect.FieldNumber(4)
)

// Errors that Read and the conversions wrap.
var (
	ErrTooLarge  = errors.New("the message is larger than its protocol allows")
	ErrTooMany   = errors.New("the message has more parts than a cluster can need")
	ErrMissing   = errors.New("a required field is missing")
	ErrValueType = errors.New("the value is of a type that isn't agreed on here")
)

// maxSize is the frame limit of a message that travels by itself.
func maxSize(m proto.Message) (bytes, parts int) {
	switch m.(type) {
	case *QBFTConsensusMsg:
		return MaxQBFTBytes, maxConsensusParts
	case *UnsignedDataSet:
		return MaxQBFTBytes, maxParts
	case *PeerInfo:
		return MaxPeerInfoBytes, 64
	default:
		return MaxParSigExBytes, maxParts
	}
}

// Read fills m from a peer's bytes. Errors wrap ErrTooLarge, ErrTooMany or ErrMissing, or are those
// of the protobuf decoder.
func Read(b []byte, m proto.Message) error {
	size, parts := maxSize(m)
	if len(b) > size {
		return fmt.Errorf("read %s: %w: %d bytes, limit %d", m.ProtoReflect().Descriptor().Name(), ErrTooLarge, len(b), size)
	}
	if err := countParts(b, m.ProtoReflect().Descriptor(), &parts); err != nil {
		return fmt.Errorf("read %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("read %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	if err := require(m.ProtoReflect()); err != nil {
		return fmt.Errorf("read %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// countParts walks the encoding without allocating and takes every embedded message from the budget:
// two bytes on the wire can cost hundreds in memory.
func countParts(b []byte, md protoreflect.MessageDescriptor, budget *int) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		fd := md.Fields().ByNumber(num)
		if fd == nil || typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if fd.Message() == nil && !fd.IsList() {
			continue
		}
		if *budget--; *budget < 0 {
			return ErrTooMany
		}
		if fd.Message() != nil {
			if err := countParts(v, fd.Message(), budget); err != nil {
				return err
			}
		}
	}
	return nil
}

// require refuses a message in which a message field that isn't marked optional is missing, at any depth.
func require(m protoreflect.Message) error {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() == nil {
				continue
			}
			var err error
			m.Get(fd).Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				err = require(v.Message())
				return err == nil
			})
			if err != nil {
				return err
			}
		case fd.Message() == nil:
		case fd.IsList():
			list := m.Get(fd).List()
			for j := range list.Len() {
				if err := require(list.Get(j).Message()); err != nil {
					return err
				}
			}
		case !m.Has(fd):
			if !fd.HasOptionalKeyword() && fd.ContainingOneof() == nil {
				return fmt.Errorf("%w: %s", ErrMissing, fd.FullName())
			}
		default:
			if err := require(m.Get(fd).Message()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Encode returns the deterministic bytes of a message: fields by number, map entries by key.
func Encode(m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b, nil
}

// Hash is the value hash of a message: its deterministic bytes in 32-byte leaves under a SHA-256 tree
// whose missing leaves are zero, with no length mixed in. 32 bytes and fewer are only padded.
func Hash(m proto.Message) (cluster.Root, error) {
	b, err := Encode(m)
	if err != nil {
		return cluster.Root{}, err
	}
	return hashBytes(b), nil
}

func hashBytes(b []byte) cluster.Root {
	layer := make([]cluster.Root, max(1, (len(b)+31)/32))
	for i := range layer {
		copy(layer[i][:], b[min(32*i, len(b)):])
	}
	var zero cluster.Root
	for len(layer) > 1 {
		next := layer[:(len(layer)+1)/2]
		for i := range next {
			var pair [64]byte
			copy(pair[:32], layer[2*i][:])
			right := &zero
			if 2*i+1 < len(layer) {
				right = &layer[2*i+1]
			}
			copy(pair[32:], right[:])
			next[i] = sha256.Sum256(pair[:])
		}
		zero = pairOf(zero)
		layer = next
	}
	return layer[0]
}

func pairOf(r cluster.Root) cluster.Root {
	var pair [64]byte
	copy(pair[:32], r[:])
	copy(pair[32:], r[:])
	return sha256.Sum256(pair[:])
}

// Signer makes a node's 65-byte signature (R, S, V) of a hash.
type Signer func(hash [32]byte) (cluster.HexBytes, error)

// Verifier returns nil only when sig is the signature of the hash by the node that it was made for.
type Verifier func(hash [32]byte, sig []byte) error

// SigningHash is what a node signs: the hash of the message with its signature field left out.
// Only QBFTMsg and PriorityMsg are signed.
func SigningHash(m proto.Message) (cluster.Root, error) {
	var field protoreflect.FieldNumber
	switch m.(type) {
	case *QBFTMsg:
		field = signatureFieldQBFT
	case *PriorityMsg:
		field = signatureFieldPriority
	default:
		return cluster.Root{}, fmt.Errorf("hash %s for a signature: nodes don't sign such messages", m.ProtoReflect().Descriptor().Name())
	}
	c := proto.CloneOf(m).ProtoReflect()
	c.Clear(c.Descriptor().Fields().ByNumber(field))
	return Hash(c.Interface())
}

// SignQBFT sets the signature of a message that won't change afterwards.
func SignQBFT(m *QBFTMsg, sign Signer) error {
	hash, err := SigningHash(m)
	if err != nil {
		return err
	}
	sig, err := sign(hash)
	if err != nil {
		return fmt.Errorf("sign consensus message: %w", err)
	}
	m.Signature = sig
	return nil
}

// VerifyQBFT returns nil only when the message carries a signature that verify accepts.
func VerifyQBFT(m *QBFTMsg, verify Verifier) error {
	if len(m.GetSignature()) != 65 {
		return fmt.Errorf("check consensus message: the signature has %d bytes, want 65", len(m.GetSignature()))
	}
	hash, err := SigningHash(m)
	if err != nil {
		return err
	}
	return verify(hash, m.GetSignature())
}

// NewDuty returns the message of a duty.
func NewDuty(d cluster.Duty) *Duty {
	return &Duty{Slot: uint64(d.Slot), Type: int32(d.Type)}
}

// Noun returns the duty. Its type may be one that isn't valid.
func (x *Duty) Noun() cluster.Duty {
	return cluster.Duty{Slot: cluster.Slot(x.GetSlot()), Type: cluster.DutyType(x.GetType())}
}

// parseKey reads a validator's key as it stands in sets: 0x and 96 lower-case hex digits.
func parseKey(text string) (cluster.PubKey, error) {
	var k cluster.PubKey
	if len(text) != 98 {
		return k, fmt.Errorf("read key of a set: %d characters, want 98", len(text))
	}
	if err := k.UnmarshalText([]byte(text)); err != nil || k.String() != text {
		return cluster.PubKey{}, errors.New("read key of a set: want 0x and 96 lower-case hex digits")
	}
	return k, nil
}

// NewUnsignedDataSet returns the message of a set. It shares the bytes.
func NewUnsignedDataSet(set cluster.UnsignedDataSet) *UnsignedDataSet {
	out := &UnsignedDataSet{Set: make(map[string][]byte, len(set))}
	for k, v := range set {
		out.Set[k.String()] = v
	}
	return out
}

// Noun returns the set. It shares the bytes.
func (x *UnsignedDataSet) Noun() (cluster.UnsignedDataSet, error) {
	out := make(cluster.UnsignedDataSet, len(x.GetSet()))
	for text, v := range x.GetSet() {
		k, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		out[k] = v
	}
	return out, nil
}

// WrapUnsigned returns a set as it travels among the values of a consensus message, in canonical
// bytes, and its value hash.
func WrapUnsigned(set *UnsignedDataSet) (*anypb.Any, cluster.Root, error) {
	b, err := Encode(set)
	if err != nil {
		return nil, cluster.Root{}, err
	}
	return &anypb.Any{TypeUrl: unsignedDataSetURL, Value: b}, hashBytes(b), nil
}

// UnwrapUnsigned reads a set from a value of a consensus message. canonical is the value as
// WrapUnsigned would make it, whatever the order in which the peer wrote it down, and hash is over
// that. ErrValueType for any other type.
func UnwrapUnsigned(v *anypb.Any) (set *UnsignedDataSet, canonical *anypb.Any, hash cluster.Root, err error) {
	if v.GetTypeUrl() != unsignedDataSetURL {
		return nil, nil, hash, ErrValueType
	}
	set = new(UnsignedDataSet)
	if err := Read(v.GetValue(), set); err != nil {
		return nil, nil, hash, err
	}
	canonical, hash, err = WrapUnsigned(set)
	return set, canonical, hash, err
}

// NewParSigExMsg returns the message that carries one node's partial signatures of a duty.
// It shares the bytes.
func NewParSigExMsg(duty cluster.Duty, set cluster.ParSignedDataSet) *ParSigExMsg {
	out := &ParSigExMsg{Duty: NewDuty(duty), DataSet: &ParSignedDataSet{Set: make(map[string]*ParSignedData, len(set))}}
	for k, v := range set {
		sig := v.Signature
		out.DataSet.Set[k.String()] = &ParSignedData{Data: v.Data, Signature: sig[:], ShareIdx: int32(v.Share)}
	}
	return out
}

// Noun returns the set with signatures left zero: the copy beside the data is anybody's word, the
// true one stands within the data. It shares the bytes.
func (x *ParSignedDataSet) Noun() (cluster.ParSignedDataSet, error) {
	out := make(cluster.ParSignedDataSet, len(x.GetSet()))
	for text, v := range x.GetSet() {
		k, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		out[k] = cluster.ParSignedData{Data: v.GetData(), Share: cluster.ShareIndex(v.GetShareIdx())}
	}
	return out, nil
}
