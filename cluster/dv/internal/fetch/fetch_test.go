package fetch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
)

var (
	attest  = cluster.Duty{Slot: 70, Type: cluster.DutyAttester}
	propose = cluster.Duty{Slot: 70, Type: cluster.DutyProposer}
	one     = cluster.PubKey{1}
	two     = cluster.PubKey{2}
	ours    = cluster.ETHAddress{7}
)

// node is a beacon node whose answers the test rules.
type node struct {
	asked   []string
	att     Attestation
	block   Block
	err     error
	randao  error
	electra bool
	head    func() cluster.Root
	fees    []cluster.ETHAddress
	due     time.Time
}

func (n *node) fetcher(t *testing.T) *Fetcher {
	t.Helper()
	f, err := New(Options{
		Clock: cluster.SlotClock{SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}, Due: func(cluster.Duty) time.Time { return n.due },
		OneForAll: func(cluster.Slot) bool { return n.electra },
		Attestation: func(_ context.Context, slot cluster.Slot, committee uint64) (Attestation, error) {
			n.asked = append(n.asked, fmt.Sprintf("%d/%d", slot, committee))
			out := n.att
			if n.head != nil {
				out.Head = n.head()
			}
			out.Encode = func(a cluster.Assignment) ([]byte, error) {
				return fmt.Appendf(nil, "%d in %d", a.Validator, committee), nil
			}
			return out, n.err
		},
		Block: func(_ context.Context, slot cluster.Slot, _ cluster.PubKey, randao cluster.Signature) (Block, error) {
			n.asked = append(n.asked, fmt.Sprintf("block %d with %d", slot, randao[0]))
			out := n.block
			out.Encode = func() ([]byte, error) { return []byte("a block"), nil }
			return out, n.err
		},
		Randao: func(context.Context, cluster.Slot, cluster.PubKey) (cluster.Signature, error) {
			return cluster.Signature{9}, n.randao
		},
		FeeRecipient: func(cluster.PubKey) cluster.ETHAddress { return ours },
		OnFee:        func(_ cluster.Duty, _ cluster.PubKey, _, got cluster.ETHAddress) { n.fees = append(n.fees, got) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var seats = map[cluster.PubKey]cluster.Assignment{one: {Validator: 11, Committee: 3}, two: {Validator: 12, Committee: 5}}

func TestAttester(t *testing.T) {
	good := Attestation{Slot: 70, Source: 1, Target: 2}
	n := &node{att: good, electra: true}
	set, err := n.fetcher(t).Fetch(t.Context(), attest, seats, cluster.Root{})
	if err != nil || string(set[one]) != "11 in 0" || string(set[two]) != "12 in 0" || len(n.asked) != 1 {
		t.Errorf("%q %q, asked %v, %v", set[one], set[two], n.asked, err)
	}
	n = &node{att: good}
	set, err = n.fetcher(t).Fetch(t.Context(), attest, seats, cluster.Root{})
	if err != nil || string(set[one]) != "11 in 3" || string(set[two]) != "12 in 5" || len(n.asked) != 2 {
		t.Errorf("before Electra %q %q, asked %v, %v", set[one], set[two], n.asked, err)
	}
}

func TestForeignAnswers(t *testing.T) {
	down := errors.New("timeout")
	for name, x := range map[string]struct {
		n    *node
		duty cluster.Duty
		want error
	}{
		"another slot":       {&node{att: Attestation{Slot: 69, Source: 1, Target: 2}}, attest, ErrAnswer},
		"another epoch":      {&node{att: Attestation{Slot: 70, Source: 1, Target: 3}}, attest, ErrAnswer},
		"source not earlier": {&node{att: Attestation{Slot: 70, Source: 2, Target: 2}}, attest, ErrAnswer},
		"source later":       {&node{att: Attestation{Slot: 70, Source: 9, Target: 2}}, attest, ErrAnswer},
		"beacon node down":   {&node{err: down}, attest, down},
		"no randao":          {&node{randao: down}, propose, ErrRandao},
		"no block":           {&node{err: down}, propose, down},
		"block of a slot":    {&node{block: Block{Slot: 71, Proposer: 11}}, propose, ErrAnswer},
		"block of another":   {&node{block: Block{Slot: 70, Proposer: 12}}, propose, ErrAnswer},
		"nothing to fetch":   {&node{}, cluster.Duty{Slot: 70, Type: cluster.DutyRandao}, ErrNoData},
	} {
		set, err := x.n.fetcher(t).Fetch(t.Context(), x.duty, map[cluster.PubKey]cluster.Assignment{one: seats[one]}, cluster.Root{})
		if !errors.Is(err, x.want) || set != nil {
			t.Errorf("%s: %v, %v", name, set, err)
		}
	}
	n := &node{att: Attestation{Slot: 5}} // at genesis source and target are both 0
	if _, err := n.fetcher(t).Fetch(t.Context(), cluster.Duty{Slot: 5, Type: cluster.DutyAttester}, seats, cluster.Root{}); err != nil {
		t.Errorf("in epoch 0: %v", err)
	}
}

func TestProposer(t *testing.T) {
	elsewhere := cluster.ETHAddress{8}
	for name, x := range map[string]struct {
		fee  *cluster.ETHAddress
		told int
	}{"as the lock says": {&ours, 0}, "elsewhere": {&elsewhere, 1}, "not said": {nil, 0}} {
		n := &node{block: Block{Slot: 70, Proposer: 11, FeeRecipient: x.fee}}
		set, err := n.fetcher(t).Fetch(t.Context(), propose, map[cluster.PubKey]cluster.Assignment{one: seats[one]}, cluster.Root{})
		if err != nil || string(set[one]) != "a block" || n.asked[0] != "block 70 with 9" || len(n.fees) != x.told {
			t.Errorf("%s: %q, %v, told %v, %v", name, set[one], n.asked, n.fees, err)
		}
	}
}

// A head that one beacon node told and another doesn't know yet is waited for, but not for longer
// than until the duty is due anyway.
func TestWaitsForTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		n := &node{att: Attestation{Slot: 70, Source: 1, Target: 2}, electra: true, due: begin.Add(4 * time.Second)}
		n.head = func() cluster.Root {
			if time.Since(begin) > 250*time.Millisecond {
				return cluster.Root{5}
			}
			return cluster.Root{4}
		}
		if _, err := n.fetcher(t).Fetch(t.Context(), attest, seats, cluster.Root{5}); err != nil || time.Since(begin) != 300*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		n.head = func() cluster.Root { return cluster.Root{4} }
		if _, err := n.fetcher(t).Fetch(t.Context(), attest, seats, cluster.Root{5}); err != nil || !time.Now().Equal(n.due) {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		n.due = time.Now().Add(time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.fetcher(t).Fetch(ctx, attest, seats, cluster.Root{5}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the deadline: %v", err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("made of nothing")
	}
}
