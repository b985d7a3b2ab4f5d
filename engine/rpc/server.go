package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"app.provost/engine"
)

// ServerOptions says what to serve and where. Engine, Socket and Log are needed;
// the rest has defaults.
type ServerOptions struct {
	Engine  engine.Engine
	Socket  string
	Log     *slog.Logger
	Version string // of this binary, told in hello
	// Keepalive is the pause after which a silent stream gets a comment (5s).
	Keepalive time.Duration
	// WriteTimeout drops a viewer that takes no byte for so long (20s).
	WriteTimeout time.Duration
	// DoTimeout bounds one act's answer (10m); Patience a preview's and a snapshot's (30s).
	DoTimeout time.Duration
	Patience  time.Duration
	// Grace is how long Run waits for requests under way when it is told to stop (3s).
	Grace      time.Duration
	MaxConns   int // 128
	MaxStreams int // 64: watches and logs together
}

func (o *ServerOptions) defaults() error {
	if o.Engine == nil || o.Socket == "" || o.Log == nil {
		return errors.New("serve the waist: Engine, Socket and Log are needed")
	}
	fill := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	fill(&o.Keepalive, 5*time.Second)
	fill(&o.WriteTimeout, 20*time.Second)
	fill(&o.DoTimeout, 10*time.Minute)
	fill(&o.Patience, 30*time.Second)
	fill(&o.Grace, 3*time.Second)
	if o.MaxConns <= 0 {
		o.MaxConns = 128
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = 64
	}
	return nil
}

// Server serves one engine on one socket.
type Server struct {
	o     ServerOptions
	l     *gate
	file  fs.FileInfo // of the socket, to remove no other's
	http  *http.Server
	enc   encoder
	names names

	// acts is the context of previews and acts: it ends after the grace, not
	// when a client goes away, so that a dropped line cuts no act in two.
	acts     context.Context
	stopActs context.CancelFunc
	// streams ends every stream, first thing when stopping.
	streams     context.Context
	stopStreams context.CancelFunc

	mu      sync.Mutex
	opened  int // streams
	watches int
	closed  bool           // no request is counted in any more
	under   sync.WaitGroup // requests under way
	once    sync.Once
}

// Listen binds the socket, so that a start fails here and not later. Nothing is
// answered before Run. Errors are *engine.Problem: CodeSocketTaken,
// CodeDirUnwritable, CodeConfigInvalid.
func Listen(o ServerOptions) (*Server, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	l, err := listen(o.Socket)
	if err != nil {
		return nil, err
	}
	s := &Server{o: o, l: &gate{UnixListener: l, max: o.MaxConns, write: o.WriteTimeout, self: os.Geteuid()}}
	s.file, _ = os.Lstat(o.Socket)
	s.acts, s.stopActs = context.WithCancel(context.Background())
	s.streams, s.stopStreams = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, c.(*conn).peer)
		},
	}
	return s, nil
}

type peerKey struct{}

// Run serves until ctx is done, then ends the streams, waits up to Grace for
// requests under way, closes what is left and removes the socket. It is called once.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.l) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serve %s: %w", s.o.Socket, err)
	}
	s.close()
	if err == nil {
		<-served
	}
	return err
}

// Close stops a server that was never run. It may be called more than once.
func (s *Server) Close() { s.close() }

func (s *Server) close() {
	s.once.Do(func() {
		// Gone from the file system first: who dials now learns that nobody is here.
		if sameFile(s.o.Socket, s.file) {
			os.Remove(s.o.Socket)
		}
		s.stopStreams()
		ctx, cancel := context.WithTimeout(context.Background(), s.o.Grace)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			s.o.Log.Warn("requests were cut off at the stop", "after", s.o.Grace.String())
			s.stopActs()
			s.http.Close()
		}
		s.stopActs()
		s.l.Close()
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.under.Wait()
	})
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/hello", s.hello)
	mux.HandleFunc("GET /v1/snapshot", s.snapshot)
	mux.HandleFunc("GET /v1/watch", s.watch)
	mux.HandleFunc("GET /v1/logs", s.logs)
	mux.HandleFunc("POST /v1/preview", s.preview)
	mux.HandleFunc("POST /v1/do", s.do)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: "answer " + r.Method + " " + clean(r.URL.Path, 80),
			Cause:  "there is no such route",
			Remedy: "ask GET /v1/hello, /v1/snapshot, /v1/watch, /v1/logs or POST /v1/preview, /v1/do"}.Because(nil))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := s.enter(); p != nil {
			s.refuse(w, p)
			return
		}
		defer s.under.Done()
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				s.o.Log.Error("a request crashed", "route", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				s.refuse(w, engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: "answer " + r.URL.Path,
					Cause: "a fault in the engine", Remedy: "see the engine's log; the engine goes on"}.Because(nil))
			}
		}()
		w.Header().Set(headerProtocol, strconv.Itoa(Protocol))
		w.Header().Set("Cache-Control", "no-store")
		if p := r.Context().Value(peerKey{}).(peer); p.refuse != nil {
			w.Header().Set("Connection", "close")
			s.refuse(w, p.refuse)
			return
		}
		if p := s.protocol(r); p != nil {
			s.refuse(w, p)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) enter() *engine.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return engine.Problem{Code: engine.CodeStopping, Exit: engine.ExitNoEngine, Doing: "talk to the engine",
			Cause: "the engine stops", Remedy: "start it with provost up"}.Because(nil)
	}
	s.under.Add(1)
	return nil
}

// protocol refuses a client that says it speaks another version. One that says
// nothing (curl) is taken at the route's word.
func (s *Server) protocol(r *http.Request) *engine.Problem {
	theirs := r.Header.Get(headerProtocol)
	if theirs == "" || theirs == strconv.Itoa(Protocol) {
		return nil
	}
	return protocolProblem(clean(theirs, 20), strconv.Itoa(Protocol), s.o.Version)
}

func protocolProblem(client, server, version string) *engine.Problem {
	if version != "" {
		version = " (provost " + version + ")"
	}
	return engine.Problem{Code: engine.CodeProtocol, Exit: engine.ExitRefused, Doing: "talk to the engine",
		Cause:  fmt.Sprintf("this command speaks protocol %s and the engine%s speaks %s", client, version, server),
		Remedy: "use the engine's binary, or restart the engine with this one: provost down, then provost up (workers go on)"}.Because(nil)
}

func (s *Server) hello(w http.ResponseWriter, r *http.Request) {
	h := Hello{Schema: HelloSchema, Protocol: Protocol, Version: s.o.Version, PID: os.Getpid()}
	// An engine that has not published yet still says hello.
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	if snap, err := s.newest(ctx); err == nil && snap.Engine != nil {
		h.Engine = &snap.Engine.Value
	}
	s.answer(w, h)
}

func (s *Server) newest(ctx context.Context) (*engine.Snapshot, error) {
	feed, err := s.o.Engine.Watch(ctx, engine.WatchOptions{})
	if err != nil {
		return nil, err
	}
	defer feed.Close()
	u, err := feed.Next(ctx)
	if err != nil {
		return nil, err
	}
	if u.Snapshot == nil {
		return nil, errors.New("read snapshot: the engine gave none")
	}
	return u.Snapshot, nil
}

func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) {
	if p := onlyQuery("read snapshot", r.URL.Query()); p != nil {
		s.refuse(w, p)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.o.Patience)
	defer cancel()
	snap, err := s.newest(ctx)
	if err != nil {
		s.refuse(w, streamProblem("read snapshot", err))
		return
	}
	parts, err := s.enc.whole(snap)
	if err != nil {
		s.refuse(w, engine.AsProblem("read snapshot", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	for _, p := range append(parts, []byte("\n")) {
		if _, err := w.Write(p); err != nil {
			return
		}
	}
	s.mu.Lock()
	if s.watches == 0 {
		s.enc.forget()
	}
	s.mu.Unlock()
}

func (s *Server) preview(w http.ResponseWriter, r *http.Request) {
	req, _, p := s.request(w, r, "preview")
	if p != nil {
		s.refuse(w, p)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.o.Patience)
	defer cancel()
	plan, err := s.o.Engine.Preview(ctx, req)
	if err != nil {
		s.refuse(w, engine.AsProblem(req.Action.Doing(), err))
		return
	}
	s.answer(w, plan)
}

func (s *Server) do(w http.ResponseWriter, r *http.Request) {
	req, digest, p := s.request(w, r, "do")
	if p == nil && req.Key == "" {
		p = usage(req.Action.Doing(), "key", "a key is missing: it makes a retry the same act",
			`choose a new one per act, as in "key": "`+engine.NewKey()+`", and repeat it when retrying`)
	}
	if p != nil {
		s.refuse(w, p)
		return
	}
	ctx, cancel := context.WithTimeout(s.acts, s.o.DoTimeout)
	defer cancel()
	rec, err := s.o.Engine.Do(ctx, req, digest)
	if err != nil {
		s.refuse(w, engine.AsProblem(req.Action.Doing(), err))
		return
	}
	size := 0
	for _, a := range rec.Artifacts {
		size += len(a.Data)
	}
	if size > maxArtifacts {
		s.refuse(w, engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitRefused, Doing: req.Action.Doing(),
			Cause:  fmt.Sprintf("the answer has %d bytes and the socket carries %d", size, maxArtifacts),
			Remedy: "ask for fewer things at once"}.Because(nil))
		return
	}
	s.answer(w, receipt{ReceiptSchema, rec})
}

// request reads the body of preview and do, and fills in who asks.
func (s *Server) request(w http.ResponseWriter, r *http.Request, verb string) (engine.Request, engine.Digest, *engine.Problem) {
	doing := "read the request to " + verb
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(s.o.WriteTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	rc.SetReadDeadline(time.Time{})
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return engine.Request{}, "", usage(doing, "", fmt.Sprintf("the body is longer than %d bytes", maxRequest), "name fewer things at once")
	case err != nil:
		return engine.Request{}, "", usage(doing, "", "the body did not arrive whole: "+err.Error(), "send it again")
	}
	q, a, err := readAsk(body)
	if err != nil {
		return engine.Request{}, "", usage(doing, "", err.Error(), "see docs/http-api.md for the form")
	}
	if q.Key == "" {
		q.Key = r.Header.Get(headerKey)
	}
	if verb == "preview" && q.Digest != "" {
		return engine.Request{}, "", usage(doing, "digest", "a preview takes no digest", "leave it out, or ask POST /v1/do")
	}
	if len(q.Key) > 128 || clean(q.Key, 128) != q.Key {
		return engine.Request{}, "", usage(doing, "key", "the key is longer than 128 characters or not printable", "choose another")
	}
	via := q.Via
	switch via {
	case "":
		via = engine.ViaHTTP
	case engine.ViaScreen, engine.ViaCLI, engine.ViaHTTP:
	default:
		return engine.Request{}, "", usage(doing, "via", fmt.Sprintf("via is %q", clean(string(via), 40)), "say screen, cli or http")
	}
	p := r.Context().Value(peerKey{}).(peer)
	uid := p.uid
	return engine.Request{Key: q.Key, Action: a, Actor: engine.Actor{Name: s.names.of(uid, time.Second), UID: &uid, Host: clean(q.Host, 64), Via: via}}, q.Digest, nil
}

// readAsk reads a body strictly: an order that is understood in part must not be carried out.
func readAsk(body []byte) (ask, engine.Action, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var q ask
	if err := d.Decode(&q); err != nil {
		return ask{}, nil, fmt.Errorf("the body is no request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return ask{}, nil, errors.New("the body is no request: more follows it")
	}
	if len(q.Action) == 0 || string(q.Action) == "null" {
		return ask{}, nil, errors.New(`the body is no request: "action" is missing`)
	}
	a, err := engine.UnmarshalAction(q.Action)
	if err != nil {
		return ask{}, nil, err
	}
	return q, a, nil
}

// clean cuts a foreign text to max bytes and drops what does not print.
func clean(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}

// onlyQuery refuses parameters that the route does not know: a misspelt "after"
// must not quietly mean "everything".
func onlyQuery(doing string, q url.Values, known ...string) *engine.Problem {
	for name := range q {
		if !slices.Contains(known, name) {
			remedy := "this route takes none"
			if len(known) > 0 {
				remedy = "it takes " + strings.Join(known, ", ")
			}
			return usage(doing, clean(name, 40), fmt.Sprintf("unknown parameter %q", clean(name, 40)), remedy)
		}
	}
	return nil
}

func readWatch(q url.Values) (engine.WatchOptions, *engine.Problem) {
	const doing = "watch"
	var o engine.WatchOptions
	if p := onlyQuery(doing, q, "every", "sections", "after", "viewer"); p != nil {
		return o, p
	}
	if v := q.Get("every"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return o, usage(doing, "every", fmt.Sprintf("every is %q", clean(v, 40)), "give a time such as 500ms or 2s")
		}
		o.Every = d
	}
	if v := q.Get("sections"); v != "" {
		for name := range strings.SplitSeq(v, ",") {
			n := engine.SectionName(name)
			if !slices.Contains(engine.SectionNames, n) {
				return o, usage(doing, "sections", fmt.Sprintf("there is no section %q", clean(name, 40)), "the sections are "+joined(engine.SectionNames))
			}
			o.Sections = append(o.Sections, n)
		}
	}
	if v := q.Get("after"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return o, usage(doing, "after", fmt.Sprintf("after is %q", clean(v, 40)), "give the number of the last journal entry that you have, 0 for all")
		}
		o.After = &n
	}
	o.Viewer = clean(q.Get("viewer"), 64)
	return o, nil
}

func joined(names []engine.SectionName) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}

func readLogs(q url.Values) (engine.LogQuery, *engine.Problem) {
	const doing = "read logs"
	var o engine.LogQuery
	if p := onlyQuery(doing, q, "source", "follow", "tail", "since", "grep", "level"); p != nil {
		return o, p
	}
	o.Sources = q["source"]
	if len(o.Sources) > 4096 {
		return o, usage(doing, "source", "more than 4096 sources are named", "leave source out for all")
	}
	var err error
	if v := q.Get("follow"); v != "" {
		if o.Follow, err = strconv.ParseBool(v); err != nil {
			return o, usage(doing, "follow", fmt.Sprintf("follow is %q", clean(v, 40)), "say true or false")
		}
	}
	if v := q.Get("tail"); v != "" {
		if o.Tail, err = strconv.Atoi(v); err != nil || o.Tail < 0 {
			return o, usage(doing, "tail", fmt.Sprintf("tail is %q", clean(v, 40)), "give a number of lines, 0 for all")
		}
	}
	if v := q.Get("since"); v != "" {
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return o, usage(doing, "since", fmt.Sprintf("since is %q", clean(v, 40)), "give a time such as 2026-01-31T12:00:00Z")
		}
		o.Since = &t
	}
	o.Grep = q.Get("grep")
	switch o.Level = engine.Level(q.Get("level")); o.Level {
	case "", engine.LevelDebug, engine.LevelNote, engine.LevelWarn, engine.LevelCrit, engine.LevelOK:
	default:
		return o, usage(doing, "level", fmt.Sprintf("level is %q", clean(string(o.Level), 40)), "say debug, note, warn or crit")
	}
	return o, nil
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	o, p := readWatch(r.URL.Query())
	// A browser's EventSource says with this header what it has when it reconnects.
	if v := r.Header.Get("Last-Event-ID"); p == nil && v != "" {
		if n, err := strconv.ParseUint(v, 10, 64); err == nil && (o.After == nil || n > *o.After) {
			o.After = &n
		}
	}
	if p == nil {
		p = s.admit(true)
	}
	if p != nil {
		s.refuse(w, p)
		return
	}
	defer s.leave(true)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)()
	feed, err := s.o.Engine.Watch(ctx, o)
	if err != nil {
		s.refuse(w, engine.AsProblem("watch", err))
		return
	}
	defer feed.Close()
	st := s.stream(w, cancel)
	defer st.close()
	var last *engine.Snapshot
	for {
		u, err := feed.Next(ctx)
		if err != nil {
			s.finish(st, r, "watch", err)
			return
		}
		if u.Snapshot == nil {
			s.finish(st, r, "watch", errors.New("the engine gave no snapshot"))
			return
		}
		if err := s.send(st, last, u); err != nil {
			// The viewer has gone, or takes nothing: nobody is left to tell.
			s.o.Log.Debug("a viewer was dropped", "viewer", o.Viewer, "err", err)
			return
		}
		last = u.Snapshot
	}
}

// send writes one update: its journal entries first, then the snapshot event
// that completes it.
func (s *Server) send(st *stream, last *engine.Snapshot, u engine.Update) error {
	const batch = 1000
	entries, gap := u.Entries, u.Gap
	for len(entries) > 0 || gap != nil {
		part := entries[:min(batch, len(entries))]
		entries = entries[len(part):]
		data, err := json.Marshal(journal{Entries: append([]engine.Entry{}, part...), Gap: gap})
		if err != nil {
			return fmt.Errorf("encode journal: %w", err)
		}
		id := uint64(0)
		if gap != nil {
			id, gap = gap.To, nil
		}
		if len(part) > 0 {
			id = part[len(part)-1].N
		}
		if err := st.event(eventJournal, strconv.FormatUint(id, 10), data); err != nil {
			return err
		}
	}
	parts, err := s.enc.frame(last, u)
	if err != nil {
		return err
	}
	return st.event(eventSnapshot, "", parts...)
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	q, p := readLogs(r.URL.Query())
	if p == nil {
		p = s.admit(false)
	}
	if p != nil {
		s.refuse(w, p)
		return
	}
	defer s.leave(false)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)()
	logs, err := s.o.Engine.Logs(ctx, q)
	if err != nil {
		s.refuse(w, engine.AsProblem("read logs", err))
		return
	}
	defer logs.Close()
	st := s.stream(w, cancel)
	defer st.close()
	// Lines are pulled beside the writing, so that many go out in one write. When
	// the reader is slow this holds 256 lines; then the engine's stream drops and counts.
	lines := make(chan engine.LogLine, 256)
	var ended error
	var puller sync.WaitGroup
	puller.Go(func() {
		defer close(lines)
		for {
			l, err := logs.Next(ctx)
			if err != nil {
				ended = err
				return
			}
			select {
			case lines <- l:
			case <-ctx.Done():
				ended = ctx.Err()
				return
			}
		}
	})
	defer puller.Wait()
	defer cancel()
	for l := range lines {
		data, err := json.Marshal(l)
		if err == nil {
			err = st.put(eventLine, "", len(lines) == 0, data)
		}
		if err != nil {
			s.o.Log.Debug("a log reader was dropped", "err", err)
			return
		}
	}
	s.finish(st, r, "read logs", ended)
}

// finish tells a stream's reader how it ended.
func (s *Server) finish(st *stream, r *http.Request, doing string, err error) {
	switch {
	case errors.Is(err, io.EOF):
		st.json(eventEnd, ending{Why: "done"})
	case s.streams.Err() != nil:
		st.json(eventEnd, ending{Why: "the engine stops"})
	case r.Context().Err() != nil:
		// The reader has gone.
	default:
		st.json(eventProblem, problemBody{ProblemSchema, streamProblem(doing, err)})
	}
}

func streamProblem(doing string, err error) *engine.Problem {
	if errors.Is(err, context.DeadlineExceeded) {
		return engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitTimeout, Doing: doing,
			Cause: "the engine has not published its state in time", Remedy: "see the engine's log; try again"}.Because(err)
	}
	if errors.Is(err, io.EOF) {
		return engine.Problem{Code: engine.CodeStopping, Exit: engine.ExitNoEngine, Doing: doing,
			Cause: "the engine has stopped", Remedy: "start it with provost up"}.Because(err)
	}
	return engine.AsProblem(doing, err)
}

// admit counts a stream in, or says that there are too many.
func (s *Server) admit(watch bool) *engine.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened >= s.o.MaxStreams {
		return engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitNotAllowed, Doing: "open a stream",
			Cause:  fmt.Sprintf("%d screens and log readers are attached, as many as this engine takes", s.opened),
			Remedy: "close one, then try again"}.Because(nil)
	}
	s.opened++
	if watch {
		s.watches++
	}
	return nil
}

func (s *Server) leave(watch bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened--
	if watch {
		if s.watches--; s.watches == 0 {
			s.enc.forget()
		}
	}
}

func (s *Server) answer(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		s.refuse(w, engine.AsProblem("encode the answer", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(data, '\n')) // an error means that nobody listens any more
}

func (s *Server) refuse(w http.ResponseWriter, p *engine.Problem) {
	data, err := json.Marshal(problemBody{ProblemSchema, p})
	if err != nil {
		s.o.Log.Error("a problem could not be encoded", "code", string(p.Code), "err", err)
		http.Error(w, "{}", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statusOf(p))
	w.Write(append(data, '\n'))
}

// stream writes events to one reader. Its lock orders events and keepalives.
type stream struct {
	mu   sync.Mutex
	w    *bufio.Writer
	rc   *http.ResponseController
	err  error
	last time.Time

	stop chan struct{}
	done sync.WaitGroup
}

// stream answers with the head of an event stream and keeps it alive. fail is
// called when nothing can be written any more.
func (s *Server) stream(w http.ResponseWriter, fail func()) *stream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	st := &stream{w: bufio.NewWriterSize(w, 32<<10), rc: http.NewResponseController(w), stop: make(chan struct{})}
	st.json(eventOpen, opening{StreamSchema, Protocol, s.o.Keepalive.Seconds()})
	st.done.Go(func() {
		t := time.NewTicker(s.o.Keepalive)
		defer t.Stop()
		for {
			select {
			case <-st.stop:
				return
			case <-t.C:
				if !st.alive(s.o.Keepalive) {
					fail()
					return
				}
			}
		}
	})
	return st
}

func (st *stream) close() {
	close(st.stop)
	st.done.Wait()
}

// alive writes a comment if nothing was written for a while. A write under way is a sign of life too.
func (st *stream) alive(pause time.Duration) bool {
	if !st.mu.TryLock() {
		return true
	}
	defer st.mu.Unlock()
	if st.err == nil && time.Since(st.last) >= pause/2 {
		st.w.WriteString(": alive\n\n")
		st.flush()
	}
	return st.err == nil
}

func (st *stream) json(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", name, err)
	}
	return st.event(name, "", data)
}

func (st *stream) event(name, id string, data ...[]byte) error {
	return st.put(name, id, true, data...)
}

// put writes one event. Data is JSON from encoding/json, which has no line ends inside.
func (st *stream) put(name, id string, flush bool, data ...[]byte) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.err != nil {
		return st.err
	}
	st.w.WriteString("event: " + name + "\n")
	if id != "" {
		st.w.WriteString("id: " + id + "\n")
	}
	st.w.WriteString("data: ")
	for _, d := range data {
		if _, err := st.w.Write(d); err != nil {
			st.err = err
			return err
		}
	}
	st.w.WriteString("\n\n")
	if flush {
		st.flush()
	}
	return st.err
}

func (st *stream) flush() {
	st.last = time.Now()
	if st.err = st.w.Flush(); st.err == nil {
		st.err = st.rc.Flush()
	}
}
