// Package send hands what the group signed to the beacon node.
//
// Every node of a cluster sends every result, so what the chain knows already is success, and what
// was taken once isn't sent again when the rest is tried once more. RANDAO reveals end inside: they
// travel in a block.
//
// A Sender may be used from any goroutine; calls block for the beacon node. It is bounded by duties
// alive x validators; its owner calls Drop at a duty's deadline.
package send

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"app.provost/cluster"
)

// ErrUnsendable means that no beacon node takes duties of the type.
var ErrUnsendable = errors.New("nothing is sent for this duty type")

// Options say where things go. Both are required. What is known already counts as taken.
type Options struct {
	// Attestations sends all attestations of a duty at once; refused are those that weren't taken
	// when others were.
	Attestations func(ctx context.Context, duty cluster.Duty, set cluster.SignedDataSet) (refused map[cluster.PubKey]error, err error)
	Proposal     func(ctx context.Context, duty cluster.Duty, key cluster.PubKey, data cluster.SignedData) error
}

// Sender sends and remembers what was taken.
type Sender struct {
	o Options

	mu    sync.Mutex
	taken map[cluster.Duty]map[cluster.PubKey]bool
}

// New checks that nothing is missing.
func New(o Options) (*Sender, error) {
	if o.Attestations == nil || o.Proposal == nil {
		return nil, errors.New("make a sender: Attestations and Proposal are required")
	}
	return &Sender{o: o, taken: map[cluster.Duty]map[cluster.PubKey]bool{}}, nil
}

// Send sends what wasn't taken yet and returns whose objects are taken by now. The error joins why
// the others are not.
func (s *Sender) Send(ctx context.Context, duty cluster.Duty, set cluster.SignedDataSet) ([]cluster.PubKey, error) {
	left := s.left(duty, set)
	var err error
	switch {
	case duty.Type == cluster.DutyRandao || len(left) == 0:
	case duty.Type == cluster.DutyAttester:
		var refused map[cluster.PubKey]error
		if refused, err = s.o.Attestations(ctx, duty, left); err == nil {
			errs := make([]error, 0, len(refused))
			for key, e := range refused {
				errs = append(errs, fmt.Errorf("for %s: %w", key, e))
				delete(left, key)
			}
			err = errors.Join(errs...)
			s.note(duty, left)
		}
	case duty.Type == cluster.DutyProposer:
		var errs []error
		for key, data := range left {
			if e := s.o.Proposal(ctx, duty, key, data); e != nil {
				errs = append(errs, fmt.Errorf("for %s: %w", key, e))
				continue
			}
			s.note(duty, cluster.SignedDataSet{key: data})
		}
		err = errors.Join(errs...)
	default:
		err = ErrUnsendable
	}
	if err != nil {
		err = fmt.Errorf("send %s: %w", duty, err)
	}
	return s.done(duty, set), err
}

func (s *Sender) left(duty cluster.Duty, set cluster.SignedDataSet) cluster.SignedDataSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := maps.Clone(set)
	maps.DeleteFunc(left, func(key cluster.PubKey, _ cluster.SignedData) bool { return s.taken[duty][key] })
	return left
}

func (s *Sender) note(duty cluster.Duty, set cluster.SignedDataSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[duty] == nil {
		s.taken[duty] = map[cluster.PubKey]bool{}
	}
	for key := range set {
		s.taken[duty][key] = true
	}
}

func (s *Sender) done(duty cluster.Duty, set cluster.SignedDataSet) []cluster.PubKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []cluster.PubKey
	for key := range set {
		if s.taken[duty][key] {
			out = append(out, key)
		}
	}
	return out
}

// Drop forgets a duty.
func (s *Sender) Drop(duty cluster.Duty) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.taken, duty)
}
