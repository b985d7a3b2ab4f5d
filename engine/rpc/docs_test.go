package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"app.provost/engine"
)

var update = flag.Bool("update", false, "write docs/http-api.md")

// TestDocs makes docs/http-api.md from real answers and fails when it is stale.
func TestDocs(t *testing.T) {
	f := newFake()
	at := f.snap.At
	f.publish(func(s *engine.Snapshot) {
		s.Workers = workers(2, 1)
		s.Acts = &engine.Section[engine.ActRow]{Version: 1, At: at, Rows: []engine.ActRow{}}
	}, entry(17))
	f.entries[0].Key = engine.Key{Machine: "m1", ID: "j17"}
	f.entries[0].Text = "job j17 verified"
	f.lines = []engine.LogLine{
		{At: &at, Source: "w1", Level: engine.LevelNote, Text: "job taken", Fields: "job=j17"},
		{At: &at, Source: "w1", Level: engine.LevelNote, Text: "proof delivered", Fields: "job=j17 took=1.2s"},
	}
	plan, err := f.Preview(t.Context(), engine.Request{Action: pause})
	if err != nil {
		t.Fatal(err)
	}
	f.onDo = func(_ context.Context, r engine.Request, d engine.Digest) (engine.Receipt, error) {
		if !plan.Digest.Fits(d) {
			return engine.Receipt{}, engine.Problem{Code: engine.CodePlanNeeded, Exit: engine.ExitRefused, Doing: r.Action.Doing(), Field: "digest",
				Cause: "no plan is named", Remedy: "preview the action and send the digest of its plan"}.Because(nil)
		}
		return engine.Receipt{Key: r.Key, Act: "a1", Digest: plan.Digest, At: at, Title: plan.Title, Targets: plan.Targets}, nil
	}
	socket, _ := serve(t, f)
	const shown = "$XDG_RUNTIME_DIR/provost/e1.sock"
	fixed := func(s string) string {
		return strings.ReplaceAll(s, fmt.Sprintf(`"pid": %d`, os.Getpid()), `"pid": 4242`)
	}
	block := func(command, answer string) string {
		out := "    " + command + "\n\n"
		for line := range strings.Lines(strings.TrimRight(answer, "\n") + "\n") {
			out += strings.TrimRight("    "+line, " \n") + "\n"
		}
		return out
	}
	pretty := func(s string) string {
		var b bytes.Buffer
		if err := json.Indent(&b, []byte(s), "", "  "); err != nil {
			t.Fatalf("%v: %s", err, s)
		}
		return fixed(b.String())
	}
	action, _ := engine.MarshalAction(pause)
	data := map[string]any{
		"Socket": shown, "Protocol": Protocol,
		"PreviewBody": fmt.Sprintf(`{"action":%s}`, action),
		"DoBody":      fmt.Sprintf(`{"key":"2026-01-31-disk-swap","digest":"%s","action":%s}`, plan.Digest[:6], action),
		"BadBody":     fmt.Sprintf(`{"key":"2026-01-31-disk-swap","action":%s}`, action),
	}
	var o ServerOptions
	o.Engine, o.Socket, o.Log = f, socket, newDiscard()
	if err := o.defaults(); err != nil {
		t.Fatal(err)
	}
	data["WriteTimeout"] = o.WriteTimeout.String()
	tmpl, err := template.New("http-api.md.tmpl").Funcs(template.FuncMap{
		"get": func(target string) string {
			_, body := raw(t, socket, "GET", target, "")
			return block("curl -s --unix-socket $S http://provost"+target, pretty(body))
		},
		"post": func(target, body string) string {
			status, answer := raw(t, socket, "POST", target, body)
			return block("curl -s --unix-socket $S http://provost"+target+" -d '"+body+"'",
				fmt.Sprintf("%d %s\n%s", status, http.StatusText(status), pretty(answer)))
		},
		"stream": func(target string, n int) string {
			return block("curl -sN --unix-socket $S 'http://provost"+target+"'", firstEvents(t, socket, target, n))
		},
	}).ParseFiles(filepath.Join("testdata", "http-api.md.tmpl"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, data); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join("..", "..", "docs", "http-api.md")
	if *update {
		if err := os.WriteFile(page, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, out.Bytes()) {
		t.Error("docs/http-api.md is stale; make it with: go test ./engine/rpc -run TestDocs -update")
	}
}

// firstEvents gives the first n events of a stream as they arrive, long lines cut.
func firstEvents(t *testing.T, socket, target string, n int) string {
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: provost\r\n\r\n", target)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	sc := bufio.NewScanner(resp.Body)
	for n > 0 && sc.Scan() {
		line := sc.Text()
		if len(line) > 240 {
			line = line[:240] + "…"
		}
		if line == "" {
			n--
		}
		out.WriteString(line + "\n")
	}
	return out.String()
}

// TestSampleIsStillRead reads a stream of protocol 1 as it was first written.
// The sample is never made anew: what was sent once must be understood for ever.
func TestSampleIsStillRead(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "watch-1.sse"))
	if err != nil {
		t.Fatal(err)
	}
	var m mirror
	var names []string
	var entries []engine.Entry
	e := newEvents(bytes.NewReader(b), maxEvent)
	for {
		ev, err := e.next()
		if err != nil {
			break
		}
		names = append(names, ev.name)
		switch ev.name {
		case eventSnapshot:
			if _, _, err := m.apply(ev.data); err != nil {
				t.Fatal(err)
			}
		case eventJournal:
			var j journal
			if err := json.Unmarshal(ev.data, &j); err != nil {
				t.Fatal(err)
			}
			entries = append(entries, j.Entries...)
		}
	}
	if got, want := strings.Join(names, " "), "open journal snapshot snapshot end"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
	if len(entries) != 1 || entries[0].N != 17 || entries[0].What != "job.verified" {
		t.Errorf("entries %+v", entries)
	}
	// The second snapshot carries two workers and leaves the engine as it was.
	if s := m.last; s == nil || s.Gen != 3 || len(s.Workers.List()) != 2 || s.Engine.Value.ID != "e1" || *s.Workers.Rows[1].RSSBytes != 314572800 {
		t.Errorf("snapshot %+v", s)
	}
}
