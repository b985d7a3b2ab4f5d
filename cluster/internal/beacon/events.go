package beacon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"app.provost/cluster"
)

// EventKind says what an event tells.
type EventKind string

// The kinds of events. StreamLost comes when no node has an open event stream any more, StreamUp when
// the first one has again. Between the two nothing brings a duty forward: its deadline by the clock is
// the answer, and duties should be fetched again at StreamUp, since a reorg may have gone unseen.
const (
	EventHead       EventKind = "head"
	EventBlock      EventKind = "block"
	EventReorg      EventKind = "chain_reorg"
	EventStreamLost EventKind = "stream_lost"
	EventStreamUp   EventKind = "stream_up"
)

// Event is what a beacon node tells unasked.
type Event struct {
	Kind     EventKind
	Endpoint string // whose word it is
	At       time.Time
	Slot     cluster.Slot
	Block    cluster.Root // the new head or block
	// PreviousDependent is the dependent root of this epoch's attester duties, CurrentDependent that of
	// the next one's; head events only.
	PreviousDependent, CurrentDependent cluster.Root
	Optimistic                          bool   // not executed yet: never sign on it
	Depth                               uint64 // of a reorg, in slots
	OldHead                             cluster.Root
}

const (
	maxEvent  = 64 << 10
	streamDue = 3 // slots without any event until a stream counts as dead
)

// listen keeps an event stream of a node open until ctx ends.
func (c *Client) listen(ctx context.Context, e *endpoint) error {
	pause := 250 * time.Millisecond
	for ctx.Err() == nil {
		start := time.Now()
		err := c.usable(ctx, e, "events", needChain)
		if err == nil {
			cause := c.stream(ctx, e)
			if ctx.Err() == nil {
				c.o.Logger.Debug("event stream ended", "endpoint", e.name, "err", cause)
			}
		}
		if time.Since(start) > 10*time.Second {
			pause = 250 * time.Millisecond
		}
		wait := pause/2 + rand.N(pause) // not all clients of a restarted node at once
		pause = min(pause*2, max(c.o.PollEvery, 250*time.Millisecond))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

func (c *Client) stream(ctx context.Context, e *endpoint) error {
	ch, err := c.Chain(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := max(streamDue*ch.Clock.SlotDuration, time.Second)
	// A stream whose peer is gone says nothing for ever: silence ends it.
	// Before genesis there is nothing to tell.
	watchdog := time.AfterFunc(max(time.Until(ch.Genesis.Time), 0)+patience, func() { cancel(fmt.Errorf("no event for %v", patience)) })
	defer watchdog.Stop()

	req, err := c.newRequest(ctx, e, request{method: http.MethodGet, path: "/eth/v1/events", query: url.Values{"topics": {"head,block,chain_reorg"}}})
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := c.http.Do(req)
	if err != nil {
		return errors.Join(context.Cause(ctx), cause(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the node answered status %d", resp.StatusCode)
	}
	c.streaming(e, true)
	defer c.streaming(e, false)
	err = readEvents(resp.Body, func(name string, data []byte) {
		// Comments and unknown events are no sign that the chain is still told.
		if ev, ok := parseEvent(name, data); ok {
			watchdog.Reset(patience)
			ev.Endpoint, ev.At = e.name, time.Now()
			c.pass(e, ev)
		}
	})
	return errors.Join(context.Cause(ctx), err)
}

// streaming notes that a stream opened or ended and tells when it was the first or the last.
func (c *Client) streaming(e *endpoint, up bool) {
	c.mu.Lock()
	kind := EventKind("")
	if up {
		if c.open++; c.open == 1 {
			kind = EventStreamUp
		}
	} else if c.open--; c.open == 0 {
		kind = EventStreamLost
	}
	c.mu.Unlock()
	c.update(e, func(s *Endpoint) { s.Streaming = up })
	if kind != "" && c.o.OnEvent != nil {
		c.o.OnEvent(Event{Kind: kind, Endpoint: e.name, At: time.Now()})
	}
}

// pass hands an event on once, whichever node tells it first. A node of another network or one out
// of step isn't listened to.
func (c *Client) pass(e *endpoint, ev Event) {
	if s := e.snapshot().Status; s == StatusWrongNetwork || s == StatusSyncing || s == StatusOptimistic {
		return
	}
	c.mu.Lock()
	fresh := c.seen.add(eventKey{ev.Kind, ev.Slot, ev.Block, ev.Optimistic, ev.PreviousDependent, ev.CurrentDependent})
	c.mu.Unlock()
	if fresh && c.o.OnEvent != nil {
		c.o.OnEvent(ev)
	}
}

type eventKey struct {
	kind              EventKind
	slot              cluster.Slot
	block             cluster.Root
	optimistic        bool
	previous, current cluster.Root
}

// recent remembers the last events; older ones are forgotten and would be passed on again.
type recent struct {
	ring [128]eventKey
	next int
}

func (r *recent) add(k eventKey) bool {
	for _, x := range r.ring {
		if x == k {
			return false
		}
	}
	r.ring[r.next] = k
	r.next = (r.next + 1) % len(r.ring)
	return true
}

// readEvents reads a server-sent event stream until it ends.
func readEvents(body io.Reader, each func(name string, data []byte)) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 4096), maxEvent)
	var name string
	var data []byte
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) == 0 {
			if name != "" && len(data) > 0 {
				each(name, data)
			}
			name, data = "", nil
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			name = printable(string(value), 64)
		case "data":
			if len(data)+len(value) > maxEvent {
				return fmt.Errorf("an event is longer than %d bytes", maxEvent)
			}
			data = append(append(data, value...), '\n')
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

func parseEvent(name string, data []byte) (Event, bool) {
	var m struct {
		Slot       *num          `json:"slot"`
		Block      *cluster.Root `json:"block"`
		Previous   cluster.Root  `json:"previous_duty_dependent_root"`
		Current    cluster.Root  `json:"current_duty_dependent_root"`
		Optimistic bool          `json:"execution_optimistic"`
		Depth      num           `json:"depth"`
		Old        *cluster.Root `json:"old_head_block"`
		New        *cluster.Root `json:"new_head_block"`
	}
	if json.Unmarshal(data, &m) != nil || m.Slot == nil {
		return Event{}, false
	}
	ev := Event{Kind: EventKind(name), Slot: cluster.Slot(*m.Slot), Optimistic: m.Optimistic}
	switch ev.Kind {
	case EventHead, EventBlock:
		if m.Block == nil {
			return Event{}, false
		}
		ev.Block = *m.Block
		if ev.Kind == EventHead {
			ev.PreviousDependent, ev.CurrentDependent = m.Previous, m.Current
		}
	case EventReorg:
		if m.Old == nil || m.New == nil {
			return Event{}, false
		}
		ev.Block, ev.OldHead, ev.Depth = *m.New, *m.Old, uint64(m.Depth)
	default:
		return Event{}, false
	}
	return ev, true
}
