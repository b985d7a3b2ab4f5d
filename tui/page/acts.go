package page

import (
	"fmt"
	"strings"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// acts is view 0: changes that were ordered, under way and past.
type acts struct{ list }

func newActs() *acts {
	p := &acts{}
	table, _ := engine.TableNamed(string(engine.TableActs))
	p.list = list{
		id: Acts, title: "Acts",
		there:      func(s *engine.Snapshot) bool { return s.Acts != nil },
		detail:     p.drawDetail,
		aboutLines: 6,
		about: func(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
			p.drawSteps(b, l, r.Top(r.H-1), row.(*engine.ActRow))
			b.Text(r.Line(r.H-1), "Acts live in the engine: they go on when this terminal is gone.", theme.Hint.S())
		},
		none: func(b *widget.Buffer, l *Look, r widget.Rect) {
			if !l.Ready() {
				b.Text(r.Line(0), "Not read yet.", theme.Unknown.S())
				return
			}
			b.Text(r.Line(0), "Nothing was ordered yet. Every change passes through here, with who and why.", theme.Text.S())
			b.Text(r.Line(2), "w opens the wizards;  :unlock 15m <reason> lets screens act.", theme.Hint.S())
		},
		legend: []string{
			"running under way   holding waits for its end",
			"partly some targets refused or failed",
			"\"sent\" is not \"done\": each target settles by itself",
		},
	}
	p.tab = widget.NewTable(table,
		widget.Layout{Name: "id", Width: 5},
		widget.Layout{Name: "kind", Width: 15, Draw: func(c *widget.Cell, row engine.Row, _ engine.Value) {
			c.Str(strings.ReplaceAll(string(row.(*engine.ActRow).Kind), "_", " "))
		}},
		widget.Layout{Name: "target", Width: 14},
		widget.Layout{Name: "by", Width: 8},
		widget.Layout{Name: "age", Width: 4},
		widget.Layout{Name: "step", Width: 10},
		widget.Layout{Name: "state", Width: 11, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			c.Role = theme.OfAct(row.(*engine.ActRow).State)
			c.Sign().Str(v.Str)
		}},
		widget.Layout{Name: "left", Width: 5, Extra: true},
		widget.Layout{Name: "reason", Width: 16, Extra: true},
		widget.Layout{Name: "text", Width: 6, Flex: true},
	)
	p.bindings(
		Binding{Name: "act.cancel", Key: Keys("", "cancel, asks", "x"), Brief: "cancel", Hint: 4, Group: GroupView, Act: true, Off: func(l *Look) string {
			if a, ok := p.tab.Current().(*engine.ActRow); !ok || !a.State.Open() {
				return "no open act here"
			}
			return ""
		}, Do: func(h Host) {
			h.Wizard(engine.CancelAct{ID: p.tab.Current().(*engine.ActRow).ID})
		}},
	)
	return p
}

func (p *acts) drawSteps(b *widget.Buffer, l *Look, r widget.Rect, a *engine.ActRow) int {
	at := b.Text(r.Line(0), a.ID+"  ", theme.Title.S())
	b.Text(at, strings.ReplaceAll(string(a.Kind), "_", " ")+" of "+orDash(a.Target)+"  plan "+string(a.Digest)+"  by "+a.By.String(), theme.Text.S())
	y := 1
	line := r.Line(y).Skip(4)
	for i, s := range a.Steps {
		role := theme.Idle
		switch {
		case i+1 < a.Step || a.State == engine.ActDone:
			role = theme.OK
		case i+1 == a.Step && a.State.Open():
			role = theme.Busy
		case i+1 == a.Step:
			role = theme.OfAct(a.State)
		}
		line = b.Text(line, fmt.Sprintf("%d ", i+1), theme.Hint.S())
		line = b.Rune(line, b.Glyphs.Sign(role), role.S())
		line = b.Text(line, " "+s.Name+"   ", theme.Text.S())
	}
	y++
	if a.Until != nil && a.State.Open() {
		b.Text(r.Line(y).Skip(4), fmt.Sprintf("ends by itself at %s, %s left", Clock(*a.Until, l.Now), Left(a.Until.Sub(l.Now))), theme.Text.S())
		y++
	}
	counts := map[string]int{}
	for _, s := range a.Settled {
		counts[s.State]++
	}
	var parts []string
	for _, s := range [...]string{"done", "sent", "waiting", "refused", "failed"} {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	if len(parts) > 0 {
		b.Text(r.Line(y).Skip(4), "targets  "+strings.Join(parts, "   "), theme.Text.S())
		y++
	}
	if a.Reason != "" {
		b.Text(r.Line(y).Skip(4), "why      "+a.Reason, theme.Text.S())
		y++
	}
	return y
}

func (p *acts) drawDetail(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
	a := row.(*engine.ActRow)
	y := p.drawSteps(b, l, r, a) + 1
	put := func(name, text string) {
		b.Text(fact(b, r.Line(y), name), text, theme.Text.S())
		y++
	}
	put("started", Clock(a.Started, l.Now)+", "+Age(l.Now.Sub(a.Started))+" ago")
	if a.Ended != nil {
		put("ended", Clock(*a.Ended, l.Now))
	}
	if a.Text != "" {
		put("stands", a.Text)
	}
	put("command", a.Command)
	y++
	for i, s := range a.Settled {
		if y >= r.H-1 && i < len(a.Settled)-1 {
			b.Text(r.Line(y), fmt.Sprintf("and %d targets more", len(a.Settled)-i), theme.Hint.S())
			break
		}
		when := ""
		if s.At != nil {
			when = Clock(*s.At, l.Now)
		}
		b.Text(r.Line(y), fmt.Sprintf("%-10s %-8s %-8s %s", targetName(s.Target), s.State, when, s.Why), theme.Text.S())
		y++
	}
}
