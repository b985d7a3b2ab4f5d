// Package enr holds a node's network identity: its secp256k1 key, the key's file, signatures by it
// and by wallets, and the Ethereum node record (EIP-778, identity scheme v4) that names it.
//
// Records and signatures come from strangers and are checked whole before anything of them is
// handed out. Signing is deterministic (RFC 6979). Nothing blocks; everything may be called from
// any goroutine; no error carries a secret.
package enr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"app.provost/cluster"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/sha3"
)

// KeyFileName is the name of the file with a node's private key: 64 lower-case hex characters
// without a line end.
const KeyFileName = "charon-enr-private-key"

// Errors of this package.
var (
	ErrKeyFile   = errors.New("not a node key: want 64 hex characters, not zero and below the group order")
	ErrSignature = errors.New("the signature doesn't fit")
	errPrinted   = errors.New("a node key can't be encoded")
)

// Keccak256 is Ethereum's hash function (Keccak before it became SHA-3).
func Keccak256(data []byte) (out [32]byte) {
	h := sha3.NewLegacyKeccak256()
	h.Write(data)
	h.Sum(out[:0])
	return out
}

// PubKey is a compressed secp256k1 public key.
type PubKey [33]byte

// String returns 66 hex digits.
func (p PubKey) String() string { return hex.EncodeToString(p[:]) }

// Key is a node's private key. Its zero value is no key. Copies share the secret. It prints as
// [secret] and refuses to be encoded.
type Key struct {
	// fmt prints unexported fields of foreign structs without asking them, and follows one pointer
	// when a verb doesn't fit; it never follows two.
	k **secp256k1.PrivateKey
}

func wrap(k *secp256k1.PrivateKey) Key { return Key{&k} }

// secret returns the key inside, or nil when there is none or it was wiped.
func (k Key) secret() *secp256k1.PrivateKey {
	if k.k == nil || (*k.k).Key.IsZero() {
		return nil
	}
	return *k.k
}

// GenerateKey returns a fresh key from crypto/rand.
func GenerateKey() (Key, error) {
	k, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return Key{}, fmt.Errorf("draw a node key: %w", err)
	}
	return wrap(k), nil
}

// ParseKeyFile reads the content of a key file; white space around it is ignored.
func ParseKeyFile(file []byte) (Key, error) {
	text := bytes.TrimSpace(file)
	if len(text) != 64 {
		return Key{}, ErrKeyFile
	}
	var raw [32]byte
	defer clear(raw[:])
	if _, err := hex.Decode(raw[:], text); err != nil {
		return Key{}, ErrKeyFile
	}
	var s secp256k1.ModNScalar
	defer s.Zero()
	if s.SetByteSlice(raw[:]) || s.IsZero() {
		return Key{}, ErrKeyFile
	}
	return wrap(secp256k1.NewPrivateKey(&s)), nil
}

// ExportFile returns the content of the key's file. The caller wipes it.
func (k Key) ExportFile() []byte {
	secret := k.secret()
	if secret == nil {
		return nil
	}
	raw := secret.Serialize()
	defer clear(raw)
	return hex.AppendEncode(nil, raw)
}

// Wipe overwrites the secret, in all copies.
func (k Key) Wipe() {
	if secret := k.secret(); secret != nil {
		secret.Zero()
	}
}

// PubKey returns the public key.
func (k Key) PubKey() PubKey {
	secret := k.secret()
	if secret == nil {
		return PubKey{}
	}
	return PubKey(secret.PubKey().SerializeCompressed())
}

// SignHash signs a 32-byte hash as it is: R, S and V (0 or 1), 65 bytes.
func (k Key) SignHash(hash [32]byte) (cluster.HexBytes, error) {
	secret := k.secret()
	if secret == nil {
		return nil, errors.New("sign: the node key is empty or was wiped")
	}
	c := ecdsa.SignCompact(secret, hash[:], false) // 27+V, R, S
	return append(c[1:65:65], c[0]-27), nil
}

// String returns "[secret]".
func (Key) String() string { return "[secret]" }

// GoString returns "[secret]".
func (Key) GoString() string { return "[secret]" }

// Format prints "[secret]" whatever the verb is.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// LogValue logs "[secret]".
func (Key) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalJSON always fails.
func (Key) MarshalJSON() ([]byte, error) { return nil, errPrinted }

// MarshalText always fails.
func (Key) MarshalText() ([]byte, error) { return nil, errPrinted }

// recover65 returns the key that made a 65-byte R, S, V signature; V may be 0, 1, 27 or 28.
func recover65(hash [32]byte, sig []byte) (*secp256k1.PublicKey, error) {
	if len(sig) != 65 {
		return nil, fmt.Errorf("%w: found %d bytes, want 65", ErrSignature, len(sig))
	}
	v := sig[64]
	if v >= 27 {
		v -= 27
	}
	if v > 1 {
		return nil, fmt.Errorf("%w: the last byte is %d, want 0, 1, 27 or 28", ErrSignature, sig[64])
	}
	pub, _, err := ecdsa.RecoverCompact(append([]byte{27 + v}, sig[:64]...), hash[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return pub, nil
}

// VerifyHash returns nil only when sig is key's 65-byte signature of the hash.
func VerifyHash(key PubKey, hash [32]byte, sig []byte) error {
	pub, err := recover65(hash, sig)
	if err != nil {
		return err
	}
	if got := PubKey(pub.SerializeCompressed()); got != key {
		return fmt.Errorf("%w: it was made by another key, over another hash or was changed", ErrSignature)
	}
	return nil
}

// RecoverAddress returns the wallet address whose key made a 65-byte signature of the hash.
func RecoverAddress(hash [32]byte, sig []byte) (cluster.ETHAddress, error) {
	pub, err := recover65(hash, sig)
	if err != nil {
		return cluster.ETHAddress{}, err
	}
	return addressOf(pub), nil
}

func addressOf(pub *secp256k1.PublicKey) cluster.ETHAddress {
	sum := Keccak256(pub.SerializeUncompressed()[1:])
	return cluster.ETHAddress(sum[12:])
}
