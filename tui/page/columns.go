package page

import (
	"fmt"

	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// chooser is the overlay of key c: which columns a table shows.
type chooser struct {
	title string
	table Table
	at    int
}

func newColumns(title string, t Table) *chooser { return &chooser{title: title, table: t, at: 2} }

func (c *chooser) Render(b *widget.Buffer, _ *Look, r widget.Rect) {
	names := c.table.ColumnNames()
	h := min(len(names)+2, r.H)
	box := widget.Rect{X: r.X + max((r.W-40)/2, 0), Y: r.Y + max((r.H-h)/2, 0), W: min(40, r.W), H: h}
	b.Clear(box)
	in := b.Box(box, "Columns of "+c.title, "")
	b.Foot(box, "space show or hide   esc closes")
	from := max(min(c.at-in.H/2, len(names)-in.H), 0)
	for y := 0; y < in.H && from+y < len(names); y++ {
		i := from + y
		line := in.Line(y)
		if i == c.at {
			b.Rune(line, b.Glyphs.Cursor, theme.Key.S())
		}
		box := "[x]"
		if c.table.Hidden(names[i]) {
			box = "[ ]"
		}
		st := theme.Text.S()
		if i < 2 {
			box, st = " - ", theme.Hint.S()
		}
		b.Text(b.Text(line.Skip(2), box+" ", st), names[i], st)
		if i == c.at {
			b.Mark(line, theme.Selected)
		}
	}
}

func (c *chooser) Key(h Host, key, _ string) {
	names := c.table.ColumnNames()
	switch key {
	case "j", "down":
		c.at = min(c.at+1, len(names)-1)
	case "k", "up":
		c.at = max(c.at-1, 0)
	case " ", "enter", "x":
		if c.at < 2 {
			h.Say("the first two columns stay")
			return
		}
		c.table.Hide(names[c.at], !c.table.Hidden(names[c.at]))
	case "esc", "c", "q":
		h.Close()
	default:
		h.Say(fmt.Sprintf("%s: not a key here, space shows or hides a column", key))
	}
}

func (c *chooser) Paste(Host, string) bool { return false }
func (c *chooser) Sync(Host)               {}
func (c *chooser) Hint() string            { return "j k move  space show or hide  esc closes" }
func (c *chooser) Sudden() bool            { return false }
