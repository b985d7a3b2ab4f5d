package dv

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/dv/internal/partial"
	"app.provost/cluster/dv/internal/sched"
	"app.provost/cluster/dv/internal/sign"
	"app.provost/cluster/guard"
	"app.provost/cluster/internal/beacon"
)

// stages are the ways between the rooms of a node. Each is a function, so that watching and
// retrying wrap it without either end knowing.
type stages struct {
	fetch       func(ctx context.Context, due sched.Due) (cluster.UnsignedDataSet, error)
	participate func(ctx context.Context, duty cluster.Duty) error
	propose     func(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) error
	settle      func(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) error
	sign        func(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) (cluster.ParSignedDataSet, error)
	exchange    func(ctx context.Context, duty cluster.Duty, set cluster.ParSignedDataSet) error
	verify      func(ctx context.Context, duty cluster.Duty, set cluster.ParSignedDataSet) error
	gather      func(ctx context.Context, duty cluster.Duty, set cluster.ParSignedDataSet) (partial.Ready, error)
	combine     func(ctx context.Context, duty cluster.Duty, ready partial.Ready) (cluster.SignedDataSet, error)
	complete    func(ctx context.Context, duty cluster.Duty, set cluster.SignedDataSet) error
	send        func(ctx context.Context, duty cluster.Duty, set cluster.SignedDataSet) ([]cluster.PubKey, error)
}

// Stage names a way between rooms.
type Stage string

// The stages, in the order of a duty's way.
const (
	StageFetch       Stage = "fetch"
	StageParticipate Stage = "participate"
	StagePropose     Stage = "propose"
	StageSettle      Stage = "settle"
	StageSign        Stage = "sign"
	StageExchange    Stage = "exchange"
	StageVerify      Stage = "verify"
	StageGather      Stage = "gather"
	StageCombine     Stage = "combine"
	StageComplete    Stage = "complete"
	StageSend        Stage = "send"
)

// Step is one passage through a stage.
type Step struct {
	Duty  cluster.Duty
	Stage Stage
	Took  time.Duration
	At    time.Time // when it ended
	Err   error     // nil: it succeeded
}

// Refused tells whether an error of StageSign is slashing protection's: it refused a message, or
// could not write down what was to be signed. The error says why. That a node waits until it is known
// what was signed before it came is no refusal.
func Refused(err error) bool {
	var g *guard.Error
	if errors.As(err, &g) {
		return true
	}
	for _, e := range unjoin(err) {
		var wait *sign.WaitError
		if errors.Is(e, sign.ErrRefused) && !errors.As(e, &wait) {
			return true
		}
	}
	return false
}

// watch tells every passage to fn.
func (s stages) watch(fn func(Step)) stages {
	tell := func(duty cluster.Duty, stage Stage, began time.Time, err error) {
		now := time.Now()
		fn(Step{duty, stage, now.Sub(began), now, err})
	}
	w := s
	w.fetch = func(ctx context.Context, due sched.Due) (cluster.UnsignedDataSet, error) {
		began := time.Now()
		out, err := s.fetch(ctx, due)
		tell(due.Duty, StageFetch, began, err)
		return out, err
	}
	w.participate = func(ctx context.Context, duty cluster.Duty) error {
		began := time.Now()
		err := s.participate(ctx, duty)
		tell(duty, StageParticipate, began, err)
		return err
	}
	w.propose = watched(s.propose, StagePropose, tell)
	w.settle = watched(s.settle, StageSettle, tell)
	w.exchange = watched(s.exchange, StageExchange, tell)
	w.verify = watched(s.verify, StageVerify, tell)
	w.complete = watched(s.complete, StageComplete, tell)
	w.sign = watchedOut(s.sign, StageSign, tell)
	w.gather = watchedOut(s.gather, StageGather, tell)
	w.combine = watchedOut(s.combine, StageCombine, tell)
	w.send = watchedOut(s.send, StageSend, tell)
	return w
}

type tellFunc func(duty cluster.Duty, stage Stage, began time.Time, err error)

func watched[In any](fn func(context.Context, cluster.Duty, In) error, stage Stage, tell tellFunc) func(context.Context, cluster.Duty, In) error {
	return func(ctx context.Context, duty cluster.Duty, in In) error {
		began := time.Now()
		err := fn(ctx, duty, in)
		tell(duty, stage, began, err)
		return err
	}
}

func watchedOut[In, Out any](fn func(context.Context, cluster.Duty, In) (Out, error), stage Stage, tell tellFunc) func(context.Context, cluster.Duty, In) (Out, error) {
	return func(ctx context.Context, duty cluster.Duty, in In) (Out, error) {
		began := time.Now()
		out, err := fn(ctx, duty, in)
		tell(duty, stage, began, err)
		return out, err
	}
}

// Pauses between attempts.
const (
	firstPause  = 250 * time.Millisecond
	maxPause    = 12 * time.Second
	pauseGrowth = 1.6
	pauseJitter = 0.1
)

// retry has the stages that meet the world tried again until the duty's deadline, which their
// context carries, on errors that may pass.
func (s stages) retry(log *slog.Logger) stages {
	r := s
	r.fetch = func(ctx context.Context, due sched.Due) (out cluster.UnsignedDataSet, err error) {
		err = again(ctx, log, due.Duty, StageFetch, func() error { out, err = s.fetch(ctx, due); return err })
		return out, err
	}
	r.participate = func(ctx context.Context, duty cluster.Duty) error {
		return again(ctx, log, duty, StageParticipate, func() error { return s.participate(ctx, duty) })
	}
	r.propose = func(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) error {
		return again(ctx, log, duty, StagePropose, func() error { return s.propose(ctx, duty, set) })
	}
	r.sign = func(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) (out cluster.ParSignedDataSet, err error) {
		err = again(ctx, log, duty, StageSign, func() error { out, err = s.sign(ctx, duty, set); return err })
		return out, err
	}
	r.exchange = func(ctx context.Context, duty cluster.Duty, set cluster.ParSignedDataSet) error {
		return again(ctx, log, duty, StageExchange, func() error { return s.exchange(ctx, duty, set) })
	}
	r.send = func(ctx context.Context, duty cluster.Duty, set cluster.SignedDataSet) (out []cluster.PubKey, err error) {
		err = again(ctx, log, duty, StageSend, func() error { out, err = s.send(ctx, duty, set); return err })
		return out, err
	}
	return r
}

// mayPass tells whether an error may be gone shortly: the beacon node's passing troubles, peers
// that weren't there, doubts about clock and node.
func mayPass(err error) bool {
	return beacon.Retryable(err) || errors.Is(err, sign.ErrDoubt) || errors.Is(err, errNotAll)
}

// errNotAll means that some peers didn't get a message yet.
var errNotAll = errors.New("not every peer has it yet")

func again(ctx context.Context, log *slog.Logger, duty cluster.Duty, stage Stage, fn func() error) error {
	pause := float64(firstPause)
	for {
		err := fn()
		if err == nil || ctx.Err() != nil || !mayPass(err) {
			return err
		}
		wait := time.Duration(pause * (1 + pauseJitter*(2*rand.Float64()-1)))
		pause = min(pause*pauseGrowth, float64(maxPause))
		log.Debug("trying again", "duty", duty.String(), "stage", string(stage), "after", wait, "err", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}
