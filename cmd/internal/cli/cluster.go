package cli

import (
	"errors"
	"fmt"
	"slices"
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
	var withdrawal, fee, amounts, managers listFlag
	var refused refusedFlags
	c := &cobra.Command{
		Use: "cluster", Short: "make validator keys or split existing ones over nodes, and write their directories",
		Long: `Everything is made on this machine and needs no engine. The directories are as Charon
writes them and run under either. With the flags that it needs, nothing is asked. They are
written aside, checked and renamed, so that nothing half-done remains; a directory that is
there already is not touched. Ctrl-C leaves nothing behind.
The flags have Charon's names, and its variables are read too (CHARON_NODES=4).

A definition file says all that --nodes, --num-validators, --network, the addresses and the
like say; a flag that says otherwise is refused. --definition-out writes the definition of
what was made.

Existing keys are keystores of any client (EIP-2335). The order of validators, and so of
addresses, is that of the numbers in the keystores' names (keystore-0.json, …), else of those
in their derivation paths, else of their names; the plan lists it by public key. Passwords
are looked for in a .txt file of the keystore's name, in a file named after the public key
(secrets/0x…), else in every .txt file. Stop the old validator client first, export its
slashing protection, and let two finalized epochs pass before a new node starts.

Key shares for keymanagers are not written to the disk. Their tokens are in a file that only
you may read, one a line; never in a flag. Charon's --publish, --publish-address and
--execution-client-rpc-endpoint are not here: nothing is uploaded or asked elsewhere.`,
		Example: `  provost create cluster --name="mycluster" \
    --withdrawal-addresses="0x000000000000000000000000000000000000dead" \
    --fee-recipient-addresses="0x000000000000000000000000000000000000dead" \
    --nodes 6 --threshold 5
  provost create cluster --network hoodi --nodes 4 --num-validators 8 --cluster-dir ./test \
    --withdrawal-addresses 0x… --fee-recipient-addresses 0x…
  provost create cluster --definition-file https://example.org/cluster-definition.json
  provost create cluster --nodes 4 --network hoodi --withdrawal-addresses 0x… \
    --fee-recipient-addresses 0x… --split-existing-keys --split-keys-dir ./old/validator_keys \
    --slashing-history ./old/slashing_protection.json
  provost create cluster --nodes 4 --network hoodi --withdrawal-addresses 0x… \
    --fee-recipient-addresses 0x… --keymanager-auth-tokens-file ./tokens \
    --keymanager-addresses https://vc0:5062,https://vc1:5062,https://vc2:5062,https://vc3:5062`,
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
	fl.StringVar(&act.Network, "network", "mainnet", "mainnet, hoodi, sepolia, gnosis, chiado")
	fl.Var(&amounts, "deposit-amounts", "parts of the deposit in whole ETH, by commas (default: 1,32; compounding 1,8,32,256)")
	fl.BoolVar(&act.Compounding, "compounding", false, "compounding withdrawal credentials (0x02)")
	fl.Uint64Var(&act.TargetGasLimit, "target-gas-limit", 0, "gas limit of the builder registrations (default: 60000000)")
	fl.StringVar(&act.ConsensusProtocol, "consensus-protocol", "", "preferred consensus protocol: qbft")
	fl.BoolVar(&act.AllowLowThreshold, "allow-low-threshold", false, "allow a threshold below two thirds of the nodes")
	fl.BoolVar(&act.InsecureKeys, "insecure-keys", false, "weak keystores that are fast to open; test networks only")
	fl.StringVar(&act.LockVersion, "lock-version", "", "format of the lock: v1.10.0, which every Charon since v1.3.0 reads, or v1.11.0 (default: v1.10.0)")
	fl.BoolVar(&act.Zipped, "zipped", false, "write one cluster.tar.gz instead of directories")

	fl.StringVar(&act.DefinitionFile, "definition-file", "", "cluster-definition.json, or its https:// address, to make the cluster of")
	fl.StringVar(&act.DefinitionOut, "definition-out", "", "new file for the definition of the cluster that was made")
	group(fl, "Definition file", "definition-file", "definition-out")

	fl.StringVar(&act.TestnetName, "testnet-name", "", "name of a test network that --network doesn't know")
	fl.StringVar(&act.TestnetForkVersion, "testnet-fork-version", "", "its genesis fork version, as in 0x10000038")
	fl.Uint64Var(&act.TestnetChainID, "testnet-chain-id", 0, "its chain id")
	fl.Int64Var(&act.TestnetGenesisTimestamp, "testnet-genesis-timestamp", 0, "when it begins, in seconds since 1970")
	group(fl, "Test network of your own (all four)", "testnet-name", "testnet-fork-version", "testnet-chain-id", "testnet-genesis-timestamp")

	fl.BoolVar(&act.SplitExistingKeys, "split-existing-keys", false, "split existing keys instead of making new ones")
	fl.StringVar(&act.SplitKeysDir, "split-keys-dir", "", "directory to search for their keystores")
	fl.StringVar(&act.SplitPasswordsFile, "split-passwords-file", "", "file of mode 0600 with one password for all keystores, or one a line in their order")
	fl.StringVar(&act.SlashingHistory, "slashing-history", "", "what the old validators signed: the file (EIP-3076) that the old client exports")
	fl.StringVar(&act.NoSlashingHistory, "no-slashing-history", "", fmt.Sprintf("confirms, in these words, that there is none: %q", noHistoryPhrase))
	group(fl, "Existing keys", "split-existing-keys", "split-keys-dir", "split-passwords-file", "slashing-history", "no-slashing-history")

	fl.Var(&managers, "keymanager-addresses", "validator clients that take the key shares, by commas, one for each node")
	fl.StringVar(&act.KeymanagerTokensFile, "keymanager-auth-tokens-file", "", "file of mode 0600 with their tokens, one a line")
	group(fl, "Validator clients", "keymanager-addresses", "keymanager-auth-tokens-file")
	refused.add(fl)

	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.charonEnv(cmd.Flags()); err != nil {
			return err
		}
		if err := refused.err(); err != nil {
			return err
		}
		for _, z := range []struct {
			flag, cause, remedy string
			is                  bool
		}{
			{"target-gas-limit", "--target-gas-limit=0: blocks would be empty", "leave it out for 60000000", act.TargetGasLimit == 0},
			{"threshold", "--threshold=0", "leave it out for two thirds of the nodes, rounded up", act.Threshold == 0},
			{"num-validators", "--num-validators=0: there would be nothing to run", "leave it out for 1", act.NumValidators == 0},
			{"testnet-chain-id", "--testnet-chain-id=0", "give the chain id of the network's configuration", act.TestnetChainID == 0},
			{"testnet-genesis-timestamp", "--testnet-genesis-timestamp=0", "give the seconds since 1970 of the network's configuration", act.TestnetGenesisTimestamp == 0},
		} {
			if z.is && cmd.Flags().Changed(z.flag) {
				return usageField(z.flag, z.cause, z.remedy)
			}
		}
		act := act
		act.WithdrawalAddresses, act.FeeRecipientAddresses, act.KeymanagerAddresses = withdrawal, fee, managers
		for _, s := range amounts {
			n, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				return usageField("deposit-amounts", fmt.Sprintf("--deposit-amounts: %q", s), "want whole ETH by commas, as in 1,31")
			}
			act.DepositAmounts = append(act.DepositAmounts, n)
		}
		// What a file or another flag says has no default.
		defines := act.DefinitionFile != ""
		if (defines || act.SplitExistingKeys) && !cmd.Flags().Changed("num-validators") {
			act.NumValidators = 0
		}
		testnet := act.TestnetName != "" || act.TestnetForkVersion != "" || act.TestnetChainID != 0 || act.TestnetGenesisTimestamp != 0
		if (defines || testnet) && !cmd.Flags().Changed("network") {
			act.Network = ""
		}
		for _, path := range []*string{&act.Dir, &act.DefinitionFile, &act.DefinitionOut, &act.SplitKeysDir, &act.SplitPasswordsFile, &act.SlashingHistory, &act.KeymanagerTokensFile} {
			if path == &act.DefinitionFile && strings.Contains(*path, "://") {
				continue
			}
			var err error
			if *path, err = absolute(*path); err != nil {
				return err
			}
		}
		var missing []string
		for _, m := range []struct {
			flag string
			is   bool
		}{{"nodes", act.Nodes == 0 && !defines}, {"withdrawal-addresses", len(act.WithdrawalAddresses) == 0 && !defines},
			{"fee-recipient-addresses", len(act.FeeRecipientAddresses) == 0 && !defines}, {"cluster-dir", act.Dir == ""}} {
			if m.is {
				missing = append(missing, m.flag)
			}
		}
		if len(missing) > 0 {
			return a.incomplete(cmd, act, missing)
		}
		return a.oneShot(cmd, act, nil)
	}
	a.guided(c, flow.CreateCluster(), func(cmd *cobra.Command, act engine.Action) error { return a.oneShot(cmd, act, nil) })
	return c
}

// noHistoryPhrase is what has to be written out to split keys without a slashing history. The engine
// compares it; a test holds both to the same words.
const noHistoryPhrase = "there is no history and the old validator stays off"

// incomplete lists the flags that are missing and, with them, whatever else is wrong.
func (a *app) incomplete(cmd *cobra.Command, act engine.Action, missing []string) error {
	all := usage(act.Doing(), "missing: --"+strings.Join(missing, ", --"), "see provost "+words(cmd)+" --help")
	if a.capture != nil || a.OneShot == nil {
		return all
	}
	_, err := a.OneShot().Preview(cmd.Context(), engine.Request{Key: engine.NewKey(), Action: act})
	var p *engine.Problem
	if errors.As(err, &p) {
		for _, one := range append([]engine.Problem{*p}, p.More...) {
			if one.Field != "" && !slices.Contains(missing, one.Field) {
				one.More = nil
				all.More = append(all.More, one)
			}
		}
	}
	return all
}

// refusedFlags are flags of Charon that are understood in order to be refused with a reason.
type refusedFlags struct {
	tokens, publish, publishAddress, rpc refusedFlag
}

// refusedFlag keeps no value: it may be a secret.
type refusedFlag struct {
	given bool
	kind  string
}

func (f *refusedFlag) String() string     { return "" }
func (f *refusedFlag) Set(s string) error { f.given = s != "false"; return nil }
func (f *refusedFlag) Type() string       { return f.kind }
func (f *refusedFlag) IsBoolFlag() bool   { return f.kind == "bool" }

func (r *refusedFlags) add(fl *pflag.FlagSet) {
	r.publish.kind = "bool"
	for _, f := range []struct {
		name string
		at   *refusedFlag
	}{{"keymanager-auth-tokens", &r.tokens}, {"publish", &r.publish}, {"publish-address", &r.publishAddress}, {"execution-client-rpc-endpoint", &r.rpc}} {
		if f.at.kind == "" {
			f.at.kind = "text"
		}
		flag := fl.VarPF(f.at, f.name, "", "refused, with the reason")
		flag.Hidden = true
		if f.at.kind == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

func (r *refusedFlags) err() error {
	switch {
	case r.tokens.given:
		return usageField("keymanager-auth-tokens", "--keymanager-auth-tokens: every user of this machine can read the arguments and variables of a process",
			"write the tokens into a file, one a line, chmod 600 it and give --keymanager-auth-tokens-file; ask the validator clients for new tokens")
	case r.publish.given:
		return usageField("publish", "--publish: provost uploads nothing", "leave it out; the lock is cluster-lock.json in every node directory")
	case r.rpc.given:
		return usageField("execution-client-rpc-endpoint", "--execution-client-rpc-endpoint: signatures of contract wallets aren't checked here", "leave it out; a definition whose creator signed with an ordinary wallet, or not at all, needs none")
	}
	return nil
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
	return a.act(cmd, a.OneShot(), act, actFlags{detach: true, alone: true}, show)
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
		Long: `DIR is a cluster (with node0, node1, … in it), one node directory, a cluster.tar.gz, one
cluster-lock.json or one cluster-definition.json. Nothing is changed.
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
			return usage("verify cluster", "the directory is empty", "name a cluster, a node directory, a lock or a definition")
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
