// Package pack seals the directory of one node into one file, to move the node or to keep a backup,
// and unseals it again.
//
// Promises. A node never travels without its slashing protection. An export that moves a node takes
// the node's key, so that it cannot run meanwhile, and leaves a note in the directory, before the file
// can be used, that keeps it from ever running there again. A backup may be made of a running node; it
// holds one whole state of slashing protection, which is older than what the node signs next. So a
// directory that is unsealed from a backup carries a note too: its first start waits until nothing can
// be contradicted that was signed since. The same holds for a move that is unsealed later than an hour
// after it was made: it might be the second time.
//
// What is unsealed is hostile until it was checked: names, sizes and hashes by the manifest, then the
// directory as a whole by the functions that were given. Export and Import write aside, put in place
// in one step, overwrite nothing and leave nothing behind but the note, when they are interrupted.
// They read and write as much as the node has, and check its keystores, which takes a tenth of a
// second of one core for each; they stop when their context ends.
//
// The file is an age file (https://age-encryption.org/v1) with a tar archive in it, so that it can be
// opened without this program: age -d FILE | tar -x. In the archive the manifest comes first, then its
// files in its order, regular files all, of mode 0600:
//
//	manifest.json             see Manifest
//	charon-enr-private-key
//	cluster-lock.json
//	deposit-data….json
//	provost/guard.db          slashing protection, if the node ever ran with it
//	provost/node.json
//	validator_keys/keystore-….json and .txt
//
// Format 1, 2026-11-20: the first.
package pack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"app.provost/cluster"
)

// Schema is the format of the manifest.
const Schema = "provost.node-archive/1"

// manifestName is the first file of the archive.
const manifestName = "manifest.json"

// moveWindow is for how long after a move was made its slashing protection is taken for the newest.
const moveWindow = time.Hour

// Kind says what an archive is for. The zero value is nothing.
type Kind string

// The kinds.
const (
	Move   Kind = "move"
	Backup Kind = "backup"
)

// Manifest says what an archive holds. Fields are only added.
type Manifest struct {
	Schema     string       `json:"schema"`
	Kind       Kind         `json:"kind"`
	Made       time.Time    `json:"made"`    // UTC
	Program    string       `json:"program"` // and version that made it
	Cluster    string       `json:"cluster"` // its name, may be empty
	LockHash   cluster.Root `json:"lock_hash"`
	Node       int          `json:"node_index"` // in the lock, from 0
	Nodes      int          `json:"nodes"`
	Threshold  int          `json:"threshold"`
	Validators int          `json:"validators"`
	// Protected says that slashing protection is in it; without it the node never ran with one.
	Protected bool `json:"slashing_protection"`
	// Waiting says that the directory was itself restored from a copy and never started since.
	Waiting bool           `json:"waiting,omitempty"`
	Files   []ManifestFile `json:"files"`
}

// ManifestFile is one file of an archive.
type ManifestFile struct {
	Path   string       `json:"path"` // with slashes, relative to the node's directory
	Size   int64        `json:"size_bytes"`
	SHA256 cluster.Root `json:"sha256"`
}

// ErrNoProtection is what Options.CopyProtection answers where there is nothing to copy.
var ErrNoProtection = errors.New("there is no slashing protection")

// Options are the doors to other rooms. All but Progress are needed.
type Options struct {
	// Verify makes every check that can be made of a node directory.
	Verify func(ctx context.Context, nodeDir string) error
	// CopyProtection copies slashing protection from one directory into another, as one whole state,
	// also while a node uses it. Its error is or wraps ErrNoProtection where there is none.
	CopyProtection func(ctx context.Context, from, to string) error
	// ReadProtection checks slashing protection in a directory and returns its chain.
	ReadProtection func(dir string) (genesisValidatorsRoot cluster.Root, err error)
	Program        string // name and version, for the manifest
	// Progress hears what is being done. It must return at once, and may be nil.
	Progress func(what string)
}

func (o Options) say(what string) {
	if o.Progress != nil {
		o.Progress(what)
	}
}

// Code says what stands in the way. The zero value is nothing.
type Code string

// The codes.
const (
	CodeParams      Code = "params"      // Field names the one that is wrong
	CodeExists      Code = "exists"      // something is at the target
	CodeRunning     Code = "running"     // the node runs
	CodeMoved       Code = "moved"       // the node was exported before
	CodeUnprotected Code = "unprotected" // slashing protection is missing or damaged
	CodeBroken      Code = "broken"      // the directory doesn't stand the checks
	CodeArchive     Code = "archive"     // the file is no whole archive
	CodeNotForYou   Code = "not-for-you" // it is sealed for somebody else
	CodeNewer       Code = "newer"       // it has a newer format
	CodeUnread      Code = "unreadable"  // rights, or the disk
	CodeRights      Code = "not-allowed" // at the target
	CodeNoSpace     Code = "no-space"    //
	CodeCancelled   Code = "cancelled"   //
	CodeFailed      Code = "unexpected"  //
)

// Error is an error of this package: what stands in the way, where, and what to do.
type Error struct {
	Code   Code
	Field  string // of CodeParams and CodeExists: the flag, without dashes
	Path   string // may be empty
	Err    error
	Remedy string // may be empty
}

// Error returns everything in one line.
func (e *Error) Error() string {
	var b strings.Builder
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

func problem(field, remedy, cause string, args ...any) error {
	return &Error{Code: CodeParams, Field: field, Err: fmt.Errorf(cause, args...), Remedy: remedy}
}
