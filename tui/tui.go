// Package tui is the screen: one bubbletea program that watches an engine and
// draws its snapshots. It is a viewer with a few levers. It reaches the engine
// only through engine.Engine; whether that runs in this process or behind a
// socket makes no difference here.
//
// Promises. The engine never waits for the screen: one goroutine fetches the
// newest snapshot and keeps at most one message for the screen. Calls to the
// engine happen off the screen's goroutine, with a deadline. Losing the terminal
// ends Run within a second and nothing else. The terminal is whole after every
// return of Run, after a panic too. Looking is safe: while screens are locked no
// key leads to Engine.Do.
//
// One screen per process at a time.
package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"app.provost/engine"
	_ "app.provost/tui/background" // settles lipgloss' question before bubbletea asks it
	"app.provost/tui/internal/escape"
	"app.provost/tui/page"
	"app.provost/tui/theme"
)

// LinkState is how the connection to the engine stands.
type LinkState = page.Link

// Reason says why the screen ended.
type Reason string

const (
	Left          Reason = "left"           // the user left; the engine goes on
	TerminalLost  Reason = "terminal lost"  // hang-up, end of input; the engine goes on
	EngineStopped Reason = "engine stopped" // the feed ended
	StopAsked     Reason = "stop asked"     // SIGTERM with the engine in this process: the caller stops it
	Crashed       Reason = "crashed"        // a panic of the screen; the engine goes on
)

// Options says what to show and where. Engine, In and Out are needed.
type Options struct {
	Engine engine.Engine
	// Link tells how the connection stands; nil: as the feed behaves.
	Link func() LinkState
	// In and Out are both the terminal.
	In, Out *os.File

	Theme string // a name of theme.Names; "": from the environment
	ASCII bool
	// ReadOnly takes every key away that leads to a change.
	ReadOnly bool
	// Foreground: the engine lives in this process, so ctrl+z is off and SIGTERM stops it.
	Foreground bool
	// Ends: the engine is of practice and ends when this screen does; nothing of it is kept.
	Ends bool
	// LowBandwidth: one picture in 5 s, no sparklines, no seconds.
	LowBandwidth bool
	// NoSync never uses synchronized output.
	NoSync bool
	// EngineLine describes the engine for the question at leaving: "pid 4121, own session".
	EngineLine func() string
	// Actor is who looks; Via is set to screen.
	Actor engine.Actor
	// Keys are own keys by the name of their binding; see KeyTable.
	Keys map[string][]string
	// View is the first view; "": the last one, or the overview.
	View page.ID
	// ExportDir is where a view is written to on request; "": nowhere.
	ExportDir string
	// KeepDir keeps, for each engine, the last view, sort and columns, and whether to
	// ask at leaving; it is made when there is something to keep. "": nothing is kept.
	// Nothing is kept of a practice engine either.
	KeepDir string

	// Hold is called with true before the terminal is taken and with false after it was
	// given back: the place to point file descriptor 2 to a log.
	Hold func(up bool)
	// Crash keeps the trace of a panic and returns where; nil: it goes to Log only.
	Crash func(where string, value any, stack []byte) (path string)
	Log   *slog.Logger
	// Signals replaces the process' signals; nil: HUP, INT, TERM, TSTP, QUIT and PIPE are taken while the screen is up.
	Signals <-chan os.Signal
	Getenv  func(string) string // nil: os.Getenv

	alone page.Overlay     // shown without a dashboard; the screen ends with it
	Now   func() time.Time // nil: time.Now
}

func (o *Options) complete() error {
	if o.Engine == nil {
		return errors.New("start screen: no engine was given")
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.EngineLine == nil {
		o.EngineLine = func() string { return "" }
	}
	if o.Hold == nil {
		o.Hold = func(bool) {}
	}
	o.Actor.Via = engine.ViaScreen
	return nil
}

// screen is one running Run.
type screen struct {
	o       Options
	program *tea.Program
	out     *output
	restore *restorer
	model   *model
	cancel  context.CancelFunc
	endOnce sync.Once
	reason  atomic.Pointer[Reason]
	crash   atomic.Pointer[error]
}

var current atomic.Pointer[screen]

// Restore brings the terminal back at once if a screen is up. It is safe to call
// from any goroutine and twice: meant for a recover that is about to end the process.
func Restore() {
	if s := current.Load(); s != nil {
		s.restore.now()
	}
}

// Run shows the dashboard until the user leaves, the terminal goes or the engine
// ends. The error is nil except for a screen that could not start or crashed.
func Run(ctx context.Context, o Options) (Reason, error) {
	if err := o.complete(); err != nil {
		return "", err
	}
	if o.In == nil || o.Out == nil || !isTerminal(o.In) || !isTerminal(o.Out) {
		return "", &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "start screen",
			Cause: "input or output is not a terminal", Remedy: "use --no-tui, or provost status"}
	}
	th, glyphs, err := theme.Choose(o.Theme, o.ASCII, o.Getenv)
	if err != nil {
		return "", &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "start screen", Cause: err.Error(), Field: "theme"}
	}
	if _, err := KeyTable(o.Keys); err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &screen{o: o, cancel: cancel, out: newOutput(o.Out, o.Now)}
	s.restore = newRestorer(o.In, o.Out)
	if !current.CompareAndSwap(nil, s) {
		return "", errors.New("start screen: another screen is up in this process")
	}
	defer current.Store(nil)
	o.Hold(true)
	defer o.Hold(false)
	if !o.NoSync && !o.LowBandwidth {
		s.out.sync.Store(askSync(o.In, o.Out, o.Getenv("TERM")))
	}

	s.model = newModel(ctx, o, th, glyphs, s.out)
	s.model.guard = s.caught
	in := &input{File: o.In, lost: func() { s.end(TerminalLost) }}
	// The program has no context of ours: cancelling it would close the reader of the
	// keys while that is still read from. It ends by a message; see await.
	s.program = tea.NewProgram(s.model, tea.WithInput(in), tea.WithOutput(s.out),
		tea.WithAltScreen(), tea.WithReportFocus(), tea.WithoutSignalHandler(), tea.WithFPS(30), tea.WithFilter(s.model.sift))

	var helpers sync.WaitGroup
	s.safely(&helpers, "screen feed", func() { s.model.bridge.run(ctx) })
	s.safely(&helpers, "screen logs", func() { s.model.logs.run(ctx) })
	s.safely(&helpers, "screen signals", func() { s.signals(ctx) })

	done := make(chan error, 1)
	go func() { // ends with the program, or is left behind a write that never returns
		defer func() {
			if v := recover(); v != nil {
				s.caught("screen", v, debug.Stack())
				done <- fmt.Errorf("screen: %v", v)
			}
		}()
		_, err := s.program.Run()
		done <- err
	}()
	if s.await(ctx, done) && !s.out.dead.Load() {
		if s.model.title != "" {
			s.out.Raw(escape.PopTitle)
		}
		s.restore.clean()
		if err := s.model.keep(); err != nil {
			o.Log.Warn("the look at this engine could not be kept", "error", err)
		}
	} else {
		s.restore.now()
	}
	cancel()
	waitFor(&helpers, time.Second)
	if err := s.crash.Load(); err != nil {
		return Crashed, *err
	}
	if r := s.reason.Load(); r != nil {
		return *r, nil
	}
	if s.model.reason != "" {
		return s.model.reason, nil
	}
	return Left, nil
}

// await waits for the program; after it was told to end, for less than a second:
// a terminal that stopped reading can hold a write for ever. It tells whether the
// program ended by itself.
func (s *screen) await(ctx context.Context, done <-chan error) bool {
	finish := func(err error) {
		if err == nil || errors.Is(err, tea.ErrProgramKilled) || s.crash.Load() != nil {
			return
		}
		err = fmt.Errorf("screen: %w", err)
		s.crash.CompareAndSwap(nil, &err)
	}
	select {
	case err := <-done:
		finish(err)
		return err == nil
	case <-ctx.Done():
	}
	late := time.After(700 * time.Millisecond)
	go s.program.Quit() // ends when the program takes the message or has ended
	select {
	case err := <-done:
		finish(err)
		return true
	case <-late:
		s.out.cut()
		s.program.Kill()
		s.o.Log.Warn("the terminal does not take the last picture; the screen was left as it is")
		return false
	}
}

// end ends the screen from outside the program. The first reason stands.
func (s *screen) end(r Reason) {
	s.reason.CompareAndSwap(nil, &r)
	s.endOnce.Do(func() {
		if r == TerminalLost {
			s.out.cut()
		}
		s.cancel()
	})
}

// caught keeps a panic, brings the terminal back and ends the screen.
func (s *screen) caught(where string, v any, stack []byte) {
	path := ""
	if s.o.Crash != nil {
		path = s.o.Crash(where, v, stack)
	}
	s.o.Log.Error("panic", "where", where, "value", fmt.Sprint(v), "stack", string(stack), "file", path)
	err := fmt.Errorf("%s crashed: %v", where, v)
	if path != "" {
		err = fmt.Errorf("%w (the trace is in %s)", err, path)
	}
	s.crash.CompareAndSwap(nil, &err)
	s.end(Crashed)
}

// safely runs fn in a goroutine that Run waits for.
func (s *screen) safely(wg *sync.WaitGroup, where string, fn func()) {
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer func() {
			if v := recover(); v != nil {
				s.caught(where, v, debug.Stack())
			}
		}()
		fn()
	}()
}

func waitFor(wg *sync.WaitGroup, d time.Duration) {
	ch := make(chan struct{})
	go func() { wg.Wait(); close(ch) }()
	select {
	case <-ch:
	case <-time.After(d):
	}
}

// input notices the end of the terminal's input, which bubbletea takes for harmless.
type input struct {
	*os.File
	lost func()
	once sync.Once
}

func (in *input) Read(p []byte) (int, error) {
	n, err := in.File.Read(p)
	if n <= 0 && (errors.Is(err, io.EOF) || err == nil || isGone(err)) {
		in.once.Do(in.lost)
		return 0, io.EOF
	}
	return n, err
}
