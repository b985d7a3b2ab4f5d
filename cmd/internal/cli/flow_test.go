package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"app.provost/engine"
	"app.provost/engine/flow"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const goodAddress = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

// person is a run of a command on a terminal.
type person struct {
	home  string
	fake  *fake
	words string // of scene
	env   []string
	// refuse: how many times Preview refuses an action because of a field.
	refuse map[string]int
}

// refusing is the fake with a person's refusals.
type refusing struct {
	*fake
	p *person
}

func (r refusing) Preview(ctx context.Context, q engine.Request) (engine.Plan, error) {
	for field, n := range r.p.refuse {
		if n > 0 {
			r.p.refuse[field]--
			return engine.Plan{}, &engine.Problem{Code: engine.CodeClusterExists, Exit: engine.ExitRefused, Doing: q.Action.Doing(), Field: field, Cause: "--" + field + ": it holds a cluster already", Remedy: "choose another"}
		}
	}
	return r.fake.Preview(ctx, q)
}

func newPerson(t *testing.T) *person {
	return &person{home: t.TempDir(), fake: newFake(), words: "tty none"}
}

func (p *person) deps() Deps {
	d := scene(p.words)
	d.OneShot = func() engine.Engine { return refusing{p.fake, p} }
	d.Env = append([]string{"TERM=dumb", "HOME=" + p.home, "XDG_STATE_HOME=" + p.home + "/state", "XDG_RUNTIME_DIR=" + p.home, "XDG_CONFIG_HOME=" + p.home}, p.env...)
	return d
}

func (p *person) run(in string, args ...string) (code engine.ExitCode, out, talk string) {
	d := p.deps()
	var o, e bytes.Buffer
	d.Stdin, d.Stdout, d.Stderr = strings.NewReader(in), &o, &e
	code = Run(context.Background(), d, args)
	return code, o.String(), e.String()
}

// done are the actions that were carried out.
func (p *person) done() []engine.Receipt {
	var out []engine.Receipt
	for _, r := range p.fake.done {
		out = append(out, r)
	}
	return out
}

func (p *person) drafts(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob(p.home + "/state/provost/.drafts/*")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// samples are answers that are right, for each flow.
var samples = map[flow.ID]flow.Answers{
	flow.CreateClusterID: {"network": "hoodi", "name": "hoodi-b", "nodes": "4", "num-validators": "2", "withdrawal-addresses": goodAddress,
		"fee-recipient-addresses": "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "cluster-dir": "/x/hoodi-b"},
	flow.CreateWorkersID: {"dir": "/x/farm", "profile": "quil-2.1.0.22", "cluster-name": "farm", "machine": "name=m01,address=10.0.0.1,threads=64,ram=128GiB\nname=m02,address=10.0.0.2,threads=64", "keep-free": "0"},
	flow.CreateProverID: {"profile": "zkwasm-0.0.14", "dir": "/x/provers", "name": "gpu-a", "server": "https://rpc.zkwasmhub.com",
		"gpus": "GPU-5d1b7a2e-0000-4000-8000-000000000001,GPU-5d1b7a2e-0000-4000-8000-000000000002", "key-files": "/x/a.key,/x/b.key"},
	flow.CombineID:    {"dirs": "/x/node0,/x/node1,/x/node2", "output-dir": "/x/whole"},
	flow.NodeExportID: {"dir": "/x/node2", "out": "/x/node2.age", "recipient": "age1x\nssh-rsa AAAA ana"},
	flow.NodeImportID: {"file": "/x/node2.age", "data-dir": "/x/node2", "passphrase-file": "/x/passphrase"},
}

// command are the words of a flow.
func command(f flow.Flow) []string { return strings.Fields(string(f.ID)) }

// typed is what a person types to give these answers, one line for each question, up to
// the checks; with asked keys.
func typed(t *testing.T, f flow.Flow, a flow.Answers) (lines []string, keys []flow.Key) {
	t.Helper()
	w := flow.NewWalk(flow.Session{Flow: f})
	for {
		_, q, ok := w.Question()
		if !ok {
			return lines, keys
		}
		v := a[q.Key]
		keys = append(keys, q.Key)
		switch {
		case q.Kind == flow.Rows:
			for row := range strings.SplitSeq(v, "\n") {
				if row != "" {
					lines = append(lines, row)
					keys = append(keys, q.Key)
				}
			}
			lines = append(lines, "")
		case q.Kind == flow.Bool:
			lines = append(lines, map[string]string{"true": "y", "false": "n", "": ""}[v])
		case q.Twice && v != "":
			lines = append(lines, v, v)
			keys = append(keys, q.Key)
		default:
			lines = append(lines, v)
		}
		if err := w.Answer(v); err != nil {
			t.Fatalf("%s = %q: %v", q.Key, v, err)
		}
	}
}

func text(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

// consentOf is what is typed to agree. The plans of the fake ask for nothing, so it is yes
// where the flow asks for nothing either.
func consentOf(f flow.Flow, a flow.Answers) string {
	return cmp.Or(f.Consent(f.Complete(flow.Facts{}, a)), "yes")
}

func wanted(t *testing.T, f flow.Flow, a flow.Answers) engine.Action {
	t.Helper()
	act, err := f.Build(f.Complete(flow.Facts{}, a))
	if err != nil {
		t.Fatal(err)
	}
	return act
}

// Keys are flags of the command and the other way round, and what Build gives is read
// back from its command line.
func TestFlowsFitTheirCommands(t *testing.T) {
	root := newApp(Deps{}).tree()
	for _, f := range flow.All() {
		c, rest, err := root.Find(command(f))
		if err != nil || len(rest) > 0 {
			t.Errorf("%s is no command: %v", f.ID, err)
			continue
		}
		for _, k := range f.Keys() {
			if q, _ := f.Field(k); q.Arg {
				if !strings.Contains(c.Use, strings.TrimSuffix(f.Name(k), "S")) {
					t.Errorf("%s has no argument %s: %s", f.ID, f.Name(k), c.Use)
				}
			} else if c.Flags().Lookup(string(k)) == nil {
				t.Errorf("%s has no flag --%s", f.ID, k)
			}
		}
		c.LocalNonPersistentFlags().VisitAll(func(fl *pflag.Flag) {
			if !fl.Hidden && !slices.Contains(f.Keys(), flow.Key(fl.Name)) && !slices.Contains([]string{"answers", "save-answers", "help", "exit-code"}, fl.Name) {
				t.Errorf("%s does not ask for --%s", f.ID, fl.Name)
			}
		})
		for n := range 32 {
			a := samples[f.ID].Clone()
			for i, k := range f.Keys() {
				if q, _ := f.Field(k); q.Kind == flow.Bool && (n>>(i%5))&1 == 1 {
					a[k] = "true"
				}
			}
			act := wanted(t, f, a)
			got, err := Parse(act.CommandLine())
			if err != nil || !reflect.DeepEqual(got, act) {
				t.Fatalf("%s: %s\n got %#v, %v\nwant %#v", f.ID, engine.ShellLine(act.CommandLine()), got, err, act)
			}
		}
	}
}

func TestPlainForward(t *testing.T) {
	for _, f := range flow.All() {
		a := samples[f.ID]
		lines, _ := typed(t, f, a)
		p := newPerson(t)
		code, out, talk := p.run(text(append(lines, consentOf(f, a))...), command(f)...)
		want := wanted(t, f, a)
		if code != 0 || len(p.done()) != 1 || !reflect.DeepEqual(p.fake.asked[len(p.fake.asked)-1], want) || out == "" {
			t.Fatalf("%s: exit %d\n%s\n%#v", f.ID, code, talk, p.fake.asked)
		}
		for _, say := range []string{f.Title, f.Needs, f.Makes, "checks.", "review.", "repeat without questions:\n  provost " + engine.ShellLine(want.CommandLine())} {
			if !strings.Contains(talk, say) {
				t.Errorf("%s: does not say %q\n%s", f.ID, say, talk)
			}
		}
		if strings.ContainsAny(talk, "\x1b\r\a┌│─●✔") {
			t.Errorf("%s: draws:\n%s", f.ID, talk)
		}
		if d := p.drafts(t); len(d) > 0 {
			t.Errorf("%s: left %v", f.ID, d)
		}
		// The equivalent command does the same without a question.
		p = newPerson(t)
		p.words = "none"
		code, _, talk = p.run("", want.CommandLine()...)
		if code != 0 || !reflect.DeepEqual(p.fake.asked[len(p.fake.asked)-1], want) || strings.Contains(talk, "Step") {
			t.Errorf("%s: the command: exit %d\n%s", f.ID, code, talk)
		}
	}
}

// The input ends, or the person stops, at each line: exit code 5, nothing is done, a
// draft is kept from the second step on, and the next run goes on with it.
func TestPlainEndsAtEachQuestion(t *testing.T) {
	for _, f := range flow.All() {
		a := samples[f.ID]
		lines, _ := typed(t, f, a)
		for n := range len(lines) + 1 {
			how := []string{"end", "unfinished", "q"}[n%3]
			if n == len(lines) {
				how = "unfinished" // of all, on the consent
			}
			p := newPerson(t)
			in := strings.Join(lines[:n], "\n")
			if n > 0 {
				in += "\n"
			}
			switch how {
			case "unfinished": // the last line lacks its end: nobody pressed enter
				in += consentOf(f, a)
			case "q":
				in += "q\n"
			}
			code, _, talk := p.run(in, command(f)...)
			if code != engine.ExitDeclined || len(p.done()) > 0 || !strings.Contains(talk, "Nothing was written.") {
				t.Fatalf("%s: %s after %d lines: exit %d, done %v\n%s", f.ID, how, n, code, p.done(), talk)
			}
			if (len(p.drafts(t)) > 0) != strings.Contains(talk, "Draft kept") {
				t.Errorf("%s: %s after %d lines: drafts %v\n%s", f.ID, how, n, p.drafts(t), talk)
			}
		}
		// Left at the review, gone on with: only checks and review remain.
		p := newPerson(t)
		p.run(text(lines...), command(f)...)
		code, _, talk := p.run(text("y", consentOf(f, a)), command(f)...)
		if !strings.Contains(talk, "there is a draft of 2026-03-02 11:04 UTC") {
			t.Errorf("%s: no draft is offered:\n%s", f.ID, talk)
		}
		if code != 0 || len(p.done()) != 1 || !reflect.DeepEqual(p.fake.asked[len(p.fake.asked)-1], wanted(t, f, a)) {
			t.Errorf("%s: going on: exit %d\n%s", f.ID, code, talk)
		}
		if d := p.drafts(t); len(d) > 0 {
			t.Errorf("%s: left %v", f.ID, d)
		}
	}
}

// From each question back and forth again, with wrong values typed on the way.
func TestPlainBack(t *testing.T) {
	for _, f := range flow.All() {
		a := samples[f.ID]
		lines, keys := typed(t, f, a)
		for n := range lines {
			var in []string
			for i, l := range lines {
				if i == n {
					q, _ := f.Field(keys[i])
					in = append(in, "?", "b")
					switch {
					case i == 0:
					case keys[i] == keys[i-1]: // the second typing, or a later row: back to the first
						if q.Kind == flow.Rows {
							in = append(in, lines[i-1])
						} else {
							in = append(in, l)
						}
					case i > 1 && keys[i-1] == keys[i-2]: // the question before takes several lines: keep it
						in = append(in, "")
					default:
						in = append(in, "")
					}
				}
				in = append(in, l)
			}
			p := newPerson(t)
			code, _, talk := p.run(text(append(in, consentOf(f, a))...), command(f)...)
			if code != 0 || !reflect.DeepEqual(p.fake.asked[len(p.fake.asked)-1], wanted(t, f, a)) {
				t.Fatalf("%s: back at %s (line %d): exit %d\n%s", f.ID, keys[n], n, code, talk)
			}
			if !strings.Contains(talk, `"=b" is the letter b itself`) {
				t.Errorf("%s: no help at %s", f.ID, keys[n])
			}
		}
	}
}

func TestPlainWrongAnswers(t *testing.T) {
	f := flow.CreateCluster()
	a := samples[f.ID]
	lines, keys := typed(t, f, a)
	wrong := map[flow.Key]struct{ value, say string }{
		"definition-file":      {"hoodi", "want a path or an https:// address"},
		"network":              {"holesky", `Network: "holesky" is none of`},
		"nodes":                {"2", "Nodes: \"2\": want at least 3, as in 4"},
		"threshold":            {"5", "Threshold: 5: 4 nodes never give 5 signatures"},
		"num-validators":       {"0", "Validators: \"0\": want at least 1"},
		"compounding":          {"maybe", "Compounding: answer yes or no"},
		"deposit-amounts":      {"1", "a validator needs 32"},
		"withdrawal-addresses": {goodAddress[:41], "1 more of 40 hex digits"},
		"target-gas-limit":     {"1", "at least 5000"},
	}
	var in, says []string
	done := map[flow.Key]bool{}
	for i, l := range lines {
		if w, ok := wrong[keys[i]]; ok && !done[keys[i]] {
			done[keys[i]] = true
			in, says = append(in, w.value), append(says, w.say)
			if keys[i] == "withdrawal-addresses" { // and the two typings differ
				in, says = append(in, l, strings.ToLower(l)), append(says, "The two differ at character 5")
			}
		}
		in = append(in, l)
	}
	if len(done) != len(wrong) {
		t.Errorf("asked %v", keys)
	}
	p := newPerson(t)
	code, _, talk := p.run(text(append(in, "yes", "y", "Create hoodi-b", "", "create hoodi-b")...), "create", "cluster")
	if code != 0 || !reflect.DeepEqual(p.fake.asked[len(p.fake.asked)-1], wanted(t, f, a)) {
		t.Fatalf("exit %d\n%s", code, talk)
	}
	for _, say := range append(says, "That does not match. Wanted: create hoodi-b. You typed: yes.", "You typed: Create hoodi-b.") {
		if !strings.Contains(talk, say) {
			t.Errorf("does not say %q\n%s", say, talk)
		}
	}
}

// An empty line is an answer only to a question that has a value in brackets.
func TestPlainNeedsAnAnswer(t *testing.T) {
	p := newPerson(t)
	code, _, talk := p.run(text("", "hoodi", "", "", "", ""), "create", "cluster")
	if code != engine.ExitDeclined || strings.Count(talk, "Nodes: a number is needed, as in 4") != 3 {
		t.Fatalf("exit %d\n%s", code, talk)
	}
}

func TestPlainReview(t *testing.T) {
	f := flow.CreateCluster()
	a := samples[f.ID].Clone()
	lines, _ := typed(t, f, a)
	p := newPerson(t)
	p.refuse = map[string]int{"cluster-dir": 1} // the engine refuses it once
	saved := filepath.Join(p.home, "my answers.yaml")
	in := append(lines, "/x/other", "d", "s "+saved, "s "+saved, "99", "1", "", "", "renamed", "s", "create hoodi-b", "create renamed")
	code, _, talk := p.run(text(in...), "create", "cluster")
	a["cluster-dir"], a["name"] = "/x/other", "renamed"
	if code != 0 || !reflect.DeepEqual(p.fake.asked[len(p.fake.asked)-1], wanted(t, f, a)) {
		t.Fatalf("exit %d\n%s", code, talk)
	}
	for _, say := range []string{"failed: --cluster-dir: it holds a cluster already; choose another", "A dry run: nothing was done.", "writes", "answers kept: " + saved,
		"is there already", "There is no step 99", "You typed: create hoodi-b"} {
		if !strings.Contains(talk, say) {
			t.Errorf("does not say %q\n%s", say, talk)
		}
	}
	raw, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(saved); info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	// The saved answers do the same without a question, off a terminal.
	p2 := newPerson(t)
	p2.words = "none"
	code, _, talk = p2.run("", "create", "cluster", "--answers", saved, "--name=renamed")
	if code != 0 || !reflect.DeepEqual(p2.fake.asked[len(p2.fake.asked)-1], wanted(t, f, a)) {
		t.Errorf("exit %d\n%s\n%s", code, talk, raw)
	}
}

func TestAnswersFile(t *testing.T) {
	f := flow.CreateCluster()
	a := samples[f.ID]
	p := newPerson(t)
	write := func(text string) string {
		name := filepath.Join(p.home, "a.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	whole := "provost_answers: 1\nnetwork: hoodi\nname: hoodi-b\nnodes: 4\nnum-validators: 2\nwithdrawal-addresses: [\"" + goodAddress + "\"]\nfee-recipient-addresses: \"" + a["fee-recipient-addresses"] + "\"\ncluster-dir: /x/hoodi-b\n"
	last := func() engine.Action { return p.fake.asked[len(p.fake.asked)-1] }

	// Whole: nothing is asked, on a terminal or off.
	for _, p.words = range []string{"none", "none tty"} {
		code, _, talk := p.run("", "create", "cluster", "--answers", write(whole))
		if code != 0 || !reflect.DeepEqual(last(), wanted(t, f, a)) || strings.Contains(talk, "Step") {
			t.Errorf("%s: exit %d\n%s", p.words, code, talk)
		}
	}
	p.words = "none"
	if code, _, talk := p.run(whole, "create", "cluster", "--answers", "-"); code != 0 || !reflect.DeepEqual(last(), wanted(t, f, a)) {
		t.Errorf("from standard input: exit %d\n%s", code, talk)
	}
	p.words = "none tty"
	if code, _, talk := p.run(whole, "create", "cluster", "--answers", "-"); code != engine.ExitUsage || !strings.Contains(talk, "is a terminal") {
		t.Errorf("from a terminal: exit %d\n%s", code, talk)
	}
	// A flag wins, a variable too, and a file over a default.
	p.env = []string{"CHARON_NUM_VALIDATORS=3"}
	code, _, talk := p.run("", "create", "cluster", "--answers", write(whole), "--nodes=7")
	b := a.Clone()
	b["nodes"], b["num-validators"] = "7", "3"
	if code != 0 || !reflect.DeepEqual(last(), wanted(t, f, b)) {
		t.Errorf("exit %d\n%s\n%#v", code, talk, last())
	}
	p.env = nil
	// Plan: nothing is done.
	n := len(p.fake.done)
	code, out, talk := p.run("", "plan", "create", "cluster", "--answers", write(whole))
	if code != 0 || len(p.fake.done) != n || !strings.Contains(out, "plan ") || !reflect.DeepEqual(last(), wanted(t, f, a)) {
		t.Errorf("plan: exit %d\n%s%s", code, out, talk)
	}
	// Partial: off a terminal the missing flags are listed; on one only they are asked.
	part := strings.ReplaceAll(whole, "nodes: 4\n", "")
	part = strings.Replace(part, "withdrawal", "# withdrawal", 1)
	p.words = "none"
	code, _, talk = p.run("", "create", "cluster", "--answers", write(part))
	if code != engine.ExitUsage || !strings.Contains(talk, "missing: --nodes, --withdrawal-addresses") {
		t.Errorf("partial: exit %d\n%s", code, talk)
	}
	p.words = "none tty"
	code, _, talk = p.run(text("4", goodAddress, goodAddress, "create hoodi-b"), "create", "cluster", "--answers", write(part))
	if code != 0 || !reflect.DeepEqual(last(), wanted(t, f, a)) || strings.Contains(talk, "Network, a number") {
		t.Errorf("partial: exit %d\n%s", code, talk)
	}
	if !strings.Contains(talk, "Network: hoodi ("+write(part)+" line 2)") {
		t.Errorf("the review does not say where an answer came from:\n%s", talk)
	}
	// The words that confirm are not among what is missing: the engine says why they are needed.
	p.words = "none"
	code, _, talk = p.run("", "create", "cluster", "--answers", write(strings.Replace(whole, "num-validators: 2", "split-existing-keys: true\nsplit-keys-dir: /x/old", 1)))
	if got, _ := last().(engine.CreateCluster); code != 0 || !got.SplitExistingKeys || got.NoSlashingHistory != "" {
		t.Errorf("split: exit %d\n%s\n%#v", code, talk, got)
	}
	// Wrong ones: all are told, with their lines; nothing is done.
	n = len(p.fake.done)
	for text, want := range map[string]string{
		whole + "node: 3\n": `line 9: unknown key "node"; did you mean "nodes"?`,
		strings.Replace(whole, "nodes: 4", "nodes: 2", 1):                                    "--nodes: \"2\": want at least 3, as in 4; correct line 4 of ",
		strings.Replace(whole, "hoodi\n", "holesky\n", 1):                                    "--network: \"holesky\" is none of",
		whole + "threshold: 2\n":                                                             "--allow-low-threshold: then the threshold has to be 3 or more",
		strings.Replace(whole, "network: hoodi", "network: mainnet\ninsecure-keys: true", 1): "--insecure-keys: ",
		"provost_answers: 9\n":                                                               "this program reads version 1",
	} {
		for _, p.words = range []string{"none", "none tty"} {
			code, _, talk := p.run("", "create", "cluster", "--answers", write(text))
			if code != engine.ExitUsage || !strings.Contains(talk, want) {
				t.Errorf("want %q: exit %d\n%s", want, code, talk)
			}
		}
	}
	if code, _, talk := p.run("", "create", "cluster", "--answers", p.home+"/none.yaml"); code != engine.ExitUsage || !strings.Contains(talk, "no such file") {
		t.Errorf("exit %d\n%s", code, talk)
	}
	if len(p.fake.done) != n {
		t.Error("something was done")
	}
	// Saving from flags alone.
	saved := filepath.Join(p.home, "saved.yaml")
	words := append(wanted(t, f, a).CommandLine(), "--save-answers", saved)
	if code, _, talk := p.run("", words...); code != 0 || !strings.Contains(talk, "answers kept: "+saved) {
		t.Errorf("exit %d\n%s", code, talk)
	}
	if code, _, talk := p.run("", "create", "cluster", "--answers", saved); code != 0 || !reflect.DeepEqual(last(), wanted(t, f, a)) {
		t.Errorf("exit %d\n%s", code, talk)
	}
	if code, _, talk := p.run("", words...); code != engine.ExitUsage || !strings.Contains(talk, "is there already") {
		t.Errorf("overwrote: exit %d\n%s", code, talk)
	}
}

// Off a terminal, with --no-input and in a plan nothing is asked.
func TestNobodyToAsk(t *testing.T) {
	for _, c := range []struct {
		words string
		args  []string
	}{{"none", nil}, {"none tty", []string{"--no-input"}}, {"none", []string{"--accessible"}}} {
		p := newPerson(t)
		p.words = c.words
		code, _, talk := p.run(text("hoodi"), append([]string{"create", "cluster"}, c.args...)...)
		if code != engine.ExitUsage || !strings.Contains(talk, "missing: --nodes, --withdrawal-addresses, --fee-recipient-addresses") {
			t.Errorf("%v: exit %d\n%s", c, code, talk)
		}
	}
	p := newPerson(t)
	if code, _, talk := p.run("", "plan", "create", "cluster"); code != engine.ExitUsage || !strings.Contains(talk, "missing: --nodes") {
		t.Errorf("plan: exit %d\n%s", code, talk)
	}
}

// The screen leads where there is one and nobody asked for plain lines.
func TestScreenOrLines(t *testing.T) {
	a := samples[flow.CreateClusterID]
	for _, c := range []struct {
		env    []string
		args   []string
		config string
		screen bool
	}{
		{[]string{"TERM=xterm"}, nil, "", true},
		{[]string{"TERM=dumb"}, nil, "", false},
		{[]string{"TERM="}, nil, "", false},
		{[]string{"TERM=xterm", "PROVOST_ACCESSIBLE=1"}, nil, "", false},
		{[]string{"TERM=xterm"}, []string{"--accessible"}, "", false},
		{[]string{"TERM=xterm"}, []string{"--no-tui"}, "", false},
		{[]string{"TERM=xterm"}, nil, "accessible: true\n", false},
		{[]string{"TERM=xterm"}, nil, "accessible: false\n", true},
	} {
		p := newPerson(t)
		p.env = c.env
		d := p.deps()
		var shown *flow.Session
		d.Guide = func(ctx context.Context, s flow.Session, _ ScreenOptions) (flow.Outcome, error) {
			shown = &s
			full := s.Flow.Complete(s.Facts, a)
			act, plan, err := s.Preview(ctx, full)
			return flow.Outcome{Answers: full, Action: act, Plan: plan}, err
		}
		args := append([]string{"create", "cluster", "--nodes=4"}, c.args...)
		if c.config != "" {
			name := filepath.Join(p.home, "provost.yaml")
			os.WriteFile(name, []byte(c.config), 0o600)
			args = append(args, "--config", name)
		}
		var talk bytes.Buffer
		d.Stdin, d.Stdout, d.Stderr = strings.NewReader(""), io.Discard, &talk
		code := Run(context.Background(), d, args)
		if (shown != nil) != c.screen || c.screen != (code == 0) {
			t.Errorf("%v: screen %v, exit %d\n%s", c, shown != nil, code, talk.String())
		}
		if shown != nil && (shown.Answers["nodes"] != "4" || shown.From["nodes"] != "--nodes" || len(p.done()) != 1) {
			t.Errorf("%v: %+v", c, shown.Answers)
		}
	}
}

func TestDraftIsPrivateAndForgiving(t *testing.T) {
	p := newPerson(t)
	if code, _, _ := p.run(text("", "hoodi", "x", "4", "3"), "create", "cluster"); code != engine.ExitDeclined {
		t.Fatal(code)
	}
	d := p.drafts(t)
	if len(d) != 1 {
		t.Fatal(d)
	}
	if info, err := os.Stat(d[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(d[0])); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	// A flag wins over the draft; b goes back into what was answered before.
	code, _, talk := p.run(text("y", "b", "q"), "create", "cluster", "--name=y")
	if code != engine.ExitDeclined || !strings.Contains(talk, "Step 3 of 8") || !strings.Contains(talk, "Threshold [3]") {
		t.Errorf("exit %d\n%s", code, talk)
	}
	// Not wanted: begin anew.
	code, _, talk = p.run(text("n", "q"), "create", "cluster")
	if code != engine.ExitDeclined || !strings.Contains(talk, "Step 1 of 8") {
		t.Errorf("exit %d\n%s", code, talk)
	}
	for _, bad := range []string{"", "provost_answers: 7\n", "\x00", "provost_answers: 1\nnonsense: 1\n"} {
		os.WriteFile(d[0], []byte(bad), 0o600)
		code, _, talk := p.run(text("q"), "create", "cluster")
		if code != engine.ExitDeclined || !strings.Contains(talk, "is left out") || !strings.Contains(talk, "Step 1 of 8") {
			t.Errorf("%q: exit %d\n%s", bad, code, talk)
		}
	}
	os.Remove(d[0])
	if err := os.Symlink("/etc/passwd", d[0]); err != nil {
		t.Fatal(err)
	}
	if _, _, talk := p.run(text("q"), "create", "cluster"); !strings.Contains(talk, "no plain file") {
		t.Errorf("followed a link:\n%s", talk)
	}
	// No place for drafts: said once, and nothing stops.
	p = newPerson(t)
	os.WriteFile(p.home+"/state", nil, 0o600)
	f := flow.CreateCluster()
	lines, _ := typed(t, f, samples[f.ID])
	code, _, talk = p.run(text(append(lines, "create hoodi-b")...), "create", "cluster")
	if code != 0 || strings.Count(talk, "no draft: ") != 1 {
		t.Errorf("exit %d\n%s", code, talk)
	}
}

// secretFlow is a flow of a test with every kind of field.
func secretFlow() flow.Flow {
	return flow.Flow{ID: "create cluster", Title: "Try", Needs: "n", Makes: "m", Takes: "t",
		Steps: []flow.Step{
			{ID: "one", Title: "one", Fields: []flow.Field{
				{Key: "name", Title: "Name", Kind: flow.Text},
				{Key: "keymanager-auth-tokens-file", Title: "Tokens", Kind: flow.SecretFile, Secrets: func(flow.Answers) []string { return []string{"token of node 0", "token of node 1"} }},
			}},
			{ID: "two", Title: "two", Fields: []flow.Field{
				{Key: "hosts", Title: "Hosts", Kind: flow.Rows, Check: func(v string, _ flow.Answers) error {
					if strings.Contains(v, "bad") {
						return fmt.Errorf("%s: no host", v)
					}
					return nil
				}},
				{Key: "gpus", Title: "GPUs", Kind: flow.Many, Options: func(flow.Facts, flow.Answers) []flow.Option {
					return []flow.Option{{Value: "GPU-a", Title: "a"}, {Value: "GPU-b", Title: "b", Refused: "in use by Xorg"}, {Value: "GPU-c", Title: "c"}}
				}},
				{Key: "sure", Title: "Sure", Kind: flow.Phrase, Phrase: func(flow.Answers) string { return "there is no history" }},
			}},
		},
		Consent: func(a flow.Answers) string { return "create " + a["name"] },
		Build: func(a flow.Answers) (engine.Action, error) {
			return engine.CreateCluster{Name: a["name"], Dir: a["keymanager-auth-tokens-file"], ConsensusProtocol: a["hosts"] + "|" + a["gpus"]}, nil
		}}
}

// command of a test around secretFlow. read is what the act finds in the secret file.
func secretApp(p *person, d Deps, read *string) func(ctx context.Context) engine.ExitCode {
	return func(ctx context.Context) engine.ExitCode {
		a := newApp(d)
		defer close(a.over)
		root := &cobra.Command{Use: "provost"}
		a.g.add(root.PersistentFlags())
		group := &cobra.Command{Use: "create"}
		c := &cobra.Command{Use: "cluster", SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return nil }}
		for _, k := range secretFlow().Keys() {
			c.Flags().String(string(k), "", "")
		}
		a.guided(c, secretFlow(), func(_ *cobra.Command, act engine.Action) error {
			raw, err := os.ReadFile(act.(engine.CreateCluster).Dir)
			*read = string(raw)
			return err
		})
		group.AddCommand(c)
		root.AddCommand(group)
		root.SilenceErrors = true
		root.SetArgs([]string{"create", "cluster", "--accessible"})
		return a.finish(ctx, root.ExecuteContext(ctx))
	}
}

// searchFor fails when a word is in any file or name below a directory.
func searchFor(t *testing.T, dir, word string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if strings.Contains(path, "provost-typed") {
				t.Errorf("%s is still there", path)
			}
			return err
		}
		raw, err := os.ReadFile(path)
		if strings.Contains(string(raw), word) || strings.Contains(path, word) {
			t.Errorf("%s holds it", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Without a terminal that can hide it, nothing is typed: a path is asked for. Left in
// the middle, the draft knows nothing of a secret.
func TestSecretsNeedATerminal(t *testing.T) {
	p := newPerson(t)
	file := p.home + "/tokens"
	os.WriteFile(file, []byte("t0\nt1\n"), 0o600)
	var read string
	var talk bytes.Buffer
	d := p.deps()
	d.Stdin, d.Stdout, d.Stderr = strings.NewReader(text("x", "type", file, "h1", "", "1", "there is no history", "create x")), io.Discard, &talk
	if code := secretApp(p, d, &read)(context.Background()); code != 0 || read != "t0\nt1\n" || !strings.Contains(talk.String(), "can't be hidden here") {
		t.Errorf("exit %d, read %q\n%s", code, read, talk.String())
	}
}
