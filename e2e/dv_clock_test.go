//go:build linux && amd64

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A node whose clock is 2 s off signs nothing, says so with what to do, and so do the others of it.
// They go on without it; and it goes on by itself once its clock is right.
func TestClockOff(t *testing.T) {
	t.Parallel()
	p := newCluster(t, 4, 8)
	p.startChain("--slot-duration", "3s", "--slots-per-epoch", "4", "--genesis-in", "8s")
	for _, n := range p.nodes {
		n.start()
	}
	p.signing(60 * time.Second)
	p.wholeEpochs(1, 90*time.Second)

	// While it runs its clock goes ahead.
	wrong := p.nodes[1]
	skew(t, wrong.cmd.Process.Pid, 2)
	p.clockIsOff(wrong, "2s", 90*time.Second)
	from := p.mustAccount()
	p.slots(10)
	p.unsigned(wrong, currentSlot(from))
	st := p.nothingSlashable()
	if votes := st.Duties.Attester.Included - from.Duties.Attester.Included; votes < 10 {
		t.Errorf("the three others had %d votes included in %d slots, missed %v", votes, st.Slots-from.Slots, st.Reasons)
	}
	t.Logf("node1's clock 2 s ahead for %d slots: %d votes and %d blocks included, %d and %d missed", st.Slots-from.Slots,
		st.Duties.Attester.Included-from.Duties.Attester.Included, st.Duties.Proposer.Included-from.Duties.Proposer.Included,
		st.Duties.Attester.Missed-from.Duties.Attester.Missed, st.Duties.Proposer.Missed-from.Duties.Proposer.Missed)
	skew(t, wrong.cmd.Process.Pid, 0)
	p.clockIsRight(wrong)

	if testing.Short() {
		return
	}
	// One starts with a clock that is behind: it signs nothing at all before that is known.
	late := p.nodes[2]
	late.stop()
	from = p.mustAccount()
	late.start()
	skew(t, late.cmd.Process.Pid, -2)
	p.clockIsOff(late, "-2s", 60*time.Second)
	p.slots(4)
	p.unsigned(late, currentSlot(from))
	skew(t, late.cmd.Process.Pid, 0)
	p.clockIsRight(late)
	p.wholeEpochs(1, 90*time.Second)
	p.nothingSlashable()
}

// clockOff are the open findings about clocks.
func (n *node) clockOff() ([]alertRow, error) {
	alerts, err := n.alerts()
	return slices.DeleteFunc(alerts, func(a alertRow) bool { return a.Code != "dv.clock-off" }), err
}

// clockIsOff waits until the node refuses to sign for its clock, and all nodes name it.
func (p *practice) clockIsOff(n *node, by string, limit time.Duration) {
	p.t.Helper()
	eventually(p.t, limit, n.name+" refuses to sign", func() error {
		row, err := n.clusterRow()
		if err == nil && (row.SigningOK == nil || *row.SigningOK || !strings.Contains(row.Why, "clock differs from most peers': set it by NTP: 3 of 3 peers are off by more than 500ms")) {
			err = fmt.Errorf("it says %+v", row)
		}
		return err
	})
	for _, who := range p.nodes {
		// The title ends with "(flaps)" when it was so a short time ago already.
		eventually(p.t, 2*time.Minute, who.name+" names the clock of "+n.name, func() error {
			alerts, err := who.clockOff()
			if err == nil && (len(alerts) != 1 || !strings.HasPrefix(alerts[0].Title, "the clock of "+n.name+" is off by "+by) ||
				!slices.ContainsFunc(alerts[0].Next, func(x struct{ Text, Command string }) bool { return x.Command == "chronyc tracking" })) {
				err = fmt.Errorf("it says %v", alerts)
			}
			return err
		})
	}
}

// clockIsRight waits until the node signs again and nobody names it any more.
func (p *practice) clockIsRight(n *node) {
	p.t.Helper()
	p.signing(60*time.Second, n)
	from := currentSlot(p.mustAccount())
	eventually(p.t, 60*time.Second, n.name+" signs again", func() error {
		rows, err := p.nodes[0].duties()
		if err == nil && !slices.ContainsFunc(rows, func(d dutyRow) bool { return d.Slot > from && slices.Contains(d.Partials, n.share()) }) {
			err = fmt.Errorf("no duty after slot %d has its partial signature", from)
		}
		return err
	})
	for _, who := range p.nodes {
		eventually(p.t, 2*time.Minute, who.name+" no longer names the clock of "+n.name, func() error {
			alerts, err := who.clockOff()
			if err == nil && len(alerts) > 0 {
				err = fmt.Errorf("it says %v", alerts)
			}
			return err
		})
	}
}

// unsigned fails where a duty after the slot has the node's partial signature, at any node.
func (p *practice) unsigned(n *node, after uint64) {
	p.t.Helper()
	for _, who := range p.nodes {
		rows, err := who.duties()
		if err != nil {
			p.t.Error(err)
		}
		seen := 0
		for _, d := range rows {
			if d.Slot <= after {
				continue
			}
			seen++
			if slices.Contains(d.Partials, n.share()) {
				p.t.Errorf("%s has %s of slot %d signed by %s, whose clock is wrong", who.name, d.Type, d.Slot, n.name)
			}
		}
		if seen == 0 {
			p.t.Errorf("%s knows of no duty after slot %d", who.name, after)
		}
	}
}

// share is the node's key share, from 1.
func (n *node) share() int {
	for i, o := range n.p.nodes {
		if o == n {
			return i + 1
		}
	}
	return 0
}
