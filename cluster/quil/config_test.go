package quil

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const fakePeerKey = "5a5a5a5a5a5a5a5a"

// What is not the manager's stays byte for byte: with the changed lines taken out, nothing differs.
func TestOnlyTheManagersLinesChange(t *testing.T) {
	for _, e := range Eras() {
		p := twoMachines(e)
		before := read(t, "testdata/"+string(e.ID)+"/config.yml")
		for _, eol := range []string{"\n", "\r\n"} {
			text := bytes.ReplaceAll(before, []byte("\n"), []byte(eol))
			for _, m := range p.Machines {
				r, err := e.Config(text, p, m.Name)
				if err != nil {
					t.Fatal(err)
				}
				if r.Reformatted {
					t.Errorf("era %s: the layout was not kept", e.ID)
				}
				managed := func(l string) bool {
					return strings.Contains(l, "dataWorker") || strings.HasPrefix(strings.TrimSpace(l), "- /ip4/") ||
						m.Name == "b" && (strings.Contains(l, "peerPrivKey") || strings.Contains(l, "encryptionKey") || strings.Contains(l, "streamListen"))
				}
				rest := func(b []byte) string {
					return strings.Join(slices.DeleteFunc(strings.SplitAfter(string(b), "\n"), managed), "")
				}
				if a, b := rest(text), rest(r.Config.Export()); a != b {
					t.Errorf("era %s, %s: other lines changed:\n%s\n%s", e.ID, m.Name, a, b)
				}
				if eol == "\r\n" && strings.Count(string(r.Config.Export()), "\n") != strings.Count(string(r.Config.Export()), "\r\n") {
					t.Errorf("era %s: line ends are mixed", e.ID)
				}
				again, err := e.Config(r.Config.Export(), p, m.Name)
				if err != nil || len(again.Changes) != 0 || !bytes.Equal(again.Config.Export(), r.Config.Export()) {
					t.Errorf("era %s: a second rendering changes something: %+v %v", e.ID, again.Changes, err)
				}
				if found, err := e.Check(r.Config.Export(), p, m.Name); err != nil || slices.ContainsFunc(found, func(f Finding) bool { return f.Severity == SevError }) {
					t.Errorf("era %s, %s: what was rendered is found wrong: %+v %v", e.ID, m.Name, found, err)
				}
			}
		}
	}
}

// Layouts that people and tools write.
func TestRewriteLayouts(t *testing.T) {
	list := func(n int) []string {
		var s []string
		for i := range n {
			s = append(s, fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", 40000+i))
		}
		return s
	}
	key := "engine.dataWorkerMultiaddrs"
	for _, c := range []struct {
		name, in string
		n        int
		want     string // "" when only the meaning counts
	}{
		{"grows", "engine:\n  dataWorkerMultiaddrs:\n  - x # one\n  # after\ndb: 1\n", 2, "engine:\n  dataWorkerMultiaddrs:\n  - /ip4/192.0.2.1/tcp/40000 # one\n  - /ip4/192.0.2.1/tcp/40001\n  # after\ndb: 1\n"},
		{"shrinks", "engine:\n  dataWorkerMultiaddrs:\n  - a\n  - b # two\n  # of three\n  - c\n  x: 1\n", 1, "engine:\n  dataWorkerMultiaddrs:\n  - /ip4/192.0.2.1/tcp/40000\n  x: 1\n"},
		{"is emptied", "engine:\n  dataWorkerMultiaddrs: # c\n    - a\n    - b\n  x: 1\n", 0, "engine:\n  dataWorkerMultiaddrs: [] # c\n  x: 1\n"},
		{"was empty", "engine:\n  dataWorkerMultiaddrs: []\n  x: [a]\n", 1, "engine:\n  dataWorkerMultiaddrs:\n    - /ip4/192.0.2.1/tcp/40000\n  x: [a]\n"},
		{"was nothing", "engine:\n    dataWorkerMultiaddrs:\n    x:\n    - a\n", 1, "engine:\n    dataWorkerMultiaddrs:\n    - /ip4/192.0.2.1/tcp/40000\n    x:\n    - a\n"},
		{"was in one line", "engine:\n  dataWorkerMultiaddrs: [\"a\", 'b'] # two\n", 1, "engine:\n  dataWorkerMultiaddrs: # two\n    - /ip4/192.0.2.1/tcp/40000\n"},
		{"was in one line, with a sign of a comment in it", "engine:\n  dataWorkerMultiaddrs: [\"a #b\"]\n", 1, "engine:\n  dataWorkerMultiaddrs:\n    - /ip4/192.0.2.1/tcp/40000\n"},
		{"was nothing, with a comment", "engine:\n  dataWorkerMultiaddrs: # mine\n  x: 1\n", 1, "engine:\n  dataWorkerMultiaddrs: # mine\n    - /ip4/192.0.2.1/tcp/40000\n  x: 1\n"},
		{"was a tilde", "engine:\n  dataWorkerMultiaddrs: ~ # mine\n", 1, "engine:\n  dataWorkerMultiaddrs: # mine\n    - /ip4/192.0.2.1/tcp/40000\n"},
		{"comments over lines", "engine:\n  dataWorkerMultiaddrs:\n  - a # one\n    # and more\n  - b\n", 2, "engine:\n  dataWorkerMultiaddrs:\n  - /ip4/192.0.2.1/tcp/40000 # one\n    # and more\n  - /ip4/192.0.2.1/tcp/40001\n"},
		{"was over lines", "engine:\n  dataWorkerMultiaddrs: [a,\n    b]\n  x: 1\n", 1, ""},
		{"quoted entries", "engine:\n  dataWorkerMultiaddrs:\n  - \"a\"\n  - 'b'\n", 2, "engine:\n  dataWorkerMultiaddrs:\n  - /ip4/192.0.2.1/tcp/40000\n  - /ip4/192.0.2.1/tcp/40001\n"},
		{"no key", "engine: # mine\n  # first\n  x: 1\n", 1, "engine: # mine\n  dataWorkerMultiaddrs:\n    - /ip4/192.0.2.1/tcp/40000\n  # first\n  x: 1\n"},
		{"no section", "db: 1", 1, "db: 1\nengine:\n  dataWorkerMultiaddrs:\n    - /ip4/192.0.2.1/tcp/40000\n"},
		{"empty section", "engine:\ndb: 1\n", 1, ""},
		{"flow section", "engine: {x: 1} # e\ndb: 1\n", 1, ""},
		{"flow file", "{engine: {x: 1, dataWorkerMultiaddrs: [a]}, db: 1}", 1, ""},
		{"document marks", "---\nengine:\n  dataWorkerMultiaddrs: []\n...\n", 1, ""},
		{"no section and an end mark", "db: 1\n...\n", 1, ""},
		{"folded entry", "engine:\n  dataWorkerMultiaddrs:\n  - >-\n    a\n  - b\n", 1, ""},
		{"plain entry over lines", "engine:\n  dataWorkerMultiaddrs:\n  - a\n    b\n  - c\n", 2, ""},
		{"text that looks like it", "engine:\n  note: |\n    dataWorkerMultiaddrs:\n    - a\n  dataWorkerMultiaddrs:\n  - a\n", 1, "engine:\n  note: |\n    dataWorkerMultiaddrs:\n    - a\n  dataWorkerMultiaddrs:\n  - /ip4/192.0.2.1/tcp/40000\n"},
		{"key in quotes", "\"engine\":\n  \"dataWorkerMultiaddrs\":\n  - a\n", 1, "\"engine\":\n  \"dataWorkerMultiaddrs\":\n  - /ip4/192.0.2.1/tcp/40000\n"},
		{"letters of many bytes", "engine:\n  dataWorkerMultiaddrs: # прежние\n  - a # ünter\n  é: {ключ: 1}\n", 1, "engine:\n  dataWorkerMultiaddrs: # прежние\n  - /ip4/192.0.2.1/tcp/40000 # ünter\n  é: {ключ: 1}\n"},
		{"key and colon in quotes", "engine:\n  'dataWorkerMultiaddrs' :\n  - a\n  - b\n", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := ParseConfig([]byte(c.in))
			if err != nil {
				t.Fatal(err)
			}
			out, reformatted, err := in.set([]edit{{path: key, list: list(c.n), is: TypeAddresses}})
			if err != nil {
				t.Fatal(err)
			}
			got, _, _, err := out.c.list(key)
			if err != nil || !slices.Equal(got, list(c.n)) {
				t.Errorf("list %q %v", got, err)
			}
			if c.want != "" && (string(out.Export()) != c.want || reformatted) {
				t.Errorf("reformatted %v, got\n%s\nwant\n%s", reformatted, out.Export(), c.want)
			}
			for _, word := range []string{"# e", "# mine", "# c", "# two"} {
				if strings.Contains(c.in, word) && c.name != "shrinks" && !bytes.Contains(out.Export(), []byte(word)) {
					t.Errorf("the comment %q is gone:\n%s", word, out.Export())
				}
			}
		})
	}
}

func TestConfigIsStrict(t *testing.T) {
	deep := "a: " + strings.Repeat("{a: ", 40) + "1" + strings.Repeat("}", 40)
	for name, in := range map[string]string{
		"empty":              "",
		"comment only":       "# nothing\n",
		"a list":             "- a\n",
		"a word":             "word",
		"two documents":      "a: 1\n---\nb: 2\n",
		"rest of an old one": "engine:\n  x: 1\ndataWorker\n  - y: ]\n",
		"key twice":          "engine:\n  x: 1\n  x: 2\n",
		"section twice":      "engine: {}\nengine: {}\n",
		"alias":              "a: &x [1]\nb: *x\n",
		"anchor":             "a: &x 1\n",
		"merge":              "a: {b: 1}\nc:\n  <<: {d: 1}\n",
		"tag":                "a: !!binary aGVsbG8=\n",
		"own tag":            "a: !secret x\n",
		"key of a list":      "? [a]\n: 1\n",
		"empty key":          "'': 1\n",
		"not UTF-8":          "a: \xff\n",
		"a zero byte":        "a: \x00\n",
		"byte order mark":    "\xef\xbb\xbfa: 1\n",
		"UTF-16":             "a\x00:\x00 \x001\x00",
		"deep":               deep,
		"not closed":         "a: [1, 2",
		"tabs":               "a:\n\tb: 1\n",
		"too big":            "a: " + strings.Repeat("x", MaxConfigBytes),
		"too many":           "a: [" + strings.Repeat("1,", maxSeparators+1) + "]",
	} {
		_, err := ParseConfig([]byte(in))
		var ce *ConfigError
		if !errors.As(err, &ce) || ce.Text == "" || ce.Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'm'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9))
	}
	if _, err := ParseConfig([]byte(bomb)); err == nil {
		t.Error("a bomb of aliases was read")
	}
}

// Whatever is in a file of the allowed size, reading it takes little memory.
func TestHostileConfigIsBounded(t *testing.T) {
	fill := func(s string) string { return strings.Repeat(s, (MaxConfigBytes-8)/len(s)) }
	few := func(s string) string { return strings.Repeat(s, maxSeparators-8) }
	for name, in := range map[string]string{
		"brackets": fill("["), "braces": fill("{"), "dashes": fill("- "), "dashes and tabs": fill("-\t"), "marks": fill("? "), "colons": fill(": "), "empty items": "a: [" + fill(","),
		"lines": fill("a\n"), "keys": fill("a:\n"), "nulls": fill("-\n"), "returns": fill("-\r"), "comments": "a: 1\n" + fill("#\n"), "anchors": fill("&a "), "tags": fill("!a "), "word": "a: " + fill("x"), "quoted": "a: \"" + fill("\\n") + "\"",
		"allowed items": "a: [" + few("1,") + "]", "allowed lines": "a:\n" + strings.Repeat("-\n", maxSeparators/2-8), "nested rows": "a:\n" + strings.Repeat(" "+strings.Repeat("- ", 9000)+"\n", 16),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		_, err := ParseConfig([]byte(in))
		runtime.ReadMemStats(&after)
		used := (after.TotalAlloc - before.TotalAlloc) >> 20
		t.Logf("%s: %d MiB, %v, %v", name, used, time.Since(began), err)
		if used > 256 {
			t.Errorf("%s: %d MiB", name, used)
		}
	}
}

// Values of another kind than the node reads are refused with key and line; nothing is guessed.
func TestConfigKinds(t *testing.T) {
	e := era(t, "2.0.6")
	p := twoMachines(e)
	for in, key := range map[string]string{
		"engine: word\n": "engine",
		"engine: []\n":   "engine",
		"engine:\n  dataWorkerMultiaddrs: word\n":              "engine.dataWorkerMultiaddrs",
		"engine:\n  dataWorkerMultiaddrs: {a: 1}\n":            "engine.dataWorkerMultiaddrs",
		"p2p:\n  peerPrivKey: [a]\nengine: {}\nkey: {}\n":      "p2p.peerPrivKey",
		"key:\n  keyManagerFile:\n    encryptionKey: {b: 1}\n": "key.keyManagerFile.encryptionKey",
	} {
		_, err := e.Config([]byte(in), p, "b")
		var ce *ConfigError
		if strings.HasPrefix(key, "p2p") { // needed by these workers, so it is not touched
			if err != nil {
				t.Errorf("%q: %v", in, err)
			}
			continue
		}
		if !errors.As(err, &ce) || ce.Key != key || ce.Line == 0 {
			t.Errorf("%q: %v, want %s", in, err, key)
		}
	}
	if _, err := e.Config([]byte("a: 1\n"), p, "x"); err == nil {
		t.Error("a machine that is not there got a config")
	}
}

// No way of printing gives a secret, also not one that stands in the wrong place or in a broken file.
func TestSecretsDoNotPrint(t *testing.T) {
	secret := "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
	short := "hunter2-hunter2"
	file := fmt.Sprintf("key:\n  keyManagerFile:\n    encryptionKey: %s\n  pin: %s\np2p:\n  peerPrivKey: %s\nengine:\n  delegateAddress: %s\n  dataWorkerMultiaddrs:\n  - %s\n  dataWorkerCount: %s\nmySecret: %s\n%s: 1\n",
		secret, short, secret, secret, secret, short, short, secret)
	leaks := func(where, s string) {
		t.Helper()
		if strings.Contains(s, secret[:16]) || strings.Contains(s, short) {
			t.Errorf("%s tells a secret: %s", where, s)
		}
	}
	c, err := ParseConfig([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		leaks(verb, fmt.Sprintf(verb, c))
		leaks(verb, fmt.Sprintf(verb, Rendered{Config: c}))
		leaks(verb, fmt.Sprintf(verb, &c))
	}
	if _, err := json.Marshal(c); err == nil {
		t.Error("encoded as JSON")
	}
	if _, err := yaml.Marshal(c); err == nil {
		t.Error("encoded as YAML")
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", c, "rendered", Rendered{Config: c})
	leaks("log", log.String())
	for _, e := range Eras() {
		p := twoMachines(e)
		leaks("outline", fmt.Sprintf("%+v", e.Outline(c)))
		for _, m := range p.Machines {
			r, err := e.Config([]byte(file), p, m.Name)
			if err != nil {
				t.Fatal(err)
			}
			leaks("changes", fmt.Sprintf("%+v", r.Changes))
			found, err := e.Check([]byte(file), p, m.Name)
			if err != nil {
				t.Fatal(err)
			}
			leaks("findings", fmt.Sprintf("%+v", found))
		}
	}
	e := era(t, "2.1.0.23")
	for _, broken := range []string{
		file + "  : [\n", file + secret + "\n", file + "a: &" + secret + " 1\n", file + "a: !" + secret + " 1\n", file + "a: *" + secret + "\n", file + secret + ": 2\n", "? {" + secret + ": 1}\n: 2\n", secret,
		"p2p:\n  streamListenMultiaddr: " + secret + "\n", "p2p:\n  streamListenMultiaddr: [" + secret + "]\n", "engine: " + secret + "\n", "p2p:\n  peerPrivKey: \"" + secret + "\n", "x: '" + short + "\ty: 2",
	} {
		_, err := e.Config([]byte(broken), twoMachines(e), "b")
		if err == nil {
			t.Errorf("read: %q", broken)
			continue
		}
		leaks("error", err.Error())
	}
	if s := fmt.Sprint(e.Outline(c)); !strings.Contains(s, "engine.dataWorkerCount") || !strings.Contains(s, masked) {
		t.Errorf("the outline tells too little: %s", s)
	}
}

func TestOutline(t *testing.T) {
	e := era(t, "2.1.0.19")
	c, err := ParseConfig(read(t, "testdata/2.1.0.19/config.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range e.Outline(c) {
		fmt.Fprintf(&b, "%d %s = %s\n", s.Line, s.Key, s.Value)
	}
	golden(t, "testdata/2.1.0.19/outline.golden", []byte(b.String()))
	if strings.Contains(b.String(), fakePeerKey) {
		t.Error("the outline shows a key")
	}
}

// Memory that workers aim at is written where the era uses it.
func TestWorkerMemory(t *testing.T) {
	n := int64(1 << 30)
	for id, want := range map[EraID]bool{"1.4.21": true, "2.0.6": true, "2.1.0.19": true, "2.1.0.23": false} {
		e := era(t, id)
		p := twoMachines(e)
		p.WorkerMemoryBytes = &n
		r, err := e.Config(read(t, "testdata/"+string(id)+"/config.yml"), p, "a")
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(r.Changes, func(c Change) bool { return c.Key == memoryKey && c.After == "1073741824" }); got != want {
			t.Errorf("era %s: written %v", id, got)
		}
		if got := slices.ContainsFunc(e.Problems(p), func(q Problem) bool { return q.Code == "memory" }); got == want {
			t.Errorf("era %s: a limit without effect is told: %v", id, got)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for _, e := range Eras() {
		f.Add(read(f, "testdata/"+string(e.ID)+"/config.yml"), uint8(1))
	}
	for _, s := range []string{"engine:\n  dataWorkerMultiaddrs: [a,\n b]\n", "engine: {}\n", "db: |\n  x\n", "a: &x 1\nb: *x", "\"engine\": # c\r\n  x: 1\r\n", "engine:\n- a\n", "engine:\n  dataWorkerMultiaddrs:\n  - >-\n    a\n", "{engine: {dataWorkerMultiaddrs: []}}"} {
		f.Add([]byte(s), uint8(4))
	}
	eras := Eras()
	f.Fuzz(func(t *testing.T, b []byte, which uint8) {
		if len(b) > 64<<10 {
			return
		}
		e := eras[int(which)%len(eras)]
		p := twoMachines(e)
		c, err := ParseConfig(b)
		if err != nil {
			var ce *ConfigError
			if !errors.As(err, &ce) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		e.Outline(c)
		for _, m := range p.Machines {
			if _, err := e.Check(b, p, m.Name); err != nil {
				t.Fatalf("read and not checked: %v", err)
			}
			r, err := e.Config(b, p, m.Name)
			if err != nil {
				continue
			}
			if len(r.Changes) == 0 && !bytes.Equal(r.Config.Export(), b) {
				t.Fatal("no change, and another text")
			}
			again, err := e.Config(r.Config.Export(), p, m.Name)
			if err != nil || len(again.Changes) != 0 {
				t.Fatalf("rendered again it changes: %v %v", again.Changes, err)
			}
			want, _ := e.Addresses(p)
			for _, l := range want.Lists {
				if got, _, _, err := r.Config.c.list(l.Key); err != nil || !slices.Equal(got, l.Entries) {
					t.Fatalf("%s: %q %v", l.Key, got, err)
				}
			}
		}
	})
}
