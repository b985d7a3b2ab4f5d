package store

import (
	"encoding/binary"
	"time"

	"app.provost/engine"
	bolt "go.etcd.io/bbolt"
)

// tidyAtMost bounds what one commit trims, so that no caller waits for long.
const tidyAtMost = 1000

// Append numbers entries and makes them durable, all or none. Numbers start at 1,
// have no gaps and are never used again. An entry without a time gets now. It
// returns the entries as they are kept.
func (s *Store) Append(entries ...engine.Entry) ([]engine.Entry, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	out := make([]engine.Entry, len(entries))
	err := s.update("write journal", func(tx *bolt.Tx) error {
		b := tx.Bucket(bJournal)
		b.FillPercent = 0.95 // keys only ever grow
		for i, e := range entries {
			n, err := b.NextSequence()
			if err != nil {
				return err
			}
			e.N = n
			if e.At.IsZero() {
				e.At = time.Now()
			}
			e.At = e.At.UTC().Round(0)
			if err := put(b, number(n), e); err != nil {
				return err
			}
			out[i] = e
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Entries gives up to limit entries numbered above after, in order, and the
// bounds of the journal at that moment: entries first to last are kept.
// An empty journal has first == last+1.
func (s *Store) Entries(after uint64, limit int) (entries []engine.Entry, first, last uint64, err error) {
	err = s.view("read journal", func(tx *bolt.Tx) error {
		b := tx.Bucket(bJournal)
		first, last = bounds(b)
		if limit < 1 || after >= last {
			return nil
		}
		c := b.Cursor()
		for k, v := c.Seek(number(after + 1)); k != nil && len(entries) < limit; k, v = c.Next() {
			var e engine.Entry
			if err := read(k, v, &e); err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, first, last, err
}

func bounds(b *bolt.Bucket) (first, last uint64) {
	last = b.Sequence()
	first = last + 1
	if k, _ := b.Cursor().First(); k != nil {
		first = binary.BigEndian.Uint64(k)
	}
	return first, last
}

// tidy trims journal, receipts, ended jobs and ended acts to their bounds, a little each time.
func (s *Store) tidy(tx *bolt.Tx) error {
	now := time.Now()
	b := tx.Bucket(bJournal)
	first, last := bounds(b)
	c := b.Cursor()
	k, v := c.First()
	for n := 0; k != nil && n < tidyAtMost; n++ {
		if last-first+1 <= s.o.JournalEntries {
			var e engine.Entry
			if err := read(k, v, &e); err != nil {
				return err
			}
			if now.Sub(e.At) <= s.o.JournalAge {
				break
			}
		}
		if err := c.Delete(); err != nil {
			return err
		}
		first++
		k, v = c.Seek(number(first)) // after Delete a cursor may stand on the next key already
	}
	if err := s.tidyReceipts(tx, now); err != nil {
		return err
	}
	if err := s.tidyJobs(tx); err != nil {
		return err
	}
	return s.tidyActs(tx)
}
