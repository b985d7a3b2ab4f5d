package enginetest

import (
	"testing"

	"app.provost/engine"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	Run(t, func(t *testing.T) (engine.Engine, Driver) {
		m := NewMemory(t, MemoryOptions{Parts: []engine.SectionName{engine.SecMachines, engine.SecWorkers, engine.SecGPUs, engine.SecJobs, engine.SecNodes}})
		return m, m
	})
}

func TestKeeper(t *testing.T) {
	RunKeeper(t, func(*testing.T) (Keeper, Documents) {
		s := NewStore()
		return s, s
	})
}
