package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"app.provost/engine"

	"github.com/google/go-cmp/cmp"
)

func readAll(r io.Reader, limit int) (out []event, err error) {
	e := newEvents(r, limit)
	for {
		ev, err := e.next()
		if err != nil {
			return out, err
		}
		ev.data = bytes.Clone(ev.data)
		out = append(out, ev)
	}
}

func TestEvents(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	for name, c := range map[string]struct {
		in   string
		want []event
	}{
		"one":            {"event: a\ndata: {}\n\n", []event{{name: "a", data: []byte("{}")}}},
		"crlf":           {"event: a\r\ndata: {}\r\n\r\n", []event{{name: "a", data: []byte("{}")}}},
		"two lines":      {"data: a\ndata: b\n\n", []event{{data: []byte("a\nb")}}},
		"empty lines":    {"data\ndata:\n\n", []event{{data: []byte("\n")}}},
		"no space":       {"event:a\ndata:b\n\n", []event{{name: "a", data: []byte("b")}}},
		"comment":        {": alive\n\ndata: b\n\n", []event{{data: []byte("b")}}},
		"no data":        {"event: a\n\ndata: b\n\n", []event{{data: []byte("b")}}},
		"id":             {"id: 7\ndata: b\n\n", []event{{id: "7", data: []byte("b")}}},
		"unknown field":  {"retry: 5\nfoo\ndata: b\n\n", []event{{data: []byte("b")}}},
		"cut off":        {"data: a\n\ndata: b\n", []event{{data: []byte("a")}}},
		"byte order":     {"\xef\xbb\xbfdata: a\n\n", []event{{data: []byte("a")}}},
		"long":           {"data: " + long + "\n\n", []event{{data: []byte(long)}}},
		"long comment":   {": " + long + "\ndata: a\n\n", []event{{data: []byte("a")}}},
		"colons":         {"data: a: b\n\n", []event{{data: []byte("a: b")}}},
		"one space only": {"data:  a\n\n", []event{{data: []byte(" a")}}},
	} {
		got, err := readAll(strings.NewReader(c.in), 1<<20)
		if err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
		if !cmp.Equal(got, c.want, cmp.AllowUnexported(event{})) {
			t.Errorf("%s: got %q", name, got)
		}
		slow, _ := readAll(iotest.OneByteReader(strings.NewReader(c.in)), 1<<20)
		if !cmp.Equal(got, slow, cmp.AllowUnexported(event{})) {
			t.Errorf("%s: byte for byte it reads otherwise", name)
		}
	}
	for _, in := range []string{"data: " + long, ": " + long, "data: " + strings.Repeat("aaaaaaaa\ndata: ", 30000)} {
		if _, err := readAll(strings.NewReader(in), 100<<10); !errors.Is(err, errEventTooLong) {
			t.Errorf("%d bytes were read: %v", len(in), err)
		}
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("event: open\ndata: {\"schema\":\"provost.stream/1\"}\n\n: alive\n\nid: 3\nevent: journal\ndata: {}\n\n"))
	f.Add([]byte("data: a\r\ndata\r\n\r\n"))
	f.Add([]byte("\xef\xbb\xbfdata:\n\n\n\nevent"))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 256
		got, err := readAll(bytes.NewReader(b), limit)
		if err != io.EOF && !errors.Is(err, errEventTooLong) {
			t.Fatalf("error %v", err)
		}
		for _, ev := range got {
			if len(ev.data) > limit {
				t.Fatalf("an event of %d bytes", len(ev.data))
			}
			// What was read is written and read again as the same, as far as the format can carry it.
			if bytes.ContainsRune(ev.data, '\r') {
				continue
			}
			again, _ := readAll(strings.NewReader("data: "+strings.ReplaceAll(string(ev.data), "\n", "\ndata: ")+"\n\n"), 1<<20)
			if len(again) != 1 || !bytes.Equal(again[0].data, ev.data) {
				t.Fatalf("%q becomes %q", ev.data, again)
			}
		}
	})
}

func FuzzAsk(f *testing.F) {
	f.Add([]byte(`{"key":"k1","digest":"0123456789ab","via":"cli","host":"h","action":{"kind":"pause_workers","args":{"workers":"w1","for":"45m","reason":"disk"}}}`))
	f.Add([]byte(`{"action":{"kind":"lock_screens"}}`))
	f.Add([]byte(`{"action":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, a, err := readAsk(b)
		if err != nil {
			return
		}
		raw, err := engine.MarshalAction(a)
		if err != nil {
			t.Fatalf("an accepted action cannot be written: %v", err)
		}
		q.Action = raw
		body, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		q2, a2, err := readAsk(body)
		if err != nil || q2.Key != q.Key || !cmp.Equal(a, a2) {
			t.Fatalf("%s is not read back: %v", body, err)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte(`{"schema":"provost.snapshot/1","gen":2,"at":"2026-01-31T12:00:00Z","changed":["workers"],"carries":["workers","later"],"workers":{"version":3,"at":"2026-01-31T12:00:00Z","rows":[]},"later":{}}`))
	f.Add([]byte(`{"schema":"provost.snapshot/1","carries":["jobs"],"jobs":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		base := newFake().snap
		before, _ := json.Marshal(base)
		m := mirror{last: base}
		s, _, err := m.apply(b)
		if after, _ := json.Marshal(base); !bytes.Equal(before, after) {
			t.Fatal("a snapshot that was handed out changed")
		}
		if err != nil {
			return
		}
		if _, err := json.Marshal(s); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("every=500ms&sections=workers,jobs&after=17&viewer=ana")
	f.Add("source=w1&source=w2&follow=1&tail=3&since=2026-01-31T12:00:00Z&grep=x&level=warn")
	f.Fuzz(func(t *testing.T, s string) {
		q, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		if o, p := readWatch(q); p == nil && (o.Every < 0 || len(o.Viewer) > 64) {
			t.Errorf("accepted %+v", o)
		}
		if o, p := readLogs(q); p == nil && o.Tail < 0 {
			t.Errorf("accepted %+v", o)
		}
	})
}
