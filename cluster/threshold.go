package cluster

// Threshold is how many nodes must sign so that the cluster's signature is complete.
type Threshold int

// DefaultThreshold is ceil(2n/3) for n nodes: 3 of 4, 4 of 5, 4 of 6, 5 of 7, 7 of 10.
func DefaultThreshold(nodes int) Threshold { return Threshold(Quorum(nodes)) }

// Quorum is how many of n nodes consensus needs, ceil(2n/3), whatever the signing threshold is.
func Quorum(nodes int) int { return (2*nodes + 2) / 3 }

// Faulty is how many of n nodes may lie without harm, floor((n-1)/3).
func Faulty(nodes int) int {
	if nodes < 1 {
		return 0
	}
	return (nodes - 1) / 3
}

// MayBeDown is how many of n nodes may be off while duties still succeed: consensus needs its
// quorum and signing needs the threshold.
func (t Threshold) MayBeDown(nodes int) int {
	return max(0, nodes-max(int(t), Quorum(nodes)))
}

// Low reports whether the threshold is below ceil(2n/3), so that fewer nodes than consensus needs
// could sign on their own.
func (t Threshold) Low(nodes int) bool { return t < DefaultThreshold(nodes) }
