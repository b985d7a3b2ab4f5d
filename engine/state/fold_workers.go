package state

import (
	"cmp"
	"time"

	"app.provost/engine"
)

// PutWorker adds or replaces a worker's row. A zero Since means: since the state
// became what it is, as seen here.
type PutWorker struct{ Row engine.WorkerRow }

// RemoveWorker drops a worker that is no more configured.
type RemoveWorker struct{ Key engine.Key }

// PatchWorker changes the row of a worker that is there; else it is ignored. It
// serves rooms that know a part of a row each. From names the teller: of several
// patches of one teller for one worker that wait, only the newest is folded, so a
// patch sets everything that its teller knows. Patch runs in the state's goroutine:
// it must not block. What the row points to must not be changed in place.
type PatchWorker struct {
	Key   engine.Key
	From  string
	Patch func(*engine.WorkerRow)
}

func (f PutWorker) slot() slot    { return slot{kind: "worker", key: f.Row.Key} }
func (f RemoveWorker) slot() slot { return slot{kind: "worker", key: f.Key} }
func (f PatchWorker) slot() slot  { return slot{kind: "worker", key: f.Key, sub: f.From} }

func (f PutWorker) fold(m *model, now time.Time) {
	if m.on[engine.SecWorkers] {
		m.putWorker(f.Row, now)
	}
}

func (f RemoveWorker) fold(m *model, _ time.Time) { m.workers.remove(f.Key) }

func (f PatchWorker) fold(m *model, now time.Time) {
	old := m.workers.get(f.Key)
	if old == nil {
		return
	}
	row := *old
	f.Patch(&row)
	row.Key = f.Key
	if row.State != old.State && row.Since.Equal(old.Since) {
		row.Since = time.Time{}
	}
	m.putWorker(row, now)
}

func (m *model) putWorker(row engine.WorkerRow, now time.Time) {
	old := m.workers.get(row.Key)
	if row.Since.IsZero() {
		row.Since = now.UTC().Round(0)
		if old != nil && old.State == row.State {
			row.Since = old.Since
		}
	}
	if old == nil || !sameWorker(old, &row) {
		m.workers.put(row)
	}
}

func byCore(a, b *engine.WorkerRow) int {
	return cmp.Or(byPlace(a.Key, b.Key), cmp.Compare(a.Core, b.Core), natural(a.Key.ID, b.Key.ID))
}

// sameWorker tells whether nothing changed. Thousands of rows come here every
// second, so it is written out; a pointer field that is forgotten here makes rows
// count as changed, never as the same.
func sameWorker(a, b *engine.WorkerRow) bool {
	if *a == *b {
		return true
	}
	if !same(a.CPU, b.CPU) || !same(a.NUMA, b.NUMA) || !same(a.PauseUntil, b.PauseUntil) || !same(a.PID, b.PID) || !same(a.StartedAt, b.StartedAt) ||
		!same(a.Nice, b.Nice) || !same(a.Job, b.Job) || !same(a.Progress, b.Progress) || !same(a.CPUPercent, b.CPUPercent) || !same(a.RSSBytes, b.RSSBytes) ||
		!same(a.HeardAt, b.HeardAt) || !same(a.LatencyMS, b.LatencyMS) || !same(a.RestartAt, b.RestartAt) || !sameExit(a.LastExit, b.LastExit) {
		return false
	}
	c := *b
	c.CPU, c.NUMA, c.PauseUntil, c.PID, c.StartedAt, c.Nice, c.Job, c.Progress = a.CPU, a.NUMA, a.PauseUntil, a.PID, a.StartedAt, a.Nice, a.Job, a.Progress
	c.CPUPercent, c.RSSBytes, c.HeardAt, c.LatencyMS, c.RestartAt, c.LastExit = a.CPUPercent, a.RSSBytes, a.HeardAt, a.LatencyMS, a.RestartAt, a.LastExit
	return *a == c
}

func sameExit(a, b *engine.ExitRecord) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	c := *b
	c.Code = a.Code
	return same(a.Code, b.Code) && *a == c
}

func same[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
