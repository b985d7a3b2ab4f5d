package wire

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"app.provost/engine/super"
	"app.provost/prover"
	"app.provost/prover/run"
	"app.provost/prover/zkey"
)

// workerArgs are the words after "internal-worker", as workerArgv writes them.
type workerArgs struct {
	id      string
	role    string
	socket  string
	dir     string // the worker's own: token, lock, undelivered result
	blobs   string
	threads int
}

func (a workerArgs) argv() []string {
	return []string{"", "internal-worker", "--id", a.id, "--role", a.role, "--socket", a.socket, "--dir", a.dir, "--blobs", a.blobs,
		"--threads", fmt.Sprint(a.threads)}
}

const tokenFile = "token"

// WorkerMain is the worker process: it proves or verifies for the engine on a
// socket until it is told to end. args are the words after "internal-worker".
// It returns the process's exit code.
func WorkerMain(args []string, version string) int {
	var a workerArgs
	f := flag.NewFlagSet("internal-worker", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&a.id, "id", "", "")
	f.StringVar(&a.role, "role", "", "")
	f.StringVar(&a.socket, "socket", "", "")
	f.StringVar(&a.dir, "dir", "", "")
	f.StringVar(&a.blobs, "blobs", "", "")
	f.IntVar(&a.threads, "threads", 1, "")
	log := slog.New(newHandler(os.Stdout, FormatText, slog.LevelInfo))
	if err := f.Parse(args); err != nil {
		log.Error("worker.args", "err", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log.Info("worker.start", "worker", a.id, "role", a.role, "pid", os.Getpid(), "version", version)
	err := run.Main(ctx, run.Options{
		ID: prover.WorkerID(a.id), Role: prover.WorkerRole(a.role), Socket: a.socket, TokenFile: filepath.Join(a.dir, tokenFile),
		Dir: a.dir, BlobDir: a.blobs, Version: version, Logger: log, Threads: a.threads,
		Kinds: map[prover.JobKind]run.Backend{prover.Groth16Zkey: {OpenKey: openZkey}},
	})
	if err != nil {
		log.Error("worker.end", "worker", a.id, "err", err)
		return 1
	}
	log.Info("worker.end", "worker", a.id)
	return 0
}

func openZkey(_ context.Context, path string) (run.Key, error) {
	k, err := zkey.Open(path)
	if err != nil {
		return nil, zkeyFailure(err)
	}
	return &zkeyKey{k: k}, nil
}

// zkeyKey makes and checks snarkjs' JSON with a key.
type zkeyKey struct {
	k  *zkey.Key
	vk *zkey.VerifyingKey // read when it is first needed
}

func (z *zkeyKey) Prove(ctx context.Context, witness string, threads int, progress func(prover.Phase, float64)) (proof, public []byte, err error) {
	w, err := zkey.OpenWitness(witness)
	if err != nil {
		return nil, nil, witnessFailure(err)
	}
	defer w.Close()
	p, pub, err := zkey.Prove(ctx, z.k, w, zkey.Options{Workers: threads, OnProgress: func(at zkey.Progress) {
		progress(at.Phase, float64(at.Done)/float64(max(at.Total, 1)))
	}})
	if err != nil {
		return nil, nil, zkeyFailure(err)
	}
	if proof, err = json.Marshal(p); err != nil {
		return nil, nil, err
	}
	public, err = json.Marshal(pub)
	return proof, public, err
}

func (z *zkeyKey) Verify(_ context.Context, proof, public []byte) error {
	if z.vk == nil {
		vk, err := z.k.VerifyingKey()
		if err != nil {
			return zkeyFailure(err)
		}
		z.vk = vk
	}
	p, err := zkey.ParseProof(proof)
	if err == nil {
		var pub zkey.Public
		if pub, err = zkey.ParsePublic(public); err == nil {
			err = zkey.Verify(z.vk, pub, p)
		}
	}
	if errors.Is(err, zkey.ErrProofInvalid) || errors.Is(err, zkey.ErrMalformed) {
		return prover.Failure{Code: prover.FailProofInvalid, Retry: true,
			Text: "the proof does not hold: the witness does not satisfy the circuit's constraints, or the proving key is damaged (" + err.Error() + ")"}
	}
	return err
}

// ResidentBytes: a key is read in blocks through the page cache; only the verifying key and tables stay.
func (z *zkeyKey) ResidentBytes() int64 { return int64(z.k.Header().Public+64) * 256 }

func (z *zkeyKey) Close() error { return z.k.Close() }

// zkeyFailure tells the operator's words for what is wrong with a key or its witness. Other
// errors (no memory, disk) can end differently another time.
func zkeyFailure(err error) error {
	for _, f := range []struct {
		kind error
		code string
	}{
		{zkey.ErrWitnessMismatch, prover.FailWitnessMismatch},
		{zkey.ErrWrongCurve, prover.FailZkeyUnfit},
		{zkey.ErrUnsupported, prover.FailZkeyUnfit},
		{zkey.ErrNotWitness, prover.FailWitnessDamaged},
		{zkey.ErrNotZkey, prover.FailZkeyDamaged},
		{zkey.ErrDamaged, prover.FailZkeyDamaged},
	} {
		if errors.Is(err, f.kind) {
			return prover.Failure{Code: f.code, Text: err.Error()}
		}
	}
	return err
}

// witnessFailure is zkeyFailure for what was read as a witness.
func witnessFailure(err error) error {
	if errors.Is(err, zkey.ErrDamaged) || errors.Is(err, zkey.ErrUnsupported) {
		return prover.Failure{Code: prover.FailWitnessDamaged, Text: err.Error()}
	}
	return zkeyFailure(err)
}

// StubMain is the process that watches a worker; see super.StubMain.
func StubMain(args []string) int { return super.StubMain(args) }
