// Package life owns the engine's goroutines and the order in which it starts
// and stops.
//
// Promises: every goroutine has a name, belongs to a scope, and is waited for
// when its scope is closed. Start and stop follow written lists, one step at a
// time. A stop never takes longer than its limit: a step that hangs is named,
// with the tasks that did not end, its goroutines are dumped to a file, and the
// next step goes on. A panic in a task ends that task alone: it is written to a
// crash file, counted and told to whoever asked to be told.
package life

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"
)

// Observer hears of every task. Calls come from the task's own goroutine and must not block.
type Observer interface {
	TaskStarted(name string)
	TaskEnded(name string, took time.Duration, err error)
}

// Options of a Life. Only Log is needed.
type Options struct {
	Log *slog.Logger
	// CrashDir receives crash and hang dumps; empty writes none.
	CrashDir string
	Observer Observer
	// OnEnd hears of a task that ended with an error or a panic while its scope was
	// open. It is called from the task's goroutine.
	OnEnd func(name string, err error)
	// Restart says whether a task that panicked is started again, a second later
	// and at most maxRestarts times; nil: none is.
	Restart func(name string) bool
}

// Life is the root of all scopes. Its methods may be called from any goroutine.
type Life struct {
	o  Options
	mu sync.Mutex
	// running counts tasks by name over all scopes; guarded by mu.
	running map[string]int
}

// New makes a Life.
func New(o Options) *Life {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Life{o: o, running: map[string]int{}}
}

// Running lists the tasks that run now, sorted, with their number when above one.
func (l *Life) Running() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for name, n := range l.running {
		if n > 1 {
			name = fmt.Sprintf("%s x%d", name, n)
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Scope groups the goroutines of one room. It is the Spawner that rooms are given.
type Scope struct {
	l      *Life
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	open   map[string]int // tasks of this scope by name; guarded by mu
	wg     sync.WaitGroup
}

// Scope opens a scope. Its context ends when the scope is closed.
func (l *Life) Scope(name string) *Scope {
	ctx, cancel := context.WithCancel(context.Background())
	return &Scope{l: l, name: name, ctx: ctx, cancel: cancel, open: map[string]int{}}
}

// maxRestarts bounds how often one task is started again after a panic.
const maxRestarts = 5

// PanicError is what a task's panic becomes.
type PanicError struct {
	Task  string
	Value any
	Stack []byte
	File  string // crash file, "" if none could be written
}

// Error names the task and where to read on.
func (e *PanicError) Error() string {
	s := fmt.Sprintf("task %s panicked: %v", e.Task, e.Value)
	if e.File != "" {
		s += "; see " + e.File
	}
	return s
}

// Go starts fn under a name. After Close it does nothing but count a refusal in the log.
func (s *Scope) Go(name string, fn func(ctx context.Context) error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.l.o.Log.Debug("task not started: its room is closed", "task", name, "room", s.name)
		return
	}
	s.open[name]++
	s.wg.Add(1)
	s.mu.Unlock()
	s.l.count(name, 1)
	go s.run(name, fn)
}

func (s *Scope) run(name string, fn func(ctx context.Context) error) {
	start := time.Now()
	obs := s.l.o.Observer
	if obs != nil {
		obs.TaskStarted(name)
	}
	err := s.l.guarded(name, s.ctx, fn)
	var pe *PanicError
	for n := 0; n < maxRestarts && s.ctx.Err() == nil && errors.As(err, &pe) && s.l.o.Restart != nil && s.l.o.Restart(name); n++ {
		s.l.o.Log.Error("task.restart", "task", name, "room", s.name, "err", err)
		if s.l.o.OnEnd != nil {
			s.l.o.OnEnd(name, err)
		}
		select {
		case <-time.After(time.Second):
			err = s.l.guarded(name, s.ctx, fn)
		case <-s.ctx.Done():
		}
	}
	ended := s.ctx.Err() != nil
	if ended && errors.Is(err, context.Canceled) {
		err = nil
	}
	if obs != nil {
		obs.TaskEnded(name, time.Since(start), err)
	}
	if err != nil {
		s.l.o.Log.Error("task.end", "task", name, "room", s.name, "err", err)
		if s.l.o.OnEnd != nil && !ended {
			s.l.o.OnEnd(name, err)
		}
	}
	s.l.count(name, -1)
	s.mu.Lock()
	if s.open[name]--; s.open[name] == 0 {
		delete(s.open, name)
	}
	s.mu.Unlock()
	s.wg.Done()
}

func (l *Life) guarded(name string, ctx context.Context, fn func(ctx context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			pe := &PanicError{Task: name, Value: v, Stack: debug.Stack()}
			pe.File = l.dump("crash", fmt.Sprintf("task %s panicked: %v\n\n%s", name, v, pe.Stack))
			err = pe
		}
	}()
	return fn(ctx)
}

func (l *Life) count(name string, by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[name] += by; l.running[name] <= 0 {
		delete(l.running, name)
	}
}

// Context ends when the scope is closed.
func (s *Scope) Context() context.Context { return s.ctx }

// Close ends the scope's context and waits for its tasks until ctx is done. The
// error names the tasks that did not end. It may be called more than once.
func (s *Scope) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	done := make(chan struct{})
	go func() { // ends with the last task
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		var left []string
		for name := range s.open {
			left = append(left, name)
		}
		slices.Sort(left)
		return fmt.Errorf("close %s: %s did not end: %w", s.name, strings.Join(left, ", "), ctx.Err())
	}
}

// Step is one line of a start or stop list.
type Step struct {
	Name string
	// Do must return soon after its context is done.
	Do func(ctx context.Context) error
	// Limit for this step; 0 means what is left of the whole.
	Limit time.Duration
}

// Start runs the steps in order and ends at the first error, which names the step.
// started tells which steps were begun, so that only their rooms are stopped.
func (l *Life) Start(ctx context.Context, steps []Step) (started []string, err error) {
	for _, st := range steps {
		if err := ctx.Err(); err != nil {
			return started, err
		}
		started = append(started, st.Name)
		if err := l.step(ctx, st); err != nil {
			return started, fmt.Errorf("start %s: %w", st.Name, err)
		}
		l.o.Log.Debug("engine.start.step", "step", st.Name)
	}
	return started, nil
}

// Stop runs all steps in order, each at most for its limit and all together at
// most for total. A step that hangs or fails does not keep the next from running.
// onStep hears each step before it begins. The error names what hung or failed,
// and the file with the goroutines of that moment.
func (l *Life) Stop(total time.Duration, steps []Step, onStep func(name string)) error {
	ctx, cancel := context.WithTimeout(context.Background(), total)
	defer cancel()
	var errs []error
	for _, st := range steps {
		if onStep != nil {
			onStep(st.Name)
		}
		began := time.Now()
		err := l.step(ctx, st)
		l.o.Log.Debug("engine.stop.step", "step", st.Name, "took_ms", time.Since(began).Milliseconds())
		if err == nil {
			continue
		}
		if errors.Is(err, context.DeadlineExceeded) {
			file := l.dump("hang", "stop step "+st.Name+" hangs\nrunning tasks: "+strings.Join(l.Running(), ", ")+"\n\n"+goroutines())
			err = fmt.Errorf("stop %s: hangs for %s: %w", st.Name, time.Since(began).Round(time.Millisecond), err)
			if file != "" {
				err = fmt.Errorf("%w; goroutines are in %s", err, file)
			}
		} else {
			err = fmt.Errorf("stop %s: %w", st.Name, err)
		}
		l.o.Log.Error("engine.stop.step", "step", st.Name, "err", err)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// step runs one step. A step that ignores its context is left behind: its
// goroutine is counted as running task "step:<name>" until it returns.
func (l *Life) step(ctx context.Context, st Step) error {
	if st.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, st.Limit)
		defer cancel()
	}
	done := make(chan error, 1)
	l.count("step:"+st.Name, 1)
	go func() {
		err := l.guarded("step:"+st.Name, ctx, st.Do)
		l.count("step:"+st.Name, -1) // before it is told: whoever waits may look
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		select { // it may have ended at the same moment
		case err := <-done:
			return err
		default:
			return ctx.Err()
		}
	}
}

// dump writes a file into CrashDir and returns its path, "" when it cannot.
func (l *Life) dump(kind, text string) string {
	if l.o.CrashDir == "" {
		return ""
	}
	if err := os.MkdirAll(l.o.CrashDir, 0o700); err != nil {
		l.o.Log.Error("crash file", "err", err)
		return ""
	}
	f, err := os.CreateTemp(l.o.CrashDir, fmt.Sprintf("%s-%s-*.txt", kind, time.Now().UTC().Format("20060102T150405Z")))
	if err != nil {
		l.o.Log.Error("crash file", "err", err)
		return ""
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		l.o.Log.Error("crash file", "file", f.Name(), "err", err)
	}
	return filepath.Clean(f.Name())
}

// Dump writes all goroutines to a file in CrashDir and returns its path.
func (l *Life) Dump() string { return l.dump("dump", goroutines()) }

func goroutines() string {
	var b strings.Builder
	pprof.Lookup("goroutine").WriteTo(&b, 2)
	return b.String()
}
