package create

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
)

// MinNodes is the smallest cluster that bears the loss of a node.
const MinNodes = 3

// minGasLimit is the least gas limit of a block (yellow paper, 4.4.4).
const minGasLimit = 5000

// Params say which cluster to make. Defaults gives the usual values.
type Params struct {
	Name                  string   // cosmetic, may be empty, at most 256 bytes
	Dir                   string   // target; must not exist, or be empty
	Nodes                 int      // at least MinNodes
	Threshold             int      // 0: ceil(2n/3)
	NumValidators         int      // at least 1
	WithdrawalAddresses   []string // one for all validators, or one each
	FeeRecipientAddresses []string // one for all validators, or one each
	Network               string   // a name of cluster.Networks
	AllowLowThreshold     bool     // admits a threshold below ceil(2n/3)
	DepositAmounts        []uint64 // in whole ETH; none: 1 and 32, compounding 1, 8, 32 and 256
	Compounding           bool     // withdrawal credentials 0x02
	TargetGasLimit        uint64   // of the builder registrations
	ConsensusProtocol     string   // "" or "qbft"
	InsecureKeys          bool     // cheap keystores for tests and practice; never where money is
}

// Defaults returns what a flag that isn't given stands for.
func Defaults() Params {
	return Params{Dir: ".charon/cluster", NumValidators: 1, Network: "mainnet", TargetGasLimit: 60_000_000}
}

// resolved are Params after all defaults and checks.
type resolved struct {
	Params
	network        cluster.Network
	threshold      cluster.Threshold
	withdrawal     []cluster.ETHAddress // one per validator
	feeRecipient   []cluster.ETHAddress // one per validator
	amounts        []cluster.Gwei       // distinct, ascending
	definedAmounts []cluster.Gwei       // as given, nil when defaulted
}

// Problems lists everything that is wrong with the parameters; none means that they are valid. It
// looks at no file.
func (p Params) Problems() []Problem {
	_, problems := p.resolve()
	return problems
}

func (p Params) resolve() (resolved, []Problem) {
	r := resolved{Params: p}
	var problems []Problem
	bad := func(field, remedy, cause string, args ...any) {
		problems = append(problems, Problem{field, fmt.Sprintf(cause, args...), remedy})
	}

	if len(p.Name) > cluster.MaxNameBytes || !utf8.ValidString(p.Name) || strings.ContainsFunc(p.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		bad("name", "shorten it or leave it out", "the name must be plain text of at most %d bytes", cluster.MaxNameBytes)
	}
	if p.Dir == "" {
		bad("cluster-dir", "name a directory to create, such as .charon/cluster", "no directory is given")
	}

	nodesOK := p.Nodes >= MinNodes && p.Nodes <= cluster.MaxOperators
	switch {
	case p.Nodes == 0:
		bad("nodes", "give the number of nodes, such as 4", "the number of nodes is missing")
	case !nodesOK:
		bad("nodes", fmt.Sprintf("choose %d to %d nodes", MinNodes, cluster.MaxOperators), "a cluster of %d nodes can't be made", p.Nodes)
	}
	if p.Threshold < 0 || p.Threshold == 1 {
		bad("threshold", "choose at least 2, or leave it out for two thirds of the nodes", "a threshold of %d would let a single node sign", p.Threshold)
	} else if nodesOK {
		r.threshold = cluster.Threshold(p.Threshold)
		def := cluster.DefaultThreshold(p.Nodes)
		switch {
		case p.Threshold == 0:
			r.threshold = def
		case p.Threshold > p.Nodes:
			bad("threshold", fmt.Sprintf("choose at most %d, or leave it out for %d", p.Nodes, def), "%d nodes can never give %d signatures", p.Nodes, p.Threshold)
		case r.threshold.Low(p.Nodes) && !p.AllowLowThreshold:
			bad("threshold", fmt.Sprintf("choose %d or more, or add --allow-low-threshold if you mean it", def),
				"%d of %d is below two thirds, so fewer nodes than consensus needs could sign on their own", p.Threshold, p.Nodes)
		}
	}

	validatorsOK := p.NumValidators >= 1 && p.NumValidators <= cluster.MaxValidators
	if !validatorsOK {
		bad("num-validators", fmt.Sprintf("choose 1 to %d", cluster.MaxValidators), "%d validators can't be made", p.NumValidators)
	} else if nodesOK && lockSize(p.Nodes, p.NumValidators) > MaxLockBytes {
		validatorsOK = false
		bad("num-validators", "make several clusters", "the lock file would be larger than %d MiB", MaxLockBytes>>20)
	}
	addresses := func(field string, texts []string) []cluster.ETHAddress {
		if len(texts) == 0 {
			bad(field, "give one for all validators, or one for each, separated by commas", "no address is given")
			return nil
		}
		if validatorsOK && len(texts) != 1 && len(texts) != p.NumValidators {
			bad(field, "give one for all validators, or one for each", "found %d addresses for %d validators", len(texts), p.NumValidators)
			return nil
		}
		out := make([]cluster.ETHAddress, 0, max(len(texts), 1))
		for _, text := range texts {
			a, err := cluster.ParseETHAddress(text, enr.Keccak256)
			if err != nil {
				bad(field, "give 0x and 40 hex digits, copied from the wallet", "%v", err)
				return nil
			}
			out = append(out, a)
		}
		if !validatorsOK {
			return out
		}
		for len(out) < p.NumValidators {
			out = append(out, out[0])
		}
		return out
	}
	r.withdrawal = addresses("withdrawal-addresses", p.WithdrawalAddresses)
	r.feeRecipient = addresses("fee-recipient-addresses", p.FeeRecipientAddresses)

	var ok bool
	if r.network, ok = cluster.NetworkByName(p.Network); !ok {
		bad("network", "choose "+networkNames(), "there is no network %.40q", p.Network)
	} else if r.network.CreationClosed {
		bad("network", "choose "+networkNames(), "the network %s is shut down", r.network.Name)
	}
	if p.InsecureKeys && ok && r.network.HoldsValue {
		bad("insecure-keys", "leave --insecure-keys out, or choose a test network", "on %s money is at stake, so keystores that anybody can open are refused", r.network.Name)
	}

	r.resolveAmounts(bad)
	if p.TargetGasLimit < minGasLimit {
		bad("target-gas-limit", "leave it out for 60000000", "a gas limit of %d is below %d, the least that a block can have", p.TargetGasLimit, minGasLimit)
	}
	if p.ConsensusProtocol != "" && p.ConsensusProtocol != "qbft" {
		bad("consensus-protocol", "leave it out, or choose qbft", "there is no consensus protocol %.40q", p.ConsensusProtocol)
	}
	return r, problems
}

func (r *resolved) resolveAmounts(bad func(field, remedy, cause string, args ...any)) {
	const field = "deposit-amounts"
	limit, most := 32*cluster.Ether, uint64(32)
	defaults := []cluster.Gwei{1 * cluster.Ether, 32 * cluster.Ether}
	if r.Compounding {
		limit, most = 2048*cluster.Ether, 2048
		defaults = []cluster.Gwei{1 * cluster.Ether, 8 * cluster.Ether, 32 * cluster.Ether, 256 * cluster.Ether}
	}
	if len(r.DepositAmounts) == 0 {
		r.amounts = defaults
		return
	}
	if len(r.DepositAmounts) > 256 {
		bad(field, "give fewer", "found %d amounts, at most 256 fit", len(r.DepositAmounts))
		return
	}
	var sum cluster.Gwei
	for _, eth := range r.DepositAmounts {
		if eth < 1 || eth > most {
			bad(field, fmt.Sprintf("choose whole ETH from 1 to %d", limit/cluster.Ether), "a deposit of %d ETH isn't possible", eth)
			return
		}
		g := cluster.Gwei(eth) * cluster.Ether
		sum += g
		r.definedAmounts = append(r.definedAmounts, g)
	}
	if sum < 32*cluster.Ether {
		bad(field, "add amounts", "the amounts sum up to %s, a validator needs 32 ETH", sum)
	}
	r.amounts = slices.Clone(r.definedAmounts)
	slices.Sort(r.amounts)
	r.amounts = slices.Compact(r.amounts)
}

func networkNames() string {
	var names []string
	for _, n := range cluster.Networks() {
		if !n.CreationClosed {
			names = append(names, n.Name)
		}
	}
	return strings.Join(names, ", ")
}

// lockSize is an upper estimate of a lock file's bytes.
func lockSize(nodes, validators int) int {
	return 4096 + nodes*700 + validators*(2600+nodes*110)
}
