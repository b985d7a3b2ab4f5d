package enr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"app.provost/cluster"
)

// TypedText is a message that an operator's wallet signs under EIP-712: a struct with one string
// member, in the domain (name "Obol", version "1", chain id of the network).
type TypedText struct {
	primary, member string
}

// The messages of a cluster definition.
var (
	CreatorConfig  = TypedText{"CreatorConfigHash", "creator_config_hash"}
	OperatorConfig = TypedText{"OperatorConfigHash", "operator_config_hash"}
	OperatorENR    = TypedText{"ENR", "enr"}
)

// Digest is what the wallet signs for a value.
func (t TypedText) Digest(chainID uint64, value string) [32]byte {
	var id [32]byte
	binary.BigEndian.PutUint64(id[24:], chainID)
	domain := keccakOf(
		keccakText("EIP712Domain(string name,string version,uint256 chainId)"),
		keccakText("Obol"), keccakText("1"), id)
	message := keccakOf(keccakText(t.primary+"(string "+t.member+")"), keccakText(value))
	return Keccak256(slices.Concat([]byte{0x19, 0x01}, domain[:], message[:]))
}

func keccakText(s string) [32]byte { return Keccak256([]byte(s)) }

func keccakOf(words ...[32]byte) [32]byte {
	var buf []byte
	for _, w := range words {
		buf = append(buf, w[:]...)
	}
	return Keccak256(buf)
}

// Verify returns nil only when a key of the address made one of the signatures in sig, which is a
// row of 65-byte signatures. Wallets that are contracts (ERC-1271) can't be checked without an
// execution client.
func (t TypedText) Verify(address cluster.ETHAddress, chainID uint64, value string, sig []byte) error {
	if len(sig) == 0 || len(sig)%65 != 0 || len(sig) > 65*cluster.MaxSigners {
		return fmt.Errorf("%w: found %d bytes, want 65", ErrSignature, len(sig))
	}
	digest := t.Digest(chainID, value)
	if len(sig) > 65 {
		return fmt.Errorf("%w: it holds %d signatures, so the address is a contract wallet, which only an execution client can check", ErrContractWallet, len(sig)/65)
	}
	got, err := RecoverAddress(digest, sig)
	if err != nil {
		return err
	}
	if got != address {
		return fmt.Errorf("%w: it was made by %s, want %s", ErrSignature, got.Checksummed(Keccak256), address.Checksummed(Keccak256))
	}
	return nil
}

// ErrContractWallet means that a signature can only be checked on chain.
var ErrContractWallet = errors.New("signature of a contract wallet")
