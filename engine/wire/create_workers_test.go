package wire

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
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

var updateWorkers = flag.Bool("update-workers", false, "write the golden trees of worker plans anew")

// here is the machine that tests measure.
func here(context.Context) (measured, error) {
	return measured{name: "rack7", address: "10.0.0.7", cores: 8, threads: 16, ram: 64 * fit.GiB, disk: 500 * fit.GiB, os: fit.Linux}, nil
}

func refused(context.Context, string) (time.Duration, bool, error) {
	return 400 * time.Microsecond, false, nil
}

// desk is a planner without a desk around it: preview and do, as the desk calls them.
type workersDesk struct {
	t *testing.T
	w workersPlanner
}

func (d workersDesk) preview(c engine.CreateWorkers) (engine.Plan, error) {
	d.t.Helper()
	p, err := workersVerb(d.w).Plan(d.t.Context(), act.Ask{Action: c})
	if err != nil {
		return p, err
	}
	return p.Seal(c)
}

func (d workersDesk) do(c engine.CreateWorkers) (engine.Plan, engine.Receipt) {
	d.t.Helper()
	p, err := d.preview(c)
	if err != nil {
		d.t.Fatal(err)
	}
	r, err := d.w.run(d.t.Context(), c, p)
	if err != nil {
		d.t.Fatal(err)
	}
	return p, r
}

func newDesk(t *testing.T) workersDesk { return workersDesk{t, workersPlanner{here, refused}} }

func machineSpec(n, threads int, more string) string {
	return fmt.Sprintf("name=m%02d,address=192.168.0.%d,cores=%d,threads=%d,ram=64GiB,disk=500GiB%s", n, 200+n, threads/2, threads, more)
}

// TestNativeTree: what is written for Provost's own profile, whole.
func TestNativeTree(t *testing.T) {
	for name, c := range map[string]engine.CreateWorkers{
		"native": {Profile: "native", Local: true, Machines: []string{machineSpec(2, 8, "")}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Dir, c.Name = filepath.Join(t.TempDir(), "farm"), "farm"
			p, r := newDesk(t).do(c)
			if p.Digest == "" || !r.Done || len(p.Files) != len(r.Files) || p.Consent.Level != "none" {
				t.Errorf("plan %+v\nreceipt %+v", p, r)
			}
			var b bytes.Buffer
			for _, f := range p.Files {
				body, err := os.ReadFile(filepath.Join(c.Dir, f.Path))
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "-- %s (%s) --\n%s", f.Path, f.Mode, body)
			}
			golden(t, filepath.Join("testdata/workers", name+".txt"), b.Bytes())
			// Again: nothing to change, and the same bytes for the same question.
			again, err := newDesk(t).preview(engine.CreateWorkers{Dir: c.Dir})
			if err != nil || !strings.HasPrefix(again.Title, "nothing to change") || len(again.Files)+len(again.Steps) > 0 {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *updateWorkers {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v: write it with -update-workers", err)
	}
	if !bytes.Equal(got, want) {
		a, b := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("%s differs in line %d (write it anew with -update-workers):\n got %s\nwant %s", name, i+1, a[i], b[i])
			}
		}
		t.Fatalf("%s has another length: %d lines, want %d", name, len(a), len(b))
	}
}

// TestEveryEra: each era that is known makes a profile that is whole, a plan and files.
func TestEveryEra(t *testing.T) {
	if len(profileIDs()) < 4 {
		t.Fatal("there are hardly any profiles")
	}
	for _, e := range quil.Eras() {
		if err := quilProfile(e).Check(); err != nil {
			t.Error(err)
		}
	}
	for _, id := range profileIDs() {
		d := newDesk(t)
		c := engine.CreateWorkers{Dir: filepath.Join(t.TempDir(), "farm"), Profile: id, Machines: []string{machineSpec(1, 16, ""), machineSpec(2, 16, "")}}
		p, _ := d.do(c)
		if len(p.Table.Rows) != 2 {
			t.Errorf("%s: %+v", id, p.Table)
		}
	}
}

func TestWorkersChange(t *testing.T) {
	d := newDesk(t)
	dir := filepath.Join(t.TempDir(), "farm")
	_, _ = d.do(engine.CreateWorkers{Dir: dir, Profile: "quil-2.0.1", Machines: []string{machineSpec(1, 8, ""), machineSpec(2, 8, ""), machineSpec(3, 8, "")}})

	p, err := d.preview(engine.CreateWorkers{Dir: dir, Remove: []string{"m02"}, Add: []string{machineSpec(4, 8, "")}})
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, s := range p.Steps {
		steps = append(steps, s.Name+": "+s.Text)
	}
	all := strings.Join(steps, "\n")
	for _, want := range []string{
		"all: the address list changes. To do: give all machines the new list, then start the control process on m01 anew; no worker whose number stays needs a restart",
		"m02: leaves with the numbers 8-15. To do: stop its workers and take its units away; take its firewall rules back",
		"m01, m03: files: config/config.yml. To do: bring the files over; nothing restarts",
		"m04: joins with the numbers 24-31, ports 40000-40007. To do: give it what it needs",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no step says %q:\n%s", want, all)
		}
	}
	if p.Consent.Level != "enter" || p.Undo == "" {
		t.Errorf("a change wants to be seen first: %+v, undo %q", p.Consent, p.Undo)
	}
	if !strings.Contains(strings.Join(p.Notes, "\n"), "8 numbers of m02 parked (8-15)") {
		t.Errorf("notes %q", p.Notes)
	}
	_, r := d.do(engine.CreateWorkers{Dir: dir, Remove: []string{"m02"}, Add: []string{machineSpec(4, 8, "")}})
	if !slices.ContainsFunc(r.Files, func(f engine.PlannedFile) bool { return f.Path == "changes/0002.txt" }) {
		t.Errorf("files %v", r.Files)
	}
	list, err := os.ReadFile(filepath.Join(dir, "machines/m04/config/config.yml"))
	if err != nil || !strings.Contains(string(list), "/ip4/127.0.0.1/tcp/1") || !strings.Contains(string(list), "/ip4/192.168.0.204/tcp/40007") {
		t.Errorf("%v\n%s", err, list)
	}
	for _, name := range []string{"old/0001/plan.yaml", "old/0001/machines/m02/start.sh", "changes/0002.txt"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "machines/m02")); err == nil {
		t.Error("the directory of the removed machine is still there")
	}

	// A file that was changed by hand is told of, and kept.
	if err := os.WriteFile(filepath.Join(dir, "machines/m01/start.sh"), []byte("mine"), 0o700); err != nil {
		t.Fatal(err)
	}
	if p, err = d.preview(engine.CreateWorkers{Dir: dir}); err != nil || !strings.Contains(strings.Join(p.Warnings, "\n"), "changed by hand since they were written, and written anew (the changed ones are kept): machines/m01/start.sh") {
		t.Errorf("%q, %v", p.Warnings, err)
	}
	d.do(engine.CreateWorkers{Dir: dir})
	if b, err := os.ReadFile(filepath.Join(dir, "old/0002/machines/m01/start.sh")); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}

	// Between the plan and its doing the inventory changed: it is not done.
	inv := filepath.Join(t.TempDir(), "inv.yaml")
	write := func(threads int) {
		t.Helper()
		if err := os.WriteFile(inv, fmt.Appendf(nil, "schema: provost.inventory/1\nmachines:\n- {name: m01, address: 192.168.0.201, threads: %d, ram: 64GiB}\n", threads), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(8)
	c := engine.CreateWorkers{Dir: dir, Inventory: inv}
	if p, err = d.preview(c); err != nil {
		t.Fatal(err)
	}
	write(16)
	var problem *engine.Problem
	if _, err := d.w.run(t.Context(), c, p); !errors.As(err, &problem) || problem.Code != engine.CodePlanChanged {
		t.Errorf("got %v", err)
	}
	if q, err := d.preview(c); err != nil || q.Digest == p.Digest {
		t.Errorf("another inventory has the same digest %s, %v", q.Digest, err)
	}
}

func TestWorkersProblems(t *testing.T) {
	at := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		p := filepath.Join(at, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	dir := filepath.Join(at, "farm")
	taken := filepath.Join(at, "taken")
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	file("taken/mine", "x")
	planned := filepath.Join(at, "planned")
	newDesk(t).do(engine.CreateWorkers{Dir: planned, Profile: "quil-1.4.21", Machines: []string{machineSpec(1, 8, ""), machineSpec(2, 8, ""), machineSpec(3, 8, "")}})
	m1 := []string{machineSpec(1, 8, "")}
	for name, c := range map[string]struct {
		c           engine.CreateWorkers
		field, says string
		exit        engine.ExitCode
	}{
		"no dir":          {engine.CreateWorkers{Profile: "native", Machines: m1}, "dir", "--dir is missing", engine.ExitUsage},
		"no profile":      {engine.CreateWorkers{Dir: dir, Machines: m1}, "profile", "--profile is missing", engine.ExitUsage},
		"profile":         {engine.CreateWorkers{Dir: dir, Profile: "quil", Machines: m1}, "profile", "not known", engine.ExitUsage},
		"era":             {engine.CreateWorkers{Dir: dir, Profile: "quil-1.2.3", Machines: m1}, "profile", "version 1.2.3 was not looked at", engine.ExitUsage},
		"no machine":      {engine.CreateWorkers{Dir: dir, Profile: "native"}, "inventory", "no machine is given", engine.ExitUsage},
		"no file":         {engine.CreateWorkers{Dir: dir, Profile: "native", Inventory: filepath.Join(at, "none")}, "inventory", "no such file", engine.ExitUsage},
		"a directory":     {engine.CreateWorkers{Dir: dir, Profile: "native", Inventory: at}, "inventory", "it is no file", engine.ExitUsage},
		"unknown key":     {engine.CreateWorkers{Dir: dir, Profile: "native", Inventory: file("a.yaml", "schema: provost.inventory/1\nmachines:\n- {name: a, adress: 10.0.0.1}\n")}, "inventory", `a.yaml:3: unknown key "adress"`, engine.ExitUsage},
		"spec":            {engine.CreateWorkers{Dir: dir, Profile: "native", Machines: []string{"name=a,ram=8"}}, "machine", "has no unit", engine.ExitUsage},
		"add":             {engine.CreateWorkers{Dir: planned, Add: []string{"nonsense"}}, "add-machine", "want key=value", engine.ExitUsage},
		"remove":          {engine.CreateWorkers{Dir: planned, Remove: []string{"m09"}}, "remove-machine", "no machine of this name", engine.ExitUsage},
		"hole":            {engine.CreateWorkers{Dir: planned, Remove: []string{"m02"}}, "remove-machine", "ends the control process", engine.ExitUsage},
		"twice":           {engine.CreateWorkers{Dir: planned, Add: m1}, "inventory", "both called m01", engine.ExitUsage},
		"other name":      {engine.CreateWorkers{Dir: planned, Name: "x"}, "cluster-name", "is called workers", engine.ExitUsage},
		"other profile":   {engine.CreateWorkers{Dir: planned, Profile: "native"}, "profile", "has the profile quil-1.4.21", engine.ExitUsage},
		"control":         {engine.CreateWorkers{Dir: dir, Profile: "quil-1.4.21", Machines: m1, Control: "m07"}, "control", `"m07"`, engine.ExitUsage},
		"taken":           {engine.CreateWorkers{Dir: taken, Profile: "native", Machines: m1}, "dir", "something is there already", engine.ExitRefused},
		"binary":          {engine.CreateWorkers{Dir: dir, Profile: "native", Machines: m1, Binary: "/opt/my node"}, "binary", "my node", engine.ExitUsage},
		"user":            {engine.CreateWorkers{Dir: dir, Profile: "native", Machines: m1, User: "a b"}, "user", "a b", engine.ExitUsage},
		"binary dir":      {engine.CreateWorkers{Dir: dir, Profile: "native", Machines: m1, Binary: "/usr/bin/"}, "binary", "/usr/bin/", engine.ExitUsage},
		"binary above":    {engine.CreateWorkers{Dir: dir, Profile: "native", Machines: m1, Binary: "/opt/../node"}, "binary", "/opt/../node", engine.ExitUsage},
		"user flag":       {engine.CreateWorkers{Dir: dir, Profile: "native", Machines: m1, User: "-x"}, "user", "-x", engine.ExitUsage},
		"user number":     {engine.CreateWorkers{Dir: dir, Profile: "native", Machines: m1, User: "0"}, "user", "0", engine.ExitUsage},
		"config root":     {engine.CreateWorkers{Dir: dir, Profile: "quil-1.4.21", Machines: m1, ConfigDir: "/"}, "config-dir", "", engine.ExitUsage},
		"config dir":      {engine.CreateWorkers{Dir: dir, Profile: "quil-1.4.21", Machines: m1, ConfigDir: ".config"}, "config-dir", ".config", engine.ExitUsage},
		"native config":   {engine.CreateWorkers{Dir: dir, Profile: "native", Machines: m1, NodeConfig: "/x"}, "node-config", "no meaning", engine.ExitUsage},
		"node config":     {engine.CreateWorkers{Dir: dir, Profile: "quil-2.0.6", Machines: m1, NodeConfig: filepath.Join(at, "none")}, "node-config", "no such file", engine.ExitUsage},
		"broken config":   {engine.CreateWorkers{Dir: dir, Profile: "quil-2.0.6", Machines: m1, NodeConfig: file("c.yml", "engine: [cafebabecafebabe\n")}, "node-config", "it is not YAML", engine.ExitUsage},
		"misplaced":       {engine.CreateWorkers{Dir: dir, Profile: "quil-2.0.6", Machines: m1, NodeConfig: file("d.yml", "engine: cafebabecafebabe\n")}, "node-config", "no mapping", engine.ExitUsage},
		"name, no ip":     {engine.CreateWorkers{Dir: dir, Profile: "quil-2.0.6", Machines: []string{"name=a,address=a.example,threads=8,ram=64GiB"}}, "inventory", "is a name", engine.ExitUsage},
		"too many":        {engine.CreateWorkers{Dir: dir, Profile: "quil-1.4.21", Machines: []string{"name=a,address=10.0.0.1,threads=4000,ram=16TiB"}}, "max-workers", "3999 workers", engine.ExitUsage},
		"no room":         {engine.CreateWorkers{Dir: dir, Profile: "native", Machines: []string{"name=a,address=10.0.0.1,threads=4,ram=2GiB"}}, "inventory", "no machine has room", engine.ExitUsage},
		"none wanted":     {engine.CreateWorkers{Dir: dir, Profile: "native", Machines: []string{"name=a,address=10.0.0.1,threads=8,ram=64GiB,workers=0"}}, "inventory", "told to run 0 workers", engine.ExitUsage},
		"not enough ever": {engine.CreateWorkers{Dir: dir, Profile: "quil-2.0.6", Machines: []string{"name=a,address=10.0.0.1,threads=3,ram=64GiB"}}, "inventory", "too few", engine.ExitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newDesk(t).preview(c.c)
			var p *engine.Problem
			if !errors.As(err, &p) {
				t.Fatalf("want a problem, got %v", err)
			}
			says := strings.ReplaceAll(p.Cause, ",", "")
			if p.Field != c.field || !strings.Contains(says, strings.ReplaceAll(c.says, ",", "")) || p.Exit != c.exit || p.Doing != "create workers" {
				t.Errorf("field %q, exit %d: %s", p.Field, p.Exit, p)
			}
			if strings.Contains(fmt.Sprintf("%+v %v", p, err), "cafebabe") {
				t.Errorf("a secret is told: %v", err)
			}
		})
	}
}

// TestWorkersConfigDirSlash: the node works in the directory above its own, where it looks for its store.
func TestWorkersConfigDirSlash(t *testing.T) {
	d := newDesk(t)
	dir := filepath.Join(t.TempDir(), "farm")
	if _, r := d.do(engine.CreateWorkers{Dir: dir, Profile: "quil-2.0.6", Machines: []string{machineSpec(1, 8, "")}, ConfigDir: "/srv/quil/.config/", User: "_quil"}); !r.Done {
		t.Fatalf("%+v", r)
	}
	unit, err := os.ReadFile(filepath.Join(dir, "machines/m01/units/provost-workers-control.service"))
	if err != nil || !strings.Contains(string(unit), "WorkingDirectory=/srv/quil\n") || !strings.Contains(string(unit), "User=_quil\n") || !strings.Contains(string(unit), " --config /srv/quil/.config\n") {
		t.Errorf("%v\n%s", err, unit)
	}
}

// TestWorkersNewerVersion: a version that nobody looked at is planned as the newest era, and told of.
func TestWorkersNewerVersion(t *testing.T) {
	d := newDesk(t)
	for id, want := range map[string]bool{"quil-9.9": true, "quil-2.1.0.24": false, "quil-2.1.0.23": false, "quil-2.0.6": false} {
		p, err := d.preview(engine.CreateWorkers{Dir: filepath.Join(t.TempDir(), "farm"), Profile: id, Machines: []string{machineSpec(1, 8, "")}})
		if err != nil || strings.Contains(strings.Join(p.Warnings, "\n"), "was not looked at") != want {
			t.Errorf("%s: %v %q", id, err, p.Warnings)
		}
	}
}

// TestWorkersChangeOrder: nothing new listens before its firewall rules are there, and what was written
// is brought before it is needed.
func TestWorkersChangeOrder(t *testing.T) {
	d := newDesk(t)
	dir := filepath.Join(t.TempDir(), "farm")
	d.do(engine.CreateWorkers{Dir: dir, Profile: "quil-2.0.6", Machines: []string{machineSpec(1, 8, ""), machineSpec(2, 8, "")}})
	in := func(c engine.CreateWorkers, name string, words ...string) {
		t.Helper()
		c.Dir = dir
		p, err := d.preview(c)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(p.Steps, func(s engine.Step) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("no step for %s: %+v", name, p.Steps)
		}
		rest := p.Steps[i].Text
		for _, w := range words {
			_, after, ok := strings.Cut(rest, w)
			if !ok {
				t.Errorf("%q does not follow in: %s", w, p.Steps[i].Text)
				return
			}
			rest = after
		}
	}
	in(engine.CreateWorkers{Remove: []string{"m02"}, Add: []string{machineSpec(2, 16, "")}}, "m02", "To do: bring the files over and apply them as its README.txt says; take the old firewall rules back", "; start workers 15-22")
	in(engine.CreateWorkers{Remove: []string{"m02"}, Add: []string{machineSpec(2, 4, "")}}, "m02", "To do: stop workers 11-14; bring the files over and apply them", "; take the old firewall rules back")
	in(engine.CreateWorkers{Binary: "/opt/node"}, "m01", "units/", "To do: bring the files over and apply them as its README.txt says")
	in(engine.CreateWorkers{Control: "m02"}, "all", "control process moves from m01 to m02", "stop it on m01 for good", "give all machines the new list")
}

// TestWorkersProbe: links are measured within a bound, and never change the plan itself.
func TestWorkersProbe(t *testing.T) {
	c := engine.CreateWorkers{Dir: filepath.Join(t.TempDir(), "farm"), Profile: "quil-1.4.21", Machines: []string{machineSpec(1, 8, ",local"), machineSpec(2, 8, ""), machineSpec(3, 8, ""), machineSpec(4, 8, ""), machineSpec(5, 8, "")}}
	d := workersDesk{t, workersPlanner{here, func(ctx context.Context, at string) (time.Duration, bool, error) {
		switch {
		case strings.HasPrefix(at, "192.168.0.201:"):
			t.Error("this machine was asked how far away it is")
		case strings.HasPrefix(at, "192.168.0.202:"):
			return 80 * time.Millisecond, false, nil
		case strings.HasPrefix(at, "192.168.0.203:"):
			return time.Millisecond, true, nil
		case strings.HasPrefix(at, "192.168.0.204:"):
			<-ctx.Done()
			return 0, false, ctx.Err()
		}
		return time.Millisecond, false, nil
	}}}
	p, err := d.preview(c)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(p.Warnings, "\n")
	for _, want := range []string{"slow link from here to m02 (80 ms)", "something listens already at m03:40000", "not reached from here, so neither link nor port was looked at: m04"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning says %q:\n%s", want, all)
		}
	}
	c.NoProbe = true
	d.w.dial = func(context.Context, string) (time.Duration, bool, error) {
		t.Error("somebody was asked")
		return 0, false, nil
	}
	if q, err := d.preview(c); err != nil || q.Steps[0] != p.Steps[0] {
		t.Errorf("%v: what was measured moved the plan: %v, %v", err, q.Steps, p.Steps)
	}
}

// TestMeasureHere: this machine can be planned for.
func TestMeasureHere(t *testing.T) {
	m, err := measureHere(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.name == "" || m.address == "" || m.threads < 1 || m.ram < fit.GiB/8 || m.ram%(1<<20) != 0 {
		t.Errorf("%+v", m)
	}
	took, open, err := dialTCP(t.Context(), "127.0.0.1:1")
	if err != nil || open || took <= 0 {
		t.Errorf("a refusal is an answer: %s %v %v", took, open, err)
	}
}

// TestOneShotWorkers goes the whole way: desk, plan, digest, act, receipt.
func TestOneShotWorkers(t *testing.T) {
	o, err := NewOneShot(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	dir := filepath.Join(t.TempDir(), "farm")
	c := engine.CreateWorkers{Dir: dir, Profile: "native", Machines: []string{machineSpec(1, 8, "")}, NoProbe: true}
	req := engine.Request{Key: "k1", Action: c, Actor: engine.Actor{Name: "ana", Via: engine.ViaCLI}}
	p, err := o.Preview(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Do(t.Context(), req, "000000000000"); engine.ExitOf(err) != engine.ExitRefused {
		t.Errorf("another digest: %v", err)
	}
	r, err := o.Do(t.Context(), req, p.Digest)
	if err != nil || !r.Done || r.Table == nil || len(r.Files) == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "plan.yaml")); err != nil {
		t.Error(err)
	}
}
