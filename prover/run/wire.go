package run

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"app.provost/prover"
)

// Schema is the version of the protocol. Only the major number (after the slash) must be the same at both ends.
const Schema = "provost.worker/1"

const (
	maxGreeting = 64 << 10
	maxFrame    = 16 << 20
)

// message is one frame. Type names the member that is set.
type message struct {
	Type    string         `json:"type"`
	Hello   *hello         `json:"hello,omitempty"`
	Welcome *welcome       `json:"welcome,omitempty"`
	Refusal *refusal       `json:"refusal,omitempty"`
	Order   *prover.Order  `json:"order,omitempty"`
	Report  *prover.Report `json:"report,omitempty"`
	Ping    *ping          `json:"ping,omitempty"`
	Pong    *ping          `json:"pong,omitempty"`
}

type hello struct {
	Schema  string             `json:"schema"`
	Worker  prover.WorkerID    `json:"worker"`
	Token   shownToken         `json:"token"`
	Process prover.WorkerHello `json:"process"`
	Holding *prover.Holding    `json:"holding"`
}

type welcome struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`
}

// refusal ends a connection. Codes are stable.
type refusal struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

const (
	refuseToken    = "token"    // worker, role and token do not belong together
	refuseSchema   = "schema"   // another major version
	refuseReplaced = "replaced" // another process said that it is this worker
	refuseFull     = "full"     // too many connections
)

type ping struct {
	Seq uint64 `json:"seq"`
}

// errProtocol is what a frame that is not of this protocol is refused with.
var errProtocol = errors.New("not a message of " + Schema)

// check tells whether exactly the member that Type names is there, and is complete.
func (m *message) check() error {
	var got []string
	for _, p := range []struct {
		name string
		set  bool
	}{
		{"hello", m.Hello != nil}, {"welcome", m.Welcome != nil}, {"refusal", m.Refusal != nil}, {"order", m.Order != nil},
		{"report", m.Report != nil}, {"ping", m.Ping != nil}, {"pong", m.Pong != nil},
	} {
		if p.set {
			got = append(got, p.name)
		}
	}
	if len(got) != 1 || got[0] != m.Type {
		return fmt.Errorf("%w: type %q with %q", errProtocol, m.Type, got)
	}
	var err error
	switch {
	case m.Hello != nil:
		if m.Hello.Worker == "" || len(m.Hello.Worker) > 64 {
			return fmt.Errorf("%w: hello of worker %q", errProtocol, m.Hello.Worker)
		}
		err = prover.Report{Kind: prover.ReportHello, Hello: &m.Hello.Process, Holding: m.Hello.Holding}.Check()
	case m.Order != nil:
		err = m.Order.Check()
	case m.Report != nil:
		if m.Report.Kind == prover.ReportHello || m.Report.Kind == prover.ReportGone {
			return fmt.Errorf("%w: report %q does not travel", errProtocol, m.Report.Kind)
		}
		err = m.Report.Check()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	return nil
}

// sameMajor tells whether the other end's schema can be spoken with.
func sameMajor(schema string) bool {
	name, number, ok := strings.Cut(schema, "/")
	major, _, _ := strings.Cut(number, ".")
	return ok && name+"/"+major == Schema
}

// decode reads the JSON of one frame.
func decode(b []byte) (*message, error) {
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", errProtocol, err)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return &m, nil
}

// readMessage reads one frame of at most limit bytes. io.EOF means that the other end closed between frames.
func readMessage(r io.Reader, limit int) (*message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n == 0 || n > int64(limit) {
		return nil, fmt.Errorf("%w: a frame of %d bytes, where %d are allowed", errProtocol, n, limit)
	}
	// What is claimed is not set aside before it is there.
	var b bytes.Buffer
	b.Grow(int(min(n, 4<<10)))
	if got, err := io.CopyN(&b, r, n); err != nil {
		if got < n && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return decode(b.Bytes())
}

// encode is the frame of a message.
func encode(m *message) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(make([]byte, 4, 512))
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	b.Truncate(b.Len() - 1) // the encoder's newline
	n := b.Len() - 4
	if n > maxFrame {
		return nil, fmt.Errorf("encode message: %s of %d bytes, where %d are allowed", m.Type, n, maxFrame)
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(n))
	return b.Bytes(), nil
}
