package page

import (
	"fmt"
	"strings"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// events are the newest entries of the journal for the overview, newest first. What
// a busy queue writes all the time is one line for each kind, in the place of the
// newest of it, so that the rest is seen; the journal in view 8 has every entry.
type events struct {
	last uint64 // number of the newest entry that was looked at
	n    int    // how many there were
	rows []event
}

type event struct {
	entry *engine.Entry
	kind  routine
	count int
	first *engine.Entry // the oldest that is counted
	acts  map[string]bool
}

// routine is what repeats without news.
type routine string

const (
	verified  routine = "verified"
	submitted routine = "submitted"
)

// of looks at the entries again if there are others than before.
func (v *events) of(entries []engine.Entry) []event {
	last := uint64(0)
	if n := len(entries); n > 0 {
		last = entries[n-1].N
	}
	if v.last == last && v.n == len(entries) && last > 0 {
		return v.rows
	}
	v.last, v.n, v.rows = last, len(entries), v.rows[:0]
	at := map[routine]int{}
	submits := map[string]bool{}
	for i := range entries {
		if e := &entries[i]; e.What == "act.asked" && isSubmit(e) {
			submits[e.Key.ID] = true
		}
	}
	for i := len(entries) - 1; i >= 0; i-- {
		e := &entries[i]
		kind := routine("")
		switch {
		case e.Level.Rank() > engine.LevelNote.Rank():
			// Trouble is never routine.
		case e.What == "job.verified":
			kind = verified
		case (e.What == "act.asked" || e.What == "act.done") && submits[e.Key.ID]:
			kind = submitted
		}
		if kind == "" {
			v.rows = append(v.rows, event{entry: e})
			continue
		}
		k, ok := at[kind]
		if !ok {
			k = len(v.rows)
			at[kind] = k
			v.rows = append(v.rows, event{entry: e, kind: kind, acts: map[string]bool{}})
		}
		r := &v.rows[k]
		r.first = e
		// An act that was asked for and done is one.
		if kind != submitted || !r.acts[e.Key.ID] {
			r.acts[e.Key.ID] = true
			r.count++
		}
	}
	return v.rows
}

func isSubmit(e *engine.Entry) bool {
	for _, f := range e.Facts {
		if f.Name == "command" {
			return strings.HasPrefix(f.Value, "provost submit job ")
		}
	}
	return false
}

// words are what an event says; ids of jobs are as short as in the tables.
func (v *event) words(l *Look) string {
	e := v.entry
	text := e.Text
	if id := e.Key.ID; strings.HasPrefix(e.What, "job.") && id != "" {
		text = strings.Replace(text, id, shortJob(id), 1)
	}
	if v.count < 2 {
		return text
	}
	since := ", since " + Clock(v.first.At, l.Now)
	if v.kind == submitted {
		return fmt.Sprintf("%s submissions, newest: %s%s", Thousands(v.count), strings.TrimPrefix(text, "done: "), since)
	}
	return fmt.Sprintf("%s jobs verified, newest %s%s", Thousands(v.count), shortJob(e.Key.ID), since)
}

func drawEvent(b *widget.Buffer, l *Look, r widget.Rect, e *engine.Entry) {
	drawEventText(b, l, r, e, e.Text)
}

func drawEventText(b *widget.Buffer, l *Look, r widget.Rect, e *engine.Entry, text string) {
	when := Clock(e.At, l.Now)
	if l.Ages {
		when = Age(l.Now.Sub(e.At)) + " ago"
	}
	role := theme.OfLevel(e.Level)
	b.Text(r.Top(1), when, theme.Hint.S())
	r = r.Skip(max(len(when), 8) + 2)
	b.Text(r, theme.LevelMark(e.Level), role.S())
	r = r.Skip(4)
	b.Text(r, text, theme.Text.S())
}
