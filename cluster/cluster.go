// Package cluster holds the nouns of a distributed-validator cluster: the definition and the lock
// file, keys and signatures as bytes, indices, thresholds, addresses, amounts, networks, slots.
//
// It promises values and pure functions only: nothing here blocks, keeps state, reads a file or
// knows a secret, and everything may be called from any goroutine. Hashes follow the SSZ hash tree
// root rules of the consensus specification with SHA-256; elliptic curves and Keccak live below
// cluster/internal.
package cluster

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// PubKey is a compressed BLS12-381 G1 point: a validator's key or the public share of one node.
type PubKey [48]byte

// Signature is a compressed BLS12-381 G2 point.
type Signature [96]byte

// Root is a 32-byte hash tree root, hash or withdrawal credential.
type Root [32]byte

// ForkVersion is a four-byte fork version; the genesis one names a network.
type ForkVersion [4]byte

// HexBytes is a byte string of any length, written in JSON as 0x-hex and as "" when empty.
type HexBytes []byte

// ShareIndex numbers key shares from 1; it is the x coordinate of the share. 0 is no share.
type ShareIndex int

// PeerIndex numbers nodes from 0, in the order of the operators in the lock.
type PeerIndex int

// Share returns the index of the key share that the peer holds.
func (p PeerIndex) Share() ShareIndex { return ShareIndex(p) + 1 }

// Peer returns the index of the node that holds the share.
func (s ShareIndex) Peer() PeerIndex { return PeerIndex(s) - 1 }

// String returns 0x and 96 hex digits.
func (k PubKey) String() string { return "0x" + hex.EncodeToString(k[:]) }

// String returns 0x and 192 hex digits.
func (s Signature) String() string { return "0x" + hex.EncodeToString(s[:]) }

// String returns 0x and 64 hex digits.
func (r Root) String() string { return "0x" + hex.EncodeToString(r[:]) }

// String returns 0x and 8 hex digits.
func (v ForkVersion) String() string { return "0x" + hex.EncodeToString(v[:]) }

// String returns 0x-hex, or "" when empty.
func (b HexBytes) String() string {
	if len(b) == 0 {
		return ""
	}
	return "0x" + hex.EncodeToString(b)
}

// MarshalText writes 0x-hex.
func (k PubKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// MarshalText writes 0x-hex.
func (s Signature) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText writes 0x-hex.
func (r Root) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// MarshalText writes 0x-hex.
func (v ForkVersion) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// MarshalText writes 0x-hex, or nothing when empty.
func (b HexBytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads exactly 48 bytes of hex, with or without 0x.
func (k *PubKey) UnmarshalText(text []byte) error { return unhexExact(k[:], text) }

// UnmarshalText reads exactly 96 bytes of hex, with or without 0x.
func (s *Signature) UnmarshalText(text []byte) error { return unhexExact(s[:], text) }

// UnmarshalText reads exactly 32 bytes of hex, with or without 0x.
func (r *Root) UnmarshalText(text []byte) error { return unhexExact(r[:], text) }

// UnmarshalText reads exactly 4 bytes of hex, with or without 0x.
func (v *ForkVersion) UnmarshalText(text []byte) error { return unhexExact(v[:], text) }

// UnmarshalText reads hex of any length, with or without 0x.
func (b *HexBytes) UnmarshalText(text []byte) error {
	raw, err := unhex(text)
	if err != nil {
		return err
	}
	*b = raw
	return nil
}

func unhex(text []byte) ([]byte, error) {
	s := strings.TrimPrefix(string(text), "0x")
	raw, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("read hex: %w", err)
	}
	return raw, nil
}

// unhexExact leaves dst alone unless text has exactly the right length.
func unhexExact(dst, text []byte) error {
	raw, err := unhex(text)
	if err != nil {
		return err
	}
	if len(raw) != len(dst) {
		return fmt.Errorf("read hex: want %d bytes, found %d", len(dst), len(raw))
	}
	copy(dst, raw)
	return nil
}
