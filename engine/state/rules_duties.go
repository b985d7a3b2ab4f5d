package state

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"app.provost/engine"
)

const (
	missedStays = 10 * time.Minute // a missed duty is news for so long
	clockLimit  = 200.0            // ms between the clocks of two nodes
	raiseAgain  = time.Minute      // between two raises of the same finding with other facts
	lookAgain   = 5 * time.Second  // what ends by time alone is looked for
)

// raised is a finding that the rules below keep open.
type raised struct {
	r  engine.Raise
	at time.Time
}

// judgeDuties works out from what the nodes told what an operator should know of, and
// raises and clears it. Rules go by cluster, so that four nodes of one engine do not
// raise the same trouble four times: a duty is missed when no node has sent it, and a
// node is down when most others say so. What a node said long ago does not count, and
// of a cluster that is not heard at all nothing is raised or cleared.
func (m *model) judgeDuties(now time.Time) {
	d := &m.dv
	if !d.look && now.Sub(d.looked) < lookAgain || len(d.clusters.rows) == 0 && len(d.raised) == 0 {
		return
	}
	d.look, d.looked = false, now
	var order []string
	byCluster := map[string]*dvCluster{}
	for i := range d.clusters.rows {
		r := &d.clusters.rows[i]
		c := byCluster[r.Key.Cluster]
		if c == nil {
			c = &dvCluster{key: engine.Key{Machine: r.Key.Machine, Cluster: r.Key.Cluster}, name: cmp.Or(r.Name, r.Key.Cluster), heard: map[string]*engine.ClusterRow{}}
			byCluster[r.Key.Cluster] = c
			order = append(order, r.Key.Cluster)
		}
		if r.Heard(now) {
			c.heard[r.Key.Node] = r
		}
	}
	want := map[string]engine.Raise{}
	raise := func(code engine.Code, key engine.Key, target string, facts ...engine.Fact) {
		facts = slices.DeleteFunc(facts, func(f engine.Fact) bool { return f.Value == "" })
		want[alertID(code, key)] = engine.Raise{Code: code, Key: key, Target: target, Facts: facts}
	}
	for _, name := range order {
		if c := byCluster[name]; len(c.heard) > 0 {
			c.missed(d, now, raise)
			c.quorum(raise)
			c.peers(d, raise)
			c.copies(d, raise)
			c.beacons(d, raise)
			c.active(d, raise)
		}
	}
	for id, r := range want {
		old, on := d.raised[id]
		if on && (reflect.DeepEqual(old.r, r) || r.Code != engine.FindDutyMissed && now.Sub(old.at) < raiseAgain) {
			continue
		}
		d.raised[id] = raised{r, now}
		Raise{r}.fold(m, now)
	}
	for id, old := range d.raised {
		if _, still := want[id]; still {
			continue
		}
		if c := byCluster[old.r.Key.Cluster]; c != nil && len(c.heard) == 0 {
			continue
		}
		delete(d.raised, id)
		Clear{Code: old.r.Code, Key: old.r.Key}.fold(m, now)
	}
}

// dvCluster is one cluster: its nodes here that were heard of late.
type dvCluster struct {
	key   engine.Key
	name  string
	heard map[string]*engine.ClusterRow
}

type raiser = func(engine.Code, engine.Key, string, ...engine.Fact)

func (c *dvCluster) has(k engine.Key) bool {
	return k.Cluster == c.key.Cluster && c.heard[k.Node] != nil
}

func (c *dvCluster) sub(id string) engine.Key {
	k := c.key
	k.ID = id
	return k
}

func fact(name, value string) engine.Fact { return engine.Fact{Name: name, Value: value} }

func (c *dvCluster) missed(d *dvTables, now time.Time, raise raiser) {
	sent := map[string]bool{}
	var lost []*engine.DutyRow
	for i := range d.duties.rows {
		r := &d.duties.rows[i]
		if !c.has(r.Key) {
			continue
		}
		switch r.State {
		case engine.DutySent, engine.DutyIncluded:
			sent[r.Key.ID] = true
		case engine.DutyMissed:
			end := r.At
			if r.Deadline != nil {
				end = *r.Deadline
			}
			if now.Sub(end) < missedStays {
				lost = append(lost, r)
			}
		}
	}
	ids := map[string]bool{}
	var worst *engine.DutyRow
	for _, r := range lost {
		if sent[r.Key.ID] {
			continue
		}
		ids[r.Key.ID] = true
		// The newest slot, a block before an attestation, the node that got farthest.
		if worst == nil || r.Slot > worst.Slot || r.Slot == worst.Slot && (r.Type > worst.Type || r.Type == worst.Type && len(r.Partials) > len(worst.Partials)) {
			worst = r
		}
	}
	if worst == nil {
		return
	}
	duty := worst.Type
	switch duty {
	case "attester":
		duty = "attestation"
	case "proposer":
		duty = "block"
	}
	more := ""
	if n := len(ids) - 1; n > 0 {
		more = fmt.Sprint(n)
	}
	var absent []string
	if worst.Partials != nil {
		for i := range d.peers.rows {
			if p := &d.peers.rows[i]; of(p.Key, worst.Key) && !slices.Contains(worst.Partials, p.Share) {
				absent = append(absent, p.Name)
			}
		}
	}
	raise(engine.FindDutyMissed, c.key, "cluster/"+c.name, fact("duty", duty), fact("slot", fmt.Sprint(worst.Slot)), fact("why", cmp.Or(worst.Why, worst.Reason)), fact("more", more),
		fact("reason", worst.Reason), fact("validators", strings.Join(worst.Validators, " ")), fact("missing", strings.Join(absent, " ")))
}

func (c *dvCluster) quorum(raise raiser) {
	var best *engine.ClusterRow
	var by []string
	for _, node := range slices.Sorted(maps.Keys(c.heard)) {
		r := c.heard[node]
		if r.PeersUp == nil || r.Need() == 0 {
			continue
		}
		by = append(by, node)
		if best == nil || *r.PeersUp > *best.PeersUp {
			best = r
		}
	}
	if best == nil || *best.PeersUp >= best.Need() {
		return
	}
	raise(engine.FindQuorumLost, c.key, "cluster/"+c.name, fact("up", fmt.Sprint(*best.PeersUp)), fact("nodes", fmt.Sprint(best.Nodes)), fact("need", fmt.Sprint(best.Need())), fact("seen_by", strings.Join(by, " ")))
}

// peers looks at who is down and whose clock is off, by the word of most others.
func (c *dvCluster) peers(d *dvTables, raise raiser) {
	type view struct {
		all, down, timed, off int
		downBy, offBy         []string
		why                   string
		since                 *time.Time
		offset                float64
	}
	seen := map[string]*view{}
	look := func(name string) *view {
		v := seen[name]
		if v == nil {
			v = &view{}
			seen[name] = v
		}
		return v
	}
	clocks := map[string][]*engine.PeerRow{} // by the node that looks
	for i := range d.peers.rows {
		p := &d.peers.rows[i]
		if !c.has(p.Key) || p.Self || p.Name == "" || p.State == "unknown" {
			continue
		}
		v := look(p.Name)
		v.all++
		if p.State == "down" {
			v.down++
			v.downBy = append(v.downBy, p.Key.Node)
			v.why, v.since = cmp.Or(v.why, p.Problem), p.Since
			continue
		}
		if p.ClockMS != nil {
			clocks[p.Key.Node] = append(clocks[p.Key.Node], p)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(clocks)) {
		var off []*engine.PeerRow
		for _, p := range clocks[node] {
			if math.Abs(*p.ClockMS) > clockLimit {
				off = append(off, p)
			}
		}
		// Who finds the clocks of most others wrong has a wrong one itself.
		if n := len(clocks[node]); n > 1 && 2*len(off) > n {
			v := look(node)
			v.timed, v.off, v.offset = v.timed+1, v.off+1, -*off[0].ClockMS
			v.offBy = append(v.offBy, node)
			continue
		}
		for _, p := range clocks[node] {
			look(p.Name).timed++
		}
		for _, p := range off {
			v := look(p.Name)
			v.off, v.offset = v.off+1, *p.ClockMS
			v.offBy = append(v.offBy, node)
		}
	}
	for name, v := range seen {
		if v.down > 0 && 2*v.down > v.all {
			since := ""
			if v.since != nil {
				since = v.since.UTC().Format(time.RFC3339)
			}
			raise(engine.FindPeerDown, c.sub(name), "peer/"+name, fact("why", v.why), fact("seen_by", strings.Join(v.downBy, " ")), fact("since", since))
		}
		if v.off > 0 && 2*v.off > v.timed {
			off := time.Duration(v.offset * float64(time.Millisecond)).Round(50 * time.Millisecond)
			raise(engine.FindDVClock, c.sub(name), "peer/"+name, fact("offset", off.String()), fact("seen_by", strings.Join(v.offBy, " ")))
		}
	}
}

// copies finds nodes that run more than once, by the word of those that see it and their own.
func (c *dvCluster) copies(d *dvTables, raise raiser) {
	type view struct {
		by   []string
		list []engine.PeerCopy
	}
	seen := map[string]*view{}
	for i := range d.peers.rows {
		p := &d.peers.rows[i]
		if !c.has(p.Key) || len(p.Copies) == 0 {
			continue
		}
		v := seen[p.Key.ID]
		if v == nil {
			v = &view{}
			seen[p.Key.ID] = v
		}
		if !p.Self {
			v.by = append(v.by, p.Key.Node)
		}
		for _, one := range p.Copies {
			v.by = append(v.by, one.SeenBy...)
			// A start time names a program; where it comes from may look different to others.
			known := slices.ContainsFunc(v.list, func(o engine.PeerCopy) bool {
				return one.StartedAt != nil && o.StartedAt != nil && o.StartedAt.Equal(*one.StartedAt)
			})
			if !known {
				v.list = append(v.list, one)
			}
		}
	}
	for name, v := range seen {
		slices.SortStableFunc(v.list, func(a, b engine.PeerCopy) int {
			switch {
			case a.StartedAt == nil || b.StartedAt == nil:
				return cmp.Compare(a.Note, b.Note)
			default:
				return a.StartedAt.Compare(*b.StartedAt)
			}
		})
		var why, where []string
		for _, one := range v.list {
			if one.StartedAt == nil {
				why = append(why, one.Note)
				continue
			}
			text := "one since " + one.StartedAt.UTC().Format(time.RFC3339)
			if len(v.list) == 1 {
				text = "another one since " + one.StartedAt.UTC().Format(time.RFC3339)
			}
			if one.Address != "" {
				text += " at " + one.Address
				where = append(where, one.Address)
			}
			why = append(why, text)
		}
		slices.Sort(v.by)
		raise(engine.FindKeyInUse, c.sub(name), "peer/"+name, fact("why", strings.Join(why, ", ")), fact("where", strings.Join(where, " ")), fact("seen_by", strings.Join(slices.Compact(v.by), " ")))
	}
}

func (c *dvCluster) beacons(d *dvTables, raise raiser) {
	type view struct {
		code          engine.Code
		state, behind string
		why           string
		by            []string
	}
	seen := map[string]*view{}
	for i := range d.beacons.rows {
		b := &d.beacons.rows[i]
		if !c.has(b.Key) {
			continue
		}
		var code engine.Code
		switch b.State {
		case "down", "wrong network":
			code = engine.FindBeaconDown
		case "syncing", "optimistic":
			code = engine.FindBeaconSyncing
		default:
			continue
		}
		v := seen[b.Address]
		if v == nil || v.code != code && code == engine.FindBeaconDown {
			v = &view{code: code, state: b.State, why: b.Problem}
			if b.Behind != nil && *b.Behind > 0 {
				v.behind = fmt.Sprint(*b.Behind)
			}
			if code == engine.FindBeaconDown && v.why == "" {
				v.why = b.State
			}
			seen[b.Address] = v
		}
		if v.code == code {
			v.by = append(v.by, b.Key.Node)
		}
	}
	for addr, v := range seen {
		by := fact("used_by", strings.Join(v.by, " "))
		if v.code == engine.FindBeaconDown {
			raise(v.code, c.sub(addr), "beacon/"+addr, fact("why", v.why), fact("state", v.state), by)
		} else {
			raise(v.code, c.sub(addr), "beacon/"+addr, fact("state", v.state), fact("behind", v.behind), by)
		}
	}
}

// active finds clusters whose validators have no duties at all.
func (c *dvCluster) active(d *dvTables, raise raiser) {
	count := map[string]int{}
	node := ""
	for i := range d.validators.rows {
		v := &d.validators.rows[i]
		if !c.has(v.Key) || node != "" && v.Key.Node != node {
			continue
		}
		node = v.Key.Node
		switch v.Status {
		case "active", "exiting", "unknown", "":
			return // there are duties, or nobody can tell
		}
		count[v.Status]++
	}
	if node == "" {
		return
	}
	var words []string
	all := 0
	for _, s := range slices.Sorted(maps.Keys(count)) {
		words = append(words, fmt.Sprintf("%d %s", count[s], s))
		all += count[s]
	}
	raise(engine.FindNoActive, c.key, "cluster/"+c.name, fact("statuses", strings.Join(words, ", ")), fact("validators", fmt.Sprint(all)))
}
