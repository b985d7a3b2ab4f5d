package tui

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"app.provost/engine"
	"app.provost/engine/flow"
	"app.provost/tui/page"
	"app.provost/tui/theme"
	"app.provost/tui/widget"
	"app.provost/tui/wizard"
)

// Guide leads a person through one flow on a screen of its own and returns what was
// agreed to; it carries nothing out. ok is false when the person left. The terminal is
// as whole afterwards as after Run. o.Engine is not used: the session asks.
func Guide(ctx context.Context, o Options, s flow.Session) (out flow.Outcome, ok bool, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Engine = quiet{o.Now()}
	o.KeepDir, o.ExportDir = "", ""
	g := wizard.NewGuide([]flow.Flow{s.Flow}, s.Answers, wizard.GuideOptions{Absolute: absolute, Session: &s,
		Agreed: func(x flow.Outcome) { out, ok = x, true }})
	o.alone = g
	_, err = Run(ctx, o)
	if err == nil {
		err = context.Cause(ctx)
	}
	return out, ok && err == nil, err
}

// openGuide opens the guide through one of several flows.
func (m *model) openGuide(flows ...flow.Flow) {
	if l := m.Look(); l.ActsOff() != "" && !l.Locked() {
		doing, _, _ := strings.Cut(string(flows[0].ID), " ")
		m.Say(doing + ": " + l.ActsOff())
		return
	}
	m.Open(wizard.NewGuide(flows, nil, wizard.GuideOptions{Absolute: absolute}))
}

// absolute is what a path means that somebody typed: from the working directory or, with
// ~/, from the home directory.
func absolute(path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest), nil
		}
	}
	return filepath.Abs(path)
}

// drawAlone shows an overlay without a dashboard behind it.
func (m *model) drawAlone(b *widget.Buffer, l *page.Look, all widget.Rect) {
	foot := min(2, all.H)
	body := all.Top(all.H - foot)
	for i := range m.overlays {
		m.overlays[i].overlay.Render(b, l, body)
	}
	if foot == 2 {
		b.Fill(all.Below(all.H-2).Line(0), b.Glyphs.H, theme.Frame.S())
	}
	m.drawFoot(b, l, all.Below(all.H-1).Line(0))
}

// quiet is an engine in which nothing happens, and screens may ask.
type quiet struct{ since time.Time }

func (q quiet) Watch(context.Context, engine.WatchOptions) (engine.Feed, error) {
	return &quietFeed{since: q.since, done: make(chan struct{})}, nil
}

func (quiet) none(doing string) error {
	return engine.Problem{Code: engine.CodeNoEngine, Exit: engine.ExitNoEngine, Doing: doing, Cause: "no engine runs", Remedy: "start one with provost up"}.Because(nil)
}

func (q quiet) Preview(context.Context, engine.Request) (engine.Plan, error) {
	return engine.Plan{}, q.none("preview")
}
func (q quiet) Do(context.Context, engine.Request, engine.Digest) (engine.Receipt, error) {
	return engine.Receipt{}, q.none("act")
}
func (q quiet) Logs(context.Context, engine.LogQuery) (engine.LogStream, error) {
	return nil, q.none("read logs")
}

// quietFeed gives one snapshot.
type quietFeed struct {
	since time.Time
	told  bool
	done  chan struct{}
}

func (f *quietFeed) Next(ctx context.Context) (engine.Update, error) {
	if !f.told {
		f.told = true
		return engine.Update{Snapshot: &engine.Snapshot{Schema: engine.SnapshotSchema, Gen: 1, At: f.since, Engine: &engine.One[engine.Info]{Version: 1, At: f.since,
			Value: engine.Info{Name: "this machine", Unlocked: &engine.Unlocked{Until: f.since.Add(100 * 365 * 24 * time.Hour), Reason: "nothing runs that could be disturbed"}}}}}, nil
	}
	select {
	case <-ctx.Done():
		return engine.Update{}, ctx.Err()
	case <-f.done:
		return engine.Update{}, io.EOF
	}
}

func (f *quietFeed) Close() error { close(f.done); return nil }
