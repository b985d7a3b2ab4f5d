package wire

import (
	"context"
	"fmt"

	"app.provost/cluster/create"
	"app.provost/engine"
	"app.provost/engine/act"
)

// The verbs that only look at files. They need no running part.

func showClusterVerb() act.Verb {
	return act.Verb{ReadOnly: true, WhileLocked: true,
		Plan: func(_ context.Context, a act.Ask) (engine.Plan, error) {
			path := a.Action.(engine.ShowCluster).Path
			return lookPlan("show "+path, path, "read the lock or the definition; no file with a secret, and nothing is verified"), nil
		},
		Run: func(_ context.Context, a *act.Act) error {
			s, err := create.Show(a.Action.(engine.ShowCluster).Path)
			if err != nil {
				return clusterProblem(a.Action, err)
			}
			a.Result(func(into *engine.Receipt) {
				into.Title, into.Targets, into.Cluster, into.Notes = "show "+s.Path, []string{s.Path}, &s, s.Notes
			})
			return nil
		},
	}
}

func showENRVerb() act.Verb {
	return act.Verb{ReadOnly: true, WhileLocked: true,
		Plan: func(_ context.Context, a act.Ask) (engine.Plan, error) {
			x := a.Action.(engine.ShowENR)
			if (x.File == "") == (x.Record == "") {
				return engine.Plan{}, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: x.Doing(), Cause: "a key file and a node record are given, or neither is", Remedy: "name one of them"}
			}
			if x.Record != "" {
				return lookPlan("decode a node record", "node record", "check the record's signature and read what is in it"), nil
			}
			return lookPlan("make the node record of "+x.File, x.File, "read the node's private key, make its record, and forget the key"), nil
		},
		Run: func(_ context.Context, a *act.Act) error {
			x := a.Action.(engine.ShowENR)
			var notes []string
			id, err := create.DecodeRecord(x.Record)
			if x.File != "" {
				var finding *create.Finding
				if id, finding, err = create.NodeIdentity(x.File); finding != nil {
					notes = append(notes, fmt.Sprintf("warning: %s; %s", finding.Problem, finding.Remedy))
				}
			}
			if err != nil {
				return clusterProblem(x, err)
			}
			a.Result(func(into *engine.Receipt) {
				into.Title, into.Identity, into.Notes = "node record of "+id.PeerID, &id, notes
			})
			return nil
		},
	}
}

// lookPlan is the plan of an act that only reads.
func lookPlan(title, target, text string) engine.Plan {
	return engine.Plan{Title: title, ReadOnly: true, Targets: []string{target}, Consent: engine.Consent{Level: "none"}, Steps: []engine.Step{{Name: "read", Text: text}}}
}
