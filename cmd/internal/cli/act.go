package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"app.provost/cmd/internal/print"
	"app.provost/engine"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// planning marks the commands below "provost plan".
const planning = "provost.planning"

func isPlanning(cmd *cobra.Command) bool {
	for c := cmd; c != nil; c = c.Parent() {
		if c.Annotations[planning] != "" {
			return true
		}
	}
	return false
}

// actFlags are the flags of acts that take time.
type actFlags struct {
	detach, wait bool
	key          string
	alone        bool // no engine goes on with it
}

func (f *actFlags) add(fl *pflag.FlagSet) {
	fl.BoolVar(&f.detach, "detach", false, "print the act's id and return at once (the default off a terminal)")
	fl.BoolVar(&f.wait, "wait", false, "wait until every target has settled (the default on a terminal)")
	f.addKey(fl)
}

func (f *actFlags) addKey(fl *pflag.FlagSet) {
	fl.StringVar(&f.key, "key", "", "name of this order: the same key again does nothing twice (default: a new one)")
}

// need is an answer that an act cannot do without.
type need struct {
	flag     string
	question string
	missing  bool
	set      func(string) error
}

// complete asks for what is missing, or lists it where nobody can be asked.
func (a *app) complete(cmd *cobra.Command, consents bool, needs ...need) error {
	var flags []string
	for _, n := range needs {
		if n.missing {
			flags = append(flags, "--"+n.flag)
		}
	}
	if len(flags) == 0 {
		return nil
	}
	if !a.asks() || isPlanning(cmd) {
		if consents && a.g.confirm == "" && !isPlanning(cmd) && a.capture == nil {
			flags = append(flags, "--confirm")
		}
		remedy := "see " + cmd.CommandPath() + " --help"
		if consents && !isPlanning(cmd) {
			remedy = "the digest for --confirm comes from: provost plan " + words(cmd) + " …"
		}
		return usage(words(cmd), "missing: "+strings.Join(flags, ", "), remedy)
	}
	for _, n := range needs {
		for n.missing {
			answer, err := a.ask(cmd.Context(), n.question+": ")
			if err != nil {
				return err
			}
			if answer == "" {
				continue
			}
			if err := n.set(answer); err != nil {
				fmt.Fprintf(a.Stderr, "  %v\n", err)
				continue
			}
			n.missing = false
		}
	}
	return nil
}

// act previews an action, gets consent, does it and follows it. With a nil
// engine it connects to the running one.
func (a *app) act(cmd *cobra.Command, e engine.Engine, action engine.Action, f actFlags, show func(engine.Receipt) error) error {
	if a.capture != nil {
		a.capture(action)
		return nil
	}
	if f.detach && f.wait {
		return usage(words(cmd), "--detach and --wait exclude each other", "leave one of them out")
	}
	asJSON, err := a.asJSON(false)
	if err != nil && show == nil { // who shows the result has looked at the format
		return err
	}
	if e == nil {
		var hangUp func()
		if e, hangUp, err = a.connect(cmd, ""); err != nil {
			return err
		}
		defer hangUp()
	}
	remedy := "see whether it was ordered: provost acts list"
	if f.alone {
		remedy = "it was ended and nothing goes on; give it more time with --timeout, or leave that out"
	}
	ctx, stop := a.limited(cmd.Context(), remedy)
	defer stop()
	req := engine.Request{Key: f.key, Action: action}
	if a.Actor != nil {
		req.Actor = a.Actor()
	}
	req.Actor.Via = engine.ViaCLI
	if req.Key == "" {
		req.Key = engine.NewKey()
	}
	plan, err := e.Preview(ctx, req)
	if err != nil {
		return orCause(ctx, err)
	}
	if isPlanning(cmd) {
		return a.showPlan(cmd, plan, action)
	}
	if a.g.readOnly && !plan.ReadOnly {
		return &engine.Problem{Code: engine.CodeDenied, Exit: engine.ExitNotAllowed, Doing: action.Doing(), Cause: "--read-only was given", Remedy: "leave it out to act"}
	}
	var receipt engine.Receipt
	for {
		asked, err := a.consent(ctx, action, plan)
		if err != nil {
			return err
		}
		receipt, err = e.Do(ctx, req, plan.Digest)
		if err == nil {
			if asked {
				a.say("repeat without questions:\n  provost %s", engine.ShellLine(append(action.CommandLine(), "--confirm="+string(plan.Digest))))
			}
			break
		}
		var p *engine.Problem
		if !errors.As(err, &p) || p.Code != engine.CodePlanChanged || p.Plan == nil || !asked {
			return orCause(ctx, err)
		}
		fmt.Fprintln(a.Stderr, "things have changed meanwhile; this is the plan now:")
		plan = *p.Plan
	}
	if !asJSON && !a.g.quiet {
		receipt.Notes = unsaid(receipt.Notes, plan.Warnings)
	}
	switch {
	case show != nil:
		err = show(receipt)
	case asJSON:
		err = print.JSON(a.Stdout, print.ReceiptObject(receipt))
	default:
		err = print.Receipt(a.Stdout, receipt, a.style())
	}
	if err != nil || receipt.Act == "" || receipt.Done || f.detach || !f.wait && !a.asks() {
		return err
	}
	return a.followAct(cmd.Context(), e, receipt.Act, settled)
}

// unsaid leaves out notes that were said as warnings of the plan already.
func unsaid(notes, warnings []string) []string {
	return slices.DeleteFunc(slices.Clone(notes), func(n string) bool {
		return slices.Contains(warnings, n) || slices.Contains(warnings, strings.TrimPrefix(n, "warning: "))
	})
}

// consent gets the agreement that a plan needs. It tells whether somebody was asked.
func (a *app) consent(ctx context.Context, action engine.Action, plan engine.Plan) (bool, error) {
	if a.g.confirm != "" {
		if plan.Digest.Fits(engine.Digest(a.g.confirm)) {
			return false, nil
		}
		return false, &engine.Problem{Code: engine.CodePlanChanged, Exit: engine.ExitRefused, Doing: action.Doing(), Field: "confirm",
			Cause: fmt.Sprintf("--confirm %s names another plan than the one of now, %s", print.Clean(a.g.confirm), plan.Digest), Remedy: "look at it and confirm that one", Plan: &plan}
	}
	level := plan.Consent.Level
	if plan.ReadOnly || level == "none" {
		for _, w := range plan.Warnings {
			a.say("warning: %s", print.Clean(w))
		}
		return false, nil
	}
	if !a.asks() {
		return false, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: action.Doing(), Field: "confirm", Cause: "missing: --confirm",
			Remedy: fmt.Sprintf("to agree to the plan as it is: provost %s", engine.ShellLine(append(action.CommandLine(), "--confirm="+string(plan.Digest)))), Plan: &plan}
	}
	if err := print.Plan(a.Stderr, plan, a.errStyle()); err != nil {
		return false, err
	}
	if plan.Consent.Why != "" {
		fmt.Fprintln(a.Stderr, print.Clean(plan.Consent.Why))
	}
	// Whatever level a newer engine may name, at least the phrase or a yes is asked for.
	if level == "type" {
		phrase := print.Clean(plan.Consent.Phrase)
		for {
			got, err := a.ask(ctx, fmt.Sprintf("type exactly %q to go on: ", phrase))
			if err != nil {
				return true, err
			}
			if got == plan.Consent.Phrase && got != "" {
				return true, nil
			}
			fmt.Fprintf(a.Stderr, "that does not match. wanted: %s. you typed: %s.\n", phrase, print.Clean(got))
		}
	}
	for {
		got, err := a.ask(ctx, "continue? type y or n: ")
		if err != nil {
			return true, err
		}
		switch strings.ToLower(got) {
		case "y", "yes":
			return true, nil
		case "n", "no":
			return true, declined("the answer was no")
		}
	}
}

// settled: every target has answered, or the act only waits for its end.
func settled(s engine.ActState) bool { return s != engine.ActRunning }

func ended(s engine.ActState) bool { return !s.Open() }

// followAct prints how an act goes on until it stands as wanted. Stopping to
// follow stops nothing.
func (a *app) followAct(ctx context.Context, e engine.Engine, id string, enough func(engine.ActState) bool) error {
	parent := ctx
	ctx, stop := a.limited(ctx, "the act goes on: provost acts follow "+id)
	defer stop()
	feed, err := e.Watch(ctx, engine.WatchOptions{Sections: []engine.SectionName{engine.SecActs}})
	if err != nil {
		return err
	}
	defer feed.Close()
	said := ""
	for {
		u, err := feed.Next(ctx)
		if err != nil {
			if parent.Err() != nil {
				a.say("no longer following; act %s goes on. provost acts follow %s", id, id)
				return parent.Err()
			}
			if errors.Is(err, io.EOF) {
				return &engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: "follow act " + id, Cause: "the engine has stopped", Remedy: "the act goes on when it is started again"}
			}
			if ctx.Err() != nil {
				fmt.Fprintln(a.Stdout, id)
			}
			return orCause(ctx, err)
		}
		var row *engine.ActRow
		for i := range u.Snapshot.Acts.List() {
			if r := &u.Snapshot.Acts.Rows[i]; r.ID == id {
				row = r
			}
		}
		if row == nil {
			continue // not folded yet; the first snapshot may be older than the receipt
		}
		if line := print.ActLine(*row, a.errStyle()); line != said {
			said = line
			a.say("%s", line)
		}
		if enough(row.State) {
			return a.actEnd(*row)
		}
	}
}

// actEnd is the exit code of an act that stands still.
func (a *app) actEnd(row engine.ActRow) error {
	print.Unsettled(a.Stdout, row, a.style())
	switch row.State {
	case engine.ActPartly, engine.ActCancelled:
		return Exit{engine.ExitPartly}
	case engine.ActFailed:
		return &engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: "act " + row.ID, Cause: "failed: " + row.Text, Remedy: "see provost acts show " + row.ID}
	}
	return nil
}

// planCmd is "provost plan": every act again, none of it done.
func (a *app) planCmd(group func(use, short string, kids ...*cobra.Command) *cobra.Command) *cobra.Command {
	c := group("plan", "show what an act would do, and do nothing",
		group("pause", "plan a pause", a.pauseWorkerCmd()),
		group("resume", "plan the end of a pause", a.resumeWorkerCmd()),
		group("restart", "plan a restart", a.restartWorkerCmd()),
		group("submit", "plan new jobs", a.submitJobCmd()),
		group("cancel", "plan to withdraw jobs", a.cancelJobCmd()),
		a.combineCmd(),
		group("node", "plan to export or import a node", a.nodeExportCmd(), a.nodeImportCmd()),
		group("create", "plan something new", a.createClusterCmd(), a.createWorkersCmd(), a.createProverCmd()),
		group("acts", "plan the end of an act", a.actsCancelCmd()),
		group("ack", "plan to acknowledge", a.ackAlertCmd()),
		group("mute", "plan to mute", a.muteAlertCmd()),
		a.unlockCmd(), a.lockCmd(), a.downCmd(),
	)
	c.Annotations = map[string]string{planning: "yes"}
	c.Example = `  provost plan pause worker host:m18 --for 45m --reason "disk swap"
  provost plan pause worker w1-w4 --for 1h --reason test -o json > plan.json
  provost apply plan.json
  provost plan restart worker all --exit-code; test $? = 10`
	c.Long = `The digest of a plan names what it would do. Give it to the act with --confirm, or
write the plan to a file with -o json and hand that to "provost apply": it is
carried out only if the plan made again then has the same digest.`
	c.PersistentFlags().Bool("exit-code", false, "exit with 10 if something would be done, with 0 if not")
	return c
}

func (a *app) showPlan(cmd *cobra.Command, plan engine.Plan, action engine.Action) error {
	asJSON, err := a.asJSON(false)
	if err != nil {
		return err
	}
	if asJSON {
		file, err := print.NewPlanFile(plan, action)
		if err != nil {
			return err
		}
		if err := print.JSON(a.Stdout, file); err != nil {
			return err
		}
	} else {
		if err := print.Plan(a.Stdout, plan, a.style()); err != nil {
			return err
		}
		a.say("carry it out:\n  provost %s", engine.ShellLine(append(action.CommandLine(), "--confirm="+string(plan.Digest))))
	}
	if on, _ := cmd.Flags().GetBool("exit-code"); on && (len(plan.Steps) > 0 || len(plan.Targets) > 0 || len(plan.Files) > 0) {
		return Exit{engine.ExitPending}
	}
	return nil
}

// maxPlanFile bounds a plan file.
const maxPlanFile = 16 << 20

func (a *app) applyCmd() *cobra.Command {
	var f actFlags
	c := &cobra.Command{
		Use: "apply FILE", Short: "carry out a plan that was written to a file", Args: cobra.ExactArgs(1),
		Long: `The plan is made again. It is carried out if it still has the digest of the file, and
refused with exit code 4 if not. "-" reads standard input.`,
		Example: `  provost plan pause worker w1 --for 45m --reason "disk swap" -o json > plan.json
  provost apply plan.json --wait`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var in io.Reader = a.Stdin
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "apply plan", Remedy: "give a file that provost plan -o json wrote"}.Because(err)
				}
				defer file.Close()
				in = file
			}
			digest, action, err := readPlan(in)
			if err != nil {
				return err
			}
			if a.g.confirm != "" && !digest.Fits(engine.Digest(a.g.confirm)) {
				return usageField("confirm", fmt.Sprintf("--confirm %s does not name the plan of the file, %s", print.Clean(a.g.confirm), digest), "leave one of them out")
			}
			a.g.confirm = string(digest)
			var e engine.Engine
			switch action.(type) {
			case engine.CreateCluster, engine.CreateWorkers, engine.CreateProver, engine.CombineCluster, engine.ExportNode, engine.ImportNode:
				if a.OneShot != nil {
					e, f.alone = a.OneShot(), true
				}
			}
			return a.act(cmd, e, action, f, nil)
		},
	}
	f.add(c.Flags())
	return c
}

// readPlan reads what "plan -o json" wrote: the digest and the action.
func readPlan(in io.Reader) (engine.Digest, engine.Action, error) {
	bad := func(err error) (engine.Digest, engine.Action, error) {
		return "", nil, engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "apply plan", Remedy: "give a file that provost plan -o json wrote"}.Because(err)
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxPlanFile+1))
	if err != nil {
		return bad(err)
	}
	if len(raw) > maxPlanFile {
		return bad(fmt.Errorf("the file is larger than %d MiB", maxPlanFile>>20))
	}
	var file struct {
		Schema string          `json:"schema"`
		Digest engine.Digest   `json:"digest"`
		Action json.RawMessage `json:"action"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return bad(fmt.Errorf("not a plan: %w", err))
	}
	if file.Schema != engine.PlanSchema {
		return bad(fmt.Errorf("schema %q, want %q", file.Schema, engine.PlanSchema))
	}
	if len(file.Digest) != 12 {
		return bad(fmt.Errorf("digest %q, want 12 characters", file.Digest))
	}
	action, err := engine.UnmarshalAction(file.Action)
	if err != nil {
		return bad(err)
	}
	return file.Digest, action, nil
}

// selectorOf joins the words of a selector: ids with commas, conditions with spaces.
func selectorOf(args []string) engine.Selector {
	if len(args) > 1 {
		ids := true
		for _, w := range args {
			ids = ids && w != "" && !strings.ContainsAny(w, " \t\n()\"!:=<>~") && w != "or" && w != "and"
		}
		if ids {
			return engine.Selector(strings.Join(args, ","))
		}
	}
	return engine.Selector(strings.Join(args, " "))
}

// durationFlag is engine.Duration as a flag.
type durationFlag engine.Duration

func (d *durationFlag) String() string {
	if *d == 0 {
		return ""
	}
	return engine.Duration(*d).String()
}

func (d *durationFlag) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q: want a length of time, as in 45m or 1h30m", s)
	}
	if v <= 0 {
		return fmt.Errorf("%q: want more than nothing, as in 45m", s)
	}
	*d = durationFlag(v)
	return nil
}

func (*durationFlag) Type() string { return "time" }
