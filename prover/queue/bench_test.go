package queue

import (
	"context"
	"testing"
	"time"

	"app.provost/prover"
)

// BenchmarkEmptyJobs is what the queue itself costs for a job, from submission to verification: board in memory, workers
// and verifier that answer at once.
func BenchmarkEmptyJobs(b *testing.B) {
	hub := newFakeHub()
	q, err := New(Options{Board: NewMemBoard(), Hub: hub, Files: &noFiles{}, Logger: discard, MaxOpen: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	verified := make(chan struct{}, 1024)
	serve := func(c *fakeConn) {
		for {
			select {
			case <-ctx.Done():
				return
			case o := <-c.orders:
				switch o.Kind {
				case prover.OrderProve:
					c.prove(o, "{}")
				case prover.OrderVerify:
					c.judge(o, prover.VerdictValid)
				case prover.OrderAck:
					if c.peer.Worker == "verifier" {
						verified <- struct{}{}
					}
				}
			}
		}
	}
	for _, id := range []prover.WorkerID{"w1", "w2", "w3", "w4"} {
		go serve(hub.connect(id, prover.RoleProve, 1, time.Now(), nil))
	}
	go serve(hub.connect("verifier", prover.RoleVerify, 2, time.Now(), nil))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		var jobs []prover.Job
		for n := range b.N {
			jobs = append(jobs, prover.Job{ID: prover.JobIDFor("bench", n), Kind: prover.EmptyJob, MaxAttempts: 3})
			if len(jobs) == 1000 || n == b.N-1 {
				if _, err := q.Submit(ctx, jobs); err != nil {
					b.Error(err)
				}
				jobs = nil
			}
		}
	}()
	for range b.N {
		<-verified
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.StopTimer()
	cancel()
	<-done
}
