package monitor

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"app.provost/engine"

	"github.com/prometheus/client_golang/prometheus"
)

// The names of Charon's metrics for what a node of Provost has too, with its labels, so that the
// dashboards and alerts that operators already have show such a node. A name is here only when the
// number behind it means the same. One engine may run several nodes, so the labels that are
// constant in a process of Charon's tell them apart here.

var node = []string{"cluster_hash", "cluster_name", "cluster_network", "cluster_peer", "nickname"}

func nodeAnd(labels ...string) []string { return slices.Concat(node, labels) }

// charon is every family that Charon names, in the order of the page.
var charon = func() []*metric {
	m := []*metric{
		{"cluster_network", "The network of the cluster: always 1.", gauge, nodeAnd("network"), ofNode(func(n nodeRows, out emit) { out(1, n.and(n.Network)...) }), nil},
		{"cluster_operators", "Nodes of the cluster.", gauge, node, ofNode(func(n nodeRows, out emit) { out(float64(n.Nodes), n.and()...) }), nil},
		{"cluster_threshold", "Partial signatures that a signature takes.", gauge, node, ofNode(func(n nodeRows, out emit) { out(float64(n.Threshold), n.and()...) }), nil},
		{"cluster_validators", "Validators of the cluster.", gauge, node, ofNode(func(n nodeRows, out emit) {
			if len(n.validators) > 0 {
				out(float64(len(n.validators)), n.and()...)
			}
		}), nil},

		{"app_version", "The version of Provost that the node runs: always 1.", gauge, nodeAnd("version"), ofNode(func(n nodeRows, out emit) {
			if n.self.Version != "" {
				out(1, n.and(n.self.Version)...)
			}
		}), nil},
		{"app_start_time_secs", "When the node started, in Unix time.", gauge, node, ofNode(func(n nodeRows, out emit) { out(unix(n.Since), n.and()...) }), nil},
		{"app_monitoring_readyz", "Charon's number for readiness: 0 not known, 1 ready, 2 beacon node down, 3 beacon node syncing, 4 too few peers, 7 beacon node without peers, 8 beacon node far behind.", gauge, node, ofNode(func(n nodeRows, out emit) {
			out(float64(n.ready().number), n.and()...)
		}), nil},

		{"core_tracker_success_duties_total", "Duties done for all validators that had them, by type.", counter, nodeAnd("duty"), ofCount(func(c engine.DutyCount, n nodeRows, out emit) { out(float64(c.Done), n.and(c.Type)...) }), nil},
		{"core_tracker_failed_duties_total", "Duties missed for one validator or more, by type.", counter, nodeAnd("duty"), ofCount(func(c engine.DutyCount, n nodeRows, out emit) { out(float64(c.Failed), n.and(c.Type)...) }), nil},
		{"core_tracker_expect_duties_total", "Duties that are over, done or failed, by type.", counter, nodeAnd("duty"), ofCount(func(c engine.DutyCount, n nodeRows, out emit) {
			out(float64(c.Done+c.Failed), n.and(c.Type)...)
		}), nil},
		{"core_tracker_failed_duty_reasons_total", "Failed duties by type and Charon's code of the reason.", counter, nodeAnd("duty", "reason"), ofCount(func(c engine.DutyCount, n nodeRows, out emit) {
			for _, why := range slices.Sorted(maps.Keys(c.Reasons)) {
				out(float64(c.Reasons[why]), n.and(c.Type, why)...)
			}
		}), nil},
		{"core_tracker_participation_expected_total", "Partial signatures expected of a node: one for each validator of each duty that any node signed.", counter, nodeAnd("duty", "peer"), ofSigned(func(signed, due uint64) uint64 { return due }), nil},
		{"core_tracker_participation_total", "Partial signatures of these that came from a node by the duty's deadline.", counter, nodeAnd("duty", "peer"), ofSigned(func(signed, due uint64) uint64 { return signed }), nil},
		{"core_tracker_participation_missed_total", "Partial signatures of these that did not come.", counter, nodeAnd("duty", "peer"), ofSigned(func(signed, due uint64) uint64 { return due - min(signed, due) }), nil},
		{"core_bcast_broadcast_total", "Duties whose signatures a beacon node took, by type.", counter, nodeAnd("duty"), ofCount(func(c engine.DutyCount, n nodeRows, out emit) { out(float64(c.Sent), n.and(c.Type)...) }), nil},

		{"core_consensus_decided_rounds", "Round in which the newest duty of a type was decided.", gauge, nodeAnd("protocol", "duty", "timer"), ofCount(func(c engine.DutyCount, n nodeRows, out emit) {
			maybe(out, c.Round, n.and(consensusID, c.Type, roundTimer)...)
		}), nil},
		{"core_consensus_decided_leader_index", "Index of the node that led that round, from 0.", gauge, nodeAnd("protocol", "duty", "timer"), ofCount(func(c engine.DutyCount, n nodeRows, out emit) {
			maybe(out, c.Leader, n.and(consensusID, c.Type, roundTimer)...)
		}), nil},

		{"core_scheduler_current_slot", "Slot of the chain.", gauge, node, ofNode(func(n nodeRows, out emit) { maybe(out, n.Slot, n.and()...) }), nil},
		{"core_scheduler_current_epoch", "Epoch of the chain.", gauge, node, ofNode(func(n nodeRows, out emit) { maybe(out, n.Epoch, n.and()...) }), nil},
		{"core_scheduler_validators_active", "Validators of the cluster that are active; absent while the chain was not asked.", gauge, node, ofNode(func(n nodeRows, out emit) {
			active, known := 0, false
			for _, v := range n.validators {
				known = known || v.ChainStatus != ""
				if strings.HasPrefix(v.ChainStatus, "active") {
					active++
				}
			}
			if known {
				out(float64(active), n.and()...)
			}
		}), nil},
		{"core_scheduler_validator_balance_gwei", "Balance of a validator.", gauge, nodeAnd("pubkey_full", "pubkey"), ofValidator(func(v engine.ValidatorRow, l []string, out emit) { maybe(out, v.BalanceGwei, l...) }), nil},
		{"core_scheduler_validator_status", "1 for the status that a validator has, in the Beacon API's word.", gauge, nodeAnd("pubkey_full", "pubkey", "status"), ofValidator(func(v engine.ValidatorRow, l []string, out emit) {
			if v.ChainStatus != "" {
				out(1, append(l, v.ChainStatus)...)
			}
		}), nil},

		{"app_beacon_node_version", "A beacon node's version: always 1.", gauge, nodeAnd("beacon_id", "version"), ofBeacon(func(b engine.BeaconRow, n nodeRows, out emit) {
			if b.Version != "" {
				out(1, n.and(b.Address, b.Version)...)
			}
		}), nil},
		{"app_beacon_node_peers", "Peers of a beacon node.", gauge, nodeAnd("beacon_id"), ofBeacon(func(b engine.BeaconRow, n nodeRows, out emit) { maybe(out, b.Peers, n.and(b.Address)...) }), nil},

		{"p2p_ping_success", "1 when the last ping to a peer was answered, else 0.", gauge, nodeAnd("peer"), ofPeer(func(p engine.PeerRow, n nodeRows, out emit) {
			if p.State != "unknown" {
				out(yes(p.State != "down" && (p.LostPings == nil || *p.LostPings == 0)), n.and(p.Key.ID)...)
			}
		}), nil},
		{"app_peerinfo_version", "The version that a peer says it has: always 1. Nodes of Provost say the level of Charon that they work with.", gauge, nodeAnd("peer", "version"), ofPeer(func(p engine.PeerRow, n nodeRows, out emit) {
			if p.Version != "" {
				out(1, n.and(p.Key.ID, p.Version)...)
			}
		}), nil},
		{"app_peerinfo_version_support", "1 when this node works with a peer's version, else 0.", gauge, nodeAnd("peer"), ofPeer(func(p engine.PeerRow, n nodeRows, out emit) {
			if p.Supported != nil {
				out(yes(*p.Supported), n.and(p.Key.ID)...)
			}
		}), nil},
		{"app_peerinfo_index", "Index of a node, from 0; this one too.", gauge, nodeAnd("peer"), ofNode(func(n nodeRows, out emit) {
			for _, p := range n.peers {
				out(float64(p.Index), n.and(p.Key.ID)...)
			}
		}), nil},
		{"app_peerinfo_nickname", "The name that a node gives itself: always 1; this one too.", gauge, nodeAnd("peer", "peer_nickname"), ofNode(func(n nodeRows, out emit) {
			for _, p := range n.peers {
				if p.Nickname != "" {
					out(1, n.and(p.Key.ID, p.Nickname)...)
				}
			}
		}), nil},
		{"app_peerinfo_start_time_secs", "When a node says it started, in Unix time; this one too.", gauge, nodeAnd("peer"), ofNode(func(n nodeRows, out emit) {
			for _, p := range n.peers {
				if p.StartedAt != nil {
					out(unix(*p.StartedAt), n.and(p.Key.ID)...)
				}
			}
		}), nil},
		{"app_peerinfo_clock_offset_seconds", "How far a peer's clock is ahead of this node's.", gauge, nodeAnd("peer"), ofPeer(func(p engine.PeerRow, n nodeRows, out emit) { scaled(out, p.ClockMS, 1e-3, n.and(p.Key.ID)...) }), nil},
		{"app_peerinfo_builder_api_enabled", "1 when a peer takes blocks of builders, else 0.", gauge, nodeAnd("peer"), ofPeer(func(p engine.PeerRow, n nodeRows, out emit) {
			if p.Builder != nil {
				out(yes(*p.Builder), n.and(p.Key.ID)...)
			}
		}), nil},
	}
	for _, x := range m {
		x.desc = prometheus.NewDesc(x.name, x.help, x.labels, nil)
	}
	return m
}()

// spread is a family of histograms.
type spread struct {
	name, help string
	labels     []string
	read       func(s *engine.Snapshot, out func(h *engine.Histogram, labels ...string))
	desc       *prometheus.Desc
}

var spreads = func() []*spread {
	m := []*spread{
		{"core_bcast_broadcast_delay_seconds", "From the moment that a duty was due until a beacon node took its signatures, by type.", nodeAnd("duty"), func(s *engine.Snapshot, out func(*engine.Histogram, ...string)) {
			for _, n := range nodesOf(s) {
				for _, c := range n.Counts {
					out(c.Delay, n.and(c.Type)...)
				}
			}
		}, nil},
		{"p2p_ping_latency_secs", "Round trips of pings to a peer.", nodeAnd("peer"), func(s *engine.Snapshot, out func(*engine.Histogram, ...string)) {
			for _, n := range nodesOf(s) {
				for _, p := range n.peers {
					out(p.Pings, n.and(p.Key.ID)...)
				}
			}
		}, nil},
	}
	for _, x := range m {
		x.desc = prometheus.NewDesc(x.name, x.help, x.labels, nil)
	}
	return m
}()

func (x *spread) collect(s *engine.Snapshot, ch chan<- prometheus.Metric) {
	seen := map[string]bool{}
	x.read(s, func(h *engine.Histogram, labels ...string) {
		if h == nil || len(h.Counts) != len(h.UpTo)+1 || repeated(seen, labels) {
			return
		}
		var all uint64
		buckets := make(map[float64]uint64, len(h.UpTo))
		for i, n := range h.Counts {
			all += n
			if i < len(h.UpTo) {
				buckets[h.UpTo[i]] = all
			}
		}
		got, err := prometheus.NewConstHistogram(x.desc, all, h.Sum, buckets, labels...)
		if err != nil {
			got = prometheus.NewInvalidMetric(x.desc, err)
		}
		ch <- got
	})
}

// What these labels say in a process of Charon's that has the same protocol and timer.
const (
	consensusID = "/charon/consensus/qbft/2.0.0"
	roundTimer  = "eager_dlinear"
)

// nodeRows is all that one node told.
type nodeRows struct {
	engine.ClusterRow
	at         time.Time // of the snapshot
	self       engine.PeerRow
	peers      []engine.PeerRow // self too
	validators []engine.ValidatorRow
	beacons    []engine.BeaconRow
	labels     []string
}

// and are the node's labels and more.
func (n nodeRows) and(more ...string) []string { return slices.Concat(n.labels, more) }

// nodesOf gathers what each node told.
func nodesOf(s *engine.Snapshot) []nodeRows {
	rows := s.Clusters.List()
	if len(rows) == 0 {
		return nil
	}
	peers, validators, beacons := map[engine.Key][]engine.PeerRow{}, map[engine.Key][]engine.ValidatorRow{}, map[engine.Key][]engine.BeaconRow{}
	for _, r := range s.Peers.List() {
		peers[whose(r.Key)] = append(peers[whose(r.Key)], r)
	}
	for _, r := range s.Validators.List() {
		validators[whose(r.Key)] = append(validators[whose(r.Key)], r)
	}
	for _, r := range s.Beacons.List() {
		beacons[whose(r.Key)] = append(beacons[whose(r.Key)], r)
	}
	out := make([]nodeRows, len(rows))
	for i, r := range rows {
		k := whose(r.Key)
		n := nodeRows{ClusterRow: r, at: s.At, peers: peers[k], validators: validators[k], beacons: beacons[k]}
		name := k.Node
		for _, p := range n.peers {
			if p.Self {
				n.self, name = p, p.Key.ID
			}
		}
		hash := strings.TrimPrefix(k.Cluster, "0x")
		n.labels = []string{hash[:min(7, len(hash))], r.Name, r.Network, name, k.Node}
		out[i] = n
	}
	return out
}

func whose(k engine.Key) engine.Key {
	k.ID = ""
	return k
}

func ofNode(f func(n nodeRows, out emit)) func(*engine.Snapshot, emit) {
	return func(s *engine.Snapshot, out emit) {
		for _, n := range nodesOf(s) {
			f(n, out)
		}
	}
}

func ofCount(f func(c engine.DutyCount, n nodeRows, out emit)) func(*engine.Snapshot, emit) {
	return ofNode(func(n nodeRows, out emit) {
		for _, c := range n.Counts {
			f(c, n, out)
		}
	})
}

func ofSigned(f func(signed, due uint64) uint64) func(*engine.Snapshot, emit) {
	return ofCount(func(c engine.DutyCount, n nodeRows, out emit) {
		for _, p := range n.peers {
			if p.Index >= 0 && p.Index < len(c.Signed) {
				out(float64(f(c.Signed[p.Index], c.Due)), n.and(c.Type, p.Key.ID)...)
			}
		}
	})
}

func ofValidator(f func(v engine.ValidatorRow, labels []string, out emit)) func(*engine.Snapshot, emit) {
	return ofNode(func(n nodeRows, out emit) {
		for _, v := range n.validators {
			f(v, n.and(v.PubKey, shortKey(v.PubKey)), out)
		}
	})
}

// shortKey is how Charon's labels shorten a key: "8f3_66c".
func shortKey(key string) string {
	hex := strings.TrimPrefix(key, "0x")
	if len(hex) < 6 {
		return hex
	}
	return hex[:3] + "_" + hex[len(hex)-3:]
}

func ofBeacon(f func(b engine.BeaconRow, n nodeRows, out emit)) func(*engine.Snapshot, emit) {
	return ofNode(func(n nodeRows, out emit) {
		for _, b := range n.beacons {
			f(b, n, out)
		}
	})
}

// ofPeer is of the others.
func ofPeer(f func(p engine.PeerRow, n nodeRows, out emit)) func(*engine.Snapshot, emit) {
	return ofNode(func(n nodeRows, out emit) {
		for _, p := range n.peers {
			if !p.Self {
				f(p, n, out)
			}
		}
	})
}

// readiness is Charon's number and why a node is not ready.
type readiness struct {
	number int
	why    string
}

var readyWords = map[string]readiness{
	"unknown":                {0, "not yet known"},
	"ready":                  {1, ""},
	"beacon_node_down":       {2, "beacon node down"},
	"beacon_node_syncing":    {3, "beacon node not synced"},
	"insufficient_peers":     {4, "quorum peers not connected"},
	"beacon_node_zero_peers": {7, "beacon node has zero peers"},
	"beacon_node_far_behind": {8, "beacon node head too far behind"},
}

// quietAfter is when a node that tells twice a second is not believed any more.
const quietAfter = 30 * time.Second

func (n nodeRows) ready() readiness {
	if n.Seen != nil && n.at.Sub(*n.Seen) > quietAfter {
		return readiness{0, "the node was last heard " + n.at.Sub(*n.Seen).Round(time.Second).String() + " ago"}
	}
	if r, ok := readyWords[n.Ready]; ok {
		return r
	}
	return readiness{0, "not yet known: " + strconv.Quote(n.Ready)}
}

// nodeChecks are the conditions of the nodes that this engine runs, each with Charon's reason; none
// where it runs none. Node directories that are only read are no condition.
func nodeChecks(s *engine.Snapshot) []Check {
	var out []Check
	told := map[[2]string]bool{}
	for _, n := range nodesOf(s) {
		r := n.ready()
		told[[2]string{n.Key.Machine, n.Key.Node}] = true
		out = append(out, Check{Name: "node/" + n.Key.Node, OK: r.number == 1, Text: r.why})
	}
	for _, n := range s.Nodes.List() {
		if n.State == "read" || told[[2]string{n.Key.Machine, n.Key.Node}] {
			continue
		}
		text := n.State
		if n.Problem != "" {
			text = fmt.Sprintf("%s: %s", n.State, n.Problem)
		}
		out = append(out, Check{Name: "node/" + n.Key.Node, Text: text})
	}
	return out
}
