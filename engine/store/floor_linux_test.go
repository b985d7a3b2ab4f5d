package store

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// BenchmarkCommitFloor is what no commit can be faster than on this disk: bbolt writes
// pages and waits for the disk, then writes the page that says so and waits again. The
// board takes four commits for a job that comes alone.
func BenchmarkCommitFloor(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "floor"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const page = 4096
	if _, err := f.Write(make([]byte, 256*page)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 4*page)
	for i := 0; b.Loop(); i++ {
		for j, part := range [][]byte{data, data[:page]} {
			at := int64(2 + (i*4)%200)
			if j == 1 {
				at = int64(i % 2)
			}
			if _, err := f.WriteAt(part, at*page); err != nil {
				b.Fatal(err)
			}
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				b.Fatal(err)
			}
		}
	}
}
