package simnet_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/clustertest"
	"app.provost/cluster/simnet"

	client "github.com/attestantio/go-eth2-client"
	"github.com/attestantio/go-eth2-client/api"
	apiv1 "github.com/attestantio/go-eth2-client/api/v1"
	reference "github.com/attestantio/go-eth2-client/http"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"
	"github.com/rs/zerolog"
)

const fixtures = "../../../shared/fixtures/charon-clusters"

// The locks of clusters that Charon made are served as they are.
func TestFixtureLocks(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(fixtures, "*", "node0", "cluster-lock.json"))
	if err != nil || len(paths) == 0 {
		t.Skip("clusters made by Charon are missing: put them beside the checkout as shared/fixtures/charon-clusters")
	}
	for _, p := range paths {
		t.Run(filepath.Base(filepath.Dir(filepath.Dir(p))), func(t *testing.T) {
			raw, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			var lock cluster.Lock
			if err := json.Unmarshal(raw, &lock); err != nil {
				t.Fatal(err)
			}
			o, err := simnet.FromLock(&lock)
			if err != nil {
				t.Fatal(err)
			}
			n, err := simnet.New(o)
			if err != nil {
				t.Fatal(err)
			}
			s := n.Status()
			if len(s.Validators) != len(lock.Validators) || s.Network != lock.Definition.ForkVersion {
				t.Errorf("%d validators on %v", len(s.Validators), s.Network)
			}
			for i, v := range s.Validators {
				if v.PubKey != lock.Validators[i].PubKey {
					t.Errorf("validator %d is %v", i, v.PubKey)
				}
			}
		})
	}
}

func TestForkVersionsOfNetworks(t *testing.T) {
	_, pubs := clustertest.Keys(t, 1)
	for network, want := range map[string]string{"hoodi": "0x60000910", "sepolia": "0x90000074", "mainnet": "0x05000000", "gnosis": "0x05000064", "chiado": "0x0500006f"} {
		net, _ := cluster.NetworkByName(network)
		n, err := simnet.New(simnet.Options{Validators: []simnet.Validator{{PubKey: pubs[0]}}, NetworkFork: net.Fork, Fork: simnet.Electra})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		n.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/eth/v1/config/spec", nil))
		var m struct{ Data map[string]any }
		if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		if m.Data["ELECTRA_FORK_VERSION"] != want || m.Data["CAPELLA_FORK_VERSION"] != net.CapellaFork.String() || m.Data["GENESIS_FORK_VERSION"] != net.Fork.String() {
			t.Errorf("%s: electra %v, capella %v, genesis %v", network, m.Data["ELECTRA_FORK_VERSION"], m.Data["CAPELLA_FORK_VERSION"], m.Data["GENESIS_FORK_VERSION"])
		}
	}
}

// A client that shares no code with ours reads the practice chain over a real socket.
func TestReferenceClient(t *testing.T) {
	keys, pubs := clustertest.Keys(t, 4)
	// Slots are long, so that the test's pace doesn't matter; genesis is four slots ago.
	o := simnet.Options{NetworkFork: hoodi, SlotDuration: time.Minute, SlotsPerEpoch: 4, Builder: true, GenesisTime: time.Now().Add(-4*time.Minute - time.Second).Truncate(time.Second)}
	for _, k := range pubs {
		o.Validators = append(o.Validators, simnet.Validator{PubKey: k, FeeRecipient: cluster.ETHAddress{19: 9}})
	}
	n, err := simnet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(n.Handler())
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	service, err := reference.New(ctx, reference.WithAddress(srv.URL), reference.WithLogLevel(zerolog.Disabled), reference.WithTimeout(20*time.Second), reference.WithHTTPClient(&http.Client{Transport: tr}))
	if err != nil {
		t.Fatal(err)
	}
	c := service.(*reference.Service)
	g, err := c.Genesis(ctx, &api.GenesisOpts{})
	if err != nil {
		t.Fatal(err)
	}
	if !g.Data.GenesisTime.Equal(o.GenesisTime) || cluster.Root(g.Data.GenesisValidatorsRoot) != n.ValidatorsRoot() {
		t.Errorf("genesis %+v", g.Data)
	}
	if _, err := c.Spec(ctx, &api.SpecOpts{}); err != nil {
		t.Error(err)
	}
	if f, err := c.ForkSchedule(ctx, &api.ForkScheduleOpts{}); err != nil || len(f.Data) != 7 {
		t.Errorf("fork schedule %v", err)
	}
	if v, err := c.NodeVersion(ctx, &api.NodeVersionOpts{}); err != nil || !strings.HasPrefix(v.Data, "provost-simnet/") {
		t.Errorf("version %v", err)
	}
	if _, err := c.DepositContract(ctx, &api.DepositContractOpts{}); err != nil {
		t.Error(err)
	}
	if _, err := c.Finality(ctx, &api.FinalityOpts{State: "head"}); err != nil {
		t.Error(err)
	}
	if _, err := c.NodePeers(ctx, &api.NodePeersOpts{}); err != nil {
		t.Error(err)
	}
	vals, err := c.Validators(ctx, &api.ValidatorsOpts{State: "head", PubKeys: []phase0.BLSPubKey{phase0.BLSPubKey(pubs[2])}})
	if err != nil || len(vals.Data) != 1 || vals.Data[2] == nil || vals.Data[2].Status != apiv1.ValidatorStateActiveOngoing {
		t.Fatalf("validators %+v, %v", vals, err)
	}
	indices := []phase0.ValidatorIndex{0, 1, 2, 3}
	if d, err := c.SyncCommitteeDuties(ctx, &api.SyncCommitteeDutiesOpts{Epoch: 1, Indices: indices}); err != nil || len(d.Data) != 0 {
		t.Errorf("sync duties %v", err)
	}
	if l, err := c.ValidatorLiveness(ctx, &api.ValidatorLivenessOpts{Epoch: 1, Indices: indices}); err != nil || len(l.Data) != 4 {
		t.Errorf("liveness %v", err)
	}
	if err := c.SubmitProposalPreparations(ctx, []*apiv1.ProposalPreparation{{ValidatorIndex: 0, FeeRecipient: [20]byte{1}}}); err != nil {
		t.Error(err)
	}

	domain := func(kind phase0.DomainType, e phase0.Epoch) cluster.Root {
		d, err := c.Domain(ctx, kind, e)
		if err != nil {
			t.Fatal(err)
		}
		return cluster.Root(d)
	}
	sign := func(i phase0.ValidatorIndex, object, domain cluster.Root) phase0.BLSSignature {
		root := cluster.SigningRoot(object, domain)
		s, err := keys[i].Sign(root[:])
		if err != nil {
			t.Fatal(err)
		}
		return phase0.BLSSignature(s)
	}
	duties, err := c.ProposerDuties(ctx, &api.ProposerDutiesOpts{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	const slot = 4
	who := duties.Data[0].ValidatorIndex
	if duties.Data[0].Slot != slot {
		t.Fatalf("first proposer duty of epoch 1 is of slot %d", duties.Data[0].Slot)
	}
	reveal := sign(who, cluster.Root{1}, domain(phase0.DomainType{2}, 1))
	for _, boost := range []uint64{0, ^uint64(0)} {
		p, err := c.Proposal(ctx, &api.ProposalOpts{Slot: slot, RandaoReveal: reveal, BuilderBoostFactor: &boost})
		if err != nil {
			t.Fatal(err)
		}
		if p.Data.Blinded != (boost != 0) || p.Data.Version != spec.DataVersionFulu {
			t.Errorf("boost %d: %v, blinded %v", boost, p.Data.Version, p.Data.Blinded)
		}
		if fee, err := p.Data.FeeRecipient(); err == nil && who != 0 && fee != [20]byte{19: 9} {
			t.Errorf("fee recipient %v", fee)
		}
	}
	zero := uint64(0)
	p, err := c.Proposal(ctx, &api.ProposalOpts{Slot: slot, RandaoReveal: reveal, BuilderBoostFactor: &zero})
	if err != nil {
		t.Fatal(err)
	}
	root, err := p.Data.Root()
	if err != nil {
		t.Fatal(err)
	}
	signed := &api.VersionedSignedProposal{Version: spec.DataVersionFulu, Fulu: fuluContents(p.Data.Fulu.Block, sign(who, cluster.Root(root), domain(phase0.DomainType{}, 1)))}
	if err := c.SubmitProposal(ctx, &api.SubmitProposalOpts{Proposal: signed}); err != nil {
		t.Fatal(err)
	}
	if b, err := c.SignedBeaconBlock(ctx, &api.SignedBeaconBlockOpts{Block: "head"}); err != nil {
		t.Error(err)
	} else if r, err := b.Data.Root(); err != nil || r != root {
		t.Errorf("the head is %v, %v", r, err)
	}
	if h, err := c.BeaconBlockHeader(ctx, &api.BeaconBlockHeaderOpts{Block: "head"}); err != nil || h.Data.Root != root || !h.Data.Canonical {
		t.Errorf("header %v", err)
	}
	at, err := c.AttesterDuties(ctx, &api.AttesterDutiesOpts{Epoch: 1, Indices: indices})
	if err != nil || len(at.Data) != 4 {
		t.Fatalf("attester duties %v", err)
	}
	for _, d := range at.Data {
		if d.Slot != slot {
			continue
		}
		data, err := c.AttestationData(ctx, &api.AttestationDataOpts{Slot: slot})
		if err != nil {
			t.Fatal(err)
		}
		if data.Data.BeaconBlockRoot != root {
			t.Error("the vote isn't for the new head")
		}
		r, err := data.Data.HashTreeRoot()
		if err != nil {
			t.Fatal(err)
		}
		a := &electra.Attestation{AggregationBits: []byte{3}, CommitteeBits: []byte{1, 0, 0, 0, 0, 0, 0, 0}, Data: data.Data, Signature: sign(d.ValidatorIndex, r, domain(phase0.DomainType{1}, 1))}
		if err := c.SubmitAttestations(ctx, &api.SubmitAttestationsOpts{Attestations: []*spec.VersionedAttestation{{Version: spec.DataVersionFulu, ValidatorIndex: &d.ValidatorIndex, Fulu: a}}}); err != nil {
			t.Errorf("attestation: %v", err)
		}
	}
	var _ client.Service = c
	if s := n.Status(); s.Blocks != 1 || s.SlashableTotal != 0 || len(s.Refusals) != 0 {
		t.Errorf("after good duties: %d blocks, refused %v", s.Blocks, s.Refusals)
	}
}

func request(n *simnet.Node, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	n.Handler().ServeHTTP(w, r)
	return w
}

func small(t testing.TB) *simnet.Node {
	_, pubs := clustertest.Keys(t, 2)
	n, err := simnet.New(simnet.Options{Validators: []simnet.Validator{{PubKey: pubs[0]}, {PubKey: pubs[1]}}, NetworkFork: hoodi, SlotDuration: time.Minute, GenesisTime: time.Now().Add(-3 * time.Minute).Truncate(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestBadRequests(t *testing.T) {
	n := small(t)
	fulu := []string{"Eth-Consensus-Version", "fulu"}
	for _, tt := range []struct {
		method, path, body string
		header             []string
		code               int
	}{
		{"GET", "/eth/v1/nothing", "", nil, 404},
		{"GET", "/eth/v1/beacon/states/old/validators", "", nil, 400},
		{"GET", "/eth/v1/beacon/states/head/validators?id=0x12", "", nil, 400},
		{"GET", "/eth/v1/beacon/states/head/validators/77", "", nil, 404},
		{"GET", "/eth/v1/beacon/headers/0x12", "", nil, 400},
		{"GET", "/eth/v1/beacon/headers/9999", "", nil, 404},
		{"GET", "/eth/v1/validator/attestation_data?slot=-1", "", nil, 400},
		{"GET", "/eth/v1/validator/attestation_data?slot=18446744073709551615", "", nil, 400},
		{"GET", "/eth/v3/validator/blocks/18446744073709551615?randao_reveal=0x" + strings.Repeat("00", 96), "", nil, 400},
		{"GET", "/eth/v3/validator/blocks/3", "", nil, 400},
		{"GET", "/eth/v3/validator/blocks/3?randao_reveal=0x" + strings.Repeat("00", 96) + "&builder_boost_factor=18446744073709551616", "", nil, 400},
		{"POST", "/eth/v1/validator/duties/attester/99", `["0"]`, nil, 400},
		{"POST", "/eth/v1/validator/duties/attester/0", `["x"]`, nil, 400},
		{"POST", "/eth/v1/validator/duties/attester/0", `{}`, nil, 400},
		{"POST", "/eth/v2/beacon/pool/attestations", `[]`, nil, 400},
		{"POST", "/eth/v2/beacon/pool/attestations", `[]`, []string{"Eth-Consensus-Version", "deneb"}, 400},
		{"POST", "/eth/v2/beacon/pool/attestations", `[{}]`, fulu, 400},
		{"POST", "/eth/v2/beacon/pool/attestations", `[]`, append(fulu, "Content-Type", "application/octet-stream"), 415},
		{"POST", "/eth/v1/beacon/pool/attestations", `[]`, nil, 400},
		{"POST", "/eth/v2/beacon/blocks", `{}`, fulu, 400},
		{"POST", "/eth/v2/beacon/blocks", "\x00\x01", append(fulu, "Content-Type", "application/octet-stream"), 400},
		{"POST", "/eth/v2/beacon/blinded_blocks", `{"message":null}`, fulu, 400},
		{"POST", "/eth/v1/beacon/pool/voluntary_exits", `{"message":{"epoch":"0","validator_index":"9"}}`, nil, 400},
		{"POST", "/simnet/v1/faults", `{"kind":"meteor"}`, nil, 400},
		{"POST", "/simnet/v1/faults", `{"kind":"slow"}`, nil, 400},
		{"POST", "/simnet/v1/faults", `{"kind":"syncing"}`, []string{"Content-Type", "text/plain"}, 415}, // what a page in a browser could send
		{"POST", "/simnet/v1/faults", strings.Repeat(" ", 5000) + `{}`, nil, 413},
		{"GET", "/eth/v1/events", "", nil, 400},
		{"GET", "/eth/v1/events?topics=head,head_v2", "", nil, 400},
	} {
		w := request(n, tt.method, tt.path, tt.body, tt.header...)
		if w.Code != tt.code {
			t.Errorf("%s %s %.40q: status %d (%s), want %d", tt.method, tt.path, tt.body, w.Code, w.Body, tt.code)
		}
		var m struct {
			Code    int
			Message string
		}
		if err := json.NewDecoder(io.LimitReader(w.Body, 1<<16)).Decode(&m); err != nil || m.Code != tt.code || m.Message == "" {
			t.Errorf("%s %s: the error's body is %+v, %v", tt.method, tt.path, m, err)
		}
	}
	if w := request(n, "GET", "/eth/v1/node/health", ""); w.Code != 200 {
		t.Errorf("health %d", w.Code)
	}
}

func TestOptions(t *testing.T) {
	_, pubs := clustertest.Keys(t, 1)
	one := []simnet.Validator{{PubKey: pubs[0]}}
	for name, o := range map[string]simnet.Options{
		"no validators": {}, "twice": {Validators: append(one, one...)}, "no key": {Validators: []simnet.Validator{{}}},
		"fork": {Validators: one, Fork: "deneb"}, "slot": {Validators: one, SlotDuration: time.Millisecond}, "part of a millisecond": {Validators: one, SlotDuration: time.Second + 1},
		"epoch": {Validators: one, SlotsPerEpoch: 5000}, "genesis": {Validators: one, GenesisTime: time.Unix(1, 0)}, "part of a second": {Validators: one, GenesisTime: time.Now().Truncate(time.Second).Add(1)},
	} {
		if _, err := simnet.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzRequests(f *testing.F) {
	n := small(f)
	paths := []string{"/eth/v2/beacon/pool/attestations", "/eth/v2/beacon/blocks", "/eth/v2/beacon/blinded_blocks", "/eth/v1/beacon/pool/voluntary_exits", "/eth/v1/validator/duties/attester/0",
		"/eth/v1/validator/prepare_beacon_proposer", "/eth/v1/validator/register_validator", "/eth/v1/beacon/states/head/validators", "/simnet/v1/faults", "/eth/v1/validator/liveness/0"}
	root := "0x" + strings.Repeat("00", 32)
	sig := "0x" + strings.Repeat("11", 96)
	f.Add(uint8(0), false, []byte(`[{"committee_index":"0","attester_index":"1","data":{"slot":"1","index":"0","beacon_block_root":"`+root+`","source":{"epoch":"0","root":"`+root+`"},"target":{"epoch":"0","root":"`+root+`"}},"signature":"`+sig+`"}]`))
	f.Add(uint8(1), true, []byte{12, 0, 0, 0, 100, 0, 0, 0, 100, 0, 0, 0, 1})
	f.Add(uint8(1), false, []byte(`{"signed_block":{"message":{"slot":"1","proposer_index":"0","body":{}},"signature":"`+sig+`"},"kzg_proofs":[],"blobs":[]}`))
	f.Add(uint8(2), false, []byte(`{"message":{"body":null},"signature":"`+sig+`"}`))
	f.Add(uint8(3), false, []byte(`{"message":{"epoch":"0","validator_index":"0"},"signature":"`+sig+`"}`))
	f.Add(uint8(4), false, []byte(`["0",1,"1"]`))
	f.Add(uint8(5), false, []byte(`[{"validator_index":"0","fee_recipient":"0x0000000000000000000000000000000000000001"}]`))
	f.Add(uint8(6), false, []byte(`[{"message":{"fee_recipient":"0x","gas_limit":"1","timestamp":1,"pubkey":"0x`+strings.Repeat("00", 48)+`"}}]`))
	f.Add(uint8(7), false, []byte(`{"ids":["0","0x11"],"statuses":["active"]}`))
	f.Add(uint8(8), false, []byte(`{"kind":"reorg","depth":3}`))
	f.Fuzz(func(t *testing.T, which uint8, ssz bool, body []byte) {
		path := paths[int(which)%len(paths)]
		if path == "/simnet/v1/faults" && (strings.Contains(string(body), "slow") || strings.Contains(string(body), "down")) {
			return // they would be what was asked for
		}
		kind := "application/json"
		if ssz {
			kind = "application/octet-stream"
		}
		w := request(n, "POST", path, string(body), "Content-Type", kind, "Eth-Consensus-Version", "fulu")
		if w.Code >= 500 && w.Code != 503 {
			t.Fatalf("%s: status %d: %s", path, w.Code, w.Body)
		}
		if s := n.Status(); s.SlashableTotal != 0 || s.Blocks != 0 {
			t.Fatal("a message without a signature counted")
		}
	})
}
