package engine

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	TableClusters   TableName = "clusters"
	TableDuties     TableName = "duties"
	TableValidators TableName = "validators"
	TablePeers      TableName = "peers"
	TableBeacons    TableName = "beacons"
)

// Need is how many nodes must be there for a duty: enough votes to agree and
// enough partial signatures.
func (r *ClusterRow) Need() int { return max(r.Quorum, r.Threshold) }

// Freshness grades what this node told last: it speaks at least once in a slot.
func (r *ClusterRow) Freshness(now time.Time) Freshness {
	slot := 12 * time.Second
	if r.SlotS != nil && *r.SlotS > 0 {
		slot = time.Duration(*r.SlotS * float64(time.Second))
	}
	return FreshnessOf(now, r.Seen, slot)
}

// Heard tells whether what a node said can be taken for how it stands.
func (r *ClusterRow) Heard(now time.Time) bool {
	f := r.Freshness(now)
	return f == Fresh || f == Aging
}

// Over counts the duties that had an end.
func (t DutyTotals) Over() uint64 { return t.Done + t.Missed }

// Percent is the share of duties done, null before the first one was over.
func (t DutyTotals) Percent() *float64 {
	if t.Over() == 0 {
		return nil
	}
	p := 100 * float64(t.Done) / float64(t.Over())
	return &p
}

// Plus adds two counts of different duties.
func (t DutyTotals) Plus(o DutyTotals) DutyTotals {
	out := DutyTotals{Done: t.Done + o.Done, Missed: t.Missed + o.Missed, Late: t.Late + o.Late}
	if t.Included != nil && o.Included != nil {
		n := *t.Included + *o.Included
		out.Included = &n
	}
	return out
}

// DutyWord is a duty's name in a table: "attest", "propose".
func DutyWord(kind string) string {
	switch kind {
	case "attester":
		return "attest"
	case "proposer":
		return "propose"
	}
	return kind
}

var dutyRanks = []DutyState{DutyMissed, DutySigning, DutyAgreeing, DutyKnown, DutySent, DutyIncluded}

// DutyRank orders states of a duty: the missed ones first.
func DutyRank(s DutyState) int {
	if i := slices.Index(dutyRanks, s); i >= 0 {
		return i
	}
	return len(dutyRanks)
}

var (
	validatorRanks = []string{"slashed", "unknown", "exiting", "exited", "not deposited", "pending", "queued", "active"}
	peerRanks      = []string{"down", "unknown", "slow", "up"}
	beaconRanks    = []string{"down", "wrong network", "syncing", "optimistic", "up"}
)

func decimals(n int, c *Column) *Column {
	c.Digits = n
	return c
}

func rankIn(list []string, s string) Value {
	if s == "" || s == "unknown" {
		return Value{}
	}
	return ranked(s, slices.Index(list, s))
}

// place names a row of a node in short and in full.
func place(k Key) []string {
	return []string{k.Node + "/" + k.ID, k.ID, k.Cluster + "/" + k.Node + "/" + k.ID}
}

func nextDuty(n *NextDuty, now time.Time) Value {
	if n == nil {
		return none
	}
	when := "now"
	if d := n.At.Sub(now); d > 0 {
		when = Span(d)
	}
	v := text(DutyWord(n.Type) + " " + when)
	v.Num = float64(n.At.UnixMilli())
	return v
}

func counter(n uint64) Value { return known(float64(n)) }

func totalsPercent(t DutyTotals) Value {
	if p := t.Percent(); p != nil {
		return known(*p)
	}
	return none
}

// told grades a value by when its node spoke last.
func told(r *ClusterRow, now time.Time, v Value) Value {
	if v.Known {
		v.Fresh = r.Freshness(now)
		if r.Seen != nil {
			v.Age = now.Sub(*r.Seen)
		}
	}
	return v
}

var clustersTable = table(TableClusters, "cluster", SecClusters,
	func(s *Snapshot) []ClusterRow { return s.Clusters.List() },
	func(r *ClusterRow) Key { return r.Key },
	func(r *ClusterRow) []string { return []string{r.Key.Cluster + "/" + r.Key.Node, r.Key.Node, r.Name} },
	[]*Column{
		column("name", "CLUSTER", UnitText, "name of the cluster", func(r *ClusterRow, _ time.Time) Value { return text(r.Name) }),
		column("node", "NODE", UnitText, "the node that tells", func(r *ClusterRow, _ time.Time) Value { return text(r.Key.Node) }),
		column("network", "NETWORK", UnitText, "Ethereum network", func(r *ClusterRow, _ time.Time) Value { return maybe(r.Network) }),
		column("slot", "SLOT", UnitCount, "slot of the chain", func(r *ClusterRow, now time.Time) Value { return told(r, now, number(r.Slot)) }),
		column("epoch", "EPOCH", UnitCount, "epoch of the chain", func(r *ClusterRow, now time.Time) Value { return told(r, now, number(r.Epoch)) }),
		column("peers", "PEERS", UnitCount, "nodes that are there, this one counted, of all", func(r *ClusterRow, now time.Time) Value {
			v := number(r.PeersUp)
			v.Of = float64(r.Nodes)
			return told(r, now, v)
		}),
		column("need", "NEED", UnitCount, "nodes that a duty needs", func(r *ClusterRow, _ time.Time) Value {
			if r.Need() == 0 {
				return Value{}
			}
			return known(float64(r.Need()))
		}),
		column("signing", "SIGNING", UnitText, "whether it can sign: yes or no", func(r *ClusterRow, now time.Time) Value {
			if r.SigningOK == nil {
				return Value{}
			}
			return told(r, now, text(yesNo(*r.SigningOK)))
		}),
		decimals(1, column("done", "DONE%", UnitPercent, "duties done, of those that are over", func(r *ClusterRow, now time.Time) Value {
			return told(r, now, totalsPercent(r.Attester.Plus(r.Proposer)))
		})),
		column("missed", "MISSED", UnitCount, "duties missed since the node started", func(r *ClusterRow, now time.Time) Value {
			return told(r, now, counter(r.Attester.Missed+r.Proposer.Missed))
		}),
		column("late", "LATE", UnitCount, "duties sent later than the chain rewards", func(r *ClusterRow, now time.Time) Value {
			return told(r, now, counter(r.Attester.Late+r.Proposer.Late))
		}),
		column("next", "NEXT", UnitText, "the next duty, and in how long", func(r *ClusterRow, now time.Time) Value {
			if len(r.Next) == 0 {
				return none
			}
			return told(r, now, nextDuty(&r.Next[0], now))
		}),
		column("restart", "RESTART", UnitText, "whether this node may be restarted now: safe, no", func(r *ClusterRow, now time.Time) Value {
			re := r.RestartNow(now)
			switch {
			case re.Safe == nil:
				return Value{}
			case *re.Safe:
				return text("safe")
			}
			return text("no")
		}),
		column("restart_left", "SAFE FOR", UnitLeft, "how long a restart stays safe", func(r *ClusterRow, now time.Time) Value {
			re := r.RestartNow(now)
			switch {
			case re.Safe == nil:
				return Value{}
			case re.ForS == nil || !*re.Safe:
				return none
			}
			return known(*re.ForS)
		}),
		column("why", "NOTE", UnitText, "why it cannot sign", func(r *ClusterRow, _ time.Time) Value { return text(r.Why) }),
		wide("ready", "READY", UnitText, "readiness in the words of /readyz", func(r *ClusterRow, now time.Time) Value { return told(r, now, maybe(r.Ready)) }),
		wide("threshold", "THRESHOLD", UnitCount, "partial signatures that make a signature", func(r *ClusterRow, _ time.Time) Value { return known(float64(r.Threshold)) }),
		wide("quorum", "QUORUM", UnitCount, "votes that make an agreement", func(r *ClusterRow, _ time.Time) Value { return known(float64(r.Quorum)) }),
		wide("twins", "TWINS", UnitCount, "nodes that would have to sign twice for a slashable signature", func(r *ClusterRow, _ time.Time) Value {
			if r.Twins <= 0 {
				return Value{}
			}
			return known(float64(r.Twins))
		}),
		wide("head", "HEAD", UnitCount, "head slot of the beacon node", func(r *ClusterRow, now time.Time) Value { return told(r, now, number(r.Heads)) }),
		wide("restart_why", "RESTART WHY", UnitText, "what ends the time that is safe, or why it is not", func(r *ClusterRow, now time.Time) Value { return text(r.RestartNow(now).Why) }),
		wide("practice", "PRACTICE", UnitText, "set on a practice chain", func(r *ClusterRow, _ time.Time) Value { return text(r.Practice) }),
		wide("seen", "HEARD", UnitAge, "since the node last told", func(r *ClusterRow, now time.Time) Value {
			if r.Seen == nil {
				return Value{}
			}
			return since(*r.Seen, now)
		}),
		wide("host", "HOST", UnitText, "machine of the node", func(r *ClusterRow, _ time.Time) Value { return text(r.Key.Machine) }),
	}, "name,node")

var dutiesTable = table(TableDuties, "duty", SecDuties,
	func(s *Snapshot) []DutyRow { return s.Duties.List() },
	func(r *DutyRow) Key { return r.Key },
	func(r *DutyRow) []string { return place(r.Key) },
	[]*Column{
		column("at", "WHEN", UnitTime, "when it is due", func(r *DutyRow, _ time.Time) Value { return moment(r.At) }),
		column("slot", "SLOT", UnitCount, "slot of the chain", func(r *DutyRow, _ time.Time) Value { return counter(r.Slot) }),
		column("duty", "DUTY", UnitText, "attest or propose", func(r *DutyRow, _ time.Time) Value { return text(DutyWord(r.Type)) }),
		column("validators", "VALIDATOR", UnitList, "validators that have it", func(r *DutyRow, _ time.Time) Value { return text(strings.Join(r.Validators, ",")) }),
		column("state", "STATE", UnitText, "known agreeing signing sent included missed", func(r *DutyRow, _ time.Time) Value {
			if r.State == "" {
				return Value{}
			}
			return ranked(string(r.State), DutyRank(r.State))
		}),
		column("partials", "PARTIALS", UnitCount, "partial signatures that came, of those needed", func(r *DutyRow, _ time.Time) Value {
			if r.Partials == nil {
				if r.State == DutyKnown {
					return none
				}
				return Value{}
			}
			v := known(float64(len(r.Partials)))
			v.Of = float64(r.Need)
			return v
		}),
		column("delay", "DELAY", UnitMS, "from the moment it was due to the group signature", func(r *DutyRow, _ time.Time) Value {
			if r.DelayMS == nil && (r.State == DutyMissed || r.State == DutyKnown || r.State == DutyAgreeing || r.State == DutySigning) {
				return none
			}
			return number(r.DelayMS)
		}),
		column("why", "WHY", UnitText, "why it was missed", func(r *DutyRow, _ time.Time) Value { return text(r.Why) }),
		wide("node", "NODE", UnitText, "the node that tells", func(r *DutyRow, _ time.Time) Value { return text(r.Key.Node) }),
		wide("count", "N", UnitCount, "how many validators have it", func(r *DutyRow, _ time.Time) Value { return known(float64(len(r.Validators))) }),
		wide("shares", "SHARES", UnitList, "share indices whose partial signatures came", func(r *DutyRow, _ time.Time) Value {
			if r.Partials == nil {
				return Value{}
			}
			var out []string
			for _, n := range r.Partials {
				out = append(out, strconv.Itoa(n))
			}
			return text(strings.Join(out, ","))
		}),
		wide("step", "STEP", UnitText, "the furthest step that was reached", func(r *DutyRow, _ time.Time) Value { return text(r.Step) }),
		wide("detail", "DETAIL", UnitText, "the last error behind it, with the node or beacon node at fault", func(r *DutyRow, _ time.Time) Value { return text(r.Detail) }),
		wide("reason", "REASON", UnitText, "code of why it was missed, as in the metrics", func(r *DutyRow, _ time.Time) Value { return text(r.Reason) }),
		wide("round", "ROUND", UnitCount, "round of the agreement that decided", func(r *DutyRow, _ time.Time) Value {
			if r.Round == nil {
				return none
			}
			return known(float64(*r.Round))
		}),
		wide("epoch", "EPOCH", UnitCount, "epoch of the chain", func(r *DutyRow, _ time.Time) Value { return counter(r.Epoch) }),
		wide("deadline", "DEADLINE", UnitTime, "when it counts as missed", func(r *DutyRow, _ time.Time) Value { return moments(r.Deadline) }),
		wide("cluster", "CLUSTER", UnitText, "cluster it belongs to", func(r *DutyRow, _ time.Time) Value { return text(r.Key.Cluster) }),
	}, "-slot,-duty")

func eth(gwei *uint64) Value {
	if gwei == nil {
		return Value{}
	}
	return known(float64(*gwei) / 1e9)
}

// epoch is a number that is not set before something is decided.
func epoch(n *uint64, status string) Value {
	if n == nil {
		if status == "" || status == "unknown" {
			return Value{}
		}
		return none
	}
	return counter(*n)
}

var validatorsTable = table(TableValidators, "validator", SecValidators,
	func(s *Snapshot) []ValidatorRow { return s.Validators.List() },
	func(r *ValidatorRow) Key { return r.Key },
	func(r *ValidatorRow) []string {
		names := place(r.Key)
		if r.Index != nil {
			i := strconv.FormatUint(*r.Index, 10)
			names = slices.Insert(names, 2, i, r.Key.Node+"/"+i)
		}
		return names
	},
	[]*Column{
		column("index", "INDEX", UnitCount, "number on the chain", func(r *ValidatorRow, _ time.Time) Value {
			if r.Index == nil && r.Status == "not deposited" {
				return none
			}
			return number(r.Index)
		}),
		column("pubkey", "PUBKEY", UnitText, "group public key", func(r *ValidatorRow, _ time.Time) Value { return maybe(r.PubKey) }),
		column("status", "STATUS", UnitText, "not deposited, pending, queued, active, exiting, exited, slashed", func(r *ValidatorRow, _ time.Time) Value {
			return rankIn(validatorRanks, r.Status)
		}),
		decimals(4, column("balance", "BALANCE", UnitETH, "balance, ETH", func(r *ValidatorRow, _ time.Time) Value {
			if r.BalanceGwei == nil && r.Status == "not deposited" {
				return none
			}
			return eth(r.BalanceGwei)
		})),
		decimals(1, column("eff", "DONE%", UnitPercent, "attestations done, of those that are over", func(r *ValidatorRow, _ time.Time) Value { return totalsPercent(r.Attester) })),
		column("missed", "MISSED", UnitCount, "attestations missed", func(r *ValidatorRow, _ time.Time) Value { return counter(r.Attester.Missed) }),
		column("late", "LATE", UnitCount, "attestations later than the chain rewards", func(r *ValidatorRow, _ time.Time) Value { return counter(r.Attester.Late) }),
		column("blocks", "BLOCKS", UnitCount, "blocks proposed, of those that were due", func(r *ValidatorRow, _ time.Time) Value {
			if r.Proposer.Over() == 0 {
				return none
			}
			v := counter(r.Proposer.Done)
			v.Of = float64(r.Proposer.Over())
			return v
		}),
		column("next", "NEXT", UnitText, "its next duty, and in how long", func(r *ValidatorRow, now time.Time) Value { return nextDuty(r.Next, now) }),
		wide("node", "NODE", UnitText, "the node that tells", func(r *ValidatorRow, _ time.Time) Value { return text(r.Key.Node) }),
		wide("note", "NOTE", UnitText, "what its status means", func(r *ValidatorRow, _ time.Time) Value { return text(r.StatusWhy) }),
		wide("done", "DONE", UnitCount, "attestations done", func(r *ValidatorRow, _ time.Time) Value { return counter(r.Attester.Done) }),
		wide("activated", "ACTIVATED", UnitCount, "epoch of activation", func(r *ValidatorRow, _ time.Time) Value { return epoch(r.ActivationEpoch, r.Status) }),
		wide("exit", "EXIT", UnitCount, "epoch of its exit", func(r *ValidatorRow, _ time.Time) Value { return epoch(r.ExitEpoch, r.Status) }),
		wide("guard", "GUARD TARGET", UnitCount, "highest target epoch that the protection knows", func(r *ValidatorRow, _ time.Time) Value { return number(r.GuardTarget) }),
		wide("guard_slot", "GUARD BLOCK", UnitCount, "highest block slot that the protection knows", func(r *ValidatorRow, _ time.Time) Value { return number(r.GuardSlot) }),
		wide("fee_recipient", "FEE RECIPIENT", UnitText, "who gets the fees of its blocks", func(r *ValidatorRow, _ time.Time) Value { return maybe(r.FeeRecipient) }),
		wide("withdrawal", "WITHDRAWAL", UnitText, "where its stake goes", func(r *ValidatorRow, _ time.Time) Value { return maybe(r.Withdrawal) }),
		wide("cluster", "CLUSTER", UnitText, "cluster it belongs to", func(r *ValidatorRow, _ time.Time) Value { return text(r.Key.Cluster) }),
	}, "status,eff,index")

var peersTable = table(TablePeers, "peer", SecPeers,
	func(s *Snapshot) []PeerRow { return s.Peers.List() },
	func(r *PeerRow) Key { return r.Key },
	func(r *PeerRow) []string { return place(r.Key) },
	[]*Column{
		column("peer", "PEER", UnitText, "name of the node that is seen", func(r *PeerRow, _ time.Time) Value { return text(r.Name) }),
		column("node", "SEEN BY", UnitText, "the node that tells", func(r *PeerRow, _ time.Time) Value { return text(r.Key.Node) }),
		column("state", "STATE", UnitText, "up slow down unknown", func(r *PeerRow, _ time.Time) Value { return rankIn(peerRanks, r.State) }),
		column("age", "AGE", UnitAge, "time in this state", func(r *PeerRow, now time.Time) Value {
			if r.Since == nil {
				return Value{}
			}
			return since(*r.Since, now)
		}),
		column("rtt", "RTT", UnitMS, "round trip", func(r *PeerRow, _ time.Time) Value {
			if r.Self {
				return none
			}
			return number(r.RTTMS)
		}),
		decimals(1, column("partials", "PART%", UnitPercent, "partial signatures that came in time, last hour", func(r *PeerRow, _ time.Time) Value { return number(r.PartialsPct) })),
		column("late", "LATE", UnitCount, "partial signatures that came after the threshold was there", func(r *PeerRow, _ time.Time) Value { return number(r.Late) }),
		column("clock", "CLOCK", UnitMS, "offset of its clock; positive: ahead", func(r *PeerRow, _ time.Time) Value {
			if r.Self && r.ClockMS == nil {
				return none
			}
			return number(r.ClockMS)
		}),
		column("version", "VERSION", UnitText, "what it runs", func(r *PeerRow, _ time.Time) Value { return maybe(r.Version) }),
		column("lock", "LOCK HASH", UnitText, "hash of its cluster lock", func(r *PeerRow, _ time.Time) Value { return maybe(r.LockHash) }),
		column("note", "NOTE", UnitText, "what is wrong with it", func(r *PeerRow, _ time.Time) Value { return text(r.Problem) }),
		wide("share", "SHARE", UnitCount, "its key share, from 1", func(r *PeerRow, _ time.Time) Value { return known(float64(r.Share)) }),
		wide("self", "SELF", UnitText, "whether it is the node that tells", func(r *PeerRow, _ time.Time) Value { return text(yesNo(r.Self)) }),
		wide("same", "SAME LOCK", UnitText, "whether its lock is ours: yes or no", func(r *PeerRow, _ time.Time) Value {
			if r.LockSame == nil {
				return Value{}
			}
			return text(yesNo(*r.LockSame))
		}),
		wide("address", "ADDRESS", UnitText, "where it is reached", func(r *PeerRow, _ time.Time) Value { return maybe(r.Address) }),
		wide("client", "CLIENT", UnitText, "which program", func(r *PeerRow, _ time.Time) Value { return maybe(r.Client) }),
		wide("cluster", "CLUSTER", UnitText, "cluster it belongs to", func(r *PeerRow, _ time.Time) Value { return text(r.Key.Cluster) }),
	}, "peer,node")

var beaconsTable = table(TableBeacons, "beacon", SecBeacons,
	func(s *Snapshot) []BeaconRow { return s.Beacons.List() },
	func(r *BeaconRow) Key { return r.Key },
	func(r *BeaconRow) []string { return place(r.Key) },
	[]*Column{
		column("beacon", "BEACON NODE", UnitText, "address, without credentials", func(r *BeaconRow, _ time.Time) Value { return text(r.Address) }),
		column("node", "USED BY", UnitText, "the node that tells", func(r *BeaconRow, _ time.Time) Value { return text(r.Key.Node) }),
		column("state", "STATE", UnitText, "up, syncing, optimistic, wrong network, down", func(r *BeaconRow, _ time.Time) Value { return rankIn(beaconRanks, r.State) }),
		column("head", "HEAD", UnitCount, "head slot", func(r *BeaconRow, _ time.Time) Value { return number(r.HeadSlot) }),
		column("behind", "BEHIND", UnitCount, "slots behind the clock", func(r *BeaconRow, _ time.Time) Value { return number(r.Behind) }),
		column("peers", "PEERS", UnitCount, "peers it has on the network", func(r *BeaconRow, _ time.Time) Value { return number(r.Peers) }),
		column("lat", "LAT", UnitMS, "time of an answer", func(r *BeaconRow, _ time.Time) Value { return number(r.LatencyMS) }),
		column("version", "VERSION", UnitText, "what it runs", func(r *BeaconRow, _ time.Time) Value { return maybe(r.Version) }),
		column("note", "NOTE", UnitText, "what is wrong with it", func(r *BeaconRow, _ time.Time) Value { return text(r.Problem) }),
		wide("cluster", "CLUSTER", UnitText, "cluster of the node", func(r *BeaconRow, _ time.Time) Value { return text(r.Key.Cluster) }),
	}, "beacon,node")
