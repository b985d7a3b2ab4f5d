package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/simnet"
)

// wires are network namespaces, one for each node, joined by a bridge of the host: a node is cut
// off by taking its wire out of the bridge, after which packets get lost without a word.
type wires struct {
	t      testing.TB
	id     string
	subnet string
}

// layWires returns nil with the reason where it can't be done.
func layWires(t testing.TB, n int) (*wires, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("network namespaces need root")
	}
	id := fmt.Sprintf("pv%d", os.Getpid()%100000)
	w := &wires{t: t, id: id, subnet: fmt.Sprintf("10.213.%d", os.Getpid()%254)}
	t.Cleanup(func() {
		for i := range n {
			command("ip", "link", "del", w.end(i))
			command("ip", "netns", "del", w.space(i))
		}
		command("ip", "link", "del", id+"b")
	})
	steps := [][]string{{"ip", "link", "add", id + "b", "type", "bridge"}, {"ip", "addr", "add", w.subnet + ".1/24", "dev", id + "b"}, {"ip", "link", "set", id + "b", "up"}}
	for i := range n {
		in := []string{"ip", "-n", w.space(i)}
		steps = append(steps, []string{"ip", "netns", "add", w.space(i)},
			[]string{"ip", "link", "add", w.end(i), "type", "veth", "peer", "name", "eth0", "netns", w.space(i)},
			[]string{"ip", "link", "set", w.end(i), "master", id + "b", "up"},
			append(in, "addr", "add", w.host(i)+"/24", "dev", "eth0"), append(in, "link", "set", "eth0", "up"), append(in, "link", "set", "lo", "up"))
	}
	for _, s := range steps {
		if err := command(s...); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *wires) space(i int) string { return fmt.Sprintf("%sn%d", w.id, i) }
func (w *wires) end(i int) string   { return fmt.Sprintf("%sv%d", w.id, i) }
func (w *wires) host(i int) string  { return fmt.Sprintf("%s.%d", w.subnet, 10+i) }

func (w *wires) cut(i int) {
	w.t.Helper()
	if err := command("ip", "link", "set", w.end(i), "nomaster"); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wires) join(i int) {
	w.t.Helper()
	if err := command("ip", "link", "set", w.end(i), "master", w.id+"b"); err != nil {
		w.t.Fatal(err)
	}
}

// absence is when a node was away, in slots, both ends included.
type absence struct {
	node     int
	how      string
	from, to uint64
}

type dutyKey struct {
	kind string
	slot uint64
}

// One node at a time is killed, frozen, cut off or restarted. Nothing slashable is ever signed, and
// what is missed has a reason at the nodes that were there. At slots of 12 seconds, which
// PROVOST_DV_LONG=10m asks for, nothing is missed but blocks that the absent node should have led:
// shorter slots have no time for a second round, and on a busy machine not always for the first.
func TestOneNodeAtATimeAway(t *testing.T) {
	t.Parallel()
	length, slot, perEpoch, long := 45*time.Second, 3*time.Second, "4", false
	if testing.Short() {
		length = 25 * time.Second
	}
	if s := os.Getenv("PROVOST_DV_LONG"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("PROVOST_DV_LONG: %v", err)
		}
		length, slot, perEpoch, long = d, 12*time.Second, "8", true
	}
	w, err := layWires(t, 4) // first, as what is made first is removed last
	p := newCluster(t, 4, 8)
	if err != nil {
		t.Logf("no node is cut off: %v", err)
		p.startChain("--slot-duration", slot.String(), "--slots-per-epoch", perEpoch, "--genesis-in", "10s")
	} else {
		var addrs []string
		for i, n := range p.nodes {
			n.listen, n.prefix = w.host(i)+":3610", []string{"ip", "netns", "exec", w.space(i)}
			addrs = append(addrs, n.name+"="+n.listen)
		}
		for _, n := range p.nodes {
			n.peers = strings.Join(addrs, ",")
		}
		p.startChainAt(w.subnet+".1:5052", "--slot-duration", slot.String(), "--slots-per-epoch", perEpoch, "--genesis-in", "10s")
	}
	for _, n := range p.nodes {
		n.start()
	}
	p.signing(60 * time.Second)
	p.slots(1)

	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	ways := []string{"killed", "frozen", "restarted", "cut off"}
	if err != nil {
		ways = ways[:3]
	}
	told := map[dutyKey][4]string{} // why a duty was missed, in each node's words
	chainMisses := map[dutyKey]map[uint64]simnet.Miss{}
	gather := func() {
		for i, n := range p.nodes {
			rows, err := n.duties()
			if err != nil {
				t.Errorf("duties of %s: %v", n.name, err)
			}
			for _, r := range rows {
				if r.State == "missed" && r.Why != "" && r.Reason != "" {
					k := dutyKey{r.Type, r.Slot}
					words := told[k]
					words[i] = r.Reason + ": " + r.Why
					told[k] = words
				}
			}
		}
		for _, m := range p.nothingSlashable().Misses {
			k := dutyKey{m.Duty, m.Slot}
			if chainMisses[k] == nil {
				chainMisses[k] = map[uint64]simnet.Miss{}
			}
			chainMisses[k][m.Validator] = m
		}
	}
	var away []absence
	order := random.Perm(len(ways))
	for began := time.Now(); time.Since(began) < length; {
		if len(order) == 0 {
			order = random.Perm(len(ways))
		}
		i, how := random.IntN(4), ways[order[0]]
		order = order[1:]
		n := p.nodes[i]
		a := absence{node: i, how: how, from: currentSlot(p.mustAccount())}
		pause := time.Duration((1 + 1.5*random.Float64()) * float64(slot))
		switch how {
		case "killed":
			n.signal(syscall.SIGKILL)
			n.wait(20 * time.Second)
			time.Sleep(pause)
			n.start()
		case "frozen":
			n.signal(syscall.SIGSTOP)
			time.Sleep(pause)
			n.signal(syscall.SIGCONT)
		case "cut off":
			w.cut(i)
			time.Sleep(pause)
			w.join(i)
		case "restarted":
			n.stop()
			n.start()
		}
		comesBack(t, n)
		a.to = currentSlot(p.mustAccount())
		away = append(away, a)
		p.slots(1)
		p.signing(60 * time.Second)
		gather()
	}
	// The last duties' windows close.
	p.slots(2)
	gather()

	// None of it looks like a node that runs twice, nor like a wrong clock.
	for _, n := range p.nodes {
		var all []alertRow
		if err := n.list("alerts", &all); err != nil {
			t.Errorf("alerts of %s: %v", n.name, err)
		}
		for _, a := range all {
			if a.Code == "dv.key-in-use" || a.Code == "dv.clock-off" {
				t.Errorf("%s raised %s", n.name, a)
			}
		}
	}

	st := p.nothingSlashable()
	t.Logf("%d faults in %d slots of %s: %d of %d votes and %d of %d blocks included, %d slashable", len(away), st.Slots, slot,
		st.Duties.Attester.Included, st.Duties.Attester.Expected, st.Duties.Proposer.Included, st.Duties.Proposer.Expected, st.SlashableTotal)
	for _, a := range away {
		t.Logf("node%d was %s: slots %d to %d", a.node, a.how, a.from, a.to)
	}
	led := 0
	for k, byValidator := range chainMisses {
		for v, m := range byValidator {
			kind := cluster.DutyAttester
			if k.kind == "proposer" {
				kind = cluster.DutyProposer
			}
			leader := int((k.slot + uint64(kind) + 1) % 4)
			by, why := "nobody away", ""
			of := false
			words := told[k]
			for _, a := range away {
				if a.from <= k.slot && k.slot <= a.to {
					by = fmt.Sprintf("node%d %s", a.node, a.how)
					of = of || a.node == leader
					words[a.node] = ""
				}
			}
			for i, w := range words {
				if w != "" {
					why = fmt.Sprintf("node%d says %s", i, w)
				}
			}
			t.Logf("missed: %s/%d of validator %d, led by node%d, %s; the chain: %s; %s", k.kind, k.slot, v, leader, by, m.Reason, why)
			if strings.HasPrefix(m.Reason, "no ") && why == "" {
				t.Errorf("%s/%d of validator %d was missed, and no node that was there says why", k.kind, k.slot, v)
			}
			if of && k.kind == "proposer" {
				led++
			} else if long {
				t.Errorf("%s/%d of validator %d was missed, which is no block that an absent node should have led", k.kind, k.slot, v)
			}
		}
	}
	t.Logf("%d missed blocks were led by the absent node", led)
	if 2*st.Duties.Attester.Included < st.Duties.Attester.Expected || st.Duties.Proposer.Included == 0 {
		t.Errorf("most was missed: %+v", st.Duties)
	}
}

func currentSlot(st simnet.Status) uint64 {
	if st.Slot == nil {
		return 0
	}
	return *st.Slot
}

// comesBack waits until a node could sign again. Who was killed leaves the lock of its key, which is
// free after some seconds: until then the node ends with the code for that, and is started again as
// a supervisor would do.
func comesBack(t testing.TB, n *node) {
	t.Helper()
	eventually(t, 90*time.Second, n.name+" comes back", func() error {
		select {
		case <-n.ended:
			if code := n.cmd.ProcessState.ExitCode(); code != 3 {
				t.Fatalf("%s ended with exit code %d", n.name, code)
			}
			time.Sleep(time.Second)
			n.start()
		default:
		}
		row, err := n.clusterRow()
		if err == nil && (row.SigningOK == nil || !*row.SigningOK) {
			err = fmt.Errorf("it says %+v", row)
		}
		return err
	})
}
