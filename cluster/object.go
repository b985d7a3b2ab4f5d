package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// FieldError says where in a JSON file a value could not be read.
type FieldError struct {
	Path string // as in cluster_definition.operators[2].enr
	Err  error
}

// Error returns the path and the cause.
func (e *FieldError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

// at puts one more step in front of the path of an error.
func at(step string, err error) error {
	var fe *FieldError
	if errors.As(err, &fe) {
		sep := "."
		if strings.HasPrefix(fe.Path, "[") {
			sep = ""
		}
		return &FieldError{Path: step + sep + fe.Path, Err: fe.Err}
	}
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		err = fmt.Errorf("found a JSON %s where another type belongs", te.Value)
	}
	return &FieldError{Path: step, Err: err}
}

// member is one known key of a JSON object: a pointer when reading, a value when writing.
type member struct {
	key string
	val any
}

// readObject fills the members from data. Keys match exactly (encoding/json alone would take other
// cases too) and may stand once. Keys that nobody knows are returned, so that a file of a newer
// format survives a round trip. Missing keys and null leave the member at its zero value.
func readObject(data []byte, members ...member) (map[string]json.RawMessage, error) {
	if string(bytes.TrimSpace(data)) == "null" {
		return nil, errors.New("found null where an object belongs")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if tok != json.Delim('{') {
		return nil, errors.New("found something else where an object belongs")
	}
	var extra map[string]json.RawMessage
	seen := make(map[string]bool, len(members))
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := tok.(string)
		if seen[key] {
			return nil, at(key, errors.New("the key stands twice in one object"))
		}
		seen[key] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, at(key, err)
		}
		i := slices.IndexFunc(members, func(m member) bool { return m.key == key })
		if i < 0 {
			if extra == nil {
				extra = map[string]json.RawMessage{}
			}
			extra[key] = raw
			continue
		}
		if err := json.Unmarshal(raw, members[i].val); err != nil {
			return nil, at(key, err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	return extra, nil
}

// writeObject writes the members in their order, then the unknown ones sorted by key. A key that was
// unknown to the version that was read and is known to the one that is written stands once.
func writeObject(extra map[string]json.RawMessage, members ...member) ([]byte, error) {
	known := members
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		if slices.ContainsFunc(known, func(m member) bool { return m.key == key }) {
			continue
		}
		members = append(members, member{key, extra[key]})
	}
	var buf bytes.Buffer
	buf.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			buf.WriteByte(',')
		}
		key, err := json.Marshal(m.key)
		if err != nil {
			return nil, err
		}
		val, err := json.Marshal(m.val)
		if err != nil {
			return nil, at(m.key, err)
		}
		buf.Write(key)
		buf.WriteByte(':')
		buf.Write(val)
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

// list reads a JSON array and names the entry that is wrong.
type list[T any] struct{ items *[]T }

func (l list[T]) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*l.items = nil
		return nil
	}
	var raws []json.RawMessage
	if err := json.Unmarshal(data, &raws); err != nil {
		return err
	}
	out := make([]T, len(raws))
	for i, raw := range raws {
		if string(raw) == "null" {
			return at("["+strconv.Itoa(i)+"]", errors.New("found null where an entry belongs"))
		}
		if err := json.Unmarshal(raw, &out[i]); err != nil {
			return at("["+strconv.Itoa(i)+"]", err)
		}
	}
	*l.items = out
	return nil
}

// gweiText is an amount written as a string of decimal digits.
type gweiText Gwei

func (g gweiText) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(g), 10), nil }

func (g *gweiText) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("read amount %q: want gwei in decimal digits", shorten(string(text)))
	}
	*g = gweiText(v)
	return nil
}
