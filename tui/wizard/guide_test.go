package wizard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/flow"
	"app.provost/tui/page"
)

// tea is a flow with every kind of field; the action it builds carries the answers in its selector.
func tea() flow.Flow {
	return flow.Flow{
		ID: "create tea", Title: "Make tea", Needs: "water and leaves", Makes: "a pot of tea; nothing leaves the kitchen", Takes: "5 minutes",
		Steps: []flow.Step{
			{ID: "pot", Title: "pot", Intro: "Which pot.", Fields: []flow.Field{
				{Key: "cups", Title: "Cups", Help: "How many cups.", Kind: flow.Number, Example: "4", Check: func(v string, _ flow.Answers) error {
					if len(v) > 2 {
						return errors.New("want at most 99 cups, as in 4")
					}
					return nil
				}, Note: func(v string, _ flow.Answers) string { return v + " people" }},
				{Key: "leaf", Title: "Leaf", Kind: flow.Choice, Default: func(flow.Facts, flow.Answers) string { return "green" }, Options: func(flow.Facts, flow.Answers) []flow.Option {
					return []flow.Option{{Value: "green"}, {Value: "black", Refused: "sold out"}, {Value: "white"}}
				}},
				{Key: "with", Title: "With", Kind: flow.Many, Optional: true, Options: func(flow.Facts, flow.Answers) []flow.Option {
					return []flow.Option{{Value: "milk"}, {Value: "sugar"}, {Value: "salt", Refused: "no"}}
				}},
			}},
			{ID: "guests", Title: "guests", Fields: []flow.Field{
				{Key: "guest", Title: "Guests", Kind: flow.Rows, Optional: true, Check: func(v string, _ flow.Answers) error {
					if strings.Contains(v, "!") {
						return errors.New("no ! in a name")
					}
					return nil
				}},
				{Key: "loud", Title: "Loud", Kind: flow.Bool},
				{Key: "why", Title: "Why", Kind: flow.Text, When: func(a flow.Answers) bool { return a.Yes("loud") }, Help: "Why loud."},
			}},
			{ID: "door", Title: "door", Fields: []flow.Field{
				{Key: "to", Title: "Send to", Kind: flow.Text, Twice: true, Help: "It cannot be changed."},
				{Key: "tokens", Title: "Tokens", Kind: flow.SecretFile, Optional: true, Secrets: func(flow.Answers) []string { return []string{"token of cup 0", "token of cup 1"} }},
				{Key: "sure", Title: "Words", Kind: flow.Phrase, Phrase: func(flow.Answers) string { return "no sugar left" }, When: func(a flow.Answers) bool { return slices.Contains(a.Items("with"), "sugar") }},
			}},
		},
		Build: func(a flow.Answers) (engine.Action, error) {
			if a["cups"] == "13" {
				return nil, engine.Problem{Code: engine.CodeUsage, Field: "cups", Cause: "13 cups are unlucky", Remedy: "choose another number"}.Because(nil)
			}
			var parts []string
			for _, k := range slices.Sorted(maps.Keys(a)) {
				parts = append(parts, string(k)+"="+a[k])
			}
			return engine.CancelJobs{Jobs: engine.Selector(strings.Join(parts, ";"))}, nil
		},
		Consent: func(a flow.Answers) string { return "make " + a["cups"] },
	}
}

func openGuide(flows []flow.Flow, a flow.Answers, o GuideOptions) (*host, *Guide) {
	h := &host{waits: map[string]func(){}}
	h.look = page.Look{Link: page.Link{Connected: true}, Sum: &page.Summary{}, Now: noon, Snap: &engine.Snapshot{Engine: &engine.One[engine.Info]{Value: engine.Info{Name: "x", Unlocked: &engine.Unlocked{Until: noon.Add(time.Hour)}}}}}
	h.e = &stub{
		plan: func(r engine.Request) (engine.Plan, error) {
			return engine.Plan{Title: "make a pot of tea", Command: "provost create tea", Files: []engine.PlannedFile{{Path: "/pot", Mode: "0600"}}, Warnings: []string{"it is hot"},
				Irreversible: []string{"leaves can't be dried again"}, Consent: engine.Consent{Level: "none"}}.Seal(r.Action)
		},
		do: func(r engine.Request, d engine.Digest) (engine.Receipt, error) {
			return engine.Receipt{Done: true, Title: "tea is made", Notes: []string{"drink it"}}, nil
		},
	}
	g := NewGuide(flows, a, o)
	h.Open(g)
	return h, g
}

const teaKeys = "<enter>4<enter>ana<down>ben<enter>here<down>here<enter><enter>"

func TestGuideForward(t *testing.T) {
	h, _ := openGuide([]flow.Flow{tea()}, nil, GuideOptions{})
	h.want(t, "step 1 of 6", "water and leaves")
	h.keys("<enter>")
	h.want(t, "Cups", "(*) green", "sold out", "[ ] milk")
	h.keys("4")
	h.want(t, "4 people")
	h.keys("<enter>ana<down>ben<enter>here<down>here")
	h.want(t, "the same")
	h.keys("<enter>")
	h.want(t, "step 5 of 6: checks", "it is hot", "0 block, 1 warn")
	h.keys("<enter>")
	h.want(t, "step 6 of 6: review", "make a pot of tea", "leaves can't be dried again", "provost create tea", "Type make 4 to agree")
	h.keys("<enter>")
	if len(h.e.done) != 0 {
		t.Fatal("done without the words")
	}
	h.keys("make 4<enter>")
	if len(h.e.done) != 1 {
		t.Fatal("not done")
	}
	if got := h.e.done[0].r.Action.(engine.CancelJobs).Jobs; got != "cups=4;guest=ana\nben;leaf=green;to=here" {
		t.Errorf("built from %q", got)
	}
	h.want(t, "tea is made", "drink it")
	h.keys("<enter>")
	if h.top() != nil {
		t.Error("the guide is still open")
	}
}

// TestGuideBack: back works from every page, in error too, and keeps what was typed.
func TestGuideBack(t *testing.T) {
	h, g := openGuide([]flow.Flow{tea()}, nil, GuideOptions{})
	h.keys(teaKeys + "make")
	for range 10 {
		h.keys("<shift+tab>")
	}
	h.want(t, "step 1 of 6")
	h.keys("<enter><down><right>")
	if g.answers()["leaf"] != "white" {
		t.Errorf("a refused option was not passed over: %q", g.answers()["leaf"])
	}
	h.keys("<down><right> ")
	if g.answers()["with"] != "sugar" {
		t.Errorf("with %q", g.answers()["with"])
	}
	h.keys("<up><up><ctrl+u>123<enter>")
	h.want(t, "want at most 99 cups", "step 2 of 6")
	h.keys("<shift+tab>")
	h.want(t, "step 1 of 6")
	h.keys("<enter><ctrl+u>13<enter><enter>")
	h.want(t, "step 4 of 6: door")
	h.keys("<down><down><down>no sugar<enter>")
	h.want(t, `type exactly "no sugar left"`)
	h.keys(" left<enter>")
	h.want(t, "checks", "cups: 13 cups are unlucky; choose another number", "1 blocks. Nothing was written")
	h.keys("<enter>")
	h.want(t, "step 2 of 6", "13 cups are unlucky")
	h.keys("<ctrl+u>5<enter><enter><enter><enter>")
	h.want(t, "Type make 5 to agree")
}

func TestGuideRefusesToGoOn(t *testing.T) {
	h, g := openGuide([]flow.Flow{tea()}, nil, GuideOptions{})
	h.keys("<enter><enter>")
	h.want(t, "Cups: a number is needed, as in 4")
	h.keys("4<enter>a!<down>b<enter>")
	h.want(t, "Guests: line 1: no ! in a name")
	h.keys("<up><up><backspace>")
	h.keys("<enter>")
	h.want(t, "door")
	h.keys("here<enter>")
	h.want(t, "type it a second time")
	h.keys("her")
	h.want(t, "1 to go")
	h.keys("x<enter>")
	h.want(t, "the two are not the same", "step 4 of 6")
	h.keys("<esc>")
	h.want(t, "Leave? Nothing was made")
	h.keys("<esc>")
	h.want(t, "step 4 of 6")
	h.keys("<esc><enter>")
	if h.top() != nil || len(h.e.done) != 0 {
		t.Error("leaving did something")
	}
	if g.answers()["cups"] != "4" {
		t.Error("answers are gone")
	}
}

// TestGuideHides: a field that no longer applies is neither asked for nor built from.
func TestGuideHides(t *testing.T) {
	h, g := openGuide([]flow.Flow{tea()}, nil, GuideOptions{})
	h.keys("<enter>4<enter><down>y<down>because")
	if g.complete()["why"] != "because" {
		t.Fatalf("answers %v", g.complete())
	}
	h.keys("<up>n")
	if _, ok := g.complete()["why"]; ok || strings.Contains(strings.Join(h.frame(80, 24), "\n"), "Why") {
		t.Error("a hidden field counts")
	}
}

func TestGuideChooses(t *testing.T) {
	h, _ := openGuide([]flow.Flow{tea(), flow.CreateCluster()}, nil, GuideOptions{})
	h.want(t, "What do you want to create?", "Make tea", "water and leaves")
	h.keys("<down>")
	h.want(t, "Create a cluster", "key shares for each node")
	h.keys("<enter>")
	h.want(t, "Network")
}

func TestGuidePastes(t *testing.T) {
	h, g := openGuide([]flow.Flow{tea()}, nil, GuideOptions{})
	h.keys("<enter>4<enter>")
	g.Paste(h, "ana\nben\ncaro\n")
	if got := g.answers()["guest"]; got != "ana\nben\ncaro" {
		t.Errorf("pasted rows: %q", got)
	}
	h.keys("<shift+tab><down><down><right> <enter><enter><down><down><down>")
	if !g.Paste(h, "no sugar left") || g.lines["sure"].Value() != "" {
		t.Error("a phrase was pasted")
	}
}

// session is a front end's side of a guide.
func session(h *host) *flow.Session {
	f := tea()
	return &flow.Session{Flow: f,
		Preview: func(ctx context.Context, a flow.Answers) (engine.Action, engine.Plan, error) {
			act, err := f.Build(a)
			if err != nil {
				return nil, engine.Plan{}, err
			}
			p, err := h.e.plan(engine.Request{Action: act})
			return act, p, err
		},
		Command: func(engine.Action, engine.Plan) string { return "provost create tea --answers tea.yaml" }}
}

func TestGuideInSession(t *testing.T) {
	var out *flow.Outcome
	h, _ := openGuide([]flow.Flow{tea()}, nil, GuideOptions{})
	h.Close()
	s := session(h)
	var drafts []string
	s.Draft = func(a flow.Answers, step string) error {
		drafts = append(drafts, step+" "+fmt.Sprint(len(a)))
		return nil
	}
	s.Save = func(path string, a flow.Answers) (string, error) { return "/home/ana/" + path, nil }
	h.Open(NewGuide([]flow.Flow{s.Flow}, flow.Answers{"cups": "4"}, GuideOptions{Session: s, Agreed: func(o flow.Outcome) { out = &o }}))
	h.keys("<enter><enter><enter>here<down>here<enter><enter>")
	h.want(t, "provost create tea --answers tea.yaml", "S save")
	h.keys("S")
	h.want(t, "answers saved to /home/ana/create-tea.yaml, no secrets in it")
	h.keys("make 4<enter>")
	if out == nil || out.Answers["to"] != "here" || out.Plan.Title != "make a pot of tea" || out.Action == nil {
		t.Fatalf("outcome %+v", out)
	}
	if len(h.e.done) != 0 {
		t.Error("a session's guide acted itself")
	}
	if fmt.Sprint(drafts) != "[guests 1 door 1 checks 2]" {
		t.Errorf("drafts %v", drafts)
	}
	if h.top() != nil {
		t.Error("still open")
	}
}

// TestGuideLean asks only what has no answer yet.
func TestGuideLean(t *testing.T) {
	h, _ := openGuide([]flow.Flow{tea()}, nil, GuideOptions{})
	h.Close()
	s := session(h)
	s.Lean = true
	h.Open(NewGuide([]flow.Flow{s.Flow}, flow.Answers{"cups": "4"}, GuideOptions{Session: s}))
	h.want(t, "step 4 of 6: door")
	h.keys("here<down>here<enter>")
	h.want(t, "checks")
	h.keys("<shift+tab><shift+tab><shift+tab>")
	h.want(t, "step 2 of 6")
}

// TestGuideResumes goes on where a draft left off.
func TestGuideResumes(t *testing.T) {
	h, _ := openGuide([]flow.Flow{tea()}, nil, GuideOptions{})
	for _, c := range [][2]string{{"guests", "step 3 of 6"}, {"door", "step 4 of 6"}, {"gone", "step 5 of 6: checks"}, {"checks", "step 5 of 6: checks"}} {
		h.Close()
		s := session(h)
		s.Step = c[0]
		h.Open(NewGuide([]flow.Flow{s.Flow}, flow.Answers{"cups": "4", "to": "here"}, GuideOptions{Session: s}))
		h.want(t, c[1])
	}
	h.keys("<shift+tab><shift+tab>")
	h.want(t, "step 3 of 6")
	h.keys("<enter><enter>")
	h.want(t, "checks")
	h.Close()
	s := session(h)
	s.Step = "door"
	h.Open(NewGuide([]flow.Flow{s.Flow}, flow.Answers{"cups": "444", "to": "here"}, GuideOptions{Session: s}))
	h.want(t, "step 2 of 6", "want at most 99 cups")
}

// TestGuideKeepsSecrets types tokens: they reach the session and nothing else.
func TestGuideKeepsSecrets(t *testing.T) {
	h, _ := openGuide([]flow.Flow{tea()}, nil, GuideOptions{})
	h.Close()
	s := session(h)
	var got string
	s.Secret = func(k flow.Key, text engine.Secret) (string, error) {
		got = string(k) + " " + text.Reveal()
		return "/run/private/tokens", nil
	}
	g := NewGuide([]flow.Flow{s.Flow}, flow.Answers{"cups": "4"}, GuideOptions{Session: s})
	h.Open(g)
	h.keys("<enter><enter><enter>here<down>here<down>")
	h.want(t, "ctrl+t type it")
	h.keys("<ctrl+t>")
	h.want(t, "token of cup 0", "1 of 2")
	h.keys("canary-onex<backspace>")
	h.want(t, "**********", "10 characters")
	everything := func() string {
		raw, _ := json.Marshal(g.answers())
		return fmt.Sprintf("%v %+v %#v %s %s %s", g.secret, g.secret, g.answers(), raw, strings.Join(h.frame(80, 24), "\n"), strings.Join(h.said, "\n"))
	}
	if strings.Contains(everything(), "canary") {
		t.Error("a secret is seen while it is typed")
	}
	h.keys("<enter>canary-two<enter>")
	if got != "tokens canary-one\ncanary-two" {
		t.Errorf("the session got %q", got)
	}
	h.want(t, "/run/private/tokens")
	if strings.Contains(everything(), "canary") {
		t.Error("a secret is kept")
	}
	h.keys("<ctrl+t>canary-three<esc>")
	if g.secret != nil || strings.Contains(everything(), "canary") {
		t.Error("esc did not forget it")
	}
}

func TestGuideFrames(t *testing.T) {
	h, _ := openGuide([]flow.Flow{flow.CreateCluster()}, nil, GuideOptions{})
	shots := []struct{ name, keys string }{
		{"about", ""}, {"network", "<enter>"}, {"nodes", "<right><enter>2"}, {"threshold", "<backspace>4<down>"}, {"validators", "<enter>"},
		{"addresses", "<enter>0x000000000000000000000000000000000000dead<tab>0x0000"},
		{"addresses-again", "<ctrl+u>0x000000000000000000000000000000000000dead<tab>"},
	}
	for i, s := range shots {
		h.keys(s.keys)
		for _, size := range [][2]int{{80, 24}, {60, 15}, {160, 48}} {
			h.golden(t, fmt.Sprintf("guide-cluster-%d-%s", i+1, s.name), size)
		}
	}
}

func FuzzGuideKeys(f *testing.F) {
	f.Add([]byte("\x004\x00ana\x04ben\x00here\x04here\x00\x00make 4\x00"))
	f.Add([]byte("\x00\x04\x05 \x02\x02\x01\x00"))
	names := []string{"enter", "esc", "shift+tab", "tab", "down", "right", "left", "backspace", "ctrl+u", "up", "ctrl+t", "pgdown"}
	f.Fuzz(func(t *testing.T, in []byte) {
		h, _ := openGuide([]flow.Flow{tea()}, nil, GuideOptions{})
		for _, c := range in[:min(len(in), 300)] {
			if int(c) < len(names) {
				h.keys("<" + names[c] + ">")
			} else if c >= ' ' && c < 0x7f && c != '<' {
				h.keys(string(rune(c)))
			}
			h.frame(60, 15)
		}
		for _, d := range h.e.done {
			if !strings.Contains(string(d.r.Action.(engine.CancelJobs).Jobs), "to=") {
				t.Fatalf("done without an answer: %+v", d.r.Action)
			}
		}
	})
}

// TestGuideTypesWhatItCannotOffer: without anything to choose from, the answer is typed.
func TestGuideTypesWhatItCannotOffer(t *testing.T) {
	f := tea()
	f.Steps = []flow.Step{{ID: "cup", Title: "cups", Fields: []flow.Field{{Key: "cups", Title: "Cups", Kind: flow.Many, Options: func(flow.Facts, flow.Answers) []flow.Option { return nil }}}}}
	h, g := openGuide([]flow.Flow{f}, nil, GuideOptions{})
	h.keys("<enter>red,blue")
	if g.answers()["cups"] != "red,blue" {
		t.Fatalf("answers %v", g.answers())
	}
	h.keys("<enter>")
	h.want(t, "checks", "0 block")
	h, g = openGuide([]flow.Flow{f}, flow.Answers{"cups": "green"}, GuideOptions{})
	h.keys("<enter>")
	h.want(t, "green")
	h.keys(",red")
	if g.answers()["cups"] != "green,red" {
		t.Fatalf("answers %v", g.answers())
	}
}
