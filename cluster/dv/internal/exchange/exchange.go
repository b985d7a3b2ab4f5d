// Package exchange hands this node's partial signatures to its peers and takes theirs.
//
// It promises that Broadcast doesn't wait for peers, and that functions given to OnReceived see only
// sets in which every entry was checked: a validator of the cluster, a share of the cluster, bytes
// that are an object of the duty, and a signature that the share's key made. One bad entry and the
// whole message is refused. A peer has at most two messages checked at a time; more of them wait as
// long as their context allows. Who sent a message isn't compared with whose share signed: the
// signature says that, and a node may pass on what another made.
//
// All methods may be called from any goroutine.
package exchange

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"app.provost/cluster"
	"app.provost/cluster/internal/fanout"
	"app.provost/cluster/internal/wirepb"
)

// Errors that Handle wraps. All are the peer's fault but ErrBusy.
var (
	ErrMalformed = errors.New("malformed partial signatures")
	ErrDuty      = errors.New("nodes don't exchange partial signatures of such duties")
	ErrGate      = errors.New("the duty isn't due to be signed")
	ErrUnknown   = errors.New("the validator or the share isn't of this cluster")
	ErrSignature = errors.New("a partial signature isn't valid")
	ErrBusy      = errors.New("the peer has too many messages being checked")
)

// checking is how many messages of one peer are checked at a time.
const checking = 2

// Options are what the exchange needs. All fields but the last are required.
type Options struct {
	Self       cluster.PeerIndex
	Nodes      int
	Validators []cluster.PubKey // the group keys of the lock
	// Gate refuses duties that are too far ahead or past their deadline.
	Gate func(cluster.Duty) error
	// SignatureOf reads the signature within an object; it bounds the object's size.
	SignatureOf func(t cluster.DutyType, data []byte) (cluster.Signature, error)
	// Verify returns nil only when every signature of the set was made by its share's key.
	Verify func(ctx context.Context, duty cluster.Duty, set cluster.ParSignedDataSet) error
	// Send hands a message to one peer under wirepb.ProtocolParSigEx.
	Send fanout.SendFunc
	// NotSent hears of messages that a peer didn't get; it must not block. Optional.
	NotSent func(to cluster.PeerIndex, err error)
}

type receivedFunc = func(ctx context.Context, from cluster.PeerIndex, duty cluster.Duty, set cluster.ParSignedDataSet)

// Exchange is one node's end.
type Exchange struct {
	o     Options
	known map[cluster.PubKey]bool
	lanes []chan struct{} // by sender
	fan   *fanout.Fan

	mu       sync.Mutex // guards received
	received []receivedFunc
}

// New returns an exchange. Close must be called.
func New(o Options) (*Exchange, error) {
	if o.Gate == nil || o.SignatureOf == nil || o.Verify == nil || len(o.Validators) == 0 || len(o.Validators) > cluster.MaxValidators {
		return nil, errors.New("set up the exchange of partial signatures: an option is missing")
	}
	fan, err := fanout.New(o.Self, o.Nodes, o.Send, o.NotSent)
	if err != nil {
		return nil, fmt.Errorf("set up the exchange of partial signatures: %w", err)
	}
	e := &Exchange{o: o, fan: fan, known: make(map[cluster.PubKey]bool, len(o.Validators))}
	for _, k := range o.Validators {
		e.known[k] = true
	}
	for range o.Nodes {
		e.lanes = append(e.lanes, make(chan struct{}, checking))
	}
	return e, nil
}

// OnReceived adds a function that gets what peers signed, in the goroutine of Handle. The set is
// shared by all functions and must not be changed.
func (e *Exchange) OnReceived(fn func(ctx context.Context, from cluster.PeerIndex, duty cluster.Duty, set cluster.ParSignedDataSet)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.received = append(e.received, fn)
}

// Close ends what is on the way to peers and waits for it.
func (e *Exchange) Close() { e.fan.Close() }

// exchanged tells whether partial signatures of a duty travel while a node runs.
func exchanged(t cluster.DutyType) bool {
	return t.Valid() && t != cluster.DutySignature && t != cluster.DutyInfoSync
}

// Broadcast starts to hand this node's own partial signatures to all peers. It refuses to send
// what peers would refuse: another node's share, an unknown validator, an empty set.
func (e *Exchange) Broadcast(ctx context.Context, duty cluster.Duty, set cluster.ParSignedDataSet) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("send partial signatures of %s: %w", duty, err)
	}
	if !exchanged(duty.Type) {
		return fmt.Errorf("send partial signatures of %s: %w", duty, ErrDuty)
	}
	if len(set) == 0 {
		return fmt.Errorf("send partial signatures of %s: %w: there are none", duty, ErrMalformed)
	}
	for k, p := range set {
		if !e.known[k] || p.Share != e.o.Self.Share() {
			return fmt.Errorf("send partial signatures of %s: %w: %s, share %d", duty, ErrUnknown, k, p.Share)
		}
	}
	frame, err := wirepb.Encode(wirepb.NewParSigExMsg(duty, set))
	if err != nil {
		return fmt.Errorf("send partial signatures of %s: %w", duty, err)
	}
	if len(frame) > wirepb.MaxParSigExBytes {
		return fmt.Errorf("send partial signatures of %s: %w: %d bytes", duty, wirepb.ErrTooLarge, len(frame))
	}
	e.fan.Send(frame)
	return nil
}

// Handle takes one message that a peer sent. It returns when all of it was checked and told, or
// refused. Errors wrap those above.
func (e *Exchange) Handle(ctx context.Context, from cluster.PeerIndex, frame []byte) error {
	if from < 0 || int(from) >= len(e.lanes) {
		return fmt.Errorf("%w: sender %d", ErrUnknown, from)
	}
	select {
	case e.lanes[from] <- struct{}{}:
		defer func() { <-e.lanes[from] }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	m := new(wirepb.ParSigExMsg)
	if err := wirepb.Read(frame, m); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	duty := m.GetDuty().Noun()
	if !exchanged(duty.Type) {
		return fmt.Errorf("%s: %w", duty, ErrDuty)
	}
	if err := e.o.Gate(duty); err != nil {
		return fmt.Errorf("%s: %w: %w", duty, ErrGate, err)
	}
	if n := len(m.GetDataSet().GetSet()); n == 0 || n > len(e.known) {
		return fmt.Errorf("%s: %w: %d entries, the cluster has %d validators", duty, ErrMalformed, n, len(e.known))
	}
	set, err := m.GetDataSet().Noun()
	if err != nil {
		return fmt.Errorf("%s: %w: %w", duty, ErrMalformed, err)
	}
	for k, p := range set {
		if !e.known[k] || p.Share < 1 || int(p.Share) > e.o.Nodes {
			return fmt.Errorf("%s: %w: %s, share %d", duty, ErrUnknown, k, p.Share)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("check partial signatures of %s: %w", duty, err)
		}
		// The signature is the one within: the copy beside it is anybody's word.
		if p.Signature, err = e.o.SignatureOf(duty.Type, p.Data); err != nil {
			return fmt.Errorf("%s: %w: %w", duty, ErrMalformed, err)
		}
		set[k] = p
	}
	if err := e.o.Verify(ctx, duty, set); err != nil {
		return fmt.Errorf("%s: %w: %w", duty, ErrSignature, err)
	}
	e.mu.Lock()
	fns := e.received
	e.mu.Unlock()
	for _, fn := range fns {
		fn(ctx, from, duty, set)
	}
	return nil
}
