// Package decided remembers what the cluster settled for a duty: the data that the nodes agreed on,
// and the group's signatures.
//
// Data is settled once. Other data for the same duty and validator is refused, whoever says so:
// that is the first wall against signing two things, in memory only; slashing protection on disk is
// the second. Readers may wait for what isn't there yet. Everything is dropped at the duty's
// deadline, so the store is bounded by duties alive x validators.
//
// A Store may be used from any goroutine. Only Await blocks, until its context ends or the duty is
// dropped. Values that go in and come out are shared and must not be changed.
package decided

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"app.provost/cluster"
)

// Errors of this package, wrapped with duty and validator.
var (
	ErrDifferent = errors.New("the cluster already settled something else for this duty: nothing is signed")
	ErrDropped   = errors.New("the duty ended before this was settled")
)

// Store holds settled data and signatures.
type Store struct {
	mu     sync.Mutex
	data   map[cluster.Duty]cluster.UnsignedDataSet
	signed map[cluster.Duty]*result
}

type result struct {
	set     cluster.SignedDataSet
	changed chan struct{} // closed and replaced at each change
	dropped bool
	waiting int
}

// New returns an empty store.
func New() *Store {
	return &Store{data: map[cluster.Duty]cluster.UnsignedDataSet{}, signed: map[cluster.Duty]*result{}}
}

// Settle stores what the nodes agreed on. It takes all of the set or, with ErrDifferent, nothing.
// The same data once more is no error.
func (s *Store) Settle(duty cluster.Duty, set cluster.UnsignedDataSet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.data[duty]
	for key, data := range set {
		if old, ok := have[key]; ok && !bytes.Equal(old, data) {
			return fmt.Errorf("settle %s of %s: %w", duty, key, ErrDifferent)
		}
	}
	if have == nil {
		have = make(cluster.UnsignedDataSet, len(set))
		s.data[duty] = have
	}
	maps.Copy(have, set)
	return nil
}

// Data returns what the nodes agreed on, nil when they didn't yet.
func (s *Store) Data(duty cluster.Duty) cluster.UnsignedDataSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.data[duty])
}

// Complete stores verified group signatures and wakes who waits for them. Another signature for the
// same duty and validator is refused with ErrDifferent; the others of the set are stored.
func (s *Store) Complete(duty cluster.Duty, set cluster.SignedDataSet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.resultLocked(duty)
	var errs []error
	changed := false
	for key, d := range set {
		if old, ok := r.set[key]; ok {
			if old.Signature != d.Signature {
				errs = append(errs, fmt.Errorf("complete %s of %s: %w", duty, key, ErrDifferent))
			}
			continue
		}
		r.set[key], changed = d, true
	}
	if changed {
		close(r.changed)
		r.changed = make(chan struct{})
	}
	return errors.Join(errs...)
}

func (s *Store) resultLocked(duty cluster.Duty) *result {
	r := s.signed[duty]
	if r == nil {
		r = &result{set: cluster.SignedDataSet{}, changed: make(chan struct{})}
		s.signed[duty] = r
	}
	return r
}

// Await waits until the group's signature of a validator is there. Errors wrap ErrDropped or the
// context's.
func (s *Store) Await(ctx context.Context, duty cluster.Duty, key cluster.PubKey) (cluster.SignedData, error) {
	s.mu.Lock()
	r := s.resultLocked(duty)
	r.waiting++
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		// Waiting for a duty that nobody drops must not keep it.
		if r.waiting--; r.waiting == 0 && len(r.set) == 0 && s.signed[duty] == r {
			delete(s.signed, duty)
		}
	}()
	for {
		d, ok := r.set[key]
		changed, dropped := r.changed, r.dropped
		s.mu.Unlock()
		if ok {
			return d, nil
		}
		if dropped {
			return cluster.SignedData{}, fmt.Errorf("wait for %s of %s: %w", duty, key, ErrDropped)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return cluster.SignedData{}, fmt.Errorf("wait for %s of %s: %w", duty, key, context.Cause(ctx))
		}
		s.mu.Lock()
	}
}

// Drop forgets a duty; who waits for it is told so.
func (s *Store) Drop(duty cluster.Duty) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.data, duty)
	if r := s.signed[duty]; r != nil {
		r.dropped = true
		close(r.changed)
		r.changed = make(chan struct{})
		delete(s.signed, duty)
	}
}
