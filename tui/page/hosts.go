package page

import (
	"fmt"
	"strings"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// hosts is view 4: memory, hugepages per NUMA node, clock, disk of every machine.
type hosts struct{ list }

func newHosts() *hosts {
	p := &hosts{}
	table, _ := engine.TableNamed(string(engine.TableHosts))
	p.list = list{
		id: Hosts, title: "Hosts",
		there:      func(s *engine.Snapshot) bool { return s.Machines != nil },
		detail:     p.drawDetail,
		about:      p.drawAbout,
		aboutLines: 5,
		none: func(b *widget.Buffer, l *Look, r widget.Rect) {
			b.Text(r.Line(0), "Not read yet.", theme.Unknown.S())
		},
		legend: []string{
			"LOAD of the last minute   CPU% of all CPUs",
			"MEM FREE what new processes can have, of all",
			"HUGEPAGES used, of all, in the largest pool",
			"FREE pages that a new process can take",
			"CLOCK ms; positive: ahead   READ oldest reading",
			"Unset hugepages are \"-\", unread ones \"?\"",
		},
	}
	p.tab = widget.NewTable(table,
		widget.Layout{Name: "host", Width: 8},
		widget.Layout{Name: "role", Width: 12, Draw: func(c *widget.Cell, row engine.Row, _ engine.Value) {
			// The last role says most: every machine has the first.
			roles := row.(*engine.MachineRow).Roles
			if len(roles) == 0 {
				c.Ask()
				return
			}
			for i, r := range roles {
				if r == engine.RoleMachine && len(roles) > 1 {
					continue
				}
				if i > 0 && c.Len() > 0 {
					c.Rune(',')
				}
				c.Str(string(r))
			}
		}},
		widget.Layout{Name: "load", Width: 5, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			if !v.Known {
				c.Ask()
				return
			}
			c.Float(v.Num, 1)
		}},
		widget.Layout{Name: "cpu", Width: 5},
		widget.Layout{Name: "mem", Width: 12, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			if v.Known && v.Of > 0 && v.Num < v.Of/10 {
				c.Role = theme.Warn
			}
			c.Value(mustColumn(table, "mem"), v)
		}},
		widget.Layout{Name: "huge", Width: 11},
		widget.Layout{Name: "huge_free", Width: 5, Draw: func(c *widget.Cell, _ engine.Row, v engine.Value) {
			if v.Known && !v.None && v.Num == 0 {
				c.Role = theme.Warn
			}
			c.Value(mustColumn(table, "huge_free"), v)
		}},
		widget.Layout{Name: "clock", Width: 5},
		widget.Layout{Name: "gpus", Width: 4},
		widget.Layout{Name: "numa_free", Width: 12, Extra: true},
		widget.Layout{Name: "disk", Width: 12, Extra: true},
		widget.Layout{Name: "read", Width: 5, Extra: true},
	)
	p.bindings(
		Binding{Name: "host.workers", Key: Keys("", "its workers", "2"), Brief: "its workers", Hint: 2, Group: GroupView, Off: p.noRow, Do: func(h Host) {
			h.Go(Workers, "host:"+engine.HostName(p.tab.Current().(*engine.MachineRow)))
		}},
		Binding{Name: "host.gpus", Key: Keys("", "its GPUs", "3"), Brief: "its GPUs", Hint: 3, Group: GroupView, Off: p.noRow, Do: func(h Host) {
			h.Go(GPUs, "host:"+engine.HostName(p.tab.Current().(*engine.MachineRow)))
		}},
	)
	return p
}

func (p *hosts) drawAbout(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
	m := row.(*engine.MachineRow)
	name := engine.HostName(m)
	b.Text(r.Line(0), name, theme.Title.S())
	at := r.Skip(max(widget.Width(name)+2, 6))
	p.drawPools(b, l, at.Top(3), m)
	b.Text(r.Line(r.H-1), "Hugepages are the kernel's own counters. enter shows all readings.", theme.Hint.S())
}

// drawPools writes every pool with its NUMA nodes, up to the height of r.
func (p *hosts) drawPools(b *widget.Buffer, l *Look, r widget.Rect, m *engine.MachineRow) int {
	h := &m.Hugepages
	switch {
	case h.Value == nil && h.Problem != "":
		b.Text(r.Line(0), "hugepages: "+h.Problem, theme.Warn.S())
		return 1
	case h.Value == nil:
		b.Text(r.Line(0), "hugepages ?", theme.Unknown.S())
		return 1
	case len(*h.Value) == 0:
		b.Text(r.Line(0), "this kernel has no hugepage pools", theme.Hint.S())
		return 1
	}
	y := 0
	for _, pool := range *h.Value {
		if y >= r.H {
			break
		}
		size := fmt.Sprintf("%d MiB", pool.PageKiB/1024)
		switch {
		case pool.PageKiB < 1024:
			size = fmt.Sprintf("%d KiB", pool.PageKiB)
		case pool.PageKiB >= 1<<20:
			size = fmt.Sprintf("%d GiB", pool.PageKiB>>20)
		}
		if pool.Total == 0 {
			b.Text(r.Line(y), size+" pages: none set", theme.Hint.S())
			y++
			continue
		}
		line := b.Text(r.Line(y), fmt.Sprintf("%s pages: %d of %d used ", size, pool.Used(), pool.Total), theme.Text.S())
		if line.W > 40 {
			b.Bar(line.Cut(12), float64(pool.Used())/float64(pool.Total), theme.OK.S())
			line = line.Skip(13)
		}
		b.Text(line, fmt.Sprintf("%d free, %d reserved, %d available", pool.Free, pool.Reserved, pool.Available()), theme.Text.S())
		y++
		if len(pool.NUMA) > 1 && y < r.H {
			var parts []string
			for _, n := range pool.NUMA {
				parts = append(parts, fmt.Sprintf("numa%d %d/%d free", n.Node, n.Free, n.Total))
			}
			b.Text(r.Line(y).Skip(2), strings.Join(parts, "   "), theme.Hint.S())
			y++
		}
	}
	return max(y, 1)
}

func (p *hosts) drawDetail(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
	m := row.(*engine.MachineRow)
	y := 0
	put := func(name, text string, f engine.Freshness, age string) {
		if y >= r.H {
			return
		}
		st := theme.Text.S()
		switch f {
		case engine.Fresh:
			age = ""
		case engine.NeverRead:
			if text == "?" {
				st, age = theme.Unknown.S(), ""
			}
		default:
			st, age = theme.Old.S(), "  "+age+" old ~"
		}
		b.Text(b.Text(fact(b, r.Line(y), name), text, st), age, theme.Old.S())
		y++
	}
	roles := make([]string, len(m.Roles))
	for i, x := range m.Roles {
		roles[i] = string(x)
	}
	put("name", m.Hostname+"   roles "+orDash(strings.Join(roles, " ")), engine.Fresh, "")
	text := "?"
	if s := m.System.Value; s != nil {
		text = fmt.Sprintf("%s %s %s, up %s, %s", s.OS, s.Kernel, s.Arch, Age(l.Now.Sub(s.BootedAt)), count(s.NUMANodes, "NUMA node"))
		if s.Virtual != "" {
			text += ", in " + s.Virtual
		}
	}
	put("system", text, m.System.Freshness(l.Now), ageOf(&m.System, l))
	text = "?"
	if c := m.CPU.Value; c != nil {
		text = fmt.Sprintf("load %.1f %.1f %.1f on %d cpus, use ", c.Load1, c.Load5, c.Load15, c.LogicalCPUs)
		if c.UsePercent != nil {
			text += Percent(*c.UsePercent)
		} else {
			text += "?"
		}
		if c.StealPercent != nil && *c.StealPercent >= 0.5 {
			text += ", stolen " + Percent(*c.StealPercent)
		}
	}
	put("cpu", text, m.CPU.Freshness(l.Now), ageOf(&m.CPU, l))
	text = "?"
	if v := m.Memory.Value; v != nil {
		text = fmt.Sprintf("%s of %s GiB free", GiB(v.AvailableBytes), GiB(v.TotalBytes))
		if v.SwapTotalBytes > 0 {
			text += fmt.Sprintf(", swap %s of %s GiB used", GiB(v.SwapUsedBytes), GiB(v.SwapTotalBytes))
		} else {
			text += ", no swap"
		}
		if v.THP != "" {
			text += ", THP " + v.THP
		}
	}
	put("memory", text, m.Memory.Freshness(l.Now), ageOf(&m.Memory, l))
	text = "?"
	if c := m.Clock.Value; c != nil {
		text = "offset ?"
		if c.OffsetMS != nil {
			text = fmt.Sprintf("%+.1f ms", *c.OffsetMS)
		}
		if c.Synced != nil && !*c.Synced {
			text += ", NOT synchronised"
		}
		text += "  (" + c.Source + ")"
	}
	put("clock", text, m.Clock.Freshness(l.Now), ageOf(&m.Clock, l))
	text = "?"
	if d := m.GPUDriver.Value; d != nil {
		text = orDash(d.Why)
		if d.Version != "" {
			text = fmt.Sprintf("driver %s, CUDA %s, %s, answered in %.0f ms", d.Version, orAskText(d.CUDA), count(d.Count, "device"), d.TookMS)
		}
	}
	put("gpus", text, m.GPUDriver.Freshness(l.Now), ageOf(&m.GPUDriver, l))
	if d := m.Disks.Value; d != nil {
		for _, x := range *d {
			share := 0.0
			if x.TotalBytes > 0 {
				share = 100 * float64(x.TotalBytes-min(x.FreeBytes, x.TotalBytes)) / float64(x.TotalBytes)
			}
			put("disk "+x.What, fmt.Sprintf("%s: %s of %s GiB free, %s used", x.Path, GiB(x.FreeBytes), GiB(x.TotalBytes), Percent(share)), m.Disks.Freshness(l.Now), ageOf(&m.Disks, l))
		}
	} else {
		put("disk", "?", engine.NeverRead, "")
	}
	y++
	if y < r.H {
		b.Text(r.Line(y), "HUGEPAGES", theme.Title.S())
		y += 1 + p.drawPools(b, l, r.Below(y+1), m)
	}
	y++
	put("NEXT", "2  its workers   3  its GPUs", engine.Fresh, "")
}

func ageOf[T any](rd *engine.Reading[T], l *Look) string {
	if rd.At == nil {
		return ""
	}
	return short(l.Now.Sub(*rd.At))
}
