package store

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"app.provost/engine/enginetest"
	"app.provost/prover"
	"app.provost/prover/provertest"
)

func TestBoard(t *testing.T) {
	provertest.BoardSuite(t, func(t *testing.T) provertest.Subject {
		dir := t.TempDir()
		s := openTest(t, Options{Dir: dir})
		return provertest.Subject{Board: s.Board(), Reopen: func(t *testing.T) provertest.Board {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openTest(t, Options{Dir: dir})
			return s.Board()
		}}
	})
}

// BenchmarkBoard takes jobs from submission to verification, with so many in one commit.
func BenchmarkBoard(b *testing.B) {
	for _, batch := range []int{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			board := openTest(b, Options{}).Board()
			at := time.Unix(1, 0)
			step := func(make func(id prover.JobID) prover.Change, from int) {
				var c []prover.Change
				for i := from; i < from+batch; i++ {
					c = append(c, make(prover.JobID(fmt.Sprintf("j%09d", i))))
				}
				out, err := board.Apply(b.Context(), c)
				if err != nil || out[0].Err != nil {
					b.Fatal(err, out)
				}
			}
			for i := 0; b.Loop(); i += batch {
				step(func(id prover.JobID) prover.Change {
					return prover.AddJob{Job: prover.Job{ID: id, Kind: prover.EmptyJob, MaxAttempts: 3}, At: at}
				}, i)
				step(func(id prover.JobID) prover.Change {
					return prover.LeaseJob{Job: id, Worker: "w1", At: at, Deadline: at.Add(time.Minute)}
				}, i)
				step(func(id prover.JobID) prover.Change {
					return prover.StoreProof{Job: id, At: at, Proof: prover.Proof{Worker: "w1", Attempt: 1, ProofJSON: make([]byte, 800), PublicJSON: make([]byte, 80)}}
				}, i)
				step(func(id prover.JobID) prover.Change { return prover.AcceptProof{Job: id, Attempt: 1, At: at} }, i)
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

func TestKeeper(t *testing.T) {
	enginetest.RunKeeper(t, func(t *testing.T) (enginetest.Keeper, enginetest.Documents) {
		s := openTest(t, Options{})
		return s, s.Shelf("alerts")
	})
}

func TestEndedJobsAreTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openTest(t, Options{EndedJobs: 3})
		defer s.Close()
		b := s.Board()
		apply := func(changes ...prover.Change) {
			t.Helper()
			out, err := b.Apply(t.Context(), changes)
			if err != nil {
				t.Fatal(err)
			}
			for i, o := range out {
				if o.Err != nil {
					t.Fatalf("change %d: %v", i, o.Err)
				}
			}
		}
		for i := range 8 {
			id := prover.JobID(fmt.Sprintf("j%d", i))
			apply(prover.AddJob{Job: prover.Job{ID: id, Kind: prover.EmptyJob, MaxAttempts: 1}, At: time.Now()})
			if i < 6 {
				apply(prover.CancelJob{Job: id, At: time.Now()})
			}
		}
		time.Sleep(time.Hour) // the next commit tidies
		apply(prover.CancelJob{Job: "j6", At: time.Now()})
		ended, err := b.Finished(t.Context(), 100)
		if err != nil || len(ended) > 4 { // j6 may have ended after the trim of the same commit
			t.Errorf("%d ended jobs are kept: %v", len(ended), err)
		}
		if _, err := b.Get(t.Context(), "j0"); !errors.Is(err, prover.ErrNoJob) {
			t.Errorf("the oldest ended job: %v", err)
		}
		if tk, err := b.Get(t.Context(), "j7"); err != nil || tk.State != prover.JobQueued {
			t.Errorf("an open job was trimmed: %v", err)
		}
		if sums, err := b.Totals(t.Context()); err != nil || sums.Submitted != 8 || sums.Cancelled != 7 {
			t.Errorf("totals %+v %v", sums, err)
		}
	})
}
