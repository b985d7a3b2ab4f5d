package fit

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const goodInventory = `schema: provost.inventory/1
machines:
- {name: m01, address: 192.168.0.201, cores: 32, threads: 64, ram: 256GiB, disk: 1TiB}
- name: m02
  address: m02.example   # a name
  ip: 192.168.0.202
  threads: 64
  ram: 64 GiB
  os: linux
  wsl: true
  workers: 0
  notes: "rack 3, second from the top"
`

func TestParseInventory(t *testing.T) {
	got, err := ParseInventory("a.yaml", []byte(goodInventory))
	if err != nil {
		t.Fatal(err)
	}
	zero := 0
	want := []Machine{{Name: "m01", Address: "192.168.0.201", Cores: 32, Threads: 64, RAM: 256 * GiB, Disk: 1024 * GiB},
		{Name: "m02", Address: "m02.example", IP: "192.168.0.202", Threads: 64, RAM: 64 * GiB, OS: Linux, WSL: true, Workers: &zero, Notes: "rack 3, second from the top"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	asJSON := `{"schema":"provost.inventory/1","machines":[{"name":"m01","address":"192.168.0.201","cores":32,"threads":64,"ram":"256GiB","disk":"1TiB"}]}`
	if got, err := ParseInventory("a.json", []byte(asJSON)); err != nil || !reflect.DeepEqual(got, want[:1]) {
		t.Errorf("JSON: %+v, %v", got, err)
	}
	// This machine may be listed without what is measured.
	if _, err := ParseInventory("a.yaml", []byte("schema: provost.inventory/1\nmachines: [{local: true}]\n")); err != nil {
		t.Error(err)
	}
}

func TestInventoryRefuses(t *testing.T) {
	one := func(s string) string { return "schema: provost.inventory/1\nmachines:\n- {" + s + "}\n" }
	base := "name: m01, address: 10.0.0.1, cores: 4, ram: 8GiB"
	for name, c := range map[string]struct{ in, says string }{
		"empty":         {"", "holds no inventory"},
		"no yaml":       {"a: [", "not YAML or JSON"},
		"list":          {"- a\n", "holds no inventory"},
		"two documents": {goodInventory + "---\na: 1\n", "a second document"},
		"no schema":     {"machines:\n- {" + base + "}\n", "has no schema"},
		"other schema":  {strings.Replace(goodInventory, "/1", "/2", 1), `t.yaml:1: schema "provost.inventory/2" is not known`},
		"no machines":   {"schema: provost.inventory/1\n", "lists no machines"},
		"none":          {"schema: provost.inventory/1\nmachines: []\n", "lists no machines"},
		"unknown top":   {goodInventory + "hosts: 3\n", `unknown key "hosts"`},
		"unknown key":   {one("name: m01, adress: 10.0.0.1, cores: 4"), `t.yaml:3: unknown key "adress"`},
		"twice":         {one(base + ", cores: 8"), `t.yaml:3: "cores" is given twice`},
		"no unit":       {one("name: m01, address: 10.0.0.1, cores: 4, ram: 8"), `ram: "8" has no unit: write 8GiB`},
		"bytes":         {one("name: m01, address: 10.0.0.1, cores: 4, ram: 34359738368"), `"34359738368" has no unit: write 34359738368B if bytes are meant`},
		"broadcast":     {one("name: m01, address: 255.255.255.255, cores: 4"), "of that range"},
		"class e":       {one("name: m01, address: 240.0.0.1, cores: 4"), "of that range"},
		"zero net":      {one("name: m01, address: 0.0.0.5, cores: 4"), "of that range"},
		"link-local":    {one("name: m01, address: 'fe80::1', cores: 4"), "link-local"},
		"no size":       {one("name: m01, address: 10.0.0.1, cores: 4, ram: lots"), "want an amount with its unit"},
		"huge":          {one("name: m01, address: 10.0.0.1, cores: 4, ram: 131072TiB"), "more than any machine has"},
		"zero ram":      {one("name: m01, address: 10.0.0.1, cores: 4, ram: 0GiB"), "more than nothing"},
		"cores":         {one("name: m01, address: 10.0.0.1, cores: four"), "want a number from 1 to 4096"},
		"negative":      {one("name: m01, address: 10.0.0.1, cores: -4"), "want a number from 1"},
		"name":          {one("name: ../m01, address: 10.0.0.1, cores: 4"), `name "../m01": want a-z`},
		"no name":       {one("address: 10.0.0.1, cores: 4"), "it has no name"},
		"no address":    {one("name: m01, cores: 4"), "it has no address"},
		"with port":     {one("name: m01, address: '10.0.0.1:22', cores: 4"), "without port or scheme"},
		"broken ip":     {one("name: m01, address: 10.0.0.256, cores: 4"), "looks like an IP address and is none"},
		"any":           {one("name: m01, address: 0.0.0.0, cores: 4"), "every address"},
		"ip differs":    {one("name: m01, address: 10.0.0.1, ip: 10.0.0.2, cores: 4"), "differs from address"},
		"announce":      {one("name: m01, address: 10.0.0.1, announce: 10.1.1.1, cores: 4"), "public IP address"},
		"os":            {one(base + ", os: plan9"), "want linux"},
		"wsl":           {one(base + ", wsl: maybe"), "want true or false"},
		"null":          {one(base + ", notes: "), "no plain value"},
		"nested":        {one(base + ", notes: [a]"), "no plain value"},
		"alias":         {"schema: provost.inventory/1\nmachines:\n- &a {" + base + "}\n- *a\n", "aliases"},
		"control chars": {one(`name: "m\x1b[2J", address: 10.0.0.1, cores: 4`), "control characters"},
		"no mapping":    {"schema: provost.inventory/1\nmachines: [m01]\n", "t.yaml:2: machine 1 is not one"},
		"too large":     {strings.Repeat("#", maxInventory+1), "larger than 4 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseInventory("t.yaml", []byte(c.in))
			ps := problems(t, err)
			if ps[0].Field != "inventory" || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %+v", ps)
			}
		})
	}
	var many strings.Builder
	many.WriteString("schema: provost.inventory/1\nmachines:\n")
	for i := range MaxMachines + 1 {
		fmt.Fprintf(&many, "- {name: m%d, address: 10.0.%d.%d, cores: 4}\n", i, i/250, i%250)
	}
	if _, err := ParseInventory("t.yaml", []byte(many.String())); err == nil || !strings.Contains(err.Error(), "4097 machines") {
		t.Errorf("got %v", err)
	}
	// A broken file of many lines has one cause: not all of its lines are told.
	wrong := strings.ReplaceAll(many.String()[:40000], "cores", "kores")
	if _, err := ParseInventory("t.yaml", []byte(wrong[:strings.LastIndex(wrong, "\n")+1])); len(problems(t, err)) != maxProblems {
		t.Errorf("%d problems", len(problems(t, err)))
	}
}

func TestParseMachine(t *testing.T) {
	m, err := ParseMachine("name=m01,address=10.0.0.1,cores=4,ram=8GiB,disk=1.5TiB,wsl,workers=3,notes=rack 3")
	three := 3
	if want := (Machine{Name: "m01", Address: "10.0.0.1", Cores: 4, RAM: 8 * GiB, Disk: 1536 * GiB, WSL: true, Workers: &three, Notes: "rack 3"}); err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%+v, %v", m, err)
	}
	for in, says := range map[string]string{
		"": "empty part", "name=m01,,": "empty part", "m01": "want key=value", "name=a,name=b": "given twice", "size=3": "no such key",
		"cores=": "no value", "ram=8": "has no unit", "notes=\x1b[2J": "control characters", strings.Repeat("a", 5000): "longer than",
	} {
		if _, err := ParseMachine(in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestBytes(t *testing.T) {
	for in, want := range map[string]Bytes{"128GiB": 128 * GiB, "128 G": 128 * GiB, "500GB": 500e9, "1.5TiB": 1536 * GiB, "512MiB": GiB / 2, "0B": 0} {
		got, err := ParseBytes(in)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
		text, err := got.MarshalText()
		var back Bytes
		if err != nil || back.UnmarshalText(text) != nil || back != got {
			t.Errorf("%q is written as %s, which reads as %d", in, text, back)
		}
	}
	for b, want := range map[Bytes]string{64 * GiB: "64 GiB", 1024 * GiB: "1 TiB", 2e9: "1.9 GiB", 129 * GiB: "129 GiB", 0: "0 B", 1536 * GiB: "1536 GiB"} {
		if got := b.String(); got != want {
			t.Errorf("%d: %q, want %q", b, got, want)
		}
	}
}

func FuzzInventory(f *testing.F) {
	f.Add([]byte(goodInventory))
	f.Add([]byte("schema: provost.inventory/1\nmachines: [{local: true}]\n"))
	f.Add([]byte("a: &a [*a,*a]\n"))
	f.Add([]byte(`{"schema":"provost.inventory/1","machines":[{"name":"m01","ram":"1e400GiB"}]}`))
	f.Add([]byte("schema: provost.inventory/1\nmachines:\n- {name: m01, address: ::1, cores: 99999999999999999999, ram: .GiB}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ms, err := ParseInventory("f", data)
		if err != nil {
			problems(t, err)
			return
		}
		l, err := Plan(nil, Params{Name: "fuzz", Profile: remote(HolesBorne), Machines: ms, MaxWorkers: 4096})
		if err != nil {
			problems(t, err)
			return
		}
		owners(t, &l)
		s := l.State(nil, nil)
		raw, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ReadState(raw); err != nil || !reflect.DeepEqual(back.Machines, s.Machines) {
			t.Fatalf("a plan that was made is not read again: %v\n%s", err, raw)
		}
	})
}

func FuzzMachine(f *testing.F) {
	f.Add("name=m01,address=10.0.0.1,cores=4,ram=8GiB,disk=1.5TiB,wsl,workers=3")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMachine(s)
		if err == nil && (m.RAM > maxBytes || m.Cores < 0 || m.Cores > 4096) {
			t.Errorf("%q: %+v", s, m)
		}
	})
}

func FuzzState(f *testing.F) {
	samples, _ := filepath.Glob("testdata/plan-v*.yaml")
	for _, name := range samples {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadState(data)
		if err != nil {
			return
		}
		// What was read as a plan can be gone on from, or is refused in words.
		p := Params{Name: s.Name, Profile: remote(HolesBorne), Machines: s.Machines, MaxWorkers: MaxWorkers}
		if s.Profile == "native" {
			p.Profile = Native()
		}
		l, err := Plan(&s, p)
		if err != nil {
			problems(t, err)
			return
		}
		owners(t, &l)
	})
}
