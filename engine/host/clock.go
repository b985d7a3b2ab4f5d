package host

import (
	"context"
	"fmt"
	"time"

	"app.provost/engine"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"
)

// clock gives the kernel's word, and with a configured server the offset from it.
// When the server does not answer, the kernel's word stays and the problem says so.
func (r *reader) clock(ctx context.Context) (*engine.ClockStat, error) {
	out := engine.ClockStat{Source: "kernel (adjtimex)"}
	synced, bound, kernelErr := r.h.calls.adjtimex()
	if kernelErr == nil {
		out.Synced = &synced
		if synced { // without a source the kernel's bound only says that it has none
			ms := bound.Seconds() * 1000
			out.ErrorMS = &ms
		}
	}
	server := r.h.o.NTPServer
	if server == "" {
		if kernelErr != nil {
			return nil, kernelErr
		}
		return &out, nil
	}
	offset, bound, err := r.h.calls.ntp(ctx, server)
	if err != nil {
		err = fmt.Errorf("ask time server %s: %w", server, err)
		if kernelErr != nil {
			return nil, oneLine([]error{err, kernelErr})
		}
		return &out, err
	}
	// The answer says what to add to our clock; we say how far ours is ahead.
	ahead, within := -offset.Seconds()*1000, bound.Seconds()*1000
	out.Source, out.OffsetMS, out.ErrorMS = "ntp "+server, &ahead, &within
	return &out, nil
}

// adjtimex asks the kernel whether something disciplines the clock, and how far
// off it can be at most.
func adjtimex() (bool, time.Duration, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, 0, fmt.Errorf("ask the kernel about its clock (adjtimex): %w", err)
	}
	synced := state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
	return synced, time.Duration(t.Maxerror) * time.Microsecond, nil
}

func askNTP(ctx context.Context, server string) (time.Duration, time.Duration, error) {
	timeout := 2 * time.Second
	if at, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(at))
	}
	if timeout <= 0 {
		return 0, 0, context.DeadlineExceeded
	}
	resp, err := ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: timeout})
	if err != nil {
		return 0, 0, err
	}
	if err := resp.Validate(); err != nil {
		return 0, 0, fmt.Errorf("its answer is not usable: %w", err)
	}
	return resp.ClockOffset, resp.RootDistance, nil
}
