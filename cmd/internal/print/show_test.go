package print

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"app.provost/cluster"
)

// sampleSummary is what the sample lock of a version says; the names of peers are made up, since
// reading records isn't this package's work.
func sampleSummary(t *testing.T, name string) *cluster.Summary {
	t.Helper()
	raw, err := os.ReadFile("../../../cluster/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	peer := func(enr string) (string, error) {
		if enr == "" {
			return "", errors.New("there is no record")
		}
		return "16Uiu2HAm" + enr[20:60], nil
	}
	var s cluster.Summary
	if strings.Contains(name, "definition") {
		var d cluster.Definition
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatal(err)
		}
		d.Operators[3].ENR = ""
		s = d.Summarize(peer)
	} else {
		var l cluster.Lock
		if err := json.Unmarshal(raw, &l); err != nil {
			t.Fatal(err)
		}
		s = l.Summarize(peer)
	}
	s.Path = "/home/op/" + name
	return &s
}

func TestCluster(t *testing.T) {
	for name, file := range map[string]string{
		"solo": "locks/own/v1.10.0.json", "signed": "locks/charon/signed-v1.11.0.json", "compounding": "locks/charon/solo-v1.11.0.json",
		"old": "locks/own/v1.5.0.json", "definition": "definitions/own-v1.10.0.json",
	} {
		s := sampleSummary(t, file)
		for _, f := range Formats {
			var b bytes.Buffer
			if err := Cluster(&b, s, f, Style{}); err != nil {
				t.Fatal(err)
			}
			if f == CSV {
				if rows, err := csv.NewReader(&b).ReadAll(); err != nil || len(rows) != 1+len(s.Validators) {
					t.Errorf("%s: %v %q", name, err, rows)
				}
				continue
			}
			if name == "solo" || f == Text {
				golden(t, "cluster-"+name+"-"+string(f)+".golden", b.Bytes())
			}
		}
	}
}

func TestClusterIsClean(t *testing.T) {
	s := sampleSummary(t, "locks/own/v1.10.0.json")
	s.Name, s.UUID, s.Created, s.Version, s.Path, s.ConsensusProtocol, s.Notes = hostile, hostile, hostile, hostile, hostile, hostile, []string{hostile}
	s.Nodes[0].ENR, s.Nodes[0].Operator.Address, s.Validators[0].Withdrawal, s.Validators[0].FeeRecipient, s.UnknownKeys = hostile, hostile, hostile, hostile, []string{hostile}
	for _, f := range Formats {
		var b bytes.Buffer
		if err := Cluster(&b, s, f, Style{ASCII: true}); err != nil {
			t.Fatal(err)
		}
		for _, r := range b.String() {
			if (hidden(r) || r >= 0x80) && r != '\n' {
				t.Errorf("%s: %U reaches the terminal", f, r)
			}
		}
	}
	var b bytes.Buffer
	if err := Identity(&b, &cluster.Identity{ENR: hostile, File: hostile, Pairs: []cluster.IdentityPair{{Key: hostile, Value: hostile}}}, true, Style{}); err != nil {
		t.Fatal(err)
	}
	for _, r := range b.String() {
		if hidden(r) && r != '\n' {
			t.Errorf("%U reaches the terminal", r)
		}
	}
}
