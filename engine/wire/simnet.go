package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/create"
	"app.provost/cluster/simnet"
	"app.provost/engine"
)

// SimnetOptions of a practice chain.
type SimnetOptions struct {
	// Locks are lock files, node directories or cluster directories; their validators are served.
	Locks         []string
	Listen        string // host:port
	SlotDuration  time.Duration
	SlotsPerEpoch uint64
	Fork          string // electra, fulu
	Builder       bool
	GenesisIn     time.Duration // 0: two slots
	Log           io.Writer
	Format        LogFormat
}

// RunSimnet serves a practice chain until ctx ends.
func RunSimnet(ctx context.Context, o SimnetOptions) error {
	const doing = "simnet"
	bad := func(field, cause, remedy string) error { return usage(doing, field, cause, remedy) }
	if len(o.Locks) == 0 {
		return bad("cluster-dir", "no cluster is named", "name a cluster directory, a node directory or a cluster-lock.json")
	}
	var opts simnet.Options
	for i, path := range o.Locks {
		lock, err := readLock(path)
		if err != nil {
			return engine.Problem{Code: engine.CodeClusterBroken, Exit: engine.ExitUsage, Doing: doing, Remedy: "check it with provost verify cluster " + path}.Because(err)
		}
		one, err := simnet.FromLock(lock)
		if err != nil {
			return engine.Problem{Code: engine.CodeClusterBroken, Exit: engine.ExitUsage, Doing: doing}.Because(err)
		}
		if i == 0 {
			opts = one
			continue
		}
		if one.NetworkFork != opts.NetworkFork {
			return bad("cluster-dir", "the clusters are of different networks: "+o.Locks[0]+" and "+path, "serve each by a simnet of its own")
		}
		for _, v := range one.Validators {
			if !slices.ContainsFunc(opts.Validators, func(w simnet.Validator) bool { return w.PubKey == v.PubKey }) {
				opts.Validators = append(opts.Validators, v)
			}
		}
	}
	log := slog.New(newHandler(o.Log, o.Format, slog.LevelInfo))
	opts.SlotDuration, opts.SlotsPerEpoch, opts.Fork, opts.Builder, opts.Address, opts.Logger = o.SlotDuration, o.SlotsPerEpoch, simnet.Fork(o.Fork), o.Builder, o.Listen, log
	if o.GenesisIn > 0 {
		opts.GenesisTime = time.Now().Add(o.GenesisIn).Truncate(time.Second)
	}
	n, err := simnet.New(opts)
	if err != nil {
		return engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing}.Because(err)
	}
	log.Info("simnet", "notice", "a practice chain: nothing on it is real", "listen", o.Listen, "validators", len(opts.Validators), "slot", opts.SlotDuration.String())
	if err := n.Run(ctx); err != nil {
		return engine.Problem{Code: engine.CodePortTaken, Exit: engine.ExitNotAllowed, Doing: doing, Remedy: "choose another --listen address"}.Because(err)
	}
	return context.Cause(ctx)
}

// SimnetStatus reads the account of a practice chain.
func SimnetStatus(ctx context.Context, address string) (simnet.Status, error) {
	return simnet.ReadStatus(ctx, address)
}

// readLock finds the lock of a lock file, a node directory or a cluster directory.
func readLock(path string) (*cluster.Lock, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		candidates := []string{filepath.Join(path, create.LockFileName)}
		nodes, err := nodeDirsOf(path)
		if err != nil {
			return nil, err
		}
		for _, n := range nodes {
			candidates = append(candidates, filepath.Join(n, create.LockFileName))
		}
		path = ""
		for _, c := range candidates {
			if _, err := os.Stat(c); err == nil {
				path = c
				break
			}
		}
		if path == "" {
			return nil, fmt.Errorf("there is no %s in %s, nor in a nodeN below it", create.LockFileName, filepath.Dir(candidates[0]))
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, create.MaxLockBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > create.MaxLockBytes {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, create.MaxLockBytes>>20)
	}
	lock := new(cluster.Lock)
	if err := json.Unmarshal(b, lock); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return lock, nil
}

// nodeDirsOf lists the node directories below a cluster directory, by number.
func nodeDirsOf(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	type node struct {
		n   int
		dir string
	}
	var nodes []node
	for _, e := range entries {
		var n int
		if c, err := fmt.Sscanf(e.Name(), "node%d", &n); c != 1 || err != nil || fmt.Sprintf("node%d", n) != e.Name() || !e.IsDir() {
			continue
		}
		nodes = append(nodes, node{n, filepath.Join(dir, e.Name())})
	}
	slices.SortFunc(nodes, func(a, b node) int { return a.n - b.n })
	var out []string
	for _, n := range nodes {
		out = append(out, n.dir)
	}
	return out, nil
}
