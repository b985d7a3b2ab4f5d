// Package print writes engine values for people and for programs: tables, plans,
// receipts, checks, status, journal and log lines.
//
// Text from outside (names, notes, log lines, errors) is made visible before it
// reaches a terminal: control characters and direction marks come out as \x1b or
// \u202e, so nothing that a job or a file is called can act on the screen. Colour
// repeats what a word already says and is used only when asked for. JSON carries
// a schema with a major number; within one, fields are only added; unknown is
// null. Functions here do not read clocks, environments or terminals: the caller
// says what time it is and what the output can do.
package print

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Style says what the output can do. The zero value is plain text.
type Style struct {
	Color bool // ANSI colours, the terminal's own 16
	ASCII bool // nothing beyond ASCII from us; foreign text is escaped
}

// Clean makes every character visible that could act on a terminal or hide text:
// control characters, bytes that are no UTF-8, marks that turn the direction.
// Line breaks are escaped too: what is one value stays one line.
func Clean(s string) string {
	if strings.IndexFunc(s, hidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case hidden(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hidden(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// hidden is what Clean escapes: C0, DEL, C1, line separators, direction and
// zero-width marks, tags.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == 0x2028 || r == 0x2029 || r == utf8.RuneError
}

// clean is Clean, and everything beyond ASCII escaped where the output wants that.
func (st Style) clean(s string) string {
	s = Clean(s)
	if !st.ASCII {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// paint adds the colour of a word to a text that says it.
func (st Style) paint(word, text string) string {
	if !st.Color {
		return text
	}
	code := ""
	switch word {
	case "down", "gone", "lost", "crit", "critical", "failed", "broken":
		code = "1;31"
	case "warn", "warned", "degraded", "stale", "hot", "partly":
		code = "33"
	case "paused", "pausing", "held", "holding":
		code = "35"
	case "start", "leased", "running", "proved":
		code = "34"
	case "ok", "passed", "verified", "done":
		code = "36"
	case "idle", "queued", "cancelled", "skipped", "unknown", "?", "head":
		code = "2"
	default:
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// width counts the cells of a text.
func width(s string) int { return ansi.StringWidth(s) }

// pad fills a text to n cells, on the left when right is set.
func pad(s string, n int, right bool) string {
	fill := strings.Repeat(" ", max(0, n-width(s)))
	if right {
		return fill + s
	}
	return s + fill
}

// grid writes rows as columns two spaces apart. Paint gives the word whose colour a cell has.
func grid(w io.Writer, st Style, rows [][]string, right []bool, words [][]string) error {
	var widths []int
	for _, r := range rows {
		for i, cell := range r {
			if i >= len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(cell))
		}
	}
	var b strings.Builder
	for n, r := range rows {
		var line strings.Builder
		for i, cell := range r {
			if i > 0 {
				line.WriteString("  ")
			}
			onRight := i < len(right) && right[i]
			if i == len(r)-1 && !onRight {
				// no trailing spaces
			} else {
				cell = pad(cell, widths[i], onRight)
			}
			if words != nil && words[n] != nil && words[n][i] != "" {
				cell = st.paint(words[n][i], cell)
			}
			line.WriteString(cell)
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// JSON writes one value, indented, with a line end.
func JSON(w io.Writer, v any) error { return encode(w, v, "  ") }

// JSONLine writes one value on one line.
func JSONLine(w io.Writer, v any) error { return encode(w, v, "") }

// encode writes JSON whose texts hold no character that acts on a terminal: what
// Clean escapes is written as \u escapes, which read back as the same text.
func encode(w io.Writer, v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	raw := b.String()
	if strings.IndexFunc(raw, outside) >= 0 {
		var out strings.Builder
		for _, r := range raw {
			switch {
			case !outside(r):
				out.WriteRune(r)
			case r > 0xffff:
				hi, lo := utf16.EncodeRune(r)
				fmt.Fprintf(&out, `\u%04x\u%04x`, hi, lo)
			default:
				fmt.Fprintf(&out, `\u%04x`, r)
			}
		}
		raw = out.String()
	}
	_, err := io.WriteString(w, raw)
	return err
}

// outside is what may not stand raw in our JSON: line ends and spaces are its own.
func outside(r rune) bool { return hidden(r) && r != '\n' }

// stamp is a time as text tables show it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// stampMilli is a time of a log line.
func stampMilli(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
