package dv

import (
	"bufio"
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/keystore"
	"app.provost/cluster/simnet"
)

// cpuTime is what this process took of the processors so far.
func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkOpen opens a node directory, which is the start of a node but for its beacon node and
// peers: 1,000 shares in weak keystores, and PROVOST_BENCH_SHARES (100) in keystores of full strength,
// as ratio of processor time to the key derivation alone that each of them must do.
func BenchmarkOpen(b *testing.B) {
	b.Run("insecure/1000", func(b *testing.B) { benchOpen(b, 1000, false) })
	n := 100
	if s, err := strconv.Atoi(os.Getenv("PROVOST_BENCH_SHARES")); err == nil {
		n = s
	}
	b.Run(fmt.Sprint("full/", n), func(b *testing.B) { benchOpen(b, n, true) })
}

func benchOpen(b *testing.B, n int, full bool) {
	dir := filepath.Join(madeCluster(b, 3, n), "node0")
	if full {
		strengthen(b, filepath.Join(dir, "validator_keys"))
	}
	b.ReportAllocs()
	var took, derive time.Duration
	var heap float64
	rounds := 0
	for b.Loop() {
		rounds++
		before, began := heapBytes(), cpuTime(b)
		node, err := Open(b.Context(), dir, Options{BeaconNodes: []string{"http://127.0.0.1:1"}})
		if err != nil {
			b.Fatal(err)
		}
		took += cpuTime(b) - began
		heap = float64(heapBytes() - before)
		if full {
			began := cpuTime(b)
			for range 5 {
				if _, err := pbkdf2.Key(sha256.New, "password", make([]byte, 32), 262144, 32); err != nil {
					b.Fatal(err)
				}
			}
			derive += (cpuTime(b) - began) / 5 * time.Duration(n)
		}
		node.Close()
		runtime.KeepAlive(node)
	}
	b.ReportMetric(took.Seconds()*1000/float64(rounds), "cpu-ms/op")
	b.ReportMetric(heap/float64(n)/1024, "KiB/share")
	if full {
		b.ReportMetric(float64(took)/float64(derive), "x-pbkdf2")
	}
}

func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// strengthen writes weak keystores anew at full strength.
func strengthen(b *testing.B, dir string) {
	names, err := filepath.Glob(filepath.Join(dir, "keystore-insecure-*.json"))
	if err != nil || len(names) == 0 {
		b.Fatal(names, err)
	}
	var wg sync.WaitGroup
	places := make(chan bool, runtime.GOMAXPROCS(0))
	for _, name := range names {
		places <- true
		wg.Go(func() {
			defer func() { <-places }()
			secret := strings.TrimSuffix(name, ".json") + ".txt"
			stronger := strings.Replace(name, "keystore-insecure-", "keystore-", 1)
			if err := func() error {
				raw, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				text, err := os.ReadFile(secret)
				if err != nil {
					return err
				}
				password, err := keystore.ParsePassword(text)
				if err != nil {
					return err
				}
				ks, err := keystore.Parse(raw)
				if err != nil {
					return err
				}
				key, err := ks.Decrypt(b.Context(), password)
				if err != nil {
					return err
				}
				if raw, err = keystore.Encrypt(key, password, keystore.Full); err != nil {
					return err
				}
				if err := os.WriteFile(stronger, raw, 0o600); err != nil {
					return err
				}
				if err := os.Remove(name); err != nil {
					return err
				}
				return os.Rename(secret, strings.TrimSuffix(stronger, ".json")+".txt")
			}(); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// benchNode is what a process of BenchmarkSimnet is told on its standard input, which stays open for as long as it
// shall run.
type benchNode struct {
	Dir, Beacon, Listen string
	Peers               map[cluster.PeerIndex][]string
}

// passage is a step of a duty, as such a process tells it.
type passage struct {
	Slot  cluster.Slot
	Type  cluster.DutyType
	Stage Stage
	At    time.Time // when it ended
	Took  time.Duration
	OK    bool
}

const benchNodeEnv = "PROVOST_BENCH_NODE"

// TestBenchNode is a node as a process of its own, for BenchmarkSimnet.
func TestBenchNode(t *testing.T) {
	if os.Getenv(benchNodeEnv) == "" {
		t.Skip("only as a process of BenchmarkSimnet")
	}
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var o benchNode
	if err := json.Unmarshal(line, &o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends with the process at the latest
		io.Copy(io.Discard, in)
		cancel()
	}()
	var mu sync.Mutex
	var steps []passage
	node, err := Open(ctx, o.Dir, Options{BeaconNodes: []string{o.Beacon}, Listen: []string{o.Listen}, Peers: o.Peers, KeysNeverSigned: true,
		OnStep: func(s Step) {
			mu.Lock()
			steps = append(steps, passage{s.Duty.Slot, s.Duty.Type, s.Stage, s.At, s.Took, s.Err == nil})
			mu.Unlock()
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if err := node.Run(ctx); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "steps.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkSimnet runs four nodes, each a process, with PROVOST_BENCH_SIMNET validators on the practice
// chain at slots of 12 s, 4 of them an epoch, for PROVOST_BENCH_SLOTS (20) slots: from the moment that a
// node's beacon node tells the head of a slot to the partial signatures of all its attesters and to their
// broadcast, over all nodes and slots, and what a node takes of the processors and of memory.
func BenchmarkSimnet(b *testing.B) {
	validators, err := strconv.Atoi(os.Getenv("PROVOST_BENCH_SIMNET"))
	if err != nil {
		b.Skip("takes minutes: set PROVOST_BENCH_SIMNET to the number of validators, and -benchtime 1x")
	}
	slots := 20
	if n, err := strconv.Atoi(os.Getenv("PROVOST_BENCH_SLOTS")); err == nil {
		slots = n
	}
	const nodes = 4
	dir := madeCluster(b, nodes, validators)
	for b.Loop() {
		benchSimnet(b, dir, nodes, slots)
	}
}

func benchSimnet(b *testing.B, dir string, nodes, slots int) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	first, err := Open(ctx, filepath.Join(dir, "node0"), Options{BeaconNodes: []string{"http://127.0.0.1:1"}})
	if err != nil {
		b.Fatal(err)
	}
	opts, err := simnet.FromLock(first.Lock())
	first.Close()
	if err != nil {
		b.Fatal(err)
	}
	opts.SlotDuration, opts.SlotsPerEpoch = 12*time.Second, 4
	opts.GenesisTime = time.Now().Add(20 * time.Second).Truncate(time.Second)
	chain, err := simnet.New(opts)
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		if err := chain.Serve(ctx, listener); err != nil {
			b.Error(err)
		}
	})
	url := "http://" + listener.Addr().String()
	ports := freePorts(b, nodes)
	addrs := map[cluster.PeerIndex][]string{}
	for i, p := range ports {
		addrs[cluster.PeerIndex(i)] = []string{p}
	}
	type process struct {
		*exec.Cmd
		stop io.Closer
		out  *bytes.Buffer
	}
	var running []process
	for i := range nodes {
		c := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestBenchNode$")
		c.Env = append(os.Environ(), benchNodeEnv+"=1")
		in, err := c.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out := &bytes.Buffer{}
		c.Stdout, c.Stderr = out, out
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		running = append(running, process{c, in, out})
		if err := json.NewEncoder(in).Encode(benchNode{Dir: filepath.Join(dir, fmt.Sprintf("node%d", i)), Beacon: url, Listen: ports[i], Peers: addrs}); err != nil {
			b.Fatal(err)
		}
	}
	var heads sync.Map // when the head of a slot was told
	wg.Go(func() {
		if err := listenHeads(ctx, url, &heads); err != nil && ctx.Err() == nil {
			b.Error(err)
		}
	})

	// The first slots belong to the start.
	const skip = 3
	at := func(slot int) time.Time { return opts.GenesisTime.Add(time.Duration(slot) * opts.SlotDuration) }
	time.Sleep(time.Until(at(skip)))
	var cpu, most, typical float64
	before := make([]float64, nodes)
	for i, p := range running {
		before[i], _ = usage(b, p.Process.Pid)
	}
	began := time.Now()
	var rss []float64
	for time.Now().Before(at(skip + slots)) {
		for _, p := range running {
			_, anon := usage(b, p.Process.Pid)
			rss = append(rss, anon)
			most = max(most, anon)
		}
		time.Sleep(time.Second)
	}
	for i, p := range running {
		now, _ := usage(b, p.Process.Pid)
		cpu += (now - before[i]) / time.Since(began).Seconds() * 100 / float64(nodes)
	}
	slices.Sort(rss)
	typical = rss[len(rss)/2]
	time.Sleep(time.Until(at(skip + slots).Add(6 * time.Second))) // the last slot's duties end
	st := chain.Status()
	for i, p := range running {
		p.stop.Close()
		if err := p.Wait(); err != nil {
			b.Fatalf("node %d: %v\n%s", i, err, p.out)
		}
	}
	cancel()

	var partial, sent, own []time.Duration
	missing := 0
	for i := range nodes {
		raw, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("node%d", i), "steps.json"))
		if err != nil {
			b.Fatal(err)
		}
		var steps []passage
		if err := json.Unmarshal(raw, &steps); err != nil {
			b.Fatal(err)
		}
		for s := skip; s < skip+slots; s++ {
			var fetched, signed, broadcast time.Time
			for _, x := range steps {
				if x.Slot != cluster.Slot(s) || x.Type != cluster.DutyAttester || !x.OK {
					continue
				}
				switch x.Stage {
				case StageFetch:
					fetched = x.At.Add(-x.Took)
				case StageSign:
					signed = x.At
				case StageSend:
					broadcast = x.At
				}
			}
			head, ok := heads.Load(cluster.Slot(s))
			if !ok || signed.IsZero() || broadcast.IsZero() {
				missing++
				continue
			}
			partial, sent = append(partial, signed.Sub(head.(time.Time))), append(sent, broadcast.Sub(head.(time.Time)))
			if !fetched.IsZero() {
				own = append(own, fetched.Sub(head.(time.Time)))
			}
		}
	}
	if len(partial) == 0 || st.SlashableTotal != 0 {
		b.Fatalf("%d slots without a head or a broadcast, %d slashable, duties %+v, missed %+v", missing, st.SlashableTotal, st.Duties, st.Reasons)
	}
	for name, list := range map[string][]time.Duration{"begin": own, "partial": partial, "sent": sent} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds())/1000, name+"-p50-ms")
		b.ReportMetric(float64(list[len(list)*99/100].Microseconds())/1000, name+"-p99-ms")
	}
	b.ReportMetric(cpu, "cpu-%/node")
	b.ReportMetric(typical, "rssanon-MiB/node")
	b.ReportMetric(most, "rssanon-max-MiB")
	b.ReportMetric(float64(missing), "unmeasured")
	b.ReportMetric(0, "ns/op")
	load, _ := os.ReadFile("/proc/loadavg")
	b.Logf("duties %+v, missed %+v, load %s", st.Duties, st.Reasons, load)
}

// listenHeads notes when the beacon node tells of each slot's block.
func listenHeads(ctx context.Context, url string, heads *sync.Map) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/eth/v1/events?topics=head", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		var head struct {
			Slot uint64 `json:"slot,string"`
		}
		if err := json.Unmarshal(data, &head); err != nil {
			return err
		}
		heads.LoadOrStore(cluster.Slot(head.Slot), time.Now())
	}
	return nil
}

// usage is a process' time of the processors in seconds and its anonymous memory in MiB.
func usage(b *testing.B, pid int) (cpu, anon float64) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			anon = kib / 1024
		}
	}
	raw, err = os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // from the third on
	for _, f := range fields[11:13] {
		ticks, err := strconv.ParseFloat(f, 64)
		if err != nil {
			b.Fatal(err)
		}
		cpu += ticks / 100
	}
	return cpu, anon
}
