package flow

import (
	"fmt"
	"path/filepath"
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
		Needs: "an address for withdrawals, whose key you hold, and one for fees; a disk that is yours alone",
		Makes: "key shares for each node, a lock file and deposit data, on this machine; nothing is sent out",
		Takes: "about 5 minutes; nothing is written before you agree at the end",
		Steps: []Step{
			clusterNetwork(), clusterNodes(), clusterValidators(), clusterAddresses(), clusterPlace(), clusterAdvanced(),
		},
		Consent: func(a Answers) string { return "create " + clusterName(a) },
		Build:   buildCluster,
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

func clusterNetwork() Step {
	return Step{ID: "network", Title: "network and name", Intro: "Which chain the validators are for, and what the cluster is called.",
		Fields: []Field{
			{
				Key: "network", Title: "Network", Kind: Choice, Example: "hoodi",
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
				Key: "name", Title: "Name", Kind: Text, Optional: true, Example: "mycluster", Check: plainName,
				Help: "What people call the cluster. It stands in the lock file and means nothing to the chain.",
			},
		}}
}

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
	return out
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
				Key: "nodes", Title: "Nodes", Kind: Number, Example: "4",
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
				Key: "threshold", Title: "Threshold", Kind: Number, Example: "3",
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
				Key: "allow-low-threshold", Title: "Allow a low threshold", Kind: Bool, When: low,
				Help:    "Below two thirds, fewer nodes than consensus needs can sign on their own, and sign what the cluster never agreed on.",
				Default: func(Facts, Answers) string { return "false" },
				Check: func(v string, a Answers) error {
					if v == "true" {
						return nil
					}
					return fmt.Errorf("then the threshold has to be %d or more: go back and change it", cluster.DefaultThreshold(nodes(a)))
				},
			},
		}}
}

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

func clusterValidators() Step {
	return Step{ID: "validators", Title: "validators", Intro: "How many validators, and how their deposits are made.",
		Fields: []Field{
			{
				Key: "num-validators", Title: "Validators", Kind: Number, Example: "1",
				Help:    "How many validator keys are made. More can come later only as another cluster.",
				Default: func(Facts, Answers) string { return "1" },
				Check:   within(1, cluster.MaxValidators, "1"),
				Note: func(v string, _ Answers) string {
					n := Answers{"n": v}.intOf("n")
					return fmt.Sprintf("at least %d ETH to deposit", 32*n)
				},
			},
			{
				Key: "compounding", Title: "Compounding", Kind: Bool,
				Help:    "Yes: 0x02 credentials, rewards add to the balance, up to 2048 ETH for a validator. No: 0x01, rewards are paid out by themselves.",
				Default: func(Facts, Answers) string { return "false" },
			},
			{
				Key: "deposit-amounts", Title: "Deposit amounts", Kind: List, Optional: true, Example: "1,31",
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
		Fields: []Field{
			{
				Key: "withdrawal-addresses", Title: "Withdrawal address", Kind: List, Twice: true, Example: exampleAddress, Check: addresses, Note: noteAddresses,
				Help: "Where stake and rewards are paid out. It cannot be changed after the deposit. One for all validators, or one for each, by commas.",
			},
			{
				Key: "fee-recipient-addresses", Title: "Fee recipient", Kind: List, Example: exampleAddress, Check: addresses, Note: noteAddresses,
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
		}}
}

func clusterAdvanced() Step {
	return Step{ID: "advanced", Title: "rarely changed", Intro: "The usual values are right for nearly everybody.",
		Fields: []Field{
			{
				Key: "target-gas-limit", Title: "Target gas limit", Kind: Number, Optional: true, Example: "60000000",
				Help:  "The gas limit that builder registrations ask for. Leave it empty for 60000000.",
				Check: within(5000, 1<<63-1, "60000000"),
			},
			{
				Key: "consensus-protocol", Title: "Consensus protocol", Kind: Choice, Optional: true, Example: "qbft",
				Help:    "How nodes agree on what to sign. Leave it empty to let them choose.",
				Options: func(Facts, Answers) []Option { return []Option{{Value: "qbft", Title: "qbft"}} },
			},
			{
				Key: "insecure-keys", Title: "Insecure keys", Kind: Bool,
				Help:    "Keystores that open fast and that anybody can open. For tests and practice only.",
				Default: func(Facts, Answers) string { return "false" },
				When: func(a Answers) bool {
					n, ok := cluster.NetworkByName(a["network"])
					return ok && !n.HoldsValue
				},
			},
		}}
}

func buildCluster(a Answers) (engine.Action, error) {
	act := engine.CreateCluster{
		Name: a["name"], Dir: a["cluster-dir"], Nodes: a.intOf("nodes"), Threshold: a.intOf("threshold"), NumValidators: a.intOf("num-validators"),
		WithdrawalAddresses: a.Items("withdrawal-addresses"), FeeRecipientAddresses: a.Items("fee-recipient-addresses"),
		Network: a["network"], Compounding: a.Yes("compounding"), ConsensusProtocol: a["consensus-protocol"],
		AllowLowThreshold: a.Yes("allow-low-threshold"), InsecureKeys: a.Yes("insecure-keys"),
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
