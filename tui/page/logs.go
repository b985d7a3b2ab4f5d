package page

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
)

// logs is view 9: lines of chosen sources merged by time, with search. It keeps
// a bounded ring of lines of its own and cuts the visible part out of it: lines
// that are not shown are never measured.
type logs struct {
	sources []string
	level   engine.Level
	since   *time.Time // only lines since then; nil: the newest 2,000
	version int        // of the query; the screen opens the stream again when it moves

	lines   []engine.LogLine // oldest first, at most maxLines
	dropped int              // lines that were lost before they came here
	problem string
	ended   bool

	shown  []logRow // what is listed, made again when lines or settings change
	stale  bool
	top    int // first shown row on the screen; ignored while following
	height int
	follow bool
	wrap   bool
	only   bool
	unfold bool
	shift  int // columns scrolled to the right
	expr   string
	re     *regexp.Regexp
	at     int // match under the search cursor, index into shown; -1: none
	now    time.Time
	binds  []Binding
}

// logRow is one listed line, or a fold of n lines with the same text from line on.
type logRow struct {
	line int32
	n    int32
}

const (
	maxLines = 20_000
	foldFrom = 4 // so many lines with the same text are folded
)

func newLogs() *logs {
	p := &logs{follow: true, at: -1, stale: true}
	move := func(n func() int) func(Host) { return func(Host) { p.move(n()) } }
	fixed := func(n int) func() int { return func() int { return n } }
	p.binds = []Binding{
		{Name: "log.follow", Key: Keys("", "follow the newest", "F"), Brief: "follow", Hint: 1, Group: GroupView, Do: func(h Host) {
			p.follow = !p.follow
			if !p.follow {
				p.top = max(len(p.shown)-p.height, 0)
			}
		}},
		{Name: "log.only", Key: Keys("", "only matching lines", "&"), Brief: "only", Hint: 42, Group: GroupView, Off: p.noSearch, Do: func(Host) { p.only = !p.only; p.stale = true; p.at = -1 }},
		{Name: "log.next", Key: Keys("n N", "next, previous match", "n"), Group: GroupView, Off: p.noSearch, Do: func(h Host) { p.seek(h, 1, p.matches) }},
		{Name: "log.previous", Key: Keys("", "", "N"), Off: p.noSearch, Do: func(h Host) { p.seek(h, -1, p.matches) }},
		{Name: "log.error", Key: Keys("", "next error", "E"), Brief: "next error", Hint: 43, Group: GroupView, Do: func(h Host) {
			p.seek(h, 1, func(r logRow) bool { return p.lines[r.line].Level == engine.LevelCrit })
		}},
		{Name: "log.wrap", Key: Keys("", "wrap long lines", "W"), Brief: "wrap", Hint: 44, Group: GroupView, Do: func(Host) { p.wrap = !p.wrap; p.shift = 0 }},
		{Name: "log.fold", Key: Keys("", "fold repeated lines, or not", "u"), Group: GroupView, Do: func(Host) { p.unfold = !p.unfold; p.stale = true }},
		{Name: "log.level", Key: Keys("", "level: all, note, warn, crit", "L"), Brief: "level", Hint: 45, Group: GroupView, Do: func(h Host) {
			p.level = map[engine.Level]engine.Level{"": engine.LevelNote, engine.LevelNote: engine.LevelWarn, engine.LevelWarn: engine.LevelCrit}[p.level]
			p.restart()
			h.Resort()
		}},
		{Name: "log.since", Key: Keys("", "since when", "T"), Brief: "since", Hint: 46, Group: GroupView, Do: func(h Host) {
			a := &ask{label: "since", hint: "10m  11:04  2026-03-02T11:04:00Z  empty for the newest   enter show  esc as before", take: func(h Host, answer string) error {
				at, err := moment(answer, h.Look().Now)
				if err != nil {
					return err
				}
				p.since = at
				p.restart()
				h.Resort()
				return nil
			}}
			h.Open(a)
		}},
		{Name: "log.all", Key: Keys("", "all sources", "s"), Group: GroupView, Do: func(h Host) { p.Sources(nil); h.Resort() }},
		{Name: "log.down", Key: Keys("j k ↓ ↑", "line", "j", "down"), Group: GroupMove, Do: move(fixed(1))},
		{Name: "log.up", Key: Keys("", "", "k", "up"), Do: move(fixed(-1))},
		{Name: "log.half-down", Key: Keys("ctrl+d ctrl+u", "half page", "ctrl+d"), Group: GroupMove, Do: move(func() int { return p.height / 2 })},
		{Name: "log.half-up", Key: Keys("", "", "ctrl+u"), Do: move(func() int { return -p.height / 2 })},
		{Name: "log.page-down", Key: Keys("pgdn pgup", "page", "pgdown", "ctrl+f"), Group: GroupMove, Do: move(func() int { return p.height })},
		{Name: "log.page-up", Key: Keys("", "", "pgup", "ctrl+b"), Do: move(func() int { return -p.height })},
		{Name: "log.first", Key: Keys("g G home end", "first, last", "g", "home"), Group: GroupMove, Do: move(fixed(-1 << 30))},
		{Name: "log.last", Key: Keys("", "", "G", "end"), Do: move(fixed(1 << 30))},
		{Name: "log.right", Key: Keys("← →", "columns", "right"), Group: GroupMove, Do: func(Host) { p.shift += 16 }},
		{Name: "log.left", Key: Keys("", "", "left"), Do: func(Host) { p.shift = max(p.shift-16, 0) }},
		{Name: "log.copy", Key: Keys("", "copy the lines on the screen", "y"), Group: GroupView, Do: func(h Host) {
			var b strings.Builder
			first, last := p.window()
			for _, r := range p.shown[first:last] {
				b.WriteString(p.text(&p.lines[r.line]))
				b.WriteByte('\n')
			}
			h.Copy(count(last-first, "line"), b.String())
		}},
	}
	return p
}

// moment reads when: a length of time ago, a time of today in UTC (of yesterday
// when it is still to come), a date with time; "" is none.
func moment(s string, now time.Time) (*time.Time, error) {
	s, now = strings.TrimSpace(s), now.UTC()
	if s == "" {
		return nil, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		t := now.Add(-d)
		return &t, nil
	}
	for _, layout := range [...]string{"15:04", "15:04:05"} {
		if t, err := time.Parse(layout, strings.TrimSuffix(s, "Z")); err == nil {
			t = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
			if t.After(now) {
				t = t.AddDate(0, 0, -1)
			}
			return &t, nil
		}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return &t, nil
	}
	return nil, fmt.Errorf("since: %q is no time, as in 10m, 11:04 or 2026-03-02T11:04:00Z", s)
}

func (p *logs) ID() ID              { return Logs }
func (p *logs) Bindings() []Binding { return p.binds }
func (p *logs) Legend() []string {
	return []string{"ERR work is being lost   WRN look   INF change", "The lines are read from the engine's log files.", "/ searches with RE2, upper and lower case alike."}
}

func (p *logs) noSearch(*Look) string {
	if p.re == nil {
		return "nothing is searched for, / does that"
	}
	return ""
}

// Query is what the screen streams for this view; the number moves when it changed.
func (p *logs) Query() (engine.LogQuery, int) {
	q := engine.LogQuery{Sources: p.sources, Level: p.level, Since: p.since, Follow: true, Tail: 2000}
	if p.since != nil {
		q.Tail = maxLines
	}
	return q, p.version
}

// Sources chooses sources; none means all.
func (p *logs) Sources(names []string) {
	p.sources = slices.Clone(names)
	p.restart()
}

func (p *logs) restart() {
	p.version++
	p.lines, p.dropped, p.problem, p.ended, p.stale, p.at, p.follow = nil, 0, "", false, true, -1, true
}

// Add takes lines of the query with this number; others are dropped.
func (p *logs) Add(version int, lines []engine.LogLine) {
	if version != p.version {
		return
	}
	for i := range lines {
		p.dropped += lines[i].Dropped
	}
	p.lines = append(p.lines, lines...)
	if n := len(p.lines) - maxLines; n > 0 {
		// A quarter at a time, so that the move is rare.
		n = min(n+maxLines/4, len(p.lines))
		p.lines = append(p.lines[:0], p.lines[n:]...)
		if !p.follow {
			p.top = max(p.top-n, 0)
		}
		p.at = -1
	}
	p.problem, p.stale = "", true
}

// Ended says that the stream is over, with a reason or "".
func (p *logs) Ended(version int, problem string) {
	if version == p.version {
		p.problem, p.ended = problem, true
	}
}

func (p *logs) Sync(l *Look) string { p.now = l.Now; return "" }

func (p *logs) Filter() string { return p.expr }

// SetFilter searches for an expression; "" ends the search.
func (p *logs) SetFilter(expr string) error {
	p.stale, p.at = true, -1
	if expr == "" {
		p.expr, p.re, p.only = "", nil, false
		return nil
	}
	re, err := regexp.Compile("(?i)" + expr)
	if err != nil {
		return fmt.Errorf("search: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	p.expr, p.re = expr, re
	return nil
}

// Back ends the search, then the limit in time, then shows all sources.
func (p *logs) Back() bool {
	switch {
	case p.expr != "":
		_ = p.SetFilter("") // an empty search is never wrong
	case p.since != nil:
		p.since = nil
		p.restart()
	case len(p.sources) > 0:
		p.Sources(nil)
	default:
		return false
	}
	return true
}

func (p *logs) matches(r logRow) bool {
	return p.re != nil && p.re.MatchString(p.text(&p.lines[r.line]))
}

func (p *logs) text(l *engine.LogLine) string {
	at := "-"
	if l.At != nil {
		at = l.At.UTC().Format("15:04:05.000")
	}
	s := at + " " + l.Source + " " + levelTag(l.Level) + " " + l.Text
	if l.Fields != "" {
		s += "  " + l.Fields
	}
	return s
}

func levelTag(l engine.Level) string {
	switch l {
	case engine.LevelCrit:
		return "ERR"
	case engine.LevelWarn:
		return "WRN"
	case engine.LevelDebug:
		return "DBG"
	case engine.LevelNote, engine.LevelOK:
		return "INF"
	}
	return "   "
}

// list makes shown again.
func (p *logs) list() {
	if !p.stale {
		return
	}
	p.stale = false
	p.shown = p.shown[:0]
	for i := 0; i < len(p.lines); i++ {
		if p.only && p.re != nil && !p.re.MatchString(p.text(&p.lines[i])) {
			continue
		}
		n := 1
		if !p.unfold && !p.only {
			for i+n < len(p.lines) && p.lines[i+n].Text == p.lines[i].Text && p.lines[i+n].Level == p.lines[i].Level && p.lines[i].Level != engine.LevelCrit {
				n++
			}
		}
		if n >= foldFrom {
			p.shown = append(p.shown, logRow{int32(i), 1}, logRow{int32(i + 1), int32(n - 2)}, logRow{int32(i + n - 1), 1})
			i += n - 1
			continue
		}
		p.shown = append(p.shown, logRow{int32(i), 1})
	}
}

func (p *logs) move(n int) {
	p.list()
	if p.follow {
		p.top = max(len(p.shown)-p.height, 0)
	}
	last := max(len(p.shown)-p.height, 0)
	p.top = min(max(p.top+n, 0), last)
	p.follow = p.top == last && n > 0
}

// Move is for the wheel.
func (p *logs) Move(n int, _ time.Time) { p.move(n) }

func (p *logs) window() (first, last int) {
	p.list()
	first = p.top
	if p.follow {
		first = len(p.shown) - p.height
	}
	first = min(max(first, 0), len(p.shown))
	return first, min(first+p.height, len(p.shown))
}

// seek goes to the next or previous row that fits, and around the end.
func (p *logs) seek(h Host, dir int, fits func(logRow) bool) {
	p.list()
	n := len(p.shown)
	from := p.at
	if from < 0 {
		first, last := p.window()
		from = first - 1
		if dir < 0 {
			from = last
		}
	}
	for i := 1; i <= n; i++ {
		k := ((from+dir*i)%n + n) % n
		if fits(p.shown[k]) {
			p.at, p.follow = k, false
			p.top = max(min(k-p.height/3, n-p.height), 0)
			return
		}
	}
	h.Say("no line like that in " + count(len(p.lines), "line"))
}

func (p *logs) Render(b *widget.Buffer, l *Look, r widget.Rect) {
	p.now = l.Now
	if r.Empty() {
		return
	}
	p.list()
	head := r.Line(0).In(1)
	who := "all sources"
	if len(p.sources) > 0 {
		who = strings.Join(p.sources, ", ")
	}
	level := "all"
	if p.level != "" {
		level = string(p.level)
	}
	rest := b.Text(head, "Logs  ", theme.Title.S())
	rest = b.Text(rest, who, theme.Text.S())
	follow := "off"
	if p.follow {
		follow = "on"
	}
	since := ""
	if p.since != nil {
		since = "since " + Clock(*p.since, p.now) + "Z   "
	}
	side := fmt.Sprintf("%sfollow %s   level %s   %s", since, follow, level, count(len(p.lines), "line"))
	if w := widget.Width(side); w+2 < rest.W {
		b.Right(head, side, theme.Hint.S())
	}
	body := r.Below(1)
	body.H-- // the last line tells about the search and about what was lost
	p.height = body.H
	foot := r.Line(r.H - 1).In(1)
	switch {
	case p.problem != "":
		b.Text(foot, p.problem, theme.Warn.S())
	case p.expr != "":
		n, at := 0, 0
		for i, row := range p.shown {
			if p.matches(row) {
				n++
				if i <= p.at {
					at = n
				}
			}
		}
		text := fmt.Sprintf("search %q  %d match", p.expr, n)
		if at > 0 {
			text = fmt.Sprintf("search %q  match %d of %d", p.expr, at, n)
		}
		if p.only {
			text += ", only these are shown (&)"
		}
		b.Text(foot, text+"   n next  N previous", theme.Hint.S())
	case p.dropped > 0:
		b.Text(foot, fmt.Sprintf("%s lost on the way here: the screen was too slow", count(p.dropped, "line")), theme.Warn.S())
	case p.ended:
		b.Text(foot, "the stream has ended", theme.Hint.S())
	}
	if len(p.shown) == 0 {
		text := "No line yet."
		if p.only {
			text = "No line matches."
		}
		b.Text(body.Line(1).In(1), text, theme.Hint.S())
		return
	}
	if p.wrap {
		p.drawWrapped(b, body)
		return
	}
	first, last := p.window()
	for y, row := range p.shown[first:last] {
		p.drawLine(b, body.Line(y), row, first+y)
	}
}

func (p *logs) drawLine(b *widget.Buffer, r widget.Rect, row logRow, i int) {
	l := &p.lines[row.line]
	if i == p.at {
		b.Rune(r, b.Glyphs.Cursor, theme.Key.S())
	}
	r = r.Skip(1)
	if row.n > 1 {
		b.Text(r, fmt.Sprintf("%[1]c%[1]c%[1]c%[1]c %[2]d lines %[3]q folded (u unfolds)", b.Glyphs.Dot, row.n, l.Text), theme.Hint.S())
		return
	}
	at := "-"
	if l.At != nil {
		at = l.At.UTC().Format("15:04:05.000")
	}
	b.Text(r.Cut(12), at, theme.Hint.S())
	r = r.Skip(13)
	b.Text(r.Cut(6), l.Source, theme.Title.S())
	r = r.Skip(7)
	role := theme.OfLevel(l.Level)
	b.Text(r.Cut(3), levelTag(l.Level), role.S())
	r = r.Skip(4)
	text, fields := l.Text, l.Fields
	if p.shift > 0 {
		text = shiftText(text, p.shift)
	}
	r = b.Text(r, text, role.S())
	if fields != "" {
		b.Text(b.Text(r, "  ", theme.Text.S()), fields, theme.Hint.S())
	}
	if i == p.at {
		b.Mark(widget.Rect{X: 0, Y: r.Y, W: r.X + r.W, H: 1}, theme.Selected)
	}
}

func shiftText(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[i:]
		}
		n--
	}
	return ""
}

// drawWrapped draws whole lines from the end (following) or from the top.
func (p *logs) drawWrapped(b *widget.Buffer, r widget.Rect) {
	width := max(r.W-2, 10)
	pieces := func(row logRow) []string {
		s := p.text(&p.lines[row.line])
		if row.n > 1 {
			s = fmt.Sprintf("%d lines %q folded (u unfolds)", row.n, p.lines[row.line].Text)
		}
		var out []string
		for len(s) > 0 {
			n, cut := 0, len(s)
			for i, ch := range s {
				if n += widget.RuneWidth(ch); n > width {
					cut = i
					break
				}
			}
			if cut == 0 {
				break
			}
			out = append(out, s[:cut])
			s = s[cut:]
		}
		return out
	}
	type line struct {
		text string
		role theme.Role
	}
	var lines []line
	if p.follow {
		for i := len(p.shown) - 1; i >= 0 && len(lines) < r.H; i-- {
			ps := pieces(p.shown[i])
			for k := len(ps) - 1; k >= 0; k-- {
				lines = append(lines, line{ps[k], theme.OfLevel(p.lines[p.shown[i].line].Level)})
			}
		}
		lines = lines[:min(len(lines), r.H)]
		slices.Reverse(lines)
	} else {
		first, _ := p.window()
		for i := first; i < len(p.shown) && len(lines) < r.H; i++ {
			for _, s := range pieces(p.shown[i]) {
				lines = append(lines, line{s, theme.OfLevel(p.lines[p.shown[i].line].Level)})
			}
		}
	}
	for y := 0; y < len(lines) && y < r.H; y++ {
		b.Text(r.Line(y).Skip(1), lines[y].text, lines[y].role.S())
	}
}

// Export writes the listed lines, folded ones unfolded, as text.
func (p *logs) Export(_ *Look, w *bytes.Buffer) (kind string, rows int) {
	for i := range p.lines {
		if p.only && p.re != nil && !p.re.MatchString(p.text(&p.lines[i])) {
			continue
		}
		w.WriteString(visible(p.text(&p.lines[i])))
		w.WriteByte('\n')
		rows++
	}
	return "txt", rows
}
