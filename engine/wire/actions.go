package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/engine/act"
	"app.provost/engine/state"
	"app.provost/engine/super"
	"app.provost/prover"
	"app.provost/prover/queue"
)

const (
	maxPause  = 30 * 24 * time.Hour
	maxUnlock = 8 * time.Hour
	// typeAbove is the share of the running workers above which a pause has to be typed.
	typeAbove = 0.10
)

// clusterVerbs need no running part.
func clusterVerbs() map[engine.ActionKind]act.Verb {
	verbs := map[engine.ActionKind]act.Verb{
		engine.KindCreateCluster: {
			Plan: func(ctx context.Context, a act.Ask) (engine.Plan, error) {
				return planCreateCluster(ctx, a.Action.(engine.CreateCluster))
			},
			Run: func(ctx context.Context, a *act.Act) error {
				a.SetStep("keys")
				at, pace := "keys", newPace()
				r, err := runCreateCluster(ctx, a.Action.(engine.CreateCluster), a.Plan, func(done, total int, what string) {
					if step := stepOf(what); step != "" && step != at {
						a.SetStep(step)
						at = step
					}
					a.Text(pace.text(done, total, what))
				})
				if err != nil {
					return err
				}
				a.SetStep("rename")
				a.Result(func(into *engine.Receipt) { addResult(into, r) })
				return nil
			},
		},
		engine.KindCreateWorkers: workersVerb(newWorkersPlanner()),
		engine.KindShowCluster:   showClusterVerb(),
		engine.KindShowENR:       showENRVerb(),
		engine.KindCreateProver:  proverVerb(newProverHost()),
		engine.KindVerifyCluster: {ReadOnly: true, WhileLocked: true,
			Plan: func(_ context.Context, a act.Ask) (engine.Plan, error) {
				return planVerifyCluster(a.Action.(engine.VerifyCluster))
			},
			Run: func(ctx context.Context, a *act.Act) error {
				r, err := runVerifyCluster(ctx, a.Action.(engine.VerifyCluster))
				if err != nil {
					return err
				}
				a.Result(func(into *engine.Receipt) { addResult(into, r) })
				return nil
			},
		},
	}
	maps.Copy(verbs, nodeVerbs())
	for kind, v := range verbs {
		v.PlanTime = fileTime
		verbs[kind] = v
	}
	return verbs
}

// fileTime is how long a plan may take that reads what may be large, slow or far: the keystores of
// thousands of validators, a lock with all its signatures, a definition on a server.
const fileTime = 5 * time.Minute

func addResult(into *engine.Receipt, r engine.Receipt) {
	into.Title, into.Targets, into.Files, into.Notes, into.Facts, into.Checks = r.Title, r.Targets, r.Files, r.Notes, r.Facts, r.Checks
}

// verbs is the table of contents of what can be asked.
func (e *Engine) verbs() map[engine.ActionKind]act.Verb {
	v := map[engine.ActionKind]act.Verb{
		engine.KindPauseWorkers:   {Plan: e.planPause, Run: e.runPause, Resume: e.takeUpPause, Cancel: e.cancelPause, Long: true},
		engine.KindResumeWorkers:  {Plan: e.planResume, Run: e.runResume, Resume: e.runResume},
		engine.KindRestartWorkers: {Plan: e.planRestart, Run: e.runRestart, Resume: e.runRestart, Cancel: e.cancelPause, Long: true},
		engine.KindUnlockScreens:  {Plan: planUnlock, Run: e.runUnlock, WhileLocked: true},
		engine.KindLockScreens:    {Plan: planLock, Run: e.runLock, WhileLocked: true},
		engine.KindAckAlerts:      {Plan: planAck, Run: e.runAck, WhileLocked: true},
		engine.KindMuteAlerts:     {Plan: planMute, Run: e.runMute, WhileLocked: true},
		engine.KindStopEngine:     {Plan: planStop, Run: e.runStop},
	}
	maps.Copy(v, clusterVerbs())
	if e.proves() { // who does not, answers that he does not
		maps.Copy(v, e.jobVerbs())
		v[engine.KindPauseWorkers] = act.Verb{Plan: e.planPause, Run: e.runPause, Resume: e.resumePause, Cancel: e.cancelPause, Long: true}
		v[engine.KindResumeWorkers] = act.Verb{Plan: e.planResume, Run: e.runResume}
		v[engine.KindRestartWorkers] = act.Verb{Plan: e.planRestart, Run: e.runRestart, Resume: e.runRestart, Cancel: e.cancelPause, Long: true}
	}
	return v
}

func (e *Engine) startActs(context.Context) error {
	d, err := act.New(act.Options{Verbs: e.verbs(), Store: e.store, Spawner: e.scope("act"), Snapshot: e.state.Snapshot,
		Tell:   func(r engine.ActRow) { e.state.Tell(state.PutAct{Row: r}) },
		Record: e.state.Record, Machine: e.machine, Logger: e.log})
	if err != nil {
		return err
	}
	e.desk = d
	return nil
}

func usage(doing, field, cause, remedy string) error {
	return engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Field: field, Cause: cause, Remedy: remedy}.Because(nil)
}

func workerTarget(id prover.WorkerID) string { return "worker/" + string(id) }

// targets of a plan as worker ids.
func workerIDs(targets []string) []prover.WorkerID {
	var out []prover.WorkerID
	for _, t := range targets {
		out = append(out, prover.WorkerID(strings.TrimPrefix(t, "worker/")))
	}
	return out
}

// choose sorts the selected workers into targets and those left out, with the reason.
// Whether a worker is paused is asked of the queue: a snapshot may be a moment
// behind the act before this one.
func (e *Engine) choose(ctx context.Context, a act.Ask, sel engine.Selector, leave func(row *engine.WorkerRow, paused bool) string) (engine.Plan, error) {
	doing := a.Action.Doing()
	if a.Snapshot.Workers == nil {
		return engine.Plan{}, engine.Problem{Code: engine.CodeNotConfigured, Exit: engine.ExitRefused, Doing: doing, Cause: "this engine has no data workers", Remedy: "start it with --workers"}.Because(nil)
	}
	rows, err := engine.SelectWorkers(a.Snapshot.Workers.List(), sel, a.Now)
	if err != nil {
		return engine.Plan{}, withDoing(doing, err)
	}
	now, err := e.queue.Snapshot(ctx)
	if err != nil {
		return engine.Plan{}, queueProblem(doing, err)
	}
	paused := map[prover.WorkerID]bool{}
	for _, v := range now.Workers {
		paused[v.ID] = v.Pause != nil
	}
	var p engine.Plan
	for _, r := range rows {
		if why := leave(r, paused[r.ID]); why != "" {
			p.LeftOut = append(p.LeftOut, engine.LeftOut{Target: workerTarget(r.ID), Why: why})
		} else {
			p.Targets = append(p.Targets, workerTarget(r.ID))
		}
	}
	if len(p.Targets) == 0 {
		cause := fmt.Sprintf("no worker matches %q", sel)
		if len(p.LeftOut) > 0 {
			cause = fmt.Sprintf("nothing to do for %s: %s", p.LeftOut[0].Target, p.LeftOut[0].Why)
		}
		return engine.Plan{}, engine.Problem{Code: engine.CodeNoMatch, Exit: engine.ExitUsage, Doing: doing, Cause: cause, Remedy: "see provost get workers"}.Because(nil)
	}
	return p, nil
}

// planPause: the plan names the workers, not how busy they are: it stays the same
// while readings move.
func (e *Engine) planPause(ctx context.Context, a act.Ask) (engine.Plan, error) {
	c := a.Action.(engine.PauseWorkers)
	length := time.Duration(c.For)
	switch {
	case length == 0:
		return engine.Plan{}, usage(c.Doing(), "for", "no length is given: a pause is a promise with an end", "say how long with --for, as in --for 45m")
	case length < time.Second || length > maxPause:
		return engine.Plan{}, usage(c.Doing(), "for", fmt.Sprintf("--for %s is not possible", c.For), "choose from 1s to 720h")
	case len(c.Reason) > 256:
		return engine.Plan{}, usage(c.Doing(), "reason", "the reason is longer than 256 bytes", "shorten it")
	}
	p, err := e.choose(ctx, a, c.Workers, func(_ *engine.WorkerRow, paused bool) string {
		if paused {
			return "it is paused already; resume it first"
		}
		return ""
	})
	if err != nil {
		return engine.Plan{}, err
	}
	n, running := len(p.Targets), 0
	for _, r := range a.Snapshot.Workers.List() {
		if r.Desired == engine.WishRun {
			running++
		}
	}
	what := count(n, "worker")
	p.Title = fmt.Sprintf("pause %s for %s, then resume", what, c.For)
	p.Steps = []engine.Step{{Name: "drain", Text: "take no new job; each finishes the job it has"}}
	if c.Stop {
		p.Steps = append(p.Steps, engine.Step{Name: "stop", Text: "end the processes that have drained"})
	}
	p.Steps = append(p.Steps, engine.Step{Name: "hold", Text: "stay paused for " + c.For.String() + " from the start, also over a restart of the engine"},
		engine.Step{Name: "resume", Text: "take jobs again, without anybody asking"})
	share := func(k int) string {
		if running == 0 {
			return "-"
		}
		return fmt.Sprintf("%.0f%%", 100*float64(k)/float64(running))
	}
	p.Effects = []engine.Effect{
		{What: "workers taking jobs", Now: fmt.Sprint(running), During: fmt.Sprint(running - n), After: fmt.Sprint(running)},
		{What: "share of capacity", Now: share(running), During: share(running - n), After: share(running)},
		{What: "jobs waiting", Now: queued(a.Snapshot, 0), During: "grows", After: "-"},
	}
	p.Undo = "provost resume worker " + shortTargets(p.Targets) + ", at any time"
	p.Consent = engine.Consent{Level: "enter"}
	if running > 0 && float64(n)/float64(running) > typeAbove {
		p.Consent = engine.Consent{Level: "type", Phrase: fmt.Sprint(n), Why: fmt.Sprintf("%s of the workers that take jobs are paused: type their number", share(n))}
	}
	if running == n {
		p.Warnings = append(p.Warnings, "no worker is left that takes jobs: all jobs wait until the pause ends")
	}
	return p, nil
}

// shortTargets names workers for a command line.
func shortTargets(targets []string) string {
	var ids []string
	for _, t := range targets {
		ids = append(ids, strings.TrimPrefix(t, "worker/"))
	}
	if len(ids) > 8 {
		return fmt.Sprintf("%s … (%d)", ids[0], len(ids))
	}
	return strings.Join(ids, ",")
}

func (e *Engine) runPause(ctx context.Context, a *act.Act) error {
	c := a.Action.(engine.PauseWorkers)
	ids := workerIDs(a.Plan.Targets)
	until := a.Row().Started.Add(time.Duration(c.For)).UTC()
	a.SetStep("drain")
	if err := e.queue.Pause(ctx, ids, prover.Pause{Since: time.Now().UTC(), Until: &until, Reason: c.Reason, By: a.Actor.String(), Act: a.ID()}); err != nil {
		return queueProblem(c.Doing(), err)
	}
	for _, t := range a.Plan.Targets {
		a.Settle(t, "sent", "")
	}
	return e.resumePause(ctx, a)
}

// takeUpPause goes on with the pause of an engine before this one. Nothing was settled where that
// engine ended before it had told the workers: then it begins anew, with the same end.
func (e *Engine) takeUpPause(ctx context.Context, a *act.Act) error {
	if len(a.Row().Settled) == 0 && time.Until(a.Row().Started.Add(time.Duration(a.Action.(engine.PauseWorkers).For))) > 0 {
		return e.runPause(ctx, a)
	}
	return e.resumePause(ctx, a)
}

// resumePause goes on with a pause that stands: it drains, holds, and ends when the
// queue has ended it, by its time or by hand.
func (e *Engine) resumePause(ctx context.Context, a *act.Act) error {
	c := a.Action.(engine.PauseWorkers)
	ids := workerIDs(a.Plan.Targets)
	settled := map[string]string{}
	for _, s := range a.Row().Settled {
		settled[s.Target] = s.State
	}
	for _, id := range ids {
		t := workerTarget(id)
		if settled[t] == "done" {
			continue
		}
		err := e.queue.Drained(ctx, id)
		switch {
		case errors.Is(err, queue.ErrNotPaused):
			a.Settle(t, "refused", "resumed before it had drained")
			continue
		case err != nil:
			return queueProblem(c.Doing(), err)
		}
		if c.Stop {
			a.SetStep("stop")
			if err := e.super.Hold(ctx, string(id)); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				a.Settle(t, "failed", "drained, and its process does not stop: "+err.Error())
				continue
			}
		}
		a.Settle(t, "done", "")
	}
	until := e.pauseEnd(ctx, a)
	a.SetStep("hold")
	a.Hold(until)
	err := e.crew.wait(ctx, func(get func(string) (member, bool)) bool {
		for _, id := range ids {
			if m, ok := get(string(id)); ok && m.view.Pause != nil && m.view.Pause.Act == a.ID() {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	a.SetStep("resume")
	if c.Stop {
		for _, id := range ids {
			if err := e.super.Run(ctx, string(id), engine.WishRun); err != nil && !errors.Is(err, super.ErrUnknown) {
				return fmt.Errorf("start %s again: %w", id, err)
			}
		}
	}
	a.Text("resumed")
	return nil
}

// pauseEnd waits until the crew has heard of the pause and gives its end.
func (e *Engine) pauseEnd(ctx context.Context, a *act.Act) (until *time.Time) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ids := workerIDs(a.Plan.Targets)
	e.crew.wait(ctx, func(get func(string) (member, bool)) bool {
		for _, id := range ids {
			if m, ok := get(string(id)); ok && m.view.Pause != nil && m.view.Pause.Act == a.ID() {
				until = m.view.Pause.Until
				return true
			}
		}
		return false
	})
	return until
}

// cancelPause takes back what an act paused or stopped.
func (e *Engine) cancelPause(ctx context.Context, a *act.Act) error {
	ids := workerIDs(a.Plan.Targets)
	if err := e.queue.Resume(ctx, ids, a.ID()); err != nil {
		return queueProblem(a.Action.Doing(), err)
	}
	for _, id := range ids {
		if st, ok := e.super.Status(string(id)); ok && st.Wish == engine.WishHeld {
			if err := e.super.Run(ctx, string(id), engine.WishRun); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) planResume(ctx context.Context, a act.Ask) (engine.Plan, error) {
	c := a.Action.(engine.ResumeWorkers)
	p, err := e.choose(ctx, a, c.Workers, func(r *engine.WorkerRow, paused bool) string {
		if !paused && r.Desired != engine.WishHeld {
			return "it is not paused"
		}
		return ""
	})
	if err != nil {
		return engine.Plan{}, err
	}
	p.Title = "resume " + count(len(p.Targets), "worker")
	p.Steps = []engine.Step{{Name: "resume", Text: "take jobs again; a process that was stopped is started"}}
	p.Consent = engine.Consent{Level: "enter"}
	return p, nil
}

func (e *Engine) runResume(ctx context.Context, a *act.Act) error {
	ids := workerIDs(a.Plan.Targets)
	a.SetStep("resume")
	if err := e.queue.Resume(ctx, ids, ""); err != nil {
		return queueProblem(a.Action.Doing(), err)
	}
	for _, id := range ids {
		if err := e.super.Run(ctx, string(id), engine.WishRun); err != nil {
			a.Settle(workerTarget(id), "failed", err.Error())
			continue
		}
		a.Settle(workerTarget(id), "done", "")
	}
	return nil
}

func (e *Engine) planRestart(ctx context.Context, a act.Ask) (engine.Plan, error) {
	c := a.Action.(engine.RestartWorkers)
	p, err := e.choose(ctx, a, c.Workers, func(_ *engine.WorkerRow, paused bool) string {
		if paused {
			return "it is paused; resume it first"
		}
		return ""
	})
	if err != nil {
		return engine.Plan{}, err
	}
	p.Title = "restart " + count(len(p.Targets), "worker")
	p.Steps = []engine.Step{
		{Name: "drain", Text: "one after the other: take no new job, finish the job in hand"},
		{Name: "restart", Text: "end the process and start it again"},
		{Name: "report", Text: "wait until the new process reports, then take jobs again"},
	}
	p.Consent = engine.Consent{Level: "enter"}
	p.Undo = "not needed: no job is lost"
	return p, nil
}

// reportPatience is how long a restarted worker may take to report.
const reportPatience = 30 * time.Second

func (e *Engine) runRestart(ctx context.Context, a *act.Act) error {
	settled := map[string]string{}
	for _, s := range a.Row().Settled {
		settled[s.Target] = s.State
	}
	for _, id := range workerIDs(a.Plan.Targets) {
		t := workerTarget(id)
		if settled[t] == "done" {
			continue
		}
		if err := e.restartOne(ctx, a, id); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			a.Settle(t, "failed", err.Error())
			continue
		}
		a.Settle(t, "done", "")
	}
	return nil
}

func (e *Engine) restartOne(ctx context.Context, a *act.Act, id prover.WorkerID) (err error) {
	a.SetStep("drain")
	ids := []prover.WorkerID{id}
	before, _ := e.super.Status(string(id))
	if err := e.queue.Pause(ctx, ids, prover.Pause{Since: time.Now().UTC(), Reason: "restart", By: a.Actor.String(), Act: a.ID()}); err != nil {
		return err
	}
	defer func() {
		if ctx.Err() != nil {
			return // the engine stops, or the act was cancelled: whoever goes on resumes it
		}
		if rerr := e.queue.Resume(ctx, ids, a.ID()); err == nil {
			err = rerr
		}
	}()
	a.Settle(workerTarget(id), "sent", "drains")
	if before.State == super.StateRunning {
		if err := e.queue.Drained(ctx, id); err != nil && !errors.Is(err, queue.ErrNotPaused) {
			return err
		}
	}
	a.SetStep("restart")
	if err := e.super.Restart(ctx, string(id)); err != nil {
		return err
	}
	a.SetStep("report")
	wait, cancel := context.WithTimeout(ctx, reportPatience)
	defer cancel()
	err = e.crew.wait(wait, func(get func(string) (member, bool)) bool {
		m, _ := get(string(id))
		return m.proc.PID > 0 && m.proc.PID != before.PID && m.view.Connected && m.view.PID == m.proc.PID
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("it was started and did not report within %s; see provost logs %s", reportPatience, id)
	}
	return err
}

func planUnlock(_ context.Context, a act.Ask) (engine.Plan, error) {
	c := a.Action.(engine.UnlockScreens)
	d := time.Duration(c.For)
	if d < time.Minute || d > maxUnlock {
		return engine.Plan{}, usage(c.Doing(), "for", fmt.Sprintf("--for %s: screens can be unlocked for 1m to 8h", c.For), "as in: provost unlock --for 15m --reason \"disk swap\"")
	}
	if strings.TrimSpace(c.Reason) == "" || len(c.Reason) > 256 {
		return engine.Plan{}, usage(c.Doing(), "reason", "the journal keeps why: a reason of 1 to 256 bytes is needed", "as in: --reason \"disk swap\"")
	}
	return engine.Plan{Title: "let screens act for " + c.For.String(), Steps: []engine.Step{{Name: "unlock", Text: "screens may order acts until the time is up"}},
		Undo: "provost lock", Consent: engine.Consent{Level: "none"}}, nil
}

func (e *Engine) runUnlock(ctx context.Context, a *act.Act) error {
	c := a.Action.(engine.UnlockScreens)
	until := time.Now().Add(time.Duration(c.For)).UTC()
	return e.state.TellWait(ctx, state.SetUnlocked{Unlocked: &engine.Unlocked{Until: until, By: a.Actor.String(), Reason: c.Reason}},
		state.Note{Entry: engine.Entry{What: "lock.opened", Level: engine.LevelNote, Key: engine.Key{Machine: e.machine}, Actor: &a.Actor, Text: "screens may act for " + c.For.String() + ": " + c.Reason}})
}

func planLock(context.Context, act.Ask) (engine.Plan, error) {
	return engine.Plan{Title: "lock screens", Steps: []engine.Step{{Name: "lock", Text: "screens may only look"}}, Undo: "provost unlock", Consent: engine.Consent{Level: "none"}}, nil
}

func (e *Engine) runLock(ctx context.Context, a *act.Act) error {
	return e.state.TellWait(ctx, state.SetUnlocked{}, state.Note{Entry: engine.Entry{What: "lock.closed", Level: engine.LevelNote, Key: engine.Key{Machine: e.machine}, Actor: &a.Actor, Text: "screens may only look"}})
}

// alertIDs resolves "all" and checks that each id is an open alert.
func alertIDs(s *engine.Snapshot, doing string, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, usage(doing, "id", "no alert is named", "name ids as provost get alerts lists them, or all")
	}
	var open []string
	for _, f := range s.Alerts.List() {
		if f.ClosedAt == nil {
			open = append(open, f.ID)
		}
	}
	if slices.Equal(ids, []string{"all"}) {
		if len(open) == 0 {
			return nil, engine.Problem{Code: engine.CodeNoMatch, Exit: engine.ExitUsage, Doing: doing, Cause: "no alert is open"}.Because(nil)
		}
		return open, nil
	}
	for _, id := range ids {
		if !slices.Contains(open, id) {
			return nil, engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: doing, Cause: fmt.Sprintf("no open alert has the id %q", id), Remedy: "see provost get alerts -o name"}.Because(nil)
		}
	}
	return ids, nil
}

func planAck(_ context.Context, a act.Ask) (engine.Plan, error) {
	c := a.Action.(engine.AckAlerts)
	ids, err := alertIDs(a.Snapshot, c.Doing(), c.IDs)
	if err != nil {
		return engine.Plan{}, err
	}
	return engine.Plan{Title: "acknowledge " + count(len(ids), "alert"), Targets: ids, Steps: []engine.Step{{Name: "ack", Text: "mark as seen; they stay open until their cause is gone"}}, Consent: engine.Consent{Level: "none"}}, nil
}

func (e *Engine) runAck(ctx context.Context, a *act.Act) error {
	done, err := e.state.AckAlerts(ctx, a.Plan.Targets, a.Actor)
	if err != nil {
		return err
	}
	a.Result(func(r *engine.Receipt) { r.Targets = done })
	return nil
}

func planMute(_ context.Context, a act.Ask) (engine.Plan, error) {
	c := a.Action.(engine.MuteAlerts)
	if d := time.Duration(c.For); d < time.Minute || d > 7*24*time.Hour {
		return engine.Plan{}, usage(c.Doing(), "for", fmt.Sprintf("--for %s: an alert can be muted for 1m to 168h", c.For), "as in --for 1h")
	}
	ids, err := alertIDs(a.Snapshot, c.Doing(), c.IDs)
	if err != nil {
		return engine.Plan{}, err
	}
	return engine.Plan{Title: fmt.Sprintf("mute %s for %s", count(len(ids), "alert"), c.For), Targets: ids, Steps: []engine.Step{{Name: "mute", Text: "keep them off the first line; they stay open"}}, Consent: engine.Consent{Level: "none"}}, nil
}

func (e *Engine) runMute(ctx context.Context, a *act.Act) error {
	c := a.Action.(engine.MuteAlerts)
	done, err := e.state.MuteAlerts(ctx, a.Plan.Targets, time.Now().Add(time.Duration(c.For)).UTC(), a.Actor)
	if err != nil {
		return err
	}
	a.Result(func(r *engine.Receipt) { r.Targets = done })
	return nil
}

func planStop(_ context.Context, a act.Ask) (engine.Plan, error) {
	c := a.Action.(engine.StopEngine)
	p := engine.Plan{Title: "stop the engine", Consent: engine.Consent{Level: "none"}, Undo: "provost up",
		Steps: []engine.Step{{Name: "stop", Text: "take no new acts, stop handing out jobs, write the state, end within 10 s"}}}
	if c.Workers {
		p.Title = "stop the engine and its workers"
		p.Steps = append(p.Steps, engine.Step{Name: "workers", Text: "end the workers; jobs in hand go back to the queue"})
	} else {
		p.Steps = append(p.Steps, engine.Step{Name: "workers", Text: "leave the workers alone: they finish the job in hand and wait for the next engine"})
		if a.Snapshot != nil && a.Snapshot.Nodes != nil {
			running := 0
			for _, n := range a.Snapshot.Nodes.Rows {
				if n.State == "running" {
					running++
				}
			}
			if running > 0 {
				p.Warnings = append(p.Warnings, count(running, "node")+" running here: that goes on without the engine until provost up takes it back; provost down --workers ends nodes too")
			}
		}
	}
	return p, nil
}

func (e *Engine) runStop(_ context.Context, a *act.Act) error {
	e.end(nil, a.Action.(engine.StopEngine).Workers)
	return nil
}
