package wire

import (
	"fmt"

	"app.provost/cluster/quil"
)

// quilSaid is what the adapter says of the config.yml that it was given: what changes in each machine's copy, and what is
// wrong in it and stays so. No secret is in it.
type quilSaid struct {
	changes  []string
	warnings []string
}

// render renders the config.yml of each role once: machines of one role have the same file.
func (s *quilSaid) render(e quil.Era, existing []byte, plan quil.Plan) (map[quil.Role][]byte, error) {
	out := map[quil.Role][]byte{}
	seen := map[string]bool{}
	for _, m := range plan.Machines {
		role := plan.Role(m.Name)
		if _, done := out[role]; done || role == quil.RoleWorkers && len(m.Workers) == 0 {
			continue
		}
		r, err := e.Config(existing, plan, m.Name)
		if err != nil {
			return nil, err
		}
		out[role] = r.Config.Export()
		if r.Fragment {
			continue
		}
		whose := "of machines with workers only"
		if role == quil.RoleControl {
			whose = "of the control machine"
		}
		for _, c := range r.Changes {
			s.changes = append(s.changes, fmt.Sprintf("config.yml %s: %s: %s", whose, c.Text, c.Why))
		}
		if len(r.Changes) == 0 {
			s.changes = append(s.changes, "config.yml "+whose+" is as it should be")
		}
		if r.Reformatted {
			s.changes = append(s.changes, "config.yml "+whose+" is laid out anew: its keys, their order and the comments stay")
		}
		for _, f := range r.Findings {
			at := "--node-config"
			if f.Key != "" {
				at += ", " + f.Key
			}
			if text := fmt.Sprintf("%s: %s: %s", at, f.Text, f.Remedy); !seen[text] && f.Severity != quil.SevNote {
				seen[text] = true
				s.warnings = append(s.warnings, text)
			}
		}
	}
	return out, nil
}
