package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"app.provost/engine"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

const canary = "canary-9f3b7a"

// Through a real terminal: secrets are typed unseen, land in a private file that goes
// with the command, and in nothing else.
func TestSecretsAreTypedUnseen(t *testing.T) {
	p := newPerson(t)
	me, them, err := pty.Open()
	if err != nil {
		t.Skip("no pseudo terminal: ", err)
	}
	defer me.Close()
	var read string
	d := p.deps()
	d.Stdin, d.Stdout, d.Stderr = them, them, them
	saved := p.home + "/saved.yaml"
	// Each step waits for a word on the terminal, then types. unseen: not before the echo is off.
	type step struct {
		word, line string
		unseen     bool
	}
	steps := []step{
		{"Name: ", "x", false}, {"Tokens, a file", "type", false}, {"token of node 0, not shown: ", canary + "0", true}, {"token of node 1, not shown: ", "", true}, {"nothing was typed", "-", false}, {"not shown: ", canary + "1", true},
		{"line 1: ", "bad", false}, {"no host", "-", false}, {"line 1: ", "h1 10.0.0.1", false}, {"line 2: ", "h2 10.0.0.2", false}, {"line 3: ", "", false},
		{"GPUs, numbers", "1,2", false}, {"in use by Xorg", "-", false}, {"GPUs, numbers", "1,3", false}, {"Type exactly", "there is a history", false}, {"does not match", "-", false}, {"Type exactly", "there is no history", false},
		{"to go on: ", "s " + saved, false}, {"to go on: ", "d", false}, {"to go on: ", "create x", false},
	}
	var seen bytes.Buffer // of the reader until it has ended
	ended := make(chan struct{})
	go func() { // ends when the terminal has no other side any more
		defer close(ended)
		buf, at := make([]byte, 4096), 0
		for {
			n, err := me.Read(buf)
			if err != nil {
				return
			}
			seen.Write(buf[:n])
			for len(steps) > 0 {
				i := strings.Index(seen.String()[at:], steps[0].word)
				if i < 0 {
					break
				}
				at += i + len(steps[0].word)
				if steps[0].unseen && !echoOff(them) {
					t.Errorf("%q: what is typed would be seen", steps[0].word)
					return
				}
				if steps[0].line != "-" { // - types nothing
					io.WriteString(me, steps[0].line+"\n")
				}
				steps = steps[1:]
			}
		}
	}()
	done := make(chan engine.ExitCode, 1)
	go func() { done <- secretApp(p, d, &read)(context.Background()) }()
	var code engine.ExitCode
	select {
	case code = <-done:
	case <-time.After(30 * time.Second):
		code = -1
	}
	them.Close()
	<-ended
	if code != 0 {
		t.Fatalf("exit %d before %+v\n%s", code, steps, seen.String())
	}
	if read != canary+"0\n"+canary+"1\n" {
		t.Errorf("the act read %q", read)
	}
	if strings.Contains(seen.String(), canary) || !strings.Contains(seen.String(), "taken, 14 characters") || !strings.Contains(seen.String(), "what was typed, not shown") || !strings.Contains(seen.String(), "=FILE") {
		t.Errorf("on the terminal:\n%s", seen.String())
	}
	raw, err := os.ReadFile(saved)
	if err != nil || strings.Contains(string(raw), "tokens-file") {
		t.Errorf("saved answers: %v\n%s", err, raw)
	}
	searchFor(t, p.home, canary)
}

// echoOff waits until a terminal shows nothing of what is typed.
func echoOff(f *os.File) bool {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil && s.Lflag&unix.ECHO == 0 {
			return true
		}
	}
	return false
}

// Interrupted or ended while a secret is typed: exit code 5, the terminal shows again
// what is typed, and what was typed before is in no file.
func TestSecretsAreLeftInTheMiddle(t *testing.T) {
	for _, how := range []string{"interrupt", "end"} {
		p := newPerson(t)
		me, them, err := pty.Open()
		if err != nil {
			t.Skip("no pseudo terminal: ", err)
		}
		ctx, stop := context.WithCancelCause(context.Background())
		d := p.deps()
		d.Stdin, d.Stdout, d.Stderr = them, them, them
		ended := make(chan struct{})
		go func() { // ends when the terminal has no other side any more
			defer close(ended)
			var seen strings.Builder
			buf := make([]byte, 4096)
			for _, s := range []struct{ word, line string }{{"Name: ", "x\n"}, {"Tokens, a file", "type\n"}, {"of node 0, not shown: ", canary + "\n"}, {"of node 1, not shown: ", "\x04"}} {
				for !strings.Contains(seen.String(), s.word) {
					n, err := me.Read(buf)
					if err != nil {
						return
					}
					seen.Write(buf[:n])
				}
				if strings.Contains(s.word, "not shown") && !echoOff(them) {
					t.Error("what is typed would be seen")
				}
				if s.line == "\x04" && how == "interrupt" {
					stop(ErrInterrupted)
				} else {
					io.WriteString(me, s.line)
				}
			}
			io.Copy(io.Discard, me)
		}()
		var read string
		code := secretApp(p, d, &read)(ctx)
		s, err := unix.IoctlGetTermios(int(them.Fd()), unix.TCGETS)
		if code != engine.ExitDeclined || err != nil || s.Lflag&unix.ECHO == 0 || read != "" {
			t.Errorf("%s: exit %d, echo %x, %v", how, code, s.Lflag&unix.ECHO, err)
		}
		stop(nil)
		io.WriteString(me, "\n") // ends the read that was not answered, which holds the terminal open
		them.Close()
		<-ended
		me.Close()
		searchFor(t, p.home, canary)
	}
}
