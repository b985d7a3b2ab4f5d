package state

import (
	"cmp"
	"reflect"
	"strings"
	"time"

	"app.provost/engine"
)

// NodeView is what one node of a distributed-validator cluster tells of itself. It
// replaces all that this node told before; the newest of several that wait counts.
// Rows are keyed by machine, cluster and node, which must be those of Key.
type NodeView struct {
	Key        engine.Key // ID empty
	Cluster    engine.ClusterRow
	Duties     []engine.DutyRow
	Validators []engine.ValidatorRow
	Peers      []engine.PeerRow
	Beacons    []engine.BeaconRow
}

// DropNodeView forgets a node that is no more configured.
type DropNodeView struct{ Key engine.Key }

func (f NodeView) slot() slot     { return slot{kind: "nodeview", key: f.Key} }
func (f DropNodeView) slot() slot { return slot{kind: "nodeview", key: f.Key} }

func (f NodeView) fold(m *model, _ time.Time) {
	m.dv.look = true
	f.Cluster.Key = f.Key
	replace(&m.dv.clusters, f.Key, []engine.ClusterRow{f.Cluster})
	replace(&m.dv.duties, f.Key, f.Duties)
	replace(&m.dv.validators, f.Key, f.Validators)
	replace(&m.dv.peers, f.Key, f.Peers)
	replace(&m.dv.beacons, f.Key, f.Beacons)
}

func (f DropNodeView) fold(m *model, _ time.Time) {
	m.dv.look = true
	replace(&m.dv.clusters, f.Key, nil)
	replace(&m.dv.duties, f.Key, nil)
	replace(&m.dv.validators, f.Key, nil)
	replace(&m.dv.peers, f.Key, nil)
	replace(&m.dv.beacons, f.Key, nil)
}

// dvTables are the sections of distributed validators. They come and go together.
type dvTables struct {
	clusters   table[engine.ClusterRow]
	duties     table[engine.DutyRow]
	validators table[engine.ValidatorRow]
	peers      table[engine.PeerRow]
	beacons    table[engine.BeaconRow]

	look   bool // something was told since it was last judged
	looked time.Time
	raised map[string]raised
}

func (d *dvTables) init() {
	d.raised = map[string]raised{}
	d.clusters = newTable(func(r *engine.ClusterRow) *engine.Key { return &r.Key }, nil)
	d.duties = newTable(func(r *engine.DutyRow) *engine.Key { return &r.Key }, bySlot)
	d.validators = newTable(func(r *engine.ValidatorRow) *engine.Key { return &r.Key }, nil)
	d.peers = newTable(func(r *engine.PeerRow) *engine.Key { return &r.Key }, byPeer)
	d.beacons = newTable(func(r *engine.BeaconRow) *engine.Key { return &r.Key }, nil)
}

func (d *dvTables) dirty() bool {
	return d.clusters.dirty || d.duties.dirty || d.validators.dirty || d.peers.dirty || d.beacons.dirty
}

func (d *dvTables) clean() {
	d.clusters.dirty, d.duties.dirty, d.validators.dirty, d.peers.dirty, d.beacons.dirty = false, false, false, false, false
}

func (d *dvTables) publish(m *model, now time.Time, s *engine.Snapshot) {
	s.Clusters = d.clusters.publish(m, now)
	s.Duties = d.duties.publish(m, now)
	s.Validators = d.validators.publish(m, now)
	s.Peers = d.peers.publish(m, now)
	s.Beacons = d.beacons.publish(m, now)
}

// bySlot puts the newest duty first; of one slot the proposal.
func bySlot(a, b *engine.DutyRow) int {
	return cmp.Or(cmp.Compare(b.Slot, a.Slot), strings.Compare(b.Type, a.Type), strings.Compare(a.Key.Node, b.Key.Node))
}

func byPeer(a, b *engine.PeerRow) int {
	return cmp.Or(strings.Compare(a.Key.Cluster, b.Key.Cluster), strings.Compare(a.Key.Node, b.Key.Node), cmp.Compare(a.Index, b.Index))
}

// of tells whether a row belongs to a node.
func of(k, node engine.Key) bool {
	return k.Machine == node.Machine && k.Cluster == node.Cluster && k.Node == node.Node
}

// replace makes rows all that a node has in a table. Rows that are as they were stay
// untouched, so that nothing is published for them.
func replace[T any](t *table[T], node engine.Key, rows []T) {
	have := map[engine.Key]bool{}
	for _, r := range rows {
		k := t.key(&r)
		k.Machine, k.Cluster, k.Node = node.Machine, node.Cluster, node.Node
		have[*k] = true
		if old := t.get(*k); old == nil || !reflect.DeepEqual(*old, r) {
			t.put(r)
		}
	}
	t.keep(func(r *T) bool { k := *t.key(r); return !of(k, node) || have[k] })
}
