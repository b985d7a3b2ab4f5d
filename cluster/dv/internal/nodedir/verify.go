package nodedir

import (
	"context"
	"errors"
	"fmt"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/enr"

	"golang.org/x/sync/errgroup"
)

// verify returns nil only when the lock is whole: its hashes are those of its content, its numbers
// fit together, the shares of each validator lie on one polynomial, and all signatures that matter
// to a running node are right. Wallet signatures are left to the ceremony that made them: nothing that runs relies on them, and
// the node signatures cover the same hash.
func verify(ctx context.Context, lock *cluster.Lock, nodeKeys []enr.PubKey, workers int) error {
	if err := verifyHashes(lock); err != nil {
		return err
	}
	if err := verifyShape(lock); err != nil {
		return err
	}
	shares := make([][]bls.PublicKey, len(lock.Validators))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range lock.Validators {
		g.Go(func() (err error) {
			if err := gctx.Err(); err != nil {
				return err
			}
			if shares[i], err = verifyValidator(lock, i); err != nil {
				return fmt.Errorf("distributed_validators[%d].%w", i, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var all []bls.PublicKey
	for _, s := range shares {
		all = append(all, s...)
	}
	if err := bls.FastAggregateVerify(all, lock.LockHash[:], lock.SignatureAggregate); err != nil {
		return fmt.Errorf("signature_aggregate: %w", err)
	}
	if !lock.Definition.Version.HasNodeSignatures() {
		return nil // the shares' aggregate alone binds such locks
	}
	if len(lock.NodeSignatures) != len(nodeKeys) {
		return fmt.Errorf("node_signatures: found %d for %d operators", len(lock.NodeSignatures), len(nodeKeys))
	}
	for i, sig := range lock.NodeSignatures {
		if err := enr.VerifyHash(nodeKeys[i], lock.LockHash, sig); err != nil {
			return fmt.Errorf("node_signatures[%d]: %w", i, err)
		}
	}
	return nil
}

func verifyHashes(lock *cluster.Lock) error {
	d := &lock.Definition
	config, err := d.ComputeConfigHash()
	if err != nil {
		return err
	}
	definition, err := d.ComputeDefinitionHash()
	if err != nil {
		return err
	}
	whole, err := lock.ComputeHash()
	if err != nil {
		return err
	}
	for _, h := range []struct {
		name      string
		want, got cluster.Root
	}{{"cluster_definition.config_hash", d.ConfigHash, config}, {"cluster_definition.definition_hash", d.DefinitionHash, definition}, {"lock_hash", lock.LockHash, whole}} {
		if h.want != h.got {
			return fmt.Errorf("%s: the file says %s, its content gives %s", h.name, h.want, h.got)
		}
	}
	return nil
}

func verifyShape(lock *cluster.Lock) error {
	d := &lock.Definition
	n := len(d.Operators)
	switch {
	case n < 2 || n > cluster.MaxOperators:
		return fmt.Errorf("cluster_definition.operators: found %d, want 2 to %d", n, cluster.MaxOperators)
	case d.Threshold < 2 || int(d.Threshold) > n:
		return fmt.Errorf("cluster_definition.threshold: found %d for %d nodes", d.Threshold, n)
	case d.NumValidators < 1 || d.NumValidators != len(d.Validators) || d.NumValidators != len(lock.Validators):
		return fmt.Errorf("cluster_definition.num_validators is %d, there are %d address pairs and %d validators", d.NumValidators, len(d.Validators), len(lock.Validators))
	}
	if d.OperatorsSigned() {
		for i, o := range d.Operators {
			if o.Address == "" || len(o.ConfigSignature) == 0 || len(o.ENRSignature) == 0 {
				return fmt.Errorf("cluster_definition.operators[%d]: its address or a signature is missing, while others have theirs", i)
			}
		}
	}
	seen := map[cluster.PubKey]bool{}
	for i, v := range lock.Validators {
		if len(v.PublicShares) != n {
			return fmt.Errorf("distributed_validators[%d].public_shares: found %d for %d operators", i, len(v.PublicShares), n)
		}
		for _, k := range append([]cluster.PubKey{v.PubKey}, v.PublicShares...) {
			if seen[k] {
				return fmt.Errorf("distributed_validators[%d]: the key %s stands twice in the lock", i, k)
			}
			seen[k] = true
		}
	}
	return nil
}

func verifyValidator(lock *cluster.Lock, i int) ([]bls.PublicKey, error) {
	d, v := &lock.Definition, &lock.Validators[i]
	group, err := bls.ParsePubKey(v.PubKey)
	if err != nil {
		return nil, fmt.Errorf("distributed_public_key: %w", err)
	}
	shares := make([]bls.PublicKey, len(v.PublicShares))
	for j, raw := range v.PublicShares {
		if shares[j], err = bls.ParsePubKey(raw); err != nil {
			return nil, fmt.Errorf("public_shares[%d]: %w", j, err)
		}
	}
	if err := onePolynomial(v.PubKey, shares, d.Threshold); err != nil {
		return nil, fmt.Errorf("public_shares: %w", err)
	}
	if d.Version.HasRegistrations() {
		if err := verifyRegistration(d, v, i, group); err != nil {
			return nil, fmt.Errorf("builder_registration: %w", err)
		}
	}
	// Deposits are over when a node runs: their signatures, which take most of the time, are left to
	// the verification of the cluster. The lock's hash covers them here.
	for j, dep := range v.Deposits {
		if dep.PubKey != v.PubKey {
			return nil, fmt.Errorf("partial_deposit_data[%d]: it is for another key", j)
		}
	}
	return shares, nil
}

// onePolynomial checks that the first threshold shares give the key, and then that each further one
// gives it with all but one of them: then all lie on one polynomial.
func onePolynomial(key cluster.PubKey, shares []bls.PublicKey, t cluster.Threshold) error {
	for last := int(t) - 1; last < len(shares); last++ {
		some := map[cluster.ShareIndex]bls.PublicKey{cluster.PeerIndex(last).Share(): shares[last]}
		for i := range int(t) - 1 {
			some[cluster.PeerIndex(i).Share()] = shares[i]
		}
		got, err := bls.RecoverPubKey(some)
		if err != nil {
			return err
		}
		if got != key {
			return fmt.Errorf("share %d does not belong to the others and the validator's key", last+1)
		}
	}
	return nil
}

func verifyRegistration(d *cluster.Definition, v *cluster.Validator, i int, group bls.PublicKey) error {
	m := &v.Registration.Message
	got, err := m.FeeRecipient.Bytes()
	if err != nil {
		return err
	}
	want, err := d.Validators[i].FeeRecipient.Bytes()
	switch {
	case err != nil:
		return err
	case m.PubKey != v.PubKey:
		return errors.New("it is for another key")
	case string(got) != string(want):
		return fmt.Errorf("fees go to %.50q, the definition says %.50q", m.FeeRecipient, d.Validators[i].FeeRecipient)
	}
	root, err := m.SigningRoot(d.ForkVersion)
	if err != nil {
		return err
	}
	return group.Verify(root[:], v.Registration.Signature)
}
