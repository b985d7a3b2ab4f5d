// Package sched knows when duties are due and says so: the duty table turns types into times from
// the configuration that the beacon node serves, and the scheduler walks through the slots, asks
// for the duties of an epoch and the next one, asks again when the chain's shuffling changed, and
// calls out each duty once.
//
// The table is a value without state; it reads no clock. The scheduler is one loop that owns all it
// knows; Run blocks until its context ends and returns after every goroutine it started has ended.
// It calls back from that loop, so a callback must not block. It never signs, votes or sends.
package sched

import (
	"errors"
	"fmt"
	"math"
	"time"

	"app.provost/cluster"
)

// BasisPoints is a part of a slot: ten thousand are the whole slot.
type BasisPoints uint64

// Never is the epoch of a fork that has no date.
const Never = cluster.Epoch(math.MaxUint64)

// Spec is what the table needs of a chain's configuration. Due times come in basis points; from
// GloasEpoch on the second set of them counts.
type Spec struct {
	Clock cluster.SlotClock

	AttestationDue  BasisPoints
	AggregateDue    BasisPoints
	SyncMessageDue  BasisPoints
	ContributionDue BasisPoints

	GloasEpoch           cluster.Epoch
	GloasAttestationDue  BasisPoints
	GloasAggregateDue    BasisPoints
	GloasSyncMessageDue  BasisPoints
	GloasContributionDue BasisPoints
	PayloadDue           BasisPoints // the proposer's payload must be out
}

// WithDefaults fills what a beacon node left out with the values of the consensus specification.
func (s Spec) WithDefaults() Spec {
	for _, d := range []struct {
		at    *BasisPoints
		value BasisPoints
	}{
		{&s.AttestationDue, 3333}, {&s.AggregateDue, 6667}, {&s.SyncMessageDue, 3333}, {&s.ContributionDue, 6667},
		{&s.GloasAttestationDue, 2500}, {&s.GloasAggregateDue, 5000}, {&s.GloasSyncMessageDue, 2500}, {&s.GloasContributionDue, 5000},
		{&s.PayloadDue, 5000},
	} {
		if *d.at == 0 {
			*d.at = d.value
		}
	}
	return s
}

func (s Spec) check() error {
	switch {
	case s.Clock.SlotDuration < time.Millisecond || s.Clock.SlotDuration%time.Millisecond != 0:
		return fmt.Errorf("slots of %s: want whole milliseconds", s.Clock.SlotDuration)
	case s.Clock.SlotDuration > time.Hour:
		return fmt.Errorf("slots of %s: want at most an hour", s.Clock.SlotDuration)
	case s.Clock.SlotsPerEpoch == 0 || s.Clock.SlotsPerEpoch > 1<<16:
		return fmt.Errorf("%d slots in an epoch: want 1 to 65536", s.Clock.SlotsPerEpoch)
	case s.Clock.Genesis.IsZero():
		return errors.New("there is no genesis time")
	}
	for _, bp := range []BasisPoints{s.AttestationDue, s.AggregateDue, s.SyncMessageDue, s.ContributionDue, s.GloasAttestationDue,
		s.GloasAggregateDue, s.GloasSyncMessageDue, s.GloasContributionDue, s.PayloadDue} {
		if bp == 0 || bp > 10_000 {
			return fmt.Errorf("a duty is due at %d basis points of the slot: want 1 to 10000", bp)
		}
	}
	return nil
}

// Trigger says what begins a duty. The zero value is nothing: such duties begin elsewhere.
type Trigger string

// The triggers.
const (
	AtSlotStart       Trigger = "slot_start"
	AtAttestationDue  Trigger = "attestation_due" // or earlier, when the slot's block became head
	AtAggregateDue    Trigger = "aggregate_due"
	AtSyncMessageDue  Trigger = "sync_message_due"
	AtContributionDue Trigger = "contribution_due"
	AtLastSlot        Trigger = "last_slot_of_epoch"
)

// Lifetime says how long messages of a duty are taken. The zero value is for ever.
type Lifetime string

// The lifetimes, counted from the start of the slot; a twelfth of a slot comes on top.
const (
	ForThird     Lifetime = "third_of_slot"
	ForSlot      Lifetime = "slot"
	ForEpoch     Lifetime = "epoch"
	ForTwoEpochs Lifetime = "two_epochs"
)

// Part is one signature that a duty needs of each validator.
type Part struct {
	Name   string
	Domain cluster.DomainType
	Gloas  bool // only from the Gloas fork on
}

// Row is what a duty type means.
type Row struct {
	Type     cluster.DutyType
	Trigger  Trigger
	OnHead   bool // the head event of the slot brings it forward
	Agree    bool // the nodes agree on a value first
	OwnValue bool // agreement begins with the own value; otherwise each node takes part without one
	Partials bool // partial signatures are exchanged while a node runs
	Lifetime Lifetime
	Parts    []Part
}

var rows = []Row{
	{Type: cluster.DutyProposer, Trigger: AtSlotStart, Agree: true, Partials: true, Lifetime: ForThird,
		Parts: []Part{{Name: "block"}, {Name: "execution_payload_envelope", Domain: cluster.DomainType{0x0b}, Gloas: true}}},
	{Type: cluster.DutyAttester, Trigger: AtAttestationDue, OnHead: true, Agree: true, Partials: true, Lifetime: ForEpoch,
		Parts: []Part{{Name: "attestation", Domain: cluster.DomainType{1}}}},
	{Type: cluster.DutyExit, Partials: true, Parts: []Part{{Name: "voluntary_exit", Domain: cluster.DomainType{4}}}},
	{Type: cluster.DutyBuilderRegistration, Partials: true, Parts: []Part{{Name: "registration", Domain: cluster.DomainApplicationBuilder}}},
	{Type: cluster.DutyRandao, Trigger: AtSlotStart, Partials: true, Lifetime: ForThird, Parts: []Part{{Name: "randao", Domain: cluster.DomainType{2}}}},
	{Type: cluster.DutyPrepareAggregator, Trigger: AtSlotStart, Partials: true, Lifetime: ForTwoEpochs, Parts: []Part{{Name: "selection_proof", Domain: cluster.DomainType{5}}}},
	{Type: cluster.DutyAggregator, Trigger: AtAggregateDue, Agree: true, OwnValue: true, Partials: true, Lifetime: ForEpoch,
		Parts: []Part{{Name: "aggregate_and_proof", Domain: cluster.DomainType{6}}}},
	{Type: cluster.DutySyncMessage, Trigger: AtSyncMessageDue, OnHead: true, Partials: true, Lifetime: ForSlot,
		Parts: []Part{{Name: "sync_message", Domain: cluster.DomainType{7}}}},
	{Type: cluster.DutyPrepareSyncContribution, Trigger: AtSlotStart, Partials: true, Lifetime: ForTwoEpochs,
		Parts: []Part{{Name: "sync_selection_proof", Domain: cluster.DomainType{8}}}},
	{Type: cluster.DutySyncContribution, Trigger: AtContributionDue, Agree: true, OwnValue: true, Partials: true, Lifetime: ForSlot,
		Parts: []Part{{Name: "contribution_and_proof", Domain: cluster.DomainType{9}}}},
	{Type: cluster.DutyInfoSync, Trigger: AtLastSlot, Agree: true, OwnValue: true, Lifetime: ForSlot},
}

// Rows returns the duty types that a running node may meet.
func Rows() []Row {
	out := make([]Row, len(rows))
	for i, r := range rows {
		r.Parts = append([]Part(nil), r.Parts...)
		out[i] = r
	}
	return out
}

func rowOf(t cluster.DutyType) (Row, bool) {
	for _, r := range rows {
		if r.Type == t {
			return r, true
		}
	}
	return Row{}, false
}

// Errors of Gate.
var (
	ErrUnknownType = errors.New("a running node has no such duty type")
	ErrFarFuture   = errors.New("the duty is more than two epochs ahead")
	ErrExpired     = errors.New("the duty's deadline has passed")
)

// Table turns duties into times. It is made by NewTable; the zero value knows no times.
type Table struct{ spec Spec }

// NewTable checks the configuration. Errors say what is wrong with it.
func NewTable(spec Spec) (Table, error) {
	if err := spec.check(); err != nil {
		return Table{}, fmt.Errorf("read the chain's configuration: %w", err)
	}
	return Table{spec}, nil
}

// Clock is the chain's clock.
func (t Table) Clock() cluster.SlotClock { return t.spec.Clock }

// Row is what a duty type means; false for types that a running node doesn't know.
func (t Table) Row(kind cluster.DutyType) (Row, bool) { return rowOf(kind) }

// Parts lists the signatures that the duty needs of each validator, by the fork of its slot.
func (t Table) Parts(d cluster.Duty) []Part {
	row, _ := rowOf(d.Type)
	var out []Part
	for _, p := range row.Parts {
		if !p.Gloas || t.gloas(d.Slot) {
			out = append(out, p)
		}
	}
	return out
}

func (t Table) gloas(s cluster.Slot) bool { return t.spec.Clock.Epoch(s) >= t.spec.GloasEpoch }

// after is a part of a slot in whole milliseconds, rounded down as the specification says.
func (t Table) after(bp BasisPoints) time.Duration {
	ms := uint64(t.spec.Clock.SlotDuration.Milliseconds())
	return time.Duration(uint64(bp)*ms/10_000) * time.Millisecond
}

// Due is when the duty begins at the latest.
func (t Table) Due(d cluster.Duty) time.Time {
	row, _ := rowOf(d.Type)
	start, gloas := t.spec.Clock.Start(d.Slot), t.gloas(d.Slot)
	pick := func(before, from BasisPoints) time.Time {
		if gloas {
			return start.Add(t.after(from))
		}
		return start.Add(t.after(before))
	}
	switch row.Trigger {
	case AtAttestationDue:
		return pick(t.spec.AttestationDue, t.spec.GloasAttestationDue)
	case AtAggregateDue:
		return pick(t.spec.AggregateDue, t.spec.GloasAggregateDue)
	case AtSyncMessageDue:
		return pick(t.spec.SyncMessageDue, t.spec.GloasSyncMessageDue)
	case AtContributionDue:
		return pick(t.spec.ContributionDue, t.spec.GloasContributionDue)
	default:
		return start
	}
}

// RoundsFrom is the moment from which agreement counts its rounds. All nodes must use the same, so
// until Gloas it is Charon's: a third of the slot for attestations, two thirds for aggregates and
// contributions, whatever the basis points say; the start of the slot for the rest.
func (t Table) RoundsFrom(d cluster.Duty) time.Time {
	start := t.spec.Clock.Start(d.Slot)
	switch {
	case d.Type == cluster.DutyAttester && !t.gloas(d.Slot):
		return start.Add(t.spec.Clock.SlotDuration / 3)
	case (d.Type == cluster.DutyAggregator || d.Type == cluster.DutySyncContribution) && !t.gloas(d.Slot):
		return start.Add(2 * t.spec.Clock.SlotDuration / 3)
	case d.Type == cluster.DutyAttester || d.Type == cluster.DutyAggregator || d.Type == cluster.DutySyncContribution:
		return t.Due(d)
	default:
		return start
	}
}

// Deadline is when everything about the duty is dropped; false means never.
func (t Table) Deadline(d cluster.Duty) (time.Time, bool) {
	slot := t.spec.Clock.SlotDuration
	epoch := slot * time.Duration(t.spec.Clock.SlotsPerEpoch)
	row, ok := rowOf(d.Type)
	var last time.Duration
	switch {
	case !ok:
		last = slot
	case row.Lifetime == ForThird:
		last = slot / 3
	case row.Lifetime == ForSlot:
		last = slot
	case row.Lifetime == ForEpoch:
		last = epoch
	case row.Lifetime == ForTwoEpochs:
		last = 2 * epoch
	default:
		return time.Time{}, false
	}
	return t.spec.Clock.Start(d.Slot).Add(last + slot/12), true
}

// Gate says whether a message about the duty may be looked at: errors are ErrUnknownType,
// ErrFarFuture or ErrExpired.
func (t Table) Gate(d cluster.Duty, now time.Time) error {
	if _, ok := rowOf(d.Type); !ok {
		return ErrUnknownType
	}
	slot, _ := t.spec.Clock.At(now) // slot 0 before genesis
	if t.spec.Clock.Epoch(d.Slot) > t.spec.Clock.Epoch(slot)+2 {
		return ErrFarFuture
	}
	if deadline, ok := t.Deadline(d); ok && !now.Before(deadline) {
		return ErrExpired
	}
	return nil
}
