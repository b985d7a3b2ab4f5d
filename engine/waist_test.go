package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestActionsTravel(t *testing.T) {
	for _, a := range []Action{
		PauseWorkers{Workers: "w1,w2", For: Duration(45 * time.Minute), Reason: "disk swap", Stop: true},
		SubmitJob{Zkey: "/k.zkey", Witnesses: []string{"/a.wtns", "/b.wtns"}, Name: "x"},
		CreateCluster{Name: "c", Dir: "/d", Nodes: 4, NumValidators: 1, Network: "hoodi", WithdrawalAddresses: []string{"0x0"}},
		LockScreens{}, StopEngine{Workers: true}, AckAlerts{IDs: []string{"a"}}, CancelAct{ID: "a1"},
	} {
		b, err := MarshalAction(a)
		if err != nil {
			t.Fatal(err)
		}
		got, err := UnmarshalAction(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, a) {
			t.Errorf("got %#v, want %#v", got, a)
		}
	}
	for kind, zero := range actions {
		if zero.Kind() != kind {
			t.Errorf("%T says it is %q, the table says %q", zero, zero.Kind(), kind)
		}
	}
	for _, bad := range []string{``, `{}`, `{"kind":"no"}`, `{"kind":"lock_screens","args":{"x":1}}`, `{"kind":"lock_screens","args":{}} {}`, `{"kind":"pause_workers","args":{"for":"soon"}}`} {
		if _, err := UnmarshalAction([]byte(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestPlanDigest(t *testing.T) {
	a := PauseWorkers{Workers: "w1", For: Duration(time.Minute), Reason: "r"}
	p, err := Plan{Title: "t", Targets: []string{"worker/w1"}, Effects: []Effect{{What: "rate", Now: "1"}}, MadeAt: time.Unix(1, 0)}.Seal(a)
	if err != nil {
		t.Fatal(err)
	}
	same, _ := Plan{Title: "t", Targets: []string{"worker/w1"}, Effects: []Effect{{What: "rate", Now: "9"}}, MadeAt: time.Unix(99, 0)}.Seal(a)
	other, _ := Plan{Title: "t", Targets: []string{"worker/w1", "worker/w2"}}.Seal(a)
	if p.Digest != same.Digest || p.Digest == other.Digest {
		t.Errorf("digests %s %s %s: readings must not move it, targets must", p.Digest, same.Digest, other.Digest)
	}
	if !p.Digest.Fits(p.Digest[:6]) || p.Digest.Fits(p.Digest[:5]) || p.Digest.Fits("") || p.Digest.Fits(p.Digest+"0") {
		t.Error("Fits takes the digest or its first six characters and more, nothing else")
	}
}

func TestSecretDoesNotLeak(t *testing.T) {
	s := NewSecret("canary-7f3a")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, struct{ S Secret }{s}) + fmt.Sprintf(verb, s); strings.Contains(got, "canary") || strings.Contains(got, "63616e617279") {
			t.Errorf("%s leaks: %s", verb, got)
		}
	}
	if b, err := json.Marshal(map[string]any{"s": s}); err == nil {
		t.Errorf("a secret was encoded: %s", b)
	}
}

func TestProblemIsOneLine(t *testing.T) {
	cause := errors.New("below")
	p := Problem{Code: CodeUsage, Exit: ExitUsage, Doing: "pause worker", Cause: "no worker matches w9", Remedy: "see provost get workers"}.Because(cause)
	if got, want := p.Error(), "pause worker: no worker matches w9; see provost get workers"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if ExitOf(fmt.Errorf("x: %w", p)) != ExitUsage || !errors.Is(p, cause) || ExitOf(cause) != ExitUnexpected || ExitOf(nil) != ExitOK {
		t.Error("exit code or wrapped error lost")
	}
}

func TestShellLine(t *testing.T) {
	got := ShellLine([]string{"pause", "worker", "state=run and core>2", "--reason=it's hot", "--for=45m", ""})
	if want := `pause worker 'state=run and core>2' --reason='it'\''s hot' --for=45m ''`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFreshness(t *testing.T) {
	now := time.Unix(1000, 0)
	for age, want := range map[time.Duration]Freshness{0: Fresh, 2 * time.Second: Fresh, 3 * time.Second: Aging, 6 * time.Second: Old, 21 * time.Second: Lost, -time.Minute: Aging} {
		at := now.Add(-age)
		if got := FreshnessOf(now, &at, time.Second); got != want {
			t.Errorf("age %s: %d, want %d", age, got, want)
		}
	}
	if FreshnessOf(now, nil, time.Second) != NeverRead {
		t.Error("never read is unknown")
	}
}

func TestCodesAreListedOnce(t *testing.T) {
	seen := map[Code]bool{}
	for _, c := range Codes {
		if seen[c] || !strings.Contains(string(c), ".") {
			t.Errorf("code %q is listed twice or has no area", c)
		}
		seen[c] = true
	}
}

func TestDurationText(t *testing.T) {
	for d, want := range map[time.Duration]string{45 * time.Minute: "45m", 90 * time.Minute: "1h30m", time.Hour: "1h", 5 * time.Second: "5s", time.Minute + time.Second: "1m1s", 0: "0s"} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
