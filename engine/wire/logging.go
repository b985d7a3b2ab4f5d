package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// LogFormat is how log lines look.
type LogFormat string

const (
	// FormatText: "2026-03-02T11:04:40.012Z info  worker.exit worker=w7 code=137"
	FormatText LogFormat = "text"
	// FormatJSON: {"t":"2026-03-02T11:04:40.012Z","lvl":"info","ev":"worker.exit","worker":"w7","code":137}
	FormatJSON LogFormat = "json"
)

const logTime = "2006-01-02T15:04:05.000Z"

func levelWord(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// ParseLogLevel reads debug, info, warn or error; anything else is info.
func ParseLogLevel(s string) slog.Level {
	switch s {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// newHandler makes a handler of one event per line with stable keys.
func newHandler(w io.Writer, format LogFormat, level slog.Leveler) slog.Handler {
	if format == FormatJSON {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch a.Key {
			case slog.TimeKey:
				return slog.String("t", a.Value.Time().UTC().Format(logTime))
			case slog.LevelKey:
				return slog.String("lvl", levelWord(a.Value.Any().(slog.Level)))
			case slog.MessageKey:
				return slog.String("ev", a.Value.String())
			}
			return a
		}})
	}
	t := &textHandler{mu: &sync.Mutex{}, w: w, buf: &bytes.Buffer{}}
	t.inner = slog.NewTextHandler(t.buf, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{} // they lead the line
		}
		return a
	}})
	return t
}

// textHandler puts time, level and event in front of slog's own text. Handlers
// made from one another share buffer and lock.
type textHandler struct {
	mu    *sync.Mutex
	w     io.Writer
	buf   *bytes.Buffer // what inner writes; guarded by mu
	inner slog.Handler
}

func (h *textHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.inner.Enabled(ctx, l) }

func (h *textHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf.Reset()
	at := r.Time
	if at.IsZero() {
		at = time.Now()
	}
	level := levelWord(r.Level)
	// A message with a line break would forge a line.
	h.buf.WriteString(at.UTC().Format(logTime) + " " + level + strings.Repeat(" ", 6-len(level)) + oneLine(r.Message))
	h.buf.WriteByte(' ')
	if err := h.inner.Handle(ctx, r); err != nil {
		return err
	}
	_, err := h.w.Write(h.buf.Bytes())
	return err
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '.'
		}
		return r
	}, s)
}

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.inner = h.inner.WithAttrs(attrs)
	return &c
}

func (h *textHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.inner = h.inner.WithGroup(name)
	return &c
}

// both writes each record to two handlers: the operator's stream and the engine's log file.
type both struct{ a, b slog.Handler }

func (t both) Enabled(ctx context.Context, l slog.Level) bool {
	return t.a.Enabled(ctx, l) || t.b.Enabled(ctx, l)
}

func (t both) Handle(ctx context.Context, r slog.Record) error {
	var errs []error
	for _, h := range []slog.Handler{t.a, t.b} {
		if h.Enabled(ctx, r.Level) {
			errs = append(errs, h.Handle(ctx, r.Clone()))
		}
	}
	return errors.Join(errs...)
}

func (t both) WithAttrs(a []slog.Attr) slog.Handler {
	return both{t.a.WithAttrs(a), t.b.WithAttrs(a)}
}

func (t both) WithGroup(n string) slog.Handler { return both{t.a.WithGroup(n), t.b.WithGroup(n)} }
