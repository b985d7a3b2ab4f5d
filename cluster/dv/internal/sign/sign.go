// Package sign is the built-in signer of a node: it makes partial signatures with the node's key
// shares, and only where nothing is in doubt.
//
// For every call, in this order: the objects are made from what the cluster settled; the doubts are
// asked (clock, beacon node); slashing protection is asked for all validators at once and has what
// it allows on disk when it answers; then the shares sign. What is not allowed in so many words is
// not signed: the zero value of an answer is no, and an error of slashing protection refuses all.
//
// A Signer may be used from any goroutine. Calls block for slashing protection's disk and the
// processor, never for the network or a screen.
package sign

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"

	"golang.org/x/sync/errgroup"
)

// Kind says what a signature could be slashed for. The zero value is nothing.
type Kind string

// The kinds.
const (
	Attestation Kind = "attestation"
	Block       Kind = "block"
)

// Vote is what slashing protection must know of a signature.
type Vote struct {
	Validator   cluster.PubKey
	Kind        Kind
	Source      cluster.Epoch // of an attestation
	Target      cluster.Epoch
	Slot        cluster.Slot // of a block
	SigningRoot cluster.Root
}

// Answer is slashing protection's word on one vote. Its zero value is no.
type Answer struct {
	Allowed bool
	Reason  string         // why not
	From    *cluster.Epoch // from when on it may be, when that is only a matter of time; nil otherwise
}

// Part is one signature that an object needs.
type Part struct {
	Root cluster.Root // domain included
	Vote *Vote        // nil when nobody is slashed for it
}

// Object is what one validator signs for a duty: usually one part, two from Gloas on.
type Object struct {
	Parts []Part
	// With returns the object with the partial signatures, in the order of the parts.
	With func([]cluster.Signature) (cluster.ParSignedData, error)
}

// Options say with what and under which conditions to sign. All but Keep and Workers are required.
type Options struct {
	Share cluster.ShareIndex
	Keys  map[cluster.PubKey]bls.SecretKey // by the validator's key
	// ToSign makes the object of a validator; data is what was settled, nil for duties that need no
	// agreement.
	ToSign func(duty cluster.Duty, key cluster.PubKey, data []byte) (Object, error)
	// Doubt returns why nothing may be signed now, nil when all is clear.
	Doubt func(ctx context.Context, duty cluster.Duty) error
	// Check asks slashing protection without leaving a trace, Record asks it and has every allowed
	// vote on disk before it returns. One answer per vote, in their order.
	Check  func(ctx context.Context, votes []Vote) ([]Answer, error)
	Record func(ctx context.Context, votes []Vote) ([]Answer, error)
	// Keep is told each signature as it is made, before the set is returned.
	Keep    func(duty cluster.Duty, key cluster.PubKey, share cluster.ShareIndex, sig cluster.Signature, read bls.SignaturePoint)
	Workers int // 0: as many as cores
}

// Signer signs for one node.
type Signer struct{ o Options }

// Errors of this package, wrapped with duty and validator.
var (
	ErrNoShare = errors.New("this node holds no key share of the validator")
	ErrRefused = errors.New("slashing protection refused")
	ErrDoubt   = errors.New("nothing is signed while in doubt")
)

// RefusedError says why one validator's object was not signed. It wraps ErrRefused, ErrNoShare or
// the cause.
type RefusedError struct {
	Duty      cluster.Duty
	Validator cluster.PubKey
	Err       error
}

// Error names duty and validator.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("sign %s for %s: %v", e.Duty, e.Validator, e.Err)
}

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// WaitError is a refusal of slashing protection that passes by itself: it isn't known what was signed
// before. It wraps ErrRefused.
type WaitError struct {
	From   cluster.Epoch // the first that may be signed in
	Reason string
}

// Error says when it passes.
func (e *WaitError) Error() string { return fmt.Sprintf("%v: %s", ErrRefused, e.Reason) }

// Unwrap returns ErrRefused.
func (e *WaitError) Unwrap() error { return ErrRefused }

// New checks that nothing is missing.
func New(o Options) (*Signer, error) {
	if o.Share < 1 || len(o.Keys) == 0 || o.ToSign == nil || o.Doubt == nil || o.Check == nil || o.Record == nil {
		return nil, errors.New("make a signer: Share, Keys, ToSign, Doubt, Check and Record are required")
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Keep == nil {
		o.Keep = func(cluster.Duty, cluster.PubKey, cluster.ShareIndex, cluster.Signature, bls.SignaturePoint) {}
	}
	return &Signer{o}, nil
}

// job is one validator's object on its way.
type job struct {
	key    cluster.PubKey
	object Object
	err    error
}

func (s *Signer) jobs(duty cluster.Duty, set cluster.UnsignedDataSet) []job {
	jobs := make([]job, 0, len(set))
	for _, key := range slices.SortedFunc(maps.Keys(set), func(a, b cluster.PubKey) int { return slices.Compare(a[:], b[:]) }) {
		j := job{key: key}
		if _, ok := s.o.Keys[key]; !ok {
			j.err = ErrNoShare
		} else if j.object, j.err = s.o.ToSign(duty, key, set[key]); j.err == nil && (len(j.object.Parts) == 0 || j.object.With == nil) {
			j.err = errors.New("there is nothing to sign")
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// ask puts the votes of all jobs to slashing protection at once. Jobs with a part that isn't
// allowed get an error.
func ask(ctx context.Context, jobs []job, guard func(context.Context, []Vote) ([]Answer, error)) error {
	var votes []Vote
	var of []int
	for i, j := range jobs {
		if j.err != nil {
			continue
		}
		for _, p := range j.object.Parts {
			if p.Vote != nil {
				votes, of = append(votes, *p.Vote), append(of, i)
			}
		}
	}
	if len(votes) == 0 {
		return nil
	}
	answers, err := guard(ctx, votes)
	if err != nil {
		return fmt.Errorf("ask slashing protection: %w", err)
	}
	for k, i := range of {
		var a Answer // a missing answer is no
		if k < len(answers) {
			a = answers[k]
		}
		if !a.Allowed {
			reason := a.Reason
			if reason == "" {
				reason = "no reason was given"
			}
			if jobs[i].err = fmt.Errorf("%w: %s", ErrRefused, reason); a.From != nil {
				jobs[i].err = &WaitError{*a.From, reason}
			}
		}
	}
	return nil
}

// Vote returns nil when this node may help to agree on the data: at least one of its validators
// could be signed for. One that can't be, say because it attested in this epoch already, must not
// cost the others their duty. The objects must all be well formed.
func (s *Signer) Vote(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) error {
	jobs := s.jobs(duty, set)
	for _, j := range jobs {
		if j.err != nil {
			return &RefusedError{duty, j.key, j.err}
		}
	}
	if err := ask(ctx, jobs, s.o.Check); err != nil {
		return fmt.Errorf("vote on %s: %w", duty, err)
	}
	var first error
	for _, j := range jobs {
		if j.err == nil {
			return nil
		}
		if first == nil {
			first = &RefusedError{duty, j.key, j.err}
		}
	}
	if first == nil {
		first = fmt.Errorf("vote on %s: it covers no validator", duty)
	}
	return first
}

// Sign returns this node's partial signatures. Validators that couldn't be signed for are left out;
// the error then joins a *RefusedError for each. An error that wraps ErrDoubt means that nothing
// was signed or recorded.
func (s *Signer) Sign(ctx context.Context, duty cluster.Duty, set cluster.UnsignedDataSet) (cluster.ParSignedDataSet, error) {
	jobs := s.jobs(duty, set)
	if err := s.o.Doubt(ctx, duty); err != nil {
		return nil, fmt.Errorf("sign %s: %w: %w", duty, ErrDoubt, err)
	}
	if err := ask(ctx, jobs, s.o.Record); err != nil {
		return nil, fmt.Errorf("sign %s: %w", duty, err)
	}
	// What is late after waiting for the disk isn't signed any more.
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sign %s: %w", duty, context.Cause(ctx))
	}
	signed := make([]cluster.ParSignedData, len(jobs))
	g := new(errgroup.Group)
	g.SetLimit(s.o.Workers)
	for i := range jobs {
		if jobs[i].err == nil {
			g.Go(func() error { signed[i], jobs[i].err = s.one(duty, jobs[i]); return nil })
		}
	}
	_ = g.Wait() // errors are kept per job
	out := make(cluster.ParSignedDataSet, len(jobs))
	var errs []error
	for i, j := range jobs {
		if j.err != nil {
			errs = append(errs, &RefusedError{duty, j.key, j.err})
			continue
		}
		out[j.key] = signed[i]
	}
	return out, errors.Join(errs...)
}

func (s *Signer) one(duty cluster.Duty, j job) (cluster.ParSignedData, error) {
	sigs := make([]cluster.Signature, len(j.object.Parts))
	points := make([]bls.SignaturePoint, len(sigs))
	for i, p := range j.object.Parts {
		point, err := s.o.Keys[j.key].SignPoint(p.Root[:])
		if err != nil {
			return cluster.ParSignedData{}, err
		}
		points[i], sigs[i] = point, point.Signature()
	}
	out, err := j.object.With(sigs)
	if err != nil {
		return out, err
	}
	out.Share = s.o.Share
	s.o.Keep(duty, j.key, s.o.Share, out.Signature, points[0])
	return out, nil
}
