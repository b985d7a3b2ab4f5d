package page

import (
	"fmt"
	"time"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// alerts is view 8: what is wrong, its effect, what to press; and who did what.
type alerts struct {
	list
	history bool // closed ones too
}

func newAlerts() *alerts {
	p := &alerts{}
	table, _ := engine.TableNamed(string(engine.TableAlerts))
	p.list = list{
		id: Alerts, title: "Alerts",
		there:  func(s *engine.Snapshot) bool { return s.Alerts != nil },
		detail: p.drawDetail,
		legend: []string{
			"!! CRIT work is being lost now",
			"!  WARN will become critical, or a spare is gone",
			"i  NOTE something changed",
			"N how often   ACK who has seen it",
			"A mute is timed; the alert stays open.",
		},
	}
	p.tab = widget.NewTable(table,
		widget.Layout{Name: "level", Width: 6, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			f := row.(*engine.Finding)
			if f.ClosedAt != nil {
				c.Role = theme.Idle
				c.Str("ok closed")
				return
			}
			c.Role = theme.OfLevel(f.Level)
			c.Str(levelWord(f.Level))
		}},
		widget.Layout{Name: "since", Width: 11, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			c.Str(Clock(row.(*engine.Finding).Since, p.now))
		}},
		widget.Layout{Name: "age", Width: 4},
		widget.Layout{Name: "what", Width: 30, Flex: true, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			f := row.(*engine.Finding)
			if f.MuteUntil != nil && f.MuteUntil.After(p.now) {
				c.Role = theme.Idle
				c.Str("muted ").Str(Age(f.MuteUntil.Sub(p.now))).Str(": ")
			}
			c.Str(f.Title)
		}},
		widget.Layout{Name: "n", Width: 4},
		widget.Layout{Name: "ack", Width: 8},
		widget.Layout{Name: "target", Width: 14, Extra: true},
		widget.Layout{Name: "host", Width: 8, Extra: true},
	)
	p.tab.Identity = func(row engine.Row) engine.Key {
		f := row.(*engine.Finding)
		k := f.Key
		k.ID = f.ID
		return k
	}
	p.tab.Where = p.wanted
	ids := func() []string {
		var out []string
		for _, r := range p.tab.Marked() {
			if f := r.(*engine.Finding); f.ClosedAt == nil {
				out = append(out, f.ID)
			}
		}
		return out
	}
	off := func(*Look) string {
		if f, ok := p.tab.Current().(*engine.Finding); !ok || f.ClosedAt != nil {
			return "no open alert here"
		}
		return ""
	}
	p.bindings(
		Binding{Name: "alert.ack", Key: Keys("", "acknowledge", "a"), Brief: "ack", Hint: 2, Group: GroupView, Act: true, Off: off, Do: func(h Host) { h.Act(engine.AckAlerts{IDs: ids()}) }},
		Binding{Name: "alert.ack-all", Key: Keys("", "acknowledge all", "A"), Brief: "ack all", Hint: 3, Group: GroupView, Act: true, Off: off, Do: func(h Host) { h.Act(engine.AckAlerts{IDs: []string{"all"}}) }},
		Binding{Name: "alert.mute", Key: Keys("", "mute for 1h", "m"), Brief: "mute 1h", Hint: 4, Group: GroupView, Act: true, Off: off, Do: func(h Host) {
			h.Act(engine.MuteAlerts{IDs: ids(), For: engine.Duration(time.Hour)})
		}},
		Binding{Name: "alert.history", Key: Keys("", "closed ones too, or not", "o"), Brief: "history", Hint: 5, Group: GroupView, Do: func(h Host) {
			p.history = !p.history
			p.tab.Changed()
			h.Resort()
		}},
		Binding{Name: "alert.where", Key: Keys("", "go where it is", "."), Brief: "where", Group: GroupView, Off: p.noRow, Do: func(h Host) {
			f := p.tab.Current().(*engine.Finding)
			switch kind, name := cutTarget(f.Target); kind {
			case "worker":
				h.Go(Workers, "id:"+name)
			case "gpu":
				h.Go(GPUs, "host:"+f.Key.Machine)
			case "host", "machine":
				h.Go(Hosts, "host:"+f.Key.Machine)
			case "job":
				h.Go(Jobs, "id:"+name)
			default:
				h.Say("this alert has no place in a view: " + f.Target)
			}
		}},
	)
	return p
}

func cutTarget(t string) (kind, name string) {
	for i := range t {
		if t[i] == '/' {
			return t[:i], t[i+1:]
		}
	}
	return "", t
}

func levelWord(l engine.Level) string {
	switch l {
	case engine.LevelCrit:
		return "!!CRIT"
	case engine.LevelWarn:
		return "! WARN"
	case engine.LevelOK:
		return "ok"
	case engine.LevelNote:
		return "i NOTE"
	}
	return string(l)
}

func (p *alerts) wanted(row engine.Row) bool {
	return p.history || row.(*engine.Finding).ClosedAt == nil
}

// Render draws the alerts, what is under the cursor, and the journal below.
func (p *alerts) Render(b *widget.Buffer, l *Look, r widget.Rect) {
	p.now = l.Now
	head := r.Line(0).In(1)
	rest := b.Text(head, "Alerts  ", theme.Title.S())
	switch {
	case !l.Ready():
		b.Text(rest, "?", theme.Unknown.S())
	default:
		text := fmt.Sprintf("%d open", l.Sum.Open)
		if l.Sum.Acked > 0 {
			text += fmt.Sprintf(", %d acknowledged", l.Sum.Acked)
		}
		rest = b.Text(rest, text, theme.Text.S())
		if p.filter != "" {
			b.Text(b.Text(rest, "   filter: ", theme.Hint.S()), p.filter, theme.Key.S())
		}
	}
	show := "o history"
	if p.history {
		show = "with history, o open only"
	}
	b.Right(head, show, theme.Hint.S())
	body := r.Below(1)
	shown, _ := p.tab.Count()
	row, _ := p.tab.Current().(*engine.Finding)
	// The journal has a third of the height, the alert under the cursor what it needs.
	journal := max(body.H/3, 3)
	if shown == 0 {
		text := "No open alert."
		if !l.Ready() {
			text = "Not read yet."
		} else if p.filter != "" {
			text = "No alert matches. esc shows all again."
		}
		b.Text(body.Line(1).In(1), text, theme.OK.S())
		p.drawJournal(b, l, body.Below(3))
		return
	}
	if p.open && row != nil {
		if r.W >= 120 {
			left := r.W * 3 / 5
			side := widget.Rect{X: body.X + left, Y: body.Y, W: body.W - left, H: body.H}
			p.drawDetail(b, l, b.Box(side, row.Target, "esc closes").In(1), row)
			body.W = left
		} else {
			p.drawDetail(b, l, body.Below(1).In(1), row)
			return
		}
	}
	need := 0
	if row != nil && !p.open {
		need = min(p.aboutHeight(row), max(body.H-journal-4, 0))
	}
	table := min(shown+1, max(body.H-journal-need, 3))
	p.tab.Render(b, body.Top(table), l.Now)
	y := table
	if need > 0 {
		p.drawFinding(b, l, body.Below(y).Top(need).In(1), row)
		y += need
	}
	p.drawJournal(b, l, body.Below(y))
}

func (p *alerts) aboutHeight(f *engine.Finding) int {
	n := 2
	if f.Effect != "" {
		n++
	}
	if len(f.Facts) > 0 {
		n++
	}
	if len(f.Next) > 0 {
		n++
	}
	return n + 1
}

func (p *alerts) drawFinding(b *widget.Buffer, l *Look, r widget.Rect, f *engine.Finding) int {
	y := 0
	b.Text(b.Text(r.Line(y), levelWord(f.Level)+"  ", theme.OfLevel(f.Level).S()), f.Title, theme.Title.S())
	y++
	if f.Effect != "" {
		b.Text(fact(b, r.Line(y), "effect"), f.Effect, theme.Text.S())
		y++
	}
	b.Text(fact(b, r.Line(y), "rule"), string(f.Code), theme.Text.S())
	y++
	if len(f.Facts) > 0 {
		line := fact(b, r.Line(y), "facts")
		for i, x := range f.Facts {
			if i > 0 {
				line = b.Text(line, string([]rune{' ', b.Glyphs.Dot, ' '}), theme.Hint.S())
			}
			line = b.Text(line, x.Name+" "+x.Value, theme.Text.S())
		}
		y++
	}
	if len(f.Next) > 0 {
		line := fact(b, r.Line(y), "do")
		for _, n := range f.Next {
			if n.Key != "" {
				line = b.Text(line, n.Key+" ", theme.Key.S())
			}
			line = b.Text(line, n.Text, theme.Text.S())
			if n.Command != "" {
				line = b.Text(line, "  "+n.Command, theme.Hint.S())
			}
			line = b.Text(line, "    ", theme.Text.S())
		}
		y++
	}
	return y
}

func (p *alerts) drawDetail(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
	f := row.(*engine.Finding)
	y := p.drawFinding(b, l, r, f) + 1
	put := func(name, text string) {
		b.Text(fact(b, r.Line(y), name), text, theme.Text.S())
		y++
	}
	put("since", fmt.Sprintf("%s, %s; seen %d times, last %s ago", Clock(f.Since, l.Now), Age(l.Now.Sub(f.Since)), f.Count, Age(l.Now.Sub(f.Last))))
	put("where", f.Target+" on "+orDash(f.Key.Machine))
	if f.AckBy != "" {
		when := ""
		if f.AckAt != nil {
			when = " at " + Clock(*f.AckAt, l.Now)
		}
		put("seen by", f.AckBy+when)
	}
	if f.MuteUntil != nil {
		put("muted", "until "+Clock(*f.MuteUntil, l.Now))
	}
	if f.ClosedAt != nil {
		put("closed", Clock(*f.ClosedAt, l.Now))
	}
	put("id", f.ID)
	if f.Text != "" {
		y++
		b.Text(r.Line(y), f.Text, theme.Text.S())
	}
}

func (p *alerts) drawJournal(b *widget.Buffer, l *Look, r widget.Rect) {
	if r.H < 2 {
		return
	}
	b.Text(r.Line(0).In(1), "JOURNAL", theme.Title.S())
	b.Text(r.Line(0).Skip(10), "who did what, newest first", theme.Hint.S())
	if len(l.Entries) == 0 {
		b.Text(r.Line(1).In(1), "none heard by this screen yet", theme.Hint.S())
	}
	for y := 1; y < r.H && y <= len(l.Entries); y++ {
		drawEvent(b, l, r.Line(y).In(1), &l.Entries[len(l.Entries)-y])
	}
}
