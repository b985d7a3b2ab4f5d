package engine

import (
	"slices"
	"time"
)

// Sections of distributed validators. Rows are keyed by machine, cluster and the
// node that saw it: what nodes see differs, and the difference is worth seeing.
const (
	SecClusters   SectionName = "clusters"
	SecDuties     SectionName = "duties"
	SecValidators SectionName = "validators"
	SecPeers      SectionName = "peers"
	SecBeacons    SectionName = "beacons"
)

// ClusterRow is how one node of a cluster stands: its clock, quorum and duties.
type ClusterRow struct {
	Key      Key    `json:"key"`
	Name     string `json:"name"`
	Network  string `json:"network"`
	Practice string `json:"practice,omitempty"` // set on a practice chain
	// Slot, Epoch and their clock are null before the beacon node has told the genesis.
	Slot          *uint64    `json:"slot"`
	Epoch         *uint64    `json:"epoch"`
	SlotAt        *time.Time `json:"slot_at"` // start of Slot
	SlotS         *float64   `json:"slot_s"`
	SlotsPerEpoch *uint64    `json:"slots_per_epoch"`
	Nodes         int        `json:"nodes"`
	Threshold     int        `json:"threshold"` // partial signatures needed
	Quorum        int        `json:"quorum"`    // votes needed to agree: from the number of nodes alone
	PeersUp       *int       `json:"peers_up"`  // this node counted
	// Twins is how many copies of nodes with old or no protection it takes to bring about a slashable group signature: 2t-n.
	Twins int `json:"twins"`
	// Ready is Charon's reason for readiness: "ready", "beacon_node_down", "beacon_node_syncing", "insufficient_peers", "beacon_node_zero_peers", "beacon_node_far_behind", "unknown".
	Ready     string     `json:"ready"`
	SigningOK *bool      `json:"signing_ok"` // null: not known
	Why       string     `json:"why,omitempty"`
	Attester  DutyTotals `json:"attester"`
	Proposer  DutyTotals `json:"proposer"`
	Next      []NextDuty `json:"next"` // soonest first, at most a few
	Restart   Restart    `json:"restart"`
	Heads     *uint64    `json:"head_slot"`
	Since     time.Time  `json:"since"` // totals count from here
	// Counts are the duties that are over, by type; empty before the first.
	Counts []DutyCount `json:"counts,omitempty"`
	Seen   *time.Time  `json:"seen"` // when the node last told; an old one is shown as old
}

// DutyTotals counts duties that are over, since the node started.
type DutyTotals struct {
	Done     uint64  `json:"done"`     // group signature sent to a beacon node
	Missed   uint64  `json:"missed"`   // no group signature by the deadline
	Late     uint64  `json:"late"`     // sent after the time that the chain rewards
	Included *uint64 `json:"included"` // seen on chain; null when nobody looks
}

// DutyCount counts the duties of one type that are over at one node, since it started.
// Here a duty is that of all validators that have it in its slot, as in Charon's counts.
type DutyCount struct {
	Type    string            `json:"type"`
	Done    uint64            `json:"done"`
	Failed  uint64            `json:"failed"`            // for one validator or more
	Sent    uint64            `json:"sent"`              // to a beacon node, for one validator or more
	Reasons map[string]uint64 `json:"reasons,omitempty"` // of the failed, by Charon's code
	// Due counts the validators of duties that any node signed; Signed for how many of them each node did, by peer index.
	Due    uint64     `json:"signatures_due"`
	Signed []uint64   `json:"signed"`
	Round  *int       `json:"round"`             // of the newest one that was agreed on
	Leader *int       `json:"leader"`            // of that round: a peer index
	Delay  *Histogram `json:"delay_s,omitempty"` // of those sent: from the moment it was due
}

// Histogram counts values by size.
type Histogram struct {
	UpTo   []float64 `json:"up_to"`  // upper bounds, rising
	Counts []uint64  `json:"counts"` // as many as bounds, and one for what is above them all
	Sum    float64   `json:"sum"`    // of all values
}

// NewHistogram counts nothing yet.
func NewHistogram(upTo ...float64) Histogram {
	return Histogram{UpTo: upTo, Counts: make([]uint64, len(upTo)+1)}
}

// Add counts a value.
func (h *Histogram) Add(v float64) {
	i, _ := slices.BinarySearch(h.UpTo, v)
	h.Counts[i]++
	h.Sum += v
}

// Clone is a copy that shares no counts.
func (h Histogram) Clone() *Histogram {
	h.Counts = slices.Clone(h.Counts)
	return &h
}

// NextDuty is a duty that is known and not yet due.
type NextDuty struct {
	Type      string    `json:"type"` // "attester", "proposer"
	Slot      uint64    `json:"slot"`
	At        time.Time `json:"at"`
	Validator string    `json:"validator,omitempty"` // index or public key; of several the first
	Count     int       `json:"count"`
}

// DutyState is where a duty stands at a node.
type DutyState string

const (
	DutyKnown    DutyState = "known"    // scheduled
	DutyAgreeing DutyState = "agreeing" // nodes decide what to sign
	DutySigning  DutyState = "signing"  // decided; partial signatures are gathered
	DutySent     DutyState = "sent"     // the group signature was given to a beacon node
	DutyIncluded DutyState = "included" // seen on chain
	DutyMissed   DutyState = "missed"   // its deadline passed without one; Reason says why
)

// DutyRow is one duty of all validators that have it in its slot, at one node.
type DutyRow struct {
	Key        Key        `json:"key"` // ID is "attester/1234"
	Type       string     `json:"type"`
	Slot       uint64     `json:"slot"`
	Epoch      uint64     `json:"epoch"`
	At         time.Time  `json:"at"` // when it is due
	Deadline   *time.Time `json:"deadline"`
	Validators []string   `json:"validators"` // indices as text where known, else public keys
	State      DutyState  `json:"state"`
	Step       string     `json:"step,omitempty"` // the furthest step reached, in Charon's words
	Partials   []int      `json:"partials"`       // share indices (from 1) whose signatures came, of the validator with the fewest
	Need       int        `json:"need"`
	Round      *int       `json:"round"`            // of the agreement that decided
	DelayMS    *float64   `json:"delay_ms"`         // from the moment it was due to the group signature
	Reason     string     `json:"reason,omitempty"` // stable code, as Charon's
	Why        string     `json:"why,omitempty"`    // the same in words
	Detail     string     `json:"detail,omitempty"` // the last error behind it: which node or beacon node, and what it said
}

// ValidatorRow is one validator of a cluster.
type ValidatorRow struct {
	Key             Key        `json:"key"` // ID is the public key
	PubKey          string     `json:"pubkey"`
	Index           *uint64    `json:"index"`
	Status          string     `json:"status"` // in words: "not deposited", "pending", "queued", "active", "exiting", "exited", "slashed", "unknown"
	StatusWhy       string     `json:"status_why,omitempty"`
	ChainStatus     string     `json:"chain_status,omitempty"` // the same in the Beacon API's word: "active_ongoing"
	BalanceGwei     *uint64    `json:"balance_gwei"`
	ActivationEpoch *uint64    `json:"activation_epoch"` // null: none set
	ExitEpoch       *uint64    `json:"exit_epoch"`       // null: none set
	Attester        DutyTotals `json:"attester"`
	Proposer        DutyTotals `json:"proposer"`
	Next            *NextDuty  `json:"next"`
	FeeRecipient    string     `json:"fee_recipient,omitempty"`
	Withdrawal      string     `json:"withdrawal,omitempty"`
	GuardTarget     *uint64    `json:"guard_target_epoch"` // highest target epoch that this node's protection knows
	GuardSlot       *uint64    `json:"guard_block_slot"`
}

// PeerRow is one node of the cluster, as another sees it.
type PeerRow struct {
	Key         Key        `json:"key"` // Node is who looks; ID is the peer's name
	Name        string     `json:"name"`
	Index       int        `json:"index"` // peer index, from 0
	Share       int        `json:"share"` // share index, from 1
	Self        bool       `json:"self"`
	State       string     `json:"state"` // up, slow, down, unknown
	Since       *time.Time `json:"since"`
	RTTMS       *float64   `json:"rtt_ms"`
	ClockMS     *float64   `json:"clock_offset_ms"`
	PartialsPct *float64   `json:"partials_percent"` // of the duties that were due, in the last hour
	Late        *uint64    `json:"late"`             // partial signatures that came after the threshold was there
	Version     string     `json:"version,omitempty"`
	Client      string     `json:"client,omitempty"`
	LockHash    string     `json:"lock_hash,omitempty"`
	LockSame    *bool      `json:"lock_same"`
	Address     string     `json:"address,omitempty"`
	Problem     string     `json:"problem,omitempty"`
	Nickname    string     `json:"nickname,omitempty"`
	StartedAt   *time.Time `json:"started_at,omitempty"` // of its process, in its own words
	Builder     *bool      `json:"builder,omitempty"`    // whether it takes blocks of builders
	Supported   *bool      `json:"supported,omitempty"`  // whether Version is one that this node works with
	LostPings   *int       `json:"lost_pings,omitempty"` // in a row
	Pings       *Histogram `json:"pings_s,omitempty"`    // round trips since this node started
	// Copies are the programs that run with the peer's key at the same time, none while it runs once;
	// of the node that looks itself they are the others.
	Copies []PeerCopy `json:"copies,omitempty"`
}

// PeerCopy is one of several programs that run with one node key.
type PeerCopy struct {
	Address   string     `json:"address,omitempty"`    // that it is reached at, or came from
	StartedAt *time.Time `json:"started_at,omitempty"` // in its own words
	SeenBy    []string   `json:"seen_by,omitempty"`    // nodes that say so, where this one can't see it itself
	Note      string     `json:"note,omitempty"`       // what shows that it runs, where nobody saw it
}

// BeaconRow is one beacon node, as a node of the cluster sees it.
type BeaconRow struct {
	Key       Key      `json:"key"`     // ID is the address
	Address   string   `json:"address"` // without credentials
	State     string   `json:"state"`   // up, syncing, optimistic, wrong network, down
	Version   string   `json:"version,omitempty"`
	HeadSlot  *uint64  `json:"head_slot"`
	Behind    *uint64  `json:"behind_slots"`
	Peers     *uint64  `json:"peers"`
	LatencyMS *float64 `json:"latency_ms"`
	Problem   string   `json:"problem,omitempty"`
}
