package tui

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/tui/page"
)

func benchStage(b *testing.B, id page.ID, rows int) *stage {
	s := newStage(b, script(rows)).pull().size(200, 50)
	s.m.Go(id, "")
	s.m.dirty = true
	s.m.View()
	return s
}

// BenchmarkFrame is one picture from a snapshot that is there: what a key press
// or the clock costs.
func BenchmarkFrame(b *testing.B) {
	for _, id := range []page.ID{page.Overview, page.Workers} {
		for _, rows := range []int{256, 2048, 20000} {
			b.Run(fmt.Sprintf("%s/%d", id, rows), func(b *testing.B) {
				s := benchStage(b, id, rows)
				var worst time.Duration
				b.ReportAllocs()
				for b.Loop() {
					s.m.dirty = true
					start := time.Now()
					s.m.View()
					worst = max(worst, time.Since(start))
				}
				b.ReportMetric(float64(worst.Microseconds()), "worst-us")
			})
		}
	}
}

// BenchmarkUpdate is a new snapshot with every tenth row changed: counted,
// sorted, filtered and drawn.
func BenchmarkUpdate(b *testing.B) {
	for _, id := range []page.ID{page.Overview, page.Workers} {
		for _, rows := range []int{256, 2048, 20000} {
			b.Run(fmt.Sprintf("%s/%d", id, rows), func(b *testing.B) {
				s := benchStage(b, id, rows)
				snaps := variants(s.m.snap)
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					s.m.bridge.put(engine.Update{Snapshot: snaps[i%len(snaps)]})
					i++
					s.m.fed()
					s.m.View()
				}
			})
		}
	}
}

// variants are two snapshots that differ in every tenth worker.
func variants(s *engine.Snapshot) []*engine.Snapshot {
	out := []*engine.Snapshot{s}
	next := *s
	w := *s.Workers
	w.Version++
	w.Rows = append([]engine.WorkerRow(nil), w.Rows...)
	for i := range w.Rows {
		if i%10 == 0 {
			cpu := 50.0 + float64(i%40)
			w.Rows[i].CPUPercent = &cpu
		}
	}
	next.Gen++
	next.Workers = &w
	return append(out, &next)
}

// BenchmarkKey is the cursor moved by one row.
func BenchmarkKey(b *testing.B) {
	s := benchStage(b, page.Workers, 20000)
	b.ReportAllocs()
	for b.Loop() {
		s.m.Update(keyMsg("j"))
		s.m.pending = nil
		s.m.View()
	}
}

// TestFrameAllocs: what a frame allocates does not grow with the rows.
func TestFrameAllocs(t *testing.T) {
	for _, id := range []page.ID{page.Overview, page.Workers} {
		var counts []float64
		for _, rows := range []int{2048, 20000} {
			s := newStage(t, script(rows)).pull().size(200, 50)
			s.m.Go(id, "")
			s.m.View()
			counts = append(counts, testing.AllocsPerRun(20, func() {
				s.m.dirty = true
				s.m.View()
			}))
		}
		if counts[1] > counts[0]*1.2+20 {
			t.Errorf("%s: %v allocations with 2,048 and 20,000 rows", id, counts)
		}
	}
}

// TestFrameBytes: the picture of a second in which only the clock moved differs
// in one line from the one before; what bubbletea sends is whole lines.
func TestFrameBytes(t *testing.T) {
	s := newStage(t, script(2048)).pull().size(80, 24)
	for _, id := range allViews {
		s.m.Go(id, "")
		before := s.frame()
		s.now = s.now.Add(time.Second)
		s.send(tickMsg(s.now))
		after := s.frame()
		changed := 0
		for i := range before {
			if before[i] != after[i] {
				changed++
			}
		}
		// Ages of sources and countdowns of less than two minutes may move too.
		if limit := 3; changed > limit {
			t.Errorf("%s: a second in which nothing happened changes %d lines", id, changed)
		}
	}
}

// sent is what bubbletea writes to turn one picture into the next: whole lines
// where they differ, a line feed where they do not, home and the last position.
func sent(before, after string) int {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	n := len("\x1b[H") + len("\x1b[24;H")
	for i := range b {
		if i < len(a) && a[i] == b[i] {
			n++
			continue
		}
		n += len(b[i]) + len("\x1b[K\r\n")
	}
	return n
}

// BenchmarkBytes is what goes over the line for a picture: when only the clock
// moved, when every tenth worker did, and when the cursor went down by a page.
func BenchmarkBytes(b *testing.B) {
	for _, wh := range [][2]int{{80, 24}, {120, 40}, {200, 50}} {
		b.Run(fmt.Sprintf("%dx%d", wh[0], wh[1]), func(b *testing.B) {
			s := newStage(b, script(2048)).pull().size(wh[0], wh[1])
			s.m.Go(page.Workers, "")
			base := s.m.View()
			snaps := variants(s.m.snap)
			var clock, tenth, down int
			for b.Loop() {
				s.now = s.now.Add(time.Second)
				s.send(tickMsg(s.now))
				next := s.m.View()
				clock = sent(base, next)
				s.show(engine.Update{Snapshot: snaps[1]})
				moved := s.m.View()
				tenth = sent(next, moved)
				s.keys("pgdown")
				down = sent(moved, s.m.View())
				s.keys("home")
				s.now = curtain
				s.show(engine.Update{Snapshot: snaps[0]})
				base = s.m.View()
			}
			b.ReportMetric(float64(clock), "clock-B")
			b.ReportMetric(float64(tenth), "tenth-B")
			b.ReportMetric(float64(down), "page-B")
		})
	}
}
