package cluster

import "strings"

// SummarySchema names the JSON form of Summary; its major number changes when a field is removed or
// changes its meaning.
const SummarySchema = "provost.cluster/1"

// Summary is what a lock or a definition says, for people. It is what the file says: nothing in it
// was verified. Values that the file doesn't have are null or empty.
type Summary struct {
	Schema            string     `json:"schema"`
	Path              string     `json:"path"` // of the file that it is from
	Kind              string     `json:"kind"` // lock, definition
	Name              string     `json:"name"`
	UUID              string     `json:"uuid"`
	Version           string     `json:"version"`
	Created           string     `json:"created"` // as in the file, RFC 3339
	Network           *string    `json:"network"` // null when the fork version names none that is known
	ForkVersion       string     `json:"fork_version"`
	ChainID           *uint64    `json:"chain_id"`
	Threshold         int        `json:"threshold"`
	MayBeDown         int        `json:"may_be_down"` // nodes that may be off while duties still succeed
	NumValidators     int        `json:"num_validators"`
	DKGAlgorithm      string     `json:"dkg_algorithm"`
	ConsensusProtocol string     `json:"consensus_protocol"` // "": none is preferred
	TargetGasLimit    *uint64    `json:"target_gas_limit"`
	Compounding       bool       `json:"compounding"`
	DepositGwei       []Gwei     `json:"deposit_amounts_gwei"` // as asked for; null: the defaults
	Creator           SummaryWho `json:"creator"`

	Nodes      []SummaryNode      `json:"nodes"`
	Validators []SummaryValidator `json:"validators"`

	ConfigHash     Root  `json:"config_hash"`
	DefinitionHash Root  `json:"definition_hash"`
	LockHash       *Root `json:"lock_hash"`
	// Aggregate says whether the signature of all key shares is there.
	Aggregate   bool     `json:"signature_aggregate"`
	UnknownKeys []string `json:"unknown_keys"`
	// Notes are about the files, as when a node has another lock than the others.
	Notes []string `json:"notes"`
}

// SummaryWho is a wallet of a cluster and whether it signed.
type SummaryWho struct {
	Address string `json:"address"` // "" when there is none, as in a cluster that one process made
	Signed  bool   `json:"signed"`
}

// SummaryNode is one node of a cluster.
type SummaryNode struct {
	Node         PeerIndex  `json:"node"`
	ShareIndex   ShareIndex `json:"share_index"`
	Operator     SummaryWho `json:"operator"`
	ENR          string     `json:"enr"`
	PeerID       *string    `json:"peer_id"` // null when the record isn't valid
	RecordSigned bool       `json:"record_signed"`
	LockSigned   bool       `json:"lock_signed"` // the node's signature over the lock is there
}

// SummaryValidator is one validator of a cluster. A definition has none of the keys.
type SummaryValidator struct {
	Validator      int      `json:"validator"`
	PubKey         *PubKey  `json:"pubkey"`
	Withdrawal     string   `json:"withdrawal_address"`
	FeeRecipient   string   `json:"fee_recipient_address"`
	DepositGwei    []Gwei   `json:"deposits_gwei"`
	RegisteredUnix *uint64  `json:"registered_unix"` // time of the builder registration
	GasLimit       *uint64  `json:"gas_limit"`       // of the builder registration
	PublicShares   []PubKey `json:"public_shares"`
}

// IdentitySchema names the JSON form of Identity.
const IdentitySchema = "provost.enr/1"

// Identity is what a node record says. Its signature was checked.
type Identity struct {
	Schema    string         `json:"schema"`
	ENR       string         `json:"enr"`
	File      string         `json:"file"` // the key file that the record is made of; "" for a record that was given
	PeerID    string         `json:"peer_id"`
	NodeID    string         `json:"node_id"`    // of the discovery protocol, 0x-hex
	PublicKey string         `json:"public_key"` // compressed secp256k1, 0x-hex
	Seq       uint64         `json:"seq"`
	Signature string         `json:"signature"` // R and S, 0x-hex
	Pairs     []IdentityPair `json:"pairs"`     // all of the record, in its order
}

// IdentityPair is one key of a node record, its value as people read it.
type IdentityPair struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// PeerIDOf finds the network id of a node by its record's text.
type PeerIDOf func(enr string) (id string, err error)

// Summarize says what a definition says.
func (d *Definition) Summarize(peerID PeerIDOf) Summary {
	s := Summary{
		Schema: SummarySchema, Kind: "definition", Name: d.Name, UUID: d.UUID, Version: string(d.Version), Created: d.Timestamp,
		ForkVersion: d.ForkVersion.String(), Threshold: int(d.Threshold), MayBeDown: d.Threshold.MayBeDown(len(d.Operators)),
		NumValidators: d.NumValidators, DKGAlgorithm: d.DKGAlgorithm, ConsensusProtocol: d.ConsensusProtocol, Compounding: d.Compounding,
		DepositGwei: d.DepositAmounts, Creator: SummaryWho{string(d.Creator.Address), len(d.Creator.ConfigSignature) > 0},
		ConfigHash: d.ConfigHash, DefinitionHash: d.DefinitionHash,
		Nodes: []SummaryNode{}, Validators: []SummaryValidator{}, UnknownKeys: append([]string{}, d.UnknownKeys()...), Notes: []string{},
	}
	if n, ok := NetworkByFork(d.ForkVersion); ok {
		s.Network, s.ChainID = &n.Name, &n.ChainID
	}
	if d.Version.has(10) {
		s.TargetGasLimit = &d.TargetGasLimit
	}
	for i, o := range d.Operators {
		n := SummaryNode{Node: PeerIndex(i), ShareIndex: PeerIndex(i).Share(), ENR: o.ENR,
			Operator: SummaryWho{string(o.Address), len(o.ConfigSignature) > 0}, RecordSigned: len(o.ENRSignature) > 0}
		if id, err := peerID(o.ENR); err == nil {
			n.PeerID = &id
		}
		s.Nodes = append(s.Nodes, n)
	}
	for i, v := range d.Validators {
		s.Validators = append(s.Validators, SummaryValidator{Validator: i, Withdrawal: withPrefix(v.Withdrawal), FeeRecipient: withPrefix(v.FeeRecipient), DepositGwei: []Gwei{}, PublicShares: []PubKey{}})
	}
	return s
}

// withPrefix is the address with 0x in front: files have it without, too.
func withPrefix(a AddressText) string {
	if a == "" {
		return ""
	}
	return "0x" + strings.TrimPrefix(string(a), "0x")
}

// Summarize says what a lock says.
func (l *Lock) Summarize(peerID PeerIDOf) Summary {
	s := l.Definition.Summarize(peerID)
	s.Kind, s.LockHash, s.Aggregate = "lock", &l.LockHash, l.SignatureAggregate != Signature{}
	s.UnknownKeys = append([]string{}, l.UnknownKeys()...)
	for i := range s.Nodes {
		s.Nodes[i].LockSigned = i < len(l.NodeSignatures) && len(l.NodeSignatures[i]) > 0
	}
	for i := range l.Validators {
		dv := &l.Validators[i]
		if i == len(s.Validators) { // the definition has an address pair less
			s.Validators = append(s.Validators, SummaryValidator{Validator: i, DepositGwei: []Gwei{}})
		}
		v := &s.Validators[i]
		v.PubKey, v.PublicShares = &dv.PubKey, append([]PubKey{}, dv.PublicShares...)
		for _, d := range dv.Deposits {
			v.DepositGwei = append(v.DepositGwei, d.Amount)
		}
		if l.Definition.Version.HasRegistrations() {
			v.RegisteredUnix, v.GasLimit = &dv.Registration.Message.TimestampUnix, &dv.Registration.Message.GasLimit
		}
	}
	return s
}
