package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"app.provost/cluster/create"
	"app.provost/engine"
	"app.provost/engine/config"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMain makes this test binary a provost whose engine is in memory. What it
// is like comes from FAKE, words by spaces: see scene.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"provost": func() {
		os.Exit(int(Run(context.Background(), scene(os.Getenv("FAKE")), os.Args[1:])))
	}})
}

func scene(words string) Deps {
	f := newFake()
	has := func(w string) bool { return strings.Contains(" "+words+" ", " "+w+" ") }
	d := Deps{
		Dial: func(_ context.Context, socket string) (engine.Engine, func() error, error) {
			if has("gone") || strings.HasSuffix(socket, "nobody.sock") {
				return nil, nil, errNoEngine
			}
			if has("broken") {
				return nil, nil, errBroken
			}
			return f, func() error { return nil }, nil
		},
		OneShot: func() engine.Engine { return f },
		FindEngines: func(context.Context, config.Config) ([]Found, error) {
			one := Found{Name: "default", PID: 4121, StateDir: "/var/lib/provost/default", Socket: "/run/provost/default.sock"}
			switch {
			case has("none"):
				return nil, nil
			case has("two"):
				return []Found{one, {Name: "other\x1b[2J", PID: 4122, StateDir: "/srv/other", Socket: "/run/provost/other.sock"}}, nil
			}
			return []Found{one}, nil
		},
		SocketOf: func(c config.Config) string { return filepath.Join(c.StateDir, "nobody.sock") },
		Up: func(_ context.Context, o UpOptions) error {
			fmt.Printf("up mode=%s workers=%d state=%s flags=%q\n", o.Mode, o.Config.Workers, o.Config.StateDir, o.Flags)
			return nil
		},
		Demo: func(_ context.Context, o DemoOptions) error {
			fmt.Printf("demo headless=%v json=%v for=%s scripted=%v\n", o.Headless, o.JSON, o.For, o.Scripted)
			return nil
		},
		RunScreen: func(_ context.Context, _ engine.Engine, o ScreenOptions) error {
			fmt.Printf("screen read-only=%v ascii=%v theme=%s\n", o.ReadOnly, o.ASCII, o.Theme)
			return nil
		},
		Internal: map[string]func(context.Context, []string) error{"internal-stub": func(_ context.Context, args []string) error {
			fmt.Printf("stub %q\n", args)
			return nil
		}},
		Version: Version{Version: "v0.1.0", Commit: "abc1234", Go: "go1.26.0", Platform: "linux/amd64"},
		Actor:   func() engine.Actor { return engine.Actor{Name: "ana"} },
		Stdin:   os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Env: os.Environ(), Now: func() time.Time { return fakeNow },
	}
	if has("tty") {
		d.StdinTTY, d.StdoutTTY, d.StderrTTY = true, true, true
	}
	if has("type") {
		f.consent = engine.Consent{Level: "type", Phrase: "3", Why: "more than a tenth of the workers"}
	}
	if has("changes") {
		f.changes = 1
	}
	f.partly, f.never, f.silent = has("partly"), has("never"), has("silent")
	if has("hostile") {
		s := f.snap
		s.Workers.Rows[0].Note, s.Jobs.Rows[0].Name, s.Jobs.Rows[2].Failure.Text = hostile, hostile, "=cmd|'/c calc'!A0"
		s.Alerts.Rows[0].Title, s.Verdict.Value.Reasons[0].Text, s.Engine.Value.Name = hostile, hostile+"|x=1", hostile
		f.entries[2].Text = hostile
	}
	if has("nothing") {
		f.snap = &engine.Snapshot{Schema: engine.SnapshotSchema, Gen: 1, At: fakeNow}
	}
	return d
}

func TestScripts(t *testing.T) {
	if underRace {
		t.Skip("scripts start a process for each command, which takes minutes under the race detector; what is concurrent is tested in process")
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", filepath.Join(e.WorkDir, "config"))
			e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
			e.Setenv("XDG_RUNTIME_DIR", filepath.Join(e.WorkDir, "run"))
			e.Setenv("TERM", "xterm-256color")
			e.Setenv("NO_COLOR", "1")
			e.Setenv("HOSTILE", strings.ReplaceAll(hostile, "\n", " "))
			// An answer without its end: nobody pressed enter.
			if err := os.WriteFile(filepath.Join(e.WorkDir, "unfinished.txt"), []byte("y"), 0o600); err != nil {
				return err
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exits CODE WORDS...: run provost and compare its exit code.
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				err := ts.Exec("provost", args[1:]...)
				got := 0
				var code interface{ ExitCode() int }
				if errors.As(err, &code) {
					got = code.ExitCode()
				} else if err != nil {
					ts.Fatalf("run provost: %v", err)
				}
				if fmt.Sprint(got) != args[0] {
					ts.Fatalf("exit code %d, want %s", got, args[0])
				}
			},
			// plain FILE...: no byte of the files acts on a terminal.
			"plain": func(ts *testscript.TestScript, neg bool, args []string) {
				for _, name := range args {
					for _, r := range ts.ReadFile(name) {
						if r < 0x20 && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0xfffd {
							ts.Fatalf("%s holds %U", name, r)
						}
					}
				}
			},
			// rejson: what is on stdout is one JSON value, or one on each line.
			"rejson": func(ts *testscript.TestScript, neg bool, args []string) {
				d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
				n := 0
				for ; ; n++ {
					var v struct {
						Schema string `json:"schema"`
					}
					if err := d.Decode(&v); err == io.EOF {
						break
					} else if err != nil {
						ts.Fatalf("not JSON: %v", err)
					}
					if !strings.HasPrefix(v.Schema, "provost.") || !strings.HasSuffix(v.Schema, "/1") {
						ts.Fatalf("schema %q", v.Schema)
					}
				}
				if n == 0 {
					ts.Fatalf("nothing on stdout")
				}
			},
		},
	})
}

func TestDocsAreFresh(t *testing.T) {
	for name, text := range map[string]string{"commands.md": CommandsPage(), "exit-codes.md": ExitCodesPage()} {
		path := filepath.Join("..", "..", "..", "docs", name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != text {
			t.Errorf("docs/%s is stale: run go test ./cmd/internal/cli -run Docs -update", name)
		}
	}
}

func TestManualIsRoff(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed: nothing here can read the pages")
	}
	for _, m := range manuals(papersTree()) {
		cmd := exec.Command(groff, "-man", "-Tutf8", "-ww")
		cmd.Stdin = strings.NewReader(m.text)
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil || len(out) == 0 || complaints.Len() > 0 {
			t.Errorf("%s(%d): %d bytes, %v, %s", m.name, m.section, len(out), err, complaints.String())
		}
	}
}

func TestTreeHasManners(t *testing.T) {
	root := papersTree()
	page, all := CommandsPage(), manuals(root)
	var pages strings.Builder
	for _, m := range all {
		pages.WriteString(m.text)
	}
	man := pages.String()
	walk(root, func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", c.CommandPath(), c.Short)
		}
		if !c.HasSubCommands() && c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		help := helpText(c)
		if c.Example != "" && strings.Index(help, "Examples:") > strings.Index(help, "Usage:") {
			t.Errorf("%s: examples come first", c.CommandPath())
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || !strings.Contains(help, "--"+f.Name) || f.Name != "help" && (!strings.Contains(page, "--"+f.Name) || !strings.Contains(man, `\-\-`+roff(f.Name))) {
				t.Errorf("%s: --%s is missing from help, page or manual", c.CommandPath(), f.Name)
			}
			if g := root.PersistentFlags().Lookup(f.Name); g != nil {
				t.Errorf("%s: --%s hides the flag of every command", c.CommandPath(), f.Name)
			}
		})
		root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(help, "--"+f.Name) {
				t.Errorf("%s: --%s is not in its help", c.CommandPath(), f.Name)
			}
		})
	})
	for _, tab := range engine.Tables {
		for _, c := range tab.Columns {
			if !strings.Contains(page, "`"+c.Name+"`") || !strings.Contains(man, roff(c.Name)) {
				t.Errorf("column %s of %s is missing from page or manual", c.Name, tab.Name)
			}
		}
	}
}

// TestParsePrint holds screen, journal and shell to the same words: what an action
// prints as, the commands read back as the same action, also by way of a shell.
func TestParsePrint(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, kind := range engine.ActionKinds() {
		for range 200 {
			want := randomAction(rnd, kind)
			if want == nil {
				t.Fatalf("no random %s: a new kind needs a case here", kind)
			}
			words := want.CommandLine()
			got, err := Parse(words)
			if err != nil {
				t.Fatalf("%s: %q: %v", kind, words, err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%q\n got %#v\nwant %#v", words, got, want)
			}
			if back := shellSplit(t, engine.ShellLine(words)); !reflect.DeepEqual(back, words) {
				t.Fatalf("a shell reads %s as %q", engine.ShellLine(words), back)
			}
		}
	}
}

func randomAction(r *rand.Rand, kind engine.ActionKind) engine.Action {
	pieces := []string{"w1", "w3-w5", "host:m18", "state=run", "!killed", `note~"exit 1.."`, "it's", "--", "-x", "a=b", "é漢", "$(id)", "`id`", "\\", ";", "*", "\x1b[2J", ",", "#"}
	text := func() string { // anything, but not empty
		var s []string
		for range 1 + r.IntN(4) {
			s = append(s, pieces[r.IntN(len(pieces))])
		}
		return strings.Join(s, " ")
	}
	maybe := func() string {
		if r.IntN(2) == 0 {
			return ""
		}
		return text()
	}
	word := func() string { return "x" + text() } // positional: does not begin with a dash
	path := func() string { return "/data/" + strings.ReplaceAll(text(), "/", "_") }
	list := func() []string {
		out := []string{}
		for range 1 + r.IntN(3) {
			out = append(out, fmt.Sprintf("0x%040x", r.Uint64()))
		}
		return out
	}
	dur := func() engine.Duration { return engine.Duration(time.Duration(1+r.IntN(1e6)) * time.Second) }
	flip := func() bool { return r.IntN(2) == 0 }
	switch kind {
	case engine.KindPauseWorkers:
		return engine.PauseWorkers{Workers: engine.Selector(word()), For: dur(), Reason: text(), Stop: flip()}
	case engine.KindResumeWorkers:
		return engine.ResumeWorkers{Workers: engine.Selector(word()), Reason: maybe()}
	case engine.KindRestartWorkers:
		return engine.RestartWorkers{Workers: engine.Selector(word()), Reason: maybe()}
	case engine.KindSubmitJob:
		a := engine.SubmitJob{Zkey: path(), Name: maybe(), MaxAttempts: r.IntN(5)}
		for range 1 + r.IntN(3) {
			a.Witnesses = append(a.Witnesses, path())
		}
		return a
	case engine.KindCancelJobs:
		return engine.CancelJobs{Jobs: engine.Selector(word()), Reason: maybe()}
	case engine.KindFetchJob:
		return engine.FetchJob{Job: word()}
	case engine.KindCreateProver:
		a := engine.CreateProver{Profile: maybe(), Dir: path(), Name: maybe(), Server: text(), AllowShort: flip(), Workers: r.IntN(3)}
		for i := range 1 + r.IntN(3) {
			a.GPUs, a.KeyFiles = append(a.GPUs, fmt.Sprintf("GPU-%d", i)), append(a.KeyFiles, fmt.Sprintf("/keys/node %d", i))
		}
		if flip() {
			a.AssumeGPUs = path()
		}
		return a
	case engine.KindCreateWorkers:
		a := engine.CreateWorkers{Dir: path(), Name: maybe(), Profile: maybe(), Local: flip(), Control: maybe(), MaxWorkers: r.IntN(3000), FillHoles: flip(), Renumber: flip(), NoProbe: flip(),
			Binary: maybe(), ConfigDir: maybe(), User: maybe()}
		if flip() {
			a.Inventory, a.NodeConfig = path(), path()
		}
		for range r.IntN(3) {
			a.Machines, a.Add, a.Remove = append(a.Machines, text()), append(a.Add, text()), append(a.Remove, text())
		}
		if flip() {
			n := r.IntN(9)
			a.KeepFree = &n
		}
		return a
	case engine.KindCreateCluster:
		a := engine.CreateCluster{Name: maybe(), Dir: path(), Nodes: 3 + r.IntN(9), Threshold: r.IntN(9), NumValidators: 1 + r.IntN(9), WithdrawalAddresses: list(), FeeRecipientAddresses: list(),
			Network: "hoodi", Compounding: flip(), TargetGasLimit: uint64(r.IntN(2)) * r.Uint64(), AllowLowThreshold: flip(), InsecureKeys: flip()}
		if flip() {
			a.DepositAmounts, a.ConsensusProtocol = []uint64{1, 31}, "qbft"
		}
		if flip() {
			a.DefinitionFile, a.DefinitionOut, a.Zipped = path(), path(), flip()
			a.Nodes, a.NumValidators, a.Network, a.WithdrawalAddresses, a.FeeRecipientAddresses = 0, 0, "", nil, nil
		} else if flip() {
			a.TestnetName, a.TestnetForkVersion, a.TestnetChainID, a.TestnetGenesisTimestamp, a.Network = text(), text(), 1+r.Uint64N(9), 1+r.Int64N(9), ""
		}
		if flip() {
			a.SplitExistingKeys, a.SplitKeysDir, a.NumValidators = true, path(), 0
			a.SplitPasswordsFile, a.SlashingHistory, a.NoSlashingHistory, a.LockVersion = path(), path(), maybe(), maybe()
		}
		if flip() {
			a.KeymanagerAddresses, a.KeymanagerTokensFile = list(), path()
		}
		return a
	case engine.KindVerifyCluster:
		return engine.VerifyCluster{Dir: path()}
	case engine.KindCombineCluster:
		a := engine.CombineCluster{Dirs: []string{path(), path()}, OutputDir: path(), NoSlashingHistory: maybe()}
		if flip() {
			a.Dirs, a.ClusterDir = a.Dirs[:r.IntN(2)], path()
			if len(a.Dirs) == 0 {
				a.Dirs = nil
			}
		}
		return a
	case engine.KindExportNode:
		a := engine.ExportNode{Dir: path(), Out: path(), Backup: flip(), PassphraseFile: path()}
		if flip() {
			a.Recipients, a.PassphraseFile = []string{text(), text()}, ""
		}
		return a
	case engine.KindImportNode:
		a := engine.ImportNode{File: path(), Dir: path(), IdentityFile: path()}
		if flip() {
			a.Check, a.Dir, a.IdentityFile, a.PassphraseFile = true, "", "", path()
		}
		return a
	case engine.KindShowCluster:
		return engine.ShowCluster{Path: path()}
	case engine.KindShowENR:
		if flip() {
			return engine.ShowENR{Record: "enr:" + word()}
		}
		return engine.ShowENR{File: path()}
	case engine.KindUnlockScreens:
		return engine.UnlockScreens{For: dur(), Reason: text()}
	case engine.KindLockScreens:
		return engine.LockScreens{}
	case engine.KindAckAlerts:
		return engine.AckAlerts{IDs: []string{word(), word()}}
	case engine.KindMuteAlerts:
		return engine.MuteAlerts{IDs: []string{word()}, For: dur()}
	case engine.KindCancelAct:
		return engine.CancelAct{ID: word()}
	case engine.KindStopEngine:
		return engine.StopEngine{Workers: flip()}
	}
	return nil
}

// shellSplit reads words as a POSIX shell does, for what ShellLine writes: plain
// characters, single quotes and \'.
func shellSplit(t *testing.T, line string) []string {
	t.Helper()
	var out []string
	var cur strings.Builder
	open, any := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case open && c == '\'':
			open = false
		case open:
			cur.WriteByte(c)
		case c == '\'':
			open, any = true, true
		case c == '\\':
			i++
			cur.WriteByte(line[i])
		case c == ' ':
			out, any = append(out, cur.String()), false
			cur.Reset()
		case strings.IndexByte("$`;*#&|<>()\"\n", c) >= 0:
			t.Fatalf("%q stands unquoted in %s", c, line)
		default:
			cur.WriteByte(c)
			any = true
		}
	}
	if any || cur.Len() > 0 {
		out = append(out, cur.String())
	}
	return out
}

func TestParseRefuses(t *testing.T) {
	for _, line := range [][]string{nil, {"status"}, {"pause", "worker"}, {"pause", "worker", "w1"}, {"pause", "worker", "w1", "--for=soon", "--reason=x"}, {"pause", "worker", "w1", "--for=-1h", "--reason=x"},
		{"frobnicate"}, {"lock", "x"}, {"create", "cluster"}, {"get", "workers"}, {"demo"}, {"up"}} {
		if a, err := Parse(line); err == nil || engine.ExitOf(err) != engine.ExitUsage {
			t.Errorf("%q: %v, %v", line, a, err)
		}
	}
}

// run carries out a command line in process.
// TestRefusalIsOneObject: what reads standard error as JSON finds one value there, with the plan of now in it.
func TestRefusalIsOneObject(t *testing.T) {
	d := scene("2 workers")
	for _, more := range [][]string{nil, {"--confirm=ffffffffffff"}} {
		args := append([]string{"pause", "worker", "w1", "--for=1h", "--reason=x", "-o", "json"}, more...)
		code, out, talk := run(t.Context(), d, "", args...)
		var p struct {
			Schema string
			Plan   *struct{ Digest string }
		}
		if err := json.Unmarshal([]byte(talk), &p); err != nil || p.Schema != "provost.problem/1" || p.Plan == nil || p.Plan.Digest == "" || out != "" || code == engine.ExitOK {
			t.Errorf("%q: exit %d, %v, output %q\n%s", args, code, err, out, talk)
		}
	}
}

func run(ctx context.Context, d Deps, in string, args ...string) (code engine.ExitCode, out, talk string) {
	var o, e bytes.Buffer
	d.Stdin, d.Stdout, d.Stderr, d.Env = strings.NewReader(in), &o, &e, []string{"TERM=dumb", "HOME=/nonexistent"}
	code = Run(ctx, d, args)
	return code, o.String(), e.String()
}

func TestInterruptAndTimeout(t *testing.T) {
	ctx, stop := context.WithCancelCause(context.Background())
	d := scene("never tty")
	var out1 bytes.Buffer
	// The interrupt comes when the command says that it follows the act.
	talk1 := &trigger{word: "a18 pause_workers", fn: func() { stop(ErrInterrupted) }}
	d.Stdin, d.Stdout, d.Stderr, d.Env = strings.NewReader("y\n"), &out1, talk1, nil
	if code := Run(ctx, d, []string{"pause", "worker", "w1", "--for=1h", "--reason=x"}); code != engine.ExitInterrupt || !strings.Contains(talk1.String(), "act a18 goes on") {
		t.Errorf("interrupted while following: %d\n%s", code, talk1.String())
	}
	// In a question it declines.
	ctx, stop = context.WithCancelCause(context.Background())
	read, write := io.Pipe()
	defer write.Close()
	talk1 = &trigger{word: "type y or n", fn: func() { stop(ErrInterrupted) }}
	d = scene("tty")
	d.Stdin, d.Stdout, d.Stderr, d.Env = read, &out1, talk1, nil
	if code := Run(ctx, d, []string{"pause", "worker", "w1", "--for=1h", "--reason=x"}); code != engine.ExitDeclined {
		t.Errorf("interrupted in a question: %d\n%s", code, talk1.String())
	}

	code, out, talk := run(context.Background(), scene("never"), "", "restart", "worker", "w1", "--wait", "--timeout=20ms", "--confirm", digestOf(t, engine.RestartWorkers{Workers: "w1"}))
	if code != engine.ExitTimeout || !strings.Contains(out, "a18") {
		t.Errorf("timeout: %d, %q, %q", code, out, talk)
	}
	code, _, talk = run(context.Background(), scene("never"), "", "wait", "restart-safe", "--for=24h", "--timeout=20ms")
	if code != engine.ExitTimeout {
		t.Errorf("wait: %d, %q", code, talk)
	}
	gone, cancel := context.WithCancelCause(context.Background())
	cancel(ErrTerminated)
	if code, _, _ := run(gone, scene("silent"), "", "status"); code != engine.ExitTerminated {
		t.Errorf("terminated: %d", code)
	}
}

// trigger is a writer that does something once when a word comes by.
type trigger struct {
	bytes.Buffer
	word string
	fn   func()
}

func (w *trigger) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

func (w *trigger) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if w.fn != nil && strings.Contains(w.String(), w.word) {
		w.fn()
		w.fn = nil
	}
	return n, err
}

func digestOf(t *testing.T, a engine.Action) string {
	t.Helper()
	p, err := newFake().Preview(context.Background(), engine.Request{Action: a})
	if err != nil {
		t.Fatal(err)
	}
	return string(p.Digest)
}

// Actors and keys: who asked comes from the program, not from an argument, and the same key is the same act.
func TestSameKeySameAct(t *testing.T) {
	d := scene("")
	for i, want := range []string{"done: ", "done before: "} {
		code, out, talk := run(context.Background(), d, "", "submit", "job", "--zkey=/k", "--witness=/w", "--key=night")
		if code != 0 || !strings.HasPrefix(out, want) {
			t.Errorf("%d: code %d, %q %q", i, code, out, talk)
		}
	}
}

func TestWatching(t *testing.T) {
	f := newFake()
	d := scene("")
	d.Dial = func(context.Context, string) (engine.Engine, func() error, error) { return f, nil, nil }
	worker := func(i int, s engine.WorkerState) func() {
		return func() {
			rows := slices.Clone(f.snap.Workers.Rows)
			rows[i].State = s
			f.snap.Workers = &engine.Section[engine.WorkerRow]{Version: f.snap.Workers.Version + 1, Rows: rows}
		}
	}
	// Each step waits for what the command has printed, then changes something.
	watch := func(steps []trigger, args ...string) string {
		ctx, stop := context.WithCancelCause(context.Background())
		var out chain
		for _, s := range steps {
			out.steps = append(out.steps, &trigger{word: s.word, fn: s.fn})
		}
		// The last of args is the word that ends it.
		out.steps = append(out.steps, &trigger{word: args[len(args)-1], fn: func() { stop(ErrInterrupted) }})
		d := d
		d.Stdin, d.Stdout, d.Stderr, d.Env = strings.NewReader(""), &out, io.Discard, nil
		if code := Run(ctx, d, args[:len(args)-1]); code != engine.ExitInterrupt {
			t.Errorf("%q: %d", args, code)
		}
		return out.String()
	}
	out := watch([]trigger{{word: `"w4"`, fn: func() { go f.change(worker(1, engine.WorkerStale)) }}}, "get", "workers", "--watch", "-o", "jsonl", `"stale"`)
	if n := strings.Count(out, "\n"); n != 5 {
		t.Errorf("4 rows and the one that changed: %d lines\n%s", n, out)
	}
	out = watch([]trigger{{word: "4 of 4", fn: func() { go f.change(worker(0, engine.WorkerGone)) }}}, "get", "workers", "--watch", " gone ")
	if strings.Count(out, "4 of 4") != 2 {
		t.Errorf("the table twice:\n%s", out)
	}
	out = watch([]trigger{{word: "status verdict=", fn: func() {
		go f.change(func() {
			f.entries = append(slices.Clone(f.entries), engine.Entry{N: 4, At: fakeNow, Level: engine.LevelNote, What: "job.verified", Text: "j1"})
		})
	}}}, "watch", "--tail=1", "job.verified")
	if strings.Count(out, "act.asked") != 1 || strings.Contains(out, "worker.exit") {
		t.Errorf("the last entry, the status, the new entry:\n%s", out)
	}
	out = watch([]trigger{{word: "verdict=degraded", fn: func() {
		go f.change(func() {
			f.snap.Verdict = &engine.One[engine.Verdict]{Version: 9, Value: engine.Verdict{Word: engine.VerdictOK}}
		})
	}}}, "status", "--watch", "verdict=ok")
	if strings.Count(out, "\n") != 2 {
		t.Errorf("one line for each verdict:\n%s", out)
	}
}

// chain is a writer that goes through its steps in order, one word after the other.
type chain struct {
	bytes.Buffer
	steps []*trigger
	seen  int
}

func (c *chain) WriteString(s string) (int, error) { return c.Write([]byte(s)) }

func (c *chain) Write(p []byte) (int, error) {
	n, err := c.Buffer.Write(p)
	for len(c.steps) > 0 {
		at := strings.Index(c.String()[c.seen:], c.steps[0].word)
		if at < 0 {
			break
		}
		c.seen += at + len(c.steps[0].word)
		fn := c.steps[0].fn
		c.steps = c.steps[1:]
		fn()
	}
	return n, err
}

func TestWriteArtifactsIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	files := []engine.Artifact{{Name: "proof.json", Data: []byte("{}")}, {Name: "public.json", Data: []byte("[]")}}
	os.WriteFile(filepath.Join(dir, "public.json"), []byte("mine"), 0o644)
	if _, err := writeArtifacts(dir, files, false); engine.ExitOf(err) != engine.ExitUsage {
		t.Errorf("overwrote: %v", err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left %d files", len(list))
	}
	if _, err := writeArtifacts(dir, files, true); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "public.json")); string(b) != "[]" {
		t.Errorf("holds %q", b)
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("left %d files", len(list))
	}
	for _, name := range []string{"../x", "/etc/x", "a/b", ".ssh", ".", "", "a\x1b"} {
		bad := []engine.Artifact{{Name: "ok.json"}, {Name: name}}
		if _, err := writeArtifacts(filepath.Join(dir, "new"), bad, true); err == nil {
			t.Errorf("%q was accepted", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
			t.Errorf("%q: something was written", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("pause worker w1 --for=45m --reason=x")
	f.Add("create cluster --nodes 6 -- x")
	f.Add("get \x1b --columns=,")
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "completion") || strings.Contains(line, "man") {
			t.Skip()
		}
		a, err := Parse(strings.Split(line, " "))
		if err != nil {
			if engine.ExitOf(err) != engine.ExitUsage {
				t.Fatalf("%q: %v", line, err)
			}
			return
		}
		if _, err := engine.MarshalAction(a); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	})
}

// The phrase in the help is the one that the engine wants to read.
func TestNoHistoryPhrase(t *testing.T) {
	if noHistoryPhrase != create.NoHistoryPhrase {
		t.Errorf("the help says %q, wanted is %q", noHistoryPhrase, create.NoHistoryPhrase)
	}
}
