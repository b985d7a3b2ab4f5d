package state_test

import (
	"testing"
	"testing/synctest"
	"time"

	"app.provost/engine"
	"app.provost/engine/enginetest"
	"app.provost/engine/state"
)

func TestNodeViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(enginetest.NewStore())
		o.Parts = []engine.SectionName{engine.SecClusters}
		s, stop := run(t, o)
		defer stop()
		view := func(node string, slots ...uint64) state.NodeView {
			v := state.NodeView{Key: engine.Key{Machine: "m1", Cluster: "c1", Node: node}, Cluster: engine.ClusterRow{Name: "mycluster", Threshold: 3},
				Peers: []engine.PeerRow{{Key: engine.Key{ID: "node1"}, Index: 1}, {Key: engine.Key{ID: "node0"}, Index: 0}}}
			for _, n := range slots {
				v.Duties = append(v.Duties, engine.DutyRow{Key: engine.Key{ID: "attester"}, Type: "attester", Slot: n})
				v.Duties[len(v.Duties)-1].Key.ID += "/" + time.Duration(n).String()
			}
			return v
		}
		tell := func(f ...state.Fact) *engine.Snapshot {
			t.Helper()
			if err := s.TellWait(t.Context(), f...); err != nil {
				t.Fatal(err)
			}
			return s.Snapshot()
		}
		first := tell(view("node0", 7, 8), view("node1", 8))
		if n := len(first.Duties.List()); n != 3 || first.Duties.Rows[0].Slot != 8 || first.Duties.Rows[2].Slot != 7 {
			t.Errorf("duties %+v, want the newest slot first", first.Duties.List())
		}
		if p := first.Peers.List(); len(p) != 4 || p[0].Index != 0 || p[0].Key != (engine.Key{Machine: "m1", Cluster: "c1", Node: "node0", ID: "node0"}) {
			t.Errorf("peers %+v", p)
		}
		same := tell(view("node0", 7, 8))
		if same.Version(engine.SecDuties) != first.Version(engine.SecDuties) {
			t.Error("the same view was published anew")
		}
		second := tell(view("node0", 9))
		if n := len(second.Duties.List()); n != 2 || second.Duties.Rows[0].Slot != 9 {
			t.Errorf("duties %+v, want node0's replaced and node1's kept", second.Duties.List())
		}
		third := tell(state.DropNodeView{Key: engine.Key{Machine: "m1", Cluster: "c1", Node: "node1"}})
		if len(third.Clusters.List()) != 1 || len(third.Duties.List()) != 1 || len(third.Peers.List()) != 2 {
			t.Errorf("after dropping node1: %d clusters, %d duties, %d peers", len(third.Clusters.List()), len(third.Duties.List()), len(third.Peers.List()))
		}
	})
}
