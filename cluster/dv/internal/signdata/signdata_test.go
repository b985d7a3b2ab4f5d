package signdata_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/attestantio/go-eth2-client/api"
	apiv1 "github.com/attestantio/go-eth2-client/api/v1"
	v1deneb "github.com/attestantio/go-eth2-client/api/v1/deneb"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/altair"
	"github.com/attestantio/go-eth2-client/spec/phase0"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/signdata"
)

func load(t testing.TB, name string, dst any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, dst); err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type vector struct {
	Duty      string
	DutyType  cluster.DutyType `json:"duty_type"`
	Case      string
	Encoding  string
	Data      string
	Signature string
	Content   json.RawMessage
}

func (v vector) bytes(t testing.TB) []byte {
	if v.Encoding == "json" {
		return []byte(v.Data)
	}
	return unhex(t, v.Data)
}

func vectors(t testing.TB, file string) []vector {
	var all []vector
	load(t, file, &all)
	if len(all) == 0 {
		t.Fatal("no vectors")
	}
	return all
}

var chain = signdata.Chain{
	SlotsPerEpoch: 32, ValidatorsRoot: cluster.Root{1}, Genesis: cluster.ForkVersion{0, 1}, Exit: cluster.ForkVersion{3, 1},
	Forks: []signdata.Fork{
		{Epoch: 0, Version: cluster.ForkVersion{0, 1}, Shape: signdata.Phase0}, {Epoch: 10, Version: cluster.ForkVersion{5, 1}, Shape: signdata.Electra},
		{Epoch: 20, Version: cluster.ForkVersion{6, 1}, Shape: signdata.Fulu}, {Epoch: 30, Version: cluster.ForkVersion{7, 1}},
	},
}

func TestSignedVectors(t *testing.T) {
	for _, v := range vectors(t, "parsigned.json") {
		t.Run(v.Duty+" "+v.Case, func(t *testing.T) {
			b := v.bytes(t)
			s, err := signdata.Parse(v.DutyType, b)
			if v.DutyType == cluster.DutySignature {
				if !errors.Is(err, signdata.ErrDuty) {
					t.Errorf("a raw signature is for key generation only, got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.Encode(); err != nil || !bytes.Equal(got, b) && !bytes.EqualFold(got, b) {
				t.Errorf("written again %x %v, want %x", got, err, b)
			}
			if sig := s.Signature(); hex.EncodeToString(sig[:]) != v.Signature {
				t.Errorf("signature %s, want %s", sig, v.Signature)
			}
			if sig, err := signdata.SignatureOf(v.DutyType, b); err != nil || sig != s.Signature() {
				t.Errorf("SignatureOf %s %v", sig, err)
			}
			if s.DutyType() != v.DutyType {
				t.Errorf("type %s", s.DutyType())
			}
			root, err := s.MessageRoot()
			if err != nil {
				t.Fatal(err)
			}
			other := s.WithSignature(cluster.Signature{9})
			if other.Signature() != (cluster.Signature{9}) || s.Signature() == (cluster.Signature{9}) {
				t.Error("WithSignature must change a copy only")
			}
			if r, _ := other.MessageRoot(); r != root {
				t.Error("the message root covers the signature")
			}
			back := other.WithSignature(s.Signature())
			p, err := signdata.Partial(back, 3)
			if err != nil || !bytes.EqualFold(p.Data, b) || p.Share != 3 || p.Signature != s.Signature() {
				t.Errorf("partial %v %v", p, err)
			}
			one, err1 := signdata.SigningRoot(s, chain)
			moved := chain
			moved.ValidatorsRoot = cluster.Root{2}
			two, err2 := signdata.SigningRoot(s, moved)
			if err1 != nil || err2 != nil || (one == two) != (v.DutyType == cluster.DutyBuilderRegistration) {
				t.Errorf("signing roots on two chains: %s %s %v %v", one, two, err1, err2)
			}
			// Attestations end with a bit list, which may be shorter or longer by a byte.
			openEnd := v.DutyType == cluster.DutyAttester || v.DutyType == cluster.DutyAggregator
			cuts := []int{0, 1, 11, 12, 13, 19, 20, len(b) / 2}
			if !openEnd {
				cuts = append(cuts, len(b)-1)
			}
			for _, cut := range cuts {
				if _, err := signdata.Parse(v.DutyType, b[:cut]); err == nil {
					t.Errorf("%d of %d bytes pass", cut, len(b))
				}
			}
			if _, err := signdata.Parse(v.DutyType, append(bytes.Clone(b), 'x')); err == nil && !openEnd {
				t.Error("a byte more passes")
			}
			if err := signdata.Fits(s, cluster.Duty{Slot: s.Slot(32) + 64, Type: v.DutyType}, chain); !errors.Is(err, signdata.ErrMisfit) && v.DutyType != cluster.DutyBuilderRegistration {
				t.Errorf("fits another slot: %v", err)
			}
			if err := signdata.Fits(s, cluster.Duty{Slot: s.Slot(32), Type: 99}, chain); !errors.Is(err, signdata.ErrMisfit) {
				t.Errorf("fits another duty: %v", err)
			}
		})
	}
}

func TestUnsignedVectors(t *testing.T) {
	for _, v := range vectors(t, "unsigned.json") {
		t.Run(v.Duty+" "+v.Case, func(t *testing.T) {
			b := v.bytes(t)
			again := func(in []byte) ([]byte, error) {
				switch v.DutyType {
				case cluster.DutyAttester:
					data, own, err := signdata.DecodeAttester(in)
					if err != nil {
						return nil, err
					}
					return signdata.EncodeAttester(data, own)
				case cluster.DutyProposer:
					p, err := signdata.DecodeProposal(in)
					if err != nil {
						return nil, err
					}
					return signdata.EncodeProposal(p)
				case cluster.DutyAggregator:
					a, err := signdata.DecodeAggregate(in)
					if err != nil {
						return nil, err
					}
					return signdata.EncodeAggregate(a)
				case cluster.DutySyncContribution:
					cs, err := signdata.DecodeContributions(in)
					if err != nil {
						return nil, err
					}
					return signdata.EncodeContributions(cs)
				}
				t.Fatal("no such duty")
				return nil, nil
			}
			if got, err := again(b); err != nil || !bytes.Equal(got, b) {
				t.Errorf("written again %x %v, want %x", got, err, b)
			}
			for _, cut := range []int{0, 1, 12, 13, 20, len(b) / 2, len(b) - 1} {
				if cut == len(b)-1 && v.DutyType == cluster.DutyAggregator {
					continue // ends with a bit list, which may be shorter by a byte
				}
				if _, err := again(b[:cut]); err == nil {
					t.Errorf("%d of %d bytes pass", cut, len(b))
				}
			}
		})
	}
}

func TestAttesterFields(t *testing.T) {
	for _, v := range vectors(t, "unsigned.json") {
		if v.DutyType != cluster.DutyAttester {
			continue
		}
		var c struct {
			Data phase0.AttestationData `json:"attestation_data"`
			Duty apiv1.AttesterDuty     `json:"attestation_duty"`
		}
		if err := json.Unmarshal(v.Content, &c); err != nil {
			t.Fatalf("%v in %s", err, v.Content)
		}
		data, own, err := signdata.DecodeAttester(v.bytes(t))
		if err != nil {
			t.Fatal(err)
		}
		if data.String() != c.Data.String() {
			t.Errorf("data %s, want %s", data, &c.Data)
		}
		want := signdata.AttesterDuty{PubKey: cluster.PubKey(c.Duty.PubKey), Slot: cluster.Slot(c.Duty.Slot), ValidatorIndex: uint64(c.Duty.ValidatorIndex),
			CommitteeIndex: uint64(c.Duty.CommitteeIndex), CommitteeLength: c.Duty.CommitteeLength, CommitteesAtSlot: c.Duty.CommitteesAtSlot, ValidatorCommittee: c.Duty.ValidatorCommitteeIndex}
		if own != want {
			t.Errorf("duty %+v, want %+v", own, want)
		}
	}
}

func TestSigningRoots(t *testing.T) {
	var all []struct {
		Name  string
		Kind  string              `json:"domain_type"`
		Fork  cluster.ForkVersion `json:"fork_version"`
		Root  cluster.Root        `json:"genesis_validators_root"`
		Want  cluster.Root        `json:"signing_root"`
		Obj   json.RawMessage     `json:"object"`
		Shape string              `json:"object_type"`
	}
	load(t, "signing-roots.json", &all)
	if len(all) != 13 {
		t.Fatalf("%d vectors, want 13", len(all))
	}
	for _, v := range all {
		c := signdata.Chain{SlotsPerEpoch: 32, ValidatorsRoot: v.Root, Genesis: v.Fork, Exit: v.Fork, Forks: []signdata.Fork{{Version: v.Fork, Shape: signdata.Phase0}}}
		var f struct {
			Epoch, Slot, SubcommitteeIndex string
			ValidatorIndex                 string       `json:"validator_index"`
			Sub                            string       `json:"subcommittee_index"`
			Head                           cluster.Root `json:"beacon_block_root"`
		}
		_ = json.Unmarshal(v.Obj, &f)
		num := func(s string) uint64 {
			n, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
			return n
		}
		into := func(dst any) {
			if err := json.Unmarshal(v.Obj, dst); err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
		}
		domain := func(at cluster.Root, o interface{ HashTreeRoot() ([32]byte, error) }) cluster.Root {
			r, err := o.HashTreeRoot()
			if err != nil {
				t.Fatal(err)
			}
			return cluster.SigningRoot(r, at)
		}
		var s signdata.Signed
		var got cluster.Root
		switch v.Name {
		case "ATTESTATION":
			data := new(phase0.AttestationData)
			into(data)
			var err error
			if s, err = signdata.NewAttestation(signdata.Phase0, data, signdata.AttesterDuty{Slot: 32, CommitteeLength: 1}); err != nil {
				t.Fatal(err)
			}
		case "AGGREGATION_SLOT":
			s = signdata.NewSelection(1, cluster.Slot(num(f.Slot)))
		case "AGGREGATE_AND_PROOF":
			m := new(phase0.AggregateAndProof)
			into(m)
			var err error
			if s, err = signdata.NewAggregate(uint64(m.AggregatorIndex), cluster.Signature(m.SelectionProof), &spec.VersionedAttestation{Version: spec.DataVersionPhase0, Phase0: m.Aggregate}); err != nil {
				t.Fatal(err)
			}
		case "RANDAO_REVEAL":
			s = signdata.NewRandao(cluster.Epoch(num(f.Epoch)))
		case "VOLUNTARY_EXIT":
			s = signdata.NewExit(cluster.Epoch(num(f.Epoch)), num(f.ValidatorIndex))
		case "SYNC_COMMITTEE_MESSAGE":
			s = signdata.NewSyncMessage(cluster.Slot(num(f.Slot)), f.Head, 3)
		case "SYNC_COMMITTEE_SELECTION_PROOF":
			s = signdata.NewSyncSelection(2, cluster.Slot(num(f.Slot)), num(f.Sub))
		case "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF":
			// Of the minimal preset, whose bits don't fit the type: its domain is checked, the root taken by hand.
			got = minimalContribution(t, v.Obj, c)
		case "VALIDATOR_REGISTRATION":
			m := new(apiv1.ValidatorRegistration)
			into(m)
			var err error
			if s, err = signdata.RegistrationOf(&apiv1.SignedValidatorRegistration{Message: m}); err != nil {
				t.Fatal(err)
			}
		case "DEPOSIT":
			var m struct {
				PubKey cluster.PubKey `json:"pubkey"`
				Creds  cluster.Root   `json:"withdrawal_credentials"`
				Amount string
			}
			into(&m)
			got = cluster.DepositMessage{PubKey: m.PubKey, WithdrawalCredentials: m.Creds, Amount: cluster.Gwei(num(m.Amount))}.SigningRoot(v.Fork)
		default: // a block's root is its header's
			h := new(phase0.BeaconBlockHeader)
			into(h)
			got = domain(c.Domain(signdata.DomainProposer, cluster.Epoch(h.Slot/32)), h)
		}
		if s != nil {
			var err error
			if got, err = signdata.SigningRoot(s, c); err != nil {
				t.Fatal(err)
			}
		}
		if got != v.Want {
			t.Errorf("%s: %s, want %s", v.Name, got, v.Want)
		}
	}
}

func minimalContribution(t *testing.T, raw json.RawMessage, c signdata.Chain) cluster.Root {
	t.Helper()
	var o struct {
		Aggregator   string            `json:"aggregator_index"`
		Proof        cluster.Signature `json:"selection_proof"`
		Contribution struct {
			Slot string
			Head cluster.Root      `json:"beacon_block_root"`
			Sub  string            `json:"subcommittee_index"`
			Bits cluster.HexBytes  `json:"aggregation_bits"`
			Sig  cluster.Signature `json:"signature"`
		}
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	uintRoot := func(s string) (r cluster.Root) {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint64(r[:], n)
		return r
	}
	sig := func(s cluster.Signature) cluster.Root { // 96 bytes: three leaves of four
		a := cluster.SigningRoot(cluster.Root(s[:32]), cluster.Root(s[32:64])) // hash of two roots
		return cluster.SigningRoot(a, cluster.SigningRoot(cluster.Root(s[64:]), cluster.Root{}))
	}
	pair := cluster.SigningRoot
	k := o.Contribution
	var bits, zero cluster.Root
	copy(bits[:], k.Bits)
	inner := pair(pair(pair(uintRoot(k.Slot), k.Head), pair(uintRoot(k.Sub), bits)), pair(pair(sig(k.Sig), zero), pair(zero, zero)))
	message := pair(pair(uintRoot(o.Aggregator), inner), pair(sig(o.Proof), zero))
	slot, _ := strconv.ParseUint(k.Slot, 10, 64)
	return cluster.SigningRoot(message, c.Domain(signdata.DomainContribution, cluster.Epoch(slot/32)))
}

func attestationData(slot uint64, source, target uint64) *phase0.AttestationData {
	return &phase0.AttestationData{Slot: phase0.Slot(slot), BeaconBlockRoot: phase0.Root{7}, Source: &phase0.Checkpoint{Epoch: phase0.Epoch(source)}, Target: &phase0.Checkpoint{Epoch: phase0.Epoch(target), Root: phase0.Root{8}}}
}

func TestToSignAttestation(t *testing.T) {
	for _, c := range []struct {
		name           string
		slot           uint64
		source, target uint64
		own            signdata.AttesterDuty
		index          phase0.CommitteeIndex
		shape          signdata.Shape
		want           error
	}{
		{name: "phase0", slot: 40, source: 0, target: 1, own: signdata.AttesterDuty{Slot: 40, ValidatorIndex: 5, CommitteeIndex: 2, CommitteeLength: 9, ValidatorCommittee: 3}, index: 2, shape: signdata.Phase0},
		{name: "electra", slot: 330, source: 9, target: 10, own: signdata.AttesterDuty{Slot: 330, ValidatorIndex: 12, CommitteeIndex: 2, CommitteeLength: 9, ValidatorCommittee: 3}, shape: signdata.Electra},
		{name: "fulu", slot: 645, source: 19, target: 20, own: signdata.AttesterDuty{Slot: 645, ValidatorIndex: 1 << 40, CommitteeIndex: 63, CommitteeLength: 2048, ValidatorCommittee: 2047}, shape: signdata.Fulu},
		{name: "unknown fork", slot: 961, source: 29, target: 30, own: signdata.AttesterDuty{Slot: 961, CommitteeLength: 1}, want: signdata.ErrShape},
		{name: "target of another epoch", slot: 330, source: 9, target: 11, own: signdata.AttesterDuty{Slot: 330, CommitteeLength: 1}, want: signdata.ErrMisfit},
		{name: "source after target", slot: 330, source: 11, target: 10, own: signdata.AttesterDuty{Slot: 330, CommitteeLength: 1}, want: signdata.ErrMisfit},
		{name: "committee of another slot", slot: 330, source: 9, target: 10, own: signdata.AttesterDuty{Slot: 331, CommitteeLength: 1}, want: signdata.ErrMisfit},
		{name: "place outside the committee", slot: 330, source: 9, target: 10, own: signdata.AttesterDuty{Slot: 330, CommitteeLength: 1, ValidatorCommittee: 1}, want: signdata.ErrMisfit},
		{name: "a committee that can't be", slot: 330, source: 9, target: 10, own: signdata.AttesterDuty{Slot: 330, CommitteeIndex: 64, CommitteeLength: 1}, want: signdata.ErrMisfit},
		{name: "index in electra data", slot: 330, source: 9, target: 10, index: 1, own: signdata.AttesterDuty{Slot: 330, CommitteeIndex: 1, CommitteeLength: 1}, want: signdata.ErrMisfit},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := attestationData(c.slot, c.source, c.target)
			data.Index = c.index
			b, err := signdata.EncodeAttester(data, c.own)
			if err != nil {
				t.Fatal(err)
			}
			duty := cluster.Duty{Slot: cluster.Slot(c.slot), Type: cluster.DutyAttester}
			s, err := signdata.ToSign(duty, b, chain)
			if c.want != nil {
				if !errors.Is(err, c.want) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			a := s.WithSignature(cluster.Signature{4}).(signdata.Attestation)
			if a.Shape() != c.shape {
				t.Errorf("shape %s, want %s", a.Shape(), c.shape)
			}
			wire, err := a.Encode()
			if err != nil {
				t.Fatal(err)
			}
			back, err := signdata.Parse(cluster.DutyAttester, wire)
			if err != nil {
				t.Fatal(err)
			}
			if i, ok := back.(signdata.Attestation).ValidatorIndex(); !ok || i != c.own.ValidatorIndex {
				t.Errorf("validator %d %t", i, ok)
			}
			if err := signdata.Fits(back, duty, chain); err != nil {
				t.Error(err)
			}
			if err := signdata.Fits(back, cluster.Duty{Slot: duty.Slot + 1, Type: duty.Type}, chain); !errors.Is(err, signdata.ErrMisfit) {
				t.Errorf("fits the next slot: %v", err)
			}
			f, err := signdata.FactsOf(back, chain)
			root, _ := signdata.SigningRoot(s, chain)
			if want := (signdata.Facts{Kind: signdata.KindAttestation, Source: cluster.Epoch(c.source), Target: cluster.Epoch(c.target), SigningRoot: root}); err != nil || f != want {
				t.Errorf("facts %+v %v, want %+v", f, err, want)
			}
			single, err := a.Single()
			if c.shape == signdata.Phase0 {
				if err == nil {
					t.Error("a single attestation before Electra")
				}
				return
			}
			if err != nil || uint64(single.CommitteeIndex) != c.own.CommitteeIndex || uint64(single.AttesterIndex) != c.own.ValidatorIndex || single.Signature[0] != 4 {
				t.Errorf("single %v %v", single, err)
			}
		})
	}
}

// The older form, without a validator index, is told from an index of 12.
func TestAttestationForms(t *testing.T) {
	own := signdata.AttesterDuty{Slot: 20, ValidatorIndex: 12, CommitteeLength: 4, ValidatorCommittee: 1}
	a, err := signdata.NewAttestation(signdata.Electra, attestationData(20, 0, 0), own)
	if err != nil {
		t.Fatal(err)
	}
	long, _ := a.Encode()
	short := append(bytes.Clone(long[:8]), 12, 0, 0, 0)
	short = append(short, long[20:]...)
	for _, c := range []struct {
		b     []byte
		known bool
	}{{long, true}, {short, false}} {
		s, err := signdata.Parse(cluster.DutyAttester, c.b)
		if err != nil {
			t.Fatal(err)
		}
		if i, ok := s.(signdata.Attestation).ValidatorIndex(); ok != c.known || ok && i != 12 {
			t.Errorf("index %d %t, want known %t", i, ok, c.known)
		}
		if got, _ := s.Encode(); !bytes.Equal(got, c.b) {
			t.Errorf("%x, want %x", got, c.b)
		}
	}
}

func TestToSignProposal(t *testing.T) {
	for _, v := range vectors(t, "unsigned.json") {
		if v.DutyType != cluster.DutyProposer {
			continue
		}
		p, err := signdata.DecodeProposal(v.bytes(t))
		if err != nil {
			t.Fatal(err)
		}
		slot, _ := p.Slot()
		at := chain
		at.Forks = []signdata.Fork{{Shape: signdata.ShapeOf(p.Version)}}
		duty := cluster.Duty{Slot: cluster.Slot(slot), Type: cluster.DutyProposer}
		s, err := signdata.ToSign(duty, v.bytes(t), at)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := p.Root()
		if r, err := s.MessageRoot(); err != nil || r != cluster.Root(want) {
			t.Errorf("%s: root %s %v, want %s", v.Case, r, err, want)
		}
		f, err := signdata.FactsOf(s, at)
		root, _ := signdata.SigningRoot(s, at)
		if wantF := (signdata.Facts{Kind: signdata.KindBlock, Slot: duty.Slot, SigningRoot: root}); err != nil || f != wantF {
			t.Errorf("facts %+v %v", f, err)
		}
		b, err := s.WithSignature(cluster.Signature{5}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := signdata.Parse(cluster.DutyProposer, b)
		if err != nil || back.Signature() != (cluster.Signature{5}) {
			t.Errorf("%s: read back: %v", v.Case, err)
		}
		if (back.(signdata.Proposal).VersionedBlinded() != nil) != p.Blinded {
			t.Error("blinded form")
		}
		if _, err := signdata.ToSign(cluster.Duty{Slot: duty.Slot + 1, Type: duty.Type}, v.bytes(t), at); !errors.Is(err, signdata.ErrMisfit) {
			t.Errorf("a block of another slot: %v", err)
		}
		at.Forks[0].Shape = signdata.Capella
		if _, err := signdata.ToSign(duty, v.bytes(t), at); !errors.Is(err, signdata.ErrMisfit) {
			t.Errorf("a block of another fork: %v", err)
		}
	}
}

func TestHalfObjectsAreRefused(t *testing.T) {
	if _, err := signdata.EncodeProposal(&api.VersionedProposal{Version: spec.DataVersionDeneb, Deneb: &v1deneb.BlockContents{}}); !errors.Is(err, signdata.ErrMalformed) {
		t.Errorf("no block: %v", err)
	}
	if _, err := signdata.EncodeProposal(nil); !errors.Is(err, signdata.ErrMalformed) {
		t.Errorf("nil: %v", err)
	}
	if _, err := signdata.NewProposal(&api.VersionedProposal{Version: spec.DataVersionAltair, Blinded: true}); !errors.Is(err, signdata.ErrMalformed) {
		t.Errorf("blinded Altair: %v", err)
	}
	if _, err := signdata.ProposalOf(&api.VersionedSignedProposal{Version: spec.DataVersionDeneb, Deneb: &v1deneb.SignedBlockContents{}}); !errors.Is(err, signdata.ErrMalformed) {
		t.Errorf("no signed block: %v", err)
	}
	if _, err := signdata.EncodeAttester(&phase0.AttestationData{}, signdata.AttesterDuty{}); !errors.Is(err, signdata.ErrMalformed) {
		t.Errorf("no checkpoints: %v", err)
	}
	if _, err := signdata.AttestationOf(&spec.VersionedAttestation{Version: spec.DataVersionFulu, Electra: nil}); !errors.Is(err, signdata.ErrMalformed) {
		t.Errorf("no attestation: %v", err)
	}
	if _, err := signdata.NewContribution(1, cluster.Signature{}, &altair.SyncCommitteeContribution{}); !errors.Is(err, signdata.ErrMalformed) {
		t.Errorf("no bits: %v", err)
	}
	for _, b := range []string{`{"epoch":"1"}`, `{"epoch":1,"signature":"0x00"}`, `null`, `[]`, `{"epoch":"1","signature":null}`, `{"epoch":"-1","signature":""}`} {
		if _, err := signdata.Parse(cluster.DutyRandao, []byte(b)); !errors.Is(err, signdata.ErrMalformed) {
			t.Errorf("%s: %v", b, err)
		}
	}
	for _, b := range []string{`null`, `[]`, `[null]`, `[null,null]`, `{}`} {
		if _, err := signdata.DecodeContributions([]byte(b)); !errors.Is(err, signdata.ErrMalformed) {
			t.Errorf("%s: %v", b, err)
		}
	}
	if _, err := signdata.Parse(cluster.DutyAttester, make([]byte, 1<<20)); !errors.Is(err, signdata.ErrMalformed) {
		t.Error("a megabyte of attestation")
	}
}

func TestForkAt(t *testing.T) {
	for e, want := range map[cluster.Epoch]signdata.Shape{0: signdata.Phase0, 9: signdata.Phase0, 10: signdata.Electra, 19: signdata.Electra, 20: signdata.Fulu, 30: ""} {
		if got := chain.ForkAt(e); got.Shape != want {
			t.Errorf("epoch %d: %q, want %q", e, got.Shape, want)
		}
	}
	if s, err := signdata.ShapeNamed("electra"); err != nil || s != signdata.Electra || signdata.ShapeOf(s.Version()) != s {
		t.Error(s, err)
	}
	if _, err := signdata.ShapeNamed("gloas"); !errors.Is(err, signdata.ErrShape) {
		t.Error("gloas is known")
	}
	exit := signdata.NewExit(25, 4)
	root, err := signdata.SigningRoot(exit, chain)
	m, _ := exit.MessageRoot()
	if want := cluster.SigningRoot(m, cluster.Domain(signdata.DomainExit, chain.Exit, chain.ValidatorsRoot)); err != nil || root != want {
		t.Error("an exit is signed for Capella whatever its epoch (EIP-7044)")
	}
}

func fuzzParse(f *testing.F, types ...cluster.DutyType) {
	for _, v := range vectors(f, "parsigned.json") {
		for i, typ := range types {
			if v.DutyType == typ {
				f.Add(byte(i), v.bytes(f))
			}
		}
	}
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		typ := types[int(which)%len(types)]
		s, err := signdata.Parse(typ, b)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil || !bytes.EqualFold(again, b) && !json.Valid(b) {
			t.Fatalf("%s: written again %x %v, want %x", typ, again, err, b)
		}
		if _, err := signdata.FactsOf(s, chain); err != nil {
			t.Fatalf("%s: read but not hashed: %v", typ, err)
		}
		_ = signdata.Fits(s, cluster.Duty{Slot: s.Slot(32), Type: typ}, chain)
		if s.WithSignature(cluster.Signature{1}).Signature() != (cluster.Signature{1}) {
			t.Fatal("signature isn't set")
		}
	})
}

func FuzzParseSSZ(f *testing.F) {
	fuzzParse(f, cluster.DutyAttester, cluster.DutyProposer, cluster.DutyAggregator, cluster.DutySyncMessage, cluster.DutySyncContribution)
}

func FuzzParseJSON(f *testing.F) {
	fuzzParse(f, cluster.DutyRandao, cluster.DutyExit, cluster.DutyPrepareAggregator, cluster.DutyPrepareSyncContribution, cluster.DutyBuilderRegistration)
}

func FuzzDecodeUnsigned(f *testing.F) {
	for _, v := range vectors(f, "unsigned.json") {
		f.Add(v.bytes(f))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, own, err := signdata.DecodeAttester(b); err == nil {
			if again, err := signdata.EncodeAttester(d, own); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("attester %x %v", again, err)
			}
		}
		if p, err := signdata.DecodeProposal(b); err == nil {
			if again, err := signdata.EncodeProposal(p); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("proposal %x %v", again, err)
			}
		}
		_, _ = signdata.DecodeAggregate(b)
		_, _ = signdata.DecodeContributions(b)
		for _, typ := range []cluster.DutyType{cluster.DutyAttester, cluster.DutyProposer} {
			_, _ = signdata.ToSign(cluster.Duty{Slot: 330, Type: typ}, b, chain)
		}
	})
}
