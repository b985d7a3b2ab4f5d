// Package combine verifies peers' partial signatures and makes the group's signatures of them, a
// slot at a time.
//
// All attesters of a slot usually sign one root, so partials and results are verified in batches:
// one pairing for all that sign the same root, with random weights. When a batch fails it is halved
// until the wrong signatures are found: an honest slot pays one pairing, a liar costs a few more.
// Whatever leaves Combine was verified against the validator's own key.
//
// A Combiner may be used from any goroutine. Calls take time of the processor only, on as many cores
// as Options.Workers says. What Verify and Keep got is kept for Combine until the duty is combined or
// dropped, so that no signature is read twice; that is bounded by duties alive x validators x shares.
package combine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"

	"golang.org/x/sync/errgroup"
)

// Errors of this package, wrapped with what was being done.
var (
	ErrUnknownValidator = errors.New("the validator isn't in the lock")
	ErrUnknownShare     = errors.New("the lock has no such share")
	ErrWrongPartial     = errors.New("the partial signature isn't that of the share")
	ErrWrongResult      = errors.New("the combined signature isn't that of the validator")
	ErrEmpty            = errors.New("there are no signatures")
)

// Validator is what is needed of one distributed validator.
type Validator struct {
	PubKey cluster.PubKey
	Shares []cluster.PubKey // place i holds share i+1
}

// Options say whose signatures these are. Validators, Threshold and Root are required.
type Options struct {
	Validators []Validator
	Threshold  cluster.Threshold
	// Root is what a partial of the duty signs, domain included.
	Root func(cluster.Duty, cluster.PubKey, cluster.ParSignedData) (cluster.Root, error)
	// Insert makes the group's object of the nodes' ones, which differ in their signature and at most
	// in what the root doesn't cover. Nil takes the first as it is.
	Insert  func(duty cluster.Duty, partials []cluster.ParSignedData, sig cluster.Signature) ([]byte, error)
	Workers int // 0: as many as cores
}

// Combiner knows the keys of a cluster.
type Combiner struct {
	o    Options
	keys map[cluster.PubKey]keySet

	mu     sync.Mutex
	points map[cluster.Duty]map[pointKey]point
}

type keySet struct {
	group  bls.PublicKey
	shares []bls.PublicKey
}

type pointKey struct {
	key   cluster.PubKey
	share cluster.ShareIndex
}

type point struct {
	sig cluster.Signature
	bls.SignaturePoint
}

// New reads all keys, which takes about a quarter of a millisecond each.
func New(o Options) (*Combiner, error) {
	if len(o.Validators) == 0 || o.Threshold < 2 || o.Root == nil {
		return nil, errors.New("make a combiner: Validators, Threshold and Root are required")
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	c := &Combiner{o: o, keys: make(map[cluster.PubKey]keySet, len(o.Validators)), points: map[cluster.Duty]map[pointKey]point{}}
	sets := make([]keySet, len(o.Validators))
	g := new(errgroup.Group)
	g.SetLimit(o.Workers)
	for i, v := range o.Validators {
		g.Go(func() (err error) {
			s := keySet{shares: make([]bls.PublicKey, len(v.Shares))}
			if s.group, err = bls.ParsePubKey(v.PubKey); err != nil {
				return fmt.Errorf("make a combiner: %w", err)
			}
			for j, share := range v.Shares {
				if s.shares[j], err = bls.ParsePubKey(share); err != nil {
					return fmt.Errorf("make a combiner: share %d of %s: %w", j+1, v.PubKey, err)
				}
			}
			sets[i] = s
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, v := range o.Validators {
		c.keys[v.PubKey] = sets[i]
	}
	return c, nil
}

// item is one signature to verify.
type item struct {
	key   cluster.PubKey
	share cluster.ShareIndex
	root  cluster.Root
	by    bls.PublicKey
	sig   bls.SignaturePoint
}

// PartialError says whose partial signature is wrong. It wraps one of this package's errors or the
// error of Root.
type PartialError struct {
	Duty      cluster.Duty
	Validator cluster.PubKey
	Share     cluster.ShareIndex
	Err       error
}

// Error names duty, share and validator.
func (e *PartialError) Error() string {
	return fmt.Sprintf("verify partial signature of share %d for %s of %s: %v", e.Share, e.Duty, e.Validator, e.Err)
}

// Unwrap returns the cause.
func (e *PartialError) Unwrap() error { return e.Err }

// Verify returns nil only when every partial of the set is that of its share. One wrong partial
// refuses the whole set with a *PartialError that names it.
func (c *Combiner) Verify(ctx context.Context, duty cluster.Duty, set cluster.ParSignedDataSet) error {
	if len(set) == 0 {
		return fmt.Errorf("verify partial signatures for %s: %w", duty, ErrEmpty)
	}
	items := make([]item, 0, len(set))
	for key, p := range set {
		ks, ok := c.keys[key]
		switch {
		case !ok:
			return &PartialError{duty, key, p.Share, ErrUnknownValidator}
		case p.Share < 1 || int(p.Share) > len(ks.shares):
			return &PartialError{duty, key, p.Share, ErrUnknownShare}
		}
		items = append(items, item{key: key, share: p.Share, by: ks.shares[p.Share-1]})
	}
	err := c.each(ctx, len(items), func(i int) (err error) {
		it := &items[i]
		p := set[it.key]
		if it.root, err = c.o.Root(duty, it.key, p); err == nil {
			it.sig, err = bls.ParseSignature(p.Signature)
		}
		if err != nil {
			return &PartialError{duty, it.key, it.share, err}
		}
		return nil
	})
	if err != nil {
		return err
	}
	bad, err := c.verify(ctx, items, 1)
	if err != nil {
		return err
	}
	if len(bad) > 0 {
		return &PartialError{duty, bad[0].key, bad[0].share, ErrWrongPartial}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, it := range items {
		c.keepLocked(duty, pointKey{it.key, it.share}, point{set[it.key].Signature, it.sig})
	}
	return nil
}

// Keep remembers a partial signature of our own, which needs no check, until it is combined.
func (c *Combiner) Keep(duty cluster.Duty, key cluster.PubKey, share cluster.ShareIndex, sig cluster.Signature, read bls.SignaturePoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepLocked(duty, pointKey{key, share}, point{sig, read})
}

func (c *Combiner) keepLocked(duty cluster.Duty, k pointKey, p point) {
	known := c.points[duty]
	if known == nil {
		known = map[pointKey]point{}
		c.points[duty] = known
	}
	if _, ok := known[k]; !ok {
		known[k] = p
	}
}

// Combine makes the group's signature of each validator from exactly the partials it is given,
// which must be at least a threshold of different shares. Results that aren't the validator's
// signature are left out; the error then joins a *PartialError with share 0 for each.
func (c *Combiner) Combine(ctx context.Context, duty cluster.Duty, ready map[cluster.PubKey][]cluster.ParSignedData) (cluster.SignedDataSet, error) {
	points := c.take(duty, ready)
	items := make([]item, 0, len(ready))
	for key := range ready {
		items = append(items, item{key: key})
	}
	var mu sync.Mutex
	sets := map[string]bls.Interpolation{}
	numbers := func(partials []cluster.ParSignedData) (bls.Interpolation, error) {
		shares := make([]cluster.ShareIndex, len(partials))
		for i, p := range partials {
			shares[i] = p.Share
		}
		name := fmt.Sprint(shares)
		mu.Lock()
		defer mu.Unlock()
		if in, ok := sets[name]; ok {
			return in, nil
		}
		in, err := bls.NewInterpolation(shares)
		if err == nil {
			sets[name] = in
		}
		return in, err
	}
	failed := make([]error, len(items))
	err := c.each(ctx, len(items), func(i int) error {
		failed[i] = c.combineOne(duty, &items[i], ready[items[i].key], points, numbers)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var errs []error
	good := items[:0:0]
	for i, it := range items {
		if failed[i] != nil {
			errs = append(errs, &PartialError{Duty: duty, Validator: it.key, Err: failed[i]})
			continue
		}
		good = append(good, it)
	}
	bad, err := c.verify(ctx, good, len(good))
	if err != nil {
		return nil, err
	}
	wrong := make(map[cluster.PubKey]bool, len(bad))
	for _, it := range bad {
		wrong[it.key] = true
		errs = append(errs, &PartialError{Duty: duty, Validator: it.key, Err: ErrWrongResult})
	}
	out := make(cluster.SignedDataSet, len(good))
	for _, it := range good {
		if wrong[it.key] {
			continue
		}
		s := cluster.SignedData{Data: ready[it.key][0].Data, Signature: it.sig.Signature()}
		if c.o.Insert != nil {
			if s.Data, err = c.o.Insert(duty, ready[it.key], s.Signature); err != nil {
				errs = append(errs, &PartialError{Duty: duty, Validator: it.key, Err: err})
				continue
			}
		}
		out[it.key] = s
	}
	return out, errors.Join(errs...)
}

func (c *Combiner) combineOne(duty cluster.Duty, it *item, partials []cluster.ParSignedData, points map[pointKey]point, numbers func([]cluster.ParSignedData) (bls.Interpolation, error)) error {
	ks, ok := c.keys[it.key]
	if !ok {
		return ErrUnknownValidator
	}
	if len(partials) < int(c.o.Threshold) {
		return fmt.Errorf("only %d partial signatures of the %d needed", len(partials), c.o.Threshold)
	}
	in, err := numbers(partials)
	if err != nil {
		return err
	}
	parts := make([]bls.SignaturePoint, len(partials))
	for i, p := range partials {
		if known, ok := points[pointKey{it.key, p.Share}]; ok && known.sig == p.Signature {
			parts[i] = known.SignaturePoint
		} else if parts[i], err = bls.ParseSignature(p.Signature); err != nil {
			return fmt.Errorf("share %d: %w", p.Share, err)
		}
		root, err := c.o.Root(duty, it.key, p)
		if err != nil {
			return err
		}
		if i > 0 && root != it.root {
			return errors.New("the partial signatures are over different roots")
		}
		it.root = root
	}
	it.by = ks.group
	it.sig, err = in.Combine(parts)
	return err
}

// take hands out the points of validators that get combined now, and forgets them.
func (c *Combiner) take(duty cluster.Duty, ready map[cluster.PubKey][]cluster.ParSignedData) map[pointKey]point {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.points[duty]
	out := make(map[pointKey]point, len(known))
	for key, partials := range ready {
		for _, p := range partials {
			k := pointKey{key, p.Share}
			if pt, ok := known[k]; ok {
				out[k] = pt
				delete(known, k)
			}
		}
	}
	return out
}

// Drop forgets what was read for a duty.
func (c *Combiner) Drop(duty cluster.Duty) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.points, duty)
}

// each runs fn for 0 to n-1 on the workers and returns the first error, or that of ctx.
func (c *Combiner) each(ctx context.Context, n int, fn func(int) error) error {
	const chunk = 16 // fine enough to share, coarse enough not to cost
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.Workers)
	for from := 0; from < n; from += chunk {
		g.Go(func() error {
			for i := from; i < min(from+chunk, n); i++ {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := fn(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// verify returns up to most items whose signature is wrong.
func (c *Combiner) verify(ctx context.Context, items []item, most int) ([]item, error) {
	byRoot := map[cluster.Root][]item{}
	for _, it := range items {
		byRoot[it.root] = append(byRoot[it.root], it)
	}
	groups := make([][]item, 0, len(byRoot))
	for _, g := range byRoot {
		// Several cores share one large group.
		size := max((len(g)+c.o.Workers-1)/c.o.Workers, min(len(g), 64))
		groups = append(groups, slices.Collect(slices.Chunk(g, size))...)
	}
	bad := make([][]item, len(groups))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.o.Workers)
	for i, group := range groups {
		g.Go(func() (err error) {
			bad[i], err = find(gctx, group, most)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(bad...)
	return all[:min(len(all), most)], nil
}

// find halves a batch of one root until up to most wrong signatures are alone.
func find(ctx context.Context, items []item, most int) ([]item, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(items) == 0 || most <= 0 {
		return nil, nil
	}
	keys, sigs := make([]bls.PublicKey, len(items)), make([]bls.SignaturePoint, len(items))
	for i, it := range items {
		keys[i], sigs[i] = it.by, it.sig
	}
	err := bls.VerifyBatch(keys, items[0].root[:], sigs)
	switch {
	case err == nil:
		return nil, nil
	case !errors.Is(err, bls.ErrVerify):
		return nil, err
	case len(items) == 1:
		return items, nil
	}
	half := len(items) / 2
	bad, err := find(ctx, items[:half], most)
	if err != nil || len(bad) >= most {
		return bad, err
	}
	more, err := find(ctx, items[half:], most-len(bad))
	return append(slices.Clip(bad), more...), err
}
