package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/rpc"
)

const proverMachine = `{"schema": "provost.prover-host/1", "hostname": "m03",
 "gpu": {"driver": "550.54.15", "cuda": "12.4", "gpus": [
  {"index": 0, "uuid": "GPU-05d1b7a2-0000-1111-2222-333344445555", "model": "NVIDIA GeForce RTX 4090", "mem_total_mib": 24564, "compute": "8.9", "numa": 0},
  {"index": 1, "uuid": "GPU-15d1b7a2-0000-1111-2222-333344445555", "model": "NVIDIA GeForce RTX 4090", "mem_total_mib": 24564, "compute": "8.9", "numa": 0}]},
 "mem_total_mib": 262144, "mem_available_mib": 200000, "hugepages": [{"page_kib": 2048, "total": 30000, "free": 30000}],
 "docker": {"version": "28.2.2", "compose": "2.36.0", "toolkit": "1.14.3"}, "disk": {"path": "/var/lib/docker", "free_mib": 200000}}`

// The real program with keys from a file and from standard input: the tree is whole and
// private, the keys are in the files of their nodes and nowhere else.
func TestCreateProverTree(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	keys := []string{strings.Repeat("ab", 32), strings.Repeat("cd", 32)}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("m03.json", proverMachine)
	write("k0", keys[0]+"\n")
	args := []string{"create", "prover", "--server", "http://127.0.0.1:9", "--assume-gpus", "m03.json"}
	first := p.run(append(args, "--dir", "first", "--gpus", "GPU-05d1b7a2-0000-1111-2222-333344445555", "--key-files", "k0")...)
	if first.code != 0 {
		t.Fatalf("exit %d\n%s%s", first.code, first.out, first.err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := p.cmd(ctx, append(args, "--dir", "second", "--gpus", "GPU-15d1b7a2-0000-1111-2222-333344445555", "--key-files", "-")...)
	c.Stdin = strings.NewReader(keys[1] + "\n")
	second, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, second)
	}
	again := p.run(append(args, "--dir", "third", "--gpus", "GPU-15d1b7a2-0000-1111-2222-333344445555", "--key-files", "k0")...)
	if again.code != 4 || !strings.Contains(again.err, "is used by "+filepath.Join(p.dir, "first/first-0")) || !strings.Contains(again.err, "is used by "+filepath.Join(p.dir, "second/second-0")) {
		t.Errorf("the same key and GPU again: exit %d\n%s", again.code, again.err)
	}
	for i, group := range []string{"first", "second"} {
		want := map[string]fs.FileMode{".": fs.ModeDir | 0o700, "README.md": 0o644}
		for name, mode := range map[string]fs.FileMode{"": fs.ModeDir | 0o700, "/prover.json": 0o644, "/prover_config.json": 0o600, "/prover_system_config.json": 0o644, "/start.sh": 0o644, "/compose.yaml": 0o644,
			"/.env": 0o644, "/scripts": fs.ModeDir | 0o700, "/scripts/.env": 0o600, "/scripts/_monitor_config.sh": 0o644, "/provost-" + group + "-0.service": 0o644} {
			want[group+"-0"+name] = mode
		}
		if got := tree(t, filepath.Join(p.dir, group)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s\n got %v\nwant %v", group, got, want)
		}
		if cfg := read(t, filepath.Join(p.dir, group, group+"-0", "prover_config.json")); !strings.Contains(cfg, `"priv_key": "`+keys[i]+`"`) {
			t.Errorf("%s: its key is another one", group)
		}
	}
	for i, key := range keys {
		for _, said := range []string{first.out, first.err, string(second), again.out, again.err} {
			if strings.Contains(said, key[:10]) {
				t.Errorf("key %d was told:\n%s", i, said)
			}
		}
	}
	var holding []string
	err = filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(keys[0][:10])) || bytes.Contains(b, []byte(keys[1][:10])) {
			holding = append(holding, strings.TrimPrefix(path, p.dir+"/"))
		}
		return err
	})
	if want := "first/first-0/prover_config.json k0 second/second-0/prover_config.json"; err != nil || strings.Join(holding, " ") != want {
		t.Errorf("%v: keys are in %q, want %s", err, holding, want)
	}
}

// The same act done by a running engine: its store, journal and logs hold paths of key
// files and addresses, and no key, also when a key was refused.
func TestCreateProverInAnEngine(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	key := strings.Repeat("ef", 32)
	for name, text := range map[string]string{"m03.json": proverMachine, "k0": key + "\n", "bad": "0x" + key} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.start("--workers", "0", "--log-level", "debug")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := rpc.Dial(ctx, rpc.DialOptions{Socket: p.socket()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := engine.CreateProver{Dir: filepath.Join(p.dir, "group"), Server: "http://127.0.0.1:9", AssumeGPUs: filepath.Join(p.dir, "m03.json"),
		GPUs: []string{"GPU-05d1b7a2-0000-1111-2222-333344445555"}, KeyFiles: []string{filepath.Join(p.dir, "bad")}}
	req := engine.Request{Key: engine.NewKey(), Action: a, Actor: engine.Actor{Via: engine.ViaCLI}}
	if _, err := c.Preview(ctx, req); err == nil || !strings.Contains(err.Error(), "begins with 0x") {
		t.Errorf("a key with 0x: %v", err)
	}
	a.KeyFiles[0] = filepath.Join(p.dir, "k0")
	req = engine.Request{Key: engine.NewKey(), Action: a, Actor: engine.Actor{Via: engine.ViaCLI}}
	plan, err := c.Preview(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(ctx, req, plan.Digest); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the nodes are made", func() error {
		_, err := os.Stat(filepath.Join(a.Dir, "group-0", "prover_config.json"))
		return err
	})
	eventually(t, 20*time.Second, "the journal has the act", func() error {
		if said := fmt.Sprintf("%+v", p.journal()); !strings.Contains(said, "create_prover") && !strings.Contains(said, "create prover") {
			return fmt.Errorf("%s", said)
		}
		return nil
	})
	p.run("down")
	var holding []string
	err = filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(key[:10])) {
			holding = append(holding, strings.TrimPrefix(path, p.dir+"/"))
		}
		return err
	})
	if want := "bad group/group-0/prover_config.json k0"; err != nil || strings.Join(holding, " ") != want {
		t.Errorf("%v: the key is in %q, want %s", err, holding, want)
	}
}

// The profile native makes an engine that really proves, and says that no GPU is used.
func TestCreateProverNative(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := p.run("create", "prover", "--profile", "native", "--dir", "cpu", "--workers", "1")
	if r.code != 0 || !strings.Contains(r.err, "no GPU is used") {
		t.Fatalf("exit %d\n%s%s", r.code, r.out, r.err)
	}
	// It is the only engine here; commands find it by its configuration.
	p.start("--config", "cpu/provost.yaml")
	out := p.run("submit", "job", "--config", "cpu/provost.yaml", "--zkey", p.demoFile("medium.zkey"), "--witness", p.demoFile("medium-1.wtns"), "--wait")
	if out.code != 0 {
		t.Fatalf("exit %d\n%s%s", out.code, out.out, out.err)
	}
	if jobs := p.must("get", "jobs", "--config", "cpu/provost.yaml", "-o", "json"); !strings.Contains(jobs, `"verified"`) {
		t.Errorf("no verified proof:\n%s", jobs)
	}
}
