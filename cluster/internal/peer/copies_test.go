package peer

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"app.provost/cluster/internal/wirepb"

	"google.golang.org/protobuf/encoding/protowire"
)

// Who answers tells whether a node was restarted or runs twice. An answer is the letter of a program;
// a digit lets so many seconds pass.
func TestLives(t *testing.T) {
	began := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for answers, want := range map[string]string{
		"":               "",
		"a":              "",
		"aaaa":           "",
		"ab":             "", // restarted
		"aaabbb":         "",
		"aaabbbcccd":     "", // and again and again
		"ba":             "", // moved to a machine whose clock is behind
		"aba":            "ab",
		"abab":           "ab",
		"abba":           "ab",
		"aabbccab":       "abc",
		"acac9999999":    "", // one ended, and the other wasn't asked since
		"aca9c9c9c9c":    "ac",
		"aca99999999c":   "", // a ended
		"aca99999999b":   "", // a ended, c was restarted as b
		"acac9b9b9b":     "ac",
		"a99999999aba":   "ab", // silence is no end
		"abcdefgh":       "",
		"abcdefghijklmn": "", // more than are remembered
		"abcdefghijkh":   "hijk",
		"abababababcbc":  "abc",
	} {
		var l lives
		now := began
		for _, r := range answers {
			if r >= '0' && r <= '9' {
				now = now.Add(time.Duration(r-'0') * time.Second)
				continue
			}
			l.answer(began.Add(time.Duration(r)*time.Hour), "/from/"+string(r), false, now)
		}
		got := ""
		for _, c := range l.copies(now.Add(-time.Minute)) {
			got += strings.TrimPrefix(c.Addr, "/from/")
		}
		if got != want {
			t.Errorf("%s: %q run at once, want %q", answers, got, want)
		}
		if len(l.list) > maxLives {
			t.Errorf("%s: %d programs are remembered", answers, len(l.list))
		}
	}
	var l lives
	l.answer(began, "/inbound/1", false, began)
	l.answer(began, "", false, began)
	l.answer(began, "/listens", true, began)
	l.answer(began, "/inbound/2", false, began)
	if got := l.list[0].addr; got != "/listens" {
		t.Errorf("the address is %s", got)
	}
}

func TestCopiesTravel(t *testing.T) {
	when := time.Date(2026, 11, 20, 12, 0, 0, 123456789, time.UTC)
	i := info{sentAt: when, startedAt: when, gitHash: "unknown", copies: []Copy{{when, "/ip4/10.0.0.7/tcp/3610"}, {time.Date(1960, 1, 1, 0, 0, 0, 1, time.UTC), ""}}}
	back, err := decodeInfo(encoded(t, i))
	if err != nil || !reflect.DeepEqual(back.copies, i.copies) {
		t.Errorf("%+v, %v", back.copies, err)
	}
	// Who doesn't know the field reads the rest.
	var m wirepb.PeerInfo
	if err := wirepb.Read(encoded(t, i), &m); err != nil || m.GitHash != "unknown" {
		t.Errorf("%v, %v", &m, err)
	}
	plain := i
	plain.copies = nil
	base := encoded(t, plain)
	entry := func(parts ...[]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(bytes.Clone(base), fieldCopies, protowire.BytesType), bytes.Join(parts, nil))
	}
	number := func(n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
	}
	address := protowire.AppendString(protowire.AppendTag(nil, fieldAddress, protowire.BytesType), "\x1b[2J"+strings.Repeat("x", 1000))
	for name, x := range map[string]struct {
		raw  []byte
		want string
	}{
		"none":           {base, "[]"},
		"empty":          {entry(), "[{1970-01-01 00:00:00 +0000 UTC }]"},
		"another field":  {entry(number(9, 1), number(fieldSeconds, 5)), "[{1970-01-01 00:00:05 +0000 UTC }]"},
		"nanos too many": {entry(number(fieldNanos, 1e9)), "[]"},
		"year too far":   {entry(number(fieldSeconds, 1<<62)), "[]"},
		"torn":           {entry([]byte{0x80}), "[]"},
		"a cursor moved": {entry(address), fmt.Sprintf("[{1970-01-01 00:00:00 +0000 UTC ?[2J%s}]", strings.Repeat("x", maxAddr-4))},
		"another's type": {append(bytes.Clone(base), number(fieldCopies, 7)...), "[]"},
		"thousands":      {append(bytes.Clone(base), bytes.Repeat(entry(number(fieldSeconds, 1))[len(base):], 5000)...), fmt.Sprint(slices.Repeat([]Copy{{StartedAt: time.Unix(1, 0).UTC()}}, maxLives))},
	} {
		got, err := decodeInfo(x.raw)
		if err != nil || fmt.Sprint(got.copies) != x.want {
			t.Errorf("%s: %v, %v", name, got.copies, err)
		}
	}
}

// hurried asks often, so that tests are short.
func hurried(o *Options) {
	o.pace = pace{every: 200 * time.Millisecond, soon: 20 * time.Millisecond, close: 40 * time.Millisecond, stays: time.Second}
}

func copiesOf(h *Host, i int) []Copy {
	for _, s := range h.Status() {
		if int(s.Index) == i {
			return s.Copies
		}
	}
	return nil
}

// quietFor fails when ok isn't true all the while.
func quietFor(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if !ok() {
			t.Fatal(what)
		}
	}
}

// A node that runs twice is seen by its peers with both addresses, and told so by them; both copies
// know it. With one of them gone it passes.
func TestTwinsAreSeen(t *testing.T) {
	f := newFlock(t, 3)
	a, b, c := f.start(0, hurried), f.start(1, hurried), f.start(2, hurried)
	introduce(t, a, b, c)
	nobody := func() bool {
		return copiesOf(b, 0) == nil && copiesOf(c, 0) == nil && copiesOf(a, 1) == nil && a.Twins() == nil && b.Twins() == nil && c.Twins() == nil
	}
	quietFor(t, time.Second, "three nodes that run once are doubled", nobody)

	twin := f.start(0, hurried) // the same key, elsewhere; it dials
	for _, h := range []*Host{b, c} {
		if err := twin.SetAddrs(h.Self(), h.Addrs()); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range []*Host{b, c} {
		eventually(t, "a peer sees both", func() bool {
			got := copiesOf(h, 0)
			return len(got) == 2 && got[0].StartedAt.Equal(a.started) && got[1].StartedAt.Equal(twin.started) && got[0].Addr != "" && got[1].Addr != "" && got[0].Addr != got[1].Addr
		})
	}
	eventually(t, "the node hears of its twin from both peers", func() bool {
		got := a.Twins()
		return len(got) == 1 && got[0].StartedAt.Equal(twin.started) && len(got[0].By) == 2 && strings.HasPrefix(got[0].Addr, "/ip4/127.0.0.1/")
	})
	eventually(t, "the twin hears of the node", func() bool {
		got := twin.Twins()
		return len(got) == 1 && got[0].StartedAt.Equal(a.started) && len(got[0].By) == 2
	})
	if copiesOf(b, 2) != nil || b.Twins() != nil || c.Twins() != nil {
		t.Error("nodes that run once are doubled too")
	}
	if err := twin.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it passes", nobody)
	quietFor(t, time.Second, "it came back", nobody)
}

// twoConnections has both dial at the same time, until each has one connection to the other's listener.
func twoConnections(t *testing.T, a, b *Host) {
	t.Helper()
	for range 100 {
		var wg sync.WaitGroup
		wg.Go(func() { _ = a.h.Connect(t.Context(), addrInfo(t, b)) })
		wg.Go(func() { _ = b.h.Connect(t.Context(), addrInfo(t, a)) })
		wg.Wait()
		if len(a.h.Network().ConnsToPeer(b.h.ID())) > 1 && len(b.h.Network().ConnsToPeer(a.h.ID())) > 1 {
			return
		}
		_ = a.h.Network().ClosePeer(b.h.ID())
		_ = b.h.Network().ClosePeer(a.h.ID())
		eventually(t, "both are alone", func() bool { return a.Connected() == 0 && b.Connected() == 0 })
	}
	t.Fatal("there are no two connections")
}

// What looks like a second program and is none: the same one over two addresses, a restart, many
// restarts, a connection that breaks again and again.
func TestNoTwins(t *testing.T) {
	f := newFlock(t, 2)
	a := f.start(0, hurried)
	b := f.start(1, hurried, func(o *Options) { o.ListenTCP = []string{"127.0.0.1:0", "127.0.0.2:0"} })
	twoConnections(t, a, b)
	if n := len(a.h.Network().ConnsToPeer(b.h.ID())); n < 2 {
		t.Fatalf("%d connections", n)
	}
	quietFor(t, time.Second, "two interfaces are two programs", func() bool { return copiesOf(a, 1) == nil && copiesOf(b, 0) == nil && b.Twins() == nil })

	introduce(t, a, b)
	for range 3 {
		for range 3 { // the connection breaks
			_ = a.h.Network().ClosePeer(b.h.ID())
			eventually(t, "back", func() bool { return a.Connected() == 1 && b.Connected() == 1 })
			quietFor(t, 100*time.Millisecond, "a broken connection makes two", func() bool { return copiesOf(a, 1) == nil && b.Twins() == nil })
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = f.start(1, hurried)
		if err := a.SetAddrs(1, b.Addrs()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "back", func() bool { return a.Connected() == 1 })
		eventually(t, "asked", func() bool { s := a.Status()[0]; return s.StartedAt != nil && s.StartedAt.Equal(b.started) })
		quietFor(t, 300*time.Millisecond, "a restart makes two", func() bool { return copiesOf(a, 1) == nil && b.Twins() == nil })
	}
}
