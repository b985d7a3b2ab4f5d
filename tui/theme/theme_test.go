package theme

import (
	"strings"
	"testing"

	"app.provost/engine"
)

func env(kv ...string) func(string) string {
	return func(k string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == k {
				return kv[i+1]
			}
		}
		return ""
	}
}

func TestChoose(t *testing.T) {
	const utf = "en_US.UTF-8"
	for _, c := range []struct {
		name   string
		ascii  bool
		env    func(string) string
		theme  string
		glyphs *Glyphs
	}{
		{"", false, env("LANG", utf, "TERM", "xterm-256color"), "term", Unicode},
		{"", false, env("LANG", utf, "NO_COLOR", "1"), "mono", Unicode},
		{"dark", false, env("LANG", utf, "NO_COLOR", "1"), "dark", Unicode},
		{"", false, env("LANG", utf, "PROVOST_THEME", "tritan"), "tritan", Unicode},
		{"", true, env("LANG", utf), "term", ASCII},
		{"", false, env("LANG", utf, "PROVOST_ASCII", "1"), "term", ASCII},
		{"", false, env("LANG", "C"), "term", ASCII},
		{"", false, env(), "term", ASCII},
		{"", false, env("LANG", utf, "LC_ALL", "ja_JP.UTF-8"), "term", ASCII},
		{"", false, env("LANG", "zh_CN.utf8"), "term", ASCII},
		{"", false, env("LANG", utf, "TERM", "linux"), "term", ASCII},
		{"", false, env("LANG", utf, "TERM", "vt220"), "mono", ASCII},
		{"", false, env("LANG", utf, "TERM", "dumb"), "mono", ASCII},
	} {
		th, g, err := Choose(c.name, c.ascii, c.env)
		if err != nil {
			t.Fatal(err)
		}
		if th.Name != c.theme || g != c.glyphs {
			t.Errorf("%+v: theme %s, ascii %v", c, th.Name, g == ASCII)
		}
	}
	if _, _, err := Choose("nosuch", false, env()); err == nil || !strings.Contains(err.Error(), "term, dark") {
		t.Errorf("an unknown theme gives %v", err)
	}
}

// TestRoles: every style has a code; what must stand out does, without colour too.
func TestRoles(t *testing.T) {
	for _, th := range themes {
		for r := range nRoles {
			for m := range Mod(nMods) {
				if c := th.Code(r.S().With(m)); !strings.HasPrefix(c, "\x1b[0") || !strings.HasSuffix(c, "m") {
					t.Errorf("%s: role %d has the code %q", th.Name, r, c)
				}
			}
			if !strings.Contains(th.Code(r.S().With(Selected)), ";7") {
				t.Errorf("%s: the cursor on role %d is not reversed", th.Name, r)
			}
		}
		if th.Code(Crit.S()) == th.Code(OK.S()) || th.Code(Crit.S()) == th.Code(Warn.S()) {
			t.Errorf("%s: critical looks like something else", th.Name)
		}
	}
	mono, err := ByName("mono")
	if err != nil {
		t.Fatal(err)
	}
	for r := range nRoles {
		for _, part := range strings.Split(strings.TrimSuffix(strings.TrimPrefix(mono.Code(r.S()), "\x1b["), "m"), ";") {
			if len(part) > 1 {
				t.Errorf("mono: role %d has the colour %s", r, part)
			}
		}
	}
}

// TestSigns: every state of the waist has a sign of its own meaning in both sets.
func TestSigns(t *testing.T) {
	for _, s := range []engine.WorkerState{engine.WorkerRun, engine.WorkerIdle, engine.WorkerStart, engine.WorkerPausing, engine.WorkerPaused, engine.WorkerStale, engine.WorkerDown, engine.WorkerGone, engine.WorkerHeld} {
		if OfWorker(s) == Unknown {
			t.Errorf("worker state %s has no role", s)
		}
	}
	for _, g := range []*Glyphs{Unicode, ASCII} {
		seen := map[rune]Role{}
		for _, r := range []Role{OK, Idle, Busy, Paused, Warn, Crit} {
			if other, ok := seen[g.Sign(r)]; ok {
				t.Errorf("roles %d and %d share the sign %q", r, other, g.Sign(r))
			}
			seen[g.Sign(r)] = r
		}
		if len(g.Bars) != 8 {
			t.Errorf("%d bars", len(g.Bars))
		}
	}
	for _, r := range []rune{ASCII.OK, ASCII.H, ASCII.V, ASCII.Ellipsis, ASCII.Caret, ASCII.Full, ASCII.Right, ASCII.Up} {
		if r > 126 {
			t.Errorf("%q is not ASCII", r)
		}
	}
}
