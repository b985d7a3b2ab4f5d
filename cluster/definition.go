package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// FormatVersion names a version of the definition and lock format, as in "v1.10.0".
type FormatVersion string

// The versions this package reads, hashes and writes: Definition.Version decides the keys that are
// written and the fields that are hashed. New clusters are V1_10 unless asked otherwise: every
// Charon since v1.3.0 reads it, and nothing that a cluster needs is missing from it.
//
//	v1.5   addresses for each validator; the lock has keys and shares only
//	v1.6   the lock carries one deposit per validator
//	v1.7   the lock carries builder registrations and the nodes' signatures
//	v1.8   several deposit amounts
//	v1.9   adds consensus_protocol
//	v1.10  adds target_gas_limit and compounding
//	v1.11  operator and creator signatures may be several, concatenated
const (
	V1_5  FormatVersion = "v1.5.0"
	V1_6  FormatVersion = "v1.6.0"
	V1_7  FormatVersion = "v1.7.0"
	V1_8  FormatVersion = "v1.8.0"
	V1_9  FormatVersion = "v1.9.0"
	V1_10 FormatVersion = "v1.10.0"
	V1_11 FormatVersion = "v1.11.0"
)

// DefaultFormatVersion is what new clusters are written as.
const DefaultFormatVersion = V1_10

var formatVersions = []FormatVersion{V1_5, V1_6, V1_7, V1_8, V1_9, V1_10, V1_11}

// FormatVersions returns a copy of the list of known versions, the oldest first.
func FormatVersions() []FormatVersion { return slices.Clone(formatVersions) }

// ErrFormatVersion means that a file has a format version which isn't known here.
var ErrFormatVersion = errors.New("unknown format version")

func (v FormatVersion) minor() int {
	if i := slices.Index(formatVersions, v); i >= 0 {
		return 5 + i
	}
	return 0
}

// has reports whether the format has what a minor version added. A version that isn't known may be
// a newer one, which has all that is known here.
func (v FormatVersion) has(addedIn int) bool { return v.minor() == 0 || v.minor() >= addedIn }

// HasDeposits reports whether locks of the version carry deposits.
func (v FormatVersion) HasDeposits() bool { return v.has(6) }

// HasDepositLists reports whether locks of the version carry the deposits of all amounts. Before,
// there was room for one, and the others are in deposit files only.
func (v FormatVersion) HasDepositLists() bool { return v.has(8) }

// HasRegistrations reports whether locks of the version carry builder registrations.
func (v FormatVersion) HasRegistrations() bool { return v.has(7) }

// HasNodeSignatures reports whether locks of the version carry the nodes' signatures.
func (v FormatVersion) HasNodeSignatures() bool { return v.has(7) }

// HasSignatureLists reports whether a wallet's signature may be several, concatenated.
func (v FormatVersion) HasSignatureLists() bool { return v.has(11) }

// Supported returns nil for a version that can be read, else ErrFormatVersion with the list.
func (v FormatVersion) Supported() error {
	if v.minor() != 0 {
		return nil
	}
	return fmt.Errorf("%w %q: this program reads %s to %s", ErrFormatVersion, shorten(string(v)), formatVersions[0], formatVersions[len(formatVersions)-1])
}

// MaxOperators and MaxValidators are the limits of the format's lists.
const (
	MaxOperators  = 256
	MaxValidators = 65536
	MaxNameBytes  = 256
	// MaxSigners is how many signatures of one contract wallet a v1.11 field may hold.
	MaxSigners = 32
)

// Creator is who asked for the cluster; empty in a cluster that one process made.
type Creator struct {
	Address         AddressText
	ConfigSignature HexBytes
	Extra           map[string]json.RawMessage // keys this version doesn't know
}

// Operator is one node of the cluster. Its place in the list fixes its peer and share index.
type Operator struct {
	Address         AddressText
	ENR             string // EIP-778 text, the node's network identity
	ConfigSignature HexBytes
	ENRSignature    HexBytes
	Extra           map[string]json.RawMessage
}

// ValidatorAddresses say where one validator's fees and withdrawals go.
type ValidatorAddresses struct {
	FeeRecipient AddressText
	Withdrawal   AddressText
	Extra        map[string]json.RawMessage
}

// Definition is the intended cluster: who, how many, for whom, on which network.
type Definition struct {
	Name              string // cosmetic, at most 256 bytes
	Creator           Creator
	Operators         []Operator
	UUID              string
	Version           FormatVersion
	Timestamp         string // RFC 3339; the text is hashed, so it is kept as it is
	NumValidators     int
	Threshold         Threshold
	Validators        []ValidatorAddresses
	DKGAlgorithm      string
	ForkVersion       ForkVersion
	DepositAmounts    []Gwei // nil: the defaults
	ConsensusProtocol string
	TargetGasLimit    uint64
	Compounding       bool
	ConfigHash        Root // as stored; ComputeConfigHash says what it must be
	DefinitionHash    Root // as stored; ComputeDefinitionHash says what it must be
	Extra             map[string]json.RawMessage
}

// MarshalJSON writes the creator object of a definition.
func (c Creator) MarshalJSON() ([]byte, error) {
	return writeObject(c.Extra, member{"address", c.Address}, member{"config_signature", c.ConfigSignature})
}

// UnmarshalJSON reads the creator object of a definition.
func (c *Creator) UnmarshalJSON(data []byte) (err error) {
	c.Extra, err = readObject(data, member{"address", &c.Address}, member{"config_signature", &c.ConfigSignature})
	return err
}

// MarshalJSON writes one operator of a definition.
func (o Operator) MarshalJSON() ([]byte, error) {
	return writeObject(o.Extra, member{"address", o.Address}, member{"enr", o.ENR},
		member{"config_signature", o.ConfigSignature}, member{"enr_signature", o.ENRSignature})
}

// UnmarshalJSON reads one operator of a definition.
func (o *Operator) UnmarshalJSON(data []byte) (err error) {
	o.Extra, err = readObject(data, member{"address", &o.Address}, member{"enr", &o.ENR},
		member{"config_signature", &o.ConfigSignature}, member{"enr_signature", &o.ENRSignature})
	return err
}

// MarshalJSON writes one address pair of a definition.
func (v ValidatorAddresses) MarshalJSON() ([]byte, error) {
	return writeObject(v.Extra, member{"fee_recipient_address", v.FeeRecipient}, member{"withdrawal_address", v.Withdrawal})
}

// UnmarshalJSON reads one address pair of a definition.
func (v *ValidatorAddresses) UnmarshalJSON(data []byte) (err error) {
	v.Extra, err = readObject(data, member{"fee_recipient_address", &v.FeeRecipient}, member{"withdrawal_address", &v.Withdrawal})
	return err
}

// MarshalJSON writes the definition with the keys that its version has, in the order of the format.
func (d Definition) MarshalJSON() ([]byte, error) {
	var m []member
	if d.Name != "" {
		m = append(m, member{"name", d.Name})
	}
	var amounts []gweiText
	if d.DepositAmounts != nil {
		amounts = make([]gweiText, len(d.DepositAmounts))
		for i, a := range d.DepositAmounts {
			amounts[i] = gweiText(a)
		}
	}
	m = append(m, member{"creator", d.Creator}, member{"operators", d.Operators}, member{"uuid", d.UUID},
		member{"version", d.Version})
	if d.Timestamp != "" {
		m = append(m, member{"timestamp", d.Timestamp})
	}
	m = append(m, member{"num_validators", d.NumValidators}, member{"threshold", d.Threshold}, member{"validators", d.Validators}, member{"dkg_algorithm", d.DKGAlgorithm},
		member{"fork_version", d.ForkVersion})
	if d.Version.has(8) {
		m = append(m, member{"deposit_amounts", amounts})
	}
	if d.Version.has(9) {
		m = append(m, member{"consensus_protocol", d.ConsensusProtocol})
	}
	if d.Version.has(10) {
		m = append(m, member{"target_gas_limit", d.TargetGasLimit}, member{"compounding", d.Compounding})
	}
	m = append(m, member{"config_hash", d.ConfigHash}, member{"definition_hash", d.DefinitionHash})
	return writeObject(d.Extra, m...)
}

// Encode returns the bytes of a definition file: indented by one space, no newline at the end.
func (d *Definition) Encode() ([]byte, error) { return json.MarshalIndent(d, "", " ") }

// UnmarshalJSON reads a definition. Errors are *FieldError with the path. A key that the file's own
// version doesn't have is an unknown one, since no hash of that version covers it. A version that
// isn't known is read as far as it goes; Supported says so.
func (d *Definition) UnmarshalJSON(data []byte) (err error) {
	var out Definition
	if _, err := readObject(data, member{"version", &out.Version}); err != nil {
		return err
	}
	var amounts []gweiText
	members := []member{{"name", &out.Name}, {"creator", &out.Creator}, {"operators", &list[Operator]{&out.Operators}},
		{"uuid", &out.UUID}, {"version", &out.Version}, {"timestamp", &out.Timestamp},
		{"num_validators", &out.NumValidators}, {"threshold", &out.Threshold},
		{"validators", &list[ValidatorAddresses]{&out.Validators}}, {"dkg_algorithm", &out.DKGAlgorithm},
		{"fork_version", &out.ForkVersion}, {"config_hash", &out.ConfigHash}, {"definition_hash", &out.DefinitionHash}}
	if out.Version.has(8) {
		members = append(members, member{"deposit_amounts", &list[gweiText]{&amounts}})
	}
	if out.Version.has(9) {
		members = append(members, member{"consensus_protocol", &out.ConsensusProtocol})
	}
	if out.Version.has(10) {
		members = append(members, member{"target_gas_limit", &out.TargetGasLimit}, member{"compounding", &out.Compounding})
	}
	if out.Extra, err = readObject(data, members...); err != nil {
		return err
	}
	if amounts != nil {
		out.DepositAmounts = make([]Gwei, len(amounts))
		for i, a := range amounts {
			out.DepositAmounts[i] = Gwei(a)
		}
	}
	if out.NumValidators < 0 {
		return at("num_validators", errors.New("found a negative number"))
	}
	if out.Threshold < 0 {
		return at("threshold", errors.New("found a negative number"))
	}
	*d = out
	return nil
}

// Signed reports whether anybody signed the definition with a wallet.
func (d *Definition) Signed() bool {
	return len(d.Creator.ConfigSignature) > 0 || d.Creator.Address != "" || d.OperatorsSigned()
}

// OperatorsSigned reports whether an operator's wallet stands in the definition. Where one does, all must;
// a creator may sign alone, for a cluster that one process makes.
func (d *Definition) OperatorsSigned() bool {
	return slices.ContainsFunc(d.Operators, func(o Operator) bool {
		return o.Address != "" || len(o.ConfigSignature) > 0 || len(o.ENRSignature) > 0
	})
}

// ComputeConfigHash returns the hash that operators agree to before they have keys: everything but
// ENRs, signatures and the hashes themselves.
func (d *Definition) ComputeConfigHash() (Root, error) { return d.hash(true, Root{}) }

// ComputeDefinitionHash returns the hash of the whole definition, the stored config hash included.
func (d *Definition) ComputeDefinitionHash() (Root, error) { return d.hash(false, d.ConfigHash) }

// rooter gathers field roots and remembers the first error.
type rooter struct {
	roots []Root
	err   error
}

func (h *rooter) add(r Root, err error) {
	if h.err == nil {
		h.err = err
	}
	h.roots = append(h.roots, r)
}

func (h *rooter) text(what, s string, limit int) { h.add(textRoot(what, s, limit)) }
func (h *rooter) uint(v uint64)                  { h.add(uintRoot(v), nil) }

func (h *rooter) address(what string, a AddressText) {
	raw, err := a.Bytes()
	if err != nil {
		h.add(Root{}, at(what, err))
		return
	}
	h.add(fixedRoot(what, raw, 20))
}

func (h *rooter) root() Root { return container(h.roots...) }

// walletSignature hashes a creator's or operator's signature: Bytes65, from v1.11 on a list of them.
func (h *rooter) walletSignature(v FormatVersion, what string, sig HexBytes) {
	if !v.has(11) {
		h.add(fixedRoot(what, sig, 65))
		return
	}
	if len(sig)%65 != 0 {
		h.add(Root{}, fmt.Errorf("hash %s: %d bytes, want a multiple of 65", what, len(sig)))
		return
	}
	var roots []Root
	for part := range slices.Chunk(sig, 65) {
		r, err := fixedRoot(what, part, 65)
		if err != nil {
			h.add(Root{}, err)
			return
		}
		roots = append(roots, r)
	}
	h.add(listRoot(what, roots, MaxSigners))
}

func (d *Definition) hash(configOnly bool, configHash Root) (Root, error) {
	if err := d.Version.Supported(); err != nil {
		return Root{}, err
	}
	h := new(rooter)
	h.text("uuid", d.UUID, 64)
	h.text("name", d.Name, MaxNameBytes)
	h.text("version", string(d.Version), 16)
	h.text("timestamp", d.Timestamp, 32)
	h.uint(uint64(d.NumValidators))
	h.uint(uint64(d.Threshold))
	h.text("dkg_algorithm", d.DKGAlgorithm, 32)
	h.add(fixedRoot("fork_version", d.ForkVersion[:], 4))

	operators := make([]Root, len(d.Operators))
	for i, o := range d.Operators {
		ho := new(rooter)
		ho.address("operators.address", o.Address)
		if !configOnly {
			ho.text("operators.enr", o.ENR, 1024)
			ho.walletSignature(d.Version, "operators.config_signature", o.ConfigSignature)
			ho.walletSignature(d.Version, "operators.enr_signature", o.ENRSignature)
		}
		if ho.err != nil {
			return Root{}, ho.err
		}
		operators[i] = ho.root()
	}
	h.add(listRoot("operators", operators, MaxOperators))

	hc := new(rooter)
	hc.address("creator.address", d.Creator.Address)
	if !configOnly {
		hc.walletSignature(d.Version, "creator.config_signature", d.Creator.ConfigSignature)
	}
	h.add(hc.root(), hc.err)

	addresses := make([]Root, len(d.Validators))
	for i, v := range d.Validators {
		hv := new(rooter)
		hv.address("validators.fee_recipient_address", v.FeeRecipient)
		hv.address("validators.withdrawal_address", v.Withdrawal)
		if hv.err != nil {
			return Root{}, hv.err
		}
		addresses[i] = hv.root()
	}
	h.add(listRoot("validators", addresses, MaxValidators))

	if d.Version.has(8) {
		h.add(gweiListRoot("deposit_amounts", d.DepositAmounts, 256))
	}
	if d.Version.has(9) {
		h.text("consensus_protocol", d.ConsensusProtocol, 256)
	}
	if d.Version.has(10) {
		h.uint(d.TargetGasLimit)
		h.add(boolRoot(d.Compounding), nil)
	}
	if !configOnly {
		h.add(configHash, nil)
	}
	if h.err != nil {
		return Root{}, h.err
	}
	return h.root(), nil
}

// UnknownKeys lists the paths of keys that this version of the format doesn't know. No hash covers
// them.
func (d *Definition) UnknownKeys() []string {
	var out []string
	out = appendKeys(out, "", d.Extra)
	out = appendKeys(out, "creator.", d.Creator.Extra)
	for i, o := range d.Operators {
		out = appendKeys(out, fmt.Sprintf("operators[%d].", i), o.Extra)
	}
	for i, v := range d.Validators {
		out = appendKeys(out, fmt.Sprintf("validators[%d].", i), v.Extra)
	}
	return out
}

func appendKeys(out []string, prefix string, extra map[string]json.RawMessage) []string {
	start := len(out)
	for key := range extra {
		out = append(out, prefix+strings.ToValidUTF8(shorten(key), "?"))
	}
	slices.Sort(out[start:])
	return out
}
