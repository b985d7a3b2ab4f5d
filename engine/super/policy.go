package super

import (
	"fmt"
	"time"

	"app.provost/engine"
)

// Policy says when a process that died is started again. The zero value means
// DefaultPolicy; single zero fields mean its value.
type Policy struct {
	// First is the wait after the first death; each further death doubles it, up to Max.
	First time.Duration
	Max   time.Duration
	// Stable is how long a process must run for the wait to begin at First again.
	Stable time.Duration
	// Deaths within Window make the policy give up. Negative: it never does.
	Deaths int
	Window time.Duration
}

// DefaultPolicy waits 1 s, 2 s, 4 s … up to a minute, begins anew after five
// minutes without a death, and gives up at the eighth death within ten minutes.
var DefaultPolicy = Policy{First: time.Second, Max: time.Minute, Stable: 5 * time.Minute, Deaths: 8, Window: 10 * time.Minute}

func (p Policy) filled() Policy {
	d := DefaultPolicy
	if p.First <= 0 {
		p.First = d.First
	}
	if p.Max <= 0 {
		p.Max = max(d.Max, p.First)
	}
	if p.Stable <= 0 {
		p.Stable = d.Stable
	}
	if p.Deaths == 0 {
		p.Deaths = d.Deaths
	}
	if p.Window <= 0 {
		p.Window = d.Window
	}
	return p
}

// History is what the policy remembers of a process. It is saved with the
// handle, so that a restarted engine does not forget a process that keeps dying.
type History struct {
	// Deaths are the times of the newest deaths, oldest first, at most as many as matter.
	Deaths []time.Time `json:"deaths"`
	// Streak counts deaths without a stable run in between.
	Streak int `json:"streak"`
}

// Ending is how a run ended, as far as the policy cares.
type Ending struct {
	At time.Time
	// Ran is how long the process had been running.
	Ran time.Duration
	// Asked: the supervisor had asked for the end, so it is no death.
	Asked bool
}

// Verdict is what the policy says after an ending.
type Verdict struct {
	Do Next
	// At is when to start, for NextStart.
	At time.Time
	// Why says in words why it was given up.
	Why string
}

// Next is what to do after an ending.
type Next string

const (
	NextStart  Next = "start"   // at Verdict.At
	NextStay   Next = "stay"    // no process is wished for
	NextGiveUp Next = "give-up" // it keeps dying: start only on request
)

// After decides what follows an ending under a wish, and gives the history to
// remember. It is pure: no clock, no files.
func (p Policy) After(h History, e Ending, wish engine.WorkerWish) (Verdict, History) {
	p = p.filled()
	if e.Asked {
		// What ended on request starts anew with a clean sheet.
		if wish == engine.WishRun {
			return Verdict{Do: NextStart, At: e.At}, History{}
		}
		return Verdict{Do: NextStay}, History{}
	}
	out := History{Streak: h.Streak + 1}
	if e.Ran >= p.Stable {
		out.Streak = 1
	}
	for _, t := range h.Deaths {
		if e.At.Sub(t) < p.Window {
			out.Deaths = append(out.Deaths, t)
		}
	}
	out.Deaths = append(out.Deaths, e.At)
	if most := max(p.Deaths, 1); len(out.Deaths) > most {
		out.Deaths = out.Deaths[len(out.Deaths)-most:]
	}
	if wish != engine.WishRun {
		return Verdict{Do: NextStay}, out
	}
	if p.Deaths > 0 && len(out.Deaths) >= p.Deaths {
		return Verdict{Do: NextGiveUp, Why: fmt.Sprintf("died %d times within %s", len(out.Deaths), engine.Duration(p.Window))}, out
	}
	return Verdict{Do: NextStart, At: e.At.Add(p.wait(out.Streak))}, out
}

// wait is First doubled streak-1 times, at most Max.
func (p Policy) wait(streak int) time.Duration {
	d := p.First
	for i := 1; i < streak && d < p.Max; i++ {
		d *= 2
	}
	return min(d, p.Max)
}
