package super

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

// Formats on disk. Fields are only added within a number; a file of another
// number is refused. testdata keeps a sample of each.
const (
	specSchema   = "provost.process/1"
	runSchema    = "provost.run/1"
	exitSchema   = "provost.exit/1"
	handleSchema = "provost.handle/1"
	coreSchema   = "provost.core/1"

	lockName = "lock"
	specName = "spec.json"
	runName  = "run.json"
	exitName = "exit.json"

	maxFile = 1 << 20 // no file of ours is larger
)

// order is spec.json: what the stub is to do.
type order struct {
	Schema   string `json:"schema"`
	Run      string `json:"run"` // names this run
	Spec     Spec   `json:"spec"`
	SpecHash string `json:"spec_hash"`
	// Environ is the child's whole environment, without the mark of the run.
	Environ  []string `json:"environ"`
	CoreDir  string   `json:"core_dir"`           // of reservations
	Owner    string   `json:"owner"`              // whose engine, for those who ask who holds a core
	Lifeline bool     `json:"lifeline,omitempty"` // file descriptor 3 is one
}

// running is run.json: who runs.
type running struct {
	Schema     string       `json:"schema"`
	ID         string       `json:"id"`
	Run        string       `json:"run"`
	Boot       string       `json:"boot_id"`
	StubPID    int          `json:"stub_pid"`
	StubTicks  uint64       `json:"stub_start_ticks"`
	ChildPID   int          `json:"child_pid"` // 0: not started yet
	ChildTicks uint64       `json:"child_start_ticks"`
	StartedAt  time.Time    `json:"started_at"`
	Shared     []prover.CPU `json:"shared_cpus,omitempty"`
	CapBy      string       `json:"cap_by,omitempty"`
	// Notes are steps that could not be taken and without which the child runs all the same.
	Notes []string `json:"notes,omitempty"`
}

func (r running) stub() identity { return identity{PID: r.StubPID, Ticks: r.StubTicks, Boot: r.Boot} }

// exited is exit.json: how a run ended.
type exited struct {
	Schema    string            `json:"schema"`
	ID        string            `json:"id"`
	Run       string            `json:"run"`
	StartedAt *time.Time        `json:"started_at"` // null: it never started
	Exit      engine.ExitRecord `json:"exit"`
	// StopAsked: the stub had been told to stop, by whomever.
	StopAsked bool   `json:"stop_asked"`
	OOM       bool   `json:"oom"` // the kernel ended it at the cap
	Usage     *Usage `json:"usage"`
}

// handle is what is saved through Handles: enough to find the process again, and
// what the policy knows of it.
type handle struct {
	Schema    string            `json:"schema"`
	ID        string            `json:"id"`
	Dir       string            `json:"dir"`
	Run       string            `json:"run"`
	Boot      string            `json:"boot_id"`
	StubPID   int               `json:"stub_pid"` // 0: about to be started
	StubTicks uint64            `json:"stub_start_ticks"`
	ChildPID  int               `json:"child_pid"`
	SpecHash  string            `json:"spec_hash"`
	StartedAt time.Time         `json:"started_at"`
	Wish      engine.WorkerWish `json:"wish"`
	Restarts  int               `json:"restarts"`
	History   History           `json:"history"`
	GivenUp   string            `json:"given_up,omitempty"` // why
	// LastExit is of the run before Run, or of Run when it has been counted (Counted).
	LastExit *engine.ExitRecord `json:"last_exit"`
	Counted  bool               `json:"counted"`
	// Stopping: the stub of Run has been told to stop by us, so its end is no death.
	Stopping bool `json:"stopping"`
}

func (h handle) stub() identity { return identity{PID: h.StubPID, Ticks: h.StubTicks, Boot: h.Boot} }

// readJSON reads a small file of a known schema. A missing file is fs.ErrNotExist.
func readJSON(path, schema string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	return parseJSON(path, b, schema, into)
}

func parseJSON(name string, b []byte, schema string, into any) error {
	if len(b) > maxFile {
		return fmt.Errorf("read %s: larger than %d bytes", name, maxFile)
	}
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if head.Schema != schema {
		return fmt.Errorf("read %s: its schema is %q and this version reads %q", name, head.Schema, schema)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// writeJSON puts a file in place whole or not at all, 0600. With sync it also
// outlasts a power cut; without, only a crash of the program.
func writeJSON(dir, name string, v any, sync bool) (err error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", filepath.Join(dir, name), err)
		}
	}()
	if _, err = f.Write(append(b, '\n')); err != nil {
		return err
	}
	if sync {
		if err = f.Sync(); err != nil {
			return err
		}
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// sweepTemp removes what a kill in the middle of writeJSON left behind.
func sweepTemp(dir string) {
	for _, name := range []string{specName, runName, exitName} {
		old, _ := filepath.Glob(filepath.Join(dir, "."+name+"-*"))
		for _, f := range old {
			os.Remove(f)
		}
	}
}

// readRun gives run.json; nil when there is none or it cannot be understood,
// which is the same to us: nobody has said who runs.
func readRun(dir string) *running {
	var r running
	if readJSON(filepath.Join(dir, runName), runSchema, &r) != nil {
		return nil
	}
	return &r
}

// readExit gives exit.json if it is of this run.
func readExit(dir, run string) (*exited, error) {
	var e exited
	err := readJSON(filepath.Join(dir, exitName), exitSchema, &e)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if e.Run != run {
		return nil, nil
	}
	return &e, nil
}

// envValue finds a variable in NUL-separated environment bytes.
func envValue(environ []byte, name string) string {
	for e := range strings.SplitSeq(string(environ), "\x00") {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}
