// Package gpu reads NVIDIA devices through NVML.
//
// Promises. A driver can hang: every look at it runs in a goroutine of its own,
// at most one at a time, and while it has not come back the last reading grows
// old and Tell.Stuck says in which call; nothing piles up and nothing else waits.
// No driver is an answer in words, not an error, and is tried again from time to
// time: it may be installed or loaded later. What a device does not support is
// nil, never 0. A device is known by its UUID; one that answered once and does
// not any more keeps its row, with Lost in words.
//
// Nothing here changes a device's settings.
package gpu

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"app.provost/prover"
)

// Options of a Reader. All have defaults.
type Options struct {
	Period   time.Duration // 2s
	Deadline time.Duration // when a look that has not come back counts as stuck (5s)
	Log      *slog.Logger
}

// Tell is whom a running reader tells. Both are called from its task and must not block.
type Tell struct {
	// Reading is told each reading. It never changes afterwards.
	Reading func(prover.GPUReading)
	// Stuck is told when the driver does not answer, at each period while that
	// lasts, and once with the zero value when it answers again. May be nil.
	Stuck func(Stuck)
}

// Stuck says that the driver does not come back. Call is "" when it does.
type Stuck struct {
	Since time.Time
	Call  string // as in "nvmlDeviceGetTemperature of GPU-…"
}

// String tells it in words, "" for the zero value.
func (s Stuck) String() string {
	if s.Call == "" {
		return ""
	}
	return fmt.Sprintf("the NVIDIA driver has not answered since %s (%s)", s.Since.UTC().Format(time.RFC3339), s.Call)
}

// driver looks at all devices. Calls come one at a time. note is told before each
// call into the library.
type driver interface {
	look(now time.Time, note func(call string)) prover.GPUReading
	close()
}

// Reader looks at the devices of this machine. Run and ReadOnce must not be used
// at the same time.
type Reader struct {
	o    Options
	d    driver
	call atomic.Pointer[string]
}

// New makes a reader. It does not touch the driver yet.
func New(o Options) *Reader { return newReader(o, newDriver()) }

func newReader(o Options, d driver) *Reader {
	if o.Period <= 0 {
		o.Period = 2 * time.Second
	}
	if o.Deadline <= 0 {
		o.Deadline = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Reader{o: o, d: d}
}

// Run starts the reader's task and returns.
func (r *Reader) Run(spawn func(name string, fn func(ctx context.Context) error), tell Tell) {
	spawn("gpu.read", func(ctx context.Context) error { return r.loop(ctx, tell) })
}

func (r *Reader) loop(ctx context.Context, tell Tell) error {
	tick := time.NewTicker(r.o.Period)
	defer tick.Stop()
	var why string
	begun, pending := time.Now(), r.look()
	stuck := false
	late := time.NewTimer(r.o.Deadline)
	defer late.Stop()
	say := func() {
		s := Stuck{Since: begun, Call: *r.call.Load()}
		if !stuck {
			r.o.Log.Warn("the NVIDIA driver does not answer", "call", s.Call)
		}
		stuck = true
		if tell.Stuck != nil {
			tell.Stuck(s)
		}
	}
	for {
		select {
		case <-ctx.Done():
			r.leave(pending)
			return nil
		case reading := <-pending:
			pending = nil
			late.Stop()
			if stuck {
				stuck = false
				r.o.Log.Info("the NVIDIA driver answers again", "after", time.Since(begun).String())
				if tell.Stuck != nil {
					tell.Stuck(Stuck{})
				}
			}
			if reading.Why != why {
				why = reading.Why
				r.o.Log.Info("gpu driver", "version", reading.Driver, "why", why, "devices", len(reading.GPUs))
			}
			tell.Reading(reading)
		case <-late.C:
			say()
		case <-tick.C:
			switch {
			case pending == nil:
				begun, pending = time.Now(), r.look()
				late.Reset(r.o.Deadline)
			case stuck:
				say()
			}
		}
	}
}

// leave waits a little for a look that is under way. One that hangs stays behind:
// a call into the driver cannot be ended from outside, and the library must not
// be closed under it.
func (r *Reader) leave(pending <-chan prover.GPUReading) {
	if pending != nil {
		t := time.NewTimer(min(time.Second, r.o.Deadline))
		defer t.Stop()
		select {
		case <-pending:
		case <-t.C:
			return
		}
	}
	r.d.close()
}

// ReadOnce looks once, for commands without an engine, and closes the library.
// If the driver does not answer before ctx ends or the deadline passes, the
// reading has no driver and says why.
func (r *Reader) ReadOnce(ctx context.Context) prover.GPUReading {
	ctx, cancel := context.WithTimeout(ctx, r.o.Deadline)
	defer cancel()
	begun := time.Now()
	select {
	case reading := <-r.look():
		r.d.close()
		return reading
	case <-ctx.Done():
		return prover.GPUReading{At: begun.UTC(), Why: Stuck{begun, *r.call.Load()}.String(), GPUs: []prover.GPU{}, Took: time.Since(begun)}
	}
}

// look starts one look. A crash of the reading code is an answer too.
func (r *Reader) look() <-chan prover.GPUReading {
	first := "opening the library"
	r.call.Store(&first)
	out := make(chan prover.GPUReading, 1)
	go func() {
		begun := time.Now()
		defer func() {
			if v := recover(); v != nil {
				r.o.Log.Error("reading the gpus crashed", "call", *r.call.Load(), "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				out <- prover.GPUReading{At: begun.UTC(), Why: fmt.Sprintf("reading the gpus crashed in %s: %v", *r.call.Load(), v), GPUs: []prover.GPU{}, Took: time.Since(begun)}
			}
		}()
		reading := r.d.look(begun.UTC(), func(call string) { r.call.Store(&call) })
		reading.Took = time.Since(begun)
		out <- reading
	}()
	return out
}

// Words for why clocks are held back, as they appear in GPU.Throttle.
const (
	ThrottleSettings     = "clocks set by an application"
	ThrottlePowerCap     = "power cap"
	ThrottleHardware     = "hardware slowdown"
	ThrottleSyncBoost    = "sync boost group"
	ThrottleSoftThermal  = "thermal slowdown by the driver"
	ThrottleHardThermal  = "thermal slowdown by the hardware"
	ThrottlePowerBrake   = "power brake from outside"
	ThrottleDisplayClock = "display clock"
)

// Hot tells whether heat holds the clocks back.
func Hot(g prover.GPU) bool {
	return slices.Contains(g.Throttle, ThrottleSoftThermal) || slices.Contains(g.Throttle, ThrottleHardThermal)
}

// throttleBits are NVML's clock event reasons in the order in which they are
// told (nvml.h, nvmlClocksEventReasons). Bit 0 only says that the GPU is idle:
// nothing is held back then.
var throttleBits = []struct {
	bit  uint64
	word string
}{
	{0x40, ThrottleHardThermal}, {0x20, ThrottleSoftThermal}, {0x80, ThrottlePowerBrake}, {0x08, ThrottleHardware},
	{0x04, ThrottlePowerCap}, {0x10, ThrottleSyncBoost}, {0x02, ThrottleSettings}, {0x100, ThrottleDisplayClock},
}

func throttleWords(bits uint64) []string {
	out := []string{}
	bits &^= 0x01
	for _, t := range throttleBits {
		if bits&t.bit != 0 {
			out = append(out, t.word)
			bits &^= t.bit
		}
	}
	if bits != 0 {
		out = append(out, fmt.Sprintf("reason %#x", bits))
	}
	return out
}
