package fit

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Dial tries one TCP connection and tells how long the answer took. open: something listens there;
// otherwise a refusal is an answer too. An error means that nothing was heard. It ends with ctx.
type Dial func(ctx context.Context, address string) (took time.Duration, open bool, err error)

// probesAtOnce bounds how many connections are tried at a time.
const probesAtOnce = 64

// Probe asks each machine of a plan once, at the port of its first worker, and says in words who is slow
// and where something listens already (fresh: nothing of this plan runs yet). It takes no longer than
// bound; who has not answered by then is told of as not reached. It asks nobody when the profile has no
// workers on other machines.
func Probe(ctx context.Context, l *Layout, fresh bool, bound time.Duration, dial Dial) []string {
	if dial == nil || !l.Profile.Remote {
		return nil
	}
	var rule *PortRule
	for i := range l.Profile.Ports {
		if r := &l.Profile.Ports[i]; r.Proto == "tcp" && rule == nil {
			rule = r
		}
	}
	if rule == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	type answer struct {
		asked, open bool
		took        time.Duration
		err         error
	}
	answers := make([]answer, len(l.Rows)) // each is written by one goroutine and read after all have ended
	turn := make(chan struct{}, probesAtOnce)
	var all sync.WaitGroup
	for i, r := range l.Rows {
		if len(r.Runs) == 0 || r.Machine.Local {
			continue
		}
		at := net.JoinHostPort(r.Machine.Address, strconv.Itoa(rule.At(r.Runs[0].Offset)))
		a := &answers[i]
		a.asked = true
		all.Go(func() {
			select {
			case turn <- struct{}{}:
				defer func() { <-turn }()
				a.took, a.open, a.err = dial(ctx, at)
			case <-ctx.Done():
				a.err = ctx.Err()
			}
		})
	}
	all.Wait()
	var slow, taken, silent []string
	for i, r := range l.Rows {
		a := answers[i]
		ms := float64(a.took.Microseconds()) / 1000
		switch {
		case !a.asked:
			continue
		case a.err != nil:
			silent = append(silent, r.Machine.Name)
			continue
		case l.Profile.SlowMS > 0 && ms > l.Profile.SlowMS:
			slow = append(slow, fmt.Sprintf("%s (%.0f ms)", r.Machine.Name, ms))
		}
		if a.open && fresh {
			taken = append(taken, fmt.Sprintf("%s:%d", r.Machine.Name, rule.At(r.Runs[0].Offset)))
		}
	}
	var words []string
	tell := func(list []string, before, after string) {
		if n := len(list); n > 6 {
			list = append(list[:6:6], fmt.Sprintf("%d more", n-6))
		}
		if len(list) > 0 {
			words = append(words, before+strings.Join(list, ", ")+after)
		}
	}
	tell(slow, "slow link from here to ", fmt.Sprintf(": more than %.0f ms there and back is felt in every round", l.Profile.SlowMS))
	tell(taken, "something listens already at ", ": the first worker of that machine could not")
	tell(silent, "not reached from here, so neither link nor port was looked at: ", "")
	return words
}
