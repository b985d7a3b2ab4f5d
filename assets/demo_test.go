package assets_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app.provost/assets"
	"app.provost/prover/zkey"
)

// Every practice circuit is what its description says, its witnesses fit and differ, and each of them proves.
func TestDemoCircuits(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range assets.DemoCircuits() {
		t.Run(c.Name, func(t *testing.T) {
			data, err := c.Zkey()
			if err != nil {
				t.Fatal(err)
			}
			k, err := zkey.New(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatal(err)
			}
			if h := k.Header(); h.Domain != c.Domain || c.Constraints+h.Public+1 > h.Domain || 2*(c.Constraints+h.Public+1) <= h.Domain {
				t.Errorf("%d constraints and a domain of %d, but the key has %+v", c.Constraints, c.Domain, h)
			}
			vk, err := k.VerifyingKey()
			if err != nil {
				t.Fatal(err)
			}
			exported, err := c.VerificationKey()
			if err != nil {
				t.Fatal(err)
			}
			fromJSON, err := zkey.ParseVerifyingKey(exported)
			if err != nil {
				t.Fatal(err)
			}
			if !vk.Equal(fromJSON) {
				t.Error("the exported verification key is not that of the proving key")
			}
			if len(c.Witnesses) < 2 {
				t.Errorf("%d witnesses; jobs would not differ", len(c.Witnesses))
			}
			for _, dw := range c.Witnesses {
				data, err := dw.Wtns()
				if err != nil {
					t.Fatal(err)
				}
				if seen[string(data)] {
					t.Errorf("%s is the same as another witness", dw.Name)
				}
				seen[string(data)] = true
				w, err := zkey.NewWitness(bytes.NewReader(data), int64(len(data)))
				if err != nil {
					t.Fatal(err)
				}
				proof, public, err := zkey.Prove(context.Background(), k, w, zkey.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if err := zkey.Verify(fromJSON, public, proof); err != nil {
					t.Errorf("%s: %v", dw.Name, err)
				}
			}
		})
	}
}

func TestWriteDemo(t *testing.T) {
	dir := t.TempDir()
	damaged := filepath.Join(dir, "small.zkey")
	if err := os.WriteFile(damaged, []byte("zkey"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := assets.WriteDemo(dir); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, c := range assets.DemoCircuits() {
		want[c.Name+".zkey"], want[c.Name+".vk.json"] = true, true
		for _, w := range c.Witnesses {
			want[w.Name+".wtns"] = true
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !want[e.Name()] {
			t.Errorf("%s was not announced", e.Name())
		}
		delete(want, e.Name())
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	k, err := zkey.Open(damaged)
	if err != nil {
		t.Fatalf("the damaged key was not replaced: %v", err)
	}
	k.Close()

	sums, err := os.ReadFile(filepath.Join("demo", "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(sums)), "\n")
	if len(lines) != len(entries) {
		t.Errorf("SHA256SUMS names %d files of %d", len(lines), len(entries))
	}
	for _, line := range lines {
		sum, name, _ := strings.Cut(line, "  ")
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != sum {
			t.Errorf("%s has the digest %s, SHA256SUMS says %s", name, got, sum)
		}
	}

	if err := assets.WriteDemo(filepath.Join(dir, "absent")); err == nil {
		t.Error("no error for a directory that does not exist")
	}
}
