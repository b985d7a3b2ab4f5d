package dv

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/nodedir"
	"app.provost/cluster/guard"
	"app.provost/cluster/internal/beacon"
	"app.provost/cluster/internal/fence"
)

func TestMovedNodesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		note *fence.Note
		text string
		code Code
		says string
	}{
		"exported":      {note: &fence.Note{Kind: fence.Moved, Archive: "/media/node0.age", Finished: true}, code: CodeMoved, says: "import /media/node0.age into a new directory"},
		"export ended":  {note: &fence.Note{Kind: fence.Moved, Archive: "/media/node0.age"}, code: CodeMoved, says: "export it again"},
		"note damaged":  {text: "{", code: CodeState, says: "don't remove it"},
		"note is newer": {text: `{"schema":"provost.fence/2","kind":"none"}`, code: CodeState, says: "don't remove it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.note != nil {
				if err := fence.Write(dir, *c.note); err != nil {
					t.Fatal(err)
				}
			} else {
				os.MkdirAll(filepath.Dir(fence.Path(dir)), 0o700)
				if err := os.WriteFile(fence.Path(dir), []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Open(t.Context(), dir, Options{BeaconNodes: []string{"http://127.0.0.1:1"}})
			var e *Error
			if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Remedy, c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

// A restored copy signs nothing that was or could have been signed since, also where it had no
// slashing protection yet and is said to have unused keys.
func TestRestoredCopyIsFencedFirst(t *testing.T) {
	for _, ran := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			key := cluster.PubKey{0x80, 1}
			chain := beacon.Chain{Clock: cluster.SlotClock{Genesis: time.Now(), SlotDuration: 12 * time.Second, SlotsPerEpoch: 32}}
			dir := &nodedir.Directory{Path: t.TempDir(), Lock: &cluster.Lock{Validators: []cluster.Validator{{PubKey: key}}}}
			n := newNode(dir, Options{KeysNeverSigned: true, Logger: slog.New(slog.DiscardHandler)})
			var st *nodeState
			if ran {
				g, err := n.protect(t.Context(), chain, nil)
				if err != nil {
					t.Fatal(err)
				}
				g.Close()
				if st, err = readState(filepath.Join(dir.Path, stateDir), dir); err != nil || st == nil {
					t.Fatal(err)
				}
			}
			if err := fence.Write(dir.Path, fence.Note{Kind: fence.Restored}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Until(chain.Clock.Start(20*32 + 5)))
			note, err := fenced(dir.Path)
			if err != nil || note == nil {
				t.Fatal(note, err)
			}
			g, err := n.protect(t.Context(), chain, st)
			if err == nil {
				err = n.waitOut(t.Context(), g, note)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := g.Marks(t.Context(), key)
			if want := (guard.Marks{HasAttestation: true, Source: 20, Target: 21, HasBlock: true, Slot: 22*32 - 1}); err != nil || got != want {
				t.Errorf("ran %v: %+v, %v", ran, got, err)
			}
			g.Close()
			if note, err := fence.Read(dir.Path); note != nil || err != nil {
				t.Errorf("the note is still there: %+v, %v", note, err)
			}
		})
	}
}
