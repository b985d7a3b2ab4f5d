package flow

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"app.provost/engine"
	"app.provost/prover"
)

func flows() []Flow { return All() }

// sample answers that are right in form, by flow.
func sample(f Flow) Answers {
	switch f.ID {
	case CreateClusterID:
		return Answers{"network": "hoodi", "name": "hoodi-b", "nodes": "4", "withdrawal-addresses": exampleAddress, "fee-recipient-addresses": exampleAddress}
	case CreateWorkersID:
		return Answers{"dir": "/x/farm", "profile": "native", "cluster-name": "farm", "machine": exampleMachine + "\nname=m02,address=192.168.0.202,threads=64,ram=64GiB"}
	case CreateProverID:
		return Answers{"profile": "zkwasm-0.0.14", "dir": "/x/provers", "name": "gpu-a", "server": "https://rpc.zkwasmhub.com",
			"gpus": "GPU-5d1b7a2e-0000-4000-8000-000000000001,GPU-5d1b7a2e-0000-4000-8000-000000000002", "key-files": "/x/a.key,/x/b.key"}
	case CombineID:
		return Answers{"dirs": "/x/node0,/x/node1,/x/node2", "output-dir": "/x/whole"}
	case NodeExportID:
		return Answers{"dir": "/x/node2", "out": "/x/node2.age", "passphrase-file": "/x/passphrase"}
	case NodeImportID:
		return Answers{"file": "/x/node2.age", "data-dir": "/x/node2", "passphrase-file": "/x/passphrase"}
	}
	return nil
}

// script is the driver of the tests: it answers what a walk asks, by key, and can go
// back and wrong on its way.
type script struct {
	answers Answers
	asked   []Key
}

func (s *script) run(t *testing.T, w *Walk) {
	t.Helper()
	for range 500 {
		_, q, ok := w.Question()
		if !ok {
			return
		}
		s.asked = append(s.asked, q.Key)
		if err := w.Answer(s.answers[q.Key]); err != nil {
			t.Fatalf("%s = %q: %v", q.Key, s.answers[q.Key], err)
		}
	}
	t.Fatalf("no end after %v", s.asked)
}

func TestEveryFlowIsWhole(t *testing.T) {
	for _, f := range flows() {
		if f.Title == "" || f.Needs == "" || f.Makes == "" || f.Takes == "" || f.Build == nil || f.Consent == nil {
			t.Errorf("%s: something is not said", f.ID)
		}
		ids := map[string]bool{}
		for _, s := range f.Steps {
			if s.ID == "" || s.Title == "" || ids[s.ID] {
				t.Errorf("%s: step %q %q", f.ID, s.ID, s.Title)
			}
			ids[s.ID] = true
			for _, q := range s.Fields {
				if q.Key == "" || q.Title == "" || q.Help == "" || !strings.HasSuffix(q.Help, ".") {
					t.Errorf("%s: field %q %q %q", f.ID, q.Key, q.Title, q.Help)
				}
				if (q.Kind == Choice || q.Kind == Many) != (q.Options != nil) || (q.Kind == Phrase) != (q.Phrase != nil) {
					t.Errorf("%s: %s: kind %s", f.ID, q.Key, q.Kind)
				}
				if q.Kind == Bool && q.Default != nil && q.Default(Facts{}, Answers{}) == "true" {
					t.Errorf("%s: %s: yes by default", f.ID, q.Key)
				}
				if q.Example != "" && q.Check != nil {
					if err := q.Problem(Facts{}, q.Example, Answers{}); err != nil && q.Kind != Choice {
						t.Errorf("%s: %s: its own example %q: %v", f.ID, q.Key, q.Example, err)
					}
				}
			}
		}
		if keys := f.Keys(); len(keys) != len(slices.Compact(slices.Sorted(slices.Values(keys)))) {
			t.Errorf("%s: a key twice: %v", f.ID, keys)
		}
	}
}

func TestWalkForwardAndBack(t *testing.T) {
	for _, f := range flows() {
		w := NewWalk(Session{Flow: f})
		s := script{answers: sample(f)}
		s.run(t, w)
		want, err := f.Build(w.Complete())
		if err != nil {
			t.Fatal(err)
		}
		// Back to the first question and forward again with what stands gives the same.
		n := 0
		for w.Back() {
			n++
			if n > 500 {
				t.Fatal("back has no end")
			}
		}
		if n < len(s.asked) {
			t.Errorf("%s: %d questions, back %d times", f.ID, len(s.asked), n)
		}
		again := script{answers: w.Answers()}
		again.run(t, w)
		if got, _ := f.Build(w.Complete()); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: after going back\n got %#v\nwant %#v", f.ID, got, want)
		}
		if !slices.Equal(again.asked, s.asked) {
			t.Errorf("%s: asked %v, then %v", f.ID, s.asked, again.asked)
		}
		// From every question back works, with a wrong value typed.
		for i := range s.asked {
			w := NewWalk(Session{Flow: f})
			for range i {
				_, q, _ := w.Question()
				if err := w.Answer(sample(f)[q.Key]); err != nil {
					t.Fatal(err)
				}
			}
			_, before, _ := w.Question()
			_ = w.Answer("\x00 wrong")
			if _, q, _ := w.Question(); q.Key != before.Key {
				t.Errorf("%s: a wrong %s was taken", f.ID, before.Key)
			}
			if w.Back() != (i > 0) {
				t.Errorf("%s: back from question %d", f.ID, i)
			}
		}
		// Each step alone, from the end.
		for i, st := range w.Steps() {
			if len(st.Fields) == 0 || !w.Goto(i) {
				t.Errorf("%s: can't go to step %d", f.ID, i)
				continue
			}
			one := script{answers: w.Answers()}
			one.run(t, w)
			if len(one.asked) != len(st.Fields) {
				t.Errorf("%s: step %s asked %v", f.ID, st.ID, one.asked)
			}
		}
	}
}

func TestLeanWalkAsksOnlyWhatIsMissing(t *testing.T) {
	for _, f := range flows() {
		full := sample(f)
		for k := range full {
			have := full.Clone()
			delete(have, k)
			missing := f.Missing(Facts{}, have)
			w := NewWalk(Session{Flow: f, Answers: have, Lean: true})
			s := script{answers: full}
			s.run(t, w)
			if !slices.Equal(s.asked, missing) {
				t.Errorf("%s without %s: asked %v, missing %v", f.ID, k, s.asked, missing)
			}
		}
	}
}

func TestGivenAnswersAreNotAskedAndCanBeChanged(t *testing.T) {
	f := CreateCluster()
	w := NewWalk(Session{Flow: f, Answers: Answers{"nodes": "4", "network": "hoodi"}, From: map[Key]string{"nodes": "--nodes", "network": "--network"}})
	if _, q, _ := w.Question(); q.Key != "definition-file" {
		t.Fatalf("asks %s first", q.Key)
	}
	if err := w.Answer(""); err != nil {
		t.Fatal(err)
	}
	if _, q, _ := w.Question(); q.Key != "name" {
		t.Fatalf("asks %s next", q.Key)
	}
	w.Goto(0)
	if err := w.Answer(""); err != nil {
		t.Fatal(err)
	}
	if _, q, _ := w.Question(); q.Key != "network" || w.Value() != "hoodi" {
		t.Fatalf("goes to %s = %q", q.Key, w.Value())
	}
	// A wrong value that was given is asked for.
	w = NewWalk(Session{Flow: f, Answers: Answers{"nodes": "2"}, From: map[Key]string{"nodes": "--nodes"}, Lean: true})
	if _, q, _ := w.Question(); q.Key != "nodes" {
		t.Fatalf("asks %s first", q.Key)
	}
}

func TestLaterAnswerMakesAnEarlierOneWrong(t *testing.T) {
	f := CreateCluster()
	w := NewWalk(Session{Flow: f})
	a := sample(f)
	a["num-validators"], a["withdrawal-addresses"] = "2", exampleAddress+","+exampleAddress
	s := script{answers: a}
	s.run(t, w)
	steps := w.Steps()
	i, _, _ := At(steps, "num-validators")
	w.Goto(i)
	a["num-validators"] = "3"
	for range steps[i].Fields {
		_, q, _ := w.Question()
		if err := w.Answer(a[q.Key]); err != nil {
			t.Fatal(err)
		}
	}
	if _, q, ok := w.Question(); !ok || q.Key != "withdrawal-addresses" {
		t.Fatalf("goes on to %q", q.Key)
	}
	if err := w.Answer(exampleAddress); err != nil {
		t.Fatal(err)
	}
	if _, q, ok := w.Question(); ok {
		t.Fatalf("asks %s too", q.Key)
	}
}

func TestGPUsOfThisMachine(t *testing.T) {
	mib, yes := prover.MiB(24564), true
	gpu := func(machine, uuid, lost string) engine.GPURow {
		return engine.GPURow{Key: engine.Key{Machine: machine}, GPU: prover.GPU{UUID: uuid, Model: "RTX 4090", MemTotal: &mib, Display: &yes, PIDs: []int{7}, Lost: lost}}
	}
	facts := Facts{Snapshot: &engine.Snapshot{Engine: &engine.One[engine.Info]{Value: engine.Info{Machine: "m1"}},
		GPUs: &engine.Section[engine.GPURow]{Rows: []engine.GPURow{gpu("m1", "GPU-a", ""), gpu("m2", "GPU-b", ""), gpu("m1", "GPU-c", "fell off the bus")}}}}
	f := CreateProver()
	q, _ := f.Field("gpus")
	got := q.Options(facts, Answers{})
	want := []Option{{Value: "GPU-a", Title: "GPU 0, RTX 4090", Note: "24 GiB, drives a display, in use"}, {Value: "GPU-c", Title: "GPU 0, RTX 4090", Note: "24 GiB, drives a display, in use", Refused: "fell off the bus"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	for value, want := range map[string]string{"GPU-a": "", "GPU-b": `"GPU-b" is none of GPU-a`, "GPU-c": "fell off the bus", "GPU-a,GPU-a": "stands twice", "GPU-a,": "empty entry"} {
		if err := q.Problem(facts, value, Answers{}); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", value, err)
		}
	}
	// Of a machine that is not at hand, or without an engine, any is taken in form.
	for _, err := range []error{q.Problem(facts, "GPU-z", Answers{"assume-gpus": "x"}), q.Problem(Facts{}, "GPU-z", Answers{})} {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestPoint(t *testing.T) {
	f := CreateCluster()
	w := NewWalk(Session{Flow: f})
	s := script{answers: sample(f)}
	s.run(t, w)
	w.Point("cluster-dir")
	if err := w.Answer("/other"); err != nil {
		t.Fatal(err)
	}
	if _, q, ok := w.Question(); ok {
		t.Errorf("changed, and asks %s", q.Key)
	}
	w.Point("cluster-dir")
	if err := w.Answer("/other"); err != nil {
		t.Fatal(err)
	}
	if _, q, ok := w.Question(); !ok || q.Key != "keymanager-addresses" {
		t.Errorf("left as it is, and asks %q", q.Key)
	}
	if w.Point("testnet-name") {
		t.Error("points at a hidden field")
	}
}

// Hidden answers don't count: whatever they are, the action is the same; and what
// shows a field looks at earlier fields only.
func TestHiddenAnswersDoNotCount(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, f := range flows() {
		hiddenOnce := map[Key]bool{}
		for range 500 {
			a := randomAnswers(rnd, f)
			full := f.Complete(Facts{}, a)
			shown := map[Key]bool{}
			for _, s := range f.Shown(full) {
				for _, q := range s.Fields {
					shown[q.Key] = true
				}
			}
			for k := range full {
				if !shown[k] {
					t.Fatalf("%s: %s counts and is hidden in %v", f.ID, k, a)
				}
			}
			want, wantErr := f.Build(full)
			for _, k := range f.Keys() {
				if shown[k] {
					continue
				}
				hiddenOnce[k] = true
				b := a.Clone()
				b[k] = fmt.Sprint("other", rnd.IntN(9))
				got, err := f.Build(f.Complete(Facts{}, b))
				if !reflect.DeepEqual(got, want) || (err == nil) != (wantErr == nil) {
					t.Fatalf("%s: hidden %s changes the action:\n%#v\n%#v", f.ID, k, want, got)
				}
			}
			if again := f.Complete(Facts{}, full); !reflect.DeepEqual(again, full) {
				t.Fatalf("%s: completing twice differs:\n%v\n%v", f.ID, full, again)
			}
			// Cut after each field: what was shown stays.
			part, order := Answers{}, f.Keys()
			for _, k := range order {
				if v, ok := a[k]; ok {
					part[k] = v
				}
				if _, _, now := At(f.Shown(f.Complete(Facts{}, part)), k); now != shown[k] {
					t.Fatalf("%s: whether %s is shown hangs on a later answer", f.ID, k)
				}
			}
		}
	}
}

// Every field of the action changes with some answer: none is shown for nothing.
func TestEveryAnswerCounts(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, f := range flows() {
		used := map[Key]bool{}
		for range 1000 {
			a := randomAnswers(rnd, f)
			full := f.Complete(Facts{}, a)
			want, err := f.Build(full)
			if err != nil {
				continue
			}
			for k := range full {
				b := a.Clone()
				if b[k] = randomValue(rnd, f, k); rnd.IntN(3) == 0 {
					b[k] = ""
				}
				if got, err := f.Build(f.Complete(Facts{}, b)); err == nil && !reflect.DeepEqual(got, want) {
					used[k] = true
				}
			}
		}
		for _, k := range f.Keys() {
			if q, _ := f.Field(k); !used[k] && q.Kind != Phrase {
				t.Errorf("%s: %s changes nothing", f.ID, k)
			}
		}
	}
}

func randomAnswers(r *rand.Rand, f Flow) Answers {
	a := Answers{}
	for _, k := range f.Keys() {
		if r.IntN(4) > 0 {
			a[k] = randomValue(r, f, k)
		}
	}
	return a
}

func randomValue(r *rand.Rand, f Flow, k Key) string {
	q, _ := f.Field(k)
	switch q.Kind {
	case Bool:
		return strconv.FormatBool(r.IntN(2) == 0)
	case Number:
		return strconv.Itoa(1 + r.IntN(9))
	case Choice, Many:
		all := q.Options(Facts{}, Answers{})
		if len(all) > 0 {
			return all[r.IntN(len(all))].Value
		}
	case Phrase:
		return q.Phrase(Answers{})
	case NewDir, File, SecretFile:
		return "/x" + strconv.Itoa(r.IntN(9))
	}
	if q.Example != "" && r.IntN(2) == 0 {
		return q.Example
	}
	if k == "profile" && r.IntN(2) == 0 {
		return "native"
	}
	if strings.Contains(string(k), "amounts") {
		return strconv.Itoa(32 + r.IntN(5))
	}
	return "v" + strconv.Itoa(r.IntN(9))
}

func TestAddress(t *testing.T) {
	for value, want := range map[string]string{
		exampleAddress: "", strings.ToLower(exampleAddress): "", "0x52908400098527886E0F7030069857D2E4169EE7": "",
		"5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed":     "start with 0x",
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe":    "1 more of 40",
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAedaa": "2 hex digits more",
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeg":   `'g', character 42`,
		"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed":   "EIP-55",
		"vitalik.eth": "start with 0x",
	} {
		_, err := address(value)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
		if err != nil && want != "EIP-55" && !strings.Contains(err.Error(), "as in") {
			t.Errorf("%s: no example in %q", value, err)
		}
	}
	if note := noteAddresses(strings.ToLower(exampleAddress), nil); !strings.Contains(note, "no checksum") {
		t.Errorf("note %q", note)
	}
	if note := noteAddresses("0x000000000000000000000000000000000000dead", nil); !strings.Contains(note, "nobody holds") {
		t.Errorf("note %q", note)
	}
}

func TestClusterRefusals(t *testing.T) {
	f := CreateCluster()
	two := exampleAddress + "," + exampleAddress
	for _, c := range []struct {
		key   Key
		value string
		with  Answers
		want  string // "" is right
	}{
		{"network", "holesky", nil, `"holesky" is none of mainnet, sepolia, hoodi`},
		{"network", "goerli", nil, "none of"},
		{"nodes", "2", nil, "at least 3"},
		{"nodes", "257", nil, "at most 256"},
		{"nodes", "four", nil, "as in 4"},
		{"nodes", "", nil, "a number is needed"},
		{"threshold", "1", nil, "single node"},
		{"threshold", "5", nil, "4 nodes never give 5"},
		{"threshold", "2", nil, ""},
		{"threshold", "4", nil, ""},
		{"allow-low-threshold", "false", Answers{"threshold": "2"}, "has to be 3 or more"},
		{"allow-low-threshold", "true", Answers{"threshold": "2"}, ""},
		{"num-validators", "0", nil, "at least 1"},
		{"num-validators", "99999999999999999999999", nil, "at most 65536"},
		{"deposit-amounts", "1,30", nil, "31 ETH together"},
		{"deposit-amounts", "33", nil, "at most 32"},
		{"deposit-amounts", "33", Answers{"compounding": "true"}, ""},
		{"deposit-amounts", "1,,31", nil, "empty entry"},
		{"deposit-amounts", "0.5", nil, "whole number"},
		{"withdrawal-addresses", two, nil, "2 addresses for 1 validator"},
		{"withdrawal-addresses", two, Answers{"num-validators": "2"}, ""},
		{"withdrawal-addresses", exampleAddress + "\x1b", nil, "control character"},
		{"target-gas-limit", "4999", nil, "at least 5000"},
		{"name", strings.Repeat("x", 257), nil, "at most 256"},
		{"name", "a\xff", nil, "plain text"},
	} {
		a := sample(f)
		for k, v := range c.with {
			a[k] = v
		}
		a[c.key] = c.value
		full := f.Complete(Facts{}, a)
		q, _ := f.Field(c.key)
		err := q.Problem(Facts{}, c.value, full)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %q: %v, want %q", c.key, c.value, err, c.want)
		}
	}
}

func TestThresholdTable(t *testing.T) {
	got := thresholdTable(4, 0)
	want := [][]string{{"", "T", "MAY BE DOWN", "COLLUDERS NEEDED", "NOTE"},
		{"", "2", "1", "2", "2 could sign on their own: not advised"},
		{">", "3", "1", "3", "two thirds, rounded up"},
		{"", "4", "0", "4", "one outage stops signing"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	for n := range 300 {
		rows := thresholdTable(n, 7)
		if len(rows) > 12 {
			t.Errorf("%d nodes: %d rows", n, len(rows))
		}
	}
}

func TestClusterBuilds(t *testing.T) {
	f := CreateCluster()
	got, err := f.Build(f.Complete(Facts{}, sample(f)))
	want := engine.CreateCluster{Name: "hoodi-b", Dir: ".charon/cluster", Nodes: 4, Threshold: 3, NumValidators: 1, WithdrawalAddresses: []string{exampleAddress},
		FeeRecipientAddresses: []string{exampleAddress}, Network: "hoodi"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%#v, %v", got, err)
	}
	if p := f.Consent(sample(f)); p != "create hoodi-b" {
		t.Errorf("consent %q", p)
	}
}

// TestAddressSecrets: what may be a password or a token in an address is not repeated in a message.
func TestAddressSecrets(t *testing.T) {
	ask, ok := CreateProver().Field("server")
	if !ok {
		t.Fatal("no field for the hub")
	}
	for _, v := range []string{"user:hunter22@hub.example", "https://user:hunter22@hub.example", "https://user:hunter22%zz@hub.example", "ftp://user:hunter22@hub", "hub.example?token=hunter22", "https://hub.example/?token=hunter22", "https://hub.example#hunter22"} {
		for name, check := range map[string]func(string, Answers) error{"hub": ask.Check, "keymanagers": keymanagers} {
			err := check(v, Answers{})
			if name == "keymanagers" && err == nil && strings.HasPrefix(v, "https://hub") {
				continue // a query is the key manager's own business
			}
			if err == nil || strings.Contains(err.Error(), "hunter22") {
				t.Errorf("%s: %q: %v", name, v, err)
			}
		}
	}
}
