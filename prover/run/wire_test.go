package run

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"app.provost/prover"
)

func samples(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/v1/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	out := map[string][]byte{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(p), ".json")] = bytes.TrimSpace(b)
	}
	return out
}

func frameOf(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// Every message ever sent under this version is read, and written as it was.
func TestSamples(t *testing.T) {
	for name, b := range samples(t) {
		m, err := readMessage(bytes.NewReader(frameOf(b)), maxGreeting)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out, err := encode(m)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(out, frameOf(b)) {
			t.Errorf("%s is written as\n%s, not\n%s", name, out[4:], b)
		}
	}
}

func TestUnknownMembersAreIgnored(t *testing.T) {
	m, err := decode([]byte(`{"type":"order","new":1,"order":{"kind":"ack","job":"j","attempt":1,"newer":{}}}`))
	if err != nil || m.Order.Job != "j" {
		t.Errorf("%v, %v: a newer engine could not speak to this worker", m, err)
	}
}

func TestBadFrames(t *testing.T) {
	for _, bad := range []string{
		``, `null`, `{}`, `[]`, `{"type":"ping"}`, `{"type":"pong","ping":{"seq":1}}`, `{"type":"ping","ping":{"seq":1},"pong":{"seq":1}}`,
		`{"type":"ping","ping":{"seq":-1}}`, `{"type":"ping","ping":{"seq":1}} {}`, `{"type":"what","what":{}}`,
		`{"type":"order","order":{"kind":"dance","job":"j","attempt":1}}`, `{"type":"order","order":{"kind":"prove","job":"j","attempt":1,"job_kind":"groth16-zkey"}}`,
		`{"type":"order","order":{"kind":"cancel","attempt":1}}`, `{"type":"order","order":{"kind":"ack","job":"j"}}`,
		`{"type":"order","order":{"kind":"prove","job":"j","attempt":1,"job_kind":"empty","limit_ms":-1}}`,
		`{"type":"report","report":{"kind":"hello"}}`, `{"type":"report","report":{"kind":"gone"}}`, `{"type":"report","report":{"kind":"result","job":"j","attempt":1}}`,
		`{"type":"report","report":{"kind":"result","job":"j","attempt":1,"verdict":"maybe"}}`,
		`{"type":"report","report":{"kind":"result","job":"j","attempt":1,"verdict":"valid","failure":{"code":"x","text":"","retry":false}}}`,
		`{"type":"report","report":{"kind":"beat","holding":{"job":"j","attempt":1,"progress":2}}}`, `{"type":"report","report":{"kind":"beat","holding":{"job":"","attempt":1,"progress":0}}}`,
		`{"type":"hello","hello":{"schema":"provost.worker/1","worker":"","token":"` + strings.Repeat("0", 64) + `","process":{"role":"prove","pid":1,"version":"","started_at":"2026-03-01T12:00:00Z"}}}`,
		`{"type":"hello","hello":{"schema":"provost.worker/1","worker":"w1","token":"00","process":{"role":"prove","pid":1,"version":"","started_at":"2026-03-01T12:00:00Z"}}}`,
		`{"type":"hello","hello":{"schema":"provost.worker/1","worker":"w1","token":"` + strings.Repeat("0", 64) + `","process":{"role":"rule","pid":1,"version":"","started_at":"2026-03-01T12:00:00Z"}}}`,
	} {
		if m, err := readMessage(bytes.NewReader(frameOf([]byte(bad))), maxGreeting); !errors.Is(err, errProtocol) {
			t.Errorf("%s was read as %+v, %v", bad, m, err)
		}
	}
	if _, err := readMessage(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, '{'}), maxFrame); !errors.Is(err, errProtocol) {
		t.Errorf("a frame of 4 GiB: %v", err)
	}
	if _, err := readMessage(bytes.NewReader([]byte{0, 0, 0, 9, '{'}), maxFrame); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a frame that ends early: %v", err)
	}
	if _, err := readMessage(bytes.NewReader(nil), maxFrame); err != io.EOF {
		t.Errorf("an end between frames: %v", err)
	}
	if _, err := encode(&message{Type: "ping"}); err == nil {
		t.Error("an empty message was written")
	}
	big := &prover.Report{Kind: prover.ReportResult, Job: "j", Attempt: 1, Proof: &prover.Proof{PublicJSON: make([]byte, maxFrame)}}
	if _, err := encode(&message{Type: "report", Report: big}); err == nil {
		t.Error("a frame that nobody would read was written")
	}
	big.Proof.PublicJSON = make([]byte, maxProof)
	if _, err := encode(&message{Type: "report", Report: big}); err != nil {
		t.Errorf("the largest proof does not fit: %v", err)
	}
}

func TestSchemas(t *testing.T) {
	for s, want := range map[string]bool{"provost.worker/1": true, "provost.worker/1.4": true, "provost.worker/2": false, "provost.worker/12": false, "provost.worker": false, "": false, "other/1": false} {
		if sameMajor(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

// What is read can be written, and is then read as the same.
func FuzzReadMessage(f *testing.F) {
	for _, b := range samples(f) {
		f.Add(frameOf(b))
	}
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMessage(bytes.NewReader(b), maxGreeting)
		if err != nil {
			return
		}
		out, err := encode(m)
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", m, err)
		}
		again, err := readMessage(bytes.NewReader(out), maxFrame)
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

func FuzzParseResult(f *testing.F) {
	b, err := os.ReadFile("testdata/result-v1.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":"provost.result/1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseResult(b); err == nil && (r.Kind != prover.ReportResult || r.Check() != nil) {
			t.Fatalf("read %+v", r)
		}
	})
}

func TestSavedResult(t *testing.T) {
	b, err := os.ReadFile("testdata/result-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := parseResult(bytes.TrimSpace(b))
	if err != nil || want.Proof.ProveTime.Seconds() != 1.5 {
		t.Fatalf("%+v, %v", want, err)
	}
	dir := t.TempDir()
	if r, err := ReadResult(dir); r != nil || err != nil {
		t.Errorf("%v, %v", r, err)
	}
	if err := saveResult(dir, want, prover.Job{}.SubmittedAt); err != nil {
		t.Fatal(err)
	}
	got, err := ReadResult(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if info, _ := os.Stat(filepath.Join(dir, resultFile)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	for range 2 {
		if err := dropResult(dir); err != nil {
			t.Errorf("dropping twice is no error, got %v", err)
		}
	}
	for _, bad := range []string{``, `{}`, `{"schema":"provost.result/2"}`, `{"schema":"provost.result/1","report":{"kind":"beat"}}`, `{"schema":"provost.result/1","report":{"kind":"result"}}`} {
		os.WriteFile(filepath.Join(dir, resultFile), []byte(bad), 0o600)
		if r, err := ReadResult(dir); err == nil {
			t.Errorf("%s was read as %+v", bad, r)
		}
	}
}

func TestToken(t *testing.T) {
	tok := NewToken()
	hexed, _ := shownToken{tok}.MarshalText()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		s := fmt.Sprintf(verb, tok) + fmt.Sprintf(verb, struct{ T Token }{tok}) + fmt.Sprintf(verb, shownToken{tok}) + fmt.Sprintf(verb, hello{Token: shownToken{tok}})
		if strings.Contains(s, string(hexed[:8])) || strings.Contains(s, fmt.Sprint(tok.b[:4])) {
			t.Errorf("%s shows it: %s", verb, s)
		}
	}
	if b, err := json.Marshal(struct{ T Token }{tok}); err == nil {
		t.Errorf("encoded: %s", b)
	}
	if !tok.Equal(tok) || tok.Equal(NewToken()) || (Token{}).Equal(Token{}) {
		t.Error("equality")
	}
	path := filepath.Join(t.TempDir(), "token")
	if err := tok.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadToken(path); err != nil || !got.Equal(tok) {
		t.Errorf("%v", err)
	}
	os.Chmod(path, 0o640)
	if _, err := ReadToken(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"", "00", string(hexed), string(hexed) + "\n\n", strings.Repeat("g", 64) + "\n"} {
		os.WriteFile(path, []byte(bad), 0o600)
		os.Chmod(path, 0o600)
		if _, err := ReadToken(path); err == nil {
			t.Errorf("%q was read", bad)
		} else if len(bad) > 60 && strings.Contains(err.Error(), bad[:20]) {
			t.Errorf("the error shows it: %v", err)
		}
	}
}
