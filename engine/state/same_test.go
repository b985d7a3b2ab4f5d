package state

import (
	"reflect"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

// TestSameWorkerKnowsEveryField changes each field in turn, so that one that is
// added later and not compared is found here.
func TestSameWorkerKnowsEveryField(t *testing.T) {
	full := func() engine.WorkerRow {
		cpu, i, at, job, f, u := prover.CPU(1), 1, time.Unix(1, 0), prover.JobID("j"), 1.0, uint64(1)
		code := 1
		return engine.WorkerRow{CPU: &cpu, NUMA: &i, PauseUntil: &at, PID: &i, StartedAt: &at, Nice: &i, Job: &job, Progress: &f, CPUPercent: &f, RSSBytes: &u,
			HeardAt: &at, LatencyMS: &f, RestartAt: &at, LastExit: &engine.ExitRecord{Code: &code}}
	}
	a, b := full(), full()
	if !sameWorker(&a, &b) {
		t.Fatal("equal rows behind other pointers are not the same")
	}
	typ := reflect.TypeFor[engine.WorkerRow]()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		b := full()
		v := reflect.ValueOf(&b).Elem().Field(i)
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				t.Errorf("%s is not filled by this test", name)
				continue
			}
			changed := reflect.New(v.Type().Elem())
			changed.Elem().Set(v.Elem())
			alter(t, changed.Elem())
			v.Set(changed)
		} else {
			alter(t, v)
		}
		if sameWorker(&a, &b) || sameWorker(&b, &a) {
			t.Errorf("a change of %s is not seen", name)
		}
		if v.Kind() == reflect.Pointer {
			v.SetZero()
			if sameWorker(&a, &b) || sameWorker(&b, &a) {
				t.Errorf("that %s became unknown is not seen", name)
			}
		}
	}
	c := full()
	code := 2
	c.LastExit.Code = &code
	if sameWorker(&a, &c) {
		t.Error("another exit code is not seen")
	}
}

func alter(t *testing.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int:
		v.SetInt(v.Int() + 1)
	case reflect.Uint64:
		v.SetUint(v.Uint() + 1)
	case reflect.Float64:
		v.SetFloat(v.Float() + 1)
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			v.Set(reflect.ValueOf(at.Add(time.Second)))
			return
		}
		alter(t, v.Field(0))
	default:
		t.Fatalf("this test cannot alter a %s", v.Kind())
	}
}

func TestNaturalOrder(t *testing.T) {
	in := []string{"", "a1", "a2", "a10", "a10b", "b", "w007", "w8", "w10"}
	for i, a := range in {
		for j, b := range in {
			got := natural(a, b)
			if want := i - j; (got < 0) != (want < 0) || (got > 0) != (want > 0) {
				t.Errorf("%q against %q: %d", a, b, got)
			}
		}
	}
}
