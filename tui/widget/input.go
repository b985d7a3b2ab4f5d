package widget

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"app.provost/tui/theme"
)

// Input is one line of text being typed. The zero value is empty. Keys are given
// by their names, as in "ctrl+w"; what it does not know it leaves to its owner.
type Input struct {
	text []rune
	at   int
	Max  int // characters taken; 0: 500
}

// Value is the text.
func (in *Input) Value() string { return string(in.text) }

// Set replaces the text and puts the cursor at its end.
func (in *Input) Set(s string) {
	in.text, in.at = nil, 0
	in.Insert(s)
}

// Insert adds typed or pasted text. Control characters become spaces: a pasted
// line end does not act as enter.
func (in *Input) Insert(s string) {
	limit := in.Max
	if limit == 0 {
		limit = 500
	}
	s = strings.TrimRight(s, "\r\n")
	for _, r := range s {
		if len(in.text) >= limit {
			return
		}
		if unicode.IsControl(r) || r == utf8.RuneError {
			r = ' '
		}
		in.text = append(in.text, 0)
		copy(in.text[in.at+1:], in.text[in.at:])
		in.text[in.at] = r
		in.at++
	}
}

// Key handles an editing key and tells whether it was one.
func (in *Input) Key(name string) bool {
	switch name {
	case "left", "ctrl+b":
		in.at = max(in.at-1, 0)
	case "right", "ctrl+f":
		in.at = min(in.at+1, len(in.text))
	case "home", "ctrl+a":
		in.at = 0
	case "end", "ctrl+e":
		in.at = len(in.text)
	case "backspace", "ctrl+h":
		if in.at > 0 {
			in.text = append(in.text[:in.at-1], in.text[in.at:]...)
			in.at--
		}
	case "delete", "ctrl+d":
		if in.at < len(in.text) {
			in.text = append(in.text[:in.at], in.text[in.at+1:]...)
		}
	case "ctrl+u":
		in.text = append(in.text[:0], in.text[in.at:]...)
		in.at = 0
	case "ctrl+k":
		in.text = in.text[:in.at]
	case "ctrl+w", "alt+backspace":
		i := in.at
		for i > 0 && in.text[i-1] == ' ' {
			i--
		}
		for i > 0 && in.text[i-1] != ' ' {
			i--
		}
		in.text = append(in.text[:i], in.text[in.at:]...)
		in.at = i
	default:
		return false
	}
	return true
}

// Render draws the text with its cursor; a long text is shown around the cursor.
func (in *Input) Render(b *Buffer, r Rect, focus bool) Rect {
	if r.Empty() {
		return r
	}
	from := 0
	for from < in.at && widthOf(in.text[from:in.at]) >= r.W {
		from++
	}
	for i := from; i <= len(in.text); i++ {
		if i == in.at && focus {
			r = b.Rune(r, b.Glyphs.Caret, theme.Key.S())
		}
		if i == len(in.text) || r.W == 0 {
			break
		}
		r = b.Rune(r, in.text[i], theme.Title.S())
	}
	return r
}

func widthOf(s []rune) int {
	n := 0
	for _, r := range s {
		n += RuneWidth(r)
	}
	return n
}
