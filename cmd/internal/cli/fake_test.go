package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"app.provost/cluster"
	"app.provost/engine"
	"app.provost/prover"
)

var fakeNow = time.Date(2026, 3, 2, 11, 4, 40, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// hostile is text that would clear a screen, set a title and turn the direction.
const hostile = "evil\x1b[2J\x1b]0;owned\x07\u202e\nsecond line\u009b31m"

// fake is an engine in memory: enough of a desk to carry the commands' conversations.
type fake struct {
	mu      sync.Mutex
	snap    *engine.Snapshot
	entries []engine.Entry
	logs    []engine.LogLine
	done    map[string]engine.Receipt
	wake    chan struct{} // closed and made anew with every change
	stopped bool
	consent engine.Consent
	changes int  // how many times Do answers that the plan has changed
	partly  bool // acts end partly done
	asked   []engine.Action
	never   bool // acts never settle
	silent  bool // Next never answers
}

func newFake() *fake {
	n := fakeNow
	at := func(d time.Duration) *time.Time { t := n.Add(-d); return &t }
	w := func(core prover.Core, machine string, s engine.WorkerState) engine.WorkerRow {
		id := prover.WorkerFor(core)
		return engine.WorkerRow{Key: engine.Key{Machine: machine, ID: string(id)}, ID: id, Core: core, State: s, Since: n.Add(-4 * time.Minute), Desired: engine.WishRun,
			CPUPercent: ptr(96.2), RSSBytes: ptr(uint64(310 << 20)), PID: ptr(4000 + int(core)), StartedAt: at(2 * time.Hour), Nice: ptr(10), HeardAt: at(time.Second), JobsDone: 12, Version: "v0.1.0"}
	}
	run := w(1, "m1", engine.WorkerRun)
	run.Job, run.Phase, run.Progress = ptr(prover.JobID("3f9c2d1a0b")), prover.PhaseH, ptr(0.41)
	down := w(3, "m1", engine.WorkerDown)
	down.CPUPercent, down.RSSBytes, down.PID = nil, nil, nil
	down.LastExit, down.Note, down.Restarts = &engine.ExitRecord{At: n, Code: ptr(137)}, "exit 137", 1
	paused := w(4, "m1", engine.WorkerPaused)
	paused.PauseUntil, paused.PauseWhy = ptr(n.Add(37*time.Minute)), "disk swap"
	pools := []prover.HugePool{{PageKiB: 2048, Total: 15000, Free: 14, Reserved: 4, NUMA: []prover.NUMAPool{{Node: 0, Total: 7500, Free: 14}, {Node: 1, Total: 7500}}}}
	safe := true
	return &fake{wake: make(chan struct{}), done: map[string]engine.Receipt{}, consent: engine.Consent{Level: "enter"},
		snap: &engine.Snapshot{
			Schema: engine.SnapshotSchema, Gen: 1, At: n,
			Engine: &engine.One[engine.Info]{Version: 1, Value: engine.Info{ID: "e1", Name: "default", Machine: "m1", StateDir: "/var/lib/provost/default", Socket: "/run/provost/default.sock",
				PID: 4121, Version: "v0.1.0", StartedAt: n.Add(-3 * time.Hour), RSSBytes: ptr(uint64(212 << 20)), Viewers: []string{"ana@bastion"}}},
			Verdict: &engine.One[engine.Verdict]{Version: 1, Value: engine.Verdict{Word: engine.VerdictDegraded, Since: n.Add(-4 * time.Minute), Restart: engine.Restart{Safe: &safe, ForS: ptr(379.0), Why: "no duty is due"},
				Reasons: []engine.VerdictReason{{Level: engine.LevelWarn, Rule: engine.FindWorkerDown, Target: "worker/w3", Since: n.Add(-4 * time.Minute), Text: "w3 is down: exit 137", Effect: "one core proves nothing"}}}},
			Machines: &engine.Section[engine.MachineRow]{Version: 1, Rows: []engine.MachineRow{{Key: engine.Key{Machine: "m1"}, Hostname: "m1.example", Roles: []engine.Role{engine.RoleMachine, engine.RoleWorkers},
				CPU:    engine.Reading[engine.CPUStat]{Value: &engine.CPUStat{LogicalCPUs: 8, Load1: 3.52, UsePercent: ptr(44.0)}, At: at(time.Second), PeriodS: 1},
				Memory: engine.Reading[engine.MemoryStat]{Value: &engine.MemoryStat{TotalBytes: 64 << 30, AvailableBytes: 31 << 30, THP: "madvise"}, At: at(time.Second), PeriodS: 1},
				Clock:  engine.Reading[engine.ClockStat]{Value: &engine.ClockStat{OffsetMS: ptr(2.4)}, At: at(70 * time.Second), PeriodS: 16}, Hugepages: engine.Reading[[]prover.HugePool]{Value: &pools, At: at(time.Second), PeriodS: 5},
				GPUDriver: engine.Reading[engine.GPUDriver]{Value: &engine.GPUDriver{Why: "no NVIDIA driver"}, At: at(time.Second), PeriodS: 5}}}},
			Workers: &engine.Section[engine.WorkerRow]{Version: 1, Rows: []engine.WorkerRow{run, w(2, "m1", engine.WorkerIdle), down, paused}},
			GPUs:    &engine.Section[engine.GPURow]{Version: 1},
			Jobs: &engine.Jobs{Version: 1, Totals: engine.JobTotals{Submitted: 3, Leased: 1, Verified: 1, Failed: 1}, Rows: []engine.JobRow{
				{Key: engine.Key{ID: "3f9c2d1a0b"}, ID: "3f9c2d1a0b", Kind: prover.Groth16Zkey, Name: "batch-7", State: prover.JobLeased, Attempts: 1, Worker: "w1", Phase: prover.PhaseH, Progress: ptr(0.41), SubmittedAt: n.Add(-time.Minute)},
				{Key: engine.Key{ID: "77ab03ffee"}, ID: "77ab03ffee", Kind: prover.Groth16Zkey, State: prover.JobVerified, Attempts: 1, Worker: "w2", SubmittedAt: n.Add(-time.Hour), ProveMS: ptr(812.0), FinishedAt: at(50 * time.Minute)},
				{Key: engine.Key{ID: "91c2aabbcc"}, ID: "91c2aabbcc", Kind: prover.Groth16Zkey, State: prover.JobFailed, Attempts: 1, Worker: "w2", SubmittedAt: n.Add(-2 * time.Hour), FinishedAt: at(2 * time.Hour), Failure: &prover.Failure{Code: "witness-mismatch", Text: "the witness does not satisfy the circuit"}},
			}},
			Acts: &engine.Section[engine.ActRow]{Version: 1, Rows: []engine.ActRow{{Key: engine.Key{ID: "a17"}, ID: "a17", Kind: engine.KindPauseWorkers, Target: "w4", By: engine.Actor{Name: "ana"}, Reason: "disk swap", Digest: "5d11e07a12bc",
				Command: "provost pause worker w4 --for=1h --reason='disk swap'", Started: n.Add(-23 * time.Minute), Until: ptr(n.Add(37 * time.Minute)), State: engine.ActHolding, Step: 2,
				Steps: []engine.Step{{Name: "drain", Text: "let them finish"}, {Name: "hold", Text: "until 11:41"}, {Name: "resume", Text: "by itself"}}, Settled: []engine.Settled{{Target: "worker/w4", State: "done"}}}}},
			Alerts: &engine.Section[engine.Finding]{Version: 1, Rows: []engine.Finding{{ID: "worker.down:m1/w3", Code: engine.FindWorkerDown, Level: engine.LevelWarn, Key: engine.Key{Machine: "m1", ID: "w3"}, Target: "worker/w3", Title: "w3 is down: exit 137", Text: "Its process ended.",
				Effect: "one core proves nothing", Since: n.Add(-4 * time.Minute), Last: n, Count: 1, Next: []engine.NextKey{{Key: "s", Command: "provost restart worker w3", Text: "start it now"}}}}},
			Nodes:   &engine.Section[engine.NodeRow]{Version: 1, Rows: []engine.NodeRow{{Key: engine.Key{Machine: "m1", Cluster: "0x7b2e", Node: "node0", ID: "node0"}, Dir: "/data/node0", Name: "mycluster", Network: "hoodi", LockHash: "0x7b2e9c", ShareIndex: ptr(1), Operators: 6, Threshold: 5, Validators: 1, State: "read"}}},
			Sources: &engine.Section[engine.SourceRow]{Version: 1, Rows: []engine.SourceRow{{Name: "host", At: at(time.Second), PeriodS: 1}, {Name: "clock", At: at(70 * time.Second), PeriodS: 16}, {Name: "gpu", PeriodS: 5, Problem: "no NVIDIA driver"}}},
		},
		entries: []engine.Entry{
			{N: 1, At: n.Add(-time.Hour), Level: engine.LevelNote, What: "engine.start", Text: "started"},
			{N: 2, At: n.Add(-4 * time.Minute), Level: engine.LevelWarn, What: "worker.exit", Text: "w3 ended", Facts: []engine.Fact{{Name: "code", Value: "137"}}},
			{N: 3, At: n.Add(-3 * time.Minute), Level: engine.LevelNote, What: "act.asked", Actor: &engine.Actor{Name: "ana", Host: "bastion"}, Text: "pause worker w4", Facts: []engine.Fact{{Name: "reason", Value: "disk swap"}}},
		},
		logs: []engine.LogLine{
			{At: at(time.Minute), Source: "engine", Level: engine.LevelNote, Text: "ready", Fields: "workers=4"},
			{At: at(time.Second), Source: "w3", Level: engine.LevelCrit, Text: hostile, Dropped: 2},
			{Source: "w1", Text: "plain line of a child"},
		}}
}

func (f *fake) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := *f.snap // sections that change are replaced, never written to
	f.snap = &next
	f.snap.Gen++
	fn()
	close(f.wake)
	f.wake = make(chan struct{})
}

type fakeFeed struct {
	f     *fake
	gen   uint64
	after *uint64
}

func (f *fake) Watch(_ context.Context, o engine.WatchOptions) (engine.Feed, error) {
	return &fakeFeed{f: f, after: o.After}, nil
}

func (d *fakeFeed) Next(ctx context.Context) (engine.Update, error) {
	for {
		d.f.mu.Lock()
		snap, wake, stopped, silent := d.f.snap, d.f.wake, d.f.stopped, d.f.silent
		var entries []engine.Entry
		if d.after != nil {
			for _, e := range d.f.entries {
				if e.N > *d.after {
					entries = append(entries, e)
				}
			}
			if len(entries) > 0 {
				d.after = ptr(entries[len(entries)-1].N)
			}
		}
		d.f.mu.Unlock()
		if snap.Gen > d.gen && !silent {
			d.gen = snap.Gen
			return engine.Update{Snapshot: snap, Entries: entries}, nil
		}
		if stopped {
			return engine.Update{}, io.EOF
		}
		select {
		case <-ctx.Done():
			return engine.Update{}, ctx.Err()
		case <-wake:
		}
	}
}

func (d *fakeFeed) Close() error { return nil }

func (f *fake) Preview(_ context.Context, r engine.Request) (engine.Plan, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.Action)
	p := engine.Plan{Title: r.Action.Doing() + " of a test", Consent: f.consent, MadeAt: fakeNow, Command: engine.ShellLine(r.Action.CommandLine())}
	switch x := r.Action.(type) {
	case engine.PauseWorkers:
		rows, err := engine.SelectWorkers(f.snap.Workers.List(), x.Workers, fakeNow)
		if err != nil {
			return engine.Plan{}, err
		}
		p.Title = fmt.Sprintf("pause %d workers for %s, then resume", len(rows), x.For)
		for _, w := range rows {
			if w.State == engine.WorkerPaused {
				p.LeftOut = append(p.LeftOut, engine.LeftOut{Target: "worker/" + string(w.ID), Why: "paused already"})
				continue
			}
			p.Targets = append(p.Targets, "worker/"+string(w.ID))
		}
		p.Steps = []engine.Step{{Name: "drain", Text: "let each finish its job"}, {Name: "hold", Text: "for " + x.For.String()}, {Name: "resume", Text: "by itself"}}
		p.Effects = []engine.Effect{{What: "workers up", Now: "2", During: "1", After: "2"}}
		p.Undo = "provost resume worker " + string(x.Workers)
	case engine.CancelJobs:
		if _, err := engine.SelectJobs(f.snap.Jobs.List(), x.Jobs, fakeNow); err != nil {
			return engine.Plan{}, err
		}
	case engine.FetchJob, engine.VerifyCluster, engine.ShowCluster, engine.ShowENR:
		p.ReadOnly, p.Consent = true, engine.Consent{Level: "none"}
	case engine.SubmitJob, engine.CreateCluster, engine.CombineCluster, engine.ExportNode, engine.ImportNode, engine.CreateWorkers, engine.CreateProver, engine.UnlockScreens, engine.LockScreens, engine.AckAlerts, engine.MuteAlerts:
		p.Consent = engine.Consent{Level: "none"}
		if c, ok := x.(engine.CreateCluster); ok {
			if strings.Contains(strings.Join(c.WithdrawalAddresses, ","), "dead") {
				p.Warnings = []string{"withdrawals go to a burn address"}
			}
			p.Files = []engine.PlannedFile{{Path: c.Dir + "/node0/charon-enr-private-key", Mode: "0600"}}
		}
	}
	return p.Seal(r.Action)
}

// fakeSummary is what a lock says whose name is hostile.
func fakeSummary(path string) *cluster.Summary {
	key, peer := cluster.PubKey{1}, "16Uiu2HAkzdQ5Y9SYT91K1ue5SxXwgmajXntfScGnLYeip5hHyWmT"
	d := cluster.Definition{Name: hostile, Version: cluster.V1_10, Threshold: 3, NumValidators: 1, Operators: make([]cluster.Operator, 4), Validators: make([]cluster.ValidatorAddresses, 1)}
	s := d.Summarize(func(string) (string, error) { return peer, nil })
	s.Path, s.Validators[0].PubKey, s.Notes = path, &key, []string{hostile}
	return &s
}

func (f *fake) Do(ctx context.Context, r engine.Request, digest engine.Digest) (engine.Receipt, error) {
	f.mu.Lock()
	if old, ok := f.done[r.Key]; ok {
		f.mu.Unlock()
		old.Repeated = true
		return old, nil
	}
	f.mu.Unlock()
	p, err := f.Preview(ctx, r)
	if err != nil {
		return engine.Receipt{}, err
	}
	if p.Digest != digest || f.changes > 0 {
		f.changes--
		return engine.Receipt{}, &engine.Problem{Code: engine.CodePlanChanged, Exit: engine.ExitRefused, Doing: r.Action.Doing(), Cause: "the plan has changed", Remedy: "look at the new one", Plan: &p}
	}
	out := engine.Receipt{Key: r.Key, Digest: digest, At: fakeNow, Title: p.Title, Done: true, Targets: p.Targets}
	switch x := r.Action.(type) {
	case engine.FetchJob:
		for _, j := range f.snap.Jobs.List() {
			if string(j.ID) != x.Job {
				continue
			}
			if j.State != prover.JobVerified {
				return engine.Receipt{}, &engine.Problem{Code: engine.CodeJobNotVerified, Exit: engine.ExitRefused, Doing: "fetch job", Cause: fmt.Sprintf("job %s is %s", j.ID, j.State), Remedy: "wait until it is verified"}
			}
			out.Artifacts = []engine.Artifact{{Name: "proof.json", Data: []byte("{\"pi_a\":[\"1\",\"2\",\"1\"]}\n")}, {Name: "public.json", Data: []byte("[\"33\"]\n")}}
			if f.partly {
				out.Artifacts[0].Name = "../../escape.json"
			}
			return out, nil
		}
		return engine.Receipt{}, &engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: "fetch job", Cause: fmt.Sprintf("there is no job %q", x.Job), Remedy: "see provost get jobs"}
	case engine.ShowCluster:
		out.Cluster = fakeSummary(x.Path)
	case engine.ShowENR:
		if x.Record == "enr:bad" {
			return engine.Receipt{}, &engine.Problem{Code: engine.CodeClusterParams, Exit: engine.ExitUsage, Doing: "enr", Cause: "not a valid node record", Remedy: "copy it again"}
		}
		out.Identity = &cluster.Identity{Schema: cluster.IdentitySchema, ENR: "enr:abc", File: x.File, PeerID: "16Uiu2HAm", Pairs: []cluster.IdentityPair{{Key: "id", Value: "v4"}, {Key: "evil", Value: hostile}}}
		if x.File != "" {
			out.Notes = []string{"warning: the private key has mode 0644: others may read it; chmod 0600 " + x.File}
		}
	case engine.VerifyCluster:
		out.Notes = []string{"not protected: uuid of validator_keys/keystore-*.json: no check holds it"}
		out.Checks = []engine.Check{{Name: "lock.hash", Status: "passed"}, {Name: "node1.keystore[0]", Status: "failed", File: "node1/validator_keys/keystore-0.json", Text: "wrong password", Remedy: "restore keystore-0.txt"}}
		out.Facts = []engine.Fact{{Name: "nodes", Value: "6"}}
	case engine.CreateCluster:
		out.Files, out.Notes = p.Files, []string{"warning: withdrawals go to a burn address", "lock hash 0x7b2e9c"}
	case engine.SubmitJob:
		out.Jobs = []string{"d0d0d0d001"}
		f.change(func() {
			jobs := *f.snap.Jobs
			jobs.Version++
			state := prover.JobVerified
			if f.partly {
				state = prover.JobFailed
			}
			jobs.Rows = append([]engine.JobRow{{Key: engine.Key{ID: "d0d0d0d001"}, ID: "d0d0d0d001", Name: x.Name, State: state, SubmittedAt: fakeNow, Failure: &prover.Failure{Text: hostile}}}, jobs.Rows...)
			f.snap.Jobs = &jobs
		})
	case engine.PauseWorkers, engine.RestartWorkers, engine.ResumeWorkers:
		out.Act, out.Done = "a18", false
		state := engine.ActDone
		if _, ok := x.(engine.PauseWorkers); ok {
			state = engine.ActHolding
		}
		if f.partly {
			state = engine.ActPartly
		}
		if f.never {
			state = engine.ActRunning
		}
		f.change(func() {
			row := engine.ActRow{Key: engine.Key{ID: "a18"}, ID: "a18", Kind: r.Action.Kind(), Target: "w1", By: r.Actor, Digest: digest, Started: fakeNow, State: state, Step: 2, Steps: p.Steps,
				Settled: []engine.Settled{{Target: "worker/w1", State: "done"}}}
			if f.partly {
				row.Settled = append(row.Settled, engine.Settled{Target: "worker/w2", State: "refused", Why: "not active"})
			}
			f.snap.Acts = &engine.Section[engine.ActRow]{Version: f.snap.Acts.Version + 1, Rows: append([]engine.ActRow{row}, f.snap.Acts.Rows...)}
		})
	case engine.StopEngine:
		out.Done = false
		f.change(func() {
			info := *f.snap.Engine
			info.Value.Stopping = "workers' socket"
			f.snap.Engine = &info
			f.stopped = true
		})
	case engine.UnlockScreens:
		out.Notes = []string{"screens may act until 11:19:40Z"}
	}
	f.mu.Lock()
	f.done[r.Key] = out
	f.mu.Unlock()
	return out, nil
}

type fakeLogs struct{ lines []engine.LogLine }

func (f *fake) Logs(_ context.Context, q engine.LogQuery) (engine.LogStream, error) {
	var out []engine.LogLine
	for _, l := range f.logs {
		if len(q.Sources) == 0 || strings.Contains(strings.Join(q.Sources, " "), l.Source) {
			out = append(out, l)
		}
	}
	if q.Tail > 0 {
		out = out[max(0, len(out)-q.Tail):]
	}
	return &fakeLogs{out}, nil
}

func (l *fakeLogs) Next(context.Context) (engine.LogLine, error) {
	if len(l.lines) == 0 {
		return engine.LogLine{}, io.EOF
	}
	line := l.lines[0]
	l.lines = l.lines[1:]
	return line, nil
}

func (*fakeLogs) Close() error { return nil }

var errNoEngine = &engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: "reach engine", Cause: "nobody answers on the socket", Remedy: "start one with: provost up"}

var errBroken = errors.New("the line broke")
