// Package demo is the practice installation behind "provost demo": a supervisor
// that holds the terminal, a keeper, an engine and its workers, each a process of
// its own, all inside one temporary directory.
//
// Promises: what dies is restarted while the demo runs. When the supervisor ends,
// however it ends (SIGKILL too), the keeper ends every process of the demo and
// removes the directory. Nothing outside the directory is written.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"app.provost/assets"
	"app.provost/engine"
)

// Schema is the version of the object that a headless demo prints.
const Schema = "provost.demo/1"

// Options of a demo. All functions are needed but Screen, which is needed with a screen.
type Options struct {
	Exe     string        // this binary
	Workers int           // data workers; 0: two
	For     time.Duration // 0: until stopped; headless only
	JSON    bool
	// CreateCluster makes the practice cluster's directories.
	CreateCluster func(ctx context.Context, a engine.CreateCluster) error
	// Chain reads the account of the practice chain at an address.
	Chain func(ctx context.Context, address string) (Chain, error)
	// Screen shows the dashboard of the engine on a socket until its user leaves. Nil: headless.
	Screen func(ctx context.Context, socket string) error
	// Dial connects to an engine.
	Dial func(ctx context.Context, socket string) (engine.Engine, func() error, error)
	Out  io.Writer // the answer
	Err  io.Writer // talk
}

// The practice cluster and its chain.
const (
	nodes         = 4
	threshold     = 3
	validators    = 8
	slotDuration  = 2 * time.Second
	slotsPerEpoch = 4
	// genesisIn is long enough for four nodes to start on a slow machine: a duty that
	// nobody was there for would count as missed.
	genesisIn = 12 * time.Second
)

// Chain is the account of a practice chain. Duties count once they are included, or
// missed because their inclusion window has closed.
type Chain struct {
	Slots              int
	Attester, Proposer DutyCount
	Slashable          int
}

// Report is the object of a headless demo. A part that is not there is null, never 0.
type Report struct {
	Schema    string       `json:"schema"`
	Cluster   *ClusterPart `json:"cluster"`
	Slots     *int         `json:"slots"`
	Duties    *DutiesPart  `json:"duties"`
	Slashable *int         `json:"slashable"`
	Jobs      *JobsPart    `json:"jobs"`
	Workers   *WorkersPart `json:"workers"`
}

// ClusterPart describes the distributed-validator cluster.
type ClusterPart struct {
	Nodes      int `json:"nodes"`
	Threshold  int `json:"threshold"`
	Validators int `json:"validators"`
}

// DutiesPart counts duties whose inclusion window has closed.
type DutiesPart struct {
	Attester DutyCount `json:"attester"`
	Proposer DutyCount `json:"proposer"`
}

// DutyCount counts duties of one type.
type DutyCount struct {
	Expected int `json:"expected"`
	Included int `json:"included"`
	Missed   int `json:"missed"`
}

// JobsPart counts proof jobs of the demo.
type JobsPart struct {
	Submitted uint64 `json:"submitted"`
	Verified  uint64 `json:"verified"`
	Failed    uint64 `json:"failed"`
}

// WorkersPart counts data workers.
type WorkersPart struct {
	Running  int `json:"running"`
	Restarts int `json:"restarts"`
}

// settleLimit is how long the demo waits for jobs in hand when it ends.
const settleLimit = 60 * time.Second

// Run runs a demo until its user leaves, For has passed, or ctx is done. The exit
// code is ExitPartly when a job failed, with the report still printed.
func Run(ctx context.Context, o Options) (engine.ExitCode, error) {
	if o.Workers == 0 {
		o.Workers = 2
	}
	dir, err := os.MkdirTemp("", "provost-demo-")
	if err != nil {
		return engine.ExitUnexpected, engine.Problem{Code: engine.CodeDirUnwritable, Exit: engine.ExitUnexpected, Doing: "demo",
			Remedy: "free some space there, or set TMPDIR to a directory that can be written"}.Because(err)
	}
	chain, err := freeAddress()
	if err != nil {
		os.RemoveAll(dir)
		return engine.ExitUnexpected, fmt.Errorf("demo: find a port for the practice chain: %w", err)
	}
	// The keeper comes first: from then on the directory goes whatever happens. It waits for the cluster.
	k, err := startKeeper(o.Exe, dir, chain, o.Workers)
	if err != nil {
		os.RemoveAll(dir)
		return engine.ExitUnexpected, fmt.Errorf("demo: start the keeper: %w", err)
	}
	code, runErr := run(ctx, o, k, dir, chain)
	if err := k.end(15 * time.Second); err != nil {
		runErr = errors.Join(runErr, fmt.Errorf("demo: end: %w", err))
	}
	if _, err := os.Lstat(dir); err == nil {
		if err := os.RemoveAll(dir); err != nil {
			runErr = errors.Join(runErr, fmt.Errorf("demo: remove %s: %w", dir, err))
		}
	}
	if runErr != nil && code == engine.ExitOK {
		code = engine.ExitOf(runErr)
	}
	return code, runErr
}

func run(ctx context.Context, o Options, k *keeper, dir, chain string) (engine.ExitCode, error) {
	const burn = "0x000000000000000000000000000000000000dEaD"
	if err := o.CreateCluster(ctx, engine.CreateCluster{Name: "practice", Dir: clusterIn(dir), Nodes: nodes, Threshold: threshold, NumValidators: validators,
		WithdrawalAddresses: []string{burn}, FeeRecipientAddresses: []string{burn}, Network: "hoodi", InsecureKeys: true}); err != nil {
		return engine.ExitOf(err), err
	}
	circuits := filepath.Join(dir, "circuits")
	if err := os.Mkdir(circuits, 0o700); err != nil {
		return engine.ExitUnexpected, fmt.Errorf("demo: %w", err)
	}
	// The keeper starts the engine at the same time.
	if err := assets.WriteDemo(circuits); err != nil {
		return engine.ExitUnexpected, fmt.Errorf("demo: %w", err)
	}
	socket := socketIn(dir)
	e, closeEngine, err := dial(ctx, o, k, socket, dir)
	if err != nil {
		return engine.ExitUnexpected, err
	}
	defer closeEngine()

	feedCtx, stopFeeding := context.WithCancel(ctx)
	defer stopFeeding()
	f := newFeeder(e, circuits)
	fed := make(chan error, 1)
	go func() { fed <- f.run(feedCtx) }()

	if o.Screen != nil {
		err := o.Screen(ctx, socket)
		stopFeeding()
		<-fed
		return engine.ExitOf(err), err
	}
	fmt.Fprintf(o.Err, "practice engine on %s; look at it with: provost attach --socket %s\n", socket, socket)
	var timer <-chan time.Time
	if o.For > 0 {
		timer = time.After(o.For)
	}
	var feedErr error
	interrupted := false
	select {
	case <-timer:
	case <-ctx.Done():
		interrupted = true
	case feedErr = <-fed:
		fed <- nil
	}
	stopFeeding()
	<-fed
	// The chain goes on while jobs are finished; what is judged is judged now.
	account, chainErr := o.Chain(context.WithoutCancel(ctx), chain)
	// Jobs in hand are finished: a job that was submitted is judged.
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	rep, err := report(settle, e, f.submitted)
	if err != nil {
		return engine.ExitUnexpected, errors.Join(feedErr, err)
	}
	rep.Cluster = &ClusterPart{Nodes: nodes, Threshold: threshold, Validators: validators}
	if chainErr == nil {
		rep.Slots, rep.Slashable = &account.Slots, &account.Slashable
		rep.Duties = &DutiesPart{Attester: account.Attester, Proposer: account.Proposer}
	}
	if err := write(o, rep); err != nil {
		return engine.ExitUnexpected, err
	}
	switch {
	case chainErr != nil:
		return engine.ExitUnexpected, fmt.Errorf("demo: %w", chainErr)
	case account.Slashable > 0 || account.Attester.Missed > 0 || account.Proposer.Missed > 0:
		return engine.ExitPartly, nil
	case feedErr != nil:
		return engine.ExitUnexpected, feedErr
	case rep.Jobs.Failed > 0 || rep.Jobs.Verified != rep.Jobs.Submitted:
		return engine.ExitPartly, nil
	case interrupted:
		return engine.ExitInterrupt, nil
	}
	return engine.ExitOK, nil
}

// dial waits for the engine, which the keeper starts. It gives up early when the keeper ended.
func dial(ctx context.Context, o Options, k *keeper, socket, dir string) (engine.Engine, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		e, done, err := o.Dial(ctx, socket)
		if err == nil {
			return e, done, nil
		}
		select {
		case <-k.exited:
			return nil, nil, fmt.Errorf("demo: the keeper ended before the engine was there%s", tail(filepath.Join(dir, "keeper.log")))
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("demo: the engine did not answer on %s: %w%s", socket, err, tail(filepath.Join(dir, "keeper.log")))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail gives the last line of a log for an error text.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return ""
	}
	if len(b) > 600 {
		b = b[len(b)-600:]
	}
	return "; its log ends with: " + string(b)
}

// report waits until every submitted job is known and has ended, and counts.
func report(ctx context.Context, e engine.Engine, submitted uint64) (Report, error) {
	feed, err := e.Watch(ctx, engine.WatchOptions{})
	if err != nil {
		return Report{}, fmt.Errorf("demo: read the result: %w", err)
	}
	defer feed.Close()
	for {
		u, err := feed.Next(ctx)
		if err != nil {
			return Report{}, fmt.Errorf("demo: read the result: %w", err)
		}
		s := u.Snapshot
		if s.Jobs == nil || s.Jobs.Totals.Queued+s.Jobs.Totals.Leased+s.Jobs.Totals.Proved > 0 || s.Jobs.Totals.Submitted < submitted {
			continue
		}
		t := s.Jobs.Totals
		w := WorkersPart{}
		for _, row := range s.Workers.List() {
			w.Restarts += row.Restarts
			switch row.State {
			case engine.WorkerRun, engine.WorkerIdle:
				w.Running++
			}
		}
		return Report{Schema: Schema, Jobs: &JobsPart{t.Submitted, t.Verified, t.Failed}, Workers: &w}, nil
	}
}

func write(o Options, r Report) error {
	if o.JSON {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(o.Out, "%s\n", b)
		return err
	}
	if r.Duties != nil {
		fmt.Fprintf(o.Out, "practice cluster: %d nodes, threshold %d, %d validators, %d slots; attestations %d of %d included, proposals %d of %d, slashable %d\n",
			r.Cluster.Nodes, r.Cluster.Threshold, r.Cluster.Validators, *r.Slots, r.Duties.Attester.Included, r.Duties.Attester.Expected,
			r.Duties.Proposer.Included, r.Duties.Proposer.Expected, *r.Slashable)
	}
	_, err := fmt.Fprintf(o.Out, "practice run: %d jobs submitted, %d verified, %d failed; %d workers running, %d restarts\n",
		r.Jobs.Submitted, r.Jobs.Verified, r.Jobs.Failed, r.Workers.Running, r.Workers.Restarts)
	return err
}

// freeAddress is an address on loopback that nobody listens on now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// clusterIn is there, whole, once the cluster is made.
func clusterIn(dir string) string { return filepath.Join(dir, "cluster") }

func socketIn(dir string) string { return filepath.Join(dir, "run", "engine.sock") }

// keeper is the supervisor's side of the keeper process. A keeper that dies is
// started again: its engine dies with it (parent-death signal) and the next one
// starts another, which finds the workers still proving.
type keeper struct {
	exe, dir string
	chain    string // address of the practice chain
	workers  int
	exited   chan struct{} // closed when no keeper runs any more
	err      error         // how the last one ended; valid after exited

	mu     sync.Mutex // guards what follows
	stdin  io.WriteCloser
	proc   *os.Process
	ending bool
}

// maxKeepers bounds how often a keeper is started: one that cannot live says so in its log.
const maxKeepers = 20

func startKeeper(exe, dir, chain string, workers int) (*keeper, error) {
	k := &keeper{exe: exe, dir: dir, chain: chain, workers: workers, exited: make(chan struct{})}
	cmd, err := k.start()
	if err != nil {
		return nil, err
	}
	go k.keep(cmd) // ends with the last keeper; end waits for it
	return k, nil
}

func (k *keeper) keep(cmd *exec.Cmd) {
	defer close(k.exited)
	for n := 1; ; n++ {
		k.err = cmd.Wait()
		k.mu.Lock()
		ending := k.ending
		k.mu.Unlock()
		if ending || n == maxKeepers {
			return
		}
		time.Sleep(200 * time.Millisecond)
		next, err := k.start()
		if err != nil {
			k.err = err
			return
		}
		cmd = next
	}
}

func (k *keeper) start() (*exec.Cmd, error) {
	log, err := os.OpenFile(filepath.Join(k.dir, "keeper.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(k.exe, "internal-keeper", "--dir", k.dir, "--chain", k.chain, "--workers", fmt.Sprint(k.workers))
	cmd.Stdout, cmd.Stderr = log, log
	// A session of its own: a hang-up or ctrl+c of the terminal is for the supervisor.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending {
		return nil, errors.New("the demo is ending")
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	k.stdin, k.proc = stdin, cmd.Process
	return cmd, nil
}

// end closes the keeper's standard input, which is its sign to end everything, and waits.
func (k *keeper) end(limit time.Duration) error {
	k.mu.Lock()
	k.ending = true
	k.stdin.Close()
	k.mu.Unlock()
	select {
	case <-k.exited:
		return k.err
	case <-time.After(limit):
		k.mu.Lock()
		k.proc.Kill()
		k.mu.Unlock()
		<-k.exited
		return fmt.Errorf("the keeper did not end within %s and was killed", limit)
	}
}
