// Package zkey makes and checks Groth16 proofs over BN254 from the files of snarkjs: a proving key (.zkey), a witness
// (.wtns), and the JSON of proofs, public signals and verification keys. It is pure Go on gnark-crypto and needs no
// other program.
//
// Promises:
//
//   - Files are hostile until checked. Open and OpenWitness read the headers only (a few hundred bytes, milliseconds for
//     any size) and refuse what does not fit together: every section must lie inside the file and have exactly the size
//     that the header calls for, so nothing is allocated that the file does not back. Prove checks every index it
//     follows and every point it uses (coordinates below the prime, on the curve) while it reads them; that costs about
//     2 % and turns damage to points into ErrDamaged instead of a bad proof.
//   - Keys are read in blocks through io.ReaderAt, not mapped: a file that is cut off while a proof runs is an error
//     here, where a mapping would kill the process with SIGBUS, and the alignment of the sections in a zkey (4 bytes)
//     would not allow Go to alias the points anyway. The page cache serves the blocks to all processes alike.
//   - Key and Witness do not change after Open; any number of goroutines may use them until Close.
//   - Prove blocks until it is done, failed or cancelled. It looks at its context between blocks; a cancelled call
//     returns within one block (at worst about three seconds on one core). It leaves no goroutine behind.
//   - Options.Workers bounds the goroutines that compute at the same time. The package never changes GOMAXPROCS.
//   - Verify answers nil only for a proof that holds; whatever else happens is an error.
//
// What it cannot promise: a .zkey does not carry the constraints in a form that would allow checking a witness, and a
// changed byte in the coefficients is as good as any other byte. A witness that does not satisfy the constraints, or a
// damaged key, therefore gives a proof that looks like any other and is wrong. Every proof must be verified before it
// counts. Compare Key.Digest with a digest from a source you trust to know that a key is the one you mean.
//
// The file formats are those of snarkjs 0.7 (https://github.com/iden3/snarkjs, src/zkey_utils.js, src/wtns_utils.js) and
// the proof system is https://eprint.iacr.org/2016/260.
package zkey

import (
	"errors"
	"strings"
)

// The kinds of refusal. Match them with errors.Is; the message of the error around them says the file, the cause and
// what to do.
var (
	// ErrNotZkey: the file is something else.
	ErrNotZkey = errors.New("not a snarkjs proving key")
	// ErrNotWitness: the file is something else.
	ErrNotWitness = errors.New("not a snarkjs witness")
	// ErrDamaged: the file is cut off, or its parts contradict each other.
	ErrDamaged = errors.New("the file is damaged")
	// ErrUnsupported: a sound file of a kind that this package does not prove (PLONK, FFLONK, a newer version).
	ErrUnsupported = errors.New("not supported")
	// ErrWrongCurve: the file belongs to another curve than BN254.
	ErrWrongCurve = errors.New("wrong curve")
	// ErrWitnessMismatch: the witness belongs to another circuit than the key.
	ErrWitnessMismatch = errors.New("the witness belongs to another circuit")
	// ErrMalformed: JSON that is not what snarkjs writes, or whose numbers are no points of the curve.
	ErrMalformed = errors.New("malformed JSON")
	// ErrProofInvalid: the proof does not hold for these public signals and this key.
	ErrProofInvalid = errors.New("the proof is not valid")
)

// refusal is an error that a person can act on.
type refusal struct {
	what   string // what was read or done: "key c.zkey"
	kind   error  // one of the errors above
	cause  string
	remedy string
}

func (e *refusal) Error() string {
	var b strings.Builder
	b.WriteString(e.what)
	b.WriteString(": ")
	b.WriteString(e.kind.Error())
	if e.cause != "" {
		b.WriteString(": ")
		b.WriteString(e.cause)
	}
	if e.remedy != "" {
		b.WriteString("; ")
		b.WriteString(e.remedy)
	}
	return b.String()
}

func (e *refusal) Unwrap() error { return e.kind }
