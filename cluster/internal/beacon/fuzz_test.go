package beacon

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"app.provost/cluster"

	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/electra"
)

func FuzzEvents(f *testing.F) {
	root := "0x1111111111111111111111111111111111111111111111111111111111111111"
	f.Add([]byte("event: head\ndata: {\"slot\":\"7\",\"block\":\"" + root + "\",\"execution_optimistic\":false}\n\n: keep-alive\n\n"))
	f.Add([]byte("event:chain_reorg\ndata:{\"slot\":\"7\",\"depth\":\"1\",\ndata:\"old_head_block\":\"" + root + "\",\"new_head_block\":\"" + root + "\"}\n\n"))
	f.Add([]byte("event: block\r\ndata: {}\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		readEvents(bytes.NewReader(raw), func(name string, data []byte) {
			if len(data) > 2*maxEvent {
				t.Fatal("an event is larger than the bound")
			}
			if ev, ok := parseEvent(name, data); ok && ev.Kind != EventHead && ev.Kind != EventBlock && ev.Kind != EventReorg {
				t.Fatalf("event of kind %q", ev.Kind)
			}
		})
	})
}

func FuzzProposal(f *testing.F) {
	block := new(electra.BeaconBlock)
	ssz, err := block.MarshalSSZ()
	if err != nil {
		f.Fatal(err)
	}
	if err := block.UnmarshalSSZ(ssz); err != nil {
		f.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"version": "fulu", "execution_payload_value": "5", "data": map[string]any{"block": block, "kzg_proofs": []string{}, "blobs": []string{}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, false, false)
	f.Add(append([]byte{12, 0, 0, 0, byte(12 + len(ssz)), byte((12 + len(ssz)) >> 8), 0, 0, byte(12 + len(ssz)), byte((12 + len(ssz)) >> 8), 0, 0}, ssz...), true, false)
	f.Add([]byte(`{"version":"electra","execution_payload_blinded":true,"data":{"slot":"1"}}`), false, true)
	f.Fuzz(func(t *testing.T, raw []byte, isSSZ, blinded bool) {
		a := &answer{ssz: isSSZ, body: raw, header: http.Header{"Eth-Consensus-Version": {"fulu"}}}
		if blinded {
			a.header.Set("Eth-Execution-Payload-Blinded", "true")
		}
		p, err := readProposal(a)
		if err != nil {
			return
		}
		checkProposal(p, ProposalRequest{Slot: 0, RandaoReveal: cluster.Signature{}}, spec.DataVersionFulu)
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"SECONDS_PER_SLOT":"12","SLOTS_PER_EPOCH":32,"CAPELLA_FORK_VERSION":"0x40000910","BLOB_SCHEDULE":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		config := map[string]json.RawMessage{}
		if json.Unmarshal(raw, &config) != nil {
			return
		}
		forkNames(config)
		ch, err := readConfig(config)
		if err == nil && (ch.Clock.SlotDuration <= 0 || ch.Clock.SlotsPerEpoch == 0) {
			t.Fatalf("a clock that stands still: %+v", ch.Clock)
		}
	})
}

func TestFailureBodies(t *testing.T) {
	for _, body := range []string{``, `{}`, `[]`, `{"failures":[{"index":-1}]}`, `{"message":7}`, "\xff\xfe", `{"failures":[{"index":99999999999}]}`} {
		e := &Error{}
		e.describe([]byte(body))
		_ = e.Error()
		if len(e.Failures) != 0 {
			t.Errorf("%q: failures %v", body, e.Failures)
		}
	}
}
