package quil

import (
	"bytes"
	"testing"
)

// bigPlan has 2,048 workers on two machines, and a config.yml that lists them.
func bigPlan(tb testing.TB, id EraID) (Era, Plan, []byte) {
	e := era(tb, id)
	p := twoMachines(e)
	grow(&p, 2048)
	if id != "1.4.21" && id != "2.0.6" {
		p.Machines[1].Base = map[ListUse]Port{UseP2P: 10000, UseStream: 20000}
	}
	r, err := e.Config(read(tb, "testdata/"+string(id)+"/config.yml"), p, "b")
	if err != nil {
		tb.Fatal(err)
	}
	return e, p, r.Config.Export()
}

// The largest good cluster is rendered in one go: all lists, byte for byte else.
func TestBigPlan(t *testing.T) {
	for _, id := range []EraID{"1.4.21", "2.1.0.19"} {
		e, p, text := bigPlan(t, id)
		if len(text) > MaxConfigBytes/4 {
			t.Errorf("era %s: %d bytes come near the bound of %d", id, len(text), MaxConfigBytes)
		}
		again, err := e.Config(text, p, "b")
		if err != nil || len(again.Changes) != 0 || again.Reformatted || !bytes.Equal(again.Config.Export(), text) {
			t.Errorf("era %s: %+v %v", id, again.Changes, err)
		}
	}
}

func BenchmarkConfig2048(b *testing.B) {
	e, p, text := bigPlan(b, "2.1.0.19")
	p.Machines[1].Base[UseP2P] = 11000 // every entry of one list changes
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Config(text, p, "b"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEras(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if len(Eras()) == 0 {
			b.Fatal("no eras")
		}
	}
}
