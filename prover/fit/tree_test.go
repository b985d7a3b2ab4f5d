package fit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this binary stand in for a node and for a run that is killed.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv("FIT_FAKE_NODE") != "":
		os.Exit(fakeNode())
	case os.Getenv("FIT_KILL_AFTER") != "":
		os.Exit(killedRun())
	case os.Getenv("FIT_LISTEN") != "":
		os.Exit(fakeListener(os.Getenv("FIT_LISTEN")))
	case os.Getenv("FIT_DIAL") != "":
		os.Exit(fakeDialer(os.Getenv("FIT_DIAL")))
	}
	os.Exit(m.Run())
}

func nodeAdapter(binary string) Adapter {
	p := func(more ...string) *Program {
		return &Program{Args: append([]string{binary, "--config", "/var/lib/node/.config"}, more...), Dir: "/", User: "node", StopSignal: "SIGINT", StopTime: 20 * time.Second, OpenFiles: 64}
	}
	return Adapter{Control: p(), Worker: p("--core", CoreWord), WorkersFirst: true, Kept: map[string]string{"binary": binary}}
}

// made is everything that is written for a plan.
func made(t testing.TB, l *Layout, a Adapter) []File {
	t.Helper()
	files, err := Render(l, a)
	if err != nil {
		t.Fatal(err)
	}
	s := l.State(files, a.Kept)
	raw, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append(files, File{PlanFile, modePlain, raw})
}

func goOn() error { return nil }

// content is every file below dir by its path.
func content(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		rel, _ := filepath.Rel(dir, p)
		out[filepath.ToSlash(rel)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func TestWriteTree(t *testing.T) {
	l := must(t, nil, Params{Profile: remote(HolesBorne), Machines: boxes(2, 8, 64)})
	files := made(t, &l, nodeAdapter("/usr/bin/node"))
	at := t.TempDir()
	dir := filepath.Join(at, "a/b/farm")
	if err := WriteTree(dir, files, goOn); err != nil {
		t.Fatal(err)
	}
	got := content(t, dir)
	for _, f := range files {
		if got[f.Path] != string(f.Body) {
			t.Errorf("%s differs", f.Path)
		}
		if info, err := os.Stat(filepath.Join(dir, f.Path)); err != nil || info.Mode().Perm() != f.Mode {
			t.Errorf("%s: %v, %v", f.Path, info.Mode(), err)
		}
	}
	if len(got) != len(files) {
		t.Errorf("%d files, want %d", len(got), len(files))
	}
	found, err := ReadTree(dir)
	if err != nil || found.State == nil || len(found.Edited)+len(found.Missing) > 0 {
		t.Errorf("%+v, %v", found, err)
	}
	if err := WriteTree(dir, files, goOn); kindOf(err) != KindExists {
		t.Errorf("over what is there: %v", err)
	}
	if names, _ := os.ReadDir(filepath.Dir(dir)); len(names) != 1 {
		t.Errorf("something was left: %v", names)
	}
}

func TestTreeRefuses(t *testing.T) {
	l := must(t, nil, Params{Profile: Native(), Machines: boxes(1, 8, 64)})
	files := made(t, &l, NativeAdapter("test", NativePaths{"/usr/bin/provost", "provost"}))
	at := t.TempDir()
	mk := func(name string, do func(string) error) string {
		p := filepath.Join(at, name)
		if err := do(p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	file := mk("file", func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) })
	full := mk("full", func(p string) error {
		if err := os.Mkdir(p, 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(p, "mine"), []byte("x"), 0o600)
	})
	empty := mk("empty", func(p string) error { return os.Mkdir(p, 0o700) })
	link := mk("link", func(p string) error { return os.Symlink(empty, p) })
	for name, c := range map[string]struct {
		dir        string
		read, make Kind
	}{"a file": {file, KindExists, KindExists}, "other content": {full, KindExists, KindExists}, "a link": {link, KindExists, KindExists}, "below a file": {filepath.Join(file, "x"), KindUsage, KindUsage}} {
		if _, err := ReadTree(c.dir); kindOf(err) != c.read {
			t.Errorf("read %s: %v", name, err)
		}
		if err := WriteTree(c.dir, files, goOn); kindOf(err) != c.make {
			t.Errorf("write to %s: %v", name, err)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(full, "mine")); string(b) != "x" {
		t.Error("what was there was touched")
	}
	if err := WriteTree(empty, files, goOn); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	// A file of the plan that became a link is named, with what to do.
	linked := filepath.Join(empty, "README.txt")
	if err := errors.Join(os.Remove(linked), os.Symlink("/etc/passwd", linked)); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTree(empty); kindOf(err) != KindUsage || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a file that is a link: %v", err)
	}
	if err := os.Remove(linked); err != nil {
		t.Fatal(err)
	}
	// A link inside of the directory leads nowhere outside.
	if err := os.RemoveAll(filepath.Join(empty, "machines")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(full, filepath.Join(empty, "machines")); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadTree(empty); err == nil {
		t.Error("a link that leads outside was followed")
	}
	if names, _ := os.ReadDir(full); len(names) != 1 {
		t.Error("something was written outside")
	}
	// Damaged and newer plans.
	for text, want := range map[string]Kind{"schema: provost.workers-plan/9\n": KindNewer, "schema: provost.workers-plan/1\nrevision: x\n": KindDamaged, "": KindDamaged} {
		dir := filepath.Join(at, "plan"+strconv.Itoa(len(text)))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, PlanFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadTree(dir); kindOf(err) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	if os.Geteuid() != 0 {
		locked := mk("locked", func(p string) error { return os.Mkdir(p, 0o500) })
		if err := WriteTree(filepath.Join(locked, "x"), files, goOn); kindOf(err) != KindNotAllowed {
			t.Errorf("no rights: %v", err)
		}
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	l := must(t, nil, Params{Profile: Native(), Machines: boxes(3, 8, 64)})
	files := made(t, &l, NativeAdapter("test", NativePaths{"/usr/bin/provost", "provost"}))
	for after := range len(files) {
		at := t.TempDir()
		n := 0
		err := WriteTree(filepath.Join(at, "new/farm"), files, func() error {
			if n++; n > after {
				return context.Canceled
			}
			return nil
		})
		if kindOf(err) != KindCancelled || !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d: %v", after, err)
		}
		if names, _ := os.ReadDir(at); len(names) != 0 {
			t.Fatalf("after %d files something was left: %v", after, names)
		}
	}
}

// change is the update that the tests below make: one machine goes, one comes.
func change(t testing.TB) (before, after []File, state State, drop []string, revision int) {
	p := Params{Name: "test", Profile: remote(HolesBorne), Machines: boxes(3, 8, 64)}
	l, err := Plan(nil, p)
	if err != nil {
		t.Fatal(err)
	}
	before = made(t, &l, nodeAdapter("/usr/bin/node"))
	state = l.State(before[:len(before)-1], nodeAdapter("/usr/bin/node").Kept)
	p.Machines = []Machine{box(1, 8, 64), box(3, 8, 64), box(4, 8, 64)}
	m, err := Plan(&state, p)
	if err != nil {
		t.Fatal(err)
	}
	after = made(t, &m, nodeAdapter("/usr/bin/node"))
	for _, f := range before {
		if !slices.ContainsFunc(after, func(g File) bool { return g.Path == f.Path }) {
			drop = append(drop, f.Path)
		}
	}
	return before, after, state, drop, m.Revision
}

func TestUpdateTree(t *testing.T) {
	before, after, _, drop, revision := change(t)
	dir := filepath.Join(t.TempDir(), "farm")
	if err := WriteTree(dir, before, goOn); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "machines/m02/notes-of-mine"), []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	was := content(t, dir)
	if err := UpdateTree(dir, revision+1, after, drop, goOn); kindOf(err) != KindNotAllowed {
		t.Errorf("onto another revision: %v", err)
	}
	if err := UpdateTree(dir, revision, after, drop, goOn); err != nil {
		t.Fatal(err)
	}
	checkUpdated(t, dir, before, after, drop, was)
	if b, err := os.ReadFile(filepath.Join(dir, "machines/m02/notes-of-mine")); err != nil || string(b) != "keep" {
		t.Errorf("a file that was not ours: %q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "machines/m02/units")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory of a removed machine stayed: %v", err)
	}
}

// TestOneAtATime: two runs do not change one plan together.
func TestOneAtATime(t *testing.T) {
	before, after, _, drop, revision := change(t)
	dir := filepath.Join(t.TempDir(), "farm")
	if err := WriteTree(dir, before, goOn); err != nil {
		t.Fatal(err)
	}
	inside := false
	err := UpdateTree(dir, revision, after, drop, func() error {
		if !inside {
			inside = true
			if err := UpdateTree(dir, revision, after, drop, goOn); kindOf(err) != KindNotAllowed || !strings.Contains(err.Error(), "another run works on it") {
				t.Errorf("the second run: %v", err)
			}
		}
		return nil
	})
	if err != nil || !inside {
		t.Errorf("the first run: %v", err)
	}
}

func checkUpdated(t *testing.T, dir string, before, after []File, drop []string, was map[string]string) {
	t.Helper()
	got := content(t, dir)
	for _, f := range after {
		if got[f.Path] != string(f.Body) {
			t.Errorf("%s is not as planned", f.Path)
		}
		if old, kept := got["old/0001/"+f.Path]; was[f.Path] != "" && was[f.Path] != string(f.Body) && (!kept || old != was[f.Path]) {
			t.Errorf("the %s of before is not kept", f.Path)
		}
	}
	for _, name := range drop {
		if _, there := got[name]; there || got["old/0001/"+name] != was[name] {
			t.Errorf("%s: dropped %v, kept %v", name, !there, got["old/0001/"+name] == was[name])
		}
	}
	for name := range got {
		if strings.Contains(name, tempPrefix) {
			t.Errorf("%s was left", name)
		}
	}
}

// TestKilled: a run that is killed between any two files leaves either nothing or a plan that the same
// run completes, and never loses a version of before.
func TestKilled(t *testing.T) {
	before, after, _, drop, revision := change(t)
	n := 0
	for k := 0; k < len(after)+1; k += 5 {
		dir := filepath.Join(t.TempDir(), "farm")
		kill(t, dir, "new", k%len(before))
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("killed after %d files, and %s is there", k, dir)
		}
		if err := WriteTree(dir, before, goOn); err != nil {
			t.Fatal(err)
		}
		if names, _ := os.ReadDir(filepath.Dir(dir)); len(names) != 1 {
			t.Fatalf("the killed run's directory is still there: %v", names)
		}
		was := content(t, dir)
		kill(t, dir, "change", k%len(after))
		found, err := ReadTree(dir)
		if err != nil || found.State.Revision != 1 {
			t.Fatalf("killed after %d: %+v, %v", k, found, err)
		}
		n += len(found.Edited)
		if err := UpdateTree(dir, revision, after, drop, goOn); err != nil {
			t.Fatal(err)
		}
		checkUpdated(t, dir, before, after, drop, was)
	}
	if n == 0 {
		t.Error("no run was killed in the middle: the test does not test")
	}
}

func kill(t *testing.T, dir, what string, after int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FIT_KILL_AFTER="+strconv.Itoa(after), "FIT_KILL_DIR="+dir, "FIT_KILL_WHAT="+what)
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the run was not killed: %v", err)
	}
}

// killedRun is the run that kills itself.
func killedRun() int {
	after, _ := strconv.Atoi(os.Getenv("FIT_KILL_AFTER"))
	n := 0
	stop := func() error {
		if n++; n > after {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			time.Sleep(time.Minute)
		}
		return nil
	}
	t := &testing.B{}
	before, files, _, drop, revision := change(t)
	var err error
	if os.Getenv("FIT_KILL_WHAT") == "new" {
		err = WriteTree(os.Getenv("FIT_KILL_DIR"), before, stop)
	} else {
		err = UpdateTree(os.Getenv("FIT_KILL_DIR"), revision, files, drop, stop)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// fakeNode says in a file when it starts and which signal ends it.
func fakeNode() int {
	core := "control"
	for i, a := range os.Args {
		if a == "--core" && i+1 < len(os.Args) {
			core = os.Args[i+1]
		}
	}
	say := func(s string) {
		f, err := os.OpenFile(os.Getenv("FIT_FAKE_NODE"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err == nil {
			fmt.Fprintf(f, "%s %s\n", core, s)
			_ = f.Close()
		}
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	say("starts")
	select {
	case s := <-c:
		say("ends by " + s.String())
	case <-time.After(time.Minute):
		say("was forgotten")
	}
	return 0
}

// fakeListener listens on the addresses of its argument until it is killed; fakeDialer tells whether one answers.
func fakeListener(addresses string) int {
	for a := range strings.SplitSeq(addresses, ",") {
		l, err := net.Listen("tcp", a)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer l.Close()
	}
	fmt.Println("listening")
	time.Sleep(time.Minute)
	return 0
}

func fakeDialer(address string) int {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		fmt.Println("shut:", err)
		return 0
	}
	_ = c.Close() // only tried
	fmt.Println("open")
	return 0
}

// TestStartScript runs the script of the control machine: workers and control process start, and a stop
// ends the control process first.
func TestStartScript(t *testing.T) {
	l := must(t, nil, Params{Profile: remote(HolesBorne), Machines: boxes(2, 8, 64)})
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if !PlainWord(self) {
		t.Skipf("this test's path %q cannot stand in a script", self)
	}
	dir := t.TempDir()
	for _, f := range made(t, &l, nodeAdapter(self)) {
		if f.Path == "machines/m01/start.sh" {
			if err := os.WriteFile(filepath.Join(dir, "start.sh"), f.Body, 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, shell := range []string{"sh", "bash", "dash"} {
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		log := filepath.Join(t.TempDir(), "log")
		cmd := exec.Command(shell, filepath.Join(dir, "start.sh"))
		cmd.Env = append(os.Environ(), "FIT_FAKE_NODE="+log)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		lines := func() []string {
			b, _ := os.ReadFile(log)
			return strings.Split(strings.TrimSpace(string(b)), "\n")
		}
		deadline := time.Now().Add(30 * time.Second)
		for len(lines()) < 7 && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: %v", shell, err)
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			t.Fatalf("%s: the script does not end: %q", shell, lines())
		}
		got := lines()
		slices.Sort(got[:min(7, len(got))])
		if len(got) != 14 || strings.Join(got[:7], ",") != "1 starts,2 starts,3 starts,4 starts,5 starts,6 starts,control starts" || got[7] != "control ends by interrupt" {
			t.Errorf("%s: %q", shell, got)
			continue
		}
		rest := got[8:]
		slices.Sort(rest)
		for i, s := range rest {
			if s != fmt.Sprintf("%d ends by terminated", i+1) {
				t.Errorf("%s: %q", shell, rest)
			}
		}
	}
}

// TestWritten has the programs that will read the files read them.
func TestWritten(t *testing.T) {
	for name, c := range map[string]struct {
		p Profile
		a Adapter
	}{
		"control": {remote(HolesBorne), nodeAdapter("/bin/true")},
		"public": {func() Profile {
			p := remote(HolesBorne)
			p.Exposure = FromAny
			p.Ports = append(p.Ports, PortRule{"p2p", "udp", 25000})
			p.ControlPorts = []ListenPort{{"p2p", "udp", 8336, true}, {"grpc", "tcp", 8337, false}}
			return p
		}(), nodeAdapter("/bin/true")},
		"native": {Native(), NativeAdapter("test", NativePaths{"/bin/true", "root"})},
		"ipv6": {func() Profile {
			p := remote(HolesBorne)
			p.OnlyIPv4 = false
			return p
		}(), nodeAdapter("/bin/true")},
	} {
		t.Run(name, func(t *testing.T) {
			p := Params{Name: "test", Profile: c.p, Machines: boxes(3, 8, 64)}
			l := must(t, nil, p)
			s := l.State(nil, nil)
			p.Machines = []Machine{box(1, 16, 64), box(3, 8, 64)} // runs in two pieces, and parked numbers
			if name == "ipv6" {
				p.Machines[0].Address, p.Machines[1].Address = "2001:db8::1", "2001:db8::3"
			}
			l = must(t, &s, p)
			for _, pr := range []*Program{c.a.Control, c.a.Worker} {
				if pr != nil {
					pr.User = "root" // one that every system has
				}
			}
			dir := filepath.Join(t.TempDir(), "farm")
			if err := WriteTree(dir, made(t, &l, c.a), goOn); err != nil {
				t.Fatal(err)
			}
			run := func(tool string, args ...string) {
				t.Helper()
				if _, err := exec.LookPath(tool); err != nil {
					t.Logf("%s is not installed: what it reads was not checked", tool)
					return
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if out, err := exec.CommandContext(ctx, tool, args...).CombinedOutput(); err != nil {
					t.Errorf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
				}
			}
			glob := func(pattern string) []string {
				all, err := filepath.Glob(filepath.Join(dir, "machines/*", pattern))
				if err != nil {
					t.Fatal(err)
				}
				return all
			}
			for _, m := range []string{"m01", "m03"} {
				units, err := filepath.Glob(filepath.Join(dir, "machines", m, "units/*"))
				if err != nil || len(units) == 0 {
					t.Fatalf("%s has no units: %v", m, err)
				}
				run("systemd-analyze", append([]string{"verify", "--man=no"}, units...)...)
			}
			scripts := append(glob("start.sh"), glob("firewall/ufw.sh")...)
			for _, f := range scripts {
				run("sh", "-n", f)
			}
			run("shellcheck", scripts...)
			rules := glob("firewall/rules.nft")
			if (len(rules) == 0) != (name == "native") {
				t.Errorf("%d files of rules", len(rules))
			}
			for _, f := range rules {
				if os.Geteuid() != 0 {
					t.Log("nft reads rules for root only: they were not checked")
					break
				}
				run("nft", "-c", "-f", f)
			}
		})
	}
}
