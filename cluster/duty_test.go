package cluster

import (
	"testing"
	"time"
)

func TestSlotClock(t *testing.T) {
	c := SlotClock{Genesis: time.Unix(1606824023, 0), SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}
	for _, x := range []struct {
		after time.Duration
		slot  Slot
		ok    bool
	}{{-time.Nanosecond, 0, false}, {0, 0, true}, {12*time.Second - 1, 0, true}, {12 * time.Second, 1, true}, {5 * 365 * 24 * time.Hour, 13140000, true}} {
		if s, ok := c.At(c.Genesis.Add(x.after)); s != x.slot || ok != x.ok {
			t.Errorf("after %s: slot %d %v, want %d %v", x.after, s, ok, x.slot, x.ok)
		}
	}
	if got := c.Start(13140000).Sub(c.Genesis); got != 5*365*24*time.Hour {
		t.Errorf("slot 13140000 starts %s after genesis", got)
	}
	if c.Epoch(31) != 0 || c.Epoch(32) != 1 || c.First(2) != 64 {
		t.Error("epochs")
	}
}

func TestDutyTypes(t *testing.T) {
	if DutyType(0).Valid() || DutyBuilderProposer.Valid() || DutyType(14).Valid() || !DutyAttester.Valid() {
		t.Error("a node takes known types only")
	}
	if (Duty{7, DutyAttester}).String() != "attester/7" || DutyType(99).String() != "duty_99" {
		t.Error("names")
	}
}
