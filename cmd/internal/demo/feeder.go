package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"app.provost/assets"
	"app.provost/engine"
)

// feeder submits the practice circuits in turn, all witnesses of one at a time,
// with a breath in between: the screen shows working and waiting, and a laptop stays cool.
type feeder struct {
	e        engine.Engine
	dir      string
	circuits []assets.DemoCircuit
	next     int
	// submitted counts jobs of this run; the snapshot shows them a moment later.
	submitted uint64
}

// breath is the pause after the jobs of a round have ended.
const breath = time.Second

func newFeeder(e engine.Engine, dir string) *feeder {
	return &feeder{e: e, dir: dir, circuits: assets.DemoCircuits()}
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
		if !wait(ctx, 200*time.Millisecond) {
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
		if t := u.Snapshot.Jobs.Totals; t.Queued+t.Leased+t.Proved > 0 || t.Submitted < f.submitted {
			continue
		}
		if f.submitted > 0 && !wait(ctx, breath) {
			return nil
		}
		n, err := f.submit(ctx)
		if err != nil {
			return err
		}
		f.submitted += uint64(n)
	}
}

// submit asks for a proof of each witness of the next circuit.
func (f *feeder) submit(ctx context.Context) (int, error) {
	c := f.circuits[f.next%len(f.circuits)]
	f.next++
	a := engine.SubmitJob{Zkey: filepath.Join(f.dir, c.Name+".zkey")}
	for _, w := range c.Witnesses {
		a.Witnesses = append(a.Witnesses, filepath.Join(f.dir, w.Name+".wtns"))
	}
	r := engine.Request{Key: engine.NewKey(), Actor: engine.Actor{Name: "demo", Via: engine.ViaCLI}, Action: a}
	p, err := f.e.Preview(ctx, r)
	if err != nil {
		return 0, err
	}
	_, err = f.e.Do(ctx, r, p.Digest)
	return len(a.Witnesses), err
}
