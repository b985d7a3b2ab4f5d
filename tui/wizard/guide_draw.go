package wizard

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"app.provost/engine"
	"app.provost/engine/flow"
	"app.provost/tui/page"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// line is one line of a guide's page: segments, and perhaps a line being typed.
type guideLine struct {
	segs  []seg
	in    *widget.Input
	tab   int // where in begins
	right int // columns kept free for the last segment, which stands at the right
	focus bool
}

type guideText struct {
	lines []guideLine
	at    int // line with the focus, -1 for none
	last  int // last line that belongs to it
}

func (t *guideText) add(segs ...seg) { t.lines = append(t.lines, guideLine{segs: segs}) }

func (t *guideText) say(width, indent int, st theme.Style, s string) {
	for _, l := range wrap(s, max(width-indent, 8)) {
		t.add(seg{text: l, st: st, tab: indent})
	}
}

// Render draws the guide's box over what is there.
func (g *Guide) Render(b *widget.Buffer, l *page.Look, r widget.Rect) {
	g.learn(l)
	if g.review != nil {
		g.review.Render(b, l, r)
		return
	}
	if r.W < 12 || r.H < 4 {
		return
	}
	width, height := min(r.W, 104), min(r.H, 32)
	box := widget.Rect{X: r.X + (r.W-width)/2, Y: r.Y + (r.H-height)/3, W: width, H: height}
	b.Clear(box)
	steps := g.steps()
	name := "what it is about"
	switch {
	case g.at == 0 && len(g.flows) > 1:
		name = "kind"
	case g.checking():
		name = "checks"
	case g.at > 0:
		name = steps[g.at-1].Title
	}
	title := g.f.Title
	if g.at == 0 && len(g.flows) > 1 {
		title, _ = g.group()
	}
	in := b.Box(box, title, fmt.Sprintf("step %d of %d: %s", min(g.at, len(steps)+1)+1, len(steps)+3, name)).In(1)
	if g.leaving {
		b.Text(in.Line(1), "Leave? Nothing was made.", theme.Title.S())
		if g.o.Session != nil && g.o.Session.Draft != nil {
			b.Text(in.Line(2), "The answers of finished steps are kept as a draft, without secrets.", theme.Text.S())
		} else {
			b.Text(in.Line(2), "What was typed here is lost.", theme.Text.S())
		}
		at := b.Text(in.Line(4), "enter", theme.Key.S())
		at = b.Text(at, " leave      ", theme.Text.S())
		b.Text(b.Text(at, "esc", theme.Key.S()), " stay", theme.Text.S())
		return
	}
	var foot []string
	if g.problem != "" {
		foot = wrap(g.problem, in.W)
		foot = foot[:min(len(foot), max(in.H/2, 1))]
	}
	body := in.Top(in.H - len(foot))
	for y, s := range foot {
		b.Text(in.Below(body.H).Line(y), s, theme.Warn.S())
	}
	t := guideText{at: -1}
	switch {
	case g.at == 0:
		g.kindText(&t, body.W, b.Glyphs)
	case g.checking():
		g.checkText(&t, body.W, b.Glyphs)
	case g.secret != nil:
		g.secretText(&t, body.W)
	default:
		g.stepText(&t, steps[g.at-1], body.W, b.Glyphs)
	}
	g.drawLines(b, body, &t)
}

// drawLines shows a page around the line with the focus.
func (g *Guide) drawLines(b *widget.Buffer, r widget.Rect, t *guideText) {
	if t.at >= 0 {
		// The focused field with its help is seen whole, and its first line in any case.
		g.top = max(g.top, t.last-r.H+1)
		g.top = min(g.top, t.at)
		if t.last < r.H {
			g.top = 0
		}
	}
	g.top = max(min(g.top, len(t.lines)-r.H), 0)
	for y := 0; y < r.H && g.top+y < len(t.lines); y++ {
		l := t.lines[g.top+y]
		line := r.Line(y)
		at := line
		for i, s := range l.segs {
			if l.right > 0 && i == len(l.segs)-1 {
				b.Right(line.Skip(line.W-l.right), s.text, s.st)
				break
			}
			if s.tab > 0 {
				at = line.Skip(s.tab)
			}
			at = b.Text(at, s.text, s.st)
		}
		if l.in != nil {
			l.in.Render(b, line.Skip(l.tab).Cut(line.W-l.tab-l.right-1), l.focus)
		}
	}
	if more := len(t.lines) - g.top - r.H; more > 0 && r.H > 0 {
		b.Right(r.Line(r.H-1), fmt.Sprintf(" %d more, down ", more), theme.Hint.S())
	}
}

// group is what several flows are called together, and what one is asked to choose between them.
func (g *Guide) group() (title, question string) {
	for i := range g.flows {
		if !strings.HasPrefix(string(g.flows[i].ID), "create ") {
			return "Move, back up or leave", "What do you want to do?"
		}
	}
	return "Create", "What do you want to create?"
}

func (g *Guide) kindText(t *guideText, width int, gl *theme.Glyphs) {
	if len(g.flows) > 1 {
		_, question := g.group()
		t.add(seg{text: question, st: theme.Title.S()})
		t.add()
		for i := range g.flows {
			f := &g.flows[i]
			mark, st := " ", theme.Text.S()
			if f == g.f {
				mark, st = string(gl.Cursor), theme.Title.S()
				t.at, t.last = len(t.lines), len(t.lines)
			}
			t.add(seg{text: mark, st: theme.Key.S()}, seg{text: f.Title, st: st, tab: 2})
		}
		t.add()
	}
	for _, x := range []struct{ label, text string }{{"Needs", g.f.Needs}, {"Makes", g.f.Makes}, {"Takes", g.f.Takes}} {
		for i, s := range wrap(x.text, max(width-8, 10)) {
			label := x.label
			if i > 0 {
				label = ""
			}
			t.add(seg{text: label, st: theme.Hint.S()}, seg{text: s, st: theme.Text.S(), tab: 8})
		}
	}
	t.add()
	t.say(width, 0, theme.Hint.S(), "Nothing is written before the last step, and nothing happens that the review does not show. Wrong answers block going on, never going back.")
}

// secretText shows that typing is heard, and nothing of what is typed.
func (g *Guide) secretText(t *guideText, width int) {
	x := g.secret
	name := x.names[min(x.now, len(x.names)-1)]
	if len(x.first.b) > 0 {
		name += ", the same again"
	}
	t.add(seg{text: name, st: theme.Title.S()})
	n := utf8.RuneCount(x.one.b)
	t.add()
	t.add(seg{text: strings.Repeat("*", min(n, max(width-20, 4))), st: theme.Key.S()}, seg{text: fmt.Sprintf("  %d characters", n), st: theme.Hint.S()})
	t.add()
	if len(x.names) > 1 {
		t.add(seg{text: fmt.Sprintf("%d of %d", x.now+1, len(x.names)), st: theme.Hint.S()})
	}
	where := "It goes to a private file that is removed at the end."
	if x.once {
		where = "It touches no disk."
	}
	t.say(width, 0, theme.Hint.S(), "What you type is not shown, logged or kept in a draft. "+where+" Whoever records this terminal can read your keys, not this line.")
}

const guideTab = 25 // where values begin

func (g *Guide) stepText(t *guideText, s flow.Step, width int, gl *theme.Glyphs) {
	all := g.complete()
	if s.Intro != "" {
		t.say(width, 0, theme.Text.S(), s.Intro)
		t.add()
	}
	tab := min(guideTab, max(width/3, 8))
	stops := g.stops(s)
	g.focus = min(max(g.focus, 0), max(len(stops)-1, 0))
	k := 0
	for i, q := range s.Fields {
		focused := false
		begin := len(t.lines)
		for ; k < len(stops) && stops[k].field == i; k++ {
			on := k == g.focus
			if on {
				t.at = len(t.lines)
			}
			focused = focused || on
			g.fieldText(t, q, stops[k], all, on, width, tab, gl)
		}
		if focused {
			// The help follows the whole field; a long field keeps its focused line in sight.
			help := q.Help
			if q.Example != "" && q.Kind != flow.Bool && q.Kind != flow.Choice && q.Kind != flow.Many {
				help = strings.TrimSuffix(help, ".") + ", as in " + q.Example
			}
			if q.Kind == flow.Phrase && q.Phrase != nil {
				t.say(width, min(4, tab), theme.Text.S(), "type exactly: "+q.Phrase(all))
			}
			if p, ok := g.refused[q.Key]; ok {
				if p.Phrase != "" {
					t.say(width, min(4, tab), theme.Text.S(), "type exactly: "+p.Phrase)
				}
				t.say(width, min(4, tab), theme.Warn.S(), p.Error())
			} else if help != "" {
				t.say(width, min(4, tab), theme.Hint.S(), help)
			}
			t.last = len(t.lines) - 1
			if t.last-begin > 12 {
				t.last = t.at + 1
			}
		}
	}
	if s.Table != nil {
		if rows := s.Table(g.facts, all); len(rows) > 0 {
			t.add()
			g.tableText(t, rows, width)
		}
	}
}

// planTable lays out a plan's table. Where it is too wide, the widest columns but the first,
// which says who, are cut.
func planTable(p *engine.PlanTable, width int) [][]seg {
	widths := make([]int, len(p.Columns))
	for i, c := range p.Columns {
		widths[i] = widget.Width(c)
		for _, row := range p.Rows {
			if i < len(row) {
				widths[i] = max(widths[i], widget.Width(row[i]))
			}
		}
	}
	total := 2
	for _, w := range widths {
		total += w + 2
	}
	for total > width && len(widths) > 2 {
		widest := 1
		for i := 2; i < len(widths); i++ {
			if widths[i] > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= 4 {
			break
		}
		widths[widest]--
		total--
	}
	line := func(cells []string, mark bool, st theme.Style) []seg {
		var out []seg
		if mark {
			out = append(out, seg{text: "!", st: theme.Warn.S()})
		}
		at := 2
		for i, c := range cells {
			if i >= len(widths) || at >= width {
				break
			}
			if r := []rune(c); len(r) > widths[i] {
				c = string(r[:max(widths[i]-1, 0)]) + "~"
			}
			out = append(out, seg{text: c, st: st, tab: at})
			at += widths[i] + 2
		}
		return out
	}
	out := [][]seg{line(p.Columns, false, theme.Hint.S())}
	for i, row := range p.Rows {
		if i == maxListed {
			out = append(out, []seg{{text: fmt.Sprintf("and %d more", len(p.Rows)-i), st: theme.Hint.S(), tab: 2}})
			break
		}
		mark := slices.Contains(p.Marked, i)
		st := theme.Text.S()
		if mark {
			st = theme.Warn.S()
		}
		out = append(out, line(row, mark, st))
	}
	return out
}

func (g *Guide) tableText(t *guideText, rows [][]string, width int) {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], widget.Width(c))
		}
	}
	for y, row := range rows {
		st := theme.Text.S()
		if y == 0 {
			st = theme.Hint.S()
		}
		var segs []seg
		at := 2
		for i, c := range row {
			if at >= width {
				break
			}
			segs = append(segs, seg{text: c, st: st, tab: at})
			at += widths[i] + 2
		}
		t.add(segs...)
	}
}

// fieldText draws one place of a field that can have the focus.
func (g *Guide) fieldText(t *guideText, q flow.Field, st stop, all flow.Answers, on bool, width, tab int, gl *theme.Glyphs) {
	mark := " "
	if on {
		mark = string(gl.Cursor)
	}
	title := q.Title
	switch {
	case st.sub == 1 && q.Kind != flow.Rows:
		title = "  again"
	case q.Kind == flow.Rows && st.sub > 0:
		title = ""
	}
	head := []seg{{text: mark, st: theme.Key.S()}, {text: title, st: theme.Title.S(), tab: 2}}
	value := all[q.Key]
	in := g.input(q, st)
	if in == nil {
		g.choiceText(t, head, q, value, on, width, tab, gl)
		return
	}
	line := guideLine{segs: head, in: in, tab: tab, focus: on}
	typed := strings.TrimSpace(in.Value())
	note, role := "", theme.Hint
	below := ""
	switch {
	case q.Kind == flow.Rows:
		if typed != "" && q.Check != nil {
			if err := q.Check(typed, all); err != nil {
				below, role = err.Error(), theme.Warn
			}
		}
	case typed == "" && st.sub == 0 && value != "":
		note = "empty: " + value
	case typed == "" && st.sub == 0 && q.Optional:
		note = "may be empty"
	case st.sub == 1:
		if n := strings.TrimSpace(g.lines[q.Key].Value()); typed != "" && typed == n {
			note, role = "the same", theme.OK
		} else if typed != "" && strings.HasPrefix(n, typed) {
			note = fmt.Sprintf("%d to go", len(n)-len(typed))
		} else if typed != "" {
			below, role = "the two are not the same", theme.Warn
		}
	case typed != "":
		if err := q.Problem(g.facts, value, all); err != nil {
			below, role = err.Error(), theme.Warn
		} else if q.Note != nil {
			note = q.Note(value, all)
		}
		if q.Kind == flow.Sentence {
			note = "the checks say"
		} else if note == "" && below == "" {
			note, role = "ok", theme.OK
			if s := g.o.Session; s != nil && s.From[q.Key] != "" && typed == strings.TrimSpace(g.given[q.Key]) {
				note, role = "from "+s.From[q.Key], theme.Hint
			}
		}
	}
	if note != "" {
		if w := widget.Width(note); w <= max(width-tab, 0)/2 && widget.Width(typed)+w+3 <= width-tab {
			line.right = w
			line.segs = append(line.segs, seg{text: note, st: role.S()})
		} else {
			below = note
		}
	}
	t.lines = append(t.lines, line)
	if below != "" {
		t.say(width, tab, role.S(), below)
	}
}

func (g *Guide) choiceText(t *guideText, head []seg, q flow.Field, value string, on bool, width, tab int, gl *theme.Glyphs) {
	if q.Kind == flow.Bool {
		word := "no"
		if value == "true" {
			word = "yes"
		}
		t.add(append(head, seg{text: word, st: theme.Key.S(), tab: tab})...)
		return
	}
	options := g.options(q)
	if len(options) == 0 {
		t.add(append(head, seg{text: "nothing to choose from", st: theme.Warn.S(), tab: tab})...)
		return
	}
	chosen := flow.Answers{q.Key: value}.Items(q.Key)
	if q.Kind == flow.Choice {
		chosen = []string{value}
	}
	is := func(o flow.Option) bool {
		for _, c := range chosen {
			if c == o.Value {
				return true
			}
		}
		return false
	}
	mark := func(o flow.Option) string {
		m := [2]string{"( ) ", "(*) "}
		if q.Kind == flow.Many {
			m = [2]string{"[ ] ", "[x] "}
		}
		if is(o) {
			return m[1]
		}
		return m[0]
	}
	name := func(o flow.Option) string {
		if o.Title != "" {
			return o.Title
		}
		return o.Value
	}
	// On one line where they fit and there is nothing to say about them.
	short, total := q.Kind == flow.Choice, tab
	for _, o := range options {
		short = short && o.Note == "" && o.Refused == ""
		total += widget.Width(name(o)) + 6
	}
	if short && total <= width {
		segs, at := head, tab
		for _, o := range options {
			st := theme.Text.S()
			if is(o) {
				st = theme.Key.S()
			}
			segs = append(segs, seg{text: mark(o) + name(o), st: st, tab: at})
			at += widget.Width(name(o)) + 6
		}
		t.add(segs...)
		return
	}
	widest := 0
	for _, o := range options {
		widest = max(widest, widget.Width(name(o)))
	}
	first := len(t.lines)
	for i, o := range options {
		var segs []seg
		if i == 0 {
			segs = append(segs, head...)
		}
		st := theme.Text.S()
		if is(o) {
			st = theme.Key.S()
		}
		if q.Kind == flow.Many && on && i == min(g.under[q.Key], len(options)-1) {
			segs = append(segs, seg{text: string(gl.Cursor), st: theme.Key.S(), tab: max(tab-2, 1)})
			t.at = len(t.lines)
		}
		segs = append(segs, seg{text: mark(o) + name(o), st: st, tab: tab})
		switch {
		case o.Refused != "":
			segs = append(segs, seg{text: o.Refused, st: theme.Warn.S(), tab: tab + widest + 6})
		case o.Note != "":
			segs = append(segs, seg{text: o.Note, st: theme.Hint.S(), tab: tab + widest + 6})
		}
		t.add(segs...)
		if on && q.Kind == flow.Choice && is(o) {
			t.at = max(first, len(t.lines)-1)
		}
	}
}

func (g *Guide) checkText(t *guideText, width int, gl *theme.Glyphs) {
	line := func(role theme.Role, s string) {
		for i, x := range wrap(s, max(width-4, 10)) {
			if i == 0 {
				t.add(seg{text: " " + string(gl.Sign(role)), st: role.S()}, seg{text: x, st: theme.Text.S(), tab: 4})
				continue
			}
			t.add(seg{text: x, st: theme.Text.S(), tab: 4})
		}
	}
	if g.asking {
		line(theme.Busy, "asking the engine: target, files and machine are looked at, nothing is written")
		return
	}
	for _, p := range g.problems {
		s := p.Cause
		if p.Field != "" && !strings.HasPrefix(s, "--"+p.Field) {
			s = p.Field + ": " + s
		}
		if p.Remedy != "" {
			s += "; " + p.Remedy
		}
		line(theme.Crit, s)
	}
	if g.plan == nil {
		t.add()
		t.say(width, 0, theme.Title.S(), fmt.Sprintf("%d blocks. Nothing was written.", len(g.problems)))
		return
	}
	line(theme.OK, "the answers fit each other and this machine")
	if n := len(g.plan.Files); n > 0 {
		line(theme.OK, fmt.Sprintf("%d files and directories can be written, nothing stands in the way", n))
	}
	for _, s := range g.plan.Steps {
		line(theme.OK, s.Text)
	}
	for _, e := range g.plan.Effects {
		s := e.What + ": " + e.Now
		if e.After != "" && e.After != e.Now {
			s += ", then " + e.After
		}
		line(theme.OK, s)
	}
	for _, x := range g.plan.LeftOut {
		line(theme.Warn, x.Target+": "+x.Why)
	}
	if g.plan.Table != nil {
		t.add()
		for _, segs := range planTable(g.plan.Table, width) {
			t.add(segs...)
		}
		t.add()
	}
	for _, s := range g.plan.Warnings {
		line(theme.Warn, s)
	}
	for _, s := range g.plan.Notes {
		t.say(width, 4, theme.Hint.S(), s)
	}
	t.add()
	t.say(width, 0, theme.Title.S(), fmt.Sprintf("0 block, %d warn.", len(g.plan.Warnings)))
}
