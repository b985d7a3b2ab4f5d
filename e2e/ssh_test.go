package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// A real sshd session shows the dashboard and is cut in the middle of a job: the
// engine does not notice, the job is verified, and a new login attaches to the same engine.
func TestSSHSessionCutInTheMiddleOfAJob(t *testing.T) {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("needs /usr/sbin/sshd (openssh-server): not installed")
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("needs ssh (openssh-client): not installed")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: an sshd of another user cannot make a session without PAM")
	}
	p := newPlace(t)
	port := serveSSH(t, p, sshd)
	login := func(command string) (*exec.Cmd, *os.File) {
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command("ssh", "-F", "none", "-tt", "-i", filepath.Join(p.dir, "id"), "-p", port, "-o", "StrictHostKeyChecking=no",
			"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", me.Username+"@127.0.0.1", command)
		c.Env = append(os.Environ(), "TERM=xterm-256color")
		tty, err := pty.StartWithSize(c, &pty.Winsize{Rows: 24, Cols: 80})
		if err != nil {
			t.Fatal(err)
		}
		return c, tty
	}
	remote := "env -i " + strings.Join(p.env, " ") + " TERM=xterm-256color LANG=C.UTF-8 " + provost

	first, tty := login(remote + " up --workers 1")
	screen := watchTerminal(tty, 80, 24)
	eventually(t, 30*time.Second, "the dashboard is drawn over ssh", func() error {
		if s := screen.text(); !strings.Contains(s, "WORKERS") {
			return fmt.Errorf("screen:\n%s", s)
		}
		return nil
	})
	engines := byWord(p.processes(), "up")
	workers := byWord(p.processes(), "internal-worker")
	// Many jobs, so that one is in hand when the line is cut.
	args := []string{"submit", "job", "--zkey", filepath.Join(p.dir, "demo/large.zkey")}
	for range 4 {
		args = append(args, "--witness", filepath.Join(p.dir, "demo/large-1.wtns"))
	}
	p.must(args...)
	eventually(t, 20*time.Second, "a job is in hand", func() error {
		if out := p.must("get", "jobs", "state=leased", "-o", "name"); out == "" {
			return fmt.Errorf("none leased")
		}
		return nil
	})
	// The line is cut: the client is gone without a word, sshd closes the terminal.
	first.Process.Kill()
	first.Wait()
	tty.Close()
	eventually(t, 10*time.Second, "the screen of the cut line ends", func() error {
		for _, pid := range p.processes() {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if f := strings.Fields(string(b)); len(f) > 6 && f[6] != "0" { // has a controlling terminal
				return fmt.Errorf("process %d is still on a terminal", pid)
			}
		}
		return nil
	})
	for _, pid := range append(append([]int{}, workers...), headless(engines)...) {
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("process %d did not survive the cut line: %v", pid, err)
		}
	}
	eventually(t, 60*time.Second, "all jobs are verified", func() error {
		if out := p.must("get", "jobs", "state!=verified", "-o", "name"); out != "" {
			return fmt.Errorf("open: %s", out)
		}
		return nil
	})
	if n := len(p.rows("jobs")); n != 4 {
		t.Errorf("%d jobs, want 4", n)
	}
	second, tty2 := login(remote + " attach")
	again := watchTerminal(tty2, 80, 24)
	eventually(t, 20*time.Second, "the second login attaches", func() error {
		if s := again.text(); !strings.Contains(s, "WORKERS") {
			return fmt.Errorf("screen:\n%s", s)
		}
		return nil
	})
	second.Process.Kill()
	second.Wait()
	tty2.Close()
}

// headless keeps the processes that have no controlling terminal: engines.
func headless(pids []int) []int {
	var out []int
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if f := strings.Fields(string(b)); len(f) > 6 && f[6] == "0" {
			out = append(out, pid)
		}
	}
	return out
}

func serveSSH(t *testing.T, p *place, sshd string) (port string) {
	t.Helper()
	for _, k := range []string{"host", "id"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(p.dir, k)).CombinedOutput(); err != nil {
			t.Skipf("ssh-keygen: %v: %s", err, out)
		}
	}
	os.MkdirAll("/run/sshd", 0o755) // sshd refuses to start without its privilege-separation directory
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	conf := fmt.Sprintf(`Port %s
ListenAddress 127.0.0.1
HostKey %[2]s/host
AuthorizedKeysFile %[2]s/id.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
PermitUserEnvironment no
ClientAliveInterval 1
`, port, p.dir)
	if err := os.WriteFile(filepath.Join(p.dir, "sshd_config"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(sshd, "-D", "-e", "-f", filepath.Join(p.dir, "sshd_config"))
	var log strings.Builder
	c.Stderr = &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", log.String())
		}
	})
	eventually(t, 10*time.Second, "sshd listens", func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return port
}
