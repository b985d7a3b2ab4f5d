package create

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
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

// BenchmarkVerifyThousand verifies a lock of 1,000 validators for 4 nodes, with a registration and two
// deposits each: 3,000 signatures, 5,000 keys, 2,000 recoveries. The second part is what no check of
// them all can do without: reading each signature and key, and one pairing for each validator.
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
	b.Run(fmt.Sprintf("validators=%d", validators), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r, err := Verify(b.Context(), path, Options{})
			if err != nil || !r.OK() {
				b.Fatal(err, failedIDs(r))
			}
		}
	})
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			if err := json.Unmarshal(raw, new(cluster.Lock)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("hash", func(b *testing.B) {
		for b.Loop() {
			if _, err := lock.ComputeHash(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
