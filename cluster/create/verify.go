package create

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/keystore"

	"golang.org/x/sync/errgroup"
)

// Limits on foreign files.
const (
	maxDepositBytes = 64 << 20
	maxKeyFileBytes = 1 << 10
	maxDirEntries   = 4 * cluster.MaxValidators
)

// Options of Verify. The zero value uses all cores and tells nobody.
type Options struct {
	Workers  int      // 0: as many as cores
	Progress Progress // one step per keystore

	// For Run: how a keystore is opened, and that there are none to open.
	open            func(ctx context.Context, file string, ks *keystore.Keystore, password keystore.Password) (bls.SecretKey, error)
	sharesElsewhere bool
}

// Verify makes every check that can be made of a cluster directory, a node directory or a lock
// file, and changes nothing. What is wrong with the cluster is in the report; an error means that
// there was nothing to check at path, or that the context ended. It is an *Error.
func Verify(ctx context.Context, path string, opts Options) (Report, error) {
	const action = "verify"
	abs, err := filepath.Abs(path)
	if err != nil {
		return Report{}, explain(action, path, err)
	}
	v := newVerifier(abs, opts)
	defer v.close()
	if err := v.find(); err != nil {
		return Report{}, explain(action, abs, err)
	}
	if err := v.verify(ctx); err != nil {
		e := explain(action, abs, err)
		var own *Error
		if errors.As(e, &own) && own.Kind == KindCancelled {
			own.Remedy = ""
		}
		return Report{}, e
	}
	return v.report, nil
}

func newVerifier(root string, opts Options) *verifier {
	v := &verifier{root: root, workers: opts.Workers, meter: &meter{tell: opts.Progress}, open: opts.open, noShares: opts.sharesElsewhere}
	if v.open == nil {
		v.open = func(ctx context.Context, _ string, ks *keystore.Keystore, password keystore.Password) (bls.SecretKey, error) {
			return ks.Decrypt(ctx, password)
		}
	}
	if v.workers <= 0 {
		v.workers = runtime.GOMAXPROCS(0)
	}
	v.report = Report{Schema: ReportSchema, Path: root, Checks: []Check{}, Findings: []Finding{}, NotProtected: []NotProtected{}}
	return v
}

func (v *verifier) close() {
	if m, ok := v.src.(memSource); ok {
		m.wipe()
	}
}

// verifier is one call of Verify.
type verifier struct {
	root     string
	src      source
	single   string // name of the one file that is looked at, "" for directories
	workers  int
	meter    *meter
	open     func(ctx context.Context, file string, ks *keystore.Keystore, password keystore.Password) (bls.SecretKey, error)
	noShares bool
	report   Report
	nodes    []*nodeDir // none when only a lock or definition file is looked at
}

// nodeDir is one node's directory and what was read of it.
type nodeDir struct {
	index   int    // place among the operators; -1 when not known yet
	name    string // of the directory, "" when the root is the node
	label   string // prefix of check ids, as in "node1"
	lock    *cluster.Lock
	lockSum [32]byte // of the compacted lock file
	sheet   *sheet
}

func (n *nodeDir) file(name string) string { return path.Join(n.name, name) }

var nodeDirPattern = regexp.MustCompile(`^node(0|[1-9][0-9]{0,3})$`)

func parseNodeDirName(name string) (int, bool) {
	m := nodeDirPattern.FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	i, err := strconv.Atoi(m[1])
	return i, err == nil
}

// find says what kind of thing is at the path.
func (v *verifier) find() error {
	info, err := os.Stat(v.root)
	if err != nil {
		return err
	}
	switch {
	case info.Mode().IsRegular() && isArchiveName(v.root):
		m, info, err := unpack(v.root)
		if err != nil {
			return &Error{Kind: KindUsage, Action: "verify", Path: v.root, Err: err, Remedy: "name a cluster.tar.gz as create cluster --zipped makes it"}
		}
		v.src = m
		if info.Mode().Perm()&0o077 != 0 {
			v.report.Findings = append(v.report.Findings, Finding{ID: "archive.modes", Problem: fmt.Sprintf("the archive has mode %s, and the keys of all nodes are in it", octal(info.Mode())),
				Remedy: "chmod 0600 " + shellQuote(v.root)})
		}
		return v.classify()
	case info.Mode().IsRegular():
		v.src, v.single = diskSource{filepath.Dir(v.root)}, filepath.Base(v.root)
		v.report.Scope = ScopeLock
		raw, _, err := v.src.read(v.single, MaxLockBytes)
		if err == nil && looksLikeDefinition(raw) {
			v.report.Scope = ScopeDefinition
		}
		return nil // what can't be read is a failed check
	case info.IsDir():
		v.src = diskSource{v.root}
		return v.classify()
	default:
		return &Error{Kind: KindUsage, Action: "verify", Path: v.root, Err: errors.New("it is neither a file nor a directory"), Remedy: "name a cluster directory, a node directory, a lock or a definition"}
	}
}

// looksLikeDefinition tells a definition from a lock: a lock has one inside.
func looksLikeDefinition(raw []byte) bool {
	var keys map[string]json.RawMessage
	if json.Unmarshal(raw, &keys) != nil {
		return false
	}
	_, lock := keys["cluster_definition"]
	_, operators := keys["operators"]
	_, hash := keys["config_hash"]
	return !lock && (operators || hash)
}

// classify says what a directory is.
func (v *verifier) classify() error {
	entries, err := v.src.list(".")
	if err != nil {
		return err
	}
	isNode, hasDefinition := false, false
	for _, e := range entries {
		switch e.name {
		case LockFileName, keysDirName:
			isNode = true
		case DefinitionFileName:
			hasDefinition = true
		}
		if i, ok := parseNodeDirName(e.name); ok && e.dir {
			v.nodes = append(v.nodes, &nodeDir{index: i, name: e.name, label: e.name, sheet: &sheet{prefix: e.name + ".", def: defInLock}})
		}
	}
	switch {
	case isNode:
		v.report.Scope = ScopeNode
		v.nodes = []*nodeDir{{index: -1, label: "node", sheet: &sheet{prefix: "node.", def: defInLock}}}
	case len(v.nodes) > 0:
		v.report.Scope = ScopeCluster
		slices.SortFunc(v.nodes, func(a, b *nodeDir) int { return a.index - b.index })
	case hasDefinition:
		v.report.Scope, v.single = ScopeDefinition, DefinitionFileName
	default:
		return &Error{Kind: KindUsage, Action: "verify", Path: v.root, Err: errors.New("there is no cluster: neither nodeN directories nor " + LockFileName + " nor " + DefinitionFileName),
			Remedy: "name the directory that create cluster made, one of its node directories, a lock or a definition file"}
	}
	return nil
}

func fileRemedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "take the file from a backup, or look whether it was moved"
	case errors.Is(err, fs.ErrPermission):
		return "run this as the owner of the files"
	default:
		return remedyChanged
	}
}

func readLock(src source, name string) (*cluster.Lock, []byte, error) {
	raw, _, err := src.read(name, MaxLockBytes)
	if err != nil {
		return nil, nil, err
	}
	lock := new(cluster.Lock)
	if err := json.Unmarshal(raw, lock); err != nil {
		return nil, raw, err
	}
	return lock, raw, nil
}

// fieldOf returns the path within the file that an error names.
func fieldOf(err error) string {
	var fe *cluster.FieldError
	if errors.As(err, &fe) {
		return fe.Path
	}
	return ""
}

func (v *verifier) verify(ctx context.Context) error {
	if v.report.Scope == ScopeDefinition {
		v.verifyDefinition()
		return ctx.Err()
	}
	lockSheet := &sheet{def: defInLock}
	var lock *cluster.Lock
	if v.report.Scope == ScopeLock {
		lockSheet.file = v.single
		var err error
		lock, _, err = readLock(v.src, v.single)
		lockSheet.check("lock.readable", fieldOf(err), "the lock file is there and can be read", err, fileRemedy(err))
	} else {
		lock = v.readLocks(lockSheet)
	}
	if lock == nil {
		v.take(lockSheet)
		v.takeNodes()
		return ctx.Err()
	}
	v.describe(lock)
	facts, err := checkLock(ctx, lockSheet, lock, v.workers)
	if err != nil {
		return err
	}
	v.take(lockSheet)
	if len(v.nodes) == 0 {
		return nil
	}
	clusterSheet := &sheet{}
	if v.report.Scope == ScopeCluster {
		v.checkNodeDirs(clusterSheet, lock)
		if err := v.checkStrayLocks(ctx, lock); err != nil {
			return err
		}
	}
	for _, n := range v.nodes {
		v.checkNodeKey(n, lock, facts)
	}
	if !v.noShares {
		if err := v.checkShares(ctx, clusterSheet, lock); err != nil {
			return err
		}
	}
	if err := v.checkDepositFiles(ctx, clusterSheet, lock, facts.signed); err != nil {
		return err
	}
	v.checkDefinitionFiles(clusterSheet, lock)
	v.take(clusterSheet)
	v.takeNodes()
	if v.report.Scope == ScopeNode && v.nodes[0].index >= 0 {
		share := cluster.PeerIndex(v.nodes[0].index).Share()
		v.report.ShareIndex = &share
	}
	return nil
}

// take moves what the sheets have into the report.
func (v *verifier) take(sheets ...*sheet) {
	for _, s := range sheets {
		v.report.add(s.checks...)
		v.report.Findings = append(v.report.Findings, s.findings...)
		v.report.NotProtected = append(v.report.NotProtected, s.free...)
		s.checks, s.findings, s.free = nil, nil, nil
	}
}

func (v *verifier) takeNodes() {
	for _, n := range v.nodes {
		v.take(n.sheet)
	}
}

func (v *verifier) describe(lock *cluster.Lock) {
	count := len(lock.Validators)
	v.describeDefinition(&lock.Definition, count)
	v.report.LockHash = &lock.LockHash
}

func (v *verifier) describeDefinition(d *cluster.Definition, validators int) {
	n, t := len(d.Operators), int(d.Threshold)
	v.report.Name, v.report.Version = d.Name, string(d.Version)
	v.report.Nodes, v.report.Threshold, v.report.Validators = &n, &t, &validators
	if network, ok := cluster.NetworkByFork(d.ForkVersion); ok {
		v.report.Network = &network.Name
	}
}

// readLocks reads the lock of every node and returns the one that most nodes have, so that one
// damaged file doesn't accuse all others. It returns nil when no lock can be read.
func (v *verifier) readLocks(lockSheet *sheet) *cluster.Lock {
	parsed := map[[32]byte]*cluster.Lock{} // by the raw bytes: usually there is only one
	sums := map[[32]byte][32]byte{}        // of raw bytes to that of compacted ones
	votes := map[[32]byte]int{}
	errs := make([]error, len(v.nodes))
	for i, n := range v.nodes {
		raw, _, err := v.src.read(n.file(LockFileName), MaxLockBytes)
		if err != nil {
			errs[i] = err
			continue
		}
		sum := sha256.Sum256(raw)
		if parsed[sum] == nil {
			lock := new(cluster.Lock)
			if err := json.Unmarshal(raw, lock); err != nil {
				errs[i] = err
				continue
			}
			parsed[sum], sums[sum] = lock, sha256.Sum256(compact(raw))
		}
		n.lock, n.lockSum = parsed[sum], sums[sum]
		votes[n.lockSum]++
	}
	var best *nodeDir
	for _, n := range v.nodes {
		if n.lock != nil && (best == nil || votes[n.lockSum] > votes[best.lockSum]) {
			best = n
		}
	}
	single := v.report.Scope == ScopeNode
	for i, n := range v.nodes {
		id, field := "lock", fieldOf(errs[i])
		if single {
			id = "lock_readable"
		}
		n.sheet.file = n.file(LockFileName)
		err, remedy := errs[i], fileRemedy(errs[i])
		if err == nil && n.lockSum != best.lockSum {
			field, err = firstDifference(best.lock, n.lock)
			remedy = "copy " + best.file(LockFileName) + " over it, if that one is right"
		}
		if !single {
			n.sheet.check(id, field, "the lock is readable and the same as the other nodes'", err, remedy)
		} else {
			lockSheet.file = n.file(LockFileName)
			lockSheet.check("lock.readable", field, "the lock file is there and can be read", err, remedy)
		}
	}
	if best == nil {
		if !single {
			lockSheet.check("lock.readable", "", "a node has a lock that can be read", errors.New("no node has one"), "take the file from a backup")
		}
		return nil
	}
	if !single {
		lockSheet.file = best.file(LockFileName)
		lockSheet.check("lock.readable", "", "a node has a lock that can be read", nil, "")
	}
	return best.lock
}

// firstDifference finds where two locks differ.
func firstDifference(want, got *cluster.Lock) (field string, err error) {
	a, err := want.Encode()
	if err != nil {
		return "", err
	}
	b, err := got.Encode()
	if err != nil {
		return "", err
	}
	if field, ok := differentJSON(a, b); ok {
		return field, errors.New("it differs here from the other nodes' lock")
	}
	return "", errors.New("it is written differently from the other nodes' lock, though it says the same")
}

// differentJSON finds the first value that differs between two documents.
func differentJSON(a, b []byte) (field string, differs bool) {
	var docs [2]any
	for i, raw := range [][]byte{a, b} {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if err := dec.Decode(&docs[i]); err != nil {
			return "", true
		}
	}
	field, differs = differ("", docs[0], docs[1])
	return strings.TrimPrefix(field, "."), differs
}

func differ(path string, a, b any) (string, bool) {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			return path, true
		}
		keys := map[string]bool{}
		for k := range x {
			keys[k] = true
		}
		for k := range y {
			keys[k] = true
		}
		// Hashes and signatures follow from the rest, so the rest is named first.
		order := make([]string, 0, len(keys))
		for k := range keys {
			order = append(order, k)
		}
		slices.SortFunc(order, func(p, q string) int {
			if hp, hq := strings.HasSuffix(p, "_hash"), strings.HasSuffix(q, "_hash"); hp != hq {
				if hp {
					return 1
				}
				return -1
			}
			return strings.Compare(p, q)
		})
		for _, k := range order {
			av, aok := x[k]
			bv, bok := y[k]
			if aok != bok {
				return path + "." + k, true
			}
			if at, ok := differ(path+"."+k, av, bv); ok {
				return at, true
			}
		}
		return "", false
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return path, true
		}
		for i := range x {
			if at, ok := differ(index(path, i), x[i], y[i]); ok {
				return at, true
			}
		}
		return "", false
	default:
		return path, a != b
	}
}

// checkNodeDirs checks that there is one directory for each operator.
func (v *verifier) checkNodeDirs(s *sheet, lock *cluster.Lock) {
	have := map[int]bool{}
	var extra, missing []string
	for _, n := range v.nodes {
		have[n.index] = true
		if n.index >= len(lock.Definition.Operators) {
			extra = append(extra, n.name)
		}
	}
	for i := range lock.Definition.Operators {
		if !have[i] {
			missing = append(missing, nodeDirName(i))
		}
	}
	var err error
	switch {
	case len(missing) > 0:
		err = fmt.Errorf("%s missing of %d node directories", someOf(missing), len(lock.Definition.Operators))
	case len(extra) > 0:
		err = fmt.Errorf("%s: the cluster has only %d nodes", someOf(extra), len(lock.Definition.Operators))
	}
	s.check("cluster.nodes", "", "there is one directory for each node", err, "where nodes live on several machines, verify each node's directory by itself")
}

// checkStrayLocks makes the checks of a lock on those that differ from the others' and keeps what
// fails, so that the report says what is wrong with them.
func (v *verifier) checkStrayLocks(ctx context.Context, best *cluster.Lock) error {
	for _, n := range v.nodes {
		if n.lock == nil || n.lock == best {
			continue
		}
		own := &sheet{prefix: n.label + ".", file: n.file(LockFileName), def: defInLock}
		if _, err := checkLock(ctx, own, n.lock, v.workers); err != nil {
			return err
		}
		for _, c := range own.checks {
			if c.Status == Failed {
				n.sheet.checks = append(n.sheet.checks, c)
			}
		}
	}
	return nil
}

// checkNodeKey checks the node's private key and, for a directory by itself, finds out which node
// it is.
func (v *verifier) checkNodeKey(n *nodeDir, lock *cluster.Lock, facts lockFacts) {
	s := n.sheet
	s.file = n.file(enr.KeyFileName)
	const id, what = "enr_key", "the node's private key is that of its record in the lock"
	raw, info, err := v.src.read(s.file, maxKeyFileBytes)
	defer clear(raw)
	var key enr.Key
	if err == nil {
		v.checkModes(s, "modes.enr_key", []string{s.file}, []fs.FileInfo{info}, "0600")
		key, err = enr.ParseKeyFile(raw)
	}
	if err != nil {
		s.check(id, "", what, err, fileRemedy(err))
		v.guessNode(n, lock)
		return
	}
	pub := key.PubKey()
	key.Wipe()
	owner := slices.IndexFunc(facts.nodeKeys, func(p *enr.PubKey) bool { return p != nil && *p == pub })
	switch {
	case owner < 0:
		err = errors.New("the key belongs to no node of this cluster")
	case n.index >= 0 && owner != n.index:
		err = fmt.Errorf("the key is that of node %d", owner)
	}
	if n.index < 0 && owner >= 0 {
		n.index = owner
	}
	s.check(id, fmt.Sprintf("cluster_definition.operators[%d].enr", max(n.index, 0)), what, err, "put back the "+enr.KeyFileName+" that belongs to this lock")
	v.guessNode(n, lock)
}

// guessNode finds the index of a node directory by itself whose key doesn't tell: from the public
// key in its first keystore.
func (v *verifier) guessNode(n *nodeDir, lock *cluster.Lock) {
	if n.index >= 0 {
		return
	}
	entries, err := v.src.list(n.file(keysDirName))
	if err != nil {
		return
	}
	for _, e := range entries {
		i, ok := keystore.ParseFileName(e.name)
		if !ok || i >= len(lock.Validators) {
			continue
		}
		raw, _, err := v.src.read(n.file(keysDirName+"/"+e.name), keystore.MaxFileBytes)
		if err != nil {
			continue
		}
		ks, err := keystore.Parse(raw)
		if err != nil {
			continue
		}
		if at := slices.Index(lock.Validators[i].PublicShares, ks.PubKey); at >= 0 {
			n.index = at
			return
		}
	}
}

// checkModes warns when group or others may read files with secrets.
func (v *verifier) checkModes(s *sheet, id string, files []string, infos []fs.FileInfo, mode string) {
	var loose []string
	var first fs.FileMode
	for i, info := range infos {
		if info != nil && info.Mode().Perm()&0o077 != 0 {
			if loose == nil {
				first = info.Mode()
			}
			loose = append(loose, files[i])
		}
	}
	if loose == nil {
		return
	}
	problem := fmt.Sprintf("%s has mode %s: others may read it", loose[0], octal(first))
	command := "chmod " + mode + " " + shellQuote(filepath.Join(v.root, loose[0]))
	if len(loose) > 1 {
		problem = fmt.Sprintf("%d files with secrets may be read by others, the first is %s with mode %s", len(loose), loose[0], octal(first))
		command = "chmod " + mode + " " + shellQuote(filepath.Join(v.root, filepath.Dir(loose[0]))) + "/keystore-*"
	}
	old := s.file
	s.file = loose[0]
	s.finding(id, problem, command)
	s.file = old
}

func shellQuote(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool {
		return !(r == '/' || r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// shareSet gathers a validator's private shares while its keystores are opened.
type shareSet struct {
	mu     sync.Mutex // guards shares
	shares map[cluster.ShareIndex]bls.SecretKey
	left   atomic.Int32 // keystores not yet opened
}

// checkShares opens every keystore of every node on all cores, holds the key inside against the
// lock, and recovers each validator's key from a threshold of private shares.
func (v *verifier) checkShares(ctx context.Context, clusterSheet *sheet, lock *cluster.Lock) error {
	count := len(lock.Validators)
	present := make([]map[int]string, len(v.nodes)) // keystore file by validator
	for i, n := range v.nodes {
		present[i] = v.listKeystores(n, count)
	}
	v.meter.total = count * len(v.nodes)
	sheets := make([][]sheet, len(v.nodes)) // by node and validator
	infos := make([][]fs.FileInfo, len(v.nodes))
	for i, n := range v.nodes {
		sheets[i] = make([]sheet, count)
		infos[i] = make([]fs.FileInfo, 2*count)
		for j := range sheets[i] {
			sheets[i][j] = sheet{prefix: n.label + "."}
		}
	}
	recovery := make([]sheet, count)
	t := int(lock.Definition.Threshold)

	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(v.workers)
	for j := range count {
		if gctx.Err() != nil {
			break
		}
		set := &shareSet{shares: map[cluster.ShareIndex]bls.SecretKey{}}
		set.left.Store(int32(len(v.nodes)))
		for i, n := range v.nodes {
			g.Go(func() error {
				key, err := v.checkKeystore(gctx, &sheets[i][j], n, lock, j, present[i][j], infos[i][2*j:2*j+2])
				if err != nil {
					return err
				}
				if key != (bls.SecretKey{}) {
					set.mu.Lock()
					if len(set.shares) < t {
						set.shares[cluster.PeerIndex(n.index).Share()] = key
					} else {
						key.Wipe()
					}
					set.mu.Unlock()
				}
				v.meter.step("checking keystores")
				if set.left.Add(-1) == 0 {
					recovery[j] = checkRecovery(set, lock, j, v.report.Scope)
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	opened := false
	for i, n := range v.nodes {
		var files []string
		for j := range sheets[i] {
			opened = opened || present[i][j] != ""
			n.sheet.checks = append(n.sheet.checks, sheets[i][j].checks...)
			n.sheet.findings = append(n.sheet.findings, sheets[i][j].findings...)
			files = append(files, n.file(keysDirName+"/"+present[i][j]), n.file(keysDirName+"/"+keystore.PasswordFileName(present[i][j])))
		}
		v.checkModes(n.sheet, "modes.keystores", files, infos[i], "0400")
	}
	if opened {
		clusterSheet.unprotected(keysDirName+"/keystore-*.json", "uuid", "path", "description")
	}
	for j := range recovery {
		clusterSheet.checks = append(clusterSheet.checks, recovery[j].checks...)
	}
	return nil
}

// listKeystores checks that the keystores are numbered from 0 without gaps, one per validator.
func (v *verifier) listKeystores(n *nodeDir, count int) map[int]string {
	s := n.sheet
	s.file = n.file(keysDirName)
	const id, what = "keystores", "there is one keystore with a password for each validator"
	found := map[int]string{}
	entries, err := v.src.list(n.file(keysDirName))
	if err != nil {
		err = withoutPath(err)
		s.check(id, "", what, err, fileRemedy(err))
		return found
	}
	var stray []string
	names := map[string]bool{}
	for _, e := range entries {
		names[e.name] = true
	}
	for _, e := range entries {
		name := e.name
		i, ok := keystore.ParseFileName(name)
		switch {
		case ok && found[i] != "":
			err = fmt.Errorf("%s and %s are both for validator %d", found[i], name, i)
		case ok && i >= count:
			err = fmt.Errorf("%s: the cluster has only %d validators", name, count)
		case ok:
			found[i] = name
			if !names[keystore.PasswordFileName(name)] {
				err = fmt.Errorf("%s has no password file %s", name, keystore.PasswordFileName(name))
			}
		case !names[strings.TrimSuffix(name, ".txt")+".json"]:
			stray = append(stray, name)
		}
	}
	for i := range count {
		if found[i] == "" {
			err = fmt.Errorf("the keystore of validator %d is missing", i)
			break
		}
	}
	s.check(id, "", what, err, "take the missing files from a backup, or remove what doesn't belong here")
	if len(stray) > 0 {
		s.finding("keystores.stray", fmt.Sprintf("files that don't belong here: %q", someOf(stray)), "move them elsewhere")
	}
	for _, name := range found {
		if strings.Contains(name, "insecure") {
			s.finding("keystores.insecure", "the keystores can be opened without much work by whoever reads them", "use this cluster for practice only")
			break
		}
	}
	return found
}

// checkKeystore opens one keystore. It returns the key when it is the node's share, else the zero
// key; an error only when the context ended.
func (v *verifier) checkKeystore(ctx context.Context, s *sheet, n *nodeDir, lock *cluster.Lock, j int, name string, infos []fs.FileInfo) (bls.SecretKey, error) {
	id := index("keystore", j)
	const what = "the keystore opens with its password and holds the key that it names"
	const whatShare = "the key is the node's share in the lock"
	shareField := fmt.Sprintf("distributed_validators[%d].public_shares[%d]", j, max(n.index, 0))
	if name == "" {
		s.file = n.file(keysDirName)
		s.skip(id, "", what, "there is no keystore for this validator")
		s.skip(index("share", j), shareField, whatShare, "there is no keystore for this validator")
		return bls.SecretKey{}, nil
	}
	s.file = n.file(keysDirName + "/" + name)
	fail := func(err error, remedy string) (bls.SecretKey, error) {
		if ctx.Err() != nil {
			return bls.SecretKey{}, ctx.Err()
		}
		s.check(id, keystoreField(err), what, err, remedy)
		s.skip(index("share", j), shareField, whatShare, "the keystore could not be opened")
		return bls.SecretKey{}, nil
	}
	raw, info, err := v.src.read(s.file, keystore.MaxFileBytes)
	if err != nil {
		return fail(err, fileRemedy(err))
	}
	infos[0] = info
	ks, err := keystore.Parse(raw)
	if err != nil {
		return fail(err, remedyChanged)
	}
	passwordFile := keystore.PasswordFileName(name)
	rawPassword, info, err := v.src.read(n.file(keysDirName+"/"+passwordFile), keystore.MaxPasswordBytes)
	if err != nil {
		return fail(fmt.Errorf("password file %s: %w", passwordFile, err), fileRemedy(err))
	}
	infos[1] = info
	defer clear(rawPassword)
	password, err := keystore.ParsePassword(rawPassword)
	if err != nil {
		return fail(fmt.Errorf("password file %s: %w", passwordFile, err), "put the right password into "+passwordFile)
	}
	key, err := v.open(ctx, s.file, ks, password)
	var fe *keystore.FieldError
	if err != nil && !errors.Is(err, keystore.ErrPassword) && ctx.Err() == nil &&
		(!errors.As(err, &fe) || n.index >= 0 && n.index < len(lock.Validators[j].PublicShares) && ks.PubKey == lock.Validators[j].PublicShares[n.index]) {
		// The checksum covers the password, the costs and the sealed key, and the lock has the public
		// key: what is left is the start of the key stream.
		return fail(&fieldError{"crypto.cipher.params.iv", errors.New("the key that comes out isn't the one that the file and the lock name: crypto.cipher.params.iv was changed")}, remedyChanged)
	}
	if err != nil {
		return fail(err, "put back "+name+" and "+passwordFile+" as they were made, from a backup")
	}
	s.check(id, "", what, nil, "")

	err = nil
	shares := lock.Validators[j].PublicShares
	switch {
	case n.index < 0:
		err = errors.New("the directory belongs to no node of this cluster")
	case n.index >= len(shares):
		err = fmt.Errorf("the lock has no share for node %d", n.index)
	case shares[n.index] != ks.PubKey:
		err = fmt.Errorf("the key %s is %s", ks.PubKey, whoseKey(lock, ks.PubKey))
	}
	if !s.check(index("share", j), shareField, whatShare, err, "put the keystores that belong to this node and this lock into "+keysDirName) {
		key.Wipe()
		return bls.SecretKey{}, nil
	}
	return key, nil
}

// fieldError is an error about a field of a keystore that only the lock could tell.
type fieldError struct {
	field string
	err   error
}

func (e *fieldError) Error() string { return e.err.Error() }

// keystoreField is the field of a keystore that an error is about. A password that doesn't fit and
// a changed crypto part can't be told apart.
func keystoreField(err error) string {
	var fe *keystore.FieldError
	var own *fieldError
	switch {
	case errors.As(err, &own):
		return own.field
	case errors.As(err, &fe):
		return fe.Field
	case errors.Is(err, keystore.ErrPassword):
		return "crypto"
	default:
		return ""
	}
}

func whoseKey(lock *cluster.Lock, key cluster.PubKey) string {
	for v, dv := range lock.Validators {
		if dv.PubKey == key {
			return fmt.Sprintf("the whole key of validator %d: it must not lie here", v)
		}
		if i := slices.Index(dv.PublicShares, key); i >= 0 {
			return fmt.Sprintf("that of node %d for validator %d", i, v)
		}
	}
	return "not in the lock"
}

// checkRecovery recovers a validator's key from a threshold of private shares, and wipes them.
func checkRecovery(set *shareSet, lock *cluster.Lock, j int, scope Scope) (s sheet) {
	id, field := index("validator", j)+".recovery", index("distributed_validators", j)+".distributed_public_key"
	const what = "a threshold of the nodes' private shares gives the validator key"
	set.mu.Lock()
	defer set.mu.Unlock()
	defer func() {
		for _, k := range set.shares {
			k.Wipe()
		}
	}()
	t := int(lock.Definition.Threshold)
	if t < 2 || len(set.shares) < t {
		why := fmt.Sprintf("only %d good shares of the %d needed are here", len(set.shares), t)
		if scope == ScopeNode {
			why = "one node has one share only"
		}
		s.skip(id, field, what, why)
		return s
	}
	key, err := bls.RecoverSecret(set.shares)
	if err == nil {
		var pub cluster.PubKey
		if pub, err = key.PubKey(); err == nil && pub != lock.Validators[j].PubKey {
			err = fmt.Errorf("they give %s", pub)
		}
		key.Wipe()
	}
	s.check(id, field, what, err, remedyForeign)
	return s
}
