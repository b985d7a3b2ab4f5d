package peer

import (
	"slices"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/wirepb"

	"google.golang.org/protobuf/encoding/protowire"
)

// Two programs with one node key are let in by everybody: both prove the same identity. What tells
// them apart is the start time that a program states with every peer info. A node that was restarted
// states a new one, and its old one never comes back. So whoever answers a question with a start time
// that was stated before another one was, ran all the while beside that other one. This needs no clock
// but the order of questions and answers, and nothing of the other side but what Charon says too.

// Copy is one of several programs that run with one node key at the same time.
type Copy struct {
	StartedAt time.Time // in its own words
	Addr      string    // multiaddr that it is reached at, or came from
}

// Twin is another program that runs with this node's key, as peers see it.
type Twin struct {
	Copy
	By   []cluster.PeerIndex // who said so
	Told time.Time           // when the last of them did
}

const (
	maxLives   = 8 // programs remembered of one peer
	maxAddr    = 128
	copyWait   = 3 * time.Second        // for an answer over one connection of several
	clockClose = 200 * time.Millisecond // an offset beyond which a peer is asked more often
)

// life is one program that answered for a peer. first and last count the answers of that peer.
type life struct {
	started     time.Time
	addr        string
	dialed      bool // addr is where it listens
	first, last uint64
	heard       time.Time
}

// lives are the programs that answered for one peer.
type lives struct {
	answers uint64
	list    []life
}

// answer notes who answered a question that was asked after all earlier answers had come. addr is ""
// when it isn't known.
func (l *lives) answer(started time.Time, addr string, dialed bool, now time.Time) {
	l.answers++
	i := slices.IndexFunc(l.list, func(x life) bool { return x.started.Equal(started) })
	if i < 0 {
		if len(l.list) == maxLives {
			oldest := 0
			for k := range l.list {
				if l.list[k].last < l.list[oldest].last {
					oldest = k
				}
			}
			l.list = slices.Delete(l.list, oldest, oldest+1)
		}
		l.list = append(l.list, life{started: started, first: l.answers})
		i = len(l.list) - 1
	}
	x := &l.list[i]
	x.last, x.heard = l.answers, now
	if addr != "" && (dialed || !x.dialed) {
		x.addr, x.dialed = addr, dialed
	}
}

// late are those that answered since a moment.
func (l *lives) late(since time.Time) (out []life) {
	for _, x := range l.list {
		if !x.heard.Before(since) {
			out = append(out, x)
		}
	}
	return out
}

// several tells whether more than one program answered since then: the peer was restarted, or runs twice.
func (l *lives) several(since time.Time) bool { return len(l.late(since)) > 1 }

// copies are the programs that ran beside each other and answered since then, the oldest first; nil
// when the peer doesn't run twice.
func (l *lives) copies(since time.Time) (out []Copy) {
	late := l.late(since)
	for i, x := range late {
		if slices.ContainsFunc(slices.Delete(slices.Clone(late), i, i+1), func(y life) bool { return x.first < y.last && y.first < x.last }) {
			out = append(out, Copy{x.started, x.addr})
		}
	}
	slices.SortFunc(out, func(a, b Copy) int { return a.StartedAt.Compare(b.StartedAt) })
	return out
}

// A node can't see its own twin: both dial the others, and nobody dials himself. So the others say it
// in their answer, in a field of the peer info that only nodes of ours know; everybody else skips it.
//
//	repeated Copy copies = 5001;
//	message Copy { int64 started_seconds = 1; int32 started_nanos = 2; string address = 3; }
const (
	fieldCopies  protowire.Number = 5001
	fieldSeconds protowire.Number = 1
	fieldNanos   protowire.Number = 2
	fieldAddress protowire.Number = 3
)

func appendCopies(m *wirepb.PeerInfo, copies []Copy) {
	var b []byte
	for _, c := range copies[:min(len(copies), maxLives)] {
		var one []byte
		one = protowire.AppendTag(one, fieldSeconds, protowire.VarintType)
		one = protowire.AppendVarint(one, uint64(c.StartedAt.Unix()))
		one = protowire.AppendTag(one, fieldNanos, protowire.VarintType)
		one = protowire.AppendVarint(one, uint64(c.StartedAt.Nanosecond()))
		one = protowire.AppendTag(one, fieldAddress, protowire.BytesType)
		one = protowire.AppendString(one, printable(c.Addr, maxAddr))
		b = protowire.AppendTag(b, fieldCopies, protowire.BytesType)
		b = protowire.AppendBytes(b, one)
	}
	if len(b) > 0 {
		m.ProtoReflect().SetUnknown(b)
	}
}

// readCopies skips what it can't read: another program may mean something else by the field.
func readCopies(m *wirepb.PeerInfo) (out []Copy) {
	for b := []byte(m.ProtoReflect().GetUnknown()); len(b) > 0 && len(out) < maxLives; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return out
		}
		b = b[n:]
		if num != fieldCopies || typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return out
			}
			b = b[n:]
			continue
		}
		one, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return out
		}
		b = b[n:]
		if c, ok := readCopy(one); ok {
			out = append(out, c)
		}
	}
	return out
}

// Seconds of the years 1 and 9999, between which a Timestamp lies.
const (
	firstSecond = -62135596800
	lastSecond  = 253402300799
)

func readCopy(b []byte) (c Copy, ok bool) {
	var seconds, nanos uint64
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return c, false
		}
		b = b[n:]
		switch {
		case num == fieldSeconds && typ == protowire.VarintType:
			seconds, n = protowire.ConsumeVarint(b)
		case num == fieldNanos && typ == protowire.VarintType:
			nanos, n = protowire.ConsumeVarint(b)
		case num == fieldAddress && typ == protowire.BytesType:
			var text []byte
			text, n = protowire.ConsumeBytes(b)
			c.Addr = printable(string(text[:min(len(text), 4*maxAddr)]), maxAddr)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return c, false
		}
		b = b[n:]
	}
	if s := int64(seconds); s < firstSecond || s > lastSecond || nanos >= 1e9 {
		return c, false
	}
	c.StartedAt = time.Unix(int64(seconds), int64(nanos)).UTC()
	return c, true
}

// since is from when on an answer says that a program still runs.
func (h *Host) since() time.Time { return time.Now().Add(-h.pace.stays) }

// Twins are other programs that run with our key by the word of peers, the oldest first; nil when no
// peer says so.
func (h *Host) Twins() []Twin {
	since := h.since()
	var out []Twin
	for _, r := range h.remotes {
		r.mu.Lock()
		copies, at := r.twins, r.twinsAt
		r.mu.Unlock()
		if at.Before(since) {
			continue
		}
		for _, c := range copies {
			i := slices.IndexFunc(out, func(t Twin) bool { return t.StartedAt.Equal(c.StartedAt) })
			if i < 0 {
				out = append(out, Twin{Copy: c})
				i = len(out) - 1
			}
			if t := &out[i]; at.After(t.Told) {
				t.Told = at
			}
			out[i].By = append(out[i].By, r.index)
		}
	}
	slices.SortFunc(out, func(a, b Twin) int { return a.StartedAt.Compare(b.StartedAt) })
	return out
}
