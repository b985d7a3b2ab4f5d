package decided

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
)

var (
	duty = cluster.Duty{Slot: 3, Type: cluster.DutyAttester}
	one  = cluster.PubKey{1}
	two  = cluster.PubKey{2}
)

func TestSettle(t *testing.T) {
	s := New()
	steps := []struct {
		name string
		duty cluster.Duty
		set  cluster.UnsignedDataSet
		err  error
	}{
		{"first", duty, cluster.UnsignedDataSet{one: {1}}, nil},
		{"repeat", duty, cluster.UnsignedDataSet{one: {1}}, nil},
		{"different", duty, cluster.UnsignedDataSet{one: {2}}, ErrDifferent},
		{"all or nothing", duty, cluster.UnsignedDataSet{one: {2}, two: {7}}, ErrDifferent},
		{"another validator", duty, cluster.UnsignedDataSet{two: {8}}, nil},
		{"another duty", cluster.Duty{Slot: 4, Type: cluster.DutyAttester}, cluster.UnsignedDataSet{one: {2}}, nil},
	}
	for _, x := range steps {
		if err := s.Settle(x.duty, x.set); !errors.Is(err, x.err) {
			t.Errorf("%s: %v, want %v", x.name, err, x.err)
		}
	}
	got := s.Data(duty)
	if len(got) != 2 || got[one][0] != 1 || got[two][0] != 8 {
		t.Errorf("settled %v", got)
	}
	s.Drop(duty)
	if s.Data(duty) != nil {
		t.Error("still there after the drop")
	}
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		type answer struct {
			d   cluster.SignedData
			err error
		}
		wait := func(ctx context.Context, key cluster.PubKey) chan answer {
			out := make(chan answer, 1)
			go func() {
				d, err := s.Await(ctx, duty, key)
				out <- answer{d, err}
			}()
			return out
		}
		first, second := wait(t.Context(), one), wait(t.Context(), two)
		limited, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		third := wait(limited, cluster.PubKey{3})
		synctest.Wait()
		if err := s.Complete(duty, cluster.SignedDataSet{one: {Signature: cluster.Signature{1}}}); err != nil {
			t.Fatal(err)
		}
		if a := <-first; a.err != nil || a.d.Signature[0] != 1 {
			t.Errorf("got %v, %v", a.d.Signature[0], a.err)
		}
		if a := <-third; !errors.Is(a.err, context.DeadlineExceeded) {
			t.Errorf("after the timeout: %v", a.err)
		}
		if err := s.Complete(duty, cluster.SignedDataSet{one: {Signature: cluster.Signature{2}}}); !errors.Is(err, ErrDifferent) {
			t.Errorf("another signature: %v", err)
		}
		s.Drop(duty)
		if a := <-second; !errors.Is(a.err, ErrDropped) {
			t.Errorf("after the drop: %v", a.err)
		}
		if len(s.signed) != 0 {
			t.Error("the duty is kept")
		}
	})
}

// A reader that gives up leaves nothing behind, also when nobody ever drops the duty.
func TestAwaitLeavesNothing(t *testing.T) {
	s := New()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Await(ctx, duty, one); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(s.signed) != 0 {
		t.Error("the duty is kept")
	}
}
