package e2e

import "testing"

// The screen calls the socket that it was told, not the one that the engine names: a
// container and a forwarded socket have another path. This engine names none.
func TestScreenKeepsToTheSocketItWasGiven(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.console(120, 40, "attach", "--socket", serveScript(t, p, 16))
	c.shows("Workers 16", "q leave")
	c.keys("qq")
	c.leaves(0)
}
