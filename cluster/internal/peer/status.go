package peer

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"app.provost/cluster"

	libp2ppeer "github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Route says how a peer is connected.
type Route string

// Routes; the zero value is no connection.
const (
	RouteNone    Route = ""
	RouteDirect  Route = "direct"
	RouteRelayed Route = "relayed"
)

// LockMatch says whether a peer runs with our lock.
type LockMatch string

// Lock matches; the zero value is not known yet.
const (
	LockUnknown   LockMatch = ""
	LockSame      LockMatch = "same"
	LockDifferent LockMatch = "different"
)

// Status is what is known of one other node. Pointers are nil while a thing is not known.
type Status struct {
	Index cluster.PeerIndex
	Name  string
	ID    string // "16Uiu2HA…"

	Route     Route
	Addr      string     // multiaddr of the other end of the best connection
	Since     *time.Time // when it was last connected or disconnected
	DialError string     // why the last dial failed
	RTT       *time.Duration
	LostPings int        // in a row
	Seen      *time.Time // last answer to a ping

	// From its own words, at most a minute old while connected. Text from the peer is cut to a line
	// of printable characters.
	Told        *time.Time
	ClockOffset *time.Duration // positive: its clock is ahead of ours
	Version     string         // the level of Charon that it claims
	Client      string         // "charon", "provost"
	GitHash     string
	Nickname    string
	StartedAt   *time.Time
	Builder     bool
	Lock        LockMatch
	InfoError   string // why the last question was not answered well
	Copies      []Copy // the programs that run with this peer's key at the same time; nil: only one

	BytesSent, BytesReceived       uint64 // messages only
	MessagesSent, MessagesReceived uint64
	SendErrors                     uint64
	BadMessages                    uint64 // that could not be read or that their handler refused
	Refused                        uint64 // streams over the bound
	LastError                      string
}

// remote is one other node.
type remote struct {
	index cluster.PeerIndex
	name  string
	id    libp2ppeer.ID

	kicked   chan struct{} // one place: the dial loop should look again
	met      chan struct{} // one place: a connection was made
	outbound chan struct{} // one place per message on its way

	inbound                                   atomic.Int32
	refused, bytesIn, bytesOut, msgIn, msgOut atomic.Uint64

	mu     sync.Mutex
	began  time.Time // of the present or the last connection
	dirty  bool      // changed since it was told
	addrs  []ma.Multiaddr
	status Status          // counters above are filled in when it is read
	ailing map[string]bool // protocols whose last send failed and was logged

	lives   lives  // who answered for it
	doubled bool   // that it runs twice was logged
	twins   []Copy // that it says run with our key
	twinsAt time.Time
}

func newRemote(p Peer, id libp2ppeer.ID, addrs []ma.Multiaddr) *remote {
	return &remote{index: p.Index, name: p.Name, id: id, addrs: addrs, kicked: make(chan struct{}, 1), met: make(chan struct{}, 1),
		outbound: make(chan struct{}, maxOutbound), ailing: map[string]bool{}, status: Status{Index: p.Index, Name: p.Name, ID: id.String()}}
}

func (r *remote) kick() {
	select {
	case r.kicked <- struct{}{}:
	default:
	}
}

// wait returns true when it was kicked, false after d (0: never) or the context's end.
func (r *remote) wait(ctx context.Context, d time.Duration) bool {
	var after <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-r.kicked:
		return true
	case <-after:
	case <-ctx.Done():
	}
	return false
}

// connectedAt is when the present or the last connection began.
func (r *remote) connectedAt() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.began
}

func (r *remote) received(n int) { r.bytesIn.Add(uint64(n)); r.msgIn.Add(1) }

func (r *remote) sent(n int) { r.bytesOut.Add(uint64(n)); r.msgOut.Add(1) }

// snapshot is what is known now; since is from when on an answer says that a program still runs.
func (r *remote) snapshot(since time.Time) Status {
	r.mu.Lock()
	s := r.status
	s.Copies = r.lives.copies(since)
	r.mu.Unlock()
	s.BytesSent, s.BytesReceived, s.MessagesSent, s.MessagesReceived = r.bytesOut.Load(), r.bytesIn.Load(), r.msgOut.Load(), r.msgIn.Load()
	s.Refused = r.refused.Load()
	return s
}

// Status returns what is known of every other node, by index.
func (h *Host) Status() []Status {
	out := make([]Status, len(h.remotes))
	for i, r := range h.remotes {
		out[i] = r.snapshot(h.since())
	}
	return out
}

// Connected is how many other nodes are connected now.
func (h *Host) Connected() int {
	n := 0
	for _, r := range h.remotes {
		if h.route(r.id) != RouteNone {
			n++
		}
	}
	return n
}

func (h *Host) changed(r *remote) {
	r.mu.Lock()
	r.dirty = true
	r.mu.Unlock()
	select {
	case h.dirty <- struct{}{}:
	default:
	}
}

func (h *Host) tellLoop(ctx context.Context) {
	for {
		select {
		case <-h.dirty:
		case <-ctx.Done():
			return
		}
		for _, r := range h.remotes {
			r.mu.Lock()
			tell := r.dirty
			r.dirty = false
			r.mu.Unlock()
			if tell {
				h.o.OnPeer(r.snapshot(h.since()))
			}
		}
	}
}

// noteSend counts, and logs only when sending begins to fail or works again.
func (h *Host) noteSend(r *remote, id string, err error) {
	r.mu.Lock()
	was := r.ailing[id]
	if errors.Is(err, context.Canceled) { // the caller changed its mind: nothing is known of the peer
		r.mu.Unlock()
		return
	}
	if err == nil {
		delete(r.ailing, id)
	} else {
		r.ailing[id] = true
		r.status.SendErrors++
		r.status.LastError = shorten(err.Error())
	}
	r.mu.Unlock()
	switch {
	case err != nil && !was && !errors.Is(err, ErrNotConnected): // that was logged when it happened
		h.log.Warn("send to peer", "peer", r.index, "name", r.name, "protocol", id, "err", err)
	case err == nil && was:
		h.log.Info("sending to peer works again", "peer", r.index, "name", r.name, "protocol", id)
	}
}

func (h *Host) noteServe(r *remote, id string, err error) {
	if h.ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	r.status.BadMessages++
	r.status.LastError = shorten(err.Error())
	r.mu.Unlock()
	h.log.Debug("message from peer", "peer", r.index, "name", r.name, "protocol", id, "err", err)
	h.changed(r)
}

// printable cuts a peer's text to n characters that move no cursor.
func printable(s string, n int) string {
	out := make([]rune, 0, n)
	for _, c := range s {
		if len(out) == n {
			break
		}
		if !unicode.IsPrint(c) || c == unicode.ReplacementChar {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}

func shorten(s string) string { return printable(s, 300) }
