package zkey_test

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"app.provost/assets"
	"app.provost/prover/zkey"
)

// subject is a key and a witness to measure with.
type subject struct {
	name    string
	key     *zkey.Key
	witness *zkey.Witness
}

// subjects are the practice circuits and, if PROVOST_BENCH_ZKEY and PROVOST_BENCH_WTNS name them, files of your own.
func subjects(b *testing.B) []subject {
	b.Helper()
	var all []subject
	for _, c := range assets.DemoCircuits() {
		key, err := c.Zkey()
		if err != nil {
			b.Fatal(err)
		}
		wtns, err := c.Witnesses[0].Wtns()
		if err != nil {
			b.Fatal(err)
		}
		k, err := zkey.New(bytes.NewReader(key), int64(len(key)))
		if err != nil {
			b.Fatal(err)
		}
		w, err := zkey.NewWitness(bytes.NewReader(wtns), int64(len(wtns)))
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, subject{c.Name, k, w})
	}
	if path := os.Getenv("PROVOST_BENCH_ZKEY"); path != "" {
		k, err := zkey.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { k.Close() })
		w, err := zkey.OpenWitness(os.Getenv("PROVOST_BENCH_WTNS"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { w.Close() })
		all = append(all, subject{fmt.Sprintf("file-%d", k.Header().Domain), k, w})
	}
	return all
}

func BenchmarkProve(b *testing.B) {
	for _, s := range subjects(b) {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/workers=%d", s.name, workers), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := zkey.Prove(b.Context(), s.key, s.witness, zkey.Options{Workers: workers}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(s.key.Header().Domain), "us/row")
			})
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, s := range subjects(b) {
		b.Run(s.name, func(b *testing.B) {
			for b.Loop() {
				if err := s.key.Check(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	s := subjects(b)[0]
	proof, public, err := zkey.Prove(b.Context(), s.key, s.witness, zkey.Options{})
	if err != nil {
		b.Fatal(err)
	}
	vk, err := s.key.VerifyingKey()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := zkey.Verify(vk, public, proof); err != nil {
			b.Fatal(err)
		}
	}
}
