package cluster

import "testing"

// Every network has the genesis validators root that its slashing histories are checked against, and
// no two share one.
func TestValidatorsRoots(t *testing.T) {
	seen := map[Root]string{}
	for _, n := range Networks() {
		if n.ValidatorsRoot == (Root{}) || seen[n.ValidatorsRoot] != "" {
			t.Errorf("%s: genesis validators root %s, also of %q", n.Name, n.ValidatorsRoot, seen[n.ValidatorsRoot])
		}
		seen[n.ValidatorsRoot] = n.Name
		if c := n.Clock(); c.Start(100) != n.SlotStart(100) || c.Epoch(100) != n.EpochOf(100) {
			t.Errorf("%s: clock %+v", n.Name, c)
		}
	}
}
