package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// turn is one exchange: when ask has come, the line is typed; unseen: once the terminal
// shows nothing of it.
type turn struct {
	ask, line string
	unseen    bool
}

// talk carries out a command on a terminal, typing a line at each turn, and gives what
// was on the terminal and the exit code.
func (p *place) talk(turns []turn, args ...string) (string, int) {
	p.t.Helper()
	c := p.cmd(p.t.Context(), args...)
	c.Stdin, c.Stdout, c.Stderr = nil, nil, nil
	tty, err := pty.Start(c)
	if err != nil {
		p.t.Fatal(err)
	}
	defer tty.Close()
	defer time.AfterFunc(time.Minute, func() { c.Process.Kill() }).Stop() // a question that nobody answers waits for ever
	var seen bytes.Buffer
	at, buf := 0, make([]byte, 4096)
	for {
		n, err := tty.Read(buf)
		seen.Write(buf[:n])
		for len(turns) > 0 {
			i := bytes.Index(seen.Bytes()[at:], []byte(turns[0].ask))
			if i < 0 {
				break
			}
			at += i + len(turns[0].ask)
			if turns[0].unseen {
				raw, err := tty.SyscallConn() // Fd would take the deadline away
				if err != nil {
					p.t.Fatal(err)
				}
				eventually(p.t, 10*time.Second, "the terminal hides what is typed", func() (err error) {
					return errors.Join(raw.Control(func(fd uintptr) {
						var s *unix.Termios
						if s, err = unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil && s.Lflag&unix.ECHO != 0 {
							err = errors.New("it echoes")
						}
					}), err)
				})
			}
			tty.WriteString(turns[0].line)
			turns = turns[1:]
		}
		if err != nil { // the other side is closed
			break
		}
	}
	if len(turns) > 0 {
		c.Process.Kill()
	}
	c.Wait()
	if len(turns) > 0 {
		p.t.Fatalf("never asked %q:\n%s", turns[0].ask, seen.String())
	}
	return seen.String(), c.ProcessState.ExitCode()
}

// Line by line, on a real terminal: left in the middle, taken up again, made and verified.
// No byte moves a cursor or draws.
func TestPlainMakesACluster(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	first := []turn{{ask: "Definition file", line: "\n"}, {ask: "Network, a number or a name", line: "hoodi\n"}, {ask: "Name", line: "mine\n"}, {ask: "Nodes: ", line: "2\n"}, {ask: "want at least 3", line: "4\n"},
		{ask: "two thirds, rounded up", line: ""}, {ask: "Threshold [3]: ", line: "b\n"}, {ask: "Nodes [4]: ", line: "\n"}, {ask: "Threshold [3]: ", line: "\n"}, {ask: "Split existing keys", line: "\x04"}}
	seen, code := p.talk(first, "create", "cluster", "--accessible")
	if code != 5 || !strings.Contains(seen, "Nothing was written.") || !strings.Contains(seen, "Draft kept") {
		t.Fatalf("exit %d\n%s", code, seen)
	}
	if _, err := os.Stat(filepath.Join(p.dir, ".charon")); !os.IsNotExist(err) {
		t.Errorf("something was made: %v", err)
	}
	rest := []turn{{ask: "there is a draft", line: "y\n"}, {ask: "Split existing keys", line: "\n"}, {ask: "Validators [1]", line: "\n"}, {ask: "Compounding", line: "\n"}, {ask: "Deposit amounts", line: "\n"},
		{ask: "Withdrawal address: ", line: wallet + "\n"}, {ask: "to be sure: ", line: wallet + "\n"}, {ask: "Fee recipient", line: "\n"}, {ask: "Directory [.charon/cluster]", line: "\n"}, {ask: "Keymanagers", line: "\n"},
		{ask: "Zipped", line: "\n"}, {ask: "Definition (", line: "\n"}, {ask: "Target gas limit", line: "\n"}, {ask: "Consensus protocol, ", line: "\n"}, {ask: "Lock version, ", line: "\n"}, {ask: "Insecure keys", line: "y\n"},
		{ask: `Type "seen"`, line: "seen\n"}, {ask: "to go on: ", line: "d\n"}, {ask: "A dry run: nothing was done.", line: ""}, {ask: "to go on: ", line: "s mine.yaml\n"}, {ask: "answers kept", line: ""},
		{ask: "to go on: ", line: "create other\n"}, {ask: "That does not match. Wanted: create mine.", line: ""}, {ask: "to go on: ", line: "create mine\n"}, {ask: "repeat without questions:", line: ""}}
	more, code := p.talk(rest, "create", "cluster", "--accessible")
	if code != 0 || strings.ContainsAny(seen+more, "\x1b\a┌│─✔") {
		t.Fatalf("exit %d\n%s%s", code, seen, more)
	}
	p.must("verify", "cluster", ".charon/cluster")
	p.must("create", "cluster", "--answers", "mine.yaml", "--cluster-dir", "again")
	p.must("verify", "cluster", "again")
	if left, _ := filepath.Glob(filepath.Join(p.dir, "s/provost/.drafts/*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// Tokens are typed unseen, reach the keymanagers, and are nowhere else afterwards.
func TestPlainTypesTokensUnseen(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var all [3]keymanager
	var addresses []string
	for i := range all {
		s := httptest.NewServer(&all[i])
		defer s.Close()
		addresses = append(addresses, s.URL)
	}
	const secret = "sesame-0123456789"
	turns := []turn{{ask: "Their tokens, a file", line: "type\n"}}
	for _, a := range addresses {
		turns = append(turns, turn{ask: " at " + a + ", not shown: ", line: secret + "\n", unseen: true}, turn{ask: "taken, 17 characters", line: ""})
	}
	turns = append(turns, turn{ask: "Zipped", line: "\n"}, turn{ask: "Definition (", line: "\n"}, turn{ask: "Target", line: "\n"}, turn{ask: "Consensus protocol, ", line: "\n"}, turn{ask: "Lock version, ", line: "\n"},
		turn{ask: `"seen"`, line: "seen\n"}, turn{ask: "what was typed, not shown", line: ""}, turn{ask: "--keymanager-auth-tokens-file=FILE", line: ""},
		turn{ask: "to go on: ", line: "s kept.yaml\n"}, turn{ask: "to go on: ", line: "create pushed\n"}, turn{ask: "--keymanager-auth-tokens-file=FILE", line: ""})
	seen, code := p.talk(append([]turn{{ask: "Definition file", line: "\n"}, {ask: "Split", line: "\n"}, {ask: "Compounding", line: "\n"}, {ask: "Deposit", line: "\n"}}, turns...),
		append(withAddresses("--nodes", "3", "--threshold", "2", "--num-validators", "2", "--network", "hoodi", "--insecure-keys", "--name", "pushed", "--cluster-dir", "pushed", "--keymanager-addresses", strings.Join(addresses, ",")), "--accessible")...)
	if code != 0 || strings.Contains(seen, secret) || strings.Contains(seen, p.dir+"/r") {
		t.Fatalf("exit %d\n%s", code, seen)
	}
	if all[0].keys != 2 || all[2].keys != 2 {
		t.Errorf("pushed %d and %d keys", all[0].keys, all[2].keys)
	}
	err := filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if raw, err := os.ReadFile(path); err != nil || bytes.Contains(raw, []byte(secret)) {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
