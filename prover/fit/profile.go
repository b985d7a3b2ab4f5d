package fit

import (
	"fmt"

	"app.provost/prover"
)

// Scope says over what workers are numbered.
type Scope string

const (
	// ByCluster: one numbering over all machines; the control process is 0 and has no number of its own here.
	ByCluster Scope = "cluster"
	// ByMachine: each machine numbers its own workers from 1.
	ByMachine Scope = "machine"
)

// Holes says what a number without a machine costs.
type Holes string

const (
	HolesFatal  Holes = "fatal"  // the control process ends: a plan with holes is refused
	HolesCostly Holes = "costly" // all lose work while a listed worker is missing: warned of
	HolesBorne  Holes = "borne"  // nobody else minds
)

// Exposure says who must reach the ports of workers.
type Exposure string

const (
	FromControl Exposure = "control" // the control process alone; never the public
	FromAny     Exposure = "any"     // the internet
)

// PortRule is one port that every worker listens on: that of offset i on a machine is Base + i.
type PortRule struct {
	Use   string // "work", "p2p", "stream"
	Proto string // "tcp" or "udp"
	Base  int
}

// At is the port of an offset.
func (r PortRule) At(offset int) int { return r.Base + offset }

// Keep is how many processors stay free on the control machine when it has at most Threads; 0: any number.
type Keep struct{ Threads, Keep int }

// Size is a step in what a number of workers costs.
type Size struct {
	Workers int
	Cost    string // what up to this many cost, in words
}

// KeyNeed says what a machine has to be given before it can start. Provost copies none of these.
type KeyNeed struct {
	Name string
	// Control and Workers say in words whether the machine of the control process, or one with workers
	// only, needs it: "needed", "never: …", "made by itself".
	Control, Workers string
	Secret           bool
	Why              string
}

// ListenPort is a port of the control process itself.
type ListenPort struct {
	Name   string
	Proto  string
	Port   int
	Public bool // to be opened to the internet
}

// Profile is what is true of one kind of cluster. It is data: nothing here runs.
type Profile struct {
	ID    string // "native", "quil-2.0"
	Title string
	// Warnings and Notes are said of every plan with this profile.
	Warnings []string
	Notes    []string
	Numbers  Scope
	// Remote: workers on other machines belong to one control process. Without it every machine runs for itself.
	Remote bool
	// NeedsIP: addresses are written into configuration as IP addresses; IPv4 if OnlyIPv4.
	NeedsIP, OnlyIPv4 bool
	// ByThreads: a worker for each logical processor; else for each physical core.
	ByThreads bool
	// KeepFree processors, on the control machine or with KeepEverywhere on each.
	KeepFree       []Keep
	KeepEverywhere bool
	RAMPerWorker   Bytes
	RAMControl     Bytes // left to the control process
	RAMSystem      Bytes // left to the system of each machine
	DiskPerWorker  Bytes // 0: none
	Ports          []PortRule
	Exposure       Exposure
	ControlPorts   []ListenPort
	// Unsafe says in words why a stranger must not reach the ports; "" when they tell strangers apart.
	Unsafe string
	// MaxWorkers is the most that are planned without being asked for by number; 0: MaxWorkers of the package.
	MaxWorkers int
	// MaxEntries bounds machines times listed workers: every machine gets the whole list. 0: no bound.
	MaxEntries    int
	MaxPerMachine int // workers of one machine without a port in the kernel's own range; 0: not limited
	MinWorkers    int
	MinThreads    int // of each machine
	Sizes         []Size
	Holes         Holes
	// Equal: the slowest worker sets the pace of all.
	Equal bool
	// SlowMS is from which round trip a machine is called slow; 0: never.
	SlowMS float64
	Keys   []KeyNeed
}

// keep is how many processors stay free on a machine with n.
func (p Profile) keep(n int) int {
	for _, k := range p.KeepFree {
		if k.Threads == 0 || n <= k.Threads {
			return k.Keep
		}
	}
	return 0
}

// Native is Provost's own profile, as far as it goes today: every machine runs an engine of its own with
// its own workers.
func Native() Profile {
	return Profile{
		ID: "native", Title: "Provost engines", Numbers: ByMachine, ByThreads: true, KeepEverywhere: true,
		Notes: []string{
			"each machine runs an engine of its own with its own queue: hand jobs in at the engine that shall make them. Workers of several machines cannot join one control process yet",
			"workers report over a socket on their own machine: no port is opened and no firewall rule is needed",
		},
		KeepFree: []Keep{{0, 1}}, RAMPerWorker: 2 * GiB, RAMSystem: GiB, Holes: HolesBorne, MaxPerMachine: maxNativeWorkers}
}

// maxNativeWorkers is what "provost up --workers" takes.
const maxNativeWorkers = 4096

// Check tells whether a profile is whole; profiles that are made from an adapter's data are checked by a test.
func (p Profile) Check() error {
	if p.ID == "" || p.Title == "" || p.Numbers == "" || p.Holes == "" {
		return fmt.Errorf("profile %q lacks a name, a title, a numbering or a rule for holes", p.ID)
	}
	if p.Remote && (len(p.Ports) == 0 || p.Exposure == "") {
		return fmt.Errorf("profile %q: workers on other machines need ports and somebody who may reach them", p.ID)
	}
	for _, r := range p.Ports {
		if r.Base < 1 || r.Base > 65535 || r.Use == "" || r.Proto != "tcp" && r.Proto != "udp" {
			return fmt.Errorf("profile %q: port rule %+v", p.ID, r)
		}
	}
	return nil
}

// Core numbers, from 1, are prover's.
type Core = prover.Core
