package super

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"app.provost/engine"
)

// Options is all that a Supervisor needs.
type Options struct {
	// Spawner starts the loops and waits for them. Required.
	Spawner engine.Spawner
	// Handles keeps what the next engine must know. Required.
	Handles Handles
	// OnChange hears what happened; see the package comment. Required.
	OnChange func(Status)
	// Logger; nil: slog.Default().
	Logger *slog.Logger
	// StubArgv starts the stub; "--dir D" is added. Empty: this binary and "internal-stub".
	StubArgv []string
	// CoreDir is the directory of core reservations. Empty: ReservationDir().
	CoreDir string
	// Owner is told to those who ask who holds a CPU: the engine's state directory.
	Owner string
	// Policy of restarts; zero: DefaultPolicy.
	Policy Policy
	// Lifeline, when set, is the read end of a pipe: every stub started from now on
	// stops its child and ends when nobody holds the other end any more. The
	// Supervisor does not close it.
	Lifeline *os.File

	noPidfd bool // tests: as on a kernel without
}

// Supervisor keeps processes running. Make it with New; it ends with the context
// that its Spawner gives, and leaves the processes running.
type Supervisor struct {
	o     Options
	log   *slog.Logger
	watch *watcher
	tell  *teller

	mu    sync.Mutex // guards procs; never held while waiting
	procs map[string]*proc
}

// Errors that callers tell apart.
var (
	// ErrUnknown: no process of this id is supervised.
	ErrUnknown = errors.New("no such process")
	// ErrEnding: the supervisor or the process is being taken down.
	ErrEnding = errors.New("is being taken down")
)

// New checks the options and starts two service goroutines. Call Adopt next.
func New(o Options) (*Supervisor, error) {
	var missing []string
	if o.Spawner == nil {
		missing = append(missing, "Spawner")
	}
	if o.Handles == nil {
		missing = append(missing, "Handles")
	}
	if o.OnChange == nil {
		missing = append(missing, "OnChange")
	}
	if missing != nil {
		return nil, fmt.Errorf("make supervisor: options without %s", strings.Join(missing, ", "))
	}
	if len(o.StubArgv) == 0 {
		self, err := ownBinary()
		if err != nil {
			return nil, fmt.Errorf("make supervisor: %w", err)
		}
		o.StubArgv = []string{self, "internal-stub"}
	}
	o.StubArgv = slices.Clone(o.StubArgv)
	if o.CoreDir == "" {
		dir, err := ReservationDir()
		if err != nil {
			return nil, fmt.Errorf("make supervisor: %w", err)
		}
		o.CoreDir = dir
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Policy = o.Policy.filled()
	w, err := newWatcher()
	if err != nil {
		return nil, fmt.Errorf("make supervisor: %w", err)
	}
	s := &Supervisor{o: o, log: o.Logger.With("room", "super"), watch: w, tell: newTeller(o.OnChange), procs: map[string]*proc{}}
	o.Spawner.Go("super.watch", w.run)
	o.Spawner.Go("super.tell", s.tell.run)
	return s, nil
}

// Adopt takes up the processes of an earlier engine from the saved handles: those
// that live go on undisturbed (EventAdopted), those that ended meanwhile are told
// (EventExited) and started again if the policy and the saved wish say so. Call it
// once, before Start. It returns the adopted processes' first statuses, sorted by
// id; a handle that cannot be read is reported in the error and the others are adopted.
func (s *Supervisor) Adopt(ctx context.Context) ([]Status, error) {
	raw, err := s.o.Handles.LoadHandles()
	if err != nil {
		return nil, fmt.Errorf("adopt processes: %w", err)
	}
	var errs []error
	var out []Status
	ids := make([]string, 0, len(raw))
	for id := range raw {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		var h handle
		if err := parseJSON("handle of "+id, raw[id], handleSchema, &h); err != nil {
			errs = append(errs, err)
			continue
		}
		if h.ID != id || !idForm.MatchString(id) {
			errs = append(errs, fmt.Errorf("read handle of %s: it is of %q", id, h.ID))
			continue
		}
		p := newProc(s, id)
		p.resume(h)
		if err := s.enter(p); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := p.ask(ctx, command{}); err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, p.now())
	}
	if err := errors.Join(errs...); err != nil {
		return out, fmt.Errorf("adopt processes: %w", err)
	}
	return out, nil
}

// enter makes p known and starts its loop.
func (s *Supervisor) enter(p *proc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.procs[p.id] != nil {
		return fmt.Errorf("process %s: is there already", p.id)
	}
	s.procs[p.id] = p
	s.o.Spawner.Go("super.process", p.loop)
	return nil
}

func (s *Supervisor) find(id string) (*proc, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.procs[id]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("process %s: %w", id, ErrUnknown)
}

func (s *Supervisor) forgetProc(p *proc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.procs[p.id] == p {
		delete(s.procs, p.id)
	}
}

// Start makes a process known and wishes it to run; it returns when that is
// recorded, before the process runs. For a known id it replaces the spec and
// keeps the wish: what runs goes on with its old spec (Status.Outdated) until
// Restart, and a process that gave up or waits is tried again only by Run.
func (s *Supervisor) Start(ctx context.Context, spec Spec) error {
	if err := spec.check(); err != nil {
		return err
	}
	spec = spec.clone()
	s.mu.Lock()
	p := s.procs[spec.ID]
	for id, other := range s.procs {
		if id != spec.ID && other.directory() == spec.Dir {
			s.mu.Unlock()
			return fmt.Errorf("process %s: dir: %s is the directory of %s", spec.ID, spec.Dir, id)
		}
	}
	s.mu.Unlock()
	if p == nil {
		p = newProc(s, spec.ID)
		p.begin(spec)
		if err := s.enter(p); err != nil {
			return err
		}
	}
	return p.ask(ctx, command{spec: &spec})
}

// Run sets the wish. WishRun starts what does not run, at once and also if it had
// given up. WishPaused leaves what runs alone and starts nothing again. WishHeld
// stops it. It returns when the wish is recorded.
func (s *Supervisor) Run(ctx context.Context, id string, wish engine.WorkerWish) error {
	switch wish {
	case engine.WishRun, engine.WishPaused, engine.WishHeld:
	default:
		return fmt.Errorf("process %s: unknown wish %q", id, wish)
	}
	p, err := s.find(id)
	if err != nil {
		return err
	}
	return p.ask(ctx, command{wish: wish})
}

// Hold stops a process and keeps it stopped. It returns when the process has
// ended, or with ctx's error; the stop goes on in that case.
func (s *Supervisor) Hold(ctx context.Context, id string) error {
	if err := s.Run(ctx, id, engine.WishHeld); err != nil {
		return err
	}
	p, err := s.find(id)
	if err != nil {
		return err
	}
	return p.await(ctx, func(st Status) bool { return st.State == StateHeld })
}

// Restart stops a process, if it runs, and starts it with the newest spec. It
// wishes it to run, and is no death to the policy. It returns when that is recorded.
func (s *Supervisor) Restart(ctx context.Context, id string) error {
	p, err := s.find(id)
	if err != nil {
		return err
	}
	return p.ask(ctx, command{wish: engine.WishRun, restart: true})
}

// Stop stops a process and forgets it and its handle. It returns when the process
// has ended, or with ctx's error; the stop goes on in that case.
func (s *Supervisor) Stop(ctx context.Context, id string) error {
	p, err := s.find(id)
	if err != nil {
		return err
	}
	if err := p.ask(ctx, command{wish: engine.WishHeld, forget: true}); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop process %s: %w", id, ctx.Err())
	}
}

// StopAll stops all processes at the same time without changing their wishes: the
// next engine starts them again, and in this one only Run or Restart does. It returns when
// all have ended, or with ctx's error and the names of those that have not.
func (s *Supervisor) StopAll(ctx context.Context) error {
	s.mu.Lock()
	all := make([]*proc, 0, len(s.procs))
	for _, p := range s.procs {
		all = append(all, p)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *proc) int { return strings.Compare(a.id, b.id) })
	for _, p := range all {
		if err := p.ask(ctx, command{down: true}); err != nil && !errors.Is(err, ErrEnding) {
			return err
		}
	}
	var left []string
	for _, p := range all {
		if err := p.await(ctx, func(st Status) bool { return st.StubPID == 0 }); err != nil && !errors.Is(err, ErrEnding) {
			left = append(left, p.id)
		}
	}
	if left != nil {
		return fmt.Errorf("stop all processes: %s still run: %w", strings.Join(left, ", "), ctx.Err())
	}
	return nil
}

// Status is how a process stands now.
func (s *Supervisor) Status(id string) (Status, bool) {
	p, err := s.find(id)
	if err != nil {
		return Status{}, false
	}
	return p.now(), true
}

// List is how all stand now, sorted by id.
func (s *Supervisor) List() []Status {
	s.mu.Lock()
	out := make([]Status, 0, len(s.procs))
	for _, p := range s.procs {
		out = append(out, p.now())
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Reserved lists the machine's reserved CPUs, by whomever.
func (s *Supervisor) Reserved() ([]Reservation, error) { return Reserved(s.o.CoreDir) }

// newRun names a run: 64 random bits.
func newRun() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
