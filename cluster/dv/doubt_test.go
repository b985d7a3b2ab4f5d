package dv

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/beacon"
)

// told is a peer that said its time "ago"; far is how far its clock is ahead of ours.
func told(far, ago time.Duration) Peer {
	at := time.Now().Add(-ago)
	return Peer{ClockOffset: &far, Told: &at}
}

type watchedPeers struct {
	peers
	status []Peer
}

func (w watchedPeers) Status() []Peer { return w.status }

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
