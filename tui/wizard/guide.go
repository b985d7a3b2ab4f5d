package wizard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"app.provost/engine"
	"app.provost/engine/flow"
	"app.provost/tui/page"
	"app.provost/tui/widget"
)

// GuideOptions are what a Guide cannot know by itself. All may be left out.
type GuideOptions struct {
	// Absolute makes a path that was typed absolute.
	Absolute func(path string) (string, error)
	// Session leads through one flow for somebody who carries the act out himself: the
	// guide ends with the consent. Its functions are called off the screen's goroutine. Nil:
	// the host's engine is asked, and acts.
	Session *flow.Session
	// Agreed is told of the consent in a session.
	Agreed func(flow.Outcome)
}

// hidden is a secret that is being typed. It is wiped when it is done with, and prints as a mark.
type hidden struct{ b []byte }

func (*hidden) String() string               { return "[secret]" }
func (*hidden) Format(f fmt.State, _ rune)   { fmt.Fprint(f, "[secret]") }
func (*hidden) MarshalJSON() ([]byte, error) { return nil, errors.New("a secret is not written") }

func (x *hidden) wipe() { clear(x.b[:cap(x.b)]); x.b = x.b[:0] }

// secretMax is more than any token, password or key has.
const secretMax = 4096

// typing is a SecretFile field whose secrets are typed instead of read from a file.
type typing struct {
	key   flow.Key
	names []string
	least int    // characters that one needs that is chosen now, and is typed two times; 0: it is known already
	once  bool   // it touches no disk
	now   int    // which of names
	got   hidden // finished ones, a line each
	first hidden // the first typing of one that is chosen now
	one   hidden
}

func (t *typing) wipe() { t.one.wipe(); t.first.wipe(); t.got.wipe() }

// Guide is a guided flow on the screen: what it is about, the flow's own steps, the
// checks, and then the review and the act, which are a Wizard's.
type Guide struct {
	flows []flow.Flow
	f     *flow.Flow // chosen
	o     GuideOptions
	id    string

	given   flow.Answers
	lines   map[flow.Key]*widget.Input
	again   map[flow.Key]*widget.Input // fields that are typed two times
	rows    map[flow.Key][]*widget.Input
	picked  map[flow.Key]string // Choice, Many and Bool
	under   map[flow.Key]int    // the option under the cursor of a Many
	at      int                 // 0: what it is about; then the shown steps; then the checks
	focus   int                 // stop of the step
	touched bool
	leaving bool
	problem string
	top     int

	asking   bool
	asked    engine.Action
	plan     *engine.Plan
	problems []engine.Problem
	refused  map[flow.Key]engine.Problem // what was said of a sentence that has to be typed
	review   *Wizard
	secret   *typing // nil: none is typed
	now      time.Time
	facts    flow.Facts
}

var _ page.Overlay = (*Guide)(nil)

// NewGuide makes a guide through one of several flows; with one there is nothing to choose.
// What is set in a is filled in.
func NewGuide(flows []flow.Flow, a flow.Answers, o GuideOptions) *Guide {
	if o.Absolute == nil {
		o.Absolute = func(p string) (string, error) { return p, nil }
	}
	g := &Guide{flows: flows, f: &flows[0], o: o, id: "guide " + engine.NewKey(), given: a.Clone()}
	if o.Session != nil {
		g.facts = o.Session.Facts
	}
	g.fill()
	switch {
	case o.Session == nil:
	case o.Session.Lean:
		g.at = 1
		g.skip()
	case o.Session.Step != "":
		g.resume(o.Session.Step)
	}
	return g
}

// resume goes on at the step where a draft left off, or before it where an answer is wrong.
// An address that was typed two times for the draft is not asked for again.
func (g *Guide) resume(step string) {
	all := g.complete()
	for _, s := range g.steps() {
		g.at++
		if s.ID == step {
			return
		}
		for _, q := range s.Fields {
			if q.Problem(g.facts, all[q.Key], all) != nil {
				return
			}
			if in := g.again[q.Key]; in != nil {
				in.Set(g.lines[q.Key].Value())
			}
		}
	}
	g.at++
}

// fill puts the given answers into the lines.
func (g *Guide) fill() {
	g.lines, g.again, g.rows = map[flow.Key]*widget.Input{}, map[flow.Key]*widget.Input{}, map[flow.Key][]*widget.Input{}
	g.picked, g.under, g.refused = map[flow.Key]string{}, map[flow.Key]int{}, map[flow.Key]engine.Problem{}
	for _, s := range g.f.Steps {
		for _, q := range s.Fields {
			v := g.given[q.Key]
			switch q.Kind {
			case flow.Choice, flow.Many, flow.Bool:
				g.picked[q.Key] = v
				if q.Kind != flow.Bool { // it is typed when nothing is known that could be chosen from
					g.lines[q.Key] = &widget.Input{Max: maxSelector}
				}
			case flow.Rows:
				for row := range strings.Lines(v) {
					in := &widget.Input{Max: maxSelector}
					in.Set(strings.TrimSpace(row))
					g.rows[q.Key] = append(g.rows[q.Key], in)
				}
				g.rows[q.Key] = append(g.rows[q.Key], &widget.Input{Max: maxSelector})
			default:
				in := &widget.Input{Max: maxSelector}
				in.Set(v)
				g.lines[q.Key] = in
				if q.Twice {
					g.again[q.Key] = &widget.Input{Max: maxSelector}
				}
			}
		}
	}
}

// answers are what stands in the lines now.
func (g *Guide) answers() flow.Answers {
	a := flow.Answers{}
	put := func(k flow.Key, v string) {
		if v != "" {
			a[k] = v
		}
	}
	for k, in := range g.lines {
		put(k, strings.TrimSpace(in.Value()))
	}
	for k, v := range g.picked {
		put(k, v)
	}
	for k, list := range g.rows {
		var rows []string
		for _, in := range list {
			if s := strings.TrimSpace(in.Value()); s != "" {
				rows = append(rows, s)
			}
		}
		put(k, strings.Join(rows, "\n"))
	}
	return a
}

func (g *Guide) complete() flow.Answers { return g.f.Complete(g.facts, g.answers()) }

func (g *Guide) steps() []flow.Step {
	return slices.DeleteFunc(g.f.Shown(g.complete()), func(s flow.Step) bool { return len(s.Fields) == 0 && s.Table == nil })
}

// stop is one place of a step that can have the focus.
type stop struct {
	field int
	sub   int // the second typing of a field, or the row
}

func (g *Guide) stops(s flow.Step) []stop {
	var out []stop
	for i, q := range s.Fields {
		switch {
		case q.Kind == flow.Rows:
			for r := range g.rows[q.Key] {
				out = append(out, stop{i, r})
			}
		case g.again[q.Key] != nil:
			out = append(out, stop{i, 0}, stop{i, 1})
		default:
			out = append(out, stop{i, 0})
		}
	}
	return out
}

// here is the step that is shown; false on the first page and on the checks.
func (g *Guide) here() (flow.Step, bool) {
	steps := g.steps()
	if g.at < 1 || g.at > len(steps) {
		return flow.Step{}, false
	}
	return steps[g.at-1], true
}

func (g *Guide) current() (flow.Field, stop, bool) {
	s, ok := g.here()
	if !ok {
		return flow.Field{}, stop{}, false
	}
	stops := g.stops(s)
	if len(stops) == 0 {
		return flow.Field{}, stop{}, false
	}
	g.focus = min(max(g.focus, 0), len(stops)-1)
	st := stops[g.focus]
	return s.Fields[st.field], st, true
}

func (g *Guide) checking() bool { return g.at > len(g.steps()) }

// wrong says what is wrong with a field as it stands, "" for nothing.
func (g *Guide) wrong(q flow.Field, all flow.Answers) string {
	if err := q.Problem(g.facts, all[q.Key], all); err != nil {
		return err.Error()
	}
	if in := g.again[q.Key]; in != nil && strings.TrimSpace(g.lines[q.Key].Value()) != "" && strings.TrimSpace(in.Value()) != strings.TrimSpace(g.lines[q.Key].Value()) {
		if in.Value() == "" {
			return "type it a second time: it can't be changed later"
		}
		return "the two are not the same"
	}
	return ""
}

// Sudden is false: a guide opens because a key asked for it.
func (g *Guide) Sudden() bool { return false }

// skip goes on to the next step that needs an answer.
func (g *Guide) skip() {
	all := g.complete()
	for steps := g.steps(); g.at <= len(steps); g.at++ {
		for _, q := range steps[g.at-1].Fields {
			if g.wrong(q, all) != "" {
				return
			}
		}
	}
}

func (g *Guide) learn(l *page.Look) {
	g.now = l.Now
	if g.o.Session == nil {
		g.facts = flow.Facts{Snapshot: l.Snap}
	}
}

// Sync takes what is known of the machine now. A lean guide with nothing to ask begins with the checks.
func (g *Guide) Sync(h page.Host) {
	g.learn(h.Look())
	if g.checking() && g.plan == nil && !g.asking && len(g.problems) == 0 {
		g.check(h)
	}
	if g.review != nil {
		g.review.Sync(h)
	}
}

// next goes on if what was answered on this page holds.
func (g *Guide) next(h page.Host) {
	g.problem = ""
	if g.checking() {
		switch {
		case g.asking:
		case g.plan == nil && len(g.problems) > 0 && g.mend(g.problems[0]):
		case g.plan == nil:
			g.check(h)
		default:
			g.look(h)
		}
		return
	}
	if s, ok := g.here(); ok {
		all := g.complete()
		for i, q := range s.Fields {
			if why := g.wrong(q, all); why != "" {
				for k, st := range g.stops(s) {
					if st.field == i {
						g.focus = k
						if g.again[q.Key] == nil || st.sub == 1 || q.Problem(g.facts, all[q.Key], all) != nil {
							break
						}
					}
				}
				if in := g.input(q, g.stops(s)[g.focus]); in == nil || in.Value() == "" || q.Kind == flow.Rows {
					g.problem = q.Title + ": " + why // otherwise it stands below the line
				}
				return
			}
		}
		defer func() {
			at := "checks"
			if s, ok := g.here(); ok {
				at = s.ID
			}
			g.draft(h, at)
		}()
	}
	g.at++
	g.focus, g.top = 0, 0
	if g.o.Session != nil && g.o.Session.Lean {
		g.skip()
	}
	if g.checking() {
		g.check(h)
	}
}

// mend goes to the field that a problem is about.
func (g *Guide) mend(p engine.Problem) bool {
	step, field, ok := flow.At(g.steps(), flow.Key(p.Field))
	if !ok {
		return false
	}
	g.at, g.focus, g.top = step+1, 0, 0
	s, _ := g.here()
	for k, st := range g.stops(s) {
		if st.field == field {
			g.focus = k
			break
		}
	}
	if s.Fields[field].Kind == flow.Sentence { // it has to be read while one types
		g.refused[s.Fields[field].Key] = p
		return true
	}
	g.problem = p.Error()
	return true
}

func (g *Guide) back(h page.Host) {
	g.problem = ""
	if g.at == 0 {
		return
	}
	g.at = min(g.at, len(g.steps())+1) - 1
	g.focus, g.top, g.asking, g.plan, g.problems = 0, 0, false, nil, nil
	g.Sync(h)
}

// draft keeps the answers so far.
func (g *Guide) draft(h page.Host, step string) {
	if g.o.Session == nil || g.o.Session.Draft == nil {
		return
	}
	keep, a := g.o.Session.Draft, g.answers()
	h.Call(g.id+" draft", previewTime, func(context.Context, engine.Engine) func() {
		err := keep(a, step)
		return func() {
			if err != nil {
				h.Say("the draft could not be kept: " + err.Error())
			}
		}
	})
}

// action is what would be asked for.
func (g *Guide) action() (engine.Action, error) {
	return g.f.BuildAt(g.complete(), g.o.Absolute)
}

// check asks the engine what it thinks of the answers.
func (g *Guide) check(h page.Host) {
	g.plan, g.problems, g.asked = nil, nil, nil
	a, ask, err := g.asks(h)
	if err != nil {
		g.problems = flow.Problems(err)
		return
	}
	g.asking = true
	h.Call(g.id, planTime, func(ctx context.Context, e engine.Engine) func() {
		p, err := ask(ctx, e, &a)
		return func() {
			g.asking = false
			if err != nil {
				g.problems = flow.Problems(err)
				return
			}
			g.plan, g.asked = &p, a
		}
	})
}

// asks gives the action, if it is known before asking, and how to ask for its plan.
func (g *Guide) asks(h page.Host) (engine.Action, func(ctx context.Context, e engine.Engine, into *engine.Action) (engine.Plan, error), error) {
	if s := g.o.Session; s != nil {
		all := g.complete()
		return nil, func(ctx context.Context, _ engine.Engine, into *engine.Action) (engine.Plan, error) {
			a, p, err := s.Preview(ctx, all)
			*into = a
			return p, err
		}, nil
	}
	a, err := g.action()
	if err != nil {
		return nil, nil, err
	}
	r := engine.Request{Key: engine.NewKey(), Action: a, Actor: h.Actor()}
	return a, func(ctx context.Context, e engine.Engine, _ *engine.Action) (engine.Plan, error) {
		return e.Preview(ctx, r)
	}, nil
}

const (
	planTime = time.Minute    // files and other machines may have to be looked at
	makeTime = 24 * time.Hour // keys at full strength take their time
	// readTime is for reading a long review. What is planned hardly moves by itself meanwhile,
	// and a plan that did is refused by its digest.
	readTime = 10 * time.Minute
)

// look opens the review.
func (g *Guide) look(h page.Host) {
	w := New(g.asked)
	w.title, w.before, w.doTime, w.planAge = g.f.Title, len(g.steps())+2, makeTime, readTime
	if g.f.Consent != nil {
		w.want = g.f.Consent(g.complete())
	}
	w.behind = func() { g.review, g.problem = nil, "" }
	if s := g.o.Session; s != nil {
		all := g.complete() // ask is called elsewhere than on the screen's goroutine
		w.ask = func(ctx context.Context, _ engine.Engine) (engine.Plan, error) {
			_, p, err := s.Preview(ctx, all)
			return p, err
		}
		w.agree = func(h page.Host) {
			if g.o.Agreed != nil {
				g.o.Agreed(flow.Outcome{Answers: g.complete(), Action: g.asked, Plan: *w.plan})
			}
			h.Close()
		}
		if s.Command != nil {
			w.lineOf = func(p engine.Plan) string { return s.Command(g.asked, p) }
		}
		if s.Save != nil {
			w.save = g.save
		}
	}
	g.review = w
	w.show(h, g.plan)
}

// save writes the answers file that the review offers.
func (g *Guide) save(h page.Host) {
	w, s, a := g.review, g.o.Session, g.complete()
	path := strings.ReplaceAll(string(g.f.ID), " ", "-") + ".yaml"
	if name := a["name"]; name != "" && !strings.ContainsAny(name, "/\\ .") {
		path = name + ".yaml"
	}
	h.Call(g.id+" save", previewTime, func(context.Context, engine.Engine) func() {
		at, err := s.Save(path, a)
		return func() {
			if err != nil {
				w.problem = "the answers were not saved: " + err.Error()
				return
			}
			w.problem = "answers saved to " + at + ", no secrets in it"
		}
	})
}

// Paste goes into the field that has the focus.
func (g *Guide) Paste(h page.Host, text string) bool {
	if g.review != nil {
		return g.review.Paste(h, text)
	}
	if g.secret != nil {
		g.secret.one.add(strings.TrimRight(text, "\r\n"))
		return true
	}
	q, st, ok := g.current()
	if !ok || g.leaving {
		return false
	}
	if q.Kind == flow.Phrase || q.Kind == flow.Sentence {
		g.problem = "these words have to be typed, they cannot be pasted"
		return true
	}
	if q.Kind == flow.Rows {
		// Each pasted line is a row.
		for i, row := range strings.Split(strings.TrimRight(text, "\r\n"), "\n") {
			if i > 0 {
				st.sub++
				g.rows[q.Key] = slices.Insert(g.rows[q.Key], st.sub, &widget.Input{Max: maxSelector})
				g.focus++
			}
			g.rows[q.Key][st.sub].Insert(row)
		}
		g.edited(q)
		return true
	}
	in := g.input(q, st)
	if in == nil {
		return false
	}
	in.Insert(text)
	g.edited(q)
	return true
}

func (g *Guide) input(q flow.Field, st stop) *widget.Input {
	switch q.Kind {
	case flow.Rows:
		return g.rows[q.Key][st.sub]
	case flow.Bool:
		return nil
	case flow.Choice, flow.Many:
		if len(g.options(q)) > 0 {
			return nil
		}
		if v := g.picked[q.Key]; v != "" { // what was given before can be mended
			g.lines[q.Key].Set(v)
			g.picked[q.Key] = ""
		}
	}
	if st.sub == 1 {
		return g.again[q.Key]
	}
	return g.lines[q.Key]
}

func (g *Guide) edited(q flow.Field) {
	g.touched, g.problem = true, ""
	if rows := g.rows[q.Key]; q.Kind == flow.Rows && len(rows) > 0 && rows[len(rows)-1].Value() != "" {
		g.rows[q.Key] = append(rows, &widget.Input{Max: maxSelector}) // there is always an empty one to go on
	}
}

// Key takes a key by its name; text is what it types.
func (g *Guide) Key(h page.Host, key, text string) {
	g.now = h.Look().Now
	if g.review != nil {
		g.review.Key(h, key, text)
		return
	}
	if g.leaving {
		switch key {
		case "enter", "y":
			h.Close()
		case "esc", "n", "shift+tab":
			g.leaving = false
		}
		return
	}
	if g.secret != nil {
		g.secretKey(h, key, text)
		return
	}
	switch key {
	case "esc":
		if g.touched {
			g.leaving = true
			return
		}
		h.Close()
		return
	case "shift+tab":
		g.back(h)
		return
	case "enter":
		g.next(h)
		return
	case "pgdown":
		g.top += 8
		return
	case "pgup":
		g.top = max(g.top-8, 0)
		return
	}
	if g.at == 0 {
		g.kindKey(h, key)
		return
	}
	if g.checking() {
		g.checkKey(h, key)
		return
	}
	q, st, ok := g.current()
	if !ok {
		return
	}
	switch key {
	case "down", "tab":
		g.focus++
		g.problem = ""
		g.current()
		return
	case "up":
		g.focus = max(g.focus-1, 0)
		g.problem = ""
		return
	}
	if q.Kind == flow.SecretFile && key == "ctrl+t" && g.o.Session != nil && g.o.Session.Secret != nil {
		g.secret = &typing{key: q.Key, names: []string{q.Title}, least: q.NewSecret, once: q.Once}
		if q.Secrets != nil {
			g.secret.names = q.Secrets(g.complete())
		}
		g.problem = ""
		return
	}
	if in := g.input(q, st); in != nil {
		switch {
		case text != "":
			in.Insert(text)
		case in.Key(key):
		default:
			h.Say(key + ": not a key here")
			return
		}
		g.edited(q)
		return
	}
	if !g.pick(q, key) {
		h.Say(key + ": not a key here; space or left and right change it")
		return
	}
	g.edited(q)
}

func (x *hidden) add(s string) {
	if len(x.b)+len(s) > secretMax {
		return
	}
	if x.b == nil {
		x.b = make([]byte, 0, secretMax) // never grown: what is wiped is all there was
	}
	x.b = append(x.b, s...)
}

// chosen tells whether a secret that is chosen now was typed two times, and is long enough.
func (t *typing) chosen(problem *string) bool {
	*problem = ""
	n := utf8.RuneCount(t.one.b)
	switch {
	case len(t.first.b) == 0 && n < t.least:
		*problem = fmt.Sprintf("it has %d characters and needs %d: take several words that nobody could guess together", n, t.least)
	case len(t.first.b) == 0:
		t.first.add(string(t.one.b))
	case !bytes.Equal(t.first.b, t.one.b):
		*problem = "the two differ: nothing was taken, type it again"
		t.first.wipe()
	default:
		t.first.wipe()
		return true
	}
	t.one.wipe()
	return false
}

// secretKey takes a key while a secret is typed: it is never shown, and esc forgets it.
func (g *Guide) secretKey(h page.Host, key, text string) {
	t := g.secret
	switch {
	case key == "esc" || key == "shift+tab":
		t.wipe()
		g.secret, g.problem = nil, ""
	case key == "backspace":
		if _, n := utf8.DecodeLastRune(t.one.b); n > 0 {
			clear(t.one.b[len(t.one.b)-n:])
			t.one.b = t.one.b[:len(t.one.b)-n]
		}
	case key == "ctrl+u":
		t.one.wipe()
	case key == "enter" && len(t.one.b) == 0:
		h.Say("nothing was typed; esc leaves it")
	case key == "enter":
		if len(t.got.b)+len(t.one.b)+1 > secretMax {
			h.Say("too long to be typed: put the secrets into a file and name it")
			return
		}
		if t.least > 0 && !t.chosen(&g.problem) {
			return
		}
		if t.now > 0 {
			t.got.add("\n")
		}
		t.got.add(string(t.one.b))
		t.one.wipe()
		if t.now++; t.now < len(t.names) {
			return
		}
		secret, keep, k := engine.NewSecret(string(t.got.b)), g.o.Session.Secret, t.key
		t.wipe()
		g.secret = nil
		h.Call(g.id+" secret", previewTime, func(context.Context, engine.Engine) func() {
			path, err := keep(k, secret)
			return func() {
				if err != nil {
					g.problem = "what was typed could not be kept: " + err.Error()
					return
				}
				g.lines[k].Set(path)
				g.touched = true
			}
		})
	case text != "":
		t.one.add(text)
	}
}

func (g *Guide) kindKey(h page.Host, key string) {
	by := 0
	switch key {
	case "down", "tab", "j":
		by = 1
	case "up", "k":
		by = -1
	default:
		h.Say(key + ": not a key here")
		return
	}
	for i := range g.flows {
		if &g.flows[i] == g.f {
			i = min(max(i+by, 0), len(g.flows)-1)
			g.f = &g.flows[i]
			g.fill()
			return
		}
	}
}

func (g *Guide) checkKey(h page.Host, key string) {
	switch key {
	case "R":
		g.check(h)
	case "down", "j":
		g.top++
	case "up", "k":
		g.top = max(g.top-1, 0)
	default:
		h.Say(key + ": not a key here")
	}
}

// value is the answer of a field that is chosen and not typed.
func (g *Guide) value(q flow.Field) string { return g.complete()[q.Key] }

// options are what a field can be chosen from. Where nothing need be chosen, that comes first.
func (g *Guide) options(q flow.Field) []flow.Option {
	if q.Options == nil {
		return nil
	}
	list := q.Options(g.facts, g.complete())
	if q.Kind == flow.Choice && q.Optional && q.Default == nil && len(list) > 0 {
		list = append([]flow.Option{{Title: "as usual"}}, list...)
	}
	return list
}

// pick changes a field that is chosen and not typed.
func (g *Guide) pick(q flow.Field, key string) bool {
	if q.Kind == flow.Bool {
		switch key {
		case " ", "left", "right":
			g.picked[q.Key] = fmt.Sprint(g.value(q) != "true")
		case "y", "n":
			g.picked[q.Key] = fmt.Sprint(key == "y")
		default:
			return false
		}
		return true
	}
	options := g.options(q)
	if len(options) == 0 {
		return false
	}
	by := 1
	switch key {
	case "left":
		by = -1
	case "right":
	case " ":
		if q.Kind == flow.Many {
			o := options[min(g.under[q.Key], len(options)-1)]
			list := flow.Answers{q.Key: g.value(q)}.Items(q.Key)
			if i := slices.Index(list, o.Value); i >= 0 {
				list = slices.Delete(list, i, i+1)
			} else if o.Refused != "" {
				g.problem = o.Title + ": " + o.Refused
				return true
			} else {
				list = append(list, o.Value)
			}
			// In the order of the options, whatever the order of choosing.
			var sorted []string
			for _, x := range options {
				if slices.Contains(list, x.Value) {
					sorted = append(sorted, x.Value)
				}
			}
			g.picked[q.Key] = strings.Join(sorted, ",")
			return true
		}
	default:
		return false
	}
	if q.Kind == flow.Many {
		g.under[q.Key] = min(max(g.under[q.Key]+by, 0), len(options)-1)
		return true
	}
	i := slices.IndexFunc(options, func(o flow.Option) bool { return o.Value == g.value(q) })
	for range options {
		i = (i + by + len(options)) % len(options)
		if options[i].Refused == "" {
			g.picked[q.Key] = options[i].Value
			break
		}
	}
	return true
}

// Hint is the last line.
func (g *Guide) Hint() string {
	if g.review != nil {
		return g.review.Hint()
	}
	if g.leaving {
		return "enter leave   esc stay"
	}
	if g.secret != nil {
		return "enter done   esc forget it   ctrl+u clear"
	}
	s := "enter next   esc leave"
	if g.at > 0 {
		s += "   shift+tab back"
	}
	switch {
	case g.at == 0 && len(g.flows) > 1:
		s += "   up down choose"
	case g.at == 0:
	case g.checking():
		if len(g.problems) > 0 {
			s = "enter mend   esc leave   shift+tab back"
		}
		s += "   R again"
	default:
		s += "   tab next line"
		if q, st, ok := g.current(); ok {
			switch typed := g.input(q, st) != nil; {
			case q.Kind == flow.Many && !typed:
				s += "   left right move   space choose"
			case !typed:
				s += "   space change"
			case q.Kind == flow.SecretFile:
				if g.o.Session != nil && g.o.Session.Secret != nil {
					s += "   ctrl+t type it"
				}
			}
		}
	}
	return s
}
