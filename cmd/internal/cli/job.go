package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"app.provost/cmd/internal/print"
	"app.provost/engine"
	"app.provost/prover"

	"github.com/spf13/cobra"
)

func (a *app) submitJobCmd() *cobra.Command {
	var f actFlags
	var act engine.SubmitJob
	var wait bool
	c := &cobra.Command{
		Use: "job --zkey FILE --witness FILE...", Short: "ask for one proof of each witness", Aliases: []string{"jobs"},
		Long: `The files are snarkjs': a Groth16 .zkey over BN254 and a .wtns of the same circuit. The
engine copies them, so they need not stay. A job counts when another process has verified its proof.`,
		Example: `  provost submit job --zkey circuit.zkey --witness a.wtns
  provost submit job --zkey circuit.zkey --witness a.wtns --witness b.wtns --name batch-7 --wait
  provost submit job --zkey circuit.zkey --witness a.wtns --key night-2026-03-02   safe to repeat`,
		Args: cobra.NoArgs,
	}
	fl := c.Flags()
	fl.StringVar(&act.Zkey, "zkey", "", "proving key: snarkjs .zkey")
	fl.StringArrayVar(&act.Witnesses, "witness", nil, "witness: snarkjs .wtns; give it again for more jobs")
	fl.StringVar(&act.Name, "name", "", "what to call the jobs")
	fl.IntVar(&act.MaxAttempts, "max-attempts", 0, "how often a job may be handed out (default: the engine's, 3)")
	fl.BoolVar(&wait, "wait", false, "wait until every job is verified; exit code 6 if one is not")
	f.addKey(fl)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if act.MaxAttempts < 0 {
			return usageField("max-attempts", fmt.Sprintf("--max-attempts=%d", act.MaxAttempts), "want 1 or more")
		}
		err := a.complete(cmd, false,
			need{"zkey", "proving key (.zkey)", act.Zkey == "", func(s string) error { act.Zkey = s; return nil }},
			need{"witness", "witness (.wtns)", len(act.Witnesses) == 0, func(s string) error { act.Witnesses = []string{s}; return nil }})
		if err != nil {
			return err
		}
		act := act
		if act.Zkey, err = absolute(act.Zkey); err != nil {
			return err
		}
		act.Witnesses = slices.Clone(act.Witnesses)
		for i, w := range act.Witnesses {
			if act.Witnesses[i], err = absolute(w); err != nil {
				return err
			}
			if w == "" {
				return usageField("witness", "--witness is empty", "name a .wtns file")
			}
		}
		if a.capture != nil || isPlanning(cmd) {
			return a.act(cmd, nil, act, f, nil)
		}
		e, hangUp, err := a.connect(cmd, "")
		if err != nil {
			return err
		}
		defer hangUp()
		var jobs []string
		if err := a.act(cmd, e, act, actFlags{key: f.key, detach: true}, func(r engine.Receipt) error {
			jobs = r.Jobs
			asJSON, err := a.asJSON(false)
			switch {
			case err != nil:
				return err
			case asJSON:
				return print.JSON(a.Stdout, print.ReceiptObject(r))
			}
			return print.Receipt(a.Stdout, r, a.style())
		}); err != nil || !wait {
			return err
		}
		return a.waitJobs(cmd.Context(), e, jobs)
	}
	return c
}

// waitJobs waits until every job has its final state.
func (a *app) waitJobs(parent context.Context, e engine.Engine, ids []string) error {
	ctx, stop := a.limited(parent, "the jobs go on: provost get jobs")
	defer stop()
	feed, err := e.Watch(ctx, engine.WatchOptions{Sections: []engine.SectionName{engine.SecJobs}})
	if err != nil {
		return err
	}
	defer feed.Close()
	open := map[string]bool{}
	for _, id := range ids {
		open[id] = true
	}
	var bad []engine.JobRow
	finish := func(r engine.JobRow) {
		if open[string(r.ID)] {
			delete(open, string(r.ID))
			a.say("job/%s %s", print.Clean(string(r.ID)), r.State)
			if r.State != prover.JobVerified {
				bad = append(bad, r)
			}
		}
	}
	for first := true; len(open) > 0; first = false {
		u, err := feed.Next(ctx)
		if err != nil {
			if parent.Err() != nil {
				a.say("no longer waiting; the jobs go on. provost get jobs")
				return parent.Err()
			}
			if errors.Is(err, io.EOF) {
				return &engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: "wait for jobs", Cause: "the engine has stopped", Remedy: "the jobs go on when it is started again"}
			}
			return orCause(ctx, err)
		}
		listed := map[string]bool{}
		for _, r := range u.Snapshot.Jobs.List() {
			listed[string(r.ID)] = true
			if r.State.Final() {
				finish(r)
			}
		}
		if first {
			continue // may be older than the receipt
		}
		// A finished job can have left the list, which is bounded: its proof tells.
		for _, id := range ids {
			if open[id] && !listed[id] {
				r, known, err := a.askJob(ctx, e, id)
				if err != nil {
					return err
				}
				if known {
					finish(r)
				}
			}
		}
	}
	for _, r := range bad {
		why := ""
		if r.Failure != nil {
			why = r.Failure.Text
		}
		fmt.Fprintf(a.Stdout, "%s\t%s\t%s\n", print.Clean(string(r.ID)), r.State, print.Clean(why))
	}
	if len(bad) > 0 {
		return Exit{engine.ExitPartly}
	}
	return nil
}

// askJob finds out by its proof how a job ended that is not listed any more.
func (a *app) askJob(ctx context.Context, e engine.Engine, id string) (engine.JobRow, bool, error) {
	row := engine.JobRow{ID: prover.JobID(id)}
	_, err := a.fetch(ctx, e, id)
	switch p := engine.AsProblem("", err); {
	case err == nil:
		row.State = prover.JobVerified
		return row, true, nil
	case p.Code == engine.CodeJobNotVerified:
		return row, false, nil
	case p.Code == engine.CodeNotFound:
		row.State = prover.JobFailed
		row.Failure = &prover.Failure{Text: "the engine does not keep this job any more"}
		return row, true, nil
	}
	return row, false, err
}

func (a *app) fetch(ctx context.Context, e engine.Engine, id string) (engine.Receipt, error) {
	req := engine.Request{Key: engine.NewKey(), Action: engine.FetchJob{Job: id}}
	if a.Actor != nil {
		req.Actor = a.Actor()
	}
	req.Actor.Via = engine.ViaCLI
	plan, err := e.Preview(ctx, req)
	if err != nil {
		return engine.Receipt{}, err
	}
	return e.Do(ctx, req, plan.Digest)
}

func (a *app) fetchJobCmd() *cobra.Command {
	var out string
	var force bool
	c := &cobra.Command{
		Use: "job ID", Short: "write the proof of a verified job: proof.json and public.json", Aliases: []string{"jobs"},
		Long: `The files are snarkjs': check them with "snarkjs groth16 verify". ID is the job's id, in full or
its first 8 characters and more. Files that are there are not overwritten without --force.`,
		Example: `  provost fetch job 3f9c2d1a --out proofs/a
  provost fetch job 3f9c2d1a --out - | jq .public`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeRows(engine.TableJobs),
	}
	c.Flags().StringVar(&out, "out", ".", "directory to write to (made if it is not there), or - for one JSON object on standard output")
	c.Flags().BoolVar(&force, "force", false, "overwrite files that are there")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if a.capture != nil {
			a.capture(engine.FetchJob{Job: args[0]})
			return nil
		}
		asJSON, err := a.asJSON(false)
		if err != nil {
			return err
		}
		e, hangUp, err := a.connect(cmd, "")
		if err != nil {
			return err
		}
		defer hangUp()
		ctx := cmd.Context()
		id := args[0]
		if s, err := a.snapshot(ctx, e); err == nil {
			jobs, _ := engine.TableNamed(string(engine.TableJobs))
			if row, err := jobs.Find(s, id); err == nil {
				id = jobs.ID(row) // a beginning becomes the whole id
			}
		}
		r, err := a.fetch(ctx, e, id)
		if err != nil {
			return err
		}
		if out == "-" {
			return print.JSON(a.Stdout, proofObject(id, r.Artifacts))
		}
		files, err := writeArtifacts(out, r.Artifacts, force)
		if err != nil {
			return err
		}
		if asJSON {
			return print.JSON(a.Stdout, struct {
				Schema string   `json:"schema"`
				Job    string   `json:"job"`
				Files  []string `json:"files"`
			}{"provost.fetched/1", id, files})
		}
		for _, f := range files {
			fmt.Fprintln(a.Stdout, print.Clean(f))
		}
		return nil
	}
	return c
}

// proofObject is the JSON of "fetch job --out -".
func proofObject(id string, all []engine.Artifact) any {
	raw := func(name string) json.RawMessage {
		for _, x := range all {
			if x.Name == name && json.Valid(x.Data) {
				return x.Data
			}
		}
		return json.RawMessage("null")
	}
	return struct {
		Schema string          `json:"schema"`
		Job    string          `json:"job"`
		Proof  json.RawMessage `json:"proof"`
		Public json.RawMessage `json:"public"`
	}{"provost.proof/1", id, raw("proof.json"), raw("public.json")}
}

// writeArtifacts writes files into a directory: each aside, synced and renamed.
// Names are an engine's word and may not lead out of the directory. Without force
// nothing is written if any of them is there already.
func writeArtifacts(dir string, all []engine.Artifact, force bool) ([]string, error) {
	fail := func(err error) ([]string, error) {
		return nil, engine.Problem{Code: engine.CodeDirUnwritable, Exit: engine.ExitUsage, Doing: "write proof", Remedy: "name another directory with --out"}.Because(err)
	}
	if len(all) == 0 {
		return nil, &engine.Problem{Code: engine.CodeProtocol, Exit: engine.ExitUnexpected, Doing: "write proof", Cause: "the engine sent no files", Remedy: "see provost version on both sides"}
	}
	for _, x := range all {
		if x.Name != filepath.Base(x.Name) || !filepath.IsLocal(x.Name) || x.Name == "." || x.Name[0] == '.' || print.Clean(x.Name) != x.Name {
			return nil, &engine.Problem{Code: engine.CodeProtocol, Exit: engine.ExitUnexpected, Doing: "write proof", Cause: fmt.Sprintf("the engine named a file %q", x.Name), Remedy: "nothing was written"}
		}
		_, err := os.Lstat(filepath.Join(dir, x.Name))
		if err == nil && !force {
			return nil, &engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "write proof", Field: "out",
				Cause: fmt.Sprintf("%s is there already", filepath.Join(dir, x.Name)), Remedy: "name another directory with --out, or overwrite with --force"}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fail(err)
	}
	var names []string
	for _, x := range all {
		path := filepath.Join(dir, x.Name)
		if err := writeFile(path, x.Data, force); err != nil {
			return fail(err)
		}
		names = append(names, path)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fail(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fail(err)
	}
	return names, nil
}

func writeFile(path string, data []byte, force bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after a rename
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()) // proofs are public
	if err != nil {
		return err
	}
	if force {
		return os.Rename(f.Name(), path)
	}
	// A link does not overwrite what came there meanwhile.
	return os.Link(f.Name(), path)
}

func (a *app) cancelJobCmd() *cobra.Command {
	var f actFlags
	var act engine.CancelJobs
	c := &cobra.Command{
		Use: "job SELECTOR...", Short: "withdraw jobs that are not verified yet", Aliases: []string{"jobs"},
		Long: `SELECTOR is ids (in full or their first 8 characters and more), a filter over the columns of
"get jobs" (state=queued name:batch-7), or all. An empty one matches nothing.`,
		Example: `  provost cancel job 3f9c2d1a
  provost cancel job 'state=queued name:batch-7' --reason "wrong witness" --confirm 77ab03`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeRows(engine.TableJobs),
	}
	c.Flags().StringVar(&act.Reason, "reason", "", "why; kept in the journal")
	f.add(c.Flags())
	c.RunE = func(cmd *cobra.Command, args []string) error {
		act.Jobs = selectorOf(args)
		return a.act(cmd, nil, act, f, nil)
	}
	return c
}
