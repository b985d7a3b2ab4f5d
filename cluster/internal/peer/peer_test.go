package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/wirepb"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	libp2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the samples again")

const (
	oneWay = "/test/oneway/1.0.0"
	echo   = "/test/echo/1.0.0"
)

func testKey(t testing.TB, b byte) enr.Key {
	t.Helper()
	k, err := enr.ParseKeyFile([]byte(hex.EncodeToString(bytes.Repeat([]byte{b}, 32))))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// flock is a test cluster: node i has the key 0x(i+2).
type flock struct {
	t     testing.TB
	n     int
	spawn sync.WaitGroup
}

func newFlock(t testing.TB, n int) *flock {
	f := &flock{t: t, n: n}
	t.Cleanup(f.spawn.Wait)
	return f
}

func (f *flock) start(i int, change ...func(*Options)) *Host {
	f.t.Helper()
	o := Options{Key: testKey(f.t, byte(i+2)), ListenTCP: []string{"127.0.0.1:0"}, Version: "v1.10.3-provost", Nickname: fmt.Sprintf("node %d", i), LockHash: lockA}
	for j := range f.n {
		o.Peers = append(o.Peers, Peer{Index: cluster.PeerIndex(j), PubKey: testKey(f.t, byte(j+2)).PubKey(), Name: fmt.Sprint("n", j)})
	}
	o.Spawn = func(_ string, fn func(context.Context) error) {
		f.spawn.Go(func() {
			if err := fn(context.Background()); err != nil {
				f.t.Error(err)
			}
		})
	}
	for _, c := range change {
		c(&o)
	}
	h, err := New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { h.Close() })
	return h
}

// introduce tells every host where the others are.
func introduce(t testing.TB, hosts ...*Host) {
	t.Helper()
	for _, a := range hosts {
		for _, b := range hosts {
			if a == b {
				continue
			}
			if err := a.SetAddrs(b.Self(), b.Addrs()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, h := range hosts {
		eventually(t, "connected", func() bool { return h.Connected() >= len(hosts)-1 })
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

type heard struct {
	from cluster.PeerIndex
	msg  string
}

func listen(t testing.TB, h *Host) <-chan heard {
	t.Helper()
	ch := make(chan heard, 1000)
	err := errors.Join(
		h.Handle(oneWay, 1<<20, func(_ context.Context, from cluster.PeerIndex, msg []byte) ([]byte, error) {
			ch <- heard{from, string(msg)}
			return nil, nil
		}),
		h.Handle(echo, 8<<20, func(_ context.Context, _ cluster.PeerIndex, msg []byte) ([]byte, error) {
			if string(msg) == "refuse" {
				return nil, errors.New("refused")
			}
			return append([]byte{}, msg...), nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func next(t testing.TB, ch <-chan heard) heard {
	t.Helper()
	select {
	case m := <-ch:
		return m
	case <-time.After(30 * time.Second):
		t.Fatal("no message came")
		return heard{}
	}
}

func TestIdentities(t *testing.T) {
	raw, err := os.ReadFile("../../../../shared/fixtures/charon-clusters/wire-vectors/identities.json")
	if err != nil {
		t.Skipf("the identity vectors are not here: %v", err)
	}
	var vectors []struct {
		PrivateKey string `json:"private_key"`
		ENR        string `json:"enr"`
		PeerID     string `json:"peer_id"`
	}
	if err := json.Unmarshal(raw, &vectors); err != nil || len(vectors) == 0 {
		t.Fatal(err)
	}
	for _, v := range vectors {
		rec, err := enr.Parse(v.ENR)
		if err != nil {
			t.Fatal(err)
		}
		id, err := ID(rec.PubKey)
		if err != nil || id != v.PeerID {
			t.Errorf("%s %v, want %s", id, err, v.PeerID)
		}
		key, err := enr.ParseKeyFile([]byte(v.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		own, err := identity(key)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := libp2ppeer.IDFromPrivateKey(own); err != nil || id.String() != v.PeerID {
			t.Errorf("%s %v, want %s", id, err, v.PeerID)
		}
	}
}

func TestFourNodesTalk(t *testing.T) {
	f := newFlock(t, 4)
	var told sync.Map
	hosts, inbox := make([]*Host, 4), make([]<-chan heard, 4)
	for i := range hosts {
		hosts[i] = f.start(i, func(o *Options) {
			if i == 0 {
				o.OnPeer = func(s Status) { told.Store(s.Index, s) }
			}
		})
		inbox[i] = listen(t, hosts[i])
	}
	introduce(t, hosts...)
	ctx := t.Context()
	if failed := hosts[2].Broadcast(ctx, oneWay, []byte("to all")); failed != nil {
		t.Fatal(failed)
	}
	for _, i := range []int{0, 1, 3} {
		if m := next(t, inbox[i]); m != (heard{2, "to all"}) {
			t.Errorf("node %d heard %+v", i, m)
		}
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 5<<16)
	for _, msg := range [][]byte{{}, {0}, []byte("x"), big} {
		for _, pair := range [][2]int{{0, 1}, {1, 0}} {
			got, err := hosts[pair[0]].Request(ctx, cluster.PeerIndex(pair[1]), echo, msg)
			if err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("%d bytes came back as %d: %v", len(msg), len(got), err)
			}
		}
	}
	if _, err := hosts[0].Request(ctx, 1, echo, []byte("refuse")); err == nil {
		t.Error("a refused request was answered")
	}
	if err := hosts[0].Send(ctx, 1, oneWay, make([]byte, 1<<20+1)); !errors.As(err, new(*FrameTooLong)) {
		t.Errorf("a message over the limit: %v", err)
	}
	if err := hosts[0].Send(ctx, 0, oneWay, nil); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("to ourselves: %v", err)
	}
	const only = "/test/only/1.0.0"
	if err := hosts[0].Handle(only, 10, func(context.Context, cluster.PeerIndex, []byte) ([]byte, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	if err := hosts[0].Send(ctx, 1, only, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a protocol that the other doesn't have: %v", err)
	}
	if err := hosts[0].Handle(only, 10, func(context.Context, cluster.PeerIndex, []byte) ([]byte, error) { return nil, nil }); err == nil {
		t.Error("a protocol got two handlers")
	}
	eventually(t, "pings and infos of all", func() bool {
		n := 0
		told.Range(func(_, v any) bool {
			s := v.(Status)
			if s.Route == RouteDirect && s.RTT != nil && s.Lock == LockSame && s.Client == "provost" && s.Version == "v1.10.3-provost" &&
				s.Nickname == fmt.Sprintf("node %d", s.Index) && s.ClockOffset != nil && s.ClockOffset.Abs() < time.Second {
				n++
			}
			return true
		})
		return n == 3
	})
	if s := hosts[1].Status()[0]; s.Index != 0 || s.MessagesReceived == 0 || s.BytesReceived < 5<<20 || s.ID != hosts[0].ID() {
		t.Errorf("status %+v", s)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	f := newFlock(t, 2)
	h := f.start(0)
	stranger := lonelyHost(t, 99)
	err := stranger.Connect(t.Context(), addrInfo(t, h))
	if err == nil {
		s, serr := stranger.NewStream(t.Context(), h.h.ID(), wirepb.ProtocolPeerInfo)
		if serr == nil {
			s.CloseWrite()
			_, serr = s.Read(make([]byte, 1))
		}
		err = serr
	}
	if err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("a stranger was served: %v", err)
	}
	if h.Strangers() == 0 {
		t.Error("the stranger was not counted")
	}
	if _, err := New(Options{Key: testKey(t, 99), Peers: h.o.Peers, Spawn: noSpawn}); !errors.Is(err, ErrNotMember) {
		t.Errorf("a key outside the lock: %v", err)
	}
}

func lonelyHost(t testing.TB, key byte, more ...libp2p.Option) host.Host {
	t.Helper()
	id, err := identity(testKey(t, key))
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(append([]libp2p.Option{libp2p.Identity(id), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{})}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func addrInfo(t testing.TB, h *Host) libp2ppeer.AddrInfo {
	t.Helper()
	return libp2ppeer.AddrInfo{ID: h.h.ID(), Addrs: h.h.Addrs()}
}

func TestLockMismatchIsSeen(t *testing.T) {
	f := newFlock(t, 2)
	var log lockedBuffer
	a := f.start(0, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	b := f.start(1, func(o *Options) { o.LockHash[5] = 9; o.Nickname = "\x1b[31mred" + strings.Repeat("x", 100) })
	introduce(t, a, b)
	eventually(t, "mismatch", func() bool { return a.Status()[0].Lock == LockDifferent && b.Status()[0].Lock == LockDifferent })
	if !strings.Contains(log.String(), "another lock") {
		t.Error(log.String())
	}
	if nick := a.Status()[0].Nickname; strings.Contains(nick, "\x1b") || len(nick) > 32 {
		t.Errorf("nickname %q", nick)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestPeerComesBackAfterRestart(t *testing.T) {
	f := newFlock(t, 2)
	a, b := f.start(0), f.start(1)
	listen(t, a)
	inbox := listen(t, b)
	introduce(t, a, b)
	addr := b.Addrs()[0]
	if err := a.Send(t.Context(), 1, oneWay, []byte("before")); err != nil {
		t.Fatal(err)
	}
	next(t, inbox)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "gone", func() bool { return a.Connected() == 0 })
	if err := a.Send(t.Context(), 1, oneWay, nil); !errors.Is(err, ErrNotConnected) {
		t.Errorf("send to nobody: %v", err)
	}
	// Only the restarted node's old address is known, and only to a: it must be a that dials.
	b = f.start(1, func(o *Options) { o.ListenTCP = []string{addr} })
	inbox = listen(t, b)
	eventually(t, "back", func() bool { return a.Connected() == 1 })
	eventually(t, "heard", func() bool { return a.Send(t.Context(), 1, oneWay, []byte("after")) == nil })
	if m := next(t, inbox); m.msg != "after" {
		t.Errorf("%+v", m)
	}
	if b.Send(t.Context(), 0, oneWay, []byte("and back")) != nil {
		t.Error("the other direction is dead")
	}
}

// A node of the cluster that turned bad: raw libp2p with a good key.
func hostile(t *testing.T, change ...func(*Options)) (*Host, host.Host, *atomic.Int32) {
	f := newFlock(t, 3)
	h := f.start(0, change...)
	running := new(atomic.Int32)
	if err := h.Handle(oneWay, 4<<20, func(ctx context.Context, from cluster.PeerIndex, msg []byte) ([]byte, error) {
		running.Add(1)
		defer running.Add(-1)
		if string(msg) == "stay" {
			<-ctx.Done()
		}
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	bad := lonelyHost(t, 3)
	if err := bad.Connect(t.Context(), addrInfo(t, h)); err != nil {
		t.Fatal(err)
	}
	return h, bad, running
}

func open(t *testing.T, bad host.Host, h *Host) network.Stream {
	t.Helper()
	s, err := bad.NewStream(t.Context(), h.h.ID(), protocol.ID(oneWay))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func held(h *Host, id libp2ppeer.ID) (n int64, streams int) {
	_ = h.h.Network().ResourceManager().ViewPeer(id, func(s network.PeerScope) error {
		n, streams = s.Stat().Memory, s.Stat().NumStreamsInbound
		return nil
	})
	return n, streams
}

func TestHostileFrames(t *testing.T) {
	h, bad, _ := hostile(t)
	for name, raw := range map[string][]byte{
		"too long":       binary.AppendUvarint(nil, 4<<20+1),
		"enormous":       {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"not shortest":   {0x81, 0x00, 'x'},
		"endless varint": bytes.Repeat([]byte{0xff}, 100),
		"cut off":        {10, 'x'},
		"nothing at all": {},
		"length cut off": {0x80},
	} {
		before := h.Status()[0].BadMessages
		s := open(t, bad, h)
		if _, err := s.Write(raw); err != nil {
			t.Fatal(err)
		}
		s.CloseWrite()
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: answered", name)
		}
		eventually(t, name+" counted", func() bool { return h.Status()[0].BadMessages > before })
		s.Reset()
	}
}

func TestHalfOpenStreamsEnd(t *testing.T) {
	h, bad, _ := hostile(t)
	var all []network.Stream
	for range 20 {
		s := open(t, bad, h)
		if _, err := s.Write(binary.AppendUvarint(nil, 4<<20)); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	eventually(t, "streams held", func() bool { _, n := held(h, bad.ID()); return n >= 20 })
	if n, _ := held(h, bad.ID()); n > 20*(firstRead+(512<<10)) {
		t.Errorf("an announcement alone holds %d bytes", n)
	}
	// The reader's timeout ends them although the sender keeps them open.
	eventually(t, "streams ended", func() bool { _, n := held(h, bad.ID()); return n == 0 })
	for _, s := range all {
		s.Reset()
	}
	if h.Status()[0].BadMessages < 20 {
		t.Errorf("%+v", h.Status()[0])
	}
}

func TestThousandsOfStreamsAreBounded(t *testing.T) {
	f := newFlock(t, 3)
	h := f.start(0, func(o *Options) { o.MemoryBytes = 64 << 20 })
	var running, most atomic.Int32
	if err := h.Handle(oneWay, 4<<20, func(ctx context.Context, from cluster.PeerIndex, msg []byte) ([]byte, error) {
		if from == 1 {
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-ctx.Done()
		}
		return nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	bad := lonelyHost(t, 3)
	if err := bad.Connect(t.Context(), addrInfo(t, h)); err != nil {
		t.Fatal(err)
	}
	good := f.start(2)
	listen(t, good)
	if err := good.SetAddrs(0, h.Addrs()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "good one connected", func() bool { return good.Connected() == 1 })

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	refused := 0
	for range 3000 {
		s, err := bad.NewStream(ctx, h.h.ID(), protocol.ID(oneWay))
		if err != nil {
			refused++
			if ctx.Err() != nil {
				break
			}
			if bad.Network().Connectedness(h.h.ID()) != network.Connected && bad.Connect(ctx, addrInfo(t, h)) != nil {
				break
			}
			continue
		}
		if _, err := s.Write([]byte("\x04stay")); err != nil {
			refused++
		}
		if n, streams := held(h, bad.ID()); n > 32<<20 || streams > 2*maxInbound {
			t.Fatalf("one peer holds %d bytes in %d streams", n, streams)
		}
	}
	if most.Load() > maxInbound {
		t.Errorf("%d handlers ran at once for one peer", most.Load())
	}
	if most.Load() == 0 {
		t.Error("nothing got through, so nothing was bounded")
	}
	// The others are served as ever.
	if err := good.Send(t.Context(), 0, oneWay, []byte("hello")); err != nil {
		t.Errorf("a good peer suffers: %v", err)
	}
	if h.Status()[0].Refused == 0 && refused == 0 {
		t.Error("nothing was refused")
	}
}

func TestSlowReceiverHoldsUpOnlyItsSender(t *testing.T) {
	f := newFlock(t, 3)
	a, c := f.start(0), f.start(2)
	listen(t, a)
	inbox := listen(t, c)
	introduce(t, a, c)
	deaf := lonelyHost(t, 3)
	deaf.SetStreamHandler(protocol.ID(oneWay), func(s network.Stream) { <-t.Context().Done(); s.Reset() }) // takes and never reads
	if err := a.SetAddrs(1, []string{deaf.Addrs()[0].String()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "deaf one connected", func() bool { return a.Connected() == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	failed := a.Broadcast(ctx, oneWay, make([]byte, 1<<20))
	if m := next(t, inbox); len(m.msg) != 1<<20 {
		t.Errorf("%d bytes", len(m.msg))
	}
	if len(failed) != 1 || !errors.Is(failed[1], context.DeadlineExceeded) {
		t.Errorf("failed: %v", failed)
	}
}

func TestSilentPeerIsGivenUp(t *testing.T) {
	f := newFlock(t, 2)
	a := f.start(0)
	mute := lonelyHost(t, 3, libp2p.Ping(false))
	mute.SetStreamHandler("/ipfs/ping/1.0.0", func(s network.Stream) { s.Reset() })
	if err := a.SetAddrs(1, []string{mute.Addrs()[0].String()}); err != nil {
		t.Fatal(err)
	}
	var gone atomic.Bool
	mute.Network().Notify(&network.NotifyBundle{DisconnectedF: func(network.Network, network.Conn) { gone.Store(true) }})
	eventually(t, "given up and dialled anew", func() bool { return gone.Load() && a.Connected() == 1 })
	if s := a.Status()[0]; s.RTT != nil {
		t.Errorf("%+v", s)
	}
}

func TestThroughARelay(t *testing.T) {
	r := lonelyHost(t, 77, libp2p.ForceReachabilityPublic())
	service, err := circuit.New(r)
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	via := r.Addrs()[0].String() + "/p2p/" + r.ID().String()
	f := newFlock(t, 2)
	// Without listeners the relay is the only way.
	set := func(o *Options) { o.Relays, o.ListenTCP = []string{via}, nil }
	a, b := f.start(0, set), f.start(1, set)
	listen(t, a)
	inbox := listen(t, b)
	eventually(t, "relayed", func() bool { return a.Connected() == 1 && b.Connected() == 1 })
	if s := a.Status()[0]; s.Route != RouteRelayed || !strings.Contains(s.Addr, "p2p-circuit") {
		t.Errorf("%+v", s)
	}
	eventually(t, "sent", func() bool { return a.Send(t.Context(), 1, oneWay, []byte("via")) == nil })
	if m := next(t, inbox); m.msg != "via" {
		t.Errorf("%+v", m)
	}
	if rs := a.Relays(); len(rs) != 1 || !rs[0].Connected || rs[0].Until == nil {
		t.Errorf("%+v", rs)
	}
}

func TestCloseDuringTraffic(t *testing.T) {
	f := newFlock(t, 2)
	a, b := f.start(0), f.start(1)
	listen(t, a)
	inside := make(chan struct{})
	if err := b.Handle(oneWay, 100, func(ctx context.Context, _ cluster.PeerIndex, _ []byte) ([]byte, error) {
		close(inside)
		<-ctx.Done()
		return nil, ctx.Err()
	}); err != nil {
		t.Fatal(err)
	}
	introduce(t, a, b)
	if err := a.Send(t.Context(), 1, oneWay, []byte("x")); err != nil {
		t.Fatal(err)
	}
	<-inside
	if err := b.Close(); err != nil { // would hang if the handler were not told
		t.Fatal(err)
	}
	if err := b.Send(t.Context(), 0, oneWay, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("send after close: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	id, err := peerID(testKey(t, 3).PubKey())
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"10.0.0.7:3610": "/ip4/10.0.0.7/tcp/3610", "[::1]:3610": "/ip6/::1/tcp/3610", ":3610": "/ip4/0.0.0.0/tcp/3610",
		"node7.lan:3610": "/dns/node7.lan/tcp/3610", "/ip4/1.2.3.4/tcp/5": "/ip4/1.2.3.4/tcp/5",
		"/ip4/1.2.3.4/tcp/5/p2p/" + id.String(): "/ip4/1.2.3.4/tcp/5",
	} {
		got, err := peerAddrs([]string{in}, id)
		if err != nil || len(got) != 1 || got[0].String() != want {
			t.Errorf("%s: %v %v, want %s", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "10.0.0.7", "10.0.0.7:99999", "/ip4/1.2.3.4/tcp/5/p2p/16Uiu2HAkzdQ5Y9SYT91K1ue5SxXwgmajXntfScGnLYeip5hHyWmT", "/nonsense", "/p2p/" + id.String()} {
		if got, err := peerAddrs([]string{bad}, id); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func TestTwoHostsOnOnePort(t *testing.T) {
	f := newFlock(t, 2)
	a := f.start(0)
	_, err := New(Options{Key: testKey(t, 3), Peers: a.o.Peers, Spawn: noSpawn, ListenTCP: []string{a.Addrs()[0]}})
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("two hosts on one port: %v", err)
	}
}

func encoded(t testing.TB, i info) []byte {
	t.Helper()
	raw, err := i.encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestInfoSample(t *testing.T) {
	i := info{version: "v1.10.3-provost", lockHash: lockA[:], sentAt: time.Unix(1700000000, 5).UTC(), gitHash: "abcdef0", startedAt: time.Unix(1600000000, 0).UTC(), builder: true, nickname: "n", client: "provost"}
	path := filepath.Join("testdata", "peerinfo.bin")
	if *update {
		if err := os.WriteFile(path, encoded(t, i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, i); !bytes.Equal(got, want) {
		t.Errorf("%x\n%x", got, want)
	}
	back, err := decodeInfo(want)
	if err != nil || fmt.Sprintf("%+v", back) != fmt.Sprintf("%+v", i) {
		t.Errorf("%+v %v", back, err)
	}
	if err := back.check(); err != nil {
		t.Error(err)
	}
	for _, bad := range []info{{}, {sentAt: i.sentAt, gitHash: "unknown"}, {sentAt: i.sentAt, startedAt: i.sentAt, gitHash: "ABCDEF0"}, {sentAt: i.sentAt, startedAt: i.sentAt}} {
		if bad.check() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

type noMemory struct{ bytes, most, bound int }

func (m *noMemory) ReserveMemory(n int, _ uint8) error {
	if m.bytes+n > m.bound {
		return errors.New("too much memory")
	}
	m.bytes += n
	m.most = max(m.most, m.bytes)
	return nil
}

func (m *noMemory) ReleaseMemory(n int) { m.bytes -= n }

func FuzzFrame(f *testing.F) {
	for _, seed := range [][]byte{{}, {0}, {3, 'a', 'b', 'c'}, {3, 'a'}, {0x80}, {0x81, 0}, bytes.Repeat([]byte{0xff}, 11), append([]byte{0x80, 0x80, 8}, make([]byte, 1<<17)...)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		const limit = 1 << 20
		mem := &noMemory{bound: 2 * limit}
		msg, err := readFrame(bytes.NewReader(raw), limit, mem)
		if mem.most > firstRead+growth*len(raw)+len(raw) {
			t.Fatalf("%d bytes made us take %d", len(raw), mem.most)
		}
		if err != nil {
			return
		}
		if len(msg) > limit || mem.bytes != len(msg) {
			t.Fatalf("a message of %d bytes holds %d", len(msg), mem.bytes)
		}
		var out bytes.Buffer
		if err := writeFrame(&out, msg); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(raw, out.Bytes()) {
			t.Fatalf("%x was read, %x is written", raw, out.Bytes())
		}
	})
}

func FuzzInfo(f *testing.F) {
	if raw, err := os.ReadFile(filepath.Join("testdata", "peerinfo.bin")); err == nil {
		f.Add(raw)
	}
	f.Add([]byte{})
	f.Add([]byte{0x1a, 0x02, 0x08, 0x01})
	f.Add(encoded(f, info{copies: []Copy{{time.Unix(1700000000, 5), "/ip4/10.0.0.7/tcp/3610"}, {time.Unix(-1, 0), ""}}}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		i, err := decodeInfo(raw)
		if err != nil {
			return
		}
		again, err := decodeInfo(encoded(t, i))
		if err != nil || !bytes.Equal(encoded(t, again), encoded(t, i)) {
			t.Fatalf("%+v does not survive: %v", i, err)
		}
	})
}

func BenchmarkOneWay(b *testing.B) {
	for _, size := range []int{200, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f := newFlock(b, 2)
			a, c := f.start(0), f.start(1)
			arrived := make(chan time.Time, 1)
			for _, h := range []*Host{a, c} {
				if err := h.Handle(oneWay, 1<<20, func(context.Context, cluster.PeerIndex, []byte) ([]byte, error) {
					arrived <- time.Now()
					return nil, nil
				}); err != nil {
					b.Fatal(err)
				}
			}
			introduce(b, a, c)
			msg := make([]byte, size)
			var total time.Duration
			b.ReportAllocs()
			for b.Loop() {
				begin := time.Now()
				if err := a.Send(b.Context(), 1, oneWay, msg); err != nil {
					b.Fatal(err)
				}
				total += (<-arrived).Sub(begin)
			}
			b.ReportMetric(float64(total.Microseconds())/float64(b.N), "µs/oneway")
		})
	}
}
