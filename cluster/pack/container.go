package pack

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/keystore"
)

// Names in a node directory.
const (
	lockName  = "cluster-lock.json"
	keysName  = "validator_keys"
	ownName   = "provost"
	guardPath = ownName + "/guard.db"
	statePath = ownName + "/node.json"
)

// Bounds of an archive.
const (
	maxManifestBytes = 64 << 20
	maxArchiveFiles  = 2*cluster.MaxValidators + 64
	maxPadding       = 1 << 20 // behind the last file
)

// kinds are the files that an archive may hold, each with its bound.
var kinds = []struct {
	name *regexp.Regexp
	max  int64
}{
	{regexp.MustCompile(`^cluster-lock\.json$`), 64 << 20},
	{regexp.MustCompile(`^cluster-definition\.json$`), 16 << 20},
	{regexp.MustCompile(`^charon-enr-private-key$`), 1 << 10},
	{regexp.MustCompile(`^deposit-data(-[0-9.]{1,16}eth)?\.json$`), 64 << 20},
	{regexp.MustCompile(`^builder_registrations_overrides\.json$`), 64 << 20},
	{regexp.MustCompile(`^validator_keys/keystore-(insecure-)?(0|[1-9][0-9]{0,5})\.json$`), keystore.MaxFileBytes},
	{regexp.MustCompile(`^validator_keys/keystore-(insecure-)?(0|[1-9][0-9]{0,5})\.txt$`), keystore.MaxPasswordBytes},
	{regexp.MustCompile(`^provost/guard\.db$`), 1 << 30},
	{regexp.MustCompile(`^provost/node\.json$`), 64 << 10},
}

// bound is how large the file of a name may be; 0 for a name that no archive has.
func bound(path string) int64 {
	for _, k := range kinds {
		if k.name.MatchString(path) {
			return k.max
		}
	}
	return 0
}

var errArchive = errors.New("it is no whole archive of a node")

// check says what is wrong with a manifest.
func (m *Manifest) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", errArchive, manifestName, fmt.Sprintf(format, args...))
	}
	if m.Kind != Move && m.Kind != Backup {
		return bad("kind %.20q", string(m.Kind))
	}
	if len(m.Files) > maxArchiveFiles {
		return bad("%d files", len(m.Files))
	}
	if m.Made.Year() < 2020 || m.Made.Year() > 9999 {
		return bad("the time %s", m.Made.Format(time.RFC3339))
	}
	if m.Nodes < 1 || m.Nodes > cluster.MaxOperators || m.Node < 0 || m.Node >= m.Nodes || len(m.Cluster) > cluster.MaxNameBytes {
		return bad("node %d of %d", m.Node, m.Nodes)
	}
	seen := map[string]bool{}
	for i, f := range m.Files {
		most := bound(f.Path)
		switch {
		case most == 0:
			return bad("files[%d]: %.80q is no file of a node", i, f.Path)
		case seen[f.Path]:
			return bad("files[%d]: %s stands twice", i, f.Path)
		case f.Size < 0 || f.Size > most:
			return bad("files[%d]: %s has %d bytes, at most %d are taken", i, f.Path, f.Size, most)
		}
		seen[f.Path] = true
	}
	for _, needed := range []string{lockName, enr.KeyFileName} {
		if !seen[needed] {
			return bad("%s is missing", needed)
		}
	}
	if m.Protected != seen[guardPath] {
		return bad("slashing protection is %v and its file %v", m.Protected, seen[guardPath])
	}
	// A node that ran says so; without its protection it must not start.
	if seen[statePath] && !seen[guardPath] {
		return bad("the node ran, and its slashing protection is missing")
	}
	return nil
}

// schemaError is a manifest of another format.
type schemaError struct{ schema string }

func (e *schemaError) Error() string {
	return fmt.Sprintf("its format is %.40q, this program reads %s", e.schema, Schema)
}

func parseManifest(raw []byte) (Manifest, error) {
	var head struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return Manifest{}, fmt.Errorf("%w: %s: %w", errArchive, manifestName, err)
	}
	if head.Schema != Schema {
		if strings.HasPrefix(head.Schema, "provost.node-archive/") {
			return Manifest{}, &schemaError{head.Schema}
		}
		return Manifest{}, fmt.Errorf("%w: %s: schema %.40q", errArchive, manifestName, head.Schema)
	}
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %s: %w", errArchive, manifestName, err)
	}
	return m, m.check()
}

// readContainer reads what was sealed. Each file goes to what create returns for its path, which
// readContainer closes, and is checked by size and hash. Until it returns without an error nothing
// that was written may be believed.
func readContainer(r io.Reader, create func(path string) (io.WriteCloser, error)) (Manifest, error) {
	tr := tar.NewReader(r)
	next := func(path string, size int64) error {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: %s is missing", errArchive, path)
		case err != nil:
			return fmt.Errorf("%w: %w", errArchive, err)
		case h.Name != path || h.Typeflag != tar.TypeReg:
			return fmt.Errorf("%w: %.80q stands where the file %s should", errArchive, h.Name, path)
		case size >= 0 && h.Size != size || h.Size > maxManifestBytes && size < 0:
			return fmt.Errorf("%w: %s has %d bytes", errArchive, path, h.Size)
		}
		return nil
	}
	if err := next(manifestName, -1); err != nil {
		return Manifest{}, err
	}
	var raw bytes.Buffer
	if _, err := io.Copy(&raw, io.LimitReader(tr, maxManifestBytes)); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", errArchive, err)
	}
	m, err := parseManifest(raw.Bytes())
	if err != nil {
		return Manifest{}, err
	}
	for _, f := range m.Files {
		if err := next(f.Path, f.Size); err != nil {
			return Manifest{}, err
		}
		to, err := create(f.Path)
		if err != nil {
			return Manifest{}, err
		}
		sum := sha256.New()
		n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(tr, f.Size))
		if closed := to.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return Manifest{}, err
		}
		if n != f.Size || cluster.Root(sum.Sum(nil)) != f.SHA256 {
			return Manifest{}, fmt.Errorf("%w: %s is not what the manifest says", errArchive, f.Path)
		}
	}
	if h, err := tr.Next(); err == nil {
		return Manifest{}, fmt.Errorf("%w: %.80q stands behind its end", errArchive, h.Name)
	} else if !errors.Is(err, io.EOF) {
		return Manifest{}, fmt.Errorf("%w: %w", errArchive, err)
	}
	// Only the end of the stream shows that nothing was cut off.
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxPadding+1))
	if err != nil {
		return Manifest{}, err
	}
	if n > maxPadding {
		return Manifest{}, fmt.Errorf("%w: something stands behind its end", errArchive)
	}
	return m, nil
}

// writeContainer writes the manifest and its files. open returns a file's content, whose size and
// hash must be the manifest's.
func writeContainer(w io.Writer, m Manifest, open func(path string) (io.ReadCloser, error)) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	head := func(path string, size int64) error {
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Size: size, Mode: 0o600, ModTime: m.Made, Format: tar.FormatPAX})
	}
	if err := head(manifestName, int64(len(raw))); err != nil {
		return err
	}
	if _, err := tw.Write(raw); err != nil {
		return err
	}
	for _, f := range m.Files {
		if err := head(f.Path, f.Size); err != nil {
			return err
		}
		from, err := open(f.Path)
		if err != nil {
			return err
		}
		sum := sha256.New()
		n, err := io.Copy(io.MultiWriter(tw, sum), from)
		from.Close()
		if err != nil {
			return err
		}
		if n != f.Size || cluster.Root(sum.Sum(nil)) != f.SHA256 {
			return fmt.Errorf("%s was changed while it was read", f.Path)
		}
	}
	return tw.Close()
}
