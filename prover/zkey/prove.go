package zkey

import (
	"context"
	"fmt"
	"math/bits"
	"runtime"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr/fft"

	"app.provost/prover"
)

// Phases are the phases of Prove in their order.
func Phases() []prover.Phase {
	return []prover.Phase{prover.PhaseLoad, prover.PhaseABC, prover.PhaseFFT, prover.PhaseA, prover.PhaseB1, prover.PhaseB2,
		prover.PhaseC, prover.PhaseH}
}

// Progress is how far a proof is. Done and Total count estimated work for the whole proof in arbitrary units; Done never
// decreases, and equals Total when the proof is complete.
type Progress struct {
	Phase       prover.Phase
	Done, Total int64
}

// Options say how to prove. The zero value is usable.
type Options struct {
	// Workers is how many goroutines compute at the same time; 0 means GOMAXPROCS. With 1 the proof uses one core, but for
	// moments when the sums of a very uneven witness run in two halves.
	Workers int
	// OnProgress is called on the caller's goroutine at the beginning of each phase and between the blocks of it. It must
	// return quickly: the proof waits for it. It may be nil.
	OnProgress func(Progress)

	block int // points summed at once; 0 means blockPoints. Tests make it small.
}

// blockPoints is how many points are summed at once. It bounds memory and the time until a cancellation is noticed. A sum
// of 2^20 points takes 8 % longer in these blocks than in one piece.
const blockPoints = 1 << 18

// Prove makes a proof that the witness satisfies the circuit of the key, together with its public signals. It blocks
// until the proof is made. The proof is not verified: see the package comment, and Verify.
//
// Errors: ErrWitnessMismatch, ErrDamaged, the cause of ctx, or an error of the file system.
func Prove(ctx context.Context, k *Key, w *Witness, o Options) (*Proof, Public, error) {
	var r, s fr.Element
	for _, e := range []*fr.Element{&r, &s} {
		if _, err := e.SetRandom(); err != nil {
			return nil, nil, fmt.Errorf("prove: no random numbers for the blinding: %w", err)
		}
	}
	return prove(ctx, k, w, o, &r, &s)
}

func prove(ctx context.Context, k *Key, w *Witness, o Options, r, s *fr.Element) (*Proof, Public, error) {
	if err := Match(k, w); err != nil {
		return nil, nil, err
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.block <= 0 {
		o.block = blockPoints
	}
	m := newMeter(k.header, o.OnProgress)
	p := &run{ctx: ctx, key: k, workers: min(o.Workers, 1024), block: o.block, meter: m}

	m.begin(prover.PhaseLoad)
	values, err := w.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	m.begin(prover.PhaseABC)
	a, b, err := p.matrices(values)
	if err != nil {
		return nil, nil, err
	}
	// The matrices wanted raw limbs, the sums want Montgomery form.
	err = split(ctx, len(values), p.workers, func(lo, hi int) error {
		for i := lo; i < hi; i++ {
			values[i].Mul(&values[i], &montgomery)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	public := make(Public, k.header.Public)
	copy(public, values[1:])

	m.begin(prover.PhaseFFT)
	if err := p.quotient(a, b); err != nil {
		return nil, nil, err
	}

	var sumA, sumB1, sumC, sumH bn254.G1Jac
	var sumB2 bn254.G2Jac
	m.begin(prover.PhaseA)
	if err := p.sumG1(secA, values, &sumA); err != nil {
		return nil, nil, err
	}
	m.begin(prover.PhaseB1)
	if err := p.sumG1(secB1, values, &sumB1); err != nil {
		return nil, nil, err
	}
	m.begin(prover.PhaseB2)
	if err := p.sumG2(secB2, values, &sumB2); err != nil {
		return nil, nil, err
	}
	m.begin(prover.PhaseC)
	if err := p.sumG1(secC, values[k.header.Public+1:], &sumC); err != nil {
		return nil, nil, err
	}
	m.begin(prover.PhaseH)
	if err := p.sumG1(secH, a, &sumH); err != nil {
		return nil, nil, err
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}

	// A = alpha + sumA + r*delta;  B = beta + sumB + s*delta, in both groups;  C = sumC + sumH + s*A + r*B - r*s*delta
	vk := &k.vk
	var rs fr.Element
	rs.Mul(r, s).Neg(&rs)
	sumA.AddMixed(&vk.alpha1)
	sumA.AddAssign(timesG1(&vk.delta1, r))
	sumB1.AddMixed(&vk.beta1)
	sumB1.AddAssign(timesG1(&vk.delta1, s))
	sumB2.AddMixed(&vk.beta2)
	sumB2.AddAssign(timesG2(&vk.delta2, s))
	proof := new(Proof)
	proof.a.FromJacobian(&sumA)
	proof.b.FromJacobian(&sumB2)
	var b1 bn254.G1Affine
	b1.FromJacobian(&sumB1)
	sumC.AddAssign(&sumH)
	sumC.AddAssign(timesG1(&proof.a, s))
	sumC.AddAssign(timesG1(&b1, r))
	sumC.AddAssign(timesG1(&vk.delta1, &rs))
	proof.c.FromJacobian(&sumC)
	m.finish()
	return proof, public, nil
}

func timesG1(p *bn254.G1Affine, e *fr.Element) *bn254.G1Jac {
	var j bn254.G1Jac
	j.FromAffine(p)
	return j.ScalarMultiplication(&j, e.BigInt(newInt()))
}

func timesG2(p *bn254.G2Affine, e *fr.Element) *bn254.G2Jac {
	var j bn254.G2Jac
	j.FromAffine(p)
	return j.ScalarMultiplication(&j, e.BigInt(newInt()))
}

// run is one proof.
type run struct {
	ctx     context.Context
	key     *Key
	workers int
	block   int
	meter   *meter
}

// matrices evaluates A and B on the witness, given as raw limbs; the results are in Montgomery form. A coefficient in the
// file carries the square of the Montgomery factor and a value none, so one Montgomery product is the term.
func (p *run) matrices(values []fr.Element) (a, b []fr.Element, err error) {
	a = make([]fr.Element, p.key.header.Domain)
	b = make([]fr.Element, p.key.header.Domain)
	rows := [2][]fr.Element{a, b}
	err = p.key.eachCoef(p.ctx, func(matrix, constraint, wire uint32, value *[4]uint64) {
		term := fr.Element(*value)
		term.Mul(&term, &values[wire])
		row := &rows[matrix][constraint]
		row.Add(row, &term)
	}, func(done int) { p.meter.within(int64(done), int64(p.key.header.Coefs)) })
	return a, b, err
}

// quotient replaces a by the values of a*b - c on the coset of the domain that the H points of the key belong to: the one
// shifted by the root of unity of twice the domain's size.
func (p *run) quotient(a, b []fr.Element) error {
	n := len(a)
	shift, err := fr.Generator(uint64(2 * n))
	if err != nil {
		return fmt.Errorf("prove: domain of %d: %w", n, err)
	}
	// Without its tables the domain starts no goroutines of its own; they are needed for three pairs only.
	domain := fft.NewDomain(uint64(n), fft.WithoutPrecompute())
	tasks := fft.WithNbTasks(min(p.workers, 512))

	c := make([]fr.Element, n)
	err = split(p.ctx, n, p.workers, func(lo, hi int) error {
		for i := lo; i < hi; i++ {
			c[i].Mul(&a[i], &b[i])
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Powers of the shift in the order in which the inverse transform leaves the coefficients: index bits reversed.
	powers := make([]fr.Element, n)
	unused := 64 - bits.TrailingZeros64(uint64(n))
	err = split(p.ctx, n, p.workers, func(lo, hi int) error {
		var x fr.Element
		x.Exp(shift, newInt().SetInt64(int64(lo)))
		for i := lo; i < hi; i++ {
			powers[bits.Reverse64(uint64(i))>>unused] = x
			x.Mul(&x, &shift)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, v := range [][]fr.Element{a, b, c} {
		domain.FFTInverse(v, fft.DIF, tasks)
		p.meter.within(int64(2*i+1), 6)
		err = split(p.ctx, n, p.workers, func(lo, hi int) error {
			for j := lo; j < hi; j++ {
				v[j].Mul(&v[j], &powers[j])
			}
			return nil
		})
		if err != nil {
			return err
		}
		domain.FFT(v, fft.DIT, tasks)
		p.meter.within(int64(2*i+2), 6)
	}
	return split(p.ctx, n, p.workers, func(lo, hi int) error {
		for i := lo; i < hi; i++ {
			a[i].Mul(&a[i], &b[i]).Sub(&a[i], &c[i])
		}
		return nil
	})
}

func (p *run) sumG1(id uint32, scalars []fr.Element, sum *bn254.G1Jac) error {
	points := make([]bn254.G1Affine, min(p.block, len(scalars)))
	for i := 0; i < len(scalars); i += len(points) {
		n := min(len(points), len(scalars)-i)
		if err := p.key.readG1s(p.ctx, id, i, points[:n], p.workers); err != nil {
			return err
		}
		var part bn254.G1Jac
		if _, err := part.MultiExp(points[:n], scalars[i:i+n], ecc.MultiExpConfig{NbTasks: p.workers}); err != nil {
			return fmt.Errorf("prove: sum over section %d: %w", id, err)
		}
		sum.AddAssign(&part)
		p.meter.within(int64(i+n), int64(len(scalars)))
	}
	return nil
}

func (p *run) sumG2(id uint32, scalars []fr.Element, sum *bn254.G2Jac) error {
	points := make([]bn254.G2Affine, min(p.block, len(scalars)))
	for i := 0; i < len(scalars); i += len(points) {
		n := min(len(points), len(scalars)-i)
		if err := p.key.readG2s(p.ctx, id, i, points[:n], p.workers); err != nil {
			return err
		}
		var part bn254.G2Jac
		if _, err := part.MultiExp(points[:n], scalars[i:i+n], ecc.MultiExpConfig{NbTasks: p.workers}); err != nil {
			return fmt.Errorf("prove: sum over section %d: %w", id, err)
		}
		sum.AddAssign(&part)
		p.meter.within(int64(i+n), int64(len(scalars)))
	}
	return nil
}

// meter turns phases into Progress. It belongs to the goroutine that proves.
type meter struct {
	report func(Progress)
	cost   map[prover.Phase]int64
	now    Progress
	base   int64 // cost of the phases before this one
}

// newMeter knows the relative cost of the phases: measured on proofs of 2^12 to 2^14 rows, in units of one point of G1.
func newMeter(h Header, report func(Progress)) *meter {
	vars, domain := int64(h.Vars), int64(h.Domain)
	m := &meter{report: report, cost: map[prover.Phase]int64{
		prover.PhaseLoad: vars / 64,
		prover.PhaseABC:  int64(h.Coefs) / 32,
		prover.PhaseFFT:  domain * int64(bits.Len64(uint64(domain))) / 16,
		prover.PhaseA:    vars,
		prover.PhaseB1:   vars,
		prover.PhaseB2:   3 * vars,
		prover.PhaseC:    vars,
		prover.PhaseH:    domain,
	}}
	for _, c := range m.cost {
		m.now.Total += c
	}
	return m
}

func (m *meter) begin(p prover.Phase) {
	m.base += m.cost[m.now.Phase]
	m.now.Phase, m.now.Done = p, m.base
	m.send()
}

// within reports done of total steps of the current phase.
func (m *meter) within(done, total int64) {
	m.now.Done = m.base + int64(float64(m.cost[m.now.Phase])*float64(done)/float64(total))
	m.send()
}

func (m *meter) finish() {
	m.now.Done = m.now.Total
	m.send()
}

func (m *meter) send() {
	if m.report != nil {
		m.report(m.now)
	}
}
