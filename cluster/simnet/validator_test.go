package simnet_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/clustertest"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/simnet"

	"github.com/attestantio/go-eth2-client/api"
	apiv1electra "github.com/attestantio/go-eth2-client/api/v1/electra"
	apiv1fulu "github.com/attestantio/go-eth2-client/api/v1/fulu"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var hoodi = cluster.ForkVersion{0x10, 0, 0x09, 0x10}

// rig is a practice chain, our client of it and a validator with all the keys.
type rig struct {
	t      testing.TB
	node   *simnet.Node
	c      *beacon.Client
	ch     beacon.Chain
	keys   []bls.SecretKey
	pubs   []cluster.PubKey
	index  map[cluster.PubKey]phase0.ValidatorIndex
	http   *http.Client
	boost  uint64
	domain cluster.DomainType // of attestations; changed to sign wrongly

	mu     sync.Mutex
	events []beacon.Event
	states []beacon.Endpoint
}

// inBubble runs a test with a practice chain of few slots per epoch in a time bubble. Genesis is a
// second from the start.
func inBubble(t *testing.T, validators int, change func(*simnet.Options), fn func(*testing.T, *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, index: map[cluster.PubKey]phase0.ValidatorIndex{}, domain: cluster.DomainType{1}}
		r.keys, r.pubs = clustertest.Keys(t, validators)
		o := simnet.Options{NetworkFork: hoodi, GenesisTime: time.Now().Add(time.Second).Truncate(time.Second), SlotDuration: 200 * time.Millisecond, SlotsPerEpoch: 4}
		for i, k := range r.pubs {
			o.Validators = append(o.Validators, simnet.Validator{PubKey: k, FeeRecipient: cluster.ETHAddress{19: byte(i + 1)}})
		}
		if change != nil {
			change(&o)
		}
		var err error
		if r.node, err = simnet.New(o); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var mem clustertest.Net
		var wg sync.WaitGroup
		l := mem.Listen("bn:80")
		wg.Go(func() {
			if err := r.node.Serve(ctx, l); err != nil {
				t.Error(err)
			}
		})
		tr := mem.Transport()
		r.http = &http.Client{Transport: tr}
		r.c, err = beacon.New(beacon.Options{
			Endpoints: []string{"http://bn:80"}, Fork: o.NetworkFork, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), PollEvery: 100 * time.Millisecond, Transport: tr,
			Spawn: func(_ string, fn func(context.Context) error) {
				wg.Go(func() {
					if err := fn(ctx); err != nil {
						t.Error(err)
					}
				})
			},
			OnEvent:    func(e beacon.Event) { r.mu.Lock(); r.events = append(r.events, e); r.mu.Unlock() },
			OnEndpoint: func(e beacon.Endpoint) { r.mu.Lock(); r.states = append(r.states, e); r.mu.Unlock() },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			cancel()
			r.c.Close()
			tr.CloseIdleConnections()
			wg.Wait()
		}()
		if r.ch, err = r.c.Chain(ctx); err != nil {
			t.Fatal(err)
		}
		list, err := r.c.Validators(ctx, r.pubs)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range list {
			r.index[k] = v.Index
		}
		if len(r.index) != validators {
			t.Fatalf("the chain knows %d validators, want %d", len(r.index), validators)
		}
		fn(t, r)
	})
}

func (r *rig) sleepTo(s cluster.Slot, share int) {
	at := r.ch.Clock.Start(s).Add(r.ch.Clock.SlotDuration * time.Duration(share) / 100)
	time.Sleep(time.Until(at))
}

func (r *rig) sign(i phase0.ValidatorIndex, kind cluster.DomainType, e cluster.Epoch, object cluster.Root) phase0.BLSSignature {
	domain := r.ch.Domain(kind, e)
	if kind == (cluster.DomainType{4}) {
		domain = r.ch.ExitDomain()
	}
	root := cluster.SigningRoot(object, domain)
	sig, err := r.keys[i].Sign(root[:])
	if err != nil {
		r.t.Fatal(err)
	}
	return phase0.BLSSignature(sig)
}

func (r *rig) all() []phase0.ValidatorIndex {
	var out []phase0.ValidatorIndex
	for _, k := range r.pubs {
		out = append(out, r.index[k])
	}
	return out
}

// votes makes the signed attestations of a slot; change may spoil the data before it is signed.
func (r *rig) votes(s cluster.Slot, change func(*phase0.AttestationData)) []*spec.VersionedAttestation {
	ctx := r.t.Context()
	e := r.ch.Clock.Epoch(s)
	duties, err := r.c.AttesterDuties(ctx, e, r.all())
	if err != nil {
		r.t.Fatal(err)
	}
	var out []*spec.VersionedAttestation
	for _, d := range duties.Duties {
		if cluster.Slot(d.Slot) != s {
			continue
		}
		data, err := r.c.AttestationData(ctx, s, 0)
		if err != nil {
			r.t.Fatal(err)
		}
		if change != nil {
			change(data)
		}
		root, err := data.HashTreeRoot()
		if err != nil {
			r.t.Fatal(err)
		}
		bits := make([]byte, d.CommitteeLength/8+1)
		bits[d.ValidatorCommitteeIndex/8] |= 1 << (d.ValidatorCommitteeIndex % 8)
		bits[d.CommitteeLength/8] |= 1 << (d.CommitteeLength % 8)
		named := make([]byte, 8)
		named[d.CommitteeIndex/8] |= 1 << (d.CommitteeIndex % 8)
		a := &electra.Attestation{AggregationBits: bits, Data: data, CommitteeBits: named, Signature: r.sign(d.ValidatorIndex, r.domain, cluster.Epoch(data.Target.Epoch), root)}
		version, err := r.ch.VersionAt(e)
		if err != nil {
			r.t.Fatal(err)
		}
		v := &spec.VersionedAttestation{Version: version, ValidatorIndex: &d.ValidatorIndex}
		if version == spec.DataVersionElectra {
			v.Electra = a
		} else {
			v.Fulu = a
		}
		out = append(out, v)
	}
	return out
}

func (r *rig) attest(s cluster.Slot) error {
	return r.c.SubmitAttestations(r.t.Context(), r.votes(s, nil))
}

// block makes and signs the block of a slot.
func (r *rig) block(s cluster.Slot, graffiti string) (*api.VersionedSignedProposal, error) {
	ctx := r.t.Context()
	e := r.ch.Clock.Epoch(s)
	duties, err := r.c.ProposerDuties(ctx, e)
	if err != nil {
		return nil, err
	}
	at := -1
	for i, d := range duties.Duties {
		if cluster.Slot(d.Slot) == s {
			at = i
		}
	}
	if at < 0 {
		return nil, fmt.Errorf("nobody proposes in slot %d", s)
	}
	who := duties.Duties[at].ValidatorIndex
	var epoch cluster.Root
	epoch[0] = byte(e)
	req := beacon.ProposalRequest{Slot: s, RandaoReveal: cluster.Signature(r.sign(who, cluster.DomainType{2}, e, epoch)), BuilderBoost: r.boost}
	copy(req.Graffiti[:], graffiti)
	p, err := r.c.Proposal(ctx, req)
	if err != nil {
		return nil, err
	}
	root, err := p.Root()
	if err != nil {
		return nil, err
	}
	sig := r.sign(who, cluster.DomainType{0}, e, cluster.Root(root))
	out := &api.VersionedSignedProposal{Version: p.Version, Blinded: p.Blinded}
	switch {
	case p.Version == spec.DataVersionElectra && p.Blinded:
		out.ElectraBlinded = &apiv1electra.SignedBlindedBeaconBlock{Message: p.ElectraBlinded, Signature: sig}
	case p.Version == spec.DataVersionElectra:
		out.Electra = &apiv1electra.SignedBlockContents{SignedBlock: &electra.SignedBeaconBlock{Message: p.Electra.Block, Signature: sig}}
	case p.Blinded:
		out.FuluBlinded = &apiv1electra.SignedBlindedBeaconBlock{Message: p.FuluBlinded, Signature: sig}
	default:
		out.Fulu = &apiv1fulu.SignedBlockContents{SignedBlock: &electra.SignedBeaconBlock{Message: p.Fulu.Block, Signature: sig}}
	}
	return out, nil
}

func (r *rig) propose(s cluster.Slot) error {
	b, err := r.block(s, "test")
	if err != nil {
		return err
	}
	return r.c.SubmitProposal(r.t.Context(), b)
}

// run does all duties from one slot up to before another one.
func (r *rig) run(from, to cluster.Slot) {
	r.t.Helper()
	for s := from; s < to; s++ {
		r.sleepTo(s, 0)
		if s > 0 {
			if err := r.propose(s); err != nil {
				r.t.Fatalf("slot %d: %v", s, err)
			}
		}
		r.sleepTo(s, 34)
		if err := r.attest(s); err != nil {
			r.t.Fatalf("slot %d: %v", s, err)
		}
	}
}

// ask sends a request of the practice chain's own.
func (r *rig) ask(f simnet.Fault) {
	r.t.Helper()
	raw, err := json.Marshal(f)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.http.Post("http://bn:80/simnet/v1/faults", "application/json", bytes.NewReader(raw))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("fault %+v: %s", f, body)
	}
}

// status reads the account over HTTP.
func (r *rig) status() simnet.Status {
	r.t.Helper()
	resp, err := r.http.Get("http://bn:80/simnet/v1/status")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var s simnet.Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) saw(kind beacon.EventKind) []beacon.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.events), func(e beacon.Event) bool { return e.Kind != kind })
}

func fuluContents(block *electra.BeaconBlock, sig phase0.BLSSignature) *apiv1fulu.SignedBlockContents {
	return &apiv1fulu.SignedBlockContents{SignedBlock: &electra.SignedBeaconBlock{Message: block, Signature: sig}}
}
