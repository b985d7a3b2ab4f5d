package wire

import (
	"fmt"
	"time"
)

// pace says how far long work is, how fast it goes and how long it will take. It has one caller at a
// time.
type pace struct {
	began time.Time
	what  string // the kind of step the rate is of
	first int    // done when that kind began
}

const (
	paceAfter = 2 * time.Second // before, a rate says little
	paceSteps = 3
)

func newPace() *pace { return &pace{began: time.Now()} }

// text is as in "37 of 402: encrypting key shares, 13/s, 28s left". Steps of different kinds go at
// different speeds, so the rate is that of the present kind.
func (p *pace) text(done, total int, what string) string {
	if what != p.what {
		p.what, p.first, p.began = what, done-1, time.Now()
	}
	s := fmt.Sprintf("%d of %d: %s", done, total, what)
	took, steps := time.Since(p.began), done-p.first
	if took < paceAfter || steps < paceSteps || done >= total {
		return s
	}
	rate := float64(steps) / took.Seconds()
	left := time.Duration(float64(total-done) / rate * float64(time.Second)).Round(time.Second)
	if rate >= 10 {
		return s + fmt.Sprintf(", %.0f/s, %s left", rate, left)
	}
	return s + fmt.Sprintf(", %.1f/s, %s left", rate, left)
}
