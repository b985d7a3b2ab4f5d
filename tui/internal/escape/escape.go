// Package escape is the only place of the program that knows terminal control
// sequences. Pure functions: nothing here writes to a terminal.
package escape

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// Color is a terminal colour: Default, one of the 16 named ones, or one of 256.
type Color int16

// Default is the terminal's own colour; Named and Indexed make the others.
const Default Color = 0

// Named is one of the terminal's 16 colours, 0 to 15. The terminal's user chose how they look.
func Named(n int) Color { return Color(n + 1) }

// Indexed is one of the 256 colours, 16 to 255.
func Indexed(n int) Color { return Color(n + 1) }

// Attr is a set of attributes.
type Attr uint8

const (
	Bold Attr = 1 << iota
	Dim
	Underline
	Reverse
)

// Reset ends all attributes and colours.
const Reset = "\x1b[0m"

// SGR gives the sequence that sets exactly these, from any state before. With
// nothing to set it is Reset.
func SGR(fg, bg Color, a Attr) string {
	var b strings.Builder
	b.WriteString("\x1b[0")
	for i, code := range [...]string{";1", ";2", ";4", ";7"} {
		if a&(1<<i) != 0 {
			b.WriteString(code)
		}
	}
	color := func(c Color, base, bright int, ext string) {
		switch n := int(c) - 1; {
		case n < 0:
		case n < 8:
			b.WriteByte(';')
			b.WriteString(strconv.Itoa(base + n))
		case n < 16:
			b.WriteByte(';')
			b.WriteString(strconv.Itoa(bright + n - 8))
		default:
			b.WriteString(ext)
			b.WriteString(strconv.Itoa(n))
		}
	}
	color(fg, 30, 90, ";38;5;")
	color(bg, 40, 100, ";48;5;")
	b.WriteByte('m')
	return b.String()
}

// SyncBegin and SyncEnd enclose a frame that the terminal should show at once (mode 2026).
const (
	SyncBegin = "\x1b[?2026h"
	SyncEnd   = "\x1b[?2026l"
)

// AskSync asks whether the terminal knows mode 2026; AskDone is a question that
// every terminal answers, so that silence about the first is told from slowness.
const (
	AskSync = "\x1b[?2026$p"
	AskDone = "\x1b[c"
)

// SyncKnown tells whether the answer to AskSync says that the mode can be set.
func SyncKnown(answer string) bool {
	_, rest, ok := strings.Cut(answer, "\x1b[?2026;")
	return ok && rest != "" && (rest[0] == '1' || rest[0] == '2')
}

// RestoreAll brings a terminal back from everything that a screen may have set:
// synchronized output, focus reports, mouse, bracketed paste, hidden cursor,
// colours, alternate screen.
const RestoreAll = SyncEnd + "\x1b[?1004l\x1b[?1006l\x1b[?1003l\x1b[?1002l\x1b[?2004l\x1b[?25h" + Reset + "\x1b[?1049l"

// PushTitle and PopTitle keep and give back the window's title.
const (
	PushTitle = "\x1b[22;2t"
	PopTitle  = "\x1b[23;2t"
)

// Title sets the window title. Control characters are left out.
func Title(s string) string { return "\x1b]2;" + plain(s) + "\x07" }

func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

// CopyLimit is how many bytes a terminal takes in one clipboard sequence.
const CopyLimit = 74_000

// Wrapping says what stands between us and the terminal.
type Wrapping int

const (
	Bare Wrapping = iota
	Tmux
	Screen
)

// Copy puts text on the clipboard of the terminal (OSC 52). Nobody answers:
// success cannot be known. Empty when the text is too long.
func Copy(text string, w Wrapping) string {
	if len(text) > CopyLimit {
		return ""
	}
	seq := "\x1b]52;c;" + base64.StdEncoding.EncodeToString([]byte(text)) + "\x07"
	switch w {
	case Tmux:
		return "\x1bPtmux;" + strings.ReplaceAll(seq, "\x1b", "\x1b\x1b") + "\x1b\\"
	case Screen:
		// screen forwards strings of less than 768 bytes, so the sequence goes in pieces.
		var b strings.Builder
		for len(seq) > 0 {
			n := min(len(seq), 240)
			b.WriteString("\x1bP")
			b.WriteString(seq[:n])
			b.WriteString("\x1b\\")
			seq = seq[n:]
		}
		return b.String()
	}
	return seq
}
