package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/wirepb"

	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	infoEvery = time.Minute
	infoSoon  = time.Second // after a peer was met
)

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
	return wirepb.Encode(m)
}

func decodeInfo(b []byte) (info, error) {
	var m wirepb.PeerInfo
	if err := wirepb.Read(b, &m); err != nil {
		return info{}, err
	}
	i := info{version: m.CharonVersion, lockHash: m.LockHash, gitHash: m.GitHash, builder: m.BuilderApiEnabled, nickname: m.Nickname, client: m.DvClient}
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
func (h *Host) answerPeerInfo(context.Context, cluster.PeerIndex, []byte) ([]byte, error) {
	return h.ownInfo().encode()
}

func (h *Host) infoLoop(ctx context.Context, r *remote) {
	timer := time.NewTimer(infoEvery)
	defer timer.Stop()
	for {
		select {
		case <-r.met:
			timer.Reset(infoSoon)
			continue
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if h.route(r.id) != RouteNone {
			h.askInfo(ctx, r)
		}
		timer.Reset(infoEvery)
	}
}

func (h *Host) askInfo(ctx context.Context, r *remote) {
	ask, err := h.ownInfo().encode()
	begin := time.Now()
	var reply []byte
	if err == nil {
		reply, err = h.Request(ctx, r.index, wirepb.ProtocolPeerInfo, ask)
	}
	now := time.Now()
	if ctx.Err() != nil {
		return
	}
	var got info
	if err == nil {
		got, err = decodeInfo(reply)
	}
	if err == nil {
		err = got.check()
	}
	r.mu.Lock()
	before := r.status.Lock
	if err != nil {
		r.status.InfoError = shorten(err.Error())
		r.mu.Unlock()
		h.changed(r)
		return
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
	r.mu.Unlock()
	if match == LockDifferent && before != LockDifferent {
		h.log.Warn("peer runs with another lock: its signatures will not fit ours until both have the same cluster-lock.json",
			"peer", r.index, "name", r.name, "its_lock", fmt.Sprintf("%.7x", got.lockHash), "our_lock", fmt.Sprintf("%.7x", h.o.LockHash[:]))
	}
	h.changed(r)
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
