package quil

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// set gives the config with edits made. The text is changed line by line, so that all that is not the manager's stays
// byte for byte; what was made is read again and must mean what it should. Where the layout does not allow that (a flow
// mapping, a value over several lines), the whole is written anew from its tree: keys, order and comments stay, spaces
// and empty lines may not.
func (c Config) set(edits []edit) (out Config, reformatted bool, err error) {
	want := clone(c.c.root)
	added := map[*yaml.Node]int{}
	for _, d := range edits {
		if err := setNode(want, added, d); err != nil {
			return Config{}, false, err
		}
	}
	if len(edits) == 0 {
		return c, false, nil
	}
	if text, ok := c.c.splice(edits); ok {
		if out, err := ParseConfig(text); err == nil && sameNode(out.c.root, want) {
			return out, false, nil
		}
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(c.c.indent())
	if err := enc.Encode(want); err != nil {
		return Config{}, false, &ConfigError{0, "", "it cannot be written again", "write it out in block style, one key a line"}
	}
	_ = enc.Close()
	if out, err = ParseConfig(b.Bytes()); err != nil || !sameNode(out.c.root, want) {
		return Config{}, false, &ConfigError{0, "", "it cannot be written again without changing what it says", "write it out in block style, one key a line"}
	}
	return out, true, nil
}

// setNode makes an edit in a tree. A mapping that is not there is added last, a key first in its mapping, after those
// added before (counted in added): in the text, the line after the mapping's own key is where a key may always stand.
func setNode(root *yaml.Node, added map[*yaml.Node]int, d edit) error {
	parts := strings.Split(d.path, ".")
	m := root
	for i, part := range parts[:len(parts)-1] {
		_, v := child(m, part)
		if v == nil {
			v = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: part}, v)
		}
		if isNull(v) {
			*v = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		}
		if v.Kind != yaml.MappingNode {
			return &ConfigError{v.Line, strings.Join(parts[:i+1], "."), "no mapping of keys to values", "write keys below it"}
		}
		m = v
	}
	last := parts[len(parts)-1]
	k, v := child(m, last)
	if k == nil {
		at := 2 * added[m]
		added[m]++
		m.Content = slices.Insert(m.Content, at, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: last}, d.node())
		return nil
	}
	n := d.node()
	if n.Kind != v.Kind && !isNull(v) {
		return &ConfigError{v.Line, d.path, "a value of another kind than the node reads", "write " + map[bool]string{true: "a list", false: "one value"}[d.isList()]}
	}
	n.LineComment, n.HeadComment, n.FootComment = v.LineComment, v.HeadComment, v.FootComment
	for i := range n.Content {
		if i < len(v.Content) {
			n.Content[i].HeadComment, n.Content[i].LineComment, n.Content[i].FootComment = v.Content[i].HeadComment, v.Content[i].LineComment, v.Content[i].FootComment
		}
	}
	*v = *n
	return nil
}

func clone(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = make([]*yaml.Node, len(n.Content))
	for i := range n.Content {
		c.Content[i] = clone(n.Content[i])
	}
	return &c
}

// indent gives how far the file indents a mapping in a mapping; 2 where none tells.
func (c *config) indent() int {
	for i := 0; i+1 < len(c.root.Content); i += 2 {
		k, v := c.root.Content[i], c.root.Content[i+1]
		if block(v, yaml.MappingNode) && len(v.Content) > 0 && v.Content[0].Column > k.Column {
			return min(v.Content[0].Column-k.Column, 8)
		}
	}
	return 2
}

func block(n *yaml.Node, k yaml.Kind) bool { return n.Kind == k && n.Style&yaml.FlowStyle == 0 }

// listIndent gives how far the file indents the entries of a list below its key.
func (c *config) listIndent() int {
	found := -1
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content) && found < 0; i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if block(v, yaml.SequenceNode) && len(v.Content) > 0 && v.Column >= k.Column {
				found = min(v.Column-k.Column, 8)
				return
			}
			walk(v)
		}
	}
	if walk(c.root); found < 0 {
		return c.indent()
	}
	return found
}

// text that is being changed: what each old line becomes (nil: as it is), and what is put after it. Line 0 is before
// the first.
type splicing struct {
	lines   []string // with their ends
	eol     string
	becomes map[int]string
	gone    map[int]bool
	after   map[int][]string
	head    []string // put at the very end
}

// splice changes the text. false: this text cannot be changed so.
func (c *config) splice(edits []edit) ([]byte, bool) {
	s := splicing{lines: strings.SplitAfter(string(c.text), "\n"), eol: "\n", becomes: map[int]string{}, gone: map[int]bool{}, after: map[int][]string{}}
	if s.lines[len(s.lines)-1] == "" {
		s.lines = s.lines[:len(s.lines)-1]
	}
	if len(s.lines) > 0 && strings.HasSuffix(s.lines[0], "\r\n") {
		s.eol = "\r\n"
	}
	fresh := map[string]bool{} // mappings that the edits add to the end
	unit, listUnit := c.indent(), c.listIndent()
	for _, d := range edits {
		parts := strings.Split(d.path, ".")
		m, pk := c.root, (*yaml.Node)(nil)
		depth := 0
		for depth < len(parts)-1 {
			k, v := child(m, parts[depth])
			if k == nil || isNull(v) {
				break
			}
			if !block(v, yaml.MappingNode) {
				return nil, false
			}
			m, pk, depth = v, k, depth+1
		}
		k, v := child(m, parts[depth])
		switch {
		case depth == len(parts)-1 && k != nil:
			if !s.replace(d, k, v, listUnit) {
				return nil, false
			}
		case depth == len(parts)-1 && pk != nil && len(m.Content) > 0:
			s.after[pk.Line] = append(s.after[pk.Line], s.write(d, m.Content[0].Column-1, listUnit)...)
		case depth == len(parts)-2 && k == nil && m == c.root:
			if !fresh[parts[depth]] {
				fresh[parts[depth]] = true
				s.head = append(s.head, parts[depth]+":")
			}
			s.head = append(s.head, s.write(d, unit, listUnit)...)
		default:
			return nil, false // rare: written anew from the tree
		}
	}
	return s.join(), true
}

// write gives the lines of a new key.
func (s *splicing) write(d edit, indent, listUnit int) []string {
	pad := strings.Repeat(" ", indent)
	key := d.path[strings.LastIndexByte(d.path, '.')+1:]
	switch {
	case !d.isList():
		return []string{pad + key + ": " + d.one}
	case len(d.list) == 0:
		return []string{pad + key + ": []"}
	}
	return append([]string{pad + key + ":"}, items(d.list, indent+listUnit)...)
}

func items(list []string, indent int) []string {
	pad := strings.Repeat(" ", indent)
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = pad + "- " + e
	}
	return out
}

// replace changes the value of a key that is there.
func (s *splicing) replace(d edit, k, v *yaml.Node, listUnit int) bool {
	if !d.isList() {
		if v.Line != k.Line {
			return false
		}
		return s.value(v, d.one, cmp.Or(v.LineComment, k.LineComment))
	}
	if !block(v, yaml.SequenceNode) || len(v.Content) == 0 { // [], [a, b] or nothing
		if v.Line != k.Line {
			return false
		}
		if len(d.list) == 0 {
			return s.value(v, "[]", cmp.Or(v.LineComment, k.LineComment))
		}
		s.after[k.Line] = append(s.after[k.Line], items(d.list, k.Column-1+listUnit)...)
		return s.value(v, "", cmp.Or(v.LineComment, k.LineComment))
	}
	if v.Line == k.Line {
		return false
	}
	for i, n := range v.Content {
		if n.Kind != yaml.ScalarNode || i > 0 && n.Line <= v.Content[i-1].Line {
			return false
		}
	}
	old := v.Content
	lastOld := old[len(old)-1].Line
	if len(d.list) == 0 {
		for l := k.Line + 1; l <= lastOld; l++ {
			s.gone[l] = true
		}
		tail := &yaml.Node{Kind: yaml.ScalarNode, Line: k.Line, Column: k.Column + utf8.RuneCountInString(s.keyText(k))}
		return s.value(tail, "[]", k.LineComment)
	}
	for i, n := range old {
		if i < len(d.list) {
			if n.Value != d.list[i] && !s.value(n, d.list[i], n.LineComment) {
				return false
			}
			continue
		}
		for l := old[i-1].Line + 1; l <= n.Line; l++ {
			s.gone[l] = true
		}
	}
	if len(d.list) > len(old) {
		s.after[lastOld] = append(s.after[lastOld], items(d.list[len(old):], v.Column-1)...)
	}
	return true
}

// keyText gives a key with its colon as it stands in the line.
func (s *splicing) keyText(k *yaml.Node) string {
	line, at, ok := s.at(k)
	if !ok {
		return ""
	}
	rest := line[at:]
	i := strings.IndexByte(rest, ':')
	if i < 0 {
		return ""
	}
	return rest[:i+1]
}

// at gives the line of a node, without its end, and the byte where the node begins.
func (s *splicing) at(n *yaml.Node) (line string, at int, ok bool) {
	if n.Line < 1 || n.Line > len(s.lines) {
		return "", 0, false
	}
	line = strings.TrimRight(s.lines[n.Line-1], "\r\n")
	for range n.Column - 1 {
		if at > len(line) {
			return "", 0, false
		}
		_, size := utf8.DecodeRuneInString(line[at:])
		at += size
		if size == 0 {
			break
		}
	}
	return line, at, true
}

// value puts another value in the place of a scalar, or of a list in one line. The comment behind it stays.
func (s *splicing) value(n *yaml.Node, to, comment string) bool {
	line, at, ok := s.at(n)
	if _, twice := s.becomes[n.Line]; !ok || twice {
		return false
	}
	front := strings.TrimRight(line[:at], " \t")
	comment, _, _ = strings.Cut(comment, "\n") // lines of its own below are not touched
	if to != "" {
		front += " " + to
	}
	if comment != "" {
		if !strings.HasSuffix(line, comment) {
			return false
		}
		front += " " + comment
	}
	s.becomes[n.Line] = front
	return true
}

func (s *splicing) join() []byte {
	var b bytes.Buffer
	for i, l := range s.lines {
		n := i + 1
		to, changed := s.becomes[n]
		switch {
		case s.gone[n]:
		case changed:
			b.WriteString(to + s.eol)
		default:
			b.WriteString(l)
		}
		if add := s.after[n]; len(add) > 0 {
			s.end(&b)
			for _, a := range add {
				b.WriteString(a + s.eol)
			}
		}
	}
	if len(s.head) > 0 {
		s.end(&b)
		for _, a := range s.head {
			b.WriteString(a + s.eol)
		}
	}
	return b.Bytes()
}

// end ends a last line that has no end.
func (s *splicing) end(b *bytes.Buffer) {
	if b.Len() > 0 && !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
		b.WriteString(s.eol)
	}
}
