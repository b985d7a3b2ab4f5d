package wizard

import (
	"fmt"
	"strings"

	"app.provost/engine"
	"app.provost/tui/page"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// maxListed is how many things of a kind are listed at the most; the others are counted.
const maxListed = 200

// maxFiles is how many files are listed at the most: the rest follow the same pattern.
const maxFiles = 24

// seg is a piece of a line; tab moves to a column of the line first.
type seg struct {
	text string
	st   theme.Style
	tab  int
}

// text is what a step shows when it may be longer than its room.
type text [][]seg

func (t *text) add(segs ...seg) { *t = append(*t, segs) }

// say adds a paragraph, broken between words, with all lines but the first indented.
func (t *text) say(width, indent int, st theme.Style, s string) {
	lines := wrap(s, max(width-indent, 8))
	for i, l := range lines {
		if i > 0 {
			l = strings.Repeat(" ", indent) + l
		}
		t.add(seg{text: l, st: st})
	}
}

// wrap breaks a text between words; words longer than the width are cut.
func wrap(s string, width int) []string { return widget.Wrap(strings.Fields(s), width) }

// shellWords cuts a command line between its words; what is quoted stays together.
func shellWords(s string) []string {
	var out []string
	from, quoted := 0, false
	for i := range len(s) {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case s[i] == ' ' && !quoted:
			if i > from {
				out = append(out, s[from:i])
			}
			from = i + 1
		}
	}
	return append(out, s[from:])
}

// draw shows a text from w.top on, and says when there is more.
func (w *Wizard) draw(b *widget.Buffer, r widget.Rect, t text) {
	w.h = r.H
	w.top = min(w.top, max(len(t)-r.H, 0))
	w.longer = w.top+r.H < len(t)
	for y := 0; y < r.H && w.top+y < len(t); y++ {
		line := r.Line(y)
		at := line
		for _, s := range t[w.top+y] {
			if s.tab > 0 {
				at = line.Skip(s.tab)
			}
			at = b.Text(at, s.text, s.st)
		}
	}
	if w.longer && r.H > 0 {
		more := fmt.Sprintf(" %d more, down ", len(t)-w.top-r.H)
		b.Right(r.Line(r.H-1), more, theme.Hint.S())
	}
}

// Render draws the wizard's box over what is there.
func (w *Wizard) Render(b *widget.Buffer, l *page.Look, r widget.Rect) {
	w.now = l.Now
	if r.W < 12 || r.H < 4 {
		return
	}
	width, height := min(r.W, 104), min(r.H, 26)
	box := widget.Rect{X: r.X + (r.W-width)/2, Y: r.Y + (r.H-height)/3, W: width, H: height}
	b.Clear(box)
	name := string(w.step())
	if w.step() == how {
		name = w.howTitle
	}
	note := fmt.Sprintf("step %d of %d: %s", w.before+w.at+1, w.before+len(w.steps)-1, name)
	if w.step() == running {
		note = "done"
		if w.act != nil {
			note = "act " + w.act.ID + ": " + string(w.act.State)
		} else if w.receipt != nil && w.receipt.Act != "" {
			note = "act " + w.receipt.Act
		}
	}
	if w.gate {
		note = "first: " + note
	}
	in := b.Box(box, w.title, note).In(1)
	if w.leaving {
		w.drawLeave(b, in)
		return
	}
	// The last lines say what is wrong, and on the review what to do to agree.
	var foot text
	w.foot(&foot, l, in.W)
	foot = foot[:min(len(foot), max(in.H-3, 1))]
	body := in.Top(in.H - len(foot))
	tail := in.Below(body.H)
	for y, line := range foot {
		at := tail.Line(y)
		for _, s := range line {
			if s.tab > 0 {
				at = tail.Line(y).Skip(s.tab)
			}
			if s.text == "\x00" { // the phrase being typed
				at = w.typed.Render(b, at, true)
				continue
			}
			at = b.Text(at, s.text, s.st)
		}
	}
	switch w.step() {
	case which:
		w.drawWhich(b, body)
	case how:
		w.drawHow(b, body)
	case effects:
		w.draw(b, body, w.effectsText(body.W))
	case review:
		w.draw(b, body, w.reviewText(l, body.W))
		if w.plan != nil {
			w.drawn = w.plan.Digest
		}
	case running:
		w.draw(b, body, w.runText(b.Glyphs, l, body.W))
	}
}

func (w *Wizard) foot(t *text, l *page.Look, width int) {
	switch {
	case w.problem != "":
		t.say(width, 0, theme.Warn.S(), w.problem)
	case w.asking:
		t.add(seg{text: "asking the engine for the plan", st: theme.Busy.S()})
	case w.sending:
		t.say(width, 0, theme.Busy.S(), w.underWay(l))
	}
	if w.step() != review || w.plan == nil || w.sending {
		return
	}
	c := &w.plan.Consent
	if w.locked = w.waits(l); w.locked {
		if w.problem == "" {
			t.say(width, 0, theme.Warn.S(), "LOCKED: screens may look and not act. enter opens the unlocking first, as :unlock 15m <reason> does.")
		}
		return
	}
	if want := w.phrase(); want != "" {
		if c.Why != "" {
			t.say(width, 0, theme.Text.S(), c.Why)
		}
		t.add(seg{text: "Type " + want + " to agree: ", st: theme.Title.S()}, seg{text: "\x00"})
		return
	}
	why := "enter is enough."
	switch {
	case c.Why != "":
		why = c.Why + ": enter is enough."
	case w.plan.Undo != "":
		why = "It can be undone: enter is enough."
	}
	t.say(width, 0, theme.Title.S(), why)
}

// underWay says how far an act is that answers only when it is done.
func (w *Wizard) underWay(l *page.Look) string {
	if w.sent != nil && l.Snap.Acts != nil {
		for i := range l.Snap.Acts.Rows {
			if a := &l.Snap.Acts.Rows[i]; a.Kind == w.base.Kind() && a.State.Open() && a.Text != "" {
				return a.Text
			}
		}
	}
	return "sent; waiting until the engine has recorded it"
}

func (w *Wizard) drawLeave(b *widget.Buffer, r widget.Rect) {
	b.Text(r.Line(1), "Leave? What was typed here is lost; nothing was done.", theme.Title.S())
	at := b.Text(r.Line(3), "enter", theme.Key.S())
	at = b.Text(at, " leave      ", theme.Text.S())
	b.Text(b.Text(at, "esc", theme.Key.S()), " stay", theme.Text.S())
}

func (w *Wizard) drawWhich(b *widget.Buffer, r widget.Rect) {
	count := fmt.Sprintf("%d match", len(w.match))
	line := b.Text(r.Line(0), "Which workers?  ", theme.Title.S())
	w.sel.Render(b, line.Cut(line.W-len(count)-2), !w.list)
	b.Right(r.Line(0), count, theme.Text.S())
	if w.matchNo != "" {
		var t text
		t.say(r.W, 0, theme.Hint.S(), w.matchNo)
		w.draw(b, r.Below(2), t)
		return
	}
	if w.list {
		w.drawList(b, r.Below(2))
		return
	}
	counts := map[engine.WorkerState]int{}
	var order []engine.WorkerState
	for _, x := range w.match {
		if counts[x.State] == 0 {
			order = append(order, x.State)
		}
		counts[x.State]++
	}
	y := 2
	for _, s := range order {
		if y >= r.H-2 {
			break
		}
		role := theme.OfWorker(s)
		at := b.Text(r.Line(y), fmt.Sprintf("%6d  ", counts[s]), theme.Text.S())
		at = b.Text(b.Rune(at, b.Glyphs.Sign(role), role.S()), " "+string(s), role.S())
		if pauseLeaves(w.base, s) {
			b.Text(at, "   paused already: the plan leaves them out", theme.Hint.S())
		}
		y++
	}
	y++
	rows := r.H - y - 2
	i := 0
	for k := 0; k < rows && i < len(w.match); k++ {
		at := r.Line(y + k)
		for i < len(w.match) && at.W >= 8 {
			if k == rows-1 && at.W < 24 && len(w.match)-i > at.W/8 {
				b.Text(at, fmt.Sprintf("%c %d more", b.Glyphs.Ellipsis, len(w.match)-i), theme.Hint.S())
				return
			}
			b.Text(at.Cut(7), string(w.match[i].ID), theme.OfWorker(w.match[i].State).S())
			at = at.Skip(8)
			i++
		}
	}
	if r.H > y+3 {
		b.Text(r.Line(r.H-1), `ids (w1,w3-w5), a filter (host:m18 state=run), or all; empty chooses none`, theme.Hint.S())
	}
}

// pauseLeaves tells whether a pause leaves workers of this state alone.
func pauseLeaves(a engine.Action, s engine.WorkerState) bool {
	_, ok := a.(engine.PauseWorkers)
	return ok && (s == engine.WorkerPaused || s == engine.WorkerPausing)
}

func (w *Wizard) drawList(b *widget.Buffer, r widget.Rect) {
	from := max(min(w.cursor-r.H/2, len(w.match)-r.H), 0)
	w.h = r.H
	for y := 0; y < r.H && from+y < len(w.match); y++ {
		x := w.match[from+y]
		line := r.Line(y)
		if from+y == w.cursor {
			b.Rune(line, b.Glyphs.Cursor, theme.Key.S())
		}
		role := theme.OfWorker(x.State)
		b.Text(line.Skip(2).Cut(8), string(x.ID), theme.Text.S())
		b.Text(line.Skip(11).Cut(8), x.Key.Machine, theme.Text.S())
		at := b.Text(b.Rune(line.Skip(20), b.Glyphs.Sign(role), role.S()), " "+string(x.State), role.S())
		if x.Job != nil && at.W > 20 {
			b.Text(line.Skip(32), "job "+string(*x.Job)[:min(len(*x.Job), 9)], theme.Hint.S())
		}
		if from+y == w.cursor {
			b.Mark(line, theme.Selected)
		}
	}
}

func (w *Wizard) drawHow(b *widget.Buffer, r widget.Rect) {
	// Each field has a line, and one of help where there is room.
	each := 3
	if r.H < each*len(w.fields) {
		each = 2
	}
	if r.H < each*len(w.fields) {
		each = 1
	}
	for i := range w.fields {
		f := &w.fields[i]
		y := i * each
		line := r.Line(y)
		if i == w.focus {
			b.Rune(line, b.Glyphs.Cursor, theme.Key.S())
		}
		b.Text(line.Skip(2), f.label, theme.Title.S())
		value := line.Skip(11)
		note, role := "", theme.Hint
		switch {
		case f.toggle:
			word := "no"
			if f.on {
				word = "yes"
			}
			b.Text(value, word, theme.Key.S())
		case f.check != nil && f.in.Value() != "" && f.check(f.in.Value()) != nil:
			note, role = f.check(f.in.Value()).Error(), theme.Warn
		case f.note != nil && f.in.Value() != "":
			note = f.note(f.in.Value(), w.now)
		}
		nw := min(widget.Width(note), value.W/2)
		if !f.toggle {
			f.in.Render(b, value.Cut(value.W-nw-2), i == w.focus)
		}
		b.Right(value.Skip(value.W-nw), note, role.S())
		if each > 1 {
			b.Text(r.Line(y+1).Skip(11), f.help, theme.Hint.S())
		}
	}
	y := each * len(w.fields)
	say := func(s string) {
		for _, l := range wrap(s, r.W) {
			b.Text(r.Line(y), l, theme.Hint.S())
			y++
		}
	}
	switch w.base.(type) {
	case engine.PauseWorkers:
		say("A pause is a promise with an end: it outlives restarts of the engine and ends by itself.")
	case engine.UnlockScreens:
		say("The lock opens for every screen of this engine. Each act still shows its plan and asks.")
	case engine.SubmitJob:
		say("The files are read by the engine and kept until the proof is verified.")
	}
}

func (w *Wizard) effectsText(width int) text {
	var t text
	p := w.plan
	if p == nil {
		return t
	}
	t.say(width, 0, theme.Title.S(), p.Title)
	t.add()
	if len(p.Effects) > 0 {
		a, c := 28, 15
		if width < 70 {
			a, c = 24, 10
		}
		during := false
		for _, e := range p.Effects {
			during = during || e.During != ""
		}
		head := []seg{{text: "NOW", st: theme.Hint.S(), tab: a}}
		if during {
			head = append(head, seg{text: w.duringWord(), st: theme.Hint.S(), tab: a + c})
		}
		t.add(append(head, seg{text: "AFTER", st: theme.Hint.S(), tab: a + 2*c})...)
		for _, e := range p.Effects {
			line := []seg{{text: e.What, st: theme.Text.S()}, {text: e.Now, st: theme.Text.S(), tab: a}}
			if e.During != "" {
				st := theme.Text.S()
				if e.During != e.Now {
					st = theme.Paused.S()
				}
				line = append(line, seg{text: e.During, st: st, tab: a + c})
			}
			t.add(append(line, seg{text: e.After, st: theme.Text.S(), tab: a + 2*c})...)
		}
		t.add()
	}
	for i, s := range p.Steps {
		for j, x := range wrap(s.Text, max(width-12, 10)) {
			line := []seg{{text: x, st: theme.Text.S(), tab: 12}}
			if j == 0 {
				line = append([]seg{{text: fmt.Sprintf("%d %s", i+1, s.Name), st: theme.Hint.S()}}, line...)
			}
			t.add(line...)
		}
	}
	w.warnings(&t, width)
	if len(p.LeftOut) > 0 {
		t.add()
		t.add(seg{text: fmt.Sprintf("%d left out:", len(p.LeftOut)), st: theme.Title.S()})
		for i, x := range p.LeftOut {
			if i == maxListed {
				t.add(seg{text: fmt.Sprintf("  and %d more", len(p.LeftOut)-i), st: theme.Hint.S()})
				break
			}
			t.add(seg{text: "  " + name(x.Target), st: theme.Text.S()}, seg{text: x.Why, st: theme.Text.S(), tab: 12})
		}
	}
	return t
}

func (w *Wizard) duringWord() string {
	switch w.base.(type) {
	case engine.PauseWorkers:
		return "PAUSED"
	}
	return "DURING"
}

func (w *Wizard) warnings(t *text, width int) {
	p := w.plan
	for _, s := range p.Warnings {
		t.say(width, 2, theme.Warn.S(), "! "+s)
	}
	for _, s := range p.Irreversible {
		t.say(width, 2, theme.Warn.S(), "! cannot be undone: "+s)
	}
	if p.Undo != "" {
		t.say(width, 6, theme.Text.S(), "undo: "+p.Undo)
	}
}

// name is a target without its kind.
func name(target string) string {
	if i := strings.LastIndexByte(target, '/'); i >= 0 {
		return target[i+1:]
	}
	return target
}

func (w *Wizard) reviewText(l *page.Look, width int) text {
	var t text
	p := w.plan
	if p == nil {
		return t
	}
	if w.changed {
		t.add(seg{text: "THE PLAN HAS CHANGED. Nothing was done.", st: theme.Warn.S()})
	}
	head := "PLAN " + short(p.Digest) + "   "
	for i, s := range wrap(p.Title, max(width-len(head), 10)) {
		if i == 0 {
			t.add(seg{text: head, st: theme.Hint.S()}, seg{text: s, st: theme.Title.S()})
			continue
		}
		t.add(seg{text: s, st: theme.Title.S(), tab: len(head)})
	}
	fact := func(label, s string) {
		for i, x := range wrap(s, max(width-13, 10)) {
			if i > 0 {
				label = ""
			}
			t.add(seg{text: "  " + label, st: theme.Hint.S()}, seg{text: x, st: theme.Text.S(), tab: 13})
		}
	}
	if len(p.Targets) > 0 {
		fact("targets", targets(p.Targets, 3*max(width-20, 20)))
	}
	if len(p.LeftOut) > 0 {
		fact("left out", fmt.Sprintf("%d, as %s: %s", len(p.LeftOut), name(p.LeftOut[0].Target), p.LeftOut[0].Why))
	}
	for _, s := range p.Steps {
		fact(s.Name, s.Text)
	}
	files := func() {
		for i, f := range p.Files {
			if i == maxFiles && len(p.Files) > maxFiles+1 {
				fact("writes", fmt.Sprintf("and %d more", len(p.Files)-i))
				break
			}
			fact("writes", f.Path+"  "+f.Mode)
		}
	}
	few := len(p.Files) <= 4 // many stand last: what can't be undone must not be below them
	if few {
		files()
	} else {
		fact("writes", fmt.Sprintf("%d files and directories, listed at the end", len(p.Files)))
	}
	fact("checked", "the engine makes the plan again before it acts; another plan asks again")
	w.warnings(&t, width)
	for _, s := range p.Notes {
		t.say(width, 2, theme.Hint.S(), "  "+s)
	}
	if p.Table != nil {
		t.add()
		t = append(t, planTable(p.Table, width)...)
	}
	t.add()
	t.add(seg{text: "SAME THING WITHOUT THE WIZARD", st: theme.Title.S()}, seg{text: "y copy", st: theme.Hint.S(), tab: max(width-7, 31)})
	lines := widget.Wrap(shellWords(w.line()), max(width-6, 10))
	for i, s := range lines {
		if i > 0 {
			s = "  " + s
		}
		if i < len(lines)-1 {
			s += ` \`
		}
		t.add(seg{text: "  " + s, st: theme.Text.S()})
	}
	if !few {
		t.add()
		files()
	}
	if w.unsure {
		t.say(width, 0, theme.Warn.S(), "An earlier request may have been taken: the acts (0) say so.")
	}
	return t
}

// targets names as many as there is room for.
func targets(list []string, room int) string {
	var b strings.Builder
	for i, t := range list {
		if b.Len()+len(name(t)) > room {
			fmt.Fprintf(&b, " and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(name(t))
	}
	if len(list) > 1 {
		return fmt.Sprintf("%d: %s", len(list), b.String())
	}
	return b.String()
}

func (w *Wizard) runText(g *theme.Glyphs, l *page.Look, width int) text {
	var t text
	rec := w.receipt
	if rec == nil {
		return t
	}
	t.say(width, 0, theme.Title.S(), rec.Title)
	if rec.Repeated {
		t.add(seg{text: "It had been taken before: this is that act, nothing was done twice.", st: theme.Hint.S()})
	}
	for _, s := range rec.Notes {
		t.say(width, 2, theme.Text.S(), "  "+s)
	}
	for i, id := range rec.Jobs {
		if i == 20 {
			t.add(seg{text: fmt.Sprintf("  and %d more jobs", len(rec.Jobs)-i), st: theme.Hint.S()})
			break
		}
		t.add(seg{text: "  job " + id, st: theme.Text.S()})
	}
	for _, f := range rec.Facts {
		t.say(width, 4, theme.Text.S(), "  "+f.Name+": "+f.Value)
	}
	a := w.act
	if a == nil {
		if rec.Act != "" {
			t.add(seg{text: "recorded as act " + rec.Act + "; waiting for its first report", st: theme.Busy.S()})
		}
		return t
	}
	role := theme.OfAct(a.State)
	state := string(g.Sign(role)) + " " + string(a.State)
	if a.Text != "" {
		state += ": " + a.Text
	}
	t.say(width, 2, role.S(), state)
	if a.State.Open() && a.Until != nil {
		t.add(seg{text: page.Left(a.Until.Sub(l.Now)) + " left, resumes by itself " + page.Clock(*a.Until, l.Now) + "Z", st: theme.Text.S()})
	}
	for i, s := range a.Steps {
		mark, st := "  ", theme.Hint.S()
		switch {
		case i+1 == a.Step && a.State.Open():
			mark, st = string(g.Cursor)+" ", theme.Text.S()
		case i+1 < a.Step || !a.State.Open():
			st = theme.Text.S()
		}
		t.add(seg{text: mark + s.Name, st: st}, seg{text: s.Text, st: st, tab: 12})
	}
	if len(a.Settled) > 0 {
		w.settledText(&t, g, l, width)
	}
	t.say(width, 0, theme.Hint.S(), `"sent" is not "done": a target counts when it was seen to be done. This goes on without the terminal.`)
	return t
}

func (w *Wizard) settledText(t *text, g *theme.Glyphs, l *page.Look, width int) {
	a := w.act
	count := map[string]int{}
	for i := range a.Settled {
		count[a.Settled[i].State]++
	}
	n := len(a.Settled)
	bar := min(24, max(width-50, 6))
	line := []seg{{text: "done", st: theme.Text.S()}}
	full := count["done"] * bar / n
	line = append(line, seg{text: strings.Repeat(string(g.Full), full) + strings.Repeat(string(g.Empty), bar-full), st: theme.OK.S(), tab: 12})
	line = append(line, seg{text: fmt.Sprintf("  %d/%d", count["done"], n), st: theme.Text.S()})
	for _, s := range []string{"waiting", "sent", "refused", "failed"} {
		if count[s] > 0 {
			line = append(line, seg{text: fmt.Sprintf("   %d %s", count[s], s), st: roleOf(s).S()})
		}
	}
	t.add(line...)
	head := "TARGET"
	if w.open {
		head = "OPEN ONES"
	}
	t.add(seg{text: "  " + head, st: theme.Hint.S()}, seg{text: "STATE", st: theme.Hint.S(), tab: 14}, seg{text: "AT", st: theme.Hint.S(), tab: 26})
	// What went wrong stands first.
	for _, states := range [][]string{{"failed", "refused"}, {"waiting", "sent"}, {"done"}} {
		if w.open && states[0] == "done" {
			break
		}
		for i := range a.Settled {
			s := &a.Settled[i]
			if s.State != states[0] && s.State != states[len(states)-1] {
				continue
			}
			role := roleOf(s.State)
			at := "-"
			if s.At != nil {
				at = page.Clock(*s.At, l.Now)
			}
			t.add(seg{text: "  " + name(s.Target), st: theme.Text.S()}, seg{text: string(g.Sign(role)) + " " + s.State, st: role.S(), tab: 14},
				seg{text: at, st: theme.Text.S(), tab: 26}, seg{text: s.Why, st: role.S(), tab: 37})
		}
	}
}

func roleOf(state string) theme.Role {
	switch state {
	case "done":
		return theme.OK
	case "waiting", "sent":
		return theme.Busy
	}
	return theme.Crit
}
