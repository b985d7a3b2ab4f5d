package e2e

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"app.provost/cluster/simnet"
	"app.provost/engine"
)

// copyOf is a node on a copy of another's directory.
func (p *practice) copyOf(n *node, name string) *node {
	p.t.Helper()
	c := &node{p: p, name: name, listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(p.t))), peers: n.peers, dir: filepath.Join(p.dir, name, n.name)}
	copyDir(p.t, n.dir, c.dir)
	return c
}

func change(t testing.TB, path string, how func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, how(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func drop(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// smallDisk mounts a file system of so many bytes.
func smallDisk(t testing.TB, dir string, bytes int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=0700", bytes), "tmpfs", dir); err != nil {
		t.Skipf("no small disk can be made: %v", err)
	}
	t.Cleanup(func() {
		if err := command("umount", "-l", dir); err != nil {
			t.Error(err)
		}
	})
}

// fill leaves no room on a disk, and gives the file that takes it.
func fill(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "fill")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for i := 0; ; i++ {
		if _, err := f.Write(block); err != nil {
			return path
		}
		if i > 1<<16 {
			t.Fatal("the disk does not fill")
		}
	}
}

// firstKey is the public key of a cluster's first validator.
func firstKey(t testing.TB, n *node) []byte {
	t.Helper()
	var lock struct {
		Validators []struct {
			Key string `json:"distributed_public_key"`
		} `json:"distributed_validators"`
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(n.dir, "cluster-lock.json"))), &lock); err != nil || len(lock.Validators) == 0 {
		t.Fatalf("read the lock: %v", err)
	}
	key, err := hex.DecodeString(strings.TrimPrefix(lock.Validators[0].Key, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What must not run says why and what to do, and ends with the code for it.
func TestNodesThatMustNotRun(t *testing.T) {
	t.Parallel()
	p := newCluster(t, 4, 3)
	other := newCluster(t, 4, 3)
	p.startChain("--slot-duration", "3s", "--slots-per-epoch", "4", "--genesis-in", "1s")
	first := p.nodes[0]
	keys := func(dir string, i int) string {
		return filepath.Join(dir, fmt.Sprintf("validator_keys/keystore-insecure-%d.json", i))
	}
	put := func(t testing.TB, from, to string) {
		change(t, to, func([]byte) []byte { return must(os.ReadFile(from)) })
	}
	// A node that has signed, for what is found out about its records only.
	veteran := p.copyOf(first, "veteran")
	veteran.start()
	eventually(t, 60*time.Second, "the node's records are there", func() error {
		if !exists(filepath.Join(veteran.dir, "provost/node.json")) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	veteran.stop()

	for _, c := range []struct {
		name  string
		from  *node
		spoil func(t *testing.T, n *node)
		code  int
		says  []string
	}{
		{"lock-of-another-cluster", first, func(t *testing.T, n *node) {
			put(t, filepath.Join(other.cluster, "node0/cluster-lock.json"), filepath.Join(n.dir, "cluster-lock.json"))
		}, 4, []string{"the node key belongs to no operator of the lock", "put the cluster-lock.json and the charon-enr-private-key of one node into one directory"}},
		{"share-of-another-node", first, func(t *testing.T, n *node) {
			put(t, keys(p.nodes[1].dir, 0), keys(n.dir, 0))
			put(t, strings.TrimSuffix(keys(p.nodes[1].dir, 0), "json")+"txt", strings.TrimSuffix(keys(n.dir, 0), "json")+"txt")
		}, 4, []string{"it holds the share of node 1", "put this node's own keystores into validator_keys"}},
		{"share-of-another-cluster", first, func(t *testing.T, n *node) {
			put(t, keys(other.nodes[0].dir, 0), keys(n.dir, 0))
			put(t, strings.TrimSuffix(keys(other.nodes[0].dir, 0), "json")+"txt", strings.TrimSuffix(keys(n.dir, 0), "json")+"txt")
		}, 4, []string{"is not in the lock: it is of another cluster", "put the keystores that belong to this lock into validator_keys"}},
		{"tampered-lock", first, func(t *testing.T, n *node) {
			change(t, filepath.Join(n.dir, "cluster-lock.json"), func(b []byte) []byte {
				return bytes.ReplaceAll(b, []byte("0x1111111111111111111111111111111111111111"), []byte("0x2222222222222222222222222222222222222222"))
			})
		}, 4, []string{"cluster-lock.json", "the file was changed or damaged after it was made: take it from another node or from a backup"}},
		{"lock-cut-short", first, func(t *testing.T, n *node) {
			change(t, filepath.Join(n.dir, "cluster-lock.json"), func(b []byte) []byte { return b[:len(b)/2] })
		}, 4, []string{"cluster-lock.json", "take it from another node or from a backup"}},
		{"missing-keystore", first, func(t *testing.T, n *node) {
			drop(t, keys(n.dir, 1))
		}, 4, []string{"no keystore holds this node's share of validator", "from a backup of this node"}},
		{"missing-password", first, func(t *testing.T, n *node) {
			drop(t, strings.TrimSuffix(keys(n.dir, 1), "json")+"txt")
		}, 4, []string{"the password file is missing", "take the file from a backup"}},
		{"missing-node-key", first, func(t *testing.T, n *node) {
			drop(t, filepath.Join(n.dir, "charon-enr-private-key"))
		}, 4, []string{"the node key is missing", "take the file from a backup"}},
		{"key-used-by-charon", first, func(t *testing.T, n *node) {
			lock := fmt.Sprintf(`{"timestamp":%q,"command":"charon run"}`, time.Now().Add(time.Minute).Format(time.RFC3339Nano))
			if err := os.WriteFile(filepath.Join(n.dir, "charon-enr-private-key.lock"), []byte(lock), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 3, []string{`the node key is in use by \"charon run\"`, "stop it first", "if it is stopped, the key is free in"}},
		{"records-lost", veteran, func(t *testing.T, n *node) {
			drop(t, filepath.Join(n.dir, "provost/guard.db"))
		}, 4, []string{"guard.db: there is no such file", "put the file back as this node left it, or restore the node from a backup (provost node import)", "start without --keys-never-signed"}},
		{"records-damaged", veteran, func(t *testing.T, n *node) {
			key := firstKey(t, n)
			change(t, filepath.Join(n.dir, "provost/guard.db"), func(b []byte) []byte {
				i := bytes.Index(b, key)
				if i < 0 {
					t.Fatal("the records don't name the validator")
				}
				b[i+len(key)-1] ^= 1 // one bit, in one of what may be several copies
				for j := i; ; {
					next := bytes.Index(b[j+1:], key)
					if next < 0 {
						return b
					}
					j += 1 + next
					b[j+len(key)-1] ^= 1
				}
			})
		}, 4, []string{"guard.db", "nothing is signed and the file was left as it is", "restore the node from a backup (provost node import), or move it and node.json beside it away"}},
		{"records-cut-short", veteran, func(t *testing.T, n *node) {
			change(t, filepath.Join(n.dir, "provost/guard.db"), func(b []byte) []byte { return b[:len(b)/2] })
		}, 4, []string{"guard.db", "nothing is signed and the file was left as it is"}},
		{"records-of-another-share", veteran, func(t *testing.T, n *node) {
			change(t, filepath.Join(n.dir, "provost/node.json"), func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"share_index": 1`), []byte(`"share_index": 2`), 1)
			})
		}, 4, []string{"is of share 2 of the cluster", "run this node from a directory of its own"}},
		{"no-room-for-records", first, func(t *testing.T, n *node) {
			needRoot(t, "a small disk")
			dir := filepath.Join(n.dir, "provost")
			smallDisk(t, dir, 64<<10)
			fill(t, dir)
		}, 4, []string{"guard.db", "no space left on device", "nothing is signed until there is: free some space"}},
		{"address-of-no-peer", first, func(t *testing.T, n *node) { n.peers = "node1" }, 2, []string{`"node1" is no peer's address`, "write node1=10.0.0.2:3610"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := p.with(t).copyOf(c.from, c.name)
			c.spoil(t, n)
			code, said := n.refused()
			for _, w := range c.says {
				if !strings.Contains(said, w) {
					t.Errorf("it does not say %q: %s", w, said)
				}
			}
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
		})
	}
	// Of another chain: the beacon node of a network that is not the lock's.
	p.fault(simnet.Fault{Kind: simnet.WrongNetwork})
	code, said := p.copyOf(first, "wrong-network").refused()
	if code != 4 || !strings.Contains(said, "the node has genesis fork version") || !strings.Contains(said, "name a beacon node of the lock's network") {
		t.Errorf("at a beacon node of another network: exit %d: %s", code, said)
	}
	if st := p.nothingSlashable(); st.Duties.Attester.Included+st.Duties.Proposer.Included != 0 {
		t.Errorf("something was signed: %+v", st.Duties)
	}
}

// While the beacon node is in doubt nothing is signed; the node says why, and goes on when it is over.
func TestNothingIsSignedInDoubt(t *testing.T) {
	t.Parallel()
	p := newCluster(t, 4, 8)
	p.startChain("--slot-duration", "2s", "--slots-per-epoch", "4", "--genesis-in", "8s")
	for _, n := range p.nodes {
		n.start()
	}
	p.signing(60 * time.Second)
	p.slots(2)
	for _, c := range []struct {
		kind  simnet.FaultKind
		state string // of the beacon node
		says  string // of the beacon node, cause and remedy
	}{
		{simnet.Syncing, "syncing", "slots behind: wait for it or name another"},
		{simnet.Optimistic, "optimistic", "hasn't executed the blocks it follows: look at its execution node"},
		{simnet.WrongNetwork, "wrong network", "name a beacon node of the lock's network"},
		{simnet.Down, "down", "unreachable"},
	} {
		if testing.Short() && (c.kind == simnet.Optimistic || c.kind == simnet.WrongNetwork) {
			continue
		}
		p.fault(simnet.Fault{Kind: c.kind})
		for _, n := range p.nodes {
			eventually(t, 40*time.Second, fmt.Sprintf("%s sees that the beacon node is %s", n.name, c.state), func() error {
				var rows []beaconRow
				if err := n.list("beacons", &rows); err != nil {
					return err
				}
				row, err := n.clusterRow()
				if err != nil {
					return err
				}
				if len(rows) != 1 || rows[0].State != c.state || !strings.Contains(rows[0].Problem, c.says) {
					return fmt.Errorf("%+v", rows)
				}
				if row.SigningOK == nil || *row.SigningOK || !strings.Contains(row.Why, "no beacon node is in step with the chain") {
					return fmt.Errorf("%+v", row)
				}
				return nil
			})
		}
		// From here on all know.
		from := p.mustAccount()
		p.slots(2)
		st := p.mustAccount()
		if a, b := from.Duties, st.Duties; b.Attester.Included > a.Attester.Included || b.Proposer.Included > a.Proposer.Included {
			t.Errorf("%s: something was signed: %+v, then %+v", c.kind, a, b)
		}
		rows, err := p.nodes[0].duties()
		if err != nil {
			t.Error(err)
		}
		for _, d := range rows {
			if d.Slot > currentSlot(from) && len(d.Partials) > 0 {
				t.Errorf("%s: partial signatures were made in doubt: %+v", c.kind, d)
			}
		}
		p.fault(simnet.Fault{Kind: c.kind, Off: true})
		p.signing(60 * time.Second)
		eventually(t, 60*time.Second, fmt.Sprintf("duties are done again after %s", c.kind), func() error {
			now := p.mustAccount()
			if now.Duties.Attester.Included <= st.Duties.Attester.Included || now.Duties.Proposer.Included <= st.Duties.Proposer.Included {
				return fmt.Errorf("%+v", now.Duties)
			}
			return nil
		})
	}
	p.nothingSlashable()
}

// signs waits until another node has a partial signature of a share for a slot after one.
func (p *practice) signs(by *node, share int, after uint64) {
	p.t.Helper()
	eventually(p.t, 60*time.Second, fmt.Sprintf("share %d signs", share), func() error {
		rows, err := by.duties()
		if err == nil && !slices.ContainsFunc(rows, func(d dutyRow) bool { return d.Slot > after && slices.Contains(d.Partials, share) }) {
			err = fmt.Errorf("not since slot %d", after)
		}
		return err
	})
}

// A node whose slashing protection finds no room signs nothing, says so, and goes on when there is.
// The others go on without it.
func TestDiskFullAtTheGuard(t *testing.T) {
	t.Parallel()
	needRoot(t, "a small disk")
	p := newCluster(t, 4, 8)
	n, watcher := p.nodes[3], p.nodes[0]
	disk := filepath.Join(n.dir, "provost")
	smallDisk(t, disk, 256<<10)
	p.startChain("--slot-duration", "2s", "--slots-per-epoch", "4", "--genesis-in", "8s")
	for _, n := range p.nodes {
		n.start()
	}
	p.signing(60 * time.Second)
	p.signs(watcher, 4, 1)
	filled := fill(t, disk)
	eventually(t, 60*time.Second, "the node says that there is no room", func() error {
		rows, err := n.alerts()
		if err == nil && !slices.ContainsFunc(rows, func(a alertRow) bool {
			return a.Code == "dv.guard-refused" && strings.Contains(a.String(), "no space left on device") && strings.Contains(a.String(), "free some space")
		}) {
			err = fmt.Errorf("%v; %s", rows, read(t, filepath.Join(p.dir, n.name+".log")))
		}
		return err
	})
	from := p.mustAccount()
	p.slots(4)
	rows, err := watcher.duties()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range rows {
		if d.Slot > currentSlot(from) && slices.Contains(d.Partials, 4) {
			t.Errorf("the node signed without a record: %+v", d)
		}
	}
	st := p.nothingSlashable()
	if st.Duties.Attester.Included <= from.Duties.Attester.Included {
		t.Errorf("the others did not go on: %+v, then %+v", from.Duties, st.Duties)
	}
	drop(t, filled)
	p.signs(watcher, 4, currentSlot(p.mustAccount()))
	p.nothingSlashable()
}

// A beacon node that names a head which does not exist gets no signature for it.
func TestLyingBeaconNode(t *testing.T) {
	t.Parallel()
	p := newCluster(t, 4, 8)
	p.startChain("--slot-duration", "2s", "--slots-per-epoch", "4", "--genesis-in", "8s")
	for _, n := range p.nodes {
		n.start()
	}
	p.signing(60 * time.Second)
	p.slots(3)
	p.fault(simnet.Fault{Kind: simnet.Lying})
	p.slots(1)
	from := p.mustAccount()
	p.slots(7)
	rows, err := p.nodes[0].duties()
	if err != nil {
		t.Fatal(err)
	}
	said := false
	for _, d := range rows {
		if d.Slot > currentSlot(from) && d.Type == "attester" {
			if len(d.Partials) > 0 {
				t.Errorf("partial signatures were made for a head that does not exist: %+v", d)
			}
			said = said || d.State == "missed" && d.Reason == "fetch_bn_error"
		}
	}
	if !said {
		t.Errorf("no duty says that the beacon node is to blame: %+v", rows)
	}
	if log := read(t, filepath.Join(p.dir, "node0.log")); !strings.Contains(log, "it names a head that it doesn't know itself") || !strings.Contains(log, "ask its operator, or use another") {
		t.Error("the log does not say what is wrong with the beacon node")
	}
	// Blocks are not lied about.
	if st := p.mustAccount(); st.Duties.Proposer.Included <= from.Duties.Proposer.Included {
		t.Errorf("no block since the beacon node lies: %+v, then %+v", from.Duties, st.Duties)
	}
	p.fault(simnet.Fault{Kind: simnet.Lying, Off: true})
	p.signs(p.nodes[0], 1, currentSlot(p.mustAccount()))
	p.nothingSlashable()
}

// One broken node of a cluster directory doesn't keep the others from signing, and the dashboard says
// what is wrong with it. A node that is mended goes on.
func TestOneBrokenNodeOfADirectory(t *testing.T) {
	t.Parallel()
	p := newCluster(t, 4, 8)
	lock := filepath.Join(p.cluster, "node3/cluster-lock.json")
	whole := read(t, lock)
	change(t, lock, func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("0x1111111111111111111111111111111111111111"), []byte("0x2222222222222222222222222222222222222222"))
	})
	p.startChain("--slot-duration", "2s", "--slots-per-epoch", "4", "--genesis-in", "8s")
	control := p.start("--workers", "0", "--cluster-dir", p.cluster, "--beacon-node-endpoints", "http://"+p.chain, "--keys-never-signed=true")
	eventually(t, 60*time.Second, "the dashboard names the broken node and runs the others", func() error {
		s, err := p.look()
		if err != nil {
			return err
		}
		running, named := 0, false
		for _, n := range s.Nodes.List() {
			if n.State == "running" {
				running++
			}
			named = named || n.Key.Node == "node3" && strings.Contains(n.Problem, "the file was changed or damaged after it was made")
		}
		found := slices.ContainsFunc(s.Alerts.List(), func(a engine.Finding) bool {
			return a.ClosedAt == nil && a.Code == engine.FindNodeBroken && strings.Contains(a.Title, "config_hash")
		})
		if running != 3 || !named || !found {
			return fmt.Errorf("nodes %+v, alerts %+v", s.Nodes.List(), s.Alerts.List())
		}
		return nil
	})
	from := p.mustAccount()
	eventually(t, 60*time.Second, "the others sign", func() error {
		if st := p.mustAccount(); st.Duties.Attester.Included < from.Duties.Attester.Included+8 {
			return fmt.Errorf("%+v", st.Duties)
		}
		return nil
	})
	if err := os.WriteFile(lock, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 90*time.Second, "the mended node runs", func() error {
		s, err := p.look()
		if err != nil {
			return err
		}
		for _, n := range s.Nodes.List() {
			if n.State != "running" {
				return fmt.Errorf("%+v", n)
			}
		}
		return nil
	})
	p.nothingSlashable()
	if r := p.confirmed("down", "--workers"); r.code != 0 {
		t.Fatalf("down: exit %d: %s%s", r.code, r.out, r.err)
	}
	waitExit(t, control, 40*time.Second)
}

// A node that is pointed at the nodes of another cluster reaches none of them, and says so.
func TestPeersOfAnotherCluster(t *testing.T) {
	t.Parallel()
	p, stray := newCluster(t, 4, 3), newCluster(t, 4, 3)
	p.startChain("--slot-duration", "3s", "--slots-per-epoch", "4", "--genesis-in", "1s")
	for _, n := range p.nodes {
		n.start()
	}
	p.signing(60 * time.Second)
	n := stray.nodes[0]
	stray.chain = p.chain
	n.peers = p.nodes[0].peers
	n.start()
	eventually(t, 60*time.Second, "the stray node says why it reaches nobody", func() error {
		var peers []struct {
			Name, State, Problem string
			Self                 bool
		}
		if err := n.list("peers", &peers); err != nil {
			return err
		}
		alerts, err := n.alerts()
		if err != nil {
			return err
		}
		for _, r := range peers {
			if !r.Self && (r.State != "down" || !strings.Contains(r.Problem, "another node answers there: the address, or the lock here, is of another cluster")) {
				return fmt.Errorf("%+v", r)
			}
		}
		if len(peers) != 4 || !slices.ContainsFunc(alerts, func(a alertRow) bool { return a.Code == "dv.quorum-lost" }) {
			return fmt.Errorf("%+v %v", peers, alerts)
		}
		return nil
	})
	eventually(t, 40*time.Second, "the stray node says that its validators are not on this chain", func() error {
		var rows []struct{ Status string }
		if err := n.list("validators", &rows); err != nil {
			return err
		}
		for _, r := range rows {
			if r.Status != "not deposited" {
				return fmt.Errorf("%+v", rows)
			}
		}
		alerts, err := n.alerts()
		if err == nil && !slices.ContainsFunc(alerts, func(a alertRow) bool {
			return a.Code == "dv.no-active-validators" && strings.Contains(a.Title, "no active validators for this slot: 3 not deposited")
		}) {
			err = fmt.Errorf("%v", alerts)
		}
		return err
	})
	row, err := p.nodes[1].clusterRow()
	if err != nil || row.PeersUp == nil || *row.PeersUp != 4 {
		t.Errorf("the cluster that was not meant sees %+v, %v", row, err)
	}
	n.stop()
	p.nothingSlashable()
}
