package wire

import (
	"testing"
	"time"

	"app.provost/engine"
	"app.provost/engine/store"
	"app.provost/prover"
	"app.provost/prover/queue"
)

// An end that is on the board and not in the journal is told by the next engine;
// one that is there, or older than what is kept, is not told again.
func TestUnsaidEnds(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(store.Options{Dir: dir, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Now().UTC()
	if u, err := readUnsaid(s); err != nil || !u.since.IsZero() || len(u.said) != 0 {
		t.Fatalf("of an empty journal: %+v %v", u, err)
	}
	for _, id := range []string{"said", "other"} {
		if _, err := s.Append(engine.Entry{At: now, Level: engine.LevelNote, What: "job.verified", Key: engine.Key{ID: id}, Text: "verified"}); err != nil {
			t.Fatal(err)
		}
	}
	u, err := readUnsaid(s)
	if err != nil {
		t.Fatal(err)
	}
	ended := func(id string, st prover.JobState, at time.Time) queue.JobView {
		v := queue.JobView{}
		v.Job.ID, v.State, v.FinishedAt = prover.JobID(id), st, &at
		if st == prover.JobFailed {
			v.Failure = &prover.Failure{Text: "the witness is of another circuit"}
		}
		return v
	}
	jobs := []queue.JobView{
		ended("said", prover.JobVerified, now), ended("unsaid", prover.JobVerified, now), ended("failed", prover.JobFailed, now),
		ended("gone", prover.JobCancelled, now), {Ticket: prover.Ticket{Job: prover.Job{ID: "open"}, State: prover.JobQueued}},
	}
	got := u.events(jobs)
	if len(got) != 3 || got[0].Job != "unsaid" || got[0].Kind != queue.EventVerified || got[1].Text != "failed after 0 attempts: the witness is of another circuit" ||
		got[1].Level != queue.LevelCrit || got[2].Kind != queue.EventCancelled || !got[0].At.Equal(now) {
		t.Errorf("%+v", got)
	}
	u.since = now
	if got := u.events(jobs); len(got) != 0 {
		t.Errorf("of a journal that was cut: %+v", got)
	}
}
