package tui

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/tui/page"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

var sizes = [][2]int{{60, 15}, {80, 24}, {120, 40}, {160, 48}, {200, 50}, {300, 80}}

// TestFrames holds every view at every size, with the full script.
func TestFrames(t *testing.T) {
	s := newStage(t, script(2048)).pull().fillLogs()
	for _, id := range allViews {
		var out strings.Builder
		s.m.Go(id, "")
		for _, wh := range sizes {
			s.size(wh[0], wh[1])
			fmt.Fprintf(&out, "%dx%d\n%s", wh[0], wh[1], s.screen())
		}
		golden(t, filepath.Join("testdata", "frames", string(id)+".txt"), out.String())
	}
}

// TestFewRows holds what an engine with none, one or seven workers looks like, and
// one of which nothing is known.
func TestFewRows(t *testing.T) {
	for _, n := range []int{0, 1, 7} {
		s := newStage(t, script(n)).pull().fillLogs().size(80, 24)
		var out strings.Builder
		for _, id := range allViews {
			s.m.Go(id, "")
			fmt.Fprintf(&out, "%s\n%s", id, s.screen())
		}
		golden(t, filepath.Join("testdata", "rows", fmt.Sprintf("%d.txt", n)), out.String())
	}
}

func unknown(t testing.TB) *stage {
	s := newStage(t, script(7)).pull()
	s.show(engine.Update{Snapshot: dim(s.m.snap)})
	return s
}

func TestNothingKnown(t *testing.T) {
	s := unknown(t).fillLogs()
	for _, wh := range [][2]int{{80, 24}, {160, 48}} {
		s.size(wh[0], wh[1])
		var out strings.Builder
		for _, id := range allViews {
			s.m.Go(id, "")
			fmt.Fprintf(&out, "%s\n%s", id, s.screen())
		}
		golden(t, filepath.Join("testdata", "unknown", fmt.Sprintf("%d.txt", wh[0])), out.String())
	}
	// A worker's use that is not known is a question mark, never nothing or zero.
	s.size(80, 24)
	s.m.Go(page.Workers, "")
	s.shows("?")
	s.m.Go(page.Overview, "")
	s.shows("UNKNOWN").hides("SAFE ")
}

// TestNoSnapshot: before the first picture every view says so.
func TestNoSnapshot(t *testing.T) {
	s := newStage(t, script(7)).size(80, 24)
	var out strings.Builder
	for _, id := range allViews {
		s.m.Go(id, "")
		fmt.Fprintf(&out, "%s\n%s", id, s.screen())
	}
	golden(t, filepath.Join("testdata", "rows", "none-yet.txt"), out.String())
}

// TestASCII: with ASCII glyphs no frame holds anything else.
func TestASCII(t *testing.T) {
	s := newStage(t, script(2048), func(o *Options) { o.ASCII = true }).pull().fillLogs()
	for _, wh := range sizes {
		s.size(wh[0], wh[1])
		for _, id := range allViews {
			s.m.Go(id, "")
			for i, line := range s.frame() {
				for _, r := range line {
					if r > 126 && r != '°' {
						t.Fatalf("%s at %dx%d, line %d: %q is not ASCII: %s", id, wh[0], wh[1], i+1, r, line)
					}
				}
			}
		}
	}
	s.size(80, 24)
	s.m.Go(page.Workers, "")
	golden(t, filepath.Join("testdata", "frames", "ascii-workers.txt"), s.screen())
}

// TestMono: without colours the chosen row, the active view and what is critical
// still stand out by attributes, and no colour is written.
func TestMono(t *testing.T) {
	s := newStage(t, script(2048)).pull().size(80, 24)
	mono, err := theme.ByName("mono")
	if err != nil {
		t.Fatal(err)
	}
	s.m.buf.Theme = mono
	s.m.Go(page.Workers, "")
	s.m.dirty = true
	view := s.m.View()
	for _, bad := range []string{";3", ";4", ";9", ";38;"} {
		if i := strings.Index(view, "\x1b[0"+bad); i >= 0 && !strings.HasPrefix(view[i:], "\x1b[0;4m") && !strings.HasPrefix(view[i:], "\x1b[0;4;") {
			t.Errorf("a colour in mono: %q", view[i:min(i+12, len(view))])
		}
	}
	if !strings.Contains(view, "\x1b[0;1;7m") {
		t.Error("nothing is bold and reversed: the active view is invisible")
	}
	if !strings.Contains(view, ";7m") {
		t.Error("nothing is reversed: the cursor is invisible")
	}
}

// TestEverySize draws every view at every size from nothing to large, with every
// amount of rows: the height is exact and nothing panics.
func TestEverySize(t *testing.T) {
	stages := map[string]*stage{"none": newStage(t, script(7)), "0": newStage(t, script(0)).pull(), "1": newStage(t, script(1)).pull(), "7": newStage(t, script(7)).pull(),
		"2048": newStage(t, script(2048)).pull().fillLogs(), "unknown": unknown(t)}
	for name, s := range stages {
		for _, w := range []int{0, 1, 5, 20, 59, 60, 61, 79, 80, 99, 100, 119, 120, 159, 160, 200, 300} {
			for _, h := range []int{0, 1, 2, 4, 5, 14, 15, 16, 19, 24, 40, 80} {
				s.size(w, h)
				for _, id := range allViews {
					s.m.Go(id, "")
					s.m.dirty = true
					for i, line := range s.frame() {
						if w > 0 && h > 0 && widget.Width(line) > w {
							t.Fatalf("%s %s at %dx%d: line %d is %d wide", name, id, w, h, i+1, widget.Width(line))
						}
					}
				}
				if w >= minWidth && h >= minHeight {
					s.keys("enter", "?")
					s.m.dirty = true
					s.frame()
					s.keys("esc", "esc")
				}
			}
		}
	}
}

// TestVerdictStays: the verdict, the restart line and the counts of workers are
// on every overview, however low.
func TestVerdictStays(t *testing.T) {
	s := newStage(t, script(2048)).pull()
	for _, wh := range [][2]int{{60, 15}, {80, 15}, {99, 16}, {100, 20}, {120, 24}, {160, 24}, {200, 30}} {
		s.size(wh[0], wh[1])
		s.m.Go(page.Overview, "")
		screen := s.screen()
		v := s.m.snap.Verdict.Value
		if !strings.Contains(screen, strings.ToUpper(string(v.Word))) {
			t.Errorf("%v: no verdict:\n%s", wh, screen)
		}
		if !strings.Contains(strings.ToLower(screen), "restart") {
			t.Errorf("%v: no restart line:\n%s", wh, screen)
		}
		if !strings.Contains(screen, " run") {
			t.Errorf("%v: no counts of workers:\n%s", wh, screen)
		}
	}
	s.size(36, 5)
	s.shows("provost", strings.ToUpper(string(s.m.snap.Verdict.Value.Word)), "need 60x15", "PRACTICE")
}

// TestPracticeOnEveryFrame: whatever is shown, it says that it is practice.
func TestPracticeOnEveryFrame(t *testing.T) {
	s := newStage(t, script(2048)).pull()
	for _, wh := range append(sizes, [2]int{40, 8}, [2]int{59, 14}) {
		s.size(wh[0], wh[1])
		for _, id := range allViews {
			s.m.Go(id, "")
			s.shows("PRACTICE")
		}
		s.keys("?").shows("PRACTICE").keys("esc", "f").shows("PRACTICE").keys("f")
	}
}

// TestLinkLost: old values stay, marked, acts are off, and the banner says since when.
func TestLinkLost(t *testing.T) {
	link := LinkState{Connected: true}
	s := newStage(t, script(2048), func(o *Options) { o.Link = func() LinkState { return link } }).pull().size(80, 24)
	s.keys("2").hides("LINK LOST")
	link = LinkState{Since: curtain, Tries: 6, Problem: "connection refused"}
	s.now = curtain.Add(38 * time.Second)
	s.send(tickMsg(s.now))
	s.shows("LINK LOST 0:38", "ENGINE NOT ANSWERING since 11:04:40", "38 old", "6 tries", "connection refused", "pid 4121")
	s.keys("p").shows("p: the link to the engine is lost")
	row := s.m.buf.StyleAt(2, 6)
	if row != row.With(theme.Faded) {
		t.Error("values behind a lost link are not faded")
	}
	link = LinkState{Connected: true, Since: s.now}
	s.send(tickMsg(s.now))
	s.hides("LINK LOST")
}

// TestFrozen: a frozen screen is never taken for a healthy one.
func TestFrozen(t *testing.T) {
	s := newStage(t, script(7)).pull().size(80, 24).keys("f")
	s.now = curtain.Add(42 * time.Second)
	s.send(tickMsg(s.now))
	s.shows("FROZEN 0:42")
	gen := s.m.snap.Gen
	newer := *s.m.snap
	newer.Gen++
	s.show(engine.Update{Snapshot: &newer})
	if s.m.snap.Gen != gen {
		t.Error("a frozen screen moved")
	}
	s.keys("f").hides("FROZEN")
	if s.m.snap.Gen != gen+1 {
		t.Error("the newest picture was not taken after freezing")
	}
}

// TestScreensInDocs keeps a capture of every page at 80x24 for people to read.
func TestScreensInDocs(t *testing.T) {
	dir := filepath.Join("..", "docs", "screens")
	s := newStage(t, script(2048)).pull().fillLogs().size(80, 24)
	shot := func(name string) { t.Helper(); golden(t, filepath.Join(dir, name+".txt"), s.screen()) }
	for _, id := range allViews {
		s.m.Go(id, "")
		shot(string(id))
	}
	s.m.Go(page.Workers, "state!=run")
	shot("workers-filtered")
	s.keys("enter")
	shot("worker-detail")
	s.keys("esc", "esc", "?")
	shot("help")
	s.keys("esc", ":").text("pause worker host:m18")
	shot("command")
	s.keys("esc", "q")
	shot("leave")
	s.keys("esc", "D")
	shot("doctor")
	s.keys("esc").size(36, 5)
	shot("small")

	s = newStage(t, play(t, 2048)).pull().size(80, 24)
	unlock(t, s.e)
	s.news().keys("2", "/").text("host:m20").keys("enter", "*", "p")
	s.send(sayEndMsg(s.m.sayGen))
	shot("pause-1-which")
	s.keys("enter", "tab").text("fan noise")
	shot("pause-2-how-long-and-why")
	s.keys("enter")
	shot("pause-3-what-it-does")
	s.keys("enter")
	shot("pause-4-review")
}
