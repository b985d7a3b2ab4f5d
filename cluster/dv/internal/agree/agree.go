// Package agree lets the nodes of a cluster agree on the data of a duty: one QBFT instance per duty,
// over the consensus messages of the wire.
//
// It promises that OnDecided's functions are called exactly once per duty that is decided before its
// deadline, each call in a goroutine of the duty's own and in the order in which they were given;
// that Propose, Participate and Handle don't wait for peers; and that whatever peers send, memory is
// bounded: messages per peer and duty, duties that only peers speak of, and bytes kept on behalf of
// each peer. When a peer's queue is full its oldest message goes; when its bytes are used up its new
// ones are refused until duties end. After a decision an instance answers nodes that are behind until
// the deadline of the duty, and then everything about it is dropped.
//
// Time comes from package time and from the functions in Options. All methods may be called from any
// goroutine.
package agree

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/qbft"
	"app.provost/cluster/internal/fanout"
	"app.provost/cluster/internal/wirepb"
)

// Errors that Handle, Propose and Participate wrap. Those of Handle up to ErrBusy are a peer's fault
// or a different version's; none needs more than a line in the log.
var (
	ErrMalformed = errors.New("malformed consensus message")
	ErrDuty      = errors.New("nodes don't agree on such duties here")
	ErrSignature = errors.New("a consensus message isn't signed by the node that it names")
	ErrOwn       = errors.New("a peer sent a message of this node's own key: it is a replay, or the node runs twice")
	ErrGate      = errors.New("the duty isn't due to be agreed on")
	ErrLimit     = errors.New("the consensus message has more parts than the protocol allows")
	ErrValue     = errors.New("a value of the consensus message is missing or malformed")
	ErrLate      = errors.New("the deadline of the duty has passed")
	ErrBusy      = errors.New("too much is kept on behalf of the peer: its message was dropped")
	ErrProposed  = errors.New("a value was proposed for the duty already")
	ErrClosed    = errors.New("agreement has been closed")
)

const (
	maxQueued    = 100       // messages of one peer that wait for one instance
	maxForeign   = 1024      // duties that only peers have spoken of
	maxPeerBytes = 256 << 20 // kept on behalf of one peer, over all duties
	maxSniffed   = 4096      // messages kept for debugging
)

// Decision is what an instance decided, for metrics.
type Decision struct {
	Duty   cluster.Duty
	Round  int64 // whose COMMITs decided
	Leader cluster.PeerIndex
	Took   time.Duration // since this node started the instance
}

// Options are what agreement needs. Fields are required unless they say otherwise.
type Options struct {
	Self  cluster.PeerIndex
	Nodes int
	// Sign signs with the node's key; Verify checks a signature of a peer.
	Sign   wirepb.Signer
	Verify func(peer cluster.PeerIndex, hash [32]byte, sig []byte) error
	// Gate refuses duties that are of no known type or too far ahead.
	Gate func(cluster.Duty) error
	// RoundsFrom is the moment from which rounds count; all nodes must use the same.
	RoundsFrom func(cluster.Duty) time.Time
	// Deadline is when everything about a duty is dropped.
	Deadline func(cluster.Duty) time.Time
	// Send hands a message to one peer under wirepb.ProtocolQBFT.
	Send fanout.SendFunc
	// Vote returns an error for a value that this node won't vote for. Optional.
	Vote func(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) error
	// Spawn owns the goroutines: it must run each function, with a context that ends when the node
	// stops. Close waits for them.
	Spawn func(name string, fn func(ctx context.Context) error)
	// Log gets what an operator may want to know about peers. Optional.
	Log *slog.Logger

	// For metrics; all optional, called from any goroutine, must not block.
	Decided   func(Decision)
	Timeout   func(duty cluster.Duty, round int64, leader cluster.PeerIndex) // a round ended without a decision
	Undecided func(duty cluster.Duty, round int64)                           // the deadline came first
	NotSent   func(to cluster.PeerIndex, err error)
	// NotMade hears of messages that carry this node's own signature and that this Consensus did not
	// make: an earlier run of the node did, or another one with its key. Optional; it must not block.
	NotMade func(duty cluster.Duty, from cluster.PeerIndex)
}

type decidedFunc = func(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet)

// Consensus holds the instances.
type Consensus struct {
	o   Options
	fan *fanout.Fan

	mu        sync.Mutex // guards all below; never held while an instance's functions run
	closed    bool
	instances map[cluster.Duty]*instance
	foreign   int                       // instances not started here
	bytes     map[cluster.PeerIndex]int // kept on behalf of peers
	decided   []decidedFunc
	sniffed   []sniffed // ring
	next      int       // where the ring goes on
	running   sync.WaitGroup
}

// New returns agreement with no instances.
func New(o Options) (*Consensus, error) {
	if o.Sign == nil || o.Verify == nil || o.Gate == nil || o.RoundsFrom == nil || o.Deadline == nil || o.Spawn == nil {
		return nil, errors.New("set up agreement: an option is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Vote == nil {
		o.Vote = func(context.Context, cluster.Duty, cluster.UnsignedDataSet) error { return nil }
	}
	if o.Decided == nil {
		o.Decided = func(Decision) {}
	}
	if o.Timeout == nil {
		o.Timeout = func(cluster.Duty, int64, cluster.PeerIndex) {}
	}
	if o.NotMade == nil {
		o.NotMade = func(cluster.Duty, cluster.PeerIndex) {}
	}
	if o.Undecided == nil {
		o.Undecided = func(cluster.Duty, int64) {}
	}
	fan, err := fanout.New(o.Self, o.Nodes, o.Send, o.NotSent)
	if err != nil {
		return nil, fmt.Errorf("set up agreement: %w", err)
	}
	return &Consensus{o: o, fan: fan, instances: map[cluster.Duty]*instance{}, bytes: map[cluster.PeerIndex]int{}}, nil
}

// OnDecided adds a function that hears of each decision. It must be called before the first duty.
// The set is the function's own map; its bytes are shared and must not be changed.
func (c *Consensus) OnDecided(fn func(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decided = append(c.decided, fn)
}

// agreedOn tells whether nodes agree on the duty's data in a set. (On info_sync they agree on
// something else, which peers do without us.)
func agreedOn(t cluster.DutyType) bool {
	switch t {
	case cluster.DutyProposer, cluster.DutyAttester, cluster.DutyAggregator, cluster.DutySyncContribution:
		return true
	}
	return false
}

// Participate starts the instance of a duty without a value: this node votes, and leads if one is
// proposed later. Starting it again does nothing. Errors wrap ErrDuty, ErrLate or ErrClosed.
func (c *Consensus) Participate(ctx context.Context, duty cluster.Duty) error {
	_, err := c.start(ctx, duty)
	return err
}

// Propose gives the value that this node would propose when it leads, and starts the instance if
// that hasn't been done. It doesn't wait for the decision. Errors wrap ErrValue, ErrDuty, ErrLate,
// ErrProposed or ErrClosed.
func (c *Consensus) Propose(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) error {
	if len(set) == 0 {
		return fmt.Errorf("propose for %s: %w: the set is empty", duty, ErrValue)
	}
	v, hash, err := wirepb.WrapUnsigned(wirepb.NewUnsignedDataSet(set))
	if err != nil {
		return fmt.Errorf("propose for %s: %w", duty, err)
	}
	i, err := c.start(ctx, duty)
	if err != nil {
		return err
	}
	return i.propose(hash, v)
}

func (c *Consensus) start(ctx context.Context, duty cluster.Duty) (*instance, error) {
	if !agreedOn(duty.Type) {
		return nil, fmt.Errorf("start agreement on %s: %w", duty, ErrDuty)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start agreement on %s: %w", duty, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.instanceLocked(duty)
	if err != nil {
		return nil, fmt.Errorf("start agreement on %s: %w", duty, err)
	}
	if i.started {
		return i, nil
	}
	i.started = true
	c.foreign--
	c.running.Add(1)
	c.o.Spawn("agree "+duty.String(), func(ctx context.Context) error {
		defer c.running.Done()
		i.run(ctx)
		return nil
	})
	return i, nil
}

// instanceLocked finds or makes the instance of a duty.
func (c *Consensus) instanceLocked(duty cluster.Duty) (*instance, error) {
	if c.closed {
		return nil, ErrClosed
	}
	if i := c.instances[duty]; i != nil {
		return i, nil
	}
	left := time.Until(c.o.Deadline(duty))
	if left <= 0 {
		return nil, ErrLate
	}
	i := newInstance(c, duty)
	c.instances[duty] = i
	c.foreign++
	i.expiry = time.AfterFunc(left, func() { c.drop(i) })
	return i, nil
}

// drop forgets an instance and gives back what peers used for it.
func (c *Consensus) drop(i *instance) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.instances[i.duty] != i {
		return
	}
	delete(c.instances, i.duty)
	if !i.started {
		c.foreign--
	}
	for peer, n := range i.spent {
		c.bytes[peer] -= n
	}
	i.expiry.Stop()
	close(i.over)
}

// Close ends all instances and waits for their goroutines, also those that tell of decisions.
func (c *Consensus) Close() {
	c.mu.Lock()
	c.closed = true
	var all []*instance
	for _, i := range c.instances {
		all = append(all, i)
	}
	c.mu.Unlock()
	for _, i := range all {
		c.drop(i)
	}
	c.fan.Close()
	c.running.Wait()
}

// Handle takes one message that a peer sent. It checks all of it before anything is kept. The
// sender needn't be the node that signed: what counts is the signature. Errors wrap those above.
func (c *Consensus) Handle(ctx context.Context, from cluster.PeerIndex, frame []byte) error {
	m := new(wirepb.QBFTConsensusMsg)
	if err := wirepb.Read(frame, m); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := c.checkOne(m.GetMsg()); err != nil {
		return err
	}
	duty := m.GetMsg().GetDuty().Noun()
	if cluster.PeerIndex(m.GetMsg().GetPeerIdx()) == c.o.Self {
		c.checkOwn(duty, from, m.GetMsg())
		return fmt.Errorf("%s: %w", duty, ErrOwn)
	}
	if err := c.o.Gate(duty); err != nil {
		return fmt.Errorf("%s: %w: %w", duty, ErrGate, err)
	}
	js := m.GetJustification()
	if len(js) > 2*c.o.Nodes {
		return fmt.Errorf("%s: %w: %d justifications", duty, ErrLimit, len(js))
	}
	if len(m.GetValues()) > 2*(len(js)+1) {
		return fmt.Errorf("%s: %w: %d values", duty, ErrLimit, len(m.GetValues()))
	}
	for _, j := range js {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("check consensus message for %s: %w", duty, err)
		}
		if err := c.checkOne(j); err != nil {
			return fmt.Errorf("justification: %w", err)
		}
		if j.GetDuty().Noun() != duty {
			return fmt.Errorf("%s: %w: a justification of another duty", duty, ErrMalformed)
		}
		if cluster.PeerIndex(j.GetPeerIdx()) == c.o.Self {
			c.checkOwn(duty, from, j)
		}
	}
	values := make(map[cluster.Root]*value, len(m.GetValues()))
	for _, any := range m.GetValues() {
		if v, hash := c.known(duty, any); v != nil {
			values[hash] = v
			continue
		}
		v, hash, err := openValue(any)
		if err != nil {
			return fmt.Errorf("%s: %w: %w", duty, ErrValue, err)
		}
		values[hash] = v
	}
	in := inbound(m)
	needed := map[cluster.Root]bool{}
	for _, x := range append([]msg{in}, in.Justification...) {
		for _, h := range []cluster.Root{x.Value, x.PreparedValue} {
			if h == (cluster.Root{}) {
				continue
			}
			needed[h] = true
			if values[h] == nil {
				return fmt.Errorf("%s: %w: no value hashes to %s", duty, ErrValue, h)
			}
		}
	}
	for h := range values {
		if !needed[h] {
			delete(values, h) // allowed, and of no use
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.instances[duty] != nil
	if !known && c.foreign >= maxForeign {
		return fmt.Errorf("%s: %w", duty, ErrBusy)
	}
	i, err := c.instanceLocked(duty)
	if err != nil {
		return fmt.Errorf("%s: %w", duty, err)
	}
	cost := i.missing(values) + 512*(1+len(js))
	if c.bytes[from]+cost > maxPeerBytes {
		return fmt.Errorf("%s: %w", duty, ErrBusy)
	}
	c.bytes[from] += cost
	i.spent[from] += cost
	c.sniffLocked(duty, m)
	i.enqueue(from, in, values)
	return nil
}

// checkOwn tells of a message with our signature that was not made here.
func (c *Consensus) checkOwn(duty cluster.Duty, from cluster.PeerIndex, m *wirepb.QBFTMsg) {
	hash, err := wirepb.SigningHash(m)
	if err != nil || !time.Now().Before(c.o.Deadline(duty)) {
		return // what was made is forgotten at the deadline
	}
	c.mu.Lock()
	i := c.instances[duty]
	made := c.closed || i != nil && i.made[hash]
	c.mu.Unlock()
	if !made {
		c.o.NotMade(duty, from)
	}
}

// checkOne applies what holds for a message and for each justification alike.
func (c *Consensus) checkOne(m *wirepb.QBFTMsg) error {
	duty := m.GetDuty().Noun()
	switch {
	case m.GetType() < int64(qbft.PrePrepare) || m.GetType() > int64(qbft.Decided):
		return fmt.Errorf("%w: type %d", ErrMalformed, m.GetType())
	case !duty.Type.Valid():
		return fmt.Errorf("%w: %s", ErrMalformed, duty)
	case !agreedOn(duty.Type):
		return fmt.Errorf("%s: %w", duty, ErrDuty)
	case m.GetRound() <= 0:
		return fmt.Errorf("%s: %w: round %d", duty, ErrMalformed, m.GetRound())
	case m.GetPreparedRound() < 0:
		return fmt.Errorf("%s: %w: prepared round %d", duty, ErrMalformed, m.GetPreparedRound())
	case m.GetPeerIdx() < 0 || m.GetPeerIdx() >= int64(c.o.Nodes):
		return fmt.Errorf("%s: %w: peer index %d", duty, ErrMalformed, m.GetPeerIdx())
	case len(m.GetValueHash()) != 32 && len(m.GetValueHash()) != 0, len(m.GetPreparedValueHash()) != 32 && len(m.GetPreparedValueHash()) != 0:
		return fmt.Errorf("%s: %w: a hash that hasn't 32 bytes", duty, ErrMalformed)
	}
	by := cluster.PeerIndex(m.GetPeerIdx())
	err := wirepb.VerifyQBFT(m, func(hash [32]byte, sig []byte) error { return c.o.Verify(by, hash, sig) })
	if err != nil {
		return fmt.Errorf("%s: %w: %w", duty, ErrSignature, err)
	}
	return nil
}

// value is a set that was proposed, in canonical bytes for sending it on.
type value struct {
	any *anypb.Any
	set *wirepb.UnsignedDataSet
}

// known finds a value that the duty's instance has already, so that a block which comes with every
// vote is read once.
func (c *Consensus) known(duty cluster.Duty, any *anypb.Any) (*value, cluster.Root) {
	c.mu.Lock()
	i := c.instances[duty]
	c.mu.Unlock()
	if i == nil {
		return nil, cluster.Root{}
	}
	return i.same(any)
}

func openValue(any *anypb.Any) (*value, cluster.Root, error) {
	set, canonical, hash, err := wirepb.UnwrapUnsigned(any)
	if err != nil {
		return nil, hash, err
	}
	if _, err := set.Noun(); err != nil {
		return nil, hash, err
	}
	return &value{canonical, set}, hash, nil
}
