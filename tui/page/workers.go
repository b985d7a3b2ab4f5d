package page

import (
	"fmt"
	"slices"
	"strings"

	"app.provost/engine"
	"app.provost/prover"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// workers is view 2: which worker is not doing its work, since when, why.
type workers struct {
	list
}

// gone tells whether the process is not there, so that its numbers mean nothing now.
func workerGone(w *engine.WorkerRow) bool {
	return w.State == engine.WorkerDown || w.State == engine.WorkerGone || w.State == engine.WorkerHeld && w.PID == nil
}

func newWorkers() *workers {
	p := &workers{}
	old := func(c *widget.Cell, row engine.Row) {
		s := row.(*engine.WorkerRow).State
		c.Old = c.Old || s == engine.WorkerStale || s == engine.WorkerUnknown
	}
	table, _ := engine.TableNamed(string(engine.TableWorkers))
	var col = func(n string) *engine.Column { c, _ := table.Column(n); return c }
	// live draws a number of the running process: "-" when it is not there.
	live := func(name string) func(c *widget.Cell, row engine.Row, v engine.Value) {
		column := col(name)
		return func(c *widget.Cell, row engine.Row, v engine.Value) {
			if workerGone(row.(*engine.WorkerRow)) {
				c.Dash()
				return
			}
			c.Value(column, v)
			if v.Known {
				old(c, row)
			}
		}
	}
	p.list = list{
		id: Workers, title: "Workers",
		there:      func(s *engine.Snapshot) bool { return s.Workers != nil },
		detail:     p.drawDetail,
		about:      p.drawAbout,
		aboutLines: 1,
		none:       p.drawNone,
		legend: []string{
			"pausing finishes its job, takes no other",
			"stale   heartbeat late     down  process gone",
			"held    stopped on purpose, or given up",
			"CPU% of one core   RSS memory, 1G = 1024M",
			"PROG% of the job in hand   DONE verified jobs",
			"RST restarts by the policy   AGE of the state",
		},
	}
	p.tab = widget.NewTable(table,
		widget.Layout{Name: "id", Width: 5},
		widget.Layout{Name: "host", Width: 5},
		widget.Layout{Name: "state", Width: 9, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			c.Role = theme.OfWorker(row.(*engine.WorkerRow).State)
			c.Sign().Str(v.Str)
		}},
		widget.Layout{Name: "job", Width: 8, Draw: func(c *widget.Cell, _ engine.Row, v engine.Value) {
			if v.None {
				c.Dash()
				return
			}
			c.Str(shortJob(v.Str))
		}},
		widget.Layout{Name: "phase", Width: 6},
		widget.Layout{Name: "progress", Width: 5},
		widget.Layout{Name: "cpu", Width: 4, Draw: live("cpu")},
		widget.Layout{Name: "rss", Width: 5, Draw: live("rss")},
		widget.Layout{Name: "rst", Width: 3, Draw: func(c *widget.Cell, _ engine.Row, v engine.Value) {
			if v.Num > 0 {
				c.Role = theme.Warn
			}
			c.Int(int64(v.Num))
		}},
		widget.Layout{Name: "age", Width: 4},
		widget.Layout{Name: "done", Width: 5, Extra: true},
		widget.Layout{Name: "lat", Width: 4, Extra: true, Draw: live("lat")},
		widget.Layout{Name: "core", Width: 4, Extra: true},
		widget.Layout{Name: "pinned", Width: 6, Extra: true},
		widget.Layout{Name: "numa", Width: 4, Extra: true},
		widget.Layout{Name: "pid", Width: 7, Extra: true},
		widget.Layout{Name: "pause_left", Width: 10, Extra: true},
		widget.Layout{Name: "version", Width: 10, Extra: true},
		widget.Layout{Name: "exit", Width: 12, Extra: true},
		widget.Layout{Name: "note", Width: 8, Flex: true, Draw: func(c *widget.Cell, row engine.Row, _ engine.Value) {
			c.Role = theme.Text
			p.note(c, row.(*engine.WorkerRow))
		}},
	)
	p.bindings(
		Binding{Name: "worker.logs", Key: Keys("", "logs", "l"), Group: GroupView, Hint: 2, Do: func(h Host) {
			if w, ok := p.tab.Current().(*engine.WorkerRow); ok {
				h.Logs(string(w.ID))
			}
		}},
		Binding{Name: "worker.pause", Key: Keys("", "pause wizard", "p"), Brief: "pause", Group: GroupView, Hint: 4, Act: true, Off: p.noRow, Do: func(h Host) {
			h.Wizard(engine.PauseWorkers{Workers: p.selector()})
		}},
		Binding{Name: "worker.resume", Key: Keys("", "resume", "P"), Group: GroupView, Hint: 5, Act: true, Off: p.noRow, Do: func(h Host) {
			h.Wizard(engine.ResumeWorkers{Workers: p.selector()})
		}},
		Binding{Name: "worker.restart", Key: Keys("", "restart", "s"), Group: GroupView, Act: true, Off: p.noRow, Do: func(h Host) {
			h.Wizard(engine.RestartWorkers{Workers: p.selector()})
		}},
	)
	return p
}

// selector names the marked workers, or the one under the cursor, in ranges as a
// person would write them: "w1,w3-w5", with the machine before each where the
// marks lie on several.
func (p *workers) selector() engine.Selector {
	byMachine := map[string][]int{}
	var machines, odd []string
	for _, r := range p.tab.Marked() {
		w := r.(*engine.WorkerRow)
		_, n, err := prover.ParseWorkerID(string(w.ID))
		if err != nil {
			odd = append(odd, string(w.ID))
			continue
		}
		if byMachine[w.Key.Machine] == nil {
			machines = append(machines, w.Key.Machine)
		}
		byMachine[w.Key.Machine] = append(byMachine[w.Key.Machine], int(n))
	}
	var out []string
	for _, m := range machines {
		ns := byMachine[m]
		slices.Sort(ns)
		before := ""
		if len(machines) > 1 && m != "" {
			before = m + "/"
		}
		for i := 0; i < len(ns); {
			k := i
			for k+1 < len(ns) && ns[k+1] == ns[k]+1 {
				k++
			}
			if k == i {
				out = append(out, fmt.Sprintf("%sw%d", before, ns[i]))
			} else {
				out = append(out, fmt.Sprintf("%sw%d-w%d", before, ns[i], ns[k]))
			}
			i = k + 1
		}
	}
	return engine.Selector(strings.Join(append(out, odd...), ","))
}

// note says in words what the columns cannot.
func (p *workers) note(c *widget.Cell, w *engine.WorkerRow) {
	switch {
	case w.State == engine.WorkerDown && w.LastExit != nil:
		c.Str(w.LastExit.Words())
		if w.RestartAt != nil && w.RestartAt.After(p.now) {
			c.Str(", again in ").Str(Age(w.RestartAt.Sub(p.now)))
		}
	case (w.State == engine.WorkerPaused || w.State == engine.WorkerPausing) && w.PauseUntil != nil:
		c.Str(Age(w.PauseUntil.Sub(p.now))).Str(" left")
		if w.PauseWhy != "" {
			c.Str(": ").Str(w.PauseWhy)
		}
	case w.State == engine.WorkerStale && w.HeardAt != nil:
		c.Str("heard ").Str(Age(p.now.Sub(*w.HeardAt))).Str(" ago")
	}
	if w.Note != "" {
		if c.Len() > 0 {
			c.Str(", ")
		}
		c.Str(w.Note)
	}
}

func (p *workers) drawAbout(b *widget.Buffer, l *Look, r widget.Rect, _ engine.Row) {
	shown, all := p.tab.Count()
	text := "Units: CPU% of one core, RSS in powers of 1,024, LAT in ms."
	if shown != all {
		text = fmt.Sprintf("%s of %s. %s", Thousands(shown), Thousands(all), text)
	}
	b.Text(r.Line(r.H-1), text, theme.Hint.S())
}

func (p *workers) drawNone(b *widget.Buffer, l *Look, r widget.Rect) {
	switch {
	case !l.Ready():
		b.Text(r.Line(0), "Not read yet.", theme.Unknown.S())
	case l.Snap.Workers == nil:
		b.Text(r.Line(0), "This engine carries no workers (role workers is not configured).", theme.Text.S())
		b.Text(r.Line(2), "Start one with workers:   provost up --workers 2", theme.Hint.S())
	default:
		b.Text(r.Line(0), "The engine has the role workers and no worker is configured.", theme.Text.S())
		b.Text(r.Line(2), "Add some:   provost create workers", theme.Hint.S())
	}
}

func (p *workers) drawDetail(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
	w := row.(*engine.WorkerRow)
	y := 0
	next := func() widget.Rect { y++; return r.Line(y - 1) }
	at := fact(b, next(), "state")
	at = roleWord(b, at, theme.OfWorker(w.State), string(w.State))
	if !w.Since.IsZero() {
		at = b.Text(at, fmt.Sprintf(" since %s (%s)", Clock(w.Since, l.Now), Age(l.Now.Sub(w.Since))), theme.Text.S())
	}
	if w.Desired != engine.WishRun && w.Desired != "" {
		b.Text(at, ", wanted "+string(w.Desired), theme.Text.S())
	}
	at = b.Text(fact(b, next(), "where"), fmt.Sprintf("%s  core %d", orDash(w.Key.Machine), w.Core), theme.Text.S())
	b.Text(at, "  cpu "+showInt(w.CPU, "not pinned")+"  numa "+showInt(w.NUMA, "?")+"  pid "+showInt(w.PID, "-")+"  nice "+showInt(w.Nice, "?"), theme.Text.S())
	at = fact(b, next(), "task")
	if w.Job == nil {
		b.Text(at, "none", theme.Hint.S())
	} else {
		at = b.Text(at, shortJob(*w.Job)+"  "+string(w.Phase)+"  ", theme.Text.S())
		if w.Progress != nil {
			at = b.Text(at, Percent(*w.Progress*100)+" ", theme.Text.S())
			if at.W > 6 {
				b.Bar(widget.Rect{X: at.X, Y: at.Y, W: min(at.W, 20), H: 1}, *w.Progress, theme.OK.S())
			}
		} else {
			b.Text(at, "?", theme.Unknown.S())
		}
	}
	b.Text(fact(b, next(), "work"), fmt.Sprintf("%d verified   %d restarts by the policy", w.JobsDone, w.Restarts), theme.Text.S())
	use := "cpu ? "
	if w.CPUPercent != nil {
		use = "cpu " + Percent(*w.CPUPercent) + " of its core"
	}
	if w.RSSBytes != nil {
		use += "   memory " + Bytes(*w.RSSBytes)
	} else {
		use += "   memory ?"
	}
	if w.LatencyMS != nil {
		use += fmt.Sprintf("   %.1f ms to the engine", *w.LatencyMS)
	}
	b.Text(fact(b, next(), "use"), use, theme.Text.S())
	if w.PauseUntil != nil {
		b.Text(fact(b, next(), "pause"), fmt.Sprintf("ends by itself at %s, %s left  %s", Clock(*w.PauseUntil, l.Now), Left(w.PauseUntil.Sub(l.Now)), w.PauseWhy), theme.Text.S())
	}
	if e := w.LastExit; e != nil {
		how := e.Signal
		if e.Code != nil {
			how = fmt.Sprintf("exit code %d", *e.Code)
		}
		b.Text(fact(b, next(), "last exit"), fmt.Sprintf("%s at %s (%s ago)", how, Clock(e.At, l.Now), Age(l.Now.Sub(e.At))), theme.Text.S())
		if e.Cause != "" {
			b.Text(fact(b, next(), "cause"), e.Cause, theme.Text.S())
		}
	}
	if w.Note != "" {
		b.Text(fact(b, next(), "note"), w.Note, theme.Text.S())
	}
	y++
	at = fact(b, next(), "NEXT")
	why := l.ActsOff()
	if why != "" {
		why = "   (" + why + ")"
	}
	switch {
	case w.State == engine.WorkerPaused || w.State == engine.WorkerPausing:
		b.Text(at, "P  resume it now"+why, theme.Text.S())
	default:
		b.Text(at, "p  pause it   s  restart it"+why, theme.Text.S())
	}
	if w.RestartAt != nil && w.RestartAt.After(l.Now) {
		b.Text(fact(b, next(), ""), "the policy starts it again in "+Left(w.RestartAt.Sub(l.Now)), theme.Text.S())
	}
	b.Text(fact(b, next(), ""), "l  its log", theme.Text.S())
	y++
	for _, tr := range [...]struct{ name, unit string }{{"worker_cpu", "cpu%"}, {"worker_rss", "rss"}} {
		v := trend(l.Snap, tr.name, string(w.ID))
		if len(v) == 0 || !l.Sparks {
			continue
		}
		top := 0.0
		if tr.unit == "cpu%" {
			top = 100
		}
		line := fact(b, next(), tr.unit)
		b.Spark(widget.Rect{X: line.X, Y: line.Y, W: min(line.W, 60), H: line.H}, v, top, theme.OK.S())
	}
	if w.HeardAt != nil {
		b.Text(next(), "heard "+short(l.Now.Sub(*w.HeardAt))+" ago", theme.Hint.S())
	} else {
		b.Text(next(), "not heard yet", theme.Unknown.S())
	}
}

func showInt[N ~int](v *N, none string) string {
	if v == nil {
		return none
	}
	return fmt.Sprint(int(*v))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
