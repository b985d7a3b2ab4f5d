package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"app.provost/engine"
)

// monitor starts an engine with a monitor on a port of the system's choice, and gives its address.
func (p *place) monitor(args ...string) (stop func() int, addr string) {
	p.t.Helper()
	c := p.start(append([]string{"--monitoring-address", "127.0.0.1:0", "--workers", "1"}, args...)...)
	found := regexp.MustCompile(`"monitor.ready","address":"([^"]+)"`).FindStringSubmatch(read(p.t, filepath.Join(p.dir, "up.log")))
	if found == nil {
		p.t.Fatalf("no monitor.ready in the log")
	}
	return func() int {
		c.Process.Signal(syscall.SIGTERM)
		return waitExit(p.t, c, 15*time.Second)
	}, found[1]
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: 20 * time.Second}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// What a monitor reads says the same as the command line: probes, numbers, and for
// every task a gauge and a histogram.
func TestMonitor(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	stop, addr := p.monitor()
	var health struct {
		Schema string
		OK     bool
		Checks []struct {
			Name, Text string
			OK         bool
		}
	}
	code, body := get(t, "http://"+addr+"/livez")
	if err := json.Unmarshal([]byte(body), &health); err != nil || code != 200 || health.Schema != "provost.live/1" || !health.OK {
		t.Errorf("livez: %d %s", code, body)
	}
	eventually(t, 20*time.Second, "the engine is ready", func() error {
		code, body := get(t, "http://"+addr+"/readyz")
		if err := json.Unmarshal([]byte(body), &health); err != nil || health.Schema != "provost.ready/1" || health.OK != (code == 200) {
			t.Fatalf("readyz: %d %s", code, body)
		}
		if !health.OK {
			return fmt.Errorf("%s", body)
		}
		return nil
	})
	p.submit(2)
	p.allVerified(60 * time.Second)
	if r := p.confirmed("pause", "worker", "w1", "--for", "1h", "--reason", "test", "--wait"); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	var numbers string
	eventually(t, 10*time.Second, "the numbers are those of the engine", func() error {
		_, numbers = get(t, "http://"+addr+"/metrics")
		for _, want := range []string{"provost_up 1", "provost_jobs_submitted_total 2", `provost_jobs_ended_total{state="verified"} 2`, `provost_acts_open{kind="pause_workers"} 1`} {
			if !strings.Contains(numbers, want+"\n") {
				return fmt.Errorf("no %s", want)
			}
		}
		if !regexp.MustCompile(`(?m)^provost_workers\{.*state="paused"\} 1$`).MatchString(numbers) {
			return fmt.Errorf("no paused worker")
		}
		return nil
	})
	for _, task := range []string{"state", "queue", "rpc", "monitor", "host.processes"} {
		if !regexp.MustCompile(`(?m)^provost_task_running\{task="` + regexp.QuoteMeta(task) + `"\} [1-9]`).MatchString(numbers) {
			t.Errorf("the task %s is not shown as running", task)
		}
	}
	// Every task that is named has a gauge; each that has ended has a histogram.
	if !strings.Contains(numbers, "provost_task_duration_seconds_bucket{") {
		t.Error("no task has a histogram of its durations")
	}
	types := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(numbers))
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) == 4 && f[1] == "TYPE" {
			types[f[2]] = f[3]
		}
	}
	if types["provost_task_running"] != "gauge" || types["provost_task_duration_seconds"] != "histogram" {
		t.Errorf("types %v", types)
	}
	// A name that leads to loopback is not loopback.
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusForbidden {
		t.Errorf("asked by another name: %d", r.StatusCode)
	}
	if code, _ := get(t, "http://"+addr+"/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("profiles are open: %d", code)
	}
	// Without its verifier nothing counts, and the engine is not ready.
	verifier := 0
	for _, pid := range byWord(p.processes(), "internal-worker") {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(b), "verify") {
			verifier = pid
		}
	}
	syscall.Kill(verifier, syscall.SIGKILL)
	eventually(t, 10*time.Second, "not ready without a verifier", func() error {
		code, body := get(t, "http://"+addr+"/readyz")
		if code != 503 || !strings.Contains(body, "verifier") {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	eventually(t, 30*time.Second, "ready again with the next verifier", func() error {
		if code, body := get(t, "http://"+addr+"/readyz"); code != 200 {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	if code := stop(); code != 143 {
		t.Errorf("exit %d", code)
	}
	p.stopped()
}

// stopped holds the last lines of an engine's log to an orderly stop: within the
// limit, with no goroutine left.
func (p *place) stopped() {
	p.t.Helper()
	log := read(p.t, filepath.Join(p.dir, "up.log"))
	var line struct {
		Ev     string
		TookMS *int `json:"took_ms"`
		Left   *string
	}
	for _, l := range strings.Split(log, "\n") {
		if strings.Contains(l, `"engine.stopped"`) {
			if err := json.Unmarshal([]byte(l), &line); err != nil {
				p.t.Fatalf("%v in %s", err, l)
			}
		}
	}
	if line.Left == nil || *line.Left != "" || line.TookMS == nil || *line.TookMS > 10_000 {
		p.t.Errorf("the engine did not say that it stopped within 10 s with nothing left:\n%s", log)
	}
}

// However much goes on, an engine that is told to stop stops in order, and none of
// its goroutines is left.
func TestStopLeavesNoGoroutine(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start("--workers", "2")
	p.workerPIDs()
	p.submit(6)
	if r := p.confirmed("pause", "worker", "w1", "--for", "1h", "--reason", "test", "--detach"); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	// Viewers, a follower of the journal, one of the logs and one who waits.
	screen := p.console(80, 24, "attach")
	screen.shows("WORKERS")
	var others []func() int
	for _, args := range [][]string{{"watch"}, {"logs", "-f"}, {"submit", "job", "--zkey", p.demoFile("small.zkey"), "--witness", p.demoFile("small-1.wtns"), "--wait"}} {
		o := p.cmd(t.Context(), args...)
		if err := o.Start(); err != nil {
			t.Fatal(err)
		}
		others = append(others, func() int {
			o.Process.Signal(syscall.SIGTERM)
			return waitExit(t, o, 20*time.Second)
		})
	}
	time.Sleep(500 * time.Millisecond)
	c.Process.Signal(syscall.SIGTERM)
	if code := waitExit(t, c, 12*time.Second); code != 143 {
		t.Errorf("exit %d", code)
	}
	p.stopped()
	for _, end := range others {
		end()
	}
	// A second signal does not wait.
	c = p.start("--workers", "2")
	c.Process.Signal(syscall.SIGTERM)
	c.Process.Signal(syscall.SIGTERM)
	if code := waitExit(t, c, 12*time.Second); code != 143 {
		t.Errorf("exit %d", code)
	}
	p.start("--workers", "2")
	p.worker("w1", "is paused still", inState(engine.WorkerPaused))
	p.must("resume", "worker", "all", "--confirm", p.digest("resume", "worker", "all"))
	p.allVerified(60 * time.Second)
}

// The headless log is one event per line with stable keys; its status line says how
// all stands; a hang-up is ignored, USR1 opens the log anew, QUIT dumps and goes on.
func TestHeadlessLog(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start("--workers", "1", "--status-every", "1s")
	p.workerPIDs()
	pid := c.Process.Pid
	logs := filepath.Join(p.dir, "s/provost/default")
	c.Process.Signal(syscall.SIGHUP)
	c.Process.Signal(syscall.SIGTSTP)
	c.Process.Signal(syscall.SIGQUIT)
	eventually(t, 20*time.Second, "goroutines are dumped to a file", func() error {
		found, _ := filepath.Glob(filepath.Join(logs, "crash/*"))
		if len(found) == 0 {
			return fmt.Errorf("none")
		}
		if !strings.Contains(read(t, found[0]), "goroutine ") {
			return fmt.Errorf("%s has no goroutines", found[0])
		}
		return nil
	})
	if err := os.Rename(filepath.Join(logs, "logs/engine.log"), filepath.Join(logs, "logs/engine.log.1")); err != nil {
		t.Fatal(err)
	}
	c.Process.Signal(syscall.SIGUSR1)
	eventually(t, 20*time.Second, "the log is opened anew", func() error {
		if b, err := os.ReadFile(filepath.Join(logs, "logs/engine.log")); err != nil || len(b) == 0 {
			return fmt.Errorf("%v, %d bytes", err, len(b))
		}
		return nil
	})
	if now := p.enginePID(); now != pid {
		t.Errorf("the engine had pid %d, and has %d", pid, now)
	}
	p.must("down", "--workers")
	waitExit(t, c, 15*time.Second)
	seen := map[string]int{}
	for _, l := range strings.Split(strings.TrimSpace(read(t, filepath.Join(p.dir, "up.log"))), "\n") {
		var line map[string]any
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Errorf("not a line of JSON: %q", l)
			continue
		}
		at, err := time.Parse(time.RFC3339, fmt.Sprint(line["t"]))
		if err != nil || at.Location() != time.UTC || line["lvl"] == nil || line["ev"] == nil {
			t.Errorf("a line without time, level or event: %s", l)
		}
		ev := fmt.Sprint(line["ev"])
		seen[ev]++
		if ev == "status" && (line["verdict"] == nil || line["workers"] == nil || line["jobs"] == nil || line["restart_safe"] == nil) {
			t.Errorf("status line %s", l)
		}
	}
	if seen["engine.ready"] != 1 || seen["engine.stopped"] != 1 || seen["status"] < 2 || seen["verdict.change"] == 0 || seen["signal.ignored"] != 2 || seen["engine.dump"] != 1 {
		t.Errorf("events %v", seen)
	}

	// With a form of its own the same is said as text.
	q := newPlace(t)
	text := q.cmd(t.Context(), "up", "--no-tui", "--workers", "1", "--log-format", "text")
	log, err := os.Create(filepath.Join(q.dir, "text.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	text.Stderr = log
	if err := text.Start(); err != nil {
		t.Fatal(err)
	}
	q.answering()
	q.must("down", "--workers")
	waitExit(t, text, 15*time.Second)
	for _, l := range strings.Split(strings.TrimSpace(read(t, log.Name())), "\n") {
		if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info |warn |error) `).MatchString(l) {
			t.Errorf("line %q", l)
		}
	}
}
