// Package fanout hands one message to every other node of a cluster without waiting for any.
//
// It promises that Send never blocks and that a peer which is slow or gone costs the others nothing:
// each has a fixed number of messages on the way, and while it is full, newer ones aren't sent to it.
// Messages may arrive in another order. There is no retry: the protocols above bear loss. Close ends
// what is on the way and waits for it. All methods may be called from any goroutine.
package fanout

import (
	"context"
	"errors"
	"sync"
	"time"

	"app.provost/cluster"
)

// ErrBusy means that a peer had too many messages on the way already.
var ErrBusy = errors.New("the peer takes messages too slowly: this one wasn't sent")

const (
	inFlight = 32              // messages on the way to one peer
	timeout  = 7 * time.Second // longer than a peer's reader waits
)

// SendFunc hands a message to one peer. It must not change msg, and must return soon after its context ends.
type SendFunc func(ctx context.Context, to cluster.PeerIndex, msg []byte) error

// Fan is the way to all peers.
type Fan struct {
	send   SendFunc
	failed func(to cluster.PeerIndex, err error)
	lanes  map[cluster.PeerIndex]chan struct{}
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex // guards closed, and that nothing is added to wg after it
	closed bool
	wg     sync.WaitGroup
}

// New returns the way from self to the other nodes of a cluster of that many. failed, which may be
// nil, hears of every message that a peer didn't get; it must not block.
func New(self cluster.PeerIndex, nodes int, send SendFunc, failed func(to cluster.PeerIndex, err error)) (*Fan, error) {
	if send == nil || nodes < 1 || self < 0 || int(self) >= nodes {
		return nil, errors.New("make a way to the peers: no send function, or an index outside the cluster")
	}
	if failed == nil {
		failed = func(cluster.PeerIndex, error) {}
	}
	f := &Fan{send: send, failed: failed, lanes: map[cluster.PeerIndex]chan struct{}{}}
	for i := range cluster.PeerIndex(nodes) {
		if i != self {
			f.lanes[i] = make(chan struct{}, inFlight)
		}
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f, nil
}

// Send starts to hand msg to all peers. msg must not change afterwards. After Close it does nothing.
func (f *Fan) Send(msg []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	for to, lane := range f.lanes {
		select {
		case lane <- struct{}{}:
		default:
			f.failed(to, ErrBusy)
			continue
		}
		f.wg.Go(func() {
			defer func() { <-lane }()
			ctx, cancel := context.WithTimeout(f.ctx, timeout)
			defer cancel()
			if err := f.send(ctx, to, msg); err != nil && f.ctx.Err() == nil {
				f.failed(to, err)
			}
		})
	}
}

// Close ends what is on the way and waits until it has ended. It may be called again.
func (f *Fan) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
}
