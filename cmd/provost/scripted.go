package main

import (
	"context"
	"errors"
	"io"
	"time"

	"app.provost/cmd/internal/cli"
	"app.provost/engine"
	"app.provost/engine/scripted"
	"app.provost/tui"
)

// curtain is when a script that stands still began.
var curtain = time.Date(2026, 3, 2, 11, 0, 0, 0, time.UTC)

// scriptedDemo shows an engine that follows a script, in this process: it is for
// learning the screens, and nothing on it is real.
func scriptedDemo(ctx context.Context, o cli.DemoOptions) error {
	so := scripted.Options{Seed: 1, Workers: o.Workers}
	if o.Still != nil { // the same picture each time: the clock and who looks stand still too
		so.Start, so.Still = curtain, o.Still
	}
	e := scripted.New(so)
	play, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- e.Run(play) }()
	t := screenOptions(e, o.Screen)
	t.EngineLine = func() string { return "a script in this process" }
	if o.Still != nil {
		t.Now = func() time.Time { return curtain.Add(*o.Still) }
		t.Actor = engine.Actor{Name: "ana"}
	}
	reason, err := tui.Run(ctx, t)
	stop()
	if rerr := <-done; rerr != nil && !errors.Is(rerr, context.Canceled) && !errors.Is(rerr, io.EOF) {
		err = errors.Join(err, rerr)
	}
	if reason == tui.TerminalLost {
		return nil
	}
	return err
}
