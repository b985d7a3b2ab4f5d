package act

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

// check finds the verb and tells whether this actor may ask for it at all.
func (d *Desk) check(r engine.Request, do bool) (Verb, []byte, error) {
	if r.Action == nil {
		return Verb{}, nil, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "act", Field: "action",
			Cause: "the request names no action", Remedy: "send one of the known kinds"}
	}
	doing := r.Action.Doing()
	raw, err := engine.MarshalAction(r.Action)
	if err != nil {
		return Verb{}, nil, engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Field: "action",
			Remedy: "send one of the known kinds"}.Because(err)
	}
	if do && (r.Key == "" || len(r.Key) > maxKey) {
		return Verb{}, nil, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Field: "key",
			Cause: fmt.Sprintf("the request key has %d bytes", len(r.Key)), Remedy: fmt.Sprintf("choose a random one of 1 to %d bytes and send it again with every retry", maxKey)}
	}
	verb, ok := d.verbs[r.Action.Kind()]
	if !ok {
		return Verb{}, nil, &engine.Problem{Code: engine.CodeNotConfigured, Exit: engine.ExitUsage, Doing: doing,
			Cause: "this engine does not carry the role for it", Remedy: "ask the engine that does; provost status shows the roles"}
	}
	if do {
		if err := mayAsk(d.o.Snapshot(), verb, r.Actor, doing, time.Now()); err != nil {
			return Verb{}, nil, err
		}
	}
	return verb, raw, nil
}

// mayAsk holds the timed lock: screens act only while it is open. Who asks from a
// shell or over HTTP names the plan, which is consent enough.
func mayAsk(s *engine.Snapshot, verb Verb, by engine.Actor, doing string, now time.Time) error {
	switch by.Via {
	case engine.ViaCLI, engine.ViaHTTP, engine.ViaRule:
		return nil
	case engine.ViaScreen:
		if verb.ReadOnly || verb.WhileLocked {
			return nil
		}
		if s != nil && s.Engine != nil {
			if u := s.Engine.Value.Unlocked; u != nil && now.Before(u.Until) {
				return nil
			}
		}
		return &engine.Problem{Code: engine.CodeLocked, Exit: engine.ExitNotAllowed, Doing: doing,
			Cause: "screens are locked: they may look and not act", Remedy: "unlock for a while with :unlock 15m REASON or provost unlock --for 15m --reason REASON"}
	}
	return &engine.Problem{Code: engine.CodeDenied, Exit: engine.ExitNotAllowed, Doing: doing, Field: "via",
		Cause: fmt.Sprintf("the request does not say through which face it comes (%q)", by.Via), Remedy: "ask through a screen, the command line or HTTP"}
}

// plan makes the plan as it is now.
func (d *Desk) plan(ctx context.Context, verb Verb, r engine.Request) (engine.Plan, error) {
	doing := r.Action.Doing()
	caller := ctx
	limit := cmp.Or(verb.PlanTime, planTime)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s, now := d.o.Snapshot(), time.Now().UTC()
	p, err := verb.Plan(ctx, Ask{Action: r.Action, Actor: r.Actor, Snapshot: s, Now: now})
	if err != nil {
		if caller.Err() != nil {
			return engine.Plan{}, gone(caller, doing, "")
		}
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			return engine.Plan{}, engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitTimeout, Doing: doing,
				Cause: fmt.Sprintf("no plan could be made within %s, so nothing was done", limit), Remedy: "see whether disk, network and processors are busy or slow, and ask again"}.Because(err)
		}
		return engine.Plan{}, engine.AsProblem(doing, err)
	}
	if p.Command == "" {
		p.Command = "provost " + engine.ShellLine(r.Action.CommandLine())
	}
	if p.Consent.Level == "" {
		p.Consent.Level = "enter"
		if verb.ReadOnly {
			p.Consent.Level = "none"
		}
	}
	p.ReadOnly, p.MadeAt = verb.ReadOnly, now
	if p.Sections == nil && s != nil {
		p.Sections = map[engine.SectionName]uint64{}
		for _, n := range engine.SectionNames {
			if v := s.Version(n); v != 0 {
				p.Sections[n] = v
			}
		}
	}
	if p, err = p.Seal(r.Action); err != nil {
		return engine.Plan{}, engine.AsProblem(doing, err)
	}
	return p, nil
}

// consent compares the plan as it is now with the one that was agreed to. Rules of
// the engine itself agree to whatever the plan is.
func consent(r engine.Request, plan engine.Plan, digest engine.Digest) error {
	doing := r.Action.Doing()
	switch {
	case r.Actor.Via == engine.ViaRule:
		return nil
	case digest == "":
		return &engine.Problem{Code: engine.CodePlanNeeded, Exit: engine.ExitDeclined, Doing: doing, Field: "digest", Plan: &plan,
			Cause: "no plan was named, so nothing was agreed to", Remedy: "look at the plan and confirm it (--confirm " + string(plan.Digest)[:6] + ")"}
	case !plan.Digest.Fits(digest):
		return &engine.Problem{Code: engine.CodePlanChanged, Exit: engine.ExitRefused, Doing: doing, Field: "digest", Plan: &plan,
			Cause: fmt.Sprintf("the plan is not %s any more: %s", digest, plan.Title), Remedy: "look at the new plan and confirm it (--confirm " + string(plan.Digest)[:6] + ")"}
	}
	return nil
}

func otherAction(doing string) error {
	return &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Field: "key",
		Cause: "this request key was used for another action", Remedy: "choose a new key for a new request"}
}

func busy(doing, cause string) error {
	return &engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitUnexpected, Doing: doing, Cause: cause, Remedy: "wait for some to end (provost acts list) and ask again"}
}

// gone answers a caller whose time is up.
func gone(ctx context.Context, doing, id string) error {
	p := engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitTimeout, Doing: doing,
		Cause: "the caller's time was up before an answer was there", Remedy: "ask again with the same key: it is done once"}
	if id != "" {
		p.Cause = "the caller's time was up; act " + id + " goes on in the engine"
		p.Remedy = "see provost acts show " + id
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		p.Cause = strings.Replace(p.Cause, "time was up", "request was withdrawn", 1)
	}
	return p.Because(cause)
}

// reason is why somebody asked, where the action carries it.
func reason(a engine.Action) string {
	switch a := a.(type) {
	case engine.PauseWorkers:
		return a.Reason
	case engine.ResumeWorkers:
		return a.Reason
	case engine.RestartWorkers:
		return a.Reason
	case engine.CancelJobs:
		return a.Reason
	case engine.UnlockScreens:
		return a.Reason
	}
	return ""
}

// short names targets in little room: "w1-w4, w7", "job j1 and 3 more".
func short(targets []string) string {
	var parts []string
	from, to := prover.Core(0), prover.Core(0)
	flush := func() {
		switch {
		case from == 0:
		case from == to:
			parts = append(parts, string(prover.WorkerFor(from)))
		case to == from+1:
			parts = append(parts, string(prover.WorkerFor(from)), string(prover.WorkerFor(to)))
		default:
			parts = append(parts, string(prover.WorkerFor(from))+"-"+string(prover.WorkerFor(to)))
		}
		from, to = 0, 0
	}
	for _, t := range targets {
		kind, name, ok := strings.Cut(t, "/")
		if !ok {
			name = t
		}
		if _, core, err := prover.ParseWorkerID(name); kind == "worker" && err == nil {
			if from != 0 && core == to+1 {
				to = core
				continue
			}
			flush()
			from, to = core, core
			continue
		}
		flush()
		parts = append(parts, name)
	}
	flush()
	if len(parts) > 4 {
		return fmt.Sprintf("%s and %d more", strings.Join(parts[:3], ", "), len(parts)-3)
	}
	return strings.Join(parts, ", ")
}
