package combine

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
)

var duty = cluster.Duty{Slot: 9, Type: cluster.DutyAttester}

// practice is a cluster whose secrets the test knows.
type practice struct {
	combiner   *Combiner
	validators []Validator
	shares     [][]bls.SecretKey
}

// rootOf signs what the data says, so that a test decides about roots.
func rootOf(_ cluster.Duty, _ cluster.PubKey, p cluster.ParSignedData) (r cluster.Root, err error) {
	if len(p.Data) == 0 {
		return r, errors.New("the data is empty")
	}
	copy(r[:], p.Data)
	return r, nil
}

func newPractice(t testing.TB, validators, nodes int, threshold cluster.Threshold, workers int) practice {
	t.Helper()
	p := practice{}
	for range validators {
		secret, err := bls.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		pub, err := secret.PubKey()
		if err != nil {
			t.Fatal(err)
		}
		shares, err := bls.Split(secret, nodes, threshold)
		if err != nil {
			t.Fatal(err)
		}
		v := Validator{PubKey: pub}
		for _, s := range shares {
			k, err := s.PubKey()
			if err != nil {
				t.Fatal(err)
			}
			v.Shares = append(v.Shares, k)
		}
		p.validators, p.shares = append(p.validators, v), append(p.shares, shares)
	}
	var err error
	if p.combiner, err = New(Options{Validators: p.validators, Threshold: threshold, Root: rootOf, Workers: workers}); err != nil {
		t.Fatal(err)
	}
	return p
}

// signed is the set of one node, over the root that root names per validator.
func (p practice) signed(t testing.TB, share cluster.ShareIndex, root func(v int) string) cluster.ParSignedDataSet {
	t.Helper()
	set := cluster.ParSignedDataSet{}
	for v, dv := range p.validators {
		data := []byte(root(v))
		r, _ := rootOf(duty, dv.PubKey, cluster.ParSignedData{Data: data})
		sig, err := p.shares[v][share-1].Sign(r[:])
		if err != nil {
			t.Fatal(err)
		}
		set[dv.PubKey] = cluster.ParSignedData{Data: data, Signature: sig, Share: share}
	}
	return set
}

func same(int) string      { return "one root for all" }
func each(v int) string    { return fmt.Sprintf("committee %d", v) }
func some(v int) string    { return fmt.Sprintf("committee %d", v%2) }
func other(int) string     { return "another root" }
func ctx() context.Context { return context.Background() }
func ready(sets ...cluster.ParSignedDataSet) map[cluster.PubKey][]cluster.ParSignedData {
	out := map[cluster.PubKey][]cluster.ParSignedData{}
	for _, set := range sets {
		for key, p := range set {
			out[key] = append(out[key], p)
		}
	}
	return out
}

func TestVerifyAndCombine(t *testing.T) {
	p := newPractice(t, 5, 4, 3, 2)
	for name, root := range map[string]func(int) string{"one root": same, "a root each": each, "two roots": some} {
		t.Run(name, func(t *testing.T) {
			var sets []cluster.ParSignedDataSet
			for _, share := range []cluster.ShareIndex{1, 2, 4} {
				set := p.signed(t, share, root)
				if err := p.combiner.Verify(ctx(), duty, set); err != nil {
					t.Fatal(err)
				}
				sets = append(sets, set)
			}
			got, err := p.combiner.Combine(ctx(), duty, ready(sets...))
			if err != nil || len(got) != 5 {
				t.Fatalf("%d combined, %v", len(got), err)
			}
			for v, dv := range p.validators {
				r, _ := rootOf(duty, dv.PubKey, cluster.ParSignedData{Data: []byte(root(v))})
				if err := bls.Verify(dv.PubKey, r[:], got[dv.PubKey].Signature); err != nil {
					t.Errorf("validator %d: %v", v, err)
				}
			}
			if n := len(p.combiner.points[duty]); n != 0 {
				t.Errorf("%d signatures are still kept", n)
			}
		})
	}
}

// Whoever the liar is among the validators, the message is refused and named.
func TestVerifyNamesTheWrongPartial(t *testing.T) {
	p := newPractice(t, 7, 4, 3, 2)
	key := func(v int) cluster.PubKey { return p.validators[v].PubKey }
	type spoil func(cluster.ParSignedDataSet)
	for name, x := range map[string]struct {
		spoil spoil
		want  error
		who   int // -1: any
	}{
		"another root's signature": {func(s cluster.ParSignedDataSet) {
			q := s[key(3)]
			q.Signature = p.signed(t, 2, other)[key(3)].Signature
			s[key(3)] = q
		}, ErrWrongPartial, 3},
		"another share's": {func(s cluster.ParSignedDataSet) { q := s[key(6)]; q.Share = 3; s[key(6)] = q }, ErrWrongPartial, 6},
		"two exchanged": {func(s cluster.ParSignedDataSet) {
			a, b := s[key(0)], s[key(1)]
			a.Signature, b.Signature = b.Signature, a.Signature
			s[key(0)], s[key(1)] = a, b
		}, ErrWrongPartial, -1},
		"no point":          {func(s cluster.ParSignedDataSet) { q := s[key(2)]; q.Signature = cluster.Signature{1}; s[key(2)] = q }, bls.ErrBadSignature, 2},
		"infinity":          {func(s cluster.ParSignedDataSet) { q := s[key(2)]; q.Signature = cluster.Signature{0xc0}; s[key(2)] = q }, bls.ErrBadSignature, 2},
		"share 0":           {func(s cluster.ParSignedDataSet) { q := s[key(5)]; q.Share = 0; s[key(5)] = q }, ErrUnknownShare, 5},
		"share 5":           {func(s cluster.ParSignedDataSet) { q := s[key(5)]; q.Share = 5; s[key(5)] = q }, ErrUnknownShare, 5},
		"no root":           {func(s cluster.ParSignedDataSet) { q := s[key(4)]; q.Data = nil; s[key(4)] = q }, nil, 4},
		"unknown validator": {func(s cluster.ParSignedDataSet) { s[cluster.PubKey{7}] = s[key(0)] }, ErrUnknownValidator, -1},
	} {
		t.Run(name, func(t *testing.T) {
			set := p.signed(t, 2, same)
			x.spoil(set)
			err := p.combiner.Verify(ctx(), duty, set)
			var pe *PartialError
			if !errors.As(err, &pe) || x.want != nil && !errors.Is(err, x.want) {
				t.Fatalf("%v, want %v", err, x.want)
			}
			if x.who >= 0 && pe.Validator != key(x.who) {
				t.Errorf("%s is accused, want validator %d", pe.Validator, x.who)
			}
			if len(p.combiner.points[duty]) != 0 {
				t.Error("something of a refused set was kept")
			}
		})
	}
	if err := p.combiner.Verify(ctx(), duty, nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("an empty set: %v", err)
	}
}

// A result that isn't the validator's signature never leaves, and doesn't keep the others.
func TestCombineLeavesOutWrongResults(t *testing.T) {
	p := newPractice(t, 6, 4, 3, 2)
	sets := []cluster.ParSignedDataSet{p.signed(t, 1, same), p.signed(t, 3, same), p.signed(t, 4, same)}
	k := p.validators[4].PubKey
	liar := sets[1][k]
	liar.Signature = sets[0][k].Signature // unverified, as if a peer's check had been passed by
	sets[1][k] = liar
	short := ready(sets...)
	short[p.validators[2].PubKey] = short[p.validators[2].PubKey][:2]
	short[cluster.PubKey{9}] = short[p.validators[1].PubKey]
	got, err := p.combiner.Combine(ctx(), duty, short)
	if len(got) != 4 || !errors.Is(err, ErrWrongResult) || !errors.Is(err, ErrUnknownValidator) {
		t.Fatalf("%d combined, %v", len(got), err)
	}
	if _, there := got[k]; there {
		t.Error("the wrong signature was handed out")
	}
	mixed := []cluster.ParSignedDataSet{p.signed(t, 1, same), p.signed(t, 3, same), p.signed(t, 4, other)}
	if got, err := p.combiner.Combine(ctx(), duty, ready(mixed...)); len(got) != 0 || err == nil {
		t.Errorf("different roots gave %d signatures", len(got))
	}
}

func TestInsertAndDrop(t *testing.T) {
	p := newPractice(t, 1, 4, 2, 1)
	p.combiner.o.Insert = func(_ cluster.Duty, partials []cluster.ParSignedData, sig cluster.Signature) ([]byte, error) {
		return append(append([]byte(nil), partials[0].Data...), sig[0]), nil
	}
	sets := []cluster.ParSignedDataSet{p.signed(t, 1, same), p.signed(t, 2, same)}
	for _, s := range sets {
		if err := p.combiner.Verify(ctx(), duty, s); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.combiner.points[duty]) != 2 {
		t.Fatal("nothing was kept for combining")
	}
	got, err := p.combiner.Combine(ctx(), duty, ready(sets...))
	if err != nil {
		t.Fatal(err)
	}
	s := got[p.validators[0].PubKey]
	if string(s.Data) != "one root for all"+string(s.Signature[:1]) {
		t.Errorf("data %q", s.Data)
	}
	if err := p.combiner.Verify(ctx(), duty, sets[0]); err != nil {
		t.Fatal(err)
	}
	p.combiner.Drop(duty)
	if len(p.combiner.points) != 0 {
		t.Error("the duty is still there")
	}
	cancelled, cancel := context.WithCancel(ctx())
	cancel()
	if _, err := p.combiner.Combine(cancelled, duty, ready(sets...)); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]Options{
		"nothing":   {},
		"bad group": {Validators: []Validator{{}}, Threshold: 2, Root: rootOf},
		"bad share": {Validators: []Validator{{PubKey: newPractice(t, 1, 2, 2, 1).validators[0].PubKey, Shares: []cluster.PubKey{{}}}}, Threshold: 2, Root: rootOf},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// One slot of a cluster of 4 with threshold 3 on one core: the sets of two peers are verified and
// combined with the own one. "each" is what a program does that treats signatures one by one.
func BenchmarkSlot(b *testing.B) {
	for _, shares := range [][3]cluster.ShareIndex{{1, 2, 3}, {1, 2, 4}} {
		for _, n := range []int{500, 1000} {
			p := newPractice(b, n, 4, 3, 1)
			var sets []cluster.ParSignedDataSet
			for _, share := range shares {
				sets = append(sets, p.signed(b, share, same))
			}
			own := map[cluster.PubKey]bls.SignaturePoint{}
			for key, s := range sets[0] {
				point, err := bls.ParseSignature(s.Signature)
				if err != nil {
					b.Fatal(err)
				}
				own[key] = point
			}
			all := ready(sets...)
			name := fmt.Sprintf("%d/shares=%d%d%d", n, shares[0], shares[1], shares[2])
			b.Run("batch/"+name, func(b *testing.B) {
				b.ReportAllocs()
				defer reportCPU(b)()
				for range b.N {
					for key, s := range sets[0] {
						p.combiner.Keep(duty, key, s.Share, s.Signature, own[key])
					}
					for _, s := range sets[1:] {
						if err := p.combiner.Verify(ctx(), duty, s); err != nil {
							b.Fatal(err)
						}
					}
					if got, err := p.combiner.Combine(ctx(), duty, all); err != nil || len(got) != n {
						b.Fatal(len(got), err)
					}
				}
			})
			b.Run("each/"+name, func(b *testing.B) {
				b.ReportAllocs()
				defer reportCPU(b)()
				for range b.N {
					oneByOne(b, p, all)
				}
			})
		}
	}
}

// reportCPU reports what the process took of the processors between the two calls: unlike the time on
// the clock it says little of what else the machine did.
func reportCPU(b *testing.B) func() {
	took := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	begin := took()
	return func() { b.ReportMetric((took()-begin).Seconds()*1000/float64(b.N), "cpu-ms/op") }
}

func oneByOne(b *testing.B, p practice, all map[cluster.PubKey][]cluster.ParSignedData) {
	for v, dv := range p.validators {
		root, _ := rootOf(duty, dv.PubKey, all[dv.PubKey][0])
		partials := map[cluster.ShareIndex]cluster.Signature{}
		for i, s := range all[dv.PubKey] {
			partials[s.Share] = s.Signature
			if i == 0 {
				continue
			}
			if err := p.combiner.keys[dv.PubKey].shares[s.Share-1].Verify(root[:], s.Signature); err != nil {
				b.Fatal(err)
			}
		}
		sig, err := bls.CombineThreshold(partials)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.combiner.keys[dv.PubKey].group.Verify(root[:], sig); err != nil {
			b.Fatal(v, err)
		}
	}
}
