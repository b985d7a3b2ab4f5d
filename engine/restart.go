package engine

import "time"

// Later is the answer some time after it was given: the time that is left has
// become less, and when it is over nothing is known any more.
func (r Restart) Later(d time.Duration) Restart {
	if r.Safe == nil || r.ForS == nil || d <= 0 {
		return r
	}
	left := *r.ForS - d.Seconds()
	if left > 0 {
		r.ForS = &left
		return r
	}
	word := "safe"
	if !*r.Safe {
		word = "not safe"
	}
	r.Safe, r.ForS, r.Until = nil, nil, ""
	r.Why = "not known: the time that was " + word + " is over, and nothing newer was told"
	return r
}

// RestartNow is the verdict's answer for this moment.
func (s *Snapshot) RestartNow(now time.Time) Restart {
	if s.Verdict == nil {
		return Restart{}
	}
	if s.Verdict.At.IsZero() {
		return s.Verdict.Value.Restart
	}
	return s.Verdict.Value.Restart.Later(now.Sub(s.Verdict.At))
}

// RestartNow is the node's answer for this moment; what it said long ago counts no more.
func (r *ClusterRow) RestartNow(now time.Time) Restart {
	switch {
	case r.Seen == nil:
		return Restart{Why: "not known: nothing was told yet"}
	case !r.Heard(now):
		return Restart{Why: "not known: last heard " + Span(now.Sub(*r.Seen)) + " ago"}
	}
	return r.Restart.Later(now.Sub(*r.Seen))
}

// Better tells whether a node's view of its cluster is to be preferred to another's: it
// was told later, or as late and it sees more nodes. A node that was cut off or fell
// silent does not speak for the cluster.
func (r *ClusterRow) Better(o *ClusterRow, now time.Time) bool {
	if a, b := r.Heard(now), o.Heard(now); a != b {
		return a
	}
	if r.Seen != nil && o.Seen != nil {
		slot := 12.0
		if r.SlotS != nil && *r.SlotS > 0 {
			slot = *r.SlotS
		}
		if d := r.Seen.Sub(*o.Seen).Seconds(); d > slot/2 || d < -slot/2 {
			return d > 0
		}
	}
	up := func(c *ClusterRow) int {
		if c.PeersUp == nil {
			return -1
		}
		return *c.PeersUp
	}
	return up(r) > up(o)
}

// JoinRestart says whether all nodes may be restarted now: only when each of them
// says so, and for the shortest of their times. One that says no outweighs one that
// does not know.
func JoinRestart(rows []ClusterRow, now time.Time) Restart {
	var no, unknown, yes *Restart
	var without, need *int
	for i := range rows {
		r := &rows[i]
		re := r.RestartNow(now)
		if len(rows) > 1 && r.Key.Node != "" && re.Why != "" && (re.Safe == nil || !*re.Safe) {
			re.Why = r.Key.Node + ": " + re.Why
		}
		if r.PeersUp != nil && r.Heard(now) {
			if n := max(*r.PeersUp-1, 0); without == nil || n < *without {
				without = &n
			}
		}
		if n := r.Need(); n > 0 && (need == nil || n > *need) {
			need = &n
		}
		switch {
		case re.Safe == nil:
			if unknown == nil {
				unknown = &re
			}
		case !*re.Safe:
			// Of several that say no, the one that says it longest; no end in sight is longest.
			if no == nil || no.ForS != nil && (re.ForS == nil || *re.ForS > *no.ForS) {
				no = &re
			}
		case yes == nil, re.ForS != nil && (yes.ForS == nil || *re.ForS < *yes.ForS):
			yes = &re
		}
	}
	out := Restart{Why: "not known: no node has told anything yet"}
	switch {
	case no != nil:
		out = *no
	case unknown != nil:
		out = *unknown
	case yes != nil:
		out = *yes
	}
	out.QuorumWithoutMe, out.Need = without, need
	return out
}
