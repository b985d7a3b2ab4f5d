package tui

import (
	"fmt"
	"slices"
	"strings"

	"app.provost/engine"
	"app.provost/engine/flow"
	"app.provost/tui/page"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// center gives a box of a size in the middle of r, no larger than r.
func center(r widget.Rect, w, h int) widget.Rect {
	w, h = min(w, r.W), min(h, r.H)
	return widget.Rect{X: r.X + (r.W-w)/2, Y: r.Y + (r.H-h)/2, W: w, H: h}
}

// leave asks whether to leave the screen.
type leave struct {
	m      *model
	sudden bool
	never  bool // do not ask again
}

// keeps tells whether the answer can be remembered. An engine in this process
// stops with its screen: there it is always asked.
func (o *leave) keeps() bool { return o.m.keepTo != "" && !o.m.o.Foreground && !o.m.o.Ends }

func (m *model) askLeave(sudden bool) {
	if m.o.alone != nil {
		m.Quit()
		return
	}
	for _, l := range m.overlays {
		if _, ok := l.overlay.(*leave); ok {
			return
		}
	}
	if m.leaveAtOnce && !sudden && !m.o.Foreground {
		m.Quit()
		return
	}
	m.Open(&leave{m: m, sudden: sudden})
}

func (o *leave) Render(b *widget.Buffer, l *page.Look, r widget.Rect) {
	box := center(r, 64, 11)
	if !o.keeps() {
		box = center(r, 64, 9)
	}
	b.Clear(box)
	in := b.Box(box, "Leave the dashboard", "").In(2)
	line, back, stop := "The engine keeps running", "provost attach", "provost down"
	if o.m.o.Ends {
		line, back, stop = "The demo ends, with all its nodes and workers", "provost demo", ""
	} else if o.m.o.Foreground {
		line, back, stop = "The engine stops with the screen; workers go on", "provost up", ""
	}
	if e := o.m.o.EngineLine(); e != "" && !o.m.o.Foreground && !o.m.o.Ends {
		line += ": " + e
	} else {
		line += "."
	}
	b.Text(in.Line(1), line, theme.Text.S())
	b.Text(b.Text(in.Line(2), "Come back with:   ", theme.Hint.S()), back, theme.Text.S())
	if stop != "" {
		b.Text(b.Text(in.Line(3), "Stop it with:     ", theme.Hint.S()), stop, theme.Text.S())
	}
	b.Text(in.Line(5), "leave (enter)", theme.Key.S())
	b.Right(in.Line(5), "stay (esc)", theme.Key.S())
	if o.keeps() {
		mark := "[ ]"
		if o.never {
			mark = "[x]"
		}
		b.Text(b.Text(in.Line(7), mark, theme.Key.S()), " do not ask again (space)", theme.Text.S())
	}
}

func (o *leave) Key(h page.Host, key, _ string) {
	switch key {
	case "enter", "q":
		o.m.leaveAtOnce = o.m.leaveAtOnce || o.never
		h.Quit()
	case " ", "x":
		o.never = o.keeps() && !o.never
	case "esc", "n":
		h.Close()
	}
}
func (o *leave) Paste(page.Host, string) bool { return false }
func (o *leave) Sync(page.Host)               {}
func (o *leave) Hint() string {
	if o.keeps() {
		return "enter leave  esc stay  space do not ask again"
	}
	return "enter leave  esc stay"
}
func (o *leave) Sudden() bool { return o.sudden }

// help shows the key table of a view; it is made from the bindings.
type help struct {
	title string
	binds []page.Binding
	legs  []string
	top   int
	find  widget.Input
	rows  int
}

func (m *model) openHelp() {
	h := &help{title: m.views[m.at].Long}
	if p := m.page(); p != nil {
		h.binds = append(h.binds, p.Bindings()...)
		h.legs = p.Legend()
	}
	own := map[string]bool{}
	for i := range h.binds {
		for _, k := range h.binds[i].Key.Keys() {
			own[k] = true
		}
	}
	for _, k := range m.global {
		if !own[k.Key.Keys()[0]] {
			h.binds = append(h.binds, k)
		}
	}
	m.Open(h)
}

type helpLine struct {
	head      bool
	keys, say string
	off       string
}

func (o *help) lines(l *page.Look, groups ...string) []helpLine {
	var out []helpLine
	want := strings.ToLower(o.find.Value())
	for _, g := range groups {
		head := false
		for i := range o.binds {
			k := &o.binds[i]
			about := k.Key.Help()
			if k.Group != g || about.Desc == "" {
				continue
			}
			if want != "" && !strings.Contains(strings.ToLower(about.Key+" "+about.Desc), want) {
				continue
			}
			if !head {
				if len(out) > 0 {
					out = append(out, helpLine{})
				}
				out = append(out, helpLine{head: true, keys: g})
				head = true
			}
			line := helpLine{keys: about.Key, say: about.Desc}
			switch {
			case k.Act && l.Locked():
				line.off = "asks to unlock"
			case k.Act && l.ActsOff() != "":
				why, _, _ := strings.Cut(l.ActsOff(), ",")
				line.off = "off: " + why
			}
			out = append(out, line)
		}
	}
	return out
}

func (o *help) Render(b *widget.Buffer, l *page.Look, r widget.Rect) {
	box := center(r, 110, r.H)
	b.Clear(box)
	note := "type to search"
	if o.find.Value() != "" {
		note = "search: " + o.find.Value()
	}
	in := b.Box(box, "Help: "+o.title, note).In(1)
	left, right := o.lines(l, page.GroupMove, page.GroupEvery), o.lines(l, page.GroupView)
	if len(o.legs) > 0 && o.find.Value() == "" {
		right = append(right, helpLine{}, helpLine{head: true, keys: "SIGNS AND UNITS"})
		for _, s := range o.legs {
			right = append(right, helpLine{say: s})
		}
		right = append(right, helpLine{}, helpLine{head: true, keys: "FILTER"})
		for s := range strings.SplitSeq(engine.FilterHelp, "\n") {
			right = append(right, helpLine{say: s})
		}
	}
	cols := in.Columns(2)
	if give := cols[0].W - 36; give > 0 && in.W < 90 {
		// Keys are short, signs and the filter language are not.
		cols[0].W -= give
		cols[1].X -= give
		cols[1].W += give
	}
	body := in.Top(in.H - 1)
	o.rows = max(len(left), len(right))
	o.top = min(o.top, max(o.rows-body.H, 0))
	for c, lines := range [...][]helpLine{left, right} {
		for y := 0; y < body.H && o.top+y < len(lines); y++ {
			x := lines[o.top+y]
			at := widget.Rect{X: cols[c].X, Y: body.Y + y, W: cols[c].W - 1, H: 1}
			switch {
			case x.head:
				b.Text(at, x.keys, theme.Title.S())
			case x.keys == "":
				b.Text(at, x.say, theme.Text.S())
			default:
				b.Text(at, x.keys, theme.Key.S())
				rest := b.Text(at.Skip(max(widget.Width(x.keys)+1, 14)), x.say, theme.Text.S())
				if x.off != "" {
					b.Text(rest, "   "+x.off, theme.Hint.S())
				}
			}
		}
	}
	b.Text(in.Line(in.H-1), "No key here changes anything without a plan and a confirmation.", theme.Hint.S())
}

func (o *help) Key(h page.Host, key, text string) {
	switch key {
	case "esc", "enter", "f1":
		h.Close()
	case "?":
		h.Close()
	case "down", "ctrl+d", "pgdown":
		o.top++
	case "up", "ctrl+u", "pgup":
		o.top = max(o.top-1, 0)
	default:
		if text != "" {
			o.find.Insert(text)
		} else {
			o.find.Key(key)
		}
		o.top = 0
	}
}
func (o *help) Paste(_ page.Host, text string) bool { o.find.Insert(text); return true }
func (o *help) Sync(page.Host)                      {}
func (o *help) Hint() string                        { return "↑ ↓ scroll  type to search  esc closes" }
func (o *help) Sudden() bool                        { return false }

// filterLine is the field of key /.
type filterLine struct {
	m      *model
	view   page.Filterer
	in     widget.Input
	before string
	bad    string
}

func (m *model) openFilter() {
	f, ok := m.page().(page.Filterer)
	if !ok {
		m.Say("/: this view has nothing to filter")
		return
	}
	o := &filterLine{m: m, view: f, before: f.Filter()}
	o.in.Set(f.Filter())
	m.Open(o)
}

func (o *filterLine) try() {
	o.bad = ""
	if err := o.view.SetFilter(o.in.Value()); err != nil {
		o.bad = err.Error()
		return
	}
	o.m.Resort()
}

func (o *filterLine) Render(b *widget.Buffer, _ *page.Look, r widget.Rect) {
	h := 1
	if o.bad != "" {
		h = 2
	}
	at := r.Below(r.H - h)
	b.Clear(at)
	line := b.Text(at.Line(0), " /", theme.Key.S())
	o.in.Render(b, line, true)
	if o.bad != "" {
		b.Text(at.Line(1).In(1), o.bad, theme.Warn.S())
	}
}

func (o *filterLine) Key(h page.Host, key, text string) {
	switch key {
	case "enter":
		o.try()
		if o.bad == "" {
			h.Close()
		}
	case "esc":
		if err := o.view.SetFilter(o.before); err == nil {
			h.Resort()
		}
		h.Close()
	default:
		if text != "" {
			o.in.Insert(text)
		} else if !o.in.Key(key) {
			return
		}
		o.try()
	}
}
func (o *filterLine) Paste(_ page.Host, text string) bool { o.in.Insert(text); o.try(); return true }
func (o *filterLine) Sync(page.Host)                      {}
func (o *filterLine) Hint() string {
	return "word  host:m18  state!=run  cpu>90  a or b  !a   enter keep  esc as before"
}
func (o *filterLine) Sudden() bool { return false }

// choose is a list of flows, key w.
type choose struct {
	items []choice
	at    int
}

type choice struct {
	text string
	do   func(h page.Host)
}

func (m *model) openWizards() {
	start := func(a engine.Action) func(page.Host) { return func(h page.Host) { h.Wizard(a) } }
	c := &choose{items: []choice{
		{"Pause workers", start(engine.PauseWorkers{})},
		{"Resume workers", start(engine.ResumeWorkers{})},
		{"Restart workers", start(engine.RestartWorkers{})},
		{"Create a cluster, workers or prover nodes", func(page.Host) { m.openGuide(flow.Creations()...) }},
		{"Move, back up or leave", func(page.Host) { m.openGuide(flow.Leavings()...) }},
		{"Unlock screens for a while", start(engine.UnlockScreens{})},
		{"Lock screens", func(page.Host) { m.Act(engine.LockScreens{}) }},
		{"Stop the engine", start(engine.StopEngine{})},
	}}
	m.Open(c)
}

func (o *choose) Render(b *widget.Buffer, l *page.Look, r widget.Rect) {
	box := center(r, 60, len(o.items)+5)
	b.Clear(box)
	in := b.Box(box, "Wizards", "").In(1)
	for i, it := range o.items {
		line := in.Line(i + 1)
		if i == o.at {
			b.Rune(line, b.Glyphs.Cursor, theme.Key.S())
		}
		b.Text(line.Skip(2), it.text, theme.Text.S())
		if i == o.at {
			b.Mark(line, theme.Selected)
		}
	}
	switch why := l.ActsOff(); {
	case l.Locked():
		b.Text(in.Line(in.H-1), "locked: they can be gone through, and ask to unlock", theme.Hint.S())
	case why != "":
		b.Text(in.Line(in.H-1), "off now: "+why, theme.Hint.S())
	}
}

func (o *choose) Key(h page.Host, key, _ string) {
	switch key {
	case "j", "down":
		o.at = min(o.at+1, len(o.items)-1)
	case "k", "up":
		o.at = max(o.at-1, 0)
	case "enter":
		h.Close()
		o.items[o.at].do(h)
	case "esc", "w", "q":
		h.Close()
	}
}
func (o *choose) Paste(page.Host, string) bool { return false }
func (o *choose) Sync(page.Host)               {}
func (o *choose) Hint() string                 { return "↑ ↓ choose  enter open  esc closes" }
func (o *choose) Sudden() bool                 { return false }

// commandLine is the field of key ":".
type commandLine struct {
	m    *model
	in   widget.Input
	pick int // of the proposals
	bad  string
	hist int // steps back in history
}

func (m *model) openCommand(text string) {
	o := &commandLine{m: m}
	o.in.Set(text)
	m.Open(o)
}

func (o *commandLine) Render(b *widget.Buffer, l *page.Look, r widget.Rect) {
	props := o.m.proposals(o.in.Value())
	n := min(len(props), 6)
	box := widget.Rect{X: r.X, Y: r.Y + 1, W: r.W, H: n + 5}
	if r.W > 110 {
		box.X, box.W = r.X+(r.W-100)/2, 100
	}
	box.H = min(box.H, r.H-1)
	b.Clear(box)
	in := b.Box(box, "", "").In(1)
	b.Fill(widget.Rect{X: box.X + 1, Y: in.Y + 1, W: box.W - 2, H: 1}, b.Glyphs.H, theme.Frame.S())
	o.in.Render(b, b.Text(in.Line(0), ":", theme.Key.S()), true)
	o.pick = min(o.pick, max(len(props)-1, 0))
	for i := 0; i < n; i++ {
		line := in.Line(2 + i)
		if i == o.pick {
			b.Rune(line, b.Glyphs.Cursor, theme.Key.S())
		}
		p := props[i]
		rest := b.Text(line.Skip(2), p.usage, theme.Text.S())
		b.Text(rest, "   "+p.help, theme.Hint.S())
		if p.act && l.ActsOff() != "" {
			b.Right(line, "LOCKED", theme.Hint.S())
		}
	}
	last := in.Line(in.H - 1)
	if o.bad != "" {
		b.Text(last, o.bad, theme.Warn.S())
	} else if len(o.m.history) > 0 {
		b.Text(last, "history  "+string(b.Glyphs.Up)+"  :"+o.m.history[len(o.m.history)-1], theme.Hint.S())
	}
}

func (o *commandLine) Key(h page.Host, key, text string) {
	switch key {
	case "esc":
		h.Close()
	case "enter":
		line := strings.TrimSpace(o.in.Value())
		if line == "" {
			h.Close()
			return
		}
		cmd, rest := o.m.parse(line)
		if cmd == nil {
			o.bad = fmt.Sprintf("there is no command %q", strings.Fields(line)[0])
			var names []string
			for i := range commands {
				names = append(names, commands[i].name)
			}
			if near := engine.Nearest(strings.Fields(line)[0], names); near != "" {
				o.bad += fmt.Sprintf("; did you mean %q?", near)
			}
			return
		}
		// The line closes first, so that what the command opens is on top.
		depth := len(o.m.overlays)
		h.Close()
		if err := cmd.run(o.m, rest); err != nil {
			o.bad = err.Error()
			if len(o.m.overlays) < depth {
				o.m.overlays = append(o.m.overlays, layer{overlay: o, opened: o.m.o.Now(), gen: o.m.callGen})
			}
			return
		}
		o.m.remember(line)
	case "tab":
		if props := o.m.proposals(o.in.Value()); len(props) > 0 {
			o.in.Set(props[min(o.pick, len(props)-1)].fill)
			o.pick = 0
		}
	case "down":
		o.pick = min(o.pick+1, max(min(len(o.m.proposals(o.in.Value())), 6)-1, 0))
	case "up":
		if o.pick > 0 {
			o.pick--
			return
		}
		if o.hist < len(o.m.history) {
			o.hist++
			o.in.Set(o.m.history[len(o.m.history)-o.hist])
		}
	default:
		if text != "" {
			o.in.Insert(text)
		} else if !o.in.Key(key) {
			return
		}
		o.bad, o.pick = "", 0
	}
}
func (o *commandLine) Paste(_ page.Host, text string) bool { o.in.Insert(text); return true }
func (o *commandLine) Sync(page.Host)                      {}
func (o *commandLine) Hint() string {
	return "tab complete  ↑ ↓ choose, history  enter run  ctrl+u clear  esc close"
}
func (o *commandLine) Sudden() bool { return false }

func (m *model) remember(line string) {
	m.history = slices.DeleteFunc(m.history, func(s string) bool { return s == line })
	m.history = append(m.history, line)
	if len(m.history) > 100 {
		m.history = m.history[1:]
	}
}
