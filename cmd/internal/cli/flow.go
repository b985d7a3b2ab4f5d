package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"app.provost/cmd/internal/print"
	"app.provost/engine"
	"app.provost/engine/flow"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flowFlags are the flags of commands that have a guided flow.
type flowFlags struct{ answers, save string }

// guidedHelp stands at the end of the help of commands that have a flow.
const guidedHelp = `

Needed flags that are missing are asked for on a terminal, with checks, a review of what is
written, and words to type before it is: on a screen, or line by line with --accessible,
PROVOST_ACCESSIBLE=1, "accessible: true" in the configuration or TERM=dumb. What was answered is
kept as a draft until it is done. Elsewhere nothing is asked and they are listed (exit code 2).
--answers takes them from a file, without questions; its keys are the flags%s, lists may be YAML's:

  provost_answers: 1
  flow: %s
  …

Secrets are never in it, only paths of files that hold them.`

// guided gives a command its guided flow. With all it needs the command runs as it is
// and asks nothing. What is missing is taken from --answers, then asked for on a
// terminal; elsewhere it is an error that lists it. The action goes to do.
func (a *app) guided(c *cobra.Command, f flow.Flow, do func(*cobra.Command, engine.Action) error) {
	var o flowFlags
	c.Flags().StringVar(&o.answers, "answers", "", "answers file (YAML, the keys are these flags), - for standard input; flags win over it")
	c.Flags().StringVar(&o.save, "save-answers", "", "write the answers to a file that is not there yet; no secrets are in it")
	arguments := ""
	for _, k := range f.Keys() {
		if q, _ := f.Field(k); q.Arg {
			arguments += " and " + string(k)
		}
	}
	c.Long += fmt.Sprintf(guidedHelp, arguments, f.ID)
	direct := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if a.capture != nil {
			return direct(cmd, args)
		}
		if f.ID == flow.CreateClusterID || f.ID == flow.CombineID {
			if err := a.charonEnv(cmd.Flags()); err != nil {
				return err
			}
		}
		g := &guide{app: a, cmd: cmd, flow: f, lines: map[flow.Key]int{}, from: map[flow.Key]string{}, hide: map[string]bool{}}
		defer g.forget()
		g.answers = flagAnswers(cmd.Flags(), f, g.from)
		commas := argAnswers(args, f, g.answers, g.from)
		if o.answers != "" {
			if err := g.readFile(o.answers); err != nil {
				return err
			}
		}
		if f.Given != nil {
			g.answers = f.Given(g.answers)
		}
		missing := f.Missing(g.facts, g.answers)
		plain := o.answers == "" && o.save == ""
		asks := a.asks() && !isPlanning(cmd) && slices.ContainsFunc(missing, func(k flow.Key) bool { return !plain || !g.prompted(k) })
		switch {
		case !asks && plain:
			return direct(cmd, args)
		case commas != nil:
			return commas
		case asks:
			return g.ask(o, do)
		}
		// Words that confirm are nothing to fill in: the engine says what they are about.
		missing = slices.DeleteFunc(missing, g.confirms)
		if len(missing) > 0 {
			return usage(words(cmd), "missing: "+names(f, missing), "see "+cmd.CommandPath()+" --help")
		}
		if err := g.faults(); err != nil {
			return err
		}
		if o.save != "" {
			path, err := g.save(o.save, f.Complete(g.facts, g.answers))
			if err != nil {
				return err
			}
			a.say("answers kept: %s", print.Clean(path))
		}
		if o.answers == "" {
			return direct(cmd, args)
		}
		act, err := g.build(f.Complete(g.facts, g.answers))
		if err != nil {
			return err
		}
		return do(cmd, act)
	}
}

// names are what the command calls keys.
func names(f flow.Flow, keys []flow.Key) string {
	var out []string
	for _, k := range keys {
		out = append(out, f.Name(k))
	}
	return strings.Join(out, ", ")
}

// guide is one run of a command through its flow.
type guide struct {
	*app
	cmd     *cobra.Command
	flow    flow.Flow
	facts   flow.Facts
	answers flow.Answers
	from    map[flow.Key]string // what was given, and where
	lines   map[flow.Key]int    // lines of the answers file
	file    string              // answers file
	secrets string              // private directory of typed secrets, "" until one was typed
	hide    map[string]bool     // paths of typed secrets
	pipes   []func()            // close those that never touch a disk
	engine  engine.Engine
}

// flagAnswers are the flags that were given, as answers.
func flagAnswers(fl *pflag.FlagSet, f flow.Flow, from map[flow.Key]string) flow.Answers {
	out := flow.Answers{}
	for _, k := range f.Keys() {
		flag := fl.Lookup(string(k))
		if flag == nil || !flag.Changed {
			continue
		}
		q, _ := f.Field(k)
		sep := ","
		if q.Kind == flow.Rows {
			sep = "\n"
		}
		if s, ok := flag.Value.(pflag.SliceValue); ok {
			out[k] = strings.Join(s.GetSlice(), sep)
		} else if l, ok := flag.Value.(*listFlag); ok {
			out[k] = strings.Join(*l, sep)
		} else {
			out[k] = flag.Value.String()
		}
		from[k] = "--" + string(k)
	}
	return out
}

// argAnswers adds the arguments of the command. Its error is told where they become answers.
func argAnswers(args []string, f flow.Flow, into flow.Answers, from map[flow.Key]string) (err error) {
	for _, k := range f.Keys() {
		q, _ := f.Field(k)
		if !q.Arg || len(args) == 0 {
			continue
		}
		n := 1
		if q.Several {
			n = len(args)
			if slices.ContainsFunc(args, func(s string) bool { return strings.Contains(s, ",") }) {
				err = usageField(string(k), fmt.Sprintf("%s: there is a comma in one of %s", f.Name(k), print.Clean(strings.Join(args, " "))), "answers are parted by commas: give all as arguments, without --answers and --save-answers")
			}
		}
		into[k], from[k] = strings.Join(args[:n], ","), f.Name(k)
		args = args[n:]
	}
	return err
}

// readFile adds the answers of a file where no flag has said something else.
func (g *guide) readFile(path string) error {
	bad := func(err error) error {
		return engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: "read answers", Field: "answers", Cause: fmt.Sprintf("%s: %v", print.Clean(path), cause(err)),
			Remedy: "mend the file, or write one with --save-answers"}.Because(err)
	}
	in := g.Stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return bad(err)
		}
		defer file.Close()
		in = file
	} else if g.StdinTTY {
		return usageField("answers", "--answers -: standard input is a terminal", "name a file, or leave --answers out to be asked")
	}
	got, err := flow.ReadAnswers(in, g.flow)
	if err != nil {
		return bad(err)
	}
	g.file, g.lines = path, got.Lines
	for k, v := range got.Answers {
		if _, ok := g.answers[k]; ok {
			delete(g.lines, k)
			continue
		}
		g.answers[k] = v
		g.from[k] = fmt.Sprintf("%s line %d", path, got.Lines[k])
	}
	return nil
}

// cause is an error without the path that is said already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// faults tells all that is wrong with the answers, with their places.
func (g *guide) faults() error {
	var all []engine.Problem
	full := g.flow.Complete(g.facts, g.answers)
	for _, f := range append(g.flow.Faults(g.facts, g.answers), g.flow.Idle(g.facts, g.answers)...) {
		if f.Missing && g.confirms(f.Key) {
			continue
		}
		p := engine.Problem{Code: engine.CodeUsage, Exit: engine.ExitUsage, Doing: words(g.cmd), Field: string(f.Key), Cause: fmt.Sprintf("%s: %s", g.flow.Name(f.Key), print.Clean(f.Err.Error()))}
		if n := g.lines[f.Key]; n > 0 {
			p.Remedy = fmt.Sprintf("correct line %d of %s", n, print.Clean(g.file))
		} else if full[f.Key] != "" {
			p.Remedy = "correct it and run the command again"
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return nil
	}
	p := all[0]
	p.More = all[1:]
	return &p
}

// confirms tells whether an answer is words that have to be typed exactly.
func (g *guide) confirms(k flow.Key) bool {
	q, _ := g.flow.Field(k)
	return q.Kind == flow.Phrase
}

// prompted tells whether the command asks for an answer by itself.
func (g *guide) prompted(k flow.Key) bool {
	q, _ := g.flow.Field(k)
	return q.Prompted
}

// build makes the action; paths become absolute, from the working directory or, with ~/,
// from the home directory.
func (g *guide) build(full flow.Answers) (engine.Action, error) {
	return g.flow.BuildAt(full, func(p string) (string, error) {
		if rest, ok := strings.CutPrefix(p, "~/"); ok {
			if home, ok := g.env("HOME"); ok && filepath.IsAbs(home) {
				p = filepath.Join(home, rest)
			}
		}
		return absolute(p)
	})
}

// facts are what is known of this machine: an engine that runs here and answers at
// once is asked. None is no error.
func (a *app) facts(cmd *cobra.Command) flow.Facts {
	if a.Dial == nil || a.FindEngines == nil || a.SocketOf == nil {
		return flow.Facts{}
	}
	ctx, stop := context.WithTimeout(cmd.Context(), factsLimit)
	defer stop()
	socket, err := a.findSocket(cmd, "")
	if err != nil {
		return flow.Facts{}
	}
	e, hangUp, err := a.dial(ctx, socket)
	if err != nil {
		return flow.Facts{}
	}
	defer hangUp()
	s, err := a.snapshot(ctx, e)
	if err != nil {
		return flow.Facts{}
	}
	return flow.Facts{Snapshot: s}
}

// factsLimit is how long a running engine may take to tell what it knows.
const factsLimit = 2 * time.Second

// ask leads a person through the flow and does what was agreed to.
func (g *guide) ask(o flowFlags, do func(*cobra.Command, engine.Action) error) error {
	if g.OneShot == nil {
		return notHere()
	}
	if o.save != "" {
		if _, err := os.Lstat(o.save); err == nil {
			return usageField("save-answers", print.Clean(o.save)+" is there already", "name a file that is not")
		}
	}
	accessible, err := g.plainLines()
	if err != nil {
		return err
	}
	ctx := g.cmd.Context()
	g.engine = g.OneShot() // from here on a closed terminal ends this in order, with what was typed
	g.facts = g.app.facts(g.cmd)
	s := flow.Session{Flow: g.flow, Facts: g.facts, Answers: g.answers, From: g.from, Lean: o.answers != "",
		Preview: g.preview, Save: g.save, Secret: g.keepSecret,
		Command: func(act engine.Action, p engine.Plan) string {
			line := flow.Command(act, g.hide)
			if p.Digest != "" {
				line += " --confirm=" + string(p.Digest[:min(len(p.Digest), 6)])
			}
			return line
		}}
	if o.answers == "" {
		s.Draft = g.keepDraft
		if d := g.readDraft(); !d.Saved.IsZero() {
			yes, err := g.yesNo(ctx, fmt.Sprintf("there is a draft of %s UTC: go on with it? y or n: ", d.Saved.UTC().Format("2006-01-02 15:04")))
			if err != nil {
				return err
			}
			if yes {
				maps.Copy(d.Answers, s.Answers) // flags win
				s.Answers, s.Step = d.Answers, d.Step
			}
		}
	}
	lead := g.lead
	if !accessible && g.Guide != nil {
		screen := ScreenOptions{ReadOnly: g.g.readOnly, ASCII: g.g.ascii, Color: g.g.color, Theme: g.g.theme}
		lead = func(ctx context.Context, s flow.Session) (flow.Outcome, error) { return g.Guide(ctx, s, screen) }
	}
	out, err := lead(ctx, s)
	if err != nil {
		return err
	}
	if o.save != "" {
		path, err := g.save(o.save, out.Answers)
		if err != nil {
			return err
		}
		g.say("answers kept: %s", print.Clean(path))
	}
	if c := engine.Digest(g.g.confirm); c != "" && !out.Plan.Digest.Fits(c) {
		return &engine.Problem{Code: engine.CodePlanChanged, Exit: engine.ExitRefused, Doing: words(g.cmd), Field: "confirm",
			Cause: fmt.Sprintf("--confirm %s names another plan than the one that was agreed to, %s", print.Clean(string(c)), out.Plan.Digest), Remedy: "leave --confirm out where questions are asked", Plan: &out.Plan}
	}
	g.g.confirm = string(out.Plan.Digest)
	if err := do(g.cmd, out.Action); err != nil {
		return err
	}
	g.dropDraft()
	g.say("repeat without questions:\n  %s", print.Clean(s.Command(out.Action, engine.Plan{})))
	return nil
}

func (g *guide) yesNo(ctx context.Context, question string) (bool, error) {
	for {
		got, err := g.app.ask(ctx, question)
		if err != nil {
			return false, err
		}
		switch strings.ToLower(got) {
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		case "q":
			return false, declined("stopped")
		}
	}
}

// plainLines tells whether a flow has to be asked for line by line.
func (g *guide) plainLines() (bool, error) {
	if g.g.accessible || g.g.noTUI || !g.StdoutTTY {
		return true, nil
	}
	if t, _ := g.env("TERM"); t == "dumb" || t == "" {
		return true, nil
	}
	c, err := g.loadConfig(g.cmd)
	if err != nil {
		return false, err
	}
	if c.Accessible {
		g.g.accessible = true
		g.plainTalk()
	}
	return c.Accessible, nil
}

func (g *guide) preview(ctx context.Context, a flow.Answers) (engine.Action, engine.Plan, error) {
	act, err := g.build(a)
	if err != nil {
		return nil, engine.Plan{}, err
	}
	r := engine.Request{Key: engine.NewKey(), Action: act}
	if g.Actor != nil {
		r.Actor = g.Actor()
	}
	r.Actor.Via = engine.ViaCLI
	p, err := g.engine.Preview(ctx, r)
	if err != nil {
		return nil, engine.Plan{}, orCause(ctx, err)
	}
	return act, p, nil
}

// Files of a flow: answers, drafts, typed secrets.

// clean leaves out the secrets that were typed: their files go with the program.
func (g *guide) clean(a flow.Answers) flow.Answers {
	out := a.Clone()
	for k, v := range out {
		if g.hide[v] {
			delete(out, k)
		}
	}
	return out
}

// save writes an answers file that is not there yet.
func (g *guide) save(path string, a flow.Answers) (string, error) {
	fail := func(err error) (string, error) {
		p := engine.Problem{Code: engine.CodeDirUnwritable, Exit: engine.ExitUsage, Doing: "write answers", Field: "save-answers", Cause: fmt.Sprintf("%s: %v", print.Clean(path), cause(err)), Remedy: "name another file"}
		if errors.Is(err, fs.ErrExist) {
			p.Cause, p.Remedy = print.Clean(path)+" is there already", "name a file that is not"
		}
		return "", p.Because(err)
	}
	abs, err := absolute(path)
	if err != nil || abs == "" {
		return fail(errors.Join(err, fs.ErrInvalid))
	}
	var b strings.Builder
	if err := flow.WriteAnswers(&b, g.flow, flow.AnswersFile{Answers: g.clean(a)}); err != nil {
		return fail(err)
	}
	if err := putFile(abs, b.String(), false); err != nil {
		return fail(err)
	}
	return abs, nil
}

// putFile writes a file of mode 0600 aside and puts it in place, synced. Without over
// nothing that is there is touched.
func putFile(path, text string, over bool) (err error) {
	if _, err := os.Lstat(path); err == nil && !over {
		return fs.ErrExist
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already after a rename
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	if over {
		err = os.Rename(f.Name(), path)
	} else {
		err = os.Link(f.Name(), path) // does not overwrite what came there meanwhile
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// draftPath is where the draft of this flow is kept, "" when there is no place for it.
func (g *guide) draftPath() string {
	state, _ := g.env("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, _ := g.env("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "provost", ".drafts", strings.ReplaceAll(string(g.flow.ID), " ", "-")+".yaml")
}

func (g *guide) keepDraft(a flow.Answers, step string) error {
	path := g.draftPath()
	if path == "" {
		return errors.New("keep draft: there is no home directory")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep draft: %w", err)
	}
	var b strings.Builder
	if err := flow.WriteAnswers(&b, g.flow, flow.AnswersFile{Answers: g.clean(a), Saved: g.Now(), Step: step}); err != nil {
		return err
	}
	if err := putFile(path, b.String(), true); err != nil {
		return fmt.Errorf("keep draft: %w", err)
	}
	return nil
}

// readDraft gives the draft that a person may go on with. One that cannot be read is
// said and left out.
func (g *guide) readDraft() flow.AnswersFile {
	path := g.draftPath()
	if path == "" {
		return flow.AnswersFile{}
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return flow.AnswersFile{}
	}
	var out flow.AnswersFile
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no plain file")
	}
	if err == nil {
		var f *os.File
		if f, err = os.Open(path); err == nil {
			out, err = flow.ReadAnswers(f, g.flow)
			f.Close()
		}
	}
	if err != nil {
		g.say("the draft at %s is left out: %s", print.Clean(path), print.Clean(cause(err).Error()))
		return flow.AnswersFile{}
	}
	return out
}

func (g *guide) hasDraft() bool {
	path := g.draftPath()
	_, err := os.Lstat(path)
	return path != "" && err == nil
}

func (g *guide) dropDraft() {
	if path := g.draftPath(); path != "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.say("the draft at %s could not be removed: %v", print.Clean(path), cause(err))
		}
	}
}

// keepSecret writes what was typed to a private file, in memory where the system has
// such a place; or, where it is read but once, into a pipe. forget removes it.
func (g *guide) keepSecret(k flow.Key, text engine.Secret) (string, error) {
	fail := func(err error) (string, error) {
		return "", engine.Problem{Code: engine.CodeDirUnwritable, Exit: engine.ExitUnexpected, Doing: "keep what was typed", Remedy: "give the path of a file instead"}.Because(cause(err))
	}
	if q, _ := g.flow.Field(k); q.Once {
		var path string
		done, err := g.pipe(text.Reveal(), &path)
		if err != nil {
			return "", err
		}
		g.pipes = append(g.pipes, done)
		g.hide[path] = true
		return path, nil
	}
	if g.secrets == "" {
		base, _ := g.env("XDG_RUNTIME_DIR")
		if info, err := os.Stat(base); !filepath.IsAbs(base) || err != nil || !info.IsDir() {
			base = ""
		}
		dir, err := os.MkdirTemp(base, "provost-typed-")
		if err != nil {
			return fail(err)
		}
		g.secrets = dir
	}
	f, err := os.CreateTemp(g.secrets, string(k)+"-*")
	if err != nil {
		return fail(err)
	}
	_, err = f.WriteString(text.Reveal() + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fail(err)
	}
	g.hide[f.Name()] = true
	return f.Name(), nil
}

// forget removes typed secrets.
func (g *guide) forget() {
	for _, done := range g.pipes {
		done()
	}
	if g.secrets == "" {
		return
	}
	if err := os.RemoveAll(g.secrets); err != nil {
		fmt.Fprintf(g.Stderr, "remove %s yourself, it holds what you typed: %v\n", print.Clean(g.secrets), cause(err))
	}
}
