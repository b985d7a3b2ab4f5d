package qbft

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func load(t *testing.T, name string, dst any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, dst); err != nil {
		t.Fatal(err)
	}
}

func TestLeaders(t *testing.T) {
	var rows []struct {
		Slot   uint64
		Type   int64 `json:"duty_type"`
		Round  int64
		Nodes  int
		Leader int `json:"leader_peer_idx"`
	}
	load(t, "leaders.json", &rows)
	for _, r := range rows {
		if got := Leader(r.Slot, r.Type, r.Round, r.Nodes); got != r.Leader {
			t.Errorf("%+v: got %d", r, got)
		}
	}
	if len(rows) == 0 {
		t.Fatal("no vectors")
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int][2]int{3: {2, 0}, 4: {3, 1}, 5: {4, 1}, 6: {4, 1}, 7: {5, 2}, 10: {7, 3}} {
		if Quorum(n) != want[0] || Faulty(n) != want[1] {
			t.Errorf("n=%d: quorum %d, faulty %d, want %v", n, Quorum(n), Faulty(n), want)
		}
	}
}

func TestTimer(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 4, 0, time.UTC)
	for _, c := range []struct {
		proposer bool
		rounds   []int64
		after    []time.Duration
	}{
		// A doubled round 1 ends when round 2 ends: that one is over at once.
		{false, []int64{1, 1, 2, 2, 3, 1}, []time.Duration{1000, 2000, 2000, 4000, 3000, 2000}},
		{true, []int64{1, 2, 3, 3}, []time.Duration{1500, 2500, 3500, 7000}},
		{false, []int64{1 << 60}, []time.Duration{24 * 3600 * 1000}},
	} {
		tm := NewTimer(start, c.proposer)
		for i, r := range c.rounds {
			if got := tm.Arm(r).Sub(start); got != c.after[i]*time.Millisecond {
				t.Errorf("proposer %t, arming %d (round %d): %s, want %s", c.proposer, i, r, got, c.after[i]*time.Millisecond)
			}
		}
	}
}

func TestRunning(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, proposer := range []bool{false, true} {
		for _, after := range []time.Duration{-time.Hour, 0, 999 * time.Millisecond, time.Second, 1499 * time.Millisecond, 1500 * time.Millisecond, 20*time.Second + 1} {
			now := start.Add(after)
			r := NewTimer(start, proposer).Running(now)
			if !NewTimer(start, proposer).Arm(r).After(now) || r > 1 && NewTimer(start, proposer).Arm(r-1).After(now) {
				t.Errorf("proposer %t, %s after the start: round %d", proposer, after, r)
			}
		}
	}
}

func TestTimeoutTo(t *testing.T) {
	b := node(4, 0)
	b.TimeoutTo(9) // not started
	b.Start()
	b.TimeoutTo(9)
	b.TimeoutTo(4)
	b.want(t, RoundChange)
	if b.Round() != 9 || !slices.Equal(b.armed, []int64{1, 9}) {
		t.Errorf("round %d, armed %v", b.Round(), b.armed)
	}
}

// box is one instance with what it said.
type box struct {
	*Instance[string]
	sent    []Msg[string]
	armed   []int64
	decided []string
	refuse  string
}

// node makes an instance of n nodes in which round r is led by node r mod n.
func node(n, self int) *box {
	b := &box{}
	b.Instance = New(Config[string]{
		Nodes: n, Self: self,
		Leader: func(r int64) int { return int(r) % n },
		Vote:   func(v string) bool { return v != b.refuse },
		Send:   func(m Msg[string]) any { b.sent = append(b.sent, m); return len(b.sent) },
		Arm:    func(r int64) { b.armed = append(b.armed, r) },
		Decide: func(v string, _ []Msg[string]) { b.decided = append(b.decided, v) },
	})
	return b
}

func (b *box) types() (out []MsgType) {
	for _, m := range b.sent {
		out = append(out, m.Type)
	}
	return out
}

func (b *box) want(t *testing.T, types ...MsgType) {
	t.Helper()
	if !slices.Equal(b.types(), types) {
		t.Fatalf("sent %v, want %v", b.types(), types)
	}
}

func vote1(typ MsgType, from int, round int64, v string) Msg[string] {
	return Msg[string]{Type: typ, Source: from, Round: round, Value: v}
}

func change(from int, round int64) Msg[string] {
	return Msg[string]{Type: RoundChange, Source: from, Round: round}
}

func changePrepared(from int, round, pr int64, pv string, by ...int) Msg[string] {
	m := Msg[string]{Type: RoundChange, Source: from, Round: round, PreparedRound: pr, PreparedValue: pv}
	for _, s := range by {
		m.Justification = append(m.Justification, vote1(Prepare, s, pr, pv))
	}
	return m
}

func TestHappyRound(t *testing.T) {
	b := node(4, 0)
	b.Start()
	if !b.Receive(vote1(PrePrepare, 1, 1, "a")) {
		t.Fatal("the leader's proposal is refused")
	}
	b.want(t, Prepare)
	b.Receive(vote1(Prepare, 1, 1, "a"))
	b.Receive(vote1(Prepare, 2, 1, "a"))
	b.want(t, Prepare, Commit)
	b.Receive(vote1(Commit, 1, 1, "a"))
	b.Receive(vote1(Commit, 1, 1, "a")) // the same twice is one
	if b.Done() {
		t.Fatal("two commits decide")
	}
	b.Receive(vote1(Commit, 3, 1, "a"))
	if !slices.Equal(b.decided, []string{"a"}) || !slices.Equal(b.armed, []int64{1, 1}) {
		t.Errorf("decided %v, armed %v", b.decided, b.armed)
	}
	b.Timeout(1)
	if b.Round() != 1 {
		t.Error("a decided instance changes rounds")
	}
}

func TestLeaderWaitsForItsValue(t *testing.T) {
	b := node(4, 1)
	b.Start()
	b.want(t)
	b.Propose("mine")
	b.Propose("other")
	if b.sent[0].Type != PrePrepare || b.sent[0].Value != "mine" || len(b.sent) != 2 {
		t.Errorf("sent %v", b.sent)
	}

	late := node(4, 2) // leads round 2
	late.Start()
	late.Timeout(1)
	late.Receive(change(0, 2))
	late.want(t, RoundChange)
	late.Receive(change(3, 2))
	late.want(t, RoundChange) // quorum, but no value yet
	late.Propose("later")
	if p := late.sent[1]; p.Type != PrePrepare || p.Value != "later" || len(p.Justification) != 3 || p.PreparedRound != 0 || p.PreparedValue != "" {
		t.Errorf("sent %+v", late.sent)
	}

	gone := node(4, 2)
	gone.Start()
	gone.Timeout(1)
	gone.Receive(change(0, 2))
	gone.Receive(change(3, 2))
	gone.Timeout(2)
	gone.Propose("too late")
	gone.want(t, RoundChange, RoundChange)
}

func TestEquivocatingLeaderGetsOnePrepare(t *testing.T) {
	b := node(4, 0)
	b.Start()
	b.Receive(vote1(PrePrepare, 1, 1, "a"))
	b.Receive(vote1(PrePrepare, 1, 1, "b"))
	b.want(t, Prepare)
	// Also when the proposal itself brought us into the round.
	j := []Msg[string]{change(1, 2), change(2, 2), change(3, 2)}
	for _, v := range []string{"c", "d"} {
		m := vote1(PrePrepare, 2, 2, v)
		m.Justification = j
		if !b.Receive(m) {
			t.Fatal("refused")
		}
	}
	b.want(t, Prepare, Prepare)
}

func TestRefusedValueIsDecidedByOthers(t *testing.T) {
	b := node(4, 0)
	b.refuse = "bad"
	b.Start()
	b.Receive(vote1(PrePrepare, 1, 1, "bad"))
	b.Receive(vote1(PrePrepare, 1, 1, "good")) // one proposal a round, refused or not
	b.want(t)
	if !slices.Equal(b.armed, []int64{1, 1}) {
		t.Errorf("armed %v: the round must last as long as for the others", b.armed)
	}
	for s := 1; s < 4; s++ {
		b.Receive(vote1(Prepare, s, 1, "bad"))
	}
	b.want(t, Commit)
	b.Receive(vote1(Commit, 1, 1, "bad"))
	b.Receive(vote1(Commit, 2, 1, "bad"))
	if !b.Done() {
		t.Error("not decided")
	}
}

func TestPreparedValueIsCarried(t *testing.T) {
	b := node(4, 2)
	b.Start()
	b.Propose("mine")
	b.Receive(vote1(PrePrepare, 1, 1, "a"))
	b.Receive(vote1(Prepare, 1, 1, "a"))
	b.Receive(vote1(Prepare, 0, 1, "a"))
	b.want(t, Prepare, Commit)
	b.Timeout(1)
	if m := b.sent[2]; m.Type != RoundChange || m.Round != 2 || m.PreparedRound != 1 || m.PreparedValue != "a" || len(m.Justification) != 3 {
		t.Fatalf("sent %+v", m)
	}
	b.Receive(change(0, 2))
	b.Receive(change(3, 2))
	if m := b.sent[3]; m.Type != PrePrepare || m.Value != "a" || len(m.Justification) != 6 || m.PreparedRound != 0 {
		t.Fatalf("a leader that knows a prepared value proposed %+v", m)
	}
	if !justifiedChange(b.sent[3], 3) {
		t.Error("own proposal isn't justified")
	}
}

func TestJustification(t *testing.T) {
	pre := func(v string, j ...Msg[string]) Msg[string] {
		m := vote1(PrePrepare, 2, 2, v)
		m.Justification = j
		return m
	}
	p := func(from int) Msg[string] { return vote1(Prepare, from, 1, "a") }
	rc := func(from int, pr int64, pv string) Msg[string] {
		return Msg[string]{Type: RoundChange, Source: from, Round: 2, PreparedRound: pr, PreparedValue: pv}
	}
	for _, c := range []struct {
		name string
		m    Msg[string]
		want bool
	}{
		{"round 1 by the leader", vote1(PrePrepare, 1, 1, "a"), true},
		{"round 1 by another", vote1(PrePrepare, 2, 1, "a"), false},
		{"no value", vote1(PrePrepare, 1, 1, ""), false},
		{"round 0", vote1(PrePrepare, 0, 0, "a"), false},
		{"round 2 without justification", pre("a"), false},
		{"J1", pre("x", rc(0, 0, ""), rc(1, 0, ""), rc(3, 0, "")), true},
		{"J1 too few", pre("x", rc(0, 0, ""), rc(1, 0, "")), false},
		{"J1 one source twice", pre("x", rc(0, 0, ""), rc(1, 0, ""), rc(1, 0, "")), false},
		{"J1 of another round", pre("x", rc(0, 0, ""), rc(1, 0, ""), change(3, 3)), false},
		{"J1 with a value in round 0", pre("x", rc(0, 0, ""), rc(1, 0, ""), rc(3, 0, "a")), false},
		{"J2", pre("a", rc(0, 0, ""), rc(1, 1, "a"), rc(3, 0, ""), p(0), p(1), p(2)), true},
		{"J2 another value", pre("x", rc(0, 0, ""), rc(1, 1, "a"), rc(3, 0, ""), p(0), p(1), p(2)), false},
		{"J2 without prepares", pre("a", rc(0, 0, ""), rc(1, 1, "a"), rc(3, 0, "")), false},
		{"J2 too few prepares", pre("a", rc(0, 0, ""), rc(1, 1, "a"), rc(3, 0, ""), p(0), p(1), p(1)), false},
		{"J2 prepares of two values", pre("a", rc(0, 0, ""), rc(1, 1, "a"), rc(3, 0, ""), p(0), p(1), p(2), vote1(Prepare, 3, 1, "b")), false},
		{"J2 one prepared later", pre("a", rc(0, 0, ""), rc(1, 1, "a"), rc(3, 2, "b"), p(0), p(1), p(2)), false},
		{"J2 none with exactly that", pre("a", rc(0, 0, ""), rc(1, 1, "b"), rc(3, 0, ""), p(0), p(1), p(2)), false},
		{"round change, nothing prepared", change(1, 2), true},
		{"round change, prepared", changePrepared(1, 2, 1, "a", 0, 1, 2), true},
		{"round change, claim without proof", changePrepared(1, 2, 1, "a"), false},
		{"round change, too few", changePrepared(1, 2, 1, "a", 0, 1), false},
		{"round change, one source twice", changePrepared(1, 2, 1, "a", 0, 1, 1), false},
		{"round change, no value", changePrepared(1, 2, 1, "", 0, 1, 2), false},
		{"round change with something else", Msg[string]{Type: RoundChange, Source: 1, Round: 2, Justification: []Msg[string]{p(0)}}, false},
		{"decided", Msg[string]{Type: Decided, Source: 3, Round: 5, Value: "a", Justification: []Msg[string]{vote1(Commit, 0, 5, "a"), vote1(Commit, 1, 5, "a"), vote1(Commit, 2, 5, "a")}}, true},
		{"decided by commits of another round", Msg[string]{Type: Decided, Source: 3, Round: 5, Value: "a", Justification: []Msg[string]{vote1(Commit, 0, 5, "a"), vote1(Commit, 1, 5, "a"), vote1(Commit, 2, 4, "a")}}, false},
		{"decided by one source", Msg[string]{Type: Decided, Source: 3, Round: 5, Value: "a", Justification: []Msg[string]{vote1(Commit, 0, 5, "a"), vote1(Commit, 0, 5, "a"), vote1(Commit, 0, 5, "a")}}, false},
		{"no type", vote1(0, 1, 1, "a"), false},
		{"type 6", vote1(6, 1, 1, "a"), false},
		{"a source that isn't", vote1(Prepare, 4, 1, "a"), false},
		{"a source below zero", vote1(Prepare, -1, 1, "a"), false},
		{"a justification by nobody", pre("x", rc(0, 0, ""), rc(1, 0, ""), rc(9, 0, "")), false},
	} {
		b := node(4, 0)
		b.Start()
		if got := b.Receive(c.m); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
		if !c.want && (b.Done() || b.Round() != 1) {
			t.Errorf("%s: moved the instance", c.name)
		}
	}
}

func TestJump(t *testing.T) {
	b := node(7, 0) // f = 2
	b.Start()
	b.Receive(change(1, 5))
	b.Receive(change(2, 9))
	b.Receive(change(2, 3))
	b.want(t)
	b.Receive(change(3, 4))
	if b.Round() != 4 || !slices.Equal(b.armed, []int64{1, 4}) {
		t.Errorf("round %d, armed %v: want the smallest that three have reached", b.Round(), b.armed)
	}
	b.want(t, RoundChange)
}

func TestLateNodeDecidesByAnyProof(t *testing.T) {
	b := node(4, 0)
	b.Start()
	b.Timeout(1)
	b.Timeout(2)
	for s := 1; s < 4; s++ {
		b.Receive(vote1(Commit, s, 1, "a"))
	}
	if !slices.Equal(b.decided, []string{"a"}) {
		t.Error("a quorum of commits of an old round doesn't decide")
	}
}

func TestDecidedAnswers(t *testing.T) {
	var all struct {
		Cases []struct {
			Name  string
			Input struct {
				Nodes  int
				Round  int64 `json:"decided_round"`
				Events []struct {
					Source int
					Round  int64
				}
			}
			Rebroadcast []bool
		}
	}
	load(t, "decided_resends.json", &all)
	for _, c := range all.Cases {
		b := node(c.Input.Nodes, 0)
		b.Start()
		m := Msg[string]{Type: Decided, Source: 1, Round: c.Input.Round, Value: "a"}
		for s := range c.Input.Nodes {
			m.Justification = append(m.Justification, vote1(Commit, s, c.Input.Round, "a"))
		}
		if !b.Receive(m) || !b.Done() {
			t.Fatalf("%s: not decided", c.Name)
		}
		for k, e := range c.Input.Events {
			before := len(b.sent)
			b.Receive(change(e.Source, e.Round))
			if got := len(b.sent) > before; got != c.Rebroadcast[k] {
				t.Errorf("%s, event %d: %t, want %t", c.Name, k, got, c.Rebroadcast[k])
			}
		}
		for _, m := range b.sent {
			if m.Type != Decided || m.Round != c.Input.Round || len(ofQuorum(m.Justification, Commit, m.Round, "a")) < Quorum(c.Input.Nodes) {
				t.Errorf("%s: answered %+v", c.Name, m)
			}
		}
	}
	if len(all.Cases) == 0 {
		t.Fatal("no vectors")
	}
}

func TestBufferIsBounded(t *testing.T) {
	b := node(4, 0)
	b.Start()
	for k := range 1000 {
		b.Receive(vote1(Prepare, 1, 2, string(rune('a'+k))))
		b.Receive(vote1(Prepare, 2, 2, "same"))
	}
	if len(b.buffer[1]) != maxBuffered || len(b.buffer[2]) != 1 {
		t.Errorf("kept %d and %d messages", len(b.buffer[1]), len(b.buffer[2]))
	}
}

func BenchmarkInstance(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		x := node(7, 0)
		x.Start()
		x.Receive(vote1(PrePrepare, 1, 1, "a"))
		for s := 1; s < 7; s++ {
			x.Receive(vote1(Prepare, s, 1, "a"))
		}
		for s := 1; s < 7; s++ {
			x.Receive(vote1(Commit, s, 1, "a"))
		}
		if !x.Done() {
			b.Fatal("not decided")
		}
	}
}
