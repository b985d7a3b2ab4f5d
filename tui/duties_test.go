package tui

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/scripted"
	"app.provost/tui/page"
)

var dvViews = []page.ID{page.Overview, page.Duties, page.Validators, page.Peers}

// signing is a script of a cluster at a moment, without workers.
func signing(validators int, at time.Duration) engine.Engine {
	return scripted.New(scripted.Options{Workers: -1, Hosts: 4, GPUs: -1, Validators: validators, Start: curtain.Add(-at), Still: &at, Now: func() time.Time { return curtain }})
}

// change gives a stage's snapshot with clusters changed.
func change(s *stage, fn func(n *engine.Snapshot)) *stage {
	n := *s.m.latest
	n.Gen++
	copySection(&n.Clusters)
	copySection(&n.Duties)
	copySection(&n.Validators)
	copySection(&n.Peers)
	copySection(&n.Beacons)
	fn(&n)
	return s.show(engine.Update{Snapshot: &n})
}

func copySection[T any](s **engine.Section[T]) {
	if *s != nil {
		c := **s
		c.Version += 1000
		c.Rows = append([]T(nil), c.Rows...)
		*s = &c
	}
}

// TestDutyViews holds the views of validators with 1 and 500 of them, after a missed
// duty, while a node is away, and with nothing to sign at all.
func TestDutyViews(t *testing.T) {
	missed := 252*12*time.Second - 5*time.Second // the second time that node2 is away
	for name, s := range map[string]*stage{
		"1":      newStage(t, signing(1, time.Minute)).pull(),
		"500":    newStage(t, signing(500, time.Minute)).pull(),
		"away":   newStage(t, signing(128, missed+16*time.Second)).pull(),
		"missed": newStage(t, signing(128, missed+50*time.Second)).pull(),
		"none-active": change(newStage(t, signing(2, 0)).pull(), func(n *engine.Snapshot) {
			n.Duties.Rows = nil
			for i := range n.Clusters.Rows {
				n.Clusters.Rows[i].Next = nil
			}
			for i := range n.Validators.Rows {
				v := &n.Validators.Rows[i]
				v.Status, v.Next, v.Index, v.BalanceGwei, v.GuardTarget = "not deposited", nil, nil, nil, nil
			}
		}),
		"empty": change(newStage(t, signing(1, 0)).pull(), func(n *engine.Snapshot) {
			n.Clusters.Rows, n.Duties.Rows, n.Validators.Rows, n.Peers.Rows, n.Beacons.Rows = nil, nil, nil, nil, nil
		}),
	} {
		var out strings.Builder
		for _, id := range dvViews {
			s.m.Go(id, "")
			for _, wh := range [][2]int{{60, 15}, {80, 24}, {160, 48}} {
				s.size(wh[0], wh[1])
				fmt.Fprintf(&out, "%s %dx%d\n%s", id, wh[0], wh[1], s.screen())
			}
		}
		golden(t, filepath.Join("testdata", "duties", name+".txt"), out.String())
	}
}

// TestDutyDetails holds what enter opens in each of the views.
func TestDutyDetails(t *testing.T) {
	missed := 252*12*time.Second - 5*time.Second
	s := newStage(t, signing(128, missed+50*time.Second)).pull()
	var out strings.Builder
	for _, wh := range [][2]int{{80, 24}, {160, 48}} {
		s.size(wh[0], wh[1])
		s.m.Go(page.Duties, "state=missed")
		s.keys("G", "enter")
		fmt.Fprintf(&out, "duty %dx%d\n%s", wh[0], wh[1], s.screen())
		s.shows("insufficient_peer_signatures", "node2 missing", "node3 missing")
		s.keys("esc", "esc", "6", "enter")
		fmt.Fprintf(&out, "validator %dx%d\n%s", wh[0], wh[1], s.screen())
		s.keys("esc", "7", "G", "enter")
		fmt.Fprintf(&out, "peer %dx%d\n%s", wh[0], wh[1], s.screen())
		s.shows("node 3 of the lock, key share 4")
		s.keys("esc", "1")
	}
	golden(t, filepath.Join("testdata", "duties", "details.txt"), out.String())
}

// TestOtherNode: the views show one node at a time and say which; o turns all of them.
func TestOtherNode(t *testing.T) {
	s := newStage(t, signing(128, 0)).pull().size(80, 24)
	s.keys("7").shows("as node0 sees it", "node0 me").keys("o").shows("as node1 sees it", "node1 me").hides("node0 me")
	s.keys("5").shows("as node1 sees it").keys("o", "o", "o").shows("as node0 sees it")
}

// TestNowStaysInSight: the cursor follows what is due until it is moved, and . takes it back.
func TestNowStaysInSight(t *testing.T) {
	s := newStage(t, signing(128, 0)).pull().size(80, 24).keys("5")
	current := func() uint64 {
		for _, v := range s.m.views {
			if p, ok := v.Page.(interface{ Current() engine.Row }); ok && v.ID == page.Duties {
				return p.Current().(*engine.DutyRow).Slot
			}
		}
		return 0
	}
	first := current()
	later := newStage(t, signing(128, 36*time.Second)).pull()
	s.show(engine.Update{Snapshot: later.m.snap})
	if got := current(); got != first+3 {
		t.Errorf("three slots later the cursor is at %d, was at %d", got, first)
	}
	s.keys("j", "j")
	moved := current()
	s.show(engine.Update{Snapshot: newStage(t, signing(128, 72*time.Second)).pull().m.snap})
	if got := current(); got != moved || moved == first+3 {
		t.Errorf("a cursor that was moved to %d is at %d", moved, got)
	}
	s.keys(".")
	if got := current(); got != first+6 {
		t.Errorf(". went to %d, now is %d", got, first+6)
	}
}

// TestOldNodeIsShownOld: what a node told long ago is marked, and counts for nothing.
func TestOldNodeIsShownOld(t *testing.T) {
	s := newStage(t, signing(128, 0)).pull().size(80, 24)
	s.now = curtain.Add(10 * time.Minute)
	s.send(tickMsg(s.now))
	s.keys("5").shows("node0 last heard 10m ago ~", "? ").hides("SAFE")
	s.keys("7").shows("quorum ?", "last heard 10m ago ~").hides("QUORUM OK")
	s.keys("6").shows("last heard 10m ago ~")
	s.keys("1").shows("last heard 10m ago ~").hides("peers 4/4", "SAFE")
	s.size(36, 5).shows("sign ?")
}

// TestFewTwins: the number of copies that it takes is shown with its reckoning, and one is a warning.
func TestFewTwins(t *testing.T) {
	s := newStage(t, signing(8, 0)).pull().size(80, 24).keys("7")
	s.shows("2 nodes must sign twice for a slashable signature (2t-n: 3 of 4)", "IF ONE MORE FAILS  3 of 4 left")
	change(s, func(n *engine.Snapshot) {
		for i := range n.Clusters.Rows {
			c := &n.Clusters.Rows[i]
			c.Nodes, c.Threshold, c.Quorum, c.Twins, c.PeersUp = 3, 2, 2, 1, ptr(2)
		}
	}).shows("1 node that signs twice is enough for a slashable signature!", "can lose none", "signing stops: 2 are needed")
	change(s, func(n *engine.Snapshot) {
		for i := range n.Clusters.Rows {
			n.Clusters.Rows[i].PeersUp = ptr(1)
		}
	}).shows("NO QUORUM", "nothing is signed already")
}

// TestNotThere: without validators the numbers stay reserved and say why.
func TestNotThere(t *testing.T) {
	s := newStage(t, signing(-1, 0)).pull().size(80, 24)
	s.hides("5 Duty", "SIGNING").keys("5").shows("5: this engine does not run validators")
}

func ptr[T any](v T) *T { return &v }
