package engine

import (
	"strconv"
	"strings"
)

// KindCreateProver makes directories of prover nodes on this machine.
const KindCreateProver ActionKind = "create_prover"

// CreateProver writes one directory for each GPU, with the node's settings, its key,
// its containers and a unit. Nothing is started, installed or set on the machine.
// Keys travel as paths of files, never themselves.
type CreateProver struct {
	// Profile is "native" or "zkwasm-" with a version; "": the newest zkWasm version.
	Profile string `json:"profile,omitempty"`
	Dir     string `json:"dir"`            // absolute
	Name    string `json:"name,omitempty"` // of the group; "": that of the directory
	Server  string `json:"server,omitempty"`
	// GPUs by UUID, each used once. KeyFiles are absolute paths: one for each GPU, or
	// one with a key on each line.
	GPUs     []string `json:"gpus,omitempty"`
	KeyFiles []string `json:"key_files,omitempty"`
	// AssumeGPUs is the absolute path of a description of another machine
	// (schema provost.prover-host/1): nothing is measured then.
	AssumeGPUs string `json:"assume_gpus,omitempty"`
	// AllowShort writes the directories although the machine lacks something.
	AllowShort bool `json:"allow_short,omitempty"`
	// Workers of the native profile; 0: one for each core but one.
	Workers int `json:"workers,omitempty"`
}

// Kind is create_prover.
func (CreateProver) Kind() ActionKind { return KindCreateProver }

// Doing is "create prover".
func (CreateProver) Doing() string { return "create prover" }

// CommandLine is the command that asks for the same.
func (a CreateProver) CommandLine() []string {
	w := words{"create", "prover"}.flag("profile", a.Profile).flag("dir", a.Dir).flag("name", a.Name).flag("server", a.Server).
		flag("gpus", strings.Join(a.GPUs, ",")).flag("key-files", strings.Join(a.KeyFiles, ",")).
		flag("assume-gpus", a.AssumeGPUs).bool("allow-short", a.AllowShort)
	if a.Workers != 0 {
		w = w.flag("workers", strconv.Itoa(a.Workers))
	}
	return w
}
