package state

import (
	"sync"
	"time"

	"app.provost/engine"
)

// Fact is something that a room tells. The set is closed: the exported types of this package.
type Fact interface {
	// slot names what an observation is about: a newer fact of the same slot takes
	// the place of one that waits. The zero slot marks a record, which is never merged.
	slot() slot
	fold(m *model, now time.Time)
}

// merger is a fact that adds to the one it replaces.
type merger interface{ after(older Fact) Fact }

type slot struct {
	kind string
	key  engine.Key
	sub  string
}

// inbox is the bounded queue in front of the loop.
type inbox struct {
	wake chan struct{}

	mu      sync.Mutex // guards the fields below; nothing else is called under it
	facts   []Fact
	at      map[slot]int
	records int
	closed  bool
	merged  uint64
	dropped uint64
}

func (b *inbox) init() {
	b.wake = make(chan struct{}, 1)
	b.at = map[slot]int{}
}

// put reports false when a fact was dropped.
func (b *inbox) put(facts []Fact) bool {
	ok := true
	b.mu.Lock()
	for _, f := range facts {
		at := f.slot()
		switch i, waits := b.at[at]; {
		case b.closed:
			ok = false
		case at == slot{}:
			if b.records >= maxRecords {
				b.dropped++
				ok = false
				continue
			}
			b.records++
			b.facts = append(b.facts, f)
		case waits:
			b.merged++
			if m, can := f.(merger); can {
				f = m.after(b.facts[i])
			}
			b.facts[i] = f
		case len(b.at) >= maxSlots:
			b.dropped++
			ok = false
		default:
			b.at[at] = len(b.facts)
			b.facts = append(b.facts, f)
		}
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return ok
}

// take empties the inbox. Records that wait for the disk go on counting until settled.
func (b *inbox) take() []Fact {
	b.mu.Lock()
	defer b.mu.Unlock()
	facts := b.facts
	b.facts = nil
	clear(b.at)
	for _, f := range facts {
		if f.slot() == (slot{}) && !waitsForDisk(f) {
			b.records--
		}
	}
	return facts
}

func waitsForDisk(f Fact) bool {
	switch f.(type) {
	case Note, *record:
		return true
	}
	return false
}

// settle counts records that are through.
func (b *inbox) settle(n int) {
	b.mu.Lock()
	b.records -= n
	b.mu.Unlock()
}

func (b *inbox) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
}

func (b *inbox) stats() (waiting int, merged, dropped uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.facts), b.merged, b.dropped
}

// barrier is closed with the publication that holds everything told before it.
type barrier struct{ seen chan struct{} }

func (barrier) slot() slot                   { return slot{} }
func (b barrier) fold(m *model, _ time.Time) { m.seen = append(m.seen, b.seen) }

func (b *inbox) drop(n int) {
	b.mu.Lock()
	b.dropped += uint64(n)
	b.mu.Unlock()
}

func (b *inbox) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}
