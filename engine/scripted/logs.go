package scripted

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

// backlog is how far back lines are told.
const backlog = time.Minute

// lines is a stream of log lines. It reads the script when it is asked.
type lines struct {
	e       *Engine
	q       engine.LogQuery
	grep    *regexp.Regexp
	workers []int
	engine  bool
	verify  bool
	from    time.Duration // lines after this moment are still to come
	number  uint64        // journal entries after this one
	beside  int           // lines beside the script that were read
	ready   []engine.LogLine
	closed  chan struct{}
	closing sync.Once
	unhook  func() bool
}

// Logs opens a stream of the script's lines: the engine's are those of its journal.
func (e *Engine) Logs(ctx context.Context, q engine.LogQuery) (engine.LogStream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fault := func(field, cause, remedy string) error {
		return &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "read logs", Field: field, Cause: cause, Remedy: remedy}
	}
	l := &lines{e: e, q: q, closed: make(chan struct{})}
	if q.Grep != "" {
		re, err := regexp.Compile(q.Grep)
		if err != nil {
			return nil, fault("grep", "bad regular expression: "+err.Error(), "the syntax is RE2")
		}
		l.grep = re
	}
	if q.Tail < 0 {
		return nil, fault("tail", fmt.Sprintf("%d lines", q.Tail), "give 0 for all, or a number above it")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.s.advance(e.moment())
	for _, name := range q.Sources {
		switch name {
		case "engine":
			l.engine = true
		case "verifier":
			l.verify = true
		default:
			i := slices.IndexFunc(e.s.workers, func(w worker) bool { return string(w.id) == name })
			if slices.ContainsFunc(e.s.beside.lines, func(x engine.LogLine) bool { return x.Source == name }) {
				break
			}
			if i < 0 {
				return nil, &engine.Problem{Code: engine.CodeNotFound, Exit: engine.ExitUsage, Doing: "read logs", Field: "sources", Cause: fmt.Sprintf("there is no source %q", name), Remedy: "sources are engine, verifier and the workers, as in w1"}
			}
			if !slices.Contains(l.workers, i) {
				l.workers = append(l.workers, i)
			}
		}
	}
	if len(q.Sources) == 0 {
		l.engine, l.verify = true, true
		for i := range e.s.workers {
			l.workers = append(l.workers, i)
		}
	}
	l.from = e.s.at - backlog
	l.readLocked()
	if q.Tail > 0 && len(l.ready) > q.Tail {
		l.ready = l.ready[len(l.ready)-q.Tail:]
	}
	l.unhook = context.AfterFunc(ctx, l.close)
	return l, nil
}

// readLocked takes the lines between the last moment read and now. A reader that was
// away for longer than the backlog is told how much it missed.
func (l *lines) readLocked() {
	s := l.e.s
	from, to, dropped := l.from, s.at, 0
	if to-from > backlog+beat {
		dropped = int((to - from - backlog) / period)
		from = to - backlog
	}
	l.from = to
	var out []engine.LogLine
	add := func(at time.Duration, source string, level engine.Level, text, fields string) {
		out = append(out, engine.LogLine{At: s.wallp(at), Source: source, Level: level, Text: text, Fields: fields})
	}
	if l.engine {
		for _, en := range s.journal {
			if en.N <= l.number {
				continue
			}
			level := en.Level
			if level == engine.LevelOK {
				level = engine.LevelNote
			}
			at := en.At
			fields := "n=" + strconv.FormatUint(en.N, 10)
			if en.Actor != nil {
				fields += " by=" + en.Actor.String()
			}
			out = append(out, engine.LogLine{At: &at, Source: "engine", Level: level, Text: en.What + ": " + en.Text, Fields: fields})
		}
		l.number = s.number
	}
	if l.verify && len(s.workers) > 0 {
		for at := floor(from, second) + second; at <= to; at += second {
			id := prover.JobIDFor("scripted/"+strconv.FormatUint(s.seed, 10)+"/seen", int(at/second)+1<<30)
			add(at, "verifier", engine.LevelDebug, "proof is valid", fmt.Sprintf("job=%s took_ms=%d", id[:9], 2+s.hash('V', int64(at/second), 0)%3))
		}
	}
	for _, i := range l.workers {
		w := &s.workers[i]
		for at := w.read(from) + period; at <= to; at += period {
			state, o := w.state(at)
			work, _ := w.work(at)
			n, part := w.job(work)
			switch {
			case state == engine.WorkerRun && part == 0:
				add(at, string(w.id), engine.LevelNote, "proof made", fmt.Sprintf("job=%s took_ms=%d", s.jobID(i, n-1)[:9], w.take.Milliseconds()-900))
			case state == engine.WorkerRun || state == engine.WorkerPausing:
				add(at, string(w.id), engine.LevelDebug, "proving", fmt.Sprintf("job=%s phase=%s progress=%.2f", s.jobID(i, n)[:9], phase(part), part))
			case state == engine.WorkerPaused && w.outs[o].then > at-period:
				add(at, string(w.id), engine.LevelNote, "drained, paused", "act="+w.outs[o].act)
			case state == engine.WorkerStart:
				add(at, string(w.id), engine.LevelNote, "starting", fmt.Sprintf("core=%d", w.core))
			}
		}
		for j := range w.outs {
			if o := &w.outs[j]; o.kind == outDown && o.from > from && o.from <= to {
				add(o.from, string(w.id), engine.LevelCrit, "out of memory: could not get 268435456 bytes", "rss=1.2G")
			}
		}
	}
	for _, x := range s.beside.lines[l.beside:] {
		if len(l.q.Sources) == 0 || slices.Contains(l.q.Sources, x.Source) {
			out = append(out, x)
		}
	}
	l.beside = len(s.beside.lines)
	slices.SortStableFunc(out, func(a, b engine.LogLine) int { return a.At.Compare(*b.At) })
	for _, line := range out {
		if l.q.Since != nil && line.At.Before(*l.q.Since) || l.grep != nil && !l.grep.MatchString(line.Text+" "+line.Fields) || l.q.Level != "" && below(line.Level, l.q.Level) {
			continue
		}
		line.Dropped, dropped = dropped, 0
		l.ready = append(l.ready, line)
	}
}

// below tells whether a line is less than what was asked for.
func below(have, want engine.Level) bool {
	return have.Rank() < want.Rank()
}

// Next gives the next line; with Follow it waits for one.
func (l *lines) Next(ctx context.Context) (engine.LogLine, error) {
	for {
		select {
		case <-l.closed:
			return engine.LogLine{}, io.EOF
		default:
		}
		if err := ctx.Err(); err != nil {
			return engine.LogLine{}, err
		}
		if len(l.ready) > 0 {
			line := l.ready[0]
			l.ready = l.ready[1:]
			return line, nil
		}
		if !l.q.Follow {
			return engine.LogLine{}, io.EOF
		}
		pub := l.e.pub.Load()
		l.e.mu.Lock()
		l.readLocked()
		l.e.mu.Unlock()
		if len(l.ready) > 0 {
			continue
		}
		if pub.final {
			return engine.LogLine{}, io.EOF
		}
		select {
		case <-pub.next:
		case <-l.closed:
		case <-ctx.Done():
			return engine.LogLine{}, ctx.Err()
		}
	}
}

// Close ends the stream.
func (l *lines) Close() error {
	l.unhook()
	l.close()
	return nil
}

func (l *lines) close() { l.closing.Do(func() { close(l.closed) }) }
