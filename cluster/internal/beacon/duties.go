package beacon

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"app.provost/cluster"

	apiv1 "github.com/attestantio/go-eth2-client/api/v1"
	"github.com/attestantio/go-eth2-client/spec/phase0"
)

// farFuture is the epoch of what isn't planned.
const farFuture = ^cluster.Epoch(0)

// Validator is what the chain's head state says of a validator.
type Validator struct {
	PubKey     cluster.PubKey
	Index      phase0.ValidatorIndex
	Status     string // the Beacon API's word: "active_ongoing"
	Balance    cluster.Gwei
	Effective  cluster.Gwei
	Slashed    bool
	Activation *cluster.Epoch // nil when not planned
	Exit       *cluster.Epoch
}

// Active tells whether the validator has duties now.
func (v Validator) Active() bool {
	switch v.Status {
	case "active_ongoing", "active_exiting", "active_slashed":
		return true
	}
	return false
}

// Words says the status for people.
func (v Validator) Words() string { return StatusWords(v.Status) }

// StatusWords says a validator's status for people; "" stands for a key that the chain doesn't know.
func StatusWords(status string) string {
	switch status {
	case "":
		return "not deposited"
	case "pending_initialized":
		return "pending: deposit seen, not yet in the activation queue"
	case "pending_queued":
		return "queued for activation"
	case "active_ongoing":
		return "active"
	case "active_exiting":
		return "active, leaving"
	case "active_slashed":
		return "slashed, leaving"
	case "exited_unslashed":
		return "exited"
	case "exited_slashed":
		return "exited, slashed"
	case "withdrawal_possible":
		return "exited, withdrawal possible"
	case "withdrawal_done":
		return "withdrawn"
	}
	return printable(status, 40)
}

// Validators returns what the head state says of the keys. Keys that aren't on the chain are missing
// from the answer.
func (c *Client) Validators(ctx context.Context, keys []cluster.PubKey) (map[cluster.PubKey]Validator, error) {
	op := fmt.Sprintf("state of %d validators", len(keys))
	if len(keys) == 0 {
		return nil, nil
	}
	return first(ctx, c, op, needChain, func(ctx context.Context, e *endpoint) (map[cluster.PubKey]Validator, *Error) {
		out, err := c.validators(ctx, e, op, keys, true)
		if err != nil && (err.Kind == KindNotFound || err.Status == http.StatusUnsupportedMediaType) {
			return c.validators(ctx, e, op, keys, false) // older nodes have only GET
		}
		return out, err
	})
}

func (c *Client) validators(ctx context.Context, e *endpoint, op string, keys []cluster.PubKey, post bool) (map[cluster.PubKey]Validator, *Error) {
	const path = "/eth/v1/beacon/states/head/validators"
	asked := make(map[cluster.PubKey]bool, len(keys))
	for _, k := range keys {
		asked[k] = true
	}
	out := make(map[cluster.PubKey]Validator, len(keys))
	chunk := 1000
	if !post {
		chunk = 64 // what the API promises for a URL
	}
	for len(keys) > 0 {
		part := keys[:min(len(keys), chunk)]
		keys = keys[len(part):]
		r := request{op: op, method: http.MethodGet, path: path, limit: int64(len(part))*2048 + maxSmall}
		if post {
			body, _ := json.Marshal(map[string]any{"ids": part})
			r.method, r.body, r.kind = http.MethodPost, body, mediaJSON
		} else {
			ids := ""
			for i, k := range part {
				if i > 0 {
					ids += ","
				}
				ids += k.String()
			}
			r.query = map[string][]string{"id": {ids}}
		}
		a, err := c.do(ctx, e, r)
		if err != nil {
			return nil, err
		}
		var list []struct {
			Index     num    `json:"index"`
			Balance   num    `json:"balance"`
			Status    string `json:"status"`
			Validator struct {
				PubKey     cluster.PubKey `json:"pubkey"`
				Effective  num            `json:"effective_balance"`
				Slashed    bool           `json:"slashed"`
				Activation num            `json:"activation_epoch"`
				Exit       num            `json:"exit_epoch"`
			} `json:"validator"`
		}
		if _, err := a.open(e, op, &list); err != nil {
			return nil, err
		}
		for _, v := range list {
			if !asked[v.Validator.PubKey] {
				return nil, e.malformed(op, fmt.Errorf("the answer holds validator %v, which wasn't asked for", v.Validator.PubKey))
			}
			if _, twice := out[v.Validator.PubKey]; twice {
				return nil, e.malformed(op, fmt.Errorf("the answer holds validator %v twice", v.Validator.PubKey))
			}
			out[v.Validator.PubKey] = Validator{
				PubKey: v.Validator.PubKey, Index: phase0.ValidatorIndex(v.Index), Status: printable(v.Status, 40), Balance: cluster.Gwei(v.Balance),
				Effective: cluster.Gwei(v.Validator.Effective), Slashed: v.Validator.Slashed,
				Activation: planned(v.Validator.Activation), Exit: planned(v.Validator.Exit),
			}
		}
	}
	return out, nil
}

func planned(e num) *cluster.Epoch {
	if cluster.Epoch(e) == farFuture {
		return nil
	}
	out := cluster.Epoch(e)
	return &out
}

// AttesterDuties are the attestations that are due in an epoch. When the block root that they depend
// on changes, they are void.
type AttesterDuties struct {
	DependentRoot cluster.Root
	Duties        []*apiv1.AttesterDuty
}

// ProposerDuties are the blocks that are due in an epoch, of all validators of the chain. The
// dependent root is that of the v1 request: the last block before the epoch.
type ProposerDuties struct {
	DependentRoot cluster.Root
	Duties        []*apiv1.ProposerDuty
}

// AttesterDuties returns the duties of some validators in an epoch: the current or the next one.
func (c *Client) AttesterDuties(ctx context.Context, epoch cluster.Epoch, indices []phase0.ValidatorIndex) (AttesterDuties, error) {
	op := fmt.Sprintf("attester duties of epoch %d", epoch)
	if len(indices) == 0 {
		return AttesterDuties{}, nil
	}
	ch, err := c.Chain(ctx)
	if err != nil {
		return AttesterDuties{}, err
	}
	asked := make(map[phase0.ValidatorIndex]bool, len(indices))
	ids := make([]string, len(indices))
	for i, v := range indices {
		asked[v], ids[i] = true, strconv.FormatUint(uint64(v), 10)
	}
	body, _ := json.Marshal(ids)
	return first(ctx, c, op, needHead, func(ctx context.Context, e *endpoint) (AttesterDuties, *Error) {
		a, err := c.do(ctx, e, request{op: op, method: http.MethodPost, path: fmt.Sprintf("/eth/v1/validator/duties/attester/%d", epoch),
			body: body, kind: mediaJSON, limit: int64(len(ids))*1024 + maxSmall})
		if err != nil {
			return AttesterDuties{}, err
		}
		var out AttesterDuties
		env, err := a.open(e, op, &out.Duties)
		if err != nil {
			return AttesterDuties{}, err
		}
		if env.Optimistic {
			return AttesterDuties{}, &Error{Op: op, Endpoint: e.name, Kind: KindOptimistic}
		}
		out.DependentRoot = env.DependentRoot
		seen := map[phase0.ValidatorIndex]bool{}
		for _, d := range out.Duties {
			switch {
			case d == nil, !asked[d.ValidatorIndex], seen[d.ValidatorIndex]:
				return AttesterDuties{}, e.malformed(op, fmt.Errorf("the answer holds a duty that wasn't asked for, or one twice"))
			case ch.Clock.Epoch(cluster.Slot(d.Slot)) != epoch:
				return AttesterDuties{}, e.malformed(op, fmt.Errorf("a duty is in slot %d, which lies in another epoch", d.Slot))
			case d.CommitteeLength == 0 || d.CommitteeLength > 1<<17 || d.ValidatorCommitteeIndex >= d.CommitteeLength || d.CommitteesAtSlot > 64 || uint64(d.CommitteeIndex) >= d.CommitteesAtSlot:
				return AttesterDuties{}, e.malformed(op, fmt.Errorf("validator %d is at place %d of %d in committee %d of %d", d.ValidatorIndex, d.ValidatorCommitteeIndex, d.CommitteeLength, d.CommitteeIndex, d.CommitteesAtSlot))
			}
			seen[d.ValidatorIndex] = true
		}
		return out, nil
	})
}

// ProposerDuties returns who proposes in an epoch.
func (c *Client) ProposerDuties(ctx context.Context, epoch cluster.Epoch) (ProposerDuties, error) {
	op := fmt.Sprintf("proposer duties of epoch %d", epoch)
	ch, err := c.Chain(ctx)
	if err != nil {
		return ProposerDuties{}, err
	}
	return first(ctx, c, op, needHead, func(ctx context.Context, e *endpoint) (ProposerDuties, *Error) {
		a, err := c.do(ctx, e, request{op: op, method: http.MethodGet, path: fmt.Sprintf("/eth/v1/validator/duties/proposer/%d", epoch),
			limit: int64(ch.Clock.SlotsPerEpoch)*1024 + maxSmall})
		if err != nil {
			return ProposerDuties{}, err
		}
		var out ProposerDuties
		env, err := a.open(e, op, &out.Duties)
		if err != nil {
			return ProposerDuties{}, err
		}
		if env.Optimistic {
			return ProposerDuties{}, &Error{Op: op, Endpoint: e.name, Kind: KindOptimistic}
		}
		out.DependentRoot = env.DependentRoot
		seen := map[phase0.Slot]bool{}
		for _, d := range out.Duties {
			if d == nil || ch.Clock.Epoch(cluster.Slot(d.Slot)) != epoch || seen[d.Slot] {
				return ProposerDuties{}, e.malformed(op, fmt.Errorf("the answer holds a slot of another epoch, or one twice"))
			}
			seen[d.Slot] = true
		}
		return out, nil
	})
}
