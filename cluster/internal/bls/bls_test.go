package bls

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"app.provost/cluster"
)

func mustKey(t testing.TB) SecretKey {
	t.Helper()
	k, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Key and signature of the consensus-spec-tests style vector: secret 0x263d…, message 32 zero bytes.
func TestKnownSignature(t *testing.T) {
	raw, _ := hex.DecodeString("263dbd792f5b1be47ed85f8938c0f29586af0d3ac7b977f21c278fe1462040e3")
	key, err := SecretKeyFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.PubKey()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := pub.String(), "0xa491d1b0ecd9bb917989f0e74f0dea0422eac4a873e5e2644f368dffb9a6e20fd6e10c1b77654d067c0618f6e5a7f79a"; got != want {
		t.Errorf("public key %s, want %s", got, want)
	}
	sig, err := key.Sign(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := sig.String(), "0xb6ed936746e01f8ecf281f020953fbf1f01debd5657c4a383940b020b26507f6076334f91e2366c96e9ab279fb5158090352ea1c5b0c9274504f4f0e7053af24802e51e4568d164fe986834f41e55c8e850ce1f98458c0cfc9ab380b55285a55"; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	back, err := key.Export()
	if err != nil || !bytes.Equal(back, raw) {
		t.Errorf("the key doesn't come back as it went in: %v", err)
	}
}

func TestSplitAnyThresholdRecovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, size := range []struct{ n, t int }{{3, 2}, {4, 3}, {6, 5}, {7, 5}, {10, 7}, {5, 5}} {
		t.Run(fmt.Sprintf("%d of %d", size.t, size.n), func(t *testing.T) {
			secret := mustKey(t)
			group, _ := secret.PubKey()
			shares, err := Split(secret, size.n, cluster.Threshold(size.t))
			if err != nil {
				t.Fatal(err)
			}
			msg := []byte("a message")
			for range 8 {
				perm := rng.Perm(size.n)
				for _, take := range []int{size.t - 1, size.t, size.n} {
					secrets := map[cluster.ShareIndex]SecretKey{}
					publics := map[cluster.ShareIndex]PublicKey{}
					partials := map[cluster.ShareIndex]cluster.Signature{}
					for _, i := range perm[:take] {
						idx := cluster.PeerIndex(i).Share()
						secrets[idx] = shares[i]
						pub, _ := shares[i].PubKey()
						publics[idx], _ = ParsePubKey(pub)
						partials[idx], _ = shares[i].Sign(msg)
					}
					if take < 2 {
						if _, err := RecoverSecret(secrets); err == nil {
							t.Error("one share alone was interpolated")
						}
						continue
					}
					got, err := RecoverSecret(secrets)
					if err != nil {
						t.Fatal(err)
					}
					pub, err := RecoverPubKey(publics)
					if err != nil {
						t.Fatal(err)
					}
					sig, err := CombineThreshold(partials)
					if err != nil {
						t.Fatal(err)
					}
					enough := take >= size.t
					if got.Equal(secret) != enough || (pub == group) != enough || (Verify(group, msg, sig) == nil) != enough {
						t.Errorf("%d of %d shares: secret %v, public key %v, signature %v; want all %v",
							take, size.n, got.Equal(secret), pub == group, Verify(group, msg, sig), enough)
					}
				}
			}
		})
	}
}

func TestSplitRefuses(t *testing.T) {
	key := mustKey(t)
	for _, size := range []struct{ n, t int }{{4, 1}, {4, 0}, {4, 5}, {0, 0}, {4, -1}, {300, 200}} {
		if _, err := Split(key, size.n, cluster.Threshold(size.t)); err == nil {
			t.Errorf("%d of %d was accepted", size.t, size.n)
		}
	}
	if _, err := Split(SecretKey{}, 4, 3); !errors.Is(err, ErrZeroised) {
		t.Errorf("no key: %v", err)
	}
}

func TestAggregateIsThePlainSum(t *testing.T) {
	msg := []byte("lock hash")
	var sigs []cluster.Signature
	var keys []PublicKey
	var sum KeySum
	for range 5 {
		k := mustKey(t)
		sig, _ := k.Sign(msg)
		pub, _ := k.PubKey()
		parsed, err := ParsePubKey(pub)
		if err != nil {
			t.Fatal(err)
		}
		sigs, keys = append(sigs, sig), append(keys, parsed)
		if err := sum.Add(k); err != nil {
			t.Fatal(err)
		}
	}
	agg, err := Aggregate(sigs)
	if err != nil {
		t.Fatal(err)
	}
	if err := FastAggregateVerify(keys, msg, agg); err != nil {
		t.Error(err)
	}
	if got, err := sum.Sign(msg); err != nil || got != agg {
		t.Errorf("the signature of the summed key isn't the sum of the signatures (%v)", err)
	}
	if err := FastAggregateVerify(keys[1:], msg, agg); !errors.Is(err, ErrVerify) {
		t.Errorf("a key is missing: %v", err)
	}
	if err := FastAggregateVerify(nil, msg, agg); !errors.Is(err, ErrVerify) {
		t.Errorf("no keys: %v", err)
	}
	if _, err := Aggregate(nil); err == nil {
		t.Error("an aggregate of nothing")
	}
	sum.Wipe()
	if _, err := sum.Sign(msg); !errors.Is(err, ErrZeroised) {
		t.Errorf("wiped sum: %v", err)
	}
}

func TestForeignBytesAreRefused(t *testing.T) {
	infinityKey, infinitySig := cluster.PubKey{0: 0xc0}, cluster.Signature{0: 0xc0}
	if _, err := ParsePubKey(infinityKey); !errors.Is(err, ErrBadPubKey) {
		t.Errorf("infinity as a key: %v", err)
	}
	key := mustKey(t)
	pub, _ := key.PubKey()
	if err := Verify(pub, []byte("m"), infinitySig); !errors.Is(err, ErrBadSignature) {
		t.Errorf("infinity as a signature: %v", err)
	}
	// A point on the curve but not in the group: x = 4 gives one.
	if _, err := ParsePubKey(cluster.PubKey{0: 0x80, 47: 4}); !errors.Is(err, ErrBadPubKey) {
		t.Errorf("point outside the subgroup: %v", err)
	}
	order, _ := hex.DecodeString("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001")
	for _, raw := range [][]byte{nil, make([]byte, 32), make([]byte, 31), order, bytes.Repeat([]byte{0xff}, 32)} {
		if _, err := SecretKeyFromBytes(raw); !errors.Is(err, ErrBadSecret) || strings.Contains(err.Error(), "ff") {
			t.Errorf("secret of %d bytes: %v", len(raw), err)
		}
	}
}

func TestSecretCannotLeak(t *testing.T) {
	raw := bytes.Repeat([]byte{0x5a}, 32)
	key, err := SecretKeyFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	var sum KeySum
	if err := sum.Add(key); err != nil {
		t.Fatal(err)
	}
	type outer struct {
		Key    SecretKey
		hidden SecretKey
		list   []SecretKey
		sum    *KeySum
	}
	o := outer{key, key, []SecretKey{key}, &sum}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", key, "outer", o)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", key, "outer", o)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
		fmt.Fprintf(&log, verb+" "+verb+" "+verb+" "+verb+"\n", key, &key, o, &sum)
	}
	if _, err := json.Marshal(o); err == nil {
		t.Error("a secret was encoded as JSON")
	} else {
		log.WriteString(err.Error())
	}
	// The library keeps scalars in Montgomery form, so look for those words too.
	leaks := append(strings.Fields(strings.Trim(fmt.Sprint(**key.k), "{}[]")), "5a5a5a5a", "5A5A5A5A", "ZZZZ", "90 90 90")
	if len(leaks) != 8 {
		t.Fatalf("the library's scalar prints as %v", **key.k)
	}
	for _, leak := range leaks {
		if strings.Contains(log.String(), leak) {
			t.Errorf("output contains %q:\n%s", leak, log.String())
		}
	}
	copied := key
	copied.Wipe()
	if _, err := key.Export(); !errors.Is(err, ErrZeroised) {
		t.Errorf("a wiped key was exported: %v", err)
	}
	if _, err := key.Sign([]byte("m")); !errors.Is(err, ErrZeroised) {
		t.Errorf("a wiped key signed: %v", err)
	}
	SecretKey{}.Wipe()
}

// Callers keep hashes and keys in structs that have pointers too, which cgo would refuse.
func TestBytesBesidePointers(t *testing.T) {
	type record struct {
		name *string
		msg  [32]byte
		raw  [32]byte
		sig  cluster.Signature
		pub  cluster.PubKey
	}
	name := "x"
	r := &record{name: &name, msg: [32]byte{1}, raw: [32]byte{31: 7}}
	key, err := SecretKeyFromBytes(r.raw[:])
	if err != nil {
		t.Fatal(err)
	}
	if r.raw != [32]byte{31: 7} {
		t.Error("the caller's bytes were changed")
	}
	if r.sig, err = key.Sign(r.msg[:]); err != nil {
		t.Fatal(err)
	}
	r.pub, _ = key.PubKey()
	if err := Verify(r.pub, r.msg[:], r.sig); err != nil {
		t.Error(err)
	}
	parsed, _ := ParsePubKey(r.pub)
	if err := FastAggregateVerify([]PublicKey{parsed}, r.msg[:], r.sig); err != nil {
		t.Error(err)
	}
}

func TestConcurrentUse(t *testing.T) {
	key := mustKey(t)
	pub, _ := key.PubKey()
	done := make(chan error)
	for i := range 8 {
		go func() {
			msg := []byte{byte(i + 1)}
			sig, err := key.Sign(msg)
			if err == nil {
				err = Verify(pub, msg, sig)
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	key := mustKey(b)
	pub, _ := key.PubKey()
	sig, _ := key.Sign([]byte("m"))
	for b.Loop() {
		if err := Verify(pub, []byte("m"), sig); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSplit4Of6(b *testing.B) {
	key := mustKey(b)
	for b.Loop() {
		if _, err := Split(key, 6, 4); err != nil {
			b.Fatal(err)
		}
	}
}
