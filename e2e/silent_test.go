package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

// A terminal that never answers a question must not hold any command: bubbletea
// asks for the background colour while it is initialised, and waits five seconds.
func TestCommandsOnASilentTerminal(t *testing.T) {
	p := newPlace(t)
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"--help"}, {"get", "workers"}} {
		best := time.Hour
		for range 3 { // the limit is for the program, not for a busy machine
			cmd := exec.Command(provost, args...)
			cmd.Env = append(p.env, "TERM=xterm-256color", "COLORTERM=truecolor")
			cmd.Dir = p.dir
			began := time.Now()
			tty, err := pty.Start(cmd)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			buf := make([]byte, 4096)
			for {
				n, err := tty.Read(buf)
				out.Write(buf[:n])
				if err != nil {
					break
				}
			}
			cmd.Wait()
			tty.Close()
			best = min(best, time.Since(began))
			if strings.Contains(out.String(), "\x1b") {
				t.Errorf("provost %s sends escape codes: %q", strings.Join(args, " "), out.String())
			}
			if best < 200*time.Millisecond {
				break
			}
		}
		if best >= 200*time.Millisecond {
			t.Errorf("provost %s took %s on a silent terminal, want under 200 ms", strings.Join(args, " "), best)
		}
	}
}
