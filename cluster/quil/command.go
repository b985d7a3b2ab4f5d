package quil

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Commands gives the processes of a machine: core 0 first where it is the control machine, then its workers by core.
// Each runs until it is stopped. Workers are not tied to a parent process: whoever supervises them ends them.
func (e Era) Commands(p Plan, machine string) ([]Command, error) {
	if err := e.refuse(p); err != nil {
		return nil, err
	}
	m, ok := p.Machine(machine)
	if !ok {
		return nil, fmt.Errorf("commands of a machine: no machine is called %q", cut(machine))
	}
	var out []Command
	if m.Name == p.Control {
		argv, known := e.Call.Control.Known()
		if !known {
			return nil, fmt.Errorf("commands of %s: how era %s calls the control process is not known", m.Name, e.ID)
		}
		out = append(out, Command{m.Name, 0, fill(m, argv, 0)})
	}
	argv, known := e.Call.Worker.Known()
	if !known {
		return nil, fmt.Errorf("commands of %s: how era %s calls a worker is not known", m.Name, e.ID)
	}
	workers := slices.SortedFunc(slices.Values(m.Workers), func(a, b Worker) int { return cmp.Compare(a.Core, b.Core) })
	for _, w := range workers {
		out = append(out, Command{m.Name, w.Core, fill(m, argv, w.Core)})
	}
	return out, nil
}

// fill puts values in the place of placeholders that are whole arguments: a path with braces in it stays as it is.
func fill(m Machine, argv []string, c Core) []string {
	out := []string{m.Binary}
	for _, a := range argv {
		switch a {
		case "{config}":
			a = m.ConfigDir
		case "{core}":
			a = strconv.Itoa(int(c))
		}
		out = append(out, a)
	}
	return out
}

// KeyFiles tells what a machine's config directory needs, and what it must not have, in the order of the era's list.
func (e Era) KeyFiles(r Role) []KeyFile {
	out := make([]KeyFile, 0, len(e.Files))
	for _, f := range e.Files {
		need := f.Workers
		if r == RoleControl {
			need = f.Control
		}
		out = append(out, KeyFile{f.Name, need, f.Secret, f.Why})
	}
	return out
}

// KeyFile is a File seen from one machine.
type KeyFile struct {
	Name   string `json:"name"`
	Need   Need   `json:"need"`
	Secret bool   `json:"secret"` // mode 0600, and sent over authenticated ways only
	Why    string `json:"why"`
}

// Firewall gives what a machine must let in, the control process's own ports first. What is not named stays shut.
func (e Era) Firewall(p Plan, machine string) ([]FirewallRule, error) {
	if err := e.refuse(p); err != nil {
		return nil, err
	}
	m, ok := p.Machine(machine)
	if !ok {
		return nil, fmt.Errorf("firewall of a machine: no machine is called %q", cut(machine))
	}
	control, _ := p.Machine(p.Control)
	var out []FirewallRule
	if m.Name == p.Control {
		for _, l := range e.listen(p) {
			if open, _ := l.Open.Known(); !open {
				continue
			}
			for _, proto := range l.Proto {
				out = append(out, FirewallRule{Machine: m.Name, Proto: proto, First: l.Port, Last: l.Port, Why: "control process, " + l.Name + " (" + l.Key + ")"})
			}
		}
	}
	exposure, known := e.Address.Exposure.Known()
	if !known {
		return nil, fmt.Errorf("firewall of %s: who must reach the workers of era %s is not known", m.Name, e.ID)
	}
	var from netip.Addr
	if exposure == FromControl {
		if m.Name == p.Control {
			return out, nil // its own workers are reached without the network
		}
		from = control.Address
	}
	for _, l := range e.Address.Lists {
		if l.Use.announces() {
			continue
		}
		var ports []Port
		for _, w := range m.Workers {
			port, _ := e.port(m, w, l)
			ports = append(ports, port)
		}
		slices.Sort(ports)
		for i := 0; i < len(ports); {
			j := i
			for j+1 < len(ports) && ports[j+1] == ports[j]+1 {
				j++
			}
			out = append(out, FirewallRule{m.Name, l.transport(p).proto(), ports[i], ports[j], from, "workers, " + strings.TrimPrefix(l.Key, "engine.")})
			i = j + 1
		}
	}
	return out, nil
}
