package flow

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"app.provost/engine"

	"go.yaml.in/yaml/v3"
)

// The answers file:
//
//	provost_answers: 1
//	flow: create cluster
//	nodes: 4
//	withdrawal-addresses:
//	  - 0x…
//	  - 0x…
//
// Keys are the flags and arguments of the command. A list may be YAML's or one text with commas; of
// rows each is an entry. Values are texts: what is written is what counts, so 0x00 is
// not zero. Secrets are never in it, only paths of files that hold them.
//
// 1 (2026-11-20): the first.

// AnswersVersion is the version that is written.
const AnswersVersion = 1

const (
	versionKey = "provost_answers"
	flowKey    = "flow"
	// draft files have these too.
	savedKey = "draft_saved"
	stepKey  = "draft_step"

	// MaxAnswersFile bounds an answers file in bytes.
	MaxAnswersFile = 8 << 20
)

// AnswersFile is what an answers file says.
type AnswersFile struct {
	Answers Answers
	Lines   map[Key]int // where each stands, from 1
	// Saved and Step are those of a draft; zero in answers files that a person writes.
	Saved time.Time
	Step  string
}

// ReadAnswers reads an answers file or a draft of a flow. It takes no key that the flow
// doesn't have, no key twice, no nesting and no alias. Values are not checked: see Faults.
func ReadAnswers(r io.Reader, f Flow) (AnswersFile, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxAnswersFile+1))
	if err != nil {
		return AnswersFile{}, err
	}
	if len(raw) > MaxAnswersFile {
		return AnswersFile{}, fmt.Errorf("larger than %d MiB: this is no answers file", MaxAnswersFile>>20)
	}
	d := yaml.NewDecoder(strings.NewReader(string(raw)))
	var doc yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return AnswersFile{}, fmt.Errorf("it is empty: want %s: %d in its first line", versionKey, AnswersVersion)
	} else if err != nil {
		return AnswersFile{}, fmt.Errorf("not YAML: %w", err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return AnswersFile{}, errors.New("more follows after the first document")
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return AnswersFile{}, fmt.Errorf("line %d: want lines of key: value", top.Line)
	}
	out := AnswersFile{Answers: Answers{}, Lines: map[Key]int{}}
	known := f.Keys()
	seen := map[string]int{}
	version := false
	for i := 0; i+1 < len(top.Content); i += 2 {
		k, v := top.Content[i], top.Content[i+1]
		name := k.Value
		if k.Kind != yaml.ScalarNode {
			return AnswersFile{}, fmt.Errorf("line %d: want a key before the colon", k.Line)
		}
		if at := seen[name]; at != 0 {
			return AnswersFile{}, fmt.Errorf("line %d: %s stands in line %d already", k.Line, cut(name), at)
		}
		seen[name] = k.Line
		switch name {
		case versionKey:
			if v.Kind != yaml.ScalarNode || v.Value != strconv.Itoa(AnswersVersion) {
				return AnswersFile{}, fmt.Errorf("line %d: %s: %s: this program reads version %d", v.Line, versionKey, cut(v.Value), AnswersVersion)
			}
			version = true
			continue
		case flowKey:
			if v.Kind != yaml.ScalarNode || v.Value != string(f.ID) {
				return AnswersFile{}, fmt.Errorf("line %d: it answers %s, not %q", v.Line, cut(v.Value), f.ID)
			}
			continue
		case stepKey:
			out.Step = v.Value
			continue
		case savedKey:
			if out.Saved, err = time.Parse(time.RFC3339, v.Value); err != nil {
				return AnswersFile{}, fmt.Errorf("line %d: %s: %s is no time", v.Line, savedKey, cut(v.Value))
			}
			continue
		}
		if !slices.Contains(known, Key(name)) {
			var names []string
			for _, k := range known {
				names = append(names, string(k))
			}
			if near := engine.Nearest(name, names); near != "" {
				return AnswersFile{}, fmt.Errorf("line %d: unknown key %s; did you mean %q?", k.Line, cut(name), near)
			}
			return AnswersFile{}, fmt.Errorf("line %d: unknown key %s: keys are the flags of provost %s", k.Line, cut(name), f.ID)
		}
		q, _ := f.Field(Key(name))
		text, err := answerText(v, q)
		if err != nil {
			return AnswersFile{}, err
		}
		out.Answers[q.Key], out.Lines[q.Key] = text, k.Line
	}
	if !version {
		return AnswersFile{}, fmt.Errorf("it doesn't say its version: want a line %s: %d", versionKey, AnswersVersion)
	}
	return out, nil
}

func answerText(v *yaml.Node, q Field) (string, error) {
	switch v.Kind {
	case yaml.ScalarNode:
		if v.Tag == "!!null" {
			return "", fmt.Errorf("line %d: %s has no value: give one or leave the line out", v.Line, q.Key)
		}
		if q.Kind == Bool && v.Value != "true" && v.Value != "false" {
			return "", fmt.Errorf("line %d: %s: %s: want true or false", v.Line, q.Key, cut(v.Value))
		}
		if strings.Contains(v.Value, "\n") && q.Kind != Rows {
			return "", fmt.Errorf("line %d: %s: want one line", v.Line, q.Key)
		}
		return strings.TrimRight(v.Value, "\n"), nil
	case yaml.SequenceNode:
		sep := ","
		switch {
		case q.Kind == Rows:
			sep = "\n"
		case q.list():
		default:
			return "", fmt.Errorf("line %d: %s takes one value, not a list", v.Line, q.Key)
		}
		var parts []string
		for _, e := range v.Content {
			if e.Kind != yaml.ScalarNode || e.Tag == "!!null" {
				return "", fmt.Errorf("line %d: %s: want a list of plain values", e.Line, q.Key)
			}
			if strings.Contains(e.Value, sep) || strings.Contains(e.Value, "\n") {
				return "", fmt.Errorf("line %d: %s: want one value in each entry", e.Line, q.Key)
			}
			parts = append(parts, e.Value)
		}
		return strings.Join(parts, sep), nil
	}
	return "", fmt.Errorf("line %d: %s: want a value or a list, without nesting, anchors or aliases", v.Line, q.Key)
}

// WriteAnswers writes answers in the order of the flow; the same answers give the same
// bytes. With a draft's time and step it writes a draft. Empty answers are left out.
func WriteAnswers(w io.Writer, f Flow, file AnswersFile) error {
	top := &yaml.Node{Kind: yaml.MappingNode}
	text := func(s string) *yaml.Node {
		n := &yaml.Node{}
		n.SetString(s)
		if s != "" && s[0] >= '0' && s[0] <= '9' {
			n.Style = yaml.DoubleQuotedStyle // other readers take 0x… for a number
		}
		return n
	}
	plain := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }
	add := func(k string, v *yaml.Node) { top.Content = append(top.Content, plain(k), v) }
	add(versionKey, plain(strconv.Itoa(AnswersVersion)))
	add(flowKey, text(string(f.ID)))
	if !file.Saved.IsZero() {
		add(savedKey, text(file.Saved.UTC().Format(time.RFC3339)))
		add(stepKey, text(file.Step))
	}
	for _, k := range f.Keys() {
		q, _ := f.Field(k)
		v := q.tidy(file.Answers[k])
		if v == "" {
			continue
		}
		var parts []string
		switch {
		case q.Kind == Rows:
			parts = strings.Split(v, "\n")
		case q.list():
			if parts = strings.Split(v, ","); slices.Contains(parts, "") {
				parts = nil // it is wrong, and stays as it was typed
			}
		case q.Kind == Number && digitsOnly(v), q.Kind == Bool && (v == "true" || v == "false"):
			add(string(k), plain(v))
			continue
		}
		if parts == nil {
			add(string(k), text(v))
			continue
		}
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, p := range parts {
			list.Content = append(list.Content, text(p))
		}
		add(string(k), list)
	}
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(top); err != nil {
		return fmt.Errorf("write answers: %w", err)
	}
	return e.Close()
}
