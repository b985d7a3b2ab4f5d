package state

import (
	"cmp"
	"slices"
	"time"

	"app.provost/engine"
)

// listedJobs bounds the finished jobs that a snapshot lists; open ones are all there.
const listedJobs = 1000

// PutJob adds or replaces a job's row.
type PutJob struct{ Row engine.JobRow }

// RemoveJob drops a job's row, for instance one that is no longer kept.
type RemoveJob struct{ Key engine.Key }

// SetJobTotals tells the counts over all jobs. PerMinute is worked out here from
// the verified ones, and what it holds is not looked at.
type SetJobTotals struct{ Totals engine.JobTotals }

func (f PutJob) slot() slot     { return slot{kind: "job", key: f.Row.Key} }
func (f RemoveJob) slot() slot  { return slot{kind: "job", key: f.Key} }
func (SetJobTotals) slot() slot { return slot{kind: "totals"} }

func (f PutJob) fold(m *model, _ time.Time) {
	if m.on[engine.SecJobs] {
		m.jobs.rows[f.Row.Key] = f.Row
		m.jobs.dirty = true
	}
}

func (f RemoveJob) fold(m *model, _ time.Time) {
	if _, ok := m.jobs.rows[f.Key]; ok {
		delete(m.jobs.rows, f.Key)
		m.jobs.dirty = true
	}
}

func (f SetJobTotals) fold(m *model, now time.Time) {
	if !m.on[engine.SecJobs] {
		return
	}
	f.Totals.PerMinute = m.jobs.totals.PerMinute
	if !m.jobs.known || f.Totals != m.jobs.totals {
		m.jobs.totals, m.jobs.known, m.jobs.dirty = f.Totals, true, true
	}
	m.tickJobs(now)
}

type jobs struct {
	rows   map[engine.Key]engine.JobRow
	totals engine.JobTotals
	known  bool // totals were told
	rate   []verifiedAt
	dirty  bool
	pub    *engine.Jobs
}

// verifiedAt is how many jobs were verified at a moment.
type verifiedAt struct {
	at time.Time
	n  uint64
}

func (j *jobs) init() { j.rows = map[engine.Key]engine.JobRow{} }

// tickJobs works out the jobs verified in the last minute, from a count each second.
func (m *model) tickJobs(now time.Time) {
	j := &m.jobs
	if !j.known {
		return
	}
	if n := len(j.rate); n == 0 || now.Sub(j.rate[n-1].at) >= tickEvery {
		j.rate = append(j.rate, verifiedAt{now, j.totals.Verified})
	}
	// The newest count that is a minute old or older is what is compared with.
	from := 0
	for i, r := range j.rate {
		if now.Sub(r.at) >= time.Minute {
			from = i
		}
	}
	j.rate = j.rate[from:]
	if now.Sub(j.rate[0].at) < time.Minute {
		return
	}
	var per float64
	if base := j.rate[0].n; j.totals.Verified > base {
		per = float64(j.totals.Verified - base)
	}
	if j.totals.PerMinute == nil || *j.totals.PerMinute != per {
		j.totals.PerMinute = &per
		j.dirty = true
	}
}

func (m *model) publishJobs(now time.Time) *engine.Jobs {
	j := &m.jobs
	if !j.dirty && j.pub != nil {
		return j.pub
	}
	rows := make([]engine.JobRow, 0, len(j.rows))
	for _, r := range j.rows {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, jobOrder)
	open := 0
	for open < len(rows) && !rows[open].State.Final() {
		open++
	}
	if extra := rows[open:]; len(extra) > listedJobs {
		for _, r := range extra[listedJobs:] {
			delete(j.rows, r.Key)
		}
		rows = rows[: open+listedJobs : open+listedJobs]
	}
	hidden := int(j.totals.Verified+j.totals.Failed+j.totals.Cancelled) - (len(rows) - open)
	j.pub = &engine.Jobs{Version: m.nextVersion(), At: now.UTC(), Rows: rows, Totals: j.totals, Hidden: max(0, hidden)}
	j.dirty = false
	return j.pub
}

// jobOrder has open jobs first, in the order of their submission, then the finished ones, newest first.
func jobOrder(a, b engine.JobRow) int {
	switch af, bf := a.State.Final(), b.State.Final(); {
	case af && !bf:
		return 1
	case bf && !af:
		return -1
	case af:
		return cmp.Or(end(b).Compare(end(a)), natural(b.Key.ID, a.Key.ID), byPlace(a.Key, b.Key))
	}
	return cmp.Or(a.SubmittedAt.Compare(b.SubmittedAt), byKey(a.Key, b.Key))
}

func end(r engine.JobRow) time.Time {
	if r.FinishedAt != nil {
		return *r.FinishedAt
	}
	return r.SubmittedAt
}
