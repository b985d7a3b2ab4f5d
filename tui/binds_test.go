package tui

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"app.provost/engine"
)

// TestKeysFitTogether: as they come, no key means two things in one view.
func TestKeysFitTogether(t *testing.T) {
	rows, err := KeyTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]string{}
	for _, r := range rows {
		if r.Name == "" || len(r.Keys) == 0 || r.Changed {
			t.Errorf("%+v", r)
		}
		for _, k := range r.Keys {
			at := r.View + " " + k
			if was := used[at]; was != "" && was != r.Name {
				t.Errorf("%s: %s and %s", at, was, r.Name)
			}
			used[at] = r.Name
		}
	}
}

func TestOwnKeys(t *testing.T) {
	rows, err := KeyTable(map[string][]string{"worker.pause": {"x", "f5"}, "freeze": {"f9"}, "move.up": {"K"}, "mark": {"space"}})
	if err != nil {
		t.Fatal(err)
	}
	find := func(name, view string) KeyRow {
		i := slices.IndexFunc(rows, func(r KeyRow) bool { return r.Name == name && r.View == view })
		if i < 0 {
			t.Fatalf("no %s in %s", name, view)
		}
		return rows[i]
	}
	if r := find("worker.pause", "Workers"); !slices.Equal(r.Keys, []string{"x", "f5"}) || !r.Changed || r.Does != "pause wizard" {
		t.Errorf("%+v", r)
	}
	if r := find("freeze", ""); !slices.Equal(r.Keys, []string{"f9"}) {
		t.Errorf("%+v", r)
	}
	if r := find("move.up", "Workers"); !slices.Equal(r.Keys, []string{"K"}) || r.Does == "" {
		t.Errorf("%+v", r)
	}
	if r := find("mark", "Workers"); !slices.Equal(r.Keys, []string{"space"}) {
		t.Errorf("%+v", r)
	}
	for name, c := range map[string]struct {
		own  map[string][]string
		want string
	}{
		"unknown name":   {map[string][]string{"worker.pouse": {"x"}}, `did you mean "worker.pause"?`},
		"no key":         {map[string][]string{"worker.pause": {"ctrl+shift"}}, `"ctrl+shift" is no key`},
		"fixed":          {map[string][]string{"freeze": {"ctrl+c"}}, "ctrl+c always means the same"},
		"twice in view":  {map[string][]string{"worker.pause": {"s"}}, "keys.worker.pause: s is the key of worker.restart too (Workers)"},
		"twice anywhere": {map[string][]string{"freeze": {"w"}}, "keys.freeze: w is the key of wizards too (everywhere)"},
		"hidden by view": {map[string][]string{"freeze": {"p"}}, "keys.freeze: p is the key of worker.pause too (Workers)"},
	} {
		_, err := KeyTable(c.own)
		var p *engine.Problem
		if !errors.As(err, &p) || p.Exit != engine.ExitUsage {
			t.Errorf("%s: %v", name, err)
			continue
		}
		all := p.Error()
		for _, m := range p.More {
			all += "\n" + m.Error()
		}
		if !strings.Contains(all, c.want) {
			t.Errorf("%s: %q is not said:\n%s", name, c.want, all)
		}
	}
}

// TestOwnKeysAct: a key of the configuration does what its binding does, and the old one no more.
func TestOwnKeysAct(t *testing.T) {
	s := newStage(t, script(64), func(o *Options) { o.Keys = map[string][]string{"freeze": {"f9"}, "view.workers": {"W"}} }).size(100, 30).pull()
	s.keys("f")
	if !s.m.frozen.IsZero() {
		t.Error("the old key froze the screen")
	}
	s.keys("f9")
	if s.m.frozen.IsZero() {
		t.Error("the new key did not freeze the screen")
	}
	s.keys("f9", "W")
	if all := s.screen(); !strings.Contains(all, "[W Work") {
		t.Errorf("the bar does not show the new key:\n%s", all)
	}
}
