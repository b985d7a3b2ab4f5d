package flow

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A sample of every version is kept; this program reads them all.
func TestSamplesAreRead(t *testing.T) {
	for _, f := range flows() {
		name := filepath.Join("testdata", "answers-v1-"+strings.ReplaceAll(string(f.ID), " ", "-")+".yaml")
		want := f.Complete(Facts{}, sample(f))
		if *update {
			var b bytes.Buffer
			if err := WriteAnswers(&b, f, AnswersFile{Answers: want}); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadAnswers(bytes.NewReader(raw), f)
		if err != nil || !reflect.DeepEqual(got.Answers, want) {
			t.Errorf("%s: %v\n got %v\nwant %v", name, err, got.Answers, want)
		}
		var b bytes.Buffer
		if err := WriteAnswers(&b, f, AnswersFile{Answers: got.Answers}); err != nil || b.String() != string(raw) {
			t.Errorf("%s is written differently now: %v\n%s", name, err, b.String())
		}
	}
}

func TestDraftKeepsItsPlace(t *testing.T) {
	f := CreateCluster()
	at := time.Date(2026, 11, 20, 11, 1, 40, 0, time.UTC)
	var b bytes.Buffer
	in := AnswersFile{Answers: Answers{"nodes": "4", "name": "x: y #\"'\\"}, Saved: at, Step: "validators"}
	if err := WriteAnswers(&b, f, in); err != nil {
		t.Fatal(err)
	}
	got, err := ReadAnswers(&b, f)
	if err != nil || !got.Saved.Equal(at) || got.Step != "validators" || !reflect.DeepEqual(got.Answers, in.Answers) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAnswersFileIsStrict(t *testing.T) {
	f := CreateCluster()
	for text, want := range map[string]string{
		"":                     "it is empty",
		"nodes: 4":             "doesn't say its version",
		"provost_answers: 2\n": "line 1: provost_answers: \"2\": this program reads version 1",
		"provost_answers: 1\nflow: create workers":       `line 2: it answers "create workers"`,
		"provost_answers: 1\nnodes: 4\nnode: 3":          `line 3: unknown key "node"; did you mean "nodes"?`,
		"provost_answers: 1\n\nwithdrawl-addresses: 3":   `line 3: unknown key "withdrawl-addresses"; did you mean "withdrawal-addresses"?`,
		"provost_answers: 1\nbogus: 3":                   `line 2: unknown key "bogus": keys are the flags of provost create cluster`,
		"provost_answers: 1\nnodes: 4\nnodes: 3":         "line 3: \"nodes\" stands in line 2 already",
		"provost_answers: 1\nnodes:":                     "line 2: nodes has no value",
		"provost_answers: 1\nnodes: [4, 5]":              "line 2: nodes takes one value",
		"provost_answers: 1\nnodes: {a: 4}":              "without nesting",
		"provost_answers: 1\nnodes: &a 4\nthreshold: *a": "line 3: threshold: want a value or a list, without nesting",
		"provost_answers: 1\ncompounding: yes":           "want true or false",
		"provost_answers: 1\ndeposit-amounts: [[1]]":     "list of plain values",
		"provost_answers: 1\ndeposit-amounts: ['1,31']":  "one value in each entry",
		"provost_answers: 1\n---\nnodes: 4":              "more follows",
		"- 1":                                            "want lines of key: value",
		"a: b: c":                                        "not YAML",
		"? [a]\n: 1":                                     "want a key before the colon",
	} {
		_, err := ReadAnswers(strings.NewReader(text), f)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	got, err := ReadAnswers(strings.NewReader("# mine\nprovost_answers: 1\nnodes: 0x04\nwithdrawal-addresses: [0x00, 0x01]\ndeposit-amounts: 1,31\nname: on\n"), f)
	want := Answers{"nodes": "0x04", "withdrawal-addresses": "0x00,0x01", "deposit-amounts": "1,31", "name": "on"}
	if err != nil || !reflect.DeepEqual(got.Answers, want) || got.Lines["name"] != 6 {
		t.Errorf("%v %v", got, err)
	}
	if _, err := ReadAnswers(strings.NewReader(strings.Repeat(" ", MaxAnswersFile+1)), f); err == nil {
		t.Error("a file of more than 8 MiB was read")
	}
}

func FuzzReadAnswers(f *testing.F) {
	f.Add([]byte("provost_answers: 1\nnodes: 4\nwithdrawal-addresses:\n  - 0x00\n  - 0x01\n"))
	f.Add([]byte("provost_answers: 1\nflow: create cluster\ndraft_saved: 2026-11-20T11:01:40Z\ndraft_step: nodes\n"))
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Add([]byte("provost_answers: 1\nname: |\n  x\n  y\n"))
	f.Add([]byte("provost_answers: 1\nmachine:\n  - name=m01,threads=4\n  - name=m02\nremove-machine: a,b\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, c := range flows() {
			got, err := ReadAnswers(bytes.NewReader(raw), c)
			if err != nil {
				continue
			}
			c.Faults(Facts{}, got.Answers)
			var b bytes.Buffer
			if err := WriteAnswers(&b, c, got); err != nil {
				t.Fatal(err)
			}
			again, err := ReadAnswers(&b, c)
			if err != nil {
				t.Fatalf("%q is not read back: %v", b.String(), err)
			}
			if !reflect.DeepEqual(c.Complete(Facts{}, again.Answers), c.Complete(Facts{}, got.Answers)) {
				t.Fatalf("%v is read back as %v", got.Answers, again.Answers)
			}
		}
	})
}
