package dv

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/nodedir"
	"app.provost/cluster/guard"
)

// town is a cluster of four nodes on twins of everything.
type town struct {
	t     *testing.T
	ctx   context.Context
	w     *world
	mesh  *mesh
	wit   *witness
	nodes [4]*citizen
	r     *rand.Rand

	mu      sync.Mutex
	reports map[cluster.Duty]map[cluster.PeerIndex]DutyView
	doubled map[string]bool // whose own messages came back to them, not made by them; the name of their beacon node
}

// citizen is one node; it may die and come back.
type citizen struct {
	town *town
	self cluster.PeerIndex
	dir  *nodedir.Directory
	eyes *eyes
	disk string // of slashing protection
	stop func() // nil while it is down
	skew time.Duration
	node *Node
}

const (
	weekSlot   = 12 * time.Second
	weekBlocks = 300 // one of so many slots has a block of ours
)

func newTown(t *testing.T, dirs []*nodedir.Directory, disk string, seed, epoch uint64) *town {
	genesis := time.Now().Add(time.Minute)
	clock := cluster.SlotClock{Genesis: genesis, SlotDuration: weekSlot, SlotsPerEpoch: epoch}
	town := &town{t: t, ctx: t.Context(), w: newWorld(t, clock, dirs[0].Lock, weekBlocks), mesh: newMesh(), r: rand.New(rand.NewPCG(seed, 1)),
		reports: map[cluster.Duty]map[cluster.PeerIndex]DutyView{}, doubled: map[string]bool{}}
	town.wit = &witness{chain: signingChain(town.w.chain), liars: map[cluster.PeerIndex]bool{}, signed: map[string]cluster.Root{}}
	town.mesh.tap = town.wit.tap
	for i, d := range dirs {
		c := &citizen{town: town, self: cluster.PeerIndex(i), dir: d, eyes: &eyes{w: town.w, name: fmt.Sprintf("bn%d", i)}, disk: filepath.Join(disk, fmt.Sprint(i))}
		town.nodes[i] = c
	}
	return town
}

// start runs the node on its own slashing protection, or on what it is given.
func (c *citizen) start(protection slashing, twist func(*port)) {
	t := c.town.t
	ctx, cancel := context.WithCancel(c.town.ctx)
	var g *guard.Guard
	if protection == nil {
		var err error
		g, err = guard.Open(guard.Options{Dir: c.disk, GenesisValidatorsRoot: c.town.w.chain.Genesis.ValidatorsRoot, Clock: c.town.w.clock, Create: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Register(ctx, c.town.w.keys, guard.Unused); err != nil {
			t.Fatal(err)
		}
		protection = g
	}
	p := c.town.mesh.join(ctx, c.self, 4)
	p.skew = c.skew
	if twist != nil {
		twist(p)
	}
	self := c.self
	n := newNode(c.dir, Options{Logger: testLogger(t, fmt.Sprint(self)), OnReport: func(v DutyView) {
		c.town.mu.Lock()
		defer c.town.mu.Unlock()
		if c.town.reports[v.Duty] == nil {
			c.town.reports[v.Duty] = map[cluster.PeerIndex]DutyView{}
		}
		c.town.reports[v.Duty][self] = v
	}})
	c.node = n
	c.eyes.set(func(e *eyes) { e.onEvent = n.onEvent })
	house := newHousehold(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.serve(house, c.eyes, p, protection, c.town.w.chain); err != nil {
			t.Errorf("node %d: %v", self, err)
		}
	}()
	c.stop = func() {
		if n.met() {
			c.town.doubled[c.eyes.name] = true
		}
		cancel()
		<-done
		c.town.mesh.leave(p)
		if g != nil {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		}
		c.eyes.set(func(e *eyes) { e.onEvent = nil })
		c.stop = nil
	}
}

// met tells whether the node ever met a message of its own key that it did not make.
func (n *Node) met() bool {
	n.mu.Lock()
	c := n.core
	n.mu.Unlock()
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alien != nil
}

func (c *citizen) down() bool { return c.stop == nil }

// ticker is the world's clock: slots begin, blocks arrive and are told.
func (tw *town) ticker() {
	clock := tw.w.clock
	for s := cluster.Slot(0); ; s++ {
		for _, at := range []struct {
			when time.Duration
			do   func()
		}{
			{0, func() { tw.w.begin(s) }},
			{arrival, func() { tw.tell(s, 0, 200*time.Millisecond) }},
			{3 * time.Second, func() { tw.tell(s, 200*time.Millisecond, 3*time.Second) }},
			{8 * time.Second, func() { tw.tell(s, 3*time.Second, time.Hour) }},
		} {
			select {
			case <-time.After(time.Until(clock.Start(s).Add(at.when))):
			case <-tw.ctx.Done():
				return
			}
			at.do()
		}
	}
}

// tell tells the head to the nodes whose lag is in the range.
func (tw *town) tell(s cluster.Slot, from, to time.Duration) {
	for _, c := range tw.nodes {
		c.eyes.mu.Lock()
		lag := c.eyes.lag
		c.eyes.mu.Unlock()
		if lag >= from && lag < to {
			c.eyes.tell(s)
		}
	}
}

func (tw *town) sleep(d time.Duration) { time.Sleep(d) }

func (tw *town) within(most time.Duration) time.Duration {
	return time.Duration(tw.r.Int64N(int64(most)))
}

func (tw *town) slot() cluster.Slot { s, _ := tw.w.clock.At(time.Now()); return s }

// evil allows everything.
type evil struct{}

func (evil) Check(_ context.Context, b guard.Batch) (guard.Answers, error) {
	a := guard.Answer{Verdict: guard.Allowed}
	return guard.Answers{Attestations: slices.Repeat([]guard.Answer{a}, len(b.Attestations)), Blocks: slices.Repeat([]guard.Answer{a}, len(b.Blocks))}, nil
}

func (e evil) CheckAndRecord(ctx context.Context, b guard.Batch) (guard.Answers, error) {
	return e.Check(ctx, b)
}

// day is one part of the week: what happens to the cluster, and what it may cost.
type day struct {
	name string
	run  func(tw *town, until time.Time)
	// attest and propose are the shares of duties that must be on chain at least.
	attest, propose float64
}

func days() []day {
	return []day{
		{"calm", func(tw *town, until time.Time) { tw.sleep(time.Until(until)) }, 1, 1},
		{"nodes die", func(tw *town, until time.Time) {
			for time.Now().Before(until) {
				tw.sleep(tw.within(20 * time.Minute))
				c := tw.nodes[tw.r.IntN(4)]
				c.stop()
				tw.sleep(time.Second + tw.within(10*time.Minute))
				c.start(nil, nil)
			}
		}, 1, 0.8},
		{"the network breaks", func(tw *town, until time.Time) {
			for time.Now().Before(until) {
				tw.sleep(tw.within(30 * time.Minute))
				side := map[cluster.PeerIndex]bool{cluster.PeerIndex(tw.r.IntN(4)): true}
				if tw.r.IntN(2) == 0 {
					side[cluster.PeerIndex(tw.r.IntN(4))] = true
				}
				slow := tw.within(700 * time.Millisecond)
				tw.mesh.mu.Lock()
				tw.mesh.cut = func(from, to cluster.PeerIndex) bool { return side[from] != side[to] }
				tw.mesh.delay = func(from, to cluster.PeerIndex) time.Duration {
					return 10*time.Millisecond + time.Duration(int64(from+1)*int64(to+1))*slow/16
				}
				tw.mesh.mu.Unlock()
				tw.sleep(10*time.Second + tw.within(10*time.Minute))
				tw.mesh.mu.Lock()
				tw.mesh.cut = func(_, _ cluster.PeerIndex) bool { return false }
				tw.mesh.mu.Unlock()
			}
			tw.mesh.mu.Lock()
			tw.mesh.delay = func(_, _ cluster.PeerIndex) time.Duration { return 10 * time.Millisecond }
			tw.mesh.mu.Unlock()
		}, 0.9, 0.6},
		{"beacon nodes are late, down or behind", func(tw *town, until time.Time) {
			for time.Now().Before(until) {
				tw.sleep(tw.within(10 * time.Minute))
				e := tw.nodes[tw.r.IntN(4)].eyes
				kind := tw.r.IntN(4)
				slot := tw.slot()
				e.set(func(e *eyes) {
					switch kind {
					case 0:
						e.lag = time.Second + tw.within(8*time.Second)
					case 1:
						e.down = true
					case 2:
						e.syncing = true
					case 3:
						e.stuck = &slot
					}
				})
				tw.sleep(10*time.Second + tw.within(40*time.Minute))
				e.set(func(e *eyes) { e.lag, e.down, e.syncing, e.stuck = 0, false, false, nil })
			}
		}, 0.95, 0.7},
		{"the chain reorganises", func(tw *town, until time.Time) {
			for time.Now().Before(until) {
				tw.sleep(tw.within(40 * time.Minute))
				depth := cluster.Slot(1 + tw.r.IntN(100))
				slot := tw.slot()
				tw.w.reorg(slot - min(depth, slot))
			}
		}, 0.9, 0.9},
		{"a node lies", func(tw *town, until time.Time) {
			// Node 3 runs twice, without protection, on beacon nodes that say another thing at each
			// question; each copy is heard by some, and what it sends is damaged now and then.
			liar := tw.nodes[3]
			liar.stop()
			tw.wit.mu.Lock()
			tw.wit.liars[3] = true
			tw.wit.mu.Unlock()
			var stops []func()
			n := 0
			for copyOf := range 2 {
				twin := &citizen{town: tw, self: 3, dir: liar.dir, eyes: &eyes{w: tw.w, name: fmt.Sprintf("liar%d", copyOf), liar: true, lies: uint64(copyOf) << 32}}
				twin.start(evil{}, func(p *port) {
					if copyOf == 0 {
						p.only = map[cluster.PeerIndex]bool{0: true, 1: true}
					} else {
						p.only = map[cluster.PeerIndex]bool{1: true, 2: true}
					}
					p.twist = func(to cluster.PeerIndex, id string, msg []byte) []byte {
						switch n++; n % 11 {
						case 3:
							return nil
						case 5:
							msg = slices.Clone(msg)
							msg[n%len(msg)] ^= 0x40
						case 7:
							return msg[:len(msg)/2]
						}
						return msg
					}
				})
				stops = append(stops, twin.stop)
			}
			tw.sleep(time.Until(until))
			for _, stop := range stops {
				stop()
			}
			tw.wit.mu.Lock()
			delete(tw.wit.liars, 3)
			tw.wit.mu.Unlock()
			liar.start(nil, nil)
		}, 0.9, 0.5},
		{"everything, and an old copy of a store", func(tw *town, until time.Time) {
			old := quickDir(tw.t)
			for round := 0; time.Now().Before(until); round++ {
				tw.sleep(tw.within(20 * time.Minute))
				c := tw.nodes[tw.r.IntN(4)]
				c.stop()
				// Now and then a node comes back with the store that it had hours ago.
				saved := filepath.Join(old, fmt.Sprint(c.self))
				switch {
				case round%5 == 0:
					_ = os.RemoveAll(saved)
					if err := os.CopyFS(saved, os.DirFS(c.disk)); err != nil {
						tw.t.Fatal(err)
					}
				case round%5 == 4:
					if _, err := os.Stat(saved); err == nil {
						_ = os.RemoveAll(c.disk)
						if err := os.CopyFS(c.disk, os.DirFS(saved)); err != nil {
							tw.t.Fatal(err)
						}
						tw.wit.mu.Lock()
						tw.wit.liars[c.self] = true // it may sign twice; the others must not complete it
						tw.wit.mu.Unlock()
					}
				}
				slot := tw.slot()
				tw.w.reorg(slot - min(cluster.Slot(tw.r.IntN(70)), slot))
				away := cluster.PeerIndex(tw.r.IntN(4))
				tw.mesh.mu.Lock()
				tw.mesh.cut = func(from, to cluster.PeerIndex) bool { return (from == away) != (to == away) }
				tw.mesh.mu.Unlock()
				tw.sleep(tw.within(5 * time.Minute))
				tw.mesh.mu.Lock()
				tw.mesh.cut = func(_, _ cluster.PeerIndex) bool { return false }
				tw.mesh.mu.Unlock()
				c.start(nil, nil)
			}
		}, 0.8, 0.5},
	}
}

// quickDir is in memory where that is possible: a week syncs thousands of times, and no power fails.
func quickDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "week")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// A week of a cluster whose nodes die, whose network breaks, whose beacon nodes lag, whose chain
// reorganises and one of whose nodes lies: nothing slashable is ever signed, and each duty that is
// missed has its reason written down.
func TestAClustersWeek(t *testing.T) {
	length, epoch := 24*time.Hour, uint64(64)
	if testing.Short() {
		length, epoch = time.Hour, 16
	}
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
		tw := newTown(t, dirs, disk, 20261120, epoch)
		tw.ctx = ctx
		for _, c := range tw.nodes {
			c.start(nil, nil)
		}
		var ticking sync.WaitGroup
		ticking.Go(tw.ticker)
		tw.sleep(time.Until(tw.w.clock.Genesis))
		began := map[string][2]cluster.Slot{}
		at := time.Now()
		for _, d := range days() {
			first := tw.slot()
			at = at.Add(length)
			d.run(tw, at)
			if time.Now().Before(at) {
				tw.sleep(time.Until(at))
			}
			at = time.Now()
			began[d.name] = [2]cluster.Slot{first, tw.slot()}
			for _, c := range tw.nodes {
				if c.down() {
					t.Fatalf("after %q node %d is down", d.name, c.self)
				}
			}
		}
		tw.sleep(2 * time.Duration(epoch) * weekSlot) // the last duties are judged
		for _, c := range tw.nodes {
			c.stop()
		}
		cancel()
		ticking.Wait()
		tw.mesh.wg.Wait()
		tw.judge(began)
	})
}

// judge compares what the chain has with what the nodes say of it.
func (tw *town) judge(began map[string][2]cluster.Slot) {
	t := tw.t
	for _, s := range tw.w.slashable {
		t.Errorf("slashable: %s", s)
	}
	for _, s := range tw.wit.clash {
		t.Errorf("an honest node signed twice: %s", s)
	}
	if tw.wit.seen == 0 {
		t.Error("the witness saw nothing")
	}
	for _, d := range days() {
		span := began[d.name]
		var expected, included [2]int // attestations, blocks
		reasons := map[string]int{}
		for duty, who := range tw.w.expected {
			if duty.Slot < span[0] || duty.Slot >= span[1] || duty.Slot < 2 {
				continue
			}
			kind := 0
			if duty.Type == cluster.DutyProposer {
				kind = 1
			}
			for i := range who {
				expected[kind]++
				if tw.w.included[duty][i] {
					included[kind]++
					continue
				}
				why := tw.why(duty, i)
				if why == "" {
					t.Errorf("%s: %s of validator %d was missed, and no node says why", d.name, duty, i)
				}
				reasons[duty.Type.String()+" "+why]++
			}
		}
		var list []string
		for _, r := range slices.Sorted(maps.Keys(reasons)) {
			list = append(list, fmt.Sprintf("%d× %s", reasons[r], r))
		}
		t.Logf("%s: %d of %d attestations, %d of %d blocks; %s", d.name, included[0], expected[0], included[1], expected[1], strings.Join(list, "; "))
		if float64(included[0]) < d.attest*float64(expected[0]) || expected[1] >= 5 && float64(included[1]) < d.propose*float64(expected[1]) {
			t.Errorf("%s: too little is on chain", d.name)
		}
	}
	// However often nodes are restarted, only the one that ran twice met messages of a twin.
	t.Logf("met a message of a twin: %v", slices.Sorted(maps.Keys(tw.doubled)))
	if len(tw.doubled) == 0 && !testing.Short() {
		t.Error("nobody met a message of a twin while a node ran twice")
	}
	for name := range tw.doubled {
		if !strings.HasPrefix(name, "liar") {
			t.Errorf("the node of %s takes itself for doubled", name)
		}
	}
	t.Logf("refused by the chain: %v; messages refused by handlers: %v", tw.w.refused, tw.mesh.bad)
}

// why is the reason that nodes wrote down for a validator's missed duty, "" when none did.
func (tw *town) why(duty cluster.Duty, i int) string {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	for _, self := range slices.Sorted(maps.Keys(tw.reports[duty])) {
		v := tw.reports[duty][self]
		if slices.Contains(v.Missed, tw.w.keys[i]) && v.Reason != "" && v.Text != "" {
			return v.Reason
		}
	}
	return ""
}
