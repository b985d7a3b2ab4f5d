package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"app.provost/prover"
)

// BlobKind is what a stored file is; also the end of its name.
type BlobKind string

const (
	KeyFile     BlobKind = "zkey"
	WitnessFile BlobKind = "wtns"
)

var (
	// ErrTooLarge: the file is larger than allowed.
	ErrTooLarge = errors.New("the file is too large")
	// ErrNoSpace: the filesystem of the state directory is full.
	ErrNoSpace = errors.New("no space left")
)

// BlobOptions: Dir is required.
type BlobOptions struct {
	Dir string // made if missing, mode 0700
	// MaxBytes bounds one file (8 GiB).
	MaxBytes int64
	// MaxKeyBytes bounds the keys that are kept for later jobs (16 GiB): beyond it, those least recently used go that no
	// open job needs. Keys that are needed stay, even if they are more.
	MaxKeyBytes int64
}

// Blobs keeps keys and witnesses by their content, as DIR/<sha256>.zkey and DIR/<sha256>.wtns, so that jobs do not depend
// on the submitter's files and the same file is kept once. A file appears whole or not at all. A witness goes when
// nobody holds it any more; a key stays for later jobs. Holds are counted in memory: after a start, the owner of the
// jobs holds what they need and then calls Sweep. All methods may be called from any goroutine.
type Blobs struct {
	o BlobOptions

	mu    sync.Mutex // guards what follows, and the appearance and removal of files
	files map[held]*stored
	refs  map[held]int
	clock uint64
}

type held struct {
	kind   BlobKind
	digest prover.Digest
}

type stored struct {
	size int64
	used uint64 // on Blobs.clock
}

const tempPrefix = ".incoming-"

// OpenBlobs opens a directory of blobs.
func OpenBlobs(o BlobOptions) (*Blobs, error) {
	if !filepath.IsAbs(o.Dir) {
		return nil, fmt.Errorf("open blobs %q: want an absolute path", o.Dir)
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 8 << 30
	}
	if o.MaxKeyBytes <= 0 {
		o.MaxKeyBytes = 16 << 30
	}
	o.Dir = filepath.Clean(o.Dir)
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	b := &Blobs{o: o, files: map[held]*stored{}, refs: map[held]int{}}
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			os.Remove(filepath.Join(o.Dir, e.Name())) // of a process that died while it copied
			continue
		}
		h, ok := parseBlobName(e.Name())
		info, err := e.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue
		}
		b.files[h] = &stored{size: info.Size()}
	}
	return b, nil
}

func parseBlobName(name string) (held, bool) {
	digest, kind, _ := strings.Cut(name, ".")
	var d prover.Digest
	if kind != string(KeyFile) && kind != string(WitnessFile) || len(digest) != hex.EncodedLen(len(d)) ||
		strings.ToLower(digest) != digest || d.UnmarshalText([]byte(digest)) != nil {
		return held{}, false
	}
	return held{BlobKind(kind), d}, true
}

// Dir is the directory, absolute and clean.
func (b *Blobs) Dir() string { return b.o.Dir }

// Path is where a blob is, or would be.
func (b *Blobs) Path(k BlobKind, d prover.Digest) string {
	return filepath.Join(b.o.Dir, d.String()+"."+string(k))
}

// PutFile stores a copy of a file and holds it for the caller, who calls Drop when the jobs that need it were submitted
// (or will not be). What is there already is not written again.
func (b *Blobs) PutFile(ctx context.Context, k BlobKind, path string) (prover.Blob, error) {
	f, err := os.Open(path)
	if err != nil {
		return prover.Blob{}, fmt.Errorf("store %s: %w", k, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return prover.Blob{}, fmt.Errorf("store %s: %w", k, err)
	case !info.Mode().IsRegular():
		return prover.Blob{}, fmt.Errorf("store %s %s: it is not a regular file", k, path)
	case info.Size() > b.o.MaxBytes:
		return prover.Blob{}, fmt.Errorf("store %s %s: %w: %d bytes, %d are allowed", k, path, ErrTooLarge, info.Size(), b.o.MaxBytes)
	}
	if b.hasSize(k, info.Size()) {
		// Most likely the same key again: reading it costs less than writing it.
		h := sha256.New()
		n, err := io.Copy(h, ctxReader{ctx, io.LimitReader(f, b.o.MaxBytes)})
		if err != nil {
			return prover.Blob{}, fmt.Errorf("store %s %s: %w", k, path, err)
		}
		blob := prover.Blob{Digest: prover.Digest(h.Sum(nil)), SizeBytes: n}
		if b.holdIfThere(held{k, blob.Digest}, n) {
			return blob, nil
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return prover.Blob{}, fmt.Errorf("store %s %s: %w", k, path, err)
		}
	}
	blob, err := b.Put(ctx, k, f)
	if err != nil {
		return prover.Blob{}, fmt.Errorf("%w (from %s)", err, path)
	}
	return blob, nil
}

func (b *Blobs) hasSize(k BlobKind, size int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for h, s := range b.files {
		if h.kind == k && s.size == size {
			return true
		}
	}
	return false
}

func (b *Blobs) holdIfThere(h held, size int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.files[h]; s == nil || s.size != size {
		return false
	}
	info, err := os.Lstat(b.Path(h.kind, h.digest))
	if err != nil || !info.Mode().IsRegular() || info.Size() != size {
		delete(b.files, h)
		return false
	}
	b.holdLocked(h)
	return true
}

// Put stores what r gives and holds it for the caller, as PutFile does.
func (b *Blobs) Put(ctx context.Context, k BlobKind, r io.Reader) (blob prover.Blob, err error) {
	if k != KeyFile && k != WitnessFile {
		return blob, fmt.Errorf("store %q: not a kind of file that is kept", k)
	}
	defer func() {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("store %s: %w on the filesystem of %s; free some, or move the state directory", k, ErrNoSpace, b.o.Dir)
		} else if err != nil {
			err = fmt.Errorf("store %s: %w", k, err)
		}
	}()
	f, err := os.CreateTemp(b.o.Dir, tempPrefix+"*") // mode 0600
	if err != nil {
		return blob, err
	}
	defer func() {
		f.Close()
		os.Remove(f.Name()) // gone already if it was renamed
	}()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), ctxReader{ctx, io.LimitReader(r, b.o.MaxBytes+1)})
	if err != nil {
		return blob, err
	}
	if n > b.o.MaxBytes {
		return blob, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, b.o.MaxBytes)
	}
	h := held{k, prover.Digest(sum.Sum(nil))}
	blob = prover.Blob{Digest: h.digest, SizeBytes: n}
	if b.holdIfThere(h, n) {
		return blob, nil
	}
	if err := f.Sync(); err != nil {
		return prover.Blob{}, err
	}
	if err := f.Close(); err != nil {
		return prover.Blob{}, err
	}
	b.mu.Lock()
	err = os.Rename(f.Name(), b.Path(k, h.digest))
	if err == nil {
		b.files[h] = &stored{size: n}
		b.holdLocked(h)
		b.evictLocked()
	}
	b.mu.Unlock()
	if err != nil {
		return prover.Blob{}, err
	}
	if err := syncDir(b.o.Dir); err != nil {
		b.Drop(k, h.digest)
		return prover.Blob{}, err
	}
	return blob, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Hold keeps a blob until it is dropped as often.
func (b *Blobs) Hold(k BlobKind, d prover.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holdLocked(held{k, d})
}

func (b *Blobs) holdLocked(h held) {
	b.refs[h]++
	b.clock++
	if s := b.files[h]; s != nil {
		s.used = b.clock
	}
}

// Drop ends a hold. A witness that nobody holds is removed.
func (b *Blobs) Drop(k BlobKind, d prover.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := held{k, d}
	if b.refs[h]--; b.refs[h] > 0 {
		return
	}
	delete(b.refs, h)
	if k == WitnessFile {
		b.removeLocked(h)
	} else {
		b.evictLocked()
	}
}

func (b *Blobs) removeLocked(h held) error {
	err := os.Remove(b.Path(h.kind, h.digest))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // still listed: Sweep tries again after the next start
	}
	delete(b.files, h)
	return nil
}

// evictLocked removes keys beyond the bound.
func (b *Blobs) evictLocked() {
	for {
		var sum int64
		var oldest *held
		for h, s := range b.files {
			if h.kind != KeyFile {
				continue
			}
			sum += s.size
			if b.refs[h] == 0 && (oldest == nil || s.used < b.files[*oldest].used) {
				oldest = &h
			}
		}
		if sum <= b.o.MaxKeyBytes || oldest == nil || b.removeLocked(*oldest) != nil {
			return
		}
	}
}

// Recheck reads a blob again and removes it if it is not what its name says.
func (b *Blobs) Recheck(k BlobKind, d prover.Digest) {
	f, err := os.Open(b.Path(k, d))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			b.mu.Lock()
			delete(b.files, held{k, d})
			b.mu.Unlock()
		}
		return
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err == nil && prover.Digest(h.Sum(nil)) == d {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// Unless a good one has taken its place meanwhile.
	mine, err1 := f.Stat()
	there, err2 := os.Lstat(b.Path(k, d))
	if err1 == nil && err2 == nil && os.SameFile(mine, there) {
		b.removeLocked(held{k, d})
	}
}

// Sweep removes witnesses that nobody holds, and keys beyond the bound.
func (b *Blobs) Sweep() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for h := range b.files {
		if h.kind == WitnessFile && b.refs[h] == 0 {
			errs = append(errs, b.removeLocked(h))
		}
	}
	b.evictLocked()
	return errors.Join(errs...)
}

// ctxReader ends reading when ctx does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
