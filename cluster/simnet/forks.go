package simnet

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"app.provost/cluster"

	"github.com/attestantio/go-eth2-client/spec/phase0"
)

// forks are a network's fork versions, in order.
type forks []struct {
	name    string
	version cluster.ForkVersion
}

var forkOrder = []string{"phase0", "altair", "bellatrix", "capella", "deneb", "electra", "fulu"}

// forksOf returns the fork versions of a network, as its own config has them: most count in the first
// byte, hoodi in its upper half, sepolia in the last one. An unknown network counts like mainnet.
func forksOf(genesis cluster.ForkVersion) forks {
	var out forks
	for i, name := range forkOrder {
		v := genesis
		switch {
		case genesis == cluster.ForkVersion{0x10, 0, 0x09, 0x10}:
			v[0] = genesis[0] + byte(i)<<4
		case genesis == cluster.ForkVersion{0x90, 0, 0, 0x69} && i > 0:
			v[3] = 0x70 + byte(i-1)
		case genesis == cluster.ForkVersion{0x90, 0, 0, 0x69}:
		default:
			v[0] = genesis[0] + byte(i)
		}
		out = append(out, struct {
			name    string
			version cluster.ForkVersion
		}{name, v})
	}
	return out
}

func (f forks) of(name string) cluster.ForkVersion {
	i := slices.Index(forkOrder, name)
	return f[i].version
}

// until returns the forks up to one.
func (f forks) until(last Fork) forks { return f[:slices.Index(forkOrder, string(last))+1] }

// Domain types of the consensus specification.
var (
	domainProposer = cluster.DomainType{0}
	domainAttester = cluster.DomainType{1}
	domainRandao   = cluster.DomainType{2}
	domainExit     = cluster.DomainType{4}
)

// signingRoot is what must have been signed. All forks are current from genesis on, so that one
// version stands for every epoch; exits are Capella's for ever (EIP-7044).
func (n *Node) signingRoot(kind cluster.DomainType, object cluster.Root) cluster.Root {
	version := n.forks.of(string(n.o.Fork))
	if kind == domainExit {
		version = n.forks.of("capella")
	}
	return cluster.SigningRoot(object, cluster.Domain(kind, version, n.gvr))
}

func uintRoot(v uint64) (r cluster.Root) {
	binary.LittleEndian.PutUint64(r[:], v)
	return r
}

// validatorsRoot is the true hash tree root of the genesis validators. The genesis time stands in
// their withdrawal credentials, so that every practice chain has a root of its own.
func (n *Node) validatorsRoot() (cluster.Root, error) {
	leaves := make([]cluster.Root, len(n.o.Validators))
	for i := range leaves {
		root, err := n.stateValidator(valIndex(i), farFuture, false).HashTreeRoot()
		if err != nil {
			return cluster.Root{}, fmt.Errorf("hash validator %d: %w", i, err)
		}
		leaves[i] = root
	}
	return listRoot(leaves, 40), nil
}

func (n *Node) credentials() []byte {
	out := make([]byte, 32)
	out[0] = 1
	copy(out[1:], "provost-simnet")
	binary.BigEndian.PutUint64(out[24:], uint64(n.o.GenesisTime.Unix()))
	return out
}

const maxEffective = 32 * phase0.Gwei(cluster.Ether)

func (n *Node) stateValidator(i valIndex, exit phase0.Epoch, slashed bool) *phase0.Validator {
	v := n.o.Validators[i]
	withdrawable := phase0.Epoch(farFuture)
	if exit != farFuture {
		withdrawable = exit + 256
	}
	return &phase0.Validator{
		PublicKey: phase0.BLSPubKey(v.PubKey), WithdrawalCredentials: n.credentials(), EffectiveBalance: maxEffective, Slashed: slashed,
		ActivationEligibilityEpoch: 0, ActivationEpoch: phase0.Epoch(v.Activation), ExitEpoch: exit, WithdrawableEpoch: withdrawable,
	}
}

const farFuture = ^phase0.Epoch(0)

// listRoot is the hash tree root of a list of at most 1<<depth roots.
func listRoot(leaves []cluster.Root, depth int) cluster.Root {
	layer := slices.Clone(leaves)
	var zero cluster.Root
	for range depth {
		if len(layer)%2 == 1 {
			layer = append(layer, zero)
		}
		for i := 0; i < len(layer); i += 2 {
			layer[i/2] = pairRoot(layer[i], layer[i+1])
		}
		layer = layer[:len(layer)/2]
		zero = pairRoot(zero, zero)
	}
	root := zero
	if len(layer) > 0 {
		root = layer[0]
	}
	return pairRoot(root, uintRoot(uint64(len(leaves))))
}

func pairRoot(a, b cluster.Root) cluster.Root {
	return sha256.Sum256(append(append(make([]byte, 0, 64), a[:]...), b[:]...))
}

// madeUp is a root for what a practice chain doesn't have.
func madeUp(what string, parts ...[]byte) cluster.Root {
	h := sha256.New()
	h.Write([]byte("provost-simnet " + what))
	for _, p := range parts {
		h.Write(p)
	}
	return cluster.Root(h.Sum(nil))
}
