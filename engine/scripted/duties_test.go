package scripted

import (
	"slices"
	"testing"
	"time"

	"app.provost/engine"
)

// TestDutiesGoOn plays ten minutes of the cluster slot by slot: duties come, are signed
// and included, one is missed with its reason, and nothing contradicts itself.
func TestDutiesGoOn(t *testing.T) {
	// An hour and a half from the start lies the next absence of node2.
	from := slotStart(firstSlot-48+missEvery) - 4*minute
	seen, safe := map[engine.DutyState]int{}, map[bool]int{}
	var last *engine.Snapshot
	for at := from; at < from+10*minute; at += 3 * second {
		s := still(t, Options{Seed: 1, Workers: 4, Hosts: 4, GPUs: -1}, at)
		up := map[string]int{}
		for _, c := range s.Clusters.Rows {
			if c.Seen == nil || c.Seen.After(s.At) || c.Twins != 2 || *c.PeersUp > c.Nodes {
				t.Fatalf("%s: %+v", at, c)
			}
			up[c.Key.Node] = *c.PeersUp
			if c.Attester.Late > c.Attester.Done {
				t.Fatalf("%s: %+v", at, c.Attester)
			}
		}
		for _, d := range s.Duties.Rows {
			seen[d.State]++
			if (d.State == engine.DutyMissed) != (d.Why != "") || (d.State == engine.DutyKnown) != (d.Partials == nil) || len(d.Validators) == 0 {
				t.Fatalf("%s: %+v", at, d)
			}
			if (d.State == engine.DutySent || d.State == engine.DutyIncluded) && (len(d.Partials) < d.Need || d.DelayMS == nil) {
				t.Fatalf("%s: sent with too few partial signatures: %+v", at, d)
			}
			if d.State == engine.DutyKnown && d.Key.Node != "node2" && d.At.Before(s.At.Add(-2*second)) {
				t.Fatalf("%s: still to come: %+v", at, d)
			}
		}
		for _, p := range s.Peers.Rows {
			if p.State == "down" {
				seen["peer down"]++
			}
			if p.Self && p.RTTMS != nil {
				t.Fatalf("%s: %+v", at, p)
			}
		}
		re := s.RestartNow(s.At)
		if re.Safe != nil {
			safe[*re.Safe]++
			if *re.Safe && (re.ForS == nil || *re.ForS <= 0 || re.Until == "") {
				t.Fatalf("%s: %+v", at, re)
			}
		}
		if last != nil {
			for i := range s.Clusters.Rows {
				if a, b := last.Clusters.Rows[i].Attester, s.Clusters.Rows[i].Attester; b.Done < a.Done || b.Missed < a.Missed {
					t.Fatalf("%s: %+v, then %+v", at, a, b)
				}
			}
		}
		last = s
	}
	for _, st := range []engine.DutyState{engine.DutyKnown, engine.DutyAgreeing, engine.DutySigning, engine.DutySent, engine.DutyIncluded, engine.DutyMissed, "peer down"} {
		if seen[st] == 0 {
			t.Errorf("no duty was ever %s: %v", st, seen)
		}
	}
	if safe[true] == 0 || safe[false] == 0 {
		t.Errorf("restart was safe %d times, not safe %d times", safe[true], safe[false])
	}
	open := slices.ContainsFunc(last.Alerts.Rows, func(f engine.Finding) bool { return f.Code == engine.FindDutyMissed && f.ClosedAt == nil })
	if !open {
		t.Error("the missed duty raised nothing")
	}
}

// TestTotalsAgree: what the cluster counts is the sum of what its validators count, and
// every attestation of an epoch belongs to exactly one slot.
func TestTotalsAgree(t *testing.T) {
	s := still(t, Options{Seed: 4, Workers: -1, GPUs: -1, Hosts: 1, Validators: 500}, 3*minute)
	if len(s.Validators.Rows) != 4*500 || len(s.Nodes.Rows) != 4 {
		t.Fatalf("%d validators, %d nodes", len(s.Validators.Rows), len(s.Nodes.Rows))
	}
	sum, duties := map[string]engine.DutyTotals{}, map[string]int{}
	for _, v := range s.Validators.Rows {
		sum[v.Key.Node] = sum[v.Key.Node].Plus(v.Attester)
		if v.Status == "active" && (v.Next == nil || !v.Next.At.After(s.At)) {
			t.Errorf("%+v", v)
		}
	}
	for _, c := range s.Clusters.Rows {
		if got := sum[c.Key.Node]; got.Done != c.Attester.Done || got.Missed != c.Attester.Missed || c.Attester.Missed == 0 {
			t.Errorf("%s: %+v, its validators %+v", c.Key.Node, c.Attester, got)
		}
	}
	epoch := *s.Clusters.Rows[0].Epoch
	for _, d := range s.Duties.Rows {
		if d.Key.Node == "node0" && d.Type == "attester" && d.Epoch == epoch {
			for _, v := range d.Validators {
				duties[v]++
			}
		}
	}
	if len(duties) != 497 { // without those that are not deposited, queued and slashed
		t.Errorf("%d validators attest in epoch %d", len(duties), epoch)
	}
	for v, n := range duties {
		if n != 1 {
			t.Errorf("%s attests %d times in an epoch", v, n)
		}
	}
	if s := still(t, Options{Validators: -1}, time.Minute); s.Clusters != nil || s.Duties != nil || len(s.Nodes.Rows) != 0 {
		t.Error("without validators there are duties")
	}
}

func TestProposalsAreCounted(t *testing.T) {
	s := &script{seed: 3, validators: 9, start: day, speed: 1}
	for _, span := range []int64{0, 1, 37, 60, 61, 62, 500} {
		n := uint64(0)
		for slot := int64(firstSlot - 900); slot < firstSlot-900+span; slot++ {
			if _, ok := s.proposer(slot); ok {
				n++
			}
		}
		if got := proposals(firstSlot-900, firstSlot-900+span); got != n {
			t.Errorf("%d slots: %d, want %d", span, got, n)
		}
	}
}
