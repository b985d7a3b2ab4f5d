package tui

import (
	"fmt"
	"slices"
	"strings"

	"app.provost/engine"
	"app.provost/tui/page"
	"app.provost/tui/widget"
)

// KeyRow is one binding of the dashboard, for the list of them.
type KeyRow struct {
	View    string // "" for everywhere
	Name    string // for the configuration
	Keys    []string
	Does    string
	Changed bool // by the configuration
}

// sameAlways are keys that always mean the same: a screen must be left, suspended and redrawn.
var sameAlways = []string{"ctrl+c", "ctrl+z", "ctrl+l"}

// KeyTable lists every binding as it is with own keys, by the name of the binding. What is
// wrong with them is an error with all of it: an unknown name or key, or one key for two
// things in the same view.
func KeyTable(own map[string][]string) ([]KeyRow, error) {
	m := &model{views: page.New()}
	m.global = m.globalKeys()
	if err := m.rebind(own); err != nil {
		return nil, err
	}
	var out []KeyRow
	add := func(view string, bs []page.Binding) {
		for i := range bs {
			_, changed := own[bs[i].Name]
			out = append(out, KeyRow{View: view, Name: bs[i].Name, Keys: shownKeys(bs[i].Key.Keys()), Does: bs[i].Key.Help().Desc, Changed: changed})
		}
	}
	add("", m.global)
	for _, v := range m.views {
		if v.Page != nil {
			add(v.Long, v.Page.Bindings())
		}
	}
	return out, nil
}

func shownKeys(keys []string) []string {
	out := slices.Clone(keys)
	for i, k := range out {
		out[i] = shown(k)
	}
	return out
}

// rebind gives bindings the keys of the configuration. It is called once, before anything is drawn.
func (m *model) rebind(own map[string][]string) error {
	if len(own) == 0 {
		return nil
	}
	var wrong []engine.Problem
	fault := func(name, cause, remedy string) {
		wrong = append(wrong, engine.Problem{Code: engine.CodeConfigInvalid, Exit: engine.ExitUsage, Doing: "read keys", Cause: "keys." + name + ": " + cause, Remedy: remedy, Field: "keys." + name})
	}
	names := make([]string, 0, len(own))
	for name := range own {
		names = append(names, name)
	}
	slices.Sort(names)
	clean := map[string][]string{}
	for _, name := range names {
		for _, k := range own[name] {
			if strings.EqualFold(k, "space") {
				k = " "
			}
			switch {
			case slices.Contains(sameAlways, k):
				fault(name, k+" always means the same", "choose another key")
			case !widget.KnownKey(k):
				fault(name, fmt.Sprintf("%q is no key", k), "want one character, or a name as in ctrl+r, f5, pgdown, alt+x, space")
			default:
				clean[name] = append(clean[name], k)
			}
		}
	}
	type table struct {
		view string
		bs   []page.Binding
	}
	tables := []table{{"everywhere", m.global}}
	for _, v := range m.views {
		if v.Page != nil {
			tables = append(tables, table{v.Long, v.Page.Bindings()})
		}
	}
	known := map[string]bool{}
	for _, t := range tables {
		for i := range t.bs {
			b := &t.bs[i]
			known[b.Name] = true
			keys := clean[b.Name]
			if len(keys) == 0 {
				continue
			}
			does := b.Key.Help().Desc
			if does == "" && b.Group == "" {
				does, b.Group = b.Name, page.GroupMove // it stood in the help of its pair
			}
			b.Key = page.Keys(strings.Join(shownKeys(keys), " "), does, keys...)
		}
	}
	for i := range m.views {
		if keys := clean["view."+string(m.views[i].ID)]; len(keys) > 0 {
			m.views[i].Key = shown(keys[0])
		}
	}
	var all []string
	for name := range known {
		all = append(all, name)
	}
	slices.Sort(all)
	for _, name := range names {
		if known[name] {
			continue
		}
		remedy := "see provost config keys"
		if near := engine.Nearest(name, all); near != "" {
			remedy = fmt.Sprintf("did you mean %q?", near)
		}
		fault(name, "there is no such binding", remedy)
	}
	// One key for two things: in a view, or where a view hides what was meant for everywhere.
	said := map[string]bool{}
	for _, t := range tables {
		for i := range t.bs {
			for _, other := range [][]page.Binding{t.bs, m.global} {
				for j := range other {
					a, b := t.bs[i].Name, other[j].Name
					if a == b || clean[a] == nil && clean[b] == nil {
						continue
					}
					for _, k := range t.bs[i].Key.Keys() {
						if !slices.Contains(other[j].Key.Keys(), k) {
							continue
						}
						first, second := min(a, b), max(a, b)
						if id := first + " " + second + " " + k; !said[id] {
							said[id] = true
							at := t.view
							name := first
							if clean[first] == nil {
								name, second = second, first
							}
							fault(name, fmt.Sprintf("%s is the key of %s too (%s)", shown(k), second, at), "choose another key for one of them; provost config keys lists all")
						}
					}
				}
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	p := wrong[0]
	p.More = wrong[1:]
	return &p
}
