package wire

import (
	"testing"

	"app.provost/engine"
	"app.provost/engine/state"
	"app.provost/engine/super"
)

// A node of a cluster that was moved away is told as that, and no longer once it runs.
func TestMovedNodeOfAClusterDirectory(t *testing.T) {
	var told []state.Fact
	f := &fleet{machine: "m", tell: func(facts ...state.Fact) { told = append(told, facts...) }, nodes: []*fleetNode{{id: "node1", dir: "/c/node1"}}}
	n := f.nodes[0]
	step := func(why string) (raised, cleared []engine.Code) {
		told = nil
		n.why = why
		f.onProcess(super.Status{ID: "node1"})
		for _, x := range told {
			switch x := x.(type) {
			case state.Raise:
				raised = append(raised, x.Raise.Code)
			case state.Clear:
				cleared = append(cleared, x.Code)
			}
		}
		return raised, cleared
	}
	for _, c := range []struct {
		why            string
		raise, cleared engine.Code
	}{
		{"run node: this node was exported to run elsewhere [node.moved]", engine.FindNodeMoved, ""},
		{"run node: this node was exported to run elsewhere [node.moved]", "", ""},
		{"run node: the lock is missing [node.unreadable]", engine.FindNodeBroken, engine.FindNodeMoved},
		{"", "", engine.FindNodeBroken},
	} {
		raised, cleared := step(c.why)
		if len(raised) > 1 || len(cleared) > 1 || (len(raised) == 1) != (c.raise != "") || (len(cleared) == 1) != (c.cleared != "") ||
			len(raised) == 1 && raised[0] != c.raise || len(cleared) == 1 && cleared[0] != c.cleared {
			t.Errorf("%q raised %v and cleared %v", c.why, raised, cleared)
		}
	}
}
