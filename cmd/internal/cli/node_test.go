package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"app.provost/engine"

	"github.com/creack/pty"
)

// opening is an engine that opens the passphrase of what it is asked to do.
type opening struct {
	*fake
	read  string
	paths []string
	line  []string
}

const typedCanary = "canary-5d1c44"

func newOpening() *opening {
	o := &opening{fake: newFake()}
	o.consent = engine.Consent{Level: "none"} // as the real verbs have it
	return o
}

func (o *opening) Do(ctx context.Context, r engine.Request, d engine.Digest) (engine.Receipt, error) {
	path := ""
	switch a := r.Action.(type) {
	case engine.ExportNode:
		path = a.PassphraseFile
	case engine.ImportNode:
		path = a.PassphraseFile
	}
	o.paths, o.line = append(o.paths, path), r.Action.CommandLine()
	if path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			return engine.Receipt{}, err
		}
		o.read = string(raw)
	}
	return o.fake.Do(ctx, r, d)
}

func TestPassphraseOfAPipe(t *testing.T) {
	for _, args := range [][]string{
		{"node", "export", "n", "--out", "x", "--passphrase-file", "-"},
		{"node", "import", "x", "--data-dir", "n", "--passphrase-file", "-"},
		{"node", "import", "x", "--check", "--passphrase-file=-"},
	} {
		o := newOpening()
		d := scene("none")
		d.OneShot = func() engine.Engine { return o }
		code, out, talk := run(t.Context(), d, typedCanary+"\n", args...)
		if code != 0 || o.read != typedCanary+"\n" {
			t.Fatalf("%v: exit %d, read %q\n%s", args, code, o.read, talk)
		}
		if line := strings.Join(o.line, " "); strings.Contains(line, "passphrase") || strings.Contains(out+talk, typedCanary) {
			t.Errorf("%v: %s\n%s%s", args, line, out, talk)
		}
		if _, err := os.Stat(o.paths[0]); !strings.HasPrefix(o.paths[0], engine.TypedSecret) || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v: the pipe %s is still open: %v", args, o.paths[0], err)
		}
	}
	o := newOpening()
	d := scene("none")
	d.OneShot = func() engine.Engine { return o }
	for what, c := range map[string]struct {
		in   string
		args []string
		says string
	}{
		"nobody to ask":    {"", []string{"node", "export", "n", "--out", "x"}, "--recipient or --passphrase-file"},
		"nobody to ask, 2": {"", []string{"node", "import", "x", "--data-dir", "n"}, "--identity-file or --passphrase-file"},
		"too long":         {strings.Repeat("x", 5000), []string{"node", "export", "n", "--out", "x", "--passphrase-file", "-"}, "at most 4096 bytes"},
		"no file":          {"", []string{"node", "export", "n", "--recipient", "age1x"}, "missing: --out"},
		"no directory":     {"", []string{"node", "import", "x", "--identity-file", "k"}, "missing: --data-dir"},
		"empty":            {"", []string{"node", "export", "", "--out", "x", "--recipient", "age1x"}, "the directory is empty"},
	} {
		if code, _, talk := run(t.Context(), d, c.in, c.args...); code != engine.ExitUsage || !strings.Contains(talk, c.says) || len(o.paths) > 0 {
			t.Errorf("%s: exit %d, %v\n%s", what, code, o.paths, talk)
		}
	}
}

// A passphrase is typed unseen and twice, and taken when both are the same and long enough.
func TestPassphraseIsTypedTwice(t *testing.T) {
	me, them, err := pty.Open()
	if err != nil {
		t.Skip("no pseudo terminal: ", err)
	}
	defer me.Close()
	defer them.Close()
	o := newOpening()
	d := scene("tty none")
	d.OneShot = func() engine.Engine { return o }
	d.Stdin, d.Stdout, d.Stderr, d.Env = them, them, them, []string{"TERM=dumb", "HOME=" + t.TempDir()}
	var mu sync.Mutex
	var seen bytes.Buffer
	steps := []struct{ word, line string }{
		{"passphrase: ", typedCanary + "1"}, {"the same again: ", typedCanary + "2"}, {"they differ", ""},
		{"passphrase: ", "short"}, {"fewer than 12", ""}, {"passphrase: ", typedCanary + "3"}, {"the same again: ", typedCanary + "3"},
	}
	go func() { // ends when the terminal is closed
		buf, at := make([]byte, 4096), 0
		for {
			n, err := me.Read(buf)
			if err != nil {
				return
			}
			mu.Lock()
			seen.Write(buf[:n])
			text := seen.String()
			mu.Unlock()
			for len(steps) > 0 {
				i := strings.Index(text[at:], steps[0].word)
				if i < 0 {
					break
				}
				at += i + len(steps[0].word)
				if steps[0].line != "" {
					time.Sleep(20 * time.Millisecond) // the echo is switched off after the question is written
					io.WriteString(me, steps[0].line+"\n")
				}
				steps = steps[1:]
			}
		}
	}()
	done := make(chan engine.ExitCode, 1)
	go func() { done <- Run(context.Background(), d, []string{"node", "export", "n", "--out", "x"}) }()
	var code engine.ExitCode
	select {
	case code = <-done:
	case <-time.After(20 * time.Second):
		code = -1
	}
	mu.Lock()
	defer mu.Unlock()
	if code != 0 || o.read != typedCanary+"3" {
		t.Fatalf("exit %d, read %q\n%s", code, o.read, seen.String())
	}
	if strings.Contains(seen.String(), typedCanary) {
		t.Errorf("what was typed is shown:\n%s", seen.String())
	}
}
