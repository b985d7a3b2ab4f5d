package guard

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"app.provost/cluster"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(value)), sum), value...)
}

// unseal gives the value inside; it points into sealed.
func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, sealed[4:]) {
		return nil, damaged{fmt.Errorf("the checksum of record %x is wrong", key)}
	}
	return sealed[4:], nil
}

// batch is what one transaction adds to the log: each vote and block once, with the keys that sign it.
type batch struct {
	at     time.Time
	votes  []voteGroup
	blocks []blockGroup

	voteAt  map[vote]int
	blockAt map[proposal]int
}

type voteGroup struct {
	vote
	keys []uint32
}

type blockGroup struct {
	proposal
	keys []uint32
}

func (b *batch) empty() bool { return len(b.votes) == 0 && len(b.blocks) == 0 }

func (b *batch) vote(v vote, key uint32) {
	i := len(b.votes) - 1
	ok := i >= 0 && b.votes[i].vote == v // nearly all of a slot are the same
	if !ok {
		i, ok = b.voteAt[v]
	}
	if !ok {
		if b.voteAt == nil {
			b.voteAt = map[vote]int{}
		}
		i = len(b.votes)
		b.voteAt[v] = i
		b.votes = append(b.votes, voteGroup{vote: v})
	}
	b.votes[i].keys = append(b.votes[i].keys, key)
}

func (b *batch) block(p proposal, key uint32) {
	i, ok := b.blockAt[p]
	if !ok {
		if b.blockAt == nil {
			b.blockAt = map[proposal]int{}
		}
		i = len(b.blocks)
		b.blockAt[p] = i
		b.blocks = append(b.blocks, blockGroup{proposal: p})
	}
	b.blocks[i].keys = append(b.blocks[i].keys, key)
}

// newest is the last epoch in the batch.
func (b *batch) newest(clock cluster.SlotClock) (e cluster.Epoch) {
	for _, v := range b.votes {
		e = max(e, v.target)
	}
	for _, p := range b.blocks {
		e = max(e, clock.Epoch(p.slot))
	}
	return e
}

const (
	kindVote  = 1
	kindBlock = 2
)

// encodeBatch writes: milliseconds since 1970; then groups of a kind byte, for a vote source and
// target, for a block the slot, the 32 bytes of the signing root, the number of keys, and the keys'
// numbers in ascending order, each as its distance from the one before. All numbers are uvarints.
func encodeBatch(b *batch) []byte {
	out := binary.AppendUvarint(nil, uint64(max(b.at.UnixMilli(), 0)))
	keys := func(list []uint32) {
		list = slices.Sorted(slices.Values(list))
		out = binary.AppendUvarint(out, uint64(len(list)))
		last := uint32(0)
		for _, n := range list {
			out = binary.AppendUvarint(out, uint64(n-last))
			last = n
		}
	}
	// One key may have two votes here; they were allowed in the order of their targets, and are read so.
	votes := slices.SortedFunc(slices.Values(b.votes), func(a, b voteGroup) int {
		return cmp.Or(cmp.Compare(a.target, b.target), cmp.Compare(a.source, b.source), bytes.Compare(a.root[:], b.root[:]))
	})
	for _, v := range votes {
		out = append(out, kindVote)
		out = binary.AppendUvarint(out, uint64(v.source))
		out = binary.AppendUvarint(out, uint64(v.target))
		out = append(out, v.root[:]...)
		keys(v.keys)
	}
	blocks := slices.SortedFunc(slices.Values(b.blocks), func(a, b blockGroup) int {
		return cmp.Or(cmp.Compare(a.slot, b.slot), bytes.Compare(a.root[:], b.root[:]))
	})
	for _, p := range blocks {
		out = append(out, kindBlock)
		out = binary.AppendUvarint(out, uint64(p.slot))
		out = append(out, p.root[:]...)
		keys(p.keys)
	}
	return out
}

var errBatch = errors.New("a batch of votes cannot be read")

func decodeBatch(in []byte, keys int) (*batch, error) {
	b := &batch{}
	bad := false
	number := func() uint64 {
		v, n := binary.Uvarint(in)
		if n <= 0 {
			bad = true
			in = nil
			return 0
		}
		in = in[n:]
		return v
	}
	root := func() (r cluster.Root) {
		if len(in) < len(r) {
			bad = true
			in = nil
			return r
		}
		in = in[copy(r[:], in):]
		return r
	}
	b.at = time.UnixMilli(int64(number()))
	for len(in) > 0 && !bad {
		kind := in[0]
		in = in[1:]
		var into *[]uint32
		switch kind {
		case kindVote:
			v := voteGroup{}
			v.source, v.target, v.root = cluster.Epoch(number()), cluster.Epoch(number()), root()
			b.votes = append(b.votes, v)
			into = &b.votes[len(b.votes)-1].keys
		case kindBlock:
			p := blockGroup{}
			p.slot, p.root = cluster.Slot(number()), root()
			b.blocks = append(b.blocks, p)
			into = &b.blocks[len(b.blocks)-1].keys
		default:
			return nil, errBatch
		}
		count, key := number(), uint64(0)
		if count == 0 || count > uint64(len(in)) {
			return nil, errBatch
		}
		for i := range count {
			step := number()
			if i > 0 && step == 0 || step >= uint64(keys) {
				return nil, errBatch
			}
			if key += step; key >= uint64(keys) {
				return nil, errBatch
			}
			*into = append(*into, uint32(key))
		}
	}
	if bad || b.empty() {
		return nil, errBatch
	}
	return b, nil
}

const (
	flagAttestation = 1
	flagBlock       = 2
)

// encodeMarks writes a byte of flags (1: has voted, 2: has proposed), slot, source and target as uvarints.
func encodeMarks(m Marks) []byte {
	var flags byte
	if m.HasAttestation {
		flags |= flagAttestation
	}
	if m.HasBlock {
		flags |= flagBlock
	}
	out := binary.AppendUvarint([]byte{flags}, uint64(m.Slot))
	out = binary.AppendUvarint(out, uint64(m.Source))
	return binary.AppendUvarint(out, uint64(m.Target))
}

func decodeMarks(in []byte) (m Marks, err error) {
	bad := errors.New("the marks of a key cannot be read")
	if len(in) == 0 || in[0]&^(flagAttestation|flagBlock) != 0 {
		return m, bad
	}
	m.HasAttestation, m.HasBlock = in[0]&flagAttestation != 0, in[0]&flagBlock != 0
	in = in[1:]
	var nums [3]uint64
	for i := range nums {
		v, n := binary.Uvarint(in)
		if n <= 0 {
			return m, bad
		}
		nums[i], in = v, in[n:]
	}
	if len(in) != 0 {
		return m, bad
	}
	m.Slot, m.Source, m.Target = cluster.Slot(nums[0]), cluster.Epoch(nums[1]), cluster.Epoch(nums[2])
	return m, nil
}
