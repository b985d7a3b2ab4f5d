package combine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"app.provost/cluster"
	"app.provost/cluster/internal/aside"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/keystore"

	"golang.org/x/sync/errgroup"
)

// File is one that is or will be written, relative to the target.
type File struct {
	Name string
	Mode os.FileMode
}

// Outcome is what Run would make, or made.
type Outcome struct {
	Dir        string // absolute
	Name       string // of the cluster
	Network    string
	LockHash   cluster.Root
	Threshold  int
	Operators  int
	Nodes      []string         // whose shares are used, with their directories
	Validators []cluster.PubKey // in the order of the lock
	Files      []File
	// Gaps say why the history isn't whole; none when it is. History is nil when nothing is known.
	Gaps    []string
	History *History
	Wiped   []string // what killed runs had left
}

// Plan says what Run would make and refuses what Run would refuse, as far as it can be known without
// opening a keystore. It writes nothing. Errors are *Error.
func Plan(ctx context.Context, p Params, o Options) (Outcome, error) {
	s, err := look(ctx, p, o)
	if err != nil {
		return Outcome{}, err
	}
	return s.outcome(), nil
}

func (s *survey) outcome() Outcome {
	out := Outcome{Dir: s.target, Name: s.lock.Definition.Name, Network: s.network(), LockHash: s.lock.LockHash, Threshold: int(s.lock.Definition.Threshold), Operators: len(s.lock.Definition.Operators), Gaps: s.gaps}
	for _, n := range s.nodes {
		out.Nodes = append(out.Nodes, n.name())
	}
	for v, val := range s.lock.Validators {
		name := keystore.FileName(v, keystore.Full)
		out.Validators = append(out.Validators, val.PubKey)
		out.Files = append(out.Files, File{name, 0o600}, File{keystore.PasswordFileName(name), 0o400})
	}
	if s.history.Marks != nil {
		h := s.history
		out.History = &h
		out.Files = append(out.Files, File{s.historyName(), 0o600})
	}
	return out
}

func (s *survey) historyName() string {
	if s.whole {
		return HistoryName
	}
	return PartHistoryName
}

// Run combines the keys. When it returns an error nothing new is at the target and nothing is left
// beside it. Errors are *Error.
func Run(ctx context.Context, p Params, o Options) (out Outcome, err error) {
	s, err := look(ctx, p, o)
	if err != nil {
		return Outcome{}, err
	}
	stage, err := aside.New(filepath.Dir(s.target), "combine")
	if err != nil {
		return Outcome{}, targetError(s.target, err)
	}
	defer func() {
		if wipe := stage.Discard(); wipe != nil {
			err = errors.Join(err, &Error{Code: CodeFailed, Path: stage.Dir, Err: fmt.Errorf("remove the unfinished keys: %w", wipe), Remedy: "remove it yourself: it holds keys"})
		}
	}()
	if err := s.write(ctx, stage, o); err != nil {
		var own *Error
		switch {
		case errors.As(err, &own):
			return Outcome{}, err
		case ctx.Err() != nil:
			return Outcome{}, &Error{Code: CodeCancelled, Err: context.Cause(ctx), Remedy: "nothing was left behind"}
		}
		return Outcome{}, targetError(s.target, err)
	}
	if err := s.unchanged(o); err != nil {
		return Outcome{}, err
	}
	if err := ctx.Err(); err != nil {
		return Outcome{}, &Error{Code: CodeCancelled, Err: context.Cause(ctx), Remedy: "nothing was left behind"}
	}
	if err := stage.Commit(s.target); err != nil {
		return Outcome{}, targetError(s.target, err)
	}
	out = s.outcome()
	out.Wiped = stage.Wiped
	return out, nil
}

func (s *survey) write(ctx context.Context, stage *aside.Stage, o Options) error {
	var mu sync.Mutex // guards done, and Progress from being called by two
	done, total := 0, len(s.lock.Validators)*(len(s.nodes)+1)
	step := func(what string) {
		if o.Progress == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		done++
		o.Progress(done, total, what)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for v := range s.lock.Validators {
		g.Go(func() error { return s.combine(gctx, stage, v, step) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if s.history.Marks == nil {
		return nil
	}
	var text bytes.Buffer
	if err := o.WriteHistory(&text, s.history); err != nil {
		return err
	}
	return stage.WriteFile(s.historyName(), text.Bytes(), 0o600)
}

// combine makes one validator's key from all shares that were given, and writes it.
func (s *survey) combine(ctx context.Context, stage *aside.Stage, v int, step func(string)) error {
	validator := s.lock.Validators[v].PubKey
	shares := map[cluster.ShareIndex]bls.SecretKey{}
	defer func() {
		for _, k := range shares {
			k.Wipe()
		}
	}()
	for _, n := range s.nodes {
		key, err := openShare(ctx, n.files[validator], s.lock.Validators[v].PublicShares[n.share.Peer()])
		if err != nil {
			return err
		}
		shares[n.share] = key
		step("opening key shares")
	}
	whole, err := bls.RecoverSecret(shares)
	if err != nil {
		return &Error{Code: CodeBroken, Err: fmt.Errorf("validator %d: %w", v, err)}
	}
	defer whole.Wipe()
	if pub, err := whole.PubKey(); err != nil || pub != validator {
		return &Error{Code: CodeBroken, Err: fmt.Errorf("validator %d: the shares don't make the key %s: the lock's shares don't belong together", v, validator), Remedy: "compare the locks with those of the other operators"}
	}
	password, err := keystore.NewPassword()
	if err != nil {
		return err
	}
	raw, err := keystore.Encrypt(whole, password, keystore.Full)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	name := keystore.FileName(v, keystore.Full)
	if err := stage.WriteFile(name, raw, 0o600); err != nil {
		return err
	}
	file := password.Export()
	defer clear(file)
	if err := stage.WriteFile(keystore.PasswordFileName(name), file, 0o400); err != nil {
		return err
	}
	step("encrypting keys")
	return nil
}

// openShare opens a keystore; the key in it is the one of the lock's public share.
func openShare(ctx context.Context, path string, pub cluster.PubKey) (bls.SecretKey, error) {
	fail := func(path string, err error) (bls.SecretKey, error) {
		if ctx.Err() != nil {
			return bls.SecretKey{}, ctx.Err()
		}
		return bls.SecretKey{}, &Error{Code: CodeBroken, Path: path, Err: plain(err), Remedy: takeFromBackup}
	}
	raw, err := readFile(path, keystore.MaxFileBytes)
	if err != nil {
		return fail(path, err)
	}
	ks, err := keystore.Parse(raw)
	if err == nil && ks.PubKey != pub {
		err = errors.New("it was exchanged meanwhile")
	}
	if err != nil {
		return fail(path, err)
	}
	secret := filepath.Join(filepath.Dir(path), keystore.PasswordFileName(filepath.Base(path)))
	text, err := readFile(secret, keystore.MaxPasswordBytes)
	defer clear(text)
	if err != nil {
		return fail(secret, err)
	}
	password, err := keystore.ParsePassword(text)
	if err != nil {
		return fail(secret, err)
	}
	key, err := ks.Decrypt(ctx, password)
	if err != nil {
		return fail(path, err)
	}
	return key, nil
}

// unchanged makes sure that no node was started while the keys were made.
func (s *survey) unchanged(o Options) error {
	for _, n := range s.nodes {
		if err := n.unused(); err != nil {
			return err
		}
		now, err := o.History(n.dir)
		if errors.Is(err, ErrInUse) {
			return &Error{Code: CodeRunning, Path: n.dir, Err: err, Remedy: "stop the node for good first"}
		}
		if err != nil {
			now = nil
		}
		if (now == nil) != (n.has == nil) || now != nil && !maps.Equal(now.Marks, n.has.Marks) {
			return &Error{Code: CodeRunning, Path: n.dir, Err: errors.New("the node signed while its keys were combined"), Remedy: "stop it for good, and combine again"}
		}
	}
	return nil
}
