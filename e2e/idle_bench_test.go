package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"app.provost/engine/rpc"
	"app.provost/engine/scripted"
)

// usage is what a process has used: CPU time so far, and memory of its own now.
type usage struct {
	cpu     float64 // seconds
	rssAnon float64 // MiB
	rss     float64 // MiB, files and what is shared included
}

func usageOf(t testing.TB, pid int) usage {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var u usage
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "RssAnon:":
			u.rssAnon = kib / 1024
		case "VmRSS:":
			u.rss = kib / 1024
		}
	}
	// utime and stime are in ticks of 10 ms on every Linux that Go runs on.
	for _, field := range []int{14, 15} {
		ticks, err := strconv.ParseFloat(stat(t, pid, field), 64)
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += ticks / 100
	}
	return u
}

// parts names the processes of a place after what they are for.
func (p *place) parts() map[string][]int {
	p.t.Helper()
	out := map[string][]int{}
	for _, pid := range p.processes() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		args := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		if len(args) < 2 {
			continue
		}
		name := map[string]string{"up": "engine", "internal-stub": "stub", "internal-worker": "worker", "attach": "screen"}[args[1]]
		if name == "worker" && strings.Contains(strings.Join(args, " "), "--role verify") {
			name = "verifier"
		}
		if name != "" {
			out[name] = append(out[name], pid)
		}
	}
	return out
}

// onDrain starts a command on a terminal whose output is thrown away; it ends with the benchmark.
func (p *place) onDrain(b *testing.B, name string, args ...string) (pid int, written func() int64) {
	b.Helper()
	c := exec.Command(name, args...)
	c.Env = append(p.env[:len(p.env):len(p.env)], "TERM=xterm-256color")
	c.Dir = p.dir
	tty, err := pty.StartWithSize(c, &pty.Winsize{Cols: 120, Rows: 40})
	if err != nil {
		b.Fatal(err)
	}
	count := make(chan int64, 1)
	count <- 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, err := tty.Read(buf)
			count <- <-count + int64(n)
			if err != nil {
				return
			}
		}
	}()
	b.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		tty.Close()
		<-done
	})
	return c.Process.Pid, func() int64 { n := <-count; count <- n; return n }
}

// serveScript serves an engine that follows a script from this process, on a socket
// that provost attach can look at.
func serveScript(b testing.TB, p *place, workers int) (socket string) {
	b.Helper()
	socket = filepath.Join(p.dir, "script.sock")
	e := scripted.New(scripted.Options{Seed: 1, Workers: workers})
	s, err := rpc.Listen(rpc.ServerOptions{Engine: e, Socket: socket, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Version: "dev"})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- e.Run(ctx) }()
	go func() { ended <- s.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				b.Error(err)
			}
		}
	})
	return socket
}

// BenchmarkIdle is what an installation costs that has nothing to do: an engine with two workers
// and a verifier without a screen, another with a screen attached, a screen on a script of 2,048
// workers of which many change all the time, and top(1) once a second as the peer of a screen.
// All run side by side; a round is a minute. %: of one core.
func BenchmarkIdle(b *testing.B) {
	const window = time.Minute
	type watched struct {
		name string
		pids []int
	}
	var all []watched
	written := map[string]func() int64{}

	alone, looked := newPlace(b), newPlace(b)
	alone.start("--workers", "2")
	looked.start("--workers", "2")
	alone.workerPIDs()
	looked.workerPIDs()
	_, written["screen"] = looked.onDrain(b, provost, "attach")
	script := newPlace(b)
	pid, n := script.onDrain(b, provost, "attach", "--socket", serveScript(b, script, 2048))
	all = append(all, watched{"screen2048", []int{pid}})
	written["screen2048"] = n
	if top, err := exec.LookPath("top"); err == nil {
		pid, n := script.onDrain(b, top, "-d", "1")
		all = append(all, watched{"top", []int{pid}})
		written["top"] = n
	}
	time.Sleep(15 * time.Second) // what belongs to the start is over
	if t, _ := os.ReadFile(filepath.Join(alone.dir, "up.log")); bytes.Contains(t, []byte(`"lvl":"error"`)) {
		b.Fatalf("the engine is not well:\n%s", t)
	}
	for name, pids := range alone.parts() {
		all = append(all, watched{name, pids})
	}
	seen := looked.parts()
	if len(seen["screen"]) != 1 || len(seen["engine"]) != 1 {
		b.Fatalf("processes %v", seen)
	}
	all = append(all, watched{"engine-seen", seen["engine"]}, watched{"screen", seen["screen"]})

	var m medians
	for b.Loop() {
		type reading struct {
			u     []usage
			bytes int64
		}
		before := map[string]reading{}
		read := func(w watched) (r reading) {
			for _, pid := range w.pids {
				r.u = append(r.u, usageOf(b, pid))
			}
			if n := written[w.name]; n != nil {
				r.bytes = n()
			}
			return r
		}
		began := time.Now()
		for _, w := range all {
			before[w.name] = read(w)
		}
		time.Sleep(window)
		took := time.Since(began).Seconds()
		for _, w := range all {
			now := read(w)
			var cpu, anon, rss float64
			for i := range w.pids { // of the greatest, where there are several
				cpu = max(cpu, now.u[i].cpu-before[w.name].u[i].cpu)
				anon = max(anon, now.u[i].rssAnon)
				rss = max(rss, now.u[i].rss)
			}
			m.add(w.name+"-%", 100*cpu/took)
			m.add(w.name+"-anon-MiB", anon)
			m.add(w.name+"-rss-MiB", rss)
			if written[w.name] != nil {
				m.add(w.name+"-B/s", float64(now.bytes-before[w.name].bytes)/took)
			}
		}
	}
	m.report(b)
}
