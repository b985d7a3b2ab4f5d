package e2e

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"

	"app.provost/engine"
	"app.provost/engine/rpc"
	"app.provost/prover/zkey"
)

// The benchmarks of this folder measure the real binary. One iteration is a round in
// which the sides that are compared take turns, so that what else the machine does
// falls on all of them; what is reported are medians over the rounds. Run them with
// -benchtime 5x: the number is that of the rounds.

const aloneVar = "PROVOST_BENCH_ALONE"

// A process of this test binary that has aloneVar proves without an engine: count,
// key and witnesses, each taken in turn. It prints the nanoseconds it took.
func init() {
	words := filepath.SplitList(os.Getenv(aloneVar))
	if len(words) < 3 {
		return
	}
	if err := proveAlone(words[0], words[1], words[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func proveAlone(count, key string, witnesses []string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	began := time.Now()
	k, err := zkey.Open(key)
	if err != nil {
		return err
	}
	defer k.Close()
	for i := range n {
		w, err := zkey.OpenWitness(witnesses[i%len(witnesses)])
		if err != nil {
			return err
		}
		_, _, err = zkey.Prove(context.Background(), k, w, zkey.Options{Workers: 1})
		w.Close()
		if err != nil {
			return err
		}
	}
	fmt.Println(time.Since(began).Nanoseconds())
	return nil
}

// alone proves in processes without an engine, one per CPU, pinned and niced as
// workers are. It gives the seconds of the slowest, and the CPU seconds of all.
func (p *place) alone(jobs int, cpus []int) (slowest, cpu float64) {
	p.t.Helper()
	took, used := make([]float64, len(cpus)), make([]time.Duration, len(cpus))
	errs := make([]error, len(cpus))
	var all sync.WaitGroup
	for i, cpu := range cpus {
		all.Go(func() {
			c := exec.Command("taskset", "-c", strconv.Itoa(cpu), "nice", "-n", "10", os.Args[0])
			c.Env = append(p.env[:len(p.env):len(p.env)], aloneVar+"="+strings.Join([]string{strconv.Itoa(jobs / len(cpus)),
				p.demoFile("large.zkey"), p.demoFile("large-1.wtns"), p.demoFile("large-2.wtns")}, string(filepath.ListSeparator)))
			c.Stderr = os.Stderr
			out, err := c.Output()
			if err == nil {
				used[i] = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
				took[i], err = strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
			}
			errs[i] = err
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			p.t.Fatal("prove without an engine:", err)
		}
		cpu += used[i].Seconds()
	}
	return slices.Max(took) / 1e9, cpu
}

// throughEngine hands in jobs. It gives the seconds from the first that was handed out
// until the last was verified, the seconds of proving that the workers reported, and
// the CPU seconds of all processes of the installation.
func (p *place) throughEngine(jobs int) (took, proving, cpu float64) {
	p.t.Helper()
	used := func() (sum float64) {
		for _, pid := range p.processes() {
			sum += usageOf(p.t, pid).cpu
		}
		return sum
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := rpc.Dial(ctx, rpc.DialOptions{Socket: p.socket()})
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	feed, err := c.Watch(ctx, engine.WatchOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	defer feed.Close()
	before := used()
	ids := map[string]bool{}
	for _, id := range p.submit(jobs) {
		ids[id] = true
	}
	for {
		u, err := feed.Next(ctx)
		if err != nil {
			p.t.Fatal("wait for the jobs:", err)
		}
		var first, last time.Time
		done := 0
		proving = 0
		for _, j := range u.Snapshot.Jobs.List() {
			if ids[string(j.ID)] && j.StartedAt != nil && j.FinishedAt != nil && j.ProveMS != nil {
				done++
				if first.IsZero() || j.StartedAt.Before(first) {
					first = *j.StartedAt
				}
				proving += *j.ProveMS / 1000
				if last.Before(*j.FinishedAt) {
					last = *j.FinishedAt
				}
			}
		}
		if done == jobs {
			return last.Sub(first).Seconds(), proving, used() - before
		}
	}
}

// BenchmarkWorkers makes 40 proofs of the large circuit four ways, eight in a turn: through an
// engine with one worker and with two, and in one and in two processes that do nothing
// else. The last two are the limit: the same proofs without queue, socket, journal,
// fsync and verification. busy is the part of the workers' time that is proving; cpu is
// the CPU time of all processes against the limit's, which a busy machine changes least.
func BenchmarkWorkers(b *testing.B) {
	const jobs, turns = 40, 5
	for _, tool := range []string{"taskset", "nice"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skip("the limit cannot be measured without " + tool)
		}
	}
	if runtime.NumCPU() < 2 {
		b.Skip("two workers need two CPUs")
	}
	one, two := newPlace(b), newPlace(b)
	one.start("--workers", "1")
	two.start("--workers", "2")
	one.workerPIDs()
	two.workerPIDs()
	pins := func(p *place) (cpus []int) {
		s, err := p.look()
		if err != nil {
			b.Fatal(err)
		}
		for _, w := range s.Workers.List() {
			if w.CPU == nil {
				b.Skipf("%s is not pinned: %s", w.ID, w.Note)
			}
			cpus = append(cpus, int(*w.CPU))
		}
		return cpus
	}
	first, both := pins(one), pins(two)
	var m medians
	for b.Loop() {
		var a1, c1, e1, p1, d1, a2, c2, e2, p2, d2 float64
		for range turns {
			a, c := one.alone(jobs/turns, first)
			a1, c1 = a1+a, c1+c
			e, p, d := one.throughEngine(jobs / turns)
			e1, p1, d1 = e1+e, p1+p, d1+d
			a, c = two.alone(jobs/turns, both)
			a2, c2 = a2+a, c2+c
			e, p, d = two.throughEngine(jobs / turns)
			e2, p2, d2 = e2+e, p2+p, d2+d
		}
		m.add("alone1-s", a1)
		m.add("engine1-s", e1)
		m.add("alone2-s", a2)
		m.add("engine2-s", e2)
		m.add("engine1/alone1", e1/a1)
		m.add("engine2/alone2", e2/a2)
		m.add("engine-gain", e1/e2)
		m.add("alone-gain", a1/a2)
		m.add("cpu1/alone1", d1/c1)
		m.add("cpu2/alone2", d2/c2)
		m.add("busy1-%", 100*p1/e1)
		m.add("busy2-%", 100*p2/e2/2)
	}
	m.report(b)
}

// medians collects a figure per round.
type medians struct {
	names  []string
	values map[string][]float64
}

func (m *medians) add(name string, v float64) {
	if m.values == nil {
		m.values = map[string][]float64{}
	}
	if m.values[name] == nil {
		m.names = append(m.names, name)
	}
	m.values[name] = append(m.values[name], v)
}

func (m *medians) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // a round is no unit of work
	load, _ := os.ReadFile("/proc/loadavg")
	var spread strings.Builder
	for i, name := range m.names {
		v := slices.Sorted(slices.Values(m.values[name]))
		mid := (v[(len(v)-1)/2] + v[len(v)/2]) / 2
		b.ReportMetric(mid, name)
		sep := "  "
		if i%3 == 0 {
			sep = "\n" // few lines: more than ten are cut off
		}
		fmt.Fprintf(&spread, "%s%s %.4g to %.4g", sep, name, v[0], v[len(v)-1])
	}
	b.Logf("%d rounds, load at the end %s%s", b.N, strings.TrimSpace(string(load)), spread.String())
}

// hello builds the smallest Go program that says something: what no Go program can beat.
func hello(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	src := filepath.Join(dir, "hello.go")
	if err := os.WriteFile(src, []byte("package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"hello\\n\") }\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	out := filepath.Join(dir, "hello")
	if text, err := exec.Command("go", "build", "-o", out, src).CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, text)
	}
	return out
}

// onSilent runs a command on a terminal that answers nothing, see onTerminal.
func (p *place) onSilent(name string, args []string, pages ...[]string) []float64 {
	p.t.Helper()
	return p.onTerminal(false, name, args, pages...)
}

// onTerminal starts a command on a terminal of its own, which answers the question
// for its abilities at once or never. It gives the milliseconds until each of the
// pages has been on the screen: a page is there when all its texts are. Without pages
// it waits for the command's end. What runs is told to leave with q, and q again for
// the question.
func (p *place) onTerminal(answers bool, name string, args []string, pages ...[]string) []float64 {
	p.t.Helper()
	c := exec.Command(name, args...)
	c.Env = append(p.env[:len(p.env):len(p.env)], "TERM=xterm-256color", "COLORTERM=truecolor")
	c.Dir = p.dir
	vt := vt10x.New(vt10x.WithSize(120, 40))
	began := time.Now()
	tty, err := pty.StartWithSize(c, &pty.Winsize{Cols: 120, Rows: 40})
	if err != nil {
		p.t.Fatal(err)
	}
	// A program that shows nothing must not hold the benchmark.
	kill := time.AfterFunc(time.Minute, func() { c.Process.Kill() })
	defer kill.Stop()
	var at []float64
	buf := make([]byte, 64<<10)
	for {
		n, err := tty.Read(buf)
		now := float64(time.Since(began).Microseconds()) / 1000
		if err != nil {
			break
		}
		if len(at) == len(pages) {
			continue
		}
		if answers && bytes.Contains(buf[:n], []byte("\x1b[c")) {
			tty.WriteString("\x1b[?2026;2$y\x1b[?62;22c")
		}
		vt.Write(buf[:n])
		text := vt.String()
		for len(at) < len(pages) && !slices.ContainsFunc(pages[len(at)], func(s string) bool { return !strings.Contains(text, s) }) {
			if at = append(at, now); len(at) == len(pages) {
				tty.WriteString("qq")
			}
		}
	}
	if err := c.Wait(); err != nil {
		p.t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, vt.String())
	}
	if len(pages) == 0 {
		return []float64{float64(time.Since(began).Microseconds()) / 1000}
	}
	tty.Close()
	if len(at) < len(pages) {
		p.t.Fatalf("%s %s never showed %q\n%s", filepath.Base(name), strings.Join(args, " "), pages[len(at)], vt.String())
	}
	return at
}

// BenchmarkVersion is a command from its start to its end on a terminal that answers
// nothing, against the smallest Go program on the same terminal.
func BenchmarkVersion(b *testing.B) {
	p, small := newPlace(b), hello(b)
	var m medians
	for b.Loop() {
		h := p.onSilent(small, nil)[0]
		v := p.onSilent(provost, []string{"version"})[0]
		m.add("hello-ms", h)
		m.add("version-ms", v)
		m.add("version/hello", v/h)
	}
	m.report(b)
}

// BenchmarkAttach is from the start of provost attach to its first whole overview, of an
// engine with two workers, on a terminal that answers at once and on one that never does.
// Beside it: a dial and a first snapshot from a process that runs already, and the
// start of a command and of the smallest Go program.
func BenchmarkAttach(b *testing.B) {
	p, small := newPlace(b), hello(b)
	p.start("--workers", "2")
	p.workerPIDs()
	// As soon as the engine has settled, every screen begins with the same picture.
	whole := []string{"2 idle", "Events", "SOURCES", "q leave"}
	p.onSilent(provost, []string{"attach"}, whole)
	var m medians
	for b.Loop() {
		h := p.onSilent(small, nil)[0]
		v := p.onSilent(provost, []string{"version"})[0]
		began := time.Now()
		if _, err := p.look(); err != nil {
			b.Fatal(err)
		}
		d := float64(time.Since(began).Microseconds()) / 1000
		a := p.onTerminal(true, provost, []string{"attach"}, whole)[0]
		silent := p.onSilent(provost, []string{"attach"}, whole)[0]
		m.add("hello-ms", h)
		m.add("version-ms", v)
		m.add("dial-ms", d)
		m.add("attach-ms", a)
		m.add("attach-silent-ms", silent)
		m.add("attach/hello", a/h)
		m.add("attach/version", a/v)
	}
	m.report(b)
}

// BenchmarkColdStart is the start of an engine with two workers in a new state directory, until its
// socket answers and until both workers can take jobs; and provost demo on a terminal
// until its first whole frame with two workers and until the first verified proof is on it.
func BenchmarkColdStart(b *testing.B) {
	small := hello(b)
	var m medians
	for b.Loop() {
		p := newPlace(b)
		h := p.onSilent(small, nil)[0]
		began := time.Now()
		up := exec.Command(provost, "up", "--no-tui", "--workers", "2")
		up.Env, up.Dir = p.env, p.dir
		if err := up.Start(); err != nil {
			b.Fatal(err)
		}
		answers, ready := p.waitCold(began)
		p.must("down", "--workers")
		waitExit(b, up, 20*time.Second)
		demo := p.onTerminal(true, provost, []string{"demo"}, []string{"of 2", "Events", "q leave"}, []string{"verified, proved in"})
		m.add("hello-ms", h)
		m.add("answers-ms", answers)
		m.add("workers-ms", ready)
		m.add("demo-frame-ms", demo[0])
		m.add("demo-proof-ms", demo[1])
		m.add("answers/hello", answers/h)
	}
	m.report(b)
}

func (p *place) waitCold(began time.Time) (answers, ready float64) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	since := func() float64 { return float64(time.Since(began).Microseconds()) / 1000 }
	var c *rpc.Client
	for c == nil {
		if ctx.Err() != nil {
			p.t.Fatal("the engine does not answer")
		}
		time.Sleep(time.Millisecond)
		found, _ := filepath.Glob(filepath.Join(p.dir, "r/provost/*.sock"))
		for _, s := range found {
			if strings.HasSuffix(s, ".workers.sock") {
				continue
			}
			if got, err := rpc.Dial(ctx, rpc.DialOptions{Socket: s}); err == nil {
				c = got
			}
		}
	}
	answers = since()
	defer c.Close()
	feed, err := c.Watch(ctx, engine.WatchOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	defer feed.Close()
	for {
		u, err := feed.Next(ctx)
		if err != nil {
			p.t.Fatal("wait for the workers:", err)
		}
		idle := 0
		for _, w := range u.Snapshot.Workers.List() {
			if w.State == engine.WorkerIdle {
				idle++
			}
		}
		if idle == 2 {
			return answers, since()
		}
	}
}

// BenchmarkCreateCluster is provost create cluster for six nodes, and the check of what it made, against
// the PBKDF2 that both cannot do without, on all CPUs: each of the six keystores is
// encrypted, opened again before the directory gets its name, and opened by the check.
func BenchmarkCreateCluster(b *testing.B) {
	p := newPlace(b)
	const nodes = 6
	salt := make([]byte, 32)
	floor := func(keystores int) float64 {
		began := time.Now()
		var all sync.WaitGroup
		work := make(chan struct{}, keystores)
		for range keystores {
			work <- struct{}{}
		}
		close(work)
		for range runtime.GOMAXPROCS(0) {
			all.Go(func() {
				for range work {
					if _, err := pbkdf2.Key(sha256.New, "password", salt, 262144, 32); err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
		return float64(time.Since(began).Microseconds()) / 1000
	}
	var m medians
	for i := 0; b.Loop(); i++ {
		dir := filepath.Join(p.dir, fmt.Sprintf("cluster-%d", i))
		least := floor(nodes)
		began := time.Now()
		p.must("create", "cluster", "--name=mycluster", "--withdrawal-addresses=0x000000000000000000000000000000000000dead",
			"--fee-recipient-addresses=0x000000000000000000000000000000000000dead", "--nodes", strconv.Itoa(nodes), "--threshold", "5",
			"--cluster-dir", dir)
		made := float64(time.Since(began).Microseconds()) / 1000
		began = time.Now()
		p.must("verify", "cluster", dir)
		checked := float64(time.Since(began).Microseconds()) / 1000
		m.add("pbkdf2-ms", least)
		m.add("create-ms", made)
		m.add("verify-ms", checked)
		m.add("create/pbkdf2", made/(2*least))
		m.add("verify/pbkdf2", checked/least)
	}
	m.report(b)
}
