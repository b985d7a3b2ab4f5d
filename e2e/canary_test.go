package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The secrets of an installation are where they belong and nowhere else: not in a log,
// the store, a snapshot, an answer, a metric, a dump, a screen, or in the arguments
// and environment of a process.
func TestNoSecretLeavesItsFile(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	cluster := filepath.Join(p.dir, "cluster")
	var said strings.Builder // all that commands printed
	keep := func(r result) result {
		said.WriteString(r.out)
		said.WriteString(r.err)
		return r
	}
	keep(p.run("create", "cluster", "-v", "--network=hoodi", "--nodes=4", "--num-validators=2", "--withdrawal-addresses", wallet, "--fee-recipient-addresses", wallet, "--insecure-keys", "--cluster-dir", cluster))
	stop, addr := p.monitor("--data-dir", cluster+"/node0,"+cluster+"/node1", "--log-level", "debug")
	p.workerPIDs()

	// A name for each secret. Its file may hold it; every form of it counts.
	secrets := map[string][]byte{}
	homes := map[string]bool{}
	secret := func(name, path string) {
		b := bytes.TrimSpace([]byte(read(t, path)))
		if len(b) < 16 {
			t.Fatalf("%s has %d bytes: that is no secret", path, len(b))
		}
		secrets[name] = b
		homes[path] = true
	}
	for n := range 4 {
		node := filepath.Join(cluster, fmt.Sprintf("node%d", n))
		secret(fmt.Sprintf("key of node%d", n), filepath.Join(node, "charon-enr-private-key"))
		for v := range 2 {
			secret(fmt.Sprintf("password %d of node%d", v, n), filepath.Join(node, fmt.Sprintf("validator_keys/keystore-insecure-%d.txt", v)))
		}
	}
	tokens, _ := filepath.Glob(filepath.Join(p.dir, "s/provost/default/workers/*/run/token"))
	if len(tokens) != 2 {
		t.Fatalf("tokens %v, want those of a worker and of the verifier", tokens)
	}
	for _, f := range tokens {
		secret("token of "+filepath.Base(filepath.Dir(filepath.Dir(f))), f)
	}
	for path := range homes {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v: others may read it", path, info.Mode())
		}
	}

	// Everything is used once.
	p.submit(2)
	p.allVerified(60 * time.Second)
	keep(p.confirmed("pause", "worker", "w1", "--for", "1h", "--reason", "test", "--wait"))
	keep(p.confirmed("resume", "worker", "w1"))
	rewritten := filepath.Join(cluster, "node2/validator_keys/keystore-insecure-0.txt")
	rewrite(t, rewritten, "wrong")
	keep(p.run("verify", "cluster", cluster, "-v"))
	keep(p.run("verify", "cluster", cluster, "--json"))
	for _, kind := range []string{"workers", "gpus", "hosts", "jobs", "alerts", "acts", "nodes"} {
		keep(p.run("get", kind, "-o", "json"))
		keep(p.run("get", kind, "-o", "wide"))
	}
	keep(p.run("describe", "worker/w1"))
	keep(p.run("status", "--json"))
	keep(p.run("config", "view"))
	keep(p.run("logs"))
	keep(p.run("acts", "list"))
	for _, path := range []string{"/metrics", "/readyz", "/livez"} {
		_, body := get(t, "http://"+addr+path)
		said.WriteString(body)
	}
	s, err := p.look()
	if err != nil {
		t.Fatal(err)
	}
	snap, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	journal, err := json.Marshal(p.journal())
	if err != nil {
		t.Fatal(err)
	}
	screen := p.console(160, 48, "attach")
	screen.shows("SOURCES")
	screen.keys("2")
	screen.shows("Workers  1")
	for _, pid := range p.processes() {
		if w := byWord([]int{pid}, "up"); len(w) > 0 {
			syscall.Kill(pid, syscall.SIGQUIT)
		}
	}
	eventually(t, 20*time.Second, "goroutines are dumped", func() error {
		if found, _ := filepath.Glob(filepath.Join(p.dir, "s/provost/default/crash/*")); len(found) == 0 {
			return fmt.Errorf("no file")
		}
		return nil
	})

	places := map[string][]byte{"answers of commands": []byte(said.String()), "snapshot": snap, "journal": journal, "screen": []byte(screen.bytes())}
	for _, pid := range p.processes() {
		for _, f := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, f))
			if err == nil {
				places[fmt.Sprintf("%s of process %d", f, pid)] = b
			}
		}
	}
	if code := stop(); code != 143 {
		t.Errorf("exit %d", code)
	}
	err = filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || homes[path] || strings.HasPrefix(path, filepath.Join(p.dir, "demo")) {
			return err
		}
		b, err := os.ReadFile(path)
		places[path] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(places) < 15 {
		t.Errorf("only %d places were searched", len(places))
	}
	for name, value := range secrets {
		for where, b := range places {
			if bytes.Contains(bytes.ToLower(b), bytes.ToLower(value)) {
				t.Errorf("the %s is in %s", name, where)
			}
		}
	}
}
