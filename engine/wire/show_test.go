package wire

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app.provost/engine"
)

const sampleCluster = "../../cluster/create/testdata/v1.10.0"

// ask previews an act on an engine with every room closed, and does it.
func ask(t *testing.T, a engine.Action) (engine.Receipt, error) {
	t.Helper()
	o, err := NewOneShot(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := engine.Request{Key: "k1", Action: a, Actor: engine.Actor{Name: "test", Via: engine.ViaCLI}}
	p, err := o.Preview(t.Context(), r)
	if err != nil {
		return engine.Receipt{}, err
	}
	if !p.ReadOnly || p.Title == "" || len(p.Targets) == 0 || len(p.Steps) == 0 {
		t.Errorf("plan %+v", p)
	}
	return o.Do(t.Context(), r, p.Digest)
}

func absolutePath(t *testing.T, p ...string) string {
	t.Helper()
	abs, err := filepath.Abs(filepath.Join(p...))
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func TestShowVerbs(t *testing.T) {
	dir := absolutePath(t, sampleCluster)
	r, err := ask(t, engine.ShowCluster{Path: dir})
	if err != nil || r.Cluster == nil || r.Cluster.Name != "sample" || len(r.Cluster.Nodes) != 4 {
		t.Fatalf("%v %+v", err, r)
	}
	enr := r.Cluster.Nodes[2].ENR
	id, err := ask(t, engine.ShowENR{File: filepath.Join(dir, "node2", "charon-enr-private-key")})
	if err != nil || id.Identity == nil || id.Identity.ENR != enr || id.Identity.PeerID != *r.Cluster.Nodes[2].PeerID {
		t.Errorf("%v %+v", err, id)
	}
	if id, err := ask(t, engine.ShowENR{Record: enr}); err != nil || id.Identity.PeerID != *r.Cluster.Nodes[2].PeerID {
		t.Errorf("%v %+v", err, id)
	}
	v, err := ask(t, engine.VerifyCluster{Dir: dir})
	if err != nil || !strings.Contains(strings.Join(v.Notes, "\n"), "not protected: uuid, path, description of validator_keys/keystore-*.json") {
		t.Errorf("%v %q", err, v.Notes)
	}
	for _, bad := range []engine.Action{engine.ShowCluster{Path: "/nowhere"}, engine.ShowCluster{Path: t.TempDir()}, engine.ShowENR{}, engine.ShowENR{File: "/nowhere"}, engine.ShowENR{Record: "enr:x"}, engine.ShowENR{File: "/x", Record: "enr:x"}} {
		_, err := ask(t, bad)
		var p *engine.Problem
		if !errors.As(err, &p) || p.Exit != engine.ExitUsage || p.Remedy == "" || p.Doing != bad.Doing() {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// What verify finds out reaches the receipt whole: name, file, field, explanation, remedy.
func TestVerifyNamesFileAndField(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	if err := os.CopyFS(dir, os.DirFS(absolutePath(t, sampleCluster))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "node1", "cluster-lock.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Replace(raw, []byte(`"threshold": 3`), []byte(`"threshold": 2`), 1)
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, bad, 0o600)); err != nil || bytes.Equal(bad, raw) {
		t.Fatal(err)
	}
	r, err := ask(t, engine.VerifyCluster{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"node1.lock": false, "node1.definition.config_hash": false}
	for _, c := range r.Checks {
		if _, ok := want[c.Name]; ok && c.Status == "failed" && c.File == "node1/cluster-lock.json" && c.Field == "cluster_definition.threshold" && c.Text != "" && c.Remedy != "" {
			want[c.Name] = true
		}
	}
	for name, named := range want {
		if !named {
			t.Errorf("%s doesn't name the field: %+v", name, r.Checks)
		}
	}
}
