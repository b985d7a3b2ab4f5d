package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A new cluster on the screen of a real terminal: forward to the end, which makes it; the answers
// are kept, and the command that was shown makes the same again without a question.
func TestGuideMakesACluster(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	w := newPane(t, p, 80, 24, "create", "cluster")
	if out, err := w.tmux("set-option", "-g", "remain-on-exit", "on"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.still("the first page", "what it is about", "Needs", "Nothing is written before the last step")
	w.keys("Enter")
	w.still("the network", "Network", "hoodi")
	w.keys("Tab", "Right", "Right", "Tab", "mycluster", "Enter")
	w.still("the nodes", "Nodes", "Threshold")
	w.keys("2", "Enter")
	w.still("two are too few", "want at least 3")
	w.keys("BSpace", "4")
	w.still("the table", "MAY BE DOWN", "two thirds, rounded up")
	w.keys("Enter")
	w.still("the validators", "Split existing keys")
	w.keys("BTab")
	w.still("back", "Threshold")
	w.keys("Enter", "Enter")
	w.still("the addresses", "Withdrawal address", "again")
	w.keys("0x000000000000000000000000000000000000dead", "Tab", "0x000000000000000000000000000000000000deaf")
	w.still("a slip", "the two are not the same")
	w.keys("BSpace", "d", "Enter")
	w.still("where to", "empty: .charon/cluster")
	w.keys("made", "Enter")
	w.still("what is rarely changed", "Insecure keys")
	w.keys("Tab", "Tab", "Tab", "y", "Enter")
	w.still("the checks", "nobody holds the key", "0 block, 2 warn")
	if _, err := os.Stat(filepath.Join(p.dir, "made")); !os.IsNotExist(err) {
		t.Fatalf("something was written before the end: %v", err)
	}
	w.keys("Enter")
	w.still("the review", "create a cluster of 4 nodes", "cannot be undone", "Type create mycluster to agree")
	w.keys("NPage")
	w.still("the command", "SAME THING WITHOUT THE WIZARD", "--nodes=4")
	w.keys("S")
	w.still("the answers", "answers saved to")
	w.keys("create mycluster", "Enter")
	w.still("the end", "lock hash: 0x", "repeat without questions:")
	p.must("verify", "cluster", "made")
	p.must("create", "cluster", "--answers", "mycluster.yaml", "--cluster-dir", "again")
	p.must("verify", "cluster", "again")
}

// Left on a page in the middle, nothing is made, and what was answered is offered again.
func TestGuideIsLeft(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]string{{"C-c", "C-c"}, {"Escape"}} {
		t.Run(keys[0], func(t *testing.T) {
			p := newPlace(t)
			w := newPane(t, p, 80, 24, "create", "cluster", "--nodes", "4")
			if out, err := w.tmux("set-option", "-g", "remain-on-exit", "on"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			w.still("a page", "step 1 of 9", "esc leave")
			w.keys(keys...)
			if end := w.still("the end", "status 5"); strings.Contains(end, "│") {
				t.Errorf("the screen is not whole:\n%s", end)
			}
			if _, err := os.Stat(filepath.Join(p.dir, ".charon")); !os.IsNotExist(err) {
				t.Errorf("something was made: %v", err)
			}
		})
	}
}
