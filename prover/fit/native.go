package fit

import (
	"fmt"
	"time"
)

// NativePaths say where Provost lies on the machines.
type NativePaths struct {
	Binary string // "/usr/local/bin/provost"
	User   string // "provost"
}

// NativeAdapter runs an engine of its own on each machine, with the workers of the plan.
func NativeAdapter(name string, at NativePaths) Adapter {
	return Adapter{
		Machine: func(r *Row, unit bool) Program {
			p := Program{User: at.User, Args: append([]string{at.Binary}, NativeArgs(name, r.Workers)...)}
			if unit {
				p.Args = append(p.Args, "--runtime-dir=/run/provost")
				p.Notify, p.StopTime, p.OpenFiles = true, 30*time.Second, 65536
				// As "provost service print" has it.
				p.Service = []string{
					"# The engine reports at least with every status line (--status-every, 1m).",
					"WatchdogSec=180",
					"StateDirectory=provost",
					"StateDirectoryMode=0700",
					"RuntimeDirectory=provost",
					"RuntimeDirectoryMode=0700",
					"# The sockets stay while the engine is restarted, so that workers find it again.",
					"RuntimeDirectoryPreserve=restart",
					"# SIGTERM goes to the engine alone; its workers prove on and are taken up again by the next one.",
					"KillMode=process",
					"SuccessExitStatus=143",
					"# 2: usage or configuration, 3: another engine holds the state. Trying again does not help.",
					"RestartPreventExitStatus=2 3",
				}
			}
			return p
		},
		Readme: []string{
			"Look at a machine's engine from afar: ssh -t HOST provost attach. Hand in work there: provost submit job.",
			"Memory of each worker can be capped in the configuration: workers.memory (provost config default).",
		},
		Kept: map[string]string{"binary": at.Binary, "user": at.User},
	}
}

// NativeArgs are the words after "provost" that run a machine's engine.
func NativeArgs(name string, workers int) []string {
	return []string{"up", "--no-tui", "--log-format=json", "--workers=" + fmt.Sprint(workers), "--state-dir=/var/lib/provost/" + name}
}
