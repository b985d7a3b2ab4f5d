package state

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
)

// model is all that is known. It belongs to the loop (State.Run); before that to New.
type model struct {
	o       Options
	version uint64 // of the newest section
	gen     uint64
	on      map[engine.SectionName]bool

	engine   one[engine.Info]
	verdict  one[engine.Verdict]
	machines table[engine.MachineRow]
	workers  table[engine.WorkerRow]
	gpus     table[engine.GPURow]
	jobs     jobs
	nodes    table[engine.NodeRow]
	dv       dvTables
	acts     table[engine.ActRow]
	alerts   alerts
	sources  table[engine.SourceRow]
	trends   trends

	viewers func() []string

	queue      []waiting // for the disk
	tail       []engine.Entry
	last       uint64
	entriesNew bool
	seen       []chan struct{}
}

func newModel(o Options) (*model, error) {
	m := &model{
		o: o,
		// From the clock, so that no version is used again after a restart: a microsecond
		// holds one version, and eleven sections four times a second need 44 a second.
		version:  uint64(time.Now().UnixMicro()),
		on:       map[engine.SectionName]bool{},
		machines: newTable(func(r *engine.MachineRow) *engine.Key { return &r.Key }, nil),
		workers:  newTable(func(r *engine.WorkerRow) *engine.Key { return &r.Key }, byCore),
		gpus:     newTable(func(r *engine.GPURow) *engine.Key { return &r.Key }, byGPU),
		nodes:    newTable(func(r *engine.NodeRow) *engine.Key { return &r.Key }, nil),
		acts:     newTable(func(r *engine.ActRow) *engine.Key { return &r.Key }, newestAct),
		sources:  newTable(func(r *engine.SourceRow) *engine.Key { return &r.Key }, nil),
	}
	for _, p := range o.Parts {
		m.on[p] = true
	}
	m.dv.init()
	m.engine.set(o.Info)
	m.jobs.init()
	m.trends.init()
	return m, m.alerts.init(o)
}

func (m *model) nextVersion() uint64 {
	m.version++
	return m.version
}

// changed tells whether there is something to publish.
func (m *model) changed() bool { return m.entriesNew || m.sectionsChanged() }

func (m *model) sectionsChanged() bool {
	return m.engine.dirty || m.verdict.dirty || m.machines.dirty || m.workers.dirty || m.gpus.dirty || m.jobs.dirty ||
		m.nodes.dirty || m.dv.dirty() || m.acts.dirty || m.alerts.dirty || m.sources.dirty || m.trends.dirty
}

// tick moves what changes by time alone.
func (m *model) tick(now time.Time) {
	m.tickEngine(now)
	m.judgeDuties(now)
	m.tickAlerts(now)
	m.tickJobs(now)
	m.tickTrends(now)
	m.judge(now)
}

// publish makes a snapshot: sections that did not change are those of the one before.
func (m *model) publish(now time.Time) *engine.Snapshot {
	m.judgeDuties(now)
	m.judge(now)
	m.gen++
	s := &engine.Snapshot{Schema: engine.SnapshotSchema, Gen: m.gen, At: now.UTC(),
		Engine:  m.engine.publish(m, now),
		Verdict: m.verdict.publish(m, now),
		Acts:    m.publishActs(now),
		Alerts:  m.publishAlerts(now),
		Sources: m.sources.publish(m, now),
		Trends:  m.publishTrends(now),
	}
	if m.on[engine.SecMachines] {
		s.Machines = m.machines.publish(m, now)
	}
	if m.on[engine.SecWorkers] {
		s.Workers = m.workers.publish(m, now)
	}
	if m.on[engine.SecGPUs] {
		s.GPUs = m.gpus.publish(m, now)
	}
	if m.on[engine.SecJobs] {
		s.Jobs = m.publishJobs(now)
	}
	if m.on[engine.SecNodes] {
		s.Nodes = m.nodes.publish(m, now)
	}
	if m.on[engine.SecClusters] {
		m.dv.publish(m, now, s)
	}
	// What belongs to parts that are off shall not wake the loop again.
	m.machines.dirty, m.workers.dirty, m.gpus.dirty, m.jobs.dirty, m.nodes.dirty = false, false, false, false, false
	m.dv.clean()
	return s
}

// one is a section of a single value.
type one[T any] struct {
	value T
	dirty bool
	pub   *engine.One[T]
}

func (o *one[T]) set(v T) { o.value, o.dirty = v, true }

// change sets the value if it is another.
func (o *one[T]) change(v T) {
	if !reflect.DeepEqual(o.value, v) {
		o.set(v)
	}
}

func (o *one[T]) publish(m *model, now time.Time) *engine.One[T] {
	if o.dirty || o.pub == nil {
		o.pub = &engine.One[T]{Version: m.nextVersion(), At: now.UTC(), Value: o.value}
		o.dirty = false
	}
	return o.pub
}

// table is a section of rows by key.
type table[T any] struct {
	rows     []T
	at       map[engine.Key]int
	key      func(*T) *engine.Key
	order    func(a, b *T) int
	dirty    bool
	unsorted bool
	pub      *engine.Section[T]
}

// newTable makes a table in this order; nil: by key.
func newTable[T any](key func(*T) *engine.Key, order func(a, b *T) int) table[T] {
	if order == nil {
		order = func(a, b *T) int { return byKey(*key(a), *key(b)) }
	}
	return table[T]{at: map[engine.Key]int{}, key: key, order: order}
}

func (t *table[T]) get(k engine.Key) *T {
	if i, ok := t.at[k]; ok {
		return &t.rows[i]
	}
	return nil
}

// put adds or replaces the row of its key.
func (t *table[T]) put(row T) {
	t.dirty = true
	k := *t.key(&row)
	if i, ok := t.at[k]; ok {
		if t.order(&t.rows[i], &row) != 0 {
			t.unsorted = true
		}
		t.rows[i] = row
		return
	}
	if n := len(t.rows); n > 0 && t.order(&t.rows[n-1], &row) > 0 {
		t.unsorted = true
	}
	t.at[k] = len(t.rows)
	t.rows = append(t.rows, row)
}

func (t *table[T]) remove(k engine.Key) {
	if _, ok := t.at[k]; ok {
		t.keep(func(r *T) bool { return *t.key(r) != k })
	}
}

// keep drops the rows that are not wanted.
func (t *table[T]) keep(want func(*T) bool) {
	n := len(t.rows)
	t.rows = slices.DeleteFunc(t.rows, func(r T) bool { return !want(&r) })
	if len(t.rows) != n {
		t.dirty = true
		t.index()
	}
}

func (t *table[T]) index() {
	clear(t.at)
	for i := range t.rows {
		t.at[*t.key(&t.rows[i])] = i
	}
}

func (t *table[T]) sort() {
	if t.unsorted {
		slices.SortStableFunc(t.rows, func(a, b T) int { return t.order(&a, &b) })
		t.index()
		t.unsorted = false
	}
}

// publish copies the rows, if any changed: 2,048 worker rows are under a megabyte
// and cost less to copy than to share. What rows point to is shared.
func (t *table[T]) publish(m *model, now time.Time) *engine.Section[T] {
	if !t.dirty && t.pub != nil {
		return t.pub
	}
	t.sort()
	t.pub = &engine.Section[T]{Version: m.nextVersion(), At: now.UTC(), Rows: append(make([]T, 0, len(t.rows)), t.rows...)}
	t.dirty = false
	return t.pub
}

func byKey(a, b engine.Key) int {
	return cmp.Or(byPlace(a, b), natural(a.ID, b.ID))
}

func byPlace(a, b engine.Key) int {
	return cmp.Or(strings.Compare(a.Machine, b.Machine), strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Node, b.Node))
}

// natural orders texts with the numbers in them as numbers: w2 before w10.
func natural(a, b string) int {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	for a != "" && b != "" {
		if !digit(a[0]) || !digit(b[0]) {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		i, j := 0, 0
		for i < len(a) && digit(a[i]) {
			i++
		}
		for j < len(b) && digit(b[j]) {
			j++
		}
		x, y := strings.TrimLeft(a[:i], "0"), strings.TrimLeft(b[:j], "0")
		if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y), cmp.Compare(i, j)); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
	}
	return cmp.Compare(len(a), len(b))
}
