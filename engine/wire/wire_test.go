package wire

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/config"
	"app.provost/engine/enginetest"
	"app.provost/engine/rpc"
	"app.provost/engine/state"
)

// The test binary is its own stub and worker, as the real one is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "internal-stub":
			os.Exit(StubMain(os.Args[2:]))
		case "internal-worker":
			os.Exit(WorkerMain(os.Args[2:], "test"))
		}
	}
	os.Exit(m.Run())
}

func testConfig(t testing.TB) config.Config {
	t.Helper()
	// Socket paths are short, t.TempDir is not.
	dir, err := os.MkdirTemp("", "pvw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := config.Default()
	c.Name, c.StateDir, c.RuntimeDir, c.Workers, c.LogLevel = "test", filepath.Join(dir, "s"), filepath.Join(dir, "r"), 0, "debug"
	return c
}

func startTest(t testing.TB, c config.Config) *Engine {
	t.Helper()
	e, err := Start(t.Context(), Options{Config: c, Version: "test", Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.end(nil, true)
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
		if left := e.life.Running(); len(left) > 0 {
			t.Errorf("goroutines are left after the stop: %v", left)
		}
	})
	return e
}

// driver causes things in an engine of its own.
type driver struct {
	t testing.TB
	e *Engine
}

func (d driver) PutWorker(row engine.WorkerRow) { d.e.state.Tell(state.PutWorker{Row: row}) }
func (d driver) Raise(r engine.Raise)           { d.e.state.Tell(state.Raise{Raise: r}) }
func (d driver) Clear(code engine.Code, key engine.Key) {
	d.e.state.Tell(state.Clear{Code: code, Key: key})
}
func (d driver) Record(entries ...engine.Entry) {
	if _, err := d.e.state.Record(context.Background(), entries...); err != nil {
		d.t.Error(err)
	}
}
func (d driver) TrimJournal(uint64) bool { return false } // a real journal is trimmed by age and count only
func (d driver) Log(l engine.LogLine) {
	f, err := os.OpenFile(d.e.path("logs", l.Source+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Error(err)
		return
	}
	defer f.Close()
	at := time.Now()
	if l.At != nil {
		at = *l.At
	}
	level := map[engine.Level]string{engine.LevelDebug: "debug", engine.LevelWarn: "warn", engine.LevelCrit: "error"}[l.Level]
	if level == "" {
		level = "info"
	}
	fmt.Fprintln(f, strings.TrimSpace(fmt.Sprintf("%s %-5s %s %s", at.UTC().Format(logTime), level, l.Text, l.Fields)))
}
func (d driver) Stop() { d.e.Stop() }

// The same suite runs against the engine in process and over its socket.
func TestConformance(t *testing.T) {
	t.Run("in process", func(t *testing.T) {
		enginetest.Run(t, func(t *testing.T) (engine.Engine, enginetest.Driver) {
			e := startTest(t, testConfig(t))
			return e, driver{t, e}
		})
	})
	t.Run("over the socket", func(t *testing.T) {
		enginetest.Run(t, func(t *testing.T) (engine.Engine, enginetest.Driver) {
			e := startTest(t, testConfig(t))
			c, err := rpc.Dial(t.Context(), rpc.DialOptions{Socket: e.Socket(), Version: "test"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c, driver{t, e}
		})
	})
}
