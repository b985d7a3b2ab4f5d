package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"app.provost/engine"
)

var update = flag.Bool("update", false, "write the pictures in docs/screens/tmux anew")

// pane is a window of a tmux server of its own, with a program in it.
type pane struct {
	t      *testing.T
	socket string
}

// newPane starts a command in a real terminal multiplexer, at a size.
func newPane(t *testing.T, p *place, cols, rows int, args ...string) *pane {
	t.Helper()
	path, err := exec.LookPath("tmux")
	if err != nil {
		t.Skip("tmux is not installed: no real terminal to look at")
	}
	w := &pane{t: t, socket: filepath.Join(p.dir, "tmux")}
	c := exec.Command(path, append([]string{"-S", w.socket, "-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(cols), "-y", fmt.Sprint(rows)},
		engine.ShellLine(append([]string{"exec", "env", "TERM=screen-256color", provost}, args...)))...)
	c.Env = append(p.env[:len(p.env):len(p.env)], "SHELL=/bin/sh", "LC_ALL=C.UTF-8")
	c.Dir = p.dir
	// What is shown after the end stays, for the message of a failed test.
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command(path, "-S", w.socket, "kill-server").Run() })
	return w
}

func (w *pane) tmux(args ...string) (string, error) {
	out, err := exec.Command("tmux", append([]string{"-S", w.socket}, args...)...).CombinedOutput()
	return string(out), err
}

func (w *pane) keys(keys ...string) {
	w.t.Helper()
	if out, err := w.tmux(append([]string{"send-keys"}, keys...)...); err != nil {
		w.t.Fatalf("send keys: %v: %s", err, out)
	}
}

// picture is what is on the screen, without blanks at line ends.
func (w *pane) picture() string {
	out, err := w.tmux("capture-pane", "-p")
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// still waits until the screen shows all texts and stands still, and gives it.
func (w *pane) still(what string, texts ...string) string {
	w.t.Helper()
	last := ""
	eventually(w.t, 20*time.Second, what, func() error {
		now := w.picture()
		for _, text := range texts {
			if !strings.Contains(now, text) {
				last = ""
				return fmt.Errorf("no %q on\n%s", text, now)
			}
		}
		if now != last {
			last = now
			time.Sleep(250 * time.Millisecond)
			return fmt.Errorf("it still changes:\n%s", now)
		}
		return nil
	})
	return last
}

// a view of the bar: its key and its short name.
type view struct{ key, name string }

var inBar = regexp.MustCompile(`\[?([0-9A-Z]) ([A-Z][A-Za-z]+)\]?`)

// bar reads the view bar, which is the second line.
func bar(picture string) (views []view, at string) {
	lines := strings.Split(picture, "\n")
	if len(lines) < 2 {
		return nil, ""
	}
	for _, m := range inBar.FindAllStringSubmatch(lines[1], -1) {
		views = append(views, view{m[1], m[2]})
		if strings.HasPrefix(m[0], "[") {
			at = m[2]
		}
	}
	return views, at
}

// Every view in a real terminal at 80x24, kept as a picture; at other sizes nothing
// is cut off or overflows.
func TestPagesInTmux(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	args := []string{"demo", "--scripted", "--still", "4m40s", "--color", "never"}
	w := newPane(t, p, 80, 24, args...)
	first := w.still("the overview is drawn", "PRACTICE", "WORKERS", "LAST EVENTS")
	views, at := bar(first)
	if len(views) < 6 || at == "" {
		t.Fatalf("the bar has %v at %q:\n%s", views, at, first)
	}
	dir := filepath.Join("..", "docs", "screens", "tmux")
	kept := map[string]bool{}
	keep := func(name, picture string) {
		t.Helper()
		file := filepath.Join(dir, strings.ToLower(name)+".txt")
		kept[filepath.Base(file)] = true
		lines := strings.Split(strings.TrimRight(picture, "\n"), "\n")
		if len(lines) != 24 {
			t.Errorf("%s has %d lines", name, len(lines))
		}
		if *update {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(picture), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("%v; -update makes it", err)
			return
		}
		if picture != string(want) {
			t.Errorf("%s differs from %s (-update writes it); now it is\n%s", name, file, picture)
		}
	}
	for _, v := range views {
		// Over the first view: on a page of things, a number may mean "the one of this thing".
		w.keys(views[0].key, v.key)
		keep(v.name, w.still("view "+v.name, "["+v.key+" "+v.name))
	}
	w.keys("1")
	w.still("back at the first view", "[1 ")
	w.keys("?")
	keep("help", w.still("help", "Help"))
	w.keys("Escape")
	w.still("help is closed", "LAST EVENTS")
	w.keys(":")
	keep("command", w.still("the command line", ":"))
	w.keys("Escape")
	if *update {
		return
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if !kept[filepath.Base(f)] {
			t.Errorf("%s is the picture of no view", f)
		}
	}

	// The terminal changes its size under the program, to and fro.
	for _, size := range []struct{ cols, rows int }{{160, 48}, {60, 15}, {200, 50}, {20, 5}, {80, 24}} {
		if out, err := w.tmux("resize-window", "-x", fmt.Sprint(size.cols), "-y", fmt.Sprint(size.rows)); err != nil {
			t.Fatalf("resize: %v: %s", err, out)
		}
		if size.cols < 60 { // too small to draw: it says so and lives
			w.still(fmt.Sprintf("it lives at %dx%d", size.cols, size.rows))
			continue
		}
		for _, v := range views {
			w.keys(views[0].key, v.key)
			want := "[" + v.key
			if size.cols >= 80 {
				want += " " + v.name[:3] // wider bars have longer names: "Duty", "Duties"
			}
			picture := w.still(fmt.Sprintf("%s at %dx%d", v.name, size.cols, size.rows), want)
			lines := strings.Split(strings.TrimRight(picture, "\n"), "\n")
			if len(lines) != size.rows {
				t.Errorf("%s at %dx%d has %d lines:\n%s", v.name, size.cols, size.rows, len(lines), picture)
			}
			if !strings.Contains(lines[len(lines)-1], "?") {
				t.Errorf("%s at %dx%d: the last line shows no keys:\n%s", v.name, size.cols, size.rows, picture)
			}
		}
	}
	w.keys("1")
	if again := w.still("as at first", "[1 "); again != first {
		t.Errorf("after all changes of size the picture is another:\n%s", again)
	}

	// Left, the program is gone and the terminal with it.
	w.keys("q")
	w.still("the question", "Leave the dashboard")
	w.keys("Enter")
	eventually(t, 10*time.Second, "the program has ended", func() error {
		if out, err := w.tmux("list-panes"); err == nil {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// The demo shows something useful within seconds: its workers, and a proof before long.
func TestFirstFrameOfTheDemo(t *testing.T) {
	p := newPlace(t)
	best := time.Hour
	for range 3 { // the limit is for the program, not for a busy machine
		began := time.Now()
		w := newPane(t, p, 80, 24, "demo")
		eventually(t, 30*time.Second, "the demo shows its workers", func() error {
			if s := w.picture(); !strings.Contains(s, "WORKERS") || !regexp.MustCompile(`WORKERS +\d+ (run|idle)`).MatchString(s) {
				return fmt.Errorf("%s", s)
			}
			return nil
		})
		best = min(best, time.Since(began))
		eventually(t, 30*time.Second, "a proof is verified", func() error {
			if s := w.picture(); !regexp.MustCompile(`[1-9]\d* verified`).MatchString(s) {
				return fmt.Errorf("%s", s)
			}
			return nil
		})
		w.keys("q")
		w.still("the question", "Leave the dashboard")
		w.keys("Enter")
		p.nothingLeft()
		if best < 3*time.Second {
			break
		}
	}
	t.Logf("first frame with workers after %s", best.Round(time.Millisecond))
	if best > 3*time.Second {
		t.Errorf("the first useful frame came after %s, want 3 s", best)
	}
}

// A terminal that stops reading holds nothing but its own screen; when it reads again,
// one picture brings it up to date.
func TestTerminalThatStopsReading(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start("--workers", "1")
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := pty.Setsize(master, &pty.Winsize{Cols: 200, Rows: 50}); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(provost, "attach")
	c.Env = append(p.env[:len(p.env):len(p.env)], "TERM=xterm-256color")
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	slave.Close()
	// Nobody reads. Much happens meanwhile, and nothing waits.
	var last []string
	for range 6 {
		last = p.submit(2)
		p.allVerified(60 * time.Second)
	}
	if r := p.run("status"); r.code != 0 {
		t.Errorf("status: exit %d: %s", r.code, r.err)
	}
	again := watchTerminal(master, 200, 50)
	if _, err := master.WriteString("J"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the screen shows what is now", func() error {
		s := again.text()
		for _, id := range last {
			if !regexp.MustCompile(`(?m)` + id[:8] + `.*verified`).MatchString(s) {
				return fmt.Errorf("no %s that is verified on\n%s", id, s)
			}
		}
		return nil
	})
}
