package enginetest

import (
	"testing"

	"app.provost/engine"
	"app.provost/engine/store"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	Run(t, func(t *testing.T) (engine.Engine, Driver) {
		m := NewMemory(t, MemoryOptions{Parts: []engine.SectionName{engine.SecMachines, engine.SecWorkers, engine.SecGPUs, engine.SecJobs, engine.SecNodes}})
		return m, m
	})
}

// TestOverBolt runs the suite over the store that engines use.
func TestOverBolt(t *testing.T) {
	Run(t, func(t *testing.T) (engine.Engine, Driver) {
		s, err := store.Open(store.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		m := NewMemory(t, MemoryOptions{Keeper: s, Documents: s.Shelf("alerts"),
			Parts: []engine.SectionName{engine.SecMachines, engine.SecWorkers, engine.SecGPUs, engine.SecJobs, engine.SecNodes}})
		return m, m
	})
}

func TestKeeper(t *testing.T) {
	RunKeeper(t, func(*testing.T) (Keeper, Documents) {
		s := NewStore()
		return s, s
	})
}
