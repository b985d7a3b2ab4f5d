package wire

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"app.provost/engine"
	"app.provost/engine/act"
	"app.provost/engine/state"
	"app.provost/prover"
	"app.provost/prover/queue"
	"app.provost/prover/run"
	"app.provost/prover/zkey"
)

// maxWitnesses bounds one submission: its plan and receipt name every job.
const maxWitnesses = 1000

func (e *Engine) startQueue(context.Context) error {
	c := e.o.Config
	if !e.proves() {
		return nil
	}
	blobs, err := queue.OpenBlobs(queue.BlobOptions{Dir: e.path("blobs"), MaxKeyBytes: int64(min(c.KeepKeys, 1<<62))})
	if err != nil {
		return err
	}
	scope := e.scope("queue")
	hub, err := run.Listen(run.HubOptions{Path: e.workerSocket(), Token: e.token, Spawn: scope.Go, Version: e.o.Version, Logger: e.log})
	if errors.Is(err, run.ErrSocketTaken) {
		return engine.Problem{Code: engine.CodeSocketTaken, Exit: engine.ExitNotAllowed, Doing: "start engine",
			Remedy: "another engine of this name runs here: stop it, or give this one another --name or --runtime-dir"}.Because(err)
	}
	if errors.Is(err, run.ErrSocketPath) {
		return engine.Problem{Code: engine.CodeConfigInvalid, Exit: engine.ExitUsage, Doing: "start engine", Remedy: "choose a shorter directory with --runtime-dir"}.Because(err)
	}
	if err != nil {
		return err
	}
	e.blobs, e.hub = blobs, hub
	unsaid, err := readUnsaid(e.store)
	if err != nil {
		return err
	}
	e.jobs = &jobFacts{unsaid: unsaid, machine: e.machine, tell: e.state.Tell, known: map[prover.JobID]bool{}, failed: map[prover.JobID]time.Time{}}
	q, err := queue.New(queue.Options{Board: e.store.Board(), Hub: hub, Files: blobs, Logger: e.log, Lease: c.Lease, JobLimit: jobLimit,
		OnChange: func(u queue.Update) { e.jobs.update(u); e.crew.onViews(u.Workers); e.judgeJobs(u) },
		Record:   e.jobs.record})
	if err != nil {
		return err
	}
	e.queue = q
	scope.Go("queue", q.Run)
	return nil
}

// jobLimit is how long one attempt may take: far more than a proof needs, so that
// only a prover that hangs meets it.
func jobLimit(j prover.Job) time.Duration {
	const perRow = 40 * time.Microsecond * 60
	return 10*time.Minute + time.Duration(min(j.Constraints, 1<<32))*perRow
}

// jobFacts turns what the queue says into facts. Its methods are called by the queue's loop alone.
type jobFacts struct {
	machine string
	tell    func(...state.Fact)
	known   map[prover.JobID]bool // rows told and not dropped
	unsaid  *unsaid               // until the first full update

	mu     sync.Mutex
	failed map[prover.JobID]time.Time // findings raised; guarded by mu
}

// failedShown is how long a failed job stays an open alert.
const failedShown = time.Hour

// tick closes the alerts of jobs that failed long ago.
func (f *jobFacts) tick(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, at := range f.failed {
		if now.Sub(at) > failedShown {
			delete(f.failed, id)
			f.tell(state.Clear{Code: engine.FindJobFailed, Key: f.key(id)})
		}
	}
}

func (f *jobFacts) key(id prover.JobID) engine.Key {
	return engine.Key{Machine: f.machine, ID: string(id)}
}

func (f *jobFacts) update(u queue.Update) {
	if u.Full {
		if f.unsaid != nil {
			for _, ev := range f.unsaid.events(u.Jobs) {
				f.record(ev)
			}
			f.unsaid = nil
		}
		now := map[prover.JobID]bool{}
		for _, j := range u.Jobs {
			now[j.Job.ID] = true
		}
		for id := range f.known {
			if !now[id] {
				f.tell(state.RemoveJob{Key: f.key(id)})
			}
		}
		f.known = now
	}
	facts := make([]state.Fact, 0, len(u.Jobs)+1)
	for _, j := range u.Jobs {
		if j.State.Final() {
			delete(f.known, j.Job.ID) // the listing of ended ones is bounded by the state itself
		} else {
			f.known[j.Job.ID] = true
		}
		facts = append(facts, state.PutJob{Row: jobRow(f.key(j.Job.ID), j)})
	}
	t := u.Totals
	facts = append(facts, state.SetJobTotals{Totals: engine.JobTotals{Submitted: t.Submitted, Queued: t.Queued, Leased: t.Leased, Proved: t.Proved,
		Verified: t.Verified, Failed: t.Failed, Cancelled: t.Cancelled}})
	f.tell(facts...)
}

func jobRow(key engine.Key, j queue.JobView) engine.JobRow {
	row := engine.JobRow{Key: key, ID: j.Job.ID, Kind: j.Job.Kind, Name: j.Job.Name, Constraints: j.Job.Constraints, State: j.State,
		Attempts: j.Attempts, Phase: j.Phase, Progress: j.Progress, SubmittedAt: j.Job.SubmittedAt, SubmittedBy: j.Job.SubmittedBy,
		StartedAt: j.StartedAt, FinishedAt: j.FinishedAt, Failure: j.Failure}
	row.Worker = j.Worker
	if j.Proof != nil {
		ms := float64(j.Proof.ProveTime.Microseconds()) / 1000
		row.ProveMS = &ms
	}
	return row
}

// record writes what happened to jobs into the journal. Submissions are in there
// already, as acts.
func (f *jobFacts) record(ev queue.Event) {
	if ev.Kind == queue.EventSubmitted {
		return
	}
	text := ev.Text
	if ev.Job != "" {
		text = string(ev.Job) + ": " + text
	}
	entry := engine.Entry{At: ev.At, What: string(ev.Kind), Level: engine.Level(ev.Level), Text: text, Key: engine.Key{Machine: f.machine, ID: string(ev.Job)}}
	if ev.Job == "" {
		entry.Key.ID = string(ev.Worker)
	} else if ev.Worker != "" {
		entry.Facts = []engine.Fact{{Name: "worker", Value: string(ev.Worker)}}
	}
	f.tell(state.Note{Entry: entry})
	if ev.Kind == queue.EventFailed {
		f.mu.Lock()
		f.failed[ev.Job] = ev.At
		f.mu.Unlock()
		f.tell(state.Raise{Raise: engine.Raise{Code: engine.FindJobFailed, Key: entry.Key, Target: "job/" + string(ev.Job),
			Facts: []engine.Fact{{Name: "why", Value: ev.Text}}}})
	}
}

// judgeJobs raises what the whole queue suffers from.
func (e *Engine) judgeJobs(u queue.Update) {
	key := engine.Key{Machine: e.machine}
	working := 0
	for _, row := range e.state.Snapshot().Workers.List() {
		switch row.State {
		case engine.WorkerRun, engine.WorkerIdle, engine.WorkerStart, engine.WorkerPausing:
			working++
		}
	}
	if u.Totals.Queued > 0 && working == 0 {
		e.state.Tell(state.Raise{Raise: engine.Raise{Code: engine.FindJobsWaiting, Key: key, Target: "jobs",
			Facts: []engine.Fact{{Name: "queued", Value: fmt.Sprint(u.Totals.Queued)}}}})
		return
	}
	e.state.Tell(state.Clear{Code: engine.FindJobsWaiting, Key: key})
}

// jobVerbs are the verbs of the job queue.
func (e *Engine) jobVerbs() map[engine.ActionKind]act.Verb {
	return map[engine.ActionKind]act.Verb{
		// The jobs' ids come from the request's key: what an engine's end has cut off is done again and makes no job twice.
		engine.KindSubmitJob:  {Plan: planSubmit, Run: e.runSubmit, Resume: e.runSubmit},
		engine.KindCancelJobs: {Plan: planCancelJobs, Run: e.runCancelJobs},
		engine.KindFetchJob:   {Plan: planFetch, Run: e.runFetch, ReadOnly: true, WhileLocked: true},
	}
}

// planSubmit looks at the headers of all files: what cannot end in a proof is refused here.
func planSubmit(_ context.Context, a act.Ask) (engine.Plan, error) {
	s := a.Action.(engine.SubmitJob)
	usage := func(field, cause, remedy string) error {
		return engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: s.Doing(), Field: field, Cause: cause, Remedy: remedy}.Because(nil)
	}
	if s.Zkey == "" || !filepath.IsAbs(s.Zkey) {
		return engine.Plan{}, usage("zkey", fmt.Sprintf("--zkey %q: want the absolute path of a proving key", s.Zkey), "name the .zkey file of the circuit")
	}
	if len(s.Witnesses) == 0 || len(s.Witnesses) > maxWitnesses {
		return engine.Plan{}, usage("witness", fmt.Sprintf("%d witnesses are given", len(s.Witnesses)), fmt.Sprintf("name 1 to %d .wtns files with --witness", maxWitnesses))
	}
	if s.MaxAttempts < 0 || s.MaxAttempts > 100 {
		return engine.Plan{}, usage("max-attempts", fmt.Sprintf("--max-attempts %d", s.MaxAttempts), "choose 1 to 100, or leave it out")
	}
	if len(s.Name) > 128 || strings.ContainsFunc(s.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return engine.Plan{}, usage("name", "the name must be plain text of at most 128 bytes", "shorten it or leave it out")
	}
	k, err := zkey.Open(s.Zkey)
	if err != nil {
		return engine.Plan{}, fileProblem(s.Doing(), "zkey", err)
	}
	defer k.Close()
	h := k.Header()
	for _, path := range s.Witnesses {
		if !filepath.IsAbs(path) {
			return engine.Plan{}, usage("witness", fmt.Sprintf("--witness %q: want an absolute path", path), "name the .wtns file")
		}
		w, err := zkey.OpenWitness(path)
		if err != nil {
			return engine.Plan{}, fileProblem(s.Doing(), "witness", err)
		}
		err = zkey.Match(k, w)
		w.Close()
		if err != nil {
			return engine.Plan{}, fileProblem(s.Doing(), "witness", err)
		}
	}
	b := h.Budget(1)
	return engine.Plan{
		Title: fmt.Sprintf("make %s with %s (%d rows, %s)", count(len(s.Witnesses), "proof"), filepath.Base(s.Zkey), h.Domain, engine.ByteSize(uint64(h.Bytes))),
		Steps: []engine.Step{
			{Name: "copy", Text: "copy key and witnesses into the engine, by their content"},
			{Name: "queue", Text: "put the jobs at the end of the queue"},
		},
		Effects: []engine.Effect{
			{What: "time of one proof on one core, estimate", Now: "-", After: engine.Span(b.Time.Round(10 * time.Millisecond))},
			{What: "memory of one proof, estimate", Now: "-", After: engine.ByteSize(uint64(b.MemoryBytes))},
			{What: "jobs waiting", Now: queued(a.Snapshot, 0), After: queued(a.Snapshot, len(s.Witnesses))},
		},
		Undo:    "provost cancel job, while it is not verified",
		Consent: engine.Consent{Level: "none"},
	}, nil
}

func queued(s *engine.Snapshot, more int) string {
	if s == nil || s.Jobs == nil {
		return "?"
	}
	return fmt.Sprint(s.Jobs.Totals.Queued + uint64(more))
}

// fileProblem is what is wrong with a key or a witness, or with reading it.
func fileProblem(doing, field string, err error) error {
	p := engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing, Field: field}
	switch {
	case errors.Is(err, zkey.ErrWitnessMismatch):
		p.Code, p.Exit = engine.CodeWitnessOther, engine.ExitUsage
	case errors.Is(err, zkey.ErrNotWitness):
		p.Code = engine.CodeWitnessDamaged
	case errors.Is(err, zkey.ErrWrongCurve), errors.Is(err, zkey.ErrUnsupported):
		p.Code = engine.CodeZkeyUnfit
	case errors.Is(err, zkey.ErrNotZkey), errors.Is(err, zkey.ErrDamaged):
		p.Code = engine.CodeZkeyDamaged
		if field == "witness" {
			p.Code = engine.CodeWitnessDamaged
		}
	default:
		p.Remedy = "name a file that the engine's user can read"
	}
	return p.Because(err)
}

func (e *Engine) runSubmit(ctx context.Context, a *act.Act) error {
	s := a.Action.(engine.SubmitJob)
	a.SetStep("copy")
	key, err := e.blobs.PutFile(ctx, queue.KeyFile, s.Zkey)
	if err != nil {
		return e.blobProblem(s.Doing(), err)
	}
	defer e.blobs.Drop(queue.KeyFile, key.Digest)
	// What was copied is looked at again: the operator's file may have changed meanwhile.
	k, err := zkey.Open(e.blobs.Path(queue.KeyFile, key.Digest))
	if err != nil {
		return fileProblem(s.Doing(), "zkey", err)
	}
	defer k.Close()
	var jobs []prover.Job
	for i, path := range s.Witnesses {
		wit, err := e.blobs.PutFile(ctx, queue.WitnessFile, path)
		if err != nil {
			return e.blobProblem(s.Doing(), err)
		}
		defer e.blobs.Drop(queue.WitnessFile, wit.Digest)
		w, err := zkey.OpenWitness(e.blobs.Path(queue.WitnessFile, wit.Digest))
		if err == nil {
			err = zkey.Match(k, w)
			w.Close()
		}
		if err != nil {
			return fileProblem(s.Doing(), "witness", err)
		}
		name := s.Name
		if name == "" {
			name = strings.TrimSuffix(filepath.Base(path), ".wtns")
		}
		attempts := s.MaxAttempts
		if attempts == 0 {
			attempts = e.o.Config.MaxAttempts
		}
		jobs = append(jobs, prover.Job{ID: prover.JobIDFor(a.Key, i), Kind: prover.Groth16Zkey, Name: name, Zkey: key, Witness: wit,
			Constraints: uint64(k.Header().Domain), SubmittedAt: time.Now().UTC(), SubmittedBy: a.Actor.String(), MaxAttempts: attempts})
	}
	a.SetStep("queue")
	out, err := e.queue.Submit(ctx, jobs)
	if err != nil {
		return queueProblem(s.Doing(), err)
	}
	var ids []string
	for i, o := range out {
		if o.Err != nil {
			return queueProblem(s.Doing(), o.Err)
		}
		ids = append(ids, string(jobs[i].ID))
	}
	a.Result(func(r *engine.Receipt) {
		r.Jobs = ids
		r.Facts = append(r.Facts, engine.Fact{Name: "key", Value: hex.EncodeToString(key.Digest[:])})
	})
	return nil
}

func (e *Engine) blobProblem(doing string, err error) error {
	p := engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: doing}
	switch {
	case errors.Is(err, queue.ErrNoSpace):
		p.Code, p.Exit, p.Remedy = engine.CodeNoSpace, engine.ExitUnexpected, "free some space on the filesystem of "+e.path("blobs")+"; nothing was submitted"
	case errors.Is(err, queue.ErrTooLarge):
		p.Remedy = "give a smaller file"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		p.Remedy = "name a file that the engine's user can read"
	}
	return p.Because(err)
}

func queueProblem(doing string, err error) error {
	p := engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: doing}
	switch {
	case errors.Is(err, queue.ErrFull):
		p.Code, p.Exit, p.Remedy = engine.CodeBusy, engine.ExitRefused, "submit again when some have ended; see provost get jobs"
	case errors.Is(err, prover.ErrNoJob):
		p.Code, p.Exit, p.Remedy = engine.CodeNotFound, engine.ExitUsage, "see provost get jobs"
	case errors.Is(err, prover.ErrFinal):
		p.Code, p.Exit = engine.CodeNotFound, engine.ExitRefused
	case errors.Is(err, queue.ErrStopped):
		p.Code, p.Exit, p.Remedy = engine.CodeStopping, engine.ExitNotAllowed, "ask again when the engine is up"
	}
	return p.Because(err)
}

func planCancelJobs(_ context.Context, a act.Ask) (engine.Plan, error) {
	c := a.Action.(engine.CancelJobs)
	rows, err := engine.SelectJobs(a.Snapshot.Jobs.List(), c.Jobs, a.Now)
	if err != nil {
		return engine.Plan{}, withDoing(c.Doing(), err)
	}
	p := engine.Plan{Consent: engine.Consent{Level: "enter"}, Irreversible: []string{"a cancelled job is not taken up again; submit it anew if it is wanted after all"},
		Steps: []engine.Step{{Name: "cancel", Text: "withdraw the jobs; workers stop working on them"}}}
	for _, r := range rows {
		target := "job/" + string(r.ID)
		if r.State.Final() {
			p.LeftOut = append(p.LeftOut, engine.LeftOut{Target: target, Why: "it has ended: " + string(r.State)})
			continue
		}
		p.Targets = append(p.Targets, target)
	}
	if len(p.Targets) == 0 {
		return engine.Plan{}, engine.Problem{Code: engine.CodeNoMatch, Exit: engine.ExitUsage, Doing: c.Doing(), Cause: fmt.Sprintf("no open job matches %q", c.Jobs), Remedy: "see provost get jobs"}.Because(nil)
	}
	p.Title = "cancel " + count(len(p.Targets), "job")
	return p, nil
}

func (e *Engine) runCancelJobs(ctx context.Context, a *act.Act) error {
	c := a.Action.(engine.CancelJobs)
	a.SetStep("cancel")
	var ids []prover.JobID
	for _, t := range a.Plan.Targets {
		ids = append(ids, prover.JobID(strings.TrimPrefix(t, "job/")))
	}
	out, err := e.queue.Cancel(ctx, ids, c.Reason)
	if err != nil {
		return queueProblem(c.Doing(), err)
	}
	for i, o := range out {
		if o.Err != nil {
			a.Settle(a.Plan.Targets[i], "refused", o.Err.Error())
		} else {
			a.Settle(a.Plan.Targets[i], "done", "")
		}
	}
	return nil
}

func planFetch(_ context.Context, a act.Ask) (engine.Plan, error) {
	f := a.Action.(engine.FetchJob)
	if f.Job == "" {
		return engine.Plan{}, engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: f.Doing(), Field: "job", Cause: "no job is named", Remedy: "see provost get jobs state=verified"}.Because(nil)
	}
	return engine.Plan{Title: "fetch the proof of " + f.Job, Targets: []string{"job/" + f.Job}, Steps: []engine.Step{{Name: "read", Text: "read the proof from the store"}}}, nil
}

func (e *Engine) runFetch(ctx context.Context, a *act.Act) error {
	f := a.Action.(engine.FetchJob)
	id := prover.JobID(f.Job)
	// A unique beginning names a job that is listed.
	if rows, err := engine.SelectJobs(e.state.Snapshot().Jobs.List(), engine.Selector(f.Job), time.Now()); err == nil && len(rows) == 1 {
		id = rows[0].ID
	}
	t, err := e.queue.Get(ctx, id)
	if err != nil {
		return queueProblem(f.Doing(), err)
	}
	if t.State != prover.JobVerified || t.Proof == nil {
		p := engine.Problem{Code: engine.CodeJobNotVerified, Exit: engine.ExitRefused, Doing: f.Doing(), Cause: fmt.Sprintf("job %s is %s, and only a verified proof is given out", id, t.State), Remedy: "wait for it, or see why: provost describe job/" + string(id)}
		if t.State == prover.JobFailed && t.Failure != nil {
			p.Cause, p.Remedy = fmt.Sprintf("job %s has failed: %s", id, t.Failure.Text), "submit it again once the cause is gone"
		}
		return p.Because(nil)
	}
	a.Result(func(r *engine.Receipt) {
		r.Artifacts = []engine.Artifact{{Name: "proof.json", Data: t.Proof.ProofJSON}, {Name: "public.json", Data: t.Proof.PublicJSON}}
		r.Facts = []engine.Fact{{Name: "job", Value: string(id)}, {Name: "worker", Value: string(t.Proof.Worker)}, {Name: "prove time", Value: t.Proof.ProveTime.Round(time.Millisecond).String()}}
	})
	return nil
}

// withDoing names the action in an error of a selector.
func withDoing(doing string, err error) error {
	var p *engine.Problem
	if errors.As(err, &p) && p.Doing == "" {
		q := *p
		q.Doing = doing
		return q.Because(err)
	}
	return err
}
