package rpc

import (
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/enginetest"
)

// TestSuite holds an engine behind a socket to what every engine must do.
func TestSuite(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) (engine.Engine, enginetest.Driver) {
		m := enginetest.NewMemory(t, enginetest.MemoryOptions{})
		socket, _ := serve(t, m)
		return dial(t, socket), m
	})
}

// TestRedialledBehaves looks at such an engine through the link that dials again.
func TestRedialledBehaves(t *testing.T) {
	m := enginetest.NewMemory(t, enginetest.MemoryOptions{})
	socket, _ := serve(t, m)
	r := redial(t, socket, nil)
	zero := uint64(0)
	feed := watch(t, r, engine.WatchOptions{After: &zero, Viewer: "ana@bastion"})
	next(t, feed)
	m.PutWorker(enginetest.Worker(1, 5))
	for deadline := time.Now().Add(10 * time.Second); ; {
		if w := next(t, feed).Snapshot.Workers.List(); len(w) == 1 && w[0].JobsDone == 5 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the worker does not show up")
		}
	}
}
