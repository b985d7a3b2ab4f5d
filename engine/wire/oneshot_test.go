package wire

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"app.provost/engine"
	"app.provost/engine/act"
)

// keyManager takes every key share, and gives none back where keeps is set. Where it hangs,
// a request begins with a word to asked and ends with its caller.
func keyManager(t *testing.T, keeps bool, asked chan<- struct{}) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet:
			fmt.Fprint(w, `{"data":[]}`)
		case r.Method == http.MethodDelete && keeps:
			w.WriteHeader(http.StatusInternalServerError)
		case r.Method == http.MethodDelete:
			fmt.Fprint(w, `{"data":[{"status":"deleted"}]}`)
		case asked != nil:
			var b [1 << 10]byte
			for n := 1; n > 0; { // a caller that goes is seen once its body was read
				n, _ = r.Body.Read(b[:])
			}
			asked <- struct{}{}
			<-r.Context().Done()
		default:
			fmt.Fprint(w, `{"data":[{"status":"imported"}]}`)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Whoever ends a creation in the middle hears of key shares that stayed at a keymanager.
func TestEndedCreationTellsWhatStayed(t *testing.T) {
	o := oneShot(t, nil)
	asked := make(chan struct{}, 9)
	a := createAction(filepath.Join(t.TempDir(), "c"))
	a.KeymanagerAddresses = []string{keyManager(t, true, nil), keyManager(t, false, nil), keyManager(t, false, asked)}
	a.KeymanagerTokensFile = filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(a.KeymanagerTokensFile, []byte("one\ntwo\nthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := engine.Request{Key: engine.NewKey(), Action: a, Actor: engine.Actor{Via: engine.ViaCLI}}
	plan, err := o.Preview(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // ends when the last keymanager was asked
		<-asked
		cancel()
	}()
	_, err = o.Do(ctx, r, plan.Digest)
	var p *engine.Problem
	if !errors.As(err, &p) || p.Exit != engine.ExitPartly || !strings.Contains(p.Remedy, "delete them at node 0 ("+a.KeymanagerAddresses[0]) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(a.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v: want no cluster", err)
	}
}

// What was done before the caller could end it is told as done.
func TestDoneThoughEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o, err := newOneShot(map[engine.ActionKind]act.Verb{engine.KindCreateCluster: {
		Plan: func(context.Context, act.Ask) (engine.Plan, error) { return engine.Plan{Title: "x"}, nil },
		Run:  func(run context.Context, _ *act.Act) error { cancel(); <-run.Done(); return nil },
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := engine.Request{Key: engine.NewKey(), Action: createAction("/x"), Actor: engine.Actor{Via: engine.ViaCLI}}
	plan, err := o.Preview(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := o.Do(ctx, r, plan.Digest); err != nil || !rec.Done {
		t.Errorf("%+v, %v", rec, err)
	}
}

// Nodes go on when their engine is stopped, and whoever stops it hears of that.
func TestStopTellsOfNodes(t *testing.T) {
	s := &engine.Snapshot{Nodes: &engine.Section[engine.NodeRow]{Rows: []engine.NodeRow{{State: "running"}, {State: "running"}, {State: "read"}}}}
	for _, workers := range []bool{false, true} {
		p, err := planStop(t.Context(), act.Ask{Action: engine.StopEngine{Workers: workers}, Snapshot: s})
		if said := strings.Join(p.Warnings, ""); err != nil || strings.Contains(said, "2 nodes") == workers {
			t.Errorf("workers %v: %q, %v", workers, said, err)
		}
	}
}
