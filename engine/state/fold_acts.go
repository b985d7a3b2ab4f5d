package state

import (
	"reflect"
	"time"

	"app.provost/engine"
)

// listedActs bounds the ended acts that a snapshot lists; open ones are all there.
const listedActs = 200

// PutAct adds or replaces the row of an act.
type PutAct struct{ Row engine.ActRow }

func (f PutAct) slot() slot { return slot{kind: "act", key: f.Row.Key} }
func (f PutAct) fold(m *model, _ time.Time) {
	if old := m.acts.get(f.Row.Key); old == nil || !reflect.DeepEqual(*old, f.Row) {
		m.acts.put(f.Row)
	}
}

func (m *model) publishActs(now time.Time) *engine.Section[engine.ActRow] {
	if m.acts.dirty && len(m.acts.rows) > listedActs {
		m.acts.sort()
		ended := 0
		m.acts.keep(func(r *engine.ActRow) bool {
			if !r.State.Open() {
				ended++
			}
			return r.State.Open() || ended <= listedActs
		})
	}
	return m.acts.publish(m, now)
}

// newestAct has the newest act first: ids count up.
func newestAct(a, b *engine.ActRow) int {
	if c := natural(b.Key.ID, a.Key.ID); c != 0 {
		return c
	}
	return byPlace(a.Key, b.Key)
}

// PutSource adds or replaces a source of readings.
type PutSource struct{ Row engine.SourceRow }

// RemoveSource drops one that is no longer read.
type RemoveSource struct{ Key engine.Key }

func (f PutSource) slot() slot    { return slot{kind: "source", key: f.Row.Key} }
func (f RemoveSource) slot() slot { return slot{kind: "source", key: f.Key} }

func (f PutSource) fold(m *model, _ time.Time) {
	if old := m.sources.get(f.Row.Key); old == nil || !reflect.DeepEqual(*old, f.Row) {
		m.sources.put(f.Row)
	}
}

func (f RemoveSource) fold(m *model, _ time.Time) { m.sources.remove(f.Key) }
