package store

import (
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	maxWaiting = 4096 // callers that wait for a commit; more wait for a place
	maxBatch   = 1024 // changes in one commit
	tidyEvery  = time.Minute
)

var errClosed = errors.New("the store is closed")

// op is a change on its way to the disk. fn may be run more than once, each time
// in a transaction that holds nothing of the run before.
type op struct {
	fn   func(*bolt.Tx) error
	done chan struct{}
	err  error
}

// update carries out fn and returns when it is on disk. One of the callers that
// wait leads: it commits what has gathered meanwhile in one transaction. So there
// is one fsync for all, no timer and no goroutine, and a lone caller waits for nobody.
func (s *Store) update(doing string, fn func(*bolt.Tx) error) error {
	s.room <- struct{}{}
	defer func() { <-s.room }()
	o := &op{fn: fn, done: make(chan struct{})}
	s.mu.Lock()
	if err := s.refusalLocked(); err != nil {
		s.mu.Unlock()
		return s.problem(doing, err)
	}
	s.queue = append(s.queue, o)
	s.mu.Unlock()

	for {
		select {
		case <-o.done:
		case s.lead <- struct{}{}:
			s.commitNext()
			<-s.lead
			continue
		}
		break
	}
	if o.err != nil {
		return s.problem(doing, o.err)
	}
	return nil
}

func (s *Store) refusalLocked() error {
	if s.closed {
		return errClosed
	}
	return s.failed
}

// commitNext takes what is queued and commits it. The caller leads.
func (s *Store) commitNext() {
	s.mu.Lock()
	if s.refusalLocked() != nil {
		s.mu.Unlock()
		s.refuseQueue()
		return
	}
	n := min(len(s.queue), maxBatch)
	batch := s.queue[:n:n]
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	tidy := time.Since(s.tidied) >= tidyEvery
	if tidy {
		s.tidied = time.Now()
	}
	s.mu.Unlock()
	defer func() {
		for _, o := range batch {
			close(o.done)
		}
	}()

	for live := batch; len(live) > 0; {
		bad, err := s.commit(live, tidy)
		if err == nil {
			return
		}
		if bad >= 0 {
			// This one cannot be done; it must not keep the others from the disk.
			live[bad].err = err
			live = append(append([]*op{}, live[:bad]...), live[bad+1:]...)
			continue
		}
		// The commit itself failed: nothing of it is there.
		for _, o := range live {
			o.err = err
		}
		if !noSpace(err) {
			// After a failed sync the kernel may believe that pages are clean which
			// never reached the disk: trying again could acknowledge what is not there.
			s.mu.Lock()
			s.failed = fmt.Errorf("an earlier write failed (%w); restart the engine", err)
			s.mu.Unlock()
		}
		return
	}
}

// commit runs the changes in one transaction. bad is the one that failed, or -1.
func (s *Store) commit(live []*op, tidy bool) (bad int, err error) {
	bad = -1
	start := time.Now()
	err = guarded(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			for i, o := range live {
				if err := o.fn(tx); err != nil {
					bad = i
					return err
				}
			}
			if tidy {
				return s.tidy(tx)
			}
			return nil
		})
	})
	took := time.Since(start)
	if err == nil {
		s.mu.Lock()
		s.counts.Commits++
		s.counts.Changes += uint64(len(live))
		s.counts.Slowest = max(s.counts.Slowest, took)
		s.mu.Unlock()
	}
	if took > s.o.SlowAfter && s.o.Slow != nil {
		s.o.Slow(took)
	}
	return bad, err
}

func (s *Store) refuseQueue() {
	s.mu.Lock()
	queue, err := s.queue, s.refusalLocked()
	s.queue = nil
	s.mu.Unlock()
	for _, o := range queue {
		o.err = err
		close(o.done)
	}
}
