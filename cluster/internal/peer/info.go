package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/wirepb"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// pace says how often peers are asked about themselves.
type pace struct {
	every time.Duration // without a reason to ask sooner
	soon  time.Duration // after a connection was made
	close time.Duration // while a peer may run twice, or its clock is off
	stays time.Duration // a program counts as running since its last answer; longer than every
}

var usualPace = pace{every: time.Minute, soon: 300 * time.Millisecond, close: 10 * time.Second, stays: 75 * time.Second}

// info is what a node says of itself, with real times.
type info struct {
	version   string
	lockHash  []byte
	sentAt    time.Time // zero: absent
	gitHash   string
	startedAt time.Time
	builder   bool
	nickname  string
	client    string
	copies    []Copy // programs that run with the asker's key; nil unless there are several
}

func (h *Host) ownInfo() info {
	return info{version: h.o.Version, lockHash: h.o.LockHash[:], sentAt: time.Now().UTC(), gitHash: h.o.GitHash, startedAt: h.started,
		builder: h.o.Builder, nickname: printable(h.o.Nickname, 32), client: h.o.Client}
}

func (i info) encode() ([]byte, error) {
	m := &wirepb.PeerInfo{CharonVersion: i.version, LockHash: i.lockHash, GitHash: i.gitHash, BuilderApiEnabled: i.builder, Nickname: i.nickname, DvClient: i.client}
	if !i.sentAt.IsZero() {
		m.SentAt = timestamppb.New(i.sentAt)
	}
	if !i.startedAt.IsZero() {
		m.StartedAt = timestamppb.New(i.startedAt)
	}
	appendCopies(m, i.copies)
	return wirepb.Encode(m)
}

func decodeInfo(b []byte) (info, error) {
	var m wirepb.PeerInfo
	if err := wirepb.Read(b, &m); err != nil {
		return info{}, err
	}
	i := info{version: m.CharonVersion, lockHash: m.LockHash, gitHash: m.GitHash, builder: m.BuilderApiEnabled, nickname: m.Nickname, client: m.DvClient, copies: readCopies(&m)}
	for _, t := range []struct {
		from *timestamppb.Timestamp
		to   *time.Time
	}{{m.SentAt, &i.sentAt}, {m.StartedAt, &i.startedAt}} {
		if t.from == nil {
			continue
		}
		if err := t.from.CheckValid(); err != nil {
			return info{}, fmt.Errorf("peer info: %w", err)
		}
		*t.to = t.from.AsTime()
	}
	return i, nil
}

// answerPeerInfo ignores what was asked: there is one question.
func (h *Host) answerPeerInfo(_ context.Context, from cluster.PeerIndex, _ []byte) ([]byte, error) {
	i := h.ownInfo()
	if r, err := h.remote(from); err == nil {
		r.mu.Lock()
		i.copies = r.lives.copies(h.since())
		r.mu.Unlock()
	}
	return i.encode()
}

func (h *Host) infoLoop(ctx context.Context, r *remote) {
	next := time.Now().Add(h.pace.every)
	timer := time.NewTimer(h.pace.every)
	defer timer.Stop()
	for {
		select {
		case <-r.met:
			if soon := time.Now().Add(h.pace.soon); soon.Before(next) {
				next = soon
				timer.Reset(h.pace.soon)
			}
			continue
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		every := h.pace.every
		if h.route(r.id) != RouteNone && h.askInfo(ctx, r) {
			every = h.pace.close
		}
		next = time.Now().Add(every)
		timer.Reset(every)
	}
}

// askInfo asks a peer about itself, over each connection when there are several. It returns whether
// the peer is worth asking again soon. Only the peer's own loop calls it: an answer is to a question
// that was asked after all earlier answers had come.
func (h *Host) askInfo(ctx context.Context, r *remote) (again bool) {
	ask, err := h.ownInfo().encode()
	conns := h.h.Network().ConnsToPeer(r.id)
	begin := time.Now()
	var reply []byte
	if err == nil {
		reply, err = h.Request(ctx, r.index, wirepb.ProtocolPeerInfo, ask)
	}
	now := time.Now()
	if ctx.Err() != nil {
		return false
	}
	var got info
	if err == nil {
		got, err = decodeInfo(reply)
	}
	if err == nil {
		err = got.check()
	}
	if err == nil {
		addr, dialed := "", false
		if len(conns) == 1 {
			addr, dialed = conns[0].RemoteMultiaddr().String(), conns[0].Stat().Direction == network.DirOutbound
		}
		h.note(r, got, addr, dialed, now)
	}
	if len(conns) > 1 {
		for _, c := range conns {
			other, err := h.askOver(ctx, r, c, ask)
			if ctx.Err() != nil {
				return false
			}
			if err == nil {
				h.note(r, other, c.RemoteMultiaddr().String(), c.Stat().Direction == network.DirOutbound, time.Now())
			}
		}
	}
	h.tellCopies(r)
	r.mu.Lock()
	before := r.status.Lock
	if err != nil {
		r.status.InfoError = shorten(err.Error())
		again = r.lives.several(h.since())
		r.mu.Unlock()
		h.changed(r)
		return again
	}
	told := now.UTC()
	offset := got.sentAt.Sub(now.Add(-now.Sub(begin) / 2).UTC().Round(0))
	s := &r.status
	s.Told, s.ClockOffset, s.StartedAt, s.InfoError = &told, &offset, &got.startedAt, ""
	s.Version, s.Client, s.GitHash, s.Nickname = printable(got.version, 64), printable(got.client, 32), printable(got.gitHash, 16), printable(got.nickname, 32)
	if s.Client == "" {
		s.Client = "charon"
	}
	s.Builder = got.builder
	s.Lock = LockDifferent
	if bytes.Equal(got.lockHash, h.o.LockHash[:]) {
		s.Lock = LockSame
	}
	match := s.Lock
	again = offset.Abs() > clockClose || len(r.twins) > 0 || r.lives.several(h.since())
	r.mu.Unlock()
	if match == LockDifferent && before != LockDifferent {
		h.log.Warn("peer runs with another lock: its signatures will not fit ours until both have the same cluster-lock.json",
			"peer", r.index, "name", r.name, "its_lock", fmt.Sprintf("%.7x", got.lockHash), "our_lock", fmt.Sprintf("%.7x", h.o.LockHash[:]))
	}
	h.changed(r)
	return again
}

// note takes what an answer says about who runs with which key.
func (h *Host) note(r *remote, got info, addr string, dialed bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lives.answer(got.startedAt, addr, dialed, now)
	r.twinsAt = now
	r.twins = slices.DeleteFunc(got.copies, func(c Copy) bool { return c.StartedAt.Equal(h.started) })
}

// tellCopies logs when a peer begins or ceases to run twice.
func (h *Host) tellCopies(r *remote) {
	r.mu.Lock()
	now := r.lives.copies(h.since())
	was := r.doubled
	r.doubled = len(now) > 0
	r.mu.Unlock()
	switch {
	case len(now) > 0 && !was:
		h.log.Error("peer runs more than once at the same time: its operator must stop all but one", "peer", r.index, "name", r.name, "copies", fmt.Sprint(now))
	case len(now) == 0 && was:
		h.log.Info("peer runs once again", "peer", r.index, "name", r.name)
	}
}

// askOver asks over one connection, whichever the best is. Its failure says nothing: others answer.
func (h *Host) askOver(ctx context.Context, r *remote, c network.Conn, ask []byte) (info, error) {
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(ctx, "cluster"), copyWait)
	defer cancel()
	s, err := c.NewStream(ctx)
	if err != nil {
		return info{}, err
	}
	defer s.Reset() // after the answer nothing is left to be said
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	id := protocol.ID(wirepb.ProtocolPeerInfo)
	if err := s.SetProtocol(id); err != nil {
		return info{}, err
	}
	if err := multistream.SelectProtoOrFail(id, s); err != nil {
		return info{}, err
	}
	if err := writeFrame(s, ask); err != nil {
		return info{}, err
	}
	if err := s.CloseWrite(); err != nil {
		return info{}, err
	}
	reply, err := readFrame(s, wirepb.MaxPeerInfoBytes, s.Scope())
	if err != nil {
		return info{}, err
	}
	r.sent(len(ask))
	r.received(len(reply))
	got, err := decodeInfo(reply)
	if err == nil {
		err = got.check()
	}
	return got, err
}

func (i info) check() error {
	if i.sentAt.IsZero() || i.startedAt.IsZero() {
		return errors.New("peer info: a time is missing")
	}
	if i.gitHash != "unknown" && (len(i.gitHash) != 7 || strings.Trim(i.gitHash, "0123456789abcdef") != "") {
		return errors.New("peer info: the git hash is malformed")
	}
	return nil
}
