// Package nodedir opens the directory of one node, as Provost or Charon made it, and checks at the
// start what a running node relies on: the lock is whole and everybody signed it, the node key is
// one of the lock's, and every validator's key share is there and is this node's.
//
// Open reads and changes nothing. It takes a second or two of processor time per thousand
// validators for the lock, and for full-strength keystores about a tenth of a second each, on all
// cores; it stops when its context ends. The result holds secrets; its owner wipes them.
package nodedir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/keystore"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Names within a node directory, and bounds on its files.
const (
	LockName = "cluster-lock.json"
	KeysName = "validator_keys"

	maxLockBytes    = 64 << 20
	maxKeyFileBytes = 1 << 10
	maxEntries      = 4 * cluster.MaxValidators
)

// Code says what is wrong. The zero value is nothing.
type Code string

// The codes.
const (
	CodeMissing         Code = "directory.missing"     // there is no node here
	CodeUnreadable      Code = "directory.unreadable"  // rights, or the disk
	CodeLockMissing     Code = "lock.missing"          //
	CodeLockMalformed   Code = "lock.malformed"        // no lock, or of an unknown version
	CodeLockTampered    Code = "lock.tampered"         // hashes, signatures or shares don't fit
	CodeKeyMissing      Code = "node-key.missing"      //
	CodeKeyMalformed    Code = "node-key.malformed"    //
	CodeForeignLock     Code = "lock.other-cluster"    // the node key is nobody's in the lock
	CodeShareMissing    Code = "key-share.missing"     // a validator has no keystore
	CodeShareUnreadable Code = "key-share.unreadable"  // a keystore doesn't open
	CodeForeignShare    Code = "key-share.other-node"  // a keystore holds another node's share
	CodeUnknownShare    Code = "key-share.not-in-lock" // or one of no validator here
	CodeWholeKey        Code = "key-share.whole-key"   // a keystore holds a validator's whole key
	CodeLooseModes      Code = "modes.loose"           // others may read secrets
)

// Error says what is wrong with a directory, where, and what to do.
type Error struct {
	Code   Code
	Path   string
	Err    error
	Remedy string
}

// Error returns everything in one line.
func (e *Error) Error() string {
	return fmt.Sprintf("open node directory: %s: %v; %s", e.Path, e.Err, e.Remedy)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Finding is something that should be mended but doesn't keep the node from running.
type Finding struct {
	Code    Code
	Problem string
	Remedy  string
}

// Options say how strict to be.
type Options struct {
	// AllowLooseModes runs although others may read secrets; without it that is refused on networks
	// that hold value.
	AllowLooseModes bool
	Workers         int // 0: as many as cores
	// Progress is told keystores opened, of how many. It must return at once. May be nil.
	Progress func(done, all int)
}

// Directory is what was read. Peers and shares are those of the lock.
type Directory struct {
	Path     string
	Lock     *cluster.Lock
	Self     cluster.PeerIndex
	Key      enr.Key
	NodeKeys []enr.PubKey                     // of the operators
	Shares   map[cluster.PubKey]bls.SecretKey // by the validator's key
	Insecure bool                             // keystores that anybody who reads them can open
	Findings []Finding
}

// Wipe overwrites all secrets.
func (d *Directory) Wipe() {
	d.Key.Wipe()
	for _, k := range d.Shares {
		k.Wipe()
	}
}

// Remedies.
const (
	takeFromBackup = "take the file from a backup, or look whether it was moved"
	beTheOwner     = "run this as the owner of the files"
	takeWholeLock  = "the file was changed or damaged after it was made: take it from another node or from a backup"
)

// Open reads a node directory. Errors are *Error, or the context's.
func Open(ctx context.Context, dir string, o Options) (*Directory, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, &Error{CodeMissing, dir, err, "name the directory of a node"}
	}
	d := &Directory{Path: abs, Shares: map[cluster.PubKey]bls.SecretKey{}}
	for _, step := range []func(context.Context, Options) error{d.readLock, d.readKey, d.verifyLock, d.readShares} {
		if err := step(ctx, o); err != nil {
			d.Wipe()
			return nil, err
		}
	}
	return d, nil
}

func (d *Directory) readLock(context.Context, Options) error {
	path := filepath.Join(d.Path, LockName)
	raw, _, err := readFile(path, maxLockBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, dirErr := os.Stat(d.Path); errors.Is(dirErr, fs.ErrNotExist) {
			return &Error{CodeMissing, d.Path, errors.New("there is no such directory"), "name the directory of a node, such as node0 of a cluster"}
		}
		return &Error{CodeLockMissing, path, errors.New("the lock is missing"), takeFromBackup}
	case err != nil:
		return &Error{CodeUnreadable, path, err, beTheOwner}
	}
	lock := new(cluster.Lock)
	if err := json.Unmarshal(raw, lock); err != nil {
		return &Error{CodeLockMalformed, path, err, takeWholeLock}
	}
	if err := lock.Definition.Version.Supported(); err != nil {
		return &Error{CodeLockMalformed, path, err, "use a newer version of this program"}
	}
	d.Lock = lock
	return nil
}

func (d *Directory) readKey(_ context.Context, o Options) error {
	path := filepath.Join(d.Path, enr.KeyFileName)
	raw, info, err := readFile(path, maxKeyFileBytes)
	defer clear(raw)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Error{CodeKeyMissing, path, errors.New("the node key is missing"), takeFromBackup}
	case err != nil:
		return &Error{CodeUnreadable, path, err, beTheOwner}
	}
	if d.Key, err = enr.ParseKeyFile(raw); err != nil {
		return &Error{CodeKeyMalformed, path, err, "put back the key file as it was made, from a backup"}
	}
	if err := d.checkModes(o, "0600", []string{path}, []fs.FileInfo{info}); err != nil {
		return err
	}
	own, self := d.Key.PubKey(), -1
	for i, op := range d.Lock.Definition.Operators {
		rec, err := enr.Parse(op.ENR)
		if err != nil {
			return &Error{CodeLockTampered, filepath.Join(d.Path, LockName), fmt.Errorf("cluster_definition.operators[%d].enr: %w", i, err), takeWholeLock}
		}
		if slices.Contains(d.NodeKeys, rec.PubKey) {
			return &Error{CodeLockTampered, filepath.Join(d.Path, LockName), fmt.Errorf("cluster_definition.operators[%d].enr: another operator has the same node key", i), "the cluster was made wrongly: ask who made it"}
		}
		d.NodeKeys = append(d.NodeKeys, rec.PubKey)
		if rec.PubKey == own {
			self = i
		}
	}
	if self < 0 {
		return &Error{CodeForeignLock, path, errors.New("the node key belongs to no operator of the lock: this is the lock of another cluster, or the key of another node"),
			"put the " + LockName + " and the " + enr.KeyFileName + " of one node into one directory"}
	}
	d.Self = cluster.PeerIndex(self)
	return nil
}

func (d *Directory) verifyLock(ctx context.Context, o Options) error {
	if err := verify(ctx, d.Lock, d.NodeKeys, o.Workers); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &Error{CodeLockTampered, filepath.Join(d.Path, LockName), err, takeWholeLock}
	}
	return nil
}

// readShares opens all keystores, several at a time.
func (d *Directory) readShares(ctx context.Context, o Options) error {
	dir := filepath.Join(d.Path, KeysName)
	names, err := listKeystores(dir)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards what the workers share
	done := 0
	files, infos := make([]string, 0, 2*len(names)), make([]fs.FileInfo, 0, 2*len(names))
	owners := d.owners()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Workers)
	for _, name := range names {
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			k, err := openKeystore(gctx, dir, name)
			if err != nil {
				return err
			}
			validator, err := d.whose(owners, filepath.Join(dir, name), k.pub)
			mu.Lock()
			defer mu.Unlock()
			if _, twice := d.Shares[validator]; twice && err == nil {
				err = &Error{CodeForeignShare, filepath.Join(dir, name), fmt.Errorf("another keystore holds the share of validator %s too", validator), "move one of the two elsewhere"}
			}
			if err != nil {
				k.key.Wipe()
				return err
			}
			d.Shares[validator] = k.key
			d.Insecure = d.Insecure || k.insecure
			files, infos = append(files, k.files[:]...), append(infos, k.infos[:]...)
			done++
			if o.Progress != nil {
				o.Progress(done, len(names))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	strength := keystore.Full
	if d.Insecure {
		strength = keystore.Insecure
	}
	for i, v := range d.Lock.Validators {
		if _, ok := d.Shares[v.PubKey]; !ok {
			return &Error{CodeShareMissing, dir, fmt.Errorf("no keystore holds this node's share of validator %d (%s)", i, v.PubKey),
				fmt.Sprintf("take %s and its password file from a backup of this node", keystore.FileName(i, strength))}
		}
	}
	return d.checkModes(o, "0400", files, infos)
}

// owner says whose a public key is: share 0 is a whole key.
type owner struct {
	validator int
	share     cluster.ShareIndex
}

func (d *Directory) owners() map[cluster.PubKey]owner {
	out := map[cluster.PubKey]owner{}
	for i, v := range d.Lock.Validators {
		out[v.PubKey] = owner{i, 0}
		for j, share := range v.PublicShares {
			out[share] = owner{i, cluster.PeerIndex(j).Share()}
		}
	}
	return out
}

// whose returns the validator that the key is this node's share of.
func (d *Directory) whose(owners map[cluster.PubKey]owner, path string, pub cluster.PubKey) (cluster.PubKey, error) {
	o, known := owners[pub]
	switch {
	case !known:
		return cluster.PubKey{}, &Error{CodeUnknownShare, path, fmt.Errorf("the key %s is not in the lock: it is of another cluster", pub), "put the keystores that belong to this lock into " + KeysName}
	case o.share == 0:
		return cluster.PubKey{}, &Error{CodeWholeKey, path, fmt.Errorf("it holds the whole key of validator %d", o.validator), "move it to a safe place at once: with it one program alone can sign, and be slashed for it"}
	case o.share != d.Self.Share():
		return cluster.PubKey{}, &Error{CodeForeignShare, path, fmt.Errorf("it holds the share of node %d for validator %d; this is node %d", o.share.Peer(), o.validator, d.Self), "put this node's own keystores into " + KeysName + ": two nodes with one share get validators slashed"}
	}
	return d.Lock.Validators[o.validator].PubKey, nil
}

func listKeystores(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &Error{CodeShareMissing, dir, errors.New("the directory of key shares is missing"), takeFromBackup}
		}
		return nil, &Error{CodeUnreadable, dir, err, beTheOwner}
	}
	defer f.Close()
	entries, err := f.ReadDir(maxEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, &Error{CodeUnreadable, dir, err, beTheOwner}
	}
	var names []string
	for _, e := range entries {
		if _, ok := keystore.ParseFileName(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

type opened struct {
	key      bls.SecretKey
	pub      cluster.PubKey
	insecure bool
	files    [2]string
	infos    [2]fs.FileInfo
}

func openKeystore(ctx context.Context, dir, name string) (k opened, err error) {
	k.files = [2]string{filepath.Join(dir, name), filepath.Join(dir, keystore.PasswordFileName(name))}
	fail := func(path string, err error, remedy string) (opened, error) {
		if ctx.Err() != nil {
			return opened{}, ctx.Err()
		}
		return opened{}, &Error{CodeShareUnreadable, path, err, remedy}
	}
	raw, info, err := readFile(k.files[0], keystore.MaxFileBytes)
	if err != nil {
		return fail(k.files[0], err, beTheOwner)
	}
	k.infos[0] = info
	ks, err := keystore.Parse(raw)
	if err != nil {
		return fail(k.files[0], err, takeFromBackup)
	}
	secret, info, err := readFile(k.files[1], keystore.MaxPasswordBytes)
	defer clear(secret)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(k.files[1], errors.New("the password file is missing"), takeFromBackup)
	case err != nil:
		return fail(k.files[1], err, beTheOwner)
	}
	k.infos[1] = info
	password, err := keystore.ParsePassword(secret)
	if err != nil {
		return fail(k.files[1], err, "put the right password into the file")
	}
	if k.key, err = ks.Decrypt(ctx, password); err != nil {
		return fail(k.files[0], err, "put back the keystore and its password file as they were made, from a backup")
	}
	k.pub, k.insecure = ks.PubKey, ks.Strength == keystore.Insecure
	return k, nil
}

// checkModes refuses secrets that others may read, where money is at stake; elsewhere it notes it.
func (d *Directory) checkModes(o Options, mode string, files []string, infos []fs.FileInfo) error {
	loose := ""
	n := 0
	for i, info := range infos {
		if info.Mode().Perm()&0o077 != 0 {
			if n++; loose == "" || files[i] < loose {
				loose = files[i]
			}
		}
	}
	if n == 0 {
		return nil
	}
	problem, command := "others may read this file, which holds a secret", "chmod "+mode+" "+quote(loose)
	if n > 1 {
		problem = fmt.Sprintf("others may read this file and %d more, which hold secrets", n-1)
		command = "chmod " + mode + " " + quote(filepath.Dir(loose)) + "/keystore-*"
	}
	if network, ok := cluster.NetworkByFork(d.Lock.Definition.ForkVersion); ok && network.HoldsValue && !o.AllowLooseModes {
		return &Error{CodeLooseModes, loose, errors.New(problem), "run: " + command}
	}
	d.Findings = append(d.Findings, Finding{CodeLooseModes, loose + ": " + problem, "run: " + command})
	return nil
}

func quote(path string) string {
	if strings.IndexFunc(path, func(r rune) bool {
		return !(r == '/' || r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// readFile reads a regular file of at most limit bytes. Links are followed: secrets are often
// mounted as such.
func readFile(path string, limit int64) ([]byte, fs.FileInfo, error) {
	// Without O_NONBLOCK a named pipe would hold us up for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = fmt.Errorf("%s: %w", pe.Op, pe.Err)
		}
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("it is not a regular file")
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read: %w", err)
	}
	if int64(len(raw)) > limit {
		return nil, nil, fmt.Errorf("it has more than %d bytes", limit)
	}
	return raw, info, nil
}
