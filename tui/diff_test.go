package tui

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hinshun/vt10x"

	"app.provost/engine"
)

// painted is what bubbletea writes to turn one picture into the next: whole lines
// where they differ, a line feed where they do not, home and the last position.
func painted(before, after string, w int) []byte {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	out := []byte("\x1b[H")
	if before == "" {
		out, a = append(out, '\r'), nil
	}
	for i := range b {
		if i < len(a) && a[i] == b[i] {
			if i < len(b)-1 {
				out = append(out, '\n')
			}
			continue
		}
		out = append(out, b[i]...)
		if width(b[i]) < w {
			out = append(out, "\x1b[K"...)
		}
		if i < len(b)-1 {
			out = append(out, "\r\n"...)
		}
	}
	return fmt.Appendf(out, "\x1b[%d;0H", len(b))
}

func width(line string) int {
	n, code := 0, false
	for _, r := range line {
		switch {
		case r == 0x1b:
			code = true
		case code:
			code = r != 'm'
		default:
			n++
		}
	}
	return n
}

// twins are two terminals: one gets what bubbletea writes, the other what is left of it.
type twins struct {
	t           testing.TB
	whole, less vt10x.Terminal
	d           differ
	w, h        int
}

func newTwins(t testing.TB, w, h int) *twins {
	return &twins{t: t, whole: vt10x.New(vt10x.WithSize(w, h)), less: vt10x.New(vt10x.WithSize(w, h)), w: w, h: h}
}

// see writes to both and compares every cell; it gives the bytes of the second.
func (x *twins) see(p []byte) int {
	x.t.Helper()
	_, _ = x.whole.Write(p)
	q := x.d.frame(p)
	n := len(q)
	_, _ = x.less.Write(q)
	for y := range x.h {
		for c := range x.w {
			a, b := x.whole.Cell(c, y), x.less.Cell(c, y)
			if a.Char == 0 {
				a.Char = ' '
			}
			if b.Char == 0 {
				b.Char = ' '
			}
			if a != b {
				x.t.Fatalf("line %d column %d is %q %d %d %d, want %q %d %d %d\nwrote %q\ninstead of %q", y, c, b.Char, b.Mode, b.FG, b.BG, a.Char, a.Mode, a.FG, a.BG, q, p)
			}
		}
	}
	return n
}

// TestDiffShowsTheSame walks through the screen and compares what two terminals show.
func TestDiffShowsTheSame(t *testing.T) {
	for _, wh := range [][2]int{{80, 24}, {120, 40}, {200, 50}} {
		s := newStage(t, script(2048)).pull().fillLogs().size(wh[0], wh[1])
		x := newTwins(t, wh[0], wh[1])
		last := ""
		look := func() {
			t.Helper()
			view := s.m.View()
			x.see(painted(last, view, wh[0]))
			last = view
		}
		look()
		for _, k := range strings.Fields("2 j j pgdown space G esc enter esc c esc 3 4 8 9 j 0 J ? esc : p a u esc D o pgdown esc w esc f f t / s t a t e = r u n enter esc > = right left 1 q esc") {
			s.keys(k)
			look()
			s.now = s.now.Add(time.Second)
			s.send(tickMsg(s.now))
			look()
		}
		s.show(engine.Update{Snapshot: variants(s.m.snap)[1]})
		look()
		// A clear, a return to the alternate screen: all is written again.
		clear := []byte("\x1b[2J\x1b[1;1H")
		x.see(clear)
		last = ""
		look()
	}
}

// FuzzDiff: whatever lines are drawn, both terminals show the same.
func FuzzDiff(f *testing.F) {
	f.Add("plain\n\x1b[0;1mbold\x1b[0m x\n", "plain\n\x1b[0;1mbald\x1b[0m\nnew")
	f.Add("│a│\n▏●\n", "│b│\n▏\x1b[0;7m●\x1b[0m\n")
	f.Add("full line 8\nabcdefgh\n", "full  ine\nabcd\n\n")
	f.Add("日本\nx\n", "日本語\ny\n")
	f.Fuzz(func(t *testing.T, before, after string) {
		const w, h = 12, 4
		clean := func(s string) string {
			lines := strings.Split(s, "\n")
			out := make([]string, h)
			for i := range out {
				var b strings.Builder
				if i < len(lines) {
					n, bold := 0, false
					for _, r := range lines[i] {
						switch {
						case r == '*':
							if bold = !bold; bold {
								b.WriteString("\x1b[0;1;31m")
							} else {
								b.WriteString("\x1b[0m")
							}
						case r >= ' ' && r < 0x7f || r >= 0x2500 && r < 0x25fd:
							if n++; n <= w {
								b.WriteRune(r)
							}
						}
					}
					if bold {
						b.WriteString("\x1b[0m")
					}
				}
				out[i] = b.String()
			}
			return strings.Join(out, "\n")
		}
		before, after = clean(before), clean(after)
		x := newTwins(t, w, h)
		x.see(painted("", before, w))
		x.see(painted(before, after, w))
		x.see(painted(after, before, w))
	})
}

// FuzzDiffBytes: no bytes at all make it fail.
func FuzzDiffBytes(f *testing.F) {
	f.Add([]byte("\x1b[H\rab\x1b[K\r\n\x1b[2;0H"), []byte("\x1b[H\n\x1b[0;1mx\x1b[0m\x1b[2;0H"))
	f.Add([]byte("\x1b[?25l"), []byte("\x1b[H\x1b[J\x1b["))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var d differ
		d.frame(a)
		d.frame(b)
		d.frame(a)
	})
}

// TestIdleBytes: a second in which only the clock moved costs no more than a line
// of plain text, in every view and size.
func TestIdleBytes(t *testing.T) {
	for _, wh := range [][2]int{{80, 24}, {120, 40}, {200, 50}} {
		for _, id := range allViews {
			s := newStage(t, script(2048)).pull().fillLogs().size(wh[0], wh[1])
			s.m.Go(id, "")
			last := s.m.View()
			var d differ
			d.frame(painted("", last, wh[0]))
			total, worst := 0, 0
			const seconds = 3 // then readings of the still picture turn old
			for range seconds {
				s.now = s.now.Add(time.Second)
				s.send(tickMsg(s.now))
				view := s.m.View()
				n := len(d.frame(painted(last, view, wh[0])))
				total, worst, last = total+n, max(worst, n), view
			}
			// A minute may end within: the mean is what the line has to bear.
			if mean := total / seconds; mean > 116 || worst > 300 {
				t.Errorf("%s at %dx%d: %d bytes a second when nothing happens, %d in the worst", id, wh[0], wh[1], mean, worst)
			}
		}
	}
}
