package sched

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
)

// chain is a beacon node whose duties the test rules: validator i attests in slot i of each epoch
// plus shift, and proposes where proposers says.
type chain struct {
	t     *testing.T
	table Table

	mu        sync.Mutex
	told      []string
	shift     uint64
	root      cluster.Root
	proposers map[cluster.Slot]int
	down      error
	slow      time.Duration
	asked     []string
}

const validators = 4

func (c *chain) attesters(ctx context.Context, e cluster.Epoch) (Duties, error) {
	if err := c.wait(ctx, fmt.Sprintf("a%d", e)); err != nil {
		return Duties{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := Duties{DependentRoot: c.root}
	clock := c.table.Clock()
	for i := range uint64(validators) {
		d.Assignments = append(d.Assignments, cluster.Assignment{PubKey: cluster.PubKey{byte(i + 1)}, Validator: cluster.ValidatorIndex(i),
			Slot: clock.First(e) + cluster.Slot((i+c.shift)%clock.SlotsPerEpoch)})
	}
	return d, nil
}

func (c *chain) proposersOf(ctx context.Context, e cluster.Epoch) (Duties, error) {
	if err := c.wait(ctx, fmt.Sprintf("p%d", e)); err != nil {
		return Duties{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := Duties{DependentRoot: c.root}
	for slot, i := range c.proposers { // also those of other epochs, which must not slip in
		d.Assignments = append(d.Assignments, cluster.Assignment{PubKey: cluster.PubKey{byte(i)}, Slot: slot})
	}
	return d, nil
}

func (c *chain) wait(ctx context.Context, what string) error {
	c.mu.Lock()
	c.asked = append(c.asked, what)
	slow, down := c.slow, c.down
	c.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return down
}

// set changes the beacon node's mind.
func (c *chain) set(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
}

type run struct {
	*Scheduler
	*chain
	begun []string
	at    time.Time
}

// start runs a scheduler with slots of 12 s and epochs of 8 slots; the bubble's now is offset into it.
func start(t *testing.T, offset time.Duration, setup func(*chain)) *run {
	t.Helper()
	table, err := NewTable(Spec{Clock: cluster.SlotClock{Genesis: time.Now().Add(-offset), SlotDuration: 12 * time.Second, SlotsPerEpoch: 8}, GloasEpoch: Never}.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	c := &chain{t: t, table: table, root: cluster.Root{1}, proposers: map[cluster.Slot]int{}}
	if setup != nil {
		setup(c)
	}
	r := &run{chain: c, at: table.Clock().Genesis}
	r.Scheduler, err = New(Options{Table: table, Attesters: c.attesters, Proposers: c.proposersOf, OnTrouble: func(e cluster.Epoch, err error) {
		c.set(func() { c.told = append(c.told, fmt.Sprint(e, err != nil)) })
	}, OnDue: func(d Due) {
		by := "clock"
		if d.Head != (cluster.Root{}) {
			by = "head"
		}
		var who []byte
		for key := range d.Assignments {
			who = append(who, '0'+key[0])
		}
		slices.Sort(who)
		start := table.Clock().Start(d.Duty.Slot)
		r.begun = append(r.begun, fmt.Sprintf("%s+%s/%s/%s", d.Duty, time.Since(start), who, by))
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// until sleeps to a time after genesis.
func (r *run) until(d time.Duration) {
	time.Sleep(time.Until(r.at.Add(d)))
	synctest.Wait()
}

func (r *run) want(list ...string) {
	r.t.Helper()
	if got, want := strings.Join(r.begun, "\n"), strings.Join(list, "\n"); got != want {
		r.t.Errorf("began\n%s\nwant\n%s", got, want)
	}
}

const slot = 12 * time.Second

func TestDutiesBeginInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 0, func(c *chain) { c.proposers = map[cluster.Slot]int{2: 4, 9: 1} })
		r.until(11 * slot)
		r.want("attester/0+3.999s/1/clock", "attester/1+3.999s/2/clock", "randao/2+0s/4/clock", "proposer/2+0s/4/clock", "attester/2+3.999s/3/clock",
			"attester/3+3.999s/4/clock", "attester/8+3.999s/1/clock", "randao/9+0s/1/clock", "proposer/9+0s/1/clock", "attester/9+3.999s/2/clock", "attester/10+3.999s/3/clock")
		if got := strings.Join(r.asked, " "); got != "a0 p0 a1 p1 a1 p1" {
			t.Errorf("asked %s: want each epoch ahead and once more when it begins", got)
		}
		if up := r.Upcoming(); len(up) == 0 || up[0].Duty.Slot < 8 {
			t.Errorf("upcoming %v", up)
		}
		if e, ok := r.KnownThrough(); !ok || e != 1 {
			t.Errorf("known through epoch %d, %v", e, ok)
		}
	})
}

func TestHeadBringsAttestersForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 0, nil)
		r.until(1500 * time.Millisecond)
		r.OnHead(Head{Slot: 0, Block: cluster.Root{5}, Previous: r.root, Current: r.root})
		r.until(slot + time.Second)
		r.OnHead(Head{Slot: 1, Block: cluster.Root{6}, Optimistic: true})
		r.until(2*slot + time.Second)
		r.OnHead(Head{Slot: 1, Block: cluster.Root{6}}) // late: of another slot
		r.until(3*slot - time.Second)
		r.OnHead(Head{Slot: 2, Block: cluster.Root{7}}) // after the duty began
		r.until(4 * slot)
		r.want("attester/0+1.5s/1/head", "attester/1+3.999s/2/clock", "attester/2+3.999s/3/clock", "attester/3+3.999s/4/clock")
	})
}

// After a reshuffle nothing of the old duties begins, and the new ones do.
func TestReshuffle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 0, nil)
		r.until(slot + time.Second) // validator 1 attested in slot 0
		r.set(func() { r.root, r.shift, r.down = cluster.Root{2}, 3, errors.New("busy") })
		r.OnHead(Head{Slot: 1, Block: cluster.Root{8}, Previous: cluster.Root{2}, Current: cluster.Root{2}})
		r.until(2*slot + time.Second) // slot 1 had validator 2 before: it must not begin
		r.set(func() { r.down = nil })
		r.until(7*slot + 11*time.Second)
		r.want("attester/0+3.999s/1/clock", "attester/3+3.999s/1/clock", "attester/4+3.999s/2/clock", "attester/5+3.999s/3/clock", "attester/6+3.999s/4/clock")
	})
}

// A head with the same roots, or none, changes nothing and asks nothing.
func TestHeadsAskNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 0, nil)
		r.until(time.Second)
		asked := len(r.asked)
		for range 100 {
			r.OnHead(Head{Slot: 0, Block: cluster.Root{5}, Previous: r.root, Current: r.root})
			r.OnHead(Head{Slot: 0, Block: cluster.Root{5}})
		}
		r.until(2 * time.Second)
		if len(r.asked) != asked {
			t.Errorf("asked %v", r.asked)
		}
		r.Refresh()
		r.Refresh()
		r.until(3 * time.Second)
		if len(r.asked) != asked+2 {
			t.Errorf("after a reorg asked %v", r.asked)
		}
	})
}

// A beacon node that is down at the start costs the duties until it is back, and is asked with
// growing pauses; duties that are known aren't held up by one that hangs.
func TestBeaconNodeTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 0, func(c *chain) { c.down = errors.New("no connection") })
		r.until(2*slot - 1)
		if n := len(r.asked); n < 5 || n > 14 {
			t.Errorf("asked %d times in two slots", n)
		}
		r.set(func() { r.down = nil })
		r.until(3 * slot)
		r.want("attester/2+3.999s/3/clock")
		if told := r.told; len(told) < 2 || told[0] != "0 true" || told[len(told)-1] != "0 false" {
			t.Errorf("told %v", told)
		}
		r.set(func() { r.slow = time.Hour })
		r.Refresh()
		r.until(4 * slot)
		r.want("attester/2+3.999s/3/clock", "attester/3+3.999s/4/clock")
	})
}

func TestBeforeGenesisAndLateStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, -time.Hour, nil)
		r.until(5 * time.Second)
		r.want("attester/0+3.999s/1/clock")
	})
	synctest.Test(t, func(t *testing.T) { // started 20 s into the epoch: slot 0 is skipped, slot 1's attestation is late but not lost
		r := start(t, 20*time.Second, func(c *chain) { c.proposers = map[cluster.Slot]int{1: 1} })
		r.until(25 * time.Second)
		r.want("attester/1+8s/2/clock")
	})
}

// A laptop that slept misses what it slept through and nothing else.
func TestNoDutyTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 0, nil)
		for i := range 40 {
			r.until(time.Duration(i+1) * slot / 2)
			r.Refresh()
			r.OnHead(Head{Slot: cluster.Slot(i / 2), Block: cluster.Root{byte(i)}})
		}
		seen := map[string]bool{}
		for _, b := range r.begun {
			name, _, _ := strings.Cut(b, "+")
			if seen[name] {
				t.Errorf("%s began twice", name)
			}
			seen[name] = true
		}
		if len(seen) != 12 { // slots 0-3, 8-11, 16-19
			t.Errorf("began %v", r.begun)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("made of nothing")
	}
}
