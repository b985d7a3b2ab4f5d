package peer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"app.provost/cluster"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multistream"
)

// The sender waits longer than the reader, so that the reader is the one to give up first.
const (
	readTimeout = 5 * time.Second
	sendTimeout = 7 * time.Second
	retryAfter  = 100 * time.Millisecond
)

// Bounds per peer and direction. Past the inbound one new streams are reset and counted; past the
// outbound one a sender waits as long as its context allows.
const (
	maxInbound  = 128
	maxOutbound = 128
)

// Handler gets one whole message of at most the protocol's limit. What it returns as reply goes
// back to the peer as one message; nil says nothing, and an empty non-nil one is an empty message.
// An error ends the stream without a reply. The context ends after seven seconds or with the host.
// msg belongs to the handler, until it returns.
type Handler func(ctx context.Context, from cluster.PeerIndex, msg []byte) (reply []byte, err error)

// Handle answers the protocol with exactly that id. limit bounds a message in bytes, in both
// directions. It can't be taken back; a second call for an id is an error.
func (h *Host) Handle(id string, limit int, fn Handler) error {
	if id == "" || limit <= 0 || fn == nil {
		return fmt.Errorf("handle protocol %q: the id, the limit and the handler are needed", id)
	}
	h.mu.Lock()
	_, twice := h.limits[id]
	if !twice {
		h.limits[id] = limit
	}
	h.mu.Unlock()
	if twice {
		return fmt.Errorf("handle protocol %q: it has a handler already", id)
	}
	h.h.SetStreamHandler(protocol.ID(id), func(s network.Stream) { h.serve(s, id, limit, fn) })
	return nil
}

// serve runs on a goroutine of libp2p, one per stream. The stream stays open until the handler has
// returned: open streams are what bounds the handlers that run for a peer.
func (h *Host) serve(s network.Stream, id string, limit int, fn Handler) {
	r := h.byID[s.Conn().RemotePeer()]
	if r == nil || !h.enter() {
		s.Reset()
		return
	}
	defer h.wg.Done()
	defer r.inbound.Add(-1)
	if r.inbound.Add(1) > maxInbound {
		r.refused.Add(1)
		s.Reset()
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, sendTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { s.Reset() })()

	if err := h.serveOne(ctx, s, r, limit, fn); err != nil {
		s.Reset()
		h.noteServe(r, id, err)
		return
	}
	s.Close()
}

func (h *Host) serveOne(ctx context.Context, s network.Stream, r *remote, limit int, fn Handler) error {
	if err := s.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
		return err
	}
	msg, err := readFrame(s, limit, s.Scope())
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := s.CloseRead(); err != nil {
		return err
	}
	r.received(len(msg))
	reply, err := fn(ctx, r.index, msg)
	if err != nil {
		return fmt.Errorf("handle: %w", err)
	}
	if reply == nil {
		return nil
	}
	if len(reply) > limit {
		return &FrameTooLong{Bytes: uint64(len(reply)), Limit: uint64(limit)}
	}
	if err := s.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	if err := writeFrame(s, reply); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	r.sent(len(reply))
	return nil
}

// Send hands one message to one peer. nil means that the peer speaks the protocol and took the
// stream, not that it has read or liked the message. msg may be shared but must not change before
// Send returns. Errors are ErrNotConnected, ErrUnsupported, ErrUnknownPeer, ErrClosed, those of the
// context, and those of the connection.
func (h *Host) Send(ctx context.Context, to cluster.PeerIndex, id string, msg []byte) error {
	_, err := h.exchange(ctx, to, id, msg, false)
	return err
}

// Request hands one message to one peer and returns its answer. The protocol must have been given
// to Handle: its limit bounds the answer.
func (h *Host) Request(ctx context.Context, to cluster.PeerIndex, id string, msg []byte) ([]byte, error) {
	return h.exchange(ctx, to, id, msg, true)
}

// Broadcast sends to all other nodes at the same time and waits until each has it, failed, or the
// context ended. The map names who did not get it, and is nil when all did.
func (h *Host) Broadcast(ctx context.Context, id string, msg []byte) map[cluster.PeerIndex]error {
	var (
		mu     sync.Mutex
		failed map[cluster.PeerIndex]error
		wg     sync.WaitGroup
	)
	for _, r := range h.remotes {
		wg.Go(func() {
			if err := h.Send(ctx, r.index, id, msg); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if failed == nil {
					failed = map[cluster.PeerIndex]error{}
				}
				failed[r.index] = err
			}
		})
	}
	wg.Wait()
	return maps.Clone(failed)
}

func (h *Host) exchange(ctx context.Context, to cluster.PeerIndex, id string, msg []byte, answer bool) ([]byte, error) {
	r, err := h.remote(to)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	limit, known := h.limits[id]
	h.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("send %s: the protocol has no handler here, so its limit is not known", id)
	}
	if len(msg) > limit {
		return nil, fmt.Errorf("send %s: %w", id, &FrameTooLong{Bytes: uint64(len(msg)), Limit: uint64(limit)})
	}
	if !h.enter() {
		return nil, ErrClosed
	}
	defer h.wg.Done()
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	select {
	case r.outbound <- struct{}{}:
		defer func() { <-r.outbound }()
	case <-ctx.Done():
		return nil, fmt.Errorf("send %s to peer %d: %d messages are on their way to it already: %w", id, to, maxOutbound, ctx.Err())
	}
	reply, err := h.attempt(ctx, r, id, msg, limit, answer)
	if errors.Is(err, network.ErrReset) && ctx.Err() == nil {
		// Typical of a relayed connection whose time is over: the next stream takes another one.
		select {
		case <-time.After(retryAfter):
			reply, err = h.attempt(ctx, r, id, msg, limit, answer)
		case <-ctx.Done():
		}
	}
	h.noteSend(r, id, err)
	if err != nil {
		return nil, fmt.Errorf("send %s to peer %d: %w", id, to, err)
	}
	return reply, nil
}

func (h *Host) attempt(ctx context.Context, r *remote, id string, msg []byte, limit int, answer bool) (reply []byte, err error) {
	s, err := h.open(ctx, r, id)
	if err != nil {
		return nil, err
	}
	done := false
	defer func() {
		if !done {
			s.Reset()
		}
	}()
	stop := context.AfterFunc(ctx, func() { s.Reset() })
	defer stop()
	fail := func(err error) error {
		if ctx.Err() != nil {
			return ctx.Err() // the reset that it caused says nothing
		}
		return unsupported(err)
	}
	if err := writeFrame(s, msg); err != nil {
		return nil, fail(err)
	}
	if err := s.CloseWrite(); err != nil {
		return nil, fail(err)
	}
	if answer {
		if reply, err = readFrame(s, limit, s.Scope()); err != nil {
			return nil, fail(err)
		}
		r.received(len(reply))
	} else if _, plain := s.(*swarm.Stream); !plain {
		// The protocol was chosen from memory and not yet confirmed; an empty read waits for that alone.
		if _, err := s.Read(nil); err != nil {
			return nil, fail(err)
		}
	}
	r.sent(len(msg))
	if done = stop(); done {
		s.Close()
	}
	return reply, nil
}

// open opens a stream over the best connection that there is; dialling is the dial loop's.
func (h *Host) open(ctx context.Context, r *remote, id string) (network.Stream, error) {
	if h.h.Network().Connectedness(r.id) != network.Connected && h.h.Network().Connectedness(r.id) != network.Limited {
		return nil, ErrNotConnected
	}
	ctx = network.WithAllowLimitedConn(network.WithNoDial(ctx, "the dial loop dials"), "cluster")
	s, err := h.h.NewStream(ctx, r.id, protocol.ID(id))
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, unsupported(err)
	}
	return s, nil
}

func unsupported(err error) error {
	var no multistream.ErrNotSupported[protocol.ID]
	if errors.As(err, &no) || strings.Contains(err.Error(), "protocols not supported") {
		return ErrUnsupported
	}
	return err
}
