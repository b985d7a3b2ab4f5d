package dv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/create"
	"app.provost/cluster/simnet"
)

// madeCluster makes the directories of a cluster.
func madeCluster(t testing.TB, nodes, validators int) string {
	t.Helper()
	p := create.Defaults()
	p.Dir = filepath.Join(t.TempDir(), "cluster")
	p.Nodes, p.NumValidators, p.Network = nodes, validators, "hoodi"
	p.WithdrawalAddresses = []string{"0x000000000000000000000000000000000000bEEF"}
	p.FeeRecipientAddresses = p.WithdrawalAddresses
	p.InsecureKeys = true
	if _, err := create.Run(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	return p.Dir
}

// freePorts finds ports that nobody listens on now.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

func testLogger(t testing.TB, name string) *slog.Logger {
	if os.Getenv("DV_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
}

// Four nodes over loopback sockets on the practice chain: every duty is on chain, nothing is
// slashable, and with one node gone the attestations go on.
func TestFourNodesOverSockets(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute of real time")
	}
	dir := madeCluster(t, 4, 6)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	first, err := Open(ctx, filepath.Join(dir, "node0"), Options{BeaconNodes: []string{"http://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	opts, err := simnet.FromLock(first.Lock())
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	opts.SlotDuration, opts.SlotsPerEpoch = 2*time.Second, 4
	opts.GenesisTime = time.Now().Add(5 * time.Second).Truncate(time.Second)
	chain, err := simnet.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := chain.Serve(ctx, listener); err != nil {
			t.Error(err)
		}
	})
	ports := freePorts(t, 4)
	addrs := map[cluster.PeerIndex][]string{}
	for i, p := range ports {
		addrs[cluster.PeerIndex(i)] = []string{p}
	}
	nodes := make([]*Node, 4)
	stops := make([]context.CancelFunc, 4)
	for i := range nodes {
		n, err := Open(ctx, filepath.Join(dir, fmt.Sprintf("node%d", i)), Options{
			BeaconNodes: []string{"http://" + listener.Addr().String()}, Listen: []string{ports[i]}, Peers: addrs, KeysNeverSigned: true, Logger: testLogger(t, fmt.Sprint(i)),
		})
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = n
		var nctx context.Context
		nctx, stops[i] = context.WithCancel(ctx)
		wg.Go(func() {
			defer n.Close()
			if err := n.Run(nctx); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		})
	}
	until := func(slots int) simnet.Status {
		t.Helper()
		time.Sleep(time.Until(opts.GenesisTime.Add(time.Duration(slots) * opts.SlotDuration)))
		return chain.Status()
	}
	// Slots 1 to 7 are judged; the very first slots have no peers yet.
	st := until(9)
	t.Logf("after 9 slots: %+v, missed %+v, refused %+v", st.Duties, st.Reasons, st.Refusals)
	if st.SlashableTotal != 0 {
		t.Fatalf("slashable: %+v", st.Slashable)
	}
	if st.Duties.Attester.Included < 6 || st.Duties.Proposer.Included < 5 {
		t.Errorf("too little is on chain: %+v", st.Duties)
	}
	for i, n := range nodes {
		v := n.View()
		if v.State != NodeRunning || v.Connected != 4 || v.Ready != ReadyYes || v.Doubt != "" || v.Stale != 2 || len(v.Validators) != 6 || !v.Validators[0].Active {
			t.Errorf("node %d: state %s, %d connected, %s, doubt %q", i, v.State, v.Connected, v.Ready, v.Doubt)
		}
	}
	// Running the same directory twice is refused while it runs.
	twice, err := Open(ctx, filepath.Join(dir, "node1"), Options{BeaconNodes: []string{"http://" + listener.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	var own *Error
	if err := twice.Run(ctx); !errors.As(err, &own) || own.Code != CodeKeyInUse {
		t.Errorf("a second node with the same key: %v", err)
	}
	twice.Close()

	missedBefore := st.Duties.Attester.Missed
	stops[3]()
	st = until(17)
	t.Logf("after 17 slots, one node gone: %+v, missed %+v", st.Duties, st.Reasons)
	if st.SlashableTotal != 0 {
		t.Fatalf("slashable: %+v", st.Slashable)
	}
	if st.Duties.Attester.Missed != missedBefore {
		t.Errorf("attestations were missed with one of four nodes gone: %+v", st.Misses)
	}
	cancel()
}
