package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app.provost/engine"
)

// lone is an engine of one command whose act ends only when its caller does, and then as said.
type lone struct {
	engine.Engine
	began func()
	end   error
	did   engine.Action
}

func (l *lone) Preview(_ context.Context, r engine.Request) (engine.Plan, error) {
	return engine.Plan{Title: "x", Consent: engine.Consent{Level: "none"}}.Seal(r.Action)
}

func (l *lone) Do(ctx context.Context, r engine.Request, _ engine.Digest) (engine.Receipt, error) {
	l.did = r.Action
	if l.began == nil {
		return engine.Receipt{Done: true}, nil
	}
	l.began()
	<-ctx.Done()
	return engine.Receipt{}, l.end
}

// What a command left somewhere is said also when it was ended in the middle, and nobody is sent
// to an engine that does not run.
func TestEndedAlone(t *testing.T) {
	left := &engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitPartly, Doing: "create cluster", Cause: "2 key shares could not be taken back", Remedy: "delete them"}
	clean := &engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitInterrupt, Doing: "create cluster", Cause: "context canceled", Remedy: "nothing was left behind"}
	for what, c := range map[string]struct {
		cause error
		end   error
		code  engine.ExitCode
		says  string
	}{
		"interrupted, something left": {ErrInterrupted, left, engine.ExitPartly, "could not be taken back"},
		"interrupted":                 {ErrInterrupted, context.Canceled, engine.ExitInterrupt, ""},
		"interrupted, nothing left":   {ErrInterrupted, clean, engine.ExitInterrupt, "create cluster: interrupted; nothing was left behind"},
		"terminated, nothing left":    {ErrTerminated, clean, engine.ExitTerminated, "create cluster: ended; nothing was left behind"},
		"too slow, something left":    {nil, left, engine.ExitPartly, "could not be taken back"},
		"too slow":                    {nil, context.DeadlineExceeded, engine.ExitTimeout, "timed out after 20ms; it was ended and nothing goes on"},
	} {
		ctx, stop := context.WithCancelCause(t.Context())
		args := []string{"create", "cluster", "--nodes=4", "--withdrawal-addresses=0x1", "--fee-recipient-addresses=0x1"}
		o := &lone{end: c.end, began: func() { stop(c.cause) }}
		if c.cause == nil {
			o.began = func() {}
			args = append(args, "--timeout=20ms")
		}
		d := scene("none")
		d.OneShot = func() engine.Engine { return o }
		code, _, talk := run(ctx, d, "", args...)
		if code != c.code || !strings.Contains(talk, c.says) || strings.Contains(talk, "acts list") {
			t.Errorf("%s: exit %d, %q", what, code, talk)
		}
		stop(nil)
	}
}

// A plan of an act that needs no engine is carried out without one.
func TestApplyAlone(t *testing.T) {
	for _, args := range [][]string{
		{"create", "cluster", "--nodes=4", "--withdrawal-addresses=0x1", "--fee-recipient-addresses=0x1"},
		{"combine", "n", "--output-dir=x"},
		{"node", "export", "n", "--out=x", "--recipient=age1x"},
		{"node", "import", "x", "--data-dir=n", "--identity-file=k"},
	} {
		o := &lone{}
		d := scene("none")
		d.OneShot = func() engine.Engine { return o }
		code, out, talk := run(t.Context(), d, "", append(append([]string{"plan"}, args...), "-o", "json")...)
		if code != 0 {
			t.Fatalf("%v: exit %d\n%s", args, code, talk)
		}
		file := filepath.Join(t.TempDir(), "plan.json")
		if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, talk := run(t.Context(), d, "", "apply", file); code != 0 || o.did == nil {
			t.Errorf("%v: exit %d, did %v\n%s", args, code, o.did, talk)
		}
	}
}

// A wrong flag is told in the form that was asked for, also where that is said behind it.
func TestWrongFlagAsJSON(t *testing.T) {
	for _, form := range [][]string{{"-o", "json"}, {"-o=json"}, {"-ojson"}, {"--output=json"}, {"--output", "json"}} {
		code, _, talk := run(t.Context(), scene("none"), "", append([]string{"create", "cluster", "--bogus"}, form...)...)
		if code != engine.ExitUsage || !strings.HasPrefix(talk, `{"schema":"provost.problem/1"`) {
			t.Errorf("%v: exit %d, %q", form, code, talk)
		}
	}
	if _, _, talk := run(t.Context(), scene("none"), "", "create", "cluster", "--bogus", "--", "-o", "json"); strings.HasPrefix(talk, "{") {
		t.Errorf("%q", talk)
	}
}
