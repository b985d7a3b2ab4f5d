package simnet

import (
	"slices"
	"strings"
	"time"

	"app.provost/cluster"
)

// Status is the account of a practice chain. Counts run from genesis.
type Status struct {
	Schema   string              `json:"schema"` // provost.simnet/1
	Simnet   bool                `json:"simnet"` // always true
	Notice   string              `json:"notice"`
	Version  string              `json:"version"`
	Fork     string              `json:"fork"`
	Network  cluster.ForkVersion `json:"genesis_fork_version"`
	Root     cluster.Root        `json:"genesis_validators_root"`
	Genesis  time.Time           `json:"genesis_time"`
	SlotMS   int64               `json:"slot_ms"`
	PerEpoch uint64              `json:"slots_per_epoch"`

	Slot           *uint64    `json:"slot"` // null before genesis
	Epoch          *uint64    `json:"epoch"`
	Head           HeadStatus `json:"head"`
	JustifiedEpoch uint64     `json:"justified_epoch"`
	FinalizedEpoch uint64     `json:"finalized_epoch"`

	Slots    uint64 `json:"slots"`    // that have begun
	Blocks   uint64 `json:"blocks"`   // that became head
	Orphaned uint64 `json:"orphaned"` // of these, thrown out by a reorg
	Exits    uint64 `json:"exits"`

	Duties         Duties      `json:"duties"`
	Rewards        Rewards     `json:"rewards"`
	Misses         []Miss      `json:"misses"` // the newest, oldest first
	Reasons        []Reason    `json:"missed_reasons"`
	Refusals       []Reason    `json:"refused"` // messages that weren't accepted, by reason
	Slashable      []Evidence  `json:"slashable"`
	SlashableTotal uint64      `json:"slashable_total"`
	Validators     []ValStatus `json:"validators"`
	Faults         []Fault     `json:"faults"`
}

// HeadStatus is the newest block.
type HeadStatus struct {
	Slot uint64       `json:"slot"`
	Root cluster.Root `json:"root"`
}

// Duties are counted by kind.
type Duties struct {
	Attester Count `json:"attester"`
	Proposer Count `json:"proposer"`
}

// Count is what became of duties. Expected are those whose slot has begun; a duty that is neither
// included nor missed is pending: its window hasn't closed.
type Count struct {
	Expected uint64 `json:"expected"`
	Included uint64 `json:"included"`
	Missed   uint64 `json:"missed"`
	Pending  uint64 `json:"pending"`
}

// Rewards say how good the included votes were that have been judged, by the chain's own flags.
type Rewards struct {
	Votes           uint64   `json:"votes"`
	TimelySource    uint64   `json:"timely_source"`
	TimelyTarget    uint64   `json:"timely_target"`
	TimelyHead      uint64   `json:"timely_head"`
	MeanInclusion   *float64 `json:"mean_inclusion_slots"` // from a vote to its block; 1 is best; null without votes
	inclusionInSlot uint64
}

// Miss is one missed duty.
type Miss struct {
	Duty      string         `json:"duty"` // attester, proposer
	Slot      uint64         `json:"slot"`
	Validator uint64         `json:"validator"`
	PubKey    cluster.PubKey `json:"pubkey"`
	Reason    string         `json:"reason"`
}

// Reason counts something by why it happened.
type Reason struct {
	Duty   string `json:"duty"`
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// Evidence is two signed messages that a real chain would slash for.
type Evidence struct {
	Kind      string         `json:"kind"` // double_vote, surround_vote, double_proposal
	Validator uint64         `json:"validator"`
	PubKey    cluster.PubKey `json:"pubkey"`
	At        time.Time      `json:"at"`
	First     string         `json:"first"`
	Second    string         `json:"second"`
}

// ValStatus is one validator's account.
type ValStatus struct {
	Index    uint64         `json:"index"`
	PubKey   cluster.PubKey `json:"pubkey"`
	Status   string         `json:"status"` // the Beacon API's word
	Attester Count          `json:"attester"`
	Proposer Count          `json:"proposer"`
}

const notice = "practice chain: nothing here is worth anything, and no real network knows of it"

// tally counts. It is guarded by the chain's lock.
type tally struct {
	Slots, Blocks, Orphaned, Exits uint64
	attester, proposer             kindTally
	rewards                        Rewards
	misses                         []Miss
	missed, refusals               reasons
	evidence                       []Evidence
	evidenceTotal                  uint64
}

func newTally(validators int) tally {
	return tally{attester: kindTally{each: make([]Count, validators)}, proposer: kindTally{each: make([]Count, validators)}, missed: reasons{}, refusals: reasons{}}
}

type kindTally struct {
	all  Count
	each []Count
}

func (k *kindTally) expected(v valIndex) { k.all.Expected++; k.each[v].Expected++ }
func (k *kindTally) missed(v valIndex)   { k.all.Missed++; k.each[v].Missed++ }
func (k *kindTally) included(v valIndex, by int) {
	k.all.Included += uint64(by) // two's complement: adding -1 takes one away
	k.each[v].Included += uint64(by)
}

func (c Count) settled() Count {
	c.Pending = c.Expected - min(c.Expected, c.Included+c.Missed)
	return c
}

// reasons count by duty and reason, with numbers taken out so that a reason comes once. Foreign text
// doesn't get in; there are few of them.
type reasons map[[2]string]uint64

func (r reasons) add(duty, text string) {
	key := [2]string{duty, generalise(text)}
	if _, ok := r[key]; !ok && len(r) >= 64 && text != nothingCame[duty] {
		key[1] = "other reasons"
	}
	r[key]++
}

func (r reasons) take(duty, text string) {
	key := [2]string{duty, generalise(text)}
	if r[key]--; r[key] == 0 {
		delete(r, key)
	}
}

func (r reasons) list() []Reason {
	out := make([]Reason, 0, len(r))
	for k, n := range r {
		out = append(out, Reason{k[0], k[1], n})
	}
	slices.SortFunc(out, func(a, b Reason) int {
		if a.Count != b.Count {
			return int(int64(b.Count) - int64(a.Count))
		}
		return strings.Compare(a.Duty+a.Reason, b.Duty+b.Reason)
	})
	return out
}

// generalise replaces numbers and roots by N, so that equal reasons meet.
func generalise(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' })
	for i, w := range words {
		core := strings.TrimRight(w, ",.:;")
		if strings.HasPrefix(core, "0x") || core != "" && strings.Trim(core, "0123456789→") == "" {
			words[i] = "N" + w[len(core):]
		}
	}
	return strings.Join(words, " ")
}

func (t *tally) miss(m Miss) {
	if len(t.misses) >= keepMisses {
		t.misses = slices.Delete(t.misses, 0, 1)
	}
	t.misses = append(t.misses, m)
	t.missed.add(m.Duty, m.Reason)
}

// amend gives a miss that was counted already its true reason, when the message comes after all.
func (t *tally) amend(duty string, s cluster.Slot, v valIndex, reason string) {
	for i := len(t.misses) - 1; i >= 0; i-- {
		m := &t.misses[i]
		if m.Duty != duty || m.Slot != uint64(s) || m.Validator != uint64(v) {
			continue
		}
		if m.Reason == nothingCame[duty] {
			t.missed.take(duty, m.Reason)
			m.Reason = "refused: " + reason
			t.missed.add(duty, m.Reason)
		}
		return
	}
}

var nothingCame = map[string]string{"attester": "no attestation arrived", "proposer": "no block arrived"}

func (t *tally) refused(duty string, err error) { t.refusals.add(duty, err.Error()) }

func (t *tally) slashable(e Evidence) {
	t.evidenceTotal++
	if len(t.evidence) < keepEvidence { // the first ones tell how it began
		t.evidence = append(t.evidence, e)
	}
}

func (t *tally) known(second string) bool {
	return slices.ContainsFunc(t.evidence, func(e Evidence) bool { return e.Second == second })
}

// reward notes an included vote's flags, as the Altair and Deneb rules give them.
func (t *tally) reward(b *ballot, head, target cluster.Root, slotsPerEpoch uint64) {
	delay := uint64(b.in.slot - b.slot)
	t.rewards.Votes++
	t.rewards.inclusionInSlot += delay
	root := uint64(1)
	for (root+1)*(root+1) <= slotsPerEpoch {
		root++
	}
	if delay <= root {
		t.rewards.TimelySource++
	}
	if b.targetRoot == target {
		t.rewards.TimelyTarget++
		if b.head == head && delay == 1 {
			t.rewards.TimelyHead++
		}
	}
}

// Status returns the account up to now.
func (n *Node) Status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.advanceLocked(time.Now())
	c := &n.chain
	t := &c.tally
	s := Status{
		Schema: "provost.simnet/1", Simnet: true, Notice: notice, Version: Version, Fork: string(n.o.Fork), Network: n.o.NetworkFork, Root: n.gvr,
		Genesis: n.o.GenesisTime, SlotMS: n.o.SlotDuration.Milliseconds(), PerEpoch: n.clock.SlotsPerEpoch,
		Head: HeadStatus{uint64(n.head().slot), n.head().root}, JustifiedEpoch: uint64(c.justified.epoch), FinalizedEpoch: uint64(c.finalized.epoch),
		Slots: t.Slots, Blocks: t.Blocks, Orphaned: t.Orphaned, Exits: t.Exits,
		Duties: Duties{t.attester.all.settled(), t.proposer.all.settled()}, Rewards: t.rewards,
		Misses: append([]Miss{}, t.misses...), Reasons: t.missed.list(), Refusals: t.refusals.list(),
		Slashable: append([]Evidence{}, t.evidence...), SlashableTotal: t.evidenceTotal, Faults: n.faultsLocked(),
	}
	if t.rewards.Votes > 0 {
		mean := float64(t.rewards.inclusionInSlot) / float64(t.rewards.Votes)
		s.Rewards.MeanInclusion = &mean
	}
	var epoch cluster.Epoch
	if c.begun {
		slot := uint64(c.slot)
		epoch = n.clock.Epoch(c.slot)
		e := uint64(epoch)
		s.Slot, s.Epoch = &slot, &e
	}
	s.Validators = make([]ValStatus, len(n.o.Validators))
	for i, v := range n.o.Validators {
		s.Validators[i] = ValStatus{uint64(i), v.PubKey, n.wordLocked(valIndex(i), epoch), t.attester.each[i].settled(), t.proposer.each[i].settled()}
	}
	return s
}

// wordLocked is the Beacon API's word for a validator's status.
func (n *Node) wordLocked(i valIndex, e cluster.Epoch) string {
	exit, leaves := n.chain.exitAt[i]
	switch {
	case n.o.Validators[i].Activation > e:
		return "pending_queued"
	case leaves && e >= exit:
		return "exited_unslashed"
	case leaves:
		return "active_exiting"
	}
	return "active_ongoing"
}
