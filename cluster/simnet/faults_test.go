package simnet_test

import (
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/simnet"
)

func (r *rig) endpoint() beacon.Endpoint { return r.c.Endpoints()[0] }

func TestFaults(t *testing.T) {
	inBubble(t, 8, nil, func(t *testing.T, r *rig) {
		ctx := t.Context()
		r.run(0, 3)
		data := func() error {
			now, _ := r.ch.Clock.At(time.Now())
			_, err := r.c.AttestationData(ctx, now, 0)
			return err
		}
		tests := []struct {
			kind   simnet.FaultKind
			status beacon.Status
			err    beacon.Kind
			retry  bool
		}{
			{simnet.Syncing, beacon.StatusSyncing, beacon.KindSyncing, true},
			{simnet.Optimistic, beacon.StatusOptimistic, beacon.KindOptimistic, true},
			{simnet.WrongNetwork, beacon.StatusWrongNetwork, beacon.KindWrongNetwork, false},
			{simnet.Down, beacon.StatusDown, beacon.KindUnreachable, true},
		}
		for _, tt := range tests {
			r.ask(simnet.Fault{Kind: tt.kind})
			time.Sleep(250 * time.Millisecond)
			if s := r.endpoint().Status; s != tt.status {
				t.Errorf("%s: the endpoint is %s, want %s", tt.kind, s, tt.status)
			}
			err := data()
			if k := beacon.KindOf(err); k != tt.err || beacon.Retryable(err) != tt.retry {
				t.Errorf("%s: attestation data failed by %q (%v), want %q; retry %v", tt.kind, k, err, tt.err, tt.retry)
			}
			r.ask(simnet.Fault{Kind: tt.kind, Off: true})
			time.Sleep(250 * time.Millisecond)
			if s := r.endpoint().Status; s != beacon.StatusUp {
				t.Errorf("%s: the endpoint is %s after its end", tt.kind, s)
			}
			if err := data(); err != nil {
				t.Errorf("%s: attestation data after its end: %v", tt.kind, err)
			}
		}

		r.ask(simnet.Fault{Kind: simnet.Slow, DelayMS: 5000})
		if err := data(); beacon.KindOf(err) != beacon.KindTimeout || !beacon.Retryable(err) {
			t.Errorf("slow: %v", err)
		}
		r.ask(simnet.Fault{Kind: simnet.Slow, Off: true})
		time.Sleep(10 * time.Second)
	})
}

func TestFaultEndsByItself(t *testing.T) {
	inBubble(t, 4, nil, func(t *testing.T, r *rig) {
		r.sleepTo(1, 10)
		r.ask(simnet.Fault{Kind: simnet.Syncing, Slots: 3})
		r.sleepTo(3, 90)
		if s := r.endpoint().Status; s != beacon.StatusSyncing {
			t.Errorf("in the third slot the endpoint is %s", s)
		}
		r.sleepTo(5, 0)
		if s := r.endpoint().Status; s != beacon.StatusUp || len(r.status().Faults) != 0 {
			t.Errorf("after its slots the endpoint is %s", s)
		}
	})
}

func TestEventFaults(t *testing.T) {
	inBubble(t, 4, nil, func(t *testing.T, r *rig) {
		r.run(0, 3)
		up := len(r.saw(beacon.EventStreamUp))
		if up != 1 || !r.endpoint().Streaming {
			t.Fatalf("%d streams came up before the fault", up)
		}
		r.ask(simnet.Fault{Kind: simnet.EventsCut})
		time.Sleep(10 * time.Millisecond)
		if n := len(r.saw(beacon.EventStreamLost)); n != 1 || r.endpoint().Streaming {
			t.Errorf("after a cut stream: %d losses told", n)
		}
		heads := len(r.saw(beacon.EventHead))
		r.run(3, 6)
		if n := len(r.saw(beacon.EventHead)); n != heads {
			t.Error("events came through a cut stream")
		}
		r.ask(simnet.Fault{Kind: simnet.EventsCut, Off: true})
		time.Sleep(time.Second)
		if n := len(r.saw(beacon.EventStreamUp)); n != 2 {
			t.Errorf("after the end of the cut: %d streams came up", n)
		}
		now, _ := r.ch.Clock.At(time.Now())
		r.ask(simnet.Fault{Kind: simnet.EventsSilent})
		r.run(now+1, now+3)
		time.Sleep(3 * time.Second) // nothing else tells a silent stream from a quiet chain
		if n := len(r.saw(beacon.EventStreamLost)); n < 2 {
			t.Errorf("a silent stream went unnoticed: %d losses", n)
		}
	})
}

func TestLateBlockAndReorg(t *testing.T) {
	inBubble(t, 8, nil, func(t *testing.T, r *rig) {
		r.run(0, 5)
		r.ask(simnet.Fault{Kind: simnet.LateBlock, DelayMS: 120})
		r.sleepTo(5, 0)
		if err := r.propose(5); err != nil {
			t.Fatal(err)
		}
		before := len(r.saw(beacon.EventHead))
		r.sleepTo(5, 50)
		if n := len(r.saw(beacon.EventHead)); n != before {
			t.Error("a late block was seen before its time")
		}
		d, err := r.c.AttestationData(t.Context(), 5, 0)
		if err != nil {
			t.Fatal(err)
		}
		four, err := r.c.BlockRoot(t.Context(), "4")
		if err != nil {
			t.Fatal(err)
		}
		if cluster.Root(d.BeaconBlockRoot) != four {
			t.Error("the vote is for a block that hasn't arrived")
		}
		r.sleepTo(5, 70)
		if n := len(r.saw(beacon.EventHead)); n != before+1 {
			t.Errorf("the late block made %d head events", n-before)
		}
		r.ask(simnet.Fault{Kind: simnet.LateBlock, Off: true})
		r.run(6, 8)
		if p := r.status().Duties.Proposer; p.Missed != 0 {
			t.Errorf("proposals %+v", p)
		}

		r.sleepTo(7, 90)
		was := r.status()
		r.ask(simnet.Fault{Kind: simnet.Reorg, Depth: 2})
		time.Sleep(time.Millisecond)
		now := r.status()
		if now.Orphaned != 2 || now.Head.Slot != 5 || now.Duties.Proposer.Included != was.Duties.Proposer.Included-2 {
			t.Errorf("after the reorg: head %d, %d orphaned, proposals %+v", now.Head.Slot, now.Orphaned, now.Duties.Proposer)
		}
		if ev := r.saw(beacon.EventReorg); len(ev) != 1 || ev[0].Depth != 2 {
			t.Errorf("reorg events %+v", ev)
		}
		if _, err := r.c.BlockRoot(t.Context(), "7"); beacon.KindOf(err) != beacon.KindNotFound {
			t.Errorf("block 7 after the reorg: %v", err)
		}
		r.run(8, 10)
		r.sleepTo(16, 50)
		s := r.status()
		// Votes that the orphaned blocks held were taken again by the next block.
		for _, m := range s.Misses {
			if m.Duty == "attester" && m.Slot < 8 && m.Slot != 5 { // nobody voted in slot 5
				t.Errorf("missed after the reorg: %+v", m)
			}
			if m.Duty == "proposer" && m.Slot < 8 && m.Reason != "the block was thrown out by a reorg" {
				t.Errorf("proposal missed for %q", m.Reason)
			}
		}
		if s.Duties.Attester.Missed == 0 && s.SlashableTotal != 0 {
			t.Errorf("slashable %+v", s.Slashable)
		}
	})
}

func TestLying(t *testing.T) {
	inBubble(t, 4, nil, func(t *testing.T, r *rig) {
		r.run(0, 3)
		r.ask(simnet.Fault{Kind: simnet.Lying})
		r.sleepTo(3, 50)
		if err := r.attest(3); beacon.KindOf(err) != beacon.KindRefused {
			t.Errorf("a vote for a head that doesn't exist: %v", err)
		}
	})
}
