package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// up runs an engine that has to end by itself, because it cannot start.
func (p *place) up(args ...string) result {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := p.cmd(ctx, append([]string{"up", "--no-tui", "--workers", "1"}, args...)...)
	var out, errb bytes.Buffer
	c.Stdout, c.Stderr = &out, &errb
	err := c.Run()
	if ctx.Err() != nil {
		p.t.Fatalf("up %v: it started\n%s", args, errb.String())
	}
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		p.t.Fatal(err)
	}
	return result{out.String(), errb.String(), c.ProcessState.ExitCode()}
}

// A start that cannot be says why in one line, with the exit code of its kind, and
// leaves no process.
func TestStartsThatCannotBe(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	file := func(name, text string) string {
		path := filepath.Join(p.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	listen := func(network, addr string) string {
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.Addr().String()
	}
	long := filepath.Join(p.dir, strings.Repeat("l", 90))
	for _, c := range []struct {
		name string
		args []string
		code int
		said []string
	}{
		{"socket of somebody else", []string{"--socket", listen("unix", filepath.Join(p.dir, "taken.sock"))}, 3, []string{"taken.sock", "socket.taken"}},
		{"file where the socket belongs", []string{"--socket", file("plain", "x")}, 3, []string{"plain", "no socket"}},
		{"port taken", []string{"--monitoring-address", listen("tcp", "127.0.0.1:0")}, 3, []string{"port.taken", "127.0.0.1:"}},
		{"port that others reach", []string{"--monitoring-address", "0.0.0.0:0"}, 2, []string{"0.0.0.0", "monitor.allow-remote"}},
		{"address without a port", []string{"--monitoring-address", "localhost"}, 2, []string{"localhost", "127.0.0.1:"}},
		{"state directory is a file", []string{"--state-dir", file("file", "x")}, 3, []string{"file", "state.unwritable", "--state-dir"}},
		{"state directory cannot be made", []string{"--state-dir", "/proc/provost"}, 3, []string{"/proc/provost"}},
		{"runtime directory is a file", []string{"--runtime-dir", file("rfile", "x")}, 3, []string{"rfile"}},
		{"runtime directory with a long path", []string{"--runtime-dir", long}, 2, []string{"103", "--runtime-dir"}},
		{"configuration is missing", []string{"--config", "none.yaml"}, 2, []string{"none.yaml", "no such file"}},
		{"configuration is no YAML", []string{"--config", file("no.yaml", "workers: [")}, 2, []string{"no.yaml", "YAML"}},
		{"configuration has an unknown key", []string{"--config", file("key.yaml", "worker: 3\n")}, 2, []string{"key.yaml line 1", `"workers.count"`}},
		{"configuration has a wrong value", []string{"--config", file("val.yaml", "workers:\n  nice: 40\n")}, 2, []string{"val.yaml", "40", "19"}},
		{"too many workers", []string{"--workers", "5000"}, 2, []string{"5000", "4096"}},
		{"workers in words", []string{"--workers", "some"}, 2, []string{"some", "auto"}},
		{"level that is none", []string{"--log-level", "loud"}, 2, []string{"loud", "debug"}},
		{"form that is none", []string{"--log-format", "xml"}, 2, []string{"xml", "json"}},
		{"time that is none", []string{"--status-every", "often"}, 2, []string{"often"}},
		{"unknown flag", []string{"--wrokers", "2"}, 2, []string{"--workers"}},
		{"word too many", []string{"now"}, 2, []string{"now"}},
		{"foreground without a terminal", []string{"--foreground"}, 2, []string{"terminal"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			r := p.up(args...)
			if r.code != c.code || r.out != "" {
				t.Errorf("exit %d, want %d; output %q", r.code, c.code, r.out)
			}
			oneLine(t, r)
			for _, m := range c.said {
				if !strings.Contains(r.err, m) {
					t.Errorf("%q is not said in %q", m, r.err)
				}
			}
			if left := p.processes(); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
		})
	}
	t.Run("variable with a wrong value", func(t *testing.T) {
		q := *p
		q.env = append(q.env[:len(q.env):len(q.env)], "PROVOST_JOBS_LEASE=1s")
		r := q.up()
		if r.code != 2 || !strings.Contains(r.err, "PROVOST_JOBS_LEASE") {
			t.Errorf("exit %d: %s", r.code, r.err)
		}
		oneLine(t, r)
	})
	t.Run("several mistakes are told at once", func(t *testing.T) {
		r := p.up("--workers", "some", "--status-every", "often")
		if r.code != 2 || !strings.Contains(r.err, "some") || !strings.Contains(r.err, "often") {
			t.Errorf("exit %d: %s", r.code, r.err)
		}
	})
	t.Run("directory of others", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Skip("root may write everywhere")
		}
		dir := filepath.Join(p.dir, "closed")
		if err := os.Mkdir(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		r := p.up("--state-dir", filepath.Join(dir, "s"))
		if r.code != 3 || !strings.Contains(r.err, "permission") {
			t.Errorf("exit %d: %s", r.code, r.err)
		}
		oneLine(t, r)
	})
}

// Two engines never run on one state directory. The first does not notice the second.
func TestTwoEnginesOnOneDirectory(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	eng := p.start("--workers", "1")
	pids := p.workerPIDs()
	for _, args := range [][]string{nil, {"--runtime-dir", filepath.Join(p.dir, "r2")}, {"--name", "other", "--state-dir", filepath.Join(p.dir, "s/provost/default")}} {
		r := p.up(args...)
		if r.code != 3 || !strings.Contains(r.err, fmt.Sprintf("pid %d", eng.Process.Pid)) || !strings.Contains(r.err, "state.locked") {
			t.Errorf("%v: exit %d: %s", args, r.code, r.err)
		}
		oneLine(t, r)
	}
	if now := p.workerPIDs()["w1"]; now != pids["w1"] {
		t.Errorf("the worker had pid %d, and has %d", pids["w1"], now)
	}
	if log := read(t, filepath.Join(p.dir, "s/provost/default/logs/engine.log")); strings.Count(log, "engine.ready") != 1 || strings.Contains(log, "engine.stop") {
		t.Errorf("the second engine wrote into the log of the first: %s", log)
	}
	p.submit(1)
	p.allVerified(60 * time.Second)

	// Racing starts: exactly one wins.
	q := newPlace(t)
	var all []*exec.Cmd
	for range 4 {
		c := q.cmd(t.Context(), "up", "--no-tui", "--workers", "1")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	codes := make(chan int, len(all))
	for _, c := range all {
		go func() { c.Wait(); codes <- c.ProcessState.ExitCode() }()
	}
	for range len(all) - 1 {
		select {
		case code := <-codes:
			if code != 3 {
				t.Errorf("a start that lost the race: exit %d", code)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("more than one engine runs")
		}
	}
	q.answering()
	q.must("down", "--workers")
	if code := <-codes; code != 0 {
		t.Errorf("the one that won: exit %d", code)
	}
}

// A store that cannot be read is left as it is, and the engine does not start. What
// was moved away is made anew, and the proofs' workers are taken up.
func TestDamagedStore(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start("--workers", "1")
	p.submit(2)
	p.allVerified(60 * time.Second)
	p.must("down", "--workers")
	path := filepath.Join(p.dir, "s/provost/default/store.db")
	eventually(t, 15*time.Second, "the engine has ended", func() error {
		if left := p.processes(); len(left) > 0 {
			return fmt.Errorf("processes %v", left)
		}
		return nil
	})
	good := []byte(read(t, path))
	noise := bytes.Repeat([]byte{0xa5}, 8192)
	for name, bad := range map[string][]byte{
		"beginning overwritten":  append(append([]byte{}, noise...), good[8192:]...),
		"middle overwritten":     append(append(append([]byte{}, good[:8192]...), noise...), good[16384:]...),
		"all but the head noise": append(append([]byte{}, good[:8192]...), bytes.Repeat([]byte{0xff}, len(good)-8192)...),
		"cut off":                good[:len(good)/2/4096*4096],
		"a few bytes":            []byte("hello"),
		"empty":                  {},
		"text":                   bytes.Repeat([]byte("this is no store\n"), 4096),
	} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r := p.up()
		if r.code != 1 || !strings.Contains(r.err, "store.db") || !strings.Contains(r.err, "state.damaged") || !strings.Contains(r.err, "move it away") {
			t.Errorf("%s: exit %d: %s", name, r.code, r.err)
		}
		for _, raw := range []string{"runtime error", "goroutine", "panic"} {
			if head, _, _ := strings.Cut(r.err, "("); strings.Contains(head, raw) {
				t.Errorf("%s: %q in %s", name, raw, r.err)
			}
		}
		oneLine(t, r)
		if now := read(t, path); now != string(bad) {
			t.Errorf("%s: the store was changed", name)
		}
	}

	// A store of a version to come is not touched either.
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	setFormat(t, path)
	before := read(t, path)
	r := p.up()
	if r.code != 2 && r.code != 1 || !strings.Contains(r.err, "state.newer") {
		t.Errorf("newer store: exit %d: %s", r.code, r.err)
	}
	oneLine(t, r)
	if read(t, path) != before {
		t.Error("a newer store was changed")
	}

	// As it was, it works as if nothing had been.
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	p.start("--workers", "1")
	if s := p.allVerified(30 * time.Second); s.Jobs.Totals.Verified != 2 {
		t.Errorf("totals %+v", s.Jobs.Totals)
	}
}

// setFormat raises the number of a store's format, wherever a bucket keeps it.
func setFormat(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found := false
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			if v := b.Get([]byte("format")); v != nil {
				found = true
				return b.Put([]byte("format"), bytes.Replace(v, []byte("1"), []byte("9"), 1))
			}
			return nil
		})
	})
	if err != nil || !found {
		t.Fatalf("no format in the store: %v", err)
	}
}

// Without room on the disk nothing is lost and everything is said; with room again
// the engine goes on.
func TestNoSpaceLeft(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root: only root can mount a small filesystem")
	}
	p := newPlace(t)
	small := filepath.Join(p.dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=12m,mode=0700"); err != nil {
		t.Skipf("cannot mount a small filesystem here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(small, syscall.MNT_DETACH) })
	fill := filepath.Join(small, "fill")
	full := func() {
		f, err := os.Create(fill)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for chunk := 1 << 20; chunk >= 512; chunk /= 2 {
			b := make([]byte, chunk)
			for {
				if _, err := f.Write(b); err != nil {
					break
				}
			}
		}
	}
	full()
	state := filepath.Join(small, "state")
	r := p.up("--state-dir", state)
	if r.code != 1 && r.code != 3 || !strings.Contains(r.err, "space") {
		t.Errorf("start on a full disk: exit %d: %s", r.code, r.err)
	}
	oneLine(t, r)
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}

	c := exec.Command(provost, "up", "--no-tui", "--workers", "1", "--state-dir", state)
	c.Env, c.Dir = p.env, p.dir
	log, err := os.Create(filepath.Join(p.dir, "up.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p.answering()
	submit := func() result {
		return p.run("submit", "job", "--zkey", p.demoFile("small.zkey"), "--witness", p.demoFile("small-1.wtns"), "--wait")
	}
	if r := submit(); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	full()
	r = p.run("submit", "job", "--zkey", p.demoFile("large.zkey"), "--witness", p.demoFile("large-1.wtns"))
	if r.code == 0 || !strings.Contains(r.err, "space") {
		t.Errorf("submit on a full disk: exit %d: %s%s", r.code, r.out, r.err)
	}
	oneLine(t, r)
	if r := p.run("status"); r.code != 0 {
		t.Errorf("status on a full disk: exit %d: %s", r.code, r.err)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "jobs are taken again", func() error {
		if r := submit(); r.code != 0 {
			return fmt.Errorf("exit %d: %s", r.code, r.err)
		}
		return nil
	})
	p.must("down", "--workers")
	if code := waitExit(t, c, 15*time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Where several engines run, commands ask which one, and each can be named.
func TestSeveralEngines(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	if r := p.run(); r.code != 8 || !strings.Contains(r.err, "provost up") {
		t.Errorf("without an engine: exit %d: %s", r.code, r.err)
	} else {
		oneLine(t, r)
	}
	p.start("--workers", "1")
	if out := p.must(); !strings.Contains(out, "engine   default") {
		t.Errorf("with one engine: %s", out)
	}
	p.start("--workers", "1", "--name", "second")
	eventually(t, 20*time.Second, "both are listed", func() error {
		r := p.run()
		if r.code != 0 || !strings.Contains(r.out, "default\t") || !strings.Contains(r.out, "second\t") {
			return fmt.Errorf("exit %d: %s%s", r.code, r.out, r.err)
		}
		return nil
	})
	r := p.run("status")
	if r.code != 2 || !strings.Contains(r.err, "2 engines") || !strings.Contains(r.err, "--state-dir") {
		t.Errorf("status of which: exit %d: %s", r.code, r.err)
	}
	oneLine(t, r)
	for args, name := range map[string]string{"second": "second", "--state-dir=" + p.dir + "/s/provost/default status": "default", "--socket=" + p.dir + "/r/provost/second.sock status": "second"} {
		if out := p.must(strings.Fields(args)...); !strings.Contains(out, "engine   "+name) {
			t.Errorf("%s: %s", args, out)
		}
	}
	p.must("--state-dir", filepath.Join(p.dir, "s/provost/second"), "down", "--workers")
	if r := p.run("third"); r.code == 0 || !strings.Contains(r.err, "third") {
		t.Errorf("exit %d: %s", r.code, r.err)
	}
}
