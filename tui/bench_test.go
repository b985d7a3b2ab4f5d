package tui

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
				p := newPictures()
				b.ReportAllocs()
				for b.Loop() {
					s.m.dirty = true
					p.begin()
					s.m.View()
					p.end()
				}
				p.report(b)
			})
		}
	}
}

// pictures times pictures: by the wall, and by the processor time of the thread
// that draws, which other work on the machine does not lengthen.
type pictures struct {
	wall, cpu []time.Duration
	start     time.Time
	spent     time.Duration
}

func newPictures() *pictures {
	runtime.LockOSThread() // the benchmark's goroutine ends with it
	return &pictures{}
}

func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func (p *pictures) begin() { p.start, p.spent = time.Now(), threadTime() }

func (p *pictures) end() {
	p.cpu = append(p.cpu, threadTime()-p.spent)
	p.wall = append(p.wall, time.Since(p.start))
}

// report says the times that 99 of 100 pictures stay below.
func (p *pictures) report(b *testing.B) {
	slices.Sort(p.wall)
	slices.Sort(p.cpu)
	n := len(p.wall) * 99 / 100
	b.ReportMetric(float64(p.wall[n].Nanoseconds())/1000, "p99-us")
	b.ReportMetric(float64(p.cpu[n].Nanoseconds())/1000, "cpu-p99-us")
}

// BenchmarkUpdate is a new snapshot with every tenth row changed: counted,
// sorted by the column that changed, filtered and drawn.
func BenchmarkUpdate(b *testing.B) {
	for _, id := range []page.ID{page.Overview, page.Workers} {
		for _, rows := range []int{256, 2048, 20000} {
			b.Run(fmt.Sprintf("%s/%d", id, rows), func(b *testing.B) {
				s := benchStage(b, id, rows)
				if t, ok := s.m.page().(page.Table); ok {
					if err := t.Sort("cpu", true); err != nil {
						b.Fatal(err)
					}
				}
				snaps := variants(s.m.snap)
				i := 0
				p := newPictures()
				b.ReportAllocs()
				for b.Loop() {
					s.now = s.now.Add(6 * time.Second) // a live column reorders at most every 5 s
					p.begin()
					s.m.bridge.put(engine.Update{Snapshot: snaps[i%len(snaps)]})
					i++
					s.m.fed()
					s.m.View()
					p.end()
				}
				p.report(b)
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

// BenchmarkBytes is what goes over the line for a picture: when only the clock
// moved, when every tenth worker did, and when the cursor went down by a page.
// lines-B is what bubbletea would have sent for every tenth: whole lines.
func BenchmarkBytes(b *testing.B) {
	for _, wh := range [][2]int{{80, 24}, {120, 40}, {200, 50}} {
		b.Run(fmt.Sprintf("%dx%d", wh[0], wh[1]), func(b *testing.B) {
			s := newStage(b, script(2048)).pull().size(wh[0], wh[1])
			s.m.Go(page.Workers, "")
			base := s.m.View()
			snaps := variants(s.m.snap)
			var clock, tenth, down, lines int
			var d differ
			d.frame(painted("", base, wh[0]))
			sent := func(before, after string) int { return len(d.frame(painted(before, after, wh[0]))) }
			for b.Loop() {
				s.now = s.now.Add(time.Second)
				s.send(tickMsg(s.now))
				next := s.m.View()
				clock = sent(base, next)
				s.show(engine.Update{Snapshot: snaps[1]})
				moved := s.m.View()
				lines = len(painted(next, moved, wh[0]))
				tenth = sent(next, moved)
				s.keys("pgdown")
				paged := s.m.View()
				down = sent(moved, paged)
				s.keys("home")
				s.now = curtain
				s.show(engine.Update{Snapshot: snaps[0]})
				base = s.m.View()
				sent(paged, base)
			}
			b.ReportMetric(float64(lines), "lines-B")
			b.ReportMetric(float64(clock), "clock-B")
			b.ReportMetric(float64(tenth), "tenth-B")
			b.ReportMetric(float64(down), "page-B")
		})
	}
}
