package zkey

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// No bytes may make the package panic, or take memory that the input does not back: a key that opens has a file behind
// every point, so the work below is bounded by the input's length.
func FuzzKey(f *testing.F) {
	tiny := sample(f, "tiny.zkey")
	f.Add(tiny)
	f.Add(sample(f, "edge.zkey"))
	f.Add(sample(f, "bls12381.zkey"))
	f.Add(tiny[:700])
	f.Add([]byte("zkey\x01\x00\x00\x00\x0a\x00\x00\x00"))
	witnesses := map[int]*Witness{}
	for _, name := range []string{"tiny.wtns", "edge.wtns"} {
		w := witnessOf(f, sample(f, name))
		witnesses[w.Vars()] = w
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := New(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if !typed(err) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		checked := k.Check(t.Context())
		vk, err := k.VerifyingKey()
		if checked == nil && err != nil {
			t.Fatalf("Check passes, VerifyingKey fails: %v", err)
		}
		w := witnesses[k.Header().Vars]
		if w == nil {
			return
		}
		// Fixed blinding: chance would look like new coverage to the fuzzer.
		var one fr.Element
		one.SetOne()
		proof, public, err := prove(t.Context(), k, w, Options{Workers: 1}, &one, &one)
		if checked == nil && err != nil {
			t.Fatalf("Check passes, Prove fails: %v", err)
		}
		if err == nil && vk != nil {
			if err := Verify(vk, public, proof); err != nil && !typed(err) {
				t.Fatalf("untyped error: %v", err)
			}
		}
	})
}

func FuzzWitness(f *testing.F) {
	f.Add(sample(f, "tiny.wtns"))
	f.Add(sample(f, "edge.wtns"))
	f.Add(sample(f, "bls12381.wtns"))
	f.Add([]byte("wtns\x02\x00\x00\x00\x02\x00\x00\x00"))
	k := keyOf(f, sample(f, "tiny.zkey"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := NewWitness(bytes.NewReader(data), int64(len(data)))
		if err == nil {
			checked := w.Check(t.Context())
			var one fr.Element
			one.SetOne()
			_, _, err = prove(t.Context(), k, w, Options{Workers: 1}, &one, &one)
			if checked == nil && Match(k, w) == nil && err != nil {
				t.Fatalf("a good witness does not prove: %v", err)
			}
		}
		if err != nil && !typed(err) {
			t.Fatalf("untyped error: %v", err)
		}
	})
}

// What is read is written and read again the same.
func FuzzJSON(f *testing.F) {
	for _, name := range []string{"tiny.proof.json", "tiny.public.json", "tiny.vk.json"} {
		f.Add(sample(f, name))
	}
	f.Add([]byte(`["0"]`))
	f.Add([]byte(`{"pi_a":["0","1","0"],"pi_b":[[]],"protocol":"groth16","curve":"bn128"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		marshal := func(v any) []byte {
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if p, err := ParseProof(data); err == nil {
			if again, err := ParseProof(marshal(p)); err != nil || *again != *p {
				t.Fatalf("proof changed: %v", err)
			}
		}
		if p, err := ParsePublic(data); err == nil {
			if again, err := ParsePublic(marshal(p)); err != nil || !bytes.Equal(marshal(again), marshal(p)) {
				t.Fatalf("signals changed: %v", err)
			}
		}
		if vk, err := ParseVerifyingKey(data); err == nil {
			if again, err := ParseVerifyingKey(marshal(vk)); err != nil || !again.Equal(vk) {
				t.Fatalf("key changed: %v", err)
			}
		}
	})
}
