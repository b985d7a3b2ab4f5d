package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/create"
	"app.provost/cluster/guard"
	"app.provost/engine"
)

// The two verbs of cluster directories. They need no running part, so the same
// functions serve a running engine and a command on its own.

func createParams(a engine.CreateCluster) create.Params {
	p := create.Params{
		Name: a.Name, Dir: a.Dir, Nodes: a.Nodes, Threshold: a.Threshold, NumValidators: a.NumValidators,
		WithdrawalAddresses: a.WithdrawalAddresses, FeeRecipientAddresses: a.FeeRecipientAddresses, Network: a.Network,
		AllowLowThreshold: a.AllowLowThreshold, DepositAmounts: a.DepositAmounts, Compounding: a.Compounding,
		TargetGasLimit: a.TargetGasLimit, ConsensusProtocol: a.ConsensusProtocol, InsecureKeys: a.InsecureKeys, LockVersion: a.LockVersion,
		TestnetName: a.TestnetName, TestnetForkVersion: a.TestnetForkVersion, TestnetChainID: a.TestnetChainID, TestnetGenesisTimestamp: a.TestnetGenesisTimestamp,
		DefinitionFile: a.DefinitionFile, DefinitionOut: a.DefinitionOut,
		SplitExistingKeys: a.SplitExistingKeys, SplitKeysDir: a.SplitKeysDir, SplitPasswordsFile: a.SplitPasswordsFile,
		SlashingHistory: a.SlashingHistory, NoSlashingHistory: a.NoSlashingHistory,
		KeymanagerAddresses: a.KeymanagerAddresses, KeymanagerTokensFile: a.KeymanagerTokensFile, Zipped: a.Zipped,
		Guard: create.GuardDoor{Read: readHistory, Seed: seedGuard},
	}
	return p
}

// readHistory reads an EIP-3076 file for a creation.
func readHistory(file []byte, root cluster.Root) (map[cluster.PubKey]create.Signed, cluster.Root, error) {
	marks, root, err := guard.ReadInterchange(bytes.NewReader(file), root)
	if err != nil {
		return nil, root, err
	}
	out := make(map[cluster.PubKey]create.Signed, len(marks))
	for k, m := range marks {
		out[k] = create.Signed{HasBlock: m.HasBlock, Slot: m.Slot, HasAttestation: m.HasAttestation, Source: m.Source, Target: m.Target}
	}
	return out, root, nil
}

// seedGuard makes a new node's slashing protection. All keys are fenced as well: whoever exported the
// history may have signed once more since. The node fences them once more when it first starts.
func seedGuard(ctx context.Context, dir string, s create.Seed) (err error) {
	clock, as := s.Network.Clock(), guard.Fenced
	if clock.SlotDuration == 0 {
		// Whatever the slots are, they aren't shorter than this, so no record is taken for one of the future.
		// A fence would stand at a slot that means nothing.
		clock, as = cluster.SlotClock{Genesis: clock.Genesis, SlotDuration: time.Second, SlotsPerEpoch: 1}, guard.Unused
	}
	g, err := guard.Open(guard.Options{Dir: dir, GenesisValidatorsRoot: s.ValidatorsRoot, Clock: clock, Create: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if as == guard.Unused { // the node itself fences what it doesn't know
		s.Keys = slices.DeleteFunc(slices.Clone(s.Keys), func(k cluster.PubKey) bool { _, ok := s.Signed[k]; return !ok })
	}
	if err := g.Register(ctx, s.Keys, as); err != nil {
		return err
	}
	marks := make(map[cluster.PubKey]guard.Marks, len(s.Signed))
	for k, m := range s.Signed {
		marks[k] = guard.Marks{HasBlock: m.HasBlock, Slot: m.Slot, HasAttestation: m.HasAttestation, Source: m.Source, Target: m.Target}
	}
	return g.Raise(ctx, marks)
}

func planCreateCluster(ctx context.Context, a engine.CreateCluster) (engine.Plan, error) {
	pl, err := create.Plan(ctx, createParams(a))
	if err != nil {
		return engine.Plan{}, clusterProblem(a, err)
	}
	p := engine.Plan{
		Title:   fmt.Sprintf("create a cluster of %d nodes, threshold %d, with %s on %s", pl.Nodes, pl.Threshold, count(pl.Validators, "validator"), pl.Network),
		Steps:   clusterSteps(a, pl),
		Targets: []string{pl.Dir}, Warnings: pl.Warnings, Notes: pl.Notes, Irreversible: pl.Irreversible,
		Consent: engine.Consent{Level: "none"}, // with all flags given a command asks nothing
	}
	if a.DefinitionOut != "" {
		p.Targets = append(p.Targets, a.DefinitionOut)
	}
	if pl.Definition != nil {
		p.Effects = append(p.Effects, engine.Effect{What: effectDefinition, Now: a.DefinitionFile, After: pl.Definition.String()})
	}
	for i, src := range pl.Sources {
		p.Effects = append(p.Effects, engine.Effect{What: fmt.Sprintf("validator %d", i), Now: src.File, After: src.PubKey.String()})
	}
	for _, l := range pl.Leftovers {
		p.Warnings = append(p.Warnings, "what a killed run left at "+l+" will be wiped")
	}
	p.Files = plannedFiles(pl.Files)
	return p, nil
}

// effectDefinition is the effect of a plan that holds the config hash of its definition file.
const effectDefinition = "definition"

// clusterSteps are what a creation does, in order. Their names are those of stepOf.
func clusterSteps(a engine.CreateCluster, pl create.PlanResult) []engine.Step {
	keys := "make validator keys, split them, write everything into a directory beside the target"
	var steps []engine.Step
	add := func(name, text string) { steps = append(steps, engine.Step{Name: name, Text: text}) }
	if pl.Definition != nil {
		add("definition", fmt.Sprintf("take the definition with config hash %s from %s", pl.Definition, a.DefinitionFile))
	}
	if len(a.KeymanagerAddresses) > 0 {
		add("reach", "ask each keymanager whether it is there and takes its token: "+strings.Join(a.KeymanagerAddresses, ", "))
	}
	if a.SplitExistingKeys {
		// The order decides which address a validator gets, so it is part of what is agreed to.
		order := sha256.New()
		for _, src := range pl.Sources {
			order.Write(src.PubKey[:])
		}
		add("open", fmt.Sprintf("open %s in %s (these keys in this order: %x)", count(pl.Validators, "keystore"), a.SplitKeysDir, order.Sum(nil)[:4]))
		keys = "split the keys, write everything into a directory beside the target"
	}
	add("keys", keys)
	add("verify", "read it back and check every hash, signature, key, share and deposit")
	if a.Zipped {
		add("pack", "pack the node directories into one archive and wipe them")
	}
	if len(a.KeymanagerAddresses) > 0 {
		add("hand over", "give each keymanager its key shares; if one fails, take back what the others got")
	}
	add("rename", "put it at "+pl.Dir+" in one step")
	if a.DefinitionOut != "" {
		add("write definition", "write the definition to "+a.DefinitionOut)
	}
	return steps
}

// stepOf maps what a creation says that it does to a step of its plan.
func stepOf(what string) string {
	switch what {
	case "opening keystores":
		return "open"
	case "encrypting key shares":
		return "keys"
	case "written", "checked":
		return "verify"
	case "packed":
		return "pack"
	case "handing over key shares":
		return "hand over"
	}
	return ""
}

func plannedFiles(files []create.PlannedFile) []engine.PlannedFile {
	var out []engine.PlannedFile
	for _, f := range files {
		path := f.Path
		if f.Mode&fs.ModeDir != 0 {
			path += "/"
		}
		out = append(out, engine.PlannedFile{Path: path, Mode: fmt.Sprintf("%04o", f.Mode.Perm())})
	}
	return out
}

func runCreateCluster(ctx context.Context, a engine.CreateCluster, plan engine.Plan, progress func(done, total int, what string)) (engine.Receipt, error) {
	params := createParams(a)
	for _, e := range plan.Effects {
		if e.What == effectDefinition {
			params.DefinitionHash = e.After // a server may answer differently by now
		}
	}
	res, err := create.Run(ctx, params, progress)
	if err != nil {
		return engine.Receipt{}, clusterProblem(a, err)
	}
	r := engine.Receipt{Done: true, Targets: []string{res.Dir}, Files: plannedFiles(res.Files)}
	r.Title = fmt.Sprintf("created a cluster of %d nodes, threshold %d, with %s on %s", res.Nodes, res.Threshold, count(len(res.Validators), "validator"), res.Network)
	r.Facts = []engine.Fact{{Name: "directory", Value: res.Dir}, {Name: "lock hash", Value: res.LockHash.String()}}
	for i, v := range res.Validators {
		value := v.String()
		if i < len(res.Sources) {
			value += " from " + res.Sources[i].File
		}
		r.Facts = append(r.Facts, engine.Fact{Name: fmt.Sprintf("validator %d", i), Value: value})
	}
	for n, address := range a.KeymanagerAddresses {
		r.Facts = append(r.Facts, engine.Fact{Name: fmt.Sprintf("node %d", n), Value: fmt.Sprintf("%s taken by %s", count(len(res.Validators), "key share"), address)})
	}
	if a.DefinitionOut != "" {
		r.Facts = append(r.Facts, engine.Fact{Name: "definition", Value: a.DefinitionOut})
	}
	for _, w := range res.Warnings {
		r.Notes = append(r.Notes, "warning: "+w)
	}
	r.Notes = append(r.Notes, res.Notes...)
	for _, w := range res.Wiped {
		r.Notes = append(r.Notes, "wiped what a killed run had left at "+w)
	}
	return r, nil
}

func planVerifyCluster(a engine.VerifyCluster) (engine.Plan, error) {
	return engine.Plan{
		Title: "verify " + a.Dir, ReadOnly: true, Targets: []string{a.Dir}, Consent: engine.Consent{Level: "none"},
		Steps: []engine.Step{{Name: "verify", Text: "read every file and check every hash, signature, key, share and deposit; change nothing"}},
	}, nil
}

// runVerifyCluster gives a receipt with every check. A failed check is not an error
// of the act: it is what the act found out.
func runVerifyCluster(ctx context.Context, a engine.VerifyCluster) (engine.Receipt, error) {
	rep, err := create.Verify(ctx, a.Dir, create.Options{})
	if err != nil {
		return engine.Receipt{}, clusterProblem(a, err)
	}
	r := engine.Receipt{Done: true, Targets: []string{rep.Path}}
	for _, c := range rep.Checks {
		text := c.What
		if c.Problem != "" {
			text += ": " + c.Problem
		}
		r.Checks = append(r.Checks, engine.Check{Name: c.ID, Status: string(c.Status), File: c.File, Field: c.Field, Text: text, Remedy: c.Remedy})
	}
	for _, f := range rep.Findings {
		r.Checks = append(r.Checks, engine.Check{Name: f.ID, Status: "warned", File: f.File, Text: f.Problem, Remedy: f.Remedy})
	}
	for _, f := range rep.NotProtected {
		r.Notes = append(r.Notes, fmt.Sprintf("not protected: %s of %s: %s", strings.Join(f.Fields, ", "), f.File, f.Why))
	}
	r.Title = fmt.Sprintf("%s: %d checks passed, %d failed, %d skipped", rep.Path, rep.Passed, rep.Failed, rep.Skipped)
	fact := func(name, value string) {
		if value != "" {
			r.Facts = append(r.Facts, engine.Fact{Name: name, Value: value})
		}
	}
	fact("scope", string(rep.Scope))
	fact("name", rep.Name)
	if rep.Network != nil {
		fact("network", *rep.Network)
	}
	fact("version", rep.Version)
	if rep.LockHash != nil {
		fact("lock hash", rep.LockHash.String())
	}
	for _, n := range []struct {
		name string
		v    *int
	}{{"nodes", rep.Nodes}, {"threshold", rep.Threshold}, {"validators", rep.Validators}} {
		if n.v != nil {
			fact(n.name, fmt.Sprint(*n.v))
		}
	}
	return r, nil
}

// clusterProblem turns an error of cluster/create into what an operator is told.
func clusterProblem(a engine.Action, err error) *engine.Problem {
	p := engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: a.Doing()}
	var ps *create.ProblemsError
	if errors.As(err, &ps) {
		var all []engine.Problem
		for _, one := range ps.Problems {
			all = append(all, engine.Problem{Code: engine.CodeClusterParams, Exit: engine.ExitUsage, Doing: a.Doing(),
				Field: one.Field, Cause: "--" + one.Field + ": " + one.Cause, Remedy: one.Remedy})
		}
		first := all[0]
		first.More = all[1:]
		return first.Because(err)
	}
	switch create.KindOf(err) {
	case create.KindUsage:
		p.Code, p.Exit = engine.CodeClusterParams, engine.ExitUsage
	case create.KindExists:
		p.Code, p.Exit = engine.CodeClusterExists, engine.ExitRefused
	case create.KindNotAllowed:
		p.Code, p.Exit = engine.CodeDirUnwritable, engine.ExitNotAllowed
	case create.KindNoSpace:
		p.Code = engine.CodeNoSpace
	case create.KindPartly:
		p.Exit = engine.ExitPartly
	case create.KindCancelled:
		p.Exit = engine.ExitInterrupt
	}
	if p.Code == engine.CodeUnexpected && p.Exit == engine.ExitUnexpected && errors.As(err, new(syscall.Errno)) {
		switch a.(type) {
		case engine.VerifyCluster, engine.ShowCluster:
			p.Code, p.Exit, p.Remedy = engine.CodeUsage, engine.ExitUsage, "name a cluster, a node directory, a lock or a definition that you can read"
		case engine.CreateCluster:
			p.Code, p.Exit, p.Remedy = engine.CodeDirUnwritable, engine.ExitNotAllowed, "name another directory with --cluster-dir"
		}
	}
	var e *create.Error
	if errors.As(err, &e) {
		p.Cause = e.Err.Error()
		if e.Remedy != "" {
			p.Remedy = e.Remedy
		}
		switch a.(type) {
		case engine.VerifyCluster, engine.ShowCluster: // nothing is written that could be put elsewhere
			if e.Kind == create.KindNotAllowed {
				p.Remedy = "run this as the owner of the files"
			}
		}
		if e.Path != "" && !strings.Contains(p.Cause, e.Path) {
			p.Cause = e.Path + ": " + p.Cause
		}
	}
	return p.Because(err)
}

// count is "1 validator", "2 validators".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
