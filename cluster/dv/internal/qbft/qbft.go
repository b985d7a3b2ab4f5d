// Package qbft is the consensus algorithm by itself: one instance of QBFT (Moniz, "The Istanbul BFT
// consensus algorithm", 2020) as a deterministic machine, in the variant that the nodes of a
// distributed validator speak.
//
// An instance promises agreement and, once the network delivers, termination, as long as at most
// f = floor((n-1)/3) nodes lie. It starts no goroutine, reads no clock, sends nothing by itself and
// never blocks: what it wants done it says through the functions of Config, which must not call back
// into it. Its methods must be called by one goroutine at a time. Messages given to it must be
// authentic: the caller has checked that Source made Msg and each justification.
//
// It goes beyond the least that the protocol asks in two ways that peers cannot tell from luck with
// the network: rules are looked at again after each change of round, and a quorum of COMMITs decides
// whatever its round is, as it would inside a DECIDED.
package qbft

import (
	"cmp"
	"slices"
)

// MsgType numbers messages as the wire does. The zero value is none.
type MsgType int64

// The types of messages.
const (
	PrePrepare  MsgType = 1
	Prepare     MsgType = 2
	Commit      MsgType = 3
	RoundChange MsgType = 4
	Decided     MsgType = 5
)

// String is the name of the type, as in "pre_prepare".
func (t MsgType) String() string {
	switch t {
	case PrePrepare:
		return "pre_prepare"
	case Prepare:
		return "prepare"
	case Commit:
		return "commit"
	case RoundChange:
		return "round_change"
	case Decided:
		return "decided"
	}
	return "none"
}

// Msg is one message. V is the hash that stands for a value; its zero value is no value.
type Msg[V comparable] struct {
	Type          MsgType
	Source        int   // index of the node that signed it
	Round         int64 // from 1
	Value         V
	PreparedRound int64 // 0: nothing prepared
	PreparedValue V
	Justification []Msg[V] // their own justifications are not looked at
	Wire          any      // the caller's form of the message; never looked at here
}

const (
	maxBuffered = 100 // messages kept per source; the oldest is dropped
	maxResends  = 16  // DECIDED answers per source
)

// Quorum is how many of n nodes must agree.
func Quorum(n int) int { return (2*n + 2) / 3 }

// Faulty is how many of n nodes may lie.
func Faulty(n int) int { return max(n-1, 0) / 3 }

// Leader is the index of the node that proposes in a round.
func Leader(slot uint64, dutyType, round int64, nodes int) int {
	n := uint64(max(nodes, 1))
	return int((slot%n + uint64(dutyType)%n + uint64(round)%n) % n)
}

// Config is what an instance needs. All fields are required.
type Config[V comparable] struct {
	Nodes, Self int
	// Leader is the node that leads a round.
	Leader func(round int64) int
	// Vote tells whether this node will vote for a leader's value. One that it refuses can still be
	// decided by the others, and the rounds go on as for them.
	Vote func(value V) bool
	// Send signs an own message and sends it to all peers, not to oneself. What it returns becomes
	// the message's Wire. It must not block.
	Send func(m Msg[V]) any
	// Arm starts the timer of a round, or starts it again. All timers armed before are void.
	Arm func(round int64)
	// Decide is called once. commits are the quorum that proves it.
	Decide func(value V, commits []Msg[V])
}

// Instance agrees on one value. See the package comment for who may call.
type Instance[V comparable] struct {
	c             Config[V]
	started       bool
	round         int64
	value         V // own proposal; zero: none yet
	preparedRound int64
	preparedValue V
	preparedBy    []Msg[V]
	votedIn       int64 // the last round in which we voted on a proposal; so an equivocating leader gets one PREPARE
	committedIn   int64 // … COMMIT
	ledIn         int64 // … PRE_PREPARE, or were ready to
	waiting       []Msg[V]
	waitsForValue bool
	buffer        [][]Msg[V] // by source, oldest first
	commits       []Msg[V]   // the proof of the decision; nil before
	resends       []resend   // by source
	queue         []Msg[V]   // own messages on the way to ourselves
	draining      bool
}

type resend struct {
	round int64
	count int
}

// New returns an instance that has not started.
func New[V comparable](c Config[V]) *Instance[V] {
	return &Instance[V]{c: c, round: 1, buffer: make([][]Msg[V], c.Nodes), resends: make([]resend, c.Nodes)}
}

// Round is the current round.
func (i *Instance[V]) Round() int64 { return i.round }

// Done tells whether the instance has decided.
func (i *Instance[V]) Done() bool { return i.commits != nil }

// Start arms the timer of round 1 and proposes if there is a value and we lead. It acts once.
func (i *Instance[V]) Start() {
	if i.started {
		return
	}
	i.started = true
	i.c.Arm(1)
	i.lead()
	i.drain()
}

// Propose gives the value that this node would propose. The first counts; the zero value is none.
func (i *Instance[V]) Propose(v V) {
	var none V
	if i.value != none || v == none {
		return
	}
	i.value = v
	i.lead()
	i.drain()
}

// lead sends the PRE_PREPARE that waited for a value, or that of round 1.
func (i *Instance[V]) lead() {
	var none V
	if !i.started || i.Done() || i.value == none || i.c.Leader(i.round) != i.c.Self {
		return
	}
	if i.round == 1 && i.ledIn == 0 {
		i.ledIn = 1
		i.send(Msg[V]{Type: PrePrepare, Value: i.value})
	} else if i.waitsForValue {
		i.waitsForValue = false
		i.send(Msg[V]{Type: PrePrepare, Value: i.value, Justification: i.waiting})
	}
}

// Timeout tells that the timer of a round has run out: the next one begins. A round that isn't
// current is ignored.
func (i *Instance[V]) Timeout(round int64) {
	if round == i.round {
		i.TimeoutTo(round + 1)
	}
}

// TimeoutTo tells that all rounds before one have run out, as when a node was frozen: what it would
// have said in each of them, nobody waits for any more.
func (i *Instance[V]) TimeoutTo(round int64) {
	if !i.started || i.Done() || round <= i.round {
		return
	}
	i.changeRound(round)
	i.c.Arm(i.round)
	i.sendRoundChange()
	i.drain()
}

// Receive takes a peer's message. Messages that aren't justified, or aren't possible, are dropped:
// it returns false for them.
func (i *Instance[V]) Receive(m Msg[V]) bool {
	if !i.possible(m) {
		return false
	}
	ok := i.handle(m)
	i.drain()
	return ok
}

func (i *Instance[V]) possible(m Msg[V]) bool {
	if m.Source < 0 || m.Source >= i.c.Nodes || m.Round < 1 || m.PreparedRound < 0 || m.Type < PrePrepare || m.Type > Decided {
		return false
	}
	for _, j := range m.Justification {
		if j.Source < 0 || j.Source >= i.c.Nodes || j.Round < 1 || j.Type < PrePrepare || j.Type > Decided {
			return false
		}
	}
	return true
}

func (i *Instance[V]) changeRound(r int64) {
	if r != i.round {
		i.round, i.waiting, i.waitsForValue = r, nil, false
	}
}

func (i *Instance[V]) sendRoundChange() {
	i.send(Msg[V]{Type: RoundChange, PreparedRound: i.preparedRound, PreparedValue: i.preparedValue, Justification: i.preparedBy})
}

// send fills in source and round, and queues the message for ourselves.
func (i *Instance[V]) send(m Msg[V]) {
	m.Source = i.c.Self
	if m.Round == 0 {
		m.Round = i.round
	}
	m.Wire = i.c.Send(m)
	i.queue = append(i.queue, m)
}

// drain hands us our own messages until there are none.
func (i *Instance[V]) drain() {
	if i.draining {
		return
	}
	i.draining = true
	for {
		for len(i.queue) > 0 {
			m := i.queue[0]
			i.queue = i.queue[1:]
			i.handle(m)
		}
		if i.Done() || !i.act() {
			break
		}
	}
	i.draining = false
}

// handle takes one message, ours or a peer's. It doesn't look at the rules that count messages.
func (i *Instance[V]) handle(m Msg[V]) bool {
	if i.Done() {
		i.answer(m)
		return true
	}
	if !i.justified(m) {
		return false
	}
	i.keep(m)
	switch {
	case m.Type == Decided:
		i.decide(m.Value, ofQuorum(m.Justification, Commit, m.Round, m.Value))
	case m.Type == PrePrepare && m.Round >= i.round && i.votedIn < m.Round:
		i.changeRound(m.Round)
		i.votedIn = m.Round
		i.c.Arm(i.round)
		if i.c.Vote(m.Value) {
			i.send(Msg[V]{Type: Prepare, Value: m.Value})
		}
	}
	return true
}

// keep buffers a message, once: whoever replays a node's messages must not push out its others.
func (i *Instance[V]) keep(m Msg[V]) {
	of := i.buffer[m.Source]
	for _, have := range of {
		if have.Type == m.Type && have.Round == m.Round && have.Value == m.Value && have.PreparedRound == m.PreparedRound && have.PreparedValue == m.PreparedValue {
			return
		}
	}
	if len(of) >= maxBuffered {
		of = append(of[:0], of[1:]...)
	}
	i.buffer[m.Source] = append(of, m)
}

func (i *Instance[V]) answer(m Msg[V]) {
	if m.Type != RoundChange || m.Source == i.c.Self {
		return
	}
	r := &i.resends[m.Source]
	if m.Round <= r.round || r.count >= maxResends {
		return
	}
	r.round, r.count = m.Round, r.count+1
	proof := i.commits[0]
	out := Msg[V]{Type: Decided, Source: i.c.Self, Round: proof.Round, Value: proof.Value, Justification: i.commits}
	i.c.Send(out)
}

func (i *Instance[V]) decide(v V, commits []Msg[V]) {
	if i.Done() {
		return
	}
	i.commits = commits
	i.buffer, i.preparedBy, i.waiting, i.waitsForValue, i.queue = nil, nil, nil, false, nil
	i.c.Decide(v, commits)
}

// act applies the first of the counting rules that holds; false when none does.
func (i *Instance[V]) act() bool {
	if !i.started {
		return false
	}
	all := i.flatten()
	quorum := Quorum(i.c.Nodes)
	var none V

	prepares, commits := map[vote[V]]int{}, map[vote[V]]int{}
	count := func(in map[vote[V]]int, seen map[voter[V]]bool, m *Msg[V]) (vote[V], bool) {
		v := vote[V]{m.Round, m.Value}
		if by := (voter[V]{m.Source, v}); !seen[by] {
			seen[by] = true
			in[v]++
		}
		return v, in[v] >= quorum
	}
	seenPrepare, seenCommit := map[voter[V]]bool{}, map[voter[V]]bool{}
	for _, m := range all {
		switch {
		case m.Value == none:
		case m.Type == Commit:
			if v, ok := count(commits, seenCommit, m); ok {
				i.decide(v.value, distinct(all, Commit, v.round, v.value))
				return true
			}
		case m.Type == Prepare && m.Round == i.round && i.committedIn < i.round:
			if v, ok := count(prepares, seenPrepare, m); ok {
				i.committedIn = i.round
				i.preparedRound, i.preparedValue = v.round, v.value
				i.preparedBy = distinct(all, Prepare, v.round, v.value)
				i.send(Msg[V]{Type: Commit, Value: v.value})
				return true
			}
		}
	}

	// The highest round that f+1 nodes have reached, when it is above ours: one of them is honest.
	ahead := map[int]int64{}
	for _, m := range all {
		if m.Type == RoundChange && m.Round > i.round && m.Round > ahead[m.Source] {
			ahead[m.Source] = m.Round
		}
	}
	if f := Faulty(i.c.Nodes); len(ahead) > f {
		rounds := make([]int64, 0, len(ahead))
		for _, r := range ahead {
			rounds = append(rounds, r)
		}
		slices.SortFunc(rounds, func(a, b int64) int { return cmp.Compare(b, a) })
		i.changeRound(rounds[f])
		i.c.Arm(i.round)
		i.sendRoundChange()
		return true
	}

	if i.round > 1 && i.ledIn < i.round && i.c.Leader(i.round) == i.c.Self {
		if just, pv := i.gather(all); just != nil {
			i.ledIn = i.round
			switch {
			case pv != none:
				i.send(Msg[V]{Type: PrePrepare, Value: pv, Justification: just})
			case i.value != none:
				i.send(Msg[V]{Type: PrePrepare, Value: i.value, Justification: just})
			default:
				i.waiting, i.waitsForValue = just, true
			}
			return true
		}
	}
	return false
}

type vote[V comparable] struct {
	round int64
	value V
}

type voter[V comparable] struct {
	source int
	vote   vote[V]
}

// flatten lists all kept messages, then their justifications: those are authentic too.
func (i *Instance[V]) flatten() []*Msg[V] {
	var out []*Msg[V]
	for _, of := range i.buffer {
		for k := range of {
			out = append(out, &of[k])
		}
	}
	for k, n := 0, len(out); k < n; k++ {
		for j := range out[k].Justification {
			out = append(out, &out[k].Justification[j])
		}
	}
	return out
}

// gather builds the justification of our PRE_PREPARE in the current round. just is nil when there is
// none yet; pv is the value that must be proposed, zero when it may be ours.
func (i *Instance[V]) gather(all []*Msg[V]) (just []Msg[V], pv V) {
	quorum := Quorum(i.c.Nodes)
	var none V
	changes := func(fits func(*Msg[V]) bool, best func(*Msg[V]) bool) (out []Msg[V], found bool) {
		at := map[int]int{}
		for _, m := range all {
			if m.Type != RoundChange || m.Round != i.round || !fits(m) {
				continue
			}
			if k, have := at[m.Source]; !have {
				at[m.Source] = len(out)
				out = append(out, bare(m))
			} else if best(m) {
				out[k] = bare(m)
			}
			found = found || best(m)
		}
		return out, found
	}
	nothing := func(m *Msg[V]) bool { return m.PreparedRound == 0 && m.PreparedValue == none }
	if q, _ := changes(nothing, nothing); len(q) >= quorum {
		return q, none
	}
	tried := map[vote[V]]bool{}
	for _, m := range all {
		v := vote[V]{m.Round, m.Value}
		if m.Type != Prepare || m.Value == none || tried[v] {
			continue
		}
		tried[v] = true
		prepares := distinct(all, Prepare, v.round, v.value)
		if len(prepares) < quorum {
			continue
		}
		q, found := changes(
			func(m *Msg[V]) bool { return m.PreparedRound <= v.round },
			func(m *Msg[V]) bool { return m.PreparedRound == v.round && m.PreparedValue == v.value })
		if len(q) >= quorum && found {
			return append(q, prepares...), v.value
		}
	}
	return nil, none
}

// bare is a message as it stands in a justification: without one of its own.
func bare[V comparable](m *Msg[V]) Msg[V] {
	out := *m
	out.Justification = nil
	return out
}

// distinct returns the messages of a type, round and value, one per source.
func distinct[V comparable](all []*Msg[V], t MsgType, round int64, v V) (out []Msg[V]) {
	seen := map[int]bool{}
	for _, m := range all {
		if m.Type == t && m.Round == round && m.Value == v && !seen[m.Source] {
			seen[m.Source] = true
			out = append(out, bare(m))
		}
	}
	return out
}

// ofQuorum is distinct over a justification.
func ofQuorum[V comparable](just []Msg[V], t MsgType, round int64, v V) []Msg[V] {
	all := make([]*Msg[V], len(just))
	for k := range just {
		all[k] = &just[k]
	}
	return distinct(all, t, round, v)
}

// justified tells whether a message may be believed to follow the protocol.
func (i *Instance[V]) justified(m Msg[V]) bool {
	quorum := Quorum(i.c.Nodes)
	var none V
	switch m.Type {
	case Prepare, Commit:
		return true
	case Decided:
		return m.Value != none && len(ofQuorum(m.Justification, Commit, m.Round, m.Value)) >= quorum
	case RoundChange:
		if len(m.Justification) == 0 {
			return m.PreparedRound == 0 && m.PreparedValue == none
		}
		// All of one kind, so a message holds nothing that its sender needn't have sent.
		for _, j := range m.Justification {
			if j.Type != Prepare || j.Round != m.PreparedRound || j.Value != m.PreparedValue {
				return false
			}
		}
		return m.PreparedValue != none && len(ofQuorum(m.Justification, Prepare, m.PreparedRound, m.PreparedValue)) >= quorum
	case PrePrepare:
		if m.Value == none || m.Source != i.c.Leader(m.Round) {
			return false
		}
		if m.Round == 1 {
			return true
		}
		return justifiedChange(m, quorum)
	}
	return false
}

// justifiedChange tells whether a PRE_PREPARE of a later round proposes what the round changes allow:
// anything when nothing was prepared (J1), else the value prepared last (J2).
func justifiedChange[V comparable](m Msg[V], quorum int) bool {
	var none V
	var changes []*Msg[V]
	seen := map[int]bool{}
	for k := range m.Justification {
		j := &m.Justification[k]
		if j.Type == RoundChange && j.Round == m.Round && !seen[j.Source] {
			seen[j.Source] = true
			changes = append(changes, j)
		}
	}
	if len(changes) < quorum {
		return false
	}
	prepared := func(j *Msg[V]) bool { return j.PreparedRound != 0 || j.PreparedValue != none }
	if !slices.ContainsFunc(changes, prepared) {
		return true
	}
	// All PREPAREs must be of one round and value.
	var top vote[V]
	for _, j := range m.Justification {
		if j.Type != Prepare {
			continue
		}
		v := vote[V]{j.Round, j.Value}
		if top != (vote[V]{}) && v != top {
			return false
		}
		top = v
	}
	if top.value == none || top.value != m.Value || len(ofQuorum(m.Justification, Prepare, top.round, top.value)) < quorum {
		return false
	}
	return !slices.ContainsFunc(changes, func(j *Msg[V]) bool { return j.PreparedRound > top.round }) &&
		slices.ContainsFunc(changes, func(j *Msg[V]) bool {
			return j.PreparedRound == top.round && j.PreparedValue == top.value
		})
}
