package engine

import "strconv"

// KindCreateWorkers plans a worker cluster over machines, or changes such a plan.
const KindCreateWorkers ActionKind = "create_workers"

// CreateWorkers lays workers out over machines and writes what each machine is given, into a directory.
// Nothing is installed and nothing is sent. Where the directory holds a plan already, it is changed:
// workers that stay keep their numbers and ports.
type CreateWorkers struct {
	Dir  string `json:"dir"`            // absolute
	Name string `json:"name,omitempty"` // of the cluster; "": that of the plan in Dir, else "workers"
	// Profile is "native" or "quil-" with an era or a version; "": that of the plan in Dir.
	Profile string `json:"profile,omitempty"`
	// Inventory is the absolute path of a file; Machines are further ones as name=…,address=…; Local adds this machine.
	// Without any of the three the machines are those of the plan in Dir.
	Inventory string   `json:"inventory,omitempty"`
	Machines  []string `json:"machines,omitempty"`
	Local     bool     `json:"local,omitempty"`
	// Add and Remove change these: whole machines to add, names to take away.
	Add    []string `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
	// Control is the machine of the control process; "": that of the plan, else the first.
	Control string `json:"control,omitempty"`
	// KeepFree processors for the control process; nil: the profile's number.
	KeepFree *int `json:"keep_free,omitempty"`
	// MaxWorkers caps the plan, and says that more than the profile's limit is meant; 0: the profile's limit.
	MaxWorkers int `json:"max_workers,omitempty"`
	// FillHoles gives numbers of removed machines to new workers, Renumber to the last ones.
	FillHoles bool `json:"fill_holes,omitempty"`
	Renumber  bool `json:"renumber,omitempty"`
	// NoProbe asks no other machine how far away it is.
	NoProbe bool `json:"no_probe,omitempty"`
	// Binary, ConfigDir and User are how things are called on the machines; "": the profile's habit.
	Binary    string `json:"binary,omitempty"`
	ConfigDir string `json:"config_dir,omitempty"`
	User      string `json:"user,omitempty"`
	// NodeConfig is the absolute path of the control process's own config.yml (Quilibrium). It holds secrets,
	// and what is written from it does too. "": only the part with the address lists is written.
	NodeConfig string `json:"node_config,omitempty"`
}

// Kind is create_workers.
func (CreateWorkers) Kind() ActionKind { return KindCreateWorkers }

// Doing is "create workers".
func (CreateWorkers) Doing() string { return "create workers" }

// CommandLine is the command that asks for the same.
func (a CreateWorkers) CommandLine() []string {
	w := words{"create", "workers"}.flag("dir", a.Dir).flag("cluster-name", a.Name).flag("profile", a.Profile).flag("inventory", a.Inventory)
	for _, m := range a.Machines {
		w = w.flag("machine", m)
	}
	w = w.bool("local", a.Local)
	for _, m := range a.Add {
		w = w.flag("add-machine", m)
	}
	for _, m := range a.Remove {
		w = w.flag("remove-machine", m)
	}
	w = w.flag("control", a.Control)
	if a.KeepFree != nil {
		w = w.flag("keep-free", strconv.Itoa(*a.KeepFree))
	}
	return w.num("max-workers", a.MaxWorkers).bool("fill-holes", a.FillHoles).bool("renumber", a.Renumber).bool("no-probe", a.NoProbe).
		flag("binary", a.Binary).flag("config-dir", a.ConfigDir).flag("user", a.User).flag("node-config", a.NodeConfig)
}
