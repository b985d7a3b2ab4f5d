// Package native is the profile of Provost's own prover. It proves on processors:
// there is no GPU back end in it, and nothing here says or does as if there were. A
// node of this profile is an engine of this binary with data workers.
//
// Promises. Everything is made in memory, nothing is read or measured.
package native

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Profile is the name under which operators choose it.
const Profile = "native"

// File is a file of a tree.
type File struct {
	Path string
	Mode fs.FileMode
	What string
	Data []byte
}

// Params of an engine of workers.
type Params struct {
	Name    string // of the engine
	Dir     string // absolute, where the files will lie
	Binary  string // absolute path of provost
	Workers int    // 0: one for each core but one
}

// Files of the directory: configuration, unit and what to do next.
func Files(p Params) []File {
	count := "auto"
	if p.Workers > 0 {
		count = strconv.Itoa(p.Workers)
	}
	config := fmt.Sprintf(`# An engine of Provost's own provers. They prove on processors: no GPU is used.
# Every key, with what it stands for: provost config default
name: %s
workers:
  count: %s
`, p.Name, count)
	unit := fmt.Sprintf(`[Unit]
Description=Provost provers %s
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
Type=notify
NotifyAccess=main
# The engine reports at least with every status line (--status-every, 1m).
WatchdogSec=180
StateDirectory=provost
StateDirectoryMode=0700
RuntimeDirectory=provost
RuntimeDirectoryMode=0700
# The sockets stay while the engine is restarted, so that workers find it again.
RuntimeDirectoryPreserve=restart
ExecStart=%s up --no-tui --log-format=json --config=%s --state-dir=/var/lib/provost/%s --runtime-dir=/run/provost
# SIGTERM goes to the engine alone; its workers prove on and are taken up again by the next one.
KillMode=process
TimeoutStopSec=30
SuccessExitStatus=143
Restart=always
RestartSec=2
# 2: usage or configuration, 3: another engine holds the state. Trying again does not help.
RestartPreventExitStatus=2 3
LimitNOFILE=65536
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
`, p.Name, unitWord(p.Binary), unitWord(p.Dir+"/"+ConfigFile), p.Name)
	readme := fmt.Sprintf("# Provers %s\n\nProvost's own prover proves on processors. **No GPU is used**: GPU provers are zkWasm's (`provost create prover --profile zkwasm-…`).\n\n"+
		"Nothing here is started yet.\n\n```sh\nprovost up --config %[2]s\n```\n\nor as a service, with its state in /var/lib/provost/%[1]s:\n\n```sh\nsudo cp %[3]s /etc/systemd/system/\nsudo systemctl daemon-reload\nsudo systemctl enable --now %[4]s\n```\n\n"+
		"Hand in work: `provost submit job --zkey circuit.zkey --witness a.wtns`. No key and no server are needed: proofs stay here until they are fetched.\n",
		p.Name, shellWord(p.Dir+"/"+ConfigFile), shellWord(p.Dir+"/"+UnitFile(p.Name)), UnitFile(p.Name))
	return []File{
		{ConfigFile, 0o600, "configuration of the engine", []byte(config)},
		{UnitFile(p.Name), 0o644, "systemd unit", []byte(unit)},
		{"README.md", 0o644, "what to do next", []byte(readme)},
	}
}

// ConfigFile is the configuration's name.
const ConfigFile = "provost.yaml"

// UnitFile is the unit's name.
func UnitFile(name string) string { return "provost-" + name + ".service" }

// unitWord writes a word of a command line of systemd (systemd.service(5), "Command lines").
func unitWord(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`).Replace(s) + `"`
}

func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
