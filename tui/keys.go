package tui

import (
	"fmt"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"app.provost/engine"
	"app.provost/tui/page"
)

// suddenFor is how long an overlay that opened by itself swallows keys.
const suddenFor = 500 * time.Millisecond

// key takes one key: overlay, view, everywhere, in this order.
func (m *model) key(k tea.KeyMsg) {
	name, text := k.String(), ""
	if k.Type == tea.KeyRunes {
		text = string(k.Runes)
		name = text
		if k.Alt {
			name = "alt+" + text
		}
	}
	if k.Type == tea.KeySpace {
		name, text = " ", " "
	}
	if k.Paste {
		if t := m.top(); t == nil || !t.overlay.Paste(m, string(k.Runes)) {
			m.Say("pasted text is ignored outside a field: it never acts as keys")
		}
		return
	}
	switch name {
	case "ctrl+c":
		now := m.o.Now()
		if now.Sub(m.lastCtrl) < 2*time.Second {
			m.Quit()
			return
		}
		m.lastCtrl = now
		if m.o.alone != nil {
			m.Say("ctrl+c again leaves; nothing was made")
			return
		}
		m.Say("ctrl+c again leaves the screen; the engine " + m.after() + "s")
		return
	case "ctrl+z":
		m.suspend()
		return
	case "ctrl+l":
		m.pending = append(m.pending, tea.ClearScreen)
		return
	}
	if t := m.top(); t != nil {
		if t.overlay.Sudden() && m.o.Now().Sub(t.opened) < suddenFor {
			return
		}
		t.overlay.Key(m, name, text)
		return
	}
	if k.Type == tea.KeyRunes && len(k.Runes) > 1 {
		// Fast typing may come as one message; each character is a key of its own.
		for _, r := range k.Runes {
			m.key(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}})
		}
		return
	}
	b := m.bound(k)
	if b == nil {
		m.Say(fmt.Sprintf("%s: no such key here, ? lists them", name))
		return
	}
	if why := b.OffNow(m.Look()); why != "" {
		m.Say(shown(name) + ": " + why)
		return
	}
	b.Do(m)
}

// bound is what a key does now: the view's own meaning before the common one.
func (m *model) bound(k fmt.Stringer) *page.Binding {
	if p := m.page(); p != nil {
		if b := find(p.Bindings(), k); b != nil {
			return b
		}
	}
	return find(m.global, k)
}

func find(bs []page.Binding, k fmt.Stringer) *page.Binding {
	for i := range bs {
		if key.Matches(k, bs[i].Key) {
			return &bs[i]
		}
	}
	return nil
}

// pressed is a key by its name.
type pressed string

func (p pressed) String() string { return string(p) }

func shown(key string) string {
	if key == " " {
		return "space"
	}
	return key
}

// globalKeys is the table of keys that work in every view.
func (m *model) globalKeys() []page.Binding {
	var out []page.Binding
	for _, v := range m.views {
		if v.Key == "" {
			continue
		}
		b := page.Binding{Name: "view." + string(v.ID), Key: page.Keys("", "", v.Key), Do: func(page.Host) { m.Go(v.ID, "") }}
		if v.Key == "1" {
			b.Key.SetHelp("1-9 0 J", "views")
			b.Group = page.GroupMove
		}
		out = append(out, b)
	}
	next := func(dir int) func(page.Host) {
		return func(page.Host) {
			for i := 1; i < len(m.views); i++ {
				k := (m.at + dir*i + len(m.views)*2) % len(m.views)
				if m.inBar(k) && m.views[k].Page != nil {
					m.Go(m.views[k].ID, "")
					return
				}
			}
		}
	}
	every := page.GroupEvery
	return append(out,
		page.Binding{Name: "help", Key: page.Keys("?", "help for this view", "?", "h", "f1"), Brief: "help", Group: every, Hint: 98, Do: func(page.Host) { m.openHelp() }},
		page.Binding{Name: "command", Key: page.Keys("", "command, tab completes", ":"), Brief: "command", Group: every, Hint: 40, Do: func(page.Host) { m.openCommand("") }},
		page.Binding{Name: "filter", Key: page.Keys("/ n N", "filter, next, previous", "/"), Brief: "filter", Group: every, Hint: 41, Do: func(page.Host) { m.openFilter() }},
		page.Binding{Name: "back", Key: page.Keys("", "back", "esc"), Group: page.GroupMove, Do: func(h page.Host) { h.Back() }},
		page.Binding{Name: "previous", Key: page.Keys("- [ ]", "last view, neighbours", "-"), Group: page.GroupMove, Do: func(page.Host) {
			if m.previous != m.at {
				m.Go(m.views[m.previous].ID, "")
			}
		}},
		page.Binding{Name: "view.left", Key: page.Keys("", "", "[", "shift+tab"), Do: next(-1)},
		page.Binding{Name: "view.right", Key: page.Keys("", "", "]", "tab"), Do: next(1)},
		page.Binding{Name: "ack", Key: page.Keys("", "acknowledge the worst alert", "a"), Brief: "ack", Hint: 50, Group: every, Act: true, Do: func(page.Host) { m.ackWorst() }},
		page.Binding{Name: "wizards", Key: page.Keys("", "wizards", "w"), Hint: 51, Group: every, Do: func(page.Host) { m.openWizards() }},
		page.Binding{Name: "freeze", Key: page.Keys("", "freeze the screen", "f"), Brief: "freeze", Hint: 52, Group: every, Do: func(page.Host) { m.freeze() }},
		page.Binding{Name: "faster", Key: page.Keys("+ _", "faster, slower", "+"), Group: every, Do: func(page.Host) { m.setRate(m.rate + 1) }},
		page.Binding{Name: "slower", Key: page.Keys("", "", "_"), Do: func(page.Host) { m.setRate(m.rate - 1) }},
		page.Binding{Name: "refresh", Key: page.Keys("R", "refresh now", "R", "r"), Group: every, Do: func(page.Host) {
			m.bridge.kick()
			m.Say("asked for a new picture")
		}},
		page.Binding{Name: "times", Key: page.Keys("", "clock or age", "t"), Group: every, Do: func(page.Host) { m.ages = !m.ages }},
		page.Binding{Name: "copy.all", Key: page.Keys("", "", "y"), Do: func(page.Host) {
			if m.Look().Ready() {
				m.Copy("name of the engine", m.snap.Engine.Value.Name)
			}
		}},
		page.Binding{Name: "export", Key: page.Keys("e ctrl+s", "export the view to a file", "e", "ctrl+s"), Group: every, Do: func(page.Host) { m.export() }},
		page.Binding{Name: "doctor", Key: page.Keys("", "doctor: checks, evidence, fix", "D"), Brief: "doctor", Hint: 53, Group: every, Do: func(page.Host) { m.openDoctor() }},
		page.Binding{Name: "leave", Key: page.Keys("", "leave, the engine "+m.after()+"s", "q"), Brief: "leave (engine " + m.after() + "s)", Group: every, Hint: 99, Do: func(page.Host) { m.askLeave(false) }},
	)
}

// after is what the engine does when its screen is left.
func (m *model) after() string {
	if m.o.Ends {
		return "end"
	}
	if m.o.Foreground {
		return "stop"
	}
	return "stay"
}

func (m *model) freeze() {
	if m.frozen.IsZero() {
		m.frozen = m.o.Now()
		m.Say("frozen: f goes on")
		return
	}
	m.frozen = time.Time{}
	m.now = m.o.Now()
	m.snap = m.latest
	m.sum.Summarize(m.snap, m.now)
	m.sync()
}

func (m *model) setRate(i int) {
	m.rate = min(max(i, 0), len(rates)-1)
	m.retune()
	m.Say(fmt.Sprintf("a picture every %s", rates[m.rate]))
}

// ackWorst acknowledges the first open alert of the highest level.
func (m *model) ackWorst() {
	var worst *engine.Finding
	for i := range m.snap.Alerts.List() {
		f := &m.snap.Alerts.Rows[i]
		if f.ClosedAt == nil && f.AckBy == "" && (worst == nil || f.Level.Rank() > worst.Level.Rank()) {
			worst = f
		}
	}
	if worst == nil {
		m.Say("a: no open alert to acknowledge")
		return
	}
	m.Act(engine.AckAlerts{IDs: []string{worst.ID}})
}

// inBar tells whether a view stands in the bar.
func (m *model) inBar(i int) bool {
	v := &m.views[i]
	if m.showAll {
		return true
	}
	if m.hidden[v.ID] {
		return false
	}
	return v.There == nil || v.Page != nil && m.snap.Engine == nil || v.There(m.snap)
}
