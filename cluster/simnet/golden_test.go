package simnet_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"app.provost/cluster/simnet"

	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/phase0"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The status is read by others: keys are added, never changed.
func TestStatusGolden(t *testing.T) {
	inBubble(t, 2, nil, func(t *testing.T, r *rig) {
		r.run(0, 4)
		r.ask(simnet.Fault{Kind: simnet.Slow, DelayMS: 1})
		r.ask(simnet.Fault{Kind: simnet.Slow, Off: true})
		r.ask(simnet.Fault{Kind: simnet.EventsSilent})
		for s := r.ch.Clock.First(1); s < r.ch.Clock.First(2); s++ {
			r.sleepTo(s, 50)
			if err := r.attest(s); err != nil {
				t.Fatal(err)
			}
			for _, v := range r.votes(s, func(d *phase0.AttestationData) { d.BeaconBlockRoot = phase0.Root{1} }) {
				refusal(t, r.c.SubmitAttestations(t.Context(), []*spec.VersionedAttestation{v}))
			}
		}
		r.sleepTo(12, 50)
		got, err := json.MarshalIndent(r.node.Status(), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "status.golden.json")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.TrimSpace(want), got) {
			t.Errorf("the status changed; if it should, run with -update:\n%s", got)
		}
		var s simnet.Status
		if err := json.Unmarshal(want, &s); err != nil || s.Schema != "provost.simnet/1" || s.SlashableTotal == 0 {
			t.Errorf("the kept sample reads as %+v, %v", s, err)
		}
	})
}
