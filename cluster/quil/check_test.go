package quil

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Mistakes that clusters are known for, each found at its line.
func TestCheck(t *testing.T) {
	const head = "key:\n  keyManagerFile:\n    encryptionKey: 00\np2p:\n  peerPrivKey: 00\nengine:\n"
	list := func(entries ...string) string {
		s := "  dataWorkerMultiaddrs:\n"
		for _, e := range entries {
			s += "  - " + e + "\n"
		}
		return s
	}
	a := func(n int) string { return "/ip4/192.168.0.200/tcp/" + ranges([]int{40000 + n}) }
	b := func(n int) string { return "/ip4/192.168.0.201/tcp/" + ranges([]int{40000 + n}) }
	right := []string{a(0), a(1), a(2), b(0), b(1), b(2), b(3)}
	with := func(i int, s string) []string {
		l := slices.Clone(right)
		l[i] = s
		return l
	}
	for _, c := range []struct {
		name    string
		era     EraID
		machine string
		in      string
		code    string // "" for none
		sev     Severity
		line    int
		says    string
	}{
		{"as planned", "2.0.6", "a", head + list(right...), "", "", 0, ""},
		{"the guide's spelling", "2.0.6", "a", head + strings.Replace(list(right...), "dataWorkerM", "dataWorkersM", 1), FindKeyMisspelt, SevError, 7, "write engine.dataWorkerMultiaddrs"},
		{"and so no list", "2.0.6", "a", head + strings.Replace(list(right...), "dataWorkerM", "dataWorkersM", 1), FindListMissing, SevError, 0, "local workers|starts workers on its own machine"},
		{"capital letters", "2.0.6", "a", head + list(right...) + "  dataworkercount: 3\n", FindKeyMisspelt, SevWarning, 15, "engine.dataWorkerCount"},
		{"a key of another era", "2.1.0.19", "a", head + list(right...), FindKeyOtherEra, SevWarning, 7, "1.4.21, 2.0.1, 2.0.6"},
		{"a count without effect", "2.1.0.23", "a", head + "  dataWorkerCount: 3\n", FindKeyNoEffect, SevWarning, 7, "does not use it"},
		{"a limit without effect", "2.1.0.23", "a", head + "  dataWorkerMemoryLimit: 3\n", FindKeyNoEffect, SevWarning, 7, "control group"},
		{"a list that is none", "2.0.6", "a", head + "  dataWorkerMultiaddrs: word\n", FindKeyType, SevError, 7, "write a list"},
		{"a port that is none", "2.0.6", "a", head + "  dataWorkerBaseListenPort: 70000\n", FindKeyType, SevError, 7, "write a port"},
		{"a format without its place", "2.0.6", "a", head + "  dataWorkerBaseListenMultiaddr: /ip4/127.0.0.1/tcp/40000\n", FindKeyType, SevError, 7, "%d"},
		{"one store for all workers", "2.1.0.19", "a", head + "db:\n  workerPathPrefix: .config/worker-store\n", FindKeyType, SevError, 8, "share one store"},
		{"a number in words", "2.0.6", "a", head + "  dataWorkerCount: three\n", FindKeyType, SevError, 7, "a number"},
		{"short", "2.0.6", "b", head + list(right[:6]...), FindListShort, SevError, 13, "core 7"},
		{"long: the control process counted", "2.0.6", "a", head + list(append([]string{"/ip4/192.168.0.200/tcp/8337"}, right...)...), FindListLong, SevError, 15, "8 entries for 7 cores"},
		{"the control process listed", "2.0.6", "a", head + list(append([]string{"/ip4/192.168.0.200/tcp/8337"}, right...)...), FindEntryControl, SevError, 8, "entry 1 belongs to core 1"},
		{"wrong order", "2.0.6", "a", head + list(a(0), a(2), a(1), b(0), b(1), b(2), b(3)), FindListOrder, SevError, 9, "2 cores, the first of them 2"},
		{"another machine's address", "2.0.6", "a", head + list(with(3, "/ip4/192.168.0.209/tcp/40000")...), FindEntryWrong, SevError, 11, "core 4"},
		{"one address twice", "2.0.6", "a", head + list(with(4, b(0))...), FindEntryTwice, SevError, 12, "cores 4 and 5"},
		{"no address", "2.0.6", "a", head + list(with(0, "192.168.0.200:40000")...), FindEntryForm, SevError, 8, "core 1"},
		{"names no machine", "2.0.6", "a", head + list(with(0, "/ip4/0.0.0.0/tcp/40000")...), FindEntryAny, SevError, 8, "core 1"},
		{"every machine's own", "2.0.6", "b", head + list(with(3, "/ip4/127.0.0.1/tcp/40000")...), FindEntryLoopback, SevError, 11, "core 4"},
		{"public", "2.0.6", "a", head + list(with(3, "/ip4/203.0.113.3/tcp/40000")...), FindEntryPublic, SevError, 11, "give the worker work"},
		{"announced and private", "2.1.0.19", "a", head + "  dataWorkerAnnounceP2PMultiaddrs: [/ip4/10.0.0.1/tcp/25000]\n", FindEntryPrivate, SevError, 7, "the internet does not reach"},
		{"lists of two lengths", "2.1.0.19", "a", head + "  dataWorkerP2PMultiaddrs: [/ip4/192.168.0.200/tcp/25000]\n  dataWorkerStreamMultiaddrs: [/ip4/192.168.0.200/tcp/32500, /ip4/192.168.0.200/tcp/32501]\n", FindListsDiffer, SevError, 0, "1 p2p entries and 2 stream"},
		{"ports of the era before", "2.1.0.19", "a", head + "  dataWorkerP2PMultiaddrs: [/ip4/192.168.0.200/tcp/50000]\n", FindEntryWrong, SevError, 7, "/ip4/192.168.0.200/tcp/25000"},
		{"a secret too many", "2.0.6", "b", head + list(right...), FindSecretExtra, SevError, 3, "key.keyManagerFile.encryptionKey"},
		{"no secret too many", "2.1.0.19", "b", head, "", "", 3, ""},
		{"no identity", "2.0.6", "b", "engine:\n" + list(right...), FindSecretMissing, SevError, 0, "p2p.peerPrivKey"},
		{"a listener for all", "2.1.0.19", "a", head + "listenGrpcMultiaddr: /ip4/0.0.0.0/tcp/8337\n", FindListenOpen, SevError, 7, "take orders"},
		{"a listener for this machine", "2.1.0.19", "a", head + "listenGrpcMultiaddr: /ip4/127.0.0.1/tcp/8337\n", "", "", 7, ""},
		{"a worker that looks at home", "2.1.0.23", "b", head + "  x: 1\np2q: 1\n", FindWorkerStream, SevError, 0, "looks for its control process"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := era(t, c.era)
			found, err := e.Check([]byte(c.in), twoMachines(e), c.machine)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.IsSortedFunc(found, func(a, b Finding) int { return a.Line - b.Line }) {
				t.Errorf("not in the order of the lines: %+v", found)
			}
			if c.code == "" {
				if i := slices.IndexFunc(found, func(f Finding) bool { return f.Line == c.line && c.line > 0 || c.line == 0 }); i >= 0 {
					t.Errorf("found %+v", found[i])
				}
				return
			}
			i := slices.IndexFunc(found, func(f Finding) bool { return f.Code == c.code && f.Line == c.line })
			if i < 0 || found[i].Severity != c.sev || found[i].Remedy == "" {
				t.Fatalf("want %s %s in line %d, got %+v", c.sev, c.code, c.line, found)
			}
			all := found[i].Key + " " + found[i].Text + " " + found[i].Remedy
			if !slices.ContainsFunc(strings.Split(c.says, "|"), func(s string) bool { return strings.Contains(all, s) }) {
				t.Errorf("%q does not say %q", all, c.says)
			}
		})
	}
}

// One entry put in front makes every other wrong: the operator is told that, not a line for each.
func TestCheckIsBounded(t *testing.T) {
	e := era(t, "2.0.6")
	p := twoMachines(e)
	grow(&p, 2048)
	want, err := e.Addresses(p)
	if err != nil {
		t.Fatal(err)
	}
	in := "engine:\n  dataWorkerMultiaddrs:\n  - /ip4/192.168.0.250/tcp/40000\n"
	for _, s := range want.Lists[0].Entries {
		in += "  - " + s + "\n"
	}
	found, err := e.Check([]byte(in), p, "a")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 20 {
		t.Errorf("%d findings", len(found))
	}
}

func TestCheckRefuses(t *testing.T) {
	e := era(t, "2.0.6")
	p := twoMachines(e)
	if _, err := e.Check([]byte("a: 1\n"), p, "x"); err == nil {
		t.Error("a machine that is not there")
	}
	var ce *ConfigError
	if _, err := e.Check([]byte("["), p, "a"); !errors.As(err, &ce) {
		t.Error(err)
	}
	p.Machines[0].Address = netip.Addr{}
	var pe *ProblemsError
	if _, err := e.Check([]byte("a: 1\n"), p, "a"); !errors.As(err, &pe) || !strings.Contains(err.Error(), "machines[0].address") {
		t.Error(err)
	}
}
