package page

import (
	"fmt"
	"strings"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// gpus is view 3: is each GPU working, hot, short of memory, lost.
type gpus struct{ list }

func newGPUs() *gpus {
	p := &gpus{}
	table, _ := engine.TableNamed(string(engine.TableGPUs))
	p.list = list{
		id: GPUs, title: "GPUs",
		there:  func(s *engine.Snapshot) bool { return s.GPUs != nil },
		detail: p.drawDetail,
		none:   p.drawNone,
		about: func(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
			g := row.(*engine.GPURow)
			if len(g.GPU.Throttle) > 0 {
				b.Text(r.Line(0), engine.GPUName(g)+"  clocks held back: "+strings.Join(g.GPU.Throttle, ", "), theme.Warn.S())
			} else if g.GPU.Lost != "" {
				b.Text(r.Line(0), engine.GPUName(g)+"  "+g.GPU.Lost, theme.Crit.S())
			}
			b.Text(r.Line(r.H-1), "Units: MEM in powers of 1,024, TEMP °C, PWR/LIM W, CLK MHz. GPU is host/index.", theme.Hint.S())
		},
		aboutLines: 2,
		legend: []string{
			"run works   idle nothing to do",
			"hot clocks held back by heat",
			"lost answered once, does not any more",
			"XID last critical error of the driver, 0 none",
			"ECC uncorrected errors since the driver loaded",
		},
	}
	p.tab = widget.NewTable(table,
		widget.Layout{Name: "gpu", Width: 7},
		widget.Layout{Name: "state", Width: 7, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			c.Role = theme.OfGPU(v.Str)
			c.Sign().Str(v.Str)
		}},
		widget.Layout{Name: "util", Width: 5},
		widget.Layout{Name: "mem", Width: 12},
		widget.Layout{Name: "temp", Width: 5},
		widget.Layout{Name: "power", Width: 8},
		widget.Layout{Name: "clk", Width: 5},
		widget.Layout{Name: "ecc", Width: 4},
		widget.Layout{Name: "xid", Width: 4, Draw: func(c *widget.Cell, _ engine.Row, v engine.Value) {
			if v.Known && v.Num > 0 {
				c.Role = theme.Crit
			}
			c.Value(mustColumn(table, "xid"), v)
		}},
		widget.Layout{Name: "model", Width: 12, Flex: true},
		widget.Layout{Name: "job", Width: 8, Extra: true, Draw: drawJobID},
	)
	p.bindings(
		Binding{Name: "gpu.host", Key: Keys("", "its host", "4"), Group: GroupView, Off: p.noRow, Do: func(h Host) {
			h.Go(Hosts, "host:"+p.tab.Current().(*engine.GPURow).Key.Machine)
		}},
	)
	return p
}

func mustColumn(t *engine.Table, name string) *engine.Column {
	c, _ := t.Column(name)
	return c
}

// drawJobID shortens a job's id.
func drawJobID(c *widget.Cell, _ engine.Row, v engine.Value) {
	switch {
	case !v.Known:
		c.Ask()
	case v.None:
		c.Dash()
	default:
		c.Str(shortJob(v.Str))
	}
}

func (p *gpus) drawNone(b *widget.Buffer, l *Look, r widget.Rect) {
	if !l.Ready() {
		b.Text(r.Line(0), "Not read yet.", theme.Unknown.S())
		return
	}
	why := map[string][]string{}
	var order []string
	for i := range l.Snap.Machines.List() {
		m := &l.Snap.Machines.Rows[i]
		reason := "not read yet"
		switch d := m.GPUDriver.Value; {
		case d != nil && d.Version != "":
			reason = "driver " + d.Version + " is loaded and sees no device"
		case d != nil && d.Why != "":
			reason = d.Why
		case m.GPUDriver.Problem != "":
			reason = m.GPUDriver.Problem
		}
		if why[reason] == nil {
			order = append(order, reason)
		}
		why[reason] = append(why[reason], engine.HostName(m))
	}
	b.Text(r.Line(0), fmt.Sprintf("No GPU. Provost looked at %s:", count(len(l.Snap.Machines.List()), "host")), theme.Text.S())
	y := 1
	for _, reason := range order {
		names := why[reason]
		who := names[0]
		if len(names) > 1 {
			who = fmt.Sprintf("%d hosts", len(names))
		}
		b.Text(r.Line(y).Skip(2), fmt.Sprintf("%-10s %s", who, reason), theme.Text.S())
		y++
	}
	b.Text(r.Line(y+1), "To hide this view:   : views hide gpus", theme.Hint.S())
}

func (p *gpus) drawDetail(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
	g := row.(*engine.GPURow)
	x := &g.GPU
	y := 0
	put := func(name, text string) {
		b.Text(fact(b, r.Line(y), name), text, theme.Text.S())
		y++
	}
	num := func(v *float64, unit string) string {
		if v == nil {
			return "?"
		}
		return fmt.Sprintf("%.0f%s", *v, unit)
	}
	roleWord(b, fact(b, r.Line(y), "state"), theme.OfGPU(g.State), g.State)
	y++
	if x.Lost != "" {
		put("lost", x.Lost)
	}
	put("model", orAskText(x.Model))
	put("uuid", orAskText(x.UUID))
	put("where", fmt.Sprintf("%s  index %d  numa %s", g.Key.Machine, x.Index, showInt(x.NUMA, "?")))
	put("use", num(x.UtilPercent, "%")+" of its cores")
	mem := "?"
	if x.MemUsed != nil && x.MemTotal != nil {
		mem = fmt.Sprintf("%.1f of %.1f GiB", float64(*x.MemUsed)/1024, float64(*x.MemTotal)/1024)
	}
	put("memory", mem)
	put("heat", num(x.TempC, " °C")+"   fan "+num(x.FanPercent, "%"))
	put("power", num(x.PowerW, " W")+" of "+num(x.PowerLimitW, " W"))
	put("clock", num(x.ClockMHz, " MHz"))
	throttle := "?"
	if x.Throttle != nil {
		throttle = "none"
		if len(x.Throttle) > 0 {
			throttle = strings.Join(x.Throttle, ", ")
		}
	}
	put("held back", throttle)
	put("errors", "ecc "+showUint(x.ECCErrors)+"   xid "+showUint(x.XID))
	pcie := "?"
	if x.PCIEGen != nil && x.PCIEWidth != nil {
		pcie = fmt.Sprintf("gen %d, %d lanes", *x.PCIEGen, *x.PCIEWidth)
	}
	put("pcie", pcie)
	if x.PIDs == nil {
		put("processes", "?")
	} else {
		put("processes", fmt.Sprint(len(x.PIDs)))
	}
	if g.Job != nil {
		put("job", string(*g.Job))
	}
	y++
	put("NEXT", "4  its host")
	if v := trend(l.Snap, "gpu_util", g.Key.ID); len(v) > 0 && l.Sparks {
		line := fact(b, r.Line(y), "util")
		b.Spark(line.Cut(60), v, 100, theme.OK.S())
		y++
	}
	b.Text(r.Line(y+1), "read "+short(l.Now.Sub(g.At))+" ago", theme.Hint.S())
}

func orAskText(s string) string {
	if s == "" {
		return "?"
	}
	return s
}

func showUint(v *uint64) string {
	if v == nil {
		return "?"
	}
	return fmt.Sprint(*v)
}
