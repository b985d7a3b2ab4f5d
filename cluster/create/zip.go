package create

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// archiveName is the file that --zipped makes of the node directories: a gzipped tar with node0, node1,
// … at its top, as Charon packs it.
const (
	archiveName             = "cluster.tar.gz"
	modeArchive fs.FileMode = 0o600
)

// pack puts what is below dir into an archive in dir, reads that back, and then wipes the rest.
func pack(ctx context.Context, dir string) error {
	sums := map[string][32]byte{}
	path := filepath.Join(dir, archiveName)
	if err := writeArchive(ctx, path, dir, sums); err != nil {
		return err
	}
	if err := checkArchive(ctx, path, sums); err != nil {
		return fmt.Errorf("read %s back: %w", archiveName, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := wipeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return syncDir(dir)
}

func writeArchive(ctx context.Context, path, dir string, sums map[string][32]byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, modeArchive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chmod(modeArchive); err != nil {
		return err
	}
	zw := gzip.NewWriter(f)
	tw := tar.NewWriter(zw)
	err = filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || at == dir || at == path {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(rel), Mode: int64(info.Mode().Perm()), Size: info.Size(), ModTime: info.ModTime().Truncate(1e9)}
		if d.IsDir() {
			// Unpacked, secrets lie in directories of mode 0700 again.
			h.Typeflag, h.Name, h.Size = tar.TypeDir, h.Name+"/", 0
			return tw.WriteHeader(h)
		}
		raw, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		defer clear(raw)
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		sums[h.Name] = sha256.Sum256(raw)
		_, err = tw.Write(raw)
		return err
	})
	for _, end := range []func() error{tw.Close, zw.Close, f.Sync} {
		if err == nil {
			err = end()
		}
	}
	return err
}

func checkArchive(ctx context.Context, path string, sums map[string][32]byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	tr := tar.NewReader(zr)
	found := 0
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		var raw bytes.Buffer
		if _, err := io.Copy(&raw, io.LimitReader(tr, h.Size)); err != nil {
			return err
		}
		sum, ok := sums[h.Name]
		if !ok || sum != sha256.Sum256(raw.Bytes()) {
			return fmt.Errorf("%s is not what was packed", h.Name)
		}
		clear(raw.Bytes())
		found++
	}
	if _, err := io.Copy(io.Discard, zr); err != nil { // its checksum comes last
		return err
	}
	if found != len(sums) {
		return fmt.Errorf("%d of %d files are in it", found, len(sums))
	}
	return nil
}
