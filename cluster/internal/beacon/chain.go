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
	"time"

	"app.provost/cluster"

	"github.com/attestantio/go-eth2-client/spec"
)

// Genesis names a chain.
type Genesis struct {
	Time           time.Time
	ValidatorsRoot cluster.Root
	Fork           cluster.ForkVersion
}

// Fork is one entry of the chain's fork schedule.
type Fork struct {
	Epoch    cluster.Epoch
	Previous cluster.ForkVersion
	Current  cluster.ForkVersion
	Name     string // "electra"; "" when the node's config names no fork of this version
}

// BasisPoints is a ten-thousandth of a slot.
type BasisPoints uint64

// Offsets say when in a slot things are due.
type Offsets struct {
	Attestation, Aggregate, SyncMessage, Contribution BasisPoints
}

// Chain is what a chain is run by, as the beacon node's config tells it. It never changes.
type Chain struct {
	Genesis Genesis
	Clock   cluster.SlotClock
	Before  Offsets // until Gloas
	Gloas   Offsets // from Gloas
	Forks   []Fork  // by epoch, from config/fork_schedule
	Capella cluster.ForkVersion
}

// ForkAt returns the fork that is current in an epoch.
func (c Chain) ForkAt(e cluster.Epoch) Fork {
	var out Fork
	for _, f := range c.Forks {
		if f.Epoch <= e {
			out = f
		}
	}
	return out
}

// VersionAt returns the shape of objects in an epoch, as far as it has a name here.
func (c Chain) VersionAt(e cluster.Epoch) (spec.DataVersion, error) {
	name := c.ForkAt(e).Name
	var v spec.DataVersion
	if err := v.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil {
		return 0, fmt.Errorf("find the shape of objects in epoch %d: fork %q isn't known to this version of the program: update it", e, printable(name, 32))
	}
	return v, nil
}

// OffsetsAt returns what is due when in a slot.
func (c Chain) OffsetsAt(s cluster.Slot) Offsets {
	e := c.Clock.Epoch(s)
	for _, f := range c.Forks {
		if f.Name == "gloas" && f.Epoch <= e {
			return c.Gloas
		}
	}
	return c.Before
}

// Due returns the moment in a slot that an offset stands for, rounded down to a millisecond as the
// specification does.
func (c Chain) Due(s cluster.Slot, at BasisPoints) time.Time {
	ms := uint64(at) * uint64(c.Clock.SlotDuration.Milliseconds()) / 10000
	return c.Clock.Start(s).Add(time.Duration(ms) * time.Millisecond)
}

// Domain is the signature domain of an epoch. Voluntary exits have one for all epochs: ExitDomain.
func (c Chain) Domain(kind cluster.DomainType, e cluster.Epoch) cluster.Root {
	return cluster.Domain(kind, c.ForkAt(e).Current, c.Genesis.ValidatorsRoot)
}

// ExitDomain is the domain of voluntary exits, which is Capella's for ever since Deneb (EIP-7044).
func (c Chain) ExitDomain() cluster.Root {
	return cluster.Domain(cluster.DomainType{4}, c.Capella, c.Genesis.ValidatorsRoot)
}

// Chain returns the chain's parameters; they are asked for once.
func (c *Client) Chain(ctx context.Context) (Chain, error) {
	c.mu.Lock()
	have := c.chain
	c.mu.Unlock()
	if have != nil {
		return *have, nil
	}
	ch, err := first(ctx, c, "chain config", needChain, c.fetchChain)
	if err != nil {
		return Chain{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chain == nil {
		c.chain = &ch
	}
	return *c.chain, nil
}

func (c *Client) genesis(ctx context.Context, e *endpoint) (Genesis, *Error) {
	var g struct {
		Time num                 `json:"genesis_time"`
		Root cluster.Root        `json:"genesis_validators_root"`
		Fork cluster.ForkVersion `json:"genesis_fork_version"`
	}
	if err := c.getJSON(ctx, e, "genesis", "/eth/v1/beacon/genesis", nil, &g); err != nil {
		return Genesis{}, err
	}
	if g.Time == 0 || g.Time > 1<<40 {
		return Genesis{}, e.malformed("genesis", fmt.Errorf("the genesis time %d is no time", g.Time))
	}
	return Genesis{time.Unix(int64(g.Time), 0).UTC(), g.Root, g.Fork}, nil
}

func (c *Client) fetchChain(ctx context.Context, e *endpoint) (Chain, *Error) {
	g, err := c.genesis(ctx, e)
	if err != nil {
		return Chain{}, err
	}
	if cause := c.accept(g); cause != nil {
		return Chain{}, &Error{Op: "genesis", Endpoint: e.name, Kind: KindWrongNetwork, cause: cause}
	}
	config := map[string]json.RawMessage{}
	if err := c.getJSON(ctx, e, "spec", "/eth/v1/config/spec", nil, &config); err != nil {
		return Chain{}, err
	}
	var schedule []struct {
		Previous cluster.ForkVersion `json:"previous_version"`
		Current  cluster.ForkVersion `json:"current_version"`
		Epoch    num                 `json:"epoch"`
	}
	if err := c.getJSON(ctx, e, "fork schedule", "/eth/v1/config/fork_schedule", nil, &schedule); err != nil {
		return Chain{}, err
	}
	ch, cause := readConfig(config)
	if cause != nil {
		return Chain{}, e.malformed("spec", cause)
	}
	ch.Genesis, ch.Clock.Genesis = g, g.Time
	if len(schedule) == 0 || len(schedule) > 64 {
		return Chain{}, e.malformed("fork schedule", fmt.Errorf("it has %d entries", len(schedule)))
	}
	names := forkNames(config)
	for _, f := range schedule {
		if uint64(f.Epoch) == ^uint64(0) {
			continue // not set yet
		}
		ch.Forks = append(ch.Forks, Fork{cluster.Epoch(f.Epoch), f.Previous, f.Current, names[f.Current]})
	}
	slices.SortStableFunc(ch.Forks, func(a, b Fork) int {
		switch {
		case a.Epoch < b.Epoch:
			return -1
		case a.Epoch > b.Epoch:
			return 1
		}
		return 0
	})
	if len(ch.Forks) == 0 || ch.Forks[0].Epoch != 0 {
		return Chain{}, e.malformed("fork schedule", errors.New("no fork is current at epoch 0"))
	}
	return ch, nil
}

// text returns a value of the config, "" when it is missing or isn't a single value.
func text(config map[string]json.RawMessage, key string) string {
	var s string
	if json.Unmarshal(config[key], &s) == nil {
		return s
	}
	var n json.Number
	if json.Unmarshal(config[key], &n) == nil {
		return n.String()
	}
	return ""
}

func number(config map[string]json.RawMessage, key string, def, low, high uint64) (uint64, error) {
	if _, ok := config[key]; !ok && def != 0 {
		return def, nil
	}
	v, err := strconv.ParseUint(text(config, key), 10, 64)
	if err != nil || v < low || v > high {
		return 0, fmt.Errorf("%s is %q, want a number from %d to %d", key, printable(text(config, key), 40), low, high)
	}
	return v, nil
}

func readConfig(config map[string]json.RawMessage) (Chain, error) {
	var ch Chain
	var errs []error
	take := func(key string, def, low, high uint64) uint64 {
		v, err := number(config, key, def, low, high)
		errs = append(errs, err)
		return v
	}
	var ms uint64
	if _, ok := config["SLOT_DURATION_MS"]; ok {
		ms = take("SLOT_DURATION_MS", 0, 10, 3_600_000)
	} else {
		ms = take("SECONDS_PER_SLOT", 0, 1, 3600) * 1000
	}
	ch.Clock.SlotDuration = time.Duration(ms) * time.Millisecond
	ch.Clock.SlotsPerEpoch = take("SLOTS_PER_EPOCH", 0, 1, 1<<16)
	offsets := func(suffix string, early, late uint64) Offsets {
		bps := func(key string, def uint64) BasisPoints { return BasisPoints(take(key+suffix, def, 1, 9999)) }
		return Offsets{
			Attestation: bps("ATTESTATION_DUE_BPS", early), Aggregate: bps("AGGREGATE_DUE_BPS", late),
			SyncMessage: bps("SYNC_MESSAGE_DUE_BPS", early), Contribution: bps("CONTRIBUTION_DUE_BPS", late),
		}
	}
	ch.Before = offsets("", 3333, 6667)
	ch.Gloas = offsets("_GLOAS", 2500, 5000)
	if err := ch.Capella.UnmarshalText([]byte(text(config, "CAPELLA_FORK_VERSION"))); err != nil {
		errs = append(errs, fmt.Errorf("CAPELLA_FORK_VERSION: %w", err))
	}
	return ch, errors.Join(errs...)
}

// forkNames maps fork versions to the names that the config has for them. Epochs aren't taken from
// there: the schedule speaks for them.
func forkNames(config map[string]json.RawMessage) map[cluster.ForkVersion]string {
	out := map[cluster.ForkVersion]string{}
	for key := range config {
		name, ok := strings.CutSuffix(key, "_FORK_VERSION")
		var v cluster.ForkVersion
		if !ok || v.UnmarshalText([]byte(text(config, key))) != nil {
			continue
		}
		name = strings.ToLower(name)
		if name == "genesis" {
			name = "phase0"
		}
		out[v] = name
	}
	return out
}

// BlockRoot returns the root of a block: id is "head", "genesis", "finalized", a slot or a 0x-root.
// KindNotFound means that there is none.
func (c *Client) BlockRoot(ctx context.Context, id string) (cluster.Root, error) {
	op := "block root of " + printable(id, 70)
	return first(ctx, c, op, needChain, func(ctx context.Context, e *endpoint) (cluster.Root, *Error) {
		var out struct {
			Root *cluster.Root `json:"root"`
		}
		a, err := c.do(ctx, e, request{op: op, method: http.MethodGet, path: "/eth/v1/beacon/blocks/" + id + "/root"})
		if err != nil {
			return cluster.Root{}, err
		}
		if _, err := a.open(e, op, &out); err != nil {
			return cluster.Root{}, err
		}
		if out.Root == nil {
			return cluster.Root{}, e.malformed(op, errors.New("the answer holds no root"))
		}
		return *out.Root, nil
	})
}
