package life

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type record struct {
	mu    sync.Mutex
	start []string
	end   []string
	err   map[string]error
}

func (r *record) TaskStarted(n string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.start = append(r.start, n)
}
func (r *record) TaskEnded(n string, _ time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = append(r.end, n)
	if r.err == nil {
		r.err = map[string]error{}
	}
	r.err[n] = err
}

func TestScopeWaitsAndNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{})
		s := l.Scope("room")
		free := make(chan struct{})
		s.Go("good", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		s.Go("stuck", func(ctx context.Context) error { <-free; return nil })
		if got := l.Running(); !slices.Equal(got, []string{"good", "stuck"}) {
			t.Errorf("running %v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.Close(ctx)
		if err == nil || !strings.Contains(err.Error(), "close room: stuck did not end") {
			t.Errorf("a task that hangs must be named, got %v", err)
		}
		close(free)
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		s.Go("late", func(context.Context) error { t.Error("started after close"); return nil })
		synctest.Wait()
		if got := l.Running(); len(got) != 0 {
			t.Errorf("still running %v", got)
		}
	})
}

func TestPanicIsKeptInItsTask(t *testing.T) {
	dir, r := t.TempDir(), &record{}
	var mu sync.Mutex
	var ended []string
	l := New(Options{CrashDir: dir, Observer: r, OnEnd: func(n string, err error) {
		mu.Lock()
		defer mu.Unlock()
		ended = append(ended, n+": "+err.Error())
	}})
	s := l.Scope("room")
	s.Go("bad", func(context.Context) error { panic("boom") })
	s.Go("err", func(context.Context) error { return errors.New("no") })
	s.wg.Wait()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var pe *PanicError
	if !errors.As(r.err["bad"], &pe) || pe.File == "" {
		t.Fatalf("want a PanicError with a file, got %v", r.err["bad"])
	}
	b, err := os.ReadFile(pe.File)
	if err != nil || !strings.Contains(string(b), "boom") || !strings.Contains(string(b), "life_test.go") {
		t.Errorf("crash file lacks the panic or its place: %v", err)
	}
	if len(ended) != 2 || len(r.start) != 2 || len(r.end) != 2 {
		t.Errorf("told %v, started %v, ended %v", ended, r.start, r.end)
	}
}

func TestStopSaysWhereItHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{CrashDir: dir})
		free := make(chan struct{})
		var mu sync.Mutex // a step that hangs is left behind with what it wrote
		var order []string
		step := func(name string, do func(context.Context) error) Step {
			return Step{Name: name, Limit: time.Second, Do: func(ctx context.Context) error {
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				return do(ctx)
			}}
		}
		ok := func(context.Context) error { return nil }
		began := time.Now()
		err := l.Stop(10*time.Second, []Step{
			step("refuse", ok),
			step("queue", func(context.Context) error { <-free; return nil }),
			step("super", func(context.Context) error { return errors.New("w1 does not die") }),
			step("store", ok),
		}, nil)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %s, want the one second of the step that hangs", took)
		}
		if !slices.Equal(order, []string{"refuse", "queue", "super", "store"}) {
			t.Errorf("order %v", order)
		}
		if err == nil || !strings.Contains(err.Error(), "stop queue: hangs for 1s") || !strings.Contains(err.Error(), "stop super: w1 does not die") || !strings.Contains(err.Error(), "goroutines are in") {
			t.Errorf("error does not say where: %v", err)
		}
		close(free)
	})
}

func TestStartStopsAtTheFirstError(t *testing.T) {
	l := New(Options{})
	ran := 0
	ok := Step{Name: "store", Do: func(context.Context) error { ran++; return nil }}
	bad := Step{Name: "state", Do: func(context.Context) error { return errors.New("no") }}
	started, err := l.Start(t.Context(), []Step{ok, bad, ok})
	if err == nil || err.Error() != "start state: no" || ran != 1 || !slices.Equal(started, []string{"store", "state"}) {
		t.Errorf("ran %d, started %v, err %v", ran, started, err)
	}
}

func TestPanickedTaskIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Restart: func(name string) bool { return name == "reader" }})
		s := l.Scope("room")
		runs := map[string]int{}
		var mu sync.Mutex
		task := func(name string, panics int) {
			s.Go(name, func(ctx context.Context) error {
				mu.Lock()
				runs[name]++
				n := runs[name]
				mu.Unlock()
				if n <= panics {
					panic("no")
				}
				<-ctx.Done()
				return nil
			})
		}
		task("reader", 2)
		task("act", 2)
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if got := l.Running(); !slices.Equal(got, []string{"reader"}) || runs["reader"] != 3 || runs["act"] != 1 {
			t.Errorf("running %v after %v runs", got, runs)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
