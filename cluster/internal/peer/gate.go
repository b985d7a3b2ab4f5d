package peer

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	libp2ppeer "github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
)

// gate lets the nodes of the lock and the configured relays through, and nobody else. Before the
// security handshake nobody is known, so nobody is refused: there only numbers and rates count.
type gate struct {
	allowed map[libp2ppeer.ID]bool // never changed after newGate
	h       *Host

	mu        sync.Mutex
	strangers uint64
	told      time.Time // when a stranger was last logged
	allowlist *rcmgr.Allowlist
	listed    map[libp2ppeer.ID][]ma.Multiaddr
}

func newGate(h *Host) *gate {
	g := &gate{allowed: map[libp2ppeer.ID]bool{}, h: h, listed: map[libp2ppeer.ID][]ma.Multiaddr{}}
	for _, r := range h.remotes {
		g.allowed[r.id] = true
	}
	for _, r := range h.relays {
		g.allowed[r.info.ID] = true
	}
	return g
}

func (g *gate) InterceptPeerDial(p libp2ppeer.ID) bool { return g.allowed[p] }

func (g *gate) InterceptAddrDial(p libp2ppeer.ID, _ ma.Multiaddr) bool { return g.allowed[p] }

func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

func (g *gate) InterceptSecured(_ network.Direction, p libp2ppeer.ID, conn network.ConnMultiaddrs) bool {
	if g.allowed[p] {
		return true
	}
	g.mu.Lock()
	g.strangers++
	n, tell := g.strangers, time.Since(g.told) > time.Minute
	if tell {
		g.told = time.Now()
	}
	g.mu.Unlock()
	if tell {
		g.h.log.Warn("refuse a node that is not in the lock", "peer_id", p, "address", conn.RemoteMultiaddr(), "refused", n)
	}
	return false
}

func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// allowAddrs keeps places for connections from a peer's known addresses, so that strangers who fill
// the house cannot keep it out.
func (g *gate) allowAddrs(id libp2ppeer.ID, addrs []ma.Multiaddr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.listed[id] {
		_ = g.allowlist.Remove(a) // what was added can be removed
	}
	g.listed[id] = nil
	for _, a := range addrs {
		full := ma.Join(a, ma.StringCast("/p2p/"+id.String()))
		if g.allowlist.Add(full) == nil { // names have no address to keep a place for
			g.listed[id] = append(g.listed[id], full)
		}
	}
}

// Strangers is how many connections were refused because their node is not in the lock.
func (h *Host) Strangers() uint64 {
	h.gate.mu.Lock()
	defer h.gate.mu.Unlock()
	return h.gate.strangers
}

const (
	peerMemory = 160 << 20 // one message of the largest protocol, and what came before it
	peerConns  = 8
)

// resources bounds everything that others can make us hold. Each peer has its own part, so that the
// parts of all fit into the whole.
func (h *Host) resources() (network.ResourceManager, error) {
	n := len(h.remotes) + len(h.relays)
	each := min(peerMemory, h.o.MemoryBytes/int64(max(n, 1)))
	if each < 1<<20 {
		return nil, fmt.Errorf("%d bytes for %d peers are too little: give at least 1 MiB each", h.o.MemoryBytes, n)
	}
	one := rcmgr.ResourceLimits{
		Conns: 2 * peerConns, ConnsInbound: peerConns, ConnsOutbound: peerConns, FD: 2 * peerConns,
		Streams: 4 * maxInbound, StreamsInbound: 2 * maxInbound, StreamsOutbound: 2 * maxOutbound,
		Memory: rcmgr.LimitVal64(each),
	}
	all := one
	for _, v := range []*rcmgr.LimitVal{&all.Conns, &all.ConnsInbound, &all.ConnsOutbound, &all.FD, &all.Streams, &all.StreamsInbound, &all.StreamsOutbound} {
		*v *= rcmgr.LimitVal(n + 1)
	}
	all.Memory = rcmgr.LimitVal64(h.o.MemoryBytes)
	// Transient is what has not proved an identity, or a stream that has not named its protocol.
	transient := rcmgr.ResourceLimits{
		Conns: 128, ConnsInbound: 64, ConnsOutbound: 64, FD: 128,
		Streams: all.Streams, StreamsInbound: all.StreamsInbound, StreamsOutbound: all.StreamsOutbound, Memory: 64 << 20,
	}
	all.Conns, all.ConnsInbound, all.FD = all.Conns+64, all.ConnsInbound+64, all.FD+64
	small := rcmgr.ResourceLimits{Streams: 16, StreamsInbound: 8, StreamsOutbound: 8, Memory: 1 << 20}
	limits := rcmgr.PartialLimitConfig{
		System: all, Transient: transient, AllowlistedSystem: all, AllowlistedTransient: transient,
		PeerDefault: rcmgr.ResourceLimits{ // strangers, until the gate sees them
			Conns: 4, ConnsInbound: 4, ConnsOutbound: rcmgr.BlockAllLimit, FD: 4, Streams: rcmgr.BlockAllLimit,
			StreamsInbound: rcmgr.BlockAllLimit, StreamsOutbound: rcmgr.BlockAllLimit, Memory: 1 << 20,
		},
		Peer:        map[libp2ppeer.ID]rcmgr.ResourceLimits{},
		ServicePeer: map[string]rcmgr.ResourceLimits{ping.ServiceName: small, identify.ServiceName: small},
	}
	for id := range h.gate.allowed {
		limits.Peer[id] = one
	}
	// Several nodes may share one address (a NAT, a container bridge), so the bound of an address
	// follows the size of the cluster.
	perIP := 64 + peerConns*n
	r := rate.SubnetLimit{Limit: rate.Limit{RPS: 1 + float64(n), Burst: perIP}}
	v4, v6 := r, r
	v4.PrefixLength, v6.PrefixLength = 32, 56
	mgr, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet([]rcmgr.ConnLimitPerSubnet{{ConnCount: perIP, PrefixLength: 32}}, []rcmgr.ConnLimitPerSubnet{{ConnCount: perIP, PrefixLength: 56}}),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")}},
			SubnetRateLimiter:   rate.SubnetLimiter{IPv4SubnetLimits: []rate.SubnetLimit{v4}, IPv6SubnetLimits: []rate.SubnetLimit{v6}, GracePeriod: time.Minute},
		}))
	if err != nil {
		return nil, err
	}
	h.gate.allowlist = rcmgr.GetAllowlist(mgr)
	for _, r := range h.remotes {
		h.gate.allowAddrs(r.id, r.addrs)
	}
	return mgr, nil
}
