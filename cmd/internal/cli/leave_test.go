package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/flow"

	"github.com/creack/pty"
)

const acceptance = "I accept that the validators of 0x7b2e9c41 may be slashed"

// demanding refuses whole keys until its sentence is given.
type demanding struct{ *fake }

func (d demanding) Preview(ctx context.Context, r engine.Request) (engine.Plan, error) {
	if a, ok := r.Action.(engine.CombineCluster); ok && a.NoSlashingHistory != acceptance {
		return engine.Plan{}, &engine.Problem{Code: engine.CodeNoHistory, Exit: engine.ExitRefused, Doing: "combine", Field: "no-slashing-history", Phrase: acceptance,
			Cause: "what was signed isn't known", Remedy: fmt.Sprintf("make the keys without their history by --no-slashing-history=%q", acceptance)}
	}
	return d.fake.Preview(ctx, r)
}

// The refusal names a sentence, and leads to the line where it is typed.
func TestPlainAsksForASentence(t *testing.T) {
	p := newPerson(t)
	d := p.deps()
	d.OneShot = func() engine.Engine { return demanding{p.fake} }
	var talk bytes.Buffer
	d.Stdin, d.Stdout, d.Stderr = strings.NewReader(text("", "/x/mine", "/x/whole", "", "I accept", "b", "/x/other", acceptance, "combine mine")), io.Discard, &talk
	code := Run(t.Context(), d, []string{"combine"})
	want := engine.CombineCluster{ClusterDir: "/x/mine", OutputDir: "/x/other", NoSlashingHistory: acceptance}
	if code != 0 || len(p.done()) != 1 || !reflect.DeepEqual(p.fake.asked[len(p.fake.asked)-1], want) {
		t.Fatalf("exit %d, asked %#v\n%s", code, p.fake.asked, talk.String())
	}
	for say, n := range map[string]int{"failed: what was signed isn't known": 2, fmt.Sprintf("No history, type exactly %q", acceptance): 3, "No history (may be left empty): ": 1} {
		if got := strings.Count(talk.String(), say); got != n {
			t.Errorf("says %q %d times, want %d\n%s", say, got, n, talk.String())
		}
	}
}

// Off a terminal everything that is missing is listed; with all given nothing is asked; a terminal
// is asked for a passphrase alone without a guide.
func TestLeavingWithoutQuestions(t *testing.T) {
	for args, want := range map[string]string{
		"node export":                        "missing: DIR, --out, --recipient or --passphrase-file",
		"node export n":                      "missing: --out, --recipient or --passphrase-file",
		"node import":                        "missing: FILE, --data-dir, --identity-file or --passphrase-file",
		"node import f --check":              "missing: --identity-file or --passphrase-file",
		"plan node export":                   "missing: DIR, --out",
		"node export a b":                    "accepts at most 1 arg",
		"node export --answers %":            "missing: DIR, --out, --passphrase-file",
		"node import f --answers %":          "missing: --data-dir, --passphrase-file",
		"combine --answers %":                "missing: --cluster-dir",
		"combine a,b --answers %":            "there is a comma in one of a,b",
		"combine a --answers % --output-dir": "needs an argument",
	} {
		p := newPerson(t)
		p.words = "none"
		empty := filepath.Join(p.home, "a.yaml")
		if err := os.WriteFile(empty, []byte("provost_answers: 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, talk := p.run("", strings.Fields(strings.ReplaceAll(args, "%", empty))...)
		if code != engine.ExitUsage || !strings.Contains(talk, want) || len(p.fake.asked) > 0 {
			t.Errorf("%s: exit %d, want %q\n%s", args, code, want, talk)
		}
	}
	for args, want := range map[string]engine.Action{
		"node export /n --out /o --recipient age1x":   engine.ExportNode{Dir: "/n", Out: "/o", Recipients: []string{"age1x"}},
		"node import /f --check --passphrase-file /p": engine.ImportNode{File: "/f", Check: true, PassphraseFile: "/p"},
		"combine /a,b /c":                                 nil, // with ./validator_keys of the working directory
		"combine /a --output-dir /o":                      engine.CombineCluster{Dirs: []string{"/a"}, OutputDir: "/o"},
		"combine --cluster-dir /c --output-dir /o":        engine.CombineCluster{ClusterDir: "/c", OutputDir: "/o"},
		"node import /f --data-dir /d --identity-file /k": engine.ImportNode{File: "/f", Dir: "/d", IdentityFile: "/k"},
	} {
		for _, words := range []string{"none", "tty none"} {
			p := newPerson(t)
			p.words = words
			code, _, talk := p.run("", strings.Fields(args)...)
			if code != 0 || len(p.done()) != 1 || strings.Contains(talk, "Step 1") {
				t.Errorf("%s (%s): exit %d\n%s", args, words, code, talk)
				continue
			}
			if got := p.fake.asked[len(p.fake.asked)-1]; want != nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%s: asked %#v", args, got)
			}
		}
	}
}

// What is saved on the review does the same off a terminal; arguments of the command win over it.
func TestLeavingAnswers(t *testing.T) {
	for _, f := range flow.Leavings() {
		a := samples[f.ID]
		lines, _ := typed(t, f, a)
		p := newPerson(t)
		saved := filepath.Join(p.home, "saved.yaml")
		if code, _, talk := p.run(text(append(lines, "s "+saved, consentOf(f, a))...), command(f)...); code != 0 {
			t.Fatalf("%s: exit %d\n%s", f.ID, code, talk)
		}
		p.words = "none"
		code, _, talk := p.run("", append(command(f), "--answers", saved)...)
		if code != 0 || len(p.done()) != 2 || !reflect.DeepEqual(p.fake.asked[len(p.fake.asked)-1], wanted(t, f, a)) {
			t.Errorf("%s: exit %d\n%s", f.ID, code, talk)
		}
		b := a.Clone()
		for _, k := range f.Keys() {
			if q, _ := f.Field(k); q.Arg {
				b[k] = "/y/other"
			}
		}
		code, _, talk = p.run("", append(command(f), "/y/other", "--answers", saved)...)
		if code != 0 || !reflect.DeepEqual(p.fake.asked[len(p.fake.asked)-1], wanted(t, f, b)) {
			t.Errorf("%s: an argument does not win: exit %d\n%s", f.ID, code, talk)
		}
		line := strings.Join(p.fake.asked[len(p.fake.asked)-1].CommandLine(), " ")
		if !strings.HasPrefix(line, string(f.ID)+" /y/other --") {
			t.Errorf("%s: the command is %s", f.ID, line)
		}
	}
}

// Through the flow a new passphrase is typed unseen, twice, long enough; it goes through a pipe that
// is open for the act and closed after it, and is in no file.
func TestFlowsPassphraseIsTyped(t *testing.T) {
	p := newPerson(t)
	me, them, err := pty.Open()
	if err != nil {
		t.Skip("no pseudo terminal: ", err)
	}
	defer me.Close()
	o := newOpening()
	d := p.deps()
	d.OneShot = func() engine.Engine { return o }
	d.Stdin, d.Stdout, d.Stderr = them, them, them
	saved := p.home + "/saved.yaml"
	type step struct{ word, line string }
	steps := []step{{"Sealed file: ", "/x/o"}, {"line 1: ", ""}, {"Passphrase, a file", "type"},
		{"Passphrase, not shown: ", "short"}, {"It has 5 characters and needs 12", "-"}, {"Passphrase, not shown: ", typedCanary + "1"}, {"Passphrase again, not shown: ", typedCanary + "2"}, {"The two differ", "-"},
		{"Passphrase, not shown: ", typedCanary + "3"}, {"Passphrase again, not shown: ", typedCanary + "3"}, {"taken, 14 characters", "-"},
		{"to go on: ", "2"}, {"line 1: ", ""}, {"Passphrase, a file, or \"type\" to enter it unseen [what was typed]", ""},
		{"to go on: ", "s " + saved}, {"to go on: ", "move n"}}
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
				if steps[0].line != "-" { // - types nothing
					io.WriteString(me, steps[0].line+"\n")
				}
				steps = steps[1:]
			}
		}
	}()
	done := make(chan engine.ExitCode, 1)
	go func() { done <- Run(context.Background(), d, []string{"node", "export", "/x/n", "--backup=false"}) }()
	var code engine.ExitCode
	select {
	case code = <-done:
	case <-time.After(30 * time.Second):
		code = -1
	}
	them.Close()
	<-ended
	if code != 0 || o.read != typedCanary+"3" {
		t.Fatalf("exit %d before %+v, read %q\n%s", code, steps, o.read, seen.String())
	}
	if strings.Contains(seen.String(), typedCanary) || strings.Contains(seen.String(), "/dev/fd") {
		t.Errorf("what was typed, or where, is shown:\n%s", seen.String())
	}
	if _, err := os.Stat(o.paths[0]); err == nil || !strings.HasPrefix(o.paths[0], engine.TypedSecret) {
		t.Errorf("the pipe %s is still open", o.paths[0])
	}
	raw, err := os.ReadFile(saved)
	if err != nil || strings.Contains(string(raw), "passphrase") {
		t.Errorf("saved answers: %v\n%s", err, raw)
	}
	searchFor(t, p.home, typedCanary)
}
