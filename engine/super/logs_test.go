package super

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"app.provost/engine"
)

func TestParseLine(t *testing.T) {
	at := time.Date(2026, 3, 2, 11, 4, 40, 12_000_000, time.UTC)
	for raw, want := range map[string]parsed{
		`time=2026-03-02T11:04:40.012Z level=INFO msg=ready`:                                            {&at, engine.LevelNote, "ready", ""},
		`time=2026-03-02T12:04:40.012+01:00 level=WARN+1 msg="a \"b\"" job=j1 err="x y"`:                {&at, engine.LevelWarn, `a "b"`, `job=j1 err="x y"`},
		`{"time":"2026-03-02T11:04:40.012Z","level":"ERROR","msg":"no","n":1,"w":"a b","o":{"x": [1]}}`: {&at, engine.LevelCrit, "no", `n=1 w="a b" o={"x":[1]}`},
		`{"t":"2026-03-02T11:04:40.012Z","lvl":"info","ev":"status","v":1}`:                             {&at, engine.LevelNote, "status", "v=1"},
		`2026-03-02T11:04:40.012Z warn  verdict.change from=ok`:                                         {&at, engine.LevelWarn, "verdict.change from=ok", ""},
		`2026-03-02T11:04:40.012Z hello`:                                                                {&at, "", "hello", ""},
		`panic: runtime error`:                                                                          {nil, "", "panic: runtime error", ""},
		`time=soon level=INFO msg=x`:                                                                    {nil, "", "time=soon level=INFO msg=x", ""},
		`{"time":"2026-03-02T11:04:40.012Z","msg":"cut`:                                                 {nil, "", `{"time":"2026-03-02T11:04:40.012Z","msg":"cut`, ""},
		`{"a":1}`:                              {nil, "", `{"a":1}`, ""},
		"\x1b[31mred\x1b[0m\a \x1b]0;title":    {nil, "", `red\x07 \x1b]0;title`, ""},
		"bad \xff utf8, tab\there, \u202eturn": {nil, "", `bad \xff utf8, tab here, \u202eturn`, ""},
		"\x1b[":                                {nil, "", "", ""},
		"\x1b[31\nx":                           {nil, "", `\x0ax`, ""},
		"crlf\r\n":                             {nil, "", "crlf", ""},
		`time=2026-03-02T11:04:40.012Z level=INFO msg="open`: {nil, "", `time=2026-03-02T11:04:40.012Z level=INFO msg="open`, ""},
	} {
		got := parseLine([]byte(raw))
		if (got.at == nil) != (want.at == nil) || got.at != nil && !got.at.Equal(*want.at) || got.level != want.level || got.text != want.text || got.fields != want.fields {
			t.Errorf("%s\n got %v %q %q %q\nwant %v %q %q %q", raw, got.at, got.level, got.text, got.fields, want.at, want.level, want.text, want.fields)
		}
	}
}

// What slog writes is read back.
func TestParseWhatSlogWrites(t *testing.T) {
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		"json": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		for _, msg := range []string{"plain", "with \"quotes\" and = and\ttab", "ünïcode 🙂", ""} {
			var b strings.Builder
			slog.New(handler(&b)).Error(msg, "k", "v w", "n", 3)
			got := parseLine([]byte(b.String()))
			if got.at == nil || got.level != engine.LevelCrit || got.text != printable(msg) || got.fields != `k="v w" n=3` {
				t.Errorf("%s: %q read as %+v", name, b.String(), got)
			}
		}
	}
}

func FuzzParseLine(f *testing.F) {
	for _, s := range []string{
		`time=2026-03-02T11:04:40.012Z level=INFO msg="a b" x=1`, `{"time":"2026-03-02T11:04:40Z","level":"WARN","msg":"m","x":[1,{}]}`,
		`2026-03-02T11:04:40Z error x`, "\x1b[31mx", `{"`, `time=`, "\xff", `time=2026-03-02T11:04:40Z ="`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := parseLine(b)
		for _, s := range []string{p.text, p.fields} {
			if !utf8.ValidString(s) {
				t.Fatalf("%q is not UTF-8", s)
			}
			for _, r := range s {
				if r < ' ' || r >= 0x7f && r < 0xa0 || hidden(r) {
					t.Fatalf("%q holds a control character", s)
				}
			}
		}
	})
}

func FuzzParseHolder(f *testing.F) {
	f.Add([]byte(`{"schema":"provost.core/1","id":"w1","owner":"/x","pid":1}`))
	f.Add([]byte(`{"schema":"provost.core/1","id":"w1","owner":"\u001b[31m"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := parseHolder(b).String(); strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Fatalf("%q holds a control character", s)
		}
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a) b) c) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 7 100 200"))
	f.Add([]byte("1 (x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseStat(b); err != nil && s != (stat{}) {
			t.Fatal("an error and a value")
		}
	})
}

func FuzzMemoryGroup(f *testing.F) {
	f.Add([]byte("cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"), []byte("4:memory:/a/b\n"))
	f.Add([]byte("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"), []byte("0::/x\n"))
	f.Fuzz(func(t *testing.T, mounts, self []byte) {
		if dir, _, err := findMemoryGroup(mounts, self); err == nil && dir == "" {
			t.Fatal("neither a directory nor an error")
		}
	})
}

// line writes a line of slog's text form, n seconds after a fixed moment.
func line(n int, level, msg string) string {
	return fmt.Sprintf("time=%s level=%s msg=%q\n", base.Add(time.Duration(n)*time.Second).Format(time.RFC3339Nano), level, msg)
}

var base = time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC)

func writeLog(t testing.TB, dir, name string, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(strings.Join(lines, ""))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func openStream(t testing.TB, dir string, q engine.LogQuery) engine.LogStream {
	t.Helper()
	l := NewLogs(dir)
	l.poll = time.Millisecond
	s, err := l.Logs(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// texts reads to the end, as "source:text".
func texts(t testing.TB, s engine.LogStream) []string {
	t.Helper()
	var out []string
	for {
		l, err := s.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l.Source+":"+l.Text)
	}
}

// next reads n lines of a follower.
func next(t testing.TB, s engine.LogStream, n int) []engine.LogLine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out []engine.LogLine
	for range n {
		l, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("after %d lines: %v", len(out), err)
		}
		out = append(out, l)
	}
	return out
}

func TestLogsQueries(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, dir, "engine.log.1", line(0, "INFO", "e0"), line(2, "INFO", "e2"))
	writeLog(t, dir, "engine.log", line(4, "WARN", "e4"), line(8, "ERROR", "e8"))
	writeLog(t, dir, "w1.log", line(1, "DEBUG", "a1"), "trace of 1\n", "\n", line(5, "ERROR", "a5"), "panic: 5\n", "goroutine 5\n", line(9, "INFO", "a9 without end")[:len(line(9, "INFO", "a9 without end"))-1])
	writeLog(t, dir, "verifier.log", line(3, "INFO", "v3"), line(5, "INFO", "v5"))
	writeLog(t, dir, "notes.txt", "not a log\n")
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "evil.log")); err != nil {
		t.Fatal(err)
	}
	since := base.Add(5 * time.Second)
	for name, c := range map[string]struct {
		q    engine.LogQuery
		want []string
	}{
		"all, merged by time":        {engine.LogQuery{}, []string{"engine:e0", "w1:a1", "w1:trace of 1", "engine:e2", "verifier:v3", "engine:e4", "verifier:v5", "w1:a5", "w1:panic: 5", "w1:goroutine 5", "engine:e8", "w1:a9 without end"}},
		"one source":                 {engine.LogQuery{Sources: []string{"verifier"}}, []string{"verifier:v3", "verifier:v5"}},
		"tail over sources":          {engine.LogQuery{Tail: 3}, []string{"w1:goroutine 5", "engine:e8", "w1:a9 without end"}},
		"tail into the rotated part": {engine.LogQuery{Tail: 3, Sources: []string{"engine"}}, []string{"engine:e2", "engine:e4", "engine:e8"}},
		"tail beyond all":            {engine.LogQuery{Tail: 1000, Sources: []string{"engine"}}, []string{"engine:e0", "engine:e2", "engine:e4", "engine:e8"}},
		"since":                      {engine.LogQuery{Since: &since}, []string{"verifier:v5", "w1:a5", "w1:panic: 5", "w1:goroutine 5", "engine:e8", "w1:a9 without end"}},
		"since and tail":             {engine.LogQuery{Since: &since, Tail: 2}, []string{"engine:e8", "w1:a9 without end"}},
		"level keeps what has none":  {engine.LogQuery{Level: engine.LevelWarn}, []string{"w1:trace of 1", "engine:e4", "w1:a5", "w1:panic: 5", "w1:goroutine 5", "engine:e8"}},
		"grep":                       {engine.LogQuery{Grep: `^[av]5`}, []string{"verifier:v5", "w1:a5"}},
		"tail of what matches":       {engine.LogQuery{Grep: `^[aev][0-8]( |$)`, Tail: 4, Level: engine.LevelNote}, []string{"engine:e4", "verifier:v5", "w1:a5", "engine:e8"}},
		"nothing matches":            {engine.LogQuery{Grep: "no such", Tail: 4}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := texts(t, openStream(t, dir, c.q)); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
	l := NewLogs(dir)
	if got, err := l.Sources(); err != nil || !slices.Equal(got, []string{"engine", "verifier", "w1"}) {
		t.Errorf("sources %v (%v)", got, err)
	}
	for name, q := range map[string]engine.LogQuery{
		"no such source": {Sources: []string{"w9"}}, "path": {Sources: []string{"../../etc/passwd"}, Follow: true}, "grep": {Grep: "("}, "level": {Level: "loud"}, "tail": {Tail: -1},
	} {
		var p *engine.Problem
		if _, err := l.Logs(t.Context(), q); !errors.As(err, &p) || p.Cause == "" || p.Remedy == "" {
			t.Errorf("%s: got %v, want a problem with a remedy", name, err)
		}
	}
	if got := texts(t, openStream(t, filepath.Join(dir, "none"), engine.LogQuery{})); got != nil {
		t.Errorf("no directory gives %q", got)
	}
}

// The tail found from the end is the tail of the whole, whatever the chunks cut through.
func TestTailIsTheTail(t *testing.T) {
	dir := t.TempDir()
	var all []string
	for i := range 3000 {
		l := line(i, "INFO", fmt.Sprintf("%d %s", i, strings.Repeat("x", i*7%211)))
		all = append(all, l)
	}
	all = append(all, line(3000, "INFO", "long "+strings.Repeat("y", 3*logChunk)), line(3001, "INFO", "last"))
	writeLog(t, dir, "w1.log.1", all[:1000]...)
	writeLog(t, dir, "w1.log", all[1000:]...)
	whole := texts(t, openStream(t, dir, engine.LogQuery{}))
	if len(whole) != len(all) {
		t.Fatalf("%d lines, want %d", len(whole), len(all))
	}
	for _, n := range []int{1, 2, 3, 100, 2001, 2002, 2003, 3001, 5000} {
		got := texts(t, openStream(t, dir, engine.LogQuery{Tail: n}))
		if want := whole[max(0, len(whole)-n):]; !slices.Equal(got, want) {
			t.Errorf("tail %d gives %d lines, %q…, want %q…", n, len(got), got[0][:20], want[0][:20])
		}
	}
}

func TestFollow(t *testing.T) {
	live := func(dir string) string { return filepath.Join(dir, "w1.log") }
	// Each way of rotating, between "b" and "c"; "late" is written just before it, unread.
	for name, rotate := range map[string]func(t *testing.T, dir string){
		"not rotated": func(t *testing.T, dir string) {},
		"copied and cut": func(t *testing.T, dir string) {
			f, err := os.OpenFile(live(dir), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				err = errors.Join(rotateLog(f, live(dir), 100), f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"renamed": func(t *testing.T, dir string) {
			if err := os.Rename(live(dir), live(dir)+".1"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, long := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,grown=%v", name, long), func(t *testing.T) {
				dir := t.TempDir()
				writeLog(t, dir, "w1.log.1", line(0, "INFO", "older"))
				writeLog(t, dir, "w1.log", line(1, "INFO", "a"))
				s := openStream(t, dir, engine.LogQuery{Follow: true, Tail: 1})
				got := next(t, s, 1)
				writeLog(t, dir, "w1.log", line(2, "INFO", "b"))
				got = append(got, next(t, s, 1)...)
				writeLog(t, dir, "w1.log", line(3, "INFO", "late"))
				rotate(t, dir)
				want := []string{"a", "b", "late", "c"}
				writeLog(t, dir, "w1.log", line(4, "INFO", "c"))
				if long { // than what was there: its size alone shows nothing
					for i := range 20 {
						writeLog(t, dir, "w1.log", line(5+i, "INFO", "more"))
						want = append(want, "more")
					}
				}
				got = append(got, next(t, s, len(want)-2)...)
				for i, l := range got {
					if l.Text != want[i] || l.Dropped != 0 {
						t.Errorf("line %d: %q, dropped %d, want %q", i, l.Text, l.Dropped, want[i])
					}
				}
			})
		}
	}
}

func TestFollowNewSourceAndHalfLine(t *testing.T) {
	dir := t.TempDir()
	s := openStream(t, dir, engine.LogQuery{Follow: true})
	writeLog(t, dir, "w2.log", "half ")
	done := make(chan struct{})
	go func() {
		defer close(done)
		time.Sleep(20 * time.Millisecond)
		writeLog(t, dir, "w2.log", "a line\n")
	}()
	if got := next(t, s, 1)[0]; got.Text != "half a line" || got.Source != "w2" || got.At != nil {
		t.Errorf("%+v", got)
	}
	<-done
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.Close()
	if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSlowFollowerIsToldWhatItMissed(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, dir, "w1.log", "first\n")
	s := openStream(t, dir, engine.LogQuery{Follow: true})
	next(t, s, 1)
	// Not yet caught up is not slow: the second line makes it so.
	writeLog(t, dir, "w1.log", "second\n")
	next(t, s, 1)
	n := 0
	var b strings.Builder
	for b.Len() < 2*logBehind {
		fmt.Fprintf(&b, "line %d %s\n", n, strings.Repeat("z", 100))
		n++
	}
	writeLog(t, dir, "w1.log", b.String())
	l := next(t, s, 1)[0]
	var at int
	if _, err := fmt.Sscanf(l.Text, "line %d ", &at); err != nil || l.Dropped != at || at == 0 {
		t.Fatalf("got %.20q with %d dropped: the number of lines before it should be told", l.Text, l.Dropped)
	}
	for i := at + 1; i < n; i++ {
		if l := next(t, s, 1)[0]; !strings.HasPrefix(l.Text, fmt.Sprintf("line %d ", i)) || l.Dropped != 0 {
			t.Fatalf("got %.20q, dropped %d, want line %d", l.Text, l.Dropped, i)
		}
	}
}

func TestRotatedTwiceIsTold(t *testing.T) {
	dir := t.TempDir()
	writeLog(t, dir, "w1.log", "one\n")
	s := openStream(t, dir, engine.LogQuery{Follow: true})
	next(t, s, 1)
	for _, l := range []string{"two\n", "three\n"} {
		os.Rename(filepath.Join(dir, "w1.log"), filepath.Join(dir, "w1.log.1"))
		os.Truncate(filepath.Join(dir, "w1.log"), 0)
		writeLog(t, dir, "w1.log", l)
	}
	if got := next(t, s, 1)[0]; got.Text != "three" || got.Dropped < 1 {
		t.Errorf("%+v, want at least one line told as dropped", got)
	}
	os.WriteFile(filepath.Join(dir, "w1.log.1"), []byte("another\n"), 0o600)
	f, err := os.OpenFile(filepath.Join(dir, "w1.log"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("four\n")
	f.Close()
	if got := next(t, s, 1)[0]; got.Text != "four" || got.Dropped < 1 {
		t.Errorf("%+v, want at least one line told as dropped", got)
	}
}

func BenchmarkTail200Of16MiB(b *testing.B) {
	dir := b.TempDir()
	var s strings.Builder
	for i := 0; s.Len() < 16<<20; i++ {
		s.WriteString(line(i, "INFO", "a line of the usual length with a field or two job=j-1234"))
	}
	writeLog(b, dir, "w1.log", s.String())
	b.ReportAllocs()
	for b.Loop() {
		st, err := NewLogs(dir).Logs(b.Context(), engine.LogQuery{Tail: 200})
		if err != nil {
			b.Fatal(err)
		}
		if n := len(texts(b, st)); n != 200 {
			b.Fatal(n)
		}
		st.Close()
	}
}
