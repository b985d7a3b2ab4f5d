// Package launch starts engines: in this process, with a screen in this process,
// or in a session of its own that outlives the terminal; and finds and dials those
// that run.
package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"app.provost/cmd/internal/cli"
	"app.provost/cmd/internal/print"
	"app.provost/engine"
	"app.provost/engine/config"
	"app.provost/engine/rpc"
	"app.provost/engine/wire"
)

// Launcher starts and finds engines of one binary.
type Launcher struct {
	Exe     string
	Version string
	Stderr  io.Writer
	// StderrTTY chooses the form of log lines when the configuration leaves it open.
	StderrTTY bool
	// Screen shows an engine that runs in this process; stop is closed over the engine's own end.
	Screen func(ctx context.Context, e engine.Engine, o cli.ScreenOptions) (stopAsked bool, err error)
}

// Dial connects to an engine for commands: each call is one attempt.
func (l Launcher) Dial(ctx context.Context, socket string) (engine.Engine, func() error, error) {
	c, err := rpc.Dial(ctx, l.dialOptions(socket))
	if err != nil {
		if pid, ok := listener(socket); ok && ctx.Err() == nil && engine.ExitOf(err) == engine.ExitTimeout {
			return nil, nil, engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitTimeout, Doing: "talk to the engine",
				Cause:  fmt.Sprintf("the engine on %s (pid %d) does not answer", socket, pid),
				Remedy: "see whether its process is stopped or the machine overloaded, and look at its log"}.Because(err)
		}
		return nil, nil, err
	}
	return c, c.Close, nil
}

// Redial connects for viewers: the link is taken up again whenever it breaks.
func (l Launcher) Redial(ctx context.Context, socket string) (*rpc.Redialer, error) {
	return rpc.Redial(ctx, rpc.RedialOptions{Dial: l.dialOptions(socket)})
}

func (l Launcher) dialOptions(socket string) rpc.DialOptions {
	return rpc.DialOptions{Socket: socket, Version: l.Version, Via: engine.ViaCLI, Host: FromHost(os.Getenv)}
}

// FromHost is where a person sits who came over SSH, "" for here.
func FromHost(getenv func(string) string) string {
	host, _, _ := strings.Cut(getenv("SSH_CONNECTION"), " ")
	return host
}

// listener tells whether a process listens on a unix socket, and which. It asks
// the kernel only, so that a process that stands still is found too.
func listener(socket string) (pid int, ok bool) {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return 0, false
	}
	defer c.Close()
	return peerPID(c.(*net.UnixConn)), true
}

// Find lists the engines that run in the runtime directory.
func (l Launcher) Find(ctx context.Context, c config.Config) ([]cli.Found, error) {
	sockets, err := filepath.Glob(filepath.Join(c.RuntimeDir, "*.sock"))
	if err != nil {
		return nil, err
	}
	if own := c.SocketPath(); !slices.Contains(sockets, own) {
		sockets = append(sockets, own)
	}
	var out []cli.Found
	for _, s := range sockets {
		if strings.HasSuffix(s, ".workers.sock") {
			continue
		}
		try, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		e, err := rpc.Dial(try, l.dialOptions(s))
		cancel()
		if err != nil {
			// Nobody there is what an engine left behind when it was killed. One that listens
			// and does not answer runs all the same.
			if pid, ok := listener(s); ok {
				out = append(out, cli.Found{Name: strings.TrimSuffix(filepath.Base(s), ".sock"), PID: pid, Socket: s, Silent: true})
			}
			continue
		}
		if info := e.Hello().Engine; info != nil {
			out = append(out, cli.Found{Name: info.Name, PID: info.PID, StateDir: info.StateDir, Socket: s})
		}
		e.Close()
	}
	return out, nil
}

// Up runs an engine as o says.
func (l Launcher) Up(ctx context.Context, o cli.UpOptions) error {
	switch o.Mode {
	case cli.UpBackground:
		return l.background(ctx, o)
	case cli.UpForeground:
		return l.foreground(ctx, o)
	}
	return l.headless(ctx, o)
}

// Format is the form of log lines on standard error.
func (l Launcher) Format(c config.Config) wire.LogFormat {
	if c.LogFormat == "json" || c.LogFormat == "auto" && !l.StderrTTY {
		return wire.FormatJSON
	}
	return wire.FormatText
}

// signals takes the process's signals for as long as an engine runs in it: HUP and
// TSTP are noted and ignored, USR1 opens the log anew, QUIT dumps goroutines and goes on.
func (l Launcher) signals(e *wire.Engine) (stop func()) {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, syscall.SIGHUP, syscall.SIGTSTP, syscall.SIGUSR1, syscall.SIGQUIT)
	signal.Ignore(syscall.SIGPIPE)
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for s := range ch {
			switch s {
			case syscall.SIGUSR1:
				if err := e.ReopenLogs(); err != nil {
					e.Log().Error("log.reopen", "err", err)
				}
			case syscall.SIGQUIT:
				e.Log().Warn("engine.dump", "file", e.Dump())
			default:
				e.Log().Warn("signal.ignored", "signal", s.String())
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(ch)
		<-done
	}
}

// headless runs an engine until somebody asks it to stop, or ctx is done.
func (l Launcher) headless(ctx context.Context, o cli.UpOptions) error {
	c := o.Config.Config
	e, err := wire.Start(ctx, wire.Options{Config: c, Version: l.Version, Log: l.Stderr, Format: l.Format(c)})
	if err != nil {
		return orCause(ctx, err)
	}
	defer l.signals(e)()
	tell := newNotifier(os.Getenv("NOTIFY_SOCKET"))
	tell.send("READY=1")
	status, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with status
		defer close(done)
		l.statusLines(status, e, c.StatusEvery, tell)
	}()
	select {
	case <-ctx.Done():
	case <-e.Ended():
	}
	tell.send("STOPPING=1")
	cancel()
	<-done
	err = errors.Join(e.Err(), e.Stop())
	if err == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// orCause gives the signal that ended ctx, where that is why something failed.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// statusLines logs the status line: at once when the verdict changes, and every
// so often (0: never by the clock).
func (l Launcher) statusLines(ctx context.Context, e *wire.Engine, every time.Duration, tell notifier) {
	feed, err := e.Watch(ctx, engine.WatchOptions{Every: time.Second})
	if err != nil {
		e.Log().Error("status", "err", err)
		return
	}
	defer feed.Close()
	var last time.Time
	var word engine.VerdictWord
	for {
		next, cancel := ctx, context.CancelFunc(func() {})
		if every > 0 {
			next, cancel = context.WithTimeout(ctx, max(time.Until(last.Add(every)), time.Millisecond))
		}
		u, err := feed.Next(next)
		cancel()
		var s *engine.Snapshot
		switch {
		case ctx.Err() != nil || errors.Is(err, io.EOF):
			return
		case err == nil:
			s = u.Snapshot
		case errors.Is(err, context.DeadlineExceeded):
			s = e.Snapshot()
		default:
			e.Log().Error("status", "err", err)
			return
		}
		if s.Verdict == nil {
			continue
		}
		now := time.Now()
		if v := s.Verdict.Value.Word; v != word {
			if word != "" {
				why := ""
				if r := s.Verdict.Value.Reasons; len(r) > 0 {
					why = r[0].Text
				}
				e.Log().Warn("verdict.change", "from", word, "to", v, "why", why)
			}
			word, last = v, time.Time{}
		}
		if every > 0 && now.Sub(last) >= every {
			last = now
			var attrs []any
			var line []string
			for _, f := range print.StatusFacts(s, now) {
				attrs = append(attrs, f.Name, f.Value)
				line = append(line, f.Name+"="+f.Value)
			}
			e.Log().Info("status", attrs...)
			tell.send("STATUS=" + strings.Join(line, " "))
		}
		tell.send("WATCHDOG=1")
	}
}

// foreground runs engine and screen in this process. When the terminal is lost the
// engine goes on without it.
func (l Launcher) foreground(ctx context.Context, o cli.UpOptions) error {
	c := o.Config.Config
	// Nothing may be printed while the screen is up: the engine's lines go to its log file.
	e, err := wire.Start(ctx, wire.Options{Config: c, Version: l.Version, Log: io.Discard, Format: wire.FormatJSON})
	if err != nil {
		return orCause(ctx, err)
	}
	defer l.signals(e)()
	stopAsked, err := l.Screen(ctx, e, o.Screen)
	lost := errors.Is(err, ErrTerminalLost)
	if lost {
		e.Log().Warn("screen.lost", "how", "the terminal is gone; the engine goes on without a screen", "socket", e.Socket())
		err = nil
	}
	if lost && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-e.Ended():
		}
	} else if !stopAsked && err == nil {
		fmt.Fprintf(l.Stderr, "the engine stops with its screen; in a session of its own it would go on: provost up\n")
	}
	err = errors.Join(err, e.Err(), e.Stop())
	if err == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// ErrTerminalLost is how Screen says that the terminal is gone.
var ErrTerminalLost = errors.New("the terminal is gone")

// startPatience is how long a new engine may take to answer.
const startPatience = 30 * time.Second

// background starts the engine in a session of its own, unless it runs, and waits
// until it answers.
func (l Launcher) background(ctx context.Context, o cli.UpOptions) error {
	c := o.Config.Config
	socket := c.SocketPath()
	if e, err := rpc.Dial(ctx, l.dialOptions(socket)); err == nil {
		return e.Close()
	}
	logs := filepath.Join(c.StateDir, "logs")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return engine.Problem{Code: engine.CodeDirUnwritable, Exit: engine.ExitNotAllowed, Doing: "start engine", Remedy: "make it writable, or choose another with --state-dir"}.Because(err)
	}
	out, err := os.CreateTemp(logs, "start-*.log")
	if err != nil {
		return engine.Problem{Code: engine.CodeDirUnwritable, Exit: engine.ExitNotAllowed, Doing: "start engine", Remedy: "make it writable, or choose another with --state-dir"}.Because(err)
	}
	defer os.Remove(out.Name()) // the engine's own log has everything once it is up
	defer out.Close()
	cmd := exec.Command(l.Exe, append([]string{"up", "--no-tui", "--log-format=text", "--status-every=0"}, o.Flags...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start engine: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the engine, at the latest with this process
	wait, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		e, err := rpc.Dial(wait, l.dialOptions(socket))
		if err == nil {
			return e.Close()
		}
		select {
		case <-ended:
			// Another one may have won the race to start.
			if e, err := rpc.Dial(ctx, l.dialOptions(socket)); err == nil {
				return e.Close()
			}
			p := engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: "start engine", Cause: lastLines(out.Name())}
			if code := cmd.ProcessState.ExitCode(); code > 0 {
				p.Exit = engine.ExitCode(code)
			}
			return p.Because(nil)
		case <-wait.Done():
			return engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitTimeout, Doing: "start engine", Cause: fmt.Sprintf("it does not answer on %s after %s: %v", socket, startPatience, err), Remedy: "see " + filepath.Join(logs, "engine.log")}.Because(nil)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lastLines is what an engine said before it ended.
func lastLines(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "it ended at once: " + err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if n := len(lines); n > 3 {
		lines = lines[n-3:]
	}
	text := string(bytes.Join(lines, []byte("; ")))
	if text == "" {
		return "it ended at once without a word"
	}
	return strings.TrimPrefix(text, "provost: ")
}
