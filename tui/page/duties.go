package page

import (
	"fmt"
	"strings"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// duties is view 5: what is due, what was missed and why, when may I restart.
type duties struct {
	list
	lens   *lens
	node   *engine.ClusterRow // looked through, nil for none
	count  int                // its rows
	epoch  uint64
	slots  []slotSum // of the epoch, by place in it
	ages   bool
	follow bool       // the cursor stays on what is due now
	put    engine.Key // where the cursor was put then
}

// slotSum counts a slot's attestations.
type slotSum struct{ all, done, now, missed int }

func dutyRole(s engine.DutyState) theme.Role {
	switch s {
	case engine.DutyKnown:
		return theme.Idle
	case engine.DutyAgreeing, engine.DutySigning:
		return theme.Busy
	case engine.DutySent, engine.DutyIncluded:
		return theme.OK
	case engine.DutyMissed:
		return theme.Crit
	}
	return theme.Unknown
}

func newDuties(n *lens) *duties {
	p := &duties{lens: n, follow: true}
	table, _ := engine.TableNamed(string(engine.TableDuties))
	p.list = list{
		id: Duties, title: "Duties",
		there:      func(s *engine.Snapshot) bool { return s.Duties != nil },
		detail:     p.drawDetail,
		about:      p.drawAbout,
		aboutLines: 2,
		none:       p.drawNone,
		head:       p.drawHead,
		counts:     func() int { return p.count },
		label: func(row engine.Row) string {
			d := row.(*engine.DutyRow)
			return fmt.Sprintf("%s in slot %d", engine.DutyWord(d.Type), d.Slot)
		},
		copied: func(row engine.Row) string { return fmt.Sprint(row.(*engine.DutyRow).Slot) },
		legend: []string{
			"known not due yet    agreeing nodes decide",
			"signing partial signatures are gathered",
			"sent the group signature is on its way",
			"included the chain has it    missed it was lost",
			"PARTIALS key shares whose signature came",
			"DELAY from due to the group signature",
			"o turns to another node: each sees its own",
		},
	}
	p.tab = widget.NewTable(table,
		widget.Layout{Name: "at", Width: 9, Draw: func(c *widget.Cell, row engine.Row, _ engine.Value) { p.drawWhen(c, row.(*engine.DutyRow)) }},
		widget.Layout{Name: "slot", Width: 9},
		widget.Layout{Name: "duty", Width: 9, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			c.Str(v.Str)
			if n := len(row.(*engine.DutyRow).Validators); n > 1 {
				c.Str(" x").Int(int64(n))
			}
		}},
		widget.Layout{Name: "validators", Width: 12, Flex: true, Draw: func(c *widget.Cell, row engine.Row, _ engine.Value) {
			if len(row.(*engine.DutyRow).Validators) == 0 {
				c.Ask()
			}
			for i, v := range row.(*engine.DutyRow).Validators {
				if i > 0 {
					c.Rune(' ')
				}
				if i == 12 {
					c.Str("and more")
					break
				}
				c.Str(shortHex(v, '.'))
			}
		}},
		widget.Layout{Name: "state", Width: 11, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			if !v.Known {
				c.Ask()
				return
			}
			c.Role = dutyRole(row.(*engine.DutyRow).State)
			c.Sign().Str(v.Str)
			p.old(c)
		}},
		widget.Layout{Name: "partials", Width: 9, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			switch {
			case !v.Known:
				c.Ask()
			case v.None:
				c.Role = theme.Hint
				c.Str("needs ").Int(int64(row.(*engine.DutyRow).Need))
			default:
				p.drawShares(c, row.(*engine.DutyRow))
			}
		}},
		widget.Layout{Name: "delay", Width: 5, Draw: func(c *widget.Cell, _ engine.Row, v engine.Value) {
			switch {
			case !v.Known:
				c.Ask()
			case v.None:
				c.Dash()
			default:
				c.Float(v.Num/1000, 1).Rune('s')
			}
		}},
		widget.Layout{Name: "why", Width: 40, Extra: true},
		widget.Layout{Name: "round", Width: 5, Extra: true},
	)
	p.tab.Where = func(row engine.Row) bool { return ofNode(row.(*engine.DutyRow).Key, p.node) }
	p.bindings(
		Binding{Name: "duty.now", Key: Keys("", "jump to what is due now", "."), Brief: "now", Group: GroupView, Hint: 2, Off: p.noRow, Do: func(h Host) {
			p.follow, p.put = true, engine.Key{}
			h.Resort()
		}},
		p.lens.binding(),
		Binding{Name: "duty.validators", Key: Keys("", "its validators", "6"), Group: GroupView, Off: p.noRow, Do: func(h Host) {
			h.Go(Validators, "")
		}},
	)
	return p
}

// old marks a cell of a node that was not heard of late.
func (p *duties) old(c *widget.Cell) {
	c.Old = c.Old || p.node != nil && !p.node.Heard(p.now)
}

func (p *duties) drawWhen(c *widget.Cell, d *engine.DutyRow) {
	in := d.At.Sub(p.now)
	switch {
	case d.At.IsZero():
		c.Ask()
	case in > 0:
		c.Str("in ").Str(Left(in))
	case d.State == engine.DutyAgreeing || d.State == engine.DutySigning:
		c.Role = theme.Busy
		c.Str("now")
	case p.ages:
		c.Str(coarse(-in)).Str(" ago")
	default:
		c.Str(Clock(d.At, p.now))
	}
}

// drawShares writes which key shares have signed: "1 2 . 4".
func (p *duties) drawShares(c *widget.Cell, d *engine.DutyRow) {
	nodes := 0
	if p.node != nil {
		nodes = p.node.Nodes
	}
	if len(d.Partials) < d.Need && d.State == engine.DutyMissed {
		c.Role = theme.Crit
	}
	if nodes < 1 || nodes > 9 {
		c.Int(int64(len(d.Partials))).Rune('/').Int(int64(d.Need))
		return
	}
	for i := 1; i <= nodes; i++ {
		if i > 1 && nodes <= 5 {
			c.Rune(' ')
		}
		has := false
		for _, n := range d.Partials {
			has = has || n == i
		}
		if has {
			c.Int(int64(i))
		} else {
			c.Rune('.')
		}
	}
}

// Sync takes a snapshot: rows of one node, counts of its epoch, and the cursor on now.
func (p *duties) Sync(l *Look) string {
	p.ages = l.Ages
	before := p.node
	p.node = p.lens.through(l.Snap, l.Now)
	if before == nil || p.node == nil || before.Key != p.node.Key {
		p.tab.Changed()
	}
	p.count, p.slots = 0, p.slots[:0]
	per := uint64(0)
	slot, _, ok := slotNow(p.node, l.Now)
	if ok && p.node.SlotsPerEpoch != nil && *p.node.SlotsPerEpoch > 0 && *p.node.SlotsPerEpoch <= 128 {
		per = *p.node.SlotsPerEpoch
		p.epoch = slot / per
		for range per {
			p.slots = append(p.slots, slotSum{})
		}
	}
	var now engine.Key
	found := false
	for i := range l.Snap.Duties.List() { // the newest slot first
		d := &l.Snap.Duties.Rows[i]
		if !ofNode(d.Key, p.node) {
			continue
		}
		p.count++
		if !found && !d.At.After(l.Now) {
			now, found = d.Key, true
		}
		if per == 0 || d.Type != "attester" || d.Slot/per != p.epoch {
			continue
		}
		s, n := &p.slots[d.Slot%per], len(d.Validators)
		s.all += n
		switch d.State {
		case engine.DutySent, engine.DutyIncluded:
			s.done += n
		case engine.DutyMissed:
			s.missed += n
		case engine.DutyAgreeing, engine.DutySigning:
			s.now += n
		}
	}
	if row := p.tab.Current(); row != nil && p.put != (engine.Key{}) && row.(*engine.DutyRow).Key != p.put {
		p.follow = false // the user has moved
	}
	said := p.list.Sync(l)
	if p.follow {
		p.put = engine.Key{}
		if found && p.tab.Select(now) {
			p.put = now
			p.tab.Place(max(p.tab.Page()/3, 1))
		}
		said = ""
	}
	return said
}

// drawHead draws slot and epoch, whether a restart is safe, and the epoch slot by slot.
func (p *duties) drawHead(b *widget.Buffer, l *Look, r widget.Rect) int {
	c := p.node
	if c == nil {
		return 0
	}
	line := r.Line(0).In(1)
	line.W -= drawSeenBy(b, l, line, c)
	st := theme.Text.S()
	if !c.Heard(l.Now) {
		st = theme.Old.S()
	}
	slot, left, ok := slotNow(c, l.Now)
	switch {
	case !ok:
		b.Text(b.Text(line, "slot ", theme.Hint.S()), "?  the genesis is not known yet", theme.Unknown.S())
	case c.SlotsPerEpoch == nil || *c.SlotsPerEpoch == 0:
		b.Text(line, fmt.Sprintf("slot %d", slot), st)
	default:
		per := *c.SlotsPerEpoch
		line = b.Text(line, fmt.Sprintf("slot %d  epoch %d  %d of %d", slot, slot/per, slot%per, per), st)
		if c.Heard(l.Now) && c.SlotS != nil {
			b.Text(line, "   next slot in "+Left(left), theme.Hint.S())
		}
	}
	line = b.Text(r.Line(1).In(1), "RESTART  ", theme.Title.S())
	drawAnswer(b, line, c.RestartNow(l.Now))
	if r.H < 15 {
		return 2
	}
	used := 3
	if len(p.slots) > 0 {
		p.drawEpoch(b, l, r.Below(3), int(slot%uint64(len(p.slots))))
		used = 8
	}
	return used
}

func (p *duties) drawEpoch(b *widget.Buffer, l *Look, r widget.Rect, at int) {
	var sum slotSum
	for _, s := range p.slots {
		sum.all, sum.done, sum.now, sum.missed = sum.all+s.all, sum.done+s.done, sum.now+s.now, sum.missed+s.missed
	}
	line := b.Text(r.Line(0).In(1), fmt.Sprintf("epoch %d   attest %d of %d done, %d now, ", p.epoch, sum.done, sum.all, sum.now), theme.Text.S())
	role := theme.Text
	if sum.missed > 0 {
		role = theme.Crit
	}
	b.Text(line, fmt.Sprintf("%d missed", sum.missed), role.S())
	b.Right(r.Line(0).In(1), "[ ] = this slot", theme.Hint.S())
	const label, cell = 8, 3
	n := min((r.W-2-label)/cell, len(p.slots))
	if n < 1 {
		return
	}
	from := min(max(at-n/2, 0), len(p.slots)-n)
	for y, name := range []string{"slot +", "done", "missed"} {
		b.Text(r.Line(y+1).In(1), name, theme.Hint.S())
	}
	for k := range n {
		s := &p.slots[from+k]
		put := func(y int, text string, st theme.Style) {
			b.Right(widget.Rect{X: r.X + 1 + label + k*cell, Y: r.Y + y, W: cell - 1, H: 1}, text, st)
		}
		put(1, fmt.Sprint(from+k), theme.Hint.S())
		switch {
		case s.all == 0:
			put(2, ".", theme.Hint.S())
		case from+k > at || s.done == 0 && s.missed == 0:
			put(2, fmt.Sprint(s.all), theme.Hint.S())
		default:
			put(2, fmt.Sprint(s.done), theme.OK.S())
		}
		if s.missed > 0 {
			put(3, fmt.Sprint(s.missed), theme.Crit.S())
		} else if from+k <= at {
			put(3, ".", theme.Hint.S())
		}
		if from+k == at {
			x := r.X + 1 + label + k*cell
			b.Text(widget.Rect{X: x - 1, Y: r.Y + 1, W: 1, H: 1}, "[", theme.Key.S())
			b.Text(widget.Rect{X: x + cell - 1, Y: r.Y + 1, W: 1, H: 1}, "]", theme.Key.S())
		}
	}
}

func (p *duties) drawAbout(b *widget.Buffer, _ *Look, r widget.Rect, row engine.Row) {
	if d, ok := row.(*engine.DutyRow); ok && d.Why != "" {
		b.Text(b.Text(r.Line(0), fmt.Sprintf("%s in %d: ", engine.DutyWord(d.Type), d.Slot), theme.Title.S()), d.Why, theme.Text.S())
	}
	text := "PARTIALS are key shares from 1. Times are UTC."
	if !p.follow {
		text += " The cursor is yours; . goes back to now."
	}
	b.Text(r.Line(r.H-1), text, theme.Hint.S())
}

func (p *duties) drawNone(b *widget.Buffer, l *Look, r widget.Rect) {
	switch {
	case !l.Ready():
		b.Text(r.Line(0), "Not read yet.", theme.Unknown.S())
	case l.Snap.Duties == nil:
		b.Text(r.Line(0), "This engine does not run validators, so there are no duties.", theme.Text.S())
	case p.node != nil && noneActive(l.Snap, p.node):
		drawNoneActive(b, l, r, p.node)
	case p.node != nil && p.node.Why != "":
		b.Text(r.Line(0), "No duty is known: "+p.node.Why, theme.Text.S())
	default:
		b.Text(r.Line(0), "No duty is known yet. Nodes ask their beacon node when they start.", theme.Text.S())
		b.Text(r.Line(2), "7 shows peers and beacon nodes", theme.Hint.S())
	}
}

func (p *duties) drawDetail(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
	d := row.(*engine.DutyRow)
	y := 0
	next := func() widget.Rect { y++; return r.Line(y - 1) }
	put := func(name, text string) { b.Text(fact(b, next(), name), text, theme.Text.S()) }
	at := roleWord(b, fact(b, next(), "state"), dutyRole(d.State), orAskText(string(d.State)))
	if p.node != nil {
		if age := heardAge(l, p.node); age != "" {
			b.Text(at, "   "+p.node.Key.Node+" "+age, theme.Old.S())
		}
	}
	put("duty", fmt.Sprintf("%s of slot %d, epoch %d", engine.DutyWord(d.Type), d.Slot, d.Epoch))
	due := Clock(d.At, l.Now) + " UTC"
	if in := d.At.Sub(l.Now); in > 0 {
		due += ", in " + Left(in)
	} else {
		due += ", " + coarse(-in) + " ago"
	}
	if d.Deadline != nil {
		due += "   lost after " + Clock(*d.Deadline, l.Now)
	}
	put("due", due)
	for i, line := range widget.Wrap(d.Validators, max(r.W-10, 8)) {
		name := ""
		if i == 0 {
			name = "who"
		}
		if i == 4 {
			put("", fmt.Sprintf("… %d in all", len(d.Validators)))
			break
		}
		put(name, line)
	}
	if d.Partials == nil && d.State != engine.DutyKnown {
		put("partials", "?")
	} else {
		put("partials", fmt.Sprintf("%d of %d needed", len(d.Partials), d.Need))
	}
	// Each share by the name of its node.
	line := fact(b, next(), "")
	for i := range l.Snap.Peers.List() {
		q := &l.Snap.Peers.Rows[i]
		if !ofNode(q.Key, p.node) {
			continue
		}
		role, word := theme.Idle, "waits"
		switch {
		case has(d.Partials, q.Share):
			role, word = theme.OK, "came"
		case d.State == engine.DutyMissed:
			role, word = theme.Crit, "missing"
		case d.State == engine.DutyIncluded || d.State == engine.DutySent:
			role, word = theme.Warn, "late"
		case d.State == engine.DutyKnown:
			continue
		}
		if line.W < widget.Width(q.Name+word)+3 {
			line = fact(b, next(), "")
		}
		line = b.Text(roleWord(b, line, role, q.Name+" "+word), "   ", theme.Text.S())
	}
	if d.Step != "" {
		step := d.Step
		if d.Round != nil {
			step += fmt.Sprintf(", agreed in round %d", *d.Round)
		}
		put("came to", step)
	}
	if d.DelayMS != nil {
		put("delay", fmt.Sprintf("%.2f s from due to the group signature", *d.DelayMS/1000))
	}
	if d.Why != "" || d.Reason != "" {
		for i, line := range widget.Wrap(strings.Fields(orAskText(d.Why)), max(r.W-10, 8)) {
			name := ""
			if i == 0 {
				name = "why"
			}
			put(name, line)
		}
		if d.Detail != "" {
			for i, line := range widget.Wrap(strings.Fields(d.Detail), max(r.W-10, 8)) {
				name := ""
				if i == 0 {
					name = "detail"
				}
				put(name, line)
			}
		}
		if d.Reason != "" {
			put("code", d.Reason)
		}
	}
	// What the other nodes of this engine saw of the same duty.
	line = widget.Rect{}
	for i := range l.Snap.Duties.List() {
		o := &l.Snap.Duties.Rows[i]
		if o.Key.Cluster != d.Key.Cluster || o.Key.ID != d.Key.ID || o.Key == d.Key {
			continue
		}
		if line.W == 0 {
			line = fact(b, next(), "others")
		}
		if line.W < widget.Width(o.Key.Node+string(o.State))+3 {
			line = fact(b, next(), "")
		}
		line = b.Text(roleWord(b, line, dutyRole(o.State), o.Key.Node+" "+string(o.State)), "   ", theme.Text.S())
	}
	y++
	put("NEXT", "6  validators   7  peers   9  logs   o  as another node sees it")
}

func has(list []int, n int) bool {
	for _, x := range list {
		if x == n {
			return true
		}
	}
	return false
}

// drawNoneActive explains the sentence that operators know.
func drawNoneActive(b *widget.Buffer, l *Look, r widget.Rect, c *engine.ClusterRow) {
	count, order := map[string]int{}, []string{}
	for i := range l.Snap.Validators.List() {
		v := &l.Snap.Validators.Rows[i]
		if !ofNode(v.Key, c) {
			continue
		}
		if count[v.Status] == 0 {
			order = append(order, v.Status)
		}
		count[v.Status]++
	}
	b.Text(r.Line(0), "No active validators for this slot.", theme.Title.S())
	text := "That is no fault:"
	for i, s := range order {
		if i > 0 {
			text += ","
		}
		text += fmt.Sprintf(" %d %s", count[s], s)
	}
	b.Text(r.Line(1), text+".", theme.Text.S())
	b.Text(r.Line(2), "After a deposit the chain needs hours to see it; then the validator waits in a", theme.Hint.S())
	b.Text(r.Line(3), "queue until it is active. Till then nothing is to sign and nothing is missed.", theme.Hint.S())
}
