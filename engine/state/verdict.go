package state

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
)

// judge works the verdict out anew.
func (m *model) judge(now time.Time) {
	v := verdictOf(m.openAlerts(), m.sources.rows, m.engine.value.StartedAt, now)
	old := m.verdict.value
	v.Since = old.Since
	if v.Word != old.Word || old.Since.IsZero() {
		v.Since = now.UTC()
	}
	// The answer counts from the section's time: it is made anew whenever that is.
	v.Restart = m.restart(now)
	if pub := m.verdict.pub; pub != nil && !m.verdict.dirty {
		same := v
		same.Restart = steady(v.Restart, now, old.Restart, pub.At)
		if reflect.DeepEqual(same, old) {
			return
		}
	}
	m.verdict.set(v)
}

// verdictOf says how it stands: critical and degraded come from open findings,
// unknown from readings that are missing, and ok is what is left. A finding that
// follows from another open one of its machine is not a reason of its own. A muted
// one still counts, after the others: hiding a trouble does not end it.
func verdictOf(open []engine.Finding, sources []engine.SourceRow, started, now time.Time) engine.Verdict {
	v := engine.Verdict{Word: engine.VerdictOK, Reasons: []engine.VerdictReason{}}
	var muted []engine.VerdictReason
	for _, f := range open {
		if f.Level.Rank() < engine.LevelWarn.Rank() || follows(f, open) {
			continue
		}
		if f.Level == engine.LevelCrit {
			v.Word = engine.VerdictCritical
		} else if v.Word == engine.VerdictOK {
			v.Word = engine.VerdictDegraded
		}
		r := engine.VerdictReason{Level: f.Level, Rule: f.Code, Target: f.Target, Since: f.Since, Text: f.Title, Effect: f.Effect}
		if f.MuteUntil != nil {
			muted = append(muted, r)
		} else {
			v.Reasons = append(v.Reasons, r)
		}
	}
	v.Reasons = append(v.Reasons, muted...)
	if v.Word != engine.VerdictOK {
		return v
	}
	unknown := func(since time.Time, target, text string) {
		v.Word = engine.VerdictUnknown
		v.Reasons = append(v.Reasons, engine.VerdictReason{Level: engine.LevelNote, Rule: engine.FindHostSilent, Target: target, Since: since, Text: text})
	}
	if len(sources) == 0 {
		unknown(started, "engine", "nothing has been read yet")
	}
	for _, s := range sources {
		switch fresh := engine.FreshnessOf(now, s.At, time.Duration(s.PeriodS*float64(time.Second))); {
		case fresh == engine.NeverRead && s.Problem != "":
			unknown(started, "source/"+s.Name, s.Name+" cannot be read: "+s.Problem)
		case fresh == engine.NeverRead:
			unknown(started, "source/"+s.Name, s.Name+" has not been read yet")
		case s.Problem != "":
			unknown(*s.At, "source/"+s.Name, s.Name+" cannot be read any more: "+s.Problem)
		case fresh == engine.Old || fresh == engine.Lost:
			unknown(*s.At, "source/"+s.Name, fmt.Sprintf("%s was last read %s", s.Name, s.At.UTC().Format(time.RFC3339)))
		}
	}
	return v
}

// follows tells whether f is a consequence of another open finding at the same machine.
func follows(f engine.Finding, open []engine.Finding) bool {
	return slices.ContainsFunc(open, func(o engine.Finding) bool {
		return o.ID != f.ID && o.Key.Machine == f.Key.Machine && slices.Contains(f.DependsOn, o.Code)
	})
}

// restart answers whether the engine may be restarted now. Workers are processes
// of their own and are taken over by the next engine; only the engine's own part pauses.
func (m *model) restart(now time.Time) engine.Restart {
	own := m.restartEngine()
	if rows := m.dv.clusters.rows; m.on[engine.SecClusters] && len(rows) > 0 && (own.Safe == nil || *own.Safe) {
		// A validator's duty outweighs what is not known of workers.
		dv := engine.JoinRestart(rows, now)
		switch {
		case dv.Safe == nil || !*dv.Safe:
			return dv
		case own.Safe == nil:
			own.QuorumWithoutMe, own.Need = dv.QuorumWithoutMe, dv.Need
			return own
		}
		if own.Why != idle {
			dv.Why += "; " + own.Why
		}
		return dv
	}
	return own
}

// steady gives an answer the old one's time where both end at the same moment, so that
// a countdown alone changes nothing.
func steady(now engine.Restart, at time.Time, old engine.Restart, was time.Time) engine.Restart {
	if now.ForS == nil || old.ForS == nil {
		return now
	}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	if d := at.Add(seconds(*now.ForS)).Sub(was.Add(seconds(*old.ForS))); d.Abs() < time.Second {
		now.ForS = old.ForS
	}
	return now
}

const idle = "nothing runs that a restart would disturb"

func (m *model) restartEngine() engine.Restart {
	yes, no := true, false
	if step := m.engine.value.Stopping; step != "" {
		return engine.Restart{Safe: &no, Why: "the engine is stopping already (" + step + ")"}
	}
	workers, jobs := m.on[engine.SecWorkers], m.on[engine.SecJobs]
	if workers && len(m.workers.rows) == 0 || jobs && !m.jobs.known {
		return engine.Restart{Why: "not known yet: workers or jobs have not reported"}
	}
	proving, unknown := 0, 0
	if workers {
		for i := range m.workers.rows {
			switch r := &m.workers.rows[i]; {
			case r.State == engine.WorkerUnknown:
				unknown++
			case r.Job != nil:
				proving++
			}
		}
	}
	if unknown > 0 {
		return engine.Restart{Why: fmt.Sprintf("not known: %s in an unknown state", count(unknown, "worker is", "workers are"))}
	}
	var parts []string
	if proving > 0 {
		parts = append(parts, count(proving, "job goes on", "jobs go on")+" in the workers")
	}
	if jobs {
		waits := "verifying and handing out pause"
		if n := m.jobs.totals.Proved; n > 0 {
			waits += fmt.Sprintf(" (%s)", count(int(n), "proof waits", "proofs wait"))
		}
		parts = append(parts, waits)
	}
	open := 0
	for i := range m.acts.rows {
		if m.acts.rows[i].State.Open() {
			open++
		}
	}
	if open > 0 {
		parts = append(parts, count(open, "act resumes", "acts resume"))
	}
	if len(parts) == 0 {
		parts = []string{idle}
	}
	return engine.Restart{Safe: &yes, Why: strings.Join(parts, "; ")}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
