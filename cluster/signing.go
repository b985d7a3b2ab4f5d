package cluster

// Signing roots as in the consensus and builder specifications.

// DomainType says what kind of message a signature is for.
type DomainType [4]byte

// Domain types used when a cluster is made.
var (
	DomainDeposit            = DomainType{3, 0, 0, 0}
	DomainApplicationBuilder = DomainType{0, 0, 0, 1}
)

// DepositMessage is what a deposit signature covers.
type DepositMessage struct {
	PubKey                PubKey
	WithdrawalCredentials Root
	Amount                Gwei
}

// WithdrawalCredentials points a validator's money at an execution address: prefix 01, or 02 for a
// compounding validator (EIP-7251).
func WithdrawalCredentials(to ETHAddress, compounding bool) (r Root) {
	r[0] = 1
	if compounding {
		r[0] = 2
	}
	copy(r[12:], to[:])
	return r
}

// Root is the hash tree root of the message, named deposit_message_root in deposit files.
func (m DepositMessage) Root() Root {
	return container(m.PubKey.root(), m.WithdrawalCredentials, uintRoot(uint64(m.Amount)))
}

// DataRoot is the hash tree root of message and signature, which the deposit contract checks.
func (m DepositMessage) DataRoot(sig Signature) Root {
	return container(m.PubKey.root(), m.WithdrawalCredentials, uintRoot(uint64(m.Amount)), sig.root())
}

// SigningRoot is what the validator key signs: deposits are valid on every fork of a network, so
// the domain has the genesis fork version and a zero validators root.
func (m DepositMessage) SigningRoot(genesis ForkVersion) Root {
	return SigningRoot(m.Root(), Domain(DomainDeposit, genesis, Root{}))
}

// RegistrationMessage tells block builders where a validator's fees go.
type RegistrationMessage struct {
	FeeRecipient  AddressText
	GasLimit      uint64
	TimestampUnix uint64 // seconds since 1970
	PubKey        PubKey
}

// Root is the hash tree root of the message. It fails when the fee recipient isn't an address.
func (m RegistrationMessage) Root() (Root, error) {
	raw, err := m.FeeRecipient.Bytes()
	if err != nil {
		return Root{}, err
	}
	fee, err := fixedRoot("fee_recipient", raw, 20)
	if err != nil {
		return Root{}, err
	}
	return container(fee, uintRoot(m.GasLimit), uintRoot(m.TimestampUnix), m.PubKey.root()), nil
}

// SigningRoot is what the validator key signs.
func (m RegistrationMessage) SigningRoot(genesis ForkVersion) (Root, error) {
	r, err := m.Root()
	if err != nil {
		return Root{}, err
	}
	return SigningRoot(r, Domain(DomainApplicationBuilder, genesis, Root{})), nil
}

// Domain is compute_domain of the consensus specification.
func Domain(kind DomainType, fork ForkVersion, genesisValidatorsRoot Root) (d Root) {
	var version Root
	copy(version[:], fork[:])
	data := container(version, genesisValidatorsRoot)
	copy(d[:4], kind[:])
	copy(d[4:], data[:28])
	return d
}

// SigningRoot is compute_signing_root of the consensus specification.
func SigningRoot(object, domain Root) Root { return container(object, domain) }
