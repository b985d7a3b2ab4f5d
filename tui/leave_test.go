package tui

import "testing"

// TestLeavingFromTheDashboard: the guides of leaving open from the list of wizards and by commands. A
// passphrase can't be typed there, since it is another program that acts.
func TestLeavingFromTheDashboard(t *testing.T) {
	s := newStage(t, script(4)).pull().size(80, 24)
	s.keys("w")
	s.shows("Create a cluster, workers or prover nodes", "Move, back up or leave")
	s.keys("down", "down", "down", "down", "enter")
	s.shows("What do you want to do?", "Move a node, or back it up", "Put a node in place", "Leave a cluster")
	s.keys("esc").keys(":").text("node export").keys("enter")
	s.shows("Move a node, or back it up", "step 1 of 5")
	s.keys("enter").text("/n").keys("down", "down").text("/o").keys("enter", "down")
	s.shows("Passphrase", "step 3 of 5")
	s.hides("ctrl+t")
	s.keys("esc", "enter").keys(":").text("combine").keys("enter")
	s.shows("Leave a cluster", "step 1 of 5")
	s.keys("esc").keys(":").text("node").keys("enter")
	s.shows("What do you want to do?")
	for line, want := range map[string]string{"node away": "node: want export or import", "combine x": "combine: nothing may follow"} {
		s.keys("esc").keys(":").text(line).keys("enter")
		s.shows(want)
	}
}
