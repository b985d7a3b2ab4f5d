package create

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"time"

	"app.provost/cluster"
	"app.provost/cluster/internal/enr"
)

// DefinitionFileName is the definition in a directory. Key generation between operators leaves it
// beside the lock.
const DefinitionFileName = "cluster-definition.json"

func loadDefinition(src source, name string) (*cluster.Definition, error) {
	raw, _, err := src.read(name, MaxLockBytes)
	if err != nil {
		return nil, err
	}
	d := new(cluster.Definition)
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, err
	}
	return d, nil
}

// verifyDefinition checks a definition file by itself.
func (v *verifier) verifyDefinition() {
	s := &sheet{file: v.single}
	d, err := loadDefinition(v.src, v.single)
	if s.check("definition.readable", fieldOf(err), "the definition file is there and can be read", err, fileRemedy(err)) {
		v.describeDefinition(d, d.NumValidators)
		checkDefinition(s, d)
	}
	v.take(s)
}

// checkDefinition makes every check that needs nothing but a definition. Operators whose record is
// still missing, as before they joined, are no failure.
func checkDefinition(s *sheet, d *cluster.Definition) {
	if checkVersion(s, d) {
		s.checkConfigHash(d, nil)
		s.checkDefinitionHash(d, nil)
	}
	network, known := cluster.NetworkByFork(d.ForkVersion)
	s.checkNetwork(d, known)
	checkShape(s, d, nil)
	checkOperators(s, d, network, known, &lockFacts{nodeKeys: make([]*enr.PubKey, len(d.Operators))}, true)
	if unknown := d.UnknownKeys(); len(unknown) > 0 {
		s.unprotected(s.file, unknown...)
		s.finding("definition.unknown_keys", fmt.Sprintf("no hash covers %s, which this version of the format doesn't know", someOf(unknown)),
			"look whether a newer program wrote the file; nothing here reads these keys")
	}
}

// checkDefinitionFiles checks the definition files that lie beside locks: they must be the locks'.
func (v *verifier) checkDefinitionFiles(s *sheet, lock *cluster.Lock) {
	const what = "the definition beside the lock is the lock's"
	check := func(s *sheet, name string) {
		d, err := loadDefinition(v.src, name)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		s.file = name
		field := fieldOf(err)
		if err == nil {
			field, err = differentDefinition(&lock.Definition, d)
		}
		s.check("definition_file", field, what, err, "put back the definition that the lock was made from, or move the file elsewhere")
	}
	if v.report.Scope == ScopeCluster {
		check(s, DefinitionFileName)
	}
	for _, n := range v.nodes {
		check(n.sheet, n.file(DefinitionFileName))
	}
}

// differentDefinition finds where two definitions differ.
func differentDefinition(want, got *cluster.Definition) (field string, err error) {
	a, err := want.Encode()
	if err != nil {
		return "", err
	}
	b, err := got.Encode()
	if err != nil {
		return "", err
	}
	if field, ok := differentJSON(a, b); ok {
		return field, errors.New("it differs here from the definition in the lock")
	}
	return "", nil
}

func checkVersion(s *sheet, d *cluster.Definition) bool {
	return s.check("definition.version", s.def+"version", "the format version is known", d.Version.Supported(), "use a newer version of this program")
}

const (
	whatConfig = "the config hash is that of the definition"
	whatDef    = "the definition hash is that of the definition"
	whatLock   = "the lock hash is that of the whole lock"
)

// checkHashes recomputes the three hashes of a lock. It returns the hash that the content has.
func checkHashes(s *sheet, lock *cluster.Lock) (computed cluster.Root, ok bool) {
	d := &lock.Definition
	if !checkVersion(s, d) {
		for _, x := range [][3]string{{"definition.config_hash", s.def + "config_hash", whatConfig}, {"definition.definition_hash", s.def + "definition_hash", whatDef}, {"lock.hash", "lock_hash", whatLock}} {
			s.skip(x[0], x[1], x[2], "the format version isn't known")
		}
		return cluster.Root{}, false
	}
	configOK := s.checkConfigHash(d, lock)
	defOK := s.checkDefinitionHash(d, lock)
	computed, err := lock.ComputeHash()
	ok = err == nil
	field := "lock_hash"
	if err == nil && computed != lock.LockHash {
		if configOK && defOK {
			field = "{lock_hash,distributed_validators}"
			err = fmt.Errorf("the file says %s, its content gives %s: the hash itself or something in distributed_validators was changed", lock.LockHash, computed)
		} else {
			err = fmt.Errorf("the file says %s, its content gives %s: see the hashes of the definition", lock.LockHash, computed)
		}
	}
	s.check("lock.hash", field, whatLock, err, remedyChanged)
	return computed, ok
}

// checkConfigHash recomputes the config hash. Where the content doesn't fit, it finds out which
// value was changed, as far as the rest of the file tells: lock is nil for a definition alone.
func (s *sheet) checkConfigHash(d *cluster.Definition, lock *cluster.Lock) bool {
	config, err := d.ComputeConfigHash()
	field := s.def + "config_hash"
	if err == nil && config != d.ConfigHash {
		mended := *d
		mended.ConfigHash = config
		if again, e := mended.ComputeDefinitionHash(); e == nil && again == d.DefinitionHash {
			err = fmt.Errorf("the file says %s, the rest of the file fits %s: this hash itself was changed", d.ConfigHash, config)
		} else {
			at, hint := blame(d, lock)
			field = s.def + at
			err = fmt.Errorf("the file says %s, its content gives %s: %s", d.ConfigHash, config, hint)
		}
	}
	return s.check("definition.config_hash", field, whatConfig, err, remedyChanged)
}

func (s *sheet) checkDefinitionHash(d *cluster.Definition, lock *cluster.Lock) bool {
	def, err := d.ComputeDefinitionHash()
	field := s.def + "definition_hash"
	if err == nil && def != d.DefinitionHash {
		config, configErr := d.ComputeConfigHash()
		var lockErr error
		var whole cluster.Root
		if lock != nil {
			whole, lockErr = lock.ComputeHash()
		}
		switch {
		case lock != nil && lockErr == nil && whole == lock.LockHash:
			err = fmt.Errorf("the file says %s, the rest of the file fits %s: this hash itself was changed", d.DefinitionHash, def)
		case configErr == nil && config == d.ConfigHash && lock == nil:
			err = fmt.Errorf("the file says %s, its content gives %s: an ENR, a wallet signature or this hash was changed", d.DefinitionHash, def)
			field = s.def + "{operators,creator,definition_hash}"
		case configErr == nil && config == d.ConfigHash:
			err = fmt.Errorf("the file says %s, its content gives %s: an ENR or a wallet signature was changed", d.DefinitionHash, def)
			field = s.def + "{operators,creator}"
		default:
			err = fmt.Errorf("the file says %s, its content gives %s: see definition.config_hash", d.DefinitionHash, def)
		}
	}
	return s.check("definition.definition_hash", field, whatDef, err, remedyChanged)
}

// blame finds the value of a definition that was changed: the one with which, put back to what else
// the file says or to another value that it can have, the config hash fits. It returns the path and
// what to tell.
func blame(d *cluster.Definition, lock *cluster.Lock) (field, hint string) {
	budget := blameBudget
	fits := func(change func(*cluster.Definition)) bool {
		if budget -= len(d.Operators) + len(d.Validators) + 16; budget < 0 {
			return false
		}
		mended := *d
		mended.Operators, mended.Validators = slices.Clone(d.Operators), slices.Clone(d.Validators)
		change(&mended)
		got, err := mended.ComputeConfigHash()
		return err == nil && got == d.ConfigHash
	}
	if lock != nil && len(lock.Validators) > 0 {
		if n := len(lock.Validators[0].PublicShares); n != len(d.Operators) {
			return "operators", fmt.Sprintf("operators was changed: there are %d, and each validator has %d shares", len(d.Operators), n)
		}
		if n := len(lock.Validators); n == d.NumValidators && n != len(d.Validators) {
			return "validators", fmt.Sprintf("validators was changed: there are %d address pairs for %d validators", len(d.Validators), n)
		}
	}
	// Values that can be one of a few.
	for _, v := range cluster.FormatVersions() {
		if fits(func(m *cluster.Definition) { m.Version = v }) {
			return "version", fmt.Sprintf("version was changed, it was %s", v)
		}
	}
	for t := range min(len(d.Operators), cluster.MaxOperators) + 1 {
		if fits(func(m *cluster.Definition) { m.Threshold = cluster.Threshold(t) }) {
			return "threshold", fmt.Sprintf("threshold was changed, it was %d", t)
		}
	}
	counts := []int{len(d.Validators)}
	if lock != nil {
		counts = append(counts, len(lock.Validators))
	}
	for _, n := range counts {
		if fits(func(m *cluster.Definition) { m.NumValidators = n }) {
			return "num_validators", fmt.Sprintf("num_validators was changed, it was %d", n)
		}
	}
	for _, x := range dkgKnown {
		if fits(func(m *cluster.Definition) { m.DKGAlgorithm = x }) {
			return "dkg_algorithm", fmt.Sprintf("dkg_algorithm was changed, it was %q", x)
		}
	}
	for _, x := range consensusAll {
		if fits(func(m *cluster.Definition) { m.ConsensusProtocol = x }) {
			return "consensus_protocol", fmt.Sprintf("consensus_protocol was changed, it was %q", x)
		}
	}
	for _, n := range cluster.Networks() {
		if fits(func(m *cluster.Definition) { m.ForkVersion = n.Fork }) {
			return "fork_version", fmt.Sprintf("fork_version was changed, it was that of %s", n.Name)
		}
	}
	if fits(func(m *cluster.Definition) { m.Compounding = !m.Compounding }) {
		return "compounding", fmt.Sprintf("compounding was changed, it was %v", !d.Compounding)
	}
	limits := []uint64{30_000_000, 36_000_000, 45_000_000, 60_000_000, 100_000_000}
	amounts := [][]cluster.Gwei{nil, {32 * cluster.Ether}, {cluster.Ether, 32 * cluster.Ether}}
	if lock != nil && len(lock.Validators) > 0 {
		limits = append(limits, lock.Validators[0].Registration.Message.GasLimit)
		var all []cluster.Gwei
		for _, dep := range lock.Validators[0].Deposits {
			all = append(all, dep.Amount)
		}
		amounts = append(amounts, all)
	}
	for _, x := range limits {
		if fits(func(m *cluster.Definition) { m.TargetGasLimit = x }) {
			return "target_gas_limit", fmt.Sprintf("target_gas_limit was changed, it was %d", x)
		}
	}
	for _, x := range amounts {
		if fits(func(m *cluster.Definition) { m.DepositAmounts = x }) {
			return "deposit_amounts", fmt.Sprintf("deposit_amounts was changed, it was %v", x)
		}
	}
	if at, hint := blameAddress(d, lock, fits); at != "" {
		return at, hint
	}
	// Nothing else in the file knows these.
	candidates := []string{"name", "uuid", "timestamp", "operators"}
	if lock == nil || len(lock.Validators) == 0 || !d.Version.HasRegistrations() {
		candidates = append(candidates, "validators")
		if d.Version.HasRegistrations() {
			candidates = append(candidates, "deposit_amounts", "target_gas_limit")
		}
	} else if len(lock.Validators[0].Deposits) == 0 {
		candidates = append(candidates, "validators", "deposit_amounts")
	}
	if len(d.DepositAmounts) > 0 && !slices.Contains(candidates, "deposit_amounts") {
		candidates = append(candidates, "deposit_amounts")
	}
	if len(d.Creator.ConfigSignature) != 65 {
		candidates = append(candidates, "creator")
	}
	return "{" + strings.Join(candidates, ",") + "}", "one of " + strings.Join(candidates, ", ") + " was changed, or several values were"
}

// blameAddress tries the addresses that the signatures and the validators' own messages have.
func blameAddress(d *cluster.Definition, lock *cluster.Lock, fits func(func(*cluster.Definition)) bool) (field, hint string) {
	was := func(what string, a cluster.AddressText) (string, string) {
		return what, fmt.Sprintf("%s was changed, it was %s", what, a)
	}
	network, known := cluster.NetworkByFork(d.ForkVersion)
	signer := func(kind enr.TypedText, sig cluster.HexBytes) (cluster.AddressText, bool) {
		if !known || len(sig) != 65 {
			return "", false
		}
		a, err := enr.RecoverAddress(kind.Digest(network.ChainID, d.ConfigHash.String()), sig)
		return cluster.AddressText(a.Checksummed(enr.Keccak256)), err == nil
	}
	creators := []cluster.AddressText{""}
	if a, ok := signer(enr.CreatorConfig, d.Creator.ConfigSignature); ok {
		creators = append(creators, a)
	}
	for _, a := range creators {
		if fits(func(m *cluster.Definition) { m.Creator.Address = a }) {
			return was("creator.address", a)
		}
	}
	for i, o := range d.Operators {
		all := []cluster.AddressText{""}
		if a, ok := signer(enr.OperatorConfig, o.ConfigSignature); ok {
			all = append(all, a)
		}
		for _, a := range all {
			if fits(func(m *cluster.Definition) { m.Operators[i].Address = a }) {
				return was(index("operators", i)+".address", a)
			}
		}
	}
	// One address for all is usual, so the others' are tried too.
	for i := range d.Validators {
		var fees, withdrawals []cluster.AddressText
		if lock != nil && i < len(lock.Validators) {
			fees = append(fees, lock.Validators[i].Registration.Message.FeeRecipient)
			if deposits := lock.Validators[i].Deposits; len(deposits) > 0 {
				withdrawals = append(withdrawals, cluster.AddressText(cluster.ETHAddress(deposits[0].WithdrawalCredentials[12:]).String()))
			}
		}
		if other := (i + 1) % len(d.Validators); other != i {
			fees, withdrawals = append(fees, d.Validators[other].FeeRecipient), append(withdrawals, d.Validators[other].Withdrawal)
		}
		for _, a := range fees {
			if fits(func(m *cluster.Definition) { m.Validators[i].FeeRecipient = a }) {
				return was(index("validators", i)+".fee_recipient_address", a)
			}
		}
		for _, a := range withdrawals {
			if fits(func(m *cluster.Definition) { m.Validators[i].Withdrawal = a }) {
				return was(index("validators", i)+".withdrawal_address", a)
			}
		}
		if i >= maxBlamed {
			break
		}
	}
	return "", ""
}

// Each try hashes the whole definition, so the search is bounded: by address pairs that are looked
// at, and by what is hashed in all. A second or two of a hostile file, nothing of an honest one.
const (
	maxBlamed   = 64
	blameBudget = 4 << 20
)

func (s *sheet) checkNetwork(d *cluster.Definition, known bool) {
	const what = "the fork version names a network"
	if known {
		s.check("definition.network", s.def+"fork_version", what, nil, "")
		return
	}
	s.skip("definition.network", s.def+"fork_version", what, fmt.Sprintf("no network with the genesis fork version %s is known here; it may be a private one", d.ForkVersion))
}

var (
	uuidPattern  = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	dkgKnown     = []string{"", "default", "frost", "pedersen"}
	consensusAll = []string{"", "qbft"}
)

// checkShape looks at numbers and plain values of the definition; lock is nil where there is none.
func checkShape(s *sheet, d *cluster.Definition, lock *cluster.Lock) {
	n := len(d.Operators)

	var err error
	if n < 2 || n > cluster.MaxOperators {
		err = fmt.Errorf("found %d operators, want 2 to %d", n, cluster.MaxOperators)
	}
	s.check("definition.operators", s.def+"operators", "the number of nodes is possible", err, remedyForeign)

	err = nil
	if d.Threshold < 2 || int(d.Threshold) > n {
		err = fmt.Errorf("found %d for %d nodes, want 2 to %d", d.Threshold, n, n)
	} else if d.Threshold.Low(n) {
		s.finding("definition.threshold_low", fmt.Sprintf("the threshold %d of %d is below two thirds, so fewer nodes than consensus needs could sign on their own", d.Threshold, n),
			fmt.Sprintf("for a new cluster choose %d or more", cluster.DefaultThreshold(n)))
	}
	s.check("definition.threshold", s.def+"threshold", "the threshold is possible", err, remedyForeign)

	err = nil
	if lock == nil {
		if d.NumValidators < 1 || d.NumValidators != len(d.Validators) {
			err = fmt.Errorf("num_validators is %d, there are %d address pairs; both must be equal and at least 1", d.NumValidators, len(d.Validators))
		}
	} else if d.NumValidators < 1 || d.NumValidators != len(d.Validators) || d.NumValidators != len(lock.Validators) {
		err = fmt.Errorf("num_validators is %d, there are %d address pairs and %d distributed validators; all must be equal and at least 1",
			d.NumValidators, len(d.Validators), len(lock.Validators))
	}
	s.check("definition.num_validators", s.def+"num_validators", "the number of validators is the same everywhere", err, remedyForeign)

	field, err := checkAddresses(s.def, d)
	s.check("definition.addresses", field, "addresses are whole and their EIP-55 checksums right", err, remedyForeign)

	field, err = strings.TrimSuffix(s.def, "."), nil
	_, timeErr := time.Parse(time.RFC3339, d.Timestamp)
	switch {
	case !uuidPattern.MatchString(d.UUID):
		field, err = s.def+"uuid", errors.New("not a UUID")
	case timeErr != nil:
		field, err = s.def+"timestamp", errors.New("not an RFC 3339 time")
	case !slices.Contains(dkgKnown, d.DKGAlgorithm):
		field, err = s.def+"dkg_algorithm", fmt.Errorf("%.40q isn't known", d.DKGAlgorithm)
	case !slices.Contains(consensusAll, d.ConsensusProtocol):
		field, err = s.def+"consensus_protocol", fmt.Errorf("%.40q isn't known", d.ConsensusProtocol)
	}
	s.check("definition.values", field, "uuid, time, key generation and consensus protocol are known", err, remedyForeign)
}

func checkAddresses(base string, d *cluster.Definition) (field string, err error) {
	check := func(f string, text cluster.AddressText, mayBeEmpty bool) bool {
		if text == "" && mayBeEmpty {
			return true
		}
		// Addresses without 0x are in use too.
		full := "0x" + strings.TrimPrefix(string(text), "0x")
		if _, err = cluster.ParseETHAddress(full, enr.Keccak256); err != nil {
			field = base + f
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
	return strings.TrimSuffix(base, "."), nil
}

func checkOperators(s *sheet, d *cluster.Definition, network cluster.Network, known bool, facts *lockFacts, joining bool) {
	first := map[enr.PubKey]int{}
	var twice error
	for i, o := range d.Operators {
		f := s.def + index("operators", i) + ".enr"
		if joining && o.ENR == "" && len(o.ConfigSignature) == 0 && len(o.ENRSignature) == 0 {
			s.skip(index("operator", i)+".enr", f, "the node record is whole and signed by its own key", "the operator hasn't added it yet")
			continue
		}
		rec, err := enr.Parse(o.ENR)
		if s.check(index("operator", i)+".enr", f, "the node record is whole and signed by its own key", err, remedyChanged) {
			key := rec.PubKey
			facts.nodeKeys[i] = &key
			if j, ok := first[key]; ok {
				twice = fmt.Errorf("operators %d and %d have the same node key", j, i)
			}
			first[key] = i
		}
	}
	s.check("definition.enrs_unique", s.def+"operators", "every node has its own key", twice, remedyForeign)

	const whatAll = "either all operators signed the definition with a wallet, or none did"
	if !d.Signed() {
		s.check("definition.wallet_signatures", s.def+"operators", whatAll, nil, "")
		return
	}
	var missing error
	waiting := 0
	for i, o := range d.Operators {
		if joining && o.ENR == "" && len(o.ConfigSignature) == 0 && len(o.ENRSignature) == 0 {
			waiting++
			continue
		}
		if d.OperatorsSigned() && (o.Address == "" || len(o.ConfigSignature) == 0 || len(o.ENRSignature) == 0) {
			missing = fmt.Errorf("operator %d lacks its address or a signature, while others have theirs", i)
			break
		}
	}
	if missing == nil && (d.Creator.Address == "") != (len(d.Creator.ConfigSignature) == 0) {
		missing = errors.New("of the creator's address and signature only one is there")
	} else if missing == nil && d.Creator.Address == "" {
		missing = errors.New("the creator's address and signature are missing, while the operators have theirs")
	}
	if missing == nil && waiting > 0 {
		s.skip("definition.wallet_signatures", s.def+"operators", whatAll, fmt.Sprintf("%d of %d operators haven't joined yet", waiting, len(d.Operators)))
	} else {
		s.check("definition.wallet_signatures", s.def+"operators", whatAll, missing, remedyForeign)
	}

	wallet := func(id, field, what string, kind enr.TypedText, address cluster.AddressText, value string, sig cluster.HexBytes) {
		field = s.def + field
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
			s.skip(id, field, what, "not checked, it needs an execution client: "+err.Error())
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
