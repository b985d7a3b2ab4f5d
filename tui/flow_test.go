package tui

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"app.provost/engine"
	"app.provost/tui/page"
)

// spy counts what a screen asks of an engine.
type spy struct {
	engine.Engine
	do     atomic.Int64
	last   atomic.Pointer[engine.Request]
	locked bool // the lock cannot be opened
}

func (s *spy) Do(ctx context.Context, r engine.Request, d engine.Digest) (engine.Receipt, error) {
	switch r.Action.(type) {
	case engine.UnlockScreens, engine.LockScreens:
		if s.locked {
			return engine.Receipt{}, &engine.Problem{Code: engine.CodeDenied, Exit: engine.ExitNotAllowed, Cause: "the lock stays closed in this test"}
		}
	}
	s.do.Add(1)
	s.last.Store(&r)
	return s.Engine.Do(ctx, r, d)
}

// TestRandomKeysDoNothing presses 10,000 keys on locked screens, in every view:
// no act reaches the engine and nothing panics. Opening the lock is an act of its
// own with a reason; here it stays closed.
func TestRandomKeysDoNothing(t *testing.T) {
	e := &spy{Engine: script(64), locked: true}
	s := newStage(t, e).pull().fillLogs().size(80, 24)
	var pool []string
	for r := rune('!'); r < 127; r++ {
		pool = append(pool, string(r))
	}
	for k := range named {
		if k != "ctrl+c" {
			pool = append(pool, k, k)
		}
	}
	pool = append(pool, "space", "space")
	rnd := rand.New(rand.NewPCG(7, 11))
	for i := range 10_000 {
		s.keys(pool[rnd.IntN(len(pool))])
		s.m.quitting = false
		if i%10 == 0 {
			s.frame()
		}
		if i%500 == 0 {
			wh := sizes[rnd.IntN(len(sizes))]
			s.size(wh[0], wh[1])
		}
	}
	if n := e.do.Load(); n != 0 {
		t.Errorf("%d acts reached the engine from a locked screen, the last: %+v", n, e.last.Load().Action)
	}
}

// TestReadOnlyScreenDoesNothing: also with the lock open, a read-only screen has no levers.
func TestReadOnlyScreenDoesNothing(t *testing.T) {
	e := &spy{Engine: play(t, 64)}
	first := newStage(t, e).pull()
	unlock(t, e)
	first.news()
	before := e.do.Load()
	s := newStage(t, e, func(o *Options) { o.ReadOnly = true }).pull().size(80, 24)
	s.keys("2", "p").shows("p: this screen is read-only")
	s.keys(":").text("unlock 15m because").keys("enter").shows("read-only").keys("esc")
	s.keys(":").text("lock").keys("enter").shows("read-only").keys("esc")
	s.keys(":").text("pause worker w1").keys("enter").shows("read-only")
	if n := e.do.Load() - before; n != 0 {
		t.Errorf("%d acts reached the engine from a read-only screen", n)
	}
}

func unlock(t testing.TB, e engine.Engine) {
	t.Helper()
	r := engine.Request{Key: engine.NewKey(), Action: engine.UnlockScreens{For: engine.Duration(15 * time.Minute), Reason: "test"}, Actor: engine.Actor{Name: "ana", Via: engine.ViaCLI}}
	p, err := e.Preview(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Do(context.Background(), r, p.Digest); err != nil {
		t.Fatal(err)
	}
}

// TestKeySaysWhyOff: a key that is off is answered, and the answer goes after 3 s.
func TestKeySaysWhyOff(t *testing.T) {
	s := newStage(t, script(64)).pull().size(80, 24)
	s.keys("f", "2", "p").shows("p: the screen is frozen, f ends that")
	s.send(sayEndMsg(s.m.sayGen))
	s.hides("p: the screen").keys("f")
	s.keys("Q").shows("Q: no such key here")
}

// TestLockedWizardUnlocks: a locked screen may go through a wizard; its review asks
// to unlock, and nothing is done before that and a second look.
func TestLockedWizardUnlocks(t *testing.T) {
	e := &spy{Engine: play(t, 64)}
	s := newStage(t, e).pull().size(80, 24)
	s.keys("2", "p").shows("Pause workers", "step 1 of 4").keys("enter", "enter").text("fan noise").keys("enter", "enter")
	s.shows("step 4 of 4", "PLAN").keys("enter").shows("Unlock the screens", "fan noise")
	if n := e.do.Load(); n != 0 {
		t.Fatalf("%d acts were done by a locked screen", n)
	}
	s.keys("enter").shows("unlock the screens for 15m").keys("enter").news().shows("UNLOCKED 15m", "step 4 of 4")
	if _, ok := e.last.Load().Action.(engine.UnlockScreens); !ok || e.do.Load() != 1 {
		t.Fatalf("%d acts, the last %+v", e.do.Load(), e.last.Load().Action)
	}
	s.keys("enter")
	if a, ok := e.last.Load().Action.(engine.PauseWorkers); !ok || a.Reason != "fan noise" {
		t.Errorf("asked for %+v", e.last.Load().Action)
	}
}

// TestLockedCommandOpensWizard: so does a command, and a key that acts without questions.
func TestLockedCommandOpensWizard(t *testing.T) {
	e := &spy{Engine: play(t, 64)}
	s := newStage(t, e).pull().size(80, 24)
	s.keys(":").text("pause worker w1 --for=10m").keys("enter").shows("Pause workers").keys("esc")
	s.keys("8", "a").shows("Ack alerts", "LOCKED: screens may look").keys("enter").shows("Unlock the screens")
	if n := e.do.Load(); n != 0 {
		t.Errorf("%d acts were done by a locked screen", n)
	}
}

// TestUnlockByCommand: the typed command is the consent; the header shows the time left.
func TestUnlockByCommand(t *testing.T) {
	e := &spy{Engine: play(t, 64)}
	s := newStage(t, e).pull().size(80, 24)
	s.keys(":").text("unlock 15m disk swap").keys("enter")
	if e.do.Load() != 1 {
		t.Fatalf("%d acts, want 1", e.do.Load())
	}
	if a := e.last.Load(); a.Actor.Via != engine.ViaScreen || a.Action.(engine.UnlockScreens).Reason != "disk swap" {
		t.Errorf("asked for %+v", a)
	}
	s.news().shows("UNLOCKED 15m")
	s.keys(":").text("lock").keys("enter").news().shows("LOCKED").hides("UNLOCKED")
}

// TestFilter: a filter is tried while it is typed, a wrong one says where, esc takes it back.
func TestFilter(t *testing.T) {
	s := newStage(t, script(2048)).pull().size(80, 24)
	s.keys("2", "/").text("state=paused").keys("enter").shows("filter: state=paused", "shown")
	s.keys("/").keys("ctrl+u").text("nonsense=1").shows("no column").keys("esc").shows("filter: state=paused")
	s.keys("esc").hides("filter:")
	s.keys("/").text("nothinglikethis").keys("enter").shows("No row matches")
}

// TestCursorFollowsRow: the cursor stays on its worker through sorting and new
// data, and says so when the worker is gone.
func TestCursorFollowsRow(t *testing.T) {
	s := newStage(t, script(64)).pull().size(80, 24)
	s.keys("2", "j", "j", "j")
	id := func() string { return string(underCursor(s).ID) }
	at := id()
	s.keys(">", "=").frame()
	if id() != at {
		t.Errorf("sorting moved the cursor from %s to %s", at, id())
	}
	newer := *s.m.snap
	w := *newer.Workers
	w.Version++
	w.Rows = nil
	for _, r := range newer.Workers.Rows {
		if string(r.ID) != at {
			w.Rows = append(w.Rows, r)
		}
	}
	newer.Workers = &w
	s.show(engine.Update{Snapshot: &newer})
	s.shows(at + " left the list")
}

func underCursor(s *stage) *engine.WorkerRow {
	for _, v := range s.m.views {
		if v.ID == page.Workers {
			return v.Page.(interface{ Current() engine.Row }).Current().(*engine.WorkerRow)
		}
	}
	return nil
}

// TestPauseFlow walks through the wizard with the keyboard: which, how long and
// why, what it does, review, and the act.
func TestPauseFlow(t *testing.T) {
	e := &spy{Engine: play(t, 2048)}
	s := newStage(t, e).pull().size(80, 24)
	unlock(t, e)
	before := e.do.Load()
	s.news()
	s.keys("2", "/").text("host:m20").keys("enter", "*", "p")
	s.shows("Pause workers", "step 1 of 4")
	s.keys("enter").shows("step 2 of 4", "45m")
	s.keys("enter").shows("say why")
	s.text("fan noise").keys("enter").shows("step 3 of 4", "workers")
	s.keys("enter").shows("step 4 of 4", "PLAN", "SAME THING", "w1217-w1280", "--reason")
	if e.do.Load() != before {
		t.Fatal("something was done before the review was confirmed")
	}
	s.keys("enter")
	if e.do.Load() != before+1 {
		t.Fatalf("enter on the review did not ask the engine once but %d times:\n%s", e.do.Load()-before, s.screen())
	}
	a, ok := e.last.Load().Action.(engine.PauseWorkers)
	if !ok || a.Reason != "fan noise" || time.Duration(a.For) != 45*time.Minute {
		t.Errorf("asked for %+v", e.last.Load().Action)
	}
	s.news().shows("act ", "running")
	s.keys("esc").hides("Pause workers")
}

// TestPasteIsNoKey: pasted text outside a field does nothing and says so; in a
// field it is text, line ends included.
func TestPasteIsNoKey(t *testing.T) {
	e := &spy{Engine: play(t, 64)}
	s := newStage(t, e).pull().size(80, 24)
	unlock(t, e)
	s.news()
	before := e.do.Load()
	paste := func(text string) { s.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text), Paste: true}) }
	paste("2p\n\n:lock\n")
	s.shows("pasted text is ignored", "[1 Over]")
	s.keys("2", "/")
	paste("host:m01\n")
	s.shows("/host:m01")
	if e.do.Load() != before {
		t.Error("pasted text acted")
	}
}

// TestLeaveSaysWhatEnds: a screen that its practice engine does not outlive must not say that it does.
func TestLeaveSaysWhatEnds(t *testing.T) {
	newStage(t, script(7), func(o *Options) { o.Ends = true }).pull().size(80, 24).shows("leave (engine ends)").keys("q").
		shows("The demo ends, with all its nodes and workers").hides("keeps running").hides("provost attach")
	newStage(t, script(7), func(*Options) {}).pull().size(80, 24).shows("leave (engine stays)").keys("q").shows("The engine keeps running")
}

// TestSuddenQuestionSwallowsKeys: a question that opens by itself takes no key of
// the first half second.
func TestSuddenQuestionSwallowsKeys(t *testing.T) {
	s := newStage(t, script(7), func(o *Options) { o.Foreground = true }).pull().size(80, 24)
	s.send(askLeaveMsg{})
	s.shows("Leave the dashboard").keys("enter")
	if s.m.quitting {
		t.Fatal("a stray enter left the screen")
	}
	s.now = s.now.Add(time.Second)
	s.keys("enter")
	if !s.m.quitting || s.m.reason != Left {
		t.Error("enter did not leave")
	}
}

// TestCtrlC: once says what twice does.
func TestCtrlC(t *testing.T) {
	s := newStage(t, script(7)).pull().size(80, 24).keys("ctrl+c").shows("ctrl+c again leaves")
	if s.m.quitting {
		t.Fatal("left at once")
	}
	s.keys("ctrl+c")
	if !s.m.quitting {
		t.Error("did not leave")
	}
}

func TestSuspendForeground(t *testing.T) {
	s := newStage(t, script(7), func(o *Options) { o.Foreground = true }).pull().size(80, 24).keys("ctrl+z")
	s.shows("ctrl+z would stop the engine")
}

func TestCommands(t *testing.T) {
	s := newStage(t, script(64)).pull().size(80, 24)
	for _, x := range []struct{ line, shows string }{
		{"workers state=run", "filter: state=run"}, {"sort cpu desc", "sort CPU%▼"}, {"gpus", "GPUs"}, {"theme mono", ""}, {"theme nosuch", "there are"},
		{"worksers", `did you mean "workers"`}, {"unlock", "length of time"}, {"mute", "want alert ids"}, {"sort nosuch", "no column"}, {"views all", "5 Duty"},
	} {
		s.keys(":").text(x.line).keys("enter")
		if x.shows != "" {
			s.shows(x.shows)
		}
		s.keys("esc", "esc", "esc", "esc")
		s.keys("2")
	}
	s.keys(":").text("the").keys("tab").shows(":theme ").text("de").keys("tab").shows(":theme deuteran")
}

// TestBindings: every key of a view has one meaning there, each entry can be
// explained, and what leads to a change is marked so.
func TestBindings(t *testing.T) {
	s := newStage(t, script(64))
	names := map[string]bool{}
	check := func(where string, bs []page.Binding) {
		keys := map[string]string{}
		for i := range bs {
			b := &bs[i]
			if b.Name == "" || len(b.Key.Keys()) == 0 || b.Do == nil {
				t.Errorf("%s: an entry without name, keys or deed: %+v", where, b)
			}
			for _, k := range b.Key.Keys() {
				if keys[k] != "" {
					t.Errorf("%s: %q is %s and %s", where, k, keys[k], b.Name)
				}
				keys[k] = b.Name
				if strings.HasPrefix(k, "ctrl+") && b.Act {
					t.Errorf("%s: %s acts on a ctrl key", where, b.Name)
				}
			}
			if b.Key.Help().Desc != "" && b.Group == "" {
				t.Errorf("%s: %s has help and no heading", where, b.Name)
			}
			names[b.Name] = true
		}
	}
	check("everywhere", s.m.global)
	for _, v := range s.m.views {
		if v.Page != nil {
			check(string(v.ID), v.Page.Bindings())
			if len(v.Page.Legend()) == 0 {
				t.Errorf("%s explains no sign", v.ID)
			}
		} else if v.Why == "" {
			t.Errorf("%s is not there and does not say why", v.ID)
		}
	}
}

// TestDetailAndMarks: enter opens, esc goes back step by step.
func TestDetailAndMarks(t *testing.T) {
	s := newStage(t, script(2048)).pull().size(80, 24)
	s.keys("2", "enter").shows("Workers > ", "state", "where", "esc back")
	s.keys("esc").hides("Workers > ")
	s.keys("space", "space").shows("marked 2").keys("esc").hides("marked")
	s.keys("v", "j", "j", "v").shows("3 marked")
	s.size(200, 50).keys("enter").shows("esc closes")
}

func TestSplitWords(t *testing.T) {
	for in, want := range map[string]string{`a b  c`: "a|b|c", `x 'a b' y`: "x|a b|y", `note~"exit 1" z`: `note~"exit 1"|z`, ``: "", `--reason="disk swap"`: `--reason="disk swap"`} {
		if got := strings.Join(splitWords(in), "|"); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestEventsFold: a busy queue is one line on the overview; everything else stays
// to be seen, and the journal has every entry.
func TestEventsFold(t *testing.T) {
	e := script(7)
	s := newStage(t, e).pull().size(160, 48)
	s.m.entries = nil
	n := uint64(0)
	add := func(what, id, text string, level engine.Level, facts ...engine.Fact) {
		n++
		s.m.entries = append(s.m.entries, engine.Entry{N: n, At: curtain.Add(time.Duration(n) * time.Second), Level: level, What: what, Key: engine.Key{ID: id}, Text: text, Facts: facts})
	}
	submit := engine.Fact{Name: "command", Value: "provost submit job --zkey=a --witness=b"}
	add("worker.start", "w1", "w1 runs, pid 7", engine.LevelNote)
	for i := range 60 {
		act, job := fmt.Sprintf("a%d", i), fmt.Sprintf("jabcdefghijklmnop%04d", i)
		add("act.asked", act, "make 1 proof", engine.LevelNote, submit)
		add("act.done", act, "done: make 1 proof", engine.LevelNote)
		add("job.verified", job, job+": verified, proved in 60ms", engine.LevelNote)
	}
	add("job.failed", "jzzzzzzzzzzzzzzzzzzzz", "jzzzzzzzzzzzzzzzzzzzz: failed", engine.LevelWarn)
	s.m.dirty = true
	s.shows("60 jobs verified, newest jabcdefg, since", "60 submissions, newest: make 1 proof, since", "w1 runs, pid 7", "jzzzzzzz: failed").hides("jzzzzzzzz", "verified, proved")
	add("job.verified", "jnewnewnewnewnewnewn1", "jnewnewnewnewnewnewn1: verified, proved in 60ms", engine.LevelNote)
	s.m.dirty = true
	s.shows("61 jobs verified, newest jnewnewn")
	s.keys("8").shows("jnewnewnewnewnewnewn1: verified", "done: make 1 proof", "jabcdefghijklmnop0059: verified")
}
