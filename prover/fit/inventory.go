package fit

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// InventorySchema is the version of an inventory file.
const InventorySchema = "provost.inventory/1"

// maxInventory bounds an inventory file: 4,096 machines with long notes need less.
const maxInventory = 4 << 20

// Machine is one machine of an inventory.
type Machine struct {
	Name    string `yaml:"name"`    // a-z 0-9 and -, at most 63: it names directories and units
	Address string `yaml:"address"` // IP address or DNS name under which the others reach it
	// IP is the address that firewall rules name when Address is a DNS name.
	IP string `yaml:"ip,omitempty"`
	// Announce is the public IP address under which the internet reaches it, where that is another one.
	Announce string `yaml:"announce,omitempty"`
	Cores    int    `yaml:"cores,omitempty"`   // physical; 0: not told
	Threads  int    `yaml:"threads,omitempty"` // logical processors; 0: not told
	RAM      Bytes  `yaml:"ram,omitempty"`
	Disk     Bytes  `yaml:"disk,omitempty"` // free for the workers; 0: not told
	OS       OS     `yaml:"os,omitempty"`
	WSL      bool   `yaml:"wsl,omitempty"`   // Linux under Windows
	Local    bool   `yaml:"local,omitempty"` // this machine: what is not told is measured
	// Workers fixes how many workers it gets; nil: as many as fit. 0 is possible: control process only.
	Workers *int   `yaml:"workers,omitempty"`
	Notes   string `yaml:"notes,omitempty"`
}

// OS is an operating system in the inventory's words.
type OS string

const (
	Linux   OS = "linux"
	Darwin  OS = "darwin"
	FreeBSD OS = "freebsd"
	Windows OS = "windows"
)

var allOS = []OS{Linux, Darwin, FreeBSD, Windows}

// ip is the address that packets of this machine come from; not valid when only a name is known.
func (m Machine) ip() netip.Addr {
	for _, s := range []string{m.IP, m.Address} {
		if a, err := netip.ParseAddr(s); err == nil {
			return a.Unmap()
		}
	}
	return netip.Addr{}
}

// IPAddr is the machine's IP address; not valid when only a DNS name is known.
func (m Machine) IPAddr() netip.Addr { return m.ip() }

// machineKeys are the keys of a machine, in the order in which they are told.
var machineKeys = []string{"name", "address", "ip", "announce", "cores", "threads", "ram", "disk", "os", "wsl", "local", "workers", "notes"}

// AnnounceAddr is the public address; not valid where there is none.
func (m Machine) AnnounceAddr() netip.Addr {
	a, _ := netip.ParseAddr(m.Announce)
	return a.Unmap()
}

// set gives one key of a machine its value. Errors say what is wanted.
func (m *Machine) set(key, value string) error {
	number := func(into *int, most int) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > most {
			return fmt.Errorf("%q: want a number from 1 to %d", value, most)
		}
		*into = n
		return nil
	}
	yes := func(into *bool) error {
		switch value {
		case "true", "yes", "":
			*into = true
		case "false", "no":
			*into = false
		default:
			return fmt.Errorf("%q: want true or false", value)
		}
		return nil
	}
	size := func(into *Bytes) error {
		v, err := ParseBytes(value)
		if err == nil && v == 0 {
			err = fmt.Errorf("%q: want more than nothing", value)
		}
		*into = v
		return err
	}
	switch key {
	case "name":
		m.Name = value
	case "address":
		m.Address = strings.ToLower(value)
	case "ip":
		m.IP = strings.ToLower(value)
	case "announce":
		m.Announce = strings.ToLower(value)
	case "cores":
		return number(&m.Cores, 4096)
	case "threads":
		return number(&m.Threads, 8192)
	case "ram":
		return size(&m.RAM)
	case "disk":
		return size(&m.Disk)
	case "os":
		if !slices.Contains(allOS, OS(value)) {
			return fmt.Errorf("%q: want linux, darwin, freebsd or windows", value)
		}
		m.OS = OS(value)
	case "wsl":
		return yes(&m.WSL)
	case "local":
		return yes(&m.Local)
	case "workers":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > MaxWorkers {
			return fmt.Errorf("%q: want a number from 0 to %d", value, MaxWorkers)
		}
		m.Workers = &n
	case "notes":
		if len(value) > 1024 {
			return fmt.Errorf("longer than 1,024 bytes")
		}
		m.Notes = value
	default:
		return fmt.Errorf("there is no such key; there are: %s", strings.Join(machineKeys, ", "))
	}
	return nil
}

// check tells what is wrong with one machine by itself. whole: nothing will be measured any more.
func (m Machine) check(whole bool) []string {
	var bad []string
	whole = whole || !m.Local
	if m.Name == "" {
		if whole {
			bad = append(bad, "it has no name")
		}
	} else if !nameOK(m.Name) {
		bad = append(bad, fmt.Sprintf("name %q: want a-z, 0-9 and - within, at most 63 characters", m.Name))
	}
	if m.Address == "" {
		if whole {
			bad = append(bad, "it has no address")
		}
	} else if why := addressFault(m.Address); why != "" {
		bad = append(bad, fmt.Sprintf("address %q: %s", m.Address, why))
	}
	if m.IP != "" {
		a, err := netip.ParseAddr(m.IP)
		switch {
		case err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast():
			bad = append(bad, fmt.Sprintf("ip %q: want an IP address", m.IP))
		default:
			if b, err := netip.ParseAddr(m.Address); err == nil && a.Unmap() != b.Unmap() {
				bad = append(bad, fmt.Sprintf("ip %s differs from address %s: ip is for machines whose address is a name", m.IP, m.Address))
			}
		}
	}
	if m.Announce != "" {
		if a, err := netip.ParseAddr(m.Announce); err != nil || a.Zone() != "" || !a.IsGlobalUnicast() || a.IsPrivate() || sharedNAT(a.Unmap()) {
			bad = append(bad, fmt.Sprintf("announce %q: want the public IP address that the internet sees", m.Announce))
		}
	}
	if m.Cores > 0 && m.Threads > 0 && m.Threads < m.Cores {
		bad = append(bad, fmt.Sprintf("%d threads on %d cores: a core has at least one", m.Threads, m.Cores))
	}
	return bad
}

func nameOK(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') }) < 0
}

// addressFault says why a text is neither an IP address nor a DNS name; "" when it is one.
func addressFault(s string) string {
	if a, err := netip.ParseAddr(s); err == nil {
		switch {
		case a.Zone() != "":
			return "an address with a zone means nothing on other machines"
		case a.IsUnspecified():
			return "it stands for every address of a machine; write the one that others use"
		case a.IsMulticast():
			return "it is a multicast address"
		case a.Unmap().Is4() && (a.Unmap().As4()[0] == 0 || a.Unmap().As4()[0] >= 240):
			return "no machine has an address of that range"
		case a.Is6() && a.IsLinkLocalUnicast():
			return "a link-local address of IPv6 means nothing on other machines"
		}
		return ""
	}
	if strings.ContainsAny(s, "/:") {
		return "want an IP address or a DNS name alone, without port or scheme"
	}
	if len(s) > 253 {
		return "a DNS name has at most 253 characters"
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if !nameOK(l) {
			return "want an IP address or a DNS name"
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "it looks like an IP address and is none"
	}
	return ""
}

// ParseMachine reads one machine as a flag has it: name=m01,address=10.0.0.1,cores=64,ram=128GiB. A key
// without a value means yes (wsl, local).
func ParseMachine(spec string) (Machine, error) {
	var m Machine
	if len(spec) > 4096 {
		return m, fmt.Errorf("longer than 4,096 bytes")
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(spec, ",") {
		key, value, has := strings.Cut(strings.TrimSpace(part), "=")
		if key == "" {
			return m, fmt.Errorf("%q has an empty part", spec)
		}
		if seen[key] {
			return m, fmt.Errorf("%s is given twice", key)
		}
		seen[key] = true
		if !has && key != "wsl" && key != "local" {
			return m, fmt.Errorf("%q: want key=value, with the keys %s", key, strings.Join(machineKeys, ", "))
		}
		if has && value == "" {
			return m, fmt.Errorf("%s has no value", key)
		}
		if !printable(value) {
			return m, fmt.Errorf("%s holds control characters", key)
		}
		if err := m.set(key, value); err != nil {
			return m, fmt.Errorf("%s: %w", key, err)
		}
	}
	return m, nil
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffd || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
	}) < 0
}

// ParseInventory reads an inventory, YAML or JSON. It is strict: an unknown key, a key given twice and a
// value that is not understood are errors with their line. name is the file's name for messages.
// Errors are *ProblemsError with the field "inventory".
func ParseInventory(name string, data []byte) ([]Machine, error) {
	var bad faults
	at := func(n *yaml.Node, remedy, format string, args ...any) {
		bad.add("inventory", remedy, "%s:%d: %s", name, n.Line, fmt.Sprintf(format, args...))
	}
	sample := `write it as: schema: ` + InventorySchema + `, machines: [{name: m01, address: 10.0.0.1, cores: 64, ram: 128GiB}]`
	if len(data) > maxInventory {
		bad.add("inventory", "an inventory of 4,096 machines is smaller", "%s is larger than %d MiB", name, maxInventory>>20)
		return nil, bad.err()
	}
	root, err := oneDocument(data)
	if err != nil {
		bad.add("inventory", sample, "%s: %s", name, err)
		return nil, bad.err()
	}
	if root == nil || root.Kind != yaml.MappingNode {
		bad.add("inventory", sample, "%s holds no inventory", name)
		return nil, bad.err()
	}
	var schema, list *yaml.Node
	fields(root, func(key, value *yaml.Node, twice bool) {
		switch {
		case twice:
			at(key, "leave one of them out", "%q is given twice", clip(key.Value))
		case key.Value == "schema":
			schema = value
		case key.Value == "machines":
			list = value
		default:
			at(key, "known keys here: schema, machines", "unknown key %q", clip(key.Value))
		}
	})
	switch {
	case schema == nil:
		bad.add("inventory", "begin it with schema: "+InventorySchema, "%s has no schema", name)
	case schema.Value != InventorySchema:
		at(schema, "this version reads "+InventorySchema, "schema %q is not known", clip(schema.Value))
	}
	if list == nil || list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		bad.add("inventory", sample, "%s lists no machines", name)
		return nil, bad.err()
	}
	if len(list.Content) > MaxMachines {
		at(list, "plan several clusters", "%d machines; at most %d are planned", len(list.Content), MaxMachines)
		return nil, bad.err()
	}
	var out []Machine
	for i, n := range list.Content {
		var m Machine
		if n.Kind != yaml.MappingNode {
			at(n, "a machine is written as keys and values", "machine %d is not one", i+1)
			continue
		}
		fields(n, func(key, value *yaml.Node, twice bool) {
			switch {
			case twice:
				at(key, "leave one of them out", "%q is given twice", clip(key.Value))
			case !slices.Contains(machineKeys, key.Value):
				at(key, "known keys: "+strings.Join(machineKeys, ", "), "unknown key %q", clip(key.Value))
			case value.Kind != yaml.ScalarNode || value.Tag == "!!null" || value.Value == "":
				at(value, "give it a value or leave the key out", "%s has no plain value", key.Value)
			case !printable(value.Value) && key.Value != "notes":
				at(value, "", "%s holds control characters", key.Value)
			default:
				if err := m.set(key.Value, value.Value); err != nil {
					at(value, "", "%s: %s", key.Value, clip(err.Error()))
				}
			}
		})
		m.Notes = strings.Map(func(r rune) rune {
			if !printable(string(r)) {
				return ' '
			}
			return r
		}, m.Notes)
		for _, why := range m.check(false) {
			at(n, "", "machine %d: %s", i+1, clip(why))
		}
		out = append(out, m)
	}
	return out, bad.err()
}

// oneDocument reads one YAML document without aliases: an inventory needs none, and a few bytes of them
// can stand for gigabytes.
func oneDocument(data []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc yaml.Node
	if err := d.Decode(&doc); err != nil {
		if strings.Contains(err.Error(), "EOF") {
			return nil, nil
		}
		return nil, fmt.Errorf("not YAML or JSON: %s", clip(strings.TrimPrefix(err.Error(), "yaml: ")))
	}
	if d.Decode(new(yaml.Node)) == nil {
		return nil, fmt.Errorf("a second document follows the first")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, nil
	}
	if line := aliasLine(&doc, 0); line > 0 {
		return nil, fmt.Errorf("line %d: aliases and nesting this deep are not read", line)
	}
	return doc.Content[0], nil
}

func aliasLine(n *yaml.Node, depth int) int {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || depth > 16 {
		return max(n.Line, 1)
	}
	for _, c := range n.Content {
		if line := aliasLine(c, depth+1); line > 0 {
			return line
		}
	}
	return 0
}

// fields calls each with every pair of a mapping.
func fields(n *yaml.Node, each func(key, value *yaml.Node, twice bool)) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		each(k, n.Content[i+1], seen[k.Value])
		seen[k.Value] = true
	}
}

// clip keeps a stranger's text short in a message.
func clip(s string) string {
	if len(s) > 160 {
		return strings.ToValidUTF8(s[:160], "") + "…"
	}
	return s
}

// checkMachines tells what is wrong with machines among each other. field is the flag to blame.
func checkMachines(bad *faults, field string, ms []Machine) {
	names, addrs := map[string]int{}, map[string]int{}
	for i, m := range ms {
		if j, ok := names[m.Name]; ok {
			bad.add(field, "every machine has a name of its own", "machines %d and %d are both called %s", j+1, i+1, m.Name)
			continue
		}
		names[m.Name] = i
		key := m.Address
		if a := m.ip(); a.IsValid() {
			key = a.String()
		}
		if j, ok := addrs[key]; ok {
			bad.add(field, "one machine is listed once; behind one public address give each its own address in a private network", "%s and %s have the same address %s", ms[j].Name, m.Name, key)
			continue
		}
		addrs[key] = i
		if a := m.ip(); (a.IsValid() && a.IsLoopback() || m.Address == "localhost") && len(ms) > 1 {
			bad.add(field, "write the address under which the other machines reach it", "%s has the loopback address %s", m.Name, m.Address)
		}
	}
	local := 0
	for _, m := range ms {
		if m.Local {
			local++
		}
	}
	if local > 1 {
		bad.add(field, "mark only this machine with local", "%d machines say that they are this one", local)
	}
}
