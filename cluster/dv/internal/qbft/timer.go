package qbft

import "time"

// Timer computes when the rounds of an instance end, by the rule that all nodes of a cluster share
// (eager, double, linear). Deadlines count from the start of the duty, so that nodes change rounds
// together whenever they began. It is no value: each instance has its own.
//
// Round r lasts until start + r seconds. Arming it again, which the leader's proposal does, adds the
// same span. So after a doubled round 1 the deadline of round 2 has already passed and it ends at
// once; other nodes do the same, and a timer that is cleverer loses step with them.
type Timer struct {
	start time.Time
	extra time.Duration
	first map[int64]time.Time
}

// maxRoundSpan keeps arithmetic sane for rounds that nobody reaches.
const maxRoundSpan = 24 * time.Hour

// NewTimer returns the timer of one instance. Proposals have half a second more in all rounds.
func NewTimer(start time.Time, proposer bool) *Timer {
	t := &Timer{start: start, first: map[int64]time.Time{}}
	if proposer {
		t.extra = time.Second / 2
	}
	return t
}

// Arm returns when a round ends; it may have passed. It tells the first arming of a round from later ones.
func (t *Timer) Arm(round int64) time.Time {
	span := min(time.Duration(min(round, int64(maxRoundSpan/time.Second)))*time.Second+t.extra, maxRoundSpan)
	if first, again := t.first[round]; again {
		return first.Add(span)
	}
	first := t.start.Add(span)
	t.first[round] = first
	return first
}

// Running is the round that a moment belongs to when no round is doubled.
func (t *Timer) Running(now time.Time) int64 {
	return max(1, int64((now.Sub(t.start)-t.extra)/time.Second)+1)
}
