// Package cli is the command tree: words and flags in, engine verbs out.
//
// It holds no machinery. All that a command can reach comes in through Deps, so
// the whole tree runs in a test against an engine in memory. Data goes to
// standard output and talk to standard error; a question is asked only when
// standard input and standard error are terminals, and never waits for input that
// cannot come. Help, the generated pages under docs/, the manual and shell
// completion come from the same commands and tables. No command prints a secret:
// none ever receives one.
package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app.provost/cmd/internal/print"
	"app.provost/engine"
	"app.provost/engine/config"
	"app.provost/engine/flow"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Deps is everything that commands need from the rest of the program. Functions
// that are nil make their commands answer "not part of this program".
type Deps struct {
	// Dial connects to the engine on a socket; the second result hangs up. When nobody
	// answers the error is an *engine.Problem with CodeNoEngine.
	Dial func(ctx context.Context, socket string) (engine.Engine, func() error, error)
	// OneShot is an engine for acts that need none running: CreateCluster, VerifyCluster.
	OneShot func() engine.Engine
	// FindEngines lists the engines that run for this user. It answers within a second.
	FindEngines func(ctx context.Context, c config.Config) ([]Found, error)
	// SocketOf is the socket that the engine of a configuration listens on.
	SocketOf func(c config.Config) string
	// Up runs an engine. With UpBackground it returns as soon as the engine answers
	// on its socket (also when it ran already); with the others when it has stopped.
	Up func(ctx context.Context, o UpOptions) error
	// Demo runs the practice installation until it ends.
	Demo func(ctx context.Context, o DemoOptions) error
	// Simnet serves a practice chain until ctx ends.
	Simnet func(ctx context.Context, o SimnetOptions) error
	// RunScreen shows the dashboard until its user leaves or the terminal is gone.
	RunScreen func(ctx context.Context, e engine.Engine, o ScreenOptions) error
	// KeyTable lists the dashboard's bindings with own keys; an error says what is wrong with these.
	KeyTable func(own map[string][]string) ([]KeyRow, error)
	// Guide leads a person through a flow on the screen and returns what was agreed to; it
	// carries nothing out. Leaving is an *engine.Problem with ExitDeclined. Nil: flows are
	// asked for line by line, as they are in accessible mode and on plain terminals.
	Guide func(ctx context.Context, s flow.Session, o ScreenOptions) (flow.Outcome, error)
	// Plain is called when nothing may move the cursor: for screen readers and terminals that can't.
	Plain func()
	// Internal are hidden commands by name ("internal-stub"): the words after the name are theirs alone.
	Internal map[string]func(ctx context.Context, args []string) error

	Version Version
	// Actor is who runs this command.
	Actor func() engine.Actor
	Stdin io.Reader
	// Stdout is for data, Stderr for talk and questions.
	Stdout, Stderr io.Writer
	// StdinTTY, StdoutTTY and StderrTTY tell whether these are terminals.
	StdinTTY, StdoutTTY, StderrTTY bool
	Env                            []string // as os.Environ
	Now                            func() time.Time
}

// Found is one engine that runs.
type Found struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	StateDir string `json:"state_dir"`
	Socket   string `json:"socket"`
	// Silent is set when it runs and does not answer: its state directory is not known then.
	Silent bool `json:"silent,omitempty"`
}

// Version says what this binary is. Empty parts are not known.
type Version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Date     string `json:"date"` // RFC 3339
	Go       string `json:"go"`
	Platform string `json:"platform"` // "linux/amd64"
}

// UpMode says where an engine runs.
type UpMode string

const (
	UpHeadless   UpMode = "headless"   // in this process, no screen
	UpForeground UpMode = "foreground" // in this process, with its screen
	UpBackground UpMode = "background" // in a session of its own
)

// UpOptions of an engine.
type UpOptions struct {
	Mode   UpMode
	Config config.Loaded
	Flags  []string // the flags that were given, to hand on to a process of the same binary
	Screen ScreenOptions
}

// DemoOptions of the practice installation.
type DemoOptions struct {
	For      time.Duration // 0: until stopped
	JSON     bool          // print the report as JSON
	Headless bool
	Scripted bool // an engine that follows a script, 2,048 workers, nothing real
	Workers  int  // 0: the default
	// Still shows the script at this moment, standing still; nil: it is played.
	Still  *time.Duration
	Screen ScreenOptions
	Quiet  bool
}

// ScreenOptions of the dashboard.
type ScreenOptions struct {
	ReadOnly bool
	ASCII    bool
	Color    string // auto, always, never
	Theme    string
	Ends     bool // the engine ends with this screen and nothing of it is kept
	// Keys are own keys by the name of their binding.
	Keys map[string][]string
}

// KeyRow is one key binding of the dashboard.
type KeyRow struct {
	View    string   `json:"view"` // "" for everywhere
	Name    string   `json:"name"`
	Keys    []string `json:"keys"`
	Does    string   `json:"does"`
	Changed bool     `json:"changed"`
}

// Exit ends a command with a code and says nothing: what there was to say is printed.
type Exit struct{ Code engine.ExitCode }

// Error names the code.
func (e Exit) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// ErrInterrupted and ErrTerminated are the causes (context.WithCancelCause) with
// which the caller of Run ends its context on SIGINT and SIGTERM.
var (
	ErrInterrupted = errors.New("interrupted")
	ErrTerminated  = errors.New("terminated")
)

// Run carries out one command line (without the program's name) and gives its
// exit code. Errors have been printed.
func Run(ctx context.Context, d Deps, args []string) engine.ExitCode {
	a := newApp(d)
	defer close(a.over)
	root := a.tree()
	root.SetArgs(append([]string{}, args...)) // nil would mean the process's own
	root.SetIn(d.Stdin)
	root.SetOut(d.Stdout)
	root.SetErr(d.Stderr)
	err := root.ExecuteContext(ctx)
	if err != nil && a.g.output == "" {
		a.g.output = outputOf(args)
	}
	return a.finish(ctx, err)
}

// outputOf is what --output says on a command line of which not all flags were read, since
// one before it is wrong: the refusal too is told in the form that was asked for.
func outputOf(args []string) string {
	for i, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		switch {
		case arg == "--":
			return ""
		case len(arg) > 2 && strings.HasPrefix(arg, "-o") && arg[2] != '=':
			return arg[2:]
		case name != "-o" && name != "--output":
		case given:
			return value
		case i+1 < len(args):
			return args[i+1]
		}
	}
	return ""
}

// Parse reads the command line of an act (as Action.CommandLine gives it) and
// carries out nothing. Relative paths are taken from the working directory.
func Parse(args []string) (engine.Action, error) {
	var got engine.Action
	a := newApp(Deps{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard, Now: time.Now})
	defer close(a.over)
	a.capture = func(act engine.Action) { got = act }
	root := a.tree()
	root.SetArgs(append([]string{}, args...))
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	if err := root.ExecuteContext(context.Background()); err != nil {
		return nil, usage("read command", err.Error(), "")
	}
	if got == nil {
		return nil, usage("read command", fmt.Sprintf("%q is no act", engine.ShellLine(args)), "acts are listed by provost plan --help")
	}
	return got, nil
}

// app is one run of the program.
type app struct {
	Deps
	g       globals
	capture func(engine.Action) // set: acts are parsed, not done
	lines   *lineReader
	over    chan struct{} // closed when the command has ended
}

func newApp(d Deps) *app {
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Stdin == nil {
		d.Stdin = strings.NewReader("")
	}
	return &app{Deps: d, over: make(chan struct{})}
}

// globals are the flags of every command.
type globals struct {
	stateDir, socket, configFile string
	noTUI, readOnly, ascii       bool
	color, theme                 string
	noInput, accessible          bool
	confirm                      string
	timeout                      time.Duration
	logLevel, logFormat          string
	output                       string
	quiet, verbose               bool
}

// Themes lists what --theme takes.
var Themes = []string{"term", "dark", "light", "contrast", "deuteran", "tritan", "mono"}

func (g *globals) add(f *pflag.FlagSet) {
	f.StringVar(&g.stateDir, "state-dir", "", "state directory of the engine; it names the engine (default: the one that runs)")
	f.StringVar(&g.socket, "socket", "", "socket of the engine")
	f.StringVar(&g.configFile, "config", "", "configuration file, instead of the user's")
	f.BoolVar(&g.noTUI, "no-tui", false, "no dashboard, also on a terminal")
	f.BoolVar(&g.readOnly, "read-only", false, "the dashboard may only look; commands refuse to act")
	f.BoolVar(&g.ascii, "ascii", false, "nothing beyond ASCII in what is shown")
	f.StringVar(&g.color, "color", "auto", "colours: auto, always or never")
	f.StringVar(&g.theme, "theme", "term", "theme of the dashboard: "+strings.Join(Themes, ", "))
	f.BoolVar(&g.noInput, "no-input", false, "ask nothing, also on a terminal")
	f.BoolVar(&g.accessible, "accessible", false, "guided flows ask line by line, without drawing: for screen readers and plain terminals")
	f.StringVar(&g.confirm, "confirm", "", "digest of the plan that is agreed to, in full or its first 6 characters and more")
	f.DurationVar(&g.timeout, "timeout", 0, "give up waiting after this time, as in 30s; acts go on (default: none)")
	f.StringVar(&g.logLevel, "log-level", "", "debug, info, warn or error")
	f.StringVar(&g.logFormat, "log-format", "", "auto, text or json")
	f.StringVarP(&g.output, "output", "o", "", "form of the answer; get: table, wide, json, jsonl, csv, name; others: text, json")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "no talk, only answers and errors")
	f.BoolVarP(&g.verbose, "verbose", "v", false, "say more")
}

// envFlags are global flags that a PROVOST_* variable can set too. Consent
// (--confirm) is not among them: it belongs to one act.
var envFlags = []string{"socket", "config", "no-tui", "read-only", "ascii", "color", "theme", "no-input", "accessible", "timeout"}

func envName(flag string) string {
	return "PROVOST_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (a *app) env(name string) (string, bool) {
	// The last one wins, as the C library has it.
	for _, kv := range slices.Backward(a.Env) {
		if n, v, ok := strings.Cut(kv, "="); ok && n == name {
			return v, v != ""
		}
	}
	return "", false
}

// prepare runs before every command: variables, and values that no flag type checks.
func (a *app) prepare(cmd *cobra.Command) error {
	flags := cmd.Root().PersistentFlags()
	for _, name := range envFlags {
		f := flags.Lookup(name)
		v, ok := a.env(envName(name))
		if !ok || f.Changed {
			continue
		}
		if err := flags.Set(name, v); err != nil {
			return usage("read environment", fmt.Sprintf("%s=%q: %v", envName(name), v, err), "correct the variable or unset it")
		}
	}
	if term, _ := a.env("TERM"); a.g.accessible || term == "dumb" {
		a.plainTalk()
	}
	if _, ok := a.env("NO_COLOR"); ok && a.g.color == "auto" {
		a.g.color = "never"
	}
	for _, c := range []struct {
		flag, value string
		want        []string
	}{{"color", a.g.color, []string{"auto", "always", "never"}}, {"theme", a.g.theme, Themes}} {
		if !slices.Contains(c.want, c.value) {
			return usageField(c.flag, fmt.Sprintf("--%s=%q", c.flag, c.value), "want one of "+strings.Join(c.want, ", "))
		}
	}
	if a.g.timeout < 0 {
		return usageField("timeout", fmt.Sprintf("--timeout=%s", a.g.timeout), "want a positive time, as in 30s")
	}
	return nil
}

// plainTalk lets nothing move the cursor from here on.
func (a *app) plainTalk() {
	if a.Plain != nil {
		a.Plain()
	}
}

// style is what standard output can do.
func (a *app) style() print.Style { return a.styleFor(a.StdoutTTY) }

func (a *app) errStyle() print.Style { return a.styleFor(a.StderrTTY) }

func (a *app) styleFor(tty bool) print.Style {
	term, _ := a.env("TERM")
	return print.Style{ASCII: a.g.ascii, Color: a.g.color == "always" || a.g.color == "auto" && tty && term != "dumb" && term != "" && !a.g.accessible}
}

// asks tells whether somebody is there to answer.
func (a *app) asks() bool {
	return a.StdinTTY && a.StderrTTY && !a.g.noInput && a.capture == nil
}

// say writes talk.
func (a *app) say(format string, args ...any) {
	if !a.g.quiet {
		fmt.Fprintf(a.Stderr, format+"\n", args...)
	}
}

// format reads -o. The first of the allowed ones is the default; text and table are the same word.
func (a *app) format(allowed ...print.Format) (print.Format, error) {
	got := print.Format(a.g.output)
	if got == "text" {
		got = print.Text
	}
	if got == "" {
		return allowed[0], nil
	}
	if slices.Contains(allowed, got) {
		return got, nil
	}
	var words []string
	for _, f := range allowed {
		if f == print.Text && len(allowed) < len(print.Formats) {
			f = "text"
		}
		words = append(words, string(f))
	}
	return "", usageField("output", fmt.Sprintf("-o %s", a.g.output), "this command has "+strings.Join(words, ", "))
}

// asJSON is format for commands that have text and JSON, and a --json flag.
func (a *app) asJSON(flag bool) (bool, error) {
	f, err := a.format(print.Text, print.AJSON)
	return flag || f == print.AJSON, err
}

// finish turns the end of a command into an exit code and prints what went wrong.
func (a *app) finish(ctx context.Context, err error) engine.ExitCode {
	if err == nil {
		return engine.ExitOK
	}
	var exit Exit
	if errors.As(err, &exit) {
		return exit.Code
	}
	var p *engine.Problem
	errors.As(err, &p)
	// Ctrl+c in a question declines; what an end in the middle left somewhere has to be said.
	if p == nil || p.Exit != engine.ExitDeclined && p.Exit != engine.ExitPartly {
		code, how := engine.ExitOK, ""
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, ErrInterrupted):
			code, how = engine.ExitInterrupt, "interrupted"
		case errors.Is(cause, ErrTerminated):
			code, how = engine.ExitTerminated, "ended"
		}
		if code != engine.ExitOK {
			// Who ended a creation wants to know whether something is left of it.
			if p != nil && p.Exit == engine.ExitInterrupt && p.Remedy != "" && !a.g.quiet {
				fmt.Fprintf(a.Stderr, "provost: %s: %s; %s\n", print.Clean(p.Doing), how, print.Clean(p.Remedy))
			}
			return code
		}
	}
	if p == nil && errors.Is(err, context.DeadlineExceeded) {
		err = engine.Problem{Exit: engine.ExitTimeout, Cause: "timed out", Remedy: "give more time with --timeout"}.Because(err)
	}
	if a.g.output == string(print.AJSON) || a.g.output == string(print.JSONL) {
		print.JSONLine(a.Stderr, print.ProblemObject(err)) // the plan of now is in it
		return engine.ExitOf(err)
	}
	print.Problem(a.Stderr, err, a.errStyle())
	if errors.As(err, &p) && p.Plan != nil {
		fmt.Fprintln(a.Stderr, "as it is now:")
		print.Plan(a.Stderr, *p.Plan, a.errStyle())
	}
	return engine.ExitOf(err)
}

func usage(doing, cause, remedy string) *engine.Problem {
	return &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Cause: cause, Remedy: remedy}
}

func usageField(field, cause, remedy string) *engine.Problem {
	p := usage("", cause, remedy)
	p.Field = field
	return p
}

// loadConfig decides the configuration from flags, variables and files.
func (a *app) loadConfig(cmd *cobra.Command) (config.Loaded, error) {
	src := config.Sources{Flags: map[string]string{}, Env: a.Env, Files: a.configFiles()}
	for _, k := range config.Keys() {
		if f := configFlag(cmd, k); f != nil && f.Changed {
			src.Flags[k.Flag] = f.Value.String()
		}
	}
	return config.Load(src)
}

// ofConfig marks flags that set a key of the configuration. Other commands have
// flags of the same names with meanings of their own: down --workers, submit job --name.
const ofConfig = "provost.config"

// configFlag is the flag of a setting on this command, nil when it has none.
func configFlag(cmd *cobra.Command, k config.Key) *pflag.Flag {
	if k.Flag == "" {
		return nil
	}
	f := cmd.Flags().Lookup(k.Flag)
	if f == nil || f.Annotations[ofConfig] == nil && cmd.Root().PersistentFlags().Lookup(k.Flag) != f {
		return nil
	}
	return f
}

func (a *app) configFiles() []config.File {
	files := config.DefaultFiles()
	if a.g.configFile != "" {
		files = slices.DeleteFunc(files, func(f config.File) bool { return f.Origin == config.FromUser })
		files = append(files, config.File{Path: a.g.configFile, Origin: config.FromUser, Must: true})
	}
	return files
}

// findSocket decides which engine a command talks to: --socket, else the state
// directory that flags, variables or files name, else the only one that runs.
func (a *app) findSocket(cmd *cobra.Command, name string) (string, error) {
	if a.g.socket != "" {
		return a.g.socket, nil
	}
	if a.Dial == nil || a.FindEngines == nil || a.SocketOf == nil {
		return "", notHere()
	}
	c, err := a.loadConfig(cmd)
	if err != nil {
		return "", err
	}
	if name == "" && slices.ContainsFunc(c.Settings, func(s config.Setting) bool {
		return s.Origin != config.FromDefault && (s.Key == "state-dir" || s.Key == "runtime-dir")
	}) {
		return a.socketIn(cmd.Context(), c.Config), nil
	}
	all, err := a.FindEngines(cmd.Context(), c.Config)
	if err != nil {
		return "", err
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Name)
	}
	if name != "" {
		all = slices.DeleteFunc(all, func(f Found) bool { return f.Name != name })
	}
	switch {
	case len(all) == 1:
		return all[0].Socket, nil
	case len(all) == 0 && name != "" && len(names) > 0:
		p := usage("find engine", fmt.Sprintf("no engine %q runs here", name), "running: "+strings.Join(names, ", "))
		return "", p
	case len(all) == 0:
		return "", &engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: "find engine", Cause: "no engine runs here", Remedy: "start one with: provost up"}
	}
	var which []string
	for _, f := range all {
		if f.Silent {
			which = append(which, fmt.Sprintf("--socket %s (%s, pid %d, does not answer)", engine.ShellLine([]string{f.Socket}), f.Name, f.PID))
			continue
		}
		which = append(which, fmt.Sprintf("--state-dir %s (%s, pid %d)", engine.ShellLine([]string{f.StateDir}), f.Name, f.PID))
	}
	return "", usage("find engine", fmt.Sprintf("%d engines run here", len(all)), "choose one: "+strings.Join(which, ", "))
}

// socketIn is the socket of the engine on a state directory. It may have another name
// than this configuration, so one that runs is asked first.
func (a *app) socketIn(ctx context.Context, c config.Config) string {
	all, err := a.FindEngines(ctx, c)
	if err == nil {
		for _, f := range all {
			if f.StateDir == c.StateDir {
				return f.Socket
			}
		}
	}
	return a.SocketOf(c)
}

// answerLimit is how long an engine may take for a plain answer.
const answerLimit = 10 * time.Second

// connect reaches the engine. The caller calls the second result when it is done.
func (a *app) connect(cmd *cobra.Command, name string) (engine.Engine, func(), error) {
	socket, err := a.findSocket(cmd, name)
	if err != nil {
		return nil, nil, err
	}
	return a.dial(cmd.Context(), socket)
}

func (a *app) dial(ctx context.Context, socket string) (engine.Engine, func(), error) {
	if a.Dial == nil {
		return nil, nil, notHere()
	}
	e, hangUp, err := a.Dial(ctx, socket)
	if err != nil {
		return nil, nil, err
	}
	return e, func() {
		if hangUp != nil {
			hangUp()
		}
	}, nil
}

func notHere() error {
	return &engine.Problem{Code: engine.CodeNotConfigured, Exit: engine.ExitUnexpected, Cause: "this command is not part of this program"}
}

// snapshot asks for the newest snapshot.
func (a *app) snapshot(ctx context.Context, e engine.Engine) (*engine.Snapshot, error) {
	ctx, stop := context.WithTimeoutCause(ctx, answerLimit, &engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitTimeout, Doing: "read engine",
		Cause: fmt.Sprintf("no answer within %s", answerLimit), Remedy: "see its log: provost logs engine, or the file in its state directory"})
	defer stop()
	feed, err := e.Watch(ctx, engine.WatchOptions{})
	if err != nil {
		return nil, orCause(ctx, err)
	}
	defer feed.Close()
	u, err := feed.Next(ctx)
	if err != nil {
		return nil, orCause(ctx, err)
	}
	if u.Snapshot == nil {
		return nil, &engine.Problem{Code: engine.CodeProtocol, Exit: engine.ExitUnexpected, Doing: "read engine", Cause: "the engine sent no snapshot", Remedy: "see provost version on both sides"}
	}
	return u.Snapshot, nil
}

// orCause prefers the reason that a context ended with.
func orCause(ctx context.Context, err error) error {
	var p, how *engine.Problem
	if errors.As(err, &how) && how.Exit == engine.ExitPartly {
		return err
	}
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &p) {
		return p
	}
	return err
}

// limited applies --timeout to a command that waits. Remedy says what goes on without it.
func (a *app) limited(ctx context.Context, remedy string) (context.Context, context.CancelFunc) {
	if a.g.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, a.g.timeout, &engine.Problem{Exit: engine.ExitTimeout,
		Cause: fmt.Sprintf("timed out after %s", a.g.timeout), Remedy: remedy})
}

// lineReader reads standard input in a goroutine of its own, because a read on a
// terminal cannot be called off. It reads only when a line is asked for: what is
// typed after the last answer belongs to whoever comes next, as the dashboard. The
// goroutine ends with the input, with the command as soon as its read returns, or
// with the process.
type lineReader struct {
	want    chan struct{}
	lines   chan lineOrErr
	pending bool // a line was asked for and not received
}

type lineOrErr struct {
	line string
	err  error
}

// maxAnswer bounds one typed line.
const maxAnswer = 4096

func newLineReader(r io.Reader, over <-chan struct{}) *lineReader {
	l := &lineReader{want: make(chan struct{}), lines: make(chan lineOrErr)}
	send := func(x lineOrErr) bool {
		select {
		case l.lines <- x:
			return true
		case <-over:
			return false
		}
	}
	go func() {
		defer close(l.lines)
		b := bufio.NewReaderSize(r, maxAnswer)
		for {
			select {
			case <-l.want:
			case <-over:
				return
			}
			raw, err := b.ReadSlice('\n')
			if errors.Is(err, bufio.ErrBufferFull) {
				send(lineOrErr{err: fmt.Errorf("the answer is longer than %d bytes", maxAnswer)})
				return
			}
			if err != nil {
				// A last line without its end is no answer: nobody pressed enter.
				return
			}
			line := strings.TrimRight(string(raw), "\r\n")
			clear(raw) // it may have been a secret
			if !send(lineOrErr{line: line}) {
				return
			}
		}
	}()
	return l
}

// askHidden is ask for a secret: what is typed is not shown. Where it cannot be hidden
// nothing is asked.
func (a *app) askHidden(ctx context.Context, question string) (engine.Secret, error) {
	f, ok := a.Stdin.(*os.File)
	if !ok {
		return engine.Secret{}, errNotHidden
	}
	show, err := hideEcho(int(f.Fd()))
	if err != nil {
		return engine.Secret{}, errNotHidden
	}
	defer show()
	line, err := a.ask(ctx, question)
	if err != nil {
		return engine.Secret{}, err
	}
	fmt.Fprintln(a.Stderr)
	return engine.NewSecret(line), nil
}

var errNotHidden = errors.New("what is typed cannot be hidden here")

// ask puts a question and reads one line. The end of input and ctrl+c decline.
func (a *app) ask(ctx context.Context, question string) (string, error) {
	if a.lines == nil {
		a.lines = newLineReader(a.Stdin, a.over)
	}
	fmt.Fprint(a.Stderr, question)
	if !a.lines.pending {
		select {
		case a.lines.want <- struct{}{}:
			a.lines.pending = true
		case <-a.lines.lines: // closed: the input has ended
		}
	}
	select {
	case got, ok := <-a.lines.lines:
		a.lines.pending = !ok
		if !ok {
			fmt.Fprintln(a.Stderr)
			return "", declined("end of input")
		}
		return strings.TrimSpace(got.line), got.err
	case <-ctx.Done():
		fmt.Fprintln(a.Stderr)
		return "", declined("interrupted")
	}
}

func declined(why string) error {
	return &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitDeclined, Cause: "not confirmed: " + why, Remedy: "nothing was done"}
}

// absolute makes a path absolute; commands hand only such paths to an engine,
// which has another working directory.
func absolute(p string) (string, error) {
	if p == "" || filepath.IsAbs(p) {
		return p, nil
	}
	return filepath.Abs(p)
}
