package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"app.provost/cmd/internal/print"
	"app.provost/engine"

	"github.com/spf13/cobra"
)

func (a *app) statusCmd() *cobra.Command {
	var asJSON, watch bool
	var every time.Duration
	c := &cobra.Command{
		Use: "status", Short: "how the engine and its work stand", Args: cobra.NoArgs,
		Example: `  provost status
  provost status --json | jq .verdict
  provost status --watch`,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, as -o json")
	c.Flags().BoolVar(&watch, "watch", false, "print it again when it changes: one line, or one JSON object on a line")
	c.Flags().DurationVar(&every, "every", 2*time.Second, "with --watch: not more often than this")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := a.asJSON(asJSON)
		if err != nil {
			return err
		}
		e, hangUp, err := a.connect(cmd, "")
		if err != nil {
			return err
		}
		defer hangUp()
		if watch {
			last := ""
			return a.updates(cmd.Context(), e, "status", engine.WatchOptions{Every: every}, func(u engine.Update) (bool, error) {
				now := a.Now()
				if asJSON {
					return false, print.JSONLine(a.Stdout, print.StatusOf(u.Snapshot, now))
				}
				var facts []string
				for _, f := range print.StatusFacts(u.Snapshot, now) {
					switch f.Name {
					case "rss", "next_duty": // move all the time
					case "restart_safe":
						facts = append(facts, f.Name+strings.TrimLeft(f.Value, "0123456789"))
					default:
						facts = append(facts, f.Name+f.Value)
					}
				}
				if key := strings.Join(facts, " "); key != last {
					last = key
					fmt.Fprintln(a.Stdout, print.StatusLine(u.Snapshot, now, a.style()))
				}
				return false, nil
			})
		}
		s, err := a.snapshot(cmd.Context(), e)
		if err != nil {
			return err
		}
		if asJSON {
			return print.JSON(a.Stdout, print.StatusOf(s, a.Now()))
		}
		return print.StatusText(a.Stdout, s, a.Now(), a.style())
	}
	return c
}

// updates hands each update to fn until it says that it is done, or the context or the engine ends.
func (a *app) updates(parent context.Context, e engine.Engine, doing string, o engine.WatchOptions, fn func(engine.Update) (bool, error)) error {
	ctx, stop := a.limited(parent, "")
	defer stop()
	feed, err := e.Watch(ctx, o)
	if err != nil {
		return err
	}
	defer feed.Close()
	for {
		u, err := feed.Next(ctx)
		if errors.Is(err, io.EOF) {
			return &engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: doing, Cause: "the engine has stopped", Remedy: "start it with: provost up"}
		}
		if err != nil {
			return orCause(ctx, err)
		}
		if u.Snapshot == nil {
			continue
		}
		if done, err := fn(u); err != nil || done {
			return err
		}
	}
}

func (a *app) checkCmd() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "one line with performance data, for monitors in the style of Nagios", Args: cobra.NoArgs,
		Long:    `Exit codes of this command: 0 OK, 1 WARNING, 2 CRITICAL (also when no engine answers), 3 UNKNOWN.`,
		Example: `  provost check`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := context.WithTimeout(cmd.Context(), answerLimit)
			defer stop()
			cmd.SetContext(ctx)
			s, err := a.checked(cmd)
			if err != nil {
				code, word := print.NagiosUnknown, "UNKNOWN"
				var p *engine.Problem
				if errors.As(err, &p) && p.Code == engine.CodeNoEngine {
					code, word = print.NagiosCritical, "CRITICAL"
				}
				fmt.Fprintf(a.Stdout, "PROVOST %s - %s\n", word, strings.ReplaceAll(print.Clean(err.Error()), "|", "/"))
				return Exit{engine.ExitCode(code)}
			}
			line, code := print.Nagios(s, a.Now())
			fmt.Fprintln(a.Stdout, line)
			if code != print.NagiosOK {
				return Exit{engine.ExitCode(code)}
			}
			return nil
		},
	}
}

func (a *app) checked(cmd *cobra.Command) (*engine.Snapshot, error) {
	e, hangUp, err := a.connect(cmd, "")
	if err != nil {
		return nil, err
	}
	defer hangUp()
	return a.snapshot(cmd.Context(), e)
}

func (a *app) watchCmd() *cobra.Command {
	var tail int
	var every time.Duration
	c := &cobra.Command{
		Use: "watch", Short: "the journal as it is written, and the status line", Args: cobra.NoArgs,
		Long: `What happened, in order: acts, alerts, workers, jobs; and a status line when the verdict changes and
once in a while. -o json prints one object per line.`,
		Example: `  provost watch
  provost watch --tail 100 -o json | jq 'select(.level=="crit")'`,
	}
	c.Flags().IntVar(&tail, "tail", 10, "begin with the last so many entries")
	c.Flags().DurationVar(&every, "status-every", time.Minute, "how often to print the status line; 0 for only when the verdict changes")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := a.asJSON(false)
		if err != nil {
			return err
		}
		if tail < 0 {
			return usageField("tail", fmt.Sprintf("--tail=%d", tail), "want 0 or more")
		}
		e, hangUp, err := a.connect(cmd, "")
		if err != nil {
			return err
		}
		defer hangUp()
		show := func(all []engine.Entry) error {
			for _, en := range all {
				var err error
				if asJSON {
					err = print.JSONLine(a.Stdout, print.EntryObject(en))
				} else {
					_, err = fmt.Fprintln(a.Stdout, print.EntryLine(en, a.style()))
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
		ctx, stop := context.WithCancel(cmd.Context())
		var after uint64
		incoming, failed, finished := make(chan engine.Update), make(chan error, 1), make(chan struct{})
		defer func() { stop(); <-finished }()
		go func() {
			defer close(finished)
			failed <- a.updates(ctx, e, "watch", engine.WatchOptions{After: &after}, func(u engine.Update) (bool, error) {
				select {
				case incoming <- u:
					return false, nil
				case <-ctx.Done():
					return true, nil
				}
			})
		}()
		// The past comes first, perhaps in several updates. It is over when the feed falls silent.
		var old []engine.Entry
		past := true
		silence := time.NewTimer(catchUp)
		defer silence.Stop()
		var verdict engine.VerdictWord
		var statusAt time.Time
		var last *engine.Snapshot
		status := func(now time.Time) error {
			if last == nil || past {
				return nil
			}
			word := engine.VerdictUnknown
			if last.Verdict != nil {
				word = last.Verdict.Value.Word
			}
			if word == verdict && (every <= 0 || now.Sub(statusAt) < every) {
				return nil
			}
			verdict, statusAt = word, now
			if asJSON {
				return print.JSONLine(a.Stdout, print.StatusOf(last, now))
			}
			_, err := fmt.Fprintln(a.Stdout, print.StatusLine(last, now, a.style()))
			return err
		}
		for {
			select {
			case u := <-incoming:
				last = u.Snapshot
				if past {
					if len(u.Entries) > 0 {
						silence.Reset(catchUp)
					}
					old = append(old, u.Entries...)
					old = old[max(0, len(old)-tail):]
					continue
				}
				if u.Gap != nil {
					a.say("journal entries %d to %d are gone: the reader was too slow", u.Gap.From, u.Gap.To)
				}
				if err := errors.Join(show(u.Entries), status(a.Now())); err != nil {
					return err
				}
			case <-silence.C:
				past = false
				if err := errors.Join(show(old), status(a.Now())); err != nil {
					return err
				}
				old = nil
			case err := <-failed:
				if past {
					err = errors.Join(show(old), err)
				}
				return err
			}
		}
	}
	return c
}

// catchUp is how long the journal has to be silent until what follows counts as new.
const catchUp = 200 * time.Millisecond

func (a *app) waitRestartCmd() *cobra.Command {
	var least time.Duration
	c := &cobra.Command{
		Use: "restart-safe", Short: "wait until the engine may be restarted without loss", Args: cobra.NoArgs,
		Long: `Safe is a moment at which no duty of a validator needs this engine's nodes: the others reach quorum
without them and no block is due; and no work is lost. With --for it stays so for at least that long.
Exit code 0 when it is so, 7 when --timeout has passed before.`,
		Example: `  provost wait restart-safe --timeout 10m && systemctl restart provost
  provost wait restart-safe --for 2m`,
	}
	c.Flags().DurationVar(&least, "for", 0, "how long it has to stay safe")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := a.asJSON(false)
		if err != nil {
			return err
		}
		e, hangUp, err := a.connect(cmd, "")
		if err != nil {
			return err
		}
		defer hangUp()
		said := ""
		return a.updates(cmd.Context(), e, "wait restart-safe", engine.WatchOptions{Sections: []engine.SectionName{engine.SecVerdict}}, func(u engine.Update) (bool, error) {
			if u.Snapshot.Verdict == nil {
				return false, nil
			}
			r := u.Snapshot.RestartNow(a.Now())
			if r.Safe != nil && *r.Safe && (r.ForS == nil || *r.ForS >= least.Seconds()) {
				if asJSON {
					return true, print.JSON(a.Stdout, struct {
						Schema string `json:"schema"`
						engine.Restart
					}{"provost.restart/1", r})
				}
				text := "safe to restart"
				if r.ForS != nil {
					text += " for " + engine.Span(time.Duration(*r.ForS*float64(time.Second)))
				}
				if r.Until != "" {
					text += ", until " + r.Until
				}
				_, err := fmt.Fprintln(a.Stdout, text)
				return true, err
			}
			why := r.Why
			if r.Safe != nil && *r.Safe {
				why = "safe for too short a time"
				if r.Until != "" {
					why += ", until " + r.Until
				}
			}
			if why != said {
				said = why
				a.say("waiting: %s", print.Clean(why))
			}
			return false, nil
		})
	}
	return c
}

// logLevels are the words of --level, with those that other tools use.
var logLevels = map[string]engine.Level{"": "", "debug": engine.LevelDebug, "info": engine.LevelNote, "note": engine.LevelNote,
	"warn": engine.LevelWarn, "warning": engine.LevelWarn, "error": engine.LevelCrit, "crit": engine.LevelCrit}

func (a *app) logsCmd() *cobra.Command {
	var q engine.LogQuery
	var since, level string
	c := &cobra.Command{
		Use: "logs [SOURCE...]", Short: "log lines of the engine and its workers",
		Long: `SOURCE is engine, verifier or a worker's id; without one all are merged by time.`,
		Example: `  provost logs w3 -f
  provost logs --since 10m --level warn
  provost logs engine --tail 50 --grep 'job [0-9a-f]+' -o json`,
	}
	fl := c.Flags()
	fl.BoolVarP(&q.Follow, "follow", "f", false, "go on with new lines")
	fl.IntVar(&q.Tail, "tail", 0, "only the last so many lines before following (default: all)")
	fl.StringVar(&since, "since", "", "only lines since then: a length of time (10m) or a time in RFC 3339")
	fl.StringVar(&q.Grep, "grep", "", "only lines that match a regular expression (RE2)")
	fl.StringVar(&level, "level", "", "this level and above: debug, info, warn or error")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		q := q
		asJSON, err := a.asJSON(false)
		if err != nil {
			return err
		}
		q.Sources = args
		if slices.Contains(args, "") {
			return usage("logs", "a source is empty", "name engine, verifier or a worker")
		}
		if q.Tail < 0 {
			return usageField("tail", fmt.Sprintf("--tail=%d", q.Tail), "want 1 or more")
		}
		if _, err := regexp.Compile(q.Grep); err != nil {
			return usageField("grep", "--grep: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "the syntax is RE2")
		}
		l, ok := logLevels[strings.ToLower(level)]
		if !ok {
			return usageField("level", fmt.Sprintf("--level=%q", level), "want debug, info, warn or error")
		}
		q.Level = l
		if since != "" {
			at, err := a.moment(since)
			if err != nil {
				return err
			}
			q.Since = &at
		}
		e, hangUp, err := a.connect(cmd, "")
		if err != nil {
			return err
		}
		defer hangUp()
		ctx, stop := a.limited(cmd.Context(), "")
		defer stop()
		stream, err := e.Logs(ctx, q)
		if err != nil {
			return err
		}
		defer stream.Close()
		for {
			line, err := stream.Next(ctx)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return orCause(ctx, err)
			}
			if asJSON {
				err = print.JSONLine(a.Stdout, print.LogObject(line))
			} else {
				_, err = fmt.Fprintln(a.Stdout, print.LogLine(line, a.style()))
			}
			if err != nil {
				return err
			}
		}
	}
	return c
}

// moment reads "10m" (ago) or a time.
func (a *app) moment(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return a.Now().Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	return time.Time{}, usageField("since", fmt.Sprintf("--since=%q", s), "want a length of time (10m) or a time (2026-03-02T11:04:00Z)")
}
