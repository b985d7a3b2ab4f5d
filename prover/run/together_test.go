package run

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"app.provost/prover"
	"app.provost/prover/queue"
)

// engine is a hub and a queue on a board that outlives them.
type engine struct {
	q     *queue.Queue
	blobs *queue.Blobs
	stop  func()
}

func startEngine(t testing.TB, dir string, board queue.Board) *engine {
	t.Helper()
	blobs, err := queue.OpenBlobs(queue.BlobOptions{Dir: filepath.Join(dir, "blobs")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	spawn := func(_ string, fn func(context.Context) error) {
		wg.Go(func() {
			if err := fn(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	hub, err := Listen(HubOptions{Path: SocketIn(dir), Version: "test", Logger: discard, Spawn: spawn,
		Token: func(prover.WorkerID, prover.WorkerRole) (Token, error) { return ReadToken(filepath.Join(dir, "token")) }})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	q, err := queue.New(queue.Options{Board: board, Hub: hub, Files: blobs, Logger: discard, Lease: 5 * time.Second})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	spawn("queue", q.Run)
	return &engine{q, blobs, func() { cancel(); wg.Wait() }}
}

// keeper runs one worker process and starts it again when it ends, as a supervisor does.
type keeper struct {
	dir  string
	id   string
	mu   sync.Mutex
	cmd  *exec.Cmd
	ends bool
	done sync.WaitGroup
	told func(id prover.WorkerID, pid int, left *prover.Report)
}

func (k *keeper) run(t testing.TB) {
	k.done.Go(func() {
		for {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "PROVOST_TEST_WORKER="+k.dir, "PROVOST_TEST_ID="+k.id)
			k.mu.Lock()
			if k.ends {
				k.mu.Unlock()
				return
			}
			if err := cmd.Start(); err != nil {
				t.Error(err)
				k.mu.Unlock()
				return
			}
			k.cmd = cmd
			k.mu.Unlock()
			cmd.Wait()
			left, _ := ReadResult(filepath.Join(k.dir, k.id))
			k.told(prover.WorkerID(k.id), cmd.Process.Pid, left)
		}
	})
}

func (k *keeper) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cmd != nil {
		k.cmd.Process.Kill()
	}
}

func (k *keeper) end() {
	k.mu.Lock()
	k.ends = true
	k.mu.Unlock()
	k.kill()
	k.done.Wait()
}

// acceptOnce counts what counts.
type acceptOnce struct {
	queue.Board
	mu       sync.Mutex
	accepted map[prover.JobID]int
}

func (b *acceptOnce) Apply(ctx context.Context, c []prover.Change) ([]prover.Outcome, error) {
	out, err := b.Board.Apply(ctx, c)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, o := range out {
		if a, ok := c[i].(prover.AcceptProof); ok && o.Err == nil {
			b.accepted[a.Job]++
		}
	}
	return out, err
}

// Real processes over the real socket, killed at random, the engine too: every job is verified exactly once.
func TestProcessesDieUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	p := newPlace(t)
	board := &acceptOnce{Board: queue.NewMemBoard(), accepted: map[prover.JobID]int{}}
	var mu sync.Mutex
	e := startEngine(t, p.dir, board)
	defer func() { e.stop() }()
	told := func(id prover.WorkerID, pid int, left *prover.Report) {
		mu.Lock()
		q := e.q
		mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		q.WorkerExited(ctx, id, pid, left)
	}
	var keepers []*keeper
	for _, id := range []string{"w1", "w2", "verifier"} {
		k := &keeper{dir: p.dir, id: id, told: told}
		k.run(t)
		keepers = append(keepers, k)
		defer k.end()
	}
	const jobs = 200
	var batch []prover.Job
	for n := range jobs {
		key, err := e.blobs.Put(t.Context(), queue.KeyFile, strings.NewReader(fmt.Sprint("key", n%3)))
		if err != nil {
			t.Fatal(err)
		}
		witness, err := e.blobs.Put(t.Context(), queue.WitnessFile, strings.NewReader(fmt.Sprint("witness", n)))
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, prover.Job{ID: prover.JobIDFor("load", n), Kind: prover.Groth16Zkey, Zkey: key, Witness: witness, MaxAttempts: 1000})
	}
	if _, err := e.q.Submit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	for _, j := range batch {
		e.blobs.Drop(queue.KeyFile, j.Zkey.Digest)
		e.blobs.Drop(queue.WitnessFile, j.Witness.Digest)
	}
	r := rand.New(rand.NewPCG(1, 2))
	deadline := time.Now().Add(90 * time.Second)
	for round := 0; ; round++ {
		open, err := board.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(open) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d jobs are open, the first is %s after %d attempts", len(open), jobs, open[0].State, open[0].Attempts)
		}
		time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
		if round < 30 {
			keepers[r.IntN(len(keepers))].kill()
		}
		if round%8 == 7 && round < 30 {
			e.stop()
			mu.Lock()
			e = startEngine(t, p.dir, board)
			mu.Unlock()
		}
	}
	again := 0
	board.mu.Lock()
	accepted := maps.Clone(board.accepted)
	board.mu.Unlock()
	for _, j := range batch {
		tk, err := e.q.Get(t.Context(), j.ID)
		if err != nil || tk.State != prover.JobVerified || accepted[j.ID] != 1 || !strings.HasPrefix(string(tk.Proof.ProofJSON), "proof of witness") {
			t.Errorf("job %s is %s, accepted %d times: %v %v", j.ID, tk.State, accepted[j.ID], tk.Failure, err)
		}
		again += tk.Attempts - 1
	}
	if again == 0 {
		t.Error("no worker was killed in the middle of a job: the test shows nothing")
	}
	t.Logf("%d jobs, %d attempts more", jobs, again)
	waitFor(t, func() bool {
		left, _ := filepath.Glob(filepath.Join(e.blobs.Dir(), "*.wtns"))
		return len(left) == 0
	})
}

// BenchmarkEmptyJobs is what a job costs around its proof: board in memory, one data worker and one verifier, each a
// process of its own, over the socket.
func BenchmarkEmptyJobs(b *testing.B) {
	p := newPlace(b)
	board := queue.NewMemBoard()
	e := startEngine(b, p.dir, board)
	defer e.stop()
	for _, id := range []string{"w1", "verifier"} {
		k := &keeper{dir: p.dir, id: id, told: func(prover.WorkerID, int, *prover.Report) {}}
		k.run(b)
		defer k.end()
	}
	for {
		u, err := e.q.Snapshot(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if len(u.Workers) == 2 && u.Workers[0].Connected && u.Workers[1].Connected {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.ResetTimer()
	var jobs []prover.Job
	for n := range b.N {
		jobs = append(jobs, prover.Job{ID: prover.JobIDFor("bench", n), Kind: prover.EmptyJob, MaxAttempts: 3})
	}
	for len(jobs) > 0 {
		n := min(len(jobs), 1000)
		if _, err := e.q.Submit(b.Context(), jobs[:n]); err != nil {
			b.Fatal(err)
		}
		jobs = jobs[n:]
	}
	for {
		totals, _ := board.Totals(b.Context())
		if totals.Verified == uint64(b.N) {
			break
		}
		time.Sleep(200 * time.Microsecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
