package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"app.provost/engine"

	"github.com/google/go-cmp/cmp"
)

var pause = engine.PauseWorkers{Workers: "w1", For: engine.Duration(45 * time.Minute), Reason: "disk"}

func entry(n uint64) engine.Entry {
	return engine.Entry{N: n, At: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Level: engine.LevelNote, What: "job.verified", Text: fmt.Sprintf("job %d\nverified", n)}
}

func TestSectionsAreAll(t *testing.T) {
	var have []engine.SectionName
	full := &engine.Snapshot{}
	for _, s := range sections {
		have = append(have, s.name)
		if s.get(full) != nil {
			t.Errorf("%s of an empty snapshot is not nil", s.name)
		}
	}
	if !slices.Equal(have, engine.SectionNames) {
		t.Errorf("have %v, want %v", have, engine.SectionNames)
	}
	if len(sections) > len((&encoder{}).slots) {
		t.Error("the encoder has too few slots")
	}
	// The names are the keys of the snapshot's JSON.
	b, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(b, &keys); err != nil {
		t.Fatal(err)
	}
	for _, n := range engine.SectionNames {
		if _, ok := keys[string(n)]; !ok {
			t.Errorf("section %s has another key in JSON", n)
		}
	}
	if got, want := len(keys), len(sections)+3; got != want {
		t.Errorf("a snapshot has %d keys, the frame knows %d", got, want)
	}
}

func TestFeedMirrors(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f)
	c := dial(t, socket)
	feed := watch(t, c, engine.WatchOptions{Every: time.Millisecond, Viewer: "ana@bastion", Sections: []engine.SectionName{engine.SecWorkers, engine.SecJobs}})
	first := next(t, feed)
	if d := cmp.Diff(f.snap, first.Snapshot); d != "" {
		t.Errorf("the first snapshot is not the engine's:\n%s", d)
	}
	if want := (engine.WatchOptions{Every: time.Millisecond, Viewer: "ana@bastion", Sections: []engine.SectionName{engine.SecWorkers, engine.SecJobs}}); !cmp.Equal(f.watched[len(f.watched)-1], want) {
		t.Errorf("the engine was asked %+v", f.watched)
	}
	before, _ := json.Marshal(first.Snapshot)

	f.publish(func(s *engine.Snapshot) {
		s.Workers = workers(2, 3)
		s.Jobs = &engine.Jobs{Version: 7, Rows: []engine.JobRow{}}
	})
	second := next(t, feed)
	if d := cmp.Diff(f.snap, second.Snapshot); d != "" {
		t.Errorf("the second snapshot is not the engine's:\n%s", d)
	}
	if second.Snapshot.Engine != first.Snapshot.Engine {
		t.Error("a section that did not change was made anew")
	}
	if want := []engine.SectionName{engine.SecWorkers, engine.SecJobs}; !slices.Equal(second.Changed, want) {
		t.Errorf("changed %v, want %v", second.Changed, want)
	}

	f.publish(func(s *engine.Snapshot) { s.Workers = nil })
	third := next(t, feed)
	if third.Snapshot.Workers != nil || third.Snapshot.Jobs != second.Snapshot.Jobs {
		t.Error("a section that is no longer configured stays, or another was lost with it")
	}
	if after, _ := json.Marshal(first.Snapshot); !bytes.Equal(before, after) {
		t.Error("a snapshot changed after it was handed out")
	}
}

func TestJournalIsWhole(t *testing.T) {
	f := newFake()
	f.oldest = 5
	for n := uint64(5); n <= 2500; n++ {
		f.entries = append(f.entries, entry(n))
	}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	after := uint64(2)
	feed := watch(t, c, engine.WatchOptions{After: &after})
	u := next(t, feed)
	if u.Gap == nil || *u.Gap != (engine.Gap{From: 3, To: 4}) {
		t.Errorf("gap %+v, want 3 to 4", u.Gap)
	}
	if len(u.Entries) != 2496 || !cmp.Equal(u.Entries[0], entry(5)) || u.Entries[2495].N != 2500 {
		t.Fatalf("%d entries came", len(u.Entries))
	}
	// Entries of updates that nobody took yet are kept, in order.
	for n := uint64(2501); n <= 2600; n++ {
		f.publish(nil, entry(n))
	}
	for got := uint64(2500); got < 2600; {
		for _, e := range next(t, feed).Entries {
			if e.N != got+1 {
				t.Fatalf("entry %d follows %d", e.N, got)
			}
			got = e.N
		}
	}
}

func TestAbsentViewerLosesNoEntries(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f)
	c := dial(t, socket)
	zero := uint64(0)
	feed := watch(t, c, engine.WatchOptions{After: &zero})
	next(t, feed)
	// More than the client keeps: its reader must stop and wait, not drop.
	const all = 3 * maxPending
	for n := uint64(1); n <= all; n += 512 {
		var batch []engine.Entry
		for i := n; i < n+512; i++ {
			batch = append(batch, entry(i))
		}
		f.publish(nil, batch...)
	}
	got := uint64(0)
	for got < all {
		for _, e := range next(t, feed).Entries {
			if e.N != got+1 {
				t.Fatalf("entry %d follows %d", e.N, got)
			}
			got = e.N
		}
	}
}

func TestNextKeepsTheFeedWhenItsContextEnds(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f)
	feed := watch(t, dial(t, socket), engine.WatchOptions{})
	next(t, feed)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := feed.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.publish(nil)
	if u := next(t, feed); u.Snapshot.Gen != 2 {
		t.Errorf("gen %d", u.Snapshot.Gen)
	}
	feed.Close()
	if _, err := feed.Next(t.Context()); err != io.EOF {
		t.Errorf("after close: %v", err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for f.open() > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the engine's feed stays open after the viewer has gone")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestEngineStops(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f)
	feed := watch(t, dial(t, socket), engine.WatchOptions{})
	next(t, feed)
	f.stop()
	if _, err := feed.Next(t.Context()); err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
}

func TestServerStops(t *testing.T) {
	f := newFake()
	socket, stop := serve(t, f)
	c := dial(t, socket)
	feed := watch(t, c, engine.WatchOptions{})
	logs, err := c.Logs(t.Context(), engine.LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	next(t, feed)
	stop()
	if _, err := feed.Next(t.Context()); err != io.EOF {
		t.Errorf("feed: %v, want EOF", err)
	}
	if _, err := logs.Next(t.Context()); err != io.EOF {
		t.Errorf("logs: %v, want EOF", err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	_, err = Dial(t.Context(), DialOptions{Socket: socket})
	if p := engine.AsProblem("", err); p.Code != engine.CodeNoEngine || p.Exit != engine.ExitNoEngine || !LinkLost(err) {
		t.Errorf("got %v", err)
	}
}

func TestLinkCut(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f)
	// A relay that cuts when told, as a killed engine does.
	relay, cut := relayTo(t, socket)
	feed := watch(t, dial(t, relay), engine.WatchOptions{})
	next(t, feed)
	cut()
	_, err := feed.Next(t.Context())
	if !LinkLost(err) || engine.ExitOf(err) != engine.ExitNoEngine {
		t.Errorf("got %v", err)
	}
	if _, again := feed.Next(t.Context()); !LinkLost(again) {
		t.Errorf("the second time: %v", again)
	}
}

// relayTo passes connections on to a socket; cut ends all of them at once and stops listening.
func relayTo(t testing.TB, socket string) (string, func()) {
	t.Helper()
	path := socket + "r"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("unix", socket)
			if err != nil {
				a.Close()
				continue
			}
			conns <- a
			conns <- b
			go func() { io.Copy(a, b); a.Close() }()
			go func() { io.Copy(b, a); b.Close() }()
		}
	}()
	cut := func() {
		l.Close()
		<-done
		for len(conns) > 0 {
			(<-conns).Close()
		}
	}
	t.Cleanup(cut)
	return path, cut
}

func TestSilentEngineCountsAsLost(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f, func(o *ServerOptions) { o.Keepalive = time.Hour })
	feed := watch(t, dial(t, socket), engine.WatchOptions{})
	next(t, feed)
	feed.(*rpcFeed).in.pulse.Reset(20 * time.Millisecond)
	_, err := feed.Next(t.Context())
	if !LinkLost(err) || !strings.Contains(err.Error(), errSilent.Error()) {
		t.Errorf("got %v", err)
	}
}

func TestKeepalivesKeepAQuietFeed(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f, func(o *ServerOptions) { o.Keepalive = 50 * time.Millisecond })
	feed := watch(t, dial(t, socket), engine.WatchOptions{})
	next(t, feed)
	// A link counts as lost after a second here, if nothing came.
	ctx, cancel := context.WithTimeout(t.Context(), 1600*time.Millisecond)
	defer cancel()
	if _, err := feed.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestPreviewAndDo(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f)
	c := dial(t, socket)
	req := engine.Request{Key: engine.NewKey(), Action: pause, Actor: engine.Actor{Name: "mallory", Via: engine.ViaCLI}}
	plan, err := c.Preview(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := f.Preview(t.Context(), engine.Request{Action: pause})
	if d := cmp.Diff(want, plan); d != "" {
		t.Error(d)
	}
	rec, err := c.Do(t.Context(), req, plan.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Key != req.Key || rec.Digest != plan.Digest || rec.Act != "a1" {
		t.Errorf("got %+v", rec)
	}
	got := f.asked[len(f.asked)-1]
	uid := os.Geteuid()
	if got.Actor.Name == "mallory" || got.Actor.UID == nil || *got.Actor.UID != uid || got.Actor.Via != engine.ViaCLI || got.Actor.Host != "bastion" {
		t.Errorf("the engine was told that %+v asks", got.Actor)
	}
	if !cmp.Equal(got.Action, engine.Action(pause)) {
		t.Errorf("action %+v", got.Action)
	}
}

func TestProblemsTravel(t *testing.T) {
	f := newFake()
	plan, _ := f.Preview(t.Context(), engine.Request{Action: pause})
	want := &engine.Problem{Code: engine.CodePlanChanged, Exit: engine.ExitRefused, Doing: "pause worker", Cause: "the plan is another now",
		Remedy: "look again", Field: "digest", Plan: &plan, More: []engine.Problem{{Code: engine.CodeUsage, Exit: engine.ExitUsage, Cause: "x"}}}
	f.onDo = func(context.Context, engine.Request, engine.Digest) (engine.Receipt, error) {
		return engine.Receipt{}, fmt.Errorf("wrapped: %w", want)
	}
	f.onPreview = func(engine.Request) (engine.Plan, error) { return engine.Plan{}, errors.New("out of cheese") }
	f.logsErr = want
	f.onWatch = func(o engine.WatchOptions) error {
		if o.Viewer == "denied" {
			return want
		}
		return nil
	}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	check := func(name string, err error) {
		t.Helper()
		var p *engine.Problem
		if !errors.As(err, &p) || LinkLost(err) {
			t.Fatalf("%s: %v", name, err)
		}
		a, _ := json.Marshal(p)
		b, _ := json.Marshal(want)
		if !bytes.Equal(a, b) {
			t.Errorf("%s: got %s, want %s", name, a, b)
		}
	}
	_, err := c.Do(t.Context(), engine.Request{Key: "k", Action: pause}, "abc")
	check("do", err)
	_, err = c.Logs(t.Context(), engine.LogQuery{})
	check("logs", err)
	_, err = c.Watch(t.Context(), engine.WatchOptions{Viewer: "denied"})
	check("watch", err)
	_, err = c.Preview(t.Context(), engine.Request{Action: pause})
	if p := engine.AsProblem("", err); p.Code != engine.CodeUnexpected || p.Cause != "out of cheese" || p.Doing != "pause worker" {
		t.Errorf("preview: %+v", p)
	}
	if _, err := c.Preview(t.Context(), engine.Request{}); err == nil {
		t.Error("a request without an action was sent")
	}
}

func TestCrashOfTheEngineIsAnAnswer(t *testing.T) {
	f := newFake()
	f.onPreview = func(engine.Request) (engine.Plan, error) { panic("boom") }
	socket, _ := serve(t, f)
	_, err := dial(t, socket).Preview(t.Context(), engine.Request{Action: pause})
	if p := engine.AsProblem("", err); p.Code != engine.CodeUnexpected || LinkLost(err) {
		t.Errorf("got %v", err)
	}
}

func TestDoOutlivesItsCaller(t *testing.T) {
	f := newFake()
	entered, leave := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	f.onDo = func(ctx context.Context, r engine.Request, _ engine.Digest) (engine.Receipt, error) {
		close(entered)
		<-leave
		ended <- ctx.Err()
		return engine.Receipt{Key: r.Key}, nil
	}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if _, err := c.Do(ctx, engine.Request{Key: "k", Action: pause}, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(leave)
	if err := <-ended; err != nil {
		t.Errorf("the act was cut: %v", err)
	}
}

func TestDeadlineOfACall(t *testing.T) {
	f := newFake()
	leave := make(chan struct{})
	f.onDo = func(context.Context, engine.Request, engine.Digest) (engine.Receipt, error) {
		<-leave
		return engine.Receipt{}, nil
	}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Do(ctx, engine.Request{Key: "k", Action: pause}, "")
	close(leave)
	if !errors.Is(err, context.DeadlineExceeded) || engine.ExitOf(err) != engine.ExitTimeout {
		t.Errorf("got %v", err)
	}
}

func TestLogs(t *testing.T) {
	f := newFake()
	at := time.Date(2026, 1, 31, 12, 0, 0, 500, time.UTC)
	for i := range 1000 {
		f.lines = append(f.lines, engine.LogLine{At: &at, Source: "w1", Level: engine.LevelWarn, Text: fmt.Sprintf("line %d", i), Dropped: i % 3})
	}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	q := engine.LogQuery{Sources: []string{"w1", "engine"}, Tail: 1000, Since: &at, Grep: "a&b=c|d", Level: engine.LevelNote}
	l, err := c.Logs(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range f.lines {
		got, err := l.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(f.lines[i], got); d != "" {
			t.Fatalf("line %d: %s", i, d)
		}
	}
	if _, err := l.Next(t.Context()); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if d := cmp.Diff(q, f.queries[0]); d != "" {
		t.Errorf("the engine was asked otherwise: %s", d)
	}

	f.lines = nil
	l, err = c.Logs(t.Context(), engine.LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	f.follow <- engine.LogLine{Source: "w2", Text: "now"}
	if got, err := l.Next(t.Context()); err != nil || got.Text != "now" {
		t.Errorf("got %+v, %v", got, err)
	}
	l.Close()
	l.Close()
	if _, err := l.Next(t.Context()); err != io.EOF {
		t.Errorf("after close: %v", err)
	}
}

// raw sends bytes to a route as curl would, and gives status and body.
func raw(t testing.TB, socket, method, target, body string, header ...string) (int, string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://provost"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestBadRequests(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f)
	good := `{"key":"k1","digest":"0123456789ab","action":{"kind":"pause_workers","args":{"workers":"w1","for":"45m","reason":"disk"}}}`
	for name, c := range map[string]struct {
		method, target, body string
		header               []string
		status               int
		code                 engine.Code
		field                string
	}{
		"good":            {"POST", "/v1/do", good, nil, 200, "", ""},
		"no key":          {"POST", "/v1/do", strings.Replace(good, `"key":"k1",`, "", 1), nil, 400, engine.CodeUsage, "key"},
		"key as header":   {"POST", "/v1/do", strings.Replace(good, `"key":"k1",`, "", 1), []string{"Idempotency-Key", "k9"}, 200, "", ""},
		"odd key":         {"POST", "/v1/do", strings.Replace(good, `"k1"`, `"k\n1"`, 1), nil, 400, engine.CodeUsage, "key"},
		"long key":        {"POST", "/v1/do", strings.Replace(good, `"k1"`, `"`+strings.Repeat("k", 129)+`"`, 1), nil, 400, engine.CodeUsage, "key"},
		"rule as face":    {"POST", "/v1/do", strings.Replace(good, `"key"`, `"via":"rule","key"`, 1), nil, 400, engine.CodeUsage, "via"},
		"unknown field":   {"POST", "/v1/do", strings.Replace(good, `"key"`, `"force":true,"key"`, 1), nil, 400, engine.CodeUsage, ""},
		"unknown kind":    {"POST", "/v1/do", strings.Replace(good, "pause_workers", "drop_tables", 1), nil, 400, engine.CodeUsage, ""},
		"unknown arg":     {"POST", "/v1/do", strings.Replace(good, `"for"`, `"fro"`, 1), nil, 400, engine.CodeUsage, ""},
		"two bodies":      {"POST", "/v1/do", good + good, nil, 400, engine.CodeUsage, ""},
		"brace after":     {"POST", "/v1/do", good + "}", nil, 400, engine.CodeUsage, ""},
		"empty":           {"POST", "/v1/do", "", nil, 400, engine.CodeUsage, ""},
		"null":            {"POST", "/v1/do", "null", nil, 400, engine.CodeUsage, ""},
		"no action":       {"POST", "/v1/do", `{"key":"k"}`, nil, 400, engine.CodeUsage, ""},
		"null action":     {"POST", "/v1/do", `{"key":"k","action":null}`, nil, 400, engine.CodeUsage, ""},
		"too long":        {"POST", "/v1/do", strings.Repeat(" ", maxRequest) + good, nil, 400, engine.CodeUsage, ""},
		"preview digest":  {"POST", "/v1/preview", good, nil, 400, engine.CodeUsage, "digest"},
		"get do":          {"GET", "/v1/do", "", nil, 404, engine.CodeNotFound, ""},
		"no route":        {"GET", "/v2/hello", "", nil, 404, engine.CodeNotFound, ""},
		"protocol":        {"GET", "/v1/hello", "", []string{"Provost-Protocol", "99"}, 426, engine.CodeProtocol, ""},
		"every":           {"GET", "/v1/watch?every=soon", "", nil, 400, engine.CodeUsage, "every"},
		"negative every":  {"GET", "/v1/watch?every=-1s", "", nil, 400, engine.CodeUsage, "every"},
		"sections":        {"GET", "/v1/watch?sections=workers,wrokers", "", nil, 400, engine.CodeUsage, "sections"},
		"after":           {"GET", "/v1/watch?after=-1", "", nil, 400, engine.CodeUsage, "after"},
		"misspelt":        {"GET", "/v1/watch?afer=1", "", nil, 400, engine.CodeUsage, "afer"},
		"tail":            {"GET", "/v1/logs?tail=-3", "", nil, 400, engine.CodeUsage, "tail"},
		"since":           {"GET", "/v1/logs?since=yesterday", "", nil, 400, engine.CodeUsage, "since"},
		"follow":          {"GET", "/v1/logs?follow=maybe", "", nil, 400, engine.CodeUsage, "follow"},
		"level":           {"GET", "/v1/logs?level=loud", "", nil, 400, engine.CodeUsage, "level"},
		"snapshot params": {"GET", "/v1/snapshot?x=1", "", nil, 400, engine.CodeUsage, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := raw(t, socket, c.method, c.target, c.body, c.header...)
			if status != c.status {
				t.Fatalf("status %d, want %d: %s", status, c.status, body)
			}
			if c.code == "" {
				return
			}
			var b problemBody
			if err := json.Unmarshal([]byte(body), &b); err != nil || b.Problem == nil || b.Schema != ProblemSchema {
				t.Fatalf("no problem in %s", body)
			}
			if b.Problem.Code != c.code || b.Problem.Field != c.field || b.Problem.Cause == "" || b.Problem.Remedy == "" {
				t.Errorf("got %s", body)
			}
		})
	}
	keys := map[string]bool{}
	for _, r := range f.asked {
		keys[r.Key] = true
	}
	if len(f.asked) != 2 || !keys["k1"] || !keys["k9"] {
		t.Errorf("the engine was asked %+v", f.asked)
	}
}

func TestOtherProtocol(t *testing.T) {
	// A future engine that reads our hello and says that it speaks 2.
	dir, err := os.MkdirTemp("", "rpc")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"schema":"provost.hello/1","protocol":2,"version":"9.9.9"}`)
	})}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()
	_, err = Dial(t.Context(), DialOptions{Socket: filepath.Join(dir, "s")})
	p := engine.AsProblem("", err)
	if p.Code != engine.CodeProtocol || !strings.Contains(p.Cause, "protocol 1") || !strings.Contains(p.Cause, "9.9.9") || !strings.Contains(p.Cause, "speaks 2") || p.Remedy == "" {
		t.Errorf("got %v", err)
	}
}

func TestSocketFile(t *testing.T) {
	f := newFake()
	dir, err := os.MkdirTemp("", "rpc")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "run", "s")
	old := syscall.Umask(0)
	socket, stop := serveAt(t, path, f)
	syscall.Umask(old)
	st, err := os.Lstat(socket)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Dir(path)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory %v, %v", st.Mode(), err)
	}
	o := ServerOptions{Engine: f, Socket: path, Log: slog.New(slog.DiscardHandler)}
	_, err = Listen(o)
	if p := engine.AsProblem("", err); p.Code != engine.CodeSocketTaken || p.Exit != engine.ExitNotAllowed {
		t.Errorf("a second engine: %v", err)
	}
	stop()

	// What a killed engine leaves behind is replaced.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, err := Listen(o)
	if err != nil {
		t.Fatalf("over a stale socket: %v", err)
	}
	// Another's file at our path is not removed when we stop.
	os.Remove(path)
	os.WriteFile(path, nil, 0o600)
	s.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error("another's file was removed")
	}
	if _, err := Listen(o); engine.AsProblem("", err).Code != engine.CodeSocketTaken {
		t.Errorf("over a plain file: %v", err)
	}
	o.Socket = "/" + strings.Repeat("x", 103)
	if _, err := Listen(o); engine.AsProblem("", err).Code != engine.CodeConfigInvalid {
		t.Errorf("a long path: %v", err)
	}
	o.Socket = filepath.Join(path, "below", "s")
	if _, err := Listen(o); engine.AsProblem("", err).Code != engine.CodeDirUnwritable {
		t.Errorf("below a file: %v", err)
	}
	if _, err := Listen(ServerOptions{}); err == nil {
		t.Error("a server of nothing was made")
	}
}

// TestOthersAreRefused calls as another user over a socket whose modes were
// loosened: the kernel's word decides, not the file's mode.
func TestOthersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can call as another user")
	}
	socket, _ := serve(t, newFake())
	if err := errors.Join(os.Chmod(filepath.Dir(socket), 0o755), os.Chmod(socket, 0o666)); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		conn net.Conn
		err  error
	}
	got := make(chan answer)
	go func() {
		// Only this thread changes its user; it is thrown away with the goroutine.
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, no := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); no != 0 {
			got <- answer{nil, no}
			return
		}
		c, err := net.Dial("unix", socket)
		got <- answer{c, err}
	}()
	a := <-got
	if a.err != nil {
		t.Fatal(a.err)
	}
	defer a.conn.Close()
	io.WriteString(a.conn, "GET /v1/snapshot HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(a.conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 403 || !strings.Contains(string(body), string(engine.CodeDenied)) || !strings.Contains(string(body), "uid 65534") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestTooManyStreams(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f, func(o *ServerOptions) { o.MaxStreams = 2 })
	c := dial(t, socket)
	a := watch(t, c, engine.WatchOptions{})
	watch(t, c, engine.WatchOptions{})
	_, err := c.Watch(t.Context(), engine.WatchOptions{})
	if p := engine.AsProblem("", err); p.Code != engine.CodeBusy {
		t.Errorf("got %v", err)
	}
	a.Close()
	deadline := time.Now().Add(10 * time.Second)
	for {
		feed, err := c.Watch(t.Context(), engine.WatchOptions{})
		if err == nil {
			feed.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a closed stream still counts: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestTooManyConnections(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f, func(o *ServerOptions) { o.MaxConns = 2 })
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	// Two keep the engine's places: an answered request makes sure that they are counted.
	for range 2 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		io.WriteString(c, "GET /v1/hello HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
	}
	_, err := Dial(t.Context(), DialOptions{Socket: socket})
	if p := engine.AsProblem("", err); p.Code != engine.CodeBusy {
		t.Errorf("got %v", err)
	}
}

func TestStuckViewerIsDropped(t *testing.T) {
	f := newFake()
	f.publish(func(s *engine.Snapshot) { s.Workers = workers(2, 2000) })
	socket, _ := serve(t, f, func(o *ServerOptions) { o.WriteTimeout = 100 * time.Millisecond })
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /v1/watch HTTP/1.1\r\nHost: x\r\n\r\n")
	// The viewer reads nothing. Another one is served meanwhile, and sees the
	// stuck one's feed go.
	feed := watch(t, dial(t, socket), engine.WatchOptions{})
	next(t, feed)
	deadline := time.Now().Add(20 * time.Second)
	for f.open() > 1 || len(f.watched) < 3 {
		if time.Now().After(deadline) {
			t.Fatalf("the stuck viewer holds its feed (%d open)", f.open())
		}
		time.Sleep(5 * time.Millisecond)
	}
	f.publish(nil)
	next(t, feed)
}

func TestLargeReceipt(t *testing.T) {
	f := newFake()
	size := maxArtifacts
	f.onDo = func(_ context.Context, r engine.Request, _ engine.Digest) (engine.Receipt, error) {
		return engine.Receipt{Key: r.Key, Artifacts: []engine.Artifact{{Name: "proof.json", Data: make([]byte, size)}}}, nil
	}
	socket, _ := serve(t, f)
	c := dial(t, socket)
	rec, err := c.Do(t.Context(), engine.Request{Key: "k", Action: engine.FetchJob{Job: "j1"}}, "")
	if err != nil || len(rec.Artifacts) != 1 || len(rec.Artifacts[0].Data) != size {
		t.Fatalf("%v", err)
	}
	size++
	if _, err := c.Do(t.Context(), engine.Request{Key: "k", Action: engine.FetchJob{Job: "j1"}}, ""); engine.AsProblem("", err).Code != engine.CodeBusy {
		t.Errorf("got %v", err)
	}
}

func TestSnapshotAndHello(t *testing.T) {
	f := newFake()
	socket, _ := serve(t, f)
	c := dial(t, socket)
	if h := c.Hello(); h.Engine == nil || h.Engine.ID != "e1" || h.Version != "0.1.0" || h.PID != os.Getpid() {
		t.Errorf("hello %+v", h)
	}
	s, err := c.Snapshot(t.Context())
	if err != nil || !cmp.Equal(s, f.snap) {
		t.Errorf("%v\n%s", err, cmp.Diff(f.snap, s))
	}
	status, body := raw(t, socket, "GET", "/v1/snapshot", "")
	var got engine.Snapshot
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || !cmp.Equal(&got, f.snap) {
		t.Errorf("%d %v %s", status, err, body)
	}
}

func TestEncodedOnce(t *testing.T) {
	var e encoder
	w := workers(1, 3)
	a, err := e.section(3, w)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := e.section(3, w)
	if &a[0] != &b[0] {
		t.Error("the same section was encoded twice")
	}
	e.forget()
	if e.slots[3].data != nil {
		t.Error("bytes stay after the last viewer")
	}
}
