// Package combine puts the whole validator keys of a cluster together from the shares of its nodes,
// for whoever leaves the cluster: ordinary EIP-2335 keystores with their passwords, and the EIP-3076
// history that belongs to them.
//
// Promises. Keys come only with their history: the highest marks of the nodes, of so many nodes that
// every signature of the group had one of them among its signers. Where that isn't known nothing is
// made, unless the operator typed out what is at stake. Nothing is made either while a node whose
// directory is given runs, from a copy that was never started or of a node that was moved away, or
// when anything of lock, shares and result doesn't fit. All given shares are checked, not only a
// threshold of them.
//
// What is made is written aside and put in place in one step; nothing is ever overwritten; an
// interrupted run leaves nothing. The given directories are only read. Run takes a tenth of a second
// of one core for each share and each key, on all cores, and stops when its context ends. The layout
// is that of charon combine:
//
//	OUTPUT
//	├── keystore-<v>.json         0600  v: the validator's number in the lock, from 0
//	├── keystore-<v>.txt          0400  its password
//	└── slashing-protection.json  0600  EIP-3076, minimal, of all validators
package combine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"app.provost/cluster"
)

// Names of what is written besides keystores.
const (
	HistoryName = "slashing-protection.json"
	// PartHistoryName is of a history that isn't whole, and was accepted as that.
	PartHistoryName = "slashing-protection-incomplete.json"
)

// Params say what to combine. Dirs and ClusterDir may both be given; the same directory twice counts once.
type Params struct {
	Dirs       []string // node directories
	ClusterDir string   // a directory with node directories in it; "" for none
	OutputDir  string   // must not exist, or be empty
	// WithoutHistory is the sentence of Phrase, where the history isn't known; "" otherwise.
	WithoutHistory string
}

// Marks are the highest numbers that a validator signed.
type Marks struct {
	HasAttestation bool
	Source, Target cluster.Epoch
	HasBlock       bool
	Slot           cluster.Slot
}

// History is what one node signed, by the validators' keys.
type History struct {
	GenesisValidatorsRoot cluster.Root
	Marks                 map[cluster.PubKey]Marks
}

// Options are the doors to other rooms. All but Progress are needed.
type Options struct {
	// VerifyLock checks all hashes and signatures of a lock file.
	VerifyLock func(ctx context.Context, path string) error
	// History reads what the node of a directory signed; nil when there is nothing to read. Its error
	// is or wraps ErrInUse while a node has it.
	History func(nodeDir string) (*History, error)
	// WriteHistory writes an EIP-3076 file.
	WriteHistory func(to io.Writer, h History) error
	// Progress hears done of total steps. It is called by one goroutine at a time, must return at once,
	// and may be nil.
	Progress func(done, total int, what string)
}

// ErrInUse is what Options.History answers while a node signs.
var ErrInUse = errors.New("slashing protection is in use")

// Phrase is the sentence that accepts keys without their whole history.
func Phrase(lock cluster.Root) string {
	return fmt.Sprintf("I accept that the validators of %s may be slashed", lock.String()[:10])
}

// Code says what stands in the way. The zero value is nothing.
type Code string

// The codes.
const (
	CodeParams    Code = "params"      // Field names the one that is wrong
	CodeExists    Code = "exists"      // something is at the target
	CodeFew       Code = "few"         // fewer nodes than the threshold
	CodeHistory   Code = "history"     // what was signed isn't known
	CodeRunning   Code = "running"     // a node uses its directory
	CodeMoved     Code = "moved"       // a node was exported from its directory
	CodeBroken    Code = "broken"      // lock, shares or keys don't fit
	CodeForeign   Code = "foreign"     // directories of different clusters
	CodeUnread    Code = "unreadable"  // rights, or the disk
	CodeCancelled Code = "cancelled"   //
	CodeFailed    Code = "unexpected"  //
	CodeNoSpace   Code = "no-space"    //
	CodeRights    Code = "not-allowed" // at the target
)

// Error is an error of this package: what stands in the way, where, and what to do.
type Error struct {
	Code   Code
	Field  string // of CodeParams and CodeExists: the flag, without dashes
	Path   string // may be empty
	Err    error
	Remedy string // may be empty
	Phrase string // the sentence of Phrase, where it is what helps
}

// Error returns everything in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("combine: ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Err.Error())
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of any error that this package returned; "" for nil.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return CodeFailed
}
