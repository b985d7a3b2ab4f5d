package rpc

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/prover"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is an engine that does what a test says. Feeds give the newest, as the real one's do.
type fake struct {
	mu      sync.Mutex
	snap    *engine.Snapshot
	entries []engine.Entry
	oldest  uint64 // lowest entry kept
	feeds   map[*fakeFeed]bool
	stopped bool
	asked   []engine.Request
	watched []engine.WatchOptions
	queries []engine.LogQuery

	onPreview func(engine.Request) (engine.Plan, error)
	onDo      func(context.Context, engine.Request, engine.Digest) (engine.Receipt, error)
	onWatch   func(engine.WatchOptions) error
	lines     []engine.LogLine
	logsErr   error
	follow    chan engine.LogLine
}

func newFake() *fake {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	f := &fake{feeds: map[*fakeFeed]bool{}, oldest: 1, follow: make(chan engine.LogLine)}
	f.snap = &engine.Snapshot{
		Schema: engine.SnapshotSchema, Gen: 1, At: at,
		Engine:  &engine.One[engine.Info]{Version: 1, At: at, Value: engine.Info{ID: "e1", Name: "bench", Machine: "m1", PID: 4242, Version: "0.1.0", StartedAt: at, Roles: []engine.Role{engine.RoleMachine}}},
		Workers: workers(1, 2),
	}
	return f
}

func workers(version uint64, n int) *engine.Section[engine.WorkerRow] {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	s := &engine.Section[engine.WorkerRow]{Version: version, At: at, Rows: []engine.WorkerRow{}}
	for i := 1; i <= n; i++ {
		core := prover.Core(i)
		cpu, pid, nice := prover.CPU(i-1), 1000+i, 10
		job := prover.JobID(fmt.Sprintf("j%08d", i))
		progress, use, rss := 0.25, 97.5, uint64(300<<20)
		s.Rows = append(s.Rows, engine.WorkerRow{
			Key: engine.Key{Machine: "m1", Cluster: "c1", ID: string(prover.WorkerFor(core))}, ID: prover.WorkerFor(core), Core: core, CPU: &cpu,
			State: engine.WorkerRun, Since: at, Desired: engine.WishRun, PID: &pid, StartedAt: &at, Nice: &nice, Version: "0.1.0",
			Job: &job, Phase: prover.PhaseFFT, Progress: &progress, CPUPercent: &use, RSSBytes: &rss, HeardAt: &at, JobsDone: uint64(i),
		})
	}
	return s
}

// publish makes a new snapshot out of the last one and wakes the feeds.
func (f *fake) publish(change func(*engine.Snapshot), entries ...engine.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := *f.snap
	next.Gen++
	if change != nil {
		change(&next)
	}
	f.snap = &next
	f.entries = append(f.entries, entries...)
	f.wakeLocked()
}

func (f *fake) wakeLocked() {
	for feed := range f.feeds {
		select {
		case feed.wake <- struct{}{}:
		default:
		}
	}
}

func (f *fake) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	f.wakeLocked()
}

type fakeFeed struct {
	f     *fake
	last  *engine.Snapshot
	after *uint64
	wake  chan struct{}
}

func (f *fake) Watch(_ context.Context, o engine.WatchOptions) (engine.Feed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched = append(f.watched, o)
	if f.onWatch != nil {
		if err := f.onWatch(o); err != nil {
			return nil, err
		}
	}
	feed := &fakeFeed{f: f, after: o.After, wake: make(chan struct{}, 1)}
	f.feeds[feed] = true
	return feed, nil
}

func (x *fakeFeed) Next(ctx context.Context) (engine.Update, error) {
	for {
		if u, ok, err := x.take(); ok || err != nil {
			return u, err
		}
		select {
		case <-x.wake:
		case <-ctx.Done():
			return engine.Update{}, ctx.Err()
		}
	}
}

func (x *fakeFeed) take() (engine.Update, bool, error) {
	f := x.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.feeds[x] || f.stopped {
		return engine.Update{}, false, io.EOF
	}
	if x.last != nil && x.last.Gen == f.snap.Gen {
		return engine.Update{}, false, nil
	}
	u := engine.Update{Snapshot: f.snap, Changed: engine.Changed(x.last, f.snap)}
	x.last = f.snap
	if x.after != nil {
		if *x.after+1 < f.oldest {
			u.Gap = &engine.Gap{From: *x.after + 1, To: f.oldest - 1}
		}
		for _, e := range f.entries {
			if e.N > *x.after && e.N >= f.oldest {
				u.Entries = append(u.Entries, e)
			}
		}
		last := *x.after
		if u.Gap != nil {
			last = u.Gap.To
		}
		if n := len(u.Entries); n > 0 {
			last = u.Entries[n-1].N
		}
		x.after = &last
	}
	return u, true, nil
}

func (x *fakeFeed) Close() error {
	x.f.mu.Lock()
	defer x.f.mu.Unlock()
	delete(x.f.feeds, x)
	return nil
}

func (f *fake) open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.feeds)
}

func (f *fake) Preview(_ context.Context, r engine.Request) (engine.Plan, error) {
	f.mu.Lock()
	f.asked = append(f.asked, r)
	f.mu.Unlock()
	if f.onPreview != nil {
		return f.onPreview(r)
	}
	return engine.Plan{Title: "pause 1 worker for 45m, then resume", Command: "provost pause worker w1 --for=45m --reason=disk",
		Steps: []engine.Step{{Name: "drain", Text: "w1 finishes its job"}}, Targets: []string{"worker/w1"},
		Consent: engine.Consent{Level: "enter"}, MadeAt: f.snap.At}.Seal(r.Action)
}

func (f *fake) Do(ctx context.Context, r engine.Request, d engine.Digest) (engine.Receipt, error) {
	f.mu.Lock()
	f.asked = append(f.asked, r)
	f.mu.Unlock()
	if f.onDo != nil {
		return f.onDo(ctx, r, d)
	}
	return engine.Receipt{Key: r.Key, Act: "a1", Digest: d, At: f.snap.At, Title: "pause 1 worker for 45m, then resume", Targets: []string{"worker/w1"}}, nil
}

type fakeLogs struct {
	f     *fake
	lines []engine.LogLine
	q     engine.LogQuery
	done  chan struct{}
}

func (f *fake) Logs(_ context.Context, q engine.LogQuery) (engine.LogStream, error) {
	if f.logsErr != nil {
		return nil, f.logsErr
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queries = append(f.queries, q)
	return &fakeLogs{f: f, lines: f.lines, q: q, done: make(chan struct{})}, nil
}

func (l *fakeLogs) Next(ctx context.Context) (engine.LogLine, error) {
	if len(l.lines) > 0 {
		line := l.lines[0]
		l.lines = l.lines[1:]
		return line, nil
	}
	if !l.q.Follow {
		return engine.LogLine{}, io.EOF
	}
	select {
	case line := <-l.f.follow:
		return line, nil
	case <-l.done:
		return engine.LogLine{}, io.EOF
	case <-ctx.Done():
		return engine.LogLine{}, ctx.Err()
	}
}

func (l *fakeLogs) Close() error { close(l.done); return nil }

// serve runs a server over e and gives its socket and a way to stop it.
func serve(t testing.TB, e engine.Engine, change ...func(*ServerOptions)) (string, func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rpc") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return serveAt(t, filepath.Join(dir, "s"), e, change...)
}

func serveAt(t testing.TB, socket string, e engine.Engine, change ...func(*ServerOptions)) (string, func()) {
	t.Helper()
	o := ServerOptions{Engine: e, Socket: socket, Log: slog.New(slog.DiscardHandler), Version: "0.1.0"}
	for _, c := range change {
		c(&o)
	}
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("run: %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("the server does not stop")
			}
		})
	}
	t.Cleanup(stop)
	return socket, stop
}

func dial(t testing.TB, socket string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), DialOptions{Socket: socket, Via: engine.ViaScreen, Host: "bastion", Version: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func watch(t testing.TB, e engine.Engine, o engine.WatchOptions) engine.Feed {
	t.Helper()
	f, err := e.Watch(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func next(t testing.TB, f engine.Feed) engine.Update {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	u, err := f.Next(ctx)
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return u
}

func newDiscard() *slog.Logger { return slog.New(slog.DiscardHandler) }
