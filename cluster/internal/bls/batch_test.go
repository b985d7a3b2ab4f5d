package bls

import (
	"errors"
	"fmt"
	"testing"

	"app.provost/cluster"
)

func batchOf(t testing.TB, n int, msg []byte) (keys []PublicKey, sigs []SignaturePoint) {
	t.Helper()
	for range n {
		k, err := GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		sig, err := k.Sign(msg)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := k.PubKey()
		if err != nil {
			t.Fatal(err)
		}
		pub, err := ParsePubKey(raw)
		if err != nil {
			t.Fatal(err)
		}
		point, err := ParseSignature(sig)
		if err != nil {
			t.Fatal(err)
		}
		keys, sigs = append(keys, pub), append(sigs, point)
	}
	return keys, sigs
}

func TestVerifyBatch(t *testing.T) {
	msg, other := []byte("a root"), []byte("another root")
	keys, sigs := batchOf(t, 9, msg)
	if err := VerifyBatch(keys, msg, sigs); err != nil {
		t.Fatal(err)
	}
	_, stray := batchOf(t, 1, other)
	for i := range sigs {
		bad := append([]SignaturePoint(nil), sigs...)
		bad[i] = stray[0]
		if err := VerifyBatch(keys, msg, bad); !errors.Is(err, ErrVerify) {
			t.Errorf("a stray signature at %d: %v", i, err)
		}
	}
	// Two wrong ones whose plain sum is right must not pass: the weights differ.
	swapped := append([]SignaturePoint(nil), sigs...)
	swapped[0], swapped[1] = sigs[1], sigs[0]
	if err := VerifyBatch(keys, msg, swapped); !errors.Is(err, ErrVerify) {
		t.Errorf("two exchanged signatures: %v", err)
	}
	for name, err := range map[string]error{
		"other message": VerifyBatch(keys, other, sigs), "no message": VerifyBatch(keys, nil, sigs), "nothing": VerifyBatch(nil, msg, nil),
		"fewer": VerifyBatch(keys, msg, sigs[1:]), "empty key": VerifyBatch(make([]PublicKey, 2), msg, sigs[:2]), "empty signature": VerifyBatch(keys[:2], msg, make([]SignaturePoint, 2)),
		"one empty": VerifyBatch(keys[:1], msg, make([]SignaturePoint, 1)), "one no key": VerifyBatch(make([]PublicKey, 1), msg, sigs[:1]),
	} {
		if err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

// The same signature must come out as from the library's own recovery, for all kinds of index sets.
func TestInterpolation(t *testing.T) {
	secret, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	msg := []byte("a root")
	whole, err := secret.Sign(msg)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		n   int
		set []cluster.ShareIndex
	}{
		{4, []cluster.ShareIndex{1, 2, 3}}, {4, []cluster.ShareIndex{1, 2, 4}}, {4, []cluster.ShareIndex{4, 1, 3}}, {4, []cluster.ShareIndex{2, 3, 4}},
		{2, []cluster.ShareIndex{2, 1}}, {10, []cluster.ShareIndex{1, 3, 4, 6, 8, 9, 10}}, {256, []cluster.ShareIndex{256, 7, 255, 13, 101}},
	} {
		t.Run(fmt.Sprint(x.set), func(t *testing.T) {
			shares, err := Split(secret, x.n, cluster.Threshold(len(x.set)))
			if err != nil {
				t.Fatal(err)
			}
			in, err := NewInterpolation(x.set)
			if err != nil {
				t.Fatal(err)
			}
			var points []SignaturePoint
			for _, i := range x.set {
				sig, err := shares[i-1].Sign(msg)
				if err != nil {
					t.Fatal(err)
				}
				p, err := ParseSignature(sig)
				if err != nil {
					t.Fatal(err)
				}
				points = append(points, p)
			}
			got, err := in.Combine(points)
			if err != nil {
				t.Fatal(err)
			}
			if got.Signature() != whole {
				t.Error("the combined signature isn't the validator's")
			}
			if _, err := in.Combine(points[1:]); err == nil {
				t.Error("combined with a partial missing")
			}
		})
	}
	for _, bad := range [][]cluster.ShareIndex{nil, {1}, {1, 1}, {0, 1}, {1, 257}} {
		if _, err := NewInterpolation(bad); err == nil {
			t.Errorf("shares %v were taken", bad)
		}
	}
	if _, err := (Interpolation{}).Combine(nil); err == nil {
		t.Error("the zero value combines")
	}
}

func TestSignPoint(t *testing.T) {
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	want, err := k.Sign([]byte("a root"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.SignPoint([]byte("a root"))
	if err != nil || p.Signature() != want {
		t.Errorf("another signature, %v", err)
	}
	if _, err := k.SignPoint(nil); err == nil {
		t.Error("signed nothing")
	}
	if _, err := (SecretKey{}).SignPoint([]byte{1}); !errors.Is(err, ErrZeroised) {
		t.Errorf("signed without a key: %v", err)
	}
	if (SignaturePoint{}).Signature() != (cluster.Signature{}) {
		t.Error("the zero value has bytes")
	}
}
