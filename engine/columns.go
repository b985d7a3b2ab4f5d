package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"app.provost/prover"
)

// Row is a pointer into a section of a snapshot: *WorkerRow, *GPURow and so on.
// It is read only, as the snapshot is.
type Row any

// TableName names a table of rows, in the plural: "workers".
type TableName string

const (
	TableHosts   TableName = "hosts"
	TableWorkers TableName = "workers"
	TableGPUs    TableName = "gpus"
	TableJobs    TableName = "jobs"
	TableNodes   TableName = "nodes"
	TableActs    TableName = "acts"
	TableAlerts  TableName = "alerts"
)

// Unit says what the number of a Value counts, and how it is written.
type Unit string

const (
	UnitText    Unit = ""        // Value.Str
	UnitList    Unit = "list"    // Value.Str, items joined by commas; "=" compares with each
	UnitCount   Unit = "count"   // a plain number
	UnitPercent Unit = "percent" // 0 to 100
	UnitBytes   Unit = "bytes"   // shown in powers of 1024
	UnitAge     Unit = "age"     // seconds that have passed
	UnitLeft    Unit = "left"    // seconds to go
	UnitTime    Unit = "time"    // seconds since 1970, shown as RFC 3339 in UTC
	UnitMS      Unit = "ms"
	UnitCelsius Unit = "celsius"
	UnitWatt    Unit = "watt"
	UnitMHz     Unit = "mhz"
	UnitPages   Unit = "pages" // hugepages
	UnitETH     Unit = "eth"
)

// suffix is the unit in a key, as in rss_bytes.
func (u Unit) suffix() string {
	switch u {
	case UnitPercent, UnitBytes, UnitMS, UnitMHz, UnitPages, UnitETH:
		return "_" + string(u)
	case UnitAge, UnitLeft:
		return "_s"
	case UnitTime:
		return "_at"
	case UnitCelsius:
		return "_c"
	case UnitWatt:
		return "_w"
	}
	return ""
}

// Numeric tells whether values of this unit are numbers.
func (u Unit) Numeric() bool { return u != UnitText && u != UnitList }

// Align says where a cell's text stands.
type Align int

const (
	AlignLeft  Align = 0
	AlignRight Align = 1
)

// Value is one cell. The zero value is "not known", shown as "?" and never as 0.
type Value struct {
	Known bool
	// None is a known nothing, shown as "-": a worker without a job.
	None bool
	// Str is the text of text and list columns.
	Str string
	// Num is the number in the column's unit. In text columns it is a rank that
	// sorts before the text (states: the worst first).
	Num float64
	// Of is the whole that Num is a part of ("14986/15000"); 0 for none.
	Of float64
	// Fresh grades the reading that the value comes from; Age is how old that is.
	// Values that are facts of the engine itself are Fresh.
	Fresh Freshness
	Age   time.Duration
}

// Column is one property of the rows of a table. Name is stable: scripts use it
// in --columns, --sort, filters and CSV.
type Column struct {
	Name  string
	Title string // head of the column
	Unit  Unit
	Wide  bool // shown only when asked for: -o wide, or by name
	Align Align
	// Digits stand after the point of its numbers, where the unit says nothing else.
	Digits int
	Doc    string // one line for help and manual
	Value  func(row Row, now time.Time) Value
}

// Key is the name with the unit in it, as in "rss_bytes": the head in CSV.
func (c *Column) Key() string {
	s := c.Unit.suffix()
	if strings.HasSuffix(c.Name, s) {
		return c.Name
	}
	return c.Name + s
}

// Text is the cell as a screen shows it: short, and still while nothing happens
// (ages in minutes at the finest).
func (c *Column) Text(v Value) string { return string(c.AppendText(nil, v)) }

// Full is the cell as a detail page or a one-shot table shows it: seconds too.
func (c *Column) Full(v Value) string { return string(c.appendValue(nil, v, true)) }

// AppendText appends Text to dst without allocating more than dst needs.
func (c *Column) AppendText(dst []byte, v Value) []byte { return c.appendValue(dst, v, false) }

func (c *Column) appendValue(dst []byte, v Value, full bool) []byte {
	switch {
	case !v.Known:
		return append(dst, '?')
	case v.None:
		return append(dst, '-')
	case !c.Unit.Numeric():
		if v.Str == "" {
			return append(dst, '-')
		}
		return append(dst, v.Str...)
	}
	switch c.Unit {
	case UnitBytes:
		if v.Of > 0 {
			return appendBytes(append(appendBytes(dst, v.Num), '/'), v.Of)
		}
		return appendBytes(dst, v.Num)
	case UnitAge:
		return appendSpan(dst, v.Num, full)
	case UnitLeft:
		return appendSpan(dst, v.Num, full || v.Num < 120)
	case UnitTime:
		return time.Unix(0, int64(v.Num*1e9)).UTC().AppendFormat(dst, "2006-01-02T15:04:05Z")
	}
	if c.Digits > 0 {
		return strconv.AppendFloat(dst, v.Num, 'f', c.Digits, 64)
	}
	dst = appendNumber(dst, v.Num, c.Unit)
	if v.Of > 0 {
		dst = appendNumber(append(dst, '/'), v.Of, c.Unit)
	}
	return dst
}

// appendNumber writes whole numbers for units whose digits would only flicker,
// two significant digits for small milliseconds.
func appendNumber(dst []byte, n float64, u Unit) []byte {
	if u == UnitMS && math.Abs(n) < 10 && n != math.Trunc(n) {
		return strconv.AppendFloat(dst, n, 'f', 1, 64)
	}
	if u == UnitCount && n != math.Trunc(n) {
		return strconv.AppendFloat(dst, n, 'f', 2, 64)
	}
	return strconv.AppendInt(dst, int64(math.Round(n)), 10)
}

// appendBytes writes 512B, 310M, 1.1G: three digits at the most, powers of 1024.
func appendBytes(dst []byte, n float64) []byte {
	const letters = "BKMGTPE"
	i := 0
	for math.Abs(n) >= 999.5 && i < len(letters)-1 {
		n /= 1024
		i++
	}
	prec := 0
	if i > 0 && math.Abs(n) < 99.95 {
		prec = 1
	}
	return append(strconv.AppendFloat(dst, n, 'f', prec, 64), letters[i])
}

// appendSpan writes 41s, 4m, 1h52m, 9h, 31d. Without seconds less than a minute is "<1m".
func appendSpan(dst []byte, s float64, seconds bool) []byte {
	if s < 0 {
		dst, s = append(dst, '-'), -s
	}
	n := int64(s)
	switch {
	case n < 60 && !seconds:
		return append(dst, "<1m"...)
	case n < 60:
		return append(strconv.AppendInt(dst, n, 10), 's')
	case n < 3600:
		dst = append(strconv.AppendInt(dst, n/60, 10), 'm')
		if seconds && n < 600 && n%60 != 0 {
			dst = append(strconv.AppendInt(dst, n%60, 10), 's')
		}
		return dst
	case n < 48*3600:
		dst = append(strconv.AppendInt(dst, n/3600, 10), 'h')
		if m := n % 3600 / 60; m != 0 && (seconds || n < 2*3600) {
			dst = append(strconv.AppendInt(dst, m, 10), 'm')
		}
		return dst
	}
	return append(strconv.AppendInt(dst, n/86400, 10), 'd')
}

// Span writes a length of time as tables do: 41s, 4m5s, 1h52m, 31d.
func Span(d time.Duration) string { return string(appendSpan(nil, d.Seconds(), true)) }

// ByteSize writes a number of bytes as tables do: 310M, 1.1G (powers of 1024).
func ByteSize(n uint64) string { return string(appendBytes(nil, float64(n))) }

// Table describes the rows of one section: columns, names, default order. Tables
// are made once and never change.
type Table struct {
	Name    TableName
	One     string // "worker": as in worker/w7
	Aliases []string
	Section SectionName
	Columns []*Column
	// Sort is the default order; every order ends with the row's key.
	Sort []SortKey

	size  func(*Snapshot) int
	at    func(*Snapshot, int) Row
	key   func(Row) Key
	names func(Row) []string
}

// SortKey orders by one column. Unknown values come last either way.
type SortKey struct {
	Column  *Column
	Reverse bool
}

// Len counts the rows of a snapshot.
func (t *Table) Len(s *Snapshot) int {
	if s == nil {
		return 0
	}
	return t.size(s)
}

// Row gives row i, which lives as long as the snapshot.
func (t *Table) Row(s *Snapshot, i int) Row { return t.at(s, i) }

// Rows lists all rows in the snapshot's order.
func (t *Table) Rows(s *Snapshot) []Row {
	out := make([]Row, t.Len(s))
	for i := range out {
		out[i] = t.at(s, i)
	}
	return out
}

// Key tells where a row belongs.
func (t *Table) Key(r Row) Key { return t.key(r) }

// ID is the name that commands take for a row: "w7", "m1/0", "a17".
func (t *Table) ID(r Row) string { return t.names(r)[0] }

// Column finds a column by Name or by Key, ignoring case.
func (t *Table) Column(name string) (*Column, bool) {
	for _, c := range t.Columns {
		if strings.EqualFold(c.Name, name) || strings.EqualFold(c.Key(), name) {
			return c, true
		}
	}
	return nil, false
}

// ColumnNames lists the names of all columns, in order.
func (t *Table) ColumnNames() []string {
	out := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		out[i] = c.Name
	}
	return out
}

// Default lists the columns that are shown unless others are asked for; with
// wide all of them.
func (t *Table) Default(wide bool) []*Column {
	var out []*Column
	for _, c := range t.Columns {
		if wide || !c.Wide {
			out = append(out, c)
		}
	}
	return out
}

// ParseColumns reads "id,state,cpu". The error names the nearest column.
func (t *Table) ParseColumns(list string) ([]*Column, error) {
	var out []*Column
	for name := range strings.SplitSeq(list, ",") {
		c, err := t.mustColumn(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// ParseSort reads "cpu,-age": a leading minus reverses. Empty is the default order.
func (t *Table) ParseSort(list string) ([]SortKey, error) {
	if strings.TrimSpace(list) == "" {
		return t.Sort, nil
	}
	var out []SortKey
	for name := range strings.SplitSeq(list, ",") {
		name, reverse := strings.CutPrefix(strings.TrimSpace(name), "-")
		c, err := t.mustColumn(name)
		if err != nil {
			return nil, err
		}
		out = append(out, SortKey{c, reverse})
	}
	return out, nil
}

func (t *Table) mustColumn(name string) (*Column, error) {
	if c, ok := t.Column(name); ok {
		return c, nil
	}
	p := Problem{Code: CodeUsage, Exit: ExitUsage, Cause: fmt.Sprintf("%s have no column %q", t.Name, name),
		Remedy: "columns: " + strings.Join(t.ColumnNames(), " ")}
	if near := Nearest(name, t.ColumnNames()); near != "" {
		p.Remedy = fmt.Sprintf("did you mean %q?", near)
	}
	return nil, &p
}

// Find gives the row that has this ID: in full, with its machine before it
// ("m1/w7"), or by a beginning of 8 characters or more that fits one row only.
func (t *Table) Find(s *Snapshot, id string) (Row, error) {
	var exact, begin []Row
	for i := range t.Len(s) {
		r := t.at(s, i)
		names := t.names(r)
		if slices.Contains(names, id) {
			exact = append(exact, r)
		} else if len(id) >= 8 && slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, id) }) {
			begin = append(begin, r)
		}
	}
	found := exact
	if len(found) == 0 {
		found = begin
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, &Problem{Code: CodeNotFound, Exit: ExitUsage, Cause: fmt.Sprintf("there is no %s %q", t.One, id),
			Remedy: fmt.Sprintf("see provost get %s", t.Name)}
	}
	var which []string
	for _, r := range found[:min(len(found), 4)] {
		names := t.names(r)
		which = append(which, names[len(names)-1])
	}
	return nil, &Problem{Code: CodeNotFound, Exit: ExitUsage, Cause: fmt.Sprintf("%s %q names %d of them", t.One, id, len(found)),
		Remedy: "write one in full, as in " + strings.Join(which, " or ")}
}

// SortRows orders rows in place. Equal rows stand in the order of their keys, so
// the same rows always give the same order.
func (t *Table) SortRows(rows []Row, by []SortKey, now time.Time) {
	if len(by) == 0 {
		by = t.Sort
	}
	type held struct {
		row   Row
		first Value
	}
	all := make([]held, len(rows))
	for i, r := range rows {
		all[i] = held{row: r}
		if len(by) > 0 {
			all[i].first = by[0].Column.Value(r, now)
		}
	}
	slices.SortStableFunc(all, func(a, b held) int {
		for i, k := range by {
			va, vb := a.first, b.first
			if i > 0 {
				va, vb = k.Column.Value(a.row, now), k.Column.Value(b.row, now)
			}
			if n := k.compare(va, vb); n != 0 {
				return n
			}
		}
		return compareKeys(t.key(a.row), t.key(b.row))
	})
	for i := range all {
		rows[i] = all[i].row
	}
}

func (k SortKey) compare(a, b Value) int {
	ka, kb := a.Known && !a.None, b.Known && !b.None
	if ka != kb {
		if ka {
			return -1
		}
		return 1
	}
	n := cmp.Compare(a.Num, b.Num)
	if n == 0 {
		n = CompareNatural(a.Str, b.Str)
	}
	if k.Reverse {
		return -n
	}
	return n
}

func compareKeys(a, b Key) int {
	return cmp.Or(CompareNatural(a.Machine, b.Machine), CompareNatural(a.Cluster, b.Cluster),
		CompareNatural(a.Node, b.Node), CompareNatural(a.ID, b.ID))
}

// CompareNatural orders texts with numbers in them by the numbers: w2 before w10.
func CompareNatural(a, b string) int {
	for a != "" && b != "" {
		da, db := digits(a), digits(b)
		if da == 0 || db == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		na, nb := strings.TrimLeft(a[:da], "0"), strings.TrimLeft(b[:db], "0")
		if n := cmp.Or(cmp.Compare(len(na), len(nb)), cmp.Compare(na, nb), cmp.Compare(da, db)); n != 0 {
			return n
		}
		a, b = a[da:], b[db:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// Nearest gives the word of the list that was most likely meant, "" when none is
// close: at most two slips, or one for short words, or a beginning.
func Nearest(word string, list []string) string {
	word = strings.ToLower(word)
	if word == "" || len(word) > 64 {
		return ""
	}
	best, bestN := "", 3
	if len(word) < 5 {
		bestN = 2
	}
	for _, w := range list {
		n := slips(word, strings.ToLower(w))
		if len(word) >= 2 && strings.HasPrefix(strings.ToLower(w), word) {
			n = min(n, 1)
		}
		if n < bestN {
			best, bestN = w, n
		}
	}
	return best
}

// slips counts inserted, dropped, changed and swapped neighbouring letters.
func slips(a, b string) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// Tables lists every table, in the order of the views.
var Tables = []*Table{workersTable, gpusTable, hostsTable, dutiesTable, validatorsTable, peersTable, beaconsTable, clustersTable,
	jobsTable, alertsTable, actsTable, nodesTable}

// TableNamed finds a table by its plural, singular or an alias, ignoring case.
func TableNamed(name string) (*Table, bool) {
	for _, t := range Tables {
		if strings.EqualFold(string(t.Name), name) || strings.EqualFold(t.One, name) ||
			slices.ContainsFunc(t.Aliases, func(a string) bool { return strings.EqualFold(a, name) }) {
			return t, true
		}
	}
	return nil, false
}

// What the tables below are made of.

func known(n float64) Value { return Value{Known: true, Num: n, Fresh: Fresh} }

func text(s string) Value { return Value{Known: true, None: s == "", Str: s, Fresh: Fresh} }

// maybe is a text that is not known when it is empty.
func maybe(s string) Value {
	if s == "" {
		return Value{}
	}
	return text(s)
}

func ranked(s string, rank int) Value {
	return Value{Known: true, Str: s, Num: float64(rank), Fresh: Fresh}
}

func number[N ~int | ~uint64 | ~float64](n *N) Value {
	if n == nil {
		return Value{}
	}
	return known(float64(*n))
}

var none = Value{Known: true, None: true, Fresh: Fresh}

func moment(t time.Time) Value {
	if t.IsZero() {
		return Value{}
	}
	return known(float64(t.UnixMilli()) / 1e3)
}

func moments(t *time.Time) Value {
	if t == nil {
		return none
	}
	return moment(*t)
}

func since(t time.Time, now time.Time) Value {
	if t.IsZero() {
		return Value{}
	}
	return known(now.Sub(t).Seconds())
}

func until(t *time.Time, now time.Time) Value {
	if t == nil {
		return none
	}
	return known(max(0, t.Sub(now).Seconds()))
}

// read grades a value by its reading.
func read[T any](r *Reading[T], now time.Time, get func(*T) Value) Value {
	if r.Value == nil {
		return Value{}
	}
	v := get(r.Value)
	v.Fresh = r.Freshness(now)
	if r.At != nil {
		v.Age = now.Sub(*r.At)
	}
	return v
}

func column[R any](name, title string, u Unit, doc string, value func(r *R, now time.Time) Value) *Column {
	c := &Column{Name: name, Title: title, Unit: u, Doc: doc, Value: func(r Row, now time.Time) Value {
		p, ok := r.(*R)
		if !ok || p == nil {
			return Value{}
		}
		return value(p, now)
	}}
	if u.Numeric() && u != UnitTime {
		c.Align = AlignRight
	}
	return c
}

func wide[R any](name, title string, u Unit, doc string, value func(r *R, now time.Time) Value) *Column {
	c := column(name, title, u, doc, value)
	c.Wide = true
	return c
}

func table[R any](name TableName, one string, sec SectionName, rows func(*Snapshot) []R, key func(*R) Key, names func(*R) []string,
	columns []*Column, sort string, aliases ...string) *Table {
	t := &Table{Name: name, One: one, Aliases: aliases, Section: sec, Columns: columns,
		size: func(s *Snapshot) int { return len(rows(s)) },
		at:   func(s *Snapshot, i int) Row { return &rows(s)[i] },
		key: func(r Row) Key {
			if p, ok := r.(*R); ok && p != nil {
				return key(p)
			}
			return Key{}
		},
		names: func(r Row) []string {
			if p, ok := r.(*R); ok && p != nil {
				return names(p)
			}
			return []string{""}
		},
	}
	t.Sort, _ = t.ParseSort(sort) // the test of the tables reads every default order
	return t
}

// WorkerStateRank orders states, the worst first.
func WorkerStateRank(s WorkerState) int {
	i := slices.Index(workerRanks, s)
	if i < 0 {
		return slices.Index(workerRanks, WorkerUnknown)
	}
	return i
}

var workerRanks = []WorkerState{WorkerDown, WorkerGone, WorkerStale, WorkerHeld, WorkerUnknown, WorkerPausing, WorkerPaused, WorkerStart, WorkerIdle, WorkerRun}

var exitWords = func() (w [256]string) {
	for i := range w {
		w[i] = "exit " + strconv.Itoa(i)
	}
	return
}()

// Words tells how the process ended: the cause, the signal, or the exit code.
func (e *ExitRecord) Words() string {
	switch {
	case e == nil:
		return ""
	case e.Cause != "":
		return e.Cause
	case e.Signal != "":
		return e.Signal
	case e.Code == nil:
		return ""
	case *e.Code >= 0 && *e.Code < len(exitWords):
		return exitWords[*e.Code]
	}
	return "exit " + strconv.Itoa(*e.Code)
}

var workersTable = table(TableWorkers, "worker", SecWorkers,
	func(s *Snapshot) []WorkerRow { return s.Workers.List() },
	func(r *WorkerRow) Key { return r.Key },
	func(r *WorkerRow) []string { return []string{string(r.ID), r.Key.Machine + "/" + string(r.ID)} },
	[]*Column{
		column("id", "ID", UnitText, "the worker's name", func(r *WorkerRow, _ time.Time) Value { return text(string(r.ID)) }),
		column("host", "HOST", UnitText, "its machine", func(r *WorkerRow, _ time.Time) Value { return text(r.Key.Machine) }),
		column("state", "STATE", UnitText, "run idle start pausing paused stale down gone held unknown", func(r *WorkerRow, _ time.Time) Value {
			return ranked(string(r.State), WorkerStateRank(r.State))
		}),
		column("job", "JOB", UnitText, "the job in hand", func(r *WorkerRow, _ time.Time) Value {
			if r.Job == nil {
				return none
			}
			return text(string(*r.Job))
		}),
		column("phase", "PHASE", UnitText, "step of the proof", func(r *WorkerRow, _ time.Time) Value { return text(string(r.Phase)) }),
		column("progress", "PROG%", UnitPercent, "how much of the job is done", func(r *WorkerRow, _ time.Time) Value {
			if r.Progress == nil {
				if r.Job == nil {
					return none
				}
				return Value{}
			}
			return known(*r.Progress * 100)
		}),
		column("cpu", "CPU%", UnitPercent, "use of one core", func(r *WorkerRow, _ time.Time) Value { return number(r.CPUPercent) }),
		column("rss", "RSS", UnitBytes, "resident memory", func(r *WorkerRow, _ time.Time) Value { return number(r.RSSBytes) }),
		column("done", "DONE", UnitCount, "verified jobs", func(r *WorkerRow, _ time.Time) Value { return known(float64(r.JobsDone)) }),
		column("rst", "RST", UnitCount, "restarts by the policy", func(r *WorkerRow, _ time.Time) Value { return known(float64(r.Restarts)) }),
		column("age", "AGE", UnitAge, "time in this state", func(r *WorkerRow, now time.Time) Value { return since(r.Since, now) }),
		column("note", "NOTE", UnitText, "what an operator should know", func(r *WorkerRow, _ time.Time) Value { return text(r.Note) }),
		wide("desired", "WANTED", UnitText, "what the operator wants: run paused held", func(r *WorkerRow, _ time.Time) Value { return text(string(r.Desired)) }),
		wide("pause_left", "PAUSE LEFT", UnitLeft, "until the pause ends by itself", func(r *WorkerRow, now time.Time) Value { return until(r.PauseUntil, now) }),
		wide("pause_why", "PAUSE WHY", UnitText, "reason of the pause", func(r *WorkerRow, _ time.Time) Value { return text(r.PauseWhy) }),
		wide("heard", "HEARD", UnitAge, "since the last heartbeat", func(r *WorkerRow, now time.Time) Value {
			if r.HeardAt == nil {
				return Value{}
			}
			return since(*r.HeardAt, now)
		}),
		wide("lat", "LAT", UnitMS, "latency to the engine", func(r *WorkerRow, _ time.Time) Value { return number(r.LatencyMS) }),
		wide("core", "CORE", UnitCount, "core, from 1", func(r *WorkerRow, _ time.Time) Value { return known(float64(r.Core)) }),
		wide("pinned", "PINNED", UnitCount, "the kernel's CPU number that it is pinned to", func(r *WorkerRow, _ time.Time) Value {
			if r.CPU == nil {
				return none
			}
			return known(float64(*r.CPU))
		}),
		wide("numa", "NUMA", UnitCount, "NUMA node", func(r *WorkerRow, _ time.Time) Value { return number(r.NUMA) }),
		wide("pid", "PID", UnitCount, "process id", func(r *WorkerRow, _ time.Time) Value {
			if r.PID == nil {
				return none
			}
			return known(float64(*r.PID))
		}),
		wide("nice", "NICE", UnitCount, "niceness", func(r *WorkerRow, _ time.Time) Value { return number(r.Nice) }),
		wide("version", "VERSION", UnitText, "version of the worker", func(r *WorkerRow, _ time.Time) Value { return maybe(r.Version) }),
		wide("up", "UP", UnitAge, "since its process started", func(r *WorkerRow, now time.Time) Value {
			if r.StartedAt == nil {
				return none
			}
			return since(*r.StartedAt, now)
		}),
		wide("restart_in", "RESTART IN", UnitLeft, "until the policy starts it again", func(r *WorkerRow, now time.Time) Value { return until(r.RestartAt, now) }),
		wide("exit", "LAST EXIT", UnitText, "how its process last ended", func(r *WorkerRow, _ time.Time) Value { return text(r.LastExit.Words()) }),
		wide("cluster", "CLUSTER", UnitText, "cluster it belongs to", func(r *WorkerRow, _ time.Time) Value { return text(r.Key.Cluster) }),
	}, "state,host,id")

// GPUName is the name an operator uses: machine and the driver's index, "m3/2".
func GPUName(r *GPURow) string { return r.Key.Machine + "/" + strconv.Itoa(r.GPU.Index) }

var gpuRanks = []string{"lost", "hot", "run", "idle"}

// gpu grades a value of a GPU row by the row's reading.
func gpu(r *GPURow, now time.Time, v Value) Value {
	if !v.Known {
		return v
	}
	v.Fresh = FreshnessOf(now, &r.At, time.Duration(r.PeriodS*float64(time.Second)))
	v.Age = now.Sub(r.At)
	return v
}

func mib(m *prover.MiB) Value {
	if m == nil {
		return Value{}
	}
	return known(float64(*m) * (1 << 20))
}

var gpusTable = table(TableGPUs, "gpu", SecGPUs,
	func(s *Snapshot) []GPURow { return s.GPUs.List() },
	func(r *GPURow) Key { return r.Key },
	func(r *GPURow) []string { return []string{GPUName(r), r.GPU.UUID, r.Key.Machine + "/" + r.Key.ID} },
	[]*Column{
		column("gpu", "GPU", UnitText, "machine and the driver's index", func(r *GPURow, _ time.Time) Value { return text(GPUName(r)) }),
		column("model", "MODEL", UnitText, "name of the device", func(r *GPURow, _ time.Time) Value { return maybe(r.GPU.Model) }),
		column("state", "STATE", UnitText, "run idle hot lost", func(r *GPURow, now time.Time) Value {
			return gpu(r, now, ranked(r.State, slices.Index(gpuRanks, r.State)))
		}),
		column("util", "UTIL%", UnitPercent, "use of the cores", func(r *GPURow, now time.Time) Value { return gpu(r, now, number(r.GPU.UtilPercent)) }),
		column("mem", "MEM", UnitBytes, "memory used, of all", func(r *GPURow, now time.Time) Value {
			v := mib(r.GPU.MemUsed)
			if v.Known {
				v.Of = mib(r.GPU.MemTotal).Num
			}
			return gpu(r, now, v)
		}),
		column("temp", "TEMP", UnitCelsius, "temperature, °C", func(r *GPURow, now time.Time) Value { return gpu(r, now, number(r.GPU.TempC)) }),
		column("power", "PWR/LIM", UnitWatt, "power drawn, of the limit", func(r *GPURow, now time.Time) Value {
			v := number(r.GPU.PowerW)
			if v.Known {
				v.Of = number(r.GPU.PowerLimitW).Num
			}
			return gpu(r, now, v)
		}),
		column("clk", "CLK", UnitMHz, "clock of the cores", func(r *GPURow, now time.Time) Value { return gpu(r, now, number(r.GPU.ClockMHz)) }),
		column("ecc", "ECC", UnitCount, "uncorrected memory errors since the driver loaded", func(r *GPURow, now time.Time) Value { return gpu(r, now, number(r.GPU.ECCErrors)) }),
		column("xid", "XID", UnitCount, "last critical error of the driver", func(r *GPURow, now time.Time) Value { return gpu(r, now, number(r.GPU.XID)) }),
		column("job", "JOB", UnitText, "the job it works on", func(r *GPURow, _ time.Time) Value {
			if r.Job == nil {
				return none
			}
			return text(string(*r.Job))
		}),
		wide("host", "HOST", UnitText, "its machine", func(r *GPURow, _ time.Time) Value { return text(r.Key.Machine) }),
		wide("fan", "FAN", UnitPercent, "fan speed", func(r *GPURow, now time.Time) Value { return gpu(r, now, number(r.GPU.FanPercent)) }),
		wide("pcie", "PCIE", UnitText, "generation and lanes", func(r *GPURow, now time.Time) Value {
			if r.GPU.PCIEGen == nil || r.GPU.PCIEWidth == nil {
				return Value{}
			}
			return gpu(r, now, text("gen"+strconv.Itoa(*r.GPU.PCIEGen)+" x"+strconv.Itoa(*r.GPU.PCIEWidth)))
		}),
		wide("throttle", "THROTTLE", UnitList, "why clocks are held back", func(r *GPURow, now time.Time) Value {
			if r.GPU.Throttle == nil {
				return Value{}
			}
			return gpu(r, now, text(strings.Join(r.GPU.Throttle, ",")))
		}),
		wide("mig", "MIG", UnitText, "split into instances: yes or no", func(r *GPURow, now time.Time) Value {
			if r.GPU.MIG == nil {
				return Value{}
			}
			return gpu(r, now, text(yesNo(*r.GPU.MIG)))
		}),
		wide("numa", "NUMA", UnitCount, "NUMA node", func(r *GPURow, _ time.Time) Value { return number(r.GPU.NUMA) }),
		wide("procs", "PROCS", UnitCount, "processes on it", func(r *GPURow, now time.Time) Value {
			if r.GPU.PIDs == nil {
				return Value{}
			}
			return gpu(r, now, known(float64(len(r.GPU.PIDs))))
		}),
		wide("uuid", "UUID", UnitText, "stable name of the device", func(r *GPURow, _ time.Time) Value { return maybe(r.GPU.UUID) }),
		wide("read", "READ", UnitAge, "age of the reading", func(r *GPURow, now time.Time) Value { return since(r.At, now) }),
		wide("note", "NOTE", UnitText, "why it is lost", func(r *GPURow, _ time.Time) Value { return text(r.GPU.Lost) }),
	}, "gpu")

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// MainPool chooses the hugepage pool that a line has room for: the one that
// holds most memory, the smallest page where none is set up. False: no pools.
func MainPool(pools []prover.HugePool) (prover.HugePool, bool) {
	var best prover.HugePool
	for i, p := range pools {
		have, want := p.Total*p.PageKiB, best.Total*best.PageKiB
		if i == 0 || have > want || have == want && p.PageKiB < best.PageKiB {
			best = p
		}
	}
	return best, len(pools) > 0
}

// pool reads a number of the main hugepage pool.
func pool(r *MachineRow, now time.Time, get func(prover.HugePool) Value) Value {
	return read(&r.Hugepages, now, func(all *[]prover.HugePool) Value {
		p, ok := MainPool(*all)
		if !ok {
			return none
		}
		return get(p)
	})
}

// HostName is the machine's name: its key, or its host name when that is empty.
func HostName(r *MachineRow) string {
	if r.Key.Machine != "" {
		return r.Key.Machine
	}
	return r.Hostname
}

var hostsTable = table(TableHosts, "host", SecMachines,
	func(s *Snapshot) []MachineRow { return s.Machines.List() },
	func(r *MachineRow) Key { return r.Key },
	func(r *MachineRow) []string { return []string{HostName(r), r.Hostname} },
	[]*Column{
		column("host", "HOST", UnitText, "the machine's name", func(r *MachineRow, _ time.Time) Value { return text(HostName(r)) }),
		column("role", "ROLE", UnitList, "machine control workers dv prover", func(r *MachineRow, _ time.Time) Value {
			var roles []string
			for _, x := range r.Roles {
				roles = append(roles, string(x))
			}
			return text(strings.Join(roles, ","))
		}),
		column("load", "LOAD", UnitCount, "load of the last minute", func(r *MachineRow, now time.Time) Value {
			return read(&r.CPU, now, func(c *CPUStat) Value { return known(c.Load1) })
		}),
		column("cpu", "CPU%", UnitPercent, "use of all CPUs together", func(r *MachineRow, now time.Time) Value {
			return read(&r.CPU, now, func(c *CPUStat) Value { return number(c.UsePercent) })
		}),
		column("mem", "MEM FREE", UnitBytes, "memory that new processes can have, of all", func(r *MachineRow, now time.Time) Value {
			return read(&r.Memory, now, func(m *MemoryStat) Value {
				v := known(float64(m.AvailableBytes))
				v.Of = float64(m.TotalBytes)
				return v
			})
		}),
		column("huge", "HUGEPAGES", UnitPages, "hugepages used, of all, in the main pool", func(r *MachineRow, now time.Time) Value {
			return pool(r, now, func(p prover.HugePool) Value {
				if p.Total == 0 {
					return none
				}
				v := known(float64(p.Used()))
				v.Of = float64(p.Total)
				return v
			})
		}),
		column("huge_free", "FREE", UnitPages, "hugepages that a new process can take", func(r *MachineRow, now time.Time) Value {
			return pool(r, now, func(p prover.HugePool) Value {
				if p.Total == 0 {
					return none
				}
				return known(float64(p.Available()))
			})
		}),
		column("clock", "CLOCK", UnitMS, "offset of the clock; positive: ahead", func(r *MachineRow, now time.Time) Value {
			return read(&r.Clock, now, func(c *ClockStat) Value { return number(c.OffsetMS) })
		}),
		column("gpus", "GPUS", UnitCount, "devices that the driver sees", func(r *MachineRow, now time.Time) Value {
			return read(&r.GPUDriver, now, func(g *GPUDriver) Value {
				if g.Version == "" {
					return none
				}
				return known(float64(g.Count))
			})
		}),
		column("read", "READ", UnitAge, "age of the oldest reading", func(r *MachineRow, now time.Time) Value {
			var oldest *time.Time
			for _, at := range []*time.Time{r.CPU.At, r.Memory.At, r.Disks.At, r.Clock.At, r.Hugepages.At} {
				if at != nil && (oldest == nil || at.Before(*oldest)) {
					oldest = at
				}
			}
			if oldest == nil {
				return Value{}
			}
			return since(*oldest, now)
		}),
		wide("cpus", "CPUS", UnitCount, "logical processors", func(r *MachineRow, now time.Time) Value {
			return read(&r.CPU, now, func(c *CPUStat) Value { return known(float64(c.LogicalCPUs)) })
		}),
		wide("load5", "LOAD5", UnitCount, "load of the last five minutes", func(r *MachineRow, now time.Time) Value {
			return read(&r.CPU, now, func(c *CPUStat) Value { return known(c.Load5) })
		}),
		wide("swap", "SWAP", UnitBytes, "swap in use, of all", func(r *MachineRow, now time.Time) Value {
			return read(&r.Memory, now, func(m *MemoryStat) Value {
				if m.SwapTotalBytes == 0 {
					return none
				}
				v := known(float64(m.SwapUsedBytes))
				v.Of = float64(m.SwapTotalBytes)
				return v
			})
		}),
		wide("thp", "THP", UnitText, "transparent hugepages: always madvise never", func(r *MachineRow, now time.Time) Value {
			return read(&r.Memory, now, func(m *MemoryStat) Value { return maybe(m.THP) })
		}),
		wide("page", "PAGE", UnitBytes, "page size of the main pool", func(r *MachineRow, now time.Time) Value {
			return pool(r, now, func(p prover.HugePool) Value { return known(float64(p.PageKiB) * 1024) })
		}),
		wide("reserved", "RESERVED", UnitPages, "hugepages promised to a process, not touched yet", func(r *MachineRow, now time.Time) Value {
			return pool(r, now, func(p prover.HugePool) Value { return known(float64(p.Reserved)) })
		}),
		wide("numa_free", "NUMA FREE", UnitText, "free hugepages of each NUMA node", func(r *MachineRow, now time.Time) Value {
			return pool(r, now, func(p prover.HugePool) Value {
				var parts []string
				for _, n := range p.NUMA {
					parts = append(parts, strconv.FormatUint(n.Free, 10))
				}
				return text(strings.Join(parts, " "))
			})
		}),
		wide("disk", "DISK FREE", UnitBytes, "free on the fullest filesystem that is written to, of all", func(r *MachineRow, now time.Time) Value {
			return read(&r.Disks, now, func(all *[]DiskStat) Value {
				v, least := Value{}, math.Inf(1)
				for _, d := range *all {
					if share := float64(d.FreeBytes) / max(1, float64(d.TotalBytes)); share < least {
						least = share
						v = known(float64(d.FreeBytes))
						v.Of = float64(d.TotalBytes)
					}
				}
				return v
			})
		}),
		wide("driver", "DRIVER", UnitText, "version of the NVIDIA driver", func(r *MachineRow, now time.Time) Value {
			return read(&r.GPUDriver, now, func(g *GPUDriver) Value { return text(g.Version) })
		}),
		wide("kernel", "KERNEL", UnitText, "version of the kernel", func(r *MachineRow, now time.Time) Value {
			return read(&r.System, now, func(s *SystemStat) Value { return maybe(s.Kernel) })
		}),
		wide("arch", "ARCH", UnitText, "processor architecture", func(r *MachineRow, now time.Time) Value {
			return read(&r.System, now, func(s *SystemStat) Value { return maybe(s.Arch) })
		}),
		wide("up", "UP", UnitAge, "since the machine started", func(r *MachineRow, now time.Time) Value {
			return read(&r.System, now, func(s *SystemStat) Value { return since(s.BootedAt, now) })
		}),
	}, "huge_free,host", "machine", "machines")

var jobRanks = []prover.JobState{prover.JobLeased, prover.JobProved, prover.JobQueued, prover.JobFailed, prover.JobCancelled, prover.JobVerified}

var jobsTable = table(TableJobs, "job", SecJobs,
	func(s *Snapshot) []JobRow { return s.Jobs.List() },
	func(r *JobRow) Key { return r.Key },
	func(r *JobRow) []string { return []string{string(r.ID)} },
	[]*Column{
		column("id", "JOB", UnitText, "the job's name", func(r *JobRow, _ time.Time) Value { return text(string(r.ID)) }),
		column("name", "NAME", UnitText, "what the submitter calls it", func(r *JobRow, _ time.Time) Value { return text(r.Name) }),
		column("state", "STATE", UnitText, "queued leased proved verified failed cancelled", func(r *JobRow, _ time.Time) Value {
			return ranked(string(r.State), slices.Index(jobRanks, r.State))
		}),
		column("try", "TRY", UnitCount, "attempts so far", func(r *JobRow, _ time.Time) Value { return known(float64(r.Attempts)) }),
		column("worker", "WORKER", UnitText, "that holds or held it", func(r *JobRow, _ time.Time) Value { return text(string(r.Worker)) }),
		column("phase", "PHASE", UnitText, "step of the proof", func(r *JobRow, _ time.Time) Value { return text(string(r.Phase)) }),
		column("progress", "PROG%", UnitPercent, "how much is done", func(r *JobRow, _ time.Time) Value {
			if r.Progress == nil {
				if r.State == prover.JobLeased {
					return Value{}
				}
				return none
			}
			return known(*r.Progress * 100)
		}),
		column("prove", "PROVE", UnitMS, "time in the prover", func(r *JobRow, _ time.Time) Value {
			if r.ProveMS == nil {
				return none
			}
			return known(*r.ProveMS)
		}),
		column("age", "AGE", UnitAge, "since it was submitted", func(r *JobRow, now time.Time) Value { return since(r.SubmittedAt, now) }),
		column("why", "WHY", UnitText, "why it failed, or the last attempt did", func(r *JobRow, _ time.Time) Value {
			if r.Failure == nil {
				return none
			}
			return text(r.Failure.Text)
		}),
		wide("kind", "KIND", UnitText, "which prover", func(r *JobRow, _ time.Time) Value { return text(string(r.Kind)) }),
		wide("constraints", "CONSTRAINTS", UnitCount, "size of the circuit", func(r *JobRow, _ time.Time) Value {
			if r.Constraints == 0 {
				return Value{}
			}
			return known(float64(r.Constraints))
		}),
		wide("by", "BY", UnitText, "who submitted it", func(r *JobRow, _ time.Time) Value { return maybe(r.SubmittedBy) }),
		wide("submitted", "SUBMITTED", UnitTime, "when", func(r *JobRow, _ time.Time) Value { return moment(r.SubmittedAt) }),
		wide("started", "STARTED", UnitTime, "first handed out", func(r *JobRow, _ time.Time) Value { return moments(r.StartedAt) }),
		wide("finished", "FINISHED", UnitTime, "verified, failed or cancelled", func(r *JobRow, _ time.Time) Value { return moments(r.FinishedAt) }),
		wide("failure", "FAILURE", UnitText, "code of the failure", func(r *JobRow, _ time.Time) Value {
			if r.Failure == nil {
				return none
			}
			return text(r.Failure.Code)
		}),
		wide("cluster", "CLUSTER", UnitText, "cluster it belongs to", func(r *JobRow, _ time.Time) Value { return text(r.Key.Cluster) }),
	}, "state,-submitted")

var actRanks = []ActState{ActRunning, ActHolding, ActPartly, ActFailed, ActCancelled, ActDone}

var actsTable = table(TableActs, "act", SecActs,
	func(s *Snapshot) []ActRow { return s.Acts.List() },
	func(r *ActRow) Key { return r.Key },
	func(r *ActRow) []string { return []string{r.ID} },
	[]*Column{
		column("id", "ACT", UnitText, "the act's name", func(r *ActRow, _ time.Time) Value { return text(r.ID) }),
		column("kind", "KIND", UnitText, "what was ordered", func(r *ActRow, _ time.Time) Value { return text(string(r.Kind)) }),
		column("target", "TARGET", UnitText, "what it touches", func(r *ActRow, _ time.Time) Value { return text(r.Target) }),
		column("by", "BY", UnitText, "who ordered it", func(r *ActRow, _ time.Time) Value { return maybe(r.By.String()) }),
		column("age", "AGE", UnitAge, "since it was ordered", func(r *ActRow, now time.Time) Value { return since(r.Started, now) }),
		column("step", "STEP", UnitText, "step in hand, of all", func(r *ActRow, _ time.Time) Value { return text(actStep(r)) }),
		column("state", "STATE", UnitText, "running holding done partly failed cancelled", func(r *ActRow, _ time.Time) Value {
			return ranked(string(r.State), slices.Index(actRanks, r.State))
		}),
		column("left", "LEFT", UnitLeft, "until its hold ends", func(r *ActRow, now time.Time) Value {
			if !r.State.Open() {
				return none
			}
			return until(r.Until, now)
		}),
		column("text", "NOTE", UnitText, "how it stands", func(r *ActRow, _ time.Time) Value { return text(r.Text) }),
		wide("reason", "REASON", UnitText, "why it was ordered", func(r *ActRow, _ time.Time) Value { return text(r.Reason) }),
		wide("plan", "PLAN", UnitText, "digest of its plan", func(r *ActRow, _ time.Time) Value { return text(string(r.Digest)) }),
		wide("started", "STARTED", UnitTime, "when it was ordered", func(r *ActRow, _ time.Time) Value { return moment(r.Started) }),
		wide("ended", "ENDED", UnitTime, "when it was over", func(r *ActRow, _ time.Time) Value { return moments(r.Ended) }),
		wide("command", "COMMAND", UnitText, "the same on a command line", func(r *ActRow, _ time.Time) Value { return text(r.Command) }),
	}, "state,-started")

// actStep is "3/4 hold".
func actStep(r *ActRow) string {
	if len(r.Steps) == 0 {
		return ""
	}
	s := strconv.Itoa(r.Step) + "/" + strconv.Itoa(len(r.Steps))
	if r.Step >= 1 && r.Step <= len(r.Steps) {
		s += " " + r.Steps[r.Step-1].Name
	}
	return s
}

var alertsTable = table(TableAlerts, "alert", SecAlerts,
	func(s *Snapshot) []Finding { return s.Alerts.List() },
	func(r *Finding) Key { return r.Key },
	func(r *Finding) []string { return []string{r.ID} },
	[]*Column{
		column("level", "LEVEL", UnitText, "crit warn note ok", func(r *Finding, _ time.Time) Value { return ranked(string(r.Level), -r.Level.Rank()) }),
		column("since", "SINCE", UnitTime, "when it began", func(r *Finding, _ time.Time) Value { return moment(r.Since) }),
		column("age", "AGE", UnitAge, "since it began", func(r *Finding, now time.Time) Value { return since(r.Since, now) }),
		column("target", "TARGET", UnitText, "what it is about", func(r *Finding, _ time.Time) Value { return text(r.Target) }),
		column("what", "WHAT", UnitText, "what is wrong", func(r *Finding, _ time.Time) Value { return text(r.Title) }),
		column("n", "N", UnitCount, "how often it was seen", func(r *Finding, _ time.Time) Value { return known(float64(r.Count)) }),
		column("ack", "ACK", UnitText, "who has acknowledged it", func(r *Finding, _ time.Time) Value { return text(r.AckBy) }),
		wide("id", "ID", UnitText, "name for ack and mute", func(r *Finding, _ time.Time) Value { return text(r.ID) }),
		wide("rule", "RULE", UnitText, "code in the catalogue", func(r *Finding, _ time.Time) Value { return text(string(r.Code)) }),
		wide("host", "HOST", UnitText, "machine it belongs to", func(r *Finding, _ time.Time) Value { return text(r.Key.Machine) }),
		wide("effect", "EFFECT", UnitText, "what it means for the work", func(r *Finding, _ time.Time) Value { return text(r.Effect) }),
		wide("last", "LAST", UnitAge, "since it was last seen", func(r *Finding, now time.Time) Value { return since(r.Last, now) }),
		wide("mute_left", "MUTED FOR", UnitLeft, "until it is shown again", func(r *Finding, now time.Time) Value { return until(r.MuteUntil, now) }),
		wide("closed", "CLOSED", UnitTime, "when it was over", func(r *Finding, _ time.Time) Value { return moments(r.ClosedAt) }),
	}, "level,-since")

var nodesTable = table(TableNodes, "node", SecNodes,
	func(s *Snapshot) []NodeRow { return s.Nodes.List() },
	func(r *NodeRow) Key { return r.Key },
	func(r *NodeRow) []string { return []string{r.Key.ID, r.Key.Cluster + "/" + r.Key.Node, r.Dir} },
	[]*Column{
		column("node", "NODE", UnitText, "the node's name", func(r *NodeRow, _ time.Time) Value { return text(cmp.Or(r.Key.Node, r.Key.ID)) }),
		column("name", "CLUSTER", UnitText, "name of its cluster", func(r *NodeRow, _ time.Time) Value { return text(r.Name) }),
		column("network", "NETWORK", UnitText, "Ethereum network", func(r *NodeRow, _ time.Time) Value { return maybe(r.Network) }),
		column("share", "SHARE", UnitCount, "its key share, from 1, of all", func(r *NodeRow, _ time.Time) Value {
			v := number(r.ShareIndex)
			v.Of = float64(r.Operators)
			return v
		}),
		column("threshold", "THRESHOLD", UnitCount, "shares that make a signature", func(r *NodeRow, _ time.Time) Value { return known(float64(r.Threshold)) }),
		column("validators", "VALIDATORS", UnitCount, "validators of the cluster", func(r *NodeRow, _ time.Time) Value { return known(float64(r.Validators)) }),
		column("state", "STATE", UnitText, "read broken", func(r *NodeRow, _ time.Time) Value { return text(r.State) }),
		column("dir", "DIR", UnitText, "its directory", func(r *NodeRow, _ time.Time) Value { return text(r.Dir) }),
		wide("lock", "LOCK HASH", UnitText, "hash of the cluster lock", func(r *NodeRow, _ time.Time) Value { return maybe(r.LockHash) }),
		wide("host", "HOST", UnitText, "its machine", func(r *NodeRow, _ time.Time) Value { return text(r.Key.Machine) }),
		wide("problem", "PROBLEM", UnitText, "why it cannot be read", func(r *NodeRow, _ time.Time) Value { return text(r.Problem) }),
	}, "name,node")
