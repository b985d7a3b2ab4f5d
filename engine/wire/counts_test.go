package wire

import (
	"reflect"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv"
	"app.provost/engine"
)

func TestDutiesAreCounted(t *testing.T) {
	n := &dvNode{validators: map[cluster.PubKey]*engine.ValidatorRow{}, counts: map[cluster.DutyType]*engine.DutyCount{}}
	keys := []cluster.PubKey{{1}, {2}}
	delay := func(d time.Duration) *time.Duration { return &d }
	round, leader := int64(2), cluster.PeerIndex(3)
	attester := cluster.Duty{Slot: 9, Type: cluster.DutyAttester}
	n.report(dv.DutyView{Duty: attester, State: dv.DutyDone, Validators: keys, Partials: []int{2, 2, 1}, Delay: delay(300 * time.Millisecond), Round: &round, Leader: &leader})
	before := n.counted()
	n.report(dv.DutyView{Duty: attester, State: dv.DutyPartly, Validators: keys, Missed: keys[:1], Reason: "insufficient_peer_signatures", Partials: []int{2, 1, 0}, Delay: delay(5 * time.Second)})
	n.report(dv.DutyView{Duty: attester, State: dv.DutyMissed, Validators: keys, Missed: keys, Reason: "no_consensus", Partials: []int{0, 0, 0}})
	n.report(dv.DutyView{Duty: cluster.Duty{Slot: 9, Type: cluster.DutyRandao}, State: dv.DutyDone, Validators: keys[:1], Partials: []int{1, 1, 1}, Delay: delay(time.Second)})

	took := engine.NewHistogram(delayBounds...)
	took.Add(0.3)
	first := engine.DutyCount{Type: "attester", Done: 1, Sent: 1, Reasons: map[string]uint64{}, Due: 2, Signed: []uint64{2, 2, 1}, Round: num[int64, int](&round), Leader: num[cluster.PeerIndex, int](&leader), Delay: &took}
	if want := []engine.DutyCount{first}; !reflect.DeepEqual(before, want) {
		t.Errorf("counted %+v, want %+v; what was told must not change", before, want)
	}
	all := first
	all.Failed, all.Sent, all.Due, all.Signed = 2, 2, 4, []uint64{4, 3, 1}
	all.Reasons = map[string]uint64{"insufficient_peer_signatures": 1, "no_consensus": 1}
	all.Delay = took.Clone()
	all.Delay.Add(5)
	randao := engine.DutyCount{Type: "randao", Done: 1, Reasons: map[string]uint64{}, Due: 1, Signed: []uint64{1, 1, 1}}
	if got, want := n.counted(), []engine.DutyCount{all, randao}; !reflect.DeepEqual(got, want) {
		t.Errorf("counted %+v\nwant %+v", got, want)
	}
	if n.attester.Done != 3 || n.attester.Missed != 3 {
		t.Errorf("validators' totals %+v", n.attester)
	}
}

func TestPingsAreCountedOnce(t *testing.T) {
	n := &dvNode{pings: map[cluster.PeerIndex]*pings{}}
	at, rtt := time.Now(), 3*time.Millisecond
	p := dv.Peer{Index: 1}
	if h := n.pinged(p); h.Sum != 0 {
		t.Errorf("a peer that never answered: %+v", h)
	}
	p.Seen, p.RTT = &at, &rtt
	first := n.pinged(p)
	n.pinged(p) // the same answer, looked at again
	later := at.Add(time.Second)
	p.Seen = &later
	if h := n.pinged(p); h.Counts[2] != 2 || first.Counts[2] != 1 {
		t.Errorf("%+v after %+v", h, first)
	}
}
