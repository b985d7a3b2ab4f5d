package quil

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Bounds of a config.yml. A file of 2,048 workers with all four lists has about 400 KiB and 20,000 separators.
const (
	MaxConfigBytes = 4 << 20
	maxDepth       = 16
	maxSeparators  = 150_000
)

// separators counts what must stand between two values in YAML: a tree has at most about twice as many. It is counted
// before the tree is built, which takes a hundred times the memory of a text made of separators only.
func separators(b []byte) (n int) {
	for i, c := range b {
		switch c {
		case '\n', '\r', ',', '[', '{', ':':
			n++
		case '-', '?':
			if i+1 < len(b) && (b[i+1] == ' ' || b[i+1] == '\t') {
				n++
			}
		}
	}
	return n
}

// Config is a parsed config.yml. It holds secrets, so it neither prints nor encodes itself; Export gives the bytes, and
// Outline what may be shown. It never changes after it was made.
type Config struct{ c *config }

type config struct {
	text []byte
	root *yaml.Node // a mapping
}

var errSecret = errors.New("a node's config.yml holds secrets and is not encoded")

// String returns "[secret]".
func (Config) String() string { return "[secret]" }

// GoString returns "[secret]".
func (Config) GoString() string { return "[secret]" }

// Format prints "[secret]" whatever the verb is.
func (Config) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// LogValue logs "[secret]".
func (Config) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalJSON always fails.
func (Config) MarshalJSON() ([]byte, error) { return nil, errSecret }

// MarshalText always fails.
func (Config) MarshalText() ([]byte, error) { return nil, errSecret }

// MarshalYAML always fails.
func (Config) MarshalYAML() (any, error) { return nil, errSecret }

// Export returns the bytes of the file, secrets included: for a file of mode 0600 and for nothing else.
func (c Config) Export() []byte {
	if c.c == nil {
		return nil
	}
	return bytes.Clone(c.c.text)
}

// IsZero tells whether there is no config.
func (c Config) IsZero() bool { return c.c == nil }

// ConfigError says what is wrong with a config.yml. It never quotes a value: the file holds secrets.
type ConfigError struct {
	Line   int    // 0: not known
	Key    string // as "engine.dataWorkerMultiaddrs"; "" for the file
	Text   string
	Remedy string
}

func (e *ConfigError) Error() string {
	s := "read node config"
	if e.Line > 0 {
		s += fmt.Sprintf(", line %d", e.Line)
	}
	if e.Key != "" {
		s += ", " + e.Key
	}
	return s + ": " + e.Text + ": " + e.Remedy
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+):`)

// ParseConfig reads a config.yml. It is stricter than the node: one document, of mappings with plain keys, each key
// once, no anchors, aliases, merges or tags, bounded in size and depth. Keys that are not known are kept.
func ParseConfig(b []byte) (Config, error) {
	fail := func(line int, key, text, remedy string) (Config, error) {
		return Config{}, &ConfigError{line, key, text, remedy}
	}
	switch {
	case len(b) > MaxConfigBytes:
		return fail(0, "", fmt.Sprintf("it has %d bytes", len(b)), fmt.Sprintf("at most %d are read; is this the node's config.yml?", MaxConfigBytes))
	case separators(b) > maxSeparators:
		return fail(0, "", "it has too many values", "is this the node's config.yml?")
	case !utf8.Valid(b) || bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) || bytes.IndexByte(b, 0) >= 0:
		return fail(0, "", "it is not plain UTF-8 text", "save it as UTF-8 without a byte order mark")
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	if err := decode(d, &doc); err != nil {
		if errors.Is(err, io.EOF) {
			return fail(0, "", "it is empty", "start the node once, so that it makes its config.yml")
		}
		return fail(lineOf(err), "", "it is not YAML", notYAML)
	}
	var next yaml.Node
	switch err := decode(d, &next); {
	case err == nil:
		return fail(next.Line, "", "there is more than one document in it", "keep the first one")
	case !errors.Is(err, io.EOF):
		return fail(lineOf(err), "", "it is not YAML", notYAML)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return fail(doc.Line, "", "it is no mapping of keys to values", "is this the node's config.yml?")
	}
	if err := walk(doc.Content[0], "", 0); err != nil {
		return Config{}, err
	}
	return Config{&config{bytes.Clone(b), doc.Content[0]}}, nil
}

const notYAML = "mend it there; a node that wrote a shorter text over a longer one leaves a rest at the end"

// decode keeps a fault of the library in reading hostile text from ending the program.
func decode(d *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("yaml: not readable")
		}
	}()
	return d.Decode(n)
}

// lineOf takes the line out of an error of the library, and nothing else: the rest may quote the file.
func lineOf(err error) int {
	if err == nil {
		return 0
	}
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// walk refuses what a config.yml must not have.
func walk(n *yaml.Node, key string, depth int) error {
	fail := func(text, remedy string) error { return &ConfigError{n.Line, showKey(key), text, remedy} }
	if depth > maxDepth {
		return fail("it is nested too deeply", "is this the node's config.yml?")
	}
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		return fail("an anchor or an alias", "write the value out: each copy of the file must be read alone")
	}
	if n.Style&yaml.TaggedStyle != 0 {
		return fail("a value with a tag", "write the value without a tag")
	}
	switch n.Kind {
	case yaml.MappingNode:
		seen := make(map[string]int, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if k.Kind != yaml.ScalarNode || k.Anchor != "" || k.Style&yaml.TaggedStyle != 0 || k.Value == "" || len(k.Value) > 200 || k.Tag == "!!merge" {
				return &ConfigError{k.Line, showKey(key), "a key that is no plain word", "write it as a plain word"}
			}
			name := join(key, k.Value)
			if first, twice := seen[k.Value]; twice {
				return &ConfigError{k.Line, showKey(name), fmt.Sprintf("the key is there twice, first in line %d", first), "keep one of them"}
			}
			seen[k.Value] = k.Line
			if err := walk(v, name, depth+1); err != nil {
				return err
			}
		}
	case yaml.SequenceNode:
		for _, v := range n.Content {
			if err := walk(v, key, depth+1); err != nil {
				return err
			}
		}
	case yaml.ScalarNode:
	default:
		return fail("a value of an unknown kind", "write it as text, a list or a mapping")
	}
	return nil
}

func join(parent, key string) string {
	if parent == "" {
		return key
	}
	return parent + "." + key
}

var plainKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,99}$`)

// showKey keeps a path that might hold foreign text, or a secret where a key should be, out of messages.
func showKey(key string) string {
	if key == "" || plainKey.MatchString(key) && !longHex.MatchString(key) {
		return key
	}
	return "(a key that is not shown)"
}

var longHex = regexp.MustCompile(`[0-9A-Fa-f]{32}`)

// find gives the key and value nodes at a path; nil where there is none.
func (c *config) find(path string) (k, v *yaml.Node) {
	v = c.root
	for part := range strings.SplitSeq(path, ".") {
		if v == nil || v.Kind != yaml.MappingNode {
			return nil, nil
		}
		k, v = child(v, part)
	}
	return k, v
}

func child(m *yaml.Node, name string) (k, v *yaml.Node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			return m.Content[i], m.Content[i+1]
		}
	}
	return nil, nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// text gives a scalar's text; "" and false when there is no value.
func (c *config) scalar(path string) (s string, line int, ok bool, err error) {
	_, v := c.find(path)
	switch {
	case v == nil || isNull(v):
		return "", 0, false, nil
	case v.Kind != yaml.ScalarNode:
		return "", v.Line, false, &ConfigError{v.Line, path, "not a single value", "write one value"}
	}
	return v.Value, v.Line, true, nil
}

// list gives a list of texts with the line of each.
func (c *config) list(path string) (items []string, lines []int, ok bool, err error) {
	_, v := c.find(path)
	switch {
	case v == nil || isNull(v):
		return nil, nil, false, nil
	case v.Kind != yaml.SequenceNode:
		return nil, nil, false, &ConfigError{v.Line, path, "not a list", "write a list, one address a line"}
	case len(v.Content) > MaxCore:
		return nil, nil, false, &ConfigError{v.Line, path, fmt.Sprintf("the list has %d entries", len(v.Content)), fmt.Sprintf("at most %d are read", MaxCore)}
	}
	for _, n := range v.Content {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
			return nil, nil, false, &ConfigError{n.Line, path, "an entry that is no text", "write an address"}
		}
		items, lines = append(items, n.Value), append(lines, n.Line)
	}
	return items, lines, true, nil
}

// Setting is one key with its value as it may be shown.
type Setting struct {
	Key   string `json:"key"`
	Line  int    `json:"line"`
	Value string `json:"value"` // masked unless the era knows the key and that it is no secret
}

const masked = "[secret]"

// Outline gives every key of a config with values that may be shown. Values of keys that the era does not know are
// masked too: nobody can tell what they hold.
func (e Era) Outline(c Config) []Setting {
	if c.c == nil {
		return nil
	}
	var out []Setting
	var walk func(n *yaml.Node, key string, line int)
	walk = func(n *yaml.Node, key string, line int) {
		if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
			for i := 0; i+1 < len(n.Content); i += 2 {
				walk(n.Content[i+1], join(key, n.Content[i].Value), n.Content[i].Line)
			}
			return
		}
		out = append(out, Setting{showKey(key), line, e.show(key, n)})
	}
	walk(c.c.root, "", 1)
	return out
}

// show gives a value as it may be shown.
func (e Era) show(key string, n *yaml.Node) string {
	if n == nil {
		return ""
	}
	if isNull(n) || n.Kind == yaml.ScalarNode && n.Value == "" {
		return `""`
	}
	k, known := e.key(key)
	if !known || k.Type == TypeSecret {
		return masked
	}
	switch n.Kind {
	case yaml.ScalarNode:
		if !k.Type.fits(n.Value) {
			return masked // a secret that stands in the wrong place is one still
		}
		return n.Value
	case yaml.SequenceNode:
		var items []string
		for _, i := range n.Content {
			if i.Kind != yaml.ScalarNode || !k.Type.fits(i.Value) {
				return masked
			}
			items = append(items, i.Value)
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return masked
}

var (
	number     = regexp.MustCompile(`^-?[0-9]{1,19}$`)
	looksMulti = regexp.MustCompile(`^/[a-z0-9]+/[A-Za-z0-9.:%/_-]{1,200}$`)
)

// fits tells whether a text can be a value, or an entry, of this type, so that it may be shown.
func (t KeyType) fits(s string) bool {
	if len(s) > 300 || longHex.MatchString(s) {
		return false
	}
	switch t {
	case TypeAddress, TypeAddresses, TypeFormat:
		return looksMulti.MatchString(s)
	case TypePort, TypeInt:
		return number.MatchString(s)
	case TypeBool:
		return s == "true" || s == "false"
	case TypeString, TypeStrings, TypePaths:
		return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
	}
	return false
}

// key gives what an era knows of a key.
func (e Era) key(path string) (Key, bool) {
	i := slices.IndexFunc(e.Keys, func(k Key) bool { return k.Path == path })
	if i < 0 {
		return Key{}, false
	}
	return e.Keys[i], true
}

// secrets gives the paths of an era's secrets.
func (e Era) secrets() (paths []string) {
	for _, k := range e.Keys {
		if k.Type == TypeSecret {
			paths = append(paths, k.Path)
		}
	}
	return paths
}

// edit is one key to set.
type edit struct {
	path string
	list []string // the value when isList
	one  string   // else: as YAML
	is   KeyType
	why  string
}

func (d edit) isList() bool { return d.is == TypeAddresses }

// node gives the value as a node.
func (d edit) node() *yaml.Node {
	if d.isList() {
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if len(d.list) == 0 {
			n.Style = yaml.FlowStyle
		}
		for _, s := range d.list {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s})
		}
		return n
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: d.one}
	switch {
	case d.one == `""`:
		n.Tag, n.Value, n.Style = "!!str", "", yaml.DoubleQuotedStyle
	case d.is == TypeInt:
		n.Tag = "!!int"
	default:
		n.Tag = "!!str"
	}
	return n
}

// Rendered is a config.yml for one machine.
type Rendered struct {
	Config  Config
	Changes []Change // in the order of the keys' rules; none: the file is as it should be
	// Fragment: there was no config.yml to begin with. What is rendered is the manager's part only, to be rendered
	// again into the file that the node makes when it first starts.
	Fragment bool
	// Findings are what is wrong in the file still: rendering changes the manager's keys only.
	Findings []Finding
	// Reformatted: the file was laid out in a way that could not be kept. Keys, order and comments are as they were.
	Reformatted bool
}

// Config renders the config.yml of a machine: existing with the manager's keys set and nothing else changed. existing is
// the node's own config.yml, by preference the control machine's; empty: a Fragment is rendered. On a machine with
// workers only, secrets that the era's workers do not need are emptied. Errors: *ProblemsError for the plan,
// *ConfigError for the file.
func (e Era) Config(existing []byte, p Plan, machine string) (Rendered, error) {
	lists, err := e.Addresses(p)
	if err != nil {
		return Rendered{}, err
	}
	m, ok := p.Machine(machine)
	if !ok {
		return Rendered{}, fmt.Errorf("config of a machine: no machine is called %q", cut(machine))
	}
	var r Rendered
	before := Config{&config{text: []byte(fragmentHead), root: &yaml.Node{Kind: yaml.MappingNode}}}
	if r.Fragment = len(bytes.TrimSpace(existing)) == 0; !r.Fragment {
		if before, err = ParseConfig(existing); err != nil {
			return Rendered{}, err
		}
	}
	edits, err := e.edits(before.c, p, m, lists)
	if err != nil {
		return Rendered{}, err
	}
	todo := edits[:0:0]
	for _, d := range edits {
		_, v := before.c.find(d.path)
		if v != nil && sameNode(v, d.node()) {
			continue
		}
		if v == nil && d.isList() && len(d.list) == 0 {
			continue
		}
		todo = append(todo, d)
		r.Changes = append(r.Changes, e.change(d, v))
	}
	if r.Config, r.Reformatted, err = before.set(todo); err != nil || r.Fragment {
		return r, err
	}
	r.Findings = e.check(r.Config, p, m, lists)
	return r, nil
}

// change tells an edit of a key whose value was v; nil: there was none.
func (e Era) change(d edit, v *yaml.Node) Change {
	c := Change{Key: d.path, Before: e.show(d.path, v), After: e.show(d.path, d.node()), Why: d.why}
	if !d.isList() {
		c.Text = fmt.Sprintf("%s: %s becomes %s", d.path, cmp.Or(c.Before, "nothing"), c.After)
		return c
	}
	var old []*yaml.Node
	if v != nil {
		old = v.Content
	}
	var changed, fresh, gone []Core
	for i := range max(len(old), len(d.list)) {
		switch {
		case i >= len(old):
			fresh = append(fresh, Core(i+1))
		case i >= len(d.list):
			gone = append(gone, Core(i+1))
		case old[i].Kind != yaml.ScalarNode || old[i].Value != d.list[i]:
			changed = append(changed, Core(i+1))
		}
	}
	c.Text = fmt.Sprintf("%s: a list of %d becomes one of %d", d.path, len(old), len(d.list))
	for _, s := range []struct {
		what  string
		cores []Core
	}{{"changed", changed}, {"new", fresh}, {"gone", gone}} {
		if len(s.cores) > 0 {
			c.Text += fmt.Sprintf("; %s: core %s", s.what, few(s.cores))
		}
	}
	return c
}

// few writes numbers as ranges, of which it tells the first ones.
func few(c []Core) string {
	const most = 6
	parts := strings.Split(ranges(c), ",")
	if len(parts) > most {
		return strings.Join(parts[:most], ",") + fmt.Sprintf(" and %d more ranges", len(parts)-most)
	}
	return strings.Join(parts, ",")
}

const fragmentHead = `# The part of config.yml that lists the workers. The node makes the rest when it first starts.
`

// edits gives what must stand in the config of a machine.
func (e Era) edits(c *config, p Plan, m Machine, lists Addresses) ([]edit, error) {
	var out []edit
	for _, l := range lists.Lists {
		out = append(out, edit{path: l.Key, list: l.Entries, is: TypeAddresses, why: "entry i is the worker of core i+1"})
	}
	for _, l := range e.Address.Lists {
		if l.Use.announces() && !p.announces() {
			out = append(out, edit{path: l.Key, is: TypeAddresses, why: "no machine announces another address"})
		}
	}
	if n := p.WorkerMemoryBytes; n != nil {
		if byConfig, _ := e.Limits.MemoryByConfig.Known(); byConfig {
			out = append(out, edit{path: memoryKey, one: strconv.FormatInt(*n, 10), is: TypeInt, why: "memory that a worker's runtime aims at"})
		}
	}
	if p.Role(m.Name) == RoleControl {
		return out, nil
	}
	if named, _ := e.Address.WorkerStream.Known(); named {
		control, _ := p.Machine(p.Control)
		port, err := e.streamPort(c)
		if err != nil {
			return nil, err
		}
		out = append(out, edit{path: streamKey, one: multiaddr(control.Address, TCP, port), is: TypeAddress, why: "a worker finds the control process there"})
	}
	if needed, known := e.Secrets.Worker.Known(); known {
		for _, path := range e.secrets() {
			if _, v := c.find(path); v != nil && !slices.Contains(needed, path) {
				out = append(out, edit{path: path, one: `""`, is: TypeSecret, why: "a machine with workers only does not need this secret"})
			}
		}
	}
	return out, nil
}

const (
	memoryKey = "engine.dataWorkerMemoryLimit"
	countKey  = "engine.dataWorkerCount"
	streamKey = "p2p.streamListenMultiaddr"
)

// streamPort gives the port of the control process's stream listener: as the config says, else the era's.
func (e Era) streamPort(c *config) (Port, error) {
	i := slices.IndexFunc(e.Ports, func(l Listen) bool { return l.Key == streamKey })
	if i < 0 {
		return 0, fmt.Errorf("config of a worker: the stream port of era %s is not known", e.ID)
	}
	port := e.Ports[i].Port
	s, line, ok, err := c.scalar(streamKey)
	if err != nil || !ok || s == "" {
		return port, err
	}
	m, err := ParseMultiaddr(s)
	if err != nil || m.Transport != TCP {
		return 0, &ConfigError{line, streamKey, "not an address over tcp", "write it as /ip4/0.0.0.0/tcp/8340"}
	}
	return m.Port, nil
}

// sameNode compares what two values mean: kind, tag and content; not style, comments or place.
func sameNode(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || len(a.Content) != len(b.Content) {
		return false
	}
	if a.Kind == yaml.ScalarNode && (a.Value != b.Value || cmp.Or(a.Tag, "!!str") != cmp.Or(b.Tag, "!!str")) {
		return false
	}
	for i := range a.Content {
		if !sameNode(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}
