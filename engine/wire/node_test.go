package wire

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"app.provost/cluster/combine"
	"app.provost/cluster/create"
	"app.provost/cluster/pack"
	"app.provost/engine"
	"app.provost/engine/act"
)

// nodes makes a practice cluster of four nodes that never ran.
func nodesOf(t *testing.T) string {
	t.Helper()
	p := create.Defaults()
	p.Dir, p.Nodes, p.Network, p.InsecureKeys = filepath.Join(t.TempDir(), "c"), 4, "hoodi", true
	p.WithdrawalAddresses = []string{"0x000000000000000000000000000000000000dead"}
	p.FeeRecipientAddresses = p.WithdrawalAddresses
	if _, err := create.Run(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	return p.Dir
}

// preview asks as a face does.
func preview(ctx context.Context, a engine.Action) (engine.Plan, error) {
	p, err := clusterVerbs()[a.Kind()].Plan(ctx, act.Ask{Action: a})
	if err != nil {
		return p, err
	}
	return p.Seal(a)
}

// Every wrong value is told with its flag before anything is done, and what is right comes with its
// files and what can't be undone.
func TestNodeVerbsPreview(t *testing.T) {
	dir := nodesOf(t)
	out := filepath.Join(t.TempDir(), "x")
	taken := t.TempDir()
	if err := os.WriteFile(filepath.Join(taken, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const age = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN operator"
	node := func(n string) string { return filepath.Join(dir, n) }
	for name, c := range map[string]struct {
		a     engine.Action
		field string
		code  engine.Code
		exit  engine.ExitCode
	}{
		"combine, no directory":      {engine.CombineCluster{OutputDir: out}, "cluster-dir", engine.CodeUsage, engine.ExitUsage},
		"combine, no such directory": {engine.CombineCluster{ClusterDir: "/nowhere", OutputDir: out}, "cluster-dir", engine.CodeUsage, engine.ExitUsage},
		"combine, nothing in it":     {engine.CombineCluster{ClusterDir: taken, OutputDir: out}, "cluster-dir", engine.CodeUsage, engine.ExitUsage},
		"combine, target taken":      {engine.CombineCluster{ClusterDir: dir, OutputDir: taken}, "output-dir", engine.CodeClusterExists, engine.ExitRefused},
		"combine, too few":           {engine.CombineCluster{Dirs: []string{node("node0"), node("node1")}, OutputDir: out}, "dirs", engine.CodeSharesFew, engine.ExitRefused},
		"combine, no history":        {engine.CombineCluster{ClusterDir: dir, OutputDir: out}, "no-slashing-history", engine.CodeNoHistory, engine.ExitRefused},
		"combine, wrong sentence":    {engine.CombineCluster{ClusterDir: dir, OutputDir: out, NoSlashingHistory: "yes"}, "no-slashing-history", engine.CodeUsage, engine.ExitUsage},
		"combine, no such node":      {engine.CombineCluster{Dirs: []string{"/nowhere"}, OutputDir: out}, "dirs", engine.CodeUsage, engine.ExitUsage},
		"export, no node":            {engine.ExportNode{Dir: taken, Out: out, Recipients: []string{age}}, "dir", engine.CodeUsage, engine.ExitUsage},
		"export, file taken":         {engine.ExportNode{Dir: node("node0"), Out: filepath.Join(taken, "x"), Recipients: []string{age}}, "out", engine.CodeClusterExists, engine.ExitRefused},
		"export, for nobody":         {engine.ExportNode{Dir: node("node0"), Out: out}, "recipient", engine.CodeUsage, engine.ExitUsage},
		"export, for whom":           {engine.ExportNode{Dir: node("node0"), Out: out, Recipients: []string{"age1"}}, "recipient", engine.CodeUsage, engine.ExitUsage},
		"export, no passphrase":      {engine.ExportNode{Dir: node("node0"), Out: out, PassphraseFile: "/nowhere"}, "passphrase-file", engine.CodeUsage, engine.ExitUsage},
		"import, no identity":        {engine.ImportNode{File: filepath.Join(taken, "x"), Dir: out, IdentityFile: "/nowhere"}, "identity-file", engine.CodeUsage, engine.ExitUsage},
		"import, passphrase":         {engine.ImportNode{File: filepath.Join(taken, "x"), Check: true, PassphraseFile: taken}, "passphrase-file", engine.CodeUsage, engine.ExitUsage},
		"import, no file":            {engine.ImportNode{File: "/nowhere", Dir: out, IdentityFile: "/k"}, "file", engine.CodeUsage, engine.ExitUsage},
		"import, no key":             {engine.ImportNode{File: filepath.Join(taken, "x"), Dir: out}, "identity-file", engine.CodeUsage, engine.ExitUsage},
		"import, target taken":       {engine.ImportNode{File: filepath.Join(taken, "x"), Dir: taken, IdentityFile: "/k"}, "data-dir", engine.CodeClusterExists, engine.ExitRefused},
	} {
		_, err := preview(t.Context(), c.a)
		var p *engine.Problem
		if !errors.As(err, &p) || p.Field != c.field || p.Code != c.code || p.Exit != c.exit || p.Cause == "" || p.Doing != c.a.Doing() {
			t.Errorf("%s: %+v", name, err)
		}
	}
	plan, err := preview(t.Context(), engine.ExportNode{Dir: node("node0"), Out: out, Recipients: []string{age}})
	if err != nil || len(plan.Irreversible) == 0 || len(plan.Files) != 2 || !strings.HasSuffix(plan.Files[1].Path, "node0/provost/fence.json") || len(plan.Warnings) != 1 {
		t.Errorf("%+v, %v", plan, err)
	}
	plan, err = preview(t.Context(), engine.ExportNode{Dir: node("node0"), Out: out, Backup: true, Recipients: []string{age}})
	if err != nil || len(plan.Irreversible) != 0 || len(plan.Files) != 1 {
		t.Errorf("%+v, %v", plan, err)
	}
}

// The sentence that the refusal names is the one that is taken.
func TestCombineTakesItsOwnSentence(t *testing.T) {
	a := engine.CombineCluster{ClusterDir: nodesOf(t), OutputDir: filepath.Join(t.TempDir(), "keys")}
	_, err := preview(t.Context(), a)
	var p *engine.Problem
	if !errors.As(err, &p) {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(p.Remedy, `--no-slashing-history="`)
	a.NoSlashingHistory, _, _ = strings.Cut(rest, `"`)
	if p.Phrase == "" || p.Phrase != a.NoSlashingHistory {
		t.Errorf("the remedy says %q, the problem %q", a.NoSlashingHistory, p.Phrase)
	}
	plan, err := preview(t.Context(), a)
	if err != nil || len(plan.Warnings) < 2 || len(plan.Irreversible) == 0 || len(plan.Files) != 2 {
		t.Fatalf("%q: %+v, %v", a.NoSlashingHistory, plan, err)
	}
	if _, err := os.Lstat(a.OutputDir); err == nil {
		t.Error("planning wrote keys")
	}
	o, err := NewOneShot(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	plan, err = o.Preview(t.Context(), engine.Request{Key: "k", Action: a, Actor: engine.Actor{Via: engine.ViaCLI}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.Do(t.Context(), engine.Request{Key: "k", Action: a, Actor: engine.Actor{Via: engine.ViaCLI}}, plan.Digest)
	if err != nil || !r.Done || len(r.Files) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
}

// Whoever may not read something is told so, with a remedy that the command has.
func TestNotTheOwner(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "/n", Err: fs.ErrPermission}
	for what, p := range map[string]*engine.Problem{
		"combine":   combineProblem(engine.CombineCluster{}, &combine.Error{Code: combine.CodeUnread, Err: denied, Remedy: "name directories of nodes"}),
		"combine 2": combineProblem(engine.CombineCluster{}, &combine.Error{Code: combine.CodeParams, Err: denied, Remedy: "name directories of nodes"}),
		"export":    packProblem(engine.ExportNode{}, &pack.Error{Code: pack.CodeUnread, Err: denied, Remedy: "name the directory of a node"}),
		"verify":    clusterProblem(engine.VerifyCluster{}, &create.Error{Kind: create.KindNotAllowed, Err: denied, Remedy: "choose a --cluster-dir"}),
		"show":      clusterProblem(engine.ShowCluster{}, &create.Error{Kind: create.KindNotAllowed, Err: denied, Remedy: "choose a --cluster-dir"}),
	} {
		if p.Exit != engine.ExitNotAllowed || p.Remedy != "run this as the owner of the files" {
			t.Errorf("%s: exit %d, %v", what, p.Exit, p)
		}
	}
	p := clusterProblem(engine.CreateCluster{}, &create.Error{Kind: create.KindPartly, Err: syscall.ENOSPC})
	if p.Exit != engine.ExitPartly {
		t.Errorf("a cluster was made, exit %d", p.Exit)
	}
	p = clusterProblem(engine.CreateCluster{}, &create.Error{Kind: create.KindNotAllowed, Err: denied, Remedy: "choose a --cluster-dir"})
	if p.Remedy != "choose a --cluster-dir" {
		t.Errorf("%v", p)
	}
}
