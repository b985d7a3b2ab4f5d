package dv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/nodedir"
	"app.provost/cluster/guard"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/peer"
)

// Node is one node of a cluster. Open makes it.
type Node struct {
	o   Options
	dir *nodedir.Directory

	mu      sync.Mutex
	state   NodeState
	problem string
	ran     bool
	core    *core
	net     peers
	bn      beaconAPI
	guard   *guard.Guard
	from    cluster.Epoch // the first that may be signed in, when slashing protection assumes that it was until now
}

func newNode(dir *nodedir.Directory, o Options) *Node {
	return &Node{o: o.withDefaults(), dir: dir, state: NodeStarting}
}

// Lock is the lock of the node's cluster. It must not be changed.
func (n *Node) Lock() *cluster.Lock { return n.dir.Lock }

// Self is the node's index in the lock.
func (n *Node) Self() cluster.PeerIndex { return n.dir.Self }

// Insecure tells whether the keystores can be opened by anybody who reads them.
func (n *Node) Insecure() bool { return n.dir.Insecure }

// Findings are what should be mended in the directory.
func (n *Node) Findings() []Finding {
	var out []Finding
	for _, f := range n.dir.Findings {
		out = append(out, Finding{string(f.Code), f.Problem, f.Remedy})
	}
	return out
}

// Close wipes the node's secrets. It must not be called while Run runs.
func (n *Node) Close() { n.dir.Wipe() }

func (n *Node) set(state NodeState, problem string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state, n.problem = state, problem
}

// compatible is the level of Charon that peers are told: they refuse versions that they don't know.
const compatible = "v1.10.3-provost"

// stateDir is where a node keeps what it must not lose, below its directory.
const stateDir = "provost"

// Run runs the node until ctx ends, which is no error, or until it can't go on. It waits for a
// beacon node as long as it takes. When it returns, all that it started has ended and slashing
// protection is closed. Errors are *Error.
func (n *Node) Run(ctx context.Context) error {
	n.mu.Lock()
	again := n.ran
	n.ran = true
	n.mu.Unlock()
	if again {
		return &Error{CodeRunning, errors.New("run node: it ran already"), "open the directory again"}
	}
	err := n.run(ctx)
	n.set(NodeStopped, "")
	if err != nil {
		n.set(NodeStopped, err.Error())
		var own *Error
		if !errors.As(err, &own) {
			err = &Error{CodeProgram, fmt.Errorf("run node: %w", err), ""}
		}
		return err
	}
	return nil
}

func (n *Node) run(ctx context.Context) error {
	house := newHousehold(ctx)
	defer house.close()
	keyLock, err := peer.AcquireKeyLock(peer.KeyLockOptions{KeyFile: filepath.Join(n.dir.Path, enr.KeyFileName), Command: "provost up",
		LockHash: n.dir.Lock.LockHash, Logger: n.o.Logger, Spawn: house.spawn})
	if err != nil {
		var used *peer.KeyInUse
		if errors.As(err, &used) {
			return &Error{CodeKeyInUse, fmt.Errorf("run node: %w", err), ""} // its text ends with the remedy
		}
		return &Error{CodeState, fmt.Errorf("run node: lock the node key: %w", err), "give the owner of the node directory the right to write there"}
	}
	defer func() {
		house.close() // the lock's loop too
		if err := keyLock.Release(); err != nil {
			n.o.Logger.Warn("the lock of the node key was not removed", "err", err)
		}
	}()
	// Looked at again, since an export holds the key until the note is written.
	note, err := fenced(n.dir.Path)
	if err != nil {
		return err
	}
	st, err := readState(filepath.Join(n.dir.Path, stateDir), n.dir)
	if err != nil {
		return err
	}
	host, err := n.connect(house)
	if err != nil {
		return err
	}
	defer func() {
		if err := host.Close(); err != nil {
			n.o.Logger.Warn("the connections to peers did not close well", "err", err)
		}
	}()
	var pin *cluster.Root
	if st != nil {
		pin = &st.ValidatorsRoot
	}
	bn, err := beacon.New(beacon.Options{Endpoints: n.o.BeaconNodes, Fallbacks: n.o.Fallbacks, Timeout: n.o.BeaconWait, SubmitTimeout: n.o.SubmitWait,
		Headers: n.o.Headers, Fork: n.dir.Lock.Definition.ForkVersion, ValidatorsRoot: pin, Logger: n.o.Logger, Spawn: house.spawn, OnEvent: n.onEvent})
	if err != nil {
		return &Error{CodeBeaconOptions, fmt.Errorf("run node: %w", err), ""}
	}
	defer bn.Close()
	n.mu.Lock()
	n.net, n.bn = host, bn
	n.mu.Unlock()

	chain, err := n.await(house.ctx, bn)
	if err != nil {
		return house.cause(err)
	}
	g, err := n.protect(house.ctx, chain, st)
	if err != nil {
		return err
	}
	defer func() {
		house.close() // whoever signs
		if err := g.Close(); err != nil {
			n.o.Logger.Error("slashing protection did not close well", "err", err)
		}
	}()
	if note != nil {
		if err := n.waitOut(house.ctx, g, note); err != nil {
			return err
		}
	}
	from, err := n.waits(house.ctx, g, chain.Clock)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.guard, n.from = g, from
	n.mu.Unlock()
	return n.serve(house, bn, host, g, chain)
}

// serve runs a node on its surroundings, whatever they are made of.
func (n *Node) serve(house *household, bn beaconAPI, net peers, g slashing, chain beacon.Chain) error {
	c, err := newCore(house.ctx, n.dir, n.o, bn, net, g, chain, house.spawn)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.core, n.bn, n.net = c, bn, net
	n.mu.Unlock()
	if wait := time.Until(chain.Clock.Genesis); wait > 0 {
		n.set(NodeGenesis, fmt.Sprintf("the chain begins at %s", chain.Clock.Genesis.UTC().Format(time.RFC3339)))
		house.spawn("dv.genesis", func(ctx context.Context) error {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			select {
			case <-timer.C:
				n.set(NodeRunning, "")
			case <-ctx.Done():
			}
			return nil
		})
	} else {
		n.set(NodeRunning, "")
	}
	err = c.run()
	house.close()
	if err != nil {
		return err
	}
	return house.cause(nil)
}

// onEvent passes on what beacon nodes tell, once there is somebody to hear it.
func (n *Node) onEvent(e beacon.Event) {
	n.mu.Lock()
	c := n.core
	n.mu.Unlock()
	if c != nil {
		c.onEvent(e)
	}
}

// connect starts the connections to the peers.
func (n *Node) connect(house *household) (*peer.Host, error) {
	list := make([]peer.Peer, len(n.dir.NodeKeys))
	for i, key := range n.dir.NodeKeys {
		index := cluster.PeerIndex(i)
		list[i] = peer.Peer{Index: index, PubKey: key, Name: fmt.Sprintf("node%d", i), Addrs: n.o.Peers[index]}
	}
	host, err := peer.New(peer.Options{Key: n.dir.Key, Peers: list, ListenTCP: n.o.Listen, Advertise: n.o.Advertise, Relays: n.o.Relays,
		Version: compatible, GitHash: n.o.GitHash, Nickname: n.o.Nickname, LockHash: n.dir.Lock.LockHash, Builder: n.o.Builder, Logger: n.o.Logger, Spawn: house.spawn})
	if err != nil {
		return nil, &Error{CodePeers, fmt.Errorf("run node: %w", err), "look at the addresses, and whether another program has the port"}
	}
	n.mu.Lock()
	n.net = host
	n.mu.Unlock()
	return host, nil
}

// await waits for a beacon node of the right chain.
func (n *Node) await(ctx context.Context, bn *beacon.Client) (beacon.Chain, error) {
	for pause := time.Second; ; pause = min(2*pause, 12*time.Second) {
		chain, err := bn.Chain(ctx)
		if err == nil {
			return chain, nil
		}
		if ctx.Err() != nil {
			return beacon.Chain{}, context.Cause(ctx)
		}
		wrong := true
		for _, e := range bn.Endpoints() {
			wrong = wrong && e.Status == beacon.StatusWrongNetwork
		}
		if wrong && beacon.KindOf(err) == beacon.KindWrongNetwork {
			return beacon.Chain{}, &Error{CodeWrongNetwork, fmt.Errorf("run node: %w", err),
				fmt.Sprintf("name a beacon node of the lock's network (genesis fork version %s)", n.dir.Lock.Definition.ForkVersion)}
		}
		n.set(NodeWaiting, err.Error())
		n.o.Logger.Warn("no beacon node answers yet; asking again", "err", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return beacon.Chain{}, context.Cause(ctx)
		}
	}
}

// protect opens slashing protection. A node that ran before must have it.
func (n *Node) protect(ctx context.Context, chain beacon.Chain, st *nodeState) (*guard.Guard, error) {
	dir := filepath.Join(n.dir.Path, stateDir)
	g, err := guard.Open(guard.Options{Dir: dir, GenesisValidatorsRoot: chain.Genesis.ValidatorsRoot, Clock: chain.Clock, Create: st == nil})
	if err != nil {
		return nil, guardError(err)
	}
	keys := make([]cluster.PubKey, len(n.dir.Lock.Validators))
	for i, v := range n.dir.Lock.Validators {
		keys[i] = v.PubKey
	}
	as := guard.Fenced
	if n.o.KeysNeverSigned {
		as = guard.Unused
	}
	// What is known before a first start is what old validators had signed when their history was exported,
	// maybe long ago: they are fenced from now, whatever is said of the keys.
	var inherited []cluster.PubKey
	for _, k := range keys {
		if st != nil || err != nil {
			break
		}
		var known bool
		if _, known, err = g.Marks(ctx, k); known {
			inherited = append(inherited, k)
		}
	}
	if err == nil && len(inherited) > 0 {
		_, err = g.Fence(ctx, inherited)
	}
	if err == nil {
		err = g.Register(ctx, keys, as)
	}
	if err == nil && st == nil {
		err = writeState(dir, n.dir, chain.Genesis.ValidatorsRoot)
	}
	if err != nil {
		_ = g.Close() // the first error says more
		return nil, guardError(err)
	}
	return g, nil
}

// waits returns the first epoch in which slashing protection lets any validator be signed for, 0 when
// that is now.
func (n *Node) waits(ctx context.Context, g *guard.Guard, clock cluster.SlotClock) (from cluster.Epoch, err error) {
	slot, _ := clock.At(time.Now())
	now := clock.Epoch(slot)
	for i, v := range n.dir.Lock.Validators {
		m, _, err := g.Marks(ctx, v.PubKey)
		if err != nil {
			return 0, guardError(err)
		}
		if !m.HasAttestation || m.Target <= now {
			return 0, nil
		}
		if i == 0 || m.Target+1 < from {
			from = m.Target + 1
		}
	}
	return from, nil
}

func guardError(err error) error {
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	code := CodeGuard
	remedy := ""
	var ge *guard.Error
	if errors.As(err, &ge) {
		code = Code(ge.Code) // its text ends with the remedy
	}
	return &Error{code, fmt.Errorf("run node: %w", err), remedy}
}

// stateSchema is the format of the file that says that a node ran here.
const (
	stateSchema = "provost.node/1"
	stateFile   = "node.json"
)

// nodeState is kept beside slashing protection: a node that ran before must not begin with an empty
// one, nor on another chain or for another cluster.
//
// Format 1, 2026-11-20: the first.
type nodeState struct {
	Schema         string       `json:"schema"`
	LockHash       cluster.Root `json:"lock_hash"`
	Share          int          `json:"share_index"`
	ValidatorsRoot cluster.Root `json:"genesis_validators_root"`
	Created        time.Time    `json:"created"`
}

// readState returns nil when no node ran here yet.
func readState(dir string, d *nodedir.Directory) (*nodeState, error) {
	path := filepath.Join(dir, stateFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	st := new(nodeState)
	if err == nil {
		err = json.Unmarshal(raw, st)
	}
	if err == nil && st.Schema != stateSchema {
		err = fmt.Errorf("its schema is %.40q, this program reads %s", st.Schema, stateSchema)
	}
	if err != nil {
		return nil, &Error{CodeState, fmt.Errorf("run node: read %s: %w", path, err), "take the file from a backup; don't remove it: it says that this node signed before"}
	}
	if st.LockHash != d.Lock.LockHash || st.Share != int(d.Self.Share()) {
		return nil, &Error{CodeOtherCluster, fmt.Errorf("run node: %s is of share %d of the cluster with lock hash %s; this is share %d of %s", path, st.Share, st.LockHash, d.Self.Share(), d.Lock.LockHash),
			"run this node from a directory of its own"}
	}
	return st, nil
}

func writeState(dir string, d *nodedir.Directory, root cluster.Root) error {
	raw, err := json.MarshalIndent(nodeState{stateSchema, d.Lock.LockHash, int(d.Self.Share()), root, time.Now().UTC().Truncate(time.Second)}, "", "  ")
	if err != nil {
		return err
	}
	if err := writeDurably(filepath.Join(dir, stateFile), append(raw, '\n')); err != nil {
		return &Error{CodeState, fmt.Errorf("run node: %w", err), "make room and give the owner of the node directory the right to write there"}
	}
	return nil
}

// writeDurably has the whole file on disk, or the old one, whenever the power fails.
func writeDurably(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // the first error says more
		}
	}()
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// household owns the goroutines of a node: it knows when all have ended, and ends all when one
// fails.
type household struct {
	ctx  context.Context
	fail context.CancelCauseFunc
	own  error // closes it without a fault

	mu      sync.Mutex
	idle    sync.Cond // running fell to 0
	running int
}

var errStopped = errors.New("the node was stopped")

func newHousehold(ctx context.Context) *household {
	h := &household{own: errStopped}
	h.idle.L = &h.mu
	h.ctx, h.fail = context.WithCancelCause(ctx)
	return h
}

// spawn runs fn until its end. Its error ends all. After close fn finds its context ended.
func (h *household) spawn(name string, fn func(ctx context.Context) error) {
	h.mu.Lock()
	h.running++
	h.mu.Unlock()
	go func() {
		defer func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.running--; h.running == 0 {
				h.idle.Broadcast()
			}
		}()
		if err := fn(h.ctx); err != nil && h.ctx.Err() == nil {
			h.fail(fmt.Errorf("%s: %w", name, err))
		}
	}()
}

// close ends all and waits.
func (h *household) close() {
	h.fail(h.own)
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.running > 0 {
		h.idle.Wait()
	}
}

// cause is why the household ended, nil when it was told to.
func (h *household) cause(err error) error {
	why := context.Cause(h.ctx)
	if why == nil || errors.Is(why, errStopped) || errors.Is(why, context.Canceled) || errors.Is(why, context.DeadlineExceeded) {
		if err != nil && h.ctx.Err() == nil {
			return err
		}
		return nil
	}
	return why
}
