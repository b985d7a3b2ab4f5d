package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/guard"
)

// withAddresses are the flags that every creation needs.
func withAddresses(args ...string) []string {
	return append([]string{"create", "cluster", "--withdrawal-addresses", wallet, "--fee-recipient-addresses", wallet}, args...)
}

// TestCreatePaths makes a cluster by each path that the command has, and verifies it.
func TestCreatePaths(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	at := func(name string) string { return filepath.Join(p.dir, name) }
	verified := func(dir string, facts map[string]string) {
		t.Helper()
		v, code := p.verifyCluster(dir)
		if code != 0 || v.Counts.Failed != 0 || v.Counts.Passed < 30 {
			t.Errorf("verify %s: exit %d, %+v", dir, code, v.Counts)
		}
		for name, want := range facts {
			if v.Facts[name] != want {
				t.Errorf("%s: %s is %q, want %q", dir, name, v.Facts[name], want)
			}
		}
	}

	p.must(withAddresses("--cluster-dir", "first", "--nodes", "4", "--num-validators", "2", "--network", "hoodi", "--insecure-keys", "--name", "first", "--definition-out", "def.json", "--lock-version", "v1.11.0", "--compounding")...)
	verified("first", map[string]string{"version": "v1.11.0", "network": "hoodi", "validators": "2"})

	p.must("create", "cluster", "--cluster-dir", "second", "--definition-file", "def.json", "--insecure-keys")
	verified("second", map[string]string{"version": "v1.11.0", "name": "first", "nodes": "4"})
	r := p.run("create", "cluster", "--cluster-dir", "no", "--definition-file", "def.json", "--nodes", "5", "--network", "sepolia")
	if r.code != 2 || !strings.Contains(r.err, "--nodes is 5, the definition file says 4") || !strings.Contains(r.err, "--network is sepolia") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}

	s := httptest.NewServer(http.FileServer(http.Dir(p.dir)))
	defer s.Close()
	p.must("create", "cluster", "--cluster-dir", "third", "--definition-file", s.URL+"/def.json", "--insecure-keys")
	verified("third", map[string]string{"name": "first"})

	devnet := []string{"--testnet-name", "devnet", "--testnet-fork-version", "0x10000038", "--testnet-chain-id", "3151908", "--testnet-genesis-timestamp", "1750000000"}
	p.must(withAddresses(append([]string{"--cluster-dir", "dev", "--nodes", "3", "--insecure-keys"}, devnet...)...)...)
	verified("dev", nil)

	p.must(withAddresses("--cluster-dir", "zip", "--nodes", "3", "--network", "hoodi", "--insecure-keys", "--zipped")...)
	if got := tree(t, at("zip")); len(got) != 2 || got["cluster.tar.gz"] != 0o600 {
		t.Errorf("zipped: %v", got)
	}

	// The shares of one node stand for keystores of another client here: they are keys like any other.
	old := at("first/node0/validator_keys")
	var pubs []cluster.PubKey
	for v := range 2 {
		var ks struct{ PubKey cluster.PubKey }
		if err := json.Unmarshal([]byte(read(t, fmt.Sprintf("%s/keystore-insecure-%d.json", old, v))), &ks); err != nil {
			t.Fatal(err)
		}
		pubs = append(pubs, ks.PubKey)
	}
	hoodi, _ := cluster.NetworkByName("hoodi")
	history := fmt.Sprintf(`{"metadata":{"interchange_format_version":"5","genesis_validators_root":"%s"},"data":[
		{"pubkey":"%s","signed_blocks":[{"slot":"77"}],"signed_attestations":[{"source_epoch":"8","target_epoch":"9"}]},
		{"pubkey":"%s","signed_blocks":[],"signed_attestations":[]}]}`, hoodi.ValidatorsRoot, pubs[0], pubs[1])
	if err := os.WriteFile(at("history.json"), []byte(history), 0o600); err != nil {
		t.Fatal(err)
	}
	split := []string{"--cluster-dir", "split", "--nodes", "4", "--network", "hoodi", "--insecure-keys", "--split-existing-keys", "--split-keys-dir", old}
	if r := p.run(withAddresses(split...)...); r.code != 2 || !strings.Contains(r.err, "--slashing-history: what the old validators have signed is not known") {
		t.Errorf("without a history: exit %d: %s", r.code, r.err)
	}
	plan := p.must(append([]string{"plan"}, withAddresses(append(split, "--slashing-history", "history.json")...)...)...)
	if !strings.Contains(plan, pubs[1].String()) || !strings.Contains(plan, "two finalized epochs") {
		t.Errorf("plan:\n%s", plan)
	}
	p.must(withAddresses(append(split, "--slashing-history", "history.json")...)...)
	verified("split", map[string]string{"validators": "2"})
	for n := range 4 {
		g, err := guard.Open(guard.Options{Dir: at(fmt.Sprintf("split/node%d/provost", n)), GenesisValidatorsRoot: hoodi.ValidatorsRoot, Clock: hoodi.Clock()})
		if err != nil {
			t.Fatal(err)
		}
		now, _ := hoodi.SlotAt(time.Now())
		for _, pub := range pubs {
			// The fence is above all that the history says: the old client may have signed since.
			if m, known, err := g.Marks(t.Context(), pub); err != nil || !known || !m.HasAttestation || !m.HasBlock || m.Target < hoodi.EpochOf(now) {
				t.Errorf("node %d, validator %s: %+v %v %v", n, pub, m, known, err)
			}
			// Nothing may be signed that could have been signed before, not even with these marks known.
			ans, err := g.CheckAndRecord(t.Context(), guard.Batch{Attestations: []guard.Attestation{{Key: pub, Source: 8, Target: 10, Root: cluster.Root{1}}}})
			if err != nil || ans.Attestations[0].OK() {
				t.Errorf("node %d signs an old vote: %+v %v", n, ans, err)
			}
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	p.must(withAddresses("--cluster-dir", "split2", "--nodes", "4", "--network", "hoodi", "--insecure-keys", "--split-existing-keys", "--split-keys-dir", old,
		"--no-slashing-history", "there is no history and the old validator stays off")...)
	verified("split2", nil)
}

// keymanager is a validator client's keymanager API, as far as a creation needs it.
type keymanager struct {
	mu   sync.Mutex
	keys int
	fail bool
}

func (k *keymanager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.URL.Path != "/eth/v1/keystores" || r.Header.Get("Authorization") != "Bearer sesame-0123456789" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var in struct{ Keystores, Passwords, PubKeys []string }
	_ = json.NewDecoder(r.Body).Decode(&in) // GET has none
	status, n := "imported", len(in.Keystores)
	switch {
	case r.Method == http.MethodDelete:
		status, n = "deleted", len(in.PubKeys)
		k.keys -= n
	case k.fail && r.Method == http.MethodPost:
		status = "error"
	default:
		k.keys += n
	}
	fmt.Fprintf(w, `{"data":[%s]}`, strings.TrimSuffix(strings.Repeat(`{"status":"`+status+`"},`, n), ","))
}

func TestCreateForKeymanagers(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var all [3]keymanager
	var addresses []string
	for i := range all {
		s := httptest.NewServer(&all[i])
		defer s.Close()
		addresses = append(addresses, s.URL)
	}
	tokens := filepath.Join(p.dir, "tokens")
	if err := os.WriteFile(tokens, []byte(strings.Repeat("sesame-0123456789\n", 3)), 0o600); err != nil {
		t.Fatal(err)
	}
	args := withAddresses("--nodes", "3", "--num-validators", "2", "--network", "hoodi", "--insecure-keys",
		"--keymanager-addresses", strings.Join(addresses, ","), "--keymanager-auth-tokens-file", "tokens")
	all[2].fail = true
	r := p.run(append(args, "--cluster-dir", "one")...)
	if r.code != 1 || !strings.Contains(r.err, "node 0 ("+addresses[0]+"): 2 key shares taken back") || !strings.Contains(r.err, "node 2") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	if _, err := os.Lstat(filepath.Join(p.dir, "one")); err == nil || all[0].keys != 0 || all[1].keys != 0 {
		t.Errorf("something stayed: %v %d %d", err, all[0].keys, all[1].keys)
	}
	all[2].fail = false
	said := p.must(append(args, "--cluster-dir", "two")...)
	if strings.Contains(said, "sesame") || !strings.Contains(said, "2 key shares taken by "+addresses[1]) {
		t.Errorf("said %s", said)
	}
	if _, err := os.Lstat(filepath.Join(p.dir, "two/node0/validator_keys")); err == nil || all[0].keys != 2 || all[2].keys != 2 {
		t.Errorf("%v, keys %d and %d", err, all[0].keys, all[2].keys)
	}
	if err := os.Chmod(tokens, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := p.run(append(args, "--cluster-dir", "three")...); r.code != 2 || !strings.Contains(r.err, "chmod 600") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
	r = p.run(append(args, "--cluster-dir", "four", "--keymanager-auth-tokens", "sesame-0123456789")...)
	if r.code != 2 || strings.Contains(r.err, "sesame") || !strings.Contains(r.err, "--keymanager-auth-tokens-file") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}

// TestCreateWrongFlags reads what is told about wrong input: every flag that is wrong is named at once.
func TestCreateWrongFlags(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"--nodes 2", []string{"missing: --withdrawal-addresses, --fee-recipient-addresses", "--nodes: a cluster of 2 nodes can't be made"}},
		{"--network nope --threshold 1", []string{"missing: --nodes, --withdrawal-addresses", `there is no network "nope"`, "--threshold: a threshold of 1"}},
		{"--nodes 4 --testnet-name x", []string{"missing: --withdrawal-addresses", "--testnet-fork-version, --testnet-chain-id, --testnet-genesis-timestamp must be given"}},
		{"--nodes 4 --split-existing-keys", []string{"--split-keys-dir: the directory of keys is missing", "--slashing-history"}},
		{"--definition-file none.json", []string{"--definition-file", "no such file"}},
		{"--definition-file http://192.0.2.1/x", []string{"plain HTTP"}},
		{"--publish", []string{"uploads nothing"}},
		{"--num-validators 0 --nodes 4", []string{"--num-validators=0"}},
		{"--lock-version v1.12.0 --nodes 4", []string{`locks of version "v1.12.0" aren't written`}},
	} {
		r := p.run(append([]string{"create", "cluster", "--cluster-dir", "made"}, strings.Fields(tt.args)...)...)
		if r.code != 2 || r.out != "" {
			t.Errorf("%s: exit %d, %s", tt.args, r.code, r.out)
		}
		for _, want := range tt.want {
			if !strings.Contains(r.err, want) {
				t.Errorf("%s: %s\nlacks %q", tt.args, r.err, want)
			}
		}
	}
	if got := tree(t, p.dir); got["made"] != 0 {
		t.Error("something was written")
	}
	for _, network := range []string{"mainnet", "gnosis"} {
		if r := p.run(withAddresses("--nodes", "4", "--cluster-dir", "made", "--network", network, "--insecure-keys")...); r.code != 2 || !strings.Contains(r.err, "money is at stake") {
			t.Errorf("%s: exit %d: %s", network, r.code, r.err)
		}
	}
}

// TestCreateInterrupted ends the real program with the signals that people and machines send, in the
// middle of its work, on a terminal so that its progress is seen. Nothing may be left.
func TestCreateInterrupted(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGINT, 130}, {syscall.SIGTERM, 143}, {syscall.SIGHUP, 143}} {
		p := newPlace(t)
		work := filepath.Join(p.dir, "work")
		if err := os.Mkdir(work, 0o755); err != nil {
			t.Fatal(err)
		}
		p.dir = work
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c := p.cmd(ctx, withAddresses("--nodes", "4", "--num-validators", "500", "--network", "hoodi", "--cluster-dir", "deep/er/c")...)
		var errs strings.Builder
		c.Stderr = &errs
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "key shares are written", func() error {
			found, _ := filepath.Glob(filepath.Join(work, "deep/er/.provost-create-*/node*/validator_keys/keystore-2.json"))
			if len(found) == 0 {
				return fmt.Errorf("none yet")
			}
			return nil
		})
		if err := c.Process.Signal(s.signal); err != nil {
			t.Fatal(err)
		}
		if s.signal == syscall.SIGHUP { // of a closed terminal kernel and shell tell both
			_ = c.Process.Signal(s.signal)
		}
		_ = c.Wait() // the code is looked at
		if code := c.ProcessState.ExitCode(); code != s.code {
			t.Errorf("%v: exit %d, want %d: %s", s.signal, code, s.code, errs.String())
		}
		if got := tree(t, work); len(got) != 1 {
			t.Errorf("%v: %d files and directories are left behind", s.signal, len(got)-1)
		}
	}
}

// Long work says how far it is, how fast it goes and how long it will take.
func TestCreateTellsProgress(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.console(120, 30, withAddresses("--nodes", "4", "--num-validators", "400", "--network", "hoodi", "--cluster-dir", "made")...)
	eventually(t, 30*time.Second, "rate and remaining time are shown", func() error {
		if !regexp.MustCompile(`[0-9]+ of 1603: encrypting key shares, [0-9.]+/s, [0-9hms]+ left`).MatchString(c.text()) {
			return fmt.Errorf("shown:\n%s", c.text())
		}
		return nil
	})
	c.cmd.Process.Signal(os.Interrupt)
	c.leaves(130)
	if got := tree(t, p.dir); got["made"] != 0 {
		t.Error("something was left")
	}
}
