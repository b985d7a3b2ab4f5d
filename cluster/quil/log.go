package quil

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Tells is what a log line says of the process that wrote it.
type Tells string

const (
	TellsAccepted  Tells = "accepted"  // the binary's signatures were found good
	TellsMode      Tells = "mode"      // who starts the workers
	TellsReady     Tells = "ready"     // it listens, or is connected
	TellsLost      Tells = "lost"      // a worker does not answer, or ended
	TellsEnds      Tells = "ends"      // the process ends
	TellsBegan     Tells = "began"     // a proof is being made
	TellsDone      Tells = "done"      // a proof was made or sent
	TellsMissed    Tells = "missed"    // work was lost
	TellsPeers     Tells = "peers"     // how it stands with the network
	TellsSync      Tells = "sync"      // how far it has caught up
	TellsResources Tells = "resources" // disk, memory, open files
)

// LogLine is a line of a node's log that tells state.
type LogLine struct {
	ID string `yaml:"id" json:"id"`
	// Text is the message; {name} stands for a number or a word, which becomes a field. nil: the wording is not known, and
	// the line is known by its Fields.
	Text *string `yaml:"text" json:"text"`
	// Anywhere: the message may stand within other text.
	Anywhere bool  `yaml:"anywhere" json:"anywhere"`
	Tells    Tells `yaml:"tells" json:"tells"`
	// Fields that the line carries; others are not read.
	Fields  []string `yaml:"fields" json:"fields"`
	Meaning string   `yaml:"meaning" json:"meaning"`
	How     How      `yaml:"how" json:"how"`
	Source  string   `yaml:"source" json:"source"`
}

// Timing is a figure that log lines give, with what the community holds to be good and bad.
type Timing struct {
	ID     string   `yaml:"id" json:"id"`
	Line   string   `yaml:"line" json:"line"`   // the LogLine that carries it
	Field  string   `yaml:"field" json:"field"` // seconds
	Minus  string   `yaml:"minus" json:"minus"` // the LogLine whose field of the same name is taken from it; "" for none
	Good   *float64 `yaml:"good_s" json:"good_s"`
	Bad    *float64 `yaml:"bad_s" json:"bad_s"`
	How    How      `yaml:"how" json:"how"`
	Note   string   `yaml:"note,omitempty" json:"note,omitempty"`
	Source string   `yaml:"source" json:"source"`
}

// LogEvent is a line that was recognised.
type LogEvent struct {
	ID    string `json:"id"` // of the LogLine
	Tells Tells  `json:"tells"`
	// Fields that the LogLine names and that this line has: as text, at most 200 bytes each.
	Fields map[string]string `json:"fields,omitempty"`
}

// MaxLogLine bounds a line; longer ones are not read.
const MaxLogLine = 64 << 10

const maxField = 200

// ReadLog recognises one line of a node's log, with or without its end. false: it tells nothing that is known. A line
// is read as JSON (the Go nodes), as columns with a JSON tail (the Rust node) or as plain text.
func (e Era) ReadLog(line []byte) (LogEvent, bool) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 || len(line) > MaxLogLine || !utf8.Valid(line) {
		return LogEvent{}, false
	}
	var texts []string
	var fields map[string]json.RawMessage
	if line[0] == '{' {
		if json.Unmarshal(line, &fields) != nil {
			return LogEvent{}, false
		}
		var msg string
		if json.Unmarshal(fields["msg"], &msg) != nil {
			return LogEvent{}, false
		}
		texts = []string{msg}
	} else {
		for i, col := range strings.Split(string(line), "\t") {
			if i == maxColumns {
				break
			}
			col = strings.TrimSpace(col)
			if strings.HasPrefix(col, "{") && json.Unmarshal([]byte(col), &fields) == nil {
				continue
			}
			texts = append(texts, col)
		}
	}
	for _, l := range e.Logs {
		if got, ok := l.read(texts, fields); ok {
			return LogEvent{l.ID, l.Tells, got}, true
		}
	}
	return LogEvent{}, false
}

const maxColumns = 16

func (l LogLine) read(texts []string, fields map[string]json.RawMessage) (map[string]string, bool) {
	got := map[string]string{}
	for _, name := range l.Fields {
		if s, ok := field(fields[name]); ok {
			got[name] = s
		}
	}
	if l.Text == nil {
		return got, len(got) == len(l.Fields) && len(got) > 0
	}
	re := pattern(*l.Text, l.Anywhere)
	for _, t := range texts {
		m := re.FindStringSubmatch(t)
		if m == nil {
			continue
		}
		for i, name := range re.SubexpNames() {
			if name != "" {
				got[name] = m[i]
			}
		}
		return got, true
	}
	return nil, false
}

// field gives a number, a word or a list of numbers as text.
func field(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || len(raw) > maxField {
		return "", false
	}
	if raw[0] != '"' {
		return string(raw), !slices.Contains([]string{"null", "{"}, string(raw)) && raw[0] != '{'
	}
	var s string
	if json.Unmarshal(raw, &s) != nil || strings.ContainsFunc(s, unicode.IsControl) {
		return "", false
	}
	return s, true
}

var (
	placeholder = regexp.MustCompile(`\\\{([a-z_]+)\\\}`)
	patterns    sync.Map // text and anywhere -> *regexp.Regexp; bounded by the lines of eras.yml
)

func pattern(text string, anywhere bool) *regexp.Regexp {
	key := strconv.FormatBool(anywhere) + text
	if re, ok := patterns.Load(key); ok {
		return re.(*regexp.Regexp)
	}
	s := placeholder.ReplaceAllString(regexp.QuoteMeta(text), `(?P<$1>[0-9A-Za-z_.:/-]{1,200})`)
	if !anywhere {
		s = "^" + s + "$"
	}
	re := regexp.MustCompile(s) // quoted text and named groups; every line of eras.yml is compiled by a test
	patterns.Store(key, re)
	return re
}
