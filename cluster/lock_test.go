package cluster_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app.provost/cluster"
)

const fixtures = "../../shared/fixtures/charon-clusters"

// fixtureLocks returns the lock files of clusters made by Charon.
func fixtureLocks(t testing.TB) map[string][]byte {
	t.Helper()
	if _, err := os.Stat(fixtures); err != nil {
		t.Skipf("clusters made by Charon are missing (%v): put them beside the checkout as shared/fixtures/charon-clusters", err)
	}
	out := map[string][]byte{}
	for _, pattern := range []string{"signed-locks/*.json", "*/node0/cluster-lock.json"} {
		paths, err := filepath.Glob(filepath.Join(fixtures, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			raw, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			rel, _ := filepath.Rel(fixtures, p)
			out[rel] = raw
		}
	}
	if len(out) < 7 {
		t.Fatalf("found %d lock files, want at least 7", len(out))
	}
	return out
}

func TestLockRoundTripAndHashes(t *testing.T) {
	for name, raw := range fixtureLocks(t) {
		t.Run(name, func(t *testing.T) {
			var lock cluster.Lock
			if err := json.Unmarshal(raw, &lock); err != nil {
				t.Fatal(err)
			}
			if got, err := lock.Definition.ComputeConfigHash(); err != nil || got != lock.Definition.ConfigHash {
				t.Errorf("config hash %v (%v), want %v", got, err, lock.Definition.ConfigHash)
			}
			if got, err := lock.Definition.ComputeDefinitionHash(); err != nil || got != lock.Definition.DefinitionHash {
				t.Errorf("definition hash %v (%v), want %v", got, err, lock.Definition.DefinitionHash)
			}
			if got, err := lock.ComputeHash(); err != nil || got != lock.LockHash {
				t.Errorf("lock hash %v (%v), want %v", got, err, lock.LockHash)
			}
			out, err := lock.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out, raw) {
				t.Errorf("written again the lock differs from the file:\n%s", out)
			}
			if keys := lock.UnknownKeys(); len(keys) != 0 {
				t.Errorf("unknown keys %q", keys)
			}
		})
	}
}

func TestUnknownKeysSurvive(t *testing.T) {
	raw := fixtureLocks(t)["hoodi-n4-t3-v1-compounding/node0/cluster-lock.json"]
	for old, with := range map[string]string{
		`"uuid":`:          `"added_def": {"a":[1, 2]}, "uuid":`,
		`"enr":`:           `"added_op": true, "enr":`,
		`"gas_limit":`:     `"added_reg": 1.50, "gas_limit":`,
		`"amount":`:        `"added_dep": null, "amount":`,
		`"lock_hash":`:     `"added_lock": "x", "lock_hash":`,
		`"public_shares":`: `"added_dv": [], "public_shares":`,
	} {
		changed := strings.ReplaceAll(string(raw), old, with)
		var lock, again cluster.Lock
		if err := json.Unmarshal([]byte(changed), &lock); err != nil {
			t.Fatal(err)
		}
		if len(lock.UnknownKeys()) == 0 {
			t.Errorf("%s: no unknown key was noticed", with)
		}
		if got, err := lock.ComputeHash(); err != nil || got != lock.LockHash {
			t.Errorf("%s: unknown keys changed the hash (%v)", with, err)
		}
		out, err := lock.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatal(err)
		}
		if a, b := strings.Join(lock.UnknownKeys(), " "), strings.Join(again.UnknownKeys(), " "); a != b {
			t.Errorf("unknown keys %q became %q", a, b)
		}
	}
}

func TestLockErrorsNameTheField(t *testing.T) {
	raw := string(fixtureLocks(t)["sepolia-n6-t5-v3/node0/cluster-lock.json"])
	tests := []struct{ old, with, path string }{
		{`"num_validators": 3`, `"num_validators": "3"`, "cluster_definition.num_validators"},
		{`"num_validators": 3`, `"num_validators": -3`, "cluster_definition.num_validators"},
		{`"num_validators": 3`, `"num_validators": 3, "num_validators": 4`, "cluster_definition.num_validators"},
		{`"threshold": 5`, `"threshold": 5.5`, "cluster_definition.threshold"},
		{`"gas_limit": 36000000`, `"gas_limit": -1`, "distributed_validators[0].builder_registration.message.gas_limit"},
		{`"amount": "1000000000"`, `"amount": 1000000000`, "distributed_validators[0].partial_deposit_data[0].amount"},
		{`"amount": "1000000000"`, `"amount": "1e9"`, "distributed_validators[0].partial_deposit_data[0].amount"},
		{`"lock_hash": "0x`, `"lock_hash": "0x00`, "lock_hash"},
		{`"signature_aggregate": "0x`, `"signature_aggregate": "0xzz`, "signature_aggregate"},
		{`"node_signatures": [`, `"node_signatures": [null,`, "node_signatures[0]"},
		{`"operators": [`, `"operators": [[],`, "cluster_definition.operators[0]"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			changed := strings.Replace(raw, tt.old, tt.with, 1)
			if changed == raw {
				t.Fatalf("%q isn't in the fixture", tt.old)
			}
			var lock cluster.Lock
			err := json.Unmarshal([]byte(changed), &lock)
			var fe *cluster.FieldError
			if !errors.As(err, &fe) || fe.Path != tt.path {
				t.Errorf("error %v, want one at %s", err, tt.path)
			}
		})
	}
}

func TestKeysMatchExactly(t *testing.T) {
	var d cluster.Definition
	if err := json.Unmarshal([]byte(`{"Threshold": 3}`), &d); err != nil {
		t.Fatal(err)
	}
	if d.Threshold != 0 || len(d.UnknownKeys()) != 1 {
		t.Errorf("a key in another case was taken for a known one: %+v", d)
	}
}

func TestHashRefusesWhatDoesNotFit(t *testing.T) {
	long := strings.Repeat("x", 257)
	for name, d := range map[string]cluster.Definition{
		"version":   {Version: "v1.4.0"},
		"name":      {Version: cluster.V1_10, Name: long},
		"address":   {Version: cluster.V1_10, Operators: []cluster.Operator{{Address: "0x1234"}}},
		"signature": {Version: cluster.V1_10, Creator: cluster.Creator{ConfigSignature: make([]byte, 66)}},
		"list":      {Version: cluster.V1_11, Creator: cluster.Creator{ConfigSignature: make([]byte, 65*33)}},
		"operators": {Version: cluster.V1_10, Operators: make([]cluster.Operator, 257)},
		"amounts":   {Version: cluster.V1_10, DepositAmounts: make([]cluster.Gwei, 257)},
	} {
		if _, err := d.ComputeDefinitionHash(); err == nil {
			t.Errorf("%s: hashed without an error", name)
		}
	}
}

func FuzzLock(f *testing.F) {
	f.Add([]byte(`{"cluster_definition":{"version":"v1.10.0","operators":[{"enr":"enr:"}]},"distributed_validators":[{}],"lock_hash":"0x00"}`))
	f.Add([]byte(`{"distributed_validators":[{"public_shares":[""]}]}`))
	for _, raw := range sampleLocks(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var lock, again cluster.Lock
		if json.Unmarshal(raw, &lock) != nil {
			return
		}
		hash, hashErr := lock.ComputeHash()
		if s := lock.Summarize(func(string) (string, error) { return "", os.ErrInvalid }); s.LockHash == nil || len(s.Nodes) != len(lock.Definition.Operators) {
			t.Fatal("a summary without its lock")
		}
		out, err := lock.Encode()
		if err != nil {
			t.Fatalf("a lock that was read can't be written: %v", err)
		}
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("a lock that was written can't be read: %v", err)
		}
		hash2, hashErr2 := again.ComputeHash()
		if hash != hash2 || (hashErr == nil) != (hashErr2 == nil) {
			t.Fatalf("hash changed in a round trip: %v %v, %v %v", hash, hashErr, hash2, hashErr2)
		}
	})
}

func FuzzDefinition(f *testing.F) {
	f.Add([]byte(`{"version":"v1.11.0","creator":{"address":"","config_signature":"0x"},"deposit_amounts":["1"],"validators":[{"fee_recipient_address":"0x"}]}`))
	f.Add([]byte(`{"version":"v1.8.0","name":"a","timestamp":"2026-01-01T00:00:00Z","fork_version":"0x00000000","compounding":true}`))
	for _, raw := range samples(f, "testdata/definitions/*.json", 7) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var d, again cluster.Definition
		if json.Unmarshal(raw, &d) != nil {
			return
		}
		hash, hashErr := d.ComputeDefinitionHash()
		out, err := json.Marshal(d)
		if err != nil {
			t.Fatalf("a definition that was read can't be written: %v", err)
		}
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("a definition that was written can't be read: %v", err)
		}
		if hash2, err := again.ComputeDefinitionHash(); hash != hash2 || (err == nil) != (hashErr == nil) {
			t.Fatalf("hash changed in a round trip")
		}
	})
}
