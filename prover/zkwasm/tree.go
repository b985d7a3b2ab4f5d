package zkwasm

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	"app.provost/prover"
)

// Files of a node's directory beside the node's own.
const (
	ManifestFile = "prover.json"
	ComposeFile  = "compose.yaml"
	EnvFile      = ".env"
	StartFile    = "start.sh"
	ReadmeFile   = "README.md"
)

// UID is the user and group that the node's container runs as: files with its key
// have to be readable by this user and nobody else.
const UID = 1001

// ManifestSchema is the version of Manifest's JSON.
const ManifestSchema = "provost.prover-node/1"

// Manifest says what a node directory is. Nothing in it is secret.
type Manifest struct {
	Schema    string       `json:"schema"`
	Profile   string       `json:"profile"` // "zkwasm-0.0.14"
	Project   string       `json:"project"` // of Docker Compose: the name of containers and volumes
	GPU       string       `json:"gpu"`     // UUID
	Model     string       `json:"model,omitempty"`
	Address   Address      `json:"address"`
	Server    string       `json:"server_url"`
	Hugepages prover.Pages `json:"hugepages_2mib"`
	MemoryMiB prover.MiB   `json:"memory_mib"`
	NUMA      *int         `json:"numa"`
	Host      string       `json:"host,omitempty"`
	Measured  bool         `json:"measured"` // the machine was looked at when this was made
}

// Node is one prover node to be made.
type Node struct {
	Project string
	Server  string
	GPU     prover.GPU
	CPUs    string // of the device's NUMA node, "" for all
	Key     Key
	Address Address
}

// File is a file of a tree. Data of a Secret file holds a key.
type File struct {
	Path   string // with slashes
	Mode   fs.FileMode
	Owner  int // user and group; -1: who writes it
	What   string
	Secret bool
	Data   []byte
}

// Profile is the name under which operators choose a version.
func (v Version) Profile() string { return "zkwasm-" + v.Name }

// Tree makes the files of a node's directory, at dir when it is put in place.
func (v Version) Tree(n Node, h prover.Host, dir, docker string) ([]File, error) {
	man, err := json.MarshalIndent(Manifest{Schema: ManifestSchema, Profile: v.Profile(), Project: n.Project, GPU: n.GPU.UUID, Model: n.GPU.Model,
		Address: n.Address, Server: n.Server, Hugepages: v.Needs.Pages, MemoryMiB: v.Needs.Memory, NUMA: n.GPU.NUMA, Host: h.Hostname, Measured: !h.Told}, "", "  ")
	if err != nil {
		return nil, err
	}
	compose, err := v.compose(n)
	if err != nil {
		return nil, err
	}
	cfg, err := NewProverConfig(n.Server, n.Key).Render()
	if err != nil {
		return nil, err
	}
	files := []File{
		{Path: ManifestFile, Mode: 0o644, Owner: -1, What: "what this directory is", Data: append(man, '\n')},
		{Path: ProverFile, Mode: 0o600, Owner: UID, What: "settings and private key of the node (secret)", Secret: true, Data: cfg},
	}
	if v.DryRun {
		mongo := ""
		if v.Store == StoreMongo {
			mongo = "mongodb://localhost:27017"
		}
		dry, err := NewDryRunConfig(n.Server, n.Key, mongo).Render()
		if err != nil {
			return nil, err
		}
		files = append(files, File{Path: DryRunFile, Mode: 0o600, Owner: UID, What: "settings of the dry run, with the same key (secret)", Secret: true, Data: dry})
	}
	if v.SystemConfig {
		sys, err := NewSystemConfig().Render()
		if err != nil {
			return nil, err
		}
		files = append(files, File{Path: SystemFile, Mode: 0o644, Owner: -1, What: "limits and warning levels", Data: sys})
	}
	files = append(files,
		File{Path: StartFile, Mode: 0o644, Owner: -1, What: "runs in the container: checks GPU, hugepages and memory, then starts the node", Data: []byte(v.start())},
		File{Path: ComposeFile, Mode: 0o644, Owner: -1, What: "the containers", Data: compose},
		File{Path: EnvFile, Mode: 0o644, Owner: -1, What: "project name of Docker Compose", Data: []byte("# Read by docker compose in this directory. Containers and volumes bear this name.\nCOMPOSE_PROJECT_NAME=" + n.Project + "\n")},
		File{Path: v.UnitFile(n), Mode: 0o644, Owner: -1, What: "systemd unit", Data: []byte(v.unit(n, dir, docker))})
	if v.Monitor {
		files = append(files, v.monitor(n)...)
	}
	return files, nil
}

// UnitFile is the file name of a node's unit.
func (v Version) UnitFile(n Node) string { return "provost-" + n.Project + ".service" }

// start is the script that the container runs. The order matters: without a GPU the
// node's own checks speak of missing memory.
func (v Version) start() string {
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/sh
# Runs inside the container of the prover node %s.
set -eu

if ! nvidia-smi -L; then
	echo "provost: the GPU cannot be reached from this container: see the driver, the container toolkit and the device in compose.yaml" >&2
	exit 1
fi

pages=$(awk '/^HugePages_Free:/ {print $2}' /proc/meminfo)
if [ "${pages:-0}" -lt %d ]; then
	echo "provost: ${pages:-0} free hugepages of 2 MiB, the node needs %d: set vm.nr_hugepages on the host" >&2
	exit 1
fi

memory=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)
if [ "${memory:-0}" -lt %d ]; then
	echo "provost: ${memory:-0} MiB of memory available beside the hugepages, the node needs %d" >&2
	exit 1
fi

`, v.Name, v.Needs.Pages, v.Needs.Pages, v.Needs.Memory, v.Needs.Memory)
	if v.Store == StoreOwn {
		b.WriteString("sudo chown -R 1001:1001 rocksdb\n\n")
	}
	if v.ParamsFTP {
		b.WriteString("wget -r -nH -nv --cut-dirs=1 --no-parent --user=ftpuser --password=ftppassword ftp://localhost/params/ -P workspace/static/\n\n")
	}
	args := "--config prover_config.json -w workspace"
	if v.SystemConfig {
		args += " --proversystemconfig prover_system_config.json"
	} else {
		args += " --dryrunconfig dry_run_config.json"
	}
	args += " -p"
	if v.Store != StoreMongo {
		args += " --rocksdbworkspace rocksdb"
	}
	// One device is reserved, so its number inside is 0.
	fmt.Fprintf(&b, "CUDA_VISIBLE_DEVICES=0 RUST_LOG=info RUST_BACKTRACE=1 exec ./target/release/zkwasm-playground %s\n", args)
	return b.String()
}

// unit runs the containers under systemd. It stays with the node, so that it ends
// with it and is started again: the node's own files restart nothing.
func (v Version) unit(n Node, dir, docker string) string {
	if docker == "" {
		docker = "/usr/bin/docker"
	}
	run := docker + " compose up --no-color --abort-on-container-exit"
	if v.Store == StoreFilled { // the container that fills the volume ends while the others go on
		run = fmt.Sprintf("/bin/sh -c '%[1]s compose up --detach && exec %[1]s attach --no-stdin --sig-proxy=false %[2]s-prover-node-1'", docker, n.Project)
	}
	return fmt.Sprintf(`[Unit]
Description=zkWasm prover node %s
Requires=docker.service
After=docker.service network-online.target
Wants=network-online.target
StartLimitIntervalSec=3600
StartLimitBurst=10

[Service]
WorkingDirectory=%s
# No free hugepages or no key for the container's user: say so before anything is pulled.
ExecStartPre=/bin/sh -c 'p=$$(sed -n "s/^HugePages_Free: *//p" /proc/meminfo); test "$$p" -ge %d || { echo "$$p free hugepages, %d are needed" >&2; exit 1; }'
ExecStartPre=/bin/sh -c 'test "$$(stat -c %%%%u:%%%%a prover_config.json)" = %d:600 || { echo "prover_config.json must belong to user %d and have mode 600" >&2; exit 1; }'
ExecStart=%s
ExecStop=%s compose stop --timeout 60
TimeoutStartSec=0
TimeoutStopSec=90
Restart=always
RestartSec=60

[Install]
WantedBy=multi-user.target
`, n.Project, strings.ReplaceAll(dir, "%", "%%"), v.Needs.Pages, v.Needs.Pages, UID, UID, run, docker)
}

// monitor makes the settings of the repository's monitor. The script itself is not ours to give.
func (v Version) monitor(n Node) []File {
	names := n.Project + "-prover-node-1"
	if v.ParamsFTP {
		names += " " + n.Project + "-params-ftp-1"
	}
	tunables := func(export string) string {
		return fmt.Sprintf("%[1]sN_LOG_LINES=50\n%[1]sCHECK_INTERVAL_SECS=60\n%[1]sALERT_TIMEOUT_SECS=86400\n%[1]sCONTAINER_NAMES=%[2]q\n", export, names)
	}
	env := "# Settings of the project's own monitor. It is off as long as ALERT_POST_URL is empty.\n# Whoever has that URL can post to it: keep it secret.\nALERT_POST_URL=\"\"\n"
	var out []File
	if v.MonitorFile {
		env += fmt.Sprintf("NODE_ADDRESS=%q\nNODE_DESCRIPTION=%q\n", n.Address, n.Project)
		out = append(out, File{Path: "scripts/_monitor_config.sh", Mode: 0o644, Owner: -1, What: "what the project's monitor watches", Data: []byte(tunables("export "))})
	} else {
		env += tunables("")
	}
	return append([]File{{Path: "scripts/.env", Mode: 0o600, Owner: -1, What: "where the project's monitor posts (empty: nowhere)", Data: []byte(env)}}, out...)
}
