package cli

import (
	"fmt"
	"strconv"
	"strings"

	"app.provost/cmd/internal/print"
	"app.provost/engine"
	"app.provost/engine/flow"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) createClusterCmd() *cobra.Command {
	var act engine.CreateCluster
	var withdrawal, fee, amounts listFlag
	c := &cobra.Command{
		Use: "cluster", Short: "split new validator keys over nodes and write their directories",
		Long: `Everything is made on this machine and needs no engine. The directories are as Charon
writes them and run under either. Nothing is asked. They are written aside and renamed, so
that nothing half-done remains; a directory that is there already is not touched.
The flags have Charon's names, and its variables are read too (CHARON_NODES=4).`,
		Example: `  provost create cluster --name="mycluster" \
    --withdrawal-addresses="0x000000000000000000000000000000000000dead" \
    --fee-recipient-addresses="0x000000000000000000000000000000000000dead" \
    --nodes 6 --threshold 5
  provost create cluster --network hoodi --nodes 4 --num-validators 8 --cluster-dir ./test \
    --withdrawal-addresses 0x… --fee-recipient-addresses 0x…`,
		Args: cobra.NoArgs,
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringVar(&act.Name, "name", "", "name of the cluster")
	fl.StringVar(&act.Dir, "cluster-dir", ".charon/cluster", "directory to write the node directories to")
	fl.IntVar(&act.Nodes, "nodes", 0, "how many nodes, from 3")
	fl.IntVar(&act.Threshold, "threshold", 0, "how many of them make a signature (default: two thirds, rounded up)")
	fl.IntVar(&act.NumValidators, "num-validators", 1, "how many validators")
	fl.Var(&withdrawal, "withdrawal-addresses", "Ethereum addresses, by commas: one for all validators or one for each")
	fl.Var(&fee, "fee-recipient-addresses", "Ethereum addresses, by commas: one for all validators or one for each")
	fl.StringVar(&act.Network, "network", "mainnet", "mainnet, hoodi, sepolia, gnosis, chiado, …")
	fl.Var(&amounts, "deposit-amounts", "parts of the deposit in whole ETH, by commas (default: 32)")
	fl.BoolVar(&act.Compounding, "compounding", false, "compounding withdrawal credentials (0x02)")
	fl.Uint64Var(&act.TargetGasLimit, "target-gas-limit", 0, "gas limit of the builder registrations (default: 60000000)")
	fl.StringVar(&act.ConsensusProtocol, "consensus-protocol", "", "preferred consensus protocol: qbft")
	fl.BoolVar(&act.AllowLowThreshold, "allow-low-threshold", false, "allow a threshold below two thirds of the nodes")
	fl.BoolVar(&act.InsecureKeys, "insecure-keys", false, "weak keystores that are fast to open; test networks only")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.charonEnv(cmd.Flags()); err != nil {
			return err
		}
		if cmd.Flags().Changed("target-gas-limit") && act.TargetGasLimit == 0 {
			return usageField("target-gas-limit", "--target-gas-limit=0: blocks would be empty", "leave it out for 60000000")
		}
		if cmd.Flags().Changed("threshold") && act.Threshold == 0 {
			return usageField("threshold", "--threshold=0", "leave it out for two thirds of the nodes, rounded up")
		}
		act := act
		act.WithdrawalAddresses, act.FeeRecipientAddresses = withdrawal, fee
		for _, s := range amounts {
			n, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				return usageField("deposit-amounts", fmt.Sprintf("--deposit-amounts: %q", s), "want whole ETH by commas, as in 1,31")
			}
			act.DepositAmounts = append(act.DepositAmounts, n)
		}
		var flags []string
		for _, m := range []struct {
			flag string
			is   bool
		}{{"nodes", act.Nodes == 0}, {"withdrawal-addresses", len(act.WithdrawalAddresses) == 0}, {"fee-recipient-addresses", len(act.FeeRecipientAddresses) == 0}, {"cluster-dir", act.Dir == ""}} {
			if m.is {
				flags = append(flags, "--"+m.flag)
			}
		}
		if len(flags) > 0 {
			return usage("create cluster", "missing: "+strings.Join(flags, ", "), "see provost create cluster --help")
		}
		var err error
		if act.Dir, err = absolute(act.Dir); err != nil {
			return err
		}
		return a.oneShot(cmd, act, nil)
	}
	a.guided(c, flow.CreateCluster(), func(cmd *cobra.Command, act engine.Action) error { return a.oneShot(cmd, act, nil) })
	return c
}

// oneShot does an act that needs no engine.
func (a *app) oneShot(cmd *cobra.Command, act engine.Action, show func(engine.Receipt) error) error {
	if a.capture != nil {
		a.capture(act)
		return nil
	}
	if a.OneShot == nil {
		return notHere()
	}
	if show == nil {
		show = func(r engine.Receipt) error {
			r.Act = "" // there is no ledger to find it in
			if a.g.output == string(print.AJSON) {
				return print.JSON(a.Stdout, print.ReceiptObject(r))
			}
			return print.Receipt(a.Stdout, r, a.style())
		}
	}
	return a.act(cmd, a.OneShot(), act, actFlags{detach: true}, show)
}

// charonEnv reads Charon's variables for flags that were not given.
func (a *app) charonEnv(fl *pflag.FlagSet) error {
	var err error
	fl.VisitAll(func(f *pflag.Flag) {
		name := "CHARON_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		v, ok := a.env(name)
		if !ok || f.Changed || err != nil || a.capture != nil || persistentFlag(f.Name) {
			return
		}
		if serr := fl.Set(f.Name, v); serr != nil {
			err = usage("read environment", fmt.Sprintf("%s=%q: %v", name, v, serr), "correct the variable or unset it")
		}
	})
	return err
}

// persistentFlag tells whether a flag belongs to every command: Charon's
// CHARON_LOG_LEVEL and the like are not ours to read here.
func persistentFlag(name string) bool {
	var g globals
	fl := pflag.NewFlagSet("", pflag.ContinueOnError)
	g.add(fl)
	return fl.Lookup(name) != nil || name == "help" || name == "exit-code"
}

// listFlag is a list by commas; giving the flag again adds to it.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, ",") }

func (l *listFlag) Set(s string) error {
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			return fmt.Errorf("%q has an empty entry", s)
		}
		*l = append(*l, item)
	}
	return nil
}

func (*listFlag) Type() string { return "list" }

func (a *app) verifyClusterCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "cluster DIR", Short: "check every hash, signature, key, share and deposit of a cluster",
		Long: `DIR is a cluster (with node0, node1, … in it), one node directory, or one cluster-lock.json.
Each check has a name. Exit code 6 if one failed. Of more than 300 checks only those that did not
pass are listed, with --verbose all, with --quiet never the passed ones.`,
		Example: `  provost verify cluster .charon/cluster
  provost verify cluster ./node0 --json | jq '.checks[] | select(.status=="failed")'`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, as -o json")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		dir, err := absolute(args[0])
		if err != nil {
			return err
		}
		if dir == "" {
			return usage("verify cluster", "the directory is empty", "name a cluster, a node directory or a cluster-lock.json")
		}
		asJSON, err := a.asJSON(asJSON)
		if err != nil {
			return err
		}
		return a.oneShot(cmd, engine.VerifyCluster{Dir: dir}, func(r engine.Receipt) error {
			if asJSON {
				err = print.JSON(a.Stdout, print.ChecksObject(dir, r))
			} else {
				err = print.Checks(a.Stdout, r, a.g.verbose || !a.g.quiet && len(r.Checks) <= listedChecks, a.style())
			}
			if n := print.CountChecks(r.Checks).Failed; err == nil && n > 0 {
				return &engine.Problem{Code: engine.CodeClusterBroken, Exit: engine.ExitPartly, Doing: "verify cluster",
					Cause: fmt.Sprintf("%d of %d checks failed", n, len(r.Checks)), Remedy: "each is listed with what to do"}
			}
			return err
		})
	}
	return c
}

// listedChecks is up to how many checks are all named without --verbose; beyond it
// only those that did not pass are, so that a failure is not lost among thousands.
const listedChecks = 300
