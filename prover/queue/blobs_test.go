package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"app.provost/prover"
)

func openBlobs(t *testing.T, o BlobOptions) *Blobs {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "blobs")
	}
	b, err := OpenBlobs(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, b *Blobs, k BlobKind, text string) prover.Blob {
	t.Helper()
	blob, err := b.Put(t.Context(), k, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func names(t *testing.T, b *Blobs) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(b.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestBlobsKeepByContent(t *testing.T) {
	b := openBlobs(t, BlobOptions{})
	one := put(t, b, WitnessFile, "abc")
	two := put(t, b, WitnessFile, "abc")
	key := put(t, b, KeyFile, "abc")
	if one != two || one.Digest != prover.Digest(sha256.Sum256([]byte("abc"))) || one.SizeBytes != 3 || key != one {
		t.Errorf("blobs %v %v %v", one, two, key)
	}
	path := b.Path(WitnessFile, one.Digest)
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	info, _ := os.Stat(path)
	dir, _ := os.Stat(b.Dir())
	if info.Mode().Perm() != 0o600 || dir.Mode().Perm() != 0o700 {
		t.Errorf("modes %v %v", info.Mode(), dir.Mode())
	}
	b.Drop(WitnessFile, one.Digest)
	if len(names(t, b)) != 2 {
		t.Error("it went while it was held")
	}
	b.Drop(WitnessFile, one.Digest)
	b.Drop(KeyFile, key.Digest)
	if got := names(t, b); len(got) != 1 || !strings.HasSuffix(got[0], ".zkey") {
		t.Errorf("left: %v; want the key alone", got)
	}
}

func TestBlobsPutFile(t *testing.T) {
	b := openBlobs(t, BlobOptions{MaxBytes: 100})
	path := filepath.Join(t.TempDir(), "k.zkey")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("abc")
	one, err := b.PutFile(t.Context(), KeyFile, path)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(b.Path(KeyFile, one.Digest))
	again, err := b.PutFile(t.Context(), KeyFile, path)
	after, _ := os.Stat(b.Path(KeyFile, one.Digest))
	if err != nil || again != one || !os.SameFile(before, after) {
		t.Errorf("%v %v: stored again", again, err)
	}
	write("xyz") // same size, other content
	if other, err := b.PutFile(t.Context(), KeyFile, path); err != nil || other == one {
		t.Errorf("%v %v", other, err)
	}
	write(strings.Repeat("x", 101))
	if _, err := b.PutFile(t.Context(), KeyFile, path); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Put(t.Context(), KeyFile, strings.NewReader(strings.Repeat("x", 101))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if _, err := b.PutFile(t.Context(), KeyFile, bad); err == nil {
			t.Errorf("%s was stored", bad)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	write("new")
	if _, err := b.PutFile(ctx, KeyFile, path); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Put(t.Context(), KeyFile, io.MultiReader(strings.NewReader("a"), errReader{})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if got := names(t, b); len(got) != 2 {
		t.Errorf("left: %v", got)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestBlobsEvictKeys(t *testing.T) {
	b := openBlobs(t, BlobOptions{MaxKeyBytes: 25})
	k1, k2 := put(t, b, KeyFile, "1234567890"), put(t, b, KeyFile, "2234567890")
	b.Drop(KeyFile, k2.Digest)
	b.Drop(KeyFile, k1.Digest)
	b.Hold(KeyFile, k1.Digest) // used last, and needed
	k3 := put(t, b, KeyFile, "3234567890")
	there := func(d prover.Digest) bool { _, err := os.Stat(b.Path(KeyFile, d)); return err == nil }
	if !there(k1.Digest) || there(k2.Digest) || !there(k3.Digest) {
		t.Error("the least recently used key that nobody needs goes first")
	}
	put(t, b, KeyFile, "4234567890")
	if !there(k1.Digest) || !there(k3.Digest) {
		t.Error("a key that is needed went")
	}
	b.Drop(KeyFile, k1.Digest)
	if there(k1.Digest) {
		t.Error("the bound is not kept once it can be")
	}
}

func TestBlobsAfterRestart(t *testing.T) {
	b := openBlobs(t, BlobOptions{})
	w1, w2, k := put(t, b, WitnessFile, "w1"), put(t, b, WitnessFile, "w2"), put(t, b, KeyFile, "k")
	os.WriteFile(filepath.Join(b.Dir(), tempPrefix+"123"), []byte("half"), 0o600)
	os.WriteFile(filepath.Join(b.Dir(), "README"), []byte("not ours"), 0o600)
	b = openBlobs(t, BlobOptions{Dir: b.Dir()})
	b.Hold(WitnessFile, w1.Digest)
	if err := b.Sweep(); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(names(t, b), " ")
	if !strings.Contains(got, w1.Digest.String()+".wtns") || strings.Contains(got, w2.Digest.String()) ||
		!strings.Contains(got, k.Digest.String()+".zkey") || strings.Contains(got, tempPrefix) || !strings.Contains(got, "README") {
		t.Errorf("left: %s", got)
	}
}

// A file that has gone bad on disk does not stand in the way of the good one.
func TestBlobsRecheck(t *testing.T) {
	b := openBlobs(t, BlobOptions{})
	k := put(t, b, KeyFile, "good")
	b.Recheck(KeyFile, k.Digest)
	if len(names(t, b)) != 1 {
		t.Fatal("a good file was removed")
	}
	os.WriteFile(b.Path(KeyFile, k.Digest), []byte("bad!"), 0o600)
	b.Recheck(KeyFile, k.Digest)
	if len(names(t, b)) != 0 {
		t.Fatal("a bad file was kept")
	}
	put(t, b, KeyFile, "good")
	if got, _ := os.ReadFile(b.Path(KeyFile, k.Digest)); string(got) != "good" {
		t.Errorf("stored %q", got)
	}
	os.Remove(b.Path(KeyFile, k.Digest))
	b.Recheck(KeyFile, k.Digest)
	put(t, b, KeyFile, "good")
	if len(names(t, b)) != 1 {
		t.Error("a file that was lost was not stored again")
	}
}

func TestBlobsConcurrently(t *testing.T) {
	b := openBlobs(t, BlobOptions{MaxKeyBytes: 50})
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 30 {
				text := strings.Repeat(string(rune('a'+(n+i)%4)), 20)
				for _, k := range []BlobKind{KeyFile, WitnessFile} {
					blob, err := b.Put(context.Background(), k, strings.NewReader(text))
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := os.ReadFile(b.Path(k, blob.Digest)); err != nil || string(got) != text {
						t.Errorf("%q, %v: a file that is held went", got, err)
					}
					b.Drop(k, blob.Digest)
				}
			}
		})
	}
	wg.Wait()
	if got := names(t, b); len(got) > 2 {
		t.Errorf("left: %v", got)
	}
}

func TestBlobsNoSpace(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("a full filesystem is made with a tmpfs, which needs root on Linux")
	}
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mountSmall(dir); err != nil {
		t.Skipf("no tmpfs can be mounted here: %v", err)
	}
	defer unmount(dir)
	b := openBlobs(t, BlobOptions{Dir: dir})
	put(t, b, KeyFile, "small")
	_, err := b.Put(t.Context(), WitnessFile, bytes.NewReader(make([]byte, 1<<20)))
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "free some") {
		t.Errorf("got %v", err)
	}
	if got := names(t, b); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
}
