package exchange_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/exchange"
	"app.provost/cluster/internal/wirepb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	one, two = cluster.PubKey{1}, cluster.PubKey{2}
	duty     = cluster.Duty{Slot: 7, Type: cluster.DutyRandao}
	errWrong = errors.New("wrong")
)

// signatureOf reads toy objects: "s" and the signature's first byte.
func signatureOf(_ cluster.DutyType, data []byte) (cluster.Signature, error) {
	if len(data) != 2 || data[0] != 's' {
		return cluster.Signature{}, errWrong
	}
	return cluster.Signature{data[1]}, nil
}

func options() exchange.Options {
	return exchange.Options{
		Self: 1, Nodes: 4, Validators: []cluster.PubKey{one, two},
		Gate: func(d cluster.Duty) error {
			if d.Slot > 100 {
				return errWrong
			}
			return nil
		},
		SignatureOf: signatureOf,
		Verify: func(_ context.Context, _ cluster.Duty, set cluster.ParSignedDataSet) error {
			for _, p := range set {
				if p.Signature[0] != byte(p.Share) {
					return errWrong
				}
			}
			return nil
		},
		Send: func(context.Context, cluster.PeerIndex, []byte) error { return nil },
	}
}

func open(t testing.TB, o exchange.Options) *exchange.Exchange {
	t.Helper()
	e, err := exchange.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func part(share cluster.ShareIndex) cluster.ParSignedData {
	return cluster.ParSignedData{Data: []byte{'s', byte(share)}, Signature: cluster.Signature{byte(share)}, Share: share}
}

func frame(t testing.TB, d cluster.Duty, set cluster.ParSignedDataSet) []byte {
	t.Helper()
	b, err := wirepb.Encode(wirepb.NewParSigExMsg(d, set))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := make(chan []byte, 4)
		o := options()
		o.Send = func(_ context.Context, to cluster.PeerIndex, msg []byte) error {
			if to == 2 {
				sent <- msg
			}
			return nil
		}
		from := open(t, o)
		defer from.Close()
		if err := from.Broadcast(t.Context(), duty, cluster.ParSignedDataSet{one: part(2), two: part(2)}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		msg := <-sent

		o = options()
		o.Self = 2
		to := open(t, o)
		defer to.Close()
		var got []cluster.ParSignedDataSet
		to.OnReceived(func(_ context.Context, by cluster.PeerIndex, d cluster.Duty, set cluster.ParSignedDataSet) {
			if by != 1 || d != duty {
				t.Errorf("from %d for %s", by, d)
			}
			got = append(got, set)
		})
		if err := to.Handle(t.Context(), 1, msg); err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || len(got[0]) != 2 || got[0][one].Share != 2 || got[0][one].Signature != (cluster.Signature{2}) || !bytes.Equal(got[0][two].Data, []byte{'s', 2}) {
			t.Errorf("received %v", got)
		}
	})
}

func TestHandleRefuses(t *testing.T) {
	e := open(t, options())
	defer e.Close()
	told := 0
	e.OnReceived(func(context.Context, cluster.PeerIndex, cluster.Duty, cluster.ParSignedDataSet) { told++ })
	of := func(t cluster.DutyType) cluster.Duty { return cluster.Duty{Slot: 7, Type: t} }
	bad := part(3)
	bad.Data = []byte{'s', 4} // signed by another share
	lied := part(3)
	lied.Signature = cluster.Signature{99} // beside the data: not believed, not minded
	for _, c := range []struct {
		name string
		from cluster.PeerIndex
		msg  []byte
		want error
	}{
		{"fine", 2, frame(t, duty, cluster.ParSignedDataSet{one: part(3)}), nil},
		{"passed on", 3, frame(t, duty, cluster.ParSignedDataSet{one: part(3), two: part(1)}), nil},
		{"a lie beside the data", 2, frame(t, duty, cluster.ParSignedDataSet{one: lied}), nil},
		{"one of two is bad", 2, frame(t, duty, cluster.ParSignedDataSet{one: part(3), two: bad}), exchange.ErrSignature},
		{"no bytes", 2, nil, wirepb.ErrMissing},
		{"garbage", 2, []byte{0xff, 1}, exchange.ErrMalformed},
		{"empty", 2, frame(t, duty, nil), exchange.ErrMalformed},
		{"key generation", 2, frame(t, of(cluster.DutySignature), cluster.ParSignedDataSet{one: part(3)}), exchange.ErrDuty},
		{"info sync", 2, frame(t, of(cluster.DutyInfoSync), cluster.ParSignedDataSet{one: part(3)}), exchange.ErrDuty},
		{"no type", 2, frame(t, of(0), cluster.ParSignedDataSet{one: part(3)}), exchange.ErrDuty},
		{"deprecated type", 2, frame(t, of(5), cluster.ParSignedDataSet{one: part(3)}), exchange.ErrDuty},
		{"too far ahead", 2, frame(t, cluster.Duty{Slot: 1000, Type: cluster.DutyRandao}, cluster.ParSignedDataSet{one: part(3)}), exchange.ErrGate},
		{"validator of another cluster", 2, frame(t, duty, cluster.ParSignedDataSet{{9}: part(3)}), exchange.ErrUnknown},
		{"more than the cluster has", 2, frame(t, duty, cluster.ParSignedDataSet{one: part(3), two: part(3), {9}: part(3)}), exchange.ErrMalformed},
		{"share 0", 2, frame(t, duty, cluster.ParSignedDataSet{one: part(0)}), exchange.ErrUnknown},
		{"share 5 of 4", 2, frame(t, duty, cluster.ParSignedDataSet{one: part(5)}), exchange.ErrUnknown},
		{"share below 0", 2, frame(t, duty, cluster.ParSignedDataSet{one: part(-1)}), exchange.ErrUnknown},
		{"no object", 2, frame(t, duty, cluster.ParSignedDataSet{one: {Data: []byte("x"), Share: 3}}), exchange.ErrMalformed},
		{"a sender that isn't", 4, frame(t, duty, cluster.ParSignedDataSet{one: part(3)}), exchange.ErrUnknown},
	} {
		before := told
		err := e.Handle(t.Context(), c.from, c.msg)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if (told > before) != (c.want == nil) {
			t.Errorf("%s: told %d times", c.name, told-before)
		}
	}
}

func TestBroadcastRefuses(t *testing.T) {
	e := open(t, options())
	defer e.Close()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		duty cluster.Duty
		set  cluster.ParSignedDataSet
	}{
		{"another node's share", t.Context(), duty, cluster.ParSignedDataSet{one: part(3)}},
		{"unknown validator", t.Context(), duty, cluster.ParSignedDataSet{{9}: part(2)}},
		{"nothing", t.Context(), duty, nil},
		{"info sync", t.Context(), cluster.Duty{Type: cluster.DutyInfoSync}, cluster.ParSignedDataSet{one: part(2)}},
		{"too late", gone, duty, cluster.ParSignedDataSet{one: part(2)}},
	} {
		if err := e.Broadcast(c.ctx, c.duty, c.set); err == nil {
			t.Errorf("%s: sent", c.name)
		}
	}
}

func TestPeerCannotCrowdOutOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options()
		hold := make(chan struct{})
		o.Verify = func(ctx context.Context, _ cluster.Duty, set cluster.ParSignedDataSet) error {
			if set[one].Share == 3 {
				<-hold
			}
			return nil
		}
		e := open(t, o)
		defer e.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		errs := make(chan error, 5)
		for range 5 {
			go func() { errs <- e.Handle(ctx, 2, frame(t, duty, cluster.ParSignedDataSet{one: part(3)})) }()
		}
		synctest.Wait()
		if err := e.Handle(t.Context(), 3, frame(t, duty, cluster.ParSignedDataSet{one: part(4)})); err != nil {
			t.Errorf("another peer: %v", err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(errs) != 3 {
			t.Fatalf("%d refused, want 3", len(errs))
		}
		for range 3 {
			if err := <-errs; !errors.Is(err, exchange.ErrBusy) {
				t.Errorf("refused with %v", err)
			}
		}
		close(hold)
		synctest.Wait()
	})
}

func TestNewRefuses(t *testing.T) {
	for _, break_ := range []func(*exchange.Options){
		func(o *exchange.Options) { o.Gate = nil }, func(o *exchange.Options) { o.SignatureOf = nil }, func(o *exchange.Options) { o.Verify = nil },
		func(o *exchange.Options) { o.Send = nil }, func(o *exchange.Options) { o.Validators = nil }, func(o *exchange.Options) { o.Nodes = 1 },
	} {
		o := options()
		break_(&o)
		if _, err := exchange.New(o); err == nil {
			t.Error("half-built")
		}
	}
}

func FuzzHandle(f *testing.F) {
	f.Add(frame(f, duty, cluster.ParSignedDataSet{one: part(3), two: part(1)}))
	f.Add(frame(f, cluster.Duty{Slot: 1 << 60, Type: 13}, cluster.ParSignedDataSet{{7}: part(200)}))
	f.Add([]byte{0x0a, 0, 0x12, 4, 0x0a, 2, 0x12, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		e := open(t, options())
		defer e.Close()
		e.OnReceived(func(_ context.Context, _ cluster.PeerIndex, d cluster.Duty, set cluster.ParSignedDataSet) {
			if d.Slot > 100 || len(set) == 0 || len(set) > 2 {
				t.Errorf("%s with %d entries", d, len(set))
			}
			for k, p := range set {
				if k != one && k != two || p.Share < 1 || p.Share > 4 || p.Signature[0] != byte(p.Share) {
					t.Errorf("%s: %v", k, p)
				}
			}
		})
		_ = e.Handle(t.Context(), 2, b)
	})
}
