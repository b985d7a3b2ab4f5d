package simnet

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxStreams  = 64
	eventBuffer = 64
)

// hub hands events to open streams. A stream that doesn't read fast enough is ended: its reader must
// fetch again anyway.
type hub struct {
	mu      sync.Mutex
	streams map[*stream]bool
}

type stream struct {
	topics map[string]bool
	out    chan []byte // closed when the stream must end
}

func newHub() *hub { return &hub{streams: map[*stream]bool{}} }

func (h *hub) open(topics map[string]bool) (*stream, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.streams) >= maxStreams {
		return nil, false
	}
	s := &stream{topics, make(chan []byte, eventBuffer)}
	h.streams[s] = true
	return s, true
}

func (h *hub) closeLocked(s *stream) {
	if h.streams[s] {
		delete(h.streams, s)
		close(s.out)
	}
}

func (h *hub) close(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closeLocked(s)
}

func (h *hub) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams {
		h.closeLocked(s)
	}
}

// emit tells all streams of a topic; it never blocks. The chain's lock is held, so that events come in
// the order of what happened.
func (n *Node) emit(topic string, data map[string]any) {
	if n.chain.faults[EventsSilent] != nil {
		return
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return
	}
	line := fmt.Appendf(nil, "event: %s\ndata: %s\n\n", topic, raw)
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	for s := range n.hub.streams {
		if !s.topics[topic] {
			continue
		}
		select {
		case s.out <- line:
		default:
			n.hub.closeLocked(s)
		}
	}
}

var eventTopics = map[string]bool{"head": true, "block": true, "chain_reorg": true, "finalized_checkpoint": true}

func (n *Node) events(w http.ResponseWriter, r *http.Request) {
	topics := map[string]bool{}
	for _, v := range r.URL.Query()["topics"] {
		for _, t := range strings.Split(v, ",") {
			if !eventTopics[t] {
				fail(w, http.StatusBadRequest, fmt.Sprintf("topics could not be parsed: %.40q isn't served here", t))
				return
			}
			topics[t] = true
		}
	}
	if len(topics) == 0 {
		fail(w, http.StatusBadRequest, "no topics are named")
		return
	}
	if _, cut := n.has(EventsCut); cut {
		fail(w, http.StatusServiceUnavailable, "no event streams: a fault was asked for")
		return
	}
	s, ok := n.hub.open(topics)
	if !ok {
		fail(w, http.StatusServiceUnavailable, fmt.Sprintf("%d event streams are open already", maxStreams))
		return
	}
	defer n.hub.close(s)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Time{})
	rc.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case line, more := <-s.out:
			if !more {
				return
			}
			rc.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if _, err := w.Write(line); err != nil {
				return
			}
			if err := rc.Flush(); err != nil {
				return
			}
		}
	}
}
