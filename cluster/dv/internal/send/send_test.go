package send

import (
	"context"
	"errors"
	"testing"

	"app.provost/cluster"
)

var (
	one = cluster.PubKey{1}
	two = cluster.PubKey{2}
	set = cluster.SignedDataSet{one: {}, two: {}}
)

func TestSend(t *testing.T) {
	down, old := errors.New("no connection"), errors.New("attestation is too old")
	att, prop := cluster.Duty{Slot: 4, Type: cluster.DutyAttester}, cluster.Duty{Slot: 4, Type: cluster.DutyProposer}
	var fail error
	var refuse map[cluster.PubKey]error
	var sent []int
	s, err := New(Options{
		Attestations: func(_ context.Context, _ cluster.Duty, set cluster.SignedDataSet) (map[cluster.PubKey]error, error) {
			sent = append(sent, len(set))
			return refuse, fail
		},
		Proposal: func(_ context.Context, _ cluster.Duty, key cluster.PubKey, _ cluster.SignedData) error {
			sent = append(sent, 1)
			return refuse[key]
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	step := func(name string, duty cluster.Duty, taken, objects int, want error) {
		t.Helper()
		sent = nil
		got, err := s.Send(t.Context(), duty, set)
		n := 0
		for _, k := range sent {
			n += k
		}
		if len(got) != taken || n != objects || !errors.Is(err, want) {
			t.Errorf("%s: %d taken of %d objects sent, %v; want %d of %d, %v", name, len(got), n, err, taken, objects, want)
		}
	}
	fail = down
	step("beacon node down", att, 0, 2, down)
	fail, refuse = nil, map[cluster.PubKey]error{two: old}
	step("one is refused", att, 1, 2, old)
	refuse = nil
	step("only the rest is tried again", att, 2, 1, nil)
	step("nothing is left", att, 2, 0, nil)
	s.Drop(att)
	step("forgotten", att, 2, 2, nil)

	refuse = map[cluster.PubKey]error{one: down}
	step("one block of two", prop, 1, 2, down)
	refuse = nil
	step("the other one", prop, 2, 1, nil)

	step("reveals stay inside", cluster.Duty{Slot: 4, Type: cluster.DutyRandao}, 0, 0, nil)
	step("no such road", cluster.Duty{Slot: 4, Type: cluster.DutyInfoSync}, 0, 0, ErrUnsendable)
	if _, err := New(Options{}); err == nil {
		t.Error("made of nothing")
	}
}
