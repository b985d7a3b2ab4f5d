package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"app.provost/cmd/internal/print"
	"app.provost/engine"
	"app.provost/engine/config"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// terminal tells whether a dashboard can be shown.
func (a *app) terminal() bool { return a.StdinTTY && a.StdoutTTY && !a.g.noTUI }

func (a *app) screen() ScreenOptions {
	o := ScreenOptions{ReadOnly: a.g.readOnly, ASCII: a.g.ascii, Color: a.g.color, Theme: a.g.theme}
	// What is wrong in the files was said where the engine's settings were read.
	if l, err := config.Load(config.Sources{Files: a.configFiles()}); err == nil {
		o.Keys = l.Keys
	}
	return o
}

func (a *app) upCmd() *cobra.Command {
	var foreground bool
	c := &cobra.Command{
		Use: "up", Short: "start the engine here; on a terminal, look at it", Aliases: []string{"run"}, Args: cobra.NoArgs,
		Long: `On a terminal the engine is started in a session of its own, and the dashboard attaches to it: it
goes on when the terminal is gone. If it runs already, only the dashboard attaches. Without a
terminal, and with --no-tui, the engine runs in this process and logs to standard error.`,
		Example: `  provost up
  provost up --no-tui --state-dir /var/lib/provost/default --log-format json
  provost up --workers 4 --data-dir .charon/cluster/node0
  provost up --foreground`,
	}
	c.Flags().BoolVar(&foreground, "foreground", false, "engine and dashboard in this process")
	addConfigFlags(c.Flags())
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.Up == nil {
			return notHere()
		}
		cfg, err := a.loadConfig(cmd)
		if err != nil {
			return err
		}
		o := UpOptions{Mode: UpHeadless, Config: cfg, Flags: givenFlags(cmd, cfg), Screen: a.screen()}
		if foreground {
			if !a.terminal() {
				return usage("up", "--foreground needs a terminal", "use --no-tui")
			}
			o.Mode = UpForeground
			return a.Up(cmd.Context(), o)
		}
		if !a.terminal() {
			return a.Up(cmd.Context(), o)
		}
		return a.upAndAttach(cmd.Context(), o)
	}
	return c
}

// addConfigFlags adds a flag for every setting that has one and is not global.
func addConfigFlags(fl *pflag.FlagSet) {
	fl.SortFlags = false
	for _, k := range config.Keys() {
		if k.Flag != "" && !persistentFlag(k.Flag) {
			def := orNone(k.Default())
			if filepath.IsAbs(def) { // it differs between users and machines; pages do not
				def = "see provost config default"
			}
			fl.String(k.Flag, "", k.Help+" (default: "+def+")")
			fl.Lookup(k.Flag).Annotations = map[string][]string{ofConfig: {k.Name}}
		}
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// givenFlags are the settings that were given as flags, as words: to be handed on
// to the engine's own process. Paths are made absolute by the configuration.
func givenFlags(cmd *cobra.Command, c config.Loaded) []string {
	var out []string
	for _, k := range config.Keys() {
		if f := configFlag(cmd, k); f != nil && f.Changed {
			out = append(out, "--"+k.Flag+"="+k.Value(c.Config))
		}
	}
	if f := cmd.Flags().Lookup("config"); f != nil && f.Changed {
		if p, err := absolute(f.Value.String()); err == nil {
			out = append(out, "--config="+p)
		}
	}
	return out
}

func (a *app) upAndAttach(ctx context.Context, o UpOptions) error {
	o.Mode = UpBackground
	if err := a.Up(ctx, o); err != nil {
		return err
	}
	return a.attach(ctx, a.SocketOf(o.Config.Config))
}

// attach shows the dashboard, and after it one line about what goes on.
func (a *app) attach(ctx context.Context, socket string) error {
	if a.RunScreen == nil {
		return notHere()
	}
	e, hangUp, err := a.dial(ctx, socket)
	if err != nil {
		return err
	}
	defer hangUp()
	if err := a.RunScreen(ctx, e, a.screen()); err != nil {
		return err
	}
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	if s, err := a.snapshot(last, e); err == nil && s.Engine != nil {
		word := engine.VerdictUnknown
		if s.Verdict != nil {
			word = s.Verdict.Value.Word
		}
		a.say("engine %s goes on: pid %d, %s. look again: provost attach; stop it: provost down", print.Clean(s.Engine.Value.Name), s.Engine.Value.PID, word)
	}
	return nil
}

func (a *app) attachCmd() *cobra.Command {
	return &cobra.Command{
		Use: "attach [ENGINE]", Short: "look at an engine that runs", Args: cobra.MaximumNArgs(1),
		Long: `ENGINE is its name, needed where several run. From afar: ssh -t HOST provost attach.`,
		Example: `  provost attach
  provost attach --read-only
  ssh -t m18 provost attach`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !a.terminal() {
				return usage("attach", "the dashboard needs a terminal on both ends", "without one use provost status, watch or get; over ssh add -t")
			}
			socket, err := a.findSocket(cmd, strings.Join(args, ""))
			if err != nil {
				return err
			}
			return a.attach(cmd.Context(), socket)
		},
	}
}

func (a *app) downCmd() *cobra.Command {
	var act engine.StopEngine
	c := &cobra.Command{
		Use: "down", Short: "stop the engine in order; workers go on proving and nodes signing unless --workers is given", Args: cobra.NoArgs,
		Example: `  provost down
  provost down --workers --confirm 8e10c2`,
	}
	c.Flags().BoolVar(&act.Workers, "workers", false, "stop the workers and nodes too")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.capture != nil || isPlanning(cmd) {
			return a.act(cmd, nil, act, actFlags{detach: true}, nil)
		}
		e, hangUp, err := a.connect(cmd, "")
		if err != nil {
			return err
		}
		defer hangUp()
		ctx, stop := a.limited(cmd.Context(), "the engine goes on stopping: provost status")
		defer stop()
		// The feed is opened first, so that its end cannot be missed.
		feed, err := e.Watch(ctx, engine.WatchOptions{Sections: []engine.SectionName{engine.SecEngine}})
		if err != nil {
			return err
		}
		defer feed.Close()
		if err := a.act(cmd, e, act, actFlags{detach: true}, nil); err != nil {
			return err
		}
		said := ""
		for {
			u, err := feed.Next(ctx)
			switch {
			case err == nil:
			case ctx.Err() != nil:
				return orCause(ctx, err)
			case errors.Is(err, io.EOF):
				a.say("stopped")
				return nil
			default:
				a.say("the line to the engine ended: %s", print.Clean(err.Error()))
				return nil
			}
			if u.Snapshot != nil && u.Snapshot.Engine != nil {
				if step := u.Snapshot.Engine.Value.Stopping; step != said && step != "" {
					said = step
					a.say("stopping: %s", print.Clean(step))
				}
			}
		}
	}
	return c
}

func (a *app) demoCmd() *cobra.Command {
	var o DemoOptions
	var still time.Duration
	c := &cobra.Command{
		Use: "demo", Short: "a practice installation on this machine, gone when it ends", Args: cobra.NoArgs,
		Long: `Real workers make real proofs of small circuits, in a temporary directory. All of it ends with this
command, and the directory goes. Without a terminal, and with --no-tui, it prints a report.
Exit code 6 if something failed; the report is printed all the same.`,
		Example: `  provost demo
  provost demo --no-tui --for 60s --json
  provost demo --scripted        2,048 scripted workers, for learning the screens`,
	}
	fl := c.Flags()
	fl.DurationVar(&o.For, "for", 0, "end after this time (default: 60s without a dashboard, else when it is left)")
	fl.BoolVar(&o.JSON, "json", false, "report as one JSON object, as -o json")
	fl.BoolVar(&o.Scripted, "scripted", false, "an engine that follows a script: nothing is real")
	fl.IntVar(&o.Workers, "workers", 0, "how many data workers (default: 2)")
	fl.DurationVar(&still, "still", 0, "with --scripted: show the script at this moment, standing still, for pictures")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.Demo == nil {
			return notHere()
		}
		o := o
		var err error
		if o.JSON, err = a.asJSON(o.JSON); err != nil {
			return err
		}
		o.Headless = !a.terminal() || o.JSON
		o.Screen, o.Quiet = a.screen(), a.g.quiet
		if cmd.Flags().Changed("still") {
			o.Still = &still
		}
		switch {
		case o.Still != nil && (!o.Scripted || still < 0 || still > 24*time.Hour):
			return usageField("still", fmt.Sprintf("--still=%s", still), "want --scripted with it, and a time from 0s to 24h")
		case o.For < 0:
			return usageField("for", fmt.Sprintf("--for=%s", o.For), "want a positive time, as in 60s")
		case o.Workers < 0 || o.Workers > 64:
			return usageField("workers", fmt.Sprintf("--workers=%d", o.Workers), "want 1 to 64")
		case o.Scripted && o.Headless:
			return usage("demo", "--scripted shows a dashboard and needs a terminal", "leave out --no-tui and --json")
		case o.For == 0 && o.Headless:
			o.For = time.Minute
		}
		return a.Demo(cmd.Context(), o)
	}
	return c
}

// runBare is "provost" alone: attach if one engine runs, list them if several,
// offer what there is to do if none.
func (a *app) runBare(cmd *cobra.Command, args []string) error {
	if a.FindEngines == nil || a.SocketOf == nil {
		return notHere()
	}
	name := strings.Join(args, "")
	if name != "" || a.g.socket != "" {
		socket, err := a.findSocket(cmd, name)
		if err != nil {
			return err
		}
		return a.lookAt(cmd, socket)
	}
	cfg, err := a.loadConfig(cmd)
	if err != nil {
		return err
	}
	all, err := a.FindEngines(cmd.Context(), cfg.Config)
	if err != nil {
		return err
	}
	switch len(all) {
	case 0:
		return a.offer(cmd, cfg)
	case 1:
		return a.lookAt(cmd, all[0].Socket)
	}
	for _, f := range all {
		where := f.StateDir
		if f.Silent {
			where = "does not answer on " + f.Socket
		}
		fmt.Fprintf(a.Stdout, "%s\tpid %d\t%s\n", print.Clean(f.Name), f.PID, print.Clean(where))
	}
	a.say("%d engines run here; look at one with: provost NAME", len(all))
	return nil
}

// lookAt shows the dashboard, or the status where there is no terminal for it.
func (a *app) lookAt(cmd *cobra.Command, socket string) error {
	if a.terminal() {
		return a.attach(cmd.Context(), socket)
	}
	e, hangUp, err := a.dial(cmd.Context(), socket)
	if err != nil {
		return err
	}
	defer hangUp()
	s, err := a.snapshot(cmd.Context(), e)
	if err != nil {
		return err
	}
	asJSON, err := a.asJSON(false)
	if err != nil {
		return err
	}
	if asJSON {
		return print.JSON(a.Stdout, print.StatusOf(s, a.Now()))
	}
	return print.StatusText(a.Stdout, s, a.Now(), a.style())
}

// offer is what a terminal sees where no engine runs.
func (a *app) offer(cmd *cobra.Command, cfg config.Loaded) error {
	none := &engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Cause: "no engine runs here", Remedy: "start one: provost up; practise: provost demo; see provost --help"}
	if !a.terminal() || !a.asks() {
		return none
	}
	ctx := cmd.Context()
	start := func() error {
		return a.upAndAttach(ctx, UpOptions{Config: cfg, Flags: givenFlags(cmd, cfg), Screen: a.screen()})
	}
	_, err := os.Stat(cfg.StateDir)
	if configured := err == nil || len(cfg.NodeDirs) > 0; configured {
		fmt.Fprintf(a.Stderr, "no engine runs here. its state is in %s.\n", print.Clean(cfg.StateDir))
		for {
			got, err := a.ask(ctx, "start it? type y or n: ")
			if err != nil {
				return err
			}
			switch strings.ToLower(got) {
			case "y", "yes":
				return start()
			case "n", "no":
				return declined("the answer was no")
			}
		}
	}
	fmt.Fprint(a.Stderr, `nothing is set up here yet.
  1  start an engine on this machine
  2  create a cluster of distributed validators
  3  look at an engine on another machine
  4  practise: a demo with real proofs, gone when you leave
`)
	for {
		got, err := a.ask(ctx, "type a number, or q to leave: ")
		if err != nil {
			return err
		}
		switch got {
		case "1":
			return start()
		case "2":
			fmt.Fprintln(a.Stderr, "with the addresses of your own:\n  provost create cluster --name=mycluster --nodes=4 --withdrawal-addresses=0x… --fee-recipient-addresses=0x…\nall flags: provost create cluster --help")
			return nil
		case "3":
			fmt.Fprintln(a.Stderr, "over ssh:\n  ssh -t HOST provost attach")
			return nil
		case "4":
			if a.Demo == nil {
				return notHere()
			}
			return a.Demo(ctx, DemoOptions{Screen: a.screen(), Quiet: a.g.quiet})
		case "q", "Q":
			return nil
		}
	}
}
