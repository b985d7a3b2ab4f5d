package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"app.provost/engine"
	"app.provost/engine/act"
	"app.provost/prover"
	"app.provost/prover/fit"
	"app.provost/prover/native"
	putdir "app.provost/prover/place"
	"app.provost/prover/zkwasm"

	"golang.org/x/sys/unix"
)

// proverVerb plans and writes prover nodes. It needs no running part.
func proverVerb(p proverHost) act.Verb {
	return act.Verb{
		Plan: func(ctx context.Context, a act.Ask) (engine.Plan, error) {
			c := a.Action.(engine.CreateProver)
			g, err := p.draw(ctx, c)
			if err != nil {
				return engine.Plan{}, err
			}
			defer g.wipe()
			return g.plan(), nil
		},
		Run: func(ctx context.Context, a *act.Act) error {
			c := a.Action.(engine.CreateProver)
			// Two runs that look at the same time would both find that a key is nobody's.
			release, err := putdir.Alone(ctx, c.Dir)
			if err != nil {
				return proverPlaceProblem(c, err)
			}
			defer release()
			g, err := p.draw(ctx, c)
			if err != nil {
				return err
			}
			defer g.wipe()
			// The keys may have been changed in their files since the plan was agreed to.
			if now := g.plan(); !slices.Equal(now.Steps, a.Plan.Steps) {
				return engine.Problem{Code: engine.CodePlanChanged, Exit: engine.ExitRefused, Doing: c.Doing(), Cause: "a key, a GPU or a name is another one than in the plan", Remedy: "look at the plan again"}.Because(nil)
			}
			a.SetStep("write")
			if err := putdir.Put(ctx, g.dir, g.files); err != nil {
				return proverPlaceProblem(c, err)
			}
			r := g.receipt()
			a.Result(func(into *engine.Receipt) { addResult(into, r); into.Table = a.Plan.Table })
			return nil
		},
	}
}

// proverGroup is a group of nodes with everything that would be written.
type proverGroup struct {
	dir   string
	title string // "2 zkWasm 0.0.14 prover nodes"
	nodes []zkwasm.Node
	files []putdir.File // in the order in which they are listed
	host  prover.Host
	fit   fit.GPUFit
	notes []string
	warns []string
}

func (g *proverGroup) wipe() {
	for _, n := range g.nodes {
		n.Key.Wipe()
	}
	for _, f := range g.files {
		if f.Mode == 0o600 {
			clear(f.Data)
		}
	}
}

// draw checks everything and makes the files in memory. It writes nothing. Errors are
// *engine.Problem, with all that is wrong at once.
func (p proverHost) draw(ctx context.Context, c engine.CreateProver) (*proverGroup, error) {
	g := &proverGroup{dir: c.Dir}
	var err error
	if c.Profile == native.Profile {
		err = g.native(c)
	} else {
		err = p.drawNodes(ctx, c, g)
	}
	if err != nil {
		g.wipe()
		return nil, err
	}
	return g, nil
}

// drawNodes is draw for zkWasm nodes. On an error g may hold keys.
func (p proverHost) drawNodes(ctx context.Context, c engine.CreateProver, g *proverGroup) (err error) {
	v, params := proverParams(c)
	remarks := params.Remarks()
	for _, f := range append([]string{c.Dir, c.AssumeGPUs}, c.KeyFiles...) {
		if f != "" && !filepath.IsAbs(f) {
			return usage(c.Doing(), "", fmt.Sprintf("%q is no absolute path", f), "give absolute paths: an engine works in another directory")
		}
	}
	if c.Workers != 0 {
		remarks = append(remarks, zkwasm.Remark{Field: "workers", Cause: "a zkWasm node has no workers", Remedy: "leave --workers out"})
	}
	keys, more := readProverKeys(params)
	remarks = append(remarks, more...)
	for i, k := range keys {
		g.nodes = append(g.nodes, zkwasm.Node{Project: params.Projects()[i], Server: params.Server, Key: k, Address: k.Address(), GPU: prover.GPU{UUID: params.GPUs[i]}})
	}
	if err := proverProblem(c, remarks, engine.CodeProverParams); err != nil {
		return err
	}
	if err := putdir.Check(c.Dir); err != nil {
		return proverPlaceProblem(c, err)
	}
	if g.host, err = p.host(ctx, c); err != nil {
		return err
	}
	there, cut, err := zkwasm.Scan(filepath.Dir(c.Dir))
	if err != nil {
		return proverPlaceProblem(c, &putdir.Error{Kind: putdir.KindNotAllowed, Path: filepath.Dir(c.Dir), Err: err, Remedy: "choose a --dir in a directory that you may read: other provers are looked for there"})
	}
	if cut {
		g.warns = append(g.warns, "there are too many directories beside "+c.Dir+": not all were searched for provers with the same key")
	}
	for i := range g.nodes {
		if dev, ok := g.host.GPUByUUID(params.GPUs[i]); ok {
			g.nodes[i].GPU = dev
			g.nodes[i].CPUs = cpusBeside(g.host, dev)
		}
	}
	twice := zkwasm.Twice(g.nodes, there, g.host)
	if err := proverProblem(c, twice, engine.CodeProverTwice); err != nil {
		return err
	}
	here := slices.DeleteFunc(slices.Clone(there), func(f zkwasm.Found) bool {
		return f.Host != "" && g.host.Hostname != "" && f.Host != g.host.Hostname
	})
	checks := append(twice, v.CheckHost(g.host, params.GPUs, here)...)
	g.fit = fit.FitGPUs(g.host, seats(v, g.nodes, here, g.host))
	for _, s := range g.fit.Short {
		checks = append(checks, zkwasm.Remark{Weight: zkwasm.Lacks, Field: "gpus", Cause: s.Cause, Remedy: s.Remedy})
	}
	var stops, lacks []zkwasm.Remark
	for _, r := range append(remarks, checks...) {
		switch r.Weight {
		case zkwasm.Stops:
			stops = append(stops, r)
		case zkwasm.Lacks:
			lacks = append(lacks, r)
		default:
			g.warns = append(g.warns, join(r.Cause, r.Remedy))
		}
	}
	if len(stops) > 0 || len(lacks) > 0 && !c.AllowShort {
		for i := range lacks {
			lacks[i].Weight = zkwasm.Stops
		}
		return proverProblem(c, append(stops, lacks...), engine.CodeProverUnfit)
	}
	g.warns = append(g.warns, g.fit.Warnings...)
	if g.host.Told {
		g.warns = append(g.warns, "nothing was measured: the machine is taken to be as "+c.AssumeGPUs+" says")
	}
	if p.dial != nil {
		if s, err := zkwasm.ParseServer(params.Server); err == nil {
			if err := p.dial(ctx, s); err != nil {
				g.warns = append(g.warns, fmt.Sprintf("%s could not be reached from here: %v", params.Server, err))
			}
		}
	}
	var words []string
	for _, r := range lacks {
		g.warns = append(g.warns, "the machine falls short: "+join(r.Cause, r.Remedy))
		words = append(words, join(r.Cause, r.Remedy))
	}
	return g.zkwasm(v, words)
}

func join(cause, remedy string) string {
	if remedy == "" {
		return cause
	}
	return cause + "; " + remedy
}

// proverParams fills in what was left out.
func proverParams(c engine.CreateProver) (zkwasm.Version, zkwasm.Params) {
	name := strings.TrimPrefix(c.Profile, "zkwasm-")
	if c.Profile == "" {
		name = zkwasm.Newest().Name
	} else if !strings.HasPrefix(c.Profile, "zkwasm-") {
		name = c.Profile // no version has that name: the remark tells it
	}
	v, _ := zkwasm.VersionByName(name)
	return v, zkwasm.Params{Version: name, Name: groupName(c), Dir: c.Dir, Server: c.Server, GPUs: c.GPUs, KeyFiles: c.KeyFiles}
}

// groupName is the name that was given, or that of the directory as far as it can be one.
func groupName(c engine.CreateProver) string {
	if c.Name != "" {
		return c.Name
	}
	var b strings.Builder
	for _, r := range strings.ToLower(filepath.Base(c.Dir)) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || b.Len() > 0 && (r == '-' || r == '_') {
			b.WriteRune(r)
		}
	}
	if b.Len() == 0 || b.Len() > 40 {
		return "provers"
	}
	return b.String()
}

// readProverKeys reads the key files, if there are as many as have to be.
func readProverKeys(p zkwasm.Params) (keys []zkwasm.Key, remarks []zkwasm.Remark) {
	n := len(p.GPUs)
	if n == 0 || n > zkwasm.MaxNodes || len(p.KeyFiles) != n && len(p.KeyFiles) != 1 || slices.Contains(p.KeyFiles, "") {
		return nil, nil
	}
	each := 1
	if len(p.KeyFiles) == 1 {
		each = n
	}
	for _, f := range p.KeyFiles {
		got, loose, err := zkwasm.ReadKeyFile(f, each)
		var ke *zkwasm.KeyError
		if errors.As(err, &ke) {
			remarks = append(remarks, zkwasm.Remark{Field: "key-files", Cause: f + ": " + ke.Why, Remedy: ke.Remedy})
			continue
		}
		if loose {
			remarks = append(remarks, zkwasm.Remark{Weight: zkwasm.Warns, Field: "key-files", Cause: f + " can be read by others", Remedy: engine.ShellLine([]string{"chmod", "600", f})})
		}
		keys = append(keys, got...)
	}
	if slices.ContainsFunc(remarks, func(r zkwasm.Remark) bool { return r.Weight == zkwasm.Stops }) {
		for _, k := range keys {
			k.Wipe()
		}
		return nil, remarks
	}
	return keys, remarks
}

// host is this machine as it is measured, or another as it was written down.
func (p proverHost) host(ctx context.Context, c engine.CreateProver) (prover.Host, error) {
	if c.AssumeGPUs == "" {
		h, err := p.measure(ctx)
		if err != nil {
			return h, engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitInterrupt, Doing: c.Doing(), Cause: "measuring this machine was ended", Remedy: "nothing was written"}.Because(err)
		}
		return h, nil
	}
	bad := func(cause error) (prover.Host, error) {
		return prover.Host{}, engine.Problem{Code: engine.CodeProverParams, Exit: engine.ExitUsage, Doing: c.Doing(), Field: "assume-gpus", Cause: "--assume-gpus: " + c.AssumeGPUs + ": " + cause.Error(),
			Remedy: "it holds JSON of the schema " + prover.HostSchema + "; an example is in provost create prover --help"}.Because(cause)
	}
	f, err := os.OpenFile(c.AssumeGPUs, os.O_RDONLY|unix.O_NONBLOCK, 0) // or a pipe would be waited for, past every ctrl+c
	if err != nil {
		return bad(errors.Unwrap(err))
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return bad(errors.New("it is no ordinary file"))
	}
	raw, err := io.ReadAll(io.LimitReader(f, 2<<20))
	if err != nil {
		return bad(err)
	}
	h, err := prover.ReadHost(raw)
	if err != nil {
		return bad(err)
	}
	return h, nil
}

// cpusBeside are the processors of a device's NUMA node, "" where there is only one node or it is not known.
func cpusBeside(h prover.Host, g prover.GPU) string {
	if g.NUMA == nil || len(h.NUMA) < 2 {
		return ""
	}
	for _, n := range h.NUMA {
		if n.Node == *g.NUMA {
			return n.CPUs
		}
	}
	return ""
}

// seats are all nodes of the machine: those that are there, then the new ones.
func seats(v zkwasm.Version, nodes []zkwasm.Node, there []zkwasm.Found, h prover.Host) []fit.GPUSeat {
	var out []fit.GPUSeat
	for _, f := range there {
		s := fit.GPUSeat{Node: f.Project, NUMA: f.NUMA, There: true, Need: fit.GPUNeed{Pages: f.Need.Pages, Memory: f.Need.Memory}}
		for _, g := range h.GPU.GPUs {
			if slices.Contains(f.GPUs, g.UUID) || !f.Ours && slices.Contains(f.GPUs, fmt.Sprint(g.Index)) {
				s.UUID, s.NUMA = g.UUID, g.NUMA
			}
		}
		if s.UUID == "" {
			s.UUID = "the GPU of " + f.Dir
		}
		out = append(out, s)
	}
	for _, n := range nodes {
		out = append(out, fit.GPUSeat{Node: n.Project, UUID: n.GPU.UUID, NUMA: n.GPU.NUMA,
			Need: fit.GPUNeed{Pages: v.Needs.Pages, Memory: v.Needs.Memory, Disk: v.Needs.Disk}})
	}
	return out
}

// zkwasm makes the files of the nodes.
func (g *proverGroup) zkwasm(v zkwasm.Version, lacks []string) error {
	g.title = fmt.Sprintf("%s of zkWasm %s", count(len(g.nodes), "prover node"), v.Name)
	docker := ""
	if g.host.Docker != nil {
		docker = g.host.Docker.Path
	}
	euid := os.Geteuid()
	owned := !g.host.Told && (euid == 0 || euid == zkwasm.UID)
	for _, n := range g.nodes {
		tree, err := v.Tree(n, g.host, g.dir+"/"+n.Project, docker)
		if err != nil {
			return engine.AsProblem("create prover", err)
		}
		for _, f := range tree {
			owner := -1
			if f.Owner >= 0 && owned && euid == 0 {
				owner = f.Owner
			}
			g.files = append(g.files, putdir.File{Path: n.Project + "/" + f.Path, Mode: f.Mode, Owner: owner, Data: f.Data})
		}
	}
	var todo []string
	for _, t := range g.fit.Todo {
		todo = append(todo, "# "+t.Why, t.Command)
	}
	readme := v.Readme(zkwasm.Guide{Dir: g.dir, Nodes: g.nodes, Host: g.host, Todo: todo, Lacks: lacks, Owned: owned})
	g.files = append(g.files, putdir.File{Path: zkwasm.ReadmeFile, Mode: 0o644, Owner: -1, Data: readme})
	if have := g.fit.Have; have != nil && *have < g.fit.Want {
		g.warns = append(g.warns, fmt.Sprintf("hugepages: %d of 2 MiB are needed, %d are set up", g.fit.Want, *have))
	} else if !g.fit.Kept {
		g.warns = append(g.warns, fmt.Sprintf("hugepages: %d of 2 MiB are needed, and a reboot does not bring them back", g.fit.Want))
	}
	if !owned {
		g.warns = append(g.warns, fmt.Sprintf("the files with keys have to be given to the container's user (%d): README.md has the commands", zkwasm.UID))
	}
	if m := g.fit.More; m != nil && *m > 0 {
		g.notes = append(g.notes, fmt.Sprintf("the memory of this machine has room for %s", count(*m, "more such node")))
	}
	return nil
}

// native makes the files of an engine with workers of Provost's own prover.
func (g *proverGroup) native(c engine.CreateProver) error {
	var remarks []zkwasm.Remark
	for _, m := range []struct {
		flag string
		is   bool
	}{{"gpus", len(c.GPUs) > 0}, {"key-files", len(c.KeyFiles) > 0}, {"server", c.Server != ""}, {"assume-gpus", c.AssumeGPUs != ""}} {
		if m.is {
			remarks = append(remarks, zkwasm.Remark{Field: m.flag, Cause: "the profile native is Provost's own prover: it proves on processors, uses no GPU and has no key and no hub",
				Remedy: "leave --" + m.flag + " out, or choose " + zkwasm.Newest().Profile()})
		}
	}
	if c.Dir == "" || !filepath.IsAbs(c.Dir) {
		remarks = append(remarks, zkwasm.Remark{Field: "dir", Cause: "no directory is given", Remedy: "name a directory to create"})
	}
	if c.Workers < 0 || c.Workers > 4096 {
		remarks = append(remarks, zkwasm.Remark{Field: "workers", Cause: fmt.Sprintf("%d workers cannot be", c.Workers), Remedy: "choose 1 to 4096, or leave it out for one on each core but one"})
	}
	p := zkwasm.Params{Version: zkwasm.Newest().Name, Name: groupName(c), Dir: c.Dir}
	for _, r := range p.Remarks() { // the rules for names and directories are the same
		if r.Field == "name" || r.Field == "dir" && c.Dir != "" {
			remarks = append(remarks, r)
		}
	}
	if err := proverProblem(c, remarks, engine.CodeProverParams); err != nil {
		return err
	}
	if err := putdir.Check(c.Dir); err != nil {
		return proverPlaceProblem(c, err)
	}
	binary, err := os.Executable()
	if err != nil || !filepath.IsAbs(binary) {
		binary = "/usr/local/bin/provost"
	}
	g.title = "an engine of Provost's own provers, on processors"
	for _, f := range native.Files(native.Params{Name: p.Name, Dir: c.Dir, Binary: binary, Workers: c.Workers}) {
		g.files = append(g.files, putdir.File{Path: f.Path, Mode: f.Mode, Owner: -1, Data: f.Data})
	}
	g.warns = append(g.warns, "no GPU is used: Provost's own prover proves on processors")
	return nil
}

func (g *proverGroup) plan() engine.Plan {
	p := engine.Plan{Title: "create " + g.title, Targets: []string{g.dir}, Warnings: g.warns, Notes: g.notes,
		Consent: engine.Consent{Level: "none"}, // with all flags given a command asks nothing
		Undo:    "remove " + g.dir + ": nothing else is changed, and your key files stay as they are"}
	for _, n := range g.nodes {
		p.Steps = append(p.Steps, engine.Step{Name: n.Project, Text: fmt.Sprintf("is the node %s on %s", n.Address, n.GPU.UUID)})
	}
	p.Steps = append(p.Steps,
		engine.Step{Name: "write", Text: "write all files into a directory beside the target, read them back"},
		engine.Step{Name: "rename", Text: "put it at " + g.dir + " in one step; nothing is started or set on the machine"})
	p.Files = append(p.Files, g.planned()...)
	if len(g.fit.Rows) > 0 {
		p.Table = &engine.PlanTable{Columns: []string{"NODE", "GPU", "HUGEPAGES NEED/LEFT", "MEMORY NEED/LEFT", "ADDRESS"}}
		for i, r := range g.fit.Rows {
			n := g.nodes[i]
			left := func(v fmt.Stringer, ok *bool) string {
				if ok == nil {
					return "not known"
				}
				if *ok {
					return v.String() + " ok"
				}
				return v.String() + " short"
			}
			var pages, mem fmt.Stringer = plainNumber(0), plainNumber(0)
			if r.PagesLeft != nil {
				pages = plainNumber(*r.PagesLeft)
			}
			if r.MemLeft != nil {
				mem = gibNumber(*r.MemLeft)
			}
			model := n.GPU.Model
			if model == "" {
				model = n.GPU.UUID
			}
			p.Table.Rows = append(p.Table.Rows, []string{n.Project, fmt.Sprintf("%d %s", n.GPU.Index, model),
				fmt.Sprintf("%d / %s", r.Need.Pages, left(pages, r.PagesOK)), fmt.Sprintf("%s / %s", gibNumber(r.Need.Memory), left(mem, r.MemOK)), string(n.Address)})
			if r.PagesOK == nil || !*r.PagesOK || r.MemOK == nil || !*r.MemOK {
				p.Table.Marked = append(p.Table.Marked, i)
			}
		}
	}
	p.Notes = append(p.Notes, g.todo()...)
	return p
}

// todo are the commands that set hugepages, as notes.
func (g *proverGroup) todo() []string {
	var out []string
	for _, t := range g.fit.Todo {
		out = append(out, "to do: "+t.Command+" ("+t.Why+")")
	}
	return out
}

type plainNumber uint64

func (n plainNumber) String() string { return fmt.Sprint(uint64(n)) }

type gibNumber prover.MiB

func (n gibNumber) String() string {
	if n%1024 == 0 {
		return fmt.Sprintf("%d GiB", n/1024)
	}
	return fmt.Sprintf("%d.%d GiB", n/1024, n%1024*10/1024)
}

// planned lists directories before what is in them.
func (g *proverGroup) planned() []engine.PlannedFile {
	out := []engine.PlannedFile{{Path: g.dir + "/", Mode: "0700"}}
	seen := map[string]bool{}
	for _, f := range g.files {
		parts := strings.Split(f.Path, "/")
		for i := 1; i < len(parts); i++ {
			if d := strings.Join(parts[:i], "/"); !seen[d] {
				seen[d] = true
				out = append(out, engine.PlannedFile{Path: g.dir + "/" + d + "/", Mode: "0700"})
			}
		}
		out = append(out, engine.PlannedFile{Path: g.dir + "/" + f.Path, Mode: fmt.Sprintf("%04o", f.Mode.Perm())})
	}
	return out
}

func (g *proverGroup) receipt() engine.Receipt {
	r := engine.Receipt{Done: true, Title: "created " + g.title, Targets: []string{g.dir}, Files: g.planned()}
	r.Facts = []engine.Fact{{Name: "directory", Value: g.dir}}
	for _, n := range g.nodes {
		r.Facts = append(r.Facts, engine.Fact{Name: n.Project, Value: fmt.Sprintf("%s on %s", n.Address, n.GPU.UUID)})
	}
	for _, w := range g.warns {
		r.Notes = append(r.Notes, "warning: "+w)
	}
	r.Notes = append(r.Notes, g.notes...)
	r.Notes = append(r.Notes, g.todo()...)
	r.Notes = append(r.Notes, "nothing is started: what comes next is in "+g.dir+"/"+zkwasm.ReadmeFile)
	return r
}

// proverProblem makes one problem of all remarks that stop; nil when none does.
func proverProblem(c engine.CreateProver, remarks []zkwasm.Remark, code engine.Code) error {
	exit := engine.ExitRefused
	if code == engine.CodeProverParams {
		exit = engine.ExitUsage
	}
	var all []engine.Problem
	for _, r := range remarks {
		if r.Weight != zkwasm.Stops {
			continue
		}
		p := engine.Problem{Code: code, Exit: exit, Doing: c.Doing(), Field: r.Field, Cause: r.Cause, Remedy: r.Remedy}
		if r.Field != "" {
			p.Cause = "--" + r.Field + ": " + p.Cause
		}
		if !slices.ContainsFunc(all, func(o engine.Problem) bool { return o.Field == p.Field && o.Cause == p.Cause }) {
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil
	}
	first := all[0]
	first.More = all[1:]
	return first.Because(nil)
}

// proverPlaceProblem turns an error of writing into what an operator is told.
func proverPlaceProblem(c engine.CreateProver, err error) error {
	p := engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: c.Doing()}
	var e *putdir.Error
	if errors.As(err, &e) {
		p.Cause, p.Remedy, p.Field = e.Path+": "+e.Err.Error(), e.Remedy, "dir"
		switch e.Kind {
		case putdir.KindUsage:
			p.Code, p.Exit = engine.CodeProverParams, engine.ExitUsage
		case putdir.KindExists:
			p.Code, p.Exit = engine.CodeClusterExists, engine.ExitRefused
		case putdir.KindNotAllowed:
			p.Code, p.Exit = engine.CodeDirUnwritable, engine.ExitNotAllowed
		case putdir.KindNoSpace:
			p.Code = engine.CodeNoSpace
		case putdir.KindCancelled:
			p.Exit, p.Field = engine.ExitInterrupt, ""
		}
	}
	return p.Because(err)
}
