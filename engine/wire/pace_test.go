package wire

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		for i, want := range []string{"1 of 6: opening", "2 of 6: opening", "3 of 6: opening, 1.5/s, 2s left"} {
			if i > 0 {
				time.Sleep(time.Second)
			}
			if got := p.text(i+1, 6, "opening"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		// Another kind of work goes at another speed.
		p.text(4, 406, "encrypting")
		time.Sleep(3 * time.Second)
		if got := p.text(63, 406, "encrypting"); got != "63 of 406: encrypting, 20/s, 17s left" {
			t.Errorf("got %q", got)
		}
		time.Sleep(time.Second)
		if got := p.text(406, 406, "in place"); got != "406 of 406: in place" {
			t.Errorf("got %q", got)
		}
	})
}
