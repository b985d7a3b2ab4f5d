package cluster

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Registration is a validator's signed message to block builders.
type Registration struct {
	Message   RegistrationMessage
	Signature Signature
	Extra     map[string]json.RawMessage // unknown keys beside message and signature
	inner     map[string]json.RawMessage // unknown keys of the message
}

// Deposit is one signed deposit of a validator.
type Deposit struct {
	DepositMessage
	Signature Signature
	Extra     map[string]json.RawMessage
}

// Validator is one distributed validator: its key on chain and the public shares of its nodes.
type Validator struct {
	PubKey       PubKey
	PublicShares []PubKey // in the order of the operators; place i holds ShareIndex i+1
	Registration Registration
	Deposits     []Deposit // ascending amounts; may be left out; v1.6 and v1.7 have one, v1.5 none
	Extra        map[string]json.RawMessage
}

// Lock is a finished cluster: the definition plus its validators, with the proof that all nodes
// agreed.
type Lock struct {
	Definition         Definition
	Validators         []Validator
	SignatureAggregate Signature  // plain sum of every share's signature over the lock hash
	LockHash           Root       // as stored; ComputeHash says what it must be
	NodeSignatures     []HexBytes // R, S, V over the lock hash by each operator's ENR key; from v1.7 on
	Extra              map[string]json.RawMessage
}

// MarshalJSON writes a registration.
func (r Registration) MarshalJSON() ([]byte, error) {
	message, err := writeObject(r.inner, member{"fee_recipient", r.Message.FeeRecipient}, member{"gas_limit", r.Message.GasLimit},
		member{"timestamp", r.Message.TimestampUnix}, member{"pubkey", r.Message.PubKey})
	if err != nil {
		return nil, err
	}
	return writeObject(r.Extra, member{"message", json.RawMessage(message)}, member{"signature", r.Signature})
}

// UnmarshalJSON reads a registration.
func (r *Registration) UnmarshalJSON(data []byte) (err error) {
	var message json.RawMessage
	if r.Extra, err = readObject(data, member{"message", &message}, member{"signature", &r.Signature}); err != nil {
		return err
	}
	if message == nil {
		return nil
	}
	r.inner, err = readObject(message, member{"fee_recipient", &r.Message.FeeRecipient}, member{"gas_limit", &r.Message.GasLimit},
		member{"timestamp", &r.Message.TimestampUnix}, member{"pubkey", &r.Message.PubKey})
	if err != nil {
		return at("message", err)
	}
	return nil
}

// MarshalJSON writes a deposit as the lock has it.
func (d Deposit) MarshalJSON() ([]byte, error) {
	return writeObject(d.Extra, member{"pubkey", d.PubKey}, member{"withdrawal_credentials", d.WithdrawalCredentials},
		member{"amount", gweiText(d.Amount)}, member{"signature", d.Signature})
}

// UnmarshalJSON reads a deposit as the lock has it.
func (d *Deposit) UnmarshalJSON(data []byte) (err error) {
	var amount gweiText
	d.Extra, err = readObject(data, member{"pubkey", &d.PubKey}, member{"withdrawal_credentials", &d.WithdrawalCredentials},
		member{"amount", &amount}, member{"signature", &d.Signature})
	d.Amount = Gwei(amount)
	return err
}

// MarshalJSON writes a distributed validator as the newest version has it.
func (v Validator) MarshalJSON() ([]byte, error) { return v.write("") }

// UnmarshalJSON reads a distributed validator of the newest version.
func (v *Validator) UnmarshalJSON(data []byte) error { return v.read(data, "") }

// fits says why a validator can't be written as an old version has it without losing something.
func (v *Validator) fits(version FormatVersion) error {
	switch {
	case len(v.Deposits) > 0 && !version.has(6):
		return at("deposit_data", fmt.Errorf("%s has no room for deposits", version))
	case len(v.Deposits) > 1 && !version.has(8):
		return at("deposit_data", fmt.Errorf("%s has room for one deposit, found %d", version, len(v.Deposits)))
	case !version.has(7) && (v.Registration.Message != RegistrationMessage{} || v.Registration.Signature != Signature{}):
		return at("builder_registration", fmt.Errorf("%s has no room for it", version))
	default:
		return nil
	}
}

func (v Validator) write(version FormatVersion) ([]byte, error) {
	if err := v.fits(version); err != nil {
		return nil, err
	}
	m := []member{{"distributed_public_key", v.PubKey}, {"public_shares", v.PublicShares}}
	if !version.has(8) && len(v.Deposits) == 1 {
		m = append(m, member{"deposit_data", v.Deposits[0]})
	}
	if version.has(7) {
		m = append(m, member{"builder_registration", v.Registration})
	}
	if version.has(8) && len(v.Deposits) > 0 {
		m = append(m, member{"partial_deposit_data", v.Deposits})
	}
	return writeObject(v.Extra, m...)
}

func (v *Validator) read(data []byte, version FormatVersion) (err error) {
	var out Validator
	var deposit json.RawMessage
	m := []member{{"distributed_public_key", &out.PubKey}, {"public_shares", &list[PubKey]{&out.PublicShares}}}
	if version.has(7) {
		m = append(m, member{"builder_registration", &out.Registration})
	}
	switch {
	case version.has(8):
		m = append(m, member{"partial_deposit_data", &list[Deposit]{&out.Deposits}})
	case version.has(6):
		m = append(m, member{"deposit_data", &deposit})
	}
	if out.Extra, err = readObject(data, m...); err != nil {
		return err
	}
	if deposit != nil {
		out.Deposits = make([]Deposit, 1)
		if err := json.Unmarshal(deposit, &out.Deposits[0]); err != nil {
			return at("deposit_data", err)
		}
	}
	*v = out
	return nil
}

// versionedValidators writes validators as a version has them.
type versionedValidators struct {
	version FormatVersion
	items   []Validator
}

func (v versionedValidators) MarshalJSON() ([]byte, error) {
	if v.items == nil {
		return []byte("null"), nil
	}
	raws := make([]json.RawMessage, len(v.items))
	for i := range v.items {
		raw, err := v.items[i].write(v.version)
		if err != nil {
			return nil, at("["+strconv.Itoa(i)+"]", err)
		}
		raws[i] = raw
	}
	return json.Marshal(raws)
}

// MarshalJSON writes the lock as its definition's version has it, in the order of the format.
func (l Lock) MarshalJSON() ([]byte, error) {
	version := l.Definition.Version
	m := []member{{"cluster_definition", l.Definition}, {"distributed_validators", versionedValidators{version, l.Validators}},
		{"signature_aggregate", l.SignatureAggregate}, {"lock_hash", l.LockHash}}
	if version.has(7) {
		m = append(m, member{"node_signatures", l.NodeSignatures})
	}
	return writeObject(l.Extra, m...)
}

// UnmarshalJSON reads a lock. Errors are *FieldError with the path of the value that is wrong, or a
// *json.SyntaxError. Keys that the file's own version doesn't have are unknown ones.
func (l *Lock) UnmarshalJSON(data []byte) (err error) {
	var out Lock
	var validators list[json.RawMessage]
	var raws []json.RawMessage
	validators.items = &raws
	var nodes json.RawMessage
	out.Extra, err = readObject(data, member{"cluster_definition", &out.Definition}, member{"distributed_validators", &validators},
		member{"signature_aggregate", &out.SignatureAggregate}, member{"lock_hash", &out.LockHash}, member{"node_signatures", &nodes})
	if err != nil {
		return err
	}
	version := out.Definition.Version
	if raws != nil {
		out.Validators = make([]Validator, len(raws))
	}
	for i, raw := range raws {
		if err := out.Validators[i].read(raw, version); err != nil {
			return at("distributed_validators", at("["+strconv.Itoa(i)+"]", err))
		}
	}
	switch {
	case nodes == nil:
	case version.has(7):
		if err := json.Unmarshal(nodes, &list[HexBytes]{&out.NodeSignatures}); err != nil {
			return at("node_signatures", err)
		}
	default:
		if out.Extra == nil {
			out.Extra = map[string]json.RawMessage{}
		}
		out.Extra["node_signatures"] = nodes
	}
	*l = out
	return nil
}

// Encode returns the bytes of a lock file: indented by one space, no newline at the end.
func (l *Lock) Encode() ([]byte, error) { return json.MarshalIndent(l, "", " ") }

// ComputeHash returns the hash of the definition and the validators, which the nodes sign.
func (l *Lock) ComputeHash() (Root, error) {
	def, err := l.Definition.ComputeDefinitionHash()
	if err != nil {
		return Root{}, err
	}
	roots := make([]Root, len(l.Validators))
	for i := range l.Validators {
		if roots[i], err = l.Validators[i].root(l.Definition.Version); err != nil {
			return Root{}, at(fmt.Sprintf("distributed_validators[%d]", i), err)
		}
	}
	validators, err := listRoot("distributed_validators", roots, MaxValidators)
	if err != nil {
		return Root{}, err
	}
	return container(def, validators), nil
}

func (v *Validator) root(version FormatVersion) (Root, error) {
	if err := v.fits(version); err != nil {
		return Root{}, err
	}
	shares := make([]Root, len(v.PublicShares))
	for i, s := range v.PublicShares {
		shares[i] = s.root()
	}
	sharesRoot, err := listRoot("public_shares", shares, MaxOperators)
	if err != nil {
		return Root{}, err
	}
	fields := []Root{v.PubKey.root(), sharesRoot}
	switch {
	case version.has(8):
		deposits := make([]Root, len(v.Deposits))
		for i, d := range v.Deposits {
			deposits[i] = d.DataRoot(d.Signature)
		}
		depositsRoot, err := listRoot("partial_deposit_data", deposits, 256)
		if err != nil {
			return Root{}, err
		}
		fields = append(fields, depositsRoot)
	case version.has(6):
		var d Deposit
		if len(v.Deposits) == 1 {
			d = v.Deposits[0]
		}
		if version.has(7) {
			fields = append(fields, d.DataRoot(d.Signature))
		} else {
			// In v1.6 the deposit's fields stand among the validator's own, without a level of their own.
			fields = append(fields, d.PubKey.root(), d.WithdrawalCredentials, uintRoot(uint64(d.Amount)), d.Signature.root())
		}
	}
	if version.has(7) {
		message, err := v.Registration.Message.Root()
		if err != nil {
			return Root{}, at("builder_registration.message.fee_recipient", err)
		}
		fields = append(fields, container(message, v.Registration.Signature.root()))
	}
	return container(fields...), nil
}

// UnknownKeys lists the paths of keys that this version of the format doesn't know. No hash covers
// them.
func (l *Lock) UnknownKeys() []string {
	out := appendKeys(nil, "", l.Extra)
	for _, key := range l.Definition.UnknownKeys() {
		out = append(out, "cluster_definition."+key)
	}
	for i, v := range l.Validators {
		prefix := fmt.Sprintf("distributed_validators[%d].", i)
		out = appendKeys(out, prefix, v.Extra)
		out = appendKeys(out, prefix+"builder_registration.", v.Registration.Extra)
		out = appendKeys(out, prefix+"builder_registration.message.", v.Registration.inner)
		for j, d := range v.Deposits {
			out = appendKeys(out, prefix+l.DepositField(j)+".", d.Extra)
		}
	}
	return out
}

// DepositField is the key of a validator's deposit in the file, by its place in Deposits.
func (l *Lock) DepositField(j int) string {
	if l.Definition.Version.has(8) {
		return fmt.Sprintf("partial_deposit_data[%d]", j)
	}
	return "deposit_data"
}
