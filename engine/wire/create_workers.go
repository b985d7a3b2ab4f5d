package wire

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"app.provost/cluster/quil"
	"app.provost/engine"
	"app.provost/engine/act"
	"app.provost/engine/host"
	"app.provost/prover/fit"

	"golang.org/x/sys/unix"
)

const (
	// probeLimit is the longest that planning waits for answers of other machines.
	probeLimit = 1500 * time.Millisecond
	// maxInventoryFile bounds what is read of an inventory; the parser has the same bound.
	maxInventoryFile = 4<<20 + 1
)

// Measured is what this machine is found to have.
type measured struct {
	name, address  string
	cores, threads int
	ram, disk      fit.Bytes
	os             fit.OS
	wsl            bool
}

// workersPlanner plans worker clusters. Its functions are fields so that tests have their own machine.
type workersPlanner struct {
	measure func(ctx context.Context) (measured, error)
	dial    fit.Dial
}

func newWorkersPlanner() workersPlanner { return workersPlanner{measureHere, dialTCP} }

// workersVerb plans and writes worker clusters. It needs no running part.
func workersVerb(w workersPlanner) act.Verb {
	return act.Verb{
		Plan: func(ctx context.Context, a act.Ask) (engine.Plan, error) {
			c := a.Action.(engine.CreateWorkers)
			d, err := w.draw(ctx, c)
			if err != nil {
				return engine.Plan{}, workersProblem(c, err)
			}
			var more []string
			if !c.NoProbe {
				more = fit.Probe(ctx, &d.layout, d.before == nil, probeLimit, w.dial)
			}
			return d.plan(c, more), nil
		},
		Run: func(ctx context.Context, a *act.Act) error {
			c := a.Action.(engine.CreateWorkers)
			a.SetStep("write")
			r, err := w.run(ctx, c, a.Plan)
			if err != nil {
				return workersProblem(c, err)
			}
			a.Result(func(into *engine.Receipt) { addResult(into, r); into.Table = r.Table })
			return nil
		},
	}
}

// drawing is a plan with everything that would be written.
type drawing struct {
	dir     string
	before  *fit.State
	found   fit.Existing
	layout  fit.Layout
	files   []fit.File // with plan.yaml and the text of the changes
	drop    []string
	changes []fit.Change
	same    bool // nothing changes
	notes   []string
}

// draw works out the plan. It writes nothing.
func (w workersPlanner) draw(ctx context.Context, c engine.CreateWorkers) (drawing, error) {
	d := drawing{dir: c.Dir}
	fault := func(field, cause, remedy string) (drawing, error) {
		return drawing{}, &fit.ProblemsError{Problems: []fit.Problem{{Field: field, Cause: cause, Remedy: remedy}}}
	}
	if c.Dir == "" || !filepath.IsAbs(c.Dir) {
		return fault("dir", "--dir is missing", "name the directory to write to")
	}
	var err error
	if d.found, err = fit.ReadTree(c.Dir); err != nil {
		return drawing{}, err
	}
	d.before = d.found.State
	p := fit.Params{Name: c.Name, Control: c.Control, KeepFree: c.KeepFree, MaxWorkers: c.MaxWorkers, FillHoles: c.FillHoles, Renumber: c.Renumber}
	kept := map[string]string{}
	if b := d.before; b != nil {
		if c.Name != "" && c.Name != b.Name {
			return fault("cluster-name", fmt.Sprintf("the plan in %s is called %s, not %s", c.Dir, b.Name, c.Name), "leave --cluster-name out, or choose another --dir")
		}
		p.Name = b.Name
		if p.KeepFree == nil {
			p.KeepFree = b.KeepFree
		}
		kept = b.Adapter
	} else if p.Name == "" {
		p.Name = "workers"
	}
	profileID, era, err := w.profile(c, d.before, &p)
	if err != nil {
		return drawing{}, err
	}
	nodeConfig := cmp.Or(c.NodeConfig, kept["node_config"])
	var existing []byte
	if profileID != "native" && nodeConfig != "" {
		if existing, err = readNodeConfig(nodeConfig); err != nil {
			return drawing{}, err
		}
		if err := quilListening(era, existing, &p.Profile); err != nil {
			return drawing{}, err
		}
	}
	if p.Machines, err = w.machines(ctx, c, d.before, &d.notes); err != nil {
		return drawing{}, err
	}
	if d.layout, err = fit.Plan(d.before, p); err != nil {
		return drawing{}, err
	}
	if v, err := quil.ParseVersion(strings.TrimPrefix(c.Profile, quilPrefix)); err == nil && v.NewerThanLooked(era) {
		d.layout.Warnings = append(d.layout.Warnings, fmt.Sprintf("version %s was not looked at: it is planned as %s, whose newest version that was is %s; see that its ports, keys and settings are still these", v, profileID, era.Looked))
	}
	var adapter fit.Adapter
	word := func(given, key, habit string) string {
		switch {
		case given != "":
			return given
		case kept[key] != "":
			return kept[key]
		}
		return habit
	}
	// The directory above the node's is where it works: a slash at the end would make it another one.
	if c.ConfigDir != "/" {
		c.ConfigDir = strings.TrimSuffix(c.ConfigDir, "/")
	}
	for _, s := range []struct{ flag, value string }{{"binary", c.Binary}, {"config-dir", c.ConfigDir}} {
		if s.value != "" && (!filepath.IsAbs(s.value) || !fit.PlainWord(s.value) || filepath.Clean(s.value) != s.value || s.value == "/") {
			return fault(s.flag, fmt.Sprintf("--%s=%q", s.flag, s.value), "want an absolute path without spaces, quotes, % or $, and without . or .. in it, as it is on the machines")
		}
	}
	if c.User != "" && !fit.UserName(c.User) {
		return fault("user", fmt.Sprintf("--user=%q", c.User), "want a user's name: a-z 0-9 _ and -, at most 32, beginning with a letter or _")
	}
	if profileID == "native" {
		for _, s := range []struct{ flag, value string }{{"config-dir", c.ConfigDir}, {"node-config", c.NodeConfig}} {
			if s.value != "" {
				return fault(s.flag, "--"+s.flag+" has no meaning for the profile native", "leave it out")
			}
		}
		adapter = fit.NativeAdapter(p.Name, fit.NativePaths{Binary: word(c.Binary, "binary", "/usr/local/bin/provost"), User: word(c.User, "user", "provost")})
	} else {
		at := quilPaths{word(c.Binary, "binary", "/usr/local/bin/quil-node"), word(c.ConfigDir, "config_dir", "/var/lib/quil/.config"),
			word(c.User, "user", "quil"), nodeConfig, existing}
		var said quilSaid
		if adapter, said, err = quilAdapter(era, &d.layout, at); err != nil {
			return drawing{}, err
		}
		d.notes = append(d.notes, said.changes...)
		d.layout.Warnings = append(d.layout.Warnings, said.warnings...)
	}
	if d.files, err = fit.Render(&d.layout, adapter); err != nil {
		return drawing{}, err
	}
	return d, d.finish(adapter)
}

// finish compares with what is there and adds the files that say so.
func (d *drawing) finish(adapter fit.Adapter) error {
	state := d.layout.State(d.files, adapter.Kept)
	if d.before != nil {
		d.changes = fit.Changes(*d.before, &d.layout, d.files)
		now := map[string]bool{}
		for _, f := range d.files {
			now[f.Path] = true
		}
		for name := range d.before.Files {
			if !now[name] && !strings.HasPrefix(name, "changes/") {
				d.drop = append(d.drop, name)
			}
		}
		slices.Sort(d.drop)
		same := state
		same.Revision = d.before.Revision
		// Texts of changes before this one stay as they are and are known to the plan.
		for name, sum := range d.before.Files {
			if strings.HasPrefix(name, "changes/") {
				state.Files[name], same.Files[name] = sum, sum
			}
		}
		a, err := same.Marshal()
		if err != nil {
			return err
		}
		b, err := d.before.Marshal()
		if err != nil {
			return err
		}
		if string(a) == string(b) && len(d.found.Missing)+len(d.found.Edited) == 0 {
			d.same, d.files = true, nil
			return nil
		}
		text := fit.File{Path: fmt.Sprintf("changes/%04d.txt", d.layout.Revision), Mode: 0o600, Body: []byte(fit.ChangesText(&d.layout, d.changes))}
		state.Files[text.Path] = text.Sum()
		d.files = append(d.files, text)
	}
	raw, err := state.Marshal()
	if err != nil {
		return err
	}
	d.files = append(d.files, fit.File{Path: fit.PlanFile, Mode: 0o600, Body: raw})
	return nil
}

// profile finds the profile, and the era for a Quilibrium one.
func (w workersPlanner) profile(c engine.CreateWorkers, before *fit.State, p *fit.Params) (id string, era quil.Era, err error) {
	id = c.Profile
	if id == "" && before != nil {
		id = before.Profile
	}
	fault := func(cause, remedy string) error {
		return &fit.ProblemsError{Problems: []fit.Problem{{Field: "profile", Cause: cause, Remedy: remedy}}}
	}
	choices := "choose one of " + strings.Join(profileIDs(), ", ")
	switch {
	case id == "":
		return "", era, fault("--profile is missing", choices)
	case id == "native":
		p.Profile = fit.Native()
	case strings.HasPrefix(id, quilPrefix):
		if era, err = quilEra(id); err != nil {
			return "", era, fault(fmt.Sprintf("--profile=%s: %s", id, err), choices)
		}
		p.Profile = quilProfile(era)
	default:
		return "", era, fault(fmt.Sprintf("--profile=%q is not known", id), choices)
	}
	if before != nil && before.Profile != p.Profile.ID {
		return "", era, fault(fmt.Sprintf("the plan in force has the profile %s, not %s: ports, keys and configuration differ", before.Profile, p.Profile.ID), "leave --profile out, or plan anew in another --dir")
	}
	return p.Profile.ID, era, p.Profile.Check()
}

// machines gathers them: those given, else those of the plan; less those to remove; and those to add.
func (w workersPlanner) machines(ctx context.Context, c engine.CreateWorkers, before *fit.State, notes *[]string) ([]fit.Machine, error) {
	var out []fit.Machine
	var bad []fit.Problem
	add := func(field, cause, remedy string) {
		bad = append(bad, fit.Problem{Field: field, Cause: cause, Remedy: remedy})
	}
	if c.Inventory != "" {
		data, err := readInventory(c.Inventory)
		if err != nil {
			add("inventory", "--inventory "+c.Inventory+": "+err.Error(), "name a file that you can read")
		} else if out, err = fit.ParseInventory(filepath.Base(c.Inventory), data); err != nil {
			return nil, err
		}
	}
	one := func(field, spec string) {
		m, err := fit.ParseMachine(spec)
		if err != nil {
			add(field, fmt.Sprintf("--%s: %s", field, err), "as in name=m01,address=10.0.0.1,cores=64,ram=128GiB,disk=1TiB")
			return
		}
		out = append(out, m)
	}
	for _, s := range c.Machines {
		one("machine", s)
	}
	if c.Local {
		out = append(out, fit.Machine{Local: true})
	}
	if before != nil && c.Inventory == "" && len(c.Machines) == 0 && !c.Local {
		out = slices.Clone(before.Machines)
	}
	for _, name := range c.Remove {
		i := slices.IndexFunc(out, func(m fit.Machine) bool { return m.Name == name })
		if i < 0 {
			add("remove-machine", fmt.Sprintf("--remove-machine=%s: there is no machine of this name", name), "names are in plan.yaml and in the inventory")
			continue
		}
		out = slices.Delete(out, i, i+1)
	}
	for _, s := range c.Add {
		one("add-machine", s)
	}
	if len(bad) > 0 {
		return nil, &fit.ProblemsError{Problems: bad}
	}
	if before == nil && len(out) == 0 {
		return nil, &fit.ProblemsError{Problems: []fit.Problem{{Field: "inventory", Cause: "no machine is given", Remedy: "list them in a file for --inventory, or give --machine name=…,address=…,cores=…,ram=… for each, or --local for this one"}}}
	}
	for i := range out {
		if m := &out[i]; m.Local && (m.Name == "" || m.Address == "" || m.Cores == 0 && m.Threads == 0 || m.RAM == 0) {
			here, err := w.measure(ctx)
			if err != nil {
				return nil, &fit.ProblemsError{Problems: []fit.Problem{{Field: "local", Cause: "this machine could not be measured: " + err.Error(), Remedy: "give it with --machine and its numbers"}}}
			}
			if m.Address == "" {
				*notes = append(*notes, fmt.Sprintf("this machine is listed with its address %s; for another give it with --machine name=…,address=…,local", here.address))
			}
			fill(m, here)
		}
	}
	return out, nil
}

// fill gives a machine what was measured and not told.
func fill(m *fit.Machine, here measured) {
	if m.Name == "" {
		m.Name = here.name
	}
	if m.Address == "" {
		m.Address = here.address
	}
	if m.Cores == 0 && m.Threads == 0 {
		m.Cores, m.Threads = here.cores, here.threads
	}
	if m.RAM == 0 {
		m.RAM = here.ram
	}
	if m.Disk == 0 {
		m.Disk = here.disk
	}
	if m.OS == "" {
		m.OS = here.os
	}
	m.WSL = m.WSL || here.wsl
}

func readInventory(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			return nil, pe.Err
		}
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	return io.ReadAll(io.LimitReader(f, maxInventoryFile))
}

// plan says what would be done. more are warnings of what was measured.
func (d *drawing) plan(c engine.CreateWorkers, more []string) engine.Plan {
	l := &d.layout
	p := engine.Plan{Targets: []string{d.dir}, Warnings: slices.Concat(l.Warnings, more), Notes: slices.Concat(d.notes, l.Notes), Table: table(l), Consent: engine.Consent{Level: "none"}}
	what := fmt.Sprintf("%s on %s, profile %s", count(l.Workers, "worker"), count(len(l.Rows), "machine"), l.Profile.ID)
	if l.Advice != "" {
		p.Notes = append([]string{l.Advice}, p.Notes...)
	}
	if d.same {
		p.Title = "nothing to change: " + what
		p.Targets = nil
		return p
	}
	if d.before == nil {
		p.Title = fmt.Sprintf("lay out %s: %s", l.Name, what)
		p.Steps = []engine.Step{
			{Name: "write", Text: fmt.Sprintf("write the plan and a directory for each machine into a directory beside the target (content %s)", d.sum())},
			{Name: "rename", Text: "put it at " + d.dir + " in one step; nothing is installed, sent or started"},
		}
	} else {
		p.Title = fmt.Sprintf("change %s to revision %d: %s", l.Name, l.Revision, what)
		for _, ch := range d.changes {
			p.Steps = append(p.Steps, engine.Step{Name: ch.Who(4), Text: ch.Text()})
		}
		p.Steps = append(p.Steps, engine.Step{Name: "write", Text: fmt.Sprintf("write the files that differ (content %s); those of before are kept in %s", d.sum(), filepath.Join(d.dir, fmt.Sprintf("old/%04d", d.before.Revision)))})
		p.Undo = fmt.Sprintf("the files as they were are in %s", filepath.Join(d.dir, fmt.Sprintf("old/%04d", d.before.Revision)))
		if len(d.found.Edited) > 0 {
			p.Warnings = append(p.Warnings, "changed by hand since they were written, and written anew (the changed ones are kept): "+some(d.found.Edited))
		}
		if len(d.found.Missing) > 0 {
			p.Notes = append(p.Notes, "missing, and written again: "+some(d.found.Missing))
		}
		p.Consent = engine.Consent{Level: "enter"}
	}
	if hasNodeConfig(c, d) {
		p.Warnings = append(p.Warnings, "the config.yml of each machine is written whole and holds the secrets that this era's workers need: send the directories over authenticated ways only, and know that old/ keeps those of before")
	}
	for _, f := range d.files {
		if d.before == nil || d.before.Files[f.Path] != f.Sum() || slices.Contains(d.found.Edited, f.Path) || slices.Contains(d.found.Missing, f.Path) {
			p.Files = append(p.Files, engine.PlannedFile{Path: f.Path, Mode: fmt.Sprintf("%04o", f.Mode.Perm())})
		}
	}
	return p
}

func hasNodeConfig(c engine.CreateWorkers, d *drawing) bool {
	return c.NodeConfig != "" || d.before != nil && d.before.Adapter["node_config"] != ""
}

// sum names the content of everything that would be written, so that the digest of the plan covers it.
func (d *drawing) sum() string {
	h := sha256.New()
	for _, f := range d.files {
		fmt.Fprintf(h, "%s %04o %s\n", f.Path, f.Mode, f.Sum())
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

func some(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(names, ", ")
}

func table(l *fit.Layout) *engine.PlanTable {
	t := &engine.PlanTable{Columns: fit.Columns}
	for i := range l.Rows {
		r := &l.Rows[i]
		t.Rows = append(t.Rows, l.Cells(r))
		if !r.OK {
			t.Marked = append(t.Marked, i)
		}
	}
	return t
}

// run makes the plan again, as it was agreed to, and writes it.
func (w workersPlanner) run(ctx context.Context, c engine.CreateWorkers, agreed engine.Plan) (engine.Receipt, error) {
	d, err := w.draw(ctx, c)
	if err != nil {
		return engine.Receipt{}, err
	}
	now := d.plan(c, nil)
	if !slices.Equal(now.Steps, agreed.Steps) {
		return engine.Receipt{}, engine.Problem{Code: engine.CodePlanChanged, Exit: engine.ExitRefused, Doing: c.Doing(), Cause: "what is to be written has changed since the plan was made", Remedy: "look at it again"}.Because(nil)
	}
	r := engine.Receipt{Done: true, Title: now.Title, Targets: now.Targets, Table: now.Table}
	for _, warning := range agreed.Warnings {
		r.Notes = append(r.Notes, "warning: "+warning)
	}
	r.Notes = append(r.Notes, now.Notes...)
	if d.same {
		return r, nil
	}
	stop := ctx.Err
	if d.before == nil {
		err = fit.WriteTree(d.dir, d.files, stop)
	} else {
		err = fit.UpdateTree(d.dir, d.layout.Revision, d.files, d.drop, stop)
	}
	if err != nil {
		return engine.Receipt{}, err
	}
	r.Files = now.Files
	r.Facts = []engine.Fact{{Name: "directory", Value: d.dir}, {Name: "revision", Value: fmt.Sprint(d.layout.Revision)}}
	for _, ch := range d.changes {
		r.Notes = append(r.Notes, ch.Who(4)+": "+ch.Text())
	}
	r.Notes = append(r.Notes, "begin with "+filepath.Join(d.dir, "README.txt"))
	return r, nil
}

// workersProblem turns errors of planning and of the adapters into what an operator is told.
func workersProblem(c engine.CreateWorkers, err error) error {
	var done *engine.Problem
	if errors.As(err, &done) {
		return done
	}
	var ps *fit.ProblemsError
	if errors.As(err, &ps) {
		var all []engine.Problem
		for _, one := range ps.Problems {
			all = append(all, engine.Problem{Code: engine.CodeClusterParams, Exit: engine.ExitUsage, Doing: c.Doing(), Field: one.Field, Cause: one.Cause, Remedy: one.Remedy})
		}
		first := all[0]
		first.More = all[1:]
		return first.Because(err)
	}
	if p := quilProblem(c, err); p != nil {
		return p
	}
	p := engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: c.Doing()}
	var e *fit.Error
	if errors.As(err, &e) {
		p.Field = "dir"
		p.Cause = e.Path + ": " + plainCause(e.Err)
		p.Remedy = e.Remedy
		switch e.Kind {
		case fit.KindUsage:
			p.Code, p.Exit = engine.CodeUsage, engine.ExitUsage
		case fit.KindExists:
			p.Code, p.Exit = engine.CodeClusterExists, engine.ExitRefused
		case fit.KindNotAllowed:
			p.Code, p.Exit = engine.CodeDirUnwritable, engine.ExitNotAllowed
		case fit.KindNoSpace:
			p.Code = engine.CodeNoSpace
		case fit.KindNewer, fit.KindDamaged:
			p.Code, p.Exit = engine.CodeUsage, engine.ExitUsage
		case fit.KindCancelled:
			p.Exit = engine.ExitInterrupt
		}
	}
	return p.Because(err)
}

// plainCause leaves out the path that is told already.
func plainCause(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err.Error()
	}
	return err.Error()
}

// measureHere measures this machine, for --local.
func measureHere(ctx context.Context) (measured, error) {
	h, err := host.New(host.Options{Paths: []host.Path{{Path: "/var/lib", What: "state"}}})
	if err != nil {
		return measured{}, err
	}
	row := h.ReadOnce(ctx)
	if row.CPU.Value == nil || row.Memory.Value == nil {
		return measured{}, fmt.Errorf("%s", strings.Trim(row.CPU.Problem+"; "+row.Memory.Problem, "; "))
	}
	m := measured{name: machineName(row.Hostname), threads: row.CPU.Value.LogicalCPUs, ram: fit.Bytes(row.Memory.Value.TotalBytes >> 20 << 20), os: fit.Linux}
	if n := row.CPU.Value.Cores; n != nil && *n <= m.threads {
		m.cores = *n
	}
	if limit := row.Memory.Value.LimitBytes; limit != nil && fit.Bytes(*limit) < m.ram {
		m.ram = fit.Bytes(*limit >> 20 << 20)
	}
	if d := row.Disks.Value; d != nil && len(*d) > 0 {
		m.disk = fit.Bytes((*d)[0].FreeBytes >> 30 << 30)
	}
	if s := row.System.Value; s != nil {
		m.wsl = strings.Contains(strings.ToLower(s.Kernel), "microsoft")
		if o := fit.OS(s.OS); o == fit.Darwin || o == fit.FreeBSD {
			m.os = o
		}
	}
	m.address = ownAddress()
	return m, nil
}

// machineName makes a name that an inventory takes from a host's name.
func machineName(hostname string) string {
	name, _, _ := strings.Cut(strings.ToLower(hostname), ".")
	name = strings.Trim(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, name), "-")
	if name == "" || len(name) > 63 {
		return "this"
	}
	return name
}

// ownAddress is the first address of this machine that others could use, IPv4 before IPv6; loopback when it has none.
func ownAddress() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	six := ""
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().IsGlobalUnicast() {
			continue
		}
		if p.Addr().Is4() {
			return p.Addr().String()
		}
		if six == "" {
			six = p.Addr().String()
		}
	}
	if six != "" {
		return six
	}
	return "127.0.0.1"
}

// dialTCP tells how long a machine took to answer. A refusal is an answer: it came from there.
func dialTCP(ctx context.Context, address string) (time.Duration, bool, error) {
	began := time.Now()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	took := time.Since(began)
	if err == nil {
		return took, true, c.Close()
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return took, false, nil
	}
	return 0, false, err
}
