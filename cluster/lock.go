package cluster

import (
	"encoding/json"
	"fmt"
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
	Deposits     []Deposit // ascending amounts; may be left out
	Extra        map[string]json.RawMessage
}

// Lock is a finished cluster: the definition plus its validators, with the proof that all nodes
// agreed.
type Lock struct {
	Definition         Definition
	Validators         []Validator
	SignatureAggregate Signature  // plain sum of every share's signature over the lock hash
	LockHash           Root       // as stored; ComputeHash says what it must be
	NodeSignatures     []HexBytes // R, S, V over the lock hash by each operator's ENR key
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

// MarshalJSON writes a distributed validator.
func (v Validator) MarshalJSON() ([]byte, error) {
	m := []member{{"distributed_public_key", v.PubKey}, {"public_shares", v.PublicShares}, {"builder_registration", v.Registration}}
	if len(v.Deposits) > 0 {
		m = append(m, member{"partial_deposit_data", v.Deposits})
	}
	return writeObject(v.Extra, m...)
}

// UnmarshalJSON reads a distributed validator.
func (v *Validator) UnmarshalJSON(data []byte) (err error) {
	v.Extra, err = readObject(data, member{"distributed_public_key", &v.PubKey}, member{"public_shares", &list[PubKey]{&v.PublicShares}},
		member{"builder_registration", &v.Registration}, member{"partial_deposit_data", &list[Deposit]{&v.Deposits}})
	return err
}

// MarshalJSON writes the lock in the order of the format.
func (l Lock) MarshalJSON() ([]byte, error) {
	return writeObject(l.Extra, member{"cluster_definition", l.Definition}, member{"distributed_validators", l.Validators},
		member{"signature_aggregate", l.SignatureAggregate}, member{"lock_hash", l.LockHash}, member{"node_signatures", l.NodeSignatures})
}

// UnmarshalJSON reads a lock. Errors are *FieldError with the path of the value that is wrong, or a
// *json.SyntaxError.
func (l *Lock) UnmarshalJSON(data []byte) (err error) {
	var out Lock
	out.Extra, err = readObject(data, member{"cluster_definition", &out.Definition}, member{"distributed_validators", &list[Validator]{&out.Validators}},
		member{"signature_aggregate", &out.SignatureAggregate}, member{"lock_hash", &out.LockHash}, member{"node_signatures", &list[HexBytes]{&out.NodeSignatures}})
	if err != nil {
		return err
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
		if roots[i], err = l.Validators[i].root(); err != nil {
			return Root{}, at(fmt.Sprintf("distributed_validators[%d]", i), err)
		}
	}
	validators, err := listRoot("distributed_validators", roots, MaxValidators)
	if err != nil {
		return Root{}, err
	}
	return container(def, validators), nil
}

func (v *Validator) root() (Root, error) {
	shares := make([]Root, len(v.PublicShares))
	for i, s := range v.PublicShares {
		shares[i] = s.root()
	}
	sharesRoot, err := listRoot("public_shares", shares, MaxOperators)
	if err != nil {
		return Root{}, err
	}
	deposits := make([]Root, len(v.Deposits))
	for i, d := range v.Deposits {
		deposits[i] = d.DataRoot(d.Signature)
	}
	depositsRoot, err := listRoot("partial_deposit_data", deposits, 256)
	if err != nil {
		return Root{}, err
	}
	message, err := v.Registration.Message.Root()
	if err != nil {
		return Root{}, at("builder_registration.message.fee_recipient", err)
	}
	registration := container(message, v.Registration.Signature.root())
	return container(v.PubKey.root(), sharesRoot, depositsRoot, registration), nil
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
			out = appendKeys(out, fmt.Sprintf("%spartial_deposit_data[%d].", prefix, j), d.Extra)
		}
	}
	return out
}
