package create

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

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
}

// checkLock makes every check that needs nothing but the lock.
func checkLock(ctx context.Context, s *sheet, lock *cluster.Lock, workers int) (lockFacts, error) {
	d := &lock.Definition
	facts := lockFacts{nodeKeys: make([]*enr.PubKey, len(d.Operators))}
	lockHash, hashed := checkHashes(s, lock)
	network, known := cluster.NetworkByFork(d.ForkVersion)
	s.checkNetwork(d, known)
	checkShape(s, lock)
	checkOperators(s, d, network, known, &facts)

	keys, err := checkValidators(ctx, s, lock, workers)
	if err != nil {
		return facts, err
	}
	checkLockSignatures(s, lock, lockHash, hashed, keys, facts)
	if unknown := lock.UnknownKeys(); len(unknown) > 0 {
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

// checkHashes recomputes the three hashes. It returns the hash that the content has.
func checkHashes(s *sheet, lock *cluster.Lock) (computed cluster.Root, ok bool) {
	d := &lock.Definition
	const (
		whatConfig = "the config hash is that of the definition"
		whatDef    = "the definition hash is that of the definition"
		whatLock   = "the lock hash is that of the whole lock"
		fConfig    = "cluster_definition.config_hash"
		fDef       = "cluster_definition.definition_hash"
	)
	if !s.check("definition.version", "cluster_definition.version", "the format version is known", d.Version.Supported(), "use a newer version of this program") {
		for _, x := range [][3]string{{"definition.config_hash", fConfig, whatConfig}, {"definition.definition_hash", fDef, whatDef}, {"lock.hash", "lock_hash", whatLock}} {
			s.skip(x[0], x[1], x[2], "the format version isn't known")
		}
		return cluster.Root{}, false
	}
	config, configErr := d.ComputeConfigHash()
	def, defErr := d.ComputeDefinitionHash()
	computed, lockErr := lock.ComputeHash()

	// Which of the three fits tells whether the content or only a hash in the file was changed.
	if configErr == nil && config != d.ConfigHash {
		mended := *d
		mended.ConfigHash = config
		if again, err := mended.ComputeDefinitionHash(); err == nil && again == d.DefinitionHash {
			configErr = fmt.Errorf("the file says %s, the rest of the file fits %s: this hash itself was changed", d.ConfigHash, config)
		} else {
			configErr = fmt.Errorf("the file says %s, its content gives %s: one of name, uuid, version, timestamp, numbers, addresses, fork_version, deposit amounts, gas limit, compounding or protocol was changed", d.ConfigHash, config)
		}
	}
	if defErr == nil && def != d.DefinitionHash {
		if lockErr == nil && computed == lock.LockHash {
			defErr = fmt.Errorf("the file says %s, the rest of the file fits %s: this hash itself was changed", d.DefinitionHash, def)
		} else if configErr == nil {
			defErr = fmt.Errorf("the file says %s, its content gives %s: an ENR or a wallet signature was changed", d.DefinitionHash, def)
		} else {
			defErr = fmt.Errorf("the file says %s, its content gives %s: see definition.config_hash", d.DefinitionHash, def)
		}
	}
	ok = lockErr == nil
	if lockErr == nil && computed != lock.LockHash {
		if configErr == nil && defErr == nil {
			lockErr = fmt.Errorf("the file says %s, its content gives %s: the hash itself or something in distributed_validators was changed", lock.LockHash, computed)
		} else {
			lockErr = fmt.Errorf("the file says %s, its content gives %s: see the hashes of the definition", lock.LockHash, computed)
		}
	}
	s.check("definition.config_hash", fConfig, whatConfig, configErr, remedyChanged)
	s.check("definition.definition_hash", fDef, whatDef, defErr, remedyChanged)
	s.check("lock.hash", "lock_hash", whatLock, lockErr, remedyChanged)
	return computed, ok
}

func (s *sheet) checkNetwork(d *cluster.Definition, known bool) {
	const what = "the fork version names a network"
	if known {
		s.check("definition.network", "cluster_definition.fork_version", what, nil, "")
		return
	}
	s.skip("definition.network", "cluster_definition.fork_version", what, fmt.Sprintf("no network with the genesis fork version %s is known here; it may be a private one", d.ForkVersion))
}

var (
	uuidPattern  = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	dkgKnown     = []string{"", "default", "frost", "pedersen"}
	consensusAll = []string{"", "qbft"}
)

// checkShape looks at numbers and plain values of the definition.
func checkShape(s *sheet, lock *cluster.Lock) {
	d := &lock.Definition
	n := len(d.Operators)

	var err error
	if n < 2 || n > cluster.MaxOperators {
		err = fmt.Errorf("found %d operators, want 2 to %d", n, cluster.MaxOperators)
	}
	s.check("definition.operators", "cluster_definition.operators", "the number of nodes is possible", err, remedyForeign)

	err = nil
	if d.Threshold < 2 || int(d.Threshold) > n {
		err = fmt.Errorf("found %d for %d nodes, want 2 to %d", d.Threshold, n, n)
	} else if d.Threshold.Low(n) {
		s.finding("definition.threshold_low", fmt.Sprintf("the threshold %d of %d is below two thirds, so fewer nodes than consensus needs could sign on their own", d.Threshold, n),
			fmt.Sprintf("for a new cluster choose %d or more", cluster.DefaultThreshold(n)))
	}
	s.check("definition.threshold", "cluster_definition.threshold", "the threshold is possible", err, remedyForeign)

	err = nil
	if d.NumValidators < 1 || d.NumValidators != len(d.Validators) || d.NumValidators != len(lock.Validators) {
		err = fmt.Errorf("num_validators is %d, there are %d address pairs and %d distributed validators; all must be equal and at least 1",
			d.NumValidators, len(d.Validators), len(lock.Validators))
	}
	s.check("definition.num_validators", "cluster_definition.num_validators", "the number of validators is the same everywhere", err, remedyForeign)

	field, err := checkAddresses(d)
	s.check("definition.addresses", field, "addresses are whole and their EIP-55 checksums right", err, remedyForeign)

	field, err = "cluster_definition", nil
	_, timeErr := time.Parse(time.RFC3339, d.Timestamp)
	switch {
	case !uuidPattern.MatchString(d.UUID):
		field, err = "cluster_definition.uuid", errors.New("not a UUID")
	case timeErr != nil:
		field, err = "cluster_definition.timestamp", errors.New("not an RFC 3339 time")
	case !slices.Contains(dkgKnown, d.DKGAlgorithm):
		field, err = "cluster_definition.dkg_algorithm", fmt.Errorf("%.40q isn't known", d.DKGAlgorithm)
	case !slices.Contains(consensusAll, d.ConsensusProtocol):
		field, err = "cluster_definition.consensus_protocol", fmt.Errorf("%.40q isn't known", d.ConsensusProtocol)
	}
	s.check("definition.values", field, "uuid, time, key generation and consensus protocol are known", err, remedyForeign)
}

func checkAddresses(d *cluster.Definition) (field string, err error) {
	check := func(f string, text cluster.AddressText, mayBeEmpty bool) bool {
		if text == "" && mayBeEmpty {
			return true
		}
		// Addresses without 0x are in use too.
		full := "0x" + strings.TrimPrefix(string(text), "0x")
		if _, err = cluster.ParseETHAddress(full, enr.Keccak256); err != nil {
			field = "cluster_definition." + f
		}
		return err == nil
	}
	if !check("creator.address", d.Creator.Address, true) {
		return field, err
	}
	for i, o := range d.Operators {
		if !check(index("operators", i)+".address", o.Address, true) {
			return field, err
		}
	}
	for i, v := range d.Validators {
		if !check(index("validators", i)+".fee_recipient_address", v.FeeRecipient, false) || !check(index("validators", i)+".withdrawal_address", v.Withdrawal, false) {
			return field, err
		}
	}
	return "cluster_definition", nil
}

func checkOperators(s *sheet, d *cluster.Definition, network cluster.Network, known bool, facts *lockFacts) {
	first := map[enr.PubKey]int{}
	var twice error
	for i, o := range d.Operators {
		rec, err := enr.Parse(o.ENR)
		f := "cluster_definition." + index("operators", i) + ".enr"
		if s.check(index("operator", i)+".enr", f, "the node record is whole and signed by its own key", err, remedyChanged) {
			key := rec.PubKey
			facts.nodeKeys[i] = &key
			if j, ok := first[key]; ok {
				twice = fmt.Errorf("operators %d and %d have the same node key", j, i)
			}
			first[key] = i
		}
	}
	s.check("definition.enrs_unique", "cluster_definition.operators", "every node has its own key", twice, remedyForeign)

	const whatAll = "either everybody signed the definition with a wallet, or nobody did"
	if !d.Signed() {
		s.check("definition.wallet_signatures", "cluster_definition.operators", whatAll, nil, "")
		return
	}
	var missing error
	for i, o := range d.Operators {
		if o.Address == "" || len(o.ConfigSignature) == 0 || len(o.ENRSignature) == 0 {
			missing = fmt.Errorf("operator %d lacks its address or a signature, while others have theirs", i)
			break
		}
	}
	if missing == nil && (d.Creator.Address == "") != (len(d.Creator.ConfigSignature) == 0) {
		missing = errors.New("of the creator's address and signature only one is there")
	} else if missing == nil && d.Creator.Address == "" {
		missing = errors.New("the creator's address and signature are missing, while the operators have theirs")
	}
	s.check("definition.wallet_signatures", "cluster_definition.operators", whatAll, missing, remedyForeign)

	wallet := func(id, field, what string, kind enr.TypedText, address cluster.AddressText, value string, sig cluster.HexBytes) {
		field = "cluster_definition." + field
		if len(sig) == 0 {
			s.skip(id, field, what, "there is no signature")
			return
		}
		if !known {
			s.skip(id, field, what, "the chain id of the network isn't known")
			return
		}
		raw, err := address.Bytes()
		if err == nil && len(raw) == 0 {
			err = errors.New("there is a signature but no address")
		}
		if err == nil {
			err = kind.Verify(cluster.ETHAddress(raw), network.ChainID, value, sig)
		}
		if errors.Is(err, enr.ErrContractWallet) && d.Version.HasSignatureLists() {
			s.skip(id, field, what, err.Error())
			return
		}
		s.check(id, field, what, err, remedyChanged+"; a contract wallet's signature can only be checked on chain")
	}
	if d.Creator.Address != "" || len(d.Creator.ConfigSignature) > 0 {
		wallet("definition.creator_signature", "creator.config_signature", "the creator signed the config hash", enr.CreatorConfig, d.Creator.Address, d.ConfigHash.String(), d.Creator.ConfigSignature)
	}
	for i, o := range d.Operators {
		wallet(index("operator", i)+".config_signature", index("operators", i)+".config_signature", "the operator signed the config hash", enr.OperatorConfig, o.Address, d.ConfigHash.String(), o.ConfigSignature)
		wallet(index("operator", i)+".enr_signature", index("operators", i)+".enr_signature", "the operator signed the node record", enr.OperatorENR, o.Address, o.ENR, o.ENRSignature)
	}
}

// checkValidators checks keys, shares, registrations and deposits, the validators in parallel. It
// returns all public shares that are keys, or nil if one isn't.
func checkValidators(ctx context.Context, s *sheet, lock *cluster.Lock, workers int) ([]bls.PublicKey, error) {
	s.check("lock.keys_unique", "distributed_validators", "no validator key and no share stands twice", keysUnique(lock), remedyForeign)

	sheets := make([]sheet, len(lock.Validators))
	keys := make([][]bls.PublicKey, len(lock.Validators))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for v := range lock.Validators {
		sheets[v] = sheet{prefix: s.prefix, file: s.file}
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			keys[v] = checkValidator(&sheets[v], lock, v)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
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
		return nil, nil
	}
	return all, nil
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

func checkValidator(s *sheet, lock *cluster.Lock, v int) []bls.PublicKey {
	d, dv := &lock.Definition, &lock.Validators[v]
	id, field := index("validator", v), index("distributed_validators", v)

	group, err := bls.ParsePubKey(dv.PubKey)
	if !s.check(id+".pubkey", field+".distributed_public_key", "the validator key is a key", err, remedyChanged) {
		for _, part := range []string{".shares", ".registration", ".deposits"} {
			s.skip(id+part, field, "signatures and shares fit the validator key", "the validator key isn't a key")
		}
		return nil
	}
	shares, err := parseShares(dv.PublicShares, len(d.Operators))
	if err == nil {
		err = onePolynomial(dv.PubKey, shares, d.Threshold)
	}
	s.check(id+".shares", field+".public_shares", "any threshold of the public shares gives the validator key", err, remedyChanged)

	const whatRegistration = "the registration for block builders is the validator's and signed by it"
	if d.Version.HasRegistrations() {
		at, err := checkRegistration(d, dv, v, group)
		s.check(id+".registration", field+".builder_registration"+at, whatRegistration, err, remedyChanged)
	} else {
		s.skip(id+".registration", field, whatRegistration, fmt.Sprintf("locks of %s carry none", d.Version))
	}
	checkLockDeposits(s, lock, v, group)
	return shares
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

// onePolynomial checks that the first threshold shares give the key, and then that each further one
// gives it with all but one of them: then all lie on one polynomial.
func onePolynomial(key cluster.PubKey, shares []bls.PublicKey, t cluster.Threshold) error {
	if t < 2 || int(t) > len(shares) {
		return fmt.Errorf("a threshold of %d of %d shares can't be checked", t, len(shares))
	}
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
			if last < int(t) {
				return fmt.Errorf("shares 1 to %d give another key, %s: the key or one of them was changed", t, got)
			}
			return fmt.Errorf("share %d doesn't belong to the others", last+1)
		}
	}
	return nil
}

func checkRegistration(d *cluster.Definition, dv *cluster.Validator, v int, group bls.PublicKey) (field string, err error) {
	m := &dv.Registration.Message
	if m.PubKey != dv.PubKey {
		return ".message.pubkey", errors.New("the registration is for another key")
	}
	if v < len(d.Validators) {
		got, err1 := m.FeeRecipient.Bytes()
		want, err2 := d.Validators[v].FeeRecipient.Bytes()
		if err1 != nil || err2 != nil || string(got) != string(want) {
			return ".message.fee_recipient", fmt.Errorf("fees go to %.50q, the definition says %.50q", m.FeeRecipient, d.Validators[v].FeeRecipient)
		}
	}
	if d.TargetGasLimit != 0 && m.GasLimit != d.TargetGasLimit {
		return ".message.gas_limit", fmt.Errorf("the gas limit is %d, the definition says %d", m.GasLimit, d.TargetGasLimit)
	}
	root, err := m.SigningRoot(d.ForkVersion)
	if err != nil {
		return ".message.fee_recipient", err
	}
	return ".signature", group.Verify(root[:], dv.Registration.Signature)
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

func checkLockDeposits(s *sheet, lock *cluster.Lock, v int, group bls.PublicKey) {
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
		case dep.WithdrawalCredentials != want:
			at, err = at+".withdrawal_credentials", fmt.Errorf("money would go to %s, the definition says %s", dep.WithdrawalCredentials, want)
		default:
			root := dep.SigningRoot(d.ForkVersion)
			at, err = at+".signature", group.Verify(root[:], dep.Signature)
		}
		s.check(fmt.Sprintf("%s.deposit[%s]", id, depositLabel(dep.Amount)), at, "the deposit is the validator's, to the definition's address, and signed by it", err, remedyChanged)
	}
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
