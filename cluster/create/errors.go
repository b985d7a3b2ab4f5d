package create

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind sorts errors for exit codes. Its zero value is no kind.
type Kind string

// The kinds of errors.
const (
	KindUsage      Kind = "usage"       // a flag, an answer or the choice of target isn't valid
	KindExists     Kind = "exists"      // something is at the target already
	KindNotAllowed Kind = "not_allowed" // rights, or a read-only file system
	KindNoSpace    Kind = "no_space"    // disk or quota is full
	KindCancelled  Kind = "cancelled"   // the context ended
	KindPartly     Kind = "partly"      // key shares stayed at a keymanager, though no cluster was made; or a cluster was made, though not its definition file
	KindDamaged    Kind = "damaged"     // what was written doesn't read back as it should
	KindUnexpected Kind = "unexpected"  // anything else
)

// Error is an error of this package: what was done, to which path, why it failed, what to do.
type Error struct {
	Kind   Kind
	Action string // as in "create cluster"
	Path   string // may be empty
	Err    error
	Remedy string // may be empty
}

// Error returns everything in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Action)
	if e.Path != "" {
		b.WriteString(" " + e.Path)
	}
	b.WriteString(": " + e.Err.Error())
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Problem is one thing that is wrong with the parameters.
type Problem struct {
	Field  string `json:"field"` // the name of the flag, without dashes in front
	Cause  string `json:"cause"`
	Remedy string `json:"remedy"`
}

// String returns the problem in one line.
func (p Problem) String() string { return "--" + p.Field + ": " + p.Cause + "; " + p.Remedy }

// ProblemsError says that the parameters are not valid. It lists all problems at once.
type ProblemsError struct{ Problems []Problem }

// Error returns all problems, a line each.
func (e *ProblemsError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// KindOf returns the kind of any error that this package returned; "" for nil.
func KindOf(err error) Kind {
	var e *Error
	var p *ProblemsError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &p):
		return KindUsage
	case errors.As(err, &e):
		return e.Kind
	default:
		return KindUnexpected
	}
}

// explain wraps an error of the file system or of a context with its kind and a remedy.
func explain(action, path string, err error) error {
	if err == nil {
		return nil
	}
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	e := &Error{Kind: KindUnexpected, Action: action, Path: path, Err: err}
	// The path stands in front already.
	var pe *fs.PathError
	if errors.As(err, &pe) && path != "" {
		e.Err = fmt.Errorf("%s: %w", pe.Op, pe.Err)
		if pe.Path != path {
			e.Err = fmt.Errorf("%s %s: %w", pe.Op, filepath.Base(pe.Path), pe.Err)
		}
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Remedy = KindCancelled, "nothing was left behind"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		e.Kind, e.Remedy = KindNoSpace, "free some space or choose another --cluster-dir; nothing was left behind"
	case errors.Is(err, unix.EROFS):
		e.Kind, e.Remedy = KindNotAllowed, "the file system is read-only: choose another --cluster-dir"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Remedy = KindNotAllowed, "choose a --cluster-dir you may write to, or run as the directory's owner"
	}
	return e
}
