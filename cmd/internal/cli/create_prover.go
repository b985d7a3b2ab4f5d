package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"app.provost/engine"
	"app.provost/engine/flow"

	"github.com/spf13/cobra"
)

// maxTypedKeys bounds the keys that are read from standard input.
const maxTypedKeys = 256 << 10

func (a *app) createProverCmd() *cobra.Command {
	var act engine.CreateProver
	var gpus, keys listFlag
	c := &cobra.Command{
		Use: "prover", Short: "write the directories of GPU prover nodes on this machine",
		Long: `One directory for each GPU: the node's settings with its private key (mode 0600), its containers
as a compose file, a systemd unit, and README.md with what is left to do. Nothing is downloaded,
started, installed or set on the machine, and no engine is needed.

A private key is 64 hex digits without 0x. Each node needs one of its own: keys are compared with
those of the other nodes and of all provers beside the directory, by the address that they give,
and are never shown. GPUs are named by UUID (nvidia-smi -L), each is used once. Hugepages and
memory are counted for all nodes together, per NUMA node; commands that set what is missing are
shown, never run. What the machine lacks otherwise is refused, unless --allow-short is given.

Profiles: zkwasm-0.0.14, zkwasm-0.0.13, zkwasm-0.0.12, zkwasm-0.0.10, and native: Provost's own
prover, which proves on processors and uses no GPU.

For a machine that is not at hand write down what it has; it is said wherever it is shown that
nothing was measured. What is left out counts as not known:

  {"schema": "provost.prover-host/1", "hostname": "m03",
   "gpu": {"driver": "550.54.15", "cuda": "12.4", "gpus": [
     {"index": 0, "uuid": "GPU-…", "model": "NVIDIA GeForce RTX 4090",
      "mem_total_mib": 24564, "compute": "8.9", "numa": 0}]},
   "mem_total_mib": 131072, "mem_available_mib": 98304,
   "hugepages": [{"page_kib": 2048, "total": 15000, "free": 15000}],
   "docker": {"version": "28.2.2", "compose": "2.36.0", "toolkit": "1.14.3"},
   "disk": {"path": "/var/lib/docker", "free_mib": 200000}}`,
		Example: `  provost create prover --server https://rpc.zkwasmhub.com --dir ./provers \
    --gpus GPU-5d1b7a2e-…,GPU-9c03f1d4-… --key-files node0.key,node1.key
  provost plan create prover --server https://rpc.zkwasmhub.com --dir ./provers \
    --gpus GPU-5d1b7a2e-… --key-files node0.key --assume-gpus m03.json
  pass show provers | provost create prover --server https://rpc.zkwasmhub.com \
    --dir ./provers --gpus GPU-5d1b7a2e-… --key-files -
  provost create prover --profile native --dir ./cpu-provers --workers 4`,
		Args: cobra.NoArgs,
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringVar(&act.Profile, "profile", "", "zkwasm- with the node's version, or native (default: the newest zkWasm version)")
	fl.StringVar(&act.Dir, "dir", "", "directory to create, with one directory for each GPU in it")
	fl.StringVar(&act.Name, "name", "", "name of the group; its nodes are NAME-0, NAME-1, … (default: that of the directory)")
	fl.StringVar(&act.Server, "server", "", "URL of the hub that hands out tasks")
	fl.Var(&gpus, "gpus", "UUIDs of the GPUs, by commas: a node on each")
	fl.Var(&keys, "key-files", "files with the private keys, by commas: one for each GPU, or one with a key on each line; - for standard input")
	fl.StringVar(&act.AssumeGPUs, "assume-gpus", "", "file that says what another machine has; nothing is measured")
	fl.BoolVar(&act.AllowShort, "allow-short", false, "write the directories although the machine lacks something that the nodes need")
	fl.IntVar(&act.Workers, "workers", 0, "workers of the profile native (default: one for each core but one)")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		act := act
		act.GPUs, act.KeyFiles = gpus, nil
		if cmd.Flags().Changed("workers") && act.Workers == 0 {
			return usageField("workers", "--workers=0", "leave it out for one on each core but one")
		}
		need := []struct {
			flag string
			is   bool
		}{{"dir", act.Dir == ""}}
		if act.Profile != "native" {
			need = append(need, []struct {
				flag string
				is   bool
			}{{"server", act.Server == ""}, {"gpus", len(gpus) == 0}, {"key-files", len(keys) == 0}}...)
		}
		var missing []string
		for _, m := range need {
			if m.is {
				missing = append(missing, "--"+m.flag)
			}
		}
		if len(missing) > 0 {
			return usage("create prover", "missing: "+strings.Join(missing, ", "), "see provost create prover --help; nvidia-smi -L lists the GPUs")
		}
		var err error
		for _, p := range []*string{&act.Dir, &act.AssumeGPUs} {
			if *p, err = absolute(*p); err != nil {
				return err
			}
		}
		typed := ""
		for _, k := range keys {
			if k == "-" {
				if len(keys) > 1 || isPlanning(cmd) || a.capture != nil {
					return usageField("key-files", "--key-files: - cannot be used here", "name files; - stands alone, and a plan that is carried out later needs files to read")
				}
				path, forget, err := a.keysFromInput()
				defer forget()
				if err != nil {
					return err
				}
				k, typed = path, path
			}
			if k, err = absolute(k); err != nil {
				return err
			}
			act.KeyFiles = append(act.KeyFiles, k)
		}
		return fromInput(a.oneShot(cmd, act, nil), typed)
	}
	a.guided(c, flow.CreateProver(), func(cmd *cobra.Command, act engine.Action) error { return a.oneShot(cmd, act, nil) })
	return c
}

// fromInput tells of standard input where an error names the file that it was put into.
func fromInput(err error, path string) error {
	var p *engine.Problem
	if path == "" || !errors.As(err, &p) {
		return err
	}
	q := *p
	q.Cause = strings.ReplaceAll(q.Cause, path, "standard input")
	q.More = slices.Clone(q.More)
	for i := range q.More {
		q.More[i].Cause = strings.ReplaceAll(q.More[i].Cause, path, "standard input")
	}
	return &q
}

// keysFromInput puts what comes on standard input into a private file, which goes with the command.
func (a *app) keysFromInput() (path string, forget func(), err error) {
	g := &guide{app: a, hide: map[string]bool{}}
	if a.StdinTTY {
		return "", g.forget, usageField("key-files", "--key-files: - reads standard input, and that is a terminal: keys would be shown while they are typed", "name files, or redirect one: < node0.key")
	}
	raw, err := io.ReadAll(io.LimitReader(a.Stdin, maxTypedKeys+1))
	defer clear(raw)
	if err != nil {
		return "", g.forget, usageField("key-files", fmt.Sprintf("--key-files: read standard input: %v", err), "name files")
	}
	if len(raw) > maxTypedKeys {
		return "", g.forget, usageField("key-files", "--key-files: standard input is far larger than keys are", "give one key of 64 hex digits on each line")
	}
	path, err = g.keepSecret("key-files", engine.NewSecret(string(bytes.TrimSuffix(raw, []byte("\n")))))
	return path, g.forget, err
}
