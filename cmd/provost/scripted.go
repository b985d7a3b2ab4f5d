package main

import (
	"context"
	"errors"
	"io"

	"app.provost/cmd/internal/cli"
	"app.provost/engine/scripted"
	"app.provost/tui"
)

// scriptedDemo shows an engine that follows a script, in this process: it is for
// learning the screens, and nothing on it is real.
func scriptedDemo(ctx context.Context, o cli.DemoOptions) error {
	e := scripted.New(scripted.Options{Seed: 1, Workers: o.Workers})
	play, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- e.Run(play) }()
	t := screenOptions(e, o.Screen)
	t.EngineLine = func() string { return "a script in this process" }
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
