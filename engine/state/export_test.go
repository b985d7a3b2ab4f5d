package state

import (
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/prover"
)

type noJournal struct{}

func (noJournal) Append(e ...engine.Entry) ([]engine.Entry, error) { return e, nil }
func (noJournal) Entries(uint64, int) ([]engine.Entry, uint64, uint64, error) {
	return nil, 1, 0, nil
}

// BenchPublish measures one fold of "moved" changed rows and one publication of n worker rows.
func BenchPublish(b *testing.B, n, moved int) {
	m, err := newModel(Options{Info: engine.Info{ID: "e"}, Journal: noJournal{}, Parts: []engine.SectionName{engine.SecWorkers}})
	if err != nil {
		b.Fatal(err)
	}
	facts := make([][]Fact, 2)
	for turn := range facts {
		for i := range n {
			c := prover.Core(i + 1)
			progress, rss, at, job := float64(turn), uint64(1<<28), time.Now(), prover.JobID("j")
			facts[turn] = append(facts[turn], PutWorker{engine.WorkerRow{Key: engine.Key{Machine: "m1", ID: string(prover.WorkerFor(c))}, ID: prover.WorkerFor(c), Core: c,
				State: engine.WorkerRun, Since: at, Job: &job, Progress: &progress, RSSBytes: &rss, HeardAt: &at}})
		}
	}
	now := time.Now()
	for _, f := range facts[1] {
		f.fold(m, now)
	}
	m.publish(now)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for _, f := range facts[i%2][:moved] {
			f.fold(m, now)
		}
		if s := m.publish(now); len(s.Workers.Rows) != n {
			b.Fatal("rows are missing")
		}
	}
}
