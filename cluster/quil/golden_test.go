package quil

import (
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files anew")

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(got) {
		t.Errorf("%s differs (run with -update to accept):\n%s", path, got)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func era(t testing.TB, id EraID) Era {
	t.Helper()
	e, err := EraByID(id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// twoMachines is the guide's example: A with four threads keeps one for the control process, B gives all four.
func twoMachines(e Era) Plan {
	machine := func(name, addr string, first Core, n int) Machine {
		m := Machine{Name: name, Address: netip.MustParseAddr(addr), Binary: "/opt/quil/node-" + string(e.ID) + "-linux-amd64", ConfigDir: "/var/lib/quil/.config"}
		for i := range n {
			m.Workers = append(m.Workers, Worker{Core: first + Core(i), Slot: i})
		}
		return m
	}
	p := Plan{Control: "a", Machines: []Machine{machine("a", "192.168.0.200", 1, 3), machine("b", "192.168.0.201", 4, 4)}}
	if e.announceable() {
		p.Machines[0].Announce = netip.MustParseAddr("203.0.113.7")
		p.Machines[1].Announce = netip.MustParseAddr("203.0.113.8")
	}
	return p
}

// picture writes all that the adapter says of a plan.
func picture(w io.Writer, e Era, p Plan, existing []byte) error {
	for _, q := range e.Problems(p) {
		fmt.Fprintf(w, "%s %s (%s): %s. %s.\n", q.Severity, q.Code, q.Field, q.Text, q.Remedy)
	}
	for _, m := range p.Machines {
		fmt.Fprintf(w, "\n== %s (%s)\n", m.Name, p.Role(m.Name))
		cmds, err := e.Commands(p, m.Name)
		if err != nil {
			return err
		}
		for _, c := range cmds {
			fmt.Fprintf(w, "run core %d: %s\n", c.Core, strings.Join(c.Argv, " "))
		}
		rules, err := e.Firewall(p, m.Name)
		if err != nil {
			return err
		}
		for _, r := range rules {
			from := "everybody"
			if r.From.IsValid() {
				from = r.From.String()
			}
			fmt.Fprintf(w, "open %s %d-%d from %s: %s\n", r.Proto, r.First, r.Last, from, r.Why)
		}
		if s := e.ReservedPorts(p, m.Name); s != "" {
			fmt.Fprintf(w, "reserve %s\n", s)
		}
		for _, f := range e.KeyFiles(p.Role(m.Name)) {
			fmt.Fprintf(w, "file %s: %s (%s)\n", f.Name, f.Need, f.Why)
		}
		r, err := e.Config(existing, p, m.Name)
		if err != nil {
			return err
		}
		for _, c := range r.Changes {
			fmt.Fprintf(w, "change %s (%s)\n  before %s\n  after  %s\n", c.Text, c.Why, c.Before, c.After)
		}
		for _, f := range r.Findings {
			fmt.Fprintf(w, "found %s %s in line %d, %s: %s: %s\n", f.Severity, f.Code, f.Line, f.Key, f.Text, f.Remedy)
		}
		fmt.Fprintf(w, "fragment %v, reformatted %v\n-- config.yml\n%s", r.Fragment, r.Reformatted, r.Config.Export())
	}
	return nil
}

func TestGoldenEras(t *testing.T) {
	for _, e := range Eras() {
		t.Run(string(e.ID), func(t *testing.T) {
			dir := filepath.Join("testdata", string(e.ID))
			var b strings.Builder
			if err := picture(&b, e, twoMachines(e), read(t, filepath.Join(dir, "config.yml"))); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(dir, "plan.golden"), []byte(b.String()))
			b.Reset()
			if err := picture(&b, e, twoMachines(e), nil); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(dir, "fragment.golden"), []byte(b.String()))
		})
	}
}
