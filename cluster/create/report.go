package create

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"app.provost/cluster"
)

// ReportSchema names the JSON form of Report; its major number changes when a field is removed or
// changes its meaning.
const ReportSchema = "provost.verify/1"

// MaxLockBytes is the largest lock file that is read or made.
const MaxLockBytes = 64 << 20

// Status is the outcome of a check. Its zero value is no outcome.
type Status string

// The outcomes of a check.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped" // it could not be made; Problem says why
)

// Check is one thing that was looked at.
type Check struct {
	ID      string `json:"id"` // stable, as in lock.hash or node1.keystore[0]
	Status  Status `json:"status"`
	File    string `json:"file,omitempty"`    // relative to what was verified
	Field   string `json:"field,omitempty"`   // the place in the file
	What    string `json:"what"`              // what is checked
	Problem string `json:"problem,omitempty"` // what is wrong, or why it was skipped
	Remedy  string `json:"remedy,omitempty"`
}

// Finding is something worth a warning that doesn't make the cluster wrong.
type Finding struct {
	ID      string `json:"id"`
	File    string `json:"file,omitempty"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy"`
}

// NotProtected are values that may be changed without any check failing.
type NotProtected struct {
	File   string   `json:"file"`   // a pattern, relative to a node's directory or to what was verified
	Fields []string `json:"fields"` // places in the file
	Why    string   `json:"why"`
}

// Scope says what was verified.
type Scope string

// What Verify can look at.
const (
	ScopeCluster Scope = "cluster" // a directory with nodeN directories
	ScopeNode    Scope = "node"    // one node's directory
	ScopeLock    Scope = "lock"    // a lock file alone
	// ScopeDefinition is a definition file alone, as it is before there are keys.
	ScopeDefinition Scope = "definition"
)

// Report is what Verify found. Values that could not be read are null or empty.
type Report struct {
	Schema     string        `json:"schema"`
	Path       string        `json:"path"` // absolute
	Scope      Scope         `json:"scope"`
	Name       string        `json:"name"`
	Network    *string       `json:"network"`
	Version    string        `json:"version"`
	LockHash   *cluster.Root `json:"lock_hash"`
	Nodes      *int          `json:"nodes"`
	Threshold  *int          `json:"threshold"`
	Validators *int          `json:"validators"`
	// ShareIndex is which share a node directory holds, by its private key; null for other scopes.
	ShareIndex *cluster.ShareIndex `json:"share_index"`
	Passed     int                 `json:"passed"`
	Failed     int                 `json:"failed"`
	Skipped    int                 `json:"skipped"`
	Checks     []Check             `json:"checks"`
	Findings   []Finding           `json:"findings"`
	// NotProtected says which values of the files no check holds.
	NotProtected []NotProtected `json:"not_protected"`
}

// OK reports whether checks were made and none failed.
func (r *Report) OK() bool { return r.Failed == 0 && r.Passed > 0 }

// Failures returns the failed checks.
func (r *Report) Failures() []Check {
	var out []Check
	for _, c := range r.Checks {
		if c.Status == Failed {
			out = append(out, c)
		}
	}
	return out
}

func (r *Report) add(checks ...Check) {
	for _, c := range checks {
		switch c.Status {
		case Passed:
			r.Passed++
		case Failed:
			r.Failed++
		case Skipped:
			r.Skipped++
		}
	}
	r.Checks = append(r.Checks, checks...)
}

// A sheet collects the checks of one file or one part of it, with one user at a time.
type sheet struct {
	prefix   string // of ids, as in "node0."
	file     string
	def      string // path of the definition in the file, with a dot at its end; "" when it is the file
	checks   []Check
	findings []Finding
	free     []NotProtected
}

// defInLock is the path of the definition in a lock.
const defInLock = "cluster_definition."

// check notes an outcome: passed when err is nil.
func (s *sheet) check(id, field, what string, err error, remedy string) bool {
	c := Check{ID: s.prefix + id, Status: Passed, File: s.file, Field: field, What: what}
	if err != nil {
		c.Status, c.Problem, c.Remedy = Failed, err.Error(), remedy
	}
	s.checks = append(s.checks, c)
	return err == nil
}

func (s *sheet) skip(id, field, what, why string) {
	s.checks = append(s.checks, Check{ID: s.prefix + id, Status: Skipped, File: s.file, Field: field, What: what, Problem: why})
}

// unprotected notes values that no hash, signature or rule holds.
func (s *sheet) unprotected(file string, fields ...string) {
	const most = 100 // a hostile file may have a million
	if more := len(fields) - most; more > 0 {
		fields = append(slices.Clone(fields[:most]), fmt.Sprintf("and %d more", more))
	}
	s.free = append(s.free, NotProtected{File: file, Fields: fields, Why: "no hash, signature or rule covers them, so a change isn't noticed; nothing that a node does depends on them"})
}

func (s *sheet) finding(id, problem, remedy string) {
	s.findings = append(s.findings, Finding{ID: s.prefix + id, File: s.file, Problem: problem, Remedy: remedy})
}

func index(what string, i int) string { return what + "[" + strconv.Itoa(i) + "]" }

func octal(m fs.FileMode) string { return fmt.Sprintf("%04o", m.Perm()) }
