package page

import (
	"fmt"
	"math"
	"strings"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// peers is view 7: quorum, who is late, what one more failure costs, beacon nodes.
type peers struct {
	list
	lens  *lens
	node  *engine.ClusterRow
	count int
}

func peerRole(state string) theme.Role {
	switch state {
	case "up":
		return theme.OK
	case "slow", "syncing", "optimistic":
		return theme.Warn
	case "down", "wrong network":
		return theme.Crit
	}
	return theme.Unknown
}

// What a node's clock may be off before it is marked: peers warn above it, and above
// half a second nothing is signed.
const clockWarn = 50.0

func newPeers(n *lens) *peers {
	p := &peers{lens: n}
	table, _ := engine.TableNamed(string(engine.TablePeers))
	col := func(n string) *engine.Column { c, _ := table.Column(n); return c }
	p.list = list{
		id: Peers, title: "Peers",
		there:  func(s *engine.Snapshot) bool { return s.Peers != nil },
		detail: p.drawDetail,
		about:  p.drawAbout,
		none:   p.drawNone,
		head:   p.drawHead,
		counts: func() int { return p.count },
		label:  func(row engine.Row) string { return row.(*engine.PeerRow).Name },
		copied: func(row engine.Row) string { return row.(*engine.PeerRow).Name },
		legend: []string{
			"RTT round trip   CLOCK + is ahead of ours",
			"PART% its partial signatures that came in time",
			"LATE those that came when enough were there",
			"quorum: nodes that agreement and signature need",
			"copies: nodes that must sign twice until a",
			"slashable group signature can come of it",
		},
	}
	p.tab = widget.NewTable(table,
		widget.Layout{Name: "peer", Width: 9, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			c.Str(v.Str)
			if row.(*engine.PeerRow).Self {
				c.Str(" me")
			}
		}},
		widget.Layout{Name: "state", Width: 7, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			if !v.Known {
				c.Ask()
				return
			}
			c.Role = peerRole(row.(*engine.PeerRow).State)
			c.Sign().Str(v.Str)
			c.Old = c.Old || p.node != nil && !p.node.Heard(p.now)
		}},
		widget.Layout{Name: "rtt", Width: 5},
		widget.Layout{Name: "partials", Width: 5, Draw: func(c *widget.Cell, _ engine.Row, v engine.Value) {
			if v.Known && v.Num < 97 {
				c.Role = theme.Warn
			}
			c.Value(col("partials"), v)
		}},
		widget.Layout{Name: "late", Width: 5},
		widget.Layout{Name: "clock", Width: 6, Draw: func(c *widget.Cell, _ engine.Row, v engine.Value) {
			if v.Known && !v.None {
				if math.Abs(v.Num) > clockWarn {
					c.Role = theme.Warn
				}
				if v.Num > 0 {
					c.Rune('+')
				}
			}
			c.Value(col("clock"), v)
			if c.Role == theme.Warn {
				c.Rune('!')
			}
		}},
		widget.Layout{Name: "version", Width: 9},
		widget.Layout{Name: "lock", Width: 9, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			r := row.(*engine.PeerRow)
			if !v.Known {
				c.Ask()
				return
			}
			if r.LockSame != nil && !*r.LockSame {
				c.Role = theme.Crit
			}
			c.Str(v.Str[:min(len(v.Str), 8)])
			if c.Role == theme.Crit {
				c.Rune('!')
			}
		}},
		widget.Layout{Name: "note", Width: 8, Flex: true},
		widget.Layout{Name: "age", Width: 5, Extra: true},
		widget.Layout{Name: "share", Width: 5, Extra: true},
		widget.Layout{Name: "address", Width: 22, Extra: true},
	)
	p.tab.Where = func(row engine.Row) bool { return ofNode(row.(*engine.PeerRow).Key, p.node) }
	p.bindings(p.lens.binding())
	return p
}

func (p *peers) Sync(l *Look) string {
	before := p.node
	p.node = p.lens.through(l.Snap, l.Now)
	if before == nil || p.node == nil || before.Key != p.node.Key {
		p.tab.Changed()
	}
	p.count = 0
	for i := range l.Snap.Peers.List() {
		if ofNode(l.Snap.Peers.Rows[i].Key, p.node) {
			p.count++
		}
	}
	return p.list.Sync(l)
}

// Render gives the lines below the table what the rows leave.
func (p *peers) Render(b *widget.Buffer, l *Look, r widget.Rect) {
	room := r.H - 2
	p.aboutLines = max(min(len(p.lines(l)), room-max(5, min(p.count+1, room/2))), 0)
	p.list.Render(b, l, r)
}

func (p *peers) drawHead(b *widget.Buffer, l *Look, r widget.Rect) int {
	c := p.node
	if c == nil {
		return 0
	}
	line := r.Line(0).In(1)
	line.W -= drawSeenBy(b, l, line, c)
	line = b.Text(line, fmt.Sprintf("%d nodes, need %d to sign     ", c.Nodes, c.Need()), theme.Text.S())
	switch {
	case !c.Heard(l.Now) || c.PeersUp == nil:
		b.Text(line, "quorum ?", theme.Unknown.S())
	case *c.PeersUp < c.Need():
		b.Text(line, fmt.Sprintf("NO QUORUM, %d of %d are up", *c.PeersUp, c.Nodes), theme.Crit.S())
	case *c.PeersUp == c.Need():
		b.Text(line, "QUORUM OK, can lose none", theme.Warn.S())
	default:
		b.Text(line, fmt.Sprintf("QUORUM OK, can lose %d", *c.PeersUp-c.Need()), theme.OK.S())
	}
	return 1
}

// lines are what stands below the table, each with its worth.
func (p *peers) lines(l *Look) []part {
	c := p.node
	if c == nil {
		return nil
	}
	var out []part
	text := func(keep int, name, text string, role theme.Role) {
		out = append(out, part{keep, func(b *widget.Buffer, _ *Look, r widget.Rect) {
			b.Text(b.Text(r, name+"  ", theme.Title.S()), text, role.S())
		}})
	}
	out = append(out, part{dropSpace, blank})
	if c.PeersUp == nil || !c.Heard(l.Now) {
		text(dropNever, "IF ONE MORE FAILS", "?", theme.Unknown)
	} else {
		after := *c.PeersUp - 1
		words, role := fmt.Sprintf("%d of %d left, signing goes on with no spare.", after, c.Nodes), theme.Text
		switch {
		case *c.PeersUp < c.Need():
			words, role = fmt.Sprintf("nothing is signed already: %d of %d are up, %d are needed.", *c.PeersUp, c.Nodes, c.Need()), theme.Crit
		case after < c.Need():
			words, role = fmt.Sprintf("%d of %d left, signing stops: %d are needed. Nothing slashable.", max(after, 0), c.Nodes, c.Need()), theme.Warn
		case after > c.Need():
			words = fmt.Sprintf("%d of %d left, signing goes on and can lose %d more.", after, c.Nodes, after-c.Need())
		}
		text(dropNever, "IF ONE MORE FAILS", words, role)
	}
	if c.Twins > 0 {
		// 2t-n: two quorums of t among n nodes share at least that many, and those sign both.
		words, role := fmt.Sprintf("%d nodes must sign twice for a slashable signature (2t-n: %d of %d).", c.Twins, c.Threshold, c.Nodes), theme.Text
		if c.Twins == 1 {
			words, role = "1 node that signs twice is enough for a slashable signature!", theme.Warn
		}
		text(dropBlock, "COPIES", words, role)
		text(dropQuiet, "      ", "A copied node or an old store does that: never start a second one.", theme.Hint)
	}
	out = append(out, part{dropSpace, blank})
	// Each with its room, so that what is unknown stays in its column.
	head := true
	for i := range l.Snap.Beacons.List() {
		n := &l.Snap.Beacons.Rows[i]
		if !ofNode(n.Key, c) {
			continue
		}
		if head {
			head = false
			out = append(out, part{dropEvent, func(b *widget.Buffer, _ *Look, r widget.Rect) {
				beaconLine(b, r, theme.Hint.S(), theme.Hint.S(), "BEACON NODES", "STATE", "HEAD", "BEHIND", "PEERS", "LAT", "VERSION")
			}})
		}
		out = append(out, part{dropSource, func(b *widget.Buffer, l *Look, r widget.Rect) {
			st := theme.Text.S()
			if !c.Heard(l.Now) {
				st = theme.Old.S()
			}
			lat := "?"
			if n.LatencyMS != nil {
				lat = fmt.Sprintf("%.0fms", *n.LatencyMS)
			}
			role := peerRole(n.State)
			word := string(b.Glyphs.Sign(role)) + " " + n.State
			if role == theme.Unknown {
				word = "?"
			}
			last := orAskText(n.Version)
			if n.Problem != "" {
				last = n.Problem
			}
			beaconLine(b, r, st, role.S(), n.Address, word, showUint(n.HeadSlot), showUint(n.Behind), showUint(n.Peers), lat, last)
		}})
	}
	if head {
		text(dropSource, "BEACON NODES", "none is known", theme.Unknown)
	}
	out = append(out, part{dropSpace, blank})
	same, other, all, hash := 0, 0, 0, ""
	for i := range l.Snap.Peers.List() {
		q := &l.Snap.Peers.Rows[i]
		if !ofNode(q.Key, c) {
			continue
		}
		all++
		if q.LockSame != nil && *q.LockSame {
			same, hash = same+1, q.LockHash
		} else if q.LockSame != nil {
			other++
		}
	}
	words, role := fmt.Sprintf("%s same on %d of %d, threshold %d", orAskText(shortHex(hash, '.')), same, all, c.Threshold), theme.Hint
	if other > 0 {
		words, role = fmt.Sprintf("%d of %d have another lock: they can not sign with us", other, all), theme.Crit
	}
	text(dropQuiet, "LOCK", words, role)
	return out
}

func beaconLine(b *widget.Buffer, r widget.Rect, st, state theme.Style, addr, word, head, behind, peers, lat, last string) {
	at := r.X
	put := func(w int, text string, st theme.Style, right bool) {
		cell := widget.Rect{X: at, Y: r.Y, W: min(w, max(r.X+r.W-at, 0)), H: 1}
		if right {
			b.Right(cell, text, st)
		} else {
			b.Text(cell, text, st)
		}
		at += w + 1
	}
	put(max(min(r.W/3, 36), 18), addr, st, false)
	put(12, word, state, false)
	put(9, head, st, true)
	put(6, behind, st, true)
	put(5, peers, st, true)
	put(5, lat, st, true)
	put(max(r.X+r.W-at, 0), last, st, false)
}

func (p *peers) drawAbout(b *widget.Buffer, l *Look, r widget.Rect, _ engine.Row) {
	for y, x := range fit(p.lines(l), r.H) {
		x.draw(b, l, r.Line(y))
	}
}

func (p *peers) drawNone(b *widget.Buffer, l *Look, r widget.Rect) {
	switch {
	case !l.Ready():
		b.Text(r.Line(0), "Not read yet.", theme.Unknown.S())
	case l.Snap.Peers == nil:
		b.Text(r.Line(0), "This engine does not run validators, so there are no peers.", theme.Text.S())
	default:
		b.Text(r.Line(0), "No node has named its peers yet.", theme.Text.S())
	}
}

func (p *peers) drawDetail(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
	q := row.(*engine.PeerRow)
	y := 0
	next := func() widget.Rect { y++; return r.Line(y - 1) }
	put := func(name, text string) { b.Text(fact(b, next(), name), text, theme.Text.S()) }
	at := roleWord(b, fact(b, next(), "state"), peerRole(q.State), orAskText(q.State))
	if q.Since != nil {
		at = b.Text(at, fmt.Sprintf(" since %s (%s)", Clock(*q.Since, l.Now), Age(l.Now.Sub(*q.Since))), theme.Text.S())
	}
	if p.node != nil {
		if age := heardAge(l, p.node); age != "" {
			b.Text(at, "   "+p.node.Key.Node+" "+age, theme.Old.S())
		}
	}
	if q.Problem != "" {
		for i, line := range widget.Wrap(strings.Fields(q.Problem), max(r.W-10, 8)) {
			name := ""
			if i == 0 {
				name = "problem"
			}
			put(name, line)
		}
	}
	who := fmt.Sprintf("node %d of the lock, key share %d", q.Index, q.Share)
	if q.Self {
		who += ", the one that tells this"
	}
	put("who", who)
	ms := func(v *float64, sign bool) string {
		switch {
		case v == nil:
			return "?"
		case sign:
			return fmt.Sprintf("%+.0f ms", *v)
		}
		return fmt.Sprintf("%.1f ms", *v)
	}
	if !q.Self {
		put("reach", ms(q.RTTMS, false)+" there and back, at "+orAskText(q.Address))
		clock := ms(q.ClockMS, true) + " against ours"
		if q.ClockMS != nil && math.Abs(*q.ClockMS) > clockWarn {
			clock += ": look at its time service"
		}
		put("clock", clock)
	}
	part := "?"
	if q.PartialsPct != nil {
		part = fmt.Sprintf("%.1f%%", floor1(*q.PartialsPct))
	}
	put("signs", part+" of its partial signatures in the last hour, "+showUint(q.Late)+" late in all")
	put("runs", orAskText(q.Client)+" "+orAskText(q.Version))
	lock := orAskText(q.LockHash)
	if q.LockSame != nil && !*q.LockSame {
		lock += "  ANOTHER LOCK: it can not sign with us"
	}
	for i, line := range widget.Wrap(strings.Fields(lock), max(r.W-10, 8)) {
		name := ""
		if i == 0 {
			name = "lock"
		}
		put(name, line)
	}
	line := widget.Rect{}
	for i := range l.Snap.Peers.List() {
		o := &l.Snap.Peers.Rows[i]
		if o.Key.Cluster != q.Key.Cluster || o.Name != q.Name || o.Key == q.Key || o.Self {
			continue
		}
		if line.W == 0 {
			line = fact(b, next(), "others")
		}
		if line.W < widget.Width(o.Key.Node+o.State)+9 {
			line = fact(b, next(), "")
		}
		line = b.Text(b.Text(line, o.Key.Node+" sees it ", theme.Hint.S()), orAskText(o.State)+"   ", peerRole(o.State).S())
	}
	y++
	put("NEXT", "o  as another node sees it   D  doctor")
}
