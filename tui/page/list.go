package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// list is a view of one table: movement, marks, sort, filter, columns, a detail
// that opens at the right of the table or instead of it. A view embeds it and
// fills in what is its own.
type list struct {
	id    ID
	title string // "Workers"
	tab   *widget.Table
	// there tells whether the part is configured at all.
	there func(s *engine.Snapshot) bool
	// about draws aboutLines lines below the table: units, what is under the cursor.
	about      func(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row)
	aboutLines int
	// detail draws one row at length.
	detail func(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row)
	// head draws lines below the heading and says how many; counts gives the rows there
	// would be without a filter, where the view leaves some of the table's out.
	head   func(b *widget.Buffer, l *Look, r widget.Rect) int
	counts func() int
	// label and copied name a row in headings and for the clipboard; nil: by its ID.
	label, copied func(row engine.Row) string
	// none draws what was looked for and what to do, when there are no rows.
	none   func(b *widget.Buffer, l *Look, r widget.Rect)
	legend []string

	filter string
	open   bool
	now    time.Time
	binds  []Binding
}

func (p *list) ID() ID              { return p.id }
func (p *list) Bindings() []Binding { return p.binds }
func (p *list) Legend() []string    { return p.legend }
func (p *list) Filter() string      { return p.filter }

func (p *list) Sync(l *Look) string {
	p.now = l.Now
	return p.tab.Sync(l.Snap, l.Now)
}

// SetFilter takes a filter expression, "" for all rows.
func (p *list) SetFilter(expr string) error {
	expr = strings.TrimSpace(expr)
	if expr == "" {
		p.filter = ""
		p.tab.SetFilter(nil)
		return nil
	}
	f, err := engine.CompileFilter(p.tab.Of(), expr)
	if err != nil {
		return err
	}
	p.filter = expr
	p.tab.SetFilter(f)
	return nil
}

// Back leaves the detail, then the marks, then the filter.
func (p *list) Back() bool {
	switch {
	case p.open:
		p.open = false
	case p.tab.Marks() > 0:
		p.tab.Unmark()
	case p.filter != "":
		p.filter = ""
		p.tab.SetFilter(nil)
	default:
		return false
	}
	return true
}

func (p *list) ColumnNames() []string { return p.tab.Names() }

func (p *list) Sort(column string, reverse bool) error {
	keys, err := p.tab.Of().ParseSort(column)
	if err != nil {
		return err
	}
	p.tab.SortBy, p.tab.Reverse = keys[0].Column.Name, reverse != keys[0].Reverse // ParseSort knows -column
	p.tab.Changed()
	return nil
}

func (p *list) Sorted() (string, bool)        { return p.tab.SortBy, p.tab.Reverse }
func (p *list) Hide(column string, hide bool) { p.tab.Hide(column, hide) }
func (p *list) Hidden(column string) bool     { return p.tab.Hidden(column) }
func (p *list) Move(rows int, now time.Time)  { p.tab.Move(rows, now) }
func (p *list) PageRows() int                 { return p.tab.Page() }
func (p *list) name(row engine.Row) string {
	if p.label != nil {
		return p.label(row)
	}
	return p.tab.Of().ID(row)
}

// whole is what copying a row gives.
func (p *list) whole(row engine.Row) string {
	if p.copied != nil {
		return p.copied(row)
	}
	return p.tab.Of().ID(row)
}

func (p *list) noRow(*Look) string {
	if p.tab.Current() == nil {
		return "no row here"
	}
	return ""
}

// bindings makes the key table: own keys of the view and those of every table.
func (p *list) bindings(own ...Binding) {
	empty := p.noRow
	move := func(n func() int) func(Host) {
		return func(h Host) { p.tab.Move(n(), h.Look().Now) }
	}
	fixed := func(n int) func() int { return func() int { return n } }
	copyRow := func(h Host) {
		if row := p.tab.Current(); row != nil {
			h.Copy(p.name(row), p.whole(row))
		}
	}
	copyJSON := func(h Host) {
		row := p.tab.Current()
		if row == nil {
			return
		}
		raw, err := json.MarshalIndent(row, "", "  ")
		if err != nil {
			h.Say("copy: " + err.Error())
			return
		}
		h.Copy(p.name(row)+" as JSON", string(raw))
	}
	p.binds = append(own,
		Binding{Name: "move.down", Key: Keys("j k ↓ ↑", "line", "j", "down"), Group: GroupMove, Do: move(fixed(1))},
		Binding{Name: "move.up", Key: Keys("", "", "k", "up"), Do: move(fixed(-1))},
		Binding{Name: "move.half-down", Key: Keys("ctrl+d ctrl+u", "half page", "ctrl+d"), Group: GroupMove, Do: move(func() int { return max(p.tab.Page()/2, 1) })},
		Binding{Name: "move.half-up", Key: Keys("", "", "ctrl+u"), Do: move(func() int { return -max(p.tab.Page()/2, 1) })},
		Binding{Name: "move.page-down", Key: Keys("pgdn pgup", "page", "pgdown", "ctrl+f"), Group: GroupMove, Do: move(func() int { return p.tab.Page() })},
		Binding{Name: "move.page-up", Key: Keys("", "", "pgup", "ctrl+b"), Do: move(func() int { return -p.tab.Page() })},
		Binding{Name: "move.first", Key: Keys("g G home end", "first, last", "g", "home"), Group: GroupMove, Do: move(fixed(-1 << 30))},
		Binding{Name: "move.last", Key: Keys("", "", "G", "end"), Do: move(fixed(1 << 30))},
		Binding{Name: "move.left", Key: Keys("← →", "columns", "left"), Group: GroupMove, Do: func(Host) { p.tab.Scroll(-1) }},
		Binding{Name: "move.right", Key: Keys("", "", "right"), Do: func(Host) { p.tab.Scroll(1) }},
		Binding{Name: "search.next", Key: Keys("", "", "n"), Do: func(h Host) { p.tab.Move(1, h.Look().Now) }, Off: func(*Look) string {
			if p.filter == "" {
				return "no filter is set, / sets one"
			}
			return ""
		}},
		Binding{Name: "search.previous", Key: Keys("", "", "N"), Do: func(h Host) { p.tab.Move(-1, h.Look().Now) }, Off: func(*Look) string {
			if p.filter == "" {
				return "no filter is set, / sets one"
			}
			return ""
		}},
		Binding{Name: "open", Key: Keys("enter d", "detail", "enter", "d"), Group: GroupView, Hint: 1, Off: empty, Do: func(Host) { p.open = !p.open || p.detail == nil }},
		Binding{Name: "mark", Key: Keys("space", "mark one", " "), Brief: "mark", Hint: 3, Group: GroupView, Off: empty, Do: func(h Host) { p.tab.Mark(h.Look().Now) }},
		Binding{Name: "mark.range", Key: Keys("", "mark a range", "v"), Group: GroupView, Off: empty, Do: func(h Host) {
			if p.tab.Range() {
				h.Say("marking a range: move, then v again")
			} else {
				h.Say(fmt.Sprintf("%d marked", p.tab.Marks()))
			}
		}},
		Binding{Name: "mark.shown", Key: Keys("* U", "mark all shown, none", "*"), Group: GroupView, Off: empty, Do: func(h Host) {
			p.tab.MarkShown()
			h.Say(fmt.Sprintf("%d marked", p.tab.Marks()))
		}},
		Binding{Name: "unmark", Key: Keys("", "", "U"), Do: func(Host) { p.tab.Unmark() }},
		Binding{Name: "sort.left", Key: Keys("< > =", "sort column, reverse", "<"), Brief: "> = sort", Group: GroupView, Hint: 8, Do: func(h Host) { p.tab.NextSort(-1); h.Resort() }},
		Binding{Name: "sort.right", Key: Keys("", "", ">"), Do: func(h Host) { p.tab.NextSort(1); h.Resort() }},
		Binding{Name: "sort.reverse", Key: Keys("", "", "="), Do: func(h Host) { p.tab.Reverse = !p.tab.Reverse; p.tab.Changed(); h.Resort() }},
		Binding{Name: "columns", Key: Keys("", "choose columns", "c"), Group: GroupView, Do: func(h Host) { h.Open(newColumns(p.title, p)) }},
		Binding{Name: "copy", Key: Keys("y Y", "copy, copy as JSON", "y"), Group: GroupView, Off: empty, Do: copyRow},
		Binding{Name: "copy.json", Key: Keys("", "", "Y"), Off: empty, Do: copyJSON},
	)
}

// Render draws the heading, the table, what is under the cursor, and the detail.
func (p *list) Render(b *widget.Buffer, l *Look, r widget.Rect) {
	p.now = l.Now
	if r.Empty() {
		return
	}
	there := p.there == nil || p.there(l.Snap)
	shown, all := p.tab.Count()
	if p.counts != nil {
		all = p.counts()
	}
	row := p.tab.Current()
	if p.open && row != nil && p.detail != nil && r.W < 120 {
		b.Text(b.Text(r.Line(0).In(1), p.title+" > ", theme.Hint.S()), p.name(row), theme.Title.S())
		b.Right(r.Line(0).In(1), "esc back", theme.Hint.S())
		p.detail(b, l, r.Below(2).In(1), row)
		return
	}
	head := r.Line(0).In(1)
	rest := b.Text(head, p.title, theme.Title.S())
	rest = b.Text(rest, "  ", theme.Text.S())
	switch {
	case !l.Ready():
		b.Text(rest, "?", theme.Unknown.S())
	case !there || all == 0:
		b.Text(rest, "none", theme.Hint.S())
	default:
		rest = b.Text(rest, Thousands(all), theme.Text.S())
		if p.filter != "" {
			rest = b.Text(b.Text(rest, "   filter: ", theme.Hint.S()), p.filter, theme.Key.S())
			rest = b.Text(rest, fmt.Sprintf("   %s shown", Thousands(shown)), theme.Text.S())
		}
	}
	side := ""
	if n := p.tab.Marks(); n > 0 {
		side = fmt.Sprintf("marked %d   ", n)
	}
	if p.tab.SortBy != "" && all > 0 {
		arrow := b.Glyphs.Up
		if p.tab.Reverse {
			arrow = b.Glyphs.Down
		}
		side += "sort " + p.tab.SortTitle() + string(arrow)
	}
	if w := widget.Width(side); w+2 < rest.W {
		b.Right(head, side, theme.Hint.S())
	}
	body := r.Below(1)
	if p.head != nil && l.Ready() {
		body = body.Below(p.head(b, l, body))
	}
	if all == 0 {
		if p.none != nil {
			p.none(b, l, body.Below(1).In(1))
		}
		return
	}
	if p.open && row != nil && p.detail != nil {
		left := max(body.W-max(body.W*2/5, 58), 60)
		side := widget.Rect{X: body.X + left, Y: body.Y, W: body.W - left, H: body.H}
		p.detail(b, l, b.Box(side, p.name(row), "esc closes").In(1), row)
		body.W = left
	}
	if shown == 0 {
		p.tab.Render(b, body.Top(1), l.Now)
		b.Text(body.Below(2).Line(0).In(1), "No row matches. esc shows all again.", theme.Hint.S())
		return
	}
	about := 0
	if p.about != nil && body.H >= p.aboutLines+5 {
		about = min(p.aboutLines, body.H-1-min(shown, body.H-1-p.aboutLines)-1)
		about = max(about, p.aboutLines)
	}
	table := body.Top(body.H - about)
	p.tab.Render(b, table, l.Now)
	if n := p.tab.Cut(); n > 0 && rest.W > widget.Width(side)+18 && side != "" {
		b.Right(widget.Rect{X: rest.X, Y: rest.Y, W: rest.W - widget.Width(side) - 3, H: 1}, fmt.Sprintf("%d more %c", n, b.Glyphs.Right), theme.Hint.S())
	}
	if about > 0 {
		// Directly below the rows where they leave room, at the end otherwise.
		y := min(1+shown+1, table.H)
		at := widget.Rect{X: body.X, Y: body.Y + y, W: body.W, H: body.H - y}
		p.about(b, l, at.In(1), row)
	}
}

// fact draws "name  value" with the names in one column.
func fact(b *widget.Buffer, r widget.Rect, name string) widget.Rect {
	b.Text(r.Top(1), name, theme.Hint.S())
	return r.Top(1).Skip(10)
}

// Current is the row under the cursor, nil when there is none.
func (p *list) Current() engine.Row { return p.tab.Current() }

// Export writes the shown rows and columns as CSV.
func (p *list) Export(l *Look, w *bytes.Buffer) (kind string, rows int) {
	cols, shown := p.tab.Showing()
	// A buffer takes everything.
	_ = engine.WriteCSV(w, cols, shown, l.Now, visible)
	return "csv", len(shown)
}
