package tui

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/exp/teatest"
	"github.com/hinshun/vt10x"

	"app.provost/engine"
	"app.provost/engine/scripted"
	"app.provost/tui/theme"
)

// The tests here run the whole program, bridge and all, against a script that
// plays, and look at the screen that its bytes make.

type show struct {
	t  *testing.T
	tm *teatest.TestModel
	vt vt10x.Terminal
	m  *model
}

func perform(t *testing.T, change ...func(*Options)) *show {
	t.Helper()
	e := run(t, scripted.New(scripted.Options{Workers: 256}))
	o := Options{Engine: e, Actor: engine.Actor{Name: "ana"}, Getenv: func(string) string { return "" }}
	for _, c := range change {
		c(&o)
	}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	th, err := theme.ByName("term")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := newModel(ctx, o, th, theme.Unicode, nil)
	done := make(chan struct{}, 2)
	go func() { m.bridge.run(ctx); done <- struct{}{} }()
	go func() { m.logs.run(ctx); done <- struct{}{} }()
	t.Cleanup(func() { cancel(); <-done; <-done })
	return &show{t: t, m: m, tm: teatest.NewTestModel(t, m, teatest.WithInitialTermSize(80, 24)), vt: vt10x.New(vt10x.WithSize(80, 24))}
}

// wait follows the output until the screen shows all words.
func (s *show) wait(words ...string) *show {
	s.t.Helper()
	buf := make([]byte, 64<<10)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		n, err := s.tm.Output().Read(buf)
		if err != nil && err != io.EOF {
			s.t.Fatal(err)
		}
		// A raw terminal gets line feeds without carriage returns where a line is skipped.
		_, _ = s.vt.Write(buf[:n])
		screen, all := s.vt.String(), true
		for _, w := range words {
			all = all && strings.Contains(screen, w)
		}
		if all {
			return s
		}
	}
	s.t.Fatalf("the screen never shows %q:\n%s", words, s.vt.String())
	return s
}

func (s *show) keys(keys ...string) *show {
	for _, k := range keys {
		s.tm.Send(keyMsg(k))
	}
	return s
}

func (s *show) text(text string) *show {
	for _, r := range text {
		if r == ' ' {
			s.keys("space")
		} else {
			s.keys(string(r))
		}
	}
	return s
}

func (s *show) leave(want Reason) {
	s.t.Helper()
	s.keys("ctrl+c", "ctrl+c")
	s.tm.WaitFinished(s.t, teatest.WithFinalTimeout(20*time.Second))
	if s.m.reason != want {
		s.t.Errorf("ended with %q, want %q", s.m.reason, want)
	}
}

func TestShowViews(t *testing.T) {
	s := perform(t).wait("PRACTICE", "[1 Over]", "WORKERS")
	for key, word := range map[string]string{"2": "Workers", "3": "GPUs", "4": "Hosts", "8": "JOURNAL", "0": "Acts", "J": "Jobs", "1": "WORKERS"} {
		s.keys(key).wait("["+key+" ", word)
	}
	s.leave(Left)
}

func TestShowLogsFollow(t *testing.T) {
	s := perform(t).wait("PRACTICE").keys("9").wait("[9 Log]", "follow on", "INF").keys("/").text("proof").keys("enter").wait(`search "proof"`).keys("&").wait("only these are shown")
	s.leave(Left)
}

func TestShowUnlockPauseResume(t *testing.T) {
	s := perform(t).wait("PRACTICE").keys("2").wait("[2 Work]", "w1")
	s.keys(":").text("unlock 15m trying").keys("enter").wait("UNLOCKED")
	s.keys("/").text("id:w7").keys("enter").wait("1 shown").keys("p").wait("Pause workers", "1 match")
	s.keys("enter").wait("step 2").keys("tab").text("fan noise").keys("enter").wait("step 3").keys("enter").wait("PLAN", "SAME THING")
	s.keys("enter").wait("act ").keys("esc").wait("paus")
	s.keys("P").wait("Resume workers")
	s.leave(Left)
}

func TestShowHelpAndFreeze(t *testing.T) {
	s := perform(t).wait("PRACTICE").keys("?").wait("Help: Overview", "EVERYWHERE").keys("esc", "f").wait("FROZEN").keys("f").wait("PRACTICE:")
	s.leave(Left)
}

func TestShowAckOverCommand(t *testing.T) {
	s := perform(t).wait("PRACTICE").keys(":").text("unlock 15m ack").keys("enter").wait("UNLOCKED").keys("8").wait("[8 Alert]", "open")
	s.keys("a").wait("ana").leave(Left)
}

// TestShowEngineStops: when the engine ends, so does the screen, and says why.
func TestShowEngineStops(t *testing.T) {
	s := perform(t).wait("PRACTICE")
	s.m.bridge.mu.Lock()
	s.m.bridge.stopped = true
	s.m.bridge.mu.Unlock()
	poke(s.m.bridge.wake)
	s.tm.WaitFinished(t, teatest.WithFinalTimeout(20*time.Second))
	if s.m.reason != EngineStopped {
		t.Errorf("ended with %q", s.m.reason)
	}
}

var _ tea.Model = (*model)(nil)
