package store

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

// TestKilledWriterLosesNothing kills a writing process with SIGKILL, again and
// again on the same store, and looks for everything that was acknowledged.
func TestKilledWriterLosesNothing(t *testing.T) {
	if dir := os.Getenv("STORE_CRASH_DIR"); dir != "" {
		writeUntilKilled(dir)
		return
	}
	dir := t.TempDir()
	var entries []uint64
	var jobs []string
	for round := range 6 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledWriterLosesNothing$")
		cmd.Env = append(os.Environ(), "STORE_CRASH_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines, killAt := 0, 20+rand.IntN(200)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			word, value, _ := strings.Cut(sc.Text(), " ")
			switch word {
			case "entry":
				n, _ := strconv.ParseUint(value, 10, 64)
				entries = append(entries, n)
			case "job":
				jobs = append(jobs, value)
			default:
				t.Fatalf("the writer says %q", sc.Text())
			}
			// The pipe may hold more acknowledgements: they count too.
			if lines++; lines == killAt {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		cancel()
		if lines < killAt {
			t.Fatalf("round %d: the writer ended by itself after %d lines", round, lines)
		}

		s := openTest(t, Options{Dir: dir})
		kept, first, last, err := s.Entries(0, 1<<20)
		if err != nil || first != 1 || int(last) != len(kept) {
			t.Fatalf("round %d: %d entries, %d to %d: %v", round, len(kept), first, last, err)
		}
		for i, e := range kept {
			if e.N != uint64(i+1) {
				t.Fatalf("round %d: a gap at %d", round, e.N)
			}
		}
		for _, n := range entries {
			if n > last {
				t.Fatalf("round %d: entry %d was acknowledged and is lost; the last is %d", round, n, last)
			}
		}
		for _, id := range jobs {
			if _, err := s.Board().Get(t.Context(), prover.JobID(id)); err != nil {
				t.Fatalf("round %d: job %s was acknowledged: %v", round, id, err)
			}
		}
		if sums, err := s.Board().Totals(t.Context()); err != nil || int(sums.Submitted) < len(jobs) {
			t.Fatalf("round %d: totals %+v, %d jobs acknowledged: %v", round, sums, len(jobs), err)
		}
		s.Close()
	}
}

func writeUntilKilled(dir string) {
	s, err := Open(Options{Dir: dir})
	if err != nil {
		fmt.Println("open failed:", err)
		return
	}
	var out sync.Mutex
	say := func(f string, a ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf(f+"\n", a...)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 10_000 {
				if w%2 == 0 {
					e, err := s.Append(engine.Entry{What: "x", Text: strings.Repeat("y", i%500)})
					if err != nil {
						say("append failed: %v", err)
						return
					}
					say("entry %d", e[0].N)
					continue
				}
				id := prover.JobID(fmt.Sprintf("j%d-%d-%d", os.Getpid(), w, i))
				res, err := s.Board().Apply(context.Background(), []prover.Change{prover.AddJob{At: time.Now(),
					Job: prover.Job{ID: id, Kind: prover.EmptyJob, MaxAttempts: 1}}})
				if err != nil || res[0].Err != nil {
					say("submit failed: %v", err)
					return
				}
				say("job %s", id)
			}
		})
	}
	wg.Wait()
}
