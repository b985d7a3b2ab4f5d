package store

import (
	"encoding/json"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// Shelf keeps small JSON documents of one room by id: handles of processes,
// wishes, marks on alerts. The room that owns it versions its documents itself.
type Shelf struct {
	s    *Store
	name []byte
}

// Shelf gives the shelf of that name; it comes into being with its first document.
func (s *Store) Shelf(name string) *Shelf { return &Shelf{s, []byte(name)} }

// Put keeps doc under id and replaces what was there.
func (h *Shelf) Put(id string, doc []byte) error {
	if id == "" || len(h.name) == 0 || !json.Valid(doc) {
		return fmt.Errorf("keep document %q on shelf %q: want a name, an id and JSON", id, h.name)
	}
	return h.s.update("keep "+string(h.name), func(tx *bolt.Tx) error {
		b, err := tx.Bucket(bShelf).CreateBucketIfNotExists(h.name)
		if err != nil {
			return err
		}
		return b.Put([]byte(id), seal([]byte(id), doc))
	})
}

// Delete drops the document; there being none is no error.
func (h *Shelf) Delete(id string) error {
	return h.s.update("drop "+string(h.name), func(tx *bolt.Tx) error {
		if b := tx.Bucket(bShelf).Bucket(h.name); b != nil && id != "" {
			return b.Delete([]byte(id))
		}
		return nil
	})
}

// Get gives a copy of the document, nil when there is none.
func (h *Shelf) Get(id string) (doc []byte, err error) {
	err = h.s.view("read "+string(h.name), func(tx *bolt.Tx) error {
		b := tx.Bucket(bShelf).Bucket(h.name)
		if b == nil {
			return nil
		}
		sealed := b.Get([]byte(id))
		if sealed == nil {
			return nil
		}
		raw, err := open([]byte(id), sealed)
		doc = append([]byte{}, raw...)
		return err
	})
	return doc, err
}

// All gives copies of all documents by id.
func (h *Shelf) All() (map[string][]byte, error) {
	docs := map[string][]byte{}
	err := h.s.view("read "+string(h.name), func(tx *bolt.Tx) error {
		b := tx.Bucket(bShelf).Bucket(h.name)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			raw, err := open(k, v)
			docs[string(k)] = append([]byte{}, raw...)
			return err
		})
	})
	return docs, err
}

// Count adds delta to a counter that lasts and gives its new value.
func (s *Store) Count(name string, delta uint64) (value uint64, err error) {
	if name == "" {
		return 0, errors.New("count: want a name")
	}
	err = s.update("count "+name, func(tx *bolt.Tx) error {
		value = 0
		if _, err := get(tx.Bucket(bCounters), []byte(name), &value); err != nil {
			return err
		}
		value += delta
		return put(tx.Bucket(bCounters), []byte(name), value)
	})
	return value, err
}

// Counter gives the value of a counter, 0 when it was never counted.
func (s *Store) Counter(name string) (value uint64, err error) {
	err = s.view("read counter "+name, func(tx *bolt.Tx) error {
		_, err := get(tx.Bucket(bCounters), []byte(name), &value)
		return err
	})
	return value, err
}
