package partial

import (
	"errors"
	"fmt"
	"testing"

	"app.provost/cluster"
)

var (
	duty = cluster.Duty{Slot: 7, Type: cluster.DutyAttester}
	one  = cluster.PubKey{1}
	two  = cluster.PubKey{2}
)

func newStore(t testing.TB, threshold cluster.Threshold) *Store {
	t.Helper()
	s, err := New(Options{
		Threshold: threshold,
		Root: func(_ cluster.Duty, _ cluster.PubKey, p cluster.ParSignedData) (cluster.Root, error) {
			if len(p.Data) != 1 {
				return cluster.Root{}, errors.New("no root")
			}
			return cluster.Root{p.Data[0]}, nil
		},
		Ends: func(d cluster.Duty) bool { return d.Type != cluster.DutyExit },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func par(share cluster.ShareIndex, root, sig byte) cluster.ParSignedData {
	return cluster.ParSignedData{Data: []byte{root}, Signature: cluster.Signature{sig}, Share: share}
}

func TestStore(t *testing.T) {
	type step struct {
		p     cluster.ParSignedData
		ready []cluster.ShareIndex
		err   error
	}
	for name, steps := range map[string][]step{
		"threshold": {{par(2, 9, 2), nil, nil}, {par(1, 9, 1), nil, nil}, {par(4, 9, 4), []cluster.ShareIndex{1, 2, 4}, nil}},
		"once only": {{par(1, 9, 1), nil, nil}, {par(2, 9, 2), nil, nil}, {par(3, 9, 3), []cluster.ShareIndex{1, 2, 3}, nil}, {par(4, 9, 4), nil, nil}, {par(4, 9, 4), nil, nil}},
		"repeat is no news": {{par(1, 9, 1), nil, nil}, {par(1, 9, 1), nil, nil}, {par(1, 9, 1), nil, nil},
			{par(2, 9, 2), nil, nil}, {par(3, 9, 3), []cluster.ShareIndex{1, 2, 3}, nil}},
		"first counts":             {{par(1, 9, 1), nil, nil}, {par(1, 8, 5), nil, ErrDifferent}, {par(2, 8, 2), nil, nil}, {par(3, 8, 3), nil, nil}, {par(2, 9, 6), nil, ErrDifferent}},
		"other signature":          {{par(1, 9, 1), nil, nil}, {par(1, 9, 2), nil, ErrDifferent}},
		"other roots do not count": {{par(1, 9, 1), nil, nil}, {par(2, 8, 2), nil, nil}, {par(3, 9, 3), nil, nil}, {par(4, 9, 4), []cluster.ShareIndex{1, 3, 4}, nil}},
		// With more shares than two thresholds both roots could be complete: only the first is handed out.
		"never two roots": {{par(1, 9, 1), nil, nil}, {par(2, 9, 2), nil, nil}, {par(3, 9, 3), []cluster.ShareIndex{1, 2, 3}, nil},
			{par(4, 8, 4), nil, nil}, {par(5, 8, 5), nil, nil}, {par(6, 8, 6), nil, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, 3)
			for i, x := range steps {
				ready, err := s.Add(duty, cluster.ParSignedDataSet{one: x.p})
				if !errors.Is(err, x.err) {
					t.Fatalf("step %d: %v, want %v", i, err, x.err)
				}
				var got []cluster.ShareIndex
				for _, p := range ready[one] {
					got = append(got, p.Share)
				}
				if fmt.Sprint(got) != fmt.Sprint(x.ready) {
					t.Fatalf("step %d: ready %v, want %v", i, got, x.ready)
				}
			}
		})
	}
}

// One validator's bad partial must not keep the others' out.
func TestOthersGoOn(t *testing.T) {
	s := newStore(t, 2)
	if _, err := s.Add(duty, cluster.ParSignedDataSet{one: par(1, 9, 1), two: par(1, 9, 1)}); err != nil {
		t.Fatal(err)
	}
	ready, err := s.Add(duty, cluster.ParSignedDataSet{one: {Share: 2}, two: par(2, 9, 2)})
	if err == nil || len(ready) != 1 || len(ready[two]) != 2 {
		t.Errorf("ready %v, %v", ready, err)
	}
	if got := s.Shares(duty); fmt.Sprint(got[one], got[two]) != "[1] [1 2]" {
		t.Errorf("shares %v", got)
	}
}

func TestSplit(t *testing.T) {
	s := newStore(t, 3)
	for _, set := range []cluster.ParSignedDataSet{{one: par(1, 9, 1), two: par(1, 9, 1)}, {one: par(2, 9, 2), two: par(2, 8, 2)}} {
		if _, err := s.Add(duty, set); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Split(duty); len(got) != 1 || got[0] != two {
		t.Errorf("split %v", got)
	}
}

func TestDrop(t *testing.T) {
	s := newStore(t, 2)
	for _, share := range []cluster.ShareIndex{1, 2} {
		if _, err := s.Add(duty, cluster.ParSignedDataSet{one: par(share, 9, byte(share))}); err != nil {
			t.Fatal(err)
		}
	}
	s.Drop(duty)
	if len(s.Shares(duty)) != 0 || len(s.duties) != 0 {
		t.Error("the duty is still there")
	}
}

func TestEndlessDutiesAreBounded(t *testing.T) {
	s := newStore(t, 2)
	exit := func(n int) cluster.Duty { return cluster.Duty{Slot: cluster.Slot(n), Type: cluster.DutyExit} }
	for i := range maxOpen {
		if _, err := s.Add(exit(i), cluster.ParSignedDataSet{one: par(1, 9, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Add(exit(maxOpen), cluster.ParSignedDataSet{one: par(1, 9, 1)}); !errors.Is(err, ErrTooMany) {
		t.Fatalf("one more: %v", err)
	}
	if _, err := s.Add(exit(maxOpen), cluster.ParSignedDataSet{one: par(2, 9, 2), two: par(1, 9, 1)}); err != nil {
		t.Fatalf("another share and another validator: %v", err)
	}
	s.Drop(exit(0))
	if _, err := s.Add(exit(maxOpen), cluster.ParSignedDataSet{one: par(1, 9, 1)}); err != nil {
		t.Fatalf("after one was dropped: %v", err)
	}
}

func TestOptionsAreRequired(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("made of nothing")
	}
}
