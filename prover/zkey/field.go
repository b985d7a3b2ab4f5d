package zkey

import (
	"context"
	"encoding/binary"
	"math/big"
	"math/bits"
	"sync"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// Sizes in the files, in bytes.
const (
	fieldBytes = 32 // one element of the base or the scalar field
	g1Bytes    = 2 * fieldBytes
	g2Bytes    = 4 * fieldBytes
)

var (
	fpModulus = limbsOf(fp.Modulus())
	frModulus = limbsOf(fr.Modulus())

	// montgomery is R^2, so that its Montgomery product with raw limbs is the field element of that value.
	montgomery = func() fr.Element {
		var e fr.Element
		e.SetBigInt(new(big.Int).Lsh(big.NewInt(1), 256))
		return e
	}()

	// curveB and twistB are the constants b of y^2 = x^3 + b on the two curves.
	curveB, twistB = func() (fp.Element, bn254.E2) {
		_, _, g1, g2 := bn254.Generators()
		return g1Constant(&g1), g2Constant(&g2)
	}()
)

func limbsOf(x *big.Int) (l [4]uint64) {
	var b [fieldBytes]byte
	x.FillBytes(b[:])
	for i := range l {
		l[i] = binary.BigEndian.Uint64(b[fieldBytes-8*(i+1):])
	}
	return l
}

// readLimbs reads four little-endian limbs, the order in which gnark-crypto keeps them. It says whether their number is
// below m; one that is not would be a second writing of the same element, which nobody honest makes.
func readLimbs(b []byte, m *[4]uint64) (l [4]uint64, ok bool) {
	_ = b[fieldBytes-1]
	l[0] = binary.LittleEndian.Uint64(b)
	l[1] = binary.LittleEndian.Uint64(b[8:])
	l[2] = binary.LittleEndian.Uint64(b[16:])
	l[3] = binary.LittleEndian.Uint64(b[24:])
	_, c := bits.Sub64(l[0], m[0], 0)
	_, c = bits.Sub64(l[1], m[1], c)
	_, c = bits.Sub64(l[2], m[2], c)
	_, c = bits.Sub64(l[3], m[3], c)
	return l, c == 1
}

func g1Constant(p *bn254.G1Affine) (b fp.Element) {
	var cube fp.Element
	cube.Square(&p.X)
	cube.Mul(&cube, &p.X)
	b.Square(&p.Y)
	b.Sub(&b, &cube)
	return b
}

func g2Constant(p *bn254.G2Affine) (b bn254.E2) {
	var cube bn254.E2
	cube.Square(&p.X)
	cube.Mul(&cube, &p.X)
	b.Square(&p.Y)
	b.Sub(&b, &cube)
	return b
}

// readG1 reads a point as a zkey has it: affine, Montgomery form, (0,0) for infinity. Every point of the first curve is
// in the group, so a true answer means a usable point.
func readG1(b []byte, p *bn254.G1Affine) bool {
	x, okX := readLimbs(b, &fpModulus)
	y, okY := readLimbs(b[fieldBytes:], &fpModulus)
	p.X, p.Y = x, y
	if !okX || !okY {
		return false
	}
	c := g1Constant(p)
	return c.Equal(&curveB) || p.IsInfinity()
}

// readG2 is readG1 for the second curve. It does not prove that the point is in the right subgroup: damage does not make
// a point on the curve, and a key made to deceive needs no wrong subgroup.
func readG2(b []byte, p *bn254.G2Affine) bool {
	x0, ok0 := readLimbs(b, &fpModulus)
	x1, ok1 := readLimbs(b[fieldBytes:], &fpModulus)
	y0, ok2 := readLimbs(b[2*fieldBytes:], &fpModulus)
	y1, ok3 := readLimbs(b[3*fieldBytes:], &fpModulus)
	p.X.A0, p.X.A1, p.Y.A0, p.Y.A1 = x0, x1, y0, y1
	if !ok0 || !ok1 || !ok2 || !ok3 {
		return false
	}
	c := g2Constant(p)
	return c.Equal(&twistB) || p.IsInfinity()
}

// split calls work on up to `workers` parts of [0, n), each in a goroutine of its own, waits for all of them and
// returns the first error. One worker means the caller's goroutine.
func split(ctx context.Context, n, workers int, work func(lo, hi int) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	workers = min(workers, n)
	if workers <= 1 {
		return work(0, n)
	}
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for i := range workers {
		lo, hi := n*i/workers, n*(i+1)/workers
		wg.Go(func() { errs[i] = work(lo, hi) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
