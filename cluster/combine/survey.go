package combine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/aside"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/fence"
	"app.provost/cluster/internal/keystore"
	"app.provost/cluster/internal/peer"

	"golang.org/x/sys/unix"
)

// Names in a node directory, and bounds on what is read.
const (
	lockName     = "cluster-lock.json"
	keysName     = "validator_keys"
	maxLockBytes = 64 << 20
	maxEntries   = 4 * cluster.MaxValidators
)

// node is one node's directory as it was found.
type node struct {
	dir   string // absolute
	lock  *cluster.Lock
	share cluster.ShareIndex
	files map[cluster.PubKey]string // keystore by the validator's key
	has   *History                  // nil when unknown
	why   string                    // why it is unknown
	past  time.Time                 // of a copy: when it was made
}

func (n *node) name() string { return fmt.Sprintf("node %d (%s)", n.share.Peer(), n.dir) }

// survey is everything that can be known before a key is opened.
type survey struct {
	target  string // absolute
	lock    *cluster.Lock
	nodes   []*node // by share
	history History // the highest of all
	whole   bool    // the history covers every signature of the group
	gaps    []string
}

func (s *survey) network() string {
	if n, ok := cluster.NetworkByFork(s.lock.Definition.ForkVersion); ok {
		return n.Name
	}
	return "network " + s.lock.Definition.ForkVersion.String()
}

func look(ctx context.Context, p Params, o Options) (*survey, error) {
	dirs, err := p.directories()
	if err != nil {
		return nil, err
	}
	if p.OutputDir == "" {
		return nil, &Error{Code: CodeParams, Field: "output-dir", Err: errors.New("no directory for the keys is given"), Remedy: "name one that does not exist yet"}
	}
	s := &survey{}
	if s.target, err = filepath.Abs(p.OutputDir); err != nil {
		return nil, &Error{Code: CodeParams, Field: "output-dir", Err: err}
	}
	if err := aside.Free(s.target); err != nil {
		return nil, targetError(s.target, err)
	}
	for _, dir := range dirs {
		n, err := readNode(dir)
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, n)
	}
	s.lock = s.nodes[0].lock
	for _, n := range s.nodes[1:] {
		if n.lock.LockHash != s.lock.LockHash {
			return nil, &Error{Code: CodeForeign, Path: n.dir, Err: fmt.Errorf("its lock has the hash %s, that of %s has %s: they are of different clusters, or of one before and after it was changed", n.lock.LockHash, s.nodes[0].dir, s.lock.LockHash),
				Remedy: "give the directories of one cluster"}
		}
	}
	slices.SortFunc(s.nodes, func(a, b *node) int { return cmp.Compare(a.share, b.share) })
	for i, n := range s.nodes[1:] {
		if n.share == s.nodes[i].share {
			return nil, &Error{Code: CodeForeign, Path: n.dir, Err: fmt.Errorf("it is of the same node %d as %s", n.share.Peer(), s.nodes[i].dir),
				Remedy: "give one directory for each node: the one in which it ran last"}
		}
	}
	if missing := int(s.lock.Definition.Threshold) - len(s.nodes); missing > 0 {
		return nil, &Error{Code: CodeFew, Err: fmt.Errorf("%s given, and %d of %d are needed", count(len(s.nodes), "node is", "nodes are"), s.lock.Definition.Threshold, len(s.lock.Definition.Operators)),
			Remedy: fmt.Sprintf("ask %d more of the operators for the directories of their nodes", missing)}
	}
	if err := o.VerifyLock(ctx, filepath.Join(s.nodes[0].dir, lockName)); err != nil {
		if ctx.Err() != nil {
			return nil, &Error{Code: CodeCancelled, Err: context.Cause(ctx)}
		}
		return nil, &Error{Code: CodeBroken, Path: filepath.Join(s.nodes[0].dir, lockName), Err: err, Remedy: "take the lock of another node; if theirs is the same, it was changed after it was made"}
	}
	for _, n := range s.nodes {
		if err := n.unused(); err != nil {
			return nil, err
		}
	}
	for _, n := range s.nodes {
		if err := n.remember(o); err != nil {
			return nil, err
		}
	}
	return s, s.addUp(p.WithoutHistory)
}

// directories are all node directories that were named, absolute, each once.
func (p Params) directories() ([]string, error) {
	list := slices.Clone(p.Dirs)
	if p.ClusterDir != "" {
		entries, err := os.ReadDir(p.ClusterDir)
		if err != nil {
			return nil, &Error{Code: CodeParams, Field: "cluster-dir", Path: p.ClusterDir, Err: plain(err), Remedy: "name a directory with node directories in it"}
		}
		found := len(list)
		for _, e := range entries {
			dir := filepath.Join(p.ClusterDir, e.Name())
			if _, err := os.Stat(filepath.Join(dir, lockName)); err == nil {
				list = append(list, dir)
			}
		}
		if len(list) == found {
			return nil, &Error{Code: CodeParams, Field: "cluster-dir", Path: p.ClusterDir, Err: errors.New("none of the directories in it has a " + lockName), Remedy: "name the directory above the nodes' directories"}
		}
	}
	var out []string
	var infos []fs.FileInfo
	for _, dir := range list {
		abs, err := filepath.Abs(dir)
		if err == nil {
			dir = abs
		}
		info, err := os.Stat(dir)
		if err != nil {
			return nil, &Error{Code: CodeParams, Path: dir, Err: plain(err), Remedy: "name directories of nodes"}
		}
		if !info.IsDir() {
			return nil, &Error{Code: CodeParams, Path: dir, Err: errors.New("it is no directory"), Remedy: "name directories of nodes"}
		}
		if slices.ContainsFunc(infos, func(o fs.FileInfo) bool { return os.SameFile(o, info) }) {
			continue
		}
		out, infos = append(out, dir), append(infos, info)
	}
	if len(out) == 0 {
		return nil, &Error{Code: CodeParams, Field: "cluster-dir", Err: errors.New("no node directory is given"), Remedy: "name the directories of as many nodes as the threshold says, or with --cluster-dir the one above them"}
	}
	if len(out) > cluster.MaxOperators {
		return nil, &Error{Code: CodeParams, Field: "cluster-dir", Err: fmt.Errorf("%d node directories are given, and no cluster has more than %d", len(out), cluster.MaxOperators)}
	}
	return out, nil
}

const takeFromBackup = "take the file from a backup of this node, or leave this directory out if enough others are given"

// readNode reads lock and keystores of a directory; no keystore is opened.
func readNode(dir string) (*node, error) {
	n := &node{dir: dir, files: map[cluster.PubKey]string{}}
	path := filepath.Join(dir, lockName)
	raw, err := readFile(path, maxLockBytes)
	if err != nil {
		return nil, &Error{Code: CodeUnread, Path: path, Err: plain(err), Remedy: "name directories of nodes: each has a " + lockName}
	}
	n.lock = new(cluster.Lock)
	err = json.Unmarshal(raw, n.lock)
	if err == nil {
		err = n.lock.Definition.Version.Supported()
	}
	if err != nil {
		return nil, &Error{Code: CodeBroken, Path: path, Err: err, Remedy: "take the lock of another node"}
	}
	// Directories are compared by this hash, so it must be that of what is in the file.
	if hash, err := n.lock.ComputeHash(); err != nil || hash != n.lock.LockHash {
		return nil, &Error{Code: CodeBroken, Path: path, Err: errors.New("lock_hash: it is not the hash of the lock"), Remedy: "take the lock of another node"}
	}
	if len(n.lock.Validators) == 0 || n.lock.Definition.Threshold < 1 {
		return nil, &Error{Code: CodeBroken, Path: path, Err: errors.New("it has no validators or no threshold")}
	}
	return n, n.findKeystores()
}

// findKeystores says which file has the share of which validator, and so whose directory it is.
func (n *node) findKeystores() error {
	type place struct {
		validator int
		share     cluster.ShareIndex
	}
	places := map[cluster.PubKey]place{}
	for v, val := range n.lock.Validators {
		places[val.PubKey] = place{v, 0}
		for i, pub := range val.PublicShares {
			places[pub] = place{v, cluster.PeerIndex(i).Share()}
		}
	}
	dir := filepath.Join(n.dir, keysName)
	names, err := listKeystores(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		raw, err := readFile(path, keystore.MaxFileBytes)
		if err != nil {
			return &Error{Code: CodeUnread, Path: path, Err: plain(err), Remedy: takeFromBackup}
		}
		ks, err := keystore.Parse(raw)
		if err != nil {
			return &Error{Code: CodeBroken, Path: path, Err: err, Remedy: takeFromBackup}
		}
		at, known := places[ks.PubKey]
		switch {
		case !known:
			return &Error{Code: CodeBroken, Path: path, Err: fmt.Errorf("pubkey: %s is no share of this cluster", ks.PubKey), Remedy: takeFromBackup}
		case at.share == 0:
			return &Error{Code: CodeBroken, Path: path, Err: fmt.Errorf("it holds the whole key of validator %d, not a share", at.validator), Remedy: "nothing is to be combined for it: move it out of this directory"}
		case n.share == 0:
			n.share = at.share
		case n.share != at.share:
			return &Error{Code: CodeBroken, Path: path, Err: fmt.Errorf("it holds the share of node %d, others here are of node %d", at.share.Peer(), n.share.Peer()), Remedy: takeFromBackup}
		}
		validator := n.lock.Validators[at.validator].PubKey
		if twice := n.files[validator]; twice != "" {
			return &Error{Code: CodeBroken, Path: path, Err: fmt.Errorf("it holds the same share as %s", filepath.Base(twice)), Remedy: "move one of the two elsewhere"}
		}
		n.files[validator] = path
	}
	for v, val := range n.lock.Validators {
		if n.files[val.PubKey] == "" {
			return &Error{Code: CodeBroken, Path: dir, Err: fmt.Errorf("the share of validator %d (%s) is missing", v, val.PubKey), Remedy: takeFromBackup}
		}
	}
	return nil
}

func listKeystores(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, &Error{Code: CodeUnread, Path: dir, Err: plain(err), Remedy: takeFromBackup}
	}
	defer f.Close()
	entries, err := f.ReadDir(maxEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, &Error{Code: CodeUnread, Path: dir, Err: plain(err)}
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

// unused refuses a directory whose node runs, or runs elsewhere.
func (n *node) unused() error {
	err := peer.KeyUse(filepath.Join(n.dir, enr.KeyFileName))
	var used *peer.KeyInUse
	switch {
	case errors.As(err, &used):
		return &Error{Code: CodeRunning, Path: n.dir, Err: err} // its text says what to do
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return &Error{Code: CodeUnread, Path: n.dir, Err: plain(err)}
	}
	note, err := fence.Read(n.dir)
	switch {
	case err != nil:
		return &Error{Code: CodeUnread, Path: n.dir, Err: err}
	case note != nil && note.Kind == fence.Moved:
		return &Error{Code: CodeMoved, Path: n.dir, Err: fmt.Errorf("%s was exported at %s to run elsewhere: what it signed since isn't known here", n.name(), note.At.UTC().Format(time.RFC3339)),
			Remedy: "stop it there, and give the directory in which it ran last"}
	case note != nil:
		n.past = note.Copy
	}
	return nil
}

// remember reads what the node signed.
func (n *node) remember(o Options) error {
	has, err := o.History(n.dir)
	switch {
	case errors.Is(err, ErrInUse):
		return &Error{Code: CodeRunning, Path: n.dir, Err: err, Remedy: "stop the node for good first"}
	case err != nil:
		n.why, has = err.Error(), nil
	case has == nil:
		n.why = "no slashing protection of Provost, as in a directory that Charon runs or that never ran"
	case !n.past.IsZero():
		n.why = fmt.Sprintf("a copy of %s that was never started: what the node signed since isn't in it", n.past.UTC().Format(time.RFC3339))
	default:
		for _, v := range n.lock.Validators {
			if _, ok := has.Marks[v.PubKey]; !ok {
				n.why = fmt.Sprintf("the slashing protection there doesn't know validator %s", v.PubKey)
			}
		}
	}
	n.has = has
	return nil
}

// addUp takes the highest marks of all, and says whether they cover every signature of the group.
//
// A signature of the group has t signers. With the histories of n-t+1 nodes at least one of them is
// among any t. So the highest marks of these are at or above every signature there is.
func (s *survey) addUp(accepted string) error {
	s.history.Marks = map[cluster.PubKey]Marks{}
	for _, v := range s.lock.Validators {
		s.history.Marks[v.PubKey] = Marks{}
	}
	known, some := 0, false
	var whys []string
	same := map[string][]string{}
	for _, n := range s.nodes {
		if n.why == "" {
			known++
		} else {
			if same[n.why] == nil {
				whys = append(whys, n.why)
			}
			same[n.why] = append(same[n.why], n.name())
		}
		if n.has == nil {
			continue
		}
		if some && n.has.GenesisValidatorsRoot != s.history.GenesisValidatorsRoot {
			return &Error{Code: CodeForeign, Path: n.dir, Err: fmt.Errorf("its slashing protection is of the chain with genesis validators root %s, that of another node of %s", n.has.GenesisValidatorsRoot, s.history.GenesisValidatorsRoot),
				Remedy: "give directories of nodes that ran on one chain"}
		}
		some = true
		s.history.GenesisValidatorsRoot = n.has.GenesisValidatorsRoot
		for k, m := range s.history.Marks {
			s.history.Marks[k] = m.raise(n.has.Marks[k])
		}
	}
	for _, why := range whys {
		s.gaps = append(s.gaps, strings.Join(same[why], ", ")+": "+why)
	}
	operators, threshold := len(s.lock.Definition.Operators), int(s.lock.Definition.Threshold)
	need := operators - threshold + 1
	if known < need {
		s.gaps = append(s.gaps, fmt.Sprintf("the histories of %d of %d nodes are needed, so that every signature has one of them among its %d signers, and %d are known", need, operators, threshold, known))
	}
	s.whole = len(s.gaps) == 0
	if !some {
		s.history.Marks = nil
	}
	phrase := Phrase(s.lock.LockHash)
	if s.whole || accepted == phrase {
		return nil
	}
	if accepted != "" {
		return &Error{Code: CodeParams, Field: "no-slashing-history", Err: fmt.Errorf("%q is not the sentence that is asked for", accepted), Remedy: fmt.Sprintf("type %q if you mean it", phrase), Phrase: phrase}
	}
	remedy := fmt.Sprintf("give the directories in which the nodes ran last, with their provost directory; if that can't be had, make the keys without their history by --no-slashing-history=%q", phrase)
	if with := len(s.nodes) - len(s.lackingDirs()); with >= threshold && known >= need {
		remedy, phrase = "leave out "+strings.Join(s.lackingDirs(), " and ")+": the others are enough", ""
	}
	return &Error{Code: CodeHistory, Err: fmt.Errorf("what was signed isn't known: %s", strings.Join(s.gaps, "; ")), Remedy: remedy, Phrase: phrase}
}

func (s *survey) lackingDirs() (out []string) {
	for _, n := range s.nodes {
		if n.why != "" {
			out = append(out, n.dir)
		}
	}
	return out
}

func (m Marks) raise(o Marks) Marks {
	return Marks{m.HasAttestation || o.HasAttestation, max(m.Source, o.Source), max(m.Target, o.Target), m.HasBlock || o.HasBlock, max(m.Slot, o.Slot)}
}

func targetError(target string, err error) *Error {
	e := &Error{Code: CodeFailed, Field: "output-dir", Path: target, Err: plain(err)}
	switch {
	case errors.Is(err, fs.ErrExist):
		e.Code, e.Err, e.Remedy = CodeExists, errors.New("something is there already"), "name another --output-dir: keys are never overwritten"
	case errors.Is(err, fs.ErrNotExist):
		e.Code, e.Err, e.Remedy = CodeParams, errors.New("the directory above it does not exist"), "make it first, where you want the keys"
	case errors.Is(err, unix.ENOTDIR):
		e.Code, e.Remedy = CodeParams, "name a directory within a directory"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		e.Code, e.Remedy = CodeRights, "name an --output-dir that you may write to"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Code, e.Remedy = CodeNoSpace, "free some space, or name another --output-dir; nothing was left behind"
	}
	return e
}

// plain drops the path from an error of the file system: it stands in front already.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	return err
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// readFile reads a regular file of at most limit bytes. Links are followed: secrets are often mounted
// as such.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a named pipe would hold us up for ever
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it has more than %d bytes", limit)
	}
	return raw, err
}
