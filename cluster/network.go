package cluster

import (
	"strconv"
	"time"
)

// Gwei is an amount of money, a thousand-millionth of an ether.
type Gwei uint64

// Ether is one ETH in gwei.
const Ether Gwei = 1_000_000_000

// String returns the amount in ETH: "32 ETH", "1.5 ETH".
func (g Gwei) String() string {
	s := strconv.FormatUint(uint64(g/Ether), 10)
	if rest := uint64(g % Ether); rest != 0 {
		frac := strconv.FormatUint(uint64(Ether)+rest, 10)[1:]
		for frac[len(frac)-1] == '0' {
			frac = frac[:len(frac)-1]
		}
		s += "." + frac
	}
	return s + " ETH"
}

// Slot numbers the slots of a chain from its genesis.
type Slot uint64

// Epoch numbers the epochs of a chain from its genesis.
type Epoch uint64

// Network is what a chain needs to be known by. Times are in whole seconds.
type Network struct {
	Name           string      // as in flags and deposit files
	Fork           ForkVersion // genesis fork version; names the network in a definition
	CapellaFork    ForkVersion // exits are signed under it for ever (EIP-7044)
	ChainID        uint64      // of the execution layer, as in EIP-712 domains
	GenesisUnix    int64       // seconds since 1970
	SlotSeconds    int
	SlotsPerEpoch  int
	HoldsValue     bool // real money is at stake
	CreationClosed bool // the network is shut down: clusters are read, none are made
	ValidatorsRoot Root // genesis validators root, which names the chain; zero when not known
}

var networks = []Network{
	{Name: "mainnet", Fork: ForkVersion{0, 0, 0, 0}, CapellaFork: ForkVersion{3, 0, 0, 0}, ChainID: 1, GenesisUnix: 1606824023, SlotSeconds: 12, SlotsPerEpoch: 32, HoldsValue: true,
		ValidatorsRoot: publicRoot("0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95")},
	{Name: "sepolia", Fork: ForkVersion{0x90, 0, 0, 0x69}, CapellaFork: ForkVersion{0x90, 0, 0, 0x72}, ChainID: 11155111, GenesisUnix: 1655733600, SlotSeconds: 12, SlotsPerEpoch: 32,
		ValidatorsRoot: publicRoot("0xd8ea171f3c94aea21ebc42a1ed61052acf3f9209c00e4efbaaddac09ed9b8078")},
	{Name: "hoodi", Fork: ForkVersion{0x10, 0, 0x09, 0x10}, CapellaFork: ForkVersion{0x40, 0, 0x09, 0x10}, ChainID: 560048, GenesisUnix: 1742213400, SlotSeconds: 12, SlotsPerEpoch: 32,
		ValidatorsRoot: publicRoot("0x212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f")},
	{Name: "gnosis", Fork: ForkVersion{0, 0, 0, 0x64}, CapellaFork: ForkVersion{3, 0, 0, 0x64}, ChainID: 100, GenesisUnix: 1638993340, SlotSeconds: 5, SlotsPerEpoch: 16, HoldsValue: true,
		ValidatorsRoot: publicRoot("0xf5dcb5564e829aab27264b9becd5dfaa017085611224cb3036f573368dbb9d47")},
	{Name: "chiado", Fork: ForkVersion{0, 0, 0, 0x6f}, CapellaFork: ForkVersion{3, 0, 0, 0x6f}, ChainID: 10200, GenesisUnix: 1665396300, SlotSeconds: 5, SlotsPerEpoch: 16,
		ValidatorsRoot: publicRoot("0x9d642dac73058fbf39c0ae41ab1e34e4d889043cb199851ded7095bc99eb4c1e")},
	{Name: "goerli", Fork: ForkVersion{0, 0, 0x10, 0x20}, CapellaFork: ForkVersion{3, 0, 0x10, 0x20}, ChainID: 5, GenesisUnix: 1616508000, SlotSeconds: 12, SlotsPerEpoch: 32, CreationClosed: true,
		ValidatorsRoot: publicRoot("0x043db0d9a83813551ee2f33450d23797757d430911a9320530ad8a0eabc43efb")},
}

// publicRoot reads the genesis validators root of a public network (from the configuration
// repositories of eth-clients and gnosischain). A test holds that each is read.
func publicRoot(text string) (r Root) {
	_ = r.UnmarshalText([]byte(text)) // zero means not known
	return r
}

// Networks returns a copy of the table of known networks.
func Networks() []Network { return append([]Network(nil), networks...) }

// NetworkByName finds a network; prater is the old name of goerli.
func NetworkByName(name string) (Network, bool) {
	if name == "prater" {
		name = "goerli"
	}
	for _, n := range networks {
		if n.Name == name {
			return n, true
		}
	}
	return Network{}, false
}

// NetworkByFork finds the network of a genesis fork version.
func NetworkByFork(fork ForkVersion) (Network, bool) {
	for _, n := range networks {
		if n.Fork == fork {
			return n, true
		}
	}
	return Network{}, false
}

// SlotStart is when a slot begins.
func (n Network) SlotStart(s Slot) time.Time {
	return time.Unix(n.GenesisUnix+int64(s)*int64(n.SlotSeconds), 0).UTC()
}

// SlotAt is the slot that runs at a moment; ok is false before genesis.
func (n Network) SlotAt(t time.Time) (slot Slot, ok bool) {
	since := t.Unix() - n.GenesisUnix
	if since < 0 || n.SlotSeconds <= 0 {
		return 0, false
	}
	return Slot(since / int64(n.SlotSeconds)), true
}

// EpochOf is the epoch of a slot.
func (n Network) EpochOf(s Slot) Epoch {
	if n.SlotsPerEpoch <= 0 {
		return 0
	}
	return Epoch(s / Slot(n.SlotsPerEpoch))
}

// Clock is the network's slot clock.
func (n Network) Clock() SlotClock {
	return SlotClock{Genesis: time.Unix(n.GenesisUnix, 0).UTC(), SlotDuration: time.Duration(n.SlotSeconds) * time.Second, SlotsPerEpoch: uint64(max(n.SlotsPerEpoch, 1))}
}
