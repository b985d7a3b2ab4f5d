package flow

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"app.provost/engine"
)

// CreateWorkersID names the flow of "provost create workers".
const CreateWorkersID ID = "create workers"

// CreateWorkers is the flow that plans workers over machines, or changes such a plan.
func CreateWorkers() Flow {
	return Flow{
		ID: CreateWorkersID, Title: "Plan workers over machines",
		Needs: "the machines' names, addresses, processors, memory and disks; this machine is measured",
		Makes: "a plan with numbers and ports, and for each machine start commands, units, firewall rules and configuration; nothing is installed or sent",
		Takes: "about 5 minutes; nothing is written before you agree at the end",
		Steps: []Step{workersPlan(), workersMachines(), workersChanges(), workersLayout(), workersThere()},
		Consent: func(a Answers) string {
			switch {
			case a["cluster-name"] != "":
				return "create " + a["cluster-name"]
			case a["dir"] != "":
				return "create " + filepath.Base(a["dir"])
			}
			return "create workers"
		},
		Build: buildWorkers,
	}
}

// listed tells whether machines are given anew; without any they are those of the plan.
func listed(a Answers) bool {
	return a["inventory"] != "" || a["machine"] != "" || a.Yes("local")
}

func workersPlan() Step {
	return Step{ID: "plan", Title: "plan and profile", Intro: "Where the plan is kept, and for which program it is.",
		Fields: []Field{
			{
				Key: "dir", Title: "Directory", Kind: NewDir, Example: "./farm",
				Help: "A directory to write to. If it holds a plan already, that one is changed: workers that stay keep their numbers and ports.",
			},
			{
				Key: "profile", Title: "Profile", Kind: Text, Optional: true, Example: "quil-2.1.0.22",
				Help: "native, or quil- with the node's version. It sets ports, memory, limits and keys. Leave it empty to keep that of the plan.",
				Check: func(v string, _ Answers) error {
					if version, ok := strings.CutPrefix(v, "quil-"); v != "native" && (!ok || version == "") {
						return fmt.Errorf("%s: want native, or quil- with the node's version, as in quil-2.1.0.22", cut(v))
					}
					return nil
				},
			},
			{
				Key: "cluster-name", Title: "Name", Kind: Text, Optional: true, Example: "farm",
				Help: "The name in units and firewall rules. Leave it empty to keep that of the plan, or for workers.",
				Check: func(v string, _ Answers) error {
					if len(v) > 32 || strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.Trim(v, "-") != v {
						return fmt.Errorf("%s: want a-z, 0-9 and - within, at most 32 characters, as in farm", cut(v))
					}
					return nil
				},
			},
		}}
}

// machineKeys are what a machine can be told with.
var machineKeys = []string{"name", "address", "ip", "announce", "cores", "threads", "ram", "disk", "os", "wsl", "local", "workers", "notes"}

const exampleMachine = "name=m01,address=192.168.0.201,threads=64,ram=128GiB,disk=1TiB"

func machine(v string, _ Answers) error {
	seen := map[string]bool{}
	for part := range strings.SplitSeq(v, ",") {
		key, value, has := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case !slices.Contains(machineKeys, key):
			return fmt.Errorf("%s is none of %s, as in %s", cut(key), strings.Join(machineKeys, ", "), exampleMachine)
		case seen[key]:
			return fmt.Errorf("%s is given twice", key)
		case !has && key != "wsl" && key != "local", has && value == "":
			return fmt.Errorf("%s has no value, as in %s", key, exampleMachine)
		}
		seen[key] = true
	}
	if !seen["name"] && !seen["local"] {
		return errors.New("the name is missing, as in " + exampleMachine)
	}
	return nil
}

func workersMachines() Step {
	return Step{ID: "machines", Title: "machines", Intro: "Which machines there are. Their order decides the numbers of their workers; machines that come later are appended.",
		Fields: []Field{
			{
				Key: "inventory", Title: "Inventory", Kind: File, Optional: true, Example: "./machines.yaml",
				Help: "A file that lists the machines, YAML or JSON. Leave it empty to type them, or to keep those of the plan.",
			},
			{
				Key: "local", Title: "This machine", Kind: Bool,
				Help:    "Yes: this machine is one of them; it is measured.",
				Default: func(Facts, Answers) string { return "false" },
			},
			{
				Key: "machine", Title: "Machines", Kind: Rows, Optional: true, Example: exampleMachine, Check: machine,
				Help: "Further machines, one to a line, with name, address, threads or cores, ram and disk.",
			},
		}}
}

func workersChanges() Step {
	const idle = "all machines are given anew: change that list"
	kept := func(a Answers) bool { return !listed(a) }
	return Step{ID: "changes", Title: "changes to the plan", Intro: "Which machines come to the plan and which leave it. The others keep their numbers; the difference is shown before it counts.",
		When: kept,
		Fields: []Field{
			{
				Key: "add-machine", Title: "Machines to add", Kind: Rows, Optional: true, Example: exampleMachine, Check: machine, Idle: idle,
				Help: "Machines that come to the plan, one to a line. Their workers get new numbers behind the others.",
			},
			{
				Key: "remove-machine", Title: "Machines to remove", Kind: List, Optional: true, Example: "m02", Idle: idle,
				Help: "Names of machines that leave the plan, by commas.",
			},
		}}
}

func workersLayout() Step {
	const idle = "nothing of a plan is kept"
	kept := func(a Answers) bool { return !listed(a) }
	return Step{ID: "layout", Title: "layout", Intro: "How many workers each machine gets follows from its processors, memory and disk; the checks show it machine by machine.",
		Fields: []Field{
			{
				Key: "control", Title: "Control process on", Kind: Text, Optional: true, Example: "m01",
				Help: "The machine that hands out the work. Leave it empty for the first, or for that of the plan.",
			},
			{
				Key: "keep-free", Title: "Keep free", Kind: Number, Optional: true, Example: "2", Check: within(0, 4096, "2"),
				Help: "Processors of that machine that no worker takes. Leave it empty for the profile's number.",
			},
			{
				Key: "max-workers", Title: "At most", Kind: Number, Optional: true, Example: "1024", Check: within(1, 1<<20, "1024"),
				Help: "Plan no more workers than this; it also says that more than the profile's limit are meant. Leave it empty for the profile's limit.",
			},
			{
				Key: "fill-holes", Title: "Fill holes", Kind: Bool, When: kept, Idle: idle,
				Help:    "Yes: workers that come new take the numbers of machines that left.",
				Default: func(Facts, Answers) string { return "false" },
			},
			{
				Key: "renumber", Title: "Renumber", Kind: Bool, When: kept, Idle: idle,
				Help:    "Yes: the last workers take the numbers of machines that left. They change their number, and what hangs on it.",
				Default: func(Facts, Answers) string { return "false" },
			},
		}}
}

func workersThere() Step {
	quil := func(a Answers) bool { return a["profile"] == "" || strings.HasPrefix(a["profile"], "quil-") }
	const idle = "the profile is native"
	return Step{ID: "there", Title: "on the machines", Intro: "How things are called where the workers run. The profile's habits are right for most.",
		Fields: []Field{
			{
				Key: "binary", Title: "Binary", Kind: Text, Optional: true, Example: "/usr/local/bin/node",
				Help: "The path of the program on the machines. Leave it empty for the profile's habit.",
			},
			{
				Key: "user", Title: "User", Kind: Text, Optional: true, Example: "quil",
				Help: "The user that it runs as on the machines. Leave it empty for the profile's habit.",
			},
			{
				Key: "config-dir", Title: "Config directory", Kind: Text, Optional: true, Example: "/var/lib/quil/.config", When: quil, Idle: idle,
				Help: "The node's config directory on the machines. Leave it empty for /var/lib/quil/.config.",
			},
			{
				Key: "node-config", Title: "Its config.yml", Kind: File, Optional: true, Example: "./config.yml", When: quil, Idle: idle,
				Help: "The control process's own config.yml, to render those of all machines from. It holds secrets, and what is written from it does too. Leave it empty for the address lists alone.",
			},
			{
				Key: "no-probe", Title: "Ask no machine", Kind: Bool,
				Help:    "Yes: no machine is asked how far away it is.",
				Default: func(Facts, Answers) string { return "false" },
			},
		}}
}

// rows are the entries of a Rows field.
func (a Answers) rows(k Key) []string {
	var out []string
	for row := range strings.SplitSeq(a[k], "\n") {
		if row = strings.TrimSpace(row); row != "" {
			out = append(out, row)
		}
	}
	return out
}

func buildWorkers(a Answers) (engine.Action, error) {
	act := engine.CreateWorkers{
		Dir: a["dir"], Name: a["cluster-name"], Profile: a["profile"], Inventory: a["inventory"], Machines: a.rows("machine"), Local: a.Yes("local"),
		Add: a.rows("add-machine"), Remove: a.Items("remove-machine"), Control: a["control"], MaxWorkers: a.intOf("max-workers"),
		FillHoles: a.Yes("fill-holes"), Renumber: a.Yes("renumber"), NoProbe: a.Yes("no-probe"),
		Binary: a["binary"], ConfigDir: a["config-dir"], User: a["user"], NodeConfig: a["node-config"],
	}
	if a["keep-free"] != "" {
		n := a.intOf("keep-free")
		act.KeepFree = &n
	}
	return act, nil
}
