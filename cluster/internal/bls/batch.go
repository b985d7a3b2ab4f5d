package bls

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"app.provost/cluster"

	herumi "github.com/herumi/bls-eth-go-binary/bls"
)

// SignaturePoint is a signature whose bytes were checked, ready for use. Its zero value is none.
type SignaturePoint struct{ p *herumi.Sign }

// ParseSignature checks that the bytes are a point of the right subgroup other than infinity.
func ParseSignature(s cluster.Signature) (SignaturePoint, error) {
	p, err := parseSignature(s)
	if err != nil {
		return SignaturePoint{}, err
	}
	return SignaturePoint{p}, nil
}

// SignPoint signs a message of at least one byte. The result needn't be read again.
func (s SecretKey) SignPoint(msg []byte) (SignaturePoint, error) {
	if !s.ok() {
		return SignaturePoint{}, ErrZeroised
	}
	if len(msg) == 0 {
		return SignaturePoint{}, errors.New("sign: the message is empty")
	}
	return SignaturePoint{(*s.k).SignByte(forC(msg))}, nil
}

// Signature returns the bytes; all zeros for the zero value.
func (s SignaturePoint) Signature() (out cluster.Signature) {
	if s.p != nil {
		copy(out[:], s.p.Serialize())
	}
	return out
}

// Verify returns nil only when the point is the key's signature of msg.
func (s SignaturePoint) Verify(key PublicKey, msg []byte) error {
	if key.p == nil {
		return ErrBadPubKey
	}
	if s.p == nil {
		return ErrBadSignature
	}
	if len(msg) == 0 || !s.p.VerifyByte(key.p, forC(msg)) {
		return ErrVerify
	}
	return nil
}

// VerifyBatch returns nil only when every signature is that of the key at the same place over the
// one message. It compares sums with random weights of 64 bits, so a batch with a wrong signature
// passes with a chance below 2^-63, whoever made it. It doesn't say which one is wrong.
func VerifyBatch(keys []PublicKey, msg []byte, sigs []SignaturePoint) error {
	if len(keys) != len(sigs) || len(keys) == 0 {
		return fmt.Errorf("verify a batch of %d keys and %d signatures: %w", len(keys), len(sigs), ErrVerify)
	}
	if len(keys) == 1 {
		return sigs[0].Verify(keys[0], msg)
	}
	weights := make([]herumi.Fr, len(keys))
	raw := make([]byte, 8*len(keys))
	if _, err := rand.Read(raw); err != nil {
		return fmt.Errorf("verify a batch: draw weights: %w", err)
	}
	g1, g2 := make([]herumi.G1, len(keys)), make([]herumi.G2, len(keys))
	for i := range keys {
		switch {
		case keys[i].p == nil:
			return ErrBadPubKey
		case sigs[i].p == nil:
			return ErrBadSignature
		}
		w := raw[8*i : 8*i+8]
		// A weight of zero would leave its signature out.
		binary.LittleEndian.PutUint64(w, max(binary.LittleEndian.Uint64(w), 1))
		if err := weights[i].SetLittleEndian(w); err != nil {
			return fmt.Errorf("verify a batch: %w", err)
		}
		g1[i], g2[i] = *herumi.CastFromPublicKey(keys[i].p), *herumi.CastFromSign(sigs[i].p)
	}
	var key herumi.G1
	var sig herumi.G2
	herumi.G1MulVec(&key, g1, weights)
	herumi.G2MulVec(&sig, g2, weights)
	if len(msg) == 0 || !herumi.CastToSign(&sig).VerifyByte(herumi.CastToPublicKey(&key), forC(msg)) {
		return ErrVerify
	}
	return nil
}

// Interpolation makes validators' signatures from the partial ones of one set of shares. Its
// numbers are worked out once; for the small indices that clusters have they are small, which
// makes it several times faster than CombineThreshold.
type Interpolation struct {
	factors []herumi.Fr // of the signatures, whole numbers without their sign
	minus   []bool      // a negative number in the field is a large one, and multiplying by it slow
	divide  *herumi.Fr  // by this at the end; nil when by one
}

// NewInterpolation prepares for the shares of these indices, all different and at least two.
func NewInterpolation(shares []cluster.ShareIndex) (Interpolation, error) {
	if err := initOnce(); err != nil {
		return Interpolation{}, err
	}
	if len(shares) < 2 || len(shares) > cluster.MaxOperators {
		return Interpolation{}, fmt.Errorf("interpolate: found %d shares, want 2 to %d", len(shares), cluster.MaxOperators)
	}
	for i, s := range shares {
		if s < 1 || s > cluster.MaxOperators || slices.Contains(shares[:i], s) {
			return Interpolation{}, fmt.Errorf("interpolate: share index %d: want different ones of 1 to %d", s, cluster.MaxOperators)
		}
	}
	// Lagrange's coefficients at zero as fractions, then over one denominator.
	coefficients := make([]*big.Rat, len(shares))
	common := big.NewInt(1)
	for i, xi := range shares {
		c := big.NewRat(1, 1)
		for j, xj := range shares {
			if i != j {
				c.Mul(c, big.NewRat(int64(xj), int64(xj-xi)))
			}
		}
		coefficients[i] = c
		gcd := new(big.Int).GCD(nil, nil, common, c.Denom())
		common.Mul(common, new(big.Int).Div(c.Denom(), gcd))
	}
	in := Interpolation{factors: make([]herumi.Fr, len(shares)), minus: make([]bool, len(shares))}
	for i, c := range coefficients {
		whole := new(big.Int).Mul(c.Num(), new(big.Int).Div(common, c.Denom()))
		in.minus[i] = whole.Sign() < 0
		if err := in.factors[i].SetString(whole.Abs(whole).String(), 10); err != nil {
			return Interpolation{}, fmt.Errorf("interpolate: %w", err)
		}
	}
	if common.Cmp(big.NewInt(1)) != 0 {
		var d, inverse herumi.Fr
		if err := d.SetString(common.String(), 10); err != nil {
			return Interpolation{}, fmt.Errorf("interpolate: %w", err)
		}
		herumi.FrInv(&inverse, &d)
		in.divide = &inverse
	}
	return in, nil
}

// Combine makes the validator's signature from one partial per share, in the order that
// NewInterpolation got. The result must be verified.
func (in Interpolation) Combine(partials []SignaturePoint) (SignaturePoint, error) {
	if len(partials) != len(in.factors) || len(partials) == 0 {
		return SignaturePoint{}, fmt.Errorf("interpolate %d signatures with numbers for %d", len(partials), len(in.factors))
	}
	var sum, term herumi.G2
	for i, p := range partials {
		if p.p == nil {
			return SignaturePoint{}, ErrBadSignature
		}
		herumi.G2Mul(&term, herumi.CastFromSign(p.p), &in.factors[i])
		if in.minus[i] {
			herumi.G2Neg(&term, &term)
		}
		if i == 0 {
			sum = term
		} else {
			herumi.G2Add(&sum, &sum, &term)
		}
	}
	if in.divide != nil {
		herumi.G2Mul(&sum, &sum, in.divide)
	}
	out := *herumi.CastToSign(&sum)
	if out.IsZero() {
		return SignaturePoint{}, errors.New("interpolate signatures: the result is nothing")
	}
	return SignaturePoint{&out}, nil
}
