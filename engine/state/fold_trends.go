package state

import (
	"slices"
	"time"

	"app.provost/engine"
)

const (
	markEvery = 5 * time.Second
	marks     = 120 // ten minutes
)

// Sample tells a value of a trend. The newest before a mark (every five seconds) stays; nil is "not known".
type Sample struct {
	Key   engine.Key
	Name  string
	Unit  string
	Value *float64
}

func (f Sample) slot() slot { return slot{kind: "sample", key: f.Key, sub: f.Name} }
func (f Sample) fold(m *model, _ time.Time) {
	id := trendID{f.Key, f.Name}
	t := m.trends.all[id]
	if t == nil {
		t = &trend{key: f.Key, name: f.Name}
		m.trends.all[id] = t
	}
	t.unit, t.next = f.Unit, f.Value
}

type trendID struct {
	key  engine.Key
	name string
}

type trend struct {
	key        engine.Key
	name, unit string
	next       *float64   // for the mark to come
	values     []*float64 // only appended to: publications share the array
	silent     int        // marks without a value, the newest ones
}

type trends struct {
	all   map[trendID]*trend
	mark  time.Time // newest
	dirty bool
	pub   *engine.Section[engine.Trend]
}

func (t *trends) init() { t.all = map[trendID]*trend{} }

// tickTrends sets a mark every five seconds of the clock; after a pause of the
// whole process the marks in between are unknown.
func (m *model) tickTrends(now time.Time) {
	t := &m.trends
	mark := now.UTC().Truncate(markEvery)
	if t.mark.IsZero() || mark.Before(t.mark) {
		t.mark = mark // the first, or the clock was set back
		return
	}
	missed := int(mark.Sub(t.mark) / markEvery)
	if missed == 0 {
		return
	}
	t.mark = mark
	for id, tr := range t.all {
		for range min(missed-1, marks) {
			tr.add(nil)
		}
		tr.add(tr.next)
		tr.next = nil
		if tr.silent >= marks {
			delete(t.all, id)
		}
		t.dirty = true
	}
}

func (t *trend) add(v *float64) {
	if len(t.values) == cap(t.values) {
		keep := t.values[max(0, len(t.values)-marks):]
		t.values = append(make([]*float64, 0, 2*marks), keep...)
	}
	t.values = append(t.values, v)
	if t.silent++; v != nil {
		t.silent = 0
	}
}

func (m *model) publishTrends(now time.Time) *engine.Section[engine.Trend] {
	t := &m.trends
	if !t.dirty && t.pub != nil {
		return t.pub
	}
	rows := make([]engine.Trend, 0, len(t.all))
	for _, tr := range t.all {
		if len(tr.values) == 0 {
			continue
		}
		v := tr.values[max(0, len(tr.values)-marks):]
		rows = append(rows, engine.Trend{Key: tr.key, Name: tr.name, Unit: tr.unit, StepS: markEvery.Seconds(), Last: t.mark, Values: slices.Clip(v)})
	}
	slices.SortFunc(rows, func(a, b engine.Trend) int {
		if c := natural(a.Name, b.Name); c != 0 {
			return c
		}
		return byKey(a.Key, b.Key)
	})
	t.pub = &engine.Section[engine.Trend]{Version: m.nextVersion(), At: now.UTC(), Rows: rows}
	t.dirty = false
	return t.pub
}
