package cli

import (
	"app.provost/engine"

	"github.com/spf13/cobra"
)

const selectorHelp = `SELECTOR is ids and ranges (w1,w3-w5; m1/w1 where ids repeat), a filter over the columns of
"get workers" (host:m18 state=run), or all. An empty one matches nothing.`

func (a *app) pauseWorkerCmd() *cobra.Command {
	var f actFlags
	var act engine.PauseWorkers
	c := &cobra.Command{
		Use: "worker SELECTOR...", Short: "drain workers and let them rest for a while", Aliases: []string{"workers"},
		Long: selectorHelp + `
Each worker finishes its job and takes no other. The pause lasts over restarts of the engine and
ends by itself.`,
		Example: `  provost pause worker w3 --for 45m --reason "disk swap"
  provost pause worker host:m18 --for 1h30m --reason "disk swap m18" --confirm 5d11e0
  provost pause worker 'cpu<5 age>1h' --for 2h --reason "look into it" --stop`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeRows(engine.TableWorkers),
	}
	c.Flags().Var((*durationFlag)(&act.For), "for", "how long, as in 45m or 1h30m")
	c.Flags().StringVar(&act.Reason, "reason", "", "why; kept in the journal")
	c.Flags().BoolVar(&act.Stop, "stop", false, "end their processes too, once they have drained")
	f.add(c.Flags())
	c.RunE = func(cmd *cobra.Command, args []string) error {
		act.Workers = selectorOf(args)
		err := a.complete(cmd, true,
			need{"for", "for how long (as in 45m)", act.For == 0, func(s string) error { return (*durationFlag)(&act.For).Set(s) }},
			need{"reason", "why (kept in the journal)", act.Reason == "", func(s string) error { act.Reason = s; return nil }})
		if err != nil {
			return err
		}
		return a.act(cmd, nil, act, f, nil)
	}
	return c
}

func (a *app) resumeWorkerCmd() *cobra.Command {
	var f actFlags
	var act engine.ResumeWorkers
	c := &cobra.Command{
		Use: "worker SELECTOR...", Short: "end a pause", Aliases: []string{"workers"}, Long: selectorHelp,
		Example: `  provost resume worker w3
  provost resume worker state:paused --confirm 91c2aa`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeRows(engine.TableWorkers),
	}
	c.Flags().StringVar(&act.Reason, "reason", "", "why; kept in the journal")
	f.add(c.Flags())
	c.RunE = func(cmd *cobra.Command, args []string) error {
		act.Workers = selectorOf(args)
		return a.act(cmd, nil, act, f, nil)
	}
	return c
}

func (a *app) restartWorkerCmd() *cobra.Command {
	var f actFlags
	var act engine.RestartWorkers
	c := &cobra.Command{
		Use: "worker SELECTOR...", Short: "drain workers, stop their processes and start them again", Aliases: []string{"workers"}, Long: selectorHelp,
		Example: `  provost restart worker w3 --reason "new version"
  provost restart worker 'rss>2G' --wait --confirm 0a77c1`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeRows(engine.TableWorkers),
	}
	c.Flags().StringVar(&act.Reason, "reason", "", "why; kept in the journal")
	f.add(c.Flags())
	c.RunE = func(cmd *cobra.Command, args []string) error {
		act.Workers = selectorOf(args)
		return a.act(cmd, nil, act, f, nil)
	}
	return c
}
