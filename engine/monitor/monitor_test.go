package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/life"
	"app.provost/prover"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write docs/metrics.md and the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A life of tasks can be watched by Tasks.
var _ life.Observer = (*Tasks)(nil)

// fake gives one snapshot to each who watches, or none.
type fake struct {
	engine.Engine
	mu      sync.Mutex
	snap    *engine.Snapshot
	err     error
	hang    bool
	watched int
	open    int
}

type fakeFeed struct{ f *fake }

func (f *fake) Watch(context.Context, engine.WatchOptions) (engine.Feed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched++
	if f.err != nil {
		return nil, f.err
	}
	f.open++
	return fakeFeed{f}, nil
}

func (x fakeFeed) Next(ctx context.Context) (engine.Update, error) {
	x.f.mu.Lock()
	hang, snap := x.f.hang, x.f.snap
	x.f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return engine.Update{}, ctx.Err()
	}
	return engine.Update{Snapshot: snap}, nil
}

func (x fakeFeed) Close() error {
	x.f.mu.Lock()
	x.f.open--
	x.f.mu.Unlock()
	return nil
}

func ptr[T any](v T) *T { return &v }

// full has a value in every field that a metric is made of.
func full() *engine.Snapshot {
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	key := engine.Key{Machine: "m1", Cluster: "c1", Node: "node0"}
	m := engine.Key{Machine: "m1", ID: "m1"}
	return &engine.Snapshot{
		Schema: engine.SnapshotSchema, Gen: 42, At: at,
		Engine: &engine.One[engine.Info]{Version: 1, Value: engine.Info{ID: "e1", Name: "bench", Machine: "m1", Version: "0.1.0", StartedAt: at,
			Viewers: []string{"ana@bastion"}, Unlocked: &engine.Unlocked{}, Practice: "simnet", RSSBytes: ptr(uint64(50 << 20))}},
		Verdict: &engine.One[engine.Verdict]{Version: 1, Value: engine.Verdict{Word: engine.VerdictDegraded, Restart: engine.Restart{Safe: ptr(true)}}},
		Machines: &engine.Section[engine.MachineRow]{Version: 1, Rows: []engine.MachineRow{{
			Key: m,
			CPU: engine.Reading[engine.CPUStat]{At: &at, Value: &engine.CPUStat{LogicalCPUs: 16, Load1: 1.5, Load5: 1, Load15: 0.5, UsePercent: ptr(37.5), StealPercent: ptr(0.5)}},
			Memory: engine.Reading[engine.MemoryStat]{At: &at, Value: &engine.MemoryStat{TotalBytes: 128 << 30, AvailableBytes: 64 << 30,
				SwapTotalBytes: 2 << 30, SwapUsedBytes: 1 << 30, LimitBytes: ptr(uint64(100 << 30))}},
			Disks: engine.Reading[[]engine.DiskStat]{At: &at, Problem: "the filesystem of /x has not answered for 9s", Value: &[]engine.DiskStat{
				{Path: "/var/lib/provost", What: "state", TotalBytes: 1000, FreeBytes: 400, InodesTotal: ptr(uint64(100)), InodesFree: ptr(uint64(50))}}},
			Clock: engine.Reading[engine.ClockStat]{At: &at, Value: &engine.ClockStat{OffsetMS: ptr(-12.5), ErrorMS: ptr(3.0), Synced: ptr(true)}},
			Hugepages: engine.Reading[[]prover.HugePool]{At: &at, Value: &[]prover.HugePool{
				{PageKiB: 2048, Total: 1024, Free: 1000, Reserved: 12, Surplus: 4, NUMA: []prover.NUMAPool{{Node: 0, Total: 512, Free: 500, Surplus: 4}, {Node: 1, Total: 512, Free: 500}}}}},
			GPUDriver: engine.Reading[engine.GPUDriver]{At: &at, Value: &engine.GPUDriver{Version: "550.54.15", TookMS: 2.5}},
			System:    engine.Reading[engine.SystemStat]{At: &at, Value: &engine.SystemStat{BootedAt: at}},
		}}},
		Workers: &engine.Section[engine.WorkerRow]{Version: 1, Rows: []engine.WorkerRow{
			{Key: key, ID: "w1", State: engine.WorkerRun, Desired: engine.WishRun, CPUPercent: ptr(99.5), RSSBytes: ptr(uint64(300 << 20)), Progress: ptr(0.25), HeardAt: &at, LatencyMS: ptr(0.5), JobsDone: 7, Restarts: 1},
			{Key: key, ID: "w2", State: engine.WorkerPaused, Desired: engine.WishPaused},
			{Key: key, ID: "w2", State: engine.WorkerRun}, // twice by mistake: must not break the scrape
		}},
		GPUs: &engine.Section[engine.GPURow]{Version: 1, Rows: []engine.GPURow{{Key: m, State: "run", GPU: prover.GPU{
			Index: 0, UUID: "GPU-1", Model: "H200", UtilPercent: ptr(98.0), MemUsed: ptr(prover.MiB(1024)), MemTotal: ptr(prover.MiB(143771)), TempC: ptr(61.0),
			PowerW: ptr(512.5), PowerLimitW: ptr(700.0), ClockMHz: ptr(1980.0), FanPercent: ptr(30.0), ECCErrors: ptr(uint64(0)), XID: ptr(uint64(79)),
			Throttle: []string{"power cap"}, PCIEGen: ptr(5), PCIEWidth: ptr(16), PIDs: []int{10, 20}}}}},
		Jobs:  &engine.Jobs{Version: 1, Totals: engine.JobTotals{Submitted: 10, Queued: 1, Leased: 2, Proved: 1, Verified: 4, Failed: 1, Cancelled: 1, PerMinute: ptr(2.0)}},
		Nodes: &engine.Section[engine.NodeRow]{Version: 1, Rows: []engine.NodeRow{{Key: key, State: "read", Network: "hoodi", Validators: 3}}},
		Acts:  &engine.Section[engine.ActRow]{Version: 1, Rows: []engine.ActRow{{Kind: engine.KindPauseWorkers, State: engine.ActHolding}, {Kind: engine.KindPauseWorkers, State: engine.ActDone}}},
		Alerts: &engine.Section[engine.Finding]{Version: 1, Rows: []engine.Finding{
			{Code: engine.FindWorkerDown, Level: engine.LevelWarn}, {Code: engine.FindWorkerDown, Level: engine.LevelWarn}, {Code: engine.FindHostDisk, Level: engine.LevelCrit, ClosedAt: &at}}},
		Sources: &engine.Section[engine.SourceRow]{Version: 1, Rows: []engine.SourceRow{{Key: m, Name: "host", At: &at}, {Key: m, Name: "gpu"}}},
	}
}

// running has one running node in every field that a metric is made of, and a second one that was just started.
func running() *engine.Snapshot {
	s := full()
	hoodi := engine.Key{Machine: "m1", Cluster: "0x1f2e3d4c", Node: "node0"}
	id := func(id string) engine.Key { k := hoodi; k.ID = id; return k }
	delay, ping := engine.NewHistogram(0.5, 1, 4), engine.NewHistogram(0.01, 0.1)
	for _, v := range []float64{0.2, 0.5, 0.75, 9} {
		delay.Add(v)
	}
	ping.Add(0.003)
	ping.Add(0.04)
	key := "0x8f3" + strings.Repeat("0", 90) + "66c"
	s.Clusters = &engine.Section[engine.ClusterRow]{Version: 1, Rows: []engine.ClusterRow{
		{Key: hoodi, Name: "demo", Network: "hoodi", Slot: ptr(uint64(70)), Epoch: ptr(uint64(2)), Nodes: 4, Threshold: 3, Quorum: 3, Ready: "ready", Since: s.At.Add(-time.Hour), Seen: &s.At,
			Counts: []engine.DutyCount{
				{Type: "proposer", Failed: 1, Reasons: map[string]uint64{"no_consensus": 1}, Signed: []uint64{0, 0, 0, 0}},
				{Type: "attester", Done: 9, Failed: 3, Sent: 10, Reasons: map[string]uint64{"no_consensus": 2, "insufficient_peer_signatures": 1}, Due: 20, Signed: []uint64{20, 20, 19, 3}, Round: ptr(2), Leader: ptr(1), Delay: &delay},
			}},
		{Key: engine.Key{Machine: "m1", Cluster: "0x1f2e3d4c", Node: "node1"}, Name: "demo", Network: "hoodi", Nodes: 4, Threshold: 3, Ready: "unknown", Since: s.At},
	}}
	s.Validators = &engine.Section[engine.ValidatorRow]{Version: 1, Rows: []engine.ValidatorRow{
		{Key: id(key), PubKey: key, Status: "active", ChainStatus: "active_ongoing", BalanceGwei: ptr(uint64(32_000_000_000))},
		{Key: id("0x01"), PubKey: "0x01", Status: "not deposited"},
	}}
	s.Peers = &engine.Section[engine.PeerRow]{Version: 1, Rows: []engine.PeerRow{
		{Key: id("node2"), Index: 2, Share: 3, Self: true, State: "up", Version: "0.1.0", Nickname: "node0", StartedAt: ptr(s.At.Add(-time.Hour))},
		{Key: id("node0"), Index: 0, Share: 1, State: "slow", Version: "v1.10.3-provost", Nickname: "ana", StartedAt: &s.At, ClockMS: ptr(-12.5), Builder: ptr(false), Supported: ptr(true), LostPings: ptr(0), Pings: &ping},
		{Key: id("node1"), Index: 1, Share: 2, State: "up", Version: "v2.0.0", Supported: ptr(false), LostPings: ptr(1)},
		{Key: id("node3"), Index: 3, Share: 4, State: "down"},
	}}
	s.Beacons = &engine.Section[engine.BeaconRow]{Version: 1, Rows: []engine.BeaconRow{
		{Key: id("http://127.0.0.1:5052"), Address: "http://127.0.0.1:5052", State: "up", Version: "Lighthouse/v8.0.0", Peers: ptr(uint64(80))},
		{Key: id("http://127.0.0.1:5053"), Address: "http://127.0.0.1:5053", State: "down"},
	}}
	return s
}

func serve(t testing.TB, o Options) *Server {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func get(t testing.TB, s *Server, path string, host ...string) (int, string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(host) > 0 {
		req.Host = host[0]
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// ours keeps the lines about provost's own metrics.
func ours(text string) string { return of(text, "provost_") }

func of(text string, prefixes ...string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		for _, p := range prefixes {
			if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), p) {
				out.WriteString(line)
			}
		}
	}
	return out.String()
}

// named are the prefixes of the names that are Charon's.
var named = []string{"cluster_", "app_", "core_", "p2p_"}

// A node answers with the names that dashboards of Charon ask for.
func TestCharonsNames(t *testing.T) {
	status, body := get(t, serve(t, Options{Engine: &fake{snap: running()}}), "/metrics")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	golden(t, "testdata/charon.txt", of(body, named...))
	for _, m := range charon {
		if !strings.Contains(body, "\n"+m.name+"{") {
			t.Errorf("%s is not in the scrape", m.name)
		}
		if !slices.Equal(m.labels[:len(node)], node) || !strings.HasSuffix(m.help, ".") || (m.kind == counter) != strings.HasSuffix(m.name, "_total") {
			t.Errorf("%s: %q %q", m.name, m.labels, m.help)
		}
	}
	for _, x := range spreads {
		if !strings.Contains(body, "\n"+x.name+"_bucket{") {
			t.Errorf("%s is not in the scrape", x.name)
		}
	}
	// An engine without nodes has none of them, and cluster data that is broken breaks no scrape.
	if _, body := get(t, serve(t, Options{Engine: &fake{snap: full()}}), "/metrics"); of(body, named...) != "" {
		t.Errorf("without a node: %s", of(body, named...))
	}
	odd := running()
	odd.Clusters.Rows = append(odd.Clusters.Rows, odd.Clusters.Rows[0])
	odd.Clusters.Rows[0].Key.Cluster, odd.Clusters.Rows[0].Name = "", "\xff"
	odd.Clusters.Rows[0].Counts[1].Delay.Counts = nil
	if status, body := get(t, serve(t, Options{Engine: &fake{snap: odd}}), "/metrics"); status != 200 || !strings.Contains(body, `cluster_name="?"`) {
		t.Errorf("%d", status)
	}
}

// Each word that a node's row can say is a number of Charon's, and /readyz says the reason.
func TestNodesReady(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*engine.Snapshot)
		status int
		number string
		text   string
	}{
		"ready":       {func(*engine.Snapshot) {}, 200, "1", ""},
		"beacon down": {func(s *engine.Snapshot) { s.Clusters.Rows[0].Ready = "beacon_node_down" }, 500, "2", "beacon node down"},
		"syncing":     {func(s *engine.Snapshot) { s.Clusters.Rows[0].Ready = "beacon_node_syncing" }, 500, "3", "beacon node not synced"},
		"few peers":   {func(s *engine.Snapshot) { s.Clusters.Rows[0].Ready = "insufficient_peers" }, 500, "4", "quorum peers not connected"},
		"alone":       {func(s *engine.Snapshot) { s.Clusters.Rows[0].Ready = "beacon_node_zero_peers" }, 500, "7", "beacon node has zero peers"},
		"far behind":  {func(s *engine.Snapshot) { s.Clusters.Rows[0].Ready = "beacon_node_far_behind" }, 500, "8", "beacon node head too far behind"},
		"unknown":     {func(s *engine.Snapshot) { s.Clusters.Rows[0].Ready = "unknown" }, 500, "0", "not yet known"},
		"a new word":  {func(s *engine.Snapshot) { s.Clusters.Rows[0].Ready = "eclipsed" }, 500, "0", `not yet known: \"eclipsed\"`},
		"silent":      {func(s *engine.Snapshot) { s.Clusters.Rows[0].Seen = ptr(s.At.Add(-time.Minute)) }, 500, "0", "last heard 1m0s ago"},
		"stopping":    {func(s *engine.Snapshot) { s.Engine.Value.Stopping = "drain" }, 503, "1", "drain"},
	} {
		s := running()
		s.Clusters.Rows = s.Clusters.Rows[:1]
		c.change(s)
		srv := serve(t, Options{Engine: &fake{snap: s}})
		status, body := get(t, srv, "/readyz")
		if h := health(t, body); status != c.status || h.OK != (status == 200) || !strings.Contains(body, `"node/node0"`) || !strings.Contains(body, c.text) {
			t.Errorf("%s: %d %s", name, status, body)
		}
		if _, body := get(t, srv, "/metrics"); !strings.Contains(of(body, "app_monitoring_readyz{"), "} "+c.number+"\n") {
			t.Errorf("%s: %s", name, of(body, "app_monitoring_readyz"))
		}
	}

	s := full()
	s.Nodes.Rows = append(s.Nodes.Rows, engine.NodeRow{Key: engine.Key{Machine: "m1", Node: "node7"}, State: "broken", Problem: "the lock is torn"})
	status, body := get(t, serve(t, Options{Engine: &fake{snap: s}}), "/readyz")
	if status != 500 || !strings.Contains(body, `"node/node7"`) || !strings.Contains(body, "broken: the lock is torn") || strings.Contains(body, "node/node0") {
		t.Errorf("a node that does not open: %d %s", status, body)
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is stale; see what changed with: go test ./engine/monitor -update && git diff\n%s", file, got)
	}
}

func TestScrape(t *testing.T) {
	f := &fake{snap: full()}
	tasks := NewTasks()
	tasks.TaskStarted("host.cpu")
	tasks.TaskStarted("host.cpu")
	tasks.TaskEnded("host.cpu", 1500*time.Millisecond, nil)
	tasks.TaskStarted("gpu.read")
	tasks.TaskEnded("gpu.read", time.Millisecond, errors.New("x"))
	s := serve(t, Options{Engine: f, Tasks: tasks})
	status, body := get(t, s, "/metrics")
	if status != 200 || f.watched != 1 || f.open != 0 {
		t.Errorf("status %d, %d snapshots for one scrape, %d feeds left open", status, f.watched, f.open)
	}
	golden(t, "testdata/metrics.txt", ours(body))
	if !strings.Contains(body, "go_goroutines ") || !strings.Contains(body, "process_resident_memory_bytes ") {
		t.Error("the runtime's own metrics are missing")
	}
	// Every family of the table shows up for a full snapshot.
	for _, m := range metrics {
		if !strings.Contains(body, "\n"+m.name+"{") && !strings.Contains(body, "\n"+m.name+" ") {
			t.Errorf("%s is not in the scrape", m.name)
		}
	}
}

func TestUnknownIsAbsent(t *testing.T) {
	s := full()
	s.Machines.Rows[0].Clock.Value = &engine.ClockStat{}
	s.GPUs.Rows[0].GPU = prover.GPU{UUID: "GPU-1", Lost: "fell off the bus"}
	s.Workers, s.Jobs = nil, nil
	_, body := get(t, serve(t, Options{Engine: &fake{snap: s}}), "/metrics")
	for _, name := range []string{"provost_machine_clock_offset_seconds", "provost_gpu_use_percent", "provost_gpu_xid", "provost_gpu_processes", "provost_workers", "provost_jobs"} {
		if strings.Contains(body, "\n"+name+"{") || strings.Contains(body, "\n"+name+" ") {
			t.Errorf("%s has a value and nobody knows one", name)
		}
	}
	if !strings.Contains(body, `provost_gpu_lost{gpu="GPU-1",machine="m1"} 1`) {
		t.Error("the lost GPU is not told")
	}
}

func TestScrapeWithoutASnapshot(t *testing.T) {
	for name, f := range map[string]*fake{"stopped": {err: io.EOF}, "hangs": {hang: true}, "none": {}} {
		tasks := NewTasks()
		tasks.TaskStarted("x")
		s := serve(t, Options{Engine: f, Tasks: tasks, Patience: 20 * time.Millisecond})
		status, body := get(t, s, "/metrics")
		if status != 200 || !strings.Contains(body, "\nprovost_up 0\n") || strings.Contains(body, "provost_snapshot") || !strings.Contains(body, `provost_task_running{task="x"} 1`) {
			t.Errorf("%s: %d\n%s", name, status, ours(body))
		}
	}
}

func TestBadTextInLabels(t *testing.T) {
	s := full()
	s.GPUs.Rows[0].GPU.Model = "H\xff200\n\"x\""
	status, body := get(t, serve(t, Options{Engine: &fake{snap: s}}), "/metrics")
	if status != 200 || !strings.Contains(body, `model="H?200\n\"x\""`) {
		t.Errorf("%d", status)
	}
}

func TestNamesAreGood(t *testing.T) {
	seen := map[string]bool{}
	name := regexp.MustCompile(`^provost_[a-z]+(_[a-z]+)*$`)
	for _, m := range metrics {
		if seen[m.name] || !name.MatchString(m.name) || !strings.HasSuffix(m.help, ".") {
			t.Errorf("%s: %q", m.name, m.help)
		}
		seen[m.name] = true
		if (m.kind == counter) != strings.HasSuffix(m.name, "_total") {
			t.Errorf("%s: counters, and only they, end in _total", m.name)
		}
	}
	_, body := get(t, serve(t, Options{Engine: &fake{snap: full()}, Tasks: NewTasks()}), "/metrics")
	problems, err := promlint.New(strings.NewReader(ours(body))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestPage makes docs/metrics.md and fails when it is stale.
func TestPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Metrics\n\n<!-- Made by a test: go test ./engine/monitor -run TestPage -update -->\n\n")
	b.WriteString("`/metrics` answers in Prometheus' text format. One scrape is one snapshot: its numbers belong together and are those on the screen. What is not known is absent, not 0. Units are in the names; percent is 0 to 100.\n\n")
	b.WriteString("`/livez` and `/readyz` answer with JSON (`" + LiveSchema + "`, `" + ReadySchema + "`) and status 200 or 503: live while the engine gives its state, ready once it does its work. Where the engine runs distributed-validator nodes, each is one check with Charon's reason, and one that is not ready makes the status 500, as Charon's is. The Go runtime's `go_*` and `process_*` are there too.\n\n")
	const head = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n"
	b.WriteString(head)
	row := func(name, kind string, labels []string, help string) {
		l := ""
		if len(labels) > 0 {
			l = "`" + strings.Join(labels, "` `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, kind, l, help)
	}
	row("provost_up", "gauge", nil, "1 when the engine gave a snapshot for this scrape, else 0 and no other provost metric but the tasks is there.")
	for _, m := range metrics {
		kind := "gauge"
		if m.kind == counter {
			kind = "counter"
		}
		row(m.name, kind, m.labels, m.help)
	}
	row(taskRunning.Name, "gauge", []string{"task"}, taskRunning.Help)
	row(taskTook.Name, "histogram", []string{"task", "outcome"}, taskTook.Help)
	b.WriteString("\n## Names of Charon\n\nThese names, and the labels `" + strings.Join(node, "` `") + "` that each of them has, are Charon's, so that the dashboards and alerts that Obol publishes show nodes of Provost too. A name is here only where the number means the same; panels about a separate validator client, MEV registrations, relays and traffic stay empty. Nodes are called `node0`, `node1`, … by their place in the lock, in `cluster_peer` and `peer`; `cluster_hash` is the first seven hex digits of the lock's hash.\n\n" + head)
	for _, m := range charon {
		kind := "gauge"
		if m.kind == counter {
			kind = "counter"
		}
		row(m.name, kind, m.labels[len(node):], m.help)
	}
	for _, x := range spreads {
		row(x.name, "histogram", x.labels[len(node):], x.help)
	}
	if !strings.Contains(up.String(), "1 when the engine gave a snapshot for this scrape, else 0 and no other provost metric but the tasks is there.") {
		t.Error("the page tells another help for provost_up")
	}
	golden(t, filepath.Join("..", "..", "docs", "metrics.md"), b.String())
}

func health(t *testing.T, body string) Health {
	t.Helper()
	var h Health
	if err := json.Unmarshal([]byte(body), &h); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return h
}

func TestProbes(t *testing.T) {
	f := &fake{snap: full()}
	store := Check{Name: "store", OK: true}
	s := serve(t, Options{Engine: f, Patience: 20 * time.Millisecond, Ready: func() []Check { return []Check{store} }})
	probe := func(path string, want int, text string) Health {
		t.Helper()
		status, body := get(t, s, path)
		if status != want || !strings.Contains(body, text) {
			t.Errorf("%s: %d %s", path, status, body)
		}
		h := health(t, body)
		if h.OK != (want == 200) {
			t.Errorf("%s: %s", path, body)
		}
		return h
	}
	if h := probe("/readyz", 200, ReadySchema); len(h.Checks) != 3 {
		t.Errorf("%+v", h)
	}
	probe("/livez", 200, LiveSchema)

	store = Check{Name: "store", Text: "the disk is full"}
	probe("/readyz", 503, "the disk is full")
	probe("/livez", 200, "")
	store.OK = true

	stopping := full()
	stopping.Engine.Value.Stopping = "drain"
	f.mu.Lock()
	f.snap = stopping
	f.mu.Unlock()
	probe("/readyz", 503, "drain")
	probe("/livez", 200, "")

	f.mu.Lock()
	f.hang = true
	f.mu.Unlock()
	probe("/readyz", 503, "has not published")
	probe("/livez", 503, "has not published")
	f.mu.Lock()
	f.err = errors.New("out of cheese")
	f.mu.Unlock()
	probe("/livez", 503, "out of cheese")
}

func TestAddresses(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, c := range map[string]struct {
		o    Options
		code engine.Code
	}{
		"no port":       {Options{Addr: "127.0.0.1"}, engine.CodeConfigInvalid},
		"empty":         {Options{}, engine.CodeConfigInvalid},
		"all addresses": {Options{Addr: ":9464"}, engine.CodeConfigInvalid},
		"other machine": {Options{Addr: "192.0.2.1:9464"}, engine.CodeConfigInvalid},
		"not ours":      {Options{Addr: "192.0.2.1:9464", AllowRemote: true}, engine.CodeConfigInvalid},
		"pprof remote":  {Options{Addr: "0.0.0.0:0", AllowRemote: true, Pprof: true}, engine.CodeConfigInvalid},
		"name":          {Options{Addr: "example.org:1"}, engine.CodeConfigInvalid},
		"odd port":      {Options{Addr: "127.0.0.1:many"}, engine.CodeConfigInvalid},
	} {
		c.o.Engine, c.o.Log = &fake{}, log
		s, err := Listen(c.o)
		if err == nil {
			s.Close()
		}
		var p *engine.Problem
		if !errors.As(err, &p) || p.Code != c.code || p.Remedy == "" || p.Exit == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Listen(Options{Addr: l.Addr().String(), Engine: &fake{}, Log: log})
	if p := engine.AsProblem("", err); p.Code != engine.CodePortTaken || !strings.Contains(p.Cause, l.Addr().String()) {
		t.Errorf("taken: %v", err)
	}
	for _, addr := range []string{"localhost:0", "127.0.0.1:0", "[::1]:0"} {
		s, err := Listen(Options{Addr: addr, Engine: &fake{}, Log: log})
		if err != nil {
			if strings.HasPrefix(addr, "[") {
				continue // no IPv6 here
			}
			t.Errorf("%s: %v", addr, err)
			continue
		}
		s.Close()
	}
	if _, err := Listen(Options{Addr: "127.0.0.1:0"}); err == nil {
		t.Error("a server without an engine was made")
	}
}

func TestOnlyReads(t *testing.T) {
	s := serve(t, Options{Engine: &fake{snap: full()}})
	for _, path := range []string{"/metrics", "/livez", "/readyz"} {
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(must(http.NewRequest("POST", "http://"+s.Addr()+path, bytes.NewReader(nil))))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, resp.StatusCode)
		}
	}
	if status, _ := get(t, s, "/debug/pprof/"); status != 404 {
		t.Errorf("profiles are open although nobody asked: %d", status)
	}
	if status, _ := get(t, s, "/livez", "evil.example"); status != 403 {
		t.Errorf("a foreign name was answered: %d", status)
	}
	if status, _ := get(t, s, "/livez", "localhost:1234"); status != 200 {
		t.Errorf("localhost was refused: %d", status)
	}
	p := serve(t, Options{Engine: &fake{snap: full()}, Pprof: true})
	if status, body := get(t, p, "/debug/pprof/goroutine?debug=1"); status != 200 || !strings.Contains(body, "goroutine") {
		t.Errorf("no profile: %d", status)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTasksAreBounded(t *testing.T) {
	tasks := NewTasks()
	for i := range 3 * maxTasks {
		name := fmt.Sprintf("conn-%d", i)
		tasks.TaskStarted(name)
		tasks.TaskEnded(name, time.Second, nil)
	}
	tasks.TaskStarted("bad\xff")
	ch := make(chan prometheus.Metric, 10*maxTasks)
	tasks.Collect(ch)
	if n := len(ch); n > 2*(maxTasks+1) {
		t.Errorf("%d series", n)
	}
}

// BenchmarkScrape is a scrape of 2,048 and 20,000 workers.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{2048, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			snap := full()
			row := snap.Workers.Rows[0]
			snap.Workers.Rows = nil
			for i := range n {
				row.ID = prover.WorkerFor(prover.Core(i + 1))
				snap.Workers.Rows = append(snap.Workers.Rows, row)
			}
			s := serve(b, Options{Engine: &fake{snap: snap}})
			b.ReportAllocs()
			for b.Loop() {
				if status, _ := get(b, s, "/metrics"); status != 200 {
					b.Fatal(status)
				}
			}
		})
	}
}
