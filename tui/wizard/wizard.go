package wizard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/tui/page"
	"app.provost/tui/widget"
)

const (
	planAge     = 30 * time.Second // a plan that was shown longer ago is asked for again
	previewTime = 10 * time.Second
	doTime      = 30 * time.Second
	maxSelector = 4000 // bytes of a selector that is typed or made
)

// step is one page of a wizard.
type step string

const (
	which   step = "which"
	how     step = "how" // the fields
	effects step = "what it does"
	review  step = "review"
	running step = "act"
)

// field is one line of the second step.
type field struct {
	label, help string
	in          widget.Input
	// check says what is wrong with a text; nil takes everything.
	check func(text string) error
	// note is shown beside a text that is right.
	note func(text string, now time.Time) string
	// toggle fields are yes or no.
	toggle, on bool
}

// Wizard leads through one action. Use New.
type Wizard struct {
	title    string
	howTitle string
	steps    []step
	at       int
	base     engine.Action
	// gate: it was opened by another wizard, to unlock the screens, and closes when that is done.
	gate bool

	sel     widget.Input
	picks   bool // the action chooses workers
	match   []*engine.WorkerRow
	matchNo string
	list    bool // the matches as a list to drop from
	cursor  int
	fields  []field
	focus   int
	touched bool // something was typed

	plan    *engine.Plan
	planAt  time.Time     // when it came
	drawn   engine.Digest // the plan that review has drawn
	changed bool          // it is another one than reviewed before
	typed   widget.Input  // consent
	top     int           // first line shown of a long step
	longer  bool          // there are lines below

	asking  bool // for a plan
	sending bool
	problem string
	// What was sent last and under which key. unsure: its answer never came.
	key     string
	sent    []byte
	unsure  bool
	receipt *engine.Receipt
	act     *engine.ActRow
	open    bool // only targets that are not settled
	leaving bool
	locked  bool // the review waits for the lock, as last drawn
	now     time.Time
	h       int // lines of the body, as last drawn
	id      string

	// Set by a Guide, whose last two steps this wizard is.
	before  int                                                             // steps that came before these
	behind  func()                                                          // where going back from the first step leads
	want    string                                                          // words to type instead of what the plan asks for
	doTime  time.Duration                                                   // how long an act may take; 0: doTime
	planAge time.Duration                                                   // how long a plan is good for; 0: planAge
	ask     func(ctx context.Context, e engine.Engine) (engine.Plan, error) // nil: Preview
	agree   func(h page.Host)                                               // instead of Do
	lineOf  func(p engine.Plan) string
	save    func(h page.Host) // writes an answers file
}

var _ page.Overlay = (*Wizard)(nil)

// New makes the wizard for an action; what is set in it is filled in. Actions
// that need no answers begin with the review.
func New(a engine.Action) *Wizard {
	w := &Wizard{base: a, key: engine.NewKey(), id: "wizard " + engine.NewKey()}
	w.sel.Max = maxSelector
	first := []step{which}
	pick := func(s engine.Selector) {
		w.picks = true
		w.sel.Set(string(s))
	}
	switch a := a.(type) {
	case engine.PauseWorkers:
		w.title, w.howTitle = "Pause workers", "how long and why"
		pick(a.Workers)
		w.fields = []field{forField(a.For, 45*time.Minute, "they resume by themselves then"), whyField(a.Reason, true),
			{label: "Stop", help: "stop the processes too, once they have drained? space changes", toggle: true, on: a.Stop}}
		w.steps = append(first, how, effects, review, running)
	case engine.ResumeWorkers:
		w.title, w.howTitle = "Resume workers", "why"
		pick(a.Workers)
		w.fields = []field{whyField(a.Reason, false)}
		w.steps = append(first, how, review, running)
	case engine.RestartWorkers:
		w.title, w.howTitle = "Restart workers", "why"
		pick(a.Workers)
		w.fields = []field{whyField(a.Reason, true)}
		w.steps = append(first, how, effects, review, running)
	case engine.UnlockScreens:
		w.title, w.howTitle = "Unlock the screens", "how long and why"
		w.fields = []field{forField(a.For, 15*time.Minute, "the lock closes by itself then"), whyField(a.Reason, true)}
		w.steps = []step{how, review, running}
	case engine.SubmitJob:
		w.title, w.howTitle = "Submit jobs", "files and name"
		w.fields = []field{
			{label: "Key", help: "the circuit's .zkey, its whole path on the engine's machine", check: checkPath},
			{label: "Witness", help: "one .wtns for each job, whole paths, with commas between", check: checkPaths, note: countPaths},
			{label: "Name", help: "as lists show the jobs; may be empty"},
		}
		w.fields[0].in.Set(a.Zkey)
		w.fields[1].in.Max = maxSelector
		w.fields[1].in.Set(strings.Join(a.Witnesses, ","))
		w.fields[2].in.Set(a.Name)
		w.steps = []step{how, effects, review, running}
	default:
		words := strings.ReplaceAll(string(a.Kind()), "_", " ")
		w.title = strings.ToUpper(words[:1]) + words[1:]
		w.steps = []step{review, running}
	}
	return w
}

func forField(given engine.Duration, usual time.Duration, then string) field {
	f := field{label: "For", help: "as in 45m or 1h30m; " + then, check: checkLength, note: func(s string, now time.Time) string {
		d, _ := time.ParseDuration(strings.TrimSpace(s)) // checked before
		return "until " + page.Clock(now.Add(d), now) + "Z"
	}}
	if given <= 0 {
		given = engine.Duration(usual)
	}
	f.in.Set(given.String())
	return f
}

func whyField(given string, needed bool) field {
	f := field{label: "Why", help: "kept in the journal"}
	f.in.Max = 200
	f.in.Set(given)
	if needed {
		f.check = func(s string) error {
			if strings.TrimSpace(s) == "" {
				return errors.New("say why")
			}
			return nil
		}
	} else {
		f.help += "; may be empty"
	}
	return f
}

func checkLength(s string) error {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	switch {
	case err != nil:
		return errors.New("want a length of time, as in 45m or 1h30m")
	case d <= 0:
		return errors.New("want more than nothing")
	}
	return nil
}

func checkPath(s string) error {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return errors.New("name the file")
	case !strings.HasPrefix(s, "/"):
		return errors.New("want the whole path, from /")
	case strings.HasSuffix(s, "/"):
		return errors.New("this is a directory")
	}
	return nil
}

func paths(s string) []string {
	var out []string
	for p := range strings.SplitSeq(s, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

func checkPaths(s string) error {
	list := paths(s)
	if len(list) == 0 {
		return errors.New("name at least one file")
	}
	for i, p := range list {
		if err := checkPath(p); err != nil {
			return fmt.Errorf("file %d: %w", i+1, err)
		}
	}
	return nil
}

func countPaths(s string, _ time.Time) string {
	if n := len(paths(s)); n != 1 {
		return fmt.Sprintf("%d jobs", n)
	}
	return "1 job"
}

// action is what would be asked for with what was typed.
func (w *Wizard) action() engine.Action {
	sel := engine.Selector(strings.TrimSpace(w.sel.Value()))
	text := func(i int) string { return strings.TrimSpace(w.fields[i].in.Value()) }
	length := func(i int) engine.Duration {
		d, _ := time.ParseDuration(text(i)) // checked before
		return engine.Duration(d)
	}
	switch a := w.base.(type) {
	case engine.PauseWorkers:
		return engine.PauseWorkers{Workers: sel, For: length(0), Reason: text(1), Stop: w.fields[2].on}
	case engine.ResumeWorkers:
		return engine.ResumeWorkers{Workers: sel, Reason: text(0)}
	case engine.RestartWorkers:
		return engine.RestartWorkers{Workers: sel, Reason: text(0)}
	case engine.UnlockScreens:
		return engine.UnlockScreens{For: length(0), Reason: text(1)}
	case engine.SubmitJob:
		return engine.SubmitJob{Zkey: text(0), Witnesses: paths(text(1)), Name: text(2), MaxAttempts: a.MaxAttempts}
	}
	return w.base
}

func (w *Wizard) step() step { return w.steps[w.at] }

// locks tells whether the action is about the lock itself.
func (w *Wizard) locks() bool {
	switch w.base.(type) {
	case engine.UnlockScreens, engine.LockScreens:
		return true
	}
	return false
}

// off says why the screen may not act now, "" when it may. The lock is not among
// the reasons: see Look.Locked.
func (w *Wizard) off(l *page.Look) string {
	if l.Locked() {
		return ""
	}
	if why := l.ActsOff(); why != "" {
		return why
	}
	if !w.picks {
		return ""
	}
	for i := range l.Snap.Sources.List() {
		s := &l.Snap.Sources.Rows[i]
		if s.Name != "workers" {
			continue
		}
		switch engine.FreshnessOf(l.Now, s.At, time.Duration(s.PeriodS*float64(time.Second))) {
		case engine.Old, engine.Lost:
			return "what is known of the workers is too old: last heard " + engine.Span(l.Now.Sub(*s.At)) + " ago"
		}
	}
	return ""
}

// Sudden is false: a wizard opens because a key asked for it.
func (w *Wizard) Sudden() bool { return false }

// Sync looks again at what matches and how the act stands.
func (w *Wizard) Sync(h page.Host) {
	l := h.Look()
	w.now = l.Now
	if w.picks && w.step() == which {
		w.find(l)
	}
	if w.step() == review && w.at == 0 && w.plan == nil && !w.asking && w.problem == "" {
		w.preview(h)
	}
	if w.receipt != nil && w.receipt.Act != "" {
		for i := range l.Snap.Acts.List() {
			if a := &l.Snap.Acts.Rows[i]; a.ID == w.receipt.Act {
				w.act = a
			}
		}
	}
}

func (w *Wizard) find(l *page.Look) {
	rows, err := engine.SelectWorkers(l.Snap.Workers.List(), engine.Selector(w.sel.Value()), l.Now)
	w.match, w.matchNo = rows, ""
	if err != nil {
		p := engine.AsProblem("", err)
		w.matchNo = p.Cause
		if p.Remedy != "" {
			w.matchNo += "; " + p.Remedy
		}
	}
	w.cursor = min(w.cursor, max(len(w.match)-1, 0))
}

// preview asks for the plan of what was answered.
func (w *Wizard) preview(h page.Host) {
	if why := w.off(h.Look()); why != "" && !w.locks() {
		w.problem = why
	} else {
		w.problem = ""
	}
	w.asking, w.plan, w.drawn = true, nil, ""
	w.typed.Set("")
	a := w.action()
	r := engine.Request{Key: w.key, Action: a, Actor: h.Actor()}
	h.Call(w.id, previewTime, func(ctx context.Context, e engine.Engine) func() {
		p, err := w.plans(ctx, e, r)
		return func() {
			w.asking = false
			if err != nil {
				w.problem = engine.AsProblem(a.Doing(), err).Error()
				return
			}
			w.show(h, &p)
		}
	})
}

func (w *Wizard) plans(ctx context.Context, e engine.Engine, r engine.Request) (engine.Plan, error) {
	if w.ask != nil {
		return w.ask(ctx, e)
	}
	return e.Preview(ctx, r)
}

// show takes a plan as the one to be reviewed.
func (w *Wizard) show(h page.Host, p *engine.Plan) {
	w.plan, w.planAt, w.drawn, w.top = p, h.Look().Now, "", 0
	w.typed.Set("")
}

// phrase is what must be typed to agree to the plan, "" when enter is enough. A
// level that this version does not know asks for the most.
func (w *Wizard) phrase() string {
	p := w.plan
	if w.want != "" {
		return w.want
	}
	switch p.Consent.Level {
	case "none", "enter":
		return ""
	case "type":
		if p.Consent.Phrase != "" {
			return p.Consent.Phrase
		}
	}
	return string(p.Digest[:min(6, len(p.Digest))])
}

// confirm is enter on the review: it leads to Do if all that must hold does.
func (w *Wizard) confirm(h page.Host) {
	l := h.Look()
	switch {
	case w.sending || w.asking:
		return
	case w.plan == nil:
		w.preview(h)
		return
	case w.drawn != w.plan.Digest || w.plan.Digest == "":
		return // nobody can have read it yet
	}
	if w.waits(l) {
		w.unlock(h)
		return
	}
	if want := w.phrase(); want != "" && strings.TrimSpace(w.typed.Value()) != want {
		w.problem = fmt.Sprintf("type %s to agree, then enter", want)
		return
	}
	if !w.locks() {
		if why := w.off(l); why != "" {
			w.problem = "not sent: " + why
			return
		}
	} else if !l.Link.Connected || l.ReadOnly {
		w.problem = "not sent: " + l.ActsOff()
		return
	}
	// A request whose answer was lost is sent again as it was: the same key makes it one act.
	if age := cmp.Or(w.planAge, planAge); l.Now.Sub(w.planAt) > age && !w.unsure {
		w.preview(h)
		w.problem = "the plan was made over " + engine.Span(age) + " ago and is asked for again: look at it and agree again"
		return
	}
	w.do(h)
}

// waits tells whether the screens have to be unlocked before anybody can agree.
func (w *Wizard) waits(l *page.Look) bool {
	return !w.locks() && l.Locked() && w.off(l) == "" && w.plan != nil && !w.plan.ReadOnly
}

// unlock opens the step that is missing.
func (w *Wizard) unlock(h page.Host) {
	reason := ""
	for i := range w.fields {
		if w.fields[i].label == "Why" {
			reason = strings.TrimSpace(w.fields[i].in.Value())
		}
	}
	u := New(engine.UnlockScreens{Reason: reason})
	u.gate = true
	w.typed.Set("")
	w.problem = ""
	h.Open(u)
}

func (w *Wizard) do(h page.Host) {
	if w.agree != nil {
		w.agree(h)
		return
	}
	a, digest := w.action(), w.plan.Digest
	raw, err := engine.MarshalAction(a)
	if err != nil {
		w.problem = err.Error()
		return
	}
	if w.sent != nil && !(w.unsure && string(raw) == string(w.sent)) {
		w.key = engine.NewKey()
	}
	w.sent, w.sending, w.problem, w.changed = raw, true, "", false
	r := engine.Request{Key: w.key, Action: a, Actor: h.Actor()}
	h.Call(w.id, cmp.Or(w.doTime, doTime), func(ctx context.Context, e engine.Engine) func() {
		rec, err := e.Do(ctx, r, digest)
		return func() {
			w.sending = false
			if err != nil {
				w.refused(h, a, err)
				return
			}
			w.unsure = false
			w.receipt = &rec
			w.at, w.top = len(w.steps)-1, 0
			if w.gate && rec.Done {
				h.Close()
				h.Say("unlocked: look at the plan once more and agree")
				return
			}
			w.Sync(h)
		}
	})
}

// refused deals with a request that was not carried out, or of which that is not known.
func (w *Wizard) refused(h page.Host, a engine.Action, err error) {
	p := engine.AsProblem(a.Doing(), err)
	w.problem = p.Error()
	switch p.Code {
	case engine.CodePlanChanged:
		w.unsure = false
		if p.Plan != nil {
			w.show(h, p.Plan)
			w.changed = true
			w.problem = "things changed since you looked: this is the plan now, nothing was done"
			return
		}
		w.preview(h)
	case engine.CodeLocked:
		w.unsure = false
		w.unlock(h)
	case engine.CodeNoEngine, engine.CodeUnexpected, engine.CodeProtocol, engine.CodeBusy:
		// It may have been taken. Asked again with the same key it is done once.
		w.unsure = true
		w.problem += " (it is not known whether it was taken: enter asks again and does it once)"
	default:
		w.unsure = false
	}
}

// dry says what would be done, with a plan made anew, and does nothing.
func (w *Wizard) dry(h page.Host) {
	if w.plan == nil || w.asking || w.sending {
		return
	}
	was, a := w.plan.Digest, w.action()
	r := engine.Request{Key: w.key, Action: a, Actor: h.Actor()}
	w.asking = true
	h.Call(w.id, previewTime, func(ctx context.Context, e engine.Engine) func() {
		p, err := w.plans(ctx, e, r)
		return func() {
			w.asking = false
			switch {
			case err != nil:
				w.problem = engine.AsProblem(a.Doing(), err).Error()
			case p.Digest != was:
				w.show(h, &p)
				w.changed = true
				w.problem = "dry run: nothing was done; the plan is another one now"
			default:
				w.plan, w.planAt = &p, h.Look().Now
				w.problem = fmt.Sprintf("dry run: nothing was done; the plan is still %s, %d targets", short(p.Digest), len(p.Targets))
			}
		}
	})
}

func short(d engine.Digest) string { return string(d[:min(6, len(d))]) }

// next goes on if what was answered on this step holds.
func (w *Wizard) next(h page.Host) {
	switch w.step() {
	case which:
		w.find(h.Look())
		if len(w.match) == 0 {
			w.problem = w.matchNo
			return
		}
		w.list = false
	case how:
		for i := range w.fields {
			f := &w.fields[i]
			if f.check == nil {
				continue
			}
			if err := f.check(f.in.Value()); err != nil {
				w.focus, w.problem = i, f.label+": "+err.Error()
				return
			}
		}
	case effects:
		if w.plan == nil {
			if !w.asking {
				w.preview(h)
			}
			return
		}
	case review:
		w.confirm(h)
		return
	case running:
		h.Close()
		return
	}
	w.at++
	w.problem, w.top, w.changed = "", 0, false
	switch w.step() {
	case effects:
		w.preview(h)
	case review:
		if w.plan == nil || w.steps[w.at-1] != effects {
			w.preview(h)
		}
	}
}

// back always works, but for an act that was sent.
func (w *Wizard) back(h page.Host) {
	switch {
	case w.sending:
		w.problem = "it was sent: wait for the answer"
		return
	case w.step() == running:
		return
	case w.at == 0:
		if w.behind != nil {
			w.behind()
		}
		return
	}
	w.at--
	w.problem, w.top, w.changed = "", 0, false
	w.typed.Set("")
	w.drawn = ""
	switch w.step() {
	case which:
		w.find(h.Look())
	case effects:
		if w.plan == nil {
			w.preview(h)
		}
	}
}

// leave closes, after a question if answers would be lost.
func (w *Wizard) leave(h page.Host) {
	switch {
	case w.sending:
		h.Say("it was sent and goes on in the engine, see the acts")
	case w.step() != running && w.touched && !w.leaving:
		w.leaving = true
		return
	}
	h.Close()
}

// input is the line that typing goes to, nil for none.
func (w *Wizard) input() *widget.Input {
	switch w.step() {
	case which:
		if !w.list {
			return &w.sel
		}
	case how:
		if !w.fields[w.focus].toggle {
			return &w.fields[w.focus].in
		}
	case review:
		if w.plan != nil && w.phrase() != "" {
			return &w.typed
		}
	}
	return nil
}

// Paste goes into the field that has the focus. Pasted text never agrees: a phrase has to be typed.
func (w *Wizard) Paste(h page.Host, text string) bool {
	in := w.input()
	if in == nil || w.leaving || w.sending {
		return false
	}
	if w.step() == review {
		w.problem = "a phrase has to be typed, it cannot be pasted"
		return true
	}
	in.Insert(text)
	w.edited(h)
	return true
}

// edited follows each change of an answer: a plan made before is no longer the plan of it.
func (w *Wizard) edited(h page.Host) {
	w.problem = ""
	if w.step() == review {
		return
	}
	w.touched, w.plan = true, nil
	if w.step() == which {
		w.find(h.Look())
	}
}

// Key takes a key by its name; text is what it types.
func (w *Wizard) Key(h page.Host, key, text string) {
	w.now = h.Look().Now
	if w.leaving {
		switch key {
		case "enter", "y":
			h.Close()
		case "esc", "n", "shift+tab":
			w.leaving = false
		}
		return
	}
	switch key {
	case "esc":
		if w.list {
			w.list = false
			return
		}
		w.leave(h)
		return
	case "shift+tab":
		w.list = false
		w.back(h)
		return
	case "enter":
		if !w.sending {
			w.next(h)
		}
		return
	case "pgdown", "pgup", "up", "down", "tab":
		w.move(h, key)
		return
	}
	if w.sending {
		return
	}
	if w.step() == how && w.fields[w.focus].toggle {
		switch key {
		case " ", "left", "right", "y", "n":
			f := &w.fields[w.focus]
			f.on = key == "y" || key != "n" && !f.on
			w.edited(h)
		}
		return
	}
	if w.list {
		w.listKey(h, key)
		return
	}
	if in := w.input(); in != nil && !w.command(key) {
		switch {
		case text != "":
			in.Insert(text)
		case in.Key(key):
		default:
			h.Say(key + ": not a key here")
			return
		}
		w.edited(h)
		return
	}
	w.letter(h, key)
}

// command tells whether a letter is a key of the review although a phrase is typed
// there: only before the first character of it, and never its own first one.
func (w *Wizard) command(key string) bool {
	return w.step() == review && (key == "y" || key == "D" || key == "R" || key == "S" && w.save != nil) && w.typed.Value() == "" && !strings.HasPrefix(w.phrase(), key)
}

func (w *Wizard) letter(h page.Host, key string) {
	switch {
	case key == "y" && w.plan != nil:
		h.Copy("the command", w.line())
	case key == "D" && w.step() == review:
		w.dry(h)
	case key == "S" && w.step() == review && w.save != nil:
		w.save(h)
	case key == "R" && (w.step() == review || w.step() == effects) && !w.asking:
		w.changed = false
		w.preview(h)
	case key == "P" && w.holds():
		h.Close()
		h.Wizard(engine.CancelAct{ID: w.act.ID})
	case key == "u" && w.step() == running:
		w.open, w.top = !w.open, 0
	case key == "j":
		w.scroll(1)
	case key == "k":
		w.scroll(-1)
	default:
		h.Say(key + ": not a key here")
	}
}

// holds tells whether the act is a pause that can be ended from here.
func (w *Wizard) holds() bool {
	_, pause := w.base.(engine.PauseWorkers)
	return pause && w.step() == running && w.act != nil && w.act.State.Open()
}

// line is the same act on a command line.
func (w *Wizard) line() string {
	if w.lineOf != nil {
		return w.lineOf(*w.plan)
	}
	s := w.plan.Command
	if w.plan.Consent.Level != "none" {
		s += " --confirm " + short(w.plan.Digest)
	}
	return s
}

func (w *Wizard) move(h page.Host, key string) {
	by := map[string]int{"pgdown": max(w.h-2, 1), "pgup": -max(w.h-2, 1), "up": -1, "down": 1}[key]
	switch {
	case w.step() == how:
		n := len(w.fields)
		if key == "tab" {
			by = 1
		}
		w.focus = min(max(w.focus+by, 0), n-1)
		w.problem = ""
	case w.step() == which && key == "tab":
		w.list = !w.list && len(w.match) > 0
		w.cursor = 0
	case w.step() == which && w.list:
		w.cursor = min(max(w.cursor+by, 0), max(len(w.match)-1, 0))
	case key != "tab":
		w.scroll(by)
	}
}

func (w *Wizard) scroll(by int) {
	if by > 0 && !w.longer {
		return
	}
	w.top = max(w.top+by, 0)
}

func (w *Wizard) listKey(h page.Host, key string) {
	switch key {
	case "j":
		w.cursor = min(w.cursor+1, max(len(w.match)-1, 0))
	case "k":
		w.cursor = max(w.cursor-1, 0)
	case "l":
		w.list = false
	case " ", "x", "delete":
		w.drop(h)
	default:
		h.Say(key + ": not a key here, space drops one")
	}
}

// drop takes the worker under the cursor out: the selector then names the others.
func (w *Wizard) drop(h page.Host) {
	if len(w.match) < 2 {
		h.Say("the last one stays; ctrl+u in the line above clears it")
		return
	}
	rest := slices.Delete(slices.Clone(w.match), w.cursor, w.cursor+1)
	sel := naming(rest)
	if len(sel) > maxSelector {
		h.Say("too many to name one by one: write a narrower filter")
		return
	}
	w.sel.Set(sel)
	w.edited(h)
	if len(w.match) != len(rest) {
		w.problem = "naming them did not choose the same workers: write a filter"
	}
}

// naming writes workers as ids and ranges, with their machine where an id repeats.
func naming(rows []*engine.WorkerRow) string {
	count := map[string]int{}
	for _, r := range rows {
		count[string(r.ID)]++
	}
	name := func(r *engine.WorkerRow) string {
		if count[string(r.ID)] > 1 {
			return r.Key.Machine + "/" + string(r.ID)
		}
		return string(r.ID)
	}
	// Ranges only where the ids count on; workers in between that are not meant would be in them.
	number := func(r *engine.WorkerRow) int {
		var n int
		if _, err := fmt.Sscanf(string(r.ID), "w%d", &n); err != nil {
			return -1
		}
		return n
	}
	var parts []string
	for i := 0; i < len(rows); i++ {
		j := i
		for j+1 < len(rows) && count[string(rows[i].ID)] == 1 && count[string(rows[j+1].ID)] == 1 && number(rows[j]) > 0 && number(rows[j+1]) == number(rows[j])+1 {
			j++
		}
		if j > i {
			parts = append(parts, name(rows[i])+"-"+name(rows[j]))
		} else {
			parts = append(parts, name(rows[i]))
		}
		i = j
	}
	return strings.Join(parts, ",")
}

// Hint is the last line.
func (w *Wizard) Hint() string {
	if w.leaving {
		return "enter leave   esc stay"
	}
	leave := "   esc leave"
	if w.at > 0 || w.behind != nil {
		leave += "   shift+tab back"
	}
	switch w.step() {
	case which:
		if w.list {
			return "space drop one   j k move   enter next   esc line"
		}
		return "enter next" + leave + "   tab list, drop one"
	case how:
		return "enter next" + leave + "   tab next line"
	case effects:
		return "enter next" + leave + "   R ask again"
	case review:
		do := "enter do it"
		switch {
		case w.sending:
			return "sent, waiting for the engine's answer   esc leave, it goes on"
		case w.plan == nil:
			return "enter ask again" + leave
		case w.locked:
			do = "enter unlock first"
		case w.want != "":
			do = "type it, enter" // what is said above
		case w.phrase() != "":
			do = "type " + w.phrase() + ", then enter"
		}
		if w.save != nil {
			leave += "   S save"
		}
		return do + leave + "   D dry run   y copy"
	}
	s := "esc close"
	if w.act != nil && w.act.State.Open() {
		s = "esc close, it goes on"
	}
	if w.holds() {
		s += "   P resume now"
	}
	if w.act != nil && len(w.act.Settled) > 0 {
		s += "   u open only   j k"
	}
	return s + "   y copy"
}
