package flow

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"app.provost/engine"
	"app.provost/prover"
)

// CreateProverID names the flow of "provost create prover".
const CreateProverID ID = "create prover"

// CreateProver is the flow that makes directories of prover nodes on this machine.
func CreateProver() Flow {
	return Flow{
		ID: CreateProverID, Title: "Create prover nodes on this machine",
		Needs: "a GPU and a private key of its own for each node, the hub's address, hugepages and memory; or nothing of it for the native prover",
		Makes: "a directory for each GPU with settings, key, containers and a unit; nothing is downloaded, started or set on the machine",
		Takes: "about 3 minutes; nothing is written before you agree at the end",
		Steps: []Step{proverKind(), proverDevices(), proverKeys()},
		Consent: func(a Answers) string {
			switch {
			case a["name"] != "":
				return "create " + a["name"]
			case a["dir"] != "":
				return "create " + filepath.Base(a["dir"])
			}
			return "create prover"
		},
		Build: func(a Answers) (engine.Action, error) {
			return engine.CreateProver{Profile: a["profile"], Dir: a["dir"], Name: a["name"], Server: a["server"], GPUs: a.Items("gpus"), KeyFiles: a.Items("key-files"),
				AssumeGPUs: a["assume-gpus"], AllowShort: a.Yes("allow-short"), Workers: a.intOf("workers")}, nil
		},
	}
}

func nativeProver(a Answers) bool { return a["profile"] == "native" }
func zkwasm(a Answers) bool       { return !nativeProver(a) }

const idleNative = "the profile native proves on processors: it uses no GPU and has no key and no hub"

func proverKind() Step {
	return Step{ID: "profile", Title: "profile and place", Intro: "Which prover the nodes run, for which hub, and where their directories are.",
		Fields: []Field{
			{
				Key: "profile", Title: "Profile", Kind: Text, Optional: true, Example: "zkwasm-0.0.14",
				Help: "zkwasm- with the node's version, or native: Provost's own prover. Leave it empty for the newest zkWasm version.",
				Check: func(v string, _ Answers) error {
					if version, ok := strings.CutPrefix(v, "zkwasm-"); v != "native" && (!ok || version == "") {
						return fmt.Errorf("%s: want native, or zkwasm- with the node's version, as in zkwasm-0.0.14", cut(v))
					}
					return nil
				},
			},
			{
				Key: "dir", Title: "Directory", Kind: NewDir, Example: "./provers",
				Help: "A directory that is not there yet; each node gets one of its own in it.",
			},
			{
				Key: "name", Title: "Name", Kind: Text, Optional: true, Example: "gpu-a",
				Help: "The nodes are called by it, with -0, -1 and so on behind. Leave it empty for the directory's name.",
				Check: func(v string, _ Answers) error {
					if len(v) > 40 || strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || v[0] == '-' || v[0] == '_' {
						return fmt.Errorf("%s: want 1 to 40 of a-z 0-9 - _, beginning with a letter or digit, as in gpu-a", cut(v))
					}
					return nil
				},
			},
			{
				Key: "server", Title: "Hub", Kind: Text, Example: "https://rpc.zkwasmhub.com", When: zkwasm, Idle: idleNative,
				Help: "The address that hands out tasks. All nodes of a group have the same.",
				Check: func(v string, _ Answers) error {
					u, err := url.Parse(v)
					switch {
					case passwordIn(v, u):
						return errors.New("a user name or password has no place in it: want an address as in https://rpc.zkwasmhub.com")
					case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
						return fmt.Errorf("%s: want an address that begins with https://, as in https://rpc.zkwasmhub.com", cutURL(v))
					case u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(v, "/"):
						return fmt.Errorf("%s: want it without ?, # and without / at its end, as in https://rpc.zkwasmhub.com", cutURL(v))
					}
					return nil
				},
				Note: func(v string, _ Answers) string {
					if strings.HasPrefix(v, "http://") {
						return "not encrypted: anybody on the way can read and change what is sent"
					}
					return ""
				},
			},
		}}
}

func proverDevices() Step {
	return Step{ID: "devices", Title: "GPUs", Intro: "Each node has a GPU to itself. What they need together, in hugepages and memory, is counted in the checks.",
		Fields: []Field{
			{
				Key: "assume-gpus", Title: "Another machine", Kind: File, Optional: true, Example: "./m03.json", When: zkwasm, Idle: idleNative,
				Help: "A file that says what another machine has, to plan for it: nothing is measured then. Leave it empty for this machine.",
			},
			{
				Key: "gpus", Title: "GPUs", Kind: Many, Example: "GPU-5d1b7a2e-0000-4000-8000-000000000001", When: zkwasm, Idle: idleNative, Options: gpuOptions,
				Help: "Their UUIDs, by commas; nvidia-smi -L lists them. Each is used once.",
				Check: func(v string, _ Answers) error {
					all := Answers{"": v}.Items("")
					for i, s := range all {
						if !strings.HasPrefix(s, "GPU-") {
							return fmt.Errorf("%s: want a UUID as nvidia-smi -L shows it, as in GPU-5d1b7a2e-0000-4000-8000-000000000001", cut(s))
						}
						if slices.Contains(all[:i], s) {
							return fmt.Errorf("%s stands twice: a GPU works for one node", cut(s))
						}
					}
					return nil
				},
			},
			{
				Key: "workers", Title: "Workers", Kind: Number, Optional: true, Example: "4", When: nativeProver, Check: within(1, 4096, "4"),
				Idle: "a zkWasm node has no workers",
				Help: "Workers on this machine's processors. Leave it empty for one on each core but one.",
			},
			{
				Key: "allow-short", Title: "Allow shortage", Kind: Bool,
				Help:    "Yes: the directories are written although the machine lacks something that the nodes need.",
				Default: func(Facts, Answers) string { return "false" },
			},
		}}
}

// gpuOptions are the devices of this machine as an engine that runs here sees them; none
// when that is not known.
func gpuOptions(f Facts, a Answers) []Option {
	if f.Snapshot == nil || f.Snapshot.GPUs == nil || a["assume-gpus"] != "" {
		return nil
	}
	var out []Option
	for _, r := range f.Snapshot.GPUs.Rows {
		if e := f.Snapshot.Engine; e != nil && r.Key.Machine != e.Value.Machine || r.GPU.UUID == "" {
			continue
		}
		o := Option{Value: r.GPU.UUID, Title: fmt.Sprintf("GPU %d, %s", r.GPU.Index, r.GPU.Model), Refused: r.GPU.Lost}
		if r.GPU.Model == "" {
			o.Title = fmt.Sprintf("GPU %d", r.GPU.Index)
		}
		o.Note = gpuNote(r.GPU)
		out = append(out, o)
	}
	return out
}

func gpuNote(g prover.GPU) string {
	var notes []string
	if g.MemTotal != nil {
		notes = append(notes, fmt.Sprintf("%d GiB", (*g.MemTotal+512)/1024))
	}
	if g.Display != nil && *g.Display {
		notes = append(notes, "drives a display")
	}
	if n := len(g.PIDs); n > 0 {
		notes = append(notes, "in use")
	}
	return strings.Join(notes, ", ")
}

func proverKeys() Step {
	return Step{ID: "keys", Title: "keys", Intro: "Each node signs with a key of its own. Keys are compared by their addresses with those of the other nodes here, and never shown.",
		When: zkwasm,
		Fields: []Field{
			{
				Key: "key-files", Title: "Private keys", Kind: SecretFile, Several: true, Example: "./node0.key", Idle: idleNative,
				Help: "Files of mode 0600 with the keys, by commas: one for each GPU in their order, or one with a key on each line. A key is 64 hex digits without 0x.",
				Check: func(v string, a Answers) error {
					files := Answers{"": v}.Items("")
					if slices.Contains(files, "-") {
						return errors.New("standard input is for a command without questions: name files, as in ./node0.key")
					}
					if n := len(a.Items("gpus")); n > 0 && len(files) != 1 && len(files) != n {
						return fmt.Errorf("%s for %s: want one for each, or one with a key on each line", plural(len(files), "file"), plural(n, "GPU"))
					}
					return nil
				},
				Secrets: func(a Answers) []string {
					var out []string
					for _, g := range a.Items("gpus") {
						out = append(out, "private key of the node on "+g)
					}
					return out
				},
			},
		}}
}
