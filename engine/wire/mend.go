package wire

import (
	"fmt"
	"time"

	"app.provost/engine/store"
	"app.provost/prover"
	"app.provost/prover/queue"
)

// mendWithin is how many entries at the journal's end are looked at: far more than
// an engine can have left unwritten.
const mendWithin = 2000

// unsaid finds the ends of jobs that an engine recorded on the board and was killed
// before it wrote them into the journal: the two are not one transaction. The next
// engine writes them, so that the journal names each end once.
type unsaid struct {
	since time.Time // only ends after this moment must be among the entries
	said  map[string]bool
}

// readUnsaid looks at the journal before anything of this engine is in it.
func readUnsaid(s *store.Store) (*unsaid, error) {
	u := &unsaid{said: map[string]bool{}}
	_, first, last, err := s.Entries(0, 1)
	if err != nil {
		return nil, err
	}
	after := first - 1
	if last-after > mendWithin {
		after = last - mendWithin
	}
	entries, _, _, err := s.Entries(after, mendWithin)
	if err != nil {
		return nil, err
	}
	if first > 1 || after >= first {
		u.since = time.Now() // an empty end of a journal that was cut: nothing can be told
		if len(entries) > 0 {
			u.since = entries[0].At
		}
	}
	for _, e := range entries {
		u.said[e.What+"/"+e.Key.ID] = true
	}
	return u, nil
}

// events gives what is missing of the jobs that have ended.
func (u *unsaid) events(jobs []queue.JobView) []queue.Event {
	var out []queue.Event
	for _, j := range jobs {
		ev := queue.Event{Job: j.Job.ID, Worker: j.Worker, Level: queue.LevelNote}
		switch j.State {
		case prover.JobVerified:
			ev.Kind, ev.Text = queue.EventVerified, "verified"
			if j.Proof != nil {
				ev.Worker, ev.Text = j.Proof.Worker, fmt.Sprintf("verified, proved in %s", j.Proof.ProveTime.Round(time.Millisecond))
			}
		case prover.JobFailed:
			ev.Kind, ev.Level, ev.Text = queue.EventFailed, queue.LevelCrit, fmt.Sprintf("failed after %d attempts", j.Attempts)
		case prover.JobCancelled:
			ev.Kind, ev.Text = queue.EventCancelled, "cancelled"
		default:
			continue
		}
		if j.FinishedAt == nil || !j.FinishedAt.After(u.since) || u.said[string(ev.Kind)+"/"+string(j.Job.ID)] {
			continue
		}
		if j.Failure != nil {
			ev.Text += ": " + j.Failure.Text
		}
		ev.At = *j.FinishedAt
		out = append(out, ev)
	}
	return out
}
