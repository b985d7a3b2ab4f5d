package super

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The samples were written by version 1 and are read for ever. Every field of
// every format must be in its sample: a field that is not would be a new one.
func TestFormats(t *testing.T) {
	for _, c := range []struct {
		file, schema string
		into         any
	}{
		{"spec.json", specSchema, &order{}}, {"run.json", runSchema, &running{}}, {"exit.json", exitSchema, &exited{}},
		{"handle.json", handleSchema, &handle{}}, {"core.json", coreSchema, &Holder{}},
	} {
		path := filepath.Join("testdata", c.file)
		if err := readJSON(path, c.schema, c.into); err != nil {
			t.Error(err)
			continue
		}
		// Nothing is lost on the way through our types, and nothing is added.
		var was, now map[string]any
		decode(t, path, &was)
		b, err := json.Marshal(c.into)
		if err == nil {
			err = json.Unmarshal(b, &now)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(was, now) {
			t.Errorf("%s:\n was %v\n now %v", c.file, was, now)
		}
		if empty := emptyFields(reflect.ValueOf(c.into).Elem(), c.file); len(empty) > 0 && c.file != "exit.json" {
			t.Errorf("the sample has no value for %v", empty)
		}
		if err := readJSON(path, strings.Replace(c.schema, "/1", "/2", 1), c.into); err == nil || !strings.Contains(err.Error(), "schema") {
			t.Errorf("%s was read as another version: %v", c.file, err)
		}
	}
}

func emptyFields(v reflect.Value, at string) []string {
	var out []string
	for i := range v.NumField() {
		f, name := v.Field(i), at+"."+v.Type().Field(i).Name
		if !v.Type().Field(i).IsExported() {
			continue
		}
		if f.IsZero() {
			out = append(out, name)
		} else if f.Kind() == reflect.Struct && f.Type().PkgPath() == v.Type().PkgPath() {
			out = append(out, emptyFields(f, name)...)
		}
	}
	return out
}

func TestWriteIsWholeOrNot(t *testing.T) {
	dir := t.TempDir()
	if err := writeJSON(dir, "x.json", 1, true); err != nil {
		t.Fatal(err)
	}
	if err := writeJSON(dir, "x.json", func() {}, true); err == nil {
		t.Error("a function was encoded")
	}
	if err := writeJSON(filepath.Join(dir, "none"), "x.json", 1, true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "x.json")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	os.WriteFile(filepath.Join(dir, "."+exitName+"-123"), []byte("half"), 0o600)
	sweepTemp(dir)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("a half-written file stays: %v", entries)
	}
}

func TestCause(t *testing.T) {
	n := func(v uint64) *uint64 { return &v }
	for want, e := range map[string]ending{
		"stopped as asked":                                        {stopAsked: true},
		"stopped as asked ":                                       {stopAsked: true, signal: unix.SIGTERM},
		"stopped as asked, with code 3":                           {stopAsked: true, code: 3},
		"ended by itself with code 2":                             {code: 2},
		"ended by itself with code 0, and nobody had asked it to": {},
		"killed by SIGSEGV":                                       {signal: unix.SIGSEGV},
		"killed by SIGABRT, with a core dump":                     {signal: unix.SIGABRT, core: true},
		"killed by SIGTERM":                                       {signal: unix.SIGTERM},
		"killed by SIGKILL (by the kernel's out-of-memory killer or by hand)":                                               {signal: unix.SIGKILL, oomBefore: n(1)},
		"killed by SIGKILL by hand: the kernel's count of out-of-memory kills did not rise":                                 {signal: unix.SIGKILL, oomBefore: n(1), oomAfter: n(1)},
		"killed by SIGKILL, probably by the kernel: out of memory (its count of such kills on this machine rose meanwhile)": {signal: unix.SIGKILL, oomBefore: n(1), oomAfter: n(2)},
		"killed by the kernel: out of memory, its cap is 64.0 MiB":                                                          {signal: unix.SIGKILL, groupOOM: n(1), limit: 64 << 20},
		"killed by its stub: it used 65.0 MiB of memory and its cap is 64.0 MiB":                                            {signal: unix.SIGKILL, overRSS: 65 << 20, limit: 64 << 20},
		"stopped because the process that keeps it was gone":                                                                {signal: unix.SIGTERM, stopAsked: true, lifeline: true},
		"stopped as asked, but by SIGKILL: it did not end within 2s of SIGTERM":                                             {signal: unix.SIGKILL, stopAsked: true, overGrace: 2e9},
	} {
		if got := e.cause(); got != strings.TrimRight(want, " ") {
			t.Errorf("%+v:\n got %s\nwant %s", e, got, want)
		}
	}
}

// What this machine does not have is tested on written trees.
func TestMemoryGroupOnWrittenTrees(t *testing.T) {
	for name, c := range map[string]struct {
		mounts, self string
		files        []string
		limit        string // file that must hold the limit; "": it must fail
		kills        string
	}{
		"v1": {"cgroup ROOT/memory\\040x cgroup rw,memory 0 0\ncgroup2 ROOT/unified cgroup2 rw 0 0\n", "4:memory:/a\n0::/\n",
			[]string{"memory x/a/"}, "memory.limit_in_bytes", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"},
		"v2":               {"cgroup2 ROOT/cg cgroup2 rw,nsdelegate 0 0\n", "0::/a\n", []string{"cg/a/"}, "memory.max", "low 0\noom 3\noom_kill 3\noom_group_kill 0\n"},
		"not there":        {"cgroup2 ROOT/cg cgroup2 rw 0 0\n", "0::/elsewhere\n", nil, "", ""},
		"no memory at all": {"proc /proc proc rw 0 0\n", "0::/\n", nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			fsys := cgroupFS{mounts: root + "/mounts", self: root + "/self"}
			os.WriteFile(fsys.mounts, []byte(strings.ReplaceAll(c.mounts, "ROOT", root)), 0o600)
			os.WriteFile(fsys.self, []byte(c.self), 0o600)
			for _, f := range c.files {
				os.MkdirAll(filepath.Join(root, f), 0o700)
			}
			if c.limit == "" {
				if _, err := fsys.make("provost-w1.r2", 1); err == nil {
					t.Error("made a group from nothing")
				}
				return
			}
			// A plain directory has no control files, so nothing may pretend to be capped.
			if _, err := fsys.make("provost-w1.r1", 1); err == nil {
				t.Error("a directory without control files passed for a group")
			}
			parent, v2, err := fsys.memoryGroup()
			if err != nil {
				t.Fatal(err)
			}
			g := &group{dir: filepath.Join(parent, "provost-w1.r2"), v2: v2}
			os.Mkdir(g.dir, 0o700)
			for f, text := range map[string]string{c.limit: "", "cgroup.procs": "", "memory.oom_control": c.kills, "memory.events": c.kills} {
				os.WriteFile(filepath.Join(g.dir, f), []byte(text), 0o600)
			}
			if err := writeCgroup(g.dir, c.limit, []byte("77")); err != nil {
				t.Error(err)
			}
			if err := g.add(42); err != nil {
				t.Error(err)
			}
			if b, _ := os.ReadFile(filepath.Join(g.dir, "cgroup.procs")); string(b) != "42" {
				t.Errorf("moved %q", b)
			}
			if n := g.kills(); n == nil || *n != 3 {
				t.Errorf("kills %v, want 3", n)
			}
		})
	}
}

func TestParseStatLine(t *testing.T) {
	s, err := parseStat([]byte("812 (a) R (b) S 811 812 811 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 90211 100 200"))
	if want := (stat{State: 'S', PPID: 811, PGRP: 812, Session: 811, Ticks: 90211}); err != nil || s != want {
		t.Errorf("got %+v (%v), want %+v", s, err, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1", "1 (x) S a b c 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestReservationFilesOfOthers(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(coreFile(dir, 3), []byte("junk \x1b[31m"), 0o666)
	os.Symlink("/etc/passwd", coreFile(dir, 4))
	os.Mkdir(coreFile(dir, 5), 0o700)
	os.WriteFile(dir+"/cpu-007.lock", nil, 0o666)
	f, _, err := reserve(dir, 6, Holder{ID: "w6", Owner: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || fi.Mode().Perm() != 0o666 {
		t.Errorf("others cannot ask: %v (%v)", fi.Mode(), err)
	}
	got, err := Reserved(dir)
	if err != nil || len(got) != 1 || got[0].CPU != 6 || got[0].Holder.ID != "w6" {
		t.Errorf("%+v (%v)", got, err)
	}
	if _, who, err := reserve(dir, 6, Holder{ID: "w7"}); !errors.Is(err, errHeld) || who.ID != "w6" {
		t.Errorf("%v %v", who, err)
	}
	if _, _, err := reserve(dir, 4, Holder{ID: "w7"}); err == nil {
		t.Error("a link was followed")
	}
	if h := readFileHolder(t, coreFile(dir, 3)); h.String() != "a process that left no name" {
		t.Errorf("junk read as %s", h)
	}
	if got, err := Reserved(dir + "/none"); err != nil || got != nil {
		t.Errorf("%v %v", got, err)
	}
}

func readFileHolder(t *testing.T, path string) Holder {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return readHolder(f)
}
