package rpc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is one server-sent event. Data is without the last line end; it is only
// valid until the next call of events.next.
type event struct {
	name string
	id   string
	data []byte
}

// events reads server-sent events as in the HTML standard, section 9.2.6, with a
// bound on the size of one: name, id and data may together not exceed limit bytes.
type events struct {
	r     *bufio.Reader
	limit int
	data  []byte // reused
	begun bool
}

func newEvents(r io.Reader, limit int) *events {
	return &events{r: bufio.NewReaderSize(r, 64<<10), limit: limit}
}

var errEventTooLong = errors.New("an event is longer than this side reads")

// next gives the next event that has data. Comments and unknown fields are
// skipped, and an event that the end of the stream cuts off is dropped, as the
// standard asks. It ends with the reader's error.
func (e *events) next() (event, error) {
	var ev event
	e.data = e.data[:0]
	some := false
	for {
		kind, err := e.line(&ev, &some)
		if err != nil {
			return event{}, err
		}
		if kind != lineBlank {
			continue
		}
		if !some {
			ev = event{}
			continue
		}
		ev.data = e.data
		return ev, nil
	}
}

const (
	lineField = iota
	lineBlank
)

// line reads one line into ev. The data field goes straight into e.data, so that
// a section of megabytes is copied once.
func (e *events) line(ev *event, some *bool) (int, error) {
	chunk, whole, err := e.chunk()
	if err != nil {
		return 0, err
	}
	if !e.begun {
		e.begun = true
		chunk = bytes.TrimPrefix(chunk, []byte("\xef\xbb\xbf"))
	}
	if whole && len(chunk) == 0 {
		return lineBlank, nil
	}
	name, value, _ := bytes.Cut(chunk, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	if string(name) == "data" {
		if *some {
			e.data = append(e.data, '\n')
		}
		*some = true
		e.data = append(e.data, value...)
		for !whole {
			if chunk, whole, err = e.chunk(); err != nil {
				return 0, err
			}
			e.data = append(e.data, chunk...)
			if len(e.data) > e.limit {
				return 0, fmt.Errorf("%w: over %d bytes", errEventTooLong, e.limit)
			}
		}
		if len(e.data) > e.limit {
			return 0, fmt.Errorf("%w: over %d bytes", errEventTooLong, e.limit)
		}
		return lineField, nil
	}
	// Names and ids are short; the rest of a longer line of another kind is skipped.
	switch string(name) {
	case "event":
		ev.name = string(value)
	case "id":
		if !strings.ContainsRune(string(value), 0) {
			ev.id = string(value)
		}
	}
	for skipped := len(chunk); !whole; skipped += len(chunk) {
		if skipped > e.limit {
			return 0, fmt.Errorf("%w: over %d bytes", errEventTooLong, e.limit)
		}
		if chunk, whole, err = e.chunk(); err != nil {
			return 0, err
		}
	}
	return lineField, nil
}

// chunk gives the next part of a line, up to the size of the buffer, without its
// end; whole tells whether the line ends here. Our server writes "\n"; "\r\n" is
// read too, a lone "\r" is not an end of line here.
func (e *events) chunk() ([]byte, bool, error) {
	b, err := e.r.ReadSlice('\n')
	switch {
	case err == nil:
		b = b[:len(b)-1]
		return bytes.TrimSuffix(b, []byte("\r")), true, nil
	case errors.Is(err, bufio.ErrBufferFull):
		return b, false, nil
	}
	return nil, false, err
}
