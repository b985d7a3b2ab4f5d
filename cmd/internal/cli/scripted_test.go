package cli

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/scripted"
)

// The commands in a conversation with an engine that follows the waist's rules:
// 2,048 scripted workers, every table, a pause from plan to receipt.
func TestWithScriptedEngine(t *testing.T) {
	still := 3 * time.Minute
	e := scripted.New(scripted.Options{Seed: 1, Start: fakeNow.Add(-still), Now: func() time.Time { return fakeNow }, Still: &still})
	d := scene("")
	d.Dial = func(context.Context, string) (engine.Engine, func() error, error) { return e, nil, nil }
	for _, tab := range engine.Tables {
		for _, form := range []string{"table", "wide", "csv", "name", "json", "jsonl"} {
			code, out, talk := run(context.Background(), d, "", "get", string(tab.Name), "-o", form)
			if code != 0 || form != "json" && strings.Count(out, "\n") < 2 && tab.Name != engine.TableActs {
				t.Errorf("get %s -o %s: %d, %d bytes, %s", tab.Name, form, code, len(out), talk)
			}
			if form == "json" && !json.Valid([]byte(out)) {
				t.Errorf("get %s: not JSON", tab.Name)
			}
		}
		_, names, _ := run(context.Background(), d, "", "get", string(tab.Name), "-o", "name")
		if name, _, ok := strings.Cut(names, "\n"); ok {
			if code, _, talk := run(context.Background(), d, "", "describe", name); code != 0 {
				t.Errorf("describe %s, as get -o name lists it: %d %s", name, code, talk)
			}
		}
	}
	for _, line := range []string{"status", "status --json", "hugepages show", "logs --tail=5", "acts list"} {
		if code, out, talk := run(context.Background(), d, "", strings.Fields(line)...); code != 0 || out == "" {
			t.Errorf("%s: %d %s", line, code, talk)
		}
	}
	if code, out, _ := run(context.Background(), d, "", "check"); code > 2 || !strings.HasPrefix(out, "PROVOST ") {
		t.Errorf("check: %d %s", code, out)
	}
	code, out, talk := run(context.Background(), d, "", "plan", "pause", "worker", "w1-w3", "--for=45m", "--reason=test", "-o", "json")
	if code != 0 {
		t.Fatalf("plan: %d %s", code, talk)
	}
	var plan struct{ Digest string }
	if err := json.Unmarshal([]byte(out), &plan); err != nil {
		t.Fatal(err)
	}
	if code, _, talk := run(context.Background(), d, "", "pause", "worker", "w1-w3", "--for=50m", "--reason=test", "--confirm="+plan.Digest); code != engine.ExitRefused {
		t.Errorf("another pause than the one confirmed: %d %s", code, talk)
	}
	if code, out, talk := run(context.Background(), d, "", "pause", "worker", "w1-w3", "--for=45m", "--reason=test", "--confirm="+plan.Digest[:6]); code != 0 || !strings.Contains(out, "(act ") {
		t.Errorf("pause: %d %s %s", code, out, talk)
	}
	if code, out, talk := run(context.Background(), d, "", "acts", "list", "-o", "name"); code != 0 || !strings.HasPrefix(out, "act/") {
		t.Errorf("the act is not listed: %d %q %s", code, out, talk)
	}
}
