package simnet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/clustertest"

	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"
)

// One slot of 500 validators: all of them attest in one request, as a node of a cluster sends them;
// three more nodes send the same; and the next block takes them all.
func BenchmarkSlot500(b *testing.B) {
	const validators = 500
	keys, pubs := clustertest.Keys(b, validators)
	o := Options{SlotDuration: 10 * time.Minute, SlotsPerEpoch: 1, GenesisTime: time.Now().Add(-25 * time.Minute).Truncate(time.Second)}
	for _, k := range pubs {
		o.Validators = append(o.Validators, Validator{PubKey: k})
	}
	n, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	n.mu.Lock()
	n.advanceLocked(time.Now())
	slot := n.chain.slot
	n.mu.Unlock()
	data, err := n.attestationData(slot)
	if err != nil {
		b.Fatal(err)
	}
	root, err := data.HashTreeRoot()
	if err != nil {
		b.Fatal(err)
	}
	signing := n.signingRoot(domainAttester, root)
	var list []*electra.SingleAttestation
	for _, d := range n.chain.epochs[cluster.Epoch(slot)].duties {
		sig, err := keys[d.validator].Sign(signing[:])
		if err != nil {
			b.Fatal(err)
		}
		list = append(list, &electra.SingleAttestation{CommitteeIndex: phase0.CommitteeIndex(d.committee), AttesterIndex: phase0.ValidatorIndex(d.validator), Data: data, Signature: phase0.BLSSignature(sig)})
	}
	if len(list) != validators {
		b.Fatalf("%d duties", len(list))
	}
	body, err := json.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	send := func() {
		r := httptest.NewRequest("POST", "/eth/v2/beacon/pool/attestations", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Eth-Consensus-Version", string(Fulu))
		w := httptest.NewRecorder()
		n.Handler().ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatalf("status %d: %.200s", w.Code, w.Body)
		}
	}
	forget := func() {
		n.chain.epochs[cluster.Epoch(slot)].votes = map[valIndex]*ballot{}
		n.chain.history = map[valIndex][]vote{}
	}
	b.Run(fmt.Sprintf("first_of_%d_bytes", len(body)), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			forget()
			b.StartTimer()
			send()
		}
	})
	b.Run("repeated", func(b *testing.B) {
		for b.Loop() {
			send()
		}
	})
	b.Run("block", func(b *testing.B) {
		var reveal cluster.Signature
		for b.Loop() {
			n.sums.list = nil
			a, err := n.sums.add(n.poolLocked(slot + 1)[0])
			if err != nil {
				b.Fatal(err)
			}
			atts := []*electra.Attestation{a}
			if _, err := n.buildBlock(n.head(), slot+1, 0, reveal, [32]byte{}, atts, nil, cluster.ETHAddress{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("status", func(b *testing.B) {
		for b.Loop() {
			n.Status()
		}
	})
}
