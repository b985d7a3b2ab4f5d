package tui

import (
	"fmt"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/tui/page"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// Smallest screen for views; below it a card of five lines is shown.
const (
	minWidth  = 60
	minHeight = 15
)

// draw fills the buffer: exactly as many lines as the screen has.
func (m *model) draw() {
	b := m.buf
	if m.w == 0 || m.h == 0 {
		// The size is not known yet, or tmux says 0: one line, no more.
		b.Resize(40, 1)
		b.Text(b.All(), "provost", theme.Title.S())
		return
	}
	b.Resize(m.w, m.h)
	all := b.All()
	l := m.Look()
	if m.o.alone != nil {
		m.drawAlone(b, l, all)
		return
	}
	if m.w < minWidth || m.h < minHeight {
		m.drawCard(b, l, all)
		return
	}
	m.drawHeader(b, l, all.Line(0))
	m.drawBar(b, all.Line(1))
	body := all.Below(2)
	if m.w < 100 || m.banner(l) != "" {
		m.drawRule(b, l, body.Line(0))
		body = body.Below(1)
	}
	body.H -= 2
	b.Fade = !l.Link.Connected
	if p := m.page(); p != nil {
		p.Render(b, l, body)
	}
	b.Fade = false
	if !l.Link.Connected {
		m.drawLost(b, l, body)
	}
	for i := range m.overlays {
		m.overlays[i].overlay.Render(b, l, body)
	}
	foot := all.Below(m.h - 2)
	b.Fill(foot.Line(0), b.Glyphs.H, theme.Frame.S())
	m.drawFoot(b, l, foot.Line(1))
}

// lockWord says whether this screen may act.
func (m *model) lockWord(l *page.Look) (string, theme.Role) {
	switch {
	case !l.Ready():
		return "LOCKED", theme.Hint
	case l.ReadOnly:
		return "READ-ONLY", theme.Hint
	}
	if u := l.Snap.Engine.Value.Unlocked; u != nil && u.Until.After(l.Now) {
		return "UNLOCKED " + page.Left(u.Until.Sub(l.Now)), theme.Warn
	}
	return "LOCKED", theme.Hint
}

func (m *model) drawHeader(b *widget.Buffer, l *page.Look, r widget.Rect) {
	full := r
	r = b.Text(r, "provost", theme.Title.S())
	if m.w >= 160 && l.Ready() {
		r = b.Text(r, " "+l.Snap.Engine.Value.Version, theme.Hint.S())
	}
	r = b.Text(r, "  ", theme.Text.S())
	name := "?"
	if l.Ready() {
		name = l.Snap.Engine.Value.Name
	}
	if limit := m.w / 3; widget.Width(name) > limit {
		b.Text(r.Cut(limit), name, theme.Title.S())
		r = r.Skip(limit)
	} else {
		r = b.Text(r, name, theme.Title.S())
	}
	word, role := m.lockWord(l)
	r = b.Text(b.Text(r, "  ", theme.Text.S()), word, role.S())
	switch {
	case !l.Link.Connected:
		r = b.Text(r, "  LINK LOST "+page.Left(m.now.Sub(l.Link.Since)), theme.CritLine.S())
	case !m.frozen.IsZero():
		r = b.Text(r, "  FROZEN "+page.Left(m.now.Sub(m.frozen)), theme.Banner.S())
	}

	// The right side is built from the end; what does not fit is left out, the
	// least important first.
	type bit struct {
		text  string
		style theme.Style
		keep  int
	}
	var bits []bit
	if l.Ready() && l.Snap.Engine.Value.Practice != "" {
		bits = append(bits, bit{"PRACTICE", theme.Banner.S(), 9})
	}
	if m.out != nil && m.out.Factor() > 1 {
		bits = append(bits, bit{fmt.Sprintf("slow link %.2g Hz", float64(time.Second)/float64(rates[m.rate])/float64(m.out.Factor())), theme.Warn.S(), 7})
	}
	if l.Ready() {
		in := &l.Snap.Engine.Value
		if e := page.EpochWord(l); e != "" {
			bits = append(bits, bit{e, theme.Text.S(), 4})
		}
		if n := len(in.Viewers); n > 1 && m.w >= 120 {
			bits = append(bits, bit{fmt.Sprintf("%d viewers", n), theme.Hint.S(), 3})
		}
		if m.w >= 100 && !in.StartedAt.IsZero() {
			bits = append(bits, bit{"up " + page.Age(l.Now.Sub(in.StartedAt)), theme.Hint.S(), 2})
		}
		if m.w >= 160 {
			rate := fmt.Sprintf("rate %s", rates[m.rate])
			if m.out != nil && m.out.Rate() > 0 {
				rate += fmt.Sprintf(", %.1f kB/s", float64(m.out.Rate())/1000)
			}
			bits = append(bits, bit{rate, theme.Hint.S(), 1})
		}
		switch {
		case in.Stopping != "":
			bits = append(bits, bit{"STOPPING: " + in.Stopping, theme.Warn.S(), 8})
		case l.Sum.Crit == 0 && l.Sum.Warn == 0 && l.Snap.Alerts != nil:
			bits = append(bits, bit{"ok", theme.OK.S(), 8})
		}
		if l.Sum.Crit > 0 {
			bits = append(bits, bit{fmt.Sprintf("!!%d", l.Sum.Crit), theme.Crit.S(), 8})
		}
		if l.Sum.Warn > 0 {
			bits = append(bits, bit{fmt.Sprintf("!%d", l.Sum.Warn), theme.Warn.S(), 8})
		}
	} else {
		bits = append(bits, bit{"--", theme.Unknown.S(), 8})
	}
	clock := m.now.UTC().Format("15:04:05Z")
	if m.o.LowBandwidth {
		clock = m.now.UTC().Format("15:04Z")
	}
	if m.w >= 160 {
		clock = m.now.UTC().Format("2006-01-02T15:04:05Z")
	}
	bits = append(bits, bit{clock, theme.Text.S(), 6})
	width := func() int {
		n := 0
		for _, x := range bits {
			n += widget.Width(x.text) + 2
		}
		return n
	}
	for width() > r.W {
		least := 0
		for i := range bits {
			if bits[i].keep < bits[least].keep {
				least = i
			}
		}
		if bits[least].keep >= 8 || len(bits) == 1 {
			break
		}
		bits = append(bits[:least], bits[least+1:]...)
	}
	at := full.X + full.W - width()
	for _, x := range bits {
		at += 2
		rest := widget.Rect{X: at, Y: full.Y, W: full.X + full.W - at, H: 1}
		b.Text(rest, x.text, x.style)
		at += widget.Width(x.text)
	}
}

func (m *model) drawBar(b *widget.Buffer, r widget.Rect) {
	r = r.Skip(1)
	gap := " "
	if m.w >= 110 {
		gap = "  "
	}
	if m.w >= 200 {
		gap = "   "
	}
	name := func(v *page.Entry) string {
		switch {
		case m.w >= 160:
			return v.Long + m.barCount(v.ID)
		case m.w >= 110:
			return v.Long
		}
		return v.Short
	}
	// Where not all names fit, the view that is shown keeps its name and the others are keys.
	need := 2 - widget.Width(gap) // brackets; no gap after the last
	for i := range m.views {
		if m.inBar(i) {
			need += widget.Width(m.views[i].Key) + 1 + widget.Width(name(&m.views[i])) + widget.Width(gap)
		}
	}
	tight := need > r.W
	for i := range m.views {
		if !m.inBar(i) {
			continue
		}
		v := &m.views[i]
		if i == m.at {
			r = b.Text(r, "["+v.Key+" "+name(v)+"]", theme.Active.S())
			if r.W > 0 {
				r = b.Text(r, gap[:max(len(gap)-1, 0)], theme.Text.S())
			}
			if gap == " " {
				r = b.Text(r, " ", theme.Text.S())
			}
			continue
		}
		if tight {
			r = b.Text(b.Text(r, v.Key, theme.Key.S()), gap, theme.Text.S())
			continue
		}
		st := theme.Text.S()
		if v.Page == nil {
			st = theme.Hint.S()
		}
		r = b.Text(b.Text(b.Text(r, v.Key+" ", theme.Key.S()), name(v), st), gap, theme.Text.S())
	}
}

// barCount is the number of rows behind a view's name on wide screens.
func (m *model) barCount(id page.ID) string {
	n := -1
	switch id {
	case page.Workers:
		n = len(m.snap.Workers.List())
	case page.GPUs:
		n = len(m.snap.GPUs.List())
	case page.Hosts:
		n = len(m.snap.Machines.List())
	case page.Validators:
		n = page.ValidatorCount(m.Look())
	case page.Peers:
		return page.PeersWord(m.Look())
	case page.Acts:
		n = m.sum.ActsOpen
	case page.Alerts:
		if m.sum.Crit+m.sum.Warn == 0 {
			return ""
		}
		s := ""
		if m.sum.Crit > 0 {
			s += fmt.Sprintf(" !!%d", m.sum.Crit)
		}
		if m.sum.Warn > 0 {
			s += fmt.Sprintf(" !%d", m.sum.Warn)
		}
		return s
	}
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" %d", n)
}

// banner is what stands across the screen, "" for nothing.
func (m *model) banner(l *page.Look) string {
	switch {
	case !l.Link.Connected:
		return fmt.Sprintf("ENGINE NOT ANSWERING since %s. Everything below is %s old.", page.Clock(l.Link.Since, m.now), page.Left(m.now.Sub(l.Link.Since)))
	case !m.frozen.IsZero():
		return fmt.Sprintf("FROZEN %s   f goes on", page.Left(m.now.Sub(m.frozen)))
	case l.Ready() && l.Snap.Engine.Value.Practice != "":
		return "PRACTICE: " + l.Snap.Engine.Value.Practice
	}
	return ""
}

func (m *model) drawRule(b *widget.Buffer, l *page.Look, r widget.Rect) {
	text := m.banner(l)
	if text == "" {
		b.Fill(r, b.Glyphs.H, theme.Frame.S())
		return
	}
	role := theme.Banner
	if !l.Link.Connected {
		role = theme.CritLine
	}
	b.Fill(r, ' ', role.S())
	b.Text(r.In(1), text, role.S())
}

// drawLost says what was tried, over the lower part of the view.
func (m *model) drawLost(b *widget.Buffer, l *page.Look, r widget.Rect) {
	const lines = 5
	at := r.Below(r.H - lines)
	b.Clear(at)
	next := ""
	if !l.Link.Next.IsZero() && l.Link.Next.After(m.now) {
		next = ", next in " + page.Left(l.Link.Next.Sub(m.now))
	}
	tries := "tries"
	if l.Link.Tries == 1 {
		tries = "try"
	}
	rows := [...][2]string{
		{"tried", fmt.Sprintf("%d %s%s (R now)", l.Link.Tries, tries, next)},
		{"because", orQuestion(l.Link.Problem)},
		{"engine", orQuestion(m.o.EngineLine())},
		{"means", "old values stay, marked. Workers and acts go on without the screen."},
	}
	for i, row := range rows {
		line := at.Line(i + 1).In(1)
		b.Text(line, row[0], theme.Title.S())
		b.Text(line.Skip(9), row[1], theme.Text.S())
	}
}

func orQuestion(s string) string {
	if s == "" {
		return "?"
	}
	return s
}

func (m *model) drawFoot(b *widget.Buffer, l *page.Look, r widget.Rect) {
	r = r.In(1)
	if m.say != "" {
		b.Text(r, m.say, theme.Title.S())
		return
	}
	if t := m.top(); t != nil {
		b.Text(r, t.overlay.Hint(), theme.Text.S())
		return
	}
	type hint struct {
		key, text string
		at        int
	}
	var hints []hint
	seen := map[string]bool{}
	collect := func(bs []page.Binding) {
		for i := range bs {
			k := &bs[i]
			first := k.Key.Keys()[0]
			if k.Hint == 0 || seen[first] {
				continue
			}
			seen[first] = true
			help := k.Brief
			if help == "" {
				help = k.Key.Help().Desc
			}
			hints = append(hints, hint{shown(first), help, k.Hint})
		}
	}
	if p := m.page(); p != nil {
		collect(p.Bindings())
	}
	collect(m.global)
	for i := 1; i < len(hints); i++ {
		for j := i; j > 0 && hints[j].at < hints[j-1].at; j-- {
			hints[j], hints[j-1] = hints[j-1], hints[j]
		}
	}
	// Help and leaving are always there; the others as far as there is room.
	need := 0
	for _, h := range hints {
		if h.at >= 90 {
			need += widget.Width(h.key) + widget.Width(h.text) + 3
		}
	}
	for _, h := range hints {
		w := widget.Width(h.key) + widget.Width(h.text) + 3
		if h.at >= 90 {
			need -= w
		} else if w+need > r.W {
			continue
		}
		r = b.Text(r, h.key, theme.Key.S())
		r = b.Text(r, " "+h.text+"  ", theme.Text.S())
	}
}

// drawCard is what a screen too small for views still says.
func (m *model) drawCard(b *widget.Buffer, l *page.Look, r widget.Rect) {
	name, word, role := "?", "CONNECTING", theme.Unknown
	if l.Ready() {
		name, word = l.Snap.Engine.Value.Name, "UNKNOWN"
	}
	if v := l.Snap.Verdict; v != nil {
		word, role = strings.ToUpper(string(v.Value.Word)), theme.OfVerdict(v.Value.Word)
	}
	lines := []func(r widget.Rect){
		func(r widget.Rect) {
			r = b.Text(r, word, role.S().With(theme.Strong))
			if l.Ready() && l.Snap.Engine.Value.Practice != "" {
				r = b.Text(b.Text(r, "  ", theme.Text.S()), "PRACTICE", theme.Banner.S())
			}
			r = b.Text(r, "  provost ", theme.Text.S())
			b.Text(r, name, theme.Title.S())
		},
	}
	if text := m.banner(l); text != "" && !strings.HasPrefix(text, "PRACTICE") {
		lines = append(lines, func(r widget.Rect) { b.Text(r, text, theme.Banner.S()) })
	}
	lines = append(lines, func(r widget.Rect) {
		s := l.Sum
		if !l.Ready() {
			b.Text(r, "no reading yet", theme.Unknown.S())
			return
		}
		down := s.State(engine.WorkerDown) + s.State(engine.WorkerGone)
		b.Text(r, fmt.Sprintf("%d/%d run  %d down  gpu %d/%d up", s.State(engine.WorkerRun)+s.State(engine.WorkerIdle), s.Workers, down, s.GPUUp, s.GPUs), theme.Text.S())
	})
	if text, role := page.SigningWord(l); text != "" {
		lines = append(lines, func(r widget.Rect) { b.Text(r, text, role.S()) })
	}
	if v := l.Snap.Verdict; v != nil {
		if len(v.Value.Reasons) > 0 {
			lines = append(lines, func(r widget.Rect) {
				b.Text(r, theme.LevelMark(v.Value.Reasons[0].Level)+" "+v.Value.Reasons[0].Text, theme.OfLevel(v.Value.Reasons[0].Level).S())
			})
		}
	}
	lines = append(lines, func(r widget.Rect) {
		text := fmt.Sprintf("%dx%d: need %dx%d for views. q leave", m.w, m.h, minWidth, minHeight)
		if m.say != "" {
			text = m.say
		}
		b.Text(r, text, theme.Hint.S())
	})
	if n := len(lines) - r.H; n > 0 {
		lines = lines[:r.H] // the verdict is the first line and stays
	}
	for i, draw := range lines {
		draw(r.Line(i))
	}
}
