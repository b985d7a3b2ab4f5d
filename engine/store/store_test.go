package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/engine"
	"app.provost/prover"
	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

var update = flag.Bool("update", false, "write testdata anew")

func openTest(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func wantCode(t *testing.T, err error, code engine.Code) *engine.Problem {
	t.Helper()
	var p *engine.Problem
	if !errors.As(err, &p) || p.Code != code || p.Exit == engine.ExitOK || p.Remedy == "" {
		t.Fatalf("got %v, want a problem %s with exit code and remedy", err, code)
	}
	return p
}

func TestEverythingSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir})
	id := s.ID()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in, err := s.Append(engine.Entry{What: "engine.start", Text: "one"}, engine.Entry{What: "engine.stop", Text: "two"})
	must(err)
	must(s.Shelf("handles").Put("w1", []byte(`{"pid":7}`)))
	must(s.Shelf("handles").Put("w2", []byte(`{"pid":8}`)))
	must(s.Shelf("handles").Delete("w2"))
	n, err := s.Count("restarts", 3)
	must(err)
	row := engine.ActRow{Kind: engine.KindPauseWorkers, State: engine.ActRunning, By: engine.Actor{Name: "ana"}}
	act, err := s.BeginAct(row, []byte(`{"a":1}`), []byte(`{"kind":"pause_workers"}`), engine.Receipt{Key: "k1", Title: "t"})
	must(err)
	row.ID, row.State = act, engine.ActFailed
	must(s.SaveAct(row, &engine.Receipt{Key: "k1", Act: act, Done: true}, &engine.Problem{Code: engine.CodeNoMatch, Cause: "c"}))
	must(s.Close())
	must(s.Close())

	s = openTest(t, Options{Dir: dir})
	if s.ID() != id || len(id) != 26 || n != 3 || act != "a1" {
		t.Errorf("id %q then %q, count %d, act %q", id, s.ID(), n, act)
	}
	out, first, last, err := s.Entries(0, 10)
	must(err)
	if diff := cmp.Diff(in, out); diff != "" || first != 1 || last != 2 {
		t.Errorf("journal %d to %d: %s", first, last, diff)
	}
	docs, err := s.Shelf("handles").All()
	must(err)
	if len(docs) != 1 || string(docs["w1"]) != `{"pid":7}` {
		t.Errorf("handles %q", docs)
	}
	r, action, p, ok, err := s.Receipt("k1")
	must(err)
	if !ok || !r.Done || r.Act != "a1" || string(action) != `{"kind":"pause_workers"}` || p == nil || p.Code != engine.CodeNoMatch {
		t.Errorf("receipt %+v of %s, problem %v", r, action, p)
	}
	rows, requests, err := s.Acts()
	must(err)
	if len(rows) != 1 || rows[0].ID != "a1" || rows[0].State != engine.ActFailed || string(requests[0]) != `{"a":1}` {
		t.Errorf("acts %+v %s", rows, requests)
	}
	if v, err := s.Counter("restarts"); v != 3 || err != nil {
		t.Errorf("counter %d %v", v, err)
	}
	if _, err := s.Append(engine.Entry{}); err != nil {
		t.Error(err)
	}
	if _, _, last, _ := s.Entries(2, 1); last != 3 {
		t.Errorf("numbers go on at %d, want 3", last)
	}
}

func TestSecondEngineIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir, Socket: "/run/p.sock", Version: "1.2.3"})
	_, err := Open(Options{Dir: dir})
	p := wantCode(t, err, engine.CodeStateLocked)
	if !strings.Contains(p.Cause, fmt.Sprintf("pid %d", os.Getpid())) || p.Exit != engine.ExitNotAllowed {
		t.Errorf("it does not name who holds it: %v", p)
	}
	if info, ok := ReadLock(dir); !ok || info.Socket != "/run/p.sock" || info.Version != "1.2.3" || info.Schema != LockSchema {
		t.Errorf("lock file tells %+v", info)
	}
	if _, err := s.Append(engine.Entry{Text: "still ours"}); err != nil {
		t.Error(err)
	}
	s.Close()
	if _, ok := ReadLock(dir); ok {
		t.Error("the lock file still names an engine")
	}
	_, err = s.Append(engine.Entry{})
	wantCode(t, err, engine.CodeStopping)
	_, _, _, err = s.Entries(0, 1)
	wantCode(t, err, engine.CodeStopping)
	openTest(t, Options{Dir: dir})
}

func TestUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	os.WriteFile(file, nil, 0o600)
	for _, dir := range []string{filepath.Join(t.TempDir(), "missing"), file} {
		_, err := Open(Options{Dir: dir})
		wantCode(t, err, engine.CodeDirUnwritable)
	}
}

// filled makes a store with something in every part and gives its directory.
func filled(t testing.TB) string {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir})
	for i := range 200 {
		if _, err := s.Append(engine.Entry{What: "worker.start", Text: fmt.Sprintf("entry %d with some length to fill pages", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		addJob(t, s, fmt.Sprintf("j%d", i))
	}
	s.Shelf("wishes").Put("w1", []byte(`{"wish":"run"}`))
	s.Close()
	return dir
}

func addJob(t testing.TB, s *Store, id string) {
	t.Helper()
	out, err := s.Board().Apply(context.Background(), []prover.Change{prover.AddJob{At: time.Unix(1, 0),
		Job: prover.Job{ID: prover.JobID(id), Kind: prover.EmptyJob, MaxAttempts: 3}}})
	if err != nil || out[0].Err != nil {
		t.Fatal(err, out)
	}
}

func TestDamageIsFoundAndLeftAlone(t *testing.T) {
	sound, err := os.ReadFile(filepath.Join(filled(t), fileName))
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]func([]byte) []byte{
		"empty":          func(b []byte) []byte { return nil },
		"text":           func(b []byte) []byte { return []byte("hello") },
		"zeros":          func(b []byte) []byte { return make([]byte, len(b)) },
		"both metas":     func(b []byte) []byte { b[100] ^= 1; b[4096+20] ^= 1; b[40] ^= 255; b[4096+40] ^= 255; return b },
		"cut to 3 pages": func(b []byte) []byte { return b[:3*4096] },
		"cut in half":    func(b []byte) []byte { return b[:len(b)/2] },
		"zero tail": func(b []byte) []byte {
			clear(b[2*4096:])
			return b
		},
		"one letter of a record": func(b []byte) []byte {
			i := bytes.LastIndex(b, []byte("entry 150 with"))
			b[i] = 'E'
			return b
		},
	}
	for i := range 40 { // pages with noise in their head
		cases[fmt.Sprintf("noise in page %d", i)] = func(b []byte) []byte {
			for j := range 64 {
				b[(2+i)*4096%len(b)+j] ^= byte(37*i + 11*j + 1)
			}
			return b
		}
	}
	found := 0
	for name, harm := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, fileName)
			bad := harm(bytes.Clone(sound))
			os.WriteFile(path, bad, 0o600)
			s, err := Open(Options{Dir: dir})
			if err == nil {
				// Noise in a page that holds nothing harms nothing.
				entries, _, _, rerr := s.Entries(0, 1000)
				jobs, jerr := s.Board().Open(context.Background())
				if s.Close(); len(entries) != 200 || len(jobs) != 20 || rerr != nil || jerr != nil || !strings.HasPrefix(name, "noise") {
					t.Fatalf("opened with %d entries and %d jobs: %v %v", len(entries), len(jobs), rerr, jerr)
				}
				return
			}
			found++
			wantCode(t, err, engine.CodeStoreDamaged)
			if now, _ := os.ReadFile(path); !bytes.Equal(now, bad) {
				t.Error("the damaged file was written to")
			}
		})
	}
	if found < 15 {
		t.Errorf("only %d of %d harms were found", found, len(cases))
	}
}

func TestNewerFormat(t *testing.T) {
	dir := filled(t)
	setFormat(t, dir, Format+1)
	_, err := Open(Options{Dir: dir})
	wantCode(t, err, engine.CodeStoreNewer)
}

func setFormat(t *testing.T, dir string, n int) {
	db, err := bolt.Open(filepath.Join(dir, fileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bMeta).Put(kFormat, []byte(fmt.Sprint(n))) }); err != nil {
		t.Fatal(err)
	}
}

// TestSample reads the store that format 1 wrote, kept for ever in testdata.
func TestSample(t *testing.T) {
	sample := filepath.Join("testdata", "format-1.db")
	// The sample is written once: -update never makes it anew.
	if _, err := os.Stat(sample); errors.Is(err, os.ErrNotExist) && *update && Format == 1 {
		b, err := os.ReadFile(filepath.Join(sampleDir(t), fileName))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(sample, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, fileName), b, 0o600)
	s := openTest(t, Options{Dir: dir})
	golden(t, "format-1.txt", dump(t, s))
}

func sampleDir(t *testing.T) string {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir})
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	actor := engine.Actor{Name: "ana", Host: "bastion", Via: engine.ViaCLI}
	s.Append(engine.Entry{At: at, Level: engine.LevelNote, What: "engine.start", Text: "started"},
		engine.Entry{At: at, Level: engine.LevelNote, What: "act.asked", Actor: &actor, Key: engine.Key{Machine: "m1", ID: "a1"}, Text: "pause w1"})
	s.BeginAct(engine.ActRow{Kind: engine.KindPauseWorkers, By: actor, Started: at, State: engine.ActHolding, Digest: "0123456789ab"},
		[]byte(`{"v":1}`), []byte(`{"kind":"pause_workers","args":{}}`), engine.Receipt{Key: "key1", At: at, Title: "pause 1 worker"})
	s.Shelf("handles").Put("w1", []byte(`{"pid":42}`))
	s.Count("restarts", 2)
	until := at.Add(time.Hour)
	add := func(id string) prover.Change {
		return prover.AddJob{At: at, Job: prover.Job{ID: prover.JobID(id), Kind: prover.Groth16Zkey, MaxAttempts: 3, SubmittedBy: "ana"}}
	}
	b := s.Board()
	out, err := b.Apply(t.Context(), []prover.Change{add("j1"), add("j2"), add("j3"), add("j4"),
		prover.LeaseJob{Worker: "w1", At: at, Deadline: until},
		prover.StoreProof{Job: "j1", At: at, Proof: prover.Proof{Worker: "w1", Attempt: 1, ProofJSON: []byte(`{"a":1}`), PublicJSON: []byte(`["1"]`)}},
		prover.AcceptProof{Job: "j1", Attempt: 1, At: at},
		prover.LeaseJob{Worker: "w2", At: at, Deadline: until},
		prover.CancelJob{Job: "j3", At: at, Reason: "not needed"},
		prover.SetPause{Pause: prover.Pause{Worker: "w1", Since: at, Until: &until, Reason: "disk swap", By: "ana", Act: "a1"}},
	})
	for _, o := range out {
		err = errors.Join(err, o.Err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	return dir
}

// dump shows all that is in a store, read by its methods.
func dump(t *testing.T, s *Store) string {
	var w bytes.Buffer
	show := func(name string, v any, err error) {
		b, jerr := json.MarshalIndent(v, "", "  ")
		if err != nil || jerr != nil {
			t.Fatal(name, err, jerr)
		}
		fmt.Fprintf(&w, "%s %s\n", name, b)
	}
	ctx := context.Background()
	entries, _, _, err := s.Entries(0, 100)
	show("journal", entries, err)
	rows, requests, err := s.Acts()
	show("acts", rows, err)
	fmt.Fprintf(&w, "requests %s\n", requests)
	r, action, _, _, err := s.Receipt("key1")
	show("receipt", r, err)
	fmt.Fprintf(&w, "action %s\n", action)
	docs, err := s.Shelf("handles").All()
	fmt.Fprintf(&w, "handles %s %v\n", docs, err)
	n, err := s.Counter("restarts")
	show("restarts", n, err)
	b := s.Board()
	j1, err := b.Get(ctx, "j1")
	show("j1", j1, err)
	open, err := b.Open(ctx)
	show("open", open, err)
	done, err := b.Finished(ctx, 10)
	show("finished", done, err)
	sums, err := b.Totals(ctx)
	show("totals", sums, err)
	pauses, err := b.Pauses(ctx)
	show("pauses", pauses, err)
	counts, err := b.Counts(ctx)
	show("counts", counts, err)
	return w.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

func TestUpgradeKeepsACopy(t *testing.T) {
	dir := filled(t)
	setFormat(t, dir, Format)
	// As if format 0 had been the one before.
	upgrades[Format-1] = func(tx *bolt.Tx) error { return put(tx.Bucket(bCounters), []byte("upgraded"), 1) }
	defer delete(upgrades, Format-1)
	s := openTest(t, Options{Dir: dir})
	if err := s.upgrade(Format - 1); err != nil {
		t.Fatal(err)
	}
	if n, _ := s.Counter("upgraded"); n != 1 {
		t.Error("the step was not run")
	}
	copied, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%s.format-%d", fileName, Format-1)))
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	os.WriteFile(filepath.Join(other, fileName), copied, 0o600)
	before := openTest(t, Options{Dir: other})
	if n, _ := before.Counter("upgraded"); n != 0 {
		t.Error("the copy was made after the step")
	}
	if err := s.upgrade(Format + 7); err == nil {
		t.Error("a step that does not exist was taken")
	}
}

func TestJournalIsTrimmedByCountAndAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openTest(t, Options{JournalEntries: 100, JournalAge: time.Hour, ReceiptAge: 2 * time.Hour, ActRows: 6})
		defer s.Close()
		for range 130 {
			s.Append(engine.Entry{Text: "x"})
		}
		_, err := s.BeginAct(engine.ActRow{State: engine.ActRunning}, []byte("{}"), []byte("{}"), engine.Receipt{Key: "old"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 9 {
			s.BeginAct(engine.ActRow{State: engine.ActDone}, []byte("{}"), []byte("{}"), engine.Receipt{Key: fmt.Sprint(i)})
		}
		check := func(wantFirst, wantLast uint64) {
			t.Helper()
			entries, first, last, err := s.Entries(0, 1000)
			if err != nil || first != wantFirst || last != wantLast || len(entries) != int(last+1-first) {
				t.Fatalf("%d entries, %d to %d, want %d to %d: %v", len(entries), first, last, wantFirst, wantLast, err)
			}
			for i, e := range entries {
				if e.N != first+uint64(i) {
					t.Fatalf("entry %d is numbered %d", i, e.N)
				}
			}
		}
		check(1, 130)
		time.Sleep(tidyEvery)
		s.Append(engine.Entry{Text: "x"})
		check(32, 131)
		if rows, _, _ := s.Acts(); len(rows) != 6 || rows[0].ID != "a1" || rows[1].ID != "a6" {
			t.Errorf("kept acts %+v", rows)
		}
		time.Sleep(time.Hour + time.Second)
		s.Append(engine.Entry{Text: "young"})
		check(132, 132)
		if _, _, _, ok, _ := s.Receipt("old"); !ok {
			t.Error("a receipt was trimmed before its time")
		}
		time.Sleep(time.Hour + time.Second)
		s.Append(engine.Entry{Text: "younger"})
		check(133, 133)
		if _, _, _, ok, _ := s.Receipt("old"); ok {
			t.Error("an old receipt is still there")
		}
		time.Sleep(2 * time.Hour)
		s.Count("x", 1)
		check(134, 133)
		if e, err := s.Append(engine.Entry{}); err != nil || e[0].N != 134 {
			t.Errorf("after trimming all, numbers go on at %v, %v", e, err)
		}
	})
}

func TestCallersShareOneSync(t *testing.T) {
	s := openTest(t, Options{})
	const callers, each = 32, 10
	seen := make([]bool, callers*each+1)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				e, err := s.Append(engine.Entry{Text: "x"})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[e[0].N] {
					t.Errorf("number %d was given twice", e[0].N)
				}
				seen[e[0].N] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	st := s.Stats()
	if st.Changes != callers*each || st.Commits >= st.Changes {
		t.Errorf("%d changes in %d commits", st.Changes, st.Commits)
	}
}

func TestOneBadChangeDoesNotHarmTheOthers(t *testing.T) {
	s := openTest(t, Options{})
	bad := errors.New("bad")
	var ops []*op
	for i := range 5 {
		ops = append(ops, &op{done: make(chan struct{}), fn: func(tx *bolt.Tx) error {
			if i == 2 {
				return bad
			}
			return put(tx.Bucket(bCounters), []byte{byte('a' + i)}, i+1)
		}})
	}
	s.queue = append(s.queue, ops...)
	s.lead <- struct{}{}
	s.commitNext()
	<-s.lead
	for i, o := range ops {
		<-o.done
		if (o.err != nil) != (i == 2) {
			t.Errorf("change %d: %v", i, o.err)
		}
		if n, _ := s.Counter(string(rune('a' + i))); (n == 0) != (i == 2) {
			t.Errorf("counter %d is %d", i, n)
		}
	}
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, Options{Dir: dir, MaxBytes: 1 << 20})
	var kept uint64
	var err error
	text := strings.Repeat("x", 2000)
	for range 1000 {
		var e []engine.Entry
		if e, err = s.Append(engine.Entry{Text: text}); err != nil {
			break
		}
		kept = e[0].N
	}
	p := wantCode(t, err, engine.CodeNoSpace)
	if strings.Contains(p.Cause, "damaged") {
		t.Error(p)
	}
	if _, _, last, err := s.Entries(0, 1); last != kept || err != nil {
		t.Errorf("last entry %d, acknowledged %d: %v", last, kept, err)
	}
	s.Close()
	// Space is found: everything acknowledged is there, and it goes on.
	s = openTest(t, Options{Dir: dir})
	if entries, _, _, err := s.Entries(0, 1000); uint64(len(entries)) != kept || err != nil {
		t.Errorf("%d entries, want %d: %v", len(entries), kept, err)
	}
	if e, err := s.Append(engine.Entry{}); err != nil || e[0].N != kept+1 {
		t.Errorf("%v %v", e, err)
	}
}

func TestSlowCommitIsTold(t *testing.T) {
	var told []time.Duration
	s := openTest(t, Options{SlowAfter: time.Nanosecond, Slow: func(d time.Duration) { told = append(told, d) }})
	s.Count("x", 1)
	if len(told) != 1 || told[0] <= 0 {
		t.Errorf("told %v", told)
	}
}

func TestAfterAFailedWriteNothingIsWritten(t *testing.T) {
	s := openTest(t, Options{})
	s.mu.Lock()
	s.failed = io.ErrUnexpectedEOF
	s.mu.Unlock()
	_, err := s.Append(engine.Entry{})
	wantCode(t, err, engine.CodeUnexpected)
	if _, _, last, err := s.Entries(0, 1); last != 0 || err != nil {
		t.Errorf("reading goes on: %d %v", last, err)
	}
}

func TestBadArguments(t *testing.T) {
	s := openTest(t, Options{})
	for name, err := range map[string]error{
		"no id":       s.Shelf("a").Put("", []byte("{}")),
		"no JSON":     s.Shelf("a").Put("x", []byte("{")),
		"no act":      s.SaveAct(engine.ActRow{ID: "a99"}, nil, nil),
		"no act's id": s.SaveAct(engine.ActRow{ID: "17"}, nil, nil),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if doc, err := s.Shelf("none").Get("x"); doc != nil || err != nil {
		t.Errorf("%s %v", doc, err)
	}
	if _, err := s.Append(engine.Entry{}); err != nil {
		t.Errorf("bad arguments broke the store: %v", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := openTest(b, Options{})
			e := engine.Entry{What: "job.verified", Text: "job 0123456789 was verified", Key: engine.Key{Machine: "m1", ID: "j1"}}
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					for i := c; i < b.N; i += callers {
						if _, err := s.Append(e); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			st := s.Stats()
			b.ReportMetric(float64(st.Changes)/b.Elapsed().Seconds(), "appends/s")
			b.ReportMetric(float64(st.Changes)/float64(st.Commits), "appends/sync")
		})
	}
}

// BenchmarkOpen measures the check of every page and record before a store is used.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s := openTest(b, Options{Dir: dir})
	at := time.Unix(1, 0)
	for i := range 40 {
		var c []prover.Change
		for j := range 500 {
			id := prover.JobID(fmt.Sprintf("j%08d", i*500+j))
			c = append(c, prover.AddJob{At: at, Job: prover.Job{ID: id, Kind: prover.Groth16Zkey, MaxAttempts: 3}},
				prover.LeaseJob{Job: id, Worker: "w1", At: at, Deadline: at.Add(time.Minute)},
				prover.StoreProof{Job: id, At: at, Proof: prover.Proof{Worker: "w1", Attempt: 1, ProofJSON: make([]byte, 800), PublicJSON: make([]byte, 80)}},
				prover.AcceptProof{Job: id, Attempt: 1, At: at})
		}
		if _, err := s.Board().Apply(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	size := s.Stats().FileBytes
	s.Close()
	for b.Loop() {
		s, err := Open(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
	b.SetBytes(size)
	b.ReportMetric(float64(size)/(1<<20), "MiB")
}
