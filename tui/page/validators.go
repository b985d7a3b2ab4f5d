package page

import (
	"fmt"
	"strings"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// validators is view 6: status, balance, what was done and missed.
type validators struct {
	list
	lens    *lens
	node    *engine.ClusterRow
	count   int
	byState []stateCount // in the order in which they are shown
}

type stateCount struct {
	status string
	n      int
}

func validatorRole(status string) theme.Role {
	switch status {
	case "active":
		return theme.OK
	case "exiting", "pending", "queued":
		return theme.Busy
	case "exited", "not deposited":
		return theme.Idle
	case "slashed":
		return theme.Crit
	}
	return theme.Unknown
}

// validatorName is its index, or the ends of its key before it has one.
func validatorName(v *engine.ValidatorRow) string {
	if v.Index != nil {
		return fmt.Sprint(*v.Index)
	}
	return shortHex(v.PubKey, '.')
}

// validatorStates is the order of the counts in the heading.
var validatorStates = []string{"active", "exiting", "pending", "queued", "not deposited", "exited", "slashed"}

func newValidators(n *lens) *validators {
	p := &validators{lens: n}
	table, _ := engine.TableNamed(string(engine.TableValidators))
	p.list = list{
		id: Validators, title: "Validators",
		there:      func(s *engine.Snapshot) bool { return s.Validators != nil },
		detail:     p.drawDetail,
		about:      p.drawAbout,
		aboutLines: 3,
		none:       p.drawNone,
		head:       p.drawHead,
		counts:     func() int { return p.count },
		label:      func(row engine.Row) string { return validatorName(row.(*engine.ValidatorRow)) },
		copied:     func(row engine.Row) string { return row.(*engine.ValidatorRow).PubKey },
		legend: []string{
			"not deposited the chain knows no deposit",
			"pending the deposit is seen, not counted yet",
			"queued waits for its turn to be active",
			"exiting still has duties    exited has none",
			"DONE% attestations done since the node started",
			"guard what slashing protection knows as signed",
		},
	}
	p.tab = widget.NewTable(table,
		widget.Layout{Name: "index", Width: 8},
		widget.Layout{Name: "pubkey", Width: 13, Draw: func(c *widget.Cell, _ engine.Row, v engine.Value) {
			if !v.Known {
				c.Ask()
				return
			}
			c.Str(shortHex(v.Str, '.'))
		}},
		widget.Layout{Name: "status", Width: 15, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			if !v.Known {
				c.Ask()
				return
			}
			c.Role = validatorRole(row.(*engine.ValidatorRow).Status)
			c.Sign().Str(v.Str)
			c.Old = c.Old || p.node != nil && !p.node.Heard(p.now)
		}},
		widget.Layout{Name: "balance", Width: 9},
		widget.Layout{Name: "eff", Width: 6},
		widget.Layout{Name: "missed", Width: 6, Draw: func(c *widget.Cell, _ engine.Row, v engine.Value) {
			if v.Num > 0 {
				c.Role = theme.Warn
			}
			c.Int(int64(v.Num))
		}},
		widget.Layout{Name: "next", Width: 13, Flex: true, Draw: func(c *widget.Cell, row engine.Row, _ engine.Value) {
			// In minutes: fifty countdowns on one screen would say no more.
			n := row.(*engine.ValidatorRow).Next
			if n == nil {
				c.Dash()
				return
			}
			c.Str(engine.DutyWord(n.Type)).Rune(' ').Str(Age(n.At.Sub(p.now)))
		}},
		widget.Layout{Name: "late", Width: 5, Extra: true},
		widget.Layout{Name: "blocks", Width: 6, Extra: true},
		widget.Layout{Name: "guard", Width: 12, Extra: true},
		widget.Layout{Name: "guard_slot", Width: 11, Extra: true},
		widget.Layout{Name: "activated", Width: 9, Extra: true},
		widget.Layout{Name: "exit", Width: 7, Extra: true},
		widget.Layout{Name: "note", Width: 40, Extra: true},
	)
	p.tab.Where = func(row engine.Row) bool { return ofNode(row.(*engine.ValidatorRow).Key, p.node) }
	p.bindings(p.lens.binding(),
		Binding{Name: "validator.duties", Key: Keys("", "its duties", "5"), Group: GroupView, Off: p.noRow, Do: func(h Host) {
			v := p.tab.Current().(*engine.ValidatorRow)
			name := v.PubKey
			if v.Index != nil {
				name = fmt.Sprint(*v.Index)
			}
			h.Go(Duties, "validators="+name)
		}})
	return p
}

func (p *validators) Sync(l *Look) string {
	before := p.node
	p.node = p.lens.through(l.Snap, l.Now)
	if before == nil || p.node == nil || before.Key != p.node.Key {
		p.tab.Changed()
	}
	n := map[string]int{}
	p.count = 0
	for i := range l.Snap.Validators.List() {
		v := &l.Snap.Validators.Rows[i]
		if ofNode(v.Key, p.node) {
			p.count++
			n[v.Status]++
		}
	}
	p.byState = p.byState[:0]
	known := 0
	for _, s := range validatorStates {
		if n[s] > 0 {
			p.byState = append(p.byState, stateCount{s, n[s]})
			known += n[s]
		}
	}
	if known < p.count {
		p.byState = append(p.byState, stateCount{"not read", p.count - known})
	}
	return p.list.Sync(l)
}

func (p *validators) drawHead(b *widget.Buffer, l *Look, r widget.Rect) int {
	c := p.node
	if c == nil {
		return 0
	}
	line := r.Line(0).In(1)
	line.W -= drawSeenBy(b, l, line, c)
	for _, s := range p.byState {
		line = b.Text(line, fmt.Sprintf("%d %s  ", s.n, s.status), validatorRole(s.status).S())
	}
	if noneActive(l.Snap, c) && r.H > 12 {
		drawNoneActive(b, l, r.Below(2).In(1), c)
		return 7
	}
	return 1
}

func (p *validators) drawAbout(b *widget.Buffer, _ *Look, r widget.Rect, row engine.Row) {
	v := row.(*engine.ValidatorRow)
	line := b.Text(r.Line(0), validatorName(v)+"  ", theme.Title.S())
	if v.StatusWhy != "" {
		b.Text(line, v.StatusWhy, theme.Text.S())
	} else {
		b.Text(line, "withdrawal "+orAskText(shortHex(v.Withdrawal, b.Glyphs.Ellipsis))+"   fee recipient "+orAskText(shortHex(v.FeeRecipient, b.Glyphs.Ellipsis))+
			"   guard: target epoch "+showUint(v.GuardTarget)+", block "+showUint(v.GuardSlot), theme.Text.S())
	}
	text := "Balances in ETH."
	for _, s := range p.byState {
		if s.status == "exiting" {
			text += " An exiting validator must run until its exit epoch is over."
		}
	}
	b.Text(r.Line(r.H-1), text, theme.Hint.S())
}

func (p *validators) drawNone(b *widget.Buffer, l *Look, r widget.Rect) {
	switch {
	case !l.Ready():
		b.Text(r.Line(0), "Not read yet.", theme.Unknown.S())
	case l.Snap.Validators == nil:
		b.Text(r.Line(0), "This engine does not run validators.", theme.Text.S())
	default:
		b.Text(r.Line(0), "No node has named its validators yet.", theme.Text.S())
	}
}

func (p *validators) drawDetail(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
	v := row.(*engine.ValidatorRow)
	y := 0
	next := func() widget.Rect { y++; return r.Line(y - 1) }
	put := func(name, text string) { b.Text(fact(b, next(), name), text, theme.Text.S()) }
	wrap := func(name, text string) {
		for _, line := range widget.Wrap(strings.Fields(text), max(r.W-10, 8)) {
			put(name, line)
			name = ""
		}
	}
	at := roleWord(b, fact(b, next(), "status"), validatorRole(v.Status), orAskText(v.Status))
	if p.node != nil {
		if age := heardAge(l, p.node); age != "" {
			b.Text(at, "   "+p.node.Key.Node+" "+age, theme.Old.S())
		}
	}
	if v.StatusWhy != "" {
		wrap("", v.StatusWhy)
	}
	index := showUint(v.Index)
	if v.Index == nil && v.Status == "not deposited" {
		index = "-"
	}
	put("index", index)
	wrap("pubkey", orAskText(v.PubKey))
	balance := "?"
	if v.BalanceGwei != nil {
		balance = fmt.Sprintf("%.9f ETH", float64(*v.BalanceGwei)/1e9)
	} else if v.Status == "not deposited" {
		balance = "-"
	}
	put("balance", balance)
	epochs := "active from epoch " + showUint(v.ActivationEpoch)
	if v.ActivationEpoch == nil {
		epochs = "no epoch of activation is set"
	}
	if v.ExitEpoch != nil {
		epochs += fmt.Sprintf(", exit in epoch %d", *v.ExitEpoch)
		if p.node != nil && p.node.Epoch != nil && *p.node.Epoch > *v.ExitEpoch {
			epochs += " (passed)"
		}
	}
	put("epochs", epochs)
	put("attest", totalsWords(v.Attester))
	put("blocks", totalsWords(v.Proposer))
	switch {
	case v.Next == nil:
		put("next", "-")
	case !v.Next.At.After(l.Now):
		put("next", fmt.Sprintf("%s in slot %d, due now", engine.DutyWord(v.Next.Type), v.Next.Slot))
	default:
		put("next", fmt.Sprintf("%s in slot %d, in %s", engine.DutyWord(v.Next.Type), v.Next.Slot, Left(v.Next.At.Sub(l.Now))))
	}
	put("guard", "signed up to target epoch "+showUint(v.GuardTarget)+", block slot "+showUint(v.GuardSlot))
	wrap("stake to", orAskText(v.Withdrawal))
	wrap("fees to", orAskText(v.FeeRecipient))
	y++
	put("NEXT", "5  its duties   y  copy its key   o  as another node sees it")
	switch v.Status {
	case "exiting":
		put("", "keep it running until the exit epoch has passed")
	case "slashed":
		put("", "find out which two programs signed with its keys")
	}
}

// totalsWords is "1,203 done, 2 missed, 5 late (99.8%)".
func totalsWords(t engine.DutyTotals) string {
	if t.Over() == 0 {
		return "none yet"
	}
	s := fmt.Sprintf("%s done, %d missed, %d late (%.1f%%)", Thousands(int(t.Done)), t.Missed, t.Late, floor1(*t.Percent()))
	if t.Included != nil {
		s += fmt.Sprintf(", %s seen on chain", Thousands(int(*t.Included)))
	}
	return s
}
