package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Hash tree roots as in the consensus specification (ssz/simple-serialize.md), with the two house
// rules of the lock format: short byte vectors are padded on the left, strings are byte lists.

var zeroRoots = func() (z [33]Root) {
	for i := 1; i < len(z); i++ {
		z[i] = hashPair(z[i-1], z[i-1])
	}
	return z
}()

func hashPair(a, b Root) Root {
	var buf [64]byte
	copy(buf[:32], a[:])
	copy(buf[32:], b[:])
	return sha256.Sum256(buf[:])
}

// merkle returns the root of a tree with room for limit leaves, the missing ones being zero.
// It overwrites leaves.
func merkle(leaves []Root, limit int) Root {
	depth := 0
	if limit > 1 {
		depth = bits.Len(uint(limit - 1))
	}
	if len(leaves) == 0 {
		return zeroRoots[depth]
	}
	for d := range depth {
		next := leaves[:(len(leaves)+1)/2]
		for i := range next {
			right := zeroRoots[d]
			if 2*i+1 < len(leaves) {
				right = leaves[2*i+1]
			}
			next[i] = hashPair(leaves[2*i], right)
		}
		leaves = next
	}
	return leaves[0]
}

func container(fields ...Root) Root { return merkle(fields, len(fields)) }

func uintRoot(v uint64) (r Root) {
	binary.LittleEndian.PutUint64(r[:], v)
	return r
}

func boolRoot(v bool) (r Root) {
	if v {
		r[0] = 1
	}
	return r
}

// chunks cuts bytes into 32-byte leaves, the last one padded on the right.
func chunks(b []byte) []Root {
	out := make([]Root, (len(b)+31)/32)
	for i := range out {
		copy(out[i][:], b[32*i:])
	}
	return out
}

// fixedRoot is BytesN, padded on the left when shorter.
func fixedRoot(what string, b []byte, n int) (Root, error) {
	if len(b) > n {
		return Root{}, fmt.Errorf("hash %s: %d bytes, at most %d fit", what, len(b), n)
	}
	padded := make([]byte, n)
	copy(padded[n-len(b):], b)
	c := chunks(padded)
	return merkle(c, len(c)), nil
}

// textRoot is ByteList[limit].
func textRoot(what, s string, limit int) (Root, error) {
	if len(s) > limit {
		return Root{}, fmt.Errorf("hash %s: %d bytes, at most %d fit", what, len(s), limit)
	}
	return hashPair(merkle(chunks([]byte(s)), (limit+31)/32), uintRoot(uint64(len(s)))), nil
}

// listRoot is List[T, limit] over the roots of the elements.
func listRoot(what string, roots []Root, limit int) (Root, error) {
	n := len(roots)
	if n > limit {
		return Root{}, fmt.Errorf("hash %s: %d entries, at most %d fit", what, n, limit)
	}
	return hashPair(merkle(roots, limit), uintRoot(uint64(n))), nil
}

func gweiListRoot(what string, amounts []Gwei, limit int) (Root, error) {
	if len(amounts) > limit {
		return Root{}, fmt.Errorf("hash %s: %d entries, at most %d fit", what, len(amounts), limit)
	}
	packed := make([]byte, 8*len(amounts))
	for i, a := range amounts {
		binary.LittleEndian.PutUint64(packed[8*i:], uint64(a))
	}
	return hashPair(merkle(chunks(packed), limit/4), uintRoot(uint64(len(amounts)))), nil
}

func (k PubKey) root() Root {
	c := chunks(k[:])
	return merkle(c, 2)
}

func (s Signature) root() Root {
	c := chunks(s[:])
	return merkle(c, 4)
}
