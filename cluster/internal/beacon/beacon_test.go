package beacon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/clustertest"
	"app.provost/cluster/internal/beacon"

	"github.com/attestantio/go-eth2-client/api"
	apiv1fulu "github.com/attestantio/go-eth2-client/api/v1/fulu"
	"github.com/attestantio/go-eth2-client/spec"
	"github.com/attestantio/go-eth2-client/spec/electra"
	"github.com/attestantio/go-eth2-client/spec/phase0"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var hoodi = cluster.ForkVersion{0x10, 0, 0x09, 0x10}

const (
	genesisPath = "/eth/v1/beacon/genesis"
	syncingPath = "/eth/v1/node/syncing"
	specPath    = "/eth/v1/config/spec"
	dataPath    = "/eth/v1/validator/attestation_data"
	rootPath    = "/eth/v1/beacon/blocks/head/root"
)

// fake is a beacon node whose answers a test writes.
type fake struct {
	mu     sync.Mutex
	routes map[string]http.HandlerFunc
	asked  map[string]int
}

func say(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, body)
	}
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code); io.WriteString(w, body) }
}

func hang(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func genesisOf(fork, root string) string {
	return fmt.Sprintf(`{"data":{"genesis_time":"946684800","genesis_validators_root":"0x%s","genesis_fork_version":"%s"}}`, strings.Repeat(root, 32), fork)
}

const syncing = `{"data":{"head_slot":"9","sync_distance":"%d","is_syncing":%t,"is_optimistic":%t,"el_offline":%t}}`

func newFake() *fake {
	f := &fake{routes: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	f.routes[genesisPath] = say(genesisOf("0x10000910", "aa"))
	f.routes[syncingPath] = say(fmt.Sprintf(syncing, 0, false, false, false))
	f.routes["/eth/v1/node/version"] = say(`{"data":{"version":"Fake/v1\u001b[31m"}}`)
	f.routes["/eth/v1/node/peer_count"] = say(`{"data":{"connected":"7"}}`)
	f.routes[specPath] = say(`{"data":{"SECONDS_PER_SLOT":"12","SLOTS_PER_EPOCH":"32","CAPELLA_FORK_VERSION":"0x40000910","ELECTRA_FORK_VERSION":"0x60000910","FULU_FORK_VERSION":"0x70000910","BLOB_SCHEDULE":[{"EPOCH":"1"}]}}`)
	f.routes["/eth/v1/config/fork_schedule"] = say(`{"data":[{"previous_version":"0x10000910","current_version":"0x60000910","epoch":"0"},{"previous_version":"0x60000910","current_version":"0x70000910","epoch":"5"}]}`)
	f.routes[dataPath] = say(attestation("7", "0", "0"))
	f.routes[rootPath] = say(`{"data":{"root":"0x` + strings.Repeat("11", 32) + `"}}`)
	return f
}

func attestation(slot, source, target string) string {
	root := "0x" + strings.Repeat("22", 32)
	return fmt.Sprintf(`{"data":{"slot":"%s","index":"0","beacon_block_root":"%s","source":{"epoch":"%s","root":"%s"},"target":{"epoch":"%s","root":"%s"}}}`, slot, root, source, root, target, root)
}

func (f *fake) set(path string, h http.HandlerFunc) *fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.routes[path] = h
	return f
}

func (f *fake) count(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[path]
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	h := f.routes[r.URL.Path]
	f.asked[r.URL.Path]++
	f.mu.Unlock()
	if h == nil {
		h = status(404, `{"code":404,"message":"no such thing"}`)
	}
	h(w, r)
}

// with runs a test in a bubble, with a client of fake nodes; those whose host begins with "fall" are
// fallbacks.
func with(t *testing.T, nodes map[string]*fake, change func(*beacon.Options), fn func(*testing.T, *beacon.Client)) {
	synctest.Test(t, func(t *testing.T) {
		var mem clustertest.Net
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		o := beacon.Options{Fork: hoodi, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Spawn: func(_ string, fn func(context.Context) error) { wg.Go(func() { fn(ctx) }) }}
		var servers []*http.Server
		for host, f := range nodes {
			s := &http.Server{Handler: f}
			servers = append(servers, s)
			l := mem.Listen(host + ":80")
			wg.Go(func() { s.Serve(l) })
			if strings.HasPrefix(host, "fall") {
				o.Fallbacks = append(o.Fallbacks, "http://"+host+":80/")
			} else {
				o.Endpoints = append(o.Endpoints, "http://"+host+":80")
			}
		}
		tr := mem.Transport()
		o.Transport = tr
		if change != nil {
			change(&o)
		}
		c, err := beacon.New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			cancel()
			c.Close()
			tr.CloseIdleConnections()
			for _, s := range servers {
				s.Close()
			}
			wg.Wait()
		}()
		fn(t, c)
	})
}

func TestFirstGoodAnswerWins(t *testing.T) {
	slow, bad, good := newFake().set(rootPath, hang), newFake().set(rootPath, status(500, "")), newFake()
	fall := newFake()
	with(t, map[string]*fake{"slow": slow, "bad": bad, "good": good, "fall": fall}, nil, func(t *testing.T, c *beacon.Client) {
		start := time.Now()
		if _, err := c.BlockRoot(t.Context(), "head"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("waited %v for nodes that hang", took)
		}
		if fall.count(rootPath) != 0 {
			t.Error("a fallback was asked although a primary answered")
		}
	})
}

func TestFallback(t *testing.T) {
	fall := newFake()
	with(t, map[string]*fake{"a": newFake().set(rootPath, hang), "b": newFake().set(rootPath, status(503, "")), "fall": fall}, nil, func(t *testing.T, c *beacon.Client) {
		start := time.Now()
		if _, err := c.BlockRoot(t.Context(), "head"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 2*time.Second || fall.count(rootPath) != 1 {
			t.Errorf("the fallback answered after %v, asked %d times", took, fall.count(rootPath))
		}
	})
}

func TestAllFail(t *testing.T) {
	with(t, map[string]*fake{"a": newFake().set(rootPath, status(400, `{"message":"head is \u001b[2J wrong"}`)), "b": newFake().set(genesisPath, say(genesisOf("0x00000000", "aa")))}, nil, func(t *testing.T, c *beacon.Client) {
		_, err := c.BlockRoot(t.Context(), "head")
		if beacon.KindOf(err) != beacon.KindWrongNetwork || beacon.Retryable(err) {
			t.Fatalf("kind %q, retryable %v: %v", beacon.KindOf(err), beacon.Retryable(err), err)
		}
		for _, want := range []string{"all 2 beacon nodes", "mainnet", "hoodi", "0x10000910"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error doesn't say %q: %v", want, err)
			}
		}
		if strings.Contains(err.Error(), "\x1b") {
			t.Error("the node's control characters got into the error")
		}
	})
}

func TestHealth(t *testing.T) {
	tests := []struct {
		name, body string
		status     beacon.Status
		kind       beacon.Kind
	}{
		{"up", fmt.Sprintf(syncing, 0, false, false, false), beacon.StatusUp, ""},
		{"syncing", fmt.Sprintf(syncing, 99, true, false, false), beacon.StatusSyncing, beacon.KindSyncing},
		{"optimistic", fmt.Sprintf(syncing, 0, false, true, false), beacon.StatusOptimistic, beacon.KindOptimistic},
		{"execution offline", fmt.Sprintf(syncing, 0, false, false, true), beacon.StatusOptimistic, beacon.KindOptimistic},
		{"no data", `{}`, beacon.StatusDown, beacon.KindMalformed},
		{"wrong type", `{"data":{"head_slot":[1],"is_syncing":"maybe"}}`, beacon.StatusDown, beacon.KindMalformed},
		{"negative", `{"data":{"head_slot":"-1","sync_distance":"0"}}`, beacon.StatusDown, beacon.KindMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			with(t, map[string]*fake{"a": newFake().set(syncingPath, say(tt.body))}, nil, func(t *testing.T, c *beacon.Client) {
				_, err := c.AttestationData(t.Context(), 7, 0)
				if k := beacon.KindOf(err); k != tt.kind {
					t.Errorf("attestation data: kind %q (%v), want %q", k, err, tt.kind)
				}
				if s := c.Endpoints()[0].Status; s != tt.status {
					t.Errorf("status %q, want %q", s, tt.status)
				}
			})
		})
	}
}

func TestNodesOfDifferentChains(t *testing.T) {
	root := cluster.Root{}
	for i := range root {
		root[i] = 0xbb
	}
	nodes := map[string]*fake{"ours": newFake().set(genesisPath, say(genesisOf("0x10000910", "bb"))), "other": newFake()}
	with(t, nodes, func(o *beacon.Options) { o.ValidatorsRoot = &root }, func(t *testing.T, c *beacon.Client) {
		time.Sleep(time.Second)
		for _, e := range c.Endpoints() {
			want := beacon.StatusUp
			if strings.Contains(e.Name, "other") {
				want = beacon.StatusWrongNetwork
			}
			if e.Status != want {
				t.Errorf("%s is %s, want %s", e.Name, e.Status, want)
			}
		}
		ch, err := c.Chain(t.Context())
		if err != nil || ch.Genesis.ValidatorsRoot != root {
			t.Errorf("chain %v, %v", ch.Genesis, err)
		}
	})
}

func TestIntroduction(t *testing.T) {
	with(t, map[string]*fake{"a": newFake()}, nil, func(t *testing.T, c *beacon.Client) {
		time.Sleep(time.Second)
		e := c.Endpoints()[0]
		if e.Version != "Fake/v1 [31m" || e.Peers == nil || *e.Peers != 7 || e.HeadSlot != 9 {
			t.Errorf("%+v", e)
		}
	})
}

// A caller that goes away, for whatever reason it gives, says nothing against the node.
func TestGivingUpIsNotTheNodesFault(t *testing.T) {
	with(t, map[string]*fake{"a": newFake().set(rootPath, hang)}, nil, func(t *testing.T, c *beacon.Client) {
		time.Sleep(time.Second)
		canceled, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(100*time.Millisecond, func() { cancel(errors.New("enough")) })
		late, cancelLate := context.WithDeadlineCause(t.Context(), time.Now().Add(200*time.Millisecond), errors.New("the duty is over"))
		defer cancelLate()
		for want, ctx := range map[beacon.Kind]context.Context{beacon.KindCanceled: canceled, beacon.KindTimeout: late} {
			_, err := c.BlockRoot(ctx, "head")
			if e := c.Endpoints()[0]; beacon.KindOf(err) != want || e.Status != beacon.StatusUp {
				t.Errorf("want %s: %v, %+v", want, err, e)
			}
		}
	})
}

func TestHostileAnswers(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		chunk := []byte(strings.Repeat(" ", 1<<16))
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
	tests := []struct {
		name string
		h    http.HandlerFunc
		kind beacon.Kind
	}{
		{"endless", endless, beacon.KindTooLarge},
		{"other slot", say(attestation("8", "0", "0")), beacon.KindMalformed},
		{"other target", say(attestation("7", "0", "1")), beacon.KindMalformed},
		{"source after target", say(attestation("7", "3", "0")), beacon.KindMalformed},
		{"no checkpoint", say(`{"data":{"slot":"7","index":"0","beacon_block_root":"0x00"}}`), beacon.KindMalformed},
		{"null", say(`{"data":null}`), beacon.KindMalformed},
		{"list", say(`{"data":[]}`), beacon.KindMalformed},
		{"html", status(200, "<html>"), beacon.KindMalformed},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://thief:80/", http.StatusFound)
		}, beacon.KindRefused},
		{"ssz", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
		}, beacon.KindMalformed},
		{"broken", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, beacon.KindUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			thief := newFake()
			with(t, map[string]*fake{"a": newFake().set(dataPath, tt.h)}, nil, func(t *testing.T, c *beacon.Client) {
				_, err := c.AttestationData(t.Context(), 7, 0)
				if k := beacon.KindOf(err); k != tt.kind {
					t.Errorf("kind %q (%v), want %q", k, err, tt.kind)
				}
			})
			if len(thief.asked) != 0 {
				t.Error("the redirect was followed")
			}
		})
	}
}

func TestDutiesAreChecked(t *testing.T) {
	const path = "/eth/v1/validator/duties/attester/0"
	duty := func(index, slot, committee, length, at, place string) string {
		return fmt.Sprintf(`{"dependent_root":"0x%s","execution_optimistic":false,"data":[{"pubkey":"0x%s","validator_index":"%s","slot":"%s","committee_index":"%s","committee_length":"%s","committees_at_slot":"%s","validator_committee_index":"%s"}]}`,
			strings.Repeat("33", 32), strings.Repeat("44", 48), index, slot, committee, length, at, place)
	}
	good := duty("5", "7", "0", "9", "1", "8")
	for _, tt := range []struct {
		name, body string
		kind       beacon.Kind
	}{
		{"good", good, ""},
		{"not asked for", duty("6", "7", "0", "9", "1", "8"), beacon.KindMalformed},
		{"other epoch", duty("5", "32", "0", "9", "1", "8"), beacon.KindMalformed},
		{"place beyond", duty("5", "7", "0", "9", "1", "9"), beacon.KindMalformed},
		{"huge committee", duty("5", "7", "0", "99999999999", "1", "8"), beacon.KindMalformed},
		{"committee beyond", duty("5", "7", "1", "9", "1", "8"), beacon.KindMalformed},
		{"optimistic", strings.Replace(good, "false", "true", 1), beacon.KindOptimistic},
	} {
		t.Run(tt.name, func(t *testing.T) {
			with(t, map[string]*fake{"a": newFake().set(path, say(tt.body))}, nil, func(t *testing.T, c *beacon.Client) {
				d, err := c.AttesterDuties(t.Context(), 0, []phase0.ValidatorIndex{5})
				if k := beacon.KindOf(err); k != tt.kind {
					t.Errorf("kind %q (%v), want %q", k, err, tt.kind)
				}
				if err == nil && (len(d.Duties) != 1 || d.DependentRoot[0] != 0x33) {
					t.Errorf("%+v", d)
				}
			})
		})
	}
}

func TestSecretsStayOut(t *testing.T) {
	var auth, key atomic.Value
	f := newFake().set(genesisPath, func(w http.ResponseWriter, r *http.Request) {
		auth.Store(r.Header.Get("Authorization"))
		key.Store(r.URL.Query().Get("key"))
		w.WriteHeader(500)
	}).set("/token/eth/v1/beacon/genesis", nil)
	f.routes["/token"+genesisPath] = f.routes[genesisPath]
	with(t, map[string]*fake{"a": f}, func(o *beacon.Options) {
		o.Endpoints = []string{"http://user:hunter2@a:80/token?key=hunter3", "http://user:hunter2@gone:80/token?key=hunter3"}
	}, func(t *testing.T, c *beacon.Client) {
		_, err := c.BlockRoot(t.Context(), "head")
		if err == nil {
			t.Fatal("no error")
		}
		text := fmt.Sprintf("%v %+v", err, c.Endpoints())
		if strings.Contains(text, "hunter") || strings.Contains(text, "token") {
			t.Errorf("a secret of the URL is told: %s", text)
		}
		if auth.Load() != "Basic dXNlcjpodW50ZXIy" || key.Load() != "hunter3" {
			t.Errorf("the node got %v and %v", auth.Load(), key.Load())
		}
	})
	if _, err := beacon.New(beacon.Options{Endpoints: []string{"http://user:hunter2@ x"}, Logger: slog.Default(), Spawn: func(string, func(context.Context) error) {}}); err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("a URL that can't be read: %v", err)
	}
}

func attestations() []*spec.VersionedAttestation {
	index := phase0.ValidatorIndex(3)
	return []*spec.VersionedAttestation{{Version: spec.DataVersionFulu, ValidatorIndex: &index, Fulu: &electra.Attestation{
		AggregationBits: []byte{3}, CommitteeBits: []byte{1, 0, 0, 0, 0, 0, 0, 0},
		Data: &phase0.AttestationData{Source: &phase0.Checkpoint{}, Target: &phase0.Checkpoint{}}}}}
}

func TestSubmissionsReachEveryNode(t *testing.T) {
	const path = "/eth/v2/beacon/pool/attestations"
	var got atomic.Int32
	late := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(time.Second)
		got.Add(1)
	}
	with(t, map[string]*fake{"fast": newFake().set(path, status(200, "")), "late": newFake().set(path, late)}, nil, func(t *testing.T, c *beacon.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		if err := c.SubmitAttestations(ctx, attestations()); err != nil {
			t.Fatal(err)
		}
		cancel() // the duty is done for its caller
		if took := time.Since(start); took != 0 {
			t.Errorf("the caller waited %v for the slower node", took)
		}
		time.Sleep(2 * time.Second)
		if got.Load() != 1 {
			t.Error("the slower node wasn't told")
		}
	})
}

func TestKnownAttestationsCount(t *testing.T) {
	const path = "/eth/v2/beacon/pool/attestations"
	for body, ok := range map[string]bool{
		`{"code":400,"message":"error","failures":[{"index":0,"message":"Verification: PriorAttestationKnown { validator_index: 3 }"}]}`: true,
		`{"code":400,"message":"error","failures":[{"index":"0","message":"bad signature"}]}`:                                            false,
	} {
		with(t, map[string]*fake{"a": newFake().set(path, status(400, body))}, nil, func(t *testing.T, c *beacon.Client) {
			err := c.SubmitAttestations(t.Context(), attestations())
			if (err == nil) != ok {
				t.Errorf("%s: %v", body, err)
			}
			var e *beacon.Error
			if !ok && (!errors.As(err, &e) || len(e.Failures) != 1 || e.Failures[0].Index != 0) {
				t.Errorf("no list of failures in %v", err)
			}
		})
	}
}

func TestRetryableRefusals(t *testing.T) {
	const path = "/eth/v2/beacon/pool/attestations"
	for body, want := range map[string]bool{`{"message":"attestation is from a future slot"}`: true, `{"message":"invalid signature"}`: false} {
		with(t, map[string]*fake{"a": newFake().set(path, status(400, body))}, nil, func(t *testing.T, c *beacon.Client) {
			if err := c.SubmitAttestations(t.Context(), attestations()); beacon.Retryable(err) != want {
				t.Errorf("%s: retryable %v", body, !want)
			}
		})
	}
}

func TestJSONWhereSSZIsRefused(t *testing.T) {
	const path = "/eth/v2/beacon/blocks"
	var kinds []string
	var mu sync.Mutex
	h := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		mu.Lock()
		kinds = append(kinds, r.Header.Get("Content-Type"))
		mu.Unlock()
		if r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(415)
		}
		if r.Header.Get("Eth-Consensus-Version") != "fulu" {
			w.WriteHeader(400)
		}
	}
	block := new(electra.SignedBeaconBlock)
	raw, err := block.MarshalSSZ()
	if err != nil {
		t.Fatal(err)
	}
	if err := block.UnmarshalSSZ(raw); err != nil {
		t.Fatal(err)
	}
	p := &api.VersionedSignedProposal{Version: spec.DataVersionFulu, Fulu: &apiv1fulu.SignedBlockContents{SignedBlock: block}}
	with(t, map[string]*fake{"a": newFake().set(path, h)}, nil, func(t *testing.T, c *beacon.Client) {
		for range 2 {
			if err := c.SubmitProposal(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(kinds, " "); got != "application/octet-stream application/json application/json" {
			t.Errorf("sent as %s", got)
		}
	})
}

func TestClosedClient(t *testing.T) {
	with(t, map[string]*fake{"a": newFake()}, nil, func(t *testing.T, c *beacon.Client) {
		c.Close()
		if _, err := c.BlockRoot(t.Context(), "head"); err == nil {
			t.Error("a closed client answers")
		}
	})
}

func TestChain(t *testing.T) {
	f := newFake().set(specPath, say(`{"data":{"SLOT_DURATION_MS":"12000","SECONDS_PER_SLOT":"6","SLOTS_PER_EPOCH":"32","CAPELLA_FORK_VERSION":"0x40000910",
		"ELECTRA_FORK_VERSION":"0x60000910","FULU_FORK_VERSION":"0x70000910","GLOAS_FORK_VERSION":"0x80000910","FULU_FORK_EPOCH":"18446744073709551615","AGGREGATE_DUE_BPS_GLOAS":"5001"}}`)).
		set("/eth/v1/config/fork_schedule", say(`{"data":[{"previous_version":"0x70000910","current_version":"0x80000910","epoch":"9"},{"previous_version":"0x60000910","current_version":"0x70000910","epoch":"5"},
		{"previous_version":"0x10000910","current_version":"0x60000910","epoch":"0"},{"previous_version":"0x00000000","current_version":"0x99000000","epoch":"18446744073709551615"}]}`))
	with(t, map[string]*fake{"a": f}, nil, func(t *testing.T, c *beacon.Client) {
		ch, err := c.Chain(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for e, want := range map[cluster.Epoch]spec.DataVersion{0: spec.DataVersionElectra, 4: spec.DataVersionElectra, 5: spec.DataVersionFulu, 8: spec.DataVersionFulu} {
			if v, err := ch.VersionAt(e); err != nil || v != want {
				t.Errorf("epoch %d: %v, %v, want %v: the schedule decides, not the spec", e, v, err, want)
			}
		}
		if _, err := ch.VersionAt(9); err == nil {
			t.Error("objects of a fork that isn't known here have a shape")
		}
		if o := ch.OffsetsAt(9*32 - 1); o.Attestation != 3333 || o.Aggregate != 6667 {
			t.Errorf("last slot of Fulu: %+v", o)
		}
		if o := ch.OffsetsAt(9 * 32); o.Attestation != 2500 || o.Aggregate != 5001 || o.SyncMessage != 2500 {
			t.Errorf("first slot of Gloas: %+v", o)
		}
		if d := ch.Due(1, 3333).Sub(ch.Clock.Start(1)); d != 3999*time.Millisecond {
			t.Errorf("a third of 12 s by the specification is 3999 ms, got %v", d)
		}
		if ch.ExitDomain() != cluster.Domain(cluster.DomainType{4}, cluster.ForkVersion{0x40, 0, 9, 0x10}, ch.Genesis.ValidatorsRoot) {
			t.Error("exits aren't under Capella's domain")
		}
	})
	for name, body := range map[string]string{
		"no slots": `{"data":{"SECONDS_PER_SLOT":"12","CAPELLA_FORK_VERSION":"0x40000910"}}`, "zero": `{"data":{"SECONDS_PER_SLOT":"0","SLOTS_PER_EPOCH":"32","CAPELLA_FORK_VERSION":"0x40000910"}}`,
		"no capella": `{"data":{"SECONDS_PER_SLOT":"12","SLOTS_PER_EPOCH":"32"}}`, "list": `{"data":[]}`,
		"offset": `{"data":{"SECONDS_PER_SLOT":"12","SLOTS_PER_EPOCH":"32","CAPELLA_FORK_VERSION":"0x40000910","ATTESTATION_DUE_BPS":"10000"}}`,
	} {
		with(t, map[string]*fake{"a": newFake().set(specPath, say(body))}, nil, func(t *testing.T, c *beacon.Client) {
			if _, err := c.Chain(t.Context()); beacon.KindOf(err) != beacon.KindMalformed {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	ok := beacon.Options{Endpoints: []string{"http://a"}, Logger: slog.Default(), Spawn: func(string, func(context.Context) error) {}}
	for name, change := range map[string]func(*beacon.Options){
		"no endpoint": func(o *beacon.Options) { o.Endpoints = nil }, "no scheme": func(o *beacon.Options) { o.Endpoints = []string{"a:5052"} },
		"ftp": func(o *beacon.Options) { o.Fallbacks = []string{"ftp://a"} }, "no logger": func(o *beacon.Options) { o.Logger = nil },
		"no spawn": func(o *beacon.Options) { o.Spawn = nil }, "negative": func(o *beacon.Options) { o.Timeout = -1 },
	} {
		o := ok
		change(&o)
		if _, err := beacon.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
