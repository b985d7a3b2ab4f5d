package dv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/agree"
	"app.provost/cluster/dv/internal/combine"
	"app.provost/cluster/dv/internal/decided"
	"app.provost/cluster/dv/internal/exchange"
	"app.provost/cluster/dv/internal/fetch"
	"app.provost/cluster/dv/internal/nodedir"
	"app.provost/cluster/dv/internal/partial"
	"app.provost/cluster/dv/internal/sched"
	"app.provost/cluster/dv/internal/send"
	"app.provost/cluster/dv/internal/sign"
	"app.provost/cluster/dv/internal/signdata"
	"app.provost/cluster/dv/internal/track"
	"app.provost/cluster/guard"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/wirepb"

	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/phase0"
)

// slashing is what a node asks of slashing protection.
type slashing interface {
	Check(ctx context.Context, b guard.Batch) (guard.Answers, error)
	CheckAndRecord(ctx context.Context, b guard.Batch) (guard.Answers, error)
}

// spawner runs fn in a goroutine that is waited for; an error of fn ends the node.
type spawner func(name string, fn func(ctx context.Context) error)

// core is a running node: the rooms, stitched together. Its fields don't change after newCore,
// except what mu guards.
type core struct {
	ctx   context.Context // of the whole node
	o     Options
	log   *slog.Logger
	dir   *nodedir.Directory
	share cluster.ShareIndex
	bn    beaconAPI
	net   peers
	chain beacon.Chain
	table sched.Table
	codec codec
	spawn spawner

	sched     *sched.Scheduler
	fetcher   *fetch.Fetcher
	consensus *agree.Consensus
	exchange  *exchange.Exchange
	decided   *decided.Store
	signer    *sign.Signer
	partials  *partial.Store
	combiner  *combine.Combiner
	sender    *send.Sender
	tracker   *track.Tracker
	st        stages
	began     time.Time

	mu     sync.Mutex
	alive  map[cluster.Duty]*life
	ring   []DutyView // finished duties, oldest first
	states map[cluster.PubKey]beacon.Validator
	asked  time.Time // when states were asked for
	rounds map[cluster.Duty]agree.Decision
	heads  [8]cluster.Root // that beacon nodes told of, the newest first
	reap   chan struct{}   // a place: a life began
	alien  *alien          // nil: none was met
	told   time.Time       // when peers last said that this node runs twice
}

// alien is the last message with this node's signature that it did not make.
type alien struct {
	duty cluster.Duty
	from cluster.PeerIndex
	at   time.Time
}

// life is a duty from its first sight to its deadline.
type life struct {
	ctx         context.Context
	cancel      context.CancelFunc
	ends        time.Time
	due         time.Time
	assignments map[cluster.PubKey]cluster.Assignment // nil until it is due here
	own         cluster.UnsignedDataSet               // what this node would propose
	fetched     chan struct{}                         // closed when own is there, or won't be
	reached     map[cluster.PeerIndex]bool            // who has our partial signatures
}

// maxRing is how many finished duties are kept to be shown.
const maxRing = 512

func newCore(ctx context.Context, dir *nodedir.Directory, o Options, bn beaconAPI, net peers, g slashing, chain beacon.Chain, spawn spawner) (*core, error) {
	table, err := sched.NewTable(tableSpec(chain))
	if err != nil {
		return nil, &Error{CodeBeaconConfig, err, "look what the beacon node says at /eth/v1/config/spec"}
	}
	c := &core{ctx: ctx, o: o, log: o.Logger, began: time.Now(), dir: dir, share: dir.Self.Share(), bn: bn, net: net, chain: chain, table: table, spawn: spawn,
		codec: codec{signingChain(chain), chain.Clock, dir.Self.Share()},
		alive: map[cluster.Duty]*life{}, states: map[cluster.PubKey]beacon.Validator{}, rounds: map[cluster.Duty]agree.Decision{}, reap: make(chan struct{}, 1)}
	threshold := dir.Lock.Definition.Threshold
	agreed := func(t cluster.DutyType) bool { row, _ := table.Row(t); return row.Agree }
	ends := func(d cluster.Duty) bool { _, ok := table.Deadline(d); return ok }

	c.decided = decided.New()
	if c.partials, err = partial.New(partial.Options{Threshold: threshold, Root: c.codec.messageRoot, Ends: ends}); err != nil {
		return nil, err
	}
	validators := make([]combine.Validator, len(dir.Lock.Validators))
	for i, v := range dir.Lock.Validators {
		validators[i] = combine.Validator{PubKey: v.PubKey, Shares: v.PublicShares}
	}
	if c.combiner, err = combine.New(combine.Options{Validators: validators, Threshold: threshold, Root: c.codec.signingRoot, Insert: c.codec.insert}); err != nil {
		return nil, err
	}
	if c.signer, err = sign.New(sign.Options{Share: c.share, Keys: dir.Shares, ToSign: c.codec.toSign, Doubt: c.doubt,
		Check: protection(g.Check), Record: protection(g.CheckAndRecord), Keep: c.combiner.Keep}); err != nil {
		return nil, err
	}
	if c.sender, err = send.New(send.Options{Attestations: submitAttestations(bn), Proposal: submitProposal(bn)}); err != nil {
		return nil, err
	}
	if c.tracker, err = track.New(track.Options{Nodes: len(dir.NodeKeys), Threshold: threshold, Agree: agreed,
		Inside: func(t cluster.DutyType) bool { return t == cluster.DutyRandao }}); err != nil {
		return nil, err
	}
	boost := beacon.LocalOnly
	if o.Builder {
		boost = beacon.BuilderAlways
	}
	if c.fetcher, err = fetch.New(fetch.Options{Clock: chain.Clock, Due: table.Due,
		OneForAll: func(s cluster.Slot) bool {
			v, err := chain.VersionAt(chain.Clock.Epoch(s))
			return err == nil && v >= spec.DataVersionElectra
		},
		Attestation: c.fetchKnown(fetchAttestation(bn)), Block: fetchBlock(bn, o.Graffiti, boost), Randao: c.randao, FeeRecipient: c.feeRecipient,
		OnFee: func(duty cluster.Duty, key cluster.PubKey, want, got cluster.ETHAddress) {
			c.log.Warn("the beacon node made a block whose fees go elsewhere than the lock says: look at its fee recipient setting", "duty", duty.String(), "validator", key.String(), "want", want.String(), "got", got.String())
		}}); err != nil {
		return nil, err
	}
	if c.sched, err = sched.New(sched.Options{Table: table, Attesters: c.attesters, Proposers: c.proposers, OnDue: c.onDue,
		OnTrouble: func(e cluster.Epoch, err error) {
			if err != nil {
				c.log.Warn("the duties of an epoch could not be had from the beacon node; asking again", "epoch", e, "err", err)
			} else {
				c.log.Info("duties are known again", "epoch", e)
			}
		}, Logger: c.log}); err != nil {
		return nil, err
	}
	if c.consensus, err = agree.New(agree.Options{Self: dir.Self, Nodes: len(dir.NodeKeys), Sign: dir.Key.SignHash,
		Verify: func(p cluster.PeerIndex, hash [32]byte, sig []byte) error {
			if p < 0 || int(p) >= len(dir.NodeKeys) {
				return errors.New("no such peer")
			}
			return enr.VerifyHash(dir.NodeKeys[p], hash, sig)
		},
		Gate: c.gate, RoundsFrom: table.RoundsFrom, Deadline: c.deadline,
		Send: func(ctx context.Context, to cluster.PeerIndex, msg []byte) error {
			return net.Send(ctx, to, wirepb.ProtocolQBFT, msg)
		},
		Vote: c.vote, Spawn: spawn, Log: c.log, NotMade: c.notMade,
		Decided: func(d agree.Decision) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.alive[d.Duty] != nil {
				c.rounds[d.Duty] = d
			}
		},
		Timeout: func(duty cluster.Duty, round int64, leader cluster.PeerIndex) {
			c.observe(track.Event{Duty: duty, Step: track.Agreed, Err: fmt.Errorf("round %d, led by node %d, ended without a decision", round, leader), At: time.Now()})
		}}); err != nil {
		return nil, err
	}
	c.consensus.OnDecided(c.onDecided)
	keys := make([]cluster.PubKey, len(dir.Lock.Validators))
	for i, v := range dir.Lock.Validators {
		keys[i] = v.PubKey
	}
	if c.exchange, err = exchange.New(exchange.Options{Self: dir.Self, Nodes: len(dir.NodeKeys), Validators: keys, Gate: c.gate,
		SignatureOf: signdata.SignatureOf, Verify: func(ctx context.Context, duty cluster.Duty, set cluster.ParSignedDataSet) error {
			return c.st.verify(ctx, duty, set)
		},
		Send: func(ctx context.Context, to cluster.PeerIndex, msg []byte) error {
			return net.Send(ctx, to, wirepb.ProtocolParSigEx, msg)
		}}); err != nil {
		return nil, err
	}
	c.exchange.OnReceived(c.onPartials)
	c.st = stages{
		fetch: func(ctx context.Context, d sched.Due) (cluster.UnsignedDataSet, error) {
			return c.fetcher.Fetch(ctx, d.Duty, d.Assignments, d.Head)
		},
		participate: c.consensus.Participate,
		propose:     c.consensus.Propose,
		settle: func(_ context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) error {
			return c.decided.Settle(duty, set)
		},
		sign:     c.signer.Sign,
		exchange: c.handOut,
		verify:   c.combiner.Verify,
		gather: func(_ context.Context, duty cluster.Duty, set cluster.ParSignedDataSet) (partial.Ready, error) {
			return c.partials.Add(duty, set)
		},
		combine: func(ctx context.Context, duty cluster.Duty, ready partial.Ready) (cluster.SignedDataSet, error) {
			return c.combiner.Combine(ctx, duty, ready)
		},
		complete: func(_ context.Context, duty cluster.Duty, set cluster.SignedDataSet) error {
			return c.decided.Complete(duty, set)
		},
		send: c.sender.Send,
	}.watch(o.OnStep).retry(c.log)
	return c, nil
}

// run runs the node's loops until its context ends.
func (c *core) run() error {
	if err := c.net.Handle(wirepb.ProtocolQBFT, wirepb.MaxQBFTBytes, func(ctx context.Context, from cluster.PeerIndex, msg []byte) ([]byte, error) {
		return nil, c.consensus.Handle(ctx, from, msg)
	}); err != nil {
		return err
	}
	if err := c.net.Handle(wirepb.ProtocolParSigEx, wirepb.MaxParSigExBytes, func(ctx context.Context, from cluster.PeerIndex, msg []byte) ([]byte, error) {
		return nil, c.exchange.Handle(ctx, from, msg)
	}); err != nil {
		return err
	}
	c.spawn("dv.chores", c.chores)
	c.spawn("dv.reaper", c.reaper)
	err := c.sched.Run(c.ctx)
	c.consensus.Close()
	c.exchange.Close()
	return err
}

// notMade hears of messages that carry this node's signature and were not made by this run. An earlier
// run spoke of duties that had begun; whoever speaks of later ones runs now.
func (c *core) notMade(duty cluster.Duty, from cluster.PeerIndex) {
	now := time.Now()
	if c.ctx.Err() != nil || c.table.RoundsFrom(duty).Before(c.began.Add(c.chain.Clock.SlotDuration)) {
		return
	}
	c.mu.Lock()
	tell := c.alien == nil || now.Sub(c.alien.at) > alienStays
	c.alien = &alien{duty, from, now}
	c.mu.Unlock()
	if tell {
		c.log.Error("a message carries this node's signature and was not made here: another copy of this node runs; stop all but one", "duty", duty.String(), "from_node", int(from))
	}
}

// alienStays is how long a message of a twin is news.
const alienStays = 5 * time.Minute

// gate refuses messages about duties that nobody should speak of now, or that this node has no part in.
func (c *core) gate(duty cluster.Duty) error {
	switch duty.Type {
	case cluster.DutyAttester, cluster.DutyProposer, cluster.DutyRandao:
		return c.table.Gate(duty, time.Now())
	default:
		return fmt.Errorf("%s: %w", duty, errNoPart)
	}
}

var errNoPart = errors.New("this node takes no part in duties of this type")

func (c *core) deadline(duty cluster.Duty) time.Time {
	if at, ok := c.table.Deadline(duty); ok {
		return at
	}
	return c.table.Due(duty).Add(c.chain.Clock.SlotDuration) // gate lets no such duty through
}

// life returns the life of a duty, begun if it is new; false when its deadline has passed or the
// node stops.
func (c *core) life(duty cluster.Duty) (*life, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.alive[duty]; l != nil {
		return l, true
	}
	ends := c.deadline(duty)
	if c.ctx.Err() != nil || !time.Now().Before(ends) {
		return nil, false
	}
	l := &life{ends: ends, due: c.table.Due(duty), fetched: make(chan struct{}), reached: map[cluster.PeerIndex]bool{}}
	l.ctx, l.cancel = context.WithDeadlineCause(c.ctx, ends, fmt.Errorf("%s: its deadline has passed", duty))
	c.alive[duty] = l
	select {
	case c.reap <- struct{}{}:
	default:
	}
	return l, true
}

// judgeAfter is how long after its deadline a duty is judged.
const judgeAfter = 100 * time.Millisecond

// reaper judges and forgets duties after their deadline.
func (c *core) reaper(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		var over []cluster.Duty
		next := now.Add(time.Hour)
		c.mu.Lock()
		for duty, l := range c.alive {
			// A little later, so that whatever ended with the duty has said why.
			if at := l.ends.Add(judgeAfter); !at.After(now) {
				over = append(over, duty)
			} else if at.Before(next) {
				next = at
			}
		}
		c.mu.Unlock()
		// By slot, and blocks before the reveals that they need: the tracker asks for these.
		slices.SortFunc(over, func(a, b cluster.Duty) int {
			if a.Slot != b.Slot {
				return int(int64(a.Slot) - int64(b.Slot))
			}
			return int(a.Type - b.Type)
		})
		for _, duty := range over {
			c.end(duty)
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.reap:
		}
	}
}

func (c *core) end(duty cluster.Duty) {
	c.note(duty, track.Received, c.partials.Split(duty), c.share, track.ErrInconsistent)
	c.mu.Lock()
	l := c.alive[duty]
	decision, hasDecision := c.rounds[duty]
	delete(c.alive, duty)
	delete(c.rounds, duty)
	c.mu.Unlock()
	l.cancel()
	report := c.tracker.Judge(duty)
	c.partials.Drop(duty)
	c.combiner.Drop(duty)
	c.decided.Drop(duty)
	c.sender.Drop(duty)
	if !report.Scheduled {
		return
	}
	v := c.dutyView(duty, l, report, true)
	if hasDecision {
		v.decision(decision)
	}
	if v.State == DutyMissed {
		c.log.Warn("a duty was missed", "duty", duty.String(), "reason", v.Reason, "text", v.Text, "detail", v.Detail)
	}
	c.mu.Lock()
	c.ring = append(c.ring, v)
	if len(c.ring) > maxRing {
		c.ring = slices.Delete(c.ring, 0, len(c.ring)-maxRing)
	}
	c.mu.Unlock()
	c.o.OnReport(v)
}

func (c *core) note(duty cluster.Duty, step track.Step, keys []cluster.PubKey, share cluster.ShareIndex, err error) {
	if len(keys) > 0 {
		c.observe(track.Event{Duty: duty, Step: step, Keys: keys, Share: share, Err: err, At: time.Now()})
	}
}

// observe tells the tracker of duties that were not judged yet: it would keep others for ever.
func (c *core) observe(e track.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alive[e.Duty] != nil {
		c.tracker.Observe(e)
	}
}

// onDue begins a duty. It is called from the scheduler's loop.
func (c *core) onDue(d sched.Due) {
	l, ok := c.life(d.Duty)
	if !ok {
		return
	}
	c.mu.Lock()
	l.assignments = d.Assignments
	c.mu.Unlock()
	c.note(d.Duty, track.Scheduled, keysOf(d.Assignments), 0, nil)
	c.spawn("duty "+d.Duty.String(), func(context.Context) error { c.begin(l, d); return nil })
}

func keysOf[V any](m map[cluster.PubKey]V) []cluster.PubKey {
	return slices.Collect(maps.Keys(m))
}

// begin takes a duty to agreement, or straight to signing when there is nothing to agree on.
func (c *core) begin(l *life, d sched.Due) {
	keys := keysOf(d.Assignments)
	if row, _ := c.table.Row(d.Duty.Type); !row.Agree {
		set := make(cluster.UnsignedDataSet, len(keys))
		for _, key := range keys {
			set[key] = nil
		}
		c.signAndHandOut(l, d.Duty, set)
		return
	}
	// A node votes also without a value of its own.
	if err := c.st.participate(l.ctx, d.Duty); err != nil {
		c.log.Debug("cannot take part in agreement", "duty", d.Duty.String(), "err", err)
	}
	set, err := c.st.fetch(l.ctx, d)
	if err != nil {
		close(l.fetched)
		c.note(d.Duty, track.Fetched, keys, 0, fetchProblem(err))
		return
	}
	c.mu.Lock()
	l.own = set
	c.mu.Unlock()
	close(l.fetched)
	c.note(d.Duty, track.Fetched, keys, 0, nil)
	if err := c.st.propose(l.ctx, d.Duty, set); err != nil && !errors.Is(err, agree.ErrLate) {
		c.log.Warn("cannot propose a value", "duty", d.Duty.String(), "err", err)
	}
}

// fetchProblem marks an error of fetching with what the tracker tells apart.
func fetchProblem(err error) error {
	var own *beacon.Error
	var all *beacon.AllFailed
	switch {
	case errors.Is(err, fetch.ErrRandao):
		return fmt.Errorf("%w: %w", track.ErrRandao, err)
	case errors.As(err, &own), errors.As(err, &all), errors.Is(err, fetch.ErrAnswer), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return err
	default:
		return fmt.Errorf("%w: %w", track.ErrOther, err)
	}
}

// onDecided is told what the nodes agreed on, in a goroutine of the duty's own.
func (c *core) onDecided(_ context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) {
	l, ok := c.life(duty)
	if !ok {
		return
	}
	keys := keysOf(set)
	c.note(duty, track.Agreed, keys, 0, nil)
	err := c.st.settle(l.ctx, duty, set)
	c.note(duty, track.Settled, keys, 0, err)
	if err != nil {
		c.log.Error("the nodes agreed on what contradicts an earlier agreement: nothing is signed", "duty", duty.String(), "err", err)
		return
	}
	c.signAndHandOut(l, duty, set)
}

// signAndHandOut signs with the own shares and gives the partial signatures to the peers.
func (c *core) signAndHandOut(l *life, duty cluster.Duty, set cluster.UnsignedDataSet) {
	signed, err := c.st.sign(l.ctx, duty, set)
	c.notSigned(duty, set, signed, err)
	if len(signed) == 0 {
		return
	}
	c.note(duty, track.Signed, keysOf(signed), c.share, nil)
	// The peers wait for it; our own gathering doesn't.
	c.spawn("exchange "+duty.String(), func(context.Context) error {
		err := c.st.exchange(l.ctx, duty, signed)
		c.note(duty, track.Exchanged, keysOf(signed), 0, err)
		return nil
	})
	c.gather(l, duty, signed)
}

// notSigned notes why validators were not signed for.
func (c *core) notSigned(duty cluster.Duty, set cluster.UnsignedDataSet, signed cluster.ParSignedDataSet, err error) {
	if err == nil || c.ctx.Err() != nil {
		return
	}
	named := map[cluster.PubKey]bool{}
	for _, e := range unjoin(err) {
		var r *sign.RefusedError
		var wait *sign.WaitError
		waits := errors.As(e, &wait)
		if errors.As(e, &r) {
			named[r.Validator] = true
			why := r.Err
			if waits {
				why = &track.WaitError{From: wait.From}
			}
			c.note(duty, track.Signed, []cluster.PubKey{r.Validator}, c.share, why)
		}
		if waits {
			c.log.Info("not signed: this node does not know yet what was signed before it came", "duty", duty.String(), "from_epoch", uint64(wait.From))
		} else if errors.Is(e, sign.ErrRefused) {
			c.log.Error("slashing protection refused what the nodes agreed on: this node does not sign it", "duty", duty.String(), "err", e)
		} else {
			c.log.Warn("not signed", "duty", duty.String(), "err", e)
		}
	}
	var rest []cluster.PubKey
	for key := range set {
		if _, ok := signed[key]; !ok && !named[key] {
			rest = append(rest, key)
		}
	}
	c.note(duty, track.Signed, rest, c.share, err)
}

// unjoin takes joined errors apart.
func unjoin(err error) []error {
	if many, ok := err.(interface{ Unwrap() []error }); ok && !errors.Is(err, sign.ErrDoubt) {
		return many.Unwrap()
	}
	return []error{err}
}

// onPartials takes a peer's partial signatures, which the exchange had verified.
func (c *core) onPartials(_ context.Context, _ cluster.PeerIndex, duty cluster.Duty, set cluster.ParSignedDataSet) {
	if l, ok := c.life(duty); ok {
		c.gather(l, duty, set)
	}
}

// gather keeps verified partials, and goes on with the validators whose signature is complete.
func (c *core) gather(l *life, duty cluster.Duty, set cluster.ParSignedDataSet) {
	ready, err := c.st.gather(l.ctx, duty, set)
	byShare := map[cluster.ShareIndex][]cluster.PubKey{}
	for key, p := range set {
		byShare[p.Share] = append(byShare[p.Share], key)
	}
	if err == nil {
		for share, keys := range byShare {
			if share != c.share {
				c.note(duty, track.Received, keys, share, nil)
			}
		}
	} else {
		kept := c.partials.Shares(duty)
		for key, p := range set {
			if p.Share != c.share && slices.Contains(kept[key], p.Share) {
				c.note(duty, track.Received, []cluster.PubKey{key}, p.Share, nil)
			}
		}
		c.log.Warn("partial signatures were not kept", "duty", duty.String(), "err", err)
	}
	if len(ready) > 0 {
		c.spawn("finish "+duty.String(), func(context.Context) error { c.finish(l, duty, ready); return nil })
	}
}

// finish combines and sends.
func (c *core) finish(l *life, duty cluster.Duty, ready partial.Ready) {
	c.note(duty, track.Complete, keysOf(ready), 0, nil)
	signed, err := c.st.combine(l.ctx, duty, ready)
	c.note(duty, track.Combined, keysOf(signed), 0, nil)
	if err != nil {
		c.log.Error("signatures did not combine", "duty", duty.String(), "err", err)
		var missing []cluster.PubKey
		for key := range ready {
			if _, ok := signed[key]; !ok {
				missing = append(missing, key)
			}
		}
		c.note(duty, track.Combined, missing, 0, err)
	}
	if len(signed) == 0 {
		return
	}
	if err := c.st.complete(l.ctx, duty, signed); err != nil {
		c.log.Error("a second signature of the group appeared: it is not sent", "duty", duty.String(), "err", err)
		return
	}
	taken, err := c.st.send(l.ctx, duty, signed)
	c.note(duty, track.Sent, taken, 0, nil)
	if err != nil {
		var missing []cluster.PubKey
		for key := range signed {
			if !slices.Contains(taken, key) {
				missing = append(missing, key)
			}
		}
		c.note(duty, track.Sent, missing, 0, err)
		c.log.Warn("the beacon node did not take a signed duty", "duty", duty.String(), "err", err)
	}
}

// handOut gives the own partial signatures to the peers that don't have them yet.
func (c *core) handOut(ctx context.Context, duty cluster.Duty, set cluster.ParSignedDataSet) error {
	l, ok := c.life(duty)
	if !ok {
		return sched.ErrExpired
	}
	frame, err := wirepb.Encode(wirepb.NewParSigExMsg(duty, set))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	for i := range c.dir.NodeKeys {
		to := cluster.PeerIndex(i)
		c.mu.Lock()
		has := l.reached[to]
		c.mu.Unlock()
		if to == c.dir.Self || has {
			continue
		}
		wg.Go(func() {
			err := c.net.Send(ctx, to, wirepb.ProtocolParSigEx, frame)
			if err == nil {
				c.mu.Lock()
				l.reached[to] = true
				c.mu.Unlock()
				return
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("node %d: %w", to, err))
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return fmt.Errorf("hand out partial signatures of %s: %w: %w", duty, errNotAll, errors.Join(errs...))
	}
	return nil
}

// randao waits for the group's reveal.
func (c *core) randao(ctx context.Context, slot cluster.Slot, key cluster.PubKey) (cluster.Signature, error) {
	d, err := c.decided.Await(ctx, cluster.Duty{Slot: slot, Type: cluster.DutyRandao}, key)
	return d.Signature, err
}

func (c *core) feeRecipient(key cluster.PubKey) (out cluster.ETHAddress) {
	for i, v := range c.dir.Lock.Validators {
		if v.PubKey == key {
			if raw, err := c.dir.Lock.Definition.Validators[i].FeeRecipient.Bytes(); err == nil {
				copy(out[:], raw)
			}
		}
	}
	return out
}

// attesters asks for the cluster's attester duties of an epoch.
func (c *core) attesters(ctx context.Context, e cluster.Epoch) (sched.Duties, error) {
	states, err := c.validators(ctx)
	if err != nil {
		return sched.Duties{}, err
	}
	var indices []phase0.ValidatorIndex
	byIndex := map[phase0.ValidatorIndex]cluster.PubKey{}
	for key, v := range states {
		if v.Active() || v.Activation != nil && *v.Activation <= e && v.Exit == nil {
			indices = append(indices, v.Index)
			byIndex[v.Index] = key
		}
	}
	slices.Sort(indices)
	got, err := c.bn.AttesterDuties(ctx, e, indices)
	if err != nil {
		return sched.Duties{}, err
	}
	out := sched.Duties{DependentRoot: got.DependentRoot}
	for _, d := range got.Duties {
		key, ok := byIndex[d.ValidatorIndex]
		if !ok || cluster.PubKey(d.PubKey) != key {
			return sched.Duties{}, fmt.Errorf("%w: validator %d has another key there", fetch.ErrAnswer, d.ValidatorIndex)
		}
		out.Assignments = append(out.Assignments, cluster.Assignment{PubKey: key, Validator: cluster.ValidatorIndex(d.ValidatorIndex), Slot: cluster.Slot(d.Slot),
			Committee: uint64(d.CommitteeIndex), CommitteeLength: d.CommitteeLength, CommitteesAtSlot: d.CommitteesAtSlot, Position: d.ValidatorCommitteeIndex})
	}
	return out, nil
}

// proposers asks for the cluster's blocks of an epoch. Nodes that don't tell of the next epoch yet
// are asked again when it begins.
func (c *core) proposers(ctx context.Context, e cluster.Epoch) (sched.Duties, error) {
	got, err := c.bn.ProposerDuties(ctx, e)
	if err != nil {
		now, _ := c.chain.Clock.At(time.Now())
		if kind := beacon.KindOf(err); e > c.chain.Clock.Epoch(now) && (kind == beacon.KindRefused || kind == beacon.KindNotFound) {
			return sched.Duties{}, nil
		}
		return sched.Duties{}, err
	}
	out := sched.Duties{DependentRoot: got.DependentRoot}
	for _, d := range got.Duties {
		if _, ours := c.dir.Shares[cluster.PubKey(d.PubKey)]; ours {
			out.Assignments = append(out.Assignments, cluster.Assignment{PubKey: cluster.PubKey(d.PubKey), Validator: cluster.ValidatorIndex(d.ValidatorIndex), Slot: cluster.Slot(d.Slot)})
		}
	}
	return out, nil
}

// validators returns what the chain says of the cluster's validators, at most half an epoch old.
func (c *core) validators(ctx context.Context) (map[cluster.PubKey]beacon.Validator, error) {
	clock := c.chain.Clock
	c.mu.Lock()
	states, asked := c.states, c.asked
	c.mu.Unlock()
	if !asked.IsZero() && time.Since(asked) < clock.SlotDuration*time.Duration(clock.SlotsPerEpoch)/2 {
		return states, nil
	}
	keys := make([]cluster.PubKey, len(c.dir.Lock.Validators))
	for i, v := range c.dir.Lock.Validators {
		keys[i] = v.PubKey
	}
	states, err := c.bn.Validators(ctx, keys)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.states, c.asked = states, time.Now()
	c.mu.Unlock()
	return states, nil
}

// chores are done each epoch, away from the duties: beacon nodes are told where fees go, and the
// validators' states are asked for.
func (c *core) chores(ctx context.Context) error {
	clock := c.chain.Clock
	for {
		wait := clock.SlotDuration / 4 // until it worked
		states, err := c.validators(ctx)
		if err == nil {
			fees := map[phase0.ValidatorIndex]cluster.ETHAddress{}
			for key, v := range states {
				fees[v.Index] = c.feeRecipient(key)
			}
			if len(fees) > 0 {
				err = c.bn.PrepareProposers(ctx, fees)
			}
		}
		if err == nil {
			now := time.Now()
			slot, _ := clock.At(now)
			// In the middle of the epoch's second half, when the next one's duties are asked for.
			next := clock.Start(clock.First(clock.Epoch(slot)+1) - cluster.Slot((clock.SlotsPerEpoch+3)/4)).Add(clock.SlotDuration / 2)
			if wait = next.Sub(now); wait <= 0 {
				wait += clock.SlotDuration * time.Duration(clock.SlotsPerEpoch)
			}
			wait = max(wait, clock.SlotDuration/4)
		} else if ctx.Err() == nil {
			c.log.Warn("the beacon node was not told where fees go; telling it again", "err", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}
