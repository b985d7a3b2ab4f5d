// Command provost runs, shows and steers machines that validate and prove.
//
// It fills the command tree with what runs and ends with its exit code. Two kinds
// of processes of the same binary are told apart before anything else: the stub
// that watches a worker process, and the worker itself.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"app.provost/cmd/internal/cli"
	"app.provost/cmd/internal/demo"
	"app.provost/cmd/internal/launch"
	"app.provost/engine"
	"app.provost/engine/config"
	"app.provost/engine/flow"
	"app.provost/engine/rpc"
	"app.provost/engine/wire"
	"app.provost/tui"
)

// Set by the linker for releases.
var (
	version = "dev"
	commit  string
	date    string
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "internal-stub":
			os.Exit(wire.StubMain(os.Args[2:]))
		case "internal-worker":
			os.Exit(wire.WorkerMain(os.Args[2:], version))
		case "internal-keeper":
			os.Exit(demo.KeeperMain(os.Args[2:]))
		}
	}
	os.Exit(int(run()))
}

func run() engine.ExitCode {
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "provost: find my own binary:", err)
		return engine.ExitUnexpected
	}
	ctx, stop := untilSignal()
	defer stop()
	l := launch.Launcher{Exe: exe, Version: version, Stderr: os.Stderr, StderrTTY: term.IsTerminal(2), Screen: foregroundScreen}
	d := cli.Deps{
		Dial: func(ctx context.Context, socket string) (engine.Engine, func() error, error) {
			return l.Dial(ctx, socket)
		},
		OneShot: func() engine.Engine {
			endOnHangUp()
			e, err := wire.NewOneShot(progress())
			if err != nil {
				return failing{err}
			}
			return e
		},
		FindEngines: l.Find,
		SocketOf:    func(c config.Config) string { return c.SocketPath() },
		Up:          l.Up,
		RunScreen: func(ctx context.Context, e engine.Engine, o cli.ScreenOptions) error {
			return attachedScreen(ctx, l, e, o)
		},
		Guide: guide,
		KeyTable: func(own map[string][]string) ([]cli.KeyRow, error) {
			rows, err := tui.KeyTable(own)
			var out []cli.KeyRow
			for _, r := range rows {
				out = append(out, cli.KeyRow(r))
			}
			return out, err
		},
		Plain: func() { plainLines.Store(true) },
		Demo:  func(ctx context.Context, o cli.DemoOptions) error { return runDemo(ctx, l, o) },
		Simnet: func(ctx context.Context, o cli.SimnetOptions) error {
			return wire.RunSimnet(ctx, wire.SimnetOptions{Locks: o.Locks, Listen: o.Listen, SlotDuration: o.SlotDuration, SlotsPerEpoch: o.SlotsPerEpoch,
				Fork: o.Fork, Builder: o.Builder, GenesisIn: o.GenesisIn, Log: os.Stderr, Format: l.Format(config.Default())})
		},
		Version: cli.Version{Version: version, Commit: commit, Date: date, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH},
		Actor:   actor,
		Stdin:   os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		StdinTTY: term.IsTerminal(0), StdoutTTY: term.IsTerminal(1), StderrTTY: term.IsTerminal(2),
		Env: os.Environ(),
	}
	if d.Version.Commit == "none" { // built outside of version control
		d.Version.Commit, d.Version.Date = "", ""
	}
	if bi, ok := debug.ReadBuildInfo(); ok && d.Version.Commit == "" {
		for _, s := range bi.Settings {
			switch s.Key {
			case "vcs.revision":
				d.Version.Commit = s.Value
			case "vcs.time":
				d.Version.Date = s.Value
			}
		}
	}
	return cli.Run(ctx, d, os.Args[1:])
}

// onScreen are signals that the screen answers while it is up: INT and, where the
// engine is elsewhere, TERM only leave it.
var onScreen struct{ interrupt, terminate atomic.Bool }

// endings are the signals that end this process.
var endings = make(chan os.Signal, 2)

// endOnHangUp makes a terminal that is closed end the command as TERM does, for commands
// that have something to clean up: half a cluster, secrets that were typed. Engines ignore it.
func endOnHangUp() {
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signal.Notify(endings, syscall.SIGHUP)
	}
}

// untilSignal ends the context on the first INT or TERM, with its cause; the second
// ends the process at once.
func untilSignal() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := endings
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() { // ends with the process
		for n := 0; ; n++ {
			s := <-ch
			// Of a terminal that is closed both the kernel and a shell may tell.
			if s == syscall.SIGINT && onScreen.interrupt.Load() || s == syscall.SIGTERM && onScreen.terminate.Load() || s == syscall.SIGHUP && n > 0 {
				n--
				continue
			}
			cause, code := cli.ErrInterrupted, engine.ExitInterrupt
			if s != syscall.SIGINT {
				cause, code = cli.ErrTerminated, engine.ExitTerminated
			}
			if n > 0 {
				os.Exit(int(code))
			}
			cancel(cause)
		}
	}()
	return ctx, func() { signal.Stop(ch); cancel(nil) }
}

func actor() engine.Actor {
	uid := os.Getuid()
	a := engine.Actor{UID: &uid, Name: strconv.Itoa(uid), Via: engine.ViaCLI, Host: launch.FromHost(os.Getenv)}
	if u, err := user.Current(); err == nil {
		a.Name = u.Username
	}
	return a
}

// plainLines is set when nothing may move the cursor.
var plainLines atomic.Bool

// sayEvery is how often a line of its own tells how a long act stands.
const sayEvery = 5 * time.Second

// progress shows on a terminal how a long act stands: in one line that goes again, or
// in a line of its own now and then. It is called by one goroutine.
func progress() func(string) {
	if !term.IsTerminal(2) {
		return nil
	}
	var said time.Time
	return func(text string) {
		if !plainLines.Load() {
			fmt.Fprintf(os.Stderr, "\r%s\x1b[K\r", text)
		} else if now := time.Now(); now.Sub(said) >= sayEvery {
			said = now
			fmt.Fprintln(os.Stderr, text)
		}
	}
}

// screenOptions are the same for all screens.
func screenOptions(e engine.Engine, o cli.ScreenOptions) tui.Options {
	t := tui.Options{Engine: e, In: os.Stdin, Out: os.Stdout, Theme: o.Theme, ASCII: o.ASCII, ReadOnly: o.ReadOnly, Ends: o.Ends, Keys: o.Keys, Actor: actor(),
		Log: slog.New(slog.DiscardHandler), Crash: keepCrash}
	if o.Theme == "term" && o.Color == "never" {
		t.Theme = "mono"
	}
	t.Hold = holdStderr()
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
		t.ExportDir = home
		state := os.Getenv("XDG_STATE_HOME")
		if !filepath.IsAbs(state) {
			state = filepath.Join(home, ".local", "state")
		}
		t.KeepDir = filepath.Join(state, "provost", ".screens")
	}
	return t
}

// holdStderr points file descriptor 2 away while the screen is up: C libraries and
// the runtime write there, in the middle of a frame.
func holdStderr() func(up bool) {
	saved := -1
	return func(up bool) {
		if up && saved < 0 {
			null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				return
			}
			defer null.Close()
			if saved, err = unix.Dup(2); err != nil {
				saved = -1
				return
			}
			unix.CloseOnExec(saved)
			unix.Dup2(int(null.Fd()), 2)
		} else if !up && saved >= 0 {
			unix.Dup2(saved, 2)
			unix.Close(saved)
			saved = -1
		}
	}
}

// keepCrash writes the trace of a screen that panicked into the temporary directory.
func keepCrash(where string, value any, stack []byte) string {
	f, err := os.CreateTemp("", "provost-crash-*.txt")
	if err != nil {
		return ""
	}
	defer f.Close()
	fmt.Fprintf(f, "%s panicked: %v\nversion %s, %s\n\n%s", where, value, version, time.Now().UTC().Format(time.RFC3339), stack)
	return filepath.Clean(f.Name())
}

// attachedScreen shows an engine over its socket. e, which is one attempt, gives way
// to a connection that is taken up again when it breaks.
func attachedScreen(ctx context.Context, l launch.Launcher, e engine.Engine, o cli.ScreenOptions) error {
	t := screenOptions(e, o)
	if c, ok := e.(*rpc.Client); ok && c.Hello().Engine != nil {
		info := c.Hello().Engine
		r, err := l.Redial(ctx, c.Socket())
		if err != nil {
			return err
		}
		defer r.Close()
		t.Engine = r
		t.Link = func() tui.LinkState {
			k := r.Link()
			return tui.LinkState{Connected: k.Connected, Since: k.Since, Tries: k.Tries, Next: k.Next, Problem: k.Why}
		}
		t.EngineLine = func() string { return fmt.Sprintf("pid %d, own session", info.PID) }
	}
	onScreen.interrupt.Store(true)
	onScreen.terminate.Store(true)
	reason, err := tui.Run(ctx, t)
	onScreen.interrupt.Store(false)
	onScreen.terminate.Store(false)
	if err != nil {
		return err
	}
	switch reason {
	case tui.EngineStopped:
		fmt.Fprintln(os.Stderr, "the engine has stopped")
		return cli.Exit{Code: engine.ExitOK}
	case tui.TerminalLost:
		return cli.Exit{Code: engine.ExitOK}
	}
	return nil
}

// guide leads through a flow on a screen of its own.
func guide(ctx context.Context, s flow.Session, o cli.ScreenOptions) (flow.Outcome, error) {
	endOnHangUp()
	onScreen.interrupt.Store(true)
	onScreen.terminate.Store(true)
	out, ok, err := tui.Guide(ctx, screenOptions(nil, o), s)
	onScreen.interrupt.Store(false)
	onScreen.terminate.Store(false)
	if err == nil && !ok {
		err = engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitDeclined, Doing: string(s.Flow.ID), Cause: "not confirmed: left before the end", Remedy: "nothing was made"}.Because(nil)
	}
	return out, err
}

// foregroundScreen shows an engine of this process.
func foregroundScreen(ctx context.Context, e engine.Engine, o cli.ScreenOptions) (stopAsked bool, err error) {
	t := screenOptions(e, o)
	t.Foreground = true
	t.EngineLine = func() string { return fmt.Sprintf("pid %d, this process", os.Getpid()) }
	onScreen.interrupt.Store(true)
	reason, err := tui.Run(ctx, t)
	onScreen.interrupt.Store(false)
	if reason == tui.TerminalLost {
		return false, launch.ErrTerminalLost
	}
	return reason == tui.StopAsked || reason == tui.EngineStopped, err
}

func runDemo(ctx context.Context, l launch.Launcher, o cli.DemoOptions) error {
	if o.Scripted {
		return scriptedDemo(ctx, o)
	}
	opts := demo.Options{Exe: l.Exe, Workers: o.Workers, For: o.For, JSON: o.JSON, Dial: l.Dial, Out: os.Stdout, Err: os.Stderr}
	if o.Quiet {
		opts.Err = io.Discard
	}
	// The demo outlives breaks of its engine.
	opts.Dial = func(ctx context.Context, socket string) (engine.Engine, func() error, error) {
		r, err := l.Redial(ctx, socket)
		if err != nil {
			return nil, nil, err
		}
		return r, r.Close, nil
	}
	opts.CreateCluster = createCluster
	opts.Chain = func(ctx context.Context, address string) (demo.Chain, error) {
		s, err := wire.SimnetStatus(ctx, address)
		if err != nil {
			return demo.Chain{}, err
		}
		count := func(included, missed uint64) demo.DutyCount {
			return demo.DutyCount{Expected: int(included + missed), Included: int(included), Missed: int(missed)}
		}
		return demo.Chain{Slots: int(s.Slots), Slashable: int(s.SlashableTotal), Attester: count(s.Duties.Attester.Included, s.Duties.Attester.Missed),
			Proposer: count(s.Duties.Proposer.Included, s.Duties.Proposer.Missed)}, nil
	}
	if !o.Headless {
		opts.Screen = func(ctx context.Context, socket string) error {
			e, hangUp, err := l.Dial(ctx, socket)
			if err != nil {
				return err
			}
			defer hangUp()
			o.Screen.Ends = true
			return attachedScreen(ctx, l, e, o.Screen)
		}
	}
	code, err := demo.Run(ctx, opts)
	if err != nil {
		return err
	}
	if code != engine.ExitOK {
		return cli.Exit{Code: code}
	}
	return nil
}

// createCluster makes a cluster without an engine.
func createCluster(ctx context.Context, a engine.CreateCluster) error {
	e, err := wire.NewOneShot(nil)
	if err != nil {
		return err
	}
	defer e.Close()
	r := engine.Request{Key: engine.NewKey(), Action: a, Actor: actor()}
	p, err := e.Preview(ctx, r)
	if err != nil {
		return err
	}
	_, err = e.Do(ctx, r, p.Digest)
	return err
}

// failing answers everything with the reason why there is no engine.
type failing struct{ err error }

func (f failing) Watch(context.Context, engine.WatchOptions) (engine.Feed, error) { return nil, f.err }
func (f failing) Preview(context.Context, engine.Request) (engine.Plan, error) {
	return engine.Plan{}, f.err
}
func (f failing) Do(context.Context, engine.Request, engine.Digest) (engine.Receipt, error) {
	return engine.Receipt{}, f.err
}
func (f failing) Logs(context.Context, engine.LogQuery) (engine.LogStream, error) { return nil, f.err }
