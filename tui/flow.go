package tui

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/tui/page"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// A flow leads to a change: which, how long and why, what it does, review, and
// the act while it runs. It is an overlay; it asks the engine for a plan and shows
// what the engine says, it decides nothing. Nothing is done before the review was
// confirmed, nothing has a default of yes, and an act that was started goes on when
// the flow is closed. The engine makes the plan again when it carries it out: if it
// has become another one, the flow shows the new plan and asks again.

// step is a page of a flow.
type step int

const (
	which   step = iota // selector
	details             // fields: how long, why
	effects             // what it does
	review              // digest, command, consent
	running             // the act
)

var stepNames = map[step]string{which: "which", details: "how long and why", effects: "what it does", review: "review"}

// field is one line of typing.
type field struct {
	label, help string
	in          widget.Input
	check       func(text string) error
	yesNo       bool
	on          bool
}

// flow is one wizard.
type flow struct {
	title  string // "Pause workers"
	steps  []step
	at     int
	kind   engine.ActionKind
	base   engine.Action
	sel    field
	fields []field
	focus  int

	plan    *engine.Plan
	asking  bool
	problem string
	typed   widget.Input
	key     string
	sent    bool
	receipt *engine.Receipt
	act     *engine.ActRow
	match   []*engine.WorkerRow
	matchNo string
	now     time.Time
	list    bool // all matches, key l
	top     int
}

// newFlow makes the flow for an action, with what is set in it filled in.
func newFlow(a engine.Action, now time.Time) page.Overlay {
	f := &flow{base: a, kind: a.Kind(), now: now, key: engine.NewKey()}
	words := strings.ReplaceAll(string(a.Kind()), "_", " ")
	f.title = strings.ToUpper(words[:1]) + words[1:]
	switch a := a.(type) {
	case engine.PauseWorkers:
		f.steps = []step{which, details, effects, review, running}
		f.selector(a.Workers)
		length := field{label: "For", help: "as in 45m or 1h30m; the workers resume by themselves then", check: checkLength}
		length.in.Set("45m")
		if a.For > 0 {
			length.in.Set(a.For.String())
		}
		why := field{label: "Why", help: "kept in the journal", check: checkReason}
		why.in.Set(a.Reason)
		f.fields = []field{length, why, {label: "Stop the processes too?", help: "space changes; after they have drained", yesNo: true, on: a.Stop}}
	case engine.ResumeWorkers:
		f.steps = []step{which, review, running}
		f.selector(a.Workers)
	case engine.RestartWorkers:
		f.steps = []step{which, effects, review, running}
		f.selector(a.Workers)
	case engine.UnlockScreens:
		f.steps = []step{details, review, running}
		length := field{label: "For", help: "as in 15m; the lock closes by itself then", check: checkLength}
		length.in.Set("15m")
		if a.For > 0 {
			length.in.Set(a.For.String())
		}
		why := field{label: "Why", help: "kept in the journal", check: checkReason}
		why.in.Set(a.Reason)
		f.fields = []field{length, why}
	default:
		f.steps = []step{review, running}
	}
	return f
}

func (f *flow) selector(s engine.Selector) {
	f.sel = field{label: "Which workers?"}
	f.sel.in.Set(string(s))
}

func checkLength(s string) error {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		return errors.New("want a length of time, as in 45m or 1h30m")
	}
	if d <= 0 {
		return errors.New("want more than nothing")
	}
	return nil
}

func checkReason(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("say why: the journal keeps it")
	}
	return nil
}

// action is what would be asked for with what was typed.
func (f *flow) action() engine.Action {
	length := func(i int) engine.Duration {
		d, _ := time.ParseDuration(strings.TrimSpace(f.fields[i].in.Value())) // checked before
		return engine.Duration(d)
	}
	sel := engine.Selector(strings.TrimSpace(f.sel.in.Value()))
	switch a := f.base.(type) {
	case engine.PauseWorkers:
		return engine.PauseWorkers{Workers: sel, For: length(0), Reason: strings.TrimSpace(f.fields[1].in.Value()), Stop: f.fields[2].on}
	case engine.ResumeWorkers:
		a.Workers = sel
		return a
	case engine.RestartWorkers:
		a.Workers = sel
		return a
	case engine.UnlockScreens:
		return engine.UnlockScreens{For: length(0), Reason: strings.TrimSpace(f.fields[1].in.Value())}
	}
	return f.base
}

func (f *flow) step() step { return f.steps[f.at] }

// Sudden is false: a flow opens because a key asked for it.
func (f *flow) Sudden() bool { return false }

// Sync looks again at what matches and how the act stands.
func (f *flow) Sync(h page.Host) {
	l := h.Look()
	f.now = l.Now
	if f.step() == which {
		f.find(l)
	}
	if len(f.steps) > 0 && f.steps[0] != which && f.plan == nil && !f.asking && f.problem == "" && f.step() == review {
		f.preview(h)
	}
	if f.receipt != nil && f.receipt.Act != "" {
		for i := range l.Snap.Acts.List() {
			if a := &l.Snap.Acts.Rows[i]; a.ID == f.receipt.Act {
				f.act = a
			}
		}
	}
}

func (f *flow) find(l *page.Look) {
	f.match, f.matchNo = nil, ""
	rows, err := engine.SelectWorkers(l.Snap.Workers.List(), engine.Selector(f.sel.in.Value()), l.Now)
	if err != nil {
		p := engine.AsProblem("", err)
		f.matchNo = p.Cause
		if p.Remedy != "" {
			f.matchNo += "; " + p.Remedy
		}
		return
	}
	f.match = rows
}

// preview asks for the plan.
func (f *flow) preview(h page.Host) {
	f.asking, f.problem, f.plan = true, "", nil
	a := f.action()
	r := engine.Request{Key: f.key, Action: a, Actor: h.Actor()}
	h.Call("wizard", 10*time.Second, func(ctx context.Context, e engine.Engine) func() {
		p, err := e.Preview(ctx, r)
		return func() {
			f.asking = false
			if err != nil {
				f.problem = engine.AsProblem(a.Doing(), err).Error()
				return
			}
			f.plan = &p
		}
	})
}

// do carries the reviewed plan out.
func (f *flow) do(h page.Host) {
	if f.sent || f.plan == nil {
		return
	}
	if why := h.Look().ActsOff(); why != "" && f.kind != engine.KindUnlockScreens && f.kind != engine.KindLockScreens {
		f.problem = why
		return
	}
	f.sent, f.problem = true, ""
	a, digest := f.action(), f.plan.Digest
	r := engine.Request{Key: f.key, Action: a, Actor: h.Actor()}
	h.Call("wizard", 30*time.Second, func(ctx context.Context, e engine.Engine) func() {
		rec, err := e.Do(ctx, r, digest)
		return func() {
			f.sent = false
			if err != nil {
				p := engine.AsProblem(a.Doing(), err)
				f.problem = p.Error()
				if p.Code == engine.CodePlanChanged && p.Plan != nil {
					f.plan, f.key = p.Plan, engine.NewKey()
					f.typed.Set("")
					f.problem = "things changed while you looked: this is the plan now"
				}
				return
			}
			f.receipt = &rec
			f.at = len(f.steps) - 1
			f.Sync(h)
		}
	})
}

// next goes on, if what was typed on this step holds.
func (f *flow) next(h page.Host) {
	switch f.step() {
	case which:
		f.find(h.Look())
		if len(f.match) == 0 {
			f.problem = f.matchNo
			return
		}
	case details:
		for i := range f.fields {
			if c := f.fields[i].check; c != nil {
				if err := c(f.fields[i].in.Value()); err != nil {
					f.focus, f.problem = i, f.fields[i].label+": "+err.Error()
					return
				}
			}
		}
	case effects:
		if f.plan == nil {
			return
		}
	case review:
		if f.plan == nil {
			if !f.asking {
				f.preview(h)
			}
			return
		}
		if f.plan.Consent.Level == "type" && f.typed.Value() != f.plan.Consent.Phrase {
			f.problem = fmt.Sprintf("type %q to confirm", f.plan.Consent.Phrase)
			return
		}
		f.do(h)
		return
	case running:
		h.Close()
		return
	}
	f.at++
	f.problem = ""
	if s := f.step(); s == effects || s == review {
		f.preview(h)
	}
}

func (f *flow) back(h page.Host) {
	if f.at == 0 || f.step() == running || f.sent {
		return
	}
	f.at--
	f.problem = ""
	f.typed.Set("")
	if s := f.step(); s == effects {
		f.preview(h)
	}
}

// input is the line that typing goes to, nil for none.
func (f *flow) input() *widget.Input {
	switch f.step() {
	case which:
		if f.list {
			return nil
		}
		return &f.sel.in
	case details:
		if f.fields[f.focus].yesNo {
			return nil
		}
		return &f.fields[f.focus].in
	case review:
		if f.plan != nil && f.plan.Consent.Level == "type" {
			return &f.typed
		}
	}
	return nil
}

// Paste goes into the field that has the focus. Pasted text never confirms: a
// phrase has to be typed.
func (f *flow) Paste(h page.Host, text string) bool {
	in := f.input()
	if in == nil || f.step() == review {
		return false
	}
	in.Insert(text)
	if f.step() == which {
		f.find(h.Look())
	}
	return true
}

// Key takes a key.
func (f *flow) Key(h page.Host, key, text string) {
	switch key {
	case "esc":
		if f.list {
			f.list = false
			return
		}
		if f.sent {
			h.Say("the act is on its way to the engine; it goes on there")
		}
		h.Close()
		return
	case "enter":
		f.next(h)
		return
	case "shift+tab", "up":
		if f.step() == details && f.focus > 0 {
			f.focus--
			return
		}
		if f.step() == which && f.list {
			f.top = max(f.top-1, 0)
			return
		}
		if key == "shift+tab" {
			f.back(h)
		}
		return
	case "tab", "down":
		if f.step() == details {
			f.focus = min(f.focus+1, len(f.fields)-1)
			return
		}
		if f.step() == which {
			if key == "tab" {
				f.list = !f.list
			} else if f.list {
				f.top++
			}
		}
		return
	}
	if f.step() == details && f.fields[f.focus].yesNo {
		if key == " " {
			f.fields[f.focus].on = !f.fields[f.focus].on
		}
		return
	}
	if in := f.input(); in != nil {
		switch {
		case text != "":
			in.Insert(text)
		case in.Key(key):
		default:
			return
		}
		f.problem = ""
		if f.step() == which {
			f.find(h.Look())
		}
		return
	}
	switch key {
	case "y":
		if f.plan != nil {
			h.Copy("the command", f.plan.Command+" --confirm "+string(f.plan.Digest))
		}
	case "P":
		if f.act != nil && f.act.State.Open() && f.kind == engine.KindPauseWorkers {
			h.Close()
			h.Wizard(engine.CancelAct{ID: f.act.ID})
		}
	case "R":
		if f.step() == review || f.step() == effects {
			f.preview(h)
		}
	}
}

// Hint is the last line.
func (f *flow) Hint() string {
	switch f.step() {
	case which:
		return "enter next   tab list them   ctrl+u clear   esc leave"
	case details:
		return "enter next   tab next field   shift+tab back   esc leave"
	case effects:
		return "enter next   R ask again   shift+tab back   esc leave"
	case review:
		if f.plan != nil && f.plan.Consent.Level == "type" {
			return fmt.Sprintf("type %q, then enter   shift+tab back   esc leave, nothing is done", f.plan.Consent.Phrase)
		}
		return "enter do it   y copy command   R ask again   shift+tab back   esc leave, nothing is done"
	}
	if f.kind == engine.KindPauseWorkers && f.act != nil && f.act.State.Open() {
		return "esc close, the act goes on   P resume now"
	}
	return "esc close"
}

// Render draws the flow's box.
func (f *flow) Render(b *widget.Buffer, l *page.Look, r widget.Rect) {
	w := min(r.W, 96)
	if r.W < 100 {
		w = r.W
	}
	h := min(r.H, 22)
	if r.H > h {
		r = r.Below(max((r.H-h)/3, 0))
	}
	box := widget.Rect{X: r.X + (r.W-w)/2, Y: r.Y, W: w, H: h}
	b.Clear(box)
	n := len(f.steps) - 1
	note := ""
	switch {
	case f.step() == running && f.receipt != nil && f.receipt.Act != "":
		note = "act " + f.receipt.Act
	case f.step() != running && n > 1:
		note = fmt.Sprintf("step %d of %d: %s", f.at+1, n, stepNames[f.step()])
	case f.step() == review:
		note = "review"
	}
	in := b.Box(box, f.title, note).In(1)
	last := in.Line(in.H - 1)
	body := in.Top(in.H - 1)
	switch f.step() {
	case which:
		f.drawWhich(b, body)
	case details:
		f.drawDetails(b, body)
	case effects:
		f.drawEffects(b, l, body)
	case review:
		f.drawReview(b, l, body)
	case running:
		f.drawRunning(b, l, body)
	}
	if f.problem != "" {
		b.Text(last, f.problem, theme.Warn.S())
	} else if f.asking {
		b.Text(last, "asking the engine for the plan", theme.Hint.S())
	} else if f.sent {
		b.Text(last, "sent; waiting for the engine to record it", theme.Busy.S())
	}
}

func (f *flow) drawWhich(b *widget.Buffer, r widget.Rect) {
	line := b.Text(r.Line(0), "Which workers?  ", theme.Title.S())
	line = f.sel.in.Render(b, line.Cut(line.W-14), !f.list)
	b.Right(r.Line(0), fmt.Sprintf("%d match", len(f.match)), theme.Text.S())
	if f.matchNo != "" {
		b.Text(r.Line(2), f.matchNo, theme.Hint.S())
	}
	counts := map[engine.WorkerState]int{}
	var order []engine.WorkerState
	for _, w := range f.match {
		if counts[w.State] == 0 {
			order = append(order, w.State)
		}
		counts[w.State]++
	}
	y := 2
	if !f.list {
		for _, s := range order {
			role := theme.OfWorker(s)
			at := r.Line(y)
			at = b.Text(at, fmt.Sprintf("%6d  ", counts[s]), theme.Text.S())
			b.Text(b.Rune(at, b.Glyphs.Sign(role), role.S()), " "+string(s), role.S())
			y++
		}
		y++
	}
	// Names in lines; what does not fit is counted.
	rows := max(r.H-y-2, 1)
	if f.list {
		f.top = min(f.top, max(len(f.match)/max(r.W/9, 1)-rows+1, 0))
	}
	i := 0
	if f.list {
		i = f.top * max(r.W/9, 1)
	}
	for k := 0; k < rows && i < len(f.match); k++ {
		at := r.Line(y + k)
		for i < len(f.match) && at.W >= 9 {
			if k == rows-1 && at.W < 24 && len(f.match)-i > 1 {
				b.Text(at, fmt.Sprintf("%c %d more", b.Glyphs.Ellipsis, len(f.match)-i), theme.Hint.S())
				i = len(f.match)
				break
			}
			b.Text(at.Cut(8), string(f.match[i].ID), theme.OfWorker(f.match[i].State).S())
			at = at.Skip(9)
			i++
		}
	}
	b.Text(r.Line(r.H-1), `ids w1,w3-w5 or a filter as in host:m18 state=run. Empty matches nothing; "all" is written out.`, theme.Hint.S())
}

func (f *flow) drawDetails(b *widget.Buffer, r widget.Rect) {
	y := 0
	for i := range f.fields {
		fl := &f.fields[i]
		line := r.Line(y)
		if i == f.focus {
			b.Rune(line, b.Glyphs.Cursor, theme.Key.S())
		}
		if fl.yesNo {
			word := "no"
			if fl.on {
				word = "yes"
			}
			b.Text(b.Text(line.Skip(2), fl.label+"  ", theme.Title.S()), word, theme.Key.S())
		} else {
			b.Text(line.Skip(2), fl.label, theme.Title.S())
			fl.in.Render(b, line.Skip(10), i == f.focus)
		}
		b.Text(r.Line(y+1).Skip(10), fl.help, theme.Hint.S())
		if fl.check != nil && fl.in.Value() != "" {
			if d, err := time.ParseDuration(strings.TrimSpace(fl.in.Value())); err == nil && fl.label == "For" && d > 0 {
				b.Right(line, "until "+page.Clock(f.now.Add(d), f.now)+"Z", theme.Hint.S())
			}
		}
		y += 3
	}
	if f.kind == engine.KindPauseWorkers {
		b.Text(r.Line(y), "A pause is a promise with an end: it is kept over restarts of the engine and ends by itself.", theme.Hint.S())
	}
}

func (f *flow) drawEffects(b *widget.Buffer, l *page.Look, r widget.Rect) {
	if f.plan == nil {
		return
	}
	p := f.plan
	b.Text(r.Line(0), p.Title, theme.Title.S())
	y := 2
	if len(p.Effects) > 0 {
		cols := [...]int{28, 44, 60}
		if r.W < 74 {
			cols = [...]int{24, 38, 52}
		}
		for i, h := range [...]string{"NOW", "DURING", "AFTER"} {
			b.Text(r.Line(y).Skip(cols[i]), h, theme.Hint.S())
		}
		y++
		for _, e := range p.Effects {
			if y >= r.H-4 {
				break
			}
			line := r.Line(y)
			b.Text(line.Cut(cols[0]-1), e.What, theme.Text.S())
			for i, v := range [...]string{e.Now, e.During, e.After} {
				st := theme.Text.S()
				if i > 0 && v != e.Now && v != "" {
					st = theme.Title.S()
				}
				if v == "" {
					v = "-"
				}
				b.Text(line.Skip(cols[i]).Cut(15), v, st)
			}
			y++
		}
	} else {
		b.Text(r.Line(y), "No reading changes by this.", theme.Hint.S())
		y++
	}
	y++
	for _, w := range p.Warnings {
		if y < r.H-1 {
			b.Text(r.Line(y), string(b.Glyphs.Warn)+" "+w, theme.Warn.S())
			y++
		}
	}
	if p.Undo != "" && y < r.H {
		b.Text(b.Text(r.Line(y), "undo  ", theme.Hint.S()), p.Undo, theme.Text.S())
		y++
	}
	for _, s := range p.Irreversible {
		if y < r.H {
			b.Text(b.Text(r.Line(y), "for good  ", theme.Warn.S()), s, theme.Text.S())
			y++
		}
	}
}

func (f *flow) drawReview(b *widget.Buffer, l *page.Look, r widget.Rect) {
	if f.plan == nil {
		return
	}
	p := f.plan
	at := b.Text(r.Line(0), "PLAN "+string(p.Digest), theme.Key.S())
	b.Text(at, "   "+p.Title, theme.Title.S())
	y := 1
	put := func(name, text string, st theme.Style) {
		if y >= r.H {
			return
		}
		b.Text(r.Line(y).Skip(2), name, theme.Hint.S())
		y += wrap(b, r.Below(y).Skip(11), text, st)
	}
	if !p.MadeAt.IsZero() {
		put("data", page.Left(l.Now.Sub(p.MadeAt))+" old; asked again before it is done; a change makes a new plan", theme.Text.S())
	}
	for _, s := range p.Steps {
		put(s.Name, s.Text, theme.Text.S())
	}
	if n := len(p.Targets); n > 0 {
		names := make([]string, 0, 12)
		for i, t := range p.Targets {
			if i == 12 {
				names = append(names, fmt.Sprintf("and %d more", n-12))
				break
			}
			names = append(names, strings.TrimPrefix(t, "worker/"))
		}
		put("targets", fmt.Sprintf("%d: %s", n, strings.Join(names, " ")), theme.Text.S())
	}
	for i, lo := range p.LeftOut {
		if i == 3 {
			put("", fmt.Sprintf("and %d more", len(p.LeftOut)-3), theme.Hint.S())
			break
		}
		put("left out", strings.TrimPrefix(lo.Target, "worker/")+": "+lo.Why, theme.Hint.S())
	}
	for _, w := range p.Warnings {
		put("warning", w, theme.Warn.S())
	}
	for _, s := range p.Irreversible {
		put("for good", s, theme.Warn.S())
	}
	y++
	if y < r.H {
		b.Text(r.Line(y), "SAME THING WITHOUT THE WIZARD", theme.Title.S())
		b.Right(r.Line(y), "y copy", theme.Hint.S())
		y++
	}
	command := p.Command
	if !p.ReadOnly {
		command += " --confirm " + string(p.Digest)
	}
	y += wrap(b, r.Below(y).Skip(2), command, theme.Text.S())
	y++
	switch p.Consent.Level {
	case "type":
		line := r.Line(min(y, r.H-1))
		line = b.Text(line, fmt.Sprintf("Type %s to confirm: ", p.Consent.Phrase), theme.Title.S())
		f.typed.Render(b, line, true)
		if p.Consent.Why != "" {
			b.Text(r.Line(y+1), p.Consent.Why, theme.Hint.S())
		}
	default:
		text := "Enter is enough."
		if p.Consent.Why != "" {
			text = p.Consent.Why + ": enter is enough."
		}
		b.Text(r.Line(min(y, r.H-1)), text, theme.Text.S())
	}
}

// wrap writes a text over several lines and returns how many.
func wrap(b *widget.Buffer, r widget.Rect, text string, st theme.Style) int {
	y := 0
	for text != "" && y < r.H && r.W > 0 {
		cut := text
		if widget.Width(text) > r.W {
			n, at := 0, 0
			for i, c := range text {
				n += widget.RuneWidth(c)
				if n > r.W {
					break
				}
				if c == ' ' {
					at = i
				}
			}
			if at == 0 {
				at = min(r.W, len(text))
			}
			cut = text[:at]
		}
		b.Text(r.Line(y), cut, st)
		text = strings.TrimLeft(text[len(cut):], " ")
		y++
	}
	return max(y, 1)
}

func (f *flow) drawRunning(b *widget.Buffer, l *page.Look, r widget.Rect) {
	if f.receipt == nil {
		return
	}
	b.Text(r.Line(0), f.receipt.Title, theme.Title.S())
	y := 2
	for _, n := range f.receipt.Notes {
		y += wrap(b, r.Below(y), n, theme.Text.S())
	}
	a := f.act
	if a == nil {
		if f.receipt.Done {
			b.Text(r.Line(y), "Done.", theme.OK.S())
		} else {
			b.Text(r.Line(y), "Recorded; it goes on in the engine (view 0).", theme.Text.S())
		}
		return
	}
	role := theme.OfAct(a.State)
	at := b.Rune(r.Line(y), b.Glyphs.Sign(role), role.S())
	at = b.Text(at, " "+string(a.State), role.S())
	if a.Until != nil && a.State.Open() {
		at = b.Text(at, fmt.Sprintf("   %s left, ends by itself at %sZ", page.Left(a.Until.Sub(l.Now)), page.Clock(*a.Until, l.Now)), theme.Text.S())
	}
	b.Text(at, "   "+a.Text, theme.Text.S())
	y += 2
	for i, s := range a.Steps {
		role, word := theme.Idle, s.Text
		switch {
		case i+1 < a.Step || !a.State.Open():
			role = theme.OK
		case i+1 == a.Step:
			role = theme.Busy
		}
		at := b.Rune(r.Line(y), b.Glyphs.Sign(role), role.S())
		b.Text(b.Text(at.Cut(12), " "+s.Name, theme.Text.S()), "", theme.Text.S())
		b.Text(r.Line(y).Skip(13), word, theme.Hint.S())
		y++
	}
	counts := map[string]int{}
	for _, s := range a.Settled {
		counts[s.State]++
	}
	if len(a.Settled) > 0 {
		y++
		parts := []string{}
		for _, s := range [...]string{"done", "sent", "waiting", "refused", "failed"} {
			if counts[s] > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
			}
		}
		b.Text(r.Line(y), strings.Join(parts, "   "), theme.Text.S())
		y++
		for _, s := range a.Settled {
			if s.State == "done" || y >= r.H-2 {
				continue
			}
			b.Text(r.Line(y).Skip(2), strings.TrimPrefix(s.Target, "worker/")+"  "+s.State+"  "+s.Why, theme.Text.S())
			y++
		}
	}
	b.Text(r.Line(r.H-1), `"sent" is not "done". This goes on without the terminal.`, theme.Hint.S())
}
