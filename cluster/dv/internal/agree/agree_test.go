package agree

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/qbft"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/wirepb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testKey(t testing.TB, peer int) enr.Key {
	t.Helper()
	k, err := enr.ParseKeyFile([]byte(fmt.Sprintf("%064x", peer+1)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sleep lets time pass and everything happen that it brings.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// node is one member with what it was told.
type node struct {
	*Consensus
	mu        sync.Mutex
	decided   map[cluster.Duty][]cluster.UnsignedDataSet
	decisions []Decision
	when      []time.Time
	timeouts  int
	undecided int
	voteErr   error
	errs      []error
	notMade   []cluster.Duty
}

// net carries messages among members with a delay; a member that is cut off hears and says nothing.
type net struct {
	t     testing.TB
	n     int
	keys  []enr.Key
	nodes []*node
	start time.Time
	life  time.Duration
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu  sync.Mutex
	cut map[int]bool
	tap func([]byte) // sees what is sent; set while nothing is
}

const slot = 100

func dutyOf(t cluster.DutyType) cluster.Duty { return cluster.Duty{Slot: slot, Type: t} }

// newNet must run in a bubble.
func newNet(t testing.TB, n int) *net {
	ctx, cancel := context.WithCancel(context.Background())
	w := &net{t: t, n: n, start: time.Now().Add(time.Second), life: time.Minute, stop: cancel, cut: map[int]bool{}}
	for i := range n {
		w.keys = append(w.keys, testKey(t, i))
	}
	for i := range n {
		x := &node{decided: map[cluster.Duty][]cluster.UnsignedDataSet{}}
		c, err := New(Options{
			Self: cluster.PeerIndex(i), Nodes: n, Sign: w.keys[i].SignHash,
			Verify: func(p cluster.PeerIndex, h [32]byte, sig []byte) error {
				return enr.VerifyHash(w.keys[p].PubKey(), h, sig)
			},
			Gate: func(d cluster.Duty) error {
				if d.Slot > 10*slot {
					return errors.New("too far ahead")
				}
				return nil
			},
			RoundsFrom: func(cluster.Duty) time.Time { return w.start },
			Deadline: func(d cluster.Duty) time.Time {
				if d.Slot < slot/2 {
					return w.start.Add(-time.Hour)
				}
				return w.start.Add(w.life)
			},
			Send: func(_ context.Context, to cluster.PeerIndex, msg []byte) error {
				w.deliver(i, int(to), msg)
				return nil
			},
			Vote: func(context.Context, cluster.Duty, cluster.UnsignedDataSet) error {
				x.mu.Lock()
				defer x.mu.Unlock()
				return x.voteErr
			},
			Spawn:     func(_ string, fn func(context.Context) error) { w.wg.Go(func() { _ = fn(ctx) }) },
			Decided:   func(d Decision) { x.mu.Lock(); x.decisions = append(x.decisions, d); x.mu.Unlock() },
			Timeout:   func(cluster.Duty, int64, cluster.PeerIndex) { x.mu.Lock(); x.timeouts++; x.mu.Unlock() },
			Undecided: func(cluster.Duty, int64) { x.mu.Lock(); x.undecided++; x.mu.Unlock() },
			NotMade: func(d cluster.Duty, _ cluster.PeerIndex) {
				x.mu.Lock()
				x.notMade = append(x.notMade, d)
				x.mu.Unlock()
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		c.OnDecided(func(_ context.Context, d cluster.Duty, set cluster.UnsignedDataSet) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.decided[d] = append(x.decided[d], set)
			x.when = append(x.when, time.Now())
		})
		x.Consensus = c
		w.nodes = append(w.nodes, x)
	}
	return w
}

func (w *net) deliver(from, to int, msg []byte) {
	w.mu.Lock()
	gone := w.cut[from] || w.cut[to]
	if w.tap != nil {
		w.tap(msg)
	}
	w.mu.Unlock()
	if gone {
		return
	}
	time.AfterFunc(20*time.Millisecond, func() {
		if err := w.nodes[to].Handle(context.Background(), cluster.PeerIndex(from), msg); err != nil && !errors.Is(err, ErrLate) && !errors.Is(err, ErrClosed) {
			x := w.nodes[to]
			x.mu.Lock()
			x.errs = append(x.errs, err)
			x.mu.Unlock()
		}
	})
}

func (w *net) isolate(i int, cut bool) { w.mu.Lock(); w.cut[i] = cut; w.mu.Unlock() }

func (w *net) close() {
	for _, x := range w.nodes {
		x.Close()
	}
	w.stop()
	w.wg.Wait()
	sleep(time.Second) // what is on the way arrives at closed nodes
}

func setOf(text string) cluster.UnsignedDataSet {
	return cluster.UnsignedDataSet{cluster.PubKey{1}: []byte(text), cluster.PubKey{2}: []byte("same")}
}

func (x *node) got(d cluster.Duty) (string, int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.decided[d]) == 0 {
		return "", 0
	}
	return string(x.decided[d][0][cluster.PubKey{1}]), len(x.decided[d])
}

func (w *net) wantAll(d cluster.Duty, text string, except ...int) {
	w.t.Helper()
nodes:
	for i, x := range w.nodes {
		for _, e := range except {
			if e == i {
				continue nodes
			}
		}
		if got, n := x.got(d); got != text || n != 1 {
			w.t.Errorf("node %d decided %q %d times, want %q once", i, got, n, text)
		}
		for _, err := range x.errs {
			w.t.Errorf("node %d refused a message: %v", i, err)
		}
	}
}

func leaderOf(d cluster.Duty, round int64, n int) int {
	return qbft.Leader(uint64(d.Slot), int64(d.Type), round, n)
}

func TestAllPropose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		for _, typ := range []cluster.DutyType{cluster.DutyAttester, cluster.DutyProposer, cluster.DutyAggregator, cluster.DutySyncContribution} {
			d := dutyOf(typ)
			for i, x := range w.nodes {
				if err := x.Propose(t.Context(), d, setOf(fmt.Sprint(i))); err != nil {
					t.Fatal(err)
				}
			}
		}
		sleep(900 * time.Millisecond)
		for _, typ := range []cluster.DutyType{cluster.DutyAttester, cluster.DutyProposer, cluster.DutyAggregator, cluster.DutySyncContribution} {
			d := dutyOf(typ)
			w.wantAll(d, fmt.Sprint(leaderOf(d, 1, 4)))
		}
		for _, dec := range w.nodes[0].decisions {
			if dec.Round != 1 || int(dec.Leader) != leaderOf(dec.Duty, 1, 4) || dec.Took != 60*time.Millisecond && dec.Took != 40*time.Millisecond {
				t.Errorf("decision %+v", dec)
			}
		}
		if err := w.nodes[0].Propose(t.Context(), dutyOf(cluster.DutyAttester), setOf("0")); err != nil {
			t.Errorf("the same value again: %v", err)
		}
		if err := w.nodes[0].Propose(t.Context(), dutyOf(cluster.DutyAttester), setOf("x")); !errors.Is(err, ErrProposed) {
			t.Errorf("another value: %v", err)
		}
		if s := w.nodes[0].Sniffed(); len(s.Instances) != 4 || len(s.Instances[0].Msgs) < 6 || s.Instances[0].Msgs[0].Msg.Msg == nil {
			t.Errorf("sniffed %v", s)
		}
	})
}

func TestNodesWithoutValuesVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		d := dutyOf(cluster.DutyAttester)
		for _, x := range w.nodes {
			if err := errors.Join(x.Participate(t.Context(), d), x.Participate(t.Context(), d)); err != nil {
				t.Fatal(err)
			}
		}
		sleep(500 * time.Millisecond)
		if err := w.nodes[leaderOf(d, 1, 4)].Propose(t.Context(), d, setOf("late")); err != nil {
			t.Fatal(err)
		}
		sleep(200 * time.Millisecond)
		w.wantAll(d, "late")
	})
}

// A message with this node's own signature that it did not make is told, wherever in a message it
// stands; one that it made and that comes back is not.
func TestOwnMessagesThatWereNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		x, d := w.nodes[0], dutyOf(cluster.DutyAttester)
		told := func() int { x.mu.Lock(); defer x.mu.Unlock(); return len(x.notMade) }
		var mine []*wirepb.QBFTMsg
		tap := func(raw []byte) {
			m := new(wirepb.QBFTConsensusMsg)
			if err := wirepb.Read(raw, m); err != nil {
				t.Error(err)
			} else if m.GetMsg().GetPeerIdx() == 0 {
				mine = append(mine, m.GetMsg())
			}
		}
		w.tap = tap
		// All that it says over a few rounds comes back to it.
		w.isolate(3, true)
		for i, n := range w.nodes[:3] {
			_ = n.Propose(t.Context(), d, setOf(fmt.Sprint(i)))
		}
		sleep(8 * time.Second)
		w.tap = nil
		for _, m := range mine {
			frame, err := wirepb.Encode(&wirepb.QBFTConsensusMsg{Msg: m})
			if err != nil {
				t.Fatal(err)
			}
			if err := x.Handle(t.Context(), 2, frame); !errors.Is(err, ErrOwn) {
				t.Errorf("an own message: %v", err)
			}
		}
		types := map[int64]bool{}
		for _, m := range mine {
			types[m.GetType()] = true
		}
		if len(types) < 2 || told() != 0 {
			t.Errorf("of %d own messages that came back %d are strange", len(mine), told())
		}
		// COMMIT of round 1 for "x" is none of them; here it is a justification, then a message.
		if err := x.Handle(t.Context(), 1, signedMsg(t, w.keys, nil)); err != nil || told() != 1 || x.notMade[0] != d {
			t.Errorf("a justification: %d told, %v", told(), err)
		}
		if err := x.Handle(t.Context(), 1, signedMsg(t, w.keys, func(m *wirepb.QBFTConsensusMsg) { m.Msg.PeerIdx = 0 })); !errors.Is(err, ErrOwn) || told() != 2 {
			t.Errorf("a message: %d told, %v", told(), err)
		}
		// Nobody else's, nothing that isn't signed, and nothing once what was made is forgotten.
		if err := w.nodes[3].Handle(t.Context(), 1, signedMsg(t, w.keys, nil)); err != nil || len(w.nodes[3].notMade) != 0 {
			t.Errorf("another's: %v, %v", w.nodes[3].notMade, err)
		}
		if err := x.Handle(t.Context(), 1, signedMsg(t, w.keys, func(m *wirepb.QBFTConsensusMsg) { m.Justification[0].Signature = make([]byte, 65) })); !errors.Is(err, ErrSignature) || told() != 2 {
			t.Errorf("a forged one: %d told, %v", told(), err)
		}
		sleep(2 * time.Minute)
		_ = x.Handle(t.Context(), 1, signedMsg(t, w.keys, nil))
		if told() != 2 {
			t.Error("told after the deadline")
		}
	})
}

func TestDeadLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		d := dutyOf(cluster.DutyAttester)
		first, second := leaderOf(d, 1, 4), leaderOf(d, 2, 4)
		w.isolate(first, true)
		for i, x := range w.nodes {
			if i != first {
				_ = x.Propose(t.Context(), d, setOf(fmt.Sprint(i)))
			}
		}
		sleep(3 * time.Second)
		w.wantAll(d, fmt.Sprint(second), first)
		x := w.nodes[second]
		if after := x.when[0].Sub(w.start); after < time.Second || after > 1200*time.Millisecond || x.decisions[0].Round != 2 || x.timeouts != 1 {
			t.Errorf("decided %s after the start of the duty in round %d, %d timeouts: want just after 1s, round 2", after, x.decisions[0].Round, x.timeouts)
		}
	})
}

// A node that was cut off while the others decided is answered when it is back.
func TestLateNodeIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		d := dutyOf(cluster.DutyAttester)
		w.isolate(2, true)
		for i, x := range w.nodes {
			_ = x.Propose(t.Context(), d, setOf(fmt.Sprint(i)))
		}
		sleep(10 * time.Second)
		w.wantAll(d, fmt.Sprint(leaderOf(d, 1, 4)), 2)
		if _, n := w.nodes[2].got(d); n != 0 {
			t.Fatal("a node that hears nothing decided")
		}
		w.isolate(2, false)
		sleep(5 * time.Second)
		w.wantAll(d, fmt.Sprint(leaderOf(d, 1, 4)))
		sleep(time.Minute)
		for i, x := range w.nodes {
			x.Consensus.mu.Lock()
			if len(x.instances) != 0 || x.foreign != 0 || x.bytes[0]+x.bytes[1]+x.bytes[2]+x.bytes[3] != 0 {
				t.Errorf("node %d keeps %d duties, %d foreign, %v bytes after the deadline", i, len(x.instances), x.foreign, x.bytes)
			}
			x.Consensus.mu.Unlock()
			if err := x.Participate(t.Context(), d); !errors.Is(err, ErrLate) {
				t.Errorf("starting after the deadline: %v", err)
			}
		}
	})
}

// A node that begins long after the others catches up without saying what nobody waits for.
func TestLateStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		d := dutyOf(cluster.DutyAttester)
		w.isolate(2, true)
		for i, x := range w.nodes {
			if i != 2 {
				_ = x.Propose(t.Context(), d, setOf(fmt.Sprint(i)))
			}
		}
		sleep(41500 * time.Millisecond)
		w.isolate(2, false)
		if err := w.nodes[2].Participate(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		sleep(time.Second)
		w.wantAll(d, fmt.Sprint(leaderOf(d, 1, 4)))
		if n := w.nodes[2].timeouts; n != 1 {
			t.Errorf("%d round changes, want one", n)
		}
	})
}

func TestNobodyLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		for i := range 2 {
			w.isolate(i, true)
		}
		d := dutyOf(cluster.DutyProposer)
		for _, x := range w.nodes {
			_ = x.Propose(t.Context(), d, setOf("a"))
		}
		sleep(2 * time.Minute)
		if x := w.nodes[3]; x.undecided != 1 || x.timeouts == 0 || len(x.decisions) != 0 {
			t.Errorf("%d undecided, %d timeouts, %v", x.undecided, x.timeouts, x.decisions)
		}
	})
}

func TestRefusedValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		d := dutyOf(cluster.DutyAttester)
		w.nodes[3].voteErr = errors.New("it would be slashable here")
		for i, x := range w.nodes {
			_ = x.Propose(t.Context(), d, setOf(fmt.Sprint(i)))
		}
		sleep(900 * time.Millisecond)
		w.wantAll(d, fmt.Sprint(leaderOf(d, 1, 4)))
		for _, i := range w.nodes[3].Sniffed().Instances[0].Msgs {
			if m := i.Msg.Msg; m.PeerIdx == 3 && m.Type == int64(qbft.Prepare) {
				t.Error("the node voted for what it refuses")
			}
		}
	})
}

// signedMsg makes a message of node 1 about an attester duty.
func signedMsg(t testing.TB, keys []enr.Key, change func(*wirepb.QBFTConsensusMsg)) []byte {
	v, hash, err := wirepb.WrapUnsigned(wirepb.NewUnsignedDataSet(setOf("x")))
	if err != nil {
		t.Fatal(err)
	}
	one := func(by int, typ int64) *wirepb.QBFTMsg {
		return &wirepb.QBFTMsg{Type: typ, Duty: wirepb.NewDuty(dutyOf(cluster.DutyAttester)), PeerIdx: int64(by), Round: 1, ValueHash: hash[:], PreparedValueHash: make([]byte, 32)}
	}
	m := &wirepb.QBFTConsensusMsg{Msg: one(1, 5), Values: []*anypb.Any{v}}
	for _, by := range []int{0, 1, 2} {
		m.Justification = append(m.Justification, one(by, 3))
	}
	if change != nil {
		change(m)
	}
	for _, x := range append([]*wirepb.QBFTMsg{m.Msg}, m.Justification...) {
		if x == nil || x.Signature != nil || x.PeerIdx < 0 || int(x.PeerIdx) >= len(keys) {
			continue
		}
		if err := wirepb.SignQBFT(x, keys[x.PeerIdx].SignHash); err != nil {
			t.Fatal(err)
		}
	}
	b, err := wirepb.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		type change = func(*wirepb.QBFTConsensusMsg)
		for _, c := range []struct {
			name string
			do   change
			want error
		}{
			{"fine", nil, nil},
			{"no message", func(m *wirepb.QBFTConsensusMsg) { m.Msg = nil }, wirepb.ErrMissing},
			{"no duty", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Duty = nil }, wirepb.ErrMissing},
			{"type 0", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Type = 0 }, ErrMalformed},
			{"type 6", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Type = 6 }, ErrMalformed},
			{"duty type 99", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Duty.Type = 99 }, ErrMalformed},
			{"deprecated duty type", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Duty.Type = 5 }, ErrMalformed},
			{"info sync", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Duty.Type = 13 }, ErrDuty},
			{"randao", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Duty.Type = 7 }, ErrDuty},
			{"round 0", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Round = 0 }, ErrMalformed},
			{"prepared round below 0", func(m *wirepb.QBFTConsensusMsg) { m.Msg.PreparedRound = -1 }, ErrMalformed},
			{"unknown peer", func(m *wirepb.QBFTConsensusMsg) { m.Msg.PeerIdx = 4 }, ErrMalformed},
			{"peer below 0", func(m *wirepb.QBFTConsensusMsg) { m.Msg.PeerIdx = -1 }, ErrMalformed},
			{"hash of 31 bytes", func(m *wirepb.QBFTConsensusMsg) { m.Msg.ValueHash = m.Msg.ValueHash[:31] }, ErrMalformed},
			{"no signature", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Signature = []byte{} }, ErrSignature},
			{"wrong signature", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Signature = make([]byte, 65) }, ErrSignature},
			{"own message", func(m *wirepb.QBFTConsensusMsg) { m.Msg.PeerIdx = 0 }, ErrOwn},
			{"far future", func(m *wirepb.QBFTConsensusMsg) { m.Msg.Duty.Slot = 1 << 40 }, ErrGate},
			{"9 justifications", func(m *wirepb.QBFTConsensusMsg) {
				for len(m.Justification) < 9 {
					m.Justification = append(m.Justification, proto.CloneOf(m.Justification[0]))
				}
			}, ErrLimit},
			{"9 values for 3", func(m *wirepb.QBFTConsensusMsg) {
				for len(m.Values) < 9 {
					m.Values = append(m.Values, m.Values[0])
				}
			}, ErrLimit},
			{"8 values for 3", func(m *wirepb.QBFTConsensusMsg) {
				for len(m.Values) < 8 {
					m.Values = append(m.Values, m.Values[0])
				}
			}, nil},
			{"justification by nobody", func(m *wirepb.QBFTConsensusMsg) { m.Justification[1].PeerIdx = 7 }, ErrMalformed},
			{"justification unsigned", func(m *wirepb.QBFTConsensusMsg) { m.Justification[1].Signature = make([]byte, 65) }, ErrSignature},
			{"justification of round 0", func(m *wirepb.QBFTConsensusMsg) { m.Justification[1].Round = 0 }, ErrMalformed},
			{"justification of another slot", func(m *wirepb.QBFTConsensusMsg) { m.Justification[1].Duty = &wirepb.Duty{Slot: slot + 1, Type: 2} }, ErrMalformed},
			{"no value", func(m *wirepb.QBFTConsensusMsg) { m.Values = nil }, ErrValue},
			{"value of another type", func(m *wirepb.QBFTConsensusMsg) {
				m.Values[0] = &anypb.Any{TypeUrl: "type.googleapis.com/core.corepb.v1.PriorityResult"}
			}, ErrValue},
			{"value that is none", func(m *wirepb.QBFTConsensusMsg) {
				m.Values[0] = &anypb.Any{TypeUrl: m.Values[0].TypeUrl, Value: []byte{0xff}}
			}, ErrValue},
			{"key that is none", func(m *wirepb.QBFTConsensusMsg) {
				b, _ := wirepb.Encode(&wirepb.UnsignedDataSet{Set: map[string][]byte{"0xab": {1}}})
				m.Values = append(m.Values, &anypb.Any{TypeUrl: m.Values[0].TypeUrl, Value: b})
			}, ErrValue},
			{"prepared value missing", func(m *wirepb.QBFTConsensusMsg) { m.Justification[2].PreparedValueHash[0] = 1 }, ErrValue},
			{"past", func(m *wirepb.QBFTConsensusMsg) {
				for _, x := range append([]*wirepb.QBFTMsg{m.Msg}, m.Justification...) {
					x.Duty.Slot = 3
				}
			}, ErrLate},
		} {
			err := w.nodes[0].Handle(t.Context(), 1, signedMsg(t, w.keys, c.do))
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
		// What came before the instance was started is looked at once it is.
		if err := w.nodes[0].Participate(t.Context(), dutyOf(cluster.DutyAttester)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, n := w.nodes[0].got(dutyOf(cluster.DutyAttester)); got != "x" || n != 1 {
			t.Errorf("decided %q %d times by a proof that was waiting", got, n)
		}
		if err := w.nodes[0].Propose(t.Context(), dutyOf(cluster.DutyAttester), nil); !errors.Is(err, ErrValue) {
			t.Errorf("an empty set: %v", err)
		}
		if err := w.nodes[0].Participate(t.Context(), dutyOf(cluster.DutyRandao)); !errors.Is(err, ErrDuty) {
			t.Errorf("a duty without agreement: %v", err)
		}
	})
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		x := w.nodes[0]
		x.o.Verify = func(cluster.PeerIndex, [32]byte, []byte) error { return nil } // speed: signatures aren't what this is about
		send := func(change func(*wirepb.QBFTConsensusMsg)) error {
			return x.Handle(t.Context(), 2, signedMsg(t, nil, func(m *wirepb.QBFTConsensusMsg) {
				m.Justification = nil
				m.Msg.Signature = make([]byte, 65)
				change(m)
			}))
		}
		for r := range int64(300) {
			if err := send(func(m *wirepb.QBFTConsensusMsg) { m.Msg.Type, m.Msg.Round = 2, r+1 }); err != nil {
				t.Fatal(err)
			}
		}
		x.Consensus.mu.Lock()
		if q := x.instances[dutyOf(cluster.DutyAttester)].inbox[2]; len(q) != maxQueued || q[0].Round != 201 {
			t.Errorf("%d messages wait, the first of round %d", len(q), q[0].Round)
		}
		x.Consensus.mu.Unlock()
		var err error
		for s := range uint64(2000) {
			if err = send(func(m *wirepb.QBFTConsensusMsg) {
				m.Msg.Type, m.Msg.Duty.Slot, m.Msg.Duty.Type = 2, slot+s/4, []int32{1, 2, 9, 12}[s%4]
			}); err != nil {
				break
			}
		}
		if !errors.Is(err, ErrBusy) || x.foreign != maxForeign {
			t.Errorf("%v with %d duties that only a peer speaks of", err, x.foreign)
		}
		if err := x.Participate(t.Context(), cluster.Duty{Slot: 9 * slot, Type: cluster.DutyAttester}); err != nil {
			t.Errorf("own duties must not suffer: %v", err)
		}
		x.Consensus.mu.Lock()
		x.bytes[2] = maxPeerBytes
		x.Consensus.mu.Unlock()
		if err := send(func(m *wirepb.QBFTConsensusMsg) { m.Msg.Type = 2 }); !errors.Is(err, ErrBusy) {
			t.Errorf("a peer that used up its bytes: %v", err)
		}
		x.Consensus.mu.Lock()
		x.bytes[2] = 0
		for d, i := range x.instances {
			x.bytes[2] += i.spent[2]
			_ = d
		}
		for range maxSniffed + 10 {
			x.sniffLocked(dutyOf(cluster.DutyAttester), &wirepb.QBFTConsensusMsg{})
		}
		if len(x.sniffed) != maxSniffed {
			t.Errorf("%d messages kept for debugging", len(x.sniffed))
		}
		x.Consensus.mu.Unlock()
		x.Close()
		if err := x.Participate(t.Context(), dutyOf(cluster.DutyProposer)); !errors.Is(err, ErrClosed) {
			t.Errorf("after closing: %v", err)
		}
	})
}

// Messages that a Charon build made and signed are taken as they are.
func TestCharonMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNet(t, 4)
		defer w.close()
		for i := range w.keys {
			k, err := enr.ParseKeyFile([]byte(strings.Repeat("0"+string(rune('2'+i)), 32)))
			if err != nil {
				t.Fatal(err)
			}
			w.keys[i] = k
		}
		x := w.nodes[1]
		for _, v := range charonMessages(t) {
			err := x.Handle(t.Context(), cluster.PeerIndex(v.peer), v.frame)
			if v.peer == 1 && !errors.Is(err, ErrOwn) || v.peer != 1 && err != nil {
				t.Errorf("%s: %v", v.name, err)
			}
		}
		// A proposal, votes, and a proof that a quorum voted wait.
		if err := x.Participate(t.Context(), cluster.Duty{Slot: 100, Type: cluster.DutyAttester}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var said []int64
		for _, m := range x.Sniffed().Instances[0].Msgs {
			if m.Msg.Msg.PeerIdx == 1 {
				said = append(said, m.Msg.Msg.Type)
			}
		}
		slices.Sort(said)
		if !slices.Equal(said, []int64{int64(qbft.Prepare), int64(qbft.Commit)}) {
			t.Errorf("answered with types %v, want PREPARE and COMMIT", said)
		}
	})
}

type charonMessage struct {
	name  string
	peer  int
	frame []byte
}

func charonMessages(t testing.TB) (out []charonMessage) {
	t.Helper()
	b, err := os.ReadFile("testdata/qbft_msgs.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Case    string
		PeerIdx int    `json:"peer_idx"`
		Frame   string `json:"consensus_msg_proto_bytes"`
	}
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		frame, err := hex.DecodeString(v.Frame)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, charonMessage{v.Case, v.PeerIdx, frame})
	}
	return out
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Options{Nodes: 4}); err == nil {
		t.Error("half-built")
	}
}

func FuzzHandle(f *testing.F) {
	for _, v := range charonMessages(f) {
		f.Add(v.frame)
	}
	var keys []enr.Key
	for i := range 4 {
		keys = append(keys, testKey(f, i))
	}
	f.Add(signedMsg(f, keys, nil))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(context.Background())
		c, err := New(Options{
			Self: 0, Nodes: 4, Sign: keys[0].SignHash,
			Verify:     func(cluster.PeerIndex, [32]byte, []byte) error { return nil }, // whatever is behind the signature must hold
			Gate:       func(cluster.Duty) error { return nil },
			RoundsFrom: func(cluster.Duty) time.Time { return time.Now() },
			Deadline:   func(cluster.Duty) time.Time { return time.Now().Add(time.Minute) },
			Send:       func(context.Context, cluster.PeerIndex, []byte) error { return nil },
			Spawn:      func(_ string, fn func(context.Context) error) { wg.Go(func() { _ = fn(ctx) }) },
		})
		if err != nil {
			t.Fatal(err)
		}
		if c.Handle(ctx, 1, frame) == nil {
			c.mu.Lock()
			var duty cluster.Duty
			for d := range c.instances {
				duty = d
			}
			c.mu.Unlock()
			if err := c.Participate(ctx, duty); err != nil {
				t.Error(err)
			}
		}
		c.Close()
		cancel()
		wg.Wait()
	})
}

// A vote on a block with blobs carries the block again.
func BenchmarkHandleBlock(b *testing.B) {
	keys := []enr.Key{testKey(b, 0), testKey(b, 1), testKey(b, 2), testKey(b, 3)}
	block := make([]byte, 3<<20)
	v, hash, err := wirepb.WrapUnsigned(wirepb.NewUnsignedDataSet(cluster.UnsignedDataSet{{1}: block}))
	if err != nil {
		b.Fatal(err)
	}
	m := &wirepb.QBFTConsensusMsg{Msg: &wirepb.QBFTMsg{Type: 2, Duty: &wirepb.Duty{Slot: slot, Type: 1}, PeerIdx: 1, Round: 1, ValueHash: hash[:]}, Values: []*anypb.Any{v}}
	if err := wirepb.SignQBFT(m.Msg, keys[1].SignHash); err != nil {
		b.Fatal(err)
	}
	frame, err := wirepb.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	c, err := New(Options{
		Self: 0, Nodes: 4, Sign: keys[0].SignHash,
		Verify: func(p cluster.PeerIndex, h [32]byte, sig []byte) error {
			return enr.VerifyHash(keys[p].PubKey(), h, sig)
		},
		Gate:       func(cluster.Duty) error { return nil },
		RoundsFrom: func(cluster.Duty) time.Time { return time.Now() },
		Deadline:   func(cluster.Duty) time.Time { return time.Now().Add(time.Hour) },
		Send:       func(context.Context, cluster.PeerIndex, []byte) error { return nil },
		Spawn:      func(string, func(context.Context) error) {},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Handle(context.Background(), 1, frame); err != nil && !errors.Is(err, ErrBusy) {
			b.Fatal(err)
		}
	}
}
