package cli

import (
	"context"
	"io"
	"regexp"
	"strings"
	"testing"

	"app.provost/engine"
	"app.provost/prover/fit"
)

// nativePlan is everything that a plan of the native profile writes.
func nativePlan(t *testing.T) ([]fit.File, fit.Layout) {
	t.Helper()
	l, err := fit.Plan(nil, fit.Params{Name: "farm-2", Profile: fit.Native(), Machines: []fit.Machine{
		{Name: "m01", Address: "10.0.0.1", Threads: 64, RAM: 256 * fit.GiB}, {Name: "m02", Address: "10.0.0.2", Cores: 2, RAM: 16 * fit.GiB}}})
	if err != nil {
		t.Fatal(err)
	}
	files, err := fit.Render(&l, fit.NativeAdapter(l.Name, fit.NativePaths{Binary: "/usr/local/bin/provost", User: "prover"}))
	if err != nil {
		t.Fatal(err)
	}
	return files, l
}

var commandLine = regexp.MustCompile(`(?:^|[ /=])provost ([a-z].*)$`)

// TestPlannedCommands: every command line of ours that a plan writes is one that this program takes.
func TestPlannedCommands(t *testing.T) {
	files, l := nativePlan(t)
	seen := map[string]bool{}
	for _, f := range files {
		text := strings.ReplaceAll(string(f.Body), "\n  ", " ") // lists are wrapped
		for line := range strings.SplitSeq(text, "\n") {
			m := commandLine.FindStringSubmatch(line)
			if m == nil || strings.HasPrefix(line, "#") {
				continue
			}
			args := strings.Fields(m[1])
			if args[0] == "create" && len(args) > 3 { // words of a sentence follow
				args = []string{"create", "workers", "--dir=/d"}
			}
			seen[args[0]] = true
			checkFlags(t, f.Path, args)
		}
	}
	for _, want := range []string{"up", "attach", "submit", "config", "create"} {
		if !seen[want] {
			t.Errorf("no file has provost %s: %v", want, seen)
		}
	}
	// And what starts is the engine with the workers of the plan.
	for _, r := range l.Rows {
		var got UpOptions
		d := scene("none")
		d.Up = func(_ context.Context, o UpOptions) error { got = o; return nil }
		d.Env = []string{"HOME=" + t.TempDir()}
		d.Stdout, d.Stderr = io.Discard, io.Discard
		if code := Run(t.Context(), d, fit.NativeArgs(l.Name, r.Workers)); code != engine.ExitOK {
			t.Fatalf("%q: exit %d", fit.NativeArgs(l.Name, r.Workers), code)
		}
		if got.Mode != UpHeadless || got.Config.Workers != r.Workers || got.Config.Name != l.Name || got.Config.StateDir != "/var/lib/provost/farm-2" {
			t.Errorf("%s starts %+v", r.Machine.Name, got.Config)
		}
	}
}

// checkFlags finds the command and reads its flags.
func checkFlags(t *testing.T, where string, args []string) {
	t.Helper()
	a := newApp(scene("none"))
	defer close(a.over)
	cmd, rest, err := a.tree().Find(args)
	if err != nil || cmd == nil || !cmd.HasParent() || cmd.HasSubCommands() {
		t.Errorf("%s: there is no command %q: %v", where, args, err)
		return
	}
	left := cmd
	if err := left.ParseFlags(rest); err != nil {
		t.Errorf("%s: %q: %v", where, args, err)
	}
	if more := left.Flags().Args(); len(more) > 0 {
		t.Errorf("%s: %q: nobody takes %q", where, args, more)
	}
}

// TestNativeLimit: the most workers that a machine may get is what the configuration takes.
func TestNativeLimit(t *testing.T) {
	d := scene("none")
	d.Env = []string{"HOME=" + t.TempDir()}
	d.Stdout, d.Stderr = io.Discard, io.Discard
	d.Up = func(context.Context, UpOptions) error { return nil }
	most := fit.Native().MaxPerMachine
	if code := Run(t.Context(), d, fit.NativeArgs("x", most)); code != engine.ExitOK {
		t.Errorf("%d workers: exit %d", most, code)
	}
	if code := Run(t.Context(), d, fit.NativeArgs("x", most+1)); code != engine.ExitUsage {
		t.Errorf("%d workers: exit %d", most+1, code)
	}
}
