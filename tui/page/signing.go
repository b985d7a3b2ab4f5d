package page

import (
	"fmt"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// lens says through which node of a cluster the views of validators look. What nodes
// see differs, so a view shows one of them and says which. It is shared by the views
// of one screen; key o turns it.
type lens struct {
	chosen engine.Key // zero: the node that was heard and sees most peers
}

// through gives the node that is looked through, nil when there is none.
func (n *lens) through(s *engine.Snapshot, now time.Time) *engine.ClusterRow {
	rows := s.Clusters.List()
	var best *engine.ClusterRow
	for i := range rows {
		r := &rows[i]
		if r.Key == n.chosen {
			return r
		}
		if best == nil || r.Better(best, now) {
			best = r
		}
	}
	return best
}

// turn chooses the next node.
func (n *lens) turn(h Host) {
	l := h.Look()
	rows := l.Snap.Clusters.List()
	at := n.through(l.Snap, l.Now)
	if len(rows) < 2 || at == nil {
		h.Say("this engine has one node only")
		return
	}
	for i := range rows {
		if rows[i].Key == at.Key {
			n.chosen = rows[(i+1)%len(rows)].Key
			h.Say("as " + lensName(&rows[(i+1)%len(rows)], rows) + " sees it")
			h.Resort()
			return
		}
	}
}

func lensName(r *engine.ClusterRow, rows []engine.ClusterRow) string {
	for i := range rows {
		if rows[i].Key.Cluster != r.Key.Cluster {
			return orDash(r.Name) + "/" + r.Key.Node
		}
	}
	return r.Key.Node
}

func (n *lens) binding() Binding {
	return Binding{Name: "node.other", Key: Keys("", "as another node sees it", "o"), Brief: "other node", Group: GroupView, Hint: 6, Do: n.turn}
}

// ofNode tells whether a row belongs to the node that is looked through.
func ofNode(k engine.Key, c *engine.ClusterRow) bool {
	return c != nil && k.Machine == c.Key.Machine && k.Cluster == c.Key.Cluster && k.Node == c.Key.Node
}

// drawSeenBy says at the right end whose view it is, and how old when it is.
func drawSeenBy(b *widget.Buffer, l *Look, r widget.Rect, c *engine.ClusterRow) int {
	text, st := "", theme.Hint.S()
	if rows := l.Snap.Clusters.List(); len(rows) > 1 {
		text = "as " + lensName(c, rows) + " sees it"
	}
	if age := heardAge(l, c); age != "" {
		text, st = c.Key.Node+" "+age, theme.Old.S()
	}
	w := widget.Width(text)
	if w > 0 && w < r.W/2 {
		b.Right(r.Line(0), text, st)
		return w + 2
	}
	return 0
}

// heardAge says how long ago a node told what is shown, "" when that is fresh.
func heardAge(l *Look, c *engine.ClusterRow) string {
	switch {
	case c.Seen == nil:
		return "has told nothing yet"
	case !c.Heard(l.Now):
		return "last heard " + coarse(l.Now.Sub(*c.Seen)) + " ago ~"
	}
	return ""
}

// slotNow is the chain's slot at the screen's moment; known is false before the genesis is told.
func slotNow(c *engine.ClusterRow, now time.Time) (slot uint64, left time.Duration, known bool) {
	if c == nil || c.Slot == nil {
		return 0, 0, false
	}
	if c.SlotAt == nil || c.SlotS == nil || *c.SlotS <= 0 {
		return *c.Slot, 0, true
	}
	d := time.Duration(*c.SlotS * float64(time.Second))
	n := max(int64(now.Sub(*c.SlotAt)/d), 0)
	if !c.Heard(now) {
		n = 0 // its clock is not gone on with
	}
	return *c.Slot + uint64(n), max(c.SlotAt.Add(time.Duration(n+1)*d).Sub(now), 0), true
}

// restartAnswer is the word for a restart now, what follows it, and its role.
func restartAnswer(re engine.Restart) (word, rest string, role theme.Role) {
	left := ""
	if re.ForS != nil {
		left = Left(time.Duration(*re.ForS * float64(time.Second)))
	}
	switch {
	case re.Safe == nil:
		return "?", "", theme.Unknown
	case !*re.Safe:
		if left != "" {
			rest = ", ask again in " + left
		}
		return "NOT NOW", rest, theme.Warn
	case left != "":
		rest = " for " + left
	}
	return "SAFE", rest, theme.OK
}

// restartReason says what ends the time that is safe, and why it is so.
func restartReason(re engine.Restart) string {
	switch {
	case re.Why == "" && re.Safe == nil:
		return "not known"
	case re.Until == "" || re.Safe == nil || !*re.Safe:
		return re.Why
	case re.Why == "":
		return "until " + re.Until
	}
	return "until " + re.Until + "; " + re.Why
}

// drawAnswer writes a node's answer on one line.
func drawAnswer(b *widget.Buffer, r widget.Rect, re engine.Restart) {
	word, rest, role := restartAnswer(re)
	r = b.Text(b.Text(r, word, role.S().With(theme.Strong)), rest+"  ", theme.Text.S())
	b.Text(r, restartReason(re), theme.Text.S())
}

// signers lists one row for each cluster: the node that knows best.
func signers(l *Look) []*engine.ClusterRow {
	var out []*engine.ClusterRow
	rows := l.Snap.Clusters.List()
next:
	for i := range rows {
		for j, o := range out {
			if o.Key.Cluster == rows[i].Key.Cluster {
				if rows[i].Better(o, l.Now) {
					out[j] = &rows[i]
				}
				continue next
			}
		}
		out = append(out, &rows[i])
	}
	return out
}

// drawSigning says of one cluster whether it signs, in one line.
func drawSigning(c *engine.ClusterRow, name bool) func(*widget.Buffer, *Look, widget.Rect) {
	return func(b *widget.Buffer, l *Look, r widget.Rect) {
		if name {
			r = b.Text(r, orDash(c.Name)+"  ", theme.Title.S())
		}
		if age := heardAge(l, c); age != "" {
			b.Text(r, c.Key.Node+" "+age, theme.Old.S())
			return
		}
		if c.SigningOK != nil && !*c.SigningOK {
			r = b.Text(r, "NOT SIGNING", theme.Crit.S())
			if c.Why != "" {
				r = b.Text(r, "  "+c.Why, theme.Text.S())
			}
			r = b.Text(r, "   ", theme.Text.S())
		}
		r = drawPeersUp(b, r, c)
		r = b.Text(r, "     ", theme.Text.S())
		b.Text(drawTotals(b, r, c.Attester.Plus(c.Proposer)), "", theme.Text.S())
	}
}

func drawPeersUp(b *widget.Buffer, r widget.Rect, c *engine.ClusterRow) widget.Rect {
	if c.PeersUp == nil {
		return b.Text(b.Text(r, "peers ", theme.Hint.S()), "?", theme.Unknown.S())
	}
	role := theme.OK
	switch {
	case *c.PeersUp < c.Need():
		role = theme.Crit
	case *c.PeersUp < c.Nodes:
		role = theme.Warn
	}
	r = b.Text(r, fmt.Sprintf("peers %d/%d", *c.PeersUp, c.Nodes), role.S())
	return b.Text(r, fmt.Sprintf(", need %d", c.Need()), theme.Text.S())
}

func drawTotals(b *widget.Buffer, r widget.Rect, t engine.DutyTotals) widget.Rect {
	if p := t.Percent(); p != nil {
		r = b.Text(r, fmt.Sprintf("done %.1f%%   ", floor1(*p)), theme.Text.S())
	} else {
		r = b.Text(b.Text(r, "done ", theme.Hint.S()), "?   ", theme.Unknown.S())
	}
	st := theme.Text.S()
	if t.Missed > 0 {
		st = theme.Warn.S()
	}
	r = b.Text(r, fmt.Sprintf("missed %d", t.Missed), st)
	return b.Text(r, fmt.Sprintf("   late %d", t.Late), theme.Text.S())
}

// floor1 keeps 99.97% from being shown as 100.
func floor1(p float64) float64 { return float64(int(p*10)) / 10 }

// dueWords is "attest x4 in 0:07".
func dueWords(d *engine.NextDuty, now time.Time) string {
	s := engine.DutyWord(d.Type)
	if d.Count > 1 {
		s += fmt.Sprintf(" x%d", d.Count)
	} else if d.Validator != "" {
		s += " " + d.Validator
	}
	return s + " in " + Left(d.At.Sub(now))
}

// drawNext lists what is due next, the soonest first.
func drawNext(c *engine.ClusterRow) func(*widget.Buffer, *Look, widget.Rect) {
	return func(b *widget.Buffer, l *Look, r widget.Rect) {
		r = b.Text(r, "next duty  ", theme.Hint.S())
		n := 0
		for i := range c.Next {
			d := &c.Next[i]
			text := dueWords(d, l.Now)
			if !d.At.After(l.Now) || widget.Width(text) > r.W {
				continue
			}
			n++
			r = b.Text(b.Text(r, text, theme.Text.S()), "    ", theme.Text.S())
		}
		switch {
		case n > 0:
		case noneActive(l.Snap, c):
			b.Text(r, "none: no active validators for this slot (6 says why)", theme.Hint.S())
		case c.Slot == nil:
			b.Text(r, "?", theme.Unknown.S())
		default:
			b.Text(r, "none known", theme.Hint.S())
		}
	}
}

// noneActive tells whether the chain is known to have no duty for any validator of a cluster.
func noneActive(s *engine.Snapshot, c *engine.ClusterRow) bool {
	n := 0
	for i := range s.Validators.List() {
		v := &s.Validators.Rows[i]
		if !ofNode(v.Key, c) {
			continue
		}
		switch v.Status {
		case "active", "exiting", "unknown", "":
			return false
		}
		n++
	}
	return n > 0
}

// signingLines are the overview's lines about signing, for a narrow screen.
func signingLines(l *Look) []part {
	var out []part
	rows := signers(l)
	if len(rows) == 0 {
		return []part{{dropNever, labelled("SIGNING", func(b *widget.Buffer, _ *Look, r widget.Rect) {
			b.Text(r, "no node has told anything yet", theme.Unknown.S())
		})}}
	}
	for i, c := range rows {
		label, keep := "", dropMore
		if i == 0 {
			label, keep = "SIGNING", dropNever
		}
		out = append(out, part{keep, labelled(label, drawSigning(c, len(rows) > 1))})
	}
	return append(out, part{dropBlock, labelled("", drawNext(rows[0]))})
}

// drawSigningBox is the signing block inside a frame.
func drawSigningBox(b *widget.Buffer, l *Look, r widget.Rect) {
	var lines []part
	add := func(keep int, draw func(*widget.Buffer, *Look, widget.Rect)) {
		lines = append(lines, part{keep, draw})
	}
	rows := signers(l)
	if len(rows) == 0 {
		add(dropNever, func(b *widget.Buffer, _ *Look, r widget.Rect) {
			b.Text(r, "no node has told anything yet", theme.Unknown.S())
		})
	}
	for i, c := range rows {
		keep := dropMore
		if i == 0 {
			keep = dropNever
		}
		add(keep, func(b *widget.Buffer, l *Look, r widget.Rect) {
			if len(rows) > 1 {
				r = b.Text(r, orDash(c.Name)+"  ", theme.Title.S())
			}
			if age := heardAge(l, c); age != "" {
				b.Text(r, c.Key.Node+" "+age, theme.Old.S())
				return
			}
			if c.SigningOK != nil && !*c.SigningOK {
				r = b.Text(r, "NOT SIGNING  ", theme.Crit.S())
				r = b.Text(r, c.Why+"  ", theme.Text.S())
			}
			r = drawPeersUp(b, r, c)
			if c.PeersUp != nil {
				if spare := *c.PeersUp - c.Need(); spare > 0 {
					b.Text(r, fmt.Sprintf("   can lose %d", spare), theme.Text.S())
				} else if spare == 0 {
					b.Text(r, "   no spare", theme.Warn.S())
				}
			}
		})
		add(dropBlock, func(b *widget.Buffer, l *Look, r widget.Rect) {
			r = drawTotals(b, r, c.Attester.Plus(c.Proposer))
			if n := c.Proposer.Over(); n > 0 {
				r = b.Text(r, fmt.Sprintf("   blocks %d/%d", c.Proposer.Done, n), theme.Text.S())
			}
			if !c.Since.IsZero() {
				b.Text(r, "   in "+coarse(l.Now.Sub(c.Since)), theme.Hint.S())
			}
		})
	}
	add(dropNever, labelled9("restart", drawRestart))
	if len(rows) > 0 {
		c := rows[0]
		shown := 0
		for i := range c.Next {
			d := &c.Next[i]
			if !d.At.After(l.Now) || shown > 2 {
				continue
			}
			label := ""
			if shown == 0 {
				label = "next"
			}
			shown++
			add(dropMore, labelled9(label, func(b *widget.Buffer, l *Look, r widget.Rect) {
				b.Text(b.Text(r, dueWords(d, l.Now), theme.Text.S()), fmt.Sprintf("  slot %d", d.Slot), theme.Hint.S())
			}))
		}
		if shown == 0 {
			add(dropMore, func(b *widget.Buffer, l *Look, r widget.Rect) { drawNext(c)(b, l, r) })
		}
		if c.Epoch != nil && c.SlotsPerEpoch != nil && *c.SlotsPerEpoch > 0 {
			add(dropQuiet, labelled9("epoch", func(b *widget.Buffer, l *Look, r widget.Rect) {
				slot, _, ok := slotNow(c, l.Now)
				if !ok {
					b.Text(r, "?", theme.Unknown.S())
					return
				}
				per := *c.SlotsPerEpoch
				r = b.Text(r, fmt.Sprintf("%d  ", slot/per), theme.Text.S())
				b.Bar(r.Cut(int(min(per, 32))), float64(slot%per)/float64(per), theme.OK.S())
				b.Text(r.Skip(int(min(per, 32))+1), fmt.Sprintf("%d/%d", slot%per, per), theme.Hint.S())
			}))
		}
		if l.Sparks {
			add(dropSpark, labelled9("delay", func(b *widget.Buffer, l *Look, r widget.Rect) { drawDelays(b, l, r, c) }))
		}
		add(dropQuiet, labelled9("signed", func(b *widget.Buffer, l *Look, r widget.Rect) {
			for i := range l.Snap.Peers.List() {
				p := &l.Snap.Peers.Rows[i]
				if !ofNode(p.Key, c) || r.W < widget.Width(p.Name)+8 {
					continue
				}
				st := theme.Text.S()
				text := "?"
				if p.PartialsPct != nil {
					if text = strings.TrimSuffix(fmt.Sprintf("%.1f", floor1(*p.PartialsPct)), ".0") + "%"; *p.PartialsPct < 97 {
						st = theme.Warn.S()
					}
				}
				if p.State == "down" {
					st = theme.Crit.S()
				}
				r = b.Text(b.Text(r, p.Name+" ", theme.Hint.S()), text+"  ", st)
			}
		}))
	}
	for i, g := range l.Sum.Nodes {
		label := ""
		if i == 0 {
			label = "nodes"
		}
		add(dropQuiet, labelled9(label, func(b *widget.Buffer, l *Look, r widget.Rect) { drawNodes(b, l, r, l.Snap.Nodes.Rows[g.From:g.To]) }))
	}
	for y, p := range fit(lines, r.H) {
		p.draw(b, l, r.Line(y))
	}
}

// drawDelays shows how long the newest duties took from due to group signature.
func drawDelays(b *widget.Buffer, l *Look, r widget.Rect, c *engine.ClusterRow) {
	width := min(max(r.W-12, 0), 30)
	vals := make([]*float64, 0, 30)
	for i := range l.Snap.Duties.List() { // the newest first
		d := &l.Snap.Duties.Rows[i]
		if d.Type == "attester" && ofNode(d.Key, c) && d.DelayMS != nil && len(vals) < width {
			vals = append(vals, d.DelayMS)
		}
	}
	if len(vals) == 0 {
		b.Text(r, "?", theme.Unknown.S())
		return
	}
	last := *vals[0]
	for i, j := 0, len(vals)-1; i < j; i, j = i+1, j-1 {
		vals[i], vals[j] = vals[j], vals[i]
	}
	r = b.Spark(r.Cut(r.W), vals, 0, theme.OK.S())
	b.Text(r, fmt.Sprintf("  %.1fs now", last/1000), theme.Text.S())
}

// runs tells whether the nodes of a run of rows are run by this engine, and not only shown.
func runs(s *engine.Snapshot, n *engine.NodeRow) bool {
	for i := range s.Clusters.List() {
		if r := &s.Clusters.Rows[i]; r.Key.Cluster == n.Key.Cluster && r.Key.Node == n.Key.Node {
			return true
		}
	}
	return false
}

// shortHex keeps the ends of a long hexadecimal number: "0x8f2c…41aa".
func shortHex(s string, dots rune) string {
	if len(s) <= 13 || !strings.HasPrefix(s, "0x") {
		return s
	}
	return s[:6] + string(dots) + s[len(s)-4:]
}

// EpochWord is the chain's clock for the first line: "e431316 9/32", "" where no
// validators run. Of several chains it is that of the first cluster.
func EpochWord(l *Look) string {
	rows := signers(l)
	if len(rows) == 0 {
		return ""
	}
	slot, _, ok := slotNow(rows[0], l.Now)
	if !ok || rows[0].SlotsPerEpoch == nil || *rows[0].SlotsPerEpoch == 0 {
		return "e?"
	}
	per := *rows[0].SlotsPerEpoch
	text := fmt.Sprintf("e%d %d/%d", slot/per, slot%per, per)
	if !rows[0].Heard(l.Now) {
		text += "~"
	}
	return text
}

// ValidatorCount counts the validators of all clusters, each once.
func ValidatorCount(l *Look) int {
	n := 0
	for _, c := range signers(l) {
		for i := range l.Snap.Validators.List() {
			if ofNode(l.Snap.Validators.Rows[i].Key, c) {
				n++
			}
		}
	}
	return n
}

// PeersWord is " 4/4": the nodes that are up in the cluster with the least spare.
func PeersWord(l *Look) string {
	var worst *engine.ClusterRow
	for _, c := range signers(l) {
		if c.PeersUp == nil || !c.Heard(l.Now) {
			return " ?"
		}
		if worst == nil || *c.PeersUp-c.Need() < *worst.PeersUp-worst.Need() {
			worst = c
		}
	}
	if worst == nil {
		return ""
	}
	return fmt.Sprintf(" %d/%d", *worst.PeersUp, worst.Nodes)
}

// SigningWord sums signing up for a screen that is too small for views, "" where no
// validators run: "sign ok 4/4  duty 0:07  SAFE for 6m".
func SigningWord(l *Look) (string, theme.Role) {
	rows := signers(l)
	if len(rows) == 0 {
		return "", theme.Text
	}
	word, role := "ok", theme.Text
	var next *engine.NextDuty
	for _, c := range rows {
		switch {
		case !c.Heard(l.Now) || c.SigningOK == nil:
			if word == "ok" {
				word, role = "?", theme.Unknown
			}
		case !*c.SigningOK:
			word, role = "NO", theme.Crit
		}
		for i := range c.Next {
			if d := &c.Next[i]; d.At.After(l.Now) && (next == nil || d.At.Before(next.At)) {
				next = d
			}
		}
	}
	text := "sign " + word + PeersWord(l)
	if next != nil {
		text += "  duty " + Left(next.At.Sub(l.Now))
	}
	safe, rest, _ := restartAnswer(l.Snap.RestartNow(l.Now))
	return text + "  " + safe + rest, role
}
