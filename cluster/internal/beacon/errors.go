package beacon

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind says why a beacon node gave no good answer.
type Kind string

// The kinds of failure.
const (
	KindUnreachable  Kind = "unreachable"   // no connection, or it broke
	KindTimeout      Kind = "timeout"       // no answer in time
	KindCanceled     Kind = "canceled"      // the caller gave up
	KindSyncing      Kind = "syncing"       // the node says that it is not in step with its chain
	KindOptimistic   Kind = "optimistic"    // the node follows blocks that it hasn't executed
	KindWrongNetwork Kind = "wrong_network" // another fork version or genesis validators root
	KindNotFound     Kind = "not_found"     // the node doesn't have it, or doesn't know the request
	KindRefused      Kind = "refused"       // the node found the request wrong
	KindServer       Kind = "server"        // the node failed, or is asked too much
	KindMalformed    Kind = "malformed"     // the answer is not what was asked for
	KindTooLarge     Kind = "too_large"     // the answer is longer than any honest one
)

// Error is the failure of one request to one beacon node.
type Error struct {
	Op       string // what was asked for: "attestation data of slot 7"
	Endpoint string // scheme and host, no secrets
	Kind     Kind
	Status   int         // HTTP status, 0 without an answer
	Failures []ItemError // of a submitted list, which were refused
	cause    error
}

// ItemError is one refused item of a submitted list.
type ItemError struct {
	Index   int    // in the list
	Message string // the node's words
}

// Error says what was asked of whom, and what came of it.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s from %s: %s", e.Op, e.Endpoint, strings.ReplaceAll(string(e.Kind), "_", " "))
	if e.Status != 0 {
		fmt.Fprintf(&b, " (status %d)", e.Status)
	}
	if e.cause != nil {
		fmt.Fprintf(&b, ": %v", e.cause)
	}
	for i, f := range e.Failures {
		if i == 3 {
			fmt.Fprintf(&b, "; %d more", len(e.Failures)-i)
			break
		}
		fmt.Fprintf(&b, "; item %d: %s", f.Index, f.Message)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Retryable tells whether the same request may succeed shortly.
func (e *Error) Retryable() bool {
	switch e.Kind {
	case KindUnreachable, KindTimeout, KindSyncing, KindOptimistic, KindServer:
		return true
	case KindRefused:
		// Nodes whose clock or head lags a little refuse what is right in a moment.
		text := strings.ToLower(e.Error())
		for _, word := range []string{"future", "current or previous", "retryable"} {
			if strings.Contains(text, word) {
				return true
			}
		}
	}
	return false
}

// AllFailed means that no beacon node gave a good answer; it holds why, node by node.
type AllFailed struct {
	Op   string
	Errs []*Error
}

// Error lists the failures.
func (e *AllFailed) Error() string {
	if len(e.Errs) == 1 {
		return e.Errs[0].Error()
	}
	parts := make([]string, len(e.Errs))
	for i, x := range e.Errs {
		parts[i] = x.Error()
	}
	return fmt.Sprintf("%s: all %d beacon nodes failed: %s", e.Op, len(parts), strings.Join(parts, " | "))
}

// Unwrap returns the failures.
func (e *AllFailed) Unwrap() []error {
	out := make([]error, len(e.Errs))
	for i, x := range e.Errs {
		out[i] = x
	}
	return out
}

// Retryable tells whether trying again shortly may help, at any of the nodes that were asked.
func Retryable(err error) bool {
	var all *AllFailed
	if errors.As(err, &all) {
		for _, e := range all.Errs {
			if e.Retryable() {
				return true
			}
		}
		return false
	}
	var one *Error
	return errors.As(err, &one) && one.Retryable()
}

// KindOf returns the kind that says most about why all nodes failed, "" for errors of other packages:
// what the operator must repair (another network) before what passes by itself.
func KindOf(err error) Kind {
	var all *AllFailed
	if errors.As(err, &all) {
		for _, k := range []Kind{KindWrongNetwork, KindRefused, KindMalformed, KindTooLarge, KindOptimistic, KindSyncing, KindServer, KindNotFound, KindTimeout, KindUnreachable, KindCanceled} {
			for _, e := range all.Errs {
				if e.Kind == k {
					return k
				}
			}
		}
	}
	var one *Error
	if errors.As(err, &one) {
		return one.Kind
	}
	return ""
}

func transportKind(err error) Kind {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.Canceled):
		return KindCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return KindTimeout
	}
	return KindUnreachable
}
