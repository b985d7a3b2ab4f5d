package create

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"

	herumi "github.com/herumi/bls-eth-go-binary/bls"
	"golang.org/x/sys/unix"
)

// bigLock makes a lock of many validators from the sample's definition: fresh keys, everything
// signed, so that every check of it passes.
func bigLock(t testing.TB, validators int) *cluster.Lock {
	t.Helper()
	lock := lockOf(t, cluster.V1_10, false)
	s := readSecrets(t, ownSample)
	d := &lock.Definition
	addresses, template := d.Validators[0], lock.Validators[0]
	d.NumValidators, d.Validators, lock.Validators, s.shares = validators, nil, nil, nil
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range validators {
		d.Validators = append(d.Validators, addresses)
		key, err := bls.GenerateKey()
		must(err)
		shares, err := bls.Split(key, len(d.Operators), d.Threshold)
		must(err)
		dv := cluster.Validator{Registration: template.Registration}
		dv.PubKey, err = key.PubKey()
		must(err)
		for _, share := range shares {
			pub, err := share.PubKey()
			must(err)
			dv.PublicShares = append(dv.PublicShares, pub)
		}
		dv.Registration.Message.PubKey = dv.PubKey
		root, err := dv.Registration.Message.SigningRoot(d.ForkVersion)
		must(err)
		dv.Registration.Signature, err = key.Sign(root[:])
		must(err)
		for _, dep := range template.Deposits {
			dep.PubKey = dv.PubKey
			root := dep.SigningRoot(d.ForkVersion)
			dep.Signature, err = key.Sign(root[:])
			must(err)
			dv.Deposits = append(dv.Deposits, dep)
		}
		lock.Validators, s.shares = append(lock.Validators, dv), append(s.shares, shares)
	}
	s.seal(t, lock, false)
	return lock
}

// BenchmarkVerifyThousand verifies a lock of 1,000 validators for 4 nodes without keystores, with a
// registration and two deposits each: 5,000 keys, 3,000 signatures. The part "least" is what no check
// of them all can do without: reading each key and signature, mapping each message to the curve, and
// one Miller loop for each key. The metric cpu-ms/op is processor time, which a busy machine doesn't
// change; ratio compares the two.
func BenchmarkVerifyThousand(b *testing.B) {
	const validators = 1000
	lock := bigLock(b, validators)
	raw, err := lock.Encode()
	if err != nil {
		b.Fatal(err)
	}
	path := b.TempDir() + "/" + LockFileName
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		b.Fatal(err)
	}
	verify := 0.0
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		verify = cpuOf(b, func() {
			r, err := Verify(b.Context(), path, Options{})
			if err != nil || !r.OK() {
				b.Fatal(err, failedIDs(r))
			}
		})
	})
	b.Run("least", func(b *testing.B) {
		least := cpuOf(b, func() { leastWork(b, lock) })
		if verify > 0 {
			b.ReportMetric(verify/least, "ratio")
		}
	})
	b.Run("parse", func(b *testing.B) {
		cpuOf(b, func() {
			if err := json.Unmarshal(raw, new(cluster.Lock)); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// cpuOf runs a benchmark's loop and reports the processor time of one round in milliseconds.
func cpuOf(b *testing.B, do func()) float64 {
	b.Helper()
	before := processorTime(b)
	n := 0
	for b.Loop() {
		do()
		n++
	}
	ms := float64((processorTime(b) - before).Microseconds()) / 1000 / float64(n)
	b.ReportMetric(ms, "cpu-ms/op")
	return ms
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func leastWork(b *testing.B, lock *cluster.Lock) {
	b.Helper()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	g1, g2 := make([]herumi.G1, len(lock.Validators)), make([]herumi.G2, len(lock.Validators))
	for v, dv := range lock.Validators {
		for _, k := range append([]cluster.PubKey{dv.PubKey}, dv.PublicShares...) {
			_, err := bls.ParsePubKey(k)
			must(err)
		}
		root, err := dv.Registration.Message.SigningRoot(lock.Definition.ForkVersion)
		must(err)
		roots, sigs := []cluster.Root{root}, []cluster.Signature{dv.Registration.Signature}
		for _, d := range dv.Deposits {
			roots, sigs = append(roots, d.SigningRoot(lock.Definition.ForkVersion)), append(sigs, d.Signature)
		}
		for i := range roots {
			_, err := bls.ParseSignature(sigs[i])
			must(err)
			g2[v] = *herumi.CastFromSign(herumi.HashAndMapToSignature(roots[i][:]))
		}
		var key herumi.PublicKey
		must(key.Deserialize(bytes.Clone(dv.PubKey[:]))) // cgo refuses memory beside Go pointers
		g1[v] = *herumi.CastFromPublicKey(&key)
	}
	var e herumi.GT
	herumi.MillerLoopVec(&e, g1, g2)
	herumi.FinalExp(&e, &e)
}
