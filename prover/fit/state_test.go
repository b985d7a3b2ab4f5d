package fit

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestStateSamples: a plan of every version that was ever written is read, and gone on from.
func TestStateSamples(t *testing.T) {
	raw, err := os.ReadFile("testdata/plan-v1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadState(raw)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Marshal()
	if err != nil || string(again) != string(raw) {
		t.Errorf("%v: written anew it is\n%s", err, again)
	}
	l := must(t, &s, Params{Name: s.Name, Profile: remote(HolesBorne), Machines: append(s.Machines, Machine{Name: "m04", Address: "192.168.0.204", Threads: 8, RAM: 64 * GiB}), KeepFree: s.KeepFree})
	owners(t, &l)
	if l.Revision != 5 || l.Row("m01").Numbers() != "1-6" || l.Row("m03").Numbers() != "15-17,20" || l.Row("m04").Numbers() != "21-28" || !reflect.DeepEqual(l.Parked, s.Parked) {
		t.Errorf("revision %d: %s\nparked %v", l.Revision, Table(&l), l.Parked)
	}
	if got := l.Spans(l.Row("m03")); len(got) != 2 || got[0].String() != "40000-40002" || got[1].String() != "40005" {
		t.Errorf("m03 listens on %v", got)
	}
}

func TestStateRefuses(t *testing.T) {
	raw, err := os.ReadFile("testdata/plan-v1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	for name, c := range map[string][3]string{
		"newer":          {"workers-plan/1", "workers-plan/2", "newer version"},
		"other":          {"provost.workers-plan/1", "provost.inventory/1", "want"},
		"unknown key":    {"keep_free:", "keep_fre:", "keep_fre"},
		"number twice":   {"first: 15", "first: 5", "given twice"},
		"parked twice":   {"first: 18", "first: 16", "given twice"},
		"port twice":     {"offset: 5", "offset: 2", "port of m03 is given twice"},
		"no machine":     {"- machine: m01", "- machine: m09", "impossible run"},
		"gap":            {"first: 20", "first: 25", "5 numbers of 1 to 25 belong to nobody"},
		"too many":       {"count: 6", "count: 600000", "impossible run"},
		"from nothing":   {"first: 1\n", "first: 0\n", "impossible run"},
		"control":        {"control: m01", "control: m09", "none of its machines"},
		"revision":       {"revision: 4", "revision: 0", "revision 0"},
		"path":           {"README.txt:", "../README.txt:", "impossible file"},
		"alias":          {"name: farm", "name: &a farm", "aliases"},
		"machine broken": {"address: 192.168.0.201", "address: 192.168.0.999", "looks like an IP address"},
		"negative":       {"cores: 4", "cores: -4", "impossible numbers"},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, c[0]) {
				t.Fatal("the sample has no", c[0])
			}
			_, err := ReadState([]byte(strings.Replace(good, c[0], c[1], 1)))
			if err == nil || !strings.Contains(err.Error(), c[2]) {
				t.Errorf("got %v", err)
			}
			if name == "newer" && !errors.Is(err, ErrNewer) {
				t.Error("not told as newer")
			}
		})
	}
}
