package quil

import (
	"fmt"
	"net/netip"
)

// Core is the number after --core: 0 is the control process, workers count from 1. Entry i of an address list belongs to
// core i+1.
type Core int

// Port is a TCP or UDP port.
type Port uint16

// Transport of an address.
type Transport string

const (
	TCP  Transport = "tcp"
	QUIC Transport = "quic" // udp, quic-v1
)

// Role says what a machine is in a cluster.
type Role string

const (
	RoleControl Role = "control" // runs core 0, and perhaps workers too
	RoleWorkers Role = "workers" // runs workers only
)

// Plan is a cluster as decided: which machine runs which cores.
type Plan struct {
	// Control is the name of the machine that runs core 0.
	Control string `json:"control"`
	// Machines in the order of the inventory, that of Control among them.
	Machines []Machine `json:"machines"`
	// Parked are cores below the highest one that no machine runs at present. Their numbers stay theirs.
	Parked []Core `json:"parked,omitempty"`
	// Transport of p2p addresses where an era has a choice; "" takes the era's first.
	Transport Transport `json:"transport,omitempty"`
	// Listen are the control process's own ports, as Listening gives them; nil: the era's.
	Listen []Listen `json:"listen,omitempty"`
	// Oversize allows more workers than an era's last good size.
	Oversize bool `json:"oversize,omitempty"`
	// WorkerMemoryBytes is written to engine.dataWorkerMemoryLimit where the era has that key; nil leaves it alone.
	WorkerMemoryBytes *int64 `json:"worker_memory_bytes,omitempty"`
}

// Machine is one machine of a plan.
type Machine struct {
	Name string `json:"name"`
	// Address is where the control process reaches the machine, and what its workers listen on.
	Address netip.Addr `json:"address"`
	// Announce is the address that the internet sees, where it is another one; the zero value: none. Era 2.1 only.
	Announce netip.Addr `json:"announce,omitzero"`
	Workers  []Worker   `json:"workers,omitempty"`
	// Base replaces an era's first port of a use; 0 or missing: the era's.
	Base map[ListUse]Port `json:"base,omitempty"`
	// Binary and ConfigDir are absolute paths on that machine.
	Binary    string `json:"binary"`
	ConfigDir string `json:"config_dir"`
}

// Worker is one data worker. Both numbers are kept when other workers come and go.
type Worker struct {
	Core Core `json:"core"` // over the whole cluster, from 1
	Slot int  `json:"slot"` // on its machine, from 0: its port is the first port plus Slot
}

// Problem is something in a plan that an era cannot do (SevError) or that costs something there. Field is a path as
// "machines[1].address".
type Problem struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Field    string   `json:"field"`
	Text     string   `json:"text"`
	Remedy   string   `json:"remedy"`
}

// ProblemsError refuses a plan for what stands in Problems, of which at least one is a SevError.
type ProblemsError struct{ Problems []Problem }

func (e *ProblemsError) Error() string {
	n := 0
	first := Problem{}
	for _, p := range e.Problems {
		if p.Severity == SevError {
			if n++; n == 1 {
				first = p
			}
		}
	}
	more := ""
	if n > 1 {
		more = fmt.Sprintf(" (and %d more)", n-1)
	}
	return fmt.Sprintf("plan of workers: %s: %s: %s%s", first.Field, first.Text, first.Remedy, more)
}

// Command is one process of a cluster.
type Command struct {
	Machine string   `json:"machine"`
	Core    Core     `json:"core"`
	Argv    []string `json:"argv"` // Argv[0] is the binary
}

// Addresses are the lists that every copy of config.yml shares; entry i belongs to core i+1.
type Addresses struct {
	Lists []AddressList `json:"lists"`
}

// AddressList is one of them.
type AddressList struct {
	Key     string   `json:"key"` // as "engine.dataWorkerMultiaddrs"
	Use     ListUse  `json:"use"`
	Entries []string `json:"entries"`
}

// FirewallRule opens ports First to Last of a machine.
type FirewallRule struct {
	Machine string `json:"machine"`
	Proto   string `json:"proto"` // "tcp" or "udp"
	First   Port   `json:"first"`
	Last    Port   `json:"last"`
	// From is the only address that may reach it; the zero value: everybody.
	From netip.Addr `json:"from,omitzero"`
	Why  string     `json:"why"`
}

// Change is one key of config.yml that a rewrite changes. Before and After are as in the file, secrets masked; "" when
// the key is not there.
type Change struct {
	Key    string `json:"key"`
	Before string `json:"before"`
	After  string `json:"after"`
	// Text says the change in one line of bounded length: of a list, which cores' entries change.
	Text string `json:"text"`
	Why  string `json:"why"`
}

// Severity of a finding.
type Severity string

const (
	SevError   Severity = "error"   // the cluster does not work like this, or a secret is exposed
	SevWarning Severity = "warning" // it works, and costs something
	SevNote    Severity = "note"
)

// Finding is a mistake in a config.yml against a plan.
type Finding struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Key      string   `json:"key,omitempty"` // of config.yml
	Line     int      `json:"line,omitempty"`
	Text     string   `json:"text"`
	Remedy   string   `json:"remedy"`
}
