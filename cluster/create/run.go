package create

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/keystore"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// Result is a cluster that was made and verified.
type Result struct {
	Dir        string           `json:"dir"` // absolute
	Network    string           `json:"network"`
	Nodes      int              `json:"nodes"`
	Threshold  int              `json:"threshold"`
	LockHash   cluster.Root     `json:"lock_hash"`
	Validators []cluster.PubKey `json:"validators"` // in the order of the lock
	Files      []PlannedFile    `json:"files"`
	Warnings   []string         `json:"warnings"`
	Notes      []string         `json:"notes"`
	Wiped      []string         `json:"wiped"` // leftovers of killed runs that were removed
	Sources    []Source         `json:"sources,omitempty"`
}

// Progress hears how far a run is: done of total steps, and what is being done. It is called from
// several goroutines but never by two at once, and must return quickly. It may be nil.
type Progress func(done, total int, what string)

// meter serialises calls of a Progress.
type meter struct {
	mu    sync.Mutex // guards done
	done  int
	total int
	tell  Progress
}

func (m *meter) step(what string) {
	if m == nil || m.tell == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done++
	m.tell(m.done, m.total, what)
}

// Run makes the cluster. When it returns an error nothing new is at the target and nothing is left
// beside it; the exceptions are named in the error itself. Errors are *ProblemsError or *Error.
func Run(ctx context.Context, p Params, progress Progress) (res Result, err error) {
	r, err := p.prepare(ctx)
	if err != nil {
		return Result{}, err
	}
	t, err := r.checkTargets()
	if err != nil {
		return Result{}, err
	}
	fail := func(err error) (Result, error) { return Result{}, explain("create cluster in", t.dir, err) }
	delivery, err := r.newDelivery(ctx)
	if err != nil {
		return fail(err)
	}
	defer delivery.close()

	shares := r.Nodes * r.NumValidators
	m := &meter{total: shares + len(r.in.keys) + 3, tell: progress}
	if delivery != nil {
		m.total += shares
	}
	if r.Zipped {
		m.total++
	}
	whole, err := r.openKeys(ctx, m)
	if err != nil {
		return fail(err)
	}
	defer func() {
		for _, k := range whole {
			k.Wipe()
		}
	}()
	wiped, err := cleanLeftovers(t.parent)
	if err != nil {
		return Result{}, err
	}
	s, err := newStage(t)
	if err != nil {
		return Result{}, err
	}
	moved := false
	defer func() {
		if moved {
			return
		}
		if wipeErr := s.discard(); wipeErr != nil {
			err = errors.Join(err, explain("remove the unfinished cluster in", s.dir, wipeErr))
		}
	}()

	w := &writer{resolved: &r, dir: s.dir, whole: whole, delivery: delivery, derived: map[string]keystore.Derived{}}
	defer w.wipe()
	lock, err := w.write(ctx, m)
	if err != nil {
		return fail(err)
	}
	report, err := Verify(ctx, s.dir, Options{open: w.open, sharesElsewhere: delivery != nil})
	if err != nil {
		return fail(err)
	}
	if failed := report.Failures(); len(failed) > 0 {
		return Result{}, &Error{Kind: KindDamaged, Action: "create cluster in", Path: t.dir,
			Err:    fmt.Errorf("what was written doesn't verify: %s: %s", failed[0].ID, failed[0].Problem),
			Remedy: "the disk or the memory may be faulty; nothing was left behind"}
	}
	m.step("checked")
	if r.Zipped {
		if err := pack(ctx, s.dir); err != nil {
			return fail(err)
		}
		m.step("packed")
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if delivery != nil {
		if err := delivery.push(ctx, &r, lock, m); err != nil {
			return Result{}, err
		}
	}
	err = s.moveTo(t)
	if _, gone := os.Lstat(s.dir); errors.Is(gone, fs.ErrNotExist) {
		moved = true
	}
	if err != nil && !moved && delivery != nil {
		return Result{}, delivery.undo(ctx, -1, err)
	}
	if err != nil {
		return Result{}, err
	}
	m.step("in place")

	res = Result{Dir: t.dir, Network: r.network.Name, Nodes: r.Nodes, Threshold: int(r.threshold), LockHash: lock.LockHash,
		Files: r.files(), Warnings: append(r.warnings(), t.warnings...), Notes: r.notes(), Wiped: wiped, Sources: r.sources()}
	for _, v := range lock.Validators {
		res.Validators = append(res.Validators, v.PubKey)
	}
	return res, publishDefinition(r.DefinitionOut, lock.Definition)
}

// writer is one run that fills a stage.
type writer struct {
	*resolved
	dir      string
	whole    []bls.SecretKey // existing keys, none when new ones are made
	delivery *delivery       // nil: key shares are written

	mu      sync.Mutex                  // guards derived
	derived map[string]keystore.Derived // by keystore file, relative to dir
}

func (w *writer) wipe() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.derived {
		d.Wipe()
	}
}

// open opens a keystore that was just written, for checking it. All but the first of each node are
// opened by the key that was derived for writing: deriving it again takes as long as everything else
// together and could only show that PBKDF2 gives the same twice. The first ones show that it does.
func (w *writer) open(ctx context.Context, file string, ks *keystore.Keystore, password keystore.Password) (bls.SecretKey, error) {
	if filepath.Base(file) == keystore.FileName(0, w.strength()) {
		return ks.Decrypt(ctx, password)
	}
	w.mu.Lock()
	d := w.derived[file]
	w.mu.Unlock()
	return ks.DecryptDerived(d, password)
}

// write fills dir with the node directories. The lock files come last, so that what a kill leaves
// never looks like a cluster.
func (r *writer) write(ctx context.Context, m *meter) (*cluster.Lock, error) {
	dir := r.dir
	for n := range r.Nodes {
		for _, d := range r.nodeDirs(n) {
			if err := makeDir(d); err != nil {
				return nil, err
			}
		}
	}
	lock := &cluster.Lock{Definition: r.definition()}

	nodeKeys := make([]enr.Key, r.Nodes)
	defer func() {
		for _, k := range nodeKeys {
			k.Wipe()
		}
	}()
	for n := range nodeKeys {
		key, err := enr.GenerateKey()
		if err != nil {
			return nil, err
		}
		nodeKeys[n] = key
		file := key.ExportFile()
		err = writeFile(filepath.Join(dir, nodeDirName(n), enr.KeyFileName), file, modeNodeKey)
		clear(file)
		if err != nil {
			return nil, err
		}
		if lock.Definition.Operators[n].ENR, err = enr.Text(key); err != nil {
			return nil, err
		}
	}

	sum := new(bls.KeySum)
	defer sum.Wipe()
	if err := r.writeValidators(ctx, lock, sum, m); err != nil {
		return nil, err
	}
	if err := r.seedGuards(ctx, dir); err != nil {
		return nil, err
	}
	if err := r.writeDeposits(dir, lock); err != nil {
		return nil, err
	}
	if err := r.seal(lock, sum, nodeKeys); err != nil {
		return nil, err
	}
	raw, err := lock.Encode()
	if err != nil {
		return nil, err
	}
	for n := range r.Nodes {
		if err := writeFile(filepath.Join(dir, nodeDirName(n), LockFileName), raw, modeLock); err != nil {
			return nil, err
		}
	}
	for n := range r.Nodes {
		for _, d := range r.nodeDirs(n) {
			if err := syncDir(d); err != nil {
				return nil, err
			}
		}
	}
	if err := syncDir(dir); err != nil {
		return nil, err
	}
	m.step("written")
	return lock, nil
}

// nodeDirs are the directories of a node, each before what is in it.
func (r *writer) nodeDirs(n int) []string {
	node := filepath.Join(r.dir, nodeDirName(n))
	if r.delivery != nil {
		return []string{node}
	}
	return []string{node, filepath.Join(node, keysDirName)}
}

// definition is the one of the definition file, where there is one, as its creator agreed to it; nobody
// agreed to the ENRs in it, which are overwritten, as Charon does.
// Addresses are written with their checksum, without which Charon doesn't take a definition.
func (r *resolved) definition() cluster.Definition {
	if r.in.definition != nil {
		d := *r.in.definition
		d.Operators = slices.Clone(d.Operators) // they get ENRs
		return d
	}
	d := cluster.Definition{
		Name:              r.Name,
		Operators:         make([]cluster.Operator, r.Nodes),
		UUID:              strings.ToUpper(uuid.NewString()),
		Version:           r.version,
		Timestamp:         time.Now().UTC().Format(time.RFC3339),
		NumValidators:     r.NumValidators,
		Threshold:         r.threshold,
		Validators:        make([]cluster.ValidatorAddresses, r.NumValidators),
		DKGAlgorithm:      "default",
		ForkVersion:       r.network.Fork,
		DepositAmounts:    r.definedAmounts,
		ConsensusProtocol: r.ConsensusProtocol,
		TargetGasLimit:    r.TargetGasLimit,
		Compounding:       r.Compounding,
	}
	for v := range d.Validators {
		d.Validators[v] = cluster.ValidatorAddresses{
			FeeRecipient: cluster.AddressText(r.feeRecipient[v].Checksummed(enr.Keccak256)),
			Withdrawal:   cluster.AddressText(r.withdrawal[v].Checksummed(enr.Keccak256)),
		}
	}
	return d
}

// writeValidators makes the keys one validator after the other and encrypts their shares on all
// cores. A few shares more than there are cores are in memory, and those of one validator: while one is
// synced to the disk another is encrypted.
func (r *writer) writeValidators(ctx context.Context, lock *cluster.Lock, sum *bls.KeySum, m *meter) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	lock.Validators = make([]cluster.Validator, r.NumValidators)
	for v := range lock.Validators {
		if gctx.Err() != nil {
			break
		}
		shares, err := r.makeValidator(v, &lock.Validators[v])
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		for n, share := range shares {
			if err := sum.Add(share); err != nil {
				g.Go(func() error { return err })
				break
			}
			g.Go(func() error {
				defer share.Wipe()
				if err := gctx.Err(); err != nil {
					return err
				}
				if err := r.writeShare(n, v, share); err != nil {
					return err
				}
				m.step("encrypting key shares")
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// makeValidator draws a key or takes an existing one, signs with it all that it ever signs whole here,
// and returns its shares.
func (r *writer) makeValidator(v int, out *cluster.Validator) (_ []bls.SecretKey, err error) {
	var key bls.SecretKey
	registered := uint64(r.network.GenesisUnix)
	if len(r.whole) > 0 {
		key, registered = r.whole[v], uint64(time.Now().Unix()) // so that it supersedes older ones
	} else if key, err = bls.GenerateKey(); err != nil {
		return nil, err
	}
	defer key.Wipe()
	if out.PubKey, err = key.PubKey(); err != nil {
		return nil, err
	}
	for _, amount := range r.amounts {
		d := cluster.Deposit{DepositMessage: cluster.DepositMessage{
			PubKey:                out.PubKey,
			WithdrawalCredentials: cluster.WithdrawalCredentials(r.withdrawal[v], r.Compounding),
			Amount:                amount,
		}}
		root := d.SigningRoot(r.network.Fork)
		if d.Signature, err = key.Sign(root[:]); err != nil {
			return nil, err
		}
		out.Deposits = append(out.Deposits, d)
	}
	out.Registration.Message = cluster.RegistrationMessage{
		FeeRecipient:  cluster.AddressText(r.feeRecipient[v].String()),
		GasLimit:      r.TargetGasLimit,
		TimestampUnix: registered,
		PubKey:        out.PubKey,
	}
	root, err := out.Registration.Message.SigningRoot(r.network.Fork)
	if err != nil {
		return nil, err
	}
	if out.Registration.Signature, err = key.Sign(root[:]); err != nil {
		return nil, err
	}
	shares, err := bls.Split(key, r.Nodes, r.threshold)
	if err != nil {
		return nil, err
	}
	out.PublicShares = make([]cluster.PubKey, len(shares))
	for i, s := range shares {
		if out.PublicShares[i], err = s.PubKey(); err != nil {
			return nil, err
		}
	}
	return shares, nil
}

func (r *writer) writeShare(n, v int, share bls.SecretKey) error {
	password, err := keystore.NewPassword()
	if err != nil {
		return err
	}
	raw, derived, err := keystore.Seal(share, password, r.strength())
	if err != nil {
		return err
	}
	if r.delivery != nil {
		defer derived.Wipe()
		return r.delivery.add(n, v, share, raw, password, derived)
	}
	name := keystore.FileName(v, r.strength())
	file := nodeDirName(n) + "/" + keysDirName + "/" + name
	r.mu.Lock()
	r.derived[file] = derived
	r.mu.Unlock()
	if err := writeFile(filepath.Join(r.dir, file), raw, modeSecret); err != nil {
		return err
	}
	text := password.Export()
	defer clear(text)
	return writeFile(filepath.Join(r.dir, keystore.PasswordFileName(file)), text, modeSecret)
}

func (r *resolved) writeDeposits(dir string, lock *cluster.Lock) error {
	for i, amount := range r.amounts {
		entries := make([]depositEntry, len(lock.Validators))
		for v := range lock.Validators {
			entries[v] = newDepositEntry(lock.Validators[v].Deposits[i], r.network)
		}
		slices.SortFunc(entries, func(a, b depositEntry) int { return cmp.Compare(a.PubKey, b.PubKey) })
		raw, err := json.MarshalIndent(entries, "", " ")
		if err != nil {
			return err
		}
		for n := range r.Nodes {
			if err := writeFile(filepath.Join(dir, nodeDirName(n), depositFileName(amount)), raw, modeDeposit); err != nil {
				return err
			}
		}
	}
	return nil
}

// seal fills in hashes and signatures.
func (r *resolved) seal(lock *cluster.Lock, sum *bls.KeySum, nodeKeys []enr.Key) (err error) {
	d := &lock.Definition
	if d.ConfigHash, err = d.ComputeConfigHash(); err != nil {
		return err
	}
	if d.DefinitionHash, err = d.ComputeDefinitionHash(); err != nil {
		return err
	}
	if lock.LockHash, err = lock.ComputeHash(); err != nil {
		return err
	}
	if lock.SignatureAggregate, err = sum.Sign(lock.LockHash[:]); err != nil {
		return err
	}
	lock.NodeSignatures = make([]cluster.HexBytes, len(nodeKeys))
	for n, key := range nodeKeys {
		if lock.NodeSignatures[n], err = key.SignHash(lock.LockHash); err != nil {
			return err
		}
	}
	return nil
}

// compact returns JSON without white space, for comparing files, or nil when it isn't JSON.
func compact(raw []byte) []byte {
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return nil
	}
	return out.Bytes()
}
