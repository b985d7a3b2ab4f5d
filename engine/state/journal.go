package state

import (
	"time"

	"app.provost/engine"
)

// Note is a journal entry that nobody waits for. Its number is given by the journal.
type Note struct{ Entry engine.Entry }

func (Note) slot() slot { return slot{} }
func (n Note) fold(m *model, now time.Time) {
	m.note(now, n.Entry)
	m.queue[len(m.queue)-1].told = true
}

// record is entries whose teller waits.
type record struct {
	entries []engine.Entry
	err     error
	done    chan struct{}
}

func (*record) slot() slot { return slot{} }
func (r *record) fold(m *model, now time.Time) {
	for i := range r.entries {
		if r.entries[i].At.IsZero() {
			r.entries[i].At = now
		}
	}
	m.queue = append(m.queue, waiting{entries: r.entries, record: r, told: true})
}

// waiting is what waits for the disk: entries, or another small write.
type waiting struct {
	entries []engine.Entry
	record  *record      // nil: nobody waits
	told    bool         // counts against the bound of records
	write   func() error // instead of entries
}

// batch is one visit to the disk.
type batch struct {
	items []waiting
	err   error
}

// note queues an entry of the model's own.
func (m *model) note(now time.Time, e engine.Entry) {
	if e.At.IsZero() {
		e.At = now
	}
	if e.Level == "" {
		e.Level = engine.LevelNote
	}
	m.queue = append(m.queue, waiting{entries: []engine.Entry{e}})
}

func (m *model) hasWork() bool    { return len(m.queue) > 0 }
func (m *model) nextBatch() batch { return batch{items: m.queue} }
func (m *model) took(b batch)     { m.queue = append([]waiting(nil), m.queue[len(b.items):]...) }

func (m *model) waitingEntries() (n int) {
	for _, w := range m.queue {
		n += len(w.entries)
	}
	return n
}

// failRecords tells everyone who still waits for the disk.
func (m *model) failRecords(err error) {
	for _, w := range m.queue {
		if w.record != nil {
			w.record.err = err
			close(w.record.done)
		}
	}
	m.queue = nil
}

// write is the goroutine that waits for the disk, so that the loop does not.
func (s *State) write(in <-chan batch, out chan<- batch) {
	for b := range in {
		var entries []engine.Entry
		for _, w := range b.items {
			entries = append(entries, w.entries...)
		}
		if len(entries) > 0 {
			var numbered []engine.Entry
			if numbered, b.err = s.o.Journal.Append(entries...); b.err == nil {
				for i, w := range b.items {
					b.items[i].entries, numbered = numbered[:len(w.entries):len(w.entries)], numbered[len(w.entries):]
				}
			}
		}
		for _, w := range b.items {
			if w.write != nil {
				if err := w.write(); err != nil {
					s.o.Logger.Warn("keep mark of alert", "err", err) // it is only asked for again after a restart
				}
			}
		}
		out <- b
	}
}

// written takes what came back from the disk. Entries that it refused wait for
// another try, but those of a teller who waits: he is told, and asks again himself.
func (s *State) written(m *model, b batch) {
	if failing := b.err != nil; s.journalErr.Swap(failing) != failing {
		if failing {
			s.o.Logger.Error("write journal: entries wait", "err", b.err)
		} else {
			s.o.Logger.Info("the journal is written again")
		}
	}
	through := 0
	var again []waiting
	for _, w := range b.items {
		switch {
		case b.err == nil:
			m.keep(w.entries)
		case w.record == nil && w.write == nil:
			again = append(again, w)
			continue
		}
		if w.record != nil {
			w.record.err = b.err
			if b.err == nil {
				w.record.entries = w.entries
			}
			close(w.record.done)
		}
		if w.told {
			through++
		}
	}
	m.queue = append(again, m.queue...)
	// Entries of the model's own are bounded here; what was told is bounded in the inbox.
	if extra := len(m.queue) - 2*maxRecords; extra > 0 {
		for _, w := range m.queue[:extra] {
			if w.told {
				through++
			}
			if w.record != nil {
				w.record.err = b.err
				close(w.record.done)
			}
		}
		m.queue = m.queue[extra:]
		s.in.drop(extra)
	}
	s.in.settle(through)
}

// keep puts durable entries where feeds find them.
func (m *model) keep(entries []engine.Entry) {
	for _, e := range entries {
		if e.N != m.last+1 {
			m.tail = nil // somebody else wrote in between: what follows is without gaps again
		}
		if n := m.o.TailEntries; len(m.tail) >= 2*n {
			// A new array: publications still hold the old one.
			m.tail = append(make([]engine.Entry, 0, 2*n), m.tail[len(m.tail)-n+1:]...)
		}
		m.tail = append(m.tail, e)
		m.last = e.N
		m.entriesNew = true
	}
}
