package run

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"app.provost/prover"
)

// TestMain makes this binary a worker process when a test starts it as one.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PROVOST_TEST_WORKER"); dir != "" {
		o := workerOptions(dir)
		o.KeepProcs = false
		if id := os.Getenv("PROVOST_TEST_ID"); id != "" {
			o.ID, o.Dir = prover.WorkerID(id), filepath.Join(dir, id)
			o.BeatEvery, o.ResendAfter = 0, 0
			if id == "verifier" {
				o.Role = prover.RoleVerify
			}
		}
		if err := Main(context.Background(), o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var discard = slog.New(slog.DiscardHandler)

// patience bounds waits for things that happen; it is not a measure.
const patience = 20 * time.Second

// place is a directory with what a hub and a worker share.
type place struct {
	t      testing.TB
	dir    string
	events <-chan prover.WorkerEvent
	hub    *Hub
	stop   func()
}

func newPlace(t testing.TB) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "pv") // short: the path of a socket is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := NewToken().WriteFile(filepath.Join(dir, "token")); err != nil {
		t.Fatal(err)
	}
	return &place{t: t, dir: dir}
}

func (p *place) hubOptions(spawn func(string, func(context.Context) error)) HubOptions {
	return HubOptions{Path: SocketIn(p.dir), Version: "test", Logger: discard, Spawn: spawn,
		Token: func(id prover.WorkerID, role prover.WorkerRole) (Token, error) {
			if id != "w1" {
				return Token{}, errors.New("not known")
			}
			return ReadToken(filepath.Join(p.dir, "token"))
		}}
}

// listen starts a hub; stop ends it and waits.
func (p *place) listen(change ...func(*HubOptions)) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	o := p.hubOptions(func(_ string, fn func(context.Context) error) { wg.Go(func() { fn(ctx) }) })
	for _, c := range change {
		c(&o)
	}
	hub, err := Listen(o)
	if err != nil {
		cancel()
		p.t.Fatal(err)
	}
	var once sync.Once
	p.hub, p.events = hub, hub.Events()
	p.stop = func() { once.Do(func() { cancel(); wg.Wait() }) }
	p.t.Cleanup(p.stop)
}

// blob puts a file where workers may read it.
func (p *place) blob(text string) *prover.BlobFile {
	d := prover.Digest(sha256.Sum256([]byte(text)))
	path := filepath.Join(p.dir, "blobs", d.String())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return &prover.BlobFile{Blob: prover.Blob{Digest: d, SizeBytes: int64(len(text))}, Path: path}
}

func (p *place) order(job prover.JobID, witness string) prover.Order {
	return prover.Order{Kind: prover.OrderProve, Job: job, Attempt: 1, JobKind: prover.Groth16Zkey, Zkey: p.blob("key"), Witness: p.blob(witness)}
}

// next is the next event of one of these kinds; heartbeats and what else comes before it are skipped.
func (p *place) next(kinds ...prover.ReportKind) prover.WorkerEvent {
	p.t.Helper()
	return p.until(func(e prover.WorkerEvent) bool {
		for _, k := range kinds {
			if e.Report.Kind == k {
				return true
			}
		}
		return false
	})
}

func (p *place) until(ok func(prover.WorkerEvent) bool) prover.WorkerEvent {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-p.events:
			if ok(e) {
				return e
			}
		case <-timeout:
			p.t.Fatal("the event did not come")
		}
	}
}

func (p *place) send(to prover.Peer, o prover.Order) {
	p.t.Helper()
	if err := p.hub.Send(to, o); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) ack(to prover.Peer, r prover.Report) {
	p.t.Helper()
	p.send(to, prover.Order{Kind: prover.OrderAck, Job: r.Job, Attempt: r.Attempt})
}

// start runs a worker in this process; the function ends it and gives its error.
func (p *place) start(change ...func(*Options)) (end func() error, ended <-chan error) {
	p.t.Helper()
	o := workerOptions(p.dir)
	for _, c := range change {
		c(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var err error
	var once sync.Once
	finished := make(chan struct{})
	go func() { e := Main(ctx, o); err = e; done <- e; close(finished) }()
	end = func() error { once.Do(cancel); <-finished; return err }
	p.t.Cleanup(func() { end() })
	return end, done
}

func workerOptions(dir string) Options {
	return Options{ID: "w1", Role: prover.RoleProve, Socket: SocketIn(dir), TokenFile: filepath.Join(dir, "token"), Dir: filepath.Join(dir, "w1"),
		BlobDir: filepath.Join(dir, "blobs"), Version: "test", Logger: discard, KeepProcs: true,
		BeatEvery: 20 * time.Millisecond, ResendAfter: 50 * time.Millisecond,
		Kinds: map[prover.JobKind]Backend{prover.Groth16Zkey: {OpenKey: openFake}}}
}

// fakeKey does what its witness says.
type fakeKey struct{ path string }

var keysOpen, keysOpened atomic.Int64

func openFake(_ context.Context, path string) (Key, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(string(b), "bad") {
		return nil, prover.Failure{Code: prover.FailZkeyDamaged, Text: "the key is damaged"}
	}
	keysOpen.Add(1)
	keysOpened.Add(1)
	return &fakeKey{path}, nil
}

func (k *fakeKey) ResidentBytes() int64 { return 10 }
func (k *fakeKey) Close() error         { keysOpen.Add(-1); return nil }

func (k *fakeKey) Verify(_ context.Context, proof, _ []byte) error {
	switch string(proof) {
	case "bad":
		return prover.Failure{Code: prover.FailProofInvalid, Text: "the pairing says no"}
	case "error":
		return errors.New("no memory")
	}
	return nil
}

func (k *fakeKey) Prove(ctx context.Context, witness string, threads int, progress func(prover.Phase, float64)) ([]byte, []byte, error) {
	b, err := os.ReadFile(witness)
	if err != nil {
		return nil, nil, err
	}
	text := string(b)
	progress(prover.PhaseFFT, 0.5)
	switch {
	case strings.HasPrefix(text, "hang"):
		<-ctx.Done()
		return nil, nil, ctx.Err()
	case strings.HasPrefix(text, "until "):
		for { // a file appears
			if _, err := os.Stat(strings.TrimPrefix(text, "until ")); err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	case strings.HasPrefix(text, "witness"):
		select { // long enough to be killed in it
		case <-time.After(25 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	case strings.HasPrefix(text, "panic"):
		panic("a point is at infinity")
	case strings.HasPrefix(text, "mismatch"):
		return nil, nil, prover.Failure{Code: prover.FailWitnessMismatch, Text: "the witness belongs to another circuit"}
	case strings.HasPrefix(text, "error"):
		return nil, nil, errors.New("input/output error")
	case strings.HasPrefix(text, "huge"):
		return make([]byte, maxProof), []byte("x"), nil
	}
	return []byte("proof of " + text), []byte(fmt.Sprintf(`["%d"]`, threads)), nil
}

func TestProveDeliverForget(t *testing.T) {
	p := newPlace(t)
	p.listen(func(o *HubOptions) { o.PingEvery = 10 * time.Millisecond })
	end, _ := p.start()
	hi := p.next(prover.ReportHello)
	if h := hi.Report.Hello; hi.Peer.Worker != "w1" || h.PID != os.Getpid() || h.Role != prover.RoleProve || h.Version != "test" || hi.Report.Holding != nil {
		t.Errorf("hello %+v %+v", hi.Peer, h)
	}
	p.send(hi.Peer, p.order("a", "one"))
	r := p.next(prover.ReportResult).Report
	if string(r.Proof.ProofJSON) != "proof of one" || string(r.Proof.PublicJSON) != `["1"]` || r.Proof.ProveTime <= 0 || r.Proof.Attempt != 1 {
		t.Errorf("result %+v", r.Proof)
	}
	if saved, err := ReadResult(filepath.Join(p.dir, "w1")); err != nil || saved == nil || saved.Job != "a" {
		t.Errorf("saved %+v, %v: it was sent before it was safe", saved, err)
	}
	if again := p.next(prover.ReportResult).Report; again.Job != "a" {
		t.Error("a result that is not acknowledged comes again")
	}
	e := p.until(func(e prover.WorkerEvent) bool { return e.Report.Kind == prover.ReportBeat && e.Latency > 0 })
	if e.Report.Holding == nil || !e.Report.Holding.Done || rssBytes() != nil && e.Report.RSSBytes == nil {
		t.Errorf("beat %+v", e.Report)
	}
	p.send(hi.Peer, p.order("b", "two"))
	if r := p.next(prover.ReportRefused).Report; r.Job != "b" || !strings.Contains(r.Why, "a is in hand") {
		t.Errorf("refusal %+v", r)
	}
	p.ack(hi.Peer, r)
	p.until(func(e prover.WorkerEvent) bool {
		return e.Report.Kind == prover.ReportBeat && e.Report.Holding == nil
	})
	if saved, _ := ReadResult(filepath.Join(p.dir, "w1")); saved != nil {
		t.Error("an acknowledged result is still kept")
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if r := p.next(prover.ReportBye).Report; r.Holding != nil {
		t.Errorf("bye %+v", r)
	}
	p.next(prover.ReportGone)
}

func TestFailures(t *testing.T) {
	p := newPlace(t)
	p.listen()
	p.start()
	hi := p.next(prover.ReportHello)
	other := p.order("x", "one")
	changed := p.blob("changed")
	os.WriteFile(changed.Path, []byte("Changed"), 0o600)
	gone := p.blob("gone")
	os.Remove(gone.Path)
	link := p.blob("link")
	os.Remove(link.Path)
	os.Symlink("/etc/passwd", link.Path)
	outside := &prover.BlobFile{Blob: changed.Blob, Path: "/etc/passwd"}
	dots := &prover.BlobFile{Blob: changed.Blob, Path: p.dir + "/blobs/../token"}
	for n, c := range []struct {
		name   string
		change func(*prover.Order)
		code   string
		retry  bool
	}{
		{"words of the backend", func(o *prover.Order) { o.Witness = p.blob("mismatch") }, prover.FailWitnessMismatch, false},
		{"any error", func(o *prover.Order) { o.Witness = p.blob("error") }, prover.FailInternal, true},
		{"bad key", func(o *prover.Order) { o.Zkey = p.blob("bad key") }, prover.FailZkeyDamaged, false},
		{"changed file", func(o *prover.Order) { o.Witness = changed }, prover.FailBlobMissing, false},
		{"other size", func(o *prover.Order) { o.Witness = p.blob("one"); o.Witness.SizeBytes++ }, prover.FailBlobMissing, false},
		{"lost file", func(o *prover.Order) { o.Zkey = gone }, prover.FailBlobMissing, false},
		{"link", func(o *prover.Order) { o.Zkey = link }, prover.FailBlobMissing, false},
		{"outside", func(o *prover.Order) { o.Witness = outside }, prover.FailInternal, false},
		{"outside by dots", func(o *prover.Order) { o.Witness = dots }, prover.FailInternal, false},
		{"time limit", func(o *prover.Order) { o.Witness = p.blob("hang"); o.LimitMS = 1 }, prover.FailTimeout, true},
		{"unknown kind", func(o *prover.Order) { o.JobKind = "plonk" }, prover.FailInternal, false},
		{"too large", func(o *prover.Order) { o.Witness = p.blob("huge") }, prover.FailInternal, false},
	} {
		o := other
		o.Attempt = n + 1
		c.change(&o)
		p.send(hi.Peer, o)
		r := p.until(func(e prover.WorkerEvent) bool {
			return e.Report.Kind == prover.ReportResult && e.Report.Attempt == o.Attempt
		}).Report
		if r.Failure == nil || r.Failure.Code != c.code || r.Failure.Retry != c.retry || r.Failure.Text == "" {
			t.Errorf("%s: %+v", c.name, r.Failure)
		}
		p.ack(hi.Peer, r)
	}
	p.send(hi.Peer, p.order("ok", "one"))
	if r := p.until(func(e prover.WorkerEvent) bool { return e.Report.Job == "ok" }).Report; r.Proof == nil {
		t.Errorf("after all that: %+v", r)
	}
}

func TestVerifierAndEmptyJobs(t *testing.T) {
	p := newPlace(t)
	p.listen()
	end, _ := p.start(func(o *Options) { o.Role = prover.RoleVerify })
	hi := p.next(prover.ReportHello)
	for n, c := range []struct {
		kind    prover.JobKind
		proof   string
		verdict prover.Verdict
		failure string
	}{
		{prover.Groth16Zkey, "good", prover.VerdictValid, ""},
		{prover.Groth16Zkey, "bad", prover.VerdictInvalid, ""},
		{prover.Groth16Zkey, "error", "", prover.FailInternal},
		{prover.EmptyJob, "{}", prover.VerdictValid, ""},
		{prover.EmptyJob, "no", prover.VerdictInvalid, ""},
	} {
		o := prover.Order{Kind: prover.OrderVerify, Job: "a", Attempt: n + 1, JobKind: c.kind, Proof: &prover.Proof{ProofJSON: []byte(c.proof)}}
		if c.kind != prover.EmptyJob {
			o.Zkey = p.blob("key")
		}
		p.send(hi.Peer, o)
		r := p.until(func(e prover.WorkerEvent) bool {
			return e.Report.Kind == prover.ReportResult && e.Report.Attempt == n+1
		}).Report
		if r.Verdict != c.verdict || (r.Failure == nil) != (c.failure == "") || r.Failure != nil && r.Failure.Code != c.failure ||
			(r.Verdict == prover.VerdictInvalid) != (r.Why != "") {
			t.Errorf("%s: %+v", c.proof, r)
		}
		p.ack(hi.Peer, r)
	}
	p.send(hi.Peer, p.order("b", "one"))
	if r := p.next(prover.ReportRefused).Report; !strings.Contains(r.Why, "role") {
		t.Errorf("refusal %+v", r)
	}
	end()
	p.stop()
	p.listen()
	p.start()
	hi = p.next(prover.ReportHello)
	p.send(hi.Peer, prover.Order{Kind: prover.OrderProve, Job: "e", Attempt: 1, JobKind: prover.EmptyJob})
	if r := p.next(prover.ReportResult).Report; string(r.Proof.ProofJSON) != "{}" {
		t.Errorf("result %+v", r)
	}
}

func TestCancelWithinAPhase(t *testing.T) {
	p := newPlace(t)
	p.listen()
	p.start()
	hi := p.next(prover.ReportHello)
	p.send(hi.Peer, p.order("a", "hang"))
	p.until(func(e prover.WorkerEvent) bool {
		h := e.Report.Holding
		return h != nil && h.Phase == prover.PhaseFFT && h.Progress == 0.5
	})
	p.send(hi.Peer, prover.Order{Kind: prover.OrderCancel, Job: "z", Attempt: 1})
	if r := p.next(prover.ReportRefused).Report; r.Job != "z" {
		t.Errorf("refusal %+v", r)
	}
	p.send(hi.Peer, prover.Order{Kind: prover.OrderCancel, Job: "a", Attempt: 1})
	if r := p.next(prover.ReportResult).Report; r.Failure == nil || r.Failure.Code != prover.FailCancelled {
		t.Errorf("result %+v", r)
	}
}

// The engine goes away in the middle of a proof and comes back after it: nothing is lost, nothing was disturbed.
func TestEngineRestarts(t *testing.T) {
	p := newPlace(t)
	p.listen()
	p.start()
	hi := p.next(prover.ReportHello)
	flag := filepath.Join(p.dir, "go on")
	p.send(hi.Peer, p.order("a", "until "+flag))
	p.until(func(e prover.WorkerEvent) bool { return e.Report.Holding != nil })
	p.stop()
	p.listen()
	hi = p.next(prover.ReportHello)
	if h := hi.Report.Holding; h == nil || h.Job != "a" || h.Attempt != 1 || h.Done || h.Phase != prover.PhaseFFT {
		t.Errorf("holding %+v", h)
	}
	p.stop()
	os.WriteFile(flag, nil, 0o600)
	waitFor(t, func() bool { r, _ := ReadResult(filepath.Join(p.dir, "w1")); return r != nil })
	p.listen()
	hi = p.next(prover.ReportHello)
	if h := hi.Report.Holding; h == nil || !h.Done {
		t.Errorf("holding %+v", h)
	}
	r := p.next(prover.ReportResult).Report
	if r.Proof == nil {
		t.Errorf("result %+v", r)
	}
	p.ack(hi.Peer, r)
	p.until(func(e prover.WorkerEvent) bool {
		return e.Report.Kind == prover.ReportBeat && e.Report.Holding == nil
	})
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
	}
}

// A real process is killed after it has proved and before it could deliver; its successor delivers.
func TestKilledBeforeDelivery(t *testing.T) {
	p := newPlace(t)
	p.listen()
	process := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PROVOST_TEST_WORKER="+p.dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	first := process()
	hi := p.next(prover.ReportHello)
	if hi.Report.Hello.PID != first.Process.Pid {
		t.Errorf("pid %d, want %d", hi.Report.Hello.PID, first.Process.Pid)
	}
	flag := filepath.Join(p.dir, "go on")
	p.send(hi.Peer, p.order("a", "until "+flag))
	p.until(func(e prover.WorkerEvent) bool { return e.Report.Holding != nil })
	p.stop()
	os.WriteFile(flag, nil, 0o600)
	waitFor(t, func() bool { r, _ := ReadResult(filepath.Join(p.dir, "w1")); return r != nil })
	first.Process.Kill()
	first.Wait()
	p.listen()
	second := process()
	defer func() { second.Process.Kill(); second.Wait() }()
	hi = p.next(prover.ReportHello)
	if h := hi.Report.Holding; h == nil || !h.Done || hi.Report.Hello.PID != second.Process.Pid {
		t.Errorf("holding %+v", h)
	}
	if r := p.next(prover.ReportResult).Report; r.Job != "a" || r.Proof == nil {
		t.Errorf("result %+v", r)
	}
}

func TestDamagedResultIsPutAside(t *testing.T) {
	p := newPlace(t)
	p.listen()
	dir := filepath.Join(p.dir, "w1")
	os.Mkdir(dir, 0o700)
	os.WriteFile(filepath.Join(dir, resultFile), []byte("{"), 0o600)
	p.start()
	if hi := p.next(prover.ReportHello); hi.Report.Holding != nil {
		t.Errorf("holding %+v", hi.Report.Holding)
	}
	if _, err := os.Stat(filepath.Join(dir, resultFile+".damaged")); err != nil {
		t.Error(err)
	}
}

func TestPanicIsReportedAndEndsTheProcess(t *testing.T) {
	p := newPlace(t)
	p.listen()
	_, ended := p.start()
	hi := p.next(prover.ReportHello)
	p.send(hi.Peer, p.order("a", "panic"))
	r := p.next(prover.ReportResult).Report
	if r.Failure == nil || !r.Failure.Retry || !strings.Contains(r.Failure.Text, "at infinity") {
		t.Errorf("result %+v", r.Failure)
	}
	p.send(hi.Peer, p.order("b", "one"))
	p.next(prover.ReportRefused)
	p.ack(hi.Peer, r)
	if err := <-ended; !errors.Is(err, ErrPanicked) {
		t.Errorf("got %v", err)
	}
}

func TestDrainAndRecycle(t *testing.T) {
	p := newPlace(t)
	p.listen()
	_, ended := p.start()
	hi := p.next(prover.ReportHello)
	flag := filepath.Join(p.dir, "go on")
	p.send(hi.Peer, p.order("a", "until "+flag))
	p.until(func(e prover.WorkerEvent) bool { return e.Report.Holding != nil })
	p.send(hi.Peer, prover.Order{Kind: prover.OrderDrain, Why: "restart"})
	p.send(hi.Peer, p.order("b", "one"))
	p.next(prover.ReportRefused)
	os.WriteFile(flag, nil, 0o600)
	p.ack(hi.Peer, p.next(prover.ReportResult).Report)
	if r := p.next(prover.ReportBye).Report; r.Why != "restart" {
		t.Errorf("bye %+v", r)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}

	_, ended = p.start(func(o *Options) { o.MaxJobs = 2 })
	hi = p.next(prover.ReportHello)
	for _, id := range []prover.JobID{"c", "d"} {
		p.send(hi.Peer, p.order(id, "one"))
		p.ack(hi.Peer, p.until(func(e prover.WorkerEvent) bool {
			return e.Report.Kind == prover.ReportResult && e.Report.Job == id
		}).Report)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestEndGivesBack(t *testing.T) {
	p := newPlace(t)
	p.listen()
	end, _ := p.start()
	hi := p.next(prover.ReportHello)
	p.send(hi.Peer, p.order("a", "hang"))
	p.until(func(e prover.WorkerEvent) bool { return e.Report.Holding != nil })
	if err := end(); err != nil {
		t.Error(err)
	}
	if r := p.next(prover.ReportBye).Report; r.Holding == nil || r.Holding.Job != "a" || r.Holding.Done {
		t.Errorf("bye %+v", r)
	}
}

func TestOneProcessPerWorker(t *testing.T) {
	p := newPlace(t)
	p.listen()
	_, first := p.start()
	p.next(prover.ReportHello)
	_, second := p.start()
	if err := <-second; !errors.Is(err, ErrTwice) {
		t.Errorf("got %v", err)
	}
	// With a directory of its own it comes through, and takes the other's place.
	p.start(func(o *Options) { o.Dir += "b" })
	p.next(prover.ReportGone)
	p.next(prover.ReportHello)
	if err := <-first; !errors.Is(err, ErrTwice) {
		t.Errorf("got %v", err)
	}
}

// TestLastWordIsHeard: an engine that ends a connection says why and closes it. A worker that was about
// to say something meanwhile hears it all the same.
func TestLastWordIsHeard(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mine, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	last, err := encode(&message{Type: "refusal", Refusal: &refusal{Code: refuseReplaced, Text: "another"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Write(last); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	w := &worker{o: Options{Logger: slog.New(slog.DiscardHandler)}, conn: &workerConn{c: mine.(*net.UnixConn), in: make(chan *message), ended: make(chan error, 1)}}
	if w.say(prover.Report{Kind: prover.ReportBeat}) {
		t.Fatal("a closed connection took a report")
	}
	go w.conn.read(t.Context())
	select {
	case m := <-w.conn.in:
		w.take(t.Context(), m)
	case err := <-w.conn.ended:
		t.Fatalf("the last word was lost: %v", err)
	}
	if !errors.Is(w.quit, ErrTwice) {
		t.Errorf("quit: %v", w.quit)
	}
}

func TestRefusals(t *testing.T) {
	p := newPlace(t)
	p.listen()
	_, ended := p.start(func(o *Options) { o.ID = "w2" })
	if err := <-ended; !errors.Is(err, ErrRefused) {
		t.Errorf("unknown worker: %v", err)
	}
	other := filepath.Join(p.dir, "other")
	NewToken().WriteFile(other)
	_, ended = p.start(func(o *Options) { o.TokenFile = other })
	if err := <-ended; !errors.Is(err, ErrRefused) {
		t.Errorf("wrong token: %v", err)
	}
	_, ended = p.start(func(o *Options) { o.TokenFile = other + "x" })
	if err := <-ended; !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no token: %v", err)
	}
	_, ended = p.start(func(o *Options) { o.BlobDir = "blobs" })
	if err := <-ended; err == nil {
		t.Error("relative directory")
	}
}

// raw speaks to the hub by hand.
func (p *place) raw(t *testing.T, messages ...string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", SocketIn(p.dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for _, m := range messages {
		if _, err := c.Write(frameOf([]byte(m))); err != nil {
			t.Fatal(err)
		}
	}
	c.SetReadDeadline(time.Now().Add(patience))
	return c
}

func (p *place) helloText(schema string) string {
	tok, err := ReadToken(filepath.Join(p.dir, "token"))
	if err != nil {
		p.t.Fatal(err)
	}
	text, _ := shownToken{tok}.MarshalText()
	return `{"type":"hello","hello":{"schema":"` + schema + `","worker":"w1","token":"` + string(text) + `","process":{"role":"prove","pid":1,"version":"","started_at":"2026-03-01T12:00:00Z"},"holding":null}}`
}

func TestHubAgainstStrangers(t *testing.T) {
	p := newPlace(t)
	p.listen(func(o *HubOptions) { o.Silence = 100 * time.Millisecond })
	if info, err := os.Stat(SocketIn(p.dir)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for name, first := range map[string]string{
		"garbage": "x", "a report first": `{"type":"report","report":{"kind":"beat"}}`, "a large hello": strings.Repeat(" ", maxGreeting+1),
	} {
		if m, err := readMessage(p.raw(t, first), maxFrame); err == nil {
			t.Errorf("%s: answered %+v", name, m)
		}
	}
	c := p.raw(t, p.helloText("provost.worker/2"))
	if m, err := readMessage(c, maxFrame); err != nil || m.Refusal == nil || m.Refusal.Code != refuseSchema {
		t.Errorf("another version: %+v, %v", m, err)
	}
	c = p.raw(t, p.helloText(Schema), `{"type":"ping","ping":{"seq":1}}`)
	if e := p.next(prover.ReportGone); !strings.Contains(e.Report.Why, "sends no ping") {
		t.Errorf("gone: %q", e.Report.Why)
	}
	runtime.KeepAlive(c) // a connection that nobody holds is closed by the collector
	c = p.raw(t, p.helloText(Schema))
	defer runtime.KeepAlive(c)
	p.next(prover.ReportHello)
	if e := p.next(prover.ReportGone); !strings.Contains(e.Report.Why, "nothing was heard") {
		t.Errorf("gone: %q", e.Report.Why)
	}
	// One that never reads is dropped when its orders pile up.
	p.stop()
	p.listen()
	c = p.raw(t, p.helloText(Schema))
	hi := p.next(prover.ReportHello)
	big := prover.Order{Kind: prover.OrderVerify, Job: "a", Attempt: 1, JobKind: prover.EmptyJob, Proof: &prover.Proof{PublicJSON: make([]byte, 1<<20)}}
	waitFor(t, func() bool { return errors.Is(p.hub.Send(hi.Peer, big), ErrGone) })
	p.next(prover.ReportGone)
	if err := p.hub.Send(hi.Peer, big); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
	if err := p.hub.Send(hi.Peer, prover.Order{Kind: prover.OrderProve}); err == nil || errors.Is(err, ErrGone) {
		t.Errorf("an order that is not complete: %v", err)
	}
	c.Close()
}

func TestSocketPaths(t *testing.T) {
	p := newPlace(t)
	never := func(string, func(context.Context) error) { t.Error("a hub began that could not listen") }
	o := p.hubOptions(never)
	o.Path = filepath.Join(p.dir, strings.Repeat("x", 104))
	if _, err := Listen(o); !errors.Is(err, ErrSocketPath) || !strings.Contains(err.Error(), "103") {
		t.Errorf("got %v", err)
	}
	p.listen()
	if _, err := Listen(p.hubOptions(never)); !errors.Is(err, ErrSocketTaken) {
		t.Errorf("got %v", err)
	}
	p.stop()
	// Left behind by a process that was killed.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: SocketIn(p.dir), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	p.listen()
	p.stop()
	os.WriteFile(SocketIn(p.dir), []byte("precious"), 0o600)
	if _, err := Listen(p.hubOptions(never)); err == nil {
		t.Error("a file was replaced by a socket")
	}
	if b, _ := os.ReadFile(SocketIn(p.dir)); string(b) != "precious" {
		t.Error("the file is gone")
	}
}

func TestKeyCache(t *testing.T) {
	p := newPlace(t)
	open0, opened0 := keysOpen.Load(), keysOpened.Load()
	c := keyCache{dir: filepath.Join(p.dir, "blobs"), bound: 25, checked: map[string]fileMark{}}
	get := func(text string) {
		t.Helper()
		if _, err := c.get(t.Context(), prover.Groth16Zkey, Backend{OpenKey: openFake}, p.keep(text)); err != nil {
			t.Fatal(err)
		}
	}
	opened := func() int64 { return keysOpened.Load() - opened0 }
	get("k1")
	get("k2")
	get("k1")
	if opened() != 2 {
		t.Errorf("opened %d", opened())
	}
	get("k3") // k2 was used least recently
	get("k1")
	if opened() != 3 || keysOpen.Load()-open0 != 2 {
		t.Errorf("opened %d, open %d", opened(), keysOpen.Load()-open0)
	}
	get("k2")
	if opened() != 4 {
		t.Errorf("opened %d", opened())
	}
	c.forget(p.keep("k2").Digest)
	get("k2")
	if opened() != 5 {
		t.Errorf("opened %d", opened())
	}
	// A file that changes under its name is noticed when it is opened again.
	c.forget(p.keep("k2").Digest)
	f := p.keep("k2")
	os.WriteFile(f.Path, []byte("K2"), 0o600)
	os.Chtimes(f.Path, time.Now(), time.Now().Add(time.Hour))
	var failure prover.Failure
	if _, err := c.get(t.Context(), prover.Groth16Zkey, Backend{OpenKey: openFake}, f); !errors.As(err, &failure) || failure.Code != prover.FailBlobMissing {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCancelled)
	if err := c.check(ctx, "key", p.keep("k9")); !errors.Is(err, errCancelled) {
		t.Errorf("got %v", err)
	}
	c.close()
	if keysOpen.Load() != open0 {
		t.Error("a key stays open")
	}
}

// keep is blob for a file that must not be written again.
func (p *place) keep(text string) *prover.BlobFile {
	d := prover.Digest(sha256.Sum256([]byte(text)))
	path := filepath.Join(p.dir, "blobs", d.String())
	if _, err := os.Stat(path); err != nil {
		return p.blob(text)
	}
	return &prover.BlobFile{Blob: prover.Blob{Digest: d, SizeBytes: int64(len(text))}, Path: path}
}
