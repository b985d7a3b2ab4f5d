// Package wire is the hall: it builds an engine from the rooms, starts and stops
// them in a written order, and is the only package that knows all doors.
//
// Read hall.go for what is built and in which order, actions.go for what can be
// asked and who does it, crew.go for how a worker's row comes about, facts.go for
// where readings go. Nothing here decides anything that a room could decide.
package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"

	"app.provost/engine"
	"app.provost/engine/act"
	"app.provost/engine/catalog"
	"app.provost/engine/config"
	"app.provost/engine/life"
	"app.provost/engine/monitor"
	"app.provost/engine/rpc"
	"app.provost/engine/state"
	"app.provost/engine/store"
	"app.provost/engine/super"
	"app.provost/prover/queue"
	"app.provost/prover/run"
)

// stopLimit is how long a stop may take in all.
const stopLimit = 10 * time.Second

// Options of an engine. Version and Log are needed.
type Options struct {
	Config  config.Config
	Version string
	// Log takes the operator's lines; the engine's log file gets them too.
	Log io.Writer
	// Format of the lines in Log.
	Format LogFormat
}

// Engine is a running engine in this process. Make it with Start, end it with Stop.
type Engine struct {
	o       Options
	log     *slog.Logger
	logFile *lumberjack.Logger
	life    *life.Life
	machine string

	store    *store.Store
	state    *state.State
	desk     *act.Desk
	super    *super.Supervisor
	hub      *run.Hub
	queue    *queue.Queue
	blobs    *queue.Blobs
	server   *rpc.Server
	monitor  *monitor.Server
	tasks    *monitor.Tasks
	crew     *crew
	jobs     *jobFacts
	fleet    *fleet
	nodeRows nodeRows

	scopes map[string]*life.Scope

	// ended is closed when the engine has to stop: somebody asked, or a room it cannot live without ended.
	ended    chan struct{}
	endOnce  sync.Once
	endErr   error // why, if not asked; set before ended is closed
	stopOnce sync.Once
	stopErr  error
	withWork bool // stop the workers too; set before ended is closed
	up       bool // the start has succeeded; set before Start returns
}

// Start builds an engine and starts everything. When it fails, what was started has been stopped.
func Start(ctx context.Context, o Options) (*Engine, error) {
	if o.Format == "" {
		o.Format = FormatText
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("start engine: ask for the host's name: %w", err)
	}
	machine, _, _ := strings.Cut(host, ".")
	e := &Engine{o: o, machine: machine, tasks: monitor.NewTasks(), ended: make(chan struct{}), scopes: map[string]*life.Scope{}}
	for _, dir := range []string{o.Config.StateDir, o.Config.RuntimeDir, e.path("logs"), e.path("workers"), e.path("blobs"), e.path("crash"), filepath.Dir(o.Config.SocketPath())} {
		if err := privateDir(dir); err != nil {
			return nil, err
		}
	}
	// The log file is opened before the store is: but a second engine on this directory
	// must not write into the first one's log, so it takes lines only once the lock is held.
	e.logFile = &lumberjack.Logger{Filename: e.path("logs", "engine.log"), MaxSize: 16, MaxBackups: 1}
	level := ParseLogLevel(o.Config.LogLevel)
	gate := &gatedWriter{w: e.logFile}
	e.log = slog.New(both{newHandler(o.Log, o.Format, level), newHandler(gate, FormatJSON, level)})
	e.life = life.New(life.Options{Log: e.log, CrashDir: e.path("crash"), Observer: e.tasks, OnEnd: e.taskEnded, Restart: restartable})

	began := time.Now()
	if _, err := e.life.Start(ctx, e.startList(gate)); err != nil {
		var step *engine.Problem
		stopErr := e.Stop()
		if errors.As(err, &step) {
			return nil, step
		}
		return nil, errors.Join(err, stopErr)
	}
	e.up = true
	e.log.Info("engine.ready", "pid", os.Getpid(), "socket", o.Config.SocketPath(), "state", o.Config.StateDir, "version", o.Version, "took_ms", time.Since(began).Milliseconds())
	return e, nil
}

// startList is the order of the start. A room is started after those it needs.
func (e *Engine) startList(gate *gatedWriter) []life.Step {
	return []life.Step{
		{Name: "store", Do: func(context.Context) error { return e.startStore(gate) }},
		{Name: "state", Do: e.startState},
		{Name: "listen", Do: e.listen}, // what can be taken by others is taken before any worker is started
		{Name: "super", Do: e.startSuper},
		{Name: "queue", Do: e.startQueue},
		{Name: "act", Do: e.startActs},
		{Name: "workers", Do: e.startWorkers},
		{Name: "take up acts", Do: func(ctx context.Context) error { return e.desk.Resume(ctx) }},
		{Name: "host", Do: e.startHost},
		{Name: "nodes", Do: e.startNodes},
		{Name: "fleet", Do: e.startFleet},
		{Name: "dv", Do: e.startDV},
		{Name: "rpc", Do: e.startRPC},
		{Name: "monitor", Do: e.startMonitor},
	}
}

// stopList is the order of the stop: nothing new is taken, work in hand is left in
// order, faces see it until almost the end, and the state is written last.
func (e *Engine) stopList() []life.Step {
	steps := []life.Step{
		{Name: "refuse new acts", Do: func(context.Context) error {
			if e.desk != nil {
				e.desk.Refuse()
			}
			return nil
		}},
		{Name: "end acts", Do: e.closeScope("act"), Limit: 3 * time.Second},
		// The duty in hand is ended by its own deadline or here; a partial that left is harmless.
		{Name: "stop signing", Do: e.closeScope("dv"), Limit: 4 * time.Second},
		{Name: "stop leasing jobs", Do: e.closeScope("queue"), Limit: 3 * time.Second},
	}
	if e.withWork {
		steps = append(steps, life.Step{Name: "stop workers", Do: func(ctx context.Context) error {
			if e.super == nil {
				return nil
			}
			return e.super.StopAll(ctx)
		}, Limit: 7 * time.Second})
	}
	return append(steps,
		life.Step{Name: "let go of workers", Do: e.closeScope("super"), Limit: 2 * time.Second},
		life.Step{Name: "stop readings", Do: e.closeScope("host"), Limit: 3 * time.Second},
		life.Step{Name: "end screens", Do: e.closeScope("rpc"), Limit: 4 * time.Second},
		life.Step{Name: "end monitor", Do: e.closeScope("monitor"), Limit: 2 * time.Second},
		life.Step{Name: "write state", Do: e.closeScope("state"), Limit: 3 * time.Second},
		life.Step{Name: "close store", Do: func(context.Context) error {
			if e.store == nil {
				return nil
			}
			return e.store.Close()
		}, Limit: 3 * time.Second},
	)
}

// Stop stops the engine in order, within 10 seconds. It may be called more than once.
func (e *Engine) Stop() error {
	e.stopOnce.Do(func() {
		e.end(nil, false)
		began := time.Now()
		level := slog.LevelInfo
		if !e.up { // a start that failed is told by its error alone
			level = slog.LevelDebug
		}
		e.log.Log(context.Background(), level, "engine.stop", "workers_too", e.withWork)
		if e.state != nil {
			e.state.Tell(state.Note{Entry: engine.Entry{What: "engine.stop", Level: engine.LevelNote, Key: engine.Key{Machine: e.machine}, Text: "the engine stops"}})
		}
		e.stopErr = e.life.Stop(stopLimit, e.stopList(), func(step string) {
			if e.state != nil {
				e.state.Tell(state.SetStopping{Step: step})
			}
		})
		// What was bound and never run is let go of.
		if e.server != nil {
			e.server.Close()
		}
		if e.monitor != nil {
			e.monitor.Close()
		}
		e.log.Log(context.Background(), level, "engine.stopped", "took_ms", time.Since(began).Milliseconds(), "left", strings.Join(e.life.Running(), ", "))
		e.logFile.Close()
	})
	return e.stopErr
}

// Ended is closed when the engine has to be stopped: somebody asked it to (Err is
// nil), or a part that it cannot live without ended.
func (e *Engine) Ended() <-chan struct{} { return e.ended }

// Err is why Ended was closed; nil when somebody asked. Valid after Ended.
func (e *Engine) Err() error { return e.endErr }

// Dump writes all goroutines to a file and gives its path.
func (e *Engine) Dump() string { return e.life.Dump() }

// ReopenLogs starts a new log file; the old one keeps its lines.
func (e *Engine) ReopenLogs() error { return e.logFile.Rotate() }

// Log is the engine's logger.
func (e *Engine) Log() *slog.Logger { return e.log }

// Socket is where faces dial.
func (e *Engine) Socket() string { return e.o.Config.SocketPath() }

func (e *Engine) end(err error, withWork bool) {
	e.endOnce.Do(func() {
		e.endErr, e.withWork = err, withWork
		close(e.ended)
	})
}

// essential are tasks whose end ends the engine: a restart finds workers proving
// and the store whole, while an engine without one of them only looks alive.
var essential = []string{"state", "queue", "store"}

// restartable are tasks that only read: they begin anew without harm.
func restartable(name string) bool {
	return strings.HasPrefix(name, "host.") || strings.HasPrefix(name, "gpu.") || strings.HasPrefix(name, "monitor.")
}

func (e *Engine) taskEnded(name string, err error) {
	if slices.Contains(essential, name) {
		e.end(fmt.Errorf("the engine cannot go on: %w", err), false)
		return
	}
	if e.state != nil {
		e.state.Tell(state.Raise{Raise: engine.Raise{Code: engine.FindEngineCrash, Key: engine.Key{Machine: e.machine, ID: name},
			Target: "task/" + name, Facts: []engine.Fact{{Name: "task", Value: name}, {Name: "error", Value: err.Error()}}}})
	}
}

// Watch, Preview, Do and Logs are the waist.

// Watch opens a feed of the engine's state.
func (e *Engine) Watch(ctx context.Context, o engine.WatchOptions) (engine.Feed, error) {
	return e.state.Watch(ctx, o)
}

// Snapshot is the newest one.
func (e *Engine) Snapshot() *engine.Snapshot { return e.state.Snapshot() }

// Preview asks the desk.
func (e *Engine) Preview(ctx context.Context, r engine.Request) (engine.Plan, error) {
	return e.desk.Preview(ctx, r)
}

// Do asks the desk.
func (e *Engine) Do(ctx context.Context, r engine.Request, d engine.Digest) (engine.Receipt, error) {
	return e.desk.Do(ctx, r, d)
}

// Logs reads the log files of the engine and its workers.
func (e *Engine) Logs(ctx context.Context, q engine.LogQuery) (engine.LogStream, error) {
	return super.NewLogs(e.path("logs")).Logs(ctx, q)
}

func (e *Engine) path(elem ...string) string {
	return filepath.Join(append([]string{e.o.Config.StateDir}, elem...)...)
}

func (e *Engine) scope(name string) *life.Scope {
	s := e.life.Scope(name)
	e.scopes[name] = s
	return s
}

// closeScope ends a room's goroutines; a room that was never started has none.
func (e *Engine) closeScope(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		if s := e.scopes[name]; s != nil {
			return s.Close(ctx)
		}
		return nil
	}
}

func (e *Engine) startStore(gate *gatedWriter) error {
	s, err := store.Open(store.Options{Dir: e.o.Config.StateDir, Socket: e.o.Config.SocketPath(), Version: e.o.Version, Logger: e.log, EndedJobs: e.o.Config.KeepFinished, Slow: func(took time.Duration) {
		if e.state != nil {
			e.state.Tell(state.Raise{Raise: engine.Raise{Code: engine.FindStoreSlow, Key: engine.Key{Machine: e.machine}, Target: "host/" + e.machine,
				Facts: []engine.Fact{{Name: "took", Value: took.Round(time.Millisecond).String()}, {Name: "directory", Value: e.o.Config.StateDir}}}})
		}
	}})
	if err != nil {
		return err
	}
	e.store = s
	gate.open()
	return nil
}

func (e *Engine) startState(context.Context) error {
	c := e.o.Config
	info := engine.Info{ID: e.store.ID(), Name: c.Name, Machine: e.machine, StateDir: c.StateDir, Socket: e.o.Config.SocketPath(), PID: os.Getpid(),
		Version: e.o.Version, StartedAt: time.Now().UTC(), Roles: e.roles(), Practice: c.Practice}
	parts := []engine.SectionName{engine.SecMachines, engine.SecGPUs}
	if e.proves() {
		parts = append(parts, engine.SecWorkers, engine.SecJobs)
	}
	if e.runsNodes() {
		parts = append(parts, engine.SecNodes)
		if len(c.Beacons) > 0 {
			parts = append(parts, engine.SecClusters)
		}
	}
	s, err := state.New(state.Options{Info: info, Journal: e.store, Catalog: catalog.Fill, ShowAfter: catalog.ShowAfter, Marks: e.store.Shelf("alert-marks"), Parts: parts, Logger: e.log})
	if err != nil {
		return err
	}
	e.state = s
	e.scope("state").Go("state", s.Run)
	s.Tell(state.Note{Entry: engine.Entry{What: "engine.start", Level: engine.LevelNote, Key: engine.Key{Machine: e.machine}, Text: "the engine starts, version " + e.o.Version}})
	return nil
}

// runsNodes tells whether this engine was given distributed-validator nodes.
func (e *Engine) runsNodes() bool { return len(e.o.Config.NodeDirs) > 0 || e.o.Config.ClusterDir != "" }

// proves tells whether this engine carries the job queue. One that was given nodes
// and told to have no workers carries none, and its views leave the bar.
func (e *Engine) proves() bool { return e.workers() > 0 || !e.runsNodes() }

func (e *Engine) roles() []engine.Role {
	r := []engine.Role{engine.RoleMachine}
	if e.proves() {
		r = append(r, engine.RoleControl)
	}
	if e.workers() > 0 {
		r = append(r, engine.RoleWorkers)
	}
	if e.runsNodes() {
		r = append(r, engine.RoleDV)
	}
	return r
}

// listen binds the sockets and the port. Nobody is answered before startRPC and startMonitor.
func (e *Engine) listen(context.Context) error {
	s, err := rpc.Listen(rpc.ServerOptions{Engine: e, Socket: e.o.Config.SocketPath(), Log: e.log, Version: e.o.Version})
	if err != nil {
		return err
	}
	e.server = s
	return e.listenMonitor()
}

func (e *Engine) startRPC(context.Context) error {
	e.scope("rpc").Go("rpc", e.server.Run)
	return nil
}

// privateDir makes a directory that only its owner can look into.
func privateDir(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		return nil
	}
	return engine.Problem{Code: engine.CodeDirUnwritable, Exit: engine.ExitNotAllowed, Doing: "start engine",
		Remedy: "make it writable for this user, or choose another with --state-dir and --runtime-dir"}.Because(err)
}

// gatedWriter drops lines until it is opened.
type gatedWriter struct {
	mu  sync.Mutex
	w   io.Writer
	let bool
}

func (g *gatedWriter) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.let = true
}

func (g *gatedWriter) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.let {
		return len(b), nil
	}
	return g.w.Write(b)
}
