package create

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/keystore"

	"golang.org/x/sys/unix"
)

// LockFileName is the name of the lock file in a node directory; keysDirName that of the directory
// with its keystores.
const (
	LockFileName = "cluster-lock.json"
	keysDirName  = "validator_keys"
)

// Modes of what is written. Nothing with a secret is readable by group or others.
const (
	modeDir     fs.FileMode = 0o700
	modeNodeKey fs.FileMode = 0o600
	modeSecret  fs.FileMode = 0o400
	modeLock    fs.FileMode = 0o400
	modeDeposit fs.FileMode = 0o444
	modeGuard   fs.FileMode = 0o600
)

// PlannedFile is a file or directory that Run will write.
type PlannedFile struct {
	Path string      `json:"path"` // relative to the target, with slashes
	Mode fs.FileMode `json:"mode"` // with fs.ModeDir for a directory
	What string      `json:"what"`
}

// PlanResult is what Run would do. Nothing was written for it.
type PlanResult struct {
	Dir          string        `json:"dir"` // absolute
	Network      string        `json:"network"`
	Nodes        int           `json:"nodes"`
	Threshold    int           `json:"threshold"`
	Validators   int           `json:"validators"`
	MayBeDown    int           `json:"may_be_down"` // nodes that may be off while duties succeed
	Files        []PlannedFile `json:"files"`
	Warnings     []string      `json:"warnings"`
	Notes        []string      `json:"notes"`
	Irreversible []string      `json:"irreversible"`
	Leftovers    []string      `json:"leftovers"` // of killed runs, which Run will wipe
	Sources      []Source      `json:"sources,omitempty"`
	Definition   *cluster.Root `json:"definition,omitempty"` // config hash of the definition file
}

// Source says which existing keystore a validator comes from.
type Source struct {
	PubKey cluster.PubKey `json:"pubkey"`
	File   string         `json:"file"` // relative to the directory of keys
}

// Plan checks parameters, the files they name and the target, and says what Run would write. It opens
// no keystore and sends nothing anywhere. Errors are *ProblemsError or *Error.
func Plan(ctx context.Context, p Params) (PlanResult, error) {
	r, err := p.prepare(ctx)
	if err != nil {
		return PlanResult{}, err
	}
	t, err := r.checkTargets()
	if err != nil {
		return PlanResult{}, err
	}
	out := PlanResult{Dir: t.dir, Network: r.network.Name, Nodes: r.Nodes, Threshold: int(r.threshold), Validators: r.NumValidators,
		MayBeDown: r.threshold.MayBeDown(r.Nodes), Files: r.files(), Warnings: append(r.warnings(), t.warnings...), Notes: r.notes(), Irreversible: r.irreversible(), Sources: r.sources()}
	if d := r.in.definition; d != nil {
		out.Definition = &d.ConfigHash
	}
	if left, err := findLeftovers(t.parent); err == nil {
		out.Leftovers = left
	}
	return out, nil
}

// prepare reads and judges everything that the parameters say and name.
func (p Params) prepare(ctx context.Context) (resolved, error) {
	in, problems, err := p.read(ctx)
	if err != nil {
		return resolved{}, explain("create cluster in", p.Dir, err)
	}
	r, more := p.resolve(in)
	if problems = append(problems, more...); len(problems) > 0 {
		return resolved{}, &ProblemsError{problems}
	}
	return r, nil
}

func (r *resolved) checkTargets() (target, error) {
	t, err := checkTarget(r.Dir)
	if err != nil {
		return target{}, err
	}
	return t, checkDefinitionOut(r.DefinitionOut, t)
}

func (r *resolved) sources() []Source {
	var out []Source
	for _, k := range r.in.keys {
		out = append(out, Source{k.keystore.PubKey, k.file})
	}
	return out
}

// files is the exact tree, directories before what is in them.
func (r *resolved) files() []PlannedFile {
	if r.Zipped {
		return []PlannedFile{{archiveName, modeArchive, "all node directories (secret)"}}
	}
	var out []PlannedFile
	for n := range r.Nodes {
		node := nodeDirName(n)
		out = append(out,
			PlannedFile{node, modeDir | fs.ModeDir, fmt.Sprintf("node %d", n)},
			PlannedFile{node + "/" + enr.KeyFileName, modeNodeKey, "private key of the node's network identity (secret)"},
			PlannedFile{node + "/" + LockFileName, modeLock, "the cluster, the same for all nodes"})
		for _, a := range r.amounts {
			out = append(out, PlannedFile{node + "/" + depositFileName(a), modeDeposit, "deposits of " + a.String() + ", the same for all nodes"})
		}
		if r.in.history != nil {
			out = append(out,
				PlannedFile{node + "/" + guardDirName, modeDir | fs.ModeDir, "the node's own state"},
				PlannedFile{node + "/" + guardDirName + "/" + guardFileName, modeGuard, "slashing protection, with what the old validators signed"})
		}
		if len(r.KeymanagerAddresses) > 0 {
			continue // the shares go to a validator client
		}
		out = append(out, PlannedFile{node + "/" + keysDirName, modeDir | fs.ModeDir, "key shares"})
		for v := range r.NumValidators {
			name := keystore.FileName(v, r.strength())
			out = append(out,
				PlannedFile{node + "/" + keysDirName + "/" + name, modeSecret, fmt.Sprintf("share %d of validator %d's key, encrypted", n+1, v)},
				PlannedFile{node + "/" + keysDirName + "/" + keystore.PasswordFileName(name), modeSecret, "its password (secret)"})
		}
	}
	return out
}

func (r *resolved) strength() keystore.Strength {
	if r.InsecureKeys {
		return keystore.Insecure
	}
	return keystore.Full
}

func (r *resolved) warnings() []string {
	var out []string
	var burn []string
	for _, set := range []struct {
		what  string
		addrs []cluster.ETHAddress
	}{{"withdrawal", r.withdrawal}, {"fee recipient", r.feeRecipient}} {
		for _, a := range set.addrs {
			if a.Burn() {
				burn = append(burn, fmt.Sprintf("%s address %s", set.what, a))
				break
			}
		}
	}
	if len(burn) > 0 {
		out = append(out, "nobody holds the key of "+strings.Join(burn, " nor of ")+": money sent there is lost for ever")
	}
	if r.InsecureKeys {
		out = append(out, "insecure keystores: whoever reads a keystore file can open it; never deposit for these validators")
	}
	if r.threshold.Low(r.Nodes) {
		out = append(out, fmt.Sprintf("threshold %d of %d is low: %d nodes together could sign what the cluster never agreed on", r.threshold, r.Nodes, r.threshold))
	}
	if r.clockProblem != "" {
		out = append(out, r.clockProblem+": the definition will bear a wrong date; set the clock before a node runs here")
	}
	if r.SplitExistingKeys {
		out = append(out,
			"stop the old validator client for good: these keys must be off for two finalized epochs (about 15 minutes on mainnet; look that the validators miss attestations) before a node of the new cluster starts, or they are slashed",
			"don't deposit with the new deposit files for validators that are active already: they are only for keys without a deposit",
			"the old keystores still hold the whole keys: once the cluster works, keep them offline and start no client with them")
		if r.in.history != nil {
			out = append(out, "nodes that run another program than provost don't read the slashing history that is put into the node directories: for them the two finalized epochs are the only protection")
		}
	}
	if len(r.KeymanagerAddresses) > 0 {
		out = append(out, "the key shares will be at the validator clients only: back them up there; verify cluster can't see them")
	}
	return append(out, r.in.warnings...)
}

func (r *resolved) notes() []string {
	note := fmt.Sprintf("signing needs %d of %d nodes; %s", r.threshold, r.Nodes, mayBeDown(r.threshold.MayBeDown(r.Nodes)))
	if def := cluster.DefaultThreshold(r.Nodes); r.threshold != def {
		note += fmt.Sprintf(" (with the default threshold of %d: %d)", def, def.MayBeDown(r.Nodes))
	}
	notes := []string{note}
	if r.SplitExistingKeys {
		notes = append(notes, "a node of provost signs nothing for these keys until two epochs after its first start, whatever the history says")
	}
	if r.in.order != "" {
		notes = append(notes, "validators are in the order of "+r.in.order+", and so are their addresses")
	}
	if len(r.in.ignored) > 0 {
		notes = append(notes, "JSON files that are no keystores were left alone: "+listSome(r.in.ignored))
	}
	if r.DefinitionOut != "" {
		notes = append(notes, "the definition goes to "+r.DefinitionOut)
	}
	return notes
}

func mayBeDown(n int) string {
	switch n {
	case 0:
		return "no node may be down"
	case 1:
		return "1 node may be down"
	default:
		return strconv.Itoa(n) + " nodes may be down"
	}
}

func (r *resolved) irreversible() []string {
	withdrawal := "the withdrawal address of a validator can't be changed after its deposit"
	switch {
	case r.SplitExistingKeys:
		return []string{withdrawal, "whoever has the old keystores can still sign for the validators: splitting a key doesn't change it"}
	case len(r.KeymanagerAddresses) > 0:
		return []string{withdrawal, fmt.Sprintf("the full validator keys are not kept: with the shares of fewer than %d of the %d validator clients they are lost", r.threshold, r.Nodes)}
	case r.Zipped:
		return []string{withdrawal, "the full validator keys are not kept: if the archive is lost before it is unpacked, so are they"}
	}
	return []string{withdrawal, fmt.Sprintf("the full validator keys are not kept: below %d of the %d node directories they are lost", r.threshold, r.Nodes)}
}

func nodeDirName(n int) string { return "node" + strconv.Itoa(n) }

// target is a place that can take a cluster.
type target struct {
	dir      string // absolute
	parent   string // of dir
	ancestor string // nearest parent that exists
	warnings []string
}

// checkTarget says whether a cluster can be put at dir. It changes nothing.
func checkTarget(dir string) (target, error) {
	const action = "create cluster in"
	refuse := func(kind Kind, path, cause, remedy string) error {
		return &Error{Kind: kind, Action: action, Path: path, Err: errors.New(cause), Remedy: remedy}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return target{}, explain(action, dir, err)
	}
	t := target{dir: abs, parent: filepath.Dir(abs)}
	if t.parent == abs {
		return target{}, refuse(KindUsage, abs, "it is the root directory", "name a directory to create")
	}
	if strings.HasPrefix(filepath.Base(abs), tempPrefix) {
		return target{}, refuse(KindUsage, abs, "names that begin with "+tempPrefix+" are for runs in progress", "choose another --cluster-dir")
	}
	info, err := os.Lstat(abs)
	switch {
	case err == nil:
		if err := checkExisting(abs, info, refuse); err != nil {
			return target{}, err
		}
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, unix.ENOTDIR):
		return target{}, refuse(KindUsage, abs, "a file stands where a directory belongs", "choose another --cluster-dir")
	default:
		return target{}, explain(action, abs, err)
	}
	for t.ancestor = t.parent; ; t.ancestor = filepath.Dir(t.ancestor) {
		info, err := os.Stat(t.ancestor)
		if errors.Is(err, fs.ErrNotExist) && t.ancestor != filepath.Dir(t.ancestor) {
			if _, err := os.Lstat(t.ancestor); err == nil {
				return target{}, refuse(KindUsage, t.ancestor, "it is a symbolic link to nothing", "remove the link or choose another --cluster-dir")
			}
			continue
		}
		if err != nil {
			return target{}, explain(action, t.ancestor, err)
		}
		if !info.IsDir() {
			return target{}, refuse(KindUsage, t.ancestor, "a file stands where a directory belongs", "choose another --cluster-dir")
		}
		break
	}
	if err := unix.Access(t.ancestor, unix.W_OK|unix.X_OK); err != nil {
		return target{}, explain(action, t.ancestor, &fs.PathError{Op: "write", Path: t.ancestor, Err: err})
	}
	if info, err := os.Stat(t.ancestor); err == nil && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		t.warnings = append(t.warnings, fmt.Sprintf("everybody may rename what lies in %s (mode %s), the new directory too: chmod o-w %s", t.ancestor, octal(info.Mode()), shellQuote(t.ancestor)))
	}
	return t, nil
}

func checkExisting(abs string, info fs.FileInfo, refuse func(kind Kind, path, cause, remedy string) error) error {
	if info.Mode()&fs.ModeSymlink != 0 {
		return refuse(KindUsage, abs, "it is a symbolic link", "name the directory itself, or remove the link")
	}
	if !info.IsDir() {
		return refuse(KindExists, abs, "a file stands there", "choose another --cluster-dir")
	}
	if !ours(info) {
		return refuse(KindNotAllowed, abs, "it belongs to another user, who could read or replace what is made there", "choose a --cluster-dir of your own, or run this as its owner")
	}
	d, err := os.Open(abs)
	if err != nil {
		return explain("create cluster in", abs, err)
	}
	names, err := d.Readdirnames(1000)
	_ = d.Close() // only read
	if err != nil && len(names) > 0 {
		return explain("create cluster in", abs, err)
	}
	for _, name := range names {
		if _, ok := parseNodeDirName(name); ok {
			if _, err := os.Lstat(filepath.Join(abs, name, LockFileName)); err == nil {
				return refuse(KindExists, abs, "it holds a cluster already ("+name+"/"+LockFileName+")", "choose another --cluster-dir; a cluster is never overwritten")
			}
		}
	}
	if len(names) > 0 {
		return refuse(KindExists, abs, fmt.Sprintf("it is not empty (%q)", names[0]), "choose a --cluster-dir that doesn't exist or is empty")
	}
	if here, err := os.Stat("."); err == nil && os.SameFile(here, info) {
		return refuse(KindUsage, abs, "it is the current directory, which can't be replaced in one step", "name a directory below it, such as ./cluster")
	}
	if parent, err := os.Stat(filepath.Dir(abs)); err == nil && deviceOf(parent) != deviceOf(info) {
		return refuse(KindUsage, abs, "it is a mount point, which can't be replaced in one step", "name a directory below it, such as "+filepath.Join(abs, "cluster"))
	}
	return nil
}
