package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"app.provost/prover"
)

// resultSchema is the version of a saved result.
const resultSchema = "provost.result/1"

const resultFile = "result.json"

type savedResult struct {
	Schema  string        `json:"schema"`
	SavedAt time.Time     `json:"saved_at"`
	Report  prover.Report `json:"report"`
}

// ReadResult reads the result that a worker with this directory has made and not delivered; nil if there is none. The
// control side uses it when the worker has died: the proof counts, though nobody is left to deliver it.
func ReadResult(dir string) (*prover.Report, error) {
	f, err := os.Open(filepath.Join(dir, resultFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read saved result: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFrame+1))
	if err != nil {
		return nil, fmt.Errorf("read saved result: %w", err)
	}
	r, err := parseResult(b)
	if err != nil {
		return nil, fmt.Errorf("read saved result %s: %w", f.Name(), err)
	}
	return r, nil
}

func parseResult(b []byte) (*prover.Report, error) {
	var s savedResult
	if len(b) > maxFrame {
		return nil, fmt.Errorf("it is larger than %d bytes", maxFrame)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, err
	}
	if s.Schema != resultSchema {
		return nil, fmt.Errorf("its schema is %q, want %s", s.Schema, resultSchema)
	}
	if s.Report.Kind != prover.ReportResult {
		return nil, fmt.Errorf("it is a %q, no result", s.Report.Kind)
	}
	if err := s.Report.Check(); err != nil {
		return nil, err
	}
	return &s.Report, nil
}

func saveResult(dir string, r *prover.Report, now time.Time) error {
	b, err := json.Marshal(savedResult{Schema: resultSchema, SavedAt: now.UTC().Round(0), Report: *r})
	if err != nil {
		return fmt.Errorf("save result: %w", err)
	}
	if err := writeFile(filepath.Join(dir, resultFile), b); err != nil {
		return fmt.Errorf("save result: %w", err)
	}
	return nil
}

// dropResult forgets a saved result. If the removal does not survive a crash, the result is delivered once more and
// refused as late: no sync is needed.
func dropResult(dir string) error {
	if err := os.Remove(filepath.Join(dir, resultFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove delivered result: %w", err)
	}
	return nil
}
