package e2e

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	burn = "0x000000000000000000000000000000000000dead"
	// An address with a checksum, as a wallet shows it.
	wallet = "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"
)

// tree lists what is below a directory: path and mode.
func tree(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	out := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		out[rel] = info.Mode()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type checks struct {
	Schema string
	Counts struct{ Passed, Warned, Failed, Skipped int }
	Facts  map[string]string
	Checks []struct{ Name, Status, File, Text, Remedy string }
}

// verifyCluster runs verify and gives its checks and its exit code.
func (p *place) verifyCluster(dir string) (checks, int) {
	p.t.Helper()
	r := p.run("verify", "cluster", dir, "--json")
	var c checks
	if err := json.Unmarshal([]byte(r.out), &c); err != nil || c.Schema != "provost.checks/1" {
		p.t.Fatalf("verify %s: exit %d: %v in %s%s", dir, r.code, err, r.out, r.err)
	}
	return c, r.code
}

// The command of the guide as it is printed there, in an empty directory: six node
// directories in Charon's layout; nothing is asked, also on a terminal.
func TestCreateClusterAsPrinted(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	work := filepath.Join(p.dir, "empty")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	p.dir = work
	args := []string{"create", "cluster", "--name=mycluster", "--withdrawal-addresses=" + burn, "--fee-recipient-addresses=" + burn, "--nodes", "6", "--threshold", "5"}
	c := p.console(200, 60, args...)
	c.leaves(0)
	said := c.text()
	if n := strings.Count(said, "warning:"); n != 1 || !strings.Contains(said, "nobody holds the key") {
		t.Errorf("%d warnings, want one about the address that nobody holds:\n%s", n, said)
	}
	if strings.Contains(said, "? ") {
		t.Errorf("something was asked:\n%s", said)
	}
	want := map[string]fs.FileMode{".": fs.ModeDir | 0o755, ".charon": fs.ModeDir | 0o700, ".charon/cluster": fs.ModeDir | 0o700}
	got := tree(t, work)
	for n := range 6 {
		node := fmt.Sprintf(".charon/cluster/node%d", n)
		want[node] = fs.ModeDir | 0o700
		want[node+"/validator_keys"] = fs.ModeDir | 0o700
		want[node+"/charon-enr-private-key"] = 0o600
		want[node+"/cluster-lock.json"] = 0o400
		want[node+"/validator_keys/keystore-0.json"] = 0o400
		want[node+"/validator_keys/keystore-0.txt"] = 0o400
		want[node+"/deposit-data.json"] = 0o444
		want[node+"/deposit-data-1eth.json"] = 0o444
	}
	for path, mode := range want {
		if path != "." && got[path] != mode {
			t.Errorf("%s has mode %v, want %v", path, got[path], mode)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s was made too", path)
		}
	}
	v, code := p.verifyCluster(".charon/cluster")
	if code != 0 || v.Counts.Failed != 0 || v.Counts.Warned != 0 || v.Counts.Skipped != 0 || v.Counts.Passed < 50 {
		t.Errorf("verify: exit %d, %+v", code, v.Counts)
	}
	for name, value := range map[string]string{"name": "mycluster", "network": "mainnet", "version": "v1.10.0", "nodes": "6", "threshold": "5", "validators": "1"} {
		if v.Facts[name] != value {
			t.Errorf("%s is %q, want %q", name, v.Facts[name], value)
		}
	}
	// All nodes have the same lock, each its own key and share.
	seen := map[string]int{}
	for n := range 6 {
		node := filepath.Join(work, fmt.Sprintf(".charon/cluster/node%d", n))
		if read(t, filepath.Join(node, "cluster-lock.json")) != read(t, filepath.Join(work, ".charon/cluster/node0/cluster-lock.json")) {
			t.Errorf("node%d has another lock", n)
		}
		for _, f := range []string{"charon-enr-private-key", "validator_keys/keystore-0.json", "validator_keys/keystore-0.txt"} {
			seen[read(t, filepath.Join(node, f))]++
		}
	}
	if len(seen) != 18 {
		t.Errorf("%d different secrets, want 18", len(seen))
	}
	// A second time nothing is touched.
	before := tree(t, work)
	r := p.run(args...)
	if r.code != 4 || !strings.Contains(r.err, "cluster.exists") {
		t.Errorf("again: exit %d: %s", r.code, r.err)
	}
	if after := tree(t, work); len(after) != len(before) {
		t.Errorf("again: %d files, there were %d", len(after), len(before))
	}
}

// Every wrong value gets a line that says what is wrong with what, and nothing is written.
func TestCreateClusterRefuses(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	base := map[string]string{"nodes": "4", "network": "hoodi", "withdrawal-addresses": wallet, "fee-recipient-addresses": wallet, "insecure-keys": "true"}
	dir := filepath.Join(p.dir, "cluster")
	full := filepath.Join(p.dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "node0"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		flags string // "name=value" by spaces; a name alone takes the flag out
		code  int
		said  []string
	}{
		{"address too short", "withdrawal-addresses=0xdead", 2, []string{"--withdrawal-addresses", "0xdead", "40 hex digits"}},
		{"address too long", "fee-recipient-addresses=" + wallet + "00", 2, []string{"--fee-recipient-addresses", "40 hex digits"}},
		{"address with a wrong checksum", "withdrawal-addresses=0x71c7656EC7ab88b098defB751B7401B5f6d8976F", 2, []string{"--withdrawal-addresses", "checksum"}},
		{"address without 0x", "withdrawal-addresses=" + wallet[2:], 2, []string{"0x"}},
		{"address that is not hex", "withdrawal-addresses=0xzz00000000000000000000000000000000000000", 2, []string{"0xzz"}},
		{"address that is a name", "fee-recipient-addresses=vitalik.eth", 2, []string{"vitalik.eth"}},
		{"too many addresses", "withdrawal-addresses=" + wallet + "," + wallet, 2, []string{"2 addresses for 1"}},
		{"too few addresses", "num-validators=3 withdrawal-addresses=" + wallet + "," + wallet, 2, []string{"2 addresses for 3"}},
		{"empty entry", "withdrawal-addresses=" + wallet + ",", 2, []string{"empty entry"}},
		{"no withdrawal address", "withdrawal-addresses", 2, []string{"missing: --withdrawal-addresses"}},
		{"no fee recipient", "fee-recipient-addresses", 2, []string{"missing: --fee-recipient-addresses"}},
		{"no nodes", "nodes", 2, []string{"missing: --nodes"}},
		{"two nodes", "nodes=2", 2, []string{"--nodes", "3"}},
		{"one node", "nodes=1", 2, []string{"--nodes", "3"}},
		{"fewer than none", "nodes=-4", 2, []string{"--nodes", "-4"}},
		{"too many nodes", "nodes=100000", 2, []string{"--nodes", "100000"}},
		{"nodes in words", "nodes=four", 2, []string{"--nodes", "four", "number"}},
		{"threshold of one", "threshold=1", 2, []string{"--threshold", "threshold of 1"}},
		{"threshold of none", "threshold=0", 2, []string{"--threshold"}},
		{"threshold below none", "threshold=-2", 2, []string{"--threshold", "-2"}},
		{"threshold above all", "threshold=5", 2, []string{"--threshold", "4 nodes can never give 5"}},
		{"threshold below two thirds", "nodes=6 threshold=3", 2, []string{"--threshold", "two thirds", "--allow-low-threshold"}},
		{"one below two thirds", "nodes=7 threshold=4", 2, []string{"choose 5"}},
		{"threshold of one, allowed", "threshold=1 allow-low-threshold=true", 2, []string{"--threshold"}},
		{"network that is none", "network=moon", 2, []string{"moon", "hoodi"}},
		{"network that is gone", "network=goerli", 2, []string{"goerli", "shut down"}},
		{"weak keys for real money", "network=mainnet", 2, []string{"--insecure-keys", "mainnet"}},
		{"no validators", "num-validators=0", 2, []string{"--num-validators"}},
		{"too many validators", "num-validators=1000000", 2, []string{"--num-validators", "1000000"}},
		{"deposit too large", "deposit-amounts=33", 2, []string{"--deposit-amounts", "33"}},
		{"deposit too small", "deposit-amounts=1,2", 2, []string{"--deposit-amounts", "32"}},
		{"deposit of nothing", "deposit-amounts=0,32", 2, []string{"--deposit-amounts"}},
		{"deposit in parts", "deposit-amounts=0.5", 2, []string{"0.5", "whole ETH"}},
		{"deposit too large when compounding", "compounding=true deposit-amounts=2049", 2, []string{"2049"}},
		{"blocks without room", "target-gas-limit=0", 2, []string{"--target-gas-limit"}},
		{"gas limit in words", "target-gas-limit=much", 2, []string{"--target-gas-limit", "much"}},
		{"protocol that is none", "consensus-protocol=pbft", 2, []string{"pbft", "qbft"}},
		{"name too long", "name=" + strings.Repeat("x", 300), 2, []string{"--name", "256"}},
		{"name with a control character", "name=a\x07b", 2, []string{"--name"}},
		{"unknown flag", "thresold=3", 2, []string{"--threshold"}},
		{"empty directory name", "cluster-dir=", 2, []string{"--cluster-dir"}},
		{"directory that is there", "cluster-dir=" + full, 4, []string{full, "cluster.exists"}},
		{"file where the directory belongs", "cluster-dir=" + p.dir + "/plain", 4, []string{"plain"}},
		{"directory below a file", "cluster-dir=" + p.dir + "/plain/cluster", 2, []string{"plain"}},
	} {
		flags := map[string]string{"cluster-dir": dir}
		for k, v := range base {
			flags[k] = v
		}
		for _, f := range strings.Split(c.flags, " ") {
			name, value, given := strings.Cut(f, "=")
			if given {
				flags[name] = value
			} else {
				delete(flags, name)
			}
		}
		args := []string{"create", "cluster"}
		for name, value := range flags {
			args = append(args, "--"+name+"="+value)
		}
		before := tree(t, p.dir)
		r := p.run(args...)
		if r.code != c.code || r.out != "" {
			t.Errorf("%s: exit %d, want %d; output %q", c.name, r.code, c.code, r.out)
		}
		lines := strings.Split(strings.TrimRight(r.err, "\n"), "\n")
		if len(lines) != 1 || !strings.HasPrefix(lines[0], "provost: ") || !strings.Contains(lines[0], "; ") || strings.Contains(lines[0], "strconv") {
			t.Errorf("%s: want one line with what, why and what to do, got %q", c.name, r.err)
		}
		for _, m := range c.said {
			if !strings.Contains(r.err, m) {
				t.Errorf("%s: %q is not said in %q", c.name, m, r.err)
			}
		}
		if after := tree(t, p.dir); len(after) != len(before) {
			t.Errorf("%s: something was written: %v", c.name, after)
		}
	}
	t.Run("all mistakes at once", func(t *testing.T) {
		r := p.run("create", "cluster", "--cluster-dir", dir, "--network", "moon", "--nodes", "2", "--withdrawal-addresses", "0x1", "--fee-recipient-addresses", "0x2")
		for _, m := range []string{"--network", "--nodes", "--withdrawal-addresses", "--fee-recipient-addresses"} {
			if !strings.Contains(r.err, m) {
				t.Errorf("%s is not named: %s", m, r.err)
			}
		}
		if r.code != 2 {
			t.Errorf("exit %d", r.code)
		}
	})
	t.Run("variables of Charon", func(t *testing.T) {
		q := *p
		q.env = append(q.env[:len(q.env):len(q.env)], "CHARON_NODES=2", "CHARON_NETWORK=hoodi", "CHARON_WITHDRAWAL_ADDRESSES="+wallet, "CHARON_FEE_RECIPIENT_ADDRESSES="+wallet)
		if r := q.run("create", "cluster", "--cluster-dir", dir); r.code != 2 || !strings.Contains(r.err, "--nodes") {
			t.Errorf("exit %d: %s", r.code, r.err)
		}
	})
	t.Run("directory that cannot be made", func(t *testing.T) {
		r := p.run("create", "cluster", "--cluster-dir=/proc/cluster", "--network=hoodi", "--nodes=4", "--withdrawal-addresses", wallet, "--fee-recipient-addresses", wallet)
		if r.code != 3 || !strings.Contains(r.err, "--cluster-dir") {
			t.Errorf("exit %d: %s", r.code, r.err)
		}
		oneLine(t, r)
	})
	t.Run("no space left", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("needs root: only root can mount a small filesystem")
		}
		small := filepath.Join(p.dir, "small")
		if err := os.Mkdir(small, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
			t.Skipf("cannot mount a small filesystem here: %v", err)
		}
		defer syscall.Unmount(small, syscall.MNT_DETACH)
		r := p.run("create", "cluster", "--cluster-dir", small+"/cluster", "--network=hoodi", "--nodes=4", "--withdrawal-addresses", wallet, "--fee-recipient-addresses", wallet, "--num-validators", "8", "--insecure-keys")
		if r.code != 1 || !strings.Contains(r.err, "space") || strings.Count(r.err, "provost:") != 1 {
			t.Errorf("exit %d: %s", r.code, r.err)
		}
		if left := tree(t, small); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// A creation that is killed leaves nothing at the target: the directory is there whole
// or not at all, and the next creation clears up what was written aside.
func TestKilledCreationLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	parent := filepath.Join(p.dir, "clusters")
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"create", "cluster", "--network=hoodi", "--nodes=5", "--num-validators=8", "--withdrawal-addresses", wallet, "--fee-recipient-addresses", wallet, "--insecure-keys", "--cluster-dir", filepath.Join(parent, "c")}
	names := func() []string {
		entries, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	killed := 0
	for i := range 8 {
		c := p.cmd(t.Context(), args...)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { c.Wait(); close(ended) }()
		eventually(t, 20*time.Second, "something is written", func() error {
			select {
			case <-ended:
				return nil
			default:
			}
			if len(names()) == 0 {
				return fmt.Errorf("nothing yet")
			}
			return nil
		})
		select {
		case <-ended:
		case <-time.After(time.Duration(i) * 40 * time.Millisecond):
		}
		c.Process.Kill()
		<-ended
		if slices.Contains(names(), "c") {
			if v, code := p.verifyCluster(filepath.Join(parent, "c")); code != 0 {
				t.Fatalf("a cluster that is not whole stands at the target: %+v", v.Counts)
			}
			if err := os.RemoveAll(filepath.Join(parent, "c")); err != nil {
				t.Fatal(err)
			}
			continue
		}
		killed++
	}
	if killed == 0 {
		t.Error("no creation was killed in the middle")
	}
	p.must(args...)
	if got := names(); !slices.Equal(got, []string{"c"}) {
		t.Errorf("left beside the cluster: %v", got)
	}
	if v, code := p.verifyCluster(filepath.Join(parent, "c")); code != 0 || v.Counts.Failed != 0 {
		t.Errorf("exit %d, %+v", code, v.Counts)
	}
	// A creation that is asked to end clears up by itself.
	if err := os.RemoveAll(filepath.Join(parent, "c")); err != nil {
		t.Fatal(err)
	}
	c := p.cmd(t.Context(), append(args, "--num-validators=200")...)
	var said bytes.Buffer
	c.Stderr = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "something is written", func() error {
		if len(names()) == 0 {
			return fmt.Errorf("nothing yet")
		}
		return nil
	})
	c.Process.Signal(os.Interrupt)
	if code := waitExit(t, c, 20*time.Second); code != 130 {
		t.Errorf("exit %d, want 130: %s", code, said.String())
	}
	if !strings.Contains(said.String(), "nothing was left behind") {
		t.Errorf("it does not say whether something is left: %s", said.String())
	}
	if got := names(); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// verify passes the clusters that Charon made.
func TestVerifyForeignClusters(t *testing.T) {
	t.Parallel()
	fixtures, err := filepath.Abs("../../shared/fixtures/charon-clusters")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fixtures); err != nil {
		t.Skip("no clusters of Charon's making: ../shared/fixtures/charon-clusters is not there")
	}
	p := newPlace(t)
	for _, pattern := range []string{"*/node0", "*/node2", "signed-locks/*.json"} {
		found, err := filepath.Glob(filepath.Join(fixtures, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, f := range found {
			dirs := []string{f}
			if strings.HasSuffix(f, "node0") {
				dirs = append(dirs, filepath.Dir(f))
			}
			for _, dir := range dirs {
				if v, code := p.verifyCluster(dir); code != 0 || v.Counts.Failed != 0 || v.Counts.Passed < 10 {
					t.Errorf("%s: exit %d, %+v", dir, code, v.Counts)
				}
			}
		}
	}
}

// Whatever is changed in a cluster, verify names the check that fails, the file and
// what to do, and ends with 6.
func TestVerifyFindsWhatWasChanged(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	good := filepath.Join(p.dir, "good")
	p.must("create", "cluster", "--name=x", "--network=hoodi", "--nodes=4", "--num-validators=2", "--withdrawal-addresses", wallet, "--fee-recipient-addresses", wallet, "--insecure-keys", "--cluster-dir", good)
	edit := func(file, old, new string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, file)
			was := read(t, path)
			if !strings.Contains(was, old) {
				t.Fatalf("%q is not in %s", old, file)
			}
			rewrite(t, path, strings.Replace(was, old, new, 1))
		}
	}
	all := func(change func(*testing.T, string, int)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for n := range 4 {
				change(t, dir, n)
			}
		}
	}
	// flipHex changes one digit of the value of a JSON key, wherever it stands first.
	flipHex := func(file, key string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, file)
			was := read(t, path)
			i := strings.Index(was, `"`+key+`"`)
			if i < 0 {
				t.Fatalf("no %s in %s", key, file)
			}
			at := i + len(key) + 2 + strings.Index(was[i+len(key)+2:], `"`) + 12
			digit := byte('0')
			if was[at] == '0' {
				digit = '1'
			}
			rewrite(t, path, was[:at]+string(digit)+was[at+1:])
		}
	}
	swap := func(a, b string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			a, b := filepath.Join(dir, a), filepath.Join(dir, b)
			was, will := read(t, a), read(t, b)
			rewrite(t, a, will)
			rewrite(t, b, was)
		}
	}
	for _, c := range []struct {
		name   string
		change func(*testing.T, string)
		fails  string // a check whose name begins so
	}{
		{"password is wrong", func(t *testing.T, dir string) {
			rewrite(t, filepath.Join(dir, "node1/validator_keys/keystore-insecure-0.txt"), hex.EncodeToString(bytes.Repeat([]byte{7}, 16)))
		}, "node1.keystore[0]"},
		{"password is missing", remove("node1/validator_keys/keystore-insecure-1.txt"), "node1.keystore"},
		{"password is empty", func(t *testing.T, dir string) {
			rewrite(t, filepath.Join(dir, "node1/validator_keys/keystore-insecure-0.txt"), "")
		}, "node1.keystore[0]"},
		{"keystore is missing", remove("node2/validator_keys/keystore-insecure-0.json"), "node2.keystore"},
		{"keystore is cut off", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "node2/validator_keys/keystore-insecure-0.json")
			rewrite(t, path, read(t, path)[:100])
		}, "node2.keystore[0]"},
		{"shares of two validators are exchanged", func(t *testing.T, dir string) {
			swap("node0/validator_keys/keystore-insecure-0.json", "node0/validator_keys/keystore-insecure-1.json")(t, dir)
			swap("node0/validator_keys/keystore-insecure-0.txt", "node0/validator_keys/keystore-insecure-1.txt")(t, dir)
		}, "node0.share"},
		{"keys of two nodes are exchanged", swap("node0/charon-enr-private-key", "node1/charon-enr-private-key"), "node0.enr_key"},
		{"node key is missing", remove("node3/charon-enr-private-key"), "node3.enr_key"},
		{"node key is no key", func(t *testing.T, dir string) { rewrite(t, filepath.Join(dir, "node3/charon-enr-private-key"), "zz") }, "node3.enr_key"},
		{"lock of one node is another", edit("node2/cluster-lock.json", `"name": "x"`, `"name": "y"`), "node2.lock"},
		{"name in all locks", all(func(t *testing.T, dir string, n int) {
			edit(fmt.Sprintf("node%d/cluster-lock.json", n), `"name": "x"`, `"name": "y"`)(t, dir)
		}), "definition."},
		{"threshold in all locks", all(func(t *testing.T, dir string, n int) {
			edit(fmt.Sprintf("node%d/cluster-lock.json", n), `"threshold": 3`, `"threshold": 2`)(t, dir)
		}), "definition."},
		{"lock hash in all locks", all(func(t *testing.T, dir string, n int) {
			flipHex(fmt.Sprintf("node%d/cluster-lock.json", n), "lock_hash")(t, dir)
		}), "lock.hash"},
		{"aggregate signature in all locks", all(func(t *testing.T, dir string, n int) {
			flipHex(fmt.Sprintf("node%d/cluster-lock.json", n), "signature_aggregate")(t, dir)
		}), "lock.signature_aggregate"},
		{"lock is missing", remove("node1/cluster-lock.json"), "node1.lock"},
		{"lock is no JSON", func(t *testing.T, dir string) {
			rewrite(t, filepath.Join(dir, "node1/cluster-lock.json"), "{")
		}, "node1.lock"},
		{"deposit signature of one node", flipHex("node1/deposit-data.json", "signature"), "node1.deposit"},
		{"withdrawal address of a deposit everywhere", all(func(t *testing.T, dir string, n int) {
			flipHex(fmt.Sprintf("node%d/deposit-data.json", n), "withdrawal_credentials")(t, dir)
		}), "deposit["},
		{"node is missing", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "node3")); err != nil {
				t.Fatal(err)
			}
		}, "cluster.nodes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cluster")
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			c.change(t, dir)
			before := tree(t, dir)
			v, code := p.verifyCluster(dir)
			var failed []string
			hit := false
			for _, x := range v.Checks {
				if x.Status != "failed" {
					continue
				}
				failed = append(failed, x.Name)
				hit = hit || strings.HasPrefix(x.Name, c.fails)
				if x.Text == "" || x.Remedy == "" {
					t.Errorf("%s failed without saying why or what to do: %+v", x.Name, x)
				}
			}
			if code != 6 || !hit || len(failed) != v.Counts.Failed {
				t.Errorf("exit %d, failed %v of %d, want 6 and one that begins with %s", code, failed, v.Counts.Failed, c.fails)
			}
			if r := p.run("verify", "cluster", dir); r.code != 6 || !strings.Contains(r.out, failedOr(failed)) {
				t.Errorf("as text: exit %d: %s", r.code, r.out)
			}
			if after := tree(t, dir); len(after) != len(before) {
				t.Error("verify changed something")
			}
		})
	}
	for _, dir := range []string{filepath.Join(p.dir, "none"), filepath.Join(p.dir, "demo"), filepath.Join(good, "node0/deposit-data.json")} {
		r := p.run("verify", "cluster", dir)
		if r.code != 2 && r.code != 6 || r.err == "" || !strings.Contains(r.err+r.out, filepath.Base(dir)) {
			t.Errorf("verify of %s: exit %d: %s%s", dir, r.code, r.out, r.err)
		}
	}
}

func failedOr(names []string) string {
	if len(names) == 0 {
		return "nothing failed"
	}
	return names[0]
}

// rewrite replaces a file that may be read-only.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(file string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
}
