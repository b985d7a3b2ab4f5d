package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"app.provost/prover"
)

// Options are what a worker process needs. The first block is required.
type Options struct {
	ID        prover.WorkerID
	Role      prover.WorkerRole
	Socket    string // of the engine
	TokenFile string // mode 0600
	Dir       string // of this worker alone: lock, undelivered result
	BlobDir   string // keys and witnesses must lie below it; absolute
	Version   string
	Kinds     map[prover.JobKind]Backend // EmptyJob needs none
	Logger    *slog.Logger

	// Threads that compute at the same time (1). GOMAXPROCS is set to it, unless KeepProcs is.
	Threads   int
	KeepProcs bool
	// KeyBytes bounds the keys that stay open between jobs (1 GiB).
	KeyBytes int64
	// BeatEvery is the time between two heartbeats (1 s), ResendAfter that until an unacknowledged result is sent again (5 s).
	BeatEvery, ResendAfter time.Duration
	// The process ends, to be started again fresh, after MaxJobs jobs or when it is larger than MaxRSSBytes between two jobs; 0: never.
	MaxJobs     int
	MaxRSSBytes uint64
}

// How Main ends other than by ctx.
var (
	// ErrPanicked: a backend panicked. The failure was reported (or is saved); memory is not to be trusted.
	ErrPanicked = errors.New("the prover panicked")
	// ErrRefused: the engine does not want this worker. Starting it again with fresh settings can help.
	ErrRefused = errors.New("the engine refused this worker")
	// ErrTwice: another process is this worker.
	ErrTwice = errors.New("another process is this worker")
)

// maxProof bounds proof.json and public.json together, so that they fit into a frame.
const maxProof = 11 << 20

// Causes for which work is given up.
var (
	errCancelled = errors.New("the job was cancelled")
	errLimit     = errors.New("the time limit has passed")
)

// Main is the life of a worker process: it ends when ctx does (work in hand is then given back to the queue), when it
// is told to drain, or when it should be started afresh (nil); or with one of the errors above.
func Main(ctx context.Context, o Options) error {
	if o.ID == "" || o.Role == "" || o.Socket == "" || o.TokenFile == "" || o.Dir == "" || !filepath.IsAbs(o.BlobDir) || o.Logger == nil {
		return errors.New("run worker: options are incomplete")
	}
	if o.Threads <= 0 {
		o.Threads = 1
	}
	if o.KeyBytes <= 0 {
		o.KeyBytes = 1 << 30
	}
	if o.BeatEvery <= 0 {
		o.BeatEvery = time.Second
	}
	if o.ResendAfter <= 0 {
		o.ResendAfter = 5 * time.Second
	}
	if !o.KeepProcs {
		runtime.GOMAXPROCS(o.Threads)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("run worker: %w", err)
	}
	unlock, err := lockDir(o.Dir)
	if err != nil {
		return fmt.Errorf("run worker %s: %w", o.ID, err)
	}
	defer unlock()
	token, err := ReadToken(o.TokenFile)
	if err != nil {
		return fmt.Errorf("run worker %s: %w", o.ID, err)
	}
	w := &worker{o: o, token: token, started: time.Now(), work: make(chan outcome, 1), dialed: make(chan dialResult, 1),
		keys: keyCache{dir: filepath.Clean(o.BlobDir), bound: o.KeyBytes, checked: map[string]fileMark{}}}
	if err := w.recall(); err != nil {
		return fmt.Errorf("run worker %s: %w", o.ID, err)
	}
	// The goroutines outlive ctx until the loop has said goodbye.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	err = w.loop(ctx, inner)
	cancel()
	w.wg.Wait()
	w.keys.close()
	if err != nil {
		return fmt.Errorf("run worker %s: %w", o.ID, err)
	}
	return nil
}

// lockDir makes sure that this directory has one worker. The kernel lets go of the lock when the process ends.
func lockDir(dir string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: it holds %s", ErrTwice, f.Name())
		}
		return nil, err
	}
	return func() { f.Close() }, nil
}

// worker is the state of Main. The loop's goroutine owns it; others send it messages.
type worker struct {
	o       Options
	token   Token
	started time.Time
	wg      sync.WaitGroup
	work    chan outcome
	dialed  chan dialResult
	keys    keyCache // owned by the goroutine that works, of which there is one at a time

	conn    *workerConn // nil: not connected
	dialing bool
	fails   int // dials in a row that failed
	redial  <-chan time.Time
	hand    *hand // nil: nothing in hand
	done    int   // jobs worked on
	drain   string
	failed  error // ends the process once what is in hand was delivered
	quit    error // ends the process now
}

// hand is the one thing that a worker has in hand.
type hand struct {
	order  prover.Order
	cancel context.CancelCauseFunc
	at     atomic.Pointer[prover.Holding] // newest progress, written by the goroutine that works
	result *prover.Report                 // set when only the delivery is left
	sentAt time.Time
}

type outcome struct {
	report   prover.Report
	panicked bool
}

type workerConn struct {
	c     *net.UnixConn
	in    chan *message
	ended chan error // one value, after the last message of in was taken
}

type dialResult struct {
	conn *workerConn
	no   *refusal
	err  error
}

// recall takes up a result that an earlier process of this worker could not deliver.
func (w *worker) recall() error {
	r, err := ReadResult(w.o.Dir)
	if err != nil {
		// Keep the bytes for whoever wants to know, and go on: the job is made again.
		path := filepath.Join(w.o.Dir, resultFile)
		w.o.Logger.Error("a saved result cannot be read; it is put aside and the job is made again", "path", path+".damaged", "error", err)
		return os.Rename(path, path+".damaged")
	}
	if r != nil {
		h := &hand{order: prover.Order{Job: r.Job, Attempt: r.Attempt}, cancel: func(error) {}, result: r}
		h.at.Store(&prover.Holding{Job: r.Job, Attempt: r.Attempt, Progress: 1, Done: true})
		w.hand = h
		w.o.Logger.Info("an earlier process left a result that was not delivered", "job", r.Job, "attempt", r.Attempt)
	}
	return nil
}

// loop runs until outer ends or the process shall. inner ends the goroutines that it starts.
func (w *worker) loop(outer, inner context.Context) error {
	beat := time.NewTicker(w.o.BeatEvery)
	defer beat.Stop()
	defer func() {
		if w.conn != nil {
			w.conn.c.Close()
		}
	}()
	leaving := time.Time{} // when to stop waiting for the acknowledgement of what is saved anyway
	for {
		if w.conn == nil && !w.dialing && w.redial == nil {
			w.dial(inner)
		}
		if w.quit != nil {
			return w.quit
		}
		if (w.drain != "" || w.failed != nil) && w.hand == nil {
			w.say(prover.Report{Kind: prover.ReportBye, Why: w.drain})
			return w.failed
		}
		if w.failed != nil && leaving.IsZero() {
			leaving = time.Now().Add(10 * time.Second)
		}
		var in <-chan *message
		var ended <-chan error
		if w.conn != nil {
			in, ended = w.conn.in, w.conn.ended
		}
		select {
		case <-outer.Done():
			w.leave()
			return nil
		case <-w.redial:
			w.redial = nil
		case d := <-w.dialed:
			w.dialing = false
			if err := w.connected(d); err != nil {
				return err
			}
		case m := <-in:
			w.take(inner, m)
		case err := <-ended:
			w.lost(err)
		case r := <-w.work:
			w.finished(r)
		case <-beat.C:
			w.beat()
			if w.failed != nil && time.Now().After(leaving) {
				return w.failed
			}
		}
	}
}

// leave gives back what is in hand, when the process is told to end.
func (w *worker) leave() {
	bye := prover.Report{Kind: prover.ReportBye, Why: "the process was told to end"}
	if w.hand != nil {
		w.hand.cancel(errCancelled)
		bye.Holding = w.holding()
	}
	w.say(bye)
}

func (w *worker) holding() *prover.Holding {
	if w.hand == nil {
		return nil
	}
	h := *w.hand.at.Load()
	h.Done = w.hand.result != nil
	return &h
}

// say sends a report if somebody listens; a connection that does not take it is given up.
func (w *worker) say(r prover.Report) bool {
	return w.send(&message{Type: "report", Report: &r})
}

func (w *worker) send(m *message) bool {
	if w.conn == nil {
		return false
	}
	b, err := encode(m)
	if err != nil {
		w.o.Logger.Error("a message could not be made", "type", m.Type, "error", err)
		return false
	}
	w.conn.c.SetWriteDeadline(time.Now().Add(writeTime))
	if _, err := w.conn.c.Write(b); err != nil {
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			// The engine closed it. What it said last, as that another process is this worker, is still to
			// be read; the reader comes to the end by itself.
			w.conn.c.SetReadDeadline(time.Now().Add(writeTime))
		} else {
			w.conn.c.Close() // the reader notices and tells
		}
		return false
	}
	return true
}

func (w *worker) beat() {
	w.say(prover.Report{Kind: prover.ReportBeat, Holding: w.holding(), RSSBytes: rssBytes()})
	if w.hand != nil && w.hand.result != nil && time.Since(w.hand.sentAt) >= w.o.ResendAfter {
		w.deliver()
	}
}

func (w *worker) deliver() {
	if w.say(*w.hand.result) {
		w.hand.sentAt = time.Now()
	}
}

// take does what the engine says.
func (w *worker) take(ctx context.Context, m *message) {
	switch {
	case m.Ping != nil:
		w.send(&message{Type: "pong", Pong: m.Ping})
	case m.Order != nil:
		w.obey(ctx, *m.Order)
	case m.Refusal != nil:
		w.o.Logger.Warn("the engine ended the connection", "code", m.Refusal.Code, "reason", m.Refusal.Text)
		w.conn.c.Close()
		if m.Refusal.Code == refuseReplaced {
			w.quit = fmt.Errorf("%w: %s", ErrTwice, m.Refusal.Text)
		}
	default:
		w.o.Logger.Warn("the engine sent what it should not", "type", m.Type)
		w.conn.c.Close()
	}
}

func (w *worker) obey(ctx context.Context, o prover.Order) {
	mine := w.hand != nil && w.hand.order.Job == o.Job && w.hand.order.Attempt == o.Attempt
	switch o.Kind {
	case prover.OrderAck:
		if mine && w.hand.result != nil {
			if err := dropResult(w.o.Dir); err != nil {
				w.o.Logger.Warn("a delivered result stays behind", "error", err)
			}
			w.hand = nil
			w.recycle()
		}
	case prover.OrderCancel:
		if mine {
			w.hand.cancel(errCancelled) // a result that is made already is delivered all the same
		} else {
			w.say(prover.Report{Kind: prover.ReportRefused, Job: o.Job, Attempt: o.Attempt, Why: "the job is not in hand"})
		}
	case prover.OrderDrain:
		w.drain = o.Why
		if w.drain == "" {
			w.drain = "drained"
		}
	case prover.OrderProve, prover.OrderVerify:
		refuse := ""
		switch {
		case mine:
			return
		case w.hand != nil:
			refuse = fmt.Sprintf("job %s is in hand", w.hand.order.Job)
		case w.drain != "" || w.failed != nil:
			refuse = "the process ends soon"
		case (o.Kind == prover.OrderProve) != (w.o.Role == prover.RoleProve):
			refuse = fmt.Sprintf("this worker's role is to %s", w.o.Role)
		}
		if refuse != "" {
			w.say(prover.Report{Kind: prover.ReportRefused, Job: o.Job, Attempt: o.Attempt, Why: refuse})
			return
		}
		w.begin(ctx, o)
	}
}

func (w *worker) begin(ctx context.Context, o prover.Order) {
	cctx, cancel := context.WithCancelCause(ctx)
	stop := func() {}
	if o.LimitMS > 0 {
		cctx, stop = context.WithTimeoutCause(cctx, time.Duration(o.LimitMS)*time.Millisecond, errLimit)
	}
	h := &hand{order: o, cancel: cancel}
	h.at.Store(&prover.Holding{Job: o.Job, Attempt: o.Attempt, Phase: prover.PhaseLoad})
	w.hand = h
	w.done++
	w.wg.Go(func() {
		defer cancel(nil)
		defer stop()
		w.work <- w.do(cctx, h)
	})
}

// do works on an order. A panic of this goroutine becomes a failure; one of another goroutine ends the process, and the
// queue learns of it from the process' end.
func (w *worker) do(ctx context.Context, h *hand) (out outcome) {
	o := h.order
	began := time.Now()
	out.report = prover.Report{Kind: prover.ReportResult, Job: o.Job, Attempt: o.Attempt}
	defer func() {
		if r := recover(); r != nil {
			w.o.Logger.Error("the prover panicked", "job", o.Job, "attempt", o.Attempt, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			out.panicked = true
			out.report.Proof, out.report.Verdict = nil, ""
			out.report.Failure = &prover.Failure{Code: prover.FailInternal, Retry: true, Text: fmt.Sprintf("the prover panicked: %v; its log has the stack", r)}
		}
	}()
	switch o.Kind {
	case prover.OrderProve:
		p, err := w.prove(ctx, h)
		if err == nil {
			p.Worker, p.Attempt, p.ProveTime = w.o.ID, o.Attempt, time.Since(began)
			out.report.Proof = &p
			return out
		}
		out.report.Failure = w.failure(ctx, err)
	case prover.OrderVerify:
		err := w.verify(ctx, h)
		var f prover.Failure
		switch {
		case err == nil:
			out.report.Verdict = prover.VerdictValid
		case errors.As(err, &f) && f.Code == prover.FailProofInvalid:
			out.report.Verdict, out.report.Why = prover.VerdictInvalid, f.Text
		default:
			out.report.Failure = w.failure(ctx, err)
		}
	}
	if out.report.Failure != nil && o.Zkey != nil && ctx.Err() == nil {
		w.keys.forget(o.Zkey.Digest)
	}
	return out
}

func (w *worker) prove(ctx context.Context, h *hand) (prover.Proof, error) {
	o := h.order
	if o.JobKind == prover.EmptyJob {
		return prover.Proof{ProofJSON: []byte("{}"), PublicJSON: []byte("[]")}, context.Cause(ctx)
	}
	key, err := w.key(ctx, o)
	if err != nil {
		return prover.Proof{}, err
	}
	if err := w.keys.check(ctx, "witness", o.Witness); err != nil {
		return prover.Proof{}, err
	}
	proof, public, err := key.Prove(ctx, o.Witness.Path, w.o.Threads, func(p prover.Phase, part float64) {
		h.at.Store(&prover.Holding{Job: o.Job, Attempt: o.Attempt, Phase: p, Progress: min(max(part, 0), 1)})
	})
	if n := len(proof) + len(public); err == nil && n > maxProof {
		return prover.Proof{}, prover.Failure{Code: prover.FailInternal, Text: fmt.Sprintf("proof and public signals have %d bytes, %d are allowed", n, maxProof)}
	}
	return prover.Proof{ProofJSON: proof, PublicJSON: public}, err
}

func (w *worker) verify(ctx context.Context, h *hand) error {
	o := h.order
	if o.JobKind == prover.EmptyJob {
		if string(o.Proof.ProofJSON) != "{}" {
			return prover.Failure{Code: prover.FailProofInvalid, Text: "an empty job has no proof"}
		}
		return context.Cause(ctx)
	}
	key, err := w.key(ctx, o)
	if err != nil {
		return err
	}
	h.at.Store(&prover.Holding{Job: o.Job, Attempt: o.Attempt, Phase: prover.PhaseVerify})
	return key.Verify(ctx, o.Proof.ProofJSON, o.Proof.PublicJSON)
}

func (w *worker) key(ctx context.Context, o prover.Order) (Key, error) {
	b, ok := w.o.Kinds[o.JobKind]
	if !ok {
		return nil, prover.Failure{Code: prover.FailInternal, Text: fmt.Sprintf("this worker cannot prove jobs of kind %q; it may be of an older version", o.JobKind)}
	}
	return w.keys.get(ctx, o.JobKind, b, o.Zkey)
}

// failure puts an error into words for the queue.
func (w *worker) failure(ctx context.Context, err error) *prover.Failure {
	var f prover.Failure
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errLimit):
		return &prover.Failure{Code: prover.FailTimeout, Text: "the time limit passed before the proof was made", Retry: true}
	case cause != nil:
		return &prover.Failure{Code: prover.FailCancelled, Text: cause.Error()}
	case errors.As(err, &f):
		return &f
	}
	return &prover.Failure{Code: prover.FailInternal, Text: err.Error(), Retry: true}
}

// finished takes the outcome of the work: saved first, then sent.
func (w *worker) finished(out outcome) {
	h := w.hand
	h.result = &out.report
	if out.panicked {
		w.failed = ErrPanicked
	}
	// An empty job costs less than the disk does, and a verdict is asked for again by the queue.
	if w.o.Role == prover.RoleProve && h.order.JobKind != prover.EmptyJob {
		if err := saveResult(w.o.Dir, h.result, time.Now()); err != nil {
			w.o.Logger.Error("a result could not be saved; it is lost if this process dies before it is delivered", "job", h.order.Job, "error", err)
		}
	}
	w.deliver()
}

// recycle ends the process between two jobs when it has worked enough.
func (w *worker) recycle() {
	if w.o.MaxJobs > 0 && w.done >= w.o.MaxJobs {
		w.drain = fmt.Sprintf("started afresh after %d jobs", w.done)
	}
	if rss := rssBytes(); w.o.MaxRSSBytes > 0 && rss != nil && *rss > w.o.MaxRSSBytes {
		w.drain = fmt.Sprintf("started afresh: it has grown to %d MiB", *rss>>20)
	}
}

func (w *worker) lost(err error) {
	w.conn.c.Close()
	w.conn = nil
	w.o.Logger.Info("the connection to the engine ended; dialing again", "error", err)
	w.retry()
}

// retry dials again after a pause that grows from 50 ms to 2 s, each a little different from those of other workers.
func (w *worker) retry() {
	pause := 50 * time.Millisecond << min(w.fails, 6)
	pause = min(pause, 2*time.Second)
	w.fails++
	w.redial = time.After(pause*8/10 + rand.N(pause*4/10))
}

func (w *worker) connected(d dialResult) error {
	switch {
	case d.no != nil:
		w.o.Logger.Warn("the engine refused this worker", "code", d.no.Code, "reason", d.no.Text)
		// Nothing unsaved in hand: the supervisor starts us again, with the token of now.
		if (w.hand == nil || w.hand.result != nil) && (d.no.Code == refuseToken || d.no.Code == refuseSchema) {
			return fmt.Errorf("%w: %s", ErrRefused, d.no.Text)
		}
		w.retry()
	case d.err != nil:
		if w.fails == 0 {
			w.o.Logger.Info("the engine does not answer; dialing until it does", "error", d.err)
		}
		w.retry()
	default:
		w.conn = d.conn
		w.fails = 0
		w.o.Logger.Info("connected to the engine")
		if w.hand != nil && w.hand.result != nil {
			w.deliver()
		}
	}
	return nil
}

// dial connects in the background: the work in hand goes on and so does its end.
func (w *worker) dial(ctx context.Context) {
	w.dialing = true
	hi := &message{Type: "hello", Hello: &hello{Schema: Schema, Worker: w.o.ID, Token: shownToken{w.token}, Holding: w.holding(),
		Process: prover.WorkerHello{Role: w.o.Role, PID: os.Getpid(), Version: w.o.Version, StartedAt: w.started.UTC().Round(0)}}}
	w.wg.Go(func() {
		d := greetHub(ctx, w.o.Socket, hi)
		if d.conn != nil {
			w.wg.Go(func() { d.conn.read(ctx) })
		}
		w.dialed <- d // has room: there is one dial at a time
	})
}

// greetHub dials, checks who answers, and says hello.
func greetHub(ctx context.Context, socket string, hi *message) dialResult {
	ctx, cancel := context.WithTimeout(ctx, 2*greetingTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return dialResult{err: err}
	}
	conn := c.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	fail := func(err error) dialResult {
		conn.Close()
		return dialResult{err: err}
	}
	uid, err := peerUID(conn)
	if err != nil {
		return fail(fmt.Errorf("whose process listens on %s cannot be told: %w", socket, err))
	}
	if uid != os.Getuid() {
		return fail(fmt.Errorf("user %d listens on %s, not %d", uid, socket, os.Getuid()))
	}
	b, err := encode(hi)
	if err != nil {
		return fail(err)
	}
	if _, err := conn.Write(b); err != nil {
		return fail(err)
	}
	m, err := readMessage(conn, maxGreeting)
	switch {
	case err != nil:
		return fail(err)
	case m.Refusal != nil:
		conn.Close()
		return dialResult{no: m.Refusal}
	case m.Welcome == nil || !sameMajor(m.Welcome.Schema):
		return fail(fmt.Errorf("%w: %s instead of a welcome", errProtocol, m.Type))
	}
	return dialResult{conn: &workerConn{c: conn, in: make(chan *message), ended: make(chan error, 1)}}
}

// read hands messages to the loop until the connection ends.
func (c *workerConn) read(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { c.c.Close() })
	defer stop()
	for {
		m, err := readMessage(c.c, maxFrame)
		if err != nil {
			c.ended <- err
			return
		}
		select {
		case c.in <- m:
		case <-ctx.Done():
			return
		}
	}
}
