package state_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/engine"
	"app.provost/engine/enginetest"
	"app.provost/engine/state"
)

func p[T any](v T) *T { return &v }

// dvView is what a healthy node of a cluster of four tells now.
func dvView(k int) state.NodeView {
	now := time.Now().UTC()
	node := fmt.Sprintf("node%d", k)
	key := engine.Key{Machine: "m1", Cluster: "c1", Node: node}
	v := state.NodeView{Key: key, Cluster: engine.ClusterRow{Name: "mycluster", Nodes: 4, Threshold: 3, Quorum: 3, PeersUp: p(4), Twins: 2, SlotS: p(12.0), SigningOK: p(true), Seen: &now,
		Restart: engine.Restart{Safe: p(true), ForS: p(379.0), Why: "a proposal comes", Until: "proposal slot 99"}},
		Validators: []engine.ValidatorRow{{Key: engine.Key{ID: "0xaa"}, Status: "active"}, {Key: engine.Key{ID: "0xbb"}, Status: "queued"}},
		Beacons:    []engine.BeaconRow{{Key: engine.Key{ID: "http://bn0:5052"}, Address: "http://bn0:5052", State: "up"}}}
	for j := range 4 {
		r := engine.PeerRow{Key: engine.Key{ID: fmt.Sprintf("node%d", j)}, Name: fmt.Sprintf("node%d", j), Index: j, Share: j + 1, Self: j == k, State: "up", ClockMS: p(1.0)}
		v.Peers = append(v.Peers, r)
	}
	return v
}

type dvTest struct {
	t *testing.T
	s *state.State
}

func (d dvTest) tell(change func(k int, v *state.NodeView), nodes ...int) *engine.Snapshot {
	d.t.Helper()
	for _, k := range nodes {
		v := dvView(k)
		if change != nil {
			change(k, &v)
		}
		if err := d.s.TellWait(d.t.Context(), v); err != nil {
			d.t.Fatal(err)
		}
	}
	return d.s.Snapshot()
}

func open(s *engine.Snapshot, code engine.Code) *engine.Finding {
	for i := range s.Alerts.List() {
		if f := &s.Alerts.Rows[i]; f.Code == code && f.ClosedAt == nil {
			return f
		}
	}
	return nil
}

func dvBubble(t *testing.T, test func(t *testing.T, d dvTest)) {
	synctest.Test(t, func(t *testing.T) {
		o := options(enginetest.NewStore())
		o.Parts = []engine.SectionName{engine.SecClusters}
		s, stop := run(t, o)
		defer stop()
		test(t, dvTest{t, s})
	})
}

// TestDutyFindings tells one trouble at a time, and then that it is over.
func TestDutyFindings(t *testing.T) {
	missed := func(v *state.NodeView, slot uint64, st engine.DutyState) {
		v.Duties = append(v.Duties, engine.DutyRow{Key: engine.Key{ID: fmt.Sprintf("attester/%d", slot)}, Type: "attester", Slot: slot, At: time.Now(), State: st, Partials: []int{1, 2}, Need: 3,
			Validators: []string{"17"}, Reason: "insufficient_peer_signatures", Why: "too few partial signatures came"})
	}
	for name, c := range map[string]struct {
		code   engine.Code
		change func(k int, v *state.NodeView)
		title  string // part of it; "" for: nothing is raised
		key    string
	}{
		"missed": {engine.FindDutyMissed, func(_ int, v *state.NodeView) { missed(v, 7, engine.DutyMissed) }, "missed the attestation of slot 7: too few partial signatures came", ""},
		"missed twice": {engine.FindDutyMissed, func(_ int, v *state.NodeView) { missed(v, 7, engine.DutyMissed); missed(v, 9, engine.DutyMissed) },
			"slot 9: too few partial signatures came (1 more in ten minutes)", ""},
		"missed here, sent by another": {engine.FindDutyMissed, func(k int, v *state.NodeView) {
			if k == 0 {
				missed(v, 7, engine.DutyMissed)
			} else {
				missed(v, 7, engine.DutySent)
			}
		}, "", ""},
		"missed long ago": {engine.FindDutyMissed, func(_ int, v *state.NodeView) {
			missed(v, 7, engine.DutyMissed)
			v.Duties[0].At = time.Now().Add(-11 * time.Minute)
		}, "", ""},
		"quorum": {engine.FindQuorumLost, func(_ int, v *state.NodeView) { v.Cluster.PeersUp = p(2) }, "cluster mycluster cannot sign: 2 of 4 nodes are up, 3 are needed", ""},
		"one is alone": {engine.FindQuorumLost, func(k int, v *state.NodeView) {
			if k == 1 {
				v.Cluster.PeersUp = p(1)
			}
		}, "", ""},
		"peer": {engine.FindPeerDown, func(k int, v *state.NodeView) {
			if k != 3 {
				v.Peers[3].State, v.Peers[3].Problem = "down", "connection refused"
			}
		}, "node3 is down: connection refused", "node3"},
		"one does not reach it": {engine.FindPeerDown, func(k int, v *state.NodeView) {
			if k == 1 {
				v.Peers[3].State = "down"
			}
		}, "", ""},
		"beacon": {engine.FindBeaconDown, func(_ int, v *state.NodeView) {
			v.Beacons[0].State, v.Beacons[0].Problem = "down", "no answer within 2 s"
		},
			"beacon node http://bn0:5052 cannot be used: no answer within 2 s", "http://bn0:5052"},
		"network": {engine.FindBeaconDown, func(_ int, v *state.NodeView) { v.Beacons[0].State = "wrong network" }, "cannot be used: wrong network", "http://bn0:5052"},
		"syncing": {engine.FindBeaconSyncing, func(_ int, v *state.NodeView) { v.Beacons[0].State, v.Beacons[0].Behind = "syncing", p(uint64(40)) },
			"is not at the head of the chain: syncing, 40 slots behind", "http://bn0:5052"},
		"clock": {engine.FindDVClock, func(k int, v *state.NodeView) {
			if k != 2 {
				v.Peers[2].ClockMS = p(2010.0)
			}
		}, "the clock of node2 is off by 2s", "node2"},
		"own clock": {engine.FindDVClock, func(k int, v *state.NodeView) {
			if k != 0 {
				v.Peers[0].ClockMS = p(700.0)
				return
			}
			for j := range v.Peers {
				v.Peers[j].ClockMS = p(-700.0)
			}
		}, "the clock of node0 is off by 700ms", "node0"},
		"twice": {engine.FindKeyInUse, func(k int, v *state.NodeView) {
			one, two := time.Date(2026, 11, 20, 12, 0, 0, 5, time.UTC), time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC)
			switch k {
			case 0: // it sees the other one through its peers
				v.Peers[0].Copies = []engine.PeerCopy{{Address: "/ip4/10.0.0.9/tcp/4444", StartedAt: &two, SeenBy: []string{"node1", "node2"}}}
			case 1, 2:
				v.Peers[0].Copies = []engine.PeerCopy{{Address: "/ip4/10.0.0.7/tcp/3610", StartedAt: &one}, {Address: fmt.Sprintf("/ip4/10.0.0.9/tcp/%d", 4444+k), StartedAt: &two}}
			}
		}, "node0 runs twice: one since 2026-11-20T12:00:00Z at /ip4/10.0.0.7/tcp/3610, one since 2026-11-20T12:30:00Z at /ip4/10.0.0.9/tcp/4444", "node0"},
		"twice, by a message": {engine.FindKeyInUse, func(k int, v *state.NodeView) {
			if k == 0 {
				v.Peers[0].Copies = []engine.PeerCopy{{SeenBy: []string{"node3"}, Note: "a message about attester/9 was not made here"}}
			}
		}, "node0 runs twice: a message about attester/9 was not made here", "node0"},
		"twice, by the word of peers": {engine.FindKeyInUse, func(k int, v *state.NodeView) {
			if k == 2 {
				at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
				v.Peers[2].Copies = []engine.PeerCopy{{Address: "/ip4/10.0.0.9/tcp/4444", StartedAt: &at, SeenBy: []string{"node3"}}}
			}
		}, "node2 runs twice: another one since 2026-11-20T12:00:00Z at /ip4/10.0.0.9/tcp/4444", "node2"},
		"none active": {engine.FindNoActive, func(_ int, v *state.NodeView) { v.Validators[0].Status = "not deposited" }, "no active validators for this slot: 1 not deposited, 1 queued", ""},
		"not known":   {engine.FindNoActive, func(_ int, v *state.NodeView) { v.Validators[0].Status = "unknown" }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dvBubble(t, func(t *testing.T, d dvTest) {
				d.tell(nil, 0, 1, 2, 3)
				settle()
				if n := len(d.s.Snapshot().Alerts.List()); n != 0 {
					t.Fatalf("a healthy cluster raises %d findings: %+v", n, d.s.Snapshot().Alerts.Rows)
				}
				for range 5 { // longer than any finding waits to be shown
					d.tell(c.change, 0, 1, 2, 3)
					time.Sleep(12 * time.Second)
				}
				f := open(d.s.Snapshot(), c.code)
				if c.title == "" {
					if f != nil {
						t.Fatalf("%+v", f)
					}
					return
				}
				if f == nil || !strings.Contains(f.Title, c.title) || f.Key != (engine.Key{Machine: "m1", Cluster: "c1", ID: c.key}) {
					t.Fatalf("%+v, want %q", f, c.title)
				}
				v := d.s.Snapshot().Verdict.Value
				reason := slices.ContainsFunc(v.Reasons, func(r engine.VerdictReason) bool { return r.Rule == c.code })
				if reason != (f.Level != engine.LevelNote) {
					t.Errorf("%+v is not a reason of the verdict: %+v", f, v)
				}
				if c.code == engine.FindQuorumLost && v.Word != engine.VerdictCritical {
					t.Errorf("no quorum is %s", v.Word)
				}
				d.tell(nil, 0, 1, 2, 3)
				settle()
				if f := open(d.s.Snapshot(), c.code); f != nil {
					t.Errorf("still open: %+v", f)
				}
			})
		})
	}
}

// A cluster that falls silent keeps its findings; one node of it that falls silent has no say.
func TestDutyFindingsOfTheSilent(t *testing.T) {
	dvBubble(t, func(t *testing.T, d dvTest) {
		d.tell(func(_ int, v *state.NodeView) { v.Cluster.PeersUp = p(2) }, 0, 1)
		time.Sleep(30 * time.Second)
		if open(d.s.Snapshot(), engine.FindQuorumLost) == nil {
			t.Fatal("no quorum raises nothing")
		}
		time.Sleep(10 * time.Minute)
		if open(d.s.Snapshot(), engine.FindQuorumLost) == nil {
			t.Error("silence has closed it")
		}
		if re := d.s.Snapshot().Verdict.Value.Restart; re.Safe != nil || !strings.Contains(re.Why, "last heard") {
			t.Errorf("%+v", re)
		}
		d.tell(nil, 0)
		settle()
		if open(d.s.Snapshot(), engine.FindQuorumLost) != nil {
			t.Error("a node that sees the others has not closed it")
		}
		if err := d.s.TellWait(t.Context(), state.DropNodeView{Key: dvView(0).Key}, state.DropNodeView{Key: dvView(1).Key}); err != nil {
			t.Fatal(err)
		}
		settle()
		if re := d.s.Snapshot().Verdict.Value.Restart; re.Safe == nil || !*re.Safe {
			t.Errorf("without nodes: %+v", re)
		}
	})
}

func TestRestartJoinsTheNodes(t *testing.T) {
	dvBubble(t, func(t *testing.T, d dvTest) {
		s := d.tell(func(k int, v *state.NodeView) { v.Cluster.Restart.ForS = p(379.0 - 100*float64(k)) }, 0, 1, 2)
		re := s.RestartNow(time.Now())
		if re.Safe == nil || !*re.Safe || re.ForS == nil || *re.ForS > 179 || *re.ForS < 178 || re.Until != "proposal slot 99" || re.Why != "a proposal comes" || *re.QuorumWithoutMe != 3 || *re.Need != 3 {
			t.Errorf("%+v", re)
		}
		// The clock goes on without a new verdict, and the time that is left with it.
		version := s.Version(engine.SecVerdict)
		time.Sleep(20 * time.Second)
		s = d.s.Snapshot()
		if got := s.RestartNow(time.Now()); *got.ForS > 159.1 || *got.ForS < 158 {
			t.Errorf("after 20 s: %v left", *got.ForS)
		}
		// The same end told again changes nothing.
		s = d.tell(func(k int, v *state.NodeView) { v.Cluster.Restart.ForS = p(359.0 - 100*float64(k)) }, 0, 1, 2)
		if s.Version(engine.SecVerdict) != version {
			t.Error("a countdown alone was published")
		}
		// Another reason for a new verdict counts the time anew.
		time.Sleep(10 * time.Second)
		s = d.tell(func(k int, v *state.NodeView) {
			v.Cluster.Restart.ForS = p(349.0 - 100*float64(k))
			v.Cluster.PeersUp = p(3)
		}, 0, 1, 2)
		if got := s.RestartNow(time.Now()); s.Version(engine.SecVerdict) == version || *got.ForS > 149.1 || *got.ForS < 148 || *got.QuorumWithoutMe != 2 {
			t.Errorf("%+v", got)
		}
		// One that says no outweighs the others.
		s = d.tell(func(k int, v *state.NodeView) {
			if k == 1 {
				v.Cluster.Restart = engine.Restart{Safe: p(false), ForS: p(9.0), Why: "a block is due"}
			}
		}, 0, 1, 2)
		if re := s.RestartNow(time.Now()); re.Safe == nil || *re.Safe || re.Why != "node1: a block is due" || *re.ForS > 9 {
			t.Errorf("%+v", re)
		}
		// Its time is over and it tells nothing new: nobody knows.
		time.Sleep(10 * time.Second)
		if re := d.s.Snapshot().RestartNow(time.Now()); re.Safe != nil || re.ForS != nil {
			t.Errorf("%+v", re)
		}
		// One that knows nothing keeps the others from being taken for all.
		s = d.tell(func(k int, v *state.NodeView) {
			if k == 2 {
				v.Cluster.Restart = engine.Restart{Why: "the coming duties are not known"}
			}
		}, 0, 1, 2)
		if re := s.RestartNow(time.Now()); re.Safe != nil || !strings.Contains(re.Why, "node2: the coming duties") {
			t.Errorf("%+v", re)
		}
	})
}
