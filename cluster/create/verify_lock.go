package create

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"
	"app.provost/cluster/internal/enr"

	"golang.org/x/sync/errgroup"
)

const (
	remedyChanged = "the file was changed or damaged after it was made: take it from another node or from a backup"
	remedyForeign = "the cluster was made wrongly or changed: don't run it, ask who made it"
)

// lockFacts are what the checks of a lock learn for the checks of directories.
type lockFacts struct {
	nodeKeys []*enr.PubKey // per operator, nil where the record isn't valid
	signed   []bool        // per validator, whether its key signed all deposits in the lock
}

// checkLock makes every check that needs nothing but the lock.
func checkLock(ctx context.Context, s *sheet, lock *cluster.Lock, workers int) (lockFacts, error) {
	d := &lock.Definition
	facts := lockFacts{nodeKeys: make([]*enr.PubKey, len(d.Operators))}
	lockHash, hashed := checkHashes(s, lock)
	network, known := cluster.NetworkByFork(d.ForkVersion)
	s.checkNetwork(d, known)
	checkShape(s, d, lock)
	checkOperators(s, d, network, known, &facts, false)

	keys, signed, err := checkValidators(ctx, s, lock, workers)
	facts.signed = signed
	if err != nil {
		return facts, err
	}
	checkLockSignatures(s, lock, lockHash, hashed, keys, facts)
	if unknown := lock.UnknownKeys(); len(unknown) > 0 {
		s.unprotected(s.file, unknown...)
		s.finding("lock.unknown_keys", fmt.Sprintf("no hash covers %s, which this version of the format doesn't know", someOf(unknown)),
			"look whether a newer program wrote the file; nothing here reads these keys")
	}
	return facts, nil
}

func someOf(list []string) string {
	if len(list) > 5 {
		return strings.Join(list[:5], ", ") + fmt.Sprintf(" and %d more", len(list)-5)
	}
	return strings.Join(list, ", ")
}

// checkValidators checks keys, shares, registrations and deposits, the validators in parallel. It
// returns all public shares that are keys, or nil if one isn't, and whose signatures are good.
func checkValidators(ctx context.Context, s *sheet, lock *cluster.Lock, workers int) (shares []bls.PublicKey, signed []bool, err error) {
	if n := len(lock.Validators); n > cluster.MaxValidators {
		s.check("lock.validators", "distributed_validators", "the number of validators is possible", fmt.Errorf("found %d, at most %d fit the format", n, cluster.MaxValidators), remedyForeign)
		return nil, nil, nil
	}
	s.check("lock.keys_unique", "distributed_validators", "no validator key and no share stands twice", keysUnique(lock), remedyForeign)

	sheets := make([]sheet, len(lock.Validators))
	keys := make([][]bls.PublicKey, len(lock.Validators))
	signed = make([]bool, len(lock.Validators))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for first := 0; first < len(lock.Validators); first += batchSize {
		last := min(first+batchSize, len(lock.Validators))
		g.Go(func() error {
			for i, p := range proveValidators(lock, first, last) {
				if err := gctx.Err(); err != nil {
					return err
				}
				v := first + i
				sheets[v] = sheet{prefix: s.prefix, file: s.file, def: s.def}
				signed[v] = p.signed
				keys[v] = checkValidator(&sheets[v], lock, v, p)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	var all []bls.PublicKey
	whole := true
	for v := range sheets {
		s.checks = append(s.checks, sheets[v].checks...)
		s.findings = append(s.findings, sheets[v].findings...)
		whole = whole && keys[v] != nil
		all = append(all, keys[v]...)
	}
	if !whole {
		return nil, signed, nil
	}
	return all, signed, nil
}

func keysUnique(lock *cluster.Lock) error {
	seen := map[cluster.PubKey]string{}
	for v, dv := range lock.Validators {
		where := index("distributed_validators", v)
		if other, ok := seen[dv.PubKey]; ok {
			return fmt.Errorf("the key of %s is also that of %s", where, other)
		}
		seen[dv.PubKey] = where
		for i, share := range dv.PublicShares {
			at := where + "." + index("public_shares", i)
			if other, ok := seen[share]; ok {
				return fmt.Errorf("%s is also %s", at, other)
			}
			seen[share] = at
		}
	}
	return nil
}

// batchSize is how many validators are looked at together: a few are enough for what they share to
// weigh little, and more would leave cores idle.
const batchSize = 64

// proof is what was read of a validator, and what a look at many together has shown of it. What it
// hasn't shown is looked at one by one, so that what is wrong is named.
type proof struct {
	group     bls.PublicKey
	groupErr  error
	shares    []bls.PublicKey
	sharesErr error
	shared    bool // the shares give the key
	signed    bool // the registration and all deposits are signed by the key
}

// proveValidators reads the keys of some validators and looks at shares and signatures together.
func proveValidators(lock *cluster.Lock, first, last int) []proof {
	d := &lock.Definition
	out := make([]proof, last-first)
	var groups []bls.PublicKey
	var shares [][]bls.PublicKey
	var batch []bls.SignedMessages
	var sharing, signing []int
	for i := range out {
		p, dv := &out[i], &lock.Validators[first+i]
		if p.group, p.groupErr = bls.ParsePubKey(dv.PubKey); p.groupErr != nil {
			continue
		}
		if p.shares, p.sharesErr = parseShares(dv.PublicShares, len(d.Operators)); p.sharesErr == nil {
			groups, shares, sharing = append(groups, p.group), append(shares, p.shares), append(sharing, i)
		}
		if signed, ok := signedMessages(d, dv, p.group); ok {
			batch, signing = append(batch, signed), append(signing, i)
		}
	}
	if len(sharing) > 1 && bls.OnePolynomial(groups, shares, d.Threshold) == nil {
		for _, i := range sharing {
			out[i].shared = true
		}
	}
	if len(signing) > 0 && bls.VerifyMany(batch) == nil {
		for _, i := range signing {
			out[i].signed = true
		}
	}
	return out
}

// signedMessages gathers what a validator's key should have signed. It isn't ok when something of it
// can't be read or when there is nothing.
func signedMessages(d *cluster.Definition, dv *cluster.Validator, group bls.PublicKey) (b bls.SignedMessages, ok bool) {
	b.Key = group
	add := func(root cluster.Root, sig cluster.Signature) bool {
		p, err := bls.ParseSignature(sig)
		b.Messages, b.Signatures = append(b.Messages, root[:]), append(b.Signatures, p)
		return err == nil
	}
	if d.Version.HasRegistrations() {
		root, err := dv.Registration.Message.SigningRoot(d.ForkVersion)
		if err != nil || !add(root, dv.Registration.Signature) {
			return b, false
		}
	}
	for _, dep := range dv.Deposits {
		if !add(dep.SigningRoot(d.ForkVersion), dep.Signature) {
			return b, false
		}
	}
	return b, len(b.Messages) > 0
}

func checkValidator(s *sheet, lock *cluster.Lock, v int, p proof) []bls.PublicKey {
	d, dv := &lock.Definition, &lock.Validators[v]
	id, field := index("validator", v), index("distributed_validators", v)

	if !s.check(id+".pubkey", field+".distributed_public_key", "the validator key is a key", p.groupErr, remedyChanged) {
		for _, part := range []string{".shares", ".registration", ".deposits"} {
			s.skip(id+part, field, "signatures and shares fit the validator key", "the validator key isn't a key")
		}
		return nil
	}
	err := p.sharesErr
	if err == nil && !p.shared {
		err = bls.OnePolynomial([]bls.PublicKey{p.group}, [][]bls.PublicKey{p.shares}, d.Threshold)
	}
	s.check(id+".shares", field+".public_shares", "any threshold of the public shares gives the validator key", err, remedyChanged)

	const whatRegistration = "the registration for block builders is the validator's and signed by it"
	if d.Version.HasRegistrations() {
		at, err := checkRegistration(d, dv, v, p)
		if at, definition := strings.CutPrefix(at, inDefinition); definition {
			s.check(id+".registration", defInLock+at, whatRegistration, err, remedyChanged)
		} else {
			s.check(id+".registration", field+".builder_registration"+at, whatRegistration, err, remedyChanged)
		}
	} else {
		s.skip(id+".registration", field, whatRegistration, fmt.Sprintf("locks of %s carry none", d.Version))
	}
	checkLockDeposits(s, lock, v, p)
	return p.shares
}

func parseShares(shares []cluster.PubKey, operators int) ([]bls.PublicKey, error) {
	out := make([]bls.PublicKey, len(shares))
	for i, raw := range shares {
		p, err := bls.ParsePubKey(raw)
		if err != nil {
			return nil, fmt.Errorf("share %d: %w", i+1, err)
		}
		out[i] = p
	}
	if len(shares) != operators {
		return out, fmt.Errorf("found %d shares for %d operators", len(shares), operators)
	}
	return out, nil
}

// inDefinition stands before a field of the definition, where others are of the registration.
const inDefinition = "definition:"

// checkRegistration returns the field that doesn't fit. Of two that contradict each other the
// signature tells which one was changed.
func checkRegistration(d *cluster.Definition, dv *cluster.Validator, v int, p proof) (field string, err error) {
	m := &dv.Registration.Message
	if m.PubKey != dv.PubKey {
		return ".message.pubkey", errors.New("the registration is for another key")
	}
	root, rootErr := m.SigningRoot(d.ForkVersion)
	signed := rootErr == nil && (p.signed || p.group.Verify(root[:], dv.Registration.Signature) == nil)
	if v < len(d.Validators) {
		got, err1 := m.FeeRecipient.Bytes()
		want, err2 := d.Validators[v].FeeRecipient.Bytes()
		if err1 != nil || err2 != nil || string(got) != string(want) {
			if signed {
				return inDefinition + index("validators", v) + ".fee_recipient_address", fmt.Errorf("the definition says %.50q, the signed registration %.50q", d.Validators[v].FeeRecipient, m.FeeRecipient)
			}
			return ".message.fee_recipient", fmt.Errorf("fees go to %.50q, the definition says %.50q", m.FeeRecipient, d.Validators[v].FeeRecipient)
		}
	}
	if d.TargetGasLimit != 0 && m.GasLimit != d.TargetGasLimit {
		if signed {
			return inDefinition + "target_gas_limit", fmt.Errorf("the definition says %d, the signed registration %d", d.TargetGasLimit, m.GasLimit)
		}
		return ".message.gas_limit", fmt.Errorf("the gas limit is %d, the definition says %d", m.GasLimit, d.TargetGasLimit)
	}
	switch {
	case rootErr != nil:
		return ".message.fee_recipient", rootErr
	case !signed:
		return "", errors.New("the signature fits neither the key nor the message: message.fee_recipient, message.gas_limit, message.timestamp or signature was changed")
	default:
		return "", nil
	}
}

// wantCredentials are the withdrawal credentials that the definition asks for.
func wantCredentials(d *cluster.Definition, v int) (cluster.Root, error) {
	if v >= len(d.Validators) {
		return cluster.Root{}, errors.New("the definition has no address for this validator")
	}
	raw, err := d.Validators[v].Withdrawal.Bytes()
	if err != nil {
		return cluster.Root{}, err
	}
	if len(raw) != 20 {
		return cluster.Root{}, errors.New("the definition has no withdrawal address for this validator")
	}
	return cluster.WithdrawalCredentials(cluster.ETHAddress(raw), d.Compounding), nil
}

func checkLockDeposits(s *sheet, lock *cluster.Lock, v int, p proof) {
	d, dv := &lock.Definition, &lock.Validators[v]
	id, where := index("validator", v), index("distributed_validators", v)+"."
	field := where + strings.TrimSuffix(lock.DepositField(0), "[0]")
	const what = "the deposit amounts are those of the definition, ascending"
	if len(dv.Deposits) == 0 {
		s.skip(id+".deposits", field, what, "the lock carries no deposits")
		return
	}
	s.check(id+".deposits", field, what, checkAmounts(d, dv), remedyChanged)
	want, wantErr := wantCredentials(d, v)
	for i, dep := range dv.Deposits {
		at := where + lock.DepositField(i)
		err := wantErr
		switch {
		case err != nil:
		case dep.PubKey != dv.PubKey:
			at, err = at+".pubkey", errors.New("the deposit is for another key")
		case dep.WithdrawalCredentials != want && depositSigned(d, dep, p):
			at, err = fmt.Sprintf("%s{validators[%d].withdrawal_address,compounding}", defInLock, v), fmt.Errorf("the signed deposit pays to %s, the definition says %s", dep.WithdrawalCredentials, want)
		case dep.WithdrawalCredentials != want:
			at, err = at+".withdrawal_credentials", fmt.Errorf("money would go to %s, the definition says %s", dep.WithdrawalCredentials, want)
		default:
			if !depositSigned(d, dep, p) {
				err = errors.New("the signature fits neither the key nor the message: amount or signature was changed")
			}
		}
		s.check(fmt.Sprintf("%s.deposit[%s]", id, depositLabel(dep.Amount)), at, "the deposit is the validator's, to the definition's address, and signed by it", err, remedyChanged)
	}
}

func depositSigned(d *cluster.Definition, dep cluster.Deposit, p proof) bool {
	if p.signed {
		return true
	}
	root := dep.SigningRoot(d.ForkVersion)
	return p.group.Verify(root[:], dep.Signature) == nil
}

func checkAmounts(d *cluster.Definition, dv *cluster.Validator) error {
	var sum cluster.Gwei
	amounts := make([]cluster.Gwei, len(dv.Deposits))
	for i, dep := range dv.Deposits {
		amounts[i] = dep.Amount
		if dep.Amount < cluster.Ether || dep.Amount > 2048*cluster.Ether {
			return fmt.Errorf("a deposit of %s isn't possible", dep.Amount)
		}
		if i > 0 && dep.Amount <= amounts[i-1] {
			return errors.New("the amounts are not ascending")
		}
		sum += dep.Amount
	}
	if !d.Version.HasDepositLists() {
		return nil // one of them, whatever the others are
	}
	if len(d.DepositAmounts) == 0 {
		if sum < 32*cluster.Ether {
			return fmt.Errorf("the amounts sum up to %s, a validator needs 32 ETH", sum)
		}
		return nil
	}
	want := slices.Clone(d.DepositAmounts)
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(want, amounts) {
		return fmt.Errorf("found %v, the definition asks for %v", amounts, want)
	}
	return nil
}

// checkLockSignatures checks the aggregate and the nodes' signatures over the lock hash. When the
// content no longer fits the hash in the file (lock.hash says so), the signatures are held against
// the hash in the file, so that what fails here is what was changed here.
func checkLockSignatures(s *sheet, lock *cluster.Lock, computed cluster.Root, hashed bool, keys []bls.PublicKey, facts lockFacts) {
	hashes := []cluster.Root{lock.LockHash}
	if hashed && computed != lock.LockHash {
		hashes = append(hashes, computed)
	}
	either := func(verify func(hash cluster.Root) error) (err error) {
		for _, h := range hashes {
			if err = verify(h); err == nil {
				return nil
			}
		}
		return err
	}
	const whatSum = "all key shares together signed the lock hash"
	if keys == nil {
		s.skip("lock.signature_aggregate", "signature_aggregate", whatSum, "a public share isn't a key")
	} else {
		s.check("lock.signature_aggregate", "signature_aggregate", whatSum,
			either(func(h cluster.Root) error { return bls.FastAggregateVerify(keys, h[:], lock.SignatureAggregate) }), remedyChanged)
	}
	if v := lock.Definition.Version; !v.HasNodeSignatures() {
		s.skip("lock.node_signatures", "node_signatures", "every node signed", fmt.Sprintf("locks of %s carry none", v))
		return
	}
	var err error
	if len(lock.NodeSignatures) != len(lock.Definition.Operators) {
		err = fmt.Errorf("found %d signatures for %d operators", len(lock.NodeSignatures), len(lock.Definition.Operators))
	}
	s.check("lock.node_signatures", "node_signatures", "every node signed", err, remedyChanged)
	for i, sig := range lock.NodeSignatures {
		id, field := index("lock.node_signature", i), index("node_signatures", i)
		const what = "the node's key signed the lock hash"
		if i >= len(facts.nodeKeys) || facts.nodeKeys[i] == nil {
			s.skip(id, field, what, "the node's record isn't valid")
			continue
		}
		s.check(id, field, what, either(func(h cluster.Root) error { return enr.VerifyHash(*facts.nodeKeys[i], h, sig) }), remedyChanged)
	}
}
