package cli

import (
	"fmt"
	"strings"

	"app.provost/cmd/internal/print"
	"app.provost/engine"

	"github.com/spf13/cobra"
)

func actsTable() *engine.Table {
	t, _ := engine.TableNamed(string(engine.TableActs))
	return t
}

func (a *app) actsListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list [SELECTOR...]", Short: "list acts, open ones first",
		Long: `The same as "get acts"; see there for the filter.`,
		Example: `  provost acts list
  provost acts list state:holding`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := a.format(print.Formats...)
			if err != nil {
				return err
			}
			v, err := newView(actsTable(), strings.Join(args, " "), "", "")
			if err != nil {
				return a.doing("acts list", err)
			}
			e, hangUp, err := a.connect(cmd, "")
			if err != nil {
				return err
			}
			defer hangUp()
			s, err := a.snapshot(cmd.Context(), e)
			if err != nil {
				return err
			}
			rows, err := v.rows(s, a.Now())
			if err != nil {
				return err
			}
			if len(rows.Rows) == 0 && f == print.Text {
				a.say("no acts")
			}
			return rows.Write(a.Stdout, f, a.style())
		},
	}
}

func (a *app) actsShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "everything that is known of one act", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeRows(engine.TableActs),
		Example: `  provost acts show a17`,
		RunE:    func(cmd *cobra.Command, args []string) error { return a.describe(cmd, actsTable(), args[0]) },
	}
}

func (a *app) actsFollowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "follow ID", Short: "show how an act goes on, until it has ended", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeRows(engine.TableActs),
		Long:    `Ctrl+c stops following, not the act. Exit code 6 if only a part was done; the list is on standard output.`,
		Example: `  provost acts follow a17 --timeout 1h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, hangUp, err := a.connect(cmd, "")
			if err != nil {
				return err
			}
			defer hangUp()
			s, err := a.snapshot(cmd.Context(), e)
			if err != nil {
				return err
			}
			row, err := actsTable().Find(s, args[0])
			if err != nil {
				return a.doing("follow act", err)
			}
			return a.followAct(cmd.Context(), e, actsTable().ID(row), ended)
		},
	}
}

func (a *app) actsCancelCmd() *cobra.Command {
	var f actFlags
	c := &cobra.Command{
		Use: "cancel ID", Short: "end an act that is under way; the workers of a pause are resumed", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeRows(engine.TableActs),
		Example: `  provost acts cancel a17`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.act(cmd, nil, engine.CancelAct{ID: args[0]}, f, nil)
		},
	}
	f.add(c.Flags())
	return c
}

func (a *app) unlockCmd() *cobra.Command {
	var act engine.UnlockScreens
	c := &cobra.Command{
		Use: "unlock", Short: "let screens act for a while", Args: cobra.NoArgs,
		Long: `Screens may only look until they are unlocked, for a time and with a reason that is kept in the
journal. The lock holds for screens: a command gives its consent by naming the plan.`,
		Example: `  provost unlock --for 15m --reason "disk swap m18"`,
	}
	c.Flags().Var((*durationFlag)(&act.For), "for", "how long, as in 15m")
	c.Flags().StringVar(&act.Reason, "reason", "", "why; kept in the journal")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		err := a.complete(cmd, false,
			need{"for", "for how long (as in 15m)", act.For == 0, func(s string) error { return (*durationFlag)(&act.For).Set(s) }},
			need{"reason", "why (kept in the journal)", act.Reason == "", func(s string) error { act.Reason = s; return nil }})
		if err != nil {
			return err
		}
		return a.act(cmd, nil, act, actFlags{detach: true}, nil)
	}
	return c
}

func (a *app) lockCmd() *cobra.Command {
	return &cobra.Command{
		Use: "lock", Short: "let screens only look again", Args: cobra.NoArgs, Example: `  provost lock`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.act(cmd, nil, engine.LockScreens{}, actFlags{detach: true}, nil)
		},
	}
}

const alertHelp = `ID is as "get alerts -o wide" lists it; all means every open alert.`

func alertIDs(args []string) ([]string, error) {
	for _, id := range args {
		if strings.TrimSpace(id) == "" {
			return nil, usage("", "an alert's id is empty", "see provost get alerts -o wide")
		}
		if id == "all" && len(args) > 1 {
			return nil, usage("", "all stands beside ids", "write all alone, or ids")
		}
	}
	return args, nil
}

func (a *app) ackAlertCmd() *cobra.Command {
	return &cobra.Command{
		Use: "alert ID...", Short: "say that alerts were seen", Aliases: []string{"alerts"}, Args: cobra.MinimumNArgs(1), Long: alertHelp,
		Example: `  provost ack alert worker.down:worker/w1066
  provost ack alert all`,
		ValidArgsFunction: a.completeRows(engine.TableAlerts),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := alertIDs(args)
			if err != nil {
				return err
			}
			return a.act(cmd, nil, engine.AckAlerts{IDs: ids}, actFlags{detach: true}, nil)
		},
	}
}

func (a *app) muteAlertCmd() *cobra.Command {
	var act engine.MuteAlerts
	c := &cobra.Command{
		Use: "alert ID...", Short: "hide alerts for a while; they stay open", Aliases: []string{"alerts"}, Args: cobra.MinimumNArgs(1), Long: alertHelp,
		Example:           `  provost mute alert gpu.hot:gpu/m3/2 --for 1h`,
		ValidArgsFunction: a.completeRows(engine.TableAlerts),
	}
	c.Flags().Var((*durationFlag)(&act.For), "for", "how long, as in 1h")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ids, err := alertIDs(args)
		if err != nil {
			return err
		}
		act.IDs = ids
		if err := a.complete(cmd, false, need{"for", "for how long (as in 1h)", act.For == 0, func(s string) error { return (*durationFlag)(&act.For).Set(s) }}); err != nil {
			return err
		}
		return a.act(cmd, nil, act, actFlags{detach: true}, nil)
	}
	return c
}

func (a *app) hugepagesShowCmd() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "pools of every machine: total, used, free, reserved; by NUMA node", Args: cobra.NoArgs,
		Example: `  provost hugepages show
  provost hugepages show -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := a.asJSON(false)
			if err != nil {
				return err
			}
			e, hangUp, err := a.connect(cmd, "")
			if err != nil {
				return err
			}
			defer hangUp()
			s, err := a.snapshot(cmd.Context(), e)
			if err != nil {
				return err
			}
			if asJSON {
				return print.JSON(a.Stdout, print.HugepagesObject(s))
			}
			if s.Machines == nil {
				return fmt.Errorf("show hugepages: this engine reads no machine")
			}
			return print.Hugepages(a.Stdout, s, a.Now(), a.style())
		},
	}
}
