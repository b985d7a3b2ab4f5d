package run

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"app.provost/prover"
)

// Backend proves and verifies one kind of job. Errors of type prover.Failure are told to the operator as they are;
// others become FailInternal.
type Backend struct {
	// OpenKey opens a proving key whose content has been compared with its digest.
	OpenKey func(ctx context.Context, path string) (Key, error)
}

// Key is an open proving key. One goroutine at a time uses it.
type Key interface {
	// Prove makes proof.json and public.json for a witness file. It must return soon after ctx is done. progress may be
	// called from the caller's goroutine only, with the part of the whole work that is done, 0 to 1.
	Prove(ctx context.Context, witness string, threads int, progress func(prover.Phase, float64)) (proof, public []byte, err error)
	// Verify gives nil only for a proof that holds. A Failure with FailProofInvalid says that it does not; any other
	// error that it could not be judged.
	Verify(ctx context.Context, proof, public []byte) error
	// ResidentBytes is how much the key may keep in memory while it is open.
	ResidentBytes() int64
	Close() error
}

// keyCache keeps keys open between jobs: the least recently used goes first when they need more than the bound. The key
// in use always stays. Owned by the goroutine that works.
type keyCache struct {
	dir     string // every file must be below it
	bound   int64
	open    []*cachedKey // the most recently used last
	checked map[string]fileMark
}

type cachedKey struct {
	digest prover.Digest
	kind   prover.JobKind
	key    Key
}

// fileMark tells whether a file is still the one whose content was compared.
type fileMark struct {
	digest prover.Digest
	size   int64
	mtime  time.Time
	info   fs.FileInfo
}

const maxChecked = 1024

// get gives the open key of a file.
func (c *keyCache) get(ctx context.Context, kind prover.JobKind, b Backend, f *prover.BlobFile) (Key, error) {
	for i, k := range c.open {
		if k.digest == f.Digest && k.kind == kind {
			c.open = append(append(c.open[:i:i], c.open[i+1:]...), k)
			return k.key, nil
		}
	}
	if err := c.check(ctx, "key", f); err != nil {
		return nil, err
	}
	key, err := b.OpenKey(ctx, f.Path)
	if err != nil {
		return nil, err
	}
	c.open = append(c.open, &cachedKey{f.Digest, kind, key})
	c.shrink()
	return key, nil
}

func (c *keyCache) shrink() {
	var sum int64
	for _, k := range c.open {
		sum += k.key.ResidentBytes()
	}
	for sum > c.bound && len(c.open) > 1 {
		sum -= c.open[0].key.ResidentBytes()
		c.open[0].key.Close() // nothing was written: an error loses nothing
		c.open = c.open[1:]
	}
}

// forget closes a key that may be broken, so that the next job opens and checks it again.
func (c *keyCache) forget(d prover.Digest) {
	for i, k := range c.open {
		if k.digest == d {
			k.key.Close()
			c.open = append(c.open[:i:i], c.open[i+1:]...)
			return
		}
	}
}

func (c *keyCache) close() {
	for _, k := range c.open {
		k.key.Close()
	}
	c.open = nil
}

// check compares a file with its digest, once for as long as the file stays the same.
func (c *keyCache) check(ctx context.Context, what string, f *prover.BlobFile) error {
	missing := func(text string) error {
		return prover.Failure{Code: prover.FailBlobMissing, Text: fmt.Sprintf("%s %s: %s; submit the job again", what, f.Digest, text)}
	}
	if !filepath.IsAbs(f.Path) || filepath.Clean(f.Path) != f.Path || !strings.HasPrefix(f.Path, c.dir+string(filepath.Separator)) {
		return prover.Failure{Code: prover.FailInternal, Text: fmt.Sprintf("%s %s: its path is not below %s", what, f.Path, c.dir)}
	}
	info, err := os.Lstat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return missing("the file is gone")
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return missing("there is something else in place of the file")
	}
	if m, ok := c.checked[f.Path]; ok && m.digest == f.Digest && m.size == info.Size() && m.mtime.Equal(info.ModTime()) && os.SameFile(m.info, info) {
		return nil
	}
	if info.Size() != f.SizeBytes {
		return missing(fmt.Sprintf("the file has %d bytes, not the %d that were submitted", info.Size(), f.SizeBytes))
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, ctxReader{ctx, file}); err != nil {
		return err
	}
	if prover.Digest(h.Sum(nil)) != f.Digest {
		return missing("the file has changed since it was submitted")
	}
	if len(c.checked) >= maxChecked {
		clear(c.checked)
	}
	c.checked[f.Path] = fileMark{f.Digest, info.Size(), info.ModTime(), info}
	return nil
}

// ctxReader ends reading when ctx does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(b)
}
