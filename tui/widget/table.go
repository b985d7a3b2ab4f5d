package widget

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"app.provost/engine"
	"app.provost/tui/theme"
)

// Cell is what a column writes one value into. Role colours it; Old marks it
// with ~ and fades it.
type Cell struct {
	Role   theme.Role
	Old    bool
	buf    []byte
	glyphs *theme.Glyphs
}

// Str adds a text.
func (c *Cell) Str(s string) *Cell { c.buf = append(c.buf, s...); return c }

// Rune adds a character.
func (c *Cell) Rune(r rune) *Cell { c.buf = utf8.AppendRune(c.buf, r); return c }

// Int adds a whole number.
func (c *Cell) Int(n int64) *Cell { c.buf = strconv.AppendInt(c.buf, n, 10); return c }

// Float adds a number with so many digits after the point.
func (c *Cell) Float(f float64, digits int) *Cell {
	c.buf = strconv.AppendFloat(c.buf, f, 'f', digits, 64)
	return c
}

// Dash says that there is nothing to tell: not applicable, or gone.
func (c *Cell) Dash() *Cell { c.Role = theme.Unknown; return c.Str("-") }

// Ask says that the value is not known.
func (c *Cell) Ask() *Cell { c.Role = theme.Unknown; return c.Str("?") }

// Text is what was written so far.
func (c *Cell) Text() string { return string(c.buf) }

// Sign adds the sign of the cell's role and a space.
func (c *Cell) Sign() *Cell { return c.Rune(c.glyphs.Sign(c.Role)).Rune(' ') }

// Value adds a value as its column writes it.
func (c *Cell) Value(col *engine.Column, v engine.Value) *Cell {
	c.buf = col.AppendText(c.buf, v)
	return c
}

// Len counts the bytes written so far.
func (c *Cell) Len() int { return len(c.buf) }

// Reset empties the cell for another value.
func (c *Cell) Reset(g *theme.Glyphs) {
	c.buf, c.Role, c.Old, c.glyphs = c.buf[:0], theme.Text, false, g
}

// Column is how a column of a table looks on the screen. Its values, its name
// and its unit are the engine's, so that screen and command line say the same.
type Column struct {
	*engine.Column
	Width int  // cells that its widest usual value needs
	Flex  bool // takes the room that is left over
	Extra bool // shown only where the others leave room
	Noisy bool // moves with every reading: sorting by it waits, see Sync
	// Draw writes the value with its role; nil writes the column's own text.
	Draw func(c *Cell, row engine.Row, v engine.Value)
}

// Layout says how wide a column is and how it is drawn; see NewTable.
type Layout struct {
	Name  string
	Width int
	Flex  bool
	Extra bool
	Title string // in place of the engine's, where the width asks for it
	Draw  func(c *Cell, row engine.Row, v engine.Value)
}

// NewTable makes a table view. Columns stand in the order of layout; columns of
// the table that layout does not name follow as extra ones.
func NewTable(t *engine.Table, layout ...Layout) *Table {
	v := &Table{table: t}
	add := func(c *engine.Column, l Layout) {
		if l.Title != "" {
			named := *c
			named.Title = l.Title
			c = &named
		}
		if l.Width == 0 {
			l.Width = usualWidth(c)
		}
		v.Columns = append(v.Columns, Column{Column: c, Width: max(l.Width, 1), Flex: l.Flex, Extra: l.Extra, Draw: l.Draw,
			Noisy: c.Unit == engine.UnitPercent || c.Unit == engine.UnitBytes || c.Unit == engine.UnitMS || c.Unit == engine.UnitWatt || c.Unit == engine.UnitCelsius || c.Unit == engine.UnitMHz})
	}
	seen := map[string]bool{}
	for _, l := range layout {
		if c, ok := t.Column(l.Name); ok && !seen[c.Name] {
			seen[c.Name] = true
			add(c, l)
		}
	}
	for _, c := range t.Columns {
		if !seen[c.Name] {
			add(c, Layout{Extra: true})
		}
	}
	if len(t.Sort) > 0 {
		v.SortBy, v.Reverse = t.Sort[0].Column.Name, t.Sort[0].Reverse
	}
	return v
}

func usualWidth(c *engine.Column) int {
	w := len(c.Title)
	switch c.Unit {
	case engine.UnitText, engine.UnitList:
		w = max(w, 8)
	case engine.UnitTime:
		w = max(w, 20)
	case engine.UnitBytes:
		w = max(w, 6)
	case engine.UnitCount, engine.UnitMHz, engine.UnitPages:
		w = max(w, 5)
	default:
		w = max(w, 4)
	}
	return w
}

// Table shows rows of a snapshot. Rows are never copied or changed. The cursor
// follows a row's key through sorting, filtering and new data. Sorting and
// filtering happen in Sync only, so that a key press costs the visible rows.
type Table struct {
	Columns []Column
	SortBy  string // name of a column
	Reverse bool

	// Where leaves rows out besides the filter; set it before Sync and say Changed.
	Where func(row engine.Row) bool
	// Identity is what the cursor follows; nil: the row's key.
	Identity func(row engine.Row) engine.Key

	table   *engine.Table
	filter  *engine.Filter
	snap    *engine.Snapshot
	n       int
	version uint64
	dirty   bool
	keys    []engine.Key // of row i
	base    []int32      // place of row i in the order of keys: decides between equals
	byBase  []int32      // the rows in that order
	ranks   []uint64     // of row i, for columns of numbers
	other   []int32      // scratch
	order   []int32      // scratch
	sorted  []sortKey
	shown   []int32

	at       int // cursor: index into shown
	key      engine.Key
	has      bool
	top      int
	height   int
	marks    map[engine.Key]struct{}
	anchor   int // range marking starts at this place, counted from 1; 0: off
	scroll   int // columns scrolled to the right
	hidden   map[string]bool
	cut      int // columns that did not fit at the last Render
	lastSort time.Time
	lastMove time.Time
	lay      []placed
	cell     Cell
}

type placed struct{ col, x, w int }

type sortKey struct {
	num, then float64
	str       string
	idx, base int32
	unknown   bool
}

// Changed tells the table that its settings changed, so that the next Sync sorts and filters.
func (t *Table) Changed() { t.dirty = true }

// SetFilter shows only rows that f wants; nil shows all.
func (t *Table) SetFilter(f *engine.Filter) { t.filter, t.dirty = f, true }

// Of is the engine's table that is shown.
func (t *Table) Of() *engine.Table { return t.table }

// Sync takes a snapshot. It works only if the table's section or the settings
// changed. A noisy column reorders at most every 5 s and not within 2 s of the
// last move. It returns a line for the user when the cursor's row is gone.
func (t *Table) Sync(s *engine.Snapshot, now time.Time) string {
	version, n := s.Version(t.table.Section), t.table.Len(s)
	if version == t.version && !t.dirty && n == t.n {
		t.snap = s
		return ""
	}
	gone := ""
	if row := t.Current(); row != nil {
		gone = t.table.ID(row)
	}
	t.snap, t.version = s, version
	same := t.takeKeys(n)
	col := t.column(t.SortBy)
	hold := same && !t.dirty && col != nil && col.Noisy && (now.Sub(t.lastSort) < 5*time.Second || now.Sub(t.lastMove) < 2*time.Second)
	if !hold {
		t.sort(col, now, same)
		t.lastSort = now
	}
	t.dirty = false
	t.shown = t.shown[:0]
	all := t.Where == nil && t.filter.All()
	for i := range t.sorted {
		idx := t.sorted[i].idx
		if all {
			t.shown = append(t.shown, idx)
			continue
		}
		row := t.table.Row(s, int(idx))
		if (t.Where == nil || t.Where(row)) && (t.filter.All() || t.filter.Match(row, now)) {
			t.shown = append(t.shown, idx)
		}
	}
	if len(t.marks) > 0 && !same {
		alive := map[engine.Key]struct{}{}
		for _, k := range t.keys {
			if t.marked(k) {
				alive[k] = struct{}{}
			}
		}
		t.marks = alive
	}
	return t.follow(gone)
}

func (t *Table) identity(row engine.Row) engine.Key {
	if t.Identity != nil {
		return t.Identity(row)
	}
	return t.table.Key(row)
}

// takeKeys reads the keys of all rows and tells whether they are the same as before.
func (t *Table) takeKeys(n int) bool {
	same := n == t.n && len(t.keys) == n
	if cap(t.keys) < n {
		t.keys = make([]engine.Key, n)
	}
	t.keys, t.n = t.keys[:n], n
	for i := range n {
		if k := t.identity(t.table.Row(t.snap, i)); !same || k != t.keys[i] {
			same = false
			t.keys[i] = k
		}
	}
	if same && len(t.base) == n {
		return true
	}
	if cap(t.base) < n {
		t.base = make([]int32, n)
	}
	t.base = t.base[:n]
	order := make([]int32, n)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		x, y := t.keys[a], t.keys[b]
		return cmp.Or(engine.CompareNatural(x.Machine, y.Machine), engine.CompareNatural(x.Cluster, y.Cluster),
			engine.CompareNatural(x.Node, y.Node), engine.CompareNatural(x.ID, y.ID))
	})
	for place, i := range order {
		t.base[i] = int32(place)
	}
	t.byBase = order
	return false
}

// follow puts the cursor back on its row, or leaves it at its place when the row is gone.
func (t *Table) follow(gone string) string {
	if t.has {
		if t.at < len(t.shown) && t.keys[t.shown[t.at]] == t.key {
			return ""
		}
		for i, r := range t.shown {
			if t.keys[r] == t.key {
				t.at = i
				return ""
			}
		}
	}
	had := t.has
	t.set(t.at)
	if had && gone != "" {
		return gone + " left the list"
	}
	return ""
}

func (t *Table) set(i int) {
	t.at = min(max(i, 0), max(len(t.shown)-1, 0))
	t.has = len(t.shown) > 0
	if t.has {
		t.key = t.keys[t.shown[t.at]]
	}
}

// sort orders all rows. With the same rows as before it starts from their last
// order, which is nearly right: the sort then costs one pass.
func (t *Table) sort(col *Column, now time.Time, same bool) {
	if cap(t.sorted) < t.n {
		t.sorted = make([]sortKey, t.n)
	}
	same = same && len(t.sorted) == t.n
	t.sorted = t.sorted[:t.n]
	// The engine's default order may go by a second number, as the newest first.
	var then *engine.SortKey
	if by := t.table.Sort; col != nil && len(by) > 1 && by[0].Column.Name == col.Name && by[1].Column.Unit.Numeric() {
		then = &by[1]
	}
	if col != nil && then == nil && col.Unit.Numeric() {
		t.sortNumbers(col, now)
		return
	}
	for i := range t.sorted {
		k := sortKey{idx: int32(i)}
		if same {
			k.idx = t.sorted[i].idx
		}
		k.base = t.base[k.idx]
		if col != nil {
			row := t.table.Row(t.snap, int(k.idx))
			v := col.Value(row, now)
			k.num, k.str, k.unknown = v.Num, v.Str, !v.Known || v.None || math.IsNaN(v.Num)
			if then != nil {
				if k.then = then.Column.Value(row, now).Num; then.Reverse {
					k.then = -k.then
				}
			}
		}
		t.sorted[i] = k
	}
	sign := 1
	if t.Reverse {
		sign = -1
	}
	slices.SortFunc(t.sorted, func(a, b sortKey) int {
		switch {
		case a.unknown != b.unknown:
			if a.unknown {
				return 1
			}
			return -1
		case a.unknown:
		case a.num < b.num:
			return -sign
		case a.num > b.num:
			return sign
		case a.str != b.str:
			return sign * engine.CompareNatural(a.str, b.str)
		case a.then < b.then:
			return -1
		case a.then > b.then:
			return 1
		}
		return int(a.base - b.base)
	})
}

// sortNumbers orders by a column of numbers: rows are read in their own order and
// sorted byte by byte, which with 20,000 rows costs a fifth of comparing them.
func (t *Table) sortNumbers(col *Column, now time.Time) {
	n := t.n
	if cap(t.ranks) < n {
		t.ranks, t.other = make([]uint64, n), make([]int32, n)
	}
	t.ranks = t.ranks[:n]
	var counts [8][256]int32
	for i := range n {
		rank := uint64(math.MaxUint64) // unknown ones come last either way
		if v := col.Value(t.table.Row(t.snap, i), now); v.Known && !v.None && !math.IsNaN(v.Num) {
			rank = rankOf(v.Num)
			if t.Reverse {
				rank = ^rank
			}
		}
		t.ranks[i] = rank
		for b := range counts {
			counts[b][byte(rank>>(8*b))]++
		}
	}
	from, to := append(t.other[:0], t.byBase...), t.order[:0]
	if cap(to) < n {
		to = make([]int32, n)
	}
	to = to[:n]
	for b := range counts {
		c := &counts[b]
		if n > 0 && c[byte(t.ranks[0]>>(8*b))] == int32(n) {
			continue // this byte is the same in all
		}
		at := int32(0)
		for k := range c {
			c[k], at = at, at+c[k]
		}
		for _, i := range from {
			k := byte(t.ranks[i] >> (8 * b))
			to[c[k]] = i
			c[k]++
		}
		from, to = to, from
	}
	for i, idx := range from {
		t.sorted[i] = sortKey{idx: idx, base: t.base[idx]}
	}
	t.other, t.order = from, to
}

// rankOf maps numbers to integers of the same order, below the greatest one.
func rankOf(f float64) uint64 {
	bits := math.Float64bits(f + 0) // -0 becomes 0
	if bits>>63 != 0 {
		return ^bits
	}
	return bits | 1<<63
}

func (t *Table) column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

func (t *Table) row(i int32) engine.Row { return t.table.Row(t.snap, int(i)) }

// Current is the row under the cursor, nil when there is none.
func (t *Table) Current() engine.Row {
	if !t.has || t.at >= len(t.shown) || t.snap == nil || int(t.shown[t.at]) >= t.table.Len(t.snap) {
		return nil
	}
	return t.row(t.shown[t.at])
}

// Count gives the rows shown and all rows.
func (t *Table) Count() (shown, all int) { return len(t.shown), t.n }

// Move moves the cursor by n rows.
func (t *Table) Move(n int, now time.Time) {
	t.lastMove = now
	t.set(t.at + n)
	t.markRange()
}

// Select puts the cursor on a key, if it is shown.
func (t *Table) Select(k engine.Key) bool {
	for i, r := range t.shown {
		if t.keys[r] == k {
			t.set(i)
			return true
		}
	}
	return false
}

// Page is how many rows were visible last.
func (t *Table) Page() int { return max(t.height, 1) }

// Mark marks or unmarks the row under the cursor and moves on.
func (t *Table) Mark(now time.Time) {
	if !t.has {
		return
	}
	if t.marked(t.key) {
		delete(t.marks, t.key)
	} else {
		t.mark(t.key)
	}
	t.Move(1, now)
}

func (t *Table) mark(k engine.Key) {
	if t.marks == nil {
		t.marks = map[engine.Key]struct{}{}
	}
	t.marks[k] = struct{}{}
}

func (t *Table) marked(k engine.Key) bool { _, ok := t.marks[k]; return ok }

// Range starts marking from here, or ends it. It tells whether it is on.
func (t *Table) Range() bool {
	if t.anchor > 0 {
		t.anchor = 0
		return false
	}
	t.anchor = t.at + 1
	t.markRange()
	return true
}

func (t *Table) markRange() {
	if t.anchor == 0 || !t.has {
		return
	}
	a, b := t.anchor-1, t.at
	if a > b {
		a, b = b, a
	}
	for i := a; i <= b && i < len(t.shown); i++ {
		t.mark(t.keys[t.shown[i]])
	}
}

// MarkShown marks every shown row; Unmark clears all marks.
func (t *Table) MarkShown() {
	for _, i := range t.shown {
		t.mark(t.keys[i])
	}
}

// Unmark clears all marks and the range.
func (t *Table) Unmark() { t.marks, t.anchor = nil, 0 }

// Marked gives the marked rows in the snapshot's order, or the row under the cursor when none is marked.
func (t *Table) Marked() []engine.Row {
	var out []engine.Row
	for i, k := range t.keys {
		if len(t.marks) > 0 && t.marked(k) {
			out = append(out, t.row(int32(i)))
		}
	}
	if len(out) == 0 {
		if c := t.Current(); c != nil {
			out = append(out, c)
		}
	}
	return out
}

// Marks counts marked rows.
func (t *Table) Marks() int { return len(t.marks) }

// NextSort chooses the next sortable column to the right (1) or left (-1).
func (t *Table) NextSort(dir int) {
	at := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == t.SortBy })
	for range t.Columns {
		at = (at + dir + len(t.Columns)) % len(t.Columns)
		if c := t.Columns[at]; !c.Extra && !t.hidden[c.Name] {
			t.SortBy, t.dirty = c.Name, true
			return
		}
	}
}

// Scroll moves the columns behind the first two.
func (t *Table) Scroll(n int) {
	t.scroll = min(max(t.scroll+n, 0), max(len(t.Columns)-3, 0))
	if n > 0 && t.cut == 0 {
		t.scroll = max(t.scroll-n, 0)
	}
}

// Hide shows or hides a column.
func (t *Table) Hide(name string, hide bool) {
	if t.hidden == nil {
		t.hidden = map[string]bool{}
	}
	t.hidden[name] = hide
}

// Hidden tells whether a column was hidden by the user.
func (t *Table) Hidden(name string) bool { return t.hidden[name] }

// layout decides which columns are shown: the first two always, then those that
// fit from the scroll position on, then extra ones where room is left.
func (t *Table) layout(w int) {
	t.lay = t.lay[:0]
	t.cut = 0
	const gap = 1
	used, flex := 2, -1
	take := func(i int) bool {
		need := t.Columns[i].Width
		if len(t.lay) > 0 {
			need += gap
		}
		if used+need > w && len(t.lay) > 0 {
			return false
		}
		used += need
		t.lay = append(t.lay, placed{col: i, w: t.Columns[i].Width})
		return true
	}
	full := false
	skip := t.scroll
	for i := range t.Columns {
		c := &t.Columns[i]
		if c.Extra && t.scroll == 0 || t.hidden[c.Name] {
			continue
		}
		if i >= 2 && skip > 0 {
			skip--
			continue
		}
		if full || !take(i) {
			full = true
			t.cut++
		}
	}
	if !full && t.scroll == 0 {
		// Extra columns leave the flexible one room to say something.
		spare := 0
		for _, p := range t.lay {
			if t.Columns[p.col].Flex {
				spare = 24
			}
		}
		for i := range t.Columns {
			if c := &t.Columns[i]; c.Extra && !t.hidden[c.Name] && used+c.Width+spare <= w {
				take(i)
			}
		}
		slices.SortFunc(t.lay, func(a, b placed) int { return a.col - b.col })
	}
	for k := range t.lay {
		if t.Columns[t.lay[k].col].Flex {
			flex = k
		}
	}
	if flex >= 0 && w > used {
		t.lay[flex].w += w - used
	}
	x := 2
	for k := range t.lay {
		t.lay[k].x = x
		x += t.lay[k].w + gap
	}
}

// Render draws the heading and the visible rows.
func (t *Table) Render(b *Buffer, r Rect, now time.Time) {
	if r.Empty() {
		t.height = 0
		return
	}
	t.layout(r.W)
	head := r.Line(0)
	for _, p := range t.lay {
		c := &t.Columns[p.col]
		at := Rect{head.X + p.x, head.Y, min(p.w, r.W-p.x), 1}
		st := theme.Hint.S()
		name := c.Title
		if c.Name == t.SortBy {
			st = theme.Title.S()
			// The arrow takes the place of the last letter when the heading fills its column.
			if Width(name)+1 > at.W {
				name = name[:max(at.W-1, 0)]
			}
		}
		var rest Rect
		if c.Align == engine.AlignRight {
			w := Width(name)
			if c.Name == t.SortBy {
				w++
			}
			rest = b.Text(at.Skip(max(at.W-w, 0)), name, st)
		} else {
			rest = b.Text(at, name, st)
		}
		if c.Name == t.SortBy {
			arrow := b.Glyphs.Up
			if t.Reverse {
				arrow = b.Glyphs.Down
			}
			b.Rune(rest, arrow, st)
		}
	}
	body := r.Below(1)
	t.height = body.H
	if t.at < t.top {
		t.top = t.at
	}
	if t.at >= t.top+body.H {
		t.top = t.at - body.H + 1
	}
	t.top = min(max(t.top, 0), max(len(t.shown)-body.H, 0))
	for y := 0; y < body.H && t.top+y < len(t.shown); y++ {
		idx := t.shown[t.top+y]
		row := t.row(idx)
		line := body.Line(y)
		if len(t.marks) > 0 && t.marked(t.keys[idx]) {
			b.Rune(line, '*', theme.Key.S())
		}
		cursor := t.has && t.top+y == t.at
		if cursor {
			b.Rune(line.Skip(1), b.Glyphs.Cursor, theme.Key.S())
		}
		for _, p := range t.lay {
			c := &t.Columns[p.col]
			t.cell.Reset(b.Glyphs)
			v := c.Value(row, now)
			t.cell.Old = v.Known && (v.Fresh == engine.Aging || v.Fresh == engine.Old || v.Fresh == engine.Lost)
			if !v.Known || v.None {
				t.cell.Role = theme.Unknown
			}
			if c.Draw != nil {
				c.Draw(&t.cell, row, v)
			} else {
				t.cell.buf = c.AppendText(t.cell.buf, v)
			}
			at := Rect{line.X + p.x, line.Y, min(p.w, r.W-p.x), 1}
			st := t.cell.Role.S()
			if t.cell.Old {
				t.cell.buf = append(t.cell.buf, '~')
				st = st.With(theme.Faded)
			}
			if c.Align == engine.AlignRight {
				if n := WidthBytes(t.cell.buf); n < at.W {
					at = at.Skip(at.W - n)
				}
			}
			b.Bytes(at, t.cell.buf, st)
		}
		if cursor {
			b.Mark(line, theme.Selected)
		}
	}
}

// SortTitle is the head of the column that orders the rows.
func (t *Table) SortTitle() string {
	if c := t.column(t.SortBy); c != nil {
		return c.Title
	}
	return ""
}

// Names lists the columns' names in their order.
func (t *Table) Names() []string {
	out := make([]string, len(t.Columns))
	for i := range t.Columns {
		out[i] = t.Columns[i].Name
	}
	return out
}

// Showing gives the columns that are shown, those out of sight at the right too,
// and the rows that the filter leaves, in their order.
func (t *Table) Showing() ([]*engine.Column, []engine.Row) {
	laid := map[int]bool{}
	for _, p := range t.lay {
		laid[p.col] = true
	}
	var cols []*engine.Column
	for i := range t.Columns {
		if c := &t.Columns[i]; laid[i] || !c.Extra && !t.hidden[c.Name] {
			cols = append(cols, c.Column)
		}
	}
	var rows []engine.Row
	if t.snap != nil {
		for _, i := range t.shown {
			rows = append(rows, t.row(i))
		}
	}
	return cols, rows
}

// Cut is how many columns did not fit at the last Render.
func (t *Table) Cut() int { return t.cut }

// WidthBytes is Width for bytes.
func WidthBytes(s []byte) int {
	n := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= ' ' && c != 0x7f {
				n++
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		n += RuneWidth(r)
		i += size
	}
	return n
}
