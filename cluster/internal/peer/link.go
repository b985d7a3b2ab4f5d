package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	libp2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	dialTimeout  = 10 * time.Second
	dialFirst    = 250 * time.Millisecond
	dialMost     = 15 * time.Second
	directEvery  = 30 * time.Second // between tries to leave a relay
	largerWaits  = time.Second      // the head start of the node with the smaller id
	shortLived   = 10 * time.Second // a connection that ends sooner counts as a failed dial
	pingEvery    = time.Second
	pingMost     = 30 * time.Second
	pingTimeout  = 5 * time.Second
	pingsToClose = 3 // lost pings in a row after which connections are given up
)

// dialLoop keeps one peer connected.
func (h *Host) dialLoop(ctx context.Context, r *remote) {
	pause := dialFirst
	if r.id < h.id {
		r.wait(ctx, largerWaits)
	}
	for ctx.Err() == nil {
		route := h.route(r.id)
		addrs := h.dialAddrs(r, route)
		if route == RouteDirect || len(addrs) == 0 {
			r.wait(ctx, 0)
			if route == RouteDirect && h.route(r.id) == RouteNone && time.Since(r.connectedAt()) < shortLived {
				// It took us in and threw us out: do not knock faster because of that.
				sleep(ctx, pause)
				pause = min(2*pause, dialMost)
			} else {
				pause = dialFirst
			}
			continue
		}
		dctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(ctx, "cluster"), dialTimeout)
		if route == RouteRelayed {
			dctx = network.WithForceDirectDial(dctx, "leave the relay")
		}
		// Our pauses are the only ones: the library's own grow to minutes.
		if sw, ok := h.h.Network().(*swarm.Swarm); ok {
			sw.Backoff().Clear(r.id)
		}
		err := h.h.Connect(dctx, libp2ppeer.AddrInfo{ID: r.id, Addrs: addrs})
		cancel()
		if ctx.Err() != nil {
			return
		}
		h.dialed(r, err)
		switch {
		case err == nil && h.route(r.id) != RouteNone:
		case route == RouteRelayed:
			r.wait(ctx, directEvery)
		default:
			if r.wait(ctx, jitter(pause)) {
				pause = dialFirst
			} else {
				pause = min(2*pause, dialMost)
			}
		}
	}
}

// jitter keeps nodes that lost each other together from knocking together.
func jitter(d time.Duration) time.Duration { return d*3/4 + mathrand.N(d/2) }

// dialAddrs are the given addresses, those that the peer told us when it was connected, and as long
// as there is no connection the ways through the relays.
func (h *Host) dialAddrs(r *remote, route Route) []ma.Multiaddr {
	r.mu.Lock()
	addrs := slices.Clone(r.addrs)
	r.mu.Unlock()
	for _, a := range h.h.Peerstore().Addrs(r.id) {
		if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err != nil {
			addrs = append(addrs, a)
		}
	}
	if route == RouteNone {
		for _, re := range h.relays {
			addrs = append(addrs, re.via)
		}
	}
	return addrs
}

func (h *Host) route(id libp2ppeer.ID) Route {
	switch h.h.Network().Connectedness(id) {
	case network.Connected:
		return RouteDirect
	case network.Limited:
		return RouteRelayed
	}
	return RouteNone
}

// connChanged runs on the network's goroutine and must not block.
func (h *Host) connChanged(id libp2ppeer.ID) {
	r := h.byID[id]
	if r == nil {
		return
	}
	r.mu.Lock()
	route, addr := h.route(id), ""
	for _, c := range h.h.Network().ConnsToPeer(id) {
		if addr == "" || !c.Stat().Limited {
			addr = c.RemoteMultiaddr().String()
		}
	}
	before := r.status.Route
	r.status.Route, r.status.Addr = route, addr
	if route == RouteNone {
		r.status.Addr, r.status.RTT = "", nil
	}
	if (before == RouteNone) != (route == RouteNone) {
		now := time.Now().UTC()
		r.status.Since = &now
		if route != RouteNone {
			r.began = now
		}
	}
	r.mu.Unlock()
	if before == route {
		return
	}
	if route == RouteNone {
		h.log.Warn("peer disconnected", "peer", r.index, "name", r.name)
	} else {
		h.log.Info("peer connected", "peer", r.index, "name", r.name, "route", route, "address", addr)
	}
	r.kick()
	h.changed(r)
}

// met has a peer asked about itself soon: it may be another program that came.
func (h *Host) met(id libp2ppeer.ID) {
	if r := h.byID[id]; r != nil {
		select {
		case r.met <- struct{}{}:
		default:
		}
	}
}

// dialProblem says address by address why a peer was not reached.
func dialProblem(err error) string {
	var all *swarm.DialError
	if !errors.As(err, &all) || len(all.DialErrors) == 0 {
		return shorten(err.Error())
	}
	var parts []string
	for _, e := range all.DialErrors {
		var other sec.ErrPeerIDMismatch
		var number syscall.Errno
		why := e.Cause.Error()
		switch {
		case errors.As(e.Cause, &other):
			why = "another node answers there: the address, or the lock here, is of another cluster"
		case errors.As(e.Cause, &number):
			why = number.Error()
		}
		parts = append(parts, fmt.Sprintf("%s: %s", e.Address, why))
	}
	return shorten(strings.Join(parts, "; "))
}

func (h *Host) dialed(r *remote, err error) {
	text := ""
	if err != nil {
		text = dialProblem(err)
	}
	r.mu.Lock()
	same := r.status.DialError == text
	first := r.status.DialError == "" && err != nil
	r.status.DialError = text
	r.mu.Unlock()
	if first {
		h.log.Info("dial peer, trying on", "peer", r.index, "name", r.name, "err", text)
	}
	if !same {
		h.changed(r)
	}
}

// pingLoop measures the round trip and gives up connections that carry nothing any more: a machine
// that stands still keeps its end open for ever.
func (h *Host) pingLoop(ctx context.Context, r *remote) {
	every, lost := pingEvery, 0
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if h.route(r.id) == RouteNone {
			every, lost = pingEvery, 0
			timer.Reset(every)
			continue
		}
		rtt, err := h.ping(ctx, r)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		if err == nil {
			now := time.Now().UTC()
			r.status.RTT, r.status.Seen, r.status.LostPings = &rtt, &now, 0
		} else {
			r.status.RTT = nil
			r.status.LostPings++
		}
		r.mu.Unlock()
		h.changed(r)
		if err == nil {
			every, lost = pingEvery, 0
		} else {
			every, lost = min(2*every, pingMost), lost+1
			if lost >= pingsToClose && !errors.Is(err, ErrUnsupported) {
				h.log.Warn("peer doesn't answer pings, dial it anew", "peer", r.index, "name", r.name, "err", err)
				_ = h.h.Network().ClosePeer(r.id) // its error is that of a socket nobody wants any more
				lost = 0
			}
		}
		timer.Reset(every)
	}
}

func (h *Host) ping(ctx context.Context, r *remote) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	s, err := h.open(ctx, r, ping.ID)
	if err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	defer s.Reset() // the other side keeps reading until it ends
	var sent, back [ping.PingSize]byte
	rand.Read(sent[:])
	begin := time.Now()
	if _, err := s.Write(sent[:]); err != nil {
		return 0, unsupported(err)
	}
	if _, err := io.ReadFull(s, back[:]); err != nil {
		return 0, unsupported(err)
	}
	if !bytes.Equal(sent[:], back[:]) {
		return 0, errors.New("the ping came back changed")
	}
	return time.Since(begin), nil
}
