package super

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"app.provost/engine"
)

// The test binary is also the stub, the child and an engine.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "internal-stub":
			os.Exit(StubMain(os.Args[2:]))
		case "internal-stub-without-cgroups":
			systemCgroups = cgroupFS{mounts: os.DevNull, self: os.DevNull}
			os.Exit(StubMain(os.Args[2:]))
		case "test-child":
			os.Exit(childMain(os.Args[2:]))
		case "test-engine":
			os.Exit(engineMain(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

// childMain is what tests supervise.
func childMain(args []string) int {
	time.AfterFunc(5*time.Minute, func() { os.Exit(99) }) // whatever goes wrong, nothing stays for ever
	term := make(chan os.Signal, 1)
	if args[0] == "graceful" || args[0] == "stubborn" {
		signal.Notify(term, unix.SIGTERM)
	}
	fmt.Printf("time=%s level=INFO msg=\"child up\" pid=%d mode=%s\n", time.Now().UTC().Format(time.RFC3339Nano), os.Getpid(), args[0])
	switch args[0] {
	case "run", "stubborn": // SIGTERM ends the one, as it does by default
	case "graceful":
		<-term
		return 0
	case "exit":
		n, _ := strconv.Atoi(args[1])
		return n
	case "alloc":
		var keep [][]byte
		for range 64 {
			b := make([]byte, 4<<20)
			for i := 0; i < len(b); i += 512 {
				b[i] = 1
			}
			keep = append(keep, b)
			time.Sleep(20 * time.Millisecond)
		}
		runtime.KeepAlive(keep)
	case "parent":
		for _, attr := range []*syscall.SysProcAttr{nil, {Setsid: true}} {
			c := exec.Command(os.Args[0], "test-child", "run")
			c.SysProcAttr = attr
			if err := c.Start(); err != nil {
				return 1
			}
		}
	case "spam":
		line := strings.Repeat("x", 200)
		for i := 0; ; i++ {
			fmt.Printf("n=%d %s\n", i, line)
			if i%50 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	case "env":
		for _, e := range os.Environ() {
			fmt.Println("env " + e)
		}
		fds, _ := os.ReadDir("/proc/self/fd")
		for _, f := range fds {
			to, _ := os.Readlink("/proc/self/fd/" + f.Name())
			fmt.Println("fd " + f.Name() + " " + to)
		}
		fmt.Println("env end")
	}
	select {}
}

// engineMain runs a Supervisor over DIR until it is killed: "DIR ID…" starts what Adopt has not found.
func engineMain(args []string) int {
	time.AfterFunc(5*time.Minute, func() { os.Exit(99) })
	h := fileHandles{dir: filepath.Join(args[0], "handles")}
	sp := newSpawner()
	sup, err := New(Options{
		Spawner: sp, Handles: h, CoreDir: filepath.Join(args[0], "cores"), Owner: args[0], Policy: fastPolicy,
		OnChange: func(s Status) {
			if s.Event != EventNone {
				fmt.Printf("%s %s %d\n", s.ID, s.Event, s.PID)
			}
		},
	})
	if err == nil {
		_, err = sup.Adopt(context.Background())
	}
	for _, id := range args[1:] {
		if err == nil {
			err = sup.Start(context.Background(), childSpec(args[0], id, "run"))
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

var fastPolicy = Policy{First: 5 * time.Millisecond, Max: 50 * time.Millisecond, Stable: time.Second, Deaths: -1}

func childSpec(dir, id string, mode ...string) Spec {
	return Spec{
		ID: id, Argv: append([]string{"", "test-child"}, mode...), Dir: filepath.Join(dir, "workers", id),
		LogFile: filepath.Join(dir, "logs", id+".log"), StopGrace: 2 * time.Second,
	}
}

// spawner is an engine.Spawner that tests can end.
type spawner struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	errs   []error
}

func newSpawner() *spawner {
	s := &spawner{}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *spawner) Go(name string, fn func(context.Context) error) {
	s.wg.Go(func() {
		if err := fn(s.ctx); err != nil {
			s.mu.Lock()
			s.errs = append(s.errs, fmt.Errorf("%s: %w", name, err))
			s.mu.Unlock()
		}
	})
}

func (s *spawner) stop() error {
	s.cancel()
	s.wg.Wait()
	return errors.Join(s.errs...)
}

// fileHandles keeps handles in files.
type fileHandles struct{ dir string }

func (f fileHandles) SaveHandle(id string, b []byte) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	tmp := filepath.Join(f.dir, id+".tmp")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(f.dir, id+".json"))
}

func (f fileHandles) LoadHandles() (map[string][]byte, error) {
	out := map[string][]byte{}
	files, err := filepath.Glob(filepath.Join(f.dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		out[strings.TrimSuffix(filepath.Base(file), ".json")] = b
	}
	return out, nil
}

func (f fileHandles) DeleteHandle(id string) error {
	err := os.Remove(filepath.Join(f.dir, id+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// rig is a supervisor over a directory, with all that was told.
type rig struct {
	*Supervisor
	t   testing.TB
	dir string
	sp  *spawner
	mu  sync.Mutex
	hs  []Status
}

func newRig(t testing.TB, dir string, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, sp: newSpawner()}
	cores := filepath.Join(dir, "cores")
	if err := os.MkdirAll(cores, 0o777); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Spawner: r.sp, Handles: fileHandles{dir: filepath.Join(dir, "handles")}, CoreDir: cores, Owner: dir, Policy: fastPolicy,
		Logger: slog.New(slog.DiscardHandler),
		OnChange: func(s Status) {
			r.mu.Lock()
			r.hs = append(r.hs, s)
			r.mu.Unlock()
		},
	}
	for _, c := range change {
		c(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Supervisor = s
	t.Cleanup(func() {
		r.leave()
		killAllUnder(dir)
	})
	return r
}

// leave ends the supervisor as an engine's orderly stop does: processes go on.
func (r *rig) leave() {
	if err := r.sp.stop(); err != nil {
		r.t.Errorf("the supervisor ended with %v", err)
	}
}

func (r *rig) told(id string, e Event) []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Status
	for _, s := range r.hs {
		if s.ID == id && s.Event == e {
			out = append(out, s)
		}
	}
	return out
}

// await waits for a status.
func (r *rig) await(id, what string, ok func(Status) bool) Status {
	r.t.Helper()
	var last Status
	eventually(r.t, func() bool {
		var known bool
		last, known = r.Status(id)
		return known && ok(last)
	}, func() string { return fmt.Sprintf("%s %s; it is %+v, last exit %+v", id, what, last, last.LastExit) })
	return last
}

func (r *rig) running(id string) Status {
	r.t.Helper()
	return r.await(id, "runs", func(s Status) bool { return s.State == StateRunning })
}

func (r *rig) start(s Spec) Status {
	r.t.Helper()
	if err := r.Start(r.t.Context(), s); err != nil {
		r.t.Fatal(err)
	}
	return r.running(s.ID)
}

// said waits until a line of the child is in its log.
func (r *rig) said(s Spec, what string) string {
	r.t.Helper()
	var log string
	eventually(r.t, func() bool {
		b, _ := os.ReadFile(s.LogFile)
		log = string(b)
		return strings.Contains(log, what)
	}, text("the child has said "+what))
	return log
}

// eventually waits for something that must come about; its patience decides no result but a failure.
func eventually(t testing.TB, ok func() bool, what func() string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited 30s in vain: %s", what())
		}
	}
}

func text(s string) func() string { return func() string { return s } }

// lives tells whether a pid is a process that is no zombie.
func lives(pid int) bool {
	s, err := readStat(pid)
	return err == nil && s.State != 'Z'
}

// idOf makes an id that no other test run uses.
func idOf(t testing.TB, name string) string {
	return fmt.Sprintf("%s-%d", name, os.Getpid())
}

// processesUnder lists living processes that work in directories below dir: children by
// their working directory, stubs by their arguments.
func processesUnder(dir string) (stubs, children map[string][]int) {
	stubs, children = map[string][]int{}, map[string][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !lives(pid) {
			continue
		}
		cmd, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		words := strings.Split(strings.TrimRight(string(cmd), "\x00"), "\x00")
		if len(words) == 4 && strings.HasPrefix(words[1], "internal-stub") && strings.HasPrefix(words[3], dir+"/") {
			stubs[filepath.Base(words[3])] = append(stubs[filepath.Base(words[3])], pid)
			continue
		}
		cwd, _ := os.Readlink("/proc/" + e.Name() + "/cwd")
		if strings.HasPrefix(cwd, dir+"/workers/") {
			children[filepath.Base(strings.TrimSuffix(cwd, " (deleted)"))] = append(children[filepath.Base(strings.TrimSuffix(cwd, " (deleted)"))], pid)
		}
	}
	return stubs, children
}

// killAllUnder leaves nothing behind, whatever a test did.
func killAllUnder(dir string) {
	for range 200 {
		stubs, children := processesUnder(dir)
		if len(stubs)+len(children) == 0 {
			return
		}
		for _, m := range []map[string][]int{stubs, children} {
			for _, pids := range m {
				for _, pid := range pids {
					unix.Kill(pid, unix.SIGKILL)
				}
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func decode(t testing.TB, path string, into any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

var _ engine.Spawner = (*spawner)(nil)
