package cluster_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"app.provost/cluster"
)

// sampleLocks returns the locks of testdata by their path.
func sampleLocks(t testing.TB) map[string][]byte {
	t.Helper()
	return samples(t, "testdata/locks/*/*.json", 12)
}

func samples(t testing.TB, pattern string, atLeast int) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) < atLeast {
		t.Fatalf("%s: %d files, want at least %d (%v)", pattern, len(paths), atLeast, err)
	}
	out := map[string][]byte{}
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[p] = raw
	}
	return out
}

// TestSampleLocks holds the promise of testdata: every sample is read, has the hashes that it says,
// and is written again byte for byte.
func TestSampleLocks(t *testing.T) {
	for name, raw := range sampleLocks(t) {
		t.Run(name, func(t *testing.T) {
			var lock cluster.Lock
			if err := json.Unmarshal(raw, &lock); err != nil {
				t.Fatal(err)
			}
			if want := strings.TrimPrefix(strings.TrimSuffix(filepath.Base(name), ".json"), "signed-"); strings.TrimPrefix(want, "solo-") != string(lock.Definition.Version) {
				t.Errorf("version %s in %s", lock.Definition.Version, name)
			}
			checkDefinitionHashes(t, &lock.Definition)
			if got, err := lock.ComputeHash(); err != nil || got != lock.LockHash {
				t.Errorf("lock hash %v (%v), want %v", got, err, lock.LockHash)
			}
			if again, err := lock.Encode(); err != nil || !bytes.Equal(again, raw) {
				t.Errorf("written again the lock differs (%v):\n%s", err, again)
			}
			if keys := lock.UnknownKeys(); len(keys) != 0 {
				t.Errorf("unknown keys %q", keys)
			}
		})
	}
}

func checkDefinitionHashes(t *testing.T, d *cluster.Definition) {
	t.Helper()
	if got, err := d.ComputeConfigHash(); err != nil || got != d.ConfigHash {
		t.Errorf("config hash %v (%v), want %v", got, err, d.ConfigHash)
	}
	if got, err := d.ComputeDefinitionHash(); err != nil || got != d.DefinitionHash {
		t.Errorf("definition hash %v (%v), want %v", got, err, d.DefinitionHash)
	}
}

func TestSampleDefinitions(t *testing.T) {
	for name, raw := range samples(t, "testdata/definitions/*.json", 7) {
		t.Run(name, func(t *testing.T) {
			var d cluster.Definition
			if err := json.Unmarshal(raw, &d); err != nil {
				t.Fatal(err)
			}
			checkDefinitionHashes(t, &d)
			if again, err := d.Encode(); err != nil || !bytes.Equal(again, raw) {
				t.Errorf("written again the definition differs (%v):\n%s", err, again)
			}
		})
	}
}

// TestHashesOfCharon holds our hashes against those that Charon computed for the vectors of
// ObolNetwork/distributed-validator-specs.
func TestHashesOfCharon(t *testing.T) {
	raw, err := os.ReadFile("testdata/cluster_hashing.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Definition []struct {
			Name           string
			Input          cluster.Definition
			ConfigHash     string `json:"config_hash"`
			DefinitionHash string `json:"definition_hash"`
		}
		Lock []struct {
			Name     string
			Input    map[string]json.RawMessage
			LockHash string `json:"lock_hash"`
		}
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors.Definition) < 6 || len(vectors.Lock) < 4 {
		t.Fatal("vectors are missing")
	}
	for _, v := range vectors.Definition {
		if got, err := v.Input.ComputeConfigHash(); err != nil || hex.EncodeToString(got[:]) != v.ConfigHash {
			t.Errorf("%s: config hash %v (%v), want %s", v.Name, got, err, v.ConfigHash)
		}
		if got, err := v.Input.ComputeDefinitionHash(); err != nil || hex.EncodeToString(got[:]) != v.DefinitionHash {
			t.Errorf("%s: definition hash %v (%v), want %s", v.Name, got, err, v.DefinitionHash)
		}
	}
	for _, v := range vectors.Lock {
		// Some have placeholders of another length where no hash looks.
		delete(v.Input, "signature_aggregate")
		raw, err := json.Marshal(v.Input)
		if err != nil {
			t.Fatal(err)
		}
		var lock cluster.Lock
		if err := json.Unmarshal(raw, &lock); err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if got, err := lock.ComputeHash(); err != nil || hex.EncodeToString(got[:]) != v.LockHash {
			t.Errorf("%s: lock hash %v (%v), want %s", v.Name, got, err, v.LockHash)
		}
	}
}

// TestUnknownKeysSurviveInEveryVersion puts a key that nobody knows into every object of every
// sample. All come back, with their values, and change no hash.
func TestUnknownKeysSurviveInEveryVersion(t *testing.T) {
	for name, raw := range sampleLocks(t) {
		var doc any
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if err := dec.Decode(&doc); err != nil {
			t.Fatal(err)
		}
		added := 0
		var add func(v any)
		add = func(v any) {
			switch x := v.(type) {
			case map[string]any:
				for _, e := range x {
					add(e)
				}
				added++
				x["x_added"] = map[string]any{"a": []any{json.Number("1.50"), nil, "<&>"}}
			case []any:
				for _, e := range x {
					add(e)
				}
			}
		}
		add(doc)
		with, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		var lock cluster.Lock
		if err := json.Unmarshal(with, &lock); err != nil {
			t.Fatal(err)
		}
		if got := len(lock.UnknownKeys()); got != added {
			t.Errorf("%s: %d unknown keys noticed, %d added", name, got, added)
		}
		if got, err := lock.ComputeHash(); err != nil || got != lock.LockHash {
			t.Errorf("%s: unknown keys changed the hash (%v)", name, err)
		}
		out, err := lock.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(out, []byte(`"x_added"`)); n != added {
			t.Errorf("%s: %d of %d added keys survived", name, n, added)
		}
		if n := bytes.Count(out, []byte(`1.50`)); n != added {
			t.Errorf("%s: %d of %d values survived as they were", name, n, added)
		}
	}
}

// TestKeysOfLaterVersions gives each version keys that came later. No hash of the version covers
// them, so they must have no effect: they are unknown keys, which survive.
func TestKeysOfLaterVersions(t *testing.T) {
	for _, tt := range []struct {
		sample, old, with, key string
	}{
		{"own/v1.9.0", `"dkg_algorithm":`, `"compounding": true, "dkg_algorithm":`, "cluster_definition.compounding"},
		{"own/v1.9.0", `"dkg_algorithm":`, `"target_gas_limit": 1, "dkg_algorithm":`, "cluster_definition.target_gas_limit"},
		{"own/v1.8.0", `"dkg_algorithm":`, `"consensus_protocol": "qbft", "dkg_algorithm":`, "cluster_definition.consensus_protocol"},
		{"own/v1.7.0", `"dkg_algorithm":`, `"deposit_amounts": ["1"], "dkg_algorithm":`, "cluster_definition.deposit_amounts"},
		{"own/v1.7.0", `"public_shares":`, `"partial_deposit_data": [{}], "public_shares":`, "distributed_validators[0].partial_deposit_data"},
		{"own/v1.8.0", `"public_shares":`, `"deposit_data": {}, "public_shares":`, "distributed_validators[0].deposit_data"},
		{"own/v1.6.0", `"public_shares":`, `"builder_registration": {}, "public_shares":`, "distributed_validators[0].builder_registration"},
		{"own/v1.6.0", `"lock_hash":`, `"node_signatures": ["0x00"], "lock_hash":`, "node_signatures"},
		{"own/v1.5.0", `"public_shares":`, `"deposit_data": {}, "public_shares":`, "distributed_validators[0].deposit_data"},
	} {
		raw := string(sampleLocks(t)["testdata/locks/"+tt.sample+".json"])
		var plain, lock cluster.Lock
		changed := strings.Replace(raw, tt.old, tt.with, 1)
		if err := json.Unmarshal([]byte(raw), &plain); err != nil || changed == raw {
			t.Fatal(err, tt.sample)
		}
		if err := json.Unmarshal([]byte(changed), &lock); err != nil {
			t.Errorf("%s with %s: %v", tt.sample, tt.key, err)
			continue
		}
		if keys := lock.UnknownKeys(); !slices.Equal(keys, []string{tt.key}) {
			t.Errorf("%s: unknown keys %q, want %s", tt.sample, keys, tt.key)
		}
		d, p := lock.Definition, plain.Definition
		if d.Compounding != p.Compounding || d.TargetGasLimit != p.TargetGasLimit || d.ConsensusProtocol != p.ConsensusProtocol || len(d.DepositAmounts) != len(p.DepositAmounts) ||
			len(lock.Validators[0].Deposits) != len(plain.Validators[0].Deposits) || len(lock.NodeSignatures) != len(plain.NodeSignatures) {
			t.Errorf("%s: %s had an effect", tt.sample, tt.key)
		}
		out, err := lock.Encode()
		if name := tt.key[strings.LastIndexByte(tt.key, '.')+1:]; err != nil || strings.Count(string(out), `"`+name+`"`) != strings.Count(changed, `"`+name+`"`) {
			t.Errorf("%s: %s didn't survive (%v)", tt.sample, tt.key, err)
		}
	}
}

// TestVersionDecidesWhatIsWritten: a definition takes the encoding of the version that it is given.
func TestVersionDecidesWhatIsWritten(t *testing.T) {
	var lock cluster.Lock
	if err := json.Unmarshal(sampleLocks(t)["testdata/locks/own/v1.10.0.json"], &lock); err != nil {
		t.Fatal(err)
	}
	lock.Definition.Version = cluster.V1_11
	if err := lock.Definition.Version.Supported(); err != nil {
		t.Fatal(err)
	}
	ten, eleven := lock.LockHash, cluster.Root{}
	var err error
	if eleven, err = lock.ComputeHash(); err != nil || eleven == ten {
		t.Errorf("v1.11.0 has the hash of v1.10.0 (%v)", err)
	}
	for i := range lock.Validators {
		if len(lock.Validators[i].Deposits) < 2 {
			t.Fatal("the sample has one deposit only")
		}
	}
	refused := func(version cluster.FormatVersion, what string) {
		t.Helper()
		lock.Definition.Version = version
		if _, err := lock.Encode(); err == nil {
			t.Errorf("%s was written into %s, which has no room for it", what, version)
		}
		if _, err := lock.ComputeHash(); err == nil {
			t.Errorf("%s was hashed in %s, which has no room for it", what, version)
		}
	}
	refused(cluster.V1_7, "a second deposit")
	for i := range lock.Validators {
		lock.Validators[i].Deposits = lock.Validators[i].Deposits[:1]
	}
	refused(cluster.V1_6, "a registration")
	for i := range lock.Validators {
		lock.Validators[i].Registration = cluster.Registration{}
	}
	refused(cluster.V1_5, "a deposit")
	for i := range lock.Validators {
		lock.Validators[i].Deposits = nil
	}
	out, err := lock.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, later := range []string{"deposit_amounts", "consensus_protocol", "target_gas_limit", "compounding", "deposit_data", "builder_registration", "node_signatures"} {
		if bytes.Contains(out, []byte(later)) {
			t.Errorf("v1.5.0 was written with %s", later)
		}
	}
	if cluster.DefaultFormatVersion != cluster.V1_10 {
		t.Error("new locks are v1.10.0, which every released Charon reads")
	}
}
