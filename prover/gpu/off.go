//go:build !linux || !cgo

package gpu

import (
	"time"

	"app.provost/prover"
)

// off stands in where NVML cannot be linked.
type off struct{}

func newDriver() driver { return off{} }

func (off) look(now time.Time, _ func(string)) prover.GPUReading {
	return prover.GPUReading{At: now, Why: "this build cannot talk to NVIDIA drivers (built without cgo, or not for Linux)", GPUs: []prover.GPU{}}
}

func (off) close() {}
