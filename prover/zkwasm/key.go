package zkwasm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/sha3"
	"golang.org/x/sys/unix"
)

// MaxKeyFile bounds a file that holds one key.
const MaxKeyFile = 4 << 10

// Key is a node's private key. It prints as a mark and cannot be encoded.
type Key struct{ s *[32]byte }

// Address is the Ethereum address that a key gives, in mixed case (EIP-55). It is
// the node's public identity.
type Address string

// KeyError says what is wrong with a key, without any of it.
type KeyError struct {
	Why    string
	Remedy string
}

func (e *KeyError) Error() string { return e.Why }

// ParseKey reads a private key as the node wants it: 64 hex digits without 0x, and
// at most a line end after them. Nothing is mended: a file that has to be guessed at
// may be the wrong file. Errors are *KeyError.
func ParseKey(raw []byte) (Key, error) {
	bad := func(remedy, why string, args ...any) (Key, error) {
		return Key{}, &KeyError{fmt.Sprintf(why, args...), remedy}
	}
	const want = "give one line of 64 hex digits, without 0x"
	s := raw
	if cut, ok := bytes.CutSuffix(s, []byte("\n")); ok {
		s = bytes.TrimSuffix(cut, []byte("\r"))
	}
	switch {
	case len(s) == 0:
		return bad(want, "it is empty")
	case bytes.HasPrefix(s, []byte("\xef\xbb\xbf")):
		return bad("save it as plain ASCII", "it begins with a byte order mark")
	case bytes.HasPrefix(s, []byte("0x")) || bytes.HasPrefix(s, []byte("0X")):
		return bad("remove the 0x: the node takes the digits alone, and with 0x the hub shows it as inactive", "it begins with 0x")
	case bytes.Equal(s, []byte("PRIVATE_KEY")):
		return bad(want, "it holds the placeholder of the shipped file, not a key")
	case bytes.HasPrefix(bytes.TrimSpace(s), []byte("{")):
		return bad("give the key alone, not a keystore or a configuration", "it holds JSON")
	case bytes.ContainsAny(s, "\n\r"):
		return bad("one file for each node, one key in each", "it has more than one line")
	case len(bytes.Fields(s)) > 2:
		return bad("never put a mnemonic on a prover: derive one key for each node and give that", "it holds words, as a mnemonic does")
	case bytes.ContainsAny(s, " \t"):
		return bad("remove the blanks around the key", "there are blanks in it")
	case len(s) != 64:
		return bad(want, "it has %d characters, not 64", len(s))
	}
	for i, c := range s {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return bad(want, "character %d is no hex digit", i+1)
		}
	}
	var b [32]byte
	if _, err := hex.Decode(b[:], s); err != nil {
		return bad(want, "it is no hex number")
	}
	var n secp256k1.ModNScalar
	over := n.SetBytes(&b) != 0
	zero := n.IsZero()
	n.Zero()
	if over || zero {
		clear(b[:])
		return bad("make a new key", "the number is outside the curve's range (1 to n-1): no key of secp256k1")
	}
	return Key{&b}, nil
}

// ParseKeys reads n keys, one on each line. Errors name the line.
func ParseKeys(raw []byte, n int) ([]Key, error) {
	if n == 1 {
		k, err := ParseKey(raw)
		if err != nil {
			return nil, err
		}
		return []Key{k}, nil
	}
	lines := bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n"))
	if len(raw) == 0 {
		lines = nil
	}
	if len(lines) != n {
		return nil, &KeyError{fmt.Sprintf("it has %d %s, and %d keys are needed", len(lines), plural(len(lines), "line", "lines"), n), "one key of 64 hex digits on each line, in the order of --gpus"}
	}
	var out []Key
	for i, l := range lines {
		k, err := ParseKey(bytes.TrimSuffix(l, []byte("\r")))
		if ke := (*KeyError)(nil); errors.As(err, &ke) {
			for _, k := range out {
				k.Wipe()
			}
			return nil, &KeyError{fmt.Sprintf("line %d: %s", i+1, ke.Why), ke.Remedy}
		}
		out = append(out, k)
	}
	return out, nil
}

// ReadKeyFile reads a file that holds n keys. Loose is set when others than its owner
// can read it. Errors are *KeyError.
func ReadKeyFile(path string, n int) (keys []Key, loose bool, err error) {
	bad := func(err error) ([]Key, bool, error) {
		return nil, false, &KeyError{err.Error(), "name an ordinary file that you can read"}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return bad(reason(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return bad(reason(err))
	}
	if !info.Mode().IsRegular() {
		return bad(errors.New("it is no ordinary file"))
	}
	raw, err := io.ReadAll(io.LimitReader(f, MaxKeyFile*MaxNodes+1))
	defer clear(raw)
	if err != nil {
		return bad(reason(err))
	}
	if len(raw) > MaxKeyFile*MaxNodes {
		return bad(errors.New("it is far larger than a key"))
	}
	keys, err = ParseKeys(raw, n)
	return keys, info.Mode().Perm()&0o077 != 0, err
}

// Address derives the node's address.
func (k Key) Address() Address {
	if k.s == nil {
		return ""
	}
	priv := secp256k1.PrivKeyFromBytes(k.s[:])
	defer priv.Zero()
	h := sha3.NewLegacyKeccak256()
	h.Write(priv.PubKey().SerializeUncompressed()[1:])
	return checksummed(h.Sum(nil)[12:])
}

// checksummed writes an address in mixed case (EIP-55).
func checksummed(b []byte) Address {
	text := []byte(hex.EncodeToString(b))
	h := sha3.NewLegacyKeccak256()
	h.Write(text)
	sum := h.Sum(nil)
	for i, c := range text {
		nibble := sum[i/2] >> 4
		if i%2 == 1 {
			nibble = sum[i/2] & 15
		}
		if c >= 'a' && nibble >= 8 {
			text[i] = c - 'a' + 'A'
		}
	}
	return Address("0x" + string(text))
}

// Same tells whether two addresses are one, whatever their case.
func (a Address) Same(b Address) bool { return a != "" && strings.EqualFold(string(a), string(b)) }

// valid tells whether it is 0x and 40 hex digits.
func (a Address) valid() bool {
	rest, ok := strings.CutPrefix(string(a), "0x")
	_, err := hex.DecodeString(rest)
	return ok && len(rest) == 40 && err == nil
}

// Wipe overwrites the key. Copies of it are wiped too.
func (k Key) Wipe() {
	if k.s != nil {
		clear(k.s[:])
	}
}

// IsZero tells whether there is no key inside.
func (k Key) IsZero() bool { return k.s == nil }

// reveal gives the hex digits, for the files that the node reads.
func (k Key) reveal() string { return hex.EncodeToString(k.s[:]) }

// String hides the key.
func (Key) String() string { return "[secret]" }

// GoString hides it from %#v.
func (Key) GoString() string { return "[secret]" }

// Format hides it from every verb.
func (Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[secret]") }

// MarshalJSON refuses.
func (Key) MarshalJSON() ([]byte, error) {
	return nil, errors.New("encode key: a secret must not be written to JSON")
}

// MarshalText refuses.
func (Key) MarshalText() ([]byte, error) {
	return nil, errors.New("encode key: a secret must not be written as text")
}

// known are addresses whose private keys stand in the documentation of developers'
// tools: whoever reads those can sign as such a node.
var known = map[Address]string{
	"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266": "the first account of Anvil and Hardhat",
	"0x70997970C51812dc3A010C7d01b50e0d17dc79C8": "the second account of Anvil and Hardhat",
	"0x90F8bf6A479f320ead074411a4B0e7944Ea8c9C1": "the first account of Ganache",
	"0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf": "the key 1",
}

// Published says where a key of this address can be read by everybody, "" for nowhere that is known here.
func (a Address) Published() string {
	for k, where := range known {
		if k.Same(a) {
			return where
		}
	}
	return ""
}
