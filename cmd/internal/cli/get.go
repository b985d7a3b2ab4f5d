package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"app.provost/cmd/internal/print"
	"app.provost/engine"

	"github.com/spf13/cobra"
)

func kinds() []string {
	var out []string
	for _, t := range engine.Tables {
		out = append(out, string(t.Name))
	}
	return out
}

func tableNamed(doing, name string) (*engine.Table, error) {
	if t, ok := engine.TableNamed(name); ok {
		return t, nil
	}
	remedy := "one of: " + strings.Join(kinds(), ", ")
	if near := engine.Nearest(name, kinds()); near != "" {
		remedy = fmt.Sprintf("did you mean %q?", near)
	}
	return nil, usage(doing, fmt.Sprintf("there is no kind %q", name), remedy)
}

func (a *app) getCmd() *cobra.Command {
	var sort, columns string
	var watch bool
	var every time.Duration
	c := &cobra.Command{
		Use: "get KIND [SELECTOR...]", Short: "list " + strings.Join(kinds(), ", "),
		Long: `SELECTOR is a filter over the columns; without one every row is listed. The columns of each kind:
provost man filter.

` + indent(engine.FilterHelp) + `

-o table and wide are for people; json, jsonl, csv and name are for programs: numbers carry their
unit in the name, times are RFC 3339 in UTC, unknown is null or empty.`,
		Example: `  provost get workers
  provost get workers 'state!=run' -o wide
  provost get jobs state=failed --columns id,name,why
  provost get hosts -o json | jq '.rows[].hugepages'
  provost get workers --sort=-cpu --watch`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("get", "a kind is missing after it", "one of: "+strings.Join(kinds(), ", "))
			}
			_, err := tableNamed("get", args[0])
			return err
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return kinds(), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}
	fl := c.Flags()
	fl.StringVar(&sort, "sort", "", "columns to order by; a minus before one reverses it: --sort=state,-age")
	fl.StringVar(&columns, "columns", "", "columns to show, by commas")
	fl.BoolVar(&watch, "watch", false, "show it again when it changes; jsonl: the rows that changed")
	fl.DurationVar(&every, "every", 2*time.Second, "with --watch: not more often than this")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		t, err := tableNamed("get", args[0])
		if err != nil {
			return err
		}
		f, err := a.format(print.Formats...)
		if err != nil {
			return err
		}
		v, err := newView(t, strings.Join(args[1:], " "), sort, columns)
		if err != nil {
			return a.doing("get "+string(t.Name), err)
		}
		if v.columns != nil && (f == print.AJSON || f == print.JSONL || f == print.Name) {
			return usageField("columns", fmt.Sprintf("--columns with -o %s", f), "json gives whole rows; use -o csv")
		}
		if watch && (f == print.CSV || f == print.Name) {
			return usageField("watch", fmt.Sprintf("--watch with -o %s", f), "use -o jsonl")
		}
		e, hangUp, err := a.connect(cmd, "")
		if err != nil {
			return err
		}
		defer hangUp()
		if watch {
			return a.watchRows(cmd.Context(), e, v, f, every)
		}
		s, err := a.snapshot(cmd.Context(), e)
		if err != nil {
			return err
		}
		rows, err := v.rows(s, a.Now())
		if err != nil {
			return a.doing("get "+string(t.Name), err)
		}
		if err := rows.Write(a.Stdout, f, a.style()); err != nil {
			return err
		}
		if len(rows.Rows) == 0 && (f == print.Text || f == print.Wide) {
			switch {
			case s.Version(t.Section) == 0:
				a.say("this engine carries no %s", t.Name)
			case t.Len(s) == 0:
				a.say("no %s", t.Name)
			default:
				a.say("none of %d %s matches", t.Len(s), t.Name)
			}
		}
		return nil
	}
	return c
}

// doing puts the action before a problem that has none.
func (a *app) doing(what string, err error) error {
	var p *engine.Problem
	if errors.As(err, &p) && p.Doing == "" {
		q := *p
		q.Doing = what
		return &q
	}
	return err
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// view is which rows of a table, in which order, with which columns.
type view struct {
	table   *engine.Table
	sel     string
	filter  *engine.Filter // nil: sel is a list of ids
	sort    []engine.SortKey
	columns []*engine.Column
}

// workerIDs is a selector of ids and ranges, as acts take it.
var workerIDs = regexp.MustCompile(`^([^\s,/:=<>~!()"]+/)?w[0-9]+(-w[0-9]+)?(\s*,\s*([^\s,/:=<>~!()"]+/)?w[0-9]+(-w[0-9]+)?)*$`)

func newView(t *engine.Table, sel, sort, columns string) (*view, error) {
	v := &view{table: t, sel: strings.TrimSpace(sel)}
	var err error
	if t.Name != engine.TableWorkers || !workerIDs.MatchString(v.sel) {
		if v.filter, err = engine.CompileFilter(t, v.sel); err != nil {
			var fe *engine.FilterError
			if errors.As(err, &fe) {
				return nil, fe.Problem("")
			}
			return nil, err
		}
	}
	if v.sort, err = t.ParseSort(sort); err != nil {
		return nil, err
	}
	if columns != "" {
		v.columns, err = t.ParseColumns(columns)
	}
	return v, err
}

func (v *view) rows(s *engine.Snapshot, now time.Time) (print.Rows, error) {
	out := print.Rows{Table: v.table, Snapshot: s, Columns: v.columns, Now: now}
	if v.filter != nil {
		out.Rows = v.filter.Rows(s, now)
	} else {
		chosen, err := engine.SelectWorkers(s.Workers.List(), engine.Selector(v.sel), now)
		if err != nil {
			return out, err
		}
		for _, r := range chosen {
			out.Rows = append(out.Rows, r)
		}
	}
	v.table.SortRows(out.Rows, v.sort, now)
	return out, nil
}

// watchRows prints rows again when they change, until the context or the engine ends.
func (a *app) watchRows(parent context.Context, e engine.Engine, v *view, f print.Format, every time.Duration) error {
	ctx, stop := a.limited(parent, "")
	defer stop()
	feed, err := e.Watch(ctx, engine.WatchOptions{Every: every, Sections: []engine.SectionName{v.table.Section}})
	if err != nil {
		return err
	}
	defer feed.Close()
	last := map[string]engine.Row{}
	for n := 0; ; n++ {
		u, err := feed.Next(ctx)
		if errors.Is(err, io.EOF) {
			return &engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: "get " + string(v.table.Name), Cause: "the engine has stopped", Remedy: "start it with: provost up"}
		}
		if err != nil {
			return orCause(ctx, err)
		}
		rows, err := v.rows(u.Snapshot, a.Now())
		if err != nil {
			return a.doing("get "+string(v.table.Name), err)
		}
		switch f {
		case print.AJSON:
			err = print.JSONLine(a.Stdout, rows.Object())
		case print.JSONL:
			seen := map[string]engine.Row{}
			for _, r := range rows.Rows {
				key := v.table.Key(r).String()
				seen[key] = r
				if old, ok := last[key]; !ok || !print.Same(old, r) {
					err = errors.Join(err, print.JSONLine(a.Stdout, rows.Line(r)))
				}
			}
			last = seen
		default:
			if n > 0 {
				fmt.Fprintln(a.Stdout)
			}
			fmt.Fprintf(a.Stdout, "%s  %d of %d\n", u.Snapshot.At.UTC().Format(time.RFC3339), len(rows.Rows), v.table.Len(u.Snapshot))
			err = rows.Write(a.Stdout, f, a.style())
		}
		if err != nil {
			return err
		}
	}
}

func (a *app) describeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "describe KIND/ID", Short: "everything that is known of one thing",
		Long: `KIND is one of ` + strings.Join(kinds(), ", ") + ` (or its singular). ID is as "get -o name" lists it.
-v says what each line means.`,
		Example: `  provost describe worker/w3
  provost describe host m1 -o json
  provost describe gpu/m3/0`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, id, ok := strings.Cut(strings.Join(args, "/"), "/")
			if !ok || id == "" {
				return usage("describe", fmt.Sprintf("%q has no id", args[0]), "want KIND/ID, as in worker/w3")
			}
			t, err := tableNamed("describe", kind)
			if err != nil {
				return err
			}
			return a.describe(cmd, t, id)
		},
	}
}

func (a *app) describe(cmd *cobra.Command, t *engine.Table, id string) error {
	f, err := a.format(print.Text, print.AJSON, print.JSONL)
	if err != nil {
		return err
	}
	e, hangUp, err := a.connect(cmd, "")
	if err != nil {
		return err
	}
	defer hangUp()
	s, err := a.snapshot(cmd.Context(), e)
	if err != nil {
		return err
	}
	row, err := t.Find(s, id)
	if err != nil {
		return a.doing("describe "+t.One, err)
	}
	return print.Rows{Table: t, Snapshot: s, Now: a.Now()}.Describe(a.Stdout, row, f, a.g.verbose, a.style())
}

// completeLimit is how long a shell waits for names from the running engine.
const completeLimit = 200 * time.Millisecond

// completeRows completes ids from the running engine.
func (a *app) completeRows(name engine.TableName) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		parent := cmd.Context()
		if parent == nil {
			parent = context.Background()
		}
		ctx, stop := context.WithTimeout(parent, completeLimit)
		defer stop()
		cmd.SetContext(ctx)
		if a.prepare(cmd) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		e, hangUp, err := a.connect(cmd, "")
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer hangUp()
		s, err := a.snapshot(ctx, e)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		t, _ := engine.TableNamed(string(name))
		var out []string
		for _, r := range t.Rows(s) {
			if id := t.ID(r); strings.HasPrefix(id, word) && print.Clean(id) == id {
				out = append(out, id)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
