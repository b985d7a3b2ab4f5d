package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"app.provost/engine"
	bolt "go.etcd.io/bbolt"
)

// heldReceipt is the answer to a request, kept by the request's key.
type heldReceipt struct {
	At      time.Time       `json:"at"`
	Action  json.RawMessage `json:"action"`
	Receipt engine.Receipt  `json:"receipt"`
	Problem *engine.Problem `json:"problem,omitempty"`
}

// heldAct is a row of the ledger with the request that the desk needs to go on with it.
type heldAct struct {
	Row     engine.ActRow   `json:"row"`
	Request json.RawMessage `json:"request"`
}

// BeginAct gives an act its id ("a17"; never used again), and keeps its row, its
// request (the desk's own JSON) and the receipt for a repeated key, in one step.
// action is what the key was used for.
func (s *Store) BeginAct(row engine.ActRow, request, action []byte, receipt engine.Receipt) (id string, err error) {
	if !json.Valid(request) || !json.Valid(action) || receipt.Key == "" {
		return "", errors.New("begin act: want a request and an action as JSON, and a key")
	}
	err = s.update("keep act", func(tx *bolt.Tx) error {
		b := tx.Bucket(bActs)
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		id = "a" + strconv.FormatUint(n, 10)
		row.ID, row.Key.ID, receipt.Act = id, id, id
		if err := put(b, number(n), heldAct{row, request}); err != nil {
			return err
		}
		return putReceipt(tx, heldReceipt{At: time.Now().UTC(), Action: action, Receipt: receipt})
	})
	return id, err
}

// SaveAct replaces the row of an act. With a receipt, it replaces also that of
// the act's key, with the problem that ended the act, if any.
func (s *Store) SaveAct(row engine.ActRow, receipt *engine.Receipt, problem *engine.Problem) error {
	key, err := actKey(row.ID)
	if err != nil {
		return err
	}
	return s.update("keep act", func(tx *bolt.Tx) error {
		b := tx.Bucket(bActs)
		var held heldAct
		if ok, err := get(b, key, &held); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("no act %s is kept", row.ID)
		}
		held.Row = row
		if err := put(b, key, held); err != nil || receipt == nil {
			return err
		}
		var r heldReceipt
		if _, err := get(tx.Bucket(bReceipts), []byte(receipt.Key), &r); err != nil {
			return err
		}
		if r.At.IsZero() {
			r.At = time.Now().UTC()
		}
		if r.Action == nil {
			r.Action = json.RawMessage("null") // the first receipt was trimmed while the act went on
		}
		r.Receipt, r.Problem = *receipt, problem
		return putReceipt(tx, r)
	})
}

func actKey(id string) ([]byte, error) {
	if len(id) > 1 && id[0] == 'a' {
		if n, err := strconv.ParseUint(id[1:], 10, 64); err == nil {
			return number(n), nil
		}
	}
	return nil, fmt.Errorf("keep act: %q is no id of an act, want a and a number", id)
}

func putReceipt(tx *bolt.Tx, r heldReceipt) error {
	key := []byte(r.Receipt.Key)
	at := append(binary.BigEndian.AppendUint64(nil, uint64(r.At.UnixNano())), key...)
	if err := tx.Bucket(bReceiptsAt).Put(at, []byte{}); err != nil {
		return err
	}
	return put(tx.Bucket(bReceipts), key, r)
}

// Receipt finds the answer that a request key got before, what the key was used
// for, and the problem that ended the act, if one did.
func (s *Store) Receipt(key string) (r engine.Receipt, action []byte, problem *engine.Problem, found bool, err error) {
	var held heldReceipt
	err = s.view("read receipt", func(tx *bolt.Tx) (err error) {
		found, err = get(tx.Bucket(bReceipts), []byte(key), &held)
		return err
	})
	return held.Receipt, held.Action, held.Problem, found, err
}

// Acts gives the ledger, oldest first: all open acts and the newest ended ones,
// with the request of each.
func (s *Store) Acts() (rows []engine.ActRow, requests [][]byte, err error) {
	err = s.view("read acts", func(tx *bolt.Tx) error {
		return tx.Bucket(bActs).ForEach(func(k, v []byte) error {
			var held heldAct
			if err := read(k, v, &held); err != nil {
				return err
			}
			rows = append(rows, held.Row)
			requests = append(requests, held.Request)
			return nil
		})
	})
	return rows, requests, err
}

func (s *Store) tidyReceipts(tx *bolt.Tx, now time.Time) error {
	at, all := tx.Bucket(bReceiptsAt), tx.Bucket(bReceipts)
	var old [][]byte
	limit := uint64(now.Add(-s.o.ReceiptAge).UnixNano())
	c := at.Cursor()
	for k, _ := c.First(); k != nil && len(old) < tidyAtMost && binary.BigEndian.Uint64(k) < limit; k, _ = c.Next() {
		old = append(old, append([]byte{}, k...))
	}
	for _, k := range old {
		if err := errors.Join(at.Delete(k), all.Delete(k[8:])); err != nil {
			return err
		}
	}
	return nil
}

// tidyActs drops the oldest ended acts above the bound. It looks into no more
// rows than it must: one with thousands of targets is large.
func (s *Store) tidyActs(tx *bolt.Tx) error {
	b := tx.Bucket(bActs)
	extra := -s.o.ActRows
	c := b.Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		extra++
	}
	var ended [][]byte
	for k, v := c.First(); k != nil && len(ended) < extra; k, v = c.Next() {
		var held struct {
			Row struct {
				State engine.ActState `json:"state"`
			} `json:"row"`
		}
		if err := read(k, v, &held); err != nil {
			return err
		}
		if !held.Row.State.Open() {
			ended = append(ended, append([]byte{}, k...))
		}
	}
	for _, k := range ended {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
