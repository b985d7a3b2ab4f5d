package store

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"app.provost/engine"
)

// A page whose overflow count was damaged would keep bbolt's own check busy for hours.
func TestOverlongPageIsDamage(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir})
	if _, err := s.Append(engine.Entry{Text: "x"}); err != nil {
		t.Fatal(err)
	}
	pageSize := s.db.Info().PageSize
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const overflowAt = 12 // id 8 bytes, flags 2, count 2
	tried := 0
	for page := 2; (page+1)*pageSize <= len(whole); page++ {
		b := append([]byte(nil), whole...)
		binary.NativeEndian.PutUint32(b[page*pageSize+overflowAt:], 1<<30)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Options{Dir: dir})
		if err == nil { // a free page is not looked at
			s.Close()
			continue
		}
		if p := engine.AsProblem("", err); p.Code != engine.CodeStoreDamaged {
			t.Fatalf("page %d: %v", page, err)
		}
		tried++
	}
	if tried == 0 {
		t.Error("no page was in use")
	}
}
