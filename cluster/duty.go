package cluster

import (
	"fmt"
	"time"
)

// DutyType numbers what a validator must sign, as Charon's wire protocol does.
// The zero value is no duty.
type DutyType int32

// The types of duties. Numbers are those of the wire and never change.
const (
	DutyProposer                DutyType = 1
	DutyAttester                DutyType = 2
	DutySignature               DutyType = 3 // key generation only
	DutyExit                    DutyType = 4
	DutyBuilderProposer         DutyType = 5 // refused: blinded blocks are DutyProposer
	DutyBuilderRegistration     DutyType = 6
	DutyRandao                  DutyType = 7
	DutyPrepareAggregator       DutyType = 8
	DutyAggregator              DutyType = 9
	DutySyncMessage             DutyType = 10
	DutyPrepareSyncContribution DutyType = 11
	DutySyncContribution        DutyType = 12
	DutyInfoSync                DutyType = 13
)

var dutyNames = map[DutyType]string{
	DutyProposer: "proposer", DutyAttester: "attester", DutySignature: "signature", DutyExit: "exit", DutyBuilderProposer: "builder_proposer",
	DutyBuilderRegistration: "builder_registration", DutyRandao: "randao", DutyPrepareAggregator: "prepare_aggregator", DutyAggregator: "aggregator",
	DutySyncMessage: "sync_message", DutyPrepareSyncContribution: "prepare_sync_contribution", DutySyncContribution: "sync_contribution", DutyInfoSync: "info_sync",
}

// Valid tells whether the type is known and may be used by a running node.
func (t DutyType) Valid() bool {
	_, ok := dutyNames[t]
	return ok && t != DutyBuilderProposer
}

// String is the field's name of the type, as in metrics: "attester".
func (t DutyType) String() string {
	if s, ok := dutyNames[t]; ok {
		return s
	}
	return fmt.Sprintf("duty_%d", int32(t))
}

// Duty is what is due in a slot for all validators of the cluster that have it:
// one agreement covers them all.
type Duty struct {
	Slot Slot
	Type DutyType
}

// String is "attester/1234".
func (d Duty) String() string { return fmt.Sprintf("%s/%d", d.Type, d.Slot) }

// ValidatorIndex numbers the validators of a chain.
type ValidatorIndex uint64

// Assignment is one validator's part in a duty, as a beacon node told it. Attesters sit in a
// committee; for proposers only the first three fields count.
type Assignment struct {
	PubKey           PubKey
	Validator        ValidatorIndex
	Slot             Slot
	Committee        uint64 // index of the committee in the slot
	CommitteeLength  uint64
	CommitteesAtSlot uint64
	Position         uint64 // the validator's place in its committee
}

// UnsignedDataSet is what nodes agree on for a duty: per validator the bytes that
// are to be signed, exactly as they travel.
type UnsignedDataSet map[PubKey][]byte

// ParSignedData is one node's part of a signature: the signed object as it travels,
// the partial signature within it, and whose share made it.
type ParSignedData struct {
	Data      []byte
	Signature Signature
	Share     ShareIndex
}

// ParSignedDataSet holds one node's partial signatures of a duty, per validator.
type ParSignedDataSet map[PubKey]ParSignedData

// SignedData is what a validator of the cluster signed: the object as it travels
// between nodes, and the group's signature over it.
type SignedData struct {
	Data      []byte
	Signature Signature
}

// SignedDataSet holds the group's signatures of a duty, per validator.
type SignedDataSet map[PubKey]SignedData

// SlotClock turns time into slots and back. It is a value; it reads no clock.
type SlotClock struct {
	Genesis       time.Time
	SlotDuration  time.Duration // whole milliseconds
	SlotsPerEpoch uint64
}

// Start is the first moment of a slot.
func (c SlotClock) Start(s Slot) time.Time {
	// Multiplied in seconds and milliseconds apart: slots of centuries fit.
	ms := c.SlotDuration.Milliseconds()
	return c.Genesis.Add(time.Duration(uint64(s)*uint64(ms)) * time.Millisecond)
}

// At is the slot of a moment; false before genesis.
func (c SlotClock) At(t time.Time) (Slot, bool) {
	since := t.Sub(c.Genesis)
	if since < 0 || c.SlotDuration <= 0 {
		return 0, false
	}
	return Slot(since / c.SlotDuration), true
}

// Epoch is the epoch of a slot.
func (c SlotClock) Epoch(s Slot) Epoch { return Epoch(uint64(s) / max(c.SlotsPerEpoch, 1)) }

// First is the first slot of an epoch.
func (c SlotClock) First(e Epoch) Slot { return Slot(uint64(e) * max(c.SlotsPerEpoch, 1)) }
