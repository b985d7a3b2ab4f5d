package cluster_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"app.provost/cluster"

	"golang.org/x/crypto/sha3"
)

func keccak(data []byte) (out [32]byte) {
	h := sha3.NewLegacyKeccak256()
	h.Write(data)
	h.Sum(out[:0])
	return out
}

func TestThreshold(t *testing.T) {
	for nodes, want := range map[int]cluster.Threshold{3: 2, 4: 3, 5: 4, 6: 4, 7: 5, 10: 7} {
		if got := cluster.DefaultThreshold(nodes); got != want {
			t.Errorf("default threshold of %d nodes is %d, want %d", nodes, got, want)
		}
	}
	if got := cluster.Threshold(5).MayBeDown(6); got != 1 {
		t.Errorf("5 of 6: %d may be down, want 1", got)
	}
	if got := cluster.Threshold(2).MayBeDown(6); got != 2 {
		t.Errorf("2 of 6: %d may be down, want 2 (consensus needs 4)", got)
	}
	if got := cluster.Faulty(4); got != 1 {
		t.Errorf("4 nodes bear %d liars, want 1", got)
	}
	if !cluster.Threshold(3).Low(6) || cluster.Threshold(4).Low(6) {
		t.Error("of 6 nodes 3 is low and 4 isn't")
	}
}

// The addresses in mixed case are the examples of EIP-55.
func TestParseETHAddress(t *testing.T) {
	for _, good := range []string{
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
		"0x52908400098527886E0F7030069857D2E4169EE7", "0xde709f2102306220921060314715629080e2fb77",
		"0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
	} {
		a, err := cluster.ParseETHAddress(good, keccak)
		if err != nil || a.String() != strings.ToLower(good) {
			t.Errorf("%s: read as %s, %v", good, a, err)
		}
	}
	if _, err := cluster.ParseETHAddress("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed", keccak); !errors.Is(err, cluster.ErrAddressChecksum) {
		t.Errorf("wrong checksum: %v", err)
	}
	for _, bad := range []string{"", "0x", "dead", "000000000000000000000000000000000000dead00", "0x00000000000000000000000000000000000000zz", "0x" + strings.Repeat("0", 42), strings.Repeat("9", 5000)} {
		if _, err := cluster.ParseETHAddress(bad, keccak); err == nil || len(err.Error()) > 250 {
			t.Errorf("%.50q: %v", bad, err)
		}
	}
	burn, _ := cluster.ParseETHAddress("0x000000000000000000000000000000000000dEaD", keccak)
	if !burn.Burn() || !(cluster.ETHAddress{}).Burn() || (cluster.ETHAddress{1}).Burn() {
		t.Error("burn addresses are all zeros and 0x…dead, nothing else")
	}
}

func TestNetworks(t *testing.T) {
	for _, n := range cluster.Networks() {
		if got, ok := cluster.NetworkByFork(n.Fork); !ok || got != n {
			t.Errorf("%s isn't found by its fork version", n.Name)
		}
		if got, ok := cluster.NetworkByName(n.Name); !ok || got != n {
			t.Errorf("%s isn't found by its name", n.Name)
		}
	}
	n, _ := cluster.NetworkByName("mainnet")
	at := time.Date(2020, 12, 1, 12, 0, 23, 0, time.UTC)
	if slot, ok := n.SlotAt(at.Add(12*time.Second*33 + 11*time.Second)); !ok || slot != 33 || n.EpochOf(slot) != 1 || !n.SlotStart(0).Equal(at) {
		t.Errorf("slot arithmetic is off: %d %v", slot, ok)
	}
	if _, ok := n.SlotAt(at.Add(-time.Second)); ok {
		t.Error("a slot before genesis")
	}
	if _, ok := cluster.NetworkByName("holesky"); ok {
		t.Error("holesky is gone")
	}
}

func TestGweiText(t *testing.T) {
	for g, want := range map[cluster.Gwei]string{0: "0 ETH", 32 * cluster.Ether: "32 ETH", 1_500_000_000: "1.5 ETH", 1: "0.000000001 ETH"} {
		if g.String() != want {
			t.Errorf("%d gwei prints as %s, want %s", uint64(g), g, want)
		}
	}
}

func TestIndices(t *testing.T) {
	if cluster.PeerIndex(0).Share() != 1 || cluster.ShareIndex(1).Peer() != 0 {
		t.Error("shares count from 1, peers from 0")
	}
}

// The roots come from the deposit file of a cluster that Charon made.
func TestDepositRoots(t *testing.T) {
	var m cluster.DepositMessage
	var sig cluster.Signature
	mustText(t, &m.PubKey, "93918fa2c86d609f39a1cdd9cf4cf075bed620de1ebe4113fd01b97eca3f5d506bbf742bdcff92ab1272097c480cdbb8")
	mustText(t, &sig, "861cc70e25d63fa2a5b5bcb1bbf92e7b11ceac1d3944b4cf26d6c88e037587ac94c06aa1d482c50d3a1793ea3966cf7e00df5bac4fee5408a036775668e863cb8df086662af1b35e582d234974e5a11f9d2722eef6102951d25d1d143a55d2be")
	m.WithdrawalCredentials = cluster.WithdrawalCredentials(cluster.ETHAddress{18: 0xde, 19: 0xad}, true)
	m.Amount = 8 * cluster.Ether
	if got := m.Root().String(); got != "0x4edd7f5e1621a24c87e3cc33f0ccc5f949920b205395f08ac78f72f2df3c13e1" {
		t.Errorf("message root %s", got)
	}
	if got := m.DataRoot(sig).String(); got != "0x87cd7efff7c349d711a8283438045db80053b3ae5733f3f51883bbd29389188c" {
		t.Errorf("data root %s", got)
	}
}

func mustText(t *testing.T, dst interface{ UnmarshalText([]byte) error }, s string) {
	t.Helper()
	if err := dst.UnmarshalText([]byte(s)); err != nil {
		t.Fatal(err)
	}
}
