package wire

import (
	"context"

	"app.provost/engine"
	"app.provost/engine/monitor"
)

// listenMonitor binds the port for scrapes and probes when an address is configured.
func (e *Engine) listenMonitor() error {
	c := e.o.Config
	if c.MonitorAddress == "" {
		return nil
	}
	s, err := monitor.Listen(monitor.Options{Addr: c.MonitorAddress, AllowRemote: c.MonitorRemote, Pprof: c.Profiling, Engine: e, Ready: e.ready, Tasks: e.tasks, Log: e.log})
	if err != nil {
		return err
	}
	e.monitor = s
	return nil
}

func (e *Engine) startMonitor(context.Context) error {
	if e.monitor != nil {
		e.log.Info("monitor.ready", "address", e.monitor.Addr())
		e.scope("monitor").Go("monitor", e.monitor.Run)
	}
	return nil
}

// ready are the conditions for being ready that a snapshot does not show.
func (e *Engine) ready() []monitor.Check {
	store := monitor.Check{Name: "store", OK: true}
	if e.state.Stats().JournalFailing {
		store.OK, store.Text = false, "the disk does not take the journal"
	}
	checks := []monitor.Check{store}
	verifier := monitor.Check{Name: "verifier", OK: true}
	e.crew.mu.Lock()
	if m := e.crew.members[verifierID]; m == nil || !m.view.Connected {
		verifier.OK, verifier.Text = false, "the verifier is not connected: no proof counts"
	}
	e.crew.mu.Unlock()
	if e.workers() > 0 {
		checks = append(checks, verifier)
	}
	if info := e.state.Snapshot().Engine; info != nil && info.Value.Stopping != "" {
		checks = append(checks, monitor.Check{Name: "running", Text: "the engine stops: " + info.Value.Stopping})
	}
	return checks
}

var _ engine.Engine = (*Engine)(nil)
