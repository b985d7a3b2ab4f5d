package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"app.provost/cluster"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	protoPeerInfo = "/charon/peerinfo/2.0.0"
	peerInfoLimit = 1 << 20
	infoEvery     = time.Minute
	infoSoon      = time.Second // after a peer was met
)

// info is the message PeerInfo of charon's app/peerinfo/peerinfopb/v1: 1 charon_version, 2
// lock_hash, 3 sent_at, 4 git_hash, 5 started_at, 6 builder_api_enabled, 7 nickname, 8 dv_client.
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

func (i info) encode() []byte {
	var b []byte
	text := func(no protowire.Number, v string) {
		if v != "" {
			b = protowire.AppendString(protowire.AppendTag(b, no, protowire.BytesType), v)
		}
	}
	stamp := func(no protowire.Number, t time.Time) {
		if t.IsZero() {
			return
		}
		var ts []byte
		if s := t.Unix(); s != 0 {
			ts = protowire.AppendVarint(protowire.AppendTag(ts, 1, protowire.VarintType), uint64(s))
		}
		if n := t.Nanosecond(); n != 0 {
			ts = protowire.AppendVarint(protowire.AppendTag(ts, 2, protowire.VarintType), uint64(n))
		}
		b = protowire.AppendBytes(protowire.AppendTag(b, no, protowire.BytesType), ts)
	}
	text(1, i.version)
	text(2, string(i.lockHash))
	stamp(3, i.sentAt)
	text(4, i.gitHash)
	stamp(5, i.startedAt)
	if i.builder {
		b = protowire.AppendVarint(protowire.AppendTag(b, 6, protowire.VarintType), 1)
	}
	text(7, i.nickname)
	text(8, i.client)
	return b
}

func decodeInfo(b []byte) (i info, err error) {
	err = fields(b, func(no protowire.Number, typ protowire.Type, val []byte, n uint64) error {
		want := protowire.BytesType
		if no == 6 {
			want = protowire.VarintType
		}
		if no >= 1 && no <= 8 && typ != want {
			return fmt.Errorf("field %d has wire type %d", no, typ)
		}
		var err error
		switch no {
		case 1:
			i.version = string(val)
		case 2:
			i.lockHash = bytes.Clone(val)
		case 3:
			i.sentAt, err = decodeStamp(val)
		case 4:
			i.gitHash = string(val)
		case 5:
			i.startedAt, err = decodeStamp(val)
		case 6:
			i.builder = n != 0
		case 7:
			i.nickname = string(val)
		case 8:
			i.client = string(val)
		}
		return err
	})
	return i, err
}

func decodeStamp(b []byte) (time.Time, error) {
	var secs, nanos int64
	err := fields(b, func(no protowire.Number, typ protowire.Type, _ []byte, n uint64) error {
		if no <= 2 && typ != protowire.VarintType {
			return fmt.Errorf("a time's field %d has wire type %d", no, typ)
		}
		switch no {
		case 1:
			secs = int64(n)
		case 2:
			nanos = int64(int32(n))
		}
		return nil
	})
	if err != nil {
		return time.Time{}, err
	}
	const year10000 = 253402300800 // the protobuf type ends before it
	if secs < -62135596800 || secs >= year10000 || nanos < 0 || nanos >= 1e9 {
		return time.Time{}, errors.New("a time is out of range")
	}
	return time.Unix(secs, nanos).UTC(), nil
}

func fields(b []byte, fn func(no protowire.Number, typ protowire.Type, val []byte, n uint64) error) error {
	for len(b) > 0 {
		no, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var val []byte
		var num uint64
		switch typ {
		case protowire.BytesType:
			val, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			num, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(no, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := fn(no, typ, val, num); err != nil {
			return err
		}
	}
	return nil
}

// answerPeerInfo ignores what was asked: there is one question.
func (h *Host) answerPeerInfo(context.Context, cluster.PeerIndex, []byte) ([]byte, error) {
	return h.ownInfo().encode(), nil
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
	begin := time.Now()
	reply, err := h.Request(ctx, r.index, protoPeerInfo, h.ownInfo().encode())
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
