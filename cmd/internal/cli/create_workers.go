package cli

import (
	"app.provost/engine"
	"app.provost/engine/flow"

	"github.com/spf13/cobra"
)

func (a *app) createWorkersCmd() *cobra.Command {
	var act engine.CreateWorkers
	var keepFree int
	c := &cobra.Command{
		Use: "workers", Short: "plan workers over machines, or change such a plan",
		Long: `How many workers fit on each machine, which numbers and ports they get, and what each machine is
given to run them: start commands, systemd units, firewall rules, the adapter's configuration, and
which keys it needs. All of it is written to a directory; nothing is installed, sent or started,
and no engine is needed. Where the directory holds a plan, it is changed: workers that stay keep
their numbers and ports, the difference is shown first, and the files of before are kept. Machines
are changed one by one with --add-machine and --remove-machine, or all by a changed inventory.

An inventory is YAML or JSON; an unknown key is an error:

  schema: provost.inventory/1
  machines:
  - {name: m01, address: 192.168.0.201, cores: 32, threads: 64, ram: 128GiB, disk: 1TiB}
  - {name: m02, address: 192.168.0.202, cores: 32, threads: 64, ram: 64GiB, workers: 24}

Further keys: ip (for firewall rules when address is a name), announce (the public address),
os, wsl, local (this machine: what is not told is measured), notes.
Profiles: native (an engine of its own on each machine) and, by the node's version,
quil-1.4.21, quil-2.0.6, quil-2.1.0.22, …`,
		Example: `  provost create workers --dir ./farm --profile native --local
  provost create workers --dir ./farm --profile quil-2.1.0.22 --inventory machines.yaml
  provost create workers --dir ./farm --profile quil-1.4.21 --max-workers 128 \
    --machine name=m01,address=10.0.0.1,threads=64,ram=256GiB,disk=1TiB \
    --machine name=m02,address=10.0.0.2,threads=64,ram=256GiB,disk=1TiB
  provost plan create workers --dir ./farm --remove-machine m02
  provost create workers --dir ./farm --add-machine name=m03,address=10.0.0.3,threads=64,ram=256GiB,disk=1TiB`,
		Args: cobra.NoArgs,
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringVar(&act.Dir, "dir", "", "directory to write to, or that of the plan to change")
	fl.StringVar(&act.Profile, "profile", "", "native, or quil- with the node's version (needed for a new plan)")
	fl.StringVar(&act.Inventory, "inventory", "", "file that lists the machines, YAML or JSON")
	fl.StringArrayVar(&act.Machines, "machine", nil, "one machine: name=…,address=…,cores=…,threads=…,ram=…,disk=…; may be repeated")
	fl.BoolVar(&act.Local, "local", false, "this machine, measured")
	fl.StringArrayVar(&act.Add, "add-machine", nil, "a machine to add to the plan, as in --machine; may be repeated")
	fl.StringArrayVar(&act.Remove, "remove-machine", nil, "name of a machine to take away; may be repeated")
	fl.StringVar(&act.Control, "control", "", "machine of the control process (default: the first)")
	fl.IntVar(&keepFree, "keep-free", 0, "processors kept free for the control process (default: by the profile)")
	fl.IntVar(&act.MaxWorkers, "max-workers", 0, "plan at most so many; also to plan more than the profile's limit")
	fl.BoolVar(&act.FillHoles, "fill-holes", false, "give numbers of removed machines to workers that come new")
	fl.BoolVar(&act.Renumber, "renumber", false, "give numbers of removed machines to the last workers: those change their number")
	fl.StringVar(&act.Name, "cluster-name", "", "name of the cluster, in units and rules (default: workers)")
	fl.StringVar(&act.Binary, "binary", "", "path of the binary on the machines (default: by the profile)")
	fl.StringVar(&act.User, "user", "", "user that it runs as on the machines (default: by the profile)")
	fl.StringVar(&act.ConfigDir, "config-dir", "", "config directory of the node on the machines (quil; default: /var/lib/quil/.config)")
	fl.StringVar(&act.NodeConfig, "node-config", "", "config.yml of the control process, to render those of all machines from; it holds secrets (quil)")
	fl.BoolVar(&act.NoProbe, "no-probe", false, "ask no machine how far away it is")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		act := act
		if cmd.Flags().Changed("keep-free") {
			act.KeepFree = &keepFree
		}
		if cmd.Flags().Changed("max-workers") && act.MaxWorkers == 0 {
			return usageField("max-workers", "--max-workers=0: nothing would be planned", "leave it out for no cap of your own")
		}
		if act.Dir == "" {
			return usageField("dir", "missing: --dir", "see provost create workers --help")
		}
		for _, p := range []*string{&act.Dir, &act.Inventory, &act.NodeConfig} {
			var err error
			if *p, err = absolute(*p); err != nil {
				return err
			}
		}
		return a.oneShot(cmd, act, nil)
	}
	a.guided(c, flow.CreateWorkers(), func(cmd *cobra.Command, act engine.Action) error { return a.oneShot(cmd, act, nil) })
	return c
}
