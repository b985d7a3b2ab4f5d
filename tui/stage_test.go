package tui

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/google/go-cmp/cmp"

	"app.provost/engine"
	"app.provost/engine/scripted"
	"app.provost/tui/page"
	"app.provost/tui/theme"
)

// updating tells whether golden files are to be written; teatest brings the flag.
func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

// curtain is when every staged picture is taken.
var curtain = time.Date(2026, 3, 2, 11, 4, 40, 0, time.UTC)

// stage is a screen without a terminal: keys go in, cells come out. Work that
// the screen would do elsewhere is done at once.
type stage struct {
	t   testing.TB
	m   *model
	e   engine.Engine
	now time.Time

	back []tea.Msg
}

// play runs a script's engine until the test ends, so that acts show.
func play(t testing.TB, workers int) engine.Engine {
	t.Helper()
	return run(t, script(workers).(*scripted.Engine))
}

func run(t testing.TB, e *scripted.Engine) engine.Engine {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

func script(workers int) engine.Engine {
	if workers == 0 {
		workers = -1
	}
	still := time.Duration(0)
	hosts, gpus := 32, 9
	if workers < 256 {
		hosts, gpus = 1, min(max(workers, -1), 2)
		if gpus == 0 {
			gpus = -1
		}
	}
	return scripted.New(scripted.Options{Workers: workers, Hosts: hosts, GPUs: gpus, Start: curtain.Add(-still), Still: &still, Now: func() time.Time { return curtain }})
}

func newStage(t testing.TB, e engine.Engine, change ...func(*Options)) *stage {
	t.Helper()
	s := &stage{t: t, e: e, now: curtain}
	o := Options{Engine: e, Actor: engine.Actor{Name: "ana"}, Getenv: func(string) string { return "" }, Now: func() time.Time { return s.now },
		EngineLine: func() string { return "pid 4121, own session" }}
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
	glyphs := theme.Unicode
	if o.ASCII {
		glyphs = theme.ASCII
	}
	s.m = newModel(context.Background(), o, th, glyphs, nil)
	// The screen's goroutine is this one: what comes back is taken after the key.
	s.m.spawn = func(c tea.Cmd) { s.back = append(s.back, c()) }
	return s
}

// pull fetches the newest snapshot, as the bridge does.
func (s *stage) pull() *stage {
	s.t.Helper()
	after := s.m.bridge.after
	f, err := s.e.Watch(context.Background(), engine.WatchOptions{After: &after})
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	u, err := f.Next(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return s.show(u)
}

// news waits until the engine has published something newer than is shown.
func (s *stage) news() *stage {
	s.t.Helper()
	after := s.m.bridge.after
	f, err := s.e.Watch(context.Background(), engine.WatchOptions{After: &after})
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		u, err := f.Next(ctx)
		if err != nil {
			s.t.Fatalf("wait for news: %v", err)
		}
		if u.Snapshot.Gen > s.m.latest.Gen {
			return s.show(u)
		}
	}
}

func (s *stage) show(u engine.Update) *stage {
	s.m.bridge.put(u)
	s.send(feedMsg{})
	return s
}

func (s *stage) size(w, h int) *stage {
	s.send(tea.WindowSizeMsg{Width: w, Height: h})
	return s
}

func (s *stage) send(msg tea.Msg) {
	s.t.Helper()
	s.m.Update(msg)
	for len(s.back) > 0 {
		next := s.back[0]
		s.back = s.back[1:]
		s.m.Update(next)
	}
}

var named = map[string]tea.KeyType{"enter": tea.KeyEnter, "esc": tea.KeyEsc, "tab": tea.KeyTab, "up": tea.KeyUp, "down": tea.KeyDown, "left": tea.KeyLeft, "right": tea.KeyRight,
	"backspace": tea.KeyBackspace, "ctrl+c": tea.KeyCtrlC, "ctrl+z": tea.KeyCtrlZ, "ctrl+d": tea.KeyCtrlD, "ctrl+u": tea.KeyCtrlU, "ctrl+l": tea.KeyCtrlL, "shift+tab": tea.KeyShiftTab,
	"home": tea.KeyHome, "end": tea.KeyEnd, "pgdown": tea.KeyPgDown, "pgup": tea.KeyPgUp, "delete": tea.KeyDelete, "f1": tea.KeyF1, "f9": tea.KeyF9, "ctrl+s": tea.KeyCtrlS, "ctrl+w": tea.KeyCtrlW}

func keyMsg(k string) tea.KeyMsg {
	if t, ok := named[k]; ok {
		return tea.KeyMsg{Type: t}
	}
	if k == "space" {
		return tea.KeyMsg{Type: tea.KeySpace, Runes: []rune{' '}}
	}
	return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(k)}
}

// keys presses keys, named or as characters.
func (s *stage) keys(keys ...string) *stage {
	s.t.Helper()
	for _, k := range keys {
		s.send(keyMsg(k))
	}
	return s
}

// text types characters one by one.
func (s *stage) text(text string) *stage {
	s.t.Helper()
	for _, r := range text {
		if r == ' ' {
			s.keys("space")
			continue
		}
		s.keys(string(r))
	}
	return s
}

// frame draws and gives the cells as lines, after checks that hold for every frame.
func (s *stage) frame() []string {
	s.t.Helper()
	view := s.m.View()
	lines := s.m.buf.Lines()
	if s.m.w > 0 && s.m.h > 0 {
		if got := strings.Count(view, "\n") + 1; got != s.m.h || len(lines) != s.m.h {
			s.t.Errorf("the frame has %d lines, the screen %d", got, s.m.h)
		}
		if !strings.HasPrefix(strings.TrimLeft(lines[0], " "), "provost") && s.m.w >= minWidth && s.m.h >= minHeight {
			s.t.Errorf("the first line is lost: %q", lines[0])
		}
	}
	return lines
}

func (s *stage) screen() string { s.t.Helper(); return strings.Join(s.frame(), "\n") + "\n" }

func (s *stage) shows(words ...string) *stage {
	s.t.Helper()
	screen := s.screen()
	for _, w := range words {
		if !strings.Contains(screen, w) {
			s.t.Errorf("the screen does not show %q:\n%s", w, screen)
		}
	}
	return s
}

func (s *stage) hides(words ...string) *stage {
	s.t.Helper()
	screen := s.screen()
	for _, w := range words {
		if strings.Contains(screen, w) {
			s.t.Errorf("the screen shows %q:\n%s", w, screen)
		}
	}
	return s
}

// fillLogs gives the log view what the engine has now.
func (s *stage) fillLogs() *stage {
	s.t.Helper()
	for _, v := range s.m.views {
		p, ok := v.Page.(streamer)
		if !ok {
			continue
		}
		q, version := p.Query()
		q.Follow = false
		stream, err := s.e.Logs(context.Background(), q)
		if err != nil {
			s.t.Fatal(err)
		}
		defer stream.Close()
		var lines []engine.LogLine
		for {
			l, err := stream.Next(context.Background())
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				s.t.Fatal(err)
			}
			lines = append(lines, l)
		}
		p.Add(version, lines)
	}
	s.m.dirty = true
	return s
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if updating() {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (write it with -update)", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s is stale, -update writes it (-want +got):\n%s", path, diff)
	}
}

// dim takes every pointer and every reading out of a snapshot: nothing is known.
func dim(s *engine.Snapshot) *engine.Snapshot {
	out := *s
	dimSection(&out.Machines)
	dimSection(&out.Workers)
	dimSection(&out.GPUs)
	dimSection(&out.Nodes)
	dimSection(&out.Clusters)
	dimSection(&out.Duties)
	dimSection(&out.Validators)
	dimSection(&out.Peers)
	dimSection(&out.Beacons)
	dimSection(&out.Acts)
	dimSection(&out.Sources)
	dimSection(&out.Trends)
	jobs := *out.Jobs
	jobs.Rows = append([]engine.JobRow(nil), jobs.Rows...)
	for i := range jobs.Rows {
		dimValue(reflect.ValueOf(&jobs.Rows[i]).Elem())
	}
	jobs.Totals.PerMinute = nil
	out.Jobs = &jobs
	v := *out.Verdict
	v.Value.Restart = engine.Restart{}
	v.Value.Word = engine.VerdictUnknown
	out.Verdict = &v
	return &out
}

func dimSection[T any](s **engine.Section[T]) {
	if *s == nil {
		return
	}
	c := **s
	c.Rows = append([]T(nil), c.Rows...)
	for i := range c.Rows {
		dimValue(reflect.ValueOf(&c.Rows[i]).Elem())
	}
	*s = &c
}

func dimValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		v.Set(reflect.Zero(v.Type()))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				dimValue(v.Field(i))
			}
		}
	}
}

var allViews = []page.ID{page.Overview, page.Workers, page.GPUs, page.Hosts, page.Duties, page.Validators, page.Peers, page.Alerts, page.Logs, page.Acts, page.Jobs}
