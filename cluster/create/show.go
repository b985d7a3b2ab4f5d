package create

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
)

// Show says what the lock or the definition at a path says: a cluster directory, a node directory, a
// lock, a definition or a cluster.tar.gz. It reads no file with a secret, verifies nothing and
// changes nothing. Errors are *Error.
func Show(target string) (cluster.Summary, error) {
	const action = "show"
	abs, err := filepath.Abs(target)
	if err != nil {
		return cluster.Summary{}, explain(action, target, err)
	}
	v := newVerifier(abs, Options{})
	defer v.close()
	if err := v.find(); err != nil {
		err := explain(action, abs, err)
		var own *Error
		if errors.As(err, &own) {
			own.Action = action
		}
		return cluster.Summary{}, err
	}
	unreadable := func(name string, err error) (cluster.Summary, error) {
		return cluster.Summary{}, &Error{Kind: KindUsage, Action: action, Path: path.Join(abs, name), Err: err, Remedy: "see what is wrong with it: provost verify cluster " + shellQuote(abs)}
	}
	if v.report.Scope == ScopeDefinition {
		d, err := loadDefinition(v.src, v.single)
		if err != nil {
			return unreadable("", err)
		}
		s := checksummed(d.Summarize(peerID))
		s.Path = v.pathOf(v.single)
		return s, nil
	}
	if v.report.Scope == ScopeLock {
		lock, _, err := readLock(v.src, v.single)
		if err != nil {
			return unreadable("", err)
		}
		s := checksummed(lock.Summarize(peerID))
		s.Path = abs
		return s, nil
	}
	lock := v.readLocks(&sheet{})
	if lock == nil {
		if v.report.Scope == ScopeNode {
			_, _, err := readLock(v.src, LockFileName)
			return unreadable(LockFileName, err)
		}
		return unreadable("", errors.New("no node has a lock that can be read"))
	}
	s := checksummed(lock.Summarize(peerID))
	at := slices.IndexFunc(v.nodes, func(n *nodeDir) bool { return n.lock == lock })
	s.Path = v.pathOf(v.nodes[at].file(LockFileName))
	for _, n := range v.nodes {
		switch {
		case n.lock == nil:
			s.Notes = append(s.Notes, n.file(LockFileName)+" can't be read")
		case n.lock != lock && n.lockSum != v.nodes[at].lockSum:
			s.Notes = append(s.Notes, n.file(LockFileName)+" differs from the one that is shown")
		}
	}
	if v.report.Scope == ScopeCluster && len(v.nodes) != len(lock.Definition.Operators) {
		s.Notes = append(s.Notes, fmt.Sprintf("%d of %d node directories are here", len(v.nodes), len(lock.Definition.Operators)))
	}
	return s, nil
}

// pathOf is the absolute path of a file that is looked at; in an archive, that of the archive.
func (v *verifier) pathOf(name string) string {
	if d, ok := v.src.(diskSource); ok {
		return filepath.Join(d.root, filepath.FromSlash(name))
	}
	return v.root
}

func peerID(text string) (string, error) {
	rec, err := enr.Parse(text)
	if err != nil {
		return "", err
	}
	return rec.PubKey.PeerID(), nil
}

// checksummed spells addresses as people compare them, by EIP-55.
func checksummed(s cluster.Summary) cluster.Summary {
	spell := func(a *string) {
		if got, err := cluster.ParseETHAddress(strings.ToLower(*a), enr.Keccak256); err == nil {
			*a = got.Checksummed(enr.Keccak256)
		}
	}
	spell(&s.Creator.Address)
	for i := range s.Nodes {
		spell(&s.Nodes[i].Operator.Address)
	}
	for i := range s.Validators {
		spell(&s.Validators[i].Withdrawal)
		spell(&s.Validators[i].FeeRecipient)
	}
	return s
}

// NodeIdentity makes the record of the node whose private key is in a file. The key is wiped before
// it returns. The finding is nil unless others may read the file. Errors are *Error and carry no
// secret.
func NodeIdentity(file string) (cluster.Identity, *Finding, error) {
	const action = "read the node's key"
	abs, err := filepath.Abs(file)
	if err != nil {
		return cluster.Identity{}, nil, explain(action, file, err)
	}
	raw, info, err := readFile(abs, maxKeyFileBytes)
	defer clear(raw)
	if err != nil {
		e := &Error{Kind: KindUsage, Action: action, Path: abs, Err: err, Remedy: "name the directory of the node with --data-dir, or its " + enr.KeyFileName + " with --file"}
		if rights, ok := explain(action, abs, err).(*Error); ok && rights.Kind == KindNotAllowed {
			e.Kind, e.Remedy = KindNotAllowed, "run this as the owner of the file"
		}
		return cluster.Identity{}, nil, e
	}
	key, err := enr.ParseKeyFile(raw)
	if err != nil {
		return cluster.Identity{}, nil, &Error{Kind: KindUsage, Action: action, Path: abs, Err: err, Remedy: "take the file from a backup"}
	}
	text, err := enr.Text(key)
	key.Wipe()
	if err != nil {
		return cluster.Identity{}, nil, &Error{Kind: KindUnexpected, Action: action, Path: abs, Err: err}
	}
	id, err := DecodeRecord(text)
	if err != nil {
		return cluster.Identity{}, nil, err
	}
	id.File = abs
	var finding *Finding
	if info.Mode().Perm()&0o077 != 0 {
		finding = &Finding{ID: "modes.enr_key", File: abs, Problem: fmt.Sprintf("the private key has mode %s: others may read it", octal(info.Mode())), Remedy: "chmod 0600 " + shellQuote(abs)}
	}
	return id, finding, nil
}

// DecodeRecord checks the text of a node record and says what is in it.
func DecodeRecord(text string) (cluster.Identity, error) {
	d, err := enr.ParseDetails(text)
	if err != nil {
		return cluster.Identity{}, &Error{Kind: KindUsage, Action: "read the node record", Err: err, Remedy: "copy the whole record again, from enr: to its end"}
	}
	id := cluster.Identity{
		Schema: cluster.IdentitySchema, ENR: strings.TrimRight(text, "="), PeerID: d.PubKey.PeerID(), NodeID: "0x" + hex.EncodeToString(d.PubKey.NodeID()),
		PublicKey: "0x" + d.PubKey.String(), Seq: d.Seq, Signature: "0x" + hex.EncodeToString(d.Signature[:]), Pairs: []cluster.IdentityPair{},
	}
	for _, p := range d.Pairs {
		id.Pairs = append(id.Pairs, cluster.IdentityPair{Key: p.Key, Value: pairText(p)})
	}
	return id, nil
}

// pairText reads the pairs that EIP-778 names; others are shown as bytes.
func pairText(p enr.Pair) string {
	switch {
	case p.List:
	case p.Key == "id":
		return string(p.Value)
	case (p.Key == "ip" && len(p.Value) == 4) || (p.Key == "ip6" && len(p.Value) == 16):
		if a, ok := netip.AddrFromSlice(p.Value); ok {
			return a.String()
		}
	case slices.Contains([]string{"tcp", "udp", "tcp6", "udp6", "quic", "quic6"}, p.Key) && len(p.Value) <= 2:
		return new(big.Int).SetBytes(p.Value).String()
	}
	return "0x" + hex.EncodeToString(p.Value)
}
