package wire

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"app.provost/engine"
	"app.provost/engine/act"
	"app.provost/engine/life"
)

// OneShot is an engine with every room closed: it serves the verbs that need
// nothing running (create and verify a cluster) to a command on its own, through
// the same desk. It keeps nothing and shows nothing.
type OneShot struct {
	desk   *act.Desk
	scope  *life.Scope
	ledger *memLedger

	mu    sync.Mutex
	ended map[string]error // by key, how the work of an act ended
}

// closeLimit is how long an act that is ended may take to clean up after itself: taking
// key shares back from keymanagers has a minute.
const closeLimit = 90 * time.Second

// NewOneShot makes one. progress, which may be nil, hears how an act stands, in
// words; it is called from the act's goroutine.
func NewOneShot(progress func(text string)) (*OneShot, error) {
	return newOneShot(clusterVerbs(), progress)
}

func newOneShot(all map[engine.ActionKind]act.Verb, progress func(text string)) (*OneShot, error) {
	scope := life.New(life.Options{}).Scope("one shot")
	snap := &engine.Snapshot{Schema: engine.SnapshotSchema}
	o := &OneShot{scope: scope, ledger: &memLedger{receipts: map[string]memReceipt{}}, ended: map[string]error{}}
	verbs := map[engine.ActionKind]act.Verb{}
	for kind, v := range all {
		verbs[kind] = o.watched(v)
	}
	d, err := act.New(act.Options{
		Verbs: verbs, Store: o.ledger, Spawner: scope,
		Snapshot: func() *engine.Snapshot { return snap },
		Tell: func(r engine.ActRow) {
			if progress != nil && r.Text != "" && r.State.Open() {
				progress(r.Text)
			}
		},
		Record: func(_ context.Context, entries ...engine.Entry) ([]engine.Entry, error) { return entries, nil },
	})
	if err != nil {
		return nil, err
	}
	o.desk = d
	return o, nil
}

// watched is a verb of which is kept how its work ended: the desk leaves an act that is
// ended from outside to the next engine, and here comes none.
func (o *OneShot) watched(v act.Verb) act.Verb {
	run := v.Run
	v.Run = func(ctx context.Context, a *act.Act) error {
		err := run(ctx, a)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.ended[a.Key] = err
		return err
	}
	return v
}

// Close ends what runs and waits for it.
func (o *OneShot) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	return o.scope.Close(ctx)
}

// Preview says what a verb would do.
func (o *OneShot) Preview(ctx context.Context, r engine.Request) (engine.Plan, error) {
	return o.desk.Preview(ctx, r)
}

// Do carries it out. When ctx ends first the act is ended too, since nobody else would, and
// the answer is how it ended: what could not be undone has to be said, and what was done.
func (o *OneShot) Do(ctx context.Context, r engine.Request, d engine.Digest) (engine.Receipt, error) {
	rec, err := o.desk.Do(ctx, r, d)
	if ctx.Err() == nil || err == nil {
		return rec, err
	}
	if cerr := o.Close(); cerr != nil {
		return rec, errors.Join(err, cerr)
	}
	o.mu.Lock()
	end, ran := o.ended[r.Key]
	o.mu.Unlock()
	switch {
	case !ran:
		return rec, err
	case end != nil:
		return rec, engine.AsProblem(r.Action.Doing(), end)
	}
	if rec, _, problem, found, _ := o.ledger.Receipt(r.Key); found && problem == nil {
		return rec, nil
	}
	return rec, err
}

// Watch is not served: nothing runs that could be watched.
func (o *OneShot) Watch(context.Context, engine.WatchOptions) (engine.Feed, error) {
	return nil, noEngine("watch")
}

// Logs is not served.
func (o *OneShot) Logs(context.Context, engine.LogQuery) (engine.LogStream, error) {
	return nil, noEngine("read logs")
}

func noEngine(doing string) error {
	return engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: doing, Cause: "no engine runs", Remedy: "start one with provost up"}.Because(nil)
}

// memLedger is a ledger that ends with its process.
type memLedger struct {
	mu       sync.Mutex
	n        int
	receipts map[string]memReceipt
}

type memReceipt struct {
	receipt engine.Receipt
	action  []byte
	problem *engine.Problem
	at      time.Time
}

func (m *memLedger) BeginAct(_ engine.ActRow, _, action []byte, receipt engine.Receipt) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	receipt.Act = fmt.Sprintf("a%d", m.n)
	m.receipts[receipt.Key] = memReceipt{receipt, action, nil, time.Now()}
	return receipt.Act, nil
}

func (m *memLedger) SaveAct(_ engine.ActRow, receipt *engine.Receipt, problem *engine.Problem) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if receipt != nil {
		old := m.receipts[receipt.Key]
		m.receipts[receipt.Key] = memReceipt{*receipt, old.action, problem, old.at}
	}
	return nil
}

func (m *memLedger) Receipt(key string) (engine.Receipt, []byte, *engine.Problem, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.receipts[key]
	return r.receipt, r.action, r.problem, ok, nil
}

func (m *memLedger) Acts() ([]engine.ActRow, [][]byte, error) { return nil, nil, nil }
