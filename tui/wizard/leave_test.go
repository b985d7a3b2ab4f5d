package wizard

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"app.provost/engine"
	"app.provost/engine/flow"
)

const acceptance = "I accept that the validators of 0x7b2e9c41 may be slashed"

// leaving is a host whose engine refuses whole keys without a history, and plans the rest.
func leaving(t *testing.T, f flow.Flow) (*host, *Guide) {
	h, g := openGuide([]flow.Flow{f}, nil, GuideOptions{Absolute: func(p string) (string, error) {
		return "/home/ana/" + strings.TrimPrefix(p, "./"), nil
	}})
	h.e.plan = func(r engine.Request) (engine.Plan, error) {
		p := engine.Plan{Title: r.Action.Doing(), Command: "provost " + engine.ShellLine(r.Action.CommandLine()), Consent: engine.Consent{Level: "none"}}
		switch a := r.Action.(type) {
		case engine.CombineCluster:
			bad := engine.Problem{Code: engine.CodeNoHistory, Exit: engine.ExitRefused, Doing: "combine", Field: "no-slashing-history", Phrase: acceptance}
			switch a.NoSlashingHistory {
			case acceptance:
			case "":
				bad.Cause = "what was signed isn't known: node 0 (/home/ana/nodes/node0), node 1 (/home/ana/nodes/node1), node 2 (/home/ana/nodes/node2): no slashing protection of Provost, as in a directory that Charon runs or that never ran"
				bad.Remedy = fmt.Sprintf("give the directories in which the nodes ran last, with their provost directory; if that can't be had, make the keys without their history by --no-slashing-history=%q", acceptance)
				return p, &bad
			default:
				bad.Cause, bad.Remedy = fmt.Sprintf("--no-slashing-history: %q is not the sentence that is asked for", a.NoSlashingHistory), fmt.Sprintf("type %q if you mean it", acceptance)
				return p, &bad
			}
			p.Warnings = []string{"no node of the cluster may ever run again"}
			p.Files = []engine.PlannedFile{{Path: "/home/ana/whole/keystore-0.json", Mode: "0600"}}
			p.Irreversible = []string{"keys that were whole once must be taken for whole ever after"}
		case engine.ExportNode:
			p.Files = []engine.PlannedFile{{Path: a.Out, Mode: "0600"}}
			if !a.Backup {
				p.Irreversible = []string{"the node never runs at " + a.Dir + " again: only where the file is imported"}
			}
		}
		return p.Seal(r.Action)
	}
	return h, g
}

// TestCombineLeadsToItsSentence: what the refusal names has to be typed, can be read while one
// types, and cannot be pasted.
func TestCombineLeadsToItsSentence(t *testing.T) {
	h, g := leaving(t, flow.Combine())
	sizes := [][2]int{{80, 24}, {60, 15}, {160, 48}}
	shot := func(name string) {
		for _, size := range sizes {
			h.golden(t, "guide-combine-"+name, size)
		}
	}
	shot("1-about")
	h.keys("<enter>")
	shot("2-nodes")
	h.keys("<down>./nodes<enter>")
	shot("3-place")
	h.keys("./whole<enter>")
	h.want(t, "checks", "0x7b2e9c41 may be slashed", "1 blocks. Nothing was written")
	shot("4-refused")
	h.keys("<enter>")
	h.want(t, "step 3 of 5: where to", "isn't known", "type exactly: "+acceptance)
	shot("5-sentence")
	if !g.Paste(h, acceptance) || g.lines["no-slashing-history"].Value() != "" {
		t.Error("the sentence was pasted")
	}
	h.want(t, "cannot be pasted")
	h.keys("I accept")
	h.want(t, "isn't known", "type exactly: "+acceptance) // still there while one types
	h.keys("<enter>")
	h.want(t, "sentence that is asked for")
	h.keys("<enter>" + strings.TrimPrefix(acceptance, "I accept") + "<enter>")
	h.want(t, "0 block, 1 warn")
	h.keys("<enter>")
	h.want(t, "Type combine nodes to agree", "must be taken for whole")
	shot("6-review")
	h.keys("<shift+tab><shift+tab>")
	h.want(t, "step 3 of 5: where to")
	h.keys("<enter><enter>combine whole<enter>")
	if len(h.e.done) != 0 {
		t.Fatal("done with other words")
	}
	h.keys("<ctrl+u>combine nodes<enter>")
	if len(h.e.done) != 1 || h.e.done[0].r.Action.(engine.CombineCluster).NoSlashingHistory != acceptance || h.e.done[0].r.Action.(engine.CombineCluster).ClusterDir != "/home/ana/nodes" {
		t.Errorf("done %+v", h.e.done)
	}
}

func TestExportFrames(t *testing.T) {
	h, _ := leaving(t, flow.NodeExport())
	for i, s := range []struct{ name, keys string }{
		{"about", ""}, {"node", "<enter>"}, {"seal", "./node2<down><down>./node2.age<enter>"}, {"recipients", "ana@home<down>age1x"}, {"checks", "<up><ctrl+u>age1y<enter>"}, {"review", "<enter>"},
	} {
		h.keys(s.keys)
		for _, size := range [][2]int{{80, 24}, {60, 15}, {160, 48}} {
			h.golden(t, fmt.Sprintf("guide-export-%d-%s", i+1, s.name), size)
		}
	}
	h.want(t, "Type move node2 to agree")
	// A backup ends nothing: enter is enough.
	h.keys("<shift+tab><shift+tab><shift+tab><down>y<enter><enter><enter>")
	h.want(t, "enter do it")
	h.keys("<enter>")
	if len(h.e.done) != 1 || !h.e.done[0].r.Action.(engine.ExportNode).Backup {
		t.Errorf("done %+v", h.e.done)
	}
}

func TestImportFrames(t *testing.T) {
	h, _ := leaving(t, flow.NodeImport())
	for i, s := range []struct{ name, keys string }{
		{"about", ""}, {"file", "<enter>"}, {"key", "./node2.age<down><down>./node2<enter>"}, {"review", "./key.txt<enter><enter>"},
	} {
		h.keys(s.keys)
		for _, size := range [][2]int{{80, 24}, {60, 15}, {160, 48}} {
			h.golden(t, fmt.Sprintf("guide-import-%d-%s", i+1, s.name), size)
		}
	}
	h.keys("<esc>")
	if len(h.e.done) != 0 {
		t.Error("done on leaving")
	}
}

// TestGuideLeavings: several leavings are not called creations.
func TestGuideLeavings(t *testing.T) {
	h, _ := openGuide(flow.Leavings(), nil, GuideOptions{})
	h.want(t, "Move, back up or leave", "What do you want to do?", "Move a node, or back it up", "Put a node in place", "Leave a cluster")
	h.keys("<down><down><enter>")
	h.want(t, "Node directories")
}

// TestGuideTypesANewSecretTwice: it is long enough, the same both times, and nowhere else. In the
// dashboard, whose engine is elsewhere, it cannot be typed.
func TestGuideTypesANewSecretTwice(t *testing.T) {
	h, _ := openGuide([]flow.Flow{flow.NodeExport()}, nil, GuideOptions{})
	h.keys("<enter>./n<down><down>./o<enter><down>")
	if strings.Contains(strings.Join(h.frame(80, 24), "\n"), "ctrl+t") {
		t.Error("the dashboard offers to type a secret")
	}
	h.Close()
	s := session(h)
	s.Flow = flow.NodeExport()
	var got []string
	s.Secret = func(k flow.Key, text engine.Secret) (string, error) {
		got = append(got, string(k)+" "+text.Reveal())
		return "/dev/fd/9", nil
	}
	s.Preview = func(ctx context.Context, a flow.Answers) (engine.Action, engine.Plan, error) {
		act, err := s.Flow.Build(a)
		return act, engine.Plan{Title: "seal"}, err
	}
	g := NewGuide([]flow.Flow{s.Flow}, nil, GuideOptions{Session: s})
	h.Open(g)
	h.keys("<enter>./n<down><down>./o<enter><down>")
	h.want(t, "ctrl+t type it")
	h.keys("<ctrl+t>canary-1<enter>")
	h.want(t, "it has 8 characters and needs 12", "8 characters", "It touches no disk")
	h.keys("-long-enough<enter>")
	h.want(t, "Passphrase, the same again", "0 characters")
	h.keys("canary-1-long-enougg<enter>")
	h.want(t, "the two differ")
	h.keys("canary-1-long-enough<enter>")
	h.want(t, "the same again")
	everything := func() string {
		raw, _ := json.Marshal(g.answers())
		return fmt.Sprintf("%v %+v %#v %s %s %s", g.secret, g.secret, g.answers(), raw, strings.Join(h.frame(80, 24), "\n"), strings.Join(h.said, "\n"))
	}
	if strings.Contains(everything(), "canary") {
		t.Error("a secret is seen while it is typed")
	}
	h.keys("canary-1-long-enough<enter>")
	if len(got) != 1 || got[0] != "passphrase-file canary-1-long-enough" {
		t.Errorf("the session got %q", got)
	}
	if g.secret != nil || g.answers()["passphrase-file"] != "/dev/fd/9" || strings.Contains(everything(), "canary") {
		t.Errorf("a secret is kept: %v", g.answers())
	}
	// Left in the middle of the second typing, nothing is taken.
	h.keys("<ctrl+t>another-canary<enter>anoth<esc>")
	if g.secret != nil || len(got) != 1 || strings.Contains(everything(), "canary") {
		t.Error("esc did not forget it")
	}
}
