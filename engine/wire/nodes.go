package wire

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"app.provost/engine"
	"app.provost/engine/rpc"
	"app.provost/engine/state"
	"app.provost/engine/super"
)

// Nodes of a cluster directory: each runs as an engine of its own, a process that
// super keeps, and this engine follows what they tell over their sockets. A node
// goes on signing while this engine is restarted, as workers go on proving.

// fleet joins what is known of each node's process and what the node tells.
type fleet struct {
	machine string
	tell    func(...state.Fact)

	mu    sync.Mutex // guards the fields below; tell is called under it, nothing else
	nodes []*fleetNode
}

type fleetNode struct {
	id     string // "node0"
	dir    string
	socket string
	log    string
	proc   super.Status
	why    string         // what the process said before it ended
	row    engine.NodeRow // as the node tells it; State "" until it has
	broken engine.Code    // the finding that it was told as, "" for none
	raised map[string]engine.Raise
}

func (f *fleet) find(id string) *fleetNode {
	for _, n := range f.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// onProcess hears of a node's process.
func (f *fleet) onProcess(st super.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.find(st.ID); n != nil {
		n.proc = st
		switch st.Event {
		case super.EventExited:
			n.why = lastWords(n.log)
		case super.EventAdopted:
			n.why = ""
		}
		f.showLocked()
	}
}

func (f *fleet) showLocked() {
	var rows []engine.NodeRow
	for _, n := range f.nodes {
		row := n.row
		if row.Dir == "" {
			row = engine.NodeRow{Key: engine.Key{Machine: f.machine, Node: n.id, ID: n.dir}, Dir: n.dir, State: "starting"}
		}
		if n.why != "" { // it ended with an error and has not run since
			row.State, row.Problem = "broken", n.why
		}
		if broken := brokenAs(row); broken != n.broken {
			key := engine.Key{Machine: f.machine, Node: n.id, ID: n.dir}
			if n.broken != "" {
				f.tell(state.Clear{Code: n.broken, Key: key})
			}
			if n.broken = broken; broken != "" {
				f.tell(state.Raise{Raise: engine.Raise{Code: broken, Key: key, Target: "node/" + n.id, Facts: []engine.Fact{{Name: "why", Value: row.Problem}, {Name: "dir", Value: n.dir}}}})
			}
		}
		switch n.proc.State {
		case super.StateGivenUp:
			row.State, row.Problem = "broken", cmp.Or(n.why, n.proc.Problem)
		case super.StateBackoff:
			row.State, row.Problem = "down", cmp.Or(n.why, n.proc.Problem)
			if x := n.proc.LastExit; x != nil && row.Problem == "" {
				row.Problem = x.Cause
			}
		case super.StateHeld:
			row.State = "held"
		}
		rows = append(rows, row)
	}
	f.tell(state.SetNodes{Rows: rows})
}

// brokenAs is the finding of a node that cannot run, "" when it is none. A process ends its last words
// with their code.
func brokenAs(row engine.NodeRow) engine.Code {
	switch {
	case row.State != "broken":
		return ""
	case strings.HasSuffix(row.Problem, "["+string(engine.FindNodeMoved)+"]"):
		return engine.FindNodeMoved
	}
	return engine.FindNodeBroken
}

// lastWords is the error that a process printed before it ended, "" when it said none.
func lastWords(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 4096 {
		f.Seek(-4096, io.SeekEnd)
	}
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for i := len(lines) - 1; i >= max(0, len(lines)-3); i-- {
		if text, ok := strings.CutPrefix(lines[i], "provost: "); ok {
			return oneLine(text)
		}
	}
	return ""
}

// startFleet starts a process for every node directory below ClusterDir.
func (e *Engine) startFleet(ctx context.Context) error {
	dir := e.o.Config.ClusterDir
	if dir == "" {
		return nil
	}
	const doing = "start nodes"
	dirs, err := nodeDirsOf(dir)
	if err != nil {
		return engine.Problem{Code: engine.CodeConfigInvalid, Exit: engine.ExitUsage, Doing: doing, Field: "cluster-dir", Remedy: "name the directory that holds node0, node1, …"}.Because(err)
	}
	if len(dirs) == 0 {
		return engine.Problem{Code: engine.CodeConfigInvalid, Exit: engine.ExitUsage, Doing: doing, Field: "cluster-dir", Cause: "there is no nodeN below " + dir, Remedy: "name the directory that holds node0, node1, …, or make one with provost create cluster"}.Because(nil)
	}
	ports, err := e.nodePorts(dirs)
	if err != nil {
		return fmt.Errorf("%s: choose ports: %w", doing, err)
	}
	f := e.fleet
	f.mu.Lock()
	for _, d := range dirs {
		id := filepath.Base(d)
		f.nodes = append(f.nodes, &fleetNode{id: id, dir: d, log: e.path("logs", id+".log"), raised: map[string]engine.Raise{},
			socket: filepath.Join(e.nodeRuntime(), id+".sock")})
	}
	f.showLocked()
	nodes := f.nodes
	f.mu.Unlock()
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, fmt.Sprintf("%s=127.0.0.1:%d", n.id, ports[n.id]))
	}
	for _, n := range nodes {
		if err := e.super.Start(ctx, e.nodeSpec(n, ports[n.id], addrs)); err != nil {
			return fmt.Errorf("%s: %s: %w", doing, n.id, err)
		}
		e.scopes["host"].Go("node.follow", func(ctx context.Context) error { return e.follow(ctx, n) })
	}
	return nil
}

// nodeRuntime is the directory of the nodes' sockets: apart from ours, so that who
// looks for engines finds the one that shows them all.
func (e *Engine) nodeRuntime() string {
	return strings.TrimSuffix(e.o.Config.WorkerSocketPath(), ".workers.sock") + ".nodes"
}

// nodeSpec is the engine process of one node. Its state lies in the node's own directory.
func (e *Engine) nodeSpec(n *fleetNode, port int, addrs []string) super.Spec {
	c := e.o.Config
	argv := []string{"", "up", "--no-tui", "--config", os.DevNull, "--name", n.id, "--state-dir", filepath.Join(n.dir, "provost", "engine"),
		"--runtime-dir", e.nodeRuntime(), "--socket", n.socket, "--workers", "0", "--data-dir", n.dir, "--log-format", "json", "--status-every", "0",
		"--p2p-tcp-address", fmt.Sprintf("127.0.0.1:%d", port), "--p2p-peers", strings.Join(addrs, ",")}
	if len(c.Beacons) > 0 {
		argv = append(argv, "--beacon-node-endpoints", strings.Join(c.Beacons, ","))
	}
	if c.Practice != "" {
		argv = append(argv, "--practice", c.Practice)
	}
	if c.LooseModes {
		argv = append(argv, "--allow-loose-modes=true")
	}
	if c.NeverSigned {
		argv = append(argv, "--keys-never-signed=true")
	}
	signing := 0 // the kernel shall end provers first, not who signs
	return super.Spec{ID: n.id, Argv: argv, Dir: e.path("nodes", n.id), LogFile: n.log, OOMScoreAdj: &signing, StopGrace: 12 * time.Second}
}

// nodePorts gives each node a port for its peers, the same ones after a restart.
func (e *Engine) nodePorts(dirs []string) (map[string]int, error) {
	shelf := e.store.Shelf("node-ports")
	kept, err := shelf.All()
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, d := range dirs {
		id := filepath.Base(d)
		var port int
		if json.Unmarshal(kept[id], &port) == nil && port > 0 {
			out[id] = port
			continue
		}
		// The port is free now and is taken by the node in a moment; should somebody be
		// faster, the node says so and the operator can remove it from the store by --p2p-tcp-address.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		port = l.Addr().(*net.TCPAddr).Port
		l.Close()
		doc, err := json.Marshal(port)
		if err != nil {
			return nil, err
		}
		if err := shelf.Put(id, doc); err != nil {
			return nil, err
		}
		out[id] = port
	}
	return out, nil
}

// follow tells what a node's engine tells, for as long as this engine runs.
func (e *Engine) follow(ctx context.Context, n *fleetNode) error {
	for ctx.Err() == nil {
		if err := e.followOnce(ctx, n); err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) && !rpc.LinkLost(err) {
			e.log.Debug("node.follow", "node", n.id, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

func (e *Engine) followOnce(ctx context.Context, n *fleetNode) error {
	dial, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := rpc.Dial(dial, rpc.DialOptions{Socket: n.socket, Version: e.o.Version, Via: engine.ViaRule})
	if err != nil {
		return err
	}
	defer c.Close()
	feed, err := c.Watch(dial, engine.WatchOptions{Every: 500 * time.Millisecond, Sections: []engine.SectionName{
		engine.SecNodes, engine.SecClusters, engine.SecDuties, engine.SecValidators, engine.SecPeers, engine.SecBeacons, engine.SecAlerts}})
	if err != nil {
		return err
	}
	defer feed.Close()
	for {
		u, err := feed.Next(ctx)
		if err != nil {
			return err
		}
		e.fleet.take(n, u.Snapshot)
	}
}

// take folds what a node told into this engine's facts.
func (f *fleet) take(n *fleetNode, s *engine.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rows := s.Nodes.List(); len(rows) > 0 {
		n.row = rows[0]
		n.row.Key.Machine = f.machine
		if n.row.State != "broken" {
			n.why = ""
		}
	}
	if rows := s.Clusters.List(); len(rows) > 0 {
		key := rows[0].Key
		key.Machine, key.ID = f.machine, ""
		f.tell(state.NodeView{Key: key, Cluster: rows[0], Duties: s.Duties.List(), Validators: s.Validators.List(), Peers: s.Peers.List(), Beacons: s.Beacons.List()})
	}
	open := map[string]engine.Raise{}
	for _, a := range s.Alerts.List() {
		if a.Code == engine.FindNodeBroken || a.Code == engine.FindNodeMoved || a.ClosedAt != nil || !strings.HasPrefix(string(a.Code), "node.") && !strings.HasPrefix(string(a.Code), "dv.") {
			continue // its machine is ours too: what the machine suffers from is told once
		}
		key := a.Key
		key.Machine = f.machine
		key.Node = n.id
		open[a.ID] = engine.Raise{Code: a.Code, Key: key, Target: a.Target, Facts: a.Facts}
	}
	for id, r := range open {
		if _, ok := n.raised[id]; !ok {
			f.tell(state.Raise{Raise: r})
		}
	}
	for id, r := range n.raised {
		if _, ok := open[id]; !ok {
			f.tell(state.Clear{Code: r.Code, Key: r.Key})
		}
	}
	n.raised = open
	f.showLocked()
}
