package quil

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The commands of a cluster started by hand are the binary with --core, and nothing but the config directory beside.
func TestCommands(t *testing.T) {
	e := era(t, "1.4.21")
	p := twoMachines(e)
	var got []string
	for _, m := range p.Machines {
		cmds, err := e.Commands(p, m.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cmds {
			got = append(got, m.Name+" "+strings.Join(c.Argv, " "))
		}
	}
	bin := "/opt/quil/node-1.4.21-linux-amd64 --config /var/lib/quil/.config"
	want := []string{"a " + bin}
	for c := 1; c <= 7; c++ {
		m := "a"
		if c > 3 {
			m = "b"
		}
		want = append(want, fmt.Sprintf("%s %s --core %d", m, bin, c))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, e := range Eras() {
		p := twoMachines(e)
		for _, m := range p.Machines {
			cmds, err := e.Commands(p, m.Name)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cmds {
				if len(c.Argv) > 3 && slices.Contains(c.Argv, "--core") != (c.Core > 0) || strings.Contains(strings.Join(c.Argv, " "), "signature-check") {
					t.Errorf("era %s: %q", e.ID, c.Argv)
				}
			}
		}
	}
}

// A path is one argument, whatever it holds.
func TestCommandsWithOddPaths(t *testing.T) {
	e := era(t, "2.0.6")
	p := twoMachines(e)
	p.Machines[0].Binary, p.Machines[0].ConfigDir = "/opt/my node", "/srv/{core} $(id)"
	cmds, err := e.Commands(p, "a")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cmds[1].Argv, []string{"/opt/my node", "--config", "/srv/{core} $(id)", "--core", "1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Numbers and ports stay with a worker when others come and go; a parked number keeps its place in the list.
func TestNumbersAreKept(t *testing.T) {
	e := era(t, "2.1.0.19")
	p := twoMachines(e)
	before, err := e.Addresses(p)
	if err != nil {
		t.Fatal(err)
	}
	c := p.Machines[1]
	c.Name, c.Address, c.Announce, c.Workers = "c", netip.MustParseAddr("192.168.0.202"), netip.Addr{}, []Worker{{8, 0}, {9, 1}}
	more := p
	more.Machines = append(slices.Clone(p.Machines), c)
	after, err := e.Addresses(more)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range before.Lists {
		if !slices.Equal(l.Entries, after.Lists[i].Entries[:7]) || len(after.Lists[i].Entries) != 9 {
			t.Errorf("%s changed: %q", l.Key, after.Lists[i].Entries)
		}
	}
	less := more
	less.Machines = []Machine{more.Machines[0], c}
	less.Parked = []Core{4, 5, 6, 7}
	gone, err := e.Addresses(less)
	if err != nil {
		t.Fatal(err)
	}
	if got := gone.Lists[0].Entries; !slices.Equal(got[:3], before.Lists[0].Entries[:3]) || got[3] != "/ip4/127.0.0.1/tcp/1" || got[7] != "/ip4/192.168.0.202/tcp/25000" {
		t.Errorf("with parked cores: %q", got)
	}
	for id, want := range map[EraID]string{"1.4.21": "error", "2.0.1": "note", "2.0.6": "warning", "2.1.0.19": "note"} {
		e := era(t, id)
		less := less
		less.Machines = slices.Clone(less.Machines)
		for i := range less.Machines {
			less.Machines[i].Announce = netip.Addr{}
		}
		i := slices.IndexFunc(e.Problems(less), func(q Problem) bool { return q.Code == "parked" })
		if i < 0 || string(e.Problems(less)[i].Severity) != want {
			t.Errorf("era %s: parked cores are no %s", id, want)
		}
	}
}

func TestProblems(t *testing.T) {
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name string
		era  EraID
		do   func(*Plan)
		code string
		sev  Severity
		at   string
	}{
		{"no control machine", "1.4.21", func(p *Plan) { p.Control = "x" }, "control-missing", SevError, "control"},
		{"name taken", "1.4.21", func(p *Plan) { p.Machines[1].Name = "a" }, "name", SevError, "machines[1].name"},
		{"no address", "1.4.21", func(p *Plan) { p.Machines[1].Address = netip.Addr{} }, "address", SevError, "machines[1].address"},
		{"one address for two", "1.4.21", func(p *Plan) { p.Machines[1].Address = p.Machines[0].Address }, "address-twice", SevError, "machines[1].address"},
		{"any address", "1.4.21", func(p *Plan) { p.Machines[1].Address = addr("0.0.0.0") }, "address", SevError, "machines[1].address"},
		{"loopback of another", "2.0.6", func(p *Plan) { p.Machines[1].Address = addr("127.0.0.1") }, "loopback", SevError, "machines[1].address"},
		{"loopback with others", "2.0.6", func(p *Plan) { p.Machines[0].Address = addr("127.0.0.1") }, "loopback", SevError, "machines[0].address"},
		{"ip6", "2.0.6", func(p *Plan) { p.Machines[1].Address = addr("fd00::1") }, "family", SevError, "machines[1].address"},
		{"public workers without a check", "2.0.6", func(p *Plan) { p.Machines[1].Address = addr("203.0.113.9") }, "public", SevWarning, "machines[1].address"},
		{"private workers for the internet", "2.1.0", func(p *Plan) { p.Machines[1].Announce = netip.Addr{} }, "private", SevWarning, "machines[1].announce"},
		{"announce in an old era", "2.0.6", func(p *Plan) { p.Machines[1].Announce = addr("203.0.113.9") }, "announce", SevError, "machines[1].announce"},
		{"announce a private one", "2.1.0", func(p *Plan) { p.Machines[1].Announce = addr("10.0.0.1") }, "announce", SevError, "machines[1].announce"},
		{"relative binary", "1.4.21", func(p *Plan) { p.Machines[0].Binary = "node" }, "binary", SevError, "machines[0].binary"},
		{"relative config", "1.4.21", func(p *Plan) { p.Machines[0].ConfigDir = ".config" }, "config-dir", SevError, "machines[0].config_dir"},
		{"line end in a path", "1.4.21", func(p *Plan) { p.Machines[0].ConfigDir = "/a\nb" }, "config-dir", SevError, "machines[0].config_dir"},
		{"core 0", "1.4.21", func(p *Plan) { p.Machines[0].Workers[0].Core = 0 }, "core", SevError, "machines[0].workers[0].core"},
		{"core twice", "1.4.21", func(p *Plan) { p.Machines[1].Workers[0].Core = 1 }, "core-twice", SevError, "machines[1].workers[0].core"},
		{"slot twice", "1.4.21", func(p *Plan) { p.Machines[1].Workers[0].Slot = 1 }, "slot", SevError, "machines[1].workers[1].slot"},
		{"gap", "1.4.21", func(p *Plan) { p.Machines[0].Workers = p.Machines[0].Workers[:2] }, "gap", SevError, "machines"},
		{"parked and in use", "2.0.1", func(p *Plan) { p.Parked = []Core{4} }, "parked", SevError, "parked[0]"},
		{"parked above", "2.0.1", func(p *Plan) { p.Parked = []Core{8} }, "parked", SevError, "parked[0]"},
		{"ports above the end", "1.4.21", func(p *Plan) { p.Machines[0].Base = map[ListUse]Port{UseWork: 65534} }, "port", SevError, "machines[0].base"},
		{"ports of the control process", "1.4.21", func(p *Plan) { p.Machines[0].Base = map[ListUse]Port{UseWork: 8335} }, "port-twice", SevError, "machines[0].base"},
		{"p2p over stream", "2.1.0", func(p *Plan) { p.Machines[1].Base = map[ListUse]Port{UseP2P: 60003} }, "port-twice", SevError, "machines[1].base"},
		{"base of no use", "1.4.21", func(p *Plan) { p.Machines[0].Base = map[ListUse]Port{UseP2P: 1} }, "base", SevError, "machines[0].base"},
		{"ephemeral", "2.0.6", func(p *Plan) {}, "ephemeral", SevWarning, "machines[0].base"},
		{"too few", "2.0.6", func(p *Plan) { p.Machines = p.Machines[:1]; p.Machines[0].Workers = p.Machines[0].Workers[:2] }, "few-workers", SevError, "machines"},
		{"none", "2.1.0.23", func(p *Plan) { p.Machines = p.Machines[:1]; p.Machines[0].Workers = nil }, "no-workers", SevError, "machines"},
		{"transport", "2.0.6", func(p *Plan) { p.Transport = QUIC }, "transport", SevError, "transport"},
		{"memory", "2.0.6", func(p *Plan) { n := int64(0); p.WorkerMemoryBytes = &n }, "memory", SevError, "worker_memory_bytes"},
		{"size", "1.4.21", func(p *Plan) { grow(p, 129) }, "size", SevWarning, "machines"},
		{"beyond all sizes", "1.4.21", func(p *Plan) { grow(p, 2049) }, "size", SevError, "machines"},
		{"beyond all sizes, wanted", "1.4.21", func(p *Plan) { grow(p, 2049); p.Oversize = true }, "size", SevWarning, "machines"},
		{"unfinished upstream", "2.1.0.23", func(p *Plan) {}, "era", SevWarning, "era"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := era(t, c.era)
			p := twoMachines(e)
			c.do(&p)
			all := e.Problems(p)
			i := slices.IndexFunc(all, func(q Problem) bool { return q.Code == c.code && q.Field == c.at })
			if i < 0 || all[i].Severity != c.sev || all[i].Text == "" || all[i].Remedy == "" {
				t.Fatalf("want %s %s at %s, got %+v", c.sev, c.code, c.at, all)
			}
			_, err := e.Addresses(p)
			var pe *ProblemsError
			if refused := errors.As(err, &pe); refused != (c.sev == SevError) {
				t.Errorf("refused: %v (%v)", refused, err)
			}
			if !slices.IsSortedFunc(all, func(a, b Problem) int { return a.Severity.rank() - b.Severity.rank() }) {
				t.Error("errors do not come first")
			}
		})
	}
}

// grow gives machine b workers until the plan has n.
func grow(p *Plan, n int) {
	for p.Workers() < n {
		m := &p.Machines[1]
		c := Core(p.Workers() + 1)
		m.Workers = append(m.Workers, Worker{c, len(m.Workers)})
	}
}

// The source of a worker's port is the control machine and never the worker's own; the range is the machine's own.
func TestFirewall(t *testing.T) {
	e := era(t, "2.0.6")
	p := twoMachines(e)
	p.Machines[1].Workers[3].Slot = 9 // a hole in the slots is a hole in the ports
	rules, err := e.Firewall(p, "b")
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) != 2 || rules[0].First != 40000 || rules[0].Last != 40002 || rules[1].First != 40009 || rules[1].Last != 40009 {
		t.Errorf("%+v", rules)
	}
	for _, r := range rules {
		if r.From != p.Machines[0].Address || r.Proto != "tcp" {
			t.Errorf("%+v", r)
		}
	}
	// The control machine opens its own p2p port and none of its workers'.
	if rules, err := e.Firewall(p, "a"); err != nil || len(rules) != 1 || rules[0].First != 8336 || rules[0].Proto != "udp" || rules[0].From.IsValid() {
		t.Errorf("control machine: %+v %v", rules, err)
	}
	e = era(t, "2.1.0.19")
	p = twoMachines(e)
	p.Transport = QUIC
	rules, err = e.Firewall(p, "b")
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) != 2 || rules[0].Proto != "udp" || rules[0].First != 25000 || rules[0].Last != 25003 || rules[0].From.IsValid() || rules[1].Proto != "tcp" || rules[1].First != 32500 {
		t.Errorf("%+v", rules)
	}
	a, err := e.Addresses(p)
	if err != nil || a.Lists[0].Entries[3] != "/ip4/192.168.0.201/udp/25000/quic-v1" || a.Lists[1].Entries[3] != "/ip4/192.168.0.201/tcp/32500" {
		t.Errorf("%v %v", a, err)
	}
}

// 268 workers on one address fit between the stream base of 2.1.0.19 and the system's own ports.
func TestEphemeralRange(t *testing.T) {
	e := era(t, "2.1.0.19")
	p := twoMachines(e)
	grow(&p, 3+268)
	if s := e.ReservedPorts(p, "b"); s != "" {
		t.Errorf("268 workers: %s", s)
	}
	grow(&p, 3+270)
	if s := e.ReservedPorts(p, "b"); s != "32768-32769" {
		t.Errorf("270 workers: %q", s)
	}
}

func TestMultiaddr(t *testing.T) {
	for _, s := range []string{"/ip4/192.0.2.1/tcp/1", "/ip4/10.0.0.1/udp/65535/quic-v1", "/ip6/2001:db8::1/tcp/40000"} {
		m, err := ParseMultiaddr(s)
		if err != nil || m.String() != s {
			t.Errorf("%s: %v %v", s, m, err)
		}
	}
	for _, s := range []string{"", "/", "/ip4/192.0.2.1", "/ip4/192.0.2.1/tcp", "/ip4/192.0.2.1/tcp/0", "/ip4/192.0.2.1/tcp/65536", "/ip4/192.0.2.1/tcp/040", "/ip4/192.0.2.1/udp/1",
		"/ip4/192.0.2.1/tcp/1/", "/ip4/192.0.2.1/tcp/1/p2p/Qm", "/ip4/::1/tcp/1", "/ip6/192.0.2.1/tcp/1", "/dns4/a/tcp/1", "192.0.2.1:1", "/ip6/fe80::1%eth0/tcp/1", "/ip4/192.0.2.1/tcp/+1", strings.Repeat("/", 1000)} {
		if m, err := ParseMultiaddr(s); err == nil {
			t.Errorf("%q was read: %v", s, m)
		}
	}
}

// What the config says of the control process's ports counts for the firewall and for clashes.
func TestListening(t *testing.T) {
	e := era(t, "2.1.0.19")
	p := twoMachines(e)
	var err error
	if p.Listen, err = e.Listening([]byte("p2p:\n  listenMultiaddr: /ip4/0.0.0.0/tcp/9336\n  streamListenMultiaddr: word\nlistenGrpcMultiaddr: /ip4/127.0.0.1/tcp/25001\n")); err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(e.Problems(p), func(q Problem) bool { return q.Code == "port-twice" && strings.Contains(q.Text, "(grpc)") }); i < 0 {
		t.Errorf("no clash of 25001: %+v", e.Problems(p))
	}
	p.Machines[0].Base = map[ListUse]Port{UseP2P: 26000}
	rules, err := e.Firewall(p, "a")
	if err != nil || rules[0].Proto != "tcp" || rules[0].First != 9336 || rules[1].First != 8340 || slices.ContainsFunc(rules, func(r FirewallRule) bool { return r.First == 25001 }) {
		t.Errorf("%+v %v", rules, err)
	}
	if e.Ports[0].Port != 8336 {
		t.Error("the era itself was changed")
	}
	if _, err := e.Listening([]byte("p2p:\n  listenMultiaddr: [a]\n")); err == nil {
		t.Error("a list was read as an address")
	}
}
