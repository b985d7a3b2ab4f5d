package create

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"app.provost/cluster"
	"app.provost/cluster/internal/keystore"
)

// These tests change each field of each file in turn: every value is changed, every key and entry
// removed, every list reordered and given an entry twice, every object given a key that nobody
// knows. Each time Verify must fail and name the file and the field, unless what is left says the
// same. What no hash and no signature binds stands in notProtected, with the reason, and Verify
// reports it as such.

// notProtected are the values that may be changed without a check failing.
var notProtected = map[string]map[string]string{
	"keystore": {
		"uuid":        "EIP-2335 covers it by nothing; it is a name for people, and only its form is checked",
		"path":        "EIP-2335 covers it by nothing; the share is derived from no path, and only its form is checked",
		"description": "EIP-2335 covers it by nothing; a note for people",
	},
	"deposit": {
		"deposit_cli_version": "names the tool that wrote the file; launchpads want a version there, and only its form is checked",
	},
}

// step is a way into a JSON document: a key or a place in a list.
type step any

// change is one change of a document.
type change struct {
	what string // changed, removed, added, doubled, reordered
	path string // as in a.b[2]
	do   func(doc any) any
}

func parseJSON(t testing.TB, raw []byte) any {
	t.Helper()
	var doc any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// with replaces what is at the steps by what f makes of it; gone removes it.
func with(doc any, steps []step, f func(any) any) any {
	if len(steps) == 0 {
		return f(doc)
	}
	switch at := steps[0].(type) {
	case string:
		x := maps.Clone(doc.(map[string]any))
		if v := with(x[at], steps[1:], f); v == gone {
			delete(x, at)
		} else {
			x[at] = v
		}
		return x
	case int:
		x := slices.Clone(doc.([]any))
		v := with(x[at], steps[1:], f)
		if v == gone {
			return slices.Delete(x, at, at+1)
		}
		x[at] = v
		return x
	}
	panic("unknown step")
}

type removed struct{}

var gone any = removed{}

// changesOf lists every change of a document, in a fixed order.
func changesOf(doc any) []change {
	var out []change
	var walk func(at string, steps []step, v any)
	walk = func(at string, steps []step, v any) {
		steps = slices.Clone(steps)
		add := func(what, path string, f func(any) any) {
			out = append(out, change{what, strings.TrimPrefix(path, "."), func(doc any) any { return with(doc, steps, f) }})
		}
		if at != "" {
			add("removed", at, func(any) any { return gone })
		}
		switch x := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(x)) {
				walk(at+"."+k, append(steps, k), x[k])
			}
			add("added", at+".x_added", func(v any) any {
				m := maps.Clone(v.(map[string]any))
				m["x_added"] = json.Number("1")
				return m
			})
		case []any:
			for i, e := range x {
				walk(fmt.Sprintf("%s[%d]", at, i), append(steps, i), e)
			}
			if len(x) > 0 {
				add("doubled", at, func(v any) any { return append(slices.Clone(v.([]any)), x[0]) })
			}
			if len(x) > 1 && !reflect.DeepEqual(x[0], x[1]) {
				add("reordered", at, func(v any) any {
					y := slices.Clone(v.([]any))
					y[0], y[1] = y[1], y[0]
					return y
				})
			}
		default:
			add("changed", at, func(v any) any { return changed(v) })
		}
	}
	walk("", nil, doc)
	return out
}

// changed is a value of the same type that says something else.
func changed(v any) any {
	switch x := v.(type) {
	case nil:
		return []any{"32000000000"}
	case bool:
		return !x
	case json.Number:
		return json.Number(x.String() + "1")
	case string:
		if x == "" {
			return "0x00000000000000000000000000000000000000aa"
		}
		last := x[len(x)-1]
		with := byte('1')
		if last == '1' {
			with = '2'
		}
		return x[:len(x)-1] + string(with)
	default:
		panic(fmt.Sprintf("unknown JSON value %T", v))
	}
}

// names reports whether the field of a check names the path: it is the path, something around it
// that is smaller than the file, or something inside it. A set as in a.{b,c} names each of them.
func names(field, path string) bool {
	if head, set, ok := strings.Cut(field, "{"); ok {
		for _, one := range splitSet(strings.TrimSuffix(set, "}")) {
			if names(head+one, path) {
				return true
			}
		}
		return false
	}
	within := func(outer, inner string) bool {
		rest, ok := strings.CutPrefix(inner, outer)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	}
	return field != "" && field != "cluster_definition" && (within(field, path) || within(path, field))
}

func splitSet(set string) []string { return strings.Split(set, ",") }

// verifyMem verifies files in memory. single is the name of the one file to look at, or "".
func verifyMem(t testing.TB, files memSource, single string) Report {
	t.Helper()
	v := newVerifier("/", Options{Workers: 1})
	v.src = files
	if single != "" {
		v.single, v.report.Scope = single, ScopeLock
		if looksLikeDefinition(files[single]) {
			v.report.Scope = ScopeDefinition
		}
	} else if err := v.classify(); err != nil {
		t.Fatal(err)
	}
	if err := v.verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	return v.report
}

// mustName fails the test unless a failed check names the file and the path.
func mustName(t *testing.T, r Report, c change, files ...string) {
	t.Helper()
	var seen []string
	for _, f := range r.Failures() {
		if f.Remedy == "" || f.What == "" || f.Problem == "" {
			t.Errorf("%s %s: incomplete check %+v", c.path, c.what, f)
		}
		// What happens to a list that is the whole file is about the file.
		if slices.Contains(files, f.File) && (names(f.Field, c.path) || f.Field == "" && strings.Trim(c.path, "[]0123456789") == "") {
			return
		}
		seen = append(seen, f.ID+" at "+f.File+" "+f.Field)
	}
	t.Errorf("%s %s: not named by any of %q", c.path, c.what, seen)
}

// saysFree reports whether a report says of a field that nothing protects it.
func saysFree(r Report, field string) bool {
	return slices.ContainsFunc(r.NotProtected, func(f NotProtected) bool { return f.Why != "" && f.File != "" && slices.Contains(f.Fields, field) })
}

// eachField makes every change of one file and looks at what verify says. same reports whether a
// changed file says the same as before.
func eachField(t *testing.T, raw []byte, verify func(changed []byte) Report, same func([]byte) bool, kind string, only []string, files ...string) {
	t.Helper()
	doc := parseJSON(t, raw)
	count := 0
	for _, c := range changesOf(doc) {
		if only != nil && !slices.Contains(only, c.what) {
			continue
		}
		bad, err := json.Marshal(c.do(doc))
		if err != nil {
			t.Fatal(err)
		}
		count++
		leaf := c.path[strings.LastIndexByte(c.path, '.')+1:]
		r := verify(bad)
		switch {
		case c.what == "added" && r.OK():
			// A key that nobody knows is kept and has no effect; locks and definitions say so.
			if kind != "keystore" && !saysFree(r, c.path) {
				t.Errorf("%s was added, and nothing says that nobody knows it", c.path)
			}
		case notProtected[kind][leaf] != "" && r.OK():
			if !saysFree(r, leaf) {
				t.Errorf("%s may be changed, and the report doesn't say so", c.path)
			}
		case same != nil && same(bad):
			if !r.OK() {
				t.Errorf("%s %s says the same, and %v failed", c.path, c.what, failedIDs(r))
			}
		default:
			if r.OK() {
				t.Errorf("%s %s: nothing failed", c.path, c.what)
				continue
			}
			mustName(t, r, c, files...)
		}
	}
	if count < 5 {
		t.Errorf("only %d changes were made", count)
	}
}

// sameLock reports whether a changed lock is written again as the lock was.
func sameLock(t testing.TB, raw []byte) func([]byte) bool {
	want := canonicalLock(raw)
	if want == nil {
		t.Fatal("the lock can't be read")
	}
	return func(bad []byte) bool { return bytes.Equal(canonicalLock(bad), want) }
}

func canonicalLock(raw []byte) []byte {
	lock := new(cluster.Lock)
	if json.Unmarshal(raw, lock) != nil {
		return nil
	}
	out, err := lock.Encode()
	if err != nil {
		return nil
	}
	return out
}

func TestEachFieldOfALock(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(lockSamples, "*", "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatal(err, paths)
	}
	for _, file := range paths {
		if strings.Contains(file, "charon/solo-") && !strings.Contains(file, "v1.11") {
			continue // the same layouts as our own, with less in them
		}
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			raw := mustRead(t, file)
			// Every kind of change where the layout is one of its own, changes of values in the others.
			only := []string{"changed"}
			if slices.Contains([]string{"own/v1.5.0.json", "own/v1.6.0.json", "own/v1.7.0.json", "own/v1.10.0.json", "charon/signed-v1.11.0.json"}, path.Base(path.Dir(file))+"/"+path.Base(file)) {
				only = nil
			}
			eachField(t, raw, func(bad []byte) Report {
				return verifyMem(t, memSource{LockFileName: bad}, LockFileName)
			}, sameLock(t, raw), "lock", only, LockFileName)
		})
	}
}

func TestEachFieldOfADefinition(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(definitionSamples, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatal(err, paths)
	}
	for _, file := range paths {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			raw := mustRead(t, file)
			if r := verifyMem(t, memSource{DefinitionFileName: raw}, ""); !r.OK() || r.Scope != ScopeDefinition {
				t.Fatalf("%s: failed %v", r.Scope, failedIDs(r))
			}
			eachField(t, raw, func(bad []byte) Report {
				return verifyMem(t, memSource{DefinitionFileName: bad}, DefinitionFileName)
			}, func(bad []byte) bool {
				d := new(cluster.Definition)
				if json.Unmarshal(bad, d) != nil {
					return false
				}
				again, err := d.Encode()
				return err == nil && bytes.Equal(again, raw)
			}, "definition", nil, DefinitionFileName)
		})
	}
}

// loadTree reads a whole directory into memory.
func loadTree(t testing.TB, dir string) memSource {
	t.Helper()
	out := memSource{}
	paths := []string{"*/*", "*/*/*"}
	for _, pattern := range paths {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range found {
			raw, _, err := readFile(p, 1<<20)
			if err != nil {
				continue // a directory
			}
			rel, err := filepath.Rel(dir, p)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.ToSlash(rel)] = raw
		}
	}
	if len(out) == 0 {
		t.Fatal(errors.New("nothing was read"))
	}
	return out
}

func (m memSource) with(name string, raw []byte) memSource {
	out := maps.Clone(m)
	out[name] = raw
	return out
}

// node is one node's directory by itself.
func (m memSource) node(name string) memSource {
	out := memSource{}
	for file, raw := range m {
		if rest, ok := strings.CutPrefix(file, name+"/"); ok {
			out[rest] = raw
		}
	}
	return out
}

// TestEachFieldOfOneNodesLock changes the lock of one node of a cluster: the others know what it was.
func TestEachFieldOfOneNodesLock(t *testing.T) {
	whole := loadTree(t, ownSample)
	file := "node2/" + LockFileName
	// Locks alone are enough: the others are compared first.
	locks := memSource{}
	for n := range 4 {
		name := nodeDirName(n) + "/" + LockFileName
		locks[name] = whole[name]
	}
	raw := locks[file]
	doc := parseJSON(t, raw)
	for _, c := range changesOf(doc) {
		bad, err := json.Marshal(c.do(doc))
		if err != nil {
			t.Fatal(err)
		}
		v := newVerifier("/", Options{Workers: 1})
		v.src = locks.with(file, bad)
		if err := v.classify(); err != nil {
			t.Fatal(err)
		}
		v.readLocks(&sheet{})
		v.takeNodes()
		same := bytes.Equal(canonicalLock(bad), canonicalLock(raw))
		for _, f := range v.report.Failures() {
			if f.File != file {
				t.Errorf("%s %s: %s is accused", c.path, c.what, f.File)
			}
		}
		switch fails := v.report.Failures(); {
		case len(fails) != 1:
			t.Errorf("%s %s: %d checks failed", c.path, c.what, len(fails))
		case !same && !names(fails[0].Field, c.path):
			t.Errorf("%s %s: named as %s", c.path, c.what, fails[0].Field)
		}
	}
}

func TestEachFieldOfAKeystore(t *testing.T) {
	whole := loadTree(t, ownSample)
	for n := range 4 {
		for v := range 2 {
			name := keysDirName + "/" + keystore.FileName(v, keystore.Insecure)
			t.Run(fmt.Sprintf("node%d %s", n, name), func(t *testing.T) {
				t.Parallel()
				node := whole.node(nodeDirName(n))
				only := []string{"changed"}
				if n == v {
					only = nil
				}
				eachField(t, node[name], func(bad []byte) Report { return verifyMem(t, node.with(name, bad), "") }, nil, "keystore", only, name)
			})
		}
	}
}

func TestEachFieldOfADepositFile(t *testing.T) {
	whole := loadTree(t, ownSample)
	for _, amount := range []cluster.Gwei{cluster.Ether, 32 * cluster.Ether} {
		file := depositFileName(amount)
		t.Run(file+" of one node", func(t *testing.T) {
			t.Parallel()
			name := "node1/" + file
			eachField(t, whole[name], func(bad []byte) Report {
				return verifyMem(t, whole.with(name, bad), "")
			}, nil, "one deposit", []string{"changed"}, name)
		})
		t.Run(file+" of all nodes", func(t *testing.T) {
			t.Parallel()
			node := whole.node("node1")
			eachField(t, node[file], func(bad []byte) Report {
				return verifyMem(t, node.with(file, bad), "")
			}, func(bad []byte) bool { return sameDeposits(bad, node[file]) }, "deposit", nil, file)
		})
	}
}

// sameDeposits reports whether a file has the same deposits in any order.
func sameDeposits(a, b []byte) bool {
	x, err1 := parseDeposits(a)
	y, err2 := parseDeposits(b)
	if err1 != nil || err2 != nil || len(x) != len(y) {
		return false
	}
	for _, e := range x {
		if !slices.Contains(y, e) {
			return false
		}
	}
	return true
}
