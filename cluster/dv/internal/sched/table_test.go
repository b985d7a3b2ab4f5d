package sched

import (
	"errors"
	"testing"
	"time"

	"app.provost/cluster"
)

var genesis = time.Unix(1606824023, 0)

func mainnet(t testing.TB, gloas cluster.Epoch) Table {
	t.Helper()
	table, err := NewTable(Spec{Clock: cluster.SlotClock{Genesis: genesis, SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}, GloasEpoch: gloas}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestTableTimes(t *testing.T) {
	table := mainnet(t, Never)
	const slot = 100
	for _, x := range []struct {
		kind        cluster.DutyType
		due, rounds time.Duration // after the start of the slot
		deadline    time.Duration // 0: never
	}{
		{cluster.DutyProposer, 0, 0, 5 * time.Second},
		{cluster.DutyRandao, 0, 0, 5 * time.Second},
		{cluster.DutyAttester, 3999 * time.Millisecond, 4 * time.Second, 385 * time.Second},
		{cluster.DutyAggregator, 8000 * time.Millisecond, 8 * time.Second, 385 * time.Second},
		{cluster.DutySyncMessage, 3999 * time.Millisecond, 0, 13 * time.Second},
		{cluster.DutySyncContribution, 8000 * time.Millisecond, 8 * time.Second, 13 * time.Second},
		{cluster.DutyPrepareAggregator, 0, 0, 769 * time.Second},
		{cluster.DutyPrepareSyncContribution, 0, 0, 769 * time.Second},
		{cluster.DutyInfoSync, 0, 0, 13 * time.Second},
		{cluster.DutyExit, 0, 0, 0},
		{cluster.DutyBuilderRegistration, 0, 0, 0},
	} {
		d := cluster.Duty{Slot: slot, Type: x.kind}
		start := genesis.Add(slot * 12 * time.Second)
		if got := table.Due(d).Sub(start); got != x.due {
			t.Errorf("%s is due after %s, want %s", d, got, x.due)
		}
		if got := table.RoundsFrom(d).Sub(start); got != x.rounds {
			t.Errorf("%s counts rounds after %s, want %s", d, got, x.rounds)
		}
		at, ends := table.Deadline(d)
		if ends != (x.deadline != 0) || ends && at.Sub(start) != x.deadline {
			t.Errorf("%s ends after %s (%v), want %s", d, at.Sub(start), ends, x.deadline)
		}
	}
}

// The fork of the slot's own epoch picks the times, also at the boundary.
func TestTableAtGloas(t *testing.T) {
	table := mainnet(t, 10)
	before, from := cluster.Slot(319), cluster.Slot(320)
	for _, x := range []struct {
		kind    cluster.DutyType
		slot    cluster.Slot
		due     time.Duration
		parts   int
		rounds  time.Duration
		partsIn string
	}{
		{cluster.DutyAttester, before, 3999 * time.Millisecond, 1, 4 * time.Second, "attestation"},
		{cluster.DutyAttester, from, 3000 * time.Millisecond, 1, 3 * time.Second, "attestation"},
		{cluster.DutyAggregator, from, 6000 * time.Millisecond, 1, 6 * time.Second, "aggregate_and_proof"},
		{cluster.DutySyncMessage, from, 3000 * time.Millisecond, 1, 0, "sync_message"},
		{cluster.DutySyncContribution, from, 6000 * time.Millisecond, 1, 6 * time.Second, "contribution_and_proof"},
		{cluster.DutyProposer, before, 0, 1, 0, "block"},
		{cluster.DutyProposer, from, 0, 2, 0, "block"},
	} {
		d := cluster.Duty{Slot: x.slot, Type: x.kind}
		start := table.Clock().Start(x.slot)
		if got := table.Due(d).Sub(start); got != x.due {
			t.Errorf("%s is due after %s, want %s", d, got, x.due)
		}
		if got := table.RoundsFrom(d).Sub(start); got != x.rounds {
			t.Errorf("%s counts rounds after %s, want %s", d, got, x.rounds)
		}
		if parts := table.Parts(d); len(parts) != x.parts || parts[0].Name != x.partsIn {
			t.Errorf("%s needs %v, want %d signatures", d, parts, x.parts)
		}
	}
}

// Short slots lose nothing to rounding but the specification's own whole milliseconds.
func TestTableShortSlots(t *testing.T) {
	table, err := NewTable(Spec{Clock: cluster.SlotClock{Genesis: genesis, SlotDuration: 2 * time.Second, SlotsPerEpoch: 4}, GloasEpoch: Never}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	d := cluster.Duty{Slot: 3, Type: cluster.DutyAttester}
	if got := table.Due(d).Sub(table.Clock().Start(3)); got != 666*time.Millisecond {
		t.Errorf("due after %s", got)
	}
	if at, ok := table.Deadline(d); !ok || at.Sub(table.Clock().Start(3)) != 8*time.Second+2*time.Second/12 {
		t.Errorf("ends after %s", at.Sub(table.Clock().Start(3)))
	}
}

func TestGate(t *testing.T) {
	table := mainnet(t, Never)
	now := table.Clock().Start(320).Add(time.Second) // epoch 10
	for _, x := range []struct {
		d    cluster.Duty
		want error
	}{
		{cluster.Duty{Slot: 320, Type: cluster.DutyAttester}, nil},
		{cluster.Duty{Slot: 320, Type: cluster.DutyProposer}, nil},
		{cluster.Duty{Slot: 319, Type: cluster.DutyProposer}, ErrExpired},
		{cluster.Duty{Slot: 288, Type: cluster.DutyAttester}, ErrExpired},
		{cluster.Duty{Slot: 289, Type: cluster.DutyAttester}, nil},
		{cluster.Duty{Slot: 13*32 - 1, Type: cluster.DutyAttester}, nil},
		{cluster.Duty{Slot: 13 * 32, Type: cluster.DutyAttester}, ErrFarFuture},
		{cluster.Duty{Slot: 1, Type: cluster.DutyExit}, nil},
		{cluster.Duty{Slot: 13 * 32, Type: cluster.DutyExit}, ErrFarFuture},
		{cluster.Duty{Slot: 1<<64 - 1, Type: cluster.DutyAttester}, ErrFarFuture},
		{cluster.Duty{Slot: 320, Type: cluster.DutySignature}, ErrUnknownType},
		{cluster.Duty{Slot: 320, Type: cluster.DutyBuilderProposer}, ErrUnknownType},
		{cluster.Duty{Slot: 320}, ErrUnknownType},
		{cluster.Duty{Slot: 320, Type: 99}, ErrUnknownType},
	} {
		if err := table.Gate(x.d, now); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", x.d, err, x.want)
		}
	}
	if err := table.Gate(cluster.Duty{Slot: 0, Type: cluster.DutyAttester}, genesis.Add(-time.Hour)); err != nil {
		t.Errorf("before genesis: %v", err)
	}
}

func TestTableRefuses(t *testing.T) {
	good := Spec{Clock: cluster.SlotClock{Genesis: genesis, SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}}.WithDefaults()
	for name, spoil := range map[string]func(*Spec){
		"no slot time":    func(s *Spec) { s.Clock.SlotDuration = 0 },
		"odd slot time":   func(s *Spec) { s.Clock.SlotDuration = time.Second + time.Microsecond },
		"long slots":      func(s *Spec) { s.Clock.SlotDuration = 48 * time.Hour },
		"no epochs":       func(s *Spec) { s.Clock.SlotsPerEpoch = 0 },
		"no genesis":      func(s *Spec) { s.Clock.Genesis = time.Time{} },
		"after the slot":  func(s *Spec) { s.AttestationDue = 10_001 },
		"nothing is due":  func(s *Spec) { s.GloasAggregateDue = 0 },
		"payload too big": func(s *Spec) { s.PayloadDue = 1 << 63 },
	} {
		s := good
		spoil(&s)
		if _, err := NewTable(s); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestRowsAreWhole(t *testing.T) {
	for _, r := range Rows() {
		if !r.Type.Valid() {
			t.Errorf("%v isn't a type of a running node", r.Type)
		}
		if r.Partials != (len(r.Parts) > 0) {
			t.Errorf("%s: partial signatures %v, but %d signatures", r.Type, r.Partials, len(r.Parts))
		}
	}
}
