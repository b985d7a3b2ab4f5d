package dv

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/sched"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/internal/peer"
)

// told is a peer that said its time "ago"; far is how far its clock is ahead of ours.
func told(far, ago time.Duration) Peer {
	at := time.Now().Add(-ago)
	return Peer{ClockOffset: &far, Told: &at}
}

// met is a peer that was connected so long ago and has said nothing.
func met(ago time.Duration) Peer {
	at := time.Now().Add(-ago)
	return Peer{Route: peer.RouteDirect, Since: &at}
}

type watchedPeers struct {
	peers
	status []Peer
	twins  []peer.Twin
}

func (w watchedPeers) Status() []Peer { return w.status }

func (w watchedPeers) Twins() []peer.Twin { return w.twins }

type watchedBeacon struct {
	beaconAPI
	nodes []BeaconNode
}

func (w watchedBeacon) Endpoints() []BeaconNode { return w.nodes }

// Before anything is signed the clock is compared with the peers', the slot with the clock, and a
// beacon node must be in step.
func TestDoubts(t *testing.T) {
	const off = 2 * time.Second
	up := []BeaconNode{{Name: "a", Status: beacon.StatusDown}, {Name: "b", Status: beacon.StatusUp}}
	for name, x := range map[string]struct {
		peers []Peer
		nodes []BeaconNode
		slot  cluster.Slot
		want  error
	}{
		"all well":                     {[]Peer{told(30*time.Millisecond, 0), told(-400*time.Millisecond, 0), told(0, 0)}, up, 5, nil},
		"most are ahead":               {[]Peer{told(off, 0), told(off, 0), told(0, 0)}, up, 5, errClock},
		"most are behind":              {[]Peer{told(-off, 0), told(-off, 0), told(0, 0)}, up, 5, errClock},
		"all are off, not one way":     {[]Peer{told(off, 0), told(-off, 0)}, up, 5, errClock},
		"one of three is off":          {[]Peer{told(off, 0), told(0, 0), told(0, 0)}, up, 5, nil},
		"half are off":                 {[]Peer{told(off, 0), told(0, 0)}, up, 5, nil},
		"just allowed":                 {[]Peer{told(maxClockOffset, 0)}, up, 5, nil},
		"just too much":                {[]Peer{told(maxClockOffset+time.Millisecond, 0)}, up, 5, errClock},
		"they said so long ago":        {[]Peer{told(off, 4*time.Minute), told(off, 4*time.Minute), told(0, 0)}, up, 5, nil},
		"old words count for nobody":   {[]Peer{told(0, 4*time.Minute), told(0, 4*time.Minute), told(off, 0)}, up, 5, errClock},
		"no peer said anything":        {[]Peer{{}, {}, {}}, up, 5, nil},
		"just met, asked now":          {[]Peer{met(0), {}, {}}, up, 5, errUntold},
		"met, and it never says":       {[]Peer{met(tellTime), {}, {}}, up, 5, nil},
		"one of them has told":         {[]Peer{met(0), told(0, 0), {}}, up, 5, nil},
		"the slot is to come":          {nil, up, 6, errFuture},
		"the slot is long past":        {nil, up, 1, nil},
		"no beacon node in step":       {nil, []BeaconNode{{Name: "a", Status: beacon.StatusSyncing}, {Name: "b", Status: beacon.StatusOptimistic}}, 5, errBeacon},
		"beacon nodes of other chains": {nil, []BeaconNode{{Name: "a", Status: beacon.StatusWrongNetwork}}, 5, errBeacon},
	} {
		c := &core{o: Options{}.withDefaults(), net: watchedPeers{status: x.peers}, bn: watchedBeacon{nodes: x.nodes}}
		c.chain.Clock = cluster.SlotClock{Genesis: time.Now().Add(-5*12*time.Second - time.Second), SlotDuration: 12 * time.Second, SlotsPerEpoch: 4}
		if err := c.doubt(t.Context(), cluster.Duty{Slot: x.slot, Type: cluster.DutyAttester}); !errors.Is(err, x.want) || x.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
}

// A peer's word about its clock is believed for as long as it may be asked again, not for ever.
func TestOldOffsetsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		peers := []Peer{told(2*time.Second, 0), told(2*time.Second, 0)}
		if err := clockDoubt(peers, time.Now(), maxClockOffset); !errors.Is(err, errClock) {
			t.Errorf("fresh: %v", err)
		}
		time.Sleep(staleOffset + time.Millisecond)
		if err := clockDoubt(peers, time.Now(), maxClockOffset); err != nil {
			t.Errorf("old: %v", err)
		}
	})
}

// What says that this node runs twice: the word of peers, which ends soon after the twin did, and
// where no peer can tell, messages with its signature about duties that began after it did.
func TestOwnTwins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := cluster.SlotClock{Genesis: time.Now().Add(-time.Hour), SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}
		table, err := sched.NewTable(sched.Spec{Clock: clock, GloasEpoch: sched.Never}.WithDefaults())
		if err != nil {
			t.Fatal(err)
		}
		c := &core{ctx: t.Context(), log: testLogger(t, "0"), table: table, began: time.Now()}
		c.chain.Clock = clock
		now, _ := clock.At(time.Now())
		duty := func(s cluster.Slot) cluster.Duty { return cluster.Duty{Slot: s, Type: cluster.DutyAttester} }
		seen := func(net peers) []Twin { return twins(c, net, time.Now()) }
		alone := watchedPeers{}

		for s := now - 40; s <= now; s++ { // an earlier run of this node spoke of these
			c.notMade(duty(s), 2)
		}
		if got := seen(alone); got != nil {
			t.Errorf("an earlier run is a twin: %+v", got)
		}
		c.notMade(duty(now+2), 2)
		got := seen(alone)
		if len(got) != 1 || got[0].Duty == nil || *got[0].Duty != duty(now+2) || got[0].By[0] != 2 || got[0].StartedAt != nil {
			t.Fatalf("%+v", got)
		}
		time.Sleep(alienStays)
		if seen(alone) == nil {
			t.Error("it is over too soon")
		}
		time.Sleep(time.Second)
		if seen(alone) != nil {
			t.Error("it is not over")
		}
		// Peers know more, and know when it is over.
		at := time.Now()
		told := watchedPeers{twins: []peer.Twin{{Copy: peer.Copy{StartedAt: at, Addr: "/ip4/10.0.0.9/tcp/3610"}, By: []cluster.PeerIndex{1, 3}, Told: at}}}
		c.notMade(duty(now+40), 1)
		if got := seen(told); len(got) != 1 || got[0].Duty != nil || !got[0].StartedAt.Equal(at) || len(got[0].By) != 2 {
			t.Errorf("%+v", got)
		}
		time.Sleep(time.Second)
		c.notMade(duty(now+41), 1)
		if got := seen(alone); got != nil {
			t.Errorf("peers say that it is over: %+v", got)
		}
	})
}
