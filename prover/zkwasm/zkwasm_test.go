package zkwasm

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"app.provost/prover"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew")

func at[T any](v T) *T { return &v }

// The keys of this test are made of one digit: nobody could hold them for real ones.
var (
	keyA = strings.Repeat("a", 64)
	keyB = strings.Repeat("b", 64)
)

func mustKey(t testing.TB, s string) Key {
	t.Helper()
	k, err := ParseKey([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func node(t testing.TB, i int) Node {
	k := mustKey(t, []string{keyA, keyB}[i])
	return Node{Project: fmt.Sprintf("gpu-%d", i), Server: "https://rpc.zkwasmhub.com", Key: k, Address: k.Address(),
		GPU: prover.GPU{Index: i, UUID: fmt.Sprintf("GPU-%d0000000-1111-2222-3333-444444444444", i), Model: "NVIDIA GeForce RTX 4090", NUMA: at(i)}, CPUs: []string{"", "16-31"}[i]}
}

// TestGoldenTrees holds every file of every version to what it was.
func TestGoldenTrees(t *testing.T) {
	for _, v := range Versions() {
		h := prover.Host{Hostname: "m03"}
		var nodes []Node
		for i := range 2 {
			if _, alone := v.Alone(); alone && i > 0 {
				break
			}
			nodes = append(nodes, node(t, i))
		}
		got := map[string][]byte{}
		for _, n := range nodes {
			files, err := v.Tree(n, h, "/srv/provers/"+n.Project, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if hasKey := strings.Contains(string(f.Data), keyA) || strings.Contains(string(f.Data), keyB); hasKey != f.Secret || f.Secret && (f.Mode != 0o600 || f.Owner != UID) {
					t.Errorf("%s %s: secret %v, mode %o, owner %d", v.Name, f.Path, f.Secret, f.Mode, f.Owner)
				}
				got[n.Project+"/"+f.Path] = f.Data
			}
		}
		got[ReadmeFile] = v.Readme(Guide{Dir: "/srv/provers", Nodes: nodes, Host: h, Todo: []string{"sudo sysctl -w vm.nr_hugepages=30000"}, Lacks: []string{"the Compose plugin is not installed"}})
		dir := filepath.Join("testdata", v.Profile())
		if *update {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			for name, data := range got {
				p := filepath.Join(dir, filepath.FromSlash(name))
				if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := map[string]string{}
		err := filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			raw, err := os.ReadFile(p)
			rel, _ := filepath.Rel(dir, p)
			want[filepath.ToSlash(rel)] = string(raw)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]string{}
		for k, b := range got {
			have[k] = string(b)
		}
		if d := cmp.Diff(want, have); d != "" {
			t.Errorf("%s (-testdata +now), renew with -update:\n%s", v.Name, d)
		}
	}
}

// TestCompose asks Docker Compose itself whether it understands the files, and whether
// two nodes of one machine share no name.
func TestCompose(t *testing.T) {
	tool := []string{"docker", "compose"}
	if exec.Command("docker", "compose", "version").Run() != nil {
		tool = []string{"docker-compose"}
		if _, err := exec.LookPath("docker-compose"); err != nil {
			t.Skip("neither the Compose plugin of Docker nor docker-compose is installed")
		}
	}
	for _, v := range Versions() {
		for i := range 2 {
			n := node(t, i)
			dir := t.TempDir()
			files, err := v.Tree(n, prover.Host{}, dir, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if f.Path == ComposeFile || f.Path == EnvFile {
					if err := os.WriteFile(filepath.Join(dir, f.Path), f.Data, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			cmd := exec.Command(tool[0], append(tool[1:], "-f", ComposeFile, "--profile", "monitor", "config")...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%s: %v\n%s", v.Name, err, out)
			}
			// A fixed name would be shared by two nodes; without one the project's stands in front of it.
			if strings.Contains(string(out), "container_name") || strings.Contains(string(out), "\n    name:") {
				t.Errorf("%s: a container or volume has a fixed name:\n%s", v.Name, out)
			}
			for _, want := range []string{n.GPU.UUID, v.Image, "runtime: nvidia", "network_mode: host", home + ProverFile, "/dev/hugepages"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("%s: compose does not see %q:\n%s", v.Name, want, out)
				}
			}
		}
	}
}

func TestStartScriptIsShell(t *testing.T) {
	for _, v := range Versions() {
		cmd := exec.Command("/bin/sh", "-n")
		cmd.Stdin = strings.NewReader(v.start())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", v.Name, err, out)
		}
	}
}

// TestStartScriptOrder runs the script with programs of our own in place of the
// node's: without a GPU it must speak of the GPU, whatever the memory is.
func TestStartScriptOrder(t *testing.T) {
	v := Newest()
	v.Needs.Pages, v.Needs.Memory = 0, 0
	big := v
	big.Needs.Pages = 1 << 40
	more := v
	more.Needs.Memory = 1 << 40
	for name, tt := range map[string]struct {
		v    Version
		gpu  string
		want string
		code int
	}{
		"no gpu":       {big, "exit 1", "the GPU cannot be reached", 1},
		"no hugepages": {big, "exit 0", "free hugepages of 2 MiB", 1},
		"no memory":    {more, "exit 0", "MiB of memory available", 1},
		"all there":    {v, "exit 0", "started --config prover_config.json -w workspace --proversystemconfig prover_system_config.json -p --rocksdbworkspace rocksdb as 0", 0},
	} {
		dir := t.TempDir()
		put := func(name, text string) {
			p := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		put("bin/nvidia-smi", tt.gpu)
		put("bin/sudo", "true")
		put("target/release/zkwasm-playground", `echo started "$@" as $CUDA_VISIBLE_DEVICES`)
		cmd := exec.Command("/bin/sh", "-c", tt.v.start())
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin") + ":/usr/bin:/bin"}
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), tt.want) || cmd.ProcessState.ExitCode() != tt.code {
			t.Errorf("%s: %d %s", name, cmd.ProcessState.ExitCode(), out)
		}
	}
}

func TestUnit(t *testing.T) {
	v, n := Newest(), node(t, 0)
	text := v.unit(n, "/srv/100% sure/x", "/usr/local/bin/docker")
	for _, want := range []string{"WorkingDirectory=/srv/100%% sure/x\n", "ExecStart=/usr/local/bin/docker compose up", "-ge 15000", "Restart=always", `stat -c %%u:%%a prover_config.json)" = 1001:600`} {
		if !strings.Contains(text, want) {
			t.Errorf("unit lacks %q:\n%s", want, text)
		}
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed: nothing here can read the unit")
	}
	dir := t.TempDir()
	p := filepath.Join(dir, v.UnitFile(n))
	for name, text := range map[string]string{p: v.unit(n, "/tmp/100% sure", "/bin/true"), filepath.Join(dir, "docker.service"): "[Service]\nExecStart=/bin/true\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("systemd-analyze", "verify", "--man=no", p)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), v.UnitFile(n)) {
		t.Errorf("%v: %s", err, out)
	}
}

// TestUnitChecks runs what the unit runs before the containers, as systemd hands it to the shell: with a
// doubled $ and % made single. A check that always fails keeps the node down for ever.
func TestUnitChecks(t *testing.T) {
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skip("there is no /proc/meminfo: what the unit runs is for Linux")
	}
	v := Newest()
	dir := t.TempDir()
	at := filepath.Join(dir, ProverFile)
	if err := os.WriteFile(at, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	owner := os.Geteuid() == 0 && os.Chown(at, UID, UID) == nil
	for pages, want := range map[prover.Pages]string{0: "", 1 << 40: " free hugepages, 1099511627776 are needed\n"} {
		v.Needs.Pages = pages
		var checks []string
		for line := range strings.Lines(v.unit(node(t, 0), dir, "/bin/true")) {
			if c, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStartPre=/bin/sh -c '"); ok {
				checks = append(checks, strings.NewReplacer("$$", "$", "%%", "%").Replace(strings.TrimSuffix(c, "'")))
			}
		}
		if len(checks) != 2 {
			t.Fatalf("%q", checks)
		}
		for i, c := range checks {
			if i == 1 && (!owner || want != "") {
				continue
			}
			cmd := exec.Command("/bin/sh", "-c", c)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			count, rest, _ := strings.Cut(string(out), " ")
			if n, bad := strconv.Atoi(count); want == "" && (err != nil || len(out) > 0) || want != "" && (err == nil || bad != nil || n < 0 || " "+rest != want) {
				t.Errorf("%d pages: %s: %v %q", pages, c, err, out)
			}
		}
	}
}

func TestParseKey(t *testing.T) {
	// n is the order of secp256k1 (SEC 2, 2.4.1).
	const n = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
	for in, want := range map[string]string{
		keyA: "", keyA + "\n": "", keyA + "\r\n": "", strings.ToUpper(keyA): "", strings.Repeat("0", 63) + "1": "", n[:63] + "0": "",
		n: "outside the curve's range", strings.Repeat("f", 64): "outside the curve's range", strings.Repeat("0", 64): "outside the curve's range",
		"": "empty", "\n": "empty", "0x" + keyA: "begins with 0x", "0X" + keyA: "begins with 0x", "\xef\xbb\xbf" + keyA: "byte order mark",
		"PRIVATE_KEY": "placeholder", keyA[1:]: "63 characters", keyA + "a": "65 characters", keyA + "\n\n": "more than one line", keyA + "\n" + keyB: "more than one line",
		" " + keyA: "blanks", keyA + " ": "blanks", "g" + keyA[1:]: "character 1 is no hex digit", keyA[:63] + "é": "65 characters", `{"priv_key":"x"}`: "JSON",
		"legal winner thank year wave sausage": "mnemonic", keyA[:62] + "\x00a": "character 63",
	} {
		k, err := ParseKey([]byte(in))
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", in, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !k.IsZero()):
			t.Errorf("%q: %v, want %q", in, err, want)
		}
		if err != nil && len(in) > 12 && strings.Contains(err.Error(), strings.TrimSpace(in)[2:10]) {
			t.Errorf("%q: the error tells it: %v", in, err)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, tt := range []struct {
		path  string
		n     int
		loose bool
		want  string
	}{
		{put("one", keyA+"\n", 0o600), 1, false, ""}, {put("loose", keyA, 0o644), 1, true, ""}, {put("two", keyA+"\r\n"+keyB+"\n", 0o600), 2, false, ""},
		{put("two-too", keyA+"\n"+keyB, 0o600), 3, false, "it has 2 lines, and 3 keys are needed"}, {put("second", keyA+"\n0x"+keyB+"\n", 0o600), 2, false, "line 2: it begins with 0x"},
		{put("blank", keyA+"\n\n", 0o600), 2, false, "line 2: it is empty"}, {put("empty", "", 0o600), 2, false, "it has 0 lines"}, {put("big", strings.Repeat("a", MaxKeyFile*MaxNodes+1), 0o600), 1, false, "far larger"},
		{filepath.Join(dir, "gone"), 1, false, "no such file"}, {dir, 1, false, "no ordinary file"}, {"/dev/zero", 1, false, "no ordinary file"},
	} {
		keys, loose, err := ReadKeyFile(tt.path, tt.n)
		if tt.want == "" && (err != nil || len(keys) != tt.n || loose != tt.loose || keys[tt.n-1].IsZero()) {
			t.Errorf("%s: %v %v %v", tt.path, keys, loose, err)
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "aaaa") || strings.Contains(err.Error(), "bbbb")) {
			t.Errorf("%s: %v, want %q", tt.path, err, tt.want)
		}
	}
}

func TestAddress(t *testing.T) {
	// The first two accounts of Anvil, as its documentation prints them, and the key 1.
	for key, want := range map[string]Address{
		"ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
		"59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
		strings.Repeat("0", 63) + "1":                                      "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf",
	} {
		a := mustKey(t, key).Address()
		if a != want || a.Published() == "" || !a.Same(Address(strings.ToLower(string(want)))) {
			t.Errorf("%s, want %s", a, want)
		}
	}
	if (Key{}).Address() != "" || Address("").Same("") || mustKey(t, keyA).Address().Published() != "" {
		t.Error("no key, no address")
	}
}

func TestKeyHides(t *testing.T) {
	k := mustKey(t, keyA)
	cfg := NewProverConfig("https://x.y", k)
	for _, s := range []string{fmt.Sprintf("%v %+v %#v %x %q %s %d", k, k, k, k, k, k, k), fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg), fmt.Sprintf("%+v %#v", node(t, 0), node(t, 0))} {
		if strings.Contains(strings.ToLower(s), "aaaaaa") || strings.Contains(s, "170 170") || strings.Contains(s, "0xaa, 0xaa") {
			t.Errorf("a key was printed: %s", s)
		}
	}
	if _, err := json.Marshal(map[string]any{"k": k}); err == nil {
		t.Error("a key was encoded")
	}
	k.Wipe()
	if k.reveal() != strings.Repeat("0", 64) {
		t.Error("a key stays")
	}
}

func TestConfigs(t *testing.T) {
	k := mustKey(t, keyA)
	prov, err := NewProverConfig("https://rpc.zkwasmhub.com", k).Render()
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseProverConfig(prov)
	if err != nil || c.Server != "https://rpc.zkwasmhub.com" || c.Key.Address() != k.Address() || c.Timeouts != proverTimeouts || c.Warnings.Disk != 80 || c.MaxDebugLog != 4<<20 {
		t.Fatalf("%v %v", c, err)
	}
	// What is not known stays, in its place behind the others, at both levels.
	odd := strings.Replace(string(prov), `"whitelisted_users": []`, `"new_thing": {"a": [1, 2.50]}, "whitelisted_users": ["0x000000000000000000000000000000000000dEaD"]`, 1)
	odd = strings.Replace(odd, `"gpu_temp_warning_level": 75.0`, `"gpu_temp_warning_level": 75.5, "gpu_fan_warning_level": null`, 1)
	c, err = ParseProverConfig([]byte(odd))
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Render()
	if err != nil || !strings.Contains(string(out), `"new_thing": {`) || !strings.Contains(string(out), "2.50") || !strings.Contains(string(out), `"gpu_fan_warning_level": null`) || !strings.Contains(string(out), "75.5") {
		t.Errorf("%v\n%s", err, out)
	}
	again, err := ParseProverConfig(out)
	if err != nil {
		t.Fatal(err)
	}
	if out2, _ := again.Render(); string(out2) != string(out) {
		t.Errorf("a second rendering differs:\n%s", out2)
	}
	if _, err := (ProverConfig{Server: "https://x"}).Render(); err == nil {
		t.Error("a file without a key was written")
	}
	for _, mongo := range []string{"", "mongodb://localhost:27017"} {
		dry, err := NewDryRunConfig("http://h:8090", k, mongo).Render()
		if err != nil {
			t.Fatal(err)
		}
		if d, err := ParseDryRunConfig(dry); err != nil || d.MongoURI != mongo || d.Key.Address() != k.Address() || strings.Contains(string(dry), "mongodb_uri") != (mongo != "") || !strings.Contains(string(dry), "private_key") {
			t.Errorf("%v %v\n%s", d, err, dry)
		}
	}
	sys, err := NewSystemConfig().Render()
	if err != nil || strings.Contains(string(sys), "key") {
		t.Fatal(err, string(sys))
	}
	if s, err := ParseSystemConfig(sys); err != nil || s.Timeouts != otherTimeouts {
		t.Error(s, err)
	}
}

// TestConfigRefuses changes a good file in one place at a time.
func TestConfigRefuses(t *testing.T) {
	good, err := NewProverConfig("https://rpc.zkwasmhub.com", mustKey(t, keyA)).Render()
	if err != nil {
		t.Fatal(err)
	}
	for change, want := range map[[2]string]string{
		{`"priv_key"`, `"private_key"`}: "priv_key is missing", {`"priv_key"`, `"PRIV_KEY"`}: "priv_key is missing", {`"server_url"`, `"Server_url"`}: "server_url is missing",
		{keyA, "0x" + keyA}: "begins with 0x", {keyA, "PRIVATE_KEY"}: "placeholder", {`"` + keyA + `"`, "12"}: "64 hex digits as text", {keyA, keyA[1:]}: "63 characters",
		{"https://rpc", "ftp://rpc"}: "does not begin with https", {"https://rpc", "https://a:b@rpc"}: "user name or password", {`"get_timeout": 60`, `"get_timeout": 0`}: "0 seconds",
		{`"get_timeout": 60`, `"get_timeout": -1`}: "whole seconds", {`"get_timeout": 60`, `"get_timeout": 1.5`}: "whole seconds", {`"get_timeout": 60`, `"get_timeout": null`}: "null",
		{`"get_timeout": 60`, `"get_timeout": 60, "get_timeout": 61`}: "twice", {`"get_timeout": 60`, `"get_timeout": 60, "Get_timeout": 61`}: "is written get_timeout",
		{`[]`, `["0x12"]`}: "entry 1 is no address", {`[]`, `"0x"`}: "list of texts", {"80.0", "101"}: "0 to 100", {"80.0", `"80"`}: "a number", {"4194304", "-1"}: "whole number",
		{"{", "["}: "no JSON", {"}\n", "} {}"}: "something follows", {"}\n", ""}: "ends too early",
	} {
		bad := strings.Replace(string(good), change[0], change[1], 1)
		if change[0] == "}\n" {
			bad = strings.TrimSuffix(string(good), "}\n") + strings.TrimPrefix(change[1], "")
		}
		_, err := ParseProverConfig([]byte(bad))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", change, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "aaaaaa") || strings.Contains(err.Error(), "a:b")) {
			t.Errorf("%q: the error tells a secret: %v", change, err)
		}
	}
	if _, err := ParseProverConfig(make([]byte, MaxConfig+1)); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Error(err)
	}
	extra := strings.Replace(string(good), "{", `{"e": "`+strings.Repeat("x", 1000)+`", `, 1)
	if _, err := ParseProverConfig([]byte(extra)); err != nil {
		t.Error(err)
	}
}

func TestParseServer(t *testing.T) {
	for in, want := range map[string]Server{
		"https://rpc.zkwasmhub.com":  {"https://rpc.zkwasmhub.com", "rpc.zkwasmhub.com", 443, true},
		"http://10.0.0.1:8090/x":     {"http://10.0.0.1:8090/x", "10.0.0.1", 8090, false},
		"https://[2001:db8::1]:8443": {"https://[2001:db8::1]:8443", "2001:db8::1", 8443, true},
		"http://localhost:8080":      {"http://localhost:8080", "localhost", 8080, false},
	} {
		got, err := ParseServer(in)
		if err != nil || got != want || got.Local() != strings.Contains(in, "localhost") {
			t.Errorf("%s: %+v %v", in, got, err)
		}
	}
	for _, in := range []string{"", "rpc.zkwasmhub.com", "rpc.zkwasmhub.com:8090", "ftp://x", "https://", "https://x/", "https://x?y=1", "https://x#y", "https://u@x", "https://x:0", "https://x:99999", "https://x:", "https://x y", "https://x\ny",
		"https://x$(id)", "https://x'y", "https://é", "https://x" + strings.Repeat("y", 3000)} {
		if got, err := ParseServer(in); err == nil {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

func TestOlder(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{{"1.14.3-1", "1.14.3", false}, {"1.14.2", "1.14.3", true}, {"1.9", "1.14", true}, {"20.10.24+dfsg1", "19.03", false}, {"v2.39.1", "2.0.0", false}, {"2", "2.0.0", false}, {"2.0.0", "2", false}, {"", "1", true}, {"unknown", "1", true},
		{"535.54.03", "535.54.03", false}, {"530.41.03", "535.54.03", true}, {"8.9", "8.9", false}, {"10.0", "8.9", false}} {
		if older(tt.a, tt.b) != tt.want {
			t.Errorf("%q older than %q: %v", tt.a, tt.b, !tt.want)
		}
	}
}

func params() Params {
	return Params{Version: "0.0.14", Name: "gpu", Dir: "/srv/provers", Server: "https://rpc.zkwasmhub.com",
		GPUs: []string{"GPU-00000000-1111-2222-3333-444444444444", "GPU-10000000-1111-2222-3333-444444444444"}, KeyFiles: []string{"/k/a", "/k/b"}}
}

func TestParams(t *testing.T) {
	if r := params().Remarks(); len(r) != 0 {
		t.Errorf("%+v", r)
	}
	for name, tt := range map[string]struct {
		change func(*Params)
		field  string
		weight Weight
	}{
		"version":       {func(p *Params) { p.Version = "9" }, "profile", Stops},
		"no name":       {func(p *Params) { p.Name = "" }, "name", Stops},
		"long name":     {func(p *Params) { p.Name = strings.Repeat("a", 41) }, "name", Stops},
		"upper case":    {func(p *Params) { p.Name = "Gpu" }, "name", Stops},
		"dash first":    {func(p *Params) { p.Name = "-gpu" }, "name", Stops},
		"slash":         {func(p *Params) { p.Name = "../x" }, "name", Stops},
		"no dir":        {func(p *Params) { p.Dir = "" }, "dir", Stops},
		"dir with line": {func(p *Params) { p.Dir = "/a\nUser=root" }, "dir", Stops},
		"no server":     {func(p *Params) { p.Server = "" }, "server", Stops},
		"bad server":    {func(p *Params) { p.Server = "rpc" }, "server", Stops},
		"local":         {func(p *Params) { p.Server = "http://127.0.0.1:1" }, "server", Warns},
		"plain":         {func(p *Params) { p.Server = "http://h" }, "server", Warns},
		"no gpu":        {func(p *Params) { p.GPUs, p.KeyFiles = nil, nil }, "gpus", Stops},
		"gpu by index":  {func(p *Params) { p.GPUs[0] = "0" }, "gpus", Stops},
		"gpu twice":     {func(p *Params) { p.GPUs[0] = p.GPUs[1] }, "gpus", Stops},
		"too many":      {func(p *Params) { p.GPUs = make([]string, 65); p.KeyFiles = make([]string, 65) }, "gpus", Stops},
		"no key":        {func(p *Params) { p.KeyFiles = nil }, "key-files", Stops},
		"three keys":    {func(p *Params) { p.KeyFiles = []string{"/a", "/b", "/c"} }, "key-files", Stops},
		"key twice":     {func(p *Params) { p.KeyFiles[0] = p.KeyFiles[1] }, "key-files", Stops},
		"empty key":     {func(p *Params) { p.KeyFiles[0] = "" }, "key-files", Stops},
	} {
		p := params()
		tt.change(&p)
		r := p.Remarks()
		if !slices.ContainsFunc(r, func(r Remark) bool {
			return r.Field == tt.field && r.Weight == tt.weight && r.Cause != "" && r.Remedy != ""
		}) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func machine() prover.Host {
	gpu := func(i int) prover.GPU {
		return prover.GPU{Index: i, UUID: fmt.Sprintf("GPU-%d0000000-1111-2222-3333-444444444444", i), Model: "NVIDIA GeForce RTX 4090", MemTotal: at(prover.MiB(24564)), Compute: at("8.9"), Display: at(false), MIG: at(false), NUMA: at(0)}
	}
	return prover.Host{Hostname: "m03", GPU: prover.GPUReading{Driver: "550.54.15", CUDA: "12.4", GPUs: []prover.GPU{gpu(0), gpu(1)}},
		Docker: &prover.Docker{Version: "28.2.2", Compose: "2.36.0", Toolkit: "1.14.3", Names: []string{"nvidia", "runc"}, Volumes: []string{}}, Busy: []prover.TCPPort{}}
}

func TestCheckHost(t *testing.T) {
	uuid := params().GPUs
	for name, tt := range map[string]struct {
		change func(*prover.Host)
		want   string
		weight Weight
	}{
		"fine":       {func(*prover.Host) {}, "", Stops},
		"no driver":  {func(h *prover.Host) { h.GPU = prover.GPUReading{Why: "no NVIDIA driver: the library is not installed"} }, "no NVIDIA driver", Stops},
		"old driver": {func(h *prover.Host) { h.GPU.Driver = "530.41.03" }, "the driver is 530.41.03", Lacks},
		"old cuda":   {func(h *prover.Host) { h.GPU.CUDA = "12.1" }, "CUDA 12.1", Lacks},
		"gone":       {func(h *prover.Host) { h.GPU.GPUs = h.GPU.GPUs[1:] }, "there is no GPU", Stops},
		"lost":       {func(h *prover.Host) { h.GPU.GPUs[0].Lost = "the device fell off the bus" }, "fell off the bus", Stops},
		"RTX 3080":   {func(h *prover.Host) { h.GPU.GPUs[0].MemTotal = at(prover.MiB(10240)) }, "10240 MiB of memory, 24000 are needed", Lacks},
		"RTX 3090":   {func(h *prover.Host) { h.GPU.GPUs[0].Compute = at("8.6") }, "compute capability 8.6, 8.9 is needed", Lacks},
		"H200": {func(h *prover.Host) {
			h.GPU.GPUs[0].Compute, h.GPU.GPUs[0].MemTotal = at("9.0"), at(prover.MiB(143771))
		}, "", Stops},
		"unknown memory":  {func(h *prover.Host) { h.GPU.GPUs[0].MemTotal = nil }, "its memory is not known", Warns},
		"unknown compute": {func(h *prover.Host) { h.GPU.GPUs[0].Compute = nil }, "compute capability is not known", Warns},
		"MIG":             {func(h *prover.Host) { h.GPU.GPUs[0].MIG = at(true) }, "MIG", Lacks},
		"Xorg":            {func(h *prover.Host) { h.GPU.GPUs[0].Display = at(true) }, "drives a display (Xorg", Warns},
		"busy":            {func(h *prover.Host) { h.GPU.GPUs[0].PIDs = []int{7, 9} }, "in use by processes 7, 9", Warns},
		"no docker": {func(h *prover.Host) {
			h.Docker = &prover.Docker{Why: "the daemon does not answer", Compose: "2.1", Toolkit: "1.14.3"}
		}, "Docker: the daemon does not answer", Lacks},
		"old docker":     {func(h *prover.Host) { h.Docker.Version = "18.09" }, "Docker is 18.09", Lacks},
		"no compose":     {func(h *prover.Host) { h.Docker.Compose = "" }, "Compose plugin", Lacks},
		"compose 1":      {func(h *prover.Host) { h.Docker.Compose = "1.29.2" }, "Compose is 1.29.2", Lacks},
		"no toolkit":     {func(h *prover.Host) { h.Docker.Toolkit = "" }, "toolkit is not installed", Lacks},
		"old toolkit":    {func(h *prover.Host) { h.Docker.Toolkit = "1.13.5" }, "1.14.3 is needed", Lacks},
		"new toolkit":    {func(h *prover.Host) { h.Docker.Toolkit = "1.16.2" }, "the node's project uses 1.14.3", Warns},
		"unfit toolkit":  {func(h *prover.Host) { h.Docker.Toolkit = "1.17.8-1" }, "unfit", Lacks},
		"no runtime":     {func(h *prover.Host) { h.Docker.Names = []string{"runc"} }, "runtime nvidia", Lacks},
		"unknown docker": {func(h *prover.Host) { h.Docker = nil }, "not known", Warns},
	} {
		h := machine()
		tt.change(&h)
		r := Newest().CheckHost(h, uuid[:1], nil)
		if tt.want == "" {
			if len(r) != 0 {
				t.Errorf("%s: %+v", name, r)
			}
			continue
		}
		if !slices.ContainsFunc(r, func(r Remark) bool {
			return strings.Contains(r.Cause, tt.want) && r.Weight == tt.weight && r.Remedy != ""
		}) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// Versions with ports of the host run alone.
	old, _ := VersionByName("0.0.12")
	r := old.CheckHost(machine(), uuid, nil)
	if !slices.ContainsFunc(r, func(r Remark) bool {
		return r.Weight == Stops && strings.Contains(r.Cause, "21 (parameter server (FTP))")
	}) {
		t.Errorf("%+v", r)
	}
	r = old.CheckHost(machine(), uuid[:1], []Found{{Dir: "/srv/a", Ours: true, Profile: "zkwasm-0.0.13", Host: "m03"}})
	if !slices.ContainsFunc(r, func(r Remark) bool { return r.Weight == Stops && strings.Contains(r.Cause, "/srv/a") }) {
		t.Errorf("%+v", r)
	}
	h := machine()
	h.Busy = []prover.TCPPort{22, 30004}
	if r = old.CheckHost(h, uuid[:1], nil); !slices.ContainsFunc(r, func(r Remark) bool { return r.Weight == Lacks && strings.Contains(r.Cause, "port 30004") }) {
		t.Errorf("%+v", r)
	}
}

func TestScanAndTwice(t *testing.T) {
	base := t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		p := filepath.Join(base, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	// One of ours.
	n0 := node(t, 0)
	files, err := Newest().Tree(n0, prover.Host{Hostname: "m03"}, base, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		put("group/gpu-0/"+f.Path, string(f.Data), 0o600)
	}
	// Copies of the repository, one filled in with 0x and by index, one as shipped, one broken.
	put("prover-node-docker/prover_config.json", `{"server_url": "https://x", "priv_key": "0x`+strings.Repeat("c", 64)+`"}`, 0o644)
	put("prover-node-docker/docker-compose.yml", "services:\n  prover-node:\n    deploy: {resources: {reservations: {devices: [{driver: nvidia, device_ids: [\"1\"], capabilities: [gpu]}]}}}\n", 0o644)
	put("fresh/prover_config.json", `{"priv_key": "PRIVATE_KEY"}`, 0o644)
	put("broken/prover_config.json", `{"priv_key": "`+strings.Repeat("d", 60), 0o644)
	// Strangers.
	put("other/prover.json", `{"schema": "something.else/1"}`, 0o644)
	put(".provost-place-0123456789abcdef/gpu-9/prover.json", `{}`, 0o644)
	put("a/b/c/deep/prover_config.json", `{"priv_key": "`+keyB+`"}`, 0o644)
	if err := os.Symlink(filepath.Join(base, "group"), filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	found, cut, err := Scan(base)
	if err != nil || cut || len(found) != 4 {
		t.Fatalf("%+v %v %v", found, cut, err)
	}
	by := map[string]Found{}
	for _, f := range found {
		rel, _ := filepath.Rel(base, f.Dir)
		by[rel] = f
	}
	if f := by["group/gpu-0"]; !f.Ours || f.Address != n0.Address || f.GPUs[0] != n0.GPU.UUID || f.Project != "gpu-0" || f.Need.Pages != 15000 {
		t.Errorf("%+v", f)
	}
	c := mustKey(t, strings.Repeat("c", 64))
	if f := by["prover-node-docker"]; f.Ours || f.Address != c.Address() || !slices.Equal(f.GPUs, []string{"1"}) || f.Project != "prover-node-docker" {
		t.Errorf("%+v", f)
	}
	if f := by["fresh"]; f.Address != "" || f.Problem != "" {
		t.Errorf("%+v", f)
	}
	if f := by["broken"]; f.Problem == "" || strings.Contains(f.Problem, "dddd") {
		t.Errorf("%+v", f)
	}

	h := machine()
	clean := node(t, 1)
	clean.Project = "new-0"
	clean.GPU = prover.GPU{UUID: "GPU-90000000-1111-2222-3333-444444444444", Index: 7}
	stops := func(n Node, h prover.Host) (out []string) {
		for _, r := range Twice([]Node{n}, found, h) {
			if r.Weight == Stops {
				out = append(out, r.Field+": "+r.Cause)
			}
		}
		return out
	}
	if got := stops(clean, h); len(got) != 0 {
		t.Errorf("a new node stops: %q", got)
	}
	same := clean
	same.Key, same.Address = n0.Key, n0.Address
	if got := stops(same, h); len(got) != 1 || !strings.HasPrefix(got[0], "key-files: key 1, that of "+string(n0.Address)) {
		t.Errorf("%q", got)
	}
	same.Address = c.Address() // the repository's copy, where it stands with 0x
	if got := stops(same, h); len(got) != 1 {
		t.Errorf("%q", got)
	}
	gpu := clean
	gpu.GPU = h.GPU.GPUs[0]
	if got := stops(gpu, h); len(got) != 1 || !strings.HasPrefix(got[0], "gpus: ") {
		t.Errorf("%q", got)
	}
	gpu.GPU = h.GPU.GPUs[1] // reserved by its index there
	if got := stops(gpu, h); len(got) != 1 || !strings.Contains(got[0], "prover-node-docker") {
		t.Errorf("%q", got)
	}
	name := clean
	name.Project = "gpu-0"
	if got := stops(name, h); len(got) != 1 || !strings.HasPrefix(got[0], "name: ") {
		t.Errorf("%q", got)
	}
	// On another machine the device and the name are free, the key never is.
	elsewhere := h
	elsewhere.Hostname = "m07"
	name.Key, name.Address, name.GPU = n0.Key, n0.Address, h.GPU.GPUs[0]
	if got := stops(name, elsewhere); len(got) != 1 || !strings.HasPrefix(got[0], "key-files") {
		t.Errorf("%q", got)
	}
	h.Docker.Volumes = []string{"new-0_workspace-volume"}
	if got := stops(clean, h); len(got) != 1 || !strings.Contains(got[0], "new-0_workspace-volume") {
		t.Errorf("%q", got)
	}
	if r := Twice([]Node{clean, clean}, nil, machine()); len(r) != 1 || !strings.Contains(r[0].Cause, "keys 1 and 2 are the same") {
		t.Errorf("%+v", r)
	}
	if _, _, err := Scan(filepath.Join(base, "nothing")); err != nil {
		t.Errorf("nothing there is no error: %v", err)
	}
}

// TestScanHostile meets what strangers may leave in a directory.
func TestScanHostile(t *testing.T) {
	base := t.TempDir()
	bad := filepath.Join(base, "bad")
	if err := os.MkdirAll(bad, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad, ProverFile), make([]byte, MaxConfig+10), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(base, "dir", ProverFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(base, "link"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(base, "link", ProverFile)); err != nil {
		t.Fatal(err)
	}
	found, _, err := Scan(base)
	if err != nil || len(found) != 1 || !strings.Contains(found[0].Problem, "larger") {
		t.Errorf("%+v %v", found, err)
	}
}

func FuzzConfigs(f *testing.F) {
	for _, name := range []string{"zkwasm-0.0.10/gpu-0/prover_config.json", "zkwasm-0.0.10/gpu-0/dry_run_config.json", "zkwasm-0.0.14/gpu-0/prover_system_config.json"} {
		raw, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(name)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"priv_key":"0x","system_warnings":{"a":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := ParseProverConfig(raw); err == nil {
			out, err := c.Render()
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseProverConfig(out)
			if err != nil {
				t.Fatalf("what was written is not read: %v", err)
			}
			if out2, _ := again.Render(); string(out2) != string(out) {
				t.Fatal("a second rendering differs")
			}
		}
		if c, err := ParseDryRunConfig(raw); err == nil {
			if out, err := c.Render(); err != nil {
				t.Fatal(err)
			} else if _, err := ParseDryRunConfig(out); err != nil {
				t.Fatal(err)
			}
		}
		if c, err := ParseSystemConfig(raw); err == nil {
			if out, err := c.Render(); err != nil {
				t.Fatal(err)
			} else if _, err := ParseSystemConfig(out); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzKey(f *testing.F) {
	for _, s := range []string{keyA, "0x" + keyA, "", keyA + "\n", "PRIVATE_KEY"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		k, err := ParseKey(raw)
		if err != nil {
			if len(raw) >= 16 && strings.Contains(err.Error(), string(raw)) {
				t.Fatal("an error tells the input")
			}
			return
		}
		if a := k.Address(); !a.valid() || k.reveal() != strings.ToLower(strings.TrimRight(string(raw), "\r\n")) {
			t.Fatal("a key reads as another")
		}
	})
}
