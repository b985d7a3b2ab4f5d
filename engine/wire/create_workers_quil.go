package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"app.provost/cluster/quil"
	"app.provost/engine"
	"app.provost/prover/fit"

	"golang.org/x/sys/unix"
)

// quilPrefix begins the names of the profiles of Quilibrium eras.
const quilPrefix = "quil-"

// quilEra gives the era of a profile's name: quil-2.0.6, or with any version that an era describes.
func quilEra(profile string) (quil.Era, error) {
	id := strings.TrimPrefix(profile, quilPrefix)
	if e, err := quil.EraByID(quil.EraID(id)); err == nil {
		return e, nil
	}
	v, err := quil.ParseVersion(id)
	if err != nil {
		return quil.Era{}, err
	}
	return quil.EraOf(v)
}

// profileIDs lists what --profile takes.
func profileIDs() []string {
	out := []string{"native"}
	for _, e := range quil.Eras() {
		out = append(out, quilPrefix+string(e.ID))
	}
	return out
}

// quilProfile makes a profile of planning from what is known of an era. What is not known is said as a note.
func quilProfile(e quil.Era) fit.Profile {
	p := fit.Profile{ID: quilPrefix + string(e.ID), Title: "Quilibrium, " + e.Title, Numbers: fit.ByCluster, Remote: true, NeedsIP: true, ByThreads: true,
		RAMSystem: fit.GiB, MaxEntries: 2_000_000, Holes: fit.HolesBorne, Exposure: fit.FromControl}
	if e.Warning != "" {
		p.Warnings = append(p.Warnings, strings.TrimSuffix(e.Warning, "."))
	}
	unknown := func(s string) { p.Notes = append(p.Notes, s) }
	if families, ok := e.Address.Families.Known(); ok {
		p.OnlyIPv4 = len(families) == 1 && families[0] == "ip4"
	}
	if keep, ok := e.Limits.Keep.Known(); ok {
		for _, k := range keep {
			p.KeepFree = append(p.KeepFree, fit.Keep{Threads: k.Threads, Keep: k.Keep})
		}
	} else {
		p.KeepFree = []fit.Keep{{Keep: 1}}
		unknown("how many processors this era keeps for its control process is not known: one is kept free unless --keep-free says otherwise")
	}
	if n, ok := e.Limits.RAMPerWorkerBytes.Known(); ok {
		p.RAMPerWorker = fit.Bytes(n)
	} else {
		unknown("how much memory a worker of this era needs is not known and was not counted")
	}
	if n, ok := e.Limits.ControlFreeBytes.Known(); ok {
		p.RAMControl = fit.Bytes(n)
	} else {
		p.RAMControl = p.RAMPerWorker
		unknown("how much memory the control process needs is not known: as much as a worker's was counted")
	}
	if n, ok := e.Limits.DiskPerWorkerBytes.Known(); ok {
		p.DiskPerWorker = fit.Bytes(n)
	}
	p.MinThreads, _ = e.Limits.MinThreads.Known()
	p.MinWorkers, _ = e.Limits.MinWorkers.Known()
	if sizes, ok := e.Limits.Sizes.Known(); ok {
		for _, s := range sizes {
			p.Sizes = append(p.Sizes, fit.Size{Workers: s.Workers, Cost: "each round needs " + s.Cost})
		}
		if len(sizes) > 1 {
			p.MaxWorkers = sizes[len(sizes)-2].Workers
		}
	}
	p.SlowMS = 150
	if p.Equal, _ = e.Limits.Equal.Known(); p.Equal {
		p.SlowMS = 20
	}
	switch h, _ := e.Address.Holes.Known(); h {
	case quil.HolesFatal:
		p.Holes = fit.HolesFatal
	case quil.HolesCostly:
		p.Holes = fit.HolesCostly
	}
	if x, ok := e.Address.Exposure.Known(); ok && x == quil.FromAny {
		p.Exposure = fit.FromAny
	}
	if auth, ok := e.Address.Authenticated.Known(); ok && !auth {
		p.Unsafe = "workers of this era take work from anyone who reaches their ports, and then earn for him: apply the firewall rules before they start"
		if p.Exposure == fit.FromAny {
			p.Warnings = append(p.Warnings, "worker ports of this era must be reachable from the internet and do not tell their own control process from a stranger")
		}
	}
	for _, l := range e.Address.Lists {
		if l.Use == quil.UseAnnounceP2P || l.Use == quil.UseAnnounceStream {
			continue
		}
		proto := "tcp"
		if len(l.Transports) > 0 && l.Transports[0] == quil.QUIC {
			proto = "udp"
		}
		p.Ports = append(p.Ports, fit.PortRule{Use: string(l.Use), Proto: proto, Base: int(l.Base)})
	}
	p.ControlPorts = controlPorts(e.Ports)
	need := func(n quil.Need) string {
		switch n {
		case quil.NeedYes:
			return "needed"
		case quil.NeedNever:
			return "never there"
		case quil.NeedMade:
			return "made by the node"
		}
		return string(n)
	}
	for _, f := range e.Files {
		p.Keys = append(p.Keys, fit.KeyNeed{Name: f.Name, Control: need(f.Control), Workers: need(f.Workers), Secret: f.Secret, Why: f.Why})
	}
	return p
}

// controlPorts says the control process's own ports in the words of planning.
func controlPorts(listen []quil.Listen) (out []fit.ListenPort) {
	for _, l := range listen {
		open, _ := l.Open.Known()
		for _, proto := range l.Proto {
			out = append(out, fit.ListenPort{Name: l.Name, Proto: proto, Port: int(l.Port), Public: open})
		}
	}
	return out
}

// quilListening takes the control process's own ports from its config.yml.
func quilListening(e quil.Era, existing []byte, p *fit.Profile) error {
	listen, err := e.Listening(existing)
	if err != nil {
		return err
	}
	p.ControlPorts = controlPorts(listen)
	return nil
}

// quilPaths are how things are called on the machines.
type quilPaths struct {
	binary, configDir, user string
	// nodeConfig is the path of the control process's config.yml, and existing what is in it: secret.
	nodeConfig string
	existing   []byte
}

// quilPlan says the layout in the adapter's words.
func quilPlan(l *fit.Layout, at quilPaths) quil.Plan {
	p := quil.Plan{Control: l.Control, Oversize: l.Profile.MaxWorkers > 0 && l.Listed > l.Profile.MaxWorkers}
	for _, r := range l.Rows {
		m := quil.Machine{Name: r.Machine.Name, Address: r.Machine.IPAddr(), Announce: r.Machine.AnnounceAddr(), Binary: at.binary, ConfigDir: at.configDir}
		for _, run := range r.Runs {
			for i := range run.Count {
				m.Workers = append(m.Workers, quil.Worker{Core: quil.Core(int(run.First) + i), Slot: run.Offset + i})
			}
		}
		p.Machines = append(p.Machines, m)
	}
	for _, h := range l.Parked {
		for i := range h.Count {
			p.Parked = append(p.Parked, quil.Core(int(h.First)+i))
		}
	}
	return p
}

// quilAdapter runs the processes of an era, and gives each machine its config.yml.
func quilAdapter(e quil.Era, l *fit.Layout, at quilPaths) (fit.Adapter, quilSaid, error) {
	var said quilSaid
	plan := quilPlan(l, at)
	if at.existing != nil {
		var err error
		if plan.Listen, err = e.Listening(at.existing); err != nil {
			return fit.Adapter{}, said, err
		}
	}
	program := func(argv []string) *fit.Program {
		p := &fit.Program{Args: []string{at.binary}, User: at.user}
		for _, a := range argv {
			if a == "{config}" {
				a = at.configDir
			}
			p.Args = append(p.Args, a)
		}
		// Paths in config.yml are relative to the working directory, as in .config/store.
		p.Dir = path.Dir(at.configDir)
		p.StopSignal, _ = e.Call.StopSignal.Known()
		if s, ok := e.Call.StopSeconds.Known(); ok {
			p.StopTime = time.Duration(s) * time.Second
		}
		p.OpenFiles, _ = e.Limits.OpenFiles.Known()
		return p
	}
	control, ok := e.Call.Control.Known()
	worker, ok2 := e.Call.Worker.Known()
	if !ok || !ok2 {
		return fit.Adapter{}, said, fmt.Errorf("how era %s calls the node is not known", e.ID)
	}
	a := fit.Adapter{Control: program(control), Worker: program(worker),
		Kept: map[string]string{"binary": at.binary, "config_dir": at.configDir, "user": at.user}}
	if at.nodeConfig != "" {
		a.Kept["node_config"] = at.nodeConfig
	}
	a.Control.Service = []string{"# It shares the machine with workers and comes first.", "CPUWeight=1000"}
	a.Worker.Memory = l.Profile.RAMPerWorker
	a.WorkersFirst, _ = e.Call.WorkersFirst.Known()
	for _, t := range e.Traps {
		a.Readme = append(a.Readme, t.Text+".")
	}
	for _, u := range e.Unknown {
		a.Readme = append(a.Readme, "not known, and nowhere relied on: "+u+".")
	}
	if at.nodeConfig == "" {
		a.Steps = []string{fmt.Sprintf("put the keys of config/config.yml into %s/config.yml: it holds the address lists only", at.configDir)}
		a.Readme = append([]string{"config/config.yml of each machine holds the address lists only: put these keys into the machine's own config.yml, or plan again with --node-config and the control process's config.yml to have the whole file rendered."}, a.Readme...)
	} else {
		a.Steps = []string{
			fmt.Sprintf("install -d -o %s -m 0700 %s", at.user, at.configDir),
			fmt.Sprintf("install -b -o %s -m 0600 config/config.yml %s/config.yml   # the one before is kept as config.yml~", at.user, at.configDir),
		}
		a.Readme = append([]string{"config/config.yml holds secrets of the peer where this era's workers need them: send it over authenticated ways only, mode 0600."}, a.Readme...)
	}
	rendered, err := said.render(e, at.existing, plan)
	if err != nil {
		return fit.Adapter{}, said, err
	}
	a.Files = func(_ *fit.Layout, r *fit.Row) ([]fit.File, error) {
		if r.Workers == 0 && !r.Control {
			return nil, nil
		}
		return []fit.File{{Path: "config/config.yml", Mode: 0o600, Body: rendered[plan.Role(r.Machine.Name)]}}, nil
	}
	return a, said, nil
}

// readNodeConfig reads a config.yml. Its text is secret: errors name the path alone.
func readNodeConfig(name string) ([]byte, error) {
	bad := func(cause, remedy string) error {
		return engine.Problem{Code: engine.CodeClusterParams, Exit: engine.ExitUsage, Doing: "create workers", Field: "node-config", Cause: "--node-config " + name + ": " + cause, Remedy: remedy}.Because(nil)
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, bad(err.Error(), "name the config.yml of the control process, or leave it out")
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, bad("it is no file", "name the config.yml of the control process")
	}
	b, err := io.ReadAll(io.LimitReader(f, quil.MaxConfigBytes+1))
	if err != nil {
		return nil, bad(err.Error(), "see that it can be read")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, bad("it is empty", "start the node once, so that it makes its config.yml")
	}
	return b, nil
}

// quilProblem turns errors of the adapter into what an operator is told; nil when err is none of them.
func quilProblem(a engine.CreateWorkers, err error) *engine.Problem {
	p := engine.Problem{Code: engine.CodeClusterParams, Exit: engine.ExitUsage, Doing: a.Doing()}
	var ce *quil.ConfigError
	if errors.As(err, &ce) {
		p.Field, p.Cause, p.Remedy = "node-config", "--node-config: "+ce.Text, ce.Remedy
		if ce.Key != "" {
			p.Cause = "--node-config, " + ce.Key + ": " + ce.Text
		}
		if ce.Line > 0 {
			p.Cause = strings.Replace(p.Cause, "--node-config", fmt.Sprintf("--node-config, line %d", ce.Line), 1)
		}
		return p.Because(err)
	}
	var ps *quil.ProblemsError
	if errors.As(err, &ps) {
		var all []engine.Problem
		for _, one := range ps.Problems {
			if one.Severity == quil.SevError {
				q := p
				q.Field, q.Cause, q.Remedy = "inventory", one.Text, one.Remedy
				all = append(all, q)
			}
		}
		if len(all) > 0 {
			first := all[0]
			first.More = all[1:]
			return first.Because(err)
		}
	}
	return nil
}
