package enr

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// maxRecordBytes is the limit of EIP-778 on an encoded record.
const maxRecordBytes = 300

// ErrRecord is wrapped by every error of Parse.
var ErrRecord = errors.New("not a valid node record")

// Record is what a checked node record says of a cluster node. Other pairs, such as ip and tcp, are
// covered by the signature and left alone.
type Record struct {
	Seq    uint64
	PubKey PubKey
}

// Text returns the node record of a key with sequence 0 and no addresses, as clusters use it.
func Text(k Key) (string, error) {
	if k.secret() == nil {
		return "", errors.New("write node record: the node key is empty or was wiped")
	}
	pub := k.PubKey()
	var content []byte
	content = rlpBytes(content, nil) // sequence 0
	content = rlpBytes(content, []byte("id"))
	content = rlpBytes(content, []byte("v4"))
	content = rlpBytes(content, []byte("secp256k1"))
	content = rlpBytes(content, pub[:])
	hash := Keccak256(rlpList(content))
	sig, err := k.SignHash(hash)
	if err != nil {
		return "", fmt.Errorf("write node record: %w", err)
	}
	return "enr:" + base64.RawURLEncoding.EncodeToString(rlpList(append(rlpBytes(nil, sig[:64]), content...))), nil
}

// Parse reads and verifies the text of a node record: canonical RLP, sorted keys, identity scheme
// v4, a good signature, nothing behind it. Padding at the end of the text is ignored.
func Parse(text string) (Record, error) {
	rec, err := parse(text, nil)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return rec, nil
}

// Pair is a key of a node record with its value, as the record has it.
type Pair struct {
	Key   string
	Value []byte // the content of a string, the whole encoding of a list
	List  bool
}

// Details are everything that a checked node record says.
type Details struct {
	Record
	Signature [64]byte
	Pairs     []Pair // in their order
}

// ParseDetails is Parse that hands out all pairs of the record.
func ParseDetails(text string) (Details, error) {
	var d Details
	rec, err := parse(text, &d)
	if err != nil {
		return Details{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	d.Record = rec
	return d, nil
}

// parse fills details unless it is nil.
func parse(text string, details *Details) (rec Record, err error) {
	body, ok := strings.CutPrefix(text, "enr:")
	if !ok {
		return rec, errors.New(`it must start with "enr:"`)
	}
	if len(body) > 2*maxRecordBytes {
		return rec, fmt.Errorf("%d characters are too many", len(body))
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(body, "="))
	if err != nil {
		return rec, err
	}
	if bytes.ContainsAny([]byte(body), "\r\n") {
		return rec, errors.New("line ends within the text") // the decoder skips them
	}
	if len(raw) > maxRecordBytes {
		return rec, fmt.Errorf("%d bytes, at most %d are allowed", len(raw), maxRecordBytes)
	}
	isList, list, rest, err := rlpItem(raw)
	if err != nil {
		return rec, err
	}
	if !isList || len(rest) != 0 {
		return rec, errors.New("not a single RLP list")
	}
	sig, signed, err := rlpString(list)
	if err != nil {
		return rec, err
	}
	if len(sig) != 64 {
		return rec, fmt.Errorf("the signature has %d bytes, want 64", len(sig))
	}
	if details != nil {
		copy(details.Signature[:], sig)
	}
	seq, pairs, err := rlpString(signed)
	if err != nil {
		return rec, err
	}
	if len(seq) > 8 || len(seq) > 0 && seq[0] == 0 {
		return rec, errors.New("the sequence is not a canonical number of at most 8 bytes")
	}
	for _, b := range seq {
		rec.Seq = rec.Seq<<8 | uint64(b)
	}
	var id, pub, last []byte
	for first := true; len(pairs) > 0; first = false {
		var key []byte
		if key, pairs, err = rlpString(pairs); err != nil {
			return rec, err
		}
		if !first && bytes.Compare(key, last) <= 0 {
			return rec, errors.New("keys are not in order, or one stands twice")
		}
		last = key
		isList, val, rest, err := rlpItem(pairs)
		if err != nil {
			return rec, err
		}
		if details != nil {
			p := Pair{Key: string(key), Value: bytes.Clone(val), List: isList}
			if isList {
				p.Value = bytes.Clone(pairs[:len(pairs)-len(rest)])
			}
			details.Pairs = append(details.Pairs, p)
		}
		pairs = rest
		switch string(key) {
		case "id":
			id = val
		case "secp256k1":
			pub = val
		default:
			continue
		}
		if isList {
			return rec, fmt.Errorf("the value of %s is a list", key)
		}
	}
	if string(id) != "v4" {
		return rec, errors.New("the identity scheme is not v4")
	}
	if len(pub) != len(rec.PubKey) {
		return rec, errors.New("there is no secp256k1 key of 33 bytes")
	}
	key, err := secp256k1.ParsePubKey(pub)
	if err != nil {
		return rec, err
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || r.IsZero() || s.IsZero() {
		return rec, errors.New("the signature is out of range")
	}
	hash := Keccak256(rlpList(signed))
	if !ecdsa.NewSignature(&r, &s).Verify(hash[:], key) {
		return rec, errors.New("the signature doesn't fit the content: the record was changed")
	}
	copy(rec.PubKey[:], pub)
	return rec, nil
}

// RLP as in the Ethereum yellow paper, appendix B, for items of up to maxRecordBytes.

func rlpHead(dst []byte, short byte, n int) []byte {
	switch {
	case n < 56:
		return append(dst, short+byte(n))
	case n < 256:
		return append(dst, short+56, byte(n))
	default:
		return append(dst, short+57, byte(n>>8), byte(n))
	}
}

func rlpBytes(dst, b []byte) []byte {
	if len(b) == 1 && b[0] < 0x80 {
		return append(dst, b[0])
	}
	return append(rlpHead(dst, 0x80, len(b)), b...)
}

func rlpList(content []byte) []byte { return append(rlpHead(nil, 0xc0, len(content)), content...) }

func rlpString(in []byte) (content, rest []byte, err error) {
	isList, content, rest, err := rlpItem(in)
	if err == nil && isList {
		err = errors.New("an RLP list stands where a string belongs")
	}
	return content, rest, err
}

// rlpItem splits off one item and refuses every encoding but the shortest.
func rlpItem(in []byte) (isList bool, content, rest []byte, err error) {
	if len(in) == 0 {
		return false, nil, nil, errors.New("the RLP data ends early")
	}
	b := in[0]
	if b < 0x80 {
		return false, in[:1], in[1:], nil
	}
	base := byte(0x80)
	if b >= 0xc0 {
		isList, base = true, 0xc0
	}
	n, head := int(b-base), 1
	if n > 55 {
		sizeBytes := n - 55
		if sizeBytes > 2 || len(in) < 1+sizeBytes || in[1] == 0 {
			return false, nil, nil, errors.New("an RLP length is cut off, too large or not canonical")
		}
		n = 0
		for _, x := range in[1 : 1+sizeBytes] {
			n = n<<8 | int(x)
		}
		if n < 56 {
			return false, nil, nil, errors.New("an RLP length is not canonical")
		}
		head += sizeBytes
	}
	if len(in)-head < n {
		return false, nil, nil, errors.New("the RLP data ends early")
	}
	content = in[head : head+n]
	if !isList && n == 1 && content[0] < 0x80 {
		return false, nil, nil, errors.New("an RLP byte is not canonical")
	}
	return isList, content, in[head+n:], nil
}

// PeerID is the libp2p id of a node by its key: the identity multihash of the key's protobuf form,
// in base58 (libp2p/specs peer-ids).
func (p PubKey) PeerID() string {
	return base58(append([]byte{0x00, 0x25, 0x08, 0x02, 0x12, 0x21}, p[:]...))
}

// NodeID is the node's place in the discovery protocol: the hash of the uncompressed key (EIP-778).
// It is nil when the bytes are no key.
func (p PubKey) NodeID() []byte {
	key, err := secp256k1.ParsePubKey(p[:])
	if err != nil {
		return nil
	}
	id := Keccak256(key.SerializeUncompressed()[1:])
	return id[:]
}

// base58 is the encoding of Bitcoin addresses. The time it takes grows with the square of the length.
func base58(raw []byte) string {
	const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	var out []byte
	n, digit, base := new(big.Int).SetBytes(raw), new(big.Int), big.NewInt(58)
	for n.Sign() > 0 {
		n.DivMod(n, base, digit)
		out = append(out, alphabet[digit.Int64()])
	}
	for _, b := range raw {
		if b != 0 {
			break
		}
		out = append(out, alphabet[0])
	}
	slices.Reverse(out)
	return string(out)
}
