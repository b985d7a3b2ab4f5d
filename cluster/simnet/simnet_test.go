package simnet_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/simnet"

	"github.com/attestantio/go-eth2-client/spec/phase0"
)

func TestDutyCycle(t *testing.T) {
	for _, fork := range []simnet.Fork{simnet.Electra, simnet.Fulu} {
		for _, boost := range []uint64{beacon.LocalOnly, beacon.BuilderAlways} {
			name := string(fork) + " full"
			if boost != 0 {
				name = string(fork) + " blinded"
			}
			t.Run(name, func(t *testing.T) {
				inBubble(t, 10, func(o *simnet.Options) { o.Fork, o.Builder = fork, true }, func(t *testing.T, r *rig) {
					r.boost = boost
					const epochs = 6
					r.run(0, epochs*4)
					alone := r.lastSlot(epochs*4 - 1)
					r.sleepTo((epochs+2)*4, 0) // the last window closes
					s := r.status()
					due := uint64(epochs * 10)
					if a := s.Duties.Attester; a.Included != due-alone || a.Missed != alone+10 || s.SlashableTotal != 0 {
						t.Errorf("attester duties %+v, want %d included and %d missed; slashable %+v", a, due-alone, alone+10, s.Slashable)
					}
					if p := s.Duties.Proposer; p.Included != epochs*4-1 || s.Blocks != epochs*4-1 {
						t.Errorf("proposer duties %+v in %d blocks, want %d", p, s.Blocks, epochs*4-1)
					}
					if s.JustifiedEpoch < epochs-2 || s.FinalizedEpoch < epochs-3 {
						t.Errorf("justified %d, finalized %d after %d good epochs", s.JustifiedEpoch, s.FinalizedEpoch, epochs)
					}
					if w := s.Rewards; w.Votes == 0 || w.TimelyHead != w.Votes || w.TimelyTarget != w.Votes || *w.MeanInclusion != 1 {
						t.Errorf("rewards %+v, want every vote timely", w)
					}
					if heads := r.saw(beacon.EventHead); len(heads) != epochs*4-1 {
						t.Errorf("saw %d head events, want %d", len(heads), epochs*4-1)
					}
					if !s.Simnet || !strings.Contains(s.Version, "simnet") {
						t.Error("the status doesn't say that this is a simnet")
					}
				})
			})
		}
	}
}

// lastSlot is how many attest in a slot whose successor has no block.
func (r *rig) lastSlot(s cluster.Slot) uint64 {
	n := uint64(0)
	d, err := r.c.AttesterDuties(r.t.Context(), r.ch.Clock.Epoch(s), r.all())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, x := range d.Duties {
		if cluster.Slot(x.Slot) == s {
			n++
		}
	}
	return n
}

// refusal returns the node's words about the first refused item.
func refusal(t *testing.T, err error) string {
	t.Helper()
	var e *beacon.Error
	if !errors.As(err, &e) || e.Kind != beacon.KindRefused {
		t.Fatalf("got %v, want a refusal", err)
	}
	return e.Error()
}

func TestRefusals(t *testing.T) {
	inBubble(t, 8, nil, func(t *testing.T, r *rig) {
		ctx := t.Context()
		r.run(0, 8)
		check := func(what, want string, err error) {
			t.Helper()
			if text := refusal(t, err); !strings.Contains(text, want) {
				t.Errorf("%s: %q, want a word of %q", what, text, want)
			}
		}
		r.sleepTo(8, 50)
		r.domain = cluster.DomainType{2}
		check("wrong domain", "invalid signature", r.attest(8))
		r.domain = cluster.DomainType{1}
		list := r.votes(8, nil)
		list[0].Fulu.CommitteeBits = []byte{1 << 5, 0, 0, 0, 0, 0, 0, 0}
		check("wrong committee", "wrong committee", r.c.SubmitAttestations(ctx, list))
		list = r.votes(8, nil)
		other := *list[0].ValidatorIndex ^ 1
		list[0].ValidatorIndex = &other
		check("of another validator", "invalid signature", r.c.SubmitAttestations(ctx, list[:1]))
		if err := r.attest(8); err != nil {
			t.Errorf("a right one after wrong ones: %v", err)
		}
		if err := r.attest(8); err != nil {
			t.Errorf("the same one again: %v", err)
		}
		r.sleepTo(9, 0)
		late := r.votes(9, nil)
		r.sleepTo(16, 10)
		check("late", "late", r.c.SubmitAttestations(ctx, late))

		early, err := r.block(16, "now")
		if err != nil {
			t.Fatal(err)
		}
		r.sleepTo(17, 10)
		check("late block", "late", r.c.SubmitProposal(ctx, early))
		b, err := r.block(17, "x")
		if err != nil {
			t.Fatal(err)
		}
		b.Fulu.SignedBlock.Signature[5] ^= 1
		check("changed block signature", "signature", r.c.SubmitProposal(ctx, b))
		_, err = r.c.Proposal(ctx, beacon.ProposalRequest{Slot: 17, RandaoReveal: cluster.Signature(b.Fulu.SignedBlock.Message.Body.RANDAOReveal), BuilderBoost: 0})
		if err != nil {
			t.Errorf("a right reveal: %v", err)
		}
		_, err = r.c.Proposal(ctx, beacon.ProposalRequest{Slot: 17, RandaoReveal: cluster.Signature(r.sign(0, cluster.DomainType{2}, 3, cluster.Root{}))})
		check("wrong reveal", "RANDAO", err)

		r.sleepTo(28, 10)
		s := r.status()
		reasons := map[string]bool{}
		for _, m := range s.Misses {
			reasons[m.Reason] = true
		}
		for _, want := range []string{"late", "no attestation arrived", "no block arrived"} {
			found := false
			for have := range reasons {
				found = found || strings.Contains(have, want)
			}
			if !found {
				t.Errorf("no miss for the reason %q in %v", want, reasons)
			}
		}
		if s.SlashableTotal != 0 {
			t.Errorf("slashable without cause: %+v", s.Slashable)
		}
	})
}

func TestSlashable(t *testing.T) {
	inBubble(t, 4, nil, func(t *testing.T, r *rig) {
		ctx := t.Context()
		r.run(0, 17)
		count := func() map[string]int {
			out := map[string]int{}
			for _, e := range r.status().Slashable {
				out[e.Kind]++
			}
			return out
		}
		r.sleepTo(17, 10)
		good := r.votes(17, nil)[:1]
		bad := r.votes(17, func(d *phase0.AttestationData) { d.BeaconBlockRoot[0] ^= 1 })[:1]
		if err := r.c.SubmitAttestations(ctx, good); err != nil {
			t.Fatal(err)
		}
		for range 3 { // a repeated one is counted once
			if text := refusal(t, r.c.SubmitAttestations(ctx, bad)); !strings.Contains(text, "slashable") {
				t.Errorf("double vote: %s", text)
			}
		}
		if err := r.c.SubmitAttestations(ctx, good); err != nil {
			t.Errorf("the first of a pair, sent again: %v", err)
		}
		if c := count(); c["double_vote"] != 1 || len(c) != 1 {
			t.Fatalf("evidence %v, want one double vote", c)
		}
		// From 0 to far ahead surrounds what was voted before.
		around := r.votes(17, func(d *phase0.AttestationData) { d.Source.Epoch, d.Target.Epoch = 0, 9 })[:1]
		refusal(t, r.c.SubmitAttestations(ctx, around))
		if c := count(); c["surround_vote"] != 1 {
			t.Fatalf("evidence %v, want a surround vote", c)
		}
		// And then every further vote is surrounded by it.
		r.sleepTo(20, 10)
		var inside error
		for s := cluster.Slot(20); s < 24; s++ {
			r.sleepTo(s, 10)
			for _, v := range r.votes(s, nil) {
				if *v.ValidatorIndex == *good[0].ValidatorIndex {
					inside = r.c.SubmitAttestations(ctx, append(r.votes(s, nil)[:0], v))
				}
			}
		}
		if text := refusal(t, inside); !strings.Contains(text, "surround") {
			t.Errorf("surrounded vote: %s", text)
		}
		if c := count(); c["surround_vote"] != 2 {
			t.Fatalf("evidence %v, want two surround votes", c)
		}
		r.sleepTo(24, 1)
		one, err := r.block(24, "one")
		if err != nil {
			t.Fatal(err)
		}
		two, err := r.block(24, "two")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.c.SubmitProposal(ctx, one); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if text := refusal(t, r.c.SubmitProposal(ctx, two)); !strings.Contains(text, "slashable") {
				t.Errorf("double proposal: %s", text)
			}
		}
		if err := r.c.SubmitProposal(ctx, one); err != nil {
			t.Errorf("the same block again: %v", err)
		}
		if c := count(); c["double_proposal"] != 1 {
			t.Errorf("evidence %v, want one double proposal", c)
		}
	})
}

func TestExit(t *testing.T) {
	inBubble(t, 4, nil, func(t *testing.T, r *rig) {
		r.run(0, 5)
		who := r.index[r.pubs[2]]
		exit := &phase0.SignedVoluntaryExit{Message: &phase0.VoluntaryExit{Epoch: 1, ValidatorIndex: who}}
		root, err := exit.Message.HashTreeRoot()
		if err != nil {
			t.Fatal(err)
		}
		fork := r.ch.Domain(cluster.DomainType{4}, 1)
		wrong := cluster.SigningRoot(root, fork)
		sig, err := r.keys[2].Sign(wrong[:])
		if err != nil {
			t.Fatal(err)
		}
		exit.Signature = phase0.BLSSignature(sig)
		refusal(t, r.c.SubmitVoluntaryExit(t.Context(), exit)) // the current fork's domain isn't right (EIP-7044)
		exit.Signature = r.sign(2, cluster.DomainType{4}, 1, root)
		if err := r.c.SubmitVoluntaryExit(t.Context(), exit); err != nil {
			t.Fatal(err)
		}
		r.run(5, 7)
		state := func() beacon.Validator {
			m, err := r.c.Validators(t.Context(), r.pubs[2:3])
			if err != nil {
				t.Fatal(err)
			}
			return m[r.pubs[2]]
		}
		if v := state(); v.Status != "active_exiting" || v.Exit == nil || *v.Exit != 6 || !v.Active() {
			t.Errorf("after the exit: %+v", v)
		}
		r.run(7, 26)
		if v := state(); v.Status != "exited_unslashed" || v.Active() {
			t.Errorf("after leaving: %+v", v)
		}
	})
}

func TestPendingAndUnknown(t *testing.T) {
	inBubble(t, 3, func(o *simnet.Options) { o.Validators[1].Activation = 2 }, func(t *testing.T, r *rig) {
		unknown := r.pubs[0]
		unknown[47] ^= 1
		m, err := r.c.Validators(t.Context(), append(r.pubs, unknown))
		if err != nil {
			t.Fatal(err)
		}
		if w := m[r.pubs[1]].Words(); w != "queued for activation" {
			t.Errorf("pending: %q", w)
		}
		if _, ok := m[unknown]; ok || beacon.StatusWords("") != "not deposited" {
			t.Error("a key that isn't on the chain has a status")
		}
		r.sleepTo(8, 0)
		time.Sleep(time.Millisecond)
		m, err = r.c.Validators(t.Context(), r.pubs)
		if err != nil {
			t.Fatal(err)
		}
		if !m[r.pubs[1]].Active() {
			t.Error("not active after its epoch began")
		}
	})
}
