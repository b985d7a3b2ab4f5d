package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"app.provost/engine"
)

func write(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "provost.yaml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhoWins(t *testing.T) {
	system := write(t, "jobs:\n  lease: 40s\n  max-attempts: 2\nworkers: {count: 3}\n")
	user := write(t, "jobs.lease: 50s\nnode-dirs: [/a, /b]\n")
	got, err := Load(Sources{
		Files: []File{{Path: system, Origin: FromSystem}, {Path: user, Origin: FromUser}, {Path: "/does/not/exist", Origin: FromCluster}},
		Env:   []string{"PROVOST_JOBS_LEASE=60s", "PROVOST_WORKERS_COUNT=5", "OTHER=1"},
		Flags: map[string]string{"workers": "7"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Lease != time.Minute || got.Workers != 7 || got.MaxAttempts != 2 || strings.Join(got.NodeDirs, " ") != "/a /b" || got.WorkerNice != 10 {
		t.Errorf("decided %+v", got.Config)
	}
	by := map[string]Setting{}
	for _, s := range got.Settings {
		by[s.Key] = s
	}
	if s := by["jobs.lease"]; s.Origin != FromEnv || s.Value != "1m" || len(s.Beaten) != 2 || s.Beaten[0].Where != system+":2" || s.Beaten[1].Value != "50s" {
		t.Errorf("jobs.lease: %+v", s)
	}
	if s := by["workers.count"]; s.Origin != FromFlag || s.Where != "--workers" {
		t.Errorf("workers.count: %+v", s)
	}
	if s := by["workers.nice"]; s.Origin != FromDefault || s.Value != "10" {
		t.Errorf("workers.nice: %+v", s)
	}
}

func TestMistakesAreToldAtOnce(t *testing.T) {
	f := write(t, "worker:\n  count: 3\njobs:\n  lease: soon\n")
	_, err := Load(Sources{Files: []File{{Path: f, Origin: FromUser}, {Path: "/does/not/exist.yaml", Origin: FromUser, Must: true}}, Flags: map[string]string{"workers": "-2"}})
	var p *engine.Problem
	if !errors.As(err, &p) || p.Exit != engine.ExitUsage || p.Code != engine.CodeConfigInvalid || len(p.More) != 3 {
		t.Fatalf("want four problems, got %+v", err)
	}
	if !strings.Contains(p.Error(), `unknown key "worker.count"`) || !strings.Contains(p.Error(), `did you mean "workers.count"?`) {
		t.Errorf("no nearest name in %q", p.Error())
	}
}

func TestEveryKeyReadsItsOwnValue(t *testing.T) {
	flags := map[string]bool{}
	for _, k := range Keys() {
		c := Default()
		if err := k.set(&c, k.Default()); err != nil {
			t.Errorf("%s does not take its own default %q: %v", k.Name, k.Default(), err)
		}
		if k.Help == "" || k.Value(c) != k.Default() {
			t.Errorf("%s: value %q, default %q, help %q", k.Name, k.Value(c), k.Default(), k.Help)
		}
		if k.Flag != "" && flags[k.Flag] {
			t.Errorf("flag %s is used twice", k.Flag)
		}
		flags[k.Flag] = true
	}
}

func TestBytes(t *testing.T) {
	for in, want := range map[string]uint64{"0": 0, "17": 17, "2GiB": 2 << 30, "512 MiB": 512 << 20} {
		if got, err := parseBytes(in); err != nil || got != want {
			t.Errorf("%q: %d %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "x", "2GB", "-1", "1.5GiB", "99999999TiB"} {
		if _, err := parseBytes(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("jobs:\n  lease: 40s\n"))
	f.Add([]byte("a: &x [1]\nb: *x\n"))
	f.Add([]byte("? [a]\n: b\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		values, err := parse(b)
		for _, v := range values {
			if err == nil && v.name == "" {
				t.Errorf("a value without a key from %q", b)
			}
		}
	})
}

func TestSocketsOfEngines(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/s")
	t.Setenv("XDG_RUNTIME_DIR", "/r")
	socket := func(flags map[string]string) string {
		c, err := Load(Sources{Flags: flags})
		if err != nil {
			t.Fatal(err)
		}
		return c.SocketPath()
	}
	seen := map[string]bool{}
	for want, flags := range map[string]map[string]string{
		"/r/provost/default.sock": {},
		"/r/provost/two.sock":     {"name": "two"},
		"/r/provost/default-":     {"state-dir": "/a"},
		"/x.sock":                 {"socket": "/x.sock", "state-dir": "/a"},
	} {
		got := socket(flags)
		if seen[got] {
			t.Errorf("%v shares the socket %s", flags, got)
		}
		seen[got] = true
		if got != want && !strings.HasPrefix(want, "/r/provost/default-") {
			t.Errorf("%v: %s, want %s", flags, got, want)
		}
	}
	if a, b := socket(map[string]string{"state-dir": "/a"}), socket(map[string]string{"state-dir": "/b"}); a == b {
		t.Errorf("two state directories share %s", a)
	}
	if c, _ := Load(Sources{Flags: map[string]string{"name": "two"}}); c.StateDir != "/s/provost/two" {
		t.Errorf("state of two is in %s", c.StateDir)
	}
}

func TestOwnKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte("keys:\n  worker.pause: x\n  view:\n    workers: [W, f2]\n  freeze: ','\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func() (Loaded, error) {
		return Load(Sources{Files: []File{{Path: file, Origin: FromUser, Must: true}}})
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "line 5") && !strings.Contains(err.Error(), ":5") && !strings.Contains(err.Error(), "no key is given") {
		t.Errorf("an empty key was taken: %v", err)
	}
	if err := os.WriteFile(file, []byte("keys:\n  worker.pause: x\n  view:\n    workers: [W, f2]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string][]string{"worker.pause": {"x"}, "view.workers": {"W", "f2"}}; !reflect.DeepEqual(l.Keys, want) {
		t.Errorf("%v", l.Keys)
	}
	last := l.Settings[len(l.Settings)-1]
	if last.Key != "keys.worker.pause" || last.Value != "x" || last.Where != file+":2" || last.Origin != FromUser {
		t.Errorf("%+v", last)
	}
}
