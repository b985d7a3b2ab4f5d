package fit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// remote is a profile with a control process and one port a worker, as an old kind of node has it.
func remote(holes Holes) Profile {
	return Profile{ID: "test", Title: "a test", Numbers: ByCluster, Remote: true, NeedsIP: true, OnlyIPv4: true, ByThreads: true,
		KeepFree: []Keep{{0, 2}}, RAMPerWorker: 2 * GiB, RAMControl: 2 * GiB, RAMSystem: GiB, Exposure: FromControl,
		Ports: []PortRule{{"work", "tcp", 40000}}, Holes: holes, MaxWorkers: 2048, MinWorkers: 3, MinThreads: 4, Equal: true, SlowMS: 20,
		Sizes:  []Size{{128, "little"}, {1024, "more"}, {2048, "much"}, {65536, "each round costs 32 times as much"}},
		Unsafe: "workers take work from anyone who reaches them: apply the firewall rules",
		Keys:   []KeyNeed{{"config.yml", "needed", "needed", true, "settings and the address list"}, {"keys.yml", "needed", "never: not needed there, and secret", true, "the prover's keys"}}}
}

func box(n, threads, gib int) Machine {
	return Machine{Name: fmt.Sprintf("m%02d", n), Address: fmt.Sprintf("192.168.%d.%d", n/200, 1+n%200), Cores: threads / 2, Threads: threads, RAM: Bytes(gib) * GiB}
}

func must(t *testing.T, before *State, p Params) Layout {
	t.Helper()
	if p.Name == "" {
		p.Name = "test"
	}
	l, err := Plan(before, p)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func problems(t *testing.T, err error) []Problem {
	t.Helper()
	var ps *ProblemsError
	if !errors.As(err, &ps) {
		t.Fatalf("want problems, got %v", err)
	}
	return ps.Problems
}

func boxes(n, threads, gib int) (out []Machine) {
	for i := range n {
		out = append(out, box(i+1, threads, gib))
	}
	return out
}

func TestPlanCounts(t *testing.T) {
	four := 4
	for name, c := range map[string]struct {
		p       Params
		workers []int
		check   string // of the last row
		warn    string // a part of one warning
	}{
		"one":            {Params{Machines: boxes(1, 64, 256)}, []int{62}, "ok, 2 kept free", ""},
		"control alone":  {Params{Machines: boxes(3, 64, 256)}, []int{62, 64, 64}, "ok", "apply the firewall rules"},
		"keep free":      {Params{Machines: boxes(2, 64, 256), KeepFree: &four}, []int{60, 64}, "ok", ""},
		"little memory":  {Params{Machines: []Machine{box(1, 64, 256), box(2, 64, 105)}}, []int{62, 52}, "64 need 129 GiB of 105 GiB", "64 workers would need 129 GiB of its 105 GiB of memory: 52 are planned"},
		"unequal":        {Params{Machines: []Machine{box(1, 64, 256), box(2, 16, 64)}}, []int{62, 16}, "ok", "every round waits for the slowest worker"},
		"typed":          {Params{Machines: []Machine{box(1, 64, 256), func() Machine { m := box(2, 64, 256); m.Workers = &four; return m }()}}, []int{62, 4}, "ok", ""},
		"wsl":            {Params{Machines: []Machine{box(1, 64, 256), func() Machine { m := box(2, 64, 256); m.WSL = true; return m }()}}, []int{62, 64}, "WSL", "runs under WSL"},
		"few processors": {Params{Machines: []Machine{box(1, 64, 256), box(2, 2, 64)}}, []int{62, 2}, "fewer than 4 processors", "fewer than the 4 processors"},
		"capped":         {Params{Machines: boxes(3, 64, 256), MaxWorkers: 128}, []int{62, 64, 2}, "62 left out by --max-workers", ""},
		"private and public": {Params{Machines: []Machine{box(1, 64, 256), {Name: "far", Address: "203.0.113.9", Threads: 64, RAM: 256 * GiB}}}, []int{62, 64}, "ok",
			"private addresses (m01) and public ones (far)"},
		"over the limit, meant": {Params{Machines: boxes(33, 64, 256), MaxWorkers: 2110}, nil, "ok", "2,110 workers: above 2,048 each round costs 32 times as much"},
	} {
		t.Run(name, func(t *testing.T) {
			c.p.Profile = remote(HolesBorne)
			l := must(t, nil, c.p)
			sum := 0
			for i, r := range l.Rows {
				if sum += r.Workers; c.workers != nil && r.Workers != c.workers[i] {
					t.Errorf("%s has %d workers, want %d", r.Machine.Name, r.Workers, c.workers[i])
				}
			}
			if sum != l.Workers {
				t.Errorf("the rows have %d workers, the plan %d", sum, l.Workers)
			}
			if got := l.Rows[len(l.Rows)-1].Check; got != c.check {
				t.Errorf("check %q, want %q", got, c.check)
			}
			if !strings.Contains(strings.Join(l.Warnings, "\n"), c.warn) {
				t.Errorf("no warning has %q: %q", c.warn, l.Warnings)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	many, minus := 65, -1
	for name, c := range map[string]struct {
		p           Params
		field, says string
	}{
		"none":              {Params{}, "inventory", "there is no machine"},
		"name":              {Params{Name: "Ssh;rm", Machines: boxes(1, 8, 32)}, "cluster-name", "cluster name"},
		"same name":         {Params{Machines: []Machine{box(1, 8, 32), {Name: "m01", Address: "10.0.0.9", Threads: 8, RAM: GiB}}}, "inventory", "both called m01"},
		"same address":      {Params{Machines: []Machine{box(1, 8, 32), {Name: "m02", Address: "192.168.0.2", Threads: 8, RAM: GiB}}}, "inventory", "same address 192.168.0.2"},
		"same, mapped":      {Params{Machines: []Machine{box(1, 8, 32), {Name: "m02", Address: "::ffff:192.168.0.2", Threads: 8, RAM: GiB}}}, "inventory", "same address"},
		"loopback":          {Params{Machines: []Machine{box(1, 8, 32), {Name: "m02", Address: "127.0.0.1", Threads: 8, RAM: GiB}}}, "inventory", "loopback"},
		"control":           {Params{Machines: boxes(1, 8, 32), Control: "m09"}, "control", `"m09"`},
		"keep free":         {Params{Machines: boxes(1, 8, 32), KeepFree: &minus}, "keep-free", "-1"},
		"max":               {Params{Machines: boxes(1, 8, 32), MaxWorkers: -2}, "max-workers", "-2"},
		"over the limit":    {Params{Machines: boxes(33, 64, 256)}, "max-workers", "2,110 workers are 62 more than 2,048"},
		"no cores":          {Params{Machines: []Machine{{Name: "a", Address: "10.0.0.1", RAM: GiB}}}, "inventory", "neither cores nor threads"},
		"no memory":         {Params{Machines: []Machine{{Name: "a", Address: "10.0.0.1", Cores: 4}}}, "inventory", "memory is not told"},
		"no room":           {Params{Machines: []Machine{{Name: "a", Address: "10.0.0.1", Cores: 4, RAM: 2 * GiB}}}, "inventory", "no machine has room"},
		"too many typed":    {Params{Machines: []Machine{{Name: "a", Address: "10.0.0.1", Threads: 64, RAM: 256 * GiB, Workers: &many}}}, "inventory", "65 workers do not fit: 62 processors"},
		"a name, no ip":     {Params{Machines: []Machine{{Name: "a", Address: "a.example", Threads: 8, RAM: 32 * GiB}}}, "inventory", "is a name"},
		"ipv6":              {Params{Machines: []Machine{{Name: "a", Address: "2001:db8::1", Threads: 8, RAM: 32 * GiB}}}, "inventory", "IPv4"},
		"threads and cores": {Params{Machines: []Machine{{Name: "a", Address: "10.0.0.1", Threads: 8, Cores: 16, RAM: 32 * GiB}}}, "inventory", "8 threads on 16 cores"},
	} {
		t.Run(name, func(t *testing.T) {
			c.p.Profile = remote(HolesBorne)
			if c.p.Name == "" {
				c.p.Name = "test"
			}
			_, err := Plan(nil, c.p)
			ps := problems(t, err)
			if ps[0].Field != c.field || !strings.Contains(ps[0].Cause, c.says) {
				t.Errorf("got %+v", ps)
			}
		})
	}
}

// TestPortsMeet: no two ports of a machine are the same, whatever a profile and a number of workers make of them.
func TestPortsMeet(t *testing.T) {
	big := []Machine{{Name: "m01", Address: "10.0.0.1", Threads: 8000, RAM: 64 << 40}}
	for name, c := range map[string]struct {
		change func(*Profile)
		says   string
	}{
		"two rules":           {func(p *Profile) { p.Ports = []PortRule{{"p2p", "tcp", 25000}, {"stream", "tcp", 32500}} }, "the p2p ports 25000-32997 and the stream ports 32500-40497 overlap"},
		"above 65535":         {func(p *Profile) { p.Ports = []PortRule{{"work", "tcp", 60000}} }, "reach port 67997, and ports end at 65535"},
		"the control process": {func(p *Profile) { p.ControlPorts = []ListenPort{{"grpc", "tcp", 40007, false}} }, "the work ports 40000-47997 and the grpc ports 40007 overlap"},
		"too many entries":    {func(p *Profile) { p.MaxEntries = 7000 }, "at most 7,000 are written"},
	} {
		p := remote(HolesBorne)
		p.MaxWorkers = 0
		c.change(&p)
		_, err := Plan(nil, Params{Name: "test", Profile: p, Machines: big})
		if ps := problems(t, err); !strings.Contains(err.Error(), c.says) || ps[0].Field != "inventory" {
			t.Errorf("%s: %+v", name, ps)
		}
	}
	// udp and tcp of one number are two ports.
	p := remote(HolesBorne)
	p.MaxWorkers, p.Ports = 0, []PortRule{{"p2p", "udp", 25000}, {"stream", "tcp", 25000}}
	must(t, nil, Params{Profile: p, Machines: big})
}

func TestAdvice(t *testing.T) {
	for n, want := range map[int]string{
		128:  "128 workers: exactly an efficient size",
		129:  "129 workers: 895 short of 1,024; next lower 128 (1 fewer: --max-workers=128 costs each round less)",
		2034: "2,034 workers: 14 short of 2,048; next lower 1,024",
		60:   "60 workers: 68 short of 128",
	} {
		l := must(t, nil, Params{Profile: remote(HolesBorne), Machines: boxes(33, 64, 256), MaxWorkers: n})
		if l.Advice != want {
			t.Errorf("%d: %q, want %q", n, l.Advice, want)
		}
	}
	if l := must(t, nil, Params{Profile: Native(), Machines: boxes(3, 64, 256)}); l.Advice != "" {
		t.Errorf("native has no such rule: %q", l.Advice)
	}
}

// owner is who a worker is: its machine and its port.
type owner struct {
	machine string
	offset  int
}

func owners(t *testing.T, l *Layout) map[Core]owner {
	t.Helper()
	out := map[Core]owner{}
	ports := map[string]bool{}
	for _, r := range l.Rows {
		n := 0
		for _, run := range r.Runs {
			for i := range run.Count {
				c := run.First + Core(i)
				if old, ok := out[c]; ok && l.Profile.Numbers == ByCluster {
					t.Fatalf("number %d belongs to %v and %s", c, old, r.Machine.Name)
				}
				port := fmt.Sprintf("%s:%d", r.Machine.Name, run.Offset+i)
				if ports[port] {
					t.Fatalf("%s is used twice", port)
				}
				ports[port] = true
				out[c] = owner{r.Machine.Name, run.Offset + i}
				n++
			}
		}
		if n != r.Workers {
			t.Fatalf("%s has %d numbers for %d workers", r.Machine.Name, n, r.Workers)
		}
		spans := l.Spans(&r)
		total := 0
		for _, s := range spans {
			total += s.Last - s.First + 1
		}
		if total != n*len(l.Profile.Ports) {
			t.Fatalf("%s opens %d ports for %d workers", r.Machine.Name, total, n)
		}
	}
	if l.Profile.Numbers == ByCluster {
		for _, p := range l.Parked {
			for i := range p.Count {
				c := p.First + Core(i)
				if o, ok := out[c]; ok {
					t.Fatalf("parked number %d belongs to %v", c, o)
				}
				out[c] = owner{}
			}
		}
		for c := Core(1); int(c) <= l.Listed; c++ {
			if _, ok := out[c]; !ok {
				t.Fatalf("the list of %d has no entry for %d", l.Listed, c)
			}
		}
		if len(out) != l.Listed {
			t.Fatalf("%d numbers, %d listed", len(out), l.Listed)
		}
	}
	return out
}

// TestNumbersStay: whatever machines come, go, grow and shrink, workers that stay keep number and port,
// and no two workers ever share one.
func TestNumbersStay(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		profile := []Profile{remote(HolesBorne), remote(HolesCostly), Native()}[seed%3]
		profile.MaxWorkers = 0
		machines := boxes(1+rnd.IntN(6), 8, 64)
		next := len(machines) + 1
		p := Params{Name: "test", Profile: profile, Machines: machines, Control: "m01"}
		l := must(t, nil, p)
		owners(t, &l)
		for range 30 {
			before := l.State(nil, nil)
			raw, err := before.Marshal() // the state goes over the disk, as in life
			if err != nil {
				t.Fatal(err)
			}
			if before, err = ReadState(raw); err != nil {
				t.Fatalf("%v\n%s", err, raw)
			}
			was := owners(t, &l)
			p.FillHoles = rnd.IntN(3) == 0
			for range 1 + rnd.IntN(2) {
				switch k := rnd.IntN(4); {
				case k == 0 && len(p.Machines) > 1:
					i := 1 + rnd.IntN(len(p.Machines)-1)
					p.Machines = slices.Delete(slices.Clone(p.Machines), i, i+1)
				case k == 1:
					p.Machines = append(slices.Clone(p.Machines), box(next, 2+2*rnd.IntN(8), 64))
					next++
				case k == 2:
					p.Machines = slices.Clone(p.Machines)
					m := &p.Machines[rnd.IntN(len(p.Machines))]
					m.Threads = 4 + 2*rnd.IntN(8)
					m.Cores = m.Threads / 2
				case k == 3:
					p.Machines = slices.Clone(p.Machines)
					rest := p.Machines[1:]
					rnd.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
				}
			}
			l = must(t, &before, p)
			now := owners(t, &l)
			if profile.Numbers == ByMachine {
				for _, r := range l.Rows { // numbers are 1 to n without a gap
					if r.Workers > 0 && (len(r.Runs) != 1 || r.Runs[0].First != 1) {
						t.Fatalf("%s: %v", r.Machine.Name, r.Runs)
					}
				}
				continue
			}
			for c, o := range was {
				if o.machine == "" {
					continue
				}
				row := l.Row(o.machine)
				if row == nil {
					if n := now[c]; n.machine == o.machine {
						t.Fatalf("%d still belongs to %s, which is gone", c, o.machine)
					}
					continue
				}
				old := 0
				for _, x := range was {
					if x.machine == o.machine {
						old++
					}
				}
				if row.Workers >= old && now[c] != o {
					t.Fatalf("seed %d: %d was %v and is %v", seed, c, o, now[c])
				}
				// A machine that shrinks gives up its highest numbers; the others stay.
				if n, ok := now[c]; ok && n.machine == o.machine && n != o {
					t.Fatalf("seed %d: %d moved to another port: %v, %v", seed, c, o, n)
				}
			}
		}
	}
}

func TestRemoveAndRenumber(t *testing.T) {
	p := Params{Name: "test", Profile: remote(HolesFatal), Machines: boxes(3, 8, 64)}
	first := must(t, nil, p)
	before := first.State(nil, nil)
	p.Machines = []Machine{box(1, 8, 64), box(3, 8, 64)}

	_, err := Plan(&before, p)
	if ps := problems(t, err); ps[0].Field != "remove-machine" || !strings.Contains(ps[0].Cause, "without m02 the numbers 7-14 are nobody's") || !strings.Contains(ps[0].Remedy, "--renumber") {
		t.Errorf("a hole that ends the control process was planned: %+v", ps)
	}
	p.Renumber = true
	l := must(t, &before, p)
	if l.Listed != 14 || len(l.Parked) != 0 || len(l.Moved) != 8 || l.Row("m03").Numbers() != "7-14" || l.Row("m01").Numbers() != "1-6" {
		t.Errorf("renumbered to %s and %s, %d moved, parked %v", l.Row("m01").Numbers(), l.Row("m03").Numbers(), len(l.Moved), l.Parked)
	}
	owners(t, &l)
	p.Renumber, p.FillHoles = false, true
	p.Machines = append(p.Machines, box(4, 8, 64))
	l = must(t, &before, p)
	if l.Row("m04").Numbers() != "7-14" || l.Row("m03").Numbers() != "15-22" || len(l.Parked) != 0 {
		t.Errorf("m04 has %s, m03 %s", l.Row("m04").Numbers(), l.Row("m03").Numbers())
	}
	// The last machine of the list leaves no hole.
	p.FillHoles = false
	p.Machines = boxes(2, 8, 64)
	if l = must(t, &before, p); l.Listed != 14 || len(l.Parked) != 0 {
		t.Errorf("%d listed, parked %v", l.Listed, l.Parked)
	}
	// Where others do not mind, the numbers are parked and the others stay.
	p.Profile = remote(HolesBorne)
	p.Machines = []Machine{box(1, 8, 64), box(3, 8, 64), box(4, 8, 64)}
	l = must(t, &before, p)
	if l.Row("m03").Numbers() != "15-22" || l.Row("m04").Numbers() != "23-30" || l.Listed != 30 || len(l.Parked) != 1 {
		t.Errorf("m03 %s m04 %s parked %v", l.Row("m03").Numbers(), l.Row("m04").Numbers(), l.Parked)
	}
}

func TestManyMachines(t *testing.T) {
	p := Params{Name: "test", Profile: remote(HolesBorne), Machines: nil, MaxWorkers: MaxWorkers}
	for i := range MaxMachines {
		m := box(i, 16, 64)
		m.Address = fmt.Sprintf("10.%d.%d.%d", i/62500, i/250%250, 1+i%250)
		p.Machines = append(p.Machines, m)
	}
	l := must(t, nil, p)
	if l.Workers != MaxMachines*16-2 {
		t.Errorf("%d workers", l.Workers)
	}
	p.Machines = append(p.Machines, Machine{Name: "one-more", Address: "172.16.0.1", Threads: 4, RAM: GiB})
	if _, err := Plan(nil, p); err == nil {
		t.Error("4,097 machines were planned")
	}
}
