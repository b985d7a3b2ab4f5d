package zkey

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"go.uber.org/goleak"

	"app.provost/prover"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sample(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keyOf(t testing.TB, data []byte) *Key {
	t.Helper()
	k, err := New(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func witnessOf(t testing.TB, data []byte) *Witness {
	t.Helper()
	w, err := NewWitness(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func verifyingKeyOf(t testing.TB, k *Key) *VerifyingKey {
	t.Helper()
	vk, err := k.VerifyingKey()
	if err != nil {
		t.Fatal(err)
	}
	return vk
}

// The files that snarkjs wrote are read, verified and written again byte for byte.
func TestSnarkjsFiles(t *testing.T) {
	proof, err := ParseProof(sample(t, "tiny.proof.json"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParsePublic(sample(t, "tiny.public.json"))
	if err != nil {
		t.Fatal(err)
	}
	vk, err := ParseVerifyingKey(sample(t, "tiny.vk.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(vk, public, proof); err != nil {
		t.Errorf("with the exported key: %v", err)
	}
	own := verifyingKeyOf(t, keyOf(t, sample(t, "tiny.zkey")))
	if !own.Equal(vk) {
		t.Error("the key of the .zkey is not the exported one")
	}
	if err := Verify(own, public, proof); err != nil {
		t.Errorf("with the key of the .zkey: %v", err)
	}
	for name, v := range map[string]any{"tiny.proof.json": proof, "tiny.public.json": public} {
		got, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if want := sample(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s is written as\n%s\ninstead of\n%s", name, got, want)
		}
	}
	// The exported key has one field more, which nobody needs; all others are the same.
	var want, got map[string]any
	data, err := json.Marshal(own)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(json.Unmarshal(data, &got), json.Unmarshal(sample(t, "tiny.vk.json"), &want)); err != nil {
		t.Fatal(err)
	}
	delete(want, "vk_alphabeta_12")
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("verification key written as\n%v\ninstead of\n%v", got, want)
	}
	again, err := ParseVerifyingKey(data)
	if err != nil || !again.Equal(own) {
		t.Errorf("own verification key is not read back: %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	proof, err := ParseProof(sample(t, "tiny.proof.json"))
	if err != nil {
		t.Fatal(err)
	}
	vk, err := ParseVerifyingKey(sample(t, "tiny.vk.json"))
	if err != nil {
		t.Fatal(err)
	}
	edge := verifyingKeyOf(t, keyOf(t, sample(t, "edge.zkey")))
	signals := func(v ...uint64) Public {
		p := make(Public, len(v))
		for i := range v {
			p[i].SetUint64(v[i])
		}
		return p
	}
	good := signals(33, 14)
	if err := Verify(vk, good, proof); err != nil {
		t.Fatal(err)
	}
	swapped := &Proof{a: proof.c, b: proof.b, c: proof.a}
	negated := *proof
	negated.a.Neg(&negated.a)
	offCurve := *proof
	offCurve.c.X.SetUint64(1)
	offCurve.c.Y.SetUint64(1)
	for name, err := range map[string]error{
		"another signal":        Verify(vk, signals(34, 14), proof),
		"signals exchanged":     Verify(vk, signals(14, 33), proof),
		"one signal":            Verify(vk, good[:1], proof),
		"three signals":         Verify(vk, signals(33, 14, 0), proof),
		"no signals":            Verify(vk, nil, proof),
		"signal not reduced":    Verify(vk, Public{fr.Element(frModulus), good[1]}, proof),
		"key of other circuit":  Verify(edge, nil, proof),
		"points exchanged":      Verify(vk, good, swapped),
		"point negated":         Verify(vk, good, &negated),
		"point off the curve":   Verify(vk, good, &offCurve),
		"G2 outside the group":  Verify(vk, good, &Proof{a: proof.a, b: outsideG2(t), c: proof.c}),
		"nothing":               Verify(vk, good, &Proof{}),
		"no proof":              Verify(vk, good, nil),
		"no key":                Verify(nil, good, proof),
		"key without any point": Verify(&VerifyingKey{}, nil, proof),
	} {
		if !errors.Is(err, ErrProofInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// outsideG2 is a point on the second curve that is not in the group.
func outsideG2(t testing.TB) bn254.G2Affine {
	t.Helper()
	var p bn254.G2Affine
	for i := uint64(1); ; i++ {
		p.X.A0.SetUint64(i)
		var y2 bn254.E2
		y2.Square(&p.X)
		y2.Mul(&y2, &p.X)
		y2.Add(&y2, &twistB)
		if y2.Legendre() != 1 {
			continue
		}
		p.Y.Sqrt(&y2)
		if p.IsOnCurve() && !p.IsInSubGroup() {
			return p
		}
	}
}

func TestProve(t *testing.T) {
	for _, c := range []struct {
		key, witness string
		public       string
	}{
		{"tiny.zkey", "tiny.wtns", `["33","14"]`},
		{"tiny.zkey", "tiny-2.wtns", `["35","12"]`},
		{"edge.zkey", "edge.wtns", `[]`},
	} {
		t.Run(c.witness, func(t *testing.T) {
			k, err := Open(filepath.Join("testdata", c.key))
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			w, err := OpenWitness(filepath.Join("testdata", c.witness))
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			ctx := t.Context()
			if err := errors.Join(k.Check(ctx), w.Check(ctx)); err != nil {
				t.Fatal(err)
			}
			vk := verifyingKeyOf(t, k)
			var first *Proof
			for _, workers := range []int{0, 1, 2, 7, 5000} {
				proof, public, err := Prove(ctx, k, w, Options{Workers: workers})
				if err != nil {
					t.Fatal(err)
				}
				if err := Verify(vk, public, proof); err != nil {
					t.Errorf("%d workers: %v", workers, err)
				}
				if got, _ := json.Marshal(public); string(got) != c.public {
					t.Errorf("%d workers: signals %s, want %s", workers, got, c.public)
				}
				data, err := json.Marshal(proof)
				if err != nil {
					t.Fatal(err)
				}
				if back, err := ParseProof(data); err != nil || *back != *proof {
					t.Errorf("proof is not read back: %v", err)
				}
				if first == nil {
					first = proof
				} else if *first == *proof {
					t.Error("two proofs are the same: nothing blinds them")
				}
			}
			// With the same blinding the number of workers changes nothing.
			var r, s fr.Element
			r.SetUint64(5)
			s.SetUint64(7)
			one, _, err := prove(ctx, k, w, Options{Workers: 1}, &r, &s)
			if err != nil {
				t.Fatal(err)
			}
			many, _, err := prove(ctx, k, w, Options{Workers: 3}, &r, &s)
			if err != nil {
				t.Fatal(err)
			}
			blocks, _, err := prove(ctx, k, w, Options{Workers: 2, block: 2}, &r, &s)
			if err != nil {
				t.Fatal(err)
			}
			if *one != *many || *one != *blocks {
				t.Error("another number of workers or another size of blocks gives another proof")
			}
			if err := k.check(ctx, 2); err != nil {
				t.Errorf("Check in small blocks: %v", err)
			}
		})
	}
}

func TestProveConcurrently(t *testing.T) {
	k := keyOf(t, sample(t, "tiny.zkey"))
	w := witnessOf(t, sample(t, "tiny.wtns"))
	vk := verifyingKeyOf(t, k)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			proof, public, err := Prove(t.Context(), k, w, Options{Workers: 2})
			if err == nil {
				err = Verify(vk, public, proof)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestProgress(t *testing.T) {
	k := keyOf(t, sample(t, "tiny.zkey"))
	w := witnessOf(t, sample(t, "tiny.wtns"))
	var phases []prover.Phase
	var last Progress
	_, _, err := Prove(t.Context(), k, w, Options{OnProgress: func(p Progress) {
		if p.Done < last.Done || p.Done > p.Total || p.Total <= 0 || last.Total != 0 && p.Total != last.Total {
			t.Errorf("%+v after %+v", p, last)
		}
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
		last = p
	}})
	if err != nil {
		t.Fatal(err)
	}
	if last.Done != last.Total {
		t.Errorf("ended at %+v", last)
	}
	if !slices.Equal(phases, Phases()) {
		t.Errorf("phases %v, want %v", phases, Phases())
	}
}

// Whatever is reported last before a cancellation, the call ends with its cause and without a proof.
func TestCancel(t *testing.T) {
	k := keyOf(t, sample(t, "tiny.zkey"))
	w := witnessOf(t, sample(t, "tiny.wtns"))
	reports := 0
	if _, _, err := Prove(t.Context(), k, w, Options{OnProgress: func(Progress) { reports++ }}); err != nil {
		t.Fatal(err)
	}
	if reports < len(Phases())*2 {
		t.Fatalf("only %d reports", reports)
	}
	cause := errors.New("drained")
	for at := range reports - 1 { // the last report says that the proof is complete
		ctx, cancel := context.WithCancelCause(t.Context())
		n := 0
		proof, _, err := Prove(ctx, k, w, Options{Workers: 2, OnProgress: func(Progress) {
			if n == at {
				cancel(cause)
			}
			n++
		}})
		if !errors.Is(err, cause) || proof != nil {
			t.Errorf("cancelled at report %d: proof %v, error %v", at, proof, err)
		}
		cancel(nil)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Check: %v", err)
	}
	if err := w.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Witness.Check: %v", err)
	}
	if _, err := k.Digest(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Digest: %v", err)
	}
}

func TestDigest(t *testing.T) {
	k := keyOf(t, sample(t, "tiny.zkey"))
	d, err := k.Digest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// sha256sum testdata/tiny.zkey
	if want := tinyDigest; d.String() != want {
		t.Errorf("digest %s, want %s", d, want)
	}
}

func TestHeaderAndBudget(t *testing.T) {
	h := keyOf(t, sample(t, "tiny.zkey")).Header()
	if want := (Header{Vars: 5, Public: 2, Domain: 8, Coefs: 5, Bytes: int64(len(sample(t, "tiny.zkey")))}); h != want {
		t.Errorf("header %+v, want %+v", h, want)
	}
	h = Header{Domain: 1 << 14, Bytes: 7 << 20}
	one, two := h.Budget(1), h.Budget(2)
	if one.Time != 695360*time.Microsecond || two.Time*2 != one.Time || h.Budget(0) != one {
		t.Errorf("time of 2^14 on one core %v, on two %v", one.Time, two.Time)
	}
	if one.MemoryBytes != 55<<20 {
		t.Errorf("memory of 2^14: %d bytes", one.MemoryBytes)
	}
}

// A witness that does not satisfy the circuit gives a proof, and the proof does not verify.
func TestWrongWitness(t *testing.T) {
	k := keyOf(t, sample(t, "tiny.zkey"))
	data := sample(t, "tiny.wtns")
	values := len(data) - 5*fieldBytes
	for wire := 1; wire < 5; wire++ {
		bad := slices.Clone(data)
		bad[values+wire*fieldBytes]++
		w := witnessOf(t, bad)
		if err := w.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		proof, public, err := Prove(t.Context(), k, w, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(verifyingKeyOf(t, k), public, proof); !errors.Is(err, ErrProofInvalid) {
			t.Errorf("wire %d changed: %v", wire, err)
		}
	}
}

// try goes the whole way that files go in production and says where it ended.
func try(key, witness []byte) error {
	k, err := New(bytes.NewReader(key), int64(len(key)))
	if err != nil {
		return err
	}
	w, err := NewWitness(bytes.NewReader(witness), int64(len(witness)))
	if err != nil {
		return err
	}
	vk, err := k.VerifyingKey()
	if err != nil {
		return err
	}
	proof, public, err := Prove(context.Background(), k, w, Options{Workers: 1})
	if err != nil {
		return err
	}
	return Verify(vk, public, proof)
}

func typed(err error) bool {
	for _, kind := range []error{ErrNotZkey, ErrNotWitness, ErrDamaged, ErrUnsupported, ErrWrongCurve, ErrWitnessMismatch, ErrProofInvalid} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// One changed byte anywhere in a key is an error or a proof that does not verify: nothing else. Only the record of the
// ceremony at the end of a key, which proves nothing here, may change unnoticed.
func TestFlippedBytes(t *testing.T) {
	key, witness := sample(t, "tiny.zkey"), sample(t, "tiny.wtns")
	if err := try(key, witness); err != nil {
		t.Fatal(err)
	}
	record := keyOf(t, key).sections[10]
	for i := range key {
		if i >= int(record.off) || i >= int(record.off)-12 && i < int(record.off)-8 {
			continue
		}
		bad := slices.Clone(key)
		bad[i] ^= 1 << (i % 8)
		if err := try(bad, witness); !typed(err) {
			t.Errorf("byte %d of the key: %v", i, err)
		}
	}
	for i := range witness {
		bad := slices.Clone(witness)
		bad[i] ^= 1 << (i % 8)
		if err := try(key, bad); !typed(err) {
			t.Errorf("byte %d of the witness: %v", i, err)
		}
	}
}

// Damage to a point is noticed while proving, before there is a proof, and by Check.
func TestDamagedPoints(t *testing.T) {
	key := sample(t, "tiny.zkey")
	sections := keyOf(t, key).sections
	w := witnessOf(t, sample(t, "tiny.wtns"))
	for _, id := range []uint32{secIC, secA, secB1, secB2, secC, secH} {
		bad := slices.Clone(key)
		bad[sections[id].off+5] ^= 1
		k := keyOf(t, bad)
		if err := k.Check(t.Context()); !errors.Is(err, ErrDamaged) {
			t.Errorf("section %d: Check says %v", id, err)
		}
		if id == secIC {
			if _, err := k.VerifyingKey(); !errors.Is(err, ErrDamaged) {
				t.Errorf("section %d: VerifyingKey says %v", id, err)
			}
			continue
		}
		if _, _, err := Prove(t.Context(), k, w, Options{}); !errors.Is(err, ErrDamaged) {
			t.Errorf("section %d: Prove says %v", id, err)
		}
	}
}

func TestTruncated(t *testing.T) {
	key, witness := sample(t, "tiny.zkey"), sample(t, "tiny.wtns")
	for n := range key {
		_, err := New(bytes.NewReader(key), int64(n))
		if want := kindOf(n, ErrNotZkey); !errors.Is(err, want) {
			t.Errorf("key cut to %d bytes: %v", n, err)
		}
	}
	for n := range witness {
		_, err := NewWitness(bytes.NewReader(witness), int64(n))
		if want := kindOf(n, ErrNotWitness); !errors.Is(err, want) {
			t.Errorf("witness cut to %d bytes: %v", n, err)
		}
	}
}

func kindOf(n int, foreign error) error {
	if n < 4 {
		return foreign
	}
	return ErrDamaged
}

// A file that is cut off after it was opened is an error, not a crash.
func TestCutWhileOpen(t *testing.T) {
	for _, name := range []string{"tiny.zkey", "tiny.wtns"} {
		dir := t.TempDir()
		for _, f := range []string{"tiny.zkey", "tiny.wtns"} {
			if err := os.WriteFile(filepath.Join(dir, f), sample(t, f), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		k, err := Open(filepath.Join(dir, "tiny.zkey"))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		w, err := OpenWitness(filepath.Join(dir, "tiny.wtns"))
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := os.Truncate(filepath.Join(dir, name), 150); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Prove(t.Context(), k, w, Options{}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s cut: %v", name, err)
		}
	}
}

// with returns a copy in which the bytes at an offset are replaced.
func with(data []byte, off int64, b ...byte) []byte {
	data = slices.Clone(data)
	copy(data[off:], b)
	return data
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// What an operator can meet, with the words he meets it in.
func TestMessages(t *testing.T) {
	key, witness := sample(t, "tiny.zkey"), sample(t, "tiny.wtns")
	header := keyOf(t, key).sections[secHeader].off
	counts := header + 2*(4+fieldBytes)
	coefs := keyOf(t, key).sections[secCoefs].off
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	goodKey, goodWitness := write("good.zkey", key), write("good.wtns", witness)
	edge := write("edge.wtns", sample(t, "edge.wtns"))

	cases := []struct {
		name         string
		key, witness string
		kind         error
	}{
		{"absent key", filepath.Join(dir, "absent"), goodWitness, fs.ErrNotExist},
		{"absent witness", goodKey, filepath.Join(dir, "absent"), fs.ErrNotExist},
		{"directory", dir, goodWitness, nil},
		{"empty key", write("empty", nil), goodWitness, ErrNotZkey},
		{"witness as key", goodWitness, goodWitness, ErrNotZkey},
		{"key as witness", goodKey, goodKey, ErrNotWitness},
		{"key cut", write("cut.zkey", key[:len(key)-700]), goodWitness, ErrDamaged},
		{"key too long", write("long.zkey", append(slices.Clone(key), 0)), goodWitness, ErrDamaged},
		{"newer key", write("new.zkey", with(key, 4, 2)), goodWitness, ErrUnsupported},
		{"plonk", write("plonk.zkey", with(key, 24, 2)), goodWitness, ErrUnsupported},
		{"fflonk", write("fflonk.zkey", with(key, 24, 10)), goodWitness, ErrUnsupported},
		{"unknown protocol", write("protocol.zkey", with(key, 24, 77)), goodWitness, ErrDamaged},
		{"key of BLS12-381", "testdata/bls12381.zkey", goodWitness, ErrWrongCurve},
		{"witness of BLS12-381", goodKey, "testdata/bls12381.wtns", ErrWrongCurve},
		{"many sections", write("sections.zkey", with(key, 8, le32(1<<31)...)), goodWitness, ErrDamaged},
		{"huge section", write("section.zkey", with(key, 16, bytes.Repeat([]byte{0xff}, 8)...)), goodWitness, ErrDamaged},
		{"section twice", write("twice.zkey", with(key, 28, 1)), goodWitness, ErrDamaged},
		{"section missing", write("missing.zkey", with(key, header+660, 99)), goodWitness, ErrDamaged},
		{"huge counts", write("vars.zkey", with(key, counts, le32(1<<28)...)), goodWitness, ErrDamaged},
		{"counts beyond the limits", write("limits.zkey", with(key, counts, le32(1<<31)...)), goodWitness, ErrUnsupported},
		{"domain no power of two", write("domain.zkey", with(key, counts+8, 7)), goodWitness, ErrDamaged},
		{"more signals than wires", write("public.zkey", with(key, counts+4, 5)), goodWitness, ErrDamaged},
		{"header point", write("alpha.zkey", with(key, counts+12, 0xaa)), goodWitness, ErrDamaged},
		{"many coefficients", write("coefs.zkey", with(key, coefs, le32(1<<32-1)...)), goodWitness, ErrDamaged},
		{"coefficient outside", write("coef.zkey", with(key, coefs+4+8, le32(5)...)), goodWitness, ErrDamaged},
		{"third matrix", write("matrix.zkey", with(key, coefs+4, 2)), goodWitness, ErrDamaged},
		{"other circuit", goodKey, edge, ErrWitnessMismatch},
		{"older witness", goodKey, write("old.wtns", with(witness, 4, 1)), ErrUnsupported},
		{"witness cut", goodKey, write("cut.wtns", witness[:100]), ErrDamaged},
		{"value too large", goodKey, write("value.wtns", with(witness, int64(len(witness)-8), bytes.Repeat([]byte{0xff}, 8)...)), ErrDamaged},
		{"first value", goodKey, write("one.wtns", with(witness, int64(len(witness)-5*fieldBytes), 2)), ErrDamaged},
	}
	var out strings.Builder
	for _, c := range cases {
		err := func() error {
			k, err := Open(c.key)
			if err != nil {
				return err
			}
			defer k.Close()
			w, err := OpenWitness(c.witness)
			if err != nil {
				return err
			}
			defer w.Close()
			_, _, err = Prove(t.Context(), k, w, Options{})
			return err
		}()
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		fmt.Fprintf(&out, "%s\n    %s\n", c.name, strings.ReplaceAll(err.Error(), dir, "DIR"))
	}
	golden(t, "messages.golden", out.String())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(sample(t, name)); got != want {
		t.Errorf("differs from %s (run with -update to accept):\n%s", name, got)
	}
}

func TestParseRefuses(t *testing.T) {
	proof, public, vk := string(sample(t, "tiny.proof.json")), string(sample(t, "tiny.public.json")), string(sample(t, "tiny.vk.json"))
	good, err := ParseProof([]byte(proof))
	if err != nil {
		t.Fatal(err)
	}
	x := fpString(&good.a.X)
	sub := func(s, old, repl string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("the sample has no %q", old)
		}
		return strings.Replace(s, old, repl, 1)
	}
	parseProof := func(s string) error { _, err := ParseProof([]byte(s)); return err }
	parsePublic := func(s string) error { _, err := ParsePublic([]byte(s)); return err }
	parseKey := func(s string) error { _, err := ParseVerifyingKey([]byte(s)); return err }
	outside := outsideG2(t)
	outsideJSON, err := json.Marshal(&Proof{a: good.a, b: outside, c: good.c})
	if err != nil {
		t.Fatal(err)
	}
	infinite, err := json.Marshal(&Proof{})
	if err != nil {
		t.Fatal(err)
	}
	aboveP, _ := new(big.Int).SetString(x, 10)
	aboveP.Add(aboveP, bn254Prime)

	for _, c := range []struct {
		name string
		err  error
		kind error
	}{
		{"proof: nothing", parseProof(""), ErrMalformed},
		{"proof: null", parseProof("null"), ErrUnsupported},
		{"proof: list", parseProof("[]"), ErrMalformed},
		{"proof: cut", parseProof(proof[:400]), ErrMalformed},
		{"proof: twice", parseProof(proof + proof), ErrMalformed},
		{"proof: too long", parseProof(proof + strings.Repeat(" ", maxProofJSON)), ErrMalformed},
		{"proof: field", parseProof(sub(proof, `"protocol"`, `"more": 1, "protocol"`)), ErrMalformed},
		{"proof: number", parseProof(sub(proof, `"`+x+`"`, x)), ErrMalformed},
		{"proof: leading zero", parseProof(sub(proof, x, "0"+x)), ErrMalformed},
		{"proof: sign", parseProof(sub(proof, x, "+"+x)), ErrMalformed},
		{"proof: hex", parseProof(sub(proof, x, "0x10")), ErrMalformed},
		{"proof: not reduced", parseProof(sub(proof, x, aboveP.String())), ErrMalformed},
		{"proof: empty number", parseProof(sub(proof, x, "")), ErrMalformed},
		{"proof: long number", parseProof(sub(proof, x, strings.Repeat("9", 5000))), ErrMalformed},
		{"proof: off the curve", parseProof(sub(proof, x, "1")), ErrMalformed},
		{"proof: projective", parseProof(sub(proof, `"1"`, `"2"`)), ErrMalformed},
		{"proof: infinity", parseProof(string(infinite)), ErrMalformed},
		{"proof: G2 outside the group", parseProof(string(outsideJSON)), ErrMalformed},
		{"proof: protocol", parseProof(sub(proof, "groth16", "plonk")), ErrUnsupported},
		{"proof: curve", parseProof(sub(proof, "bn128", "bls12381")), ErrWrongCurve},
		{"public: nothing", parsePublic(""), ErrMalformed},
		{"public: null", parsePublic("null"), ErrMalformed},
		{"public: number", parsePublic("[33]"), ErrMalformed},
		{"public: prime", parsePublic(`["` + fr.Modulus().String() + `"]`), ErrMalformed},
		{"public: negative", parsePublic(`["-1"]`), ErrMalformed},
		{"public: too many", parsePublic(`["0"` + strings.Repeat(`,"0"`, maxPublic) + `]`), ErrMalformed},
		{"public: rest", parsePublic(public + "]"), ErrMalformed},
		{"key: nothing", parseKey("{}"), ErrUnsupported},
		{"key: count", parseKey(sub(vk, `"nPublic": 2`, `"nPublic": 3`)), ErrMalformed},
		{"key: negative count", parseKey(sub(vk, `"nPublic": 2`, `"nPublic": -1`)), ErrMalformed},
		{"key: curve", parseKey(sub(vk, "bn128", "bls12381")), ErrWrongCurve},
		{"key: point", parseKey(sub(vk, `"vk_alpha_1": [`, `"vk_alpha_1": ["1",`)), ErrMalformed},
	} {
		if !errors.Is(c.err, c.kind) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
}

// The points of a key are read as gnark-crypto means them, infinity and both ends of the field included.
func TestReadPoints(t *testing.T) {
	_, _, g1, g2 := bn254.Generators()
	var b [g2Bytes]byte
	put := func(off int, limbs [4]uint64) {
		for i, l := range limbs {
			binary.LittleEndian.PutUint64(b[off+8*i:], l)
		}
	}
	put(0, g1.X)
	put(fieldBytes, g1.Y)
	var p bn254.G1Affine
	if !readG1(b[:], &p) || p != g1 {
		t.Errorf("read %v instead of %v", p, g1)
	}
	put(0, g2.X.A0)
	put(32, g2.X.A1)
	put(64, g2.Y.A0)
	put(96, g2.Y.A1)
	var q bn254.G2Affine
	if !readG2(b[:], &q) || q != g2 {
		t.Errorf("read %v instead of %v", q, g2)
	}
	clear(b[:])
	if !readG1(b[:], &p) || !p.IsInfinity() || !readG2(b[:], &q) || !q.IsInfinity() {
		t.Error("infinity is not read")
	}
	put(0, fpModulus) // zero written another way
	if readG1(b[:], &p) || readG2(b[:], &q) {
		t.Error("a coordinate that is not reduced is read")
	}
	for _, m := range [][4]uint64{fpModulus, frModulus} {
		below := m
		below[0]--
		put(0, below)
		if _, ok := readLimbs(b[:], &m); !ok {
			t.Error("prime - 1 is refused")
		}
	}
}

var bn254Prime = func() *big.Int {
	b := make([]byte, fieldBytes)
	for i, l := range fpModulus {
		binary.BigEndian.PutUint64(b[fieldBytes-8*(i+1):], l)
	}
	return new(big.Int).SetBytes(b)
}()

const tinyDigest = "851829853e8808b244c6da47aa0682e28525cabbe594fc28b2a4088bb90f8825"
