package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/act"
	"app.provost/engine/life"
	"app.provost/prover"
	"app.provost/prover/zkwasm"

	"golang.org/x/sys/unix"
)

const (
	// Keys of one digit, so that nobody takes them for real ones, and so that any part of one is found.
	canaryA = "abababababababababababababababababababababababababababababababab"
	canaryB = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
)

func uuidOf(i int) string { return fmt.Sprintf("GPU-%d5d1b7a2-0000-1111-2222-333344445555", i) }

func ptrTo[T any](v T) *T { return &v }

// provingMachine is a machine with four GPUs, the last two of which are unfit, and memory for two provers.
func provingMachine(t *testing.T) proverHost {
	t.Helper()
	root := t.TempDir()
	put := func(name, text string) {
		p := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	put("proc/sys/kernel/hostname", "m03\n")
	put("proc/meminfo", "MemTotal:       268435456 kB\nMemFree:        209715200 kB\nMemAvailable:   209715200 kB\nBuffers: 0 kB\nCached: 0 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\nHugepagesize:       2048 kB\n")
	put("proc/cmdline", "ro quiet\n")
	put("proc/net/tcp", "  sl  local_address rem_address   st\n   0: 00000000:0016 00000000:0000 0A\n   1: 0100007F:1F90 00000000:0000 01\n")
	put("proc/net/tcp6", "  sl  local_address rem_address   st\n   0: 00000000000000000000000000000000:6989 00000000000000000000000000000000:0000 0A\n")
	put("etc/sysctl.conf", "# nothing\nvm.nr_hugepages = 8000\n")
	pool := func(dir string, total, free int) {
		put(dir+"/nr_hugepages", strconv.Itoa(total))
		put(dir+"/free_hugepages", strconv.Itoa(free))
		put(dir+"/surplus_hugepages", "0")
	}
	pool("sys/kernel/mm/hugepages/hugepages-2048kB", 15000, 15000)
	put("sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "0")
	for n := range 2 {
		dir := fmt.Sprintf("sys/devices/system/node/node%d", n)
		pool(dir+"/hugepages/hugepages-2048kB", 7500, 7500)
		put(dir+"/cpulist", []string{"0-15,32-47\n", "16-31,48-63\n"}[n])
		put(dir+"/meminfo", fmt.Sprintf("Node %d MemTotal:       134217728 kB\nNode %d MemFree: 1 kB\n", n, n))
	}
	gpu := func(i int) prover.GPU {
		return prover.GPU{Index: i, UUID: uuidOf(i), Model: "NVIDIA GeForce RTX 4090", MemTotal: ptrTo(prover.MiB(24564)), Compute: ptrTo("8.9"), Display: ptrTo(false), MIG: ptrTo(false), NUMA: ptrTo(i % 2)}
	}
	small, lost := gpu(2), gpu(3)
	small.Model, small.MemTotal, small.Compute = "NVIDIA GeForce RTX 3080", ptrTo(prover.MiB(10240)), ptrTo("8.6")
	lost.Lost = "the device fell off the bus; restart the machine"
	return proverHost{root: root,
		gpus: func(context.Context) prover.GPUReading {
			return prover.GPUReading{Driver: "550.54.15", CUDA: "12.4", GPUs: []prover.GPU{gpu(0), gpu(1), small, lost}}
		},
		which: func(name string) (string, error) { return "/usr/bin/" + name, nil },
		run: func(_ context.Context, name string, args ...string) (string, error) {
			switch strings.Join(append([]string{name}, args...), " ") {
			case "nvidia-ctk --version":
				return "NVIDIA Container Toolkit CLI version 1.14.3\ncommit: 53b24618a542025b108239fe602e66e912b7d6e2\n", nil
			case "docker info --format {{json .}}":
				return `{"ServerVersion":"28.2.2","DefaultRuntime":"nvidia","Runtimes":{"nvidia":{},"runc":{}}}`, nil
			case "docker compose version --short":
				return "2.36.0\n", nil
			case "docker volume ls --format {{.Name}}":
				return "taken-0_workspace-volume\nother\n", nil
			}
			return "", errors.New("no such program")
		},
		dial: func(context.Context, zkwasm.Server) error { return nil },
	}
}

// proverDesk does acts as a command on its own does.
func proverDesk(t *testing.T, p proverHost) *OneShot {
	t.Helper()
	scope := life.New(life.Options{}).Scope("test")
	snap := &engine.Snapshot{Schema: engine.SnapshotSchema}
	d, err := act.New(act.Options{Verbs: map[engine.ActionKind]act.Verb{engine.KindCreateProver: proverVerb(p)},
		Store: &memLedger{receipts: map[string]memReceipt{}}, Spawner: scope,
		Snapshot: func() *engine.Snapshot { return snap }, Tell: func(engine.ActRow) {},
		Record: func(_ context.Context, entries ...engine.Entry) ([]engine.Entry, error) { return entries, nil }})
	if err != nil {
		t.Fatal(err)
	}
	o := &OneShot{desk: d, scope: scope}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

func keyFile(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func twoProvers(t *testing.T) engine.CreateProver {
	return engine.CreateProver{Dir: filepath.Join(t.TempDir(), "gpu"), Server: "https://rpc.zkwasmhub.com",
		GPUs: []string{uuidOf(0), uuidOf(1)}, KeyFiles: []string{keyFile(t, canaryA+"\n"), keyFile(t, canaryB)}}
}

func makeProvers(t *testing.T, o *OneShot, a engine.CreateProver) (engine.Plan, engine.Receipt, error) {
	t.Helper()
	req := engine.Request{Key: engine.NewKey(), Action: a, Actor: engine.Actor{Via: engine.ViaCLI}}
	p, err := o.Preview(t.Context(), req)
	if err != nil {
		return p, engine.Receipt{}, err
	}
	r, err := o.Do(t.Context(), req, p.Digest)
	return p, r, err
}

func TestCreateProver(t *testing.T) {
	o := proverDesk(t, provingMachine(t))
	a := twoProvers(t)
	plan, receipt, err := makeProvers(t, o, a)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"gpu-0", "0 NVIDIA GeForce RTX 4090", "15000 / 15000 ok", "80 GiB / 196.4 GiB ok", "0xB6BE4C87447d4F46ae2D4Ead7c8f8b4dCbf72A1E"},
		{"gpu-1", "1 NVIDIA GeForce RTX 4090", "15000 / 0 short", "80 GiB / 116.4 GiB ok", ""},
	}
	for i, row := range plan.Table.Rows {
		if !slices.Equal(row[:4], want[i][:4]) || !strings.HasPrefix(row[4], "0x") || len(row[4]) != 42 {
			t.Errorf("row %d: %q", i, row)
		}
	}
	notes := strings.Join(plan.Notes, "\n")
	for _, s := range []string{"echo 15000 | sudo tee /sys/devices/system/node/node0/hugepages", "echo 15000 | sudo tee /sys/devices/system/node/node1/hugepages", "hugepages=0:15000,1:15000"} {
		if !strings.Contains(notes, s) {
			t.Errorf("notes lack %q:\n%s", s, notes)
		}
	}
	if !slices.Equal(plan.Table.Marked, []int{1}) || !strings.Contains(strings.Join(plan.Warnings, "\n"), "30000 of 2 MiB are needed, 15000 are set up") || plan.Undo == "" {
		t.Errorf("%+v", plan)
	}
	// What the plan says is what there is.
	var there []engine.PlannedFile
	err = filepath.WalkDir(a.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if d.IsDir() {
			path += "/"
		}
		there = append(there, engine.PlannedFile{Path: path, Mode: fmt.Sprintf("%04o", info.Mode().Perm())})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	sorted := func(l []engine.PlannedFile) []engine.PlannedFile {
		l = slices.Clone(l)
		slices.SortFunc(l, func(a, b engine.PlannedFile) int { return strings.Compare(a.Path, b.Path) })
		return l
	}
	if !slices.Equal(sorted(there), sorted(plan.Files)) || !slices.Equal(plan.Files, receipt.Files) || receipt.Table == nil || len(receipt.Table.Rows) != 2 {
		t.Errorf("planned %v\nwritten %v", sorted(plan.Files), sorted(there))
	}
	compose, err := os.ReadFile(filepath.Join(a.Dir, "gpu-1", zkwasm.ComposeFile))
	if err != nil || !strings.Contains(string(compose), "cpuset: 16-31,48-63") || !strings.Contains(string(compose), uuidOf(1)) {
		t.Errorf("%v\n%s", err, compose)
	}
	cfg, err := os.ReadFile(filepath.Join(a.Dir, "gpu-0", zkwasm.ProverFile))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := zkwasm.ParseProverConfig(cfg); err != nil || !strings.Contains(plan.Steps[0].Text, string(c.Key.Address())) {
		t.Errorf("%v: the node has another key than the plan said", err)
	}
	// A second group: neither key nor GPU, while a key of its own on a free GPU is fine.
	b := a
	b.Dir = filepath.Join(filepath.Dir(a.Dir), "more")
	_, _, err = makeProvers(t, o, b)
	var p *engine.Problem
	if !errors.As(err, &p) || p.Code != engine.CodeProverTwice || p.Exit != engine.ExitRefused || len(p.More) != 3 || p.Field != "key-files" {
		t.Errorf("%+v", p)
	}
	if _, err := os.Lstat(b.Dir); err == nil {
		t.Error("a refused act wrote something")
	}
}

// TestCreateProverKeepsSecrets looks for the keys in everything that is told, and for
// the files that hold them.
func TestCreateProverKeepsSecrets(t *testing.T) {
	o := proverDesk(t, provingMachine(t))
	a := twoProvers(t)
	var told strings.Builder
	tell := func(vs ...any) {
		for _, v := range vs {
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			told.Write(raw)
			fmt.Fprintf(&told, "%v %+v %#v\n", v, v, v)
		}
	}
	plan, receipt, err := makeProvers(t, o, a)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := engine.MarshalAction(a)
	tell(plan, receipt, string(raw), engine.ShellLine(a.CommandLine()))
	for _, text := range []string{"0x" + canaryA, canaryA[:60], canaryA + canaryB, canaryA + "\n" + canaryB, " " + canaryA, canaryA[:63] + "x", `{"priv_key":"` + canaryA + `"}`} {
		bad := twoProvers(t)
		bad.KeyFiles[0] = keyFile(t, text)
		_, _, err := makeProvers(t, o, bad)
		if err == nil {
			t.Errorf("a key of %d characters was taken", len(text))
			continue
		}
		tell(engine.AsProblem("x", err), err.Error())
	}
	again := a
	again.Dir += "-2"
	_, _, err = makeProvers(t, o, again)
	tell(engine.AsProblem("x", err), err.Error())
	for _, part := range []string{canaryA[:12], canaryB[:12], strings.ToUpper(canaryA[:12])} {
		if strings.Contains(told.String(), part) {
			t.Errorf("a key was told: %.300s", told.String()[max(0, strings.Index(told.String(), part)-150):])
		}
	}
	var holding []string
	err = filepath.WalkDir(a.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if strings.Contains(string(raw), canaryA[:12]) || strings.Contains(string(raw), canaryB[:12]) {
			info, _ := d.Info()
			holding = append(holding, fmt.Sprintf("%s %04o", strings.TrimPrefix(path, a.Dir), info.Mode().Perm()))
		}
		return err
	})
	if want := []string{"/gpu-0/prover_config.json 0600", "/gpu-1/prover_config.json 0600"}; err != nil || !slices.Equal(holding, want) {
		t.Errorf("%v: keys are in %q", err, holding)
	}
}

// TestCreateProverAtOnce makes the same node in several directories at the same time: one is made.
func TestCreateProverAtOnce(t *testing.T) {
	host := provingMachine(t)
	parent, key := t.TempDir(), keyFile(t, canaryA)
	const runs = 4
	errs := make(chan error, runs)
	begin := make(chan struct{})
	for i := range runs {
		o := proverDesk(t, host)
		a := engine.CreateProver{Dir: filepath.Join(parent, "new", fmt.Sprintf("gpu%d", i)), Server: "https://rpc.zkwasmhub.com", GPUs: []string{uuidOf(0)}, KeyFiles: []string{key}}
		req := engine.Request{Key: engine.NewKey(), Action: a, Actor: engine.Actor{Via: engine.ViaCLI}}
		p, err := o.Preview(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-begin
			_, err := o.Do(t.Context(), req, p.Digest)
			errs <- err
		}()
	}
	close(begin)
	made := 0
	for range runs {
		err := <-errs
		var p *engine.Problem
		switch {
		case err == nil:
			made++
		case !errors.As(err, &p) || p.Code != engine.CodeProverTwice && p.Code != engine.CodePlanChanged:
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d nodes with one key and one GPU were made", made)
	}
}

// TestCreateProverRefuses gives one wrong value after the other: each is told with its flag.
func TestCreateProverRefuses(t *testing.T) {
	host := provingMachine(t)
	o := proverDesk(t, host)
	empty := t.TempDir()
	pipe := filepath.Join(empty, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*engine.CreateProver)
		field  string
		code   engine.Code
		want   string
	}{
		"profile":       {func(a *engine.CreateProver) { a.Profile = "zkwasm-9" }, "profile", engine.CodeProverParams, "zkwasm-9"},
		"other profile": {func(a *engine.CreateProver) { a.Profile = "quil-2.0" }, "profile", engine.CodeProverParams, "there is no profile"},
		"name":          {func(a *engine.CreateProver) { a.Name = "A b" }, "name", engine.CodeProverParams, "'A'"},
		"server":        {func(a *engine.CreateProver) { a.Server = "hub" }, "server", engine.CodeProverParams, "https://"},
		"server secret": {func(a *engine.CreateProver) { a.Server = "user:hunter22@hub.example" }, "server", engine.CodeProverParams, "user name or password"},
		"server query":  {func(a *engine.CreateProver) { a.Server = "https://hub.example/?token=hunter22" }, "server", engine.CodeProverParams, "? or # part"},
		"server token":  {func(a *engine.CreateProver) { a.Server = "hub.example?token=hunter22" }, "server", engine.CodeProverParams, "https://"},
		"gpu index":     {func(a *engine.CreateProver) { a.GPUs[0] = "0" }, "gpus", engine.CodeProverParams, "UUID"},
		"no gpu":        {func(a *engine.CreateProver) { a.GPUs = nil }, "gpus", engine.CodeProverParams, "no GPU"},
		"gpu twice":     {func(a *engine.CreateProver) { a.GPUs[1] = a.GPUs[0] }, "gpus", engine.CodeProverParams, "twice"},
		"unknown gpu":   {func(a *engine.CreateProver) { a.GPUs[1] = uuidOf(9) }, "gpus", engine.CodeProverUnfit, "there is no GPU " + uuidOf(9)},
		"small gpu":     {func(a *engine.CreateProver) { a.GPUs[1] = uuidOf(2) }, "gpus", engine.CodeProverUnfit, "10240 MiB"},
		"lost gpu":      {func(a *engine.CreateProver) { a.GPUs[1] = uuidOf(3) }, "gpus", engine.CodeProverUnfit, "fell off the bus"},
		"one key less":  {func(a *engine.CreateProver) { a.KeyFiles = append(a.KeyFiles, a.KeyFiles[0]) }, "key-files", engine.CodeProverParams, "3 key files for 2 GPUs"},
		"0x":            {func(a *engine.CreateProver) { a.KeyFiles[1] = keyFile(t, "0x"+canaryB) }, "key-files", engine.CodeProverParams, "begins with 0x"},
		"same key":      {func(a *engine.CreateProver) { a.KeyFiles[1] = keyFile(t, strings.ToUpper(canaryA)) }, "key-files", engine.CodeProverTwice, "keys 1 and 2 are the same"},
		"same file":     {func(a *engine.CreateProver) { a.KeyFiles[1] = a.KeyFiles[0] }, "key-files", engine.CodeProverParams, "twice"},
		"no key file":   {func(a *engine.CreateProver) { a.KeyFiles[1] = "/nonexistent/key" }, "key-files", engine.CodeProverParams, "no such file"},
		"known key":     {func(a *engine.CreateProver) { a.KeyFiles[1] = keyFile(t, strings.Repeat("0", 63)+"1") }, "key-files", engine.CodeProverUnfit, "everybody can read it"},
		"no dir":        {func(a *engine.CreateProver) { a.Dir = "" }, "dir", engine.CodeProverParams, "no directory"},
		"taken dir":     {func(a *engine.CreateProver) { a.Dir = host.root }, "dir", engine.CodeClusterExists, "not empty"},
		"below a file":  {func(a *engine.CreateProver) { a.Dir = filepath.Join(a.KeyFiles[0], "x") }, "dir", engine.CodeProverParams, "a file stands"},
		"relative dir":  {func(a *engine.CreateProver) { a.Dir = "x" }, "", engine.CodeUsage, "absolute"},
		"assume":        {func(a *engine.CreateProver) { a.AssumeGPUs = a.KeyFiles[0] }, "assume-gpus", engine.CodeProverParams, "read machine"},
		"assume dir":    {func(a *engine.CreateProver) { a.AssumeGPUs = empty }, "assume-gpus", engine.CodeProverParams, "ordinary file"},
		"assume pipe":   {func(a *engine.CreateProver) { a.AssumeGPUs = pipe }, "assume-gpus", engine.CodeProverParams, "ordinary file"},
		"workers":       {func(a *engine.CreateProver) { a.Workers = 2 }, "workers", engine.CodeProverParams, "no workers"},
		"docker volume": {func(a *engine.CreateProver) { a.Name = "taken" }, "name", engine.CodeProverTwice, "taken-0_workspace-volume"},
		"old, two":      {func(a *engine.CreateProver) { a.Profile = "zkwasm-0.0.12" }, "gpus", engine.CodeProverUnfit, "only one node"},
		"old, port": {func(a *engine.CreateProver) {
			a.Profile, a.GPUs, a.KeyFiles = "zkwasm-0.0.10", a.GPUs[:1], a.KeyFiles[:1]
		}, "profile", engine.CodeProverUnfit, "port 27017 is in use"},
		"native with gpus":    {func(a *engine.CreateProver) { a.Profile = "native" }, "gpus", engine.CodeProverParams, "uses no GPU"},
		"native, bad workers": {func(a *engine.CreateProver) { *a = engine.CreateProver{Profile: "native", Dir: a.Dir, Workers: 5000} }, "workers", engine.CodeProverParams, "5000"},
	} {
		t.Run(name, func(t *testing.T) {
			a := twoProvers(t)
			dir := a.Dir
			tt.change(&a)
			_, _, err := makeProvers(t, o, a)
			var p *engine.Problem
			if !errors.As(err, &p) || p.Field != tt.field || p.Code != tt.code || !strings.Contains(p.Cause, tt.want) || p.Remedy == "" || p.Exit == 0 {
				t.Errorf("%+v %v", p, err)
			}
			if strings.Contains(fmt.Sprintf("%+v %v", p, err), "hunter22") {
				t.Errorf("a secret is told: %v", err)
			}
			if _, err := os.Lstat(dir); err == nil {
				t.Error("something was written")
			}
		})
	}
}

func TestCreateProverWithoutDriver(t *testing.T) {
	p := provingMachine(t)
	p.gpus = func(context.Context) prover.GPUReading {
		return prover.GPUReading{Why: "no NVIDIA driver: the library libnvidia-ml.so.1 is not installed", GPUs: []prover.GPU{}}
	}
	a := twoProvers(t)
	_, _, err := makeProvers(t, proverDesk(t, p), a)
	var pr *engine.Problem
	if !errors.As(err, &pr) || pr.Code != engine.CodeProverUnfit || !strings.Contains(pr.Cause, "no NVIDIA driver") || !strings.Contains(pr.Remedy, "--assume-gpus") {
		t.Fatalf("%+v %v", pr, err)
	}
	// --allow-short does not conjure up a GPU.
	a.AllowShort = true
	if _, _, err := makeProvers(t, proverDesk(t, p), a); err == nil {
		t.Error("made provers for GPUs that nobody knows")
	}
	// For another machine, as it was written down: made, and labelled.
	a.AllowShort = false
	h, err := provingMachine(t).measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	a.AssumeGPUs = keyFile(t, string(raw))
	plan, receipt, err := makeProvers(t, proverDesk(t, p), a)
	if err != nil || !strings.Contains(strings.Join(plan.Warnings, "\n"), "nothing was measured") || !strings.Contains(strings.Join(receipt.Notes, "\n"), "nothing was measured") {
		t.Fatalf("%v %+v", err, receipt)
	}
	readme, err := os.ReadFile(filepath.Join(a.Dir, zkwasm.ReadmeFile))
	if err != nil || !strings.Contains(string(readme), "was not measured") || !strings.Contains(string(readme), "sudo chown 1001:1001") {
		t.Errorf("%v\n%s", err, readme)
	}
	man, err := os.ReadFile(filepath.Join(a.Dir, "gpu-0", zkwasm.ManifestFile))
	if err != nil || !strings.Contains(string(man), `"measured": false`) {
		t.Errorf("%v\n%s", err, man)
	}
}

// TestCreateProverShort: what the machine lacks is refused, and with --allow-short told.
func TestCreateProverShort(t *testing.T) {
	p := provingMachine(t)
	run := p.run
	p.run = func(ctx context.Context, name string, args ...string) (string, error) {
		if name == "nvidia-ctk" {
			return "NVIDIA Container Toolkit CLI version 1.17.8\n", nil
		}
		if name == "docker" && args[0] == "info" {
			return `{"ServerErrors":["Cannot connect to the Docker daemon"]}`, errors.New("exit status 1")
		}
		return run(ctx, name, args...)
	}
	o := proverDesk(t, p)
	a := twoProvers(t)
	a.GPUs, a.KeyFiles = []string{uuidOf(2)}, a.KeyFiles[:1]
	_, _, err := makeProvers(t, o, a)
	var pr *engine.Problem
	if !errors.As(err, &pr) || pr.Code != engine.CodeProverUnfit || len(pr.More) != 3 {
		t.Fatalf("%+v", pr)
	}
	a.AllowShort = true
	plan, _, err := makeProvers(t, o, a)
	said := strings.Join(plan.Warnings, "\n")
	for _, want := range []string{"falls short: GPU 2", "10240 MiB", "1.17.8", "Cannot connect to the Docker daemon"} {
		if err != nil || !strings.Contains(said, want) {
			t.Errorf("%v: warnings lack %q:\n%s", err, want, said)
		}
	}
	readme, err := os.ReadFile(filepath.Join(a.Dir, zkwasm.ReadmeFile))
	if err != nil || !strings.Contains(string(readme), "What the machine lacks") {
		t.Errorf("%v\n%s", err, readme)
	}
}

// A key that is exchanged in its file after the plan was agreed to is not used.
func TestCreateProverChangedKey(t *testing.T) {
	o := proverDesk(t, provingMachine(t))
	a := twoProvers(t)
	req := engine.Request{Key: engine.NewKey(), Action: a, Actor: engine.Actor{Via: engine.ViaCLI}}
	p, err := o.Preview(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.KeyFiles[0], []byte(strings.Repeat("7", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = o.Do(t.Context(), req, p.Digest)
	var pr *engine.Problem
	if !errors.As(err, &pr) || pr.Code != engine.CodePlanChanged {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(a.Dir); err == nil {
		t.Error("something was written")
	}
}

func TestCreateProverWarnings(t *testing.T) {
	p := provingMachine(t)
	gpus := p.gpus
	p.gpus = func(ctx context.Context) prover.GPUReading {
		r := gpus(ctx)
		r.GPUs[0].Display = ptrTo(true)
		r.GPUs[1].PIDs = []int{4711}
		return r
	}
	p.dial = func(context.Context, zkwasm.Server) error { return errors.New("no route to host") }
	a := twoProvers(t)
	if err := os.Chmod(a.KeyFiles[0], 0o644); err != nil {
		t.Fatal(err)
	}
	plan, _, err := makeProvers(t, proverDesk(t, p), a)
	said := strings.Join(plan.Warnings, "\n")
	for _, want := range []string{"drives a display (Xorg", "in use by process 4711", "could not be reached from here: no route to host", a.KeyFiles[0] + " can be read by others; chmod 600", "does not advise several nodes"} {
		if err != nil || !strings.Contains(said, want) {
			t.Errorf("%v: warnings lack %q:\n%s", err, want, said)
		}
	}
}

func TestCreateNative(t *testing.T) {
	a := engine.CreateProver{Profile: "native", Dir: filepath.Join(t.TempDir(), "CPU provers"), Workers: 3}
	plan, receipt, err := makeProvers(t, proverDesk(t, provingMachine(t)), a)
	if err != nil || !strings.Contains(strings.Join(plan.Warnings, "\n"), "no GPU is used") || len(receipt.Files) != 4 {
		t.Fatalf("%v %+v", err, receipt)
	}
	raw, err := os.ReadFile(filepath.Join(a.Dir, "provost.yaml"))
	if err != nil || !strings.Contains(string(raw), "name: cpuprovers\n") || !strings.Contains(string(raw), "count: 3\n") {
		t.Errorf("%v\n%s", err, raw)
	}
}

func TestMeasureWrittenMachine(t *testing.T) {
	p := provingMachine(t)
	h, err := p.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool, ok := h.Pool2M()
	if !ok || pool.Total != 15000 || len(pool.NUMA) != 2 || *h.MemTotal != 256<<10 || *h.MemAvailable != 200<<10 || h.DefaultPageKiB == nil || *h.DefaultPageKiB != 2048 {
		t.Errorf("%+v %+v", pool, h)
	}
	if len(h.NUMA) != 2 || h.NUMA[1].CPUs != "16-31,48-63" || *h.NUMA[1].MemTotal != 128<<10 || h.Kept == nil || h.Kept.Pages != 8000 || h.Kept.Where != "/etc/sysctl.conf" {
		t.Errorf("%+v %+v", h.NUMA, h.Kept)
	}
	if !slices.Equal(h.Busy, []prover.TCPPort{22, 27017}) {
		t.Errorf("busy %v", h.Busy)
	}
	if d := h.Docker; d.Version != "28.2.2" || d.Compose != "2.36.0" || d.Toolkit != "1.14.3" || d.Runtime != "nvidia" || !slices.Equal(d.Names, []string{"nvidia", "runc"}) || h.Disk != nil {
		t.Errorf("%+v %+v", d, h.Disk)
	}
	if d := p.disk(t.Context(), t.TempDir()); d == nil || d.Free == 0 {
		t.Errorf("%+v", d)
	}
}

// TestRealHugepages sets the pool of this machine, looks, and sets it back.
func TestRealHugepages(t *testing.T) {
	const file = "/proc/sys/vm/nr_hugepages"
	before, err := os.ReadFile(file)
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("this kernel has no hugepage pool")
	}
	old, err := strconv.Atoi(strings.TrimSpace(string(before)))
	if err != nil {
		t.Fatal(err)
	}
	want := old + 24
	if err := os.WriteFile(file, []byte(strconv.Itoa(want)), 0o644); err != nil {
		t.Skipf("the pool cannot be set here: %v", err)
	}
	defer os.WriteFile(file, before, 0o644)
	p := newProverHost()
	p.gpus = func(context.Context) prover.GPUReading { return prover.GPUReading{} }
	h, err := p.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool, ok := h.Pool2M()
	if !ok || int(pool.Total) < old || int(pool.Total) > want {
		t.Errorf("the pool was set from %d to %d, measured %+v", old, want, pool)
	}
	if h.MemTotal == nil || h.MemAvailable == nil || h.Docker == nil || h.Hostname == "" || h.Busy == nil {
		t.Errorf("%+v", h)
	}
}

func TestDialServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at, err := zkwasm.ParseServer("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := dialServer(t.Context(), at); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := dialServer(t.Context(), at); err == nil {
		t.Error("nobody answers there")
	}
}

func TestRunTool(t *testing.T) {
	if out, err := runTool(t.Context(), "sh", "-c", "echo yes"); err != nil || out != "yes\n" {
		t.Error(out, err)
	}
	if _, err := runTool(t.Context(), "sh", "-c", "echo no >&2; echo more >&2; exit 3"); err == nil || err.Error() != "no" {
		t.Error(err)
	}
	if _, err := runTool(t.Context(), "a-program-that-is-not-there"); err == nil {
		t.Error("no error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := runTool(ctx, "sleep", "60"); err == nil {
		t.Error("a program that hangs was waited for")
	}
	if out, err := runTool(t.Context(), "head", "-c", "3000000", "/dev/zero"); err != nil || len(out) != maxToolSays {
		t.Error(len(out), err)
	}
}
