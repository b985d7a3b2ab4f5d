package state

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
)

const (
	flapWindow   = 10 * time.Minute
	flapChanges  = 3   // in the window make one alert that "flaps"
	closedAlerts = 200 // kept in the section
	marksAge     = 30 * 24 * time.Hour
)

// Raise says that a rule fires. Again for the same code and key: it still does, and counts.
type Raise struct{ engine.Raise }

// Clear says that it does no more. What is not open is left alone.
type Clear struct {
	Code engine.Code
	Key  engine.Key
}

func (Raise) slot() slot { return slot{} }
func (Clear) slot() slot { return slot{} }

// alert is one finding over its time. It outlives its close by the flap window.
type alert struct {
	f       engine.Finding
	is      bool // the rule fires now
	listed  bool // shown as open: fires for long enough, or flaps
	flaps   bool
	changes []time.Time // of is, in the window
}

type alerts struct {
	all     map[string]*alert
	history []engine.Finding // closed, oldest first
	marks   map[string]mark
	dirty   bool
	pub     *engine.Section[engine.Finding]
}

// mark is what an operator said about a finding, kept over a restart.
type mark struct {
	V         int        `json:"v"` // 1
	At        time.Time  `json:"at"`
	AckBy     string     `json:"ack_by,omitempty"`
	AckAt     *time.Time `json:"ack_at"`
	MuteUntil *time.Time `json:"mute_until"`
}

func (a *alerts) init(o Options) error {
	a.all, a.marks = map[string]*alert{}, map[string]mark{}
	if o.Marks == nil {
		return nil
	}
	docs, err := o.Marks.All()
	if err != nil {
		return err
	}
	for id, doc := range docs {
		var k mark
		if err := json.Unmarshal(doc, &k); err != nil || k.V != 1 || time.Since(k.At) > marksAge {
			if err := o.Marks.Delete(id); err != nil {
				return err
			}
			continue
		}
		a.marks[id] = k
	}
	return nil
}

func alertID(code engine.Code, key engine.Key) string { return string(code) + "/" + key.String() }

func (f Raise) fold(m *model, now time.Time) {
	id := alertID(f.Code, f.Key)
	made := m.o.Catalog(f.Raise, now.UTC())
	made.ID = id
	a := m.alerts.all[id]
	if a == nil {
		a = &alert{}
		m.alerts.all[id] = a
	}
	if !a.is {
		again := a.listed || m.alerts.flapping(a, now)
		a.is = true
		a.changed(now)
		old := a.f
		a.f = made
		a.f.Since, a.f.Count = now.UTC(), 1
		if again {
			// The same trouble as before: it goes on instead of being a new one.
			a.f.Since, a.f.Count = old.Since, old.Count+1
			a.f.AckBy, a.f.AckAt, a.f.MuteUntil = old.AckBy, old.AckAt, old.MuteUntil
			m.alerts.history = slices.DeleteFunc(m.alerts.history, func(h engine.Finding) bool { return h.ID == id && h.Since.Equal(old.Since) })
		} else if k, ok := m.alerts.marks[id]; ok {
			a.f.AckBy, a.f.AckAt, a.f.MuteUntil = k.AckBy, k.AckAt, k.MuteUntil
		}
	} else {
		a.f.Count++
		a.f.Level, a.f.Title, a.f.Text, a.f.Effect, a.f.Next, a.f.Facts, a.f.Target = made.Level, made.Title, made.Text, made.Effect, made.Next, made.Facts, made.Target
		if a.flaps {
			a.mark(now)
		}
	}
	a.f.Last = now.UTC()
	m.show(a, now)
	if a.listed {
		m.alerts.dirty = true
	}
}

// show lists a finding once it has been open for its time, and says when it begins to flap.
func (m *model) show(a *alert, now time.Time) {
	if !a.listed && a.is {
		wait := time.Duration(0)
		if m.o.ShowAfter != nil {
			wait = m.o.ShowAfter(a.f.Code)
		}
		if now.Sub(a.f.Since) < wait {
			return
		}
		a.listed = true
		m.alerts.dirty = true
		if len(a.changes) < flapChanges {
			m.note(now, a.entry("alert.raised", a.f.Level, a.f.Title))
		}
	}
	if a.listed && !a.flaps && len(a.changes) >= flapChanges {
		a.flaps = true
		m.alerts.dirty = true
		a.mark(now)
		m.note(now, a.entry("alert.raised", a.f.Level, a.f.Title))
	}
}

func (a *alert) entry(what string, level engine.Level, text string) engine.Entry {
	return engine.Entry{What: what, Level: level, Key: a.f.Key, Code: a.f.Code, Text: text, Facts: a.f.Facts}
}

const flapsTitle = " (flaps)"

// mark puts the flapping into title and facts.
func (a *alert) mark(time.Time) {
	a.f.Title = strings.TrimSuffix(a.f.Title, flapsTitle) + flapsTitle
	facts := slices.DeleteFunc(slices.Clone(a.f.Facts), func(f engine.Fact) bool { return f.Name == "flaps" })
	a.f.Facts = append(facts, engine.Fact{Name: "flaps", Value: fmt.Sprintf("%d changes in 10 minutes", len(a.changes))})
}

func (a *alert) unmark() {
	a.f.Title = strings.TrimSuffix(a.f.Title, flapsTitle)
	a.f.Facts = slices.DeleteFunc(slices.Clone(a.f.Facts), func(f engine.Fact) bool { return f.Name == "flaps" })
}

// changed notes that the rule began or ceased to fire.
func (a *alert) changed(now time.Time) {
	a.age(now)
	if len(a.changes) >= 100 { // enough to know that it flaps
		a.changes = a.changes[1:]
	}
	a.changes = append(a.changes, now)
}

func (a *alert) age(now time.Time) {
	a.changes = slices.DeleteFunc(a.changes, func(t time.Time) bool { return now.Sub(t) >= flapWindow })
}

// flapping tells whether one more change would make a flap of it.
func (*alerts) flapping(a *alert, now time.Time) bool {
	a.age(now)
	return len(a.changes)+1 >= flapChanges
}

func (f Clear) fold(m *model, now time.Time) {
	a := m.alerts.all[alertID(f.Code, f.Key)]
	if a == nil || !a.is {
		return
	}
	a.is = false
	a.changed(now)
	if !a.listed {
		return // it was over before it was shown
	}
	m.show(a, now)
	if a.flaps {
		a.mark(now)
		m.alerts.dirty = true
		return // stays until it has been quiet
	}
	m.closeAlert(a, now)
}

func (m *model) closeAlert(a *alert, now time.Time) {
	a.listed = false
	closed := a.f
	at := now.UTC()
	closed.ClosedAt = &at
	m.alerts.history = append(m.alerts.history, closed)
	if extra := len(m.alerts.history) - closedAlerts; extra > 0 {
		m.alerts.history = slices.Clone(m.alerts.history[extra:])
	}
	m.alerts.dirty = true
	m.note(now, a.entry("alert.closed", engine.LevelOK, "over: "+a.f.Title))
	if _, ok := m.alerts.marks[a.f.ID]; ok {
		delete(m.alerts.marks, a.f.ID)
		if keep := m.o.Marks; keep != nil {
			id := a.f.ID
			m.queue = append(m.queue, waiting{write: func() error { return keep.Delete(id) }})
		}
	}
}

// tickAlerts shows what was open for long enough, lets go of what flaps no more, ends mutes.
func (m *model) tickAlerts(now time.Time) {
	for id, a := range m.alerts.all {
		a.age(now)
		m.show(a, now)
		if a.flaps && len(a.changes) < flapChanges {
			a.flaps = false
			a.unmark()
			m.alerts.dirty = true
			if !a.is {
				m.closeAlert(a, now)
			}
		}
		if a.f.MuteUntil != nil && !now.Before(*a.f.MuteUntil) {
			a.f.MuteUntil = nil
			m.alerts.dirty = true
		}
		if !a.is && !a.listed && len(a.changes) == 0 {
			delete(m.alerts.all, id)
		}
	}
}

// publishAlerts lists open findings, the gravest first, then closed ones, the newest first.
func (m *model) publishAlerts(now time.Time) *engine.Section[engine.Finding] {
	l := &m.alerts
	if !l.dirty && l.pub != nil {
		return l.pub
	}
	rows := m.openAlerts()
	for _, h := range slices.Backward(l.history) {
		rows = append(rows, h)
	}
	l.pub = &engine.Section[engine.Finding]{Version: m.nextVersion(), At: now.UTC(), Rows: rows}
	l.dirty = false
	return l.pub
}

func (m *model) openAlerts() []engine.Finding {
	rows := make([]engine.Finding, 0, len(m.alerts.all)+len(m.alerts.history))
	for _, a := range m.alerts.all {
		if a.listed {
			rows = append(rows, a.f)
		}
	}
	slices.SortFunc(rows, func(a, b engine.Finding) int {
		return cmp.Or(b.Level.Rank()-a.Level.Rank(), a.Since.Compare(b.Since), natural(a.ID, b.ID))
	})
	return rows
}

// AckAlerts marks open findings as seen by actor, durably, and gives their ids.
// "all" means every open one. An id that is not open is CodeNotFound and nothing is marked.
func (s *State) AckAlerts(ctx context.Context, ids []string, actor engine.Actor) ([]string, error) {
	return s.markAlerts(ctx, "acknowledge alert", ids, func(m *model, a *alert, now time.Time) {
		at := now.UTC()
		a.f.AckBy, a.f.AckAt = actor.String(), &at
		e := a.entry("alert.acked", engine.LevelNote, actor.String()+" has seen: "+a.f.Title)
		e.Actor = &actor
		m.note(now, e)
	})
}

// MuteAlerts hides open findings until a time, durably, and gives their ids; a past time ends a mute.
func (s *State) MuteAlerts(ctx context.Context, ids []string, until time.Time, actor engine.Actor) ([]string, error) {
	return s.markAlerts(ctx, "mute alert", ids, func(m *model, a *alert, now time.Time) {
		a.f.MuteUntil = nil
		if until := until.UTC(); until.After(now) {
			a.f.MuteUntil = &until
		}
	})
}

func (s *State) markAlerts(ctx context.Context, doing string, ids []string, apply func(*model, *alert, time.Time)) ([]string, error) {
	f := &markFact{ids: ids, apply: apply, doing: doing, done: make(chan struct{})}
	seen := make(chan struct{})
	if !s.in.put([]Fact{f, barrier{seen}}) {
		if s.in.isClosed() {
			return nil, stopping(doing)
		}
		return nil, &engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitUnexpected, Doing: doing,
			Cause: "too many requests wait", Remedy: "try again in a moment"}
	}
	if err := s.wait(ctx, f.done); err != nil {
		return nil, err
	}
	if f.err != nil {
		return nil, f.err
	}
	if s.o.Marks != nil {
		for id, k := range f.marks {
			doc, err := json.Marshal(k)
			if err == nil {
				err = s.o.Marks.Put(id, doc)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return f.found, s.wait(ctx, seen)
}

// markFact changes findings for an operator who waits.
type markFact struct {
	ids   []string
	apply func(*model, *alert, time.Time)
	doing string

	found []string
	marks map[string]mark
	err   error
	done  chan struct{}
}

func (*markFact) slot() slot { return slot{} }
func (f *markFact) fold(m *model, now time.Time) {
	defer close(f.done)
	ids := f.ids
	if slices.Contains(ids, "all") {
		ids = nil
		for _, r := range m.openAlerts() {
			ids = append(ids, r.ID)
		}
	}
	for _, id := range ids {
		if a := m.alerts.all[id]; a == nil || !a.listed {
			f.err = &engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: f.doing, Field: "ids",
				Cause: fmt.Sprintf("no open alert has the id %q", id), Remedy: "see provost get alerts"}
			return
		}
	}
	f.marks = map[string]mark{}
	for _, id := range ids {
		a := m.alerts.all[id]
		f.apply(m, a, now)
		k := mark{V: 1, At: now.UTC(), AckBy: a.f.AckBy, AckAt: a.f.AckAt, MuteUntil: a.f.MuteUntil}
		m.alerts.marks[id] = k
		f.marks[id] = k
		f.found = append(f.found, id)
		m.alerts.dirty = true
	}
}
