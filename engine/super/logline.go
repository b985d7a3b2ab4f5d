package super

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"app.provost/engine"
)

// parsed is what a line says.
type parsed struct {
	at     *time.Time
	level  engine.Level
	text   string
	fields string
}

// parseLine reads a line of slog's text or JSON form, or one that begins with a
// time and a level; everything else is text. It takes foreign bytes: whatever
// comes, the result is printable, so that no log can drive a terminal.
func parseLine(raw []byte) parsed {
	raw = bytes.TrimRight(raw, "\r\n")
	p, ok := parseJSONLine(raw)
	if !ok {
		p, ok = parseTextLine(raw)
	}
	if !ok {
		p, ok = parsePlainLine(raw)
	}
	if !ok {
		p = parsed{text: string(raw)}
	}
	p.text, p.fields = printable(p.text), printable(p.fields)
	return p
}

// parseJSONLine reads an object with time, level and msg (slog), or t, lvl and ev
// (the headless engine's own). The other members become fields, in their order.
func parseJSONLine(raw []byte) (parsed, bool) {
	if len(raw) == 0 || raw[0] != '{' {
		return parsed{}, false
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return parsed{}, false
	}
	var p parsed
	var fields []string
	for d.More() {
		tok, err := d.Token()
		name, isName := tok.(string)
		var v json.RawMessage
		if err != nil || !isName || d.Decode(&v) != nil {
			return parsed{}, false
		}
		var s string
		isText := json.Unmarshal(v, &s) == nil && len(v) > 0 && v[0] == '"'
		switch {
		case (name == "time" || name == "t") && p.at == nil && isText:
			p.at = parseTime(s)
		case (name == "level" || name == "lvl") && p.level == "" && isText:
			p.level = parseLevel(s)
		case (name == "msg" || name == "ev") && p.text == "" && isText:
			p.text = s
		case isText:
			fields = append(fields, name+"="+fieldValue(s))
		default:
			var short bytes.Buffer
			if json.Compact(&short, v) != nil {
				return parsed{}, false
			}
			fields = append(fields, name+"="+short.String())
		}
	}
	// The object must be whole: a cut line is shown as it is.
	if tok, err := d.Token(); err != nil || tok != json.Delim('}') || d.More() || p.at == nil && p.text == "" {
		return parsed{}, false
	}
	p.fields = strings.Join(fields, " ")
	return p, true
}

// parseTextLine reads key=value pairs as slog's TextHandler writes them. It must begin with time=.
func parseTextLine(raw []byte) (parsed, bool) {
	rest, ok := strings.CutPrefix(string(raw), "time=")
	if !ok {
		return parsed{}, false
	}
	rest = "time=" + rest
	var p parsed
	var fields []string
	for rest != "" {
		name, after, ok := strings.Cut(rest, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \"") && name[0] != '"' {
			return parsed{}, false
		}
		var value, word string
		if strings.HasPrefix(after, `"`) {
			q, err := strconv.QuotedPrefix(after)
			if err != nil {
				return parsed{}, false
			}
			if value, err = strconv.Unquote(q); err != nil {
				return parsed{}, false
			}
			word, rest = q, after[len(q):]
		} else {
			value, _, _ = strings.Cut(after, " ")
			word, rest = value, after[len(value):]
		}
		switch {
		case name == "time" && p.at == nil:
			if p.at = parseTime(value); p.at == nil {
				return parsed{}, false
			}
		case name == "level" && p.level == "":
			p.level = parseLevel(value)
		case name == "msg" && p.text == "":
			p.text = value
		default:
			fields = append(fields, name+"="+word)
		}
		if rest != "" && rest[0] != ' ' {
			return parsed{}, false
		}
		rest = strings.TrimLeft(rest, " ")
	}
	p.fields = strings.Join(fields, " ")
	return p, true
}

// parsePlainLine reads "TIME level text", the headless engine's form for people.
func parsePlainLine(raw []byte) (parsed, bool) {
	word, rest, _ := strings.Cut(string(raw), " ")
	at := parseTime(word)
	if at == nil {
		return parsed{}, false
	}
	p := parsed{at: at, text: strings.TrimLeft(rest, " ")}
	word, rest, _ = strings.Cut(p.text, " ")
	if l := parseLevel(word); l != "" {
		p.level, p.text = l, strings.TrimLeft(rest, " ")
	}
	return p, true
}

func parseTime(s string) *time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return nil
	}
	t = t.UTC()
	return &t
}

// parseLevel reads slog's levels, "WARN+1" too, and the words in common use.
func parseLevel(s string) engine.Level {
	base, _, _ := strings.Cut(strings.ToLower(s), "+")
	base, _, _ = strings.Cut(base, "-")
	switch base {
	case "debug", "trace":
		return engine.LevelDebug
	case "info", "note", "notice":
		return engine.LevelNote
	case "warn", "warning":
		return engine.LevelWarn
	case "error", "err", "crit", "critical", "fatal", "panic":
		return engine.LevelCrit
	}
	return ""
}

// fieldValue quotes a value as slog's TextHandler does.
func fieldValue(s string) string {
	if s == "" || strings.ContainsAny(s, " =\"") || !utf8.ValidString(s) || slices.ContainsFunc([]rune(s), func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// printable makes a text safe for a terminal: escape sequences go, other control
// characters and broken UTF-8 are shown as what they are.
func printable(s string) string {
	clean := true
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError || hidden(r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\t':
			b.WriteByte(' ')
		case r == 0x1b && i+1 < len(s) && s[i+1] == '[':
			// A control sequence: parameters, then one letter. Colours, mostly.
			j := i + 2
			for j < len(s) && (s[j] >= 0x20 && s[j] < 0x40) {
				j++
			}
			n = min(j+1, len(s)) - i
			if j < len(s) && (s[j] < 0x40 || s[j] > 0x7e) {
				n = j - i // not one after all: what stands there is read by itself
			}
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r < ' ' || r >= 0x7f && r < 0xa0:
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

// hidden tells characters that change the direction or the look of a line unseen.
func hidden(r rune) bool {
	return r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060 && r <= 0x2069 || r == 0xfeff || r == 0x2028 || r == 0x2029
}
