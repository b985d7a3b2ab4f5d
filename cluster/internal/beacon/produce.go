package beacon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"app.provost/cluster"

	"github.com/attestantio/go-eth2-client/api"
	apiv1deneb "github.com/attestantio/go-eth2-client/api/v1/deneb"
	apiv1electra "github.com/attestantio/go-eth2-client/api/v1/electra"
	apiv1fulu "github.com/attestantio/go-eth2-client/api/v1/fulu"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/phase0"
)

// AttestationData returns what to attest to in a slot. From Electra the committee is 0 for everybody.
func (c *Client) AttestationData(ctx context.Context, slot cluster.Slot, committee uint64) (*phase0.AttestationData, error) {
	op := fmt.Sprintf("attestation data of slot %d", slot)
	ch, err := c.Chain(ctx)
	if err != nil {
		return nil, err
	}
	query := url.Values{"slot": {strconv.FormatUint(uint64(slot), 10)}, "committee_index": {strconv.FormatUint(committee, 10)}}
	return first(ctx, c, op, needHead, func(ctx context.Context, e *endpoint) (*phase0.AttestationData, *Error) {
		var d phase0.AttestationData
		if err := c.getJSON(ctx, e, op, "/eth/v1/validator/attestation_data", query, &d); err != nil {
			return nil, err
		}
		switch {
		case d.Source == nil || d.Target == nil:
			return nil, e.malformed(op, errors.New("a checkpoint is missing"))
		case cluster.Slot(d.Slot) != slot:
			return nil, e.malformed(op, fmt.Errorf("the answer is for slot %d", d.Slot))
		case cluster.Epoch(d.Target.Epoch) != ch.Clock.Epoch(slot):
			return nil, e.malformed(op, fmt.Errorf("the target is epoch %d, the slot lies in epoch %d", d.Target.Epoch, ch.Clock.Epoch(slot)))
		case d.Source.Epoch > d.Target.Epoch:
			return nil, e.malformed(op, fmt.Errorf("the source epoch %d comes after the target epoch %d", d.Source.Epoch, d.Target.Epoch))
		}
		return &d, nil
	})
}

// Builder boost factors with a meaning of their own.
const (
	LocalOnly     uint64 = 0          // the node's own payload unless it has none
	BestPaid      uint64 = 100        // whichever pays more
	BuilderAlways uint64 = ^uint64(0) // the builder's payload unless there is none
)

// ProposalRequest asks for a block to be signed.
type ProposalRequest struct {
	Slot         cluster.Slot
	RandaoReveal cluster.Signature
	Graffiti     [32]byte
	BuilderBoost uint64
}

// Proposal has a node make a block, full or blinded.
func (c *Client) Proposal(ctx context.Context, r ProposalRequest) (*api.VersionedProposal, error) {
	op := fmt.Sprintf("block for slot %d", r.Slot)
	ch, err := c.Chain(ctx)
	if err != nil {
		return nil, err
	}
	want, err := ch.VersionAt(ch.Clock.Epoch(r.Slot))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	query := url.Values{"randao_reveal": {r.RandaoReveal.String()}, "graffiti": {fmt.Sprintf("%#x", r.Graffiti)}, "builder_boost_factor": {strconv.FormatUint(r.BuilderBoost, 10)}}
	return first(ctx, c, op, needHead, func(ctx context.Context, e *endpoint) (*api.VersionedProposal, *Error) {
		a, err := c.do(ctx, e, request{op: op, method: http.MethodGet, path: fmt.Sprintf("/eth/v3/validator/blocks/%d", r.Slot), query: query, ssz: true, limit: maxBlock})
		if err != nil {
			return nil, err
		}
		p, cause := readProposal(a)
		if cause == nil {
			cause = checkProposal(p, r, want)
		}
		if cause != nil {
			return nil, e.malformed(op, cause)
		}
		return p, nil
	})
}

// object is a spec type that reads itself.
type object interface {
	UnmarshalSSZ(buf []byte) error
	UnmarshalJSON(buf []byte) error
}

func readProposal(a *answer) (*api.VersionedProposal, error) {
	version, blinded := a.header.Get("Eth-Consensus-Version"), a.header.Get("Eth-Execution-Payload-Blinded")
	exec, cons := a.header.Get("Eth-Execution-Payload-Value"), a.header.Get("Eth-Consensus-Block-Value")
	data := a.body
	if !a.ssz {
		var m struct {
			Version string          `json:"version"`
			Blinded bool            `json:"execution_payload_blinded"`
			Exec    string          `json:"execution_payload_value"`
			Cons    string          `json:"consensus_block_value"`
			Data    json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(a.body, &m); err != nil {
			return nil, err
		}
		version, blinded, exec, cons, data = m.Version, strconv.FormatBool(m.Blinded), m.Exec, m.Cons, m.Data
	}
	p := &api.VersionedProposal{Blinded: strings.EqualFold(blinded, "true"), ExecutionValue: wei(exec), ConsensusValue: wei(cons)}
	if err := p.Version.UnmarshalJSON([]byte(strconv.Quote(version))); err != nil {
		return nil, fmt.Errorf("the block is of fork %q, which isn't known here", printable(version, 32))
	}
	into := proposalBody(p)
	if into == nil {
		return nil, fmt.Errorf("blocks of fork %v aren't made any more", p.Version)
	}
	if a.ssz {
		return p, into.UnmarshalSSZ(data)
	}
	return p, into.UnmarshalJSON(data)
}

// proposalBody allocates the member that the version and blinded name.
func proposalBody(p *api.VersionedProposal) object {
	switch {
	case p.Version == spec.DataVersionDeneb && p.Blinded:
		p.DenebBlinded = new(apiv1deneb.BlindedBeaconBlock)
		return p.DenebBlinded
	case p.Version == spec.DataVersionDeneb:
		p.Deneb = new(apiv1deneb.BlockContents)
		return p.Deneb
	case p.Version == spec.DataVersionElectra && p.Blinded:
		p.ElectraBlinded = new(apiv1electra.BlindedBeaconBlock)
		return p.ElectraBlinded
	case p.Version == spec.DataVersionElectra:
		p.Electra = new(apiv1electra.BlockContents)
		return p.Electra
	case p.Version == spec.DataVersionFulu && p.Blinded:
		p.FuluBlinded = new(apiv1electra.BlindedBeaconBlock)
		return p.FuluBlinded
	case p.Version == spec.DataVersionFulu:
		p.Fulu = new(apiv1fulu.BlockContents)
		return p.Fulu
	}
	return nil
}

func checkProposal(p *api.VersionedProposal, r ProposalRequest, want spec.DataVersion) error {
	if p.Version != want {
		return fmt.Errorf("the block is of fork %v, the chain is at %v", p.Version, want)
	}
	slot, err := p.Slot()
	if err != nil {
		return err
	}
	if cluster.Slot(slot) != r.Slot {
		return fmt.Errorf("the block is for slot %d", slot)
	}
	reveal, err := p.RandaoReveal()
	if err != nil {
		return err
	}
	if cluster.Signature(reveal) != r.RandaoReveal {
		return errors.New("the block holds another RANDAO reveal than the one given")
	}
	if _, err := p.Root(); err != nil {
		return fmt.Errorf("hash the block: %w", err)
	}
	return nil
}

// wei reads an amount; what isn't one is worth nothing.
func wei(s string) *big.Int {
	if len(s) > 78 {
		return new(big.Int)
	}
	v, ok := new(big.Int).SetString(s, 10)
	if !ok || v.Sign() < 0 {
		return new(big.Int)
	}
	return v
}
