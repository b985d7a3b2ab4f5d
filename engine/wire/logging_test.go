package wire

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"
)

func TestLogLines(t *testing.T) {
	at := time.Date(2026, 3, 2, 11, 4, 40, 12e6, time.FixedZone("x", 3600))
	emit := func(h slog.Handler) {
		r := slog.NewRecord(at, slog.LevelWarn, "worker.exit\n2026 forged", 0)
		r.Add("worker", "w7", "code", 137, "why", "a b")
		if err := h.WithAttrs([]slog.Attr{slog.String("host", "m1")}).Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	var text, js bytes.Buffer
	emit(newHandler(&text, FormatText, slog.LevelInfo))
	if got, want := text.String(), "2026-03-02T10:04:40.012Z warn  worker.exit.2026 forged host=m1 worker=w7 code=137 why=\"a b\"\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	emit(newHandler(&js, FormatJSON, slog.LevelInfo))
	var line map[string]any
	if err := json.Unmarshal(js.Bytes(), &line); err != nil || line["t"] != "2026-03-02T10:04:40.012Z" || line["lvl"] != "warn" || line["worker"] != "w7" || line["code"] != 137.0 {
		t.Errorf("%v in %s", err, js.String())
	}
	if bytes.Count(js.Bytes(), []byte("\n")) != 1 {
		t.Errorf("more than one line: %q", js.String())
	}
}
