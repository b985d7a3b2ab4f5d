package enginetest

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"app.provost/engine"
)

// Store is the in-memory twin of the engine's store, as far as state and act need
// one: journal, ledger with receipts, marks. All methods may be called from any goroutine.
type Store struct {
	mu       sync.Mutex // guards all below
	err      error
	first    uint64
	entries  []engine.Entry
	rows     []engine.ActRow
	requests [][]byte
	receipts map[string]heldReceipt
	docs     map[string][]byte
}

type heldReceipt struct {
	receipt engine.Receipt
	action  []byte
	problem *engine.Problem
}

// NewStore makes an empty one.
func NewStore() *Store {
	return &Store{first: 1, receipts: map[string]heldReceipt{}, docs: map[string][]byte{}}
}

// Break lets every write fail with err from now on; nil mends it.
func (s *Store) Break(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Append numbers and keeps entries.
func (s *Store) Append(entries ...engine.Entry) ([]engine.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	out := slices.Clone(entries)
	for i := range out {
		out[i].N = s.first + uint64(len(s.entries))
		if out[i].At.IsZero() {
			out[i].At = time.Now()
		}
		out[i].At = out[i].At.UTC().Round(0)
		s.entries = append(s.entries, out[i])
	}
	return out, nil
}

// Entries gives up to limit entries above after, and the bounds.
func (s *Store) Entries(after uint64, limit int) ([]engine.Entry, uint64, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.first + uint64(len(s.entries)) - 1
	if after >= last || limit < 1 {
		return nil, s.first, last, nil
	}
	from := s.entries[max(after+1, s.first)-s.first:]
	return slices.Clone(from[:min(limit, len(from))]), s.first, last, nil
}

// Trim drops entries numbered below first.
func (s *Store) Trim(first uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if first > s.first {
		n := min(first-s.first, uint64(len(s.entries)))
		s.entries = s.entries[n:]
		s.first += n
	}
}

// BeginAct keeps a new act and gives its id.
func (s *Store) BeginAct(row engine.ActRow, request, action []byte, receipt engine.Receipt) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return "", s.err
	}
	id := "a" + strconv.Itoa(len(s.rows)+1)
	row.ID, row.Key.ID, receipt.Act = id, id, id
	s.rows = append(s.rows, row)
	s.requests = append(s.requests, bytes.Clone(request))
	s.receipts[receipt.Key] = heldReceipt{receipt: receipt, action: bytes.Clone(action)}
	return id, nil
}

// SaveAct replaces the row, and with a receipt also that.
func (s *Store) SaveAct(row engine.ActRow, receipt *engine.Receipt, problem *engine.Problem) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	i := slices.IndexFunc(s.rows, func(r engine.ActRow) bool { return r.ID == row.ID })
	if i < 0 {
		return fmt.Errorf("no act %s is kept", row.ID)
	}
	s.rows[i] = row
	if receipt != nil {
		s.receipts[receipt.Key] = heldReceipt{*receipt, s.receipts[receipt.Key].action, problem}
	}
	return nil
}

// Receipt finds the answer to a key.
func (s *Store) Receipt(key string) (engine.Receipt, []byte, *engine.Problem, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.receipts[key]
	return h.receipt, h.action, h.problem, ok, nil
}

// Acts gives the ledger, oldest first.
func (s *Store) Acts() ([]engine.ActRow, [][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rows), slices.Clone(s.requests), nil
}

// Put keeps a document.
func (s *Store) Put(id string, doc []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.docs[id] = bytes.Clone(doc)
	return nil
}

// Delete drops one.
func (s *Store) Delete(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	delete(s.docs, id)
	return nil
}

// All gives all documents.
func (s *Store) All() (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]byte{}
	for id, d := range s.docs {
		out[id] = bytes.Clone(d)
	}
	return out, nil
}
