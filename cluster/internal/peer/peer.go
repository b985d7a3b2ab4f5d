// Package peer connects the nodes of a cluster. It is the only package that knows libp2p.
//
// Promises. Only the nodes of the lock get through: whoever proves another identity in the security
// handshake is disconnected at once. One message travels per stream and direction, as an unsigned
// varint length and the bytes; there is no queue and no acknowledgement, so a message that could
// not be handed over is lost and its error is returned. What one peer can make this node hold (open
// streams, bytes being read, connections) is bounded, and so is the sum over all peers; a peer over
// its bound loses its newest stream and nobody else suffers.
//
// Connections are looked after by themselves: every peer with a known address is dialled with
// growing pauses until it answers, pinged each second, and dialled again after it was lost. The
// node with the smaller peer id dials first; both may, and two connections between two nodes are
// normal.
//
// A node that runs twice is let in twice, since both prove the same identity; it is seen by its peers
// and, through them, by itself: Status.Copies and Host.Twins.
//
// All methods may be called from any goroutine. Send, Request and Broadcast block no longer than
// their context and at most seven seconds per message; handlers run on goroutines of their own.
// Status callbacks run one at a time and never hold up a message.
//
// The protocols, their limits and the framing are those that Charon's peers use, so that nodes of
// both programs form one cluster.
package peer

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/wirepb"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	libp2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/gologshim"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// Errors that callers tell apart.
var (
	ErrNotMember    = errors.New("the node key belongs to no operator of the lock: start with the directory that belongs to this lock")
	ErrNotConnected = errors.New("not connected")
	ErrUnsupported  = errors.New("the peer doesn't know the protocol: it runs another version")
	ErrUnknownPeer  = errors.New("no such peer")
	ErrClosed       = errors.New("the host is closed")
)

// Peer is one node of the lock.
type Peer struct {
	Index  cluster.PeerIndex
	PubKey enr.PubKey // of the operator's node record
	Name   string     // shown to people; may be empty
	// Addrs are where the node listens: "10.0.0.7:3610", "node7.lan:3610" or a multiaddr. None: the
	// node must dial us, or be reached through a relay.
	Addrs []string
}

// Options says who we are and whom we talk to. Key, Peers and Spawn are needed.
type Options struct {
	Key   enr.Key
	Peers []Peer // all nodes of the lock; the one with our key is us
	// ListenTCP are addresses as in Peer.Addrs. None: outgoing connections only.
	ListenTCP []string
	// Advertise are further addresses that others are told to reach us at.
	Advertise []string
	// Relays are circuit-v2 relays as multiaddrs that end in /p2p/ID.
	Relays    []string
	UserAgent string // default "provost"

	// What peers are told about us. Version is the level of Charon that we are compatible with,
	// which is what Charon's nodes compare: "v1.10.3-provost".
	Version  string
	GitHash  string // 7 hex digits, default "unknown"
	Client   string // default "provost"
	Nickname string // at most 32 characters
	LockHash cluster.Root
	Builder  bool // the builder API is in use

	// MemoryBytes bounds what all peers together can make us hold; default 512 MiB. Each peer has an
	// equal part of it, at most 160 MiB.
	MemoryBytes int64

	Logger *slog.Logger // default: none
	// Spawn starts the loops of the host; their end is waited for by Close too.
	Spawn func(name string, fn func(ctx context.Context) error)
	// OnPeer is told the newest status of a peer after it changed. Calls never overlap; a slow
	// callback skips states, never the last.
	OnPeer func(Status)

	pace pace // tests are in a hurry
}

// Host is a node among its peers. Close it.
type Host struct {
	o       Options
	log     *slog.Logger
	self    cluster.PeerIndex
	id      libp2ppeer.ID
	started time.Time
	pace    pace
	h       host.Host
	gate    *gate
	relays  []*relay

	remotes []*remote // sorted by index, without us; never changed after New
	byID    map[libp2ppeer.ID]*remote

	ctx    context.Context
	cancel context.CancelFunc
	dirty  chan struct{} // something changed: one place, a full one says so already

	mu     sync.Mutex
	limits map[string]int // read limit of each protocol
	closed bool
	wg     sync.WaitGroup // loops and handlers; added to under mu while not closed
}

var quiet sync.Once

// New opens the listeners and starts to dial. It doesn't wait for any peer.
func New(o Options) (*Host, error) {
	// libp2p would write to stderr, over the screen. What matters of it is told in Status.
	quiet.Do(func() { gologshim.SetDefaultHandler(slog.DiscardHandler) })
	if o.Spawn == nil {
		return nil, errors.New("start peer host: Options.Spawn is empty")
	}
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	o.UserAgent = cmp.Or(o.UserAgent, "provost")
	o.GitHash = cmp.Or(o.GitHash, "unknown")
	o.Client = cmp.Or(o.Client, "provost")
	o.MemoryBytes = cmp.Or(o.MemoryBytes, 512<<20)

	hst := &Host{o: o, log: o.Logger, started: time.Now().UTC(), pace: cmp.Or(o.pace, usualPace), self: -1, byID: map[libp2ppeer.ID]*remote{}, dirty: make(chan struct{}, 1), limits: map[string]int{}}
	hst.ctx, hst.cancel = context.WithCancel(context.Background())
	if err := hst.start(); err != nil {
		hst.cancel()
		return nil, fmt.Errorf("start peer host: %w", err)
	}
	return hst, nil
}

func (h *Host) start() (err error) {
	if err := h.meet(); err != nil {
		return err
	}
	if h.relays, err = parseRelays(h.o.Relays); err != nil {
		return err
	}
	listen, err := multiaddrs(h.o.ListenTCP)
	if err != nil {
		return fmt.Errorf("listen address: %w", err)
	}
	advertise, err := multiaddrs(h.o.Advertise)
	if err != nil {
		return fmt.Errorf("advertised address: %w", err)
	}
	key, err := identity(h.o.Key)
	if err != nil {
		return err
	}
	h.gate = newGate(h)
	resources, err := h.resources()
	if err != nil {
		return err
	}
	tcpOptions := []any{}
	if len(h.relays) == 0 {
		// Sharing the port is for hole punching only; without it a second program on our port is an error.
		tcpOptions = append(tcpOptions, tcp.DisableReuseport())
	}
	options := []libp2p.Option{
		libp2p.Identity(key), libp2p.UserAgent(h.o.UserAgent),
		libp2p.Transport(tcp.NewTCPTransport, tcpOptions...),
		libp2p.Security(libp2ptls.ID, libp2ptls.New), libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ConnectionGater(h.gate), libp2p.ConnectionManager(connmgr.NullConnMgr{}), libp2p.ResourceManager(resources),
		libp2p.DisableMetrics(), libp2p.Ping(true),
		libp2p.AddrsFactory(func(own []ma.Multiaddr) []ma.Multiaddr { return append(slices.Clone(own), advertise...) }),
	}
	if len(h.relays) > 0 {
		options = append(options, libp2p.EnableRelay(), libp2p.EnableHolePunching())
	} else {
		options = append(options, libp2p.DisableRelay())
	}
	// Listening comes after: New leaves goroutines behind when it fails to.
	if h.h, err = libp2p.New(append(options, libp2p.NoListenAddrs)...); err != nil {
		resources.Close()
		return err
	}
	for i, a := range listen {
		if err := h.h.Network().Listen(a); err != nil {
			h.h.Close()
			return fmt.Errorf("listen on %s: %w", h.o.ListenTCP[i], err)
		}
	}
	h.h.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { h.connChanged(c.RemotePeer()); h.met(c.RemotePeer()) },
		DisconnectedF: func(_ network.Network, c network.Conn) { h.connChanged(c.RemotePeer()) },
	})
	if err := h.Handle(wirepb.ProtocolPeerInfo, wirepb.MaxPeerInfoBytes, h.answerPeerInfo); err != nil {
		h.h.Close()
		return err
	}
	for _, r := range h.remotes {
		h.spawn(fmt.Sprintf("peer.dial.%d", r.index), func(ctx context.Context) { h.dialLoop(ctx, r) })
		h.spawn(fmt.Sprintf("peer.ping.%d", r.index), func(ctx context.Context) { h.pingLoop(ctx, r) })
		h.spawn(fmt.Sprintf("peer.info.%d", r.index), func(ctx context.Context) { h.infoLoop(ctx, r) })
	}
	for i, r := range h.relays {
		h.spawn(fmt.Sprintf("peer.relay.%d", i), func(ctx context.Context) { h.relayLoop(ctx, r) })
	}
	if h.o.OnPeer != nil {
		h.spawn("peer.tell", h.tellLoop)
	}
	return nil
}

// meet finds us among the peers and makes the others' records.
func (h *Host) meet() error {
	own := h.o.Key.PubKey()
	id, err := peerID(own)
	if err != nil {
		return fmt.Errorf("node key: %w", err)
	}
	h.id = id
	seen := map[cluster.PeerIndex]bool{}
	for _, p := range h.o.Peers {
		id, err := peerID(p.PubKey)
		if err != nil {
			return fmt.Errorf("peer %d: %w", p.Index, err)
		}
		if seen[p.Index] || h.byID[id] != nil || id == h.id && h.self >= 0 {
			return fmt.Errorf("peer %d: its index or its key stands twice in the list of peers", p.Index)
		}
		seen[p.Index] = true
		if id == h.id {
			h.self = p.Index
			continue
		}
		addrs, err := peerAddrs(p.Addrs, id)
		if err != nil {
			return fmt.Errorf("address of peer %d: %w", p.Index, err)
		}
		r := newRemote(p, id, addrs)
		h.byID[id] = r
		h.remotes = append(h.remotes, r)
	}
	if h.self < 0 {
		return ErrNotMember
	}
	slices.SortFunc(h.remotes, func(a, b *remote) int { return cmp.Compare(a.index, b.index) })
	return nil
}

// spawn runs a loop that ends with the host or with whoever owns Spawn. One that is started after
// Close ends at once.
func (h *Host) spawn(name string, fn func(ctx context.Context)) {
	h.o.Spawn(name, func(ctx context.Context) error {
		if !h.enter() {
			return nil
		}
		defer h.wg.Done()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(h.ctx, cancel)()
		fn(ctx)
		return nil
	})
}

func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Add(1)
	return true
}

// Close disconnects everybody and waits until every loop and handler has ended.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		h.wg.Wait()
		return nil
	}
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	err := h.h.Close()
	h.wg.Wait()
	if err != nil {
		return fmt.Errorf("close peer host: %w", err)
	}
	return nil
}

// Self is our index in the lock.
func (h *Host) Self() cluster.PeerIndex { return h.self }

// ID is our peer id, "16Uiu2HA…".
func (h *Host) ID() string { return h.id.String() }

// Addrs are the multiaddrs that we listen on and advertise.
func (h *Host) Addrs() []string {
	var out []string
	for _, a := range h.h.Addrs() {
		out = append(out, a.String())
	}
	return out
}

// SetAddrs replaces the known addresses of a peer and dials it at once if it isn't connected.
// Addresses that the peer told us itself are forgotten too.
func (h *Host) SetAddrs(to cluster.PeerIndex, addrs []string) error {
	r, err := h.remote(to)
	if err != nil {
		return err
	}
	parsed, err := peerAddrs(addrs, r.id)
	if err != nil {
		return fmt.Errorf("set address of peer %d: %w", to, err)
	}
	r.mu.Lock()
	r.addrs = parsed
	r.mu.Unlock()
	h.h.Peerstore().ClearAddrs(r.id)
	h.gate.allowAddrs(r.id, parsed)
	r.kick()
	return nil
}

func (h *Host) remote(i cluster.PeerIndex) (*remote, error) {
	if n, ok := slices.BinarySearchFunc(h.remotes, i, func(r *remote, i cluster.PeerIndex) int { return cmp.Compare(r.index, i) }); ok {
		return h.remotes[n], nil
	}
	return nil, fmt.Errorf("peer %d: %w", i, ErrUnknownPeer)
}

// ID returns the peer id of a node record's key, "16Uiu2HA…".
func ID(pub enr.PubKey) (string, error) {
	id, err := peerID(pub)
	if err != nil {
		return "", err
	}
	return id.String(), nil
}

func peerID(pub enr.PubKey) (libp2ppeer.ID, error) {
	key, err := crypto.UnmarshalSecp256k1PublicKey(pub[:])
	if err != nil {
		return "", fmt.Errorf("read node key %s: %w", pub, err)
	}
	return libp2ppeer.IDFromPublicKey(key)
}

// identity is the node key in libp2p's form.
func identity(key enr.Key) (crypto.PrivKey, error) {
	text := key.ExportFile()
	defer clear(text)
	var raw [32]byte
	defer clear(raw[:])
	if n, err := hex.Decode(raw[:], text); err != nil || n != len(raw) {
		return nil, errors.New("the node key is empty or was wiped")
	}
	k, err := crypto.UnmarshalSecp256k1PrivateKey(raw[:])
	if err != nil {
		return nil, errors.New("the node key is not usable")
	}
	return k, nil
}

// multiaddrs reads "host:port" and multiaddrs.
func multiaddrs(texts []string) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for _, t := range texts {
		a, err := multiaddr(t)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func multiaddr(text string) (ma.Multiaddr, error) {
	if strings.HasPrefix(text, "/") {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", text, err)
		}
		return a, nil
	}
	name, port, err := net.SplitHostPort(text)
	if err != nil {
		return nil, fmt.Errorf("read %q: want host:port or a multiaddr such as /ip4/10.0.0.7/tcp/3610", text)
	}
	kind := "dns"
	if name == "" {
		name = "0.0.0.0"
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		if kind = "ip4"; ip.Is6() && !ip.Is4In6() {
			kind = "ip6"
		}
		name = ip.Unmap().String()
	}
	a, err := ma.NewMultiaddr("/" + kind + "/" + name + "/tcp/" + port)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", text, err)
	}
	return a, nil
}

// peerAddrs reads a peer's addresses; a /p2p part must name that peer and is cut off.
func peerAddrs(texts []string, id libp2ppeer.ID) ([]ma.Multiaddr, error) {
	addrs, err := multiaddrs(texts)
	if err != nil {
		return nil, err
	}
	for i, a := range addrs {
		rest, who := libp2ppeer.SplitAddr(a)
		if who != "" && who != id {
			return nil, fmt.Errorf("read %q: it names peer %s, the lock says %s", texts[i], who, id)
		}
		if rest == nil {
			return nil, fmt.Errorf("read %q: there is no address before /p2p", texts[i])
		}
		addrs[i] = rest
	}
	return addrs, nil
}
