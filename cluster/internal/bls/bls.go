// Package bls is the one door to BLS12-381: keys, Shamir shares, signatures and their sums, in the
// minimal-pubkey-size variant with Ethereum's domain tag (proof of possession scheme).
//
// Keys in G1 are 48 bytes, signatures in G2 96; both are checked to be on the curve and in the
// right subgroup whenever they are read, and the point at infinity is refused. Secrets come from
// crypto/rand. Every function may be called from any goroutine, none of them blocks on anything but
// the processor, and no error carries a secret.
package bls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"app.provost/cluster"

	herumi "github.com/herumi/bls-eth-go-binary/bls"
)

// Errors of this package. They are wrapped with what was being done.
var (
	ErrBadSecret    = errors.New("not a secret key: want 32 bytes, not zero and below the group order")
	ErrBadPubKey    = errors.New("not a public key: the bytes are no point of the right group")
	ErrBadSignature = errors.New("not a signature: the bytes are no point of the right group")
	ErrVerify       = errors.New("the signature doesn't fit the key and the message")
	ErrZeroised     = errors.New("the secret key is empty or was wiped")
	errPrinted      = errors.New("a secret key can't be encoded")
)

var initOnce = sync.OnceValue(func() error {
	if err := herumi.Init(herumi.BLS12_381); err != nil {
		return fmt.Errorf("start the BLS library: %w", err)
	}
	herumi.VerifyPublicKeyOrder(true)
	herumi.VerifySignatureOrder(true)
	return nil
})

// SecretKey is a validator's key or one share of it. Its zero value is no key. Copies share the
// secret, so that wiping one wipes all. It prints as [secret] and refuses to be encoded.
type SecretKey struct {
	// fmt prints unexported fields of foreign structs without asking them, and follows one pointer
	// when a verb doesn't fit; it never follows two.
	k **herumi.SecretKey
}

func wrap(s *herumi.SecretKey) SecretKey { return SecretKey{&s} }

// GenerateKey returns a fresh key from crypto/rand.
func GenerateKey() (SecretKey, error) {
	if err := initOnce(); err != nil {
		return SecretKey{}, err
	}
	s, err := randomScalar()
	if err != nil {
		return SecretKey{}, err
	}
	return wrap(s), nil
}

// randomScalar draws 48 bytes and reduces them, so that the bias is below 2^-128.
func randomScalar() (*herumi.SecretKey, error) {
	var seed [48]byte
	defer clear(seed[:])
	for {
		if _, err := rand.Read(seed[:]); err != nil {
			return nil, fmt.Errorf("draw a secret key: %w", err)
		}
		s := new(herumi.SecretKey)
		if err := s.SetLittleEndianMod(seed[:]); err != nil {
			return nil, errors.New("draw a secret key: the BLS library refused the seed")
		}
		if !s.IsZero() {
			return s, nil
		}
	}
}

// SecretKeyFromBytes reads a 32-byte big-endian scalar. The caller keeps and wipes raw.
func SecretKeyFromBytes(raw []byte) (SecretKey, error) {
	if err := initOnce(); err != nil {
		return SecretKey{}, err
	}
	if len(raw) != 32 {
		return SecretKey{}, ErrBadSecret
	}
	raw = forC(raw)
	defer clear(raw)
	s := new(herumi.SecretKey)
	// The library's own error repeats the bytes.
	if s.Deserialize(raw) != nil || s.IsZero() {
		return SecretKey{}, ErrBadSecret
	}
	return wrap(s), nil
}

// Export returns the 32-byte big-endian scalar, for a keystore. The caller wipes it.
func (s SecretKey) Export() ([]byte, error) {
	if !s.ok() {
		return nil, ErrZeroised
	}
	return (*s.k).Serialize(), nil
}

// Wipe overwrites the secret with zeros, in all copies.
func (s SecretKey) Wipe() {
	if s.k != nil {
		**s.k = herumi.SecretKey{}
	}
}

// Equal reports whether both hold the same secret; false when either holds none.
func (s SecretKey) Equal(o SecretKey) bool { return s.ok() && o.ok() && (*s.k).IsEqual(*o.k) }

func (s SecretKey) ok() bool { return s.k != nil && initOnce() == nil && !(*s.k).IsZero() }

// PubKey returns the public key.
func (s SecretKey) PubKey() (cluster.PubKey, error) {
	if !s.ok() {
		return cluster.PubKey{}, ErrZeroised
	}
	return cluster.PubKey((*s.k).GetPublicKey().Serialize()), nil
}

// Sign signs a message of at least one byte.
func (s SecretKey) Sign(msg []byte) (cluster.Signature, error) {
	if !s.ok() {
		return cluster.Signature{}, ErrZeroised
	}
	if len(msg) == 0 {
		return cluster.Signature{}, errors.New("sign: the message is empty")
	}
	return cluster.Signature((*s.k).SignByte(forC(msg)).Serialize()), nil
}

// forC copies bytes that go to the library: cgo refuses memory that lies beside Go pointers, as a
// hash within a larger struct does.
func forC(b []byte) []byte { return bytes.Clone(b) }

// String returns "[secret]".
func (SecretKey) String() string { return "[secret]" }

// GoString returns "[secret]".
func (SecretKey) GoString() string { return "[secret]" }

// Format prints "[secret]" whatever the verb is.
func (SecretKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// LogValue logs "[secret]".
func (SecretKey) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalJSON always fails.
func (SecretKey) MarshalJSON() ([]byte, error) { return nil, errPrinted }

// MarshalText always fails.
func (SecretKey) MarshalText() ([]byte, error) { return nil, errPrinted }

// MarshalBinary always fails.
func (SecretKey) MarshalBinary() ([]byte, error) { return nil, errPrinted }

// Split cuts a secret into total shares, any threshold of which recover it; threshold-1 say nothing
// about it. Share i of the result has the ShareIndex i+1. A threshold of 1 is refused.
func Split(secret SecretKey, total int, threshold cluster.Threshold) ([]SecretKey, error) {
	if !secret.ok() {
		return nil, fmt.Errorf("split a key: %w", ErrZeroised)
	}
	if threshold < 2 || int(threshold) > total {
		return nil, fmt.Errorf("split a key: a threshold of %d of %d shares: want 2 to %d", threshold, total, total)
	}
	poly := make([]herumi.SecretKey, threshold)
	defer clear(poly)
	poly[0] = **secret.k
	for i := 1; i < len(poly); i++ {
		c, err := randomScalar()
		if err != nil {
			return nil, err
		}
		poly[i] = *c
		*c = herumi.SecretKey{}
	}
	shares := make([]SecretKey, total)
	for i := range shares {
		id, err := shareID(cluster.ShareIndex(i + 1))
		if err != nil {
			return nil, err
		}
		s := new(herumi.SecretKey)
		if err := s.Set(poly, &id); err != nil || s.IsZero() {
			return nil, errors.New("split a key: the BLS library could not evaluate the polynomial")
		}
		shares[i] = wrap(s)
	}
	return shares, nil
}

func shareID(i cluster.ShareIndex) (id herumi.ID, err error) {
	if i < 1 || i > cluster.MaxOperators {
		return id, fmt.Errorf("share index %d: want 1 to %d", i, cluster.MaxOperators)
	}
	// Little endian; 32 bytes are what the library expects of a scalar.
	if err := id.SetLittleEndian([]byte{byte(i), byte(i >> 8)}); err != nil {
		return id, fmt.Errorf("share index %d: %w", i, err)
	}
	return id, nil
}

func shareIDs[V any](shares map[cluster.ShareIndex]V, each func(V) error) ([]herumi.ID, error) {
	if len(shares) < 2 {
		return nil, fmt.Errorf("found %d shares, at least 2 are needed", len(shares))
	}
	ids := make([]herumi.ID, 0, len(shares))
	for i, v := range shares {
		id, err := shareID(i)
		if err != nil {
			return nil, err
		}
		if err := each(v); err != nil {
			return nil, fmt.Errorf("share %d: %w", i, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// RecoverSecret interpolates the secret from shares by their indices. Fewer shares than the
// threshold give another, meaningless key: compare the public key.
func RecoverSecret(shares map[cluster.ShareIndex]SecretKey) (SecretKey, error) {
	vec := make([]herumi.SecretKey, 0, len(shares))
	defer func() { clear(vec) }()
	ids, err := shareIDs(shares, func(s SecretKey) error {
		if !s.ok() {
			return ErrZeroised
		}
		vec = append(vec, **s.k)
		return nil
	})
	if err != nil {
		return SecretKey{}, fmt.Errorf("recover a key: %w", err)
	}
	out := new(herumi.SecretKey)
	if err := out.Recover(vec, ids); err != nil || out.IsZero() {
		return SecretKey{}, errors.New("recover a key: the BLS library could not interpolate")
	}
	return wrap(out), nil
}

// RecoverPubKey interpolates the public key from public shares by their indices.
func RecoverPubKey(shares map[cluster.ShareIndex]PublicKey) (cluster.PubKey, error) {
	vec := make([]herumi.PublicKey, 0, len(shares))
	ids, err := shareIDs(shares, func(p PublicKey) error {
		if p.p == nil {
			return ErrBadPubKey
		}
		vec = append(vec, *p.p)
		return nil
	})
	if err != nil {
		return cluster.PubKey{}, fmt.Errorf("recover a public key: %w", err)
	}
	var out herumi.PublicKey
	if err := out.Recover(vec, ids); err != nil {
		return cluster.PubKey{}, errors.New("recover a public key: the BLS library could not interpolate")
	}
	return cluster.PubKey(out.Serialize()), nil
}

// CombineThreshold makes the validator's signature from the partial ones of at least threshold
// shares, by their indices. The result must be verified: a wrong partial makes a wrong sum.
func CombineThreshold(partials map[cluster.ShareIndex]cluster.Signature) (cluster.Signature, error) {
	vec := make([]herumi.Sign, 0, len(partials))
	ids, err := shareIDs(partials, func(s cluster.Signature) error {
		p, err := parseSignature(s)
		if err == nil {
			vec = append(vec, *p)
		}
		return err
	})
	if err != nil {
		return cluster.Signature{}, fmt.Errorf("combine signatures: %w", err)
	}
	var out herumi.Sign
	if err := out.Recover(vec, ids); err != nil {
		return cluster.Signature{}, errors.New("combine signatures: the BLS library could not interpolate")
	}
	return cluster.Signature(out.Serialize()), nil
}

// Aggregate returns the plain sum of signatures.
func Aggregate(sigs []cluster.Signature) (cluster.Signature, error) {
	if err := initOnce(); err != nil {
		return cluster.Signature{}, err
	}
	if len(sigs) == 0 {
		return cluster.Signature{}, errors.New("aggregate signatures: there are none")
	}
	vec := make([]herumi.Sign, len(sigs))
	for i, s := range sigs {
		p, err := parseSignature(s)
		if err != nil {
			return cluster.Signature{}, fmt.Errorf("aggregate signatures: number %d: %w", i, err)
		}
		vec[i] = *p
	}
	var out herumi.Sign
	out.Aggregate(vec)
	return cluster.Signature(out.Serialize()), nil
}

// KeySum adds up secret keys, so that one signature stands for the plain sum of all their
// signatures over one message (the group law makes both the same bytes). It has one user at a time.
type KeySum struct{ sum SecretKey }

// Add adds a key.
func (s *KeySum) Add(key SecretKey) error {
	if !key.ok() {
		return ErrZeroised
	}
	if s.sum.k == nil {
		s.sum = wrap(new(herumi.SecretKey))
	}
	(*s.sum.k).Add(*key.k)
	return nil
}

// Sign signs with the sum of all keys that were added.
func (s *KeySum) Sign(msg []byte) (cluster.Signature, error) { return s.sum.Sign(msg) }

// Wipe overwrites the sum with zeros.
func (s *KeySum) Wipe() { s.sum.Wipe() }

// String returns "[secret]".
func (*KeySum) String() string { return "[secret]" }

// Format prints "[secret]" whatever the verb is.
func (*KeySum) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// MarshalJSON always fails.
func (*KeySum) MarshalJSON() ([]byte, error) { return nil, errPrinted }

// PublicKey is a public key whose bytes were checked, ready for use. Its zero value is no key.
type PublicKey struct{ p *herumi.PublicKey }

// ParsePubKey checks that the bytes are a point of the right subgroup other than infinity. It costs
// about as much as a tenth of a verification.
func ParsePubKey(k cluster.PubKey) (PublicKey, error) {
	if err := initOnce(); err != nil {
		return PublicKey{}, err
	}
	p := new(herumi.PublicKey)
	if p.Deserialize(k[:]) != nil || p.IsZero() {
		return PublicKey{}, fmt.Errorf("read public key %s: %w", k, ErrBadPubKey)
	}
	return PublicKey{p}, nil
}

func parseSignature(s cluster.Signature) (*herumi.Sign, error) {
	if err := initOnce(); err != nil {
		return nil, err
	}
	p := new(herumi.Sign)
	if p.Deserialize(s[:]) != nil || p.IsZero() {
		return nil, ErrBadSignature
	}
	return p, nil
}

// Verify returns nil only when sig is key's signature of msg. Errors are or wrap ErrVerify,
// ErrBadPubKey and ErrBadSignature.
func Verify(key cluster.PubKey, msg []byte, sig cluster.Signature) error {
	p, err := ParsePubKey(key)
	if err != nil {
		return err
	}
	return p.Verify(msg, sig)
}

// Verify returns nil only when sig is the key's signature of msg.
func (p PublicKey) Verify(msg []byte, sig cluster.Signature) error {
	if p.p == nil {
		return ErrBadPubKey
	}
	s, err := parseSignature(sig)
	if err != nil {
		return err
	}
	if len(msg) == 0 || !s.VerifyByte(p.p, forC(msg)) {
		return ErrVerify
	}
	return nil
}

// FastAggregateVerify returns nil only when sig is the plain sum of the signatures of all keys over
// the one message.
func FastAggregateVerify(keys []PublicKey, msg []byte, sig cluster.Signature) error {
	if len(keys) == 0 || len(msg) == 0 {
		return fmt.Errorf("verify an aggregate of nothing: %w", ErrVerify)
	}
	vec := make([]herumi.PublicKey, len(keys))
	for i, k := range keys {
		if k.p == nil {
			return ErrBadPubKey
		}
		vec[i] = *k.p
	}
	s, err := parseSignature(sig)
	if err != nil {
		return err
	}
	if !s.FastAggregateVerify(vec, forC(msg)) {
		return ErrVerify
	}
	return nil
}
