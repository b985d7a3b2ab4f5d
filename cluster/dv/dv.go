// Package dv is the door of a running distributed-validator node: it opens a node directory that
// Provost or Charon made, and runs the node: agreement with its peers, attestations and blocks
// through the built-in signer, and what there is to show of it.
//
// Promises. A signature leaves only after slashing protection has it on disk, and never while the
// clock or the beacon node is in doubt. What the group signed is checked against the validator's own
// key before it is sent. Peers and beacon nodes are not trusted: what they say is bounded, checked
// and, where it decides about a signature, compared with what this node knows itself. Nothing on the
// way of a duty waits for whoever watches: callbacks are called from the duty's own goroutine and
// must return at once, and View is made from copies when it is asked for.
//
// One Node runs once: Open, Run until its context ends, Close. All methods may be called from any
// goroutine; Open and Run block. Several nodes fit in one process, but each should have its own, so
// that none takes the others down.
package dv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/nodedir"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/internal/peer"
)

// Peer and BeaconNode are what is known of one of each.
type (
	Peer       = peer.Status
	BeaconNode = beacon.Endpoint
)

// Options say how a node runs. BeaconNodes are required.
type Options struct {
	// BeaconNodes are base URLs, asked in parallel; Fallbacks are asked when all of them failed.
	BeaconNodes []string
	Fallbacks   []string
	BeaconWait  time.Duration // for one answer; 0: the client's default
	SubmitWait  time.Duration
	Headers     map[string]string // sent to beacon nodes

	// Listen are host:port or multiaddrs for peers. Peers are where the others listen, by index;
	// those that are missing must dial us, or be reached through Relays.
	Listen    []string
	Advertise []string
	Peers     map[cluster.PeerIndex][]string
	Relays    []string
	Nickname  string // shown to peers, at most 32 characters
	GitHash   string // of this build, 7 hex digits; "" when unknown

	// AllowLooseModes runs although others may read secrets, also where money is at stake.
	AllowLooseModes bool
	// KeysNeverSigned says that no program ever signed with these keys. Without it a node that starts
	// for the first time waits two epochs, since nobody told it what was signed before.
	KeysNeverSigned bool

	Builder        bool          // prefer blocks of builders
	Graffiti       string        // in blocks, at most 32 bytes; "": the program's name
	MaxClockOffset time.Duration // from the peers' clocks, before nothing is signed; 0: 500 ms

	// Progress is told keystores opened while Open runs.
	Progress func(done, all int)
	// OnStep is told every step of every duty, and OnReport what came of a duty. Both are called on
	// the duty's way and must return at once. May be nil.
	OnStep   func(Step)
	OnReport func(DutyView)

	Logger *slog.Logger // default: none
}

// maxClockOffset is how far clocks of a network may be apart before its nodes ignore messages.
const maxClockOffset = 500 * time.Millisecond

// Code says what stands in a node's way. The zero value is nothing.
type Code string

// The codes, besides those of a node directory, which begin with "directory.", "lock.",
// "node-key.", "key-share." or "modes.", and of slashing protection, which begin with "guard.".
const (
	CodeOptions       Code = "options"
	CodeKeyInUse      Code = "node-key.in-use"
	CodeMoved         Code = "directory.moved" // the node was exported to run elsewhere
	CodeWrongNetwork  Code = "beacon.wrong-network"
	CodeBeaconConfig  Code = "beacon.config"
	CodeState         Code = "state.unreadable"
	CodeOtherCluster  Code = "state.other-cluster"
	CodePeers         Code = "peers"
	CodeRunning       Code = "running"
	CodeGuard         Code = "guard"
	CodeProgram       Code = "program"
	CodeBeaconOptions Code = "beacon.options"
)

// Error says what stands in the way and what to do.
type Error struct {
	Code   Code
	Err    error
	Remedy string
}

// Error returns cause and remedy in one line.
func (e *Error) Error() string {
	if e.Remedy == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "; " + e.Remedy
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Finding is something that should be mended but doesn't keep the node from running.
type Finding struct{ Code, Problem, Remedy string }

// Open reads and checks a node directory: nothing of it is changed, nothing is started. Errors are
// *Error, or the context's.
func Open(ctx context.Context, dir string, o Options) (*Node, error) {
	if len(o.BeaconNodes) == 0 {
		return nil, &Error{CodeOptions, errors.New("open node: no beacon node is named"), "give at least one --beacon-node-endpoints URL"}
	}
	if len(o.Graffiti) > 32 {
		return nil, &Error{CodeOptions, fmt.Errorf("open node: the graffiti has %d bytes", len(o.Graffiti)), "give at most 32 bytes"}
	}
	if _, err := fenced(dir); err != nil {
		return nil, err
	}
	d, err := nodedir.Open(ctx, dir, nodedir.Options{AllowLooseModes: o.AllowLooseModes, Progress: o.Progress})
	if err != nil {
		var bad *nodedir.Error
		if errors.As(err, &bad) {
			return nil, &Error{Code(bad.Code), fmt.Errorf("open node: %s: %w", bad.Path, bad.Err), bad.Remedy}
		}
		return nil, err
	}
	return newNode(d, o), nil
}

// withDefaults fills what was left empty.
func (o Options) withDefaults() Options {
	if o.MaxClockOffset <= 0 {
		o.MaxClockOffset = maxClockOffset
	}
	if o.Graffiti == "" {
		o.Graffiti = "provost"
	}
	if o.OnStep == nil {
		o.OnStep = func(Step) {}
	}
	if o.OnReport == nil {
		o.OnReport = func(DutyView) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
