package quil

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// Codes of findings. They are stable: a test and an operator's script may rely on them.
const (
	FindKeyMisspelt   = "key-misspelt"   // a spelling that the node ignores
	FindKeyOtherEra   = "key-other-era"  // a key that other eras read and this one ignores
	FindKeyNoEffect   = "key-no-effect"  // a key that this era reads and does not use
	FindKeyType       = "key-type"       // a value of another kind than the key wants
	FindListMissing   = "list-missing"   // no list: the control process starts local workers
	FindListShort     = "list-short"     // a worker of a core beyond the end dies
	FindListLong      = "list-long"      // the control process dials what is not there
	FindListOrder     = "list-order"     // the right entries at the wrong cores
	FindListsDiffer   = "lists-differ"   // p2p and stream lists of different lengths
	FindEntryForm     = "entry-form"     // an entry that is no address of a known form
	FindEntryWrong    = "entry-wrong"    // an entry that is not its worker's address
	FindEntryTwice    = "entry-twice"    // one address for two cores
	FindEntryControl  = "entry-control"  // the control process itself among the workers
	FindEntryAny      = "entry-any"      // 0.0.0.0: names no machine
	FindEntryLoopback = "entry-loopback" // 127.0.0.1 in a list that several machines share
	FindEntryPublic   = "entry-public"   // a worker port without authentication on a public address
	FindEntryPrivate  = "entry-private"  // a worker that the internet must reach on a private address
	FindWorkerStream  = "worker-stream"  // a worker's copy does not name the control machine
	FindSecretExtra   = "secret-extra"   // a secret on a machine that does not need it
	FindSecretMissing = "secret-missing" // a secret that this machine needs is not there
	FindListenOpen    = "listen-open"    // a listener without authentication faces others
)

// Check looks for mistakes in the config.yml of a machine against a plan, in the order of the file's lines. The file is
// judged as the node would read it. Errors: *ProblemsError for the plan, *ConfigError for a file that cannot be read.
func (e Era) Check(existing []byte, p Plan, machine string) ([]Finding, error) {
	lists, err := e.Addresses(p)
	if err != nil {
		return nil, err
	}
	m, ok := p.Machine(machine)
	if !ok {
		return nil, fmt.Errorf("check the config of a machine: no machine is called %q", cut(machine))
	}
	c, err := ParseConfig(existing)
	if err != nil {
		return nil, err
	}
	return e.check(c, p, m, lists), nil
}

func (e Era) check(c Config, p Plan, m Machine, lists Addresses) []Finding {
	k := checker{e: e, p: p, m: m, c: c.c}
	k.keys()
	k.lists(lists)
	k.secrets()
	k.listeners()
	k.stream()
	slices.SortStableFunc(k.out, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return k.out
}

type checker struct {
	e   Era
	p   Plan
	m   Machine
	c   *config
	out []Finding
}

func (k *checker) add(code string, sev Severity, key string, line int, remedy, format string, args ...any) {
	k.out = append(k.out, Finding{code, sev, key, line, fmt.Sprintf(format, args...), remedy})
}

// keys looks at every key: spelling, era, type.
func (k *checker) keys() {
	known := map[string]Key{}
	for _, q := range k.e.Keys {
		known[q.Path] = q
	}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			kn, v := n.Content[i], n.Content[i+1]
			name := join(path, kn.Value)
			q, here := known[name]
			eras := readBy()[name]
			switch {
			case here:
				k.keyType(q, v)
				if used, known := k.e.Limits.CountByConfig.Known(); known && !used && name == countKey {
					k.add(FindKeyNoEffect, SevWarning, name, kn.Line, "limit the processors of the process", "era %s reads this key and does not use it", k.e.ID)
				}
				if used, known := k.e.Limits.MemoryByConfig.Known(); known && !used && name == memoryKey {
					k.add(FindKeyNoEffect, SevWarning, name, kn.Line, "cap the memory of the process by a control group", "era %s reads this key and does not use it", k.e.ID)
				}
			case len(eras) > 0 && !empty(v):
				k.add(FindKeyOtherEra, SevWarning, name, kn.Line, "leave it out", "era %s ignores this key (read by %s)", k.e.ID, strings.Join(eras, ", "))
			case len(eras) > 0:
			default:
				if right, sure := k.nearest(name, known); right != "" {
					sev := SevWarning
					if sure {
						sev = SevError
					}
					k.add(FindKeyMisspelt, sev, showKey(name), kn.Line, "write "+right, "the node does not know this key and ignores it without a word")
				}
			}
			walk(v, name)
		}
	}
	walk(k.c.root, "")
}

// readBy gives, for every key, the eras that read it.
var readBy = sync.OnceValue(func() map[string][]string {
	by := map[string][]string{}
	for _, e := range Eras() {
		for _, q := range e.Keys {
			by[q.Path] = append(by[q.Path], string(e.ID))
		}
	}
	return by
})

func empty(n *yaml.Node) bool {
	return isNull(n) || n.Kind == yaml.ScalarNode && n.Value == "" || n.Kind != yaml.ScalarNode && len(n.Content) == 0
}

// nearest gives the key that a spelling means; sure when the field knows this mistake.
func (k *checker) nearest(name string, known map[string]Key) (right string, sure bool) {
	for _, s := range k.e.Misspelt {
		if s.Path == name {
			if _, here := known[s.Means]; here {
				return s.Means, true
			}
			return k.e.Address.Lists[0].Key, true
		}
	}
	const near = 3
	best := near
	for path := range known {
		if parent(path) != parent(name) {
			continue
		}
		if d := distance(strings.ToLower(path), strings.ToLower(name), near); d < best || d == best && d < near && path < right {
			best, right = d, path
		}
	}
	return right, false
}

func parent(path string) string { return path[:max(strings.LastIndexByte(path, '.'), 0)] }

// distance counts edits between two keys, and stops at most.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most || len(a) > 200 || len(b) > 200 {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag, least := row[0], i+1
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost = 1 + min(diag, row[j], row[j+1])
			}
			diag, row[j+1] = row[j+1], cost
			least = min(least, cost)
		}
		if least >= most {
			return most
		}
	}
	return row[len(b)]
}

func (k *checker) keyType(q Key, v *yaml.Node) {
	if isNull(v) {
		return
	}
	want, ok := "", true
	switch q.Type {
	case TypeAddresses, TypeStrings:
		want, ok = "a list", v.Kind == yaml.SequenceNode
	case TypeInt, TypePort:
		want, ok = "a number", v.Kind == yaml.ScalarNode && v.Tag == "!!int"
		if n, err := strconv.ParseUint(v.Value, 10, 16); q.Type == TypePort && ok {
			want, ok = "a port", err == nil && n > 0
		}
	case TypeBool:
		want, ok = "true or false", v.Kind == yaml.ScalarNode && v.Tag == "!!bool"
	case TypeFormat:
		want, ok = "an address with one %d", v.Kind == yaml.ScalarNode && (v.Value == "" || strings.Count(v.Value, "%d") == 1 && strings.Count(v.Value, "%") == 1)
	case TypePaths:
		want, ok = "a path with one %d, or the workers share one store", v.Kind == yaml.ScalarNode && (v.Value == "" || strings.Count(v.Value, "%d") == 1 && strings.Count(v.Value, "%") == 1)
	default:
		want, ok = "one value", v.Kind == yaml.ScalarNode
	}
	if !ok {
		k.add(FindKeyType, SevError, q.Path, v.Line, "write "+want, "not what the node reads here")
	}
}

// lists compares every list with the plan's.
func (k *checker) lists(want Addresses) {
	lengths := map[ListUse]int{}
	for _, l := range want.Lists {
		got, lines, ok, err := k.c.list(l.Key)
		if err != nil {
			continue // told by keyType
		}
		lengths[l.Use] = len(got)
		if !ok || len(got) == 0 {
			if !l.Use.announces() {
				k.add(FindListMissing, SevError, l.Key, 0, "render the config from the plan", "no list: the control process starts workers on its own machine, and those of the plan get no work")
			} else {
				k.add(FindListMissing, SevWarning, l.Key, 0, "render the config from the plan", "no list: workers announce addresses that the internet does not reach")
			}
			continue
		}
		k.list(l, got, lines)
	}
	if a, b := lengths[UseP2P], lengths[UseStream]; a > 0 && b > 0 && a != b {
		k.add(FindListsDiffer, SevError, "engine.dataWorkerStreamMultiaddrs", 0, "give both lists one entry per worker", "%d p2p entries and %d stream entries: the node ends itself", a, b)
	}
}

func (k *checker) list(want AddressList, got []string, lines []int) {
	wrong := k.entries(want, got, lines)
	n := len(want.Entries)
	switch {
	case len(got) < n:
		k.add(FindListShort, SevError, want.Key, lines[len(lines)-1], "render the config from the plan", "%d entries for %d cores: the worker of core %d and those above it die when they start", len(got), n, len(got)+1)
	case len(got) > n:
		k.add(FindListLong, SevError, want.Key, lines[n], "render the config from the plan", "%d entries for %d cores: the control process dials workers that are not there", len(got), n)
	}
	if len(wrong) == 0 {
		return
	}
	a, b := slices.Sorted(slices.Values(want.Entries)), slices.Sorted(slices.Values(got))
	if slices.Equal(a, b) {
		k.add(FindListOrder, SevError, want.Key, lines[wrong[0]], "render the config from the plan",
			"the right entries in a wrong order: %d cores, the first of them %d, have another core's address", len(wrong), wrong[0]+1)
		return
	}
	const most = 8 // one shift makes every entry after it wrong
	for i, at := range wrong {
		if i == most {
			k.add(FindEntryWrong, SevError, want.Key, lines[at], "render the config from the plan", "and %d more entries that are not their worker's address", len(wrong)-most)
			break
		}
		k.add(FindEntryWrong, SevError, want.Key, lines[at], "write "+want.Entries[at], "the entry of core %d is not its worker's address", at+1)
	}
}

// entries looks at each entry by itself, and gives the places of those that are not as planned and have no worse fault.
func (k *checker) entries(want AddressList, got []string, lines []int) (wrong []int) {
	control, _ := k.p.Machine(k.p.Control)
	exposure, _ := k.e.Address.Exposure.Known()
	authenticated, _ := k.e.Address.Authenticated.Known()
	own := map[Port]string{}
	for _, l := range k.e.listen(k.p) {
		own[l.Port] = l.Name
	}
	first := map[Multiaddr]int{}
	planned := map[netip.Addr]bool{}
	for _, m := range k.p.Machines {
		planned[m.Address.Unmap()] = true
		planned[m.Announce.Unmap()] = true
	}
	var open []netip.Addr // unplanned public addresses, told once each
	for i, s := range got {
		if i < len(want.Entries) && s == want.Entries[i] {
			if a, err := ParseMultiaddr(s); err == nil {
				first[a] = i
			}
			continue
		}
		a, err := ParseMultiaddr(s)
		if err != nil {
			k.add(FindEntryForm, SevError, want.Key, lines[i], "write it as /ip4/192.0.2.1/tcp/40000", "the entry of core %d is no address of a form that is known to work", i+1)
			continue
		}
		at, twice := first[a]
		if !twice {
			first[a] = i
		}
		switch {
		case twice && !(a.Addr == parked && a.Port == parkedPort):
			k.add(FindEntryTwice, SevError, want.Key, lines[i], "give each worker its own address and port", "cores %d and %d have one address: the second of them cannot listen", at+1, i+1)
		case own[a.Port] != "" && (a.Addr == control.Address || a.Addr.IsLoopback() || a.Addr == control.Announce):
			k.add(FindEntryControl, SevError, want.Key, lines[i], "take it out: entry 1 belongs to core 1, the first worker", "the entry of core %d is the control process itself (%s)", i+1, own[a.Port])
		case a.Addr.IsUnspecified():
			k.add(FindEntryAny, SevError, want.Key, lines[i], "write the address of the worker's machine", "the entry of core %d names no machine: it is taken for this one", i+1)
		case a.Addr.IsLoopback() && len(k.p.Machines) > 1:
			k.add(FindEntryLoopback, SevError, want.Key, lines[i], "write the address of the worker's machine", "the entry of core %d is the machine that reads it, whichever that is", i+1)
		case exposure == FromControl && !authenticated && public(a.Addr) && !planned[a.Addr]:
			if !slices.Contains(open, a.Addr) {
				open = append(open, a.Addr)
				k.add(FindEntryPublic, SevError, want.Key, lines[i], "use an address of a private network", "the entry of core %d is a public address: whoever reaches it can give the worker work", i+1)
			}
		case exposure == FromAny && want.Use.announces() && !public(a.Addr):
			k.add(FindEntryPrivate, SevError, want.Key, lines[i], "write the address that the internet sees", "core %d announces an address that the internet does not reach", i+1)
		case i < len(want.Entries):
			wrong = append(wrong, i)
		}
	}
	return wrong
}

// secrets looks for those that should not be there, and those that should.
func (k *checker) secrets() {
	needed, known := k.e.Secrets.Worker.Known()
	for _, path := range k.e.secrets() {
		kn, v := k.c.find(path)
		there := v != nil && !empty(v)
		if k.p.Role(k.m.Name) == RoleControl || known && slices.Contains(needed, path) {
			if !there {
				k.add(FindSecretMissing, SevError, path, 0, "take the config.yml of the control machine", "this machine needs it; without it the node has another identity")
			}
			continue
		}
		if known && there {
			k.add(FindSecretExtra, SevError, path, kn.Line, "render the config from the plan, and remove the old file", "workers of era %s do not need this secret; whoever takes over this machine has it", k.e.ID)
		}
	}
}

// listeners looks at what asks nobody for a name.
func (k *checker) listeners() {
	for _, l := range k.e.Ports {
		if open, known := l.Open.Known(); !known || open {
			continue
		}
		s, line, ok, err := k.c.scalar(l.Key)
		if err != nil || !ok || s == "" {
			continue
		}
		a, err := ParseMultiaddr(s)
		switch {
		case err != nil:
			k.add(FindEntryForm, SevWarning, l.Key, line, fmt.Sprintf("write it as /ip4/127.0.0.1/tcp/%d", l.Port), "no address of a form that is known to work")
		case !a.Addr.IsLoopback():
			what := "tell whatever it knows"
			if l.Write {
				what = "take orders"
			}
			k.add(FindListenOpen, SevError, l.Key, line, fmt.Sprintf("write /ip4/127.0.0.1/tcp/%d", a.Port), "the listener asks nobody for a name, and lets whoever reaches it make the node %s", what)
		}
	}
}

// stream looks whether a worker's copy names the control machine.
func (k *checker) stream() {
	named, _ := k.e.Address.WorkerStream.Known()
	if !named || k.p.Role(k.m.Name) == RoleControl {
		return
	}
	control, _ := k.p.Machine(k.p.Control)
	s, line, _, err := k.c.scalar(streamKey)
	if err != nil {
		return
	}
	if a, err := ParseMultiaddr(s); err != nil || a.Addr != control.Address {
		k.add(FindWorkerStream, SevError, streamKey, line, "render the config from the plan", "a worker of era %s looks for its control process there, and %s is another machine", k.e.ID, k.p.Control)
	}
}
