package catalog

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
)

var update = flag.Bool("update", false, "write docs/findings.md anew")

func TestEveryCodeHasOneEntryInOrder(t *testing.T) {
	var codes []engine.Code
	for _, e := range All() {
		codes = append(codes, e.Code)
	}
	if !slices.Equal(codes, engine.Codes) {
		for _, c := range engine.Codes {
			if !slices.Contains(codes, c) {
				t.Errorf("%s has no entry", c)
			}
		}
		for _, c := range codes {
			if !slices.Contains(engine.Codes, c) {
				t.Errorf("%s is not in engine.Codes", c)
			}
		}
		t.Fatal("entries must have the order of engine.Codes")
	}
}

func TestEntriesAreWhole(t *testing.T) {
	word := regexp.MustCompile(`\{([^}]*)\}`)
	optional := regexp.MustCompile(`\[[^\]]*\]`)
	for _, e := range All() {
		if e.Title == "" || e.Text == "" || e.Effect == "" || len(e.Next) == 0 || e.Level.Rank() < engine.LevelNote.Rank() {
			t.Errorf("%s lacks title, text, effect, next or level", e.Code)
		}
		if strings.HasSuffix(e.Title, ".") || !strings.HasSuffix(e.Text, ".") {
			t.Errorf("%s: a title has no full stop, a text has", e.Code)
		}
		if (e.Kind == Problem) != (e.Exit != 0) {
			t.Errorf("%s: problems have an exit code, findings none", e.Code)
		}
		if e.Kind == Problem && (e.ShowAfter != 0 || e.DependsOn != nil || e.Facts != nil || word.MatchString(e.Title)) {
			t.Errorf("%s: a problem has no facts, time or causes", e.Code)
		}
		for _, d := range e.DependsOn {
			if c, ok := Find(d); !ok || c.Kind != Finding || d == e.Code || slices.Contains(c.DependsOn, e.Code) {
				t.Errorf("%s depends on %s, which is no other finding or depends on it in turn", e.Code, d)
			}
		}
		for _, m := range word.FindAllStringSubmatch(e.Title, -1) {
			if w := m[1]; w != "target" && w != "name" && !slices.Contains(e.Facts, w) {
				t.Errorf("%s: {%s} in the title is not among its facts", e.Code, w)
			}
		}
		// Without any fact a title still reads as one.
		if bare := optional.ReplaceAllString(e.Title, ""); strings.Contains(strings.NewReplacer("{name}", "", "{target}", "").Replace(bare), "{") {
			t.Errorf("%s: %q needs a fact outside of brackets", e.Code, bare)
		}
		for _, n := range e.Next {
			if n.Text == "" || n.Key != "" && n.Command == "" {
				t.Errorf("%s: a next step without words, or a key without its command: %+v", e.Code, n)
			}
		}
	}
}

func TestFill(t *testing.T) {
	now := time.Unix(1000, 0)
	k := engine.Key{Machine: "m1", ID: "w7"}
	f := Fill(engine.Raise{Code: engine.FindWorkerDown, Key: k, Target: "worker/w7", Facts: []engine.Fact{{Name: "cause", Value: "killed by the kernel: out of memory"}, {Name: "restart_in", Value: "4s"}}}, now)
	if f.Title != "worker w7 died: killed by the kernel: out of memory, restarts in 4s" || f.ID != "worker.down/m1/-/-/w7" || f.Level != engine.LevelWarn {
		t.Errorf("%+v", f)
	}
	if f.Next[0].Command != "provost logs w7 --tail 50" || f.Count != 1 || !f.Since.Equal(now) || len(f.Facts) != 2 {
		t.Errorf("%+v", f)
	}
	if f := Fill(engine.Raise{Code: engine.FindWorkerDown, Key: k, Target: "worker/w7"}, now); f.Title != "worker w7 died" {
		t.Errorf("without facts: %q", f.Title)
	}
	if f := Fill(engine.Raise{Code: "no.such", Key: k, Target: "x"}, now); f.Level != engine.LevelWarn || !strings.Contains(f.Title, "no.such") {
		t.Errorf("unknown code: %+v", f)
	}
	// Filling must not reach into the catalogue.
	f.DependsOn = append(f.DependsOn, "x")
	f.Next[0].Text = "x"
	if e, _ := Find(engine.FindWorkerDown); e.Next[0].Text == "x" {
		t.Error("a finding shares memory with the catalogue")
	}
	if _, ok := Find("no.such"); ok {
		t.Error("an unknown code was found")
	}
	if ShowAfter(engine.FindJobsWaiting) != 30*time.Second || ShowAfter("no.such") != 0 {
		t.Error("time to show")
	}
}

func FuzzFill(f *testing.F) {
	f.Add("a {b} [c {d}] e", "x")
	f.Add("[[{}]", "{target}")
	f.Fuzz(func(t *testing.T, template, value string) {
		r := engine.Raise{Target: value, Facts: []engine.Fact{{Name: "b", Value: value}}}
		// Values are put in once and never read as templates again.
		if got := fill(template, r); strings.Count(template, "{") == 0 && !strings.Contains(template, "[") && got != template {
			t.Errorf("%q became %q", template, got)
		}
	})
}

// TestPage holds docs/findings.md to the catalogue. go test ./engine/catalog -update writes it.
func TestPage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "findings.md")
	got := page()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/findings.md is not what the catalogue says: run go test ./engine/catalog -update and commit it")
	}
}

func page() []byte {
	var w bytes.Buffer
	p := func(f string, a ...any) { fmt.Fprintf(&w, f, a...) }
	p("# Problems and findings\n\nEverything that an operator can meet, by code. A code never changes its meaning.\n" +
		"This page is made from the catalogue (`go test ./engine/catalog -update`); words in braces are facts that are filled in,\n" +
		"and parts in square brackets are shown when their facts are known.\n\n" +
		"**Problems** are what a request or a start is answered with; a command that meets one ends with its exit code.\n" +
		"**Findings** are raised by the engine while something lasts; they are the alerts of screen and `provost get alerts`.\n\n" +
		"| Code | Level | Exit | In one line |\n|---|---|---|---|\n")
	for _, e := range All() {
		exit := "-"
		if e.Kind == Problem {
			exit = fmt.Sprint(e.Exit)
		}
		p("| [`%s`](#%s) | %s | %s | %s |\n", e.Code, strings.ReplaceAll(string(e.Code), ".", ""), e.Level, exit, e.Title)
	}
	kind := Kind("")
	for _, e := range All() {
		if e.Kind != kind {
			kind = e.Kind
			p("\n## %ss\n", strings.ToUpper(string(kind[:1]))+string(kind[1:]))
		}
		p("\n### %s\n\n**%s** (%s)\n\n%s\n\n", e.Code, e.Title, e.Level, e.Text)
		p("- Effect: %s\n", e.Effect)
		if e.ShowAfter > 0 {
			p("- Shown after: %s\n", e.ShowAfter)
		}
		if len(e.DependsOn) > 0 {
			var on []string
			for _, d := range e.DependsOn {
				on = append(on, "`"+string(d)+"`")
			}
			p("- Follows from, at the same machine: %s\n", strings.Join(on, ", "))
		}
		if len(e.Facts) > 0 {
			p("- Facts: %s\n", strings.Join(e.Facts, ", "))
		}
		if e.Kind == Problem {
			p("- Exit code: %d\n", e.Exit)
		}
		p("- Next:\n")
		for _, n := range e.Next {
			p("  - %s", n.Text)
			if n.Command != "" {
				p(": `%s`", n.Command)
			}
			if n.Key != "" {
				p(" (key `%s`)", n.Key)
			}
			p("\n")
		}
	}
	return w.Bytes()
}
