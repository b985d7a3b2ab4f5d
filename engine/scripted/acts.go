package scripted

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

const (
	maxPause  = 24 * time.Hour
	maxUnlock = 8 * time.Hour
	maxOpen   = 64
	maxAsked  = 1000 // jobs submitted by hand, kept
)

// act is one act of the ledger: what happens when is known when it is taken.
type act struct {
	id, target, reason, command string
	kind                        engine.ActionKind
	by                          engine.Actor
	digest                      engine.Digest
	steps                       []engine.Step
	asked                       time.Duration
	targets                     []target
	hold                        time.Duration // end of a pause; 0: it holds nothing
	over                        time.Duration // taken back at; 0: not
	cancelled                   bool
	why                         string
}

type target struct {
	name    string
	worker  int // -1: none
	at      time.Duration
	refused string
}

func (a *act) settled() time.Duration {
	last := a.asked
	for i := range a.targets {
		last = max(last, a.targets[i].at)
	}
	return last
}

func (a *act) end() time.Duration {
	switch {
	case a.over != 0:
		return a.over
	case a.hold != 0:
		return a.hold
	}
	return a.settled()
}

// changed is when the act's row last became another one.
func (a *act) changed(at time.Duration) time.Duration {
	if end := a.end(); end <= at {
		return end
	}
	last := a.asked
	for i := range a.targets {
		if t := a.targets[i].at; t <= at {
			last = max(last, t)
		}
	}
	return last
}

func pauseSteps(stop bool) []engine.Step {
	st := []engine.Step{{Name: "drain", Text: "each worker finishes its job and takes no other"}}
	if stop {
		st = append(st, engine.Step{Name: "stop", Text: "end the processes that have drained"})
	}
	return append(st, engine.Step{Name: "hold", Text: "keep them paused until the end"}, engine.Step{Name: "resume", Text: "let them take jobs again, without being asked"})
}

var restartSteps = []engine.Step{
	{Name: "drain", Text: "the worker finishes its job and takes no other"},
	{Name: "stop", Text: "end its process"},
	{Name: "start", Text: "start it again and wait until it reports"},
}

func (a *act) row(s *script) engine.ActRow {
	r := engine.ActRow{Key: s.here(a.id), ID: a.id, Kind: a.kind, Target: a.target, By: a.by, Reason: a.reason, Digest: a.digest, Command: a.command,
		Started: s.wall(a.asked), Steps: a.steps, State: engine.ActRunning, Step: min(1, len(a.steps))}
	end, done, refused := a.end(), 0, 0
	r.Settled = make([]engine.Settled, len(a.targets))
	for i := range a.targets {
		t := &a.targets[i]
		x := engine.Settled{Target: t.name, State: "sent", At: s.wallp(a.asked)}
		if t.at <= min(s.at, end) {
			x.State, x.At = "done", s.wallp(t.at)
			done++
			if t.refused != "" {
				x.State, x.Why = "refused", t.refused
				done--
				refused++
			}
		}
		r.Settled[i] = x
	}
	switch {
	case end <= s.at:
		r.Ended, r.Step = s.wallp(end), len(a.steps)
		r.State = engine.ActDone
		switch {
		case a.cancelled:
			r.State = engine.ActCancelled
		case refused > 0:
			r.State = engine.ActPartly
		}
		r.Text = cmp.Or(a.why, fmt.Sprintf("%d of %d done", done, len(a.targets)))
		if refused > 0 {
			r.Text += fmt.Sprintf(", %d refused", refused)
		}
	case a.hold != 0 && done == len(a.targets):
		r.State, r.Until, r.Step = engine.ActHolding, s.wallp(a.hold), len(a.steps)-1
		r.Text = fmt.Sprintf("%d paused", done)
	default:
		if a.hold != 0 {
			r.Until = s.wallp(a.hold)
		}
		if done > 0 && len(a.steps) > 1 {
			r.Step = 2
		}
		r.Text = fmt.Sprintf("%d of %d done", done, len(a.targets))
	}
	return r
}

func (s *script) lastAct() time.Duration {
	last := time.Duration(0)
	for _, a := range s.acts {
		if a.asked <= s.at {
			last = max(last, a.changed(s.at))
		}
	}
	return last
}

func (s *script) actRows() []engine.ActRow {
	var open, rest []engine.ActRow
	for i := len(s.acts) - 1; i >= 0; i-- {
		a := s.acts[i]
		switch {
		case a.asked > s.at:
		case a.end() > s.at:
			open = append(open, a.row(s))
		case len(rest) < keepActs:
			rest = append(rest, a.row(s))
		}
	}
	return append(open, rest...)
}

func (s *script) actID() string {
	s.actN++
	return fmt.Sprintf("a%d", s.actN)
}

// selector names an act's workers as a command line does.
func selector(s *script, a *act) engine.Selector {
	ids := make([]string, len(a.targets))
	for i := range a.targets {
		ids[i] = string(s.workers[a.targets[i].worker].id)
	}
	return engine.Selector(strings.Join(ids, ","))
}

// take puts an act of the script's own into ledger and journal.
func (s *script) take(a *act, what engine.Action) {
	a.command = "provost " + engine.ShellLine(what.CommandLine())
	a.target = short(s, a)
	p := engine.Plan{Title: what.Doing() + " " + a.target, Steps: a.steps}
	for i := range a.targets {
		p.Targets = append(p.Targets, a.targets[i].name)
	}
	if p, err := p.Seal(what); err == nil {
		a.digest = p.Digest
	}
	if a.hold != 0 {
		a.why = "over, the workers take jobs again"
	}
	s.acts = append(s.acts, a)
	slices.SortStableFunc(s.acts, func(a, b *act) int { return cmp.Compare(a.asked, b.asked) })
	s.plan(a.asked, a.id, engine.Entry{Level: engine.LevelNote, What: "act.asked", Key: s.here(a.id), Actor: &a.by, Text: a.id + ": " + what.Doing() + " " + a.target + ": " + a.reason})
	s.plan(a.end(), a.id, engine.Entry{Level: engine.LevelNote, What: "act.done", Key: s.here(a.id), Actor: &a.by, Text: a.id + ": " + what.Doing() + " " + a.target + ": done"})
}

// short names targets in little room.
func short(s *script, a *act) string {
	var parts []string
	for i := 0; i < len(a.targets); i++ {
		j := i
		for j+1 < len(a.targets) && a.targets[i].worker >= 0 && a.targets[j+1].worker == a.targets[j].worker+1 {
			j++
		}
		name := a.targets[i].name
		if _, id, ok := strings.Cut(name, "/"); ok {
			name = id
		}
		if j > i {
			_, last, _ := strings.Cut(a.targets[j].name, "/")
			name += "-" + last
		}
		parts = append(parts, name)
		i = j
	}
	if len(parts) > 4 {
		return fmt.Sprintf("%s and %d more", strings.Join(parts[:3], ", "), len(parts)-3)
	}
	return strings.Join(parts, ", ")
}

// asked is a job that somebody submitted.
type asked struct {
	id     prover.JobID
	name   string
	by     string
	at     time.Duration
	worker int // proves it; -1: none can
	begin  time.Duration
	ready  time.Duration
	over   time.Duration // withdrawn at; 0: not
}

func (a *asked) part(at time.Duration) float64 {
	return min(max(float64(at-a.begin)/float64(a.ready-a.begin), 0), 1)
}

func (a *asked) state(at time.Duration) prover.JobState {
	switch {
	case a.over != 0 && a.over <= at:
		return prover.JobCancelled
	case a.worker < 0 || at < a.begin:
		return prover.JobQueued
	case at < a.ready:
		return prover.JobLeased
	case at < a.ready+second:
		return prover.JobProved
	}
	return prover.JobVerified
}

func (a *asked) row(s *script) engine.JobRow {
	r := engine.JobRow{Key: s.here(string(a.id)), ID: a.id, Kind: prover.Groth16Zkey, Name: a.name, Constraints: constraints, State: a.state(s.at), SubmittedAt: s.wall(a.at), SubmittedBy: a.by}
	switch {
	case r.State == prover.JobCancelled:
		r.FinishedAt = s.wallp(a.over)
		return r
	case r.State == prover.JobQueued:
		return r
	}
	r.Attempts, r.Worker, r.StartedAt = 1, s.workers[a.worker].id, s.wallp(a.begin)
	switch r.State {
	case prover.JobLeased:
		r.Progress = ref(a.part(s.at))
		r.Phase = phase(*r.Progress)
		return r
	case prover.JobProved:
		r.Phase = prover.PhaseVerify
	case prover.JobVerified:
		r.FinishedAt = s.wallp(a.ready + second)
	}
	r.ProveMS = ref(float64((a.ready - a.begin).Milliseconds()))
	return r
}

// lent is the job asked for by hand that a worker proves now.
func (s *script) lent(worker int) *asked {
	for _, a := range s.jobs {
		if a.worker == worker && a.state(s.at) == prover.JobLeased {
			return a
		}
	}
	return nil
}

// Preview says what an action would do.
func (e *Engine) Preview(ctx context.Context, r engine.Request) (engine.Plan, error) {
	if err := ctx.Err(); err != nil {
		return engine.Plan{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p, _, err := e.planLocked(r)
	return p, err
}

// Do carries an action out on the script's own state.
func (e *Engine) Do(ctx context.Context, r engine.Request, digest engine.Digest) (engine.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return engine.Receipt{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.Action == nil {
		return engine.Receipt{}, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "act", Field: "action", Cause: "the request names no action", Remedy: "name one"}
	}
	doing := r.Action.Doing()
	if r.Key == "" || len(r.Key) > 128 {
		return engine.Receipt{}, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Field: "key",
			Cause: fmt.Sprintf("the request key has %d bytes", len(r.Key)), Remedy: "choose a random one of 1 to 128 bytes and send it again with every retry"}
	}
	raw, err := engine.MarshalAction(r.Action)
	if err != nil {
		return engine.Receipt{}, engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Field: "action", Remedy: "send one of the known kinds"}.Because(err)
	}
	if old, ok := e.keys[r.Key]; ok {
		if !bytes.Equal(old.action, raw) {
			return engine.Receipt{}, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Field: "key", Cause: "this request key was used for another action", Remedy: "choose a new key for a new request"}
		}
		old.receipt.Repeated = true
		return old.receipt, nil
	}
	if e.over {
		return engine.Receipt{}, &engine.Problem{Code: engine.CodeStopping, Exit: engine.ExitNotAllowed, Doing: doing, Cause: "the script has ended", Remedy: "start it again"}
	}
	e.s.advance(e.moment())
	if !mayAsk(e.s, r) {
		return engine.Receipt{}, &engine.Problem{Code: engine.CodeLocked, Exit: engine.ExitNotAllowed, Doing: doing,
			Cause: "screens are locked: they may look and not act", Remedy: "unlock for a while with :unlock 15m REASON or provost unlock --for 15m --reason REASON"}
	}
	plan, apply, err := e.planLocked(r)
	if err != nil {
		return engine.Receipt{}, err
	}
	switch {
	case digest == "":
		return engine.Receipt{}, &engine.Problem{Code: engine.CodePlanNeeded, Exit: engine.ExitDeclined, Doing: doing, Field: "digest", Plan: &plan,
			Cause: "no plan was named, so nothing was agreed to", Remedy: "look at the plan and confirm it (--confirm " + string(plan.Digest)[:6] + ")"}
	case !plan.Digest.Fits(digest):
		return engine.Receipt{}, &engine.Problem{Code: engine.CodePlanChanged, Exit: engine.ExitRefused, Doing: doing, Field: "digest", Plan: &plan,
			Cause: fmt.Sprintf("the plan is not %s any more: %s", digest, plan.Title), Remedy: "look at the new plan and confirm it (--confirm " + string(plan.Digest)[:6] + ")"}
	}
	s := e.s
	a := &act{id: fmt.Sprintf("u%d", s.userActs+1), kind: r.Action.Kind(), by: r.Actor, digest: plan.Digest, command: plan.Command, steps: plan.Steps, asked: s.at}
	receipt := engine.Receipt{Key: r.Key, Act: a.id, Digest: plan.Digest, At: s.wall(s.at), Title: plan.Title, Targets: plan.Targets, Notes: []string{Practice}}
	s.userActs++
	by := r.Actor
	s.log(engine.Entry{At: s.wall(s.at), Level: engine.LevelNote, What: "act.asked", Key: s.here(a.id), Actor: &by, Text: a.id + ": " + plan.Title})
	apply(a, &receipt)
	if a.target == "" {
		a.target = short(s, a)
	}
	end := a.end()
	if end <= s.at {
		receipt.Done = true
		s.log(engine.Entry{At: s.wall(s.at), Level: engine.LevelNote, What: "act.done", Key: s.here(a.id), Actor: &by, Text: a.id + ": " + plan.Title + ": done"})
	} else {
		s.plan(end, a.id, engine.Entry{Level: engine.LevelNote, What: "act.done", Key: s.here(a.id), Actor: &by, Text: a.id + ": " + plan.Title + ": done"})
	}
	s.acts = append(s.acts, a)
	s.touch(engine.SecActs, engine.SecVerdict)
	e.keys[r.Key] = answer{raw, receipt}
	if e.keyAge = append(e.keyAge, r.Key); len(e.keyAge) > keepKeys {
		delete(e.keys, e.keyAge[0])
		e.keyAge = slices.Delete(e.keyAge, 0, 1)
	}
	return receipt, nil
}

// mayAsk holds the timed lock of screens.
func mayAsk(s *script, r engine.Request) bool {
	if r.Actor.Via != engine.ViaScreen || s.open != nil {
		return true
	}
	switch r.Action.Kind() {
	case engine.KindUnlockScreens, engine.KindLockScreens, engine.KindAckAlerts, engine.KindMuteAlerts:
		return true // they change what is shown, not what runs
	}
	return false
}

type applyFunc func(a *act, r *engine.Receipt)

// planLocked says what would be done, and gives the function that does it.
func (e *Engine) planLocked(r engine.Request) (engine.Plan, applyFunc, error) {
	s := e.s
	if r.Action == nil {
		return engine.Plan{}, nil, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "act", Field: "action", Cause: "the request names no action", Remedy: "name one"}
	}
	snap := e.pub.Load().snap
	p := engine.Plan{Command: "provost " + engine.ShellLine(r.Action.CommandLine()), MadeAt: s.wall(s.at), Consent: engine.Consent{Level: "enter"}, Sections: map[engine.SectionName]uint64{}}
	for _, n := range engine.SectionNames {
		if v := snap.Version(n); v != 0 {
			p.Sections[n] = v
		}
	}
	var apply applyFunc
	var err error
	switch a := r.Action.(type) {
	case engine.PauseWorkers:
		apply, err = s.planPause(a, &p)
	case engine.ResumeWorkers:
		apply, err = s.planResume(a, &p, r.Actor)
	case engine.RestartWorkers:
		apply, err = s.planRestart(a, &p)
	case engine.SubmitJob:
		apply, err = s.planSubmit(a, &p, r)
	case engine.CancelJobs:
		apply, err = s.planCancelJobs(a, &p, snap)
	case engine.UnlockScreens:
		apply, err = s.planUnlock(a, &p, r.Actor)
	case engine.LockScreens:
		p.Title = "lock the screens"
		apply = func(*act, *engine.Receipt) {
			s.open = nil
			s.log(engine.Entry{At: s.wall(s.at), Level: engine.LevelNote, What: "lock.closed", Key: s.here(""), Text: "screens are locked again"})
			s.touch(engine.SecEngine)
		}
	case engine.AckAlerts:
		apply, err = s.planMarks(a.IDs, &p, "acknowledge", func(m *mark) { m.by, m.at = cmp.Or(r.Actor.String(), "somebody"), s.wall(s.at) })
	case engine.MuteAlerts:
		if a.For <= 0 || time.Duration(a.For) > maxPause {
			return p, nil, usage(a, "for", fmt.Sprintf("%s is no time to mute for", a.For), "give between 1s and 24h")
		}
		until := s.at + s.span(a.For)
		apply, err = s.planMarks(a.IDs, &p, "mute for "+a.For.String(), func(m *mark) { m.muted, m.until = s.wallp(until), until })
	case engine.CancelAct:
		apply, err = s.planCancel(a, &p)
	default:
		return p, nil, &engine.Problem{Code: engine.CodeNotConfigured, Exit: engine.ExitUsage, Doing: r.Action.Doing(),
			Cause: "this is a script for learning the screens, it has no part for that", Remedy: "use provost demo without --scripted, or a real engine"}
	}
	if err != nil {
		return engine.Plan{}, nil, engine.AsProblem(r.Action.Doing(), err)
	}
	p.Warnings = append([]string{Practice}, p.Warnings...)
	p, err = p.Seal(r.Action)
	if err != nil {
		return engine.Plan{}, nil, engine.AsProblem(r.Action.Doing(), err)
	}
	return p, apply, nil
}

func usage(a engine.Action, field, cause, remedy string) error {
	return &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: a.Doing(), Field: field, Cause: cause, Remedy: remedy}
}

// span is a length of time as the script counts it.
func (s *script) span(d engine.Duration) time.Duration {
	return max(ceil(time.Duration(float64(d)*s.speed), beat), beat)
}

// choose finds the workers of a selector in the state of this moment.
func (s *script) choose(a engine.Action, sel engine.Selector) ([]int, error) {
	if len(s.workers) == 0 {
		return nil, &engine.Problem{Code: engine.CodeNoMatch, Exit: engine.ExitUsage, Doing: a.Doing(), Field: "selector", Cause: "this script has no workers", Remedy: "see provost get workers"}
	}
	var rows []engine.WorkerRow
	if s.snap != nil {
		rows = s.snap.Workers.List()
	}
	chosen, err := engine.SelectWorkers(rows, sel, s.wall(s.at))
	if err != nil {
		p := *engine.AsProblem(a.Doing(), err)
		p.Doing = a.Doing()
		return nil, &p
	}
	byID := make(map[prover.WorkerID]int, len(s.workers))
	for i := range s.workers {
		byID[s.workers[i].id] = i
	}
	out := make([]int, len(chosen))
	for i, c := range chosen {
		out[i] = byID[c.ID]
	}
	return out, nil
}

func (s *script) none(a engine.Action, left []engine.LeftOut) error {
	return &engine.Problem{Code: engine.CodeNoMatch, Exit: engine.ExitUsage, Doing: a.Doing(), Field: "selector",
		Cause: fmt.Sprintf("none of the %d chosen can be: %s is %s", len(left), left[0].Target, left[0].Why), Remedy: "choose others, see provost get workers"}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// effects compares now, while it lasts and afterwards.
func (s *script) effects(p *engine.Plan, chosen []int, during string) {
	run, paused, touched := 0, 0, 0
	for i := range s.workers {
		switch st, _ := s.workers[i].state(s.at); st {
		case engine.WorkerRun, engine.WorkerIdle:
			run++
			if slices.Contains(chosen, i) {
				touched++
			}
		case engine.WorkerPaused, engine.WorkerPausing:
			paused++
		}
	}
	share := func(n int) string { return fmt.Sprintf("%.1f%%", 100*float64(n)/float64(max(len(s.workers), 1))) }
	rate := func(n int) string { return fmt.Sprint(n * 60 / 100) }
	num := func(n int) string { return fmt.Sprint(n) }
	p.Effects = []engine.Effect{
		{What: "workers proving", Now: num(run), During: num(run - touched), After: num(run)},
		{What: "share of all workers", Now: share(run), During: share(run - touched), After: share(run)},
		{What: "proofs a minute, about", Now: rate(run), During: rate(run - touched), After: rate(run)},
		{What: during, Now: num(paused), During: num(paused + len(chosen)), After: num(paused)},
	}
}

func (s *script) consent(p *engine.Plan, n int) {
	if len(s.workers) > 0 && n*10 > len(s.workers) && n > 1 {
		p.Consent = engine.Consent{Level: "type", Phrase: fmt.Sprint(n), Why: fmt.Sprintf("more than 10%% of all workers (%d of %d)", n, len(s.workers))}
	}
}

func (s *script) targetsOf(p *engine.Plan, chosen []int) {
	for _, i := range chosen {
		p.Targets = append(p.Targets, "worker/"+string(s.workers[i].id))
	}
}

// cut ends an outage now and what was raised for it.
func (s *script) cut(i, out int) {
	o := &s.workers[i].outs[out]
	o.to = s.at
	o.then = min(o.then, o.to)
	if o.trouble != nil && o.trouble.to > s.at {
		o.trouble.to = s.at
		s.coming = slices.DeleteFunc(s.coming, func(c coming) bool {
			return c.entry.What == "alert.closed" && c.entry.Key == o.trouble.f.Key && c.entry.Code == o.trouble.f.Code
		})
		s.log(engine.Entry{At: s.wall(s.at), Level: engine.LevelOK, What: "alert.closed", Key: o.trouble.f.Key, Code: o.trouble.f.Code, Text: o.trouble.f.Target + ": over"})
		s.touch(engine.SecAlerts)
	}
	// An outage that is written for later stays; one of no length is no outage.
	s.workers[i].made.rev = -1
}

func (s *script) drain(i int) time.Duration {
	return 2*second + time.Duration(s.hash('x', int64(i), int64(s.at/beat))%24)*beat*2
}

func (s *script) planPause(a engine.PauseWorkers, p *engine.Plan) (applyFunc, error) {
	switch {
	case a.For <= 0 || time.Duration(a.For) > maxPause:
		return nil, usage(a, "for", fmt.Sprintf("%s is no time to pause for", a.For), "give between 1s and 24h, as in 45m")
	case strings.TrimSpace(a.Reason) == "":
		return nil, usage(a, "reason", "no reason is given", "say why, it is kept in the journal")
	}
	all, err := s.choose(a, a.Workers)
	if err != nil {
		return nil, err
	}
	var chosen []int
	for _, i := range all {
		w := &s.workers[i]
		o := w.out(s.at)
		switch {
		case o >= 0 && w.outs[o].kind == outPaused:
			p.LeftOut = append(p.LeftOut, engine.LeftOut{Target: "worker/" + string(w.id), Why: "paused already (act " + w.outs[o].act + ")"})
		case o >= 0 && (w.outs[o].kind == outHeld || w.outs[o].kind == outGone):
			p.LeftOut = append(p.LeftOut, engine.LeftOut{Target: "worker/" + string(w.id), Why: "not running"})
		default:
			chosen = append(chosen, i)
		}
	}
	if len(chosen) == 0 {
		return nil, s.none(a, p.LeftOut)
	}
	p.Title = fmt.Sprintf("pause %s for %s, then resume", plural(len(chosen), "worker"), a.For)
	p.Steps = pauseSteps(a.Stop)
	p.Undo = "provost resume worker " + engine.ShellLine([]string{string(a.Workers)}) + ", at any time"
	s.targetsOf(p, chosen)
	s.effects(p, chosen, "paused")
	s.consent(p, len(chosen))
	return func(act *act, _ *engine.Receipt) {
		act.reason, act.hold = a.Reason, s.at+s.span(a.For)
		act.why = "over, the workers take jobs again"
		for _, i := range chosen {
			w := &s.workers[i]
			if o := w.out(s.at); o >= 0 {
				s.cut(i, o)
			}
			drained := min(s.at+s.drain(i), act.hold)
			s.happen(i, outage{kind: outPaused, from: s.at, then: drained, to: act.hold, stop: a.Stop, why: a.Reason, act: act.id}, nil)
			act.targets = append(act.targets, target{name: "worker/" + string(w.id), worker: i, at: drained})
		}
		s.touch(engine.SecWorkers, engine.SecJobs)
	}, nil
}

func (s *script) planResume(a engine.ResumeWorkers, p *engine.Plan, by engine.Actor) (applyFunc, error) {
	all, err := s.choose(a, a.Workers)
	if err != nil {
		return nil, err
	}
	var chosen []int
	for _, i := range all {
		w := &s.workers[i]
		if o := w.out(s.at); o >= 0 && w.outs[o].kind == outPaused {
			chosen = append(chosen, i)
		} else {
			p.LeftOut = append(p.LeftOut, engine.LeftOut{Target: "worker/" + string(w.id), Why: "not paused"})
		}
	}
	if len(chosen) == 0 {
		return nil, s.none(a, p.LeftOut)
	}
	p.Title = "resume " + plural(len(chosen), "worker")
	p.Steps = []engine.Step{{Name: "resume", Text: "let them take jobs again"}}
	p.Undo = "provost pause worker " + engine.ShellLine([]string{string(a.Workers)})
	s.targetsOf(p, chosen)
	return func(act *act, _ *engine.Receipt) {
		act.reason = a.Reason
		for _, i := range chosen {
			s.resume(i, by)
			act.targets = append(act.targets, target{name: "worker/" + string(s.workers[i].id), worker: i, at: s.at})
		}
		s.touch(engine.SecWorkers, engine.SecJobs)
	}, nil
}

// resume ends a worker's pause; an act whose workers have all been resumed is over.
func (s *script) resume(i int, by engine.Actor) {
	w := &s.workers[i]
	o := w.out(s.at)
	if o < 0 {
		return
	}
	id := w.outs[o].act
	s.cut(i, o)
	for _, a := range s.acts {
		if a.id != id || a.end() <= s.at {
			continue
		}
		if !slices.ContainsFunc(a.targets, func(t target) bool {
			o := s.workers[t.worker].out(s.at)
			return o >= 0 && s.workers[t.worker].outs[o].act == id
		}) {
			a.over, a.why = s.at, "resumed by "+cmp.Or(by.String(), "somebody")
			s.coming = slices.DeleteFunc(s.coming, func(c coming) bool { return c.act == id })
			s.log(engine.Entry{At: s.wall(s.at), Level: engine.LevelNote, What: "act.done", Key: s.here(id), Actor: &by, Text: id + ": " + a.why})
		}
	}
}

func (s *script) planRestart(a engine.RestartWorkers, p *engine.Plan) (applyFunc, error) {
	chosen, err := s.choose(a, a.Workers)
	if err != nil {
		return nil, err
	}
	p.Title = "restart " + plural(len(chosen), "worker")
	p.Steps = restartSteps
	p.Irreversible = []string{"a worker that is down or held starts at once; what it had in hand is proved again"}
	s.targetsOf(p, chosen)
	s.effects(p, chosen, "restarting")
	s.consent(p, len(chosen))
	return func(act *act, _ *engine.Receipt) {
		act.reason = a.Reason
		for _, i := range chosen {
			w := &s.workers[i]
			drained := s.at + s.drain(i)
			if o := w.out(s.at); o >= 0 {
				if k := w.outs[o].kind; k != outPaused && k != outStale {
					drained = s.at
				}
				s.cut(i, o)
			}
			s.happen(i, outage{kind: outRestart, from: s.at, then: drained, to: drained + 4*second, act: act.id}, nil)
			act.targets = append(act.targets, target{name: "worker/" + string(w.id), worker: i, at: drained + 4*second})
		}
		s.touch(engine.SecWorkers, engine.SecJobs)
	}, nil
}

func (s *script) planSubmit(a engine.SubmitJob, p *engine.Plan, r engine.Request) (applyFunc, error) {
	for _, f := range append([]string{a.Zkey}, a.Witnesses...) {
		if !filepath.IsAbs(f) {
			return nil, usage(a, "zkey", fmt.Sprintf("%q is no absolute path", f), "name files by their whole path")
		}
	}
	if len(a.Witnesses) == 0 || len(a.Witnesses) > 100 {
		return nil, usage(a, "witness", fmt.Sprintf("%d witnesses are given", len(a.Witnesses)), "give 1 to 100, each makes one job")
	}
	open := 0
	for _, j := range s.jobs {
		if !j.state(s.at).Final() {
			open++
		}
	}
	if open+len(a.Witnesses) > maxAsked {
		return nil, &engine.Problem{Code: engine.CodeBusy, Exit: engine.ExitUnexpected, Doing: a.Doing(), Cause: fmt.Sprintf("%d jobs are open", open), Remedy: "wait for some to end"}
	}
	p.Title = "submit " + plural(len(a.Witnesses), "job")
	p.Steps = []engine.Step{{Name: "queue", Text: "put the jobs into the queue"}, {Name: "prove", Text: "workers prove them, another process verifies"}}
	p.Undo = "provost cancel job ID, until it is verified"
	p.Warnings = append(p.Warnings, "no file is read: the job is part of the script")
	return func(act *act, receipt *engine.Receipt) {
		act.target = cmp.Or(a.Name, plural(len(a.Witnesses), "job"))
		if over := len(s.jobs) + len(a.Witnesses) - maxAsked; over > 0 {
			s.jobs = slices.DeleteFunc(s.jobs, func(j *asked) bool {
				if over > 0 && j.state(s.at).Final() {
					over--
					return true
				}
				return false
			})
		}
		for n := range a.Witnesses {
			j := &asked{id: prover.JobIDFor(r.Key, n), name: a.Name, by: r.Actor.String(), at: s.at, worker: -1}
			for try := range int64(50) {
				if len(s.workers) == 0 {
					break
				}
				i := int(s.hash('j', int64(s.at/beat)+int64(n)<<20, try) % uint64(len(s.workers)))
				if st, _ := s.workers[i].state(s.at); st == engine.WorkerRun && s.free(i, s.at, s.at+minute) {
					j.worker, j.begin = i, s.at+2*second+time.Duration(n)*second
					j.ready = j.begin + 12*second
					break
				}
			}
			s.jobs = append(s.jobs, j)
			receipt.Jobs = append(receipt.Jobs, string(j.id))
			if j.worker >= 0 {
				act.targets = append(act.targets, target{name: "job/" + string(j.id), worker: -1, at: s.at})
				s.plan(j.ready+second, string(j.id), engine.Entry{Level: engine.LevelNote, What: "job.verified", Key: s.here(string(j.id)), Text: fmt.Sprintf("job %s verified, proved by %s", j.id[:9], s.workers[j.worker].id)})
			}
		}
		s.touch(engine.SecJobs, engine.SecWorkers)
	}, nil
}

func (s *script) planCancelJobs(a engine.CancelJobs, p *engine.Plan, snap *engine.Snapshot) (applyFunc, error) {
	rows, err := engine.SelectJobs(snap.Jobs.List(), a.Jobs, s.wall(s.at))
	if err != nil {
		return nil, err
	}
	var chosen []*asked
	for _, r := range rows {
		i := slices.IndexFunc(s.jobs, func(j *asked) bool { return j.id == r.ID })
		switch {
		case i >= 0 && !s.jobs[i].state(s.at).Final():
			chosen = append(chosen, s.jobs[i])
			p.Targets = append(p.Targets, "job/"+string(r.ID))
		case r.State.Final():
			p.LeftOut = append(p.LeftOut, engine.LeftOut{Target: "job/" + string(r.ID), Why: "has ended"})
		default:
			p.LeftOut = append(p.LeftOut, engine.LeftOut{Target: "job/" + string(r.ID), Why: "belongs to the script, which goes on"})
		}
	}
	if len(chosen) == 0 {
		return nil, &engine.Problem{Code: engine.CodeNoMatch, Exit: engine.ExitUsage, Doing: a.Doing(), Field: "selector", Cause: "none of them can be withdrawn: " + p.LeftOut[0].Target + " " + p.LeftOut[0].Why,
			Remedy: "choose jobs that you submitted and that are not verified"}
	}
	p.Title = "cancel " + plural(len(chosen), "job")
	p.Steps = []engine.Step{{Name: "cancel", Text: "withdraw the jobs from queue and workers"}}
	p.Irreversible = []string{"a cancelled job is submitted again as another one"}
	return func(act *act, _ *engine.Receipt) {
		act.reason = a.Reason
		for _, j := range chosen {
			j.over = s.at
			act.targets = append(act.targets, target{name: "job/" + string(j.id), worker: -1, at: s.at})
			s.coming = slices.DeleteFunc(s.coming, func(c coming) bool { return c.act == string(j.id) })
		}
		s.touch(engine.SecJobs, engine.SecWorkers)
	}, nil
}

func (s *script) planUnlock(a engine.UnlockScreens, p *engine.Plan, by engine.Actor) (applyFunc, error) {
	switch {
	case a.For <= 0 || time.Duration(a.For) > maxUnlock:
		return nil, usage(a, "for", fmt.Sprintf("%s is no time to unlock for", a.For), "give between 1s and 8h, as in 15m")
	case strings.TrimSpace(a.Reason) == "":
		return nil, usage(a, "reason", "no reason is given", "say why, it is kept in the journal")
	}
	p.Title = "unlock the screens for " + a.For.String()
	p.Steps = []engine.Step{{Name: "unlock", Text: "screens may act until then, all of them"}}
	p.Undo = "provost lock"
	return func(act *act, _ *engine.Receipt) {
		act.reason, act.target = a.Reason, "screens"
		s.open = &engine.Unlocked{Until: s.wall(s.at + s.span(a.For)), By: cmp.Or(by.String(), "somebody"), Reason: a.Reason}
		s.log(engine.Entry{At: s.wall(s.at), Level: engine.LevelWarn, What: "lock.opened", Key: s.here(""), Actor: &by, Text: "screens may act for " + a.For.String() + ": " + a.Reason})
		s.touch(engine.SecEngine)
	}, nil
}

func (s *script) planMarks(ids []string, p *engine.Plan, what string, set func(*mark)) (applyFunc, error) {
	var chosen []string
	for _, f := range s.findings() {
		if f.ClosedAt == nil && (slices.Contains(ids, f.ID) || slices.Contains(ids, "all")) {
			chosen = append(chosen, f.ID)
		}
	}
	for _, id := range ids {
		if id != "all" && !slices.Contains(chosen, id) {
			return nil, &engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: what, Field: "ids", Cause: fmt.Sprintf("there is no open alert %q", id), Remedy: "see provost get alerts"}
		}
	}
	if len(chosen) == 0 {
		return nil, &engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: what, Field: "ids", Cause: "no alert is open or none is named", Remedy: "see provost get alerts"}
	}
	p.Title = what + ": " + plural(len(chosen), "alert")
	p.Steps = []engine.Step{{Name: "mark", Text: what}}
	for _, id := range chosen {
		p.Targets = append(p.Targets, "alert/"+id)
	}
	return func(act *act, _ *engine.Receipt) {
		act.target = plural(len(chosen), "alert")
		for _, id := range chosen {
			m := s.acked[id]
			set(&m)
			s.acked[id] = m
			act.targets = append(act.targets, target{name: "alert/" + id, worker: -1, at: s.at})
		}
		s.touch(engine.SecAlerts)
	}, nil
}

func (s *script) planCancel(a engine.CancelAct, p *engine.Plan) (applyFunc, error) {
	i := slices.IndexFunc(s.acts, func(x *act) bool { return x.id == a.ID && x.asked <= s.at })
	if i < 0 {
		return nil, &engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: a.Doing(), Field: "id", Cause: fmt.Sprintf("there is no act %q", a.ID), Remedy: "see provost acts list"}
	}
	x := s.acts[i]
	if x.end() <= s.at {
		return nil, &engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: a.Doing(), Field: "id", Cause: "act " + a.ID + " has ended", Remedy: "see provost acts list"}
	}
	p.Title = "cancel act " + a.ID + " (" + x.target + ")"
	p.Steps = []engine.Step{{Name: "cancel", Text: "end the act"}}
	if x.hold != 0 {
		p.Steps[0].Text = "end the act and resume its workers"
	}
	p.Targets = []string{"act/" + a.ID}
	return func(act *act, _ *engine.Receipt) {
		act.target = a.ID
		x.over, x.cancelled, x.why = s.at, true, "cancelled"
		s.coming = slices.DeleteFunc(s.coming, func(c coming) bool { return c.act == x.id })
		for _, t := range x.targets {
			if t.worker < 0 {
				continue
			}
			if o := s.workers[t.worker].out(s.at); o >= 0 && s.workers[t.worker].outs[o].act == x.id {
				s.cut(t.worker, o)
			}
		}
		s.touch(engine.SecWorkers, engine.SecJobs)
	}, nil
}
