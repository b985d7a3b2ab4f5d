package create

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
)

// MinNodes is the smallest cluster that bears the loss of a node.
const MinNodes = 3

// minGasLimit is the least gas limit of a block (yellow paper, 4.4.4).
const minGasLimit = 5000

// Params say which cluster to make. Defaults gives the usual values. Fields are named after flags.
type Params struct {
	Name                  string   // cosmetic, may be empty, at most 256 bytes
	Dir                   string   // target; must not exist, or be empty
	Nodes                 int      // at least MinNodes
	Threshold             int      // 0: ceil(2n/3)
	NumValidators         int      // at least 1; 0 with a definition file or existing keys
	WithdrawalAddresses   []string // one for all validators, or one each
	FeeRecipientAddresses []string // one for all validators, or one each
	Network               string   // a name of cluster.Networks; "" with a definition file or a test network
	AllowLowThreshold     bool     // admits a threshold below ceil(2n/3)
	DepositAmounts        []uint64 // in whole ETH; none: 1 and 32, compounding 1, 8, 32 and 256
	Compounding           bool     // withdrawal credentials 0x02
	TargetGasLimit        uint64   // of the builder registrations; 0: 60,000,000 or the definition file's
	ConsensusProtocol     string   // "" or "qbft"
	InsecureKeys          bool     // cheap keystores for tests and practice; never where money is
	LockVersion           string   // "": that of the definition file, else v1.10.0

	// A test network that has no name here. All four or none.
	TestnetName             string
	TestnetForkVersion      string // 0x and 8 hex digits: the genesis fork version
	TestnetChainID          uint64 // of the execution layer
	TestnetGenesisTimestamp int64  // seconds since 1970

	DefinitionFile string // path, https:// or, on this machine, http:// URL
	DefinitionHash string // config hash that the file must have, as the plan said; "": any
	DefinitionOut  string // new file for the definition of what was made; "": none

	// Existing keys, to be split.
	SplitExistingKeys  bool
	SplitKeysDir       string // searched for keystores
	SplitPasswordsFile string // one password for all, or one per keystore in their order; "": looked for beside them
	SlashingHistory    string // EIP-3076 file of the old validators
	NoSlashingHistory  string // NoHistoryPhrase, word for word, for keys that no history covers

	// Validator clients that take the key shares, instead of files. One address for each node.
	KeymanagerAddresses  []string
	KeymanagerTokensFile string // one token a line, in the order of the addresses

	Zipped bool // one cluster.tar.gz instead of directories

	// Guard is the work that a room for slashing protection does. Needed with SlashingHistory only.
	Guard GuardDoor `json:"-"`
}

// NoHistoryPhrase is what has to be written out to split keys without a slashing history.
const NoHistoryPhrase = "there is no history and the old validator stays off"

// Defaults returns what a flag that isn't given stands for.
func Defaults() Params {
	return Params{Dir: ".charon/cluster", NumValidators: 1, Network: "mainnet", TargetGasLimit: defaultGasLimit}
}

const defaultGasLimit = 60_000_000

// resolved are Params after all defaults and checks.
type resolved struct {
	Params
	version        cluster.FormatVersion
	network        cluster.Network
	custom         bool // the network is not one of the table
	threshold      cluster.Threshold
	withdrawal     []cluster.ETHAddress // one per validator
	feeRecipient   []cluster.ETHAddress // one per validator
	amounts        []cluster.Gwei       // distinct, ascending
	definedAmounts []cluster.Gwei       // as given, nil when defaulted
	in             inputs
	clockProblem   string
}

// Problems lists everything that is wrong with the parameters; none means that they are valid. It
// looks at no file: what stands in a definition file or a directory of keys is judged by Plan.
func (p Params) Problems() []Problem {
	_, problems := p.resolve(inputs{})
	return problems
}

// resolve judges parameters and inputs together. Where inputs were not read yet, what would come from
// them is not missed.
func (p Params) resolve(in inputs) (resolved, []Problem) {
	var problems []Problem
	bad := func(field, remedy, cause string, args ...any) {
		problems = append(problems, Problem{field, fmt.Sprintf(cause, args...), remedy})
	}
	defines := p.DefinitionFile != ""
	unread := defines && in.definition == nil || p.SplitExistingKeys && in.keys == nil
	if in.definition != nil {
		p = p.define(in.definition, bad)
	}
	if len(in.keys) > 0 {
		if p.NumValidators != 0 && p.NumValidators != len(in.keys) {
			source := "--num-validators is"
			if in.definition != nil {
				source = "the definition file has num_validators"
			}
			bad("split-keys-dir", "leave out keystores or --num-validators, so that both agree", "%s %d, and %d keystores were found in %s", source, p.NumValidators, len(in.keys), p.SplitKeysDir)
		}
		p.NumValidators = len(in.keys)
	}
	r := resolved{Params: p, in: in}

	if len(p.Name) > cluster.MaxNameBytes || !utf8.ValidString(p.Name) || strings.ContainsFunc(p.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		bad("name", "shorten it or leave it out", "the name must be plain text of at most %d bytes", cluster.MaxNameBytes)
	}
	if p.Dir == "" {
		bad("cluster-dir", "name a directory to create, such as .charon/cluster", "no directory is given")
	}

	nodesOK := p.Nodes >= MinNodes && p.Nodes <= cluster.MaxOperators
	switch {
	case p.Nodes == 0 && defines && unread:
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
	switch {
	case p.NumValidators == 0 && unread:
	case !validatorsOK:
		bad("num-validators", fmt.Sprintf("choose 1 to %d", cluster.MaxValidators), "%d validators can't be made", p.NumValidators)
	case nodesOK && lockSize(p.Nodes, p.NumValidators) > MaxLockBytes:
		validatorsOK = false
		bad("num-validators", "make several clusters", "the lock file would be larger than %d MiB", MaxLockBytes>>20)
	}
	addresses := func(field string, texts []string) []cluster.ETHAddress {
		if len(texts) == 0 {
			if !(defines && unread) {
				bad(field, "give one for all validators, or one for each, separated by commas", "no address is given")
			}
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

	known := r.resolveNetwork(bad)
	if p.InsecureKeys && known && r.network.HoldsValue {
		bad("insecure-keys", "leave --insecure-keys out, or choose a test network", "on %s money is at stake, so keystores that anybody can open are refused", r.network.Name)
	}
	r.resolveAmounts(bad)
	if r.TargetGasLimit == 0 && !unread {
		r.TargetGasLimit = defaultGasLimit
	}
	if r.TargetGasLimit != 0 && r.TargetGasLimit < minGasLimit {
		bad("target-gas-limit", "leave it out for 60000000", "a gas limit of %d is below %d, the least that a block can have", r.TargetGasLimit, minGasLimit)
	}
	if r.TargetGasLimit > math.MaxInt64 {
		bad("target-gas-limit", "leave it out for 60000000", "a gas limit of %d is above %d, the most that a block can have and that Charon reads", r.TargetGasLimit, math.MaxInt64)
	}
	if p.ConsensusProtocol != "" && p.ConsensusProtocol != "qbft" {
		bad("consensus-protocol", "leave it out, or choose qbft", "there is no consensus protocol %.40q", p.ConsensusProtocol)
	}
	r.version = cluster.FormatVersion(p.LockVersion)
	switch {
	case in.definition != nil:
		r.version = in.definition.Version
	case r.version == "":
		r.version = cluster.V1_10
	case r.version != cluster.V1_10 && r.version != cluster.V1_11:
		bad("lock-version", "choose v1.10.0, which every Charon since v1.3.0 reads, or v1.11.0", "locks of version %.40q aren't written", p.LockVersion)
	}
	p.checkSplit(bad)
	p.checkKeymanagers(bad)
	r.checkClock(known, bad)
	return r, problems
}

var forkPattern = regexp.MustCompile(`^(0x)?[0-9a-fA-F]{8}$`)

// resolveNetwork finds the network. It tells whether one was found.
func (r *resolved) resolveNetwork(bad func(field, remedy, cause string, args ...any)) bool {
	p := &r.Params
	given := []struct {
		flag string
		set  bool
	}{{"testnet-name", p.TestnetName != ""}, {"testnet-fork-version", p.TestnetForkVersion != ""}, {"testnet-chain-id", p.TestnetChainID != 0}, {"testnet-genesis-timestamp", p.TestnetGenesisTimestamp != 0}}
	var have, miss []string
	for _, g := range given {
		if g.set {
			have = append(have, "--"+g.flag)
		} else {
			miss = append(miss, "--"+g.flag)
		}
	}
	switch {
	case len(have) == 0 && p.Network == "" && r.in.definition != nil:
		fork := r.in.definition.ForkVersion
		var ok bool
		if r.network, ok = cluster.NetworkByFork(fork); !ok {
			bad("definition-file", "name the network with --testnet-name, --testnet-fork-version, --testnet-chain-id and --testnet-genesis-timestamp",
				"it is for a network with the genesis fork version %s, which has no name here", fork)
			return false
		}
	case len(have) == 0 && p.Network == "" && p.DefinitionFile != "":
		return false // judged when the file was read
	case len(have) == 0:
		var ok bool
		if r.network, ok = cluster.NetworkByName(p.Network); !ok {
			bad("network", "choose "+networkNames()+", or describe a test network with the --testnet flags", "there is no network %.40q", p.Network)
			return false
		}
		if d := r.in.definition; d != nil && d.ForkVersion != r.network.Fork {
			bad("network", "leave --network out", "--network is %s (genesis fork version %s), the definition file says %s", r.network.Name, r.network.Fork, d.ForkVersion)
		}
	case len(miss) > 0:
		bad(strings.TrimPrefix(miss[0], "--"), "give all four, as the network's configuration has them, or none", "a test network is described by four flags; with %s also %s must be given", strings.Join(have, ", "), strings.Join(miss, ", "))
		return false
	default:
		return r.customNetwork(bad)
	}
	if r.network.CreationClosed {
		field := "network"
		if p.Network == "" {
			field = "definition-file"
		}
		bad(field, "choose "+networkNames(), "the network %s is shut down: its clusters are read, none are made", r.network.Name)
	}
	return true
}

func (r *resolved) customNetwork(bad func(field, remedy, cause string, args ...any)) bool {
	p := &r.Params
	ok := true
	refuse := func(field, remedy, cause string, args ...any) {
		bad(field, remedy, cause, args...)
		ok = false
	}
	if p.Network != "" {
		refuse("network", "leave one of them out", "--network is %.40s and --testnet-name is %.40s", p.Network, p.TestnetName)
	}
	if len(p.TestnetName) > 64 || strings.ContainsFunc(p.TestnetName, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
		refuse("testnet-name", "choose a word such as my-devnet", "the name of a test network must be plain letters without spaces, at most 64")
	} else if n, taken := cluster.NetworkByName(strings.ToLower(p.TestnetName)); taken {
		refuse("testnet-name", "use --network "+n.Name+", or choose another name", "%s is the name of a known network", p.TestnetName)
	}
	var fork cluster.ForkVersion
	if !forkPattern.MatchString(p.TestnetForkVersion) {
		refuse("testnet-fork-version", "give 0x and 8 hex digits, as in 0x10000038", "%.40q is not a fork version", p.TestnetForkVersion)
	} else {
		_ = fork.UnmarshalText([]byte("0x" + strings.ToLower(strings.TrimPrefix(p.TestnetForkVersion, "0x")))) // the pattern fits
		if n, taken := cluster.NetworkByFork(fork); taken {
			refuse("testnet-fork-version", "use --network "+n.Name+" if you mean that one", "%s is the genesis fork version of %s, where these deposits would count", fork, n.Name)
		}
		if d := r.in.definition; d != nil && d.ForkVersion != fork {
			refuse("testnet-fork-version", "leave the --testnet flags out or correct them", "--testnet-fork-version is %s, the definition file says %s", fork, d.ForkVersion)
		}
	}
	if p.TestnetGenesisTimestamp < 1_500_000_000 || p.TestnetGenesisTimestamp > 1<<33 {
		refuse("testnet-genesis-timestamp", "give the seconds since 1970 at which the network begins, as in 1742213400", "%d is not a time at which a network begins", p.TestnetGenesisTimestamp)
	}
	r.custom = true
	r.network = cluster.Network{Name: p.TestnetName, Fork: fork, ChainID: p.TestnetChainID, GenesisUnix: p.TestnetGenesisTimestamp} // how long its slots are isn't known
	return ok
}

// No clock is right that says that this program wasn't written yet, or that it is very old.
var (
	clockFloor = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clockCeil  = time.Date(2046, 1, 1, 0, 0, 0, 0, time.UTC)
)

// checkClock looks whether this machine's clock can be right. Registrations of existing keys carry the
// time and would lose against older ones or block later ones for years; a new cluster only bears a
// wrong date.
func (r *resolved) checkClock(networkKnown bool, bad func(field, remedy, cause string, args ...any)) {
	now := time.Now()
	const format = "2006-01-02 15:04"
	switch {
	case now.Before(clockFloor) || now.After(clockCeil):
		r.clockProblem = fmt.Sprintf("this machine's clock says %s, which can't be right", now.UTC().Format(format))
	case networkKnown && r.SplitExistingKeys && now.Unix() < r.network.GenesisUnix:
		r.clockProblem = fmt.Sprintf("this machine's clock says %s, and %s begins only at %s: no validator can exist there", now.UTC().Format(format), r.network.Name, time.Unix(r.network.GenesisUnix, 0).UTC().Format(format))
	}
	if r.clockProblem != "" && r.SplitExistingKeys {
		bad("split-existing-keys", "set the clock (date -u shows it; timedatectl set-ntp true keeps it right) and try again", "%s, and registrations of existing validators carry the time", r.clockProblem)
	}
}

func (r *resolved) resolveAmounts(bad func(field, remedy, cause string, args ...any)) {
	const field = "deposit-amounts"
	limit := 32 * cluster.Ether
	defaults := []cluster.Gwei{1 * cluster.Ether, 32 * cluster.Ether}
	if r.Compounding {
		limit = 2048 * cluster.Ether
		defaults = []cluster.Gwei{1 * cluster.Ether, 8 * cluster.Ether, 32 * cluster.Ether, 256 * cluster.Ether}
	}
	if d := r.in.definition; d != nil && d.DepositAmounts != nil {
		r.definedAmounts = d.DepositAmounts
	} else {
		if len(r.DepositAmounts) == 0 {
			r.amounts = defaults
			return
		}
		for _, eth := range r.DepositAmounts {
			if eth > 1<<32 { // more than gwei can count
				bad(field, fmt.Sprintf("choose whole ETH from 1 to %d", limit/cluster.Ether), "a deposit of %d ETH isn't possible", eth)
				return
			}
			r.definedAmounts = append(r.definedAmounts, cluster.Gwei(eth)*cluster.Ether)
		}
	}
	if len(r.definedAmounts) > 256 {
		bad(field, "give fewer", "found %d amounts, at most 256 fit", len(r.definedAmounts))
		return
	}
	var sum cluster.Gwei
	for _, g := range r.definedAmounts {
		if g < cluster.Ether || g > limit {
			bad(field, fmt.Sprintf("choose whole ETH from 1 to %d", limit/cluster.Ether), "a deposit of %s isn't possible%s", g, withoutCompounding(r.Compounding, g))
			return
		}
		sum += g
	}
	if sum < 32*cluster.Ether {
		bad(field, "add amounts", "the amounts sum up to %s, a validator needs 32 ETH", sum)
	}
	r.amounts = slices.Clone(r.definedAmounts)
	slices.Sort(r.amounts)
	r.amounts = slices.Compact(r.amounts)
}

func withoutCompounding(compounding bool, g cluster.Gwei) string {
	if compounding || g > 2048*cluster.Ether || g < cluster.Ether {
		return ""
	}
	return " without --compounding"
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
