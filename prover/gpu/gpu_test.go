package gpu

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/prover"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slow is a driver that hangs when told.
type slow struct {
	mu     sync.Mutex
	looks  int
	closed int
	hang   chan struct{}
	crash  bool
}

func (d *slow) look(now time.Time, note func(string)) prover.GPUReading {
	d.mu.Lock()
	d.looks++
	hang, crash := d.hang, d.crash
	d.mu.Unlock()
	note("nvmlDeviceGetTemperature of GPU-1")
	if crash {
		panic("boom")
	}
	if hang != nil {
		<-hang
	}
	return prover.GPUReading{At: now, Driver: "1", GPUs: []prover.GPU{}}
}

func (d *slow) close() {
	d.mu.Lock()
	d.closed++
	d.mu.Unlock()
}

func (d *slow) set(hang chan struct{}, crash bool) {
	d.mu.Lock()
	d.hang, d.crash = hang, crash
	d.mu.Unlock()
}

func TestDriverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slow{}
		r := newReader(Options{Period: 2 * time.Second, Deadline: 5 * time.Second}, d)
		var mu sync.Mutex
		var readings []prover.GPUReading
		var stuck []Stuck
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		r.Run(func(name string, fn func(context.Context) error) {
			if name != "gpu.read" {
				t.Errorf("task %q", name)
			}
			go func() { ended <- fn(ctx) }()
		}, Tell{
			Reading: func(g prover.GPUReading) { mu.Lock(); readings = append(readings, g); mu.Unlock() },
			Stuck:   func(s Stuck) { mu.Lock(); stuck = append(stuck, s); mu.Unlock() },
		})
		look := func() (int, int, []Stuck, prover.GPUReading) {
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			mu.Lock()
			defer mu.Unlock()
			return d.looks, len(readings), slices.Clone(stuck), readings[len(readings)-1]
		}
		time.Sleep(5 * time.Second)
		if looks, n, s, _ := look(); looks != 3 || n != 3 || len(s) != 0 {
			t.Fatalf("%d looks, %d readings, stuck %v", looks, n, s)
		}
		hang := make(chan struct{})
		d.set(hang, false)
		time.Sleep(time.Minute)
		looks, n, s, last := look()
		if looks != 4 || n != 3 {
			t.Errorf("%d looks and %d readings: a hanging driver must be asked once", looks, n)
		}
		if len(s) < 10 || !strings.Contains(s[0].Call, "GPU-1") || !strings.Contains(s[0].String(), "nvmlDeviceGetTemperature") || s[0].Since != last.At.Add(2*time.Second).Local() && !s[0].Since.Equal(last.At.Add(2*time.Second)) {
			t.Errorf("stuck %v after %v", s, last.At)
		}
		d.set(nil, false)
		close(hang)
		time.Sleep(2 * time.Second)
		_, n, s, _ = look()
		if n < 4 || s[len(s)-1] != (Stuck{}) || s[len(s)-1].String() != "" {
			t.Errorf("%d readings, stuck %v: it must be told that it is over", n, s[len(s)-1])
		}
		// A crash in the reading code is a reading without a driver, and not the end.
		d.set(nil, true)
		time.Sleep(2 * time.Second)
		if _, _, _, last := look(); last.Driver != "" || !strings.Contains(last.Why, "boom") || !strings.Contains(last.Why, "nvmlDeviceGetTemperature") {
			t.Errorf("got %+v", last)
		}
		d.set(nil, false)
		time.Sleep(2 * time.Second)
		if _, _, _, last := look(); last.Driver != "1" {
			t.Errorf("got %+v", last)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if d.closed != 1 {
			t.Errorf("closed %d times", d.closed)
		}
	})
}

func TestStopWhileItHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		d := &slow{hang: hang}
		r := newReader(Options{}, d)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		r.Run(func(_ string, fn func(context.Context) error) { go func() { ended <- fn(ctx) }() }, Tell{Reading: func(prover.GPUReading) {}})
		time.Sleep(time.Minute)
		cancel()
		begun := time.Now()
		<-ended
		if time.Since(begun) > time.Second {
			t.Errorf("the stop took %s", time.Since(begun))
		}
		if d.closed != 0 {
			t.Error("the library was closed under a running call")
		}
		close(hang)
	})
}

func TestReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slow{}
		r := newReader(Options{}, d)
		if g := r.ReadOnce(t.Context()); g.Driver != "1" || d.closed != 1 {
			t.Errorf("%+v, closed %d times", g, d.closed)
		}
		hang := make(chan struct{})
		d.set(hang, false)
		g := r.ReadOnce(t.Context())
		if g.Driver != "" || g.GPUs == nil || !strings.Contains(g.Why, "has not answered") || d.closed != 1 {
			t.Errorf("%+v, closed %d times", g, d.closed)
		}
		close(hang)
	})
}

func TestThrottleWords(t *testing.T) {
	for bits, want := range map[uint64][]string{
		0:            {},
		1:            {}, // idle
		0x4:          {ThrottlePowerCap},
		0x1 | 0x60:   {ThrottleHardThermal, ThrottleSoftThermal},
		0x8 | 0x80:   {ThrottlePowerBrake, ThrottleHardware},
		0x2 | 0x1000: {ThrottleSettings, "reason 0x1000"},
		0x10 | 0x100: {ThrottleSyncBoost, ThrottleDisplayClock},
	} {
		if got := throttleWords(bits); got == nil || !slices.Equal(got, want) {
			t.Errorf("%#x: %q, want %q", bits, got, want)
		}
	}
	if Hot(prover.GPU{Throttle: []string{ThrottlePowerCap}}) || Hot(prover.GPU{}) {
		t.Error("a power cap is no heat")
	}
}
