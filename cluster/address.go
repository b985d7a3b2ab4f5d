package cluster

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ETHAddress is the 20 bytes of an execution-layer address.
type ETHAddress [20]byte

// Keccak is the Keccak-256 function of Ethereum. It is passed in, since this package holds no
// cryptography of its own beyond SHA-256.
type Keccak func(data []byte) [32]byte

// ErrAddressChecksum means that an address in mixed case is not spelled as EIP-55 says.
var ErrAddressChecksum = errors.New("the address has a wrong EIP-55 checksum: copy it again, a character may be wrong")

// ParseETHAddress reads 0x and 40 hex digits. An address in mixed case must carry a right EIP-55
// checksum (ErrAddressChecksum otherwise); one in a single case carries none and is taken as it is.
func ParseETHAddress(text string, keccak Keccak) (ETHAddress, error) {
	var a ETHAddress
	digits, ok := strings.CutPrefix(text, "0x")
	if !ok {
		return a, fmt.Errorf("read address %q: it must start with 0x", shorten(text))
	}
	if len(digits) != 40 {
		return a, fmt.Errorf("read address %q: want 40 hex digits after 0x, found %d characters", shorten(text), len(digits))
	}
	if _, err := hex.Decode(a[:], []byte(digits)); err != nil {
		return ETHAddress{}, fmt.Errorf("read address %q: %w", shorten(text), err)
	}
	if digits != strings.ToLower(digits) && digits != strings.ToUpper(digits) && text != a.Checksummed(keccak) {
		return ETHAddress{}, fmt.Errorf("read address %q: %w", text, ErrAddressChecksum)
	}
	return a, nil
}

// String returns the address in lower case.
func (a ETHAddress) String() string { return "0x" + hex.EncodeToString(a[:]) }

// Checksummed returns the address with its EIP-55 checksum.
func (a ETHAddress) Checksummed(keccak Keccak) string {
	out := []byte(hex.EncodeToString(a[:]))
	sum := keccak(out)
	for i, c := range out {
		nibble := sum[i/2] >> 4
		if i%2 == 1 {
			nibble = sum[i/2] & 0xf
		}
		if c >= 'a' && nibble >= 8 {
			out[i] = c - 'a' + 'A'
		}
	}
	return "0x" + string(out)
}

// Burn reports whether nobody can hold the key of the address: all zeros, or zeros and 0xdead.
func (a ETHAddress) Burn() bool {
	return a == ETHAddress{} || a == ETHAddress{18: 0xde, 19: 0xad}
}

// AddressText is an address as it stands in a file: 0x-hex with or without a checksum, or "".
// Only its bytes are hashed.
type AddressText string

// Bytes returns the 20 bytes, or none for "". The checksum isn't looked at.
func (t AddressText) Bytes() (HexBytes, error) {
	raw, err := unhex([]byte(t))
	if err != nil {
		return nil, err
	}
	if len(raw) != 0 && len(raw) != 20 {
		return nil, fmt.Errorf("read address %q: want 20 bytes, found %d", shorten(string(t)), len(raw))
	}
	return raw, nil
}

// shorten keeps foreign text in error messages to a length that fits a line.
func shorten(s string) string {
	if len(s) > 64 {
		return s[:61] + "..."
	}
	return s
}
