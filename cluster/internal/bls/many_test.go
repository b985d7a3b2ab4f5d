package bls

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"app.provost/cluster"

	herumi "github.com/herumi/bls-eth-go-binary/bls"
)

// signedBatch makes keys that each sign some messages.
func signedBatch(t testing.TB, keys, messages int) []SignedMessages {
	t.Helper()
	var out []SignedMessages
	for k := range keys {
		key, err := GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := key.PubKey()
		if err != nil {
			t.Fatal(err)
		}
		b := SignedMessages{}
		if b.Key, err = ParsePubKey(raw); err != nil {
			t.Fatal(err)
		}
		for m := range messages {
			msg := fmt.Appendf(nil, "message %d of key %d", m, k)
			p, err := key.SignPoint(msg)
			if err != nil {
				t.Fatal(err)
			}
			b.Messages, b.Signatures = append(b.Messages, msg), append(b.Signatures, p)
		}
		out = append(out, b)
	}
	return out
}

func TestVerifyMany(t *testing.T) {
	good := signedBatch(t, 3, 3)
	for n := 1; n <= 3; n++ {
		if err := VerifyMany(good[:n]); err != nil {
			t.Fatalf("%d keys: %v", n, err)
		}
	}
	// Each signature and each message in turn, and exchanges that leave plain sums alone.
	change := func(what string, do func(b []SignedMessages)) {
		t.Helper()
		bad := slices.Clone(good)
		for i := range bad {
			bad[i].Messages, bad[i].Signatures = slices.Clone(bad[i].Messages), slices.Clone(bad[i].Signatures)
		}
		do(bad)
		if err := VerifyMany(bad); !errors.Is(err, ErrVerify) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for k := range 3 {
		for m := range 3 {
			change(fmt.Sprintf("signature %d of %d", m, k), func(b []SignedMessages) { b[k].Signatures[m] = good[(k+1)%3].Signatures[m] })
			change(fmt.Sprintf("message %d of %d", m, k), func(b []SignedMessages) { b[k].Messages[m] = []byte("another") })
		}
	}
	change("two exchanged signatures", func(b []SignedMessages) {
		b[0].Signatures[0], b[0].Signatures[1] = b[0].Signatures[1], b[0].Signatures[0]
	})
	change("two exchanged keys", func(b []SignedMessages) { b[0].Key, b[1].Key = b[1].Key, b[0].Key })
	change("an empty message", func(b []SignedMessages) { b[2].Messages[2] = nil })
	change("a message less", func(b []SignedMessages) { b[2].Messages = b[2].Messages[1:] })
	for name, bad := range map[string][]SignedMessages{
		"nothing": nil, "no key": {{Messages: good[0].Messages, Signatures: good[0].Signatures}}, "no messages": {{Key: good[0].Key}},
		"no signature": {{Key: good[0].Key, Messages: good[0].Messages, Signatures: make([]SignaturePoint, 3)}},
	} {
		if err := VerifyMany(bad); err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

func TestOnePolynomial(t *testing.T) {
	const n, threshold = 5, cluster.Threshold(3)
	var keys []PublicKey
	var shares [][]PublicKey
	parse := func(s SecretKey) PublicKey {
		t.Helper()
		raw, err := s.PubKey()
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePubKey(raw)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for range 3 {
		secret, err := GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		split, err := Split(secret, n, threshold)
		if err != nil {
			t.Fatal(err)
		}
		var row []PublicKey
		for _, s := range split {
			row = append(row, parse(s))
		}
		keys, shares = append(keys, parse(secret)), append(shares, row)
	}
	for count := 1; count <= 3; count++ {
		if err := OnePolynomial(keys[:count], shares[:count], threshold); err != nil {
			t.Fatalf("%d validators: %v", count, err)
		}
		// A polynomial of a lower degree fits a higher threshold too; a lower threshold doesn't.
		if err := OnePolynomial(keys[:count], shares[:count], threshold-1); err == nil {
			t.Errorf("%d validators: a threshold of %d passed", count, threshold-1)
		}
		for v := range count {
			for i := range n {
				bad := slices.Clone(shares[:count])
				bad[v] = slices.Clone(bad[v])
				bad[v][i] = shares[v][(i+1)%n]
				if err := OnePolynomial(keys[:count], bad, threshold); err == nil {
					t.Errorf("share %d of validator %d was changed, and %d validators passed", i+1, v, count)
				}
			}
			bad := slices.Clone(keys[:count])
			bad[v] = shares[v][0]
			if err := OnePolynomial(bad, shares[:count], threshold); err == nil {
				t.Errorf("the key of validator %d was changed, and %d validators passed", v, count)
			}
		}
	}
	if err := OnePolynomial([]PublicKey{keys[1], keys[0]}, shares[:2], threshold); err == nil {
		t.Error("exchanged keys passed")
	}
	for name, err := range map[string]error{
		"nothing": OnePolynomial(nil, nil, 2), "threshold 1": OnePolynomial(keys[:1], shares[:1], 1), "threshold above": OnePolynomial(keys[:1], shares[:1], n+1),
		"uneven": OnePolynomial(keys[:2], [][]PublicKey{shares[0], shares[1][1:]}, threshold), "no key": OnePolynomial(make([]PublicKey, 1), shares[:1], threshold),
		"no share": OnePolynomial(keys[:1], [][]PublicKey{make([]PublicKey, n)}, threshold), "no sets": OnePolynomial(keys, shares[:1], threshold),
	} {
		if err == nil {
			t.Errorf("%s passed", name)
		}
	}
}

// BenchmarkVerifyMany against verifying each by itself.
func BenchmarkVerifyMany(b *testing.B) {
	batch := signedBatch(b, 64, 3)
	b.Run("together", func(b *testing.B) {
		for b.Loop() {
			if err := VerifyMany(batch); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("each", func(b *testing.B) {
		for b.Loop() {
			for _, k := range batch {
				for i, m := range k.Messages {
					if err := k.Signatures[i].Verify(k.Key, m); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	})
	b.Run("miller loops alone", func(b *testing.B) {
		for b.Loop() {
			millerLoops(batch)
		}
	})
}

// millerLoops makes the one pairing for each key that no check of them all can do without.
func millerLoops(batch []SignedMessages) {
	g1, g2 := make([]herumi.G1, len(batch)), make([]herumi.G2, len(batch))
	for i, b := range batch {
		g1[i], g2[i] = *herumi.CastFromPublicKey(b.Key.p), *herumi.CastFromSign(b.Signatures[0].p)
	}
	var e herumi.GT
	herumi.MillerLoopVec(&e, g1, g2)
}
