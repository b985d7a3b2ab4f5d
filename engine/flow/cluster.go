package flow

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"app.provost/cluster"
	"app.provost/engine"
)

// CreateClusterID names the flow of "provost create cluster".
const CreateClusterID ID = "create cluster"

const minNodes = 3

// CreateCluster is the flow that makes a distributed-validator cluster. It asks for no
// passphrase: the layout of the directories has a password file beside each keystore.
func CreateCluster() Flow {
	return Flow{
		ID: CreateClusterID, Title: "Create a cluster",
		Needs: "an address for withdrawals, whose key you hold, and one for fees, or a definition file; a disk that is yours alone",
		Makes: "key shares for each node, a lock file and deposit data, on this machine; nothing is sent out, but to keymanagers that you name",
		Takes: "about 5 minutes; nothing is written before you agree at the end",
		Steps: []Step{
			clusterNetwork(), clusterNodes(), clusterValidators(), clusterAddresses(), clusterPlace(), clusterAdvanced(),
		},
		Consent: func(a Answers) string { return "create " + clusterName(a) },
		Given: func(a Answers) Answers {
			for _, k := range []Key{"testnet-name", "testnet-fork-version", "testnet-chain-id", "testnet-genesis-timestamp"} {
				if a[k] != "" && a["network"] == "" {
					a = a.Clone()
					a["network"] = customNetwork
				}
			}
			return a
		},
		Build: buildCluster,
	}
}

// clusterName is the name, or what its directory is called.
func clusterName(a Answers) string {
	if n := a["name"]; n != "" {
		return n
	}
	if d := a["cluster-dir"]; d != "" {
		return filepath.Base(d)
	}
	return "cluster"
}

// customNetwork is the choice of a test network that has no name here. It is not a value of
// --network: the four flags of the test network take its place.
const customNetwork = "custom"

func defined(a Answers) bool    { return a["definition-file"] != "" }
func notDefined(a Answers) bool { return !defined(a) }
func splitting(a Answers) bool  { return a.Yes("split-existing-keys") }
func custom(a Answers) bool     { return a["network"] == customNetwork }

func clusterNetwork() Step {
	return Step{ID: "network", Title: "network and name", Intro: "Which chain the validators are for, and what the cluster is called.",
		Fields: []Field{
			{
				Key: "definition-file", Title: "Definition file", Kind: File, Optional: true, Example: "./cluster-definition.json",
				Help: "A cluster-definition.json, or its https:// address, that says all about the cluster already. Leave it empty to answer here.",
				Check: func(v string, _ Answers) error {
					if !strings.Contains(v, "/") && !strings.HasSuffix(v, ".json") {
						return fmt.Errorf("%s: want a path or an https:// address, as in ./cluster-definition.json; leave it empty to answer here", cut(v))
					}
					return nil
				},
			},
			{
				Key: "network", Title: "Network", Kind: Choice, Example: "hoodi", When: notDefined,
				Idle:    "the definition file names the network",
				Help:    "The chain of the deposits. It cannot be changed later: keys, deposits and lock are bound to it.",
				Options: func(Facts, Answers) []Option { return networks() },
				Default: func(Facts, Answers) string { return "mainnet" },
				Note: func(v string, _ Answers) string {
					if n, ok := cluster.NetworkByName(v); ok && n.HoldsValue {
						return "real money is at stake; prefer a machine that is offline"
					}
					return ""
				},
			},
			{
				Key: "testnet-name", Title: "Its name", Kind: Text, Example: "my-devnet", When: custom, Idle: idleTestnet,
				Help: "What the test network is called in deposit files.",
				Check: func(v string, _ Answers) error {
					if n, ok := cluster.NetworkByName(v); ok {
						return fmt.Errorf("%s is a known network: choose it by its name, or another name, as in my-devnet", n.Name)
					}
					if len(v) > 64 || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
						return fmt.Errorf("%s: want a word of at most 64 plain characters, as in my-devnet", cut(v))
					}
					return nil
				},
			},
			{
				Key: "testnet-fork-version", Title: "Fork version", Kind: Text, Example: "0x10000038", When: custom, Idle: idleTestnet,
				Help: "Its genesis fork version. Deposits are bound to it.",
				Check: func(v string, _ Answers) error {
					digits := strings.TrimPrefix(v, "0x")
					if len(digits) != 8 || strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
						return fmt.Errorf("%s: want 0x and 8 hex digits, as in 0x10000038", cut(v))
					}
					for _, n := range cluster.Networks() {
						if strings.EqualFold(n.Fork.String(), "0x"+digits) {
							return fmt.Errorf("%s is that of %s, where these deposits would count: choose %s if you mean it", v, n.Name, n.Name)
						}
					}
					return nil
				},
			},
			{
				Key: "testnet-chain-id", Title: "Chain id", Kind: Number, Example: "3151908", When: custom, Idle: idleTestnet,
				Help:  "Its chain id on the execution layer.",
				Check: within(1, 1<<63-1, "3151908"),
			},
			{
				Key: "testnet-genesis-timestamp", Title: "Genesis time", Kind: Number, Example: "1742213400", When: custom, Idle: idleTestnet,
				Help:  "When it begins, in seconds since 1970.",
				Check: within(1_500_000_000, 1<<33, "1742213400"),
			},
			{
				Key: "name", Title: "Name", Kind: Text, Optional: true, Example: "mycluster", Check: plainName,
				Help: "What people call the cluster. It stands in the lock file and means nothing to the chain.",
			},
		}}
}

const idleTestnet = "it belongs to a network that has no name here: answer network with custom"

func networks() []Option {
	var out []Option
	for _, n := range cluster.Networks() {
		o := Option{Value: n.Name, Title: n.Name, Note: "test network"}
		if n.HoldsValue {
			o.Note = "real money"
		}
		if n.CreationClosed {
			continue
		}
		out = append(out, o)
	}
	return append(out, Option{Value: customNetwork, Title: customNetwork, Note: "a test network of your own"})
}

func clusterNodes() Step {
	nodes := func(a Answers) int { return a.intOf("nodes") }
	low := func(a Answers) bool {
		n, t := nodes(a), a.intOf("threshold")
		return n >= minNodes && t >= 2 && cluster.Threshold(t).Low(n)
	}
	return Step{ID: "nodes", Title: "nodes and threshold", Intro: "How many nodes hold a share of each key, and how many of them it takes to sign. This cannot be changed later without new shares for every node.",
		Table: func(_ Facts, a Answers) [][]string { return thresholdTable(nodes(a), a.intOf("threshold")) },
		Fields: []Field{
			{
				Key: "nodes", Title: "Nodes", Kind: Number, Example: "4", When: notDefined, Idle: idleDefined,
				Help:  fmt.Sprintf("How many nodes the cluster has, %d or more. Each is run by its own operator, on its own machine.", minNodes),
				Check: within(minNodes, cluster.MaxOperators, "4"),
				Note: func(v string, _ Answers) string {
					n := Answers{"nodes": v}.intOf("nodes")
					if n%3 == 1 {
						return ""
					}
					f := cluster.DefaultThreshold(n).MayBeDown(n)
					if m := n - 1; m >= minNodes && cluster.DefaultThreshold(m).MayBeDown(m) == f {
						return fmt.Sprintf("%s may be down, as of %d nodes", plural(f, "node"), m)
					}
					return ""
				},
			},
			{
				Key: "threshold", Title: "Threshold", Kind: Number, Example: "3", When: notDefined, Idle: idleDefined,
				Help: "How many nodes must sign together. Two thirds, rounded up, is the right answer almost always.",
				Default: func(_ Facts, a Answers) string {
					if n := nodes(a); n >= minNodes {
						return strconv.Itoa(int(cluster.DefaultThreshold(n)))
					}
					return ""
				},
				Check: func(v string, a Answers) error {
					n := nodes(a)
					if n < minNodes {
						_, err := number(v, 2, cluster.MaxOperators, "3")
						return err
					}
					def := cluster.DefaultThreshold(n)
					t, err := number(v, 0, cluster.MaxOperators, strconv.Itoa(int(def)))
					switch {
					case err != nil:
						return err
					case t < 2:
						return fmt.Errorf("%d: a single node could sign alone: want at least 2, as in %d", t, def)
					case t > uint64(n):
						return fmt.Errorf("%d: %d nodes never give %d signatures: want at most %d, as in %d", t, n, t, n, def)
					}
					return nil
				},
				Note: func(v string, a Answers) string {
					n, t := nodes(a), Answers{"t": v}.intOf("t")
					if n < minNodes || t < 2 || t > n {
						return ""
					}
					return mayBeDown(cluster.Threshold(t).MayBeDown(n)) + "; " + thresholdNote(n, t)
				},
			},
			{
				Key: "allow-low-threshold", Title: "Allow a low threshold", Kind: Bool,
				When: func(a Answers) bool { return defined(a) || low(a) }, Idle: "the threshold is two thirds or more",
				Help:    "Below two thirds, fewer nodes than consensus needs can sign on their own, and sign what the cluster never agreed on.",
				Default: func(Facts, Answers) string { return "false" },
				Check: func(v string, a Answers) error {
					if v == "true" || !low(a) {
						return nil
					}
					return fmt.Errorf("then the threshold has to be %d or more: go back and change it", cluster.DefaultThreshold(nodes(a)))
				},
			},
		}}
}

const idleDefined = "the definition file says it"

// thresholdTable compares thresholds; the chosen one, or the default, is marked.
func thresholdTable(n, chosen int) [][]string {
	if n < minNodes || n > cluster.MaxOperators {
		return nil
	}
	def := int(cluster.DefaultThreshold(n))
	if chosen < 2 || chosen > n {
		chosen = def
	}
	out := [][]string{{"", "T", "MAY BE DOWN", "COLLUDERS NEEDED", "NOTE"}}
	for t := 2; t <= n; t++ {
		if n > 9 && t != 2 && t != n && t != chosen && (t < def-1 || t > def+2) {
			continue
		}
		mark := ""
		if t == chosen {
			mark = ">"
		}
		out = append(out, []string{mark, strconv.Itoa(t), strconv.Itoa(cluster.Threshold(t).MayBeDown(n)), strconv.Itoa(t), thresholdNote(n, t)})
	}
	return out
}

func thresholdNote(n, t int) string {
	def := int(cluster.DefaultThreshold(n))
	switch {
	case t < def:
		return fmt.Sprintf("%d could sign on their own: not advised", t)
	case t == n:
		return "one outage stops signing"
	case t == def:
		return "two thirds, rounded up"
	}
	return "safer against collusion, less against outages"
}

func mayBeDown(n int) string {
	switch n {
	case 0:
		return "no node may be down"
	case 1:
		return "1 node may be down"
	}
	return strconv.Itoa(n) + " nodes may be down"
}

// noHistoryPhrase is what has to be typed to split keys of which nothing is known.
const noHistoryPhrase = "there is no history and the old validator stays off"

func clusterValidators() Step {
	const idleSplit = "it belongs to existing keys: answer split-existing-keys with yes"
	return Step{ID: "validators", Title: "validators", Intro: "How many validators, with new keys or existing ones, and how their deposits are made.",
		Fields: []Field{
			{
				Key: "split-existing-keys", Title: "Split existing keys", Kind: Bool,
				Help:    "Yes: validators that run already get new key shares; their old client has to stay off for ever. No: new keys are made.",
				Default: func(Facts, Answers) string { return "false" },
			},
			{
				Key: "split-keys-dir", Title: "Their keystores", Kind: File, Example: "./old/validator_keys", When: splitting, Idle: idleSplit,
				Help: "The directory with their keystores (EIP-2335), of any client. It is searched with all below it.",
			},
			{
				Key: "split-passwords-file", Title: "Their passwords", Kind: SecretFile, Optional: true, Example: "./old/passwords.txt", When: splitting, Idle: idleSplit,
				Help: "One password for all keystores, or one a line in their order. Leave it empty to look for them beside the keystores.",
			},
			{
				Key: "slashing-history", Title: "Their history", Kind: File, Optional: true, Example: "./old/slashing_protection.json", When: splitting, Idle: idleSplit,
				Help: "What the old validators have signed: stop the old client and export its slashing protection (EIP-3076). Without it they may be slashed.",
			},
			{
				Key: "no-slashing-history", Title: "No history", Kind: Phrase, Idle: "there is a history, or no existing keys are split",
				When:   func(a Answers) bool { return splitting(a) && a["slashing-history"] == "" },
				Phrase: func(Answers) string { return noHistoryPhrase },
				Help:   "Without the history nobody knows what they have signed. If the old client ever signs again, they are slashed.",
			},
			{
				Key: "num-validators", Title: "Validators", Kind: Number, Example: "1",
				When: func(a Answers) bool { return !defined(a) && !splitting(a) }, Idle: "the existing keys or the definition file say how many there are",
				Help:    "How many validator keys are made. More can come later only as another cluster.",
				Default: func(Facts, Answers) string { return "1" },
				Check:   within(1, cluster.MaxValidators, "1"),
				Note: func(v string, _ Answers) string {
					n := Answers{"n": v}.intOf("n")
					return fmt.Sprintf("at least %d ETH to deposit", 32*n)
				},
			},
			{
				Key: "compounding", Title: "Compounding", Kind: Bool, When: notDefined, Idle: idleDefined,
				Help:    "Yes: 0x02 credentials, rewards add to the balance, up to 2048 ETH for a validator. No: 0x01, rewards are paid out by themselves.",
				Default: func(Facts, Answers) string { return "false" },
			},
			{
				Key: "deposit-amounts", Title: "Deposit amounts", Kind: List, Optional: true, Example: "1,31", When: notDefined, Idle: idleDefined,
				Help:  "Parts that each validator's deposit is made in, in whole ETH, by commas. Leave it empty for files of the usual amounts.",
				Check: depositAmounts,
			},
		}}
}

func depositAmounts(v string, a Answers) error {
	most := uint64(32)
	if a.Yes("compounding") {
		most = 2048
	}
	all := Answers{"": v}.Items("")
	if len(all) > 256 {
		return fmt.Errorf("%d amounts: want at most 256, as in 1,31", len(all))
	}
	sum := uint64(0)
	for _, s := range all {
		n, err := number(s, 1, most, "1,31")
		if err != nil {
			return err
		}
		sum += n
	}
	if sum < 32 {
		return fmt.Errorf("%d ETH together: a validator needs 32, as in 1,31", sum)
	}
	return nil
}

func clusterAddresses() Step {
	return Step{ID: "addresses", Title: "addresses", Intro: "Where stake and rewards go. Use addresses whose keys you hold yourself.",
		When: notDefined,
		Fields: []Field{
			{
				Key: "withdrawal-addresses", Title: "Withdrawal address", Kind: List, Twice: true, Example: exampleAddress, Check: addresses, Note: noteAddresses, Idle: idleDefined,
				Help: "Where stake and rewards are paid out. It cannot be changed after the deposit. One for all validators, or one for each, by commas.",
			},
			{
				Key: "fee-recipient-addresses", Title: "Fee recipient", Kind: List, Example: exampleAddress, Check: addresses, Note: noteAddresses, Idle: idleDefined,
				Help:    "Where the fees of proposed blocks go. It can be changed later. One for all validators, or one for each, by commas.",
				Default: func(_ Facts, a Answers) string { return a["withdrawal-addresses"] }, Offered: true,
			},
		}}
}

func clusterPlace() Step {
	return Step{ID: "place", Title: "where to", Intro: "The node directories are written aside and put in place in one step. Each node's directory belongs to its operator alone.",
		Fields: []Field{
			{
				Key: "cluster-dir", Title: "Directory", Kind: NewDir, Example: ".charon/cluster",
				Help:    "A directory that is not there yet, or is empty. What is there is never overwritten.",
				Default: func(Facts, Answers) string { return ".charon/cluster" },
			},
			{
				Key: "keymanager-addresses", Title: "Keymanagers", Kind: List, Optional: true, Example: "https://vc0.example:5062,https://vc1.example:5062,https://vc2.example:5062",
				Help:  "Validator clients that take the key shares instead of files, by commas, one for each node, node 0 first. Leave it empty to write files.",
				Check: keymanagers,
			},
			{
				Key: "keymanager-auth-tokens-file", Title: "Their tokens", Kind: SecretFile, Example: "./tokens", Idle: "there are no keymanagers",
				When: func(a Answers) bool { return a["keymanager-addresses"] != "" },
				Help: "A file of mode 0600 with their tokens, one a line, in the order of the addresses.",
				Secrets: func(a Answers) []string {
					var out []string
					for i, addr := range a.Items("keymanager-addresses") {
						out = append(out, fmt.Sprintf("token of node %d at %s", i, addr))
					}
					return out
				},
			},
			{
				Key: "zipped", Title: "Zipped", Kind: Bool,
				Help:    "Yes: one cluster.tar.gz instead of directories.",
				Default: func(Facts, Answers) string { return "false" },
			},
			{
				Key: "definition-out", Title: "Definition", Kind: NewDir, Optional: true, Example: "./cluster-definition.json",
				Help: "A new file for the definition of what was made, to make the like again. Leave it empty for none.",
			},
		}}
}

func keymanagers(v string, a Answers) error {
	all := Answers{"": v}.Items("")
	for i, s := range all {
		u, err := url.Parse(s)
		if !passwordIn(s, u) && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return fmt.Errorf("%s: want an address, as in https://vc0.example:5062", cutURL(s))
		}
		if passwordIn(s, u) {
			return fmt.Errorf("entry %d: a user name or password has no place in an address: want one as in https://vc0.example:5062", i+1)
		}
		if slices.Contains(all[:i], s) {
			return fmt.Errorf("%s stands twice: two shares of a key must not lie on one machine", cut(s))
		}
	}
	if n := a.intOf("nodes"); n > 0 && len(all) != n {
		return fmt.Errorf("%s for %s: want one for each node, node 0 first", addressCount(len(all)), plural(n, "node"))
	}
	return nil
}

func addressCount(n int) string {
	if n == 1 {
		return "1 address"
	}
	return fmt.Sprintf("%d addresses", n)
}

func clusterAdvanced() Step {
	return Step{ID: "advanced", Title: "rarely changed", Intro: "The usual values are right for nearly everybody.",
		Fields: []Field{
			{
				Key: "target-gas-limit", Title: "Target gas limit", Kind: Number, Optional: true, Example: "60000000", When: notDefined, Idle: idleDefined,
				Help:  "The gas limit that builder registrations ask for. Leave it empty for 60000000.",
				Check: within(5000, 1<<63-1, "60000000"),
			},
			{
				Key: "consensus-protocol", Title: "Consensus protocol", Kind: Choice, Optional: true, Example: "qbft", When: notDefined, Idle: idleDefined,
				Help:    "How nodes agree on what to sign. Leave it empty to let them choose.",
				Options: func(Facts, Answers) []Option { return []Option{{Value: "qbft", Title: "qbft"}} },
			},
			{
				Key: "lock-version", Title: "Lock version", Kind: Choice, Optional: true, Example: "v1.10.0", When: notDefined, Idle: idleDefined,
				Help: "The format of the lock file. Leave it empty for v1.10.0.",
				Options: func(Facts, Answers) []Option {
					return []Option{{Value: "v1.10.0", Title: "v1.10.0", Note: "every Charon since v1.3.0 reads it"}, {Value: "v1.11.0", Title: "v1.11.0", Note: "the newest"}}
				},
			},
			{
				Key: "insecure-keys", Title: "Insecure keys", Kind: Bool,
				Help:    "Keystores that open fast and that anybody can open. For tests and practice only.",
				Default: func(Facts, Answers) string { return "false" },
				When: func(a Answers) bool {
					n, ok := cluster.NetworkByName(a["network"])
					return !ok || !n.HoldsValue
				},
				Idle: "money is at stake on this network, so keystores that anybody can open are refused",
			},
		}}
}

func buildCluster(a Answers) (engine.Action, error) {
	network := a["network"]
	if network == customNetwork {
		network = ""
	}
	act := engine.CreateCluster{
		Name: a["name"], Dir: a["cluster-dir"], Nodes: a.intOf("nodes"), Threshold: a.intOf("threshold"), NumValidators: a.intOf("num-validators"),
		WithdrawalAddresses: a.Items("withdrawal-addresses"), FeeRecipientAddresses: a.Items("fee-recipient-addresses"),
		Network: network, Compounding: a.Yes("compounding"), ConsensusProtocol: a["consensus-protocol"],
		AllowLowThreshold: a.Yes("allow-low-threshold"), InsecureKeys: a.Yes("insecure-keys"), LockVersion: a["lock-version"],
		TestnetName: a["testnet-name"], TestnetForkVersion: a["testnet-fork-version"],
		DefinitionFile: a["definition-file"], DefinitionOut: a["definition-out"],
		SplitExistingKeys: splitting(a), SplitKeysDir: a["split-keys-dir"], SplitPasswordsFile: a["split-passwords-file"],
		SlashingHistory: a["slashing-history"], NoSlashingHistory: a["no-slashing-history"],
		KeymanagerAddresses: a.Items("keymanager-addresses"), KeymanagerTokensFile: a["keymanager-auth-tokens-file"], Zipped: a.Yes("zipped"),
	}
	if s := a["testnet-chain-id"]; s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return nil, wrong("create cluster", "testnet-chain-id", fmt.Sprintf("--testnet-chain-id: %q", s), "give the chain id of the network's configuration")
		}
		act.TestnetChainID = n
	}
	if s := a["testnet-genesis-timestamp"]; s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, wrong("create cluster", "testnet-genesis-timestamp", fmt.Sprintf("--testnet-genesis-timestamp: %q", s), "give the seconds since 1970 of the network's configuration")
		}
		act.TestnetGenesisTimestamp = n
	}
	for _, s := range a.Items("deposit-amounts") {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return nil, wrong("create cluster", "deposit-amounts", fmt.Sprintf("--deposit-amounts: %q", s), "want whole ETH by commas, as in 1,31")
		}
		act.DepositAmounts = append(act.DepositAmounts, n)
	}
	if s := a["target-gas-limit"]; s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil || n == 0 {
			return nil, wrong("create cluster", "target-gas-limit", "--target-gas-limit="+strings.TrimSpace(s), "leave it out for 60000000")
		}
		act.TargetGasLimit = n
	}
	return act, nil
}

func wrong(doing, field, cause, remedy string) *engine.Problem {
	return &engine.Problem{Code: engine.CodeClusterParams, Exit: engine.ExitUsage, Doing: doing, Field: field, Cause: cause, Remedy: remedy}
}
