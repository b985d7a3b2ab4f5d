package zkey

import (
	"fmt"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// Proof is a Groth16 proof. Only Prove and ParseProof make one; it does not change.
type Proof struct {
	a, c bn254.G1Affine
	b    bn254.G2Affine
}

// Public are the public signals of a proof: outputs first, then public inputs, in the order of the circuit.
type Public []fr.Element

// VerifyingKey checks the proofs of one circuit. Only Key.VerifyingKey and ParseVerifyingKey make one; it does not
// change, and any number of goroutines may use it.
type VerifyingKey struct {
	alpha              bn254.G1Affine
	beta, gamma, delta bn254.G2Affine
	ic                 []bn254.G1Affine // one more than public signals
}

// Public is the number of public signals of the circuit.
func (vk *VerifyingKey) Public() int { return len(vk.ic) - 1 }

// Equal says whether two keys check the same proofs.
func (vk *VerifyingKey) Equal(other *VerifyingKey) bool {
	if len(vk.ic) != len(other.ic) || vk.alpha != other.alpha || vk.beta != other.beta || vk.gamma != other.gamma || vk.delta != other.delta {
		return false
	}
	for i := range vk.ic {
		if vk.ic[i] != other.ic[i] {
			return false
		}
	}
	return true
}

// Verify says whether the proof holds for these public signals: nil if it does, else an error that matches
// ErrProofInvalid. It takes about a millisecond and trusts nothing about the proof.
func Verify(vk *VerifyingKey, public Public, proof *Proof) error {
	if vk == nil || len(vk.ic) == 0 || proof == nil {
		return invalid("there is no proof or no key", "give both")
	}
	if len(public) != vk.Public() {
		return invalid(fmt.Sprintf("it comes with %d public signals, the key wants %d", len(public), vk.Public()),
			"verify it with the key of its own circuit")
	}
	for i := range public {
		if !isCanonical(&public[i]) {
			return invalid(fmt.Sprintf("public signal %d is not below the prime", i), "read it with ParsePublic")
		}
	}
	if !goodG1(&proof.a) || !goodG2(&proof.b) || !goodG1(&proof.c) {
		return invalid("one of its points is not in its group", "make it again with an undamaged key")
	}
	var sum bn254.G1Jac
	if len(public) > 0 {
		if _, err := sum.MultiExp(vk.ic[1:], public, ecc.MultiExpConfig{NbTasks: 1}); err != nil {
			return invalid(err.Error(), "")
		}
	}
	sum.AddMixed(&vk.ic[0])

	// e(-A, B) * e(alpha, beta) * e(sum, gamma) * e(C, delta) = 1
	var minusA, signals bn254.G1Affine
	minusA.Neg(&proof.a)
	signals.FromJacobian(&sum)
	ok, err := bn254.PairingCheck(
		[]bn254.G1Affine{minusA, vk.alpha, signals, proof.c},
		[]bn254.G2Affine{proof.b, vk.beta, vk.gamma, vk.delta})
	if err != nil {
		return invalid(err.Error(), "")
	}
	if !ok {
		return invalid("the pairing equation does not hold",
			"either the witness does not satisfy the circuit, or key or proof are damaged or belong to another circuit")
	}
	return nil
}

func invalid(cause, remedy string) error {
	return &refusal{what: "verify", kind: ErrProofInvalid, cause: cause, remedy: remedy}
}

func isCanonical(e *fr.Element) bool {
	for i := 3; i >= 0; i-- {
		if e[i] != frModulus[i] {
			return e[i] < frModulus[i]
		}
	}
	return false
}

// goodG1 refuses infinity too: no honest proof and no key has it in these places.
func goodG1(p *bn254.G1Affine) bool { return !p.IsInfinity() && p.IsOnCurve() }

func goodG2(p *bn254.G2Affine) bool { return !p.IsInfinity() && p.IsOnCurve() && p.IsInSubGroup() }
