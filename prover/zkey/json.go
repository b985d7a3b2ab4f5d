package zkey

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/big"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// The JSON of snarkjs: numbers are decimal strings, points projective with a last coordinate of "1" ("0" for infinity,
// which only the ic points of a verification key may be). Files are indented by one space and end without a newline.

const (
	protocolName = "groth16"
	curveName    = "bn128"

	maxProofJSON = 1 << 14
	// a decimal string of 77 digits with quotes, comma and space, and some room; a point has seven such
	maxPublicJSON = maxPublic * 100
	maxKeyJSON    = maxPublic*700 + 1<<16
)

type proofJSON struct {
	A        []string   `json:"pi_a"`
	B        [][]string `json:"pi_b"`
	C        []string   `json:"pi_c"`
	Protocol string     `json:"protocol"`
	Curve    string     `json:"curve"`
}

type keyJSON struct {
	Protocol  string          `json:"protocol"`
	Curve     string          `json:"curve"`
	NPublic   int             `json:"nPublic"`
	Alpha     []string        `json:"vk_alpha_1"`
	Beta      [][]string      `json:"vk_beta_2"`
	Gamma     [][]string      `json:"vk_gamma_2"`
	Delta     [][]string      `json:"vk_delta_2"`
	AlphaBeta json.RawMessage `json:"vk_alphabeta_12,omitempty"` // a product that nobody needs: read over, not written
	IC        [][]string      `json:"IC"`
}

// MarshalJSON writes the proof as snarkjs' proof.json; json.MarshalIndent(p, "", " ") gives the very bytes of that file.
func (p *Proof) MarshalJSON() ([]byte, error) {
	return json.Marshal(proofJSON{A: g1Strings(&p.a), B: g2Strings(&p.b), C: g1Strings(&p.c), Protocol: protocolName, Curve: curveName})
}

// MarshalJSON writes the signals as snarkjs' public.json; json.MarshalIndent(p, "", " ") gives the very bytes of that
// file, unless there are no signals: then snarkjs breaks the line between the brackets.
func (p Public) MarshalJSON() ([]byte, error) {
	s := make([]string, len(p))
	for i := range p {
		s[i] = p[i].BigInt(newInt()).String()
	}
	return json.Marshal(s)
}

// MarshalJSON writes the key as snarkjs' verification_key.json, without the product vk_alphabeta_12: snarkjs does not
// need it to verify.
func (vk *VerifyingKey) MarshalJSON() ([]byte, error) {
	k := keyJSON{Protocol: protocolName, Curve: curveName, NPublic: vk.Public(), Alpha: g1Strings(&vk.alpha),
		Beta: g2Strings(&vk.beta), Gamma: g2Strings(&vk.gamma), Delta: g2Strings(&vk.delta), IC: make([][]string, len(vk.ic))}
	for i := range vk.ic {
		k.IC[i] = g1Strings(&vk.ic[i])
	}
	return json.Marshal(k)
}

// ParseProof reads snarkjs' proof.json and checks it: numbers below the prime, points in their groups and none of them
// infinity. The error matches ErrMalformed, ErrUnsupported or ErrWrongCurve.
func ParseProof(data []byte) (*Proof, error) {
	const what = "proof"
	var j proofJSON
	if err := parseJSON(data, what, maxProofJSON, &j); err != nil {
		return nil, err
	}
	if err := checkNames(what, j.Protocol, j.Curve); err != nil {
		return nil, err
	}
	p := new(Proof)
	if !parseG1(j.A, &p.a) || !goodG1(&p.a) {
		return nil, malformed(what, "pi_a is not a point of G1")
	}
	if !parseG2(j.B, &p.b) || !goodG2(&p.b) {
		return nil, malformed(what, "pi_b is not a point of G2")
	}
	if !parseG1(j.C, &p.c) || !goodG1(&p.c) {
		return nil, malformed(what, "pi_c is not a point of G1")
	}
	return p, nil
}

// ParsePublic reads snarkjs' public.json. The error matches ErrMalformed.
func ParsePublic(data []byte) (Public, error) {
	const what = "public signals"
	var s []string
	if err := parseJSON(data, what, maxPublicJSON, &s); err != nil {
		return nil, err
	}
	if s == nil {
		return nil, malformed(what, "there is no array")
	}
	if len(s) > maxPublic {
		return nil, malformed(what, fmt.Sprintf("%d of them; the limit is %d", len(s), maxPublic))
	}
	p := make(Public, len(s))
	for i := range s {
		if !parseScalar(s[i], &p[i]) {
			return nil, malformed(what, fmt.Sprintf("signal %d is not a decimal number below the prime", i))
		}
	}
	return p, nil
}

// ParseVerifyingKey reads snarkjs' verification_key.json and checks every point of it. The error matches ErrMalformed,
// ErrUnsupported or ErrWrongCurve.
func ParseVerifyingKey(data []byte) (*VerifyingKey, error) {
	const what = "verification key"
	var j keyJSON
	if err := parseJSON(data, what, maxKeyJSON, &j); err != nil {
		return nil, err
	}
	if err := checkNames(what, j.Protocol, j.Curve); err != nil {
		return nil, err
	}
	if j.NPublic < 0 || j.NPublic > maxPublic || len(j.IC) != j.NPublic+1 {
		return nil, malformed(what, fmt.Sprintf("%d points in IC for %d public signals", len(j.IC), j.NPublic))
	}
	vk := &VerifyingKey{ic: make([]bn254.G1Affine, len(j.IC))}
	if !parseG1(j.Alpha, &vk.alpha) || !goodG1(&vk.alpha) {
		return nil, malformed(what, "vk_alpha_1 is not a point of G1")
	}
	for _, p := range []struct {
		name string
		from [][]string
		to   *bn254.G2Affine
	}{{"vk_beta_2", j.Beta, &vk.beta}, {"vk_gamma_2", j.Gamma, &vk.gamma}, {"vk_delta_2", j.Delta, &vk.delta}} {
		if !parseG2(p.from, p.to) || !goodG2(p.to) {
			return nil, malformed(what, p.name+" is not a point of G2")
		}
	}
	for i := range vk.ic {
		if !parseG1(j.IC[i], &vk.ic[i]) {
			return nil, malformed(what, fmt.Sprintf("IC %d is not a point of G1", i))
		}
	}
	return vk, nil
}

func malformed(what, cause string) error {
	return &refusal{what: what, kind: ErrMalformed, cause: cause, remedy: "give the file as snarkjs wrote it"}
}

// parseJSON reads one value, refuses fields it does not know, and anything that follows.
func parseJSON(data []byte, what string, limit int, v any) error {
	if len(data) > limit {
		return malformed(what, fmt.Sprintf("%d bytes; the limit is %d", len(data), limit))
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return malformed(what, err.Error())
	}
	if _, err := d.Token(); err != io.EOF {
		return malformed(what, "something follows the value")
	}
	return nil
}

func checkNames(what, protocol, curve string) error {
	if protocol != protocolName {
		return &refusal{what: what, kind: ErrUnsupported, cause: fmt.Sprintf("protocol %.20q", protocol), remedy: "only groth16 is verified here"}
	}
	if curve != curveName {
		return &refusal{what: what, kind: ErrWrongCurve, cause: fmt.Sprintf("curve %.20q", curve), remedy: "only bn128 (BN254) is verified here"}
	}
	return nil
}

func newInt() *big.Int { return new(big.Int) }

func fpString(e *fp.Element) string { return e.BigInt(newInt()).String() }

func g1Strings(p *bn254.G1Affine) []string {
	if p.IsInfinity() {
		return []string{"0", "1", "0"}
	}
	return []string{fpString(&p.X), fpString(&p.Y), "1"}
}

func g2Strings(p *bn254.G2Affine) [][]string {
	if p.IsInfinity() {
		return [][]string{{"0", "0"}, {"1", "0"}, {"0", "0"}}
	}
	return [][]string{{fpString(&p.X.A0), fpString(&p.X.A1)}, {fpString(&p.Y.A0), fpString(&p.Y.A1)}, {"1", "0"}}
}

// parseNumber reads a decimal number below m as String writes it: digits only, no needless zero in front.
func parseNumber(s string, m *big.Int) *big.Int {
	if len(s) == 0 || len(s) > 80 || len(s) > 1 && s[0] == '0' {
		return nil
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return nil
		}
	}
	n, ok := newInt().SetString(s, 10)
	if !ok || n.Cmp(m) >= 0 {
		return nil
	}
	return n
}

func parseScalar(s string, e *fr.Element) bool {
	n := parseNumber(s, fr.Modulus())
	if n != nil {
		e.SetBigInt(n)
	}
	return n != nil
}

func parseCoordinate(s string, e *fp.Element) bool {
	n := parseNumber(s, fp.Modulus())
	if n != nil {
		e.SetBigInt(n)
	}
	return n != nil
}

// parseG1 reads a point on the curve, or infinity.
func parseG1(s []string, p *bn254.G1Affine) bool {
	if len(s) != 3 {
		return false
	}
	if s[0] == "0" && s[1] == "1" && s[2] == "0" {
		*p = bn254.G1Affine{}
		return true
	}
	return s[2] == "1" && parseCoordinate(s[0], &p.X) && parseCoordinate(s[1], &p.Y) && p.IsOnCurve() && !p.IsInfinity()
}

// parseG2 reads a pair of coordinates; whether it is a point of the group is for the caller to check.
func parseG2(s [][]string, p *bn254.G2Affine) bool {
	if len(s) != 3 || len(s[0]) != 2 || len(s[1]) != 2 || len(s[2]) != 2 || s[2][0] != "1" || s[2][1] != "0" {
		return false
	}
	return parseCoordinate(s[0][0], &p.X.A0) && parseCoordinate(s[0][1], &p.X.A1) &&
		parseCoordinate(s[1][0], &p.Y.A0) && parseCoordinate(s[1][1], &p.Y.A1)
}
