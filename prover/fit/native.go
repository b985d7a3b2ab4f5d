package fit

import (
	"fmt"
	"path"
	"time"
)

// NativePaths say where Provost lies on the machines.
type NativePaths struct {
	Binary string // "/usr/local/bin/provost"
	User   string // "provost"
}

// NativeAdapter runs an engine of its own on each machine, with the workers of the plan.
func NativeAdapter(name string, at NativePaths) Adapter {
	// A directory of its own: systemd removes it when the unit stops, and other engines have theirs.
	socket := "/run/provost-" + name + "/" + name + ".sock"
	return Adapter{
		Machine: func(r *Row, unit bool) Program {
			p := Program{User: at.User, Args: append([]string{at.Binary}, NativeArgs(name, r.Workers)...)}
			if unit {
				p.Args = append(p.Args, "--runtime-dir="+path.Dir(socket), "--socket="+socket)
				p.Notify, p.StopTime, p.OpenFiles = true, 30*time.Second, 65536
				// As "provost service print" has it.
				p.Service = []string{
					"# The engine reports at least with every status line (--status-every, 1m).",
					"WatchdogSec=180",
					"StateDirectory=provost/" + name,
					"StateDirectoryMode=0700",
					"RuntimeDirectory=" + path.Base(path.Dir(socket)),
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
			"Look at a machine's engine: ssh -t HOST sudo -u " + at.User + " provost attach --socket " + socket,
			"Hand in work on that machine: sudo -u " + at.User + " provost submit job --socket " + socket + " --zkey FILE --witness FILE",
			"Memory of each worker can be capped in the configuration, workers.memory; see: provost config default",
		},
		Kept: map[string]string{"binary": at.Binary, "user": at.User},
	}
}

// NativeArgs are the words after "provost" that run a machine's engine.
func NativeArgs(name string, workers int) []string {
	return []string{"up", "--no-tui", "--log-format=json", "--name=" + name, "--workers=" + fmt.Sprint(workers), "--state-dir=/var/lib/provost/" + name}
}
