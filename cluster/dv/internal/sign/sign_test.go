package sign

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
)

var duty = cluster.Duty{Slot: 40, Type: cluster.DutyAttester}

// desk is a signer whose surroundings the test rules.
type desk struct {
	*Signer
	keys  []cluster.PubKey
	pubs  []cluster.PubKey // of the shares
	order []string         // what was asked, in order
	doubt error
	guard error
	deny  map[cluster.PubKey]string
	short bool // slashing protection answers too little
	late  context.CancelFunc

	mu   sync.Mutex
	kept map[cluster.PubKey]bls.SignaturePoint
}

func newDesk(t *testing.T, n int) *desk {
	t.Helper()
	d := &desk{deny: map[cluster.PubKey]string{}, kept: map[cluster.PubKey]bls.SignaturePoint{}}
	shares := map[cluster.PubKey]bls.SecretKey{}
	for i := range n {
		k, err := bls.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		pub, err := k.PubKey()
		if err != nil {
			t.Fatal(err)
		}
		group := cluster.PubKey{byte(i + 1)}
		shares[group] = k
		d.keys, d.pubs = append(d.keys, group), append(d.pubs, pub)
	}
	answer := func(name string) func(context.Context, []Vote) ([]Answer, error) {
		return func(_ context.Context, votes []Vote) ([]Answer, error) {
			d.order = append(d.order, fmt.Sprintf("%s %d", name, len(votes)))
			if d.guard != nil {
				return nil, d.guard
			}
			if d.late != nil {
				d.late()
			}
			var out []Answer
			for _, v := range votes {
				why, no := d.deny[v.Validator]
				out = append(out, Answer{Allowed: !no, Reason: why})
			}
			if d.short {
				out = out[:1]
			}
			return out, nil
		}
	}
	var err error
	d.Signer, err = New(Options{
		Share: 2, Keys: shares,
		ToSign: func(duty cluster.Duty, key cluster.PubKey, data []byte) (Object, error) {
			if string(data) == "malformed" {
				return Object{}, errors.New("malformed")
			}
			var root cluster.Root
			copy(root[:], "root of "+string(data))
			o := Object{Parts: []Part{{Root: root}}, With: func(sigs []cluster.Signature) (cluster.ParSignedData, error) {
				return cluster.ParSignedData{Data: []byte(fmt.Sprint(len(sigs))), Signature: sigs[0]}, nil
			}}
			if duty.Type == cluster.DutyAttester {
				o.Parts[0].Vote = &Vote{Validator: key, Kind: Attestation, Target: 1, SigningRoot: root}
			}
			if string(data) == "two" {
				o.Parts = append(o.Parts, Part{Root: cluster.Root{9}})
			}
			return o, nil
		},
		Doubt: func(context.Context, cluster.Duty) error { d.order = append(d.order, "doubt"); return d.doubt },
		Check: answer("check"), Record: answer("record"),
		Keep: func(_ cluster.Duty, key cluster.PubKey, _ cluster.ShareIndex, _ cluster.Signature, p bls.SignaturePoint) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.kept[key] = p
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) set(data string) cluster.UnsignedDataSet {
	out := cluster.UnsignedDataSet{}
	for _, k := range d.keys {
		out[k] = []byte(data)
	}
	return out
}

func TestSign(t *testing.T) {
	d := newDesk(t, 3)
	got, err := d.Sign(t.Context(), duty, d.set("a"))
	if err != nil || len(got) != 3 {
		t.Fatalf("%d signed, %v", len(got), err)
	}
	var root cluster.Root
	copy(root[:], "root of a")
	for i, k := range d.keys {
		if got[k].Share != 2 {
			t.Errorf("share %d", got[k].Share)
		}
		if err := bls.Verify(d.pubs[i], root[:], got[k].Signature); err != nil {
			t.Error(err)
		}
		if d.kept[k].Signature() != got[k].Signature {
			t.Error("another signature was kept")
		}
	}
	if want := "[doubt record 3]"; fmt.Sprint(d.order) != want {
		t.Errorf("asked %v, want %s: all votes at once, doubts first", d.order, want)
	}
}

// Each wall alone keeps everything or exactly its validator from being signed.
func TestSignRefuses(t *testing.T) {
	boom := errors.New("disk full")
	for name, x := range map[string]struct {
		spoil  func(*desk) cluster.UnsignedDataSet
		signed int
		err    error
		text   string
	}{
		"in doubt":              {func(d *desk) cluster.UnsignedDataSet { d.doubt = boom; return d.set("a") }, 0, ErrDoubt, "disk full"},
		"protection fails":      {func(d *desk) cluster.UnsignedDataSet { d.guard = boom; return d.set("a") }, 0, boom, "slashing protection"},
		"protection refuses":    {func(d *desk) cluster.UnsignedDataSet { d.deny[d.keys[1]] = "double vote"; return d.set("a") }, 2, ErrRefused, "double vote"},
		"refused without words": {func(d *desk) cluster.UnsignedDataSet { d.deny[d.keys[1]] = ""; return d.set("a") }, 2, ErrRefused, "no reason was given"},
		"an answer is missing":  {func(d *desk) cluster.UnsignedDataSet { d.short = true; return d.set("a") }, 1, ErrRefused, ""},
		"malformed":             {func(d *desk) cluster.UnsignedDataSet { s := d.set("a"); s[d.keys[0]] = []byte("malformed"); return s }, 2, nil, "malformed"},
		"not our validator": {func(d *desk) cluster.UnsignedDataSet {
			s := d.set("a")
			s[cluster.PubKey{77}] = []byte("a")
			return s
		}, 3, ErrNoShare, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, 3)
			got, err := d.Sign(t.Context(), duty, x.spoil(d))
			if err == nil || x.err != nil && !errors.Is(err, x.err) || !strings.Contains(err.Error(), x.text) {
				t.Errorf("error %v, want %v with %q", err, x.err, x.text)
			}
			if len(got) != x.signed || len(d.kept) != x.signed {
				t.Errorf("%d signed and %d kept, want %d", len(got), len(d.kept), x.signed)
			}
		})
	}
}

// Nothing that became late while the disk was slow is signed.
func TestSignAfterTheDeadline(t *testing.T) {
	d := newDesk(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	d.late = cancel
	if got, err := d.Sign(ctx, duty, d.set("a")); !errors.Is(err, context.Canceled) || len(got) != 0 {
		t.Errorf("%d signed, %v", len(got), err)
	}
}

func TestSeveralSignatures(t *testing.T) {
	d := newDesk(t, 1)
	got, err := d.Sign(t.Context(), cluster.Duty{Slot: 1, Type: cluster.DutyProposer}, d.set("two"))
	if err != nil || string(got[d.keys[0]].Data) != "2" {
		t.Errorf("%q, %v: want two signatures", got[d.keys[0]].Data, err)
	}
	if fmt.Sprint(d.order) != "[doubt]" {
		t.Errorf("slashing protection was asked about what nobody is slashed for: %v", d.order)
	}
}

func TestVote(t *testing.T) {
	for name, x := range map[string]struct {
		spoil func(*desk) cluster.UnsignedDataSet
		err   error
		ok    bool
	}{
		"all clear":    {func(d *desk) cluster.UnsignedDataSet { return d.set("a") }, nil, true},
		"one of three": {func(d *desk) cluster.UnsignedDataSet { d.deny[d.keys[0]] = "x"; return d.set("a") }, nil, true},
		"all refused": {func(d *desk) cluster.UnsignedDataSet {
			d.deny = map[cluster.PubKey]string{d.keys[0]: "", d.keys[1]: "", d.keys[2]: ""}
			return d.set("a")
		}, ErrRefused, false},
		"protection fails": {func(d *desk) cluster.UnsignedDataSet { d.guard = errors.New("closed"); return d.set("a") }, errAny, false},
		"one malformed":    {func(d *desk) cluster.UnsignedDataSet { s := d.set("a"); s[d.keys[2]] = []byte("malformed"); return s }, errAny, false},
		"a stranger":       {func(d *desk) cluster.UnsignedDataSet { s := d.set("a"); s[cluster.PubKey{66}] = nil; return s }, ErrNoShare, false},
		"nobody":           {func(d *desk) cluster.UnsignedDataSet { return nil }, errAny, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, 3)
			err := d.Vote(t.Context(), duty, x.spoil(d))
			if (err == nil) != x.ok || x.err != nil && x.err != errAny && !errors.Is(err, x.err) {
				t.Errorf("%v", err)
			}
			for _, o := range d.order {
				if strings.HasPrefix(o, "record") {
					t.Error("a vote left a trace")
				}
			}
			if len(d.kept) != 0 {
				t.Error("a vote signed")
			}
		})
	}
}

// errAny stands for any error.
var errAny = errors.New("any")

func TestNewRefuses(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("made of nothing")
	}
}
