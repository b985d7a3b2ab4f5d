package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"app.provost/assets"
	"app.provost/engine"
)

// feeder keeps a few jobs waiting, so that no worker is idle for long.
type feeder struct {
	e        engine.Engine
	dir      string
	workers  int
	circuits []assets.DemoCircuit
	next     int
}

func newFeeder(e engine.Engine, dir string, workers int) *feeder {
	return &feeder{e: e, dir: dir, workers: workers, circuits: assets.DemoCircuits()}
}

// run submits until ctx is done. An engine that is away for a moment (it is being
// restarted) is waited for; the feed of a redialling engine does that.
func (f *feeder) run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := f.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil || errors.Is(err, io.EOF):
		case engine.ExitOf(err) == engine.ExitNoEngine:
		default:
			return fmt.Errorf("demo: submit jobs: %w", err)
		}
		if !pause(ctx) {
			return nil
		}
	}
	return nil
}

func (f *feeder) watch(ctx context.Context) error {
	feed, err := f.e.Watch(ctx, engine.WatchOptions{Sections: []engine.SectionName{engine.SecJobs, engine.SecWorkers}})
	if err != nil {
		return err
	}
	defer feed.Close()
	for {
		u, err := feed.Next(ctx)
		if err != nil {
			return err
		}
		if u.Snapshot.Jobs == nil {
			continue
		}
		for waiting := int(u.Snapshot.Jobs.Totals.Queued); waiting < f.workers; waiting++ {
			if err := f.submit(ctx); err != nil {
				return err
			}
		}
	}
}

func (f *feeder) submit(ctx context.Context) error {
	c := f.circuits[f.next%len(f.circuits)]
	w := c.Witnesses[f.next/len(f.circuits)%len(c.Witnesses)]
	f.next++
	r := engine.Request{Key: engine.NewKey(), Actor: engine.Actor{Name: "demo", Via: engine.ViaCLI}, Action: engine.SubmitJob{
		Zkey:      filepath.Join(f.dir, c.Name+".zkey"),
		Witnesses: []string{filepath.Join(f.dir, w.Name+".wtns")},
		Name:      w.Name,
	}}
	p, err := f.e.Preview(ctx, r)
	if err != nil {
		return err
	}
	_, err = f.e.Do(ctx, r, p.Digest)
	return err
}
