package dv

import (
	"fmt"
	"time"

	"app.provost/cluster"
)

// Coming is a duty that is running or will be due.
type Coming struct {
	Duty cluster.Duty
	Due  time.Time
	Ends time.Time // when it is lost at the latest
}

// RestartInput is what a restart window is worked out from.
type RestartInput struct {
	Now time.Time
	// Takes is how long a restart keeps the node away.
	Takes time.Duration
	// OthersUp is how many other nodes are connected; Needed how many nodes a duty needs, the larger
	// of consensus' quorum and the threshold.
	OthersUp, Needed int
	Coming           []Coming // in any order
	// KnownUntil is until when duties are known.
	KnownUntil time.Time
}

// Restart says whether this node may be restarted now without costing a duty.
type Restart struct {
	Safe bool
	// For is how long from now the answer holds: until it is no longer safe, or until it is.
	For time.Duration
	// Without is whether the others reach quorum and threshold without this node.
	Without bool
	// Next is the duty that bounds the window, nil when none is known.
	Next *Coming
	Why  string
}

// RestartWindow works out whether a restart would cost a duty. With enough other nodes only
// proposals count, since a block has no time for an absent leader; otherwise every duty does.
func RestartWindow(in RestartInput) Restart {
	out := Restart{Without: in.OthersUp >= in.Needed}
	needs := func(c Coming) bool {
		return !out.Without || c.Duty.Type == cluster.DutyProposer || c.Duty.Type == cluster.DutyRandao
	}
	var running, next *Coming
	for _, c := range in.Coming {
		if !needs(c) || !c.Ends.After(in.Now) {
			continue
		}
		if c.Due.After(in.Now) {
			if next == nil || c.Due.Before(next.Due) {
				next = &c
			}
		} else if running == nil || c.Ends.After(running.Ends) {
			running = &c
		}
	}
	quorum := "the others reach quorum without this node"
	if !out.Without {
		quorum = fmt.Sprintf("only %d other nodes are up and %d nodes are needed, so every duty needs this node", in.OthersUp, in.Needed)
	}
	switch {
	case running != nil:
		out.Next, out.For = running, running.Ends.Sub(in.Now)
		out.Why = fmt.Sprintf("%s is under way; %s", running.Duty, quorum)
	case next != nil && next.Due.Sub(in.Now) < in.Takes:
		out.Next, out.For = next, next.Ends.Sub(in.Now)
		out.Why = fmt.Sprintf("%s is due in %s and a restart takes %s; %s", next.Duty, next.Due.Sub(in.Now).Round(time.Second), in.Takes, quorum)
	case next != nil:
		out.Safe, out.Next, out.For = true, next, next.Due.Sub(in.Now)-in.Takes
		out.Why = fmt.Sprintf("%s is due in %s; %s", next.Duty, next.Due.Sub(in.Now).Round(time.Second), quorum)
	case in.KnownUntil.Sub(in.Now) < in.Takes:
		out.For = 0
		out.Why = "the coming duties are not known; " + quorum
	default:
		out.Safe, out.For = true, in.KnownUntil.Sub(in.Now)-in.Takes
		out.Why = "no duty is due; " + quorum
	}
	return out
}
