package dv

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/signdata"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/peer"
	"app.provost/cluster/internal/wirepb"

	"github.com/attestantio/go-eth2-client/api"
	apiv1 "github.com/attestantio/go-eth2-client/api/v1"
	v1electra "github.com/attestantio/go-eth2-client/api/v1/electra"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/altair"
	"github.com/attestantio/go-eth2-client/spec/deneb"
	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"
	"github.com/holiman/uint256"
)

// world is a chain in memory that all beacon twins look at. It judges every signature by its own
// means, as a chain would, and remembers what would be slashed.
type world struct {
	t     *testing.T
	clock cluster.SlotClock
	chain beacon.Chain
	keys  []cluster.PubKey // by validator index
	pubs  []bls.PublicKey
	every cluster.Slot // one of so many slots has a block of ours

	mu        sync.Mutex
	reorgs    []cluster.Slot                // the first slot of each, in order of time
	own       map[cluster.Slot]ownBlock     // what the cluster proposed
	expected  map[cluster.Duty]map[int]bool // by the canonical chain when the slot began
	included  map[cluster.Duty]map[int]bool
	votes     []map[cluster.Epoch]vote      // by validator and target
	blocks    map[cluster.Slot]cluster.Root // signed proposals
	known     map[cluster.Signature]error   // verified before
	slashable []string
	refused   map[string]int
}

type vote struct {
	source cluster.Epoch
	root   cluster.Root
}

type ownBlock struct {
	root cluster.Root
	at   time.Time
}

func newWorld(t *testing.T, clock cluster.SlotClock, lock *cluster.Lock, every cluster.Slot) *world {
	w := &world{t: t, clock: clock, every: every, own: map[cluster.Slot]ownBlock{}, expected: map[cluster.Duty]map[int]bool{}, included: map[cluster.Duty]map[int]bool{},
		blocks: map[cluster.Slot]cluster.Root{}, known: map[cluster.Signature]error{}, refused: map[string]int{}}
	fork := lock.Definition.ForkVersion
	electraFork := cluster.ForkVersion{6, 0, 9, 0x10}
	offsets := beacon.Offsets{Attestation: 3333, Aggregate: 6667, SyncMessage: 3333, Contribution: 6667}
	w.chain = beacon.Chain{Genesis: beacon.Genesis{Time: clock.Genesis, ValidatorsRoot: cluster.Root{0xaa}, Fork: fork}, Clock: clock, Before: offsets, Gloas: offsets,
		Forks: []beacon.Fork{{Epoch: 0, Previous: fork, Current: electraFork, Name: "electra"}}, Capella: cluster.ForkVersion{4, 0, 9, 0x10}}
	for _, v := range lock.Validators {
		pub, err := bls.ParsePubKey(v.PubKey)
		if err != nil {
			t.Fatal(err)
		}
		w.keys, w.pubs, w.votes = append(w.keys, v.PubKey), append(w.pubs, pub), append(w.votes, map[cluster.Epoch]vote{})
	}
	return w
}

func hashOf(parts ...any) (r cluster.Root) { return sha256.Sum256(fmt.Append(nil, parts...)) }

// rootLocked is the root of the block of a slot; false when there is none (yet).
func (w *world) rootLocked(s cluster.Slot, at time.Time) (cluster.Root, bool) {
	if _, ours := w.proposerLocked(s); ours {
		b, made := w.own[s]
		return b.root, made && !b.at.After(at)
	}
	salt := 0
	for _, from := range w.reorgs {
		if from <= s {
			salt++
		}
	}
	return hashOf("block", s, salt), true
}

// headLocked is the newest block up to a slot that has arrived by then.
func (w *world) headLocked(s cluster.Slot, at time.Time) (cluster.Slot, cluster.Root) {
	for ; s > 0; s-- {
		if w.clock.Start(s).Add(arrival).After(at) {
			continue
		}
		if r, ok := w.rootLocked(s, at); ok {
			return s, r
		}
	}
	return 0, hashOf("genesis")
}

// arrival is when the block of a slot spreads.
const arrival = 1500 * time.Millisecond

// dependentLocked is the root that the attesters of an epoch depend on.
func (w *world) dependentLocked(e cluster.Epoch, at time.Time) cluster.Root {
	if e < 2 {
		return hashOf("genesis")
	}
	_, r := w.headLocked(w.clock.First(e-1)-1, at)
	return r
}

func seeded(n uint64, parts ...any) uint64 {
	h := hashOf(parts...)
	return binary.BigEndian.Uint64(h[:]) % n
}

func (w *world) attestersLocked(e cluster.Epoch, at time.Time) map[int]cluster.Slot {
	out := map[int]cluster.Slot{}
	for i := range w.keys {
		out[i] = w.clock.First(e) + cluster.Slot(seeded(w.clock.SlotsPerEpoch, "attester", w.dependentLocked(e, at), i/2)) // two of a slot
	}
	return out
}

// proposerLocked doesn't depend on the chain, so that a reorg doesn't move what nobody can see move.
func (w *world) proposerLocked(s cluster.Slot) (int, bool) {
	if s == 0 || seeded(uint64(w.every), "ours", s) != 0 {
		return 0, false
	}
	return int(seeded(uint64(len(w.keys)), "proposer", s)), true
}

// begin notes what a slot's duties are.
func (w *world) begin(s cluster.Slot) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	note := func(t cluster.DutyType, i int) {
		d := cluster.Duty{Slot: s, Type: t}
		if w.expected[d] == nil {
			w.expected[d] = map[int]bool{}
		}
		w.expected[d][i] = true
	}
	for i, at := range w.attestersLocked(w.clock.Epoch(s), now) {
		if at == s {
			note(cluster.DutyAttester, i)
		}
	}
	if i, ours := w.proposerLocked(s); ours {
		note(cluster.DutyProposer, i)
	}
}

// reorg throws out the blocks from a slot on.
func (w *world) reorg(from cluster.Slot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reorgs = append(w.reorgs, from)
	for s := range w.own {
		if s >= from {
			delete(w.own, s) // its inclusion stays counted: it was made in time
		}
	}
}

func (w *world) verifyLocked(i int, root cluster.Root, sig cluster.Signature) error {
	if err, ok := w.known[sig]; ok {
		return err
	}
	err := w.pubs[i].Verify(root[:], sig)
	if len(w.known) > 1000 {
		clear(w.known)
	}
	w.known[sig] = err
	return err
}

func (w *world) noteLocked(d cluster.Duty, i int) {
	if w.included[d] == nil {
		w.included[d] = map[int]bool{}
	}
	w.included[d][i] = true
}

// attest takes an attestation as a chain would: signed, and for the validator's place.
func (w *world) attest(a *spec.VersionedAttestation) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.ValidatorIndex == nil || int(*a.ValidatorIndex) >= len(w.keys) || a.Electra == nil {
		return errors.New("nobody's attestation")
	}
	i, data := int(*a.ValidatorIndex), a.Electra.Data
	object, err := data.HashTreeRoot()
	if err != nil {
		return err
	}
	root := cluster.SigningRoot(object, w.chain.Domain(cluster.DomainType{1}, cluster.Epoch(data.Target.Epoch)))
	if err := w.verifyLocked(i, root, cluster.Signature(a.Electra.Signature)); err != nil {
		return err
	}
	source, target := cluster.Epoch(data.Source.Epoch), cluster.Epoch(data.Target.Epoch)
	if old, repeated := w.votes[i][target]; repeated && old.root == root {
		return w.placeLocked(i, data) // every node sends it
	}
	for t, v := range w.votes[i] {
		if t == target && v.root != root || source < v.source && t < target || v.source < source && target < t {
			w.slashable = append(w.slashable, fmt.Sprintf("validator %d: %d to %d %s after %d to %d %s", i, source, target, root, v.source, t, v.root))
		}
	}
	w.votes[i][target] = vote{source, root}
	return w.placeLocked(i, data)
}

// placeLocked includes a good vote if it is in time and the validator's.
func (w *world) placeLocked(i int, data *phase0.AttestationData) error {
	d := cluster.Duty{Slot: cluster.Slot(data.Slot), Type: cluster.DutyAttester}
	if w.clock.Start(d.Slot).After(time.Now()) || time.Since(w.clock.Start(d.Slot)) > w.clock.SlotDuration*time.Duration(w.clock.SlotsPerEpoch) {
		return errors.New("not in its window")
	}
	if !w.expected[d][i] {
		w.refused["not its slot"]++
		return errors.New("not the validator's slot")
	}
	w.noteLocked(d, i)
	return nil
}

func (w *world) propose(p *api.VersionedSignedProposal) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := p.Electra.SignedBlock
	i := int(b.Message.ProposerIndex)
	if i >= len(w.keys) {
		return errors.New("nobody's block")
	}
	object, err := b.Message.HashTreeRoot()
	if err != nil {
		return err
	}
	s := cluster.Slot(b.Message.Slot)
	root := cluster.SigningRoot(object, w.chain.Domain(cluster.DomainType{0}, w.clock.Epoch(s)))
	if err := w.verifyLocked(i, root, cluster.Signature(b.Signature)); err != nil {
		return err
	}
	if old, ok := w.blocks[s]; ok && old != root {
		w.slashable = append(w.slashable, fmt.Sprintf("two blocks of slot %d", s))
	}
	w.blocks[s] = root
	if want, ours := w.proposerLocked(s); !ours || want != i {
		return errors.New("not the validator's slot")
	}
	reveal := b.Message.Body.RANDAOReveal
	epoch := binary.LittleEndian.AppendUint64(nil, uint64(w.clock.Epoch(s)))
	var leaf cluster.Root
	copy(leaf[:], epoch)
	if err := w.verifyLocked(i, cluster.SigningRoot(leaf, w.chain.Domain(cluster.DomainType{2}, w.clock.Epoch(s))), cluster.Signature(reveal)); err != nil {
		return fmt.Errorf("RANDAO reveal: %w", err)
	}
	if time.Since(w.clock.Start(s)) > 4*time.Second {
		w.refused["late block"]++
		return errors.New("the block came too late")
	}
	if _, there := w.own[s]; !there {
		w.own[s] = ownBlock{object, time.Now()}
	}
	w.noteLocked(cluster.Duty{Slot: s, Type: cluster.DutyProposer}, i)
	return nil
}

// eyes are how one node's beacon node sees the world. Its fields change only under mu.
type eyes struct {
	w       *world
	name    string
	mu      sync.Mutex
	lag     time.Duration // blocks come later
	down    bool
	syncing bool
	stuck   *cluster.Slot // no block after this one is seen
	lies    uint64        // counts up: every answer differs
	liar    bool
	onEvent func(beacon.Event)
}

func (e *eyes) set(fn func(e *eyes)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fn(e)
}

func (e *eyes) fail(op string, kind beacon.Kind) error {
	return &beacon.Error{Op: op, Endpoint: e.name, Kind: kind}
}

// look returns the moment up to which the node has seen the chain.
func (e *eyes) look(op string) (seen time.Time, limit cluster.Slot, lie uint64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down {
		return seen, 0, 0, e.fail(op, beacon.KindUnreachable)
	}
	if e.syncing {
		return seen, 0, 0, e.fail(op, beacon.KindSyncing)
	}
	limit = ^cluster.Slot(0)
	if e.stuck != nil {
		limit = *e.stuck
	}
	if e.liar {
		e.lies++
		lie = e.lies
	}
	return time.Now().Add(-e.lag), limit, lie, nil
}

func (e *eyes) Chain(context.Context) (beacon.Chain, error) { return e.w.chain, nil }

func (e *eyes) Validators(_ context.Context, keys []cluster.PubKey) (map[cluster.PubKey]beacon.Validator, error) {
	if _, _, _, err := e.look("validators"); err != nil {
		return nil, err
	}
	out := map[cluster.PubKey]beacon.Validator{}
	zero := cluster.Epoch(0)
	for i, k := range e.w.keys {
		out[k] = beacon.Validator{PubKey: k, Index: phase0.ValidatorIndex(i), Status: "active_ongoing", Balance: 32 * cluster.Ether, Activation: &zero}
	}
	return out, nil
}

func (e *eyes) AttesterDuties(_ context.Context, epoch cluster.Epoch, indices []phase0.ValidatorIndex) (beacon.AttesterDuties, error) {
	seen, _, _, err := e.look("attester duties")
	if err != nil {
		return beacon.AttesterDuties{}, err
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	out := beacon.AttesterDuties{DependentRoot: e.w.dependentLocked(epoch, seen)}
	for i, at := range e.w.attestersLocked(epoch, seen) {
		if slices.Contains(indices, phase0.ValidatorIndex(i)) {
			out.Duties = append(out.Duties, &apiv1.AttesterDuty{PubKey: phase0.BLSPubKey(e.w.keys[i]), Slot: phase0.Slot(at), ValidatorIndex: phase0.ValidatorIndex(i),
				CommitteeIndex: phase0.CommitteeIndex(i % 4), CommitteeLength: 64, CommitteesAtSlot: 4, ValidatorCommitteeIndex: uint64(i)})
		}
	}
	return out, nil
}

func (e *eyes) ProposerDuties(_ context.Context, epoch cluster.Epoch) (beacon.ProposerDuties, error) {
	seen, _, _, err := e.look("proposer duties")
	if err != nil {
		return beacon.ProposerDuties{}, err
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if now, _ := e.w.clock.At(time.Now()); epoch > e.w.clock.Epoch(now) {
		return beacon.ProposerDuties{}, e.fail("proposer duties", beacon.KindRefused)
	}
	out := beacon.ProposerDuties{DependentRoot: e.w.dependentLocked(epoch+1, seen)}
	for s := e.w.clock.First(epoch); s < e.w.clock.First(epoch+1); s++ {
		if i, ours := e.w.proposerLocked(s); ours {
			out.Duties = append(out.Duties, &apiv1.ProposerDuty{PubKey: phase0.BLSPubKey(e.w.keys[i]), ValidatorIndex: phase0.ValidatorIndex(i), Slot: phase0.Slot(s)})
		}
	}
	return out, nil
}

func (e *eyes) PrepareProposers(context.Context, map[phase0.ValidatorIndex]cluster.ETHAddress) error {
	_, _, _, err := e.look("prepare proposers")
	return err
}

func (e *eyes) AttestationData(_ context.Context, slot cluster.Slot, _ uint64) (*phase0.AttestationData, error) {
	seen, limit, lie, err := e.look("attestation data")
	if err != nil {
		return nil, err
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	epoch := e.w.clock.Epoch(slot)
	_, head := e.w.headLocked(min(slot, limit), seen)
	_, target := e.w.headLocked(min(e.w.clock.First(epoch), limit), seen)
	justified := epoch
	if limit < slot {
		justified = min(justified, e.w.clock.Epoch(limit))
	}
	if justified > 0 {
		justified--
	}
	_, source := e.w.headLocked(e.w.clock.First(justified), seen)
	if lie > 0 {
		head = hashOf("lie", lie)
		switch lie % 4 {
		case 0:
			target = hashOf("another lie", lie)
		case 1:
			justified, source = justified-min(justified, cluster.Epoch(lie%3)), hashOf("old lie", lie)
		case 2:
			source = hashOf("source lie", lie)
		}
	}
	return &phase0.AttestationData{Slot: phase0.Slot(slot), BeaconBlockRoot: phase0.Root(head),
		Source: &phase0.Checkpoint{Epoch: phase0.Epoch(justified), Root: phase0.Root(source)}, Target: &phase0.Checkpoint{Epoch: phase0.Epoch(epoch), Root: phase0.Root(target)}}, nil
}

func (e *eyes) Proposal(_ context.Context, r beacon.ProposalRequest) (*api.VersionedProposal, error) {
	seen, limit, lie, err := e.look("block")
	if err != nil {
		return nil, err
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	i, ours := e.w.proposerLocked(r.Slot)
	if !ours {
		return nil, e.fail("block", beacon.KindRefused)
	}
	_, parent := e.w.headLocked(min(r.Slot-1, limit), seen)
	block := &electra.BeaconBlock{Slot: phase0.Slot(r.Slot), ProposerIndex: phase0.ValidatorIndex(i), ParentRoot: phase0.Root(parent), StateRoot: phase0.Root(hashOf(e.name, lie)),
		Body: &electra.BeaconBlockBody{RANDAOReveal: phase0.BLSSignature(r.RandaoReveal), ETH1Data: &phase0.ETH1Data{BlockHash: make([]byte, 32)}, Graffiti: r.Graffiti,
			SyncAggregate: &altair.SyncAggregate{SyncCommitteeBits: make([]byte, 64)}, ExecutionPayload: &deneb.ExecutionPayload{BaseFeePerGas: uint256.NewInt(7)},
			ExecutionRequests: &electra.ExecutionRequests{}}}
	return &api.VersionedProposal{Version: spec.DataVersionElectra, Electra: &v1electra.BlockContents{Block: block}}, nil
}

func (e *eyes) SubmitAttestations(_ context.Context, list []*spec.VersionedAttestation) error {
	if _, _, _, err := e.look("submit attestations"); err != nil {
		return err
	}
	var failures []beacon.ItemError
	for i, a := range list {
		if err := e.w.attest(a); err != nil {
			failures = append(failures, beacon.ItemError{Index: i, Message: err.Error()})
		}
	}
	if len(failures) > 0 {
		return &beacon.Error{Op: "submit attestations", Endpoint: e.name, Kind: beacon.KindRefused, Status: 400, Failures: failures}
	}
	return nil
}

func (e *eyes) SubmitProposal(_ context.Context, p *api.VersionedSignedProposal) error {
	if _, _, _, err := e.look("submit block"); err != nil {
		return err
	}
	if err := e.w.propose(p); err != nil {
		return &beacon.Error{Op: "submit block: " + err.Error(), Endpoint: e.name, Kind: beacon.KindRefused, Status: 400}
	}
	return nil
}

// BlockRoot knows the blocks of the last two epochs.
func (e *eyes) BlockRoot(_ context.Context, id string) (cluster.Root, error) {
	seen, limit, _, err := e.look("block root")
	if err != nil {
		return cluster.Root{}, err
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	now, _ := e.w.clock.At(time.Now())
	back := cluster.Slot(2 * e.w.clock.SlotsPerEpoch)
	for s := now - min(now, back); s <= min(now, limit); s++ {
		if _, r := e.w.headLocked(s, seen); r.String() == id {
			return r, nil
		}
	}
	return cluster.Root{}, e.fail("block root", beacon.KindNotFound)
}

func (e *eyes) Endpoints() []beacon.Endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := beacon.Endpoint{Name: e.name, Status: beacon.StatusUp}
	switch {
	case e.down:
		out.Status = beacon.StatusDown
	case e.syncing:
		out.Status = beacon.StatusSyncing
	}
	return []beacon.Endpoint{out}
}

// tell sends the head event of a slot's block.
func (e *eyes) tell(s cluster.Slot) {
	e.mu.Lock()
	deaf := e.down || e.syncing || e.stuck != nil || e.onEvent == nil
	fn, lag := e.onEvent, e.lag
	e.mu.Unlock()
	if deaf {
		return
	}
	e.w.mu.Lock()
	at := time.Now().Add(-lag)
	root, ok := e.w.rootLocked(s, at)
	epoch := e.w.clock.Epoch(s)
	previous, current := e.w.dependentLocked(epoch, at), e.w.dependentLocked(epoch+1, at)
	e.w.mu.Unlock()
	if ok {
		fn(beacon.Event{Kind: beacon.EventHead, Slot: s, Block: root, PreviousDependent: previous, CurrentDependent: current})
	}
}

// mesh is a network in memory.
type mesh struct {
	mu    sync.Mutex
	ports map[cluster.PeerIndex][]*port // several when a node runs twice
	cut   func(from, to cluster.PeerIndex) bool
	delay func(from, to cluster.PeerIndex) time.Duration
	tap   func(from cluster.PeerIndex, id string, msg []byte)
	wg    sync.WaitGroup
	bad   map[cluster.PeerIndex]int // messages that handlers refused, by sender
}

func newMesh() *mesh {
	return &mesh{ports: map[cluster.PeerIndex][]*port{}, bad: map[cluster.PeerIndex]int{},
		cut: func(_, _ cluster.PeerIndex) bool { return false }, delay: func(_, _ cluster.PeerIndex) time.Duration { return 10 * time.Millisecond }}
}

type port struct {
	m        *mesh
	self     cluster.PeerIndex
	nodes    int
	ctx      context.Context
	only     map[cluster.PeerIndex]bool // nil: everybody; otherwise who hears this copy
	skew     time.Duration              // of all peers' clocks, as this node sees them
	handlers map[string]peer.Handler
	twist    func(to cluster.PeerIndex, id string, msg []byte) []byte
}

func (m *mesh) join(ctx context.Context, self cluster.PeerIndex, nodes int) *port {
	p := &port{m: m, self: self, nodes: nodes, ctx: ctx, handlers: map[string]peer.Handler{}}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ports[self] = append(m.ports[self], p)
	return p
}

func (m *mesh) leave(p *port) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ports[p.self] = slices.DeleteFunc(m.ports[p.self], func(q *port) bool { return q == p })
}

func (p *port) Handle(id string, _ int, fn peer.Handler) error {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	p.handlers[id] = fn
	return nil
}

func (p *port) Send(ctx context.Context, to cluster.PeerIndex, id string, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cut(p.self, to) || len(m.ports[to]) == 0 || p.only != nil && !p.only[to] {
		return peer.ErrNotConnected
	}
	if p.twist != nil {
		if msg = p.twist(to, id, msg); msg == nil {
			return nil
		}
	}
	if m.tap != nil {
		m.tap(p.self, id, msg)
	}
	for _, q := range m.ports[to] {
		if q.only != nil && !q.only[p.self] {
			continue
		}
		m.wg.Go(func() {
			select {
			case <-time.After(m.delay(p.self, to)):
			case <-q.ctx.Done():
				return
			}
			m.mu.Lock()
			fn := q.handlers[id]
			m.mu.Unlock()
			if fn == nil {
				return
			}
			ctx, cancel := context.WithTimeout(q.ctx, 7*time.Second)
			defer cancel()
			if _, err := fn(ctx, p.self, slices.Clone(msg)); err != nil {
				m.mu.Lock()
				m.bad[p.self]++
				m.mu.Unlock()
			}
		})
	}
	return nil
}

func (p *port) Status() []peer.Status {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	var out []peer.Status
	now := time.Now()
	for i := range p.nodes {
		to := cluster.PeerIndex(i)
		if to == p.self {
			continue
		}
		s := peer.Status{Index: to, Name: fmt.Sprintf("node%d", i)}
		if len(p.m.ports[to]) > 0 && !p.m.cut(p.self, to) {
			skew := p.skew
			s.Route, s.Told, s.ClockOffset = peer.RouteDirect, &now, &skew
		}
		out = append(out, s)
	}
	return out
}

func (p *port) Twins() []peer.Twin { return nil }

// witness reads the partial signatures on the wire: an honest share signs one thing.
type witness struct {
	chain  signdata.Chain
	mu     sync.Mutex
	liars  map[cluster.PeerIndex]bool
	signed map[string]cluster.Root
	clash  []string
	seen   int
}

func (w *witness) tap(from cluster.PeerIndex, id string, msg []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id != wirepb.ProtocolParSigEx || w.liars[from] {
		return
	}
	m := new(wirepb.ParSigExMsg)
	if err := wirepb.Read(msg, m); err != nil {
		w.clash = append(w.clash, err.Error())
		return
	}
	duty := m.GetDuty().Noun()
	set, err := m.GetDataSet().Noun()
	if err != nil {
		w.clash = append(w.clash, err.Error())
		return
	}
	for key, p := range set {
		s, err := signdata.Parse(duty.Type, p.Data)
		if err != nil {
			w.clash = append(w.clash, err.Error())
			continue
		}
		f, err := signdata.FactsOf(s, w.chain)
		if err != nil || f.Kind == "" {
			continue
		}
		name := fmt.Sprint(p.Share, key, f.Kind, f.Target, f.Slot)
		if old, ok := w.signed[name]; ok && old != f.SigningRoot {
			w.clash = append(w.clash, fmt.Sprintf("share %d signed two things for %s", p.Share, duty))
		}
		w.signed[name] = f.SigningRoot
		w.seen++
		if len(w.signed) > 100_000 {
			maps.DeleteFunc(w.signed, func(string, cluster.Root) bool { return true })
		}
	}
}
