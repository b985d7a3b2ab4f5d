package wizard

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/prover"
	"app.provost/tui/page"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

var update = flag.Bool("update", false, "write the golden frames")

var noon = time.Date(2026, 3, 2, 11, 4, 40, 0, time.UTC)

// host is a screen that a test drives. Work given to Call waits until run.
type host struct {
	page.Host
	look   page.Look
	stack  []page.Overlay
	waits  map[string]func()
	said   []string
	copied string
	opened []engine.Action
	e      *stub
	real   engine.Engine // instead of e
}

// stub is an engine whose answers a test writes.
type stub struct {
	engine.Engine
	plan func(r engine.Request) (engine.Plan, error)
	do   func(r engine.Request, d engine.Digest) (engine.Receipt, error)
	done []asked
}

type asked struct {
	r engine.Request
	d engine.Digest
}

func (s *stub) Preview(_ context.Context, r engine.Request) (engine.Plan, error) { return s.plan(r) }
func (s *stub) Do(_ context.Context, r engine.Request, d engine.Digest) (engine.Receipt, error) {
	s.done = append(s.done, asked{r, d})
	return s.do(r, d)
}

func (h *host) Look() *page.Look       { return &h.look }
func (h *host) Say(s string)           { h.said = append(h.said, s) }
func (h *host) Open(o page.Overlay)    { h.stack = append(h.stack, o); o.Sync(h) }
func (h *host) Close()                 { h.stack = h.stack[:max(len(h.stack)-1, 0)] }
func (h *host) Wizard(a engine.Action) { h.opened = append(h.opened, a); h.Open(New(a)) }
func (h *host) Actor() engine.Actor    { return engine.Actor{Name: "ana", Via: engine.ViaScreen} }
func (h *host) Copy(_, text string)    { h.copied = text }
func (h *host) Call(name string, _ time.Duration, work func(ctx context.Context, e engine.Engine) func()) {
	var on page.Overlay
	if len(h.stack) > 0 {
		on = h.stack[len(h.stack)-1]
	}
	h.waits[name] = func() {
		to := h.real
		if to == nil {
			to = h.e
		}
		apply := work(context.Background(), to)
		if on == nil || slices.Contains(h.stack, on) {
			apply()
		}
	}
}

// run carries out what was asked of the engine.
func (h *host) run() {
	for len(h.waits) > 0 {
		for name, fn := range h.waits {
			delete(h.waits, name)
			fn()
		}
	}
}

func (h *host) top() page.Overlay {
	if len(h.stack) == 0 {
		return nil
	}
	return h.stack[len(h.stack)-1]
}

// frame draws the top overlay and its hint.
func (h *host) frame(w, hh int) []string {
	th, _ := theme.ByName("mono")
	b := widget.NewBuffer(th, theme.ASCII)
	b.Resize(w, hh)
	if o := h.top(); o != nil {
		o.Render(b, &h.look, b.All().Top(hh-1))
		b.Text(b.All().Line(hh-1), o.Hint(), theme.Text.S())
	}
	return b.Lines()
}

// keys presses keys: names in <>, other characters as typed. After each the engine answers and a frame is drawn.
func (h *host) keys(s string) {
	for len(s) > 0 {
		key, text := s[:1], s[:1]
		if s[0] == '<' {
			end := strings.IndexByte(s, '>')
			key, text = s[1:end], ""
			s = s[end+1:]
		} else {
			s = s[1:]
		}
		if o := h.top(); o != nil {
			o.Key(h, key, text)
		}
		h.run()
		h.frame(80, 24)
	}
}

func ptr[T any](v T) *T { return &v }

func snapshot(open bool) *engine.Snapshot {
	s := &engine.Snapshot{Schema: engine.SnapshotSchema, At: noon, Engine: &engine.One[engine.Info]{Value: engine.Info{Name: "bench"}}, Workers: &engine.Section[engine.WorkerRow]{Version: 1, At: noon}, Acts: &engine.Section[engine.ActRow]{}}
	if open {
		s.Engine.Value.Unlocked = &engine.Unlocked{Until: noon.Add(time.Hour), By: "ana", Reason: "test"}
	}
	for i := 1065; i <= 1128; i++ {
		w := engine.WorkerRow{ID: prover.WorkerFor(prover.Core(i)), Key: engine.Key{Machine: fmt.Sprintf("m%d", (i-1)/64+1)}, Core: prover.Core(i), State: engine.WorkerRun, Desired: engine.WishRun, Since: noon, Job: ptr(prover.JobID(fmt.Sprintf("j%08dabc", i)))}
		w.Key.ID = string(w.ID)
		if i >= 1101 && i <= 1104 {
			w.State, w.Desired, w.Job = engine.WorkerPaused, engine.WishPaused, nil
		}
		s.Workers.Rows = append(s.Workers.Rows, w)
	}
	return s
}

// planned answers as an engine does, from the host's snapshot.
func (h *host) planned(r engine.Request) (engine.Plan, error) {
	p := engine.Plan{Command: "provost " + engine.ShellLine(r.Action.CommandLine()), MadeAt: noon, Consent: engine.Consent{Level: "enter"}}
	pick := func(sel engine.Selector, paused bool) error {
		rows, err := engine.SelectWorkers(h.look.Snap.Workers.List(), sel, noon)
		if err != nil {
			return err
		}
		for _, w := range rows {
			if (w.Desired == engine.WishPaused) == paused {
				p.Targets = append(p.Targets, "worker/"+string(w.ID))
			} else {
				p.LeftOut = append(p.LeftOut, engine.LeftOut{Target: "worker/" + string(w.ID), Why: "paused already (act a31)"})
			}
		}
		if len(p.Targets) > 30 {
			p.Consent = engine.Consent{Level: "type", Phrase: fmt.Sprint(len(p.Targets)), Why: fmt.Sprintf("%d of 64 workers are more than 10%%", len(p.Targets))}
		}
		return nil
	}
	var err error
	switch a := r.Action.(type) {
	case engine.PauseWorkers:
		err = pick(a.Workers, false)
		p.Title = fmt.Sprintf("pause %d workers for %s, then resume", len(p.Targets), a.For)
		p.Steps = []engine.Step{{Name: "drain", Text: "each finishes its job and takes no other"}, {Name: "hold", Text: "stay paused until the end"}, {Name: "resume", Text: "take jobs again, without being asked"}}
		p.Effects = []engine.Effect{{What: "workers taking jobs", Now: "60", During: fmt.Sprint(60 - len(p.Targets)), After: "60"}, {What: "share of capacity", Now: "94%", During: "88%", After: "94%"}, {What: "jobs waiting", Now: "0", During: "0", After: "-"}}
		p.Undo = "provost resume worker " + string(a.Workers) + ", at any time"
	case engine.ResumeWorkers:
		err = pick(a.Workers, true)
		p.Title, p.LeftOut = fmt.Sprintf("resume %d workers", len(p.Targets)), nil
	case engine.RestartWorkers:
		err = pick(a.Workers, false)
		p.Title, p.LeftOut = fmt.Sprintf("restart %d workers", len(p.Targets)), nil
		p.Warnings = []string{"jobs in hand are finished first"}
	case engine.SubmitJob:
		p.Title = fmt.Sprintf("submit %d jobs", len(a.Witnesses))
		p.Steps = []engine.Step{{Name: "queue", Text: "put the jobs into the queue"}, {Name: "prove", Text: "a worker proves, another process verifies"}}
	case engine.UnlockScreens:
		p.Title, p.Undo, p.Consent.Level = "unlock the screens for "+a.For.String(), "provost lock", "none"
	default:
		p.Title = r.Action.Doing()
	}
	if err != nil {
		return p, err
	}
	return p.Seal(r.Action)
}

func open(a engine.Action, unlocked bool) (*host, *Wizard) {
	h := &host{waits: map[string]func(){}, e: &stub{}}
	h.look = page.Look{Snap: snapshot(unlocked), Now: noon, Link: page.Link{Connected: true}, Sum: &page.Summary{}}
	h.e.plan = h.planned
	h.e.do = func(r engine.Request, d engine.Digest) (engine.Receipt, error) {
		p, err := h.planned(r)
		if err != nil {
			return engine.Receipt{}, err
		}
		if p.Digest != d {
			return engine.Receipt{}, &engine.Problem{Code: engine.CodePlanChanged, Exit: engine.ExitRefused, Doing: r.Action.Doing(), Cause: "another plan", Plan: &p}
		}
		rec := engine.Receipt{Key: r.Key, Act: "a35", Digest: d, At: noon, Title: p.Title, Targets: p.Targets}
		switch a := r.Action.(type) {
		case engine.UnlockScreens:
			s := *h.look.Snap
			e := *s.Engine
			e.Value.Unlocked = &engine.Unlocked{Until: noon.Add(time.Duration(a.For)), By: "ana", Reason: a.Reason}
			s.Engine = &e
			h.look.Snap = &s
			rec.Done = true
		case engine.SubmitJob:
			rec.Jobs = []string{"jabcdefghijklmnopqrst"}
		}
		return rec, nil
	}
	w := New(a)
	h.Open(w)
	h.run()
	return h, w
}

func (h *host) want(t *testing.T, texts ...string) {
	t.Helper()
	all := strings.Join(h.frame(80, 24), "\n")
	for _, s := range texts {
		if !strings.Contains(all, s) {
			t.Errorf("%q is not on the screen:\n%s", s, all)
		}
	}
}

// running puts the act of a pause into the snapshot.
func (h *host) running(done int, state engine.ActState) {
	row := engine.ActRow{ID: "a35", Kind: engine.KindPauseWorkers, Target: "w1089-w1096", State: state, Step: 1, Until: ptr(noon.Add(45 * time.Minute)), Text: fmt.Sprintf("%d of 8 done", done),
		Steps: []engine.Step{{Name: "drain", Text: "each finishes its job and takes no other"}, {Name: "hold", Text: "stay paused until the end"}, {Name: "resume", Text: "take jobs again, without being asked"}}}
	for i := range 8 {
		x := engine.Settled{Target: fmt.Sprintf("worker/w%d", 1089+i), State: "sent", At: ptr(noon)}
		switch {
		case i < done:
			x.State = "done"
		case i == 7:
			x.State, x.Why = "refused", "resumed before it had drained"
		}
		row.Settled = append(row.Settled, x)
	}
	s := *h.look.Snap
	s.Acts = &engine.Section[engine.ActRow]{Version: uint64(done) + 2, Rows: []engine.ActRow{row}}
	h.look.Snap = &s
	for _, o := range h.stack {
		o.Sync(h)
	}
}

func TestGoldenFrames(t *testing.T) {
	pause := func(sel engine.Selector) engine.Action { return engine.PauseWorkers{Workers: sel} }
	for _, g := range []struct {
		name string
		a    engine.Action
		keys string
		lock bool
		then func(h *host)
	}{
		{name: "pause-1-which", a: pause("host:m18")},
		{name: "pause-1-empty", a: pause("")},
		{name: "pause-1-wrong", a: pause("hots:m18")},
		{name: "pause-1-list", a: pause("host:m18"), keys: "<tab>jjj"},
		{name: "pause-2-how", a: pause("host:m18"), keys: "<enter><tab>disk swap m18"},
		{name: "pause-2-wrong", a: pause("host:m18"), keys: "<enter>x<enter>"},
		{name: "pause-3-effects", a: pause("w1089-w1104"), keys: "<enter><tab>disk swap m18<enter>"},
		{name: "pause-4-review", a: pause("w1089-w1104"), keys: "<enter><tab>disk swap m18<enter><enter>"},
		{name: "pause-4-typed", a: pause("all"), keys: "<enter><tab>disk swap m18<enter><enter>5"},
		{name: "pause-4-locked", a: pause("w1089-w1104"), keys: "<enter><tab>disk swap m18<enter><enter>", lock: true},
		{name: "pause-4-unlock", a: pause("w1089-w1104"), keys: "<enter><tab>disk swap m18<enter><enter><enter>", lock: true},
		{name: "pause-5-act", a: pause("w1089-w1096"), keys: "<enter><tab>disk swap m18<enter><enter><enter>", then: func(h *host) { h.running(5, engine.ActRunning) }},
		{name: "pause-leave", a: pause("w1089-w1096"), keys: ",w1097<esc>"},
		{name: "resume-3-review", a: engine.ResumeWorkers{Workers: "w1101-w1104"}, keys: "<enter><enter>"},
		{name: "restart-3-effects", a: engine.RestartWorkers{Workers: "w1066", Reason: "new version"}, keys: "<enter><enter>"},
		{name: "unlock-1-how", a: engine.UnlockScreens{}, lock: true},
		{name: "unlock-2-review", a: engine.UnlockScreens{Reason: "disk swap"}, keys: "<enter>", lock: true},
		{name: "submit-1-how", a: engine.SubmitJob{}, keys: "/srv/keys/c20.zkey<tab>/srv/a.wtns, b.wtns"},
		{name: "submit-3-review", a: engine.SubmitJob{Zkey: "/srv/keys/c20.zkey", Witnesses: []string{"/srv/a.wtns", "/srv/b.wtns"}, Name: "night run"}, keys: "<enter><enter>"},
		{name: "submit-4-act", a: engine.SubmitJob{Zkey: "/srv/keys/c20.zkey", Witnesses: []string{"/srv/a.wtns"}}, keys: "<enter><enter><enter>"},
		{name: "cancel-act-review", a: engine.CancelAct{ID: "a31"}},
	} {
		for _, size := range [][2]int{{80, 24}, {60, 15}, {160, 48}} {
			h, _ := open(g.a, !g.lock)
			h.frame(size[0], size[1])
			h.keys(g.keys)
			if g.then != nil {
				g.then(h)
			}
			h.golden(t, g.name, size)
		}
	}
}

// golden compares the frame with the one that is kept.
func (h *host) golden(t *testing.T, name string, size [2]int) {
	t.Helper()
	lines := h.frame(size[0], size[1])
	got := strings.Join(lines, "\n") + "\n"
	for i, l := range lines {
		if widget.Width(l) > size[0] {
			t.Errorf("%s: line %d is too long: %q", name, i, l)
		}
	}
	file := filepath.Join("testdata", fmt.Sprintf("%s-%dx%d.txt", name, size[0], size[1]))
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it):\n%s", file, got)
	}
}

func TestForward(t *testing.T) {
	h, w := open(engine.PauseWorkers{Workers: "w1089-w1096"}, true)
	h.keys("<enter><tab>disk swap<tab> <enter><enter>")
	h.want(t, "PLAN "+short(w.plan.Digest), "--stop", "--confirm "+short(w.plan.Digest), "enter is enough")
	h.keys("y")
	if want := "provost pause worker w1089-w1096 --for=45m --reason='disk swap' --stop --confirm " + short(w.plan.Digest); h.copied != want {
		t.Errorf("copied %q, want %q", h.copied, want)
	}
	digest := w.plan.Digest
	h.keys("D")
	h.want(t, "dry run: nothing was done")
	if len(h.e.done) != 0 {
		t.Fatal("a dry run did something")
	}
	h.keys("<enter>")
	if len(h.e.done) != 1 || h.e.done[0].d != digest || h.e.done[0].r.Actor.Via != engine.ViaScreen {
		t.Fatalf("%+v", h.e.done)
	}
	want := engine.PauseWorkers{Workers: "w1089-w1096", For: engine.Duration(45 * time.Minute), Reason: "disk swap", Stop: true}
	if h.e.done[0].r.Action != engine.Action(want) {
		t.Errorf("%+v", h.e.done[0].r.Action)
	}
	h.want(t, "waiting for its first report")
	h.running(3, engine.ActRunning)
	h.want(t, "3/8", "4 sent", "1 refused", "resumed before it had drained", "45m left", "without the terminal")
	h.keys("u")
	h.want(t, "OPEN ONES", "w1095")
	h.running(7, engine.ActHolding)
	h.want(t, "act a35: holding")
	h.keys("P")
	if len(h.opened) != 1 || h.opened[0] != engine.Action(engine.CancelAct{ID: "a35"}) {
		t.Errorf("%+v", h.opened)
	}
	h.keys("<enter>")
	if len(h.e.done) != 2 {
		t.Errorf("%d requests", len(h.e.done))
	}
	h.keys("<esc>")
	if len(h.stack) != 0 {
		t.Error("it did not close")
	}
}

func TestBackWithInvalidInput(t *testing.T) {
	h, w := open(engine.PauseWorkers{Workers: "w1089"}, true)
	h.keys("<enter><ctrl+u>soon<enter>")
	if w.step() != how {
		t.Fatalf("at %s", w.step())
	}
	h.want(t, "want a length of time")
	h.keys("<shift+tab>")
	if w.step() != which {
		t.Fatalf("at %s", w.step())
	}
	h.keys("<ctrl+u>nobody<enter>")
	if w.step() != which {
		t.Fatal("went on without a match")
	}
	h.want(t, "0 match")
	h.keys("<ctrl+u>all<enter><ctrl+u>10m<tab>x<enter><enter>")
	if w.step() != review {
		t.Fatalf("at %s", w.step())
	}
	h.keys("6<shift+tab><shift+tab><shift+tab><shift+tab>")
	if w.step() != which || len(h.e.done) != 0 {
		t.Fatalf("at %s, %d done", w.step(), len(h.e.done))
	}
	// What was answered is still there.
	h.keys("<enter>")
	h.want(t, "10m")
}

func TestConsentIsTyped(t *testing.T) {
	h, w := open(engine.PauseWorkers{Workers: "all", Reason: "x"}, true)
	h.keys("<enter><enter><enter>")
	for _, s := range []string{"", "5", "59", "600"} {
		h.keys("<ctrl+u><ctrl+e><ctrl+u>" + s + "<enter>")
		if len(h.e.done) != 0 {
			t.Fatalf("%q was taken for 60", s)
		}
	}
	h.want(t, "Type 60 to agree")
	h.keys("<ctrl+u>")
	if !w.Paste(h, "60") || w.typed.Value() != "" {
		t.Error("a pasted phrase was taken")
	}
	h.keys("60<enter>")
	if len(h.e.done) != 1 {
		t.Fatal("the phrase was not taken")
	}
	for _, c := range []engine.Consent{{Level: "type"}, {Level: "twice"}, {}} {
		if got := (&Wizard{plan: &engine.Plan{Digest: "5d11e0aabbcc", Consent: c}}).phrase(); got != "5d11e0" {
			t.Errorf("%+v: %q: want the digest when it is not known what is wanted", c, got)
		}
	}
}

func TestPlanChanged(t *testing.T) {
	h, w := open(engine.PauseWorkers{Workers: "w1089-w1096", Reason: "x"}, true)
	h.keys("<enter><enter><enter>")
	first := w.plan.Digest
	s := snapshot(true)
	s.Workers.Rows[1090-1065].Desired = engine.WishPaused
	h.look.Snap = s
	w.Key(h, "enter", "")
	h.run()
	if len(h.e.done) != 1 || w.receipt != nil || w.plan.Digest == first {
		t.Fatalf("%d requests, receipt %v", len(h.e.done), w.receipt)
	}
	w.Key(h, "enter", "") // before the new plan was drawn
	h.run()
	if len(h.e.done) != 1 {
		t.Fatal("a plan was agreed to that nobody can have read")
	}
	h.want(t, "THE PLAN HAS CHANGED", "pause 7 workers")
	h.keys("<enter>")
	if len(h.e.done) != 2 || h.e.done[1].d == first || w.receipt == nil {
		t.Fatalf("%+v", h.e.done)
	}
}

func TestRefused(t *testing.T) {
	h, w := open(engine.PauseWorkers{Workers: "w1089", Reason: "x"}, true)
	h.keys("<enter><enter><enter>")
	good := h.e.do
	h.e.do = func(engine.Request, engine.Digest) (engine.Receipt, error) {
		return engine.Receipt{}, &engine.Problem{Code: engine.CodeStopping, Exit: engine.ExitNotAllowed, Doing: "pause worker", Cause: "the engine stops", Remedy: "start it again"}
	}
	h.keys("<enter>")
	h.want(t, "the engine stops; start it again")
	h.e.do = good
	h.keys("<enter>")
	if len(h.e.done) != 2 || h.e.done[0].r.Key == h.e.done[1].r.Key || w.receipt == nil {
		t.Errorf("a refused request is asked again under another key: %+v", h.e.done)
	}
}

func TestEngineLost(t *testing.T) {
	h, w := open(engine.PauseWorkers{Workers: "w1089", Reason: "x"}, true)
	good, plan := h.e.do, h.e.plan
	lost := &engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: "pause worker", Cause: "nobody answers", Remedy: "provost up"}
	h.e.plan = func(engine.Request) (engine.Plan, error) { return engine.Plan{}, lost }
	h.keys("<enter><enter>")
	h.want(t, "nobody answers")
	h.keys("<enter>")
	if w.step() != effects {
		t.Fatalf("went on to %s without a plan", w.step())
	}
	h.e.plan = plan
	h.keys("R<enter>")
	if w.step() != review {
		t.Fatalf("at %s", w.step())
	}
	h.e.do = func(engine.Request, engine.Digest) (engine.Receipt, error) {
		return engine.Receipt{}, errors.New("broken pipe")
	}
	h.keys("<enter>")
	h.want(t, "broken pipe", "not known whether it was taken", "An earlier request may have been taken")
	h.look.Link.Connected = false
	h.keys("<enter>")
	h.want(t, "not sent: the link to the engine is lost")
	h.look.Link.Connected = true
	h.look.Now = noon.Add(5 * time.Minute) // even after a while the same request is sent, not a new plan
	h.e.do = good
	h.keys("<enter>")
	if len(h.e.done) != 2 || h.e.done[0].r.Key != h.e.done[1].r.Key || h.e.done[0].d != h.e.done[1].d || w.receipt == nil {
		t.Errorf("asked again after a lost answer: %+v", h.e.done)
	}
}

func TestOldFacts(t *testing.T) {
	h, _ := open(engine.PauseWorkers{Workers: "w1089", Reason: "x"}, true)
	h.keys("<enter><enter><enter>")
	h.look.Now = noon.Add(31 * time.Second)
	h.keys("<enter>")
	h.want(t, "asked for again")
	if len(h.e.done) != 0 {
		t.Fatal("an old plan was carried out")
	}
	s := *h.look.Snap
	s.Sources = &engine.Section[engine.SourceRow]{Rows: []engine.SourceRow{{Name: "workers", At: ptr(noon), PeriodS: 2}}}
	h.look.Snap = &s
	h.keys("<enter>")
	h.want(t, "not sent: what is known of the workers is too old: last heard 31s ago")
	if len(h.e.done) != 0 {
		t.Fatal("acted on old facts")
	}
	h.look.Snap = snapshot(true)
	h.look.ReadOnly = true
	h.keys("<enter>")
	h.want(t, "read-only")
	h.look.ReadOnly = false
	h.look.Frozen = noon
	h.keys("<enter>")
	h.want(t, "frozen")
	h.look.Frozen = time.Time{}
	h.keys("<enter>")
	if len(h.e.done) != 1 {
		t.Errorf("%d requests", len(h.e.done))
	}
}

func TestLocked(t *testing.T) {
	h, w := open(engine.PauseWorkers{Workers: "w1089", Reason: "fans"}, false)
	h.keys("<enter><enter><enter>")
	h.want(t, "LOCKED", ":unlock 15m <reason>")
	h.keys("<enter>")
	if len(h.stack) != 2 || len(h.e.done) != 0 {
		t.Fatalf("%d overlays, %d requests", len(h.stack), len(h.e.done))
	}
	h.want(t, "Unlock the screens", "first: step 1 of 2", "fans", "15m")
	h.keys("<enter><enter>")
	if len(h.stack) != 1 || len(h.e.done) != 1 || h.e.done[0].r.Action.Kind() != engine.KindUnlockScreens {
		t.Fatalf("%d overlays, %+v", len(h.stack), h.e.done)
	}
	h.want(t, "Pause workers", "PLAN")
	h.keys("<enter>")
	if len(h.e.done) != 2 || w.receipt == nil {
		t.Fatalf("%+v", h.e.done)
	}

	// The lock closed between: the engine says so.
	h, w = open(engine.PauseWorkers{Workers: "w1089", Reason: "fans"}, true)
	h.keys("<enter><enter><enter>")
	h.e.do = func(engine.Request, engine.Digest) (engine.Receipt, error) {
		return engine.Receipt{}, &engine.Problem{Code: engine.CodeLocked, Exit: engine.ExitNotAllowed, Doing: "pause worker", Cause: "locked"}
	}
	h.keys("<enter>")
	if len(h.stack) != 2 || w.receipt != nil {
		t.Errorf("%d overlays", len(h.stack))
	}
	h.keys("<esc>")
	if h.top() != page.Overlay(w) {
		t.Error("esc did not lead back to the review")
	}
}

func TestLeaving(t *testing.T) {
	h, _ := open(engine.PauseWorkers{Workers: "w1089"}, true)
	h.keys("<esc>")
	if len(h.stack) != 0 {
		t.Error("asked although nothing was typed")
	}
	h, w := open(engine.PauseWorkers{Workers: "w1089"}, true)
	h.keys(",w1090<esc>")
	h.want(t, "Leave?")
	h.keys("<esc>,w1091<enter>")
	if w.step() != how || w.sel.Value() != "w1089,w1090,w1091" {
		t.Errorf("at %s with %q", w.step(), w.sel.Value())
	}
	h.keys("<esc><enter>")
	if len(h.stack) != 0 {
		t.Error("did not leave")
	}
	// A request under way: leaving does not stop it, and its late answer changes nothing here.
	h, w = open(engine.PauseWorkers{Workers: "w1089", Reason: "x"}, true)
	h.keys("<enter><enter><enter>")
	w.Key(h, "enter", "")
	w.Key(h, "enter", "")
	w.Key(h, "shift+tab", "")
	w.Key(h, "esc", "")
	if len(h.stack) != 0 {
		t.Fatal("did not leave")
	}
	h.run()
	if len(h.e.done) != 1 || w.receipt != nil {
		t.Errorf("%d requests", len(h.e.done))
	}
}

func TestDropFromList(t *testing.T) {
	h, w := open(engine.PauseWorkers{Workers: "w1089-w1092"}, true)
	h.keys("<tab>j ")
	if w.sel.Value() != "w1089,w1091-w1092" || len(w.match) != 3 {
		t.Errorf("%q, %d", w.sel.Value(), len(w.match))
	}
	h.keys("kk  <esc><enter>")
	if w.sel.Value() != "w1092" || w.step() != how {
		t.Errorf("%q at %s", w.sel.Value(), w.step())
	}
}

func TestPaste(t *testing.T) {
	h, w := open(engine.SubmitJob{}, true)
	w.Paste(h, "/k.zkey\n")
	h.keys("<tab>")
	w.Paste(h, "/a.wtns,/b.wtns\n")
	if w.step() != how || w.fields[0].in.Value() != "/k.zkey" {
		t.Errorf("at %s: %q", w.step(), w.fields[0].in.Value())
	}
	h.want(t, "2 jobs")
	h.keys("<enter><enter>")
	h.want(t, "submit 2 jobs")
	h.keys("<enter>")
	if len(h.e.done) != 1 {
		t.Fatal("not submitted")
	}
	h.want(t, "job jabc")
}

func TestSmallSizes(t *testing.T) {
	for _, a := range []engine.Action{engine.PauseWorkers{Workers: "all", Reason: "x"}, engine.UnlockScreens{Reason: "x"}, engine.SubmitJob{Zkey: "/k", Witnesses: []string{"/w"}}, engine.StopEngine{}} {
		h, _ := open(a, true)
		for range 5 {
			for _, size := range [][2]int{{0, 0}, {1, 1}, {12, 4}, {20, 5}, {36, 6}, {300, 80}} {
				h.frame(size[0], size[1])
			}
			h.keys("<enter>")
		}
	}
}

// TestRandomKeys presses keys at random: whatever is pressed, nothing is asked of the
// engine that was not reviewed and agreed to.
func TestRandomKeys(t *testing.T) {
	names := []string{"enter", "enter", "enter", "esc", "shift+tab", "tab", "up", "down", "pgdown", "left", "right", "backspace", "ctrl+u", "ctrl+w", "home", "f5", "ctrl+x"}
	letters := "w1089-,:all yDRPukj60m5x/ qn"
	actions := []engine.Action{
		engine.PauseWorkers{Workers: "all", Reason: "x"}, engine.PauseWorkers{Workers: "w1089-w1096", Reason: "y"}, engine.PauseWorkers{}, engine.ResumeWorkers{Workers: "w1101"}, engine.RestartWorkers{Workers: "w1066"},
		engine.UnlockScreens{}, engine.SubmitJob{Zkey: "/k.zkey", Witnesses: []string{"/w.wtns"}}, engine.CancelAct{ID: "a31"}, engine.StopEngine{},
	}
	rng := rand.New(rand.NewPCG(1, 2))
	sent, typed := 0, 0
	for press := 0; press < 10_000; {
		h, _ := open(actions[rng.IntN(len(actions))], rng.IntN(3) > 0)
		good := h.e.do
		type review1 struct {
			w *Wizard
			d engine.Digest
		}
		drawn := map[review1]bool{} // plans that were drawn on a review
		see := func(width, height int) {
			h.frame(width, height)
			if w, ok := h.top().(*Wizard); ok && w.step() == review && w.plan != nil && !w.leaving {
				drawn[review1{w, w.plan.Digest}] = true
			}
		}
		var now *Wizard
		h.e.do = func(r engine.Request, d engine.Digest) (engine.Receipt, error) {
			sent++
			if now == nil || now.step() != review || !drawn[review1{now, d}] {
				t.Fatalf("%s was asked for with plan %s, which was not on the review", r.Action.Kind(), d)
			}
			if now.plan.Digest != d {
				t.Fatal("another plan than the one shown")
			}
			if want := now.phrase(); want != "" {
				typed++
				if strings.TrimSpace(now.typed.Value()) != want {
					t.Fatalf("consent %q, typed %q", want, now.typed.Value())
				}
			}
			if u := h.look.Snap.Engine.Value.Unlocked; u == nil && !now.locks() {
				t.Fatal("asked while locked")
			}
			switch rng.IntN(6) {
			case 0:
				return engine.Receipt{}, errors.New("line lost")
			case 1:
				return engine.Receipt{}, &engine.Problem{Code: engine.CodeStopping, Doing: "x", Cause: "no"}
			}
			return good(r, d)
		}
		for range 80 {
			press++
			if h.top() == nil {
				break
			}
			w := h.top().(*Wizard)
			now = w
			if rng.IntN(3) > 0 {
				see(20+rng.IntN(120), 8+rng.IntN(30))
			}
			if w.step() != running && rng.IntN(2) == 0 {
				w.Key(h, "enter", "")
				h.run()
				see(80, 24)
				if h.top() != page.Overlay(w) {
					continue
				}
			}
			switch rng.IntN(16) {
			case 0:
				h.look.Now = h.look.Now.Add(time.Duration(rng.IntN(40)) * time.Second)
			case 1:
				w.Paste(h, "60")
			case 2:
				if w.step() == review && w.plan != nil {
					for _, c := range w.phrase() {
						w.Key(h, string(c), string(c))
					}
					w.Key(h, "enter", "")
				}
			case 3, 4, 5:
				c := letters[rng.IntN(len(letters))]
				w.Key(h, string(c), string(c))
			default:
				w.Key(h, names[rng.IntN(len(names))], "")
			}
			if rng.IntN(4) > 0 {
				h.run()
			}
		}
	}
	if sent < 50 || typed < 3 {
		t.Errorf("only %d requests got through, %d with a phrase: the test tests nothing", sent, typed)
	}
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte("\x00\x00xx\x00\x00\x00"))
	f.Add([]byte("\x01\x00all\x0060\x00"))
	names := []string{"enter", "esc", "shift+tab", "tab", "up", "down", "backspace", "ctrl+u", "pgdown", "left"}
	f.Fuzz(func(t *testing.T, in []byte) {
		h, _ := open(engine.PauseWorkers{Workers: "all"}, true)
		good := h.e.do
		h.e.do = func(r engine.Request, d engine.Digest) (engine.Receipt, error) {
			w := h.stack[0].(*Wizard)
			if w.step() != review || w.drawn != d || w.phrase() != "" && strings.TrimSpace(w.typed.Value()) != w.phrase() {
				t.Fatalf("asked at %s", w.step())
			}
			return good(r, d)
		}
		for _, c := range in[:min(len(in), 400)] {
			o := h.top()
			if o == nil {
				return
			}
			if int(c) < len(names) {
				o.Key(h, names[c], "")
			} else if c >= ' ' && c < 0x7f {
				o.Key(h, string(rune(c)), string(rune(c)))
			}
			h.run()
			h.frame(80, 24)
		}
	})
}

func BenchmarkReviewFrame(b *testing.B) {
	h, w := open(engine.PauseWorkers{Workers: "all", Reason: "x"}, true)
	h.keys("<enter><enter><enter>")
	th, _ := theme.ByName("mono")
	buf := widget.NewBuffer(th, theme.Unicode)
	b.ReportAllocs()
	for b.Loop() {
		buf.Resize(120, 40)
		w.Render(buf, &h.look, buf.All())
	}
}
