package beacon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"app.provost/cluster"

	"github.com/attestantio/go-eth2-client/api"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"
)

// SubmitAttestations sends signed attestations of one fork, from Electra on as single attestations:
// those need a ValidatorIndex and exactly one committee bit. Attestations that a node knows already
// count as accepted, since every node of a cluster sends them. The *Error of a partial refusal lists
// the refused items; the others were taken.
func (c *Client) SubmitAttestations(ctx context.Context, list []*spec.VersionedAttestation) error {
	op := fmt.Sprintf("submit %d attestations", len(list))
	if len(list) == 0 {
		return nil
	}
	items := make([]any, len(list))
	for i, a := range list {
		if a == nil || a.Version != list[0].Version {
			return fmt.Errorf("%s: item %d is of another fork than the first", op, i)
		}
		var err error
		if items[i], err = wireAttestation(a); err != nil {
			return fmt.Errorf("%s: item %d: %w", op, i, err)
		}
	}
	body, err := json.Marshal(items)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	r := request{op: op, method: http.MethodPost, path: "/eth/v2/beacon/pool/attestations", body: body, kind: mediaJSON, submit: true,
		header: map[string]string{"Eth-Consensus-Version": list[0].Version.String()}}
	return every(ctx, c, op, func(ctx context.Context, e *endpoint) *Error { return known(c.post(ctx, e, r)) })
}

func wireAttestation(a *spec.VersionedAttestation) (any, error) {
	var plain *phase0.Attestation
	var committee *electra.Attestation
	switch a.Version {
	case spec.DataVersionPhase0:
		plain = a.Phase0
	case spec.DataVersionAltair:
		plain = a.Altair
	case spec.DataVersionBellatrix:
		plain = a.Bellatrix
	case spec.DataVersionCapella:
		plain = a.Capella
	case spec.DataVersionDeneb:
		plain = a.Deneb
	case spec.DataVersionElectra:
		committee = a.Electra
	case spec.DataVersionFulu:
		committee = a.Fulu
	default:
		return nil, fmt.Errorf("attestations of fork %v aren't known here", a.Version)
	}
	switch {
	case plain != nil:
		return plain, nil
	case committee != nil:
		return committee.ToSingleAttestation(a.ValidatorIndex)
	}
	return nil, fmt.Errorf("it holds no attestation of fork %v", a.Version)
}

// known turns a refusal into success when the node refuses only what it has already.
func known(err *Error) *Error {
	if err == nil || err.Kind != KindRefused {
		return err
	}
	already := func(s string) bool {
		s = strings.ToLower(strings.NewReplacer(" ", "", "_", "").Replace(s))
		return strings.Contains(s, "priorattestationknown") || strings.Contains(s, "alreadyknown")
	}
	if len(err.Failures) == 0 {
		if err.cause != nil && already(err.cause.Error()) {
			return nil
		}
		return err
	}
	err.Failures = slices.DeleteFunc(err.Failures, func(f ItemError) bool { return already(f.Message) })
	if len(err.Failures) == 0 {
		return nil
	}
	return err
}

func (c *Client) post(ctx context.Context, e *endpoint, r request) *Error {
	_, err := c.do(ctx, e, r)
	return err
}

// encoder is a spec type that writes itself.
type encoder interface {
	MarshalSSZ() ([]byte, error)
	MarshalJSON() ([]byte, error)
}

// SubmitProposal publishes a signed block, full or blinded as it is marked. 202, sent but not yet
// imported by the node, is success: the block is out.
func (c *Client) SubmitProposal(ctx context.Context, p *api.VersionedSignedProposal) error {
	if p == nil {
		return errors.New("submit block: there is none")
	}
	slot, err := p.Slot()
	if err != nil {
		return fmt.Errorf("submit block: %w", err)
	}
	op, path := fmt.Sprintf("submit block of slot %d", slot), "/eth/v2/beacon/blocks"
	if p.Blinded {
		op, path = fmt.Sprintf("submit blinded block of slot %d", slot), "/eth/v2/beacon/blinded_blocks"
	}
	block := signedBody(p)
	if block == nil {
		return fmt.Errorf("%s: blocks of fork %v aren't known here", op, p.Version)
	}
	ssz, err := block.MarshalSSZ()
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	r := request{op: op, method: http.MethodPost, path: path, submit: true, header: map[string]string{"Eth-Consensus-Version": p.Version.String()}}
	return every(ctx, c, op, func(ctx context.Context, e *endpoint) *Error {
		r := r
		e.mu.Lock()
		plain := e.jsonOnly[path]
		e.mu.Unlock()
		if !plain {
			r.body, r.kind = ssz, mediaSSZ
			err := c.post(ctx, e, r)
			if err == nil || err.Status != http.StatusUnsupportedMediaType {
				return known(err)
			}
			e.mu.Lock()
			if e.jsonOnly == nil {
				e.jsonOnly = map[string]bool{}
			}
			e.jsonOnly[path] = true
			e.mu.Unlock()
		}
		var cause error
		if r.body, cause = block.MarshalJSON(); cause != nil {
			return &Error{Op: op, Endpoint: e.name, Kind: KindRefused, cause: cause}
		}
		r.kind = mediaJSON
		return known(c.post(ctx, e, r))
	})
}

func signedBody(p *api.VersionedSignedProposal) encoder {
	switch {
	case p.Version == spec.DataVersionDeneb && p.Blinded && p.DenebBlinded != nil:
		return p.DenebBlinded
	case p.Version == spec.DataVersionDeneb && !p.Blinded && p.Deneb != nil:
		return p.Deneb
	case p.Version == spec.DataVersionElectra && p.Blinded && p.ElectraBlinded != nil:
		return p.ElectraBlinded
	case p.Version == spec.DataVersionElectra && !p.Blinded && p.Electra != nil:
		return p.Electra
	case p.Version == spec.DataVersionFulu && p.Blinded && p.FuluBlinded != nil:
		return p.FuluBlinded
	case p.Version == spec.DataVersionFulu && !p.Blinded && p.Fulu != nil:
		return p.Fulu
	}
	return nil
}

// SubmitVoluntaryExit publishes a signed exit. It can't be taken back.
func (c *Client) SubmitVoluntaryExit(ctx context.Context, exit *phase0.SignedVoluntaryExit) error {
	if exit == nil || exit.Message == nil {
		return errors.New("submit exit: there is none")
	}
	return c.submitJSON(ctx, fmt.Sprintf("submit exit of validator %d", exit.Message.ValidatorIndex), "/eth/v1/beacon/pool/voluntary_exits", exit)
}

// PrepareProposers tells the nodes where the fees of blocks go. It holds for the epoch and two more.
func (c *Client) PrepareProposers(ctx context.Context, fees map[phase0.ValidatorIndex]cluster.ETHAddress) error {
	if len(fees) == 0 {
		return nil
	}
	type item struct {
		Index string `json:"validator_index"`
		Fee   string `json:"fee_recipient"`
	}
	list := make([]item, 0, len(fees))
	for i, a := range fees {
		list = append(list, item{strconv.FormatUint(uint64(i), 10), a.String()})
	}
	slices.SortFunc(list, func(a, b item) int { return strings.Compare(a.Index, b.Index) })
	return c.submitJSON(ctx, fmt.Sprintf("prepare %d proposers", len(list)), "/eth/v1/validator/prepare_beacon_proposer", list)
}

// SubmitRegistrations tells builders, through the nodes, where fees go.
func (c *Client) SubmitRegistrations(ctx context.Context, list []cluster.Registration) error {
	if len(list) == 0 {
		return nil
	}
	type message struct {
		Fee       cluster.AddressText `json:"fee_recipient"`
		GasLimit  string              `json:"gas_limit"`
		Timestamp string              `json:"timestamp"`
		PubKey    cluster.PubKey      `json:"pubkey"`
	}
	type item struct {
		Message   message           `json:"message"`
		Signature cluster.Signature `json:"signature"`
	}
	items := make([]item, len(list))
	for i, r := range list {
		m := r.Message
		items[i] = item{message{m.FeeRecipient, strconv.FormatUint(m.GasLimit, 10), strconv.FormatUint(m.TimestampUnix, 10), m.PubKey}, r.Signature}
	}
	return c.submitJSON(ctx, fmt.Sprintf("register %d validators", len(list)), "/eth/v1/validator/register_validator", items)
}

func (c *Client) submitJSON(ctx context.Context, op, path string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	r := request{op: op, method: http.MethodPost, path: path, body: body, kind: mediaJSON, submit: true}
	return every(ctx, c, op, func(ctx context.Context, e *endpoint) *Error { return c.post(ctx, e, r) })
}
