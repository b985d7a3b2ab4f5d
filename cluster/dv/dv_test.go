package dv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/nodedir"
	"app.provost/cluster/dv/internal/sched"
	"app.provost/cluster/dv/internal/sign"
	"app.provost/cluster/guard"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/internal/enr"
	"app.provost/cluster/internal/peer"
)

func TestRestartWindow(t *testing.T) {
	now := time.Unix(1700000000, 0)
	in := func(kind cluster.DutyType, slot cluster.Slot, due, ends time.Duration) Coming {
		return Coming{cluster.Duty{Slot: slot, Type: kind}, now.Add(due), now.Add(ends)}
	}
	attest, propose := cluster.DutyAttester, cluster.DutyProposer
	for name, x := range map[string]struct {
		others int
		coming []Coming
		known  time.Duration
		safe   bool
		window time.Duration
		why    string
	}{
		"quorum without us, nothing due":       {3, nil, time.Hour, true, time.Hour - 15*time.Second, "no duty is due; the others reach quorum"},
		"attestations need nobody alone":       {3, []Coming{in(attest, 7, 2*time.Second, 9*time.Second), in(attest, 6, -time.Second, 5*time.Second)}, time.Hour, true, time.Hour - 15*time.Second, "no duty is due"},
		"a block is far":                       {3, []Coming{in(propose, 99, 10*time.Minute, 10*time.Minute+5*time.Second)}, time.Hour, true, 10*time.Minute - 15*time.Second, "proposer/99 is due in 10m0s"},
		"a block is near":                      {3, []Coming{in(propose, 8, 14*time.Second, 19*time.Second)}, time.Hour, false, 19 * time.Second, "a restart takes 15s"},
		"a block is under way":                 {3, []Coming{in(propose, 8, -time.Second, 4*time.Second), in(propose, 90, time.Minute, 2*time.Minute)}, time.Hour, false, 4 * time.Second, "proposer/8 is under way"},
		"a block is over":                      {3, []Coming{in(propose, 8, -9*time.Second, -4*time.Second)}, time.Hour, true, time.Hour - 15*time.Second, "no duty"},
		"one is gone already: attestations do": {2, []Coming{in(attest, 7, 40*time.Second, 48*time.Second)}, time.Hour, true, 25 * time.Second, "only 2 other nodes are up and 3 nodes are needed"},
		"one is gone already, too near":        {2, []Coming{in(attest, 7, 10*time.Second, 18*time.Second)}, time.Hour, false, 18 * time.Second, "every duty needs this node"},
		"the earliest counts":                  {2, []Coming{in(attest, 9, 90*time.Second, 98*time.Second), in(attest, 8, 60*time.Second, 68*time.Second)}, time.Hour, true, 45 * time.Second, "attester/8"},
		"nothing is known":                     {3, nil, 0, false, 0, "not known"},
	} {
		got := RestartWindow(RestartInput{Now: now, Takes: 15 * time.Second, OthersUp: x.others, Needed: 3, Coming: x.coming, KnownUntil: now.Add(x.known)})
		if got.Safe != x.safe || got.For != x.window || !strings.Contains(got.Why, x.why) || got.Without != (x.others >= 3) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestClockDoubt(t *testing.T) {
	now := time.Now()
	peers := func(offsets ...any) (out []Peer) {
		for _, o := range offsets {
			p := Peer{}
			if d, ok := o.(time.Duration); ok {
				p.ClockOffset, p.Told = &d, &now
			}
			out = append(out, p)
		}
		return out
	}
	old := now.Add(-time.Hour)
	far := 2 * time.Second
	for name, x := range map[string]struct {
		peers []Peer
		doubt bool
	}{
		"all in step":                  {peers(time.Millisecond, -20*time.Millisecond, time.Duration(0)), false},
		"nobody known":                 {peers(nil, nil, nil), false},
		"one is off: its own fault":    {peers(far, time.Duration(0), time.Duration(0)), false},
		"two of three are off: ours":   {peers(far, 2*far, time.Duration(0)), true},
		"behind counts too":            {peers(-far, -far, -far), true},
		"half is no majority":          {peers(far, time.Duration(0)), false},
		"the only one":                 {peers(far, nil, nil), true},
		"within the limit":             {peers(500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond), false},
		"what was told long ago is no": {[]Peer{{ClockOffset: &far, Told: &old}}, false},
	} {
		if err := clockDoubt(x.peers, now, maxClockOffset); (err != nil) != x.doubt || err != nil && !errors.Is(err, errClock) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBeaconDoubtAndReadiness(t *testing.T) {
	none, some := 0, 7
	up := BeaconNode{Name: "a", Status: beacon.StatusUp, Peers: &some}
	for name, x := range map[string]struct {
		nodes     []BeaconNode
		connected int
		doubt     string
		ready     Readiness
	}{
		"up":                     {[]BeaconNode{up}, 4, "", ReadyYes},
		"one of two":             {[]BeaconNode{{Name: "b", Status: beacon.StatusDown}, up}, 4, "", ReadyYes},
		"syncing":                {[]BeaconNode{{Name: "b", Status: beacon.StatusSyncing, SyncDistance: 5}}, 4, "b is syncing", ReadySyncing},
		"far behind":             {[]BeaconNode{{Name: "b", Status: beacon.StatusSyncing, SyncDistance: 321}}, 4, "b is syncing", ReadyBeaconFar},
		"optimistic":             {[]BeaconNode{{Name: "b", Status: beacon.StatusOptimistic}}, 4, "b is optimistic", ReadySyncing},
		"down and wrong network": {[]BeaconNode{{Name: "b", Status: beacon.StatusDown}, {Name: "c", Status: beacon.StatusWrongNetwork}}, 4, "b is down, c is wrong_network", ReadyBeaconDown},
		"no peers of its own":    {[]BeaconNode{{Name: "b", Status: beacon.StatusUp, Peers: &none}}, 4, "", ReadyBeaconAlone},
		"a practice chain":       {[]BeaconNode{{Name: "b", Status: beacon.StatusUp, Peers: &none, Version: "provost-simnet/v1"}}, 4, "", ReadyYes},
		"few peers":              {[]BeaconNode{up}, 2, "", ReadyFewPeers},
		"nobody was asked":       {nil, 4, "no beacon node", ReadyUnknown},
	} {
		err := beaconDoubt(x.nodes)
		if (err == nil) != (x.doubt == "") || err != nil && !strings.Contains(err.Error(), x.doubt) {
			t.Errorf("%s: doubt %v, want %q", name, err, x.doubt)
		}
		if got := readiness(View{State: NodeRunning, Beacon: x.nodes, Connected: x.connected, Quorum: 3}); got != x.ready {
			t.Errorf("%s: %s, want %s", name, got, x.ready)
		}
	}
}

func TestRetryAndWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		duty := cluster.Duty{Slot: 1, Type: cluster.DutyAttester}
		passing := &beacon.Error{Op: "x", Kind: beacon.KindTimeout}
		var answers []error
		var at []time.Duration
		began := time.Now()
		var steps []Step
		s := stages{
			fetch: func(context.Context, sched.Due) (cluster.UnsignedDataSet, error) {
				at = append(at, time.Since(began))
				if len(answers) == 0 {
					return cluster.UnsignedDataSet{{1}: nil}, nil
				}
				err := answers[0]
				answers = answers[1:]
				return nil, err
			},
		}.watch(func(s Step) { steps = append(steps, s) }).retry(slog.New(slog.DiscardHandler))
		ask := func(most time.Duration, errs ...error) (cluster.UnsignedDataSet, error) {
			answers, at, steps, began = errs, nil, nil, time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), most)
			defer cancel()
			return s.fetch(ctx, sched.Due{Duty: duty})
		}
		if set, err := ask(time.Minute, passing, sign.ErrDoubt, errNotAll); err != nil || len(set) != 1 || len(at) != 4 {
			t.Errorf("after three errors that pass: %v, %v", set, err)
		}
		for i, want := range []time.Duration{0, 250 * time.Millisecond, 650 * time.Millisecond, 1290 * time.Millisecond} {
			if d := at[i] - want; d < -want/5 || d > want/5 {
				t.Errorf("attempt %d after %s, want about %s", i, at[i], want)
			}
		}
		if len(steps) != 4 || steps[0].Err == nil || steps[3].Err != nil || steps[3].Stage != StageFetch || steps[3].Duty != duty {
			t.Errorf("watched %+v", steps)
		}
		final := errors.New("no such duty")
		if _, err := ask(time.Minute, final); !errors.Is(err, final) || len(at) != 1 {
			t.Errorf("an error that stays was tried %d times: %v", len(at), err)
		}
		many := make([]error, 100)
		for i := range many {
			many[i] = passing
		}
		if _, err := ask(time.Minute, many...); !errors.Is(err, passing) || len(at) < 8 || len(at) > 14 || time.Since(began) != time.Minute {
			t.Errorf("until the deadline: %d attempts in %s, %v", len(at), time.Since(began), err)
		}
	})
}

func TestHousehold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHousehold(t.Context())
		boom := errors.New("boom")
		var ended atomic.Int32
		for range 3 {
			h.spawn("waits", func(ctx context.Context) error { <-ctx.Done(); time.Sleep(time.Second); ended.Add(1); return ctx.Err() })
			time.Sleep(time.Millisecond)
		}
		h.spawn("fails", func(context.Context) error { return boom })
		synctest.Wait()
		h.close()
		if ended.Load() != 3 || !errors.Is(h.cause(nil), boom) {
			t.Errorf("%d ended, %v", ended.Load(), h.cause(nil))
		}
		late := false
		h.spawn("late", func(ctx context.Context) error { late = ctx.Err() != nil; return nil })
		h.close()
		if !late {
			t.Error("a late one did not find its context ended")
		}
		quiet := newHousehold(t.Context())
		quiet.spawn("waits", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		quiet.close()
		if err := quiet.cause(nil); err != nil {
			t.Errorf("a stop is no error: %v", err)
		}
	})
}

// The file of format 1 is read for ever.
func TestStateFile(t *testing.T) {
	sample, err := os.ReadFile("testdata/node-1.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d := &nodedir.Directory{Lock: &cluster.Lock{}, Self: 1}
	if err := d.Lock.LockHash.UnmarshalText([]byte("0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")); err != nil {
		t.Fatal(err)
	}
	if st, err := readState(dir, d); st != nil || err != nil {
		t.Errorf("before the first run: %v, %v", st, err)
	}
	if err := writeState(dir, d, cluster.Root{0xaa}); err != nil {
		t.Fatal(err)
	}
	st, err := readState(dir, d)
	if err != nil || st.ValidatorsRoot != (cluster.Root{0xaa}) {
		t.Fatalf("%+v, %v", st, err)
	}
	if info, err := os.Stat(filepath.Join(dir, stateFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for name, x := range map[string]struct {
		content string
		code    Code
	}{
		"sample":        {string(sample), ""},
		"newer":         {strings.Replace(string(sample), "node/1", "node/2", 1), CodeState},
		"torn":          {string(sample[:40]), CodeState},
		"other cluster": {strings.Replace(string(sample), "0x0011", "0x0012", 1), CodeOtherCluster},
		"other node":    {strings.Replace(string(sample), `"share_index": 2`, `"share_index": 3`, 1), CodeOtherCluster},
	} {
		if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(x.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readState(dir, d)
		var e *Error
		if x.code == "" && err != nil || x.code != "" && (!errors.As(err, &e) || e.Code != x.code || e.Remedy == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What keeps a node from running has a code and a remedy.
func TestRunRefuses(t *testing.T) {
	root := madeCluster(t, 4, 1)
	open := func(o Options) *Node {
		t.Helper()
		o.BeaconNodes = []string{"http://127.0.0.1:1"}
		n, err := Open(t.Context(), filepath.Join(root, "node2"), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		return n
	}
	for name, x := range map[string]struct {
		dir  string
		o    Options
		code Code
	}{
		"no beacon node":  {"node0", Options{}, CodeOptions},
		"long graffiti":   {"node0", Options{BeaconNodes: []string{"http://x"}, Graffiti: strings.Repeat("x", 33)}, CodeOptions},
		"no directory":    {"node9", Options{BeaconNodes: []string{"http://x"}}, Code(nodedir.CodeMissing)},
		"a whole cluster": {".", Options{BeaconNodes: []string{"http://x"}}, Code(nodedir.CodeLockMissing)},
	} {
		_, err := Open(t.Context(), filepath.Join(root, x.dir), x.o)
		var e *Error
		if !errors.As(err, &e) || e.Code != x.code || e.Remedy == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	var e *Error
	if err := open(Options{Listen: []string{"nonsense"}}).Run(t.Context()); !errors.As(err, &e) || e.Code != CodePeers {
		t.Errorf("a bad address: %v", err)
	}
	n := open(Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := n.Run(ctx); err != nil {
		t.Errorf("stopped while it waited for a beacon node: %v", err)
	}
	if v := n.View(); v.State != NodeStopped || v.Restart.Safe || len(v.Validators) != 1 || v.Validators[0].Known {
		t.Errorf("after the end: %+v", v)
	}
	if err := n.Run(ctx); !errors.As(err, &e) || e.Code != CodeRunning {
		t.Errorf("run again: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "node2", enr.KeyFileName+".lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock of the node key is still there: %v", err)
	}
	// A node that ran before has slashing protection; without it it must not start.
	state := filepath.Join(root, "node2", stateDir)
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := nodedir.Open(t.Context(), filepath.Join(root, "node2"), nodedir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Wipe()
	if err := writeState(state, d, cluster.Root{1}); err != nil {
		t.Fatal(err)
	}
	st, err := readState(state, d)
	if err != nil {
		t.Fatal(err)
	}
	_, err = open(Options{}).protect(t.Context(), beacon.Chain{Genesis: beacon.Genesis{ValidatorsRoot: cluster.Root{1}},
		Clock: cluster.SlotClock{Genesis: time.Now(), SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}}, st)
	if !errors.As(err, &e) || e.Code != Code(guard.CodeMissing) {
		t.Errorf("slashing protection is gone: %v", err)
	}
}

// A history that was put into slashing protection when existing keys were split may be old by the time
// a node first starts: its keys are fenced then, and only then.
func TestInheritedHistoryIsFenced(t *testing.T) {
	root := madeCluster(t, 4, 2)
	chain := beacon.Chain{Genesis: beacon.Genesis{ValidatorsRoot: cluster.Root{1}},
		Clock: cluster.SlotClock{Genesis: time.Now().Add(-1000 * 32 * 12 * time.Second), SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}}
	n, err := Open(t.Context(), filepath.Join(root, "node1"), Options{BeaconNodes: []string{"http://127.0.0.1:1"}, KeysNeverSigned: true})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	dir := filepath.Join(root, "node1", stateDir)
	old, fresh := n.dir.Lock.Validators[0].PubKey, n.dir.Lock.Validators[1].PubKey
	seed, err := guard.Open(guard.Options{Dir: dir, GenesisValidatorsRoot: cluster.Root{1}, Clock: chain.Clock, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := seed.Raise(t.Context(), map[cluster.PubKey]guard.Marks{old: {HasAttestation: true, Source: 6, Target: 7}}); err != nil {
		t.Fatal(err)
	}
	if err := seed.Close(); err != nil {
		t.Fatal(err)
	}
	var first guard.Marks
	for start := range 2 {
		st, err := readState(dir, n.dir)
		if err != nil || (st == nil) != (start == 0) {
			t.Fatalf("start %d: %+v %v", start, st, err)
		}
		g, err := n.protect(t.Context(), chain, st)
		if err != nil {
			t.Fatal(err)
		}
		m, known, err := g.Marks(t.Context(), old)
		if err != nil || !known || m.Source < 999 || m.Target < 1001 || !m.HasBlock {
			t.Errorf("start %d: %+v %v %v: want a fence two epochs from now", start, m, known, err)
		}
		if start == 0 {
			first = m
		} else if m != first {
			t.Errorf("fenced again at a later start: %+v, before %+v", m, first)
		}
		if m, known, err := g.Marks(t.Context(), fresh); err != nil || !known || m != (guard.Marks{}) {
			t.Errorf("a key that never signed: %+v %v %v", m, known, err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Nothing is signed while the clock is off by the peers' word, nor while the beacon node is behind;
// when it passes, the duty is still done.
func TestDoubtsPass(t *testing.T) {
	root := madeCluster(t, 4, 2)
	var dirs []*nodedir.Directory
	for i := range 4 {
		d, err := nodedir.Open(t.Context(), filepath.Join(root, fmt.Sprintf("node%d", i)), nodedir.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Wipe()
		dirs = append(dirs, d)
	}
	disk := quickDir(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tw := newTown(t, dirs, disk, 1, 16)
		tw.ctx = ctx
		ticks := make(chan struct{})
		go func() { defer close(ticks); tw.ticker() }()
		tw.nodes[1].skew = 2 * time.Second
		for _, c := range tw.nodes {
			c.start(nil, nil)
		}
		time.Sleep(time.Until(tw.w.clock.Genesis.Add(16 * weekSlot)))
		v := tw.nodes[1].node.View()
		if !strings.Contains(v.Doubt, "clock") || tw.nodes[0].node.View().Doubt != "" {
			t.Errorf("doubts %q and %q", v.Doubt, tw.nodes[0].node.View().Doubt)
		}
		for _, d := range v.Duties {
			if d.Duty.Type == cluster.DutyAttester && d.Partials[1] != 0 {
				t.Errorf("%s was signed in doubt", d.Duty)
			}
		}
		if len(v.Duties) == 0 || v.Slot == nil || v.Clock == nil || v.Guard != nil && v.Guard.Keys != 2 || !v.Validators[0].Active || v.Connected != 4 {
			t.Errorf("view %+v", v)
		}
		// Three beacon nodes fall behind: no quorum may sign. They catch up within the epoch.
		for _, c := range tw.nodes[:3] {
			c.eyes.set(func(e *eyes) { e.syncing = true })
		}
		before := len(tw.w.included)
		time.Sleep(8 * weekSlot)
		for _, c := range tw.nodes[:3] {
			c.eyes.set(func(e *eyes) { e.syncing = false })
		}
		time.Sleep(40 * weekSlot)
		for _, c := range tw.nodes {
			c.stop()
		}
		cancel()
		<-ticks
		tw.mesh.wg.Wait()
		if len(tw.w.included) <= before || len(tw.w.slashable) != 0 {
			t.Errorf("%d duties before, %d after; slashable %v", before, len(tw.w.included), tw.w.slashable)
		}
		for duty, views := range tw.reports {
			for self, v := range views {
				if v.State == DutyMissed && self != 1 && (v.Reason == "" || v.Text == "") {
					t.Errorf("node %d missed %s without a reason", self, duty)
				}
			}
		}
	})
}

var _ peers = (*peer.Host)(nil)
var _ beaconAPI = (*beacon.Client)(nil)
