// Package keystore reads and writes BLS keystores of EIP-2335 version 4 and the password files
// beside them.
//
// Foreign keystores are hostile until checked: sizes, cost parameters and every length are looked
// at before any work is done. Written files are whole in memory; this package touches no disk.
// Decrypt, Encrypt and Seal take tens of milliseconds of one core at full strength and may be called
// from any goroutine; scrypt waits its turn so that all runs together need at most half a gigabyte.
package keystore

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"app.provost/cluster"
	"app.provost/cluster/internal/bls"

	keystorev4 "github.com/wealdtech/go-eth2-wallet-encryptor-keystorev4"
	"golang.org/x/sync/semaphore"
)

// Limits on foreign files.
const (
	MaxFileBytes     = 64 << 10
	MaxPasswordBytes = 4 << 10
	// Sixteen times the cost that every client writes: a second or two of one core.
	maxPBKDF2Rounds = 1 << 22
	// The example of the EIP (n 262144, r 8, p 1), which the deposit tool writes too, needs 256 MiB and
	// a few blocks; nobody writes more. A password that doesn't fit is tried in a second
	// spelling, one after the other.
	maxScryptBytes = 257 << 20
	maxScryptP     = 8
	maxScryptR     = 64      // honest ones have 8; what is derived before and after the blocks grows with r·p
	maxScryptWork  = 1 << 22 // n·r·p: twice the EIP's example, some seconds of one core
	scryptMemory   = 512 << 20
)

// fullRounds and insecureRounds are the PBKDF2 iteration counts of the two strengths.
const (
	fullRounds     = 262144
	insecureRounds = 16
	derivationPath = "m/12381/3600/0/0/0"
)

// Strength says how hard guessing the password of a written keystore is.
type Strength string

// Full is the EIP's own cost. Insecure is for tests and practice: anybody who has the file can try
// millions of passwords a second.
const (
	Full     Strength = "full"
	Insecure Strength = "insecure"
)

// Errors of reading. They are wrapped with what was found.
var (
	ErrFormat   = errors.New("not an EIP-2335 version 4 keystore")
	ErrCost     = errors.New("the key derivation costs more than any honest keystore")
	ErrPassword = errors.New("the password doesn't open the keystore, or the keystore was changed")
	errPrinted  = errors.New("a password can't be encoded")
)

// FieldError names the field of a keystore file that is wrong. It wraps ErrFormat or ErrCost.
type FieldError struct {
	Field string // as in crypto.kdf.params.c
	err   error
}

// Error returns the whole text, field included.
func (e *FieldError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.err }

// Password opens a keystore. Its zero value is none. It prints as [secret] and refuses to be
// encoded.
type Password struct {
	p *string // a pointer, since fmt prints unexported strings of foreign structs
}

// NewPassword returns 16 bytes from crypto/rand as 32 hex characters.
func NewPassword() (Password, error) {
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return Password{}, fmt.Errorf("draw a keystore password: %w", err)
	}
	s := hex.EncodeToString(raw[:])
	return Password{&s}, nil
}

// ParsePassword reads the content of a password file; line ends at its end are not part of it.
func ParsePassword(file []byte) (Password, error) {
	if len(file) > MaxPasswordBytes {
		return Password{}, fmt.Errorf("read password: the file has %d bytes, at most %d are allowed", len(file), MaxPasswordBytes)
	}
	if !utf8.Valid(file) {
		return Password{}, errors.New("read password: the file is not UTF-8 text")
	}
	s := strings.TrimRight(string(file), "\r\n")
	if s == "" {
		return Password{}, errors.New("read password: the file is empty")
	}
	return Password{&s}, nil
}

// Export returns the bytes of a password file.
func (p Password) Export() []byte {
	if p.p == nil {
		return nil
	}
	return []byte(*p.p)
}

// String returns "[secret]".
func (Password) String() string { return "[secret]" }

// GoString returns "[secret]".
func (Password) GoString() string { return "[secret]" }

// Format prints "[secret]" whatever the verb is.
func (Password) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// LogValue logs "[secret]".
func (Password) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalJSON always fails.
func (Password) MarshalJSON() ([]byte, error) { return nil, errPrinted }

// MarshalText always fails.
func (Password) MarshalText() ([]byte, error) { return nil, errPrinted }

// file is the whole keystore, in the key order that Charon writes.
type file struct {
	Crypto      crypto `json:"crypto"`
	Description string `json:"description"`
	PubKey      string `json:"pubkey"`
	Path        string `json:"path"`
	UUID        string `json:"uuid"`
	Version     int    `json:"version"`
}

type crypto struct {
	Checksum module[struct{}]     `json:"checksum"`
	Cipher   module[cipherParams] `json:"cipher"`
	KDF      module[kdfParams]    `json:"kdf"`
}

type module[P any] struct {
	Function string `json:"function"`
	Message  string `json:"message"`
	Params   P      `json:"params"`
}

type cipherParams struct {
	IV string `json:"iv"`
}

type kdfParams struct {
	C     int    `json:"c,omitempty"`
	DKLen int    `json:"dklen"`
	N     int    `json:"n,omitempty"`
	P     int    `json:"p,omitempty"`
	PRF   string `json:"prf,omitempty"`
	R     int    `json:"r,omitempty"`
	Salt  string `json:"salt"`
}

// Keystore is a parsed keystore whose costs were found bearable. It holds no secret in the clear.
type Keystore struct {
	PubKey   cluster.PubKey // as the file claims; Decrypt checks it
	UUID     string
	Path     string
	Strength Strength // Insecure when guessing is cheap
	crypto   crypto
}

// Derived is the key that a password gave for one keystore that Seal made, and what it was derived
// with. It spares whoever wrote a file a second derivation when reading it back. Its zero value is
// none. It prints as [secret] and refuses to be encoded.
type Derived struct {
	k **derivedKey // fmt never follows two pointers
}

type derivedKey struct {
	key      []byte
	params   kdfParams
	password Password
}

// Wipe overwrites the derived key, in all copies.
func (d Derived) Wipe() {
	if d.k != nil {
		clear((*d.k).key)
		*d.k = new(derivedKey)
	}
}

// String returns "[secret]".
func (Derived) String() string { return "[secret]" }

// GoString returns "[secret]".
func (Derived) GoString() string { return "[secret]" }

// Format prints "[secret]" whatever the verb is.
func (Derived) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[secret]")) }

// LogValue logs "[secret]".
func (Derived) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalJSON always fails.
func (Derived) MarshalJSON() ([]byte, error) { return nil, errPrinted }

// MarshalText always fails.
func (Derived) MarshalText() ([]byte, error) { return nil, errPrinted }

// Encrypt returns the bytes of a keystore file for a key.
func Encrypt(key bls.SecretKey, password Password, strength Strength) ([]byte, error) {
	raw, derived, err := Seal(key, password, strength)
	derived.Wipe()
	return raw, err
}

// Seal is Encrypt for those who want to check what they wrote: the derived key opens the keystore
// again by DecryptDerived. Passwords must be printable ASCII, as those of NewPassword are.
func Seal(key bls.SecretKey, password Password, strength Strength) ([]byte, Derived, error) {
	if password.p == nil {
		return nil, Derived{}, errors.New("write keystore: there is no password")
	}
	if strings.ContainsFunc(*password.p, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, Derived{}, errors.New("write keystore: the password must be printable ASCII")
	}
	rounds := map[Strength]int{Full: fullRounds, Insecure: insecureRounds}[strength]
	if rounds == 0 {
		return nil, Derived{}, fmt.Errorf("write keystore: unknown strength %q", string(strength))
	}
	pub, err := key.PubKey()
	if err != nil {
		return nil, Derived{}, fmt.Errorf("write keystore: %w", err)
	}
	secret, err := key.Export()
	if err != nil {
		return nil, Derived{}, fmt.Errorf("write keystore: %w", err)
	}
	defer clear(secret)
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, Derived{}, fmt.Errorf("write keystore: draw a uuid: %w", err)
	}
	out := file{PubKey: hex.EncodeToString(pub[:]), Path: derivationPath, Version: 4,
		UUID: fmt.Sprintf("%X-%X-%X-%X-%X", id[:4], id[4:6], id[6:8], id[8:10], id[10:])}
	var derived Derived
	if out.Crypto, derived, err = encrypt(secret, password, rounds); err != nil {
		return nil, Derived{}, fmt.Errorf("write keystore: %w", err)
	}
	raw, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		derived.Wipe()
		return nil, Derived{}, err
	}
	return raw, derived, nil
}

// encrypt is here, and not the library's, because that one keeps the derived key to itself and takes
// a lower cost from tests only. Plain ASCII needs no normalising. Decrypt is the library's, so that
// a mistake here doesn't open what it made.
func encrypt(secret []byte, password Password, rounds int) (c crypto, d Derived, err error) {
	var salt [32]byte
	var iv [16]byte
	for _, b := range [][]byte{salt[:], iv[:]} {
		if _, err := rand.Read(b); err != nil {
			return c, d, err
		}
	}
	key, err := pbkdf2.Key(sha256.New, *password.p, salt[:], rounds, 32)
	if err != nil {
		return c, d, err
	}
	sealed, err := xorAES(key, iv[:], secret)
	if err != nil {
		clear(key)
		return c, d, err
	}
	sum := checksum(key, sealed)
	c.Checksum = module[struct{}]{Function: "sha256", Message: hex.EncodeToString(sum[:])}
	c.Cipher = module[cipherParams]{Function: "aes-128-ctr", Message: hex.EncodeToString(sealed), Params: cipherParams{IV: hex.EncodeToString(iv[:])}}
	c.KDF = module[kdfParams]{Function: "pbkdf2", Params: kdfParams{C: rounds, DKLen: 32, PRF: "hmac-sha256", Salt: hex.EncodeToString(salt[:])}}
	k := &derivedKey{key: key, params: c.KDF.Params, password: password}
	return c, Derived{&k}, nil
}

func xorAES(key, iv, in []byte) ([]byte, error) {
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(in))
	cipher.NewCTR(block, iv).XORKeyStream(out, in)
	return out, nil
}

func checksum(key, sealed []byte) [32]byte {
	return sha256.Sum256(append(append(make([]byte, 0, 16+len(sealed)), key[16:]...), sealed...))
}

var (
	uuidPattern = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	pathPattern = regexp.MustCompile(`^(m(/[0-9]+)*)?$`)
)

// Parse reads a keystore file of at most MaxFileBytes and checks everything that can be checked
// without the password. Errors wrap ErrFormat or ErrCost and name the field.
func Parse(raw []byte) (*Keystore, error) {
	if len(raw) > MaxFileBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrFormat, len(raw), MaxFileBytes)
	}
	var f file
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	bad := func(field, format string, args ...any) error {
		return &FieldError{field, fmt.Errorf("%w: %s: %s", ErrFormat, field, fmt.Sprintf(format, args...))}
	}
	costly := func(field, format string, args ...any) error {
		return &FieldError{field, fmt.Errorf("%w: %s: %s", ErrCost, field, fmt.Sprintf(format, args...))}
	}
	if missing := missingKey(raw, f.Crypto.KDF.Function); missing != "" {
		return nil, bad(missing, "it is missing")
	}
	if f.Version != 4 {
		return nil, bad("version", "found %d, want 4", f.Version)
	}
	ks := &Keystore{UUID: f.UUID, Path: f.Path, Strength: Full, crypto: f.Crypto}
	if err := ks.PubKey.UnmarshalText([]byte(f.PubKey)); err != nil {
		return nil, bad("pubkey", "%v", err)
	}
	if !uuidPattern.MatchString(f.UUID) {
		return nil, bad("uuid", "not 8-4-4-4-12 hex digits")
	}
	if !pathPattern.MatchString(f.Path) {
		return nil, bad("path", "not a derivation path such as %s", derivationPath)
	}
	c := f.Crypto
	if !strings.EqualFold(c.Checksum.Function, "sha256") {
		return nil, bad("crypto.checksum.function", "want sha256")
	}
	if c.Cipher.Function != "aes-128-ctr" {
		return nil, bad("crypto.cipher.function", "want aes-128-ctr")
	}
	for _, h := range []struct {
		field, text string
		min, max    int
	}{
		{"crypto.checksum.message", c.Checksum.Message, 32, 32},
		{"crypto.cipher.message", c.Cipher.Message, 32, 32},
		{"crypto.cipher.params.iv", c.Cipher.Params.IV, 16, 16},
		{"crypto.kdf.params.salt", c.KDF.Params.Salt, 1, 1024},
	} {
		b, err := hex.DecodeString(h.text)
		if err != nil || len(b) < h.min || len(b) > h.max {
			return nil, bad(h.field, "want %d to %d bytes of hex", h.min, h.max)
		}
	}
	if c.KDF.Message != "" {
		return nil, bad("crypto.kdf.message", "want nothing")
	}
	p := c.KDF.Params
	if p.DKLen != 32 {
		return nil, bad("crypto.kdf.params.dklen", "found %d, want 32", p.DKLen)
	}
	switch c.KDF.Function {
	case "pbkdf2":
		if p.PRF != "hmac-sha256" {
			return nil, bad("crypto.kdf.params.prf", "want hmac-sha256")
		}
		if p.C < 1 {
			return nil, bad("crypto.kdf.params.c", "found %d, want at least 1", p.C)
		}
		if p.C > maxPBKDF2Rounds {
			return nil, costly("crypto.kdf.params.c", "found %d, at most %d are done", p.C, maxPBKDF2Rounds)
		}
		if p.C < 10_000 {
			ks.Strength = Insecure
		}
	case "scrypt":
		if p.N < 2 || p.N&(p.N-1) != 0 || p.R < 1 || p.P < 1 {
			return nil, bad("crypto.kdf.params", "n must be a power of two above 1, r and p at least 1")
		}
		// Each factor is bounded before they are multiplied, so that nothing overflows.
		if p.N > maxScryptWork || p.R > maxScryptR || p.P > maxScryptP ||
			scryptBytes(p) > maxScryptBytes || p.N*p.R*p.P > maxScryptWork {
			return nil, costly("crypto.kdf.params", "found n %d, r %d, p %d", p.N, p.R, p.P)
		}
		if p.N*p.R < 1<<12 {
			ks.Strength = Insecure
		}
	default:
		return nil, bad("crypto.kdf.function", "want pbkdf2 or scrypt")
	}
	return ks, nil
}

// scryptBytes is the memory that scrypt takes: n blocks of 128·r bytes, p more, and two to work in.
func scryptBytes(p kdfParams) int { return 128 * p.R * (p.N + p.P + 2) }

// missingKey returns the path of the first key that a keystore must have and this one hasn't.
// encoding/json takes a key in any case; other programs that read keystores don't.
func missingKey(raw []byte, kdf string) string {
	costs := []string{"dklen", "salt", "c", "prf"}
	if kdf == "scrypt" {
		costs = []string{"dklen", "salt", "n", "r", "p"}
	}
	module := []string{"function", "params", "message"}
	for _, level := range []struct {
		path []string
		keys []string
	}{
		{nil, []string{"crypto", "pubkey", "path", "uuid", "version"}},
		{[]string{"crypto"}, []string{"checksum", "cipher", "kdf"}},
		{[]string{"crypto", "checksum"}, module},
		{[]string{"crypto", "cipher"}, module},
		{[]string{"crypto", "kdf"}, module},
		{[]string{"crypto", "cipher", "params"}, []string{"iv"}},
		{[]string{"crypto", "kdf", "params"}, costs},
	} {
		at := json.RawMessage(raw)
		object := map[string]json.RawMessage{}
		for _, step := range append([]string{""}, level.path...) {
			if step != "" {
				at = object[step]
			}
			object = map[string]json.RawMessage{}
			if json.Unmarshal(at, &object) != nil {
				return strings.Join(level.path, ".")
			}
		}
		for _, key := range level.keys {
			if _, ok := object[key]; !ok {
				return strings.Join(append(level.path, key), ".")
			}
		}
	}
	return ""
}

// scryptTurn bounds the memory of all scrypt runs together.
var scryptTurn = semaphore.NewWeighted(scryptMemory)

// Decrypt opens the keystore and checks that the key inside is the one that the file names. A
// cancelled context ends it before the derivation starts, not within it. A password that doesn't
// fit gives ErrPassword.
func (k *Keystore) Decrypt(ctx context.Context, password Password) (bls.SecretKey, error) {
	if password.p == nil {
		return bls.SecretKey{}, errors.New("open keystore: there is no password")
	}
	if k.crypto.KDF.Function == "scrypt" {
		need := min(int64(scryptBytes(k.crypto.KDF.Params)), scryptMemory)
		if err := scryptTurn.Acquire(ctx, need); err == nil {
			defer scryptTurn.Release(need)
		}
	}
	if err := ctx.Err(); err != nil {
		return bls.SecretKey{}, fmt.Errorf("open keystore: %w", err)
	}
	raw, err := json.Marshal(k.crypto)
	if err != nil {
		return bls.SecretKey{}, fmt.Errorf("open keystore: %w", err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return bls.SecretKey{}, fmt.Errorf("open keystore: %w", err)
	}
	// Everything that the library could stumble over was checked by Parse; what is left is a
	// checksum that doesn't fit.
	secret, err := keystorev4.New().Decrypt(m, *password.p)
	if err != nil {
		return bls.SecretKey{}, ErrPassword
	}
	return k.take(secret)
}

// DecryptDerived opens a keystore that Seal made, without deriving the key again: password and cost
// parameters must be those that it was derived from, and all else is checked as by Decrypt.
func (k *Keystore) DecryptDerived(d Derived, password Password) (bls.SecretKey, error) {
	if d.k == nil || (*d.k).key == nil {
		return bls.SecretKey{}, errors.New("open keystore: there is no derived key")
	}
	if password.p == nil || *password.p != *(*d.k).password.p {
		return bls.SecretKey{}, ErrPassword
	}
	if k.crypto.KDF.Function != "pbkdf2" || k.crypto.KDF.Params != (*d.k).params {
		return bls.SecretKey{}, &FieldError{"crypto.kdf.params", fmt.Errorf("%w: crypto.kdf.params: not what was written", ErrFormat)}
	}
	key := (*d.k).key
	sealed, sealedErr := hex.DecodeString(k.crypto.Cipher.Message)
	iv, ivErr := hex.DecodeString(k.crypto.Cipher.Params.IV)
	if err := errors.Join(sealedErr, ivErr); err != nil {
		return bls.SecretKey{}, fmt.Errorf("open keystore: %w", err)
	}
	if sum := checksum(key, sealed); hex.EncodeToString(sum[:]) != k.crypto.Checksum.Message {
		return bls.SecretKey{}, ErrPassword
	}
	secret, err := xorAES(key, iv, sealed)
	if err != nil {
		return bls.SecretKey{}, fmt.Errorf("open keystore: %w", err)
	}
	return k.take(secret)
}

// take makes a key of its bytes, which it wipes, and compares it with what the file names.
func (k *Keystore) take(secret []byte) (bls.SecretKey, error) {
	defer clear(secret)
	key, err := bls.SecretKeyFromBytes(secret)
	if err != nil {
		return bls.SecretKey{}, fmt.Errorf("open keystore: %w", err)
	}
	pub, err := key.PubKey()
	if err != nil {
		return bls.SecretKey{}, fmt.Errorf("open keystore: %w", err)
	}
	if pub != k.PubKey {
		key.Wipe()
		return bls.SecretKey{}, &FieldError{"pubkey", fmt.Errorf("%w: pubkey: the file says %s, the key inside has %s", ErrFormat, k.PubKey, pub)}
	}
	return key, nil
}

var namePattern = regexp.MustCompile(`^keystore-(insecure-)?(0|[1-9][0-9]{0,5})\.json$`)

// FileName is the name of the keystore of a validator, numbered from 0; the password is beside it
// in PasswordFileName of that name.
func FileName(validator int, strength Strength) string {
	if strength == Insecure {
		return "keystore-insecure-" + strconv.Itoa(validator) + ".json"
	}
	return "keystore-" + strconv.Itoa(validator) + ".json"
}

// PasswordFileName replaces .json by .txt.
func PasswordFileName(keystoreName string) string {
	return strings.TrimSuffix(keystoreName, ".json") + ".txt"
}

// ParseFileName says whether a file is a keystore by its name, and whose.
func ParseFileName(name string) (validator int, ok bool) {
	m := namePattern.FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	validator, err := strconv.Atoi(m[2])
	return validator, err == nil
}
