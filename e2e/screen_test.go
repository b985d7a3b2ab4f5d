package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"app.provost/engine"
)

// console is a command on a pseudo terminal of its own.
type console struct {
	t   testing.TB
	cmd *exec.Cmd
	*terminal
	master, slave *os.File
	before        unix.Termios
}

// console starts a command on a terminal of a size. The test holds the other end of
// the terminal too, so that it can look at its settings when the command has ended.
func (p *place) console(cols, rows int, args ...string) *console {
	p.t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Cols: uint16(cols), Rows: uint16(rows)}); err != nil {
		p.t.Fatal(err)
	}
	c := &console{t: p.t, master: master, slave: slave, before: settings(p.t, slave)}
	c.cmd = exec.Command(provost, args...)
	c.cmd.Env = append(p.env[:len(p.env):len(p.env)], "TERM=xterm-256color")
	c.cmd.Dir = p.dir
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = slave, slave, slave
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	c.terminal = watchTerminal(master, cols, rows)
	p.t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
		master.Close()
		slave.Close()
	})
	return c
}

func settings(t testing.TB, f *os.File) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

func (c *console) keys(s string) {
	c.t.Helper()
	if _, err := c.master.WriteString(s); err != nil {
		c.t.Fatal(err)
	}
}

// shows waits until every text is on the screen.
func (c *console) shows(texts ...string) {
	c.t.Helper()
	eventually(c.t, 20*time.Second, fmt.Sprintf("the screen shows %q", texts), func() error {
		s := c.text()
		for _, want := range texts {
			if !strings.Contains(s, want) {
				return fmt.Errorf("no %q on\n%s", want, s)
			}
		}
		return nil
	})
}

// leaves waits until the command has ended, and holds it to a whole terminal: settings
// as before, the first screen, a cursor, no mouse and no paste mode.
func (c *console) leaves(code int) {
	c.t.Helper()
	if got := waitExit(c.t, c.cmd, 20*time.Second); got != code {
		c.t.Errorf("exit %d, want %d\n%s", got, code, c.text())
	}
	c.whole()
}

func (c *console) whole() {
	c.t.Helper()
	if after := settings(c.t, c.slave); after != c.before {
		c.t.Errorf("terminal settings %+v were %+v", after, c.before)
	}
	time.Sleep(100 * time.Millisecond) // the last bytes are on their way to the reader
	raw := c.bytes()
	for on, off := range map[string]string{"\x1b[?1049h": "\x1b[?1049l", "\x1b[?25l": "\x1b[?25h", "\x1b[?2004h": "\x1b[?2004l",
		"\x1b[?1000h": "\x1b[?1000l", "\x1b[?1002h": "\x1b[?1002l", "\x1b[?1003h": "\x1b[?1003l", "\x1b[?1006h": "\x1b[?1006l", "\x1b[?1004h": "\x1b[?1004l"} {
		if i, j := strings.LastIndex(raw, on), strings.LastIndex(raw, off); i >= 0 && j < i {
			c.t.Errorf("%q was sent and not taken back with %q", on, off)
		}
	}
}

// hangUp takes the terminal away, as a lost line does.
func (c *console) hangUp() {
	c.t.Helper()
	c.slave.Close()
	c.master.Close()
}

func (p *place) enginePID() int {
	p.t.Helper()
	s, err := p.look()
	if err != nil {
		p.t.Fatal(err)
	}
	return s.Engine.Value.PID
}

// stat gives a field of /proc/PID/stat by its number, as in proc(5).
func stat(t testing.TB, pid, field int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	rest := string(b[strings.LastIndexByte(string(b), ')')+2:])
	return strings.Fields(rest)[field-3]
}

// On a terminal the engine gets a session of its own, and outlives every way in which
// the screen can end.
func TestEngineOutlivesItsScreen(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := p.console(80, 24, "up", "--workers", "1")
	first.shows("WORKERS", "default")
	pid := p.enginePID()
	if sid, tty := stat(t, pid, 6), stat(t, pid, 7); sid != fmt.Sprint(pid) || tty != "0" {
		t.Errorf("engine %d is in session %s on terminal %s, want a session of its own without one", pid, sid, tty)
	}
	for fd, want := range map[string]string{"0": "/dev/null", "1": "", "2": ""} {
		target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd))
		if err != nil || strings.HasPrefix(target, "/dev/pts/") || want != "" && target != want {
			t.Errorf("descriptor %s of the engine is %s (%v)", fd, target, err)
		}
	}
	first.keys("q")
	first.shows("Leave the dashboard", "keeps running")
	first.keys("\r")
	first.leaves(0)
	for _, want := range []string{fmt.Sprintf("pid %d", pid), "provost attach", "provost down"} {
		if _, after, _ := strings.Cut(first.bytes(), "\x1b[?1049l"); !strings.Contains(after, want) {
			t.Errorf("the shell does not show %q: %q", want, after)
		}
	}

	// Several screens at once; each is counted.
	var many []*console
	for range 3 {
		many = append(many, p.console(80, 24, "attach"))
	}
	for _, c := range many {
		c.shows("WORKERS")
	}
	eventually(t, 10*time.Second, "three viewers are counted", func() error {
		s, err := p.look()
		if err == nil && len(s.Engine.Value.Viewers) != 3 {
			err = fmt.Errorf("viewers %v", s.Engine.Value.Viewers)
		}
		return err
	})
	// up where one runs attaches to it.
	again := p.console(80, 24, "up")
	again.shows("WORKERS")
	again.keys("\x03\x03") // ctrl+c twice
	again.leaves(0)
	// The leader of a session has no shell to suspend to; a dump of goroutines ends the screen and leaves the terminal whole.
	dumped := p.console(80, 24, "attach")
	dumped.shows("WORKERS")
	dumped.keys("\x1a")
	dumped.keys("?")
	dumped.shows("Help")
	dumped.cmd.Process.Signal(syscall.SIGQUIT)
	waitExit(t, dumped.cmd, 10*time.Second)
	dumped.whole()
	if s := dumped.bytes(); strings.Contains(s, "goroutine 1 [") {
		t.Error("a dump of goroutines was written to the terminal")
	}
	many[0].hangUp()
	waitExit(t, many[0].cmd, 10*time.Second)
	many[1].cmd.Process.Signal(syscall.SIGTERM)
	many[1].leaves(0)
	many[2].cmd.Process.Kill()
	many[2].cmd.Wait()
	if now := p.enginePID(); now != pid {
		t.Errorf("the engine had pid %d, and has %d", pid, now)
	}
	eventually(t, 40*time.Second, "no viewer is counted", func() error {
		s, err := p.look()
		if err == nil && len(s.Engine.Value.Viewers) != 0 {
			err = fmt.Errorf("viewers %v", s.Engine.Value.Viewers)
		}
		return err
	})
	// A screen says that its engine has stopped, and ends.
	last := p.console(80, 24, "attach")
	last.shows("WORKERS")
	p.must("down", "--workers")
	eventually(t, 20*time.Second, "the screen ends or says that the engine is gone", func() error {
		if err := last.cmd.Process.Signal(syscall.Signal(0)); err != nil {
			return nil
		}
		s := strings.ToLower(last.text())
		for _, word := range []string{"stopped", "no engine", "lost", "link", "down"} {
			if strings.Contains(s, word) {
				return nil
			}
		}
		return fmt.Errorf("screen:\n%s", last.text())
	})
}

// With --foreground the engine and its screen are one process; a lost line ends the
// screen alone.
func TestForeground(t *testing.T) {
	t.Parallel()
	t.Run("hang-up leaves the engine", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		c := p.console(80, 24, "up", "--foreground", "--workers", "1")
		c.shows("WORKERS")
		pid := c.cmd.Process.Pid
		ids := p.submit(2)
		c.hangUp()
		s := p.allVerified(60 * time.Second)
		if s.Engine.Value.PID != pid {
			t.Errorf("the engine had pid %d, and has %d", pid, s.Engine.Value.PID)
		}
		for _, id := range ids {
			jobRow(t, s, id)
		}
		log := filepath.Join(p.dir, "s/provost/default/logs/engine.log")
		eventually(t, 10*time.Second, "the log says that the screen was lost", func() error {
			if !strings.Contains(read(t, log), "screen.lost") {
				return fmt.Errorf("%s", read(t, log))
			}
			return nil
		})
		second := p.console(80, 24, "attach")
		second.shows("WORKERS")
		second.keys("q")
		second.shows("Leave the dashboard")
		second.keys("\r")
		second.leaves(0)
		c.cmd.Process.Signal(syscall.SIGTERM)
		if code := waitExit(t, c.cmd, 15*time.Second); code != 143 {
			t.Errorf("exit %d, want 143", code)
		}
	})
	t.Run("terminate", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		c := p.console(80, 24, "up", "--foreground", "--workers", "1")
		c.shows("WORKERS")
		c.cmd.Process.Signal(syscall.SIGTERM)
		c.leaves(143)
		if r := p.run("status"); r.code != 8 {
			t.Errorf("status afterwards: exit %d", r.code)
		}
	})
	t.Run("interrupt asks first", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		c := p.console(80, 24, "up", "--foreground", "--workers", "1")
		c.shows("WORKERS")
		c.cmd.Process.Signal(os.Interrupt)
		c.shows("Leave the dashboard", "engine stops")
		if p.enginePID() != c.cmd.Process.Pid {
			t.Error("the engine has stopped")
		}
		time.Sleep(time.Second) // a question that opens by itself takes no key at once
		c.keys("\x1b")
		eventually(t, 10*time.Second, "the question is gone", func() error {
			if s := c.text(); strings.Contains(s, "Leave the dashboard") {
				return fmt.Errorf("screen:\n%s", s)
			}
			return nil
		})
		c.cmd.Process.Signal(syscall.SIGTERM)
		c.leaves(143)
	})
	t.Run("leave", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		c := p.console(80, 24, "up", "--foreground", "--workers", "1")
		c.shows("WORKERS")
		c.keys("q")
		c.shows("Leave the dashboard", "engine stops")
		c.keys("\r")
		c.leaves(0)
		if r := p.run("status"); r.code != 8 {
			t.Errorf("status afterwards: exit %d", r.code)
		}
	})
	t.Run("a start that cannot be", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		p.start("--workers", "1")
		c := p.console(80, 24, "up", "--foreground")
		c.leaves(3)
		if s := c.text(); !strings.Contains(s, "another engine") {
			t.Errorf("screen:\n%s", s)
		}
	})
}

// An engine that cannot be started in the background says why on the terminal.
func TestBackgroundStartSaysWhy(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	path := filepath.Join(p.dir, "s/provost/default")
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "store.db"), []byte("no store"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := p.console(200, 24, "up")
	c.leaves(1)
	if s := c.text(); !strings.Contains(s, "store.db") || !strings.Contains(s, "damaged") {
		t.Errorf("screen:\n%s", s)
	}
}

// Where nothing runs, a person is offered what there is to do; the end of input and
// ctrl+c change nothing.
func TestOffer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for keys, code := range map[string]int{"\x04": 5, "q\n": 0, "3\n": 0, "\x03": 5} {
		c := p.console(80, 24)
		c.shows("practise", "type a number")
		c.keys(keys)
		c.leaves(code)
	}
	if left := p.processes(); len(left) > 0 {
		t.Errorf("processes %v", left)
	}
	c := p.console(80, 24)
	c.shows("type a number")
	c.keys("9\n1\n")
	c.shows("WORKERS")
	if s, err := p.look(); err != nil || s.Engine.Value.Name != "default" {
		t.Errorf("%v", err)
	}
	c.keys("q")
	c.shows("Leave the dashboard")
	c.keys("\r")
	c.leaves(0)
	p.must("down", "--workers")
}

// A pause is asked on a terminal as on the screen: what is missing, the plan, the consent.
func TestPauseIsAskedOnATerminal(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.start("--workers", "2")
	p.workerPIDs()
	for name, answers := range map[string][]string{
		"end of input at once": {"\x04"}, "end of input at the reason": {"45m\n", "\x04"}, "end of input at the consent": {"45m\n", "disk\n", "\x04"},
		"no": {"45m\n", "disk\n", "\x03"},
	} {
		c := p.console(100, 30, "pause", "worker", "w1")
		for i, a := range answers {
			c.shows([]string{"for how long", "why", "type exactly"}[i])
			c.keys(a)
		}
		c.leaves(5)
		if !strings.Contains(c.text(), "nothing was done") {
			t.Errorf("%s: screen:\n%s", name, c.text())
		}
	}
	if rows := p.rows("acts"); len(rows) != 0 {
		t.Errorf("acts %v", rows)
	}
	c := p.console(100, 40, "pause", "worker", "w1")
	c.shows("for how long")
	c.keys("soon\n")
	c.shows("want a length of time")
	c.keys("45m\n")
	c.shows("why")
	c.keys("disk swap\n")
	c.shows("plan ", "type exactly \"1\"")
	c.keys("2\n")
	c.shows("that does not match")
	c.keys("1\n")
	c.leaves(0)
	c.shows("repeat without questions", "--confirm=")
	p.worker("w1", "is paused", inState(engine.WorkerPaused))
}
