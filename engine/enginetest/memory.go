package enginetest

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/act"
	"app.provost/engine/catalog"
	"app.provost/engine/state"
	"app.provost/prover"
)

// Memory is a whole engine without disk, processes or sockets: the real state and
// the real desk over an in-memory store. It knows the verbs that need nothing else:
// unlock, lock, ack, mute, pause, resume, cancel of acts, stop.
type Memory struct {
	State *state.State
	Desk  *act.Desk
	Store *Store
	Tasks *Tasks

	twin      bool // Store is what is used
	stopState context.CancelFunc
	stateDone chan struct{}
	stopOnce  sync.Once
	stopAsked chan struct{} // closed when StopEngine was done

	logMu   sync.Mutex // guards the fields below
	lines   []engine.LogLine
	logNext chan struct{} // closed with the next line, or the stop
	ended   bool
}

var (
	_ engine.Engine = (*Memory)(nil)
	_ Driver        = (*Memory)(nil)
)

// MemoryOptions says what a Memory starts with; the zero value is a machine called
// m1 with workers, GPUs, jobs and no nodes.
type MemoryOptions struct {
	Info  engine.Info // empty fields are filled in
	Parts []engine.SectionName
	Store *Store // one that another Memory used, to test a restart
	// Keeper and Documents take the place of Store, to test a real one.
	Keeper    Keeper
	Documents Documents
	// Verbs are added to those that a Memory knows.
	Verbs map[engine.ActionKind]act.Verb
}

// NewMemory starts an engine that ends with the test.
func NewMemory(t testing.TB, o MemoryOptions) *Memory {
	t.Helper()
	if o.Info.ID == "" {
		o.Info.ID = "e1"
	}
	if o.Info.Name == "" {
		o.Info.Name = "test"
	}
	if o.Info.Machine == "" {
		o.Info.Machine = "m1"
	}
	if o.Info.StartedAt.IsZero() {
		o.Info.StartedAt = time.Now().UTC()
	}
	if o.Info.Roles == nil {
		o.Info.Roles = []engine.Role{engine.RoleMachine, engine.RoleControl, engine.RoleWorkers}
	}
	if o.Parts == nil {
		o.Parts = []engine.SectionName{engine.SecMachines, engine.SecWorkers, engine.SecGPUs, engine.SecJobs}
	}
	if o.Store == nil {
		o.Store = NewStore()
	}
	if o.Keeper == nil {
		o.Keeper, o.Documents = o.Store, o.Store
	}
	m := &Memory{Store: o.Store, twin: o.Keeper == Keeper(o.Store), Tasks: NewTasks(), stateDone: make(chan struct{}), stopAsked: make(chan struct{}), logNext: make(chan struct{})}
	var err error
	m.State, err = state.New(state.Options{Info: o.Info, Journal: o.Keeper, Catalog: catalog.Fill, ShowAfter: catalog.ShowAfter, Marks: o.Documents, Parts: o.Parts,
		// So that feeds read the journal, which a test may trim.
		TailEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stopState = cancel
	go func() {
		defer close(m.stateDone)
		m.State.Run(ctx)
	}()
	verbs := m.verbs()
	for k, v := range o.Verbs {
		verbs[k] = v
	}
	m.Desk, err = act.New(act.Options{Verbs: verbs, Store: o.Keeper, Spawner: m.Tasks, Snapshot: m.State.Snapshot, Machine: o.Info.Machine,
		Tell: func(r engine.ActRow) { m.State.Tell(state.PutAct{Row: r}) }, Record: m.State.Record})
	if err == nil {
		err = m.Desk.Resume(ctx)
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	return m
}

// Watch, Preview and Do are those of state and desk.
func (m *Memory) Watch(ctx context.Context, o engine.WatchOptions) (engine.Feed, error) {
	return m.State.Watch(ctx, o)
}
func (m *Memory) Preview(ctx context.Context, r engine.Request) (engine.Plan, error) {
	return m.Desk.Preview(ctx, r)
}
func (m *Memory) Do(ctx context.Context, r engine.Request, d engine.Digest) (engine.Receipt, error) {
	return m.Desk.Do(ctx, r, d)
}

// Stop stops acts and state, in this order. It may be called more than once.
func (m *Memory) Stop() {
	m.stopOnce.Do(func() {
		m.Desk.Refuse()
		m.Tasks.Stop()
		m.stopState()
		<-m.stateDone
		m.logMu.Lock()
		m.ended = true
		close(m.logNext)
		m.logMu.Unlock()
	})
}

// StopAsked is closed when somebody did StopEngine; the test then calls Stop.
func (m *Memory) StopAsked() <-chan struct{} { return m.stopAsked }

// The driver.
func (m *Memory) PutWorker(row engine.WorkerRow) { m.State.Tell(state.PutWorker{Row: row}) }
func (m *Memory) Raise(r engine.Raise)           { m.State.Tell(state.Raise{Raise: r}) }
func (m *Memory) Clear(code engine.Code, key engine.Key) {
	m.State.Tell(state.Clear{Code: code, Key: key})
}
func (m *Memory) Record(entries ...engine.Entry) {
	if _, err := m.State.Record(context.Background(), entries...); err != nil {
		panic(err) // a test's own store has failed
	}
}

// TrimJournal drops entries below first; the newest two stay readable.
func (m *Memory) TrimJournal(first uint64) bool {
	if m.twin {
		m.Store.Trim(first)
	}
	return m.twin
}

// Log adds a line.
func (m *Memory) Log(l engine.LogLine) {
	m.logMu.Lock()
	defer m.logMu.Unlock()
	m.lines = append(m.lines, l)
	close(m.logNext)
	m.logNext = make(chan struct{})
}

// Logs streams the lines that Log added.
func (m *Memory) Logs(ctx context.Context, q engine.LogQuery) (engine.LogStream, error) {
	re, err := regexp.Compile(q.Grep)
	if err != nil {
		return nil, engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "read logs", Field: "grep", Remedy: "write a regular expression in RE2 form"}.Because(err)
	}
	s := &memLogs{m: m, q: q, re: re, closed: make(chan struct{})}
	m.logMu.Lock()
	defer m.logMu.Unlock()
	if q.Tail > 0 {
		n := 0
		for i := len(m.lines) - 1; i >= 0 && n < q.Tail; i-- {
			if s.wants(m.lines[i]) {
				n++
				s.at = i
			}
		}
		if n == 0 {
			s.at = len(m.lines)
		}
	}
	return s, nil
}

type memLogs struct {
	m      *Memory
	q      engine.LogQuery
	re     *regexp.Regexp
	at     int
	closed chan struct{}
	once   sync.Once
}

func (s *memLogs) wants(l engine.LogLine) bool {
	return (len(s.q.Sources) == 0 || slices.Contains(s.q.Sources, l.Source)) &&
		(s.q.Level == "" || l.Level.Rank() >= s.q.Level.Rank()) &&
		(s.q.Since == nil || l.At == nil || !l.At.Before(*s.q.Since)) && s.re.MatchString(l.Text)
}

func (s *memLogs) Next(ctx context.Context) (engine.LogLine, error) {
	for {
		select {
		case <-s.closed:
			return engine.LogLine{}, io.EOF
		default:
		}
		s.m.logMu.Lock()
		for s.at < len(s.m.lines) {
			l := s.m.lines[s.at]
			s.at++
			if s.wants(l) {
				s.m.logMu.Unlock()
				return l, nil
			}
		}
		next, ended := s.m.logNext, s.m.ended
		s.m.logMu.Unlock()
		if !s.q.Follow || ended {
			return engine.LogLine{}, io.EOF
		}
		select {
		case <-next:
		case <-s.closed:
		case <-ctx.Done():
			return engine.LogLine{}, ctx.Err()
		}
	}
}

func (s *memLogs) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (m *Memory) verbs() map[engine.ActionKind]act.Verb {
	return map[engine.ActionKind]act.Verb{
		engine.KindUnlockScreens: {WhileLocked: true,
			Plan: func(_ context.Context, a act.Ask) (engine.Plan, error) {
				u := a.Action.(engine.UnlockScreens)
				return engine.Plan{Title: "let screens act for " + u.For.String(), Steps: []engine.Step{{Name: "unlock", Text: "open the lock"}}}, nil
			},
			Run: func(ctx context.Context, a *act.Act) error {
				u := a.Action.(engine.UnlockScreens)
				return m.State.TellWait(ctx, state.SetUnlocked{Unlocked: &engine.Unlocked{Until: time.Now().Add(time.Duration(u.For)).UTC(), By: a.Actor.String(), Reason: u.Reason}})
			}},
		engine.KindLockScreens: {WhileLocked: true,
			Plan: func(context.Context, act.Ask) (engine.Plan, error) {
				return engine.Plan{Title: "lock screens", Steps: []engine.Step{{Name: "lock", Text: "close the lock"}}}, nil
			},
			Run: func(ctx context.Context, a *act.Act) error { return m.State.TellWait(ctx, state.SetUnlocked{}) }},
		engine.KindAckAlerts: {WhileLocked: true,
			Plan: func(_ context.Context, a act.Ask) (engine.Plan, error) {
				return planAlerts("acknowledge", a.Snapshot, a.Action.(engine.AckAlerts).IDs)
			},
			Run: func(ctx context.Context, a *act.Act) error {
				_, err := m.State.AckAlerts(ctx, a.Action.(engine.AckAlerts).IDs, a.Actor)
				return err
			}},
		engine.KindMuteAlerts: {WhileLocked: true,
			Plan: func(_ context.Context, a act.Ask) (engine.Plan, error) {
				return planAlerts("mute", a.Snapshot, a.Action.(engine.MuteAlerts).IDs)
			},
			Run: func(ctx context.Context, a *act.Act) error {
				u := a.Action.(engine.MuteAlerts)
				_, err := m.State.MuteAlerts(ctx, u.IDs, time.Now().Add(time.Duration(u.For)), a.Actor)
				return err
			}},
		engine.KindPauseWorkers: {Long: true, Plan: planPause, Run: m.pause, Resume: m.pause},
		engine.KindResumeWorkers: {
			Plan: func(_ context.Context, a act.Ask) (engine.Plan, error) {
				rows, err := selected(a.Snapshot, a.Action.(engine.ResumeWorkers).Workers)
				return engine.Plan{Title: fmt.Sprintf("resume %d workers", len(rows)), Steps: []engine.Step{{Name: "resume", Text: "they take jobs again"}}, Targets: targets(rows)}, err
			},
			Run: func(ctx context.Context, a *act.Act) error {
				return m.wish(ctx, a, engine.WishRun, engine.WorkerIdle, nil)
			}},
		engine.KindStopEngine: {
			Plan: func(context.Context, act.Ask) (engine.Plan, error) {
				return engine.Plan{Title: "stop the engine", Steps: []engine.Step{{Name: "stop", Text: "in order"}}}, nil
			},
			Run: func(context.Context, *act.Act) error {
				close(m.stopAsked)
				return nil
			}},
	}
}

func planAlerts(verb string, s *engine.Snapshot, ids []string) (engine.Plan, error) {
	var found []string
	for _, f := range s.Alerts.List() {
		if f.ClosedAt == nil && (slices.Contains(ids, f.ID) || slices.Contains(ids, "all")) {
			found = append(found, "alert/"+f.ID)
		}
	}
	if len(found) == 0 {
		return engine.Plan{}, &engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: verb + " alert", Field: "ids",
			Cause: "no open alert has such an id: " + strings.Join(ids, ", "), Remedy: "see provost get alerts"}
	}
	return engine.Plan{Title: fmt.Sprintf("%s %d alerts", verb, len(found)), Targets: found, Steps: []engine.Step{{Name: verb, Text: "keep it over a restart"}}}, nil
}

// selected takes ids joined by commas, or all: a Memory has no filters.
func selected(s *engine.Snapshot, sel engine.Selector) ([]engine.WorkerRow, error) {
	var out []engine.WorkerRow
	for _, r := range s.Workers.List() {
		if sel == "all" || slices.Contains(strings.Split(string(sel), ","), string(r.ID)) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, &engine.Problem{Code: engine.CodeNoMatch, Exit: engine.ExitUsage, Doing: "choose workers", Field: "workers",
			Cause: fmt.Sprintf("no worker matches %q", sel), Remedy: "see provost get workers"}
	}
	return out, nil
}

func targets(rows []engine.WorkerRow) (out []string) {
	for _, r := range rows {
		out = append(out, "worker/"+string(r.ID))
	}
	return out
}

func planPause(_ context.Context, a act.Ask) (engine.Plan, error) {
	p := a.Action.(engine.PauseWorkers)
	rows, err := selected(a.Snapshot, p.Workers)
	return engine.Plan{Title: fmt.Sprintf("pause %d workers for %s, then resume", len(rows), p.For), Targets: targets(rows),
		Steps: []engine.Step{{Name: "drain", Text: "let each finish its job"}, {Name: "hold", Text: "take no other"}, {Name: "resume", Text: "take jobs again"}},
		Undo:  "provost resume worker " + string(p.Workers)}, err
}

// pause holds until its time is up, it is cancelled, or the engine stops.
func (m *Memory) pause(ctx context.Context, a *act.Act) error {
	until := a.Row().Started.Add(time.Duration(a.Action.(engine.PauseWorkers).For))
	a.SetStep("drain")
	if err := m.wish(ctx, a, engine.WishPaused, engine.WorkerPaused, &until); err != nil {
		return err
	}
	a.SetStep("hold")
	a.Hold(&until)
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		if !a.Cancelled() {
			return ctx.Err()
		}
		ctx = context.WithoutCancel(ctx)
	}
	a.SetStep("resume")
	return m.wish(ctx, a, engine.WishRun, engine.WorkerIdle, nil)
}

func (m *Memory) wish(ctx context.Context, a *act.Act, want engine.WorkerWish, seen engine.WorkerState, until *time.Time) error {
	var facts []state.Fact
	for _, t := range a.Plan.Targets {
		id := strings.TrimPrefix(t, "worker/")
		key := engine.Key{}
		for _, r := range m.State.Snapshot().Workers.List() {
			if r.ID == prover.WorkerID(id) {
				key = r.Key
			}
		}
		facts = append(facts, state.PatchWorker{Key: key, From: "desk", Patch: func(r *engine.WorkerRow) { r.Desired, r.State, r.PauseUntil = want, seen, until }})
	}
	if err := m.State.TellWait(ctx, facts...); err != nil {
		return err
	}
	for _, t := range a.Plan.Targets {
		a.Settle(t, "done", "")
	}
	return nil
}

// Tasks is a Spawner that waits for what it started.
type Tasks struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// NewTasks makes one. Stop ends it.
func NewTasks() *Tasks {
	t := &Tasks{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// Go starts a task.
func (t *Tasks) Go(_ string, fn func(ctx context.Context) error) {
	t.wg.Go(func() { fn(t.ctx) })
}

// Stop ends the tasks and waits for them.
func (t *Tasks) Stop() {
	t.cancel()
	t.wg.Wait()
}
