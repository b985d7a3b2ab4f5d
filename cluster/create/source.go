package create

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits on archives, which are read into memory: far more than a thousand validators for ten nodes
// need, and no more than a small machine has.
const (
	maxArchiveBytes   = 256 << 20
	maxArchivePadding = 1 << 20 // after the end of a tar
	maxArchiveEntries = 1 << 18
)

// source is what Verify reads: a directory on disk or an archive in memory. Names are relative, with
// slashes; "." is the whole.
type source interface {
	// read returns a regular file of at most limit bytes. The info is nil where rights mean nothing.
	read(name string, limit int64) ([]byte, fs.FileInfo, error)
	// list returns the names in a directory, sorted, and whether each is a directory.
	list(name string) ([]entry, error)
}

type entry struct {
	name string
	dir  bool
}

// diskSource is a directory. Links are followed: secrets are often mounted as such.
type diskSource struct{ root string }

func (d diskSource) read(name string, limit int64) ([]byte, fs.FileInfo, error) {
	return readFile(filepath.Join(d.root, filepath.FromSlash(name)), limit)
}

func (d diskSource) list(name string) ([]entry, error) {
	dir := filepath.Join(d.root, filepath.FromSlash(name))
	found, err := readDir(dir)
	out := make([]entry, len(found))
	for i, e := range found {
		out[i] = entry{e.Name(), e.IsDir()}
		if e.Type()&fs.ModeSymlink != 0 {
			info, err := os.Stat(filepath.Join(dir, e.Name()))
			out[i].dir = err == nil && info.IsDir()
		}
	}
	return out, err
}

func readDir(dir string) ([]fs.DirEntry, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(maxDirEntries)
	_ = d.Close() // only read
	if errors.Is(err, io.EOF) {
		err = nil
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

// readFile reads a regular file of at most limit bytes. Links are followed. Errors don't repeat the
// path, which the check has.
func readFile(path string, limit int64) ([]byte, fs.FileInfo, error) {
	// Without O_NONBLOCK a named pipe would hold us up for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, withoutPath(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("it is not a regular file")
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read: %w", err)
	}
	if int64(len(raw)) > limit {
		return nil, nil, tooLarge(limit)
	}
	return raw, info, nil
}

func tooLarge(limit int64) error { return fmt.Errorf("it has more than %d bytes", limit) }

func withoutPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	return err
}

// memSource is an archive that was unpacked into memory, by name.
type memSource map[string][]byte

func (m memSource) read(name string, limit int64) ([]byte, fs.FileInfo, error) {
	raw, ok := m[path.Clean(name)]
	if !ok {
		return nil, nil, fmt.Errorf("open: %w", fs.ErrNotExist)
	}
	if int64(len(raw)) > limit {
		return nil, nil, tooLarge(limit)
	}
	return slices.Clone(raw), nil, nil // callers wipe what they read
}

func (m memSource) list(name string) ([]entry, error) {
	prefix := path.Clean(name) + "/"
	if prefix == "./" {
		prefix = ""
	}
	found := map[string]bool{}
	for file := range m {
		if rest, ok := strings.CutPrefix(file, prefix); ok {
			head, _, dir := strings.Cut(rest, "/")
			found[head] = dir
		}
	}
	if len(found) == 0 && prefix != "" {
		return nil, fmt.Errorf("open: %w", fs.ErrNotExist)
	}
	out := make([]entry, 0, len(found))
	for n, dir := range found {
		out = append(out, entry{n, dir})
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

func (m memSource) has(name string) bool {
	_, ok := m[name]
	return ok
}

func (m memSource) wipe() {
	for _, raw := range m {
		clear(raw)
	}
}

// isArchiveName says whether a file is a zipped cluster by its name.
func isArchiveName(name string) bool {
	return strings.HasSuffix(name, ".tar.gz") || strings.HasSuffix(name, ".tgz")
}

// unpack reads a zipped cluster into memory. Nothing in it can reach a disk, and a small archive
// that unpacks into a large one is refused.
func unpack(file string) (memSource, fs.FileInfo, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	m, err := unpackFrom(f)
	return m, info, err
}

func unpackFrom(r io.Reader) (memSource, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	left := int64(maxArchiveBytes)
	m := memSource{}
	in := tar.NewReader(z)
	for n := 0; ; n++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			// The end of the stream has the checksum over all that came before.
			if n, err := io.CopyN(io.Discard, z, maxArchivePadding+1); !errors.Is(err, io.EOF) {
				if n > maxArchivePadding {
					err = errors.New("more follows after its end")
				}
				return nil, fmt.Errorf("unpack: %w", err)
			}
			return m, nil
		}
		if err == nil && n >= maxArchiveEntries {
			err = fmt.Errorf("it has more than %d entries", maxArchiveEntries)
		}
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		name := path.Clean(h.Name)
		switch {
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg:
			return nil, fmt.Errorf("unpack %.60q: it is neither a file nor a directory", name)
		case !filepath.IsLocal(name):
			return nil, fmt.Errorf("unpack %.60q: the name leads out of the archive", name)
		case m.has(name):
			return nil, fmt.Errorf("unpack %.60q: it is there twice", name)
		case h.Size < 0 || h.Size > left:
			return nil, fmt.Errorf("unpack: it holds more than %d bytes", maxArchiveBytes)
		}
		left -= h.Size
		var buf bytes.Buffer // it grows with what is there, whatever the header promises
		if _, err := io.CopyN(&buf, in, h.Size); err != nil {
			return nil, fmt.Errorf("unpack %.60q: %w", name, err)
		}
		m[name] = buf.Bytes()
	}
}
