package escape

import (
	"strings"
	"testing"
)

func TestSGR(t *testing.T) {
	for _, c := range []struct {
		fg, bg Color
		a      Attr
		want   string
	}{
		{0, 0, 0, Reset}, {Named(1), 0, Bold, "\x1b[0;1;31m"}, {Named(9), Named(12), 0, "\x1b[0;91;104m"},
		{Indexed(214), 0, Dim | Underline | Reverse, "\x1b[0;2;4;7;38;5;214m"}, {Named(0), 0, 0, "\x1b[0;30m"},
	} {
		if got := SGR(c.fg, c.bg, c.a); got != c.want {
			t.Errorf("%v: %q, want %q", c, got, c.want)
		}
	}
}

func TestCopy(t *testing.T) {
	if got := Copy("hi", Bare); got != "\x1b]52;c;aGk=\x07" {
		t.Errorf("bare: %q", got)
	}
	if got := Copy("hi", Tmux); got != "\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\" {
		t.Errorf("tmux: %q", got)
	}
	long := Copy(strings.Repeat("x", 2000), Screen)
	for part := range strings.SplitSeq(strings.TrimSuffix(long, "\x1b\\"), "\x1b\\") {
		if len(part) > 760 || !strings.HasPrefix(part, "\x1bP") {
			t.Errorf("screen: a part of %d bytes that begins %q", len(part), part[:4])
		}
	}
	if Copy(strings.Repeat("x", CopyLimit+1), Bare) != "" {
		t.Error("too long a text was not refused")
	}
}

func TestTitleHasNoControls(t *testing.T) {
	if got := Title("a\x1b]2;b\x07\n\u0085c"); got != "\x1b]2;a]2;bc\x07" {
		t.Errorf("%q", got)
	}
}

func TestSyncKnown(t *testing.T) {
	for answer, want := range map[string]bool{"\x1b[?2026;2$y\x1b[?62;c": true, "\x1b[?2026;1$y": true, "\x1b[?2026;0$y\x1b[?1;2c": false, "\x1b[?2026;4$y": false, "\x1b[?1;2c": false, "": false} {
		if SyncKnown(answer) != want {
			t.Errorf("%q: not %v", answer, want)
		}
	}
}
