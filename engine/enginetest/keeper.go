package enginetest

import (
	"errors"
	"testing"
	"time"

	"app.provost/engine"
	"github.com/google/go-cmp/cmp"
)

// Keeper is what state and act need to be kept: journal, ledger with receipts, and documents.
type Keeper interface {
	Append(entries ...engine.Entry) ([]engine.Entry, error)
	Entries(after uint64, limit int) (entries []engine.Entry, first, last uint64, err error)
	BeginAct(row engine.ActRow, request, action []byte, receipt engine.Receipt) (id string, err error)
	SaveAct(row engine.ActRow, receipt *engine.Receipt, problem *engine.Problem) error
	Receipt(key string) (r engine.Receipt, action []byte, problem *engine.Problem, found bool, err error)
	Acts() (rows []engine.ActRow, requests [][]byte, err error)
}

// Documents is the small store of one room.
type Documents interface {
	Put(id string, doc []byte) error
	Delete(id string) error
	All() (map[string][]byte, error)
}

// RunKeeper holds a store and its in-memory twin to the same behaviour. open gives empty ones.
func RunKeeper(t *testing.T, open func(t *testing.T) (Keeper, Documents)) {
	t.Run("journal", func(t *testing.T) {
		k, _ := open(t)
		if out, first, last, err := k.Entries(0, 10); len(out) != 0 || first != 1 || last != 0 || err != nil {
			t.Errorf("an empty journal gives %v, %d to %d: %v", out, first, last, err)
		}
		if out, err := k.Append(); len(out) != 0 || err != nil {
			t.Errorf("no entries: %v %v", out, err)
		}
		at := time.Now().Add(-time.Hour).In(time.FixedZone("", 3600)).Round(time.Microsecond) // young enough to be kept
		actor := engine.Actor{Name: "ana", Via: engine.ViaCLI}
		in, err := k.Append(engine.Entry{At: at, What: "a", Actor: &actor}, engine.Entry{What: "b"})
		if err != nil || in[0].N != 1 || in[1].N != 2 || !in[0].At.Equal(at) || in[0].At.Location() != time.UTC || in[1].At.IsZero() {
			t.Fatalf("%+v %v", in, err)
		}
		more, err := k.Append(engine.Entry{What: "c"})
		if err != nil {
			t.Fatal(err)
		}
		in = append(in, more...)
		for _, c := range []struct {
			after uint64
			limit int
			want  []engine.Entry
		}{{0, 10, in}, {1, 10, in[1:]}, {1, 1, in[1:2]}, {3, 10, nil}, {99, 10, nil}, {0, 0, nil}} {
			out, first, last, err := k.Entries(c.after, c.limit)
			if diff := cmp.Diff(c.want, out); diff != "" || first != 1 || last != 3 || err != nil {
				t.Errorf("after %d, %d: %d to %d, %v: %s", c.after, c.limit, first, last, err, diff)
			}
		}
	})
	t.Run("acts", func(t *testing.T) {
		k, _ := open(t)
		row := engine.ActRow{Kind: engine.KindPauseWorkers, State: engine.ActRunning, Target: "w1"}
		for i, want := range []string{"a1", "a2"} {
			id, err := k.BeginAct(row, []byte(`{"n":1}`), []byte(`{"kind":"x"}`), engine.Receipt{Key: []string{"k1", "k2"}[i], Title: "t"})
			if id != want || err != nil {
				t.Fatalf("id %q, %v", id, err)
			}
		}
		r, action, p, found, err := k.Receipt("k1")
		if !found || r.Act != "a1" || r.Done || p != nil || string(action) != `{"kind":"x"}` || err != nil {
			t.Errorf("%+v %s %v %v %v", r, action, p, found, err)
		}
		if _, _, _, found, err := k.Receipt("none"); found || err != nil {
			t.Errorf("a key that was not used: %v %v", found, err)
		}
		row.ID, row.Key.ID, row.State = "a1", "a1", engine.ActHolding
		if err := k.SaveAct(row, nil, nil); err != nil {
			t.Error(err)
		}
		if r, _, _, _, _ := k.Receipt("k1"); r.Done {
			t.Error("saving the row changed the receipt")
		}
		row.State = engine.ActFailed
		if err := k.SaveAct(row, &engine.Receipt{Key: "k1", Act: "a1", Done: true}, &engine.Problem{Code: engine.CodeNoMatch, Cause: "c"}); err != nil {
			t.Error(err)
		}
		r, action, p, _, _ = k.Receipt("k1")
		if !r.Done || p == nil || p.Code != engine.CodeNoMatch || string(action) != `{"kind":"x"}` {
			t.Errorf("%+v %s %v", r, action, p)
		}
		rows, requests, err := k.Acts()
		if err != nil || len(rows) != 2 || rows[0].ID != "a1" || rows[0].Key.ID != "a1" || rows[0].State != engine.ActFailed || rows[1].ID != "a2" || string(requests[1]) != `{"n":1}` {
			t.Errorf("%+v %s %v", rows, requests, err)
		}
		row.ID = "a9"
		if err := k.SaveAct(row, nil, nil); err == nil {
			t.Error("an act that was never begun was kept")
		}
	})
	t.Run("documents", func(t *testing.T) {
		_, d := open(t)
		err := errors.Join(d.Put("a", []byte(`{"v":1}`)), d.Put("b", []byte(`{"v":2}`)), d.Put("a", []byte(`{"v":3}`)), d.Delete("b"), d.Delete("never"))
		docs, aerr := d.All()
		if err != nil || aerr != nil || len(docs) != 1 || string(docs["a"]) != `{"v":3}` {
			t.Errorf("%q %v %v", docs, err, aerr)
		}
	})
}
