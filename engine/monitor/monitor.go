// Package monitor answers HTTP for machines: /metrics, /livez and /readyz, and
// pprof where it was asked for.
//
// Promises. It only reads, through the waist, as every face does: one scrape is
// one snapshot, so the numbers in it belong together and are the numbers on the
// screen. It listens on loopback unless told otherwise, and pprof never leaves
// loopback: nobody is asked who he is here. Requests, scrapes at a time and the
// time of each are bounded; a scraper that hangs holds nothing else.
//
// docs/metrics.md lists the metrics; a test makes it.
package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"app.provost/engine"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Schemas of the JSON answers.
const (
	LiveSchema  = "provost.live/1"
	ReadySchema = "provost.ready/1"
)

// Check is one condition for being ready.
type Check struct {
	Name string `json:"name"` // "store", "queue"
	OK   bool   `json:"ok"`
	Text string `json:"text,omitempty"` // why not, in words
}

// Health is the answer of /livez and /readyz.
type Health struct {
	Schema string  `json:"schema"`
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// Options say what to serve and where. Addr, Engine and Log are needed.
type Options struct {
	// Addr is host:port. A host that is not loopback is refused without AllowRemote.
	Addr        string
	AllowRemote bool
	// Pprof serves /debug/pprof/, on loopback only.
	Pprof  bool
	Engine engine.Engine
	// Ready tells further conditions for /readyz, as of the store and the queue. It must not block.
	Ready func() []Check
	// Tasks counts named tasks; nil for none.
	Tasks *Tasks
	Log   *slog.Logger
	// Patience bounds how long the engine may take to give a snapshot (5s).
	Patience time.Duration
}

// Server answers scrapes and probes.
type Server struct {
	o    Options
	l    net.Listener
	http *http.Server
	once sync.Once
}

const doing = "listen for scrapes"

// Listen binds the port, so that a start fails here and not later. Nothing is
// answered before Run. Errors are *engine.Problem: CodePortTaken, CodeConfigInvalid.
func Listen(o Options) (*Server, error) {
	if o.Engine == nil || o.Log == nil {
		return nil, errors.New("serve metrics: Engine and Log are needed")
	}
	if o.Patience <= 0 {
		o.Patience = 5 * time.Second
	}
	if p := o.check(); p != nil {
		return nil, p
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", o.Addr)
	if err != nil {
		return nil, portProblem(o.Addr, err)
	}
	s := &Server{o: o, l: l}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile takes 30 s by default
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

func (o *Options) check() *engine.Problem {
	wrong := func(cause, remedy string) *engine.Problem {
		return engine.Problem{Code: engine.CodeConfigInvalid, Exit: engine.ExitUsage, Doing: doing, Field: "metrics address", Cause: cause, Remedy: remedy}.Because(nil)
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return wrong(fmt.Sprintf("%q is no address", o.Addr), "give host:port, as in 127.0.0.1:9464")
	}
	local := host == "localhost"
	if ip := net.ParseIP(strings.Trim(host, "[]")); ip != nil {
		local = ip.IsLoopback()
	}
	switch {
	case !local && !o.AllowRemote:
		return wrong(fmt.Sprintf("%s faces other machines, and nobody is asked who he is there", o.Addr),
			"take 127.0.0.1, or set monitor.allow-remote in the configuration if the network in between is yours")
	case !local && o.Pprof:
		return wrong(fmt.Sprintf("profiles would be open to other machines on %s", o.Addr), "switch profiles off, or take 127.0.0.1")
	}
	return nil
}

func portProblem(addr string, err error) *engine.Problem {
	p := engine.Problem{Code: engine.CodePortTaken, Exit: engine.ExitNotAllowed, Doing: doing, Field: "metrics address",
		Cause: addr + " is in use", Remedy: "choose another port, or find who listens with ss -ltnp"}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
	case errors.Is(err, syscall.EACCES):
		p.Code, p.Cause, p.Remedy = engine.CodeDenied, "you may not listen on "+addr, "choose a port above 1023"
	default:
		p.Code, p.Exit, p.Cause, p.Remedy = engine.CodeConfigInvalid, engine.ExitUsage, fmt.Sprintf("cannot listen on %s: %v", addr, err), "choose an address of this machine"
	}
	return p.Because(err)
}

// Addr is where the server listens; the port is known also when 0 was asked for.
func (s *Server) Addr() string { return s.l.Addr().String() }

// Run serves until ctx is done, then waits up to two seconds for answers under way.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.l) }()
	select {
	case <-ctx.Done():
		s.Close()
		<-served
		return nil
	case err := <-served:
		s.Close()
		return fmt.Errorf("serve metrics: %w", err)
	}
}

// Close ends the server. It may be called more than once.
func (s *Server) Close() {
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if s.http.Shutdown(ctx) != nil {
			s.http.Close()
		}
		s.l.Close()
	})
}

func (s *Server) handler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if s.o.Tasks != nil {
		reg.MustRegister(s.o.Tasks)
	}
	reg.MustRegister(&collector{snapshot: s.snapshot})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn),
		// One metric that cannot be encoded must not hide the others.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             15 * time.Second,
	}))
	mux.HandleFunc("GET /livez", s.livez)
	mux.HandleFunc("GET /readyz", s.readyz)
	if s.o.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A web page must not read this port through a name that it points to loopback.
		if !s.o.AllowRemote && !localName(r.Host) {
			http.Error(w, "ask by address or as localhost", http.StatusForbidden)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

func localName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil
}

// snapshot gives the newest one.
func (s *Server) snapshot(ctx context.Context) (*engine.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Patience)
	defer cancel()
	feed, err := s.o.Engine.Watch(ctx, engine.WatchOptions{})
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	defer feed.Close()
	u, err := feed.Next(ctx)
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if u.Snapshot == nil {
		return nil, errors.New("read snapshot: the engine gave none")
	}
	return u.Snapshot, nil
}

// state is the condition that both probes share: the engine publishes.
func (s *Server) state(ctx context.Context) (Check, *engine.Snapshot) {
	snap, err := s.snapshot(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Check{Name: "state", Text: fmt.Sprintf("the engine has not published its state within %s", s.o.Patience)}, nil
	case err != nil:
		return Check{Name: "state", Text: err.Error()}, nil
	}
	return Check{Name: "state", OK: true}, snap
}

// livez tells whether the process is worth keeping: it answers, and its state does.
func (s *Server) livez(w http.ResponseWriter, r *http.Request) {
	c, _ := s.state(r.Context())
	s.answer(w, LiveSchema, []Check{c}, http.StatusServiceUnavailable)
}

// readyz tells whether the engine does its work: state published, not stopping,
// whatever the engine's rooms say, and each node that it runs ready. A node that is
// not makes the status 500, as Charon's is; anything else 503.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	c, snap := s.state(r.Context())
	checks := []Check{c}
	if snap != nil && snap.Engine != nil {
		run := Check{Name: "running", OK: snap.Engine.Value.Stopping == ""}
		if !run.OK {
			run.Text = "the engine stops: " + snap.Engine.Value.Stopping
		}
		checks = append(checks, run)
	}
	if s.o.Ready != nil {
		checks = append(checks, s.o.Ready()...)
	}
	status := http.StatusServiceUnavailable
	if snap != nil {
		nodes := nodeChecks(snap)
		if slices.ContainsFunc(nodes, func(c Check) bool { return !c.OK }) {
			status = http.StatusInternalServerError
		}
		checks = append(checks, nodes...)
	}
	s.answer(w, ReadySchema, checks, status)
}

// answer answers with the checks; status is that of a check that fails.
func (s *Server) answer(w http.ResponseWriter, schema string, checks []Check, status int) {
	h := Health{Schema: schema, OK: true, Checks: checks}
	for _, c := range checks {
		h.OK = h.OK && c.OK
	}
	b, err := json.Marshal(h)
	if err != nil {
		s.o.Log.Error("a probe's answer could not be encoded", "err", err)
		http.Error(w, "{}", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if !h.OK {
		w.WriteHeader(status)
	}
	w.Write(append(b, '\n')) // an error means that nobody listens any more
}
