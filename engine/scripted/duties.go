package scripted

import (
	"fmt"
	"math"
	"time"

	"app.provost/engine"
)

// The cluster of the script: four nodes with threshold three, on a chain with slots of
// twelve seconds. node3 is always late; once in an hour node2 is away for 38 s, and the
// attestation of that time is missed.
const (
	dvNodes     = 4
	dvThreshold = 3
	dvCluster   = "practice"
	slotTime    = 12 * second
	perEpoch    = 32
	firstSlot   = 13802121   // the slot in which the script begins, at its sixth second
	slotShift   = 5 * second // of the beginning of the script in it
	propose     = 61         // a block of ours every so many slots
	missEvery   = 300        // slots between two missed attestations
	countFrom   = -3 * hour  // the nodes started then
	shownSlots  = 64         // duties that are over stay for so many slots
	restartTake = 20 * second
)

var phases4 = [...]time.Duration{7 * second, 6 * second, 5 * second, 4 * second, 0}

// slotStart is when a slot begins.
func slotStart(slot int64) time.Duration { return time.Duration(slot-firstSlot)*slotTime - slotShift }

func slotAt(at time.Duration) int64 {
	return firstSlot + int64(floor(at+slotShift, slotTime)/slotTime)
}

// told is when the nodes last spoke: at the beginning of a slot, when attestations are
// due, and in the seconds after that.
func told(at time.Duration) time.Duration {
	start := slotStart(slotAt(at))
	for _, p := range phases4 {
		if at >= start+p {
			return start + p
		}
	}
	return start
}

// missedSlot is the newest slot up to this one whose attestation is missed.
func missedSlot(slot int64) int64 {
	n := (slot - (firstSlot - 48)) % missEvery
	if n < 0 {
		n += missEvery
	}
	return slot - n
}

// away is when node2 was away around a missed slot.
func away(missed int64) window {
	return window{slotStart(missed) - 4*second, slotStart(missed) + 34*second}
}

// nodeAway tells whether a node is away, and since when.
func nodeAway(k int, at time.Duration) (time.Duration, bool) {
	if k != 2 {
		return 0, false
	}
	w := away(missedSlot(slotAt(at) + 1))
	return w.from, w.has(at)
}

func (s *script) nodeKey(k int, id string) engine.Key {
	return engine.Key{Machine: s.hosts[k%len(s.hosts)].name, Cluster: dvCluster, Node: fmt.Sprintf("node%d", k), ID: id}
}

func (s *script) lockHash() string {
	return fmt.Sprintf("0x%016x%016x%016x%016x", s.hash('H', 1, 0), s.hash('H', 2, 0), s.hash('H', 3, 0), s.hash('H', 4, 0))
}

func valIndex(i int) uint64 { return 812000 + uint64(i) }

// valStatus: most validators are active; the last ones of a larger cluster show what else there is.
func (s *script) valStatus(i int) (status, why string) {
	if s.validators < 16 {
		return "active", ""
	}
	switch s.validators - 1 - i {
	case 0:
		return "slashed", "it signed twice before it came to this cluster; the chain takes it out"
	case 1:
		return "queued", "the deposit is seen and it waits for its turn to become active"
	case 2:
		return "not deposited", "no deposit for this key is on the chain yet: it has no duties"
	case 3, 4, 5:
		return "exiting", "its exit is on the chain; it has duties until the exit epoch has passed"
	}
	return "active", ""
}

func (s *script) attests(i int) bool {
	st, _ := s.valStatus(i)
	return st == "active" || st == "exiting"
}

// attesters lists the validators with an attestation in a slot.
func (s *script) attesters(slot int64) []int {
	e, off := slot/perEpoch, slot%perEpoch
	// Validator i is due at 5i plus a number of the epoch, modulo 32; 13 is the inverse of 5.
	h := int64(s.hash('E', e, 0) % perEpoch)
	var out []int
	for i := int(13 * (off - h + perEpoch) % perEpoch); i < s.validators; i += perEpoch {
		if s.attests(i) {
			out = append(out, i)
		}
	}
	return out
}

// dueSlot is the slot of a validator's attestation in an epoch.
func (s *script) dueSlot(i int, epoch int64) int64 {
	return epoch*perEpoch + (5*int64(i)+int64(s.hash('E', epoch, 0)%perEpoch))%perEpoch
}

// proposer is the validator that proposes in a slot; false: none of ours.
func (s *script) proposer(slot int64) (int, bool) {
	if slot%propose != (firstSlot+37)%propose || s.validators == 0 {
		return 0, false
	}
	i := int(s.hash('B', slot, 0) % uint64(s.validators))
	for !s.attests(i) {
		i = (i + 1) % s.validators
	}
	return i, true
}

func proposals(from, to int64) uint64 { // in slots from <= n < to
	f := func(n int64) int64 { return (n - 1 - (firstSlot+37)%propose + propose) / propose }
	return uint64(max(f(to)-f(from), 0))
}

// valTotals counts a validator's attestations whose outcome is known at the end of a slot.
func (s *script) valTotals(i int, to int64) engine.DutyTotals {
	var t engine.DutyTotals
	if !s.attests(i) {
		return t
	}
	from := slotAt(countFrom)
	for e := from / perEpoch; e <= to/perEpoch; e++ {
		n := s.dueSlot(i, e)
		if n < from || n >= to {
			continue
		}
		if missedSlot(n) == n {
			t.Missed++
			continue
		}
		t.Done++
		if s.hash('Q', n, int64(i))%160 == 0 {
			t.Late++
		}
	}
	t.Included = ref(t.Done)
	return t
}

// dvNext finds the next attestation and the next block after a moment.
func (s *script) dvNext(at time.Duration) []engine.NextDuty {
	var out []engine.NextDuty
	name := func(i int) string { return fmt.Sprint(valIndex(i)) }
	cur := slotAt(at)
	for n := cur; n < cur+2*perEpoch; n++ {
		if a := s.attesters(n); len(a) > 0 && slotStart(n)+4*second > at {
			out = append(out, engine.NextDuty{Type: "attester", Slot: uint64(n), At: s.wall(slotStart(n) + 4*second), Validator: name(a[0]), Count: len(a)})
			break
		}
	}
	for n := cur; n < cur+2*propose; n++ {
		if i, ok := s.proposer(n); ok && slotStart(n) > at {
			out = append(out, engine.NextDuty{Type: "proposer", Slot: uint64(n), At: s.wall(slotStart(n)), Validator: name(i), Count: 1})
			break
		}
	}
	return out
}

// dvRestart answers for one node whether it may be restarted at a moment.
func (s *script) dvRestart(at time.Duration, others int) engine.Restart {
	left := func(to time.Duration) *float64 { return ref((to - at).Seconds() / s.speed) }
	if others < dvThreshold {
		return engine.Restart{Safe: ref(false), Why: fmt.Sprintf("only %d other nodes are up and %d are needed, so every duty needs this node", others, dvThreshold)}
	}
	quorum := "the others reach quorum without this node"
	for n := slotAt(at); ; n++ {
		i, ok := s.proposer(n)
		start := slotStart(n)
		switch {
		case !ok && n < slotAt(at)+2*propose:
			continue
		case !ok:
			return engine.Restart{Safe: ref(true), Why: "no duty is due; " + quorum}
		case start-restartTake <= at:
			return engine.Restart{Safe: ref(false), ForS: left(start + slotTime), Why: fmt.Sprintf("the proposal of %d in slot %d is at hand", valIndex(i), n), Until: fmt.Sprintf("the end of slot %d", n)}
		}
		return engine.Restart{Safe: ref(true), ForS: left(start - restartTake), Why: fmt.Sprintf("the proposal of %d is the next duty that needs it; %s", valIndex(i), quorum), Until: fmt.Sprintf("proposal slot %d", n)}
	}
}

func (s *script) clusterRows(now time.Duration) []engine.ClusterRow {
	rows := make([]engine.ClusterRow, dvNodes)
	sums := map[int64]engine.DutyTotals{} // nodes that are there count the same
	for k := range rows {
		at := now
		if from, gone := nodeAway(k, now); gone {
			at = told(from)
		}
		cur := slotAt(at)
		up := dvNodes
		if _, gone := nodeAway(2, at); gone {
			up--
		}
		r := engine.ClusterRow{Key: s.nodeKey(k, ""), Name: "practice", Network: "hoodi", Practice: "scripted", Slot: ref(uint64(cur)), Epoch: ref(uint64(cur / perEpoch)), SlotAt: s.wallp(slotStart(cur)),
			SlotS: ref(slotTime.Seconds() / s.speed), SlotsPerEpoch: ref(uint64(perEpoch)), Nodes: dvNodes, Threshold: dvThreshold, Quorum: 3, PeersUp: &up, Twins: 2*dvThreshold - dvNodes,
			Ready: "ready", SigningOK: ref(true), Next: s.dvNext(at), Restart: s.dvRestart(at, up-1), Heads: ref(uint64(cur)), Since: s.wall(countFrom), Seen: s.wallp(at)}
		over := cur - 1
		if _, ok := sums[over]; !ok {
			var t engine.DutyTotals
			for i := range s.validators {
				t = t.Plus(s.valTotals(i, over))
			}
			sums[over] = t
		}
		r.Attester = sums[over]
		r.Attester.Included = ref(r.Attester.Done)
		r.Proposer.Done = proposals(slotAt(countFrom), over)
		r.Proposer.Included = ref(r.Proposer.Done)
		rows[k] = r
	}
	return rows
}

func (s *script) dutyRows(now time.Duration) []engine.DutyRow {
	var rows []engine.DutyRow
	cur := slotAt(now)
	// Known are the duties of this epoch, and of the next once half of this one is over.
	last := (cur/perEpoch+1)*perEpoch - 1
	if cur%perEpoch >= perEpoch/2 {
		last += perEpoch
	}
	for n := last; n >= cur-shownSlots; n-- {
		att := s.attesters(n)
		names := make([]string, len(att))
		for i, v := range att {
			names[i] = fmt.Sprint(valIndex(v))
		}
		block, ours := s.proposer(n)
		for k := range dvNodes {
			at := now
			if from, gone := nodeAway(k, now); gone {
				at = told(from)
			}
			if ours {
				rows = append(rows, s.blockRow(k, n, at, block))
			}
			if len(att) > 0 {
				rows = append(rows, s.attestRow(k, n, at, names))
			}
		}
	}
	return rows
}

func (s *script) attestRow(k int, n int64, at time.Duration, names []string) engine.DutyRow {
	start := slotStart(n)
	due := start + 4*second
	r := engine.DutyRow{Key: s.nodeKey(k, fmt.Sprintf("attester/%d", n)), Type: "attester", Slot: uint64(n), Epoch: uint64(n / perEpoch), At: s.wall(due), Deadline: s.wallp(start + 2*slotTime),
		Validators: names, State: engine.DutyKnown, Need: dvThreshold}
	if at < due {
		return r
	}
	missed := missedSlot(n) == n
	_, alone := nodeAway(2, due)
	r.Partials = []int{}
	switch {
	case at < due+second:
		r.State, r.Step = engine.DutyAgreeing, "consensus"
		return r
	case missed && at >= start+2*slotTime:
		r.State, r.Step, r.Partials = engine.DutyMissed, "parsig_ex", []int{1, 2}
		r.Reason = "insufficient_peer_signatures"
		r.Why = "fewer partial signatures than the threshold came: node2 was away, node3 came too late"
	case missed || at < due+2*second:
		r.State, r.Step, r.Partials = engine.DutySigning, "parsig_ex", []int{1, 2}
	case alone:
		r.State, r.Step, r.Partials = engine.DutySent, "bcast", []int{1, 2, 4}
		r.DelayMS = ref(1800 + math.Round(200*s.part('V', n, int64(k))))
	default:
		r.State, r.Step, r.Partials = engine.DutySent, "bcast", []int{1, 2, 3}
		if at >= due+3*second {
			r.Partials = []int{1, 2, 3, 4}
		}
		r.DelayMS = ref(1150 + math.Round(600*s.part('V', n, int64(k))))
	}
	r.Round = ref(1)
	if r.State == engine.DutySent && at >= start+slotTime+6*second {
		r.State, r.Step = engine.DutyIncluded, "chain_inclusion"
	}
	return r
}

func (s *script) blockRow(k int, n int64, at time.Duration, i int) engine.DutyRow {
	start := slotStart(n)
	r := engine.DutyRow{Key: s.nodeKey(k, fmt.Sprintf("proposer/%d", n)), Type: "proposer", Slot: uint64(n), Epoch: uint64(n / perEpoch), At: s.wall(start), Deadline: s.wallp(start + slotTime),
		Validators: []string{fmt.Sprint(valIndex(i))}, State: engine.DutyKnown, Need: dvThreshold}
	if at < start {
		return r
	}
	r.State, r.Step, r.Partials = engine.DutyAgreeing, "consensus", []int{}
	if at >= start+4*second {
		r.State, r.Step, r.Partials, r.Round = engine.DutySent, "bcast", []int{1, 2, 3}, ref(1)
		r.DelayMS = ref(1500 + math.Round(900*s.part('V', n, int64(k)+8)))
	}
	if at >= start+slotTime {
		r.State, r.Step, r.Partials = engine.DutyIncluded, "chain_inclusion", []int{1, 2, 3, 4}
	}
	return r
}

// pubKey is a validator's key, made once: there is one in every row.
func (s *script) pubKey(i int) string {
	if s.pubKeys == nil {
		s.pubKeys = make([]string, s.validators)
		for j := range s.pubKeys {
			s.pubKeys[j] = s.makeKey(j)
		}
	}
	return s.pubKeys[i]
}

func (s *script) makeKey(i int) string {
	x := ""
	for p := range int64(6) {
		x += fmt.Sprintf("%016x", s.hash('K', int64(i), p))
	}
	return "0x" + "89ab"[s.hash('K', int64(i), 9)%4:][:1] + x[1:]
}

func (s *script) validatorRows(now time.Duration) []engine.ValidatorRow {
	rows := make([]engine.ValidatorRow, 0, dvNodes*s.validators)
	for k := range dvNodes {
		at := now
		if from, gone := nodeAway(k, now); gone {
			at = told(from)
		}
		cur := slotAt(at)
		epoch := cur / perEpoch
		for i := range s.validators {
			st, why := s.valStatus(i)
			pub := s.pubKey(i)
			r := engine.ValidatorRow{Key: s.nodeKey(k, pub), PubKey: pub, Status: st, StatusWhy: why, FeeRecipient: fmt.Sprintf("0x%016x%016x%08x", s.hash('f', 1, 0), s.hash('f', 2, 0), uint32(s.hash('f', 3, 0))),
				Withdrawal: fmt.Sprintf("0x%016x%016x%08x", s.hash('w', 1, 0), s.hash('w', 2, 0), uint32(s.hash('w', 3, 0)))}
			if st == "not deposited" {
				rows = append(rows, r)
				continue
			}
			r.Index, r.BalanceGwei = ref(valIndex(i)), ref(uint64(32e9)+s.hash('g', int64(i), epoch/8)%120_000_000)
			if st == "queued" {
				r.BalanceGwei = ref(uint64(32e9))
				rows = append(rows, r)
				continue
			}
			r.ActivationEpoch = ref(uint64(380_000 + i))
			if st == "slashed" {
				r.BalanceGwei, r.ExitEpoch = ref(uint64(31_220_700_000)), ref(uint64(430_911))
				rows = append(rows, r)
				continue
			}
			if st == "exiting" {
				r.ExitEpoch = ref(uint64(epoch + 86))
			}
			r.Attester = s.valTotals(i, cur-1)
			next := s.dueSlot(i, epoch)
			if slotStart(next)+4*second <= at {
				next = s.dueSlot(i, epoch+1)
			}
			r.GuardTarget = ref(uint64(epoch))
			if next/perEpoch == epoch {
				r.GuardTarget = ref(uint64(epoch - 1))
			}
			r.Next = &engine.NextDuty{Type: "attester", Slot: uint64(next), At: s.wall(slotStart(next) + 4*second), Validator: fmt.Sprint(valIndex(i)), Count: 1}
			for n := cur - propose; n < cur+propose; n++ {
				if p, ok := s.proposer(n); ok && p == i {
					if slotStart(n) > at {
						r.Next = &engine.NextDuty{Type: "proposer", Slot: uint64(n), At: s.wall(slotStart(n)), Validator: fmt.Sprint(valIndex(i)), Count: 1}
					} else if n < cur {
						r.GuardSlot, r.Proposer.Done = ref(uint64(n)), 1
					}
				}
			}
			rows = append(rows, r)
		}
	}
	return rows
}

var (
	dvClock = [dvNodes]float64{1, -2, 9, 88} // against the true time, ms
	dvRTT   = [dvNodes]float64{3, 8, 31, 204}
	dvParts = [dvNodes]float64{100, 99.9, 98.1, 96}
)

func (s *script) peerRows(now time.Duration) []engine.PeerRow {
	var rows []engine.PeerRow
	for k := range dvNodes {
		at := now
		if from, gone := nodeAway(k, now); gone {
			at = told(from)
		}
		slots := uint64(slotAt(at) - slotAt(countFrom))
		for j := range dvNodes {
			name := fmt.Sprintf("node%d", j)
			r := engine.PeerRow{Key: s.nodeKey(k, name), Name: name, Index: j, Share: j + 1, Self: j == k, State: "up", Since: s.wallp(countFrom + time.Duration(j)*second), PartialsPct: ref(dvParts[j]),
				Late: ref([dvNodes]uint64{0, slots / 300, slots / 60, slots - slots/25}[j]), Version: version, Client: "provost", LockHash: s.lockHash(), LockSame: ref(true), Address: fmt.Sprintf("10.0.0.%d:3610", 10+j)}
			if j != k {
				r.RTTMS = ref(dvRTT[j] + dvRTT[k] + math.Round(20*s.part('T', int64(j*dvNodes+k), slotAt(at)))/10)
				r.ClockMS = ref(dvClock[j] - dvClock[k])
			}
			w := away(missedSlot(slotAt(at) + 1))
			switch {
			case j == 2 && k != 2 && w.has(at):
				r.State, r.Since, r.RTTMS, r.ClockMS = "down", s.wallp(w.from), nil, nil
				r.Problem = "the connection is refused"
			case j == 2 && w.to <= at:
				r.Since = s.wallp(w.to)
			case j == 3 && k != 3:
				r.State, r.Problem = "slow", "its partial signature comes last in 96% of duties"
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func (s *script) beaconRows(now time.Duration) []engine.BeaconRow {
	var rows []engine.BeaconRow
	for k := range dvNodes {
		at := now
		if from, gone := nodeAway(k, now); gone {
			at = told(from)
		}
		head := uint64(slotAt(at))
		if at < slotStart(int64(head))+4*second {
			head--
		}
		for _, n := range []int{k, (k + 1) % dvNodes} {
			url := fmt.Sprintf("http://bn%d:5052", n)
			r := engine.BeaconRow{Key: s.nodeKey(k, url), Address: url, State: "up", Version: [...]string{"Lighthouse/v8.0.0", "teku/v25.9.0", "Nimbus/v25.9.0", "Lodestar/v1.34.0"}[n], HeadSlot: &head, Behind: ref(uint64(0)),
				Peers: ref(60 + s.hash('n', int64(n), 0)%50), LatencyMS: ref(6 + math.Round(80*s.part('N', int64(n), slotAt(at)))/10)}
			if head < uint64(slotAt(at)) {
				r.Behind = ref(uint64(1))
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// missing raises what a missed attestation and an absent node are to an operator.
func (s *script) missing(m int64) {
	if s.validators == 0 {
		return
	}
	w, at := away(m), slotStart(m)+2*slotTime
	key := engine.Key{Machine: s.hosts[0].name, Cluster: dvCluster}
	peer := key
	peer.ID = "node2"
	s.raise(&trouble{from: w.from + 30*second, to: w.to, f: engine.Finding{Code: engine.FindPeerDown, Level: engine.LevelWarn, Key: peer, Target: "peer/node2", Title: "node2 is down: the connection is refused",
		Text: "No other node of the cluster reaches it.", Effect: "the others sign without it; one more may not fail",
		Next: []engine.NextKey{{Key: "7", Command: "provost get peers", Text: "who is there"}}}})
	s.raise(&trouble{from: at, to: at + cycle, f: engine.Finding{Code: engine.FindDutyMissed, Level: engine.LevelWarn, Key: key, Target: "cluster/practice",
		Title: fmt.Sprintf("an attestation was missed in slot %d: too few partial signatures", m), Text: "node2 was away and node3 came after the deadline, so that two of three partial signatures were there.",
		Effect: "these validators lose the reward of one attestation", Facts: []engine.Fact{{Name: "slot", Value: fmt.Sprint(m)}, {Name: "reason", Value: "insufficient_peer_signatures"}, {Name: "missing", Value: "node2, node3"}},
		Next: []engine.NextKey{{Key: "5", Command: "provost get duties state=missed", Text: "the missed duty"}, {Key: "7", Command: "provost get peers", Text: "who was late"}}}})
}
