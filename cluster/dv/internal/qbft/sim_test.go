package qbft

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A whole cluster in simulated time: one event after another, all chance from one seed.

type event struct {
	at   time.Duration
	seq  int // equal times in order of making
	what func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

type sim struct {
	t        *testing.T
	rng      *rand.Rand
	n        int
	queue    events
	seq      int
	now      time.Duration
	heals    time.Duration // loss and long delays until then
	loss     float64
	slow     time.Duration
	nodes    []*Instance[string]
	bad      []bool        // Byzantine
	dead     []bool        // never speak
	cut      []bool        // apart from the others until it heals
	authored []Msg[string] // what honest nodes signed: liars can replay it, not invent it
	decided  []string
	inputs   map[string]bool
	offset   int64
	proposer bool
}

func (s *sim) after(d time.Duration, what func()) {
	s.seq++
	heap.Push(&s.queue, event{s.now + d, s.seq, what})
}

func (s *sim) leader(round int64) int { return int((round + s.offset) % int64(s.n)) }

func (s *sim) deliver(from, to int, m Msg[string]) {
	if to == from || s.dead[to] || s.bad[to] {
		return
	}
	lossy := s.now < s.heals
	if lossy && (s.rng.Float64() < s.loss || s.cut[from] != s.cut[to]) {
		return
	}
	delay := time.Duration(s.rng.Int64N(int64(40 * time.Millisecond)))
	if lossy {
		delay = time.Duration(s.rng.Int64N(int64(s.slow) + 1))
	}
	s.after(delay, func() { s.nodes[to].Receive(m) })
	if s.rng.Float64() < 0.05 {
		s.after(2*delay, func() { s.nodes[to].Receive(m) }) // twice
	}
}

func (s *sim) broadcast(from int, m Msg[string]) {
	for to := range s.n {
		s.deliver(from, to, m)
	}
}

// honest makes an instance that follows the protocol.
func (s *sim) honest(id int) {
	timer := NewTimer(time.Time{}, s.proposer)
	armed := 0
	var inst *Instance[string]
	inst = New(Config[string]{
		Nodes: s.n, Self: id, Leader: s.leader, Vote: func(string) bool { return true },
		Send: func(m Msg[string]) any {
			if m.Source != id || m.Round < 1 {
				s.t.Fatalf("node %d sends as %d in round %d", id, m.Source, m.Round)
			}
			s.authored = append(s.authored, m)
			s.broadcast(id, m)
			return nil
		},
		Arm: func(r int64) {
			armed++
			mine := armed
			end := timer.Arm(r).Sub(time.Time{})
			s.after(max(end-s.now, 0), func() {
				if mine == armed {
					inst.Timeout(r)
				}
			})
		},
		Decide: func(v string, commits []Msg[string]) {
			if s.decided[id] != "" {
				s.t.Fatalf("node %d decides twice", id)
			}
			if len(ofQuorum(commits, Commit, commits[0].Round, v)) < Quorum(s.n) {
				s.t.Fatalf("node %d decides without proof", id)
			}
			s.decided[id] = v
		},
	})
	s.nodes[id] = inst
	s.after(time.Duration(s.rng.Int64N(int64(300*time.Millisecond))), inst.Start)
	// Beacon nodes answer at different times; some never do.
	if s.rng.IntN(5) > 0 {
		v := fmt.Sprintf("honest-%d", id)
		s.inputs[v] = true
		s.after(time.Duration(s.rng.Int64N(int64(1500*time.Millisecond))), func() { inst.Propose(v) })
	}
}

// liar says whatever could split the others, again and again.
func (s *sim) liar(id int) {
	var act func()
	act = func() {
		s.lie(id)
		if s.now < 60*time.Second {
			s.after(time.Duration(s.rng.Int64N(int64(200*time.Millisecond))), act)
		}
	}
	s.after(0, act)
}

func (s *sim) lie(id int) {
	values := []string{"evil-a", "evil-b", ""}
	for v := range s.inputs {
		values = append(values, v)
	}
	slices.Sort(values)
	round := int64(1)
	known := s.authored
	if len(known) > 0 {
		round = known[s.rng.IntN(len(known))].Round
	}
	round += int64(s.rng.IntN(3)) - 1
	pick := func() string { return values[s.rng.IntN(len(values))] }
	// Justifications: true messages of others, out of place, and anything signed by a liar.
	garbage := func() []Msg[string] {
		var out []Msg[string]
		for range s.rng.IntN(2 * s.n) {
			if len(known) > 0 && s.rng.IntN(2) == 0 {
				out = append(out, bare(&known[s.rng.IntN(len(known))]))
				continue
			}
			by := id
			if liars := s.liars(); len(liars) > 0 {
				by = liars[s.rng.IntN(len(liars))]
			}
			out = append(out, Msg[string]{Type: MsgType(s.rng.IntN(5) + 1), Source: by, Round: round, Value: pick(), PreparedRound: int64(s.rng.IntN(3)), PreparedValue: pick()})
		}
		return out
	}
	// The best attack on a justification: all true messages of a kind and round, and the liars' own.
	useful := func(typ MsgType, r int64, v string) []Msg[string] {
		var out []Msg[string]
		for k := range known {
			if m := &known[k]; m.Type == typ && m.Round == r && (typ == RoundChange || m.Value == v) {
				out = append(out, bare(m))
			}
		}
		for _, l := range s.liars() {
			out = append(out, Msg[string]{Type: typ, Source: l, Round: r, Value: v})
			if typ == RoundChange {
				out[len(out)-1].Value = ""
			}
		}
		return out
	}
	for to := range s.n { // each peer hears something else
		m := Msg[string]{Type: MsgType(s.rng.IntN(5) + 1), Source: id, Round: max(round, 1), Value: pick()}
		switch m.Type {
		case PrePrepare:
			if m.Round > 1 {
				m.Justification = append(useful(RoundChange, m.Round, ""), useful(Prepare, m.Round-1, m.Value)...)
				if s.rng.IntN(2) == 0 {
					m.Justification = useful(RoundChange, m.Round, "")
				}
			}
		case RoundChange:
			m.Value = ""
			if s.rng.IntN(2) == 0 {
				m.PreparedRound, m.PreparedValue = max(1, m.Round-1), pick()
				m.Justification = useful(Prepare, m.PreparedRound, m.PreparedValue)
			}
		case Decided:
			m.Justification = useful(Commit, m.Round, m.Value)
		}
		if s.rng.IntN(4) == 0 {
			m.Justification = garbage()
		}
		s.deliver(id, to, m)
	}
	if len(known) > 0 { // a replay, with a justification of another's making
		m := known[s.rng.IntN(len(known))]
		if s.rng.IntN(2) == 0 {
			m.Justification = garbage()
		}
		s.broadcast(id, m)
	}
}

func (s *sim) liars() (out []int) {
	for i, b := range s.bad {
		if b {
			out = append(out, i)
		}
	}
	return out
}

func runSim(t *testing.T, seed uint64, liars, dead int, n int) {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), n: n, nodes: make([]*Instance[string], n), bad: make([]bool, n), dead: make([]bool, n), cut: make([]bool, n),
		decided: make([]string, n), inputs: map[string]bool{},
	}
	s.offset = int64(s.rng.IntN(n))
	s.proposer = s.rng.IntN(2) == 0
	s.heals = time.Duration(s.rng.Int64N(int64(12 * time.Second)))
	s.loss = s.rng.Float64() * 0.6
	s.slow = time.Duration(s.rng.Int64N(int64(3 * time.Second)))
	order := s.rng.Perm(n)
	for i := range liars {
		s.bad[order[i]] = true
	}
	for i := range dead {
		s.dead[order[liars+i]] = true
	}
	for i := range n {
		s.cut[i] = s.rng.IntN(3) == 0
		switch {
		case s.bad[i]:
			s.liar(i)
		case !s.dead[i]:
			s.honest(i)
		}
	}
	// Somebody who leads often enough must have a value for anything to be decided.
	for i := range n {
		if !s.bad[i] && !s.dead[i] {
			v := fmt.Sprintf("late-%d", i)
			s.inputs[v] = true
			s.after(13*time.Second, func() { s.nodes[i].Propose(v) })
		}
	}
	alive := func() (open int) {
		for i := range n {
			if !s.bad[i] && !s.dead[i] && s.decided[i] == "" {
				open++
			}
		}
		return open
	}
	for s.queue.Len() > 0 && s.now < 5*time.Minute && (alive() > 0 || s.now < s.heals) {
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		e.what()
	}
	var value string
	for i := range n {
		if s.bad[i] || s.dead[i] {
			continue
		}
		switch v := s.decided[i]; {
		case v == "":
			t.Fatalf("seed %d, n %d, liars %d, dead %d: node %d has not decided by %s (round %d)", seed, n, liars, dead, i, s.now, s.nodes[i].Round())
		case value == "":
			value = v
		case v != value:
			t.Fatalf("seed %d, n %d, liars %d, dead %d: decided %q and %q", seed, n, liars, dead, value, v)
		}
	}
	if !s.inputs[value] && (liars == 0 || value != "evil-a" && value != "evil-b") {
		t.Fatalf("seed %d: decided %q, which nobody proposed", seed, value)
	}
}

func TestSimulation(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 10
	}
	for n := 3; n <= 7; n++ {
		for liars := 0; liars <= Faulty(n); liars++ {
			for dead := 0; liars+dead <= n-Quorum(n); dead++ {
				t.Run(fmt.Sprintf("n%d liars%d dead%d", n, liars, dead), func(t *testing.T) {
					for seed := range seeds {
						runSim(t, seed, liars, dead, n)
					}
				})
			}
		}
	}
}

// The simulation must be able to fail: with more liars than the algorithm bears, nodes disagree.
func TestSimulationFindsDisagreement(t *testing.T) {
	if safe(func(b *box, c *box) {
		// Four nodes, two of them liars: each of the others is told another story.
		for k, x := range []*box{b, c} {
			v := string(rune('a' + k))
			x.Receive(vote1(PrePrepare, 1, 1, v))
			for _, liar := range []int{1, 2} {
				x.Receive(vote1(Prepare, liar, 1, v))
				x.Receive(vote1(Commit, liar, 1, v))
			}
		}
	}) {
		t.Error("two liars of four couldn't split the others: the checks above prove nothing")
	}
}

func safe(attack func(b, c *box)) bool {
	b, c := node(4, 0), node(4, 3)
	b.Start()
	c.Start()
	attack(b, c)
	return !(b.Done() && c.Done() && b.decided[0] != c.decided[0])
}
