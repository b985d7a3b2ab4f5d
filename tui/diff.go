package tui

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"app.provost/tui/internal/escape"
	"app.provost/tui/widget"
)

// differ makes a frame of bubbletea smaller: where a line was drawn before, only
// the cells from the first to the last that changed are written. bubbletea sends
// whole lines; over a slow line a clock in the header would cost the whole header
// every second.
//
// It believes only what it wrote itself. A line that holds anything but characters
// of one cell and colours goes through as it is: terminals do not agree on how wide
// others are. Every write that is no frame (clear, alternate screen) makes it forget.
type differ struct {
	rows   [][]cell // as the terminal shows them; nil: not known
	next   []cell
	out    []byte
	styles []string // control codes; 0 is none
}

// cell is one place of a line.
type cell struct {
	r     rune
	style uint16 // index into styles
}

// forget is said when something else was written.
func (d *differ) forget() { d.rows = d.rows[:0] }

// frame gives what is to be written instead of p, valid until the next call.
func (d *differ) frame(p []byte) []byte {
	rest, ok := bytes.CutPrefix(p, homeFirst)
	if !ok {
		d.forget()
		return p
	}
	if first, again := bytes.CutPrefix(rest, []byte("\r")); again {
		// The first frame after a clear or a return.
		d.forget()
		rest = first
	}
	d.out = d.out[:0]
	for row := 0; len(rest) > 0; row++ {
		if rest[0] == '\n' { // the line is as it was
			rest = rest[1:]
			continue
		}
		if end, ok := lastMove(rest); ok {
			d.out = append(d.out, end...)
			break
		}
		line := rest
		if i := bytes.Index(rest, []byte("\r\n")); i >= 0 {
			line, rest = rest[:i], rest[i+2:]
		} else {
			i := bytes.LastIndex(rest, []byte("\x1b["))
			if i < 0 {
				d.forget()
				return p
			}
			if _, ok := lastMove(rest[i:]); !ok {
				d.forget()
				return p
			}
			line, rest = rest[:i], rest[i:]
		}
		for len(d.rows) <= row {
			d.rows = append(d.rows, nil)
		}
		if bytes.Contains(line, []byte("\x1b[J")) {
			d.forget()
			return p
		}
		erased, ok := d.parse(line)
		if !ok {
			d.rows[row] = nil
			d.move(row, 0)
			d.out = append(d.out, line...)
			continue
		}
		d.line(row, line, erased)
	}
	return d.out
}

// lastMove tells whether p is the move with which every frame ends, and nothing more.
func lastMove(p []byte) ([]byte, bool) {
	body, ok := bytes.CutPrefix(p, []byte("\x1b["))
	if !ok || len(body) < 2 || body[len(body)-1] != 'H' {
		return nil, false
	}
	for _, c := range body[:len(body)-1] {
		if c != ';' && (c < '0' || c > '9') {
			return nil, false
		}
	}
	return p, true
}

// line writes what changed in a row, and takes d.next as what is there now.
func (d *differ) line(row int, whole []byte, erased bool) {
	old, now := d.rows[row], d.next
	d.rows[row], d.next = now, old
	if old == nil {
		d.move(row, 0)
		d.out = append(d.out, whole...)
		return
	}
	at := func(line []cell, i int) cell {
		if i < len(line) {
			return line[i]
		}
		return cell{r: ' '}
	}
	from, to := 0, max(len(old), len(now))
	for from < to && at(old, from) == at(now, from) {
		from++
	}
	for to > from && at(old, to-1) == at(now, to-1) {
		to--
	}
	if from == to {
		return
	}
	d.move(row, from)
	style := uint16(0)
	for i := from; i < to; i++ {
		c := at(now, i)
		if c.style != style {
			code := escape.Reset
			if c.style != 0 {
				code = d.styles[c.style]
			}
			d.out = append(d.out, code...)
			style = c.style
		}
		if i >= len(now) && erased {
			d.out = append(d.out, "\x1b[K"...)
			break
		}
		d.out = utf8.AppendRune(d.out, c.r)
	}
	if style != 0 {
		d.out = append(d.out, escape.Reset...)
	}
}

func (d *differ) move(row, col int) {
	d.out = append(d.out, "\x1b["...)
	d.out = strconv.AppendInt(d.out, int64(row+1), 10)
	if col > 0 {
		d.out = append(d.out, ';')
		d.out = strconv.AppendInt(d.out, int64(col+1), 10)
	}
	d.out = append(d.out, 'H')
}

// parse reads a drawn line into d.next: characters, colours, and at its end the
// erasing of what is right of it. It tells whether it understood all of it.
func (d *differ) parse(p []byte) (erased, ok bool) {
	d.next = d.next[:0]
	style := uint16(0)
	for len(p) > 0 {
		switch c := p[0]; {
		case c == 0x1b:
			if len(p) < 3 || p[1] != '[' {
				return false, false
			}
			i := 2
			for i < len(p) && (p[i] == ';' || p[i] >= '0' && p[i] <= '9') {
				i++
			}
			switch {
			case i < len(p) && p[i] == 'm' && i > 2 && p[2] == '0' && (i == 3 || p[3] == ';'): // from any state before
				style = d.style(p[:i+1])
				p = p[i+1:]
			case i == 2 && p[i] == 'K' && len(p) == 3:
				return true, style == 0
			default:
				return false, false
			}
		case c < ' ' || c == 0x7f:
			return false, false
		default:
			r, size := utf8.DecodeRune(p)
			if widget.RuneWidth(r) != 1 || r == utf8.RuneError {
				return false, false
			}
			d.next = append(d.next, cell{r, style})
			p = p[size:]
		}
	}
	return false, style == 0
}

// style numbers a control code. There are as many as the theme has looks.
func (d *differ) style(code []byte) uint16 {
	if string(code) == escape.Reset {
		return 0
	}
	for i := 1; i < len(d.styles); i++ {
		if d.styles[i] == string(code) {
			return uint16(i)
		}
	}
	if len(d.styles) == 0 {
		d.styles = append(d.styles, "")
	}
	d.styles = append(d.styles, string(code))
	return uint16(len(d.styles) - 1)
}
