package widget

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/prover"
	"app.provost/tui/theme"
)

func buffer(t testing.TB, w, h int) *Buffer {
	t.Helper()
	th, err := theme.ByName("term")
	if err != nil {
		t.Fatal(err)
	}
	b := NewBuffer(th, theme.Unicode)
	b.Resize(w, h)
	return b
}

func TestWidth(t *testing.T) {
	for s, want := range map[string]int{"": 0, "abc": 3, "●…─▂‖◐▏": 7, "日本": 4, "e\u0301": 1, "a\x1b[31mb\n": 6, "°": 1, "\u0085": 0, "👍": 2} {
		if got := Width(s); got != want {
			t.Errorf("%q is %d wide, want %d", s, got, want)
		}
		if got := WidthBytes([]byte(s)); got != want {
			t.Errorf("bytes of %q are %d wide, want %d", s, got, want)
		}
	}
}

// TestTextStaysInside: nothing leaves its rectangle, cut texts say so, and control
// characters and wide ones break no column.
func TestTextStaysInside(t *testing.T) {
	b := buffer(t, 10, 3)
	b.Text(Rect{2, 1, 5, 1}, "abcdefghij", theme.Text.S())
	if got := b.Lines()[1]; got != "  abcd…" {
		t.Errorf("%q", got)
	}
	b.Resize(10, 3)
	b.Text(Rect{2, 1, 5, 1}, "日本語日本語", theme.Text.S())
	if got := b.Lines()[1]; Width(got) > 7 || !strings.HasPrefix(got, "  日本") {
		t.Errorf("%q", got)
	}
	b.Resize(10, 1)
	b.Text(b.All(), "a\x1b[2J\tb\r\nc", theme.Text.S())
	if got := b.Lines()[0]; got != "a[2Jbc" {
		t.Errorf("control characters came through: %q", got)
	}
	// Rectangles off the screen are harmless.
	for _, r := range []Rect{{-5, -5, 3, 3}, {20, 20, 5, 5}, {8, 0, 50, 1}, {0, 0, 0, 0}, {-2, 0, 5, 1}, {0, -1, 5, 1}, {3, 0, -4, 2}} {
		b.Text(r, "hello world", theme.Text.S())
		b.Fill(r, 'x', theme.Text.S())
		b.Box(r, "title", "note")
		b.Mark(r, theme.Selected)
		b.Bar(r, 0.5, theme.Text.S())
		b.Rune(r, 'x', theme.Text.S())
		b.Right(r, "right", theme.Text.S())
		b.Spark(r, []*float64{nil}, 0, theme.Text.S())
	}
}

func TestColumnsCoverWithoutGaps(t *testing.T) {
	for w := range 50 {
		for n := 1; n < 5; n++ {
			x := 0
			for _, r := range (Rect{0, 0, w, 1}).Columns(n) {
				if r.X != x {
					t.Fatalf("%d in %d: a gap at %d", w, n, x)
				}
				x += r.W
			}
			if x != w {
				t.Fatalf("%d in %d columns ends at %d", w, n, x)
			}
		}
	}
}

func TestString(t *testing.T) {
	b := buffer(t, 6, 3)
	b.Text(b.All(), "ab", theme.Crit.S())
	b.Text(b.All().Line(2), "c", theme.Text.S())
	if got, want := b.String(), "\x1b[0;1;31mab\x1b[0m\n\nc"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestInput(t *testing.T) {
	var in Input
	in.Insert("pause w1\n:down\n")
	if in.Value() != "pause w1 :down" {
		t.Errorf("%q", in.Value())
	}
	for _, k := range []string{"ctrl+w", "backspace", "home", "delete", "right", "ctrl+u"} {
		if !in.Key(k) {
			t.Errorf("%s is no editing key", k)
		}
	}
	if in.Value() != "use w1" {
		t.Errorf("%q", in.Value())
	}
	if in.Key("enter") || in.Key("esc") || in.Key("tab") {
		t.Error("keys of the owner were taken")
	}
	in = Input{Max: 3}
	in.Insert("abcdef")
	if in.Value() != "abc" {
		t.Errorf("%q is longer than the limit", in.Value())
	}
	b := buffer(t, 5, 1)
	in = Input{}
	in.Insert("0123456789")
	in.Render(b, b.All(), true)
	if got := b.Lines()[0]; got != "6789▏" {
		t.Errorf("a long text is shown as %q", got)
	}
}

func snapshot(version uint64, cpu ...float64) *engine.Snapshot {
	s := &engine.Section[engine.WorkerRow]{Version: version}
	for i, v := range cpu {
		id := prover.WorkerFor(prover.Core(i + 1))
		row := engine.WorkerRow{Key: engine.Key{Machine: "m1", ID: string(id)}, ID: id, Core: prover.Core(i + 1), State: engine.WorkerRun}
		if v >= 0 {
			row.CPUPercent = &v
		}
		s.Rows = append(s.Rows, row)
	}
	return &engine.Snapshot{Workers: s}
}

func shownIDs(t *Table) string {
	var out []string
	for _, i := range t.shown {
		out = append(out, t.table.ID(t.row(i)))
	}
	return strings.Join(out, " ")
}

func TestTable(t *testing.T) {
	at := time.Unix(1000, 0)
	table, _ := engine.TableNamed("workers")
	x := NewTable(table, Layout{Name: "id", Width: 5}, Layout{Name: "cpu", Width: 4})
	x.SortBy = "cpu"
	x.Sync(snapshot(1, 30, 10, -1, 20), at)
	if got := shownIDs(x); got != "w2 w4 w1 w3" {
		t.Errorf("sorted: %s; unknown comes last", got)
	}
	x.Reverse = true
	x.Changed()
	x.Sync(snapshot(1, 30, 10, -1, 20), at)
	if got := shownIDs(x); got != "w1 w4 w2 w3" {
		t.Errorf("reversed: %s; unknown comes last either way", got)
	}
	x.Select(engine.Key{Machine: "m1", ID: "w2"})
	// A noisy column does not reorder within five seconds, then it does; the cursor follows.
	x.Sync(snapshot(2, 1, 99, -1, 20), at.Add(time.Second))
	if got := shownIDs(x); got != "w1 w4 w2 w3" {
		t.Errorf("reordered after a second: %s", got)
	}
	x.Sync(snapshot(3, 1, 99, -1, 20), at.Add(6*time.Second))
	if got := shownIDs(x); got != "w2 w4 w1 w3" {
		t.Errorf("not reordered after six seconds: %s", got)
	}
	if id := table.ID(x.Current()); id != "w2" {
		t.Errorf("the cursor is on %s", id)
	}
	x.MarkShown()
	if got := x.Sync(snapshot(4, 1), at.Add(20*time.Second)); got != "w2 left the list" {
		t.Errorf("said %q", got)
	}
	if x.Marks() != 1 {
		t.Errorf("%d marks on 1 row", x.Marks())
	}
	f, err := engine.CompileFilter(table, "cpu>50")
	if err != nil {
		t.Fatal(err)
	}
	x.SetFilter(f)
	x.Sync(snapshot(5, 1, 60, 70), at.Add(30*time.Second))
	if got := shownIDs(x); got != "w3 w2" {
		t.Errorf("filtered: %s", got)
	}
	x.Sync(snapshot(6), at.Add(40*time.Second))
	if x.Current() != nil {
		t.Error("a row under the cursor of an empty table")
	}
}

// TestTableMovesWithinRows: any number of moves stays inside, with any number of rows.
func TestTableMovesWithinRows(t *testing.T) {
	table, _ := engine.TableNamed("workers")
	for n := range 4 {
		x := NewTable(table)
		x.Sync(snapshot(1, make([]float64, n)...), time.Unix(0, 0))
		b := buffer(t, 40, 3)
		for _, step := range []int{1, -1, 100, -100, 1 << 30, -1 << 30, 2} {
			x.Move(step, time.Unix(0, 0))
			x.Render(b, b.All(), time.Unix(0, 0))
			if (x.Current() != nil) != (n > 0) {
				t.Errorf("%d rows, moved by %d: current is %v", n, step, x.Current())
			}
		}
		x.Mark(time.Unix(0, 0))
		x.Range()
		x.Move(1, time.Unix(0, 0))
		x.NextSort(1)
		x.Scroll(3)
		x.Render(b, b.All(), time.Unix(0, 0))
	}
}

// BenchmarkTable is 46 visible rows of many, 120 wide: the table alone.
func BenchmarkTable(b *testing.B) {
	table, _ := engine.TableNamed("workers")
	for _, n := range []int{2048, 20000} {
		x := NewTable(table, Layout{Name: "id"}, Layout{Name: "host"}, Layout{Name: "state"}, Layout{Name: "cpu"}, Layout{Name: "rss"}, Layout{Name: "rst"}, Layout{Name: "age"}, Layout{Name: "note", Flex: true})
		now := time.Unix(1000, 0)
		x.Sync(snapshot(1, make([]float64, n)...), now)
		buf := buffer(b, 120, 47)
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.Render(buf, buf.All(), now)
			}
		})
	}
}

// TestSortNumbers: the order by numbers is that of comparing them, unknown last
// either way, equals by their key.
func TestSortNumbers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		cpu := make([]float64, rnd.IntN(40))
		for i := range cpu {
			cpu[i] = float64(rnd.IntN(7)) - 1 // -1: unknown
			if rnd.IntN(4) == 0 {
				cpu[i] = rnd.Float64() * 1e6
			}
		}
		for _, reverse := range []bool{false, true} {
			table, _ := engine.TableNamed("workers")
			tab := NewTable(table)
			tab.SortBy, tab.Reverse = "cpu", reverse
			tab.Sync(snapshot(1, cpu...), time.Unix(1000, 0))
			for i := 1; i < len(tab.shown); i++ {
				a, b := tab.shown[i-1], tab.shown[i]
				x, y := cpu[a], cpu[b]
				ok := x < 0 && y < 0 && a < b || x >= 0 && y < 0 || x >= 0 && y >= 0 && (x == y && a < b || x < y && !reverse || x > y && reverse)
				if !ok {
					t.Fatalf("%v, reverse %v: %v stands before %v", cpu, reverse, x, y)
				}
			}
		}
	}
}
