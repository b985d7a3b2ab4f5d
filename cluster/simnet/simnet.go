// Package simnet is a practice chain: one beacon node in memory that serves the standard Beacon API
// over HTTP for the validators of any cluster, so that duties can be run, watched and broken without
// a network, a deposit or a risk.
//
// It knows no secret. It gives duties, makes blocks, and checks every signature against the true
// signing root; what is right gets into the next block, what isn't is refused with the reason. A duty
// is judged when the window in which the chain would have taken it has closed. Votes and blocks that
// would be slashed on a real chain are kept as evidence. Faults that real nodes have can be asked for.
//
// It isn't a beacon node: there are no balances, no shuffling by RANDAO, no sync committee, no blobs
// and no transactions, and state roots are made up. It always calls itself a simnet. A chain lives as
// long as its process: the genesis time is mixed into the genesis validators root, so that a new one
// is another chain for everybody who keeps a record of what was signed.
//
// All methods may be called from any goroutine. One lock guards the chain; no signature is checked
// and nothing is written to a socket while it is held.
package simnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
)

// Version is what the node calls itself.
const Version = "provost-simnet/v1 (practice chain, no real network)"

// Fork names the shape of the chain's objects.
type Fork string

// The forks that are served. They are current from genesis on.
const (
	Electra Fork = "electra"
	Fulu    Fork = "fulu"
)

// Validator is one validator of the practice chain.
type Validator struct {
	PubKey       cluster.PubKey
	FeeRecipient cluster.ETHAddress // until prepare_beacon_proposer says another
	Activation   cluster.Epoch      // pending before it
}

// Options say what chain is made. Validators are required.
type Options struct {
	Validators  []Validator
	NetworkFork cluster.ForkVersion // genesis fork version, as in the lock

	GenesisTime   time.Time     // whole seconds; the next ones that leave two slots of time when zero
	SlotDuration  time.Duration // whole milliseconds, 12 s when 0
	SlotsPerEpoch uint64        // 32 when 0
	Fork          Fork          // Fulu when ""

	// Builder makes the node act as if it had a block builder: requests that prefer one get blinded blocks.
	Builder bool

	Address string       // where Run listens; 127.0.0.1 and a free port when ""
	Logger  *slog.Logger // nil logs nothing
}

// Limits of a practice chain.
const (
	MaxValidators = 65536
	maxBehind     = 1 << 17 // slots between genesis and the start
)

// FromLock returns the options for the validators of a lock, on its network.
func FromLock(lock *cluster.Lock) (Options, error) {
	o := Options{NetworkFork: lock.Definition.ForkVersion}
	for i, v := range lock.Validators {
		out := Validator{PubKey: v.PubKey}
		if i < len(lock.Definition.Validators) {
			raw, err := lock.Definition.Validators[i].FeeRecipient.Bytes()
			if err != nil {
				return Options{}, fmt.Errorf("read fee recipient of validator %d: %w", i, err)
			}
			copy(out.FeeRecipient[:], raw)
		}
		o.Validators = append(o.Validators, out)
	}
	return o, nil
}

// Node is a practice beacon node.
type Node struct {
	o      Options
	clock  cluster.SlotClock
	forks  forks
	keys   []bls.PublicKey             // by index
	index  map[cluster.PubKey]valIndex // never changes
	gvr    cluster.Root                // genesis validators root
	mux    *http.ServeMux
	log    *slog.Logger
	hub    *hub
	verify chan struct{} // bounds signature checks that run at once
	sums   sums
	nudge  chan struct{} // wakes Follow when something is to happen earlier than it thought

	mu    sync.Mutex
	chain chain // guarded by mu
	addr  string
}

// valIndex numbers validators from 0, in the order of the options.
type valIndex uint64

// New checks the options and makes the chain's genesis. Nothing runs yet: Handler answers already and
// follows the clock at each request; Run adds a listener and events.
func New(o Options) (*Node, error) {
	if len(o.Validators) == 0 || len(o.Validators) > MaxValidators {
		return nil, fmt.Errorf("make simnet: want 1 to %d validators, found %d", MaxValidators, len(o.Validators))
	}
	if o.SlotDuration == 0 {
		o.SlotDuration = 12 * time.Second
	}
	if o.SlotsPerEpoch == 0 {
		o.SlotsPerEpoch = 32
	}
	if o.Fork == "" {
		o.Fork = Fulu
	}
	if o.Fork != Electra && o.Fork != Fulu {
		return nil, fmt.Errorf("make simnet: fork %q isn't served: choose electra or fulu", o.Fork)
	}
	if o.SlotDuration < 50*time.Millisecond || o.SlotDuration > 10*time.Minute || o.SlotDuration%time.Millisecond != 0 {
		return nil, fmt.Errorf("make simnet: a slot of %v isn't possible: choose whole milliseconds from 50ms to 10m", o.SlotDuration)
	}
	if o.SlotsPerEpoch > 1024 {
		return nil, fmt.Errorf("make simnet: %d slots per epoch are too many: choose 1 to 1024", o.SlotsPerEpoch)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	now := time.Now()
	if o.GenesisTime.IsZero() {
		o.GenesisTime = now.Add(2*o.SlotDuration + time.Second).Truncate(time.Second)
	}
	if o.GenesisTime.Nanosecond() != 0 || o.GenesisTime.Unix() <= 0 {
		return nil, fmt.Errorf("make simnet: genesis time %v isn't in whole seconds after 1970", o.GenesisTime)
	}
	if now.Sub(o.GenesisTime) > maxBehind*o.SlotDuration {
		return nil, fmt.Errorf("make simnet: genesis time %v is more than %d slots ago: choose one near now", o.GenesisTime, maxBehind)
	}
	o.GenesisTime = o.GenesisTime.UTC()
	o.Validators = append([]Validator(nil), o.Validators...)
	n := &Node{
		o: o, log: o.Logger, forks: forksOf(o.NetworkFork), hub: newHub(),
		clock: cluster.SlotClock{Genesis: o.GenesisTime, SlotDuration: o.SlotDuration, SlotsPerEpoch: o.SlotsPerEpoch},
		index: make(map[cluster.PubKey]valIndex, len(o.Validators)), verify: make(chan struct{}, 4), nudge: make(chan struct{}, 1),
	}
	for i, v := range o.Validators {
		if _, twice := n.index[v.PubKey]; twice {
			return nil, fmt.Errorf("make simnet: validator %v is named twice", v.PubKey)
		}
		key, err := bls.ParsePubKey(v.PubKey)
		if err != nil {
			return nil, fmt.Errorf("make simnet: validator %d: %w", i, err)
		}
		n.index[v.PubKey] = valIndex(i)
		n.keys = append(n.keys, key)
	}
	var err error
	if n.gvr, err = n.validatorsRoot(); err != nil {
		return nil, fmt.Errorf("make simnet: %w", err)
	}
	if err := n.genesis(); err != nil {
		return nil, fmt.Errorf("make simnet: %w", err)
	}
	n.routes()
	return n, nil
}

// ValidatorsRoot is the genesis validators root, which names the chain.
func (n *Node) ValidatorsRoot() cluster.Root { return n.gvr }

// Addr is where Run listens, "" before it does.
func (n *Node) Addr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addr
}

// Run listens at the address of the options and keeps the chain going until ctx ends; it returns nil
// then, and an error when it can't listen or serve.
func (n *Node) Run(ctx context.Context) error {
	addr := n.o.Address
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("start simnet: listen at %s: %w: choose another address", addr, err)
	}
	return n.Serve(ctx, l)
}

// Serve is Run with a listener of the caller's, which it closes.
func (n *Node) Serve(ctx context.Context, l net.Listener) error {
	n.mu.Lock()
	n.addr = l.Addr().String()
	n.mu.Unlock()
	n.log.Info("practice chain is served", "addr", l.Addr().String(), "validators", len(n.o.Validators), "fork", n.o.Fork,
		"genesis", n.o.GenesisTime.Format(time.RFC3339), "slot_ms", n.o.SlotDuration.Milliseconds())
	srv := &http.Server{
		Handler: n.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ticked := make(chan struct{})
	go func() {
		defer close(ticked)
		n.Follow(ctx)
	}()
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Serve(l) }()
	var failed error
	select {
	case <-ctx.Done():
	case failed = <-stopped:
	}
	cancel()
	n.hub.closeAll()
	stop, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer done()
	if err := srv.Shutdown(stop); err != nil {
		srv.Close()
	}
	<-ticked
	if failed != nil && !errors.Is(failed, http.ErrServerClosed) {
		return fmt.Errorf("serve simnet: %w", failed)
	}
	return nil
}

// Follow keeps the chain going by the clock until ctx ends, for callers that serve the Handler
// themselves.
func (n *Node) Follow(ctx context.Context) {
	for {
		n.mu.Lock()
		n.advanceLocked(time.Now())
		next := n.wakeLocked(time.Now())
		n.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-n.nudge:
		case <-time.After(next):
		}
	}
}

// wakeLocked is how long until something happens by itself: a slot begins, or a block that was held
// back arrives.
func (n *Node) wakeLocked(now time.Time) time.Duration {
	at := n.clock.Genesis
	if s, ok := n.clock.At(now); ok {
		at = n.clock.Start(s + 1)
	}
	for _, h := range n.chain.held {
		if h.at.Before(at) {
			at = h.at
		}
	}
	return min(max(at.Sub(now), 0), time.Minute)
}
