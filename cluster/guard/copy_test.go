package guard

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
)

func TestReadTellsMarksAndChangesNothing(t *testing.T) {
	dir := t.TempDir()
	g := openTest(t, options(dir), 1, 2, 3)
	record1(t, g, att(1, 10, 11, 1))
	record1(t, g, att(1, 11, 12, 2))
	propose1(t, g, block(2, 400, 3))
	if _, err := Read(dir); codeOf(err) != CodeLocked {
		t.Fatalf("while a node has it: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, FileName)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, 0o400)
	os.Chmod(dir, 0o500)
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[cluster.PubKey]Marks{
		key(1): {HasAttestation: true, Source: 11, Target: 12},
		key(2): {HasBlock: true, Slot: 400},
		key(3): {},
	}
	if got.GenesisValidatorsRoot != gvr || len(got.Marks) != len(want) {
		t.Fatalf("%+v", got)
	}
	for k, m := range want {
		if got.Marks[k] != m {
			t.Errorf("%s: %+v, want %+v", k, got.Marks[k], m)
		}
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
		t.Error("reading changed the file")
	}
	if _, err := Read(t.TempDir()); codeOf(err) != CodeMissing {
		t.Errorf("nothing there: %v", err)
	}
	os.Chmod(path, 0o600)
	before[len(before)/2] ^= 1
	for i := 8192; i < len(before); i += 512 { // somewhere it matters
		before[i] ^= 0x55
	}
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); codeOf(err) != CodeDamaged {
		t.Errorf("damaged: %v", err)
	}
}

func codeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// A copy that is taken while votes are recorded is one state of the file, no older than its beginning.
func TestCopyOfAFileInUse(t *testing.T) {
	dir := t.TempDir()
	var keys []int
	for k := range 40 {
		keys = append(keys, k+1)
	}
	g := openTest(t, options(dir), keys...)
	record1(t, g, att(1, 0, 1, 1))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := cluster.Epoch(2); ; e++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond): // a slot is much longer
			}
			var b Batch
			for _, k := range keys {
				b.Attestations = append(b.Attestations, att(k, e-1, e, int(e)))
			}
			if _, err := g.CheckAndRecord(t.Context(), b); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	last := cluster.Epoch(0)
	for range 8 {
		from, _, err := g.Marks(t.Context(), key(1))
		if err != nil {
			t.Fatal(err)
		}
		to := t.TempDir()
		if err := Copy(t.Context(), dir, to); err != nil {
			t.Fatal(err)
		}
		c, err := Read(to)
		if err != nil {
			t.Fatal(err)
		}
		got := c.Marks[key(1)]
		if got.Target < from.Target || got.Target < last {
			t.Errorf("the copy ends at epoch %d, the file was at %d before", got.Target, from.Target)
		}
		for _, k := range keys[1:] {
			if m := c.Marks[key(k)]; m.Target != got.Target && got.Target > 1 {
				t.Errorf("half a transaction: key %d is at %d, key 1 at %d", k, m.Target, got.Target)
			}
		}
		last = got.Target
		if err := Copy(t.Context(), dir, to); codeOf(err) != CodeUnwritable {
			t.Errorf("over an existing file: %v", err)
		}
	}
	if err := Copy(t.Context(), t.TempDir(), t.TempDir()); codeOf(err) != CodeMissing {
		t.Errorf("nothing to copy: %v", err)
	}
}

// Whoever begins with an old copy and fences it signs nothing that contradicts what was signed since.
func TestFenceOfAnOldCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t.TempDir())
		o.Clock.Genesis = time.Now()
		slot := func(e cluster.Epoch) time.Duration {
			return time.Until(o.Clock.Start(o.Clock.First(e)))
		}
		time.Sleep(slot(10))
		g := openTest(t, o, 1)
		record1(t, g, att(1, 8, 9, 1))
		old := t.TempDir()
		if err := Copy(t.Context(), o.Dir, old); err != nil {
			t.Fatal(err)
		}
		time.Sleep(slot(14))
		record1(t, g, att(1, 13, 14, 2)) // what the copy doesn't know
		propose1(t, g, block(1, 14*32+1, 2))
		g.Close()

		o.Dir, o.Create = old, false
		c, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 2 { // a crash may repeat it
			first, err := c.Fence(t.Context(), []cluster.PubKey{key(1), key(2)})
			if err != nil || first != 16 {
				t.Fatalf("%d, %v", first, err)
			}
		}
		for _, k := range []int{1, 2} {
			for _, a := range []Attestation{att(k, 13, 14, 3), att(k, 8, 15, 3), att(k, 14, 15, 3)} {
				if record1(t, c, a).OK() {
					t.Errorf("signed %+v", a)
				}
			}
			if propose1(t, c, block(k, 14*32+1, 3)).OK() || propose1(t, c, block(k, 16*32-1, 3)).OK() {
				t.Error("signed a block inside the fence")
			}
		}
		time.Sleep(slot(16))
		if got := record1(t, c, att(1, 13, 16, 4)); got.OK() {
			t.Error("a source before the fence may surround what was signed")
		}
		if got := record1(t, c, att(1, 14, 16, 4)); !got.OK() {
			t.Errorf("behind the fence: %+v", got)
		}
		if got := propose1(t, c, block(1, 16*32, 4)); !got.OK() {
			t.Errorf("behind the fence: %+v", got)
		}
	})
}

func TestWriteMarksIsAnInterchangeFile(t *testing.T) {
	marks := map[cluster.PubKey]Marks{
		key(1): {HasAttestation: true, Source: 5, Target: 7, HasBlock: true, Slot: 200},
		key(2): {HasAttestation: true, Source: 9, Target: 8}, // the highest source and target of two files
		key(3): {},
	}
	var out bytes.Buffer
	if err := WriteMarks(&out, gvr, marks); err != nil {
		t.Fatal(err)
	}
	g := openTest(t, options(t.TempDir()))
	done, err := g.Import(t.Context(), bytes.NewReader(out.Bytes()))
	if err != nil || done.Validators != 3 || done.New != 3 {
		t.Fatalf("%+v, %v\n%s", done, err, out.Bytes())
	}
	marks[key(2)] = Marks{HasAttestation: true, Source: 9, Target: 9}
	for k, want := range marks {
		if got, _, _ := g.Marks(t.Context(), k); got != want {
			t.Errorf("%s: %+v, want %+v", k, got, want)
		}
	}
}
