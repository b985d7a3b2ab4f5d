package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"app.provost/cluster/simnet"
)

// practice is one cluster on a practice chain of its own.
type practice struct {
	*place
	cluster string // cluster directory
	chain   string // host:port of the practice chain
	nodes   []*node
	extra   []string // flags of every node
}

// node is one distributed-validator node, run by an engine of its own.
type node struct {
	p      *practice
	name   string
	dir    string
	listen string
	peers  string   // --p2p-peers
	prefix []string // what it is run through: "ip netns exec NAME"
	cmd    *exec.Cmd
	ended  chan struct{} // closed once cmd was waited for
	runs   int
}

// with is the same cluster for a part of the test.
func (p *practice) with(t testing.TB) *practice {
	own, q := *p.place, *p
	own.t, q.place = t, &own
	return &q
}

// freePort is a port that nobody has now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// newCluster makes a cluster of n nodes and its place.
func newCluster(t testing.TB, n, validators int) *practice {
	t.Helper()
	p := &practice{place: newPlace(t)}
	p.cluster = filepath.Join(p.dir, "c")
	const address = "0x1111111111111111111111111111111111111111"
	p.must("create", "cluster", "--nodes", strconv.Itoa(n), "--num-validators", strconv.Itoa(validators), "--network", "hoodi", "--insecure-keys",
		"--withdrawal-addresses", address, "--fee-recipient-addresses", address, "--cluster-dir", p.cluster)
	p.addNodes(n, "127.0.0.1")
	return p
}

// addNodes names the nodes and gives each a place to listen. Nothing is started.
func (p *practice) addNodes(n int, host string) {
	var addrs []string
	for i := range n {
		nd := &node{p: p, name: fmt.Sprintf("node%d", i), listen: net.JoinHostPort(host, strconv.Itoa(freePort(p.t)))}
		nd.dir = filepath.Join(p.cluster, nd.name)
		p.nodes = append(p.nodes, nd)
		addrs = append(addrs, nd.name+"="+nd.listen)
	}
	for _, nd := range p.nodes {
		nd.peers = strings.Join(addrs, ",")
	}
	p.t.Cleanup(func() {
		if !p.t.Failed() {
			return
		}
		logs, _ := filepath.Glob(filepath.Join(p.dir, "*.log"))
		for _, f := range logs {
			b, _ := os.ReadFile(f)
			p.t.Logf("end of %s:\n%s", filepath.Base(f), b[max(0, len(b)-3000):])
		}
	})
}

// startChain serves a practice chain for the cluster and waits until it answers.
func (p *practice) startChain(flags ...string) {
	p.t.Helper()
	p.startChainAt(fmt.Sprintf("127.0.0.1:%d", freePort(p.t)), flags...)
}

func (p *practice) startChainAt(listen string, flags ...string) {
	p.t.Helper()
	p.chain = listen
	c := exec.Command(provost, append([]string{"simnet", p.cluster, "--listen", listen}, flags...)...)
	p.background(c, "simnet.log")
	eventually(p.t, 30*time.Second, "the practice chain answers", func() error {
		_, err := p.account()
		return err
	})
}

// background starts a process that is waited for when it ends.
func (p *practice) background(c *exec.Cmd, log string) chan struct{} {
	p.t.Helper()
	c.Env, c.Dir = p.env, p.dir
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	f, err := os.OpenFile(filepath.Join(p.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { c.Wait(); close(ended) }() // at the latest when the place's processes are killed
	return ended
}

// account is what the practice chain has seen.
func (p *practice) account() (simnet.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return simnet.ReadStatus(ctx, p.chain)
}

func (p *practice) mustAccount() simnet.Status {
	p.t.Helper()
	var st simnet.Status
	eventually(p.t, 20*time.Second, "the practice chain tells its account", func() (err error) {
		st, err = p.account()
		return err
	})
	return st
}

// fault begins or ends a fault of the practice chain.
func (p *practice) fault(f simnet.Fault) {
	p.t.Helper()
	body, err := json.Marshal(f)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.chain+"/simnet/v1/faults", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16)); resp.StatusCode/100 != 2 {
		p.t.Fatalf("ask for fault %+v: %s %s", f, resp.Status, b)
	}
}

// nothingSlashable checks the whole account of the chain.
func (p *practice) nothingSlashable() simnet.Status {
	p.t.Helper()
	st := p.mustAccount()
	if st.SlashableTotal != 0 || len(st.Slashable) != 0 {
		p.t.Errorf("the chain has %d slashable messages: %+v", st.SlashableTotal, st.Slashable)
	}
	for _, r := range st.Refusals {
		if strings.Contains(r.Reason, "signature") {
			p.t.Errorf("a signature was refused: %+v", r)
		}
	}
	return st
}

// args are the arguments that start a node's engine.
func (n *node) args() []string {
	a := []string{"up", "--no-tui", "--workers", "0", "--name", n.name, "--state-dir", filepath.Join(n.p.dir, "s", n.name), "--runtime-dir", filepath.Join(n.p.dir, "r", n.name),
		"--socket", n.socket(), "--data-dir", n.dir, "--log-format", "json", "--status-every", "0", "--keys-never-signed=true",
		"--p2p-tcp-address", n.listen, "--p2p-peers", n.peers}
	if n.p.chain != "" {
		a = append(a, "--beacon-node-endpoints", "http://"+n.p.chain)
	}
	return append(a, n.p.extra...)
}

func (n *node) socket() string { return filepath.Join(n.p.dir, "r", n.name+".sock") }

func (n *node) start() {
	n.p.t.Helper()
	argv := append(slices.Clone(n.prefix), append([]string{provost}, n.args()...)...)
	n.cmd = exec.Command(argv[0], argv[1:]...)
	n.ended = n.p.background(n.cmd, n.name+".log")
	n.runs++
}

func (n *node) signal(s syscall.Signal) {
	n.p.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.p.t.Fatalf("signal %s to %s: %v", s, n.name, err)
	}
}

// wait waits for the end of a node's process and gives its exit code; -1 when a signal ended it.
func (n *node) wait(limit time.Duration) int {
	n.p.t.Helper()
	select {
	case <-n.ended:
	case <-time.After(limit):
		n.signal(syscall.SIGQUIT)
		time.Sleep(time.Second)
		n.cmd.Process.Kill()
		<-n.ended
		n.p.t.Fatalf("%s had not ended after %s", n.name, limit)
	}
	return n.cmd.ProcessState.ExitCode()
}

// stop ends a node in order.
func (n *node) stop() {
	n.p.t.Helper()
	n.signal(syscall.SIGTERM)
	if code := n.wait(30 * time.Second); code != 0 && code != 143 {
		n.p.t.Errorf("%s ended with exit code %d after SIGTERM", n.name, code)
	}
}

// refused runs a node that must not run, and gives its exit code and what it said.
func (n *node) refused() (int, string) {
	n.p.t.Helper()
	log := filepath.Join(n.p.dir, n.name+".log")
	before := ""
	if _, err := os.Stat(log); err == nil {
		before = read(n.p.t, log)
	}
	n.start()
	code := n.wait(30 * time.Second)
	return code, strings.TrimPrefix(read(n.p.t, log), before)
}

// list reads rows of the node's engine.
func (n *node) list(kind string, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := n.p.cmd(ctx, "get", kind, "-o", "json", "--socket", n.socket())
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("get %s of %s: %w: %s", kind, n.name, err, stderr.String())
	}
	return json.Unmarshal(stdout.Bytes(), &struct {
		Rows any `json:"rows"`
	}{out})
}

type dutyRow struct {
	Type       string
	Slot       uint64
	Validators []string
	State      string
	Reason     string
	Why        string
	Step       string
	Partials   []int
	Round      *int
}

func (n *node) duties() ([]dutyRow, error) {
	var rows []dutyRow
	return rows, n.list("duties", &rows)
}

type alertRow struct {
	Code   string
	Title  string
	Text   string
	Effect string
	Next   []struct{ Text, Command string }
	Facts  []struct{ Name, Value string }
	Closed *time.Time `json:"closed_at"`
}

func (a alertRow) String() string { b, _ := json.Marshal(a); return string(b) }

func (n *node) alerts() ([]alertRow, error) {
	var rows []alertRow
	err := n.list("alerts", &rows)
	return slices.DeleteFunc(rows, func(a alertRow) bool { return a.Closed != nil }), err
}

type beaconRow struct{ Address, State, Problem string }

type clusterRow struct {
	Ready     string
	Why       string
	PeersUp   *int  `json:"peers_up"`
	SigningOK *bool `json:"signing_ok"`
	Twins     int
	Nodes     int
	Threshold int
	Slot      *uint64
}

func (n *node) clusterRow() (clusterRow, error) {
	var rows []clusterRow
	err := n.list("clusters", &rows)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%s shows %d clusters", n.name, len(rows))
	}
	if err != nil {
		return clusterRow{}, err
	}
	return rows[0], nil
}

// signing waits until the nodes that are named, or all, see that they could sign.
func (p *practice) signing(limit time.Duration, nodes ...*node) {
	p.t.Helper()
	if len(nodes) == 0 {
		nodes = p.nodes
	}
	for _, n := range nodes {
		eventually(p.t, limit, n.name+" is ready to sign", func() error {
			row, err := n.clusterRow()
			if err == nil && (row.SigningOK == nil || !*row.SigningOK) {
				err = fmt.Errorf("it says %+v", row)
			}
			return err
		})
	}
}

// slots waits until so many slots more have begun.
func (p *practice) slots(n uint64) {
	p.t.Helper()
	from := p.mustAccount()
	eventually(p.t, time.Duration(n)*time.Duration(from.SlotMS)*time.Millisecond+30*time.Second, fmt.Sprintf("%d slots pass", n), func() error {
		if st := p.mustAccount(); st.Slots < from.Slots+n {
			return fmt.Errorf("slot %d", st.Slots)
		}
		return nil
	})
}

// wholeEpochs waits until all duties of so many epochs in a row were included. A machine that is busy
// with other things may lose some before: the limit is generous.
func (p *practice) wholeEpochs(epochs uint64, limit time.Duration) {
	p.t.Helper()
	base := p.mustAccount()
	eventually(p.t, limit, fmt.Sprintf("all duties of %d epochs in a row are included", epochs), func() error {
		st := p.mustAccount()
		if st.Duties.Attester.Missed > base.Duties.Attester.Missed || st.Duties.Proposer.Missed > base.Duties.Proposer.Missed {
			base = st
		}
		// Every validator attests once an epoch; every slot has a block.
		want := epochs * uint64(len(st.Validators))
		votes, blocks := st.Duties.Attester.Included-base.Duties.Attester.Included, st.Duties.Proposer.Included-base.Duties.Proposer.Included
		if votes < want || blocks < epochs*st.PerEpoch {
			return fmt.Errorf("since slot %d: %d votes and %d blocks; missed %+v", base.Slots, votes, blocks, st.Reasons)
		}
		return nil
	})
}

// copyDir copies a directory with all its files; secrets stay secret.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case d.Type() != 0:
			return nil // sockets
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip(what + " needs root")
	}
}

// command runs a tool of the system.
func command(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
