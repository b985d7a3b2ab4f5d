package page

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/prover"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// overview is view 1: one sentence first, numbers after.
type overview struct {
	binds  []Binding
	lines  []part
	events events
}

// part is one line of a block and how much it is worth keeping when the screen
// is low: 9 is never dropped, 0 goes first.
type part struct {
	keep int
	draw func(b *widget.Buffer, l *Look, r widget.Rect)
}

// Worth of lines, in the order in which a low screen drops them.
const (
	dropSpace  = 0
	dropSpark  = 1
	dropQuiet  = 2
	dropEvent  = 3
	dropSource = 4
	dropMore   = 5
	dropBlock  = 6
	dropNever  = 9
)

func newOverview() *overview {
	o := &overview{}
	o.binds = []Binding{
		{Name: "overview.workers", Key: Keys("", "workers", "enter"), Group: GroupView, Do: func(h Host) { h.Go(Workers, "") }},
	}
	return o
}

func (o *overview) ID() ID              { return Overview }
func (o *overview) Sync(*Look) string   { return "" }
func (o *overview) Bindings() []Binding { return o.binds }
func (o *overview) Back() bool          { return false }
func (o *overview) Legend() []string {
	return []string{
		"The first line is the verdict: OK, DEGRADED (look),",
		"CRITICAL (work is being lost), UNKNOWN (not read).",
		"RESTART says whether the engine may stop now.",
		"One mark per host shows its worst worker.",
	}
}

// fit drops the cheapest lines from the end until the rest is no more than h.
func fit(lines []part, h int) []part {
	for keep := 0; len(lines) > h && keep < dropNever; keep++ {
		for i := len(lines) - 1; i >= 0 && len(lines) > h; i-- {
			if lines[i].keep == keep {
				lines = slices.Delete(lines, i, i+1)
			}
		}
	}
	return lines[:min(len(lines), max(h, 0))]
}

// Render draws one, two or three columns, as wide as the screen is.
func (o *overview) Render(b *widget.Buffer, l *Look, r widget.Rect) {
	if r.Empty() {
		return
	}
	switch {
	case r.W < 100 || r.H < 20:
		o.narrow(b, l, r)
	case r.W < 160:
		o.boxes(b, l, r, 2)
	default:
		o.boxes(b, l, r, 3)
	}
}

func (o *overview) narrow(b *widget.Buffer, l *Look, r widget.Rect) {
	lines := o.lines[:0]
	add := func(keep int, draw func(*widget.Buffer, *Look, widget.Rect)) { lines = append(lines, part{keep, draw}) }
	add(dropNever, drawVerdict)
	add(dropSpace, blank)
	if l.Snap.Clusters != nil {
		lines = append(lines, signingLines(l)...)
	}
	if r.H >= 16 && len(restartWhy(l, r.W-12)) > 1 {
		add(dropNever, labelled("RESTART", drawRestartWrapped))
		add(dropNever, labelled("", drawRestartMore))
	} else {
		add(dropNever, labelled("RESTART", drawRestart))
	}
	add(dropSpace, blank)
	if l.Snap.Workers != nil || !l.Ready() {
		add(dropNever, labelled("WORKERS", drawWorkerCounts))
		add(dropMore, labelled("", drawHostMarks))
		if l.Sum.State(engine.WorkerPaused)+l.Sum.State(engine.WorkerPausing) > 0 {
			add(dropMore, labelled("", drawPaused))
		}
	}
	if l.Snap.Jobs != nil || !l.Ready() {
		add(dropBlock, labelled("JOBS", drawJobs))
		if l.Sparks && len(trend(l.Snap, "jobs_verified", "")) > 0 {
			add(dropSpark, labelled("", drawJobTrend))
		}
	}
	add(dropBlock, labelled("GPUS", drawGPULine))
	add(dropBlock, labelled("HUGEPAGES", drawHugeLine))
	add(dropMore, labelled("MEMORY", drawMemoryLine))
	for i, g := range l.Sum.Nodes {
		label := ""
		if i == 0 {
			label = "NODES"
		}
		add(dropMore, labelled(label, func(b *widget.Buffer, l *Look, r widget.Rect) { drawNodes(b, l, r, l.Snap.Nodes.Rows[g.From:g.To]) }))
	}
	if n := l.Sum.ActsOpen; n > 0 {
		add(dropMore, labelled("ACTS", drawActsLine))
	}
	add(dropSource, labelled("SOURCES", drawSources))
	add(dropSpace, blank)
	add(dropEvent, func(b *widget.Buffer, l *Look, r widget.Rect) {
		b.Text(r.In(1), "LAST EVENTS", theme.Title.S())
		b.Right(r.In(1), "8 for all", theme.Hint.S())
	})
	// At least three events are worth more than what is dropped before them.
	events := max(3, r.H-len(lines))
	all := o.events.of(l.Entries)
	for i := range min(events, len(all)) {
		add(dropEvent, func(b *widget.Buffer, l *Look, r widget.Rect) {
			drawEventText(b, l, r.In(1), all[i].entry, all[i].words(l))
		})
	}
	if len(all) == 0 {
		add(dropEvent, func(b *widget.Buffer, _ *Look, r widget.Rect) {
			b.Text(r.In(1), "none heard by this screen yet", theme.Hint.S())
		})
	}
	o.lines = lines
	for y, p := range fit(lines, r.H) {
		p.draw(b, l, r.Line(y))
	}
}

func blank(*widget.Buffer, *Look, widget.Rect) {}

// labelled puts a block's name before its line.
func labelled(name string, draw func(b *widget.Buffer, l *Look, r widget.Rect)) func(*widget.Buffer, *Look, widget.Rect) {
	return func(b *widget.Buffer, l *Look, r widget.Rect) {
		b.Text(r.In(1), name, theme.Title.S())
		draw(b, l, r.Skip(12))
	}
}

// boxes draws frames in columns. The heights follow from what is in the boxes.
func (o *overview) boxes(b *widget.Buffer, l *Look, r widget.Rect, columns int) {
	drawVerdict(b, l, r.Line(0))
	body := r.Below(1)
	// The last two lines say where the readings come from and what is under way.
	tail := 2
	foot := body.Below(body.H - tail)
	b.Text(foot.Line(0).In(1), "SOURCES", theme.Title.S())
	drawSources(b, l, foot.Line(0).Skip(12))
	b.Text(foot.Line(1).In(1), "ACTS", theme.Title.S())
	drawActsLine(b, l, foot.Line(1).Skip(12))
	body.H -= tail

	cols := body.Columns(columns)
	workersBox := func(r widget.Rect) {
		title := fmt.Sprintf("Workers %s", Thousands(l.Sum.Workers))
		if n := len(l.Sum.Hosts); n > 1 {
			title += fmt.Sprintf(" on %d hosts", n)
		}
		drawWorkersBox(b, l, b.Box(r, title, "2 workers").In(1))
	}
	gpuBox := func(r widget.Rect) {
		drawGPUBox(b, l, b.Box(r, gpuTitle(l), "3 GPUs").In(1))
	}
	hugeBox := func(r widget.Rect) {
		drawHostBox(b, l, b.Box(r, "Hugepages and memory", "4 hosts").In(1))
	}
	jobBox := func(r widget.Rect) {
		drawJobBox(b, l, b.Box(r, "Jobs and nodes", "J jobs").In(1))
	}
	signing := l.Snap.Clusters != nil
	signBox := func(r widget.Rect) {
		drawSigningBox(b, l, b.Box(r, "Signing", "5 duties").In(1))
	}
	workBox := func(r widget.Rect) {
		title := "Workers " + Thousands(l.Sum.Workers)
		in := b.Box(r, title, "2 workers").In(1)
		drawWorkersBox(b, l, in.Top(in.H-1))
		labelled9("jobs", drawJobs)(b, l, in.Line(in.H-1))
	}
	events := func(r widget.Rect) {
		drawEventBox(b, l, b.Box(r, "Events", "8 alerts").In(1), o.events.of(l.Entries))
	}
	if columns == 2 {
		// Two rows of boxes get what they need, the events what is left, at least four lines.
		gpuRows, hostRows := max(len(l.Snap.GPUs.List()), 1)+1, max(len(l.Snap.Machines.List()), 1)+4
		top := min(max(7+len(l.Sum.Nodes), 8), 11)
		if signing {
			top = 11
		}
		mid := min(max(gpuRows, hostRows)+2, max((body.H-top)*2/3, 5))
		top = min(top, max(body.H-mid-4, 5))
		if signing {
			signBox(cols[0].Top(top))
			workBox(cols[1].Top(top))
		} else {
			workersBox(cols[0].Top(top))
			jobBox(cols[1].Top(top))
		}
		gpuBox(cols[0].Below(top).Top(mid))
		hugeBox(cols[1].Below(top).Top(mid))
		events(body.Below(top + mid))
		return
	}
	if l.Sum.Workers >= 256 {
		// The map is as wide as the fullest host, if that leaves the others enough.
		widest := 0
		for i := range l.Sum.Hosts {
			widest = max(widest, len(l.Sum.Hosts[i].Marks)+len(l.Sum.Hosts[i].Name)+5)
		}
		cols[0].W = min(max(widest, 58), body.W/2)
		rest := widget.Rect{X: body.X + cols[0].W, Y: body.Y, W: body.W - cols[0].W, H: body.H}.Columns(2)
		cols[1], cols[2] = rest[0], rest[1]
		title := "Workers " + Thousands(l.Sum.Workers) + ": " + countWords(l)
		drawMap(b, l, b.Box(cols[0], title, "2 workers").In(1))
	} else {
		half := max(min(body.H/2, 14), 9)
		workersBox(cols[0].Top(half))
		jobBox(cols[0].Below(half))
	}
	right := widget.Rect{X: cols[1].X, Y: body.Y, W: cols[1].W + cols[2].W, H: body.H}
	up := min(max(len(l.Snap.GPUs.List())+3, min(len(l.Snap.Machines.List()), 10)+6, 9), max(body.H*3/5, 6))
	if signing {
		signBox(cols[1].Top(up))
		gpuBox(cols[2].Top(up))
		rest := right.Below(up)
		mid := min(max(min(len(l.Snap.Machines.List()), 8)+4, 8), max(rest.H/2, 6))
		if l.Sum.Workers >= 256 {
			hugeBox(cols[1].Below(up).Top(mid))
			jobBox(cols[2].Below(up).Top(mid))
		} else {
			hugeBox(rest.Top(mid))
		}
		events(rest.Below(mid))
		return
	}
	if l.Sum.Workers >= 256 {
		hugeBox(cols[1].Top(up))
		gpuBox(cols[2].Top(up))
		jobs := min(max(6, len(l.Sum.Nodes)+5), max(body.H-up-6, 4))
		jobBox(right.Below(up).Top(jobs))
		events(right.Below(up + jobs))
		return
	}
	hugeBox(cols[1].Top(up))
	gpuBox(cols[2].Top(up))
	events(right.Below(up))
}

// drawVerdict is the one sentence first.
func drawVerdict(b *widget.Buffer, l *Look, r widget.Rect) {
	r = r.In(1)
	if l.Snap.Verdict == nil {
		if !l.Ready() {
			r = b.Text(r, "CONNECTING   ", theme.Title.S())
			b.Text(r, "No verdict yet: unknown is not shown as zero and not as OK.", theme.Hint.S())
			return
		}
		b.Text(b.Text(r, "UNKNOWN   ", theme.Unknown.S()), "the engine gives no verdict", theme.Hint.S())
		return
	}
	v := &l.Snap.Verdict.Value
	role := theme.OfVerdict(v.Word)
	r = b.Text(r, strings.ToUpper(string(v.Word)), role.S().With(theme.Strong))
	r = b.Text(r, "   ", theme.Text.S())
	if len(v.Reasons) == 0 {
		switch v.Word {
		case engine.VerdictOK:
			b.Text(r, "all that is configured works", theme.Text.S())
		case engine.VerdictUnknown:
			b.Text(r, "readings are missing", theme.Text.S())
		}
		return
	}
	for i := range v.Reasons {
		if i > 0 {
			// A reason that would only show its first letters is counted instead.
			if more := fmt.Sprintf("   +%d", len(v.Reasons)-i); r.W < 28 {
				b.Text(r, more, theme.Title.S())
				break
			}
			r = b.Text(r, ";  ", theme.Hint.S())
		}
		r = b.Text(r, v.Reasons[i].Text, theme.OfLevel(v.Reasons[i].Level).S())
	}
}

// restartHead is what stands before the reasons: whether a restart is safe now.
func restartHead(l *Look) (word, rest string, role theme.Role) {
	return restartAnswer(l.Snap.RestartNow(l.Now))
}

// restartWhy is the reason in lines: the first beside the word, the others below.
func restartWhy(l *Look, width int) []string {
	re := l.Snap.RestartNow(l.Now)
	word, rest, _ := restartAnswer(re)
	return widget.Wrap(strings.Fields(restartReason(re)), max(width-widget.Width(word+rest)-2, 20))
}

func drawRestart(b *widget.Buffer, l *Look, r widget.Rect) {
	word, rest, role := restartHead(l)
	why := restartWhy(l, r.W)
	r = b.Text(r, word, role.S().With(theme.Strong))
	r = b.Text(b.Text(r, rest, theme.Text.S()), "  ", theme.Text.S())
	b.Text(r, strings.Join(why, " "), theme.Text.S())
}

// drawRestartWrapped is drawRestart where drawRestartMore follows.
func drawRestartWrapped(b *widget.Buffer, l *Look, r widget.Rect) {
	word, rest, role := restartHead(l)
	why := restartWhy(l, r.W)
	r = b.Text(r, word, role.S().With(theme.Strong))
	r = b.Text(b.Text(r, rest, theme.Text.S()), "  ", theme.Text.S())
	b.Text(r, why[0], theme.Text.S())
}

// drawRestartMore goes on with the reason below its first line.
func drawRestartMore(b *widget.Buffer, l *Look, r widget.Rect) {
	word, rest, _ := restartHead(l)
	why := restartWhy(l, r.W)
	b.Text(r.Skip(widget.Width(word+rest)+2), strings.Join(why[1:], " "), theme.Text.S())
}

// countOrder is the order of counts on a line: what works, then the worst first,
// so that a short line loses what matters least.
var countOrder = func() (order [len(workerStates)]int) {
	for i := range order {
		order[i] = (i + len(order) - 1) % len(order)
	}
	return
}()

func countWords(l *Look) string {
	if !l.Ready() {
		return "?"
	}
	var parts []string
	for _, i := range countOrder {
		if n := l.Sum.ByState[i]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, workerStates[i]))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func drawWorkerCounts(b *widget.Buffer, l *Look, r widget.Rect) {
	if !l.Ready() {
		b.Text(r, "?", theme.Unknown.S())
		return
	}
	if l.Sum.Workers == 0 {
		b.Text(r, "none configured", theme.Hint.S())
		return
	}
	for _, i := range countOrder {
		if n := l.Sum.ByState[i]; n > 0 {
			r = b.Int(r, n, stateRole(uint8(i)).S())
			r = b.Text(b.Text(r, " ", theme.Text.S()), string(workerStates[i]), stateRole(uint8(i)).S())
			r = b.Text(r, "   ", theme.Text.S())
		}
	}
	// The total says how many hosts where that fits whole.
	total := "of " + Thousands(l.Sum.Workers)
	if n := len(l.Sum.Hosts); n > 1 {
		if long := fmt.Sprintf("%s on %d hosts", total, n); widget.Width(long) <= r.W {
			total = long
		}
	}
	if widget.Width(total) <= r.W {
		b.Text(r, total, theme.Hint.S())
	}
}

// drawHostMarks shows one mark per host, or per worker while there are few.
func drawHostMarks(b *widget.Buffer, l *Look, r widget.Rect) {
	s := l.Sum
	if len(s.Hosts) == 0 {
		return
	}
	if len(s.Hosts) == 1 || s.Workers <= 40 {
		for i := range s.Hosts {
			h := &s.Hosts[i]
			if len(h.Marks)+len(h.Name)+2 > r.W {
				break
			}
			r = b.Text(b.Text(r, h.Name, theme.Hint.S()), " ", theme.Text.S())
			for _, m := range h.Marks {
				r = b.Rune(r, b.Glyphs.Sign(stateRole(m)), stateRole(m).S())
			}
			r = b.Text(r, "  ", theme.Text.S())
		}
		return
	}
	name := s.Hosts[0].Name + "-" + s.Hosts[len(s.Hosts)-1].Name
	r = b.Text(b.Text(r, name, theme.Hint.S()), "  ", theme.Text.S())
	for i := range s.Hosts {
		if r.W == 0 {
			break
		}
		m := s.Hosts[i].Worst
		r = b.Rune(r, b.Glyphs.Sign(stateRole(m)), stateRole(m).S())
	}
}

func drawPaused(b *widget.Buffer, l *Look, r widget.Rect) {
	s := l.Sum
	r = b.Text(r, "paused ", theme.Hint.S())
	for i, id := range s.Paused {
		if i == 4 {
			break
		}
		if i > 0 {
			r = b.Text(r, " ", theme.Text.S())
		}
		r = b.Text(r, string(id), theme.Paused.S())
	}
	if n := max(len(s.Paused)-4, 0) + s.PausedMore; n > 0 {
		r = b.Text(r, fmt.Sprintf(" and %d more", n), theme.Hint.S())
	}
	if s.NextResume != nil {
		b.Text(r, ", the next resumes by itself in "+Left(s.NextResume.Sub(l.Now)), theme.Text.S())
	}
}

func drawJobs(b *widget.Buffer, l *Look, r widget.Rect) {
	if l.Snap.Jobs == nil {
		b.Text(r, "?", theme.Unknown.S())
		return
	}
	t := &l.Snap.Jobs.Totals
	if t.PerMinute != nil {
		r = b.Text(r, "proofs/min "+Thousands(int(*t.PerMinute+0.5))+"   ", theme.Text.S())
	} else {
		r = b.Text(b.Text(r, "proofs/min ", theme.Hint.S()), "?   ", theme.Unknown.S())
	}
	for _, p := range [...]struct {
		n    uint64
		word string
		role theme.Role
	}{{t.Failed, "failed", theme.Crit}, {t.Queued, "queued", theme.Text}, {t.Leased + t.Proved, "in work", theme.Busy}, {t.Verified, "verified", theme.OK}, {t.Cancelled, "cancelled", theme.Idle}} {
		if p.n == 0 && (p.word == "failed" || p.word == "cancelled") || len(p.word)+8 > r.W {
			continue
		}
		r = b.Text(b.Text(b.Text(r, Thousands(int(p.n)), p.role.S()), " "+p.word, p.role.S()), "   ", theme.Text.S())
	}
}

func drawJobTrend(b *widget.Buffer, l *Look, r widget.Rect) {
	r = b.Text(r, "verified ", theme.Hint.S())
	b.Spark(widget.Rect{X: r.X, Y: r.Y, W: min(r.W, 40), H: 1}, trend(l.Snap, "jobs_verified", ""), 0, theme.OK.S())
}

func gpuTitle(l *Look) string {
	if l.Sum.GPUs == 0 {
		return "GPUs"
	}
	hosts := map[string]bool{}
	for i := range l.Snap.GPUs.List() {
		hosts[l.Snap.GPUs.Rows[i].Key.Machine] = true
	}
	return fmt.Sprintf("GPUs %d in %s", l.Sum.GPUs, count(len(hosts), "host"))
}

// noGPUs says why there are none, in the driver's words, or the first of them where
// there is no room for more.
func noGPUs(l *Look, width int) string {
	why, looked := "", 0
	for i := range l.Snap.Machines.List() {
		d := &l.Snap.Machines.Rows[i].GPUDriver
		if d.At != nil {
			looked++
		}
		if d.Value != nil && d.Value.Version == "" && why == "" {
			why = d.Value.Why
		}
		if d.Value == nil && d.Problem != "" && why == "" {
			why = d.Problem
		}
	}
	switch {
	case looked == 0:
		return "?  not read yet"
	case why == "":
		return "none"
	}
	if widget.Width(why)+6 > width {
		why, _, _ = strings.Cut(why, ": ")
	}
	return "none: " + why
}

func drawGPULine(b *widget.Buffer, l *Look, r widget.Rect) {
	s := l.Sum
	if s.GPUs == 0 {
		if !l.Ready() {
			b.Text(r, "?", theme.Unknown.S())
			return
		}
		b.Text(r, noGPUs(l, r.W), theme.Hint.S())
		return
	}
	r = b.Text(r, fmt.Sprintf("%d up", s.GPUUp), theme.OK.S())
	if s.UtilKnown > 0 {
		r = b.Text(r, "   util "+Percent(s.UtilSum/float64(s.UtilKnown)), theme.Text.S())
	} else {
		r = b.Text(r, "   util ?", theme.Unknown.S())
	}
	if s.MemTotal > 0 {
		r = b.Text(r, "   mem "+Percent(100*float64(s.MemUsed)/float64(s.MemTotal)), theme.Text.S())
	}
	if s.PowerKnown > 0 {
		r = b.Text(r, fmt.Sprintf("   %.2f kW", s.Power/1000), theme.Text.S())
	}
	if s.GPUHot > 0 {
		r = b.Text(r, fmt.Sprintf("   hot %d", s.GPUHot), theme.Warn.S())
	}
	if s.GPULost > 0 {
		r = b.Text(r, fmt.Sprintf("   lost %d", s.GPULost), theme.Crit.S())
	}
	if s.GPUXid > 0 {
		b.Text(r, fmt.Sprintf("   xid %d", s.GPUXid), theme.Crit.S())
	}
}

// drawPools writes one machine's main hugepage pool: "m03 14986/15000".
func drawPool(b *widget.Buffer, l *Look, r widget.Rect, m *engine.MachineRow) widget.Rect {
	r = b.Text(b.Text(r, engine.HostName(m), theme.Hint.S()), " ", theme.Text.S())
	h := &m.Hugepages
	if h.Value == nil {
		return b.Text(r, "?", theme.Unknown.S())
	}
	p, ok := engine.MainPool(*h.Value)
	if !ok || p.Total == 0 {
		return b.Text(r, "none set", theme.Hint.S())
	}
	st := theme.Text.S()
	if p.Available() == 0 {
		st = theme.Warn.S()
	}
	fresh := h.Freshness(l.Now)
	if fresh != engine.Fresh {
		st = theme.Old.S()
	}
	r = b.Text(r, fmt.Sprintf("%d/%d", p.Used(), p.Total), st)
	if p.Available() == 0 {
		r = b.Text(r, " full", st)
	}
	switch fresh {
	case engine.Aging:
		r = b.Text(r, "~", st)
	case engine.Old, engine.Lost:
		r = b.Text(r, " "+coarse(l.Now.Sub(*h.At))+" old ~", st)
	}
	return r
}

func drawHugeLine(b *widget.Buffer, l *Look, r widget.Rect) {
	if len(l.Snap.Machines.List()) == 0 {
		b.Text(r, "?", theme.Unknown.S())
		return
	}
	hidden := 0
	rows := l.Snap.Machines.Rows
	for _, i := range l.Sum.Short {
		m := &rows[i]
		// Machines that need none are left out when there are many.
		if len(rows) > 4 && m.Hugepages.Value != nil {
			if p, ok := engine.MainPool(*m.Hugepages.Value); !ok || p.Total == 0 {
				hidden++
				continue
			}
		}
		if r.W < 30 {
			hidden++
			continue
		}
		r = b.Text(drawPool(b, l, r, m), "   ", theme.Text.S())
	}
	if hidden > 0 {
		b.Text(r, fmt.Sprintf("+%d hosts", hidden), theme.Hint.S())
	}
}

func drawMemoryLine(b *widget.Buffer, l *Look, r widget.Rect) {
	var low *engine.MachineRow
	share := 2.0
	for i := range l.Snap.Machines.List() {
		m := &l.Snap.Machines.Rows[i]
		if v := m.Memory.Value; v != nil && v.TotalBytes > 0 {
			if s := float64(v.AvailableBytes) / float64(v.TotalBytes); s < share {
				share, low = s, m
			}
		}
	}
	if low == nil {
		b.Text(r, "?", theme.Unknown.S())
		return
	}
	v := low.Memory.Value
	st := theme.Text.S()
	if share < 0.1 {
		st = theme.Warn.S()
	}
	text := fmt.Sprintf("%s of %s GiB free", GiB(v.AvailableBytes), GiB(v.TotalBytes))
	if len(l.Snap.Machines.Rows) > 1 {
		text = "least on " + engine.HostName(low) + ": " + text
	}
	r = b.Text(r, text, st)
	if c := low.CPU.Value; c != nil {
		b.Text(r, fmt.Sprintf("   load %.1f on %d cpus", c.Load1, c.LogicalCPUs), theme.Text.S())
	}
}

// drawNodes writes the nodes of one cluster on one line, a broken one by itself.
func drawNodes(b *widget.Buffer, l *Look, r widget.Rect, nodes []engine.NodeRow) {
	n := &nodes[0]
	if n.Bad() {
		b.Text(roleWord(b, r, theme.Crit, n.State), "  "+n.Dir+": "+n.Problem, theme.Text.S())
		return
	}
	if !n.OK() {
		text := "  " + n.Key.Node
		if n.Problem != "" {
			text += ": " + n.Problem
		}
		b.Text(roleWord(b, r, theme.Busy, n.State), text, theme.Text.S())
		return
	}
	r = b.Text(r, fmt.Sprintf("%s on %s   ", orDash(n.Name), orAskText(n.Network)), theme.Text.S())
	if len(nodes) == 1 {
		r = b.Text(r, fmt.Sprintf("%s share %s", n.Key.Node, showInt(n.ShareIndex, "?")), theme.Text.S())
	} else {
		r = b.Text(r, fmt.Sprintf("%d nodes here", len(nodes)), theme.Text.S())
	}
	r = b.Text(r, fmt.Sprintf(", %d of %d sign, %s", n.Threshold, n.Operators, count(n.Validators, "validator")), theme.Text.S())
	if !runs(l.Snap, n) {
		b.Text(r, "   shown, not run", theme.Hint.S())
	}
}

func drawActsLine(b *widget.Buffer, l *Look, r widget.Rect) {
	if l.Sum.ActsOpen == 0 {
		b.Text(r, "none under way", theme.Hint.S())
		return
	}
	for i := range l.Snap.Acts.List() {
		a := &l.Snap.Acts.Rows[i]
		if !a.State.Open() {
			continue
		}
		if r.W < 16 {
			return
		}
		r = b.Text(r, fmt.Sprintf("%s %s %s", a.ID, strings.ReplaceAll(string(a.Kind), "_", " "), a.Target), theme.Text.S())
		if a.Until != nil {
			r = b.Text(r, " "+Left(a.Until.Sub(l.Now))+" left", theme.Paused.S())
		} else if len(a.Steps) > 0 {
			r = b.Text(r, fmt.Sprintf(" step %d/%d", a.Step, len(a.Steps)), theme.Busy.S())
		}
		r = b.Text(r, "    ", theme.Text.S())
	}
}

func drawSources(b *widget.Buffer, l *Look, r widget.Rect) {
	rows := l.Snap.Sources.List()
	if len(rows) == 0 {
		b.Text(r, "?", theme.Unknown.S())
		return
	}
	// What is late is said first and by itself; the healthy ones share one line by name.
	type group struct {
		name  string
		worst time.Duration
		n     int
	}
	var groups []group
	for i := range rows {
		s := &rows[i]
		switch f := engine.FreshnessOf(l.Now, s.At, time.Duration(s.PeriodS*float64(time.Second))); f {
		case engine.NeverRead:
			r = b.Text(b.Text(b.Text(r, s.Name, theme.Text.S()), " ?", theme.Unknown.S()), "   ", theme.Text.S())
		case engine.Old, engine.Lost:
			r = b.Text(r, s.Name+" "+coarse(l.Now.Sub(*s.At))+" STALE", theme.Stale.S())
			r = b.Text(r, "   ", theme.Text.S())
		default:
			kind, _, _ := strings.Cut(s.Name, "/")
			k := slices.IndexFunc(groups, func(g group) bool { return g.name == kind })
			if k < 0 {
				groups = append(groups, group{name: kind})
				k = len(groups) - 1
			}
			groups[k].n++
			// Counted in whole periods where these are short: a source that answers in time stands still.
			age := l.Now.Sub(*s.At)
			if p := time.Duration(s.PeriodS * float64(time.Second)); p > 0 && p < 10*time.Second {
				age = max((age+p-1)/p*p, p)
			}
			groups[k].worst = max(groups[k].worst, age)
		}
	}
	for _, g := range groups {
		if r.W < 6 {
			break
		}
		n := ""
		if g.n > 1 {
			n = fmt.Sprintf(" (%d)", g.n)
		}
		r = b.Text(r, g.name+" "+coarse(g.worst)+n+"   ", theme.Text.S())
	}
}

func drawEventBox(b *widget.Buffer, l *Look, r widget.Rect, all []event) {
	if len(all) == 0 {
		b.Text(r.Line(0), "none heard by this screen yet", theme.Hint.S())
	}
	for y := 0; y < r.H && y < len(all); y++ {
		drawEventText(b, l, r.Line(y), all[y].entry, all[y].words(l))
	}
}

// drawWorkersBox is the workers' block inside a frame.
func drawWorkersBox(b *widget.Buffer, l *Look, r widget.Rect) {
	lines := []part{
		{dropNever, drawWorkerCounts},
		{dropBlock, drawHostMarks},
	}
	if l.Sum.State(engine.WorkerPaused)+l.Sum.State(engine.WorkerPausing) > 0 {
		lines = append(lines, part{dropMore, drawPaused})
	}
	lines = append(lines, part{dropMore, func(b *widget.Buffer, l *Look, r widget.Rect) {
		cpu, rss := "?", "?"
		if l.Sum.CPUKnown > 0 {
			cpu = Percent(l.Sum.CPUSum / float64(l.Sum.CPUKnown))
		}
		if l.Sum.RSSKnown > 0 {
			rss = Bytes(l.Sum.RSS)
		}
		b.Text(r, "cpu avg "+cpu+"   memory "+rss, theme.Text.S())
	}})
	// The worst few by name, with why.
	for i := range l.Snap.Workers.List() {
		w := &l.Snap.Workers.Rows[i]
		if workerGone(w) || w.State == engine.WorkerStale {
			lines = append(lines, part{dropEvent, func(b *widget.Buffer, l *Look, r widget.Rect) {
				r = roleWord(b, r, theme.OfWorker(w.State), string(w.State))
				why := w.LastExit.Words()
				if w.Note != "" {
					why = w.Note
				}
				b.Text(r, fmt.Sprintf("  %s %s  %s  %s", w.ID, w.Key.Machine, Age(l.Now.Sub(w.Since)), why), theme.Text.S())
			}})
			if len(lines) > 8 {
				break
			}
		}
	}
	if l.Sparks {
		lines = append(lines, part{dropSpark, func(b *widget.Buffer, l *Look, r widget.Rect) {
			if v := trend(l.Snap, "cpu", ""); len(v) > 0 {
				r = b.Text(r, "cpu      ", theme.Hint.S())
				b.Spark(widget.Rect{X: r.X, Y: r.Y, W: min(r.W, 40), H: 1}, v, 100, theme.OK.S())
			}
		}})
	}
	for y, p := range fit(lines, r.H) {
		p.draw(b, l, r.Line(y))
	}
}

func drawJobBox(b *widget.Buffer, l *Look, r widget.Rect) {
	lines := []part{{dropNever, labelled9("restart", drawRestart)}}
	if r.H >= 4 && len(restartWhy(l, r.W-9)) > 1 {
		lines = []part{{dropNever, labelled9("restart", drawRestartWrapped)}, {dropNever, labelled9("", drawRestartMore)}}
	}
	lines = append(lines, part{dropNever, labelled9("jobs", drawJobs)})
	if l.Sparks && len(trend(l.Snap, "jobs_verified", "")) > 0 {
		lines = append(lines, part{dropSpark, drawJobTrend})
	}
	if l.Snap.Jobs != nil {
		t := &l.Snap.Jobs.Totals
		if t.Queued > 0 && l.Sum.State(engine.WorkerRun)+l.Sum.State(engine.WorkerIdle) == 0 {
			lines = append(lines, part{dropMore, func(b *widget.Buffer, _ *Look, r widget.Rect) {
				b.Text(r, "jobs wait and no worker can take them", theme.Warn.S())
			}})
		}
		if len(l.Snap.Jobs.Rows) > 0 {
			lines = append(lines, part{dropMore, labelled9("in hand", func(b *widget.Buffer, l *Look, r widget.Rect) {
				for i := range l.Snap.Jobs.Rows {
					j := &l.Snap.Jobs.Rows[i]
					if j.State != prover.JobLeased {
						continue
					}
					if r.W < 20 {
						break
					}
					r = b.Text(r, fmt.Sprintf("%s %s %s   ", shortJob(j.ID), j.Worker, j.Phase), theme.Text.S())
				}
			})})
		}
	}
	for i, g := range l.Sum.Nodes {
		label := ""
		if i == 0 {
			label = "nodes"
		}
		lines = append(lines, part{dropMore, labelled9(label, func(b *widget.Buffer, l *Look, r widget.Rect) { drawNodes(b, l, r, l.Snap.Nodes.Rows[g.From:g.To]) })})
	}
	if len(l.Snap.Nodes.List()) == 0 && l.Ready() {
		lines = append(lines, part{dropMore, labelled9("nodes", func(b *widget.Buffer, _ *Look, r widget.Rect) {
			b.Text(r, "no validator node directory was given to this engine", theme.Hint.S())
		})})
	}
	for y, p := range fit(lines, r.H) {
		p.draw(b, l, r.Line(y))
	}
}

func labelled9(name string, draw func(b *widget.Buffer, l *Look, r widget.Rect)) func(*widget.Buffer, *Look, widget.Rect) {
	return func(b *widget.Buffer, l *Look, r widget.Rect) {
		b.Text(r, name, theme.Hint.S())
		draw(b, l, r.Skip(9))
	}
}

func drawGPUBox(b *widget.Buffer, l *Look, r widget.Rect) {
	rows := l.Snap.GPUs.List()
	if len(rows) == 0 {
		text := noGPUs(l, r.W*r.H)
		if !l.Ready() {
			text = "?"
		}
		for y, s := range widget.Wrap(strings.Fields(text), max(r.W, 20)) {
			b.Text(r.Line(y), s, theme.Hint.S())
		}
		return
	}
	for y := 0; y < len(rows) && y < r.H-1; y++ {
		drawGPURow(b, l, r.Line(y), &rows[y])
	}
	drawGPULine(b, l, r.Line(r.H-1))
}

func drawGPURow(b *widget.Buffer, l *Look, r widget.Rect, g *engine.GPURow) {
	st := theme.Text.S()
	f := engine.FreshnessOf(l.Now, &g.At, time.Duration(g.PeriodS*float64(time.Second)))
	if f != engine.Fresh {
		st = theme.Old.S()
	}
	b.Text(r.Top(1), engine.GPUName(g), theme.Title.S())
	roleWord(b, r.Skip(8), theme.OfGPU(g.State), g.State)
	r = r.Skip(15)
	if g.State == "lost" {
		b.Text(r, g.GPU.Lost, theme.Text.S())
		return
	}
	put := func(w int, known bool, text string) {
		s := st
		if !known {
			text, s = "?", theme.Unknown.S()
		}
		b.Right(widget.Rect{X: r.X, Y: r.Y, W: min(w, r.W), H: 1}, text, s)
		r = r.Skip(w + 1)
	}
	val := func(v *float64) float64 {
		if v == nil {
			return 0
		}
		return *v
	}
	put(4, g.GPU.UtilPercent != nil, Percent(val(g.GPU.UtilPercent)))
	if r.W > 34 && g.GPU.UtilPercent != nil {
		b.Bar(widget.Rect{X: r.X, Y: r.Y, W: 8, H: 1}, *g.GPU.UtilPercent/100, st)
	}
	if r.W > 34 {
		r = r.Skip(9)
	}
	mem := ""
	if g.GPU.MemUsed != nil && g.GPU.MemTotal != nil {
		mem = fmt.Sprintf("%.1f/%.0fG", float64(*g.GPU.MemUsed)/1024, float64(*g.GPU.MemTotal)/1024)
	}
	put(10, mem != "", mem)
	put(4, g.GPU.TempC != nil, fmt.Sprintf("%.0f°", val(g.GPU.TempC)))
	put(6, g.GPU.PowerW != nil, fmt.Sprintf("%.0f W", val(g.GPU.PowerW)))
	if f == engine.Old || f == engine.Lost {
		b.Text(r, coarse(l.Now.Sub(g.At))+" old ~", theme.Old.S())
	}
}

// drawHostBox lists machines with hugepages first, those that are short on top.
func drawHostBox(b *widget.Buffer, l *Look, r widget.Rect) {
	rows := l.Snap.Machines.List()
	if len(rows) == 0 {
		b.Text(r.Line(0), "?", theme.Unknown.S())
		return
	}
	y, left := 0, 0
	for _, i := range l.Sum.Short {
		m := &rows[i]
		var pool prover.HugePool
		known := m.Hugepages.Value != nil
		if known {
			pool, _ = engine.MainPool(*m.Hugepages.Value)
		}
		quiet := known && pool.Total == 0 && !lowMemory(m) && len(rows) > r.H-2
		if quiet || y >= r.H-2 {
			left++
			continue
		}
		line := r.Line(y)
		y++
		nameW := min(max(widget.Width(engine.HostName(m)), 5), 16)
		b.Text(widget.Rect{X: line.X, Y: line.Y, W: nameW, H: 1}, engine.HostName(m), theme.Title.S())
		line = line.Skip(nameW + 1)
		switch {
		case !known:
			b.Text(line, "hugepages ?", theme.Unknown.S())
		case pool.Total == 0:
			b.Text(line, "no hugepages set", theme.Hint.S())
		default:
			if line.W > 44 {
				b.Right(widget.Rect{X: line.X, Y: line.Y, W: 13, H: 1}, fmt.Sprintf("%d/%d", pool.Used(), pool.Total), theme.Text.S())
				b.Bar(widget.Rect{X: line.X + 14, Y: line.Y, W: 10, H: 1}, float64(pool.Used())/float64(pool.Total), theme.OK.S())
			} else {
				b.Text(line, fmt.Sprintf("%d/%d", pool.Used(), pool.Total), theme.Text.S())
			}
		}
		free := 25
		if line.W <= 44 && known && pool.Total > 0 {
			free = 13 // no bar
		}
		if line.W > free+1 {
			drawFree(b, l, line.Skip(free), m, pool)
		}
	}
	if left > 0 {
		b.Text(r.Line(r.H-2), fmt.Sprintf("and %s more", count(left, "host")), theme.Hint.S())
	}
	drawMemoryLine(b, l, r.Line(r.H-1))
}

func lowMemory(m *engine.MachineRow) bool {
	v := m.Memory.Value
	return v != nil && v.TotalBytes > 0 && v.AvailableBytes*10 < v.TotalBytes
}

func drawFree(b *widget.Buffer, l *Look, r widget.Rect, m *engine.MachineRow, p prover.HugePool) {
	if p.Total > 0 {
		st := theme.Text.S()
		if p.Available() == 0 {
			st = theme.Warn.S()
		}
		r = b.Text(r, fmt.Sprintf("%d free  ", p.Available()), st)
	}
	if v := m.Memory.Value; v != nil {
		st := theme.Text.S()
		if lowMemory(m) {
			st = theme.Warn.S()
		}
		if m.Memory.Freshness(l.Now) != engine.Fresh {
			st = theme.Old.S()
		}
		r = b.Text(r, GiB(v.AvailableBytes)+"/"+GiB(v.TotalBytes)+" GiB", st)
	} else {
		r = b.Text(r, "memory ?", theme.Unknown.S())
	}
	if f := m.Memory.Freshness(l.Now); f == engine.Old || f == engine.Lost {
		b.Text(r, " "+coarse(l.Now.Sub(*m.Memory.At))+" old ~", theme.Old.S())
	}
}

// drawMap shows one mark per worker, a line per host, for many workers.
func drawMap(b *widget.Buffer, l *Look, r widget.Rect) {
	g := b.Glyphs
	line := r.Line(0)
	line = b.Text(line, "one mark per worker:  ", theme.Hint.S())
	for _, p := range [...]struct {
		ch   rune
		role theme.Role
		word string
	}{{g.Dot, theme.Text, "run"}, {g.Idle, theme.Idle, "idle"}, {g.Paused, theme.Paused, "paused"}, {g.Stale, theme.Stale, "stale"}, {g.Crit, theme.Crit, "down"}} {
		line = b.Rune(line, p.ch, p.role.S())
		line = b.Text(line, " "+p.word+"  ", theme.Hint.S())
	}
	tail := 2
	if !l.Sparks {
		tail = 1
	}
	rows := r.H - 1 - tail
	y := 1
	hidden := 0
	for i := range l.Sum.Hosts {
		h := &l.Sum.Hosts[i]
		nameW := min(max(widget.Width(h.Name), 3), 12)
		// A host with more workers than a line has room for goes on in the next.
		perLine := max(r.W-nameW-1, 1)
		need := (len(h.Marks) + perLine - 1) / perLine
		if hidden > 0 || y+need > rows+1 {
			hidden++
			continue
		}
		b.Text(widget.Rect{X: r.X, Y: r.Y + y, W: nameW, H: 1}, h.Name, theme.Hint.S())
		for k, m := range h.Marks {
			at := widget.Rect{X: r.X + nameW + 1 + k%perLine, Y: r.Y + y + k/perLine, W: 1, H: 1}
			role := stateRole(m)
			ch := g.Sign(role)
			if role == theme.OK {
				ch, role = g.Dot, theme.Text
			}
			b.Rune(at, ch, role.S())
		}
		y += need
	}
	if hidden > 0 {
		// Trouble on a host that is not shown is said.
		bad := 0
		for i := len(l.Sum.Hosts) - hidden; i < len(l.Sum.Hosts); i++ {
			if stateRole(l.Sum.Hosts[i].Worst) == theme.Crit {
				bad++
			}
		}
		text := fmt.Sprintf("%s more", count(hidden, "host"))
		if bad > 0 {
			text += fmt.Sprintf(", %d with workers down", bad)
		}
		b.Text(r.Line(r.H-tail), text, theme.Warn.S())
	} else {
		drawJobs(b, l, r.Line(r.H-tail))
	}
	if l.Sparks {
		drawJobTrend(b, l, r.Line(r.H-1))
	}
}
