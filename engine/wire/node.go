package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/combine"
	"app.provost/cluster/create"
	"app.provost/cluster/guard"
	"app.provost/cluster/pack"
	"app.provost/engine"
	"app.provost/engine/act"
)

// The verbs of node directories: leaving a cluster, moving a node, keeping a copy of it. They need no
// running part.
func nodeVerbs() map[engine.ActionKind]act.Verb {
	verb := func(plan func(context.Context, engine.Action) (engine.Plan, error), run func(context.Context, engine.Action, *act.Act) (engine.Receipt, error)) act.Verb {
		return act.Verb{
			Plan: func(ctx context.Context, a act.Ask) (engine.Plan, error) { return plan(ctx, a.Action) },
			Run: func(ctx context.Context, a *act.Act) error {
				r, err := run(ctx, a.Action, a)
				if err != nil {
					return err
				}
				a.Result(func(into *engine.Receipt) { addResult(into, r) })
				return nil
			},
		}
	}
	return map[engine.ActionKind]act.Verb{
		engine.KindCombineCluster: verb(planCombine, runCombine),
		engine.KindExportNode:     verb(planExport, runExport),
		engine.KindImportNode:     verb(planImport, runImport),
	}
}

// provostDir is where a node keeps what it must not lose, below its directory.
const provostDir = "provost"

// verifyAll makes every check of a path that create knows, and tells the first that failed.
func verifyAll(ctx context.Context, path string) error { return verifyOn(ctx, path, 0) }

// verifyOn is verifyAll on so many cores; 0: all.
func verifyOn(ctx context.Context, path string, cores int) error {
	r, err := create.Verify(ctx, path, create.Options{Workers: cores})
	if err == nil && !r.OK() {
		err = errors.New("nothing in it could be checked")
		if failed := r.Failures(); len(failed) > 0 {
			err = fmt.Errorf("%s: %s", failed[0].ID, failed[0].Problem)
			if len(failed) > 1 {
				err = fmt.Errorf("%w, and %s more", err, count(len(failed)-1, "failed check"))
			}
		}
	}
	return err
}

func combineDoors(progress func(done, total int, what string)) combine.Options {
	return combine.Options{
		VerifyLock: verifyAll,
		History: func(dir string) (*combine.History, error) {
			c, err := guard.Read(filepath.Join(dir, provostDir))
			var e *guard.Error
			switch {
			case errors.As(err, &e) && e.Code == guard.CodeMissing:
				return nil, nil
			case errors.As(err, &e) && e.Code == guard.CodeLocked:
				return nil, fmt.Errorf("%w: %s", combine.ErrInUse, e.File)
			case err != nil:
				return nil, err
			}
			h := &combine.History{GenesisValidatorsRoot: c.GenesisValidatorsRoot, Marks: map[cluster.PubKey]combine.Marks{}}
			for k, m := range c.Marks {
				h.Marks[k] = combine.Marks(m)
			}
			return h, nil
		},
		WriteHistory: func(to io.Writer, h combine.History) error {
			m := map[cluster.PubKey]guard.Marks{}
			for k, v := range h.Marks {
				m[k] = guard.Marks(v)
			}
			return guard.WriteMarks(to, h.GenesisValidatorsRoot, m)
		},
		Progress: progress,
	}
}

func combineParams(a engine.CombineCluster) combine.Params {
	return combine.Params{Dirs: a.Dirs, ClusterDir: a.ClusterDir, OutputDir: a.OutputDir, WithoutHistory: a.NoSlashingHistory}
}

func combineTitle(o combine.Outcome) string {
	return fmt.Sprintf("%s of the cluster %s on %s from %d of %d nodes", count(len(o.Validators), "whole key"), o.LockHash.String()[:10], o.Network, len(o.Nodes), o.Operators)
}

func combineFiles(o combine.Outcome) (out []engine.PlannedFile) {
	for _, f := range o.Files {
		out = append(out, engine.PlannedFile{Path: filepath.Join(o.Dir, f.Name), Mode: fmt.Sprintf("%04o", f.Mode.Perm())})
	}
	return out
}

func combineWarnings(o combine.Outcome) []string {
	out := []string{"whoever has a whole key can sign alone: from now on no node of the cluster may ever run again, anywhere; stop and wipe them all before the keys are used, or the validators are slashed"}
	if len(o.Gaps) > 0 {
		for _, g := range o.Gaps {
			out = append(out, "what was signed isn't known: "+g)
		}
	}
	return out
}

func planCombine(ctx context.Context, action engine.Action) (engine.Plan, error) {
	a := action.(engine.CombineCluster)
	o, err := combine.Plan(ctx, combineParams(a), combineDoors(nil))
	if err != nil {
		return engine.Plan{}, combineProblem(a, err)
	}
	p := engine.Plan{
		Title: "make " + combineTitle(o),
		Steps: []engine.Step{
			{Name: "open", Text: "open the shares of " + fmt.Sprint(len(o.Nodes)) + " nodes and put each key together; compare it with the lock"},
			{Name: "history", Text: "take the highest of what the nodes signed, as an EIP-3076 file"},
			{Name: "rename", Text: "put all at " + o.Dir + " in one step"},
		},
		Targets: o.Nodes, Warnings: combineWarnings(o), Files: combineFiles(o), Consent: engine.Consent{Level: "none"},
		Irreversible: []string{"keys that were whole once must be taken for whole ever after"},
	}
	if len(o.Gaps) > 0 {
		p.Steps[1].Text = "take what is known of what the nodes signed, which is not all"
	}
	return p, nil
}

func runCombine(ctx context.Context, action engine.Action, at *act.Act) (engine.Receipt, error) {
	a := action.(engine.CombineCluster)
	at.SetStep("open")
	pace := newPace()
	o, err := combine.Run(ctx, combineParams(a), combineDoors(func(done, total int, what string) { at.Text(pace.text(done, total, what)) }))
	if err != nil {
		return engine.Receipt{}, combineProblem(a, err)
	}
	at.SetStep("rename")
	r := engine.Receipt{Done: true, Title: "made " + combineTitle(o), Targets: []string{o.Dir}, Files: combineFiles(o),
		Facts: []engine.Fact{{Name: "directory", Value: o.Dir}, {Name: "lock hash", Value: o.LockHash.String()}}}
	for i, v := range o.Validators {
		r.Facts = append(r.Facts, engine.Fact{Name: fmt.Sprintf("validator %d", i), Value: v.String()})
	}
	for _, w := range combineWarnings(o) {
		r.Notes = append(r.Notes, "warning: "+w)
	}
	switch {
	case len(o.Gaps) == 0:
		r.Notes = append(r.Notes, "import "+filepath.Join(o.Dir, combine.HistoryName)+" into the new validator client before or with the keys")
	case o.History != nil:
		r.Notes = append(r.Notes, filepath.Join(o.Dir, combine.PartHistoryName)+" has what is known; it does not protect from all that was signed: let the keys rest for two epochs that were finalized, at least")
	default:
		r.Notes = append(r.Notes, "there is no slashing protection for these keys: let them rest for two epochs that were finalized, at least")
	}
	for _, w := range o.Wiped {
		r.Notes = append(r.Notes, "wiped what a killed run had left at "+w)
	}
	return r, nil
}

func combineProblem(a engine.Action, err error) *engine.Problem {
	p := engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: a.Doing()}
	var e *combine.Error
	if !errors.As(err, &e) {
		return p.Because(err)
	}
	p.Field, p.Remedy, p.Cause, p.Phrase = e.Field, e.Remedy, causeAt(e.Path, e.Field, e.Err), e.Phrase
	switch e.Code {
	case combine.CodeParams, combine.CodeForeign:
		p.Code, p.Exit = engine.CodeUsage, engine.ExitUsage
	case combine.CodeExists:
		p.Code, p.Exit = engine.CodeClusterExists, engine.ExitRefused
	case combine.CodeFew:
		p.Code, p.Exit = engine.CodeSharesFew, engine.ExitRefused
	case combine.CodeHistory:
		p.Code, p.Exit = engine.CodeNoHistory, engine.ExitRefused
		if e.Phrase != "" { // otherwise other directories help
			p.Field = "no-slashing-history"
		}
	case combine.CodeRunning:
		p.Code, p.Exit = engine.FindKeyInUse, engine.ExitNotAllowed
	case combine.CodeMoved:
		p.Code, p.Exit = engine.FindNodeMoved, engine.ExitNotAllowed
	case combine.CodeBroken:
		p.Code, p.Exit = engine.CodeClusterBroken, engine.ExitPartly
	case combine.CodeUnread:
		p.Code, p.Exit = engine.CodeUsage, engine.ExitUsage
	case combine.CodeRights:
		p.Code, p.Exit = engine.CodeDirUnwritable, engine.ExitNotAllowed
	case combine.CodeNoSpace:
		p.Code = engine.CodeNoSpace
	case combine.CodeCancelled:
		p.Exit = engine.ExitInterrupt
	}
	notOwner(&p, err)
	switch e.Code {
	case combine.CodeParams, combine.CodeForeign, combine.CodeFew, combine.CodeHistory, combine.CodeRunning, combine.CodeMoved, combine.CodeBroken, combine.CodeUnread:
		if a, ok := a.(engine.CombineCluster); ok && (p.Field == "" || p.Field == "cluster-dir") { // which nodes there are is said in one of two places
			if p.Field = "cluster-dir"; len(a.Dirs) > 0 {
				p.Field = "dirs"
			}
		}
	}
	return p.Because(err)
}

// notOwner says of what may not be read that it may not, and not that the wrong thing was named.
func notOwner(p *engine.Problem, err error) {
	if p.Exit == engine.ExitUsage && errors.Is(err, fs.ErrPermission) {
		p.Code, p.Exit, p.Remedy = engine.CodeDenied, engine.ExitNotAllowed, "run this as the owner of the files"
	}
}

// causeAt is the cause with its flag or path in front.
func causeAt(path, field string, err error) string {
	s := err.Error()
	if path != "" {
		s = path + ": " + s
	}
	if field != "" {
		s = "--" + field + ": " + s
	}
	return s
}

func packDoors(progress func(string)) pack.Options {
	return pack.Options{
		Verify: verifyAll,
		CopyProtection: func(ctx context.Context, from, to string) error {
			err := guard.Copy(ctx, from, to)
			var e *guard.Error
			if errors.As(err, &e) && e.Code == guard.CodeMissing {
				return fmt.Errorf("%w: %w", pack.ErrNoProtection, err)
			}
			return err
		},
		ReadProtection: func(dir string) (cluster.Root, error) {
			c, err := guard.Read(dir)
			return c.GenesisValidatorsRoot, err
		},
		Program: program(), Progress: progress,
	}
}

// program is what stands in manifests: provost and its version, where the build knows it.
func program() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return "provost " + info.Main.Version
	}
	return "provost"
}

func exportParams(a engine.ExportNode) pack.ExportParams {
	return pack.ExportParams{Dir: a.Dir, Out: a.Out, Backup: a.Backup, Seal: pack.Seal{Recipients: a.Recipients, PassphraseFile: a.PassphraseFile}}
}

// who names a node as an operator knows it.
func who(m pack.Manifest) string {
	s := fmt.Sprintf("node %d of %d", m.Node, m.Nodes)
	if m.Cluster != "" {
		s += " of " + m.Cluster
	}
	return s
}

func exportNotes(e pack.Exported) (warnings, notes []string) {
	if !e.Manifest.Protected {
		warnings = append(warnings, "there is no slashing protection in the directory, as of a node that never ran: if another program signed with these keys, take its EIP-3076 export along")
	}
	if len(e.LeftOut) > 0 {
		shown := e.LeftOut
		if len(shown) > 8 {
			shown = append(append([]string(nil), shown[:8]...), fmt.Sprintf("%d more", len(shown)-8))
		}
		notes = append(notes, fmt.Sprintf("left out, as no part of a node: %v", shown))
	}
	return warnings, notes
}

func planExport(_ context.Context, action engine.Action) (engine.Plan, error) {
	a := action.(engine.ExportNode)
	e, err := pack.PlanExport(exportParams(a))
	if err != nil {
		return engine.Plan{}, packProblem(a, err)
	}
	if err := secretThere(a, "passphrase-file", a.PassphraseFile); err != nil {
		return engine.Plan{}, err
	}
	p := engine.Plan{
		Title:   fmt.Sprintf("seal %s (%s) to move it", who(e.Manifest), e.Dir),
		Steps:   []engine.Step{{Name: "check", Text: "make every check of the node's files, keystores opened"}, {Name: "copy", Text: "take one whole state of slashing protection"}, {Name: "seal", Text: fmt.Sprintf("seal %s and read the result back", count(len(e.Manifest.Files), "file"))}},
		Targets: []string{e.Dir}, Files: []engine.PlannedFile{{Path: e.Out, Mode: "0600"}}, Consent: engine.Consent{Level: "none"},
	}
	if a.Backup {
		p.Title = fmt.Sprintf("seal a copy of %s (%s)", who(e.Manifest), e.Dir)
	} else {
		p.Steps = append(p.Steps, engine.Step{Name: "note", Text: "leave a note in the directory that keeps the node from running there; then put the file in place"})
		p.Files = append(p.Files, engine.PlannedFile{Path: filepath.Join(e.Dir, provostDir, "fence.json"), Mode: "0600"})
		p.Irreversible = []string{"the node never runs at " + e.Dir + " again: only where the file is imported"}
	}
	p.Warnings, p.Notes = exportNotes(e)
	return p, nil
}

func runExport(ctx context.Context, action engine.Action, at *act.Act) (engine.Receipt, error) {
	a := action.(engine.ExportNode)
	at.SetStep("check")
	doors := packDoors(at.Text)
	if a.Backup { // the node may be signing on the other cores
		doors.Verify = func(ctx context.Context, dir string) error { return verifyOn(ctx, dir, 1) }
	}
	e, err := pack.Export(ctx, exportParams(a), doors)
	if err != nil {
		return engine.Receipt{}, packProblem(a, err)
	}
	r := engine.Receipt{Done: true, Title: fmt.Sprintf("sealed %s to move it", who(e.Manifest)), Targets: []string{e.Out}, Files: []engine.PlannedFile{{Path: e.Out, Mode: "0600"}},
		Facts: []engine.Fact{{Name: "file", Value: e.Out}, {Name: "size in bytes", Value: fmt.Sprint(e.Bytes)}, {Name: "sha256", Value: e.SHA256}, {Name: "lock hash", Value: e.Manifest.LockHash.String()}}}
	warnings, notes := exportNotes(e)
	for _, w := range warnings {
		r.Notes = append(r.Notes, "warning: "+w)
	}
	r.Notes = append(r.Notes, notes...)
	if a.Backup {
		r.Title = "sealed a copy of " + who(e.Manifest)
		r.Notes = append(r.Notes, "test it: "+engine.ShellLine([]string{"provost", "node", "import", e.Out, "--check"}), "a node that is restored from it waits two epochs, since what it signs from now on isn't in it")
	} else {
		r.Notes = append(r.Notes, "go on with: "+engine.ShellLine([]string{"provost", "node", "import", e.Out, "--data-dir=DIR"}), "import it once, within an hour; later, or a second time, the node waits two epochs",
			"the node does not run at "+e.Dir+" any more; Charon does not know the note that keeps it from it, so once the node signs at its new place, remove the keys there")
	}
	return r, nil
}

func runImport(ctx context.Context, action engine.Action, at *act.Act) (engine.Receipt, error) {
	a := action.(engine.ImportNode)
	at.SetStep("unseal")
	i, err := pack.Import(ctx, importParams(a), packDoors(at.Text))
	if err != nil {
		return engine.Receipt{}, packProblem(a, err)
	}
	m := i.Manifest
	r := engine.Receipt{Done: true, Facts: []engine.Fact{{Name: "kind", Value: string(m.Kind)}, {Name: "made", Value: m.Made.UTC().Format(time.RFC3339)}, {Name: "lock hash", Value: m.LockHash.String()}, {Name: "files", Value: fmt.Sprint(len(m.Files))},
		{Name: "slashing protection", Value: map[bool]string{true: "yes", false: "none"}[m.Protected]}}}
	if a.Check {
		r.Title, r.Targets = fmt.Sprintf("%s can be restored from %s", who(m), a.File), []string{a.File}
	} else {
		r.Title, r.Targets = fmt.Sprintf("%s is at %s", who(m), i.Dir), []string{i.Dir}
		r.Files = []engine.PlannedFile{{Path: i.Dir + string(filepath.Separator), Mode: "0700"}}
		r.Notes = append(r.Notes, "run it: "+engine.ShellLine([]string{"provost", "up", "--data-dir=" + i.Dir, "--beacon-node-endpoints=URL"}))
	}
	if i.Waits != "" {
		r.Notes = append(r.Notes, "at its first start it signs nothing until two epochs have begun: "+i.Waits)
	}
	if !m.Protected && i.Waits == "" {
		r.Notes = append(r.Notes, "warning: it came without slashing protection: at its first start it waits two epochs, unless --keys-never-signed says that no program ever signed with these keys")
	}
	for _, w := range i.Wiped {
		r.Notes = append(r.Notes, "wiped what a killed run had left at "+w)
	}
	return r, nil
}

func packProblem(a engine.Action, err error) *engine.Problem {
	p := engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: a.Doing()}
	var e *pack.Error
	if !errors.As(err, &e) {
		return p.Because(err)
	}
	p.Field, p.Remedy, p.Cause = e.Field, e.Remedy, causeAt(e.Path, e.Field, e.Err)
	switch e.Code {
	case pack.CodeParams, pack.CodeUnread:
		p.Code, p.Exit = engine.CodeUsage, engine.ExitUsage
	case pack.CodeExists:
		p.Code, p.Exit = engine.CodeClusterExists, engine.ExitRefused
	case pack.CodeRunning:
		p.Code, p.Exit = engine.FindKeyInUse, engine.ExitNotAllowed
	case pack.CodeMoved:
		p.Code, p.Exit = engine.FindNodeMoved, engine.ExitNotAllowed
	case pack.CodeUnprotected:
		p.Code, p.Exit = engine.FindGuardRefused, engine.ExitRefused
	case pack.CodeBroken:
		p.Code, p.Exit = engine.CodeClusterBroken, engine.ExitPartly
	case pack.CodeArchive, pack.CodeNotForYou, pack.CodeNewer:
		p.Code, p.Exit = engine.CodeArchiveBroken, engine.ExitRefused
	case pack.CodeRights:
		p.Code, p.Exit = engine.CodeDirUnwritable, engine.ExitNotAllowed
	case pack.CodeNoSpace:
		p.Code = engine.CodeNoSpace
	case pack.CodeCancelled:
		p.Exit = engine.ExitInterrupt
	}
	notOwner(&p, err)
	if p.Field == "" { // what stands in the way lies in what is packed or unpacked
		switch e.Code {
		case pack.CodeParams, pack.CodeUnread, pack.CodeRunning, pack.CodeMoved, pack.CodeUnprotected, pack.CodeBroken, pack.CodeArchive, pack.CodeNewer:
			p.Field = "dir"
			if a.Kind() == engine.KindImportNode {
				p.Field = "file"
			}
		}
	}
	return p.Because(err)
}

// secretThere refuses a file with a secret that is not there, before anything is done. What is in it is
// read later.
func secretThere(a engine.Action, field, path string) error {
	if path == "" {
		return nil
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		err = errors.New("it is a directory")
	}
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: a.Doing(), Field: field, Cause: causeAt(path, field, err), Remedy: "name a file that you can read"}.Because(err)
}

func importParams(a engine.ImportNode) pack.ImportParams {
	return pack.ImportParams{File: a.File, Dir: a.Dir, Check: a.Check, Key: pack.Key{IdentityFile: a.IdentityFile, PassphraseFile: a.PassphraseFile}}
}

func planImport(_ context.Context, action engine.Action) (engine.Plan, error) {
	a := action.(engine.ImportNode)
	dir, err := pack.PlanImport(importParams(a))
	if err != nil {
		return engine.Plan{}, packProblem(a, err)
	}
	for field, path := range map[string]string{"passphrase-file": a.PassphraseFile, "identity-file": a.IdentityFile} { // one of them is given
		if err := secretThere(a, field, path); err != nil {
			return engine.Plan{}, err
		}
	}
	p := engine.Plan{
		Title: "unseal " + a.File + " into " + dir, Targets: []string{dir}, Consent: engine.Consent{Level: "none"},
		Steps: []engine.Step{{Name: "unseal", Text: "open the file and check names, sizes and hashes of what is in it"}, {Name: "check", Text: "make every check of the node's files, keystores and slashing protection opened"}},
	}
	if a.Check {
		p.Title, p.Targets = "unseal "+a.File+" to check it", []string{a.File}
		p.Steps = append(p.Steps, engine.Step{Name: "wipe", Text: "overwrite and remove what was unsealed"})
		return p, nil
	}
	p.Steps = append(p.Steps, engine.Step{Name: "rename", Text: "put it at " + dir + " in one step"})
	p.Files = []engine.PlannedFile{{Path: dir + string(filepath.Separator), Mode: fmt.Sprintf("%04o", fs.FileMode(0o700))}}
	return p, nil
}
