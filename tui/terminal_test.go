package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
	"golang.org/x/sys/unix"

	"app.provost/engine"
	"app.provost/engine/scripted"
)

// The tests here run the screen in a process of its own on a pseudo terminal:
// this test binary again, with childEnv set.
const (
	childEnv  = "PROVOST_TEST_SCREEN"
	resultEnv = "PROVOST_TEST_RESULT"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		os.Exit(child(mode))
	}
	os.Exit(m.Run())
}

// broken panics where a mode says.
type broken struct {
	engine.Engine
	mode string
}

func (b broken) Watch(ctx context.Context, o engine.WatchOptions) (engine.Feed, error) {
	f, err := b.Engine.Watch(ctx, o)
	if err != nil || b.mode != "panic-feed" {
		return f, err
	}
	return panicFeed{f, new(int)}, nil
}

func (b broken) Logs(ctx context.Context, q engine.LogQuery) (engine.LogStream, error) {
	if b.mode == "panic-logs" {
		panic("logs broke on purpose")
	}
	return b.Engine.Logs(ctx, q)
}

type panicFeed struct {
	engine.Feed
	n *int
}

func (f panicFeed) Next(ctx context.Context) (engine.Update, error) {
	if *f.n++; *f.n > 2 {
		panic("the feed broke on purpose")
	}
	return f.Feed.Next(ctx)
}

// child is the process under test. What came of Run goes to a file: the terminal may be gone.
func child(mode string) int {
	e := scripted.New(scripted.Options{Workers: 64, Hosts: 2, GPUs: 2})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	say := func(format string, args ...any) {
		f, err := os.OpenFile(os.Getenv(resultEnv), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return
		}
		fmt.Fprintf(f, format+"\n", args...)
		f.Close()
	}
	o := Options{Engine: broken{e, mode}, In: os.Stdin, Out: os.Stdout, Theme: "term", Actor: engine.Actor{Name: "ana"}, Foreground: mode == "foreground",
		Log:  slog.New(slog.DiscardHandler),
		Hold: func(up bool) { say("hold %v", up) },
		Crash: func(where string, v any, stack []byte) string {
			say("crash %s: %v (%d bytes)", where, v, len(stack))
			return "crash.txt"
		}}
	if mode == "panic-logs" {
		o.View = "logs"
	}
	reason, err := Run(ctx, o)
	say("reason %q err %v", reason, err)
	cancel()
	<-ended
	fmt.Println("after the screen")
	say("end")
	return 0
}

// terminal is a person's side of a pseudo terminal.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	pty    *os.File
	result string
	vt     vt10x.Terminal

	mu   sync.Mutex
	raw  bytes.Buffer
	done chan struct{}
	exit chan error
	mute chan struct{} // closed: nobody reads any more
}

func start(t *testing.T, mode string, env ...string) *terminal {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, result: t.TempDir() + "/result", vt: vt10x.New(vt10x.WithSize(80, 24)), done: make(chan struct{}), exit: make(chan error, 1), mute: make(chan struct{})}
	x.cmd = exec.Command(exe)
	x.cmd.Env = append(append(os.Environ(), childEnv+"="+mode, resultEnv+"="+x.result, "TERM=xterm-256color", "LC_ALL=C.UTF-8", "GORACE=atexit_sleep_ms=0"), env...)
	x.pty, err = pty.StartWithSize(x.cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Skipf("no pseudo terminal here: %v", err)
	}
	go func() {
		defer close(x.done)
		buf := make([]byte, 8192)
		for {
			select {
			case <-x.mute:
				return
			default:
			}
			n, err := x.pty.Read(buf)
			if n > 0 {
				x.mu.Lock()
				x.raw.Write(buf[:n])
				_, _ = x.vt.Write(buf[:n])
				x.mu.Unlock()
			}
			if err != nil {
				return
			}
		}
	}()
	go func() { x.exit <- x.cmd.Wait() }()
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill() // ended long before in a test that passed
		_ = x.pty.Close()
	})
	return x
}

func (x *terminal) screen() string { x.mu.Lock(); defer x.mu.Unlock(); return x.vt.String() }
func (x *terminal) bytes() string  { x.mu.Lock(); defer x.mu.Unlock(); return x.raw.String() }

// wait waits until the screen shows a text.
func (x *terminal) wait(text string) {
	x.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(x.screen(), text) {
			return
		}
	}
	x.t.Fatalf("the screen never shows %q:\n%s\nresult: %s", text, x.screen(), x.said())
}

func (x *terminal) press(s string) {
	x.t.Helper()
	if _, err := x.pty.WriteString(s); err != nil {
		x.t.Fatal(err)
	}
}

// gone waits for the end of the process, generously.
func (x *terminal) gone() {
	x.t.Helper()
	select {
	case <-x.exit:
	case <-time.After(20 * time.Second):
		_ = x.cmd.Process.Signal(syscall.SIGQUIT)
		time.Sleep(300 * time.Millisecond)
		x.t.Fatalf("the process did not end; result: %s\n%s", x.said(), x.screen())
	}
}

func (x *terminal) said() string {
	b, err := os.ReadFile(x.result)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		x.t.Error(err)
	}
	return string(b)
}

// whole checks that the terminal is as it was before the screen.
func (x *terminal) whole() {
	x.t.Helper()
	<-x.done
	x.mu.Lock()
	defer x.mu.Unlock()
	mode := x.vt.Mode()
	if mode&vt10x.ModeAltScreen != 0 {
		x.t.Error("the alternate screen was left on")
	}
	if !x.vt.CursorVisible() {
		x.t.Error("the cursor was left hidden")
	}
	out := x.raw.String()
	if strings.LastIndex(out, "\x1b[?2004l") < strings.LastIndex(out, "\x1b[?2004h") {
		x.t.Error("bracketed paste was left on")
	}
	if strings.LastIndex(out, "\x1b[?1004l") < strings.LastIndex(out, "\x1b[?1004h") {
		x.t.Error("focus reports were left on")
	}
	if !strings.Contains(x.vt.String(), "after the screen") {
		x.t.Errorf("what is printed after the screen is not seen:\n%s", x.vt.String())
	}
}

// raw tells whether the terminal is in raw mode now.
func (x *terminal) isRaw() bool {
	st, err := unix.IoctlGetTermios(int(x.pty.Fd()), unix.TCGETS)
	return err == nil && st.Lflag&unix.ICANON == 0
}

func (x *terminal) want(parts ...string) {
	x.t.Helper()
	said := x.said()
	for _, p := range parts {
		if !strings.Contains(said, p) {
			x.t.Errorf("the process did not say %q but:\n%s", p, said)
		}
	}
}

func TestTerminalLeave(t *testing.T) {
	x := start(t, "plain")
	x.wait("PRACTICE")
	if !x.isRaw() {
		t.Error("not in raw mode while the screen is up")
	}
	x.press("2")
	x.wait("[2 Work]")
	x.press("q")
	x.wait("Leave the dashboard")
	x.press("\r")
	x.gone()
	x.want(`reason "left" err <nil>`, "hold true", "hold false", "end")
	x.whole()
}

func TestTerminalSignals(t *testing.T) {
	for _, c := range []struct {
		mode   string
		sig    syscall.Signal
		reason Reason
	}{
		{"plain", syscall.SIGHUP, TerminalLost}, {"plain", syscall.SIGTERM, Left}, {"plain", syscall.SIGINT, Left}, {"plain", syscall.SIGQUIT, Left},
		{"foreground", syscall.SIGHUP, TerminalLost}, {"foreground", syscall.SIGTERM, StopAsked},
	} {
		t.Run(fmt.Sprintf("%s/%s", c.mode, c.sig), func(t *testing.T) {
			t.Parallel()
			x := start(t, c.mode)
			x.wait("PRACTICE")
			if err := x.cmd.Process.Signal(c.sig); err != nil {
				t.Fatal(err)
			}
			x.gone()
			x.want(fmt.Sprintf("reason %q err <nil>", c.reason), "end")
			x.whole()
		})
	}
}

// TestTerminalInterruptForeground: with the engine in this process the first
// SIGINT asks, the second leaves.
func TestTerminalInterruptForeground(t *testing.T) {
	x := start(t, "foreground")
	x.wait("PRACTICE")
	if err := x.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	x.wait("Leave the dashboard")
	if err := x.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	x.gone()
	x.want(`reason "left"`)
	x.whole()
}

// TestTerminalHangUp: the line is cut. The process gets SIGHUP and end of file;
// Run returns and what is after it goes on.
func TestTerminalHangUp(t *testing.T) {
	x := start(t, "plain")
	x.wait("PRACTICE")
	close(x.mute)
	if err := x.pty.Close(); err != nil {
		t.Fatal(err)
	}
	x.gone()
	x.want(`reason "terminal lost" err <nil>`, "end")
}

// TestTerminalStuck: nobody reads the terminal any more, so that a write blocks
// for ever. SIGHUP still ends the screen.
func TestTerminalStuck(t *testing.T) {
	x := start(t, "plain")
	x.wait("PRACTICE")
	close(x.mute)
	// Make it write: each view change is a whole picture. The reader is gone after its last read.
	go func() {
		for range 400 {
			if _, err := x.pty.WriteString("21?\x1b"); err != nil {
				return
			}
		}
	}()
	time.Sleep(500 * time.Millisecond) // long enough for the terminal's buffer to fill; the test holds either way
	if err := x.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !strings.Contains(x.said(), "reason"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("Run did not return; result: %s", x.said())
		}
	}
	x.want(`reason "terminal lost"`)
}

// TestTerminalPanic: a panic in any goroutine of the screen leaves the terminal
// whole, its trace in the file, and the process alive.
func TestTerminalPanic(t *testing.T) {
	for _, mode := range []string{"panic-feed", "panic-logs"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			x := start(t, mode)
			x.gone()
			x.want(`reason "crashed"`, "crash screen ", "on purpose", "crash.txt", "end")
			x.whole()
		})
	}
}

// TestTerminalSilent: a terminal that answers no question gets its first picture
// all the same. The pseudo terminal of this test never answers.
func TestTerminalSilent(t *testing.T) {
	x := start(t, "plain")
	x.wait("PRACTICE")
	if strings.Contains(x.bytes(), "\x1b[?2026h") {
		t.Error("synchronized output without the terminal's word for it")
	}
	if strings.Contains(x.bytes(), "\x1b]11;?") {
		t.Error("the background colour was asked for")
	}
	x.press("\x03\x03")
	x.gone()
	x.want(`reason "left"`)
}

// TestTerminalSync: a terminal that knows mode 2026 gets its frames enclosed.
func TestTerminalSync(t *testing.T) {
	x := start(t, "plain")
	for end := time.Now().Add(10 * time.Second); !strings.Contains(x.bytes(), "\x1b[c"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the terminal was not asked")
		}
	}
	x.press("\x1b[?2026;2$y\x1b[?62;c")
	x.wait("PRACTICE")
	if !strings.Contains(x.bytes(), "\x1b[?2026h") {
		t.Skip("the answer came after the limit of 100 ms on this machine")
	}
	if h, l := strings.Count(x.bytes(), "\x1b[?2026h"), strings.Count(x.bytes(), "\x1b[?2026l"); h-l > 1 || l > h {
		t.Errorf("%d marks open, %d close", h, l)
	}
	x.press("\x03\x03")
	x.gone()
	x.whole()
}

// TestTerminalSuspend: the child leads its session, so nobody could wake it.
func TestTerminalSuspend(t *testing.T) {
	x := start(t, "plain")
	x.wait("PRACTICE")
	x.press("\x1a")
	x.wait("nobody could wake this screen")
	x.press("\x03\x03")
	x.gone()
	x.whole()
}

// TestTerminalResize: the output wrapper keeps resizes.
func TestTerminalResize(t *testing.T) {
	x := start(t, "plain")
	x.wait("PRACTICE")
	x.mu.Lock()
	x.vt.Resize(40, 8)
	x.mu.Unlock()
	if err := pty.Setsize(x.pty, &pty.Winsize{Rows: 8, Cols: 40}); err != nil {
		t.Fatal(err)
	}
	x.wait("40x8: need 60x15")
	x.press("\x03\x03")
	x.gone()
}

func TestRunNeedsTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	_, err = Run(context.Background(), Options{Engine: script(1), In: r, Out: w})
	var p *engine.Problem
	if !errors.As(err, &p) || p.Exit != engine.ExitUsage {
		t.Errorf("got %v, want a usage problem", err)
	}
	if _, err := Run(context.Background(), Options{}); err == nil {
		t.Error("a screen without an engine started")
	}
}

// TestOutputAdapts: two slow frames in ten halve the rate, a quiet minute doubles it again.
func TestOutputAdapts(t *testing.T) {
	o := newOutput(nil, nil)
	at := curtain
	frame := func(took time.Duration) {
		o.account(at, at.Add(took), 100, true)
		at = at.Add(time.Second)
	}
	for range 20 {
		frame(time.Millisecond)
	}
	if o.Factor() != 1 {
		t.Fatalf("factor %d on a quick line", o.Factor())
	}
	frame(150 * time.Millisecond)
	if o.Factor() != 1 {
		t.Error("one slow frame halved the rate")
	}
	frame(150 * time.Millisecond)
	if o.Factor() != 2 {
		t.Errorf("factor %d after two slow frames, want 2", o.Factor())
	}
	for range 59 {
		frame(time.Millisecond)
	}
	if o.Factor() != 2 {
		t.Error("faster again before a minute has passed")
	}
	for range 3 {
		frame(time.Millisecond)
	}
	if o.Factor() != 1 {
		t.Errorf("factor %d after a quiet minute, want 1", o.Factor())
	}
	for range 10 {
		o.account(at, at, 40_000, true)
		at = at.Add(time.Second)
	}
	if o.Factor() < 2 {
		t.Error("40 kB/s did not lower the rate")
	}
}

var _ io.Reader = (*input)(nil)
