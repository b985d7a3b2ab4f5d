package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	libp2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	relayRenew = 2 * time.Minute // before the reservation ends
	relayLook  = 5 * time.Second
	relayMost  = time.Minute
)

// RelayStatus is what is known of one relay.
type RelayStatus struct {
	Addr      string
	Connected bool
	Until     *time.Time // end of the reservation through which others reach us; nil: none
	Err       string     // why there is none
}

type relay struct {
	info libp2ppeer.AddrInfo
	via  ma.Multiaddr // RELAY/p2p/ID/p2p-circuit
	text string

	mu    sync.Mutex
	until time.Time
	err   string
}

func parseRelays(texts []string) ([]*relay, error) {
	var out []*relay
	for _, t := range texts {
		a, err := ma.NewMultiaddr(t)
		if err != nil {
			return nil, fmt.Errorf("read relay %q: want a multiaddr such as /ip4/203.0.113.9/tcp/3610/p2p/16Uiu2…: %w", t, err)
		}
		info, err := libp2ppeer.AddrInfoFromP2pAddr(a)
		if err != nil || len(info.Addrs) == 0 {
			return nil, fmt.Errorf("read relay %q: want an address and /p2p/ID behind it", t)
		}
		out = append(out, &relay{info: *info, via: a.Encapsulate(ma.StringCast("/p2p-circuit")), text: t})
	}
	return out, nil
}

// Relays returns what is known of the relays, in the order of the options.
func (h *Host) Relays() []RelayStatus {
	out := make([]RelayStatus, len(h.relays))
	for i, r := range h.relays {
		r.mu.Lock()
		out[i] = RelayStatus{Addr: r.text, Connected: h.route(r.info.ID) != RouteNone, Err: r.err}
		if !r.until.IsZero() {
			until := r.until
			out[i].Until = &until
		}
		r.mu.Unlock()
	}
	return out
}

// relayLoop keeps one reservation.
func (h *Host) relayLoop(ctx context.Context, r *relay) {
	pause := time.Second
	for ctx.Err() == nil {
		until, err := h.reserve(ctx, r)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		r.until = until
		was := r.err
		if r.err = ""; err != nil {
			r.err = shorten(err.Error())
		}
		r.mu.Unlock()
		if err != nil {
			if was == "" {
				h.log.Warn("reserve a place at the relay, trying on", "relay", r.text, "err", err)
			}
			sleep(ctx, jitter(pause))
			pause = min(2*pause, relayMost)
			continue
		}
		pause = time.Second
		for _, p := range h.remotes {
			p.kick()
		}
		for ctx.Err() == nil && time.Until(until) > relayRenew && h.h.Network().Connectedness(r.info.ID) == network.Connected {
			sleep(ctx, min(relayLook, time.Until(until)-relayRenew))
		}
	}
}

func (h *Host) reserve(ctx context.Context, r *relay) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if sw, ok := h.h.Network().(*swarm.Swarm); ok {
		sw.Backoff().Clear(r.info.ID)
	}
	if err := h.h.Connect(ctx, r.info); err != nil {
		return time.Time{}, err
	}
	got, err := client.Reserve(ctx, h.h, r.info)
	if err != nil {
		return time.Time{}, err
	}
	if time.Until(got.Expiration) < relayRenew+relayLook {
		return time.Time{}, errors.New("the relay's reservations are too short to be renewed in time")
	}
	return got.Expiration.UTC(), nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
