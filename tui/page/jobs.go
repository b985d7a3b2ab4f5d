package page

import (
	"fmt"

	"app.provost/engine"
	"app.provost/prover"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// jobs is view J: the proofs that were asked for.
type jobs struct{ list }

func jobRole(s prover.JobState) theme.Role {
	switch s {
	case prover.JobLeased, prover.JobProved:
		return theme.Busy
	case prover.JobVerified:
		return theme.OK
	case prover.JobFailed:
		return theme.Crit
	case prover.JobQueued, prover.JobCancelled:
		return theme.Idle
	}
	return theme.Unknown
}

func newJobs() *jobs {
	p := &jobs{}
	table, _ := engine.TableNamed(string(engine.TableJobs))
	p.list = list{
		id: Jobs, title: "Jobs",
		there:      func(s *engine.Snapshot) bool { return s.Jobs != nil },
		detail:     p.drawDetail,
		aboutLines: 2,
		about: func(b *widget.Buffer, l *Look, r widget.Rect, _ engine.Row) {
			line := r.Line(r.H - 1)
			drawJobs(b, l, line)
			if h := l.Snap.Jobs.Hidden; h > 0 {
				b.Text(r.Line(r.H-2), fmt.Sprintf("%s finished jobs are kept and not listed here: provost get jobs", Thousands(h)), theme.Hint.S())
			}
		},
		none: func(b *widget.Buffer, l *Look, r widget.Rect) {
			if !l.Ready() {
				b.Text(r.Line(0), "Not read yet.", theme.Unknown.S())
				return
			}
			if l.Snap.Jobs == nil {
				b.Text(r.Line(0), "This engine hands out no work (role control is not configured).", theme.Text.S())
				return
			}
			b.Text(r.Line(0), "No job was submitted yet.", theme.Text.S())
			b.Text(r.Line(2), "provost submit job --zkey circuit.zkey --witness input.wtns", theme.Hint.S())
		},
		legend: []string{
			"queued waits   leased a worker proves it",
			"proved made, not verified yet",
			"verified by another process: the only success",
			"TRY attempts so far   PROVE ms in the prover",
		},
	}
	p.tab = widget.NewTable(table,
		widget.Layout{Name: "id", Width: 9, Draw: drawJobID},
		widget.Layout{Name: "name", Width: 12},
		widget.Layout{Name: "state", Width: 11, Draw: func(c *widget.Cell, row engine.Row, v engine.Value) {
			c.Role = jobRole(row.(*engine.JobRow).State)
			c.Sign().Str(v.Str)
		}},
		widget.Layout{Name: "try", Width: 3},
		widget.Layout{Name: "worker", Width: 6},
		widget.Layout{Name: "phase", Width: 6},
		widget.Layout{Name: "progress", Width: 5},
		widget.Layout{Name: "prove", Width: 6},
		widget.Layout{Name: "age", Width: 4},
		widget.Layout{Name: "by", Width: 8, Extra: true},
		widget.Layout{Name: "constraints", Width: 11, Extra: true},
		widget.Layout{Name: "why", Width: 6, Flex: true},
	)
	p.bindings(
		Binding{Name: "job.cancel", Key: Keys("", "cancel, asks", "x"), Brief: "cancel", Hint: 4, Group: GroupView, Act: true, Off: p.noRow, Do: func(h Host) {
			sel := ""
			for _, r := range p.tab.Marked() {
				if sel != "" {
					sel += ","
				}
				sel += string(r.(*engine.JobRow).ID)
			}
			h.Wizard(engine.CancelJobs{Jobs: engine.Selector(sel)})
		}},
		Binding{Name: "job.worker", Key: Keys("", "log of its worker", "l"), Brief: "logs", Hint: 2, Group: GroupView, Off: p.noRow, Do: func(h Host) {
			if w := p.tab.Current().(*engine.JobRow).Worker; w != "" {
				h.Logs(string(w))
				return
			}
			h.Say("l: no worker has had this job yet")
		}},
	)
	return p
}

func (p *jobs) drawDetail(b *widget.Buffer, l *Look, r widget.Rect, row engine.Row) {
	j := row.(*engine.JobRow)
	y := 0
	put := func(name, text string) {
		b.Text(fact(b, r.Line(y), name), text, theme.Text.S())
		y++
	}
	roleWord(b, fact(b, r.Line(y), "state"), jobRole(j.State), string(j.State))
	y++
	put("job", string(j.ID))
	put("name", orDash(j.Name))
	size := "?"
	if j.Constraints > 0 {
		size = Thousands(int(j.Constraints)) + " constraints"
	}
	put("kind", string(j.Kind)+", "+size)
	put("submitted", Clock(j.SubmittedAt, l.Now)+" by "+orAskText(j.SubmittedBy)+", "+Age(l.Now.Sub(j.SubmittedAt))+" ago")
	put("attempts", fmt.Sprint(j.Attempts))
	put("worker", orDash(string(j.Worker)))
	if j.State == prover.JobLeased {
		at := b.Text(fact(b, r.Line(y), "now"), orAskText(string(j.Phase))+"  ", theme.Text.S())
		if j.Progress != nil {
			at = b.Text(at, Percent(*j.Progress*100)+" ", theme.Text.S())
			b.Bar(at.Cut(20), *j.Progress, theme.OK.S())
		} else {
			b.Text(at, "?", theme.Unknown.S())
		}
		y++
	}
	if j.StartedAt != nil {
		put("started", Clock(*j.StartedAt, l.Now))
	}
	if j.FinishedAt != nil {
		put("finished", Clock(*j.FinishedAt, l.Now))
	}
	if j.ProveMS != nil {
		put("prove", fmt.Sprintf("%.0f ms in the prover", *j.ProveMS))
	}
	if f := j.Failure; f != nil {
		put("why", f.Code)
		put("", f.Text)
		if f.Retry {
			put("", "another attempt can end differently")
		} else {
			put("", "another attempt cannot help")
		}
	}
	y++
	switch {
	case j.State == prover.JobVerified:
		put("NEXT", "provost fetch job "+string(j.ID))
	case !j.State.Final():
		put("NEXT", "x  cancel it")
	default:
		put("NEXT", "provost describe job/"+string(j.ID))
	}
}
