package flow

import (
	"reflect"
	"strings"
	"testing"

	"app.provost/engine"
)

func TestLeavingConsent(t *testing.T) {
	for _, c := range []struct {
		f    Flow
		a    Answers
		want string
	}{
		{Combine(), Answers{"cluster-dir": "/x/mine/"}, "combine mine"},
		{Combine(), Answers{"cluster-dir": ".", "output-dir": "./validator_keys"}, "combine validator_keys"},
		{Combine(), Answers{"dirs": "./node0,./node1", "output-dir": "~/whole"}, "combine whole"},
		{Combine(), Answers{"cluster-dir": "..", "output-dir": "/"}, "combine keys"},
		{NodeExport(), Answers{"dir": "./node2"}, "move node2"},
		{NodeExport(), Answers{"dir": ".."}, "move node"},
		{NodeExport(), Answers{"dir": "./node2", "backup": "true"}, ""},
		{NodeImport(), Answers{"file": "x"}, ""},
	} {
		if got := c.f.Consent(c.a); got != c.want {
			t.Errorf("%s %v: %q, want %q", c.f.ID, c.a, got, c.want)
		}
	}
}

func TestLeavingRefusals(t *testing.T) {
	for _, c := range []struct {
		f          Flow
		key        Key
		value, has string
	}{
		{NodeExport(), "recipient", "AGE-SECRET-KEY-1X", "this is a secret key"},
		{NodeExport(), "recipient", "age1x\nana@example", "line 2: want a public key"},
		{NodeExport(), "recipient", "ssh-ed25519 AAAAC3Nz ana, at home\nssh-rsa AAAA", ""},
		{NodeExport(), "out", "./here/", "ends with /"},
		{NodeExport(), "passphrase-file", "-", "standard input"},
		{NodeImport(), "passphrase-file", "-", "standard input"},
		{Combine(), "dirs", "a,,b", "empty entry"},
		{Combine(), "no-slashing-history", "anything: the engine judges", ""},
	} {
		q, _ := c.f.Field(c.key)
		err := q.Problem(Facts{}, c.value, Answers{})
		if (err == nil) != (c.has == "") || err != nil && !strings.Contains(err.Error(), c.has) {
			t.Errorf("%s %s = %q: %v, want %q", c.f.ID, c.key, c.value, err, c.has)
		}
	}
}

func TestLeavingBuilds(t *testing.T) {
	for _, c := range []struct {
		f    Flow
		a    Answers
		want engine.Action
	}{
		{Combine(), sample(Combine()), engine.CombineCluster{Dirs: []string{"/x/node0", "/x/node1", "/x/node2"}, OutputDir: "/x/whole"}},
		{Combine(), Answers{"no-slashing-history": "I accept"}, engine.CombineCluster{ClusterDir: ".", OutputDir: "./validator_keys", NoSlashingHistory: "I accept"}},
		{NodeExport(), sample(NodeExport()), engine.ExportNode{Dir: "/x/node2", Out: "/x/node2.age", PassphraseFile: "/x/passphrase"}},
		{NodeExport(), Answers{"dir": "/n", "out": "/o", "backup": "true", "recipient": " age1a \n\nssh-rsa A b, c", "passphrase-file": "/hidden"},
			engine.ExportNode{Dir: "/n", Out: "/o", Backup: true, Recipients: []string{"age1a", "ssh-rsa A b, c"}}},
		{NodeImport(), sample(NodeImport()), engine.ImportNode{File: "/x/node2.age", Dir: "/x/node2", PassphraseFile: "/x/passphrase"}},
		{NodeImport(), Answers{"file": "/f", "data-dir": "/hidden", "check": "true", "passphrase-file": "/p"}, engine.ImportNode{File: "/f", Check: true, PassphraseFile: "/p"}},
	} {
		got, err := c.f.Build(c.f.Complete(Facts{}, c.a))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %#v, %v\nwant %#v", c.f.ID, got, err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	if f := NodeExport(); f.Name("dir") != "DIR" || f.Name("out") != "--out" || f.Name("bogus") != "--bogus" {
		t.Error(f.Name("dir"), f.Name("out"))
	}
}
