// Package act is the desk where actions are asked: may you? → plan → same plan as
// you saw? → journal → run → receipt. It keeps the ledger of acts.
//
// Promises. An act runs once for its request key, however often and however
// concurrently it is asked, also over a restart of the engine: later askers get the
// first receipt. An act that was taken is in the ledger and in the journal, with who
// asked, before anything of it is done. Two acts are never planned at the same time,
// so what was checked still holds when the act is recorded. Acts run under the
// Spawner and not in the caller: they go on when the caller is gone. At most 64 are
// open. Errors are *engine.Problem. All methods may be called from any goroutine.
package act

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"app.provost/engine"
)

const (
	maxOpen      = 64
	maxFlights   = 256              // requests under way at one time
	maxKey       = 128              // bytes of a request key
	planTime     = 10 * time.Second // a plan is made from what is known: it is quick or it hangs
	recordTime   = 10 * time.Second // for the journal
	answers      = 64               // receipts of read-only acts, kept in memory
	answerAge    = 10 * time.Minute
	requestVer   = 1
	answerBytes  = 1 << 20 // larger answers are not kept: a repeat works them out again
	cancelWithin = 30 * time.Second
)

// Verb is how one kind of action is planned and done.
type Verb struct {
	// Plan says what would be done. It changes nothing. The desk seals the plan and
	// fills in Command, MadeAt, Sections, ReadOnly and an empty Consent.
	Plan func(ctx context.Context, a Ask) (engine.Plan, error)
	// Run does it. It ends soon after ctx does: then the engine stops, or the act was cancelled.
	Run func(ctx context.Context, a *Act) error
	// Resume goes on with an act that was open when an engine ended. Nil: such an act is closed as failed.
	Resume func(ctx context.Context, a *Act) error
	// Cancel is called before Run's ctx is ended by CancelAct, to take back what was done. It may be nil.
	Cancel func(ctx context.Context, a *Act) error
	// ReadOnly verbs need no unlocked screen and no digest, run in the caller, and leave nothing in ledger and journal.
	ReadOnly bool
	// WhileLocked lets screens ask for it while they are locked.
	WhileLocked bool
	// Long: Do returns when the act is recorded, without waiting for its end.
	Long bool
	// PlanTime is how long a plan may take that is made from files or servers; 0: ten seconds.
	PlanTime time.Duration
}

// Ask is what a plan is made from.
type Ask struct {
	Action   engine.Action
	Actor    engine.Actor
	Snapshot *engine.Snapshot
	Now      time.Time
}

// Store keeps the ledger and the receipts. See the methods of the same names in package store.
type Store interface {
	BeginAct(row engine.ActRow, request, action []byte, receipt engine.Receipt) (id string, err error)
	SaveAct(row engine.ActRow, receipt *engine.Receipt, problem *engine.Problem) error
	Receipt(key string) (r engine.Receipt, action []byte, problem *engine.Problem, found bool, err error)
	Acts() (rows []engine.ActRow, requests [][]byte, err error)
}

// Options is what a Desk needs; all but Logger are required.
type Options struct {
	// Verbs by kind of action. Kinds that are missing are answered with request.not-configured. CancelAct is the desk's own.
	Verbs    map[engine.ActionKind]Verb
	Store    Store
	Spawner  engine.Spawner
	Snapshot func() *engine.Snapshot
	// Tell shows a row of the ledger. It must not block.
	Tell func(engine.ActRow)
	// Record writes journal entries and returns when they are on disk.
	Record func(ctx context.Context, entries ...engine.Entry) ([]engine.Entry, error)
	// Machine goes into the keys of rows and entries.
	Machine string
	Logger  *slog.Logger
}

// Desk is where actions are asked.
type Desk struct {
	o     Options
	verbs map[engine.ActionKind]Verb
	turn  chan struct{} // held while an act is planned and recorded

	mu       sync.Mutex // guards the fields below; nothing else is called under it
	flights  map[string]*flight
	open     map[string]*Act
	answers  []answer // oldest first
	stopping bool
}

// flight is a request under way. Those who ask with the same key wait for it.
type flight struct {
	action  []byte
	done    chan struct{}
	taken   bool // it has a receipt or a recorded failure; else whoever waits tries himself
	receipt engine.Receipt
	err     error
}

// answer is the receipt of a read-only act.
type answer struct {
	at      time.Time
	key     string
	action  []byte
	receipt engine.Receipt
}

// request is what the ledger keeps of a request, for going on after a restart.
type request struct {
	V      int             `json:"v"`
	Key    string          `json:"key"`
	Action json.RawMessage `json:"action"`
	Actor  engine.Actor    `json:"actor"`
	Plan   engine.Plan     `json:"plan"`
}

// New makes a desk and shows the ledger as it was kept. Resume takes up open acts.
func New(o Options) (*Desk, error) {
	if o.Store == nil || o.Spawner == nil || o.Snapshot == nil || o.Tell == nil || o.Record == nil || o.Verbs == nil {
		return nil, errors.New("make desk: want Verbs, Store, Spawner, Snapshot, Tell and Record")
	}
	for kind, v := range o.Verbs {
		if v.Plan == nil || v.Run == nil {
			return nil, fmt.Errorf("make desk: %s lacks Plan or Run", kind)
		}
		if !slices.Contains(engine.ActionKinds(), kind) {
			return nil, fmt.Errorf("make desk: %q is no kind of action", kind)
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Desk{o: o, verbs: maps.Clone(o.Verbs), turn: make(chan struct{}, 1), flights: map[string]*flight{}, open: map[string]*Act{}}
	d.verbs[engine.KindCancelAct] = Verb{Plan: d.planCancel, Run: d.runCancel}
	rows, _, err := o.Store.Acts()
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		o.Tell(r)
	}
	return d, nil
}

// Resume takes up the acts that were open when an engine ended. Call it once, when
// everything that verbs need is there. Acts that cannot be taken up are closed as failed.
func (d *Desk) Resume(ctx context.Context) error {
	rows, requests, err := d.o.Store.Acts()
	if err != nil {
		return err
	}
	for i, row := range rows {
		if !row.State.Open() {
			continue
		}
		var r request
		err := json.Unmarshal(requests[i], &r)
		var action engine.Action
		if err == nil && r.V != requestVer {
			err = fmt.Errorf("its request has version %d", r.V)
		}
		if err == nil {
			action, err = engine.UnmarshalAction(r.Action)
		}
		a := d.newAct(engine.Request{Key: r.Key, Action: action, Actor: row.By}, r.Plan, row)
		a.receipt = engine.Receipt{Key: r.Key, Act: row.ID, Digest: row.Digest, At: row.Started, Title: r.Plan.Title, Targets: r.Plan.Targets}
		verb := d.verbs[row.Kind]
		if err == nil && verb.Resume == nil {
			err = &engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: action.Doing(),
				Cause: "the engine ended in the middle of this act", Remedy: "see how far it came with provost acts show " + row.ID + " and ask again"}
		}
		if err != nil {
			d.end(ctx, a, err)
			continue
		}
		d.mu.Lock()
		d.open[row.ID] = a
		d.mu.Unlock()
		d.o.Logger.Info("take up act", "act", row.ID, "kind", row.Kind, "by", row.By.String())
		d.spawn(a, verb.Resume)
	}
	return nil
}

// Refuse turns new acts away from now on: the engine stops. Acts under way end when the Spawner ends them.
func (d *Desk) Refuse() {
	d.mu.Lock()
	d.stopping = true
	d.mu.Unlock()
}

// Preview says what an action would do, and changes nothing. Locked screens may preview too.
func (d *Desk) Preview(ctx context.Context, r engine.Request) (engine.Plan, error) {
	verb, _, err := d.check(r, false)
	if err != nil {
		return engine.Plan{}, err
	}
	return d.plan(ctx, verb, r)
}

// Do carries an action out; see engine.Engine.
func (d *Desk) Do(ctx context.Context, r engine.Request, digest engine.Digest) (engine.Receipt, error) {
	verb, raw, err := d.check(r, true)
	if err != nil {
		return engine.Receipt{}, err
	}
	doing := r.Action.Doing()
	for {
		f, first, err := d.join(r.Key, raw, doing)
		if err != nil {
			return engine.Receipt{}, err
		}
		if first {
			return d.first(ctx, f, verb, r, raw, digest)
		}
		select {
		case <-f.done:
			if f.taken {
				return repeat(f.receipt), f.err
			}
		case <-ctx.Done():
			return engine.Receipt{}, gone(ctx, doing, "")
		}
	}
}

// join gives the flight of a key, or begins one.
func (d *Desk) join(key string, action []byte, doing string) (f *flight, first bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.flights[key]; f != nil {
		if !bytes.Equal(f.action, action) {
			return nil, false, otherAction(doing)
		}
		return f, false, nil
	}
	if len(d.flights) >= maxFlights {
		return nil, false, busy(doing, fmt.Sprintf("%d requests are under way", maxFlights))
	}
	f = &flight{action: action, done: make(chan struct{})}
	d.flights[key] = f
	return f, true, nil
}

func repeat(r engine.Receipt) engine.Receipt {
	r.Repeated = true
	return r
}

// first carries out what nobody else is carrying out.
func (d *Desk) first(ctx context.Context, f *flight, verb Verb, r engine.Request, raw []byte, digest engine.Digest) (engine.Receipt, error) {
	land := func(taken bool, receipt engine.Receipt, err error) (engine.Receipt, error) {
		f.taken, f.receipt, f.err = taken, receipt, err
		d.mu.Lock()
		delete(d.flights, r.Key)
		d.mu.Unlock()
		close(f.done)
		return receipt, err
	}
	doing := r.Action.Doing()
	if a := d.openOf(r.Key); a != nil {
		return d.again(ctx, a, verb, raw, doing, land)
	}
	if receipt, err, found := d.before(r.Key, raw, doing); found || err != nil {
		return land(found, receipt, err)
	}
	if verb.ReadOnly {
		receipt, err := d.look(ctx, verb, r, raw)
		return land(err == nil, receipt, err)
	}
	a, err := d.take(ctx, verb, r, raw, digest)
	if err != nil {
		return land(false, engine.Receipt{}, err)
	}
	if verb.Long {
		return land(true, a.Receipt(), nil)
	}
	select {
	case <-a.done:
		return land(true, a.Receipt(), a.err)
	case <-ctx.Done():
	}
	// The caller is gone; the act goes on. Whoever asks with this key meanwhile waits for its end.
	return land(false, a.Receipt(), gone(ctx, doing, a.ID()))
}

// openOf is the act under way that was asked with a key: by a caller who is gone, or of an engine before this one.
func (d *Desk) openOf(key string) *Act {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.open {
		if a.Key == key {
			return a
		}
	}
	return nil
}

// again answers who asks for an act that is under way: at once where it is long, else with its end.
func (d *Desk) again(ctx context.Context, a *Act, verb Verb, raw []byte, doing string, land func(bool, engine.Receipt, error) (engine.Receipt, error)) (engine.Receipt, error) {
	if same, err := engine.MarshalAction(a.Action); err != nil || !bytes.Equal(same, raw) {
		return land(false, engine.Receipt{}, otherAction(doing))
	}
	if verb.Long {
		return land(true, repeat(a.Receipt()), nil)
	}
	select {
	case <-a.done:
		return land(true, repeat(a.Receipt()), a.err)
	case <-ctx.Done():
		return land(false, repeat(a.Receipt()), gone(ctx, doing, a.ID()))
	}
}

// before finds the answer to a key that was used before.
func (d *Desk) before(key string, raw []byte, doing string) (engine.Receipt, error, bool) {
	d.mu.Lock()
	d.answers = slices.DeleteFunc(d.answers, func(a answer) bool { return time.Since(a.at) > answerAge })
	for _, a := range d.answers {
		if a.key == key {
			d.mu.Unlock()
			if !bytes.Equal(a.action, raw) {
				return engine.Receipt{}, otherAction(doing), false
			}
			return repeat(a.receipt), nil, true
		}
	}
	d.mu.Unlock()
	receipt, action, problem, found, err := d.o.Store.Receipt(key)
	switch {
	case err != nil:
		return engine.Receipt{}, engine.AsProblem(doing, err), false
	case !found:
		return engine.Receipt{}, nil, false
	case string(action) != "null" && !bytes.Equal(action, raw):
		return engine.Receipt{}, otherAction(doing), false
	case problem != nil:
		return repeat(receipt), problem, true
	}
	return repeat(receipt), nil, true
}

// look carries out a read-only verb in the caller.
func (d *Desk) look(ctx context.Context, verb Verb, r engine.Request, raw []byte) (engine.Receipt, error) {
	plan, err := d.plan(ctx, verb, r)
	if err != nil {
		return engine.Receipt{}, err
	}
	a := d.newAct(r, plan, engine.ActRow{})
	a.readOnly = true
	a.receipt = engine.Receipt{Key: r.Key, Digest: plan.Digest, At: plan.MadeAt, Title: plan.Title, Targets: plan.Targets}
	if err := d.guard(ctx, a, verb.Run); err != nil {
		if ctx.Err() != nil {
			return engine.Receipt{}, gone(ctx, r.Action.Doing(), "")
		}
		return engine.Receipt{}, engine.AsProblem(r.Action.Doing(), err)
	}
	a.receipt.Done = true
	size := 0
	for _, f := range a.receipt.Artifacts {
		size += len(f.Data)
	}
	if size <= answerBytes {
		d.mu.Lock()
		if len(d.answers) >= answers {
			d.answers = slices.Clone(d.answers[1:])
		}
		d.answers = append(d.answers, answer{time.Now(), r.Key, raw, a.receipt})
		d.mu.Unlock()
	}
	return a.receipt, nil
}

// take plans, compares, records and starts an act.
func (d *Desk) take(ctx context.Context, verb Verb, r engine.Request, raw []byte, digest engine.Digest) (*Act, error) {
	doing := r.Action.Doing()
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, gone(ctx, doing, "")
	}
	d.mu.Lock()
	stopping, open := d.stopping, len(d.open)
	d.mu.Unlock()
	switch {
	case stopping:
		return nil, &engine.Problem{Code: engine.CodeStopping, Exit: engine.ExitNotAllowed, Doing: doing,
			Cause: "the engine is stopping and takes no new acts", Remedy: "ask again when it is up"}
	case open >= maxOpen && r.Action.Kind() != engine.KindCancelAct && r.Action.Kind() != engine.KindStopEngine:
		return nil, busy(doing, fmt.Sprintf("%d acts are under way", open))
	}
	plan, err := d.plan(ctx, verb, r)
	if err != nil {
		return nil, err
	}
	if err := consent(r, plan, digest); err != nil {
		return nil, err
	}

	now := time.Now().UTC()
	row := engine.ActRow{Key: engine.Key{Machine: d.o.Machine}, Kind: r.Action.Kind(), Target: short(plan.Targets), By: r.Actor, Reason: reason(r.Action),
		Digest: plan.Digest, Command: plan.Command, Started: now, State: engine.ActRunning, Steps: plan.Steps}
	a := d.newAct(r, plan, row)
	a.receipt = engine.Receipt{Key: r.Key, Digest: plan.Digest, At: now, Title: plan.Title, Targets: plan.Targets}
	kept, err := json.Marshal(request{V: requestVer, Key: r.Key, Action: raw, Actor: r.Actor, Plan: plan})
	if err != nil {
		return nil, engine.AsProblem(doing, err)
	}
	id, err := d.o.Store.BeginAct(row, kept, raw, a.receipt)
	if err != nil {
		return nil, engine.AsProblem(doing, err)
	}
	a.row.ID, a.row.Key.ID, a.receipt.Act = id, id, id
	d.mu.Lock()
	d.open[id] = a
	if r.Action.Kind() == engine.KindStopEngine {
		d.stopping = true
	}
	d.mu.Unlock()
	// From here on the act exists: it ends with an outcome in ledger and journal, whatever happens.
	d.o.Tell(a.Row())
	if err := d.journal(ctx, a, "act.asked", engine.LevelNote, plan.Title, engine.Fact{Name: "command", Value: plan.Command}); err != nil {
		d.end(ctx, a, fmt.Errorf("the journal does not take it, so nothing was done: %w", err))
		return a, nil
	}
	d.spawn(a, verb.Run)
	return a, nil
}

func (d *Desk) spawn(a *Act, fn func(context.Context, *Act) error) {
	d.o.Spawner.Go("act."+string(a.row.Kind), func(ctx context.Context) error {
		run, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		if !a.started(cancel) {
			cancel(errCancelled)
		}
		err := d.guard(run, a, fn)
		if ctx.Err() != nil && err != nil && !a.cancelAsked() {
			// The engine stops: the act stays open for the next one to take up.
			a.flush(true)
			a.leave(&engine.Problem{Code: engine.CodeStopping, Exit: engine.ExitTimeout, Doing: a.Action.Doing(),
				Cause: "the engine stopped before the act " + a.ID() + " ended", Remedy: "see provost acts show " + a.ID() + " when it is up again"})
			d.forget(a)
			return nil
		}
		d.end(context.WithoutCancel(ctx), a, err)
		return nil
	})
}

// guard runs fn; a panic ends this act and nothing else.
func (d *Desk) guard(ctx context.Context, a *Act, fn func(context.Context, *Act) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			d.o.Logger.Error("an act panicked", "act", a.row.ID, "kind", a.row.Kind, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("a fault in provost: %v (the stack is in the engine's log)", r)
		}
	}()
	return fn(ctx, a)
}

// end closes an act in ledger and journal and wakes those who wait for it.
func (d *Desk) end(ctx context.Context, a *Act, err error) {
	var problem *engine.Problem
	if err != nil {
		doing := "act"
		if a.Action != nil {
			doing = a.Action.Doing()
		}
		problem = engine.AsProblem(doing, err)
	}
	row, receipt := a.close(problem)
	if row.State == engine.ActCancelled {
		problem = nil
	}
	if serr := d.o.Store.SaveAct(row, &receipt, problem); serr != nil {
		d.o.Logger.Error("keep the outcome of an act: after a restart it is taken up again", "act", row.ID, "err", serr)
	}
	what, level, text := "act.done", engine.LevelNote, "done: "+receipt.Title
	switch row.State {
	case engine.ActFailed:
		what, level, text = "act.failed", engine.LevelWarn, row.Text
	case engine.ActPartly:
		what, level, text = "act.failed", engine.LevelWarn, "partly done: "+receipt.Title
	case engine.ActCancelled:
		text = "cancelled: " + receipt.Title
	}
	jctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	if jerr := d.journal(jctx, a, what, level, text); jerr != nil {
		d.o.Logger.Error("journal the outcome of an act", "act", row.ID, "state", row.State, "err", jerr)
	}
	d.o.Tell(row)
	d.forget(a)
	if row.Kind == engine.KindStopEngine && problem != nil {
		d.mu.Lock()
		d.stopping = false
		d.mu.Unlock()
	}
	if problem != nil {
		a.leave(problem)
	} else {
		a.leave(nil)
	}
}

func (d *Desk) forget(a *Act) {
	d.mu.Lock()
	delete(d.open, a.ID())
	d.mu.Unlock()
}

func (d *Desk) journal(ctx context.Context, a *Act, what string, level engine.Level, text string, more ...engine.Fact) error {
	row := a.Row()
	facts := append([]engine.Fact{{Name: "act", Value: row.ID}, {Name: "plan", Value: string(row.Digest)}}, more...)
	if row.Reason != "" {
		facts = append(facts, engine.Fact{Name: "reason", Value: row.Reason})
	}
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	by := row.By
	_, err := d.o.Record(ctx, engine.Entry{Level: level, What: what, Key: row.Key, Actor: &by, Text: text, Facts: facts})
	return err
}

// planCancel and runCancel are the desk's own verb.
func (d *Desk) planCancel(_ context.Context, ask Ask) (engine.Plan, error) {
	a, err := d.find(ask.Action.(engine.CancelAct).ID)
	if err != nil {
		return engine.Plan{}, err
	}
	row := a.Row()
	p := engine.Plan{Title: fmt.Sprintf("cancel %s (%s)", row.ID, a.receipt.Title), Targets: []string{"act/" + row.ID},
		Steps: []engine.Step{{Name: "cancel", Text: "end the act and take back what it can take back"}}}
	if row.Kind == engine.KindPauseWorkers {
		p.Steps[0].Text = "end the pause: its workers take jobs again"
	}
	return p, nil
}

func (d *Desk) find(id string) (*Act, error) {
	d.mu.Lock()
	a := d.open[id]
	d.mu.Unlock()
	if a == nil {
		return nil, &engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: "cancel act", Field: "id",
			Cause: fmt.Sprintf("no act %q is under way", id), Remedy: "see provost acts list"}
	}
	return a, nil
}

func (d *Desk) runCancel(ctx context.Context, a *Act) error {
	target, err := d.find(a.Action.(engine.CancelAct).ID)
	if err != nil {
		return err
	}
	if hook := d.verbs[target.row.Kind].Cancel; hook != nil {
		if err := d.guard(ctx, target, hook); err != nil {
			return fmt.Errorf("take back what %s did: %w", target.ID(), err)
		}
	}
	target.cancel()
	wait, stop := context.WithTimeout(ctx, cancelWithin)
	defer stop()
	select {
	case <-target.done:
		return nil
	case <-wait.Done():
		return &engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitTimeout, Doing: "cancel act",
			Cause: fmt.Sprintf("act %s was told to end and has not within %s", target.ID(), cancelWithin), Remedy: "watch it with provost acts show " + target.ID()}
	}
}
