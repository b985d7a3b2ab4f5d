// Package rpc carries the waist over a unix socket: HTTP with JSON, and
// server-sent events for what goes on for a while. Serving and dialling live in
// one package, so the format lives once; docs/http-api.md shows it with curl.
//
// # Who may call
//
// The socket is made with mode 0600, and the kernel is asked who is on the other
// end of each connection (SO_PEERCRED): only the engine's own user and root are
// answered. The actor of a request is that user; a client can only declare
// through which face it acts and from which host it looks. The dialling side
// asks the same question, so that nobody can pose as the engine.
//
// # Promises
//
// A viewer never holds the engine. Each stream has a goroutine of its own that
// takes the newest update whenever the last one is written; a viewer that takes
// no byte for WriteTimeout is dropped. A section is encoded once, however many
// look at it, and travels only when it changed. Connections, streams, bodies,
// lines and answers are bounded; what is too much is refused with a Problem.
//
// A feed on the dialling side keeps a mirror: snapshots never change after they
// were handed out, and sections that did not change are the same pointers as
// before. Journal entries arrive without holes: a reader that does not call Next
// makes the server wait, then drop it, and the numbers go on from After at the
// next dial. Redial does that dialling.
//
// Problems travel whole and come back as *engine.Problem.
package rpc

import (
	"encoding/json"
	"errors"
	"net/http"

	"app.provost/engine"
)

// Protocol is the number of the conversation below. It grows when an old side
// would misread a new one; added fields do not need it.
//
//	1  first
const Protocol = 1

// Schemas of what travels at the top level, beside engine.SnapshotSchema and engine.PlanSchema.
const (
	HelloSchema   = "provost.hello/1"
	ProblemSchema = "provost.problem/1"
	ReceiptSchema = "provost.receipt/1"
	StreamSchema  = "provost.stream/1"
)

// Bounds of what travels. The dialling side's are a little wider than what the
// serving side may send, so that the server is the one that explains.
const (
	maxRequest   = 1 << 20  // body of preview and do
	maxArtifacts = 16 << 20 // sum of a receipt's artifacts, before base64
	maxAnswer    = 32 << 20 // body of an answer that is no stream
	maxEvent     = 64 << 20 // data of one event: 20,000 workers are about 14 MB
	maxSocket    = 104      // longest socket path that every system takes, its closing zero included
)

const (
	headerProtocol = "Provost-Protocol"
	headerKey      = "Idempotency-Key"
)

// Hello is what GET /v1/hello answers.
type Hello struct {
	Schema   string `json:"schema"`
	Protocol int    `json:"protocol"`
	// Version is the serving binary's.
	Version string `json:"version"`
	PID     int    `json:"pid"`
	// Engine is null while the engine has not published its first snapshot.
	Engine *engine.Info `json:"engine"`
}

// ask is the body of preview and do.
type ask struct {
	Key    string          `json:"key,omitempty"`
	Action json.RawMessage `json:"action"`
	Digest engine.Digest   `json:"digest,omitempty"`
	Via    engine.Via      `json:"via,omitempty"`
	Host   string          `json:"host,omitempty"`
}

// opening is the first event of a stream.
type opening struct {
	Schema     string  `json:"schema"`
	Protocol   int     `json:"protocol"`
	KeepaliveS float64 `json:"keepalive_s"`
}

// frame is one "snapshot" event: the snapshot with only those sections that
// differ from what this stream carried before. Carries names them, so that a
// section that is null now is told from one that stayed as it was.
type frame struct {
	engine.Snapshot
	Changed []engine.SectionName `json:"changed"`
	Carries []engine.SectionName `json:"carries"`
}

// journal is one "journal" event. It belongs to the "snapshot" event that follows.
type journal struct {
	Entries []engine.Entry `json:"entries"`
	Gap     *engine.Gap    `json:"gap,omitempty"`
}

// ending is the "end" event: nothing follows it, and nothing went wrong.
type ending struct {
	Why string `json:"why"`
}

type receipt struct {
	Schema string `json:"schema"`
	engine.Receipt
}

type problemBody struct {
	Schema  string          `json:"schema"`
	Problem *engine.Problem `json:"problem"`
}

// Names of events.
const (
	eventOpen     = "open"
	eventSnapshot = "snapshot"
	eventJournal  = "journal"
	eventLine     = "line"
	eventProblem  = "problem"
	eventEnd      = "end"
)

// statusOf is the HTTP status for a problem. Clients of ours go by the problem
// itself; the status is for curl and for what stands between.
func statusOf(p *engine.Problem) int {
	switch p.Code {
	case engine.CodeUsage, engine.CodeConfigInvalid, engine.CodeClusterParams:
		return http.StatusBadRequest
	case engine.CodeDenied:
		return http.StatusForbidden
	case engine.CodeNoMatch, engine.CodeNotFound:
		return http.StatusNotFound
	case engine.CodePlanChanged, engine.CodeClusterExists, engine.CodeJobNotVerified:
		return http.StatusConflict
	case engine.CodePlanNeeded:
		return http.StatusPreconditionRequired
	case engine.CodeLocked:
		return http.StatusLocked
	case engine.CodeNotConfigured:
		return http.StatusNotImplemented
	case engine.CodeProtocol:
		return http.StatusUpgradeRequired
	case engine.CodeBusy, engine.CodeStopping, engine.CodeNoEngine:
		return http.StatusServiceUnavailable
	case engine.CodeNoSpace:
		return http.StatusInsufficientStorage
	}
	switch p.Exit {
	case engine.ExitUsage:
		return http.StatusUnprocessableEntity
	case engine.ExitNotAllowed:
		return http.StatusForbidden
	case engine.ExitRefused:
		return http.StatusConflict
	case engine.ExitTimeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

func usage(doing, field, cause, remedy string) *engine.Problem {
	return engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Field: field, Cause: cause, Remedy: remedy}.Because(nil)
}

// lost marks problems that mean "the link is gone", as Redial must know.
type lost struct{ err error }

func (l *lost) Error() string { return l.err.Error() }
func (l *lost) Unwrap() error { return l.err }

// LinkLost tells whether err means that the connection to the engine broke, or
// that nobody answers: dialling again may help.
func LinkLost(err error) bool {
	var l *lost
	return errors.As(err, &l)
}

func linkLost(doing string, err error) error {
	return engine.Problem{
		Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: doing,
		Cause:  "the connection to the engine broke: " + err.Error(),
		Remedy: "see whether it still runs with provost status",
	}.Because(&lost{err})
}
