package engine

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"app.provost/prover"
)

// FilterHelp explains the filter language in a few lines, for help pages.
const FilterHelp = `word            any column contains it (numbers: is it)
host:m18        the column is m18; * stands for anything: host:m1*
state!=run      the column is not run
cpu>90 age<5m   numbers, lengths of time, sizes: < <= > >= =
note~"exit 1.." the column matches a regular expression (RE2); !~ does not
cpu:? job:-     not known; nothing there
a b  a or b     both; either.  !a  not.  ( )  groups.  " "  keeps spaces`

// maxFilter bounds the text of a filter, maxDepth its parentheses.
const (
	maxFilter = 4096
	maxDepth  = 64
)

// FilterError says what is wrong with a filter and where.
type FilterError struct {
	Text   string // the whole filter
	At     int    // byte in Text
	Cause  string
	Remedy string
}

// Error names the place as a column from 1.
func (e *FilterError) Error() string {
	s := fmt.Sprintf("read filter %q: at %d: %s", e.Text, utf8.RuneCountInString(e.Text[:min(e.At, len(e.Text))])+1, e.Cause)
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Problem is the same for an operator.
func (e *FilterError) Problem(doing string) *Problem {
	return Problem{Code: CodeUsage, Exit: ExitUsage, Doing: doing, Field: "selector", Remedy: e.Remedy,
		Cause: fmt.Sprintf("filter %q: at %d: %s", e.Text, utf8.RuneCountInString(e.Text[:min(e.At, len(e.Text))])+1, e.Cause)}.Because(e)
}

// Filter decides which rows of a table are wanted. It is compiled once and then
// read by any number of goroutines. Matching does not allocate.
//
// Answers are yes, no or not known: a comparison with a value that is not known
// is neither true nor, negated, false, so "!cpu>90" does not match a worker whose
// use is unknown. "cpu:?" asks for those.
type Filter struct {
	text  string
	table *Table
	root  *filterNode // nil: everything
}

type filterOp byte

const (
	opAnd filterOp = iota + 1
	opOr
	opNot
	opWord // any column
	opIs
	opIsNot
	opLess
	opLessEq
	opMore
	opMoreEq
	opFits // regular expression
	opFitsNot
)

type filterNode struct {
	op       filterOp
	kids     []*filterNode
	col      *Column
	str      string // lower case
	num      float64
	re       *regexp.Regexp
	unknown  bool // ?
	nothing  bool // -
	wild     bool // str has a *
	wordText bool // the word could be a number's text
}

type answer int8

const (
	answerNo answer = iota
	answerYes
	answerUnknown
)

// CompileFilter reads a filter for a table. Errors are of type *FilterError.
// An empty text, and the single word all, match every row; acts refuse the
// empty one (see SelectWorkers).
func CompileFilter(t *Table, s string) (*Filter, error) {
	f := &Filter{text: s, table: t}
	if len(s) > maxFilter {
		return nil, &FilterError{Text: s[:32] + "…", At: 0, Cause: fmt.Sprintf("the filter has %d bytes, at most %d are read", len(s), maxFilter)}
	}
	if !utf8.ValidString(s) {
		return nil, &FilterError{Text: strings.ToValidUTF8(s, "?"), Cause: "the filter is not valid UTF-8"}
	}
	p := filterParser{text: s, table: t}
	p.space()
	if p.at == len(s) || strings.TrimSpace(s) == "all" {
		return f, nil
	}
	root, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.at < len(s) {
		return nil, p.fail(p.at, `")" without "("`, "")
	}
	f.root = root
	return f, nil
}

// String is the text that the filter was made from.
func (f *Filter) String() string { return f.text }

// All tells whether the filter matches every row.
func (f *Filter) All() bool { return f == nil || f.root == nil }

// Match tells whether a row of the filter's table is wanted. A nil filter wants all.
func (f *Filter) Match(r Row, now time.Time) bool {
	return f.All() || f.root.eval(f.table, r, now) == answerYes
}

// Rows lists the rows of a snapshot that match, in the snapshot's order.
func (f *Filter) Rows(s *Snapshot, now time.Time) []Row {
	var out []Row
	for i := range f.table.Len(s) {
		if r := f.table.at(s, i); f.Match(r, now) {
			out = append(out, r)
		}
	}
	return out
}

func (n *filterNode) eval(t *Table, r Row, now time.Time) answer {
	switch n.op {
	case opAnd:
		out := answerYes
		for _, k := range n.kids {
			switch k.eval(t, r, now) {
			case answerNo:
				return answerNo
			case answerUnknown:
				out = answerUnknown
			}
		}
		return out
	case opOr:
		out := answerNo
		for _, k := range n.kids {
			switch k.eval(t, r, now) {
			case answerYes:
				return answerYes
			case answerUnknown:
				out = answerUnknown
			}
		}
		return out
	case opNot:
		switch n.kids[0].eval(t, r, now) {
		case answerYes:
			return answerNo
		case answerNo:
			return answerYes
		}
		return answerUnknown
	case opWord:
		return is(n.word(t, r, now))
	}
	return n.compare(n.col.Value(r, now))
}

func is(b bool) answer {
	if b {
		return answerYes
	}
	return answerNo
}

// word looks into every column. Ages, countdowns and times move by themselves and are left out.
func (n *filterNode) word(t *Table, r Row, now time.Time) bool {
	for _, c := range t.Columns {
		if c.Unit.Numeric() && (!n.wordText || c.Unit == UnitAge || c.Unit == UnitLeft || c.Unit == UnitTime) {
			continue
		}
		v := c.Value(r, now)
		if !v.Known || v.None {
			continue
		}
		if !c.Unit.Numeric() {
			if containsFold(v.Str, n.str) {
				return true
			}
			continue
		}
		var room [64]byte
		if string(c.AppendText(room[:0], v)) == n.str {
			return true
		}
	}
	return false
}

func (n *filterNode) compare(v Value) answer {
	if n.unknown {
		return is(!v.Known == (n.op == opIs))
	}
	if !v.Known {
		return answerUnknown
	}
	if n.nothing {
		return is((v.None || !n.col.Unit.Numeric() && v.Str == "") == (n.op == opIs))
	}
	if v.None {
		// Nothing there is different from every value, and neither more nor less.
		return is(n.op == opIsNot || n.op == opFitsNot)
	}
	switch n.op {
	case opFits:
		return is(n.re.MatchString(v.Str))
	case opFitsNot:
		return is(!n.re.MatchString(v.Str))
	}
	if !n.col.Unit.Numeric() {
		switch n.op {
		case opIs:
			return is(n.equals(v.Str))
		case opIsNot:
			return is(!n.equals(v.Str))
		}
		return n.order(CompareNatural(v.Str, n.str))
	}
	// What a cell shows rounded is compared as it is shown, so that "cpu=90" finds what reads 90.
	have := v.Num
	if n.op == opIs || n.op == opIsNot {
		var a, b [64]byte
		same := have == n.num || string(n.col.AppendText(a[:0], Value{Known: true, Num: have})) == string(n.col.AppendText(b[:0], Value{Known: true, Num: n.num}))
		return is(same == (n.op == opIs))
	}
	switch {
	case have < n.num:
		return n.order(-1)
	case have > n.num:
		return n.order(1)
	}
	return n.order(0)
}

func (n *filterNode) order(c int) answer {
	switch n.op {
	case opLess:
		return is(c < 0)
	case opLessEq:
		return is(c <= 0)
	case opMore:
		return is(c > 0)
	}
	return is(c >= 0)
}

// equals compares the whole text, or each item of a list.
func (n *filterNode) equals(s string) bool {
	if n.col.Unit != UnitList {
		return n.one(s)
	}
	for {
		item, rest, more := strings.Cut(s, ",")
		if n.one(item) {
			return true
		}
		if !more {
			return false
		}
		s = rest
	}
}

func (n *filterNode) one(s string) bool {
	if !n.wild {
		return len(s) == len(n.str) && containsFold(s, n.str)
	}
	return globFold(s, n.str)
}

// fold lowers ASCII letters only, so that a byte stays a byte.
func fold(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

func foldString(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] = fold(b[i])
	}
	return string(b)
}

// containsFold looks for low, which is folded already, in s.
func containsFold(s, low string) bool {
	for i := 0; i+len(low) <= len(s); i++ {
		j := 0
		for j < len(low) && fold(s[i+j]) == low[j] {
			j++
		}
		if j == len(low) {
			return true
		}
	}
	return false
}

// globFold matches * against any run of characters, in time linear in s times pattern.
func globFold(s, pattern string) bool {
	i, j, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case j < len(pattern) && pattern[j] == '*':
			star, mark = j, i
			j++
		case j < len(pattern) && pattern[j] == fold(s[i]):
			i, j = i+1, j+1
		case star >= 0:
			mark++
			i, j = mark, star+1
		default:
			return false
		}
	}
	for j < len(pattern) && pattern[j] == '*' {
		j++
	}
	return j == len(pattern)
}

type filterParser struct {
	text  string
	at    int
	table *Table
}

func (p *filterParser) fail(at int, cause, remedy string) *FilterError {
	return &FilterError{Text: p.text, At: at, Cause: cause, Remedy: remedy}
}

func (p *filterParser) space() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t' || p.text[p.at] == '\n') {
		p.at++
	}
}

// keyword takes a whole bare word if it stands here.
func (p *filterParser) keyword(w string) bool {
	rest := p.text[p.at:]
	if !strings.HasPrefix(rest, w) {
		return false
	}
	if len(rest) > len(w) && !strings.ContainsRune(" \t\n()\"!", rune(rest[len(w)])) {
		return false
	}
	p.at += len(w)
	return true
}

func (p *filterParser) or(depth int) (*filterNode, error) {
	if depth > maxDepth {
		return nil, p.fail(p.at, fmt.Sprintf("more than %d parentheses or ! inside each other", maxDepth), "")
	}
	first, err := p.and(depth)
	if err != nil {
		return nil, err
	}
	kids := []*filterNode{first}
	for p.space(); p.keyword("or"); p.space() {
		n, err := p.and(depth)
		if err != nil {
			return nil, err
		}
		kids = append(kids, n)
	}
	if len(kids) == 1 {
		return first, nil
	}
	return &filterNode{op: opOr, kids: kids}, nil
}

func (p *filterParser) and(depth int) (*filterNode, error) {
	var kids []*filterNode
	for {
		p.space()
		start := p.at
		if p.at == len(p.text) || p.text[p.at] == ')' || p.keyword("or") {
			p.at = start
			if len(kids) == 0 {
				return nil, p.fail(start, "a condition is missing here", "")
			}
			break
		}
		if len(kids) > 0 && p.keyword("and") {
			p.space()
			if p.at == len(p.text) || p.text[p.at] == ')' {
				return nil, p.fail(p.at, "a condition is missing here", "")
			}
		}
		n, err := p.unary(depth)
		if err != nil {
			return nil, err
		}
		kids = append(kids, n)
	}
	if len(kids) == 1 {
		return kids[0], nil
	}
	return &filterNode{op: opAnd, kids: kids}, nil
}

func (p *filterParser) unary(depth int) (*filterNode, error) {
	if depth > maxDepth {
		return nil, p.fail(p.at, fmt.Sprintf("more than %d parentheses or ! inside each other", maxDepth), "")
	}
	start := p.at
	switch p.text[p.at] {
	case '!':
		p.at++
		p.space()
		if p.at == len(p.text) {
			return nil, p.fail(p.at, `a condition is missing after "!"`, "")
		}
		n, err := p.unary(depth + 1)
		if err != nil {
			return nil, err
		}
		return &filterNode{op: opNot, kids: []*filterNode{n}}, nil
	case '(':
		p.at++
		n, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		p.space()
		if p.at == len(p.text) {
			return nil, p.fail(start, `"(" is not closed`, "")
		}
		p.at++ // ")": nothing else ends or()
		return n, nil
	}
	return p.term()
}

// operators, longest first.
var filterOps = []struct {
	text string
	op   filterOp
}{
	{"!=", opIsNot}, {"!~", opFitsNot}, {"<=", opLessEq}, {">=", opMoreEq},
	{":", opIs}, {"=", opIs}, {"<", opLess}, {">", opMore}, {"~", opFits},
}

func (p *filterParser) operator() (filterOp, bool) {
	for _, o := range filterOps {
		if strings.HasPrefix(p.text[p.at:], o.text) {
			p.at += len(o.text)
			return o.op, true
		}
	}
	return 0, false
}

func (p *filterParser) term() (*filterNode, error) {
	start := p.at
	if p.text[p.at] == '"' {
		s, err := p.quoted()
		if err != nil {
			return nil, err
		}
		return wordNode(s), nil
	}
	for p.at < len(p.text) && !strings.ContainsRune(" \t\n()\"!:=<>~", rune(p.text[p.at])) {
		p.at++
	}
	name := p.text[start:p.at]
	end := p.at
	p.space()
	// With a space before it "!" begins the next condition, and ":" is part of no word.
	op, ok := filterOp(0), false
	if p.at == end || p.at < len(p.text) && strings.ContainsRune("=<>~", rune(p.text[p.at])) || strings.HasPrefix(p.text[p.at:], "!=") || strings.HasPrefix(p.text[p.at:], "!~") {
		op, ok = p.operator()
	}
	if !ok {
		p.at = end
		if name == "" {
			return nil, p.fail(start, fmt.Sprintf("%q does not belong here", p.text[start:start+1]), `put texts with such signs into quotes`)
		}
		if p.at < len(p.text) && p.text[p.at] == '!' {
			return nil, p.fail(p.at, `"!" inside a word`, "put a space before it, or the word into quotes")
		}
		return wordNode(name), nil
	}
	if name == "" {
		return nil, p.fail(start, "a column is missing before the operator", "as in state=run")
	}
	col, found := p.table.Column(name)
	if !found {
		remedy := "columns: " + strings.Join(p.table.ColumnNames(), " ")
		if near := Nearest(name, p.table.ColumnNames()); near != "" {
			remedy = fmt.Sprintf("did you mean %q?", near)
		}
		return nil, p.fail(start, fmt.Sprintf("%s have no column %q", p.table.Name, name), remedy)
	}
	p.space()
	at := p.at
	var value string
	quoted := p.at < len(p.text) && p.text[p.at] == '"'
	if quoted {
		s, err := p.quoted()
		if err != nil {
			return nil, err
		}
		value = s
	} else {
		for p.at < len(p.text) && !strings.ContainsRune(" \t\n()\"", rune(p.text[p.at])) {
			p.at++
		}
		value = p.text[at:p.at]
		if value == "" {
			return nil, p.fail(at, fmt.Sprintf("a value is missing after %s", p.text[start:at]), `for "nothing there" write `+col.Name+":-")
		}
	}
	n := &filterNode{op: op, col: col, str: foldString(value)}
	if !quoted && (op == opIs || op == opIsNot) {
		if n.unknown = value == "?"; n.unknown {
			return n, nil
		}
		if n.nothing = value == "-"; n.nothing {
			return n, nil
		}
	}
	switch {
	case op == opFits || op == opFitsNot:
		if col.Unit.Numeric() {
			return nil, p.fail(start, fmt.Sprintf("%s is a number: ~ is for texts", col.Name), "use < > =")
		}
		re, err := regexp.Compile(value)
		if err != nil {
			return nil, p.fail(at, "bad regular expression: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "the syntax is RE2")
		}
		n.re = re
	case col.Unit.Numeric():
		num, want, ok := parseUnit(value, col.Unit)
		if !ok {
			return nil, p.fail(at, fmt.Sprintf("%s wants %s, not %q", col.Name, want, value), "")
		}
		n.num = num
	default:
		n.wild = !quoted && strings.Contains(value, "*")
	}
	return n, nil
}

func wordNode(s string) *filterNode {
	low := foldString(s)
	return &filterNode{op: opWord, str: low, wordText: strings.IndexFunc(low, func(r rune) bool { return r >= '0' && r <= '9' }) >= 0}
}

// quoted reads "…" with \" and \\ inside; other backslashes stay, for regular expressions.
func (p *filterParser) quoted() (string, error) {
	start := p.at
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case '"':
			p.at++
			return b.String(), nil
		case '\\':
			if next := p.text[p.at+1:]; next != "" && (next[0] == '"' || next[0] == '\\') {
				p.at++
				b.WriteByte(next[0])
				continue
			}
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail(start, "the quote is not closed", "")
}

// parseUnit reads a number in a column's unit and says what it wants.
func parseUnit(s string, u Unit) (n float64, want string, ok bool) {
	plain := func(s string) (float64, bool) {
		n, err := strconv.ParseFloat(s, 64)
		return n, err == nil && n-n == 0 // neither NaN nor infinite
	}
	switch u {
	case UnitAge, UnitLeft:
		want = "a length of time, as in 5m, 1h30m or 2d"
		if days, found := strings.CutSuffix(s, "d"); found {
			n, ok = plain(days)
			return n * 86400, want, ok
		}
		if d, err := time.ParseDuration(s); err == nil {
			return d.Seconds(), want, true
		}
		n, ok = plain(s)
		return n, want, ok
	case UnitTime:
		want = "a time, as in 2026-03-02T11:04:00Z or 2026-03-02"
		for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", time.DateOnly} {
			if t, err := time.Parse(form, s); err == nil {
				return float64(t.UnixMilli()) / 1e3, want, true
			}
		}
		return 0, want, false
	case UnitBytes:
		want = "a size, as in 512M or 1.5G"
		low := strings.TrimSuffix(strings.TrimSuffix(foldString(s), "b"), "i")
		scale := 1.0
		if low != "" {
			if i := strings.IndexByte("kmgtpe", low[len(low)-1]); i >= 0 {
				low = low[:len(low)-1]
				for range i + 1 {
					scale *= 1024
				}
			}
		}
		n, ok = plain(low)
		return n * scale, want, ok
	case UnitPercent:
		s = strings.TrimSuffix(s, "%")
	case UnitMS:
		if d, err := time.ParseDuration(s); err == nil {
			return float64(d) / 1e6, "", true
		}
	}
	n, ok = plain(s)
	return n, "a number", ok
}

// SelectWorkers gives the workers that a selector of an act names, in the order
// of rows: ids and ranges ("w1,w3-w5", with a machine before them where ids repeat:
// "m1/w1"), a filter with at least one column in it ("host:m18 state=run"), or
// "all". An empty selector, and one that matches nothing, is an error: acts never
// guess. Errors are of type *Problem.
func SelectWorkers(rows []WorkerRow, sel Selector, now time.Time) ([]*WorkerRow, error) {
	return selectRows(workersTable, rows, sel, now, selectWorkerID)
}

// SelectJobs does the same for jobs: ids in full or by a beginning of at least 8
// characters that fits one job only, joined by commas; a filter; or "all".
func SelectJobs(rows []JobRow, sel Selector, now time.Time) ([]*JobRow, error) {
	return selectRows(jobsTable, rows, sel, now, selectJobID)
}

var spacedCommas = regexp.MustCompile(`\s*,\s*`)

func selectRows[R any](t *Table, rows []R, sel Selector, now time.Time, byID func([]R, string) ([]int, error)) ([]*R, error) {
	s := strings.TrimSpace(string(sel))
	if s == "" {
		return nil, &Problem{Code: CodeNoMatch, Exit: ExitUsage, Field: "selector", Cause: "no " + t.One + " is named: an empty selector matches nothing",
			Remedy: "name ids, a filter, or write all"}
	}
	var out []*R
	if ids := spacedCommas.ReplaceAllString(s, ","); ids != "all" && !strings.ContainsAny(ids, " \t\n()\"!:=<>~") {
		chosen := make([]bool, len(rows))
		for item := range strings.SplitSeq(ids, ",") {
			found, err := byID(rows, item)
			if err != nil {
				return nil, err
			}
			for _, i := range found {
				chosen[i] = true
			}
		}
		for i, on := range chosen {
			if on {
				out = append(out, &rows[i])
			}
		}
		return out, nil
	}
	f, err := CompileFilter(t, s)
	if err != nil {
		if fe, ok := err.(*FilterError); ok {
			return nil, fe.Problem("")
		}
		return nil, err
	}
	for i := range rows {
		if f.Match(&rows[i], now) {
			out = append(out, &rows[i])
		}
	}
	if len(out) == 0 {
		return nil, &Problem{Code: CodeNoMatch, Exit: ExitUsage, Field: "selector", Cause: fmt.Sprintf("no %s matches %q", t.One, s),
			Remedy: fmt.Sprintf("see provost get %s", t.Name)}
	}
	return out, nil
}

// selectWorkerID reads w3, w3-w5, m1/w3 and m1/w3-w5.
func selectWorkerID(rows []WorkerRow, item string) ([]int, error) {
	machine, id := "", item
	if i := strings.LastIndexByte(item, '/'); i >= 0 {
		machine, id = item[:i], item[i+1:]
	}
	from, to, isRange := strings.Cut(id, "-")
	if !isRange {
		to = from
	}
	_, lo, err := prover.ParseWorkerID(from)
	_, hi, err2 := prover.ParseWorkerID(to)
	if err != nil || err2 != nil || lo > hi {
		return nil, &Problem{Code: CodeNoMatch, Exit: ExitUsage, Field: "selector", Cause: fmt.Sprintf("%q is no worker id", item),
			Remedy: "ids are like w7, w3-w5 or m1/w7; to choose by a column write it, as in host:m1"}
	}
	var out []int
	seen := map[prover.WorkerID]string{}
	for i := range rows {
		_, core, err := prover.ParseWorkerID(string(rows[i].ID))
		if err != nil || core < lo || core > hi || machine != "" && rows[i].Key.Machine != machine {
			continue
		}
		if other, twice := seen[rows[i].ID]; twice {
			return nil, &Problem{Code: CodeNoMatch, Exit: ExitUsage, Field: "selector", Cause: fmt.Sprintf("%s is a worker on %s and on %s", rows[i].ID, other, rows[i].Key.Machine),
				Remedy: fmt.Sprintf("write the machine too, as in %s/%s", other, item)}
		}
		seen[rows[i].ID] = rows[i].Key.Machine
		out = append(out, i)
	}
	if len(out) == 0 {
		return nil, &Problem{Code: CodeNoMatch, Exit: ExitUsage, Field: "selector", Cause: fmt.Sprintf("there is no worker %s", item), Remedy: "see provost get workers"}
	}
	return out, nil
}

func selectJobID(rows []JobRow, item string) ([]int, error) {
	var begin []int
	for i := range rows {
		if string(rows[i].ID) == item {
			return []int{i}, nil
		}
		if len(item) >= 8 && strings.HasPrefix(string(rows[i].ID), item) {
			begin = append(begin, i)
		}
	}
	switch len(begin) {
	case 1:
		return begin, nil
	case 0:
		return nil, &Problem{Code: CodeNoMatch, Exit: ExitUsage, Field: "selector", Cause: fmt.Sprintf("there is no job %q", item),
			Remedy: "write an id or its first 8 characters, see provost get jobs; to choose by a column write it, as in state=queued"}
	}
	return nil, &Problem{Code: CodeNoMatch, Exit: ExitUsage, Field: "selector", Cause: fmt.Sprintf("%d jobs begin with %q", len(begin), item), Remedy: "write more of the id"}
}
