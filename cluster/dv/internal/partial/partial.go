// Package partial gathers partial signatures of the nodes until enough of them are there.
//
// Of each share only the first partial for a duty and validator counts; the same once more is no
// news and a different one is an error that names the share. When exactly a threshold of partials
// signs the same root, they are handed out, once for the duty and validator, whatever comes later.
// Everything is in memory and dropped at the duty's deadline, so the store is bounded by duties
// alive x validators x shares. Partials must have been verified before they come here.
//
// A Store may be used from any goroutine; no call blocks. It doesn't know time: its owner calls Drop.
package partial

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"app.provost/cluster"
)

// ErrDifferent means that a share signed something else before: its node is faulty, or two copies
// of it run.
var ErrDifferent = errors.New("the share already signed something else for this duty: its node is faulty or runs twice")

// ErrTooMany means that a share holds as many never-ending duties of a validator as it may.
var ErrTooMany = errors.New("the share has too many duties of this kind open for this validator")

// maxOpen bounds duties without a deadline, which nobody drops, per share, validator and type.
const maxOpen = 10

// Ready holds, per validator, a threshold of partials that sign the same root, by ascending share.
type Ready map[cluster.PubKey][]cluster.ParSignedData

// Options say when partials are enough. All are required.
type Options struct {
	Threshold cluster.Threshold
	// Root is the root that a partial signs.
	Root func(cluster.Duty, cluster.PubKey, cluster.ParSignedData) (cluster.Root, error)
	// Ends tells whether somebody will call Drop for the duty.
	Ends func(cluster.Duty) bool
}

// Store holds partials by duty, validator and share.
type Store struct {
	o Options

	mu     sync.Mutex
	duties map[cluster.Duty]map[cluster.PubKey]*entry
	open   map[openKey]int
}

type entry struct {
	byShare map[cluster.ShareIndex]held
	handed  bool
}

type held struct {
	root cluster.Root
	data cluster.ParSignedData
}

type openKey struct {
	kind  cluster.DutyType
	key   cluster.PubKey
	share cluster.ShareIndex
}

// New returns an empty store.
func New(o Options) (*Store, error) {
	if o.Threshold < 1 || o.Root == nil || o.Ends == nil {
		return nil, errors.New("make a store of partial signatures: Threshold, Root and Ends are required")
	}
	return &Store{o: o, duties: map[cluster.Duty]map[cluster.PubKey]*entry{}, open: map[openKey]int{}}, nil
}

// Add takes verified partials and returns the validators whose signature is now complete. What is
// wrong with one validator's partial doesn't keep out the others'; the errors are joined, each
// names its share and wraps ErrDifferent, ErrTooMany or the error of Root.
func (s *Store) Add(duty cluster.Duty, set cluster.ParSignedDataSet) (Ready, error) {
	roots := make(map[cluster.PubKey]cluster.Root, len(set))
	var errs []error
	for key, p := range set {
		root, err := s.o.Root(duty, key, p)
		if err != nil {
			errs = append(errs, fmt.Errorf("take partial signature of share %d for %s of %s: %w", p.Share, duty, key, err))
			continue
		}
		roots[key] = root
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var ready Ready
	for key, root := range roots {
		done, err := s.addLocked(duty, key, root, set[key])
		if err != nil {
			errs = append(errs, fmt.Errorf("take partial signature of share %d for %s of %s: %w", set[key].Share, duty, key, err))
		}
		if done != nil {
			if ready == nil {
				ready = Ready{}
			}
			ready[key] = done
		}
	}
	return ready, errors.Join(errs...)
}

func (s *Store) addLocked(duty cluster.Duty, key cluster.PubKey, root cluster.Root, p cluster.ParSignedData) ([]cluster.ParSignedData, error) {
	e := s.duties[duty][key]
	if e != nil {
		if old, ok := e.byShare[p.Share]; ok {
			if old.root == root && old.data.Signature == p.Signature {
				return nil, nil
			}
			return nil, ErrDifferent
		}
	}
	if !s.o.Ends(duty) {
		k := openKey{duty.Type, key, p.Share}
		if s.open[k] >= maxOpen {
			return nil, ErrTooMany
		}
		s.open[k]++
	}
	if e == nil {
		e = &entry{byShare: map[cluster.ShareIndex]held{}}
		if s.duties[duty] == nil {
			s.duties[duty] = map[cluster.PubKey]*entry{}
		}
		s.duties[duty][key] = e
	}
	e.byShare[p.Share] = held{root, p}
	if e.handed {
		return nil, nil
	}
	var same []cluster.ParSignedData
	for _, share := range slices.Sorted(maps.Keys(e.byShare)) {
		if h := e.byShare[share]; h.root == root {
			same = append(same, h.data)
		}
	}
	if len(same) != int(s.o.Threshold) {
		return nil, nil
	}
	e.handed = true
	return same, nil
}

// Shares lists, per validator, whose partials are there, by ascending share.
func (s *Store) Shares(duty cluster.Duty) map[cluster.PubKey][]cluster.ShareIndex {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[cluster.PubKey][]cluster.ShareIndex, len(s.duties[duty]))
	for key, e := range s.duties[duty] {
		out[key] = slices.Sorted(maps.Keys(e.byShare))
	}
	return out
}

// Split lists the validators for whom shares signed several roots.
func (s *Store) Split(duty cluster.Duty) []cluster.PubKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []cluster.PubKey
	for key, e := range s.duties[duty] {
		roots := map[cluster.Root]bool{}
		for _, h := range e.byShare {
			roots[h.root] = true
		}
		if len(roots) > 1 {
			out = append(out, key)
		}
	}
	return out
}

// Drop forgets a duty.
func (s *Store) Drop(duty cluster.Duty) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.o.Ends(duty) {
		for key, e := range s.duties[duty] {
			for share := range e.byShare {
				k := openKey{duty.Type, key, share}
				if s.open[k]--; s.open[k] <= 0 {
					delete(s.open, k)
				}
			}
		}
	}
	delete(s.duties, duty)
}
