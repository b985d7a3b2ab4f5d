package quil

import (
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestErasAreRead(t *testing.T) {
	all, err := decodeEras(erasYML)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 6 || len(Eras()) != 6 {
		t.Fatalf("%d eras", len(all))
	}
	month := regexp.MustCompile(`^20[0-9]{2}-(0[1-9]|1[0-2])$`)
	for i, e := range all {
		if e.First.String() != string(e.ID) {
			t.Errorf("era %s begins with version %s: an era is called by its first version", e.ID, e.First)
		}
		if i > 0 && all[i-1].First.compare(e.First) >= 0 {
			t.Errorf("era %s is not after %s", e.ID, all[i-1].ID)
		}
		if (e.Last == nil) != (i == len(all)-1) {
			t.Errorf("era %s: only the newest is open", e.ID)
		}
		if e.Last != nil && i+1 < len(all) && e.Last.compare(all[i+1].First) >= 0 {
			t.Errorf("era %s overlaps %s", e.ID, all[i+1].ID)
		}
		for _, m := range []*string{e.Since, e.Until} {
			if m != nil && !month.MatchString(*m) {
				t.Errorf("era %s: %q is no month", e.ID, *m)
			}
		}
		if e.Title == "" || e.Looked == "" || len(e.Address.Lists) == 0 || len(e.Keys) == 0 || len(e.Files) == 0 || len(e.Ports) == 0 || len(e.Traps) == 0 || len(e.Unknown) == 0 || len(e.Logs) == 0 {
			t.Errorf("era %s is incomplete", e.ID)
		}
		sourced(t, string(e.ID), reflect.ValueOf(e))
		for _, k := range e.Keys {
			if slices.Index(e.Keys, k) != slices.IndexFunc(e.Keys, func(o Key) bool { return o.Path == k.Path }) {
				t.Errorf("era %s: key %s twice", e.ID, k.Path)
			}
		}
		for _, l := range e.Address.Lists {
			if k, ok := e.key(l.Key); !ok || k.Type != TypeAddresses {
				t.Errorf("era %s: list %s is no key of addresses", e.ID, l.Key)
			}
		}
		for _, tm := range e.Timings {
			if !slices.ContainsFunc(e.Logs, func(l LogLine) bool { return l.ID == tm.Line && slices.Contains(l.Fields, tm.Field) }) {
				t.Errorf("era %s: timing %s reads a field that no line has", e.ID, tm.ID)
			}
		}
	}
}

// sourced looks that every rule says how it is known and where from, and that what is not known has no value.
func sourced(t *testing.T, at string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		how := v.FieldByName("How")
		if how.IsValid() {
			value := v.FieldByName("Value")
			rule := value.IsValid() && value.Kind() == reflect.Pointer
			switch How(how.String()) {
			case HowRead, HowDoc, HowObserved:
			case HowOwn:
				if n := v.FieldByName("Note"); rule && n.IsValid() && n.String() == "" {
					t.Errorf("%s: our own conclusion, and no word on what it rests", at)
				}
			case HowUnknown:
				if !rule || !value.IsNil() {
					t.Errorf("%s: unknown, and yet it has a value", at)
				}
			default:
				t.Errorf("%s: how it is known is not said (%q)", at, how.String())
			}
			if v.FieldByName("Source").String() == "" {
				t.Errorf("%s: no source", at)
			}
			if rule && value.IsNil() && How(how.String()) != HowUnknown && v.FieldByName("Note").String() == "" {
				t.Errorf("%s: no value, and no word why", at)
			}
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				sourced(t, at+"."+v.Type().Field(i).Name, v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			sourced(t, at, v.Index(i))
		}
	}
}

func TestErasFileIsRefused(t *testing.T) {
	for name, s := range map[string]string{
		"unknown schema": strings.Replace(string(erasYML), "\nschema: provost.quil/1", "\nschema: provost.quil/2", 1),
		"unknown rule":   strings.Replace(string(erasYML), "  title: one proof per worker and frame\n", "  titel: one proof\n", 1),
		"no yaml":        "schema: [",
	} {
		if _, err := decodeEras([]byte(s)); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func TestEraOfVersion(t *testing.T) {
	for v, want := range map[string]EraID{
		"1.4.21": "1.4.21", "v1.4.21.1": "1.4.21", "node-1.4.21-linux-amd64": "1.4.21",
		"2.0.1": "2.0.1", "2.0.6": "2.0.6", "2.0.6.3": "2.0.6",
		"2.1.0": "2.1.0", "2.1.0.0": "2.1.0", "2.1.0.18": "2.1.0", "2.1.0.19": "2.1.0.19", "2.1.0.22": "2.1.0.19",
		"2.1.0.23": "2.1.0.23", "node-2.1.0.25-linux-amd64": "2.1.0.23",
	} {
		n, err := ParseVersion(v)
		if err != nil {
			t.Fatal(err)
		}
		e, err := EraOf(n)
		if err != nil || e.ID != want {
			t.Errorf("%s: era %q (%v), want %q", v, e.ID, err, want)
		}
	}
	for v, says := range map[string]string{
		"1.4.20": `the oldest that is described is "1.4.21"`, "2.0.3": `between "2.0.1" and "2.0.6"`, "1.5": `between "1.4.21" and "2.0.1"`,
	} {
		n, err := ParseVersion(v)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := EraOf(n); !errors.Is(err, ErrNoEra) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", v, err)
		}
	}
	for _, v := range []string{"", "2", "2.", "a.b", "2.1.0.23.1", "02.1", "2.-1", "2.1.0.99999999", strings.Repeat("1.", 1000)} {
		if _, err := ParseVersion(v); err == nil {
			t.Errorf("version %q was read", v)
		}
	}
	if _, err := EraByID("9.9"); !errors.Is(err, ErrNoEra) || !strings.Contains(err.Error(), "2.1.0.19") {
		t.Errorf("unknown era: %v", err)
	}
}

// The facts that clusters are built on, each by its value.
func TestRules(t *testing.T) {
	type row struct {
		era      EraID
		lists    string
		exposure Exposure
		auth     bool
		holes    Holes
		secrets  string
		keys     Need // of keys.yml on a machine with workers
		pause    int  // 0: not known
		sizes    bool
	}
	for _, w := range []row{
		{"1.4.21", "dataWorkerMultiaddrs:40000", FromControl, false, HolesFatal, "", NeedNever, 0, true},
		{"2.0.1", "dataWorkerMultiaddrs:40000", FromControl, false, HolesBorne, "p2p.peerPrivKey", NeedNever, 0, false},
		{"2.0.6", "dataWorkerMultiaddrs:40000", FromControl, false, HolesCostly, "p2p.peerPrivKey", NeedNever, 0, false},
		{"2.1.0", "dataWorkerP2PMultiaddrs:50000 dataWorkerStreamMultiaddrs:60000", FromAny, true, HolesBorne, "p2p.peerPrivKey key.keyManagerFile.encryptionKey", NeedYes, 360, false},
		{"2.1.0.19", "dataWorkerP2PMultiaddrs:25000 dataWorkerStreamMultiaddrs:32500", FromAny, true, HolesBorne, "p2p.peerPrivKey key.keyManagerFile.encryptionKey", NeedYes, 360, false},
		{"2.1.0.23", "dataWorkerP2PMultiaddrs:25000 dataWorkerStreamMultiaddrs:32500", FromAny, false, HolesBorne, "p2p.peerPrivKey key.keyManagerFile.encryptionKey", NeedYes, 360, false},
	} {
		e := era(t, w.era)
		got := row{era: w.era}
		var lists []string
		for _, l := range e.Address.Lists {
			if !l.Use.announces() {
				lists = append(lists, strings.TrimPrefix(l.Key, "engine.")+":"+ranges([]Port{l.Base}))
			}
		}
		got.lists = strings.Join(lists, " ")
		got.exposure, _ = e.Address.Exposure.Known()
		got.auth, _ = e.Address.Authenticated.Known()
		got.holes, _ = e.Address.Holes.Known()
		s, _ := e.Secrets.Worker.Known()
		got.secrets = strings.Join(s, " ")
		for _, f := range e.KeyFiles(RoleWorkers) {
			if f.Name == "keys.yml" {
				got.keys = f.Need
			}
		}
		got.pause, _ = e.Limits.PauseFrames.Known()
		_, got.sizes = e.Size(100)
		if got != w {
			t.Errorf("got  %+v\nwant %+v", got, w)
		}
		release := slices.ContainsFunc(e.KeyFiles(RoleWorkers), func(f KeyFile) bool { return f.Name == "RELEASE_VERSION" && f.Need == NeedYes })
		if old := !strings.HasPrefix(string(w.era), "2.1"); release != old {
			t.Errorf("era %s: RELEASE_VERSION needed: %v", w.era, release)
		}
	}
}

func TestSize(t *testing.T) {
	e := era(t, "1.4.21")
	for n, want := range map[int]string{1: "", 127: "", 128: "", 129: "warn", 575: "warn", 576: "", 1024: "", 1025: "warn", 1535: "warn", 1536: "", 2048: "", 2049: "refuse"} {
		a, ok := e.Size(n)
		got := ""
		if a.Text != "" {
			got = "warn"
		}
		if a.Beyond {
			got = "refuse"
		}
		if !ok || got != want {
			t.Errorf("%d workers: %q %+v, want %q", n, got, a, want)
		}
	}
	for _, e := range Eras()[1:] {
		if _, ok := e.Size(129); ok {
			t.Errorf("era %s has no rule for sizes", e.ID)
		}
	}
}
