package scripted

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/enginetest"
)

// driver puts things beside a script that stands still and has nobody in it.
type driver struct {
	e    *Engine
	stop func()
}

func (d driver) change(fn func(s *script)) {
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	fn(d.e.s)
	d.e.s.dirty = true
}

func (d driver) PutWorker(row engine.WorkerRow) {
	d.change(func(s *script) {
		rows := slices.Clone(s.beside.workers)
		if i := slices.IndexFunc(rows, func(r engine.WorkerRow) bool { return r.Key == row.Key }); i >= 0 {
			rows[i] = row
		} else {
			rows = append(rows, row)
		}
		s.beside.workers = rows
		s.touch(engine.SecWorkers)
	})
}

func (d driver) Raise(r engine.Raise) {
	d.change(func(s *script) {
		if slices.ContainsFunc(s.trouble, func(t *trouble) bool { return t.f.Code == r.Code && t.f.Key == r.Key && t.to > s.at }) {
			return
		}
		s.raise(&trouble{from: s.at, to: never, f: engine.Finding{Code: r.Code, Key: r.Key, Target: r.Target, Level: engine.LevelCrit, Title: "told by a test"}})
		s.flush()
		s.touch(engine.SecAlerts, engine.SecVerdict)
	})
}

func (d driver) Clear(code engine.Code, key engine.Key) {
	d.change(func(s *script) {
		for _, t := range s.trouble {
			if t.f.Code == code && t.f.Key == key {
				t.to = s.at
			}
		}
		s.touch(engine.SecAlerts, engine.SecVerdict)
	})
}

func (d driver) Record(entries ...engine.Entry) {
	d.change(func(s *script) {
		for _, en := range entries {
			en.At = s.wall(s.at)
			s.log(en)
		}
	})
}

func (d driver) TrimJournal(first uint64) bool {
	d.change(func(s *script) {
		s.journal = slices.Clone(s.journal[slices.IndexFunc(s.journal, func(en engine.Entry) bool { return en.N == first }):])
	})
	d.e.mu.Lock()
	defer d.e.mu.Unlock()
	d.e.publishLocked(false) // what feeds see is what is kept
	return true
}

func (d driver) Log(l engine.LogLine) {
	d.change(func(s *script) {
		if l.At == nil {
			l.At = s.wallp(s.at)
		}
		s.beside.lines = append(s.beside.lines, l)
	})
}

func (d driver) Stop() { d.stop() }

// TestConformance holds the script to what every engine must do.
func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) (engine.Engine, enginetest.Driver) {
		at := time.Duration(0)
		e := New(Options{Workers: -1, Hosts: 1, GPUs: -1, Validators: -1, Still: &at})
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { e.Run(ctx) })
		stop := func() { cancel(); wg.Wait() }
		t.Cleanup(stop)
		return e, driver{e, stop}
	})
}
