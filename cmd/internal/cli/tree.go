package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"app.provost/engine"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The order of commands in help is the order in which they are needed, not the alphabet's.
func init() { cobra.EnableCommandSorting = false }

// tree is the whole command tree, verbs first. It starts nothing.
func (a *app) tree() *cobra.Command {
	root := &cobra.Command{
		Use:   "provost [ENGINE]",
		Short: "run validating and proving hardware",
		Long: `Provost creates distributed-validator clusters, runs data workers that make proofs,
and shows it all live in a terminal. Without a command it attaches to the engine
that runs here, or offers to start one.`,
		Example: `  provost demo                                  a practice installation, gone when you leave
  provost up                                    start the engine here and look at it
  provost create cluster --name mycluster --nodes 6 --threshold 5 \
    --withdrawal-addresses 0x… --fee-recipient-addresses 0x…
  provost submit job --zkey circuit.zkey --witness a.wtns --wait
  provost pause worker w1-w4 --for 45m --reason "disk swap"`,
		Args: func(cmd *cobra.Command, args []string) error { return a.rootArgs(cmd, args) },
		RunE: func(cmd *cobra.Command, args []string) error { return a.runBare(cmd, args) },
	}
	a.g.add(root.PersistentFlags())
	group := func(use, short string, kids ...*cobra.Command) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short}
		for _, k := range kids {
			c.AddCommand(k)
		}
		return c
	}
	root.AddCommand(
		a.upCmd(), a.attachCmd(), a.statusCmd(), a.checkCmd(), a.doctorCmd(), a.demoCmd(), a.simnetCmd(), a.downCmd(),
		group("create", "make something new", a.createClusterCmd(), a.createWorkersCmd(), a.createProverCmd()),
		group("verify", "check something that is there", a.verifyClusterCmd()),
		a.combineCmd(),
		group("node", "directories of nodes: export, import", a.nodeExportCmd(), a.nodeImportCmd()),
		group("show", "say what something is", a.showClusterCmd()),
		a.enrCmd(),
		group("submit", "hand in work", a.submitJobCmd()),
		group("fetch", "bring results", a.fetchJobCmd()),
		group("cancel", "withdraw work", a.cancelJobCmd()),
		a.getCmd(), a.describeCmd(),
		group("pause", "stop something for a while", a.pauseWorkerCmd()),
		group("resume", "let something go on", a.resumeWorkerCmd()),
		group("restart", "stop something and start it again", a.restartWorkerCmd()),
		a.planCmd(group), a.applyCmd(),
		group("acts", "acts that were ordered: list, show, follow, cancel", a.actsListCmd(), a.actsShowCmd(), a.actsFollowCmd(), a.actsCancelCmd()),
		a.unlockCmd(), a.lockCmd(),
		group("ack", "say that something was seen", a.ackAlertCmd()),
		group("mute", "hide something for a while", a.muteAlertCmd()),
		a.watchCmd(), a.logsCmd(),
		group("wait", "wait until something is so", a.waitRestartCmd()),
		group("hugepages", "hugepages of the machines", a.hugepagesShowCmd()),
		group("config", "configuration: path, view, explain, keys, validate, default", a.configPathCmd(), a.configViewCmd(), a.configExplainCmd(), a.configKeysCmd(), a.configValidateCmd(), a.configDefaultCmd()),
		group("service", "units for a service manager", a.servicePrintCmd()),
		a.completionCmd(), a.manCmd(), a.versionCmd(),
	)
	for _, name := range slices.Sorted(maps.Keys(a.Internal)) {
		run := a.Internal[name]
		root.AddCommand(&cobra.Command{Use: name, Hidden: true, DisableFlagParsing: true,
			RunE: func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args) }})
	}
	a.finishTree(root)
	return root
}

// actWords are the commands that make an action; Parse runs no others.
var actWords = []string{"pause worker", "resume worker", "restart worker", "submit job", "cancel job", "fetch job", "create cluster", "create workers", "create prover", "verify cluster", "show cluster", "enr", "combine", "node export", "node import",
	"unlock", "lock", "ack alert", "mute alert", "acts cancel", "down"}

// finishTree gives every command the same manners.
func (a *app) finishTree(root *cobra.Command) {
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Use: "help [COMMAND]", Short: "explain a command", RunE: func(cmd *cobra.Command, args []string) error {
		c, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			return usage("help", fmt.Sprintf("there is no command %q", strings.Join(args, " ")), "see provost help")
		}
		c.InitDefaultHelpFlag()
		return c.Help()
	}})
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(cmd.OutOrStdout(), helpText(cmd)) })
	walk(root, func(c *cobra.Command) {
		c.SilenceErrors, c.SilenceUsage, c.DisableAutoGenTag = true, true, true
		c.DisableFlagsInUseLine = true
		if !c.DisableFlagParsing {
			c.SetFlagErrorFunc(flagError)
		}
		if c.HasSubCommands() && c != root {
			c.Args = cobra.ArbitraryArgs
			c.RunE = func(cmd *cobra.Command, args []string) error { return groupError(cmd, args) }
			return
		}
		if run, check := c.RunE, c.Args; run != nil && !c.Hidden {
			c.Args = func(cmd *cobra.Command, args []string) error {
				if check == nil {
					return nil
				}
				err := check(cmd, args)
				var p *engine.Problem
				if err == nil || errors.As(err, &p) {
					return err
				}
				return usage(words(cmd), err.Error(), "usage: "+cmd.UseLine())
			}
			c.RunE = func(cmd *cobra.Command, args []string) error {
				if a.capture != nil && !slices.Contains(actWords, words(cmd)) {
					return usage("", fmt.Sprintf("%q is no act", words(cmd)), "")
				}
				if err := a.prepare(cmd); err != nil {
					return err
				}
				if cmd.Context() == nil {
					cmd.SetContext(context.Background())
				}
				return run(cmd, args)
			}
		}
	})
}

func walk(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, k := range c.Commands() {
		walk(k, do)
	}
}

// words is the command without the program's name: "pause worker".
func words(cmd *cobra.Command) string {
	_, rest, _ := strings.Cut(cmd.CommandPath(), " ")
	return rest
}

// subWords lists the visible commands below one.
func subWords(cmd *cobra.Command) []string {
	var out []string
	for _, k := range cmd.Commands() {
		if !k.Hidden && k.Name() != "help" {
			out = append(append(out, k.Name()), k.Aliases...)
		}
	}
	return out
}

// groupError answers a verb without its noun, or with a wrong one.
func groupError(cmd *cobra.Command, args []string) error {
	all := subWords(cmd)
	if len(args) == 0 {
		return usage(words(cmd), "a word is missing after it", "one of: "+strings.Join(all, ", "))
	}
	remedy := "one of: " + strings.Join(all, ", ")
	if near := engine.Nearest(args[0], all); near != "" {
		remedy = fmt.Sprintf("did you mean %q?", words(cmd)+" "+near)
	}
	return usage(words(cmd), fmt.Sprintf("there is no %q", words(cmd)+" "+args[0]), remedy)
}

// rootArgs takes the name of an engine; a misspelt command gets the nearest one.
func (a *app) rootArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	all := subWords(cmd)
	if near := engine.Nearest(args[0], all); near != "" || len(args) > 1 {
		remedy := "see provost help"
		if near != "" {
			remedy = fmt.Sprintf("did you mean %q?", near)
		}
		return usage("", fmt.Sprintf("there is no command %q", args[0]), remedy)
	}
	return nil
}

// flagError names the nearest flag.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	remedy := "see " + cmd.CommandPath() + " --help"
	var wrong *pflag.InvalidValueError
	if errors.As(err, &wrong) {
		cause := wrong.Unwrap().Error()
		if num := (*strconv.NumError)(nil); errors.As(err, &num) {
			cause = "want a number"
			if errors.Is(num, strconv.ErrRange) {
				cause = "the number is out of range"
			}
		}
		return usage(words(cmd), fmt.Sprintf("--%s=%q: %s", wrong.GetFlag().Name, wrong.GetValue(), cause), remedy)
	}
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := engine.Nearest(missing.GetSpecifiedName(), names); near != "" {
			remedy = "did you mean --" + near + "?"
		}
	}
	return usage(words(cmd), err.Error(), remedy)
}

// helpText is the help of a command: what it is for, examples first, then flags.
func helpText(cmd *cobra.Command) string {
	var b strings.Builder
	b.WriteString(upper(cmd.Short) + ".\n")
	if cmd.Example != "" {
		b.WriteString("\nExamples:\n" + strings.TrimRight(cmd.Example, "\n") + "\n")
	}
	fmt.Fprintf(&b, "\nUsage:\n  %s\n", useLine(cmd))
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(&b, "\nAlso: %s\n", strings.Join(cmd.Aliases, ", "))
	}
	if cmd.Long != "" {
		b.WriteString("\n" + strings.TrimSpace(cmd.Long) + "\n")
	}
	if kids := visible(cmd); len(kids) > 0 {
		b.WriteString("\nCommands:\n")
		n := 0
		for _, k := range kids {
			n = max(n, len(k.Name()))
		}
		for _, k := range kids {
			fmt.Fprintf(&b, "  %-*s  %s\n", n, k.Name(), k.Short)
		}
	}
	local := cmd.LocalNonPersistentFlags()
	local.SortFlags = cmd.Flags().SortFlags // some commands put what is needed first
	for _, g := range flagGroups(local) {
		if f := g.flags.FlagUsages(); f != "" {
			b.WriteString("\n" + g.title + ":\n" + f)
		}
	}
	if f := persistent(cmd).FlagUsages(); f != "" {
		b.WriteString("\nFlags of every command:\n" + f)
	}
	return b.String()
}

// groupKey marks flags that stand under a title of their own in the help.
const groupKey = "provost.group"

// group puts flags under a title.
func group(fl *pflag.FlagSet, title string, names ...string) {
	for _, name := range names {
		_ = fl.SetAnnotation(name, groupKey, []string{title}) // a flag that isn't there is not in the help either
	}
}

type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

// flagGroups are the flags under their titles, in the order in which those first appear.
func flagGroups(all *pflag.FlagSet) []flagGroup {
	out := []flagGroup{{title: "Flags"}}
	all.VisitAll(func(f *pflag.Flag) {
		title := "Flags"
		if t := f.Annotations[groupKey]; len(t) > 0 {
			title = t[0]
		}
		i := slices.IndexFunc(out, func(g flagGroup) bool { return g.title == title })
		if i < 0 {
			i = len(out)
			out = append(out, flagGroup{title: title})
		}
		if out[i].flags == nil {
			out[i].flags = pflag.NewFlagSet("", pflag.ContinueOnError)
			out[i].flags.SortFlags = all.SortFlags
		}
		out[i].flags.AddFlag(f)
	})
	return slices.DeleteFunc(out, func(g flagGroup) bool { return g.flags == nil })
}

// persistent are the flags that a command has from those above it, and its own for those below.
func persistent(cmd *cobra.Command) *pflag.FlagSet {
	if cmd.HasParent() {
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		set.SortFlags = false
		set.AddFlagSet(cmd.InheritedFlags())
		return set
	}
	return cmd.PersistentFlags()
}

func visible(cmd *cobra.Command) []*cobra.Command {
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(k *cobra.Command) bool { return k.Hidden || k.Name() == "help" })
}

func useLine(cmd *cobra.Command) string {
	s := cmd.UseLine()
	if cmd.HasSubCommands() && cmd.HasParent() {
		s += " COMMAND"
	}
	return s + " [flags]"
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
