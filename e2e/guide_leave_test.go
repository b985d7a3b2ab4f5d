package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// smallCluster makes a cluster of three nodes in a place and gives its directory and lock hash.
func (p *place) smallCluster() (dir, hash string) {
	p.t.Helper()
	p.must(withAddresses("--nodes", "3", "--num-validators", "2", "--network", "hoodi", "--insecure-keys", "--cluster-dir", "nodes")...)
	var lock struct {
		Hash string `json:"lock_hash"`
	}
	dir = filepath.Join(p.dir, "nodes")
	if err := json.Unmarshal([]byte(read(p.t, filepath.Join(dir, "node0", "cluster-lock.json"))), &lock); err != nil || len(lock.Hash) < 10 {
		p.t.Fatalf("lock hash %q: %v", lock.Hash, err)
	}
	return dir, lock.Hash
}

// stays keeps what a pane shows after its command has ended.
func (w *pane) stays() *pane {
	w.t.Helper()
	if out, err := w.tmux("set-option", "-g", "remain-on-exit", "on"); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return w
}

// nowhere fails when a word is in any file below a place, or was on a pane.
func (p *place) nowhere(w *pane, word string) {
	p.t.Helper()
	all, err := w.tmux("capture-pane", "-p", "-S", "-200")
	if err != nil || strings.Contains(all, word) {
		p.t.Errorf("%q was on the screen (%v):\n%s", word, err, all)
	}
	err = filepath.WalkDir(p.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if raw, err := os.ReadFile(path); err != nil || strings.Contains(string(raw), word) {
			p.t.Errorf("%s holds %q: %v", path, word, err)
		}
		return nil
	})
	if err != nil {
		p.t.Error(err)
	}
}

// Whole keys out of a cluster on the screen of a real terminal. What was signed isn't known, so the
// guide leads to the sentence that the refusal names.
func TestGuideLeavesACluster(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, hash := p.smallCluster()
	w := newPane(t, p, 80, 24, "combine").stays()
	w.still("the first page", "what it is about", "nothing leaves this", "Nothing is written before the last step")
	w.keys("Enter")
	w.still("the nodes", "Node directories", "Directory of them all")
	w.keys("nodes/node0,", "Enter")
	w.still("an empty entry", "empty entry between the commas")
	w.keys("C-u", "Tab", "./node", "Enter")
	w.still("where to", "No history", "empty: ./validator_keys")
	w.keys("whole", "Enter")
	w.still("no such directory", "/node: open: no such file", "Nothing was written")
	w.keys("Enter")
	w.still("back at the directory", "Directory of them all", "no such file")
	w.keys("s", "Enter", "Enter")
	w.still("the refusal", "what was signed isn't known", "1 blocks")
	w.keys("Enter")
	sentence := "I accept that the validators of " + hash[:10] + " may be slashed"
	w.still("the sentence", "type exactly: I accept that the validators of", hash[:10])
	w.keys("I accept it", "Enter")
	w.still("not that sentence", "is not the", "1 blocks")
	w.keys("Enter")
	w.still("the sentence again", "type exactly:")
	w.keys("C-u", sentence, "Enter")
	w.still("the checks pass", "0 block", "what was signed isn't known")
	w.keys("BTab")
	w.still("back", "No history")
	w.keys("Enter")
	w.still("the checks again", "0 block")
	w.keys("Enter")
	w.still("the review", "2 whole keys", "Type combine nodes to agree")
	w.keys("combine", "Enter")
	w.still("other words", "type combine nodes to agree")
	if exists(filepath.Join(p.dir, "whole")) {
		t.Fatal("something was written before the end")
	}
	w.keys(" nodes", "Enter")
	w.ended(0)
	w.still("the end", "repeat without questions:")
	if names, _ := filepath.Glob(filepath.Join(p.dir, "whole", "keystore-*.json")); len(names) != 2 {
		t.Errorf("made %v", names)
	}
	if left, _ := filepath.Glob(filepath.Join(p.dir, "s/provost/.drafts/*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	p.must("combine", "--cluster-dir", "nodes", "--output-dir", "again", "--no-slashing-history", sentence)
}

// A node is moved on the screen: its passphrase is typed twice, and is seen nowhere.
func TestGuideMovesANode(t *testing.T) {
	t.Parallel()
	const secret = "canary battery staple"
	p := newPlace(t)
	nodes, _ := p.smallCluster()
	w := newPane(t, p, 80, 24, "node", "export").stays()
	w.still("the first page", "what it is about", "never runs at its old place")
	w.keys("Enter")
	w.still("the node", "Node directory", "Sealed file")
	w.keys("nodes/node0", "Tab", "Tab", "node0.age/", "Enter")
	w.still("no file", "want the name of a file")
	w.keys("BSpace", "Enter")
	w.still("the seal", "Recipients", "Passphrase")
	w.keys("BTab")
	w.still("back", "Node directory")
	w.keys("Enter", "ana", "Enter")
	w.still("nobody", "want a public key")
	w.keys("C-u", "Tab", "Tab", "C-t")
	w.still("a passphrase", "0 characters", "touches no disk")
	w.keys("canary", "Enter")
	w.still("too short", "needs 12", "6 characters")
	w.keys(" battery staple", "Enter")
	w.still("again", "the same again", "0 characters")
	w.keys("canary battery stable", "Enter")
	w.still("a slip", "the two differ", "0 characters")
	w.keys(secret, "Enter")
	w.still("again", "the same again")
	w.keys(secret, "Enter")
	w.still("it is taken", "/dev/fd/")
	w.keys("Enter")
	w.still("the checks", "0 block", "no slashing protection")
	w.keys("Enter")
	w.still("the review", "cannot be undone", "Type move node0 to agree")
	w.keys("BTab", "BTab")
	w.still("back", "Recipients")
	w.keys("Enter")
	w.still("the checks again", "0 block")
	w.keys("Enter")
	w.still("the review again", "Type move node0 to agree")
	if exists(filepath.Join(p.dir, "node0.age")) || exists(filepath.Join(nodes, "node0", "provost", "fence.json")) {
		t.Fatal("something was written before the end")
	}
	w.keys("move node0", "Enter")
	w.ended(0)
	w.still("the end", "repeat without questions:")
	p.nowhere(w, secret)
	if !exists(filepath.Join(nodes, "node0", "provost", "fence.json")) {
		t.Error("the old place does not know that the node was moved")
	}

	// Put in place elsewhere.
	q := newPlace(t)
	v := newPane(t, q, 80, 24, "node", "import", filepath.Join(p.dir, "node0.age")).stays()
	v.still("the first page", "what it is about", "every check")
	v.keys("Enter")
	v.still("the file", "from FILE", "Only check")
	v.keys("Tab", "y", "n", "Tab", "moved", "Enter")
	v.still("the key", "Identity file", "Passphrase")
	v.keys("no-such-key", "Enter")
	v.still("no such key", "no such file", "Nothing was written")
	v.keys("Enter", "C-u", "Tab", "C-t")
	v.still("a passphrase", "0 characters")
	v.keys(secret, "Enter")
	v.still("it is taken", "/dev/fd/")
	v.keys("Enter")
	v.still("the checks", "0 block")
	v.keys("BTab", "BTab")
	v.still("back", "Only check")
	v.keys("Enter", "Enter")
	v.still("the checks again", "0 block")
	v.keys("Enter")
	v.still("the review", "enter is enough")
	if exists(filepath.Join(q.dir, "moved")) {
		t.Fatal("something was written before the end")
	}
	v.keys("Enter")
	v.ended(0)
	v.still("the end", "repeat without questions:")
	q.nowhere(v, secret)
	if !exists(filepath.Join(q.dir, "moved", "charon-enr-private-key")) {
		t.Error("no node is there")
	}
}

// A backup, and its restore test, with answers from a file.
func TestGuideTestsABackup(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.smallCluster()
	if err := os.WriteFile(filepath.Join(p.dir, "pass"), []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newPane(t, p, 100, 40, "node", "export", "nodes/node1", "--passphrase-file", "pass").stays()
	w.still("the first page", "what it is about")
	w.keys("Enter")
	w.still("the node", "from DIR", "Backup")
	w.keys("Tab", "y", "Tab", "copy.age", "Enter")
	w.still("the seal", "from --passphrase-file")
	w.keys("Enter")
	w.still("the checks", "0 block")
	w.keys("Enter")
	w.still("the review", "seal a copy of node 1", "enter is enough")
	w.keys("S")
	w.still("the answers", "answers saved to")
	w.keys("Enter")
	w.ended(0)
	w.still("the end", "repeat without questions:")
	if exists(filepath.Join(p.dir, "nodes", "node1", "provost", "fence.json")) {
		t.Error("a node that was copied may not run any more")
	}
	if said := p.must("node", "import", "copy.age", "--check", "--passphrase-file", "pass"); !strings.Contains(said, "can be restored") {
		t.Errorf("the restore test says %s", said)
	}
	if r := p.run("node", "export", "--answers", "node-export.yaml"); r.code == 0 || !strings.Contains(r.err, "something is there already") {
		t.Errorf("the answers again: exit %d: %s", r.code, r.err)
	}
	p.must("node", "export", "--answers", "node-export.yaml", "--out", "second.age")
	if !exists(filepath.Join(p.dir, "second.age")) {
		t.Error("no second copy")
	}
}

// Left on a page in the middle, nothing is made, and the node stays where it is.
func TestGuideLeavingIsLeft(t *testing.T) {
	t.Parallel()
	for _, left := range []struct {
		args []string
		keys []string
	}{{[]string{"combine"}, []string{"Escape"}}, {[]string{"node", "export"}, []string{"C-c", "C-c"}}, {[]string{"node", "import"}, []string{"Escape"}}} {
		t.Run(strings.Join(left.args, "-"), func(t *testing.T) {
			p := newPlace(t)
			w := newPane(t, p, 80, 24, left.args...).stays()
			w.still("a page", "step 1 of 5", "esc leave")
			w.keys("Enter")
			w.still("the next", "step 2 of 5")
			w.keys("x")
			w.keys(left.keys...)
			if left.keys[0] == "Escape" {
				w.still("the question", "Leave? Nothing was made")
				w.keys("Enter")
			}
			w.ended(5)
			if end := w.picture(); strings.Contains(end, "│") {
				t.Errorf("the screen is not whole:\n%s", end)
			}
			for _, name := range []string{"x", "validator_keys"} {
				if exists(filepath.Join(p.dir, name)) {
					t.Errorf("%s was made", name)
				}
			}
		})
	}
}

// Line by line, on a real terminal: a passphrase is typed unseen and twice, left in the middle, gone
// on with from the draft, which knows nothing of it.
func TestPlainMovesANode(t *testing.T) {
	t.Parallel()
	const secret = "canary battery staple"
	p := newPlace(t)
	p.smallCluster()
	first := []turn{{ask: "Node directory", line: "nodes/node2\n"}, {ask: "Backup, y or n [n]", line: "b\n"}, {ask: "Node directory [nodes/node2]", line: "\n"}, {ask: "Backup, y or n [n]", line: "\n"}, {ask: "Sealed file", line: "node2.age\n"},
		{ask: "line 1: ", line: "\n"}, {ask: "Passphrase, a file", line: "type\n"}, {ask: "Passphrase, not shown: ", line: secret + "\n", unseen: true}, {ask: "Passphrase again, not shown: ", line: "\x04", unseen: true}}
	seen, code := p.talk(first, "node", "export", "--accessible")
	if code != 5 || !strings.Contains(seen, "Nothing was written.") || strings.Contains(seen, secret) {
		t.Fatalf("exit %d\n%s", code, seen)
	}
	rest := []turn{{ask: "there is a draft", line: "y\n"}, {ask: "line 1: ", line: "\n"}, {ask: "Passphrase, a file", line: "type\n"}, {ask: "Passphrase, not shown: ", line: "short\n", unseen: true}, {ask: "needs 12", line: ""},
		{ask: "Passphrase, not shown: ", line: secret + "\n", unseen: true}, {ask: "again, not shown: ", line: secret + "x\n", unseen: true}, {ask: "The two differ", line: ""},
		{ask: "Passphrase, not shown: ", line: secret + "\n", unseen: true}, {ask: "again, not shown: ", line: secret + "\n", unseen: true},
		{ask: `"seen"`, line: "seen\n"}, {ask: "what was typed, not shown", line: ""}, {ask: "to go on: ", line: "s kept.yaml\n"}, {ask: "to go on: ", line: "move node2\n"}, {ask: "repeat without questions:", line: ""}}
	more, code := p.talk(rest, "node", "export", "--accessible")
	if code != 0 || strings.Contains(more, secret) || strings.ContainsAny(seen+more, "\x1b\a┌│─✔") {
		t.Fatalf("exit %d\n%s", code, more)
	}
	if kept := read(t, filepath.Join(p.dir, "kept.yaml")); strings.Contains(kept, "passphrase") || strings.Contains(kept, "/dev/fd") {
		t.Errorf("the answers keep a passphrase:\n%s", kept)
	}
	turns := []turn{{ask: "Passphrase, a file", line: "type\n"}, {ask: "Passphrase, not shown: ", line: secret + "\n", unseen: true}, {ask: `"yes" to go on: `, line: "yes\n"}}
	if said, code := p.talk(append([]turn{{ask: "Only check, y or n [n]", line: "\n"}, {ask: "Directory", line: "moved\n"}, {ask: "Identity file", line: "\n"}}, turns...), "node", "import", "node2.age", "--accessible"); code != 0 || !exists(filepath.Join(p.dir, "moved", "charon-enr-private-key")) {
		t.Errorf("exit %d\n%s", code, said)
	}
}
