// Package fence keeps the note in a node's directory that says that the node must not sign there, or
// not yet. The note lies beside slashing protection:
//
//	DIR/provost/fence.json
//
// It is written by whoever seals a node to move it or unseals a copy of it, always before the copy
// could be used, and read by whoever would run the node. A note that cannot be read is an error: only
// a missing file means that nothing stands against signing.
//
// Format 1, 2026-11-20: the first.
package fence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Where the note is, and its format.
const (
	Dir      = "provost" // below the node's directory
	FileName = "fence.json"
	Schema   = "provost.fence/1"

	maxBytes = 64 << 10
)

// Kind says what stands against signing. The zero value is no kind.
type Kind string

// The kinds.
const (
	// Moved nodes were exported to run elsewhere: they never sign here again.
	Moved Kind = "moved"
	// Restored directories are copies: what the node signed after the copy was made is not known here,
	// so the first start waits until nothing of it can be contradicted.
	Restored Kind = "restored"
)

// Note is what stands in the file.
type Note struct {
	Kind Kind      `json:"kind"`
	At   time.Time `json:"at"`   // when it was written
	Copy time.Time `json:"copy"` // when the copy was made, or the export
	// Archive is where the export was put, and SHA256 (hex) of that file. Finished says that it is
	// there; without it the export ended early and may be made again.
	Archive  string `json:"archive,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	Finished bool   `json:"finished,omitempty"`
	// Waiting says of a moved node that its directory was a restored copy that was never started.
	Waiting bool `json:"waiting,omitempty"`
}

type file struct {
	Schema string `json:"schema"`
	Note
}

// Path is where the note of a node directory is.
func Path(nodeDir string) string { return filepath.Join(nodeDir, Dir, FileName) }

// Read returns the note, nil when there is none.
func Read(nodeDir string) (*Note, error) {
	path := Path(nodeDir)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxBytes))
	if err != nil {
		return nil, err
	}
	var in file
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err = d.Decode(&in); err == nil {
		switch {
		case in.Schema != Schema:
			err = fmt.Errorf("its schema is %.40q, this program reads %s", in.Schema, Schema)
		case in.Kind != Moved && in.Kind != Restored:
			err = fmt.Errorf("its kind is %.40q", in.Kind)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &in.Note, nil
}

// Write puts a note into a node directory; it is on disk when Write returns.
func Write(nodeDir string, n Note) (err error) {
	raw, err := json.MarshalIndent(file{Schema, n}, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Join(nodeDir, Dir)
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := syncDir(nodeDir); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.CreateTemp(dir, "."+FileName+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // the first error says more
		}
	}()
	_, err = f.Write(append(raw, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), Path(nodeDir)); err != nil {
		return err
	}
	return syncDir(dir)
}

// Remove takes the note away for good. That there is none is no error.
func Remove(nodeDir string) error {
	if err := os.Remove(Path(nodeDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := syncDir(filepath.Join(nodeDir, Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
