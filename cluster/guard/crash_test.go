//go:build linux

package guard

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"app.provost/cluster"
)

const crashKeys = 20

// recordUntilKilled is the child: it tells what was allowed after it was, and only then.
func recordUntilKilled(dir string) {
	g, err := Open(options(dir))
	if err != nil {
		fmt.Println("error", err)
		return
	}
	ctx := context.Background()
	m, _, err := g.Marks(ctx, key(0))
	if err != nil {
		fmt.Println("error", err)
		return
	}
	for e := m.Target + 1; ; e++ {
		var b Batch
		for k := range crashKeys {
			b.Attestations = append(b.Attestations, att(k, e-1, e, int(e)))
			b.Blocks = append(b.Blocks, block(k, cluster.Slot(e), int(e)))
		}
		out, err := g.CheckAndRecord(ctx, b)
		if err != nil {
			fmt.Println("error", err)
			return
		}
		for _, a := range append(out.Attestations, out.Blocks...) {
			// After a crash the last batch may be there although nobody was told.
			if a.Verdict != Allowed {
				fmt.Println("error", a)
				return
			}
		}
		fmt.Println("signed", e)
	}
}

// Nothing that was answered is forgotten when the process is killed at any moment.
func TestKilledWhileRecording(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for some seconds")
	}
	dir := t.TempDir()
	pubs := make([]int, crashKeys)
	for i := range pubs {
		pubs[i] = i
	}
	openTest(t, options(dir), pubs...).Close()
	for range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "GUARD_TEST_RECORD="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var last cluster.Epoch
		var trouble string
		lines, kill := bufio.NewScanner(out), 20+rand.IntN(60)
		for n := 0; lines.Scan(); n++ {
			if _, err := fmt.Sscanf(lines.Text(), "signed %d", &last); err != nil {
				trouble = lines.Text()
			}
			if n == kill {
				time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, func() { cmd.Process.Kill() })
			}
		}
		cmd.Wait() // killed, that is the point
		if trouble != "" {
			t.Fatal(trouble)
		}
		if last == 0 {
			t.Fatal("the child signed nothing")
		}
		g := openTest(t, options(dir))
		for k := range crashKeys {
			if a := record1(t, g, att(k, last-1, last, int(last))); a.Verdict != Repeat {
				t.Fatalf("a vote was forgotten: %+v", a)
			}
			if a := record1(t, g, att(k, last-1, last, int(last)+1)); a.OK() {
				t.Fatal("a double vote is possible")
			}
			if a := propose1(t, g, block(k, cluster.Slot(last), int(last)+1)); a.OK() {
				t.Fatal("a double proposal is possible")
			}
		}
		g.Close()
	}
}

// TestRealFullDisk fills a filesystem of its own.
func TestRealFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k,mode=0700"); err != nil {
		t.Skipf("a small filesystem cannot be mounted here (needs root): %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	hog := filepath.Join(dir, "hog")
	if err := os.WriteFile(hog, make([]byte, 250<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(options(dir))
	wantCode(t, err, CodeNoSpace)
	for _, name := range []string{FileName, FileName + ".new"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s was left behind", name)
		}
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	g := openTest(t, options(dir), 1)
	var last cluster.Epoch
	for e := cluster.Epoch(1); ; e++ {
		b := Batch{Attestations: []Attestation{att(1, 0, e, 1)}}
		out, err := g.CheckAndRecord(t.Context(), b)
		if err != nil {
			wantCode(t, err, CodeNoSpace)
			if out.Attestations[0].OK() {
				t.Fatal("allowed although nothing was written")
			}
			break
		}
		last = e
		if e%20 == 0 { // fill what is left from the other side
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("fill", e)), make([]byte, 8<<10), 0o600); err != nil {
				t.Log(err)
			}
		}
		if e > 1e5 {
			t.Fatal("the disk never fills")
		}
	}
	// Room again: it goes on, and has forgotten nothing.
	fills, _ := filepath.Glob(filepath.Join(dir, "fill*"))
	for _, f := range fills {
		os.Remove(f)
	}
	if a := record1(t, g, att(1, 0, last, 2)); a.Reason != ReasonDoubleVote {
		t.Errorf("%+v", a)
	}
	if a := record1(t, g, att(1, 0, last+1, 1)); a.Verdict != Allowed {
		t.Errorf("%+v", a)
	}
	g.Close()
	g = openTest(t, options(dir))
	if a := record1(t, g, att(1, 0, last+1, 1)); a.Verdict != Repeat {
		t.Errorf("%+v", a)
	}
}
