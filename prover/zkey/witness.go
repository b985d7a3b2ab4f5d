package zkey

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// Sections of a witness.
const (
	secWitnessHeader = 1
	secWitnessValues = 2
)

const witnessHeaderBytes = 4 + fieldBytes + 4

// Witness is an open .wtns file. It does not change; any number of goroutines may use it until Close. Its values are
// secrets of whoever made it: nothing here prints them.
type Witness struct {
	*container
	vars int
}

// OpenWitness opens a .wtns and checks its header, not its values: Check and Prove read those.
func OpenWitness(path string) (*Witness, error) {
	f, size, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("open witness: %w", err)
	}
	w, err := newWitness(f, size, "witness "+path)
	if err != nil {
		f.Close()
		return nil, err
	}
	w.closer = f
	return w, nil
}

// NewWitness is OpenWitness for a witness of size bytes that is already at hand. The caller keeps r, which must not
// change until the witness is no longer used.
func NewWitness(r io.ReaderAt, size int64) (*Witness, error) { return newWitness(r, size, "witness") }

func newWitness(r io.ReaderAt, size int64, name string) (*Witness, error) {
	c, err := readContainer(r, size, name, "wtns")
	if errors.Is(err, errMagic) {
		return nil, &refusal{what: name, kind: ErrNotWitness, cause: `it does not begin with "wtns"`,
			remedy: "give the .wtns file that `snarkjs wtns calculate` wrote"}
	}
	if err != nil {
		return nil, err
	}
	if c.version != 2 {
		return nil, c.unsupported(fmt.Sprintf("version %d of the format", c.version), "make the witness with circom 2 or snarkjs 0.7")
	}
	sec, ok := c.sections[secWitnessHeader]
	if !ok {
		return nil, c.damaged("section 1 (header) is missing")
	}
	var b [witnessHeaderBytes]byte
	if err := c.readAt(b[:min(sec.len, witnessHeaderBytes)], sec.off); err != nil {
		return nil, err
	}
	if !isPrime(b[:], &frModulus) {
		if n := binary.LittleEndian.Uint32(b[:]); n == 0 || n%8 != 0 || n > 128 {
			return nil, c.damaged("the header names no field")
		}
		return nil, &refusal{what: name, kind: ErrWrongCurve, cause: "its field is not that of BN254",
			remedy: "compile the circuit for bn128, the default of circom"}
	}
	if sec.len != witnessHeaderBytes {
		return nil, c.damaged(fmt.Sprintf("section 1 (header) has %d bytes instead of %d", sec.len, witnessHeaderBytes))
	}
	n := binary.LittleEndian.Uint32(b[4+fieldBytes:])
	if n == 0 {
		return nil, c.damaged("it has no values")
	}
	if n > maxVars {
		return nil, c.unsupported(fmt.Sprintf("%d values", n), fmt.Sprintf("the limit is %d", maxVars))
	}
	if _, err := c.want(secWitnessValues, "values", int64(n)*fieldBytes); err != nil {
		return nil, err
	}
	return &Witness{container: c, vars: int(n)}, nil
}

// Vars is the number of values, the constant 1 included.
func (w *Witness) Vars() int { return w.vars }

// Close closes the file if OpenWitness opened it. Calls that still run fail.
func (w *Witness) Close() error { return w.close() }

// Check reads the values and says whether all are elements of the field and the first is 1: ErrDamaged if not.
func (w *Witness) Check(ctx context.Context) error {
	return w.each(ctx, func(int, *[4]uint64) {})
}

// Match says whether the witness can belong to the key: ErrWitnessMismatch if the numbers of wires differ. Two circuits
// with the same number of wires cannot be told apart here; their proofs fail to verify.
func Match(k *Key, w *Witness) error {
	if k.header.Vars == w.vars {
		return nil
	}
	return &refusal{what: w.name, kind: ErrWitnessMismatch,
		cause:  fmt.Sprintf("it has %d values, the %s has %d wires", w.vars, k.name, k.header.Vars),
		remedy: "calculate the witness with the circuit that the key was made for"}
}

func (w *Witness) each(ctx context.Context, fn func(i int, limbs *[4]uint64)) error {
	base := w.sections[secWitnessValues].off
	buf := make([]byte, min(readBytes, w.vars*fieldBytes))
	for i := 0; i < w.vars; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(len(buf)/fieldBytes, w.vars-i)
		if err := w.readAt(buf[:n*fieldBytes], base+int64(i)*fieldBytes); err != nil {
			return err
		}
		for j := range n {
			l, ok := readLimbs(buf[j*fieldBytes:], &frModulus)
			if !ok {
				return w.damaged(fmt.Sprintf("value %d is not below the prime", i+j))
			}
			if i+j == 0 && l != [4]uint64{1} {
				return w.damaged("its first value is not 1")
			}
			fn(i+j, &l)
		}
		i += n
	}
	return nil
}

// load reads the values as raw limbs: not in Montgomery form.
func (w *Witness) load(ctx context.Context) ([]fr.Element, error) {
	values := make([]fr.Element, w.vars)
	if err := w.each(ctx, func(i int, l *[4]uint64) { values[i] = *l }); err != nil {
		return nil, err
	}
	return values, nil
}
