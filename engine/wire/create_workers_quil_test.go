package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"app.provost/cluster/quil"
	"app.provost/engine"
	"app.provost/engine/act"
	"app.provost/prover/fit"
)

// thisMachine is a machine of tests; no other answers.
func thisMachine() workersPlanner {
	return workersPlanner{
		measure: func(context.Context) (measured, error) {
			return measured{name: "here", address: "192.168.0.200", cores: 4, threads: 4, ram: 16 * fit.GiB, disk: 500 * fit.GiB, os: "linux"}, nil
		},
		dial: func(context.Context, string) (time.Duration, bool, error) {
			return 0, false, errors.New("no network in tests")
		},
	}
}

// guide is the two machines of the public guide to such clusters: 192.168.0.200 and .201, four cores each.
func guide(dir, profile, config string) engine.CreateWorkers {
	return engine.CreateWorkers{Dir: dir, Name: "guide", Profile: profile, NoProbe: true, NodeConfig: config, Binary: "/opt/quil/node", ConfigDir: "/var/lib/quil/.config",
		Machines: []string{"name=a,address=192.168.0.200,threads=4,ram=16GiB,disk=500GiB", "name=b,address=192.168.0.201,threads=4,ram=16GiB,disk=500GiB"}, Control: "a"}
}

func createWorkers(t *testing.T, c engine.CreateWorkers) (engine.Plan, error) {
	t.Helper()
	v := workersVerb(thisMachine())
	p, err := v.Plan(t.Context(), act.Ask{Action: c})
	if err != nil {
		return p, err
	}
	_, err = thisMachine().run(t.Context(), c, p)
	return p, err
}

// tree writes every file below a directory, one after the other.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "=== %s %04o\n%s\n", rel, info.Mode().Perm(), bytes.ReplaceAll(text, []byte(dir), []byte("$DIR")))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The tree agrees with the adapter's own word on every machine: argv, ports, sources, files.
func TestQuilTreeIsTheAdapters(t *testing.T) {
	for _, e := range quil.Eras() {
		t.Run(string(e.ID), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "plan")
			c := guide(dir, "quil-"+string(e.ID), "")
			if _, err := createWorkers(t, c); err != nil {
				t.Fatal(err)
			}
			d, err := thisMachine().draw(t.Context(), engine.CreateWorkers{Dir: dir, NoProbe: true})
			if err != nil {
				t.Fatal(err)
			}
			plan := quilPlan(&d.layout, quilPaths{binary: "/opt/quil/node", configDir: "/var/lib/quil/.config"})
			if n := plan.Workers(); n != 7 && n != 6 {
				t.Errorf("%d workers on two machines of four threads", n)
			}
			all := tree(t, dir)
			for _, m := range plan.Machines {
				cmds, err := e.Commands(plan, m.Name)
				if err != nil {
					t.Fatal(err)
				}
				for _, cmd := range cmds {
					words := strings.Join(cmd.Argv, " ")
					unit := strings.ReplaceAll(words, fmt.Sprintf("--core %d", cmd.Core), "--core %i")
					if !strings.Contains(all, words) && !strings.Contains(all, unit) {
						t.Errorf("core %d is nowhere called by %q", cmd.Core, words)
					}
				}
				rules, err := e.Firewall(plan, m.Name)
				if err != nil {
					t.Fatal(err)
				}
				here := tree(t, machineDir(t, dir, m.Name))
				for _, r := range rules {
					ports := fmt.Sprint(r.First)
					if r.Last != r.First {
						ports = fmt.Sprintf("%d-%d", r.First, r.Last)
					}
					i := slices.IndexFunc(strings.Split(here, "\n"), func(line string) bool {
						return strings.Contains(line, ports) && strings.Contains(line, r.Proto) && (!r.From.IsValid() || strings.Contains(line, r.From.String()))
					})
					if i < 0 {
						t.Errorf("%s: no rule for %s %s from %s", m.Name, r.Proto, ports, r.From)
					}
				}
			}
		})
	}
}

// machineDir finds the directory of a machine in a tree.
func machineDir(t *testing.T, dir, name string) string {
	t.Helper()
	for _, at := range []string{filepath.Join(dir, name), filepath.Join(dir, "machines", name), filepath.Join(dir, "hosts", name)} {
		if info, err := os.Stat(at); err == nil && info.IsDir() {
			return at
		}
	}
	t.Fatalf("no directory of machine %s in %s", name, dir)
	return ""
}

// What is wrong in the given config.yml and stays wrong is told before anything is written.
func TestQuilConfigFindings(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const keys = "key:\n  keyManagerFile:\n    encryptionKey: 00\np2p:\n  peerPrivKey: 00\n"
	write(keys + "engine:\n  dataWorkersMultiaddrs: []\nlistenGrpcMultiaddr: /ip4/0.0.0.0/tcp/8337\n")
	p, err := createWorkers(t, guide(filepath.Join(dir, "plan"), "quil-2.0.6", config))
	if err != nil {
		t.Fatal(err)
	}
	warnings, notes := strings.Join(p.Warnings, "\n"), strings.Join(p.Notes, "\n")
	for _, want := range []string{"write engine.dataWorkerMultiaddrs", "asks nobody for a name"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("no warning says %q:\n%s", want, warnings)
		}
	}
	// The firewall opens what the config says, not what the era begins with.
	raw := strings.Replace(keys, "p2p:\n", "p2p:\n  listenMultiaddr: /ip4/0.0.0.0/tcp/9336\n", 1)
	write(raw)
	other := filepath.Join(dir, "ports")
	if _, err := createWorkers(t, guide(other, "quil-2.1.0.19", config)); err != nil {
		t.Fatal(err)
	}
	if rules := tree(t, filepath.Join(machineDir(t, other, "a"), "firewall")); !strings.Contains(rules, "proto tcp to any port 9336") || strings.Contains(rules, "8336") || !strings.Contains(rules, "8340") {
		t.Errorf("the control process listens on tcp 9336 and 8340:\n%s", rules)
	}
	if !strings.Contains(notes, "config.yml of the control machine: engine.dataWorkerMultiaddrs: a list of 0 becomes one of") {
		t.Errorf("the change is not told:\n%s", notes)
	}
	for _, bad := range []string{"engine: &x {}\n", keys + "engine: 3\n", "[", "a: 1\n---\nb: 2\n"} {
		write(bad)
		_, err := createWorkers(t, guide(filepath.Join(dir, "other"), "quil-2.0.6", config))
		var problem *engine.Problem
		if !errors.As(err, &problem) || problem.Field != "node-config" || problem.Remedy == "" {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "other")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: something was written", bad)
		}
	}
}

// A machine in the middle goes: the numbers and entries of the others stay, and what that costs depends on the era.
func TestQuilMachineGoes(t *testing.T) {
	three := func(dir, id string) engine.CreateWorkers {
		c := guide(dir, "quil-"+id, "")
		c.Machines = append(c.Machines, "name=c,address=192.168.0.202,threads=4,ram=16GiB,disk=500GiB")
		return c
	}
	entries := func(dir, machine string) []string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(machineDir(t, dir, machine), "config/config.yml"))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for line := range strings.Lines(string(text)) {
			if e, ok := strings.CutPrefix(strings.TrimSpace(line), "- "); ok {
				out = append(out, e)
			}
		}
		return out
	}
	for _, id := range []string{"1.4.21", "2.0.1", "2.1.0.19"} {
		t.Run(id, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "plan")
			if _, err := createWorkers(t, three(dir, id)); err != nil {
				t.Fatal(err)
			}
			before := entries(dir, "c")
			gone := engine.CreateWorkers{Dir: dir, NoProbe: true, Remove: []string{"b"}}
			_, err := createWorkers(t, gone)
			if id == "1.4.21" {
				if err == nil {
					t.Fatal("a list with dead entries was written for an era whose control process ends of them")
				}
				gone.Renumber = true
				if _, err := createWorkers(t, gone); err != nil {
					t.Fatal(err)
				}
				if after := entries(dir, "c"); len(after) != 7 || !slices.Equal(after[:3], before[:3]) || !slices.Contains(after, "/ip4/192.168.0.202/tcp/40000") {
					t.Errorf("renumbered: %q", after)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			after := entries(dir, "c")
			for i, e := range before {
				if strings.Contains(e, "192.168.0.201") {
					e = "/ip4/127.0.0.1/tcp/1"
				}
				if i >= len(after) || after[i] != e {
					t.Fatalf("entry %d of %q, before %q", i+1, after, before)
				}
			}
			if last := (engine.CreateWorkers{Dir: dir, NoProbe: true, Remove: []string{"c"}}); id == "2.1.0.19" {
				if _, err := createWorkers(t, last); err != nil {
					t.Fatal(err)
				}
				if after := entries(dir, "a"); len(after) != 6 {
					t.Errorf("nothing is behind core 3, and yet: %q", after)
				}
			}
		})
	}
}

// Machines behind a router announce what the internet sees, and listen on what they have.
func TestQuilAnnounce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "plan")
	c := guide(dir, "quil-2.1.0.23", "")
	for i := range c.Machines {
		c.Machines[i] += fmt.Sprintf(",announce=203.0.113.%d", 7+i)
	}
	p, err := createWorkers(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.Contains(w, "unfinished upstream") }) {
		t.Errorf("nobody says that this era is unfinished: %q", p.Warnings)
	}
	text := tree(t, machineDir(t, dir, "b"))
	for _, want := range []string{"dataWorkerAnnounceStreamMultiaddrs", "/ip4/203.0.113.8/tcp/32503", "/ip4/192.168.0.201/tcp/32503", "streamListenMultiaddr: /ip4/192.168.0.200/tcp/8340"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
