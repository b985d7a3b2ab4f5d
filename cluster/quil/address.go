package quil

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// MaxCore bounds the number of workers of a plan, and so the work on it.
const MaxCore = 65536

// The range from which Linux takes ports for outgoing connections by itself (net.ipv4.ip_local_port_range).
const (
	EphemeralFirst Port = 32768
	EphemeralLast  Port = 60999
)

// parked stands in a list for a core without a machine: it is refused at once, on the machine of the control process,
// instead of hanging. That it serves is our conclusion; no source tells of parked entries.
var parked = netip.MustParseAddr("127.0.0.1")

const parkedPort Port = 1

// port gives the port of a worker for a use, and false where it would lie above 65535.
func (e Era) port(m Machine, w Worker, l List) (Port, bool) {
	base := l.Base
	if b := m.Base[l.Use.listens()]; b != 0 {
		base = b
	}
	n := int(base) + w.Slot
	return Port(n), w.Slot >= 0 && n > 0 && n <= 65535
}

// listens maps a use to the one that binds the port: what is announced is what listens.
func (u ListUse) listens() ListUse {
	switch u {
	case UseAnnounceP2P:
		return UseP2P
	case UseAnnounceStream:
		return UseStream
	}
	return u
}

func (u ListUse) announces() bool { return u != u.listens() }

// transport gives what entries of a list are over under a plan.
func (l List) transport(p Plan) Transport {
	if p.Transport != "" && slices.Contains(l.Transports, p.Transport) {
		return p.Transport
	}
	if len(l.Transports) == 0 {
		return TCP
	}
	return l.Transports[0]
}

func multiaddr(a netip.Addr, t Transport, p Port) string {
	family := "ip4"
	if a.Is6() && !a.Is4In6() {
		family = "ip6"
	}
	s := "/" + family + "/" + a.Unmap().String()
	if t == QUIC {
		return s + "/udp/" + strconv.Itoa(int(p)) + "/quic-v1"
	}
	return s + "/tcp/" + strconv.Itoa(int(p))
}

// Address is a parsed multiaddr of the forms that lists have: /ip4/A/tcp/P and /ip4/A/udp/P/quic-v1.
type Multiaddr struct {
	Addr      netip.Addr
	Transport Transport
	Port      Port
}

// ParseMultiaddr reads one of the two forms of a list's entry. Others, although multiaddrs, are refused.
func ParseMultiaddr(s string) (Multiaddr, error) {
	bad := func(why string) (Multiaddr, error) {
		return Multiaddr{}, fmt.Errorf("read address %q: %s; want /ip4/192.0.2.1/tcp/40000 or /ip4/192.0.2.1/udp/40000/quic-v1", cut(s), why)
	}
	f := strings.Split(s, "/")
	if len(s) > 128 || len(f) < 5 || f[0] != "" {
		return bad("not of this form")
	}
	if f[1] != "ip4" && f[1] != "ip6" {
		return bad("it does not begin with ip4 or ip6")
	}
	a, err := netip.ParseAddr(f[2])
	if err != nil || a.Zone() != "" || a.Is4() != (f[1] == "ip4") {
		return bad("no " + f[1] + " address in it")
	}
	n, err := strconv.ParseUint(f[4], 10, 16)
	if err != nil || n == 0 || f[4] != strconv.FormatUint(n, 10) {
		return bad("its port is not 1 to 65535")
	}
	m := Multiaddr{Addr: a, Port: Port(n)}
	switch rest := f[5:]; {
	case f[3] == "tcp" && len(rest) == 0:
		m.Transport = TCP
	case f[3] == "udp" && len(rest) == 1 && rest[0] == "quic-v1":
		m.Transport = QUIC
	default:
		return bad("neither tcp nor udp with quic-v1")
	}
	return m, nil
}

func (m Multiaddr) String() string { return multiaddr(m.Addr, m.Transport, m.Port) }

// cores gives the highest core and who runs each; the plan has no errors.
func (p Plan) cores() (top Core, at map[Core]placed) {
	at = map[Core]placed{}
	for _, m := range p.Machines {
		for _, w := range m.Workers {
			at[w.Core] = placed{m, w}
			top = max(top, w.Core)
		}
	}
	for _, c := range p.Parked {
		top = max(top, c)
	}
	return top, at
}

type placed struct {
	machine Machine
	worker  Worker
}

// Machine gives the machine of that name.
func (p Plan) Machine(name string) (Machine, bool) {
	for _, m := range p.Machines {
		if m.Name == name {
			return m, true
		}
	}
	return Machine{}, false
}

// Role tells what a machine is in the plan.
func (p Plan) Role(name string) Role {
	if name == p.Control {
		return RoleControl
	}
	return RoleWorkers
}

// Workers counts the workers of a plan.
func (p Plan) Workers() (n int) {
	for _, m := range p.Machines {
		n += len(m.Workers)
	}
	return n
}

func (p Plan) announces() bool {
	return slices.ContainsFunc(p.Machines, func(m Machine) bool { return m.Announce.IsValid() })
}

// Problems tells what this era cannot do of a plan, errors first. The order is else that of the plan.
func (e Era) Problems(p Plan) []Problem {
	var out []Problem
	add := func(sev Severity, code, field, remedy, format string, args ...any) {
		out = append(out, Problem{code, sev, field, fmt.Sprintf(format, args...), remedy})
	}
	if e.Warning != "" {
		add(SevWarning, "era", "era", "choose the era of the node version that you run", "%s", e.Warning)
	}
	if _, ok := p.Machine(p.Control); !ok {
		add(SevError, "control-missing", "control", "name one of the machines", "no machine is called %q", cut(p.Control))
	}
	if p.Transport != "" && !slices.ContainsFunc(e.Address.Lists, func(l List) bool { return slices.Contains(l.Transports, p.Transport) }) {
		add(SevError, "transport", "transport", "leave it out", "era %s has no list whose addresses are over %q", e.ID, cut(string(p.Transport)))
	}
	if used, known := e.Limits.MemoryByConfig.Known(); p.WorkerMemoryBytes != nil && known && !used {
		add(SevWarning, "memory", "worker_memory_bytes", "cap the memory of each process by a control group", "era %s has no setting for a worker's memory that takes effect", e.ID)
	}
	if n := p.WorkerMemoryBytes; n != nil && *n <= 0 {
		add(SevError, "memory", "worker_memory_bytes", "give bytes above 0, or leave it out", "%d is no amount of memory", *n)
	}
	families, _ := e.Address.Families.Known()
	exposure, _ := e.Address.Exposure.Known()
	names, cores, addrs := map[string]bool{}, map[Core]string{}, map[netip.Addr]string{}
	control, _ := p.Machine(p.Control)
	for i, m := range p.Machines {
		field := func(s string) string { return fmt.Sprintf("machines[%d].%s", i, s) }
		if m.Name == "" || names[m.Name] {
			add(SevError, "name", field("name"), "give each machine a name of its own", "the name %q is empty or taken", cut(m.Name))
		}
		names[m.Name] = true
		e.addressProblems(add, p, m, field, families, exposure)
		if at, taken := addrs[m.Address]; taken && m.Address.IsValid() {
			add(SevError, "address-twice", field("address"), "give each machine its own address", "%s and %s have the address %s", at, m.Name, m.Address)
		}
		addrs[m.Address] = m.Name
		if !path.IsAbs(m.Binary) || strings.ContainsAny(m.Binary, "\x00\n") {
			add(SevError, "binary", field("binary"), "give the absolute path of the node's binary on that machine", "%q is no absolute path", cut(m.Binary))
		}
		if !path.IsAbs(m.ConfigDir) || strings.ContainsAny(m.ConfigDir, "\x00\n") {
			add(SevError, "config-dir", field("config_dir"), "give the absolute path of the node's config directory on that machine", "%q is no absolute path", cut(m.ConfigDir))
		}
		slots := map[int]bool{}
		for j, w := range m.Workers {
			wf := field(fmt.Sprintf("workers[%d].", j))
			switch {
			case w.Core < 1 || w.Core > MaxCore:
				add(SevError, "core", wf+"core", "count workers from 1; 0 is the control process", "%d is no number of a worker", w.Core)
			case cores[w.Core] != "":
				add(SevError, "core-twice", wf+"core", "give each worker a number of its own", "core %d is on %s and on %s", w.Core, cores[w.Core], m.Name)
			default:
				cores[w.Core] = m.Name
			}
			if w.Slot < 0 || slots[w.Slot] {
				add(SevError, "slot", wf+"slot", "give each worker of a machine a slot of its own, from 0", "slot %d of %s is taken or below 0", w.Slot, m.Name)
			}
			slots[w.Slot] = true
		}
		e.portProblems(add, p, m, control, field)
	}
	e.numberProblems(add, p, cores)
	e.countProblems(add, p)
	slices.SortStableFunc(out, func(a, b Problem) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) })
	return out
}

func (s Severity) rank() int {
	return slices.Index([]Severity{SevError, SevWarning, SevNote}, s)
}

type addFunc = func(sev Severity, code, field, remedy, format string, args ...any)

func (e Era) addressProblems(add addFunc, p Plan, m Machine, field func(string) string, families []string, exposure Exposure) {
	a := m.Address
	switch {
	case !a.IsValid() || a.Zone() != "":
		add(SevError, "address", field("address"), "give the address at which the control process reaches the machine", "%s has no address", m.Name)
		return
	case a.Is6() && !slices.Contains(families, "ip6"):
		add(SevError, "family", field("address"), "give an IPv4 address", "whether era %s takes IPv6 addresses is not known", e.ID)
	case a.IsUnspecified() || a.IsMulticast():
		add(SevError, "address", field("address"), "give the machine's own address", "%s is no address that others can reach", a)
	case a.IsLoopback() && (m.Name != p.Control || len(p.Machines) > 1 || exposure == FromAny):
		add(SevError, "loopback", field("address"), "give the address at which others reach the machine", "%s is reached from the machine itself only", a)
	case exposure == FromControl && public(a) && len(m.Workers) > 0:
		add(SevWarning, "public", field("address"), "use an address of a private network; else let only the control machine through the firewall", "worker ports of %s lie on the public address %s, and whoever reaches them can give them work", m.Name, a)
	case exposure == FromAny && !public(a) && !m.Announce.IsValid() && len(m.Workers) > 0:
		add(SevWarning, "private", field("announce"), "forward the ports of its workers; where the node does not find out by itself which address the internet sees, give that one too", "workers of %s must be reached from the internet, and %s is private", m.Name, a)
	}
	switch {
	case !m.Announce.IsValid():
	case !e.announceable():
		add(SevError, "announce", field("announce"), "leave it out", "era %s announces no worker addresses", e.ID)
	case m.Announce.Is6() && !slices.Contains(families, "ip6"), m.Announce.Zone() != "":
		add(SevError, "family", field("announce"), "give an IPv4 address", "whether era %s takes IPv6 addresses is not known", e.ID)
	case !public(m.Announce):
		add(SevError, "announce", field("announce"), "give the address that the internet sees", "%s is no public address: workers that announce it are not reached", m.Announce)
	}
}

func (e Era) announceable() bool {
	return slices.ContainsFunc(e.Address.Lists, func(l List) bool { return l.Use.announces() })
}

// portProblems looks at the ports that one machine binds.
func (e Era) portProblems(add addFunc, p Plan, m, control Machine, field func(string) string) {
	type bound struct {
		proto string
		port  Port
	}
	taken := map[bound]string{}
	if m.Name == control.Name {
		for _, l := range e.listen(p) {
			for _, proto := range l.Proto {
				taken[bound{proto, l.Port}] = "the control process (" + l.Name + ")"
			}
		}
	}
	for use := range m.Base {
		if !slices.ContainsFunc(e.Address.Lists, func(l List) bool { return l.Use == use }) || use.announces() {
			add(SevError, "base", field("base"), "leave it out", "era %s has no ports for %q", e.ID, cut(string(use)))
		}
	}
	inside := 0
	var firstIn Port
	for _, l := range e.Address.Lists {
		if l.Use.announces() {
			continue
		}
		proto := l.transport(p).proto()
		for _, w := range m.Workers {
			port, ok := e.port(m, w, l)
			if !ok {
				add(SevError, "port", field("base"), "choose a lower first port, or fewer workers on this machine", "the %s port of core %d lies outside 1 to 65535", l.Use, w.Core)
				break
			}
			who := fmt.Sprintf("core %d (%s)", w.Core, l.Use)
			if by, clash := taken[bound{proto, port}]; clash {
				add(SevError, "port-twice", field("base"), "choose another first port for this machine", "%s port %d of %s is wanted by %s and by %s", proto, port, m.Name, by, who)
				break
			}
			taken[bound{proto, port}] = who
			if port >= EphemeralFirst && port <= EphemeralLast {
				if inside++; inside == 1 {
					firstIn = port
				}
			}
		}
	}
	if inside > 0 {
		add(SevWarning, "ephemeral", field("base"), "reserve them on that machine: sysctl net.ipv4.ip_local_reserved_ports="+e.ReservedPorts(p, m.Name),
			"%d ports of %s, from %d on, lie where Linux takes ports for outgoing connections (%d to %d): now and then one is taken when its worker starts", inside, m.Name, firstIn, EphemeralFirst, EphemeralLast)
	}
}

// listen gives the control process's own ports under a plan.
func (e Era) listen(p Plan) []Listen {
	if p.Listen != nil {
		return p.Listen
	}
	return e.Ports
}

// Listening gives the control process's own ports as a config.yml sets them; what it leaves out, or says in a form that
// is not known, is the era's. Errors: *ConfigError.
func (e Era) Listening(existing []byte) ([]Listen, error) {
	c, err := ParseConfig(existing)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(e.Ports)
	for i := range out {
		l := &out[i]
		s, _, ok, err := c.c.scalar(l.Key)
		if err != nil {
			return nil, err
		}
		a, err := ParseMultiaddr(s)
		if !ok || err != nil {
			continue
		}
		on := true
		l.Port, l.Proto = a.Port, []string{a.Transport.proto()}
		l.On = Rule[bool]{Value: &on, How: HowRead, Source: "config.yml"}
	}
	return out, nil
}

func (t Transport) proto() string {
	if t == QUIC {
		return "udp"
	}
	return "tcp"
}

// numberProblems looks for gaps in the numbers of the cores.
func (e Era) numberProblems(add addFunc, p Plan, cores map[Core]string) {
	var top Core
	for c := range cores {
		top = max(top, c)
	}
	isParked := map[Core]bool{}
	for i, c := range p.Parked {
		f := fmt.Sprintf("parked[%d]", i)
		switch {
		case c < 1 || c > MaxCore:
			add(SevError, "core", f, "count workers from 1", "%d is no number of a worker", c)
		case cores[c] != "":
			add(SevError, "parked", f, "take it from the parked ones", "core %d is parked and on %s", c, cores[c])
		case c > top:
			add(SevError, "parked", f, "take it from the parked ones", "core %d is parked above the highest core in use, %d: the lists can end before it", c, top)
		}
		isParked[c] = true
	}
	var gaps []Core
	for c := Core(1); c < top; c++ {
		if cores[c] == "" && !isParked[c] {
			gaps = append(gaps, c)
		}
	}
	if len(gaps) > 0 {
		add(SevError, "gap", "machines", "give these numbers to workers, or park them", "no machine runs core %s, and core %d is in use", ranges(gaps), top)
	}
	if len(isParked) == 0 {
		return
	}
	list := ranges(slices.Sorted(maps.Keys(isParked)))
	switch h, _ := e.Address.Holes.Known(); h {
	case HolesFatal:
		add(SevError, "parked", "parked", "give the numbers to other workers, the highest ones first",
			"core %s has no machine, and in era %s the control process ends when a listed worker does not answer", list, e.ID)
	case HolesCostly:
		add(SevWarning, "parked", "parked", "give the numbers to other workers soon, the highest ones first",
			"core %s has no machine: in era %s a listed worker that does not answer costs the proofs of whole frames until it is left aside", list, e.ID)
	default:
		add(SevNote, "parked", "parked", "give the numbers to new workers when there are any",
			"core %s has no machine; the control process keeps dialling these entries", list)
	}
}

func tooFew(n int) string {
	if n == 1 {
		return "1 worker is"
	}
	return fmt.Sprintf("%d workers are", n)
}

func (e Era) countProblems(add addFunc, p Plan) {
	n := p.Workers()
	if n == 0 {
		add(SevError, "no-workers", "machines", "give at least one machine a worker", "the plan has no worker")
		return
	}
	if least, ok := e.Limits.MinWorkers.Known(); ok && n < least {
		add(SevError, "few-workers", "machines", "plan more workers", "%s too few: era %s makes no proof with fewer than %d", tooFew(n), e.ID, least)
	}
	if a, ok := e.Size(n); ok {
		if a.Beyond && !p.Oversize {
			add(SevError, "size", "machines", fmt.Sprintf("plan at most %d workers in one cluster", a.Best), "%s", a.Text)
		} else if a.Text != "" {
			add(SevWarning, "size", "machines", a.Remedy, "%s", a.Text)
		}
	}
}

// SizeAdvice is what an era says of a number of workers.
type SizeAdvice struct {
	Workers int `json:"workers"`
	// Best is the step to fill up to, from below.
	Best int `json:"best"`
	// Below is the step that the number has passed; 0: none.
	Below int `json:"below"`
	// Beyond: more than any number that still pays.
	Beyond bool   `json:"beyond"`
	Text   string `json:"text"` // "" when there is nothing to say against the number
	Remedy string `json:"remedy"`
}

// Size tells whether n workers are a good number. ok is false where the era has no such rule.
func (e Era) Size(n int) (a SizeAdvice, ok bool) {
	sizes, known := e.Limits.Sizes.Known()
	if !known || len(sizes) < 2 {
		return a, false
	}
	a.Workers = n
	last := sizes[len(sizes)-2].Workers
	if n > last {
		a.Best, a.Below, a.Beyond = last, last, true
		a.Text = fmt.Sprintf("%d workers need %s in each round", n, sizes[len(sizes)-1].Cost)
		a.Remedy = fmt.Sprintf("plan at most %d workers in one cluster", last)
		return a, true
	}
	for _, s := range sizes {
		if n <= s.Workers {
			a.Best = s.Workers
			break
		}
		a.Below = s.Workers
	}
	// Whoever is nearer to the step behind than to the one ahead is better off there, says the guide.
	if a.Below > 0 && n-a.Below < a.Best-n {
		a.Text = fmt.Sprintf("%d workers cost as much in each round as %d do; %d are more efficient", n, a.Best, a.Below)
		a.Remedy = fmt.Sprintf("plan %d workers, or towards %d", a.Below, a.Best)
	}
	return a, true
}

// Addresses gives the lists of config.yml. A plan with errors is refused with a *ProblemsError.
func (e Era) Addresses(p Plan) (Addresses, error) {
	if err := e.refuse(p); err != nil {
		return Addresses{}, err
	}
	top, at := p.cores()
	var out Addresses
	for _, l := range e.Address.Lists {
		if l.Use.announces() && !p.announces() {
			continue
		}
		t := l.transport(p)
		entries := make([]string, top)
		for c := Core(1); c <= top; c++ {
			pl, ok := at[c]
			if !ok {
				entries[c-1] = multiaddr(parked, t, parkedPort)
				continue
			}
			a := pl.machine.Address
			if l.Use.announces() && pl.machine.Announce.IsValid() {
				a = pl.machine.Announce
			}
			port, _ := e.port(pl.machine, pl.worker, l)
			entries[c-1] = multiaddr(a, t, port)
		}
		out.Lists = append(out.Lists, AddressList{l.Key, l.Use, entries})
	}
	return out, nil
}

func (e Era) refuse(p Plan) error {
	all := e.Problems(p)
	if slices.ContainsFunc(all, func(q Problem) bool { return q.Severity == SevError }) {
		return &ProblemsError{all}
	}
	return nil
}

// ReservedPorts gives the worker ports of a machine that lie in the ephemeral range, as sysctl takes them
// ("40000-40006,40010"); "" for none.
func (e Era) ReservedPorts(p Plan, machine string) string {
	m, _ := p.Machine(machine)
	var ports []Port
	for _, l := range e.Address.Lists {
		if l.Use.announces() {
			continue
		}
		for _, w := range m.Workers {
			if port, ok := e.port(m, w, l); ok && port >= EphemeralFirst && port <= EphemeralLast {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	return ranges(slices.Compact(ports))
}

// ranges writes sorted numbers as "1-3,5".
func ranges[T ~int | ~uint16](n []T) string {
	var b strings.Builder
	for i := 0; i < len(n); {
		j := i
		for j+1 < len(n) && n[j+1] == n[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, n[i])
		if j > i {
			fmt.Fprintf(&b, "-%d", n[j])
		}
		i = j + 1
	}
	return b.String()
}

var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
}

// public tells whether an address is one of the internet; the ranges for documentation stand for such.
func public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}
