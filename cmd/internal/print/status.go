package print

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

// StatusSchema is the version of the status object.
const StatusSchema = "provost.status/1"

// Status is what "status --json" prints. A part that this engine does not carry,
// and a number that is not known, is null.
type Status struct {
	Schema   string                 `json:"schema"`
	At       time.Time              `json:"at"`
	Engine   *StatusEngine          `json:"engine"`
	Cluster  *string                `json:"cluster"` // name, when there is exactly one
	Verdict  *engine.VerdictWord    `json:"verdict"`
	Since    *time.Time             `json:"since"`
	Reasons  []engine.VerdictReason `json:"reasons"`
	Restart  *engine.Restart        `json:"restart"`
	Sign     *StatusSign            `json:"sign"` // null: no validators run here
	Workers  *StatusWorkers         `json:"workers"`
	GPUs     *StatusGPUs            `json:"gpus"`
	Jobs     *engine.JobTotals      `json:"jobs"`
	Nodes    *int                   `json:"nodes"`
	ActsOpen *int                   `json:"acts_open"`
	Alerts   *StatusAlerts          `json:"alerts"`
	Sources  []StatusSource         `json:"sources"`
}

// StatusEngine is the engine itself.
type StatusEngine struct {
	Name      string           `json:"name"`
	ID        string           `json:"id"`
	PID       int              `json:"pid"`
	Version   string           `json:"version"`
	UptimeS   float64          `json:"uptime_s"`
	RSSBytes  *uint64          `json:"rss_bytes"`
	Practice  *string          `json:"practice"` // null: nothing is simulated
	Stopping  *string          `json:"stopping"` // null: not stopping
	Viewers   int              `json:"viewers"`
	Unlocked  *engine.Unlocked `json:"unlocked"`
	StateDir  string           `json:"state_dir"`
	Socket    string           `json:"socket"`
	StartedAt time.Time        `json:"started_at"`
}

// StatusSign sums the nodes of distributed validators up. Of several clusters it is the
// weakest: OK when all can sign, and the numbers of the one with the least spare.
type StatusSign struct {
	OK      *bool  `json:"ok"` // null: not known
	Why     string `json:"why,omitempty"`
	PeersUp *int   `json:"peers_up"`
	Peers   int    `json:"peers"`
	Need    int    `json:"need"`
	// Twins is how many nodes would have to sign twice for a slashable signature; null: not known.
	Twins    *int       `json:"twins"`
	Since    *time.Time `json:"since"` // duties are counted from here
	Attested *float64   `json:"attested_percent"`
	Missed   *uint64    `json:"missed"`
	Late     *uint64    `json:"late"`
	NextDuty *StatusDue `json:"next_duty"` // null: none is known
	NextProp *StatusDue `json:"next_proposal"`
	// Validators that have duties now, of all.
	Active     *int `json:"validators_active"`
	Validators *int `json:"validators"`
	// Silent are nodes that told nothing of late; what they said is not counted.
	Silent []string `json:"silent"`
}

// StatusDue is a duty to come.
type StatusDue struct {
	Type      string    `json:"type"`
	Slot      uint64    `json:"slot"`
	At        time.Time `json:"at"`
	InS       float64   `json:"in_s"`
	Validator string    `json:"validator,omitempty"`
	Count     int       `json:"count"`
}

// signOf looks at each cluster through the node that was heard last.
func signOf(s *engine.Snapshot, now time.Time) *StatusSign {
	if s.Clusters == nil {
		return nil
	}
	out := &StatusSign{Silent: []string{}}
	best := map[string]*engine.ClusterRow{}
	var order []string
	for i := range s.Clusters.Rows {
		r := &s.Clusters.Rows[i]
		if !r.Heard(now) {
			out.Silent = append(out.Silent, r.Key.Cluster+"/"+r.Key.Node)
		}
		old := best[r.Key.Cluster]
		if old == nil {
			order = append(order, r.Key.Cluster)
		}
		if old == nil || r.Better(old, now) {
			best[r.Key.Cluster] = r
		}
	}
	var worst *engine.ClusterRow
	var attester, proposer engine.DutyTotals
	ok, known := true, len(order) > 0
	for _, name := range order {
		r := best[name]
		if !r.Heard(now) {
			known = false
			continue
		}
		if r.SigningOK == nil {
			known = false
		} else if !*r.SigningOK {
			ok = false
			out.Why = r.Why
		}
		if worst == nil || spare(r) < spare(worst) {
			worst = r
		}
		attester, proposer = attester.Plus(r.Attester), proposer.Plus(r.Proposer)
		if out.Since == nil || r.Since.After(*out.Since) {
			since := r.Since
			out.Since = &since
		}
		for _, n := range r.Next {
			if !n.At.After(now) {
				continue
			}
			due := &StatusDue{Type: n.Type, Slot: n.Slot, At: n.At, InS: n.At.Sub(now).Seconds(), Validator: n.Validator, Count: n.Count}
			if out.NextDuty == nil || due.At.Before(out.NextDuty.At) {
				out.NextDuty = due
			}
			if n.Type == "proposer" && (out.NextProp == nil || due.At.Before(out.NextProp.At)) {
				out.NextProp = due
			}
		}
	}
	if !ok || known {
		out.OK = &ok
	}
	if worst != nil {
		out.PeersUp, out.Peers, out.Need = worst.PeersUp, worst.Nodes, worst.Need()
		if worst.Twins > 0 {
			out.Twins = &worst.Twins
		}
		missed, late := attester.Missed+proposer.Missed, attester.Late+proposer.Late
		out.Attested, out.Missed, out.Late = attester.Percent(), &missed, &late
	}
	if s.Validators != nil {
		active, all := 0, 0
		for i := range s.Validators.Rows {
			v := &s.Validators.Rows[i]
			if r := best[v.Key.Cluster]; r == nil || r.Key.Node != v.Key.Node {
				continue
			}
			if all++; v.Status == "active" || v.Status == "exiting" {
				active++
			}
		}
		out.Active, out.Validators = &active, &all
	}
	return out
}

// spare is how many more nodes a cluster may lose; what is not known counts as none.
func spare(r *engine.ClusterRow) int {
	if r.PeersUp == nil {
		return -r.Nodes
	}
	return *r.PeersUp - r.Need()
}

// StatusWorkers counts workers by state.
type StatusWorkers struct {
	Total   int `json:"total"`
	Run     int `json:"run"`
	Idle    int `json:"idle"`
	Start   int `json:"start"`
	Pausing int `json:"pausing"`
	Paused  int `json:"paused"`
	Stale   int `json:"stale"`
	Down    int `json:"down"`
	Gone    int `json:"gone"`
	Held    int `json:"held"`
	Unknown int `json:"unknown"`
}

// Up counts those that run or wait for a job.
func (w StatusWorkers) Up() int { return w.Run + w.Idle }

// StatusGPUs counts devices; Up are those that answer.
type StatusGPUs struct {
	Total int `json:"total"`
	Up    int `json:"up"`
	Lost  int `json:"lost"`
}

// StatusAlerts counts open alerts, muted and acknowledged ones too.
type StatusAlerts struct {
	Crit  int `json:"crit"`
	Warn  int `json:"warn"`
	Note  int `json:"note"`
	Acked int `json:"acked"`
}

// StatusSource is one source of readings.
type StatusSource struct {
	Name    string   `json:"name"`
	AgeS    *float64 `json:"age_s"`
	PeriodS float64  `json:"period_s"`
	State   string   `json:"state"` // fresh, aging, stale, lost, unknown
	Problem string   `json:"problem,omitempty"`
}

// StatusOf sums a snapshot up.
func StatusOf(s *engine.Snapshot, now time.Time) Status {
	out := Status{Schema: StatusSchema, At: s.At.UTC(), Reasons: []engine.VerdictReason{}, Sources: []StatusSource{}}
	if s.Engine != nil {
		e := s.Engine.Value
		out.Engine = &StatusEngine{Name: e.Name, ID: e.ID, PID: e.PID, Version: e.Version, UptimeS: max(0, now.Sub(e.StartedAt).Seconds()),
			RSSBytes: e.RSSBytes, Practice: orNull(e.Practice), Stopping: orNull(e.Stopping), Viewers: len(e.Viewers), Unlocked: e.Unlocked,
			StateDir: e.StateDir, Socket: e.Socket, StartedAt: e.StartedAt}
	}
	if s.Verdict != nil {
		v := s.Verdict.Value
		since := v.Since
		restart := s.RestartNow(now)
		out.Verdict, out.Since, out.Restart = &v.Word, &since, &restart
		out.Reasons = append(out.Reasons, v.Reasons...)
	}
	out.Sign = signOf(s, now)
	if s.Workers != nil {
		w := StatusWorkers{}
		for i := range s.Workers.Rows {
			w.Total++
			*w.slot(s.Workers.Rows[i].State)++
		}
		out.Workers = &w
	}
	if s.GPUs != nil {
		g := StatusGPUs{}
		for i := range s.GPUs.Rows {
			g.Total++
			if s.GPUs.Rows[i].State == "lost" {
				g.Lost++
			} else {
				g.Up++
			}
		}
		out.GPUs = &g
	}
	if s.Jobs != nil {
		out.Jobs = &s.Jobs.Totals
	}
	if s.Nodes != nil {
		n := len(s.Nodes.Rows)
		out.Nodes = &n
		var names []string
		for _, r := range s.Nodes.Rows {
			if r.Name != "" && !slices.Contains(names, r.Name) {
				names = append(names, r.Name)
			}
		}
		if len(names) == 1 {
			out.Cluster = &names[0]
		}
	}
	if s.Acts != nil {
		n := 0
		for _, a := range s.Acts.Rows {
			if a.State.Open() {
				n++
			}
		}
		out.ActsOpen = &n
	}
	if s.Alerts != nil {
		a := StatusAlerts{}
		for _, f := range s.Alerts.Rows {
			if f.ClosedAt != nil {
				continue
			}
			switch f.Level {
			case engine.LevelCrit:
				a.Crit++
			case engine.LevelWarn:
				a.Warn++
			case engine.LevelNote:
				a.Note++
			}
			if f.AckBy != "" {
				a.Acked++
			}
		}
		out.Alerts = &a
	}
	for _, src := range s.Sources.List() {
		row := StatusSource{Name: src.Name, PeriodS: src.PeriodS, Problem: src.Problem,
			State: freshWord(engine.FreshnessOf(now, src.At, time.Duration(src.PeriodS*float64(time.Second))))}
		if src.At != nil {
			age := now.Sub(*src.At).Seconds()
			row.AgeS = &age
		}
		out.Sources = append(out.Sources, row)
	}
	return out
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func freshWord(f engine.Freshness) string {
	switch f {
	case engine.Fresh:
		return "fresh"
	case engine.Aging:
		return "aging"
	case engine.Old:
		return "stale"
	case engine.Lost:
		return "lost"
	}
	return "unknown"
}

func (w *StatusWorkers) slot(s engine.WorkerState) *int {
	switch s {
	case engine.WorkerRun:
		return &w.Run
	case engine.WorkerIdle:
		return &w.Idle
	case engine.WorkerStart:
		return &w.Start
	case engine.WorkerPausing:
		return &w.Pausing
	case engine.WorkerPaused:
		return &w.Paused
	case engine.WorkerStale:
		return &w.Stale
	case engine.WorkerDown:
		return &w.Down
	case engine.WorkerGone:
		return &w.Gone
	case engine.WorkerHeld:
		return &w.Held
	}
	return &w.Unknown
}

// StatusFacts are the words of the status line after "status": stable names, in
// order. A part that is not carried is left out; what is not known is "?".
func StatusFacts(s *engine.Snapshot, now time.Time) []engine.Fact {
	st := StatusOf(s, now)
	var out []engine.Fact
	add := func(name, value string) { out = append(out, engine.Fact{Name: name, Value: value}) }
	if st.Verdict != nil {
		add("verdict", string(*st.Verdict))
	} else {
		add("verdict", string(engine.VerdictUnknown))
	}
	if w := st.Workers; w != nil {
		add("workers", fmt.Sprintf("%d/%d", w.Up(), w.Total))
		for _, n := range []struct {
			name string
			n    int
		}{{"starting", w.Start}, {"pausing", w.Pausing}, {"paused", w.Paused}, {"stale", w.Stale}, {"down", w.Down}, {"gone", w.Gone}, {"held", w.Held}, {"unknown", w.Unknown}} {
			if n.n > 0 {
				add(n.name, strconv.Itoa(n.n))
			}
		}
	}
	if st.GPUs != nil && st.GPUs.Total > 0 {
		add("gpus", fmt.Sprintf("%d/%d", st.GPUs.Up, st.GPUs.Total))
	}
	if j := st.Jobs; j != nil {
		add("jobs", fmt.Sprintf("%dq%dr%dv", j.Queued, j.Leased+j.Proved, j.Verified))
		if j.Failed > 0 {
			add("jobs_failed", strconv.FormatUint(j.Failed, 10))
		}
	}
	if st.Nodes != nil && *st.Nodes > 0 {
		add("nodes", strconv.Itoa(*st.Nodes))
	}
	if g := st.Sign; g != nil {
		word := "?"
		if g.OK != nil {
			word = "no"
			if *g.OK {
				word = "ok"
			}
		}
		add("sign", word)
		if g.PeersUp != nil {
			add("peers", fmt.Sprintf("%d/%d", *g.PeersUp, g.Peers))
		} else {
			add("peers", "?")
		}
		if g.Missed != nil {
			add("missed", strconv.FormatUint(*g.Missed, 10))
		} else {
			add("missed", "?")
		}
		if g.NextDuty != nil {
			add("next_duty", strconv.FormatFloat(math.Round(g.NextDuty.InS), 'f', 0, 64)+"s")
		}
	}
	if r := st.Restart; r != nil {
		switch {
		case r.Safe == nil:
			add("restart_safe", "?")
		case !*r.Safe:
			add("restart_safe", "no")
		case r.ForS != nil:
			add("restart_safe", strconv.FormatFloat(*r.ForS, 'f', 0, 64)+"s")
		default:
			add("restart_safe", "yes")
		}
	}
	if st.ActsOpen != nil {
		add("acts", strconv.Itoa(*st.ActsOpen))
	}
	if a := st.Alerts; a != nil {
		add("alerts", fmt.Sprintf("%dc%dw", a.Crit, a.Warn))
	}
	if e := st.Engine; e != nil {
		if e.RSSBytes != nil {
			add("rss", strconv.FormatUint(*e.RSSBytes>>20, 10)+"MiB")
		}
		if e.Practice != nil {
			add("practice", *e.Practice)
		}
		if e.Stopping != nil {
			add("stopping", *e.Stopping)
		}
	}
	return out
}

// StatusLine is the line that a headless engine logs and that "status --watch" prints.
func StatusLine(s *engine.Snapshot, now time.Time, st Style) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s info  status", stampMilli(now))
	for _, f := range StatusFacts(s, now) {
		b.WriteByte(' ')
		b.WriteString(factText(f, st))
	}
	return b.String()
}

// factText is name=value, the value quoted where it has spaces or quotes.
func factText(f engine.Fact, st Style) string {
	v := st.clean(f.Value)
	if v == "" || strings.ContainsAny(v, " \"=") {
		v = strconv.Quote(v)
	}
	return st.clean(f.Name) + "=" + v
}

// StatusText writes the status for a person.
func StatusText(w io.Writer, s *engine.Snapshot, now time.Time, st Style) error {
	d := StatusOf(s, now)
	var rows [][]string
	var words [][]string
	add := func(name, value, word string) {
		rows, words = append(rows, []string{name, st.clean(value)}), append(words, []string{"", word})
	}
	if e := d.Engine; e != nil {
		text := fmt.Sprintf("%s  pid %d  up %s  %s", e.Name, e.PID, engine.Span(time.Duration(e.UptimeS)*time.Second), e.Version)
		if e.Practice != nil {
			text += "  PRACTICE: " + *e.Practice
		}
		add("engine", text, "")
		if e.Stopping != nil {
			add("stopping", *e.Stopping, "warn")
		}
		if e.Unlocked != nil {
			add("screens", fmt.Sprintf("unlocked until %s by %s: %s", stamp(e.Unlocked.Until), e.Unlocked.By, e.Unlocked.Reason), "warn")
		}
	}
	if d.Verdict != nil {
		add("verdict", fmt.Sprintf("%s for %s", *d.Verdict, engine.Span(now.Sub(*d.Since))), string(*d.Verdict))
	} else {
		add("verdict", "unknown: no readings yet", "unknown")
	}
	for _, r := range d.Reasons {
		text := r.Text
		if r.Effect != "" {
			text += "; " + r.Effect
		}
		add("  "+string(r.Level), fmt.Sprintf("%s (%s, %s)", text, r.Target, engine.Span(now.Sub(r.Since))), string(r.Level))
	}
	if r := d.Restart; r != nil {
		text := "not known"
		switch {
		case r.Safe != nil && *r.Safe && r.ForS != nil:
			text = "safe for " + engine.Span(time.Duration(*r.ForS*float64(time.Second)))
		case r.Safe != nil && *r.Safe:
			text = "safe"
		case r.Safe != nil:
			text = "not safe"
		}
		if r.Safe != nil && *r.Safe && r.Until != "" {
			text += ", until " + r.Until
		}
		if r.Why != "" {
			text += ": " + r.Why
		}
		add("restart", text, "")
	}
	if g := d.Sign; g != nil {
		signText(g, add)
	}
	if n := d.Workers; n != nil {
		text := fmt.Sprintf("%d of %d up", n.Up(), n.Total)
		for _, c := range []struct {
			n    int
			word string
		}{{n.Run, "proving"}, {n.Idle, "idle"}, {n.Start, "starting"}, {n.Pausing, "pausing"}, {n.Paused, "paused"}, {n.Stale, "stale"}, {n.Down, "down"}, {n.Gone, "gone"}, {n.Held, "held"}, {n.Unknown, "unknown"}} {
			if c.n > 0 {
				text += fmt.Sprintf(", %d %s", c.n, c.word)
			}
		}
		add("workers", text, "")
	}
	if g := d.GPUs; g != nil && g.Total > 0 {
		add("gpus", fmt.Sprintf("%d of %d up", g.Up, g.Total), "")
	}
	if j := d.Jobs; j != nil {
		text := fmt.Sprintf("%d verified, %d failed, %d queued, %d in proof, %d to verify", j.Verified, j.Failed, j.Queued, j.Leased, j.Proved)
		if j.PerMinute != nil {
			text += fmt.Sprintf("; %.0f a minute", *j.PerMinute)
		}
		add("jobs", text, "")
	}
	if d.Nodes != nil && *d.Nodes > 0 {
		text := fmt.Sprintf("%d", *d.Nodes)
		if d.Cluster != nil {
			text += " of " + *d.Cluster
		}
		add("nodes", text, "")
	}
	if a := d.Alerts; a != nil {
		add("alerts", fmt.Sprintf("%d crit, %d warn, %d note", a.Crit, a.Warn, a.Note), "")
	}
	for _, src := range d.Sources {
		if src.State == "fresh" && src.Problem == "" {
			continue
		}
		text := src.Name + " " + src.State
		if src.AgeS != nil {
			text += fmt.Sprintf(", %s old, read every %s", engine.Span(time.Duration(*src.AgeS*float64(time.Second))), engine.Span(time.Duration(src.PeriodS*float64(time.Second))))
		}
		if src.Problem != "" {
			text += ": " + src.Problem
		}
		add("source", text, src.State)
	}
	return grid(w, st, rows, nil, words)
}

// signText writes the lines about signing.
func signText(g *StatusSign, add func(name, value, word string)) {
	state, word := "not known", "unknown"
	switch {
	case g.OK != nil && *g.OK:
		state, word = "ok", "ok"
	case g.OK != nil:
		state, word = "NOT SIGNING", "crit"
		if g.Why != "" {
			state += ": " + g.Why
		}
	}
	if g.PeersUp != nil {
		state += fmt.Sprintf(", peers %d/%d, need %d", *g.PeersUp, g.Peers, g.Need)
	} else {
		state += ", peers ?"
	}
	add("signing", state, word)
	if g.Missed != nil && g.Late != nil && g.Since != nil {
		text := fmt.Sprintf("%d missed, %d late since %s", *g.Missed, *g.Late, stamp(*g.Since))
		if g.Attested != nil {
			text = fmt.Sprintf("attested %.1f%%, ", *g.Attested) + text
		}
		add("duties", text, "")
	}
	if n := g.NextDuty; n != nil {
		text := dueText(n)
		if p := g.NextProp; p != nil && p.At != n.At {
			text += "; " + dueText(p)
		}
		add("next duty", text, "")
	}
	if g.Validators != nil && *g.Validators > 0 {
		text := fmt.Sprintf("%d, %d with duties", *g.Validators, *g.Active)
		if *g.Active == 0 {
			text += ": no active validators for this slot, see provost get validators -o wide"
		}
		add("validators", text, "")
	}
	if len(g.Silent) > 0 {
		add("silent", strings.Join(g.Silent, " "), "stale")
	}
}

func dueText(d *StatusDue) string {
	text := engine.DutyWord(d.Type)
	if d.Count > 1 {
		text += fmt.Sprintf(" x%d", d.Count)
	} else if d.Validator != "" {
		text += " " + d.Validator
	}
	return text + fmt.Sprintf(" in %s (slot %d)", engine.Span(time.Duration(d.InS*float64(time.Second))), d.Slot)
}

// Nagios exit codes of "provost check".
const (
	NagiosOK       = 0
	NagiosWarning  = 1
	NagiosCritical = 2
	NagiosUnknown  = 3
)

// Nagios is one line with performance data and its exit code.
func Nagios(s *engine.Snapshot, now time.Time) (string, int) {
	d := StatusOf(s, now)
	code, word := NagiosUnknown, "UNKNOWN"
	verdict := engine.VerdictUnknown
	if d.Verdict != nil {
		verdict = *d.Verdict
	}
	switch verdict {
	case engine.VerdictOK:
		code, word = NagiosOK, "OK"
	case engine.VerdictDegraded:
		code, word = NagiosWarning, "WARNING"
	case engine.VerdictCritical:
		code, word = NagiosCritical, "CRITICAL"
	}
	var parts []string
	for _, r := range d.Reasons {
		parts = append(parts, r.Text)
	}
	if len(parts) == 0 {
		switch {
		case code == NagiosUnknown:
			parts = []string{"readings are missing"}
		case d.Workers != nil:
			parts = []string{fmt.Sprintf("%d of %d workers up", d.Workers.Up(), d.Workers.Total)}
		default:
			parts = []string{"all that is configured works"}
		}
	}
	if len(parts) > 3 {
		parts = append(parts[:3], fmt.Sprintf("%d more", len(d.Reasons)-3))
	}
	// "|" begins the performance data, so no text may bring its own.
	text := strings.ReplaceAll(Clean(strings.Join(parts, "; ")), "|", "/")
	var perf []string
	if w := d.Workers; w != nil {
		perf = append(perf, fmt.Sprintf("workers_up=%d;;;0;%d", w.Up(), w.Total), fmt.Sprintf("workers_down=%d", w.Down+w.Gone))
	}
	if g := d.Sign; g != nil {
		if g.PeersUp != nil {
			perf = append(perf, fmt.Sprintf("peers_up=%d;;;0;%d", *g.PeersUp, g.Peers))
		}
		if g.Missed != nil {
			perf = append(perf, fmt.Sprintf("duties_missed=%dc", *g.Missed))
		}
	}
	if j := d.Jobs; j != nil {
		perf = append(perf, fmt.Sprintf("jobs_queued=%d", j.Queued), fmt.Sprintf("jobs_verified=%dc", j.Verified), fmt.Sprintf("jobs_failed=%dc", j.Failed))
	}
	if a := d.Alerts; a != nil {
		perf = append(perf, fmt.Sprintf("alerts_crit=%d", a.Crit), fmt.Sprintf("alerts_warn=%d", a.Warn))
	}
	if d.Engine != nil && d.Engine.RSSBytes != nil {
		perf = append(perf, fmt.Sprintf("rss=%dB", *d.Engine.RSSBytes))
	}
	line := "PROVOST " + word + " - " + text
	if len(perf) > 0 {
		line += " | " + strings.Join(perf, " ")
	}
	return line, code
}

// EntrySchema and LogSchema are the versions of journal and log lines as JSON.
const (
	EntrySchema = "provost.entry/1"
	LogSchema   = "provost.log/1"
)

// EntryObject is the JSON of a journal entry.
func EntryObject(e engine.Entry) any {
	return struct {
		Schema string `json:"schema"`
		engine.Entry
	}{EntrySchema, e}
}

// EntryLine is one line of the journal.
func EntryLine(e engine.Entry, st Style) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", stampMilli(e.At), st.paint(string(e.Level), pad(string(e.Level), 5, false)), st.clean(e.What))
	if e.Actor != nil {
		fmt.Fprintf(&b, " by=%s", factText(engine.Fact{Value: e.Actor.String()}, st)[1:])
	}
	if e.Text != "" {
		b.WriteString(" " + st.clean(e.Text))
	}
	for _, f := range e.Facts {
		b.WriteString(" " + factText(f, st))
	}
	return b.String()
}

// LogObject is the JSON of a log line.
func LogObject(l engine.LogLine) any {
	return struct {
		Schema string `json:"schema"`
		engine.LogLine
	}{LogSchema, l}
}

// LogLine is one log line as text.
func LogLine(l engine.LogLine, st Style) string {
	at := strings.Repeat(" ", len("2006-01-02T15:04:05.000Z"))
	if l.At != nil {
		at = stampMilli(*l.At)
	}
	level := string(l.Level)
	if level == "" {
		level = "-"
	}
	s := at + " " + pad(st.clean(l.Source), 8, false) + " " + st.paint(level, pad(st.clean(level), 5, false)) + " " + st.clean(l.Text)
	if l.Fields != "" {
		s += " " + st.clean(l.Fields)
	}
	if l.Dropped > 0 {
		s = fmt.Sprintf("%s %d lines were lost here: the reader was slower than the log\n", at, l.Dropped) + s
	}
	return s
}

// HugepagesSchema is the version of the JSON of hugepages.
const HugepagesSchema = "provost.hugepages/1"

// HugepagesObject is the JSON of "hugepages show".
func HugepagesObject(s *engine.Snapshot) any {
	type host struct {
		Machine string                            `json:"machine"`
		Pools   engine.Reading[[]prover.HugePool] `json:"pools"`
		THP     *string                           `json:"thp"`
	}
	hosts := []host{}
	for _, m := range s.Machines.List() {
		h := host{Machine: engine.HostName(&m), Pools: m.Hugepages}
		if m.Memory.Value != nil {
			h.THP = orNull(m.Memory.Value.THP)
		}
		hosts = append(hosts, h)
	}
	return struct {
		Schema string    `json:"schema"`
		At     time.Time `json:"at"`
		Hosts  []host    `json:"hosts"`
	}{HugepagesSchema, s.At.UTC(), hosts}
}

// Hugepages writes every pool of every host, and its parts on NUMA nodes.
func Hugepages(w io.Writer, s *engine.Snapshot, now time.Time, st Style) error {
	rows := [][]string{{"HOST", "PAGE", "NUMA", "TOTAL", "USED", "FREE", "RESERVED", "AVAILABLE", "MEMORY", "READ"}}
	right := []bool{false, true, true, true, true, true, true, true, true, true}
	for _, m := range s.Machines.List() {
		name := st.clean(engine.HostName(&m))
		if m.Hugepages.Value == nil {
			why := "not read"
			if m.Hugepages.Problem != "" {
				why += ": " + m.Hugepages.Problem
			}
			rows = append(rows, []string{name, "?", "?", "?", "?", "?", "?", "?", "?", st.clean(why)})
			continue
		}
		age := "?"
		if m.Hugepages.At != nil {
			age = engine.Span(now.Sub(*m.Hugepages.At))
			if m.Hugepages.Freshness(now) != engine.Fresh {
				age += "~"
			}
		}
		for _, p := range *m.Hugepages.Value {
			n := func(v uint64) string { return strconv.FormatUint(v, 10) }
			rows = append(rows, []string{name, engine.ByteSize(p.PageKiB << 10), "all", n(p.Total), n(p.Used()), n(p.Free), n(p.Reserved), n(p.Available()), engine.ByteSize(p.Total * p.PageKiB << 10), age})
			for _, part := range p.NUMA {
				used := uint64(0)
				if part.Free < part.Total {
					used = part.Total - part.Free
				}
				// The kernel keeps no reservation per node.
				rows = append(rows, []string{name, engine.ByteSize(p.PageKiB << 10), strconv.Itoa(part.Node), n(part.Total), n(used), n(part.Free), "-", "-", engine.ByteSize(part.Total * p.PageKiB << 10), age})
			}
		}
		if len(*m.Hugepages.Value) == 0 {
			rows = append(rows, []string{name, "-", "-", "-", "-", "-", "-", "-", "-", age})
		}
	}
	return grid(w, st, rows, right, nil)
}
