// Package widget draws: a buffer of cells with prepared colour codes, text that
// never leaves its rectangle, tables that make only visible rows into text, and
// a line of input. Nothing here knows an engine's state or what a key does.
//
// A Buffer belongs to one goroutine. Drawing into it allocates nothing once it
// has its size; String makes one string per frame.
package widget

import (
	"strconv"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"

	"app.provost/tui/internal/escape"
	"app.provost/tui/theme"
)

// Rect is a part of the buffer. Nothing drawn through it leaves it.
type Rect struct{ X, Y, W, H int }

// Line is the rectangle's row i as a rectangle of its own; empty when there is none.
func (r Rect) Line(i int) Rect {
	if i < 0 || i >= r.H {
		return Rect{X: r.X, Y: r.Y}
	}
	return Rect{r.X, r.Y + i, r.W, 1}
}

// Below leaves out the first n rows.
func (r Rect) Below(n int) Rect {
	n = min(max(n, 0), r.H)
	return Rect{r.X, r.Y + n, r.W, r.H - n}
}

// Top keeps the first n rows.
func (r Rect) Top(n int) Rect {
	r.H = min(max(n, 0), r.H)
	return r
}

// In leaves out n cells at the left and at the right.
func (r Rect) In(n int) Rect {
	n = min(n, r.W/2)
	return Rect{r.X + n, r.Y, r.W - 2*n, r.H}
}

// Columns cuts the rectangle into n parts of nearly equal width, without gaps.
func (r Rect) Columns(n int) []Rect {
	out := make([]Rect, n)
	x := r.X
	for i := range out {
		w := (r.W*(i+1))/n - (r.W*i)/n
		out[i] = Rect{x, r.Y, w, r.H}
		x += w
	}
	return out
}

// Empty tells whether nothing fits.
func (r Rect) Empty() bool { return r.W <= 0 || r.H <= 0 }

type cell struct {
	r     rune // 0: the right half of a wide character
	style theme.Style
}

// Buffer is the screen as cells. Glyphs and Theme are set by its owner.
type Buffer struct {
	Theme  *theme.Theme
	Glyphs *theme.Glyphs
	// Fade is added to everything drawn from now on: used for what is not fresh.
	Fade bool

	w, h  int
	cells []cell
	out   []byte
	num   [32]byte
}

// NewBuffer makes a buffer without a size; see Resize.
func NewBuffer(t *theme.Theme, g *theme.Glyphs) *Buffer { return &Buffer{Theme: t, Glyphs: g} }

// Resize sets the size and clears. Sizes are held between 0 and 1,000.
func (b *Buffer) Resize(w, h int) {
	b.w, b.h = min(max(w, 0), 1000), min(max(h, 0), 1000)
	if n := b.w * b.h; cap(b.cells) < n {
		b.cells = make([]cell, n)
	} else {
		b.cells = b.cells[:n]
	}
	b.Clear(b.All())
	b.Fade = false
}

// All is the whole buffer.
func (b *Buffer) All() Rect { return Rect{0, 0, b.w, b.h} }

// Clear fills a rectangle with plain spaces.
func (b *Buffer) Clear(r Rect) { b.Fill(r, ' ', theme.Text.S()) }

// Fill fills a rectangle with one character.
func (b *Buffer) Fill(r Rect, ch rune, s theme.Style) {
	if b.Fade {
		s = s.With(theme.Faded)
	}
	for y := max(r.Y, 0); y < min(r.Y+r.H, b.h); y++ {
		row := b.cells[y*b.w : (y+1)*b.w]
		for x := max(r.X, 0); x < min(r.X+r.W, b.w); x++ {
			row[x] = cell{ch, s}
		}
	}
}

// Mark adds a modification to everything in a rectangle, as for the chosen row.
func (b *Buffer) Mark(r Rect, m theme.Mod) {
	for y := max(r.Y, 0); y < min(r.Y+r.H, b.h); y++ {
		row := b.cells[y*b.w : (y+1)*b.w]
		for x := max(r.X, 0); x < min(r.X+r.W, b.w); x++ {
			row[x].style = row[x].style.With(m)
		}
	}
}

// RuneWidth is the one width function of the program: cells of a character on a
// terminal that counts ambiguous characters as one. Control characters are 0.
func RuneWidth(r rune) int {
	switch {
	case r < ' ' || r >= 0x7f && r < 0xa0:
		return 0
	case r < 0x300, r >= 0x2500 && r <= 0x25fc:
		return 1
	}
	return ansi.StringWidth(string(r))
}

// Width is the number of cells of a text.
func Width(s string) int {
	n := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= ' ' && c != 0x7f {
				n++
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		n += RuneWidth(r)
		i += size
	}
	return n
}

// put draws one character at x,y if it is inside r; it gives the cells used, or
// -1 when it does not fit. Control characters and combining marks are dropped:
// text from outside cannot move the cursor or break a column.
func (b *Buffer) put(r Rect, x, y int, ch rune, s theme.Style) int {
	w := RuneWidth(ch)
	if w == 0 {
		return 0
	}
	if x+w > r.X+r.W || x+w > b.w {
		return -1
	}
	if x < r.X || x < 0 {
		return w
	}
	i := y*b.w + x
	b.cells[i] = cell{ch, s}
	if w == 2 {
		b.cells[i+1] = cell{0, s}
	}
	return w
}

// Text draws a text on the first line of r, cut with an ellipsis when it is too
// long. It returns what is left of the line at its right.
func (b *Buffer) Text(r Rect, s string, st theme.Style) Rect {
	x := b.draw(r, s, st)
	return Rect{x, r.Y, max(r.X+r.W-x, 0), r.H}
}

// Bytes is Text for a scratch buffer of bytes.
func (b *Buffer) Bytes(r Rect, s []byte, st theme.Style) Rect {
	if r.Empty() || r.Y < 0 || r.Y >= b.h {
		return r
	}
	if b.Fade {
		st = st.With(theme.Faded)
	}
	x, end := r.X, r.X+r.W
	for i := 0; i < len(s); {
		ch, size := rune(s[i]), 1
		if ch >= utf8.RuneSelf {
			ch, size = utf8.DecodeRune(s[i:])
		}
		n := b.put(r, x, r.Y, ch, st)
		if n < 0 {
			b.cut(r, end, st)
			return Rect{end, r.Y, 0, r.H}
		}
		x += n
		i += size
	}
	return Rect{x, r.Y, max(end-x, 0), r.H}
}

func (b *Buffer) draw(r Rect, s string, st theme.Style) int {
	if r.Empty() || r.Y < 0 || r.Y >= b.h {
		return r.X
	}
	if b.Fade {
		st = st.With(theme.Faded)
	}
	x, end := r.X, r.X+r.W
	for _, ch := range s {
		n := b.put(r, x, r.Y, ch, st)
		if n < 0 {
			b.cut(r, end, st)
			return end
		}
		x += n
	}
	return x
}

// cut marks the last cell of a line as cut.
func (b *Buffer) cut(r Rect, end int, st theme.Style) {
	x := min(end, b.w) - 1
	if x < r.X || x < 0 {
		return
	}
	i := r.Y*b.w + x
	if b.cells[i].r == 0 && x > 0 {
		b.cells[i-1].r = ' '
	}
	b.cells[i] = cell{b.Glyphs.Ellipsis, st}
}

// Right draws a text at the right end of r's first line; too long, it is cut at its end.
func (b *Buffer) Right(r Rect, s string, st theme.Style) {
	if w := Width(s); w < r.W {
		r.X, r.W = r.X+r.W-w, w
	}
	b.Text(r, s, st)
}

// Int draws a number without allocating.
func (b *Buffer) Int(r Rect, n int, st theme.Style) Rect {
	return b.Bytes(r, strconv.AppendInt(b.num[:0], int64(n), 10), st)
}

// Rune draws one character.
func (b *Buffer) Rune(r Rect, ch rune, st theme.Style) Rect {
	if r.Empty() || r.Y < 0 || r.Y >= b.h {
		return r
	}
	if b.Fade {
		st = st.With(theme.Faded)
	}
	n := b.put(r, r.X, r.Y, ch, st)
	if n < 0 {
		return r
	}
	return Rect{r.X + n, r.Y, max(r.W-n, 0), r.H}
}

// Skip leaves n cells free.
func (r Rect) Skip(n int) Rect {
	n = min(n, r.W)
	return Rect{r.X + n, r.Y, r.W - n, r.H}
}

// Box draws a frame with a title at the left and a note at the right of its top
// line, and returns the inside.
func (b *Buffer) Box(r Rect, title, note string) Rect {
	if r.W < 2 || r.H < 2 {
		return Rect{r.X, r.Y, 0, 0}
	}
	g, st := b.Glyphs, theme.Frame.S()
	b.Fill(Rect{r.X + 1, r.Y, r.W - 2, 1}, g.H, st)
	b.Fill(Rect{r.X + 1, r.Y + r.H - 1, r.W - 2, 1}, g.H, st)
	b.Fill(Rect{r.X, r.Y + 1, 1, r.H - 2}, g.V, st)
	b.Fill(Rect{r.X + r.W - 1, r.Y + 1, 1, r.H - 2}, g.V, st)
	b.Fill(Rect{r.X, r.Y, 1, 1}, g.TL, st)
	b.Fill(Rect{r.X + r.W - 1, r.Y, 1, 1}, g.TR, st)
	b.Fill(Rect{r.X, r.Y + r.H - 1, 1, 1}, g.BL, st)
	b.Fill(Rect{r.X + r.W - 1, r.Y + r.H - 1, 1, 1}, g.BR, st)
	if title != "" && r.W > 6 {
		left := Rect{r.X + 2, r.Y, r.W - 4, 1}
		rest := b.Text(b.Text(left, " ", st), title, theme.Title.S())
		rest = b.Text(rest, " ", st)
		if nw := Width(note); note != "" && nw+4 <= rest.W {
			at := Rect{r.X + r.W - nw - 4, r.Y, nw + 2, 1}
			b.Text(b.Text(b.Text(at, " ", st), note, theme.Hint.S()), " ", st)
		}
	}
	return Rect{r.X + 1, r.Y + 1, r.W - 2, r.H - 2}
}

// Foot writes on the lower line of a box.
func (b *Buffer) Foot(r Rect, text string) {
	if r.H < 2 || r.W < 8 || text == "" {
		return
	}
	at := Rect{r.X + 2, r.Y + r.H - 1, r.W - 4, 1}
	at = b.Text(at, " ", theme.Frame.S())
	at = b.Text(at, text, theme.Hint.S())
	b.Text(at, " ", theme.Frame.S())
}

// Spark draws the newest values as bars, the last at the right end; nil values
// are a gap. The scale goes from 0 to top, or to the largest value if top is 0.
func (b *Buffer) Spark(r Rect, values []*float64, top float64, st theme.Style) Rect {
	if r.Empty() {
		return r
	}
	if len(values) > r.W {
		values = values[len(values)-r.W:]
	}
	if top <= 0 {
		for _, v := range values {
			if v != nil {
				top = max(top, *v)
			}
		}
	}
	bars := b.Glyphs.Bars
	for _, v := range values {
		ch := ' '
		if v != nil {
			ch = bars[0]
			if top > 0 {
				ch = bars[min(max(int(*v/top*float64(len(bars))), 0), len(bars)-1)]
			}
		}
		r = b.Rune(r, ch, st)
	}
	return r
}

// Bar draws a part of a whole over the width of r.
func (b *Buffer) Bar(r Rect, part float64, st theme.Style) {
	part = min(max(part, 0), 1)
	full := int(part*float64(r.W) + 0.5)
	b.Fill(Rect{r.X, r.Y, full, min(r.H, 1)}, b.Glyphs.Full, st)
	b.Fill(Rect{r.X + full, r.Y, r.W - full, min(r.H, 1)}, b.Glyphs.Empty, theme.Frame.S())
}

// String is the frame: exactly as many lines as the buffer is high, trailing
// plain spaces left out, each line ending with attributes off.
func (b *Buffer) String() string {
	out := b.out[:0]
	plain := theme.Text.S()
	for y := range b.h {
		if y > 0 {
			out = append(out, '\n')
		}
		row := b.cells[y*b.w : (y+1)*b.w]
		n := len(row)
		for n > 0 && row[n-1].r == ' ' && (row[n-1].style == plain || row[n-1].style == plain.With(theme.Faded)) {
			n--
		}
		cur, colored := plain, false
		for _, c := range row[:n] {
			if c.r == 0 {
				continue
			}
			if c.style != cur || !colored && b.Theme.Code(cur) != plainCode {
				out = append(out, b.Theme.Code(c.style)...)
				cur, colored = c.style, true
			}
			if c.r < utf8.RuneSelf {
				out = append(out, byte(c.r))
			} else {
				out = utf8.AppendRune(out, c.r)
			}
		}
		if colored {
			out = append(out, escape.Reset...)
		}
	}
	b.out = out
	return string(out)
}

// plainCode is what a line starts with.
const plainCode = escape.Reset

// Lines gives the characters without colours, trailing spaces cut: for tests and captures.
func (b *Buffer) Lines() []string {
	out := make([]string, b.h)
	for y := range b.h {
		var line []rune
		for _, c := range b.cells[y*b.w : (y+1)*b.w] {
			if c.r != 0 {
				line = append(line, c.r)
			}
		}
		for len(line) > 0 && line[len(line)-1] == ' ' {
			line = line[:len(line)-1]
		}
		out[y] = string(line)
	}
	return out
}

// StyleAt is the style of a cell, for tests.
func (b *Buffer) StyleAt(x, y int) theme.Style { return b.cells[y*b.w+x].style }

// Cut keeps the first n cells of the rectangle's width.
func (r Rect) Cut(n int) Rect {
	r.W = min(max(n, 0), r.W)
	return r
}

// Wrap sets words in lines of a width; a word that is wider is cut. There is at least one line.
func Wrap(words []string, width int) []string {
	var out []string
	line := ""
	for _, word := range words {
		for Width(word) > width {
			if line != "" {
				out, line = append(out, line), ""
			}
			n, w := 0, 0
			for i, r := range word {
				if w += RuneWidth(r); w > width {
					break
				}
				n = i + len(string(r))
			}
			if n == 0 {
				return append(out, word)
			}
			out = append(out, word[:n])
			word = word[n:]
		}
		switch {
		case line == "":
			line = word
		case Width(line)+1+Width(word) <= width:
			line += " " + word
		default:
			out, line = append(out, line), word
		}
	}
	if line != "" || len(out) == 0 {
		out = append(out, line)
	}
	return out
}
